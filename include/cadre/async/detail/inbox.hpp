#ifndef CADRE_ASYNC_DETAIL_INBOX_HPP
#define CADRE_ASYNC_DETAIL_INBOX_HPP

#include <cadre/async/detail/fetch_ahead.hpp>
#include <cadre/async/detail/task.hpp>

#include <atomic>
#include <cstddef>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A queue of tasks that come from any thread, first in, first out, linked through the tasks. A push is one exchange
/// (D. Vyukov's queue of many producers, with the address of the last link in the place of a last node, so that it needs no
/// dummy). Those who take do so one at a time; one who finds another at it goes on without.
class inbox {
 public:
  /// Sequentially consistent, as the scheduler's way to sleep needs it.
  void push(task* t) noexcept {
    t->link.store(nullptr, std::memory_order_relaxed);
    tail_.exchange(&t->link, std::memory_order_seq_cst)->store(t, std::memory_order_release);
  }

  /// False as soon as a push has begun. Also after a take() found nothing, if that push is not over yet.
  [[nodiscard]] bool empty() const noexcept { return tail_.load(std::memory_order_seq_cst) == &first_; }

  /// Takes up to `most` of the oldest; returns how many. 0 also if another thread is taking.
  std::size_t take(task** out, std::size_t most) noexcept {
    if (empty() || taking_.load(std::memory_order_relaxed) || taking_.exchange(true, std::memory_order_acquire))
      return 0;
    std::size_t n = 0;
    task* t = first_.load(std::memory_order_acquire);
    while (n < most && t != nullptr) {
      if (n != 0) fetch_ahead(out[n - 1], t, 2);
      task* next = t->link.load(std::memory_order_acquire);
      if (next == nullptr) {
        // The last: a push that finds it so writes to first_, else to the link of `t`.
        first_.store(nullptr, std::memory_order_relaxed);
        std::atomic<task*>* expected = &t->link;
        if (tail_.compare_exchange_strong(expected, &first_, std::memory_order_seq_cst)) {
          out[n++] = t;
          t = nullptr;
          taking_.store(false, std::memory_order_release);
          return n;
        }
        next = t->link.load(std::memory_order_acquire);
        if (next == nullptr) break;  // the push is not over; the next take() will see
      }
      out[n++] = t;
      t = next;
    }
    if (t != nullptr) first_.store(t, std::memory_order_relaxed);
    taking_.store(false, std::memory_order_release);
    return n;
  }

 private:
  alignas(64) std::atomic<std::atomic<task*>*> tail_{&first_};
  alignas(64) std::atomic<task*> first_{nullptr};
  std::atomic<bool> taking_{false};
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
