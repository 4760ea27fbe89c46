#ifndef CADRE_EXAMPLES_FASHION_MNIST_CONFIG_HPP
#define CADRE_EXAMPLES_FASHION_MNIST_CONFIG_HPP

#include <cadre/train.hpp>
#include <cadre/tune.hpp>

#include <algorithm>
#include <cstddef>

namespace fashion {

/// What the tuner chooses. The batch is that of all workers together, so that the choice fits any number of them.
struct config {
  double lr = 0.1;
  double weight_decay = 1e-4;
  int width = 256;
  int batch = 128;
};

inline constexpr double momentum = 0.9;

/// The learning rate of each step: a short warm-up, then half a cosine down to 0 (Loshchilov and Hutter, 2017).
inline auto learning_rate(const config& cfg, std::size_t steps) {
  const std::size_t rise = std::max<std::size_t>(steps / 20, 1), fall = std::max<std::size_t>(steps - rise, 1);
  return [base = cfg.lr, factor = cadre::train::warm_up(rise, cadre::train::cosine(fall))](std::size_t step) {
    return base * factor(step);
  };
}

inline auto search_space() {
  namespace tune = cadre::tune;
  return tune::space<config>()
      .add("lr", &config::lr, tune::loguniform(0.02, 0.3))
      .add("width", &config::width, tune::choice({128, 256, 512}))
      .add("batch", &config::batch, tune::choice({64, 128, 256}))
      .add("weight_decay", &config::weight_decay, tune::loguniform(1e-5, 1e-3));
}

}  // namespace fashion

#endif
