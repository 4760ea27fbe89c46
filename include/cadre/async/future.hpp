#ifndef CADRE_ASYNC_FUTURE_HPP
#define CADRE_ASYNC_FUTURE_HPP

#include <cadre/async/detail/fetch_ahead.hpp>
#include <cadre/async/detail/needed_tasks.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/async/detail/waiting.hpp>
#include <cadre/async/error.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/core/function.hpp>

#include <cstdint>
#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

template <class T>
class future;
template <class T>
class shared_future;
class thread_pool;

namespace detail {

pool_id id_of(const thread_pool& pool) noexcept;

struct future_access {
  template <class T>
  static future<T> make(task_ref<state<T>> s) noexcept {
    return future<T>(std::move(s));
  }
  template <class T>
  static task_ref<state<T>> take(future<T>&& f) noexcept {
    return std::move(f.state_);
  }
  template <class T>
  static state<T>* get(const future<T>& f) noexcept {
    return f.state_.get();
  }
  template <class T>
  static state<T>* get(const shared_future<T>& f) noexcept {
    return f.state_.get();
  }
  /// The task of a future, kept without it.
  template <class Future>
  static task_ref<task> task_of(const Future& f) noexcept {
    task* const t = get(f);
    t->retain();
    return task_ref<task>(t);
  }
};

/// Whether an error only says that somebody wanted the task to end, so that nobody need hear of it.
inline bool says_cancelled(const std::exception_ptr& error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const task_cancelled&) {
    return true;
  } catch (...) {
    return false;
  }
}

template <class F, class T>
struct then_result : task_result<F, T> {};
template <class F>
struct then_result<F, void> : task_result<F> {};

enum class follows : std::uint8_t { value, shared_value, error };

/// What then() and on_error() make: waits in the list of the task before it, then runs as a task of its own.
template <follows What, class T, class R, class F>
class then_task final : public state<R> {
 public:
  template <class G>
  then_task(G&& f, task_ref<state<T>> before, pool_id home, std::source_location at)
      : state<R>(home, 0, at), step_(*this), before_(std::move(before)), f_(std::forward<G>(f)) {}
  ~then_task() override {}

  void run() noexcept override {
    this->waiters().fetch_newest();
    state<T>& before = *before_;
    if constexpr (What != follows::error) {
      if (before.failed()) {
        pass_on(before);
      } else {
        set_from(*this, [&]() -> R {
          if constexpr (std::is_void_v<T>)
            return detail::invoke(std::move(f_.get()));
          else if constexpr (What == follows::shared_value)
            return detail::invoke(std::move(f_.get()), static_cast<const T&>(before.value()));
          else
            return detail::invoke(std::move(f_.get()), before.take());
        });
      }
    } else {
      set_from(*this, [&]() -> R {
        if (!before.failed()) return before.take();
        before.set_observed();
        return detail::invoke(std::move(f_.get()), std::exception_ptr(std::move(before.error())));
      });
    }
    f_.~room_for<F>();
    before_ = {};
    this->complete(task::completion::of_its_run);
  }
  // Keeps before_, which begin() may be about to use: publish() lets others cancel.
  void run_not() noexcept override {
    set_cancelled(*this);
    f_.~room_for<F>();
    this->complete(task::completion::from_elsewhere);
  }

  void add_needed(needed_tasks& all) override {
    task_ref<task> before;
    this->while_pending([&] {
      before_->retain();
      before = task_ref<task>(before_.get());
    });
    all.add(std::move(before));
  }

  /// Once, when all else is set up.
  void begin() noexcept {
    this->set_parent();
    this->publish(task::pending, 2);
    if (before_->add(step_)) return;
    if (task* t = ready(step_, continuation::wish::fire)) schedule(t);
  }

 private:
  struct step : continuation {
    explicit step(then_task& t) noexcept : continuation(&ready), owner(&t) {}
    then_task* owner;
  };
  static task* ready(continuation& c, continuation::wish w) noexcept {
    then_task* const self = static_cast<step&>(c).owner;
    if (w == continuation::wish::name_owner) return self;
    if (self->make_claimable()) return self;
    self->release();  // cancelled
    return nullptr;
  }

  void pass_on(state<T>& before) noexcept {
    if constexpr (What == follows::shared_value)
      this->set_error(before.error());
    else
      this->set_error(std::move(before.error()));
    if (before.set_observed()) this->set_observed();
  }

  step step_;
  task_ref<state<T>> before_;
  union {
    room_for<F> f_;
  };
};

template <follows What, class R, class F, class T>
future<R> make_then(F&& f, task_ref<state<T>> before, pool_id home, std::source_location at) {
  auto* const next = new then_task<What, T, R, std::decay_t<F>>(std::forward<F>(f), std::move(before), home, at);
  task_ref<state<R>> result(next);
  next->begin();
  return future_access::make<R>(std::move(result));
}

}  // namespace detail

/// The result, some day, of a task. T may be an object type, a reference or void. Move-only; dropping it lets the task
/// go on by itself. It may outlive the pool.
///
/// Waiting: a thread that is no pool's only sleeps. Inside a task a wait helps, see docs/async.md: it runs the task waited
/// for if nobody has begun it, so nested waits need no free thread, on a pool of one thread as on any other.
///
/// An error that leaves the task is kept with its type and thrown by get(). If nobody asks for it, the pool's handler of
/// unobserved errors gets it.
///
/// Thread-safety: one thread at a time, but ready() and the waits may run in several at once.
template <class T>
class future {
 public:
  using value_type = T;

  future() noexcept = default;

  /// False for a future that was never set, was moved from, or gave its value away.
  [[nodiscard]] bool valid() const noexcept { return static_cast<bool>(state_); }

  /// True if get() would not wait. Throws empty_future (201).
  [[nodiscard]] bool ready() const { return checked("ready()").done(); }

  /// Throws empty_future (201).
  void wait() const { static_cast<void>(detail::wait_for_task(checked("wait()"))); }

  /// False if the time passed first. Inside a task it finishes what it has begun to help with, and may so end later.
  /// Throws empty_future (201).
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& timeout) const {
    return detail::wait_for_task(checked("wait_for()"), detail::deadline_after(timeout));
  }

  /// As wait_for(); on another clock than steady_clock, the time left is looked at once.
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(const std::chrono::time_point<Clock, Duration>& deadline) const {
    return wait_for(deadline - Clock::now());
  }

  /// Waits, then gives the value away, or throws what the task threw; the future is empty afterwards. Throws
  /// empty_future (201).
  T get() {
    detail::task& t = checked("get()");
    if (t.done())  // of many, the next ones mostly are too: each result lies in the cache of the thread that made it
      detail::fetch_ahead(std::exchange(detail::this_context().got, &t), &t, 2);
    else
      static_cast<void>(detail::wait_for_task(t));
    const detail::task_ref<detail::state<T>> done = std::move(state_);
    return detail::take_result(*done);
  }

  /// A new task `f(value)`, or `f()` after void, that the same pool runs once this one is done: the future of its result.
  /// If this task fails, `f` is not called and its error passes on. A promise without a pool has `f` run by the thread
  /// that keeps it, or by this one if it has been kept; so does a pool that has ended. Throws empty_future (201).
  template <class F>
  auto then(F&& f, std::source_location at = std::source_location::current()) && {
    using result_type = typename detail::then_result<std::decay_t<F>, T>::type;
    const detail::pool_id home = checked("then()").home();
    return detail::make_then<detail::follows::value, result_type>(std::forward<F>(f), std::move(state_), home, at);
  }

  /// The same, run by another pool.
  template <class F>
  auto then(thread_pool& pool, F&& f, std::source_location at = std::source_location::current()) && {
    using result_type = typename detail::then_result<std::decay_t<F>, T>::type;
    static_cast<void>(checked("then()"));
    return detail::make_then<detail::follows::value, result_type>(std::forward<F>(f), std::move(state_),
                                                                  detail::id_of(pool), at);
  }

  /// A future of the same value; if this task fails, of what `f(std::exception_ptr)` makes of its error, or throws.
  /// Throws empty_future (201).
  template <class F>
    requires std::is_invocable_r_v<T, std::decay_t<F>, std::exception_ptr>
  future<T> on_error(F&& f, std::source_location at = std::source_location::current()) && {
    const detail::pool_id home = checked("on_error()").home();
    return detail::make_then<detail::follows::error, T>(std::forward<F>(f), std::move(state_), home, at);
  }

  /// Asks the task, and all tasks that it has submitted, to stop. One that has not begun will not: its future holds
  /// task_cancelled (206) at once. One that runs sees it in this_task::stop_requested(), or the std::stop_token that it takes, and
  /// ends as it likes. False if the task was done. Cost: a few atomic operations for one that has not begun; one that runs
  /// and has submitted others costs a look at every task of the process. Throws empty_future (201).
  bool cancel() const { return detail::cancel(checked("cancel()")); }

  /// The same result for any number of readers; this future is empty afterwards. In <cadre/async/shared_future.hpp>. Throws
  /// empty_future (201).
  [[nodiscard]] shared_future<T> share() &&;

 private:
  friend struct detail::future_access;
  explicit future(detail::task_ref<detail::state<T>> s) noexcept : state_(std::move(s)) {}

  detail::state<T>& checked(const char* call) const {
    if (!state_) [[unlikely]]
      throw empty_future(call);
    return *state_;
  }

  detail::task_ref<detail::state<T>> state_;
};

CADRE_NAMESPACE_END

#endif
