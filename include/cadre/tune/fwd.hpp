#ifndef CADRE_TUNE_FWD_HPP
#define CADRE_TUNE_FWD_HPP

#include <cadre/config/config.hpp>

#include <cstddef>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// Trials are numbered from 0 in the order in which they were first asked for.
using trial_id = std::size_t;

/// A configuration as searchers see it: one number per parameter, in the order of the space. A numeric parameter's own
/// value; the index of the value for choices.
using point = std::vector<double>;

struct domain;
template <class Config>
class space;
template <class Config>
class trial;
template <class Config>
class results;
template <class Config, class Searcher, class Scheduler>
class study;
template <class Config, class Searcher, class Scheduler>
class tuner;

}  // namespace tune
CADRE_NAMESPACE_END

#endif
