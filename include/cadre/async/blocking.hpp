#ifndef CADRE_ASYNC_BLOCKING_HPP
#define CADRE_ASYNC_BLOCKING_HPP

#include <cadre/async/detail/stand_in.hpp>

#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Returns `f()`, which blocks in the system: reads a socket, waits for a lock of another library. Inside a task one more
/// thread of the pool takes tasks meanwhile, so that the pool neither loses a processor nor hangs when what the task
/// blocks for is to be done by the pool itself. Elsewhere it only calls.
///
/// What `f` throws passes. Cost: under a microsecond, and the start of a thread when more block at once than ever before; up
/// to 256 such threads are kept for the next time. When no further thread can be had, the call is made all the same.
template <class F>
  requires std::is_invocable_v<F>
decltype(auto) blocking(F&& f) {
  const detail::stand_in other;
  return std::forward<F>(f)();
}

CADRE_NAMESPACE_END

#endif
