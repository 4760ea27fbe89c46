#ifndef CADRE_CORE_DIRECTION_HPP
#define CADRE_CORE_DIRECTION_HPP

#include <cadre/config/config.hpp>

CADRE_NAMESPACE_BEGIN

/// Whether a smaller or a larger score is the better one.
enum class direction { minimize, maximize };

inline constexpr direction minimize = direction::minimize;
inline constexpr direction maximize = direction::maximize;

/// True if `a` is strictly better than `b`. A NaN is never better, and every number is better than a NaN.
[[nodiscard]] constexpr bool better(direction order, double a, double b) noexcept {
  if (a != a) return false;
  if (b != b) return true;
  return order == direction::minimize ? a < b : a > b;
}

CADRE_NAMESPACE_END

#endif
