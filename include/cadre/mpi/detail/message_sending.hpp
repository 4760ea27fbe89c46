#ifndef CADRE_MPI_DETAIL_MESSAGE_SENDING_HPP
#define CADRE_MPI_DETAIL_MESSAGE_SENDING_HPP

// How a message_link begins, sends and ends.
#include <cadre/actor/detail/link.hpp>
#include <cadre/async/detail/spin.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/batch.hpp>
#include <cadre/mpi/detail/message_link_class.hpp>
#include <cadre/mpi/detail/message_progress.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/detail/outbox.hpp>
#include <cadre/mpi/detail/root_gather.hpp>
#include <cadre/mpi/detail/topology.hpp>
#include <cadre/mpi/detail/transfers.hpp>
#include <cadre/mpi/environment.hpp>
#include <cadre/mpi/error.hpp>
#include <cadre/os/detail/relax.hpp>
#include <cadre/os/thread.hpp>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

inline message_link::message_link(MPI_Comm comm, const link_options& options)
    : environment_(environment::get()), options_(options) {
  const auto deadline = std::chrono::steady_clock::now() + options_.timeout;
  int size = 0;
  const auto duplicate = std::make_shared<MPI_Comm>(MPI_COMM_NULL);  // MPI writes it when all ranks have come
  MPI_Request request = MPI_REQUEST_NULL;
  {
    const std::lock_guard lock(mpi());
    check(::MPI_Comm_size(comm, &size), "MPI_Comm_size");
    check(::MPI_Comm_rank(comm, &rank_), "MPI_Comm_rank");
    check(::MPI_Comm_idup(comm, duplicate.get(), &request), "MPI_Comm_idup");
  }
  try {
    wait_to_join(request, deadline);
  } catch (...) {
    const std::lock_guard lock(mpi());
    environment_.keep(duplicate);
    throw;
  }
  comm_ = *duplicate;
  {
    const std::lock_guard lock(mpi());
    check(::MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }
  const root_gather gather(comm_, size, deadline);
  std::vector<int> ranks;
  for (int r = 0; r < size; ++r) ranks.push_back(r);
  const topology who(std::move(ranks), gather(node_identity()));
  is_one_node_ = who.nodes() == 1;
  bells_.emplace(who, rank_, gather);
  if (options_.ring_bytes != 0) rings_.emplace(who, rank_, options_.ring_bytes, gather);
  process_card me{.process = static_cast<std::int32_t>(::getpid()),
                  .most_later = options_.most_later,
                  .silence = options_.silence.count()};
  host_name().copy(me.host, sizeof me.host - 1);
  if (!is_one_node_) me.bell = far_bell_.emplace().address();
  processes_ = gather(me);
  options_.most_later = processes_[0].most_later;
  options_.silence = std::chrono::nanoseconds(processes_[0].silence);
  watch_.emplace(who, rank_, [&](int r) { return processes_[static_cast<std::size_t>(r)].process; });
  beats_.emplace(who, rank_, options_.silence);
  make_peers(size, size);
  processes_.resize(peers_.size());
  for (int r = 0; r < size; ++r) {
    peer& p = at(r);
    p.comm = comm_;
    p.address = r;
    p.bell = bells_->of(r);
    p.is_near = p.bell != nullptr;
    p.is_to_come = false;
    p.alive.store(true);
    if (!rings_ || !rings_->connects(r)) continue;
    p.ring = rings_->to(r);
    from_rings_.emplace_back(r, rings_->from(r));
  }
  only_rings_ = rings_ && rings_->hold_all_batches();
  begin(who.members(who.node_of[static_cast<std::size_t>(rank_)]).size());
  if (rank_ == 0 && !is_one_node_) environment_.guard_launcher();
}

inline message_link::message_link(const acquaintance& me, const std::vector<acquaintance>& others, int world_size,
                                  int members, const link_options& options)
    : environment_(environment::get()), options_(options), rank_(me.member), is_one_node_(false) {
  make_peers(world_size, members);
  processes_.resize(peers_.size());
  processes_[static_cast<std::size_t>(rank_)] = me.card;
  at(rank_).rank = me.rank;
  at(rank_).bell = &own_bell_;
  const topology alone({0}, {0});
  watch_.emplace(alone, 0, [](int) { return 0; });
  beats_.emplace(alone, 0, options_.silence);
  std::size_t near = 1;
  for (const acquaintance& a : others) {
    admit(a);
    near += a.is_near ? 1 : 0;
  }
  for (int m = 0; m < members; ++m) at(m).is_to_come = false;  // those have died before
  begin(near);
}

inline void message_link::make_peers(int world_size, int members) {
  world_size_ = world_size;
  members_.store(members);
  const auto most = static_cast<std::size_t>(world_size + options_.most_later);
  for (std::size_t m = 0; m < most; ++m) peers_.push_back(std::make_unique<peer>(static_cast<int>(m)));
  unsent_ = std::vector<std::atomic<std::uint64_t>>((most + 63) / 64);
}

// `near`: the ranks of this node.
inline void message_link::begin(std::size_t near) {
  {
    const std::lock_guard lock(mpi());
    int* bound = nullptr;
    int found = 0;
    check(::MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, static_cast<void*>(&bound), &found), "MPI_Comm_get_attr");
    last_tag_ = found != 0 ? *bound : 32767;
  }
  // Where there are more ranks than processors, the one that is waited for needs this one.
  const bool crowded = near > static_cast<std::size_t>(::sysconf(_SC_NPROCESSORS_ONLN));
  // No rank of another node rings: longer than one there naps that has just heard something, or both would nap by turns.
  const bool far = !is_one_node_.load();
  spin_ticks_ = crowded ? 2'000 : far ? 600'000 : near_ticks;
  transfer_ticks_ = crowded ? spin_ticks_ : 4'000'000;
  environment_.enter();
}

inline void message_link::start_thread(cadre::detail::message_sink& sink) {
  {
    const std::lock_guard lock(mpi());
    if (comm_ != MPI_COMM_NULL) inbox_.add({.comm = comm_}, receives);
  }
  while (busy_.exchange(true, std::memory_order_acquire)) cadre::detail::relax();
  sink_ = &sink;
  busy_.store(false, std::memory_order_release);
  waker_.watch(watch_->file());
  if (far_bell_) waker_.watch(far_bell_->file());
  waker_.start([this](int file) {
    if (far_bell_ && file == far_bell_->file()) {
      if (!far_bell_->has_rung()) return;
      // What has come is the sooner there as no other thread has to wake up first.
      constexpr int looks = 16;
      for (int i = 0; i < looks && !poll();) ++i;
    }
    bell().ring();
  });
  thread_ = native_thread("cadre-link", [this] { tend(); });
}

// ---- Sending

inline void message_link::send_large(int to, cadre::detail::outgoing&& message, urgency how) {
  peer& p = target(to);
  if (message.blocks.size() > outbox::most_blocks)
    throw message_error::misuse("a message of " + std::to_string(message.blocks.size()) + " blocks to rank " +
                                std::to_string(to) + ": at most " + std::to_string(outbox::most_blocks));
  if (how == urgency::normal && p.out.under_way() > options_.credit) wait_for_room(p);
  const auto pieces = message.bytes.pieces();
  std::vector<std::byte> copy;
  std::span<const std::byte> bytes;
  if (pieces.size() == 1) {
    bytes = pieces[0];
  } else {
    copy = message.bytes.to_vector();
    bytes = copy;
  }
  note(to, p, message.blocks.empty() ? p.out.append(bytes) : p.out.append(bytes, message.blocks, message.keep));
}

inline void message_link::refuse(peer& p) {
  if (p.alive.load(std::memory_order_acquire)) throw message_error::closed(p.rank);
  const std::lock_guard lock(deaths_mutex_);
  throw peer_died(p.rank, p.how_it_died);
}

inline void message_link::wait_for_room(peer& p) {
  if (is_delivering()) return;  // nobody makes progress until it returns
  for (;;) {
    const std::uint64_t before = p.out.under_way();
    const bool moved = wait([&] { return !p.alive.load() || p.out.under_way() <= options_.credit; },
                            std::chrono::steady_clock::now() + options_.timeout);
    if (!p.alive.load()) refuse(p);
    if (moved) return;
    if (p.out.under_way() >= before)
      throw message_error::stalled(
          p.rank, std::to_string(before) + " bytes are under way to it, and in " +
                      std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(options_.timeout).count()) +
                      " ms it has taken none: it is stopped, or its host cannot be reached");
  }
}

inline void message_link::flush(std::size_t word) {
  std::uint64_t bits = unsent_[word].exchange(0, std::memory_order_acq_rel);
  if (bits == 0) return;
  const sending lock(*this);
  for (; bits != 0; bits &= bits - 1) {
    const int to = static_cast<int>(word) * 64 + __builtin_ctzll(bits);
    push(to, at(to), true);
  }
}

inline void message_link::push_full(int to, peer& p) {
  {
    const sending lock(*this);
    push(to, p, false);
  }
  poll();  // large batches leave only while somebody makes progress
}

// Under the lock of MPI: sends what is full, or all; or an empty batch that says what was taken. Whether there was any.
inline bool message_link::push(int to, peer& p, bool all, bool acknowledge) {
  if (!p.alive.load(std::memory_order_acquire)) return false;
  all |= p.flushing;
  bool sent = false, says_something = false, full = false;
  // Others may wait for the lock, while the receiver makes room again and again.
  constexpr int most_parts = 8;
  for (int parts = 0; p.leaving < most_leaving && p.alive.load(std::memory_order_relaxed);) {
    const bool has_room = !p.ring || p.ring->has_room(p.ring->most());
    auto batch = has_room ? p.out.take(all) : nullptr;
    says_something |= batch != nullptr;
    if (batch == nullptr && acknowledge && has_room) batch = std::make_unique<batch_out>();
    const bool has_batch = batch != nullptr;
    if (has_batch) push_batch(to, p, std::move(batch));
    acknowledge &= !has_batch;
    // Between batches too, or many of them would keep it back.
    const bool has_part = !p.blocks_to_go.empty() && parts < most_parts && p.ring->has_room(blocks_to_ring::part_bytes);
    if (has_part) push_part(p);
    parts += has_part ? 1 : 0;
    sent |= has_batch || has_part;
    if (has_batch || has_part) continue;
    full = !has_room || !p.blocks_to_go.empty();
    if (!full || !p.ring->ask_for_room() || parts == most_parts) break;
  }
  p.flushing = all && (full || p.leaving == most_leaving);
  if (full && !std::exchange(p.waits_for_ring, true)) {
    to_full_rings_.push_back(to);
    set_transferring();
  }
  if (sent && p.bell == nullptr) p.spoken.store(true, std::memory_order_relaxed);
  if (sent && p.bell != nullptr) p.bell->knock();
  if (says_something && p.bell == nullptr) ring_afar(to, p);
  return sent;
}

inline void message_link::push_batch(int to, peer& p, std::unique_ptr<batch_out> batch) {
  const batch_header header{p.sequence++, p.taken.load(std::memory_order_relaxed)};
  p.told.store(header.taken, std::memory_order_relaxed);
  std::memcpy(batch->bytes.get(), &header, header_bytes);
  MPI_Request request = MPI_REQUEST_NULL;
  int done = 0;
  if (p.ring && batch->used <= p.ring->most()) {
    p.ring->write_batch({batch->bytes.get(), batch->used});
    done = 1;
  } else {
    int code = ::MPI_Isend(batch->bytes.get(), static_cast<int>(batch->used), MPI_BYTE, p.address, batch_tag, p.comm,
                           &request);
    if (code == MPI_SUCCESS) code = ::MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (code != MPI_SUCCESS) return declare_dead(to, mpi_error::call_failed("a message to it", code).what());
  }
  for (block_out& block : batch->blocks) {
    if (p.has_blocks_by_ring())
      p.blocks_to_go.add(std::move(block));
    else if (!block.bytes.empty())
      p.to_leave.push_back(std::move(block));
  }
  push_pieces(to, p);
  if (done != 0) {
    p.out.recycle(std::move(batch));
  } else {
    ++p.leaving;
    begin_transfer(request, {.peer = to, .batch = std::move(batch), .keep = {}, .bytes = 0, .into = {}});
  }
}

inline void message_link::push_part(peer& p) {
  auto [bytes, keep] = p.blocks_to_go.write_next(*p.ring);
  p.out.block_left(bytes);
  if (!keep) return;
  left_.push_back(std::move(keep));
  set_transferring();
}

// Under the lock of MPI, after something was sent. Who was sent something a moment ago still looks often.
inline void message_link::ring_afar(int to, peer& p) {
  constexpr std::uint64_t moment = 1'500'000;  // ticks; 0.5 ms or so, after which its naps get long
  const std::uint64_t now = cadre::detail::ticks();
  if (now - std::exchange(p.sent_at, now) > moment && far_bell_) far_bell_->ring(card_of(to).bell);
}

// Under the lock of MPI. More than the receiver takes at once, so that it need not wait for them.
inline void message_link::push_pieces(int to, peer& p) {
  if (!p.alive.load(std::memory_order_acquire)) return;
  while (p.pieces_leaving < most_pieces_leaving && !p.to_leave.empty()) {
    block_out& block = p.to_leave.front();
    const std::size_t n = std::min<std::size_t>(block.bytes.size(), piece_bytes);
    MPI_Request request = MPI_REQUEST_NULL;
    const int code = ::MPI_Isend(block.bytes.data(), static_cast<int>(n), MPI_BYTE, p.address,
                                 tag_of(block.first_piece++), p.comm, &request);
    if (code != MPI_SUCCESS) return declare_dead(to, mpi_error::call_failed("a block to it", code).what());
    ++p.pieces_leaving;
    begin_transfer(request, {.peer = to, .batch = {}, .keep = block.keep, .bytes = n, .into = {}});
    block.bytes = block.bytes.subspan(n);
    if (block.bytes.empty()) p.to_leave.pop_front();
  }
}

// ---- The end

inline void message_link::end(time_point deadline) {
  for (int r = 0; r < members(); ++r) {
    peer& p = at(r);
    if (r == rank_ || !p.alive.load(std::memory_order_acquire) || !p.out.close()) continue;
    const std::lock_guard lock(mpi());
    push(r, p, true);
  }
  std::string missing;
  const auto finished = [&] {
    // No two threads at what makes progress guards.
    if (busy_.exchange(true, std::memory_order_acquire)) return false;
    missing.clear();
    for (int r = 0; r < members(); ++r) {
      peer& p = at(r);
      if (r == rank_ || p.buried || p.comm == MPI_COMM_NULL) continue;
      // What it has told of its end comes before all of ours has been taken; what confirms that is the last.
      if (p.in.has_farewell() && p.out.confirm()) {
        const std::lock_guard lock(mpi());
        push(r, p, true);
      }
      if (!p.in.is_complete() || !p.out.is_empty() || !p.blocks_to_come.empty())
        missing += (missing.empty() ? "" : ", ") + std::to_string(r);
    }
    bool done = missing.empty() && came_.empty() && !has_deaths_.load(std::memory_order_acquire);
    {
      const std::lock_guard lock(mpi());
      done = done && transfers_.empty() && to_full_rings_.empty() && left_.empty();
    }
    busy_.store(false, std::memory_order_release);
    return done;
  };
  if (!wait(finished, deadline))
    throw message_error::unfinished(
        "rank " + std::to_string(rank_) + " closes, and not all messages were received in time" +
        (missing.empty() ? std::string("; blocks are under way") : "; not closed, or not taking: ranks " + missing) +
        ". Every rank has to close");
  closed_ = true;
  stop();
}

inline void message_link::stop() noexcept {
  if (std::exchange(stopped_, true)) return;
  stopping_.store(true, std::memory_order_release);
  bell().ring();
  waker_.end();
  thread_.join();
  if (environment::finalized()) return;
  const bool clean = closed_ && !somebody_died_.load();
  {
    const std::lock_guard lock(mpi());
    inbox_.stop();
    transfers_.drop(transfers::everyone, [&](transfer&& undone, bool may_be_touched) {
      if (!may_be_touched) return;
      if (undone.batch) environment_.keep(std::shared_ptr<batch_out>(std::move(undone.batch)));
      if (undone.into) environment_.keep(std::move(undone.into));
      if (undone.keep) environment_.keep(std::move(undone.keep));
    });
    if (clean && comm_ != MPI_COMM_NULL) ::MPI_Comm_free(&comm_);
  }
  if (clean) environment_.leave();
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
