#ifndef CADRE_MPI_DETAIL_NODE_SHARE_HPP
#define CADRE_MPI_DETAIL_NODE_SHARE_HPP

#include <cadre/actor/options.hpp>
#include <cadre/async/resources.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/core/hash.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/detail/root_gather.hpp>
#include <cadre/mpi/detail/topology.hpp>
#include <cadre/mpi/environment.hpp>
#include <cadre/mpi/error.hpp>
#include <cadre/os/gpus.hpp>
#include <cadre/os/memory_limit.hpp>
#include <cadre/os/processors.hpp>

#include <sched.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Processors by number, as many as Linux knows on x86. Of more, some fall together: ranks then share more than they need.
using processor_set = std::bitset<8192>;

/// What a rank sees of its node, and which of it its options leave to be dealt.
struct node_view {
  std::array<char, 72> host{};
  std::uint64_t node = 0;
  processor_set processors = {};
  std::uint64_t quota = 0;  // of processors, by cgroups; 0: none
  std::uint64_t memory = 0;
  std::array<std::uint64_t, 64> gpus{};  // hashes of their names
  std::uint32_t gpu_count = 0;
  std::uint32_t most_ranks_per_gpu = 0;
  bool wants_processors = false, wants_gpus = false, wants_memory = false;
};

inline processor_set allowed_processors() {
  cpu_set_t mask[64];  // as affinity_processors()
  processor_set all;
  if (::sched_getaffinity(0, sizeof mask, mask) != 0) return all.set(0);
  for (std::size_t p = 0; p < sizeof mask * 8; ++p)
    if (CPU_ISSET_S(p, sizeof mask, mask)) all.set(p % all.size());
  return all;
}

inline node_view view_of_node(const runtime_options& options) {
  node_view mine{.node = node_identity(),
                 .processors = allowed_processors(),
                 .quota = cgroup_processors(),
                 .memory = usable_memory(),
                 .most_ranks_per_gpu = static_cast<std::uint32_t>(options.most_ranks_per_gpu),
                 .wants_processors = options.threads == 0,
                 .wants_gpus = options.gpus.empty() && options.resources.find("gpu") == nullptr,
                 .wants_memory = options.resources.find("memory") == nullptr};
  const std::string host = host_name();
  std::memcpy(mine.host.data(), host.data(), std::min(host.size(), mine.host.size() - 1));
  for (const std::string& name : visible_gpus())
    if (mine.gpu_count < mine.gpus.size()) mine.gpus[mine.gpu_count++] = hash_text(name);
  return mine;
}

/// The ranks of a node, in their order, which share what each of them sees.
using node_views = std::vector<const node_view*>;

/// Of what is dealt in equal runs, from `first` up to `last`, to whom stands at `place` of so many.
struct run_of {
  run_of(std::size_t what, std::size_t place, std::size_t many)
      : first(what * place / many), last(what * (place + 1) / many) {}
  [[nodiscard]] std::size_t size() const noexcept { return last - first; }
  std::size_t first, last;
};

/// Those of whom `wanted` is true, and the place of `mine` among them.
template <class Wanted>
std::pair<std::size_t, std::size_t> place_among(const node_views& node, const node_view& mine, Wanted&& wanted) {
  std::size_t place = 0, many = 0;
  for (const node_view* const other : node) {
    if (!wanted(*other)) continue;
    if (other == &mine) place = many;
    ++many;
  }
  return {place, many};
}

/// A rank shares with those whose processors overlap with its own, and theirs with others', and so on.
inline std::size_t processors_of(const node_views& node, const node_view& mine) {
  processor_set shared = mine.processors, before;
  while (shared != before) {
    before = shared;
    for (const node_view* const other : node)
      if (other->wants_processors && (other->processors & shared).any()) shared |= other->processors;
  }
  const auto [place, many] = place_among(
      node, mine, [&](const node_view& other) { return other.wants_processors && (other.processors & shared).any(); });
  std::size_t share = std::min(run_of(shared.count(), place, many).size(), mine.processors.count());
  if (mine.quota != 0) {
    const auto [at, all] = place_among(node, mine, [](const node_view& other) { return other.wants_processors; });
    share = std::min(share, run_of(mine.quota, at, all).size());
  }
  return std::max<std::size_t>(share, 1);
}

/// CUDA's numbers of those that a rank is dealt among the ranks that see the same. Where there are more ranks several share
/// one, or the last have none.
inline std::vector<int> gpus_of(const node_views& node, const node_view& mine) {
  if (!mine.wants_gpus || mine.gpu_count == 0) return {};
  const auto [place, many] =
      place_among(node, mine, [&](const node_view& other) { return other.wants_gpus && other.gpus == mine.gpus; });
  if (mine.most_ranks_per_gpu == 0 && many > mine.gpu_count)
    return place < mine.gpu_count ? std::vector<int>{static_cast<int>(place)} : std::vector<int>{};
  const run_of dealt(mine.gpu_count, place, many);
  std::vector<int> numbers;
  for (std::size_t d = dealt.first; d < std::max(dealt.last, dealt.first + 1); ++d)
    numbers.push_back(static_cast<int>(d));
  return numbers;
}

inline std::size_t memory_of(const node_views& node, const node_view& mine) {
  const auto [place, many] = place_among(node, mine, [](const node_view& other) { return other.wants_memory; });
  return run_of(mine.memory, place, many).size();
}

/// Throws mpi_error (1110).
inline void check_gpus(const node_views& node) {
  std::map<std::uint64_t, std::size_t> ranks_of;  // by GPU, of those that a rank sees
  std::size_t ranks = 0, most = 0, allowed = node.size();
  for (const node_view* const one : node) {
    if (!one->wants_gpus || one->gpu_count == 0) continue;
    ++ranks;
    if (one->most_ranks_per_gpu != 0) allowed = std::min<std::size_t>(allowed, one->most_ranks_per_gpu);
    for (std::size_t d = 0; d < one->gpu_count; ++d) ranks_of.try_emplace(one->gpus[d], 0);
    for (const int d : gpus_of(node, *one)) most = std::max(most, ++ranks_of[one->gpus[static_cast<std::size_t>(d)]]);
  }
  if (most <= allowed) return;
  const auto counted = [](std::size_t n, const char* what) {
    return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
  };
  throw mpi_error::shared_gpu(
      std::string(node.front()->host.data()) + " has " + counted(ranks_of.size(), "GPU") + " for " +
      counted(ranks, "rank") + ": " + std::to_string(most) + " would have the same one, where " +
      std::to_string(allowed) +
      " may; start fewer ranks there, allow it by .most_ranks_per_gpu = " + std::to_string(most) +
      " in runtime_options, or, if the job needs none, hide them by an empty CUDA_VISIBLE_DEVICES");
}

/// The options of a rank, with its share of what they do not name. Throws mpi_error (1110), alike on all ranks.
inline runtime_options with_share(const std::vector<node_view>& all, std::size_t rank, runtime_options options) {
  std::map<std::uint64_t, node_views> nodes;
  for (const node_view& one : all) nodes[one.node].push_back(&one);
  for (const node_view& one : all)  // the first node of which there is something to say
    if (nodes[one.node].front() == &one) check_gpus(nodes[one.node]);
  const node_view& mine = all[rank];
  const node_views& node = nodes[mine.node];
  if (mine.wants_processors) options.threads = processors_of(node, mine);
  if (mine.wants_gpus) options.gpus = gpus_of(node, mine);
  if (mine.wants_memory) options.resources.set("memory", static_cast<std::int64_t>(memory_of(node, mine)));
  return options;
}

/// Of a rank of `comm`; collective. Throws as with_share(), and communicator_timeout (401), mpi_error (1101).
inline runtime_options share_of_node(MPI_Comm comm, runtime_options options) {
  int rank = 0, size = 0;
  {
    const std::lock_guard lock(environment::get().mutex());
    check(::MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
    check(::MPI_Comm_size(comm, &size), "MPI_Comm_size");
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  const std::vector<node_view> all = root_gather(comm, size, deadline)(view_of_node(options));
  return with_share(all, static_cast<std::size_t>(rank), std::move(options));
}

/// Of the only process.
inline runtime_options share_of_one(runtime_options options) {
  const std::vector<node_view> all{view_of_node(options)};
  return with_share(all, 0, std::move(options));
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
