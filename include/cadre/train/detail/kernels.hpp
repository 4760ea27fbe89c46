#ifndef CADRE_TRAIN_DETAIL_KERNELS_HPP
#define CADRE_TRAIN_DETAIL_KERNELS_HPP

#include <cadre/config/config.hpp>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <cmath>
#include <cstddef>
#include <cstring>
#include <type_traits>

CADRE_NAMESPACE_BEGIN
namespace train::detail {

/// x *= factor
template <class T>
void scale(T* x, std::size_t n, T factor) noexcept {
  for (std::size_t i = 0; i < n; ++i) x[i] *= factor;
}

/// to = from * factor
template <class T>
void copy_scaled(const T* __restrict from, T* __restrict to, std::size_t n, T factor) noexcept {
  for (std::size_t i = 0; i < n; ++i) to[i] = from[i] * factor;
}

/// The sum of squares in double, in 16 lanes that are added at the end: an order that does not depend on the compiler's
/// vectors, and rounding errors that do not matter.
template <class T>
double sum_of_squares(const T* x, std::size_t n) noexcept {
  constexpr std::size_t lanes = 16;
  double partial[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const double v = static_cast<double>(x[i + lane]);
      partial[lane] += v * v;
    }
  for (std::size_t lane = 0; i < n; ++i, ++lane) {
    const double v = static_cast<double>(x[i]);
    partial[lane] += v * v;
  }
  for (std::size_t width = lanes / 2; width != 0; width /= 2)
    for (std::size_t lane = 0; lane < width; ++lane) partial[lane] += partial[lane + width];
  return partial[0];
}

template <class T>
struct sgd_factors {
  T lr, momentum, weight_decay, gradient_scale;
};

/// One pass: gradient' = scale * gradient + decay * value; buffer = momentum * buffer + gradient'; value -= lr * step.
template <bool Momentum, bool Nesterov, class T>
void sgd_update(T* __restrict value, const T* __restrict gradient, T* __restrict buffer, std::size_t n,
                sgd_factors<T> f) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    T g = f.gradient_scale * gradient[i] + f.weight_decay * value[i];
    if constexpr (Momentum) {
      const T b = f.momentum * buffer[i] + g;
      buffer[i] = b;
      g = Nesterov ? g + f.momentum * b : b;
    }
    value[i] -= f.lr * g;
  }
}

template <class T>
struct adam_factors {
  T step_size;  // lr / (1 - beta1^t)
  T one_minus_beta1, beta2, one_minus_beta2;
  T inverse_root;  // 1 / sqrt(1 - beta2^t)
  T epsilon;
  T keep;           // 1 - lr * weight_decay, where decay is decoupled; else 1
  T coupled_decay;  // weight_decay, where it is part of the gradient; else 0
  T gradient_scale;
};

inline constexpr std::size_t adam_lanes = 16;

// Written for the compiler's vectors by hand where it will not: a call of std::sqrt may set errno, so g++ keeps it scalar.
template <class T>
void square_roots(T* x) noexcept {
#if defined(__SSE2__)
  if constexpr (std::is_same_v<T, float>)
    for (std::size_t i = 0; i < adam_lanes; i += 4) _mm_storeu_ps(x + i, _mm_sqrt_ps(_mm_loadu_ps(x + i)));
  else
    for (std::size_t i = 0; i < adam_lanes; i += 2) _mm_storeu_pd(x + i, _mm_sqrt_pd(_mm_loadu_pd(x + i)));
#else
  for (std::size_t i = 0; i < adam_lanes; ++i) x[i] = std::sqrt(x[i]);
#endif
}

template <class T>
void adam_block(T* __restrict value, const T* __restrict gradient, T* __restrict mean, T* __restrict square,
                const adam_factors<T>& f) noexcept {
  T root[adam_lanes];
  for (std::size_t i = 0; i < adam_lanes; ++i) {
    const T g = f.gradient_scale * gradient[i] + f.coupled_decay * value[i];
    mean[i] += f.one_minus_beta1 * (g - mean[i]);
    root[i] = square[i] = f.beta2 * square[i] + f.one_minus_beta2 * (g * g);
  }
  square_roots(root);
  for (std::size_t i = 0; i < adam_lanes; ++i)
    value[i] = f.keep * value[i] - f.step_size * mean[i] / (root[i] * f.inverse_root + f.epsilon);
}

/// One pass; the formula stands at the classes adam and adamw.
template <class T>
void adam_update(T* value, const T* gradient, T* mean, T* square, std::size_t n, const adam_factors<T>& f) noexcept {
  std::size_t i = 0;
  for (; i + adam_lanes <= n; i += adam_lanes) adam_block(value + i, gradient + i, mean + i, square + i, f);
  if (i == n) return;
  // The rest by the same instructions, so that an element's bits do not depend on its place.
  const std::size_t rest = (n - i) * sizeof(T);
  T last[4][adam_lanes] = {};
  T* const from[3] = {value + i, mean + i, square + i};
  for (int k = 0; k < 3; ++k) std::memcpy(last[k], from[k], rest);
  std::memcpy(last[3], gradient + i, rest);
  adam_block(last[0], last[3], last[1], last[2], f);
  for (int k = 0; k < 3; ++k) std::memcpy(from[k], last[k], rest);
}

}  // namespace train::detail
CADRE_NAMESPACE_END

#endif
