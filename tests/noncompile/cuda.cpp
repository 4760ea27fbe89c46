// needs: cuda_runtime_api.h
#include <cadre/cuda/buffer.hpp>

#include <string>
#include <vector>

void elements(const std::vector<double>& from, cadre::cuda::buffer<float>& to, cadre::cuda::stream& stream) {
  // error: device memory holds trivially copyable elements
  cadre::cuda::buffer<std::string> texts;
  // error: cuda::copy: the ranges differ in element type, or the target is const
  cadre::cuda::copy(from, to, stream);
}
