#ifndef CADRE_CORE_PERMUTATION_HPP
#define CADRE_CORE_PERMUTATION_HPP

#include <cadre/core/hash.hpp>
#include <cadre/core/random.hpp>

#include <array>
#include <bit>
#include <cstdint>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// A shuffle of 0 .. n-1 without a buffer: `permutation{n, seed, round}[i]` is where position i goes, for any n and in
/// any order of asking. The same n, seed and round (an epoch, say) give the same shuffle everywhere.
///
/// A Feistel network on the smallest power of two that holds n, walked along its cycle until it falls below n (Black
/// and Rogaway, "Ciphers with arbitrary finite domains", 2002): fewer than two steps on average. Up to 64 elements
/// are shuffled exactly (Fisher and Yates) into the object itself. Not for cryptography. Immutable, so any number of
/// threads may read one.
class permutation {
 public:
  permutation(std::uint64_t n, std::uint64_t seed, std::uint64_t round = 0) : size_(n) {
    random_stream random{seed, "permutation", n, round};
    if (n <= small) {
      for (std::uint8_t i = 0; i < n; ++i) table_[i] = i;
      for (std::uint64_t i = n; i > 1; --i) std::swap(table_[i - 1], table_[random.below(i)]);
      return;
    }
    for (std::uint64_t& key : keys_) key = random();
    const int bits = static_cast<int>(std::bit_width(n - 1));
    low_bits_ = bits / 2;
    high_bits_ = bits - low_bits_;
  }

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

  /// The index at position `i`, i < size().
  [[nodiscard]] std::uint64_t operator[](std::uint64_t i) const noexcept {
    if (size_ <= small) return table_[i];
    do i = network(i);
    while (i >= size_);
    return i;
  }

 private:
  static constexpr std::uint64_t small = 64;
  static constexpr int rounds = 8;

  /// A bijection of words of low_bits_ + high_bits_ bits. The halves change roles from round to round, so an odd
  /// number of bits is no special case.
  [[nodiscard]] std::uint64_t network(std::uint64_t x) const noexcept {
    const std::uint64_t low_mask = (std::uint64_t{1} << low_bits_) - 1;
    const std::uint64_t high_mask = (std::uint64_t{1} << high_bits_) - 1;
    std::uint64_t low = x & low_mask, high = x >> low_bits_;
    for (int i = 0; i < rounds; i += 2) {
      high ^= scramble(low, keys_[static_cast<std::size_t>(i)]) & high_mask;
      low ^= scramble(high, keys_[static_cast<std::size_t>(i) + 1]) & low_mask;
    }
    return low | (high << low_bits_);
  }

  static std::uint64_t scramble(std::uint64_t half, std::uint64_t key) noexcept {
    std::uint64_t x = (half + key) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 32)) * 0x94D049BB133111EB;
    return x >> 32;
  }

  std::uint64_t size_;
  int low_bits_ = 0, high_bits_ = 0;
  std::array<std::uint64_t, rounds> keys_{};  // of the network
  std::array<std::uint8_t, small> table_{};   // of a small shuffle
};

CADRE_NAMESPACE_END

#endif
