#ifndef CADRE_REPORT_DETAIL_ROW_FILE_HPP
#define CADRE_REPORT_DETAIL_ROW_FILE_HPP

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

/// A file of rows that end in a line feed. Each row is one write to the kernel, and the file holds whole rows only: a
/// row that could not be written is taken back, one that a killed process left half-written is dropped on opening.
class row_file {
 public:
  /// `quotes`: a line feed between two quotation marks does not end a row.
  row_file(std::string path, open_mode mode, bool quotes)
      : file_(std::move(path), O_RDWR | O_CREAT | (mode == open_mode::truncate ? O_TRUNC : 0)) {
    if (mode == open_mode::append) drop_torn_row(quotes);
  }

  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  /// The first row that was there when the file was opened, its line feed included.
  [[nodiscard]] const std::string& first_row() const noexcept { return first_row_; }

  void append(std::string_view row) {
    const std::span<const std::byte> bytes = std::as_bytes(std::span(row));
    try {
      file_.write_at(size_, std::span(&bytes, 1));
    } catch (const file_error& e) {
      [[maybe_unused]] const int best_effort = ::ftruncate(file_.fd(), static_cast<off_t>(size_));
      file_error::raise("append a row to", path(), e.code());
    }
    size_ += row.size();
  }

 private:
  void drop_torn_row(bool quotes) {
    std::array<char, 65536> chunk;
    std::uint64_t offset = 0;
    bool quoted = false, first = true;
    for (;;) {
      const std::size_t got = file_.read_at(offset, std::as_writable_bytes(std::span(chunk)));
      for (std::size_t i = 0; i < got; ++i) {
        if (first) first_row_ += chunk[i];
        if (quotes && chunk[i] == '"') quoted = !quoted;
        if (chunk[i] == '\n' && !quoted) {
          size_ = offset + i + 1;
          first = false;
        }
      }
      offset += got;
      if (got < chunk.size()) break;
    }
    if (size_ == 0) first_row_.clear();
    if (size_ != offset) file_.truncate(size_);
  }

  file file_;
  std::uint64_t size_ = 0;
  std::string first_row_;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
