#ifndef CADRE_ACTOR_DETAIL_CANCELLED_LETTERS_HPP
#define CADRE_ACTOR_DETAIL_CANCELLED_LETTERS_HPP

#include <cadre/async/detail/barrier.hpp>
#include <cadre/async/detail/brief_lock.hpp>
#include <cadre/async/detail/cancel.hpp>
#include <cadre/async/detail/task.hpp>
#include <cadre/os/detail/relax.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Which of the calls that came as letters their callers have cancelled. A call is known by its caller's rank and number. Either
/// the one who cancels finds it under way, or it finds itself cancelled when it begins: each first says what it is at, then
/// looks at what the other one has said, in one order. Thread-safety: all functions, from any thread.
class cancelled_letters {
 public:
  /// The call that some letters are at.
  class call_under_way {
   public:
    /// By the thread that is to run it, before and after.
    void begin(int from, std::uint64_t number, task& call) noexcept {
      from_.store(from, std::memory_order_relaxed);
      number_.store(number, std::memory_order_relaxed);
      call_.store(reinterpret_cast<std::uintptr_t>(&call), std::memory_order_release);
      uneven_barrier::frequent();
    }
    void end(task& call) noexcept {
      for (auto mine = reinterpret_cast<std::uintptr_t>(&call);
           !call_.compare_exchange_weak(mine, 0, std::memory_order_acq_rel);
           mine = reinterpret_cast<std::uintptr_t>(&call))
        relax();  // somebody takes a reference
    }

   private:
    friend cancelled_letters;
    static constexpr std::uintptr_t held = 1;  // beside the address, for a few instructions

    [[nodiscard]] task_ref<task> take(int from, std::uint64_t number) noexcept {
      std::uintptr_t at = call_.load();
      if (at == 0 || !call_.compare_exchange_strong(at, at | held)) return {};  // it ends right now
      auto* const t = reinterpret_cast<task*>(at);
      const bool is_it =
          from_.load(std::memory_order_relaxed) == from && number_.load(std::memory_order_relaxed) == number;
      if (is_it) t->retain();
      call_.store(at, std::memory_order_release);
      return task_ref<task>(is_it ? t : nullptr);
    }

    std::atomic<std::uintptr_t> call_{0};
    std::atomic<std::uint64_t> number_{0};
    std::atomic<int> from_{0};
    call_under_way *previous_ = nullptr, *next_ = nullptr;
  };

  /// Whoever runs letters, meanwhile.
  class reader {
   public:
    reader(cancelled_letters& all, call_under_way& now) noexcept : all_(all), now_(now) {
      const std::lock_guard lock(all_.mutex_);
      now_.next_ = all_.first_;
      if (now_.next_ != nullptr) now_.next_->previous_ = &now_;
      all_.first_ = &now_;
    }
    reader(const reader&) = delete;
    reader& operator=(const reader&) = delete;
    ~reader() {
      const std::lock_guard lock(all_.mutex_);
      (now_.previous_ != nullptr ? now_.previous_->next_ : all_.first_) = now_.next_;
      if (now_.next_ != nullptr) now_.next_->previous_ = now_.previous_;
    }

   private:
    cancelled_letters& all_;
    call_under_way& now_;
  };

  /// Letters are there from now on, or no more: without any nobody need be remembered.
  void add_letters() noexcept { alive_.fetch_add(1); }
  void drop_letters() noexcept {
    if (alive_.fetch_sub(1) != 1 || size_.load() == 0) return;
    const std::lock_guard lock(mutex_);
    if (alive_.load() != 0) return;
    all_.clear();
    size_.store(0);
  }

  /// Of one that has come before. True if it may not have begun: then it never will.
  bool cancel(int from, std::uint64_t number) {
    if (alive_.load() == 0) return false;
    task_ref<task> found;
    {
      const std::lock_guard lock(mutex_);
      all_.emplace(from, number);
      size_.store(all_.size());
      uneven_barrier::seldom();
      for (call_under_way* c = first_; c != nullptr && !found; c = c->next_) found = c->take(from, number);
      if (found) all_.erase({from, number});
      size_.store(all_.size());
    }
    if (found) detail::cancel(*found);
    return !found;
  }
  /// Whether one that has just begun has been cancelled before.
  [[nodiscard]] bool forget(int from, std::uint64_t number) noexcept {
    if (size_.load() == 0) [[likely]]
      return false;
    const std::lock_guard lock(mutex_);
    if (all_.erase({from, number}) == 0) return false;
    size_.store(all_.size());
    return true;
  }

 private:
  brief_lock mutex_;
  std::set<std::pair<int, std::uint64_t>> all_;
  std::atomic<std::size_t> size_{0};
  call_under_way* first_ = nullptr;
  std::atomic<std::uint32_t> alive_{0};
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
