#ifndef CADRE_ACTOR_PROCESS_POOL_HPP
#define CADRE_ACTOR_PROCESS_POOL_HPP

#include <cadre/actor/detail/bound_call.hpp>
#include <cadre/actor/detail/process_pool_core.hpp>
#include <cadre/actor/detail/process_task.hpp>
#include <cadre/actor/detail/zygote.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/async/future.hpp>
#include <cadre/core/chrono.hpp>

#include <cstddef>
#include <memory>
#include <source_location>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// How a process_pool is made: `cadre::process_pool pool({.processes = 4});`
struct process_pool_options {
  /// Workers. 0: one for each processor that this process may use.
  std::size_t processes = 0;
  /// How often a task is tried again whose worker has died.
  int max_retries = 0;
  /// A task that runs for longer has its worker killed. 0: any time.
  std::chrono::nanoseconds timeout{0};
  /// A worker is replaced after so many tasks, so that what they leak goes with it. 0: any number.
  std::size_t max_tasks_per_worker = 0;
};

/// Processes that run functions which may crash. A crash, exit() or kill ends one worker: the future of its task has
/// worker_died (609), which names the signal or exit code; a new worker takes its place, and the pool goes on.
///
/// Workers are made by the zygote: a copy of this process as it was before it had threads, MPI or CUDA. cadre::run() and
/// cadre::mpi::run() fork it first of all, in programs that make a process_pool anywhere; where main is your own, call
/// prepare(). A worker has the values that globals had then, its standard input is /dev/null, and it has no runtime: no
/// objects, actors or this_task. Workers and zygote end with this process, however that ends.
///
/// Destruction runs what has been submitted, then ends the workers. Futures stay good afterwards. In a process made by
/// fork() the pool cannot be used: forked_process (207).
///
/// Thread-safety: all functions, from any thread. Cost: a task some tens of microseconds for its way to the worker and back,
/// and the copying of its arguments and result; a worker less than a millisecond. The pool has one thread, which decodes
/// results and, where a future of the pool was made outside of any task, runs its then(): do not wait in that for the pool.
class process_pool {
 public:
  /// Forks the zygote. To be called first in main, if that does not call cadre::run(); a second call does nothing. Throws
  /// no_zygote (611) if the process has more than one thread, no_worker_process (615).
  template <class Options = process_pool_options>
  static void prepare() {
    detail::zygote<Options>::start();
  }

  /// Throws no_zygote (611), zygote_died (614), no_worker_process (615), thread_error (151).
  template <class Options = process_pool_options>
  explicit process_pool(process_pool_options options = {})
      : core_(std::make_unique<detail::process_pool_core<Options>>(options)) {}
  process_pool(const process_pool&) = delete;
  process_pool& operator=(const process_pool&) = delete;

  /// Workers.
  [[nodiscard]] std::size_t size() const noexcept { return core_->size(); }

  /// Runs a function in a worker: `pool.submit<&f>(arguments...)`, in the order of submission. What may travel is as for
  /// runtime::submit(); futures, object_refs and actors cannot. The future has what it returns; what it throws, with its
  /// type if that is one of the standard library's, or one of cadre's that travels, else as remote_error (608);
  /// worker_died (609); zygote_died (614). Its cancel() drops a task that waits for a worker; one that runs goes on.
  /// Throws what writing an argument throws, forked_process (207), unknown_function (616).
  template <auto F, class... A>
    requires(sizeof...(A) > 2)
  auto submit(A&&... arguments) {
    return submit_at<F>({}, std::forward<A>(arguments)...);
  }
  // With few arguments the place of the call comes along: see thread_pool::submit.
  template <auto F>
  auto submit(std::source_location at = std::source_location::current()) {
    return submit_at<F>(at);
  }
  template <auto F, class A>
  auto submit(A&& a, std::source_location at = std::source_location::current()) {
    return submit_at<F>(at, std::forward<A>(a));
  }
  template <auto F, class A, class B>
  auto submit(A&& a, B&& b, std::source_location at = std::source_location::current()) {
    return submit_at<F>(at, std::forward<A>(a), std::forward<B>(b));
  }

 private:
  template <auto F, class... A>
  auto submit_at(std::source_location at, A&&... arguments) {
    detail::check_call<F, A...>();
    detail::check_worker_call<F, A...>();
    using known = detail::signature_of<F>;
    using call = detail::worker_call<F, typename known::parameters>;
    using result = typename known::result;
    core_->check(call::entry, detail::function_name<F>());
    auto bytes = call::written(std::forward<A>(arguments)...);
    auto* const t =
        new detail::process_result<result>(call::entry.run(), std::move(bytes), detail::function_name<F>(), at);
    auto f = detail::future_access::make<result>(detail::task_ref<detail::state<result>>(t));
    core_->push(*t);
    return f;
  }

  std::unique_ptr<detail::process_pool_face> core_;
};

CADRE_NAMESPACE_END

#endif
