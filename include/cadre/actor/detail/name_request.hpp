#ifndef CADRE_ACTOR_DETAIL_NAME_REQUEST_HPP
#define CADRE_ACTOR_DETAIL_NAME_REQUEST_HPP

#include <cadre/actor/detail/ask.hpp>
#include <cadre/actor/detail/name_answer.hpp>
#include <cadre/actor/detail/names.hpp>
#include <cadre/actor/detail/serving_job.hpp>
#include <cadre/actor/detail/way_back.hpp>
#include <cadre/core/chrono.hpp>

#include <string>
#include <thread>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Rank 0 is asked about a name.
struct name_request : own_request {
  static void serve(request& r) {
    name_question q{};
    std::string name, type;
    actor_place where;
    read_all(r, q, name, type, where);
    way_back(r).with([&] { return answer(serving(r).names(), q, name, type, where, r.from); });
  }
  static name_answer answer(job_names& names, name_question q, const std::string& name, const std::string& type,
                            actor_place where, int from) {
    switch (q) {
      case name_question::reserve: return names.reserve(name, type, from);
      case name_question::find: return names.find(name);
      case name_question::bind: names.bind(name, where); return {};
      case name_question::drop: names.drop(name, where); return {};
    }
    throw archive_corrupt("a question about a name of kind " + std::to_string(static_cast<int>(q)), 0);
  }
};
inline name_answer ask_about_name(serving_job& j, name_question q, const std::string& name, const std::string& type,
                                  actor_place where) {
  for (;;) {
    name_answer a = j.rank() == 0
                        ? name_request::answer(j.names(), q, name, type, where, 0)
                        : ask<name_request, name_answer>(j, 0, {}, false, "a question about a name", false, {},
                                                         [&](output_archive& out) { out(q, name, type, where); })
                              .get();
    if (a.what != name_answer::kind::being_made) return a;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
