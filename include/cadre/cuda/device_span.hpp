#ifndef CADRE_CUDA_DEVICE_SPAN_HPP
#define CADRE_CUDA_DEVICE_SPAN_HPP

#include <cadre/core/contiguous.hpp>

#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace cuda {

/// A run of elements in device memory, owned by somebody else: a pointer and a size. It has no iterators and no
/// operator[], so that host code that would read it does not compile. Collectives of nccl::communicator take it.
template <class T>
class device_span {
 public:
  using element_type = T;
  using value_type = std::remove_cv_t<T>;

  constexpr device_span() noexcept = default;
  /// `data` is memory that kernels can use: from cudaMalloc, a library or a framework.
  constexpr device_span(T* data, std::size_t size) noexcept : data_(data), size_(size) {}
  /// A span of T is one of const T.
  template <class U>
    requires(std::is_const_v<T> && std::is_same_v<const U, T>)
  constexpr device_span(device_span<U> other) noexcept  // NOLINT(google-explicit-constructor)
      : data_(other.data()), size_(other.size()) {}

  [[nodiscard]] constexpr T* data() const noexcept { return data_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  [[nodiscard]] constexpr std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }

  /// `count` elements from `offset` on; both lie within the span.
  [[nodiscard]] constexpr device_span subspan(std::size_t offset, std::size_t count) const noexcept {
    return {data_ + offset, count};
  }
  [[nodiscard]] constexpr device_span first(std::size_t count) const noexcept { return {data_, count}; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

template <class T>
class buffer;

namespace detail {
template <class T>
inline constexpr bool is_device_memory = false;
template <class T>
inline constexpr bool is_device_memory<device_span<T>> = true;
template <class T>
inline constexpr bool is_device_memory<buffer<T>> = true;
}  // namespace detail

/// Whether a contiguous T lies in device memory, so that its elements are not for the host to touch.
template <class T>
concept device_memory = detail::is_device_memory<std::remove_cvref_t<T>>;

}  // namespace cuda

/// Device memory as one run of elements: `elements` gives a device_span, never a std::span, so that code for host
/// memory refuses it when compiled.
template <cuda::device_memory T>
struct contiguous_traits<T> {
  using element = typename T::value_type;
  using view = cuda::device_span<element>;
  template <class R>
  static auto elements(R& range) noexcept {
    return cuda::device_span(range.data(), range.size());
  }
  static std::vector<std::size_t> shape(const T& range) { return {range.size()}; }
  static view map(element* data, std::size_t n) noexcept { return {data, n}; }
  static std::size_t count(std::size_t n) noexcept { return n; }
};

static_assert(contiguous<cuda::device_span<float>> && contiguous<cuda::device_span<const float>>);

CADRE_NAMESPACE_END

#endif
