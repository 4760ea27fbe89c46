#include "counted_new.hpp"

#include "sanitizers.hpp"

#include <cstdlib>
#include <new>

namespace counted_new {
std::atomic<std::size_t> calls{0};
}

#if CADRE_TESTS_WITH_TSAN && defined(__clang__)

// Clang links a whole operator new of TSan's own and takes no second one; its allocator tells of each piece of memory.
#include <sanitizer/allocator_interface.h>

[[maybe_unused]] static const int counted_new_hook = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t) { counted_new::calls.fetch_add(1, std::memory_order_relaxed); },
    [](const volatile void*) {});

#else

namespace counted_new {
static void* counted(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  calls.fetch_add(1, std::memory_order_relaxed);
  return memory;
}
}  // namespace counted_new

// Not inlined: the compiler would warn of malloc and delete, or of new and free.
[[gnu::noinline]] void* operator new(std::size_t bytes) { return counted_new::counted(std::malloc(bytes)); }
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  const auto a = static_cast<std::size_t>(alignment);
  return counted_new::counted(std::aligned_alloc(a, (bytes + a - 1) / a * a));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  counted_new::calls.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(bytes);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

#endif
