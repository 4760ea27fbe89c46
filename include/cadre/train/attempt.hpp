#ifndef CADRE_TRAIN_ATTEMPT_HPP
#define CADRE_TRAIN_ATTEMPT_HPP

#include <cadre/comm/any_communicator.hpp>
#include <cadre/comm/detail/on_behalf_of.hpp>
#include <cadre/comm/error.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/observe/log.hpp>
#include <cadre/observe/rank.hpp>
#include <cadre/train/context.hpp>
#include <cadre/train/detail/agreement.hpp>
#include <cadre/train/error.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

/// How an attempt ended. Rank and text are the same on every rank; `error` is the original exception on the rank that
/// failed and worker_failed (808) elsewhere; null when all is well.
struct attempt_outcome {
  std::exception_ptr error = nullptr;
  int failed_rank = -1;
  std::string message = {};
  [[nodiscard]] explicit operator bool() const noexcept { return failed_rank < 0; }
};

/// Runs `body(context&)` once on every rank of `world`, on a communicator of its own: what the trainer does per attempt
/// and the tuner per gang. Every rank calls it. A body that throws aborts that communicator, so that its peers'
/// collectives end; then all meet on `world`, which stays usable, and agree on whose error it is: that of the lowest
/// rank that failed by itself. What other ranks threw besides goes to the log.
///
/// `options.handler` and `options.checkpoint` of rank 0 count; the checkpoint's bytes are broadcast, so that no rank
/// needs rank 0's file system. A timeout above 0 holds for the attempt's collectives instead of world's.
template <class Body>
[[nodiscard]] attempt_outcome run_attempt(any_communicator& world, context_options options,
                                          std::chrono::nanoseconds timeout, Body&& body) {
  enum state : std::uint8_t { done, followed, failed };  // followed: ended because of somebody else's failure
  constexpr const char* fit = "trainer::fit";
  any_communicator comm = [&] {
    const cadre::detail::on_behalf_of by(fit);
    return world.split(0, world.rank());
  }();
  if (timeout > std::chrono::nanoseconds::zero()) comm.set_timeout(timeout);
  const rank_scope speaks_for(comm.rank());

  state mine = done;
  std::exception_ptr error;
  const auto fail = [&](state how) {
    mine = how;
    error = std::current_exception();
    comm.abort("rank " + std::to_string(world.rank()) + " failed: " + detail::text_of(error));
  };
  try {
    std::vector<std::byte> bytes;
    if (comm.rank() == 0 && options.checkpoint) {
      const auto whole = options.checkpoint->bytes();
      bytes.assign(whole.begin(), whole.end());
    }
    {
      const cadre::detail::on_behalf_of by(fit);
      detail::broadcast_sized(comm, bytes, 0);
    }
    if (comm.rank() != 0) {
      options.handler = nullptr;
      options.checkpoint = bytes.empty() ? nullptr
                                         : std::make_shared<const checkpoint_reader>(
                                               checkpoint_reader::from_bytes(std::move(bytes), "received from rank 0"));
    }
    context ctx(comm, std::move(options));
    body(ctx);
    ctx.finish();
  } catch (const communicator_aborted&) {
    fail(followed);
  } catch (const report_failed&) {
    fail(followed);
  } catch (...) {
    fail(failed);
  }

  const cadre::detail::on_behalf_of by(fit);
  const auto states = world.all_gather(mine);
  attempt_outcome outcome;
  for (const state worst : {failed, followed})
    for (std::size_t rank = 0; rank < states.size() && outcome.failed_rank < 0; ++rank)
      if (states[rank] == worst) outcome.failed_rank = static_cast<int>(rank);
  if (outcome.failed_rank < 0) return outcome;
  const bool own = outcome.failed_rank == world.rank();
  if (mine == failed && !own)  // one error can be the attempt's: the others are heard of here
    log(log_level::error, "train",
        "rank " + std::to_string(world.rank()) + " failed besides rank " + std::to_string(outcome.failed_rank) + ": " +
            detail::text_of(error));
  outcome.message = detail::broadcast_text(world, own ? detail::text_of(error) : std::string(), outcome.failed_rank);
  outcome.error = own ? error
                      : std::make_exception_ptr(worker_failed("rank " + std::to_string(outcome.failed_rank) +
                                                              " failed: " + outcome.message));
  return outcome;
}

}  // namespace train
CADRE_NAMESPACE_END

#endif
