#ifndef CADRE_ASYNC_DETAIL_FETCH_AHEAD_HPP
#define CADRE_ASYNC_DETAIL_FETCH_AHEAD_HPP

#include <cadre/config/config.hpp>

#include <cstddef>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

class task;

/// A task that another thread has made, or run, and that this one will touch soon: it lies in the cache of the other thread.
inline void fetch(const void* t) noexcept {
  __builtin_prefetch(t, 1);
  __builtin_prefetch(static_cast<const std::byte*>(t) + 64, 1);
}

/// For who goes along tasks of other threads, and would wait for each. Those that were made one after the other mostly lie at
/// even distances: this fetches the one that is `tasks` further on. A guess that is wrong only costs time.
inline void fetch_ahead(const task* before, const task* t, std::uintptr_t tasks) noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(t);
  fetch(reinterpret_cast<const void*>(at + tasks * (at - reinterpret_cast<std::uintptr_t>(before))));
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
