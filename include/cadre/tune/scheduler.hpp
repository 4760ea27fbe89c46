#ifndef CADRE_TUNE_SCHEDULER_HPP
#define CADRE_TUNE_SCHEDULER_HPP

#include <cadre/tune/searcher.hpp>

#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// What becomes of a trial after a report.
enum class decision : std::uint8_t {
  go_on,  ///< train on
  pause,  ///< save a checkpoint and return; may be promoted later
  stop,   ///< return, for good: others are better
  finish  ///< return: there is nothing more to do
};

[[nodiscard]] constexpr std::string_view to_string(decision d) noexcept {
  constexpr std::string_view names[] = {"go_on", "pause", "stop", "finish"};
  return names[static_cast<std::size_t>(d)];
}

/// Time without an end.
inline constexpr double unlimited = std::numeric_limits<double>::infinity();

/// Decides which trials go on. One thread at a time calls it; the same calls in the same order give the same answers.
///
///     void admit(trial_id id);                                    a new trial; ids come as 0, 1, 2, ...
///     decision report(trial_id id, double t, double value);       a trial has reached t, any value
///     std::optional<trial_id> promote();                          a paused trial to go on with, which then runs again
///     void crashed(trial_id id);                                  a running trial has failed
///     double run_until(trial_id id) const;                        the t at which a decision other than go_on is due
///     double max_t() const;                                       the t beyond which no trial runs
template <class S>
concept scheduler_state = requires(S& s, const S& c, trial_id id, double x) {
  s.admit(id);
  { s.report(id, x, x) } -> std::same_as<decision>;
  { s.promote() } -> std::same_as<std::optional<trial_id>>;
  s.crashed(id);
  { c.run_until(id) } -> std::same_as<double>;
  { c.max_t() } -> std::same_as<double>;
};

/// What a user names: options, from which each study makes a state of its own.
template <class S>
concept scheduler = requires(const S& s, const study_settings& settings) {
  { s.start(settings) } -> scheduler_state;
  { s.describe() } -> std::convertible_to<std::string>;
};

namespace detail {
struct fifo_state {
  void admit(trial_id) {}
  [[nodiscard]] decision report(trial_id, double, double) { return decision::go_on; }
  [[nodiscard]] std::optional<trial_id> promote() { return std::nullopt; }
  void crashed(trial_id) {}
  [[nodiscard]] double run_until(trial_id) const { return unlimited; }
  [[nodiscard]] double max_t() const { return unlimited; }
};
}  // namespace detail

/// Every trial runs until its function returns or a stop condition holds.
struct fifo {
  [[nodiscard]] detail::fifo_state start(const study_settings&) const { return {}; }
  [[nodiscard]] std::string describe() const { return "fifo"; }
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
