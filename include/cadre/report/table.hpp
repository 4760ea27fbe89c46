#ifndef CADRE_REPORT_TABLE_HPP
#define CADRE_REPORT_TABLE_HPP

#include <cadre/report/detail/number.hpp>
#include <cadre/report/detail/text.hpp>
#include <cadre/report/record.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// How format_table lays out its columns.
struct table_options {
  int digits = 4;               ///< significant digits of reals
  std::size_t max_width = 120;  ///< columns of the screen; 0: no limit
};

namespace detail {

std::string table_cell(const auto& value, int digits) {
  std::string text;
  std::visit(
      [&]<class T>(const T& v) {
        if constexpr (std::is_same_v<T, bool>)
          text = v ? "yes" : "no";
        else if constexpr (std::is_same_v<T, double>)
          append_significant(text, v, digits);
        else if constexpr (std::is_same_v<T, std::string>)
          text = without_controls(v);
        else
          append_number(text, v);
      },
      value);
  return text;
}

inline void append_padded(std::string& out, const std::string& text, std::size_t width, bool right) {
  const std::string shown = clip(text, width);
  const std::string blanks(width - display_width(shown), ' ');
  out += right ? blanks + shown : shown + blanks;
}

}  // namespace detail

/// The records as a text table for a person: a header, a rule, one line per record, columns in the order in which they
/// first occur. Numbers stand to the right, reals with `digits` significant digits; a missing field is "-". A table
/// wider than `max_width` has its widest texts shortened ("..."), then its last columns left out ("..." in the header).
///
/// A template so that only those who call it pay to compile it.
template <class Text = std::string>
[[nodiscard]] Text format_table(std::span<const record> rows, table_options options = {}) {
  struct table_column {
    Text name;
    std::vector<Text> cells;
    bool numeric;
    std::size_t width;
  };
  std::vector<table_column> columns;
  for (const record& row : rows)
    for (const record::field& f : row)
      if (std::none_of(columns.begin(), columns.end(), [&](const table_column& c) { return c.name == f.name; }))
        columns.push_back({f.name, {}, true, 0});
  if (columns.empty()) return {};

  std::size_t total = 0;
  for (table_column& column : columns) {
    for (const record& row : rows) {
      const record_value* value = row.find(column.name);
      column.cells.push_back(value ? detail::table_cell(*value, options.digits) : "-");
      if (value && (std::holds_alternative<std::string>(*value) || std::holds_alternative<bool>(*value)))
        column.numeric = false;
    }
    column.name = detail::without_controls(column.name);
    column.width = detail::display_width(column.name);
    for (const Text& cell : column.cells) column.width = std::max(column.width, detail::display_width(cell));
    total += column.width + 2;
  }

  constexpr std::size_t narrowest = 8;
  bool left_out = false;
  if (options.max_width != 0) {
    const std::size_t limit = options.max_width + 2;  // the last column needs no gap
    while (total > limit) {
      table_column* widest = nullptr;
      for (table_column& column : columns)
        if (!column.numeric && column.width > narrowest && (!widest || column.width > widest->width)) widest = &column;
      if (!widest) break;
      --widest->width;
      --total;
    }
    while (total + (left_out ? 5 : 0) > limit && columns.size() > 1) {
      total -= columns.back().width + 2;
      columns.pop_back();
      left_out = true;
    }
  }

  Text out;
  const auto line = [&](auto&& text_of, std::string_view mark) {
    const std::size_t begin = out.size();
    for (const table_column& column : columns) {
      if (&column != &columns.front()) out += "  ";
      detail::append_padded(out, text_of(column), column.width, column.numeric);
    }
    if (left_out) (out += "  ") += mark;
    while (out.size() > begin && out.back() == ' ') out.pop_back();
    out += '\n';
  };
  line([](const table_column& c) { return c.name; }, "...");
  line([](const table_column& c) { return Text(c.width, '-'); }, "---");
  for (std::size_t i = 0; i < rows.size(); ++i) line([i](const table_column& c) { return c.cells[i]; }, "");
  return out;
}

CADRE_NAMESPACE_END

#endif
