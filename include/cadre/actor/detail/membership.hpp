#ifndef CADRE_ACTOR_DETAIL_MEMBERSHIP_HPP
#define CADRE_ACTOR_DETAIL_MEMBERSHIP_HPP

#include <cadre/actor/detail/link.hpp>
#include <cadre/actor/detail/where.hpp>
#include <cadre/actor/placement.hpp>
#include <cadre/async/resources.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What a rank tells the others of itself when the job begins.
struct peer_facts {
  std::string host;
  std::uint64_t node = 0;  ///< the same on ranks of one node, which share its store
  resource_set resources = {};
  std::vector<int> gpus = {};
  std::uint64_t threads = 0;  ///< of its pool
  template <class Archive>
  void serialize(Archive& archive) {
    archive(host, node, resources, gpus, threads);
  }
};

/// The ranks of a job, and which member of it (see class link) has each. Whoever takes the place of a member that has died
/// is on its node, with its resources. Thread-safety: all functions, from any thread.
class membership {
 public:
  membership(const link& way, std::vector<peer_facts> by_rank)
      : way_(way),
        facts_(std::move(by_rank)),
        holder_(facts_.size()),
        is_to_return_(facts_.size()),
        gone_(static_cast<std::size_t>(way.most_members())) {
    for (std::size_t r = 0; r < holder_.size(); ++r) holder_[r].store(static_cast<int>(r), std::memory_order_relaxed);
    for (int m = 0; m < way.members(); ++m) {
      if (way.is_alive(m) || m == way.rank())
        holder_[index(way.rank_of(m))].store(m, std::memory_order_relaxed);
      else
        gone_[index(m)].store(true, std::memory_order_relaxed);
    }
  }

  [[nodiscard]] const std::vector<peer_facts>& all() const noexcept { return facts_; }
  /// Of a member.
  [[nodiscard]] const peer_facts& facts_of(int m) const noexcept { return facts_[index(way_.rank_of(m))]; }
  [[nodiscard]] int holder_of(int rank) const noexcept { return holder_[index(rank)].load(std::memory_order_acquire); }
  /// From now on.
  void seat(int m) noexcept { holder_[index(way_.rank_of(m))].store(m, std::memory_order_release); }

  /// On rank 0: a process that takes the rank over is being started.
  [[nodiscard]] bool is_to_return(int rank) const noexcept { return is_to_return_[index(rank)].load(); }
  void set_to_return(int rank, bool is) noexcept { is_to_return_[index(rank)].store(is); }

  /// Whether a member is of this node, and has its store.
  [[nodiscard]] bool is_here(int m) const noexcept { return facts_of(m).node == facts_of(way_.rank()).node; }
  [[nodiscard]] bool has_several_nodes() const noexcept {
    for (const peer_facts& f : facts_)
      if (f.node != facts_[0].node) return true;
    return false;
  }

  /// It has died, and all that was asked of it has been told so.
  [[nodiscard]] bool is_gone(int m) const noexcept { return gone_[index(m)].load(); }
  void set_gone(int m) noexcept { gone_[index(m)].store(true); }

  [[nodiscard]] bool is_at(const placement& on, int rank) const {
    return on.what() == placement::kind::on_rank   ? rank == on.rank()
           : on.what() == placement::kind::on_node ? facts_[index(rank)].host == on.node()
                                                   : true;
  }
  [[nodiscard]] std::vector<places::place> places_by_rank() const {
    std::vector<places::place> ranks;
    for (const peer_facts& p : facts_) ranks.push_back({std::to_string(p.node), p.resources});
    return ranks;
  }
  /// For the text of an error.
  [[nodiscard]] std::string none_for(const placement& on, const resource_set& wanted) const {
    std::string text = wanted.text();
    if (on.what() == placement::kind::on_rank) text += " on rank " + std::to_string(on.rank());
    if (on.what() == placement::kind::on_node) text += " on node '" + on.node() + "'";
    text += "; this job has ";
    for (std::size_t r = 0; r < facts_.size() && r < 16; ++r)
      text +=
          (r ? "; rank " : "rank ") + std::to_string(r) + " on '" + facts_[r].host + "' " + facts_[r].resources.text();
    return text;
  }

 private:
  static std::size_t index(int i) noexcept { return static_cast<std::size_t>(i); }

  const link& way_;
  const std::vector<peer_facts> facts_;
  std::vector<std::atomic<int>> holder_;
  std::vector<std::atomic<bool>> is_to_return_;
  std::vector<std::atomic<bool>> gone_;  // by member
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
