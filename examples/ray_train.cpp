// The samples of Ray's tutorial on training, beside which docs/from-ray.md shows them: y = 2x - 1 from 4,096 points.
#include <cadre/cadre.hpp>
#include <cadre/eigen.hpp>

#include <cstdio>
#include <filesystem>

struct settings {
  double lr = 0.05;
  int epochs = 10;
};

void train_func(cadre::train::context& ctx, const settings& cfg) {
  Eigen::VectorXf w = Eigen::VectorXf::Zero(2), gradient = Eigen::VectorXf::Zero(2);
  cadre::train::parameters p;
  p.add("w", w, gradient);
  cadre::train::data_parallel ddp{ctx.comm(), p};
  cadre::train::adamw optimizer{p, {.lr = cfg.lr, .weight_decay = 0}};
  cadre::data::distributed_sampler sampler{4096, ctx, /*seed*/ 7};

  int first = 0;
  if (auto c = ctx.checkpoint()) (*c)("epoch", first)("model", w)("optimizer", optimizer);
  for (int epoch = first; epoch < cfg.epochs; ++epoch) {
    double loss = 0;
    sampler.set_epoch(epoch);
    for (const auto& batch : sampler.batches(64)) {
      auto step = ddp.begin();
      gradient.setZero();
      for (std::size_t i : batch) {
        const float x = float(i) / 4096, error = w[0] * x + w[1] - (2 * x - 1);
        gradient += Eigen::Vector2f{2 * error * x, 2 * error} / float(batch.size());
        loss += error * error / 4096;
      }
      step.ready("w");
      step.finish();
      optimizer.step();
    }
    loss = ctx.comm().all_reduce(loss, cadre::sum);
    ctx.report({{"loss", loss}},
               [&](cadre::train::checkpoint_writer& c) { c("epoch", epoch + 1)("model", w)("optimizer", optimizer); });
  }
}

int main() {
  const auto storage = std::filesystem::temp_directory_path() / "cadre_ray_train";
  std::filesystem::remove_all(storage);  // or .resume = true below, to go on where an earlier run ended

  cadre::train::trainer trainer{train_func, settings{.epochs = 30}, cadre::train::scaling{.workers = 4},
                                cadre::train::run_options{.name = "line",
                                                          .storage = storage.string(),
                                                          .checkpoint = {.num_to_keep = 3},
                                                          .failure = {.max_failures = 3}}};
  auto result = trainer.fit();
  std::printf("%zu reports, loss below 0.001: %s\n", result.history.size(),
              result.metrics.at("loss") < 0.001 ? "yes" : "no");

  Eigen::VectorXf w;
  (*result.checkpoint())("model", w);
  std::printf("y = %.1f x + %.1f, %zu checkpoints\n", w[0], w[1], result.checkpoints.size());
}
