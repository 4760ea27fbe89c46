#ifndef CADRE_CUDA_ERROR_HPP
#define CADRE_CUDA_ERROR_HPP

#include <cadre/core/error.hpp>

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
