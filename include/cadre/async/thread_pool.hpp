#ifndef CADRE_ASYNC_THREAD_POOL_HPP
#define CADRE_ASYNC_THREAD_POOL_HPP

#include <cadre/async/detail/configured_task.hpp>
#include <cadre/async/detail/dump.hpp>
#include <cadre/async/detail/parallel_for.hpp>
#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/future.hpp>
#include <cadre/async/invoke.hpp>
#include <cadre/async/task_options.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/core/function.hpp>
#include <cadre/os/memory_limit.hpp>
#include <cadre/os/processors.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <source_location>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Throws forked_process (207).
scheduler& scheduler_of(const thread_pool& pool);

template <class F, class... Args>
concept can_be_task = std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...> ||
                      std::is_invocable_v<std::decay_t<F>, std::stop_token, std::decay_t<Args>...>;

template <class F, class... Args>
struct result_of : task_result<F, Args...> {};
template <class F, class... Args>
  requires(!std::is_invocable_v<F, Args...>)
struct result_of<F, Args...> : task_result<F, std::stop_token, Args...> {};
template <class F, class... Args>
using result_of_task = typename result_of<std::decay_t<F>, std::decay_t<Args>...>::type;

}  // namespace detail

/// A time, after which a wait is told to the log: `.report_waits_after = 10s`.
class long_wait {
 public:
  long_wait() noexcept = default;
  template <class Rep, class Period>
  long_wait(std::chrono::duration<Rep, Period> after) noexcept
      : report_{std::chrono::ceil<std::chrono::nanoseconds>(after), &detail::tell_long_wait<detail::task>} {}

 private:
  friend class thread_pool;
  detail::long_wait_report report_;
};

/// What the end of a pool does with the tasks that have not begun.
enum class at_end : std::uint8_t { finish, cancel };

/// How a pool is made: `cadre::thread_pool pool{{.threads = 4}};`
struct thread_pool_options {
  /// 0: one for each processor that this process may use, by affinity mask and cgroup quota.
  std::size_t threads = 0;
  /// The threads are called name/0, name/1, ...
  std::string name = "cadre";
  /// Gets each error that nobody asked for: of post(), of a dropped future, of those that when_all() did not pass on. It is
  /// called on whichever thread lets the error go, on several at once. Without one, the error goes to the log (level
  /// error, category "async"), and that of post() then ends the program by std::terminate().
  move_only_function<void(const unobserved_error&)> on_unobserved_error = {};
  /// Destruction runs what is queued, or cancels it and asks what runs to stop.
  enum at_end at_end = at_end::finish;
  /// What there is for tasks that ask for resources, beside "cpu", of which there are as many as threads, and "memory", all
  /// that the machine and the cgroups give, unless they are given here: `.resources = {{"gpu", 2}, {"TPU", 8}}`.
  resource_set resources = {};
  /// A wait in one of the tasks, or for one, that takes longer is told to the log, once, with debug_dump() (level warning,
  /// category "async").
  long_wait report_waits_after = {};
};

/// How a loop is shared: `pool.for_each(0, n, f, {.grain = 64})`.
struct loop_options {
  /// Iterations that a thread takes at a time. 0: found out, by timing the first ones and from the number of threads. With
  /// a grain even a short loop is shared, which costs some microseconds: for bodies that take long.
  std::size_t grain = 0;
};

/// Threads that run tasks. Each has a queue of its own, takes its newest task first and steals the oldest of others when it
/// has none; an idle pool costs no processor time. Tasks submitted from outside run in about the order of their submission.
///
/// Destruction runs what is queued, with all that it submits, or cancels it (`.at_end`), and ends the threads; futures stay
/// good afterwards. A pool that is destroyed by one of its own tasks does the same without waiting for it. In a process
/// made by fork() the pool has no threads: using it throws forked_process (207), destroying it does nothing.
///
/// Thread-safety: all functions may be called from any thread, tasks included. Cost: a task takes a node of 128 bytes or
/// more from memory that is recycled; one whose closure or result is larger than 192 bytes costs an allocation.
class thread_pool {
 public:
  /// Throws thread_error (151) if the system gives too few threads.
  [[gnu::cold]] explicit thread_pool(thread_pool_options options = {}) : at_end_(options.at_end) {
    const std::size_t processors = usable_processors();
    const std::size_t threads = options.threads != 0 ? options.threads : processors;
    resource_set& all = options.resources;
    if (all.find("cpu") == nullptr) all.set("cpu", static_cast<std::int64_t>(threads) * resource_set::one);
    if (all.find("memory") == nullptr) all.set("memory", static_cast<std::int64_t>(usable_memory()));
    scheduler_ =
        new detail::scheduler(threads, processors, std::move(options.name), std::move(options.on_unobserved_error),
                              std::move(all), options.report_waits_after.report_);
    try {
      scheduler_->start();
    } catch (...) {
      scheduler_->release();
      throw;
    }
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;
  ~thread_pool() {
    scheduler_->stop(at_end_ == at_end::cancel);
    scheduler_->release();
  }

  /// Every task that runs, waits, is queued or pending, with the place of its submission, a line each: what to look at when
  /// nothing seems to go on. Each line was true at its moment. Costs a look at every task of the process.
  [[nodiscard]] std::string debug_dump() const {
    return detail::dump<detail::task>(scheduler_->name(), scheduler_->id());
  }

  /// Threads.
  [[nodiscard]] std::size_t size() const noexcept { return scheduler_->size(); }

  /// Runs `f(args...)`, or `f(std::stop_token, args...)`, on one of the threads. Function and arguments are moved or copied
  /// into the task (wrap in std::ref what is to be referred to) and handed on as rvalues. Throws forked_process (207).
  template <class F, class... Args>
    requires(sizeof...(Args) > 2 && detail::can_be_task<F, Args...>)
  auto submit(F&& f, Args&&... args) {
    return submit_at({}, std::forward<F>(f), std::forward<Args>(args)...);
  }
  /// The same with options. Throws impossible_request (209), bad_task_option (211), thread_error (151) too.
  template <class F, class... Args>
    requires detail::can_be_task<F, Args...>
  auto submit(task_options options, F&& f, Args&&... args) {
    using result_type = detail::result_of_task<F, Args...>;
    return detail::future_access::make<result_type>(
        submit_with<result_type>(std::move(options), 0, std::forward<F>(f), std::forward<Args>(args)...));
  }
  // With up to two arguments the place of the call comes along: a parameter that has a default value cannot stand behind a
  // pack.
  template <class F>
    requires detail::can_be_task<F>
  auto submit(F&& f, std::source_location at = std::source_location::current()) {
    return submit_at(at, std::forward<F>(f));
  }
  template <class F, class A>
    requires detail::can_be_task<F, A>
  auto submit(F&& f, A&& a, std::source_location at = std::source_location::current()) {
    return submit_at(at, std::forward<F>(f), std::forward<A>(a));
  }
  template <class F, class A, class B>
    requires detail::can_be_task<F, A, B>
  auto submit(F&& f, A&& a, B&& b, std::source_location at = std::source_location::current()) {
    return submit_at(at, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b));
  }

  /// The same without a future: what `f` returns is dropped, what it throws goes to the handler of unobserved errors, or
  /// ends the program if there is none.
  template <class F, class... Args>
    requires(sizeof...(Args) > 0 && detail::can_be_task<F, Args...>)
  void post(F&& f, Args&&... args) {
    post_at({}, std::forward<F>(f), std::forward<Args>(args)...);
  }
  template <class F, class... Args>
    requires detail::can_be_task<F, Args...>
  void post(task_options options, F&& f, Args&&... args) {
    submit_with<void>(std::move(options), detail::task::no_future, std::forward<F>(f), std::forward<Args>(args)...);
  }
  template <class F>
    requires detail::can_be_task<F>
  void post(F&& f, std::source_location at = std::source_location::current()) {
    post_at(at, std::forward<F>(f));
  }

  /// The tasks `f(i)` for each i in [0, n), queued at once, and their futures in that order. There is one copy of `f`, which
  /// several threads call at once, as const. Cost: as n calls of submit(), but one wake-up. Throws forked_process (207),
  /// std::bad_alloc; then none of them is run.
  template <class F>
    requires std::is_invocable_v<const std::decay_t<F>&, std::size_t>
  auto submit_bulk(std::size_t n, F&& f, std::source_location at = std::source_location::current()) {
    using result_type = detail::task_result_t<const std::decay_t<F>&, std::size_t>;
    detail::scheduler& s = usable();
    const auto shared = std::make_shared<const std::decay_t<F>>(std::forward<F>(f));
    std::vector<future<result_type>> futures;
    std::vector<detail::task*> tasks;
    futures.reserve(n);
    tasks.reserve(n);
    try {
      for (std::size_t i = 0; i != n; ++i) {
        detail::state<result_type>* const t = detail::make_task<result_type>(
            [shared, i]() -> result_type { return detail::invoke(*shared, i); }, s.id(), 0, at);
        tasks.push_back(t);
        futures.push_back(detail::future_access::make<result_type>(detail::task_ref<detail::state<result_type>>(t)));
      }
    } catch (...) {
      for (detail::task* t : tasks) {
        t->cancel_alone();
        t->release();
      }
      throw;
    }
    s.push(tasks.data(), n);
    return futures;
  }

  /// cadre::invoke() on this pool: by a thread that is not one of its own all functions run in a task of it, which this
  /// thread waits for. Throws forked_process (207).
  template <class... F>
    requires(sizeof...(F) > 0 && (std::is_invocable_v<F> && ...))
  void invoke(F&&... f) {
    if (const detail::worker* const w = detail::this_worker(); w != nullptr && w->home == scheduler_)
      return cadre::invoke(std::forward<F>(f)...);
    submit([&] { cadre::invoke(std::forward<F>(f)...); }).get();
  }

  /// Calls `f(i)` for each i in [first, last), in any order, on the threads and on this one; returns when all calls have
  /// returned. After a call throws no further ones are begun, and its error (of several, that of the lowest i caught) is
  /// thrown here. A loop that would be over in a few microseconds stays on this thread. Throws forked_process (207).
  template <class F>
    requires std::is_invocable_v<F&, std::size_t>
  void for_each(std::size_t first, std::size_t last, F&& f, loop_options options = {}) {
    detail::parallel_for(usable(), first, last, f, options.grain);
  }

  /// Calls `f(element)` for each element of a random-access range, in the same way.
  template <class Range, class F>
    requires requires(Range& r) {
      { std::begin(r) } -> std::random_access_iterator;
      { std::end(r) - std::begin(r) };
    }
  void for_each(Range&& range, F&& f, loop_options options = {}) {
    const auto begin = std::begin(range);
    using offset_type = std::iter_difference_t<decltype(begin)>;
    const auto at = [&](std::size_t i) { static_cast<void>(detail::invoke(f, begin[static_cast<offset_type>(i)])); };
    detail::parallel_for(usable(), 0, static_cast<std::size_t>(std::end(range) - begin), at, options.grain);
  }

  /// `init` and all `body(i)` for i in [first, last) combined by `op`, an associative function. The range is cut into parts
  /// that depend on its length and the grain alone (without a grain at most 256 of them), and the parts are combined in order: floating-point sums are the same to the last bit
  /// on any number of threads. Errors as in for_each().
  template <class T, class Body, class Op>
    requires std::is_invocable_r_v<T, Body&, std::size_t> && std::is_invocable_r_v<T, Op&, T, T>
  [[nodiscard]] T reduce(std::size_t first, std::size_t last, T init, Body&& body, Op&& op, loop_options options = {}) {
    return detail::parallel_reduce(usable(), first, last, std::move(init), body, op, options.grain);
  }

 private:
  template <class F, class... Args>
  static auto bind(F&& f, Args&&... args) {
    if constexpr (sizeof...(Args) == 0 && std::is_class_v<std::decay_t<F>>)
      return std::decay_t<F>(std::forward<F>(f));
    else
      return [f = std::decay_t<F>(std::forward<F>(f)),
              ... args = std::decay_t<Args>(std::forward<Args>(args))]() mutable -> decltype(auto) {
        return detail::invoke(std::move(f), std::move(args)...);
      };
  }

  template <class F>
  static auto drop_result(F f) {
    if constexpr (std::is_void_v<std::invoke_result_t<F>>)
      return f;
    else
      return [f = std::move(f)]() mutable { static_cast<void>(std::move(f)()); };
  }

  detail::scheduler& usable() const {
    if (scheduler_->left_behind()) [[unlikely]]
      throw forked_process();
    return *scheduler_;
  }

  template <class F, class... Args>
  auto submit_at(std::source_location at, F&& f, Args&&... args) {
    using result_type = detail::result_of_task<F, Args...>;
    if constexpr (std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>)
      return submit_task<result_type>(
          detail::make_task<result_type>(bind(std::forward<F>(f), std::forward<Args>(args)...), usable().id(), 0, at));
    else
      return submit({.at = at}, std::forward<F>(f), std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  void post_at(std::source_location at, F&& f, Args&&... args) {
    if constexpr (std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>)
      scheduler_->push(detail::make_task<void>(drop_result(bind(std::forward<F>(f), std::forward<Args>(args)...)),
                                               usable().id(), detail::task::no_future | detail::task::beyond_cancel,
                                               at));
    else
      post({.at = at}, std::forward<F>(f), std::forward<Args>(args)...);
  }
  template <class R, class F, class... Args>
  detail::task_ref<detail::state<R>> submit_with(task_options&& options, std::uint8_t flags, F&& f, Args&&... args) {
    constexpr bool can_repeat =
        std::is_copy_constructible_v<std::decay_t<F>> && (std::is_copy_constructible_v<std::decay_t<Args>> && ...);
    if (!can_repeat && options.max_retries > 0)
      throw bad_task_option(".max_retries = " + std::to_string(options.max_retries) +
                            " for a function, or arguments, that cannot be copied: each try would need its own");
    auto extras = std::make_unique<detail::task_extras>(std::move(options));
    const auto go = [&](auto bound) {
      auto call = [bound = std::move(bound)](bool again) mutable -> R {
        if constexpr (std::is_void_v<R>)
          static_cast<void>(bound(again));
        else
          return bound(again);
      };
      return detail::submit_configured<R>(usable(), std::move(call), std::move(extras), flags);
    };
    if constexpr (std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>) {
      return go(detail::bind_arguments(std::forward<F>(f), std::forward<Args>(args)...));
    } else {
      extras->source.emplace();
      std::stop_token token = extras->source->get_token();
      return go(detail::bind_arguments(std::forward<F>(f), std::move(token), std::forward<Args>(args)...));
    }
  }

  template <class R>
  future<R> submit_task(detail::state<R>* task) noexcept {
    detail::task_ref<detail::state<R>> result(task);
    scheduler_->push(task);
    return detail::future_access::make<R>(std::move(result));
  }

  friend detail::pool_id detail::id_of(const thread_pool& pool) noexcept;
  friend detail::scheduler& detail::scheduler_of(const thread_pool& pool);

  detail::scheduler* scheduler_ = nullptr;
  enum at_end at_end_;
};

inline detail::scheduler& detail::scheduler_of(const thread_pool& pool) { return pool.usable(); }
inline detail::pool_id detail::id_of(const thread_pool& pool) noexcept { return pool.scheduler_->id(); }

CADRE_NAMESPACE_END

#endif
