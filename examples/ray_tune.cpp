// The samples of Ray's tutorial on tuning, beside which docs/from-ray.md shows them.
#include <cadre/cadre.hpp>

#include <cmath>
#include <cstdio>
namespace tune = cadre::tune;

struct config {
  double lr;
  int width;
};

void trainable(tune::trial<config>& trial) {
  int epoch = 0;
  if (auto c = trial.checkpoint()) (*c)("epoch", epoch);
  double loss = 0;
  do {
    ++epoch;
    loss = std::abs(std::log10(trial.config().lr) + 2) + 1.0 / epoch;  // a stand-in for a learning curve
  } while (trial.report({{"loss", loss}}, [&](auto& c) { c("epoch", epoch); }));
}

int main() {
  cadre::thread_pool pool;
  auto space = tune::space<config>()
                   .add("lr", &config::lr, tune::loguniform(1e-5, 1e-1))
                   .add("width", &config::width, tune::choice({64, 128, 256}));
  tune::tuner tuner{space,
                    {.metric = "loss", .mode = cadre::minimize, .trials = 50, .seed = 1},
                    tune::random_search{},
                    tune::asha{.max_t = 9, .reduction_factor = 3, .type = tune::stopping}};
  auto results = tuner.run(pool, trainable);
  std::printf("%zu trials, best loss below 0.3: %s\n", results.size(),
              results.best().metrics.at("loss") < 0.3 ? "yes" : "no");

  auto grid = tune::space<config>()
                  .add("lr", &config::lr, tune::choice({0.001, 0.01, 0.1}))
                  .add("width", &config::width, tune::choice({64, 256}));
  tune::tuner exhaustive{grid,
                         {.metric = "loss", .mode = cadre::minimize, .trials = 6, .stop = tune::max_iterations(3)},
                         tune::grid_search{}};
  auto points = exhaustive.run(pool, trainable);
  std::printf("%zu points, best lr %g\n", points.size(), points.best().config.lr);
}
