// What the death of a rank costs the others: mpirun --enable-recovery -n 3. Each round kills rank 1 by SIGKILL and goes on
// when it has been started again; beside it MPI_Comm_spawn alone, of a process that calls MPI_Init.
#include "harness.hpp"

#include <cadre/mpi.hpp>

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <filesystem>
#include <mutex>
#include <string>

namespace {

constexpr const char* spawned = "CADRE_BENCHMARK_SPAWNED";

int pid_here() { return ::getpid(); }
int sleep_long() {
  ::sleep(100);
  return 0;
}

double milliseconds_since(double begin) { return (benchmark::seconds() - begin) * 1e3; }

double spawn_one() {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  std::string variable = std::string(spawned) + "=1", path = program;
  char* arguments[] = {variable.data(), path.data(), nullptr};
  MPI_Comm with = MPI_COMM_NULL;
  const std::lock_guard lock(cadre::mpi::detail::environment::get().mutex());
  const double begin = benchmark::seconds();
  ::MPI_Comm_spawn("/usr/bin/env", arguments, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &with, MPI_ERRCODES_IGNORE);
  return milliseconds_since(begin);
}

int program(cadre::runtime& rt) {
  constexpr int rounds = 9;
  const auto there = cadre::on_rank(1);
  double until_error = 0;
  const auto process = [&] { return rt.submit<&pid_here>({.on = there}).get(); };
  const auto kill_and_wait = [&] {
    const int pid = process();
    auto lost = rt.submit<&sleep_long>({.on = there});
    ::usleep(20'000);  // it runs
    const double begin = benchmark::seconds();
    ::kill(pid, SIGKILL);
    try {
      lost.get();
    } catch (const cadre::worker_died&) {
      until_error = milliseconds_since(begin);
    }
    for (;; ::usleep(1000)) {
      try {
        if (process() != pid) return milliseconds_since(begin);
      } catch (const cadre::error&) {  // it is not there
      }
      if (milliseconds_since(begin) > 60'000) std::terminate();
    }
  };
  const auto round_trip = [&] {
    constexpr int times = 2000;
    const double begin = benchmark::seconds();
    for (int i = 0; i < times; ++i) static_cast<void>(process());
    return milliseconds_since(begin) * 1e3 / times;
  };
  std::vector<benchmark::contender> error{{"cadre", [] { return 0.0; }, benchmark::at_most(10)}};
  std::vector<benchmark::contender> call{{"before it died", [] { return 0.0; }},
                                         {"after it came back", [] { return 0.0; }}};
  call[0].figures.push_back(round_trip());
  std::vector<benchmark::contender> back{{"cadre",
                                          [&] {
                                            const double ms = kill_and_wait();
                                            error[0].figures.push_back(until_error);
                                            return ms;
                                          },
                                          benchmark::at_most(500)},
                                         {"MPI_Comm_spawn", spawn_one}};
  benchmark::interleave(back, rounds);
  call[1].figures.push_back(round_trip());
  benchmark::print_head();
  benchmark::print("a rank is killed: until what waits for it fails", "ms", error);
  benchmark::print("a rank is killed: until it answers again", "ms", back);
  benchmark::print("a task there and back, same node", "us", call);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (std::getenv(spawned) != nullptr) {
    ::MPI_Init(&argc, &argv);
    ::_exit(0);
  }
  return cadre::mpi::run(argc, argv, program, {.threads = 2});
}
