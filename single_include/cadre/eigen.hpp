// cadre 0.1.0: the adapter eigen.hpp in one header
// Licensed under the Apache License, Version 2.0. Written by single_include/generate.py from include/cadre; change it there.
#ifndef CADRE_SINGLE_INCLUDE_EIGEN_HPP
#define CADRE_SINGLE_INCLUDE_EIGEN_HPP

#include "cadre.hpp"

// ---- cadre/eigen/contiguous.hpp ----
#ifndef CADRE_EIGEN_CONTIGUOUS_HPP
#define CADRE_EIGEN_CONTIGUOUS_HPP

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

// ---- cadre/eigen/error.hpp ----
#ifndef CADRE_EIGEN_ERROR_HPP
#define CADRE_EIGEN_ERROR_HPP

#include <cstdint>
#include <string>

CADRE_NAMESPACE_BEGIN

/// Thrown (1501) when a matrix of one shape is loaded into an object that cannot take that shape: a fixed-size matrix, a
/// vector, or a map.
class matrix_shape_mismatch : public error {
 public:
  matrix_shape_mismatch(std::int64_t rows, std::int64_t cols, std::int64_t target_rows, std::int64_t target_cols)
      : error("eigen", 1501,
              "a matrix of " + shape(rows, cols) + " was stored and is loaded into one of " +
                  shape(target_rows, target_cols) + "; load it into an object of the stored shape") {}

 private:
  static std::string shape(std::int64_t rows, std::int64_t cols) {
    const auto extent = [](std::int64_t n) { return n < 0 ? std::string("any") : std::to_string(n); };
    return extent(rows) + " x " + extent(cols);
  }
};

/// Thrown (1502) when the stored shape or storage order is none that a matrix can have.
class matrix_corrupt : public error {
 public:
  explicit matrix_corrupt(const std::string& what)
      : error("eigen", 1502, "stored matrix: " + what + "; the data are damaged, or were written as another type") {}
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/eigen/serialize.hpp ----
#ifndef CADRE_EIGEN_SERIALIZE_HPP
#define CADRE_EIGEN_SERIALIZE_HPP

#include <Eigen/Core>
#include <cereal/cereal.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

CADRE_NAMESPACE_BEGIN

/// Any dense matrix, array, vector or map may be read from what another one of the same element type wrote, if the
/// shape fits.
template <detail::dense_eigen T>
struct type_label<T> {
  static std::string get() {
    return "dense Eigen object of " + type_label<std::remove_const_t<typename T::Scalar>>::get();
  }
};

namespace detail {

template <class M>
inline constexpr bool is_row_major = bool(M::IsRowMajor);

// One row or column lies the same way in both orders.
template <class M>
bool order_matters(const M& matrix) noexcept {
  return matrix.rows() > 1 && matrix.cols() > 1;
}

template <class Archive, class T>
concept blockwise =
    trivially_portable<T> && (cereal::traits::is_output_serializable<cereal::BinaryData<T>, Archive>::value ||
                              cereal::traits::is_input_serializable<cereal::BinaryData<T>, Archive>::value);

template <class Archive, class Object>
void save_eigen(Archive& archive, const Object& object) {
  using scalar = std::remove_const_t<typename Object::Scalar>;
  const auto rows = static_cast<std::int64_t>(object.rows()), cols = static_cast<std::int64_t>(object.cols());
  archive(cereal::make_nvp("rows", rows), cereal::make_nvp("cols", cols),
          cereal::make_nvp("row_major", is_row_major<Object>));
  if constexpr (blockwise<Archive, scalar>)
    archive(cereal::binary_data(object.data(), static_cast<std::size_t>(object.size()) * sizeof(scalar)));
  else
    for (Eigen::Index i = 0; i < object.size(); ++i) archive(object.data()[i]);
}

template <class Archive, class Object>
void load_elements(Archive& archive, Object& object) {
  using scalar = typename Object::Scalar;
  if constexpr (blockwise<Archive, scalar>)
    archive(cereal::binary_data(object.data(), static_cast<std::size_t>(object.size()) * sizeof(scalar)));
  else
    for (Eigen::Index i = 0; i < object.size(); ++i) archive(object.data()[i]);
}

inline bool extent_fits(std::int64_t stored, int at_compile_time, int at_most) noexcept {
  return (at_compile_time == Eigen::Dynamic || stored == at_compile_time) &&
         (at_most == Eigen::Dynamic || stored <= at_most);
}

template <class Archive, class Object>
void load_eigen(Archive& archive, Object& object) {
  using scalar = typename Object::Scalar;
  std::int64_t rows = 0, cols = 0;
  bool row_major = false;
  archive(cereal::make_nvp("rows", rows), cereal::make_nvp("cols", cols), cereal::make_nvp("row_major", row_major));
  if (rows < 0 || cols < 0 ||
      (cols != 0 && rows > std::numeric_limits<std::int64_t>::max() / cols / static_cast<std::int64_t>(sizeof(scalar))))
    throw matrix_corrupt("a shape of " + std::to_string(rows) + " x " + std::to_string(cols));
  if constexpr (std::is_same_v<Archive, input_archive> && trivially_portable<scalar>) {  // before anything is allocated
    const std::uint64_t bytes = static_cast<std::uint64_t>(rows * cols) * sizeof(scalar);
    if (bytes > archive.left()) throw archive_truncated(bytes, archive.left(), archive.offset());
  }
  if constexpr (is_plain_eigen<Object>) {
    if (!extent_fits(rows, Object::RowsAtCompileTime, Object::MaxRowsAtCompileTime) ||
        !extent_fits(cols, Object::ColsAtCompileTime, Object::MaxColsAtCompileTime))
      throw matrix_shape_mismatch(rows, cols, Object::RowsAtCompileTime, Object::ColsAtCompileTime);
    object.resize(static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(cols));
  } else {
    if (rows != object.rows() || cols != object.cols())
      throw matrix_shape_mismatch(rows, cols, object.rows(), object.cols());
  }
  if (row_major == is_row_major<Object> || !order_matters(object)) {
    load_elements(archive, object);
  } else {
    // The transpose, stored in our own order, has its elements where the stored object had them.
    Eigen::Array<scalar, Eigen::Dynamic, Eigen::Dynamic, is_row_major<Object> ? Eigen::RowMajor : Eigen::ColMajor>
        other(cols, rows);
    load_elements(archive, other);
    if constexpr (std::is_base_of_v<Eigen::ArrayBase<Object>, Object>)
      object = other.transpose();
    else
      object = other.matrix().transpose();
  }
}

}  // namespace detail

CADRE_NAMESPACE_END

// In Eigen's namespace, where cereal's archives, and any other, find them by the type of their argument.
namespace Eigen {

template <class Archive, class Derived>
  requires cadre::detail::dense_eigen<Derived>
void CEREAL_SAVE_FUNCTION_NAME(Archive& archive, const PlainObjectBase<Derived>& object) {
  cadre::detail::save_eigen(archive, object.derived());
}
template <class Archive, class Derived>
  requires cadre::detail::dense_eigen<Derived>
void CEREAL_LOAD_FUNCTION_NAME(Archive& archive, PlainObjectBase<Derived>& object) {
  cadre::detail::load_eigen(archive, object.derived());
}

template <class Archive, class Plain, int Options>
void CEREAL_SAVE_FUNCTION_NAME(Archive& archive, const Map<Plain, Options, Stride<0, 0>>& map) {
  cadre::detail::save_eigen(archive, map);
}
template <class Archive, class Plain, int Options>
  requires(!std::is_const_v<Plain>)
void CEREAL_LOAD_FUNCTION_NAME(Archive& archive, Map<Plain, Options, Stride<0, 0>>& map) {
  cadre::detail::load_eigen(archive, map);
}

}  // namespace Eigen

#endif

// ---- cadre/eigen/stored.hpp ----
#ifndef CADRE_EIGEN_STORED_HPP
#define CADRE_EIGEN_STORED_HPP

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

// ---- cadre/eigen.hpp ----
#ifndef CADRE_EIGEN_HPP
#define CADRE_EIGEN_HPP

/// Eigen's dense matrices and arrays as cadre sees them: one run of elements (contiguous_traits), something that cereal
/// can save and load, and an object of a store.

#endif

#endif
