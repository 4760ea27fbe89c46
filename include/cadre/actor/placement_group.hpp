#ifndef CADRE_ACTOR_PLACEMENT_GROUP_HPP
#define CADRE_ACTOR_PLACEMENT_GROUP_HPP

#include <cadre/actor/detail/groups_here.hpp>
#include <cadre/actor/detail/job.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/actor/placement.hpp>
#include <cadre/async/future.hpp>
#include <cadre/core/chrono.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

class runtime;

/// Resources that are set aside together, on one rank or on several: all bundles or none. This is its handle: 12 bytes that
/// may be copied, sent as arguments and results, and kept in objects. Made by runtime::placement_group(); the group lives
/// until runtime::remove(), or the end of its runtime, whatever becomes of handles.
///
///     cadre::placement_group g = rt.placement_group({{{"cpu", 1}}, {{"cpu", 1}, {"gpu", 1}}}, cadre::spread);
///     auto f = rt.submit<&train>({.resources = {{"gpu", 1}}, .on = g.bundle(1)}, x);
///     auto a = rt.actor<reader>({.resources = {{"cpu", 1}}, .on = g});
///
/// Tasks and actors that are `.on` a group take their resources out of the bundle, which a task without .resources does with
/// one "cpu". They may be submitted before it is there, and wait for it.
///
/// Thread-safety: as an int.
class placement_group {
 public:
  /// Refers to none.
  constexpr placement_group() noexcept = default;

  explicit operator bool() const noexcept { return number_ != 0; }
  friend bool operator==(const placement_group&, const placement_group&) = default;

  /// How many bundles it has.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// For .on: that bundle. Throws empty_placement_group (618) if there is none of that number; they are counted from 0.
  [[nodiscard]] placement bundle(std::size_t i) const {
    if (i >= size_)
      throw empty_placement_group(size_ == 0 ? "this handle refers to no placement group"
                                             : "there is no bundle " + std::to_string(i) + " in a placement group of " +
                                                   std::to_string(size_));
    return in_group(group(), static_cast<int>(i));
  }
  /// For .on: whichever bundle has room. Throws empty_placement_group (618).
  operator placement() const {
    static_cast<void>(bundle(0));
    return in_group(group());
  }

  /// Ready when all bundles are there, where a rank has died once more; or with an error: placement_group_gone (617) if it was removed, impossible_request
  /// (209) if what it needs was lost with a rank. Throws empty_placement_group (618).
  [[nodiscard]] future<void> ready() const {
    return when_placed().then([](const std::vector<int>&) {});
  }
  /// Waits for that; false if the time is over before. Throws the errors of ready().
  [[nodiscard]] bool wait(std::chrono::nanoseconds timeout) const {
    auto there = when_placed();
    if (!there.wait_for(timeout)) return false;
    static_cast<void>(there.get());
    return true;
  }

 private:
  friend class runtime;
  placement_group(std::uint64_t group, std::size_t size) noexcept
      : number_(static_cast<std::uint32_t>(group)),
        runtime_(static_cast<std::uint32_t>(group >> 32)),
        size_(static_cast<std::uint32_t>(size)) {}

  [[nodiscard]] std::uint64_t group() const noexcept { return std::uint64_t{runtime_} << 32 | number_; }
  [[nodiscard]] future<std::vector<int>> when_placed() const {
    detail::runtime_core& c = core();
    return c.jobs() != nullptr ? c.jobs()->when_placed(group(), {})
                               : detail::when_placed_by(detail::groups_here(c), c, group(), {});
  }
  [[nodiscard]] detail::runtime_core& core() const {
    static_cast<void>(bundle(0));
    detail::runtime_core* const c = detail::runtime_core::find(runtime_);
    if (c == nullptr) throw empty_placement_group("the runtime of this placement group has ended");
    return *c;
  }

  std::uint32_t number_ = 0;  // 0: none
  std::uint32_t runtime_ = 0;
  std::uint32_t size_ = 0;
};

CADRE_NAMESPACE_END

#endif
