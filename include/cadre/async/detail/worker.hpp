#ifndef CADRE_ASYNC_DETAIL_WORKER_HPP
#define CADRE_ASYNC_DETAIL_WORKER_HPP

#include <cadre/async/detail/deque.hpp>
#include <cadre/async/detail/inbox.hpp>
#include <cadre/async/detail/sleeper.hpp>
#include <cadre/async/detail/task.hpp>
#include <cadre/os/thread.hpp>

#include <cstdint>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// One thread of a pool. All but the queues, `asleep` and `thread` is its own.
struct worker {
  worker(scheduler& s, std::uint32_t i) : home(&s), index(i), random(i * 2654435761u + 1) {}

  scheduler* const home;
  const std::uint32_t index;
  std::uint32_t random;             // xorshift state, for the order of victims
  std::uint32_t count = 0;          // tasks since what its own tasks keep waiting was last given a turn
  std::uint64_t overdue_at = 0;     // ticks() from which that has waited too long; 0: nothing waits
  std::uint32_t turns = 0;          // such turns
  std::uint32_t lane = 0;           // from which it took last
  bool lanes_first = false;         // before the queue of those who have none
  std::uint32_t vain = 0;           // wake-ups that brought it nothing, one after the other
  std::uint32_t waits = 0;          // on this stack
  std::int64_t frame = 0;           // queue position when the task on top of the stack began: what is above is its own
  std::int64_t outside = 0;         // queue position below which tasks came from outside
  std::uintptr_t stack_middle = 0;  // see has_deep_stack()
  task* next = nullptr;             // a continuation of the task that has just ended
  sleeper* asleep = nullptr;        // guarded by the mutex of the idle list
  work_deque<task> queue;
  inbox pinned;  // tasks that no other worker may run
  native_thread thread;

  /// Of this thread: whether less than half of its stack is left.
  [[nodiscard]] bool has_deep_stack() const noexcept {
    return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) < stack_middle;
  }
};

/// The worker that this thread is, or null.
inline worker* this_worker() noexcept { return this_context().worker; }

/// Runs a part of a task, which is neither claimed nor counted.
inline void run_bare(worker& w, task& t) noexcept {
  const std::int64_t outer = std::exchange(w.frame, w.queue.position());
  thread_context& context = this_context();
  running_frame frame{t.parent(), context.top, false};  // it is a part of that task
  context.top = &frame;
  t.run();
  context.top = frame.outer;
  w.frame = outer < w.queue.position() ? outer : w.queue.position();
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
