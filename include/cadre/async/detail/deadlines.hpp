#ifndef CADRE_ASYNC_DETAIL_DEADLINES_HPP
#define CADRE_ASYNC_DETAIL_DEADLINES_HPP

#include <cadre/async/detail/cancel.hpp>
#include <cadre/async/detail/sleeper.hpp>
#include <cadre/async/detail/task.hpp>
#include <cadre/os/futex.hpp>
#include <cadre/os/thread.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A thread that cancels tasks when their time is up. A pool makes one when a first task has a deadline.
class deadlines {
 public:
  /// Throws thread_error (151).
  explicit deadlines(const std::string& pool) : thread_(pool + "/time", [this] { watch(); }) {}
  deadlines(const deadlines&) = delete;
  deadlines& operator=(const deadlines&) = delete;
  ~deadlines() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    ring();
    thread_.join();
    for (const entry& e : entries_) e.which->release();
  }

  /// Keeps a reference to the task until its time, or until it is noticed that it is done.
  void add(time_point when, task& which) {
    bool earliest = false;
    std::vector<task*> done;
    {
      const std::lock_guard lock(mutex_);
      if (entries_.size() >= sweep_at_) done = sweep();
      which.retain();
      entries_.push_back({when, &which});
      std::push_heap(entries_.begin(), entries_.end(), later);
      earliest = entries_.front().which == &which;
    }
    if (earliest) ring();
    for (task* t : done) t->release();
  }

 private:
  struct entry {
    time_point when;
    task* which;
  };
  static bool later(const entry& a, const entry& b) noexcept { return a.when > b.when; }

  void ring() noexcept {
    word_.fetch_add(1, std::memory_order_release);
    futex::wake_one(word_);
  }

  // With the mutex held.
  std::vector<task*> sweep() {
    std::vector<task*> done;
    std::erase_if(entries_, [&](const entry& e) {
      if (!e.which->done()) return false;
      done.push_back(e.which);
      return true;
    });
    std::make_heap(entries_.begin(), entries_.end(), later);
    sweep_at_ = 2 * entries_.size() + 64;
    return done;
  }

  void watch() noexcept {
    for (;;) {
      const std::uint32_t seen = word_.load(std::memory_order_acquire);
      task* due = nullptr;
      time_point next = time_point::max();
      {
        const std::lock_guard lock(mutex_);
        if (ending_) return;
        if (!entries_.empty()) {
          next = entries_.front().when;
          if (next <= std::chrono::steady_clock::now()) {
            due = entries_.front().which;
            std::pop_heap(entries_.begin(), entries_.end(), later);
            entries_.pop_back();
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
  std::vector<entry> entries_;  // a heap, the earliest first
  std::size_t sweep_at_ = 64;
  bool ending_ = false;
  std::atomic<std::uint32_t> word_{0};
  native_thread thread_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
