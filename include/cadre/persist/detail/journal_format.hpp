#ifndef CADRE_PERSIST_DETAIL_JOURNAL_FORMAT_HPP
#define CADRE_PERSIST_DETAIL_JOURNAL_FORMAT_HPP

#include <cadre/core/hash.hpp>
#include <cadre/os/detail/file.hpp>
#include <cadre/persist/error.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// The file: a header, then records, each a header and its bytes. Little-endian. A record's header has a check of its
/// own, keyed by its offset: without it, a damaged length in the middle would look like a torn tail and take all that
/// follows with it.
namespace detail::journal_format {

inline constexpr std::array<char, 8> magic = {'\x89', 'C', 'A', 'D', 'J', 'L', '\r', '\n'};
inline constexpr std::uint32_t version = 1;

struct file_header {
  std::array<char, 8> magic;  // this and the version stay where they are in every version to come
  std::uint32_t version;
  std::uint32_t check;
};
static_assert(sizeof(file_header) == 16);

struct record_header {
  std::uint32_t size;
  std::uint32_t check;  // of the size and the offset
  std::uint64_t checksum;
};
static_assert(sizeof(record_header) == 16);

/// A header as it lies in memory, and in the file.
template <class Header>
std::span<const std::byte> bytes_of(const Header& header) noexcept {
  return {reinterpret_cast<const std::byte*>(&header), sizeof header};
}

constexpr std::uint32_t short_check(std::uint64_t a, std::uint64_t b) noexcept {
  return static_cast<std::uint32_t>(hash_combine(hash_combine(0, a), b) >> 32);
}

inline file_header make_file_header() noexcept { return {magic, version, short_check(version, 0)}; }

inline record_header header_of(std::span<const std::byte> record, std::uint64_t offset) noexcept {
  const auto size = static_cast<std::uint32_t>(record.size());
  return {size, short_check(size, offset), hash_bytes(record, offset)};
}

struct scan_result {
  std::uint64_t end = 0;        // of the last whole record; 0 if not even the file's header is whole
  std::uint64_t file_size = 0;  // larger than end if there is a torn tail
  std::uint64_t records = 0;
};

/// Reads a file front to back through a window, so that a long journal needs no more memory than its longest record.
class window {
 public:
  explicit window(const file& from) : file_(from), size_(static_cast<std::uint64_t>(from.status().st_size)) {}

  [[nodiscard]] std::uint64_t file_size() const noexcept { return size_; }

  /// The bytes [offset, offset + count), fewer at the end of the file.
  [[nodiscard]] std::span<const std::byte> at(std::uint64_t offset, std::size_t count) {
    if (offset >= size_) return {};
    count = static_cast<std::size_t>(std::min<std::uint64_t>(count, size_ - offset));
    if (offset < begin_ || offset + count > begin_ + held_) {
      const std::uint64_t wanted = std::min<std::uint64_t>(std::max(count, least), size_ - offset);
      if (bytes_.size() < wanted) bytes_.resize(static_cast<std::size_t>(wanted));
      begin_ = offset;
      held_ = file_.read_at(offset, {bytes_.data(), static_cast<std::size_t>(wanted)});
      if (held_ < count) size_ = begin_ + held_;  // the file was shortened meanwhile
      count = std::min(count, held_);
    }
    return {bytes_.data() + (offset - begin_), count};
  }

  /// Whether the file holds nothing but zero from `offset` on, as it may after a power failure.
  [[nodiscard]] bool zero_from(std::uint64_t offset) {
    while (offset < size_) {
      const std::span<const std::byte> part = at(offset, least);
      if (std::any_of(part.begin(), part.end(), [](std::byte b) { return b != std::byte{}; })) return false;
      offset += part.size();
    }
    return true;
  }

 private:
  static constexpr std::size_t least = 256 << 10;

  const file& file_;
  std::uint64_t size_;
  std::uint64_t begin_ = 0;
  std::size_t held_ = 0;
  std::vector<std::byte> bytes_;
};

/// False if the file has no whole header yet.
inline bool check_file_header(window& in, const std::string& path) {
  const std::span<const std::byte> bytes = in.at(0, sizeof(file_header));
  const file_header expected = make_file_header();
  if (bytes.size() < sizeof expected) {
    if (bytes.empty() || std::memcmp(bytes.data(), &expected, bytes.size()) == 0) return false;
  } else {
    file_header found;
    std::memcpy(&found, bytes.data(), sizeof found);
    if (found.magic == magic) {
      if (found.check != short_check(found.version, 0))
        throw journal_corrupt("journal '" + path + "': its header, at offset 0, is damaged; restore it from a copy");
      if (found.version > version)
        throw journal_too_new("journal '" + path + "' has format version " + std::to_string(found.version) +
                              ", and this program knows versions up to " + std::to_string(version) +
                              "; open it with the release of cadre that wrote it, or a later one");
      return true;
    }
    if (in.zero_from(0)) return false;
  }
  throw journal_foreign("'" + path + "' is not a journal of cadre: it begins with other bytes; check the path");
}

template <class Each>
scan_result scan(const file& from, Each& each) {
  window in(from);
  scan_result result;
  if (check_file_header(in, from.path())) {
    result.end = sizeof(file_header);
    const auto corrupt = [&](const char* what) {
      return journal_corrupt(
          "journal '" + from.path() + "': the " + what + " of record " + std::to_string(result.records) +
          ", at offset " + std::to_string(result.end) +
          ", is damaged, and more follows it; restore the file from a copy, or give up this record and all after it "
          "with: truncate -s " +
          std::to_string(result.end) + " FILE");
    };
    while (result.end < in.file_size()) {
      record_header header{};
      const std::span<const std::byte> front = in.at(result.end, sizeof header);
      if (front.size() < sizeof header) break;
      std::memcpy(&header, front.data(), sizeof header);
      if (header.check != short_check(header.size, result.end)) {
        if (in.zero_from(result.end)) break;
        throw corrupt("header");
      }
      const std::span<const std::byte> record = in.at(result.end + sizeof header, header.size);
      if (record.size() < header.size) break;
      const std::uint64_t next = result.end + sizeof header + header.size;
      if (hash_bytes(record, result.end) != header.checksum) {
        if (next == in.file_size() || in.zero_from(next)) break;
        throw corrupt("content");
      }
      each(record);
      result.end = next;
      ++result.records;
    }
  }
  result.file_size = in.file_size();
  return result;
}

}  // namespace detail::journal_format

CADRE_NAMESPACE_END

#endif
