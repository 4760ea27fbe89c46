#ifndef CADRE_ACTOR_DETAIL_SENT_OPTIONS_HPP
#define CADRE_ACTOR_DETAIL_SENT_OPTIONS_HPP

#include <cadre/actor/detail/handlers.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/archive/error.hpp>
#include <cadre/core/hash.hpp>
#include <cadre/core/portable.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN

template <>
struct portable<resource_set> {
  static void save(auto& archive, const resource_set& all) {
    archive(all.entries().size());
    for (const resource_set::entry& e : all.entries()) archive(e.name, e.units);
  }
  static void load(auto& archive, resource_set& all) {
    all = {};
    for (std::size_t left = archive.read_count(); left != 0; --left) {
      resource_set::entry e{};
      archive(e.name, e.units);
      if (e.units < 0) throw archive_corrupt("a resource of " + std::to_string(e.units), archive.offset());
      all.set(e.name, e.units);
    }
  }
};

template <>
struct portable<placement> {
  static void save(auto& archive, const placement& p) { archive(p.what(), p.rank(), p.group(), p.node(), p.is_soft()); }
  static void load(auto& archive, placement& p) {
    placement::kind what{};
    int rank = 0;
    std::uint64_t group = 0;
    std::string node;
    bool soft = false;
    archive(what, rank, group, node, soft);
    switch (what) {
      case placement::kind::on_rank: p = on_rank(rank); break;
      case placement::kind::on_node: p = on_node(std::move(node), soft); break;
      case placement::kind::spread: p = spread; break;
      case placement::kind::pack: p = pack; break;
      case placement::kind::in_group: p = in_group(group, rank); break;
      default: p = {};
    }
  }
};

namespace detail {

/// Options of a task as they travel.
struct sent_options {
  std::string name;
  resource_set resources;
  placement on = {};  ///< a bundle, or anything else
  int max_retries = 0;
  std::int64_t retry_on = 0;  ///< where the filter lies in the program, from a place that all ranks know; 0: none
  std::uint64_t proof = 0;    ///< that this came as it was: nothing else may be called
  enum priority priority = priority::normal;
  std::int64_t deadline = -1;  ///< nanoseconds from now; -1: none

  template <class Archive>
  void serialize(Archive& archive) {
    archive(name, resources, on, max_retries, retry_on, proof, priority, deadline);
  }

  static sent_options of(const remote_options& o) {
    sent_options s{.name = o.name, .resources = o.resources, .max_retries = o.max_retries, .priority = o.priority};
    if (o.on.is_in_group()) s.on = o.on;
    if (o.retry_on != nullptr) {
      s.retry_on = reinterpret_cast<std::intptr_t>(o.retry_on) - place_known();
      s.proof = proof_of(s.retry_on);
    }
    if (o.deadline != std::chrono::steady_clock::time_point::max())
      s.deadline =
          std::max<std::int64_t>(0, std::chrono::nanoseconds(o.deadline - std::chrono::steady_clock::now()).count());
    return s;
  }
  /// Throws archive_corrupt (502) for what no rank sends.
  [[nodiscard]] remote_options here() && {
    if (priority > cadre::priority::low)
      throw archive_corrupt("a priority of " + std::to_string(static_cast<int>(priority)), 0);
    if (retry_on != 0 && proof != proof_of(retry_on))
      throw archive_corrupt("a .retry_on that is not in this program", 0);
    remote_options o{.name = std::move(name), .resources = std::move(resources), .max_retries = max_retries};
    if (on.is_in_group()) o.on = std::move(on);
    if (retry_on != 0) o.retry_on = reinterpret_cast<retry_filter>(retry_on + place_known());
    o.priority = priority;
    const auto now = std::chrono::steady_clock::now();
    if (deadline >= 0)
      o.deadline = now + std::min<std::chrono::nanoseconds>(std::chrono::nanoseconds(deadline), o.deadline - now);
    return o;
  }

 private:
  // All ranks run the same build.
  static std::int64_t place_known() noexcept {
    return static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(&is_one_of<sent_options>));
  }
  static std::uint64_t proof_of(std::int64_t place) {
    static const std::uint64_t program = handler::fingerprint();
    return hash_combine(program, static_cast<std::uint64_t>(place));
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
