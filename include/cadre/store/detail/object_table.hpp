#ifndef CADRE_STORE_DETAIL_OBJECT_TABLE_HPP
#define CADRE_STORE_DETAIL_OBJECT_TABLE_HPP

#include <cadre/os/futex.hpp>
#include <cadre/store/detail/arena.hpp>
#include <cadre/store/detail/layout.hpp>
#include <cadre/store/detail/name_table.hpp>
#include <cadre/store/detail/spill_table.hpp>
#include <cadre/store/detail/steps.hpp>

#include <unistd.h>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What happens to objects under the lock of the store. Each function leaves the table whole at every instant: what makes
/// a change true is one store to the entry's word, to its offset or to a count; all else can be made anew (recovery.hpp).
/// Nothing throws, nothing allocates.
class object_table {
 public:
  /// `memory` must stay where it is.
  object_table(arena& memory, std::uint32_t slot) noexcept
      : memory_(memory),
        head_(memory.head()),
        entries_(memory.entries()),
        details_(memory.details()),
        names_(memory),
        slot_(slot),
        mine_(memory.counts(slot)) {}

  [[nodiscard]] object_entry& entry(std::uint32_t i) const noexcept { return entries_[i]; }
  [[nodiscard]] object_details& details(std::uint32_t i) const noexcept { return details_[i]; }
  [[nodiscard]] object_word word(std::uint32_t i) const noexcept {
    return object_word(entries_[i].word.load(std::memory_order_acquire));
  }
  [[nodiscard]] hold_count& mine(std::uint32_t i) const noexcept { return mine_[i]; }
  [[nodiscard]] std::uint32_t slot() const noexcept { return slot_; }
  /// Of the process that made this, since asking the system is dear.
  [[nodiscard]] std::uint32_t pid() const noexcept { return pid_; }
  [[nodiscard]] arena& memory() const noexcept { return memory_; }
  [[nodiscard]] store_header& head() const noexcept { return head_; }

  struct request {
    std::uint64_t bytes = 0;
    std::uint64_t type = 0;
    std::uint32_t site = 0;
    std::uint32_t flags = 0;
    std::string_view name;
  };
  enum class shortage { none, memory, entries };

  /// A new object that this process writes, of which it holds a ref and, so that its memory stays its own whoever erases
  /// it meanwhile, a view; or no_index and what is short.
  std::uint32_t create(const request& r, shortage& missing) noexcept {
    const std::uint32_t i = take_entry();
    if (i == no_index) {
      missing = shortage::entries;
      return no_index;
    }
    CADRE_STORE_STEP(entry_taken);
    object_entry& e = entries_[i];
    block_allocator blocks = memory_.blocks();
    const std::uint64_t block = r.bytes == 0 ? 0 : blocks.allocate(r.bytes);
    const bool short_name = name_table::is_short(r.name.size());
    const std::uint64_t name = short_name || block == no_offset ? no_offset : blocks.allocate(r.name.size());
    CADRE_STORE_STEP(block_allocated);
    if (block == no_offset || (name == no_offset && !short_name)) {
      if (block != no_offset && r.bytes != 0) blocks.free(block, r.bytes);
      list_free(i);
      missing = shortage::memory;
      return no_index;
    }
    const std::uint32_t generation = word(i).generation();
    e.offset.store(r.bytes == 0 ? no_offset : block, std::memory_order_relaxed);
    describe(i, r);
    e.name_offset.store(name, std::memory_order_relaxed);
    details_[i].name_bytes = static_cast<std::uint32_t>(r.name.size());
    details_[i].name_hash = r.name.empty() ? 0 : name_table::hash(r.name);
    e.in_flight = 0;
    details_[i].spilled.store(0, std::memory_order_relaxed);
    CADRE_STORE_STEP(entry_written);
    mark_holder(i);
    mine_[i].store(hold_ref + hold_view, std::memory_order_relaxed);  // nobody else has it yet
    CADRE_STORE_STEP(creator_holds);
    e.word.store(object_word(generation, object_state::creating, slot_).value(), std::memory_order_release);
    CADRE_STORE_STEP(creation_committed);
    ++head_.objects;
    return i;
  }
  /// What was the last ref of this process to an object, and is counted no more: if no other has ever had it, its entry
  /// and memory are kept for reuse(). Else settle() is to follow. Without the lock, so that the object may have ended since
  /// the ref was counted, and the entry be another one's: `w` is its word at that time.
  bool keep(std::uint32_t i, object_word w) noexcept {
    if (w.state() != object_state::sealed || !is_private(i) ||
        !change(i, w, object_word(w.generation(), object_state::kept, slot_)))
      return false;
    CADRE_STORE_STEP(kept);
    std::atomic<std::uint32_t>& keeps = memory_.slots()[slot_].keeps;
    if (keeps.load(std::memory_order_seq_cst) == 0) keeps.store(1, std::memory_order_seq_cst);
    return true;
  }
  /// Makes an object, as create() does, of an entry that keep() has kept, without the lock. False if it is kept no more, or
  /// its memory is of another size.
  bool reuse(std::uint32_t i, const request& r) noexcept {
    object_entry& e = entries_[i];
    object_word w = word(i);
    if (!keeps(w) || block_allocator::size_of(e.bytes) != block_allocator::size_of(r.bytes) ||
        !change(i, w, object_word(w.generation() + 1, object_state::preparing, slot_)))
      return false;
    CADRE_STORE_STEP(reuse_begun);
    describe(i, r);
    mine_[i].store(hold_ref + hold_view, std::memory_order_relaxed);
    CADRE_STORE_STEP(reuse_written);
    e.word.store(object_word(w.generation() + 1, object_state::creating, slot_).value(), std::memory_order_release);
    CADRE_STORE_STEP(reuse_committed);
    return true;
  }
  /// Whether it is kept, for this process.
  [[nodiscard]] bool keeps(std::uint32_t i) const noexcept { return keeps(word(i)); }
  /// Whether no other process has ever had it, nor is it found by a name or on disk.
  [[nodiscard]] bool is_private(std::uint32_t i) const noexcept {
    const object_entry& e = entries_[i];
    return (e.flags & (object_named | object_held_above | object_sent)) == 0 && slot_ < 64 &&
           e.holders.load(std::memory_order_relaxed) == std::uint64_t{1} << slot_ &&
           details_[i].spilled.load(std::memory_order_relaxed) == 0 &&
           e.offset.load(std::memory_order_relaxed) != no_offset;
  }
  /// Frees all that is kept. Cost: a look at all objects if anything is. False if there was nothing.
  bool release_kept() noexcept {
    bool any = false;
    for (std::uint32_t s = 0; s < most_processes; ++s)
      any |= memory_.slots()[s].keeps.load(std::memory_order_seq_cst) != 0 &&
             memory_.slots()[s].keeps.exchange(0, std::memory_order_seq_cst) != 0;
    if (any) CADRE_STORE_STEP(release_begun);
    bool freed = false;
    for (std::uint32_t i = 0; any && i < head_.entries_begun; ++i) {
      object_word w(entries_[i].word.load(std::memory_order_seq_cst));
      if (w.state() != object_state::kept ||
          !change(i, w, object_word(w.generation(), object_state::gone, 0, object_end::unreferenced)))
        continue;
      free_entry(i, w);
      freed = true;
    }
    return freed;
  }

  /// Gives memory to an object that was made with none. False if there is none.
  bool attach(std::uint32_t i, std::uint64_t bytes) noexcept {
    const std::uint64_t block = memory_.blocks().allocate(bytes);
    if (block == no_offset) return false;
    entries_[i].bytes = bytes;
    entries_[i].offset.store(block, std::memory_order_release);
    return true;
  }
  /// Gives a new object the name that it was made with. The memory of the name must be present.
  void enter_name(std::uint32_t i, std::string_view name) noexcept {
    std::memcpy(names_.text(i), name.data(), name.size());
    CADRE_STORE_STEP(name_written);
    entries_[i].flags |= object_named;
    names_.add(i);
    CADRE_STORE_STEP(name_entered);
  }
  [[nodiscard]] name_table& names() noexcept { return names_; }

  /// One more ref of this process.
  void hold(std::uint32_t i) noexcept {
    mark_holder(i);
    mine_[i].fetch_add(hold_ref, std::memory_order_seq_cst);
  }

  /// Changes the word from what was seen; if it is another one by now, that has been seen then.
  bool change(std::uint32_t i, object_word& seen, object_word to) noexcept {
    std::uint64_t expected = seen.value();
    const bool done = entries_[i].word.compare_exchange_strong(expected, to.value(), std::memory_order_seq_cst);
    if (!done) seen = object_word(expected);
    return done;
  }

  /// Ends an object whoever holds it: it cannot be read any more, its memory is freed with the last view.
  void end(std::uint32_t i, object_end why) noexcept {
    object_word w = word(i);
    while (w.state() != object_state::free && w.state() != object_state::gone)
      if (end(i, why, w)) return;
  }
  /// The same, unless it has changed since `seen`.
  bool end(std::uint32_t i, object_end why, object_word& seen) noexcept {
    if (!change(i, seen, object_word(seen.generation(), object_state::gone, seen.owner(), why))) return false;
    CADRE_STORE_STEP(end_committed);
    remove_name(i);
    CADRE_STORE_STEP(name_removed);
    tell(entries_[i]);
    settle(i);
    return true;
  }

  /// Ends what nobody refers to, and frees what nobody holds, of an object that has perhaps lost a holder.
  void settle(std::uint32_t i) noexcept {
    object_entry& e = entries_[i];
    object_word w = word(i);
    if (w.state() == object_state::free || is_kept(w)) return;
    if (w.state() != object_state::gone) {
      if (e.in_flight != 0 || (e.flags & (object_named | object_weak_name)) == object_named) return;
      if (count_holding(i, false).refs) return;
      // If it has changed, its owner has kept it, or made another one of it.
      if (!change(i, w, object_word(w.generation(), object_state::gone, 0, object_end::unreferenced))) return;
      CADRE_STORE_STEP(end_committed);
    }
    // Whoever holds a view or a ref of it still is asked to come here when it is let go.
    const holding all = count_holding(i, true);
    if (!all.views && !all.refs && e.in_flight == 0)
      free_entry(i, w);
    else if (!all.views)
      free_blocks(i);
  }

  /// Drops evictable objects that nobody looks at, those not used for longest first, until take() has what it wants, and
  /// then up to batch_bytes(); counts them. Cost: a look at all objects, at most nine times. False if all that is not
  /// enough.
  template <class Take>
  bool evict(std::uint32_t& dropped, Take&& take) {
    std::uint64_t freed = 0;
    bool enough = false;
    by_last_use(
        [this](std::uint32_t i, object_word w) { return (entries_[i].flags & object_evictable) != 0 && is_idle(i, w); },
        [&](std::uint32_t i, object_word w) {
          const std::uint64_t bytes = entries_[i].bytes;
          if (!end(i, object_end::evicted, w)) return false;
          ++dropped;
          freed += block_allocator::size_of(bytes);
          enough = enough || take();
          return enough && freed >= batch_bytes(head_);
        });
    return enough;
  }
  /// How much is dropped or moved to disk at once, so that the look at all objects is worth it.
  static std::uint64_t batch_bytes(const store_header& head) noexcept {
    constexpr std::uint64_t most = std::uint64_t{16} << 20;
    return head.capacity / 64 < most ? head.capacity / 64 : most;
  }

  [[nodiscard]] spill_table files() const noexcept { return spill_table(head_, memory_.spill_files()); }

  /// Wakes who waits for a change of the object.
  void tell(object_entry& e) noexcept {
    if ((e.event.load(std::memory_order_seq_cst) & 1) != 0) {
      e.event.fetch_add(2, std::memory_order_seq_cst);
      futex::wake_all(e.event, futex::scope::shared);
    }
    if (head_.seal_waiters.load(std::memory_order_seq_cst) != 0 &&
        head_.seal_waiters.exchange(0, std::memory_order_seq_cst) != 0) {
      head_.seals.fetch_add(1, std::memory_order_seq_cst);
      futex::wake_all(head_.seals, futex::scope::shared);
    }
  }
  void tell_of_room() noexcept {
    if (head_.room_waiters.load(std::memory_order_seq_cst) == 0) return;
    head_.room_waiters.store(0, std::memory_order_seq_cst);  // under the lock, as who waits sets it
    head_.room.fetch_add(1, std::memory_order_seq_cst);
    futex::wake_all(head_.room, futex::scope::shared);
  }

  struct holding {
    bool views = false;
    bool refs = false;
  };
  /// Whether any process holds views or refs; with `ask`, each that does is asked to call the store when it lets go.
  holding count_holding(std::uint32_t i, bool ask) noexcept {
    holding all;
    for_each_holder(i, [&](std::uint32_t s) {
      hold_count& count = memory_.counts(s)[i];
      std::uint64_t seen = count.load(std::memory_order_seq_cst);
      while (ask && (views_of(seen) != 0 || refs_of(seen) != 0) && (seen & hold_notify) == 0 &&
             !count.compare_exchange_weak(seen, seen | hold_notify, std::memory_order_seq_cst)) {}
      all.views |= views_of(seen) != 0;
      all.refs |= refs_of(seen) != 0;
    });
    return all;
  }
  /// Whether one of these slots has held it.
  [[nodiscard]] bool may_be_held_by(std::uint32_t i, const slot_set& slots) const noexcept {
    if ((entries_[i].holders.load(std::memory_order_relaxed) & slots.word(0)) != 0) return true;
    if ((entries_[i].flags & object_held_above) == 0) return false;
    for (std::uint32_t k = 1; k < most_processes / 64; ++k)
      if ((memory_.holders_above(i)[k].load(std::memory_order_relaxed) & slots.word(k)) != 0) return true;
    return false;
  }
  template <class F>
  void for_each_holder(std::uint32_t i, F&& f) const {
    const auto each = [&f](std::uint64_t bits, std::uint32_t first) {
      for (; bits != 0; bits &= bits - 1) f(first + static_cast<std::uint32_t>(std::countr_zero(bits)));
    };
    each(entries_[i].holders.load(std::memory_order_relaxed), 0);
    if ((entries_[i].flags & object_held_above) != 0)
      for (std::uint32_t k = 1; k < most_processes / 64; ++k)
        each(memory_.holders_above(i)[k].load(std::memory_order_relaxed), 64 * k);
  }

  /// Notes that this process has, or may have, a count other than 0.
  void mark_holder(std::uint32_t i) noexcept {
    std::atomic<std::uint64_t>* holders = &entries_[i].holders;
    if (slot_ >= 64) [[unlikely]] {
      entries_[i].flags |= object_held_above;
      holders = &memory_.holders_above(i)[slot_ / 64];
    }
    // Under the lock, as all changes of it.
    holders->store(holders->load(std::memory_order_relaxed) | std::uint64_t{1} << slot_ % 64,
                   std::memory_order_relaxed);
  }
  /// No object, but kept for one.
  [[nodiscard]] static bool is_kept(object_word w) noexcept {
    return w.state() == object_state::kept || w.state() == object_state::preparing;
  }
  /// Readable, in memory, and nobody looks at it.
  [[nodiscard]] bool is_idle(std::uint32_t i, object_word w) noexcept {
    return w.state() == object_state::sealed && entries_[i].offset.load(std::memory_order_relaxed) != no_offset &&
           !count_holding(i, false).views;
  }
  /// Calls `take` with all that are `wanted` and with their words, in eight rounds from those not used for longest to the
  /// newest, until it returns true. Cost: a look at all objects per round.
  template <class Wanted, class Take>
  bool by_last_use(Wanted&& wanted, Take&& take) {
    const std::uint32_t now = head_.clock.load(std::memory_order_relaxed);
    const auto age = [&](std::uint32_t i) { return now - entries_[i].used_at.load(std::memory_order_relaxed); };
    std::uint32_t oldest = 0;
    bool any = false;
    for (std::uint32_t i = 0; i < head_.entries_begun; ++i)
      if ((age(i) > oldest || !any) && wanted(i, word(i))) {
        oldest = age(i);
        any = true;
      }
    if (!any) return false;
    constexpr std::uint32_t rounds = 8;
    for (std::uint32_t round = rounds; round-- > 0;)
      for (std::uint32_t i = 0; i < head_.entries_begun; ++i) {
        if (age(i) < std::uint64_t{oldest} * round / rounds) continue;
        if (const object_word w = word(i); wanted(i, w) && take(i, w)) return true;
      }
    return false;
  }

  /// Frees the memory of the object's bytes.
  void free_block(std::uint32_t i) noexcept {
    object_entry& e = entries_[i];
    const std::uint64_t block = e.offset.load(std::memory_order_relaxed);
    if (block == no_offset) return;
    e.offset.store(no_offset, std::memory_order_release);
    CADRE_STORE_STEP(block_given_up);
    give_back(memory_.blocks().free(block, e.bytes));
    tell_of_room();
  }
  // ---- what recovery makes anew

  void list_free(std::uint32_t i) noexcept {
    entries_[i].next = head_.free_entry;
    head_.free_entry = i;
  }

 private:
  [[nodiscard]] bool keeps(object_word w) const noexcept {
    return w.state() == object_state::kept && w.owner() == slot_;
  }
  // What an entry says of a new object, but where it lies and its name.
  void describe(std::uint32_t i, const request& r) noexcept {
    object_entry& e = entries_[i];
    e.bytes = r.bytes;
    details_[i].type = r.type;
    details_[i].site = r.site;
    e.flags = r.flags;
    e.creator = pid_;
    e.event.store(0, std::memory_order_relaxed);
    e.used_at.store(head_.clock.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }

  void remove_name(std::uint32_t i) noexcept {
    if ((entries_[i].flags & object_named) == 0) return;
    entries_[i].flags &= ~object_named;
    names_.remove(i);
  }

  std::uint32_t take_entry() noexcept {
    const std::uint32_t i = head_.free_entry;
    if (i != no_index) {
      head_.free_entry = entries_[i].next;
      return i;
    }
    if (head_.entries_begun == head_.most_objects) return no_index;
    memory_.make_entry_present(head_.entries_begun, slot_);
    return head_.entries_begun++;
  }

  void end_scarcity() noexcept {
    if (head_.scarce.load(std::memory_order_relaxed) != 0 && head_.room_waiters.load(std::memory_order_relaxed) == 0 &&
        memory_.blocks().used() < head_.capacity / 4 * 3 && head_.objects < head_.most_objects / 4 * 3)
      head_.scarce.store(0, std::memory_order_relaxed);
  }

  void forget_holders(std::uint32_t i) noexcept {
    entries_[i].holders.store(0, std::memory_order_relaxed);
    if ((entries_[i].flags & object_held_above) == 0) return;
    for (std::uint32_t k = 1; k < most_processes / 64; ++k)
      memory_.holders_above(i)[k].store(0, std::memory_order_relaxed);
  }

  void free_entry(std::uint32_t i, object_word w) noexcept {
    object_entry& e = entries_[i];
    for_each_holder(i, [&](std::uint32_t s) { memory_.counts(s)[i].store(0, std::memory_order_relaxed); });
    forget_holders(i);
    remove_name(i);
    e.word.store(object_word(w.generation() + 1, object_state::free).value(), std::memory_order_release);
    CADRE_STORE_STEP(entry_freed);
    free_blocks(i);
    list_free(i);
    --head_.objects;
    end_scarcity();
    tell_of_room();
    CADRE_STORE_STEP(entry_listed);
  }
  // With what is on disk, and the name.
  void free_blocks(std::uint32_t i) noexcept {
    object_entry& e = entries_[i];
    free_block(i);
    if (const spill_position place(details_[i].spilled.load(std::memory_order_relaxed)); place) {
      details_[i].spilled.store(0, std::memory_order_release);
      files().drop(place.file(), e.bytes);
    }
    if (const std::uint64_t block = e.name_offset.load(std::memory_order_relaxed); block != no_offset) {
      e.name_offset.store(no_offset, std::memory_order_release);
      memory_.blocks().free(block, details_[i].name_bytes);
    }
    CADRE_STORE_STEP(block_freed);
  }
  // Free memory is dear to get anew, so some is kept: a quarter of the capacity, and at least 256 MiB.
  template <class Run>
  void give_back(const Run& run) noexcept {
    const std::uint64_t free =
        head_.present_extents.load(std::memory_order_relaxed) * extent_bytes - memory_.blocks().used();
    const std::uint64_t kept = head_.capacity / 4 > (256 << 20) ? head_.capacity / 4 : 256 << 20;
    if (static_cast<std::int64_t>(free) > static_cast<std::int64_t>(kept)) memory_.give_back(run.offset, run.bytes);
  }

  arena& memory_;
  store_header& head_;
  object_entry* entries_;
  object_details* details_;
  name_table names_;
  std::uint32_t slot_;
  hold_count* mine_;
  const std::uint32_t pid_ = static_cast<std::uint32_t>(::getpid());
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
