#ifndef CADRE_ACTOR_DETAIL_ERRANDS_HPP
#define CADRE_ACTOR_DETAIL_ERRANDS_HPP

#include <cadre/core/function.hpp>
#include <cadre/os/thread.hpp>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What has to wait for other ranks and must not hold up who asks for it: done one after another, by a thread that is made
/// for the first of them. Thread-safety: all functions, from any thread.
class errands {
 public:
  using errand = move_only_function<void()>;

  errands() = default;
  errands(const errands&) = delete;
  errands& operator=(const errands&) = delete;
  /// When all are done.
  ~errands() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    more_.notify_one();
    thread_.join();
  }

  /// It throws nothing. Throws thread_error (151).
  void add(errand e) {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(begun_, true)) thread_ = native_thread("cadre errands", [this] { run(); });
    waiting_.push_back(std::move(e));
    more_.notify_one();
  }
  [[nodiscard]] bool idle() const noexcept {
    const std::lock_guard lock(mutex_);
    return waiting_.empty();
  }

 private:
  void run() noexcept {
    std::unique_lock lock(mutex_);
    for (;;) {
      more_.wait(lock, [this] { return ends_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      errand& first = waiting_.front();  // it stays where it is when others are added, not so the deque's own pointers
      lock.unlock();
      first();
      lock.lock();
      waiting_.pop_front();
    }
  }

  mutable std::mutex mutex_;
  std::condition_variable more_;
  std::deque<errand> waiting_;  // the first is being done
  bool ends_ = false, begun_ = false;
  native_thread thread_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
