#ifndef CADRE_ASYNC_COROUTINE_HPP
#define CADRE_ASYNC_COROUTINE_HPP

#include <cadre/async/detail/coroutine.hpp>
#include <cadre/async/future.hpp>
#include <cadre/async/shared_future.hpp>
#include <cadre/async/thread_pool.hpp>

#include <coroutine>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// `co_await cadre::reschedule(pool)` in a coroutine of this library: it goes on as a new entry of that pool's queue, which
/// is its pool from now on. Throws task_cancelled (206) if it has been cancelled.
[[nodiscard]] inline detail::reschedule reschedule(const thread_pool& pool) noexcept { return {detail::id_of(pool)}; }

/// For coroutines of other libraries.
template <class T>
auto operator co_await(future<T>& f) {
  return detail::foreign_await<future<T>&>(f);
}
template <class T>
auto operator co_await(future<T>&& f) {
  return detail::foreign_await<future<T>>(std::move(f));
}
template <class T>
auto operator co_await(const shared_future<T>& f) {
  return detail::foreign_await<const shared_future<T>&>(f);
}
template <class T>
auto operator co_await(const shared_future<T>&& f) {
  return detail::foreign_await<const shared_future<T>>(std::move(f));
}

CADRE_NAMESPACE_END

/// A function that returns cadre::future<T> and uses co_await or co_return is a coroutine, whose future is that of any task:
/// get(), then(), cancel() and the others work on it, an error that leaves it keeps its type.
///
///   cadre::future<double> total(cadre::thread_pool& pool, std::string path) {
///     const std::string text = co_await pool.submit(read, path);     // frees the thread meanwhile
///     co_return sum(co_await pool.submit(parse, text));
///   }
///
/// Where it runs. If one of its parameters is a thread_pool&, it begins as a task of that pool. Else it begins at once, on
/// the thread that calls it, until it has to wait. It goes on on its pool, whatever it waited for: that of the parameter,
/// else of the worker that called it, else of the first future that it has to wait for. If there is none or it has ended,
/// the thread that completes what it waited for goes on with it, as with then(). One that begins in a call of an actor, without
/// such a parameter, goes on in turns of that actor alone, and reschedule() lets other calls of it run first.
///
/// `co_await f`, of a future (a variable or a temporary), is f.get() that frees the thread instead of holding it: the future
/// gives its value away and is empty. `co_await s`, of a shared_future, is s.get(). Throws what they throw.
///
/// Cancelling. cancel() of its future, its parent's or its pool's end ask it and the tasks that it has submitted to stop. One
/// that has not begun never will; in one that waits, or comes to wait, co_await throws task_cancelled (206) at once and every
/// time. A future that it awaited is dropped with the coroutine's variables; its task goes on unless the coroutine itself
/// had submitted it.
///
/// Parameters are kept as they are declared: what a reference refers to must outlive the coroutine, and so must a lambda
/// with captures that is one. Use co_await inside and not get(), which would hold the thread.
///
/// Cost: a node as of a task, and the frame, of which up to 496 bytes come from recycled memory; a co_await that has to wait
/// allocates nothing. Completion goes on through a pool's queue, not by recursion: chains of any length need no stack.
///
/// Coroutines of other libraries may co_await a future too: they go on on the future's pool.
template <class T, class... Parameters>
struct std::coroutine_traits<cadre::future<T>, Parameters...> {
  using promise_type = cadre::detail::coroutine_promise<T>;
};

#endif
