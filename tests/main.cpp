// What runs the test cases, compiled once. A test that needs a main of its own (to start MPI, say) writes one: this is weak.
#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

#include "catch_main.hpp"

int run_tests(int argc, char** argv, const char* which) {
  Catch::Session session;
  const char* const chosen[] = {argv[0], which};
  const int error = argc > 1 ? session.applyCommandLine(argc, argv) : session.applyCommandLine(2, chosen);
  return error != 0 ? error : session.run();
}

__attribute__((weak)) int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
