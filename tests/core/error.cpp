#include "catch.hpp"

#include <cadre/core/error.hpp>

#include <stdexcept>

namespace error_test {

class spilled : public cadre::error {
 public:
  spilled() : error("kitchen", 999, "milk spilled; wipe it up") {}
};

TEST_CASE("An error begins with its room and number and is a std::runtime_error") {
  const spilled e;
  CHECK(e.number() == 999);
  CHECK(std::string(e.what()) == "[cadre.kitchen.999] milk spilled; wipe it up");
  CHECK_THROWS_AS(throw spilled(), std::runtime_error);
}

}  // namespace error_test
