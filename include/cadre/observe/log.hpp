#ifndef CADRE_OBSERVE_LOG_HPP
#define CADRE_OBSERVE_LOG_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/observe/rank.hpp>

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <mutex>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

enum class log_level : std::uint8_t { trace, debug, info, warning, error };

[[nodiscard]] constexpr std::string_view to_string(log_level level) noexcept {
  constexpr std::string_view names[] = {"trace", "debug", "info", "warning", "error"};
  return static_cast<std::size_t>(level) < std::size(names) ? names[static_cast<std::size_t>(level)] : "unknown";
}

/// What a sink is given. The texts live as long as the call of the sink; copy what is to be kept.
struct log_record {
  log_level level;
  int rank;                   ///< current_rank() of the thread that logged
  std::string_view category;  ///< the room or module that speaks: "train", "pool"
  std::string_view message;   ///< one line without a line feed, as a rule
  std::chrono::system_clock::time_point time;
  std::uint32_t thread;  ///< the kernel's thread id
};

namespace detail {

struct log_sink {
  virtual ~log_sink() = default;
  virtual void write(const log_record& record) = 0;
};

template <class Sink>
struct log_sink_of final : log_sink {
  explicit log_sink_of(Sink s) : sink(std::move(s)) {}
  void write(const log_record& record) override { sink(record); }
  Sink sink;
};

struct log_state {
  std::mutex mutex;  // held while the sink runs
  std::shared_ptr<log_sink> sink;
};

// Never destroyed: a thread may log while the statics of the program are already being destroyed.
inline log_state& the_log() {
  static log_state& state = *new log_state;
  return state;
}

inline constexpr std::uint8_t log_silent = 255;
inline constinit std::atomic<std::uint8_t> log_threshold{log_silent};

inline bool& thread_is_in_sink() noexcept {
  static constinit thread_local bool inside = false;
  return inside;
}

// Returns the sink replaced, so that its destructor, which may log, runs when no lock is held.
inline std::shared_ptr<log_sink> exchange_log_sink(std::shared_ptr<log_sink> sink, std::uint8_t threshold) {
  log_state& state = the_log();
  std::unique_lock<std::mutex> lock(state.mutex, std::defer_lock);
  if (!thread_is_in_sink()) lock.lock();  // a sink that replaces itself holds the lock already
  log_threshold.store(threshold, std::memory_order_relaxed);
  state.sink.swap(sink);
  return sink;
}

[[gnu::cold]] inline void write_log(log_level level, std::string_view category, std::string_view message) noexcept {
  // Gives the sink back while the lock is held, so that whoever replaces it next destroys it; one that replaced itself
  // is this call's to destroy, after the lock.
  struct in_sink {
    explicit in_sink(std::shared_ptr<log_sink>& used) : sink(used) { thread_is_in_sink() = true; }
    ~in_sink() {
      thread_is_in_sink() = false;
      if (the_log().sink == sink) sink.reset();
    }
    in_sink(const in_sink&) = delete;
    in_sink& operator=(const in_sink&) = delete;
    std::shared_ptr<log_sink>& sink;
  };
  if (thread_is_in_sink()) return;
  try {
    std::shared_ptr<log_sink> sink;
    const std::lock_guard<std::mutex> lock(the_log().mutex);
    sink = the_log().sink;
    if (!sink) return;
    const in_sink inside(sink);
    sink->write({level, current_rank(), category, message, std::chrono::system_clock::now(), thread_id()});
  } catch (...) {  // what happens in a sink is no reason for the work that is being logged to fail
  }
}

}  // namespace detail

/// True if somebody listens to records of this level: the one relaxed load that a silent log costs. Ask before a
/// message is put together that takes work.
[[nodiscard]] inline bool log_enabled(log_level level) noexcept {
  return static_cast<std::uint8_t>(level) >= detail::log_threshold.load(std::memory_order_relaxed);
}

/// Makes `sink`, a callable that takes `const log_record&`, hear every record of at least the level `least`; it
/// replaces the sink before it. cadre itself prints nothing: without a sink, the default, records go nowhere.
///
/// Calls of the sink come from any thread, one at a time. When this function returns the sink before it is not running
/// and has been destroyed, so what it referred to may end (unless a sink replaces itself: it then ends when its call
/// does). What a sink throws is dropped, and so is what it logs itself.
template <class Sink>
  requires std::invocable<std::decay_t<Sink>&, const log_record&>
void set_log_sink(Sink&& sink, log_level least = log_level::info) {
  (void)detail::exchange_log_sink(std::make_shared<detail::log_sink_of<std::decay_t<Sink>>>(std::forward<Sink>(sink)),
                                  static_cast<std::uint8_t>(least));
}

/// Back to silence.
inline void set_log_sink(std::nullptr_t) { (void)detail::exchange_log_sink(nullptr, detail::log_silent); }

/// Hands one record to the sink, on this thread, before it returns. Never throws.
inline void log(log_level level, std::string_view category, std::string_view message) noexcept {
  if (log_enabled(level)) [[unlikely]]
    detail::write_log(level, category, message);
}

/// The same with a message that is only made if somebody listens: `log(log_level::debug, "pool", [&] { return ...; })`.
/// What `make` throws is dropped.
template <std::invocable Make>
  requires std::convertible_to<std::invoke_result_t<Make>, std::string_view>
void log(log_level level, std::string_view category, Make&& make) noexcept {
  if (!log_enabled(level)) [[likely]]
    return;
  try {
    auto&& message = std::forward<Make>(make)();
    detail::write_log(level, category, message);
  } catch (...) {}
}

CADRE_NAMESPACE_END

#endif
