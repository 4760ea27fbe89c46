#include "catch.hpp"

#include <cadre/core/data_type.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

namespace data_type_test {

TEST_CASE("Each element type has its data type, by size and sign") {
  STATIC_REQUIRE(cadre::data_type_of<float> == cadre::data_type::float32);
  STATIC_REQUIRE(cadre::data_type_of<const double> == cadre::data_type::float64);
  STATIC_REQUIRE(cadre::data_type_of<long> == cadre::data_type::int64);
  STATIC_REQUIRE(cadre::data_type_of<long long> == cadre::data_type::int64);
  STATIC_REQUIRE(cadre::data_type_of<unsigned long> == cadre::data_type::uint64);
  STATIC_REQUIRE(cadre::data_type_of<std::uint16_t> == cadre::data_type::uint16);
  STATIC_REQUIRE_FALSE(cadre::reducible<bool>);
  STATIC_REQUIRE_FALSE(cadre::reducible<std::byte>);
  STATIC_REQUIRE_FALSE(cadre::reducible<long double>);
  STATIC_REQUIRE_FALSE(cadre::reducible<char32_t>);
}

TEST_CASE("A visitor gets an element of the type that a data type stands for") {
  int visited = 0;
  for (int i = 0; i < 10; ++i) {
    const auto type = static_cast<cadre::data_type>(i);
    cadre::visit(type, [&](auto element) {
      CHECK(cadre::data_type_of<decltype(element)> == type);
      CHECK(sizeof element == cadre::size_of(type));
      ++visited;
    });
  }
  CHECK(visited == 10);
  CHECK(cadre::to_string(cadre::data_type::uint16) == "uint16");
  CHECK(cadre::to_string(static_cast<cadre::data_type>(77)) == "unknown");
  CHECK(cadre::size_of(static_cast<cadre::data_type>(77)) == 0);
}

}  // namespace data_type_test
