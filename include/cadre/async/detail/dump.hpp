#ifndef CADRE_ASYNC_DETAIL_DUMP_HPP
#define CADRE_ASYNC_DETAIL_DUMP_HPP

#include <cadre/async/detail/cancel.hpp>
#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/wait_graph.hpp>

#include <cstddef>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Every task of a pool that is not done: a line each, with where it was submitted. A look at a moving picture: each line
/// was true at its moment. Costs a look at every task of the process.
[[gnu::cold]] inline std::string dump(const std::string& pool_name, pool_id pool) {
  enum { running, waiting, queued, pending };
  constexpr const char* names[] = {"running", "waiting", "queued", "pending"};
  std::string lines[4];
  std::size_t counts[4] = {};
  for_each_task([&](task& t) {
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

}  // namespace detail
CADRE_NAMESPACE_END

#endif
