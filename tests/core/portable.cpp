#include "catch.hpp"

#include <cadre/core/portable.hpp>

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace portable_test {

struct point {
  double x;
  int y;
};
struct refers {
  int& to;
};
struct opaque {
  std::string text;
};
enum class colour { red };

}  // namespace portable_test

template <>
struct cadre::portable<portable_test::opaque> {};

namespace portable_test {

TEST_CASE("Numbers, enumerations and plain structs are trivially portable") {
  STATIC_REQUIRE(cadre::trivially_portable<int>);
  STATIC_REQUIRE(cadre::trivially_portable<double>);
  STATIC_REQUIRE(cadre::trivially_portable<std::byte>);
  STATIC_REQUIRE(cadre::trivially_portable<colour>);
  STATIC_REQUIRE(cadre::trivially_portable<point>);
  STATIC_REQUIRE(cadre::trivially_portable<std::array<point, 3>>);
}

TEST_CASE("What refers to memory of this process is not portable, though the compiler calls it trivially copyable") {
  int i = 0;
  [[maybe_unused]] const auto by_value = [i] { return i; };
  [[maybe_unused]] const auto by_reference = [&i] { return i; };
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<int*>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<int (*)()>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<int point::*>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<std::nullptr_t>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<std::string_view>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<std::span<const float>>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<std::reference_wrapper<int>>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<std::initializer_list<int>>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<std::vector<int>::iterator>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<std::ranges::subrange<int*>>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<refers>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<decltype(by_value)>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<decltype(by_reference)>);
}

TEST_CASE("What owns memory is not trivially portable, and may be made portable") {
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<std::string>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<std::vector<int>>);
  STATIC_REQUIRE_FALSE(cadre::trivially_portable<std::unique_ptr<int>>);
  STATIC_REQUIRE(cadre::custom_portable<opaque>);
  STATIC_REQUIRE_FALSE(cadre::custom_portable<point>);
}

}  // namespace portable_test
