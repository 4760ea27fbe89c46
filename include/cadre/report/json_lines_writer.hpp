#ifndef CADRE_REPORT_JSON_LINES_WRITER_HPP
#define CADRE_REPORT_JSON_LINES_WRITER_HPP

#include <cadre/report/detail/json.hpp>
#include <cadre/report/detail/row_file.hpp>
#include <cadre/report/record.hpp>

#include <string>
#include <type_traits>
#include <utility>
#include <variant>

CADRE_NAMESPACE_BEGIN

/// The record as one JSON object (RFC 8259) on one line, fields in their order. Numbers are the shortest text that
/// reads back as the same number; NaN and infinities are null; bytes that are not UTF-8 become U+FFFD.
///
/// A template so that only those who call it pay to compile it.
template <class Record = record>
[[nodiscard]] std::string to_json(const Record& row) {
  std::string out = "{";
  for (const auto& f : row) {
    if (out.size() > 1) out += ',';
    detail::append_json(out, f.name);
    out += ':';
    std::visit(
        [&]<class T>(const T& value) {
          if constexpr (std::is_same_v<T, bool>)
            out += value ? "true" : "false";
          else if constexpr (std::is_integral_v<T>)
            detail::append_number(out, value);
          else
            detail::append_json(out, value);
        },
        f.value);
  }
  return out += '}';
}

/// Writes records as JSON lines: one object per line, each with the fields it has.
///
/// Each row has reached the kernel when `write` returns, so it survives the death of the process (not a power
/// failure). A row that was half-written when a process died is dropped when the file is opened to append, and the log says so. One thread
/// at a time, one writer per file.
class json_lines_writer {
 public:
  /// Opens or creates the file; its folder must exist. Throws file_error (155 to 158).
  explicit json_lines_writer(std::string path, open_mode mode = open_mode::truncate)
      : file_(std::move(path), mode, false) {
    file_.drop_torn_row();
  }

  /// Throws file_error if the row cannot be written; the file is then as before.
  template <class Record = record>
  void write(const Record& row) {
    file_.append(to_json(row) + '\n');
  }

  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }

 private:
  detail::row_file file_;
};

CADRE_NAMESPACE_END

#endif
