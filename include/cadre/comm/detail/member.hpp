#ifndef CADRE_COMM_DETAIL_MEMBER_HPP
#define CADRE_COMM_DETAIL_MEMBER_HPP

#include <cadre/comm/communicator.hpp>
#include <cadre/comm/detail/control_block.hpp>
#include <cadre/comm/detail/on_behalf_of.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/os/detail/relax.hpp>
#include <cadre/os/futex.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// One rank's end of a control block: comes to meetings, waits for the others, agrees with them on what is called.
///
/// `Peers` says what the ranks of a node are to each other:
///     scope               of the futex: threads of one process, or processes
///     share_address_space a rank that gives up must not free a buffer while a peer still works on it
///     processors()        how many ranks can run at once
///     rank_of(r)          the number by which the user knows this rank
///     whereabouts(r)      what else identifies it: empty, or text that ends in "; "
///     nap                 the longest sleep between two calls of poll
///     poll(block)         what must be looked at while waiting; may break the block
///     announce(reason, sequence, why)   this rank has broken the block: tells whoever does not see the block
template <class Peers>
class member {
  using clock = std::chrono::steady_clock;

 public:
  member(control_block& block, Peers& peers, int rank) noexcept
      : block_(&block), peers_(&peers), rank_(rank), ranks_(static_cast<int>(block.slots().size())) {}

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int ranks() const noexcept { return ranks_; }
  [[nodiscard]] control_block& block() const noexcept { return *block_; }
  void set_timeout(std::chrono::nanoseconds timeout) noexcept { timeout_ = timeout; }
  [[nodiscard]] std::chrono::nanoseconds timeout() const noexcept { return timeout_; }

  /// Starts a collective: its number, its deadline, and that the communicator is whole. The call is published at the
  /// next meeting.
  void begin(const call_record& call, std::chrono::nanoseconds timeout) {
    call_ = call;
    call_.sequence = ++sequence_;
    if (const char* by = on_behalf_of::current()) std::string_view(by).copy(call_.by, sizeof call_.by - 1);
    limit_ = timeout;
    deadline_ = {};
    own().doing.store(sequence_ * 256 + static_cast<std::uint64_t>(call.what), std::memory_order_relaxed);
    if (block_->gate.load() & control_block::broken_flag) block_->throw_broken(call_);
    // The time starts here where it may run out before a first look at the clock would be taken.
    if (timeout < std::chrono::milliseconds(1)) start_clock();
  }

  /// Room for inline_bytes that the others see from the next meeting on.
  [[nodiscard]] std::byte* outbox() noexcept { return own().small[(meeting_ + 1) % 2]; }
  /// What rank r had in its outbox at the last meeting.
  [[nodiscard]] const std::byte* inbox(int r) noexcept { return slot(r).small[meeting_ % 2]; }
  /// What rank r called at the last `agree`.
  [[nodiscard]] const call_record& call_of(int r) noexcept { return slot(r).calls[meeting_ % 2]; }
  [[nodiscard]] const call_record& call() const noexcept { return call_; }

  /// The first meeting of a collective: throws collective_mismatch on every rank if the calls differ.
  void agree(place where = {}) {
    call_.where = where;
    own().calls[(meeting_ + 1) % 2] = call_;
    meet();
    for (int r = 1; r < ranks_; ++r) {
      if (call_of(r).agrees_with(call_of(0))) continue;
      const std::string why = name_of(0) + " calls " + describe(call_of(0)) + ", but " + name_of(r) + " calls " +
                              describe(call_of(r)) + "; all ranks must make the same calls in the same order";
      give_up(break_reason::mismatch, why);
      block_->throw_broken(call_);
    }
  }

  /// Comes to the next meeting and waits for the others; what they wrote before theirs is then visible.
  void meet() {
    meeting_ = (meeting_ + 1) & control_block::meeting_mask;
    own().arrived.store(meeting_);
    if (block_->all_arrived(meeting_) && open()) return;
    wait();
  }

  /// As meet, after direct access to each other's buffers: among threads it does not return, and so does not let the
  /// caller free its buffer, before the others have come out of theirs. That time is bounded by their computation.
  void meet_done() {
    if constexpr (!Peers::share_address_space) return meet();
    try {
      meet();
    } catch (...) {
      while (!block_->all_arrived(meeting_)) std::this_thread::yield();
      throw;
    }
  }

  /// Breaks the communicator. Any thread may call it.
  void abort(std::string_view why) noexcept { break_block(break_reason::aborted, 0, why); }

  /// Breaks the communicator because of the call that this rank is in.
  void give_up(break_reason reason, std::string_view why) noexcept { break_block(reason, call_.sequence, why); }

  /// When the call that this rank is in runs out of time.
  [[nodiscard]] clock::time_point deadline() noexcept {
    start_clock();
    return deadline_;
  }
  [[nodiscard]] std::chrono::nanoseconds limit() const noexcept { return limit_; }

  /// The rank makes no further calls: peers that wait for it are told.
  void leave() noexcept {
    own().left.store(1);
    block_->gate.fetch_or(control_block::left_flag);
    futex::wake_all(block_->gate, Peers::scope);
  }

 private:
  void break_block(break_reason reason, std::uint64_t sequence, std::string_view why) noexcept {
    const bool first = block_->break_with(reason, sequence, why);
    futex::wake_all(block_->gate, Peers::scope);
    if (first) peers_->announce(reason, sequence, why);
  }

  static constexpr std::chrono::microseconds awake{100};

  rank_slot& slot(int r) noexcept { return block_->slots()[static_cast<std::size_t>(r)]; }
  rank_slot& own() noexcept { return slot(rank_); }

  bool complete(std::uint32_t gate) const noexcept {
    return control_block::reached(gate & control_block::meeting_mask, meeting_);
  }

  // True if the meeting is complete, whoever opened the gate; false if the gate broke first.
  bool open() noexcept {
    std::uint32_t gate = block_->gate.load();
    while (!complete(gate)) {
      if (gate & control_block::broken_flag) return false;
      if (block_->gate.compare_exchange_weak(gate, (gate & control_block::left_flag) | meeting_)) {
        if (block_->sleepers.load() != 0) futex::wake_all(block_->gate, Peers::scope);
        return true;
      }
    }
    return true;
  }

  void wait() {
    // Three steps: spin for a peer that is about to come, then let others have the processor but stay awake (waking a
    // sleeper takes as long as a short collective), then sleep.
    const int spins = ranks_ <= peers_->processors() ? 400 : 4;
    for (int i = 0; i < spins; ++i) {
      if (settled(block_->gate.load())) return;
      relax();
    }
    for (const auto awake_until = clock::now() + awake; clock::now() < awake_until;) {
      std::this_thread::yield();
      if (settled(block_->gate.load())) return;
    }
    start_clock();
    for (;;) {
      std::uint32_t gate = block_->gate.load();
      if (settled(gate)) return;
      // The last to arrive may have been stopped before it opened the gate.
      if (block_->all_arrived(meeting_) && open()) return;
      peers_->poll(*block_);
      if (gate & control_block::left_flag) look_for_leavers();
      const auto now = clock::now();
      if (now >= deadline_) {
        give_up(break_reason::timeout, timeout_text());
        if (settled(block_->gate.load())) return;
      }
      block_->sleepers.fetch_add(1);
      futex::wait_until(block_->gate, gate, Peers::nap < deadline_ - now ? now + Peers::nap : deadline_, Peers::scope);
      block_->sleepers.fetch_sub(1);
    }
  }

  // A complete meeting counts even where the gate has broken since: the others have seen it complete too.
  bool settled(std::uint32_t gate) {
    if (complete(gate)) return true;
    if (gate & control_block::broken_flag) block_->throw_broken(call_);
    return false;
  }

  void look_for_leavers() {
    for (int r = 0; r < ranks_; ++r)
      if (slot(r).left.load() != 0 && !control_block::reached(slot(r).arrived.load(), meeting_)) {
        abort(identity_of(r) + " has left the communicator while " + name_of(rank_) + " waits in " + describe(call_));
        return;
      }
  }

  std::string name_of(int r) const { return "rank " + std::to_string(peers_->rank_of(r)); }
  std::string identity_of(int r) {
    return name_of(r) + " (" + std::string(peers_->whereabouts(r)) + last_call(slot(r)) + ')';
  }

  void start_clock() noexcept {
    if (deadline_ != clock::time_point{}) return;
    const auto now = clock::now();
    deadline_ = limit_ < clock::time_point::max() - now ? now + limit_ : clock::time_point::max();
  }

  std::string timeout_text() {
    std::string late;
    int named = 0, more = 0;
    for (int r = 0; r < ranks_; ++r) {
      if (control_block::reached(slot(r).arrived.load(), meeting_)) continue;
      if (named == 6) {
        ++more;
        continue;
      }
      late += (named++ == 0 ? "" : ", ") + identity_of(r);
    }
    if (more > 0) late += " and " + std::to_string(more) + " more";
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(limit_).count();
    return name_of(rank_) + " waited " + std::to_string(ms) + " ms in " + describe(call_) + "; not arrived: " + late +
           ". A rank that fails must abort the communicator; a slow one needs a longer set_timeout";
  }

  control_block* block_;
  Peers* peers_;
  int rank_;
  int ranks_;
  std::uint32_t meeting_ = 0;
  std::uint64_t sequence_ = 0;
  std::chrono::nanoseconds timeout_ = default_collective_timeout;
  std::chrono::nanoseconds limit_{};
  clock::time_point deadline_{};
  call_record call_;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
