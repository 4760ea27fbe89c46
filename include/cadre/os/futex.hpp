#ifndef CADRE_OS_FUTEX_HPP
#define CADRE_OS_FUTEX_HPP

#include <cadre/config/config.hpp>
#include <cadre/core/chrono.hpp>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>

CADRE_NAMESPACE_BEGIN

/// The kernel's wait queue on a 32-bit word. `scope::process` is for words that only threads of one process touch,
/// `scope::shared` for words in memory that several processes map. Waits end for no reason now and then: call in a loop
/// that rereads the word.
namespace futex {

enum class scope { process, shared };

namespace detail {
inline long call(const std::atomic<std::uint32_t>& word, int operation, scope where, std::uint32_t value,
                 const timespec* until) noexcept {
  const int flag = where == scope::process ? FUTEX_PRIVATE_FLAG : 0;
  return ::syscall(SYS_futex, &word, operation | flag, value, until, nullptr, FUTEX_BITSET_MATCH_ANY);
}
}  // namespace detail

/// Sleeps while the word holds `expected`.
inline void wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                 scope where = scope::process) noexcept {
  detail::call(word, FUTEX_WAIT_BITSET, where, expected, nullptr);
}

/// Sleeps while the word holds `expected`, at most until `deadline`. False if the deadline has passed.
inline bool wait_until(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                       std::chrono::steady_clock::time_point deadline, scope where = scope::process) noexcept {
  if (deadline == std::chrono::steady_clock::time_point::max()) {
    wait(word, expected, where);
    return true;
  }
  // The bitset form takes an absolute time of CLOCK_MONOTONIC, which is what steady_clock reads here.
  const auto since = deadline.time_since_epoch();
  if (since.count() <= 0) return false;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
  timespec until{};
  until.tv_sec = seconds.count();
  until.tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(since - seconds).count();
  return !(detail::call(word, FUTEX_WAIT_BITSET, where, expected, &until) == -1 && errno == ETIMEDOUT);
}

inline void wake_one(const std::atomic<std::uint32_t>& word, scope where = scope::process) noexcept {
  detail::call(word, FUTEX_WAKE, where, 1, nullptr);
}

inline void wake_all(const std::atomic<std::uint32_t>& word, scope where = scope::process) noexcept {
  detail::call(word, FUTEX_WAKE, where, INT_MAX, nullptr);
}

}  // namespace futex

CADRE_NAMESPACE_END

#endif
