#ifndef CADRE_MPI_DETAIL_WAKER_HPP
#define CADRE_MPI_DETAIL_WAKER_HPP

#include <cadre/core/function.hpp>
#include <cadre/os/mapping.hpp>
#include <cadre/os/thread.hpp>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>

#include <utility>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// A thread that sleeps until something happens that rings no doorbell by itself: at a socket, to a process, or that time
/// has passed.
class waker {
 public:
  waker() noexcept
      : files_(::epoll_create1(EPOLL_CLOEXEC)),
        end_(::eventfd(0, EFD_CLOEXEC)),
        timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)) {
    works_ = watch(end_.get()) && watch(timer_.get());
  }
  waker(const waker&) = delete;
  waker& operator=(const waker&) = delete;
  ~waker() { end(); }

  /// False if the system has no more files for it: then it never wakes.
  [[nodiscard]] bool works() const noexcept { return works_; }

  /// Whenever something more is to be read from that file. False if it cannot be watched.
  bool watch(int file) noexcept {
    epoll_event about{.events = EPOLLIN | EPOLLET, .data = {.fd = file}};
    return ::epoll_ctl(files_.get(), EPOLL_CTL_ADD, file, &about) == 0;
  }

  /// Calls `happened(file)`, which must not throw, from now on and for what has happened before. Throws thread_error (151).
  void start(move_only_function<void(int file)> happened) {
    if (!works_) return;
    thread_ = native_thread("cadre-waker", [this, happened = std::move(happened)]() mutable {
      for (epoll_event about{};;) {
        if (::epoll_wait(files_.get(), &about, 1, -1) != 1) continue;
        if (about.data.fd == end_.get()) return;
        happened(about.data.fd);
      }
    });
  }
  /// `happened` is called in about a millisecond; of two such calls the second counts. Cheap: nobody wakes up at once.
  void wake_soon() noexcept {
    constexpr itimerspec soon{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = 1'000'000}};
    ::timerfd_settime(timer_.get(), 0, &soon, nullptr);
  }
  /// Returns when `happened` is not called any more.
  void end() noexcept {
    if (works_) ::eventfd_write(end_.get(), 1);
    thread_.join();
  }

 private:
  file_descriptor files_, end_, timer_;
  bool works_ = false;
  native_thread thread_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
