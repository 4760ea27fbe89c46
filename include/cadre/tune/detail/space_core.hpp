#ifndef CADRE_TUNE_DETAIL_SPACE_CORE_HPP
#define CADRE_TUNE_DETAIL_SPACE_CORE_HPP

#include <cadre/report/record.hpp>
#include <cadre/tune/domain.hpp>
#include <cadre/tune/error.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

inline std::string text_of(const record_value& value) {
  if (const auto* s = std::get_if<std::string>(&value)) return *s;
  if (const auto* n = std::get_if<std::int64_t>(&value)) return std::to_string(*n);
  if (const auto* b = std::get_if<bool>(&value)) return *b ? "true" : "false";
  return number_text(std::get<double>(value));
}

/// How a parameter's values are shown.
class parameter_text {
 public:
  virtual ~parameter_text() = default;
  [[nodiscard]] virtual record_value show(double value) const = 0;
};

/// What a space is without the struct that it fills. Apart, so that it is compiled once however many structs there are.
class space_core {
 public:
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }
  [[nodiscard]] const std::vector<domain>& domains() const noexcept { return domains_; }

  [[nodiscard]] record show(const point& where) const {
    record shown;
    for (std::size_t i = 0; i < texts_.size(); ++i) shown.set(names_[i], texts_[i]->show(where[i]));
    return shown;
  }

  [[nodiscard]] std::string describe(std::size_t i) const {
    const domain& d = domains_[i];
    if (d.kind != domain_kind::categorical) return d.text();
    std::string text = "choice(";
    for (std::uint64_t index = 0; index < d.count(); ++index)
      text += (index == 0 ? "" : ", ") + text_of(texts_[i]->show(d.at(index)));
    return text + ")";
  }

  /// The value of parameter i nearest to what a member holds (nothing: no value of a choice). Throws point_outside_space (903).
  [[nodiscard]] double encode(std::size_t i, std::optional<double> held) const {
    if (!held) throw point_outside_space("parameter '" + names_[i] + "': the value is none of " + describe(i));
    const domain& d = domains_[i];
    double value = *held;
    const double slack =
        1e-6 * std::abs(value);  // a float that was rounded past a bound or off a step is meant to be there
    if (d.kind == domain_kind::real && value > d.low - slack && value < d.high + slack)
      value = std::clamp(value, d.low, d.high);
    if (d.step != 0 && value >= d.low && value <= d.high) {
      const double near = d.at(d.index_of(value));
      if (std::abs(near - value) <= slack) value = near;
    }
    if (!d.contains(value))
      throw point_outside_space("parameter '" + names_[i] + "': " + number_text(*held) + " is not in " + d.text());
    return value;
  }

  // What follows throws bad_distribution (901), and add() duplicate_parameter (902).

  static void check_real(std::string_view name, const domain& d, bool quantized, double largest) {
    check(name, d, quantized);
    if (d.low < -largest || d.low > largest || d.high > largest)
      bad(name, d.text() + " does not fit the member, a float");
  }

  static void check_integer(std::string_view name, const domain& d, std::int64_t least, std::uint64_t largest) {
    check(name, d, true);
    if (std::abs(d.low) > 0x1p53 || std::abs(d.high) > 0x1p53)
      bad(name, d.text() + " has a bound beyond 2^53, up to which integers are exact");
    const auto fits = [&](double bound) {
      const auto n = static_cast<std::int64_t>(bound);
      return n >= least && (n < 0 || static_cast<std::uint64_t>(n) <= largest);
    };
    if (!fits(d.low) || !fits(d.high))
      bad(name, d.text() + " does not fit the member, whose type holds " + std::to_string(least) + " to " +
                    std::to_string(largest));
  }

  static void check_choice(std::string_view name, std::size_t values, std::size_t names) {
    if (values == 0) bad(name, "choice has no values; give at least one");
    if (names != 0 && names != values)
      bad(name, "choice has " + std::to_string(values) + " values and " + std::to_string(names) +
                    " names; give each value one name");
  }

  [[noreturn]] static void bad(std::string_view name, const std::string& why) {
    throw bad_distribution("parameter '" + std::string(name) + "': " + why);
  }

  template <class Text>
  void add(std::string_view name, const auto& domain, std::shared_ptr<const Text> text) {
    if (std::find(names_.begin(), names_.end(), name) != names_.end())
      throw duplicate_parameter("the space already has a parameter '" + std::string(name) + "'; names must be unique");
    names_.emplace_back(name);
    domains_.push_back(domain);
    texts_.push_back(std::move(text));
  }

 private:
  static void check(std::string_view name, const domain& d, bool quantized) {
    const auto require = [&](bool fine, const char* otherwise) {
      if (!fine) bad(name, d.text() + otherwise);
    };
    require(std::isfinite(d.low) && std::isfinite(d.high) && std::isfinite(d.step),
            " has a bound that is no finite number");
    if (d.kind == domain_kind::normal) {
      require(d.high > 0, " needs a deviation above 0");
      return;
    }
    require(d.low <= d.high, " has its lower bound above the upper one; swap them");
    require(!quantized || d.step > 0, " needs a step above 0");
    require(!d.logarithmic || d.low > 0, " has a lower bound that is not above 0, where there is no logarithm");
    require(!d.logarithmic || d.step < 2 * d.low || d.low == d.high, " needs a step below twice its lower bound");
    require(d.step == 0 || d.count() != 0, " has more values than can be counted; use a larger step");
  }

  std::vector<std::string> names_;
  std::vector<domain> domains_;
  std::vector<std::shared_ptr<const parameter_text>> texts_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif
