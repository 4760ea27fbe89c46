#ifndef CADRE_OS_DETAIL_RELAX_HPP
#define CADRE_OS_DETAIL_RELAX_HPP

#include <cadre/config/config.hpp>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Tells the processor that this is a loop that waits.
inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
