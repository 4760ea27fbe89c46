#ifndef CADRE_CORE_RANDOM_HPP
#define CADRE_CORE_RANDOM_HPP

#include <cadre/core/detail/normal_quantile.hpp>
#include <cadre/core/error.hpp>
#include <cadre/core/hash.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>

CADRE_NAMESPACE_BEGIN

/// Thrown (102) when a random integer is asked for from a range that holds none.
class empty_random_range : public error {
 public:
  explicit empty_random_range(std::string_view message) : error("core", 102, message) {}
};

/// Philox 4x32 with 10 rounds: a pure function from a 128-bit counter and a 64-bit key to 128 random bits, so that any
/// number of a sequence is had without those before it (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
/// SC'11). Not for cryptography.
[[nodiscard]] constexpr std::array<std::uint32_t, 4> philox4x32(const std::array<std::uint32_t, 4>& counter,
                                                                const std::array<std::uint32_t, 2>& key) noexcept {
  auto [c0, c1, c2, c3] = counter;
  auto [k0, k1] = key;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * c0;
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<std::uint32_t>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(b);
    c2 = static_cast<std::uint32_t>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(a);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {c0, c1, c2, c3};
}

/// What may name a stream: an integer (of any type: 3 and 3u are one name), an enumerator, or text.
template <class T>
concept stream_identifier = std::integral<T> || std::is_enum_v<T> || std::convertible_to<const T&, std::string_view>;

/// Random numbers keyed by what they are for, never by who asks first: `random_stream{seed, "dropout", layer, step}`
/// gives the same numbers in every thread, rank and run. Streams of different seeds or identifiers are independent; the
/// identifiers are an ordered list.
///
/// A stream is a position in a sequence of 2^64 draws of 64 bits. It models std::uniform_random_bit_generator. Copies
/// are cheap (48 bytes) and go their own way; one object is not for several threads at once. Integers and uniform
/// numbers are the same bits on every machine; normal ones are as far as the compiler's multiply-add contraction and
/// libm's log agree (see docs/core.md).
class random_stream {
 public:
  using result_type = std::uint64_t;

  template <stream_identifier... Identifiers>
  explicit constexpr random_stream(std::uint64_t seed, const Identifiers&... identifiers) noexcept
      : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)} {
    ((stream_ = hash_combine(stream_, name(identifiers))), ...);
  }

  static constexpr result_type min() noexcept { return 0; }
  static constexpr result_type max() noexcept { return std::numeric_limits<result_type>::max(); }

  /// The next 64 random bits.
  constexpr result_type operator()() noexcept {
    const std::uint64_t at = position_++;
    if (at % 2 == 1 && cached_ == at / 2) return join(block_[2], block_[3]);
    block_ = block(cached_ = at / 2);
    return at % 2 == 0 ? join(block_[0], block_[1]) : join(block_[2], block_[3]);
  }

  /// Uniform in [0, 1), a multiple of 2^-53.
  constexpr double uniform() noexcept { return static_cast<double>((*this)() >> 11) * 0x1p-53; }

  /// Uniform in [low, high), both finite and low <= high; `low` if the two are equal.
  constexpr double uniform(double low, double high) noexcept { return between_bounds(low, high, uniform()); }

  /// Normally distributed with mean 0 and deviation 1: the inverse of the distribution function, one draw each.
  double normal() noexcept { return detail::normal_quantile(open_unit((*this)())); }
  double normal(double mean, double deviation) noexcept { return mean + deviation * normal(); }

  /// True with the given probability.
  constexpr bool bernoulli(double probability) noexcept { return uniform() < probability; }

  /// Uniform among 0 .. n-1 without bias (Lemire, "Fast random integer generation in an interval", 2019): one draw,
  /// seldom more. Throws empty_random_range (102) if n is 0.
  constexpr std::uint64_t below(std::uint64_t n) {
    if (n == 0) throw empty_random_range("asked for a random integer below 0; the upper bound must be at least 1");
    __extension__ using wide = unsigned __int128;
    wide scaled = static_cast<wide>((*this)()) * n;
    if (static_cast<std::uint64_t>(scaled) < n) {
      const std::uint64_t threshold = (0 - n) % n;
      while (static_cast<std::uint64_t>(scaled) < threshold) scaled = static_cast<wide>((*this)()) * n;
    }
    return static_cast<std::uint64_t>(scaled >> 64);
  }

  /// Uniform among first .. last, both included, without bias. Throws empty_random_range (102) if last < first.
  template <std::integral Integer>
  constexpr Integer between(Integer first, Integer last) {
    if (last < first)
      throw empty_random_range("asked for a random integer between two bounds of which the first is the larger");
    const std::uint64_t span = static_cast<std::uint64_t>(last) - static_cast<std::uint64_t>(first);
    const std::uint64_t offset = span == max() ? (*this)() : below(span + 1);
    return static_cast<Integer>(static_cast<std::uint64_t>(first) + offset);
  }

  /// Fills with uniform numbers in [low, high), bounds as for `uniform`. Floats take 32 bits each, doubles one draw; element i depends on the
  /// position and i alone, so threads may fill the parts of one array from copies that have skipped to their places.
  void fill_uniform(std::span<float> out, float low = 0, float high = 1) noexcept {
    fill_words(out, [low, high](std::uint32_t word) {
      return between_bounds(low, high, static_cast<float>(word >> 8) * 0x1p-24f);
    });
  }
  void fill_uniform(std::span<double> out, double low = 0, double high = 1) noexcept {
    for (double& x : out) x = uniform(low, high);
  }

  /// Fills with normal numbers; floats reach 6.3 deviations, doubles 8.2.
  void fill_normal(std::span<float> out, float mean = 0, float deviation = 1) noexcept {
    fill_words(out, [mean, deviation](std::uint32_t word) {
      return mean +
             deviation * static_cast<float>(detail::normal_quantile((static_cast<double>(word) + 0.5) * 0x1p-32));
    });
  }
  void fill_normal(std::span<double> out, double mean = 0, double deviation = 1) noexcept {
    for (double& x : out) x = normal(mean, deviation);
  }

  /// How many draws of 64 bits were taken or skipped. A float of fill_uniform and fill_normal counts as half a draw, an
  /// odd one as a whole.
  [[nodiscard]] constexpr std::uint64_t position() const noexcept { return position_; }
  /// Goes anywhere in the sequence, at no cost.
  constexpr void seek(std::uint64_t position) noexcept { position_ = position; }
  constexpr void skip(std::uint64_t draws) noexcept { position_ += draws; }

  /// True if both give the same numbers from here on.
  friend constexpr bool operator==(const random_stream& a, const random_stream& b) noexcept {
    return a.key_ == b.key_ && a.stream_ == b.stream_ && a.position_ == b.position_;
  }

 private:
  template <class T>
  static constexpr std::uint64_t name(const T& identifier) noexcept {
    if constexpr (std::is_enum_v<T>)
      return static_cast<std::uint64_t>(static_cast<std::underlying_type_t<T>>(identifier));
    else if constexpr (std::integral<T>)
      return static_cast<std::uint64_t>(identifier);
    else
      return hash_text(std::string_view(identifier));
  }

  static constexpr std::uint64_t join(std::uint32_t low, std::uint32_t high) noexcept {
    return low | (static_cast<std::uint64_t>(high) << 32);
  }

  template <class Real>
  static constexpr Real between_bounds(Real low, Real high, Real unit) noexcept {
    const Real width = high - low;  // may be more than a Real holds
    const Real x = width <= std::numeric_limits<Real>::max() ? low + width * unit : low * (1 - unit) + high * unit;
    return x < high ? x : low;  // the sum may round up to `high`
  }

  /// In (0, 1), exact and symmetric about 1/2.
  static constexpr double open_unit(std::uint64_t bits) noexcept {
    return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
  }

  [[nodiscard]] constexpr std::array<std::uint32_t, 4> block(std::uint64_t index) const noexcept {
    return philox4x32({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                       static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)},
                      key_);
  }

  template <class Transform>
  void fill_words(std::span<float> out, Transform transform) noexcept {
    std::size_t i = 0;
    std::uint64_t word = position_ % 2 * 2;  // the first one to use of the first block
    for (std::uint64_t index = position_ / 2; i < out.size(); ++index, word = 0) {
      const std::array<std::uint32_t, 4> words = block(index);
      for (; word < 4 && i < out.size(); ++word, ++i) out[i] = transform(words[word]);
    }
    position_ += (out.size() + 1) / 2;
  }

  std::array<std::uint32_t, 2> key_;
  std::uint64_t stream_ = 0;
  std::uint64_t position_ = 0;
  std::uint64_t cached_ = max();  // the index of the block held in block_; 2^64-1 is none
  std::array<std::uint32_t, 4> block_{};
};

CADRE_NAMESPACE_END

#endif
