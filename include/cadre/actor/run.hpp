#ifndef CADRE_ACTOR_RUN_HPP
#define CADRE_ACTOR_RUN_HPP

#include <cadre/actor/detail/zygote_starter.hpp>
#include <cadre/actor/runtime.hpp>

#include <concepts>
#include <cstdio>
#include <exception>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {

template <class Program>
int run_program(Program& program, runtime& rt) {
  if constexpr (std::is_void_v<std::invoke_result_t<Program&, runtime&>>) {
    program(rt);
    return 0;
  } else {
    return program(rt);
  }
}
/// What `body` returns, or 1 after an error, which is said on stderr, as by a main() that throws.
template <class Body>
int run_main(int argc, char** argv, Body&& body) {
  const char* const name = argc > 0 ? argv[0] : "cadre";
  try {
    if (zygote_starter != nullptr) zygote_starter();  // before there are threads, MPI or CUDA
    return body();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", name, e.what());  // the end of the program, which asked for nothing else
  } catch (...) {
    std::fprintf(stderr, "%s: an error that is not a std::exception\n", name);  // likewise
  }
  return 1;
}

}  // namespace detail

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
  return detail::run_main(argc, argv, [&] {
    runtime rt(std::move(options));
    return detail::run_program(program, rt);
  });
}

CADRE_NAMESPACE_END

#endif
