#ifndef CADRE_OS_FILE_LOCK_HPP
#define CADRE_OS_FILE_LOCK_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/os/file_error.hpp>
#include <cadre/os/mapping.hpp>

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>

CADRE_NAMESPACE_BEGIN

namespace detail {

[[noreturn, gnu::cold]] inline void throw_lock_error(const char* action, int file, int code) {
  std::string link = "/proc/self/fd/" + std::to_string(file);
  char path[512];
  const ::ssize_t length = ::readlink(link.c_str(), path, sizeof path);
  throw file_error::failed(action, length > 0 ? std::string(path, static_cast<std::size_t>(length)) : link, code);
}

/// The lock of `bytes` bytes (0: all that follow) is set to `type` by `command`. False if somebody else holds one.
inline bool set_lock(const file_descriptor& file, int command, short type, std::uint64_t at, std::int64_t bytes) {
  struct flock range {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(at);
  range.l_len = bytes;
  while (::fcntl(file.get(), command, &range) == -1) {
    if (errno == EAGAIN || errno == EACCES) return false;
    if (errno != EINTR) throw_lock_error(type == F_UNLCK ? "unlock" : "lock", file.get(), errno);
  }
  return true;
}

}  // namespace detail

/// Takes the lock of the byte at offset `at`, if no other opening of the file holds it. True if this one did already.
///
/// Exclusive locks on bytes of a file, or on all of it, that belong to an opening of the file ("open file description
/// locks" of fcntl(2)): whoever opens the file again, also in the same process, is somebody else; copies of a descriptor,
/// also those that a forked child inherits, are the same one. The kernel drops a lock when the last copy is closed, so
/// at once when a process is killed, even before it is reaped. Bytes beyond the end can be locked. A file in memory is
/// opened again as /proc/PID/fd/NUMBER. Files must be open for writing. About 1 us each; all throw file_error (158) on
/// what is not a question of who holds the lock.
[[nodiscard]] inline bool try_lock_byte(const file_descriptor& file, std::uint64_t at) {
  return detail::set_lock(file, F_OFD_SETLK, F_WRLCK, at, 1);
}
inline void unlock_byte(const file_descriptor& file, std::uint64_t at) {
  detail::set_lock(file, F_OFD_SETLK, F_UNLCK, at, 1);
}
/// Whether an opening of the file other than this one holds the lock of the byte.
[[nodiscard]] inline bool is_byte_locked_by_other(const file_descriptor& file, std::uint64_t at) {
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(at);
  range.l_len = 1;
  if (::fcntl(file.get(), F_OFD_GETLK, &range) == -1) detail::throw_lock_error("examine a lock of", file.get(), errno);
  return range.l_type != F_UNLCK;
}

/// Takes the lock of all bytes, also of those that are still to be written.
[[nodiscard]] inline bool try_lock_file(const file_descriptor& file) {
  return detail::set_lock(file, F_OFD_SETLK, F_WRLCK, 0, 0);
}
inline void unlock_file(const file_descriptor& file) { detail::set_lock(file, F_OFD_SETLK, F_UNLCK, 0, 0); }

/// As try_lock_file, but waits for the lock; time_point::max() waits for ever. False if the deadline has passed. The
/// kernel has no timed wait for it: looks again after 50 us, then less and less often, at last every 10 ms.
[[nodiscard]] inline bool lock_file_until(const file_descriptor& file, std::chrono::steady_clock::time_point deadline) {
  if (deadline == std::chrono::steady_clock::time_point::max())
    return detail::set_lock(file, F_OFD_SETLKW, F_WRLCK, 0, 0);
  for (std::int64_t nanoseconds = 50'000; !try_lock_file(file); nanoseconds *= 2) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) return false;
    if (nanoseconds > 10'000'000) nanoseconds = 10'000'000;
    const std::int64_t left = std::chrono::nanoseconds(deadline - now).count();
    const ::timespec pause{0, left < nanoseconds ? left : nanoseconds};
    ::nanosleep(&pause, nullptr);
  }
  return true;
}

CADRE_NAMESPACE_END

#endif
