#ifndef CADRE_ACTOR_DETAIL_SENT_OPTIONS_HPP
#define CADRE_ACTOR_DETAIL_SENT_OPTIONS_HPP

#include <cadre/actor/options.hpp>
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
      all.set(e.name, e.units);
    }
  }
};

template <>
struct portable<placement> {
  static void save(auto& archive, const placement& p) { archive(p.what(), p.rank(), p.node(), p.is_soft()); }
  static void load(auto& archive, placement& p) {
    placement::kind what{};
    int rank = 0;
    std::string node;
    bool soft = false;
    archive(what, rank, node, soft);
    switch (what) {
      case placement::kind::on_rank: p = on_rank(rank); break;
      case placement::kind::on_node: p = on_node(std::move(node), soft); break;
      case placement::kind::spread: p = spread; break;
      case placement::kind::pack: p = pack; break;
      default: p = {};
    }
  }
};

namespace detail {

/// Options of a task as they travel.
struct sent_options {
  std::string name;
  resource_set resources;
  int max_retries = 0;
  std::int64_t retry_on = 0;  ///< where the filter lies in the program, from a place that all ranks know; 0: none
  enum priority priority = priority::normal;
  std::int64_t deadline = -1;  ///< nanoseconds from now; -1: none

  template <class Archive>
  void serialize(Archive& archive) {
    archive(name, resources, max_retries, retry_on, priority, deadline);
  }

  static sent_options of(const remote_options& o) {
    sent_options s{o.name, o.resources, o.max_retries, 0, o.priority, -1};
    if (o.retry_on != nullptr) s.retry_on = reinterpret_cast<std::intptr_t>(o.retry_on) - place_known();
    if (o.deadline != std::chrono::steady_clock::time_point::max())
      s.deadline =
          std::max<std::int64_t>(0, std::chrono::nanoseconds(o.deadline - std::chrono::steady_clock::now()).count());
    return s;
  }
  [[nodiscard]] remote_options here() && {
    remote_options o{.name = std::move(name), .resources = std::move(resources), .max_retries = max_retries};
    if (retry_on != 0) o.retry_on = reinterpret_cast<retry_filter>(retry_on + place_known());
    o.priority = priority;
    if (deadline >= 0) o.deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(deadline);
    return o;
  }

 private:
  // All ranks run the same build.
  static std::int64_t place_known() noexcept {
    return static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(&is_one_of<sent_options>));
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
