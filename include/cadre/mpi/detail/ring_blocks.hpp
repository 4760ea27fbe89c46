#ifndef CADRE_MPI_DETAIL_RING_BLOCKS_HPP
#define CADRE_MPI_DETAIL_RING_BLOCKS_HPP

#include <cadre/mpi/detail/message_ring.hpp>
#include <cadre/mpi/detail/outbox.hpp>
#include <cadre/mpi/detail/transfers.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

// Blocks between ranks of a node go by their ring in parts, in the order in which batches before them have announced them:
// what is copied twice, by both ranks at a time and through caches, is there sooner than what the system copies once.

/// Those that are to go to a rank. One thread at a time.
class blocks_to_ring {
 public:
  /// Of a part, at most: some of them are in the ring, while both sides copy.
  static constexpr std::size_t part_bytes = std::size_t{32} << 10;

  [[nodiscard]] bool empty() const noexcept { return all_.empty(); }
  void add(block_out&& block) {
    if (!block.bytes.empty()) all_.push_back(std::move(block));
  }
  struct part {
    std::size_t bytes;
    std::shared_ptr<const void> keep;  ///< of a block that has gone as a whole
  };
  /// The next part, of a ring that has room.
  part write_next(ring_writer& ring) {
    block_out& block = all_.front();
    const std::size_t n = std::min(block.bytes.size(), part_bytes);
    ring.write_of_block(block.bytes.first(n));
    block.bytes = block.bytes.subspan(n);
    part written{n, {}};
    if (block.bytes.empty()) {
      written.keep = std::move(block.keep);
      all_.pop_front();
    }
    return written;
  }
  /// Gives them up.
  std::deque<block_out> abandon() noexcept { return std::exchange(all_, {}); }

 private:
  std::deque<block_out> all_;  // of the first what has not gone yet
};

/// Those that a rank has announced. One thread at a time.
class blocks_from_ring {
 public:
  [[nodiscard]] bool empty() const noexcept { return all_.empty(); }
  /// `into` is null where nobody wants it.
  void expect(std::byte* into, std::uint64_t bytes, std::shared_ptr<blocks_in> whole) {
    if (bytes == 0) return;
    ++whole->pieces_left;
    all_.push_back({into, bytes, std::move(whole)});
  }
  struct outcome {
    bool is_expected;                     ///< else nothing was done
    std::shared_ptr<blocks_in> complete;  ///< the last of its blocks has come
  };
  /// The next part, which may be anything.
  outcome take(std::span<const std::byte> part) {
    if (all_.empty() || part.size() > all_.front().bytes) return {false, {}};
    coming& block = all_.front();
    if (block.into != nullptr) {
      std::memcpy(block.into, part.data(), part.size());
      block.into += part.size();
    }
    block.bytes -= part.size();
    if (block.bytes != 0) return {true, {}};
    std::shared_ptr<blocks_in> whole = std::move(block.whole);
    all_.pop_front();
    if (--whole->pieces_left != 0) whole.reset();
    return {true, std::move(whole)};
  }
  /// Nothing more comes: `lost(blocks_in)`, of each block.
  template <class Lost>
  void abandon(Lost&& lost) {
    for (coming& block : std::exchange(all_, {})) lost(std::move(block.whole));
  }

 private:
  struct coming {
    std::byte* into;
    std::uint64_t bytes;  // that are missing
    std::shared_ptr<blocks_in> whole;
  };
  std::deque<coming> all_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
