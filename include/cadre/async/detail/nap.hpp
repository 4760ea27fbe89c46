#ifndef CADRE_ASYNC_DETAIL_NAP_HPP
#define CADRE_ASYNC_DETAIL_NAP_HPP

#include <cadre/config/config.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/os/futex.hpp>

#include <atomic>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The short sleeps of one thread of a pool that has been woken again and again for tasks which their own worker ran at
/// once, as in a chain of small tasks: it looks now and then instead. It counts as a searcher, so those pushes wake nobody;
/// who pushes more than that calls it. Nothing depends on the call, which saves the rest of a sleep.
class nap {
 public:
  /// Calls `look()`, which says whether that was enough, before each of some sleeps; not at all if another thread is at it.
  template <class Look>
  void take(Look look) noexcept {
    std::uint32_t expected = nobody;
    if (!word_.compare_exchange_strong(expected, naps, std::memory_order_seq_cst)) return;
    for (int i = 0; i < 8 && !look() && word_.load(std::memory_order_acquire) == naps; ++i)  // some 100 us each
      futex::wait_until(word_, naps, std::chrono::steady_clock::now() + std::chrono::microseconds(50));
    word_.store(nobody, std::memory_order_release);
  }

  /// By others. One load if nobody naps.
  void call() noexcept {
    std::uint32_t expected = naps;
    if (word_.load(std::memory_order_seq_cst) == naps &&
        word_.compare_exchange_strong(expected, called, std::memory_order_acq_rel)) [[unlikely]]
      futex::wake_one(word_);
  }

 private:
  static constexpr std::uint32_t nobody = 0, naps = 1, called = 2;

  std::atomic<std::uint32_t> word_{nobody};
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
