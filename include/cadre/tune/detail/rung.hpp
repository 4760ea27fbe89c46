#ifndef CADRE_TUNE_DETAIL_RUNG_HPP
#define CADRE_TUNE_DETAIL_RUNG_HPP

#include <cadre/tune/fwd.hpp>

#include <algorithm>
#include <compare>
#include <cstddef>
#include <iterator>
#include <limits>
#include <optional>
#include <set>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// The entries of one rung, ordered, with a mark after the best of them. Entries only come, so the share of the best
/// grows by at most one at a time and the mark moves by a step: O(log n) per entry.
template <class Id = trial_id>
class rung {
 public:
  /// The score of what is worse than every number.
  static constexpr double worst = std::numeric_limits<double>::infinity();

  /// `least`: how many are the best at least; 1 where the first to arrive must not be turned away.
  rung(std::size_t reduction_factor, std::size_t least) : reduction_factor_(reduction_factor), least_(least) {}

  /// Lower scores are better, ties go to the lower trial.
  void insert(double score, Id id) {
    const entry e{score, id};
    const auto at = all_.insert(e).first;
    if (best_count_ != 0 && e < *last_best_) {
      promotable_insert(*at);
      promotable_.erase(*last_best_);
      --last_best_;
    }
    const std::size_t target = std::max(least_, all_.size() / reduction_factor_);
    if (best_count_ < target) {
      last_best_ = best_count_ == 0 ? all_.begin() : std::next(last_best_);
      ++best_count_;
      promotable_insert(*last_best_);
    }
  }

  /// The best of those among the best that were not taken before; takes it.
  std::optional<Id> take() {
    if (promotable_.empty()) return std::nullopt;
    const Id id = promotable_.begin()->id;
    taken_.insert(*promotable_.begin());
    promotable_.erase(promotable_.begin());
    return id;
  }

  /// The score of the last among the best; there must be one.
  [[nodiscard]] double cutoff() const { return last_best_->score; }
  [[nodiscard]] std::size_t size() const noexcept { return all_.size(); }

 private:
  struct entry {
    double score;
    Id id;
    friend auto operator<=>(const entry&, const entry&) = default;
  };

  void promotable_insert(const entry& e) {
    if (e.score < worst && !taken_.contains(e)) promotable_.insert(e);
  }

  std::size_t reduction_factor_;
  std::size_t least_;
  std::set<entry> all_;
  typename std::set<entry>::iterator last_best_{};
  std::size_t best_count_ = 0;
  std::set<entry> promotable_;  // among the best, not taken
  std::set<entry> taken_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif
