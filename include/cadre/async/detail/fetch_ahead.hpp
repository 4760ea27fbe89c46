#ifndef CADRE_ASYNC_DETAIL_FETCH_AHEAD_HPP
#define CADRE_ASYNC_DETAIL_FETCH_AHEAD_HPP

#include <cadre/async/detail/task.hpp>

#include <cstddef>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// For who goes along tasks that other threads have made, or run: each lies in the cache of the other thread, and one at a
/// time they would be waited for. Those that were made one after the other mostly lie at even distances: this fetches the one
/// that is `tasks` further on. A guess that is wrong only costs time.
inline void fetch_ahead(const task* before, const task* t, std::uintptr_t tasks) noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(t);
  const auto guess = reinterpret_cast<const std::byte*>(at + tasks * (at - reinterpret_cast<std::uintptr_t>(before)));
  __builtin_prefetch(guess, 1);
  __builtin_prefetch(guess + 64, 1);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
