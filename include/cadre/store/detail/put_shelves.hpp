#ifndef CADRE_STORE_DETAIL_PUT_SHELVES_HPP
#define CADRE_STORE_DETAIL_PUT_SHELVES_HPP

#include <cadre/observe/detail/shards.hpp>
#include <cadre/os/detail/relax.hpp>
#include <cadre/store/detail/labels.hpp>
#include <cadre/store/detail/object_table.hpp>

#include <sched.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What a thread needs to put objects without the lock of the store: entries of objects that have ended, which the table
/// keeps for this process, by size; and labels that it knows. Whoever is short of memory frees such an entry, of which the
/// shelf learns when it takes it. For one thread at a time.
class put_shelf {
 public:
  label_cache labels;

  /// Whether there is a place for one more of that size.
  [[nodiscard]] bool has_room(object_table& table, std::uint64_t bytes) noexcept {
    if (bytes <= block_allocator::largest_block) return small_[block_allocator::class_of(bytes)].count < small_count;
    std::uint64_t all = bytes;
    bool found = false;
    for (large& l : large_) {
      if (l.bytes != 0 && !table.keeps(l.entry)) l.bytes = 0;
      all += l.bytes;
      found |= l.bytes == 0;
    }
    return found && all <= table.head().capacity / 4;
  }
  /// Of an entry that the table keeps now, where there is room.
  void add(std::uint32_t i, std::uint64_t bytes) noexcept {
    if (bytes <= block_allocator::largest_block) {
      small& s = small_[block_allocator::class_of(bytes)];
      s.entries[s.count++] = i;
      return;
    }
    for (large& l : large_)
      if (l.bytes == 0) {
        l = {block_allocator::size_of(bytes), i};
        return;
      }
  }
  /// An object made of an entry of its size, or no_index.
  std::uint32_t take(object_table& table, const object_table::request& r) noexcept {
    if (r.bytes <= block_allocator::largest_block) {
      small& s = small_[block_allocator::class_of(r.bytes)];
      while (s.count != 0)
        if (const std::uint32_t i = s.entries[--s.count]; table.reuse(i, r)) return i;
      return no_index;
    }
    for (large& l : large_)
      if (l.bytes == block_allocator::size_of(r.bytes)) {
        l.bytes = 0;
        if (table.reuse(l.entry, r)) return l.entry;
      }
    return no_index;
  }

 private:
  static constexpr std::uint32_t small_count = 32, large_count = 8;
  struct small {
    std::uint32_t count = 0;
    std::array<std::uint32_t, small_count> entries;
  };
  struct large {
    std::uint64_t bytes = 0;  // 0: nothing
    std::uint32_t entry = 0;
  };
  std::array<small, block_allocator::class_count> small_;
  std::array<large, large_count> large_;
};

/// The shelves of a process, among which its threads are spread. Thread-safety: all functions, from any thread.
class put_shelves {
  struct alignas(64) place {
    std::atomic<bool> held{false};
    put_shelf shelf;
  };

 public:
  /// Holds the shelf of this thread while it exists. No thread holds two, nor waits for one with the lock of the store.
  class hold {
   public:
    explicit hold(put_shelves& all) noexcept : hold(all.places_[metric_shard()]) {}
    hold(const hold&) = delete;
    hold& operator=(const hold&) = delete;
    ~hold() { place_.held.store(false, std::memory_order_release); }

    [[nodiscard]] put_shelf* operator->() const noexcept { return &place_.shelf; }

   private:
    friend put_shelves;
    explicit hold(place& p) noexcept : place_(p) {
      for (int tries = 0; p.held.exchange(true, std::memory_order_acquire); ++tries)
        tries < 100 ? relax() : static_cast<void>(::sched_yield());
    }
    place& place_;
  };

  /// Returns when all who held one at the call have let go of it.
  void wait() noexcept {
    for (place& p : places_) const hold each(p);
  }

 private:
  std::array<place, metric_shards> places_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
