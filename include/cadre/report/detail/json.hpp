#ifndef CADRE_REPORT_DETAIL_JSON_HPP
#define CADRE_REPORT_DETAIL_JSON_HPP

#include <cadre/report/detail/number.hpp>
#include <cadre/report/detail/text.hpp>

#include <cmath>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace detail {

inline void append_json(std::string& out, std::string_view text) {
  out += '"';
  for (char c : valid_utf8(text)) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          constexpr char digits[] = "0123456789abcdef";
          (out += "\\u00") += digits[c >> 4];
          out += digits[c & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

/// JSON has no NaN and no infinity; they become null.
inline void append_json(std::string& out, double value) {
  if (std::isfinite(value))
    append_number(out, value);
  else
    out += "null";
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif
