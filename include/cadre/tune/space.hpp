#ifndef CADRE_TUNE_SPACE_HPP
#define CADRE_TUNE_SPACE_HPP

#include <cadre/tune/detail/space_core.hpp>
#include <cadre/tune/distribution.hpp>

#include <concepts>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

namespace detail {

/// One parameter of a space, bound to a member of Config.
template <class Config>
class parameter : public parameter_text {
 public:
  virtual void assign(Config& config, double value) const = 0;
  /// Nothing if the member holds no value of a choice.
  [[nodiscard]] virtual std::optional<double> read(const Config& config) const = 0;
};

template <class Config, class Owner, class Member>
class numeric_parameter final : public parameter<Config> {
 public:
  explicit numeric_parameter(Member Owner::*member) : member_(member) {}
  void assign(Config& config, double value) const override { config.*member_ = static_cast<Member>(value); }
  [[nodiscard]] std::optional<double> read(const Config& config) const override {
    return static_cast<double>(config.*member_);
  }
  [[nodiscard]] record_value show(double value) const override {
    if constexpr (std::integral<Member>)
      return static_cast<std::int64_t>(value);
    else
      return static_cast<double>(static_cast<Member>(value));
  }

 private:
  Member Owner::*member_;
};

template <class Config, class Owner, class Member>
class choice_parameter final : public parameter<Config> {
 public:
  choice_parameter(Member Owner::*member, std::vector<Member> values, std::vector<std::string> names)
      : member_(member), values_(std::move(values)), names_(std::move(names)) {}
  void assign(Config& config, double value) const override {
    config.*member_ = values_[static_cast<std::size_t>(value)];
  }
  [[nodiscard]] std::optional<double> read(const Config& config) const override {
    for (std::size_t i = 0; i < values_.size(); ++i)
      if (static_cast<const Member&>(values_[i]) == config.*member_) return static_cast<double>(i);
    return std::nullopt;
  }
  [[nodiscard]] record_value show(double value) const override {
    const auto index = static_cast<std::size_t>(value);
    if (!names_.empty()) return names_[index];
    if constexpr (record_cell<Member>)
      return make_record_value<Member>(values_[index]);
    else if constexpr (std::is_enum_v<Member>)
      return make_record_value(static_cast<std::underlying_type_t<Member>>(values_[index]));
    else
      return static_cast<std::int64_t>(index);
  }

 private:
  Member Owner::*member_;
  std::vector<Member> values_;
  std::vector<std::string> names_;
};

/// A value that a choice may put into a member: its own type, a number that cannot lose anything but range (which is
/// checked), or what converts to it by itself (a string literal to std::string).
template <class T, class Member>
concept choosable =
    std::same_as<T, Member> ||
    (std::is_arithmetic_v<T> && std::is_arithmetic_v<Member> && !std::same_as<T, bool> && !std::same_as<Member, bool> &&
     (std::integral<T> || std::floating_point<Member>)) ||
    (!std::is_arithmetic_v<T> && !std::is_arithmetic_v<Member> && std::convertible_to<const T&, Member>);

}  // namespace detail

/// The parameters to be tuned, each a member of the user's plain struct:
///
///     auto s = tune::space<config>()
///         .add("lr", &config::lr, tune::loguniform(1e-5, 1e-1))
///         .add("width", &config::width, tune::lograndint(16, 1024))
///         .add("opt", &config::o, tune::choice({opt::sgd, opt::adam}, {"sgd", "adam"}));
///
/// Members that no parameter names keep the values of the base configuration: `space<config>(base)`. Copies share the
/// parameters. Immutable once built, so any number of threads may use it.
template <class Config>
class space {
 public:
  space() : base_{} {}
  explicit space(Config base) : base_(std::move(base)) {}

  /// Adds a parameter of real numbers. Throws duplicate_parameter (902), bad_distribution (901).
  template <class Owner, class Member>
  space& add(std::string_view name, Member Owner::*member, const real_distribution& distribution) {
    static_assert(
        std::floating_point<Member>,
        "cadre::tune: uniform, quniform, loguniform, qloguniform and randn draw real numbers, so the member must be "
        "double or float; for an integer use randint, qrandint or lograndint, for anything else choice");
    if constexpr (std::floating_point<Member>) {
      detail::space_core::check_real(name, distribution.values, distribution.quantized,
                                     static_cast<double>(std::numeric_limits<Member>::max()));
      insert<Owner>(name, distribution.values,
                    std::make_shared<detail::numeric_parameter<Config, Owner, Member>>(member));
    }
    return *this;
  }

  /// Adds a parameter of integers. Throws duplicate_parameter (902), bad_distribution (901).
  template <class Owner, class Member>
  space& add(std::string_view name, Member Owner::*member, const integer_distribution& distribution) {
    constexpr bool fits = std::integral<Member> && !std::same_as<Member, bool>;
    static_assert(
        fits,
        "cadre::tune: randint, qrandint and lograndint draw integers, so the member must be of an integer type; for "
        "double or float use uniform or quniform, for bool or an enum choice");
    if constexpr (fits) {
      using limits = std::numeric_limits<Member>;
      detail::space_core::check_integer(name, distribution.values, static_cast<std::int64_t>(limits::min()),
                                        static_cast<std::uint64_t>(limits::max()));
      insert<Owner>(name, distribution.values,
                    std::make_shared<detail::numeric_parameter<Config, Owner, Member>>(member));
    }
    return *this;
  }

  /// Adds a parameter that is one of some values. Throws duplicate_parameter (902), bad_distribution (901).
  template <class Owner, class Member, class T>
  space& add(std::string_view name, Member Owner::*member, const choice_distribution<T>& distribution) {
    static_assert(detail::choosable<T, Member>,
                  "cadre::tune: the values of this choice do not fit the member's type: give values of that very type");
    if constexpr (detail::choosable<T, Member>) {
      const std::size_t n = distribution.values.size();
      detail::space_core::check_choice(name, n, distribution.names.size());
      std::vector<Member> values;
      for (const auto& value : distribution.values) {
        if constexpr (std::integral<T> && std::integral<Member> && !std::same_as<T, Member>)
          if (!std::in_range<Member>(value))
            detail::space_core::bad(name, "the choice " + std::to_string(value) + " does not fit the member's type");
        values.push_back(static_cast<Member>(value));
      }
      insert<Owner>(name, {domain_kind::categorical, 0, static_cast<double>(n - 1), 1, false},
                    std::make_shared<detail::choice_parameter<Config, Owner, Member>>(member, std::move(values),
                                                                                      distribution.names));
    }
    return *this;
  }

  /// Parameters.
  [[nodiscard]] std::size_t size() const noexcept { return parameters_.size(); }
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return core_.names(); }
  [[nodiscard]] const std::vector<domain>& domains() const noexcept { return core_.domains(); }
  /// How many configurations there are, if that is a number below 2^64.
  [[nodiscard]] std::optional<std::uint64_t> points() const { return count_points(core_.domains()); }
  [[nodiscard]] const Config& base() const noexcept { return base_; }

  /// The configuration that a point stands for.
  [[nodiscard]] Config decode(const point& where) const {
    Config config = base_;
    for (std::size_t i = 0; i < parameters_.size(); ++i) parameters_[i]->assign(config, where[i]);
    return config;
  }

  /// The point that a configuration is; members that are no parameters do not count. Throws point_outside_space (903).
  [[nodiscard]] point encode(const Config& config) const {
    point where(parameters_.size());
    for (std::size_t i = 0; i < parameters_.size(); ++i) where[i] = core_.encode(i, parameters_[i]->read(config));
    return where;
  }

  /// Names and values, to be shown. A choice shows the name it was given, else the value, an enumerator its number.
  [[nodiscard]] record show(const point& where) const { return core_.show(where); }

  /// The distribution of parameter i as text.
  [[nodiscard]] std::string describe(std::size_t i) const { return core_.describe(i); }

  /// For studies.
  [[nodiscard]] const detail::space_core& core() const noexcept { return core_; }

 private:
  template <class Owner>
  void insert(std::string_view name, const domain& d, std::shared_ptr<const detail::parameter<Config>> p) {
    static_assert(std::derived_from<Config, Owner>, "cadre::tune: the member belongs to another struct than the space");
    core_.add(name, d, p);
    parameters_.push_back(std::move(p));
  }

  Config base_;
  detail::space_core core_;
  std::vector<std::shared_ptr<const detail::parameter<Config>>> parameters_;
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
