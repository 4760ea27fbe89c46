#ifndef CADRE_ACTOR_RUN_HPP
#define CADRE_ACTOR_RUN_HPP

#include <cadre/actor/runtime.hpp>

#include <concepts>
#include <cstdio>
#include <exception>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// What main() does: makes a runtime of this process, calls `program(runtime&)`, and returns the program's exit code: what
/// `program` returns, 0 if that is nothing, or 1 after an error, of which the text goes to stderr. With cadre::mpi::run, of
/// the same form, the same program spans the ranks of a job.
///
///     int main(int argc, char** argv) {
///       return cadre::run(argc, argv, [](cadre::runtime& rt) { ... });
///     }
template <class Program>
  requires std::invocable<Program&, runtime&>
int run(int argc, char** argv, Program&& program, runtime_options options = {}) {
  try {
    runtime rt(std::move(options));
    if constexpr (std::is_void_v<std::invoke_result_t<Program&, runtime&>>) {
      program(rt);
      return 0;
    } else {
      return program(rt);
    }
  } catch (const std::exception& e) {
    // What ends the program is said, as by main() without this.
    std::fprintf(stderr, "%s: %s\n", argc > 0 ? argv[0] : "cadre", e.what());
  } catch (...) {
    // Likewise.
    std::fprintf(stderr, "%s: an error that is not a std::exception\n", argc > 0 ? argv[0] : "cadre");
  }
  return 1;
}

CADRE_NAMESPACE_END

#endif
