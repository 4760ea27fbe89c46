// ranks: 1
// Jobs over several hosts, which are network namespaces (hosts.sh), that lose ranks, hosts and cables: each under an mpirun
// of its own, which runs the hidden cases of this program.
#include "catch.hpp"
#include "catch_main.hpp"
#include "own_process.hpp"

#include <cadre/mpi.hpp>

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace mpi_actor_hosts {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Catch::Matchers::Contains;
using clock = std::chrono::steady_clock;

std::string quoted(const std::string& text) { return "'" + text + "'"; }
const std::string hosts = quoted((fs::absolute(__FILE__).parent_path() / "hosts.sh").string());

double seconds_since(clock::time_point begin) { return std::chrono::duration<double>(clock::now() - begin).count(); }

struct outcome {
  std::string output;
  int exit_code;  // of mpirun; 124 where it did not end in time
  double seconds;
};

/// The hidden case `name` on the hosts and slots of `where`.
outcome run_job(const std::string& where, const std::string& flags, const std::string& name, int most_seconds = 60) {
  const auto begin = clock::now();
  own_process::outcome job =
      own_process::run("timeout -k 5 " + std::to_string(most_seconds) + " " + hosts + " " + where + " " + flags + " " +
                       quoted(own_process::this_program()) + " " + quoted(name));
  return {std::move(job.output), job.exit_code, seconds_since(begin)};
}

/// From within a job: cuts a cable, or kills a host.
void have(const std::string& what) {
  if (std::system((hosts + " " + what).c_str()) != 0) std::printf("hosts.sh cannot %s\n", what.c_str());
}

class tally {
 public:
  int add(int k) { return n_ += k; }
  int pid() const { return ::getpid(); }
  int end() const { return ::raise(SIGKILL); }

 private:
  int n_ = 0;
};

template <class F>
void say_error(const char* what, F&& f) {
  const auto begin = clock::now();
  try {
    f();
    std::printf("%s: no error\n", what);
  } catch (const std::exception& e) {
    std::printf("%s %s: %s\n", what, seconds_since(begin) < 2 ? "soon" : "late", e.what());
  }
  std::fflush(stdout);
}

/// All threads of that process: one that runs when the signal is sent goes on for a moment, and might answer.
void wait_until_stopped(int pid) {
  const auto is_stopped = [](const std::filesystem::path& thread) {
    std::string text;
    std::getline(std::ifstream(thread / "stat"), text);
    const std::size_t name_ends = text.rfind(')');
    return name_ends != std::string::npos && text.compare(name_ends, 3, ") T") == 0;
  };
  const std::filesystem::path threads = "/proc/" + std::to_string(pid) + "/task";
  for (bool all = false; !all; std::this_thread::sleep_for(1ms)) {
    all = true;
    for (const auto& thread : std::filesystem::directory_iterator(threads)) all = all && is_stopped(thread.path());
  }
}

/// Of this process, as a share of one processor.
double processor_use(clock::duration time) {
  const auto used = [] {
    rusage about{};
    ::getrusage(RUSAGE_SELF, &about);
    return static_cast<double>(about.ru_utime.tv_sec + about.ru_stime.tv_sec) +
           1e-6 * static_cast<double>(about.ru_utime.tv_usec + about.ru_stime.tv_usec);
  };
  const double before = used();
  const auto begin = clock::now();
  std::this_thread::sleep_for(time);
  return (used() - before) / seconds_since(begin);
}
double idle_use() { return processor_use(2s); }

/// Where the test that runs the job reads it, also when nothing can be said through mpirun any more.
fs::path notes() { return fs::path(std::getenv("CADRE_HOSTS_NOTES")); }

}  // namespace mpi_actor_hosts

TEST_CASE("a rank that is killed on another host is told by its neighbours, soon, and the job goes on", "[mpi]") {
  using namespace mpi_actor_hosts;
  const outcome job = run_job("2 2", "--enable-recovery -n 4", "job: a rank is killed elsewhere");
  INFO(job.output);
  CHECK_THAT(job.output,
             Contains("the call soon: [cadre.actor.601] the actor mpi_actor_hosts::tally::end cannot be called: "));
  CHECK_THAT(job.output, Contains(" has ended by signal 9"));
  CHECK_THAT(job.output, Contains("of another rank soon: [cadre.actor.601] "));
  CHECK_THAT(job.output, Contains("its object soon: [cadre.actor.620] an object is lost with rank 3 of another node"));
  CHECK_THAT(job.output, Contains("another one: 1000"));
  CHECK_THAT(job.output, Contains("its neighbour: 1"));
  CHECK_THAT(job.output, Contains("rank 1 knows: 1"));
  CHECK(job.exit_code == 0);
}

TEST_CASE("job: a rank is killed elsewhere", "[.job]") {
  using namespace mpi_actor_hosts;
  cadre::mpi::runtime rt({.threads = 2});
  if (rt.rank() != 0) return rt.serve();
  const auto there = rt.actor<tally>({.on = cadre::on_rank(3)}), other = rt.actor<tally>({.on = cadre::on_rank(2)});
  CHECK(there.call<&tally::add>(1).get() == 1);
  const auto calls_it = [](cadre::actor<tally> it) {
    try {
      for (;;) it.call<&tally::add>(1).get();
    } catch (const cadre::actor_died& e) {
      return std::string(e.what());
    }
  };
  const auto make = [](int n) { return std::vector<int>(static_cast<std::size_t>(n), 1); };
  const auto kept = rt.submit_ref<make>({.on = cadre::on_rank(3)}, 1000);
  const auto lost = rt.submit_ref<make>({.on = cadre::on_rank(3)}, 1000);
  static_cast<void>(rt.get(kept));
  rt.submit<[](std::span<const int> all) { return all.size(); }>({.on = cadre::on_rank(3)}, lost).get();  // it is made
  auto elsewhere = rt.submit<calls_it>({.on = cadre::on_rank(1)}, there);
  auto call = there.call<&tally::end>();
  say_error("the call", [&] { call.get(); });
  say_error("of another rank", [&] { throw std::runtime_error(elsewhere.get()); });
  say_error("its object", [&] { static_cast<void>(rt.get(lost)); });
  const auto there_still = rt.get(kept);
  std::printf("another one: %zu\n", (*there_still).size());
  std::printf("its neighbour: %d\n", other.call<&tally::add>(1).get());
  std::printf("rank 1 knows: %d\n", rt.submit<[] {
                                        try {
                                          cadre::this_task::runtime().actor<tally>({.on = cadre::on_rank(3)});
                                        } catch (const cadre::impossible_request&) {
                                          return 1;
                                        }
                                        return 0;
                                      }>({.on = cadre::on_rank(1)})
                                        .get());
}

TEST_CASE("a rank of another host that is killed is started again there, and talks with all", "[mpi]") {
  using namespace mpi_actor_hosts;
  const outcome job = run_job("2 2", "--oversubscribe --enable-recovery -n 4", "job: a rank comes back elsewhere");
  INFO(job.output);
  CHECK_THAT(job.output, Contains("back on its host, 2 times: 1000 elements from it, a tally of 3 from rank 0, 1, 2"));
  CHECK(job.exit_code == 0);
}

TEST_CASE("job: a rank comes back elsewhere", "[.job]") {
  using namespace mpi_actor_hosts;
  static const auto where = [] {
    std::string host(256, '\0');
    ::gethostname(host.data(), host.size() - 1);
    return std::string(host.c_str()) + " " + std::to_string(::getpid());
  };
  static const auto make = [](int n) { return std::vector<int>(static_cast<std::size_t>(n), 1); };
  static const auto call_it = [](cadre::actor<tally> it) { return it.call<&tally::add>(1).get(); };
  const auto program = [](cadre::runtime& rt) {
    std::string before = rt.submit<where>({.on = cadre::on_rank(3)}).get();
    const std::string host = before.substr(0, before.find(' '));
    int times = 0, tallied = 0;
    std::size_t elements = 0;
    for (int round = 0; round < 2; ++round) {
      static_cast<void>(rt.actor<tally>({.on = cadre::on_rank(3)}).call<&tally::end>().wait());
      std::string now = before;
      for (const auto deadline = clock::now() + 30s; now == before && clock::now() < deadline;) {
        try {
          now = rt.submit<where>({.on = cadre::on_rank(3)}).get();
        } catch (const cadre::error&) {  // it is not there
          std::this_thread::sleep_for(2ms);
        }
      }
      times += now != before && now.substr(0, now.find(' ')) == host;
      before = now;
      const auto there = rt.actor<tally>({.on = cadre::on_rank(3)});
      for (int r = 0; r < 3; ++r) tallied = rt.submit<call_it>({.on = cadre::on_rank(r)}, there).get();
      const auto object = rt.submit_ref<make>({.on = cadre::on_rank(3)}, 1000);
      const auto look = rt.get(object);
      elements = (*look).size();
    }
    std::printf("back on its host, %d times: %zu elements from it, a tally of %d from rank 0, 1, 2\n", times, elements,
                tallied);
  };
  CHECK(cadre::mpi::run(0, nullptr, program, {.threads = 2}) == 0);
}

TEST_CASE("the last rank of a host is missed after the time that CADRE_HEARTBEAT_LIMIT says", "[mpi]") {
  using namespace mpi_actor_hosts;
  const outcome job =
      run_job("3 1", "--enable-recovery -x CADRE_HEARTBEAT_LIMIT=1 -n 3", "job: the last rank of a host is killed");
  INFO(job.output);
  CHECK_THAT(job.output, Contains("the call soon: [cadre.actor.601] "));
  CHECK_THAT(job.output, Contains("no sign of life of its process "));
  CHECK_THAT(job.output, Contains("-3 for 1.0 s"));
  CHECK_THAT(job.output, Contains("the other host: 1"));
  CHECK(job.exit_code == 0);
}

TEST_CASE("job: the last rank of a host is killed", "[.job]") {
  using namespace mpi_actor_hosts;
  cadre::mpi::runtime rt({.threads = 1});
  if (rt.rank() != 0) return rt.serve();
  const auto there = rt.actor<tally>({.on = cadre::on_rank(2)}), other = rt.actor<tally>({.on = cadre::on_rank(1)});
  auto call = there.call<&tally::end>();
  say_error("the call", [&] { call.get(); });
  std::printf("the other host: %d\n", other.call<&tally::add>(1).get());
}

TEST_CASE("a cable that is out for four seconds is no error, and nothing is lost", "[mpi]") {
  using namespace mpi_actor_hosts;
  const outcome job = run_job("2 2", "-n 4", "job: a cable is out for a while");
  INFO(job.output);
  CHECK_THAT(job.output, Contains("a call waited: 1"));
  CHECK_THAT(job.output, Contains("nothing lost: 1"));
  CHECK(job.exit_code == 0);
}

TEST_CASE("job: a cable is out for a while", "[.job]") {
  using namespace mpi_actor_hosts;
  cadre::mpi::runtime rt({.threads = 2});
  if (rt.rank() != 0) return rt.serve();
  const auto there = rt.actor<tally>({.on = cadre::on_rank(3)});
  int n = 0;
  std::atomic<bool> is_back{false};
  std::thread cable([&] {
    have("cut 2 4");
    is_back = true;
  });
  double longest = 0;
  bool in_order = true;
  for (int after = 0; after < 1000; after += is_back) {
    const auto begin = clock::now();
    there.tell<&tally::add>(1);
    in_order = there.call<&tally::add>(1).get() == (n += 2) && in_order;
    longest = std::max(longest, seconds_since(begin));
  }
  cable.join();
  std::printf("a call waited: %d (%.1f s)\nnothing lost: %d\n", longest > 3, longest, in_order);
}

TEST_CASE("halves of a job that cannot see each other: that of rank 0 goes on, the other ends with an error", "[mpi]") {
  using namespace mpi_actor_hosts;
  const fs::path notes = fs::temp_directory_path() / ("cadre-halves-" + std::to_string(::getpid()));
  const outcome job =
      run_job("2 2", "--enable-recovery -x CADRE_HEARTBEAT_LIMIT=2 -x CADRE_HOSTS_NOTES=" + notes.string() + " -n 4",
              "job: halves");
  for (const char* rank : {".2", ".3"}) {
    std::string text;
    std::getline(std::ifstream(notes.string() + rank) >> std::ws, text);
    INFO(job.output);
    CHECK_THAT(text, Contains("[cadre.actor.609] the program of the job is lost: rank 0 has died"));
    fs::remove(notes.string() + rank);
  }
  INFO(job.output);
  CHECK_THAT(job.output, Contains("no sign of life of its process "));
  CHECK_THAT(job.output, Contains("this half: 1"));
  CHECK(job.seconds < 40);
}

TEST_CASE("job: halves", "[.job]") {
  using namespace mpi_actor_hosts;
  cadre::mpi::runtime rt({.threads = 2});
  if (rt.rank() != 0) {
    try {
      rt.serve();
    } catch (const cadre::worker_died& e) {
      std::ofstream(notes().string() + "." + std::to_string(rt.rank())) << e.what() << std::endl;
      throw;
    }
    return;
  }
  const auto there = rt.actor<tally>({.on = cadre::on_rank(3)}), here = rt.actor<tally>({.on = cadre::on_rank(1)});
  there.call<&tally::add>(1).get();
  std::thread cable([] { have("cut 2 8"); });
  say_error("a call", [&] {
    for (;;) there.call<&tally::add>(1).get();
  });
  std::printf("this half: %d\n", here.call<&tally::add>(1).get());
  std::fflush(stdout);
  cable.join();
}

TEST_CASE("a host that is lost ends the job, with or without recovery, in bounded time", "[mpi]") {
  using namespace mpi_actor_hosts;
  for (const char* recovery : {"", "--enable-recovery "}) {
    const outcome job =
        run_job("2 2", recovery + std::string("-x CADRE_HEARTBEAT_LIMIT=1 -n 4"), "job: a host is killed");
    INFO(recovery << "\n" << job.output);
    CHECK_THAT(job.output, Contains("it lives: 1"));
    CHECK(job.exit_code != 0);
    CHECK(job.exit_code != 124);
    CHECK(job.seconds < 30);
    if (*recovery != '\0') CHECK_THAT(job.output, Contains("a call soon: [cadre.actor.601] "));
  }
}

TEST_CASE("job: a host is killed", "[.job]") {
  using namespace mpi_actor_hosts;
  cadre::mpi::runtime rt({.threads = 2});
  if (rt.rank() != 0) return rt.serve();
  const auto there = rt.actor<tally>({.on = cadre::on_rank(3)});
  std::printf("it lives: %d\n", there.call<&tally::add>(1).get());
  std::fflush(stdout);
  std::thread lightning([] { have("kill 2"); });
  say_error("a call", [&] {
    for (;;) there.call<&tally::add>(1).get();
  });
  lightning.join();
}

TEST_CASE("ranks on other hosts end soon when rank 0 is killed, and so does mpirun", "[mpi]") {
  using namespace mpi_actor_hosts;
  const outcome job = run_job("2 2", "--enable-recovery -n 4", "job: rank 0 is killed");
  INFO(job.output);
  for (const char* rank : {"rank 1 soon: ", "rank 2 soon: ", "rank 3 soon: "})
    CHECK_THAT(job.output,
               Contains(std::string(rank) + "[cadre.actor.609] the program of the job is lost: rank 0 has died"));
  CHECK(job.exit_code == 1);
  CHECK(job.seconds < 10);
}

TEST_CASE("a job ends where rank 0 was alone on its host, which has nobody to tell of its death", "[mpi]") {
  using namespace mpi_actor_hosts;
  const outcome job = run_job("2 1", "--enable-recovery -x CADRE_HEARTBEAT_LIMIT=1 -n 2", "job: rank 0 is killed");
  INFO(job.output);
  CHECK_THAT(job.output, Contains("rank 1 soon: [cadre.actor.609] "));
  CHECK(job.exit_code != 0);
  CHECK(job.exit_code != 124);
  CHECK(job.seconds < 30);
}

TEST_CASE("job: rank 0 is killed", "[.job]") {
  using namespace mpi_actor_hosts;
  cadre::mpi::runtime rt({.threads = 1});
  if (rt.rank() == 0) {
    for (int r = 1; r < rt.world_size(); ++r) CHECK(rt.submit<&::getpid>({.on = cadre::on_rank(r)}).get() != 0);
    ::raise(SIGKILL);
  }
  say_error(("rank " + std::to_string(rt.rank())).c_str(), [&] { rt.serve(); });
}

TEST_CASE("a rank that is stopped is dead to all of the job, also to its host", "[mpi]") {
  using namespace mpi_actor_hosts;
  const outcome job = run_job("2 2", "--enable-recovery -x CADRE_HEARTBEAT_LIMIT=1 -n 4", "job: a rank is stopped");
  INFO(job.output);
  CHECK_THAT(job.output, Contains("the call soon: [cadre.actor.601] "));
  CHECK_THAT(job.output, Contains("-2 for 1.0 s"));
  CHECK_THAT(job.output, Contains("its neighbour knows: 1"));
  CHECK(job.exit_code == 0);
}

TEST_CASE("job: a rank is stopped", "[.job]") {
  using namespace mpi_actor_hosts;
  cadre::mpi::runtime rt({.threads = 1});
  if (rt.rank() != 0) return rt.serve();
  const auto there = rt.actor<tally>({.on = cadre::on_rank(3)});
  const int pid = there.call<&tally::pid>().get();
  ::kill(pid, SIGSTOP);
  wait_until_stopped(pid);
  say_error("the call", [&] { there.call<&tally::add>(1).get(); });
  const auto knows = [] {
    const auto end = clock::now() + 2s;
    for (; clock::now() < end; std::this_thread::sleep_for(1ms)) try {
        static_cast<void>(cadre::this_task::runtime().submit<&::getpid>({.on = cadre::on_rank(3)}));
      } catch (const cadre::impossible_request&) {
        return 1;
      }
    return 0;
  };
  std::printf("its neighbour knows: %d\n", rt.submit<knows>({.on = cadre::on_rank(2)}).get());
  ::kill(pid, SIGKILL);
}

TEST_CASE("ranks on several hosts that have nothing to do use next to no processor", "[mpi]") {
  using namespace mpi_actor_hosts;
  const outcome job = run_job("2 1", "-n 2", "job: nothing to do");
  INFO(job.output);
  CHECK_THAT(job.output, Contains("idle: 1 1"));
  CHECK(job.exit_code == 0);
}

TEST_CASE("job: nothing to do", "[.job]") {
  using namespace mpi_actor_hosts;
  cadre::mpi::runtime rt({.threads = 1});
  if (rt.rank() != 0) return rt.serve();
  const double there = rt.submit<&idle_use>({.on = cadre::on_rank(1)}).get(), here = idle_use();
  std::printf("idle: %d %d (%.2f%% %.2f%%)\n", there < 0.05, here < 0.05, 100 * there, 100 * here);
}

TEST_CASE("a limit that is no time is refused", "[mpi]") {
  using namespace mpi_actor_hosts;
  ::setenv("CADRE_HEARTBEAT_LIMIT", "soon", 1);
  CHECK_THROWS_WITH(cadre::mpi::runtime(),
                    "[cadre.mpi.1102] CADRE_HEARTBEAT_LIMIT is 'soon': say seconds, up to 1000000, or 0 for no limit");
  ::unsetenv("CADRE_HEARTBEAT_LIMIT");
}

int main(int argc, char** argv) {
  if (argc == 1 && std::system((mpi_actor_hosts::hosts + " check").c_str()) != 0) return 77;
  return run_tests(argc, argv, "~[.job]");
}
