#ifndef CADRE_TUNE_STUDY_HPP
#define CADRE_TUNE_STUDY_HPP

#include <cadre/tune/asha.hpp>
#include <cadre/tune/detail/study_core.hpp>
#include <cadre/tune/random_search.hpp>
#include <cadre/tune/space.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// What to run next.
template <class Config>
struct assignment {
  trial_id id = 0;
  Config config;
  bool again = false;    ///< it ran before: go on from its checkpoint
  double reached = 0;    ///< its t when last reported, 0 for a new one
  double run_until = 0;  ///< the t at which the scheduler will decide
};

/// The decisions of a tuning, without a thread, a clock or a trial in it: who runs the trials asks what to run, reports
/// what comes out, and says when a run has ended. The same calls in the same order give the same answers. One thread at
/// a time. A report costs O(log trials).
///
///     tune::study s{space, {.metric = "loss", .trials = 50}, tune::random_search{}, tune::asha{.max_t = 81}};
///     while (auto next = s.ask()) { ... s.report(next->id, t, {{"loss", x}}) ... s.end(next->id, trial_state::finished); }
///
/// With store_in() each answer is appended to a journal, and a study that opens the same journal is in the same state.
template <class Config, class Searcher = random_search, class Scheduler = fifo>
class study {
 public:
  /// Throws bad_option (905), and what searcher and scheduler find wrong (904, 905).
  study(tune::space<Config> space, study_options options, const Searcher& searcher = {},
        const Scheduler& scheduler = {})
      : core_(space.core(), std::move(options), searcher, scheduler), space_(std::move(space)) {}

  /// The first trials have these configurations, whatever the searcher says. Before the first ask() and store_in().
  /// Throws point_outside_space (903).
  void points_to_evaluate(const std::vector<Config>& configs) {
    for (const Config& config : configs) core_.try_first(space_.encode(config));
  }

  /// Adds a line to what a stored study is compared by.
  void identify(std::string name, std::string text) { core_.identify(std::move(name), std::move(text)); }

  /// Opens or creates the journal, does again what it holds, and appends from then on. Trials that were running are
  /// interrupted, and are the first to be asked for. For a study without a trial. `on_report(id, t, metrics)` sees each
  /// stored report. Throws study_differs (910), study_unreadable (911), and what journal::open throws (521-525, 155-158).
  template <class OnReport>
  void store_in(const std::string& path, OnReport&& on_report) {
    core_.store_in(path, std::forward<OnReport>(on_report));
  }
  void store_in(const std::string& path) {
    core_.store_in(path, [](trial_id, double, const metric_map&) {});
  }
  /// Forces the journal to the disk, against power failures; the death of the process it survives anyway.
  void sync() { core_.sync(); }

  /// What to run next: an interrupted trial, else a promoted one, else a new one. Nothing if there is none now: if
  /// running() is 0 too, the study is done; else ask again after the next end().
  [[nodiscard]] std::optional<assignment<Config>> ask() {
    const std::optional<detail::next_run> next = core_.ask();
    if (!next) return std::nullopt;
    return assignment<Config>{next->id, space_.decode(core_.trials()[next->id].where), next->again, next->reached,
                              next->run_until};
  }

  /// A running trial has reached t with these metrics. A report without the tuned metric is noted and goes on; at the
  /// end of its time the trial is judged by the value it reported last. Throws metric_not_reported (906) if there is
  /// none, out_of_order (907).
  decision report(trial_id id, double t, const metric_map& metrics) { return core_.report(id, t, metrics); }

  /// The run of a trial has ended, `seconds` after it began: `finished` if its function returned, whatever it was told;
  /// `failed` with the error; `interrupted` if it is to go on later. A function that returned while it should go on has
  /// finished, or failed if it never reported the metric. Throws out_of_order (907).
  void end(trial_id id, trial_state state, double seconds = 0, std::string error = {}) {
    core_.end(id, state, seconds, std::move(error));
  }

  /// Trials that were asked for and have neither ended nor been told to pause, stop or finish.
  [[nodiscard]] std::size_t running() const noexcept { return core_.running(); }
  /// All trials begun so far, by number.
  [[nodiscard]] const std::vector<trial_history>& trials() const noexcept { return core_.trials(); }
  [[nodiscard]] const tune::space<Config>& space() const noexcept { return space_; }

  /// For the tuner.
  [[nodiscard]] detail::study_core<>& core() noexcept { return core_; }

 private:
  detail::study_core<> core_;
  tune::space<Config> space_;
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
