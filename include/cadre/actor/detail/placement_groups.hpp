#ifndef CADRE_ACTOR_DETAIL_PLACEMENT_GROUPS_HPP
#define CADRE_ACTOR_DETAIL_PLACEMENT_GROUPS_HPP

#include <cadre/actor/detail/bundles.hpp>
#include <cadre/actor/detail/group_layout.hpp>
#include <cadre/actor/detail/job_groups.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/async/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The ranks that bundles can be set aside on, for placement_groups.
class bundle_ranks {
 public:
  using parts = std::vector<bundle_table::part>;
  virtual ~bundle_ranks() = default;

  /// Those that live, with all that they have.
  [[nodiscard]] virtual std::vector<group_layout::rank> all() = 0;
  /// The same with what is free now. If that becomes more later, placement_groups::try_again() is called.
  [[nodiscard]] virtual std::vector<group_layout::rank> free() = 0;
  /// On one rank: all, or, if that cannot be at once, nothing.
  [[nodiscard]] virtual bool set_aside(int rank, std::uint64_t group, const std::string& name, const parts& which) = 0;
  /// What was set aside there a moment ago; nothing uses it yet.
  virtual void take_back(int rank, std::uint64_t group, const parts& which) noexcept = 0;
  /// Those are no more, as the rank has died.
  virtual void lost(int rank, const parts& which) noexcept = 0;
  [[nodiscard]] virtual bool lives(int rank) const noexcept = 0;
  /// Ends the group on all ranks; its bundles were at these, if not nowhere.
  virtual void drop(std::uint64_t group, const std::vector<int>& at, const std::vector<resource_set>& bundles,
                    const std::string& why) noexcept = 0;
  /// Runs it here, or, if it may have to wait for other ranks, on another thread.
  virtual void run(move_only_function<void()> f) = 0;
};

/// The placement groups of a job, on rank 0. They are placed in the order in which they were made, but those of which no
/// earlier one wants any of the same kinds pass by; each is set aside as a whole, on all its ranks, or not at all, so that
/// what waits holds nothing. Bundles that are lost with a rank are placed once more, while the others stay. Thread-safety: all
/// functions, from any thread.
class placement_groups final : public job_groups {
 public:
  /// Where the bundles of a group are, or why they are nowhere.
  struct outcome {
    std::vector<int> ranks = {};
    std::exception_ptr why = nullptr;
  };
  using waiter = move_only_function<void(const outcome&)>;
  /// What is known of a group from its begin.
  struct facts {
    std::string name;
    std::vector<resource_set> bundles;
    template <class Archive>
    void serialize(Archive& archive) {
      archive(name, bundles);
    }
  };

  explicit placement_groups(std::unique_ptr<bundle_ranks> ranks) noexcept : ranks_(std::move(ranks)) {}

  /// Numbers are `first`, and what follows. Throws impossible_request (209).
  std::uint64_t add(placement_group_options o, std::uint64_t first) {
    if (o.bundles.empty()) throw impossible_request("a placement group without bundles; give it one at least");
    if (!can_ever_be(o)) throw impossible_request(too_much(o));
    std::uint64_t number = 0;
    {
      const std::lock_guard lock(mutex_);
      number = first + made_++;
      std::vector<int> nowhere(o.bundles.size(), group_layout::nowhere);
      all_.emplace(number, group{std::move(o), std::move(nowhere), {}});
    }
    try_again();
    return number;
  }
  /// Throws placement_group_gone (617).
  [[nodiscard]] facts find(std::uint64_t number) const {
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(number);
    if (found == all_.end()) std::rethrow_exception(why_gone(number));
    return {found->second.wanted.name, found->second.wanted.bundles};
  }
  /// Calls `tell` when it is placed, here or later, or when it is known that it never will; with no bundle at those ranks,
  /// which have died.
  void when_placed(std::uint64_t number, std::vector<int> not_at, waiter tell) {
    outcome now;
    {
      const std::lock_guard lock(mutex_);
      const auto found = all_.find(number);
      if (found != all_.end() && !found->second.is_placed(not_at)) {
        found->second.waiters.push_back({std::move(not_at), std::move(tell)});
        return;
      }
      if (found != all_.end())
        now.ranks = found->second.ranks;
      else
        now.why = why_gone(number);
    }
    tell(now);
  }
  /// Nothing, if that was done before.
  void remove(std::uint64_t number, const std::string& why = "it was removed") {
    end(number, why, std::make_exception_ptr(placement_group_gone(group_label(number, name_of(number)), why)));
  }

  void lose(int rank) override {
    {
      const std::lock_guard lock(mutex_);
      for (auto& [number, g] : all_) {
        const bundle_ranks::parts there = g.take_from(rank);
        if (!there.empty()) ranks_->lost(rank, there);
      }
    }
    try_again();
  }
  void try_again() override {
    {
      const std::lock_guard lock(mutex_);
      again_ = true;
      if (std::exchange(busy_, true)) return;
    }
    ranks_->run([this] { work(); });
  }
  bool remove_some(const std::string& why) override {
    std::vector<std::uint64_t> numbers;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [number, g] : all_)
        if (g.holds_any()) numbers.push_back(number);
      if (numbers.empty())
        for (const auto& [number, g] : all_) numbers.push_back(number);
    }
    for (const std::uint64_t n : numbers) remove(n, why);
    return !numbers.empty();
  }
  [[nodiscard]] std::size_t waiting() const override {
    const std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(
        std::count_if(all_.begin(), all_.end(), [](const auto& g) { return !g.second.is_placed({}); }));
  }

 private:
  struct waits {
    std::vector<int> not_at;
    waiter tell;
  };
  struct group {
    placement_group_options wanted;
    std::vector<int> ranks;  // by bundle; or nowhere, as yet
    std::vector<waits> waiters;

    [[nodiscard]] bool is_placed(const std::vector<int>& not_at) const {
      return std::none_of(ranks.begin(), ranks.end(), [&](int r) {
        return r == group_layout::nowhere || std::find(not_at.begin(), not_at.end(), r) != not_at.end();
      });
    }
    [[nodiscard]] bool holds_any() const {
      return std::any_of(ranks.begin(), ranks.end(), [](int r) { return r != group_layout::nowhere; });
    }
    bundle_ranks::parts take_from(int rank) {
      bundle_ranks::parts taken;
      for (std::size_t b = 0; b < ranks.size(); ++b) {
        if (ranks[b] != rank) continue;
        ranks[b] = group_layout::nowhere;
        taken.push_back({static_cast<std::uint32_t>(b), wanted.bundles[b]});
      }
      return taken;
    }
  };

  [[nodiscard]] bool can_ever_be(const placement_group_options& o, std::vector<int> at = {}) {
    std::vector<group_layout::rank> all = ranks_->all();
    for (std::size_t b = 0; b < at.size(); ++b) {
      const auto r = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.number == at[b]; });
      if (r == all.end())
        at[b] = group_layout::nowhere;  // it has just died
      else
        static_cast<void>(r->has.take(o.bundles[b]));
    }
    group_layout l(o.bundles, o.strategy, std::move(all), at);
    return l.find() || l.gave_up();
  }
  [[nodiscard]] std::string too_much(const placement_group_options& o) {
    using kind = placement_strategy::kind;
    std::string text = "a placement group of";
    for (std::size_t b = 0; b < o.bundles.size() && b < 16; ++b) text += (b ? ", {" : " {") + o.bundles[b].text() + "}";
    if (o.strategy.what() == kind::strict_pack) text += ", strict_pack";
    if (o.strategy.what() == kind::strict_spread) text += ", strict_spread";
    text += "; this job has ";
    const auto all = ranks_->all();
    for (std::size_t r = 0; r < all.size() && r < 16; ++r)
      text += (r ? "; rank " : "rank ") + std::to_string(all[r].rank) + " on '" + all[r].node + "' " +
              all[r].has.free.text();
    return text;
  }
  // With the mutex held.
  [[nodiscard]] std::exception_ptr why_gone(std::uint64_t number) const {
    const auto found = lost_.find(number);
    return found != lost_.end()
               ? found->second
               : std::make_exception_ptr(placement_group_gone(group_label(number, {}), "it was removed"));
  }
  [[nodiscard]] std::string name_of(std::uint64_t number) const {
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(number);
    return found == all_.end() ? std::string() : found->second.wanted.name;
  }
  void end(std::uint64_t number, const std::string& why, const std::exception_ptr& error) {
    group g;
    {
      const std::lock_guard lock(mutex_);
      const auto found = all_.find(number);
      if (found == all_.end()) return;
      g = std::move(found->second);
      all_.erase(found);
    }
    for (waits& w : g.waiters) w.tell({{}, error});
    ranks_->drop(number, g.ranks, g.wanted.bundles, why);
  }

  // By one thread at a time.
  void work() {
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        if (!std::exchange(again_, false)) {
          busy_ = false;
          return;
        }
      }
      place_all();
    }
  }
  void place_all() {
    struct unplaced {
      std::uint64_t number;
      placement_group_options wanted;
      std::vector<int> at;
    };
    std::vector<unplaced> waiting;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [number, g] : all_)
        if (!g.is_placed({})) waiting.push_back({number, g.wanted, g.ranks});
    }
    if (waiting.empty()) return;
    std::vector<group_layout::rank> free = ranks_->free();
    std::vector<std::string> kept;  // kinds that an earlier one waits for
    for (const auto& [number, wanted, at] : waiting) {
      if (!wants_any(wanted, kept) && place(number, wanted, at, free)) continue;
      if (!can_ever_be(wanted, at)) {  // since a rank has died
        const auto error = std::make_exception_ptr(impossible_request(too_much(wanted)));
        {
          const std::lock_guard lock(mutex_);
          lost_.emplace(number, error);
        }
        end(number, "what it needs was lost with a rank", error);
      }
      for (const resource_set& b : wanted.bundles)
        for (const resource_set::entry& e : b.entries())
          if (e.units != 0) kept.push_back(e.name);
    }
  }
  static bool wants_any(const placement_group_options& wanted, const std::vector<std::string>& kinds) {
    return std::any_of(wanted.bundles.begin(), wanted.bundles.end(), [&](const resource_set& b) {
      return std::any_of(b.entries().begin(), b.entries().end(), [&](const resource_set::entry& e) {
        return e.units != 0 && std::find(kinds.begin(), kinds.end(), e.name) != kinds.end();
      });
    });
  }
  // Those of its bundles that are not there.
  bool place(std::uint64_t number, const placement_group_options& wanted, const std::vector<int>& before,
             std::vector<group_layout::rank>& free) {
    group_layout layout(wanted.bundles, wanted.strategy, free, before);
    if (!layout.find()) return false;
    const std::vector<int> at = layout.result();
    std::map<int, bundle_ranks::parts> parts;
    for (std::size_t b = 0; b < at.size(); ++b)
      if (before[b] == group_layout::nowhere)
        parts[at[b]].push_back({static_cast<std::uint32_t>(b), wanted.bundles[b]});
    for (auto p = parts.begin(); p != parts.end(); ++p) {
      if (ranks_->set_aside(p->first, number, wanted.name, p->second)) continue;
      while (p != parts.begin()) {
        --p;
        ranks_->take_back(p->first, number, p->second);
      }
      return false;
    }
    for (group_layout::rank& r : free)
      if (const auto p = parts.find(r.number); p != parts.end())
        for (const bundle_table::part& b : p->second) static_cast<void>(r.has.take(b.resources));
    settle(number, wanted, parts);
    return true;
  }
  void settle(std::uint64_t number, const placement_group_options& wanted,
              const std::map<int, bundle_ranks::parts>& placed) {
    std::vector<waiter> told;
    std::vector<int> at(wanted.bundles.size(), group_layout::nowhere);
    bool is_there = false;
    {
      const std::lock_guard lock(mutex_);
      const auto found = all_.find(number);
      is_there = found != all_.end();
      if (is_there) at = found->second.ranks;
      for (const auto& [rank, parts] : placed) {
        if (is_there && !ranks_->lives(rank)) {  // lose() may have been before
          ranks_->lost(rank, parts);
          again_ = true;
          continue;
        }
        for (const bundle_table::part& p : parts) at[p.index] = rank;
      }
      if (is_there) {
        group& g = found->second;
        g.ranks = at;
        for (auto w = g.waiters.begin(); w != g.waiters.end();) {
          if (!g.is_placed(w->not_at)) {
            ++w;
            continue;
          }
          told.push_back(std::move(w->tell));
          w = g.waiters.erase(w);
        }
      }
    }
    for (waiter& tell : told) tell({at, nullptr});
    if (!is_there) ranks_->drop(number, at, wanted.bundles, "it was removed");
  }

  const std::unique_ptr<bundle_ranks> ranks_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, group> all_;                // by number, in the order in which they were made
  std::map<std::uint64_t, std::exception_ptr> lost_;  // those that ended with a rank, for who asks later
  std::uint64_t made_ = 0;
  bool busy_ = false, again_ = false;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
