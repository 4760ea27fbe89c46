#ifndef CADRE_ASYNC_DETAIL_DUMP_HPP
#define CADRE_ASYNC_DETAIL_DUMP_HPP

#include <cadre/async/detail/cancel.hpp>
#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/wait_graph.hpp>
#include <cadre/core/chrono.hpp>

#include <cstddef>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Every task of a pool that is not done: a line each, with where it was submitted. A look at a moving picture: each line
/// was true at its moment. Costs a look at every task of the process. A template so that only those who call it compile it.
template <class Task = task>
[[gnu::cold]] std::string dump(const std::string& pool_name, pool_id pool) {
  enum { running, waiting, queued, pending };
  constexpr const char* names[] = {"running", "waiting", "queued", "pending"};
  std::string lines[4];
  std::size_t counts[4] = {};
  for_each_task([&](Task& t) {
    if (t.home() != pool || t.done()) return;
    std::string text = describe(t.name(), t.at());
    std::size_t what = t.is_running() ? running : t.is_pending() ? pending : queued;
    if (what == running)
      sleeping_wait::for_each([&](const sleeping_wait& w) {
        if (!w.runs(t)) return;
        what = waiting;
        if (w.top() != &t)
          text += ", below " + describe(w.top()->name(), w.top()->at());
        else
          for (const watch& target : w.targets())
            text +=
                (&target == w.targets().data() ? " for " : ", ") + describe(target.target->name(), target.target->at());
      });
    ++counts[what];
    lines[what] += std::string("\n  ") + names[what] + " " + text;
  });
  std::string all = "pool '" + pool_name + "':";
  for (std::size_t what = 0; what < 4; ++what)
    all += (what == 0 ? " " : ", ") + std::to_string(counts[what]) + " " + names[what];
  for (const std::string& l : lines) all += l;
  return all;
}

/// What long_wait_report::tell is.
template <class Task = task>
[[gnu::cold]] void tell_long_wait(scheduler& pool, const Task* waiter, const Task& target) noexcept {
  log(log_level::warning, "async", [&] {
    return (waiter != nullptr ? describe(waiter->name(), waiter->at()) : "a thread") + " has waited for " +
           describe(target.name(), target.at()) + " longer than " +
           std::to_string(std::chrono::duration<double>(pool.long_waits().after).count()) + " s; " +
           dump<Task>(pool.name(), pool.id());
  });
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
