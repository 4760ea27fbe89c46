#ifndef CADRE_OBSERVE_DETAIL_SHARDS_HPP
#define CADRE_OBSERVE_DETAIL_SHARDS_HPP

#include <cadre/config/config.hpp>

#include <atomic>
#include <cstddef>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Metrics are kept in this many copies, each on cache lines of its own, and summed when read; threads take turns in
/// choosing one, so that up to as many count without disturbing one another.
inline constexpr std::size_t metric_shards = 8;

inline constinit std::atomic<std::size_t> next_metric_shard{0};

inline std::size_t metric_shard() noexcept {
  static constinit thread_local std::size_t mine = metric_shards;
  if (mine == metric_shards) [[unlikely]]
    mine = next_metric_shard.fetch_add(1, std::memory_order_relaxed) % metric_shards;
  return mine;
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif
