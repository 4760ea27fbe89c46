#ifndef CADRE_OS_ATOMIC_FILE_HPP
#define CADRE_OS_ATOMIC_FILE_HPP

#include <cadre/os/detail/file.hpp>
#include <cadre/os/detail/temporary_file.hpp>

#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Replaces the file at `path` by the pieces, one after another, or leaves it as it was: whoever opens the path at any
/// instant, also after SIGKILL or a power failure, finds the old content or the new, whole. When the call returns, the
/// content and its name are on the disk (a temporary file in the same folder, fsync, rename, fsync of the folder). A
/// symbolic link is followed, so the file it names is replaced. Permissions of an existing file are kept; owner,
/// extended attributes and further hard links are not.
///
/// Throws file_error and its kinds (155 path missing, 156 disk full, 157 access denied, 158 other) with path and cause;
/// the temporary file is then removed. Only if the very last step fails (158, "the folder of"), the path has the new
/// content already, and a power failure may bring back the old. The folder must be readable, as well as writable. A
/// process killed in the call leaves a `.<name>.<pid>-<n>.tmp` behind, which the next call for the same path removes.
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

  detail::file folder;
  try {
    folder = detail::open_folder_of(target);  // first, so that a folder that cannot be synced is known before a change
    detail::temporary_file temporary(folder.path(), target.substr(target.find_last_of('/') + 1));
    if (exists && ::fchmod(temporary.get().fd(), old.st_mode & 07777) == -1)
      file_error::raise("set permissions of", path, errno);
    temporary.get().write_at(0, pieces);
    temporary.get().sync();
    temporary.replace(target);
  } catch (const file_error& e) {
    file_error::raise("write", path, e.code());
  }
  try {
    folder.sync_names();
  } catch (const file_error& e) {
    file_error::raise("write to disk the folder of", path, e.code());
  }
}

inline void write_file_atomically(const std::string& path, std::initializer_list<std::span<const std::byte>> pieces) {
  write_file_atomically(path, std::span<const std::span<const std::byte>>(pieces.begin(), pieces.size()));
}
inline void write_file_atomically(const std::string& path, std::span<const std::byte> bytes) {
  write_file_atomically(path, std::span<const std::span<const std::byte>>(&bytes, 1));
}

/// The whole file, also one that does not state its size, as those of /proc. Throws file_error and its kinds (155, 157,
/// 158); a pipe is 158 at once.
[[nodiscard]] inline std::vector<std::byte> read_file(const std::string& path) {
  const detail::file file(path, O_RDONLY | O_NONBLOCK);  // the flag is for pipes: opening would wait for a writer
  const struct stat status = file.status();
  if (S_ISDIR(status.st_mode)) file_error::raise("read", path, EISDIR);
  std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size) + 1);  // the last one finds the end
  std::size_t held = file.read_at(0, {bytes.data(), bytes.size()});
  while (held == bytes.size()) {  // there may be more than was stated
    bytes.resize(held + 4096);
    held += file.read_at(held, {bytes.data() + held, bytes.size() - held});
  }
  bytes.resize(held);
  return bytes;
}

CADRE_NAMESPACE_END

#endif
