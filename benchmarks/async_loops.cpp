// Fork-join and loops, beside oneTBB and OpenMP; two threads each, the caller among them where the library counts it.
#include "async_peers.hpp"

#include <cadre/async/invoke.hpp>

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/parallel_invoke.h>

#include <future>
#include <vector>

namespace {

using async_peers::ns_each, async_peers::pools, async_peers::require;

// fib(n) forks once per call with n >= 2: fib(n + 1) - 1 times.
constexpr int fib_of(int n) { return n < 2 ? n : fib_of(n - 1) + fib_of(n - 2); }
constexpr int forks(int n) { return fib_of(n + 1) - 1; }

int fib(int n) {
  if (n < 2) return n;
  int left, right;
  cadre::invoke([&left, n] { left = fib(n - 1); }, [&right, n] { right = fib(n - 2); });
  return left + right;
}

int fib_by_futures(cadre::thread_pool& pool, int n) {
  if (n < 2) return n;
  auto left = pool.submit([&pool, n] { return fib_by_futures(pool, n - 1); });
  const int right = fib_by_futures(pool, n - 2);
  return left.get() + right;
}

int fib_tbb(int n) {
  if (n < 2) return n;
  int left, right;
  tbb::task_group group;
  group.run([&left, n] { left = fib_tbb(n - 1); });
  right = fib_tbb(n - 2);
  group.wait();
  return left + right;
}

int fib_omp(int n) {
  if (n < 2) return n;
  int left, right;
#pragma omp task shared(left)
  left = fib_omp(n - 1);
  right = fib_omp(n - 2);
#pragma omp taskwait
  return left + right;
}

int fib_std(int n) {
  if (n < 2) return n;
  auto left = std::async(std::launch::async, fib_std, n - 1);
  const int right = fib_std(n - 2);
  return left.get() + right;
}

template <class Fib>
double ns_per_fork(int n, Fib fib) {
  int result = 0;
  const double ns = ns_each(forks(n), [&] { result = fib(n); });
  require(result == fib_of(n), "fib");
  return ns;
}

void fork_join(pools& p, const char* name, int rounds) {
  benchmark::measure(
      name, "ns per fork", rounds,
      {{"cadre invoke", [&] { return ns_per_fork(27, [&](int n) { return p.ours.submit(fib, n).get(); }); }},
       {"oneTBB task_group",
        [&] { return ns_per_fork(27, [&](int n) { return p.tbb.with_caller.execute([n] { return fib_tbb(n); }); }); },
        benchmark::at_most(0.4)},
       {"OpenMP task",
        [] {
          return ns_per_fork(27, [](int n) {
            int result = 0;
#pragma omp parallel num_threads(async_peers::workers)
#pragma omp single
            result = fib_omp(n);
            return result;
          });
        }},
       {"cadre submit",
        [&] {
          return ns_per_fork(27,
                             [&](int n) { return p.ours.submit([&, n] { return fib_by_futures(p.ours, n); }).get(); });
        }},
       {"std::async, fib(12)", [] { return ns_per_fork(12, fib_std); }}});
}

/// y += x / 2 over n doubles.
void loops(pools& p, std::size_t n, int times, const std::string& name, const std::string& unit, double scale,
           int rounds, benchmark::target goal) {
  const std::vector<double> from(n, 1.0);
  std::vector<double> to(n, 1.0);
  const double* const x = from.data();
  double* const y = to.data();
  const auto timed = [&](auto loop) {
    return [=] {
      const double start = benchmark::seconds();
      for (int t = 0; t < times; ++t) loop();
      return (benchmark::seconds() - start) / times * scale;
    };
  };
  benchmark::measure(name, unit, rounds,
                     {{"cadre for_each",
                       timed([&p, n, x, y] { p.ours.for_each(0, n, [x, y](std::size_t i) { y[i] += 0.5 * x[i]; }); })},
                      {"oneTBB parallel_for", timed([&p, n, x, y] {
                         p.tbb.with_caller.execute([=] {
                           tbb::parallel_for(tbb::blocked_range<std::size_t>(0, n), [=](const auto& range) {
                             for (std::size_t i = range.begin(); i < range.end(); ++i) y[i] += 0.5 * x[i];
                           });
                         });
                       }),
                       goal},
                      {"OpenMP parallel for", timed([n, x, y] {
#pragma omp parallel for num_threads(async_peers::workers)
                         for (std::size_t i = 0; i < n; ++i) y[i] += 0.5 * x[i];
                       })},
                      {"a plain loop", timed([n, x, y] {
                         for (std::size_t i = 0; i < n; ++i) y[i] += 0.5 * x[i];
                         asm volatile("" ::: "memory");
                       })}});
}

}  // namespace

int main() {
  benchmark::print_head();
  {
    pools p;
    fork_join(p, "fork-join, fib(27)", 9);
    loops(p, 10'000'000, 1, "loop over 1e7", "ms", 1e3, 15, benchmark::at_most(1));
    loops(p, 1000, 2000, "loop over 1000", "ns per loop", 1e9, 15, benchmark::at_most(0.07));
  }
  pools many(8);
  fork_join(many, "fork-join, fib(27), 8 threads", 5);
}
