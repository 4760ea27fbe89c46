#ifndef CADRE_MPI_DETAIL_DOORBELL_HPP
#define CADRE_MPI_DETAIL_DOORBELL_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/shared_segment.hpp>
#include <cadre/mpi/detail/topology.hpp>
#include <cadre/os/futex.hpp>
#include <cadre/os/mapping.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// A word in the memory of the node by which ranks wake each other. Threads of the rank sleep on it; a rank that has sent
/// something rings only if the receiver has said that it sleeps.
class doorbell {
 public:
  /// What rests() and sleep() need; read before looking for the last time whether there is anything to do.
  [[nodiscard]] std::uint32_t rings() const noexcept { return rings_.load(std::memory_order_acquire); }

  /// From now on others ring. What they sent before is seen by a poll afterwards: both sides exchange the same word.
  void announce_sleep() noexcept { asleep_.exchange(1, std::memory_order_acq_rel); }
  void sleep(std::uint32_t rings, std::chrono::steady_clock::time_point until) const noexcept {
    futex::wait_until(rings_, rings, until, futex::scope::shared);
  }

  /// By another rank, after it has sent.
  void knock() noexcept {
    if (asleep_.exchange(0, std::memory_order_acq_rel) != 0) [[unlikely]]
      ring();
  }
  void ring() noexcept {
    rings_.fetch_add(1, std::memory_order_acq_rel);
    futex::wake_all(rings_, futex::scope::shared);
  }

 private:
  alignas(64) std::atomic<std::uint32_t> rings_{0};
  std::atomic<std::uint32_t> asleep_{0};
};

/// Those of the ranks of a node.
class doorbells {
 public:
  /// All ranks of the job together: `gather(x)` returns everybody's x.
  template <class Gather>
  doorbells(const topology& who, int rank, Gather&& gather) : bells_(static_cast<std::size_t>(who.size()), nullptr) {
    const int node = who.node_of[static_cast<std::size_t>(rank)];
    const auto& members = who.members(node);
    const std::size_t bytes = members.size() * sizeof(doorbell);
    const bool leads = who.local_of[static_cast<std::size_t>(rank)] == 0;
    memory_ = share_memory(bytes, static_cast<std::size_t>(rank), static_cast<std::size_t>(members[0]), 0,
                           leads ? bytes : 0, gather, all_ways)
                  .memory;
    // Zeroed memory is a doorbell that nobody has rung.
    auto* const first = reinterpret_cast<doorbell*>(memory_.data());
    for (std::size_t i = 0; i < members.size(); ++i) bells_[static_cast<std::size_t>(members[i])] = first + i;
  }

  /// Null for ranks of other nodes.
  [[nodiscard]] doorbell* of(int rank) const noexcept { return bells_[static_cast<std::size_t>(rank)]; }

 private:
  mapping memory_;
  std::vector<doorbell*> bells_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
