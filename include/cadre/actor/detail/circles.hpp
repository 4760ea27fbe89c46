#ifndef CADRE_ACTOR_DETAIL_CIRCLES_HPP
#define CADRE_ACTOR_DETAIL_CIRCLES_HPP

#include <cadre/actor/detail/serving_job.hpp>
#include <cadre/actor/detail/way_back.hpp>
#include <cadre/async/detail/wait_graph.hpp>

#include <cstdint>
#include <exception>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A request that is waited for goes from rank to rank with the question what has to be done before it: from each to the
/// requests that those of its tasks wait for which have to go on first. One that comes back to where it began has found a
/// circle, and the request fails with wait_cycle (208). Nobody answers.
///
/// Of all requests of a circle the youngest alone finds it, as its question only passes older ones: so one fails. Which are
/// younger is by the clocks of their ranks; were these wrong, it would only be found later, as old ones ask seldom.
///
/// K. M. Chandy, J. Misra, L. M. Haas, "Distributed deadlock detection", ACM Transactions on Computer Systems 1(2), 1983, for
/// waits that need all of what they wait for. What it says is true: a wait that was there when the question came by is there
/// as long as the request at its end is not answered, and so all of them are when it comes back to a request that is open.
struct circle_request : own_request {
  struct question {
    int asker = 0;            // the rank of the request that it began with
    std::uint64_t first = 0;  // that one's number
    std::int64_t since = 0;   // that somebody waits for it
    std::uint32_t round = 0;
    std::uint32_t hops = 0;
    std::uint64_t number = 0;  // of the request that it is about now, of the rank that it comes from
    std::string path;          // from the first to this one
  };

  static void ask(job& j, question q, const waits_for_answer& about) noexcept {
    const waits_for_answer::place to = about.asked_at();
    q.number = to.number;
    ++q.hops;
    j.mention<circle_request>(to.rank, to.cell, [&](output_archive& out) {
      out(q.asker, q.first, q.since, q.round, q.hops, q.number,
          q.path + " on rank " + std::to_string(j.rank_of(to.rank)));
    });
  }

  static void serve(request& r) {
    question q;
    read_all(r, q.asker, q.first, q.since, q.round, q.hops, q.number, q.path);
    serving_job& j = serving(r);
    j.check_rank(q.asker);
    if (r.number != 0) throw archive_corrupt("a question about a circle that wants an answer", 0);
    constexpr std::uint32_t most_hops = 64;
    const task_ref<task> asked = find(r, q.number);
    if (!asked || q.hops > most_hops || !j.circles().is_new({q.asker, q.first, q.round, r.from, q.number})) return;

    std::vector<task_ref<task>> further;
    std::vector<std::string> paths;
    std::string circle;
    sleeping_wait::for_each_needed(*asked, [&](const sleeping_wait::held_up& h) {
      auto* const far = dynamic_cast<waits_for_answer*>(&h.which);
      if (far == nullptr || h.by == nullptr) return;
      const std::uint64_t number = far->asked_at().number;
      if (j.rank() == q.asker && number == q.first) {
        circle = describe(h.by->at->name(), h.by->at->at()) + q.path + h.by->path(false) + h.by->behind();
      } else if (const auto since = j.open().awaited_since(number);
                 since && std::tuple(*since, j.rank(), number) < std::tuple(q.since, q.asker, q.first)) {
        paths.push_back(q.path + h.path(false));
        h.which.retain();
        further.emplace_back(&h.which);
      }
    });
    if (!find(r, q.number)) return;  // it may have been over before those began that were found
    if (!circle.empty()) {
      if (waits_for_answer* const w = j.open().take(q.first)) w->fail(std::make_exception_ptr(wait_cycle(circle)));
      return;
    }
    for (std::size_t i = 0; i < further.size(); ++i) {
      q.path = std::move(paths[i]);
      ask(j, q, dynamic_cast<const waits_for_answer&>(*further[i]));
    }
  }

 private:
  // What another rank has asked for, if it is not over.
  static task_ref<task> find(const request& r, std::uint64_t number) {
    task_ref<task> t = r.at.served().find(r.from, number);
    if (t && t->done()) return {};
    actor_table& actors = r.at.core().actors();
    return t || !actors.has(r.cell) ? std::move(t) : actors[r.cell].find_letter(r.from, number);
  }
};

inline void serving_job::look_for_circles() noexcept {
  if (!circles_.is_time()) return;
  try {
    for (const auto& [t, since] : requests_.look_at_awaited()) {
      const auto& asked = dynamic_cast<const waits_for_answer&>(*t);
      circle_request::ask(*this,
                          {.asker = rank(),
                           .first = asked.asked_at().number,
                           .since = since,
                           .round = circles_.round(),
                           .path = " waits for " + describe(t->name(), t->at())},
                          asked);
    }
  } catch (const std::exception& e) {
    log(log_level::debug, "actor", [&] { return std::string("no look for circles: ") + e.what(); });
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
