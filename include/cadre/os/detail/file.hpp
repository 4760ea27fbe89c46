#ifndef CADRE_OS_DETAIL_FILE_HPP
#define CADRE_OS_DETAIL_FILE_HPP

#include <cadre/os/file_error.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// An open file descriptor; every call throws file_error with the file's path.
class file {
 public:
  file() = default;
  file(std::string path, int flags, mode_t mode = 0666) : path_(std::move(path)) {
    do fd_ = ::open(path_.c_str(), flags | O_CLOEXEC, mode);
    while (fd_ == -1 && errno == EINTR);
    if (fd_ == -1) file_error::raise("open", path_, errno);
  }
  file(file&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  file& operator=(file&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~file() {
    if (fd_ != -1) ::close(fd_);
  }

  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  [[nodiscard]] struct stat status() const {
    struct stat result {};
    if (::fstat(fd_, &result) == -1) file_error::raise("examine", path_, errno);
    return result;
  }

  /// Writes all pieces, one after another, from `offset`: one call to the kernel unless it writes less than asked.
  void write_at(std::uint64_t offset, std::span<const std::span<const std::byte>> pieces) {
    std::vector<iovec> rest;
    rest.reserve(pieces.size());
    for (std::span<const std::byte> piece : pieces)
      if (!piece.empty()) rest.push_back({const_cast<std::byte*>(piece.data()), piece.size()});
    for (std::size_t first = 0; first < rest.size();) {
      const std::size_t count = rest.size() - first < 1024 ? rest.size() - first : 1024;  // IOV_MAX
      const ssize_t written = ::pwritev(fd_, rest.data() + first, static_cast<int>(count), static_cast<off_t>(offset));
      if (written == -1) {
        if (errno == EINTR) continue;
        file_error::raise("write", path_, errno);
      }
      offset += static_cast<std::uint64_t>(written);
      for (auto left = static_cast<std::size_t>(written); left != 0;) {
        const std::size_t step = left < rest[first].iov_len ? left : rest[first].iov_len;
        rest[first].iov_base = static_cast<std::byte*>(rest[first].iov_base) + step;
        rest[first].iov_len -= step;
        left -= step;
        if (rest[first].iov_len == 0) ++first;
      }
    }
  }

  /// Reads up to bytes.size() bytes from `offset`; fewer only at the end of the file.
  [[nodiscard]] std::size_t read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
    std::size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t got = ::pread(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
      if (got == 0) break;
      if (got == -1) {
        if (errno == EINTR) continue;
        file_error::raise("read", path_, errno);
      }
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  void truncate(std::uint64_t size) {
    if (::ftruncate(fd_, static_cast<off_t>(size)) == -1) file_error::raise("shorten", path_, errno);
  }

  void sync() {
    if (::fsync(fd_) == -1) file_error::raise("write to disk", path_, errno);
  }

  /// Makes the names in this folder durable. File systems that cannot do this for a folder say EINVAL.
  void sync_names() {
    if (::fsync(fd_) == -1 && errno != EINVAL) file_error::raise("write to disk", path_, errno);
  }

 private:
  std::string path_;
  int fd_ = -1;
};

/// The folder that holds `path`, which need not exist.
[[nodiscard]] inline file open_folder_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  return file(slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash), O_RDONLY | O_DIRECTORY);
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif
