#ifndef CADRE_COMM_REDUCE_OP_HPP
#define CADRE_COMM_REDUCE_OP_HPP

#include <cadre/core/data_type.hpp>

#include <cstdint>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// What a reduction does with two elements. Sums and products of integers wrap around; min and max give NaN if either
/// element is NaN, so that a diverged rank is seen by all.
enum class reduce_op : std::uint8_t { sum, product, min, max, bit_and, bit_or };

inline constexpr reduce_op sum = reduce_op::sum;
inline constexpr reduce_op product = reduce_op::product;
inline constexpr reduce_op min = reduce_op::min;
inline constexpr reduce_op max = reduce_op::max;
inline constexpr reduce_op bit_and = reduce_op::bit_and;
inline constexpr reduce_op bit_or = reduce_op::bit_or;

[[nodiscard]] constexpr std::string_view to_string(reduce_op op) noexcept {
  constexpr std::string_view names[] = {"sum", "product", "min", "max", "bit_and", "bit_or"};
  return static_cast<std::size_t>(op) < std::size(names) ? names[static_cast<std::size_t>(op)] : "unknown";
}

/// Whether `op` has a meaning for elements of `type`: bits of floating-point numbers do not.
[[nodiscard]] constexpr bool supports(reduce_op op, data_type type) noexcept {
  return op < reduce_op::bit_and || (type != data_type::float32 && type != data_type::float64);
}

CADRE_NAMESPACE_END

#endif
