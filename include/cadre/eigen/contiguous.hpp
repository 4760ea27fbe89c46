#ifndef CADRE_EIGEN_CONTIGUOUS_HPP
#define CADRE_EIGEN_CONTIGUOUS_HPP

#include <cadre/core/contiguous.hpp>

#include <Eigen/Core>

#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

template <class T>
inline constexpr bool is_plain_eigen = std::is_base_of_v<Eigen::PlainObjectBase<T>, T>;

/// A map over one run of elements: its strides are those of the plain object. Strides known only at run time may leave
/// gaps, and so may blocks: neither is contiguous.
template <class T>
inline constexpr bool is_dense_eigen_map = false;
template <class Plain, int Options>
inline constexpr bool is_dense_eigen_map<Eigen::Map<Plain, Options, Eigen::Stride<0, 0>>> = true;

template <class T>
struct eigen_plain {
  using type = T;
};
template <class Plain, int Options, class Stride>
struct eigen_plain<Eigen::Map<Plain, Options, Stride>> {
  using type = std::remove_const_t<Plain>;
};

/// A matrix, vector or array of Eigen that owns its elements, or a map without strides.
template <class T>
concept dense_eigen = (requires { typename T::PlainObject; } && is_plain_eigen<T>) || is_dense_eigen_map<T>;

}  // namespace detail

/// Matrices and arrays of Eigen, and maps without strides, as one run of elements in their storage order. A view is an
/// Eigen::Map, made by map(data, rows, cols), or map(data, n) of vectors.
template <detail::dense_eigen T>
struct contiguous_traits<T> {
  using plain = typename detail::eigen_plain<T>::type;
  using element = typename plain::Scalar;
  using view = Eigen::Map<plain>;
  using const_view = Eigen::Map<const plain>;

  /// Elements are read-only if the object is, or if it maps const memory.
  template <class M>
  static auto elements(M& matrix) noexcept {
    return std::span(matrix.data(), static_cast<std::size_t>(matrix.size()));
  }
  static std::vector<std::size_t> shape(const T& matrix) {
    return {static_cast<std::size_t>(matrix.rows()), static_cast<std::size_t>(matrix.cols())};
  }
  static view map(element* data, std::size_t rows, std::size_t cols) {
    return view(data, static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(cols));
  }
  static view map(element* data, std::size_t n)
    requires(plain::IsVectorAtCompileTime == 1)
  {
    return view(data, static_cast<Eigen::Index>(n));
  }
  static const_view map(const element* data, std::size_t rows, std::size_t cols) {
    return const_view(data, static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(cols));
  }
  static const_view map(const element* data, std::size_t n)
    requires(plain::IsVectorAtCompileTime == 1)
  {
    return const_view(data, static_cast<Eigen::Index>(n));
  }
  static std::size_t count(std::size_t rows, std::size_t cols) noexcept { return rows * cols; }
  static std::size_t count(std::size_t n) noexcept
    requires(plain::IsVectorAtCompileTime == 1)
  {
    return n;
  }
};

CADRE_NAMESPACE_END

#endif
