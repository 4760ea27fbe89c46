#ifndef CADRE_REPORT_CHROME_TRACE_HPP
#define CADRE_REPORT_CHROME_TRACE_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/observe/events.hpp>
#include <cadre/report/detail/json.hpp>

#include <set>
#include <span>
#include <string>

CADRE_NAMESPACE_BEGIN

/// Events as a timeline in Chrome's trace event format: open it at ui.perfetto.dev or chrome://tracing. Ranks are
/// shown as processes. Events of several processes of one machine share a clock and may go into one timeline.
///
/// A template so that only those who call it pay to compile it.
template <class Ranks = std::set<int>>
[[nodiscard]] std::string chrome_trace(std::span<const event> events) {
  std::string out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  const auto begin = [&] { out += out.back() == '[' ? "\n" : ",\n"; };
  const auto microseconds = [&](std::chrono::nanoseconds t) {
    const std::string thousandths = std::to_string(1000 + t.count() % 1000);
    out += std::to_string(t.count() / 1000) + '.' + thousandths.substr(1);
  };
  Ranks ranks;
  for (const event& e : events) ranks.insert(e.rank);
  for (int rank : ranks) {
    begin();
    out += "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":" + std::to_string(rank) + ",\"args\":{\"name\":\"rank " +
           std::to_string(rank) + "\"}}";
  }
  for (const event& e : events) {
    begin();
    out += "{\"ph\":\"" + std::string(e.instant ? "i\",\"s\":\"t" : "X") + "\",\"pid\":" + std::to_string(e.rank) +
           ",\"tid\":" + std::to_string(e.thread) + ",\"ts\":";
    microseconds(e.begin);
    if (!e.instant) {
      out += ",\"dur\":";
      microseconds(e.duration);
    }
    out += ",\"cat\":";
    detail::append_json(out, e.category);
    out += ",\"name\":";
    detail::append_json(out, e.name);
    out += '}';
  }
  return out += "\n]}\n";
}

CADRE_NAMESPACE_END

#endif
