#ifndef CADRE_ACTOR_DETAIL_MOVED_ACTORS_HPP
#define CADRE_ACTOR_DETAIL_MOVED_ACTORS_HPP

#include <cadre/actor/detail/actor_table.hpp>
#include <cadre/actor/detail/errands.hpp>
#include <cadre/core/function.hpp>

#include <cstddef>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What this rank knows of the others, for moved_actors.
class knows_ranks {
 public:
  /// It has died, and all that was asked of it has been told so. With `for_sure`, after waiting for that to be over.
  [[nodiscard]] virtual bool is_gone(int rank, bool for_sure) noexcept = 0;
  /// Where an actor is, if not at that rank; waits for it to be made anew. Throws actor_died (601).
  [[nodiscard]] virtual actor_place ask_where(const actor_place& first, int not_at) = 0;

 protected:
  ~knows_ranks() = default;
};

/// Where the actors are by now whose rank was lost, as far as this rank has asked. Calls of one that is not known to be
/// anywhere wait, and go in their order. Thread-safety: all functions, from any thread.
class moved_actors {
 public:
  explicit moved_actors(knows_ranks& ranks) noexcept : ranks_(ranks) {}

  /// Where an actor is, if that is known and no call waits to go there; else find() is to be called.
  [[nodiscard]] std::optional<actor_place> known(const actor_place& first) noexcept {
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(first);
    const actor_place& now = found != all_.end() ? found->second.now : first;
    if (ranks_.is_gone(now.rank, false) || (found != all_.end() && found->second.waiting != 0)) return std::nullopt;
    return now;
  }
  /// Calls `go(place)` on another thread, or, if the actor has died, `fail(why)`. Neither throws. Throws thread_error (151).
  void find(const actor_place& first, move_only_function<void(const actor_place&)> go,
            move_only_function<void(std::exception_ptr)> fail) {
    const std::lock_guard lock(mutex_);
    entry& e = all_.try_emplace(first, entry{first, 0}).first->second;
    errands_.add([this, first, &e, go = std::move(go), fail = std::move(fail)]() mutable {
      try {
        look_for(first, e);
        go(e.now);
      } catch (...) {
        fail(std::current_exception());
      }
      const std::lock_guard end(mutex_);
      --e.waiting;
    });
    ++e.waiting;
  }
  [[nodiscard]] bool idle() const noexcept { return errands_.idle(); }

 private:
  struct entry {
    actor_place now;  // changed by the errands alone
    std::size_t waiting = 0;
  };

  void look_for(const actor_place& first, entry& e) {
    while (ranks_.is_gone(e.now.rank, true)) {
      const actor_place there = ranks_.ask_where(first, e.now.rank);
      const std::lock_guard lock(mutex_);
      e.now = there;
    }
  }

  knows_ranks& ranks_;
  std::mutex mutex_;
  std::map<actor_place, entry> all_;  // by where each was first
  errands errands_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
