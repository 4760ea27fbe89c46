// ranks: 1
// Ranks that are killed, in jobs of their own: mpirun, told to leave the others alive, runs the hidden cases of this
// program.
#include "catch.hpp"

#include <cadre/mpi.hpp>

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace mpi_killed_rank {

/// The lines that ranks of the hidden case `name` print, in any order.
std::string run_job(int ranks, const std::string& name) {
  // Without this process's own MPI variables, as the job is none of its.
  const std::string command =
      "env -i PATH=\"$PATH\" HOME=\"$HOME\" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
      "timeout -k 2 60 mpirun --enable-recovery --oversubscribe --bind-to none -n " +
      std::to_string(ranks) + " '" + std::filesystem::read_symlink("/proc/self/exe").string() + "' '" + name + "' 2>&1";
  std::string output;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  char line[2048];
  while (std::fgets(line, sizeof line, pipe.get()) != nullptr) output += line;
  return output;
}

/// Runs until the communicator breaks, says how, and ends this process: MPI_Finalize would wait for the dead.
template <class Call>
[[noreturn]] void survive(cadre::mpi::communicator& comm, Call&& call) {
  const auto start = std::chrono::steady_clock::now();
  try {
    for (;;) call();
  } catch (const std::exception& error) {
    const bool quick = std::chrono::steady_clock::now() - start < std::chrono::seconds(10);
    std::printf("rank %d %s: %s\n", comm.rank(), quick ? "soon" : "late", error.what());
    std::fflush(stdout);
  }
  if (comm.rank() != 0) ::_exit(0);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  MPI_Abort(MPI_COMM_WORLD, 0);
  ::_exit(0);
}

void lose_rank(int victim, int ranks_per_node, std::size_t elements, bool allocated) {
  cadre::mpi::communicator comm(cadre::mpi::communicator_options{.ranks_per_node = ranks_per_node});
  std::vector<float> plain(elements);
  auto shared = comm.allocate<float>(elements);
  int round = 0;
  survive(comm, [&] {
    if (allocated)
      comm.all_reduce(shared, cadre::max);
    else
      comm.all_reduce(plain, cadre::max);
    if (++round == 20 && comm.rank() == victim) ::raise(SIGKILL);
  });
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

std::size_t named_files() {
  std::size_t n = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm"))
    n += entry.path().filename().string().starts_with("cadre-");
  return n;
}

}  // namespace mpi_killed_rank

TEST_CASE("job: rank 1 dies in allocated memory", "[.]") { mpi_killed_rank::lose_rank(1, 0, 300000, true); }
TEST_CASE("job: rank 2 dies in plain memory", "[.]") { mpi_killed_rank::lose_rank(2, 0, 300000, false); }
TEST_CASE("job: rank 0 dies in small messages", "[.]") { mpi_killed_rank::lose_rank(0, 0, 10, false); }
TEST_CASE("job: rank 3 dies on nodes of two", "[.]") { mpi_killed_rank::lose_rank(3, 2, 300000, false); }
TEST_CASE("job: rank 2 dies leading a node of two", "[.]") { mpi_killed_rank::lose_rank(2, 2, 10, false); }

TEST_CASE("a killed rank is an error of all others, with its rank, process, host, signal and last call", "[mpi]") {
  using namespace mpi_killed_rank;
  struct job {
    int ranks, victim;
    std::string name;
  };
  const std::size_t before = named_files();
  for (const auto& [ranks, victim, name] :
       {job{2, 1, "job: rank 1 dies in allocated memory"}, job{3, 2, "job: rank 2 dies in plain memory"},
        job{2, 0, "job: rank 0 dies in small messages"}, job{4, 3, "job: rank 3 dies on nodes of two"},
        job{4, 2, "job: rank 2 dies leading a node of two"}}) {
    const std::string output = run_job(ranks, name);
    CAPTURE(name, output);
    const std::string host = cadre::mpi::detail::host_name();
    CHECK(count(output, " soon: [cadre.comm.402] all_reduce #") == static_cast<std::size_t>(ranks - 1));
    CHECK(count(output, "the communicator is broken: rank " + std::to_string(victim) + " (process ") ==
          static_cast<std::size_t>(ranks - 1));
    CHECK(count(output, " on " + host + "; last call: all_reduce #") == static_cast<std::size_t>(ranks - 1));
    CHECK(count(output, ") has ended") == static_cast<std::size_t>(ranks - 1));
  }
  CHECK(named_files() == before);
}
