#ifndef CADRE_ACTOR_DETAIL_GROUPS_HERE_HPP
#define CADRE_ACTOR_DETAIL_GROUPS_HERE_HPP

#include <cadre/actor/detail/placement_groups.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/async/future.hpp>
#include <cadre/async/promise.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

placement_groups& groups_here(runtime_core& core);

/// In one process, which is one rank and one node.
class bundles_here final : public bundle_ranks {
 public:
  explicit bundles_here(runtime_core& core) noexcept : core_(core) {}
  std::vector<group_layout::rank> all() override { return {{0, 0, runtime_core::host(), room::of(core_.resources())}}; }
  std::vector<group_layout::rank> free() override {
    return {{0, 0, runtime_core::host(), core_.bundles().look([this] { groups_here(core_).try_again(); })}};
  }
  bool set_aside(int, std::uint64_t group, const std::string& name, const parts& which) override {
    return core_.bundles().set_aside(group, name, which);
  }
  void take_back(int, std::uint64_t, const parts&) noexcept override {}  // there is no other rank to fail
  void lost(int, const parts&) noexcept override {}
  [[nodiscard]] bool lives(int) const noexcept override { return true; }
  void drop(std::uint64_t group, const std::vector<int>&, const std::vector<resource_set>&,
            const std::string& why) noexcept override {
    core_.bundles().drop(group, why);
  }
  void run(move_only_function<void()> f) override { f(); }

 private:
  runtime_core& core_;
};

/// Where there is one process.
inline placement_groups& groups_here(runtime_core& core) {
  return core.groups<placement_groups>(
      [&] { return std::make_unique<placement_groups>(std::make_unique<bundles_here>(core)); });
}
/// The number of the first group of a job.
inline std::uint64_t first_group(const runtime_core& core) noexcept { return (std::uint64_t{core.number()} << 32) + 1; }

inline std::uint64_t make_group_here(runtime_core& core, placement_group_options o) {
  const std::string name = o.name;
  bundle_ranks::parts parts;
  for (const resource_set& b : o.bundles) parts.push_back({static_cast<std::uint32_t>(parts.size()), b});
  const std::uint64_t number = groups_here(core).add(std::move(o), first_group(core));
  core.bundles().expect(number, name, parts);
  return number;
}
/// The ranks of its bundles, none of which is one of those.
inline future<std::vector<int>> when_placed_by(placement_groups& groups, runtime_core& core, std::uint64_t group,
                                               const std::vector<int>& dead) {
  promise<std::vector<int>> told(core.pool());
  future<std::vector<int>> answer = told.get_future();
  groups.when_placed(group, dead, [told = std::move(told)](const placement_groups::outcome& o) mutable {
    o.why != nullptr ? std::move(told).set_error(o.why) : std::move(told).set_value(o.ranks);
  });
  return answer;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
