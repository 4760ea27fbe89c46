#ifndef CADRE_MPI_RUN_HPP
#define CADRE_MPI_RUN_HPP

#include <cadre/actor/run.hpp>
#include <cadre/mpi/detail/node_share.hpp>
#include <cadre/mpi/detail/place_taken.hpp>
#include <cadre/mpi/environment.hpp>
#include <cadre/mpi/runtime.hpp>
#include <cadre/observe/log.hpp>
#include <cadre/os/heap.hpp>

#include <signal.h>

#include <concepts>
#include <cstddef>
#include <cstdio>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace mpi {

/// cadre::run() for a job of several ranks: under mpirun rank 0 calls the program, and the others run what it, and the tasks
/// and actors of the job, give them to do. Without mpirun it is cadre::run(), with the GPUs that are found. Under mpirun
/// --enable-recovery a process that takes the place of a rank that has died begins with the same main, and comes here.
/// SIGPIPE is ignored, unless it is handled already: it would come of a rank that dies. Warnings and errors that are logged,
/// as the death of a rank, go to stderr if there is no log sink. The heap keeps up to 64 MiB that are free, for large arguments
/// that follow one another: see keep_free_memory().
template <class Program>
  requires std::invocable<Program&, cadre::runtime&>
int run(int argc, char** argv, Program&& program, runtime_options options = {}) {
  if (!launched()) return cadre::run(argc, argv, program, detail::share_of_one(std::move(options)));
  struct sigaction pipes {};
  if (::sigaction(SIGPIPE, nullptr, &pipes) == 0 && pipes.sa_handler == SIG_DFL) ::signal(SIGPIPE, SIG_IGN);
  keep_free_memory(std::size_t{64} << 20);
  if (!log_enabled(log_level::error))  // nobody listens
    set_log_sink(
        [](const log_record& r) {
          std::fprintf(stderr, "%.*s\n", static_cast<int>(r.message.size()), r.message.data());  // the program's own
        },
        log_level::warning);
  const std::string name = detail::take_place_name();  // before others are started
  return cadre::detail::run_main(argc, argv, [&]() -> int {
    detail::runs_main = true;
    if (!name.empty()) {
      detail::list_requests();
      runtime rt(detail::place_taken(name), std::move(options));
      rt.serve();
      return 0;
    }
    runtime rt(std::move(options));
    if (rt.rank() == 0) return cadre::detail::run_program(program, rt);
    rt.serve();
    return 0;
  });
}

}  // namespace mpi

CADRE_NAMESPACE_END

#endif
