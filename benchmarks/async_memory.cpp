// What a task costs in memory: calls of malloc per submit and get in steady state, and resident bytes per task while 1e6
// of them are pending. Each figure is taken in a process of its own, so that nobody inherits another's free lists.
#include "async_peers.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <future>
#include <vector>

namespace {
std::atomic<long> mallocs{0};
}

// Every allocation of the process comes through here, those of libraries as well.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t n) {
  mallocs.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) {
  mallocs.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(n, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t n) {
  mallocs.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, n);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t n) {
  *out = aligned_alloc(alignment, n);
  return *out == nullptr ? ENOMEM : 0;
}
}

namespace {

using async_peers::pools;
namespace asio = boost::asio;

template <class F>
double in_own_process(F&& f) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("no pipe");
  const pid_t child = fork();
  if (child == 0) {
    const double figure = f();
    _exit(write(ends[1], &figure, sizeof figure) == sizeof figure ? 0 : 1);
  }
  close(ends[1]);
  double figure = 0;
  const bool answered = read(ends[0], &figure, sizeof figure) == sizeof figure;
  close(ends[0]);
  waitpid(child, nullptr, 0);
  if (!answered) throw std::runtime_error("the process that was to be measured died");
  return figure;
}

/// Per task, after as many to warm up; at most 1000 in flight.
template <class Run>
double mallocs_per_task(Run run) {
  constexpr int n = 100'000;
  return in_own_process([&] {
    pools p;
    run(p, n);
    const long before = mallocs.load();
    run(p, n);
    return static_cast<double>(mallocs.load() - before) / n;
  });
}

template <class Submit>
void through_futures(int n, Submit submit) {
  constexpr int window = 1000;
  std::vector<decltype(submit())> futures(window);
  for (int i = 0; i < n + window; ++i) {
    auto& oldest = futures[static_cast<std::size_t>(i % window)];
    if (i >= window) oldest.get();
    if (i < n) oldest = submit();
  }
}

double resident_bytes() {
  long pages = 0;
  std::FILE* const file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr || std::fscanf(file, "%*d %ld", &pages) != 1) throw std::runtime_error("no /proc/self/statm");
  std::fclose(file);
  return static_cast<double>(pages * sysconf(_SC_PAGESIZE));
}

constexpr int pending = 1'000'000;

/// Tasks that keep the threads busy while the others pile up.
struct gate {
  std::atomic<int> waiting{0};
  std::atomic<bool> open{false};
  void wait() {
    waiting.fetch_add(1);
    open.wait(false);
  }
  void release() {
    open = true;
    open.notify_all();
  }
};

/// `submit` makes a task and returns its future, `block` a task that waits at the gate.
template <class Submit, class Block>
double bytes_per_task(pools& p, Submit submit, Block block) {
  using future_type = decltype(submit(p));
  gate g;
  for (int i = 0; i < async_peers::workers; ++i) block(p, [&g] { g.wait(); });
  async_peers::wait_for_count(g.waiting, async_peers::workers);
  std::vector<future_type> futures(pending);
  const double before = resident_bytes();
  for (future_type& f : futures) f = submit(p);
  const double used = resident_bytes() - before;
  g.release();
  for (future_type& f : futures) f.get();
  return used / pending;
}

}  // namespace

int main() {
  const auto ours = [](pools& p) { return p.ours.submit([] { return 1; }); };
  const auto tbb = [](pools& p) { return async_peers::submit(p.tbb, [] { return 1; }); };
  const auto boost = [](pools& p) { return asio::post(p.asio, asio::use_future([] { return 1; })); };
  benchmark::print_head();
  benchmark::measure(
      "mallocs per submit and get", "calls", 3,
      {{"cadre",
        [&] { return mallocs_per_task([&](pools& p, int n) { through_futures(n, [&] { return ours(p); }); }); },
        benchmark::at_most(0.01)},
       {"oneTBB enqueue, std::promise",
        [&] { return mallocs_per_task([&](pools& p, int n) { through_futures(n, [&] { return tbb(p); }); }); }},
       {"Boost.Asio thread_pool",
        [&] { return mallocs_per_task([&](pools& p, int n) { through_futures(n, [&] { return boost(p); }); }); }},
       {"std::async", [] {
          return mallocs_per_task([](pools&, int n) {
                   through_futures(n / 50, [] { return std::async(std::launch::async, [] { return 1; }); });
                 }) *
                 50;
        }}});
  benchmark::measure("memory per task, 1e6 pending", "bytes", 3,
                     {{"cadre",
                       [&] {
                         return in_own_process([&] {
                           pools p;
                           return bytes_per_task(p, ours, [](pools& q, auto f) { q.ours.post(f); });
                         });
                       }},
                      {"oneTBB enqueue, std::promise",
                       [&] {
                         return in_own_process([&] {
                           pools p;
                           return bytes_per_task(p, tbb, [](pools& q, auto f) { q.tbb.workers_only.enqueue(f); });
                         });
                       }},
                      {"Boost.Asio thread_pool", [&] {
                         return in_own_process([&] {
                           pools p;
                           return bytes_per_task(p, boost, [](pools& q, auto f) { asio::post(q.asio, f); });
                         });
                       }}});
}
