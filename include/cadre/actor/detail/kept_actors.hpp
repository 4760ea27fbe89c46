#ifndef CADRE_ACTOR_DETAIL_KEPT_ACTORS_HPP
#define CADRE_ACTOR_DETAIL_KEPT_ACTORS_HPP

#include <cadre/actor/detail/actor_table.hpp>
#include <cadre/actor/detail/sent_actor.hpp>
#include <cadre/core/function.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Where an actor is by now; why not, if it has died.
struct whereabouts {
  actor_place now;
  std::string why_dead;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(now, why_dead);
  }
};

/// The actors of a job that are made anew when their rank is lost, on rank 0. Thread-safety: all functions, from any thread.
class kept_actors {
 public:
  using waiter = move_only_function<void(const whereabouts&)>;

  /// One that has been made there.
  void add(const actor_place& first, kept_actor how) {
    const std::lock_guard lock(mutex_);
    all_[first] = entry{std::move(how), first};
  }
  void keep_state(const actor_place& first, revival::saved_state state) {
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(first);
    if (found != all_.end() && state.version > found->second.how.how.state.version)
      found->second.how.how.state = std::move(state);
  }
  /// It has ended, as its own rank says.
  void drop(const actor_place& first) {
    settle(first, {{}, "it has ended"});
    const std::lock_guard lock(mutex_);
    all_.erase(first);
  }
  /// It was lost, and is not made anew. Returns its name.
  std::string give_up(const actor_place& first, const std::string& why) {
    settle(first, {{}, why});
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(first);
    return found == all_.end() ? std::string() : std::exchange(found->second.how, {}).how.name;
  }

  /// Calls `tell` when it is known where it is, if not at that rank.
  void ask(const actor_place& first, int not_at, waiter tell) {
    whereabouts answer;
    {
      const std::lock_guard lock(mutex_);
      const auto found = all_.find(first);
      if (found == all_.end()) {
        answer.why_dead = "it has ended";
      } else if (!found->second.why_dead.empty()) {
        answer.why_dead = found->second.why_dead;
      } else if (found->second.is_lost || found->second.now.rank == not_at) {
        found->second.waiters.push_back(std::move(tell));
        return;
      } else {
        answer.now = found->second.now;
      }
    }
    tell(answer);
  }
  /// A rank has died: those that were there.
  [[nodiscard]] std::vector<actor_place> lose(int rank) {
    const std::lock_guard lock(mutex_);
    std::vector<actor_place> lost;
    for (auto& [first, e] : all_)
      if (e.now.rank == rank && !e.is_lost && e.why_dead.empty()) {
        e.is_lost = true;
        lost.push_back(first);
      }
    return lost;
  }
  /// How to make it once more; nothing, if it has been made as often as it may be, or has ended.
  [[nodiscard]] std::optional<kept_actor> again(const actor_place& first) {
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(first);
    if (found == all_.end()) return std::nullopt;
    sent_actor& how = found->second.how.how;
    if (how.most.restarts >= 0 && how.restarts >= how.most.restarts) return std::nullopt;
    ++how.restarts;
    return found->second.how;
  }
  void made(const actor_place& first, const actor_place& now) { settle(first, {now, {}}); }

 private:
  struct entry {
    kept_actor how;
    actor_place now;
    bool is_lost = false;
    std::string why_dead = {};  // those stay, for who asks later
    std::vector<waiter> waiters = {};
  };
  void settle(const actor_place& first, const whereabouts& w) {
    std::vector<waiter> waiters;
    {
      const std::lock_guard lock(mutex_);
      const auto found = all_.find(first);
      if (found == all_.end()) return;
      waiters.swap(found->second.waiters);
      found->second.now = w.now;
      found->second.is_lost = false;
      found->second.why_dead = w.why_dead;
    }
    for (waiter& tell : waiters) tell(w);
  }

  std::mutex mutex_;
  std::map<actor_place, entry> all_;  // by where each was first
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
