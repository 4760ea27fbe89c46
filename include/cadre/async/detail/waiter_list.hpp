#ifndef CADRE_ASYNC_DETAIL_WAITER_LIST_HPP
#define CADRE_ASYNC_DETAIL_WAITER_LIST_HPP

#include <cadre/async/detail/fetch_ahead.hpp>
#include <cadre/config/config.hpp>

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

class task;

/// What is to happen when a task completes. Lives with whoever waits: on a waiter's stack or inside a later task.
struct continuation {
  enum class wish : std::uint8_t {
    fire,       // returns a task that is to run on this thread once all others have been told, or null
    name_owner  // does nothing, and returns the task that cannot be done before this has fired, or null
  };
  using action = task* (*)(continuation&, wish) noexcept;
  explicit continuation(action f) noexcept : act(f) {}

  continuation* next = nullptr;
  action act;
};

/// The continuations of a task: a stack by compare-and-swap that completion closes for good. Results are written before
/// the closing exchange (release) and read after a load that sees it (acquire). Only removal, by a wait that timed out, and
/// a look for cycles of waits lock the list for a moment.
class waiter_list {
 public:
  [[nodiscard]] bool is_closed() const noexcept { return head_.load(std::memory_order_acquire) == closed; }
  /// At this moment, and the list is not closed.
  [[nodiscard]] bool has_some() const noexcept {
    return (head_.load(std::memory_order_relaxed) & ~locked & ~closed) != 0;
  }

  /// The task that follows, if there is one: it lies in the cache of the thread that has made it.
  void fetch_newest() const noexcept {
    const std::uintptr_t newest = head_.load(std::memory_order_relaxed) & ~locked & ~closed;
    if (newest == 0) return;
    fetch(reinterpret_cast<const void*>(newest - 64));  // its first line lies before its continuation
    __builtin_prefetch(reinterpret_cast<const void*>(newest + 64), 1);
  }

  /// False if the list is closed.
  [[nodiscard]] bool add(continuation& c) noexcept {
    return replace_head([&c](std::uintptr_t head) {
      c.next = reinterpret_cast<continuation*>(head);
      return reinterpret_cast<std::uintptr_t>(&c);
    });
  }

  /// Takes back one that was added. False if the list has been closed.
  [[nodiscard]] bool remove(continuation& c) noexcept {
    lock list(*this);
    if (!list) return false;
    continuation** at = &list.first();
    while (*at != &c) at = &(*at)->next;
    *at = c.next;
    return true;
  }

  /// Once. All that there are, the first to come first.
  [[nodiscard]] continuation* close() noexcept {
    continuation* newest = nullptr;
    static_cast<void>(replace_head([&newest](std::uintptr_t head) {
      newest = reinterpret_cast<continuation*>(head);
      return closed;
    }));
    continuation* first = nullptr;
    while (newest != nullptr) {
      continuation* const c = std::exchange(newest, newest->next);
      c->next = std::exchange(first, c);
    }
    return first;
  }

  /// While it lives nothing is added, nothing removed, and the list not closed; if it is not closed already.
  class lock {
   public:
    explicit lock(waiter_list& list) noexcept
        : list_(list), held_(list.replace_head([this](std::uintptr_t head) {
            first_ = reinterpret_cast<continuation*>(head);
            return head | locked;
          })) {}
    lock(const lock&) = delete;
    lock& operator=(const lock&) = delete;
    ~lock() {
      if (held_) list_.head_.store(reinterpret_cast<std::uintptr_t>(first_), std::memory_order_release);
    }
    explicit operator bool() const noexcept { return held_; }
    [[nodiscard]] continuation*& first() noexcept { return first_; }

   private:
    continuation* first_ = nullptr;
    waiter_list& list_;
    const bool held_;
  };

 private:
  static constexpr std::uintptr_t closed = 2;
  static constexpr std::uintptr_t locked = 1;

  // False if the list is closed. Waits while it is locked.
  template <class Next>
  [[nodiscard]] bool replace_head(Next next) noexcept {
    std::uintptr_t head = head_.load(std::memory_order_acquire);
    while (head != closed) {
      if (head & locked) {
        ::sched_yield();
        head = head_.load(std::memory_order_acquire);
      } else if (head_.compare_exchange_weak(head, next(head), std::memory_order_acq_rel, std::memory_order_acquire)) {
        return true;
      }
    }
    return false;
  }

  std::atomic<std::uintptr_t> head_{0};
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
