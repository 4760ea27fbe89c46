#ifndef CADRE_EIGEN_HPP
#define CADRE_EIGEN_HPP

/// Eigen's dense matrices and arrays as cadre sees them: one run of elements (contiguous_traits), something that cereal
/// can save and load, and an object of a store.
#include <cadre/eigen/contiguous.hpp>
#include <cadre/eigen/error.hpp>
#include <cadre/eigen/serialize.hpp>
#include <cadre/eigen/stored.hpp>

#endif
