#include "catch.hpp"

#include <cadre/comm.hpp>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace local_team_tests {

std::string message_of(auto&& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace local_team_tests

TEST_CASE("a team returns what its ranks return, in rank order", "[comm]") {
  const std::vector<std::string> names =
      cadre::local_team{3}.run([](cadre::local_communicator& comm) { return "rank " + std::to_string(comm.rank()); });
  CHECK(names == std::vector<std::string>{"rank 0", "rank 1", "rank 2"});
}

TEST_CASE("rank 0 runs on the calling thread, and a team of one starts no thread", "[comm]") {
  const auto caller = std::this_thread::get_id();
  const auto one = cadre::local_team{1}.run([](cadre::local_communicator& comm) {
    CHECK(comm.world_size() == 1);
    return std::this_thread::get_id();
  });
  CHECK(one.at(0) == caller);
  const auto two = cadre::local_team{2}.run([](cadre::local_communicator&) { return std::this_thread::get_id(); });
  CHECK(two.at(0) == caller);
  CHECK(two.at(1) != caller);
}

TEST_CASE("a team throws what a rank threw, and tells the other ranks which and why", "[comm]") {
  struct mine : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  for (const int bad : {0, 1, 2, 3}) {
    std::atomic<int> told{0};
    const auto run = [&] {
      cadre::local_team{4}.run([&](cadre::local_communicator& comm) {
        if (comm.rank() == bad) throw mine("the disk is full");
        const std::string text = local_team_tests::message_of([&] { comm.barrier(); });
        if (text == "[cadre.comm.402] barrier #1: the communicator is broken: rank " + std::to_string(bad) +
                        " threw: the disk is full")
          ++told;
        comm.barrier();  // throws again: a consequence, not what run reports
      });
    };
    CHECK_THROWS_AS(run(), mine);
    CHECK(told == 3);
  }
}

TEST_CASE("a rank that fails with a child communicator on its stack is still the one reported", "[comm]") {
  const auto run = [] {
    cadre::local_team{3}.run([](cadre::local_communicator& comm) {
      auto child = comm.split(0, comm.rank());
      if (comm.rank() == 2) throw std::domain_error("negative loss");
      for (;;) child.barrier();
    });
  };
  CHECK_THROWS_AS(run(), std::domain_error);
}

TEST_CASE("a rank that fails ends the waits in a child communicator that outlives the function", "[comm]") {
  std::vector<std::optional<cadre::local_communicator>> kept(3);
  std::atomic<int> told{0};
  const auto run = [&] {
    cadre::local_team{3}.run([&](cadre::local_communicator& comm) {
      auto& child = kept[static_cast<std::size_t>(comm.rank())].emplace(comm.split(0, comm.rank()));
      child.set_timeout(std::chrono::seconds(20));
      if (comm.rank() == 2) throw std::domain_error("negative loss");
      const std::string text = local_team_tests::message_of([&] { child.barrier(); });
      if (text == "[cadre.comm.402] barrier #1: the communicator is broken: rank 2 threw: negative loss") ++told;
    });
  };
  CHECK_THROWS_AS(run(), std::domain_error);
  CHECK(told == 2);
}

TEST_CASE("a rank that returns early is an error of those that wait for it", "[comm]") {
  CHECK(local_team_tests::message_of([] {
          cadre::local_team{2}.run([](cadre::local_communicator& comm) {
            if (comm.rank() == 0) (void)comm.all_reduce(1.0, cadre::sum);
          });
        }) ==
        "[cadre.comm.402] all_reduce #1 of 1 float64 with sum: the communicator is broken: rank 1 (last call: "
        "none) has left the communicator while rank 0 waits in "
        "all_reduce #1 of 1 float64 with sum");
}

TEST_CASE("abort may come from a thread that is no rank", "[comm]") {
  CHECK(local_team_tests::message_of([] {
          cadre::local_team{2}.run([](cadre::local_communicator& comm) {
            if (comm.rank() == 1) {
              while (true) comm.barrier();
            }
            std::thread([&] { comm.abort("the user pressed a key"); }).join();
            comm.barrier();
          });
        }).find("the communicator is broken: the user pressed a key") != std::string::npos);
}

TEST_CASE("an abort in the middle of large reductions frees no buffer that a peer still works on", "[comm]") {
  // The sanitizers watch this one: buffers die as soon as their rank has thrown.
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> at_work{0};
    const auto run = [&] {
      cadre::local_team{4}.run([&](cadre::local_communicator& comm) {
        std::thread axe;
        if (comm.rank() == 0)
          axe = std::thread([&] {
            while (at_work < 8 + round) std::this_thread::yield();
            comm.abort("enough");
          });
        try {
          for (;;) {
            std::vector<float> buffer(20000, 1.0f);
            ++at_work;
            comm.all_reduce(buffer, cadre::sum);
          }
        } catch (...) {
          if (axe.joinable()) axe.join();
          throw;
        }
      });
    };
    CHECK_THROWS_AS(run(), cadre::communicator_aborted);
  }
}

TEST_CASE("a rank for which the system has no thread is an error of the team, and ends the ranks that wait for it",
          "[comm]") {
  std::string text;
  int channel[2];
  REQUIRE(::pipe(channel) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    // As a user whom the limit binds: five threads beside this one (of which a sanitizer takes some), or none where this
    // user has other processes.
    const bool root = ::getuid() == 0;
    const rlimit limit{root ? 6u : 0u, root ? 6u : 0u};
    if (root && ::setuid(54'321) != 0) ::_exit(1);
    ::setrlimit(RLIMIT_NPROC, &limit);
    std::atomic<int> ran{0}, told{0};
    const std::string said = local_team_tests::message_of([&] {
      cadre::local_team{8}.run([&](cadre::local_communicator& comm) {
        ++ran;
        const std::string why = local_team_tests::message_of([&] { comm.barrier(); });
        if (why.starts_with("[cadre.comm.402] barrier #1: the communicator is broken: rank ") &&
            why.find(" threw: [cadre.os.151]") != why.npos)
          ++told;
      });
    });
    const std::string all = said + " ran " + std::to_string(ran) + " told " + std::to_string(told);
    [[maybe_unused]] const ssize_t sent = ::write(channel[1], all.data(), all.size());
    ::_exit(0);
  }
  ::close(channel[1]);
  char buffer[1000];
  for (ssize_t n; (n = ::read(channel[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(n));
  ::close(channel[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 0);
  const std::string begin = "[cadre.os.151] cannot start thread 'rank ";
  REQUIRE(text.starts_with(begin));
  const int rank = std::stoi(text.substr(begin.size()));
  CHECK(rank >= (::getuid() == 0 ? 2 : 1));
  CHECK(rank <= 6);
  const std::string others = std::to_string(rank - 1);
  CHECK(text == begin + std::to_string(rank) +
                    " of 8': Resource temporarily unavailable; raise the limit on threads (ulimit -u, the cgroup's "
                    "pids.max) or start fewer ran " +
                    others + " told " + others);
}

TEST_CASE("a team without ranks is refused", "[comm]") {
  CHECK(local_team_tests::message_of([] { cadre::local_team{0}; }) ==
        "[cadre.comm.405] a team needs at least one rank, not 0");
}

TEST_CASE("one team runs several functions at once", "[comm]") {
  const cadre::local_team team{2};
  std::atomic<int> total{0};
  const auto work = [&] {
    team.run([&](cadre::local_communicator& comm) { total += comm.all_reduce(1, cadre::sum); });
  };
  std::thread other(work);
  work();
  other.join();
  CHECK(total == 8);
}

TEST_CASE("a communicator of one needs no team", "[comm]") {
  cadre::local_communicator alone;
  std::vector<double> range{1, 2};
  alone.all_reduce(range, cadre::sum);
  CHECK(range == std::vector<double>{1, 2});
  cadre::any_communicator any{cadre::local_communicator{}};
  CHECK(any.world_size() == 1);
  CHECK(any.backend() == "threads");
}
