#ifndef CADRE_OS_DETAIL_MOVE_OFF_HPP
#define CADRE_OS_DETAIL_MOVE_OFF_HPP

#include <cadre/config/config.hpp>

#include <sched.h>
#include <unistd.h>

#include <atomic>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The system's number of the calling thread.
[[nodiscard, gnu::cold]] inline int this_thread_number() noexcept { return ::gettid(); }

/// Has a thread of this process, should it wait for the processor that the caller runs on, wait for another one of those
/// that it may use; 0 is no thread. For who wakes a thread and goes on: a guest kernel takes a processor that sleeps for one
/// that its host has withdrawn, and lets the woken thread wait behind its waker for some milliseconds, beside idle
/// processors. The thread's affinity mask is the same before and after, but as if the program had set it: should the cpuset
/// around the process grow later, this thread stays where it was. Thread-safety: any thread; if two call at once, one does
/// nothing. Cost: about 1 us.
[[gnu::noinline]] inline void move_off_this_processor(int thread) noexcept {
  // Two of them at the same thread could leave it with less than it had.
  static constinit std::atomic<bool> busy{false};
  if (thread == 0 || busy.exchange(true, std::memory_order_acquire)) return;
  constexpr std::size_t sets = 8;  // room for 8,192 processors; with more nothing is done
  cpu_set_t may_use[sets], others[sets];
  const int here = ::sched_getcpu();
  if (here >= 0 && ::sched_getaffinity(thread, sizeof may_use, may_use) == 0) {
    for (std::size_t i = 0; i < sets; ++i) others[i] = may_use[i];
    CPU_CLR_S(static_cast<std::size_t>(here), sizeof others, others);
    if (CPU_COUNT_S(sizeof others, others) != 0 && ::sched_setaffinity(thread, sizeof others, others) == 0)
      ::sched_setaffinity(thread, sizeof may_use, may_use);
  }
  busy.store(false, std::memory_order_release);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
