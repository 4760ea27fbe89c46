#include "catch.hpp"
#include "report/captured_stderr.hpp"
#include "report/comma_locale.hpp"

#include <cadre/async/thread_pool.hpp>
#include <cadre/core/units.hpp>
#include <cadre/os/detail/temporary_file.hpp>
#include <cadre/tune.hpp>

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace tune_tuner {

namespace tune = cadre::tune;
namespace fs = std::filesystem;
using namespace cadre::literals;
using tune::trial_outcome;
using tune::trial_state;

struct config {
  double x = 0;
  int n = 0;
};
using trial = tune::trial<config>;

struct folder {
  folder() {
    std::string name = (fs::temp_directory_path() / "cadre-tuner-XXXXXX").string();
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

double loss_of(const config& c, int epoch) { return c.x + std::exp(-0.3 * epoch); }

// Trains until told to stop, with a checkpoint.
void learner(trial& t) {
  int epoch = 0;
  if (auto c = t.checkpoint()) (*c)("epoch", epoch);
  do ++epoch;
  while (t.report({{"loss", loss_of(t.config(), epoch)}, {"epoch", epoch}}, [&](auto& w) { w("epoch", epoch); }));
}

std::string text_of(const std::string& path) {
  std::ifstream in(path);
  std::stringstream all;
  all << in.rdbuf();
  return all.str();
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

// Catch's macros are for one thread; in a trial a broken promise is an error of the trial, and errors are looked at.
void expect(bool kept, const char* what) {
  if (!kept) throw std::logic_error(what);
}

constexpr tune::asha small_asha{.max_t = 9, .reduction_factor = 3};

TEST_CASE("random search runs each trial to its end and finds the best") {
  cadre::thread_pool pool{{.threads = 3}};
  tune::tuner t{some_space(), {.metric = "loss", .trials = 20, .seed = 4, .stop = tune::max_iterations(5)}};
  const auto found = t.run(pool, learner);
  REQUIRE(found.size() == 20);
  CHECK(found.errors().empty());
  double best = 10;
  for (const auto& r : found) {
    CHECK(r.state == trial_state::finished);
    CHECK(r.reports == 5);
    CHECK(r.t == 5);
    CHECK(r.metrics.at("loss") == loss_of(r.config, 5));
    best = std::min(best, r.metrics.at("loss"));
  }
  CHECK(found.best().metrics.at("loss") == best);
  CHECK(found.table().substr(0, 12) == "trial  state");
}

TEST_CASE("the outcome says why a report was refused, and later reports change nothing") {
  cadre::thread_pool pool{{.threads = 1}};
  tune::tuner t{some_space(), {.metric = "loss", .trials = 1, .stop = tune::max_iterations(2)}};
  const auto found = t.run(pool, [](trial& tr) {
    expect(tr.outcome() == trial_outcome::running, "runs");
    expect(tr.report({{"loss", 2}}), "goes on");
    expect(!tr.report({{"loss", 1}}), "ends");
    expect(tr.outcome() == trial_outcome::finished, "is finished");
    expect(!tr.report({{"loss", 0}}), "has ended");
  });
  CHECK(found.errors().empty());
  CHECK(found[0].reports == 2);
  CHECK(found.best().best == 1);
}

TEST_CASE("ASHA pauses trials, calls the function of promoted ones anew, and gives them their checkpoint") {
  for (std::size_t threads : {1u, 2u, 4u}) {
    std::mutex mutex;
    cadre::thread_pool pool{{.threads = threads}};
    std::map<tune::trial_id, std::vector<int>> epochs;
    std::map<tune::trial_id, int> calls;
    std::map<trial_outcome, int> outcomes;
    tune::tuner t{some_space(), {.metric = "loss", .trials = 27, .seed = 2}, tune::random_search{}, small_asha};
    const auto found = t.run(pool, [&](trial& tr) {
      int epoch = 0;
      if (auto c = tr.checkpoint()) (*c)("epoch", epoch);
      {
        const std::lock_guard lock(mutex);
        ++calls[tr.id()];
      }
      bool go_on = true;
      while (go_on) {
        ++epoch;
        {
          const std::lock_guard lock(mutex);
          epochs[tr.id()].push_back(epoch);
        }
        go_on = tr.report({{"loss", loss_of(tr.config(), epoch)}}, [&](auto& w) { w("epoch", epoch); });
      }
      const std::lock_guard lock(mutex);
      ++outcomes[tr.outcome()];
    });
    CHECK(found.errors().empty());
    CHECK(outcomes[trial_outcome::paused] >= 27);
    CHECK(outcomes[trial_outcome::finished] >= 1);
    for (const auto& [id, seen] : epochs) {
      for (std::size_t i = 0; i < seen.size(); ++i)
        CHECK(seen[i] == static_cast<int>(i) + 1);  // nothing twice, nothing left out
      CHECK((seen.size() == 1 || seen.size() == 3 || seen.size() == 9));
      CHECK(calls[id] == (seen.size() == 1 ? 1 : seen.size() == 3 ? 2 : 3));
    }
    CHECK(found.best().state == trial_state::finished);
  }
}

TEST_CASE("a promoted trial without a checkpoint begins anew and is judged beyond where it was") {
  std::atomic<int> reports{0};
  cadre::thread_pool pool{{.threads = 2}};
  tune::tuner t{some_space(), {.metric = "loss", .trials = 9, .seed = 2}, tune::random_search{}, small_asha};
  const auto found = t.run(pool, [&](trial& tr) {
    expect(!tr.checkpoint(), "no checkpoint");
    int epoch = 0;
    do ++reports;
    while (tr.report({{"loss", loss_of(tr.config(), ++epoch)}}));
    expect(epoch == 1 || epoch == 3 || epoch == 9, "ends at a rung");
  });
  CHECK(found.errors().empty());
  CHECK(found.best().t == 9);
  CHECK(found.best().reports == 1 + 3 + 9);
}

TEST_CASE("an exception fails its trial alone, is kept with its type, and ranks worst") {
  cadre::thread_pool pool{{.threads = 2}};
  tune::tuner t{some_space(), {.metric = "loss", .trials = 12, .seed = 2}, tune::random_search{}, small_asha};
  const auto found = t.run(pool, [](trial& tr) {
    if (tr.id() == 3) throw std::out_of_range("no such layer");
    if (tr.id() == 4) throw 5;
    if (tr.id() == 5) {
      tr.report({{"loss", -100}});
      throw std::runtime_error("after the best report of all");
    }
    learner(tr);
  });
  REQUIRE(found.size() == 12);
  REQUIRE(found.errors().size() == 3);
  CHECK(found.errors()[0].id == 3);
  CHECK(found.errors()[0].text == "no such layer");
  CHECK_THROWS_AS(std::rethrow_exception(found.errors()[0].exception), std::out_of_range);
  CHECK(found.errors()[1].text == "something that is no std::exception");
  CHECK_THROWS_AS(std::rethrow_exception(found.errors()[1].exception), int);
  CHECK(found[5].state == trial_state::failed);
  CHECK(found.best().state == trial_state::finished);
  CHECK(found.best().id != 5);
}

TEST_CASE("a saver that throws fails its trial, which is not promoted") {
  cadre::thread_pool pool{{.threads = 2}};
  tune::tuner t{some_space(), {.metric = "loss", .trials = 9, .seed = 2}, tune::random_search{}, small_asha};
  const auto found = t.run(pool, [](trial& tr) {
    while (tr.report({{"loss", 1}}, [&](auto&) { throw std::runtime_error("cannot save"); })) {}
  });
  CHECK(found.errors().size() == 9);
  CHECK(found.errors()[0].text == "cannot save");
}

TEST_CASE("trials that never report the metric fail, naming what they reported") {
  cadre::thread_pool pool{{.threads = 2}};
  tune::tuner t{some_space(), {.metric = "val_los", .trials = 2, .seed = 2}, tune::random_search{}, small_asha};
  const auto found = t.run(pool, [](trial& tr) {
    while (tr.report({{"val_loss", 1}, {"epoch", tr.t()}})) {}
  });
  REQUIRE(found.errors().size() == 2);
  CHECK(found.errors()[0].text ==
        "[cadre.tune.906] trial 0 did not report the metric 'val_los'; it reported only: 'val_loss' 'epoch'; report "
        "it, or set .metric to one of those that are reported");
  CHECK(error_of([&] { (void)found.best(); }) ==
        "[cadre.tune.912] none of 2 trials has a number for 'val_los'; 2 failed, trial 0 with: " +
            found.errors()[0].text);
}

TEST_CASE("the best is by the best report, or by the last if asked for") {
  cadre::thread_pool pool{{.threads = 1}};
  const auto body = [](trial& tr) {
    tr.report({{"score", tr.id() == 0 ? 9 : 5}});
    tr.report({{"score", tr.id() == 0 ? 1 : 6}});
  };
  tune::tuner t{some_space(), {.metric = "score", .mode = cadre::maximize, .trials = 2}};
  const auto found = t.run(pool, body);
  CHECK(found.best().id == 0);
  CHECK(found.best().best_metrics.at("score") == 9);
  CHECK(found.best(tune::result_scope::last_report).id == 1);
  tune::tuner last{some_space(),
                   {.metric = "score", .mode = cadre::maximize, .trials = 2, .scope = tune::result_scope::last_report}};
  CHECK(last.run(pool, body).best().id == 1);
}

TEST_CASE("never more trials run at once than allowed, and any pool will do") {
  for (std::size_t threads : {1u, 2u, 5u})
    for (std::size_t at_once : {0u, 1u, 3u, 9u}) {
      std::atomic<int> running{0}, most{0};
      cadre::thread_pool pool{{.threads = threads}};
      tune::tuner t{
          some_space(), {.metric = "loss", .trials = 30, .max_concurrent = at_once}, tune::random_search{}, small_asha};
      const auto found = t.run(pool, [&](trial& tr) {
        const int now = ++running;
        for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {}
        learner(tr);
        --running;
      });
      CHECK(found.size() == 30);
      CHECK(most <= static_cast<int>(at_once == 0 ? threads : at_once));
    }
}

// Pauses at each report and promotes what was paused last. Called under the tuner's lock, which it holds so long that
// others queue for it: a trial is promoted twice before the thread of its first run is heard again.
struct promote_at_once {
  struct state {
    void admit(tune::trial_id) {}
    tune::decision report(tune::trial_id id, double, double) {
      paused.push_back(id);
      std::this_thread::sleep_for(std::chrono::microseconds(1));
      return tune::decision::pause;
    }
    std::optional<tune::trial_id> promote() {
      if (paused.empty() || promotions == 0) return std::nullopt;
      --promotions;
      const tune::trial_id id = paused.back();
      paused.pop_back();
      return id;
    }
    void crashed(tune::trial_id) {}
    [[nodiscard]] double run_until(tune::trial_id) const { return tune::unlimited; }
    [[nodiscard]] double max_t() const { return tune::unlimited; }
    std::vector<tune::trial_id> paused;
    int promotions;
  };
  int promotions;
  [[nodiscard]] state start(const tune::study_settings&) const { return {{}, promotions}; }
  [[nodiscard]] std::string describe() const { return "promote_at_once"; }
};

TEST_CASE("a trial that is promoted while its function is still returning runs again only afterwards") {
  for (int run = 0; run < 5; ++run) {
    std::atomic<int> calls{0};
    cadre::thread_pool pool{{.threads = 8}};
    std::array<std::atomic<int>, 8> inside{};
    tune::tuner t{some_space(), {.metric = "loss", .trials = 8}, tune::random_search{}, promote_at_once{1000}};
    const auto found = t.run(pool, [&](trial& tr) {
      ++calls;
      expect(++inside[tr.id()] == 1, "one function of a trial at a time");
      tr.report({{"loss", 1}});
      std::this_thread::yield();
      --inside[tr.id()];
    });
    REQUIRE(found.errors().empty());
    CHECK(calls == 1008);
  }
}

TEST_CASE("a tuning may run inside the pool, and its trials may use the pool") {
  for (std::size_t threads : {1u, 3u}) {
    cadre::thread_pool pool{{.threads = threads}};
    auto outer = pool.submit([&pool] {
      tune::tuner t{
          some_space(), {.metric = "loss", .trials = 20, .max_concurrent = 4}, tune::random_search{}, small_asha};
      return t.run(pool, [&pool](trial& tr) {
        std::atomic<int> sum{0};
        pool.for_each(0, 100, [&](std::size_t i) { sum += static_cast<int>(i); });
        expect(sum == 4950, "a loop in a trial");
        expect(pool.submit([] { return 7; }).get() == 7, "a task in a trial");
        learner(tr);
      });
    });
    CHECK(outer.get().errors().empty());
  }
}

TEST_CASE("NaN everywhere ends the tuning with no best trial") {
  cadre::thread_pool pool{{.threads = 2}};
  for (const auto type : {tune::promotion, tune::stopping}) {
    tune::tuner t{some_space(),
                  {.metric = "loss", .trials = 10},
                  tune::random_search{},
                  tune::asha{.max_t = 9, .reduction_factor = 3, .type = type}};
    const auto found = t.run(pool, [](trial& tr) {
      while (tr.report({{"loss", std::nan("")}})) {}
    });
    for (const auto& r : found) CHECK((r.state == trial_state::stopped && r.t == 1));
    CHECK(error_of([&] { (void)found.best(); }) ==
          "[cadre.tune.912] none of 10 trials has a number for 'loss'; 0 failed");
  }
}

TEST_CASE("a metric may say how far a trial is") {
  cadre::thread_pool pool{{.threads = 2}};
  tune::tuner t{
      some_space(), {.metric = "loss", .trials = 9, .time_attribute = "epoch"}, tune::random_search{}, small_asha};
  const auto found = t.run(pool, [](trial& tr) {
    int epoch = 0;
    if (auto c = tr.checkpoint()) (*c)("epoch", epoch);
    do epoch += 2;
    while (tr.report({{"loss", loss_of(tr.config(), epoch)}, {"epoch", epoch}}, [&](auto& w) { w("epoch", epoch); }));
  });
  CHECK(found.best().t == 10);
  const auto without = t.run(pool, [](trial& tr) { tr.report({{"loss", 1}}); });
  CHECK(without.errors().at(0).text ==
        "[cadre.tune.906] trial 0 did not report 'epoch', which .time_attribute names; every report must have it");
}

TEST_CASE("given configurations come first") {
  cadre::thread_pool pool{{.threads = 2}};
  tune::tuner t{some_space(), {.metric = "loss", .trials = 3, .stop = tune::max_iterations(1)}};
  t.points_to_evaluate({{.x = 0.5, .n = 2}, {.x = 0.25, .n = 3}});
  const auto found = t.run(pool, learner);
  CHECK(found[0].config.x == 0.5);
  CHECK(found[1].config.n == 3);
}

// ---- Deterministic ------------------------------------------------------------------------------------------------

// Trains with a load that differs from run to run.
struct uneven_learner {
  explicit uneven_learner(std::uint64_t run) : noise(run, "noise") {}
  void operator()(trial& tr) {
    int epoch = 0;
    if (auto c = tr.checkpoint()) (*c)("epoch", epoch);
    bool go_on = true;
    while (go_on) {
      std::uint64_t spins = 0;
      {
        const std::lock_guard lock(mutex);
        spins = noise.below(20000);
      }
      for (std::atomic<std::uint64_t> i{0}; i < spins; ++i) {}
      if (tr.id() % 7 == 5 && epoch == 1) throw std::runtime_error("boom");
      ++epoch;
      go_on = tr.report({{"loss", loss_of(tr.config(), epoch)}}, [&](auto& w) { w("epoch", epoch); });
    }
  }
  std::mutex mutex;
  cadre::random_stream noise;
};

TEST_CASE("a deterministic tuning makes the same decisions in the same order on any pool, however fast trials are") {
  for (const auto type : {tune::promotion, tune::stopping}) {
    std::string expected;
    for (std::uint64_t run = 0; run < 20; ++run) {
      folder f;
      cadre::thread_pool pool{{.threads = run % 2 == 0 ? 4u : 8u}};
      tune::tuner t{
          some_space(),
          {.metric = "loss", .trials = 25, .max_concurrent = 4, .seed = 11, .storage = f / "s", .deterministic = true},
          tune::random_search{},
          tune::asha{.max_t = 9, .reduction_factor = 3, .type = type}};
      uneven_learner body(run);
      const auto found = t.run(pool, body);
      std::string events = text_of(f / "s/reports.jsonl");
      for (const auto& r : found)
        events += std::to_string(r.id) + " " + std::string(to_string(r.state)) + " " + std::to_string(r.reports) + "\n";
      if (run == 0) expected = events;
      REQUIRE(events == expected);
    }
    CHECK(expected.size() > 1000);
  }
}

TEST_CASE("a deterministic tuning with one slot is the plain sequence") {
  cadre::thread_pool pool{{.threads = 1}};
  tune::tuner t{some_space(),
                {.metric = "loss", .trials = 9, .max_concurrent = 1, .deterministic = true},
                tune::random_search{},
                small_asha};
  CHECK(t.run(pool, learner).size() == 9);
}

TEST_CASE("a deterministic tuning that cannot have its threads says so") {
  std::atomic<bool> release{false}, held{false};
  cadre::thread_pool pool{{.threads = 2}};
  tune::tuner many{some_space(), {.metric = "loss", .trials = 9, .max_concurrent = 3, .deterministic = true}};
  CHECK(error_of([&] { many.run(pool, learner); }) ==
        "[cadre.tune.908] a deterministic tuning runs 3 trials at once (.max_concurrent), each on a thread of its own, "
        "and the pool has 2; use a larger pool or fewer at once");
  auto blocker = pool.submit([&] {
    held = true;
    held.notify_all();
    release.wait(false);
  });
  held.wait(false);
  tune::tuner busy{some_space(),
                   {.metric = "loss", .trials = 9, .max_concurrent = 2, .deterministic = true, .thread_timeout = 30ms}};
  const std::string said = error_of([&] { busy.run(pool, learner); });
  release = true;
  release.notify_all();
  blocker.get();
  CHECK(said ==
        "[cadre.tune.908] a deterministic tuning needs 2 threads at once, and of the pool's 2 only 1 were free within "
        ".thread_timeout; other tasks hold the rest");
}

// ---- Cut short ----------------------------------------------------------------------------------------------------

TEST_CASE("a cancelled tuning interrupts its trials at their next report, and can be resumed") {
  for (bool deterministic : {false, true}) {
    folder f;
    std::atomic<int> reports{0}, interrupted{0};
    cadre::thread_pool pool{{.threads = 2}};
    tune::tuner_options options{
        .metric = "loss", .trials = 12, .seed = 3, .storage = f / "s", .resume = true, .deterministic = deterministic};
    std::stop_source stop;
    auto first = options;
    first.cancel = stop.get_token();
    const auto half = tune::tuner{some_space(), first, tune::random_search{}, small_asha}.run(pool, [&](trial& tr) {
      int epoch = 0;
      if (auto c = tr.checkpoint()) (*c)("epoch", epoch);
      do {
        ++epoch;
        if (++reports == 10) stop.request_stop();
      } while (tr.report({{"loss", loss_of(tr.config(), epoch)}}, [&](auto& w) { w("epoch", epoch - 1); }));
      interrupted += tr.outcome() == trial_outcome::interrupted ? 1 : 0;
    });
    CHECK(interrupted >= 1);
    CHECK(half.size() < 12);
    int left = 0;
    for (const auto& r : half) left += r.state == trial_state::interrupted ? 1 : 0;
    CHECK(left == interrupted);
    const auto whole = tune::tuner{some_space(), options, tune::random_search{}, small_asha}.run(pool, learner);
    CHECK(whole.size() == 12);
    for (const auto& r : whole) CHECK((r.state == trial_state::paused || r.state == trial_state::finished));
  }
}

TEST_CASE("a time budget ends the tuning") {
  cadre::thread_pool pool{{.threads = 2}};
  tune::tuner t{
      some_space(),
      {.metric = "loss", .trials = 1000000, .stop = tune::time_budget(20ms) || tune::max_iterations(1000000)}};
  const auto found = t.run(pool, learner);
  CHECK(found.size() < 1000000);
  CHECK(found[0].state == trial_state::interrupted);
}

// ---- Stored -------------------------------------------------------------------------------------------------------

TEST_CASE("a stored tuning leaves tables, and a finished one is not run again") {
  folder f;
  std::atomic<int> runs{0};
  cadre::thread_pool pool{{.threads = 2}};
  tune::tuner_options options{.metric = "loss", .trials = 9, .seed = 3, .storage = f / "runs/a"};
  const auto body = [](trial& tr) {
    if (tr.id() == 2) throw std::runtime_error("no \"luck\", today");
    learner(tr);
  };
  const auto first = tune::tuner{some_space(), options, tune::random_search{}, small_asha}.run(pool, body);
  const std::string csv = text_of(f / "runs/a/trials.csv"), lines = text_of(f / "runs/a/trials.jsonl"),
                    reports = text_of(f / "runs/a/reports.jsonl");
  CHECK(csv.substr(0, csv.find('\n')) == "trial,state,t,reports,seconds,x,n,loss,epoch,best_loss,error");
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 10);
  CHECK(csv.find("\"no \"\"luck\"\", today\"") != std::string::npos);
  CHECK(std::count(lines.begin(), lines.end(), '\n') == 9);
  std::size_t count = 0;
  for (const auto& r : first) count += r.reports;
  CHECK(std::count(reports.begin(), reports.end(), '\n') == static_cast<std::ptrdiff_t>(count));
  CHECK(reports.substr(0, 9) == "{\"trial\":");

  CHECK(error_of([&] {
          tune::tuner{some_space(), options, tune::random_search{}, small_asha}.run(pool, body);
        }) == "[cadre.tune.909] '" + options.storage +
                  "' holds a study already; set .resume = true to go on with it, or use another .storage");
  options.resume = true;
  auto other = options;
  other.seed = 4;
  CHECK(
      error_of([&] {
        tune::tuner{some_space(), other, tune::random_search{}, small_asha}.run(pool, body);
      }) ==
      "[cadre.tune.910] the study in '" + options.storage +
          "/study.journal' was made with other settings; seed was 3, is 4; use the old settings, or another .storage");

  const auto again =
      tune::tuner{some_space(), options, tune::random_search{}, small_asha}.run(pool, [&runs](trial&) { ++runs; });
  CHECK(runs == 0);
  REQUIRE(again.size() == first.size());
  for (std::size_t i = 0; i < again.size(); ++i) {
    CHECK(again[i].state == first[i].state);
    CHECK(again[i].config.x == first[i].config.x);
    CHECK((again[i].best == first[i].best || std::isnan(first[i].best)));
    CHECK(again[i].seconds == first[i].seconds);
  }
  CHECK(again.best().id == first.best().id);
  CHECK(again.errors().at(0).text == "no \"luck\", today");
  CHECK(!again.errors().at(0).exception);
  CHECK(text_of(f / "runs/a/reports.jsonl") == reports);
  CHECK(text_of(f / "runs/a/trials.csv") == csv);
}

TEST_CASE("the locale of the host does not change the lines of progress") {
  const test_report::comma_locale german;
  if (!german) {
    WARN("skipped: needs a locale with a comma (Debian: locales)");
    return;
  }
  cadre::thread_pool pool{{.threads = 1}};
  test_report::captured_stderr out;
  tune::tuner t{some_space(), {.metric = "loss", .trials = 1, .stop = tune::max_iterations(1), .progress = true}};
  t.points_to_evaluate({{.x = 0.125, .n = 2}});
  t.run(pool, [](trial& tr) { tr.report({{"loss", 0.03125}, {"images", 123456}}); });
  CHECK(out.text() == "trial 0: finished  t 1  loss 0.03125  images 123456  x=0.125  n=2\n");
}

TEST_CASE("two tunings cannot share a storage") {
  folder f;
  cadre::thread_pool pool{{.threads = 2}};
  tune::tuner_options options{.metric = "loss", .trials = 1, .storage = f / "s", .resume = true};
  std::string said;
  tune::tuner{some_space(), options}.run(pool, [&](trial& tr) {
    said = error_of([&] { tune::tuner{some_space(), options}.run(pool, learner); });
    tr.report({{"loss", 1}});
  });
  CHECK(said.substr(0, 19) == "[cadre.persist.523]");
}

TEST_CASE("a storage that cannot be written is an error of the run") {
  folder f;
  std::ofstream(f / "file") << "x";
  cadre::thread_pool pool{{.threads = 1}};
  tune::tuner t{some_space(), {.metric = "loss", .trials = 1, .storage = f / "file/s"}};
  CHECK(error_of([&] { t.run(pool, learner); }) ==
        "[cadre.os.155] cannot make the folder '" + (f / "file/s/checkpoints") +
            "': Not a directory (errno 20); check the path, and create its folder first");
  // A table that cannot take its place.
  fs::create_directories(f / "s/trials.csv/in the way");
  tune::tuner blocked{some_space(),
                      {.metric = "loss", .trials = 1, .storage = f / "s", .stop = tune::max_iterations(1)}};
  CHECK(error_of([&] {
          blocked.run(pool, learner);
        }).starts_with("[cadre.os.158] cannot write '" + (f / "s/trials.csv")));
  CHECK_FALSE(fs::exists(f / "s/.trials.csv.new"));
}

// Runs f in a process of its own; its result is the exit status.
template <class F>
int in_child(F f) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = f();
    } catch (...) {}
    ::_exit(code);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return 98;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 97;
}

TEST_CASE("a disk that fills up ends a tuning with an error and no half-written file, and room lets it resume",
          "[root]") {
  folder f;
  const int code = in_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("cadre", f.path.c_str(), "tmpfs", 0, "size=96k") != 0)
      return 77;
    const auto tuning = [&](std::size_t trials) {
      cadre::thread_pool pool{{.threads = 2}};
      return tune::tuner{some_space(),
                         {.metric = "loss", .trials = trials, .seed = 3, .storage = f / "s", .resume = true},
                         tune::random_search{},
                         small_asha}
          .run(pool, learner);
    };
    if (!error_of([&] { tuning(2000); }).starts_with("[cadre.os.156]")) return 1;
    for (const auto& entry : fs::recursive_directory_iterator(f / "s"))
      if (entry.path().extension() == ".new" && fs::exists(f / "s/trials.csv")) return 2;
    if (::mount("cadre", f.path.c_str(), "tmpfs", MS_REMOUNT, "size=16m") != 0) return 3;
    const auto found = tuning(2000);
    if (found.size() != 2000 || !found.errors().empty()) return 4;
    for (const auto& r : found)
      if (r.last != loss_of(r.config, static_cast<int>(r.t))) return 5;
    const std::string csv = text_of(f / "s/trials.csv");
    return std::count(csv.begin(), csv.end(), '\n') == 2001 ? 0 : 6;
  });
  if (code == 77)
    WARN("skipped: needs the right to mount a file system");
  else
    CHECK(code == 0);
}

TEST_CASE("a resumed tuning removes the checkpoints that a killed process left half-written, and no others") {
  folder f;
  const auto tuning = [&] {
    cadre::thread_pool pool{{.threads = 1}};
    tune::tuner{some_space(),
                {.metric = "loss", .trials = 1, .storage = f / "s", .resume = true},
                tune::random_search{},
                small_asha}
        .run(pool, learner);
  };
  tuning();
  // Killed while it writes one; the parent writes another one at this moment.
  const int code = in_child([&] {
    const cadre::detail::temporary_file half_written(f / "s/checkpoints", "trial-7.ckpt");
    ::raise(SIGKILL);
    return 0;
  });
  REQUIRE(code == 97);
  cadre::detail::temporary_file written_now(f / "s/checkpoints", "trial-8.ckpt");
  const auto temporaries = [&] {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(f / "s/checkpoints"))
      if (entry.path().extension() == ".tmp") names.push_back(entry.path().string());
    return names;
  };
  CHECK(temporaries().size() == 2);
  tuning();
  CHECK(temporaries() == std::vector<std::string>{written_now.get().path()});
}

TEST_CASE("a process killed in the middle of a tuning loses no finished trial when it is resumed") {
  for (int death : {1, 9, 20, 33}) {
    folder f;
    const tune::tuner_options options{.metric = "loss",
                                      .trials = 18,
                                      .max_concurrent = 2,
                                      .seed = 6,
                                      .storage = f / "s",
                                      .resume = true,
                                      .checkpoint_period = 0s};
    const tune::tuner t{some_space(), options, tune::random_search{}, small_asha};

    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      std::atomic<int> reports{0};
      cadre::thread_pool pool{{.threads = 2}};
      t.run(pool, [&](trial& tr) {
        int epoch = 0;
        if (auto c = tr.checkpoint()) (*c)("epoch", epoch);
        do {
          ++epoch;
          if (++reports == death) ::raise(SIGKILL);
        } while (tr.report({{"loss", loss_of(tr.config(), epoch)}}, [&](auto& w) { w("epoch", epoch); }));
      });
      ::_exit(1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));

    // What the journal knows, read from a copy.
    fs::copy_file(f / "s/study.journal", f / "copy");
    std::map<tune::trial_id, double> reached;
    std::set<tune::trial_id> ended;
    {
      tune::study s{some_space(), {.metric = "loss", .trials = 18, .seed = 6}, tune::random_search{}, small_asha};
      s.identify("time_attribute", "number of reports");
      s.identify("deterministic", "no");
      s.store_in(f / "copy");
      for (tune::trial_id id = 0; id < s.trials().size(); ++id) {
        reached[id] = s.trials()[id].t;
        if (s.trials()[id].state == trial_state::finished) ended.insert(id);
      }
    }

    std::mutex mutex;
    std::atomic<int> running{0}, most{0};
    cadre::thread_pool pool{{.threads = 2}};
    const auto found = t.run(pool, [&](trial& tr) {
      const int now = ++running;
      for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {}
      int epoch = 0;
      if (auto c = tr.checkpoint()) (*c)("epoch", epoch);
      {
        const std::lock_guard lock(mutex);
        expect(!ended.contains(tr.id()), "a finished trial does not run again");
        // At most the report whose checkpoint was not written yet is made again.
        if (reached.contains(tr.id()))
          expect(epoch >= static_cast<int>(reached[tr.id()]) - 1, "goes on from its checkpoint");
        reached.erase(tr.id());
      }
      do ++epoch;
      while (tr.report({{"loss", loss_of(tr.config(), epoch)}}, [&](auto& w) { w("epoch", epoch); }));
      --running;
    });
    CHECK(most <= 2);
    REQUIRE(found.size() == 18);
    CHECK(found.errors().empty());
    for (const auto& r : found) {
      CHECK((r.state == trial_state::paused || r.state == trial_state::finished));
      CHECK(r.last == loss_of(r.config, static_cast<int>(r.t)));
    }
    const std::string csv = text_of(f / "s/trials.csv");
    CHECK(std::count(csv.begin(), csv.end(), '\n') == 19);
  }
}

}  // namespace tune_tuner
