// What must hold where no GPU is, and where one is as well: numbered errors with a reason, and no waiting rank.

#include "check.hpp"

#include <cadre/comm/local_team.hpp>
#include <cadre/cuda.hpp>
#include <cadre/nccl.hpp>

#include <chrono>
#include <cstddef>
#include <limits>
#include <ranges>
#include <source_location>
#include <span>
#include <type_traits>
#include <vector>

namespace {

using cadre::cuda::cuda_error;
using cadre::nccl::nccl_error;

void versions() {
  check::that(cadre::nccl::version() >= 21900, "NCCL is older than 2.19");
  check::that(cadre::cuda::device_count() >= 0, "a negative number of devices");
}

void no_such_device() {
  check::throws<cuda_error>(
      1202, cadre::cuda::device_count() == 0 ? "no CUDA device can be used: cudaError" : "there is no CUDA device 4711",
      [] { cadre::cuda::stream s(4711); });
  check::throws<cuda_error>(1202, "CUDA_VISIBLE_DEVICES", [] { cadre::cuda::device_guard g(-1); });
}

void failed_calls() {
  check::throws<cuda_error>(1201, "cudaSetDevice failed: cudaError",
                            [] { cadre::cuda::check(::cudaSetDevice(4711), "cudaSetDevice"); });
  check::throws<cuda_error>(1201,
                            "without_gpu.cpp:", [] { cadre::cuda::check(cudaErrorMemoryAllocation, "cudaMalloc"); });
  try {
    cadre::cuda::check(cudaErrorMemoryAllocation, "cudaMalloc");
  } catch (const cuda_error& e) {
    check::that(e.code() == cudaErrorMemoryAllocation, "the code is lost");
  }
  check::that(::cudaGetLastError() == cudaSuccess || cadre::cuda::device_count() == 0, "the error is still there");
}

void sizes() {
  check::throws<cuda_error>(1203, "more than can be addressed",
                            [] { cadre::cuda::buffer<double> b(std::numeric_limits<std::size_t>::max() / 4); });
  const cadre::cuda::buffer<double> none(0);
  check::that(none.empty() && none.data() == nullptr, "an empty buffer has memory");
}

void host_code_cannot_touch() {
  using span = cadre::cuda::device_span<float>;
  static_assert(cadre::contiguous<span> && cadre::contiguous<cadre::cuda::buffer<float>>);
  static_assert(!std::ranges::range<span> && !std::ranges::range<cadre::cuda::buffer<float>>);
  static_assert(!std::is_convertible_v<span, std::span<float>>);
  static_assert(std::is_convertible_v<span, cadre::cuda::device_span<const float>>);
  static_assert(!std::is_convertible_v<cadre::cuda::device_span<const float>, span>);
  static_assert(!std::is_copy_constructible_v<cadre::cuda::buffer<float>> &&
                std::is_nothrow_move_constructible_v<cadre::cuda::stream>);
  float* address = reinterpret_cast<float*>(256);
  const span all(address, 100), part = all.subspan(10, 20);
  check::that(part.data() == address + 10 && part.size() == 20 && part.size_bytes() == 80, "subspan");
}

void names() {
  using cadre::nccl::detail::native;
  check::that(native(cadre::sum) == ncclSum && native(cadre::product) == ncclProd && native(cadre::min) == ncclMin &&
                  native(cadre::max) == ncclMax,
              "operations");
  check::that(native(cadre::data_type::int8) == ncclInt8 && native(cadre::data_type::uint64) == ncclUint64 &&
                  native(cadre::data_type::float32) == ncclFloat32 && native(cadre::data_type::float64) == ncclFloat64,
              "types");
  check::throws<cadre::collective_argument_error>(404, "NCCL has no bit_or",
                                                  [] { static_cast<void>(native(cadre::bit_or)); });
  check::throws<cadre::collective_argument_error>(404, "elements of uint16",
                                                  [] { static_cast<void>(native(cadre::data_type::uint16)); });
}

void every_rank_is_told() {
  cadre::local_team team{3};
  std::vector<int> told(3);
  team.run([&](cadre::local_communicator& world) {
    check::throws<nccl_error>(1302, "rank 0 on ", [&] { cadre::nccl::communicator gpus(world, {.device = 4711}); });
    world.barrier();  // the communicator of the host works on
    told[static_cast<std::size_t>(world.rank())] = 1;
  });
  check::that(told == std::vector<int>{1, 1, 1}, "a rank was not told");
}

void any_world() {
  cadre::local_team team{1};
  team.run([](cadre::local_communicator& world) {
    cadre::any_communicator any(world);
    check::throws<nccl_error>(1302, "check nvidia-smi", [&] { cadre::nccl::communicator gpus(any, {.device = 4711}); });
  });
}

void judgement() {
  using report = cadre::nccl::detail::device_report;
  std::vector<report> all(3);
  for (std::size_t r = 0; r < all.size(); ++r) {
    all[r].host = {'n', 'o', 'd', 'e'};
    all[r].uuid[0] = static_cast<char>(r % 2);
  }
  check::throws<nccl_error>(1303, "rank 0 on node and rank 2 on node have the same GPU (device 0)",
                            [&] { cadre::nccl::detail::judge(all, false); });
  cadre::nccl::detail::judge(all, true);
  all[1].error = cudaErrorDevicesUnavailable;
  check::throws<nccl_error>(1302, "rank 1 on node cannot use CUDA device 0: cudaErrorDevicesUnavailable (46)",
                            [&] { cadre::nccl::detail::judge(all, true); });
}

void broken_handle() {
  const auto where = std::source_location::current();
  const auto never = cadre::nccl::detail::ends_after(std::chrono::nanoseconds::max());
  cadre::nccl::detail::handle handle;
  handle.check("all_reduce", where);
  handle.abort("rank 7 gave up");
  handle.abort("a later reason");
  check::throws<cadre::communicator_aborted>(402, "rank 7 gave up", [&] { handle.check("all_reduce", where); });

  cadre::nccl::detail::handle failing;
  check::throws<nccl_error>(1301, "ncclAllReduce failed: invalid usage", [&] {
    failing.run(
        "ncclAllReduce", "rank 0", never, [](ncclComm_t&) { return ncclInvalidUsage; }, where);
  });
  check::throws<cadre::communicator_aborted>(402, "ncclAllReduce failed", [&] { failing.check("all_reduce", where); });
}

}  // namespace

int main() {
  bool good = true;
  good &= check::holds("NCCL and the CUDA runtime answer without a GPU", versions);
  good &= check::holds("A device that does not exist is error 1202, with the reason", no_such_device);
  good &= check::holds("A failed call names itself, CUDA's error and the place", failed_calls);
  good &= check::holds("Sizes that overflow are refused, empty buffers take no memory", sizes);
  good &= check::holds("Device memory is contiguous, but no range that host code could read", host_code_cannot_touch);
  good &= check::holds("What NCCL cannot reduce is refused before anything is sent", names);
  good &= check::holds("A device that one rank cannot use is an error on every rank, and the world works on",
                       every_rank_is_told);
  good &= check::holds("Any communicator can be the world", any_world);
  good &= check::holds("Ranks on one GPU are named", judgement);
  good &= check::holds("A broken communicator keeps its first reason", broken_handle);
  return good ? 0 : 1;
}
