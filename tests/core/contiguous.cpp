#include "catch.hpp"

#include <cadre/core/contiguous.hpp>

#include <array>
#include <list>
#include <span>
#include <type_traits>
#include <vector>

namespace contiguous_test {

TEST_CASE("Vectors, arrays and spans are seen in place, const where they are") {
  std::vector<float> v{1, 2, 3};
  cadre::elements(v)[1] = 5;
  CHECK(v[1] == 5);
  const std::vector<float>& c = v;
  STATIC_REQUIRE(std::is_same_v<decltype(cadre::elements(c)), std::span<const float>>);
  CHECK(cadre::elements(c).data() == v.data());
  std::array<int, 4> a{};
  CHECK(cadre::elements(a).size() == 4);
  CHECK(cadre::elements(std::span(v)).data() == v.data());
  STATIC_REQUIRE_FALSE(cadre::contiguous<std::list<int>>);
  STATIC_REQUIRE_FALSE(cadre::contiguous<std::vector<bool>>);
  STATIC_REQUIRE_FALSE(cadre::contiguous<int>);
}

TEST_CASE("A range has one extent and a span as its view") {
  using traits = cadre::contiguous_traits<std::vector<double>>;
  std::vector<double> v(3);
  CHECK(traits::shape(v) == std::vector<std::size_t>{3});
  CHECK(traits::count(7) == 7);
  CHECK(traits::map(v.data(), 3).data() == v.data());
}

}  // namespace contiguous_test
