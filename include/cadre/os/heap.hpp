#ifndef CADRE_OS_HEAP_HPP
#define CADRE_OS_HEAP_HPP

#include <cadre/config/config.hpp>

#include <malloc.h>

#include <cstddef>
#include <cstdlib>
#include <initializer_list>

CADRE_NAMESPACE_BEGIN

/// Has the heap of the process keep up to `bytes` that are free for what is allocated next. By itself glibc's keeps twice the
/// largest block that was freed, and a program that frees and allocates more of such blocks in turn gets each page from the
/// system anew, filled with zeros. Nothing with another heap, or where the environment sets such limits
/// (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_, GLIBC_TUNABLES).
[[gnu::cold]] inline void keep_free_memory(std::size_t bytes) noexcept {
#ifdef __GLIBC__
  for (const char* const name : {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"})
    if (std::getenv(name) != nullptr) return;
  constexpr std::size_t most_in_heap = std::size_t{32} << 20;  // glibc's own limit; larger blocks are mapped each
  ::mallopt(M_MMAP_THRESHOLD, static_cast<int>(bytes < most_in_heap ? bytes : most_in_heap));
  ::mallopt(M_TRIM_THRESHOLD, static_cast<int>(bytes));
#else
  static_cast<void>(bytes);
#endif
}

CADRE_NAMESPACE_END

#endif
