#ifndef CADRE_MPI_COMMUNICATOR_HPP
#define CADRE_MPI_COMMUNICATOR_HPP

#include <cadre/comm/collectives.hpp>
#include <cadre/comm/communicator.hpp>
#include <cadre/comm/detail/call_record.hpp>
#include <cadre/comm/detail/zeroed_memory.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/endpoint.hpp>
#include <cadre/mpi/detail/family.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/detail/root_gather.hpp>
#include <cadre/mpi/environment.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi {

struct communicator_options {
  /// Per collective, and for making the communicator.
  std::chrono::nanoseconds timeout = default_collective_timeout;
  /// Treats this many consecutive ranks as a node of their own, to try on one machine what happens on several; 0: nodes
  /// are what they are.
  int ranks_per_node = 0;
};

/// The ranks that mpirun started, or those of an MPI communicator, as cadre's communicator. Ranks of one node work in
/// memory that they share and do not enter MPI; between nodes one rank per node sends, with nonblocking operations that
/// are tested under the deadline. The shared memory has no name and goes with its processes, however they end.
///
/// Move-only. One thread at a time uses an object; abort may come from any thread. Making one is collective. The thread
/// that makes MPI progress holds a lock of cadre's: a host that calls MPI itself from other threads needs
/// MPI_THREAD_MULTIPLE. Initialises MPI if the host did not (and then finalises it at exit), else leaves that to the host.
/// Throws communicator_timeout (401), mapping_error (159), mpi_error (1101, 1102).
class communicator : public collectives<communicator> {
 public:
  /// All ranks of the job.
  communicator() : communicator(communicator_options{}) {}
  explicit communicator(const communicator_options& options) : communicator(detail::world(), options) {}
  /// The ranks of `comm`, which is duplicated: the host's messages and ours do not meet.
  explicit communicator(MPI_Comm comm, const communicator_options& options = {});

  communicator(communicator&&) noexcept = default;
  communicator& operator=(communicator&&) noexcept = default;

  [[nodiscard]] int rank() const { return end_->rank; }
  [[nodiscard]] int world_size() const { return end_->who.size(); }
  /// This rank among those of its node, how many those are, the node's number, and how many nodes there are.
  [[nodiscard]] int local_rank() const { return end_->member().rank(); }
  [[nodiscard]] int local_size() const { return end_->member().ranks(); }
  [[nodiscard]] int node() const { return end_->node(); }
  [[nodiscard]] int node_count() const { return end_->who.nodes(); }

  void barrier() { barrier(end_->member().timeout()); }
  void barrier(std::chrono::nanoseconds timeout) { meet(cadre::detail::operation::barrier, timeout); }

  void all_reduce_bytes(void* data, std::size_t count, data_type type, reduce_op op) {
    const auto call = cadre::detail::reduction(cadre::detail::operation::all_reduce, count, type, op, world_size());
    end_->with_model([&](auto& model) { model.all_reduce(data, call); });
  }
  void broadcast_bytes(void* data, std::size_t bytes, int root) {
    const auto call = cadre::detail::broadcasting(bytes, root, world_size());
    end_->with_model([&](auto& model) { model.broadcast(data, call); });
  }
  void reduce_scatter_bytes(const void* in, void* out, std::size_t out_count, data_type type, reduce_op op) {
    const auto call =
        cadre::detail::reduction(cadre::detail::operation::reduce_scatter, out_count, type, op, world_size());
    end_->with_model([&](auto& model) { model.reduce_scatter(in, out, call); });
  }
  void all_gather_bytes(const void* in, void* out, std::size_t in_bytes) {
    const auto call = cadre::detail::gathering(in_bytes, world_size());
    end_->with_model([&](auto& model) { model.all_gather(in, out, call); });
  }

  /// Every rank calls it; sizes may differ. On one node the memory is shared by the node's ranks, present at once (so that
  /// it cannot fail later) and reduced where it lies. It may outlive the communicator; it is given back when every rank of
  /// the node has let go of its part and one of them allocates again or the communicator ends.
  [[nodiscard]] std::shared_ptr<std::byte> allocate_bytes(std::size_t bytes);

  /// Ranks with the same color form a communicator of their own, ordered by key, then by rank here. A rank with a
  /// negative color gets one of which it is the only member. No MPI communicator is made: children cost shared memory only.
  [[nodiscard]] communicator split(int color, int key);

  /// Reaches the ranks of this node at once, those of other nodes when their leaders next wait or call; and those of the
  /// communicators that this rank has split from this one.
  void abort(std::string_view why) noexcept { end_->abort(why); }
  void set_timeout(std::chrono::nanoseconds timeout) { end_->member().set_timeout(timeout); }
  [[nodiscard]] std::string_view backend() const { return "mpi"; }

 private:
  explicit communicator(std::shared_ptr<detail::endpoint> made) : end_(std::move(made)) {}

  void meet(cadre::detail::operation what, std::chrono::nanoseconds timeout) {
    end_->with_model([&](auto& model) { model.meet({.what = what}, timeout); });
  }

  std::shared_ptr<detail::endpoint> end_;  // an abort of the parent may hold it for a moment
};

inline communicator::communicator(MPI_Comm comm, const communicator_options& options) {
  auto& environment = detail::environment::get();
  const auto now = std::chrono::steady_clock::now();
  const auto deadline = options.timeout < std::chrono::hours(24 * 365) ? now + options.timeout
                                                                       : std::chrono::steady_clock::time_point::max();
  int size = 0, my_rank = 0;
  const auto duplicate = std::make_shared<MPI_Comm>(MPI_COMM_NULL);  // MPI writes it when all ranks have come
  MPI_Request request = MPI_REQUEST_NULL;
  {
    const std::lock_guard lock(environment.mutex());
    detail::check(::MPI_Comm_size(comm, &size), "MPI_Comm_size");
    detail::check(::MPI_Comm_rank(comm, &my_rank), "MPI_Comm_rank");
    detail::check(::MPI_Comm_idup(comm, duplicate.get(), &request), "MPI_Comm_idup");
  }
  try {
    detail::wait_to_join(request, deadline);
  } catch (...) {
    const std::lock_guard lock(environment.mutex());
    environment.keep(duplicate);
    throw;
  }
  const auto shared = std::make_shared<detail::family>(*duplicate);
  const detail::root_gather gather(shared->comm(), size, deadline);

  detail::host_card here;
  detail::host_name().copy(here.name, sizeof here.name - 1);
  shared->name_hosts(gather(here));
  std::vector<std::uint64_t> nodes = gather(detail::node_identity());
  std::vector<int> ranks(nodes.size());
  for (std::size_t r = 0; r < nodes.size(); ++r) {
    ranks[r] = static_cast<int>(r);
    if (options.ranks_per_node > 0)
      nodes[r] += 0x9e3779b97f4a7c15u * (1 + r / static_cast<std::size_t>(options.ranks_per_node));
  }
  const std::vector<int> index_of = ranks;
  end_ = std::make_shared<detail::endpoint>(shared, 0, detail::topology(std::move(ranks), nodes), my_rank, index_of,
                                            nullptr, gather);
  set_timeout(options.timeout);
}

inline std::shared_ptr<std::byte> communicator::allocate_bytes(std::size_t bytes) {
  meet(cadre::detail::operation::allocate, end_->member().timeout());
  if (node_count() > 1 || local_size() == 1) return cadre::detail::zeroed_memory(bytes);
  const auto gather = [&]<class T>(const T& mine) {
    std::vector<T> all(static_cast<std::size_t>(local_size()));
    all_gather_bytes(&mine, all.data(), sizeof(T));
    return all;
  };
  // The holders' count on a page of its own, then a part for each rank: from a huge page on where parts are large.
  const std::vector<std::size_t> sizes = gather(bytes);
  const auto index = static_cast<std::size_t>(local_rank());
  std::size_t total = 4096, own_offset = 0;
  for (std::size_t r = 0; r < sizes.size(); ++r) {
    // More than any address space, and so little that the sum does not wrap around; on all ranks alike.
    if (sizes[r] > std::size_t{1} << 48)
      throw mapping_error(
          "rank " + std::to_string(end_->who.members(node())[r]) + " cannot map " + std::to_string(sizes[r]) + " bytes",
          ENOMEM);
    const std::size_t grain = sizes[r] >= mapping::huge_page ? mapping::huge_page : 4096;
    total = (total + grain - 1) / grain * grain;
    if (r == index) own_offset = total;
    total += std::max<std::size_t>(sizes[r], 64);
  }
  auto made =
      detail::share_memory(total, index, 0, own_offset, std::max<std::size_t>(bytes, 64), gather, detail::all_ways);
  const auto allocation =
      std::make_shared<detail::shared_allocation>(detail::shared_allocation{std::move(made.memory), made.id});
  allocation->holders().fetch_add(1);
  meet(cadre::detail::operation::allocate, end_->member().timeout());  // all hold it before anybody counts
  end_->segments->add(allocation);
  return {allocation->memory.data() + own_offset, [allocation](std::byte*) { allocation->holders().fetch_sub(1); }};
}

inline communicator communicator::split(int color, int key) {
  meet(cadre::detail::operation::split, end_->member().timeout());
  // A number that no rank has in use. Offers of two communicators, split by two threads, differ but by accident.
  const std::uint64_t sequence = end_->member().call().sequence;
  std::uint32_t id = 0;
  for (std::uint32_t attempt = 0;; ++attempt) {
    id = end_->in_family->offer(end_->id, sequence, attempt);
    const bool is_free = end_->in_family->take(id);
    if (all_reduce(is_free ? 1 : 0, cadre::min) == 1) break;
    if (is_free) end_->in_family->give_back(id);
  }
  struct wish {
    int color, key;
  };
  const std::vector<wish> wishes = all_gather(wish{color, key});
  std::vector<int> members;  // ranks here
  for (int r = 0; r < world_size(); ++r) {
    const wish& other = wishes[static_cast<std::size_t>(r)];
    if (color < 0 ? r == rank() : other.color == color) members.push_back(r);
  }
  std::ranges::stable_sort(members, {}, [&](int r) { return wishes[static_cast<std::size_t>(r)].key; });
  std::vector<int> family_ranks;
  std::vector<std::uint64_t> nodes;
  for (const int r : members) {
    family_ranks.push_back(end_->who.family_rank[static_cast<std::size_t>(r)]);
    nodes.push_back(static_cast<std::uint64_t>(end_->who.node_of[static_cast<std::size_t>(r)]));
  }
  const int child_rank = static_cast<int>(std::ranges::find(members, rank()) - members.begin());
  const auto gather = [&]<class T>(const T& mine) {
    std::vector<T> all(static_cast<std::size_t>(world_size()));
    all_gather_bytes(&mine, all.data(), sizeof(T));
    return all;
  };
  communicator child(std::make_shared<detail::endpoint>(end_->in_family, id,
                                                        detail::topology(std::move(family_ranks), nodes), child_rank,
                                                        members, end_->segments, gather));
  child.set_timeout(end_->member().timeout());
  end_->children.add(child.end_);
  return child;
}

static_assert(cadre::communicator<communicator>);

}  // namespace mpi

CADRE_NAMESPACE_END

#endif
