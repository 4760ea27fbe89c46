#include "catch.hpp"
#include "comm/collectives_suite.hpp"

#include <initializer_list>

namespace comm_collectives {

void run_suite(std::initializer_list<int> teams) {
  for (const int ranks : teams)
    for (const auto& [name, run] : collectives_suite::cases<cadre::local_communicator>) {
      CAPTURE(ranks, name);
      REQUIRE_NOTHROW(cadre::local_team{ranks}.run(run));
    }
}

}  // namespace comm_collectives

static_assert(cadre::communicator<cadre::local_communicator>);

TEST_CASE("up to three threads as ranks do what every communicator must do", "[comm]") {
  comm_collectives::run_suite({1, 2, 3});
}

TEST_CASE("four threads as ranks do what every communicator must do", "[comm]") { comm_collectives::run_suite({4}); }

TEST_CASE("five threads as ranks do what every communicator must do", "[comm]") { comm_collectives::run_suite({5}); }

TEST_CASE("eight threads as ranks do what every communicator must do", "[comm]") { comm_collectives::run_suite({8}); }

TEST_CASE("handles to threads as ranks do what every communicator must do", "[comm]") {
  for (const auto& [name, run] : collectives_suite::cases<cadre::any_communicator>) {
    CAPTURE(name);
    REQUIRE_NOTHROW(cadre::local_team{3}.run([&](cadre::local_communicator& comm) {
      cadre::any_communicator any{comm};
      run(any);
    }));
  }
}
