#ifndef CADRE_ASYNC_DETAIL_BRIEF_LOCK_HPP
#define CADRE_ASYNC_DETAIL_BRIEF_LOCK_HPP

#include <cadre/os/detail/relax.hpp>

#include <sched.h>

#include <atomic>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// For what is held for a few nanoseconds, by every message: half the price of a mutex.
class brief_lock {
 public:
  void lock() noexcept {
    if (locked_.exchange(true, std::memory_order_acquire)) [[unlikely]]
      wait();
  }
  void unlock() noexcept { locked_.store(false, std::memory_order_release); }

 private:
  [[gnu::noinline]] void wait() noexcept {
    unsigned tries = 0;
    do ++tries % 64 != 0 ? relax() : static_cast<void>(::sched_yield());
    while (locked_.exchange(true, std::memory_order_acquire));
  }

  std::atomic<bool> locked_{false};
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
