#ifndef CADRE_MPI_DETAIL_SHARED_PEERS_HPP
#define CADRE_MPI_DETAIL_SHARED_PEERS_HPP

#include <cadre/comm/detail/call_record.hpp>
#include <cadre/comm/detail/control_block.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/process_watch.hpp>
#include <cadre/mpi/detail/shared_segment.hpp>
#include <cadre/mpi/detail/topology.hpp>
#include <cadre/mpi/detail/wire.hpp>
#include <cadre/os/futex.hpp>
#include <cadre/os/mapping.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Processes of one node: they reach each other's buffers in shared allocations, and pass the others through stages.
/// The control memory that they share holds the control block, then stage_slots stages for each rank, each of stage_bytes
/// or, where the communicator has so many ranks, of a cache line for each of them.
class shared_peers {
  using control_block = cadre::detail::control_block;

 public:
  static constexpr auto scope = futex::scope::shared;
  static constexpr bool share_address_space = false;
  static constexpr std::chrono::nanoseconds nap = std::chrono::milliseconds(20);
  static constexpr std::size_t stage_bytes = std::size_t{128} << 10;
  static constexpr std::size_t stage_slots = 4;

  static std::size_t control_bytes(int ranks) noexcept {
    constexpr std::size_t page = 4096;
    return (control_block::bytes(ranks) + page - 1) / page * page;
  }

  static std::size_t room_of_stage(int world) noexcept {
    return std::max(stage_bytes, static_cast<std::size_t>(world) * 64);
  }

  /// `world`: how many ranks the communicator has, on all its nodes.
  shared_peers(std::vector<int> ranks, std::vector<int> processes, std::shared_ptr<mapping> control,
               std::shared_ptr<segment_table> segments, int world)
      : room_of_stage_(room_of_stage(world)),
        ranks_(std::move(ranks)),
        control_(std::move(control)),
        segments_(std::move(segments)),
        stages_(control_->data() + control_bytes(static_cast<int>(ranks_.size()))),
        processes_(std::move(processes)) {
    for (const int process : processes_) watches_.emplace_back(process);
  }
  void connect(wire* way) noexcept { wire_ = way; }

  static int processors() noexcept {
    // Of the machine: mpirun may have bound each rank to a processor of its own.
    static const int n = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
    return n;
  }
  [[nodiscard]] int rank_of(int local) const { return ranks_[static_cast<std::size_t>(local)]; }

  [[nodiscard]] std::string whereabouts(int local) const {
    return "process " + std::to_string(processes_[static_cast<std::size_t>(local)]) + " on " + host_name() + "; ";
  }

  [[nodiscard]] cadre::detail::place locate(const void* data, std::size_t bytes) const {
    const auto [segment, offset] = segments_->locate(static_cast<const std::byte*>(data), bytes);
    return {segment, offset};
  }
  [[nodiscard]] std::byte* reach(int, cadre::detail::place where) const {
    return segments_->find(where.segment) + where.offset;
  }
  [[nodiscard]] std::byte* staging(int rank, int slot) const noexcept {
    return stages_ + (static_cast<std::size_t>(rank) * stage_slots + static_cast<std::size_t>(slot)) * room_of_stage_;
  }

  /// Breaks the block if a process of the node has ended, and takes in what other nodes tell.
  void poll(control_block& block) noexcept {
    if (wire_ != nullptr) wire_->poll(block);
    for (std::size_t i = 0; i < watches_.size(); ++i) {
      if (!watches_[i].ended()) continue;
      try {
        const std::string why = "rank " + std::to_string(ranks_[i]) + " (" + whereabouts(static_cast<int>(i)) +
                                last_call(block.slots()[i]) + ") has ended" + watches_[i].how();
        if (block.break_with(cadre::detail::break_reason::aborted, 0, why))
          announce(cadre::detail::break_reason::aborted, 0, why);
        futex::wake_all(block.gate, scope);
      } catch (...) {}
      return;
    }
  }
  void announce(cadre::detail::break_reason reason, std::uint64_t sequence, std::string_view why) noexcept {
    if (wire_ != nullptr) wire_->announce(reason, sequence, why);
  }

 private:
  std::size_t room_of_stage_;
  std::vector<int> ranks_;  // of the communicator, by rank of the node
  std::shared_ptr<mapping> control_;
  std::shared_ptr<segment_table> segments_;
  std::byte* stages_;
  std::vector<int> processes_;
  std::vector<process_watch> watches_;
  wire* wire_ = nullptr;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
