#ifndef CADRE_NCCL_COMMUNICATOR_HPP
#define CADRE_NCCL_COMMUNICATOR_HPP

#include <cadre/comm/any_communicator.hpp>
#include <cadre/comm/collectives.hpp>
#include <cadre/comm/communicator.hpp>
#include <cadre/comm/detail/call_record.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/cuda/buffer.hpp>
#include <cadre/cuda/stream.hpp>
#include <cadre/nccl/detail/handle.hpp>
#include <cadre/nccl/detail/native.hpp>
#include <cadre/nccl/detail/placement.hpp>
#include <cadre/nccl/error.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace nccl {

struct communicator_options {
  int device = -1;  ///< the CUDA device of this rank; negative: its place among its node's ranks, modulo their number
  bool allow_shared_device =
      false;  ///< do not refuse several ranks on one GPU (NCCL refuses them by itself, unless told otherwise)
  std::chrono::nanoseconds timeout = default_collective_timeout;  ///< of the start and of each collective
};

/// Ranks with a GPU each, over NCCL: `cadre::nccl::communicator gpus{world};`. A model of `cadre::communicator` for
/// device memory: ranges are cuda::buffer, cuda::device_span, or what allocate<T>() returns (not for the host to read).
/// Host memory, and so single values too, are nccl_error 1304 before anything is sent: reduce those by `world`.
///
/// Collectives are put into stream() and return before they are done: make stream() wait for what produces their input,
/// and what uses their output wait for stream(), by stream::wait or synchronize(). The memory stays until then.
///
/// Other than the models on the host: sums are taken in NCCL's order, the same bits on every rank, but not those of the
/// binary tree; min and max may ignore NaN; ranks that call different things are seen by their timeout (401) only; an
/// abort is local: peers see it as an NCCL error (1301) or by their timeout.
///
/// Owns the NCCL communicator and its stream; move-only. The destructor waits, for 30 seconds at most, until its peers
/// destroy theirs. One thread at a time; abort from any. Every rank makes, uses and destroys them in the same order.
class communicator : public collectives<communicator> {
 public:
  /// Collective over `world`, which is used here only. Throws, on every rank alike, 1302 if a rank has no device, 1303
  /// if two have the same; 401 if a rank does not come; 1301 if NCCL fails. The current device stays what it is.
  template <class World>
    requires(!std::same_as<std::remove_cv_t<World>, communicator> && cadre::communicator<World>)
  explicit communicator(World& world, const communicator_options& options = {},
                        const std::source_location& where = std::source_location::current())
      : communicator(any_communicator(world), options, where) {}

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int world_size() const noexcept { return size_; }
  [[nodiscard]] std::string_view backend() const noexcept { return "nccl"; }
  /// The CUDA device of this rank: its memory is what the collectives take.
  [[nodiscard]] int device() const noexcept { return stream_.device(); }
  /// Where the collectives run.
  [[nodiscard]] cuda::stream& stream() noexcept { return stream_; }

  void all_reduce_bytes(void* data, std::size_t count, data_type type, reduce_op op) {
    const ncclRedOp_t how = detail::native(op);
    const ncclDataType_t what = detail::native(type);
    launch("all_reduce", cadre::detail::checked_bytes("all_reduce", count, size_of(type), size_), data, data,
           [&](ncclComm_t comm) { return ::ncclAllReduce(data, data, count, what, how, comm, stream_.get()); });
  }

  void broadcast_bytes(void* data, std::size_t bytes, int root) {
    if (root < 0 || root >= size_)
      throw collective_argument_error::bad_argument("broadcast: there is no rank " + std::to_string(root) + " among " +
                                                    std::to_string(size_));
    launch("broadcast", bytes, data, data,
           [&](ncclComm_t comm) { return ::ncclBroadcast(data, data, bytes, ncclUint8, root, comm, stream_.get()); });
  }

  void reduce_scatter_bytes(const void* in, void* out, std::size_t out_count, data_type type, reduce_op op) {
    const ncclRedOp_t how = detail::native(op);
    const ncclDataType_t what = detail::native(type);
    launch("reduce_scatter", cadre::detail::checked_bytes("reduce_scatter", out_count, size_of(type), size_), in, out,
           [&](ncclComm_t comm) { return ::ncclReduceScatter(in, out, out_count, what, how, comm, stream_.get()); });
  }

  void all_gather_bytes(const void* in, void* out, std::size_t in_bytes) {
    launch("all_gather", cadre::detail::checked_bytes("all_gather", in_bytes, 1, size_), in, out,
           [&](ncclComm_t comm) { return ::ncclAllGather(in, out, in_bytes, ncclUint8, comm, stream_.get()); });
  }

  /// Waits until all collectives so far are done. Throws 401 if they are not within the timeout, 402 if the communicator
  /// is or gets aborted, 1301 if NCCL met an error, 1201 if a kernel failed.
  void synchronize(const std::source_location& where = std::source_location::current()) {
    synchronize(timeout_, where);
  }
  void synchronize(std::chrono::nanoseconds timeout,
                   const std::source_location& where = std::source_location::current());

  /// Waits until every rank has come here and its collectives so far are done.
  void barrier() { barrier(timeout_); }
  void barrier(std::chrono::nanoseconds timeout);

  /// Device memory as NCCL likes it best (ncclMemAlloc), zeroed. Not collective in fact; nullptr for 0 bytes.
  [[nodiscard]] std::shared_ptr<std::byte> allocate_bytes(std::size_t bytes);

  /// Ranks with the same color form a communicator of their own, with a stream of its own, ordered by key, then by rank
  /// here. A rank with a negative color gets one of which it is the only member. Waits for the collectives so far.
  [[nodiscard]] communicator split(int color, int key);

  /// Breaks this rank's communicator: collectives that wait for peers end, waiting and later calls throw 402 with `why`.
  void abort(std::string_view why) noexcept { comm_->abort(why); }

  void set_timeout(std::chrono::nanoseconds timeout) {
    timeout_ = timeout;
    comm_->set_patience(timeout);
  }

 private:
  communicator(any_communicator world, const communicator_options& options, const std::source_location& where);
  communicator(std::unique_ptr<detail::handle> comm, cuda::stream stream, int rank, int size,
               std::chrono::nanoseconds timeout)
      : stream_(std::move(stream)), comm_(std::move(comm)), rank_(rank), size_(size) {
    name_myself();
    set_timeout(timeout);
  }

  void name_myself() {
    who_ = "rank " + std::to_string(rank_) + " of " + std::to_string(size_) + " (CUDA device " +
           std::to_string(device()) + ")";
  }
  void require_device_memory(std::string_view operation, const void* data) const;

  /// Puts one collective of `bytes` per rank into the stream. Alone, it is at most a copy.
  template <class Call>
  void launch(const char* operation, std::size_t bytes, const void* in, void* out, Call&& call) {
    const auto where = std::source_location::current();
    comm_->check(operation, where);
    if (bytes == 0) return;
    require_device_memory(operation, out);
    if (in != out) require_device_memory(operation, in);
    if (size_ == 1) {
      if (in != out)
        cuda::check(::cudaMemcpyAsync(out, in, bytes, cudaMemcpyDeviceToDevice, stream_.get()), "cudaMemcpyAsync");
      return;
    }
    ++launched_;
    last_operation_ = operation;
    last_bytes_ = bytes;
    comm_->run(
        operation, who_, detail::ends_after(timeout_), [&](ncclComm_t& comm) { return call(comm); }, where);
  }

  cuda::stream stream_;
  cuda::buffer<std::int32_t> token_;      // what barriers reduce
  std::unique_ptr<detail::handle> comm_;  // goes first: its kernels use what stands above
  int rank_ = 0;
  int size_ = 1;
  std::chrono::nanoseconds timeout_ = default_collective_timeout;
  std::string who_;
  std::uint64_t launched_ = 0;  // for the texts of timeouts
  const char* last_operation_ = "nothing";
  std::size_t last_bytes_ = 0;
};

inline communicator::communicator(any_communicator world, const communicator_options& options,
                                  const std::source_location& where)
    : stream_(detail::choose_device(world, options.device, options.allow_shared_device)),
      comm_(std::make_unique<detail::handle>()),
      rank_(world.rank()),
      size_(world.world_size()) {
  name_myself();
  set_timeout(options.timeout);
  if (size_ == 1) return;
  const ncclUniqueId id = detail::share_unique_id(world, where);
  const cuda::device_guard guard(device());
  token_ = cuda::buffer<std::int32_t>(1);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  comm_->run(
      "ncclCommInitRankConfig", who_, detail::ends_after(timeout_),
      [&](ncclComm_t& comm) { return ::ncclCommInitRankConfig(&comm, size_, id, rank_, &config); }, where);
}

inline void communicator::require_device_memory(std::string_view operation, const void* data) const {
  cudaPointerAttributes found{};
  cuda::check(::cudaPointerGetAttributes(&found, data), "cudaPointerGetAttributes");
  if (found.type == cudaMemoryTypeManaged || (found.type == cudaMemoryTypeDevice && found.device == device())) return;
  const std::string what = found.type == cudaMemoryTypeDevice ? "memory of CUDA device " + std::to_string(found.device)
                                                              : std::string("host memory");
  throw nccl_error::not_device_memory(
      std::string(operation) + " on " + who_ + " was given " + what +
      ": it takes memory of its own device (cuda::buffer, cuda::device_span); values on "
      "the host are for the communicator that this one was made from");
}

inline void communicator::synchronize(std::chrono::nanoseconds timeout, const std::source_location& where) {
  const detail::deadline until = detail::ends_after(timeout);
  for (detail::pause wait;; wait()) {
    comm_->check(last_operation_, where);
    if (stream_.done()) break;
    if (std::chrono::steady_clock::now() < until) continue;
    const std::string text = who_ + " waited in vain at " + cuda::cuda_error::place(where) + " for its " +
                             std::to_string(launched_) + " collectives, the last one " + last_operation_ + " of " +
                             std::to_string(last_bytes_) + " bytes: a peer is gone, late, or has called something else";
    comm_->abort(text);
    throw communicator_timeout(text);
  }
  comm_->check(last_operation_, where);  // a kernel that an abort ended is done as well
}

inline void communicator::barrier(std::chrono::nanoseconds timeout) {
  if (size_ > 1) {
    const auto before = std::exchange(timeout_, timeout);
    try {
      all_reduce_bytes(token_.data(), 1, data_type::int32, reduce_op::max);
    } catch (...) {
      timeout_ = before;
      throw;
    }
    timeout_ = before;
  }
  synchronize(timeout);
}

inline std::shared_ptr<std::byte> communicator::allocate_bytes(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  const cuda::device_guard guard(device());
  void* memory = nullptr;
  const bool by_nccl = ::ncclMemAlloc(&memory, bytes) == ncclSuccess;
  if (!by_nccl) {
    static_cast<void>(::cudaGetLastError());
    cuda::check(::cudaMalloc(&memory, bytes), "cudaMalloc of " + std::to_string(bytes) + " bytes");
  }
  std::shared_ptr<std::byte> owner(static_cast<std::byte*>(memory), [by_nccl](std::byte* p) {
    if (by_nccl)
      static_cast<void>(::ncclMemFree(p));
    else
      static_cast<void>(::cudaFree(p));
  });
  cuda::check(::cudaMemsetAsync(memory, 0, bytes, stream_.get()), "cudaMemsetAsync");
  stream_.synchronize();
  return owner;
}

inline communicator communicator::split(int color, int key) {
  synchronize();
  auto child = std::make_unique<detail::handle>();
  int rank = 0, size = 1;
  if (size_ > 1) {
    const auto where = std::source_location::current();
    const auto until = detail::ends_after(timeout_);
    const cuda::device_guard guard(device());
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    comm_->run(
        "ncclCommSplit", who_, until, *child,
        [&](ncclComm_t& parent, ncclComm_t& made) {
          return ::ncclCommSplit(parent, color < 0 ? NCCL_SPLIT_NOCOLOR : color, key, &made, &config);
        },
        where);
    if (color >= 0) {
      child->run(
          "ncclCommUserRank", who_, until, [&](ncclComm_t& comm) { return ::ncclCommUserRank(comm, &rank); }, where);
      child->run(
          "ncclCommCount", who_, until, [&](ncclComm_t& comm) { return ::ncclCommCount(comm, &size); }, where);
    }
  }
  communicator made(std::move(child), cuda::stream(device()), rank, size, timeout_);
  if (size > 1) {
    const cuda::device_guard guard(device());
    made.token_ = cuda::buffer<std::int32_t>(1);
  }
  return made;
}

static_assert(cadre::communicator<communicator>);

}  // namespace nccl

CADRE_NAMESPACE_END

#endif
