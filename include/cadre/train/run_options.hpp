#ifndef CADRE_TRAIN_RUN_OPTIONS_HPP
#define CADRE_TRAIN_RUN_OPTIONS_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/core/direction.hpp>
#include <cadre/core/function.hpp>
#include <cadre/core/metric_map.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace train {

struct scaling {
  int workers = 1;  ///< threads of trainer::fit(); fit(world) has as many workers as world has ranks
};

/// Which checkpoints stay. The newest always stays, since a failure continues from it; with a score, the num_to_keep
/// best stay besides.
struct checkpoint_options {
  std::size_t num_to_keep = 0;            ///< 0: all
  std::string score = {};                 ///< the metric that ranks them; empty: the newest are the best
  direction order = direction::minimize;  ///< whether a smaller or a larger score is better
};

struct failure_options {
  int max_failures = 0;  ///< failed attempts after which training continues from the newest checkpoint; -1: any number
};

/// What run_options::on_report is called with, on rank 0, after a report was kept.
struct report_event {
  std::uint64_t number;  ///< from 1; a report that is repeated after a failure has the same number again
  int attempt;
  const metric_map& metrics;
  bool checkpoint;  ///< whether it came with one
};

/// Any callable that takes a `const report_event&`; copies share it.
class report_observer {
 public:
  report_observer() = default;
  template <std::invocable<const report_event&> F>
    requires(!std::same_as<std::remove_cvref_t<F>, report_observer>)
  report_observer(F&& f)  // NOLINT(google-explicit-constructor): a lambda is an observer
      : call_(std::make_shared<move_only_function<void(const report_event&)>>(std::forward<F>(f))) {}
  void operator()(const report_event& event) const {
    if (call_) (*call_)(event);
  }

 private:
  std::shared_ptr<move_only_function<void(const report_event&)>> call_;
};

struct run_options {
  std::string name = "run";  ///< the run's folder in `storage`
  std::string storage = {};  ///< where runs lie; empty: nothing is written, checkpoints are kept in memory
  checkpoint_options checkpoint = {};
  failure_options failure = {};
  bool resume = false;                  ///< continue a run that lies in the folder; without one, begin
  bool progress = false;                ///< print a line per report to stderr
  std::chrono::nanoseconds timeout{0};  ///< of each collective of the workers; 0: the communicator's own
  std::stop_token stop = {};            ///< ask for an end: the next report returns false on every rank
  report_observer on_report = {};  ///< called on rank 0 after each report; what it throws is an error of the attempt
};

}  // namespace train
CADRE_NAMESPACE_END

#endif
