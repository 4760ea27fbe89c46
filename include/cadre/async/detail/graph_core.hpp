#ifndef CADRE_ASYNC_DETAIL_GRAPH_CORE_HPP
#define CADRE_ASYNC_DETAIL_GRAPH_CORE_HPP

#include <cadre/async/detail/huge_pages.hpp>
#include <cadre/async/detail/task.hpp>
#include <cadre/async/error.hpp>
#include <cadre/config/config.hpp>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// One node of a task graph, a cache line. Small functions lie inside.
struct alignas(64) graph_node {
  enum class action : std::uint8_t { call, destroy };
  static constexpr std::size_t room = 40;
  static constexpr std::uint32_t skip = std::uint32_t{1} << 31;  // in `open`: a predecessor has failed or was skipped
  static constexpr std::uint32_t count = skip - 1;
  static constexpr std::uint32_t none = count;

  template <class Function>
  static constexpr bool fits = sizeof(Function) <= room && alignof(Function) <= alignof(void*);
  template <class Function>
  static constexpr bool needs_destruction = !fits<Function> || !std::is_trivially_destructible_v<Function>;

  template <class F>
  explicit graph_node(F&& f) {
    using function = std::decay_t<F>;
    if constexpr (fits<function>) {
      ::new (static_cast<void*>(storage)) function(std::forward<F>(f));
      act = [](graph_node& n, action a) {
        function& g = *std::launder(reinterpret_cast<function*>(n.storage));
        a == action::call ? static_cast<void>(g()) : g.~function();
      };
    } else {
      ::new (static_cast<void*>(storage)) function*(new function(std::forward<F>(f)));
      act = [](graph_node& n, action a) {
        function* const g = *std::launder(reinterpret_cast<function**>(n.storage));
        a == action::call ? static_cast<void>((*g)()) : delete g;
      };
    }
  }
  graph_node(const graph_node&) = delete;
  graph_node& operator=(const graph_node&) = delete;
  ~graph_node() { act(*this, action::destroy); }

  void (*act)(graph_node&, action);
  std::byte storage[room];
  /// Predecessors that are not done, in a run. Of a node that is ready, until it is run, the link of a list.
  std::atomic<std::uint32_t> open{0};
  std::uint32_t predecessors = 0;
  /// What is mostly run next: without another place in memory to wait for.
  std::uint32_t first_successor = none;
  std::uint32_t last_edge = none;  // to the last of the further successors, of which there may be none
};
static_assert(sizeof(graph_node) == 64);

/// An edge to one of the further successors of a node, linked in a ring in the order in which they were added.
struct graph_edge {
  std::uint32_t to;
  std::uint32_t next;
};

/// Nodes and edges, in blocks that never move.
class graph_core {
 public:
  graph_core() = default;
  graph_core(const graph_core&) = delete;
  graph_core& operator=(const graph_core&) = delete;
  ~graph_core() {
    if (needs_destruction_)
      for (std::uint32_t i = 0; i < size(); ++i) node(i).~graph_node();
  }

  /// Throws graph_is_running (221).
  void check_idle(const char* call) const {
    if (last_run && !last_run->done()) throw graph_is_running(call);
  }

  template <class F>
  std::uint32_t add(F&& f, std::string_view name) {
    check_idle("add()");
    if (!name.empty()) names_.emplace_back(size(), name);
    nodes_.emplace_back(memory_, std::forward<F>(f));
    if constexpr (graph_node::needs_destruction<std::decay_t<F>>) needs_destruction_ = true;
    if (size() > 64 * has_predecessor_.size()) {
      has_predecessor_.push_back(0);
      has_successor_.push_back(0);
    }
    sealed_ = false;
    return size() - 1;
  }
  void add_edge(std::uint32_t from, std::uint32_t to) {
    check_idle("precede()");
    graph_node& n = node(from);
    if (n.first_successor == graph_node::none)
      n.first_successor = to;
    else
      add_further(n, to);
    node(to).open.store(++node(to).predecessors, std::memory_order_relaxed);
    has_successor_[from / 64] |= std::uint64_t{1} << from % 64;
    has_predecessor_[to / 64] |= std::uint64_t{1} << to % 64;
    if (from >= to) forward_only_ = false;
    sealed_ = false;
  }

  task_ref<task> last_run;

  [[nodiscard]] std::uint32_t size() const noexcept { return nodes_.size(); }
  [[nodiscard]] graph_node& node(std::uint32_t i) const noexcept { return nodes_[i]; }
  /// Calls `f(index)` for each, in the order in which they were added. Touches nothing of the graph after the last call.
  template <class F>
  void for_each_successor(const graph_node& n, F f) const {
    const std::uint32_t last = n.last_edge;
    if (n.first_successor != graph_node::none) f(n.first_successor);
    if (last == graph_node::none) return;
    for (std::uint32_t e = edges_[last].next, next = 0;; e = next) {
      next = edges_[e].next;
      f(edges_[e].to);
      if (e == last) return;
    }
  }
  [[nodiscard]] const std::vector<std::uint32_t>& sources() const noexcept { return sources_; }
  [[nodiscard]] std::uint32_t sinks() const noexcept { return sinks_; }

  /// Finds sources and sinks. Throws graph_cycle (220).
  void seal() {
    if (sealed_) return;
    sources_.clear();
    sinks_ = 0;
    for (std::size_t i = 0; i < has_predecessor_.size(); ++i) {
      const std::size_t left = size() - 64 * i;
      const std::uint64_t all = left < 64 ? (std::uint64_t{1} << left) - 1 : ~std::uint64_t{0};
      for (std::uint64_t without = all & ~has_predecessor_[i]; without != 0; without &= without - 1)
        sources_.push_back(static_cast<std::uint32_t>(64 * i) + static_cast<std::uint32_t>(std::countr_zero(without)));
      sinks_ += static_cast<std::uint32_t>(std::popcount(all & ~has_successor_[i]));
    }
    if (!forward_only_) check_for_cycle();  // edges that all lead to later nodes close no circle
    sealed_ = true;
  }

  [[nodiscard]] std::string describe(std::uint32_t i) const {
    const std::string* const n = name(i);
    return n != nullptr ? "'" + *n + "'" : "node " + std::to_string(i);
  }

  [[nodiscard]] std::string dot() const {
    std::string text = "digraph {\n";
    for (std::uint32_t i = 0; i < size(); ++i) {
      text += "  n" + std::to_string(i) + " [label=\"";
      const std::string* const n = name(i);
      for (const char c : n != nullptr ? *n : std::to_string(i)) {
        if (c == '"' || c == '\\') text += '\\';
        text += c;
      }
      text += "\"];\n";
    }
    for (std::uint32_t i = 0; i < size(); ++i)
      for_each_successor(
          node(i), [&](std::uint32_t s) { text += "  n" + std::to_string(i) + " -> n" + std::to_string(s) + ";\n"; });
    return text + "}\n";
  }

 private:
  void add_further(graph_node& n, std::uint32_t to) {
    const std::uint32_t added = edges_.size();
    const bool alone = n.last_edge == graph_node::none;
    edges_.emplace_back(memory_, to, alone ? added : edges_[n.last_edge].next);
    if (!alone) edges_[n.last_edge].next = added;
    n.last_edge = added;
  }

  [[nodiscard]] const std::string* name(std::uint32_t i) const noexcept {
    std::size_t low = 0;
    std::size_t high = names_.size();
    while (low < high) {
      const std::size_t middle = (low + high) / 2;
      names_[middle].first < i ? low = middle + 1 : high = middle;
    }
    return low < names_.size() && names_[low].first == i ? &names_[low].second : nullptr;
  }

  // A. B. Kahn, "Topological sorting of large networks", 1962: what is never free of predecessors is in a cycle or behind
  // one.
  void check_for_cycle() {
    std::vector<std::uint32_t> open(size());
    for (std::uint32_t i = 0; i < size(); ++i) open[i] = node(i).predecessors;
    std::vector<std::uint32_t> free = sources_;
    while (!free.empty()) {
      const graph_node& n = node(free.back());
      free.pop_back();
      for_each_successor(n, [&](std::uint32_t s) {
        if (--open[s] == 0) free.push_back(s);
      });
    }
    std::vector<std::uint32_t> before(size(), size());  // of each that was left a predecessor that was left too
    std::uint32_t at = size();
    for (std::uint32_t i = 0; i < size(); ++i)
      for_each_successor(node(i), [&](std::uint32_t s) {
        if (open[i] != 0 && open[s] != 0) before[at = s] = i;
      });
    if (at == size()) return;
    for (std::uint32_t i = 0; i < size(); ++i) at = before[at];  // by now certainly in a cycle
    std::string path = describe(at);
    std::size_t shown = 1;
    for (std::uint32_t i = before[at]; i != at; i = before[i])
      if (++shown <= 16) path = describe(i) + " -> " + path;
    throw graph_cycle((shown > 16 ? "... -> " : describe(at) + " -> ") + path, shown);
  }

  growing_memory memory_;
  block_list<graph_node, 256> nodes_;
  block_list<graph_edge, 2048> edges_;
  std::vector<std::uint64_t> has_predecessor_;  // a bit each
  std::vector<std::uint64_t> has_successor_;
  std::vector<std::pair<std::uint32_t, std::string>> names_;  // by rising index
  std::vector<std::uint32_t> sources_;
  std::uint32_t sinks_ = 0;
  bool needs_destruction_ = false;
  bool forward_only_ = true;
  bool sealed_ = false;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
