#include "catch.hpp"

#include <cadre/core/metric_map.hpp>

#include <string>
#include <vector>

namespace metric_map_test {

TEST_CASE("Metrics keep the order in which they were given, and the last value of a name") {
  cadre::metric_map m{{"val_loss", 0.5}, {"epoch", 3}, {"val_loss", 0.25}};
  CHECK(m.size() == 2);
  CHECK(m.at("val_loss") == 0.25);
  m.set("accuracy", 0.9);
  std::vector<std::string> names;
  for (const cadre::metric& metric : m) names.push_back(metric.name);
  CHECK(names == std::vector<std::string>{"val_loss", "epoch", "accuracy"});
  CHECK(m == cadre::metric_map{{"val_loss", 0.25}, {"epoch", 3.f}, {"accuracy", 0.9}});
  CHECK(m.contains("epoch"));
  CHECK(m.find("loss") == nullptr);
  CHECK(cadre::metric_map{}.empty());
}

TEST_CASE("A metric that was not reported is an error that names those that were") {
  CHECK_THROWS_WITH((cadre::metric_map{{"val_loss", 0.5}, {"epoch", 3}}.at("loss")),
                    "[cadre.core.101] no metric 'loss' was reported; there are: 'val_loss' 'epoch'");
  CHECK_THROWS_WITH(cadre::metric_map{}.at("loss"), "[cadre.core.101] no metric 'loss' was reported; there is none");
}

}  // namespace metric_map_test
