// ranks: 1
// What a rank sees of processes of its node that end.
#include "catch.hpp"

#include <cadre/comm/detail/node_collectives.hpp>
#include <cadre/mpi/detail/process_watch.hpp>
#include <cadre/mpi/detail/shared_peers.hpp>

#include <signal.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace mpi_shared_peers {

namespace mpi = cadre::mpi::detail;
using cadre::detail::control_block;

pid_t start(int exit_code) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  if (exit_code < 0) ::pause();
  ::_exit(exit_code);
}

// Linux 6.15 and newer say how a process ended to others than its parent.
bool kernel_tells() {
  utsname about{};
  int major = 0, minor = 0;
  ::uname(&about);
  std::sscanf(about.release, "%d.%d", &major, &minor);
  return major > 6 || (major == 6 && minor >= 15);
}

struct node {
  explicit node(pid_t other)
      : memory(std::make_shared<cadre::mapping>(
            cadre::mapping::anonymous(mpi_shared_peers::mpi::shared_peers::control_bytes(2)))),
        block(control_block::create(memory->data(), 2)),
        peers({0, 1}, {static_cast<int>(::getpid()), static_cast<int>(other)}, memory, nullptr, 2) {}
  std::string break_of() {
    peers.poll(*block);
    if ((block->gate.load() & control_block::broken_flag) == 0) return "not broken";
    try {
      block->throw_broken({.sequence = 3});
    } catch (const cadre::communicator_aborted& error) {
      return error.what();
    }
  }
  std::shared_ptr<cadre::mapping> memory;
  control_block* block;
  mpi::shared_peers peers;
};

}  // namespace mpi_shared_peers

TEST_CASE("a process that is killed is named with its rank, host, signal and last call", "[mpi]") {
  using namespace mpi_shared_peers;
  const pid_t child = start(-1);
  node here(child);
  CHECK(here.break_of() == "not broken");
  here.block->slots()[1].doing.store(2 * 256 + static_cast<std::uint64_t>(cadre::detail::operation::all_reduce));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  CHECK(here.break_of() == "[cadre.comm.402] barrier #3: the communicator is broken: rank 1 (process " +
                               std::to_string(child) + " on " + mpi::host_name() +
                               "; last call: all_reduce #2) has ended" + (kernel_tells() ? " by signal 9" : ""));
}

TEST_CASE("a process that ended before it was watched is noticed, not waited for", "[mpi]") {
  using namespace mpi_shared_peers;
  const pid_t child = start(3);
  ::waitpid(child, nullptr, 0);
  node here(child);
  CHECK_THAT(here.break_of(), ContainsSubstring("rank 1 (process " + std::to_string(child) + " on "));
}

TEST_CASE("an exit code is told as one", "[mpi]") {
  using namespace mpi_shared_peers;
  if (!kernel_tells()) return;
  const pid_t child = start(3);
  const mpi::process_watch watch(child);  // a zombie can be watched too
  ::waitpid(child, nullptr, 0);
  CHECK(watch.ended());
  CHECK(watch.how() == " with exit code 3");
}

TEST_CASE("how a process ended is told at once, before its parent has taken the exit code", "[mpi]") {
  using namespace mpi_shared_peers;
  for (const int signal : {SIGKILL, 0}) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (signal != 0) ::raise(signal);
      ::_exit(3);
    }
    const mpi::process_watch watch(child);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!watch.ended() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    CHECK(watch.how() == (signal != 0 ? " by signal 9" : " with exit code 3"));
    ::waitpid(child, nullptr, 0);
  }
}

TEST_CASE("stages hold a cache line for each rank, however many ranks a communicator has", "[mpi]") {
  using namespace mpi_shared_peers;
  for (const int ranks : {1, 3, 2048, 2049, 16384, 16385, 1'000'000}) {
    const std::size_t world = static_cast<std::size_t>(ranks), room = mpi::shared_peers::room_of_stage(ranks);
    const std::size_t piece = cadre::detail::piece_of(mpi::shared_peers::stage_bytes, world);
    CHECK(piece >= 64);
    CHECK(piece % 64 == 0);
    CHECK(piece * world <= room);
  }
  const auto control = std::make_shared<cadre::mapping>(cadre::mapping::anonymous(mpi::shared_peers::control_bytes(2)));
  const mpi::shared_peers peers({0, 1}, {}, control, nullptr, 20'000);
  CHECK(peers.staging(0, 1) - peers.staging(0, 0) == 20'000 * 64);
  CHECK(peers.staging(1, 0) - peers.staging(0, 3) == 20'000 * 64);
}
