#ifndef CADRE_CUDA_STREAM_HPP
#define CADRE_CUDA_STREAM_HPP

#include <cadre/cuda/device.hpp>

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
