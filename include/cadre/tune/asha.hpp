#ifndef CADRE_TUNE_ASHA_HPP
#define CADRE_TUNE_ASHA_HPP

#include <cadre/tune/detail/rung.hpp>
#include <cadre/tune/error.hpp>
#include <cadre/tune/scheduler.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

enum class asha_type : std::uint8_t {
  promotion,  ///< a trial pauses at each rung and goes on when it is among the best there: the paper's Algorithm 2
  stopping    ///< a trial goes on at each rung unless others are better there: nothing is paused, no checkpoint needed
};
inline constexpr asha_type promotion = asha_type::promotion;
inline constexpr asha_type stopping = asha_type::stopping;

namespace detail {
template <class Settings, class Id = trial_id>
class asha_state;
}

/// Asynchronous successive halving (Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020).
///
/// Rungs stand at grace_period * reduction_factor^k below max_t, and at max_t. A trial's first report at or beyond a
/// milestone is its entry in that rung, and in that one only: rungs that it jumped over do not know it. NaN, infinities
/// and crashes are entries worse than every number; they count and never go on. Equal values: the lower trial is better.
///
/// Promotion: a free worker goes on with the best trial that is among the floor(n / reduction_factor) best of the n
/// entries of a rung (promoted ones included) and was not promoted yet, from the highest rung down; if there is none, a
/// new trial begins. Stopping: at a rung a trial goes on if its value is as good as that of number
/// max(1, floor(n / reduction_factor)) of the n entries, its own included.
///
/// Bracket s leaves the lowest s rungs out. With several, each trial is put into one by a draw from the seed, in which
/// a bracket weighs e^(number of its rungs).
struct asha {
  std::int64_t max_t = 100;
  std::int64_t grace_period = 1;
  std::int64_t reduction_factor = 4;
  std::int64_t brackets = 1;
  asha_type type = promotion;

  /// Throws bad_option (905).
  template <class Settings>
  [[nodiscard]] detail::asha_state<Settings> start(const Settings& settings) const {
    return {*this, settings};
  }
  [[nodiscard]] std::string describe() const {
    return "asha(max_t " + std::to_string(max_t) + ", grace_period " + std::to_string(grace_period) +
           ", reduction_factor " + std::to_string(reduction_factor) + ", brackets " + std::to_string(brackets) +
           (type == promotion ? ", promotion)" : ", stopping)");
  }
  /// Where the rungs of bracket 0 stand.
  [[nodiscard]] std::vector<std::int64_t> milestones() const {
    std::vector<std::int64_t> result;
    for (std::int64_t r = grace_period; r < max_t; r *= reduction_factor) {
      result.push_back(r);
      if (r < 1 || reduction_factor < 2 || r > max_t / reduction_factor)
        break;  // the next one would lie beyond, or overflow
    }
    result.push_back(max_t);
    return result;
  }
};

namespace detail {

/// The rungs of every bracket and where each trial stands. O(log n) per report and promotion. A template so that only
/// those who tune pay to compile it.
template <class Settings, class Id>
class asha_state {
 public:
  asha_state(const asha& options, const Settings& settings)
      : type_(options.type), mode_(settings.mode), seed_(settings.seed) {
    const auto check = [](bool fine, const char* what, std::int64_t given, const std::string& must) {
      if (!fine)
        throw bad_option("asha: ." + std::string(what) + " = " + std::to_string(given) + "; it must be " + must);
    };
    check(options.grace_period >= 1, "grace_period", options.grace_period, "at least 1");
    check(options.max_t >= options.grace_period, "max_t", options.max_t,
          "at least .grace_period, " + std::to_string(options.grace_period));
    check(options.reduction_factor >= 2, "reduction_factor", options.reduction_factor, "at least 2");
    milestones_ = options.milestones();
    check(options.brackets >= 1 && options.brackets <= static_cast<std::int64_t>(milestones_.size()), "brackets",
          options.brackets, "between 1 and the number of rungs, " + std::to_string(milestones_.size()));
    const std::size_t least = type_ == stopping ? 1 : 0;
    for (std::int64_t s = 0; s < options.brackets; ++s)
      brackets_.emplace_back(milestones_.size(), rung(static_cast<std::size_t>(options.reduction_factor), least));
  }

  void admit(Id id) {
    if (trials_.size() <= id) trials_.resize(id + 1);
    trials_[id].bracket = draw_bracket(id);
    trials_[id].next = trials_[id].bracket;
  }

  [[nodiscard]] decision report(Id id, double t, double value) {
    place& p = trials_[id];
    std::size_t reached = 0;  // rungs at or below t
    while (reached < milestones_.size() && static_cast<double>(milestones_[reached]) <= t) ++reached;
    const bool at_the_top = reached == milestones_.size();
    if (reached <= p.next) return at_the_top && p.next == reached ? decision::finish : decision::go_on;
    const double score = score_of(value);
    rung& r = brackets_[p.bracket][reached - 1];
    r.insert(score, id);
    p.next = reached;
    if (at_the_top) return decision::finish;
    if (score == rung::worst) return decision::stop;
    if (type_ == promotion) return decision::pause;
    return score <= r.cutoff() ? decision::go_on : decision::stop;
  }

  [[nodiscard]] std::optional<Id> promote() {
    if (type_ == stopping) return std::nullopt;
    for (std::size_t k = milestones_.size() - 1; k-- > 0;)
      for (std::vector<rung>& bracket : brackets_)
        if (const std::optional<Id> id = bracket[k].take()) return id;
    return std::nullopt;
  }

  void crashed(Id id) {
    place& p = trials_[id];
    if (p.next < milestones_.size()) brackets_[p.bracket][p.next++].insert(rung::worst, id);
  }

  [[nodiscard]] double run_until(Id id) const {
    return static_cast<double>(milestones_[std::min(trials_[id].next, milestones_.size() - 1)]);
  }
  [[nodiscard]] double max_t() const { return static_cast<double>(milestones_.back()); }

 private:
  using rung = detail::rung<Id>;

  struct place {
    std::size_t bracket = 0;
    std::size_t next = 0;  // the lowest rung in which the trial may still get an entry
  };

  [[nodiscard]] double score_of(double value) const {
    if (!std::isfinite(value)) return rung::worst;
    return mode_ == minimize ? value : -value;
  }

  [[nodiscard]] std::size_t draw_bracket(Id id) const {
    if (brackets_.size() == 1) return 0;
    double sum = 0;
    for (std::size_t s = 0; s < brackets_.size(); ++s) sum += std::exp(-static_cast<double>(s));
    double left = random_stream(seed_, "asha bracket", id).uniform() * sum;
    for (std::size_t s = 0; s + 1 < brackets_.size(); ++s)
      if ((left -= std::exp(-static_cast<double>(s))) < 0) return s;
    return brackets_.size() - 1;
  }

  asha_type type_;
  direction mode_;
  std::uint64_t seed_;
  std::vector<std::int64_t> milestones_;
  std::vector<std::vector<rung>> brackets_;  // [bracket][milestone]; the lowest `bracket` rungs stay empty
  std::vector<place> trials_;
};

}  // namespace detail

}  // namespace tune
CADRE_NAMESPACE_END

#endif
