// ranks: 1 2 3
#include "catch.hpp"

#include <cadre/mpi.hpp>

#include <optional>

TEST_CASE("a host that initialised MPI finalises it itself, and communicators that it forgot end no process", "[mpi]") {
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided);
  REQUIRE(provided >= MPI_THREAD_SERIALIZED);
  int ranks = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  std::optional<cadre::mpi::communicator> on_a_node, over_nodes;
  on_a_node.emplace();
  over_nodes.emplace(cadre::mpi::communicator_options{.ranks_per_node = 1});
  CHECK(on_a_node->all_reduce(1, cadre::sum) == ranks);
  CHECK(over_nodes->all_reduce(1, cadre::sum) == ranks);
  {
    cadre::mpi::communicator short_lived;
    CHECK(short_lived.all_reduce(1, cadre::sum) == ranks);
  }
  int mine = 1, finalized = 0;
  MPI_Allreduce(MPI_IN_PLACE, &mine, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);  // the host's messages pass beside ours
  CHECK(mine == ranks);
  MPI_Finalized(&finalized);
  REQUIRE(finalized == 0);
  MPI_Finalize();

  CHECK(on_a_node->all_reduce(1, cadre::sum) == ranks);  // memory of the node does not need MPI
  if (over_nodes->node_count() > 1)
    CHECK_THROWS_WITH(
        over_nodes->all_reduce(1, cadre::sum),
        ContainsSubstring("[cadre.comm.402] all_reduce #2 of 1 int32 with sum: the communicator is broken: "
                          "MPI has been finalised, and "));
  over_nodes.reset();
  on_a_node.reset();
}
