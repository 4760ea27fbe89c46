#ifndef CADRE_ACTOR_DETAIL_ACTOR_TABLE_HPP
#define CADRE_ACTOR_DETAIL_ACTOR_TABLE_HPP

#include <cadre/actor/detail/actor_cell.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/core/function.hpp>

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <typeinfo>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Which actor of this process: its cell, and which one of that it is.
struct actor_address {
  std::uint32_t cell = 0;
  std::uint32_t generation = 0;  // 0: none
  friend bool operator==(const actor_address&, const actor_address&) = default;
};

/// Where in the job an actor is, or was made first: by that it is known for good.
struct actor_place {
  int rank = 0;
  actor_address at;
  std::int32_t task_retries = never_anew;
  static constexpr std::int32_t never_anew = -2;  ///< -1: any number

  [[nodiscard]] bool may_move() const noexcept { return task_retries != never_anew; }
  friend bool operator==(const actor_place&, const actor_place&) = default;
  friend bool operator<(const actor_place& a, const actor_place& b) noexcept {
    return std::tie(a.rank, a.at.cell, a.at.generation) < std::tie(b.rank, b.at.cell, b.at.generation);
  }
};

/// The first of the names in a map, for a text: "'a', 'b', ...".
template <class Map>
std::string list_of_names(const Map& by_name) {
  std::string list;
  for (const auto& [name, who] : by_name) {
    if (list.size() > 200) return list += ", ...";
    list.append(list.empty() ? "'" : ", '").append(name).append("'");
  }
  return list;
}

/// The actors of one process, and their names. Never destroyed, but used again by another runtime: who waited for a call may
/// still be about to leave when the runtime has ended. Thread-safety: all functions, from any thread.
class actor_table {
 public:
  actor_table() = default;
  actor_table(const actor_table&) = delete;
  actor_table& operator=(const actor_table&) = delete;

  struct named {
    actor_address where;
    const std::type_info* type;
  };

  /// A cell for an actor that is to be made; `anew` says how it is made anew, if it may be.
  actor_address add(const std::type_info& type, pool_id pool, const std::string& label, std::uint32_t most_at_once,
                    std::size_t most_pending, std::unique_ptr<revival> anew = nullptr) {
    const std::lock_guard lock(mutex_);
    for (std::size_t looks = 0; looks < ended_.size() && looks < 8;
         ++looks) {  // most have gone when they are looked at
      std::uint32_t& next = ended_[next_look_++ % ended_.size()];
      const std::uint32_t i = next;
      const std::uint32_t generation = (*this)[i].begin(type, pool, label, most_at_once, most_pending, anew);
      if (generation == 0) continue;
      next = ended_.back();
      ended_.pop_back();
      return {i, generation};
    }
    const std::uint32_t i = begun_;
    if (ended_.capacity() <= i)
      ended_.reserve(2 * std::size_t{i} + smallest);  // so that the end of an actor asks for no memory
    std::atomic<actor_cell*>& chunk = chunks_[chunk_of(i)];
    if (chunk.load(std::memory_order_relaxed) == nullptr)
      chunk.store(new actor_cell[first_of(chunk_of(i) + 1) - first_of(chunk_of(i))], std::memory_order_release);
    ++begun_;
    return {i, (*this)[i].begin(type, pool, label, most_at_once, most_pending, anew)};
  }
  /// Null if there is none of that number.
  [[nodiscard]] actor_cell* find(std::uint32_t i) noexcept {
    const std::lock_guard lock(mutex_);
    return i < begun_ ? &(*this)[i] : nullptr;
  }
  /// Whether there is one of that number, without the lock: of a handle that may have come from anywhere.
  [[nodiscard]] bool has(std::uint32_t i) const noexcept {
    const std::size_t k = chunk_of(i);
    return k < chunks_.size() && chunks_[k].load(std::memory_order_acquire) != nullptr;
  }
  [[nodiscard]] actor_cell& operator[](std::uint32_t i) noexcept {
    const std::size_t k = chunk_of(i);
    return chunks_[k].load(std::memory_order_acquire)[i - first_of(k)];
  }
  /// False if it has ended already.
  bool end(actor_address a, std::string why) {
    if (!(*this)[a.cell].end(a.generation, std::move(why))) return false;
    std::optional<known> as;
    {
      const std::lock_guard lock(mutex_);
      if (a.generation != mailbox::most_actors) ended_.push_back(a.cell);
      if (const auto found = known_.find(a.cell); found != known_.end()) {
        as = std::move(found->second);
        names_.erase(as->name);
        known_.erase(found);
      }
    }
    if (as && when_known_ends) when_known_ends(as->name, as->first);
    return true;
  }
  /// Which hold something of that; null: of anything.
  [[nodiscard]] std::vector<actor_address> all_of(const resource_ledger<>* from) {
    const std::lock_guard lock(mutex_);
    std::vector<actor_address> found;
    for (std::uint32_t i = 0; i < begun_; ++i)
      if (const std::uint32_t generation = (*this)[i].holds_of(from)) found.push_back({i, generation});
    return found;
  }
  /// Ends those. True if there were any.
  bool end_all_of(const resource_ledger<>* from, const std::string& why) {
    bool any = false;
    for (const actor_address a : all_of(from)) any |= end(a, why);
    return any;
  }
  /// When nobody else makes calls: lets those run that there are, then ends all actors. From now on another runtime can have
  /// the table.
  void end_all(const std::string& why) {
    wait_until_idle();
    for (std::uint32_t i = 0; i < begun_; ++i) (*this)[i].end(actor_cell::any, why);
    names_.clear();
    known_.clear();
    ended_.clear();
    for (std::uint32_t i = 0; i < begun_; ++i) ended_.push_back(i);
  }
  /// When nobody else makes calls.
  void wait_until_idle() {
    for (bool again = true; again;) {
      again = false;
      for (std::uint32_t i = 0; i < begun_; ++i) again |= (*this)[i].wait_until_idle();
    }
  }

  /// In a job of several ranks, where rank 0 knows the actor by its name and where it was first.
  void set_known(actor_address a, const std::string& name, const actor_place& first) {
    const std::lock_guard lock(mutex_);
    known_[a.cell] = {name, first};
  }
  /// Called for each of them that ends. To be set before there are actors.
  move_only_function<void(const std::string&, const actor_place&)> when_known_ends;

  /// Gives it the name, and calls `begin()` before anybody can find it. Or, if the name is taken, who has it.
  template <class Begin>
  std::optional<named> enter(const std::string& name, named who, Begin&& begin) {
    const std::lock_guard lock(mutex_);
    if (const auto taken = names_.find(name); taken != names_.end()) return taken->second;
    const auto entered = names_.emplace(name, who).first;
    try {
      known_[who.where.cell] = {name, {}};
      begin();
    } catch (...) {
      names_.erase(entered);
      known_.erase(who.where.cell);
      throw;
    }
    return std::nullopt;
  }
  /// Throws no_such_actor (602).
  [[nodiscard]] named find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    if (const auto found = names_.find(name); found != names_.end()) return found->second;
    throw no_such_actor(name, list_of_names(names_));
  }

 private:
  // Chunk k has 64 * 2^k cells.
  static constexpr std::uint32_t smallest = 64;
  static constexpr std::size_t chunk_of(std::uint32_t i) noexcept {
    return static_cast<std::size_t>(std::bit_width(i / smallest + 1) - 1);
  }
  static constexpr std::uint32_t first_of(std::size_t chunk) noexcept { return smallest * ((1u << chunk) - 1); }

  mutable std::mutex mutex_;
  std::array<std::atomic<actor_cell*>, 24> chunks_{};
  std::uint32_t begun_ = 0;
  std::vector<std::uint32_t> ended_;  // cells that can be used again, once their calls are over
  std::size_t next_look_ = 0;         // at those
  std::map<std::string, named> names_;
  struct known {
    std::string name;
    actor_place first;
  };
  std::map<std::uint32_t, known> known_;  // those with a name, or that others keep something of; by cell
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
