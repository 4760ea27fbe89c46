// What a task costs: submit and get, fire and forget, chains. Nanoseconds per task, beside oneTBB, Boost.Asio, OpenMP and
// std::async; two threads each.
#include "async_peers.hpp"

#include <sys/resource.h>
#include <tbb/flow_graph.h>

#include <chrono>
#include <deque>
#include <future>
#include <memory>
#include <thread>
#include <vector>

namespace {

using async_peers::ns_each, async_peers::pools, async_peers::require, async_peers::wait_for_count;
namespace asio = boost::asio;

/// n tasks with a result, at most `window` of them in flight; their futures come from `submit(i)`.
template <class Submit>
double with_futures(int n, int window, Submit submit) {
  std::vector<decltype(submit(0))> futures(static_cast<std::size_t>(window));
  long sum = 0;
  const double ns = ns_each(n, [&] {
    for (int i = 0; i < n + window; ++i) {
      auto& oldest = futures[static_cast<std::size_t>(i % window)];
      if (i >= window) sum += oldest.get();
      if (i < n) oldest = submit(i);
    }
  });
  require(sum == n * (n - 1L) / 2, "submit and get");
  return ns;
}

/// One wait for all: tasks write their results where they are read after it, and the caller works meanwhile.
double in_task_groups(tbb::task_arena& arena, int n, int window) {
  std::vector<int> results(static_cast<std::size_t>(window));
  long sum = 0;
  const double ns = ns_each(n, [&] {
    arena.execute([&] {
      tbb::task_group group;
      for (int first = 0; first < n; first += window) {
        for (int i = 0; i < window; ++i)
          group.run([&result = results[static_cast<std::size_t>(i)], value = first + i] { result = value; });
        group.wait();
        for (const int result : results) sum += result;
      }
    });
  });
  require(sum == n * (n - 1L) / 2, "submit and get");
  return ns;
}

void submit_and_get(pools& p, const std::string& name, int n, int window, int rounds, double goal, bool with_std) {
  std::vector<benchmark::contender> all{
      {"cadre",
       [&, n, window] { return with_futures(n, window, [&](int i) { return p.ours.submit([i] { return i; }); }); }},
      {"oneTBB enqueue, std::promise",
       [&, n, window] {
         return with_futures(n, window, [&](int i) { return async_peers::submit(p.tbb, [i] { return i; }); });
       },
       benchmark::at_most(goal)},
      {"oneTBB task_group, one wait", [&, n, window] { return in_task_groups(p.tbb.with_caller, n, window); }},
      {"Boost.Asio thread_pool", [&, n, window] {
         return with_futures(n, window, [&](int i) { return asio::post(p.asio, asio::use_future([i] { return i; })); });
       }}};
  if (with_std)
    all.push_back({"std::async", [] {
                     return with_futures(2000, 1000,
                                         [](int i) { return std::async(std::launch::async, [i] { return i; }); });
                   }});
  benchmark::measure(name, "ns per task", rounds, std::move(all));
}

void fire_and_forget(pools& p) {
  constexpr int n = 300'000;
  const auto counted = [](auto post) {
    return [post] {
      std::atomic<int> count{0};
      return ns_each(n, [&] {
        for (int i = 0; i < n; ++i) post([&count] { count.fetch_add(1, std::memory_order_relaxed); });
        wait_for_count(count, n);
      });
    };
  };
  benchmark::measure(
      "fire and forget", "ns per task", 11,
      {{"cadre", counted([&](auto f) { p.ours.post(f); })},
       {"oneTBB enqueue", counted([&](auto f) { p.tbb.workers_only.enqueue(f); }), benchmark::at_most(0.23)},
       {"Boost.Asio thread_pool", counted([&](auto f) { asio::post(p.asio, f); })},
       {"OpenMP task", [] {
          std::atomic<int> count{0};
          return ns_each(n, [&] {
#pragma omp parallel num_threads(async_peers::workers)
#pragma omp single
            for (int i = 0; i < n; ++i) {
#pragma omp task shared(count)
              count.fetch_add(1, std::memory_order_relaxed);
            }
            require(count == n, "OpenMP");
          });
        }}});
}

constexpr int links = 100'000;

double chain_of_then(cadre::thread_pool& pool) {
  int last = 0;
  const double ns = ns_each(links, [&] {
    cadre::future<int> f = pool.submit([] { return 0; });
    for (int i = 0; i < links; ++i) f = std::move(f).then([](int x) { return x + 1; });
    last = f.get();
  });
  require(last == links, "a chain of then");
  return ns;
}

/// A task that hands a task to `post`, which hands a task ...
template <class Post>
struct link {
  Post post;
  std::atomic<int>* done;
  int left;
  void operator()() const {
    if (left == 0) return done->store(1);
    post(link{post, done, left - 1});
  }
};
template <class Post>
double chain_of_posts(Post post) {
  std::atomic<int> done{0};
  return ns_each(links, [&] {
    post(link<Post>{post, &done, links});
    wait_for_count(done, 1);
  });
}

double chain_in_task_group(tbb::task_arena& arena) {
  return arena.execute([] {
    tbb::task_group group;
    std::atomic<int> done{0};
    const auto run = [&group](auto f) { group.run(f); };
    return ns_each(links, [&] {
      group.run(link<decltype(run)>{run, &done, links});
      group.wait();
    });
  });
}

double chain_in_flow_graph(tbb::task_arena& arena) {
  using node = tbb::flow::continue_node<tbb::flow::continue_msg>;
  int count = 0;
  const double ns = arena.execute([&] {
    return ns_each(links, [&] {
      tbb::flow::graph graph;
      std::deque<node> nodes;
      for (int i = 0; i < links; ++i) {
        nodes.emplace_back(graph, [&count](const tbb::flow::continue_msg& m) { return ++count, m; });
        if (i != 0) tbb::flow::make_edge(nodes[nodes.size() - 2], nodes.back());
      }
      nodes.front().try_put({});
      graph.wait_for_all();
    });
  });
  require(count == links, "a chain in oneTBB's flow graph");
  return ns;
}

double processor_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](timeval t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

/// How many processors a pool keeps busy that has work for one, while the caller sleeps.
template <class Post>
double busy_in_a_chain(Post post) {
  std::atomic<int> done{0};
  const double before = processor_seconds();
  const double ns = ns_each(1, [&] {
    post(link<Post>{post, &done, 5'000'000});
    while (done == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  return (processor_seconds() - before) / (1e-9 * ns);
}

void chains(pools& p) {
  benchmark::measure("chain of 1e5 tasks, each posts the next", "ns per link", 11,
                     {{"cadre post", [&] { return chain_of_posts([&](auto f) { p.ours.post(f); }); }},
                      {"oneTBB task_group", [&] { return chain_in_task_group(p.tbb.with_caller); }},
                      {"oneTBB enqueue", [&] { return chain_of_posts([&](auto f) { p.tbb.workers_only.enqueue(f); }); },
                       benchmark::at_most(0.25)},
                      {"Boost.Asio thread_pool", [&] { return chain_of_posts([&](auto f) { asio::post(p.asio, f); }); },
                       benchmark::at_most(1)}});
  benchmark::measure(
      "processors busy while a chain runs", "processors", 5,
      {{"cadre post", [&] { return busy_in_a_chain([&](auto f) { p.ours.post(f); }); }},
       {"oneTBB enqueue", [&] { return busy_in_a_chain([&](auto f) { p.tbb.workers_only.enqueue(f); }); }},
       {"Boost.Asio thread_pool", [&] { return busy_in_a_chain([&](auto f) { asio::post(p.asio, f); }); }}});
  benchmark::measure(
      "chain of 1e5 continuations", "ns per link", 11,
      {{"cadre then", [&] { return chain_of_then(p.ours); }},
       {"oneTBB flow graph", [&] { return chain_in_flow_graph(p.tbb.with_caller); }, benchmark::at_most(0.25)}});
}

/// Times that threads of this process gave up the processor to wait.
long voluntary_switches() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return used.ru_nvcsw;
}

void switches(pools& p, const std::string& name, int window) {
  constexpr int n = 1'000'000;
  const auto counted = [](auto run) {
    return [run] {
      const long before = voluntary_switches();
      run();
      return static_cast<double>(voluntary_switches() - before);
    };
  };
  benchmark::measure(
      name, "switches", 5,
      {{"cadre",
        counted([&, window] { with_futures(n, window, [&](int i) { return p.ours.submit([i] { return i; }); }); }),
        benchmark::at_most(100)},
       {"oneTBB enqueue, std::promise", counted([&, window] {
          with_futures(n, window, [&](int i) { return async_peers::submit(p.tbb, [i] { return i; }); });
        })},
       {"Boost.Asio thread_pool", counted([&, window] {
          with_futures(n, window, [&](int i) { return asio::post(p.asio, asio::use_future([i] { return i; })); });
        })}});
}

}  // namespace

int main() {
  benchmark::print_head();
  {
    pools p;
    submit_and_get(p, "submit and get, 1e6 outstanding", 1'000'000, 1'000'000, 7, 0.17, false);
    submit_and_get(p, "submit and get, 1000 in flight", 200'000, 1000, 11, 0.15, true);
    fire_and_forget(p);
    chains(p);
    switches(p, "voluntary switches, 1e6 outstanding", 1'000'000);
    switches(p, "voluntary switches in 1e6 tasks, 1000 in flight", 1000);
  }
  pools many(8);
  submit_and_get(many, "submit and get, 1000 in flight, 8 threads", 200'000, 1000, 7, 0.15, false);
}
