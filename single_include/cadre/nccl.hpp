// cadre 0.1.0: the adapter nccl.hpp in one header
// Licensed under the Apache License, Version 2.0. Written by single_include/generate.py from include/cadre; change it there.
#ifndef CADRE_SINGLE_INCLUDE_NCCL_HPP
#define CADRE_SINGLE_INCLUDE_NCCL_HPP

#include "cadre.hpp"
#include "cuda.hpp"

// ---- cadre/nccl/error.hpp ----
#ifndef CADRE_NCCL_ERROR_HPP
#define CADRE_NCCL_ERROR_HPP

#include <nccl.h>  // link with -lnccl

#include <source_location>
#include <string>
#include <string_view>

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 19, 0)
#error "cadre/nccl.hpp needs NCCL 2.19 or later: ncclCommSplit and ncclMemAlloc"
#endif

CADRE_NAMESPACE_BEGIN

namespace nccl {

/// Thrown (1301 to 1304) when NCCL reports an error or cannot do what was asked. Timeouts, aborts and arguments are the
/// errors of every communicator (401, 402, 404, 405).
class nccl_error : public error {
 public:
  /// 1301: a call of NCCL failed, at once or, by a peer or the network, later; the communicator is broken.
  static nccl_error call_failed(std::string_view call, ncclResult_t code, std::string_view last_error,
                                const std::source_location& where) {
    std::string text = std::string(call) + " failed: " + describe(code);
    if (!last_error.empty()) text += "; NCCL's last error: " + std::string(last_error);
    return {1301, text + "; called at " + cuda::cuda_error::place(where), code};
  }
  /// 1302: a rank has no CUDA device to use. Thrown on every rank.
  static nccl_error no_device(std::string_view message) { return {1302, message, ncclInvalidUsage}; }
  /// 1303: several ranks chose the same GPU. Thrown on every rank.
  static nccl_error shared_device(std::string_view message) { return {1303, message, ncclInvalidUsage}; }
  /// 1304: the memory is not that of the communicator's device. Nothing was sent; the communicator stays usable.
  static nccl_error not_device_memory(std::string_view message) { return {1304, message, ncclInvalidArgument}; }

  /// What NCCL returned, for programs that tell cases apart.
  [[nodiscard]] ncclResult_t code() const noexcept { return code_; }

  /// NCCL's number and text of an error.
  [[nodiscard]] static std::string describe(ncclResult_t code) {
    return std::string(::ncclGetErrorString(code)) + " (" + std::to_string(static_cast<int>(code)) + ")";
  }

 private:
  nccl_error(int number, std::string_view message, ncclResult_t code) : error("nccl", number, message), code_(code) {}

  ncclResult_t code_;
};

/// NCCL's version as major * 10000 + minor * 100 + patch, of the library that the program runs with; needs no GPU.
[[nodiscard]] inline int version(const std::source_location& where = std::source_location::current()) {
  int number = 0;
  if (const ncclResult_t code = ::ncclGetVersion(&number); code != ncclSuccess)
    throw nccl_error::call_failed("ncclGetVersion", code, "", where);
  return number;
}

}  // namespace nccl

CADRE_NAMESPACE_END

#endif

// ---- cadre/nccl/detail/handle.hpp ----
#ifndef CADRE_NCCL_DETAIL_HANDLE_HPP
#define CADRE_NCCL_DETAIL_HANDLE_HPP

#include <nccl.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <source_location>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace nccl::detail {

using deadline = std::chrono::steady_clock::time_point;

/// The time at which a wait of `timeout` from now ends; a timeout beyond the clock's range never ends.
[[nodiscard]] inline deadline ends_after(std::chrono::nanoseconds timeout) {
  const auto now = std::chrono::steady_clock::now();
  return timeout < deadline::max() - now ? now + timeout : deadline::max();
}

/// Waits a little longer each time: first not at all, to be quick; at last a millisecond, to leave the processor.
class pause {
 public:
  void operator()() {
    if (++rounds_ < 200) return std::this_thread::yield();
    std::this_thread::sleep_for(length_);
    length_ = std::min(length_ * 2, std::chrono::microseconds(1000));
  }

 private:
  int rounds_ = 0;
  std::chrono::microseconds length_{20};
};

/// Owns a non-blocking ncclComm_t. No thread stays inside NCCL for long, because its calls return ncclInProgress and are
/// asked again, and none is inside beside another, because each call holds the mutex: so abort may come from any thread
/// at any time, as NCCL demands.
class handle {
 public:
  handle() = default;
  handle(const handle&) = delete;
  handle& operator=(const handle&) = delete;
  ~handle() { close(); }

  /// Calls `call(comm)`, a reference to the ncclComm_t, and waits until NCCL has taken it up. Throws 402 on a broken
  /// communicator, 401 at the deadline, 1301 if NCCL fails; both break it.
  template <class Call>
  void run(std::string_view name, std::string_view who, deadline until, Call&& call,
           const std::source_location& where) {
    run_on(
        name, who, until, [&] { return std::forward<Call>(call)(comm_); }, [&] { return comm_; }, where);
  }

  /// As run, for a call that fills in another handle's ncclComm_t, which NCCL then works on.
  template <class Call>
  void run(std::string_view name, std::string_view who, deadline until, handle& made, Call&& call,
           const std::source_location& where) {
    run_on(
        name, who, until, [&] { return std::forward<Call>(call)(comm_, made.comm_); }, [&] { return made.comm_; },
        where);
    // The parent, too, is in progress until the split is done.
    run_on(
        name, who, until, [] { return ncclInProgress; }, [&] { return comm_; }, where);
  }

  /// Throws 1301 if NCCL has met an error since, in the network or on a peer, and 402 on a broken communicator.
  void check(std::string_view name, const std::source_location& where) {
    const std::lock_guard lock(mutex_);
    throw_if_broken();
    if (comm_ == nullptr) return;
    ncclResult_t state = ncclSuccess;
    ncclResult_t code = ::ncclCommGetAsyncError(comm_, &state);
    if (code == ncclSuccess) code = state;
    if (code != ncclSuccess && code != ncclInProgress) fail(name, code, where);
  }

  /// Breaks the communicator: kernels that wait for peers end, waiting and later calls throw 402 with `why`. Only the
  /// first reason is kept.
  void abort(std::string_view why) noexcept {
    const std::lock_guard lock(mutex_);
    break_up(why);
  }

  /// How long the destructor may wait for the peers.
  void set_patience(std::chrono::nanoseconds patience) noexcept { patience_ = patience; }

 private:
  template <class Call, class Watched>
  void run_on(std::string_view name, std::string_view who, deadline until, Call&& call, Watched&& watched,
              const std::source_location& where) {
    std::unique_lock lock(mutex_);
    throw_if_broken();
    ncclResult_t code = call();
    for (pause wait; code == ncclInProgress;) {
      if (watched() == nullptr) {  // a split without a color makes nothing to watch
        code = ncclSuccess;
        break;
      }
      ncclResult_t state = ncclSuccess;
      code = ::ncclCommGetAsyncError(watched(), &state);
      if (code == ncclSuccess) code = state;
      if (code != ncclInProgress) break;
      if (std::chrono::steady_clock::now() >= until) {
        const std::string text = std::string(who) + " waited in vain in " + std::string(name) + ", called at " +
                                 cuda::cuda_error::place(where) + ": a peer has not called it or is gone";
        break_up(text);
        throw communicator_timeout(text);
      }
      lock.unlock();
      wait();
      lock.lock();
      throw_if_broken();
    }
    if (code != ncclSuccess) fail(name, code, where);
  }

  void throw_if_broken() const {
    if (broken_) throw communicator_aborted("the NCCL communicator is broken: " + why_);
  }

  [[noreturn]] void fail(std::string_view name, ncclResult_t code, const std::source_location& where) {
    const char* last = ::ncclGetLastError(comm_);
    const nccl_error error = nccl_error::call_failed(name, code, last != nullptr ? last : "", where);
    break_up(error.what());
    throw error;
  }

  void break_up(std::string_view why) noexcept {
    if (broken_) return;
    broken_ = true;
    try {
      why_ = why;
    } catch (const std::exception&) {
      why_.clear();  // out of memory: broken without a reason
    }
    if (comm_ != nullptr) static_cast<void>(::ncclCommAbort(std::exchange(comm_, nullptr)));
  }

  /// Gives the communicator back in agreement with its peers; in the middle of an exception, when they may never come,
  /// or when they do not come in time, breaks it off.
  void close() noexcept {
    const std::lock_guard lock(mutex_);
    if (comm_ == nullptr) return;
    const deadline until = ends_after(std::min<std::chrono::nanoseconds>(patience_, std::chrono::seconds(30)));
    ncclResult_t code = std::uncaught_exceptions() > born_amid_ ? ncclInternalError : ::ncclCommFinalize(comm_);
    for (pause wait; code == ncclInProgress && std::chrono::steady_clock::now() < until; wait())
      if (::ncclCommGetAsyncError(comm_, &code) != ncclSuccess) code = ncclInternalError;
    static_cast<void>(code == ncclSuccess ? ::ncclCommDestroy(comm_) : ::ncclCommAbort(comm_));
    comm_ = nullptr;
  }

  std::mutex mutex_;
  ncclComm_t comm_ = nullptr;  // null: of one rank, not made yet, or broken
  bool broken_ = false;
  std::string why_;
  std::chrono::nanoseconds patience_{std::chrono::seconds(30)};
  int born_amid_ = std::uncaught_exceptions();
};

}  // namespace nccl::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/nccl/detail/native.hpp ----
#ifndef CADRE_NCCL_DETAIL_NATIVE_HPP
#define CADRE_NCCL_DETAIL_NATIVE_HPP

#include <nccl.h>

#include <string>

CADRE_NAMESPACE_BEGIN

namespace nccl::detail {

/// NCCL's name of an element type. Throws 404 for 16-bit integers, which NCCL does not reduce.
[[nodiscard]] inline ncclDataType_t native(data_type type) {
  switch (type) {
    case data_type::int8: return ncclInt8;
    case data_type::uint8: return ncclUint8;
    case data_type::int32: return ncclInt32;
    case data_type::uint32: return ncclUint32;
    case data_type::int64: return ncclInt64;
    case data_type::uint64: return ncclUint64;
    case data_type::float32: return ncclFloat32;
    case data_type::float64: return ncclFloat64;
    case data_type::int16:
    case data_type::uint16: break;
  }
  throw collective_argument_error::unsupported_reduction("NCCL does not reduce elements of " +
                                                         std::string(to_string(type)) + ": use 32 bits");
}

/// NCCL's name of a reduction. Throws 404 for operations on bits, which NCCL does not have.
[[nodiscard]] inline ncclRedOp_t native(reduce_op op) {
  switch (op) {
    case reduce_op::sum: return ncclSum;
    case reduce_op::product: return ncclProd;
    case reduce_op::min: return ncclMin;
    case reduce_op::max: return ncclMax;
    case reduce_op::bit_and:
    case reduce_op::bit_or: break;
  }
  throw collective_argument_error::unsupported_reduction(
      "NCCL has no " + std::string(to_string(op)) +
      ": reduce flags as integers (min is and, max is or), or on the host by the communicator this one was made from");
}

}  // namespace nccl::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/nccl/detail/placement.hpp ----
#ifndef CADRE_NCCL_DETAIL_PLACEMENT_HPP
#define CADRE_NCCL_DETAIL_PLACEMENT_HPP

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

// ---- cadre/nccl/communicator.hpp ----
#ifndef CADRE_NCCL_COMMUNICATOR_HPP
#define CADRE_NCCL_COMMUNICATOR_HPP

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

// ---- cadre/nccl.hpp ----
#ifndef CADRE_NCCL_HPP
#define CADRE_NCCL_HPP

#endif

#endif
