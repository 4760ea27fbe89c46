#ifndef CADRE_TUNE_TUNER_OPTIONS_HPP
#define CADRE_TUNE_TUNER_OPTIONS_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/core/direction.hpp>
#include <cadre/tune/stop_condition.hpp>

#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// By which value of a trial it is ranked in the results.
enum class result_scope : std::uint8_t {
  best_report,  ///< the best that it ever reported
  last_report   ///< the last, NaN and infinities being worst
};

struct tuner_options {
  std::string metric = {};  ///< the name of what is tuned; needed
  direction mode = minimize;
  std::size_t trials = 0;          ///< how many are started at most; at least 1 is needed
  std::size_t max_concurrent = 0;  ///< how many run at once at most; 0: as many as the pool has threads
  std::uint64_t seed = 0;
  std::string storage = {};  ///< a folder for journal, checkpoints, tables; empty: nothing is written
  stop_condition stop = {};
  bool resume = false;    ///< go on with the study in .storage, if there is one
  bool progress = false;  ///< show a line per running trial on stderr
  /// Decisions depend on seed and max_concurrent alone, not on how fast trials are. A report may then wait for other
  /// trials, and the pool must have max_concurrent threads free at once.
  bool deterministic = false;
  std::string time_attribute = {};  ///< the metric that says how far a trial is; empty: the number of its reports
  result_scope scope = result_scope::best_report;
  /// With storage, a trial that goes on saves a checkpoint at most this often; 0s: at every report that has a saver.
  std::chrono::nanoseconds checkpoint_period = std::chrono::seconds(10);
  std::stop_token cancel = {};  ///< when it is requested, trials are interrupted at their next report
  /// How long a deterministic tuning waits for its threads before it throws too_few_threads (908).
  std::chrono::nanoseconds thread_timeout = std::chrono::seconds(30);
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
