#ifndef CADRE_ACTOR_DETAIL_CIRCLE_LOOKS_HPP
#define CADRE_ACTOR_DETAIL_CIRCLE_LOOKS_HPP

#include <cadre/config/config.hpp>

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// When a rank looks for circles of waits, and which questions have come by: see circle_request.
class circle_looks {
 public:
  struct question {
    int asker;
    std::uint64_t first;
    std::uint32_t round;
    int from;
    std::uint64_t number;
    friend auto operator<=>(const question&, const question&) = default;
  };

  /// By one thread; true four times a second.
  [[nodiscard]] bool is_time() noexcept {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return false;
    next_ = now + std::chrono::milliseconds(250);
    ++round_;
    return true;
  }
  [[nodiscard]] std::uint32_t round() const noexcept { return round_; }

  /// False if it has been here, by the same way or another. Thread-safe.
  [[nodiscard]] bool is_new(const question& q) {
    constexpr std::size_t enough = 10'000;
    const std::lock_guard lock(mutex_);
    if (seen_.size() > enough) seen_.clear();
    return seen_.insert(q).second;
  }

 private:
  std::chrono::steady_clock::time_point next_{};
  std::uint32_t round_ = 0;
  std::mutex mutex_;
  std::set<question> seen_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
