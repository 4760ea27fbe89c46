#include "catch.hpp"

#include <cadre/comm/local_team.hpp>
#include <cadre/train/metrics.hpp>

#include <array>
#include <atomic>
#include <cmath>
#include <string>

namespace train_metrics {

namespace train = cadre::train;

TEST_CASE("means over ranks weigh each rank by what it has seen") {
  for (int ranks : {1, 2, 3, 4}) {
    cadre::local_team team{ranks};
    const auto all = team.run([](cadre::local_communicator& comm) {
      const double n = comm.rank() + 1;
      return train::aggregate(comm, {{"loss", 2 * n * n, n}, {"accuracy", n, 4}, {"none", 0, 0}});
    });
    double loss = 0, accuracy = 0, weight = 0;
    for (int r = 1; r <= ranks; ++r) loss += 2.0 * r * r, accuracy += r, weight += r;
    for (const cadre::metric_map& m : all) {
      CHECK(m.size() == 3);
      CHECK(m.at("loss") == Approx(loss / weight));
      CHECK(m.at("accuracy") == Approx(accuracy / (4 * ranks)));
      CHECK(std::isnan(m.at("none")));
    }
  }
}

TEST_CASE("ranks that aggregate other names all get an error") {
  std::atomic<int> errors{0};
  cadre::local_team team{3};
  team.run([&](cadre::local_communicator& comm) {
    try {
      (void)train::aggregate(comm, {{comm.rank() == 2 ? "acc" : "loss", 1, 1}});
    } catch (const train::metrics_disagree& e) {
      if (std::string(e.what()).find("[cadre.train.813] ranks aggregate metrics of other names") == 0) ++errors;
    }
  });
  CHECK(errors == 3);
}

}  // namespace train_metrics
