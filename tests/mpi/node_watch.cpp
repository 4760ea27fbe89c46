// ranks: 1
// Which processes of the node have ended.
#include "catch.hpp"

#include <cadre/mpi.hpp>
#include <cadre/mpi/detail/node_watch.hpp>
#include <cadre/mpi/detail/topology.hpp>
#include <cadre/mpi/detail/waker.hpp>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace mpi_node_watch {

using namespace std::chrono_literals;
namespace mpi = cadre::mpi::detail;

/// A process that does nothing until it is killed.
struct child {
  child() : process(::fork()) {
    if (process != 0) return;
    for (;;) ::pause();
  }
  child(const child&) = delete;
  child& operator=(const child&) = delete;
  ~child() { end(); }
  void kill() const { ::kill(process, SIGKILL); }
  void end() {
    if (process <= 0) return;
    kill();
    ::waitpid(process, nullptr, 0);
    process = 0;
  }
  pid_t process;
};

/// Those that it tells of, until they are so many.
std::map<int, std::string> look(mpi::node_watch& watch, std::size_t enough) {
  std::map<int, std::string> ended;
  for (const auto deadline = std::chrono::steady_clock::now() + 10s;
       ended.size() < enough && std::chrono::steady_clock::now() < deadline;)
    watch.look([&](int rank, std::string how) { CHECK(ended.try_emplace(rank, std::move(how)).second); });
  return ended;
}

TEST_CASE("Each of the ranks of a node that end is told of, once, with its signal where the kernel knows",
          "[mpi][node_watch]") {
  constexpr int ranks = 60;
  std::vector<int> numbers;
  for (int r = 0; r < ranks; ++r) numbers.push_back(r);
  const mpi::topology who(numbers, std::vector<std::uint64_t>(ranks, 1));
  std::vector<child> children(ranks);
  mpi::node_watch watch(who, 0, [&](int r) { return children[static_cast<std::size_t>(r)].process; });
  std::size_t told = 0;
  watch.look([&](int, const std::string&) { ++told; });
  REQUIRE(told == 0);
  for (int r = 2; r < ranks; ++r) children[static_cast<std::size_t>(r)].end();
  const auto ended = look(watch, ranks - 2);
  CHECK(ended.size() == ranks - 2);
  CHECK(ended.count(0) + ended.count(1) == 0);
  for (const auto& [rank, how] : ended) {
    CHECK(how.find("its process ") == 0);
    CHECK(how.find(" on " + mpi::host_name() + " has ended") != std::string::npos);
  }
  children[1].end();
  CHECK(look(watch, 1).count(1) == 1);
  watch.look([&](int, const std::string&) { ++told; });
  CHECK(told == 0);
}

TEST_CASE("A process that had ended before it was watched is told of", "[mpi][node_watch]") {
  child gone;
  const pid_t process = gone.process;
  gone.end();
  const mpi::topology alone({0}, {0});
  mpi::node_watch watch(alone, 0, [](int) { return 0; });
  watch.add(7, process);
  const auto ended = look(watch, 1);
  REQUIRE(ended.count(7) == 1);
  CHECK(ended.at(7) == "its process " + std::to_string(process) + " on " + mpi::host_name() + " has ended");
}

TEST_CASE("Whoever sleeps is woken by the end of a process that came later too", "[mpi][node_watch]") {
  const mpi::topology alone({0}, {0});
  mpi::node_watch watch(alone, 0, [](int) { return 0; });
  std::atomic<int> woken{0};
  mpi::waker waker;
  REQUIRE(waker.watch(watch.file()));
  waker.start([&](int) { woken.fetch_add(1); });
  std::size_t told = 0;
  for (int i = 0; i < 10; ++i) {
    child one;
    watch.add(i, one.process);
    const int before = woken.load();
    one.kill();
    for (const auto deadline = std::chrono::steady_clock::now() + 10s;
         woken.load() == before && std::chrono::steady_clock::now() < deadline;)
      std::this_thread::sleep_for(1ms);
    CHECK(woken.load() > before);
    if (i % 2 == 1) told += look(watch, 2).size();  // also of one whose end was not looked at when it woke
  }
  CHECK(told == 10);
}

}  // namespace mpi_node_watch
