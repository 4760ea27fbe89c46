#include "catch.hpp"

#include <cadre/observe/detail/early_counters.hpp>
#include <cadre/observe/metrics.hpp>
#include <cadre/observe/prometheus.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <vector>

namespace test_metrics {

template <class F>
void on_threads(int count, F work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(work);
  for (std::thread& t : threads) t.join();
}

template <class Error, class F>
std::string error_of(F&& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

}  // namespace test_metrics

TEST_CASE("a counter loses no increment of several threads") {
  cadre::counter c;
  test_metrics::on_threads(10, [&] {
    for (int i = 0; i < 5000; ++i) c.add();
    c.add(7);
  });
  CHECK(c.value() == 10 * 5007);
}

TEST_CASE("a gauge is set, raised and lowered") {
  cadre::gauge g;
  g.set(2.5);
  g.add(-3);
  CHECK(g.value() == -0.5);
  g.set(0);
  test_metrics::on_threads(4, [&] {
    for (int i = 0; i < 5000; ++i) g.add(1);
  });
  CHECK(g.value() == 20000);
}

TEST_CASE("a histogram counts a value in the first bucket whose bound is not below it") {
  cadre::histogram h({.first = 1, .factor = 2, .count = 3});
  CHECK(h.bounds() == std::vector<double>{1, 2, 4});
  for (double v : {-1.0, 0.5, 1.0, 1.5, 2.0, 4.0, 4.5, std::numeric_limits<double>::infinity()}) h.observe(v);
  CHECK(h.counts() == std::vector<std::uint64_t>{3, 2, 1, 2});
  CHECK(std::isinf(h.sum()));
  h.observe(std::numeric_limits<double>::quiet_NaN());
  CHECK(h.counts().back() == 3);
  CHECK(std::isnan(h.sum()));
}

TEST_CASE("a histogram loses no observation of several threads") {
  cadre::histogram h;
  test_metrics::on_threads(4, [&] {
    for (int i = 0; i < 5000; ++i) h.observe(0.5);
  });
  std::uint64_t all = 0;
  for (std::uint64_t n : h.counts()) all += n;
  CHECK(all == 20000);
  CHECK(h.sum() == 10000);
}

TEST_CASE("a histogram refuses buckets that do not grow") {
  const std::string expected =
      "[cadre.observe.1051] a histogram's buckets need first > 0, factor > 1 and a count from 1 to 64";
  using test_metrics::error_of;
  CHECK(error_of<cadre::invalid_metric>([] { cadre::histogram h({.first = 0}); }) == expected);
  CHECK(error_of<cadre::invalid_metric>([] { cadre::histogram h({.factor = 1}); }) == expected);
  CHECK(error_of<cadre::invalid_metric>([] { cadre::histogram h({.count = 65}); }) == expected);
  CHECK(error_of<cadre::invalid_metric>([] { cadre::histogram h({.count = 0}); }) == expected);
  const std::string endless =
      "[cadre.observe.1051] a histogram's buckets grow beyond what a double holds; choose a smaller factor or count";
  CHECK(error_of<cadre::invalid_metric>([] { cadre::histogram h({.first = 1e300, .factor = 1e9, .count = 2}); }) ==
        endless);
  constexpr double infinity = std::numeric_limits<double>::infinity();
  CHECK(error_of<cadre::invalid_metric>([] { cadre::histogram h({.first = infinity}); }) == endless);
}

TEST_CASE("the same name and labels give the same metric, in whatever order the labels come") {
  cadre::metrics_registry r;
  cadre::counter& a = r.counter("done_total", "tasks done", {{"room", "pool"}, {"kind", "x"}});
  CHECK(&a == &r.counter("done_total", "", {{"kind", "x"}, {"room", "pool"}}));
  CHECK(&a != &r.counter("done_total", "", {{"kind", "y"}, {"room", "pool"}}));
  CHECK(&r.gauge("depth") == &r.gauge("depth"));
  CHECK(&r.histogram("seconds") == &r.histogram("seconds"));
  CHECK(&cadre::metrics() == &cadre::metrics());
}

TEST_CASE("threads that register the same metric at once share it") {
  cadre::metrics_registry r;
  test_metrics::on_threads(4, [&] {
    for (int i = 0; i < 200; ++i) r.counter("n_total", "", {{"i", std::to_string(i % 7)}}).add();
  });
  double all = 0;
  for (const cadre::metric_sample& m : r.snapshot()) all += m.value;
  CHECK(all == 800);
  CHECK(r.snapshot().size() == 7);
}

TEST_CASE("counters of cadre's own rooms are the registry's, whichever is there first") {
  cadre::detail::early_counters early;
  cadre::counter& before = early.counter("cadre_before_total", "made before");
  before.add(3);
  CHECK(&early.counter("cadre_before_total", "made before") == &before);
  cadre::metrics_registry registry;
  early.join(registry);
  CHECK(&registry.counter("cadre_before_total") == &before);
  CHECK(&early.counter("cadre_before_total", "made before") == &before);
  cadre::counter& after = early.counter("cadre_after_total", "made after");
  CHECK(&registry.counter("cadre_after_total") == &after);
  const std::vector<cadre::metric_sample> all = registry.snapshot();
  REQUIRE(all.size() == 2);
  CHECK(all[0].name == "cadre_after_total");
  CHECK(all[1].name == "cadre_before_total");
  CHECK(all[1].help == "made before");
  CHECK(all[1].value == 3);
}

TEST_CASE("a counter of the process is the same by either way") {
  cadre::counter& own = cadre::detail::early_counters::of_process().counter("cadre_test_total", "of a test");
  own.add();
  CHECK(&cadre::metrics().counter("cadre_test_total") == &own);
}

TEST_CASE("threads that make the first registry and count meanwhile share a counter") {
  for (int round = 0; round < 100; ++round) {
    cadre::detail::early_counters early;
    cadre::metrics_registry registry;
    std::thread joins([&] { early.join(registry); });
    cadre::counter& mine = early.counter("cadre_raced_total", "in a race");
    joins.join();
    CHECK(&registry.counter("cadre_raced_total") == &mine);
  }
}

TEST_CASE("a name registered as another kind or with other buckets is a numbered error") {
  cadre::metrics_registry r;
  r.counter("n");
  r.histogram("h");
  using test_metrics::error_of;
  CHECK(error_of<cadre::metric_mismatch>([&] { r.gauge("n"); }) ==
        "[cadre.observe.1050] metric 'n' is a counter and was asked for as a gauge; choose another name");
  CHECK(error_of<cadre::metric_mismatch>([&] { r.histogram("h", "", {}, {.count = 3}); }) ==
        "[cadre.observe.1050] histogram 'h' was registered with other buckets; all of one name share them");
}

TEST_CASE("names that Prometheus would refuse are numbered errors and leave nothing behind") {
  cadre::metrics_registry r;
  using test_metrics::error_of;
  CHECK(error_of<cadre::invalid_metric>([&] { r.counter("9lives"); }) ==
        "[cadre.observe.1051] '9lives' is no name for a metric; it must match [a-zA-Z_:][a-zA-Z0-9_:]*");
  CHECK(error_of<cadre::invalid_metric>([&] { r.counter(""); }) ==
        "[cadre.observe.1051] '' is no name for a metric; it must match [a-zA-Z_:][a-zA-Z0-9_:]*");
  CHECK(error_of<cadre::invalid_metric>([&] {
          r.histogram("h", "", {{"le", "1"}});
        }) ==
        "[cadre.observe.1051] 'le' is no name for a label; it must match [a-zA-Z_][a-zA-Z0-9_]*, not begin with '__', "
        "and not be 'le' on a histogram");
  CHECK_THROWS_AS(r.counter("c", "", {{"a:b", "1"}}), cadre::invalid_metric);
  CHECK_THROWS_AS(r.counter("c", "", {{"__a", "1"}}), cadre::invalid_metric);
  CHECK(error_of<cadre::invalid_metric>([&] {
          r.counter("c", "", {{"a", "1"}, {"a", "2"}});
        }) == "[cadre.observe.1051] label 'a' is given twice");
  CHECK(r.snapshot().empty());
  CHECK_THROWS_AS(r.histogram("c", "", {}, {.count = 0}), cadre::invalid_metric);
  r.gauge("c");  // the name is still free
}

TEST_CASE("the Prometheus text has HELP, TYPE, escaped labels and cumulative buckets") {
  cadre::metrics_registry r;
  r.gauge("queue_depth").set(-1.5);
  r.counter("done_total", "tasks \\ done\nso far", {{"name", "a \"b\"\\\n"}}).add(1234567);
  r.counter("done_total", "", {{"name", "b"}});
  cadre::histogram& h = r.histogram("seconds", "time", {{"op", "sum"}}, {.first = 0.25, .factor = 2, .count = 2});
  for (double v : {0.1, 0.3, 0.3, 9.0}) h.observe(v);
  CHECK(cadre::prometheus_text(r) ==
        "# HELP done_total tasks \\\\ done\\nso far\n"
        "# TYPE done_total counter\n"
        "done_total{name=\"a \\\"b\\\"\\\\\\n\"} 1234567\n"
        "done_total{name=\"b\"} 0\n"
        "# TYPE queue_depth gauge\n"
        "queue_depth -1.5\n"
        "# HELP seconds time\n"
        "# TYPE seconds histogram\n"
        "seconds_bucket{op=\"sum\",le=\"0.25\"} 1\n"
        "seconds_bucket{op=\"sum\",le=\"0.5\"} 3\n"
        "seconds_bucket{op=\"sum\",le=\"+Inf\"} 4\n"
        "seconds_sum{op=\"sum\"} 9.7\n"
        "seconds_count{op=\"sum\"} 4\n");
}

TEST_CASE("Prometheus spells numbers that are not finite its own way") {
  cadre::metrics_registry r;
  r.gauge("a").set(std::numeric_limits<double>::quiet_NaN());
  r.gauge("b").set(std::numeric_limits<double>::infinity());
  r.gauge("c").set(-std::numeric_limits<double>::infinity());
  CHECK(cadre::prometheus_text(r) == "# TYPE a gauge\na NaN\n# TYPE b gauge\nb +Inf\n# TYPE c gauge\nc -Inf\n");
}
