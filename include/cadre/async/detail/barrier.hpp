#ifndef CADRE_ASYNC_DETAIL_BARRIER_HPP
#define CADRE_ASYNC_DETAIL_BARRIER_HPP

#include <cadre/config/config.hpp>

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A barrier between a store and a later load whose price only one side pays. frequent() stands between store and load
/// of the many, seldom() between those of the few; of two such pairs at least one load then sees the other's store.
/// seldom() has the kernel interrupt every running thread of the process, which makes the hardware's barrier for the many
/// (membarrier(2)); frequent() only keeps the compiler from moving anything. Where the kernel has no such call, and under
/// ThreadSanitizer, which cannot know of it, both are a sequentially consistent exchange.
class uneven_barrier {
 public:
  static void frequent() noexcept {
    if (by_kernel()) [[likely]] {
      asm volatile("" ::: "memory");
    } else {
      exchange();
    }
  }
  static void seldom() noexcept {
    if (by_kernel()) [[likely]]
      ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    else
      exchange();
  }
  /// Of the one thread that calls it: its stores so far come before its loads from now on.
  static void full() noexcept {
    std::atomic<bool> here{false};
    asm volatile("" : : "r"(&here) : "memory");
    here.exchange(true, std::memory_order_seq_cst);
  }
  /// Once, before frequent() and seldom().
  static void prepare() noexcept {
#ifndef CADRE_TSAN
    if (::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0)
      registered().store(true, std::memory_order_relaxed);
#endif
  }

 private:
  static std::atomic<bool>& registered() noexcept {
    static constinit std::atomic<bool> r{false};
    return r;
  }
  static bool by_kernel() noexcept {
#ifdef CADRE_TSAN
    return false;
#else
    return registered().load(std::memory_order_relaxed);
#endif
  }
  static void exchange() noexcept {
    static constinit std::atomic<std::uint32_t> word{0};
    word.fetch_add(1, std::memory_order_seq_cst);
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
