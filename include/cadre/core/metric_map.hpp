#ifndef CADRE_CORE_METRIC_MAP_HPP
#define CADRE_CORE_METRIC_MAP_HPP

#include <cadre/core/error.hpp>

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Thrown (101) when a metric is asked for that was not reported.
class no_such_metric : public error {
 public:
  explicit no_such_metric(std::string_view message) : error("core", 101, message) {}
};

/// One name and value of a report, as written in braces: `{"val_loss", 0.3}`, `{"epoch", 7}`.
struct metric {
  template <class Number>
    requires std::integral<Number> || std::floating_point<Number>
  metric(std::string_view metric_name, Number metric_value)
      : name(metric_name), value(static_cast<double>(metric_value)) {}

  std::string name;
  double value;

  friend bool operator==(const metric&, const metric&) = default;
};

/// The numbers of one report, in the order in which they were given. Small by nature, so a search is a short walk.
class metric_map {
 public:
  metric_map() = default;
  /// A name given twice keeps its last value.
  metric_map(std::initializer_list<metric> metrics) {
    for (const metric& m : metrics) set(m.name, m.value);
  }

  void set(std::string_view name, double value) {
    if (double* known = find(name))
      *known = value;
    else
      metrics_.emplace_back(name, value);
  }

  /// Null if the metric is absent.
  [[nodiscard]] const double* find(std::string_view name) const noexcept {
    for (const metric& m : metrics_)
      if (m.name == name) return &m.value;
    return nullptr;
  }
  [[nodiscard]] double* find(std::string_view name) noexcept {
    return const_cast<double*>(std::as_const(*this).find(name));
  }

  [[nodiscard]] bool contains(std::string_view name) const noexcept { return find(name) != nullptr; }

  /// Throws no_such_metric (101), naming the metrics that there are.
  [[nodiscard]] double at(std::string_view name) const {
    if (const double* value = find(name)) return *value;
    std::string message = "no metric '" + std::string(name) + "' was reported; there ";
    message += metrics_.empty() ? "is none" : "are:";
    for (const metric& m : metrics_) message += " '" + m.name + "'";
    throw no_such_metric(message);
  }

  [[nodiscard]] std::size_t size() const noexcept { return metrics_.size(); }
  [[nodiscard]] bool empty() const noexcept { return metrics_.empty(); }
  [[nodiscard]] auto begin() const noexcept { return metrics_.begin(); }
  [[nodiscard]] auto end() const noexcept { return metrics_.end(); }

  friend bool operator==(const metric_map&, const metric_map&) = default;

 private:
  std::vector<metric> metrics_;
};

CADRE_NAMESPACE_END

#endif
