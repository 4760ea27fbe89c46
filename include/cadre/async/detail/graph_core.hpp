#ifndef CADRE_ASYNC_DETAIL_GRAPH_CORE_HPP
#define CADRE_ASYNC_DETAIL_GRAPH_CORE_HPP

#include <cadre/async/detail/task.hpp>
#include <cadre/async/error.hpp>
#include <cadre/config/config.hpp>

#include <atomic>
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
  std::uint32_t first = 0;  // of its successors in the common array
  std::uint32_t successors = 0;
};
static_assert(sizeof(graph_node) == 64);

/// Nodes and edges. Nodes lie in blocks that never move; the successors of all of them in one array, made by seal().
class graph_core {
 public:
  graph_core() = default;
  graph_core(const graph_core&) = delete;
  graph_core& operator=(const graph_core&) = delete;
  ~graph_core() {
    if (needs_destruction_)
      for (std::uint32_t i = 0; i < size_; ++i) node(i).~graph_node();
    for (void* b : blocks_) ::operator delete(b, std::align_val_t{alignof(graph_node)});
  }

  /// Throws graph_is_running (221).
  void check_idle(const char* call) const {
    if (last_run && !last_run->done()) throw graph_is_running(call);
  }

  template <class F>
  std::uint32_t add(F&& f, std::string_view name) {
    check_idle("add()");
    if (size_ % block == 0 && size_ / block == blocks_.size()) add_block();
    if (!name.empty()) names_.emplace_back(size_, name);
    ::new (static_cast<void*>(blocks_[size_ / block] + size_ % block)) graph_node(std::forward<F>(f));
    if constexpr (graph_node::needs_destruction<std::decay_t<F>>) needs_destruction_ = true;
    sealed_ = false;
    return size_++;
  }
  void add_edge(std::uint32_t from, std::uint32_t to) {
    check_idle("precede()");
    edges_.push_back({from, to});
    ++node(from).successors;
    ++node(to).predecessors;
    if (from >= to) forward_only_ = false;
    sealed_ = false;
  }

  task_ref<task> last_run;

  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] graph_node& node(std::uint32_t i) const noexcept { return blocks_[i / block][i % block]; }
  [[nodiscard]] const std::uint32_t* successors(const graph_node& n) const noexcept {
    return successors_.get() + n.first;
  }
  [[nodiscard]] const std::vector<std::uint32_t>& sources() const noexcept { return sources_; }
  [[nodiscard]] std::uint32_t sinks() const noexcept { return sinks_; }

  /// False if nothing has changed since. Throws graph_cycle (220).
  bool seal() {
    if (sealed_) return false;
    successors_.reset(new std::uint32_t[edges_.size() + 1]);
    sources_.clear();
    sinks_ = 0;
    std::uint32_t end = 0;
    for (std::uint32_t i = 0; i < size_; ++i) {
      graph_node& n = node(i);
      n.first = end += n.successors;
      n.open.store(n.predecessors, std::memory_order_relaxed);
      if (n.predecessors == 0) sources_.push_back(i);
      if (n.successors == 0) ++sinks_;
    }
    for (std::size_t e = edges_.size(); e-- > 0;) successors_[--node(edges_[e].from).first] = edges_[e].to;
    if (!forward_only_) check_for_cycle();  // edges that all lead to later nodes close no circle
    sealed_ = true;
    return true;
  }

  [[nodiscard]] std::string describe(std::uint32_t i) const {
    const std::string* const n = name(i);
    return n != nullptr ? "'" + *n + "'" : "node " + std::to_string(i);
  }

  [[nodiscard]] std::string dot() const {
    std::string text = "digraph {\n";
    for (std::uint32_t i = 0; i < size_; ++i) {
      text += "  n" + std::to_string(i) + " [label=\"";
      const std::string* const n = name(i);
      for (const char c : n != nullptr ? *n : std::to_string(i)) {
        if (c == '"' || c == '\\') text += '\\';
        text += c;
      }
      text += "\"];\n";
    }
    for (const edge& e : edges_) text += "  n" + std::to_string(e.from) + " -> n" + std::to_string(e.to) + ";\n";
    return text + "}\n";
  }

 private:
  static constexpr std::uint32_t block = 256;
  struct edge {
    std::uint32_t from, to;
  };

  void add_block() {
    blocks_.reserve(blocks_.size() + 1 > blocks_.capacity() ? 2 * blocks_.size() + 1 : blocks_.capacity());
    blocks_.push_back(
        static_cast<graph_node*>(::operator new(block * sizeof(graph_node), std::align_val_t{alignof(graph_node)})));
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
    std::vector<std::uint32_t> open(size_);
    for (std::uint32_t i = 0; i < size_; ++i) open[i] = node(i).predecessors;
    std::vector<std::uint32_t> free = sources_;
    while (!free.empty()) {
      const graph_node& n = node(free.back());
      free.pop_back();
      for (std::uint32_t k = 0; k < n.successors; ++k)
        if (const std::uint32_t s = successors(n)[k]; --open[s] == 0) free.push_back(s);
    }
    std::vector<std::uint32_t> before(size_, size_);  // of each that was left a predecessor that was left too
    std::uint32_t at = size_;
    for (const edge& e : edges_)
      if (open[e.from] != 0 && open[e.to] != 0) before[at = e.to] = e.from;
    if (at == size_) return;
    for (std::uint32_t i = 0; i < size_; ++i) at = before[at];  // by now certainly in a cycle
    std::string path = describe(at);
    std::size_t shown = 1;
    for (std::uint32_t i = before[at]; i != at; i = before[i])
      if (++shown <= 16) path = describe(i) + " -> " + path;
    throw graph_cycle((shown > 16 ? "... -> " : describe(at) + " -> ") + path, shown);
  }

  std::vector<graph_node*> blocks_;
  std::vector<edge> edges_;
  std::vector<std::pair<std::uint32_t, std::string>> names_;  // by rising index
  std::unique_ptr<std::uint32_t[]> successors_;
  std::vector<std::uint32_t> sources_;
  std::uint32_t size_ = 0;
  std::uint32_t sinks_ = 0;
  bool needs_destruction_ = false;
  bool forward_only_ = true;
  bool sealed_ = false;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
