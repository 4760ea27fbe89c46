#ifndef CADRE_TUNE_DETAIL_TURNS_HPP
#define CADRE_TUNE_DETAIL_TURNS_HPP

#include <cadre/config/config.hpp>
#include <cadre/core/chrono.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// Logical time. Each slot stands at the time of its next event, and an event happens only when its (time, slot) is the
/// least of all: the order of events is then the same however the threads are scheduled. To train up to a report takes
/// one unit, everything else none.
class turns {
 public:
  explicit turns(std::size_t slots) : time_(slots, 0) {}

  /// Says that a slot has a thread and waits until all have one. False, in all of them, if that has not happened in
  /// time: slots that wait for one another's threads could otherwise do so for ever.
  bool begin(std::chrono::nanoseconds timeout) {
    std::unique_lock lock(mutex_);
    ++begun_;
    changed_.notify_all();
    const bool in_time = changed_.wait_for(lock, timeout, [this] { return begun_ == time_.size() || too_late_; });
    if (!in_time) {
      too_late_ = true;
      changed_.notify_all();
    }
    return !too_late_;
  }
  [[nodiscard]] std::size_t begun() {
    const std::lock_guard lock(mutex_);
    return begun_;
  }

  /// Waits until it is this slot's turn; it then is until advance() or leave().
  void wait(std::size_t slot) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return first() == slot; });
  }
  void advance(std::size_t slot) {
    move(slot, [](std::uint64_t& time) { ++time; });
  }
  void leave(std::size_t slot) {
    move(slot, [](std::uint64_t& time) { time = gone; });
  }

 private:
  static constexpr std::uint64_t gone = std::numeric_limits<std::uint64_t>::max();

  [[nodiscard]] std::size_t first() const {
    std::size_t least = 0;
    for (std::size_t slot = 1; slot < time_.size(); ++slot)
      if (time_[slot] < time_[least]) least = slot;
    return least;
  }

  template <class Change>
  void move(std::size_t slot, Change change) {
    const std::lock_guard lock(mutex_);
    change(time_[slot]);
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint64_t> time_;
  std::size_t begun_ = 0;
  bool too_late_ = false;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif
