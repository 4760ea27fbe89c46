#ifndef CADRE_REPORT_DETAIL_ROW_FILE_HPP
#define CADRE_REPORT_DETAIL_ROW_FILE_HPP

#include <cadre/observe/log.hpp>
#include <cadre/os/detail/file.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Whether a writer begins a new file or goes on with the one that is there.
enum class open_mode : std::uint8_t { truncate, append };

namespace detail {

/// Follows CSV text character by character: a quotation mark opens a cell only as its first character, closes it, and
/// counts as text when it stands twice.
class csv_quotes {
 public:
  /// True if the character is text, not one of the marks around a cell.
  bool next(char c) noexcept {
    const bool mark = c == '"' && (quoted_ || begins_ || closed_);
    const bool text = !mark || closed_;  // the second of two
    if (mark) quoted_ = !quoted_;
    closed_ = mark && !quoted_;
    begins_ = !quoted_ && (c == ',' || c == '\n');
    return text;
  }
  [[nodiscard]] bool quoted() const noexcept { return quoted_; }

 private:
  bool quoted_ = false;
  bool begins_ = true;   // the next character is the first of a cell
  bool closed_ = false;  // the last character closed a cell, unless the same follows
};

/// A file of rows that end in a line feed. Each row is one write to the kernel, and the file holds whole rows only: a
/// row that could not be written is taken back, one that a killed process left half-written is dropped.
class row_file {
 public:
  /// `quotes`: a line feed within a quoted cell does not end a row. To append, the rows that are there are counted, and
  /// nothing is changed.
  row_file(std::string path, open_mode mode, bool quotes)
      : file_(std::move(path), O_RDWR | O_CREAT | (mode == open_mode::truncate ? O_TRUNC : 0)) {
    if (mode == open_mode::append) find_whole_rows(quotes);
  }

  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  /// The first row that was there when the file was opened, its line feed included.
  [[nodiscard]] const std::string& first_row() const noexcept { return first_row_; }

  /// Drops what follows the last whole row, and says so in the log.
  void drop_torn_row() {
    if (torn_ == 0) return;
    file_.truncate(size_);
    log(log_level::warning, "report", [&] {
      return "dropped the last " + std::to_string(torn_) + " bytes of '" + path() +
             "': they are no whole row, as a process leaves it that is killed while it writes";
    });
    torn_ = 0;
  }

  void append(std::string_view row) {
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(row.data()), row.size());
    try {
      file_.write_at(size_, {&bytes, 1});
    } catch (const file_error& e) {
      [[maybe_unused]] const int best_effort = ::ftruncate(file_.fd(), static_cast<off_t>(size_));
      file_error::raise("append a row to", path(), e.code());
    }
    size_ += row.size();
  }

 private:
  void find_whole_rows(bool quotes) {
    std::array<char, 65536> chunk;
    std::uint64_t offset = 0;
    bool first = true;
    csv_quotes within;
    for (;;) {
      const std::size_t got = file_.read_at(offset, {reinterpret_cast<std::byte*>(chunk.data()), chunk.size()});
      for (std::size_t i = 0; i < got; ++i) {
        if (first) first_row_ += chunk[i];
        if (quotes) within.next(chunk[i]);
        if (chunk[i] == '\n' && !within.quoted()) {
          size_ = offset + i + 1;
          first = false;
        }
      }
      offset += got;
      if (got < chunk.size()) break;
    }
    if (size_ == 0) first_row_.clear();
    torn_ = offset - size_;
  }

  file file_;
  std::uint64_t size_ = 0;
  std::uint64_t torn_ = 0;  // bytes behind the last whole row
  std::string first_row_;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
