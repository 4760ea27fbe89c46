#ifndef CADRE_PERSIST_DETAIL_CHECKPOINT_FORMAT_HPP
#define CADRE_PERSIST_DETAIL_CHECKPOINT_FORMAT_HPP

#include <cadre/core/hash.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

CADRE_NAMESPACE_BEGIN

/// The file: a header, a table of values (entries, each followed by its name and type label), the values one after
/// another. Little-endian. Every byte is covered by one of the checksums.
namespace detail::checkpoint_format {

// The first byte is no text, and the line ends betray a transfer that changed them.
inline constexpr std::array<char, 8> magic = {'\x89', 'C', 'A', 'D', 'C', 'K', '\r', '\n'};
inline constexpr std::uint32_t version = 1;

struct header {
  std::array<char, 8> magic;  // this and the version stay where they are in every version to come
  std::uint32_t version;
  std::uint32_t archive_version;
  std::uint64_t file_size;
  std::uint64_t table_size;
  std::uint64_t value_count;
  std::uint64_t table_checksum;
  std::uint64_t header_checksum;  // of all the above
};
static_assert(sizeof(header) == 56);

struct entry {
  std::uint64_t size;
  std::uint64_t checksum;
  std::uint32_t name_size;
  std::uint32_t type_size;
};
static_assert(sizeof(entry) == 24);

inline std::uint64_t checksum_of(const header& h) noexcept {
  return hash_bytes({reinterpret_cast<const std::byte*>(&h), offsetof(header, header_checksum)});
}

}  // namespace detail::checkpoint_format

CADRE_NAMESPACE_END

#endif
