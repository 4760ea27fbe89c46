#ifndef CADRE_OS_MAPPING_HPP
#define CADRE_OS_MAPPING_HPP

#include <cadre/core/error.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#ifndef MADV_POPULATE_WRITE  // Linux 5.14
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE  // Linux 6.1
#define MADV_COLLAPSE 25
#endif

CADRE_NAMESPACE_BEGIN

/// Thrown (159) when memory cannot be made, mapped or reserved. `code()` is the system's error.
class mapping_error : public error {
 public:
  mapping_error(std::string_view message, int code)
      : error("os", 159, std::string(message) + ": " + std::generic_category().message(code)), code_(code) {}
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  int code_;
};

/// A file descriptor that is closed at the end. Move-only.
class file_descriptor {
 public:
  file_descriptor() = default;
  explicit file_descriptor(int number) noexcept : number_(number) {}
  file_descriptor(file_descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  file_descriptor& operator=(file_descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~file_descriptor() {
    if (number_ >= 0) ::close(number_);
  }

  [[nodiscard]] int get() const noexcept { return number_; }
  explicit operator bool() const noexcept { return number_ >= 0; }

 private:
  int number_ = -1;
};

namespace detail {
// Linux 5.14. Where it is missing, the memory of files is reserved when they are made.
inline bool can_populate() noexcept {
  static const bool can = ::madvise(nullptr, 0, MADV_POPULATE_WRITE) == 0;
  return can;
}
}  // namespace detail

/// An anonymous file in memory, zeroed, that the kernel frees with its last mapping and descriptor, however the
/// processes end. Not bound by the size of /dev/shm. Other processes of the user open it as /proc/PID/fd/NUMBER.
/// Throws mapping_error (159).
[[nodiscard]] inline file_descriptor make_memory_file(const char* name, std::size_t bytes) {
  file_descriptor file(::memfd_create(name, MFD_CLOEXEC));
  if (!file) throw mapping_error("cannot make a file in memory", errno);
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0)
    throw mapping_error("cannot make a file of " + std::to_string(bytes) + " bytes in memory", errno);
  if (!detail::can_populate())
    if (const int code = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes)); code != 0)
      throw mapping_error("cannot reserve a file of " + std::to_string(bytes) + " bytes in memory", code);
  return file;
}

/// Memory mapped into this process, unmapped at the end. Move-only.
class mapping {
 public:
  static constexpr std::size_t huge_page = std::size_t{2} << 20;

  mapping() = default;
  /// The first `bytes` of a file, shared with all who map it. Mappings of 2 MiB and more begin at a multiple of 2 MiB.
  /// Reserves nothing: call `reserve` before touching memory that may not be there. Throws mapping_error (159).
  static mapping shared(const file_descriptor& file, std::size_t bytes) {
    mapping made;
    made.map(bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    return made;
  }
  /// The `bytes` from `offset`, a multiple of the page size, to be read only: a write is a SIGSEGV. Otherwise as shared().
  static mapping shared_read_only(const file_descriptor& file, std::size_t offset, std::size_t bytes) {
    mapping made;
    made.map(bytes, PROT_READ, MAP_SHARED, file.get(), offset);
    return made;
  }
  /// Zeroed memory of this process alone, in huge pages where the system has them. Throws mapping_error (159).
  static mapping anonymous(std::size_t bytes) {
    mapping made;
    made.map(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes >= huge_page) ::madvise(made.data_, bytes, MADV_HUGEPAGE);
    return made;
  }
  mapping(mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  mapping& operator=(mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~mapping() {
    if (data_ != nullptr) ::munmap(data_, size_);
  }

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  /// Makes bytes [offset, offset + bytes) present, so that touching them cannot fail: where memory is short this throws
  /// mapping_error (159) in place of a later SIGBUS. Huge pages are used where the kernel gives them (shared memory:
  /// Linux 6.1), which makes the first touch several times cheaper.
  void reserve(std::size_t offset, std::size_t bytes) {
    if (bytes == 0) return;
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t begin = offset / page * page, end = (offset + bytes + page - 1) / page * page;
    // A huge page is collapsed from a range that has one page present; where that does not work, all are made present.
    const std::size_t huge_begin = (begin + huge_page - 1) / huge_page * huge_page,
                      huge_end = end / huge_page * huge_page;
    if (huge_begin < huge_end) {
      for (std::size_t at = huge_begin; at < huge_end; at += huge_page) populate(at, page);
      ::madvise(data_ + huge_begin, huge_end - huge_begin, MADV_COLLAPSE);
    }
    populate(begin, end - begin);
  }

 private:
  void map(std::size_t bytes, int access, int flags, int file, std::size_t offset) {
    if (bytes == 0) throw mapping_error("cannot map 0 bytes", EINVAL);
    // Address space for the alignment first, then the mapping over the aligned part of it.
    const std::size_t slack = bytes >= huge_page ? huge_page : 0;
    if (bytes > std::numeric_limits<std::size_t>::max() / 2)
      throw mapping_error("cannot map " + std::to_string(bytes) + " bytes", ENOMEM);
    void* const space = ::mmap(nullptr, bytes + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED) throw mapping_error("cannot map " + std::to_string(bytes) + " bytes", errno);
    auto* const begin = static_cast<std::byte*>(space);
    const std::size_t shift =
        slack == 0 ? 0 : (huge_page - reinterpret_cast<std::uintptr_t>(begin) % huge_page) % huge_page;
    void* const made = ::mmap(begin + shift, bytes, access, flags | MAP_FIXED, file, static_cast<off_t>(offset));
    if (made == MAP_FAILED) {
      const int code = errno;
      ::munmap(space, bytes + slack);
      throw mapping_error("cannot map " + std::to_string(bytes) + " bytes", code);
    }
    data_ = begin + shift;
    size_ = bytes;
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t tail = shift + (bytes + page - 1) / page * page;
    if (shift != 0) ::munmap(begin, shift);
    if (tail < bytes + slack) ::munmap(begin + tail, bytes + slack - tail);
  }

  void populate(std::size_t offset, std::size_t bytes) {
    if (!detail::can_populate() || ::madvise(data_ + offset, bytes, MADV_POPULATE_WRITE) == 0) return;
    throw mapping_error("cannot reserve " + std::to_string(bytes) + " bytes of memory",
                        errno == EFAULT ? ENOMEM : errno);
  }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

CADRE_NAMESPACE_END

#endif
