#ifndef CADRE_MPI_DETAIL_LAUNCHER_GUARD_HPP
#define CADRE_MPI_DETAIL_LAUNCHER_GUARD_HPP

#include <cadre/os/mapping.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Has the parent of this process ended, by SIGTERM, then by SIGKILL, where it has not ended by itself so many seconds after
/// this one, which was killed or did not call dismiss(): by a child, which sleeps until then. Where the kernel has no pidfd
/// (before 5.3) nothing is done.
class launcher_guard {
 public:
  /// Throws mapping_error (159).
  explicit launcher_guard(int seconds) : shared_(mapping::shared(make_memory_file("cadre", 1), 1)) {
    const file_descriptor self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
    const file_descriptor parent(static_cast<int>(::syscall(SYS_pidfd_open, ::getppid(), 0)));
    if (self && parent && ::fork() == 0) watch(self.get(), parent.get(), seconds * 1000);
  }
  void dismiss() noexcept { dismissed().store(true); }

 private:
  [[nodiscard]] std::atomic<bool>& dismissed() const noexcept {
    return *reinterpret_cast<std::atomic<bool>*>(shared_.data());
  }
  // The child of a process with threads: calls of the system alone.
  [[noreturn]] void watch(int self, int parent, int patience) const noexcept {
    ::setsid();
    // Whoever reads what this process writes, or is connected with it, is to see its end.
    const int low = self < parent ? self : parent, high = self < parent ? parent : self;
    close_all(0, low - 1);
    close_all(low + 1, high - 1);
    close_all(high + 1, -1);
    constexpr int for_the_rest = 3000;  // ms
    if (!has_ended(self, -1) || dismissed().load()) ::_exit(0);
    if (!has_ended(parent, patience)) ::syscall(SYS_pidfd_send_signal, parent, SIGTERM, nullptr, 0);
    if (!has_ended(parent, for_the_rest)) ::syscall(SYS_pidfd_send_signal, parent, SIGKILL, nullptr, 0);
    ::_exit(0);
  }
  static void close_all(int first, int last) noexcept {
    if (last < 0 || first <= last)
      ::syscall(SYS_close_range, static_cast<unsigned>(first), static_cast<unsigned>(last), 0u);
  }
  // Within so many ms; -1: whenever that is.
  static bool has_ended(int process, int within) noexcept {
    pollfd about{.fd = process, .events = POLLIN, .revents = 0};
    return ::poll(&about, 1, within) == 1;
  }

  mapping shared_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
