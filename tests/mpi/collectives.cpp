// ranks: 1 2 3 4
// Every rank runs the suite that threads run too, on the ranks as they are and on pretended nodes.
#include "catch.hpp"
#include "comm/collectives_suite.hpp"

#include <cadre/mpi.hpp>

#include <exception>
#include <string>
#include <thread>
#include <vector>

namespace mpi_collectives {

void run_suite(int ranks_per_node) {
  cadre::mpi::communicator comm(cadre::mpi::communicator_options{.ranks_per_node = ranks_per_node});
  for (const auto& [name, run] : collectives_suite::cases<cadre::mpi::communicator>) {
    CAPTURE(comm.rank(), comm.world_size(), comm.node_count(), name);
    try {
      run(comm);
      comm.barrier();
    } catch (const std::exception& error) {
      comm.abort("rank " + std::to_string(comm.rank()) + " failed in '" + name + "': " + error.what());
      FAIL(error.what());
    }
  }
}

}  // namespace mpi_collectives

TEST_CASE("a program knows before it touches MPI that mpirun started it", "[mpi]") { CHECK(cadre::mpi::launched()); }

TEST_CASE("ranks of one node do what every communicator must do", "[mpi]") { mpi_collectives::run_suite(0); }

TEST_CASE("ranks on nodes of two do what every communicator must do", "[mpi]") { mpi_collectives::run_suite(2); }

TEST_CASE("ranks on nodes of their own do what every communicator must do", "[mpi]") { mpi_collectives::run_suite(1); }

TEST_CASE("a communicator knows its nodes", "[mpi]") {
  const cadre::mpi::communicator one;
  CHECK(one.node_count() == 1);
  CHECK(one.local_rank() == one.rank());
  CHECK(one.local_size() == one.world_size());
  CHECK(one.backend() == "mpi");
  const cadre::mpi::communicator pairs(cadre::mpi::communicator_options{.ranks_per_node = 2});
  CHECK(pairs.node_count() == (pairs.world_size() + 1) / 2);
  CHECK(pairs.node() == pairs.rank() / 2);
  CHECK(pairs.local_rank() == pairs.rank() % 2);
}

TEST_CASE("a communicator is made of an MPI communicator of the host", "[mpi]") {
  const cadre::mpi::communicator world;  // initialises MPI
  MPI_Comm reversed = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, 0, -world.rank(), &reversed);
  {
    cadre::mpi::communicator comm(reversed);
    CHECK(comm.rank() == world.world_size() - 1 - world.rank());
    CHECK(comm.all_reduce(1, cadre::sum) == world.world_size());
  }
  MPI_Comm_free(&reversed);
}

TEST_CASE("a communicator that not all ranks come to make is an error in time", "[mpi]") {
  cadre::mpi::communicator world;
  if (world.world_size() == 1) return;
  // Of a duplicate that is never freed: MPI may complete what it began on it at any later time.
  MPI_Comm apart = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &apart);
  if (world.rank() == 0)
    CHECK_THROWS_WITH(cadre::mpi::communicator(apart, {.timeout = std::chrono::milliseconds(100)}),
                      "[cadre.comm.401] not all ranks came to make the communicator in time: making one is collective");
  world.barrier();
}

TEST_CASE("more memory than there is is an error on every rank, and the communicator works on", "[mpi]") {
  cadre::mpi::communicator comm;
  CHECK_THROWS_AS(comm.allocate_bytes(std::size_t{1} << 60), cadre::mapping_error);
  if (comm.world_size() > 1)  // one rank asks for too much
    CHECK_THROWS_WITH(comm.allocate_bytes(comm.rank() == 1 ? std::size_t{1} << 60 : 64),
                      "[cadre.os.159] rank 1 cannot map 1152921504606846976 bytes: Cannot allocate memory");
  CHECK_THROWS_AS(comm.allocate_bytes(std::size_t{1} << 47),
                  cadre::mapping_error);  // passes that check, and is not there
  CHECK(comm.all_reduce(1, cadre::sum) == comm.world_size());
}

TEST_CASE("memory outlives its communicator", "[mpi]") {
  cadre::buffer<float> memory;
  {
    cadre::mpi::communicator comm;
    memory = comm.allocate<float>(std::size_t{1} << 20);
    std::ranges::fill(memory, 1.0f);
    comm.all_reduce(memory, cadre::sum);
    CHECK(memory[12345] == static_cast<float>(comm.world_size()));
  }
  std::ranges::fill(memory, 2.0f);
  CHECK(memory[54321] == 2.0f);
}

TEST_CASE("children that two threads split at the same time do not hear each other", "[mpi]") {
  cadre::mpi::communicator comm(cadre::mpi::communicator_options{.ranks_per_node = 1});
  auto one = comm.split(0, comm.rank()), other = comm.split(0, comm.rank());
  const auto wrong_sums = [n = comm.world_size()](cadre::mpi::communicator& mine, int salt) {
    int wrong = 0;
    std::vector<float> large(20000);
    try {
      for (int round = 0; round < 300; ++round) {
        auto child = mine.split(0, mine.rank());
        wrong += child.all_reduce(round + salt, cadre::sum) != (round + salt) * n;
        mine.all_reduce(large, cadre::sum);  // lets the two threads drift
      }
    } catch (const cadre::communicator_error&) {
      ++wrong;
    }
    return wrong;
  };
  int wrong = 0;
  std::thread thread([&] { wrong = wrong_sums(other, 1000); });
  CHECK(wrong_sums(one, 0) == 0);
  thread.join();
  CHECK(wrong == 0);
}
