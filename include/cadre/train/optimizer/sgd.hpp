#ifndef CADRE_TRAIN_OPTIMIZER_SGD_HPP
#define CADRE_TRAIN_OPTIMIZER_SGD_HPP

#include <cadre/train/detail/kernels.hpp>
#include <cadre/train/optimizer/optimizer.hpp>

#include <cstddef>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace train {

struct sgd_options {
  double lr = 1e-2;
  double momentum = 0;
  double weight_decay = 0;  ///< added to the gradient: an L2 penalty of weight_decay / 2
  bool nesterov = false;
};

/// Stochastic gradient descent as torch.optim.SGD (no dampening): g += weight_decay * w; b = momentum * b + g;
/// w -= lr * b, or with Nesterov's look-ahead w -= lr * (g + momentum * b). Memory: one array with momentum, else none.
class sgd : public optimizer {
 public:
  /// Throws option_invalid (807).
  explicit sgd(parameters list, sgd_options options = {})
      : optimizer(std::move(list), options.lr, "sgd", options.momentum != 0 ? 1 : 0), options_(options) {
    require(options.momentum >= 0 && options.momentum < 1, "momentum", options.momentum, "at least 0 and below 1");
    require(std::isfinite(options.weight_decay) && options.weight_decay >= 0, "weight_decay", options.weight_decay,
            "a finite number of at least 0");
    require(!options.nesterov || options.momentum > 0, "momentum", options.momentum, "above 0 with nesterov");
  }

  /// Moves every value by its gradient. Throws parameter_changed (802).
  void step(step_scale s = {}) {
    each([&]<class T>(T, const parameter& p, std::size_t i) {
      const detail::sgd_factors<T> f{static_cast<T>(lr()), static_cast<T>(options_.momentum),
                                     static_cast<T>(options_.weight_decay), static_cast<T>(s.gradient_scale)};
      T* const value = p.value_as<T>();
      const T* const gradient = p.gradient_as<T>();
      if (options_.momentum == 0)
        detail::sgd_update<false, false, T>(value, gradient, nullptr, p.count, f);
      else if (options_.nesterov)
        detail::sgd_update<true, true, T>(value, gradient, slot<T>(0, i), p.count, f);
      else
        detail::sgd_update<true, false, T>(value, gradient, slot<T>(0, i), p.count, f);
    });
  }

  [[nodiscard]] const sgd_options& options() const noexcept { return options_; }

 private:
  sgd_options options_;
};

}  // namespace train
CADRE_NAMESPACE_END

#endif
