#ifndef CADRE_NCCL_DETAIL_NATIVE_HPP
#define CADRE_NCCL_DETAIL_NATIVE_HPP

#include <cadre/comm/error.hpp>
#include <cadre/comm/reduce_op.hpp>
#include <cadre/core/data_type.hpp>

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
