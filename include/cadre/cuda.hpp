#ifndef CADRE_CUDA_HPP
#define CADRE_CUDA_HPP

#include <cadre/cuda/buffer.hpp>
#include <cadre/cuda/device.hpp>
#include <cadre/cuda/device_span.hpp>
#include <cadre/cuda/error.hpp>
#include <cadre/cuda/stream.hpp>

#endif
