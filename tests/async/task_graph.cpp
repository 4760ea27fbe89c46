#include "catch.hpp"
#include "counted_new.hpp"
#include "soon.hpp"

#include <cadre/async.hpp>
#include <cadre/async/task_graph.hpp>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace task_graph_test {

TEST_CASE("a graph runs each node once, after all those before it, as often as it is run", "[task_graph]") {
  std::mt19937 random(7);  // any seed will do
  for (const std::size_t threads : {1u, 2u, 4u}) {
    std::atomic<int> early = 0;
    cadre::thread_pool pool{{.threads = threads}};
    constexpr int n = 600;
    cadre::task_graph graph;
    std::vector<cadre::graph_node> nodes;
    std::vector<std::vector<int>> before(n);
    std::vector<std::atomic<int>> runs(n);
    int round = 0;
    for (int i = 0; i < n; ++i)
      nodes.push_back(graph.add([&, i] {
        for (const int b : before[static_cast<std::size_t>(i)])
          if (runs[static_cast<std::size_t>(b)] != round) ++early;
        ++runs[static_cast<std::size_t>(i)];
      }));
    for (int i = 1; i < n; ++i)
      for (unsigned k = random() % 4; k > 0; --k) {
        const int b = static_cast<int>(random() % static_cast<unsigned>(i));
        // Half of the edges lead to nodes that were added earlier.
        const int from = i % 2 == 1 ? b : n - 1 - b;
        const int to = i % 2 == 1 ? i : n - 1 - i;
        if (from == to || from > to) continue;
        nodes[static_cast<std::size_t>(from)] >> nodes[static_cast<std::size_t>(to)];
        before[static_cast<std::size_t>(to)].push_back(from);
      }
    for (round = 1; round <= 50; ++round) {
      if (round % 2 == 0)
        graph.run(pool).get();
      else
        pool.submit([&] { graph.run_and_wait(pool); }).get();
      for (const auto& r : runs) REQUIRE(r == round);
    }
    CHECK(early == 0);
  }
}

TEST_CASE("edges may lead back to nodes that were added earlier, as long as no circle is closed", "[task_graph]") {
  cadre::thread_pool pool{{.threads = 2}};
  cadre::task_graph graph;
  std::string order;
  auto c = graph.add([&] { order += 'c'; });
  auto b = graph.add([&] { order += 'b'; });
  auto a = graph.add([&] { order += 'a'; });
  a >> b >> c;
  graph.run(pool).get();
  CHECK(order == "abc");
  auto d = graph.add([&] { order += 'd'; });  // a graph may grow between its runs
  graph.precede(c, d);
  graph.run_and_wait(pool);
  CHECK(order == "abcabcd");
}

TEST_CASE("an empty graph, and one without edges, run too", "[task_graph]") {
  std::atomic<int> runs = 0;
  cadre::thread_pool pool{{.threads = 2}};
  cadre::task_graph graph;
  graph.run(pool).get();
  for (int i = 0; i < 1'000; ++i) graph.add([&] { ++runs; });
  graph.run(pool).get();
  CHECK(runs == 1'000);
  CHECK(graph.size() == 1'000);
}

TEST_CASE("a cycle is found when the graph is built, and its nodes are named", "[task_graph]") {
  cadre::thread_pool pool{{.threads = 1}};
  cadre::task_graph graph;
  int runs = 0;
  auto load = graph.add([&] { ++runs; }, "load");
  auto parse = graph.add([&] { ++runs; }, "parse");
  auto check = graph.add([&] { ++runs; });
  auto store = graph.add([&] { ++runs; }, "store");
  load >> parse >> check >> parse;
  check >> store;
  CHECK_THROWS_AS(graph.run(pool), cadre::graph_cycle);
  try {
    graph.run(pool);
    FAIL("no error");
  } catch (const cadre::graph_cycle& e) {
    const std::string text = e.what();
    const bool one = text.find("2 nodes: 'parse' -> node 2 -> 'parse'; none of them") != std::string::npos;
    const bool other = text.find("2 nodes: node 2 -> 'parse' -> node 2; none of them") != std::string::npos;
    INFO(text);
    CHECK(one != other);
    CHECK(text.find("[cadre.async.220] the task graph has a cycle of ") == 0);
  }
  CHECK(runs == 0);

  cadre::task_graph self;
  auto node = self.add([] {}, "self");
  node >> node;
  CHECK_THROWS_WITH(self.run(pool),
                    "[cadre.async.220] the task graph has a cycle of 1 node: 'self' -> 'self'; none of them could ever "
                    "run, so remove one of these edges");
}

TEST_CASE("what follows a node that throws is skipped, the rest is run, and the first node's error is thrown",
          "[task_graph]") {
  for (const std::size_t threads : {1u, 3u}) {
    std::mutex mutex;
    std::vector<std::string> reported;
    std::atomic<int> behind = 0;
    std::atomic<int> beside = 0;
    cadre::thread_pool pool{{.threads = threads, .on_unobserved_error = [&](const cadre::unobserved_error& e) {
                               const std::lock_guard lock(mutex);
                               reported.push_back(std::string(e.task));
                             }}};
    cadre::task_graph graph;
    bool bad = true;
    auto first = graph.add([] {}, "first");
    auto late = graph.add(
        [&] {
          if (bad) throw std::out_of_range("of the earlier node");
        },
        "earlier");
    auto early = graph.add(
        [&] {
          if (bad) throw std::runtime_error("of the later node");
        },
        "later");
    first >> early;
    first >> late;
    auto join = graph.add([&] { ++behind; });
    late >> join;
    early >> join;
    for (int i = 0; i < 5; ++i) join >> graph.add([&] { ++behind; });
    for (int i = 0; i < 5; ++i) first >> graph.add([&] { ++beside; });
    for (int round = 1; round <= 20; ++round) {
      CHECK_THROWS_AS(graph.run(pool).get(), std::out_of_range);
      REQUIRE(beside == 5 * round);
    }
    CHECK(behind == 0);
    {
      const std::lock_guard lock(mutex);
      CHECK(reported == std::vector<std::string>(20, "'later'"));
    }
    bad = false;  // the counters have been reset all the same
    graph.run(pool).get();
    CHECK(behind == 6);
  }
}

TEST_CASE("a run that is cancelled skips what has not begun", "[task_graph]") {
  std::atomic<bool> begun = false;
  std::atomic<int> after = 0, held = 0;
  std::atomic<bool> go = false;
  cadre::thread_pool pool{{.threads = 2}};
  cadre::task_graph graph;
  auto waits = graph.add([&] {
    begun = true;
    if (!soon([] { return cadre::this_task::stop_requested(); })) throw std::logic_error("was never asked to stop");
  });
  auto one = graph.add([&] { ++after; });
  waits >> one >> graph.add([&] { ++after; });
  auto run = graph.run(pool);
  REQUIRE(soon([&] { return begun.load(); }));
  CHECK(run.cancel());
  CHECK_THROWS_WITH(run.get(), ContainsSubstring("[cadre.async.222] the run of a task graph, a task submitted at") &&
                                   ContainsSubstring("was cancelled: 1 of its 3 nodes were skipped"));
  CHECK(after == 0);

  // One that has not begun ends at once, and the graph can be run again.
  std::vector<cadre::future<void>> busy;
  for (int i = 0; i < 2; ++i)
    busy.push_back(pool.submit([&] {
      ++held;
      soon([&] { return go.load(); });
    }));
  REQUIRE(soon([&] { return held == 2; }));
  cadre::task_graph other;
  int runs = 0;
  other.add([&] { ++runs; });
  auto never = other.run(pool);
  CHECK(never.cancel());
  CHECK_THROWS_AS(never.get(), cadre::task_cancelled);
  go = true;
  other.run_and_wait(pool);
  CHECK(runs == 1);
}

TEST_CASE("a graph that runs cannot be changed or run a second time", "[task_graph]") {
  std::atomic<bool> go = false;
  cadre::thread_pool pool{{.threads = 1}};
  cadre::task_graph graph;
  auto a = graph.add([&] { soon([&] { return go.load(); }); });
  auto b = graph.add([] {});
  auto run = graph.run(pool);
  CHECK_THROWS_WITH(graph.add([] {}),
                    "[cadre.async.221] add() on a task graph that runs; wait for the future of that "
                    "run first, or use a second graph");
  CHECK_THROWS_WITH(a >> b, ContainsSubstring("221] precede() on"));
  CHECK_THROWS_WITH(graph.run(pool), ContainsSubstring("221] run() on"));
  go = true;
  run.get();
  a >> b;
  graph.run_and_wait(pool);

  cadre::task_graph other;
  CHECK_THROWS_WITH(graph.precede(a, other.add([] {})),
                    "[cadre.async.223] both ends of an edge must be nodes of the same task graph: use what its add() "
                    "returned, and not after the graph was assigned to");
  CHECK_THROWS_AS(cadre::graph_node() >> cadre::graph_node(), cadre::foreign_node);
}

TEST_CASE("a graph that is destroyed or replaced waits for its run", "[task_graph]") {
  std::atomic<int> runs = 0;
  cadre::thread_pool pool{{.threads = 2}};
  const auto make = [&] {
    cadre::task_graph g;
    auto last = g.add([&] { ++runs; });
    for (int i = 1; i < 2'000; ++i) last = last >> g.add([&] { ++runs; });
    return g;
  };
  {
    cadre::task_graph g = make();
    static_cast<void>(g.run(pool));
  }
  CHECK(runs == 2'000);
  cadre::task_graph g = make();
  static_cast<void>(g.run(pool));
  g = make();
  CHECK(runs == 4'000);
}

TEST_CASE("functions of any size, and move-only ones, can be nodes", "[task_graph]") {
  cadre::thread_pool pool{{.threads = 1}};
  cadre::task_graph graph;
  int sum = 0;
  auto one = std::make_unique<int>(1);
  struct large {
    int values[40] = {};
  };
  large l;
  l.values[39] = 10;
  graph.add([&sum, one = std::move(one)] { sum += *one; });
  graph.add([&sum, l] { sum += l.values[39]; });
  graph.run_and_wait(pool);
  graph.run_and_wait(pool);
  CHECK(sum == 22);
}

TEST_CASE("a graph draws itself in the language of Graphviz", "[task_graph]") {
  cadre::task_graph graph;
  auto a = graph.add([] {}, "load \"x\"");
  auto b = graph.add([] {});
  a >> b;
  CHECK(graph.dot() == "digraph {\n  n0 [label=\"load \\\"x\\\"\"];\n  n1 [label=\"1\"];\n  n0 -> n1;\n}\n");
}

TEST_CASE("nodes may wait, submit, and run other graphs and forks, on one thread as on several", "[task_graph]") {
  for (const std::size_t threads : {1u, 2u, 4u}) {
    std::atomic<int> sum = 0;
    cadre::thread_pool pool{{.threads = threads}};
    cadre::task_graph inner;
    auto s = inner.add([&] { ++sum; });
    for (int i = 0; i < 10; ++i) s >> inner.add([&] { ++sum; });
    cadre::task_graph graph;
    auto first = graph.add([&] { pool.post([&] { ++sum; }); });
    auto last = graph.add([&] { inner.run_and_wait(pool); });
    for (int i = 0; i < 8; ++i) {
      auto n = graph.add([&] {
        sum += pool.submit([] { return 1; }).get();
        cadre::invoke([&] { ++sum; }, [&] { pool.submit([&] { ++sum; }).get(); });
      });
      first >> n >> last;
    }
    for (int round = 1; round <= 50; ++round) {
      graph.run(pool).get();
      REQUIRE(soon([&] { return sum == 36 * round; }));
    }
  }
}

TEST_CASE("a run is waited for by tasks of other pools, which may take part", "[task_graph]") {
  cadre::thread_pool pool{{.threads = 1}};
  std::atomic<int> runs = 0;
  cadre::thread_pool other{{.threads = 2}};
  cadre::task_graph graph;
  auto first = graph.add([&] { ++runs; });
  for (int i = 0; i < 100; ++i) first >> graph.add([&] { ++runs; });
  for (int round = 1; round <= 50; ++round) {
    other.submit([&] { graph.run_and_wait(pool); }).get();
    REQUIRE(runs == 101 * round);
  }
}

TEST_CASE("running a graph again allocates nothing", "[task_graph]") {
  std::atomic<int> runs = 0;
  cadre::thread_pool pool{{.threads = 1}};
  cadre::task_graph graph;
  auto first = graph.add([&] { ++runs; });
  auto last = graph.add([&] { ++runs; });
  for (int i = 0; i < 1'000; ++i) first >> graph.add([&] { ++runs; }) >> last;
  // The queue grows, and nodes wander between the threads' caches, until there are enough for the most that can be away.
  std::size_t allocated = 1;
  for (int round = 0; round < 50 && allocated != 0; ++round) {
    const std::size_t before = counted_new::calls;
    for (int i = 0; i < 200; ++i) graph.run(pool).get();
    allocated = counted_new::calls - before;
  }
  CHECK(allocated == 0);
}

TEST_CASE("graphs hold under stress: wavefronts run again and again on several threads", "[task_graph][stress]") {
  cadre::thread_pool pool{{.threads = 4}};
  constexpr std::size_t m = 24;
  cadre::task_graph graph;
  std::vector<int> value(m * m);
  std::vector<cadre::graph_node> nodes;
  for (std::size_t i = 0; i < m * m; ++i) {
    nodes.push_back(graph.add([&value, i] {
      const int up = i >= m ? value[i - m] : 0;
      const int left = i % m != 0 ? value[i - 1] : 0;
      value[i] = i == 0 ? value[0] + 1 : (up > left ? up : left);
    }));
    if (i >= m) nodes[i - m] >> nodes[i];
    if (i % m != 0) nodes[i - 1] >> nodes[i];
  }
  for (int round = 1; round <= 300; ++round) {
    graph.run(pool).get();
    for (const int v : value) REQUIRE(v == round);
  }
}

}  // namespace task_graph_test
