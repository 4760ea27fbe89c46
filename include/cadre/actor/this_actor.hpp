#ifndef CADRE_ACTOR_THIS_ACTOR_HPP
#define CADRE_ACTOR_THIS_ACTOR_HPP

#include <cadre/actor/detail/actor_cell.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/async/detail/strand.hpp>
#include <cadre/async/detail/task.hpp>

CADRE_NAMESPACE_BEGIN

/// For the methods of an actor's class, coroutines that they begin, and its constructor. All throw no_actor (612) elsewhere.
namespace this_actor {

namespace detail {

inline cadre::detail::actor_cell& cell() {
  cadre::detail::task* const here = cadre::detail::current_task();
  const auto in = here != nullptr ? here->runs_in() : nullptr;
  auto* const cell = dynamic_cast<cadre::detail::actor_cell*>(in.get());
  if (cell == nullptr) throw no_actor();
  return *cell;
}

}  // namespace detail

/// How often it has been made anew: not 0 if it was restarted (see actor_options::max_restarts).
[[nodiscard]] inline int restarts() { return detail::cell().restarts(); }

/// Saves the state of the actor as it is now, for when it is made anew; nothing, if it never is. In a job of several ranks the
/// state is at rank 0 when this returns. Throws unsaved_state (613), and what serialize() throws. The cost: the writing, and
/// between ranks a message and its answer.
inline void checkpoint() { detail::cell().save_state(); }

}  // namespace this_actor

CADRE_NAMESPACE_END

#endif
