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

/// What one rank sends to another of its node, in memory that they share: frames one behind another, in a ring. A frame is a
/// word, its size or `turn` (the next frame is at the beginning), and a batch or a part of a block; it begins a cache line. Its
/// word is written last, when the word behind it is zero: so the reader looks at one cache line, and a writer that is killed
/// leaves whole frames. Zeroed memory is a ring that is empty.
class message_ring {
 public:
  static constexpr std::size_t line = 64, word_bytes = 8;

  /// `size`: of the frames, a power of 2.
  message_ring(std::byte* memory, std::size_t size) noexcept
      : taken_(reinterpret_cast<std::atomic<std::uint64_t>*>(memory)),
        wanted_(taken_ + 1),
        frames_(memory + line),
        size_(size) {}
  static constexpr std::size_t bytes(std::size_t size) noexcept { return line + size; }

  /// Of what is in a frame, at most.
  [[nodiscard]] std::size_t most() const noexcept { return std::min(batch_bytes, size_ / 2 - 2 * line); }
  /// Whether all batches have room, and what follows them comes behind them: then blocks go by it too.
  [[nodiscard]] bool takes_all() const noexcept { return most() == batch_bytes; }

 protected:
  static constexpr std::uint64_t turn = ~std::uint64_t{0};
  static constexpr std::uint64_t of_block = std::uint64_t{1} << 63;  // in the word, beside the size

  [[nodiscard]] std::atomic<std::uint64_t>& word(std::uint64_t position) const noexcept {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(frames_ + (position & (size_ - 1)));
  }
  [[nodiscard]] std::byte* content(std::uint64_t position) const noexcept {
    return frames_ + (position & (size_ - 1)) + word_bytes;
  }
  [[nodiscard]] std::size_t to_end(std::uint64_t position) const noexcept { return size_ - (position & (size_ - 1)); }
  static constexpr std::size_t frame_of(std::size_t content) noexcept {
    return (word_bytes + content + line - 1) / line * line;
  }
  std::atomic<std::uint64_t>* taken_;   // up to where the reader has read, for the writer
  std::atomic<std::uint64_t>* wanted_;  // when it has read up to there the writer is to be told; 0: never
  std::byte* frames_;
  std::size_t size_;
};

/// One thread at a time.
class ring_writer : message_ring {
 public:
  using message_ring::message_ring, message_ring::most, message_ring::takes_all;

  /// For a frame of so much.
  [[nodiscard]] bool has_room(std::size_t content) noexcept {
    const std::size_t frame = frame_of(content);
    const std::size_t needed = (to_end(next_) < frame ? to_end(next_) : 0) + frame + line;
    if (size_ - (next_ - known_taken_) >= needed) return true;
    known_taken_ = taken_->load(std::memory_order_seq_cst);
    return size_ - (next_ - known_taken_) >= needed;
  }
  /// Where there is none: asks the reader to tell when half of the ring is free, or what any frame needs. True if it is now.
  [[nodiscard]] bool ask_for_room() noexcept {
    const std::size_t any = 2 * frame_of(most()) + line;  // wherever the ring turns
    const std::size_t unread = std::min(size_ / 2, size_ - any);
    wanted_->store(next_ > unread ? next_ - unread : 1, std::memory_order_seq_cst);
    return has_room(most());
  }
  /// For which there is room.
  void write_batch(std::span<const std::byte> batch) noexcept { write(batch, 0); }
  void write_of_block(std::span<const std::byte> part) noexcept { write(part, of_block); }

 private:
  void write(std::span<const std::byte> content, std::uint64_t kind) noexcept {
    const std::size_t frame = frame_of(content.size());
    std::uint64_t at = next_;
    if (to_end(at) < frame) at += to_end(at);
    std::memcpy(this->content(at), content.data(), content.size());
    word(at + frame).store(0, std::memory_order_relaxed);
    const std::uint64_t size = content.size() | kind;
    if (at == next_) {
      word(at).store(size, std::memory_order_release);
    } else {
      word(at).store(size, std::memory_order_relaxed);
      word(next_).store(turn, std::memory_order_release);
    }
    next_ = at + frame;
  }

  std::uint64_t next_ = 0, known_taken_ = 0;
};

/// One thread at a time.
class ring_reader : message_ring {
 public:
  using message_ring::message_ring;

  struct frame {
    std::span<const std::byte> content;
    bool is_of_block;
  };

  [[nodiscard]] bool has_frame() const noexcept { return word(next_).load(std::memory_order_relaxed) != 0; }
  /// The next one, valid until release(); null if the ring holds something else than frames.
  [[nodiscard]] std::optional<frame> front() noexcept {
    std::uint64_t size = word(next_).load(std::memory_order_acquire);
    if (size == turn) {
      next_ += to_end(next_);
      size = word(next_).load(std::memory_order_acquire);
    }
    const bool is_of_block = (size & of_block) != 0;
    size &= ~of_block;
    if (size == 0 || size > to_end(next_) - word_bytes) return std::nullopt;
    size_of_front_ = frame_of(size);
    return frame{{content(next_), static_cast<std::size_t>(size)}, is_of_block};
  }
  /// True if the writer waits for the room that it has now, and is to be told.
  [[nodiscard]] bool release() noexcept {
    next_ += size_of_front_;
    // Stored, then looked, as the writer asks, then looks: one of the two sees the other.
    taken_->store(next_, std::memory_order_seq_cst);
    std::uint64_t wanted = wanted_->load(std::memory_order_seq_cst);
    if (wanted == 0 || next_ < wanted) [[likely]]
      return false;
    return wanted_->compare_exchange_strong(wanted, 0, std::memory_order_relaxed);
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
    return who_.nodes() == 1 && size_ != 0 && to(rank_).takes_all();
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
