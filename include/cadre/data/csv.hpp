#ifndef CADRE_DATA_CSV_HPP
#define CADRE_DATA_CSV_HPP

#include <cadre/data/detail/csv_index.hpp>
#include <cadre/data/detail/csv_number.hpp>
#include <cadre/data/detail/glob.hpp>
#include <cadre/data/detail/read_file.hpp>
#include <cadre/data/error.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace data {

struct csv_options {
  char separator = ',';
  bool header = true;                         ///< the first row of each file holds the names
  char quote = '"';                           ///< '\0': quotes are ordinary characters
  std::vector<std::string> missing = {"NA"};  ///< what stands for a missing value, beside nothing at all
  std::vector<std::string> names = {};        ///< names of the columns where there is no header; else c0, c1, ...
};

/// A type that a column can be read as.
template <class T>
concept csv_value =
    std::same_as<T, std::string> || (std::is_arithmetic_v<T> && !std::same_as<T, bool> && !std::same_as<T, char>);

/// A table of text, as CSV files hold it (RFC 4180), in memory: the text itself and eight bytes per field. Fields
/// become numbers or strings when a column is asked for.
///
///     auto table = cadre::data::read_csv_table("letters-*.csv");
///     std::vector<float> x = table.matrix<float>({"width", "height"});   // row-major
///     std::vector<std::string> y = table.column<std::string>("letter");
///
/// Immutable: any number of threads may read one.
class csv_table {
 public:
  [[nodiscard]] std::size_t rows() const noexcept { return index_.rows(); }
  [[nodiscard]] std::size_t columns() const noexcept { return names_.size(); }
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }

  /// The number of a column. Throws csv_error 726, naming the columns that there are.
  [[nodiscard]] std::size_t index(std::string_view name) const {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found != names_.end()) return static_cast<std::size_t>(found - names_.begin());
    std::string there_are = names_.empty() ? "there is none" : "there are:";
    for (const std::string& n : names_) there_are += " '" + n + "'";
    throw csv_error::no_such_column(first_line(), name, there_are);
  }

  /// One field as text, without its quotes. row < rows(); throws csv_error 726 beyond the columns.
  [[nodiscard]] std::string text(std::size_t row, std::size_t column) const {
    require(column);
    return index_.text(row, column);
  }
  /// Whether the field is empty or one of csv_options::missing.
  [[nodiscard]] bool is_missing(std::size_t row, std::size_t column) const {
    require(column);
    return is_missing(index_.field(row, column).text);
  }

  /// A column as integers, reals or strings. Blanks around a number and a plus before it are allowed. A missing value
  /// becomes `instead`, if given, else NaN; strings are taken as they are. Throws csv_error 724 (not such a number, or
  /// one out of T's range), 725 (missing and T is an integer), 726 (no such column).
  template <csv_value T>
  [[nodiscard]] std::vector<T> column(std::size_t column, std::optional<T> instead = std::nullopt) const {
    require(column);
    std::vector<T> values(rows());
    for (std::size_t row = 0; row < rows(); ++row) values[row] = value<T>(row, column, instead);
    return values;
  }
  template <csv_value T>
  [[nodiscard]] std::vector<T> column(std::string_view name, std::optional<T> instead = std::nullopt) const {
    return column<T>(index(name), instead);
  }

  /// Several columns side by side, row-major: rows() x columns.size() values. Throws what column throws.
  template <csv_value T>
  [[nodiscard]] std::vector<T> matrix(std::span<const std::size_t> columns,
                                      std::optional<T> instead = std::nullopt) const {
    for (std::size_t column : columns) require(column);
    std::vector<T> values(rows() * columns.size());
    auto out = values.begin();
    for (std::size_t row = 0; row < rows(); ++row)
      for (std::size_t column : columns) *out++ = value<T>(row, column, instead);
    return values;
  }
  template <csv_value T>
  [[nodiscard]] std::vector<T> matrix(const std::vector<std::string_view>& columns,
                                      std::optional<T> instead = std::nullopt) const {
    std::vector<std::size_t> indices;
    for (std::string_view name : columns) indices.push_back(index(name));
    return matrix<T>(indices, instead);
  }
  /// All columns.
  template <csv_value T>
  [[nodiscard]] std::vector<T> matrix(std::optional<T> instead = std::nullopt) const {
    std::vector<std::size_t> indices(columns());
    for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = i;
    return matrix<T>(indices, instead);
  }

 private:
  friend csv_table parse_csv_table(std::string text, csv_options options, std::string source);
  friend csv_table read_csv_table(const std::string& pattern, csv_options options);

  explicit csv_table(csv_options options) : options_(std::move(options)), index_(options_.separator, options_.quote) {
    const char s = options_.separator, q = options_.quote;
    if (s == '\n' || s == '\r' || q == '\n' || q == '\r' || s == q)
      throw csv_error::bad_options("a CSV separator and quote must differ from each other and from line ends");
    double number;
    for (const std::string& m : options_.missing) missing_is_number_ |= detail::parse_number(m, number);
  }

  /// Parses what `fill(std::string&)` appends to the text, as a file of its own.
  template <class Fill>
  void add(const std::string& source, const Fill& fill) {
    index_.begin_file(source, fill);
    std::vector<std::string> head;
    if (options_.header) {
      if (!index_.next_row(head)) throw csv_error::bad_header({source, 1, 1}, "there is no header line");
    } else {
      head = options_.names;
      if (head.empty())
        for (std::size_t i = 0, n = index_.peek_columns(); i < n; ++i) head.push_back("c" + std::to_string(i));
    }
    if (first_source_.empty()) {
      require_distinct(head, source);
      names_ = std::move(head);
      first_source_ = source;
    } else if (options_.header && head != names_) {
      throw csv_error::bad_header({source, 1, 1}, "the header differs from that of " + first_source_);
    }
    index_.index_rows(names_.size());
  }

  static void require_distinct(const std::vector<std::string>& names, const std::string& source) {
    for (std::size_t i = 0; i < names.size(); ++i)
      if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
          names.begin() + static_cast<std::ptrdiff_t>(i))
        throw csv_error::bad_header({source, 1, 1}, "two columns are named '" + names[i] + "'");
  }

  void require(std::size_t column) const {
    if (column >= columns())
      throw csv_error::no_such_column(first_line(), std::to_string(column), "there are " + std::to_string(columns()));
  }
  [[nodiscard]] file_position first_line() const { return {first_source_, 1, 1}; }

  [[nodiscard]] bool is_missing(std::string_view text) const {
    return text.empty() || std::find(options_.missing.begin(), options_.missing.end(), text) != options_.missing.end();
  }

  template <class T>
  [[nodiscard]] T value(std::size_t row, std::size_t column, const std::optional<T>& instead) const {
    if constexpr (std::same_as<T, std::string>) {
      std::string text = index_.text(row, column);
      return instead && is_missing(text) ? *instead : text;
    } else {
      T number;
      const std::string_view text = index_.field(row, column).text;
      const bool parsed = detail::parse_number(text, number);
      if (parsed && !(missing_is_number_ && is_missing(text))) [[likely]]
        return number;
      if (!parsed && !is_missing(text))
        throw csv_error::bad_number(index_.position(row, column), detail::number_name<T>(), text);
      if (instead) return *instead;
      if constexpr (std::floating_point<T>)
        return std::numeric_limits<T>::quiet_NaN();
      else
        throw csv_error::missing_value(index_.position(row, column), detail::number_name<T>(), names_[column]);
    }
  }

  csv_options options_;
  bool missing_is_number_ = false;  // as in -999: then a field that parses may still be missing
  detail::csv_index index_;
  std::vector<std::string> names_;
  std::string first_source_;
};

/// Parses CSV text: fields may be quoted, and then hold separators, line ends and doubled quotes; lines end in LF or
/// CRLF; empty lines and a byte-order mark are skipped. `source` names the text in messages. Throws csv_error 721 to
/// 723, 727 or 728, with file:line:column; there are no partial results.
[[nodiscard]] inline csv_table parse_csv_table(std::string text, csv_options options = {},
                                               std::string source = "CSV text") {
  csv_table table{std::move(options)};
  table.add(source, [&](std::string& out) { out = std::move(text); });
  return table;
}

/// Reads a CSV file, or all files that a pattern matches (`*`, `?`, `[...]` in any part of the path), one after the
/// other in the order of their names; all must have the same header. Throws file_error 701 or 702 (nothing matches),
/// and what parse_csv_table throws.
[[nodiscard]] inline csv_table read_csv_table(const std::string& pattern, csv_options options = {}) {
  csv_table table{std::move(options)};
  for (const std::string& path : detail::matching_files(pattern))
    table.add(path, [&](std::string& out) { detail::read_file(path, out); });
  return table;
}

}  // namespace data

CADRE_NAMESPACE_END

#endif
