#ifndef CADRE_ASYNC_DETAIL_STATE_HPP
#define CADRE_ASYNC_DETAIL_STATE_HPP

#include <cadre/async/detail/scheduler.hpp>

#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A task with room for its result.
template <class T>
class state : public task {
 public:
  state(std::uint32_t claim, std::uint32_t references, scheduler* home, bool keep_home) noexcept
      : task(claim, references, home, keep_home) {}
  ~state() override {
    if (has_value_) value_.~T();
  }
  void set_error(std::exception_ptr e) noexcept { error = std::move(e); }
  template <class... Args>
  void set(Args&&... args) {
    std::construct_at(std::addressof(value_), std::forward<Args>(args)...);
    has_value_ = true;
  }
  T take() { return std::move(value_); }

 private:
  union {
    T value_;
  };
  bool has_value_ = false;
};

template <class T>
class state<T&> : public task {
 public:
  using task::task;
  void set_error(std::exception_ptr e) noexcept { error = std::move(e); }
  void set(T& value) noexcept { value_ = std::addressof(value); }
  T& take() noexcept { return *value_; }

 private:
  T* value_ = nullptr;
};

template <>
class state<void> : public task {
 public:
  using task::task;
  void set_error(std::exception_ptr e) noexcept { error = std::move(e); }
  void set() noexcept {}
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

/// The value of a task that is done, or its error thrown. Once.
template <class T>
T take_result(state<T>& done) {
  if (done.error) {
    done.error_observed = true;
    std::rethrow_exception(std::exchange(done.error, nullptr));
  }
  return done.take();
}

/// A task that runs a closure, which is destroyed before anyone is told that the task is done. R is what F returns.
template <class R, class F>
class function_task : public state<R> {
 public:
  template <class G>
  function_task(G&& f, std::uint32_t references, scheduler* home, bool keep_home)
      : state<R>(task::queued, references, home, keep_home), f_(std::forward<G>(f)) {}
  ~function_task() override {}

  void run() noexcept override {
    set_from(*this, [this]() -> R { return std::move(f_)(); });
    f_.~F();
    this->complete();
  }

 private:
  union {
    F f_;
  };
};

template <class Task>
class named final : public Task {
 public:
  template <class... Args>
  explicit named(std::string name, Args&&... args) : Task(std::forward<Args>(args)...), name_(std::move(name)) {}
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }

 private:
  std::string name_;
};

template <class R, class F>
function_task<R, F>* make_task(F&& f, std::uint32_t references, scheduler* home, bool keep_home) {
  return new function_task<R, F>(std::move(f), references, home, keep_home);
}
template <class R, class F>
function_task<R, F>* make_task(std::string name, F&& f, std::uint32_t references, scheduler* home, bool keep_home) {
  if (name.empty()) return make_task<R>(std::move(f), references, home, keep_home);
  return new named<function_task<R, F>>(std::move(name), std::move(f), references, home, keep_home);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
