#ifndef CADRE_REPORT_DETAIL_NUMBER_HPP
#define CADRE_REPORT_DETAIL_NUMBER_HPP

#include <cadre/config/config.hpp>

#include <charconv>
#include <cmath>
#include <concepts>
#include <string>

CADRE_NAMESPACE_BEGIN

namespace detail {

// All of std::to_chars: the same bytes in every locale.

/// "nan", "inf", "-inf"; false for a finite number, which is left to the caller.
inline bool append_not_finite(std::string& out, double value) {
  if (std::isfinite(value)) return false;
  out += std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  return true;
}

/// The shortest text that reads back as the same number.
template <class Number>
  requires std::integral<Number> || std::same_as<Number, double>
void append_number(std::string& out, Number value) {
  if constexpr (std::same_as<Number, double>)
    if (append_not_finite(out, value)) return;
  char buffer[32];
  out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}

/// `decimals` digits after the point; |value| below 1e15.
inline void append_fixed(std::string& out, double value, int decimals) {
  char buffer[48];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed, decimals).ptr;
  std::string text(buffer, end);
  if (text.find_first_not_of("-0.") == text.npos && text.front() == '-') text.erase(0, 1);  // no negative zero
  out += text;
}

/// At most `digits` significant digits, integer digits never rounded away: 0.3125, 1.25e-05, 123456.
inline void append_significant(std::string& out, double value, int digits) {
  if (append_not_finite(out, value)) return;
  const double size = std::abs(value);
  if (size < 1e15 && (size >= std::pow(10.0, digits) || value == std::floor(value))) return append_fixed(out, value, 0);
  char buffer[48];
  out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::general, digits).ptr);
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif
