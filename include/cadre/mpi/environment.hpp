#ifndef CADRE_MPI_ENVIRONMENT_HPP
#define CADRE_MPI_ENVIRONMENT_HPP

#include <cadre/mpi/detail/launcher_guard.hpp>
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
#include <optional>
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

/// Destroyed behind all of the program's that is defined behind an include of cadre: the end of the process, by a signal where
/// that is asked for.
struct last_act {
  bool by_signal = false;
  ~last_act() {
    if (!by_signal) return;
    std::fflush(nullptr);
    ::raise(SIGKILL);
  }
};
inline constinit last_act end_of_process;

/// MPI in this process: initialised here if the host did not, and then finalised at exit, provided that every
/// communicator was destroyed before. If one is alive, exit was called in the middle of the job: MPI is left as it is, so
/// that mpirun notices and ends the job, in place of a finalisation that would wait for ranks that never come. Where a rank
/// has died and the others go on (mpirun --enable-recovery) nothing is finalised: rank 0 waits for the others to end and then
/// has mpirun end the job, with 0 if it ends with 0 itself, else 1; where rank 0 has died the others of its node do.
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

  /// By rank 0 of a job over several nodes. mpirun waits for ever for a host that is lost, or where rank 0 dies alone.
  /// Throws mapping_error (159).
  void guard_launcher() {
    if (ours_ && goes_on_after_deaths() && !guard_) guard_.emplace();
  }

  /// `far`: this rank is not on the node of rank 0.
  void note_death(bool of_rank_0, bool far) noexcept {
    far_.store(far);
    if (of_rank_0) rank_0_died_.store(true);
    // Called before the destructor, as it is registered after the constructor has run.
    if (!somebody_died_.exchange(true)) ::on_exit([](int status, void*) { exit_status() = status; }, nullptr);
  }

  /// This process is in the place of a rank that has died; `far`: not on the node of rank 0.
  void take_place(bool far) noexcept {
    takes_place_ = true;
    note_death(false, far);
  }
  /// Whether a job goes on after the death of a rank: mpirun --enable-recovery.
  static bool goes_on_after_deaths() noexcept {
    const char* const goes_on = std::getenv("OMPI_MCA_orte_enable_recovery");
    return goes_on != nullptr && std::strcmp(goes_on, "0") != 0;
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
    if (!ours_) return;
    const bool in_order = finalized() || (alive_.load() == 0 && !somebody_died_.load());
    if (in_order && guard_) guard_->dismiss();
    if (finalized()) return;
    if (in_order)
      ::MPI_Finalize();
    else if (somebody_died_.load())
      end_without_the_dead();
  }
  static int& exit_status() noexcept {
    static constinit int status = 0;
    return status;
  }
  // mpirun gives 0 after MPI_Abort(0), also where others ended otherwise, and 1 after a SIGTERM; no other codes. It is where
  // rank 0 is, as a rule: the parent of that node's ranks.
  void end_without_the_dead() noexcept {
    if (!goes_on_after_deaths()) return;  // mpirun ends the job at this moment
    int rank = 0;
    ::MPI_Comm_rank(MPI_COMM_WORLD, &rank);       // of one that came later, among those that were started with it
    constexpr unsigned for_the_others = 500'000;  // us; they know that the job is over
    if (rank != 0 || takes_place_) {
      // A rank that exits on another node than mpirun's is not counted by that as one that has ended, one that is killed is:
      // without this mpirun never ended in a third of the cases (Open MPI 4.1.4).
      end_of_process.by_signal = far_.load();
      if (!rank_0_died_.load() || far_.load()) return;
      ::usleep(for_the_others);
      std::fflush(nullptr);
      ::kill(::getppid(), SIGTERM);
      return;
    }
    ::usleep(for_the_others);
    std::fflush(nullptr);
    if (guard_) guard_->expect_end();
    if (exit_status() == 0) ::MPI_Abort(MPI_COMM_WORLD, 0);
    ::kill(::getppid(), SIGTERM);
  }

  std::mutex mutex_;
  std::atomic<int> alive_{0};
  std::atomic<bool> somebody_died_{false}, rank_0_died_{false}, far_{false};
  bool ours_ = false, takes_place_ = false;
  std::optional<launcher_guard> guard_;
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
