#ifndef CADRE_MPI_DETAIL_END_LATER_HPP
#define CADRE_MPI_DETAIL_END_LATER_HPP

#include <cadre/config/config.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Has another process killed if it has not ended so many seconds later, whatever becomes of this one: by a child that does
/// nothing else. Where the kernel has no pidfd (before 5.3) nothing is done.
inline void end_later(int process, int seconds) noexcept {
  const int watched = static_cast<int>(::syscall(SYS_pidfd_open, process, 0));
  if (watched < 0) return;
  if (::fork() == 0) {  // of a process with threads: calls of the system alone
    ::setsid();
    ::dup2(watched, 0);
    ::syscall(SYS_close_range, 1u, ~0u, 0u);  // whoever reads what this process writes sees its end
    pollfd about{.fd = 0, .events = POLLIN, .revents = 0};
    if (::poll(&about, 1, seconds * 1000) == 0) ::syscall(SYS_pidfd_send_signal, 0, SIGKILL, nullptr, 0);
    ::_exit(0);
  }
  ::close(watched);
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
