#ifndef CADRE_STORE_DETAIL_RUN_ALLOCATOR_HPP
#define CADRE_STORE_DETAIL_RUN_ALLOCATOR_HPP

#include <cadre/config/config.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Hands out runs of neighbouring granules (pages of 4 KiB, to who uses it; here they are but numbers). Two-level
/// segregated fit: free runs hang in lists by size, 16 bins to a doubling, with a bit per bin that says whether it has any
/// (M. Masmano et al., "TLSF: a new dynamic memory allocator for real-time systems", ECRTS 2004). Free neighbours are
/// always one run.
///
/// What it knows lies in the state, which several processes may map at different addresses: there is no pointer in it.
/// An object is one process's view. All calls are made under one lock, which the caller holds; none throws.
///
/// The state is large, 12 bytes and a bit per granule, but meant to be a sparse mapping: allocated runs touch 8 bytes of
/// it, free ones 16. Nothing is read that was not written since format() or begin_rebuild(), so it may hold anything before.
class run_allocator {
 public:
  static constexpr std::uint32_t none = 0xFFFFFFFF;
  static constexpr std::uint32_t most_granules = std::uint32_t{1} << 28;

  struct run {
    std::uint32_t first;
    std::uint32_t count;
  };

  /// How much memory the state takes. 0 < granules <= most_granules.
  [[nodiscard]] static constexpr std::size_t state_bytes(std::uint32_t granules) noexcept {
    return sizeof(header) + whole_pages(granules * sizeof(std::uint32_t)) + whole_pages(granules * sizeof(link)) +
           whole_pages((std::size_t{granules} + 7) / 8);
  }

  /// A view of a state, which is aligned to 4096 bytes and outlives it. Of a new state, format() comes first.
  run_allocator(std::byte* state, std::uint32_t granules) noexcept
      : header_(reinterpret_cast<header*>(state)),
        tags_(reinterpret_cast<std::uint32_t*>(state + sizeof(header))),
        links_(reinterpret_cast<link*>(state + sizeof(header) + whole_pages(granules * sizeof(std::uint32_t)))),
        kept_(reinterpret_cast<std::uint64_t*>(reinterpret_cast<std::byte*>(links_) +
                                               whole_pages(granules * sizeof(link)))),
        granules_(granules) {}

  /// Makes everything free, whatever was before. O(1).
  void format() noexcept {
    clear();
    insert(0, granules_);
  }

  /// The first of n > 0 granules that were free, a multiple of `alignment`, which is a power of two; or none. O(1), unless
  /// all that is left are runs of about that size: then it looks through these, so that what fits somewhere is found.
  [[nodiscard]] std::uint32_t allocate(std::uint32_t n, std::uint32_t alignment = 1) noexcept {
    std::uint32_t from = find(n, alignment, looks);
    if (from == none) from = find(n, alignment, none);
    if (from == none) return none;
    const std::uint32_t end = from + count(from);
    const std::uint32_t first = aligned(from, alignment);
    remove(from);
    if (from != first) insert(from, first - from);
    if (first + n != end) insert(first + n, end - (first + n));
    tag(first, n, false);
    return first;
  }

  /// Frees what allocate() or keep() gave and returns the free run of which it is now a part. O(1).
  run free(std::uint32_t first) noexcept {
    std::uint32_t end = first + count(first);
    if (first > 0 && is_free(first - 1)) {
      first -= count(first - 1);
      remove(first);
    }
    if (end < granules_ && is_free(end)) {
      const std::uint32_t right = end;
      end += count(right);
      remove(right);
    }
    insert(first, end - first);
    return {first, end - first};
  }

  [[nodiscard]] std::uint32_t granules() const noexcept { return granules_; }
  [[nodiscard]] std::uint32_t free_granules() const noexcept { return header_->free; }

  /// The largest n that allocate(n) would find. Looks through the runs of about that size.
  [[nodiscard]] std::uint32_t largest_free() const noexcept {
    for (std::uint32_t word = words; word-- > 0;)
      if (header_->occupied[word] != 0) {
        std::uint32_t largest = 0;
        const auto bin = word * 64 + static_cast<std::uint32_t>(std::bit_width(header_->occupied[word])) - 1;
        for (std::uint32_t at = header_->heads[bin]; at != none; at = links_[at].next)
          if (count(at) > largest) largest = count(at);
        return largest;
      }
    return 0;
  }

  /// Makes the state anew from what is allocated, whatever it holds: begin_rebuild(), then keep() for each allocated run,
  /// in any order, then end_rebuild(); no other calls but kept() between. O(1), O(1), and O(kept runs + granules / 2^15).
  void begin_rebuild() noexcept {
    clear();
    for (std::uint64_t& page : header_->kept_pages) page = 0;
  }
  /// The run must not overlap another one that is kept.
  void keep(std::uint32_t first, std::uint32_t n) noexcept {
    tags_[first] = n << 1;  // the tag at its end waits for the sweep, which goes through memory in order
    const std::uint32_t page = first / page_bits;
    std::uint64_t& pages = header_->kept_pages[page / 64];
    if ((pages >> page % 64 & 1) == 0) {
      pages |= std::uint64_t{1} << page % 64;
      for (std::uint32_t word = 0; word < page_bits / 64; ++word) kept_[page * (page_bits / 64) + word] = 0;
    }
    kept_[first / 64] |= std::uint64_t{1} << first % 64;
  }
  /// Whether a run that begins there has been kept since begin_rebuild().
  [[nodiscard]] bool kept(std::uint32_t first) const noexcept {
    const std::uint32_t page = first / page_bits;
    return (header_->kept_pages[page / 64] >> page % 64 & 1) != 0 && (kept_[first / 64] >> first % 64 & 1) != 0;
  }
  void end_rebuild() noexcept {
    std::uint32_t end = 0;  // of the last run
    for_each_bit(header_->kept_pages, (granules_ - 1) / (page_bits * 64) + 1, 0, [&](std::uint32_t page) {
      for_each_bit(kept_ + page * (page_bits / 64), page_bits / 64, page * page_bits, [&](std::uint32_t first) {
        if (first != end) insert(end, first - end);
        tag(first, count(first), false);
        end = first + count(first);
      });
    });
    if (end != granules_) insert(end, granules_ - end);
  }

 private:
  static constexpr std::uint32_t steps = 16;  // bins per doubling
  static constexpr std::uint32_t words = 7;   // of 64 bins: enough for most_granules
  static constexpr std::uint32_t looks = 8;   // runs of a bin that may or may not fit
  static constexpr std::uint32_t page_bits = 4096 * 8;

  struct link {
    std::uint32_t next;
    std::uint32_t previous;
  };
  struct alignas(4096) header {
    std::uint32_t free;                                          // granules
    std::uint64_t occupied[words];                               // a bit per bin that has a free run
    std::uint32_t heads[words * 64];                             // of the lists of bins that have
    std::uint64_t kept_pages[most_granules / (page_bits * 64)];  // a bit per page of kept_ that is valid
  };
  static_assert(sizeof(header) == 4096);

  static constexpr std::size_t whole_pages(std::size_t bytes) noexcept { return (bytes + 4095) & ~std::size_t{4095}; }

  // Bins of runs below `steps` granules hold one size each.
  static constexpr std::uint32_t bin_of(std::uint32_t n) noexcept {
    if (n < steps) return n;
    const auto shift = static_cast<std::uint32_t>(std::bit_width(n / steps)) - 1;
    return shift * steps + (n >> shift);
  }

  static constexpr std::uint32_t aligned(std::uint32_t first, std::uint32_t alignment) noexcept {
    return (first + alignment - 1) & ~(alignment - 1);
  }

  template <class Visit>
  static void for_each_bit(const std::uint64_t* bits, std::uint32_t n, std::uint32_t number, Visit visit) noexcept {
    for (std::uint32_t word = 0; word < n; ++word)
      for (std::uint64_t left = bits[word]; left != 0; left &= left - 1)
        visit(number + word * 64 + static_cast<std::uint32_t>(std::countr_zero(left)));
  }

  void clear() noexcept {
    header_->free = 0;
    for (std::uint64_t& word : header_->occupied) word = 0;
  }

  // A run's tag, at its first granule and at its last, so that both neighbours see what it is.
  void tag(std::uint32_t first, std::uint32_t n, bool is_free) noexcept {
    tags_[first] = tags_[first + n - 1] = n << 1 | std::uint32_t{is_free};
  }
  [[nodiscard]] std::uint32_t count(std::uint32_t end_of_run) const noexcept { return tags_[end_of_run] >> 1; }
  [[nodiscard]] bool is_free(std::uint32_t end_of_run) const noexcept { return (tags_[end_of_run] & 1) != 0; }

  [[nodiscard]] std::uint32_t next_bin(std::uint32_t bin) const noexcept {
    static_assert(bin_of(most_granules) < words * 64);
    std::uint32_t word = bin / 64;
    if (word >= words) return none;
    std::uint64_t bits = header_->occupied[word] & ~std::uint64_t{0} << bin % 64;
    while (bits == 0) {
      if (++word == words) return none;
      bits = header_->occupied[word];
    }
    return word * 64 + static_cast<std::uint32_t>(std::countr_zero(bits));
  }

  // A free run in which n aligned granules lie, among the first few of each bin. In bins well above n the first one does.
  [[nodiscard]] std::uint32_t find(std::uint32_t n, std::uint32_t alignment, std::uint32_t per_bin) const noexcept {
    if (n > granules_) return none;
    for (std::uint32_t bin = next_bin(bin_of(n)); bin != none; bin = next_bin(bin + 1)) {
      std::uint32_t at = header_->heads[bin];
      for (std::uint32_t i = 0; i < per_bin && at != none; ++i, at = links_[at].next)
        if (aligned(at, alignment) - at + std::uint64_t{n} <= count(at)) return at;
    }
    return none;
  }

  void insert(std::uint32_t first, std::uint32_t n) noexcept {
    const std::uint32_t bin = bin_of(n);
    std::uint64_t& word = header_->occupied[bin / 64];
    const std::uint64_t bit = std::uint64_t{1} << bin % 64;
    const std::uint32_t next = (word & bit) != 0 ? header_->heads[bin] : none;
    if (next != none) links_[next].previous = first;
    links_[first] = {next, none};
    header_->heads[bin] = first;
    word |= bit;
    tag(first, n, true);
    header_->free += n;
  }

  void remove(std::uint32_t first) noexcept {
    const link l = links_[first];
    const std::uint32_t n = count(first);
    if (l.next != none) links_[l.next].previous = l.previous;
    if (l.previous != none) {
      links_[l.previous].next = l.next;
    } else {
      const std::uint32_t bin = bin_of(n);
      header_->heads[bin] = l.next;
      if (l.next == none) header_->occupied[bin / 64] &= ~(std::uint64_t{1} << bin % 64);
    }
    header_->free -= n;
  }

  header* header_;
  std::uint32_t* tags_;
  link* links_;
  std::uint64_t* kept_;  // a bit per granule, used in a rebuild: a kept run begins there
  std::uint32_t granules_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
