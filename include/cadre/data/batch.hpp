#ifndef CADRE_DATA_BATCH_HPP
#define CADRE_DATA_BATCH_HPP

#include <cadre/data/error.hpp>

#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace data {

/// Numbers as they lie in a sample array.
template <class T>
concept number = std::is_arithmetic_v<T>;

/// What happens to each element on its way into a batch: `scale * x + shift`. Pixels to 0 .. 1: `{.scale = 1 / 255.f}`.
struct affine {
  float scale = 1;
  float shift = 0;
};

namespace detail {

/// Blocks of a size known to the compiler, so that g++ makes vector code of them at -O2 as well.
template <number T>
void convert(const T* in, std::size_t n, float* out, affine map) noexcept {
  constexpr std::size_t block = 32;
  std::size_t i = 0;
  for (; i + block <= n; i += block) {
    float values[block];
    for (std::size_t j = 0; j < block; ++j) values[j] = static_cast<float>(in[i + j]) * map.scale + map.shift;
    for (std::size_t j = 0; j < block; ++j) out[i + j] = values[j];
  }
  for (; i < n; ++i) out[i] = static_cast<float>(in[i]) * map.scale + map.shift;
}

inline void require_room(std::size_t expected, std::size_t found) {
  if (expected != found) throw batch_error::wrong_output_size(expected, found);
}

}  // namespace detail

/// Copies the rows that `indices` names, one after the other, into `out` as floats. `samples` is row-major with rows of
/// `width` elements; the result is row-major too, which is the memory of a column-major Eigen matrix of width x batch.
/// Throws batch_error 731 (an index beyond the rows), 732 (samples are no whole rows) or 733 (out is not of
/// indices.size() * width elements); `out` may then be partly written. Any number of threads may read one `samples`.
template <number T>
void gather_rows(std::span<const T> samples, std::size_t width, std::span<const std::size_t> indices,
                 std::span<float> out, affine map = {}) {
  const std::size_t rows = width == 0 ? 0 : samples.size() / width;
  if (rows * width != samples.size()) throw batch_error::no_whole_rows(samples.size(), rows);
  detail::require_room(indices.size() * width, out.size());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] >= rows) throw batch_error::index_out_of_range(indices[i], rows);
    detail::convert(samples.data() + indices[i] * width, width, out.data() + i * width, map);
  }
}

/// Copies the values that `indices` names (labels, say). Throws batch_error 731 or 733.
template <class T>
void gather(std::span<const T> values, std::span<const std::size_t> indices, std::span<T> out) {
  detail::require_room(indices.size(), out.size());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] >= values.size()) throw batch_error::index_out_of_range(indices[i], values.size());
    out[i] = values[indices[i]];
  }
}

/// What one step of training takes.
template <class Label>
struct batch {
  std::span<const float> inputs;  ///< size() rows of `width` elements each
  std::span<const Label> labels;  ///< one per row
  std::size_t width = 0;

  [[nodiscard]] std::size_t size() const noexcept { return labels.size(); }
};

/// Makes batches of labelled samples that lie in memory:
///
///     batch_loader loader{images.as<std::uint8_t>(), labels.as<std::uint8_t>(), {.scale = 1 / 255.f}};
///     for (std::span<const std::size_t> indices : sampler.batches(128)) {
///       const auto batch = loader.load(indices);
///       Eigen::Map<const Eigen::MatrixXf> x{batch.inputs.data(), 784, 128};   // a column per sample
///
/// The arrays are looked at, not owned, and must outlive the loader. It owns one batch of memory, which the next load
/// reuses. One thread at a time; any number of loaders may share the arrays.
template <number Sample, class Label>
class batch_loader {
 public:
  /// One row of samples per label. Throws batch_error 732 if the samples do not make that many rows of one width.
  batch_loader(std::span<const Sample> samples, std::span<const Label> labels, affine map = {})
      : samples_(samples), labels_(labels), width_(labels.empty() ? 0 : samples.size() / labels.size()), map_(map) {
    if (width_ * labels.size() != samples.size()) throw batch_error::no_whole_rows(samples.size(), labels.size());
  }

  /// The samples that `indices` names, in that order; valid until the next load. Throws batch_error 731.
  [[nodiscard]] batch<Label> load(std::span<const std::size_t> indices) {
    reserve(indices.size());
    gather_rows<Sample>(samples_, width_, indices, inputs_, map_);
    gather<Label>(labels_, indices, batch_labels_);
    return {inputs_, batch_labels_, width_};
  }

  /// The `count` samples from `first` on, for evaluation in order; valid until the next load. Throws batch_error 731.
  [[nodiscard]] batch<Label> load(std::size_t first, std::size_t count) {
    if (first > size() || count > size() - first) throw batch_error::index_out_of_range(first + count - 1, size());
    reserve(count);
    detail::convert(samples_.data() + first * width_, count * width_, inputs_.data(), map_);
    return {inputs_, labels_.subspan(first, count), width_};
  }

  [[nodiscard]] std::size_t size() const noexcept { return labels_.size(); }
  /// Elements of one sample.
  [[nodiscard]] std::size_t width() const noexcept { return width_; }

 private:
  void reserve(std::size_t rows) {
    inputs_.resize(rows * width_);
    batch_labels_.resize(rows);
  }

  std::span<const Sample> samples_;
  std::span<const Label> labels_;
  std::size_t width_;
  affine map_;
  std::vector<float> inputs_;
  std::vector<Label> batch_labels_;
};

}  // namespace data

CADRE_NAMESPACE_END

#endif
