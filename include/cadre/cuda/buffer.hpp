#ifndef CADRE_CUDA_BUFFER_HPP
#define CADRE_CUDA_BUFFER_HPP

#include <cadre/cuda/device_span.hpp>
#include <cadre/cuda/stream.hpp>

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
