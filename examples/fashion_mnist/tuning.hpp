#ifndef CADRE_EXAMPLES_FASHION_MNIST_TUNING_HPP
#define CADRE_EXAMPLES_FASHION_MNIST_TUNING_HPP

#include "config.hpp"
#include "dataset.hpp"
#include "model.hpp"
#include "options.hpp"
#include "training.hpp"

#include <cadre/async.hpp>
#include <cadre/tune.hpp>

#include <cstddef>
#include <cstdio>
#include <string>

namespace fashion {

inline constexpr std::size_t held_out = 10000;  // the last training images, which trials are judged by
inline constexpr int tuning_epochs = 9;
inline constexpr std::size_t tuning_slots = 4;  // fixed, so that the choice depends on the seed alone

/// One trial: a training by one thread on the images that are not held out, judged after every epoch.
inline void run_trial(cadre::tune::trial<config>& trial, const images& train, std::uint64_t seed) {
  const config& cfg = trial.config();
  const std::size_t count = train.size() - held_out;
  cadre::train::parameters p;
  perceptron model{p, cfg.width, seed};
  cadre::train::sgd optimizer{p, {.lr = cfg.lr, .momentum = momentum, .weight_decay = cfg.weight_decay}};
  int epoch = 0;
  if (auto c = trial.checkpoint()) {
    (*c)("epoch", epoch);
    (*c)("parameters", p);
    (*c)("optimizer", optimizer);
  }
  const auto batch_size = static_cast<std::size_t>(cfg.batch);
  const std::size_t steps = (count + batch_size - 1) / batch_size;
  const auto lr = learning_rate(cfg, steps * tuning_epochs);
  cadre::data::distributed_sampler sampler{count, cadre::data::shard{0, 1}, seed};
  loader seen = train.batches(0, count), unseen = train.batches(count, held_out);
  tally judged;
  do {
    sampler.set_epoch(epoch);
    std::size_t step = static_cast<std::size_t>(epoch) * steps;
    for (const auto& indices : sampler.batches(batch_size)) {
      const auto batch = seen.load(indices);
      model.forward(as_columns(batch));
      model.criterion(batch.labels, 1.f / static_cast<float>(batch.size()));
      model.backward(as_columns(batch), [](const std::string&) {});
      optimizer.set_lr(lr(step++));
      optimizer.step();
    }
    ++epoch;
    judged = evaluate(model, unseen, 0, held_out);
  } while (trial.report(
      {{"val_accuracy", judged.correct / held_out}, {"val_loss", judged.loss / held_out}, {"epoch", epoch}},
      [&](cadre::checkpoint_writer& w) {
        w("epoch", epoch);
        w("parameters", p);
        w("optimizer", optimizer);
      }));
}

/// The best configuration; prints the table of trials. With o.resume a tuning that has finished is only read.
inline config tune_on(const images& train, const options& o) {
  namespace tune = cadre::tune;
  cadre::thread_pool pool{{.threads = tuning_slots}};
  tune::tuner tuner{search_space(),
                    {.metric = "val_accuracy",
                     .mode = cadre::maximize,
                     .trials = static_cast<std::size_t>(o.trials),
                     .max_concurrent = tuning_slots,
                     .seed = o.seed,
                     .storage = o.run_dir + "/tune",
                     .resume = o.resume,
                     .progress = true,
                     .deterministic = true},
                    tune::random_search{},
                    tune::asha{.max_t = tuning_epochs, .grace_period = 1, .reduction_factor = 3}};
  const auto results = tuner.run(pool, [&](tune::trial<config>& trial) { run_trial(trial, train, o.seed); });
  std::printf("%s\n", results.table().c_str());
  std::fflush(stdout);  // before the training's lines on stderr, where both go to one file
  return results.best().config;
}

}  // namespace fashion

#endif
