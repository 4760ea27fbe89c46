#ifndef CADRE_ASYNC_DETAIL_CANCEL_HPP
#define CADRE_ASYNC_DETAIL_CANCEL_HPP

#include <cadre/async/detail/node_memory.hpp>
#include <cadre/async/detail/task.hpp>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Calls `visit(task&)` for every task that lives.
template <class Visit>
void for_each_task(Visit&& visit) {
  node_memory::for_each_node([&](void* node) {
    if (task* const t = task::retain_at(node)) {
      visit(*t);
      t->release();
    }
  });
}

/// Cancels all live tasks that `chosen` says, and what they beget meanwhile.
template <class Chosen>
void cancel_all(Chosen chosen) noexcept {
  for (bool again = true; again;) {
    again = false;
    for_each_task([&](task& t) {
      if (!t.done() && chosen(static_cast<const task&>(t)) && t.cancel_alone() && t.has_offspring()) again = true;
    });
  }
}

/// Asks a task, and all that it has submitted, to stop; what has not begun will not. False if the task was done.
inline bool cancel(task& t) noexcept {
  if (t.done()) return false;
  t.cancel_alone();
  if (t.has_offspring()) cancel_all([&t](const task& other) { return other.descends_from(t); });
  return true;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
