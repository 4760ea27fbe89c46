#ifndef CADRE_ACTOR_DETAIL_SERVED_HPP
#define CADRE_ACTOR_DETAIL_SERVED_HPP

#include <cadre/async/detail/cancel.hpp>
#include <cadre/async/detail/task.hpp>

#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <utility>

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
    entry& e = all_[place(from, number)];
    e.number = number;
    std::swap(e.which, last);
  }
  /// Null if it is not here.
  [[nodiscard]] task_ref<task> find(int from, std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    const auto at = all_.find(place(from, number));
    if (at == all_.end() || at->second.number != number || !at->second.which) return {};
    at->second.which->retain();
    return task_ref<task>(at->second.which.get());
  }
  /// False if it is not here.
  bool cancel(int from, std::uint64_t number) {
    task_ref<task> found;
    {
      const std::lock_guard lock(mutex_);
      const auto at = all_.find(place(from, number));
      if (at == all_.end() || at->second.number != number) return false;
      found = std::move(at->second.which);
    }
    if (found) detail::cancel(*found);
    return true;
  }

 private:
  struct entry {
    std::uint64_t number = 0;
    task_ref<task> which;
  };
  static std::uint64_t place(int from, std::uint64_t number) noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(from)} << 32 | static_cast<std::uint32_t>(number);
  }

  std::mutex mutex_;
  std::unordered_map<std::uint64_t, entry>
      all_;  // by rank and place: a number that no rank gives costs no more than others
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
