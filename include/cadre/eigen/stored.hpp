#ifndef CADRE_EIGEN_STORED_HPP
#define CADRE_EIGEN_STORED_HPP

#include <cadre/eigen/contiguous.hpp>
#include <cadre/store/fwd.hpp>

#include <Eigen/Core>

#include <array>
#include <concepts>
#include <cstddef>
#include <string>

CADRE_NAMESPACE_BEGIN

namespace detail {

template <class T>
inline constexpr bool is_dense_eigen_expression = std::derived_from<T, Eigen::DenseBase<T>>;
// What segment(), head() and tail() give derives from another type than itself.
template <class Vector, int Size>
inline constexpr bool is_dense_eigen_expression<Eigen::VectorBlock<Vector, Size>> = true;

inline bool eigen_extent_fits(std::size_t n, int fixed, int most) noexcept {
  return fixed == Eigen::Dynamic ? most == Eigen::Dynamic || n <= static_cast<std::size_t>(most)
                                 : n == static_cast<std::size_t>(fixed);
}
inline std::string eigen_extent_text(int fixed, int most) {
  if (fixed != Eigen::Dynamic) return std::to_string(fixed);
  return most == Eigen::Dynamic ? "Dynamic" : "Dynamic (at most " + std::to_string(most) + ")";
}

}  // namespace detail

/// Matrices, maps, blocks and expressions of Eigen are stored as their plain object, in its storage order; an expression is
/// computed into the memory of the store.
template <class T>
  requires detail::is_dense_eigen_expression<T>
struct stored_type<T> {
  using type = typename T::PlainObject;

  static std::array<std::size_t, 2> shape(const T& value) noexcept {
    return {static_cast<std::size_t>(value.rows()), static_cast<std::size_t>(value.cols())};
  }
  static bool fits(std::size_t rows, std::size_t cols) noexcept {
    return detail::eigen_extent_fits(rows, T::RowsAtCompileTime, T::MaxRowsAtCompileTime) &&
           detail::eigen_extent_fits(cols, T::ColsAtCompileTime, T::MaxColsAtCompileTime);
  }
  static std::string extents() {
    return detail::eigen_extent_text(T::RowsAtCompileTime, T::MaxRowsAtCompileTime) + " x " +
           detail::eigen_extent_text(T::ColsAtCompileTime, T::MaxColsAtCompileTime);
  }
  static void write(const T& value, typename type::Scalar* to) {
    Eigen::Map<type> map(to, value.rows(), value.cols());
    // What is written to cannot be a part of the expression.
    if constexpr (std::derived_from<type, Eigen::MatrixBase<type>>)
      map.noalias() = value;
    else
      map = value;
  }
};

CADRE_NAMESPACE_END

#endif
