#ifndef CADRE_DATA_DETAIL_CSV_NUMBER_HPP
#define CADRE_DATA_DETAIL_CSV_NUMBER_HPP

#include <cadre/core/data_type.hpp>

#include <charconv>
#include <string_view>
#include <system_error>
#include <type_traits>

CADRE_NAMESPACE_BEGIN

namespace data::detail {

/// The whole of `text` as a number, blanks around it and a plus before it aside. False if it is none, or if T cannot
/// hold it; `number` is then unspecified.
template <class T>
bool parse_number(std::string_view text, T& number) noexcept {
  const char* begin = text.data();
  const char* end = begin + text.size();
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (begin != end && blank(*begin)) ++begin;
  while (begin != end && blank(end[-1])) --end;
  if constexpr (std::is_floating_point_v<T>) {  // few digits and nothing else: exact, and twice as fast
    if (end - begin <= 7 && begin != end) {
      unsigned value = 0, worst = 0;
      for (const char* c = begin; c != end; ++c) {
        const unsigned digit = static_cast<unsigned char>(*c) - unsigned{'0'};
        worst = digit > worst ? digit : worst;
        value = value * 10 + digit;
      }
      if (worst <= 9) {
        number = static_cast<T>(value);
        return true;
      }
    }
  }
  if (end - begin > 1 && *begin == '+' && begin[1] != '-') ++begin;
  const auto [stop, problem] = std::from_chars(begin, end, number);
  return problem == std::errc{} && stop == end;
}

/// "float32", "int64", ... for messages.
template <class T>
std::string_view number_name() noexcept {
  if constexpr (reducible<T>)
    return to_string(data_type_of<T>);
  else
    return "number";
}

}  // namespace data::detail

CADRE_NAMESPACE_END

#endif
