#ifndef CADRE_TUNE_RANDOM_SEARCH_HPP
#define CADRE_TUNE_RANDOM_SEARCH_HPP

#include <cadre/tune/searcher.hpp>

#include <string>
#include <unordered_set>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace tune {

namespace detail {

template <class Settings>
class random_search_state {
 public:
  explicit random_search_state(const Settings& settings)
      : domains_(settings.domains), names_(settings.names), seed_(settings.seed), points_(count_points(domains_)) {}

  [[nodiscard]] std::optional<point> suggest(trial_id id) const {
    if (!points_) return draw(id, 0);
    if (taken_.size() >= *points_) return std::nullopt;
    for (std::uint64_t attempt = 0; attempt < 64; ++attempt) {
      point where = draw(id, attempt);
      if (!taken_.contains(index_of_point(domains_, where))) return where;
    }
    // Few are left: the next free one after a random place.
    std::uint64_t index = random_stream(seed_, "random_search", id).below(*points_);
    while (taken_.contains(index)) index = index + 1 == *points_ ? 0 : index + 1;
    return point_of_index(domains_, index);
  }

  void tried(trial_id, const point& where) {
    if (points_) taken_.insert(index_of_point(domains_, where));
  }

 private:
  [[nodiscard]] point draw(trial_id id, std::uint64_t attempt) const {
    point where(domains_.size());
    for (std::size_t i = 0; i < where.size(); ++i) {
      random_stream random(seed_, id, names_[i], attempt);
      where[i] = domains_[i].draw(random);
    }
    return where;
  }

  std::vector<domain> domains_;
  std::vector<std::string> names_;
  std::uint64_t seed_;
  std::optional<std::uint64_t> points_;
  std::unordered_set<std::uint64_t> taken_;  // of a finite space only
};

}  // namespace detail

/// Draws each parameter by itself, keyed by seed, trial and the parameter's name: a trial has the same configuration
/// whoever asks when, and a parameter that is added leaves the others as they were. A finite space gives no point
/// twice and is exhausted after all of them (there a point also depends on those of the trials before).
struct random_search {
  template <class Settings>
  [[nodiscard]] detail::random_search_state<Settings> start(const Settings& settings) const {
    return detail::random_search_state<Settings>(settings);
  }
  [[nodiscard]] std::string describe() const { return "random_search"; }
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
