#ifndef CADRE_STORE_DETAIL_LAYOUT_HPP
#define CADRE_STORE_DETAIL_LAYOUT_HPP

#include <cadre/config/config.hpp>
#include <cadre/os/robust_mutex.hpp>

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What lies in the memory of a store, which every process maps somewhere else: numbers and offsets, never a pointer.
/// docs/store.md has the picture and says why each state survives a SIGKILL.
inline constexpr std::uint64_t store_magic = 0x65726f7473646163;  // "cadstore"
inline constexpr std::uint32_t store_layout_version = 2;
inline constexpr std::uint32_t most_processes = 512;
inline constexpr std::uint64_t extent_bytes = std::uint64_t{2} << 20;  // what memory is made present by
inline constexpr std::uint64_t no_offset = ~std::uint64_t{0};
inline constexpr std::uint32_t no_index = ~std::uint32_t{0};

/// Where an object is in its life. Only `object_entry::word` says so; one store to it is the commit of each step.
enum class object_state : std::uint8_t {
  free,       // no object
  creating,   // its owner writes it
  sealed,     // readable, and never changed again
  spilling,   // readable, while its owner writes it to disk
  spilled,    // on disk only
  restoring,  // on disk, and its owner reads it back
  gone,       // unreadable: what is left of it ends with the last that holds it
  kept,       // no object: the entry, with its memory, waits for the next put of its owner
  preparing,  // its owner takes it for a new object
};

/// Why an object is gone.
enum class object_end : std::uint8_t { unreferenced, erased, aborted, producer_died, evicted, damaged };

/// generation | owner slot | why it is gone | readable | state.
class object_word {
 public:
  constexpr object_word() = default;
  constexpr explicit object_word(std::uint64_t value) : value_(value) {}
  constexpr object_word(std::uint32_t generation, object_state state, std::uint32_t owner = 0, object_end end = {})
      : value_(std::uint64_t{generation} << 32 | std::uint64_t{owner} << 16 | std::uint64_t(end) << 12 |
               (state == object_state::sealed || state == object_state::spilling ? readable_bit : 0) |
               std::uint64_t(state)) {}

  [[nodiscard]] constexpr std::uint64_t value() const { return value_; }
  [[nodiscard]] constexpr object_state state() const { return object_state(value_ & 0xff); }
  [[nodiscard]] constexpr object_end end() const { return object_end(value_ >> 12 & 0xf); }
  [[nodiscard]] constexpr std::uint32_t owner() const { return std::uint32_t(value_ >> 16 & 0xffff); }
  [[nodiscard]] constexpr std::uint32_t generation() const { return std::uint32_t(value_ >> 32); }
  [[nodiscard]] constexpr bool readable() const { return (value_ & readable_bit) != 0; }
  [[nodiscard]] constexpr bool readable_as(std::uint32_t generation) const {
    return (value_ & (generation_bits | readable_bit)) == (std::uint64_t{generation} << 32 | readable_bit);
  }

 private:
  static constexpr std::uint64_t readable_bit = 1 << 8;
  static constexpr std::uint64_t generation_bits = ~std::uint64_t{0} << 32;
  std::uint64_t value_ = 0;
};

/// A number that one process changes while others may read it; what orders that is the word of the entry.
template <class T>
class relaxed {
 public:
  operator T() const noexcept { return value_.load(std::memory_order_relaxed); }
  relaxed& operator=(T value) noexcept {
    value_.store(value, std::memory_order_relaxed);
    return *this;
  }
  // For one that no other changes at the same time.
  relaxed& operator|=(T bits) noexcept { return *this = *this | bits; }
  relaxed& operator&=(T bits) noexcept { return *this = *this & bits; }

 private:
  std::atomic<T> value_;
};

/// One object. The entry table is the only truth about objects; allocator, free lists and the index of names are made
/// anew from it. All is changed under the lock, but that its owner seals an object, keeps what it alone has had, and takes
/// that for a new one without; and constant while anybody holds the object readable.
struct alignas(64) object_entry {
  std::atomic<std::uint64_t> word;
  std::atomic<std::uint64_t> offset;   // of its block in the data; no_offset: it has none
  relaxed<std::uint64_t> bytes;        // of the block
  std::atomic<std::uint64_t> holders;  // slots 0 to 63 whose counts may be other than 0; the rest in holders_above
  relaxed<std::uint32_t> flags;
  std::atomic<std::uint32_t> event;    // futex of those who wait for a change of state: bit 0 says that there are any
  std::atomic<std::uint32_t> used_at;  // the store's clock at the last get
  std::uint32_t in_flight;             // tickets that name it; derived
  std::uint32_t next;                  // free entry, or next of its bucket of names; derived
  relaxed<std::uint32_t> creator;      // pid
  std::atomic<std::uint64_t> name_offset;  // of the block that has its name; no_offset: none has
};
static_assert(sizeof(object_entry) == 64);

/// The other half of an entry, so that a look at all objects meets only what it needs.
struct alignas(64) object_details {
  relaxed<std::uint64_t> type;  // hash of the label of its type
  relaxed<std::uint32_t> site;  // label of the call that made it
  std::uint32_t name_bytes;
  std::uint64_t name_hash;
  std::atomic<std::uint64_t> spilled;  // a spill_position: where it is on disk, while it is in memory too perhaps
  std::uint64_t checksum;              // of what is there
  char short_name[24];
};
static_assert(sizeof(object_details) == 64);

// Flags, under the lock.
inline constexpr std::uint32_t object_evictable = 1;   // may be dropped when memory is short
inline constexpr std::uint32_t object_named = 2;       // found by its name, which holds it
inline constexpr std::uint32_t object_weak_name = 8;   // the name does not hold it
inline constexpr std::uint32_t object_held_above = 4;  // by slots of 64 and more
inline constexpr std::uint32_t object_sent = 16;       // a ref was sent, so others may have it

/// What one process holds of one object: views in the low half, refs in the high half. Only its process counts. The
/// others set `notify`, so that a view ends under the lock; so does `closing`, when its process closes the store. Of a
/// process that has died the counts are void, so that no SIGKILL can tear one.
using hold_count = std::atomic<std::uint64_t>;
inline constexpr std::uint64_t hold_view = 1;
inline constexpr std::uint64_t hold_ref = std::uint64_t{1} << 32;
inline constexpr std::uint64_t hold_closing = std::uint64_t{1} << 62;
inline constexpr std::uint64_t hold_notify = std::uint64_t{1} << 63;
inline constexpr std::uint32_t views_of(std::uint64_t count) { return std::uint32_t(count); }
inline constexpr std::uint32_t refs_of(std::uint64_t count) { return std::uint32_t(count >> 32) & 0x3fffffff; }

/// A process of the job. Alive as long as it has the byte of its slot locked.
struct alignas(64) process_slot {
  std::atomic<std::uint32_t> used;
  std::uint32_t pid;
  std::int32_t rank;                 // -1: none
  std::uint32_t generation;          // how often the slot was taken
  std::atomic<std::uint32_t> keeps;  // 1: there may be entries that are kept for it
};

/// A process as others name it: never the same as one that had its slot before.
inline constexpr std::uint32_t any_process = ~std::uint32_t{0};
inline std::uint32_t process_number(std::uint32_t slot, const process_slot& p) {
  return p.generation % (1u << 22) * most_processes + slot;
}

/// A set of slots of processes.
class slot_set {
 public:
  void add(std::uint32_t slot) noexcept { words_[slot / 64] |= std::uint64_t{1} << slot % 64; }
  [[nodiscard]] bool has(std::uint32_t slot) const noexcept {
    return slot < most_processes && (words_[slot / 64] >> slot % 64 & 1) != 0;
  }
  [[nodiscard]] std::uint64_t word(std::uint32_t k) const noexcept { return words_[k]; }
  template <class F>
  void for_each(F&& f) const {
    for (std::uint32_t k = 0; k < most_processes / 64; ++k)
      for (std::uint64_t bits = words_[k]; bits != 0; bits &= bits - 1)
        f(64 * k + static_cast<std::uint32_t>(std::countr_zero(bits)));
  }

 private:
  std::uint64_t words_[most_processes / 64] = {};
};

/// A ref on its way to another process: holds the object for its sender until it is taken.
struct alignas(32) transfer_ticket {
  std::atomic<std::uint32_t> used;  // the commit: 0 or 1
  std::uint32_t generation;         // of the ticket
  std::uint32_t index;              // of the object
  std::uint16_t from;               // slots
  std::uint16_t to;                 // any_receiver: whoever reads it
  std::uint32_t next;               // free ticket; derived
};
inline constexpr std::uint16_t any_receiver = 0xffff;

/// A text that is never removed: the label of a type, or file:line of a call.
struct store_label {
  std::atomic<std::uint64_t> key;  // 0: free; written last
  char text[248];
};
inline constexpr std::uint32_t most_labels = 1 << 14;

/// A file of spilled objects.
struct spill_file_entry {
  std::uint32_t number;  // plus 1; 0: free
  std::uint32_t state;   // of spill_table
  std::uint64_t live;    // bytes that are wanted
  std::uint64_t bytes;
};
inline constexpr std::uint32_t most_spill_files = 1 << 14;

/// Offsets of the parts, in bytes from the beginning; the file is sparse, what is never touched costs nothing.
struct store_parts {
  std::uint64_t slots, entries, details, holders_above, counts, tickets, labels, files, buckets, allocator, present,
      data, all;
};

struct store_header {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t most_objects;  // a power of two
  std::uint64_t capacity;      // bytes of data, a multiple of extent_bytes
  std::array<std::uint64_t, 2> id;
  store_parts parts;
  char spill_dir[1024];  // empty: none
  alignas(64) robust_mutex mutex;
  std::atomic<std::uint32_t> lock_holder;  // pid, for messages

  // Under the lock. Of these entries_begun and name_buckets are not derived; entries from the former on have never been used.
  alignas(64) std::uint32_t entries_begun;
  std::uint32_t tickets_begun;
  std::uint32_t free_entry;
  std::uint32_t free_ticket;
  std::uint32_t files_begun;
  std::atomic<std::uint32_t> dead_files;  // whether there are any, perhaps
  std::uint64_t objects;
  std::uint32_t names;
  std::uint32_t name_buckets;  // a power of two
  std::atomic<std::uint64_t> present_extents;

  std::atomic<std::uint32_t> scarce;     // 1: memory or entries were short, so nothing is kept
  std::atomic<std::int64_t> last_sweep;  // by one who waits; nanoseconds of CLOCK_MONOTONIC

  alignas(64) std::atomic<std::uint32_t> clock;  // goes on with what is put; orders objects by their last use
  // The futexes change only if somebody waits: who does sets `waiters` each time before it looks and sleeps, who wakes
  // clears it. A count would be wrong for ever after a waiter was killed.
  alignas(64) std::atomic<std::uint32_t> seals;  // changes with a seal or an end
  std::atomic<std::uint32_t> seal_waiters;
  alignas(64) std::atomic<std::uint32_t> room;  // changes when memory becomes free
  std::atomic<std::uint32_t> room_waiters;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
