#ifndef CADRE_ASYNC_DETAIL_DEQUE_HPP
#define CADRE_ASYNC_DETAIL_DEQUE_HPP

#include <cadre/config/config.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A growable work-stealing deque of pointers. The owner pushes and pops at the bottom, anyone steals from the top.
/// D. Chase, Y. Lev, "Dynamic circular work-stealing deque", SPAA 2005, with the orders that N. M. Le et al., "Correct
/// and efficient work-stealing for weak memory models", PPoPP 2013, give by fences here carried by sequentially
/// consistent operations, which ThreadSanitizer understands:
///  - pop stores bottom, then loads top; steal loads top, then bottom: in the one order of all of these, either the
///    thief sees the lowered bottom or the owner sees the raised top, and on the last element the exchange on top decides.
///    If the owner sees at once that it is the last, it goes for the exchange like a thief, and lowers nothing.
///  - push's store of bottom publishes the slot. That it comes before the scheduler's look at who sleeps is the scheduler's
///    to see to (scheduler.hpp).
template <class T>
class work_deque {
 public:
  work_deque() : ring_(new ring(6, nullptr)) {}
  work_deque(const work_deque&) = delete;
  work_deque& operator=(const work_deque&) = delete;
  ~work_deque() {
    for (ring* r = ring_.load(std::memory_order_relaxed); r != nullptr;) {
      ring* const smaller = r->smaller;
      delete r;
      r = smaller;
    }
  }

  /// Owner only. False if there is no memory to grow.
  [[nodiscard]] bool push(T* item) noexcept { return push(&item, 1); }

  /// Owner only: all of them or, if there is no memory to grow, none. items[0] will be the first to be popped.
  [[nodiscard]] bool push(T* const* items, std::size_t n) noexcept {
    const std::int64_t b = bottom_.load(std::memory_order_relaxed);
    const auto count = static_cast<std::int64_t>(n);
    ring* r = ring_.load(std::memory_order_relaxed);
    if (b + count - seen_top_ > r->size) {
      seen_top_ = top_.load(std::memory_order_acquire);
      while (b + count - seen_top_ > r->size) {
        r = grow(*r, seen_top_, b);
        if (r == nullptr) return false;
      }
    }
    for (std::int64_t i = 0; i < count; ++i) r->slot(b + i).store(items[count - 1 - i], std::memory_order_relaxed);
    bottom_.store(b + count, std::memory_order_release);
    return true;
  }

  /// Owner only: the newest item, or null.
  [[nodiscard]] T* pop() noexcept {
    const std::int64_t b = bottom_.load(std::memory_order_relaxed) - 1;
    std::int64_t t = top_.load(std::memory_order_relaxed);
    if (t > b) return nullptr;  // top only rises: certainly empty
    ring* const r = ring_.load(std::memory_order_relaxed);
    if (t == b) return take_last(*r, t);
    bottom_.store(b, std::memory_order_seq_cst);
    t = top_.load(std::memory_order_seq_cst);
    if (t < b) return r->slot(b).load(std::memory_order_relaxed);
    T* const item = t == b ? take_last(*r, t) : nullptr;
    bottom_.store(b + 1, std::memory_order_relaxed);
    return item;
  }

  /// Anyone: the oldest item, or null if there is none or another thief was faster.
  [[nodiscard]] T* steal() noexcept {
    std::int64_t t = top_.load(std::memory_order_seq_cst);
    const std::int64_t b = bottom_.load(std::memory_order_seq_cst);
    if (t >= b) return nullptr;
    T* const item = ring_.load(std::memory_order_acquire)->slot(t).load(std::memory_order_relaxed);
    // The slot may have been overwritten since; then top has moved and the exchange fails.
    return top_.compare_exchange_strong(t, t + 1, std::memory_order_seq_cst, std::memory_order_relaxed) ? item
                                                                                                        : nullptr;
  }
  /// Anyone, of a queue whose owner never pops: up to `most` of the oldest; returns how many.
  std::size_t steal(T** out, std::size_t most) noexcept {
    std::int64_t t = top_.load(std::memory_order_seq_cst);
    for (;;) {
      const std::int64_t there = bottom_.load(std::memory_order_seq_cst) - t;
      if (there <= 0) return 0;
      const auto n = static_cast<std::int64_t>(most) < there ? static_cast<std::int64_t>(most) : there;
      ring* const r = ring_.load(std::memory_order_acquire);
      for (std::int64_t i = 0; i < n; ++i) out[i] = r->slot(t + i).load(std::memory_order_relaxed);
      if (top_.compare_exchange_strong(t, t + n, std::memory_order_seq_cst)) return static_cast<std::size_t>(n);
    }
  }
  /// The same if it lies at or above position `from`, of which only the low 32 bits are looked at.
  [[nodiscard]] T* steal(std::int64_t from) noexcept {
    const auto below = static_cast<std::uint32_t>(from) - static_cast<std::uint32_t>(oldest());
    return static_cast<std::int32_t>(below) > 0 ? nullptr : steal();  // top only rises
  }

  [[nodiscard]] bool empty() const noexcept {
    const std::int64_t t = top_.load(std::memory_order_seq_cst);
    return t >= bottom_.load(std::memory_order_seq_cst);
  }

  /// Anyone, who may find it changed right after.
  [[nodiscard]] std::int64_t size() const noexcept {
    const std::int64_t t = top_.load(std::memory_order_relaxed);
    const std::int64_t b = bottom_.load(std::memory_order_relaxed);
    return b > t ? b - t : 0;
  }

  /// Owner only: where the next push will go. Positions only grow, so an item at or above one was pushed after it was read.
  [[nodiscard]] std::int64_t position() const noexcept { return bottom_.load(std::memory_order_relaxed); }
  /// Anyone: the position of the oldest item, or of the next push if there is none.
  [[nodiscard]] std::int64_t oldest() const noexcept { return top_.load(std::memory_order_relaxed); }

 private:
  struct ring {
    ring(int log_size, ring* replaced)
        : size(std::int64_t{1} << log_size),
          log(log_size),
          smaller(replaced),
          slots(new std::atomic<T*>[std::size_t(1) << log_size]) {}
    std::atomic<T*>& slot(std::int64_t i) noexcept { return slots[static_cast<std::size_t>(i & (size - 1))]; }

    std::int64_t size;
    int log;
    ring* smaller;  // kept until the end, for thieves that still read it
    std::unique_ptr<std::atomic<T*>[]> slots;
  };

  // The oldest item, at `t`, by the owner, who may find that a thief was faster.
  T* take_last(ring& r, std::int64_t t) noexcept {
    return top_.compare_exchange_strong(t, t + 1, std::memory_order_seq_cst, std::memory_order_relaxed)
               ? r.slot(t).load(std::memory_order_relaxed)
               : nullptr;
  }

  [[gnu::noinline]] ring* grow(ring& full, std::int64_t t, std::int64_t b) noexcept {
    try {
      auto larger = std::make_unique<ring>(full.log + 1, &full);
      for (std::int64_t i = t; i != b; ++i)
        larger->slot(i).store(full.slot(i).load(std::memory_order_relaxed), std::memory_order_relaxed);
      ring_.store(larger.get(), std::memory_order_release);
      return larger.release();
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }

  alignas(64) std::atomic<std::int64_t> top_{0};
  alignas(64) std::atomic<std::int64_t> bottom_{0};
  std::atomic<ring*> ring_;
  std::int64_t seen_top_ = 0;  // the owner's; the real one is no lower
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
