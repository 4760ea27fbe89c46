#ifndef CADRE_OBSERVE_COUNTER_HPP
#define CADRE_OBSERVE_COUNTER_HPP

#include <cadre/observe/detail/shards.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

CADRE_NAMESPACE_BEGIN

/// A number that only grows: tasks done, bytes sent. Any thread; one relaxed addition, or less.
class counter {
 public:
  counter() = default;
  counter(const counter&) = delete;
  counter& operator=(const counter&) = delete;

  void add(std::uint64_t n = 1) noexcept {
    const std::size_t mine = detail::metric_shard();
    detail::add_to_shard(shards_[mine].value, mine, n);
  }
  [[nodiscard]] std::uint64_t value() const noexcept {
    std::uint64_t total = 0;
    for (const shard& s : shards_) total += s.value.load(std::memory_order_relaxed);
    return total;
  }

 private:
  struct alignas(64) shard {
    std::atomic<std::uint64_t> value{0};
  };
  std::array<shard, detail::metric_shards> shards_;
};

CADRE_NAMESPACE_END

#endif
