#ifndef CADRE_TUNE_DETAIL_STUDY_CORE_HPP
#define CADRE_TUNE_DETAIL_STUDY_CORE_HPP

#include <cadre/core/function.hpp>
#include <cadre/tune/detail/space_core.hpp>
#include <cadre/tune/detail/study_log.hpp>
#include <cadre/tune/scheduler.hpp>
#include <cadre/tune/study_options.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// Searcher and scheduler behind virtual functions, so that a study is compiled once for all of them.
class any_searcher {
 public:
  virtual ~any_searcher() = default;
  virtual std::optional<point> suggest(trial_id id) = 0;
  virtual void tried(trial_id id, const point& where) = 0;
};

template <searcher_state S>
class searcher_model final : public any_searcher {
 public:
  explicit searcher_model(S state) : state_(std::move(state)) {}
  std::optional<point> suggest(trial_id id) override { return state_.suggest(id); }
  void tried([[maybe_unused]] trial_id id, [[maybe_unused]] const point& where) override {
    if constexpr (requires { state_.tried(id, where); }) state_.tried(id, where);
  }

 private:
  S state_;
};

class any_scheduler {
 public:
  virtual ~any_scheduler() = default;
  virtual void admit(trial_id id) = 0;
  virtual decision report(trial_id id, double t, double value) = 0;
  virtual std::optional<trial_id> promote() = 0;
  virtual void crashed(trial_id id) = 0;
  [[nodiscard]] virtual double run_until(trial_id id) const = 0;
  [[nodiscard]] virtual double max_t() const = 0;
};

template <scheduler_state S>
class scheduler_model final : public any_scheduler {
 public:
  explicit scheduler_model(S state) : state_(std::move(state)) {}
  void admit(trial_id id) override { state_.admit(id); }
  decision report(trial_id id, double t, double value) override { return state_.report(id, t, value); }
  std::optional<trial_id> promote() override { return state_.promote(); }
  void crashed(trial_id id) override { state_.crashed(id); }
  [[nodiscard]] double run_until(trial_id id) const override { return state_.run_until(id); }
  [[nodiscard]] double max_t() const override { return state_.max_t(); }

 private:
  S state_;
};

/// An assignment without its configuration.
struct next_run {
  trial_id id = 0;
  bool again = false;
  double reached = 0;
  double run_until = 0;
};

/// A study without the struct that it tunes: see tune::study, whose functions these are. A template so that only those
/// who tune pay to compile it.
template <class Options = study_options, class History = trial_history>
class study_core {
 public:
  using report_visitor = move_only_function<void(trial_id, double, const metric_map&)>;

  template <searcher Searcher, scheduler Scheduler>
  study_core(space_core space, Options options, const Searcher& searcher, const Scheduler& scheduler)
      : study_core(std::move(space), std::move(options)) {
    const study_settings given = settings();
    searcher_ = std::make_unique<searcher_model<decltype(searcher.start(given))>>(searcher.start(given));
    scheduler_ = std::make_unique<scheduler_model<decltype(scheduler.start(given))>>(scheduler.start(given));
    set_identity(searcher.describe(), scheduler.describe());
  }

  void try_first(point where) {
    std::string text;
    for (double x : where) text += (text.empty() ? "" : ", ") + number_text(x);
    identify("point_to_evaluate " + std::to_string(first_.size()), std::move(text));
    first_.push_back(std::move(where));
  }

  void identify(std::string name, std::string text) { identity_.emplace_back(std::move(name), std::move(text)); }

  void store_in(const std::string& path, report_visitor on_report) {
    log_path_ = path;
    log_.open(path, [&](std::span<const std::byte> record) { replay(record, on_report); });
    if (log_.empty()) log_.identity(identity_);
    for (trial_id id = 0; id < trials_.size(); ++id)
      if (trials_[id].state == trial_state::running) set_state(id, trial_state::interrupted);
  }
  void sync() { log_.sync(); }

  [[nodiscard]] std::optional<next_run> ask() {
    if (!interrupted_.empty()) return go_on(*interrupted_.begin());
    while (const std::optional<trial_id> id = scheduler_->promote())
      if (trials_[*id].state == trial_state::paused) return go_on(*id);
    if (trials_.size() >= options_.trials) return std::nullopt;
    const trial_id id = trials_.size();
    std::optional<point> where = id < first_.size() ? std::optional(first_[id]) : searcher_->suggest(id);
    if (!where) return std::nullopt;
    log_.start(id, *where);
    start(id, std::move(*where));
    return next_run{id, false, 0, scheduler_->run_until(id)};
  }

  decision report(trial_id id, double t, const metric_map& metrics) {
    check_running(id, "report");
    if (!(t >= 0))
      throw out_of_order("trial " + std::to_string(id) + " reported t = " + detail::number_text(t) +
                         "; it must be 0 or more");
    const decision d = decide(id, t, metrics);
    log_.report(id, t, metrics, d);
    note(id, t, metrics, d);
    return d;
  }

  void end(trial_id id, trial_state state, double seconds, std::string error) {
    check_known(id, "end");
    History& h = trials_[id];
    if (state != trial_state::finished && state != trial_state::failed && state != trial_state::interrupted)
      throw out_of_order("end of trial " + std::to_string(id) + " as " + std::string(to_string(state)) +
                         "; it must be finished, failed or interrupted");
    if (h.state == trial_state::failed)
      throw out_of_order("end of trial " + std::to_string(id) + ", which has failed already");
    if (h.state == trial_state::running && state == trial_state::finished && !h.metric_seen) {
      state = trial_state::failed;
      error = metric_not_reported(missing_metric(id, h.metrics)).what();
    }
    // What a report has decided stands, unless the function threw on its way out.
    if (h.state != trial_state::running && state != trial_state::failed) state = h.state;
    if (state == trial_state::interrupted) {
      set_state(id, state);
    } else {
      log_.end(id, state, seconds, error);
      finish(id, state, std::move(error));
    }
    h.seconds += seconds;
  }

  [[nodiscard]] std::size_t running() const noexcept { return running_; }
  [[nodiscard]] const std::vector<History>& trials() const noexcept { return trials_; }
  [[nodiscard]] const space_core& space() const noexcept { return space_; }

 private:
  study_core(space_core space, Options options) : space_(std::move(space)), options_(check(std::move(options))) {}

  [[nodiscard]] study_settings settings() const {
    return {space_.domains(), space_.names(), options_.mode, options_.seed};
  }

  static Options check(Options options) {
    if (options.metric.empty())
      throw bad_option(".metric is empty; name the metric that trials report and that is tuned");
    if (options.trials == 0) throw bad_option(".trials = 0; say how many trials to run at most");
    if (options.stop.iterations <= 0)
      throw bad_option("max_iterations(" + std::to_string(options.stop.iterations) + "); it must be at least 1");
    return options;
  }

  void set_identity(std::string searcher, std::string scheduler) {
    limit_ = scheduler_->max_t();
    if (options_.stop.iterations != std::numeric_limits<std::int64_t>::max())
      limit_ = std::min(limit_, static_cast<double>(options_.stop.iterations));
    identify("metric", options_.metric);
    identify("mode", options_.mode == minimize ? "minimize" : "maximize");
    identify("seed", std::to_string(options_.seed));
    identify("searcher", std::move(searcher));
    identify("scheduler", std::move(scheduler));
    identify("max_iterations", number_text(limit_));
    for (std::size_t i = 0; i < space_.names().size(); ++i)
      identify("parameter '" + space_.names()[i] + "'", space_.describe(i));
  }

  void check_known(trial_id id, const char* call) const {
    if (id >= trials_.size())
      throw out_of_order(std::string(call) + " of trial " + std::to_string(id) +
                         ", which was never asked for; there are " + std::to_string(trials_.size()));
  }
  void check_running(trial_id id, const char* call) const {
    check_known(id, call);
    if (trials_[id].state != trial_state::running)
      throw out_of_order(std::string(call) + " of trial " + std::to_string(id) + ", which is " +
                         std::string(to_string(trials_[id].state)));
  }

  [[nodiscard]] std::string missing_metric(trial_id id, const metric_map& reported) const {
    std::string message =
        "trial " + std::to_string(id) + " did not report the metric '" + options_.metric + "'; it reported ";
    message += reported.empty() ? "nothing" : "only:";
    for (const metric& m : reported) message += " '" + m.name + "'";
    return message + "; report it, or set .metric to one of those that are reported";
  }

  next_run go_on(trial_id id) {
    log_.resume(id);
    set_state(id, trial_state::running);
    return {id, true, trials_[id].t, scheduler_->run_until(id)};
  }

  void start(trial_id id, point where) {
    searcher_->tried(id, where);
    scheduler_->admit(id);
    trials_.push_back({.where = std::move(where)});
    ++running_;
  }

  decision decide(trial_id id, double t, const metric_map& metrics) {
    const History& h = trials_[id];
    const double* value = metrics.find(options_.metric);
    if (!value && t < limit_) return decision::go_on;
    if (!value && !h.metric_seen) throw metric_not_reported(missing_metric(id, metrics));
    const decision d = scheduler_->report(id, t, value ? *value : h.last);
    return t >= limit_ && d != decision::stop ? decision::finish : d;
  }

  void note(trial_id id, double t, const metric_map& metrics, decision d) {
    History& h = trials_[id];
    h.metrics = metrics;
    h.t = t;
    ++h.reports;
    if (const double* value = metrics.find(options_.metric)) {
      h.metric_seen = true;
      h.last = *value;
      if (std::isfinite(*value) && better(options_.mode, *value, h.best)) {
        h.best = *value;
        h.best_metrics = metrics;
      }
    }
    if (d == decision::pause) set_state(id, trial_state::paused);
    if (d == decision::stop) set_state(id, trial_state::stopped);
    if (d == decision::finish) set_state(id, trial_state::finished);
  }

  void finish(trial_id id, trial_state state, std::string error) {
    if (state == trial_state::failed) {
      // One that was told to pause or stop is judged already, and on its way to no other rung.
      if (trials_[id].state == trial_state::running) scheduler_->crashed(id);
      trials_[id].error = std::move(error);
    }
    set_state(id, state);
  }

  void set_state(trial_id id, trial_state state) {
    trial_state& current = trials_[id].state;
    running_ -= current == trial_state::running ? 1u : 0u;
    running_ += state == trial_state::running ? 1u : 0u;
    if (current == trial_state::interrupted) interrupted_.erase(id);
    if (state == trial_state::interrupted) interrupted_.insert(id);
    current = state;
  }

  void replay(std::span<const std::byte> record, report_visitor& on_report) {
    using kind = study_log<>::kind;
    input_archive in(record);
    std::uint8_t what = 0;
    in(what);
    if (kind{what} == kind::identity) {
      study_identity stored;
      in(stored);
      check_identity(stored, identity_, log_path_);
      return;
    }
    std::uint64_t stored_id = 0;
    in(stored_id);
    const auto id = static_cast<trial_id>(stored_id);
    const auto expect = [&](bool fine) {
      if (!fine)
        throw study_unreadable(
            "the study in '" + log_path_ + "' does not fit together at trial " + std::to_string(id) +
            ": it was written by another version of the scheduler; use that version, or another .storage");
    };
    if (kind{what} == kind::start) {
      point where;
      in(where);
      expect(id == trials_.size() && where.size() == space_.domains().size());
      for (std::size_t i = 0; i < where.size(); ++i) expect(space_.domains()[i].contains(where[i]));
      start(id, std::move(where));
      return;
    }
    expect(id < trials_.size());
    if (kind{what} == kind::resume) {
      if (trials_[id].state == trial_state::paused) {
        std::optional<trial_id> promoted;
        while ((promoted = scheduler_->promote()) && trials_[*promoted].state != trial_state::paused) {}
        expect(promoted == id);
      }
      set_state(id, trial_state::running);
    } else if (kind{what} == kind::report) {
      double t = 0;
      std::vector<std::string> names;
      std::vector<double> values;
      std::uint8_t decided = 0;
      in(t, names, values, decided);
      expect(names.size() == values.size() && trials_[id].state == trial_state::running);
      metric_map metrics;
      for (std::size_t i = 0; i < names.size(); ++i) metrics.set(names[i], values[i]);
      expect(decide(id, t, metrics) == decision{decided});
      note(id, t, metrics, decision{decided});
      on_report(id, t, metrics);
    } else {
      expect(kind{what} == kind::end);
      std::uint8_t state = 0;
      double seconds = 0;
      std::string error;
      in(state, seconds, error);
      expect(state <= static_cast<std::uint8_t>(trial_state::failed));
      finish(id, trial_state{state}, std::move(error));
      trials_[id].seconds += seconds;
    }
  }

  space_core space_;
  Options options_;
  std::unique_ptr<any_searcher> searcher_;
  std::unique_ptr<any_scheduler> scheduler_;
  double limit_ = unlimited;
  study_identity identity_;
  std::vector<point> first_;
  std::vector<History> trials_;
  std::set<trial_id> interrupted_;
  std::size_t running_ = 0;
  std::string log_path_;
  study_log<> log_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif
