#ifndef CADRE_REPORT_CSV_WRITER_HPP
#define CADRE_REPORT_CSV_WRITER_HPP

#include <cadre/report/detail/number.hpp>
#include <cadre/report/detail/row_file.hpp>
#include <cadre/report/record.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// What a csv_writer does with the file, and which columns it has.
struct csv_writer_options {
  std::vector<std::string> columns{};  ///< empty: those of the first row
  open_mode mode = open_mode::truncate;
};

/// Writes records as comma-separated values with a header line, quoted by RFC 4180, rows ended by a line feed.
///
/// Numbers are the shortest text that reads back as the same number, in every locale; "nan", "inf", "-inf"; "true",
/// "false". A column that a record lacks is an empty cell, an empty string is "". Columns are fixed at construction, by
/// the first row, or by the file appended to.
///
/// Each row has reached the kernel when `write` returns, so it survives the death of the process (not a power
/// failure). A row that was half-written when a process died is dropped when the file is opened to append, and the log says so. One thread
/// at a time, one writer per file.
class csv_writer {
 public:
  /// Opens or creates the file; its folder must exist. Throws duplicate_column (1004) before that, file_error (155 to
  /// 158), and columns_differ (1003) if the file to append to has other columns than `options.columns`; that file is
  /// then unchanged.
  explicit csv_writer(std::string path, csv_writer_options options = {})
      : file_(checked(std::move(path), options.columns), options.mode, true), columns_(std::move(options.columns)) {
    if (!file_.empty()) {
      std::vector<std::string> found = parse_row(file_.first_row());
      if (!columns_.empty() && columns_ != found)
        throw columns_differ("'" + file_.path() + "' has the columns " + listed(found) + ", and rows of " +
                             listed(columns_) + " were to be appended; use another file or the same columns");
      columns_ = std::move(found);
      file_.drop_torn_row();
    } else {
      file_.drop_torn_row();
      if (!columns_.empty()) write_header();
    }
  }

  /// Throws unknown_column (1002) if the record has a field that is no column, file_error if the row cannot be written;
  /// either way the file is as before.
  template <class Record = record>
  void write(const Record& row) {
    if (columns_.empty()) {
      if (row.empty()) return;
      for (const auto& f : row) columns_.push_back(f.name);
      try {
        write_header();
      } catch (...) {
        columns_.clear();
        throw;
      }
    }
    for (const auto& f : row)
      if (std::find(columns_.begin(), columns_.end(), f.name) == columns_.end())
        throw unknown_column("'" + file_.path() + "' has no column '" + f.name + "'; its columns are " +
                             listed(columns_) + ", fixed by its first row or when it was opened");
    std::string line;
    for (const std::string& column : columns_) {
      if (&column != &columns_.front()) line += ',';
      if (const auto* value = row.find(column)) append_cell(line, *value);
    }
    if (line.empty()) line = "\"\"";  // an empty line would be no row
    file_.append(line += '\n');
  }

  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }
  /// Empty until the first row, unless given.
  [[nodiscard]] const std::vector<std::string>& columns() const noexcept { return columns_; }

 private:
  static std::string checked(std::string path, const std::vector<std::string>& columns) {
    for (std::size_t i = 1; i < columns.size(); ++i)
      if (std::find(columns.begin(), columns.begin() + static_cast<std::ptrdiff_t>(i), columns[i]) !=
          columns.begin() + static_cast<std::ptrdiff_t>(i))
        throw duplicate_column("'" + path + "' was to have two columns '" + columns[i] +
                               "'; a row has one value for each name");
    return path;
  }

  static void append_text(std::string& line, std::string_view text) {
    if (!text.empty() && text.find_first_of(",\"\r\n") == text.npos) {
      line += text;
      return;
    }
    line += '"';
    for (char c : text) line.append(c == '"' ? 2 : 1, c);
    line += '"';
  }

  static void append_cell(std::string& line, const auto& value) {
    std::visit(
        [&]<class T>(const T& v) {
          if constexpr (std::is_same_v<T, bool>)
            line += v ? "true" : "false";
          else if constexpr (std::is_same_v<T, std::string>)
            append_text(line, v);
          else
            detail::append_number(line, v);
        },
        value);
  }

  void write_header() {
    std::string line;
    for (const std::string& column : columns_) {
      if (&column != &columns_.front()) line += ',';
      append_text(line, column);
    }
    file_.append(line += '\n');
  }

  static std::vector<std::string> parse_row(std::string_view row) {
    while (row.ends_with('\n') || row.ends_with('\r')) row.remove_suffix(1);
    std::vector<std::string> cells(1);
    detail::csv_quotes within;
    for (char c : row) {
      const bool text = within.next(c);
      if (c == ',' && !within.quoted())
        cells.emplace_back();
      else if (text)
        cells.back() += c;
    }
    return cells;
  }

  static std::string listed(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) (text += text.empty() ? "'" : ", '") += name + "'";
    return text;
  }

  detail::row_file file_;
  std::vector<std::string> columns_;
};

CADRE_NAMESPACE_END

#endif
