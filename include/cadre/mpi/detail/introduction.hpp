#ifndef CADRE_MPI_DETAIL_INTRODUCTION_HPP
#define CADRE_MPI_DETAIL_INTRODUCTION_HPP

#include <cadre/actor/detail/handlers.hpp>
#include <cadre/actor/detail/membership.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/archive/to_bytes.hpp>
#include <cadre/core/hash.hpp>
#include <cadre/mpi/detail/topology.hpp>
#include <cadre/os/mapping.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// The bytes of the program that runs, as a hash. Cost: a read of its file.
inline std::uint64_t build_of_this_program() {
  const file_descriptor file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  std::vector<std::byte> piece(std::size_t{1} << 20);
  xxh64 hash;
  for (ssize_t n = 0; file && (n = ::read(file.get(), piece.data(), piece.size())) > 0;)
    hash.update(std::span(piece).first(static_cast<std::size_t>(n)));
  return hash.digest();
}

/// What a rank tells the others when a job begins, or when it takes the place of one that has died.
struct introduction {
  std::array<char, 256> host{};
  std::uint64_t node = 0;  // the same on ranks that share memory
  std::uint64_t build = 0, handlers = 0;
  std::array<std::uint64_t, 2> job{};  // of rank 0: a name for what the job has on each node
  std::int32_t process = 0;
  std::uint32_t jobs_made = 0;
  std::uint32_t threads = 0;
  std::uint32_t bytes = 0;
  std::array<std::byte, 4096> resources{};

  /// Of this process. Throws impossible_request (209).
  introduction(std::size_t pool_threads, const resource_set& has)
      : node(node_identity()),
        build(build_of_this_program()),
        handlers(cadre::detail::handler::fingerprint()),
        process(static_cast<std::int32_t>(::getpid())),
        jobs_made(cadre::detail::runtime_core::jobs_made()),
        threads(static_cast<std::uint32_t>(pool_threads)) {
    const auto now = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
    job = {hash_combine(now, static_cast<std::uint64_t>(::getpid())), now};
    const std::string name = cadre::detail::runtime_core::host();
    std::memcpy(host.data(), name.data(), std::min(name.size(), host.size() - 1));
    const std::vector<std::byte> packed = to_bytes(has);
    if (packed.size() > resources.size()) throw impossible_request("resources with names of more than 4 KiB");
    std::copy(packed.begin(), packed.end(), resources.begin());
    bytes = static_cast<std::uint32_t>(packed.size());
  }
  introduction() = default;

  [[nodiscard]] cadre::detail::peer_facts facts() const {
    return {host.data(), node, from_bytes<resource_set>(std::span(resources).first(bytes)), threads};
  }
  [[nodiscard]] bool is_same_program(const introduction& other) const noexcept {
    return build == other.build && handlers == other.handlers;
  }
  /// What the ranks of that node find their store by. With the node in it: hosts that are containers, or namespaces, of one
  /// machine may share what stores are found by.
  [[nodiscard]] std::string store_on(std::uint64_t a_node) const {
    return "cadre-job-" + std::to_string(job[0]) + "-" + std::to_string(job[1]) + "-" + std::to_string(a_node);
  }
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
