#ifndef CADRE_NCCL_DETAIL_PLACEMENT_HPP
#define CADRE_NCCL_DETAIL_PLACEMENT_HPP

#include <cadre/comm/any_communicator.hpp>
#include <cadre/core/hash.hpp>
#include <cadre/cuda/device.hpp>
#include <cadre/nccl/error.hpp>

#include <nccl.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <source_location>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace nccl::detail {

/// The same on every process of a running kernel, whatever container and host name it has; else that of the host name.
[[nodiscard]] inline std::uint64_t node_key() {
  std::string text;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> text;
  if (text.empty()) {
    std::array<char, 256> host{};
    static_cast<void>(::gethostname(host.data(), host.size() - 1));
    text = host.data();
  }
  return hash_text(text);
}

/// What a rank says of the device it would use. Every rank reads those of all ranks and judges them alike, so that all
/// of them throw the same error and none waits for one that has left.
struct device_report {
  std::array<char, 64> host;
  std::array<char, 16> uuid;
  int device;
  int error;  // a cudaError_t
};

/// The device that a rank asks for, or that its place on its node gives, and whether it can be used.
[[nodiscard]] inline device_report report_device(int wanted, int rank_on_node) {
  device_report mine{};
  static_cast<void>(::gethostname(mine.host.data(), mine.host.size() - 1));
  int count = 0;
  cudaError_t code = ::cudaGetDeviceCount(&count);
  if (code == cudaSuccess && count == 0) code = cudaErrorNoDevice;
  if (code == cudaSuccess) {
    mine.device = wanted < 0 ? rank_on_node % count : wanted;
    cudaDeviceProp properties{};
    code = ::cudaGetDeviceProperties(&properties, mine.device);
    static_assert(sizeof(properties.uuid.bytes) == sizeof(mine.uuid));
    std::memcpy(mine.uuid.data(), properties.uuid.bytes, mine.uuid.size());
  }
  if (code != cudaSuccess) static_cast<void>(::cudaGetLastError());
  mine.error = static_cast<int>(code);
  return mine;
}

[[nodiscard]] inline std::string describe(const std::vector<device_report>& all, std::size_t rank) {
  return "rank " + std::to_string(rank) + " on " + all[rank].host.data();
}

/// Throws 1302 if a rank has no device, and 1303 if two ranks have the same and that is not allowed.
inline void judge(const std::vector<device_report>& all, bool allow_shared_device) {
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (all[r].error == cudaSuccess) continue;
    throw nccl_error::no_device(
        describe(all, r) + " cannot use CUDA device " + std::to_string(all[r].device) + ": " +
        cuda::cuda_error::describe(static_cast<cudaError_t>(all[r].error)) +
        "; check nvidia-smi and CUDA_VISIBLE_DEVICES there, or train with the communicator of the host");
  }
  if (allow_shared_device) return;
  for (std::size_t r = 0; r < all.size(); ++r)
    for (std::size_t earlier = 0; earlier < r; ++earlier)
      if (all[earlier].uuid == all[r].uuid)
        throw nccl_error::shared_device(
            describe(all, earlier) + " and " + describe(all, r) + " have the same GPU (device " +
            std::to_string(all[r].device) +
            "): start one rank per GPU, or say which by communicator_options::device. For tests only, "
            "communicator_options::allow_shared_device leaves the refusal to NCCL");
}

/// The device of this rank, agreed upon by all. Collective; throws 1302 or 1303, the same on every rank.
[[nodiscard]] inline int choose_device(any_communicator& world, int wanted, bool allow_shared_device) {
  const std::vector<std::uint64_t> nodes = world.all_gather(node_key());
  const auto rank = static_cast<std::size_t>(world.rank());
  int rank_on_node = 0;
  for (std::size_t r = 0; r < rank; ++r) rank_on_node += nodes[r] == nodes[rank] ? 1 : 0;
  const std::vector<device_report> all = world.all_gather(report_device(wanted, rank_on_node));
  judge(all, allow_shared_device);
  return all[rank].device;
}

/// Rank 0's unique id on every rank. Collective; throws 1301 on every rank if NCCL cannot make one.
[[nodiscard]] inline ncclUniqueId share_unique_id(any_communicator& world, const std::source_location& where) {
  struct {
    ncclUniqueId id;
    ncclResult_t code;
  } message{};
  if (world.rank() == 0) message.code = ::ncclGetUniqueId(&message.id);
  message = world.broadcast(message, 0);
  if (message.code != ncclSuccess) throw nccl_error::call_failed("ncclGetUniqueId on rank 0", message.code, "", where);
  return message.id;
}

}  // namespace nccl::detail

CADRE_NAMESPACE_END

#endif
