#ifndef CADRE_ACTOR_PLACEMENT_HPP
#define CADRE_ACTOR_PLACEMENT_HPP

#include <cadre/config/config.hpp>

#include <cstdint>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Where a task or an actor is to run: `.on = cadre::on_rank(1)`, `cadre::on_node("host")`, `cadre::spread`, `cadre::pack`.
/// Without a word, where its resources are free.
class placement {
 public:
  enum class kind : std::uint8_t { anywhere, on_rank, on_node, spread, pack };

  constexpr placement() noexcept = default;

  [[nodiscard]] kind what() const noexcept { return kind_; }
  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] const std::string& node() const noexcept { return node_; }
  /// Elsewhere, if the node is not there.
  [[nodiscard]] bool is_soft() const noexcept { return is_soft_; }

 private:
  friend placement on_rank(int rank);
  friend placement on_node(std::string host, bool soft);
  friend struct placements;
  explicit placement(kind what) noexcept : kind_(what) {}

  kind kind_ = kind::anywhere;
  int rank_ = 0;
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

struct placements {
  /// One after another on all nodes.
  static inline const placement spread{placement::kind::spread};
  /// On as few nodes as will do.
  static inline const placement pack{placement::kind::pack};
};
inline const placement& spread = placements::spread;
inline const placement& pack = placements::pack;

CADRE_NAMESPACE_END

#endif
