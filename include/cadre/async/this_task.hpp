#ifndef CADRE_ASYNC_THIS_TASK_HPP
#define CADRE_ASYNC_THIS_TASK_HPP

#include <cadre/async/detail/configured_task.hpp>
#include <cadre/async/detail/task.hpp>

#include <string_view>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// What a task can ask about itself. Outside of tasks the answers are those of one without options.
namespace this_task {

/// True if the task, or one that it descends from, has been cancelled: it should end soon. One relaxed load.
[[nodiscard]] inline bool stop_requested() noexcept {
  const detail::task* const t = detail::current_task();
  return t != nullptr && t->stop_requested();
}

/// What it was called; empty if it was not.
[[nodiscard]] inline std::string_view name() noexcept {
  const detail::task* const t = detail::current_task();
  return t != nullptr ? t->name() : std::string_view();
}

/// How many processors it may use: what it asked for, rounded down, and 1 at least.
[[nodiscard]] inline int cpus() noexcept {
  detail::task* const t = detail::current_task();
  const detail::task_extras* const e = t != nullptr ? t->extras() : nullptr;
  return e != nullptr ? e->processors : 1;
}

/// The devices that it holds, or a part of one of, in rising order: 0 <= id < the pool's "gpu", or those of
/// runtime_options::gpus.
[[nodiscard]] inline std::vector<int> gpus() {
  std::vector<int> ids;
  detail::task* const t = detail::current_task();
  if (const detail::task_extras* const e = t != nullptr ? t->extras() : nullptr; e != nullptr && e->share != nullptr)
    for (const auto& d : e->share->devices) ids.push_back(d.id);
  return ids;
}

}  // namespace this_task

CADRE_NAMESPACE_END

#endif
