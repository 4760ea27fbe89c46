#ifndef CADRE_OS_ATOMIC_FILE_HPP
#define CADRE_OS_ATOMIC_FILE_HPP

#include <cadre/os/detail/file.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Replaces the file at `path` by the pieces, one after another, or leaves it as it was: whoever opens the path at any
/// instant, also after SIGKILL or a power failure, finds the old content or the new, whole. When the call returns, the
/// content and its name are on the disk (a temporary file in the same folder, fsync, rename, fsync of the folder). A
/// symbolic link is followed, so the file it names is replaced; permissions of an existing file are kept.
///
/// Throws file_error and its kinds (155 path missing, 156 disk full, 157 access denied, 158 other) with path and cause;
/// the temporary file is then removed. A process killed in the call may leave a `.<name>.<pid>-<n>.tmp` behind.
/// Several writers of one path are safe, the last rename wins. Nothing is copied in user space.
inline void write_file_atomically(const std::string& path, std::span<const std::span<const std::byte>> pieces) {
  std::string target = path;
  struct stat old {};
  bool exists = ::lstat(path.c_str(), &old) == 0;
  if (exists && S_ISLNK(old.st_mode)) {
    if (char* resolved = ::realpath(path.c_str(), nullptr)) {
      target = resolved;
      std::free(resolved);
    } else {
      file_error::raise("follow the link", path, errno);
    }
    exists = ::lstat(target.c_str(), &old) == 0;
  }
  if (exists && S_ISDIR(old.st_mode)) file_error::raise("write", path, EISDIR);
  if (exists && !S_ISREG(old.st_mode)) file_error::raise("replace", path, ENOTSUP);  // a device, a pipe, a socket

  static std::atomic<std::uint64_t> serial{0};
  const std::string folder = detail::folder_of(target);
  const std::size_t slash = target.find_last_of('/');
  const std::string name = slash == std::string::npos ? target : target.substr(slash + 1);
  detail::file temporary;
  for (;;) {  // a name left by a killed process of the same id is passed over
    const std::string candidate = folder + "/." + name.substr(0, 200) + "." + std::to_string(::getpid()) + "-" +
                                  std::to_string(serial.fetch_add(1, std::memory_order_relaxed)) + ".tmp";
    try {
      temporary = detail::file(candidate, O_WRONLY | O_CREAT | O_EXCL);
      break;
    } catch (const file_error& e) {
      if (e.code() != EEXIST) file_error::raise("write", path, e.code());
    }
  }
  try {
    if (exists && ::fchmod(temporary.fd(), old.st_mode & 07777) == -1)
      file_error::raise("set permissions of", temporary.path(), errno);
    temporary.write_at(0, pieces);
    temporary.sync();
    temporary.close();
    if (::rename(temporary.path().c_str(), target.c_str()) == -1) file_error::raise("replace", path, errno);
  } catch (const file_error& e) {
    ::unlink(temporary.path().c_str());
    file_error::raise("write", path, e.code());
  } catch (...) {
    ::unlink(temporary.path().c_str());
    throw;
  }
  detail::sync_folder_of(target);
}

inline void write_file_atomically(const std::string& path, std::initializer_list<std::span<const std::byte>> pieces) {
  write_file_atomically(path, std::span(pieces.begin(), pieces.size()));
}
inline void write_file_atomically(const std::string& path, std::span<const std::byte> bytes) {
  write_file_atomically(path, {bytes});
}

/// The whole file. Throws file_error and its kinds (155, 157, 158).
[[nodiscard]] inline std::vector<std::byte> read_file(const std::string& path) {
  const detail::file file(path, O_RDONLY);
  const struct stat status = file.status();
  if (S_ISDIR(status.st_mode)) file_error::raise("read", path, EISDIR);
  std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size));
  bytes.resize(file.read_at(0, bytes));  // the file may have been shortened meanwhile
  return bytes;
}

CADRE_NAMESPACE_END

#endif
