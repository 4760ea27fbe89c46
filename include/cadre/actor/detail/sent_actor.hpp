#ifndef CADRE_ACTOR_DETAIL_SENT_ACTOR_HPP
#define CADRE_ACTOR_DETAIL_SENT_ACTOR_HPP

#include <cadre/actor/detail/actor_table.hpp>
#include <cadre/actor/detail/revival.hpp>
#include <cadre/actor/detail/sent_options.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/actor/placement.hpp>
#include <cadre/archive/output_archive.hpp>
#include <cadre/async/resources.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>
#include <typeinfo>
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

[[nodiscard]] inline revival::limits limits_of(const actor_options& o) noexcept {
  return {o.max_restarts, o.max_task_retries, o.checkpoint_every};
}
[[nodiscard]] inline std::string actor_label(const std::type_info& type, const std::string& name) {
  return "'" + (name.empty() ? type_name(type) : name) + "'";
}

/// Makes actors of one class from one set of arguments, for whom it does not matter which.
class makes_actor {
 public:
  [[nodiscard]] virtual const std::type_info& type() const noexcept = 0;
  [[nodiscard]] virtual std::string_view constructor_name() const noexcept = 0;
  /// Of the request that makes it elsewhere.
  [[nodiscard]] virtual std::uint32_t handler() const noexcept = 0;
  /// Its constructor's arguments.
  virtual void write(output_archive& to) const = 0;
  [[nodiscard]] virtual std::vector<std::byte> bytes() const = 0;
  [[nodiscard]] virtual actor_address make_here(const sent_actor& how, std::source_location at) const = 0;

 protected:
  ~makes_actor() = default;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
