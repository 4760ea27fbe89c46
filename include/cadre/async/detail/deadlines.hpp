#ifndef CADRE_ASYNC_DETAIL_DEADLINES_HPP
#define CADRE_ASYNC_DETAIL_DEADLINES_HPP

#include <cadre/async/detail/cancel.hpp>
#include <cadre/async/detail/sleeper.hpp>
#include <cadre/async/detail/task.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/os/futex.hpp>
#include <cadre/os/thread.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A thread that cancels tasks when their time is up. A pool makes one when a first task has a deadline. A template so that
/// only those who set deadlines pay to compile it.
template <class Task = task>
class deadlines {
 public:
  /// Throws thread_error (151).
  template <class Pool>
  explicit deadlines(const Pool& pool) : thread_(pool.name() + "/time", [this] { watch(); }) {}
  deadlines(const deadlines&) = delete;
  deadlines& operator=(const deadlines&) = delete;
  ~deadlines() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    ring();
    thread_.join();
    for (const auto& [when, which] : entries_) which->release();
  }

  /// Keeps a reference to the task until its time, or until it is noticed that it is done.
  void add(time_point when, Task& which) {
    bool earliest = false;
    std::vector<Task*> done;
    {
      const std::lock_guard lock(mutex_);
      if (entries_.size() >= sweep_at_) done = sweep();
      which.retain();
      const auto added = entries_.emplace(when, &which);
      earliest = added == entries_.begin();
    }
    if (earliest) ring();
    for (Task* t : done) t->release();
  }

 private:
  void ring() noexcept {
    word_.fetch_add(1, std::memory_order_release);
    futex::wake_one(word_);
  }

  // With the mutex held.
  std::vector<Task*> sweep() {
    std::vector<Task*> done;
    for (auto at = entries_.begin(); at != entries_.end();) {
      if (at->second->done()) {
        done.push_back(at->second);
        at = entries_.erase(at);
      } else {
        ++at;
      }
    }
    sweep_at_ = 2 * entries_.size() + 64;
    return done;
  }

  void watch() noexcept {
    for (;;) {
      const std::uint32_t seen = word_.load(std::memory_order_acquire);
      Task* due = nullptr;
      time_point next = time_point::max();
      {
        const std::lock_guard lock(mutex_);
        if (ending_) return;
        if (!entries_.empty()) {
          next = entries_.begin()->first;
          if (next <= std::chrono::steady_clock::now()) {
            due = entries_.begin()->second;
            entries_.erase(entries_.begin());
          }
        }
      }
      if (due != nullptr) {
        cancel(*due);
        due->release();
      } else {
        futex::wait_until(word_, seen, next);
      }
    }
  }

  std::mutex mutex_;
  std::multimap<time_point, Task*> entries_;
  std::size_t sweep_at_ = 64;
  bool ending_ = false;
  std::atomic<std::uint32_t> word_{0};
  native_thread thread_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
