#include "catch.hpp"

#include <cadre/core/random.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace random_test {

using words = std::array<std::uint32_t, 4>;
enum class use { weights, dropout };

double chi_squared(const std::vector<int>& counts, double expected) {
  double sum = 0;
  for (int n : counts) sum += (n - expected) * (n - expected) / expected;
  return sum;
}

TEST_CASE("Philox 4x32-10 gives the published test vectors of Random123") {
  CHECK(cadre::philox4x32({0, 0, 0, 0}, {0, 0}) == words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(cadre::philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(cadre::philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  static_assert(cadre::philox4x32({0, 0, 0, 0}, {0, 0})[0] == 0x6627e8d5);
}

TEST_CASE("A stream is a uniform random bit generator of the standard library") {
  static_assert(std::uniform_random_bit_generator<cadre::random_stream>);
  cadre::random_stream s{1};
  std::vector<int> v{1, 2, 3, 4, 5};
  std::shuffle(v.begin(), v.end(), s);
  CHECK(std::set<int>(v.begin(), v.end()).size() == 5);
}

TEST_CASE("A stream's first numbers are the same in every release and on every machine") {
  cadre::random_stream plain{7};
  const words block = cadre::philox4x32({0, 0, 0, 0}, {7, 0});
  CHECK(plain() == (block[0] | std::uint64_t{block[1]} << 32));
  CHECK(plain() == (block[2] | std::uint64_t{block[3]} << 32));
  cadre::random_stream named{7, "dropout", 3};
  CHECK(named() == 0xcf6b6eeef2389a6e);
  CHECK(named() == 0x37c85d4e74d4476c);
}

TEST_CASE("Equal seeds and identifiers give equal streams, others give others") {
  std::set<std::uint64_t> firsts;
  std::size_t streams = 0;
  const auto add = [&](cadre::random_stream s) {
    firsts.insert(s());
    ++streams;
  };
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    add(cadre::random_stream{seed});
    add(cadre::random_stream{seed, "a"});
    add(cadre::random_stream{seed, "b"});
    add(cadre::random_stream{seed, "ab"});
    add(cadre::random_stream{seed, "a", "b"});
    add(cadre::random_stream{seed, "b", "a"});
    add(cadre::random_stream{seed, 0});
    add(cadre::random_stream{seed, 0, 0});
    add(cadre::random_stream{seed, 1});
    add(cadre::random_stream{seed, "a", 1});
    add(cadre::random_stream{seed, -1});
  }
  CHECK(firsts.size() == streams);
  CHECK(cadre::random_stream{5, 3}() == cadre::random_stream{5, std::uint8_t{3}}());
  CHECK(cadre::random_stream{5, use::dropout}() == cadre::random_stream{5, 1}());
  CHECK(cadre::random_stream{5, std::string("trial")}() == cadre::random_stream{5, "trial"}());
}

TEST_CASE("Any position of a stream is reached without those before it") {
  cadre::random_stream s{3, "x"};
  std::vector<std::uint64_t> drawn;
  for (int i = 0; i < 64; ++i) drawn.push_back(s());
  CHECK(s.position() == 64);
  cadre::random_stream jumper{3, "x"};
  for (std::uint64_t i : {63u, 0u, 1u, 2u, 1u, 33u, 32u, 32u, 7u}) {
    jumper.seek(i);
    CHECK(jumper() == drawn[i]);
  }
  jumper.seek(10);
  jumper.skip(5);
  CHECK(jumper() == drawn[15]);
  jumper.seek(std::uint64_t{1} << 60);
  const std::uint64_t far = jumper();
  jumper.seek(std::uint64_t{1} << 60);
  CHECK(jumper() == far);
  cadre::random_stream last{3};
  last.seek(std::numeric_limits<std::uint64_t>::max());
  last();
  CHECK(last == cadre::random_stream{3});
}

TEST_CASE("Threads that fill parts of one array get what one thread gets") {
  constexpr std::size_t n = 4096;
  std::vector<float> whole(n), parts(n);
  const cadre::random_stream start{11, "weights"};
  cadre::random_stream one = start;
  one.fill_normal(whole);
  CHECK(one.position() == n / 2);
  std::vector<std::thread> threads;
  for (std::size_t part = 0; part < 4; ++part)
    threads.emplace_back([&, part] {
      cadre::random_stream mine = start;
      mine.skip(part * n / 8);
      mine.fill_normal(std::span(parts).subspan(part * n / 4, n / 4));
    });
  for (std::thread& t : threads) t.join();
  CHECK(whole == parts);
}

TEST_CASE("A fill from an odd position goes on where the draws stopped") {
  cadre::random_stream a{1}, b{1};
  a();
  b();
  std::vector<float> once(7), piece(2), rest(5);
  a.fill_uniform(once);
  b.fill_uniform(piece);
  b.fill_uniform(rest);
  piece.insert(piece.end(), rest.begin(), rest.end());
  CHECK(once == piece);
  CHECK(a.position() == 5);
  CHECK(a() == b());
  a.fill_uniform(std::span<float>{});
  CHECK(a.position() == b.position());
}

TEST_CASE("Uniform numbers lie in their range and are spread evenly") {
  cadre::random_stream s{42, "uniform"};
  constexpr int n = 200'000, bins = 100;
  std::vector<int> counts(bins);
  for (int i = 0; i < n; ++i) {
    const double x = s.uniform();
    REQUIRE((x >= 0 && x < 1));
    ++counts[static_cast<std::size_t>(x * bins)];
  }
  CHECK(chi_squared(counts, n / double{bins}) < 149);  // 99.9% of 99 degrees of freedom
  for (int i = 0; i < 1000; ++i) {
    const double x = s.uniform(-3, 5);
    REQUIRE((x >= -3 && x < 5));
  }
  CHECK(s.uniform(2, 2) == 2);
  const double barely = std::nextafter(1.0, 2.0);
  for (int i = 0; i < 100; ++i) REQUIRE(s.uniform(1.0, barely) == 1.0);
  std::vector<float> floats(10'000);
  s.fill_uniform(floats, -1.f, 1.f);
  for (float x : floats) REQUIRE((x >= -1 && x < 1));
  std::vector<double> doubles(10'000);
  s.fill_uniform(doubles, 2, 3);
  for (double x : doubles) REQUIRE((x >= 2 && x < 3));
}

TEST_CASE("Uniform numbers fill a range that is wider than the largest number") {
  cadre::random_stream s{42, "wide"};
  constexpr double most = std::numeric_limits<double>::max();
  constexpr float most_float = std::numeric_limits<float>::max();
  std::vector<int> quarters(4), float_quarters(4);
  std::vector<float> floats(4000);
  s.fill_uniform(floats, -most_float, most_float);
  for (float x : floats) ++float_quarters[static_cast<std::size_t>((x / most_float + 1) * 2)];
  for (int i = 0; i < 4000; ++i) ++quarters[static_cast<std::size_t>((s.uniform(-most, most) / most + 1) * 2)];
  CHECK(chi_squared(quarters, 1000.0) < 16.3);  // 99.9% of 3 degrees of freedom
  CHECK(chi_squared(float_quarters, 1000.0) < 16.3);
}

TEST_CASE("Normal numbers have the moments and the tails of the normal distribution") {
  cadre::random_stream s{42, "normal"};
  constexpr int n = 400'000;
  double sum = 0, squares = 0, cubes = 0, fourths = 0;
  int beyond_two = 0, beyond_four = 0;
  for (int i = 0; i < n; ++i) {
    const double x = s.normal();
    sum += x;
    squares += x * x;
    cubes += x * x * x;
    fourths += x * x * x * x;
    beyond_two += std::abs(x) > 2;
    beyond_four += std::abs(x) > 4;
  }
  CHECK(std::abs(sum / n) < 0.006);
  CHECK(std::abs(squares / n - 1) < 0.01);
  CHECK(std::abs(cubes / n) < 0.03);
  CHECK(std::abs(fourths / n - 3) < 0.08);
  CHECK(std::abs(beyond_two / double{n} - 0.0455) < 0.0015);
  CHECK((beyond_four > 5 && beyond_four < 60));  // 25.3 expected
  CHECK(s.position() == n);
  std::vector<float> floats(100'000);
  s.fill_normal(floats, 3.f, 2.f);
  double mean = 0, variance = 0;
  for (float x : floats) mean += x;
  mean /= double(floats.size());
  for (float x : floats) variance += (x - mean) * (x - mean);
  CHECK(mean == Approx(3).margin(0.04));
  CHECK(variance / double(floats.size()) == Approx(4).margin(0.1));
}

TEST_CASE("The normal quantile agrees with the distribution function to fifteen digits") {
  for (double p : {1e-300, 1e-16, 1e-10, 1e-5, 0.001, 0.025, 0.0749, 0.0751, 0.3, 0.5, 0.7, 0.925, 0.9251, 0.999}) {
    const double x = cadre::detail::normal_quantile(p);
    CHECK(0.5 * std::erfc(-x / std::sqrt(2.0)) == Approx(p).epsilon(1e-12));
  }
  CHECK(cadre::detail::normal_quantile(0.5) == 0);
  CHECK(cadre::detail::normal_quantile(0.975) == Approx(1.959963984540054).epsilon(1e-15));
  CHECK(cadre::detail::normal_quantile(0.25) == -cadre::detail::normal_quantile(0.75));
}

TEST_CASE("Random integers are without bias, also below a bound that does not divide 2^64") {
  cadre::random_stream s{9, "below"};
  for (std::uint64_t n : {2u, 3u, 7u, 10u, 100u}) {
    std::vector<int> counts(n);
    for (int i = 0; i < 50'000; ++i) ++counts[s.below(n)];
    CHECK(chi_squared(counts, 50'000.0 / double(n)) < double(n) + 4 * std::sqrt(2.0 * double(n)) + 8);
  }
  CHECK(s.below(1) == 0);
  const std::uint64_t two_thirds =
      std::numeric_limits<std::uint64_t>::max() / 3 * 2;  // a third of all draws is rejected
  int upper = 0;
  for (int i = 0; i < 20'000; ++i) upper += s.below(two_thirds) >= two_thirds / 2;
  CHECK(std::abs(upper - 10'000) < 400);
  std::set<int> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(s.between(-2, 2));
  CHECK(seen == std::set<int>{-2, -1, 0, 1, 2});
  CHECK(s.between(5, 5) == 5);
  s.between(std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max());
  int heads = 0;
  for (int i = 0; i < 10'000; ++i) heads += s.bernoulli(0.25);
  CHECK(std::abs(heads - 2500) < 200);
}

TEST_CASE("An empty range of random integers is an error that says so") {
  cadre::random_stream s{1};
  CHECK_THROWS_WITH(s.below(0),
                    "[cadre.core.102] asked for a random integer below 0; the upper bound must be at least 1");
  CHECK_THROWS_AS(s.between(3, 2), cadre::empty_random_range);
  CHECK(s.position() == 0);
}

}  // namespace random_test
