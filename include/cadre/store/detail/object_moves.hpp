#ifndef CADRE_STORE_DETAIL_OBJECT_MOVES_HPP
#define CADRE_STORE_DETAIL_OBJECT_MOVES_HPP

#include <cadre/store/detail/object_table.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The steps in which objects go to disk and come back, under the lock of the store; what is between a begin and its commit
/// is done without. The process that does it owns the object meanwhile, and holds a view of it.
class object_moves {
 public:
  explicit object_moves(object_table& table) noexcept : table_(table) {}

  /// Finds up to `most` objects to be moved to disk, of at least `bytes` together if there are such, those not used for
  /// longest first; with `written` only those that are on disk already. Returns how many. Cost as evict().
  std::size_t begin_spill(std::uint64_t bytes, std::uint32_t* found, std::size_t most, bool written) noexcept {
    std::size_t n = 0;
    std::uint64_t moved = 0;
    table_.by_last_use(
        [&](std::uint32_t i, object_word w) {
          const object_entry& e = table_.entry(i);
          return (e.flags & object_evictable) == 0 && table_.is_idle(i, w) &&
                 (!written || table_.details(i).spilled.load(std::memory_order_relaxed) != 0);
        },
        [&](std::uint32_t i, object_word w) {
          if (!table_.change(i, w, object_word(w.generation(), object_state::spilling, table_.slot()))) return false;
          CADRE_STORE_STEP(spill_begun);
          table_.mark_holder(i);
          table_.mine(i).fetch_add(hold_view, std::memory_order_relaxed);
          found[n++] = i;
          moved += block_allocator::size_of(table_.entry(i).bytes);
          return moved >= bytes || n == most;
        });
    return n;
  }
  /// The object is on disk, at `place` (none: where it was before, or has been moved to meanwhile): its memory is freed,
  /// unless somebody looks at it or it has ended meanwhile.
  void commit_spill(std::uint32_t i, spill_position place, std::uint64_t checksum) noexcept {
    object_entry& e = table_.entry(i);
    if (place) {
      table_.details(i).checksum = checksum;
      table_.details(i).spilled.store(place.value(), std::memory_order_release);
    }
    CADRE_STORE_STEP(spill_written);
    table_.mine(i).fetch_sub(hold_view, std::memory_order_seq_cst);
    const object_word w = table_.word(i);
    if (w.state() == object_state::spilling) {
      e.word.store(object_word(w.generation(), object_state::spilled).value(), std::memory_order_seq_cst);
      CADRE_STORE_STEP(spill_committed);
      // A get either finds it spilled, or has counted its view before this looks.
      if (table_.count_holding(i, false).views)
        e.word.store(object_word(w.generation(), object_state::sealed).value(), std::memory_order_release);
      else
        table_.free_block(i);
      CADRE_STORE_STEP(spill_freed);
    }
    table_.settle(i);
  }
  /// By the owner.
  void give_up_spill(std::uint32_t i) noexcept {
    table_.mine(i).fetch_sub(hold_view, std::memory_order_release);
    if (table_.word(i).state() == object_state::spilling) cancel_spill(i);
    table_.settle(i);
  }
  /// Has this process read a spilled object back, which it holds a view of. False if somebody else does, or has.
  bool begin_restore(std::uint32_t i) noexcept {
    const object_word w = table_.word(i);
    if (w.state() != object_state::spilled) return false;
    table_.mine(i).fetch_add(hold_view, std::memory_order_relaxed);
    table_.entry(i).word.store(object_word(w.generation(), object_state::restoring, table_.slot()).value(),
                               std::memory_order_release);
    CADRE_STORE_STEP(restore_begun);
    return true;
  }
  void commit_restore(std::uint32_t i) noexcept {
    object_entry& e = table_.entry(i);
    const object_word w = table_.word(i);
    if (w.state() == object_state::restoring)
      e.word.store(object_word(w.generation(), object_state::sealed).value(), std::memory_order_seq_cst);
    CADRE_STORE_STEP(restore_committed);
    end_restore(i);
  }
  void give_up_restore(std::uint32_t i) noexcept {
    if (table_.word(i).state() == object_state::restoring) cancel_restore(i);
    end_restore(i);
  }
  /// For a copy of what is on disk to another place: the object stays until end_move(), with where it is then, if it was.
  void begin_move(std::uint32_t i) noexcept {
    table_.mark_holder(i);
    table_.mine(i).fetch_add(hold_view, std::memory_order_relaxed);
    CADRE_STORE_STEP(move_begun);
  }
  void end_move(std::uint32_t i, spill_position moved) noexcept {
    if (moved) {
      const spill_position before(table_.details(i).spilled.load(std::memory_order_relaxed));
      table_.details(i).spilled.store(moved.value(), std::memory_order_release);
      CADRE_STORE_STEP(move_committed);
      table_.files().drop(before.file(), table_.entry(i).bytes);
    }
    table_.mine(i).fetch_sub(hold_view, std::memory_order_release);
    table_.settle(i);
  }

  // ---- back to what was before

  void cancel_spill(std::uint32_t i) noexcept {
    table_.entry(i).word.store(object_word(table_.word(i).generation(), object_state::sealed).value(),
                               std::memory_order_release);
  }
  void cancel_restore(std::uint32_t i) noexcept {
    table_.free_block(i);
    table_.entry(i).word.store(object_word(table_.word(i).generation(), object_state::spilled).value(),
                               std::memory_order_release);
  }

 private:
  void end_restore(std::uint32_t i) noexcept {
    table_.mine(i).fetch_sub(hold_view, std::memory_order_seq_cst);
    table_.tell(table_.entry(i));
    table_.settle(i);
  }

  object_table& table_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
