#ifndef CADRE_REPORT_RECORD_HPP
#define CADRE_REPORT_RECORD_HPP

#include <cadre/core/metric_map.hpp>
#include <cadre/report/error.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// What a cell of a table can hold.
using record_value = std::variant<bool, std::int64_t, double, std::string>;

namespace detail {

template <class T>
concept character = std::same_as<T, char> || std::same_as<T, wchar_t> || std::same_as<T, char8_t> ||
                    std::same_as<T, char16_t> || std::same_as<T, char32_t>;

}  // namespace detail

/// What make_record_value accepts: bool, integers, floating-point numbers, text; not single characters.
template <class T>
concept record_cell = std::convertible_to<const T&, std::string_view> || std::same_as<T, record_value> ||
                      (std::is_arithmetic_v<T> && !detail::character<T>);

/// Integers become 64-bit ones, and those beyond (an unsigned seed of 2^63 or more) their decimal digits as text, so
/// that no digit is lost; every real becomes a double.
template <record_cell T>
[[nodiscard]] record_value make_record_value(const T& value) {
  if constexpr (std::is_same_v<T, record_value> || std::is_same_v<T, bool>)
    return value;
  else if constexpr (std::floating_point<T>)
    return static_cast<double>(value);
  else if constexpr (std::integral<T>)
    return std::in_range<std::int64_t>(value) ? record_value(static_cast<std::int64_t>(value))
                                              : record_value(std::to_string(value));
  else
    return std::string(std::string_view(value));
}

/// One row of a table or a log: names and values in the order in which they were first set. A search is a short walk.
class record {
 public:
  /// One name and its value, as written in braces: `{"lr", 1e-3}`.
  struct field {
    template <class T>
      requires record_cell<T>
    field(std::string_view field_name, const T& field_value)
        : name(field_name), value(make_record_value(field_value)) {}

    std::string name;
    record_value value;

    friend bool operator==(const field&, const field&) = default;
  };

  record() = default;
  /// `record{{"trial", 3}, {"lr", 1e-3}, {"state", "finished"}}`; a name given twice keeps its last value.
  record(std::initializer_list<field> fields) {
    for (const field& f : fields) put(f.name, f.value);
  }
  explicit record(const metric_map& metrics) { merge(metrics); }

  template <class T>
    requires record_cell<T>
  record& set(std::string_view name, const T& value) {
    put(name, make_record_value(value));
    return *this;
  }

  /// Sets every field of `other`.
  record& merge(const record& other) {
    if (&other != this)
      for (const field& f : other.fields_) put(f.name, f.value);
    return *this;
  }
  record& merge(const metric_map& metrics) {
    for (const metric& m : metrics) put(m.name, m.value);
    return *this;
  }

  /// Null if there is no such field.
  [[nodiscard]] const record_value* find(std::string_view name) const noexcept {
    for (const field& f : fields_)
      if (f.name == name) return &f.value;
    return nullptr;
  }
  [[nodiscard]] record_value* find(std::string_view name) noexcept {
    return const_cast<record_value*>(std::as_const(*this).find(name));
  }
  [[nodiscard]] bool contains(std::string_view name) const noexcept { return find(name) != nullptr; }

  /// Throws no_such_field (1001), naming the fields that there are.
  [[nodiscard]] const record_value& at(std::string_view name) const {
    if (const record_value* value = find(name)) return *value;
    std::string message = "no field '" + std::string(name) + "' in the record; there ";
    message += fields_.empty() ? "is none" : "are:";
    for (const field& f : fields_) message += " '" + f.name + "'";
    throw no_such_field(message);
  }

  [[nodiscard]] std::size_t size() const noexcept { return fields_.size(); }
  [[nodiscard]] bool empty() const noexcept { return fields_.empty(); }
  [[nodiscard]] auto begin() const noexcept { return fields_.begin(); }
  [[nodiscard]] auto end() const noexcept { return fields_.end(); }

  friend bool operator==(const record&, const record&) = default;

 private:
  void put(std::string_view name, const record_value& value) {
    if (record_value* known = find(name))
      *known = value;
    else
      fields_.emplace_back(name, value);
  }

  std::vector<field> fields_;
};

CADRE_NAMESPACE_END

#endif
