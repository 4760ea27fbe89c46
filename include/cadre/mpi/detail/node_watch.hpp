#ifndef CADRE_MPI_DETAIL_NODE_WATCH_HPP
#define CADRE_MPI_DETAIL_NODE_WATCH_HPP

#include <cadre/mpi/detail/process_watch.hpp>
#include <cadre/mpi/detail/topology.hpp>
#include <cadre/os/mapping.hpp>

#include <sys/epoll.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Sees which ranks of this node end. One thread.
class node_watch {
 public:
  /// `process_of(r)` is that of rank r.
  template <class ProcessOf>
  node_watch(const topology& who, int rank, ProcessOf&& process_of) : ends_(::epoll_create1(EPOLL_CLOEXEC)) {
    for (const int r : who.members(who.node_of[static_cast<std::size_t>(rank)]))
      if (r != rank) add(r, process_of(r));
  }
  void add(int rank, int process) {
    const one& added = watched_.try_emplace(rank, process).first->second;
    epoll_event about{.events = EPOLLIN, .data = {.fd = rank}};
    if (::epoll_ctl(ends_.get(), EPOLL_CTL_ADD, added.watch.file(), &about) != 0 && added.watch.ended())
      gone_.push_back(rank);
  }

  /// There is something to read from it when one of them has ended.
  [[nodiscard]] int file() const noexcept { return ends_.get(); }

  /// Tells of those that have ended: `ended(rank, how)`.
  template <class Ended>
  void look(Ended&& ended) {
    epoll_event about{};
    while (!gone_.empty() || (!watched_.empty() && ::epoll_wait(ends_.get(), &about, 1, 0) == 1)) {
      int rank = about.data.fd;
      if (!gone_.empty()) {
        rank = gone_.back();
        gone_.pop_back();
      }
      const auto node = watched_.extract(rank);
      const one& w = node.mapped();
      ::epoll_ctl(ends_.get(), EPOLL_CTL_DEL, w.watch.file(), nullptr);
      ended(rank, "its process " + std::to_string(w.process) + " on " + host_name() + " has ended" + w.watch.how());
    }
  }

 private:
  struct one {
    explicit one(int p) : process(p), watch(p) {}
    int process;
    process_watch watch;
  };
  file_descriptor ends_;
  std::map<int, one> watched_;  // by rank
  std::vector<int> gone_;       // that had ended before they were watched
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
