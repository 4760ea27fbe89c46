// ranks: 1
// How programs are started, rightly and wrongly: each in processes of its own, which run the hidden cases of this program.
#include "catch.hpp"
#include "own_process.hpp"

#include <cadre/mpi.hpp>

#include <unistd.h>

#include <cstdio>
#include <string>

namespace mpi_start {

using Catch::Matchers::Contains;

/// What is printed, and the exit code.
std::string start(const std::string& how, const std::string& job) {
  return own_process::text_of(own_process::run(how + " '" + own_process::this_program() + "' '" + job + "'"));
}
int where() { return cadre::this_task::runtime().rank(); }

}  // namespace mpi_start

TEST_CASE("a program is one process without a launcher, and as many as mpirun starts", "[mpi]") {
  using namespace mpi_start;
  CHECK_THAT(start("timeout 60", "job: size"), Contains("1 ranks"));
  CHECK_THAT(start("timeout 60 mpirun --oversubscribe --bind-to none -n 3", "job: size"), Contains("3 ranks"));
}

TEST_CASE("job: size", "[.job]") {
  static_cast<void>(
      cadre::mpi::run(0, nullptr, [](cadre::runtime& rt) { std::printf("%d ranks\n", rt.world_size()); }));
}

TEST_CASE("processes that a launcher has started apart are told which one to use", "[mpi]") {
  using namespace mpi_start;
  const std::string by_srun = start("SLURM_NTASKS=4 SLURM_PROCID=1 SLURM_STEP_ID=0 timeout 60", "job: runtime");
  INFO(by_srun);
  CHECK_THAT(by_srun,
             Contains("[cadre.mpi.1109] srun has started 4 processes that do not know each other, as this Open MPI "
                      "has no support for its PMI: use mpirun inside of the allocation, or srun --mpi=pmix with "
                      "one that has it"));
  const std::string by_another = start("PMI_SIZE=2 timeout 60", "job: runtime");
  INFO(by_another);
  CHECK_THAT(
      by_another,
      Contains("[cadre.mpi.1109] the launcher of another MPI has started 2 processes that do not know each other: use "
               "the mpirun of the Open MPI that this program is linked with"));
  // An allocation alone is no launcher.
  CHECK_THAT(start("SLURM_NTASKS=4 timeout 60", "job: runtime"), Contains("rank 0 of 1"));
}

TEST_CASE("job: runtime", "[.job]") {
  try {
    cadre::mpi::runtime rt({.threads = 2});
    std::printf("rank %d of %d\n", rt.rank(), rt.world_size());
  } catch (const cadre::error& e) {
    std::printf("%s\n", e.what());
  }
}

TEST_CASE("a rank that mpirun has bound to fewer processors than it has threads is warned once per node", "[mpi]") {
  using namespace mpi_start;
  if (cadre::affinity_processors() < 2) {
    WARN("skipped: needs two processors");
    return;
  }
  const std::string bound = start("timeout 60 mpirun --oversubscribe --bind-to core -n 2", "job: warned");
  INFO(bound);
  const std::string warning = "mpirun has bound each rank of this node to 1 of ";
  const auto first = bound.find(warning);
  REQUIRE(first != bound.npos);
  CHECK_THAT(bound, Contains(" processors, where it has 4 threads; start it with --bind-to none"));
  CHECK(bound.find(warning, first + 1) == bound.npos);
  const std::string free = start("timeout 60 mpirun --oversubscribe --bind-to none -n 2", "job: warned");
  INFO(free);
  CHECK(free.find(warning) == free.npos);
}

TEST_CASE("job: warned", "[.job]") {
  static_cast<void>(
      cadre::mpi::run(0, nullptr, [](cadre::runtime& rt) { std::printf("%d\n", rt.submit<&mpi_start::where>().get()); },
                      {.threads = 4}));
}
