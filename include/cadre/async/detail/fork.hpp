#ifndef CADRE_ASYNC_DETAIL_FORK_HPP
#define CADRE_ASYNC_DETAIL_FORK_HPP

#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/unobserved.hpp>
#include <cadre/async/detail/waiting.hpp>
#include <cadre/core/function.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// One of the functions of an invoke(), on the stack of the task that called it. No reference is counted and nothing is
/// claimed: whoever takes it out of the queue runs it. Only a thief tells that it is done, by closing the list of waiters,
/// after which it touches the fork no more; the caller looks at nothing else.
///
/// A waiter could not know whether a thief that has taken the fork has begun, so it never runs it (not_for_help); but it
/// learns who the thief is, and helps that one.
class fork : public task {
 public:
  explicit fork(pool_id home) noexcept : task(home, bare | not_for_help, {}) {}
  ~fork() override {}

  virtual void call() noexcept = 0;

  void run() noexcept final {
    const thread_context& context = this_context();
    static_cast<void>(try_claim(context.worker->index + 1));
    set_position(context.worker->frame);
    context.top->runs = owner_;  // run_bare() made this frame
    call();
    complete(completion::of_its_run);
  }
  void run_not() noexcept final {}
  [[nodiscard]] std::exception_ptr& error() noexcept final { return error_; }

  /// False if it could not be queued.
  [[nodiscard]] bool begin(worker& w) noexcept {
    publish(queued, 1);
    return w.home->push_part(w, *this);
  }

 protected:
  std::exception_ptr error_;

 private:
  task* const owner_ = current_task();  // not parent_: it lives no longer than the owner's call, so need not be counted
};

template <class F>
class fork_of final : public fork {
 public:
  fork_of(F& f, pool_id home) noexcept : fork(home), f_(f) {}
  ~fork_of() override {}
  void call() noexcept override {
    try {
      static_cast<void>(std::forward<F>(f_)());
    } catch (...) {
      error_ = std::current_exception();
    }
  }

 private:
  std::remove_reference_t<F>& f_;
};

/// Of several errors one is thrown; the pool's handler gets the others.
[[gnu::cold]] inline void report_other(std::exception_ptr error, pool_id home) noexcept {
  std::shared_ptr<unobserved_handler> handler;
  pool_registry::with(home, [&](scheduler& s) { handler = s.unobserved(); });
  report_unobserved({std::move(error), "a function of invoke()", {}}, handler, false);
}
/// `error` comes before the one that `first` may be.
[[gnu::cold]] [[gnu::noinline]] inline void put_first(std::exception_ptr& first, std::exception_ptr error,
                                                      pool_id home) noexcept {
  std::swap(first, error);
  if (error) report_other(std::move(error), home);
}

[[gnu::noinline]] inline void wait_for_thief(fork& f) { static_cast<void>(wait_for_task(f)); }

// Forks all but the last, which runs here at once; then takes back those that nobody has taken, the newest first.
template <class F>
void invoke_on(worker& w, std::exception_ptr& first_error, F&& last) {
  try {
    static_cast<void>(std::forward<F>(last)());
  } catch (...) {
    put_first(first_error, std::current_exception(), w.home->id());
  }
}
template <class F, class G, class... Rest>
void invoke_on(worker& w, std::exception_ptr& first_error, F&& f, G&& g, Rest&&... rest) {
  fork_of<F> mine(f, w.home->id());
  const std::int64_t floor = w.queue.position();
  const bool queued = mine.begin(w);
  invoke_on(w, first_error, std::forward<G>(g), std::forward<Rest>(rest)...);
  if (!queued)
    mine.call();
  else if (!mine.done())  // a wait inside the others may have run it
    w.home->take_back(w, floor, [&](const task* t) { return t == &mine; }) ? mine.call() : wait_for_thief(mine);
  if (mine.error()) [[unlikely]]
    put_first(first_error, std::move(mine.error()), w.home->id());
}

/// Throws forked_process (207) where fork() has left a thief behind.
template <class... F>
void invoke_here(worker& w, F&&... f) {
  std::exception_ptr first_error;
  invoke_on(w, first_error, std::forward<F>(f)...);
  if (first_error) [[unlikely]]
    std::rethrow_exception(first_error);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
