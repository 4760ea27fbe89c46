// A wavefront of 316 x 316 nodes, each after the one above and the one to its left: what it costs per node to build and
// run it, and to run it again. Beside oneTBB's flow graph, and beside counters by hand over oneTBB's task_group.
#include "async_peers.hpp"

#include <cadre/async/task_graph.hpp>

#include <tbb/flow_graph.h>

#include <deque>
#include <functional>
#include <memory>
#include <vector>

namespace {

using async_peers::ns_each, async_peers::pools, async_peers::require, async_peers::wait_for_count;

constexpr int side = 316, nodes = side * side;

/// The work of a node: its place on the longest way from the corner.
struct board {
  std::vector<int> depth = std::vector<int>(nodes, 0);
  void visit(int i) noexcept {
    const int above = i >= side ? depth[static_cast<std::size_t>(i - side)] : 0;
    const int left = i % side != 0 ? depth[static_cast<std::size_t>(i - 1)] : 0;
    depth[static_cast<std::size_t>(i)] = std::max(above, left) + 1;
  }
  void check() {
    require(depth.back() == 2 * side - 1, "a wavefront");
    std::ranges::fill(depth, 0);
  }
};

/// A graph written by hand, as for any library without one: each node counts those that it waits for, and hands the next
/// ones that become ready to `spawn`, but for one that it goes on with itself.
template <class Spawn>
class by_hand {
 public:
  by_hand(board& b, Spawn spawn) : spawn_(spawn) {
    for (int i = 0; i < nodes; ++i) {
      node& added = nodes_.emplace_back([&b, i] { b.visit(i); });
      if (i % side != 0) edge(nodes_[static_cast<std::size_t>(i - 1)], added);
      if (i >= side) edge(nodes_[static_cast<std::size_t>(i - side)], added);
    }
  }
  void run() {
    spawn_([this] { run_from(&nodes_.front()); });
  }
  void wait() {
    wait_for_count(done_, 1);
    done_ = 0;
  }

 private:
  struct node {
    explicit node(std::function<void()> f) : work(std::move(f)) {}
    std::function<void()> work;
    std::vector<node*> next;
    int before = 0;
    std::atomic<int> missing{0};
  };

  static void edge(node& from, node& to) {
    from.next.push_back(&to);
    to.missing.store(++to.before, std::memory_order_relaxed);
  }
  void run_from(node* n) {
    while (n != nullptr) {
      n->work();
      n->missing.store(n->before, std::memory_order_relaxed);  // for the next run
      node* own = nullptr;
      for (node* next : n->next) {
        if (next->missing.fetch_sub(1) != 1) continue;
        if (own != nullptr) spawn_([this, own] { run_from(own); });
        own = next;
      }
      if (n == &nodes_.back()) done_.store(1);
      n = own;
    }
  }

  std::deque<node> nodes_;
  Spawn spawn_;
  std::atomic<int> done_{0};
};

class flow_graph {
  using node = tbb::flow::continue_node<tbb::flow::continue_msg>;

 public:
  explicit flow_graph(board& b) {
    for (int i = 0; i < nodes; ++i) {
      nodes_.emplace_back(graph_, [&b, i](const tbb::flow::continue_msg& m) { return b.visit(i), m; });
      if (i % side != 0) tbb::flow::make_edge(nodes_[static_cast<std::size_t>(i - 1)], nodes_.back());
      if (i >= side) tbb::flow::make_edge(nodes_[static_cast<std::size_t>(i - side)], nodes_.back());
    }
  }
  void run() {
    nodes_.front().try_put({});
    graph_.wait_for_all();
  }

 private:
  tbb::flow::graph graph_;
  std::deque<node> nodes_;
};

enum class phase { build_and_run, rerun };

/// `make` builds a graph and returns it behind a pointer, `run` runs it.
template <class Make, class Run>
double per_node(phase what, Make make, Run run) {
  board b;
  if (what == phase::build_and_run) {
    const double ns = ns_each(nodes, [&] { run(*make(b)); });
    b.check();
    return ns;
  }
  const auto graph = make(b);
  run(*graph);
  b.check();
  const double ns = ns_each(nodes, [&] { run(*graph); });
  b.check();
  return ns;
}

double ours(pools& p, phase what) {
  const auto make = [](board& b) {
    auto graph = std::make_unique<cadre::task_graph>();
    std::vector<cadre::graph_node> above(side);  // of each column the last that was added
    cadre::graph_node left;
    for (int i = 0; i < nodes; ++i) {
      const cadre::graph_node added = graph->add([&b, i] { b.visit(i); });
      cadre::graph_node& last = above[static_cast<std::size_t>(i % side)];
      if (i % side != 0) left >> added;
      if (i >= side) last >> added;
      left = last = added;
    }
    return graph;
  };
  return per_node(what, make, [&](cadre::task_graph& graph) { graph.run_and_wait(p.ours); });
}

double ours_by_hand(pools& p, phase what) {
  const auto spawn = [&](auto f) { p.ours.post(f); };
  return per_node(
      what, [&](board& b) { return std::make_unique<by_hand<decltype(spawn)>>(b, spawn); },
      [&](auto& graph) {
        graph.run();
        graph.wait();
      });
}

double tbb_by_hand(pools& p, phase what) {
  return p.tbb.with_caller.execute([&] {
    tbb::task_group group;
    const auto spawn = [&](auto f) { group.run(f); };
    return per_node(
        what, [&](board& b) { return std::make_unique<by_hand<decltype(spawn)>>(b, spawn); },
        [&](auto& graph) {
          graph.run();
          group.wait();
          graph.wait();
        });
  });
}

double tbb_flow_graph(pools& p, phase what) {
  return p.tbb.with_caller.execute([&] {
    return per_node(
        what, [](board& b) { return std::make_unique<flow_graph>(b); }, [](flow_graph& g) { g.run(); });
  });
}

}  // namespace

int main() {
  pools p;
  benchmark::print_head();
  for (const phase what : {phase::build_and_run, phase::rerun}) {
    const bool build = what == phase::build_and_run;
    benchmark::measure(build ? "wavefront 316 x 316, build and run" : "wavefront 316 x 316, run again", "ns per node",
                       11,
                       {{"cadre task_graph", [&, what] { return ours(p, what); }},
                        {"oneTBB task_group, counters by hand", [&, what] { return tbb_by_hand(p, what); },
                         benchmark::at_most(build ? 0.24 : 0.27)},
                        {"oneTBB flow graph", [&, what] { return tbb_flow_graph(p, what); }},
                        {"cadre post, counters by hand", [&, what] { return ours_by_hand(p, what); }}});
  }
}
