#ifndef CADRE_EIGEN_ERROR_HPP
#define CADRE_EIGEN_ERROR_HPP

#include <cadre/core/error.hpp>

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
