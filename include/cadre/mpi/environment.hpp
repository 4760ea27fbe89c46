#ifndef CADRE_MPI_ENVIRONMENT_HPP
#define CADRE_MPI_ENVIRONMENT_HPP

#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/error.hpp>

#include <atomic>
#include <cstdlib>
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
/// that mpirun notices and ends the job, in place of a finalisation that would wait for ranks that never come.
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
  void keep(std::shared_ptr<void> memory) { kept_.push_back(std::move(memory)); }

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
    } else {
      check(::MPI_Query_thread(&level), "MPI_Query_thread");
    }
    if (level < MPI_THREAD_SERIALIZED)
      throw mpi_error::unusable(
          "MPI was initialised for one thread only: call MPI_Init_thread with MPI_THREAD_SERIALIZED, or let cadre "
          "initialise MPI");
  }
  ~environment() {
    if (ours_ && alive_.load() == 0 && !finalized()) ::MPI_Finalize();
  }

  std::mutex mutex_;
  std::atomic<int> alive_{0};
  bool ours_ = false;
  std::vector<std::shared_ptr<void>> kept_;
};

inline MPI_Comm world() {
  (void)environment::get();
  return MPI_COMM_WORLD;
}

}  // namespace detail
}  // namespace mpi

CADRE_NAMESPACE_END

#endif
