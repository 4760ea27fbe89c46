#ifndef CADRE_ASYNC_TASK_GRAPH_HPP
#define CADRE_ASYNC_TASK_GRAPH_HPP

#include <cadre/async/detail/graph_core.hpp>
#include <cadre/async/detail/graph_run.hpp>
#include <cadre/async/thread_pool.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

class task_graph;

/// A node of a task_graph, for naming the ends of edges. Valid as long as the graph is, moved or not.
class graph_node {
 public:
  graph_node() noexcept = default;

 private:
  friend class task_graph;
  /// Has `before` run before `after`, which is returned: `a >> b >> c`. Throws as task_graph::precede().
  friend graph_node operator>>(graph_node before, graph_node after) {
    if (before.graph_ == nullptr || before.graph_ != after.graph_) throw foreign_node();
    before.graph_->add_edge(before.index_, after.index_);
    return after;
  }
  graph_node(detail::graph_core* g, std::uint32_t i) noexcept : graph_(g), index_(i) {}

  detail::graph_core* graph_ = nullptr;
  std::uint32_t index_ = 0;
};

/// Functions and which of them come before which: built once, run as often as one likes.
///
///     cadre::task_graph graph;
///     auto load = graph.add([&] { ... }, "load");
///     auto left = graph.add([&] { ... });
///     auto right = graph.add([&] { ... });
///     load >> left, load >> right;
///     graph.run(pool).get();
///
/// A node is run once all nodes before it have been. One that throws has the nodes behind it skipped, the others are run;
/// the error is thrown by the future of the run (of several, that of the node that was added first; the pool's handler of
/// unobserved errors gets the rest). Cancelling that future skips what has not begun. What nodes submit are children of the
/// run: cancelled with it, not waited for.
///
/// Cost: a node takes 64 bytes, and an allocation if its function is larger than 40 bytes; an edge takes 8, but none the
/// first that leads from a node. A run allocates nothing else than its future. Thread-safety: one thread at a time; a graph
/// that runs cannot be changed, nor run a second time. Destruction waits for the run. A graph that was moved from can only be
/// assigned to or destroyed.
class task_graph {
 public:
  task_graph() : core_(std::make_unique<detail::graph_core>()) {}
  task_graph(task_graph&&) noexcept = default;
  task_graph& operator=(task_graph&& other) noexcept {
    const task_graph old(std::move(*this));
    core_ = std::move(other.core_);
    return *this;
  }
  ~task_graph() {
    if (core_ == nullptr || !core_->last_run) return;
    try {
      static_cast<void>(detail::wait_for_task(*core_->last_run));
    } catch (...) {
      // In one of its own nodes, or in a child of fork(): no waiting, but nodes that run keep what they use.
      static_cast<void>(core_.release());
    }
  }

  /// `f()` is called once in each run; what it returns is dropped. The name, if any, is said in errors and in dot(). Throws
  /// graph_is_running (221).
  template <class F>
    requires std::is_invocable_v<std::decay_t<F>&>
  graph_node add(F&& f, std::string_view name = {}) {
    return {core_.get(), core_->add(std::forward<F>(f), name)};
  }

  /// Has `before` run before `after`; the same as `before >> after`. Throws graph_is_running (221), foreign_node (223).
  void precede(graph_node before, graph_node after) {
    if (before.graph_ != core_.get() || after.graph_ != core_.get()) throw foreign_node();
    core_->add_edge(before.index_, after.index_);
  }

  /// Nodes.
  [[nodiscard]] std::size_t size() const noexcept { return core_->size(); }

  /// Runs all nodes on the pool. Throws graph_cycle (220), graph_is_running (221), forked_process (207).
  future<void> run(thread_pool& pool, std::source_location at = std::source_location::current()) {
    detail::scheduler& s = detail::scheduler_of(pool);
    core_->check_idle("run()");
    core_->seal();
    auto* const t = new detail::graph_run(*core_, s.id(), at);
    core_->last_run = detail::task_ref<detail::task>(t);
    detail::task_ref<detail::state<void>> result(t);
    s.push(t);
    return detail::future_access::make<void>(std::move(result));
  }
  /// The same, and waits; inside a task of the pool by taking part.
  void run_and_wait(thread_pool& pool, std::source_location at = std::source_location::current()) {
    run(pool, at).get();
  }

  /// The graph in the language of Graphviz: `dot -Tsvg`.
  [[nodiscard]] std::string dot() const { return core_->dot(); }

 private:
  std::unique_ptr<detail::graph_core> core_;
};

CADRE_NAMESPACE_END

#endif
