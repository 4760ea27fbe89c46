#ifndef CADRE_ASYNC_TASK_OPTIONS_HPP
#define CADRE_ASYNC_TASK_OPTIONS_HPP

#include <cadre/async/resources.hpp>
#include <cadre/config/config.hpp>
#include <cadre/core/chrono.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <source_location>
#include <stop_token>
#include <string>

CADRE_NAMESPACE_BEGIN

/// Which of the tasks that wait for a thread goes first. Lower ones are not starved: of the tasks that a thread runs, each
/// 61st at the latest is one that a higher priority, or its own tasks, kept waiting.
enum class priority : std::uint8_t { high, normal, low };

/// Says which errors are worth another try: errors<E...>().
using retry_filter = bool (*)(const std::exception_ptr&);

namespace detail {

template <class... E>
bool is_one_of(const std::exception_ptr& error) {
  bool found = false;
  const auto look = [&]<class One>(const One*) {
    if (found) return;
    try {
      std::rethrow_exception(error);
    } catch (const One&) {
      found = true;
    } catch (...) {}
  };
  (look(static_cast<const E*>(nullptr)), ...);
  return found;
}

}  // namespace detail

/// Those of the types E, and derived ones: `.max_retries = 3, .retry_on = cadre::errors<std::system_error>()`.
template <class... E>
[[nodiscard]] constexpr retry_filter errors() noexcept {
  return &detail::is_one_of<E...>;
}

inline constexpr std::size_t any_worker = std::numeric_limits<std::size_t>::max();

/// How one task is to be run: `pool.submit({.name = "load", .resources = {{"gpu", 0.25}}, .max_retries = 2}, f)`.
struct task_options {
  /// Said where the task's error is reported, and in debug_dump().
  std::string name = {};
  /// What it holds while it runs; without a word one thread of the pool. It begins when they are free: requests that wait are
  /// served in their order, so that large ones do not starve. What a task holds, its children may use while it waits for
  /// them. A task that asks for k > 1 "cpu" keeps k - 1 further threads of the pool from new tasks and runs with Eigen and
  /// OpenMP limited to k threads. A part of a "gpu" lies on one device, and more than one are whole devices:
  /// this_task::gpus() says which.
  resource_set resources = {};
  /// Cancels the task: see future::cancel().
  std::stop_token stop = {};
  /// How often it is tried again after an error. The function and its arguments must be copyable: each try but the last
  /// gets copies.
  int max_retries = 0;
  /// After which errors; null: after all.
  retry_filter retry_on = nullptr;
  enum priority priority = priority::normal;
  /// If it has not begun by then, its future holds deadline_passed (210); if it runs, it is asked to stop.
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  /// The only thread that may run it, 0 <= worker < pool.size().
  std::size_t worker = any_worker;
  /// Where it is submitted; says so by itself.
  std::source_location at = std::source_location::current();
};

CADRE_NAMESPACE_END

#endif
