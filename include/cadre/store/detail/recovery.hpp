#ifndef CADRE_STORE_DETAIL_RECOVERY_HPP
#define CADRE_STORE_DETAIL_RECOVERY_HPP

#include <cadre/core/error.hpp>
#include <cadre/os/file_lock.hpp>
#include <cadre/store/detail/object_moves.hpp>
#include <cadre/store/detail/object_table.hpp>
#include <cadre/store/detail/store_counters.hpp>
#include <cadre/store/detail/tickets.hpp>

#include <atomic>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

inline void recount_spill_files(object_table& table) noexcept {
  if (table.head().files_begun == 0) return;
  spill_table files = table.files();
  files.begin_recount();
  for (std::uint32_t i = 0; i < table.head().entries_begun; ++i)
    if (const spill_position at(table.details(i).spilled.load(std::memory_order_acquire));
        at && table.word(i).state() != object_state::free)
      files.recount(at.file(), table.entry(i).bytes);
  table.head().dead_files.store(1, std::memory_order_relaxed);  // perhaps
}

/// Makes everything anew that is derived from the table of objects, after a process has died with the lock. A sweep of all
/// objects follows. May itself be cut off at any instant: the next begins again.
inline void rebuild(object_table& table) noexcept {
  store_header& head = table.head();
  CADRE_STORE_STEP(rebuild_begun);
  block_allocator blocks = table.memory().blocks();
  blocks.format();
  blocks.begin_rebuild();
  table.names().clear();
  head.free_entry = no_index;
  head.objects = 0;
  for (std::uint32_t i = 0; i < head.entries_begun; ++i) {
    object_entry& e = table.entry(i);
    const object_word w = table.word(i);
    if (w.state() == object_state::free) {
      table.list_free(i);
      continue;
    }
    ++head.objects;
    e.in_flight = 0;
    // Who died may have been about to free it.
    if (w.state() == object_state::kept) table.memory().slots()[w.owner()].keeps.store(1, std::memory_order_seq_cst);
    // Who spilled it may have died before it looked for views, which are of what is in memory.
    if (w.state() == object_state::spilled) {
      if (e.offset.load(std::memory_order_relaxed) != no_offset && table.count_holding(i, false).views)
        e.word.store(object_word(w.generation(), object_state::sealed).value(), std::memory_order_release);
      else
        e.offset.store(no_offset, std::memory_order_relaxed);
    }
    if (const std::uint64_t block = e.offset.load(std::memory_order_acquire); block != no_offset)
      blocks.keep(block, e.bytes);
    if (const std::uint64_t block = e.name_offset.load(std::memory_order_acquire); block != no_offset)
      blocks.keep(block, table.details(i).name_bytes);
    if (w.state() == object_state::gone) e.flags &= ~object_named;
    if ((e.flags & object_named) != 0) table.names().link(i);
  }
  CADRE_STORE_STEP(rebuild_blocks);
  blocks.end_rebuild();
  table.memory().count_present();
  head.free_ticket = no_index;
  for (std::uint32_t t = 0; t < head.tickets_begun; ++t) {
    transfer_ticket& ticket = table.memory().tickets()[t];
    if (ticket.used.load(std::memory_order_acquire) != 0) {
      ++table.entry(ticket.index).in_flight;
    } else {
      ticket.next = head.free_ticket;
      head.free_ticket = t;
    }
  }
  recount_spill_files(table);
  CADRE_STORE_STEP(rebuild_done);
}

/// Of an object whose owner has died in the middle of something: back to what was before, or its end.
inline void abandon(object_table& table, std::uint32_t i) noexcept {
  switch (table.word(i).state()) {
    case object_state::creating:
    case object_state::kept:
    case object_state::preparing: table.end(i, object_end::producer_died); break;
    case object_state::spilling: object_moves(table).cancel_spill(i); break;
    case object_state::restoring: object_moves(table).cancel_restore(i); break;
    default: break;
  }
}

/// Takes from processes all that they held, wrote or sent, and their slots. Cost: a look at all objects, whose holders are
/// counted only where one of the processes was in the middle of a change, or has been a holder.
inline void sweep_slots(object_table& table, const slot_set& slots) noexcept {
  store_header& head = table.head();
  slots.for_each([&](std::uint32_t s) {
    table.memory().clear_counts(s);
    CADRE_STORE_STEP(slot_void);
  });
  for (std::uint32_t t = 0; t < head.tickets_begun; ++t) {
    const transfer_ticket& ticket = table.memory().tickets()[t];
    if (ticket.used.load(std::memory_order_acquire) != 0 && (slots.has(ticket.from) || slots.has(ticket.to)))
      ticket_office(table).finish(t, false);
  }
  for (std::uint32_t i = 0; i < head.entries_begun; ++i) {
    const object_word w = table.word(i);
    if (w.state() == object_state::free) continue;
    const bool owned = slots.has(w.owner());
    if (owned) abandon(table, i);
    if (owned || w.state() == object_state::gone || table.may_be_held_by(i, slots)) table.settle(i);
  }
  bool closed = false;
  slots.for_each([&](std::uint32_t s) { closed |= table.files().close_all_of(s); });
  if (closed) recount_spill_files(table);
  CADRE_STORE_STEP(slot_swept);
  slots.for_each([&](std::uint32_t s) {
    table.memory().slots()[s].used.store(0, std::memory_order_release);
    CADRE_STORE_STEP(slot_free);
  });
}
inline void sweep_slot(object_table& table, std::uint32_t slot) noexcept {
  slot_set one;
  one.add(slot);
  sweep_slots(table, one);
}

/// Sweeps the slots of processes that have died. Cost: a system call per process, and one look at all objects if there are
/// any. Returns how many there were.
inline std::uint32_t sweep_dead(object_table& table) noexcept {
  slot_set dead;
  std::uint32_t n = 0;
  for (std::uint32_t s = 0; s < most_processes; ++s) {
    if (s == table.slot() || table.memory().slots()[s].used.load(std::memory_order_acquire) == 0) continue;
    try {
      if (is_byte_locked_by_other(table.memory().file(), table.memory().lock_byte(s))) continue;
    } catch (const error&) {  // the system does not say: then it lives
      continue;
    }
    dead.add(s);
    ++n;
  }
  if (n != 0) sweep_slots(table, dead);
  store_counters::get().recovered.add(n);
  return n;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
