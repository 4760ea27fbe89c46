#ifndef CADRE_ACTOR_PLACEMENT_HPP
#define CADRE_ACTOR_PLACEMENT_HPP

#include <cadre/async/error.hpp>
#include <cadre/config/config.hpp>

#include <cstdint>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Where a task or an actor is to run: `.on = cadre::on_rank(1)`, `cadre::on_node("host")`, `cadre::spread`, `cadre::pack`,
/// or a placement_group, or one bundle of it. Without a word, where its resources are free, as far as its caller knows.
class placement {
 public:
  enum class kind : std::uint8_t { anywhere, on_rank, on_node, spread, pack, in_group };

  constexpr placement() noexcept = default;

  [[nodiscard]] kind what() const noexcept { return kind_; }
  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] const std::string& node() const noexcept { return node_; }
  /// Elsewhere, if the node is not there.
  [[nodiscard]] bool is_soft() const noexcept { return is_soft_; }
  [[nodiscard]] bool is_in_group() const noexcept { return kind_ == kind::in_group; }
  /// Of the placement group: which one of the job, and which of its bundles; any_bundle: whichever has room.
  [[nodiscard]] std::uint64_t group() const noexcept { return group_; }
  [[nodiscard]] int bundle() const noexcept { return rank_; }
  static constexpr int any_bundle = -1;

 private:
  friend placement on_rank(int rank);
  friend placement on_node(std::string host, bool soft);
  friend placement in_group(std::uint64_t group, int bundle);
  friend struct placements;
  explicit placement(kind what) noexcept : kind_(what) {}

  kind kind_ = kind::anywhere;
  int rank_ = 0;  // or the bundle
  std::uint64_t group_ = 0;
  bool is_soft_ = false;
  std::string node_;
};

/// On that rank of the job.
[[nodiscard]] inline placement on_rank(int rank) {
  placement p(placement::kind::on_rank);
  p.rank_ = rank;
  return p;
}
/// On the node of that host name; with `soft`, elsewhere if the job has none of that name.
[[nodiscard]] inline placement on_node(std::string host, bool soft = false) {
  placement p(placement::kind::on_node);
  p.node_ = std::move(host);
  p.is_soft_ = soft;
  return p;
}

/// What a placement_group is converted to.
[[nodiscard]] inline placement in_group(std::uint64_t group, int bundle = placement::any_bundle) {
  placement p(placement::kind::in_group);
  p.group_ = group;
  p.rank_ = bundle;
  return p;
}

/// How the bundles of a placement group are laid out: `cadre::pack`, `cadre::spread`, `cadre::strict_pack`,
/// `cadre::strict_spread`.
class placement_strategy {
 public:
  enum class kind : std::uint8_t { pack, spread, strict_pack, strict_spread };

  constexpr placement_strategy(kind what = kind::pack) noexcept : kind_(what) {}
  /// Of cadre::pack or cadre::spread. Throws impossible_request (209) for another placement.
  placement_strategy(const placement& p) : kind_(p.what() == placement::kind::spread ? kind::spread : kind::pack) {
    if (p.what() != placement::kind::spread && p.what() != placement::kind::pack)
      throw impossible_request(
          "a placement group whose .strategy is a place; give it cadre::pack, spread, strict_pack or strict_spread");
  }
  [[nodiscard]] constexpr kind what() const noexcept { return kind_; }

 private:
  kind kind_;
};

struct placements {
  /// One after another on all nodes.
  static inline const placement spread{placement::kind::spread};
  /// On as few nodes as will do.
  static inline const placement pack{placement::kind::pack};
};
inline const placement& spread = placements::spread;
inline const placement& pack = placements::pack;

/// All bundles on one node.
inline constexpr placement_strategy strict_pack = placement_strategy::kind::strict_pack;
/// Each bundle on a node of its own.
inline constexpr placement_strategy strict_spread = placement_strategy::kind::strict_spread;

CADRE_NAMESPACE_END

#endif
