#ifndef CADRE_ASYNC_SHARED_FUTURE_HPP
#define CADRE_ASYNC_SHARED_FUTURE_HPP

#include <cadre/async/detail/state.hpp>
#include <cadre/async/detail/waiting.hpp>
#include <cadre/async/error.hpp>
#include <cadre/async/future.hpp>
#include <cadre/core/chrono.hpp>

#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {

template <class T>
using shared_reference_t = std::conditional_t<std::is_void_v<T>, void, std::add_lvalue_reference_t<const T>>;

template <class F, class T>
struct shared_then_result : task_result<F, const T&> {};
template <class F>
struct shared_then_result<F, void> : task_result<F> {};

}  // namespace detail

/// A result that any number of holders read: a copyable future, made by `std::move(f).share()`. The value lies where the
/// task has put it, is never moved, and lives as long as a shared_future of it.
///
/// An error is thrown to each who calls get(), as the same object, so who catches it by reference must not change it. The
/// handler of unobserved errors gets it only if nobody asked.
///
/// Thread-safety: all const members may run in several threads at once, on one object or on copies. What they do with a
/// value that is not const (T is a reference) is theirs to order.
template <class T>
class shared_future {
 public:
  using value_type = T;

  shared_future() noexcept = default;
  /// `f` is empty afterwards.
  shared_future(future<T>&& f) noexcept : state_(detail::future_access::take(std::move(f))) {}
  shared_future(const shared_future& other) noexcept : state_(other.state_.get()) {
    if (state_) state_->retain();
  }
  shared_future(shared_future&&) noexcept = default;
  shared_future& operator=(shared_future other) noexcept {
    state_ = std::move(other.state_);
    return *this;
  }
  ~shared_future() = default;

  /// False for one that was never set or was moved from.
  [[nodiscard]] bool valid() const noexcept { return static_cast<bool>(state_); }

  /// True if get() would not wait. Throws empty_future (201).
  [[nodiscard]] bool ready() const { return checked("ready()").done(); }

  /// Throws empty_future (201). This and the waits below: as those of future.
  void wait() const { static_cast<void>(detail::wait_for_task(checked("wait()"))); }

  /// False if the time passed first. Throws empty_future (201).
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& timeout) const {
    return detail::wait_for_task(checked("wait_for()"), detail::deadline_after(timeout));
  }

  /// As wait_for(); on another clock than steady_clock, the time left is looked at once.
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(const std::chrono::time_point<Clock, Duration>& deadline) const {
    return wait_for(deadline - Clock::now());
  }

  /// Waits, then gives `const T&` (T& for a reference, nothing for void), valid as long as a shared_future of this result
  /// lives; or throws what the task threw. As often as one likes. Throws empty_future (201).
  detail::shared_reference_t<T> get() const& {
    detail::state<T>& s = checked("get()");
    static_cast<void>(detail::wait_for_task(s));
    if (s.failed()) {
      s.set_observed();
      std::rethrow_exception(s.error());
    }
    return s.value();
  }
  /// Of a temporary, which may be the last holder: a copy.
  T get() const&& { return get_of_this(); }

  /// A new task `f(const T&)` (`f(T&)`, `f()`) that the same pool runs once this one is done: the future of its result. Any
  /// number of them may follow; each keeps the value alive. If this task fails, `f` is not called and its error passes on.
  /// Without a pool as future::then(). Throws empty_future (201).
  template <class F>
  auto then(F&& f, std::source_location at = std::source_location::current()) const {
    return follow(checked("then()").home(), std::forward<F>(f), at);
  }

  /// The same, run by another pool.
  template <class F>
  auto then(thread_pool& pool, F&& f, std::source_location at = std::source_location::current()) const {
    return follow(detail::id_of(pool), std::forward<F>(f), at);
  }

  /// Asks the task to stop, for all who share it: as future::cancel(). Throws empty_future (201).
  bool cancel() const { return detail::cancel(checked("cancel()")); }

 private:
  friend struct detail::future_access;

  detail::state<T>& checked(const char* call) const {
    if (!state_) [[unlikely]]
      throw empty_future(call);
    return *state_;
  }

  detail::shared_reference_t<T> get_of_this() const { return get(); }

  template <class F>
  auto follow(detail::pool_id home, F&& f, std::source_location at) const {
    using result_type = typename detail::shared_then_result<std::decay_t<F>, T>::type;
    detail::state<T>& s = checked("then()");
    s.retain();
    return detail::make_then<detail::follows::shared_value, result_type>(
        std::forward<F>(f), detail::task_ref<detail::state<T>>(&s), home, at);
  }

  detail::task_ref<detail::state<T>> state_;
};

template <class T>
shared_future<T> future<T>::share() && {
  static_cast<void>(checked("share()"));
  return shared_future<T>(std::move(*this));
}

CADRE_NAMESPACE_END

#endif
