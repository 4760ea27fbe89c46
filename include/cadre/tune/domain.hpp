#ifndef CADRE_TUNE_DOMAIN_HPP
#define CADRE_TUNE_DOMAIN_HPP

#include <cadre/core/random.hpp>
#include <cadre/tune/fwd.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace tune {

namespace detail {
/// The shortest text that reads back as the same number, in every locale.
inline std::string number_text(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}
}  // namespace detail

enum class domain_kind : std::uint8_t { real, integer, normal, categorical };

/// What values a parameter takes and how they are drawn: what searchers know of it. Values are doubles; a categorical
/// one is an index 0 .. high.
struct domain {
  domain_kind kind = domain_kind::real;
  double low = 0;            ///< the least value; the mean of a normal one
  double high = 0;           ///< the largest value, itself drawn; the standard deviation of a normal one
  double step = 0;           ///< values are low, low + step, ..., at most high; 0 if every real number between is one
  bool logarithmic = false;  ///< drawn uniformly in the logarithm

  /// How many values there are; 0 for more than can be counted.
  [[nodiscard]] std::uint64_t count() const noexcept {
    if (kind == domain_kind::normal) return 0;
    if (low == high) return 1;
    if (step == 0) return 0;
    const double steps = (high - low) / step;
    return steps < 0x1p53 ? static_cast<std::uint64_t>(steps + 1e-9 * std::max(1.0, steps)) + 1 : 0;
  }

  /// The value of that index, 0 .. count() - 1.
  [[nodiscard]] double at(std::uint64_t index) const noexcept {
    return std::min(low + static_cast<double>(index) * step, high);
  }

  /// The index of the value nearest to `value`, which must lie between the bounds.
  [[nodiscard]] std::uint64_t index_of(double value) const noexcept {
    if (step == 0) return 0;
    const double index = std::round((value - low) / step);
    return std::min(static_cast<std::uint64_t>(std::max(index, 0.0)), count() - 1);
  }

  /// True if `value` can be drawn. A grid forgives rounding errors.
  [[nodiscard]] bool contains(double value) const noexcept {
    if (kind == domain_kind::normal) return std::isfinite(value);
    if (!(value >= low && value <= high)) return false;
    return step == 0 || std::abs(value - at(index_of(value))) <= 1e-9 * std::max(step, std::abs(value));
  }

  [[nodiscard]] double draw(random_stream& random) const {
    if (kind == domain_kind::normal) return random.normal(low, high);
    if (low == high) return low;
    if (step == 0) {
      const double u = random.uniform();
      const double value =
          logarithmic ? std::exp(std::lerp(std::log(low), std::log(high), u)) : std::lerp(low, high, u);
      return std::clamp(value, low, high);
    }
    const std::uint64_t n = count();
    if (!logarithmic) return at(random.below(n));
    // Each value stands for the cell of half a step around it, so the ends are as likely as their logarithms say.
    const double from = std::log(low - step / 2), to = std::log(at(n - 1) + step / 2);
    return at(index_of(std::clamp(std::exp(std::lerp(from, to, random.uniform())), low, high)));
  }

  [[nodiscard]] std::string text() const {
    using detail::number_text;
    if (kind == domain_kind::categorical) return "choice of " + std::to_string(count());
    if (kind == domain_kind::normal) return "randn(" + number_text(low) + ", " + number_text(high) + ")";
    std::string name = kind == domain_kind::integer ? (logarithmic ? "lograndint"
                                                       : step == 1 ? "randint"
                                                                   : "qrandint")
                       : step == 0                  ? (logarithmic ? "loguniform" : "uniform")
                                                    : (logarithmic ? "qloguniform" : "quniform");
    name += "(" + number_text(low) + ", " + number_text(high);
    if (step != 0 && !(kind == domain_kind::integer && step == 1)) name += ", " + number_text(step);
    return name + ")";
  }

  friend bool operator==(const domain&, const domain&) = default;
};

/// How many configurations there are when each parameter is of one of `domains`; nothing if that cannot be counted in
/// 64 bits.
template <class Domains>
[[nodiscard]] std::optional<std::uint64_t> count_points(const Domains& domains) {
  std::uint64_t product = 1;
  for (const domain& d : domains) {
    const std::uint64_t n = d.count();
    if (n == 0 || product > std::numeric_limits<std::uint64_t>::max() / n) return std::nullopt;
    product *= n;
  }
  return product;
}

/// The place of a point when all points of a finite space are numbered, the last parameter changing fastest.
template <class Domains>
[[nodiscard]] std::uint64_t index_of_point(const Domains& domains, const point& where) {
  std::uint64_t index = 0;
  std::size_t i = 0;
  for (const domain& d : domains) index = index * d.count() + d.index_of(where[i++]);
  return index;
}

/// The point at that place.
template <class Domains>
[[nodiscard]] point point_of_index(const Domains& domains, std::uint64_t index) {
  point where(domains.size());
  for (std::size_t i = domains.size(); i-- > 0;) {
    const std::uint64_t n = domains[i].count();
    where[i] = domains[i].at(index % n);
    index /= n;
  }
  return where;
}

}  // namespace tune
CADRE_NAMESPACE_END

#endif
