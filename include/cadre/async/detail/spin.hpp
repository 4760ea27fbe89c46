#ifndef CADRE_ASYNC_DETAIL_SPIN_HPP
#define CADRE_ASYNC_DETAIL_SPIN_HPP

#include <cadre/config/config.hpp>
#include <cadre/os/detail/relax.hpp>

#include <time.h>

#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A processor's own count of time, where it has one that costs little: about 1 to 4 ticks per nanosecond. For thresholds.
[[nodiscard]] inline std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  std::uint64_t count = 0, frequency = 1;
  asm volatile("mrs %0, cntvct_el0" : "=r"(count));
  asm volatile("mrs %0, cntfrq_el0" : "=r"(frequency));
  return count * (2'000'000'000 / (frequency != 0 ? frequency : 1));
#else
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return 2 * (static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec));
#endif
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
