#ifndef CADRE_ACTOR_DETAIL_TO_STORE_HPP
#define CADRE_ACTOR_DETAIL_TO_STORE_HPP

#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/detail/start_call.hpp>
#include <cadre/store/object_promise.hpp>

#include <optional>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Runs a call and keeps what it gives.
template <class Stored, class Call>
struct to_store {
  runtime_core* core;
  Call call;
  std::optional<object_promise<Stored>> promise;

  template <class... Front>
  void operator()(bool again, Front&&... front) {
    const object_ref<Stored> ref = promise->ref();
    std::move(*promise).set(call_to_end<typename Call::result>(call, again, std::forward<Front>(front)...));
    core->results().finish(ref);
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
