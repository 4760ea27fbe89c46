#ifndef CADRE_CONFIG_CONFIG_HPP
#define CADRE_CONFIG_CONFIG_HPP

#include <cadre/config/version.hpp>

#if !defined(__cplusplus) || __cplusplus < 202002L
#error "cadre needs C++20: compile with -std=c++20 or later"
#endif
#if !defined(__linux__) || !defined(__LP64__)
#error "cadre needs 64-bit Linux: it uses futex, memfd and pidfd"
#endif
#if !defined(__cpp_exceptions)
#error "cadre reports errors by exceptions: compile without -fno-exceptions"
#endif
#if !defined(__cpp_rtti)
#error "cadre needs run-time type information: compile without -fno-rtti"
#endif

// Where ThreadSanitizer looks on: it does not know of a few things that are done otherwise then.
#if defined(__SANITIZE_THREAD__)
#define CADRE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CADRE_TSAN 1
#endif
#endif

// clang 16 computes the address of a thread's own variable once in a coroutine, which may be on another thread after each
// co_await. A function that gives such an address, and may be called from a coroutine, is out of line there, and not pure.
#if defined(__clang__)
#define CADRE_OUT_OF_COROUTINES [[gnu::noinline]]
#define CADRE_NOT_PURE() asm volatile("")
#else
#define CADRE_OUT_OF_COROUTINES
#define CADRE_NOT_PURE() static_cast<void>(0)
#endif

/// Every public name lives in cadre:: and, by an inline namespace, in the version of its binary layout: two
/// libraries built against layouts that differ may be linked into one program. The visibility is said here so that
/// exceptions and registries are one and the same in a host program and its plug-ins, however those are compiled.
#define CADRE_NAMESPACE_BEGIN \
  namespace cadre {           \
  inline namespace v0 __attribute__((visibility("default"))) {
#define CADRE_NAMESPACE_END \
  }                         \
  }

#endif
