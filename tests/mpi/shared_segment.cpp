// ranks: 1
// Threads stand for the ranks of a node that share memory.
#include "catch.hpp"

#include <cadre/comm.hpp>
#include <cadre/mpi/detail/shared_segment.hpp>

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace mpi_shared_segment {

using cadre::mpi::detail::sharing;

std::size_t named_files() {
  std::size_t n = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm"))
    n += entry.path().filename().string().starts_with("cadre-");
  return n;
}

std::vector<std::string> share(std::size_t bytes, std::span<const sharing> ways) {
  return cadre::local_team{3}.run([&](cadre::local_communicator& comm) -> std::string {
    const auto rank = static_cast<std::size_t>(comm.rank());
    const auto gather = [&]<class T>(const T& mine) { return comm.all_gather(mine); };
    try {
      auto made = cadre::mpi::detail::share_memory(bytes, rank, 1, rank * 4096, 4096, gather, ways);
      made.memory.data()[rank * 4096] = static_cast<std::byte>(rank + 1);
      comm.barrier();
      int sum = 0;
      for (std::size_t r = 0; r < 3; ++r) sum += static_cast<int>(made.memory.data()[r * 4096]);
      comm.barrier();
      return std::to_string(sum);
    } catch (const cadre::mapping_error& error) {
      return error.what();
    }
  });
}

// A file system of 64 KiB in place of /dev/shm, for this process alone.
bool mount_small_shm() {
  if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=64k") == 0;
}

}  // namespace mpi_shared_segment

TEST_CASE("ranks of a node see each other's writes, and no name of their memory is left", "[mpi]") {
  using namespace mpi_shared_segment;
  const std::size_t before = named_files();
  for (const sharing way : {sharing::descriptor, sharing::name})
    for (const std::string& sum : share(3 * 4096, {&way, 1})) CHECK(sum == "6");
  CHECK(named_files() == before);
}

TEST_CASE("memory that one rank cannot have is an error on every rank, and no name is left", "[mpi]") {
  using namespace mpi_shared_segment;
  const std::size_t before = named_files();
  for (const std::string& text : share(std::size_t{1} << 60, cadre::mpi::detail::all_ways)) {
    CHECK(text.starts_with("[cadre.os.159] rank "));
    CHECK(text.find(" could not share 1152921504606846976 bytes with its node: [cadre.os.159] cannot ") !=
          std::string::npos);
  }
  CHECK(named_files() == before);
}

TEST_CASE("a name is not left where a rank is lost while its node shares memory", "[mpi]") {
  using namespace mpi_shared_segment;
  const std::size_t before = named_files();
  static constexpr sharing way[] = {sharing::name};
  const auto lose = [&] {
    cadre::local_team{3}.run([&](cadre::local_communicator& comm) {
      const auto rank = static_cast<std::size_t>(comm.rank());
      int gathers = 0;
      const auto gather = [&]<class T>(const T& mine) {
        auto all = comm.all_gather(mine);
        if (++gathers == 2) throw std::runtime_error("a rank is lost");
        return all;
      };
      (void)cadre::mpi::detail::share_memory(3 * 4096, rank, 1, rank * 4096, 4096, gather, way);
    });
  };
  CHECK_THROWS_WITH(lose(), "a rank is lost");
  CHECK(named_files() == before);
}

TEST_CASE("a full /dev/shm is an error on every rank, not a SIGBUS", "[mpi]") {
  using namespace mpi_shared_segment;
  const pid_t child = ::fork();
  if (child == 0) {
    if (!mount_small_shm()) ::_exit(2);
    static constexpr sharing way[] = {sharing::name};
    bool good = true;
    for (const std::string& text : share(std::size_t{1} << 20, way))
      good &= text.starts_with("[cadre.os.159] rank 1 could not share 1048576 bytes with its node: [cadre.os.159] ") &&
              text.find("No space left on device") != std::string::npos;
    // Room for the pages that are touched, and for no more, is not enough either: it would fail some day.
    for (const std::string& sum : share(3 * 4096, way)) good &= sum == "6";
    ::_exit(good && named_files() == 0 ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
    WARN("skipped: needs a mount namespace");
  else
    CHECK(status == 0);
}
