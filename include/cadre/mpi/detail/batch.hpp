#ifndef CADRE_MPI_DETAIL_BATCH_HPP
#define CADRE_MPI_DETAIL_BATCH_HPP

#include <cadre/config/config.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

// What travels in one MPI message, a batch: its header, then records one after another. A record begins with the number
// 4 * size + kind; numbers are little-endian base 128. Then
//   message                `size` bytes
//   message_with_blocks    how many blocks, the number of the first piece, the size of each block; `size` bytes
//   fragment               `size` bytes that begin a message, which the next record goes on with
//   farewell               how many messages there were, after the last one; once more to say that the receiver's has come
//   death                  written as a farewell that has a size: a rank that has died; `size` bytes that say how

enum class record_kind : std::uint8_t { message, message_with_blocks, fragment, farewell, death };

struct batch_header {
  std::uint32_t sequence;  // of this batch among those of its sender to its receiver
  std::uint32_t taken;     // bytes of records that the sender has taken from the receiver, modulo 2^32
};
inline constexpr std::size_t header_bytes = sizeof(batch_header);

/// Of a batch at most.
inline constexpr std::size_t batch_bytes = std::size_t{64} << 10;
/// Of the bytes in a record; more goes as fragments.
inline constexpr std::size_t record_bytes = std::size_t{16} << 10;
/// Where no ring brings them blocks travel in pieces of that size, each a message of its own: what TCP brings of a few at once
/// lies in the processor's second cache.
inline constexpr std::uint64_t piece_bytes = std::uint64_t{512} << 10;

/// Of the blocks of one message, all in all, at most: more is not believed.
inline constexpr std::uint64_t block_bytes = std::uint64_t{1} << 42;

inline std::uint64_t pieces_of(std::uint64_t block) noexcept {
  return block / piece_bytes + (block % piece_bytes != 0 ? 1 : 0);
}

/// Of a number at most.
inline constexpr std::size_t number_bytes = 10;

/// Writes a number; returns its end.
inline std::byte* put_number(std::byte* at, std::uint64_t number) noexcept {
  for (; number >= 128; number >>= 7) *at++ = static_cast<std::byte>(number | 128);
  *at++ = static_cast<std::byte>(number);
  return at;
}

struct record {
  record_kind kind;
  std::span<const std::byte> bytes;
  std::uint64_t number;  // of the first piece, or of messages, or of the dead
};

/// The records of a batch, read from bytes that may hold anything: never beyond them, and nothing is believed that does
/// not fit them.
class batch_reader {
 public:
  /// What a batch has behind its header.
  explicit batch_reader(std::span<const std::byte> records) noexcept
      : begin_(records.data()), at_(begin_), end_(begin_ + records.size()) {}

  enum class outcome { record, end, malformed };

  outcome next(record& found) {
    if (at_ == end_) return outcome::end;
    std::uint64_t head = 0;
    if (!number(head)) return fail("its length is cut off or too long");
    found.kind = static_cast<record_kind>(head & 3);
    const std::uint64_t size = head >> 2;
    if (found.kind != record_kind::message && found.kind != record_kind::fragment) [[unlikely]] {
      if (found.kind == record_kind::message_with_blocks && !blocks(found)) return outcome::malformed;
      if (found.kind == record_kind::farewell && !number(found.number)) return fail("a farewell that has no count");
      if (found.kind == record_kind::farewell && size != 0) found.kind = record_kind::death;
    }
    if (size > left()) return fail("it says more bytes than there are");
    found.bytes = {at_, static_cast<std::size_t>(size)};
    at_ += size;
    return outcome::record;
  }

  /// Of the last record, valid until the next one.
  [[nodiscard]] std::span<const std::uint64_t> block_sizes() const noexcept { return sizes_; }

  /// What is wrong, after `malformed`.
  [[nodiscard]] std::string why() const {
    return std::string(why_) + ", at byte " + std::to_string(at_ - begin_) + " of " + std::to_string(end_ - begin_);
  }

 private:
  [[nodiscard]] std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - at_); }

  [[gnu::cold]] outcome fail(std::string_view why) noexcept {
    why_ = why;
    return outcome::malformed;
  }

  bool number(std::uint64_t& value) noexcept {
    value = 0;
    for (unsigned shift = 0; shift < 64 && at_ != end_; shift += 7) {
      const auto byte = std::to_integer<std::uint64_t>(*at_++);
      if (shift == 63 && byte > 1) return false;
      value |= (byte & 127) << shift;
      if (byte < 128) return true;
    }
    return false;
  }

  bool blocks(record& found) {
    std::uint64_t count = 0;
    // A size takes a byte at least: no count of more than there are is believed.
    if (!number(count) || count == 0 || !number(found.number) || count > left())
      return fail("a count of blocks that cannot be"), false;
    sizes_.clear();
    for (std::uint64_t room = block_bytes; count != 0; --count) {
      std::uint64_t& size = sizes_.emplace_back();
      if (!number(size)) return fail("the size of a block is cut off or too long"), false;
      if (size > room) return fail("blocks of more than 4 TiB"), false;
      room -= size;
    }
    return true;
  }

  const std::byte *begin_, *at_, *end_;
  std::vector<std::uint64_t> sizes_;
  std::string_view why_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
