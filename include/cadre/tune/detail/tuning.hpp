#ifndef CADRE_TUNE_DETAIL_TUNING_HPP
#define CADRE_TUNE_DETAIL_TUNING_HPP

#include <cadre/async/future.hpp>
#include <cadre/async/thread_pool.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/core/function.hpp>
#include <cadre/tune/detail/checkpoint_shelf.hpp>
#include <cadre/tune/detail/study_core.hpp>
#include <cadre/tune/detail/tuning_log.hpp>
#include <cadre/tune/detail/turns.hpp>
#include <cadre/tune/tuner_options.hpp>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// Calls the user's function with a trial of this host and run at a place in the space; on several threads at once.
using trial_function = move_only_function<void(trial_host&, trial_run&, const point&)>;

/// Runs the trials of a study on a pool. The study decides. A template so that only those who tune pay to compile it.
///
/// Without turns each run of a trial is a task of its own; the end of one starts the next, and nothing in the pool
/// waits, so any pool will do. With turns each slot is a task that takes the whole tuning and waits in report().
template <class Options = tuner_options>
class tuning final : public trial_host {
  using clock = std::chrono::steady_clock;

 public:
  tuning(study_core<>& study, thread_pool& pool, trial_function function, tuning_log<>& log, checkpoint_shelf<>& shelf,
         const Options& options)
      : study_(study),
        pool_(pool),
        function_(std::move(function)),
        log_(log),
        shelf_(shelf),
        options_(options),
        slots_(options.max_concurrent == 0 ? pool.size() : options.max_concurrent),
        begin_(clock::now()) {
    if (options.deterministic) {
      if (slots_ > pool.size())
        throw too_few_threads("a deterministic tuning runs " + std::to_string(slots_) +
                              " trials at once (.max_concurrent), each on a thread of its own, and the pool has " +
                              std::to_string(pool.size()) + "; use a larger pool or fewer at once");
      turns_.emplace(slots_);
    } else {
      slots_ = std::min(slots_, std::max<std::size_t>(pool.size(), 1));
    }
  }

  /// Returns when no trial is left to run or the tuning is cut short. Throws what the study or its files threw; never
  /// what a trial threw.
  void run() {
    if (turns_) {
      for (std::size_t slot = 0; slot < slots_; ++slot)
        tasks_.push_back(pool_.submit([this, slot] { take_turns(slot); }));
    } else {
      const std::lock_guard lock(mutex_);
      guarded([this] { start_runs(); });
    }
    for (;;) {
      std::optional<future<void>> next;
      {
        const std::lock_guard lock(mutex_);
        if (tasks_.empty()) break;
        next.emplace(std::move(tasks_.front()));
        tasks_.pop_front();
      }
      std::move(*next).get();
    }
    if (broken_) std::rethrow_exception(broken_);
    study_.sync();
  }

  /// What a failed trial threw, if it was in this process.
  [[nodiscard]] std::exception_ptr thrown(trial_id id) const {
    const auto found = thrown_.find(id);
    return found == thrown_.end() ? nullptr : found->second;
  }

  bool report(trial_run& run, const metric_map& metrics, saver_ref save) override {
    if (run.outcome != trial_outcome::running) return false;
    if (turns_) turns_->wait(run.slot);
    const double t = time_of(run, metrics);
    bool save_now = false;
    {
      const std::lock_guard lock(mutex_);
      run.t += 1;
      live& l = live_.at(run.id);
      guarded([&] {
        if (over()) {
          study_.end(run.id, trial_state::interrupted, l.take_seconds(), {});
          run.outcome = trial_outcome::interrupted;
          save_now = stored();
          return;
        }
        const decision d = study_.report(run.id, t, metrics);
        log_.reported(run.id, metrics);
        run.outcome = outcome_of(d);
        if (d != decision::go_on) study_.end(run.id, trial_state::finished, l.take_seconds(), {});
        save_now = d == decision::pause ||
                   (d == decision::go_on && stored() && clock::now() - l.saved >= options_.checkpoint_period);
        if (save_now) l.saved = clock::now();
      });
      if (broken_) run.outcome = trial_outcome::interrupted;
    }
    if (save_now && save) keep_checkpoint(run, save);
    if (run.outcome != trial_outcome::running) return false;
    if (turns_) turns_->advance(run.slot);
    return true;
  }

 private:
  /// A trial that was handed out: its function waits for a thread, runs, or returns.
  struct live {
    clock::time_point since = clock::now();
    clock::time_point saved = since;
    std::optional<next_run> again = {};  // it was told to pause and is promoted already: runs anew once it has returned
    double take_seconds() {
      const auto now = clock::now();
      return std::chrono::duration<double>(now - std::exchange(since, now)).count();
    }
  };

  /// What the user's function throws is the trial's own; what the shelf throws (its disk is full) ends the tuning, so
  /// that the trial can go on when it is resumed.
  void keep_checkpoint(trial_run& run, const saver_ref& save) {
    checkpoint_writer writer;
    writer(checkpoint_shelf<>::t_name, run.t);
    save(writer);
    try {
      shelf_.save(run.id, writer);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!broken_) broken_ = std::current_exception();
      run.outcome = trial_outcome::interrupted;
    }
  }

  /// How the function of a trial came to an end.
  struct ended_run {
    trial_id id;
    trial_outcome outcome;
    std::exception_ptr thrown;
    std::string error;
  };

  [[nodiscard]] bool stored() const noexcept { return !options_.storage.empty(); }

  [[nodiscard]] bool over() const {
    return broken_ || options_.cancel.stop_requested() ||
           (options_.stop.time != std::chrono::nanoseconds::max() && clock::now() - begin_ >= options_.stop.time);
  }

  /// What the study or a file of it throws ends the tuning; a report's fault is the trial's own.
  template <class Step>
  void guarded(Step step) {
    try {
      step();
    } catch (const metric_not_reported&) {
      throw;
    } catch (...) {
      if (!broken_) broken_ = std::current_exception();
    }
  }

  static trial_outcome outcome_of(decision d) noexcept {
    switch (d) {
      case decision::go_on: return trial_outcome::running;
      case decision::pause: return trial_outcome::paused;
      case decision::stop: return trial_outcome::stopped;
      case decision::finish: break;
    }
    return trial_outcome::finished;
  }

  double time_of(const trial_run& run, const metric_map& metrics) const {
    if (options_.time_attribute.empty()) return run.t + 1;
    if (const double* t = metrics.find(options_.time_attribute)) return *t;
    throw metric_not_reported("trial " + std::to_string(run.id) + " did not report '" + options_.time_attribute +
                              "', which .time_attribute names; every report must have it");
  }

  // ---- Without turns; mutex_ is held ----------------------------------------------------------------------------

  void start_runs() {
    while (busy_ < slots_ && !over()) {
      const std::optional<next_run> next = study_.ask();
      if (!next) return;
      ++busy_;
      if (const auto returning = live_.find(next->id); returning != live_.end())
        returning->second.again = next;
      else
        submit(*next);
    }
  }

  void submit(const next_run& next) {
    live_[next.id] = {};
    tasks_.push_back(pool_.submit([this, next] {
      const ended_run run = call(next, 0);
      // One section: between the end of this run and what follows from it, no other slot may hand out the same trial.
      const std::lock_guard lock(mutex_);
      --busy_;
      const std::optional<next_run> again = live_.at(run.id).again;
      end(run);
      guarded([&] {
        if (again) go_on(*again);
        start_runs();
      });
    }));
  }

  /// What was promoted while it returned: begins, unless it then threw or the tuning is over.
  void go_on(const next_run& again) {
    if (broken_) return;
    if (study_.trials()[again.id].state == trial_state::failed) {
      --busy_;
    } else if (over()) {
      --busy_;
      study_.end(again.id, trial_state::interrupted, 0, {});
    } else {
      submit(again);
    }
  }

  // ---- With turns -----------------------------------------------------------------------------------------------

  void take_turns(std::size_t slot) {
    if (!turns_->begin(options_.thread_timeout)) {
      const std::lock_guard lock(mutex_);
      guarded([&] {
        throw too_few_threads("a deterministic tuning needs " + std::to_string(slots_) +
                              " threads at once, and of the pool's " + std::to_string(pool_.size()) + " only " +
                              std::to_string(turns_->begun()) +
                              " were free within .thread_timeout; other tasks hold the rest");
      });
      return;
    }
    for (;;) {
      turns_->wait(slot);
      std::optional<next_run> next;
      bool done = false;
      {
        const std::lock_guard lock(mutex_);
        guarded([&] {
          if (!over()) next = study_.ask();
          if (next) live_[next->id] = {};
          done = !next && (over() || study_.running() == 0);
        });
        done = done || broken_;
      }
      if (done) break;
      turns_->advance(slot);
      if (!next) continue;
      const ended_run run = call(*next, slot);
      turns_->wait(slot);
      const std::lock_guard lock(mutex_);
      end(run);
    }
    turns_->leave(slot);
  }

  // ---- One run --------------------------------------------------------------------------------------------------

  ended_run call(const next_run& what, std::size_t slot) {
    trial_run run{.id = what.id, .slot = slot};
    std::exception_ptr thrown;
    std::string error;
    point where;  // a copy: the list of trials grows meanwhile
    {
      const std::lock_guard lock(mutex_);
      live_[what.id] = {};
      where = study_.trials()[what.id].where;
    }
    try {
      if (what.again && (run.checkpoint = shelf_.load(what.id)))
        run.checkpoint->read(checkpoint_shelf<>::t_name, run.t);
      function_(*this, run, where);
    } catch (const std::exception& e) {
      thrown = std::current_exception();
      error = e.what();
    } catch (...) {
      thrown = std::current_exception();
      error = "something that is no std::exception";
    }
    return {run.id, run.outcome, thrown, error};
  }

  /// mutex_ is held.
  void end(const ended_run& run) {
    const double seconds = live_.at(run.id).take_seconds();
    live_.erase(run.id);
    guarded([&] {
      if (broken_) return;
      if (run.thrown) {
        study_.end(run.id, trial_state::failed, seconds, run.error);
        thrown_.emplace(run.id, run.thrown);
      } else if (run.outcome == trial_outcome::running) {
        study_.end(run.id, trial_state::finished, seconds, {});
      }
      const trial_state state = study_.trials()[run.id].state;
      if (state == trial_state::finished || state == trial_state::stopped || state == trial_state::failed)
        shelf_.remove(run.id);
      log_.ended(run.id, run.thrown || state == trial_state::failed ? to_string(trial_state::failed)
                         : run.outcome == trial_outcome::running    ? to_string(trial_outcome::finished)
                                                                    : to_string(run.outcome));
    });
  }

  study_core<>& study_;
  thread_pool& pool_;
  trial_function function_;
  tuning_log<>& log_;
  checkpoint_shelf<>& shelf_;
  const Options& options_;
  std::size_t slots_;
  clock::time_point begin_;
  std::optional<turns> turns_;

  std::mutex mutex_;  // of all below, and of the study
  std::deque<future<void>> tasks_;
  std::unordered_map<trial_id, live> live_;
  std::size_t busy_ = 0;  // slots taken, also by trials that run anew once they have returned
  std::exception_ptr broken_;
  std::map<trial_id, std::exception_ptr> thrown_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif
