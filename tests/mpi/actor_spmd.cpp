// ranks: 1 2 4
// A host that owns MPI, with a main on every rank, gives its communicators to runtimes.
#include "catch.hpp"

#include <cadre/mpi.hpp>

#include <atomic>
#include <csignal>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace mpi_actor_spmd {

int where() { return cadre::this_task::runtime().rank(); }
std::atomic<int> seen{0};
void count() { ++seen; }
struct tally {
  int n = 0;
  int add(int k) { return n += k; }
};

struct host {
  host() {
    int provided = 0, is_there = 0;
    MPI_Initialized(&is_there);
    if (is_there == 0) {
      MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided);
      REQUIRE(provided == MPI_THREAD_MULTIPLE);
    }
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  }
  [[nodiscard]] int sum(int mine) const {
    MPI_Allreduce(MPI_IN_PLACE, &mine, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    return mine;
  }
  int rank = 0, ranks = 0;
};

TEST_CASE("Every rank of a program asks every other one, while the host's own messages pass beside", "[mpi]") {
  const host h;
  cadre::mpi::runtime rt(MPI_COMM_WORLD, {.threads = 2});
  CHECK(rt.rank() == h.rank);
  CHECK(rt.world_size() == h.ranks);
  for (int round = 0; round < 20; ++round) {
    std::vector<cadre::future<int>> all;
    for (int r = 0; r < h.ranks; ++r) all.push_back(rt.submit<&where>({.on = cadre::on_rank(r)}));
    REQUIRE(h.sum(1) == h.ranks);
    for (int r = 0; r < h.ranks; ++r) CHECK(all[static_cast<std::size_t>(r)].get() == r);
  }
}

TEST_CASE("An actor that one rank makes under a name is found by all", "[mpi]") {
  const host h;
  cadre::mpi::runtime rt(MPI_COMM_WORLD, {.threads = 2});
  const auto t = rt.actor<tally>({.name = "tally", .get_or_create = true});
  t.call<&tally::add>(h.rank + 1).get();
  MPI_Barrier(MPI_COMM_WORLD);
  CHECK(rt.find_actor<tally>("tally").call<&tally::add>(0).get() == h.ranks * (h.ranks + 1) / 2);
}

TEST_CASE("What any rank has begun is done when the runtime has ended, and another one may follow", "[mpi]") {
  const host h;
  for (int round = 1; round <= 3; ++round) {
    {
      cadre::mpi::runtime rt(MPI_COMM_WORLD, {.threads = 2});
      for (int r = 0; r < h.ranks; ++r)
        for (int k = 0; k < 10; ++k) rt.submit<&count>({.on = cadre::on_rank(r)});  // nobody waits for it
    }
    CHECK(seen.exchange(0) == 10 * h.ranks);
    MPI_Barrier(MPI_COMM_WORLD);
  }
}

TEST_CASE("Each half of the ranks has a runtime of its own, beside one of all", "[mpi]") {
  const host h;
  MPI_Comm half = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, h.rank % 2, 0, &half);
  {
    cadre::mpi::runtime all(MPI_COMM_WORLD, {.threads = 1});
    cadre::mpi::runtime mine(half, {.threads = 1});
    CHECK(mine.world_size() == (h.ranks + 1 - h.rank % 2) / 2);
    for (int r = 0; r < mine.world_size(); ++r) {
      CHECK(mine.submit<&where>({.on = cadre::on_rank(r)}).get() == r);
      CHECK(all.submit<&where>({.on = cadre::on_rank(2 * r + h.rank % 2)}).get() == 2 * r + h.rank % 2);
    }
  }
  MPI_Comm_free(&half);  // it was duplicated
}

extern "C" void ignore_it(int) {}

TEST_CASE("A runtime leaves the host's signals, and MPI, as they are", "[mpi]") {
  const host h;
  struct sigaction before {
  }, after{};
  std::vector<int> changed;
  const auto old = std::signal(SIGUSR1, &ignore_it);
  std::vector<struct sigaction> kept(32);
  for (int s = 1; s < 32; ++s) ::sigaction(s, nullptr, &kept[static_cast<std::size_t>(s)]);
  {
    cadre::mpi::runtime rt(MPI_COMM_WORLD, {.threads = 1});
    CHECK(rt.submit<&where>({.on = cadre::on_rank(h.ranks - 1)}).get() == h.ranks - 1);
  }
  for (int s = 1; s < 32; ++s) {
    ::sigaction(s, nullptr, &after);
    before = kept[static_cast<std::size_t>(s)];
    if (before.sa_handler != after.sa_handler) changed.push_back(s);
  }
  CHECK(changed.empty());
  std::signal(SIGUSR1, old);
  CHECK(h.sum(1) == h.ranks);
}

TEST_CASE("the host finalises MPI itself", "[mpi]") {
  const host h;
  MPI_Barrier(MPI_COMM_WORLD);
  int finalized = 0;
  MPI_Finalized(&finalized);
  REQUIRE(finalized == 0);
  MPI_Finalize();
}

}  // namespace mpi_actor_spmd
