#include "catch.hpp"
#include "comm/collectives_suite.hpp"

TEST_CASE("threads as ranks do what every communicator must do", "[comm]") {
  for (const int ranks : {1, 2, 3, 4, 5, 8})
    for (const auto& [name, run] : collectives_suite::cases<cadre::local_communicator>) {
      CAPTURE(ranks, name);
      REQUIRE_NOTHROW(cadre::local_team{ranks}.run(run));
    }
}

TEST_CASE("handles to threads as ranks do what every communicator must do", "[comm]") {
  for (const auto& [name, run] : collectives_suite::cases<cadre::any_communicator>) {
    CAPTURE(name);
    REQUIRE_NOTHROW(cadre::local_team{3}.run([&](cadre::local_communicator& comm) {
      cadre::any_communicator any{comm};
      run(any);
    }));
  }
}
