#ifndef CADRE_TUNE_STOP_CONDITION_HPP
#define CADRE_TUNE_STOP_CONDITION_HPP

#include <cadre/config/config.hpp>
#include <cadre/core/chrono.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// When to stop beside what the scheduler decides: whichever part of `a || b` comes first.
struct stop_condition {
  /// A trial is finished at its first report at or beyond this t.
  std::int64_t iterations = std::numeric_limits<std::int64_t>::max();
  /// After this time since the start of run() no trial begins, and each running one is interrupted at its next report.
  /// A stored study can then be resumed.
  std::chrono::nanoseconds time = std::chrono::nanoseconds::max();

  friend stop_condition operator||(const stop_condition& a, const stop_condition& b) {
    return {std::min(a.iterations, b.iterations), std::min(a.time, b.time)};
  }
};

/// Every trial is finished after n reports (at t >= n, where another time attribute is named).
[[nodiscard]] inline stop_condition max_iterations(std::int64_t n) { return {.iterations = n}; }

/// The tuning ends after this time. What it then has done depends on the machine's speed.
[[nodiscard]] inline stop_condition time_budget(std::chrono::nanoseconds time) { return {.time = time}; }

}  // namespace tune
CADRE_NAMESPACE_END

#endif
