#ifndef CADRE_ASYNC_INVOKE_HPP
#define CADRE_ASYNC_INVOKE_HPP

#include <cadre/async/detail/fork.hpp>
#include <cadre/async/detail/scheduler.hpp>

#include <exception>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Calls all the functions, in parallel, and returns when all have returned; what they return is dropped. Inside a task of
/// a pool the last one runs here at once, and the others wherever a thread is free: those that none has taken by then run
/// here as well, the last of them first. They are parts of the task that calls this: they see its stop_requested(), and
/// are all run even if it has been cancelled. Elsewhere they run here, one after the other.
///
/// All are called, whatever the others throw; then the error of the first in the order of the arguments is thrown, and the
/// pool's handler of unobserved errors gets the rest (the log, outside of a pool).
///
/// Cost: about ten nanoseconds for each that nobody takes; no allocation. The functions are not moved or copied.
/// Thread-safety: from any thread. This is the tool for divide and conquer:
///
///     cadre::invoke([&] { sort(left); }, [&] { sort(right); });
template <class... F>
  requires(sizeof...(F) > 0 && (std::is_invocable_v<F> && ...))
void invoke(F&&... f) {
  if (detail::worker* const w = detail::this_worker()) return detail::invoke_here(*w, std::forward<F>(f)...);
  std::exception_ptr first_error;
  const auto call = [&](auto&& one) {
    try {
      static_cast<void>(std::forward<decltype(one)>(one)());
    } catch (...) {
      if (first_error)
        detail::report_other(std::current_exception(), detail::no_pool);
      else
        first_error = std::current_exception();
    }
  };
  (call(std::forward<F>(f)), ...);
  if (first_error) std::rethrow_exception(first_error);
}

CADRE_NAMESPACE_END

#endif
