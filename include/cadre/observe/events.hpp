#ifndef CADRE_OBSERVE_EVENTS_HPP
#define CADRE_OBSERVE_EVENTS_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/observe/rank.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Something that happened, on which thread and for how long.
struct event {
  std::chrono::nanoseconds begin{};     ///< of steady_clock, which all processes of a machine share
  std::chrono::nanoseconds duration{};  ///< zero for an instant
  bool instant = false;                 ///< a point in time, made by mark_event
  std::uint32_t thread = 0;             ///< the kernel's thread id
  int rank = 0;                         ///< current_rank() of the thread that recorded
  std::string category{};               ///< at most 16 bytes
  std::string name{};                   ///< at most 56 bytes; longer names are cut

  friend bool operator==(const event&, const event&) = default;
};

/// The newest events, `capacity` (rounded up to a power of two) of 128 bytes each; older ones are overwritten. Any
/// number of threads may record while others take snapshots; nobody waits for anybody.
class event_ring {
 public:
  explicit event_ring(std::size_t capacity)
      : mask_(std::bit_ceil(std::max<std::size_t>(capacity, 2)) - 1), slots_(std::make_unique<slot[]>(mask_ + 1)) {}

  [[nodiscard]] std::size_t capacity() const noexcept { return mask_ + 1; }

  /// Records for the calling thread. A negative duration marks an instant.
  void record(std::string_view category, std::string_view name, std::chrono::nanoseconds begin,
              std::chrono::nanoseconds duration) noexcept {
    slot& s = slots_[next_.fetch_add(1, std::memory_order_relaxed) & mask_];
    // A slot is owned while its version is odd. If another writer, a whole round behind or ahead, has it, this event
    // is dropped rather than waited for.
    std::uint64_t version = s.version.load(std::memory_order_relaxed);
    if ((version & 1) != 0 ||
        !s.version.compare_exchange_strong(version, version + 1, std::memory_order_acquire, std::memory_order_relaxed))
      return;
    words w{};
    w[0] = static_cast<std::uint64_t>(begin.count());
    w[1] = static_cast<std::uint64_t>(duration.count());
    w[2] = std::uint64_t{detail::thread_id()} << 32 | static_cast<std::uint32_t>(current_rank());
    std::memcpy(&w[3], category.data(), std::min(category.size(), category_bytes));
    std::memcpy(&w[5], name.data(), std::min(name.size(), name_bytes));
    w[12] = epoch_.load(std::memory_order_relaxed);
    // Release, and acquire in the reader, so that whoever sees a new word also sees the odd version before it: a
    // sequence lock without a fence, which thread sanitizers do not know.
    for (std::size_t i = 0; i < w.size(); ++i) s.data[i].store(w[i], std::memory_order_release);
    s.version.store(version + 2, std::memory_order_release);
  }

  /// The events that there are, by their beginning. What is recorded meanwhile may or may not be among them. A template,
  /// as are its callers, so that only those who look pay to compile it.
  template <class Event = event>
  [[nodiscard]] std::vector<Event> snapshot() const {
    std::vector<Event> events;
    const std::uint64_t epoch = epoch_.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i <= mask_; ++i) {
      const slot& s = slots_[i];
      const std::uint64_t version = s.version.load(std::memory_order_acquire);
      if (version == 0 || (version & 1) != 0) continue;
      words w;
      for (std::size_t k = 0; k < w.size(); ++k) w[k] = s.data[k].load(std::memory_order_acquire);
      if (s.version.load(std::memory_order_relaxed) != version || w[12] != epoch) continue;
      Event e;
      e.begin = std::chrono::nanoseconds(static_cast<std::int64_t>(w[0]));
      const auto duration = static_cast<std::int64_t>(w[1]);
      e.instant = duration < 0;
      e.duration = std::chrono::nanoseconds(std::max<std::int64_t>(duration, 0));
      e.thread = static_cast<std::uint32_t>(w[2] >> 32);
      e.rank = static_cast<int>(static_cast<std::uint32_t>(w[2]));
      e.category = text(&w[3], category_bytes);
      e.name = text(&w[5], name_bytes);
      events.push_back(std::move(e));
    }
    std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.begin < b.begin; });
    return events;
  }

  /// Forgets what was recorded so far.
  void clear() noexcept { epoch_.fetch_add(1, std::memory_order_relaxed); }

 private:
  static constexpr std::size_t category_bytes = 16, name_bytes = 56;
  using words = std::array<std::uint64_t, 13>;
  struct alignas(64) slot {
    std::atomic<std::uint64_t> version{0};
    std::array<std::atomic<std::uint64_t>, std::tuple_size_v<words>> data{};
  };

  static std::string text(const std::uint64_t* from, std::size_t most) {
    const auto* bytes = reinterpret_cast<const char*>(from);
    return std::string(bytes, std::find(bytes, bytes + most, '\0'));
  }

  std::size_t mask_;
  std::unique_ptr<slot[]> slots_;
  std::atomic<std::uint64_t> epoch_{0};
  alignas(64) std::atomic<std::uint64_t> next_{0};
};

namespace detail {

inline constinit std::atomic<event_ring*> current_events{nullptr};

/// Rings are never destroyed, since a thread may be about to write to one; one per capacity is enough.
inline event_ring& event_ring_of(std::size_t capacity) {
  struct known_ring {
    event_ring ring;
    known_ring* next;
  };
  static std::mutex& mutex = *new std::mutex;
  static known_ring* newest = nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  for (known_ring* known = newest; known; known = known->next)
    if (known->ring.capacity() == std::bit_ceil(std::max<std::size_t>(capacity, 2))) return known->ring;
  newest = new known_ring{event_ring(capacity), newest};
  return newest->ring;
}

[[nodiscard]] inline std::chrono::nanoseconds event_time() noexcept {
  return std::chrono::steady_clock::now().time_since_epoch();
}

}  // namespace detail

/// Begins to record events of this process, with none of an earlier recording. 16,384 of them take 2 MiB.
inline void enable_events(std::size_t capacity = 16384) {
  event_ring& ring = detail::event_ring_of(capacity);
  ring.clear();
  detail::current_events.store(&ring, std::memory_order_release);
}

/// The default: events cost one load. Returns what was recorded, the newest `capacity` events.
template <class Event = event>
std::vector<Event> disable_events() {
  const event_ring* ring = detail::current_events.exchange(nullptr, std::memory_order_acq_rel);
  return ring ? ring->snapshot<Event>() : std::vector<Event>();
}

[[nodiscard]] inline bool events_enabled() noexcept {
  return detail::current_events.load(std::memory_order_relaxed) != nullptr;
}

/// The newest events while recording goes on; empty when disabled.
template <class Event = event>
[[nodiscard]] std::vector<Event> recent_events() {
  const event_ring* ring = detail::current_events.load(std::memory_order_acquire);
  return ring ? ring->snapshot<Event>() : std::vector<Event>();
}

/// An instant on the calling thread.
inline void mark_event(std::string_view category, std::string_view name) noexcept {
  if (event_ring* ring = detail::current_events.load(std::memory_order_acquire)) [[unlikely]]
    ring->record(category, name, detail::event_time(), std::chrono::nanoseconds(-1));
}

/// Records the time from its construction to its end on the calling thread. The texts must live as long as it does.
///
///     const cadre::event_span span("train", "backward");
class [[nodiscard]] event_span {
 public:
  event_span(std::string_view category, std::string_view name) noexcept
      : ring_(detail::current_events.load(std::memory_order_acquire)) {
    if (ring_) [[unlikely]] {
      category_ = category;
      name_ = name;
      begin_ = detail::event_time();
    }
  }
  ~event_span() {
    if (ring_) [[unlikely]]
      ring_->record(category_, name_, begin_, detail::event_time() - begin_);
  }
  event_span(const event_span&) = delete;
  event_span& operator=(const event_span&) = delete;

 private:
  event_ring* ring_;
  std::string_view category_, name_;
  std::chrono::nanoseconds begin_{};
};

CADRE_NAMESPACE_END

#endif
