#ifndef CADRE_ACTOR_DETAIL_SERVED_HPP
#define CADRE_ACTOR_DETAIL_SERVED_HPP

#include <cadre/async/detail/cancel.hpp>
#include <cadre/async/detail/task.hpp>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The tasks and calls that other ranks have asked this one for, so that they can cancel them. Requests are numbered by
/// places that are used again (see class requests): one is kept here until another comes from its place. Thread-safety: all
/// functions, from any thread.
class served_tasks {
 public:
  void add(int from, std::uint64_t number, task& t) {
    if (number == 0) return;
    t.retain();
    task_ref<task> last(&t);  // ends without the lock
    const std::lock_guard lock(mutex_);
    entry& e = place(from, static_cast<std::uint32_t>(number));
    e.number = number;
    std::swap(e.which, last);
  }
  void cancel(int from, std::uint64_t number) {
    task_ref<task> found;
    {
      const std::lock_guard lock(mutex_);
      entry& e = place(from, static_cast<std::uint32_t>(number));
      if (e.number != number) return;
      found = std::move(e.which);
    }
    if (found) detail::cancel(*found);
  }

 private:
  struct entry {
    std::uint64_t number = 0;
    task_ref<task> which;
  };
  entry& place(int from, std::uint32_t i) {
    const auto rank = static_cast<std::size_t>(from);
    if (rank >= all_.size()) all_.resize(rank + 1);
    if (i >= all_[rank].size()) all_[rank].resize(i + 1);
    return all_[rank][i];
  }

  std::mutex mutex_;
  std::vector<std::vector<entry>> all_;  // by rank and place
};

/// While it lives this thread runs no task, whatever it does run: what is made meanwhile is a child of none.
class outside_of_tasks {
 public:
  outside_of_tasks() noexcept : frame_{nullptr, this_context().top} { this_context().top = &frame_; }
  outside_of_tasks(const outside_of_tasks&) = delete;
  outside_of_tasks& operator=(const outside_of_tasks&) = delete;
  ~outside_of_tasks() { this_context().top = frame_.outer; }

 private:
  running_frame frame_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
