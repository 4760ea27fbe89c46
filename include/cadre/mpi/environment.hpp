#ifndef CADRE_MPI_ENVIRONMENT_HPP
#define CADRE_MPI_ENVIRONMENT_HPP

#include <cadre/mpi/detail/end_later.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/detail/start_checks.hpp>
#include <cadre/mpi/error.hpp>

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi {

/// Whether this process was started by mpirun (or srun with PMI): a program can choose between threads and ranks by it
/// before MPI is touched.
[[nodiscard]] inline bool launched() noexcept {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"})
    if (std::getenv(name) != nullptr) return true;
  return false;
}

namespace detail {

/// MPI in this process: initialised here if the host did not, and then finalised at exit, provided that every
/// communicator was destroyed before. If one is alive, exit was called in the middle of the job: MPI is left as it is, so
/// that mpirun notices and ends the job, in place of a finalisation that would wait for ranks that never come. Where a rank
/// has died and the others go on (mpirun --enable-recovery) nothing is finalised: rank 0 waits for the others to end and then
/// has mpirun end the job, with 0 if it ends with 0 itself, else 1; mpirun is killed where it does not end either.
class environment {
 public:
  static environment& get() {
    static environment only;
    return only;
  }
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;

  /// Held around every call of MPI: cadre asks for MPI_THREAD_SERIALIZED only.
  std::mutex& mutex() noexcept { return mutex_; }

  void enter() noexcept { alive_.fetch_add(1); }
  void leave() noexcept { alive_.fetch_sub(1); }

  /// Keeps what MPI may still touch until the process ends; under the mutex.
  void keep(std::shared_ptr<const void> memory) { kept_.push_back(std::move(memory)); }

  void note_death() noexcept {
    // Called before the destructor, as it is registered after the constructor has run.
    if (!somebody_died_.exchange(true)) ::on_exit([](int status, void*) { exit_status() = status; }, nullptr);
  }

  static bool finalized() noexcept {
    int done = 0;
    ::MPI_Finalized(&done);
    return done != 0;
  }

 private:
  environment() {
    if (finalized()) throw mpi_error::unusable("MPI has been finalised: make communicators before MPI_Finalize");
    int initialized = 0, level = MPI_THREAD_SINGLE;
    check(::MPI_Initialized(&initialized), "MPI_Initialized");
    if (initialized == 0) {
      check(::MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level), "MPI_Init_thread");
      ours_ = true;
      int size = 0;
      check(::MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
      try {
        check_launcher(size);
      } catch (const mpi_error&) {
        ::MPI_Finalize();
        throw;
      }
    } else {
      check(::MPI_Query_thread(&level), "MPI_Query_thread");
    }
    if (level < MPI_THREAD_SERIALIZED)
      throw mpi_error::unusable(
          "MPI was initialised for one thread only: call MPI_Init_thread with MPI_THREAD_SERIALIZED, or let cadre "
          "initialise MPI");
  }
  ~environment() {
    if (!ours_ || finalized()) return;
    if (somebody_died_.load())
      end_without_the_dead();
    else if (alive_.load() == 0)
      ::MPI_Finalize();
  }
  static int& exit_status() noexcept {
    static constinit int status = 0;
    return status;
  }
  // mpirun gives 0 after MPI_Abort(0), also where others ended otherwise, and 1 after a SIGTERM; no other codes.
  static void end_without_the_dead() noexcept {
    const char* const goes_on = std::getenv("OMPI_MCA_orte_enable_recovery");
    if (goes_on == nullptr || std::strcmp(goes_on, "0") == 0) return;  // mpirun ends the job at this moment
    int rank = 0;
    ::MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank != 0) return;
    constexpr unsigned for_the_others = 500'000;  // us; they have been told that the job is over
    ::usleep(for_the_others);
    std::fflush(nullptr);
    constexpr int for_mpirun = 10;  // s; it waits for ever for a host that has been lost
    end_later(::getppid(), for_mpirun);
    if (exit_status() == 0) ::MPI_Abort(MPI_COMM_WORLD, 0);
    ::kill(::getppid(), SIGTERM);
  }

  std::mutex mutex_;
  std::atomic<int> alive_{0};
  std::atomic<bool> somebody_died_{false};
  bool ours_ = false;
  std::vector<std::shared_ptr<const void>> kept_;
};

inline MPI_Comm world() {
  (void)environment::get();
  return MPI_COMM_WORLD;
}

}  // namespace detail
}  // namespace mpi

CADRE_NAMESPACE_END

#endif
