#include "catch.hpp"

#include <cadre/tune/grid_search.hpp>
#include <cadre/tune/study.hpp>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace tune_study {

namespace tune = cadre::tune;
namespace fs = std::filesystem;
using tune::decision;
using tune::trial_state;

struct config {
  double x = 0;
  int n = 0;
};

struct folder {
  folder() {
    std::string name = (fs::temp_directory_path() / "cadre-study-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
    path = name;
  }
  ~folder() { fs::remove_all(path); }
  std::string operator/(const std::string& name) const { return (path / name).string(); }
  fs::path path;
};

tune::space<config> some_space() {
  return tune::space<config>().add("x", &config::x, tune::uniform(0, 1)).add("n", &config::n, tune::randint(1, 9));
}

auto asha_study(std::uint64_t seed = 1, std::size_t trials = 60,
                tune::asha options = {.max_t = 27, .reduction_factor = 3}) {
  return tune::study{some_space(), {.metric = "loss", .trials = trials, .seed = seed}, tune::random_search{}, options};
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

TEST_CASE("a study ends when its trials are used up") {
  tune::study s{some_space(), {.metric = "loss", .trials = 3}};
  for (tune::trial_id id = 0; id < 3; ++id) {
    const auto next = s.ask();
    REQUIRE(next);
    CHECK(next->id == id);
    CHECK((next->config.n >= 1 && next->config.n <= 9));
    CHECK(next->run_until == tune::unlimited);
  }
  CHECK(s.running() == 3);
  CHECK(!s.ask());
  for (tune::trial_id id = 0; id < 3; ++id) {
    CHECK(s.report(id, 1, {{"loss", 1}}) == decision::go_on);
    s.end(id, trial_state::finished, 2.5);
    CHECK(s.trials()[id].state == trial_state::finished);
    CHECK(s.trials()[id].seconds == 2.5);
  }
  CHECK(s.running() == 0);
  CHECK(!s.ask());
}

TEST_CASE("a study of a finite space ends when the space is exhausted") {
  auto grid = tune::space<config>().add("n", &config::n, tune::randint(1, 4));
  tune::study random{grid, {.metric = "loss", .trials = 100}};
  tune::study ordered{grid, {.metric = "loss", .trials = 100}, tune::grid_search{}};
  std::vector<int> a, b;
  while (auto next = random.ask()) a.push_back(next->config.n);
  while (auto next = ordered.ask()) b.push_back(next->config.n);
  CHECK(b == std::vector<int>{1, 2, 3, 4});
  std::sort(a.begin(), a.end());
  CHECK(a == b);
}

TEST_CASE("given configurations are tried first and not again") {
  auto grid = tune::space<config>(config{.x = 0.25, .n = 0}).add("n", &config::n, tune::randint(1, 4));
  tune::study s{grid, {.metric = "loss", .trials = 100}, tune::grid_search{}};
  s.points_to_evaluate({{.x = 9, .n = 3}, {.x = 9, .n = 2}});
  std::vector<int> seen;
  while (auto next = s.ask()) {
    seen.push_back(next->config.n);
    CHECK(next->config.x == 0.25);
  }
  CHECK(seen == std::vector<int>{3, 2, 1, 4});
  CHECK(error_of([&] { s.points_to_evaluate({{.x = 0, .n = 5}}); }) ==
        "[cadre.tune.903] parameter 'n': 5 is not in randint(1, 4)");
}

TEST_CASE("max_iterations finishes every trial") {
  tune::study s{some_space(), {.metric = "loss", .trials = 2, .stop = tune::max_iterations(3)}};
  (void)s.ask();
  CHECK(s.report(0, 1, {{"loss", 1}}) == decision::go_on);
  CHECK(s.report(0, 2, {{"loss", 1}}) == decision::go_on);
  CHECK(s.report(0, 3, {{"loss", 1}}) == decision::finish);
  CHECK(s.trials()[0].state == trial_state::finished);
}

TEST_CASE("metrics of the last and of the best report are kept, NaN being no best") {
  tune::study s{some_space(), {.metric = "loss", .trials = 2}};
  (void)s.ask();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  s.report(0, 1, {{"loss", nan}, {"epoch", 1}});
  CHECK(std::isnan(s.trials()[0].best));
  s.report(0, 2, {{"loss", 3}, {"epoch", 2}});
  s.report(0, 3, {{"loss", 5}, {"epoch", 3}});
  CHECK(s.trials()[0].best == 3);
  CHECK(s.trials()[0].last == 5);
  CHECK(s.trials()[0].best_metrics.at("epoch") == 2);
  CHECK(s.trials()[0].metrics.at("epoch") == 3);
  CHECK(s.trials()[0].reports == 3);
}

TEST_CASE("a report without the tuned metric goes on, and a trial without any fails by name") {
  auto s = asha_study();
  (void)s.ask();
  CHECK(s.report(0, 1, {{"train_loss", 1}}) == decision::go_on);
  CHECK(s.report(0, 2, {{"train_loss", 1}, {"loss", 0.5}}) == decision::pause);  // entered at rung 1, where it was next

  (void)s.ask();
  CHECK(error_of([&] {
          s.report(1, 27, {{"train_loss", 1}, {"epoch", 27}});
        }) ==
        "[cadre.tune.906] trial 1 did not report the metric 'loss'; it reported only: 'train_loss' 'epoch'; report it, "
        "or set .metric to one of those that are reported");
  s.end(1, trial_state::failed, 0, "x");

  (void)s.ask();
  s.end(2, trial_state::finished);
  CHECK(s.trials()[2].state == trial_state::failed);
  CHECK(s.trials()[2].error ==
        "[cadre.tune.906] trial 2 did not report the metric 'loss'; it reported nothing; report it, or set .metric to "
        "one of those that are reported");
}

TEST_CASE("calls out of order and options without sense are errors") {
  using s = tune::study<config>;
  CHECK(error_of([] { s(some_space(), {.trials = 3}); }) ==
        "[cadre.tune.905] .metric is empty; name the metric that trials report and that is tuned");
  CHECK(error_of([] { s(some_space(), {.metric = "loss"}); }) ==
        "[cadre.tune.905] .trials = 0; say how many trials to run at most");
  CHECK(error_of([] { s(some_space(), {.metric = "loss", .trials = 1, .stop = tune::max_iterations(0)}); }) ==
        "[cadre.tune.905] max_iterations(0); it must be at least 1");
  auto a = asha_study();
  CHECK(error_of([&] { a.report(0, 1, {}); }) ==
        "[cadre.tune.907] report of trial 0, which was never asked for; there are 0");
  (void)a.ask();
  CHECK(error_of([&] { a.report(0, std::nan(""), {}); }) ==
        "[cadre.tune.907] trial 0 reported t = nan; it must be 0 or more");
  CHECK(error_of([&] { a.end(0, trial_state::stopped); }) ==
        "[cadre.tune.907] end of trial 0 as stopped; it must be finished, failed or interrupted");
  a.end(0, trial_state::failed, 0, "boom");
  CHECK(error_of([&] { a.report(0, 1, {}); }) == "[cadre.tune.907] report of trial 0, which is failed");
  CHECK(error_of([&] { a.end(0, trial_state::failed); }) ==
        "[cadre.tune.907] end of trial 0, which has failed already");
}

TEST_CASE("a trial that throws after it was told to pause is never promoted") {
  auto s = asha_study();
  for (double loss : {0.1, 0.2, 0.3}) s.report(s.ask()->id, 1, {{"loss", loss}});
  s.end(0, trial_state::failed, 0, "disk full");
  CHECK(s.ask()->id == 3);
}

// Drives a study by random events; a trial's value depends on trial and t alone.
class driver {
 public:
  explicit driver(std::uint64_t seed) : random_(seed) {}

  template <class Study>
  std::string step(Study& s) {
    if (running_.size() < 4)
      if (const auto next = s.ask()) {
        running_.emplace_back(next->id, next->reached);
        return "ask " + std::to_string(next->id) + (next->again ? " again" : "");
      }
    if (running_.empty()) return "done";
    const auto at = running_.begin() + static_cast<std::ptrdiff_t>(random_.below(running_.size()));
    const auto id = at->first;
    if (random_.bernoulli(0.04)) {
      running_.erase(at);
      s.end(id, trial_state::failed, 1, "boom");
      return "crash " + std::to_string(id);
    }
    const double t = at->second += 1;
    const double value =
        random_.bernoulli(0.05) ? std::nan("") : cadre::random_stream(1, id, static_cast<int>(t)).uniform();
    const decision d = s.report(id, t, {{"loss", value}, {"t", t}});
    if (d != decision::go_on) {
      running_.erase(at);
      s.end(id, trial_state::finished, 1);
    }
    return "report " + std::to_string(id) + " " + std::string(to_string(d));
  }

  template <class Study>
  void interrupt(Study& s) {
    for (const auto& [id, t] : running_) s.end(id, trial_state::interrupted);
    running_.clear();
  }

 private:
  cadre::random_stream random_;
  std::vector<std::pair<tune::trial_id, double>> running_;
};

template <class A, class B>
bool same_trials(const A& a, const B& b) {
  if (a.trials().size() != b.trials().size()) return false;
  for (std::size_t i = 0; i < a.trials().size(); ++i) {
    const auto &x = a.trials()[i], &y = b.trials()[i];
    const auto equal = [](double u, double v) { return u == v || (std::isnan(u) && std::isnan(v)); };
    if (x.where != y.where || x.state != y.state || x.reports != y.reports || x.t != y.t || x.error != y.error ||
        !equal(x.last, y.last) || !equal(x.best, y.best) || x.best_metrics != y.best_metrics ||
        x.metrics.size() != y.metrics.size())
      return false;
  }
  return true;
}

TEST_CASE("a study opened again from its journal is in the same state and decides the same") {
  for (const auto type : {tune::promotion, tune::stopping})
    for (int cut : {0, 1, 7, 50, 133, 400, 100000}) {
      folder f;
      const tune::asha options{.max_t = 27, .reduction_factor = 3, .brackets = 2, .type = type};
      auto original = asha_study(5, 60, options);
      original.store_in(f / "journal");
      driver before(9);
      for (int i = 0; i < cut && before.step(original) != "done"; ++i) {}
      fs::copy_file(f / "journal", f / "copy");
      before.interrupt(original);

      auto restored = asha_study(5, 60, options);
      std::size_t reports = 0;
      restored.store_in(f / "copy", [&](tune::trial_id, double, const cadre::metric_map&) { ++reports; });
      CHECK(same_trials(original, restored));
      std::size_t expected = 0;
      for (const auto& t : original.trials()) expected += t.reports;
      CHECK(reports == expected);

      driver one(10), two(10);
      for (std::string said; said != "done";) {
        said = one.step(original);
        REQUIRE(two.step(restored) == said);
      }
      CHECK(same_trials(original, restored));
      CHECK(original.running() == 0);
    }
}

TEST_CASE("a journal survives several deaths, each in the middle") {
  folder f;
  for (int life = 0; life < 6; ++life) {
    auto s = asha_study(5, 40);
    s.store_in(f / "journal");
    driver d(static_cast<std::uint64_t>(life));
    for (int i = 0; i < 40; ++i) d.step(s);
  }
  auto s = asha_study(5, 40);
  s.store_in(f / "journal");
  driver d(77);
  while (d.step(s) != "done") {}
  CHECK(s.trials().size() == 40);
}

TEST_CASE("a torn tail of the journal costs the last event only") {
  folder f;
  {
    auto s = asha_study();
    s.store_in(f / "journal");
    (void)s.ask();
    (void)s.ask();
    s.report(0, 1, {{"loss", 0.5}});
  }
  fs::resize_file(f / "journal", fs::file_size(f / "journal") - 3);
  auto s = asha_study();
  s.store_in(f / "journal");
  REQUIRE(s.trials().size() == 2);
  CHECK(s.trials()[0].reports == 0);
  CHECK(s.trials()[0].state == trial_state::interrupted);
  const auto first = s.ask(), second = s.ask(), third = s.ask();
  CHECK((first->id == 0 && first->again));
  CHECK((second->id == 1 && second->again));
  CHECK((third->id == 2 && !third->again));
}

TEST_CASE("a finished trial is not asked for again, and more trials may be added") {
  folder f;
  {
    tune::study s{some_space(), {.metric = "loss", .trials = 2}};
    s.store_in(f / "journal");
    for (int i = 0; i < 2; ++i) {
      const auto next = s.ask();
      s.report(next->id, 1, {{"loss", 1}});
      s.end(next->id, trial_state::finished);
    }
  }
  tune::study same{some_space(), {.metric = "loss", .trials = 2}};
  {
    folder g;
    fs::copy_file(f / "journal", g / "journal");
    same.store_in(g / "journal");
    CHECK(!same.ask());
    CHECK(same.running() == 0);
  }
  tune::study more{some_space(), {.metric = "loss", .trials = 3}};
  more.store_in(f / "journal");
  CHECK(more.ask()->id == 2);
}

TEST_CASE("a journal of other settings is refused, and the difference named") {
  folder f;
  asha_study(1).store_in(f / "journal");
  const std::string begin = "[cadre.tune.910] the study in '" + (f / "journal") + "' was made with other settings; ";
  const std::string end = "; use the old settings, or another .storage";
  CHECK(error_of([&] { asha_study(2).store_in(f / "journal"); }) == begin + "seed was 1, is 2" + end);
  CHECK(error_of([&] { asha_study(1, 60, {.max_t = 9, .reduction_factor = 3}).store_in(f / "journal"); }) ==
        begin +
            "scheduler was asha(max_t 27, grace_period 1, reduction_factor 3, brackets 1, promotion), is asha(max_t 9, "
            "grace_period 1, "
            "reduction_factor 3, brackets 1, promotion); max_iterations was 27, is 9" +
            end);
  auto other =
      tune::space<config>().add("x", &config::x, tune::uniform(0, 2)).add("m", &config::n, tune::randint(1, 9));
  CHECK(error_of([&] {
          tune::study s{other,
                        {.metric = "loss", .trials = 60, .seed = 1},
                        tune::random_search{},
                        tune::asha{.max_t = 27, .reduction_factor = 3}};
          s.store_in(f / "journal");
        }) == begin +
                  "parameter 'x' was uniform(0, 1), is uniform(0, 2); parameter 'n' was randint(1, 9), is absent; "
                  "parameter 'm' was absent, is randint(1, 9)" +
                  end);
}

TEST_CASE("a journal that contradicts the rules is refused") {
  folder f;
  {
    auto s = asha_study();
    s.store_in(f / "journal");
  }
  {
    auto j = cadre::journal::open(f / "journal");
    j.append(cadre::to_bytes(std::uint8_t{3}, std::uint64_t{7}, 1.0, std::vector<std::string>{"loss"},
                             std::vector<double>{1}, std::uint8_t{0}));
  }
  CHECK(error_of([&] { asha_study().store_in(f / "journal"); }) ==
        "[cadre.tune.911] the study in '" + (f / "journal") +
            "' does not fit together at trial 7: it was written by another version of the scheduler; use that version, "
            "or another .storage");
}

}  // namespace tune_study
