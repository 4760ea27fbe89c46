#ifndef CADRE_ACTOR_DETAIL_SENT_ACTOR_HPP
#define CADRE_ACTOR_DETAIL_SENT_ACTOR_HPP

#include <cadre/actor/detail/actor_table.hpp>
#include <cadre/actor/detail/revival.hpp>
#include <cadre/actor/placement.hpp>
#include <cadre/async/resources.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// How an actor is made, as it travels.
struct sent_actor {
  std::string label = {}, name = {};
  std::uint32_t most_at_once = 1;
  std::uint64_t most_pending = 0;
  revival::limits most = {};
  // Of one that is made anew: where it was first, how often before, its state, and its constructor's arguments.
  actor_place first = {};
  int restarts = 0;
  revival::saved_state state = {};
  std::vector<std::byte> arguments = {};
  // What it holds, and in which bundle, if in any.
  resource_set resources = {};
  placement on = {};

  template <class Archive>
  void serialize(Archive& archive) {
    archive(label, name, most_at_once, most_pending, most, first, restarts, state.version, state.bytes, arguments,
            resources, on);
  }
};

/// What a job keeps of an actor, to make it anew on another rank when its own is lost.
struct kept_actor {
  std::uint32_t maker = 0;  ///< the handler
  sent_actor how;
  placement on;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
