#ifndef CADRE_TESTS_OS_FAILING_FSYNC_HPP
#define CADRE_TESTS_OS_FAILING_FSYNC_HPP

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace failing_fsync {

/// Counts down with every call of fsync in this program; the one that takes it from 1 to 0 fails as a dying disk does.
inline int countdown = 0;

}  // namespace failing_fsync

// Stands before the C library's. One file of a program includes this header.
extern "C" int fsync(int fd) {
  if (failing_fsync::countdown > 0 && --failing_fsync::countdown == 0) {
    errno = EIO;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

#endif
