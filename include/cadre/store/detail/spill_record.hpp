#ifndef CADRE_STORE_DETAIL_SPILL_RECORD_HPP
#define CADRE_STORE_DETAIL_SPILL_RECORD_HPP

#include <cadre/core/hash.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Where a spilled object lies, for every process of the job.
struct spilled_place {
  std::uint32_t file = 0;      ///< names the file, see spill_file_name
  std::uint64_t offset = 0;    ///< where its record begins, in bytes
  std::uint64_t bytes = 0;     ///< the size of the object itself
  std::uint64_t checksum = 0;  ///< XXH64 of the object
};

/// The size in bytes of a file that holds many objects.
inline constexpr std::uint64_t spill_file_limit = std::uint64_t{128} << 20;

/// Files are numbered by the slot of the process that writes them and by a counter of 20 bits.
[[nodiscard]] inline std::string spill_file_name(std::uint32_t file) {
  return std::to_string(file >> 20).append("-").append(std::to_string(file & 0xFFFFF)).append(".spill");
}

/// What direct input and output ask of offsets, sizes and addresses in all common file systems.
inline constexpr std::size_t spill_block = 4096;
[[nodiscard]] inline bool is_spill_aligned(const std::byte* address) noexcept {
  return reinterpret_cast<std::uintptr_t>(address) % spill_block == 0;
}

/// The head of an object's record. The object follows at once if it fits into the rest of the block, else in the next
/// block, so that it can go from memory to disk without a copy. Records begin at blocks.
struct spill_header {
  static constexpr std::uint64_t right_magic = 0x4C4C495053444143;  // "CADSPILL", least byte first
  static constexpr std::uint32_t right_version = 1;

  std::uint64_t magic = right_magic;
  std::uint32_t version = right_version;
  std::uint32_t begin = 0;  ///< of the object, from the record's begin
  std::uint64_t key = 0;
  std::uint64_t bytes = 0;
  std::uint64_t checksum = 0;
  std::uint64_t own_checksum = 0;  ///< of all before

  static spill_header of(std::uint64_t key, std::uint64_t bytes, std::uint64_t checksum) noexcept {
    spill_header header{.begin = begin_of(bytes), .key = key, .bytes = bytes, .checksum = checksum};
    header.own_checksum = header.hash();
    return header;
  }
  [[nodiscard]] static std::uint32_t begin_of(std::uint64_t bytes) noexcept {
    return bytes <= spill_block - sizeof(spill_header) ? sizeof(spill_header) : spill_block;
  }
  /// The size of a record in bytes.
  [[nodiscard]] static std::uint64_t record(std::uint64_t bytes) noexcept {
    return (begin_of(bytes) + bytes + spill_block - 1) / spill_block * spill_block;
  }

  /// What is wrong with the header found at `place`, if anything.
  [[nodiscard]] const char* fault(const spilled_place& place, std::uint64_t wanted_key) const noexcept {
    if (magic != right_magic) return "there is no header";
    if (own_checksum != hash()) return "the header's checksum does not match";
    if (version != right_version || begin != begin_of(bytes)) return "it is of another version of the format";
    if (key != wanted_key) return "it is another object's";
    if (bytes != place.bytes || checksum != place.checksum) return "it is not of the size and checksum noted";
    return nullptr;
  }

 private:
  [[nodiscard]] std::uint64_t hash() const noexcept {
    return hash_bytes(std::as_bytes(std::span(this, 1)).first(sizeof *this - sizeof own_checksum));
  }
};
static_assert(sizeof(spill_header) == 48);

}  // namespace detail

CADRE_NAMESPACE_END

#endif
