// ranks: 1
// How programs are started, rightly and wrongly: each in processes of its own, which run the hidden cases of this program.
#include "catch.hpp"
#include "own_process.hpp"

#include <cadre/mpi.hpp>

#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <string>
#include <utility>

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

TEST_CASE("ranks share the processors of their node, or have those that mpirun has bound them to", "[mpi]") {
  using namespace mpi_start;
  const std::size_t there = cadre::usable_processors();
  if (there < 2) {
    WARN("skipped: needs two processors");
    return;
  }
  const std::string half = "threads " + std::to_string(there / 2) + "\n";
  const std::string shared = start("timeout 60 mpirun --oversubscribe --bind-to none -n 2", "job: threads");
  INFO(shared);
  CHECK(shared.find(half) != shared.npos);
  const std::string bound = start("timeout 60 mpirun --oversubscribe --bind-to core -n 2", "job: threads");
  INFO(bound);
  CHECK(bound.find("threads ") != bound.npos);
  if (cadre::affinity_processors() == 2) CHECK_THAT(bound, Contains("threads 1\n"));
  CHECK_THAT(start("timeout 60", "job: threads"), Contains("threads " + std::to_string(there) + "\n"));
}

TEST_CASE("job: threads", "[.job]") {
  cadre::mpi::runtime rt;
  if (rt.rank() == 0) std::printf("threads %zu\n", rt.pool().size());
}

TEST_CASE("of more ranks than GPUs the last have none, or as many share one as the options allow", "[mpi]") {
  using namespace mpi_start;
  const std::string launch = "timeout 60 mpirun --oversubscribe --bind-to none -n 2";
  // Two GPUs, in a /proc/driver of this command's own, where the machine has none; the variable chooses among them.
  std::string before, after;
  if (cadre::visible_gpus().empty()) {
    before =
        "unshare -m sh -c 'mount -t tmpfs none /proc/driver && mkdir -p /proc/driver/nvidia/gpus/0000:01:00.0 "
        "/proc/driver/nvidia/gpus/0000:02:00.0 && exec \"$0\" \"$@\"' ";
    if (own_process::run(before + "true").exit_code != 0) {
      WARN("skipped: needs a GPU, or the right to mount a folder over /proc/driver");
      return;
    }
  }
  const auto run = [&](const std::string& visible, const std::string& job) {
    return start("CUDA_VISIBLE_DEVICES=" + visible + " " + before + launch, job);
  };
  const std::string few = run("0", "job: gpus");
  INFO(few);
  CHECK_THAT(few, Contains("rank 0: gpu 0\n") && Contains("rank 1: [cadre.async.209]"));
  const std::string refused = run("0", "job: gpus for one rank each");
  INFO(refused);
  const std::string text =
      " has 1 GPU for 2 ranks: 2 would have the same one, where 1 may; start fewer ranks there, allow it "
      "by .most_ranks_per_gpu = 2 in runtime_options, or, if the job needs none, hide them by an empty "
      "CUDA_VISIBLE_DEVICES\n";
  for (const std::string rank : {"0", "1"})
    CHECK_THAT(refused, Contains("rank " + rank + ": [cadre.mpi.1110] ") && Contains(text));
  const std::string shared = run("0", "job: shared gpus");
  INFO(shared);
  CHECK_THAT(shared, Contains("rank 0: gpu 0\n") && Contains("rank 1: gpu 0\n"));
  CHECK_THAT(run("", "job: gpus"), Contains("rank 0: [cadre.async.209]") && Contains("rank 1: [cadre.async.209]"));
  if (before.empty()) return;
  const std::string apart = run("0,1", "job: gpus");
  INFO(apart);
  CHECK_THAT(apart, Contains("rank 0: gpu 0\n") && Contains("rank 1: gpu 1\n"));
  // Without mpirun there is one rank, which has both.
  const std::string alone =
      own_process::run("CUDA_VISIBLE_DEVICES=0,1 " + before + own_process::this_program() + " 'job: one process'")
          .output;
  CHECK_THAT(alone, Contains("gpu 0 1\n"));
}

namespace mpi_start {

std::string my_gpus() {
  std::string all = "gpu";
  for (const int d : cadre::this_task::gpus()) all += " " + std::to_string(d);
  return all;
}
void say_gpus(cadre::runtime_options options) {
  int rank = -1;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &rank);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  try {
    cadre::mpi::runtime rt(MPI_COMM_WORLD, std::move(options));
    const auto here = cadre::on_rank(rank);
    const std::string text = rt.submit<&my_gpus>({.resources = {{"gpu", 1}}, .on = here}).get();
    std::printf("rank %d: %s\n", rank, text.c_str());
  } catch (const cadre::error& e) {
    std::printf("rank %d: %s\n", rank, e.what());
  }
  std::fflush(stdout);
  MPI_Finalize();
}

}  // namespace mpi_start

TEST_CASE("job: gpus", "[.job]") { mpi_start::say_gpus({}); }
TEST_CASE("job: gpus for one rank each", "[.job]") { mpi_start::say_gpus({.most_ranks_per_gpu = 1}); }
TEST_CASE("job: shared gpus", "[.job]") { mpi_start::say_gpus({.most_ranks_per_gpu = 2}); }
TEST_CASE("job: one process", "[.job]") {
  static_cast<void>(cadre::mpi::run(0, nullptr, [](cadre::runtime& rt) {
    std::printf("%s\n", rt.submit<&mpi_start::my_gpus>({.resources = {{"gpu", 2}}}).get().c_str());
  }));
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
