// ranks: 1
#include "catch.hpp"

#include <cadre/mpi.hpp>

TEST_CASE("a host that initialised MPI for one thread, or has finalised it, is told so, and so is what MPI reports") {
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SINGLE, &provided);
  if (provided == MPI_THREAD_SINGLE) {
    try {
      cadre::mpi::communicator world;
      FAIL("a communicator was made");
    } catch (const cadre::mpi::mpi_error& e) {
      CHECK_THAT(e.what(), ContainsSubstring("[cadre.mpi.1102]"));
      CHECK_THAT(e.what(), ContainsSubstring("MPI_THREAD_SERIALIZED"));
    }
  }
  CHECK_THAT(cadre::mpi::mpi_error::call_failed("MPI_Send", MPI_ERR_COMM).what(),
             ContainsSubstring("[cadre.mpi.1101] MPI_Send failed: MPI_ERR_COMM"));
  MPI_Finalize();
  try {
    cadre::mpi::communicator world;
    FAIL("a communicator was made");
  } catch (const cadre::mpi::mpi_error& e) {
    CHECK_THAT(e.what(), ContainsSubstring("[cadre.mpi.1102] MPI has been finalised"));
  }
}
