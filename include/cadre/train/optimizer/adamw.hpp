#ifndef CADRE_TRAIN_OPTIMIZER_ADAMW_HPP
#define CADRE_TRAIN_OPTIMIZER_ADAMW_HPP

#include <cadre/train/detail/kernels.hpp>
#include <cadre/train/optimizer/optimizer.hpp>

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace train {

struct adamw_options {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 1e-2;
};

struct adam_options {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
};

namespace detail {

class adam_base : public optimizer {
 public:
  /// Moves every value by its gradient. Throws parameter_changed (802).
  void step(step_scale s = {}) {
    const double t = static_cast<double>(steps() + 1);
    const double correction1 = 1 - std::pow(options_.beta1, t), correction2 = 1 - std::pow(options_.beta2, t);
    each([&]<class T>(T, const parameter& p, std::size_t i) {
      const auto to = [](double x) { return static_cast<T>(x); };
      const adam_factors<T> f{.step_size = to(lr() / correction1),
                              .one_minus_beta1 = to(1 - options_.beta1),
                              .beta2 = to(options_.beta2),
                              .one_minus_beta2 = to(1 - options_.beta2),
                              .inverse_root = to(1 / std::sqrt(correction2)),
                              .epsilon = to(options_.epsilon),
                              .keep = to(decoupled_ ? 1 - lr() * options_.weight_decay : 1),
                              .coupled_decay = to(decoupled_ ? 0 : options_.weight_decay),
                              .gradient_scale = to(s.gradient_scale)};
      adam_update(p.value_as<T>(), p.gradient_as<T>(), slot<T>(0, i), slot<T>(1, i), p.count, f);
    });
  }

 protected:
  adam_base(parameters list, adam_options options, bool decoupled, std::string kind)
      : optimizer(std::move(list), options.lr, std::move(kind), 2), options_(options), decoupled_(decoupled) {
    require(options.beta1 >= 0 && options.beta1 < 1, "beta1", options.beta1, "at least 0 and below 1");
    require(options.beta2 >= 0 && options.beta2 < 1, "beta2", options.beta2, "at least 0 and below 1");
    require(options.epsilon >= 0 && std::isfinite(options.epsilon), "epsilon", options.epsilon,
            "a finite number of at least 0");
    require(std::isfinite(options.weight_decay) && options.weight_decay >= 0, "weight_decay", options.weight_decay,
            "a finite number of at least 0");
  }
  ~adam_base() = default;
  adam_base(adam_base&&) = default;
  adam_base& operator=(adam_base&&) = default;

 private:
  adam_options options_;
  bool decoupled_;
};

}  // namespace detail

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as torch.optim.AdamW: w *= 1 - lr * weight_decay;
/// m and v are running means of the gradient and its square, corrected for their start at zero;
/// w -= lr * m^ / (sqrt(v^) + epsilon). Memory: two arrays.
class adamw : public detail::adam_base {
 public:
  /// Throws option_invalid (807).
  explicit adamw(parameters list, adamw_options o = {})
      : adam_base(std::move(list), {o.lr, o.beta1, o.beta2, o.epsilon, o.weight_decay}, true, "adamw") {}
};

/// Adam (Kingma and Ba, 2015), as torch.optim.Adam: weight decay is added to the gradient.
class adam : public detail::adam_base {
 public:
  /// Throws option_invalid (807).
  explicit adam(parameters list, adam_options o = {}) : adam_base(std::move(list), o, false, "adam") {}
};

}  // namespace train
CADRE_NAMESPACE_END

#endif
