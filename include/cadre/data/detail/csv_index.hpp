#ifndef CADRE_DATA_DETAIL_CSV_INDEX_HPP
#define CADRE_DATA_DETAIL_CSV_INDEX_HPP

#include <cadre/data/error.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace data::detail {

/// The text of one or more CSV files, one after the other, and where each field begins.
///
/// A row of C columns has C + 1 entries: where each field begins, and one past where the last one ends. A field ends
/// one byte (the separator) before the next entry. The text is kept as it was read, quotes and all, so that a message
/// can name line and column; the top bit of an entry says that the field is quoted.
class csv_index {
 public:
  struct view {
    std::string_view text;  ///< without the enclosing quotes
    bool quoted;            ///< then doubled quotes inside are still doubled
  };

  csv_index(char separator, char quote) : separator_(separator), quote_(quote) {
    for (char c : {separator, '\n', '\r'}) ends_field_[static_cast<unsigned char>(c)] = true;
    if (quote != '\0') ends_field_[static_cast<unsigned char>(quote)] = true;
  }

  /// What `fill(std::string&)` appends to the text is a file named `source`; its rows follow.
  template <class Fill>
  void begin_file(const std::string& source, const Fill& fill) {
    files_.push_back({source, text_.size()});
    fill(text_);
    cursor_ = files_.back().begin;
    if (std::string_view(text_).substr(cursor_).starts_with("\xEF\xBB\xBF")) cursor_ += 3;
  }

  /// Takes one row off, as strings. False if there is none left.
  bool next_row(std::vector<std::string>& fields) {
    std::vector<entry> row;
    if (!scan_row(row)) return false;
    for (std::size_t i = 0; i + 1 < row.size(); ++i) fields.push_back(unquoted(between(row[i], row[i + 1])));
    return true;
  }

  /// The number of fields in the row that comes next; 0 if there is none.
  [[nodiscard]] std::size_t peek_columns() {
    const std::size_t before = cursor_;
    std::vector<entry> row;
    const bool any = scan_row(row);
    cursor_ = before;
    return any ? row.size() - 1 : 0;
  }

  /// Indexes all rows that are left in this file.
  void index_rows(std::size_t columns) {
    columns_ = columns;
    const std::size_t first = entries_.size();
    for (;;) {
      const std::size_t before = entries_.size();
      if (!scan_row(entries_)) return;
      const std::size_t found = entries_.size() - before - 1;
      if (found != columns) {
        const std::size_t begin = entries_[before] & offset_mask;
        const std::string_view line(text_.data() + begin, (entries_.back() & offset_mask) - 1 - begin);
        throw csv_error::ragged_row(position(begin), columns, found, line);
      }
      if (before == first) reserve_like_first_row(columns + 1);
    }
  }

  [[nodiscard]] std::size_t rows() const noexcept { return entries_.size() / (columns_ + 1); }

  [[nodiscard]] view field(std::size_t row, std::size_t column) const noexcept {
    const entry* e = entries_.data() + row * (columns_ + 1) + column;
    return between(e[0], e[1]);
  }
  [[nodiscard]] std::string text(std::size_t row, std::size_t column) const { return unquoted(field(row, column)); }

  /// Where a field begins. Counts lines from the start of its file: for messages.
  [[nodiscard]] file_position position(std::size_t row, std::size_t column) const {
    return position(entries_[row * (columns_ + 1) + column] & offset_mask);
  }

 private:
  using entry = std::uint64_t;
  static constexpr entry quoted_bit = entry{1} << 63;
  static constexpr entry offset_mask = quoted_bit - 1;

  struct file {
    std::string source;
    std::size_t begin;
  };

  /// Appends the entries of the next row that is not empty. False at the end of the file.
  bool scan_row(std::vector<entry>& row) {
    const char* const text = text_.data();
    const std::size_t size = text_.size();
    std::size_t i = cursor_;
    while (i < size && (text[i] == '\n' || line_end(i))) ++i;
    cursor_ = i;
    if (i == size) return false;
    for (;;) {  // one field each time
      const std::size_t begin = i;
      const bool is_quoted = quote_ != '\0' && i < size && text[i] == quote_;
      row.push_back(begin | (is_quoted ? quoted_bit : 0));
      if (is_quoted) i = after_quotes(i);
      for (;; ++i) {
        while (i < size && !ends_field_[static_cast<unsigned char>(text[i])]) ++i;
        if (i == size || text[i] == separator_ || text[i] == '\n' || line_end(i)) break;
        if (text[i] != '\r') throw csv_error::stray_quote(position(i), line_at(begin));
      }
      if (is_quoted && i != quotes_end_) throw csv_error::stray_quote(position(quotes_end_), line_at(begin));
      if (i < size && text[i] == separator_) {
        ++i;
        continue;
      }
      row.push_back(i + 1);
      cursor_ = std::min(size, i + 1);  // after CR, LF is skipped as an empty line is
      return true;
    }
  }

  /// Room for the rest of the file, if its rows are about as long as the first.
  void reserve_like_first_row(std::size_t entries_per_row) {
    const std::size_t begin = entries_[entries_.size() - entries_per_row] & offset_mask;
    const std::size_t rows = (text_.size() - begin) / (cursor_ - begin) + 1;
    entries_.reserve(entries_.size() + (rows + rows / 8) * entries_per_row);
  }

  [[nodiscard]] bool line_end(std::size_t i) const noexcept {
    return text_[i] == '\r' && (i + 1 == text_.size() || text_[i + 1] == '\n');
  }

  /// One past the quote that closes the field which the quote at `open` begins.
  std::size_t after_quotes(std::size_t open) {
    std::size_t i = open + 1;
    for (;;) {
      i = text_.find(quote_, i);
      if (i == std::string::npos) throw csv_error::unterminated_quote(position(open), line_at(open));
      if (i + 1 == text_.size() || text_[i + 1] != quote_) return quotes_end_ = i + 1;
      i += 2;
    }
  }

  [[nodiscard]] view between(entry from, entry to) const noexcept {
    const std::size_t begin = from & offset_mask, end = (to & offset_mask) - 1;
    if ((from & quoted_bit) == 0) return {{text_.data() + begin, end - begin}, false};
    return {{text_.data() + begin + 1, end - begin - 2}, true};
  }

  [[nodiscard]] std::string unquoted(view field) const {
    std::string text(field.text);
    if (!field.quoted) return text;
    std::size_t out = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == quote_) ++i;  // the first of two
      text[out++] = text[i];
    }
    text.resize(out);
    return text;
  }

  /// The rest of the line from `begin` on, for messages.
  [[nodiscard]] std::string_view line_at(std::size_t begin) const noexcept {
    const std::string_view rest = std::string_view(text_).substr(begin);
    return rest.substr(0, rest.find('\n'));
  }

  [[nodiscard]] file_position position(std::size_t offset) const {
    const auto after = std::upper_bound(files_.begin(), files_.end(), offset,
                                        [](std::size_t at, const file& f) { return at < f.begin; });
    const file& in = *std::prev(after);
    const std::string_view before = std::string_view(text_).substr(in.begin, offset - in.begin);
    const std::size_t line = static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n')) + 1;
    const std::size_t last = before.rfind('\n');
    return {in.source, line, last == std::string_view::npos ? before.size() + 1 : before.size() - last};
  }

  char separator_;
  char quote_;
  std::array<bool, 256> ends_field_{};
  std::string text_;
  std::vector<file> files_;
  std::size_t cursor_ = 0;
  std::size_t quotes_end_ = 0;  // where the field quoted last ended
  std::size_t columns_ = 0;
  std::vector<entry> entries_;
};

}  // namespace data::detail

CADRE_NAMESPACE_END

#endif
