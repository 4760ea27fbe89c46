#ifndef CADRE_MPI_DETAIL_START_CHECKS_HPP
#define CADRE_MPI_DETAIL_START_CHECKS_HPP

#include <cadre/mpi/error.hpp>
#include <cadre/observe/log.hpp>
#include <cadre/os/processors.hpp>

#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <string>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// What an environment variable says; 0 if it is not there, or no number.
inline int number_in_environment(const char* name) noexcept {
  const char* const text = std::getenv(name);
  return text == nullptr ? 0 : std::atoi(text);
}

/// Of a process whose MPI knows of no other: whether its launcher has started several, each of which would be a job of its
/// own. Throws mpi_error (1109).
inline void check_launcher(int world_size) {
  if (world_size != 1 || number_in_environment("OMPI_COMM_WORLD_SIZE") == 1) return;
  if (const int n = number_in_environment("SLURM_NTASKS");
      n > 1 && std::getenv("SLURM_PROCID") != nullptr && std::getenv("SLURM_STEP_ID") != nullptr)
    throw mpi_error::started_apart(
        "srun has started " + std::to_string(n) +
        " processes that do not know each other, as this Open MPI has no support for its PMI: use "
        "mpirun inside of the allocation, or srun --mpi=pmix with one that has it");
  if (const int n = number_in_environment("PMI_SIZE"); n > 1)
    throw mpi_error::started_apart(
        "the launcher of another MPI has started " + std::to_string(n) +
        " processes that do not know each other: use the mpirun of the Open MPI that this program "
        "is linked with");
}

/// Threads that share fewer processors than the node has, as mpirun -n 2 binds each rank to one: a warning.
inline void warn_of_binding(std::size_t threads) {
  const std::size_t mine = affinity_processors();
  const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
  const int ranks = number_in_environment("OMPI_COMM_WORLD_LOCAL_SIZE");
  if (ranks == 0 || number_in_environment("OMPI_COMM_WORLD_LOCAL_RANK") != 0 || online < 1) return;
  const auto there = static_cast<std::size_t>(online);
  const bool share = threads > mine && mine < there;
  const bool idle = mine * static_cast<std::size_t>(ranks) < there;
  if (!share && !idle) return;
  log(log_level::warning, "mpi", [&] {
    return "mpirun has bound each rank of this node to " + std::to_string(mine) + " of " + std::to_string(there) +
           " processors, where it has " + std::to_string(threads) + (threads == 1 ? " thread" : " threads") +
           "; start it with --bind-to none";
  });
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
