#ifndef CADRE_DATA_IDX_HPP
#define CADRE_DATA_IDX_HPP

#include <cadre/core/data_type.hpp>
#include <cadre/data/detail/read_file.hpp>
#include <cadre/data/error.hpp>

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace data {

/// An array as an IDX file holds it (the format of MNIST and its successors: a magic number with element type and
/// number of dimensions, big-endian extents, the elements row by row), in memory in this machine's byte order.
class idx_array {
 public:
  [[nodiscard]] data_type type() const noexcept { return type_; }
  /// Extents, outermost first: {60000, 28, 28}. Never empty.
  [[nodiscard]] std::span<const std::size_t> shape() const noexcept { return {shape_.data(), shape_.size()}; }
  /// The outermost extent: how many samples there are.
  [[nodiscard]] std::size_t rows() const noexcept { return shape_.front(); }
  /// Elements of one sample: the product of the other extents, 784 for images of 28 x 28.
  [[nodiscard]] std::size_t row_size() const noexcept {
    std::size_t n = 1;
    for (std::size_t i = 1; i < shape_.size(); ++i) n *= shape_[i];
    return n;
  }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {bytes_.data(), bytes_.size()}; }
  /// Where it was read from, for messages.
  [[nodiscard]] const std::string& source() const noexcept { return source_; }

  /// All elements, row by row, in place. Throws idx_error 716 if they are of another type.
  template <reducible T>
  [[nodiscard]] std::span<const T> as() const {
    if (data_type_of<T> != type_) throw idx_error::wrong_type(source_, to_string(data_type_of<T>), to_string(type_));
    return {reinterpret_cast<const T*>(bytes_.data()), bytes_.size() / sizeof(T)};
  }

 private:
  friend idx_array parse_idx(std::vector<std::byte> bytes, std::string source);
  idx_array(data_type type, std::vector<std::size_t> shape, std::vector<std::byte> bytes, std::string source)
      : type_(type), shape_(std::move(shape)), bytes_(std::move(bytes)), source_(std::move(source)) {}

  data_type type_;
  std::vector<std::size_t> shape_;
  std::vector<std::byte> bytes_;
  std::string source_;
};

namespace detail {

inline std::string hex_bytes(std::span<const std::byte> bytes) {
  std::string text;
  for (std::byte b : bytes) {
    if (!text.empty()) text += ' ';
    text += "0123456789abcdef"[std::to_integer<int>(b >> 4)];
    text += "0123456789abcdef"[std::to_integer<int>(b & std::byte{15})];
  }
  return text.empty() ? "nothing" : text;
}

inline void check_idx_magic(std::span<const std::byte> bytes, const std::string& source) {
  constexpr std::byte zero{0};
  if (bytes.size() >= 4 && bytes[0] == zero && bytes[1] == zero && bytes[3] != zero) return;
  const bool gzip = bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
  throw idx_error::wrong_magic(source, hex_bytes(bytes.first(std::min<std::size_t>(bytes.size(), 4))),
                               gzip ? ", which is gzip: read it with read_idx_gz of <cadre/zlib.hpp>" : "");
}

inline data_type idx_type(std::byte code, const std::string& source) {
  switch (std::to_integer<int>(code)) {
    case 0x08: return data_type::uint8;
    case 0x09: return data_type::int8;
    case 0x0b: return data_type::int16;
    case 0x0c: return data_type::int32;
    case 0x0d: return data_type::float32;
    case 0x0e: return data_type::float64;
    default: throw idx_error::unknown_type(source, hex_bytes({&code, 1}));
  }
}

inline std::vector<std::size_t> idx_shape(std::span<const std::byte> extents) {
  std::vector<std::size_t> shape;
  for (std::size_t i = 0; i < extents.size(); i += 4) {
    std::size_t extent = 0;
    for (std::byte b : extents.subspan(i, 4)) extent = extent << 8 | std::to_integer<std::size_t>(b);
    shape.push_back(extent);
  }
  return shape;
}

/// header + product of the shape * width, or idx_error 715.
inline std::size_t idx_size(std::size_t header, const std::vector<std::size_t>& shape, std::size_t width,
                            const std::string& source) {
  std::size_t bytes = width;
  bool overflow = false;
  for (std::size_t extent : shape) overflow |= __builtin_mul_overflow(bytes, extent, &bytes);
  const bool empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
  if (empty) return header;
  if (!overflow && bytes <= PTRDIFF_MAX - header) return header + bytes;
  std::string text;
  for (std::size_t extent : shape) text += (text.empty() ? "" : " x ") + std::to_string(extent);
  throw idx_error::absurd_size(source, text);
}

inline void from_big_endian(std::vector<std::byte>& bytes, std::size_t width) {
  if (width == 1 || std::endian::native == std::endian::big) return;
  for (std::byte* p = bytes.data(); p != bytes.data() + bytes.size(); p += width) std::reverse(p, p + width);
}

}  // namespace detail

/// Takes the bytes of a whole IDX file; `source` names them in messages. The elements stay in the same memory, so a
/// caller who moves its bytes in never holds them twice. Throws idx_error 711 (not IDX), 712 (unknown element type),
/// 713 (truncated), 714 (trailing bytes) or 715 (a size that no memory can have); there are no partial results.
[[nodiscard]] inline idx_array parse_idx(std::vector<std::byte> bytes, std::string source = "IDX data") {
  detail::check_idx_magic({bytes.data(), bytes.size()}, source);
  const data_type type = detail::idx_type(bytes[2], source);
  const std::size_t header = 4 + 4 * std::to_integer<std::size_t>(bytes[3]);
  if (bytes.size() < header) throw idx_error::truncated(source, header, bytes.size());
  std::vector<std::size_t> shape = detail::idx_shape({bytes.data() + 4, header - 4});
  const std::size_t expected = detail::idx_size(header, shape, size_of(type), source);
  if (bytes.size() < expected) throw idx_error::truncated(source, expected, bytes.size());
  if (bytes.size() > expected) throw idx_error::trailing_bytes(source, expected, bytes.size());
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(header));  // so that elements are aligned
  detail::from_big_endian(bytes, size_of(type));
  return {type, std::move(shape), std::move(bytes), std::move(source)};
}
/// The same from bytes that stay where they are.
[[nodiscard]] inline idx_array parse_idx(std::span<const std::byte> bytes, std::string source = "IDX data") {
  return parse_idx(std::vector<std::byte>(bytes.begin(), bytes.end()), std::move(source));
}

/// Reads an IDX file that is not compressed (read_idx_gz of <cadre/zlib.hpp> takes both). Throws file_error 701 if it
/// cannot be read, and what parse_idx throws, naming the path.
[[nodiscard]] inline idx_array read_idx(const std::string& path) {
  std::vector<std::byte> bytes;
  detail::read_file(path, bytes);
  return parse_idx(std::move(bytes), path);
}

/// Samples and their labels, known to belong together.
class labelled {
 public:
  /// Throws idx_error 717, naming both sources and counts, if there are not as many labels as samples, and 718 if the
  /// labels are no row of integers or, with `classes` given, one of them is not in 0 .. classes-1.
  ///
  /// A template so that only those who call it pay to compile it.
  template <std::same_as<idx_array> Array>
  labelled(Array samples, Array labels, std::size_t classes = 0)
      : samples_(std::move(samples)), labels_(std::move(labels)) {
    if (labels_.shape().size() != 1)
      throw idx_error::bad_labels(labels_.source(), "it has " + std::to_string(labels_.shape().size()) + " dimensions");
    if (samples_.rows() != labels_.rows())
      throw idx_error::counts_disagree(samples_.source(), samples_.rows(), labels_.source(), labels_.rows());
    visit(labels_.type(), [&]<class T>(T) {
      if constexpr (std::is_integral_v<T>)
        check_classes(labels_.as<T>(), classes);
      else
        throw idx_error::bad_labels(labels_.source(),
                                    "its elements are of type " + std::string(to_string(labels_.type())));
    });
  }

  [[nodiscard]] std::size_t size() const noexcept { return samples_.rows(); }
  [[nodiscard]] const idx_array& samples() const noexcept { return samples_; }
  [[nodiscard]] const idx_array& labels() const noexcept { return labels_; }

 private:
  template <class T>
  void check_classes(std::span<const T> labels, std::size_t classes) const {
    if (classes == 0) return;
    for (std::size_t i = 0; i < labels.size(); ++i)
      if (std::cmp_less(labels[i], 0) || std::cmp_greater_equal(labels[i], classes))
        throw idx_error::bad_labels(labels_.source(), "label " + std::to_string(labels[i]) + " of sample " +
                                                          std::to_string(i) + " is not one of " +
                                                          std::to_string(classes) + " classes");
  }

  idx_array samples_;
  idx_array labels_;
};

}  // namespace data

CADRE_NAMESPACE_END

#endif
