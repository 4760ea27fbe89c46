#ifndef CADRE_STORE_DETAIL_DIRECT_FILE_HPP
#define CADRE_STORE_DETAIL_DIRECT_FILE_HPP

#include <cadre/os/mapping.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// A file that is written and read past the page cache (O_DIRECT) if asked for and its file system can; else through
/// it, without staying there. Nothing throws: calls return 0 or an errno. For one thread at a time.
class direct_file {
 public:
  direct_file() = default;
  /// Opens `name` in the folder; links are not followed. Where that fails, `*this` is false and errno says why.
  direct_file(const file_descriptor& folder, const std::string& name, int flags, bool direct) noexcept
      : direct_(direct) {
    const auto open = [&](int more) noexcept {
      return file_descriptor(::openat(folder.get(), name.c_str(), flags | more | O_NOFOLLOW | O_CLOEXEC, 0600));
    };
    if (direct_) {
      descriptor_ = open(O_DIRECT);
      if (descriptor_ || errno != EINVAL) return;
      // The file system has no direct access, which it says after it has made the file.
      if ((flags & O_EXCL) != 0) ::unlinkat(folder.get(), name.c_str(), 0);
    }
    descriptor_ = open(0);
    go_through_cache();
  }

  explicit operator bool() const noexcept { return static_cast<bool>(descriptor_); }

  /// Writes all pieces, one after another, from `offset`. The pieces are used up.
  [[nodiscard]] int write(std::span<iovec> pieces, std::uint64_t offset) noexcept {
    const std::uint64_t begin = offset;
    const int code = move(&::pwritev, pieces, offset);
    if (code == 0 && !direct_)
      ::sync_file_range(descriptor_.get(), signed_of(begin), signed_of(offset - begin), SYNC_FILE_RANGE_WRITE);
    return code;
  }
  /// Fills all pieces, one after another, from `offset`; ENODATA where the file ends before. The pieces are used up.
  [[nodiscard]] int read(std::span<iovec> pieces, std::uint64_t offset) noexcept {
    return move(&::preadv, pieces, offset);
  }
  /// Waits until what was written through the page cache is on the disk, and takes it out of the cache.
  [[nodiscard]] int drain(std::uint64_t offset, std::uint64_t bytes) noexcept {
    if (direct_) return 0;
    constexpr unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (::sync_file_range(descriptor_.get(), signed_of(offset), signed_of(bytes), all) != 0 &&
        (errno == EIO || errno == ENOSPC || errno == EDQUOT))
      return errno;
    forget(offset, bytes);
    return 0;
  }
  /// Takes what was read through the page cache out of it.
  void forget(std::uint64_t offset, std::uint64_t bytes) noexcept {
    if (!direct_) ::posix_fadvise(descriptor_.get(), signed_of(offset), signed_of(bytes), POSIX_FADV_DONTNEED);
  }
  [[nodiscard]] int truncate(std::uint64_t bytes) noexcept {
    return ::ftruncate(descriptor_.get(), signed_of(bytes)) == 0 ? 0 : errno;
  }

 private:
  using vector_call = ssize_t (*)(int, const iovec*, int, off_t);
  static constexpr int most_tries = 100;

  static off_t signed_of(std::uint64_t bytes) noexcept { return static_cast<off_t>(bytes); }

  void go_through_cache() noexcept {
    direct_ = false;
    const int flags = ::fcntl(descriptor_.get(), F_GETFL);
    if (flags != -1) ::fcntl(descriptor_.get(), F_SETFL, flags & ~O_DIRECT);
    // No reading ahead: what lies behind may be written directly at this moment.
    ::posix_fadvise(descriptor_.get(), 0, 0, POSIX_FADV_RANDOM);
  }

  int move(vector_call call, std::span<iovec> pieces, std::uint64_t& offset) noexcept {
    for (int fruitless = 0; !pieces.empty();) {
      if (pieces[0].iov_len == 0) {
        pieces = pieces.subspan(1);
        continue;
      }
      const ssize_t moved = call(descriptor_.get(), pieces.data(), static_cast<int>(pieces.size()), signed_of(offset));
      if (moved > 0) {
        fruitless = 0;
        offset += static_cast<std::uint64_t>(moved);
        advance(pieces, static_cast<std::size_t>(moved));
      } else if (moved == 0) {
        return ENODATA;
      } else if (errno == EINVAL && direct_) {
        go_through_cache();  // larger blocks than ours, or the rest after a call that ended within a block
      } else if ((errno != EINTR && errno != EAGAIN) || ++fruitless == most_tries) {
        return errno;
      }
    }
    return 0;
  }
  static void advance(std::span<iovec> pieces, std::size_t bytes) noexcept {
    for (iovec& piece : pieces) {
      const std::size_t step = bytes < piece.iov_len ? bytes : piece.iov_len;
      piece.iov_base = static_cast<std::byte*>(piece.iov_base) + step;
      piece.iov_len -= step;
      bytes -= step;
    }
  }

  file_descriptor descriptor_;
  bool direct_ = false;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
