#include <cadre/cadre.hpp>
#include <cadre/eigen.hpp>
namespace train = cadre::train;

struct settings {
  double lr = 0.1;
  int epochs = 50;
};

void fit_line(train::context& ctx, const settings& cfg) {  // every worker runs this: y = 2x - 1 from 4,096 points
  train::parameters p{ctx.comm()};
  auto [w, gradient] = p.make<Eigen::VectorXf>("w", 2);  // reduced where it lies
  train::data_parallel ddp{ctx.comm(), p};
  train::sgd optimizer{p, {.lr = cfg.lr, .momentum = 0.9}};
  cadre::data::distributed_sampler sampler{4096, ctx, /*seed*/ 7};
  for (int epoch = 0; epoch < cfg.epochs; ++epoch) {
    sampler.set_epoch(epoch);
    for (const auto& batch : sampler.batches(64)) {
      auto step = ddp.begin();
      gradient.setZero();
      for (std::size_t i : batch) {
        const float x = float(i) / 4096, e = w[0] * x + w[1] - (2 * x - 1);
        gradient += Eigen::Vector2f{2 * e * x, 2 * e} / float(batch.size());
      }
      step.ready("w");
      step.finish();
      optimizer.step();
    }
    ctx.report({{"w0", w[0]}, {"w1", w[1]}});
  }
}

int main() {  // threads; .fit(world) with cadre::mpi::communicator world; for the ranks of mpirun
  auto result =
      train::trainer{fit_line, settings{}, train::scaling{.workers = 2}, train::run_options{.name = "line"}}.fit();
  std::printf("y = %.2f x + %.2f\n", result.metrics.at("w0"), result.metrics.at("w1"));
}
