#ifndef CADRE_TUNE_TRIAL_STATE_HPP
#define CADRE_TUNE_TRIAL_STATE_HPP

#include <cadre/core/metric_map.hpp>
#include <cadre/tune/fwd.hpp>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN
namespace tune {

enum class trial_state : std::uint8_t {
  running,
  paused,       ///< at a rung, may be promoted
  interrupted,  ///< cancelled, out of time, or its process died: goes on when the study is resumed
  finished,     ///< its function returned by itself, or max_t or a stop condition was reached
  stopped,      ///< others were better
  failed        ///< its function threw, or never reported the metric
};

[[nodiscard]] constexpr std::string_view to_string(trial_state s) noexcept {
  constexpr std::string_view names[] = {"running", "paused", "interrupted", "finished", "stopped", "failed"};
  return names[static_cast<std::size_t>(s)];
}

/// What a study knows of a trial.
struct trial_history {
  point where = {};
  trial_state state = trial_state::running;
  metric_map metrics = {};                                 ///< of the last report
  metric_map best_metrics = {};                            ///< of the report with the best value of the tuned metric
  double last = std::numeric_limits<double>::quiet_NaN();  ///< the tuned metric when last reported
  double best = std::numeric_limits<double>::quiet_NaN();  ///< its best number; NaN if there was none
  double t = 0;                                            ///< of the last report
  std::size_t reports = 0;
  bool metric_seen = false;
  double seconds = 0;      ///< of running time
  std::string error = {};  ///< why it failed
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
