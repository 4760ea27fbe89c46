#ifndef CADRE_CUDA_DEVICE_HPP
#define CADRE_CUDA_DEVICE_HPP

#include <cadre/cuda/error.hpp>

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
