#include "catch.hpp"

#include <cadre/async.hpp>

#include <Eigen/Core>
#include <omp.h>

namespace thread_limit_test {

// How many threads a parallel region really gets.
int threads_of_a_region() {
  int n = 0;
#pragma omp parallel
  {
#pragma omp atomic
    ++n;
  }
  return n;
}

}  // namespace thread_limit_test

TEST_CASE("in a task OpenMP and Eigen use as many threads as the task has cpus", "[thread_limit]") {
  using thread_limit_test::threads_of_a_region;
  ::omp_set_dynamic(0);
  ::omp_set_num_threads(4);
  cadre::thread_pool pool{{.threads = 3}};
  for (int round = 0; round < 3; ++round) {
    CHECK(pool.submit([] { return threads_of_a_region(); }).get() == 1);
    CHECK(pool.submit({.resources = {{"cpu", 3}}}, [] { return threads_of_a_region(); }).get() == 3);
    CHECK(pool.submit({.resources = {{"cpu", 2}}}, [] { return Eigen::nbThreads(); }).get() == 2);
    CHECK(pool.submit({.resources = {{"cpu", 0.5}}}, [] { return Eigen::nbThreads(); }).get() == 1);
  }
  CHECK(threads_of_a_region() == 4);  // what is no task is left alone
}
