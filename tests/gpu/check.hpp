#ifndef CADRE_TESTS_GPU_CHECK_HPP
#define CADRE_TESTS_GPU_CHECK_HPP

// Plain programs instead of Catch: nvcc alone builds them, and each says by itself why it cannot run (exit code 77).

#include <cadre/core/error.hpp>
#include <cadre/cuda/device.hpp>

#include <cstdio>
#include <exception>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace check {

inline constexpr int skipped = 77;

struct failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void that(bool good, std::string_view what,
                 const std::source_location& where = std::source_location::current()) {
  if (!good) throw failure(cadre::cuda::cuda_error::place(where) + ": " + std::string(what));
}

/// Runs `act`, which must throw an E of this number whose text has `part` in it.
template <class E, class Act>
void throws(int number, std::string_view part, Act&& act,
            const std::source_location& where = std::source_location::current()) {
  try {
    act();
  } catch (const E& e) {
    const std::string_view text = e.what();
    that(e.number() == number && text.find(part) != text.npos, "another error: " + std::string(text), where);
    return;
  }
  that(false, "nothing was thrown, but " + std::to_string(number) + " should be", where);
}

/// One test case: prints its sentence and whether it holds.
template <class Act>
bool holds(const char* sentence, Act&& act) {
  try {
    act();
    std::printf("ok: %s\n", sentence);
    return true;
  } catch (const std::exception& e) {
    std::printf("FAILED: %s\n  %s\n", sentence, e.what());
    return false;
  }
}

/// Whether a GPU can be used; says why not.
inline bool gpu_present() {
  try {
    cadre::cuda::require_device(0);
    return true;
  } catch (const cadre::error& e) {
    std::printf("skipped: needs a GPU: %s\n", e.what());
    return false;
  }
}

}  // namespace check

#endif
