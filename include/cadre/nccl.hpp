#ifndef CADRE_NCCL_HPP
#define CADRE_NCCL_HPP

#include <cadre/cuda.hpp>
#include <cadre/nccl/communicator.hpp>
#include <cadre/nccl/error.hpp>

#endif
