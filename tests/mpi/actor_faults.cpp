// ranks: 1
// Jobs that go wrong, each under an mpirun of its own: it runs the hidden cases of this program.
#include "catch.hpp"
#include "own_process.hpp"

#include <cadre/mpi.hpp>

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace mpi_actor_faults {

namespace fs = std::filesystem;
using Catch::Matchers::Contains;

using own_process::this_program;

/// What the ranks print, and the exit code of mpirun.
std::string run_job(const std::string& arguments, const std::string& launcher = "") {
  return own_process::text_of(
      own_process::run("timeout -k 2 60 " + launcher + " mpirun --oversubscribe --bind-to none " + arguments));
}

int die() { return ::raise(SIGKILL); }
const cadre::resource_set seat{{"seat", 1}};
int rank_here() { return cadre::this_task::runtime().rank(); }
int rank_of_bundle(cadre::placement_group in, std::size_t bundle) {
  return cadre::this_task::runtime().submit<&rank_here>({.resources = seat, .on = in.bundle(bundle)}).get();
}
struct mortal {
  int live() const { return 1; }
  int end() const { return ::raise(SIGKILL); }
};

template <class F>
void say_error(const char* what, F&& f) {
  const auto begin = std::chrono::steady_clock::now();
  try {
    f();
    std::printf("%s: no error\n", what);
  } catch (const std::exception& e) {
    const bool soon = std::chrono::steady_clock::now() - begin < std::chrono::seconds(2);
    std::printf("%s %s: %s\n", what, soon ? "soon" : "late", e.what());
  }
  std::fflush(stdout);
}

/// Counts, and can be killed with its rank.
class tally {
 public:
  tally() = default;
  explicit tally(int n) : n_(n) {}
  int add(int k) { return n_ += k; }
  int pid() const { return ::getpid(); }
  int restarts() const { return cadre::this_actor::restarts(); }
  int end() const { return ::raise(SIGKILL); }

  template <class Archive>
  void serialize(Archive& archive) {
    archive(n_);
  }

 private:
  int n_ = 0;
};

}  // namespace mpi_actor_faults

TEST_CASE("what is asked of a rank that is killed fails with how it died, and the others go on", "[mpi]") {
  using namespace mpi_actor_faults;
  const std::string output = run_job("--enable-recovery -n 3 '" + this_program() + "' 'job: a rank is killed'");
  INFO(output);
  CHECK_THAT(output, Contains("the task soon: [cadre.actor.609] mpi_actor_faults::die is lost: "));
  CHECK_THAT(output, Contains(" has ended by signal 9; say .max_retries to have it run again elsewhere"));
  CHECK_THAT(output,
             Contains("the call soon: [cadre.actor.601] the actor mpi_actor_faults::mortal::end cannot be called: "));
  CHECK_THAT(output,
             Contains("a later call soon: [cadre.actor.601] the actor mpi_actor_faults::mortal::live cannot be "));
  CHECK_THAT(output, Contains("rank 2 of the job has died: its process "));
  CHECK_THAT(output, Contains(" has ended by signal 9; this rank waited for mpi_actor_faults::mortal::end"));
  CHECK_THAT(output, Contains("tried elsewhere: 1"));
  CHECK_THAT(output, Contains("a later task soon: [cadre.async.209] "));
  CHECK_THAT(output, Contains("the other rank: 1"));
  CHECK_THAT(output, Contains("exit code 0"));
}

TEST_CASE("job: a rank is killed", "[.job]") {
  using namespace mpi_actor_faults;
  cadre::set_log_sink([](const cadre::log_record& r) { std::printf("%s\n", std::string(r.message).c_str()); });
  cadre::mpi::runtime rt({.threads = 1});
  if (rt.rank() != 0) return rt.serve();
  const auto there = rt.actor<mortal>({.on = cadre::on_rank(2)}), other = rt.actor<mortal>({.on = cadre::on_rank(1)});
  CHECK(there.call<&mortal::live>().get() == 1);
  auto call = there.call<&mortal::end>();
  say_error("the call", [&] { call.get(); });
  say_error("a later call", [&] { there.call<&mortal::live>().get(); });
  there.tell<&mortal::live>();  // is logged
  say_error("a later task", [&] { rt.submit<&die>({.on = cadre::on_rank(2)}).get(); });
  std::printf("the other rank: %d\n", other.call<&mortal::live>().get());
  auto task = rt.submit<&die>({.on = cadre::on_rank(1)});
  say_error("the task", [&] { task.get(); });
  std::printf("tried elsewhere: %d\n", rt.submit<[] { return 1; }>({.max_retries = 1}).get());
}

TEST_CASE("an actor whose rank is killed goes on elsewhere, with all that it has answered", "[mpi]") {
  using namespace mpi_actor_faults;
  const std::string output = run_job("--enable-recovery -n 3 '" + this_program() + "' 'job: an actor goes on'");
  INFO(output);
  CHECK_THAT(output, Contains("restart 1: 500 calls in order, nothing lost"));
  CHECK_THAT(output, Contains("restart 2: 500 calls in order, nothing lost"));
  CHECK_THAT(output, Contains("by its name: 1"));
  CHECK_THAT(output, Contains("exit code 0"));
}

TEST_CASE("job: an actor goes on", "[.job]") {
  using namespace mpi_actor_faults;
  cadre::mpi::runtime rt({.threads = 2});
  if (rt.rank() != 0) return rt.serve();
  const auto c = rt.actor<tally>(
      {.name = "c", .on = cadre::on_rank(2), .max_restarts = -1, .max_task_retries = -1, .checkpoint_every = 1});
  int n = 0;
  for (int restart = 1; restart <= 2; ++restart) {
    const int pid = c.call<&tally::pid>().get();
    std::vector<cadre::future<int>> calls;
    for (int k = 0; k < 250; ++k) calls.push_back(c.call<&tally::add>(1));
    calls[100].wait();
    ::kill(pid, SIGKILL);
    for (int k = 0; k < 250; ++k) calls.push_back(c.call<&tally::add>(1));
    bool in_order = true, all = true;
    const int before = n;
    for (int k = 0; k < 500; ++k) {
      const int now = calls[static_cast<std::size_t>(k)].get();
      in_order = in_order && now > n;
      all = all && now >= before + k + 1;
      n = now;
    }
    const bool kept = c.call<&tally::add>(0).get() == n;
    const int restarts = c.call<&tally::restarts>().get();
    std::printf("restart %d: 500 calls %s, %s\n", restarts, in_order ? "in order" : "in disorder",
                all && kept ? "nothing lost" : "some lost");
  }
  std::printf("by its name: %d\n", rt.find_actor<tally>("c").call<&tally::add>(0).get() == n);
}

TEST_CASE("without .max_task_retries calls are lost with the rank, and after .max_restarts so is the actor", "[mpi]") {
  using namespace mpi_actor_faults;
  const std::string output = run_job("--enable-recovery -n 3 '" + this_program() + "' 'job: an actor goes on once'");
  INFO(output);
  CHECK_THAT(output,
             Contains("the call soon: [cadre.actor.601] a call is lost, as the actor mpi_actor_faults::tally::end "
                      "is made anew: "));
  CHECK_THAT(output, Contains(" has ended by signal 9; call it again, or say .max_task_retries where it is made"));
  CHECK_THAT(output, Contains("the next call: 5, restarts 1"));
  CHECK_THAT(output, Contains("the last call soon: [cadre.actor.601] "));
  CHECK_THAT(output, Contains("; it may not be made anew again: see .max_restarts"));
  CHECK_THAT(output, Contains("its name soon: [cadre.actor.602] "));
  CHECK_THAT(output, Contains("exit code 1"));
}

TEST_CASE("job: an actor goes on once", "[.job]") {
  using namespace mpi_actor_faults;
  cadre::mpi::runtime rt({.threads = 1});
  if (rt.rank() != 0) return rt.serve();
  const auto c = rt.actor<tally>({.name = "c", .on = cadre::on_rank(2), .max_restarts = 1}, 5);
  CHECK(c.call<&tally::add>(1).get() == 6);  // is not saved
  auto call = c.call<&tally::end>();
  say_error("the call", [&] { call.get(); });
  const int next = c.call<&tally::add>(0).get();
  std::printf("the next call: %d, restarts %d\n", next, c.call<&tally::restarts>().get());
  c.tell<&tally::end>();
  say_error("the last call", [&] {
    for (int k = 0; k < 1000; ++k) {
      try {
        c.call<&tally::add>(0).get();
      } catch (const cadre::actor_died& e) {
        if (std::string_view(e.what()).find("is made anew") == std::string_view::npos) throw;
      }
    }
  });
  say_error("its name", [&] { static_cast<void>(rt.find_actor<tally>("c")); });
  FAIL("so that the exit code is not 0");
}

TEST_CASE("a bundle whose rank is killed is set aside on another one, with its actors", "[mpi]") {
  using namespace mpi_actor_faults;
  const std::string output = run_job("--enable-recovery -n 4 '" + this_program() + "' 'job: a bundle goes on'");
  INFO(output);
  CHECK_THAT(output, Contains("the task soon: [cadre.actor.609] "));
  CHECK_THAT(output, Contains("elsewhere: 1, also for others: 1, its actor lives on: 1 1, the other bundle stays: 1"));
  CHECK_THAT(output, Contains("exit code 0"));
}

TEST_CASE("job: a bundle goes on", "[.job]") {
  using namespace mpi_actor_faults;
  cadre::mpi::runtime rt({.threads = 2, .resources = {{"seat", 1}}});
  if (rt.rank() != 0) return rt.serve();
  const auto g = rt.placement_group({seat, seat}, cadre::spread);
  const auto at = [&](cadre::placement bundle) {
    return rt.submit<&rank_here>({.resources = seat, .on = bundle}).get();
  };
  const int ranks[] = {at(g.bundle(0)), at(g.bundle(1))};
  const std::size_t lost = ranks[1] != 0 ? 1 : 0, stays = 1 - lost;  // not that of this rank
  int observer = 1;
  while (observer == ranks[0] || observer == ranks[1]) ++observer;
  const auto ask = [&](std::size_t b) {
    return rt.submit<&rank_of_bundle>({.on = cadre::on_rank(observer)}, g, b).get();
  };
  CHECK(ask(lost) == ranks[lost]);
  const auto actor =
      rt.actor<tally>({.on = g.bundle(lost), .max_restarts = 1, .max_task_retries = -1, .checkpoint_every = 1});
  CHECK(actor.call<&tally::add>(6).get() == 6);
  say_error("the task", [&] { rt.submit<&die>({.resources = seat, .on = g.bundle(lost)}).get(); });
  const int now = at(g.bundle(lost));
  const bool lives_on = actor.call<&tally::add>(1).get() == 7;
  std::printf("elsewhere: %d, also for others: %d, its actor lives on: %d %d, the other bundle stays: %d\n",
              now != ranks[lost] && now != ranks[stays], ask(lost) == now, lives_on,
              actor.call<&tally::restarts>().get(), at(g.bundle(stays)) == ranks[stays]);
}

TEST_CASE("a job that fails is started again by cadre-run, as often as it may be", "[mpi]") {
  using namespace mpi_actor_faults;
  const std::string launcher = fs::path(__FILE__).parent_path() / "../../examples/cadre-run";
  const std::string job = "-x CADRE_FAILURES -n 2 '" + this_program() + "' 'job: fails twice'";
  const std::string goes_on = run_job(job, "'" + launcher + "'");
  INFO(goes_on);
  CHECK_THAT(goes_on, Contains("cadre-run: the job has failed with exit code 137; it is started again (1 of 3)"));
  CHECK_THAT(goes_on, Contains("done after 2 failures"));
  CHECK_THAT(goes_on, Contains("exit code 0\n"));
  const std::string gives_up = run_job(job, "'" + launcher + "' --max-failures 1");
  INFO(gives_up);
  CHECK_THAT(gives_up, Contains("cadre-run: the job has failed 2 times, the last time with exit code 137"));
  CHECK_THAT(gives_up, Contains("exit code 137\n"));
}

TEST_CASE("job: fails twice", "[.job]") {
  using namespace mpi_actor_faults;
  cadre::mpi::runtime rt({.threads = 1});
  if (rt.rank() != 0) return rt.serve();
  const std::string before = std::getenv("CADRE_FAILURES");
  if (before != "2") rt.submit<&die>({.on = cadre::on_rank(1)}).get();
  std::printf("done after %s failures\n", before.c_str());
}

TEST_CASE("ranks whose rank 0 is killed end with an error, and do not wait for it", "[mpi]") {
  using namespace mpi_actor_faults;
  const std::string output = run_job("--enable-recovery -n 2 '" + this_program() + "' 'job: rank 0 is killed'");
  INFO(output);
  CHECK_THAT(output, Contains("the service soon: [cadre.actor.609] the program of the job is lost: rank 0 has died"));
}

TEST_CASE("job: rank 0 is killed", "[.job]") {
  using namespace mpi_actor_faults;
  cadre::mpi::runtime rt({.threads = 1});
  if (rt.rank() == 0) {
    CHECK(rt.actor<mortal>({.on = cadre::on_rank(1)}).call<&mortal::live>().get() == 1);
    ::raise(SIGKILL);
  }
  say_error("the service", [&] { rt.serve(); });
  MPI_Abort(MPI_COMM_WORLD, 0);
}

TEST_CASE("ranks that run different builds are told so when the job begins", "[mpi]") {
  using namespace mpi_actor_faults;
  const fs::path other = fs::temp_directory_path() / ("cadre-other-build-" + std::to_string(::getpid()));
  fs::copy_file(this_program(), other);
  std::ofstream(other, std::ios::app) << "another";
  const std::string output =
      run_job("-n 2 '" + this_program() + "' 'job: two builds' : -n 1 '" + other.string() + "' 'job: two builds'");
  fs::remove(other);
  INFO(output);
  for (const char* rank : {"rank 0: ", "rank 1: ", "rank 2: "})
    CHECK_THAT(output, Contains(std::string(rank) +
                                "[cadre.actor.610] the ranks of this job do not run the same build: rank 2 on "));
  CHECK_THAT(output, Contains("; start all of them from one executable"));
}

TEST_CASE("job: two builds", "[.job]") {
  try {
    const cadre::mpi::runtime rt;
  } catch (const cadre::different_programs& e) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    std::printf("rank %d: %s\n", rank, e.what());
    std::fflush(stdout);
  }
}
