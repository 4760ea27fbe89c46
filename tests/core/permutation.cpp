#include "catch.hpp"

#include <cadre/core/permutation.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

namespace permutation_test {

std::vector<std::uint64_t> all(const cadre::permutation& p) {
  std::vector<std::uint64_t> result;
  for (std::uint64_t i = 0; i < p.size(); ++i) result.push_back(p[i]);
  return result;
}

bool is_permutation_of_indices(std::vector<std::uint64_t> values) {
  std::sort(values.begin(), values.end());
  for (std::uint64_t i = 0; i < values.size(); ++i)
    if (values[i] != i) return false;
  return true;
}

TEST_CASE("A permutation holds each index once, for every size") {
  for (std::uint64_t n = 0; n <= 300; ++n) REQUIRE(is_permutation_of_indices(all(cadre::permutation{n, 1, n})));
  for (std::uint64_t n : {1023u, 1024u, 1025u, 4095u, 4097u, 60'000u, 65'536u, 65'537u, 131'072u, 131'073u})
    CHECK(is_permutation_of_indices(all(cadre::permutation{n, 7})));
  CHECK(cadre::permutation{0, 1}.size() == 0);
}

TEST_CASE("A permutation of more than 2^32 indices stays in its range and meets no index twice") {
  for (std::uint64_t n :
       {(std::uint64_t{1} << 32) + 1, std::uint64_t{1} << 40, (std::uint64_t{1} << 63) + 5, ~std::uint64_t{0}}) {
    const cadre::permutation p{n, 3};
    std::set<std::uint64_t> seen;
    for (std::uint64_t i = 0; i < 10'000; ++i) {
      const std::uint64_t image = p[n - 1 - i * 7919];
      REQUIRE(image < n);
      seen.insert(image);
    }
    CHECK(seen.size() == 10'000);
  }
}

TEST_CASE("Seed and round decide the permutation") {
  CHECK(all({1000, 1, 2}) == all({1000, 1, 2}));
  CHECK(all({1000, 1, 2}) != all({1000, 1, 3}));
  CHECK(all({1000, 1, 2}) != all({1000, 2, 2}));
  CHECK(all({50, 1, 2}) != all({50, 1, 3}));
}

TEST_CASE("Every order of a small permutation is equally likely") {
  std::map<std::vector<std::uint64_t>, int> counts;
  constexpr int tries = 24'000;
  for (std::uint64_t seed = 0; seed < tries; ++seed) ++counts[all({4, seed})];
  REQUIRE(counts.size() == 24);
  double chi = 0;
  for (const auto& [order, n] : counts) chi += (n - 1000.0) * (n - 1000.0) / 1000.0;
  CHECK(chi < 49.7);  // 99.9% of 23 degrees of freedom
}

TEST_CASE("Every index is equally likely at every position of a permutation") {
  for (std::uint64_t n : {65u, 100u, 127u, 257u}) {  // just above the exact shuffle, where a network is at its weakest
    constexpr int tries = 40'000;
    for (std::uint64_t position : {std::uint64_t{0}, n / 2, n - 1}) {
      std::vector<int> counts(n);
      for (std::uint64_t seed = 0; seed < tries; ++seed) ++counts[cadre::permutation{n, seed}[position]];
      const double expected = tries / double(n);
      double chi = 0;
      for (int c : counts) chi += (c - expected) * (c - expected) / expected;
      const double freedom = double(n) - 1;
      CHECK(chi < freedom + 4 * std::sqrt(2 * freedom));
    }
  }
}

TEST_CASE("Neighbours do not stay neighbours, and as many indices stay in place as chance leaves there") {
  constexpr std::uint64_t n = 1000, tries = 500;
  double fixed = 0, adjacent = 0, ascending = 0;
  for (std::uint64_t round = 0; round < tries; ++round) {
    const std::vector<std::uint64_t> p = all({n, 5, round});
    for (std::uint64_t i = 0; i < n; ++i) {
      fixed += p[i] == i;
      if (i == 0) continue;
      adjacent += p[i] == p[i - 1] + 1 || p[i] + 1 == p[i - 1];
      ascending += p[i] > p[i - 1];
    }
  }
  CHECK(fixed / tries == Approx(1).margin(0.2));      // deviation 1 / sqrt(500)
  CHECK(adjacent / tries == Approx(2).margin(0.26));  // deviation sqrt(2 / 500)
  CHECK(ascending / (tries * (n - 1)) == Approx(0.5).margin(0.005));
}

TEST_CASE("The permutations of two rounds are not related") {
  const std::vector<std::uint64_t> a = all({10'000, 1, 0}), b = all({10'000, 1, 1});
  double product = 0, squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    product += (double(a[i]) - 4999.5) * (double(b[i]) - 4999.5);
    squares += (double(a[i]) - 4999.5) * (double(a[i]) - 4999.5);
  }
  CHECK(std::abs(product / squares) < 0.04);  // four deviations
}

}  // namespace permutation_test
