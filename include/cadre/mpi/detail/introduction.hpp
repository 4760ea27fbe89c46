#ifndef CADRE_MPI_DETAIL_INTRODUCTION_HPP
#define CADRE_MPI_DETAIL_INTRODUCTION_HPP

#include <cadre/actor/detail/handlers.hpp>
#include <cadre/actor/detail/membership.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/detail/sent_options.hpp>
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
  std::uint32_t bytes = 0;
  std::array<std::byte, 4096> resources{};  // and GPUs, and how many threads

  static introduction of_process() {
    introduction me{.node = node_identity(),
                    .build = build_of_this_program(),
                    .handlers = cadre::detail::handler::fingerprint(),
                    .process = static_cast<std::int32_t>(::getpid()),
                    .jobs_made = cadre::detail::runtime_core::jobs_made()};
    const auto now = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
    me.job = {hash_combine(now, static_cast<std::uint64_t>(::getpid())), now};
    const std::string host = cadre::detail::runtime_core::host();
    std::memcpy(me.host.data(), host.data(), std::min(host.size(), me.host.size() - 1));
    return me;
  }
  /// Throws impossible_request (209).
  static introduction of_rank(cadre::detail::runtime_core& core) {
    introduction me = of_process();
    const std::vector<std::byte> has =
        to_bytes(core.resources(), core.gpus(), static_cast<std::uint64_t>(core.pool().size()));
    if (has.size() > me.resources.size()) throw impossible_request("resources with names of more than 4 KiB");
    std::copy(has.begin(), has.end(), me.resources.begin());
    me.bytes = static_cast<std::uint32_t>(has.size());
    return me;
  }

  [[nodiscard]] cadre::detail::peer_facts facts() const {
    cadre::detail::peer_facts f{host.data(), node, {}, {}, 0};
    from_bytes(std::span(resources).first(bytes), f.resources, f.gpus, f.threads);
    return f;
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
