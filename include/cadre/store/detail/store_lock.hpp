#ifndef CADRE_STORE_DETAIL_STORE_LOCK_HPP
#define CADRE_STORE_DETAIL_STORE_LOCK_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/observe/log.hpp>
#include <cadre/os/processors.hpp>
#include <cadre/store/detail/object_table.hpp>
#include <cadre/store/detail/recovery.hpp>
#include <cadre/store/error.hpp>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The letter of /proc/PID/stat (R, S, T: stopped, ...), or '?' if there is no such process.
[[gnu::cold]] inline char process_state(std::uint32_t pid) {
  const std::string text = read_small_file("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t end = text.rfind(") ");
  return end == std::string::npos || end + 2 >= text.size() ? '?' : text[end + 2];
}

/// The lock of a store, held while this exists. If it was left by a process that died, all is made whole first.
class store_lock {
 public:
  using clock = std::chrono::steady_clock;
  /// How long a holder of the lock is waited for; tests shorten it.
  static inline std::chrono::nanoseconds patience = std::chrono::seconds(10);

  /// Throws store_stalled (306) if another process holds on to it for longer than `patience`.
  explicit store_lock(object_table& table) : head_(table.head()) {
    if (!lock(table, patience)) throw store_stalled(describe() + "; continue or end that process");
  }
  /// Waits as long as it takes, with a warning each time that `patience` ends: for what has to be done and cannot fail.
  struct patiently {};
  store_lock(object_table& table, patiently) noexcept : head_(table.head()) {
    while (!lock(table, patience)) log(log_level::warning, "store", [this] { return describe(); });
  }
  store_lock(const store_lock&) = delete;
  store_lock& operator=(const store_lock&) = delete;
  ~store_lock() { head_.mutex.unlock(); }

 private:
  bool lock(object_table& table, clock::duration limit) noexcept {
    // One that is free is taken without a look at the clock.
    lock_result got = head_.mutex.lock_until(clock::time_point::min());
    if (got == lock_result::timed_out) [[unlikely]] {
      got = head_.mutex.lock_until(clock::now() + limit);
      if (got == lock_result::timed_out) return false;
    }
    head_.lock_holder.store(table.pid(), std::memory_order_relaxed);
    if (got == lock_result::owner_died) [[unlikely]] {
      rebuild(table);
      sweep_dead(table);
      head_.mutex.made_consistent();
    }
    return true;
  }
  [[gnu::cold]] static std::string describe_seconds(std::chrono::nanoseconds time) {
    char text[32];
    std::snprintf(text, sizeof text, "%g s", std::chrono::duration<double>(time).count());
    return text;
  }
  [[gnu::cold]] std::string describe() const {
    const std::uint32_t pid = head_.lock_holder.load(std::memory_order_relaxed);
    const char state = process_state(pid);
    return "process " + std::to_string(pid) + (state == 'T' || state == 't' ? ", which has been stopped," : "") +
           " has kept the store's lock for " + describe_seconds(patience);
  }

  store_header& head_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
