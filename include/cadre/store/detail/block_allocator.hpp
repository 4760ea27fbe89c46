#ifndef CADRE_STORE_DETAIL_BLOCK_ALLOCATOR_HPP
#define CADRE_STORE_DETAIL_BLOCK_ALLOCATOR_HPP

#include <cadre/config/config.hpp>
#include <cadre/store/detail/run_allocator.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The sizes of blocks that slabs hold: multiples of 64 bytes up to 512, then four to a doubling.
struct slab_classes {
  static constexpr std::uint32_t unit = 64;
  static constexpr std::uint32_t slab_bytes = 65536;
  static constexpr std::uint32_t largest = 8192;
  static constexpr std::uint32_t count = 24;

  std::uint32_t bytes[count] = {};
  std::uint32_t blocks[count] = {};   // per slab
  std::uint32_t inverse[count] = {};  // 2^20 / units, rounded up: units < 1024 are divided by it exactly
  std::uint8_t of_units[largest / unit + 1] = {};

  constexpr slab_classes() {
    std::uint32_t units = 0;
    std::uint32_t step = 1;
    for (std::uint32_t c = 0; c < count; ++c) {
      if (units == 8 * step) step *= 2;
      for (std::uint32_t i = 0; i < step; ++i) of_units[++units] = static_cast<std::uint8_t>(c);
      bytes[c] = units * unit;
      blocks[c] = slab_bytes / bytes[c];
      inverse[c] = ((1u << 20) + units - 1) / units;
    }
  }
};

/// Says where in an arena an object may lie; the arena itself it never touches. Up to 8 KiB a block comes from a slab,
/// which is 64 KiB that hold blocks of one size only; sizes are multiples of 64 bytes, with four steps per doubling.
/// Larger blocks are runs of 4 KiB.
///
/// What it knows lies in the state, which several processes may map at different addresses: there is no pointer in it.
/// An object is one process's view. All calls are made under one lock, which the caller holds; none throws.
///
/// The state is an index, derived from a table of what is live, and made anew from that when a process died while it
/// changed it. It takes about 0.6 % of the arena's size, of which only what is used is touched, if the mapping is sparse.
class block_allocator {
 public:
  static constexpr std::uint64_t none = ~std::uint64_t{0};
  static constexpr std::uint64_t granule = 4096;
  static constexpr std::uint64_t largest_block = slab_classes::largest;  ///< of a slab
  static constexpr std::uint64_t most_bytes = granule * run_allocator::most_granules;

  /// A part of the arena, in bytes.
  struct extent {
    std::uint64_t offset;
    std::uint64_t bytes;
  };

  /// How much memory the state takes. `arena_bytes` is a multiple of 2 MiB, at most most_bytes and not 0.
  [[nodiscard]] static constexpr std::size_t state_bytes(std::uint64_t arena_bytes) noexcept {
    return slab_state_bytes(arena_bytes) + run_allocator::state_bytes(granules(arena_bytes));
  }

  /// A view of a state, which is aligned to 4096 bytes and outlives it. Of a new state, format() comes first.
  block_allocator(std::byte* state, std::uint64_t arena_bytes) noexcept
      : header_(reinterpret_cast<header*>(state)),
        slabs_(reinterpret_cast<slab*>(state + sizeof(header))),
        runs_(state + slab_state_bytes(arena_bytes), granules(arena_bytes)) {}

  /// Makes everything free, whatever was before. O(1).
  void format() noexcept {
    clear();
    runs_.format();
  }

  /// The offset of a block of at least so many bytes (none count as one), or `none` if there is no room. Blocks are
  /// aligned to 64 bytes, those above 8 KiB to 4096.
  [[nodiscard]] std::uint64_t allocate(std::uint64_t bytes) noexcept {
    if (bytes > largest_block) return allocate_run(bytes);
    const std::uint32_t c = class_of(bytes);
    std::uint32_t s = header_->partial[c];
    if (s == no_slab) [[unlikely]] {
      s = another_slab(c);
      if (s == no_slab) return none;
    }
    const auto word = static_cast<std::uint32_t>(std::countr_zero(slabs_[s].words_with_free));
    const std::uint32_t block = word * 64 + static_cast<std::uint32_t>(std::countr_zero(slabs_[s].free[word]));
    take(s, c, block);
    return s * slab_bytes + block * classes.bytes[c];
  }

  /// Frees a block; `bytes` is what was asked for. Returns what is free around it now, down to whole granules: the free
  /// run that grew by this, or nothing if the block's slab stays. An empty slab that is kept for its size and given up
  /// later, when room is short, is not told of by itself: it is a part of what is told when a neighbour is freed.
  extent free(std::uint64_t offset, std::uint64_t bytes) noexcept {
    if (bytes > largest_block) {
      header_->used -= size_of(bytes);
      return free_run(offset);
    }
    const std::uint32_t c = class_of(bytes);
    const std::uint32_t s = slab_of(offset);
    const std::uint32_t block = block_of(offset, c);
    slab& b = slabs_[s];
    b.free[block / 64] |= std::uint64_t{1} << block % 64;
    b.words_with_free |= 1u << block / 64;
    header_->used -= classes.bytes[c];
    if (b.live-- == classes.blocks[c]) link(s, c);
    return b.live == 0 ? retire(s, c) : extent{0, 0};
  }

  /// What a block of so many bytes takes from the arena.
  [[nodiscard]] static constexpr std::uint64_t size_of(std::uint64_t bytes) noexcept {
    return bytes > largest_block ? (bytes + granule - 1) & ~(granule - 1) : classes.bytes[class_of(bytes)];
  }

  /// Blocks of so many bytes, at most largest_block, differ in size if and only if this does; below class_count.
  static constexpr std::uint32_t class_count = slab_classes::count;
  [[nodiscard]] static constexpr std::uint32_t class_of(std::uint64_t bytes) noexcept {
    return classes.of_units[(bytes + unit - 1) / unit];
  }

  /// The sum of size_of() of the live blocks.
  [[nodiscard]] std::uint64_t used() const noexcept { return header_->used; }
  [[nodiscard]] std::uint64_t capacity() const noexcept { return runs_.granules() * granule; }
  /// What is free and in no slab. capacity() - used() - free_in_runs() is what lies idle in slabs.
  [[nodiscard]] std::uint64_t free_in_runs() const noexcept { return runs_.free_granules() * granule; }

  /// The most bytes that one allocate() could give now; gives up slabs without blocks, as allocate() does before it fails.
  /// Up to 8 KiB may find no room though more would: a slab needs 64 KiB at a multiple of 64 KiB.
  [[nodiscard]] std::uint64_t largest_free() noexcept {
    release_spares();
    const std::uint64_t largest = runs_.largest_free() * granule;
    if (largest > largest_block) return largest;
    for (std::uint32_t c = class_count; c-- > 0;)
      if (header_->partial[c] != no_slab) return classes.bytes[c];
    return 0;
  }

  /// Makes the state anew, whatever it holds: begin_rebuild(), then keep() for each live block, in any order, with the
  /// bytes that were asked for, then end_rebuild(), and no other calls between. Afterwards all is as if only these had ever
  /// been allocated. Costs O(live blocks + arena / 128 MiB).
  void begin_rebuild() noexcept {
    clear();
    runs_.begin_rebuild();
  }
  void keep(std::uint64_t offset, std::uint64_t bytes) noexcept {
    const auto first = static_cast<std::uint32_t>(offset / granule);
    if (bytes > largest_block) {
      runs_.keep(first, granules(size_of(bytes)));
      header_->used += size_of(bytes);
      return;
    }
    const std::uint32_t c = class_of(bytes);
    const std::uint32_t s = slab_of(offset);
    if (!runs_.kept(s * slab_granules)) {
      runs_.keep(s * slab_granules, slab_granules);
      open(s, c);
    }
    take(s, c, block_of(offset, c));
  }
  void end_rebuild() noexcept { runs_.end_rebuild(); }

 private:
  static constexpr std::uint64_t unit = slab_classes::unit;
  static constexpr std::uint64_t slab_bytes = slab_classes::slab_bytes;
  static constexpr std::uint32_t slab_granules = slab_bytes / granule;
  static constexpr std::uint32_t no_slab = run_allocator::none;

  struct alignas(64) slab {
    std::uint32_t next;
    std::uint32_t previous;
    std::uint32_t live;
    std::uint32_t words_with_free;  // a bit per word of `free` that is not 0
    std::uint64_t free[slab_bytes / unit / 64];
  };
  struct alignas(4096) header {
    std::uint64_t used;
    std::uint32_t partial[class_count];  // lists of slabs that have both live and free blocks
    std::uint32_t spare[class_count];    // one slab without live blocks, in no list, against going to and fro
  };

  static constexpr slab_classes classes{};

  static constexpr std::uint32_t granules(std::uint64_t bytes) noexcept {
    return static_cast<std::uint32_t>(bytes / granule);
  }
  static constexpr std::size_t slab_state_bytes(std::uint64_t arena_bytes) noexcept {
    return sizeof(header) + (arena_bytes / slab_bytes * sizeof(slab) + 4095) / 4096 * 4096;
  }
  static constexpr std::uint32_t slab_of(std::uint64_t offset) noexcept {
    return static_cast<std::uint32_t>(offset / slab_bytes);
  }
  static constexpr std::uint32_t block_of(std::uint64_t offset, std::uint32_t c) noexcept {
    return static_cast<std::uint32_t>(offset % slab_bytes / unit) * classes.inverse[c] >> 20;
  }

  void clear() noexcept {
    header_->used = 0;
    for (std::uint32_t& s : header_->partial) s = no_slab;
    for (std::uint32_t& s : header_->spare) s = no_slab;
  }

  void take(std::uint32_t s, std::uint32_t c, std::uint32_t block) noexcept {
    slab& b = slabs_[s];
    std::uint64_t& word = b.free[block / 64];
    word &= ~(std::uint64_t{1} << block % 64);
    if (word == 0) b.words_with_free &= ~(1u << block / 64);
    if (++b.live == classes.blocks[c]) unlink(s, c);
    header_->used += classes.bytes[c];
  }

  [[gnu::noinline]] std::uint32_t another_slab(std::uint32_t c) noexcept {
    if (const std::uint32_t spare = header_->spare[c]; spare != no_slab) {
      header_->spare[c] = no_slab;
      link(spare, c);
      return spare;
    }
    const std::uint32_t first = find_run(slab_granules, slab_granules);
    if (first == run_allocator::none) return no_slab;
    open(first / slab_granules, c);
    return first / slab_granules;
  }

  // Begins a slab in which all is free.
  void open(std::uint32_t s, std::uint32_t c) noexcept {
    slab& b = slabs_[s];
    const std::uint32_t blocks = classes.blocks[c];
    const std::uint32_t full_words = blocks / 64;
    for (std::uint32_t word = 0; word < full_words; ++word) b.free[word] = ~std::uint64_t{0};
    if (blocks % 64 != 0) b.free[full_words] = (std::uint64_t{1} << blocks % 64) - 1;
    b.words_with_free = (1u << (blocks + 63) / 64) - 1;
    b.live = 0;
    link(s, c);
  }

  // Its last block was freed.
  extent retire(std::uint32_t s, std::uint32_t c) noexcept {
    unlink(s, c);
    if (header_->spare[c] != no_slab) return free_run(s * slab_bytes);
    header_->spare[c] = s;
    return {0, 0};
  }

  bool release_spares() noexcept {
    bool any = false;
    for (std::uint32_t& spare : header_->spare)
      if (spare != no_slab) {
        runs_.free(spare * slab_granules);
        spare = no_slab;
        any = true;
      }
    return any;
  }

  void link(std::uint32_t s, std::uint32_t c) noexcept {
    const std::uint32_t next = header_->partial[c];
    if (next != no_slab) slabs_[next].previous = s;
    slabs_[s].next = next;
    slabs_[s].previous = no_slab;
    header_->partial[c] = s;
  }
  void unlink(std::uint32_t s, std::uint32_t c) noexcept {
    const std::uint32_t next = slabs_[s].next;
    const std::uint32_t previous = slabs_[s].previous;
    if (next != no_slab) slabs_[next].previous = previous;
    (previous != no_slab ? slabs_[previous].next : header_->partial[c]) = next;
  }

  [[nodiscard]] std::uint64_t allocate_run(std::uint64_t bytes) noexcept {
    if (bytes > capacity()) return none;
    const std::uint32_t first = find_run(granules(size_of(bytes)), 1);
    if (first == run_allocator::none) return none;
    header_->used += size_of(bytes);
    return first * granule;
  }
  [[nodiscard]] std::uint32_t find_run(std::uint32_t n, std::uint32_t alignment) noexcept {
    const std::uint32_t first = runs_.allocate(n, alignment);
    return first != run_allocator::none || !release_spares() ? first : runs_.allocate(n, alignment);
  }
  extent free_run(std::uint64_t offset) noexcept {
    const run_allocator::run free = runs_.free(static_cast<std::uint32_t>(offset / granule));
    return {free.first * granule, free.count * granule};
  }

  header* header_;
  slab* slabs_;
  run_allocator runs_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
