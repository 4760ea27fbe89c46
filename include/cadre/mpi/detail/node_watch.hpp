#ifndef CADRE_MPI_DETAIL_NODE_WATCH_HPP
#define CADRE_MPI_DETAIL_NODE_WATCH_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/process_watch.hpp>
#include <cadre/mpi/detail/topology.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Sees which ranks of this node end. One thread.
class node_watch {
 public:
  /// `process_of(r)` is that of rank r.
  template <class ProcessOf>
  node_watch(const topology& who, int rank, ProcessOf&& process_of) {
    for (const int r : who.members(who.node_of[static_cast<std::size_t>(rank)]))
      if (r != rank) add(r, process_of(r));
  }
  void add(int rank, int process) { watched_.push_back({rank, process}); }

  /// Looks at a few of them, at most every 2 ms; tells of those that have ended: `ended(rank, how)`.
  template <class Ended>
  void look(Ended&& ended) {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_look_) return;
    next_look_ = now + std::chrono::milliseconds(2);
    constexpr std::size_t few = 16;
    for (std::size_t n = std::min(few, watched_.size()); n != 0; --n) {
      if (next_ >= watched_.size()) next_ = 0;
      const one& w = watched_[next_];
      if (!w.watch.ended()) {
        ++next_;
        continue;
      }
      const int rank = w.rank;
      std::string how =
          "its process " + std::to_string(w.process) + " on " + host_name() + " has ended" + w.watch.how();
      watched_.erase(watched_.begin() + static_cast<std::ptrdiff_t>(next_));
      ended(rank, std::move(how));
    }
  }

 private:
  struct one {
    one(int r, int p) : rank(r), process(p), watch(p) {}
    int rank, process;
    process_watch watch;
  };
  std::vector<one> watched_;
  std::size_t next_ = 0;
  std::chrono::steady_clock::time_point next_look_{};
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
