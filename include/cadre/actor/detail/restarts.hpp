#ifndef CADRE_ACTOR_DETAIL_RESTARTS_HPP
#define CADRE_ACTOR_DETAIL_RESTARTS_HPP

#include <cadre/actor/detail/ask.hpp>
#include <cadre/actor/detail/sent_actor.hpp>
#include <cadre/actor/detail/serving_job.hpp>
#include <cadre/actor/detail/way_back.hpp>
#include <cadre/async/promise.hpp>

#include <exception>
#include <optional>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

// What ranks ask rank 0 about actors that are made anew when their rank is lost.

/// Rank 0 is told of the last state of an actor that may be made anew.
struct keep_state_request : own_request {
  static void serve(request& r) {
    actor_place first;
    revival::saved_state state;
    read_all(r, first, state.version, state.bytes);
    way_back(r).with([&] { serving(r).kept().keep_state(first, std::move(state)); });
  }
};
/// Rank 0 is to make an actor anew when its rank is lost.
struct keep_actor_request : own_request {
  static void serve(request& r) {
    actor_place first;
    kept_actor k;
    read_all(r, first, k.maker, k.how, k.on);
    r.at.check_rank(first.rank);
    way_back(r).with([&] { keep(serving(r), first, std::move(k)); });
  }
  static void keep(serving_job& j, const actor_place& first, kept_actor k) {
    j.kept().add(first, std::move(k));
    if (j.members().is_gone(first.rank)) j.revive_all_of(first.rank, "its rank has died");
  }
};
inline void keep_actor(serving_job& j, const actor_place& first, kept_actor k) {
  if (j.rank() == 0) return keep_actor_request::keep(j, first, std::move(k));
  ask<keep_actor_request, void>(j, 0, {}, false, "the making of an actor", false, {}, [&](output_archive& out) {
    out(first, k.maker, k.how, k.on);
  }).get();
}
inline void keep_state(serving_job& j, const actor_place& first, const revival::saved_state& s) {
  ask<keep_state_request, void>(j, 0, {}, false, "this_actor::checkpoint", false, {}, [&](output_archive& out) {
    out(first, s.version, s.bytes);
  }).get();
}
/// Such an actor has ended.
struct forget_actor_request : own_request {
  static void serve(request& r) {
    actor_place first;
    std::string name;
    read_all(r, first, name);
    way_back(r).with([&] { forget(serving(r), first, name); });
  }
  static void forget(serving_job& j, const actor_place& first, const std::string& name) {
    j.kept().drop(first);
    if (!name.empty()) j.names().drop(name, first);
  }
};
/// Rank 0 is asked where an actor is.
struct where_request : own_request {
  static void serve(request& r) {
    actor_place first;
    int not_at = 0;
    read_all(r, first, not_at);
    serving(r).kept().ask(first, not_at,
                          [back = way_back(r)](const whereabouts& w) mutable { back.with([&] { return w; }); });
  }
};

inline actor_place serving_job::ask_where_it_is(const actor_place& first, int not_at) {
  whereabouts w;
  if (rank() == 0) {
    promise<whereabouts> told;
    auto answer = told.get_future();
    kept_.ask(first, not_at, [&](const whereabouts& there) { std::move(told).set_value(there); });
    w = answer.get();
  } else {
    w = detail::ask<where_request, whereabouts>(*this, 0, {}, false, "where an actor is", true, {},
                                                [&](output_archive& out) { out(first, not_at); })
            .get();
    check_rank(w.now.rank);
  }
  if (!w.why_dead.empty()) throw actor_died("that was made on rank " + std::to_string(rank_of(first.rank)), w.why_dead);
  return w.now;
}
inline void serving_job::revive(const actor_place& first, std::string how) noexcept {
  try {
    for (;;) {
      const std::optional<kept_actor> k = kept_.again(first);
      if (!k) {
        how += "; it may not be made anew again: see .max_restarts";
        break;
      }
      // A rank that comes back does so later, if at all. Rank 0 is not to be lost by what killed another.
      const bool on_the_lost = k->on.what() == placement::kind::on_rank && !is_alive(who_.holder_of(k->on.rank()));
      sent_actor again = k->how;
      placement on = on_the_lost ? placement{} : k->on;
      const int to = detail::find_place(*this, on, again.resources, true, places::none);
      if (on.is_in_group()) again.on = on;
      try {
        const auto at = detail::ask_handler<actor_address>(*this, to, {.handler = k->maker}, false, "a restart", true,
                                                           {}, [&](output_archive& out) { out(again); })
                            .get();
        take_for(on, to, again.resources);
        return kept_.made(first, {to, at, first.task_retries});
      } catch (const actor_died& e) {  // that rank has died too
        how = e.what();
      }
    }
  } catch (const std::exception& e) {
    how.append("; it cannot be made anew: ").append(e.what());
  }
  names_.drop(kept_.give_up(first, how), first);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
