#ifndef CADRE_MPI_DETAIL_TOPOLOGY_HPP
#define CADRE_MPI_DETAIL_TOPOLOGY_HPP

#include <cadre/config/config.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Who is who in a communicator. A rank's position counts the ranks node by node, so that what belongs to a node is one
/// run; on one node, or where ranks are placed node by node, it is the rank itself.
struct topology {
  /// By rank: the rank in the family, and a number that ranks of one node share.
  topology(std::vector<int> ranks_in_family, const std::vector<std::uint64_t>& nodes)
      : family_rank(std::move(ranks_in_family)) {
    std::map<std::uint64_t, int> known;
    for (std::size_t r = 0; r < nodes.size(); ++r) {
      const int node = known.try_emplace(nodes[r], static_cast<int>(known.size())).first->second;
      if (node == static_cast<int>(ranks_of.size())) ranks_of.emplace_back();
      auto& members = ranks_of[static_cast<std::size_t>(node)];
      node_of.push_back(node);
      local_of.push_back(static_cast<int>(members.size()));
      members.push_back(static_cast<int>(r));
    }
    first.push_back(0);
    for (const auto& members : ranks_of) first.push_back(first.back() + members.size());
    for (std::size_t r = 0; r < nodes.size(); ++r)
      position.push_back(first[static_cast<std::size_t>(node_of[r])] + static_cast<std::size_t>(local_of[r]));
  }

  [[nodiscard]] int size() const noexcept { return static_cast<int>(family_rank.size()); }
  [[nodiscard]] int nodes() const noexcept { return static_cast<int>(ranks_of.size()); }
  [[nodiscard]] const std::vector<int>& members(int node) const { return ranks_of[static_cast<std::size_t>(node)]; }

  std::vector<int> family_rank;
  std::vector<int> node_of, local_of;      // by rank
  std::vector<std::vector<int>> ranks_of;  // by node
  std::vector<std::size_t> first;          // by node: the position of its first rank; one more at the end
  std::vector<std::size_t> position;       // by rank
};

inline std::string host_name() {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  return host;
}

/// Equal for processes that can share memory: one machine (by its boot), one host name, one space of process numbers.
inline std::uint64_t node_identity() {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  const auto mix = [&](const std::string& text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
    hash = (hash ^ 0xffu) * 1099511628211u;
  };
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id") >> std::ws, boot);
  mix(boot);
  mix(host_name());
  struct stat space {};
  if (::stat("/proc/self/ns/pid", &space) == 0) mix(std::to_string(space.st_ino));
  return hash;
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
