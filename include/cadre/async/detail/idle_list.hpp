#ifndef CADRE_ASYNC_DETAIL_IDLE_LIST_HPP
#define CADRE_ASYNC_DETAIL_IDLE_LIST_HPP

#include <cadre/async/detail/barrier.hpp>
#include <cadre/async/detail/nap.hpp>
#include <cadre/async/detail/sleeper.hpp>
#include <cadre/os/detail/move_off.hpp>
#include <cadre/os/futex.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The threads of a pool that have no work: searchers look for some, sleepers sleep. A push wakes a sleeper only if there
/// is one and nobody searches. No wake-up is lost:
///  - a push writes the work, then reads the counts; a thread falling asleep writes the counts, then looks for work once
///    more: one of the two sees the other. Between write and read stands an uneven_barrier, whose price the sleeper pays; a
///    push into a queue that all threads share needs none, as its write is itself a sequentially consistent exchange. Nor does
///    the sleeper if all others are in the counts and no lane flows: who pushes then has to leave them first, after it, or
///    makes a barrier;
///  - a push that is to rely on a searcher makes a barrier of its own and reads the counts again: what it relies on then
///    leaves them after the push. A searcher that leaves with work, as the last one, looks whether more is visible and
///    wakes the next.
/// There is no timed backstop, so a lost wake-up would hang a test instead of costing time in production.
class idle_list {
 public:
  /// Guards the list, and what the scheduler decides with it; taken only on the way to sleep and back.
  [[nodiscard]] std::mutex& mutex() noexcept { return mutex_; }

  [[nodiscard]] std::uint32_t searchers() const noexcept {
    return static_cast<std::uint32_t>(counts_.load(std::memory_order_relaxed));
  }
  [[nodiscard]] std::size_t idle() const noexcept { return sum(counts_.load(std::memory_order_relaxed)); }

  void begin_search() noexcept { counts_.fetch_add(one_searcher, std::memory_order_seq_cst); }
  /// True if the caller has to wake another one should it see more work: it was the last searcher and some sleep.
  [[nodiscard]] bool end_search() noexcept {
    return nobody_searches_but_some_sleep(counts_.fetch_sub(one_searcher, std::memory_order_seq_cst) - one_searcher);
  }

  /// After a push. `goes_on`: the caller, at its work, so that who is woken is not to wait for its processor. `alone`: of a
  /// task that is the only one in the queue of the worker that pushes it.
  void wake_one_if_needed(bool goes_on, bool alone = false) noexcept {
    std::uint64_t counts = counts_.load(std::memory_order_seq_cst);
    if (counts >= one_sleeper) [[unlikely]] {
      if (!nobody_searches_but_some_sleep(counts)) {
        uneven_barrier::full();
        counts = counts_.load(std::memory_order_seq_cst);
      }
      if (nobody_searches_but_some_sleep(counts)) wake_one(goes_on, alone);
    }
    if (alone) return;
    if (goes_on && behind_waker_.load(std::memory_order_relaxed) != 0) [[unlikely]]
      move_off_this_processor(behind_waker_.exchange(0, std::memory_order_relaxed));
    nap_.call();
  }
  [[gnu::noinline]] void wake_one(bool goes_on, bool alone = false) noexcept {
    std::atomic<std::uint32_t>* word = nullptr;
    int thread = 0;
    {
      const std::lock_guard lock(mutex_);
      if (first_ == nullptr || static_cast<std::uint32_t>(counts_.load(std::memory_order_seq_cst)) != 0) return;
      thread = first_->thread;
      // For a task that the caller mostly runs itself it may wait, unless more of them follow.
      if (goes_on && alone) behind_waker_.store(thread, std::memory_order_relaxed);
      word = wake(*first_);
    }
    futex::wake_one(*word);
    if (goes_on && !alone) move_off_this_processor(thread);
  }
  /// A certain one, if it sleeps, in this list or by itself. `where` is guarded by the mutex.
  void wake_at(sleeper* const& where) noexcept {
    nap_.call();
    std::atomic<std::uint32_t>* word = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (where == nullptr) return;
      word = &where->word;
      if (where->linked)
        wake(*where);
      else
        word->fetch_or(sleeper::woken_for_work, std::memory_order_acq_rel);
    }
    futex::wake_one(*word);
  }

  /// By a searcher that others wake in vain: see nap.
  template <class Look>
  void take_naps(Look look) noexcept {
    nap_.take(look);
  }

  /// From searcher to sleeper, with the mutex held; returns idle(). The caller looks for work once more before it sleeps.
  std::size_t fall_asleep(sleeper& s) noexcept {
    link(s);
    return sum(counts_.fetch_add(one_sleeper - one_searcher, std::memory_order_seq_cst));
  }
  /// From sleeper to searcher, whoever ended the sleep, with the mutex held.
  void wake_up(sleeper& s) noexcept {
    if (s.linked) {
      unlink(s);
      counts_.fetch_add(one_searcher - one_sleeper, std::memory_order_seq_cst);
    }
    behind_waker_.store(0, std::memory_order_relaxed);
    s.word.fetch_and(~sleeper::woken_for_work, std::memory_order_acq_rel);
  }

  /// With the mutex held: how many sleep in their main loop.
  [[nodiscard]] std::size_t sleeping_between_tasks() const noexcept { return sleeping_between_tasks_; }
  /// Who naps is to look now.
  void end_nap() noexcept { nap_.call(); }
  /// With the mutex held: satisfies all sleepers.
  void end_all() noexcept {
    while (sleeper* const s = first_) {
      unlink(*s);
      counts_.fetch_add(one_searcher - one_sleeper, std::memory_order_seq_cst);
      s->count_event();
    }
  }

 private:
  static constexpr std::uint64_t one_searcher = 1;
  static constexpr std::uint64_t one_sleeper = std::uint64_t{1} << 32;

  static std::size_t sum(std::uint64_t counts) noexcept { return static_cast<std::uint32_t>(counts) + (counts >> 32); }
  static bool nobody_searches_but_some_sleep(std::uint64_t counts) noexcept {
    return counts >= one_sleeper && static_cast<std::uint32_t>(counts) == 0;
  }

  // With the mutex held. The caller calls futex::wake_one.
  std::atomic<std::uint32_t>* wake(sleeper& s) noexcept {
    unlink(s);
    counts_.fetch_add(one_searcher - one_sleeper, std::memory_order_seq_cst);
    s.word.fetch_or(sleeper::woken_for_work, std::memory_order_acq_rel);
    return &s.word;
  }

  // In front, since the last to fall asleep has the warmest cache; but those who wait inside a task are woken last.
  void link(sleeper& s) noexcept {
    s.previous = s.between_tasks ? nullptr : last_;
    s.next = s.between_tasks ? first_ : nullptr;
    (s.previous ? s.previous->next : first_) = &s;
    (s.next ? s.next->previous : last_) = &s;
    s.linked = true;
    sleeping_between_tasks_ += s.between_tasks;
  }
  void unlink(sleeper& s) noexcept {
    (s.previous ? s.previous->next : first_) = s.next;
    (s.next ? s.next->previous : last_) = s.previous;
    s.linked = false;
    sleeping_between_tasks_ -= s.between_tasks;
  }

  alignas(64) std::atomic<std::uint64_t> counts_{0};
  std::atomic<int> behind_waker_{0};  // a thread that has been woken and has not come yet
  alignas(64) nap nap_;
  alignas(64) std::mutex mutex_;
  sleeper* first_ = nullptr;
  sleeper* last_ = nullptr;
  std::size_t sleeping_between_tasks_ = 0;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
