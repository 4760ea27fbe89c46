#ifndef CADRE_OBSERVE_DETAIL_SHARDS_HPP
#define CADRE_OBSERVE_DETAIL_SHARDS_HPP

#include <cadre/config/config.hpp>

#include <atomic>
#include <cstddef>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Metrics are kept in this many copies, each on cache lines of its own, and summed when read. The first threads of the
/// process have one each for themselves, which they change without a locked instruction; the others take turns in choosing
/// one of the rest.
inline constexpr std::size_t own_metric_shards = 8, metric_shards = 16;

inline constinit std::atomic<std::size_t> next_metric_shard{0};

inline std::size_t metric_shard() noexcept {
  static constinit thread_local std::size_t mine = metric_shards;
  if (mine == metric_shards) [[unlikely]] {
    const std::size_t n = next_metric_shard.fetch_add(1, std::memory_order_relaxed);
    mine = n < own_metric_shards ? n : own_metric_shards + n % (metric_shards - own_metric_shards);
  }
  return mine;
}

/// Adds to what is this thread's of a metric.
template <class T>
void add_to_shard(std::atomic<T>& value, std::size_t shard, T n) noexcept {
  if (shard < own_metric_shards)
    value.store(value.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  else
    value.fetch_add(n, std::memory_order_relaxed);
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif
