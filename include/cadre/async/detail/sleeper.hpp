#ifndef CADRE_ASYNC_DETAIL_SLEEPER_HPP
#define CADRE_ASYNC_DETAIL_SLEEPER_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/os/futex.hpp>

#include <atomic>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

using time_point = std::chrono::steady_clock::time_point;
/// time_point::max() never is.
inline bool is_past(time_point deadline) noexcept {
  return deadline != time_point::max() && std::chrono::steady_clock::now() >= deadline;
}

/// One thread's place to sleep. Word: bit 0 says that the scheduler woke it for work, the bits above count the events
/// that it waits for. Whoever counts an event up may find the sleeper gone right after, so nothing else of it is touched.
struct sleeper {
  explicit sleeper(std::uint32_t events) noexcept : needed(events) {}

  static constexpr std::uint32_t woken_for_work = 1;
  static constexpr std::uint32_t event = 2;

  [[nodiscard]] std::uint32_t events() const noexcept { return word.load(std::memory_order_acquire) / event; }
  [[nodiscard]] bool satisfied() const noexcept { return events() >= needed; }

  void count_event() noexcept {
    const std::uint32_t enough = needed;
    if (word.fetch_add(event, std::memory_order_acq_rel) / event + 1 == enough) futex::wake_one(word);
  }

  /// Until satisfied, or woken for work, or the deadline.
  void sleep(time_point deadline) noexcept {
    for (;;) {
      const std::uint32_t now = word.load(std::memory_order_acquire);
      if ((now & woken_for_work) || now / event >= needed) return;
      if (!futex::wait_until(word, now, deadline)) return;
    }
  }

  /// Of one that is in no scheduler's list.
  void wake() noexcept {
    word.fetch_or(woken_for_work, std::memory_order_acq_rel);
    futex::wake_one(word);
  }
  void forget_wake() noexcept { word.fetch_and(~woken_for_work, std::memory_order_acq_rel); }

  std::atomic<std::uint32_t> word{0};
  const std::uint32_t needed;
  // Guarded by the scheduler's mutex.
  sleeper* previous = nullptr;
  sleeper* next = nullptr;
  bool linked = false;
  int thread = 0;              // the system's number of the one that sleeps
  bool between_tasks = false;  // a worker's main loop, as opposed to a wait inside a task
};

/// A sleeper that is to be woken when there is something to do for the task that it waits for: see task::listen().
struct listener {
  sleeper* who = nullptr;
  listener* previous = nullptr;
  listener* next = nullptr;
  bool listed = false;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
