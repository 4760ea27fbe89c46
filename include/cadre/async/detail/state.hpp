#ifndef CADRE_ASYNC_DETAIL_STATE_HPP
#define CADRE_ASYNC_DETAIL_STATE_HPP

#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/error.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A value that is kept outside of the node because it is too large for one.
template <class T>
class boxed {
 public:
  template <class... Args>
    requires std::is_constructible_v<T, Args...>
  explicit boxed(Args&&... args) : value_(new T(std::forward<Args>(args)...)) {}
  T& get() noexcept { return *value_; }

 private:
  std::unique_ptr<T> value_;
};
template <class T>
class unboxed {
 public:
  template <class... Args>
    requires std::is_constructible_v<T, Args...>
  explicit unboxed(Args&&... args) : value_(std::forward<Args>(args)...) {}
  T& get() noexcept { return value_; }

 private:
  T value_;
};
template <class T>
using room_for = std::conditional_t<(sizeof(T) > 192 || alignof(T) > alignof(std::max_align_t)), boxed<T>, unboxed<T>>;

/// A task with room for its result, or its error.
template <class T>
class state : public task {
 public:
  state(pool_id home, std::uint8_t flags, std::source_location at) noexcept : task(home, flags, at) {}
  ~state() override { state::drop_result(); }
  void set_error(std::exception_ptr e) noexcept {
    std::construct_at(&error_, std::move(e));
    this->set_failed();
  }
  void drop_result() noexcept override {
    if (std::exchange(has_value_, false))
      value_.~room_for<T>();
    else if (this->failed())
      forget_error();
  }
  /// As if it had not run.
  void forget_error() noexcept {
    error_.~exception_ptr();
    this->set_failed(false);
  }
  template <class... Args>
    requires std::is_constructible_v<T, Args...>
  void set(Args&&... args) {
    std::construct_at(std::addressof(value_), std::forward<Args>(args)...);
    has_value_ = true;
  }
  T& value() noexcept { return value_.get(); }
  T take() { return std::move(value()); }
  [[nodiscard]] std::exception_ptr& error() noexcept override { return error_; }

 private:
  bool has_value_ = false;
  union {
    room_for<T> value_;
    std::exception_ptr error_;
  };
};

/// The error of a task whose result takes no room that it could share.
class state_with_error : public task {
 public:
  using task::task;
  void set_error(std::exception_ptr e) noexcept {
    error_ = std::move(e);
    this->set_failed();
  }
  void drop_result() noexcept override { forget_error(); }
  void forget_error() noexcept {
    error_ = nullptr;
    this->set_failed(false);
  }
  [[nodiscard]] std::exception_ptr& error() noexcept override { return error_; }

 private:
  std::exception_ptr error_;
};

template <class T>
class state<T&> : public state_with_error {
 public:
  using state_with_error::state_with_error;
  void set(T& value) noexcept { value_ = std::addressof(value); }
  T& value() noexcept { return *value_; }
  T& take() noexcept { return *value_; }

 private:
  T* value_ = nullptr;
};

template <>
class state<void> : public state_with_error {
 public:
  using state_with_error::state_with_error;
  void set() noexcept {}
  void value() noexcept {}
  void take() noexcept {}
};

/// What future<T> a call gives: references stay what they are, values lose const.
template <class F, class... Args>
struct task_result {
  using plain = std::invoke_result_t<F, Args...>;
  using type = std::conditional_t<std::is_lvalue_reference_v<plain>, plain, std::remove_cvref_t<plain>>;
};
template <class F, class... Args>
using task_result_t = typename task_result<F, Args...>::type;

/// Keeps what `f()` returns, or throws.
template <class T, class F>
void set_from(state<T>& result, F&& f) noexcept {
  try {
    if constexpr (std::is_void_v<T>) {
      std::forward<F>(f)();
      result.set();
    } else {
      result.set(std::forward<F>(f)());
    }
  } catch (...) {
    result.set_error(std::current_exception());
  }
}

/// The value of a task that is done, or its error thrown. Moved out, so that the exception ends on the thread that caught
/// it: its count is in a library that ThreadSanitizer does not see into.
template <class T>
T take_result(state<T>& done) {
  if (done.failed()) {
    done.set_observed();
    std::rethrow_exception(std::move(done.error()));
  }
  return done.take();
}

/// Ends a task that has not begun. Somebody wanted that, so nobody need hear of it.
template <class T>
void set_cancelled(state<T>& t) noexcept {
  t.set_error(std::make_exception_ptr(task_cancelled(describe(t.name(), t.at()))));
  t.set_observed();
}

/// A task that runs a closure, which is destroyed before anyone is told that the task is done. R is what F returns.
template <class R, class F>
class function_task : public state<R> {
 public:
  template <class G>
  function_task(G&& f, pool_id home, std::uint8_t flags, std::source_location at)
      : state<R>(home, flags, at), f_(std::forward<G>(f)) {}
  ~function_task() override {}

  void run() noexcept override {
    set_from(*this, [this]() -> R { return std::move(f_.get())(); });
    finish(task::completion::of_its_run);
  }
  void run_not() noexcept override {
    set_cancelled(*this);
    finish(task::completion::from_elsewhere);
  }

 protected:
  /// As long as it has neither run nor been cancelled.
  F& function() noexcept { return f_.get(); }
  void finish(task::completion by) noexcept {
    f_.~room_for<F>();
    this->report_if_posted();
    if (!this->has(task::no_future) || this->has_offspring()) this->complete(by);
  }

 private:
  union {
    room_for<F> f_;
  };
};

/// Ready to be pushed: with one reference for the queue and one for the future, if there is to be one.
template <class R, class F>
function_task<R, F>* make_task(F&& f, pool_id home, std::uint8_t flags, std::source_location at) {
  auto* const t = new function_task<R, F>(std::move(f), home, flags, at);
  t->set_parent();
  t->publish(task::queued, (flags & task::no_future) ? 1 : 2);
  return t;
}
}  // namespace detail
CADRE_NAMESPACE_END

#endif
