#ifndef CADRE_BENCHMARKS_HARNESS_HPP
#define CADRE_BENCHMARKS_HARNESS_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

/// The way every benchmark here measures: ours and the peers' rounds take turns in one run, because the machines are
/// shared and flip between a fast and a slow mode. Figures are medians and quartiles over the rounds; a ratio is the
/// median of the ratios within each round.
namespace benchmark {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// What a row has to reach: beside a peer the ratio ours / theirs, in our own row the figure itself.
struct target {
  enum class bound { none, at_most, at_least } kind = bound::none;
  double value = 0;
};
inline target at_most(double value) { return {target::bound::at_most, value}; }
inline target at_least(double value) { return {target::bound::at_least, value}; }

/// Who is measured. `round` runs once per round and returns the figure.
struct contender {
  std::string name;
  std::function<double()> round;
  benchmark::target target = {};
  std::vector<double> figures = {};
};

struct summary {
  double median, lower, upper;  // quartiles
};

inline summary summarise(std::vector<double> v) {
  std::ranges::sort(v);
  const auto at = [&](double q) {
    const double place = q * static_cast<double>(v.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const double next = v[std::min(below + 1, v.size() - 1)];
    return v[below] + (place - static_cast<double>(below)) * (next - v[below]);
  };
  return {at(0.5), at(0.25), at(0.75)};
}

/// A round of each to warm up, then `rounds` of each in turn. Every round begins with another one, so that nobody always
/// follows the same neighbour, and a pause before each lets the neighbour's threads fall asleep.
inline void interleave(std::vector<contender>& all, int rounds, int warm_up = 1) {
  for (int r = -warm_up; r < rounds; ++r)
    for (std::size_t i = 0; i < all.size(); ++i) {
      contender& c = all[(i + static_cast<std::size_t>(r + warm_up)) % all.size()];
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      const double figure = c.round();
      if (r >= 0) c.figures.push_back(figure);
    }
}

inline void print_head() {
  std::puts("| benchmark | who | median | quartiles | unit | ours / theirs | target | met |");
  std::puts("|---|---|---|---|---|---|---|---|");
}

/// Three digits or more, never an exponent.
inline std::string digits(double x) {
  char text[32];
  std::snprintf(text, sizeof text, x >= 1000 ? "%.0f" : x >= 100 ? "%.1f" : x >= 0.1 ? "%.3g" : "%.2g", x);
  return text;
}

/// A Markdown row per contender. The first one is ours.
inline void print(const std::string& name, const std::string& unit, const std::vector<contender>& all) {
  const contender& ours = all.front();
  for (const contender& c : all) {
    const summary s = summarise(c.figures);
    double judged = s.median;
    std::string ratio, goal, met;
    if (&c != &ours) {
      std::vector<double> ratios;
      for (std::size_t i = 0; i < c.figures.size(); ++i) ratios.push_back(ours.figures[i] / c.figures[i]);
      judged = summarise(std::move(ratios)).median;
      ratio = digits(judged);
    }
    if (c.target.kind != target::bound::none) {
      const bool most = c.target.kind == target::bound::at_most;
      goal = (most ? "&le; " : "&ge; ") + digits(c.target.value);
      met = (most ? judged <= c.target.value : judged >= c.target.value) ? "yes" : "**no**";
    }
    std::printf("| %s | %s | %s | %s - %s | %s | %s | %s | %s |\n", name.c_str(), c.name.c_str(),
                digits(s.median).c_str(), digits(s.lower).c_str(), digits(s.upper).c_str(), unit.c_str(), ratio.c_str(),
                goal.c_str(), met.c_str());
  }
  std::fflush(stdout);
}

inline void measure(const std::string& name, const std::string& unit, int rounds, std::vector<contender> all,
                    int warm_up = 1) {
  interleave(all, rounds, warm_up);
  print(name, unit, all);
}

}  // namespace benchmark

#endif
