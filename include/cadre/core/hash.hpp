#ifndef CADRE_CORE_HASH_HPP
#define CADRE_CORE_HASH_HPP

#include <cadre/config/config.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// XXH64 of bytes that arrive in pieces: the checksum of every file and message of cadre. Written from the public
/// specification (xxHash, doc/xxhash_spec.md); not for cryptography. However the bytes are cut, the result is the same.
class xxh64 {
 public:
  explicit xxh64(std::uint64_t seed = 0) noexcept
      : lanes_{seed + prime1 + prime2, seed + prime2, seed, seed - prime1}, seed_(seed) {}

  xxh64& update(std::span<const std::byte> bytes) noexcept {
    if (bytes.empty()) return *this;
    const std::size_t held = total_ % stripe;
    total_ += bytes.size();
    if (held != 0) {
      const std::size_t wanted = bytes.size() < stripe - held ? bytes.size() : stripe - held;
      std::memcpy(rest_.data() + held, bytes.data(), wanted);
      bytes = bytes.subspan(wanted);
      if (held + wanted < stripe) return *this;
      consume(rest_.data(), 1);
    }
    const std::size_t stripes = bytes.size() / stripe;
    consume(bytes.data(), stripes);
    bytes = bytes.subspan(stripes * stripe);
    if (!bytes.empty()) std::memcpy(rest_.data(), bytes.data(), bytes.size());
    return *this;
  }

  /// The hash of what came so far; more may follow.
  [[nodiscard]] std::uint64_t digest() const noexcept {
    std::uint64_t h = seed_ + prime5;
    if (total_ >= stripe) {
      h = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) + std::rotl(lanes_[3], 18);
      for (std::uint64_t lane : lanes_) h = (h ^ round(0, lane)) * prime1 + prime4;
    }
    h += total_;
    const std::byte* p = rest_.data();
    std::size_t left = total_ % stripe;
    for (; left >= 8; left -= 8, p += 8) h = std::rotl(h ^ round(0, load<std::uint64_t>(p)), 27) * prime1 + prime4;
    for (; left >= 4; left -= 4, p += 4) h = std::rotl(h ^ (load<std::uint32_t>(p) * prime1), 23) * prime2 + prime3;
    for (; left != 0; --left, ++p) h = std::rotl(h ^ (std::to_integer<std::uint64_t>(*p) * prime5), 11) * prime1;
    h = (h ^ (h >> 33)) * prime2;
    h = (h ^ (h >> 29)) * prime3;
    return h ^ (h >> 32);
  }

 private:
  static constexpr std::uint64_t prime1 = 0x9E3779B185EBCA87, prime2 = 0xC2B2AE3D27D4EB4F, prime3 = 0x165667B19E3779F9,
                                 prime4 = 0x85EBCA77C2B2AE63, prime5 = 0x27D4EB2F165667C5;
  static constexpr std::size_t stripe = 32;

  template <class Word>
  static std::uint64_t load(const std::byte* p) noexcept {
    static_assert(std::endian::native == std::endian::little);
    Word word;
    std::memcpy(&word, p, sizeof word);
    return word;
  }
  static constexpr std::uint64_t round(std::uint64_t lane, std::uint64_t input) noexcept {
    return std::rotl(lane + input * prime2, 31) * prime1;
  }
  void consume(const std::byte* p, std::size_t stripes) noexcept {
    auto [a, b, c, d] = lanes_;
    for (; stripes != 0; --stripes, p += stripe) {
      a = round(a, load<std::uint64_t>(p));
      b = round(b, load<std::uint64_t>(p + 8));
      c = round(c, load<std::uint64_t>(p + 16));
      d = round(d, load<std::uint64_t>(p + 24));
    }
    lanes_ = {a, b, c, d};
  }

  std::array<std::uint64_t, 4> lanes_;
  std::array<std::byte, stripe> rest_{};
  std::uint64_t seed_;
  std::uint64_t total_ = 0;
};

/// XXH64 of `bytes`.
[[nodiscard]] inline std::uint64_t hash_bytes(std::span<const std::byte> bytes, std::uint64_t seed = 0) noexcept {
  return xxh64(seed).update(bytes).digest();
}

/// A bijection of 64-bit words in which every input bit changes every output bit with a probability near one half
/// (variant 13 of Stafford's mixers, as in SplitMix64).
[[nodiscard]] constexpr std::uint64_t hash_mix(std::uint64_t x) noexcept {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

/// Adds `value` to the hash of an ordered list. For a given hash this is a bijection of values.
[[nodiscard]] constexpr std::uint64_t hash_combine(std::uint64_t hash, std::uint64_t value) noexcept {
  return hash_mix(hash_mix(hash + 0x9E3779B97F4A7C15) ^ value);
}

/// A hash of text that is the same in every process and can be had at compile time (FNV-1a, mixed): for short names.
[[nodiscard]] constexpr std::uint64_t hash_text(std::string_view text) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return hash_mix(hash);
}

CADRE_NAMESPACE_END

#endif
