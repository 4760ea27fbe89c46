// Everything in one unit, for clang-tidy. The adapters whose third party is missing are left out.
#include <cadre/cadre.hpp>
#include <cadre/eigen.hpp>
#if __has_include(<zlib.h>)
#include <cadre/zlib.hpp>
#endif
#if __has_include(<mpi.h>)
#include <cadre/mpi.hpp>
#endif
#if __has_include(<cuda_runtime_api.h>) && __has_include(<cadre/cuda.hpp>)
#include <cadre/cuda.hpp>
#if __has_include(<nccl.h>)
#include <cadre/nccl.hpp>
#endif
#endif
