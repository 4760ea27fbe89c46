#ifndef CADRE_TUNE_RESULTS_HPP
#define CADRE_TUNE_RESULTS_HPP

#include <cadre/report/record.hpp>
#include <cadre/report/table.hpp>
#include <cadre/tune/error.hpp>
#include <cadre/tune/trial_state.hpp>
#include <cadre/tune/tuner_options.hpp>

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// What became of one trial.
template <class Config>
struct trial_result {
  trial_id id = 0;
  Config config;
  record parameters = {};  ///< names and values, to be shown
  trial_state state = trial_state::running;
  metric_map metrics = {};                                 ///< of the last report
  metric_map best_metrics = {};                            ///< of the report with the best value of the tuned metric
  double last = std::numeric_limits<double>::quiet_NaN();  ///< the tuned metric, last reported
  double best = std::numeric_limits<double>::quiet_NaN();  ///< its best number; NaN if there was none
  double t = 0;                                            ///< how far it came
  std::size_t reports = 0;
  double seconds = 0;                 ///< of running time
  std::string error = {};             ///< why it failed
  std::exception_ptr exception = {};  ///< what it threw; null if that was in a process before this one
};

/// A trial that failed.
struct trial_error {
  trial_id id;
  std::string text;
  std::exception_ptr exception;  ///< null if it was thrown in a process before this one
};

/// The trials of a tuning, by number.
template <class Config>
class results {
 public:
  results(std::vector<trial_result<Config>> trials, std::string metric, direction mode, result_scope scope)
      : trials_(std::move(trials)), metric_(std::move(metric)), mode_(mode), scope_(scope) {
    for (const trial_result<Config>& t : trials_)
      if (t.state == trial_state::failed) errors_.push_back({t.id, t.error, t.exception});
  }

  [[nodiscard]] std::size_t size() const noexcept { return trials_.size(); }
  [[nodiscard]] bool empty() const noexcept { return trials_.empty(); }
  [[nodiscard]] auto begin() const noexcept { return trials_.begin(); }
  [[nodiscard]] auto end() const noexcept { return trials_.end(); }
  [[nodiscard]] const trial_result<Config>& operator[](trial_id id) const noexcept { return trials_[id]; }

  /// The best trial that did not fail, by the scope of the tuner's options; the lowest of equals. Its `metrics` are
  /// those of its last report, its `best_metrics` those of its best. Throws no_best_trial (912).
  [[nodiscard]] const trial_result<Config>& best() const { return best(scope_); }
  [[nodiscard]] const trial_result<Config>& best(result_scope scope) const {
    const trial_result<Config>* found = nullptr;
    for (const trial_result<Config>& t : trials_) {
      const double value = value_of(t, scope);
      if (t.state != trial_state::failed && std::isfinite(value) &&
          (!found || better(mode_, value, value_of(*found, scope))))
        found = &t;
    }
    if (!found)
      throw no_best_trial("none of " + std::to_string(trials_.size()) + " trials has a number for '" + metric_ + "'; " +
                          std::to_string(errors_.size()) + " failed" +
                          (errors_.empty()
                               ? std::string()
                               : ", trial " + std::to_string(errors_.front().id) + " with: " + errors_.front().text));
    return *found;
  }

  /// What failed trials threw, by trial.
  [[nodiscard]] const std::vector<trial_error>& errors() const noexcept { return errors_; }

  /// A row per trial, by number: trial, state, t, reports, seconds, the parameters, the metrics last reported, the best
  /// value, the error. All rows have the same fields, metrics that a trial did not report being NaN.
  [[nodiscard]] std::vector<record> rows() const {
    metric_map names;
    for (const trial_result<Config>& t : trials_)
      for (const metric& m : t.metrics) names.set(m.name, std::numeric_limits<double>::quiet_NaN());
    std::vector<record> result;
    for (const trial_result<Config>& t : trials_) {
      record row{
          {"trial", t.id}, {"state", to_string(t.state)}, {"t", t.t}, {"reports", t.reports}, {"seconds", t.seconds}};
      // A parameter or metric may bear the name of another column.
      const auto add = [&row](const std::string& prefix, const std::string& name, const record_value& value) {
        row.set(row.contains(name) ? prefix + name : name, value);
      };
      for (const auto& field : t.parameters) add("parameter_", field.name, field.value);
      for (const metric& m : names) {
        const double* value = t.metrics.find(m.name);
        add("metric_", m.name, value ? *value : m.value);
      }
      add("tuner_", "best_" + metric_, t.best);
      add("tuner_", "error", t.error);
      result.push_back(std::move(row));
    }
    return result;
  }

  /// The same as text for a person, the best first and the failed last.
  [[nodiscard]] std::string table(table_options options = {}) const {
    std::vector<record> all = rows();
    std::vector<const trial_result<Config>*> order;
    for (const trial_result<Config>& t : trials_) order.push_back(&t);
    const auto rank = [this](const trial_result<Config>& t) {
      const double value = value_of(t, scope_);
      return t.state == trial_state::failed || !std::isfinite(value) ? std::numeric_limits<double>::quiet_NaN() : value;
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](const auto* a, const auto* b) { return better(mode_, rank(*a), rank(*b)); });
    std::vector<record> sorted;
    for (const trial_result<Config>* t : order) sorted.push_back(std::move(all[t->id]));
    return format_table({sorted.data(), sorted.size()}, options);
  }

 private:
  [[nodiscard]] static double value_of(const trial_result<Config>& t, result_scope scope) noexcept {
    return scope == result_scope::best_report ? t.best : t.last;
  }

  std::vector<trial_result<Config>> trials_;
  std::vector<trial_error> errors_;
  std::string metric_;
  direction mode_;
  result_scope scope_;
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
