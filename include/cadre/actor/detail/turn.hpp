#ifndef CADRE_ACTOR_DETAIL_TURN_HPP
#define CADRE_ACTOR_DETAIL_TURN_HPP

#include <cadre/actor/detail/call_in_mailbox.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/core/chrono.hpp>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Runs calls of an actor: on a thread of the pool, or on one that waits for a call, which claims it (so not_for_help: the
/// pool's queue is not all that has it).
class turn final : public state_with_error {
 public:
  turn(actor_cell& cell, pool_id home) noexcept
      : state_with_error(home, task::no_future | task::beyond_cancel | task::not_for_help, {}), cell_(cell) {
    this->publish(task::queued, 1);  // a child of nobody: whoever makes the call may be cancelled, the actor goes on
  }
  void run() noexcept override { run_calls(); }
  // The calls have been cancelled one by one.
  void run_not() noexcept override { run(); }

 private:
  friend actor_cell;
  void run_calls() noexcept;
  actor_cell& cell_;
  const call_in_mailbox* last_ =
      nullptr;  // of whoever waits for that: it is to end when that has begun, or the time is over
  time_point deadline_ = time_point::max();
  turn* next_ = nullptr;  // of those that wait for a thread
  bool waits_ = false;    // is one of those
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
