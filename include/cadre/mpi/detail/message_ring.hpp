#ifndef CADRE_MPI_DETAIL_MESSAGE_RING_HPP
#define CADRE_MPI_DETAIL_MESSAGE_RING_HPP

#include <cadre/mpi/detail/batch.hpp>
#include <cadre/mpi/detail/shared_segment.hpp>
#include <cadre/mpi/detail/topology.hpp>
#include <cadre/os/mapping.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Where the batches of one rank to another of its node lie, in memory that they share: frames one behind another, in a ring.
/// A frame is a word, its size or `turn` (the next frame is at the beginning), and a batch; it begins a cache line. Its word
/// is written last, when the word behind it is zero: so the reader looks at one cache line, and a writer that is killed leaves
/// whole batches. Zeroed memory is a ring that is empty.
class message_ring {
 public:
  static constexpr std::size_t line = 64, word_bytes = 8;

  /// `size`: of the frames, a power of 2.
  message_ring(std::byte* memory, std::size_t size) noexcept
      : taken_(reinterpret_cast<std::atomic<std::uint64_t>*>(memory)), frames_(memory + line), size_(size) {}
  static constexpr std::size_t bytes(std::size_t size) noexcept { return line + size; }

  /// Of a batch at most.
  [[nodiscard]] std::size_t most() const noexcept { return std::min(batch_bytes, size_ / 2 - 2 * line); }

 protected:
  static constexpr std::uint64_t turn = ~std::uint64_t{0};

  [[nodiscard]] std::atomic<std::uint64_t>& word(std::uint64_t position) const noexcept {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(frames_ + (position & (size_ - 1)));
  }
  [[nodiscard]] std::byte* batch(std::uint64_t position) const noexcept {
    return frames_ + (position & (size_ - 1)) + word_bytes;
  }
  [[nodiscard]] std::size_t to_end(std::uint64_t position) const noexcept { return size_ - (position & (size_ - 1)); }
  static constexpr std::size_t frame_of(std::size_t batch) noexcept {
    return (word_bytes + batch + line - 1) / line * line;
  }

  std::atomic<std::uint64_t>* taken_;  // up to where the reader has read, for the writer
  std::byte* frames_;
  std::size_t size_;
};

/// One thread at a time.
class ring_writer : message_ring {
 public:
  using message_ring::message_ring, message_ring::most;

  /// Whether a batch of most() has room, wherever the ring turns.
  [[nodiscard]] bool has_room() noexcept {
    const std::size_t needed = 2 * frame_of(most()) + line;
    if (size_ - (next_ - known_taken_) >= needed) return true;
    known_taken_ = taken_->load(std::memory_order_acquire);
    return size_ - (next_ - known_taken_) >= needed;
  }
  /// A batch for which there is room.
  void write(std::span<const std::byte> batch) noexcept {
    const std::size_t frame = frame_of(batch.size());
    std::uint64_t at = next_;
    if (to_end(at) < frame) at += to_end(at);
    std::memcpy(this->batch(at), batch.data(), batch.size());
    word(at + frame).store(0, std::memory_order_relaxed);
    if (at == next_) {
      word(at).store(batch.size(), std::memory_order_release);
    } else {
      word(at).store(batch.size(), std::memory_order_relaxed);
      word(next_).store(turn, std::memory_order_release);
    }
    next_ = at + frame;
  }

 private:
  std::uint64_t next_ = 0, known_taken_ = 0;
};

/// One thread at a time.
class ring_reader : message_ring {
 public:
  using message_ring::message_ring;

  /// Whether a batch is there.
  [[nodiscard]] bool has_batch() const noexcept { return word(next_).load(std::memory_order_relaxed) != 0; }
  /// That batch, valid until release(); null if the ring holds something else than batches.
  [[nodiscard]] std::optional<std::span<const std::byte>> front() noexcept {
    std::uint64_t size = word(next_).load(std::memory_order_acquire);
    if (size == turn) {
      next_ += to_end(next_);
      size = word(next_).load(std::memory_order_acquire);
    }
    if (size == 0 || size > to_end(next_) - word_bytes) return std::nullopt;
    size_of_front_ = frame_of(size);
    return std::span<const std::byte>(batch(next_), static_cast<std::size_t>(size));
  }
  void release() noexcept {
    next_ += size_of_front_;
    taken_->store(next_, std::memory_order_release);
  }

 private:
  std::uint64_t next_ = 0;
  std::size_t size_of_front_ = 0;
};

/// The rings between the ranks of a node: one for each two, each way.
class message_rings {
 public:
  /// Of the frames of all rings of a node together, at most; and of one, at least: where there are so many ranks that one
  /// would hold less there are none.
  static constexpr std::size_t most_bytes = std::size_t{32} << 20, least_of_one = std::size_t{4} << 10;

  /// All ranks of the job together: `gather(x)` returns everybody's x. `most`: of one, a power of 2. Throws mapping_error
  /// (159).
  template <class Gather>
  message_rings(const topology& who, int rank, std::size_t most, Gather&& gather) : who_(who), rank_(rank) {
    const auto& members = who.members(who.node_of[static_cast<std::size_t>(rank)]);
    const std::size_t n = members.size();
    const std::size_t each = n == 1 ? 0 : std::min(most, std::bit_floor(most_bytes / (n * n)));
    size_ = each < least_of_one ? 0 : each;
    const std::size_t own = n * message_ring::bytes(size_);  // a rank's own: those to it
    memory_ = share_memory(n * own, static_cast<std::size_t>(rank), static_cast<std::size_t>(members[0]),
                           local(rank) * own, own, gather, all_ways)
                  .memory;
  }

  [[nodiscard]] bool connects(int other) const noexcept {
    return size_ != 0 && other != rank_ &&
           who_.node_of[static_cast<std::size_t>(other)] == who_.node_of[static_cast<std::size_t>(rank_)];
  }
  /// Whether all batches between all ranks of the job can go by them.
  [[nodiscard]] bool hold_all_batches() const noexcept {
    return who_.nodes() == 1 && size_ != 0 && to(rank_).most() == batch_bytes;
  }
  [[nodiscard]] ring_writer to(int other) const noexcept { return {at(rank_, other), size_}; }
  [[nodiscard]] ring_reader from(int other) const noexcept { return {at(other, rank_), size_}; }

 private:
  [[nodiscard]] std::size_t local(int rank) const noexcept {
    return static_cast<std::size_t>(who_.local_of[static_cast<std::size_t>(rank)]);
  }
  [[nodiscard]] std::byte* at(int from, int to) const noexcept {
    const std::size_t n = who_.members(who_.node_of[static_cast<std::size_t>(rank_)]).size();
    return memory_.data() + (local(to) * n + local(from)) * message_ring::bytes(size_);
  }

  topology who_;
  int rank_;
  std::size_t size_;  // of each
  mapping memory_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
