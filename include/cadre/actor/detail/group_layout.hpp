#ifndef CADRE_ACTOR_DETAIL_GROUP_LAYOUT_HPP
#define CADRE_ACTOR_DETAIL_GROUP_LAYOUT_HPP

#include <cadre/actor/placement.hpp>
#include <cadre/async/resources.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What a rank has free, as it says to who lays out bundles.
struct room {
  resource_set free;
  std::vector<std::int64_t> gpus = {};  ///< what is free of each

  template <class Archive>
  void serialize(Archive& archive) {
    archive(free, gpus);
  }
  /// Of all that a rank has.
  static room of(const resource_set& all) {
    room r{all};
    if (const resource_set::entry* const g = all.find("gpu"))
      r.gpus.assign(static_cast<std::size_t>(g->units / resource_set::one), resource_set::one);
    return r;
  }
  /// Counts that off, as a ledger does. False, and nothing changes, if there is not so much.
  [[nodiscard]] bool take(const resource_set& wanted) {
    std::vector<std::size_t> devices;
    for (const resource_set::entry& e : wanted.entries()) {
      if (e.units == 0) continue;
      const resource_set::entry* const there = free.find(e.name);
      if (there == nullptr || there->units < e.units || (e.name == "gpu" && !choose(e.units, devices))) return false;
    }
    for (const resource_set::entry& e : wanted.entries()) {
      if (e.units == 0) continue;
      free.set(e.name, free.find(e.name)->units - e.units);
      if (e.name == "gpu")
        for (const std::size_t d : devices) gpus[d] -= std::min(e.units, resource_set::one);
    }
    return true;
  }

 private:
  [[nodiscard]] bool choose(std::int64_t wanted, std::vector<std::size_t>& devices) const {
    if (wanted < resource_set::one) {
      std::size_t best = gpus.size();
      for (std::size_t d = 0; d < gpus.size(); ++d)
        if (gpus[d] >= wanted && (best == gpus.size() || gpus[d] < gpus[best])) best = d;
      if (best != gpus.size()) devices.push_back(best);
      return best != gpus.size();
    }
    if (wanted % resource_set::one != 0) return false;
    const auto needed = static_cast<std::size_t>(wanted / resource_set::one);
    for (std::size_t d = 0; d < gpus.size() && devices.size() < needed; ++d)
      if (gpus[d] == resource_set::one) devices.push_back(d);
    return devices.size() == needed;
  }
};

/// Looks for a rank for each bundle of a placement group: the large bundles first, each where its strategy likes best, and
/// goes back where the next has no place. Cost: mostly one step for each bundle; at most 20,000.
class group_layout {
 public:
  struct rank {
    int number;
    int rank;  // as users call it
    std::string node;
    room has;
  };

  static constexpr int nowhere = -1;

  /// `at`: the numbers of the ranks where bundles are already, and stay; those are not among what the ranks have.
  group_layout(const std::vector<resource_set>& bundles, placement_strategy how, std::vector<rank> ranks,
               const std::vector<int>& at = {})
      : bundles_(bundles), how_(how.what()), ranks_(std::move(ranks)), bundles_on_(ranks_.size()) {
    at_.resize(bundles.size());
    for (std::size_t b = 0; b < bundles.size(); ++b) {
      if (at.empty() || at[b] == nowhere)
        order_.push_back(b);
      else
        stay(b, at[b]);
    }
    std::stable_sort(order_.begin(), order_.end(),
                     [&](std::size_t a, std::size_t b) { return size_of(bundles[a]) > size_of(bundles[b]); });
  }

  [[nodiscard]] bool find() { return !is_lost_ && find_from(0); }
  /// After find(): true if it did not look everywhere.
  [[nodiscard]] bool gave_up() const noexcept { return steps_ >= most_steps; }
  /// After find(), for each bundle its rank.
  [[nodiscard]] std::vector<int> result() const {
    std::vector<int> numbers;
    for (const std::size_t r : at_) numbers.push_back(ranks_[r].number);
    return numbers;
  }

 private:
  static constexpr int most_steps = 20'000;
  using kind = placement_strategy::kind;

  // As double, in which the sum of what is asked for at most has room.
  static std::pair<double, double> size_of(const resource_set& b) {
    double gpus = 0, others = 0;
    for (const resource_set::entry& e : b.entries())
      (e.name == "gpu" ? gpus : others) += e.name == "memory" ? 0 : static_cast<double>(e.units);
    return {gpus, others};
  }
  void stay(std::size_t b, int number) {
    const auto r = std::find_if(ranks_.begin(), ranks_.end(), [&](const rank& one) { return one.number == number; });
    if (r == ranks_.end()) {
      is_lost_ = true;
      return;
    }
    at_[b] = static_cast<std::size_t>(r - ranks_.begin());
    ++bundles_on_[at_[b]];
    ++staying_;
  }
  [[nodiscard]] int on_node(const std::string& node) const {
    int n = 0;
    for (std::size_t r = 0; r < ranks_.size(); ++r)
      if (ranks_[r].node == node) n += bundles_on_[r];
    return n;
  }
  // The best first.
  [[nodiscard]] std::vector<std::size_t> candidates(std::size_t placed) const {
    std::vector<std::pair<std::pair<int, int>, std::size_t>> all;
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      const int there = on_node(ranks_[r].node);
      if (how_ == kind::strict_spread && there != 0) continue;
      if (how_ == kind::strict_pack && placed != 0 && there == 0) continue;
      const bool apart = how_ == kind::spread || how_ == kind::strict_spread;
      all.push_back({apart ? std::pair(there, bundles_on_[r]) : std::pair(-there, -bundles_on_[r]), r});
    }
    std::sort(all.begin(), all.end());
    std::vector<std::size_t> order;
    for (const auto& [how, r] : all) order.push_back(r);
    return order;
  }
  [[nodiscard]] bool find_from(std::size_t i) {
    if (i == order_.size()) return true;
    for (const std::size_t r : candidates(staying_ + i)) {
      if (++steps_ >= most_steps) return false;
      const room before = ranks_[r].has;
      if (!ranks_[r].has.take(bundles_[order_[i]])) continue;
      ++bundles_on_[r];
      at_[order_[i]] = r;
      if (find_from(i + 1)) return true;
      --bundles_on_[r];
      ranks_[r].has = before;
    }
    return false;
  }

  const std::vector<resource_set>& bundles_;
  const kind how_;
  std::vector<rank> ranks_;
  std::vector<int> bundles_on_;     // by rank
  std::vector<std::size_t> order_;  // of the bundles
  std::vector<std::size_t> at_;     // by bundle
  std::size_t staying_ = 0;
  bool is_lost_ = false;  // a rank where one stays
  int steps_ = 0;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
