#ifndef CADRE_MPI_DETAIL_WATCHDOG_HPP
#define CADRE_MPI_DETAIL_WATCHDOG_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/os/thread.hpp>

#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Ends this process by SIGKILL unless it is destroyed in time: for calls of MPI that never return where another process has
/// died meanwhile. The others see a death, and go on or end as after any; that of rank 0 has mpirun end first, as nobody may
/// be left to do so, and mpirun to give 0.
class watchdog {
 public:
  /// `what` begins a sentence that ends with "takes too long". Throws thread_error (151).
  watchdog(std::string what, std::chrono::nanoseconds limit, bool of_rank_0)
      : what_(std::move(what)),
        of_rank_0_(of_rank_0),
        until_(std::chrono::steady_clock::now() + limit),
        thread_("cadre-watchdog", [this] {
          std::unique_lock lock(mutex_);
          if (end_.wait_until(lock, until_, [this] { return over_; })) return;
          // What this process may still do is uncertain: the log's sink is not for this.
          std::fprintf(stderr, "cadre: %s takes too long: process %d ends\n", what_.c_str(),
                       static_cast<int>(::getpid()));  // as a last word
          if (of_rank_0_ && ::kill(::getppid(), SIGTERM) == 0) ::sleep(2);
          ::kill(::getpid(), SIGKILL);
        }) {}
  watchdog(const watchdog&) = delete;
  watchdog& operator=(const watchdog&) = delete;
  ~watchdog() {
    const std::lock_guard lock(mutex_);
    over_ = true;
    end_.notify_one();
  }

 private:
  const std::string what_;
  const bool of_rank_0_;
  const std::chrono::steady_clock::time_point until_;
  std::mutex mutex_;
  std::condition_variable end_;
  bool over_ = false;
  native_thread thread_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
