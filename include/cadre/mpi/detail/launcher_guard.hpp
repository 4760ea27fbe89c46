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

/// Has the parent of this process ended where it should and does not, by SIGTERM, then by SIGKILL: by a child, which sleeps
/// until this process has ended. Where the kernel has no pidfd (before 5.3) nothing is done.
class launcher_guard {
 public:
  /// Throws mapping_error (159).
  launcher_guard() : shared_(mapping::shared(make_memory_file("cadre", sizeof(word)), sizeof(word))) {
    const file_descriptor self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
    const file_descriptor parent(static_cast<int>(::syscall(SYS_pidfd_open, ::getppid(), 0)));
    if (!self || !parent || ::fork() != 0) return;
    watch(self.get(), parent.get());
    ::_exit(0);  // the child's end: what it has of this process is not its to destroy
  }
  /// The parent may live on.
  void dismiss() noexcept { expected().store(none); }
  /// This process has the parent end, which may take a while. Without this and dismiss() it has died.
  void expect_end() noexcept { expected().store(soon); }

 private:
  using word = std::atomic<int>;
  enum : int { now, soon, none };  // zeroed memory is `now`
  [[nodiscard]] word& expected() const noexcept { return *reinterpret_cast<word*>(shared_.data()); }

  // The child of a process with threads: calls of the system alone.
  void watch(int self, int parent) const noexcept {
    ::setsid();
    // Whoever reads what this process writes, or is connected with it, is to see its end.
    const int low = self < parent ? self : parent, high = self < parent ? parent : self;
    close_all(0, low - 1);
    close_all(low + 1, high - 1);
    close_all(high + 1, -1);
    constexpr int for_last_words = 1000, for_its_end = 10'000, for_the_rest = 3000;  // ms
    if (!has_ended(self, -1) || expected().load() == none) return;
    if (!has_ended(parent, expected().load() == now ? for_last_words : for_its_end))
      ::syscall(SYS_pidfd_send_signal, parent, SIGTERM, nullptr, 0);
    if (!has_ended(parent, for_the_rest)) ::syscall(SYS_pidfd_send_signal, parent, SIGKILL, nullptr, 0);
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
