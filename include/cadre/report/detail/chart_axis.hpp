#ifndef CADRE_REPORT_DETAIL_CHART_AXIS_HPP
#define CADRE_REPORT_DETAIL_CHART_AXIS_HPP

#include <cadre/report/detail/number.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

struct chart_tick {
  double value;
  std::string label;
};

/// Maps values to 0..1 along one axis and finds round ticks for it. A template so that only those who draw pay to
/// compile it.
template <class Tick = chart_tick>
class chart_axis {
 public:
  /// Beyond this, differences of doubles would overflow.
  static constexpr double most = 1e150;

  explicit chart_axis(bool logarithmic) : log_(logarithmic) {}

  /// Whether a value has a place on this axis.
  [[nodiscard]] bool shows(double value) const noexcept { return std::abs(value) <= most && (!log_ || value > 0); }

  void include(double value) noexcept {
    low_ = std::min(low_, scaled(value));
    high_ = std::max(high_, scaled(value));
    whole_ = whole_ && value == std::floor(value);
  }
  [[nodiscard]] bool empty() const noexcept { return !(low_ <= high_); }

  /// Call once all values are included: a range without extent is widened, then `margin` of it added at both ends.
  void settle(double margin) noexcept {
    if (empty()) {
      low_ = 0;
      high_ = 1;
    }
    if (high_ - low_ <= 1e-9 * std::max(std::abs(low_), std::abs(high_))) {
      const double room = log_ ? 0.5 : whole_ ? std::max(1.0, 0.1 * std::abs(low_)) : 0.1 * std::abs(low_);
      low_ -= room == 0 ? 1 : room;
      high_ += room == 0 ? 1 : room;
    }
    const double extent = high_ - low_;
    low_ -= margin * extent;
    high_ += margin * extent;
  }

  [[nodiscard]] double position(double value) const noexcept { return (scaled(value) - low_) / (high_ - low_); }

  /// At steps of 1, 2 or 5 times a power of ten; whole numbers get whole ticks if `keep_whole`.
  [[nodiscard]] std::vector<Tick> ticks(int about, bool keep_whole) const {
    if (!log_) return linear(low_, high_, about, keep_whole && whole_);
    std::vector<Tick> result;
    const int first = static_cast<int>(std::floor(low_)), last = static_cast<int>(std::ceil(high_));
    const int every = std::max(1, (last - first + about - 1) / about);
    const bool between = high_ - low_ < 2.5;
    for (int k = first; k <= last; ++k)
      for (int digit : {1, 2, 5}) {
        if (digit != 1 && !between) continue;
        if (digit == 1 && (k % every + every) % every != 0) continue;
        const double value = digit * std::pow(10.0, k), at = std::log10(value);
        if (at >= low_ - 1e-9 && at <= high_ + 1e-9) result.push_back({value, label(value, value)});
      }
    return result.size() >= 2 ? result : linear(std::pow(10.0, low_), std::pow(10.0, high_), about, false);
  }

 private:
  [[nodiscard]] double scaled(double value) const noexcept { return log_ ? std::log10(value) : value; }

  static std::vector<Tick> linear(double low, double high, int about, bool whole) {
    const double raw = (high - low) / about, power = std::pow(10.0, std::floor(std::log10(raw)));
    double step = power * (raw / power <= 1 ? 1 : raw / power <= 2 ? 2 : raw / power <= 5 ? 5 : 10);
    if (whole) step = std::max(step, 1.0);
    std::vector<Tick> result;
    const double first = std::ceil(low / step - 1e-9);
    for (int i = 0; (first + i) * step <= high + 1e-9 * step && i < 100; ++i)
      result.push_back({(first + i) * step, label((first + i) * step, step)});
    return result;
  }

  static std::string label(double value, double step) {
    std::string text;
    const int decimals = std::max(0, -static_cast<int>(std::floor(std::log10(std::abs(step)) + 1e-9)));
    if (std::abs(value) < 1e6 && decimals <= 4) {
      append_fixed(text, value, decimals);
      return text;
    }
    // 1.5e-06 as 1.5e-6, 2e+06 as 2e6
    append_significant_exponent(text, std::abs(value) < 1e-9 * std::abs(step) ? 0 : value);
    return text;
  }

  static void append_significant_exponent(std::string& out, double value) {
    if (value == 0) {
      out += '0';
      return;
    }
    char buffer[48];
    std::string text(buffer,
                     std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific, 6).ptr);
    const std::size_t e = text.find('e');
    std::string digits = text.substr(0, e), exponent = text.substr(e + 1);
    while (digits.ends_with('0')) digits.pop_back();
    if (digits.ends_with('.')) digits.pop_back();
    const bool negative = exponent.front() == '-';
    exponent.erase(0, exponent.find_first_not_of("+-0"));
    out += digits;
    if (!exponent.empty()) out += (negative ? "e-" : "e") + exponent;
  }

  bool log_;
  bool whole_ = true;
  double low_ = std::numeric_limits<double>::infinity(), high_ = -std::numeric_limits<double>::infinity();
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
