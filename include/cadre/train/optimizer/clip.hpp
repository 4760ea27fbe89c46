#ifndef CADRE_TRAIN_OPTIMIZER_CLIP_HPP
#define CADRE_TRAIN_OPTIMIZER_CLIP_HPP

#include <cadre/train/detail/kernels.hpp>
#include <cadre/train/parameters.hpp>

#include <cmath>

CADRE_NAMESPACE_BEGIN
namespace train {

/// The Euclidean norm of all gradients together. Reads them once; after finish() all ranks have the same.
[[nodiscard]] inline double gradient_norm(const parameters& list) {
  list.check();
  double sum_of_squares = 0;
  for (const parameter& p : list)
    sum_of_squares +=
        visit_real(p.type, [&]<class T>(T) { return detail::sum_of_squares(p.gradient_as<T>(), p.count); });
  return std::sqrt(sum_of_squares);
}

/// What gradients of this norm are to be multiplied by so that it becomes at most `max_norm`, by the formula of
/// torch.nn.utils.clip_grad_norm_; 1 if they are short enough or the norm is not finite. Given to an optimizer's
/// step({.gradient_scale = ...}) it costs no pass over memory.
[[nodiscard]] inline double clip_scale(double norm, double max_norm) noexcept {
  const double factor = max_norm / (norm + 1e-6);
  return std::isfinite(norm) && factor < 1 ? factor : 1;
}

/// Scales the gradients to a norm of at most `max_norm`, and returns the norm that they had. Gradients that are not
/// finite are left as they are: look at the result.
inline double clip_gradient_norm(const parameters& list, double max_norm) {
  const double norm = gradient_norm(list);
  if (const double factor = clip_scale(norm, max_norm); factor != 1)
    for (const parameter& p : list)
      visit_real(p.type, [&]<class T>(T) { detail::scale(p.gradient_as<T>(), p.count, static_cast<T>(factor)); });
  return norm;
}

}  // namespace train
CADRE_NAMESPACE_END

#endif
