#include "catch.hpp"

#include <cadre/tune/grid_search.hpp>
#include <cadre/tune/random_search.hpp>
#include <cadre/tune/space.hpp>

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>

namespace tune_space {

namespace tune = cadre::tune;

enum class opt { sgd, adam };
enum class plain : unsigned char { a = 3, b = 7 };
struct base_config {
  double inherited = 1;
};
struct config : base_config {
  double lr = 0;
  float dropout = 0;
  int width = 0;
  unsigned layers = 0;
  std::size_t steps = 0;
  bool norm = false;
  opt optimizer = opt::sgd;
  plain number = plain::a;
  std::string activation;
  int untouched = 41;
  signed char small = 0;
};

tune::space<config> everything() {
  return tune::space<config>()
      .add("lr", &config::lr, tune::loguniform(1e-5, 1e-1))
      .add("inherited", &config::inherited, tune::uniform(-2, 3))
      .add("dropout", &config::dropout, tune::quniform(0.1, 0.5, 0.1))
      .add("width", &config::width, tune::choice({64, 128, 256}))
      .add("layers", &config::layers, tune::randint(1, 3))
      .add("steps", &config::steps, tune::lograndint(1, 1000))
      .add("norm", &config::norm, tune::choice({true, false}))
      .add("optimizer", &config::optimizer, tune::choice({opt::sgd, opt::adam}, {"sgd", "adam"}))
      .add("number", &config::number, tune::choice({plain::a, plain::b}))
      .add("activation", &config::activation, tune::choice({"relu", "tanh"}));
}

tune::study_settings settings(const tune::space<config>& s, std::uint64_t seed) {
  return {s.domains(), s.names(), cadre::minimize, seed};
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

TEST_CASE("a space fills members of every kind and keeps the others") {
  config base;
  base.untouched = 99;
  auto s = tune::space<config>(base);
  s.add("lr", &config::lr, tune::loguniform(1e-5, 1e-1))
      .add("activation", &config::activation, tune::choice({"relu", "tanh"}));
  const config c = s.decode({1e-3, 1});
  CHECK(c.lr == 1e-3);
  CHECK(c.activation == "tanh");
  CHECK(c.untouched == 99);

  auto all = everything();
  auto search = tune::random_search{}.start(settings(all, 1));
  std::set<double> dropouts;
  for (tune::trial_id id = 0; id < 500; ++id) {
    const auto where = search.suggest(id);
    REQUIRE(where);
    const config x = all.decode(*where);
    CHECK((x.lr >= 1e-5 && x.lr <= 1e-1));
    CHECK((x.inherited >= -2 && x.inherited <= 3));
    CHECK((x.width == 64 || x.width == 128 || x.width == 256));
    CHECK((x.layers >= 1 && x.layers <= 3));
    CHECK((x.steps >= 1 && x.steps <= 1000));
    CHECK((x.activation == "relu" || x.activation == "tanh"));
    dropouts.insert(static_cast<double>(x.dropout));
    CHECK(all.encode(x).size() == all.size());
  }
  CHECK(dropouts.size() == 5);
}

TEST_CASE("a configuration survives encoding and decoding") {
  auto s = everything();
  auto search = tune::random_search{}.start(settings(s, 3));
  for (tune::trial_id id = 0; id < 200; ++id) {
    const config a = s.decode(*search.suggest(id));
    const config b = s.decode(s.encode(a));
    CHECK(a.lr == b.lr);
    CHECK(a.dropout == b.dropout);
    CHECK(a.steps == b.steps);
    CHECK(a.number == b.number);
    CHECK(a.activation == b.activation);
  }
}

TEST_CASE("a configuration is shown by names and values") {
  const auto s = everything();
  const cadre::record shown = s.show({1e-3, 0.5, 0.2, 1, 2, 10, 0, 1, 1, 0});
  CHECK(std::get<double>(shown.at("lr")) == 1e-3);
  CHECK(std::get<std::int64_t>(shown.at("width")) == 128);
  CHECK(std::get<std::int64_t>(shown.at("layers")) == 2);
  CHECK(std::get<bool>(shown.at("norm")) == true);
  CHECK(std::get<std::string>(shown.at("optimizer")) == "adam");
  CHECK(std::get<std::int64_t>(shown.at("number")) == 7);
  CHECK(std::get<std::string>(shown.at("activation")) == "relu");
  CHECK(s.describe(0) == "loguniform(1e-05, 0.1)");
  CHECK(s.describe(2) == "quniform(0.1, 0.5, 0.1)");
  CHECK(s.describe(4) == "randint(1, 3)");
  CHECK(s.describe(7) == "choice(sgd, adam)");
}

TEST_CASE("bounds of integers are both drawn, and each value as often as it should be") {
  cadre::random_stream random(7);
  const tune::domain d = tune::randint(-1, 2).values;
  std::map<double, int> seen;
  for (int i = 0; i < 40000; ++i) ++seen[d.draw(random)];
  REQUIRE(seen.size() == 4);
  for (auto [value, n] : seen) CHECK(std::abs(n - 10000) < 500);

  const tune::domain l = tune::lograndint(1, 4).values;
  seen.clear();
  for (int i = 0; i < 40000; ++i) ++seen[l.draw(random)];
  REQUIRE(seen.size() == 4);
  for (auto [value, n] : seen)
    CHECK(std::abs(n - 40000 * std::log((value + 0.5) / (value - 0.5)) / std::log(9.0)) < 600);

  const tune::domain q = tune::qrandint(10, 25, 5).values;
  seen.clear();
  for (int i = 0; i < 4000; ++i) ++seen[q.draw(random)];
  CHECK(seen.size() == 4);
  CHECK(seen.contains(25));
}

TEST_CASE("a grid of reals holds its upper bound though steps are rounded") {
  CHECK(tune::quniform(0.1, 0.3, 0.1).values.count() == 3);
  CHECK(tune::quniform(0.1, 0.3, 0.1).values.at(2) == 0.3);
  CHECK(tune::quniform(0, 1, 0.3).values.count() == 4);
  CHECK(tune::qloguniform(0.01, 0.05, 0.01).values.count() == 5);
  cadre::random_stream random(1);
  const tune::domain d = tune::qloguniform(0.01, 0.05, 0.01).values;
  for (int i = 0; i < 1000; ++i) CHECK(d.contains(d.draw(random)));
  const tune::domain n = tune::randn(5, 0.001).values;
  for (int i = 0; i < 100; ++i) CHECK(std::abs(n.draw(random) - 5) < 0.01);
}

TEST_CASE("equal bounds are one value") {
  cadre::random_stream random(1);
  CHECK(tune::uniform(2, 2).values.draw(random) == 2);
  CHECK(tune::uniform(2, 2).values.count() == 1);
  CHECK(tune::lograndint(8, 8).values.draw(random) == 8);
}

TEST_CASE("bad bounds are errors that name the parameter") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  using s = tune::space<config>;
  CHECK(error_of([] { s().add("lr", &config::lr, tune::uniform(2, 1)); }) ==
        "[cadre.tune.901] parameter 'lr': uniform(2, 1) has its lower bound above the upper one; swap them");
  CHECK(error_of([] { s().add("lr", &config::lr, tune::loguniform(0, 1)); }) ==
        "[cadre.tune.901] parameter 'lr': loguniform(0, 1) has a lower bound that is not above 0, where there is no "
        "logarithm");
  CHECK(error_of([=] { s().add("lr", &config::lr, tune::uniform(nan, 1)); }) ==
        "[cadre.tune.901] parameter 'lr': uniform(nan, 1) has a bound that is no finite number");
  CHECK(error_of([] { s().add("lr", &config::lr, tune::quniform(0, 1, 0)); }) ==
        "[cadre.tune.901] parameter 'lr': uniform(0, 1) needs a step above 0");
  CHECK(error_of([] { s().add("w", &config::width, tune::qrandint(0, 10, -2)); }) ==
        "[cadre.tune.901] parameter 'w': qrandint(0, 10, -2) needs a step above 0");
  CHECK(error_of([] { s().add("lr", &config::lr, tune::qloguniform(0.1, 1, 0.2)); }) ==
        "[cadre.tune.901] parameter 'lr': qloguniform(0.1, 1, 0.2) needs a step below twice its lower bound");
  CHECK(error_of([] { s().add("lr", &config::lr, tune::randn(0, 0)); }) ==
        "[cadre.tune.901] parameter 'lr': randn(0, 0) needs a deviation above 0");
  CHECK(error_of([] { s().add("n", &config::small, tune::randint(0, 200)); }) ==
        "[cadre.tune.901] parameter 'n': randint(0, 200) does not fit the member, whose type holds -128 to 127");
  CHECK(error_of([] { s().add("n", &config::layers, tune::randint(-1, 2)); }) ==
        "[cadre.tune.901] parameter 'n': randint(-1, 2) does not fit the member, whose type holds 0 to 4294967295");
  CHECK(error_of([] {
          s().add("n", &config::small, tune::choice({1, 1000}));
        }) == "[cadre.tune.901] parameter 'n': the choice 1000 does not fit the member's type");
  CHECK(error_of([] { s().add("n", &config::width, tune::choice(std::vector<int>{})); }) ==
        "[cadre.tune.901] parameter 'n': choice has no values; give at least one");
  CHECK(error_of([] {
          s().add("o", &config::optimizer, tune::choice({opt::sgd, opt::adam}, {"sgd"}));
        }) == "[cadre.tune.901] parameter 'o': choice has 2 values and 1 names; give each value one name");
  CHECK(error_of([] {
          s().add("x", &config::lr, tune::uniform(0, 1)).add("x", &config::width, tune::randint(0, 1));
        }) == "[cadre.tune.902] the space already has a parameter 'x'; names must be unique");
}

TEST_CASE("a configuration outside of the space cannot be encoded") {
  const auto s = everything();
  config c = s.decode({1e-3, 0.5, 0.2, 1, 2, 10, 0, 1, 1, 0});
  c.lr = 1;
  CHECK(error_of([&] { (void)s.encode(c); }) == "[cadre.tune.903] parameter 'lr': 1 is not in loguniform(1e-05, 0.1)");
  c.lr = 1e-3;
  c.activation = "gelu";
  CHECK(error_of([&] { (void)s.encode(c); }) ==
        "[cadre.tune.903] parameter 'activation': the value is none of choice(relu, tanh)");
}

TEST_CASE("random search gives a trial the same point whoever asks when") {
  const auto s = everything();
  auto forward = tune::random_search{}.start(settings(s, 5)), backward = forward;
  std::vector<tune::point> points;
  for (tune::trial_id id = 0; id < 50; ++id) points.push_back(*forward.suggest(id));
  for (tune::trial_id id = 50; id-- > 0;) CHECK(*backward.suggest(id) == points[id]);
  auto other = tune::random_search{}.start(settings(s, 6));
  CHECK(*other.suggest(0) != points[0]);
}

TEST_CASE("random search draws no point of a finite space twice and ends after all of them") {
  auto s = tune::space<config>()
               .add("width", &config::width, tune::choice({1, 2, 3}))
               .add("layers", &config::layers, tune::lograndint(1, 40));
  REQUIRE(s.points() == 120u);
  auto search = tune::random_search{}.start(settings(s, 1));
  std::set<tune::point> seen;
  tune::trial_id id = 0;
  for (; auto where = search.suggest(id); ++id) {
    search.tried(id, *where);
    CHECK(seen.insert(*where).second);
  }
  CHECK(id == 120);
}

TEST_CASE("grid search visits each point once, in order") {
  auto s = tune::space<config>()
               .add("norm", &config::norm, tune::choice({false, true}))
               .add("dropout", &config::dropout, tune::quniform(0, 0.2, 0.1));
  auto search = tune::grid_search{}.start(settings(s, 1));
  std::vector<tune::point> seen;
  while (auto where = search.suggest(seen.size())) {
    search.tried(seen.size(), *where);
    seen.push_back(*where);
  }
  CHECK(seen == std::vector<tune::point>{{0, 0}, {0, 0.1}, {0, 0.2}, {1, 0}, {1, 0.1}, {1, 0.2}});
  auto infinite = tune::space<config>().add("lr", &config::lr, tune::uniform(0, 1));
  CHECK(error_of([&] { (void)tune::grid_search{}.start(settings(infinite, 1)); }) ==
        "[cadre.tune.904] grid_search needs finitely many values of each parameter; 'lr' is uniform(0, 1): use choice "
        "or a q distribution, or random_search");
  CHECK(!everything().points());
}

}  // namespace tune_space
