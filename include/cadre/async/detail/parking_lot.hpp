#ifndef CADRE_ASYNC_DETAIL_PARKING_LOT_HPP
#define CADRE_ASYNC_DETAIL_PARKING_LOT_HPP

#include <cadre/async/detail/worker.hpp>
#include <cadre/os/futex.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// How many workers may take tasks; the others park. A task that blocks in the system allows one more meanwhile, one that
/// holds several processors allows fewer. Those who block or sleep in a task may wait for any other, so that one more than
/// they are drives always. All but is_crowded() with the mutex of the scheduler held.
class parking_lot {
 public:
  explicit parking_lot(std::size_t allowed) noexcept : allowed_(allowed) {}

  /// One relaxed load: whether a worker that has nothing in hand should park().
  [[nodiscard]] bool is_crowded() const noexcept { return crowded_.load(std::memory_order_relaxed); }

  /// Those that are not parked.
  [[nodiscard]] std::size_t driving() const noexcept { return driving_; }
  [[nodiscard]] bool has_too_few() const noexcept { return driving_ < wanted(); }
  /// Whether one that is at work is left if one more sleeps.
  [[nodiscard]] bool can_spare_one() const noexcept { return driving_ > absent_ + 1; }
  /// So many more may take tasks, and so many more block or sleep in one; or fewer.
  void change(std::ptrdiff_t allowed, std::ptrdiff_t absent) noexcept {
    allowed_ += static_cast<std::size_t>(allowed);
    absent_ += static_cast<std::size_t>(absent);
    update();
  }
  /// A worker has been started.
  void enter() noexcept { ++driving_; }

  /// Sleeps until unparked, if there are too many. `lock` is held before, and afterwards; `leave()` is called when it has
  /// been let go, and before the sleep.
  template <class Leave>
  void park(worker& w, std::unique_lock<std::mutex>& lock, Leave&& leave) noexcept {
    if (!is_crowded() || !w.pinned.empty()) return;
    place here{&w};
    --driving_;
    here.next = std::exchange(first_, &here);
    update();
    lock.unlock();
    leave();
    while (here.free.load(std::memory_order_acquire) == 0) futex::wait(here.free, 0);
    lock.lock();  // the one who unparked it is done with `here`
  }

  /// False if none is parked.
  bool unpark_one() noexcept { return unpark(first_); }
  void unpark_one(const worker& w) noexcept {
    place** at = &first_;
    while (*at != nullptr && (*at)->who != &w) at = &(*at)->next;
    unpark(*at);
    update();
  }
  /// From now on nobody parks.
  void close() noexcept {
    closed_ = true;
    while (unpark_one()) {}
    update();
  }

 private:
  struct place {
    const worker* who;
    std::atomic<std::uint32_t> free{0};
    place* next = nullptr;
  };

  bool unpark(place*& at) noexcept {
    place* const p = at;
    if (p == nullptr) return false;
    at = p->next;
    ++driving_;
    p->free.store(1, std::memory_order_release);
    futex::wake_one(p->free);
    return true;
  }
  [[nodiscard]] std::size_t wanted() const noexcept { return allowed_ > absent_ ? allowed_ : absent_ + 1; }
  void update() noexcept { crowded_.store(driving_ > wanted() && !closed_, std::memory_order_relaxed); }

  std::atomic<bool> crowded_{false};
  place* first_ = nullptr;
  std::size_t driving_ = 0;
  std::size_t allowed_;
  std::size_t absent_ = 0;  // of those that drive: they block, or sleep in tasks
  bool closed_ = false;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
