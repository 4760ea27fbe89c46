#ifndef CADRE_MPI_DETAIL_ENDPOINT_HPP
#define CADRE_MPI_DETAIL_ENDPOINT_HPP

#include <cadre/comm/detail/control_block.hpp>
#include <cadre/comm/detail/node_collectives.hpp>
#include <cadre/comm/detail/offspring.hpp>
#include <cadre/mpi/detail/bridged_collectives.hpp>
#include <cadre/mpi/detail/family.hpp>
#include <cadre/mpi/detail/shared_peers.hpp>
#include <cadre/mpi/detail/shared_segment.hpp>
#include <cadre/mpi/detail/topology.hpp>
#include <cadre/mpi/detail/wire.hpp>
#include <cadre/os/mapping.hpp>

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// This rank's end: what it shares with its node, and the way to other nodes if there are any.
struct endpoint {
  /// `gather(x)` returns everybody's x among those that make communicators at this moment; rank r of this one is number
  /// index_of[r] among them.
  template <class Gather>
  endpoint(std::shared_ptr<family> shared, std::uint32_t number_in_family, topology everybody, int my_rank,
           const std::vector<int>& index_of, std::shared_ptr<segment_table> parent, Gather&& gather)
      : in_family(std::move(shared)),
        id(number_in_family),
        who(std::move(everybody)),
        rank(my_rank),
        segments(std::make_shared<segment_table>(std::move(parent))) {
    const auto index = static_cast<std::size_t>(my_rank);
    const int local = who.local_of[index], locals = static_cast<int>(who.members(node()).size());
    const std::size_t control = shared_peers::control_bytes(locals);
    const std::size_t stages =
        who.size() == 1 ? 0 : shared_peers::room_of_stage(who.size()) * shared_peers::stage_slots;
    const std::size_t begin = local == 0 ? 0 : control + static_cast<std::size_t>(local) * stages;
    const auto number = [&](int r) { return static_cast<std::size_t>(index_of[static_cast<std::size_t>(r)]); };
    auto made =
        share_memory(control + static_cast<std::size_t>(locals) * stages, number(rank), number(who.members(node())[0]),
                     begin, control + static_cast<std::size_t>(local + 1) * stages - begin, gather, all_ways);
    memory = std::make_shared<mapping>(std::move(made.memory));
    if (local == 0) cadre::detail::control_block::create(memory->data(), locals);
    const std::vector<int> all_processes = gather(static_cast<int>(::getpid()));  // and the control block is there
    std::vector<int> processes;
    for (const int r : who.members(node())) processes.push_back(all_processes[number(r)]);
    peers.emplace(who.members(node()), std::move(processes), memory, segments, who.size());
    calls.emplace(*reinterpret_cast<cadre::detail::control_block*>(memory->data()), *peers, local);
    if (who.nodes() > 1) {
      std::vector<int> leaders;
      for (const auto& members : who.ranks_of) leaders.push_back(who.family_rank[static_cast<std::size_t>(members[0])]);
      way.emplace(in_family, id, std::move(leaders), names_of_nodes(), node(), local == 0, memory);
      peers->connect(&*way);
      bridge.emplace(who, rank, calls->member(), *peers, *way);
    }
  }
  endpoint(const endpoint&) = delete;
  endpoint& operator=(const endpoint&) = delete;
  ~endpoint() {
    if (!calls) return;
    calls->member().leave();
    if (way && calls->member().rank() == 0) way->announce_departure();
  }

  /// As `node 1 (ranks 2, 3 on host)`.
  [[nodiscard]] std::vector<std::string> names_of_nodes() const {
    std::vector<std::string> names;
    for (const auto& members : who.ranks_of) {
      std::string name = "node " + std::to_string(names.size()) + (members.size() == 1 ? " (rank " : " (ranks ");
      for (std::size_t i = 0; i < members.size() && i < 8; ++i) name += (i ? ", " : "") + std::to_string(members[i]);
      if (members.size() > 8) name += ", ...";
      const int leader = who.family_rank[static_cast<std::size_t>(members[0])];
      names.push_back(name + " on " + in_family->host_of(leader) + ')');
    }
    return names;
  }

  void abort(std::string_view why) noexcept {
    member().abort(why);
    children.abort(why);
  }

  [[nodiscard]] cadre::detail::member<shared_peers>& member() { return calls->member(); }
  [[nodiscard]] int node() const { return who.node_of[static_cast<std::size_t>(rank)]; }
  template <class F>
  void with_model(F&& f) {
    if (bridge)
      f(*bridge);
    else
      f(*calls);
  }

  std::shared_ptr<family> in_family;
  std::uint32_t id;
  topology who;
  int rank;
  std::shared_ptr<segment_table> segments;
  std::shared_ptr<mapping> memory;
  std::optional<shared_peers> peers;
  std::optional<cadre::detail::node_collectives<shared_peers>> calls;
  std::optional<wire> way;
  std::optional<bridged_collectives> bridge;
  cadre::detail::offspring<endpoint> children;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
