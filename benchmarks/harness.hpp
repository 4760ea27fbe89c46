#ifndef CADRE_BENCHMARKS_HARNESS_HPP
#define CADRE_BENCHMARKS_HARNESS_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

/// The way every benchmark here measures: ours and the peers' rounds take turns in one run, because the machines are
/// shared and flip between a fast and a slow mode; medians and quartiles over the rounds; each row a ratio.
namespace benchmark {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Who is measured. `round` runs once per round and returns the figure.
struct contender {
  std::string name;
  std::function<double()> round;
  std::vector<double> figures = {};
};

struct summary {
  double median, lower, upper;  // quartiles
};

inline summary summarise(std::vector<double> v) {
  std::ranges::sort(v);
  const auto at = [&](double q) { return v[static_cast<std::size_t>(q * static_cast<double>(v.size() - 1) + 0.5)]; };
  return {at(0.5), at(0.25), at(0.75)};
}

/// One round of each to warm up, then `rounds` of each in turn.
inline void interleave(std::vector<contender>& all, int rounds) {
  for (contender& c : all) c.round();
  for (int r = 0; r < rounds; ++r)
    for (contender& c : all) c.figures.push_back(c.round());
}

inline void print_head() {
  std::puts("| benchmark | who | median | quartiles | unit | ours / theirs |");
  std::puts("|---|---|---|---|---|---|");
}

/// A Markdown row per contender; the first is ours, and the last column is its median over each other's.
inline void print(const std::string& name, const std::string& unit, const std::vector<contender>& all) {
  const summary ours = summarise(all.front().figures);
  for (const contender& c : all) {
    const summary s = summarise(c.figures);
    const std::string ratio = &c == &all.front() ? "" : std::to_string(ours.median / s.median).substr(0, 5);
    std::printf("| %s | %s | %.4g | %.4g - %.4g | %s | %s |\n", name.c_str(), c.name.c_str(), s.median, s.lower,
                s.upper, unit.c_str(), ratio.c_str());
  }
  std::fflush(stdout);
}

}  // namespace benchmark

#endif
