#ifndef CADRE_ACTOR_DETAIL_END_REQUESTS_HPP
#define CADRE_ACTOR_DETAIL_END_REQUESTS_HPP

#include <cadre/actor/detail/serving_job.hpp>
#include <cadre/actor/detail/way_back.hpp>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// At the end of the job, when all that goes on waits for resources: actors that hold some end.
struct end_holders_request : own_request {
  static void serve(request& r) {
    r.in.expect_end();
    way_back(r).with([&] { r.at.core().end_actors_that_hold(); });
  }
};

/// What a rank has to do before the job may end: see mpi::runtime.
struct activity_request : own_request {
  static void serve(request& r) {
    r.in.expect_end();
    r.at.answer(r.from, r.number, false, [&](output_archive& out) { out(serving(r).look()); }, {.counts = false});
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
