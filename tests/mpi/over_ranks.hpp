#ifndef CADRE_TESTS_MPI_OVER_RANKS_HPP
#define CADRE_TESTS_MPI_OVER_RANKS_HPP

#include "actor/job.hpp"
#include "catch_main.hpp"

#include <cadre/mpi.hpp>

/// What main() does, for tests that use one runtime which spans the ranks. Of two threads: some have a task look whether
/// another one runs on the same rank.
inline int run_tests_over_ranks(int argc, char** argv) {
  return cadre::mpi::run(argc, argv,
                         [&](cadre::runtime& rt) {
                           job::spanning = &rt;
                           return run_tests(argc, argv, "~[one process]");
                         },
                         {.threads = 2});
}

#endif
