#ifndef CADRE_MPI_DETAIL_PROCESS_WATCH_HPP
#define CADRE_MPI_DETAIL_PROCESS_WATCH_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/os/detail/cgroup.hpp>
#include <cadre/os/mapping.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <thread>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Sees that another process, not a child, has ended. Where the kernel has no pidfd (before 5.3) it never does.
class process_watch {
 public:
  explicit process_watch(int process) noexcept
      : process_(process),
        file_(static_cast<int>(::syscall(SYS_pidfd_open, process, 0))),
        gone_(!file_ && errno == ESRCH) {}

  [[nodiscard]] bool ended() const noexcept {
    if (!file_) return gone_;
    pollfd about{.fd = file_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&about, 1, 0) == 1;
  }

  /// From which there is something to read when it has ended; -1 where there is none.
  [[nodiscard]] int file() const noexcept { return file_.get(); }

  /// Ends it, by SIGKILL.
  void end() const noexcept {
    if (file_) ::syscall(SYS_pidfd_send_signal, file_.get(), SIGKILL, nullptr, 0);
  }

  /// After it has ended: " by signal 9", " with exit code 1", or nothing where the kernel does not tell, which it does until
  /// the parent has taken the exit code, and from 6.15 on afterwards. What says nothing is waited for, 50 ms at most.
  [[nodiscard]] std::string how() const {
    // struct pidfd_info of <linux/pidfd.h>, which is younger than the system's headers.
    struct {
      std::uint64_t mask, cgroup;
      std::uint32_t ids[11];
      std::int32_t exit_code;
    } about{};
    static_assert(sizeof about == 64);
    constexpr std::uint64_t exit_bit = 1u << 3;
    for (int i = 0; file_ && i < 50; ++i) {
      if (const int status = status_of_zombie(); status != 0) return text_of(status);
      about.mask = exit_bit;
      if (::ioctl(file_.get(), _IOWR(0xFF, 11, decltype(about)), &about) != 0) break;
      if (about.mask & exit_bit) return text_of(about.exit_code);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return {};
  }

 private:
  static std::string text_of(int status) {
    if (WIFSIGNALED(status)) return " by signal " + std::to_string(WTERMSIG(status));
    return " with exit code " + std::to_string(WEXITSTATUS(status));
  }
  // As for wait(); 0 also where there is none any more, or it may not be read.
  [[nodiscard]] int status_of_zombie() const {
    const std::string text = cadre::detail::read_small_file("/proc/" + std::to_string(process_) + "/stat");
    const std::size_t state = text.rfind(") Z ");
    const std::size_t last = text.rfind(' ');  // field 52
    if (state == std::string::npos) return 0;
    return static_cast<int>(std::strtol(text.c_str() + last, nullptr, 10));
  }

  int process_;
  file_descriptor file_;
  bool gone_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
