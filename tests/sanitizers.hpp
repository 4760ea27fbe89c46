#ifndef CADRE_TESTS_SANITIZERS_HPP
#define CADRE_TESTS_SANITIZERS_HPP

#if defined(__SANITIZE_ADDRESS__)
#define CADRE_TESTS_WITH_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define CADRE_TESTS_WITH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CADRE_TESTS_WITH_ASAN 1
#elif __has_feature(thread_sanitizer)
#define CADRE_TESTS_WITH_TSAN 1
#endif
#endif
#ifndef CADRE_TESTS_WITH_ASAN
#define CADRE_TESTS_WITH_ASAN 0
#endif
#ifndef CADRE_TESTS_WITH_TSAN
#define CADRE_TESTS_WITH_TSAN 0
#endif

/// Tests that count rounds or bytes do fewer then: a sanitizer makes them some ten times slower.
inline constexpr bool with_sanitizer = CADRE_TESTS_WITH_ASAN || CADRE_TESTS_WITH_TSAN;

#endif
