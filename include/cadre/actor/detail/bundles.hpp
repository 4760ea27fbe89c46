#ifndef CADRE_ACTOR_DETAIL_BUNDLES_HPP
#define CADRE_ACTOR_DETAIL_BUNDLES_HPP

#include <cadre/actor/detail/actor_table.hpp>
#include <cadre/actor/detail/group_layout.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/actor/placement.hpp>
#include <cadre/async/detail/cancel.hpp>
#include <cadre/async/detail/configured_task.hpp>
#include <cadre/core/function.hpp>

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

/// For texts.
inline std::string group_label(std::uint64_t group, const std::string& name) {
  return "the placement group " +
         (name.empty() ? "of number " + std::to_string(static_cast<std::uint32_t>(group)) : "'" + name + "'");
}

/// The bundles of placement groups that lie on this rank: each is a ledger of its own, of which its tasks and actors take, and
/// which holds its resources of the rank's ledger. Thread-safety: all functions, from any thread.
class bundle_table {
 public:
  using ledger = std::shared_ptr<resource_ledger<>>;
  struct part {
    std::uint32_t index = 0;
    resource_set resources = {};
    template <class Archive>
    void serialize(Archive& archive) {
      archive(index, resources);
    }
  };

  explicit bundle_table(actor_table& actors) noexcept : actors_(actors) {}
  /// What this rank has. Before all else.
  void begin(ledger of_rank) noexcept { of_rank_ = std::move(of_rank); }

  /// Bundles that will be set aside later: what is to run in them waits.
  void expect(std::uint64_t group, const std::string& name, const std::vector<part>& parts) {
    const std::lock_guard lock(mutex_);
    for (const part& p : parts)
      all_.try_emplace({group, p.index}, bundle{std::make_shared<resource_ledger<>>(resource_ledger<>::part{
                                                    p.resources, "this bundle of " + group_label(group, name),
                                                    "Ask for less, or give the bundle more"}),
                                                nullptr, name, p.resources});
  }
  /// Sets all of them aside if that can be now, or none. One that is set aside already stays as it is.
  [[nodiscard]] bool set_aside(std::uint64_t group, const std::string& name, const std::vector<part>& parts) {
    std::vector<std::shared_ptr<share>> shares;
    for (const part& p : parts) shares.push_back(of_rank_->ask(p.resources, nullptr));
    if (!of_rank_->take_all(shares)) return false;
    expect(group, name, parts);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      ledger filled;
      {
        const std::lock_guard lock(mutex_);
        const auto found = all_.find({group, parts[i].index});
        if (found != all_.end() && found->second.held == nullptr) {
          found->second.held = shares[i];
          filled = found->second.own;
        }
      }
      if (filled)
        filled->fill(*shares[i], start_granted);
      else  // removed meanwhile, or there already
        of_rank_->leave(shares[i], start_granted);
    }
    return true;
  }
  /// Ends them: what waits in them fails, what runs is asked to stop, actors are killed. The rank has their resources again
  /// when all that has ended. `only`: those, if there are any; `quietly`: who waits for more is not told.
  void drop(std::uint64_t group, const std::string& why, const std::vector<std::uint32_t>& only = {},
            bool quietly = false) {
    std::vector<bundle> mine;
    {
      const std::lock_guard lock(mutex_);
      for (auto b = all_.lower_bound({group, 0}); b != all_.end() && b->first.first == group;) {
        if (!only.empty() && std::find(only.begin(), only.end(), b->first.second) == only.end()) {
          ++b;
          continue;
        }
        mine.push_back(std::move(b->second));
        b = all_.erase(b);
      }
    }
    for (const bundle& b : mine) {
      const placement_group_gone gone(group_label(group, b.name), why);
      b.own->close(
          std::make_exception_ptr(gone), [](task& t) { static_cast<void>(cancel(t)); },
          [from = of_rank_, held = b.held, quietly] {
            if (held != nullptr) static_cast<void>(from->leave(held, start_granted, quietly));
          });
      static_cast<void>(actors_.end_all_of(b.own.get(), gone.what()));
    }
  }

  /// Of which ledger a task or an actor takes that is to be there: of a bundle, or of any with room. Throws
  /// placement_group_gone (617), empty_placement_group (618), impossible_request (209).
  [[nodiscard]] ledger find(const placement& on, const resource_set& wanted) {
    const std::lock_guard lock(mutex_);
    const auto from = all_.lower_bound({on.group(), 0}), to = all_.lower_bound({on.group() + 1, 0});
    if (from == to) throw placement_group_gone(group_label(on.group(), {}), "it was removed");
    if (on.bundle() != placement::any_bundle) {
      const auto found = all_.find({on.group(), static_cast<std::uint32_t>(on.bundle())});
      if (found == all_.end())
        throw empty_placement_group("bundle " + std::to_string(on.bundle()) + " of " +
                                    group_label(on.group(), from->second.name) + ", which has it not here");
      return found->second.own;
    }
    std::vector<ledger> can;
    for (auto b = from; b != to; ++b) {
      if (!room::of(b->second.resources).take(wanted)) continue;
      can.push_back(b->second.own);
      if (b->second.own->has_now(*b->second.own->ask(wanted, nullptr))) return can.back();
    }
    if (can.empty()) throw impossible_request(too_much(wanted, from->second.name, on.group()));
    return can[next_++ % can.size()];
  }
  static std::string too_much(const resource_set& wanted, const std::string& name, std::uint64_t group) {
    return wanted.text() + "; no bundle of " + group_label(group, name) +
           " has that. Ask for less, or give a bundle more";
  }

  /// What the rank has free; `when_more`: see resource_ledger.
  [[nodiscard]] room look(move_only_function<void()> when_more) {
    room r;
    r.free = of_rank_->look(r.gpus, std::move(when_more));
    return r;
  }
  /// Nobody is told of more any longer.
  void end() { static_cast<void>(look({})); }
  /// How many tasks and actors wait for resources.
  [[nodiscard]] std::size_t waiting() const {
    const std::lock_guard lock(mutex_);
    std::size_t n = of_rank_ != nullptr ? of_rank_->waiting() : 0;
    for (const auto& [key, b] : all_) n += b.own->waiting();
    return n;
  }

 private:
  using share = holding<resource_set>;
  struct bundle {
    ledger own;
    std::shared_ptr<share> held;  // of the rank's; null: not yet
    std::string name;             // of the group
    resource_set resources;
  };

  actor_table& actors_;
  ledger of_rank_;
  mutable std::mutex mutex_;
  std::map<std::pair<std::uint64_t, std::uint32_t>, bundle> all_;  // by group and place in it
  std::size_t next_ = 0;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
