#ifndef CADRE_MPI_DETAIL_MESSAGE_PROGRESS_HPP
#define CADRE_MPI_DETAIL_MESSAGE_PROGRESS_HPP

// How a message_link receives, and waits.
#include <cadre/actor/detail/link.hpp>
#include <cadre/async/detail/spin.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/batch.hpp>
#include <cadre/mpi/detail/inbox.hpp>
#include <cadre/mpi/detail/message_deaths.hpp>
#include <cadre/mpi/detail/message_link_class.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/detail/transfers.hpp>
#include <cadre/mpi/environment.hpp>
#include <cadre/mpi/error.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

inline bool message_link::progress() noexcept {
  bool moved = false, of_dead = false;
  try {
    looks_.store(looks_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    // To have the turn costs as much as a look, and who waits for an answer looks again and again.
    constexpr int looks = 4;
    for (int i = 0; i < looks && !moved && !from_rings_.empty(); ++i) moved = look_into_rings(of_dead);
    constexpr unsigned seldom = 1024;
    const bool has_deaths = has_deaths_.load(std::memory_order_acquire);
    const bool by_mpi = !only_rings_ || !is_one_node_.load(std::memory_order_relaxed) || has_deaths ||
                        has_requests_.load(std::memory_order_relaxed) || ++looks_past_mpi_ % seldom == 0;
    const int looks_there = !by_mpi ? 0 : moved ? 1 : looks;
    const bool looked =
        (by_mpi || transferring_.load(std::memory_order_relaxed)) && look_at_mpi(looks_there, moved, of_dead);
    if (!came_.empty() || !let_go_.empty()) {
      finish();
      moved = true;
    }
    if (has_deaths && looked) [[unlikely]] {
      // What a rank has sent before it died comes first.
      constexpr unsigned enough = 20;
      quiet_ = of_dead ? 0 : quiet_ + 1;
      if (quiet_ >= enough) {
        quiet_ = 0;
        bury();
        moved = true;
      }
    }
  } catch (const std::exception&) {
    // Without memory for its own tables it can only try again.
  }
  return moved;
}

// One frame of each rank of this node; whether there was any.
inline bool message_link::look_into_rings(bool& of_dead) {
  bool found = false;
  for (std::size_t i = 0; i < from_rings_.size(); ++i) {
    auto& [from, ring] = from_rings_[i];
    if (!ring.has_frame()) continue;
    found = true;
    of_dead |= !is_alive(from);
    if (const char* const why = read_frame(from, ring)) {
      malformed(from, why);
      from_rings_.erase(from_rings_.begin() + static_cast<std::ptrdiff_t>(i--));
    }
  }
  return found;
}

// As those change.
inline void message_link::note_awaited() noexcept {
  const bool any = std::any_of(from_rings_.begin(), from_rings_.end(),
                               [&](const auto& ring) { return !at(ring.first).blocks_to_come.empty(); });
  awaits_blocks_.store(any, std::memory_order_relaxed);
}

inline const char* message_link::read_frame(int from, ring_reader& ring) {
  const auto frame = ring.front();
  if (!frame) return "its ring holds something else than frames";
  if (frame->is_of_block) {
    auto [is_expected, complete] = at(from).blocks_to_come.take(frame->content);
    if (!is_expected) return "more of a block than it has announced";
    if (complete) {
      came_.push_back(std::move(complete));
      note_awaited();
    }
  } else {
    deliver(from, frame->content);
  }
  if (ring.release()) at(from).bell->knock();
  return nullptr;
}

// False if others are in MPI. `looks`: for batches; none where all come by rings.
inline bool message_link::look_at_mpi(int looks, bool& moved, bool& of_dead) {
  std::optional<inbox::arrival> batch;
  {
    const std::unique_lock lock(mpi(), std::try_to_lock);
    if (!lock) return false;
    if (!transfers_.empty()) looks = std::min(looks, 1);  // over TCP each costs calls of the system
    for (int i = 0; i < looks && !batch; ++i) batch = inbox_.test();
    if (!transfers_.empty()) transfers_.test([&](transfer&& done, int code) { settle(std::move(done), code); });
    for (const int to : std::exchange(to_full_rings_, {})) {
      at(to).waits_for_ring = false;
      moved |= push(to, at(to), false, owes_acknowledgement(at(to)));
    }
    let_go_.insert(let_go_.end(), std::move_iterator(left_.begin()), std::move_iterator(left_.end()));
    left_.clear();
    has_requests_.store(!transfers_.empty(), std::memory_order_relaxed);
    has_blocks_.store(transfers_.has_blocks(), std::memory_order_relaxed);
    transferring_.store(!transfers_.empty() || !to_full_rings_.empty(), std::memory_order_relaxed);
  }
  if (!batch) return true;
  moved = true;
  if (batch->from >= 0 && batch->from < members()) {  // else of a receive that failed
    of_dead |= !is_alive(batch->from);
    if (batch->code == MPI_SUCCESS)
      deliver(batch->from, batch->bytes);
    else
      malformed(batch->from, mpi_error::call_failed("a receive", batch->code).what());
  }
  inbox_.release(batch->slot);
  return true;
}

inline void message_link::deliver(int from, std::span<const std::byte> batch) {
  peer& p = at(from);
  delivering_ = this;
  p.in.take(batch, *this);
  sink_->batch_ends();
  delivering_ = nullptr;
  p.heard.store(true, std::memory_order_relaxed);
  if (p.in.is_complete()) [[unlikely]]
    p.is_complete.store(true, std::memory_order_relaxed);
  p.taken.store(p.in.taken(), std::memory_order_relaxed);
  const bool acknowledge = owes_acknowledgement(p);
  if (!acknowledge && with_blocks_.empty()) return;
  const std::lock_guard lock(mpi());
  if (acknowledge) push(from, p, false, true);
  for (const int sender : with_blocks_) post_pieces(sender, at(sender));
  with_blocks_.clear();
}

// Under the lock of MPI.
inline void message_link::settle(transfer&& done, int code) {
  peer& p = at(done.peer);
  if (code != MPI_SUCCESS) declare_dead(done.peer, mpi_error::call_failed("a message", code).what());
  if (done.batch) {
    --p.leaving;
    p.out.recycle(std::move(done.batch));
    push(done.peer, p, false, owes_acknowledgement(p));
  } else if (done.into) {
    --p.pieces_coming;
    p.heard.store(true, std::memory_order_relaxed);
    done.into->failed |= code != MPI_SUCCESS;
    if (--done.into->pieces_left == 0) came_.push_back(std::move(done.into));
    post_pieces(done.peer, p);
  } else {
    --p.pieces_leaving;
    p.out.block_left(done.bytes);
    if (done.keep) left_.push_back(std::move(done.keep));
    push_pieces(done.peer, p);
  }
}

inline void message_link::finish() {
  delivering_ = this;
  for (const auto& one : std::exchange(came_, {}))
    if (!std::exchange(one->over, true) && one->where.done) one->where.done(!one->failed);
  let_go_.clear();
  delivering_ = nullptr;
}

inline void message_link::receive_blocks(int from, cadre::detail::incoming& message, std::uint64_t first_piece) {
  const auto sizes = message.block_sizes();
  const auto whole = std::make_shared<blocks_in>();
  whole->from = from;
  bool fits = message.where().has_value();
  if (fits) {
    whole->where = std::move(*message.where());
    fits = whole->where.into.size() == sizes.size();
    for (std::size_t i = 0; fits && i < sizes.size(); ++i) fits = whole->where.into[i].size() == sizes[i];
    if (!fits && whole->where.done) whole->where.done(false);
  }
  peer& p = at(from);
  if (p.has_blocks_by_ring()) {
    for (std::size_t i = 0; i < sizes.size(); ++i)
      p.blocks_to_come.expect(fits ? whole->where.into[i].data() : nullptr, sizes[i], whole);
    if (!fits) whole->where = {};
    if (whole->pieces_left == 0) came_.push_back(whole);
    return note_awaited();
  }
  std::shared_ptr<std::vector<std::byte>> thrown_away;
  if (!fits) {
    std::uint64_t largest = 0;
    for (const std::uint64_t size : sizes) largest = std::max(largest, size);
    thrown_away = std::make_shared<std::vector<std::byte>>(std::min(largest, piece_bytes));
    whole->where = {{}, thrown_away, {}};
  }
  const std::lock_guard lock(mpi());
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] != 0)
      p.to_come.push_back({fits ? whole->where.into[i].data() : thrown_away->data(), sizes[i], first_piece, whole});
    first_piece += pieces_of(sizes[i]);
    whole->pieces_left += pieces_of(sizes[i]);
  }
  if (whole->pieces_left == 0)
    came_.push_back(whole);
  else
    with_blocks_.push_back(from);
}

// Under the lock of MPI.
inline void message_link::post_pieces(int from, peer& p) {
  if (!p.alive.load(std::memory_order_acquire)) return;
  while (p.pieces_coming < most_pieces_coming && !p.to_come.empty()) {
    block_in& block = p.to_come.front();
    const std::uint64_t n = std::min(block.bytes, piece_bytes);
    MPI_Request request = MPI_REQUEST_NULL;
    const int code =
        ::MPI_Irecv(block.into, static_cast<int>(n), MPI_BYTE, p.address, tag_of(block.next_piece++), p.comm, &request);
    if (code != MPI_SUCCESS) return declare_dead(from, mpi_error::call_failed("a receive", code).what());
    ++p.pieces_coming;
    begin_transfer(request, {.peer = from, .batch = {}, .keep = {}, .bytes = 0, .into = block.whole});
    block.bytes -= n;
    if (!block.whole->where.into.empty()) block.into += n;  // else all of them are thrown away
    if (block.bytes == 0) p.to_come.pop_front();
  }
}

// ---- Waiting

template <class Ready>
bool message_link::wait(Ready&& ready, time_point deadline) {
  if (is_delivering())
    throw message_error::misuse("a sink of messages waits for messages: none comes before it returns");
  flush();
  time_point asleep_since = time_point::max();  // of one that has slept
  bool quiet = false;  // it has slept, and nobody has rung: one look, as each costs calls of the system over TCP
  for (;;) {
    std::uint64_t begin = 0;
    for (unsigned looks = 1;; ++looks) {
      if (ready()) return true;
      if (poll()) {
        looks = 0;
        asleep_since = time_point::max();
        quiet = false;
      }
      if (quiet && !is_transferring()) break;
      constexpr unsigned some = 16;  // the time is looked at now and then
      if (looks == some) {
        begin = cadre::detail::ticks();
      } else if (looks % some == 0 && looks != 0) {
        const bool transferring = is_transferring();
        if (cadre::detail::ticks() - begin > (transferring ? transfer_ticks_ : spin_ticks_)) break;
      }
    }
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) return ready();
    // Where MPI needs both sides nobody rings, nor from another node for what soon follows: what takes long may take a
    // little longer.
    constexpr std::chrono::nanoseconds shortest = std::chrono::microseconds(200);
    const std::chrono::nanoseconds longest = longest_nap();
    asleep_since = std::min(asleep_since, now);
    const auto nap = is_transferring() ? shortest
                     : is_one_node_    ? longest
                                    : std::clamp<std::chrono::nanoseconds>((now - asleep_since) / 8, shortest, longest);
    sleepers_.fetch_add(1, std::memory_order_acq_rel);
    const std::uint32_t rings = bell().rings();
    bell().announce_sleep();
    if (!poll() && !ready()) bell().sleep(rings, std::min(deadline, now + nap));
    sleepers_.fetch_sub(1, std::memory_order_acq_rel);
    quiet = bell().rings() == rings;
  }
}

inline bool message_link::wait_for_change(const std::atomic<std::uint32_t>& word, std::uint32_t value,
                                          time_point deadline) {
  return wait([&] { return word.load(std::memory_order_acquire) != value; }, deadline);
}

// What the thread does: looks again soon after something has come, and ever later when nothing does.
inline void message_link::tend() noexcept {
  constexpr auto shortest = std::chrono::microseconds(50), while_others_look = std::chrono::microseconds(1000),
                 while_transferring = std::chrono::microseconds(200);
  std::chrono::nanoseconds nap = shortest;
  std::uint64_t looks = 0;
  bool rung = false;  // for who looked before, and has said that it stops
  while (!stopping_.load(std::memory_order_acquire)) {
    const auto longest = longest_nap();
    // More than one that sleeps and looks now and then; and fewer than one that is busy with what has come, and looks between.
    const bool others_look =
        others_came_.exchange(false, std::memory_order_relaxed) ||
        looks_.load(std::memory_order_relaxed) - looks > static_cast<std::uint64_t>(16 * nap / longest);
    const std::uint32_t rings = bell().rings();
    // Others who look need not be rung for; when they stop this one takes over at the end of its nap.
    if (!others_look) bell().announce_sleep();
    try {
      flush();
    } catch (const std::bad_alloc&) {
      // At the next look, perhaps.
    }
    bool moved = false;
    std::uint64_t since = cadre::detail::ticks();  // of a block that a ring brings more comes in a moment
    for (int i = 0; i < 64 && !others_came_.load(std::memory_order_relaxed);) {
      const bool dead = has_deaths_.load(std::memory_order_acquire);
      if (others_look && !rung && !dead) break;
      if (poll() || dead) {
        moved = true;
        since = cadre::detail::ticks();
        ++i;
      } else if (!is_transferring() || cadre::detail::ticks() - since > std::min<std::uint64_t>(spin_ticks_, 20'000)) {
        break;
      }
    }
    watch_newcomers();
    watch_->look([&](int rank, std::string how) { declare_dead(rank, std::move(how), knowledge::seen); });
    beat();
    sink_->tick();
    const std::chrono::nanoseconds most = others_look         ? while_others_look
                                          : is_transferring() ? while_transferring
                                                              : longest;
    nap = moved || rung ? shortest : std::min(2 * nap, most);
    looks = looks_.load(std::memory_order_relaxed);
    if (nap > while_others_look) {
      naps_long_.store(true, std::memory_order_seq_cst);
      if (has_unsent() || transferring_.load(std::memory_order_seq_cst)) nap = shortest;
    }
    if (!stopping_.load(std::memory_order_acquire)) bell().sleep(rings, std::chrono::steady_clock::now() + nap);
    naps_long_.store(false, std::memory_order_relaxed);
    rung = bell().rings() != rings;
  }
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
