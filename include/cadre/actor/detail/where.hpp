#ifndef CADRE_ACTOR_DETAIL_WHERE_HPP
#define CADRE_ACTOR_DETAIL_WHERE_HPP

#include <cadre/actor/placement.hpp>
#include <cadre/async/resources.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What a task holds that does not say what.
inline const resource_set& one_cpu() {
  static const resource_set one{{"cpu", 1}};
  return one;
}

/// Places that have resources (ranks, or the bundles of a group), and how much of them this rank has spoken for: by what it
/// sent there that is not answered yet, and by the actors that it placed there. Nothing is asked of the places: what others
/// have sent there is not seen. Thread-safety: all functions, from any thread. Cost: reads of two numbers for each place and
/// each name that is wanted.
class places {
 public:
  struct place {
    std::string node;
    resource_set has;
  };
  static constexpr int none = -1;

  explicit places(const std::vector<place>& all) : size_(static_cast<int>(all.size())) {
    for (const place& p : all)
      for (const resource_set::entry& e : p.has.entries())
        if (find(e.name) == kinds_.size()) kinds_.push_back(e.name);
    total_.resize(all.size() * kinds_.size());
    taken_ = std::vector<std::atomic<std::int64_t>>(total_.size());
    std::vector<std::string> nodes;
    std::vector<int> before;  // how many places of its node come before each
    for (std::size_t p = 0; p < all.size(); ++p) {
      for (const resource_set::entry& e : all[p].has.entries()) total_[p * kinds_.size() + find(e.name)] = e.units;
      const auto at = std::find(nodes.begin(), nodes.end(), all[p].node);
      node_of_.push_back(static_cast<int>(at - nodes.begin()));
      if (at == nodes.end()) nodes.push_back(all[p].node);
      before.push_back(static_cast<int>(std::count(node_of_.begin(), node_of_.end() - 1, node_of_.back())));
      by_node_.push_back(static_cast<int>(p));
      across_.push_back(static_cast<int>(p));
    }
    const auto sort = [](std::vector<int>& order, const std::vector<int>& by) {
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return by[index(a)] < by[index(b)]; });
    };
    sort(by_node_, node_of_);
    sort(across_, node_of_);
    sort(across_, before);
  }

  [[nodiscard]] int size() const noexcept { return size_; }
  [[nodiscard]] int node_of(int p) const noexcept { return node_of_[index(p)]; }
  /// Whether the place has that at all.
  [[nodiscard]] bool has(int p, const resource_set& wanted) const noexcept { return share(p, wanted, false) <= 1; }

  /// Where to: of the places that `may(place)` be, and have what is wanted, the one of which the least is spoken for, in turn
  /// where several are equal; `pack`: the first with room, a node after the other; `spread`: in turn over the nodes, then
  /// over the places of each. A place of the node `near`, if it has room, comes before all. `none`: there is no such place.
  template <class May>
  [[nodiscard]] int choose(const resource_set& wanted, placement::kind how, const May& may, int near = none) {
    if (near != none) {
      const auto close = [&](int p) { return node_of_[index(p)] == near && share(p, wanted) <= 1 && may(p); };
      if (const int p = least(wanted, close); p != none) return p;
    }
    if (how == placement::kind::pack)
      for (const int p : by_node_)
        if (share(p, wanted) <= 1 && may(p)) return p;
    if (how == placement::kind::spread) return in_turn(across_, [&](int p) { return has(p, wanted) && may(p); });
    return least(wanted, may);
  }

  void take(int p, const resource_set& what) noexcept { change(p, what, 1); }
  void give_back(int p, const resource_set& what) noexcept { change(p, what, -1); }

 private:
  static std::size_t index(int i) noexcept { return static_cast<std::size_t>(i); }
  [[nodiscard]] std::size_t find(std::string_view kind) const noexcept {
    std::size_t k = 0;
    while (k < kinds_.size() && kinds_[k] != kind) ++k;
    return k;
  }
  // Of the place's own, the largest of all names, once this is there too; infinite if it never has that much.
  [[nodiscard]] double share(int p, const resource_set& wanted, bool beside_others = true) const noexcept {
    double most = 0;
    for (const resource_set::entry& e : wanted.entries()) {
      if (e.units == 0) continue;
      const std::size_t k = find(e.name), at = index(p) * kinds_.size() + k;
      if (k == kinds_.size() || total_[at] < e.units) return std::numeric_limits<double>::infinity();
      const std::int64_t others = beside_others ? taken_[at].load(std::memory_order_relaxed) : 0;
      const double all = static_cast<double>(others) + static_cast<double>(e.units);  // which has room for any sum
      most = std::max(most, all / static_cast<double>(total_[at]));
    }
    return most;
  }
  template <class Can>
  [[nodiscard]] int least(const resource_set& wanted, const Can& can) {
    double best = std::numeric_limits<double>::infinity();
    int chosen = none;
    std::uint32_t equals = 0;
    for (int p = 0; p < size_; ++p) {
      const double s = share(p, wanted);
      if (s > best || (s == best && chosen == none) || !can(p)) continue;
      equals = s < best ? 1 : equals + 1;
      if (s < best) chosen = p;
      best = s;
    }
    if (equals < 2) return chosen;
    std::uint32_t skip = next_.fetch_add(1, std::memory_order_relaxed) % equals;
    for (int p = 0; p < size_; ++p)
      if (share(p, wanted) <= best && can(p) && skip-- == 0) return p;
    return chosen;  // others have taken some meanwhile
  }
  template <class Can>
  [[nodiscard]] int in_turn(const std::vector<int>& order, const Can& can) {
    std::uint32_t n = 0;
    for (const int p : order) n += can(p) ? 1 : 0;
    if (n == 0) return none;
    std::uint32_t skip = next_.fetch_add(1, std::memory_order_relaxed) % n;
    int last = none;
    for (const int p : order)
      if (can(p)) {
        last = p;
        if (skip-- == 0) break;
      }
    return last;
  }
  void change(int p, const resource_set& what, std::int64_t sign) noexcept {
    for (const resource_set::entry& e : what.entries())
      if (const std::size_t k = find(e.name); k != kinds_.size())
        taken_[index(p) * kinds_.size() + k].fetch_add(sign * e.units, std::memory_order_relaxed);
  }

  const int size_;
  std::vector<std::string> kinds_;
  std::vector<std::int64_t> total_;               // by place, then kind
  std::vector<std::atomic<std::int64_t>> taken_;  // likewise
  std::vector<int> node_of_, by_node_, across_;
  std::atomic<std::uint32_t> next_{0};
};

/// What one request has spoken for, until it is answered. Cost: nothing but the counts for one "cpu"; else a copy of what is
/// wanted.
class charge {
 public:
  charge() noexcept = default;
  charge(std::shared_ptr<places> all, int at, const resource_set& wanted)
      : what_(new what{std::move(all), at, wanted.is_ordinary() ? resource_set() : wanted}) {
    what_->all->take(at, what_->resources());
  }
  charge(charge&& other) noexcept = default;
  charge& operator=(charge&& other) noexcept {
    settle();
    what_ = std::move(other.what_);
    return *this;
  }
  ~charge() { settle(); }

  void settle() noexcept {
    if (what_ == nullptr) return;
    what_->all->give_back(what_->at, what_->resources());
    what_ = nullptr;
  }

 private:
  struct what {
    std::shared_ptr<places> all;
    int at;
    resource_set wanted;  // empty: one "cpu"

    [[nodiscard]] const resource_set& resources() const noexcept { return wanted.empty() ? one_cpu() : wanted; }
  };
  std::unique_ptr<what> what_;  // null for calls of actors, which are many
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
