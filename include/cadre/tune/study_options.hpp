#ifndef CADRE_TUNE_STUDY_OPTIONS_HPP
#define CADRE_TUNE_STUDY_OPTIONS_HPP

#include <cadre/core/direction.hpp>
#include <cadre/tune/stop_condition.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace tune {

struct study_options {
  std::string metric = {};  ///< the name of what is tuned
  direction mode = minimize;
  std::size_t trials = 0;  ///< how many are started at most; at least 1
  std::uint64_t seed = 0;
  stop_condition stop = {};  ///< its time is for who runs the trials
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
