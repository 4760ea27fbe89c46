#ifndef CADRE_ACTOR_DETAIL_MAKE_ACTOR_HPP
#define CADRE_ACTOR_DETAIL_MAKE_ACTOR_HPP

#include <cadre/actor/detail/ask.hpp>
#include <cadre/actor/detail/name_answer.hpp>
#include <cadre/actor/detail/restarts.hpp>
#include <cadre/actor/detail/sent_actor.hpp>
#include <cadre/actor/detail/serving_job.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/actor/options.hpp>

#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

inline name_answer make_actor(serving_job& j, const actor_options& o, const std::string& name,
                              const makes_actor& maker) {
  placement on = o.on;
  const int to = j.find_place(on, o.resources, places::none);
  const std::string type = type_name(maker.type());
  if (!name.empty()) {
    name_answer has_it = j.ask_about_name(name_question::reserve, name, type, {});
    if (has_it.what == name_answer::kind::taken) {
      if (!o.get_or_create) throw actor_name_taken(name);
      return has_it;
    }
  }
  try {
    sent_actor how{.label = actor_label(maker.type(), name),
                   .name = name,
                   .most_at_once = o.max_concurrency,
                   .most_pending = o.max_pending_calls,
                   .most = limits_of(o),
                   .resources = o.resources,
                   .on = on.is_in_group() ? on : placement()};
    actor_place where{to, {}, o.max_restarts != 0 ? o.max_task_retries : actor_place::never_anew};
    where.at = to == j.rank() ? maker.make_here(how, o.at)
                              : ask_handler<actor_address>(j, to, {.handler = maker.handler()}, true,
                                                           maker.constructor_name(), true, o.at,
                                                           [&](output_archive& out) {
                                                             out(how);
                                                             maker.write(out);
                                                           })
                                    .get();
    j.take_for(on, to, o.resources);
    if (o.max_restarts != 0 && to != 0) {
      how.arguments = maker.bytes();
      how.first = where;
      keep_actor(j, where, {maker.handler(), std::move(how), o.on});
    }
    if (!name.empty()) j.ask_about_name(name_question::bind, name, {}, where);
    return {name_answer::kind::yours, where, type, {}};
  } catch (...) {
    if (!name.empty()) j.ask_about_name(name_question::drop, name, {}, {});
    throw;
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
