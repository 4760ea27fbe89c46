#ifndef CADRE_MPI_DETAIL_INBOUND_HPP
#define CADRE_MPI_DETAIL_INBOUND_HPP

#include <cadre/mpi/detail/batch.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// What comes from one rank: puts batches in order, long messages together, and tells a handler, which has
///   acknowledged(from, taken)   false if that cannot be
///   message(from, bytes, block_sizes, first_piece)
///   told(from, rank, how)       of a death; false if there is no such rank
///   malformed(from, why)        after which nothing more of this rank is read
/// One thread at a time.
class inbound {
 public:
  explicit inbound(int from) noexcept : from_(from) {}

  /// Takes a batch, which may hold anything.
  template <class Handler>
  void take(std::span<const std::byte> batch, Handler& handler) {
    if (broken_) return;
    if (batch.size() < header_bytes) return fail(handler, "a batch without a header");
    batch_header header;
    std::memcpy(&header, batch.data(), header_bytes);
    const std::uint32_t ahead = header.sequence - next_;
    if (ahead != 0) {
      // Of receives that are posted one after another a later one can be complete before an earlier one is.
      constexpr std::uint32_t too_far = 4096;
      if (ahead > too_far || !early_.try_emplace(header.sequence, batch.begin(), batch.end()).second)
        fail(handler, "a batch that is not the next one");
      return;
    }
    read(header, batch.subspan(header_bytes), handler);
    while (!broken_ && !early_.empty()) {
      const auto following = early_.find(next_);
      if (following == early_.end()) break;
      const std::vector<std::byte> held = std::move(following->second);
      early_.erase(following);
      std::memcpy(&header, held.data(), header_bytes);
      read(header, std::span<const std::byte>(held).subspan(header_bytes), handler);
    }
  }

  /// Bytes of records that were taken, modulo 2^32.
  [[nodiscard]] std::uint32_t taken() const noexcept { return taken_; }
  /// Whether all messages have come; and whether nothing at all comes any more.
  [[nodiscard]] bool has_farewell() const noexcept { return farewells_ != 0; }
  [[nodiscard]] bool is_complete() const noexcept { return farewells_ == 2; }
  /// Nothing more is read.
  void close() noexcept { broken_ = true; }

 private:
  template <class Handler>
  void read(const batch_header& header, std::span<const std::byte> records, Handler& handler) {
    ++next_;
    if (!handler.acknowledged(from_, header.taken)) return fail(handler, "it has taken more than was sent");
    batch_reader reader(records);
    record found{};
    for (;;) {
      const auto outcome = reader.next(found);
      if (outcome == batch_reader::outcome::end) break;
      if (outcome == batch_reader::outcome::malformed) return fail(handler, reader.why());
      if (farewells_ != 0 && (found.kind < record_kind::farewell || is_complete()))
        return fail(handler, "more than it had to say");
      if (found.kind == record_kind::message && partial_.empty()) [[likely]] {
        ++messages_;
        handler.message(from_, found.bytes, {}, 0);
      } else if (const char* const why = read_special(found, reader, handler)) {
        return fail(handler, why);
      }
    }
    taken_ += static_cast<std::uint32_t>(records.size());
  }

  template <class Handler>
  const char* read_special(const record& found, const batch_reader& reader, Handler& handler) {
    if (found.kind == record_kind::farewell) {
      if (found.number != messages_ || !partial_.empty()) return "it counts other messages than came";
      ++farewells_;
      return nullptr;
    }
    if (found.kind == record_kind::death)
      return handler.told(from_, found.number, found.bytes) ? nullptr : "the death of a rank that is not there";
    if (found.kind == record_kind::fragment && found.bytes.empty()) return "a fragment of nothing";
    std::span<const std::byte> whole = found.bytes;
    if (found.kind == record_kind::fragment || !partial_.empty()) {
      partial_.insert(partial_.end(), found.bytes.begin(), found.bytes.end());
      whole = partial_;
    }
    if (found.kind == record_kind::fragment) return nullptr;
    ++messages_;
    const bool has_blocks = found.kind == record_kind::message_with_blocks;
    handler.message(from_, whole, has_blocks ? reader.block_sizes() : std::span<const std::uint64_t>(),
                    has_blocks ? found.number : 0);
    partial_ = {};
    return nullptr;
  }

  template <class Handler>
  [[gnu::cold]] void fail(Handler& handler, const std::string& why) {
    broken_ = true;
    handler.malformed(from_, why);
  }

  int from_;
  std::uint32_t next_ = 0;
  std::uint32_t taken_ = 0;
  std::uint64_t messages_ = 0;
  int farewells_ = 0;
  bool broken_ = false;
  std::vector<std::byte> partial_;                         // the beginning of a long message
  std::map<std::uint32_t, std::vector<std::byte>> early_;  // by sequence
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
