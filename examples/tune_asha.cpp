#include <cadre/cadre.hpp>

#include <cmath>
#include <cstdio>
namespace tune = cadre::tune;

struct config {
  double lr;
  int width;
};

int main() {
  auto space = tune::space<config>()
                   .add("lr", &config::lr, tune::loguniform(1e-5, 1e-1))
                   .add("width", &config::width, tune::choice({64, 128, 256}));
  tune::tuner tuner{space,
                    {.metric = "loss", .mode = cadre::minimize, .trials = 50, .seed = 1},
                    tune::random_search{},
                    tune::asha{.max_t = 9, .reduction_factor = 3}};
  cadre::thread_pool pool;
  auto results = tuner.run(pool, [](tune::trial<config>& trial) {
    int epoch = 0;
    if (auto c = trial.checkpoint()) (*c)("epoch", epoch);  // a promoted trial goes on where it paused
    double loss;
    do {
      ++epoch;
      loss = std::abs(std::log10(trial.config().lr) + 2) + 1.0 / epoch;
    } while (trial.report({{"loss", loss}}, [&](auto& w) { w("epoch", epoch); }));
  });
  std::printf("%s\nbest lr %g\n", results.table().c_str(), results.best().config.lr);
}
