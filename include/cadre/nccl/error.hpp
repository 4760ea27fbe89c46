#ifndef CADRE_NCCL_ERROR_HPP
#define CADRE_NCCL_ERROR_HPP

#include <cadre/cuda/error.hpp>

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
