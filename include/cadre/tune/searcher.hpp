#ifndef CADRE_TUNE_SEARCHER_HPP
#define CADRE_TUNE_SEARCHER_HPP

#include <cadre/core/direction.hpp>
#include <cadre/tune/domain.hpp>

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// What a study tells searcher and scheduler before the first trial.
struct study_settings {
  std::vector<domain> domains;
  std::vector<std::string> names;  ///< of the parameters
  direction mode = minimize;
  std::uint64_t seed = 0;
};

/// Suggests points. One thread at a time calls it; the same calls in the same order give the same points.
///
///     std::optional<point> suggest(trial_id id);           the point of a new trial; nothing when there is none left
///     void tried(trial_id id, const point& where);         optional: trial `id` runs at `where`, suggested or not
///
/// Both are called with ids 0, 1, 2, ... once each; suggest is left out where the user or a stored study gave the point.
template <class S>
concept searcher_state = requires(S& s, trial_id id) {
  { s.suggest(id) } -> std::same_as<std::optional<point>>;
};

/// What a user names: options, from which each study makes a state of its own.
template <class S>
concept searcher = requires(const S& s, const study_settings& settings) {
  { s.start(settings) } -> searcher_state;
  { s.describe() } -> std::convertible_to<std::string>;  // for the comparison of a stored study with this one
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
