#ifndef CADRE_EXAMPLES_FASHION_MNIST_MODEL_HPP
#define CADRE_EXAMPLES_FASHION_MNIST_MODEL_HPP

#include <cadre/core/random.hpp>
#include <cadre/eigen.hpp>
#include <cadre/train.hpp>

#include <Eigen/Core>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace fashion {

inline constexpr int pixels = 784, hidden2 = 128, classes = 10;

/// What one pass over some images counts: a sum over samples, so that workers can add theirs.
struct tally {
  double loss = 0;     // sum of cross-entropies
  double correct = 0;  // images whose largest output is their label
};

/// A batch as a matrix, an image per column; nothing is copied.
template <class Batch>
auto as_columns(const Batch& batch) {
  return Eigen::Map<const Eigen::MatrixXf>(batch.inputs.data(), pixels, static_cast<Eigen::Index>(batch.size()));
}

/// One dense layer whose weights and gradients lie in the communicator's memory.
struct dense {
  dense(cadre::train::parameters& p, const std::string& name, int outputs, int inputs)
      : weight_name(name + ".weight"),
        bias_name(name + ".bias"),
        weight(p.make<Eigen::MatrixXf>(weight_name, outputs, inputs)),
        bias(p.make<Eigen::VectorXf>(bias_name, outputs)) {}

  auto& W() { return weight.first; }
  auto& dW() { return weight.second; }
  auto& b() { return bias.first; }
  auto& db() { return bias.second; }

  std::string weight_name, bias_name;
  std::pair<Eigen::Map<Eigen::MatrixXf>, Eigen::Map<Eigen::MatrixXf>> weight;
  std::pair<Eigen::Map<Eigen::VectorXf>, Eigen::Map<Eigen::VectorXf>> bias;
};

/// A 784-h-128-10 perceptron with ReLU and softmax cross-entropy, written out by hand. Images are the columns.
class perceptron {
 public:
  perceptron(cadre::train::parameters& p, int width, std::uint64_t seed)
      : layer1_(p, "layer1", width, pixels),
        layer2_(p, "layer2", hidden2, width),
        layer3_(p, "layer3", classes, hidden2) {
    // He et al. 2015: the variance of a ReLU layer's output stays that of its input. A stream per layer, so that the
    // numbers do not depend on the order in which the layers are made.
    std::uint64_t stream = 0;
    for (dense* layer : {&layer1_, &layer2_, &layer3_}) {
      cadre::random_stream numbers{seed, "weights", stream++};
      const auto inputs = static_cast<float>(layer->W().cols());
      numbers.fill_normal(cadre::elements(layer->W()), 0, std::sqrt(2 / inputs));
      layer->b().setZero();
    }
  }

  /// The outputs for these images, before the softmax.
  const Eigen::MatrixXf& forward(Eigen::Ref<const Eigen::MatrixXf> images) {
    const auto relu = [](dense& layer, const auto& input, Eigen::MatrixXf& output) {
      output.noalias() = layer.W() * input;
      output = (output.colwise() + layer.b()).cwiseMax(0.f);
    };
    relu(layer1_, images, a1_);
    relu(layer2_, a1_, a2_);
    z3_.noalias() = layer3_.W() * a2_;
    z3_.colwise() += layer3_.b();
    return z3_;
  }

  /// Loss and hits of the last forward(); leaves d(loss)/d(outputs), each image weighted by `weight`, for backward().
  tally criterion(std::span<const std::uint8_t> labels, float weight) {
    tally t;
    dz3_.resize(z3_.rows(), z3_.cols());
    for (Eigen::Index i = 0; i < z3_.cols(); ++i) {
      const int label = labels[static_cast<std::size_t>(i)];
      Eigen::Index best = 0;
      const float top = z3_.col(i).maxCoeff(&best);
      dz3_.col(i) = (z3_.col(i).array() - top).exp();
      const float sum = dz3_.col(i).sum();
      t.loss += std::log(sum) + top - z3_(label, i);
      t.correct += best == label ? 1 : 0;
      dz3_.col(i) *= weight / sum;
      dz3_(label, i) -= weight;
    }
    return t;
  }

  /// Gradients, last layer first; `ready(name)` is called as soon as a parameter's gradient is complete, so that its
  /// bucket can travel while the rest is still being computed.
  template <class Ready>
  void backward(Eigen::Ref<const Eigen::MatrixXf> images, Ready&& ready) {
    const auto gradients = [&](dense& layer, const auto& input, const Eigen::MatrixXf& dz) {
      layer.db() = dz.rowwise().sum();
      ready(layer.bias_name);
      layer.dW().noalias() = dz * input.transpose();
      ready(layer.weight_name);
    };
    const auto through_relu = [](dense& above, const Eigen::MatrixXf& dz, const Eigen::MatrixXf& a,
                                 Eigen::MatrixXf& da) {
      da.noalias() = above.W().transpose() * dz;
      da = (a.array() > 0.f).select(da, 0.f);
    };
    gradients(layer3_, a2_, dz3_);
    through_relu(layer3_, dz3_, a2_, dz2_);
    gradients(layer2_, a1_, dz2_);
    through_relu(layer2_, dz2_, a1_, dz1_);
    gradients(layer1_, images, dz1_);
  }

 private:
  dense layer1_, layer2_, layer3_;
  Eigen::MatrixXf a1_, a2_, z3_, dz3_, dz2_, dz1_;  // reused from step to step: one allocation per shape
};

}  // namespace fashion

#endif
