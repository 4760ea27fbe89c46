#include "catch.hpp"

#include <cadre/tune/study.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace tune_asha {

namespace tune = cadre::tune;
using tune::decision;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();

struct config {
  double x = 0;
};

tune::space<config> one_real() { return tune::space<config>().add("x", &config::x, tune::uniform(0, 1)); }

auto study_of(tune::asha options, std::size_t trials = 1000000, cadre::direction mode = cadre::minimize) {
  return tune::study{
      one_real(), {.metric = "loss", .mode = mode, .trials = trials, .seed = 3}, tune::random_search{}, options};
}

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const cadre::error& e) {
    return e.what();
  }
  return "no error";
}

// The rules as the paper states them, with a list per rung that is sorted whenever it is asked.
class reference {
 public:
  reference(tune::asha options, std::vector<std::int64_t> milestones)
      : options_(options), milestones_(std::move(milestones)), rungs_(milestones_.size()) {}

  decision report(std::size_t id, double t, double value) {
    if (next_.size() <= id) next_.resize(id + 1, 0);
    for (std::size_t k = milestones_.size(); k-- > next_[id];) {
      if (t < static_cast<double>(milestones_[k])) continue;
      const double score = std::isfinite(value) ? value : inf;
      rungs_[k].push_back({score, id, false});
      next_[id] = k + 1;
      if (k + 1 == milestones_.size()) return decision::finish;
      if (score == inf) return decision::stop;
      if (options_.type == tune::promotion) return decision::pause;
      const std::size_t best =
          std::max<std::size_t>(1, rungs_[k].size() / static_cast<std::size_t>(options_.reduction_factor));
      std::vector<double> scores;
      for (const entry& e : rungs_[k]) scores.push_back(e.score);
      std::sort(scores.begin(), scores.end());
      return score <= scores[best - 1] ? decision::go_on : decision::stop;
    }
    return t >= static_cast<double>(milestones_.back()) ? decision::finish : decision::go_on;
  }

  void crashed(std::size_t id) {
    if (next_.size() <= id) next_.resize(id + 1, 0);
    if (next_[id] < milestones_.size()) rungs_[next_[id]++].push_back({inf, id, false});
  }

  std::optional<std::size_t> promote() {
    if (options_.type == tune::stopping) return std::nullopt;
    for (std::size_t k = milestones_.size() - 1; k-- > 0;) {
      std::vector<entry>& all = rungs_[k];
      std::stable_sort(all.begin(), all.end(), [](const entry& a, const entry& b) {
        return a.score < b.score || (a.score == b.score && a.id < b.id);
      });
      for (std::size_t i = 0; i < all.size() / static_cast<std::size_t>(options_.reduction_factor); ++i)
        if (!all[i].promoted && all[i].score < inf) {
          all[i].promoted = true;
          return all[i].id;
        }
    }
    return std::nullopt;
  }

 private:
  struct entry {
    double score;
    std::size_t id;
    bool promoted;
  };
  tune::asha options_;
  std::vector<std::int64_t> milestones_;
  std::vector<std::vector<entry>> rungs_;
  std::vector<std::size_t> next_;
};

void compare_with_reference(tune::asha options, std::uint64_t seed, int events, std::int64_t longest_step) {
  auto s = study_of(options);
  reference r(options, options.milestones());
  cadre::random_stream random(seed);
  std::vector<std::pair<std::size_t, double>> running;
  std::size_t begun = 0, promotions = 0;
  for (int event = 0; event < events; ++event) {
    if (running.size() < 8 && (running.empty() || random.bernoulli(0.7))) {
      const auto next = s.ask();
      const auto expected = r.promote();
      REQUIRE(next);
      REQUIRE(next->again == expected.has_value());
      REQUIRE(next->id == (expected ? *expected : begun));
      begun += expected ? 0u : 1u;
      promotions += expected ? 1u : 0u;
      running.emplace_back(next->id, next->reached);
      continue;
    }
    const auto at = running.begin() + static_cast<std::ptrdiff_t>(random.below(running.size()));
    auto& [id, t] = *at;
    if (random.bernoulli(0.02)) {
      s.end(id, tune::trial_state::failed, 0, "crash");
      r.crashed(id);
      running.erase(at);
      continue;
    }
    t += static_cast<double>(random.between<std::int64_t>(1, longest_step));
    const double values[] = {nan, inf, -inf};
    const double value =
        random.bernoulli(0.05) ? values[random.below(3)] : static_cast<double>(random.below(40));  // ties abound
    const decision d = s.report(id, t, {{"loss", value}});
    REQUIRE(d == r.report(id, t, value));
    if (d != decision::go_on) running.erase(at);
  }
  if (options.type == tune::promotion) CHECK(promotions > 0);
}

TEST_CASE("ASHA of both types decides as a list sorted each time does, with ties, NaN, crashes and jumps") {
  for (const auto type : {tune::promotion, tune::stopping}) {
    compare_with_reference({.max_t = 27, .reduction_factor = 3, .type = type}, 1, 10000, 1);
    for (std::uint64_t seed = 2; seed < 8; ++seed) {
      compare_with_reference({.max_t = 100, .grace_period = 2, .reduction_factor = 2, .type = type}, seed, 1500, 7);
      compare_with_reference({.max_t = 64, .type = type}, seed, 1500, 1);
    }
  }
}

TEST_CASE("rungs stand at every power below max_t and at max_t itself, none lost to rounding") {
  using rungs = std::vector<std::int64_t>;
  CHECK((tune::asha{.max_t = 243, .reduction_factor = 3}.milestones() == rungs{1, 3, 9, 27, 81, 243}));
  CHECK((tune::asha{.max_t = 1000, .reduction_factor = 10}.milestones() == rungs{1, 10, 100, 1000}));
  CHECK((tune::asha{.max_t = 125, .reduction_factor = 5}.milestones() == rungs{1, 5, 25, 125}));
  CHECK((tune::asha{}.milestones() == rungs{1, 4, 16, 64, 100}));
  CHECK((tune::asha{.max_t = 5, .grace_period = 5}.milestones() == rungs{5}));
  const auto huge = tune::asha{.max_t = std::numeric_limits<std::int64_t>::max(), .reduction_factor = 2}.milestones();
  CHECK(huge.size() == 64);
}

TEST_CASE("a trial of the promotion type pauses at its rung and is promoted from it when it is among the best") {
  auto s = study_of({.max_t = 9, .reduction_factor = 3});
  std::vector<tune::trial_id> ids;
  for (double loss : {0.5, 0.3, 0.4}) {
    const auto next = s.ask();
    REQUIRE(next);
    CHECK(!next->again);
    CHECK(next->run_until == 1);
    CHECK(s.report(next->id, 1, {{"loss", loss}}) == decision::pause);
    CHECK(s.trials()[next->id].state == tune::trial_state::paused);
  }
  const auto promoted = s.ask();
  REQUIRE(promoted);
  CHECK(promoted->id == 1);
  CHECK(promoted->again);
  CHECK(promoted->reached == 1);
  CHECK(promoted->run_until == 3);
  CHECK(s.report(1, 2, {{"loss", 0.2}}) == decision::go_on);
  CHECK(s.report(1, 3, {{"loss", 0.2}}) == decision::pause);
  CHECK(s.ask()->id == 3);
}

TEST_CASE("a trial that reports NaN is stopped at its rung, by either type, even alone") {
  for (const auto type : {tune::promotion, tune::stopping})
    for (double bad : {nan, inf, -inf}) {
      auto s = study_of({.max_t = 9, .reduction_factor = 3, .type = type}, 1000, cadre::maximize);
      const auto next = s.ask();
      CHECK(s.report(next->id, 1, {{"loss", bad}}) == decision::stop);
      CHECK(s.trials()[next->id].state == tune::trial_state::stopped);
    }
}

TEST_CASE("a late first report is judged in the rung it has reached and in no earlier one") {
  auto s = study_of({.max_t = 27, .reduction_factor = 3, .type = tune::stopping});
  const auto a = s.ask(), b = s.ask(), c = s.ask();
  CHECK(s.report(a->id, 1, {{"loss", 0.1}}) == decision::go_on);
  CHECK(s.report(b->id, 10, {{"loss", 0.9}}) == decision::go_on);  // alone in rung 9, not compared with 0.1 in rung 1
  CHECK(s.report(b->id, 11, {{"loss", 0.9}}) == decision::go_on);  // not entered in rungs 3 and 1 afterwards
  CHECK(s.report(a->id, 3, {{"loss", 0.95}}) == decision::go_on);  // alone in rung 3
  CHECK(s.report(c->id, 1, {{"loss", 0.5}}) == decision::stop);    // a is better in rung 1
  CHECK(s.report(a->id, 9, {{"loss", 0.95}}) == decision::stop);   // b is better in rung 9
}

TEST_CASE("equal values live in the stopping type, and the lower trial is promoted first") {
  auto stop = study_of({.max_t = 9, .reduction_factor = 3, .type = tune::stopping});
  for (int i = 0; i < 6; ++i) CHECK(stop.report(stop.ask()->id, 1, {{"loss", 0.5}}) == decision::go_on);

  auto promote = study_of({.max_t = 9, .reduction_factor = 3});
  std::vector<tune::assignment<config>> begun;
  for (int i = 0; i < 6; ++i) begun.push_back(*promote.ask());
  for (int i = 6; i-- > 0;) promote.report(begun[static_cast<std::size_t>(i)].id, 1, {{"loss", 0.5}});
  CHECK(promote.ask()->id == 0);
  CHECK(promote.ask()->id == 1);
  CHECK(promote.ask()->id == 6);
}

TEST_CASE("a crash counts as the worst entry of the rung it would have reached") {
  auto s = study_of({.max_t = 9, .reduction_factor = 3});
  const auto a = s.ask(), b = s.ask(), c = s.ask();
  s.report(a->id, 1, {{"loss", 0.5}});
  s.end(b->id, tune::trial_state::failed, 0, "boom");
  s.end(c->id, tune::trial_state::failed, 0, "boom");
  CHECK(s.ask()->id == a->id);  // the best third of three
  CHECK(s.trials()[b->id].error == "boom");
}

TEST_CASE("a trial that fails after a rung has judged it is an entry of no further rung") {
  auto s = study_of({.max_t = 4, .reduction_factor = 2});
  std::vector<tune::trial_id> begun;
  for (int i = 0; i < 4; ++i) begun.push_back(s.ask()->id);
  for (tune::trial_id id : begun) s.report(id, 1, {{"loss", 0.1 * static_cast<double>(id)}});
  s.end(0, tune::trial_state::failed, 0, "cannot save");
  REQUIRE(s.ask()->id == 1);  // the better half of four is 0 and 1
  CHECK(s.report(1, 2, {{"loss", 0.1}}) == decision::pause);
  CHECK(s.ask()->id == 4);  // 1 is alone in its rung: nobody has earned a promotion there
}

TEST_CASE("a trial that runs again from scratch is judged only beyond where it was") {
  auto s = study_of({.max_t = 9, .reduction_factor = 3});
  for (double loss : {0.1, 0.3, 0.4}) s.report(s.ask()->id, 1, {{"loss", loss}});
  const auto again = s.ask();
  REQUIRE(again->id == 0);
  CHECK(s.report(0, 1, {{"loss", 0.1}}) == decision::go_on);
  CHECK(s.report(0, 2, {{"loss", 0.1}}) == decision::go_on);
  CHECK(s.report(0, 3, {{"loss", 0.1}}) == decision::pause);
}

TEST_CASE("a larger value is better where the mode says so") {
  auto s = study_of({.max_t = 9, .reduction_factor = 3}, 100, cadre::maximize);
  for (double accuracy : {0.1, 0.9, 0.4}) s.report(s.ask()->id, 1, {{"loss", accuracy}});
  CHECK(s.ask()->id == 1);
}

TEST_CASE("brackets begin at later rungs, drawn by the seed") {
  auto s = study_of({.max_t = 27, .reduction_factor = 3, .brackets = 3});
  std::size_t first[3] = {};
  for (int i = 0; i < 3000; ++i) {
    const auto next = s.ask();
    if (next->run_until == 1) ++first[0];
    if (next->run_until == 3) ++first[1];
    if (next->run_until == 9) ++first[2];
  }
  CHECK(first[0] + first[1] + first[2] == 3000);
  CHECK(std::abs(static_cast<double>(first[0]) - 1996) < 120);  // weights e^4, e^3, e^2
  CHECK(std::abs(static_cast<double>(first[1]) - 734) < 100);
}

TEST_CASE("options of ASHA that make no sense are errors") {
  CHECK(error_of([] { study_of({.max_t = 0}); }) ==
        "[cadre.tune.905] asha: .max_t = 0; it must be at least .grace_period, 1");
  CHECK(error_of([] { study_of({.grace_period = 0}); }) ==
        "[cadre.tune.905] asha: .grace_period = 0; it must be at least 1");
  CHECK(error_of([] { study_of({.reduction_factor = 1}); }) ==
        "[cadre.tune.905] asha: .reduction_factor = 1; it must be at least 2");
  CHECK(error_of([] { study_of({.max_t = 9, .reduction_factor = 3, .brackets = 4}); }) ==
        "[cadre.tune.905] asha: .brackets = 4; it must be between 1 and the number of rungs, 3");
}

}  // namespace tune_asha
