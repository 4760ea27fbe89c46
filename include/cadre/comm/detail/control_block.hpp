#ifndef CADRE_COMM_DETAIL_CONTROL_BLOCK_HPP
#define CADRE_COMM_DETAIL_CONTROL_BLOCK_HPP

#include <cadre/comm/detail/call_record.hpp>
#include <cadre/core/chrono.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <thread>

CADRE_NAMESPACE_BEGIN

namespace detail {

// Messages up to this size travel inside the slots, at one meeting of the ranks instead of two.
inline constexpr std::size_t inline_bytes = 2048;

/// One rank's part of a control block, written by that rank alone. What belongs to meeting p lies at index p % 2: it is
/// overwritten for meeting p + 2, which a rank prepares only after all have arrived at p + 1 and so are done with p.
struct alignas(64) rank_slot {
  std::atomic<std::uint32_t> arrived{0};  // the last meeting that the rank has come to
  std::atomic<std::uint32_t> left{0};     // the rank has destroyed its communicator
  std::atomic<std::uint64_t> doing{0};    // its last call, for the texts of errors: number * 256 + operation; 0: none
  call_record calls[2];
  alignas(64) std::byte small[2][inline_bytes];
};

/// What the rank last called, as texts of errors say it.
inline std::string last_call(const rank_slot& slot) {
  const std::uint64_t doing = slot.doing.load(std::memory_order_relaxed);
  return "last call: " + (doing == 0 ? "none" : describe(static_cast<operation>(doing % 256), doing / 256));
}

enum class break_reason : std::uint32_t { aborted, timeout, mismatch };

/// What the ranks of one node share: who has arrived where, and why the communicator broke if it did. Free of
/// pointers, so that processes may map it at different addresses; `slots()` follow in memory.
///
/// Ranks meet at numbered meetings. The gate holds the number of the last meeting that is complete, and two flags. Only
/// an unbroken gate advances, so either every rank sees a meeting complete or none does: a rank that gives up can free
/// its buffers without a peer still starting to read them.
class alignas(64) control_block {
 public:
  static constexpr std::uint32_t broken_flag = 1u << 31;
  static constexpr std::uint32_t left_flag = 1u << 30;
  static constexpr std::uint32_t meeting_mask = left_flag - 1;

  static std::size_t bytes(int ranks) noexcept {
    return sizeof(control_block) + static_cast<std::size_t>(ranks) * sizeof(rank_slot);
  }
  /// Builds a control block and its slots in zeroed memory of bytes(ranks) bytes, aligned to 64.
  static control_block* create(void* memory, int ranks) noexcept {
    auto* block = ::new (memory) control_block(ranks);
    for (int r = 0; r < ranks; ++r) ::new (static_cast<void*>(block->first_slot() + r)) rank_slot;
    return block;
  }

  [[nodiscard]] std::span<rank_slot> slots() noexcept { return {first_slot(), static_cast<std::size_t>(ranks_)}; }

  // Meeting a is at or after meeting b, in numbers that wrap around.
  static bool reached(std::uint32_t a, std::uint32_t b) noexcept { return ((a - b) & meeting_mask) < meeting_mask / 2; }

  [[nodiscard]] bool all_arrived(std::uint32_t meeting) noexcept {
    for (std::int32_t r = 0; r < ranks_; ++r)
      if (!reached(first_slot()[r].arrived.load(), meeting)) return false;
    return true;
  }

  /// Breaks the communicator; the first reason stays. True if this is the first.
  bool break_with(break_reason reason, std::uint64_t sequence, std::string_view why) noexcept {
    std::uint32_t untouched = 0;
    const bool first = record_.compare_exchange_strong(untouched, 1);
    if (first) {
      reason_ = reason;
      sequence_ = sequence;
      const std::size_t n = std::min(why.size(), sizeof(why_) - 1);
      why.copy(why_, n);
      why_[n] = '\0';
      record_.store(2);
    }
    gate.fetch_or(broken_flag);
    return first;
  }

  /// Throws what breaking means for a call with this number: the reason's own error for the call that it happened in,
  /// communicator_aborted for others.
  [[noreturn]] void throw_broken(const call_record& call) const {
    // The writer may be stopped between two instructions for as long as the processors are busy, or killed there.
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    while (record_.load() != 2 && std::chrono::steady_clock::now() < patience)
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    if (record_.load() != 2) throw communicator_aborted(describe(call) + ": the communicator is broken");
    const std::string why = why_;
    if (reason_ == break_reason::timeout && sequence_ == call.sequence) throw communicator_timeout(why);
    if (reason_ == break_reason::mismatch && sequence_ == call.sequence) throw collective_mismatch(why);
    throw communicator_aborted(describe(call) + ": the communicator is broken: " + why);
  }

  std::atomic<std::uint32_t> gate{0};
  std::atomic<std::uint32_t> sleepers{0};

 private:
  explicit control_block(int ranks) noexcept : ranks_(ranks) {}
  rank_slot* first_slot() noexcept { return reinterpret_cast<rank_slot*>(this + 1); }

  std::int32_t ranks_;
  alignas(64) std::atomic<std::uint32_t> record_{0};  // 0 none, 1 being written, 2 written
  break_reason reason_{};
  std::uint64_t sequence_ = 0;
  char why_[1000] = {};
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
