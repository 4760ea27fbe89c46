#ifndef CADRE_CORE_DATA_TYPE_HPP
#define CADRE_CORE_DATA_TYPE_HPP

#include <cadre/config/config.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// The element types that collectives reduce and that parameters may have.
enum class data_type : std::uint8_t { int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64 };

namespace detail {

template <class T>
consteval int data_type_index() {
  if constexpr (std::is_same_v<T, float>) return static_cast<int>(data_type::float32);
  if constexpr (std::is_same_v<T, double>) return static_cast<int>(data_type::float64);
  // By size and sign, so that long and long long are both 64 bits; bool and the character types of text are not numbers.
  if constexpr (std::is_same_v<T, signed char> || std::is_same_v<T, unsigned char> || std::is_same_v<T, char> ||
                std::is_same_v<T, short> || std::is_same_v<T, unsigned short> || std::is_same_v<T, int> ||
                std::is_same_v<T, unsigned> || std::is_same_v<T, long> || std::is_same_v<T, unsigned long> ||
                std::is_same_v<T, long long> || std::is_same_v<T, unsigned long long>) {
    constexpr int base = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 2 : sizeof(T) == 4 ? 4 : 6;
    return base + (std::is_signed_v<T> ? 0 : 1);
  }
  return -1;
}

}  // namespace detail

/// A type that collectives can reduce.
template <class T>
concept reducible = detail::data_type_index<std::remove_cv_t<T>>() >= 0;

template <reducible T>
inline constexpr data_type data_type_of = static_cast<data_type>(detail::data_type_index<std::remove_cv_t<T>>());

/// Bytes per element.
[[nodiscard]] constexpr std::size_t size_of(data_type type) noexcept {
  switch (type) {
    case data_type::int8:
    case data_type::uint8: return 1;
    case data_type::int16:
    case data_type::uint16: return 2;
    case data_type::int32:
    case data_type::uint32:
    case data_type::float32: return 4;
    case data_type::int64:
    case data_type::uint64:
    case data_type::float64: return 8;
  }
  return 0;
}

[[nodiscard]] constexpr std::string_view to_string(data_type type) noexcept {
  constexpr std::string_view names[] = {"int8",   "uint8", "int16",  "uint16",  "int32",
                                        "uint32", "int64", "uint64", "float32", "float64"};
  return static_cast<std::size_t>(type) < std::size(names) ? names[static_cast<std::size_t>(type)] : "unknown";
}

/// Calls `visitor` with a value-initialised element of the C++ type behind `type`: the one switch from run-time to
/// compile-time types.
template <class Visitor>
constexpr decltype(auto) visit(data_type type, Visitor&& visitor) {
  switch (type) {
    case data_type::int8: return std::forward<Visitor>(visitor)(std::int8_t{});
    case data_type::uint8: return std::forward<Visitor>(visitor)(std::uint8_t{});
    case data_type::int16: return std::forward<Visitor>(visitor)(std::int16_t{});
    case data_type::uint16: return std::forward<Visitor>(visitor)(std::uint16_t{});
    case data_type::int32: return std::forward<Visitor>(visitor)(std::int32_t{});
    case data_type::uint32: return std::forward<Visitor>(visitor)(std::uint32_t{});
    case data_type::int64: return std::forward<Visitor>(visitor)(std::int64_t{});
    case data_type::uint64: return std::forward<Visitor>(visitor)(std::uint64_t{});
    case data_type::float32: return std::forward<Visitor>(visitor)(float{});
    case data_type::float64: break;
  }
  return std::forward<Visitor>(visitor)(double{});
}

CADRE_NAMESPACE_END

#endif
