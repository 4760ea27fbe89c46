#ifndef CADRE_MPI_DETAIL_HEARTBEATS_HPP
#define CADRE_MPI_DETAIL_HEARTBEATS_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/topology.hpp>

#include <cstddef>
#include <optional>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Finds the ranks of other nodes that are silent, and those that would find this one silent. A rank that has something to
/// say says it anyway; one that has not is sent a beat. They go between rank 0 and everybody, and between ranks that have
/// sent each other something: no connection is made for them. One thread.
class heartbeats {
 public:
  /// What has come from a rank, and left for it, since it was asked for the last time.
  struct signs {
    bool heard, spoken;
  };

  /// Without a limit (0) nobody is silent.
  heartbeats(const topology& who, int rank, std::chrono::nanoseconds limit) : interval_(limit / beats) {
    const int here = who.node_of[static_cast<std::size_t>(rank)];
    for (int r = 0; r < who.size() && limit > limit.zero(); ++r)
      if (who.node_of[static_cast<std::size_t>(r)] != here) add(r, rank);
  }
  /// One that has come later.
  void add(int other_rank, int rank) {
    if (interval_ > interval_.zero()) others_.push_back({other_rank, 0, other_rank == 0 || rank == 0});
  }

  /// It wants to look so often; 0: never.
  [[nodiscard]] std::chrono::nanoseconds interval() const noexcept { return interval_; }

  /// Looks at all of them, at most 20 times per limit; where this process was stopped for a while that counts as one look.
  /// `signs_of(rank)` gives optional signs: none, if nothing more is to be heard of it; `beat(rank)`; `silent(rank)`, once.
  template <class SignsOf, class Beat, class Silent>
  void look(SignsOf&& signs_of, Beat&& beat, Silent&& silent) {
    if (others_.empty()) return;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_look_) return;
    next_look_ = now + interval_;
    std::erase_if(others_, [&](other& o) {
      const std::optional<signs> now_of_it = signs_of(o.rank);
      if (!now_of_it) return true;
      o.known |= now_of_it->heard || now_of_it->spoken;
      if (!o.known) return false;
      o.looks_in_silence = now_of_it->heard ? 0 : o.looks_in_silence + 1;
      if (o.looks_in_silence > beats) {
        silent(o.rank);
        return true;
      }
      if (!now_of_it->spoken) beat(o.rank);
      return false;
    });
  }

 private:
  static constexpr int beats = 20;  // in the time of the limit
  struct other {
    int rank;
    int looks_in_silence;
    bool known;
  };
  std::vector<other> others_;
  std::chrono::nanoseconds interval_;
  std::chrono::steady_clock::time_point next_look_{};
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
