#ifndef CADRE_OS_ROBUST_MUTEX_HPP
#define CADRE_OS_ROBUST_MUTEX_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/os/detail/relax.hpp>
#include <cadre/os/mapping.hpp>

#include <pthread.h>
#include <time.h>

#include <cerrno>

CADRE_NAMESPACE_BEGIN

/// How an attempt to lock a robust_mutex ended.
enum class lock_result {
  locked,      ///< held, and what it guards is whole
  owner_died,  ///< held; whoever held it before died with it, so what it guards must be repaired first
  timed_out,   ///< not held
};

/// A mutex that lies in memory which several processes map, and that outlives those who die while they hold it: the next
/// one gets it at once, with `owner_died`. Meant for critical sections of less than a microsecond.
///
///     if (mutex.lock_until(deadline) == lock_result::owner_died) {
///       repair();                 // may throw or die: then the next one is told to repair
///       mutex.made_consistent();
///     }
///     ...
///     mutex.unlock();
///
/// `owner_died` is returned until a holder has called `made_consistent`, also if those before it have unlocked or died
/// without. So the state ENOTRECOVERABLE of POSIX, in which nobody can lock any more, is not reached. Not recursive. A
/// thread must not unmap the memory while it holds the mutex, since the kernel looks for it there when the thread ends.
class robust_mutex {
 public:
  robust_mutex() = default;  // does nothing, so that it can be found in mapped memory
  robust_mutex(const robust_mutex&) = delete;
  robust_mutex& operator=(const robust_mutex&) = delete;

  /// Once, by whoever makes the memory, before another process can see it. Throws mapping_error (159).
  [[gnu::cold]] void init() {
    needs_repair_ = false;
    ::pthread_mutexattr_t how;
    int code = ::pthread_mutexattr_init(&how);
    if (code == 0) {
      code = ::pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
      if (code == 0) code = ::pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
      if (code == 0) code = ::pthread_mutex_init(&mutex_, &how);
      ::pthread_mutexattr_destroy(&how);
    }
    if (code != 0) throw mapping_error("cannot make a mutex that processes share", code);
  }

  /// Tries for a few microseconds, then sleeps until the deadline; time_point::max() waits for ever. One that is free is
  /// taken even after the deadline, without a look at the clock, for the price of pthread_mutex_trylock.
  [[nodiscard]] lock_result lock_until(std::chrono::steady_clock::time_point deadline) noexcept {
    int code = ::pthread_mutex_trylock(&mutex_);
    // Sections are short, so the holder is most likely done before a sleep would have begun.
    for (int tries = 0; code == EBUSY && tries < 100; ++tries) {
      detail::relax();
      code = ::pthread_mutex_trylock(&mutex_);
    }
    if (code == EBUSY) code = sleep_until(deadline);
    if (code == 0) return needs_repair_ ? lock_result::owner_died : lock_result::locked;
    if (code != EOWNERDEAD) return lock_result::timed_out;
    // In this order: whoever dies between the two leaves the mutex to be reported as orphaned again.
    needs_repair_ = true;
    ::pthread_mutex_consistent(&mutex_);
    return lock_result::owner_died;
  }

  /// Says that what the mutex guards is whole again. By the holder, after `owner_died`.
  void made_consistent() noexcept { needs_repair_ = false; }

  /// By the thread that holds it.
  void unlock() noexcept { ::pthread_mutex_unlock(&mutex_); }

 private:
  [[gnu::cold]] int sleep_until(std::chrono::steady_clock::time_point deadline) noexcept {
    if (deadline == std::chrono::steady_clock::time_point::max()) return ::pthread_mutex_lock(&mutex_);
#ifdef CADRE_TSAN  // that of g++ 12 does not know pthread_mutex_clocklock
    const ::timespec moment{0, 100'000};
    int code = 0;
    while ((code = ::pthread_mutex_trylock(&mutex_)) == EBUSY && std::chrono::steady_clock::now() < deadline)
      ::nanosleep(&moment, nullptr);
    return code;
#else
    const auto since = deadline.time_since_epoch();
    if (since.count() <= 0) return ETIMEDOUT;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
    ::timespec until{};
    until.tv_sec = seconds.count();
    until.tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(since - seconds).count();
    return ::pthread_mutex_clocklock(&mutex_, CLOCK_MONOTONIC, &until);  // the clock of steady_clock
#endif
  }

  ::pthread_mutex_t mutex_;
  bool needs_repair_;  // guarded by the mutex
};

CADRE_NAMESPACE_END

#endif
