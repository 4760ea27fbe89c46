#ifndef CADRE_ASYNC_PROMISE_HPP
#define CADRE_ASYNC_PROMISE_HPP

#include <cadre/async/error.hpp>
#include <cadre/async/future.hpp>
#include <cadre/async/thread_pool.hpp>

#include <concepts>
#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {

template <class T>
class promise_state final : public state<T> {
 public:
  promise_state(pool_id home, std::source_location at) noexcept : state<T>(home, task::no_closure, at) {
    this->publish(task::pending, 1);
  }
  void run() noexcept override {}  // never claimable
  void run_not() noexcept override {}
  void finish() noexcept { this->complete(task::completion::from_elsewhere); }
};

}  // namespace detail

/// The other end of a future that no task stands behind: set it once, from any thread. Destroyed unset, it leaves
/// broken_promise (202) in the future.
///
/// A task that waits for a promise holds a thread of its pool, which meanwhile runs other tasks.
///
/// Thread-safety: one thread at a time.
template <class T>
class promise {
 public:
  explicit promise(std::source_location at = std::source_location::current()) : promise(detail::no_pool, at) {}
  /// Continuations of the future run on `pool`.
  explicit promise(thread_pool& pool, std::source_location at = std::source_location::current())
      : promise(detail::id_of(pool), at) {}

  promise(promise&& other) noexcept = default;
  promise& operator=(promise&& other) noexcept {
    promise old(std::move(*this));
    state_ = std::move(other.state_);
    future_taken_ = other.future_taken_;
    satisfied_ = other.satisfied_;
    return *this;
  }
  ~promise() {
    if (!state_ || satisfied_) return;
    if (future_taken_ && state_->unshared()) return;  // the future is gone
    try {
      throw broken_promise();
    } catch (...) {
      state_->set_error(std::current_exception());
    }
    if (!future_taken_) state_->set_observed();  // then there is nobody to whom anything was promised
    state_->finish();
  }

  /// True if somebody has cancelled the future: nobody wants the value any more.
  [[nodiscard]] bool stop_requested() const noexcept { return state_ && state_->stop_requested(); }

  /// Once. Throws future_already_taken (204).
  [[nodiscard]] future<T> get_future() {
    if (!state_ || future_taken_) throw future_already_taken();
    future_taken_ = true;
    state_->retain();
    return detail::future_access::make<T>(detail::task_ref<detail::state<T>>(state_.get()));
  }

  /// Makes the value of the arguments. Throws promise_already_satisfied (203), or what making the value throws; the promise
  /// is then still open.
  template <class... Args>
    requires requires(detail::state<T>& s, Args&&... args) { s.set(std::forward<Args>(args)...); }
  void set_value(Args&&... args) {
    open().set(std::forward<Args>(args)...);
    close();
  }

  /// Throws promise_already_satisfied (203).
  void set_error(std::exception_ptr error) {
    open().set_error(std::move(error));
    close();
  }
  template <class E>
    requires std::derived_from<std::decay_t<E>, std::exception>
  void set_error(E&& error) {
    set_error(std::make_exception_ptr(std::forward<E>(error)));
  }

 private:
  promise(detail::pool_id home, std::source_location at) : state_(new detail::promise_state<T>(home, at)) {}

  detail::promise_state<T>& open() {
    if (!state_ || satisfied_) throw promise_already_satisfied();
    return *state_;
  }
  void close() noexcept {
    satisfied_ = true;
    // The one who gets the value may destroy this promise while finish() is still telling others.
    state_->retain();
    const detail::task_ref<detail::promise_state<T>> kept(state_.get());
    kept->finish();
  }

  detail::task_ref<detail::promise_state<T>> state_;
  bool future_taken_ = false;
  bool satisfied_ = false;
};

CADRE_NAMESPACE_END

#endif
