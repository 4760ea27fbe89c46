// The main job's training step (784-256-128-10, batch 128 per worker, momentum SGD): images per second with one worker
// and with two, beside a plain Eigen loop on one thread that has neither softmax nor library around it, and beside
// PyTorch with DistributedDataParallel over Gloo.
#include "../examples/fashion_mnist/model.hpp"
#include "child.hpp"
#include "harness.hpp"

#include <cadre/comm.hpp>
#include <cadre/train.hpp>

#include <chrono>
#include <cstdint>
#include <vector>

namespace {

using namespace std::chrono_literals;

constexpr int batch = 128, steps = 100, width = 256;

Eigen::MatrixXf random_images() { return Eigen::MatrixXf::Random(fashion::pixels, batch).cwiseAbs(); }

/// Forward, backward and update without a loss: the products that nobody can do without.
double plain_eigen() {
  Eigen::MatrixXf x = random_images(), w[3], d[3], m[3], a[4], z[3];
  const int sizes[] = {fashion::pixels, width, fashion::hidden2, fashion::classes};
  for (int l = 0; l < 3; ++l) {
    w[l] = 0.05f * Eigen::MatrixXf::Random(sizes[l + 1], sizes[l]);
    m[l] = d[l] = Eigen::MatrixXf::Zero(sizes[l + 1], sizes[l]);
  }
  a[0] = x;
  const double start = benchmark::seconds();
  for (int s = 0; s < steps; ++s) {
    for (int l = 0; l < 3; ++l) {
      a[l + 1].noalias() = w[l] * a[l];
      if (l < 2) a[l + 1] = a[l + 1].cwiseMax(0.f);
    }
    z[2] = a[3] * (1.f / batch);
    for (int l = 2; l >= 0; --l) {
      d[l].noalias() = z[l] * a[l].transpose();
      if (l > 0) {
        z[l - 1].noalias() = w[l].transpose() * z[l];
        z[l - 1] = (a[l].array() > 0.f).select(z[l - 1], 0.f);
      }
    }
    for (int l = 0; l < 3; ++l) {
      m[l] = 0.9f * m[l] + d[l];
      w[l] -= 1e-4f * m[l];
    }
  }
  return steps * batch / (benchmark::seconds() - start);
}

/// What two processors can do when nothing has to be averaged.
double two_plain_loops() {
  std::vector<double> rates = cadre::local_team{2}.run([](cadre::local_communicator& comm) {
    comm.barrier();
    return plain_eigen();
  });
  return rates[0] + rates[1];
}

double cadre_step(int workers) {
  std::vector<double> rates = cadre::local_team{workers}.run([](cadre::local_communicator& comm) {
    cadre::train::parameters p{comm};
    fashion::perceptron model{p, width, 1};
    cadre::train::data_parallel ddp{comm, p};
    cadre::train::sgd optimizer{p, {.lr = 1e-4, .momentum = 0.9}};
    const Eigen::MatrixXf x = random_images();
    std::vector<std::uint8_t> labels(batch);
    for (int i = 0; i < batch; ++i)
      labels[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(i % fashion::classes);
    comm.barrier();
    const double start = benchmark::seconds();
    for (int s = 0; s < steps; ++s) {
      auto step = ddp.begin();
      model.forward(x);
      model.criterion(labels, 1.f / batch);
      model.backward(x, [&](const std::string& name) { step.ready(name); });
      step.finish();
      optimizer.step();
    }
    comm.barrier();
    return comm.world_size() * steps * batch / (benchmark::seconds() - start);
  });
  return rates[0];
}

}  // namespace

int main() {
  Eigen::setNbThreads(1);
  const auto torch = [](const char* workers, benchmark::target goal) {
    return benchmark::in_child({"/usr/bin/python3", CADRE_BENCHMARKS "/train_step_torch.py", workers}, 60s, goal);
  };
  benchmark::print_head();
  benchmark::measure("training step, 1 worker", "images/s", 15,
                     {{"cadre", [] { return cadre_step(1); }},
                      {"plain Eigen loop, 1 thread", plain_eigen, benchmark::at_least(0.9)},
                      torch("1", {})});
  benchmark::measure("training step, 2 workers", "images/s", 15,
                     {{"cadre, threads", [] { return cadre_step(2); }},
                      {"2 plain Eigen loops at once", two_plain_loops},
                      torch("2", benchmark::at_least(2))});
}
