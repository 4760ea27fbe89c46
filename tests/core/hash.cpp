#include "catch.hpp"

#include <cadre/core/hash.hpp>
#include <cadre/core/random.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hash_test {

std::uint64_t xxh(std::string_view text, std::uint64_t seed = 0) {
  return cadre::hash_bytes(std::as_bytes(std::span(text)), seed);
}

TEST_CASE("XXH64 gives the values of the reference implementation") {
  CHECK(xxh("") == 0xEF46DB3751D8E999);
  CHECK(xxh("a") == 0xD24EC4F1A98C6E5B);
  CHECK(xxh("abc") == 0x44BC2CF5AD770999);
  CHECK(xxh("Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1);
  CHECK(xxh("xxhash", 20141025) == 0xB559B98D844E0635);
}

TEST_CASE("XXH64 gives the values of the reference implementation's own self-test") {
  // The buffer of xxHash's sanity check: bytes of a multiplicative generator.
  std::vector<std::byte> buffer(222);
  std::uint64_t generator = 2654435761;
  for (std::byte& b : buffer) {
    b = static_cast<std::byte>(generator >> 56);
    generator *= 11400714785074694797u;
  }
  const auto front = [&](std::size_t n) { return std::span(buffer).first(n); };
  CHECK(cadre::hash_bytes(front(1)) == 0xE934A84ADB052768);
  CHECK(cadre::hash_bytes(front(1), 2654435761) == 0x5014607643A9B4C3);
  CHECK(cadre::hash_bytes(front(4)) == 0x9136A0DCA57457EE);
  CHECK(cadre::hash_bytes(front(14)) == 0x8282DCC4994E35C8);
  CHECK(cadre::hash_bytes(front(14), 2654435761) == 0xC3BD6BF63DEB6DF0);
  CHECK(cadre::hash_bytes(front(222)) == 0xB641AE8CB691C174);
  CHECK(cadre::hash_bytes(front(222), 2654435761) == 0x20CB8AB7AE10C14A);
}

TEST_CASE("XXH64 does not depend on how the bytes were cut") {
  cadre::random_stream random{1, "hash"};
  std::vector<std::byte> bytes(1000);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  for (std::size_t size : {0u, 1u, 31u, 32u, 33u, 63u, 64u, 100u, 1000u}) {
    const std::span<const std::byte> part = std::span(bytes).first(size);
    for (int attempt = 0; attempt < 50; ++attempt) {
      cadre::xxh64 hash;
      for (std::size_t at = 0; at < size;) {
        const std::size_t step = std::min<std::size_t>(size - at, random.below(70));
        hash.update(part.subspan(at, step));
        at += step;
      }
      REQUIRE(hash.digest() == cadre::hash_bytes(part));
    }
  }
  cadre::xxh64 hash;
  hash.update(std::span(bytes).first(10));
  CHECK(hash.digest() == hash.digest());
  hash.update(std::span(bytes).subspan(10));
  CHECK(hash.digest() == cadre::hash_bytes(bytes));
}

TEST_CASE("The mixing hash is a bijection in which each bit moves half of the others") {
  std::set<std::uint64_t> seen;
  for (std::uint64_t i = 0; i < 10'000; ++i) seen.insert(cadre::hash_mix(i));
  CHECK(seen.size() == 10'000);
  for (int bit = 0; bit < 64; ++bit) {
    double flipped = 0;
    for (std::uint64_t i = 0; i < 200; ++i)
      flipped += std::popcount(cadre::hash_mix(i * 77777) ^ cadre::hash_mix((i * 77777) ^ (std::uint64_t{1} << bit)));
    CHECK(flipped / 200 == Approx(32).margin(3));
  }
}

TEST_CASE("A combined hash depends on the order of its values, and a text's hash is had at compile time") {
  CHECK(cadre::hash_combine(cadre::hash_combine(0, 1), 2) != cadre::hash_combine(cadre::hash_combine(0, 2), 1));
  CHECK(cadre::hash_combine(0, 0) != 0);
  static_assert(cadre::hash_text("lr") != cadre::hash_text("rl"));
  static_assert(cadre::hash_text("") == cadre::hash_text(std::string_view{}));
}

}  // namespace hash_test
