#ifndef CADRE_TUNE_GRID_SEARCH_HPP
#define CADRE_TUNE_GRID_SEARCH_HPP

#include <cadre/tune/error.hpp>
#include <cadre/tune/searcher.hpp>

#include <string>
#include <unordered_set>

CADRE_NAMESPACE_BEGIN
namespace tune {

namespace detail {

template <class Settings>
class grid_search_state {
 public:
  explicit grid_search_state(const Settings& settings) : domains_(settings.domains) {
    for (std::size_t i = 0; i < domains_.size(); ++i)
      if (domains_[i].count() == 0)
        throw infinite_grid("grid_search needs finitely many values of each parameter; '" + settings.names[i] +
                            "' is " + domains_[i].text() + ": use choice or a q distribution, or random_search");
    const auto points = count_points(domains_);
    if (!points) throw infinite_grid("grid_search: the space has 2^64 points or more; use random_search");
    points_ = *points;
  }

  [[nodiscard]] std::optional<point> suggest(trial_id) {
    while (next_ < points_ && taken_.contains(next_)) ++next_;
    if (next_ == points_) return std::nullopt;
    return point_of_index(domains_, next_);
  }

  void tried(trial_id, const point& where) { taken_.insert(index_of_point(domains_, where)); }

 private:
  std::vector<domain> domains_;
  std::uint64_t points_ = 0;
  std::uint64_t next_ = 0;
  std::unordered_set<std::uint64_t> taken_;
};

}  // namespace detail

/// All points of a finite space, each once, the last parameter changing fastest; ends when there are no more.
struct grid_search {
  /// Throws infinite_grid (904).
  template <class Settings>
  [[nodiscard]] detail::grid_search_state<Settings> start(const Settings& settings) const {
    return detail::grid_search_state<Settings>(settings);
  }
  [[nodiscard]] std::string describe() const { return "grid_search"; }
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
