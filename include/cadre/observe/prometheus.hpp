#ifndef CADRE_OBSERVE_PROMETHEUS_HPP
#define CADRE_OBSERVE_PROMETHEUS_HPP

#include <cadre/observe/metrics.hpp>

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace detail {

inline std::string prometheus_number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char buffer[32];
  // Counts below 2^53 as integers: std::to_chars alone would write 100000 as 1e+05.
  const bool whole = std::abs(value) < 9007199254740992.0 && value == std::floor(value);
  const auto end = whole ? std::to_chars(buffer, buffer + sizeof buffer, static_cast<std::int64_t>(value)).ptr
                         : std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

inline std::string prometheus_escaped(std::string_view text, bool quote) {
  std::string out;
  for (char c : text) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\\' || (quote && c == '"'))
      (out += '\\') += c;
    else
      out += c;
  }
  return out;
}

inline std::string prometheus_labels(const metric_labels& labels, std::string_view le = {}) {
  std::string out;
  for (const auto& [name, value] : labels)
    out += (out.empty() ? "" : ",") + name + "=\"" + prometheus_escaped(value, true) + '"';
  if (!le.empty()) ((out += out.empty() ? "le=\"" : ",le=\"") += le) += '"';
  return out.empty() ? out : '{' + out + '}';
}

}  // namespace detail

/// A snapshot in the Prometheus text exposition format, version 0.0.4 (serve it as "text/plain; version=0.0.4").
[[nodiscard]] inline std::string prometheus_text(std::span<const metric_sample> samples) {
  std::string out;
  const std::string* family = nullptr;
  for (const metric_sample& m : samples) {
    if (!family || *family != m.name) {
      if (!m.help.empty()) out += "# HELP " + m.name + ' ' + detail::prometheus_escaped(m.help, false) + '\n';
      ((out += "# TYPE " + m.name + ' ') += to_string(m.kind)) += '\n';
      family = &m.name;
    }
    const std::string labels = detail::prometheus_labels(m.labels);
    if (m.kind != metric_kind::histogram) {
      out += m.name + labels + ' ' + detail::prometheus_number(m.value) + '\n';
      continue;
    }
    std::uint64_t up_to = 0;
    for (std::size_t i = 0; i < m.counts.size(); ++i) {
      up_to += m.counts[i];
      const std::string le = i < m.bounds.size() ? detail::prometheus_number(m.bounds[i]) : "+Inf";
      out += m.name + "_bucket" + detail::prometheus_labels(m.labels, le) + ' ' + std::to_string(up_to) + '\n';
    }
    out += m.name + "_sum" + labels + ' ' + detail::prometheus_number(m.sum) + '\n';
    out += m.name + "_count" + labels + ' ' + std::to_string(up_to) + '\n';
  }
  return out;
}

/// All metrics of a registry, by default of the process's.
template <class Labels = metric_labels>
[[nodiscard]] std::string prometheus_text(const basic_metrics_registry<Labels>& registry = metrics()) {
  return prometheus_text(std::span<const metric_sample>(registry.snapshot()));
}

CADRE_NAMESPACE_END

#endif
