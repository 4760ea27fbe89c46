#ifndef CADRE_TUNE_TUNER_HPP
#define CADRE_TUNE_TUNER_HPP

#include <cadre/os/detail/temporary_file.hpp>
#include <cadre/os/file_error.hpp>
#include <cadre/tune/detail/tuning.hpp>
#include <cadre/tune/detail/tuning_log.hpp>
#include <cadre/tune/results.hpp>
#include <cadre/tune/study.hpp>

#include <concepts>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// Runs the trials of a study on a thread pool:
///
///     tune::tuner t{space, {.metric = "val_loss", .trials = 50, .seed = 7}, tune::random_search{}, tune::asha{.max_t = 81}};
///     auto results = t.run(pool, [](tune::trial<config>& tr) { ... while (tr.report({{"val_loss", x}})) ... });
///
/// Each run of a trial is a task of the pool; a trial that was paused and is promoted has its function called anew, with
/// a checkpoint. An exception fails its trial and no other. With .storage the study is journalled: a process that died
/// is resumed by the same program with .resume = true.
///
/// A tuner may run any number of times, also at once on several threads if .storage is empty; each run is a study of its
/// own. run() may be called by any thread, inside the pool too.
template <class Config, class Searcher = random_search, class Scheduler = fifo>
class tuner {
 public:
  explicit tuner(tune::space<Config> space, tuner_options options = {}, Searcher searcher = {},
                 Scheduler scheduler = {})
      : space_(std::move(space)),
        options_(std::move(options)),
        searcher_(std::move(searcher)),
        scheduler_(std::move(scheduler)) {}

  /// The first trials have these configurations. Throws point_outside_space (903).
  tuner& points_to_evaluate(std::vector<Config> configs) {
    for (const Config& config : configs) (void)space_.encode(config);
    first_ = std::move(configs);
    return *this;
  }

  /// Returns when every trial has ended, the time is up, or the tuning was cancelled. Throws bad_option (905),
  /// infinite_grid (904), too_few_threads (908), study_exists (909), study_differs (910), study_unreadable (911), and
  /// what journal and files throw (521-526, 155-158); what trials throw is in the results.
  template <class Function>
    requires std::invocable<Function&, trial<Config>&>
  results<Config> run(thread_pool& pool, Function&& function) const {
    return run_trials(pool, [this, &function](detail::trial_host& host, detail::trial_run& run, const point& where) {
      trial<Config> handle(host, run, space_.decode(where));
      function(handle);
    });
  }

  [[nodiscard]] const tuner_options& options() const noexcept { return options_; }

 private:
  results<Config> run_trials(thread_pool& pool, detail::trial_function run_trial) const {
    study<Config, Searcher, Scheduler> s(space_,
                                         {.metric = options_.metric,
                                          .mode = options_.mode,
                                          .trials = options_.trials,
                                          .seed = options_.seed,
                                          .stop = options_.stop},
                                         searcher_, scheduler_);
    s.points_to_evaluate(first_);
    s.identify("time_attribute", options_.time_attribute.empty() ? "number of reports" : options_.time_attribute);
    s.identify("deterministic",
               options_.deterministic
                   ? "with " + std::to_string(options_.max_concurrent == 0 ? pool.size() : options_.max_concurrent) +
                         " at once"
                   : "no");

    detail::tuning_log log(s.core(), options_.storage, options_.progress);
    if (!options_.storage.empty()) open(s.core(), log);
    detail::checkpoint_shelf<> shelf(options_.storage.empty() ? std::string() : options_.storage + "/checkpoints");
    detail::tuning running(s.core(), pool, std::move(run_trial), log, shelf, options_);
    running.run();

    std::vector<trial_result<Config>> trials;
    trials.reserve(s.trials().size());
    for (trial_id id = 0; id < s.trials().size(); ++id) {
      const trial_history& h = s.trials()[id];
      trials.push_back({id, s.space().decode(h.where), s.space().show(h.where), h.state, h.metrics, h.best_metrics,
                        h.last, h.best, h.t, h.reports, h.seconds, h.error, running.thrown(id)});
    }
    results<Config> found(std::move(trials), options_.metric, options_.mode, options_.scope);
    log.end(found.rows());
    return found;
  }

  void open(auto& s, auto& log) const {
    std::error_code failure;
    std::filesystem::create_directories(options_.storage + "/checkpoints", failure);
    if (failure) file_error::raise("make the folder", options_.storage + "/checkpoints", failure.value());
    const std::string path = options_.storage + "/study.journal";
    if (!options_.resume && std::filesystem::exists(path, failure))
      throw study_exists("'" + options_.storage +
                         "' holds a study already; set .resume = true to go on with it, or use another .storage");
    s.store_in(path, [&log](trial_id id, double t, const metric_map& metrics) { log.write(id, t, metrics); });
    cadre::detail::remove_leftovers(options_.storage + "/checkpoints");
    log.begin();
  }

  tune::space<Config> space_;
  tuner_options options_;
  Searcher searcher_;
  Scheduler scheduler_;
  std::vector<Config> first_;
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
