#ifndef CADRE_EXAMPLES_FASHION_MNIST_TRAINING_HPP
#define CADRE_EXAMPLES_FASHION_MNIST_TRAINING_HPP

#include "config.hpp"
#include "dataset.hpp"
#include "model.hpp"

#include <cadre/train.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fashion {

/// Loss and hits over images first .. first + count - 1.
inline tally evaluate(perceptron& model, loader& batches, std::size_t first, std::size_t count) {
  constexpr std::size_t step = 500;
  tally sum;
  for (std::size_t at = first, end = first + count; at < end; at += step) {
    const auto batch = batches.load(at, std::min(step, end - at));
    model.forward(as_columns(batch));
    const tally t = model.criterion(batch.labels, 1.f);
    sum.loss += t.loss;
    sum.correct += t.correct;
  }
  return sum;
}

struct training {
  const images* train;
  const images* test;
  int epochs;
  std::uint64_t seed;
  /// The global batch is dealt in this many parts whose gradients are added as a binary tree; 0: one per worker. With 4
  /// parts the tree, and so every bit of the weights, is the same for 1, 2 and 4 workers: the collectives of cadre add
  /// ranks as a binary tree too.
  int parts = 0;

  /// What every worker runs.
  void operator()(cadre::train::context& ctx, const config& cfg) const {
    auto& comm = ctx.comm();
    cadre::train::parameters p{comm};
    perceptron model{p, cfg.width, seed};
    // Each image weighs 1 / (images of all workers), so the gradients are to be added, not averaged.
    cadre::train::data_parallel ddp{comm, p, {.average = false}};
    cadre::train::sgd optimizer{p, {.lr = cfg.lr, .momentum = momentum, .weight_decay = cfg.weight_decay}};

    int first_epoch = 0;
    if (auto c = ctx.checkpoint()) {
      (*c)("epoch", first_epoch);
      (*c)("parameters", p);
      (*c)("optimizer", optimizer);
    }

    const int all_parts = parts == 0 ? ctx.world_size() : parts;
    const int my_parts = all_parts / ctx.world_size();
    std::vector<cadre::data::distributed_sampler> samplers;
    for (int i = 0; i < my_parts; ++i)
      samplers.emplace_back(train->size(), cadre::data::shard{ctx.rank() * my_parts + i, all_parts}, seed);
    loader train_batches = train->batches(0, train->size()), test_batches = test->batches(0, test->size());
    const auto part_size = static_cast<std::size_t>(std::max(cfg.batch / all_parts, 1));
    const std::size_t steps = (samplers[0].size() + part_size - 1) / part_size;
    const auto lr = learning_rate(cfg, steps * static_cast<std::size_t>(epochs));

    for (int epoch = first_epoch; epoch < epochs; ++epoch) {
      const auto start = std::chrono::steady_clock::now();
      tally sum;
      std::vector<cadre::data::sampler_batches> dealt;
      for (auto& sampler : samplers) {
        sampler.set_epoch(epoch);
        dealt.push_back(sampler.batches(part_size));
      }
      std::vector<cadre::data::sampler_batches::iterator> next;
      for (auto& batches : dealt) next.push_back(batches.begin());

      for (std::size_t k = 0; k < steps; ++k) {
        auto step = ddp.begin();
        const auto gradient_of_part = [&](std::size_t part, auto&& ready) {
          const auto batch = train_batches.load(*next[part]);
          model.forward(as_columns(batch));
          const tally t = model.criterion(batch.labels,
                                          1.f / static_cast<float>(batch.size() * static_cast<std::size_t>(all_parts)));
          model.backward(as_columns(batch), ready);
          sum.loss += t.loss;
          sum.correct += t.correct;
          ++next[part];
        };
        if (my_parts == 1) {
          gradient_of_part(0, [&](const std::string& name) { step.ready(name); });
        } else {
          sum_as_tree(p, 0, samplers.size(),
                      [&](std::size_t part) { gradient_of_part(part, [](const std::string&) {}); });
          step.ready_all();
        }
        step.finish();
        optimizer.set_lr(lr(static_cast<std::size_t>(epoch) * steps + k));
        optimizer.step();
      }
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

      const std::size_t share = test->size() / static_cast<std::size_t>(ctx.world_size());
      const std::size_t from = share * static_cast<std::size_t>(ctx.rank());
      const tally test_sum =
          evaluate(model, test_batches, from, ctx.rank() + 1 == ctx.world_size() ? test->size() - from : share);
      std::vector<double> totals{sum.loss, sum.correct, test_sum.loss, test_sum.correct};
      comm.all_reduce(totals, cadre::sum);
      const auto seen = static_cast<double>(samplers[0].size() * static_cast<std::size_t>(all_parts));
      const auto tested = static_cast<double>(test->size());
      ctx.report({{"epoch", epoch + 1},
                  {"test_accuracy", totals[3] / tested},  // first, so that a narrow terminal shows it
                  {"test_loss", totals[2] / tested},
                  {"accuracy", totals[1] / seen},
                  {"loss", totals[0] / seen},
                  {"images_per_second", seen / seconds}},
                 [&](cadre::train::checkpoint_writer& w) {
                   w("epoch", epoch + 1);
                   w("parameters", p);
                   w("optimizer", optimizer);
                 });
    }
  }

 private:
  /// Leaves in the gradients the sum over parts first .. first + count - 1: ((0 + 1) + (2 + 3)) for four.
  template <class GradientOfPart>
  static void sum_as_tree(cadre::train::parameters& p, std::size_t first, std::size_t count,
                          const GradientOfPart& gradient_of_part) {
    if (count == 1) return gradient_of_part(first);
    sum_as_tree(p, first, count / 2, gradient_of_part);
    const std::vector<float> left = gradients_of(p);
    sum_as_tree(p, first + count / 2, count - count / 2, gradient_of_part);
    std::size_t at = 0;
    for (const auto& entry : p)
      for (float& g : entry.template gradients<float>()) g = left[at++] + g;
  }

  static std::vector<float> gradients_of(cadre::train::parameters& p) {
    std::vector<float> all;
    for (const auto& entry : p) {
      const auto g = entry.template gradients<float>();
      all.insert(all.end(), g.begin(), g.end());
    }
    return all;
  }
};

}  // namespace fashion

#endif
