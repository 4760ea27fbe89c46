#ifndef CADRE_ACTOR_DETAIL_OWN_REQUESTS_HPP
#define CADRE_ACTOR_DETAIL_OWN_REQUESTS_HPP

#include <cadre/actor/detail/circles.hpp>
#include <cadre/actor/detail/end_requests.hpp>
#include <cadre/actor/detail/fetch.hpp>
#include <cadre/actor/detail/group_requests.hpp>
#include <cadre/actor/detail/handlers.hpp>
#include <cadre/actor/detail/make_actor.hpp>
#include <cadre/actor/detail/name_request.hpp>
#include <cadre/actor/detail/restarts.hpp>

#include <concepts>

CADRE_NAMESPACE_BEGIN
namespace detail {

template <std::derived_from<own_request>... Tags>
void list_requests() noexcept {
  (handler_of<Tags>::list(), ...);
}

/// Has handler::all() know every own_request, and has jobs fetch objects: before the first is called, by who begins a job.
/// `Job` is class serving_job: what is no template is compiled, in part, in every unit that includes it. Thread-safe.
template <class Job>
void list_own_requests() noexcept {
  static const bool are_listed = [] {
    list_requests<activity_request, circle_request, drop_group_request, end_holders_request, find_group_request,
                  forget_actor_request, given_back_request, keep_actor_request, keep_state_request, make_group_request,
                  more_request, name_request, object_request, placed_request, remove_group_request, return_request,
                  room_request, set_aside_request, want_request, where_request>();
    job_fetcher = &fetch_object<Job>;
    return true;
  }();
  static_cast<void>(are_listed);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
