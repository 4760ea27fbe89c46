// The NCCL communicator with as many ranks, threads of one process, as there are GPUs: one is enough.

#include "check.hpp"

#include <cadre/comm/any_communicator.hpp>
#include <cadre/comm/local_team.hpp>
#include <cadre/cuda.hpp>
#include <cadre/nccl.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace cuda = cadre::cuda;
using namespace std::chrono_literals;

template <class Body>
void on_every_gpu(Body body) {
  cadre::local_team team{cuda::device_count()};
  team.run([&](cadre::local_communicator& world) {
    cadre::nccl::communicator gpus(world, {.timeout = 60s});
    const cuda::device_guard guard(gpus.device());
    body(world, gpus);
  });
}

template <class T>
std::vector<T> fetch(cadre::nccl::communicator& gpus, cuda::device_span<const T> from) {
  std::vector<T> host(from.size());
  cuda::copy(from, host, gpus.stream());
  gpus.synchronize();
  return host;
}

template <class T>
cuda::buffer<T> send(cadre::nccl::communicator& gpus, const std::vector<T>& host) {
  cuda::buffer<T> made(host.size());
  cuda::copy(host, made, gpus.stream());
  gpus.synchronize();
  return made;
}

void identity() {
  on_every_gpu([](cadre::local_communicator& world, cadre::nccl::communicator& gpus) {
    check::that(gpus.rank() == world.rank() && gpus.world_size() == world.world_size(),
                "another rank than the world's");
    check::that(gpus.device() == world.rank() && gpus.backend() == "nccl", "another device");
    gpus.barrier();
    gpus.barrier(5s);
  });
}

void reductions() {
  on_every_gpu([](cadre::local_communicator&, cadre::nccl::communicator& gpus) {
    const int n = gpus.world_size();
    const std::vector<float> mine(1000, static_cast<float>(gpus.rank() + 1));
    const auto reduce = [&](cadre::reduce_op op) {
      auto data = send(gpus, mine);
      gpus.all_reduce(data, op);
      return fetch<float>(gpus, std::as_const(data).span()).back();
    };
    float product = 1;
    for (int r = 1; r <= n; ++r) product *= static_cast<float>(r);
    check::that(reduce(cadre::sum) == static_cast<float>(n * (n + 1) / 2), "sum");
    check::that(reduce(cadre::product) == product, "product");
    check::that(reduce(cadre::min) == 1.0f && reduce(cadre::max) == static_cast<float>(n), "min and max");
  });
}

void moves_between_ranks() {
  on_every_gpu([](cadre::local_communicator&, cadre::nccl::communicator& gpus) {
    const auto n = static_cast<std::size_t>(gpus.world_size());
    const auto part = send(gpus, std::vector<std::int64_t>(3, gpus.rank()));
    cuda::buffer<std::int64_t> all(3 * n);
    gpus.all_gather(part, all);
    std::vector<std::int64_t> expected;
    for (std::size_t r = 0; r < n; ++r) expected.insert(expected.end(), 3, static_cast<std::int64_t>(r));
    check::that(fetch<std::int64_t>(gpus, std::as_const(all).span()) == expected, "all_gather");

    cuda::buffer<std::int64_t> mine(3);
    gpus.reduce_scatter(all, mine, cadre::sum);
    check::that(fetch<std::int64_t>(gpus, std::as_const(mine).span()) ==
                    std::vector<std::int64_t>(3, static_cast<std::int64_t>(n) * gpus.rank()),
                "reduce_scatter");

    auto from_last = send(gpus, std::vector<std::int64_t>(5, gpus.rank()));
    gpus.broadcast(from_last, gpus.world_size() - 1);
    check::that(fetch<std::int64_t>(gpus, std::as_const(from_last).span()).front() == gpus.world_size() - 1,
                "broadcast");
    check::throws<cadre::collective_argument_error>(405, "there is no rank 99", [&] { gpus.broadcast(from_last, 99); });
    check::throws<cadre::collective_argument_error>(405, "all_gather", [&] { gpus.all_gather(from_last, mine); });
    // Whose bytes, counted in a std::size_t, are none at all.
    const std::size_t too_many = std::size_t{1} << 61;
    const cuda::device_span<std::int64_t> absurd(mine.data(), too_many);
    check::throws<cadre::collective_argument_error>(405, "all_reduce: 2305843009213693952 elements of 8 bytes",
                                                    [&] { gpus.all_reduce(absurd, cadre::sum); });
    check::throws<cadre::collective_argument_error>(405, "reduce_scatter: 2305843009213693952 elements", [&] {
      gpus.reduce_scatter_bytes(all.data(), mine.data(), too_many, cadre::data_type::int64, cadre::sum);
    });
    if (n > 1)
      check::throws<cadre::collective_argument_error>(405, "all_gather: 18446744073709551615 elements", [&] {
        gpus.all_gather_bytes(mine.data(), all.data(), std::numeric_limits<std::size_t>::max());
      });
    gpus.barrier();
  });
}

void allocated_memory() {
  on_every_gpu([](cadre::local_communicator&, cadre::nccl::communicator& gpus) {
    auto memory = gpus.allocate<float>(1000);
    const cuda::device_span<float> span(memory.data(), memory.size());
    check::that(fetch<float>(gpus, span) == std::vector<float>(1000, 0.0f), "not zeroed");
    gpus.all_reduce(memory, cadre::sum);
    cadre::any_communicator any(gpus);
    any.all_reduce(span, cadre::max);
    gpus.synchronize();
    check::that(gpus.allocate<float>(0).empty(), "an empty buffer");
  });
}

void wrong_memory() {
  on_every_gpu([](cadre::local_communicator& world, cadre::nccl::communicator& gpus) {
    std::vector<float> host(10);
    check::throws<cadre::nccl::nccl_error>(1304, "all_reduce on rank " + std::to_string(gpus.rank()),
                                           [&] { gpus.all_reduce(host, cadre::sum); });
    check::throws<cadre::nccl::nccl_error>(1304, "host memory",
                                           [&] { static_cast<void>(gpus.all_reduce(1.0, cadre::sum)); });
    cuda::buffer<int> bits(10);
    check::throws<cadre::collective_argument_error>(404, "NCCL has no bit_and",
                                                    [&] { gpus.all_reduce(bits, cadre::bit_and); });
    gpus.all_reduce(bits, cadre::max);  // still usable
    gpus.barrier();
    check::that(world.all_reduce(1, cadre::sum) == gpus.world_size(), "the world works beside it");
  });
}

void children() {
  on_every_gpu([](cadre::local_communicator&, cadre::nccl::communicator& gpus) {
    auto reversed = gpus.split(0, -gpus.rank());
    check::that(reversed.world_size() == gpus.world_size() && reversed.rank() == gpus.world_size() - 1 - gpus.rank(),
                "order by key");
    auto alone = gpus.split(-1, 0);
    check::that(alone.world_size() == 1 && alone.rank() == 0, "a negative color is alone");
    auto data = send(gpus, std::vector<float>(10, 2.0f));
    reversed.all_reduce(data, cadre::sum);
    reversed.synchronize();
    check::that(fetch<float>(gpus, std::as_const(data).span()).front() == 2.0f * static_cast<float>(gpus.world_size()),
                "a child's sum");
    alone.abort("not needed");
    check::throws<cadre::communicator_aborted>(402, "not needed", [&] { alone.all_reduce(data, cadre::sum); });
    gpus.all_reduce(data, cadre::sum);  // the parent works on
    gpus.barrier();
  });
}

void aborted() {
  on_every_gpu([](cadre::local_communicator& world, cadre::nccl::communicator& gpus) {
    cuda::buffer<float> data(10);
    gpus.abort("rank 7 diverged");
    check::throws<cadre::communicator_aborted>(402, "rank 7 diverged", [&] { gpus.all_reduce(data, cadre::sum); });
    check::throws<cadre::communicator_aborted>(402, "rank 7 diverged", [&] { gpus.barrier(); });
    check::throws<cadre::communicator_aborted>(402, "rank 7 diverged", [&] { gpus.synchronize(); });
    world.barrier();
  });
}

// Rank 0 calls what nobody else does; alone it would succeed, so this needs two GPUs.
void absent_peers() {
  if (cuda::device_count() < 2) return;
  on_every_gpu([](cadre::local_communicator& world, cadre::nccl::communicator& gpus) {
    cuda::buffer<float> data(10);
    if (gpus.rank() == 0) {
      gpus.all_reduce(data, cadre::sum);
      check::throws<cadre::communicator_timeout>(401, "the last one all_reduce of 40 bytes",
                                                 [&] { gpus.synchronize(50ms); });
      check::throws<cadre::communicator_aborted>(402, "waited in vain at ", [&] { gpus.barrier(); });
    }
    world.barrier();
    gpus.abort("the test is over");  // the others need not wait for a rank that has left
  });
  on_every_gpu([](cadre::local_communicator& world, cadre::nccl::communicator& gpus) {
    cuda::buffer<float> data(10);
    if (gpus.rank() == 0) {
      gpus.all_reduce(data, cadre::sum);
      std::thread other([&] { gpus.abort("the user stopped it"); });
      check::throws<cadre::communicator_aborted>(402, "the user stopped it", [&] { gpus.synchronize(); });
      other.join();
    }
    world.barrier();
    gpus.abort("the test is over");  // the others need not wait for a rank that has left
  });
}

void shared_device() {
  cadre::local_team team{2};
  team.run([](cadre::local_communicator& world) {
    check::throws<cadre::nccl::nccl_error>(1303, "have the same GPU (device 0)",
                                           [&] { cadre::nccl::communicator gpus(world, {.device = 0}); });
    world.barrier();
  });
}

}  // namespace

int main() {
  if (!check::gpu_present()) return check::skipped;
  bool good = true;
  good &= check::holds("A rank keeps its number, and its place on the node decides its GPU", identity);
  good &= check::holds("Sum, product, min and max reduce device memory", reductions);
  good &= check::holds("all_gather, reduce_scatter and broadcast move device memory", moves_between_ranks);
  good &= check::holds("Allocated memory is zeroed and is reduced behind any_communicator as well", allocated_memory);
  good &= check::holds("Host memory and operations on bits are refused, and nothing breaks", wrong_memory);
  good &= check::holds("Children are ordered by key and break alone", children);
  good &= check::holds("After an abort every call gives the reason", aborted);
  good &= check::holds("Peers that do not come are error 401 in time, and abort ends a wait from another thread",
                       absent_peers);
  good &= check::holds("Two ranks on one GPU are refused on both", shared_device);
  return good ? 0 : 1;
}
