#ifndef CADRE_TRAIN_SCHEDULE_HPP
#define CADRE_TRAIN_SCHEDULE_HPP

#include <cadre/train/error.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace train {

/// A number for each step: a factor that begins at 1, or, after multiplication, the learning rate itself:
///
///     const auto lr = 1e-3 * train::warm_up(500, train::cosine(10'000));
///     optimizer.set_lr(lr(optimizer.steps()));
///
/// A small value; made by the functions below. Pure: the same step gives the same number.
class schedule {
 public:
  [[nodiscard]] double operator()(std::size_t step) const noexcept {
    if (step < warm_up_) return scale_ * after(0) * (static_cast<double>(step) + 1) / static_cast<double>(warm_up_);
    return scale_ * after(step - warm_up_);
  }

  friend schedule operator*(double factor, schedule s) noexcept {
    s.scale_ *= factor;
    return s;
  }
  friend schedule operator*(schedule s, double factor) noexcept { return factor * s; }

  friend schedule constant() noexcept;
  friend schedule step(std::size_t every, double factor);
  friend schedule linear(std::size_t total, double last);
  friend schedule cosine(std::size_t total, double last);
  friend schedule warm_up(std::size_t steps, schedule then);

 private:
  enum class shape : std::uint8_t { constant, step, linear, cosine };

  schedule(shape s, std::size_t length, double number) noexcept : shape_(s), length_(length), number_(number) {}

  [[nodiscard]] double after(std::size_t step) const noexcept {
    const double part = static_cast<double>(std::min(step, length_)) / static_cast<double>(length_);
    switch (shape_) {
      case shape::step: return std::pow(number_, static_cast<double>(step / length_));
      case shape::linear: return 1 + (number_ - 1) * part;
      case shape::cosine: return number_ + (1 - number_) * 0.5 * (1 + std::cos(std::numbers::pi * part));
      case shape::constant: break;
    }
    return 1;
  }
  static void require(bool good, const char* what) {
    if (!good) throw option_invalid(std::string("a learning-rate schedule ") + what);
  }

  shape shape_;
  std::size_t length_;
  double number_;
  std::size_t warm_up_ = 0;
  double scale_ = 1;
};

/// 1 at every step.
[[nodiscard]] inline schedule constant() noexcept { return {schedule::shape::constant, 1, 1}; }

/// factor^(step / every), rounded down: a staircase. Throws option_invalid (807) if `every` is 0.
[[nodiscard]] inline schedule step(std::size_t every, double factor) {
  schedule::require(every > 0, "by steps needs steps of a length above 0");
  return {schedule::shape::step, every, factor};
}

/// From 1 straight to `last` at step `total`, where it stays. Throws option_invalid (807) if `total` is 0.
[[nodiscard]] inline schedule linear(std::size_t total, double last = 0) {
  schedule::require(total > 0, "of linear shape needs a length above 0");
  return {schedule::shape::linear, total, last};
}

/// From 1 along half a cosine to `last` at step `total`, where it stays (SGDR without restarts, Loshchilov and Hutter,
/// 2017). Throws option_invalid (807) if `total` is 0.
[[nodiscard]] inline schedule cosine(std::size_t total, double last = 0) {
  schedule::require(total > 0, "of cosine shape needs a length above 0");
  return {schedule::shape::cosine, total, last};
}

/// Rises from 1/steps of the first value of `then` to the whole of it in `steps` steps, and goes on with `then` from its
/// start. Throws option_invalid (807) if `then` has a warm-up already.
[[nodiscard]] inline schedule warm_up(std::size_t steps, schedule then = constant()) {
  schedule::require(then.warm_up_ == 0, "has one warm-up at most");
  then.warm_up_ = steps;
  return then;
}

}  // namespace train
CADRE_NAMESPACE_END

#endif
