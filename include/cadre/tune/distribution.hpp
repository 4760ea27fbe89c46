#ifndef CADRE_TUNE_DISTRIBUTION_HPP
#define CADRE_TUNE_DISTRIBUTION_HPP

#include <cadre/tune/domain.hpp>

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// Real numbers, for members of type double or float.
struct real_distribution {
  domain values;
  bool quantized = false;
};

/// Integers, for members of an integer type. Bounds are exact up to 2^53.
struct integer_distribution {
  domain values;
};

/// One of some values, with names to show if they were given.
template <class T>
struct choice_distribution {
  std::vector<T> values;
  std::vector<std::string> names;
};

// What makes no sense (bounds in the wrong order, a logarithm of 0, ...) is reported by space::add(), which knows the
// parameter's name.

/// Uniform between `low` and `high`.
[[nodiscard]] inline real_distribution uniform(double low, double high) {
  return {{domain_kind::real, low, high, 0, false}};
}
/// One of low, low + q, low + 2q, ... up to `high`, each as likely; drawn as an index, so that no rounding error adds up.
[[nodiscard]] inline real_distribution quniform(double low, double high, double q) {
  return {{domain_kind::real, low, high, q, false}, true};
}
/// Uniform in the logarithm; 0 < low.
[[nodiscard]] inline real_distribution loguniform(double low, double high) {
  return {{domain_kind::real, low, high, 0, true}};
}
/// One of low, low + q, ... up to `high`; the logarithm of a cell of width q around each says how likely it is. q < 2 low.
[[nodiscard]] inline real_distribution qloguniform(double low, double high, double q) {
  return {{domain_kind::real, low, high, q, true}, true};
}
/// Normally distributed.
[[nodiscard]] inline real_distribution randn(double mean = 0, double deviation = 1) {
  return {{domain_kind::normal, mean, deviation, 0, false}};
}
/// An integer between `low` and `high`, both included.
template <std::integral A, std::integral B>
[[nodiscard]] integer_distribution randint(A low, B high) {
  return {{domain_kind::integer, static_cast<double>(low), static_cast<double>(high), 1, false}};
}
/// One of low, low + q, low + 2q, ... up to `high`, itself included if it is one of them.
template <std::integral A, std::integral B, std::integral Q>
[[nodiscard]] integer_distribution qrandint(A low, B high, Q q) {
  return {{domain_kind::integer, static_cast<double>(low), static_cast<double>(high), static_cast<double>(q), false}};
}
/// An integer between `low` and `high`, both included, small ones as likely as their logarithms say; 0 < low.
template <std::integral A, std::integral B>
[[nodiscard]] integer_distribution lograndint(A low, B high) {
  return {{domain_kind::integer, static_cast<double>(low), static_cast<double>(high), 1, true}};
}
/// One of the values, each as likely.
template <class T>
[[nodiscard]] choice_distribution<T> choice(std::initializer_list<T> values) {
  return {values, {}};
}
template <class T>
[[nodiscard]] choice_distribution<T> choice(std::vector<T> values) {
  return {std::move(values), {}};
}
/// The same with the names to show, one for each: `choice({opt::sgd, opt::adam}, {"sgd", "adam"})`.
template <class T>
[[nodiscard]] choice_distribution<T> choice(std::initializer_list<T> values,
                                            std::initializer_list<std::string_view> names) {
  return {values, std::vector<std::string>(names.begin(), names.end())};
}

}  // namespace tune
CADRE_NAMESPACE_END

#endif
