#ifndef CADRE_ACTOR_DETAIL_MOVED_ACTORS_HPP
#define CADRE_ACTOR_DETAIL_MOVED_ACTORS_HPP

#include <cadre/actor/detail/errands.hpp>
#include <cadre/actor/detail/names.hpp>

#include <cstddef>
#include <exception>
#include <map>
#include <mutex>
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

  /// Calls `go(place)`, here or, in any case with `later`, on another thread; or, if the actor has died, `fail(why)`. Neither
  /// throws. Throws thread_error (151).
  template <class Go, class Fail>
  void with_place(const actor_place& first, bool later, Go go, Fail fail) {
    actor_place now = first;
    {
      const std::lock_guard lock(mutex_);
      const auto found = all_.find(first);
      if (found != all_.end()) now = found->second.now;
      if (later || ranks_.is_gone(now.rank, false) || (found != all_.end() && found->second.waiting != 0)) {
        entry& e = found != all_.end() ? found->second : all_.emplace(first, entry{first, 0}).first->second;
        errands_.add([this, first, &e, go = std::move(go), fail = std::move(fail)]() mutable {
          try {
            find(first, e);
            go(e.now);
          } catch (...) {
            fail(std::current_exception());
          }
          const std::lock_guard end(mutex_);
          --e.waiting;
        });
        ++e.waiting;
        return;
      }
    }
    go(now);
  }
  [[nodiscard]] bool idle() const noexcept { return errands_.idle(); }

 private:
  struct entry {
    actor_place now;  // changed by the errands alone
    std::size_t waiting = 0;
  };

  void find(const actor_place& first, entry& e) {
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
