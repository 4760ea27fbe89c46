#ifndef CADRE_DATA_ERROR_HPP
#define CADRE_DATA_ERROR_HPP

#include <cadre/core/error.hpp>

#include <cstddef>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace data {

/// A file that cannot be read (701), or a pattern that no file matches (702).
class file_error : public error {
 public:
  static file_error unreadable(std::string_view path, std::string_view reason) {
    return {701, "cannot read " + std::string(path) + ": " + std::string(reason)};
  }
  static file_error no_match(std::string_view pattern) { return {702, "no file matches " + std::string(pattern)}; }

 private:
  file_error(int number, const std::string& message) : error("data", number, message) {}
};

/// A sampler that cannot be made, or cannot go where it is told (706 to 710).
class sampler_error : public error {
 public:
  static sampler_error bad_shard(int rank, int world_size) {
    return {706, "rank " + std::to_string(rank) + " of " + std::to_string(world_size) +
                     " cannot be a shard: 0 <= rank < world_size must hold"};
  }
  static sampler_error negative_size() { return {707, "a sampler was asked for a negative number of samples"}; }
  static sampler_error empty_batch() { return {708, "batches of 0 samples were asked for: give at least 1"}; }
  static sampler_error bad_position(std::size_t position, std::size_t size) {
    return {709,
            "position " + std::to_string(position) + " lies beyond the epoch's " + std::to_string(size) + " samples"};
  }
  /// `difference` names the property that differs and both of its values.
  static sampler_error other_order(std::string_view difference) {
    return {710,
            "the saved sampler walked another order, so its position means nothing here: " + std::string(difference)};
  }

 private:
  sampler_error(int number, const std::string& message) : error("data", number, message) {}
};

/// Bytes that are no valid IDX array (711 to 715), a wrong element type (716), or arrays that do not belong together
/// (717, 718).
class idx_error : public error {
 public:
  static idx_error wrong_magic(std::string_view source, std::string_view found, std::string_view hint) {
    return {711, std::string(source) + " is not IDX: it must begin with 00 00 <type> <dimensions>, found " +
                     std::string(found) + std::string(hint)};
  }
  static idx_error unknown_type(std::string_view source, std::string_view found) {
    return {712, std::string(source) + ": unknown IDX element type " + std::string(found) +
                     ": expected 08, 09, 0b, 0c, 0d or 0e"};
  }
  static idx_error truncated(std::string_view source, std::size_t expected, std::size_t found) {
    return {713, std::string(source) + " is truncated: expected " + std::to_string(expected) + " bytes, found " +
                     std::to_string(found)};
  }
  static idx_error trailing_bytes(std::string_view source, std::size_t expected, std::size_t found) {
    return {714, std::string(source) + " has trailing bytes: expected " + std::to_string(expected) + " bytes, found " +
                     std::to_string(found)};
  }
  /// `shape` as in `4294967295 x 4294967295`.
  static idx_error absurd_size(std::string_view source, std::string_view shape) {
    return {715, std::string(source) + " claims " + std::string(shape) + " elements, more than can be addressed"};
  }
  static idx_error wrong_type(std::string_view source, std::string_view asked, std::string_view held) {
    return {716, std::string(source) + " was asked for elements of type " + std::string(asked) + " but holds " +
                     std::string(held)};
  }
  static idx_error counts_disagree(std::string_view samples, std::size_t sample_count, std::string_view labels,
                                   std::size_t label_count) {
    return {717, std::string(samples) + " has " + std::to_string(sample_count) + " samples but " + std::string(labels) +
                     " has " + std::to_string(label_count) + " labels"};
  }
  /// `problem` says what is not a label.
  static idx_error bad_labels(std::string_view source, std::string_view problem) {
    return {718, std::string(source) + " holds no labels: " + std::string(problem)};
  }

 private:
  idx_error(int number, const std::string& message) : error("data", number, message) {}
};

/// Where in a file something stands; lines and columns count from 1, columns in bytes.
struct file_position {
  std::string file;
  std::size_t line = 0;
  std::size_t column = 0;
};

/// A CSV file or cell that cannot be taken as asked (721 to 728). Its text begins with file:line:column.
class csv_error : public error {
 public:
  static csv_error unterminated_quote(const file_position& at, std::string_view text) {
    return {721, at, "this quoted field never ends: " + quoted(text)};
  }
  static csv_error stray_quote(const file_position& at, std::string_view text) {
    return {722, at, "a quote must enclose a whole field and be doubled inside one: " + quoted(text)};
  }
  static csv_error ragged_row(const file_position& at, std::size_t expected, std::size_t found, std::string_view text) {
    return {723, at,
            "expected " + std::to_string(expected) + " fields, found " + std::to_string(found) + ": " + quoted(text)};
  }
  static csv_error bad_number(const file_position& at, std::string_view type, std::string_view text) {
    return {724, at, "not a value of type " + std::string(type) + ": " + quoted(text)};
  }
  static csv_error missing_value(const file_position& at, std::string_view type, std::string_view column) {
    return {725, at,
            "a value of column " + quoted(column) + " is missing, and type " + std::string(type) +
                " has none for that: pass one to put in its place"};
  }
  static csv_error no_such_column(const file_position& at, std::string_view column, std::string_view there_are) {
    return {726, at, "no column " + quoted(column) + "; " + std::string(there_are)};
  }
  static csv_error bad_header(const file_position& at, std::string_view problem) { return {727, at, problem}; }
  static csv_error bad_options(std::string_view problem) { return {728, {}, problem}; }

  /// The place in the file; its name is empty if the mistake lies in the call.
  [[nodiscard]] const file_position& where() const noexcept { return where_; }

 private:
  csv_error(int number, file_position at, std::string_view message)
      : error("data", number, prefix(at) + std::string(message)), where_(std::move(at)) {}

  static std::string prefix(const file_position& at) {
    if (at.file.empty()) return {};
    return at.file + ":" + std::to_string(at.line) + ":" + std::to_string(at.column) + ": ";
  }
  static std::string quoted(std::string_view text) {
    constexpr std::size_t longest = 60;
    std::string shown = "'";
    for (char c : text.substr(0, longest)) shown += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    return shown + (text.size() > longest ? "...'" : "'");
  }

  file_position where_;
};

/// Rows, labels and indices that do not fit together (731 to 733).
class batch_error : public error {
 public:
  static batch_error index_out_of_range(std::size_t index, std::size_t rows) {
    return {731, "row " + std::to_string(index) + " was asked for, there are " + std::to_string(rows)};
  }
  static batch_error no_whole_rows(std::size_t elements, std::size_t rows) {
    return {732, std::to_string(elements) + " elements do not make " + std::to_string(rows) + " rows of one width"};
  }
  static batch_error wrong_output_size(std::size_t expected, std::size_t found) {
    return {733, "the batch needs room for " + std::to_string(expected) + " elements, there is room for " +
                     std::to_string(found)};
  }

 private:
  batch_error(int number, const std::string& message) : error("data", number, message) {}
};

}  // namespace data

CADRE_NAMESPACE_END

#endif
