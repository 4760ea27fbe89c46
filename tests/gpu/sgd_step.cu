// A training step on two streams: gradients are reduced on the communicator's stream while the other computes, and a
// fused kernel of the user's takes the step. No Eigen here: nvcc compiles this file.

#include "check.hpp"

#include <cadre/comm/local_team.hpp>
#include <cadre/cuda.hpp>
#include <cadre/nccl.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

namespace {

constexpr unsigned threads = 256;

unsigned blocks(std::size_t n) { return static_cast<unsigned>((n + threads - 1) / threads); }

// The gradient of 0.5 * |w - target|^2.
__global__ void gradient(const float* weight, float target, float* out, std::size_t n) {
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) out[i] = weight[i] - target;
}

// Momentum SGD, one pass: m = momentum * m + scale * g; w -= lr * m. `scale` is 1 / world_size of the reduced sum.
__global__ void sgd_step(float* weight, const float* gradient, float* momentum, float lr, float decay, float scale,
                         std::size_t n) {
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  momentum[i] = fmaf(decay, momentum[i], scale * gradient[i]);
  weight[i] = fmaf(-lr, momentum[i], weight[i]);
}

void steps_match_the_host() {
  constexpr std::size_t n = 100003;  // no multiple of a block
  constexpr float lr = 0.1f, decay = 0.9f;
  cadre::local_team team{1};
  team.run([&](cadre::local_communicator& world) {
    cadre::nccl::communicator gpus{world};
    const cadre::cuda::device_guard guard(gpus.device());
    cadre::cuda::stream compute;
    cadre::cuda::buffer<float> weight(n), momentum(n);
    auto reduced = gpus.allocate<float>(n);
    cadre::cuda::device_span<float> gradients(reduced.data(), n);

    std::vector<float> w(n), m(n, 0.0f);
    for (std::size_t i = 0; i < n; ++i) w[i] = static_cast<float>(i % 97) / 7.0f;
    cadre::cuda::copy(w, weight, compute);
    cadre::cuda::copy(m, momentum, compute);

    for (int step = 0; step < 20; ++step) {
      gradient<<<blocks(n), threads, 0, compute.get()>>>(weight.data(), 3.0f, gradients.data(), n);
      cadre::cuda::check_launch("gradient");
      gpus.stream().wait(compute);
      gpus.all_reduce(gradients, cadre::sum);
      compute.wait(gpus.stream());
      sgd_step<<<blocks(n), threads, 0, compute.get()>>>(weight.data(), gradients.data(), momentum.data(), lr, decay,
                                                         1.0f / static_cast<float>(gpus.world_size()), n);
      cadre::cuda::check_launch("sgd_step");
      for (std::size_t i = 0; i < n; ++i) {
        m[i] = std::fma(decay, m[i], w[i] - 3.0f);
        w[i] = std::fma(-lr, m[i], w[i]);
      }
    }
    std::vector<float> got(n);
    cadre::cuda::copy(weight, got, compute);
    compute.synchronize();
    check::that(got == w, "the device's weights are not the host's, bit by bit");
  });
}

void bad_launches_are_named() {
  cadre::cuda::buffer<float> b(1);
  gradient<<<1, 5000>>>(b.data(), 0.0f, b.data(), 1);
  check::throws<cadre::cuda::cuda_error>(1201, "launch of gradient failed: cudaErrorInvalid",
                                         [] { cadre::cuda::check_launch("gradient"); });
  cadre::cuda::check_launch("nothing");  // the error was taken
}

}  // namespace

int main() {
  if (!check::gpu_present()) return check::skipped;
  bool good = true;
  good &= check::holds("Twenty steps of momentum SGD on two streams give the host's weights bit by bit",
                       steps_match_the_host);
  good &= check::holds("A kernel that cannot start is an error with its name", bad_launches_are_named);
  return good ? 0 : 1;
}
