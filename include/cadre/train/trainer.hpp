#ifndef CADRE_TRAIN_TRAINER_HPP
#define CADRE_TRAIN_TRAINER_HPP

#include <cadre/comm/any_communicator.hpp>
#include <cadre/comm/local_team.hpp>
#include <cadre/train/attempt.hpp>
#include <cadre/train/context.hpp>
#include <cadre/train/detail/run.hpp>
#include <cadre/train/result.hpp>
#include <cadre/train/run_options.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

/// Trains with several workers, keeps checkpoints and reports, and continues after failures:
///
///     auto result = train::trainer{train_fn, config, train::scaling{.workers = 4},
///                                  train::run_options{.name = "fashion", .storage = "runs",
///                                                     .checkpoint = {.num_to_keep = 3, .score = "val_loss"},
///                                                     .failure = {.max_failures = 3}}}.fit();
///
/// `train_fn(train::context&, const Config&)` runs once per worker. When it throws on one, the others' collectives end,
/// and all begin again at the newest readable checkpoint, up to max_failures times; then the result holds the error.
/// Errors of the options or the run's folder are thrown, on every rank: 807, 811, 812, 521-526, 155-158.
///
/// A worker that neither returns nor takes part in a collective cannot be stopped from outside: the others give up
/// after the timeout, but fit() with threads waits for it.
template <class Function, class Config>
class trainer {
  static_assert(std::invocable<Function&, context&, const Config&>,
                "a train function is called as f(cadre::train::context&, const Config&)");

 public:
  trainer(Function train_function, Config config, scaling workers = {}, run_options options = {})
      : function_(std::move(train_function)),
        config_(std::move(config)),
        scaling_(workers),
        options_(std::move(options)) {}

  /// Workers are threads of this process, rank 0 the calling one. The function object and the configuration are shared
  /// by them. Throws option_invalid (807) unless there is at least one worker.
  [[nodiscard]] result fit() {
    if (scaling_.workers < 1)
      throw option_invalid("scaling::workers is " + std::to_string(scaling_.workers) + "; at least one is needed");
    std::vector<detail::run_outcome> outcomes(static_cast<std::size_t>(scaling_.workers));
    std::vector<std::exception_ptr> thrown(outcomes.size());
    local_team(scaling_.workers).run([&](local_communicator& comm) {
      const auto rank = static_cast<std::size_t>(comm.rank());
      try {
        if (options_.timeout > std::chrono::nanoseconds::zero()) comm.set_timeout(options_.timeout);
        any_communicator world(comm);
        outcomes[rank] = detail::run_training(world, options_, body());
      } catch (...) {
        thrown[rank] = std::current_exception();
        comm.abort("rank " + std::to_string(rank) + " failed: " + detail::text_of(thrown[rank]));
      }
    });
    // What concerns all is thrown by all; rank 0 has it with its own type.
    for (const std::exception_ptr& e : thrown)
      if (e) std::rethrow_exception(e);
    detail::run_outcome& outcome = outcomes[0];
    if (outcome.failed_rank > 0)
      outcome.training.error = outcomes[static_cast<std::size_t>(outcome.failed_rank)].training.error;
    return std::move(outcome.training);
  }

  /// Workers are the ranks of `world`, every one of which calls fit with the same arguments; all get the same result.
  /// Rank 0 alone reads and writes the run's folder.
  [[nodiscard]] result fit(any_communicator world) {
    detail::run_outcome outcome = detail::run_training(world, options_, body());
    detail::share_result(world, outcome.training);
    return std::move(outcome.training);
  }

 private:
  auto body() {
    return [this](context& ctx) { (void)function_(ctx, std::as_const(config_)); };
  }

  Function function_;
  Config config_;
  scaling scaling_;
  run_options options_;
};

}  // namespace train
CADRE_NAMESPACE_END

#endif
