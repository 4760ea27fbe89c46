#include "catch.hpp"

#include <cadre/core/units.hpp>

#include <chrono>

namespace units_test {

TEST_CASE("Sizes and times are written with their units") {
  using namespace cadre::literals;
  STATIC_REQUIRE(1_KiB == 1024);
  STATIC_REQUIRE(25_MiB == 25 * 1024 * 1024);
  STATIC_REQUIRE(8_GiB == 8 * 1024 * 1024 * 1024ull);
  STATIC_REQUIRE(2_TiB == 2048_GiB);
  STATIC_REQUIRE(200ms == std::chrono::milliseconds(200));
}

}  // namespace units_test
