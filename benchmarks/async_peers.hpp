#ifndef CADRE_BENCHMARKS_ASYNC_PEERS_HPP
#define CADRE_BENCHMARKS_ASYNC_PEERS_HPP

#include "harness.hpp"

#include <cadre/async.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

#include <atomic>
#include <cstddef>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

/// What the programs async_*.cpp have in common: a pool of two threads of each kind, alive during all rounds.
namespace async_peers {

inline constexpr int workers = 2;

/// The program's own thread takes part in what oneTBB runs in a task_group, as its users expect: one worker beside it.
/// What is enqueued goes to an arena of `threads` workers, which keeps no place for it.
struct tbb_threads {
  explicit tbb_threads(int threads)
      : limit(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(threads) + 1),
        with_caller(threads),
        workers_only(threads, 0) {}
  tbb::global_control limit;
  tbb::task_arena with_caller, workers_only;
};

struct pools {
  explicit pools(int threads = workers)
      : ours{{.threads = static_cast<std::size_t>(threads)}}, tbb(threads), asio(static_cast<std::size_t>(threads)) {}
  cadre::thread_pool ours;
  tbb_threads tbb;
  boost::asio::thread_pool asio;
};

/// A task with a future of its own, for a thread outside: what oneTBB's users write where one task_group, with one wait for
/// all and the caller at work meanwhile, is not what they need. It calls a const function object.
template <class F>
struct with_promise {
  F f;
  mutable std::promise<std::invoke_result_t<F>> promise = {};
  void operator()() const {
    if constexpr (std::is_void_v<std::invoke_result_t<F>>) {
      f();
      promise.set_value();
    } else {
      promise.set_value(f());
    }
  }
};
template <class F>
auto submit(tbb_threads& tbb, F f) {
  with_promise<F> task{std::move(f)};
  auto result = task.promise.get_future();
  tbb.workers_only.enqueue(std::move(task));
  return result;
}

inline void require(bool right, const char* what) {
  if (!right) throw std::runtime_error(std::string(what) + " computed something else");
}

/// Waits until tasks that nobody else waits for have counted to n.
inline void wait_for_count(const std::atomic<int>& count, int n) {
  while (count.load() != n) std::this_thread::yield();
}

/// Nanoseconds for each of n things that f does.
template <class F>
double ns_each(int n, F&& f) {
  const double start = benchmark::seconds();
  f();
  return (benchmark::seconds() - start) * 1e9 / n;
}

}  // namespace async_peers

#endif
