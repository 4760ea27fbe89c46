// cadre 0.1.0: the adapter cuda.hpp in one header
// Licensed under the Apache License, Version 2.0. Written by single_include/generate.py from include/cadre; change it there.
#ifndef CADRE_SINGLE_INCLUDE_CUDA_HPP
#define CADRE_SINGLE_INCLUDE_CUDA_HPP

#include "cadre.hpp"

// ---- cadre/cuda/device_span.hpp ----
#ifndef CADRE_CUDA_DEVICE_SPAN_HPP
#define CADRE_CUDA_DEVICE_SPAN_HPP

#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace cuda {

/// A run of elements in device memory, owned by somebody else: a pointer and a size. It has no iterators and no
/// operator[], so that host code that would read it does not compile. Collectives of nccl::communicator take it.
template <class T>
class device_span {
 public:
  using element_type = T;
  using value_type = std::remove_cv_t<T>;

  constexpr device_span() noexcept = default;
  /// `data` is memory that kernels can use: from cudaMalloc, a library or a framework.
  constexpr device_span(T* data, std::size_t size) noexcept : data_(data), size_(size) {}
  /// A span of T is one of const T.
  template <class U>
    requires(std::is_const_v<T> && std::is_same_v<const U, T>)
  constexpr device_span(device_span<U> other) noexcept  // NOLINT(google-explicit-constructor)
      : data_(other.data()), size_(other.size()) {}

  [[nodiscard]] constexpr T* data() const noexcept { return data_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  [[nodiscard]] constexpr std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }

  /// `count` elements from `offset` on; both lie within the span.
  [[nodiscard]] constexpr device_span subspan(std::size_t offset, std::size_t count) const noexcept {
    return {data_ + offset, count};
  }
  [[nodiscard]] constexpr device_span first(std::size_t count) const noexcept { return {data_, count}; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

template <class T>
class buffer;

namespace detail {
template <class T>
inline constexpr bool is_device_memory = false;
template <class T>
inline constexpr bool is_device_memory<device_span<T>> = true;
template <class T>
inline constexpr bool is_device_memory<buffer<T>> = true;
}  // namespace detail

/// Whether a contiguous T lies in device memory, so that its elements are not for the host to touch.
template <class T>
concept device_memory = detail::is_device_memory<std::remove_cvref_t<T>>;

}  // namespace cuda

/// Device memory as one run of elements: `elements` gives a device_span, never a std::span, so that code for host
/// memory refuses it when compiled.
template <cuda::device_memory T>
struct contiguous_traits<T> {
  using element = typename T::value_type;
  using view = cuda::device_span<element>;
  template <class R>
  static auto elements(R& range) noexcept {
    return cuda::device_span(range.data(), range.size());
  }
  static std::vector<std::size_t> shape(const T& range) { return {range.size()}; }
  static view map(element* data, std::size_t n) noexcept { return {data, n}; }
  static std::size_t count(std::size_t n) noexcept { return n; }
};

static_assert(contiguous<cuda::device_span<float>> && contiguous<cuda::device_span<const float>>);

CADRE_NAMESPACE_END

#endif

// ---- cadre/cuda/error.hpp ----
#ifndef CADRE_CUDA_ERROR_HPP
#define CADRE_CUDA_ERROR_HPP

#include <cuda_runtime.h>  // link with -lcudart

#include <cstddef>
#include <source_location>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace cuda {

/// Thrown (1201 to 1203) when the CUDA runtime refuses something, or is asked for what cannot be.
class cuda_error : public error {
 public:
  /// 1201: a call of the CUDA runtime failed.
  static cuda_error call_failed(std::string_view call, cudaError_t code, const std::source_location& where) {
    return {1201, std::string(call) + " failed: " + describe(code) + "; called at " + place(where), code};
  }
  /// 1202: this process sees no device, or none of that number.
  static cuda_error no_device(std::string_view message, cudaError_t code = cudaErrorNoDevice) {
    return {1202, message, code};
  }
  /// 1203: a copy between runs of different sizes, or a size whose bytes overflow.
  static cuda_error bad_size(std::string_view message) { return {1203, message, cudaErrorInvalidValue}; }

  /// What the runtime returned, for programs that tell cases apart (cudaErrorMemoryAllocation, say).
  [[nodiscard]] cudaError_t code() const noexcept { return code_; }

  /// CUDA's name, number and text of an error: `cudaErrorNoDevice (100): no CUDA-capable device is detected`.
  [[nodiscard]] static std::string describe(cudaError_t code) {
    return std::string(::cudaGetErrorName(code)) + " (" + std::to_string(static_cast<int>(code)) +
           "): " + ::cudaGetErrorString(code);
  }
  /// `file:line`.
  [[nodiscard]] static std::string place(const std::source_location& where) {
    return std::string(where.file_name()) + ":" + std::to_string(where.line());
  }

 private:
  cuda_error(int number, std::string_view message, cudaError_t code) : error("cuda", number, message), code_(code) {}

  cudaError_t code_;
};

/// Throws cuda_error (1201), naming `call` and the place, unless `code` is success: `cuda::check(cudaMalloc(&p, n),
/// "cudaMalloc")`. The error is taken from the runtime, so that a later cudaGetLastError does not see it again; errors
/// of kernels are sticky and come back by themselves.
inline void check(cudaError_t code, std::string_view call,
                  const std::source_location& where = std::source_location::current()) {
  if (code == cudaSuccess) return;
  static_cast<void>(::cudaGetLastError());
  throw cuda_error::call_failed(call, code, where);
}

/// Throws cuda_error (1201) if the kernel launched just before did not start, naming it: `fill<<<...>>>(...);
/// cuda::check_launch("fill");`. What goes wrong while it runs is seen when its stream is waited for.
inline void check_launch(std::string_view kernel, const std::source_location& where = std::source_location::current()) {
  if (const cudaError_t code = ::cudaGetLastError(); code != cudaSuccess)
    throw cuda_error::call_failed("launch of " + std::string(kernel), code, where);
}

}  // namespace cuda

CADRE_NAMESPACE_END

#endif

// ---- cadre/cuda/device.hpp ----
#ifndef CADRE_CUDA_DEVICE_HPP
#define CADRE_CUDA_DEVICE_HPP

#include <string>

CADRE_NAMESPACE_BEGIN

namespace cuda {

/// How many devices this process sees: 0 where there is no driver or no GPU. Throws 1201 on any other failure.
[[nodiscard]] inline int device_count() {
  int count = 0;
  const cudaError_t code = ::cudaGetDeviceCount(&count);
  if (code == cudaErrorNoDevice || code == cudaErrorInsufficientDriver) {
    static_cast<void>(::cudaGetLastError());
    return 0;
  }
  check(code, "cudaGetDeviceCount");
  return count;
}

/// Throws cuda_error (1202), with the runtime's reason where there is one, unless this process sees device `device`.
inline void require_device(int device) {
  int count = 0;
  const cudaError_t code = ::cudaGetDeviceCount(&count);
  if (code != cudaSuccess) {
    static_cast<void>(::cudaGetLastError());
    throw cuda_error::no_device("no CUDA device can be used: " + cuda_error::describe(code) +
                                    "; check nvidia-smi, the driver's version and CUDA_VISIBLE_DEVICES",
                                code);
  }
  if (device < 0 || device >= count)
    throw cuda_error::no_device("there is no CUDA device " + std::to_string(device) + ": this process sees " +
                                    std::to_string(count) + ", numbered from 0 (CUDA_VISIBLE_DEVICES decides)",
                                cudaErrorInvalidDevice);
}

/// The calling thread's current device.
[[nodiscard]] inline int current_device() {
  int device = 0;
  check(::cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

/// Makes a device the calling thread's current one until the end of the scope. Throws 1202 if there is none such.
class device_guard {
 public:
  explicit device_guard(int device) {
    require_device(device);
    before_ = current_device();
    if (before_ != device) check(::cudaSetDevice(device), "cudaSetDevice");
  }
  device_guard(const device_guard&) = delete;
  device_guard& operator=(const device_guard&) = delete;
  ~device_guard() { static_cast<void>(::cudaSetDevice(before_)); }

 private:
  int before_ = 0;
};

}  // namespace cuda

CADRE_NAMESPACE_END

#endif

// ---- cadre/cuda/stream.hpp ----
#ifndef CADRE_CUDA_STREAM_HPP
#define CADRE_CUDA_STREAM_HPP

#include <utility>

CADRE_NAMESPACE_BEGIN

namespace cuda {

class stream;

/// A point in the work of a stream. Owns a CUDA event of the device that was current when it was made; move-only. It
/// keeps no times, which makes recording and waiting cheap.
class event {
 public:
  event() { check(::cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags"); }
  event(event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  event& operator=(event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~event() {
    if (event_ != nullptr) static_cast<void>(::cudaEventDestroy(event_));
  }

  /// Marks what `on` was given so far. An event of another device than the stream's is a CUDA error (1201).
  void record(const stream& on);
  /// Whether all that was marked is done; true before the first record. Throws 1201 if some of it failed.
  [[nodiscard]] bool done() const {
    const cudaError_t code = ::cudaEventQuery(event_);
    if (code == cudaErrorNotReady) {
      static_cast<void>(::cudaGetLastError());
      return false;
    }
    check(code, "cudaEventQuery");
    return true;
  }
  /// Blocks the calling thread until it is done.
  void synchronize() const { check(::cudaEventSynchronize(event_), "cudaEventSynchronize"); }

  [[nodiscard]] cudaEvent_t get() const noexcept { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

/// A queue of work for one device: what is put in runs in that order, beside other streams, the default stream
/// included. Owns a CUDA stream; move-only. Work that is still under way when it is destroyed goes on to its end.
class stream {
 public:
  /// A stream of the calling thread's current device.
  stream() : stream(current_device()) {}
  /// A stream of `device`. Throws 1202 if there is none such.
  explicit stream(int device) : device_(device) {
    const device_guard guard(device);
    check(::cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  stream(stream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)), device_(other.device_) {}
  stream& operator=(stream&& other) noexcept {
    std::swap(stream_, other.stream_);
    std::swap(device_, other.device_);
    return *this;
  }
  ~stream() {
    if (stream_ != nullptr) static_cast<void>(::cudaStreamDestroy(stream_));
  }

  /// Later work of this stream waits, on the device, for what `marked` has marked; the calling thread goes on.
  void wait(const event& marked) { check(::cudaStreamWaitEvent(stream_, marked.get(), 0), "cudaStreamWaitEvent"); }
  /// Later work of this stream waits, on the device, for what `other` was given so far.
  void wait(const stream& other) {
    const device_guard guard(other.device());
    event marked;
    marked.record(other);
    wait(marked);
  }
  /// Whether all work is done. Throws 1201 if some of it failed.
  [[nodiscard]] bool done() const {
    const cudaError_t code = ::cudaStreamQuery(stream_);
    if (code == cudaErrorNotReady) {
      static_cast<void>(::cudaGetLastError());
      return false;
    }
    check(code, "cudaStreamQuery");
    return true;
  }
  /// Blocks the calling thread until all work is done; throws 1201 if some of it failed.
  void synchronize() const { check(::cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

  /// For kernel launches and libraries.
  [[nodiscard]] cudaStream_t get() const noexcept { return stream_; }
  [[nodiscard]] int device() const noexcept { return device_; }

 private:
  cudaStream_t stream_ = nullptr;
  int device_ = 0;
};

inline void event::record(const stream& on) { check(::cudaEventRecord(event_, on.get()), "cudaEventRecord"); }

}  // namespace cuda

CADRE_NAMESPACE_END

#endif

// ---- cadre/cuda/buffer.hpp ----
#ifndef CADRE_CUDA_BUFFER_HPP
#define CADRE_CUDA_BUFFER_HPP

#include <cstddef>
#include <limits>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace cuda {

/// Elements in device memory, owned (move-only), 256-byte aligned, not initialised. The owner keeps it alive until the
/// streams that use it are done: freeing waits for the whole device.
template <class T>
class buffer {
  static_assert(std::is_trivially_copyable_v<T> && !std::is_const_v<T>,
                "device memory holds trivially copyable elements");

 public:
  using value_type = T;

  buffer() noexcept = default;
  /// Memory of the calling thread's current device. Throws 1203 if the size overflows, 1201 if there is no room.
  explicit buffer(std::size_t size, const std::source_location& where = std::source_location::current()) : size_(size) {
    if (size > std::numeric_limits<std::size_t>::max() / sizeof(T))
      throw cuda_error::bad_size(std::to_string(size) + " elements of " + std::to_string(sizeof(T)) +
                                 " bytes are more than can be addressed");
    if (size == 0) return;
    void* memory = nullptr;
    check(::cudaMalloc(&memory, size * sizeof(T)), "cudaMalloc of " + std::to_string(size * sizeof(T)) + " bytes",
          where);
    data_ = static_cast<T*>(memory);
  }
  buffer(buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  buffer& operator=(buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~buffer() {
    if (data_ != nullptr) static_cast<void>(::cudaFree(data_));
  }

  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] const T* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

  [[nodiscard]] device_span<T> span() noexcept { return {data_, size_}; }
  [[nodiscard]] device_span<const T> span() const noexcept { return {data_, size_}; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Copies the elements of one contiguous range to another in the order of `on`, at least one of them in device memory
/// (buffer, device_span), the other anything contiguous on the host: vector, span, Eigen matrix. Both must stay as they
/// are until it is done (on.synchronize()). With pageable host memory the call itself may wait; with pinned memory it
/// returns at once. Throws 1203 if the sizes differ.
template <contiguous From, contiguous To>
  requires(device_memory<From> || device_memory<To>)
void copy(const From& from, To&& to, const stream& on,
          const std::source_location& where = std::source_location::current()) {
  const auto source = elements(from);
  const auto target = elements(to);
  static_assert(std::is_same_v<std::remove_cv_t<std::remove_pointer_t<decltype(source.data())>>,
                               std::remove_pointer_t<decltype(target.data())>>,
                "cuda::copy: the ranges differ in element type, or the target is const");
  if (source.size() != target.size())
    throw cuda_error::bad_size("copy of " + std::to_string(source.size()) + " elements to room for " +
                               std::to_string(target.size()) + ": copy equal parts (device_span::subspan)");
  if (source.size() > 0)
    check(::cudaMemcpyAsync(target.data(), source.data(), source.size_bytes(), cudaMemcpyDefault, on.get()),
          "cudaMemcpyAsync", where);
}

}  // namespace cuda

CADRE_NAMESPACE_END

#endif

// ---- cadre/cuda.hpp ----
#ifndef CADRE_CUDA_HPP
#define CADRE_CUDA_HPP

#endif

#endif
