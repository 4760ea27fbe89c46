#include "catch.hpp"

#include <cadre/core/direction.hpp>

#include <limits>

namespace direction_test {

TEST_CASE("A score is better if it is strictly smaller or larger, and NaN is worse than anything") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  CHECK(cadre::better(cadre::minimize, 1, 2));
  CHECK_FALSE(cadre::better(cadre::minimize, 2, 1));
  CHECK(cadre::better(cadre::maximize, 2, 1));
  CHECK_FALSE(cadre::better(cadre::maximize, 2, 2));
  for (cadre::direction order : {cadre::minimize, cadre::maximize}) {
    CHECK_FALSE(cadre::better(order, nan, 1));
    CHECK(cadre::better(order, 1, nan));
    CHECK(cadre::better(order, infinity, nan));
    CHECK_FALSE(cadre::better(order, nan, nan));
  }
}

}  // namespace direction_test
