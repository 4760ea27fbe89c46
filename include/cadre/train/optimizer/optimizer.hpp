#ifndef CADRE_TRAIN_OPTIMIZER_OPTIMIZER_HPP
#define CADRE_TRAIN_OPTIMIZER_OPTIMIZER_HPP

#include <cadre/comm/detail/zeroed_memory.hpp>
#include <cadre/core/data_type.hpp>
#include <cadre/train/error.hpp>
#include <cadre/train/parameters.hpp>

#include <cereal/cereal.hpp>
#include <cereal/types/string.hpp>
#include <cereal/types/vector.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

struct step_scale {
  double gradient_scale = 1;  ///< what gradients are multiplied by as they are read: 1/N of an average, clip_scale
};

/// What the optimizers have in common: parameters, learning rate, and state arrays of the parameters' sizes. Each step
/// is one pass over contiguous arrays. Every rank steps for itself: with equal values, gradients and options the values
/// stay equal to the bit.
///
/// Serialisable by any archive of cereal's form: the state, not the options and not the learning rate, which are the
/// program's. Loading state of other parameters throws optimizer_state_mismatch (806) and changes nothing.
class optimizer {
 public:
  [[nodiscard]] double lr() const noexcept { return lr_; }
  /// Throws option_invalid (807) unless it is a finite number of at least 0.
  void set_lr(double lr) {
    require(std::isfinite(lr) && lr >= 0, "lr", lr, "a finite number of at least 0");
    lr_ = lr;
  }

  /// Steps taken, those before a checkpoint included.
  [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }

  template <class Archive>
  void save(Archive& archive) const {
    archive(kind_, steps_);
    parameters_.save_layout(archive);
    archive(static_cast<std::uint64_t>(slots_.size()));
    for (const std::shared_ptr<std::byte>& slot : slots_)
      for (std::size_t i = 0; i < parameters_.size(); ++i)
        archive(cereal::binary_data(static_cast<const std::byte*>(slot.get() + offsets_[i]), parameters_[i].bytes()));
  }
  template <class Archive>
  void load(Archive& archive) {
    std::string kind;
    std::uint64_t steps = 0, slots = 0;
    archive(kind, steps);
    if (kind != kind_) mismatch("it is that of " + kind + ", this is " + kind_);
    if (const std::string difference = parameters_.layout_difference(archive); !difference.empty())
      mismatch(difference);
    archive(slots);
    if (slots != slots_.size())
      mismatch("it has " + std::to_string(slots) + " arrays per parameter, these options need " +
               std::to_string(slots_.size()));
    for (const std::shared_ptr<std::byte>& slot : slots_)
      for (std::size_t i = 0; i < parameters_.size(); ++i)
        archive(cereal::binary_data(slot.get() + offsets_[i], parameters_[i].bytes()));
    steps_ = steps;
  }

 protected:
  optimizer(parameters list, double lr, std::string kind, int slots)
      : parameters_(std::move(list)), kind_(std::move(kind)) {
    set_lr(lr);
    std::size_t bytes = 0;
    for (const parameter& p : parameters_) {
      offsets_.push_back(bytes);
      bytes += (p.bytes() + 63) / 64 * 64;
    }
    for (int i = 0; i < slots; ++i) slots_.push_back(cadre::detail::zeroed_memory(bytes));
    parameters_.freeze();
  }
  ~optimizer() = default;
  optimizer(optimizer&&) = default;
  optimizer& operator=(optimizer&&) = default;

  static void require(bool good, std::string_view option, double value, std::string_view wanted) {
    if (!good)
      throw option_invalid("the optimizer's " + std::string(option) + " is " + std::to_string(value) + "; it must be " +
                           std::string(wanted));
  }

  /// Counts a step and calls `update(T{}, parameter, slots...)` per parameter, with the state arrays as T*.
  template <class Update>
  void each(Update&& update) {
    parameters_.check();
    ++steps_;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      visit_real(parameters_[i].type, [&]<class T>(T) { update(T{}, parameters_[i], i); });
  }
  template <class T>
  [[nodiscard]] T* slot(std::size_t which, std::size_t parameter_index) const noexcept {
    return reinterpret_cast<T*>(slots_[which].get() + offsets_[parameter_index]);
  }

 private:
  [[noreturn]] void mismatch(const std::string& what) const {
    throw optimizer_state_mismatch("this state is not of this optimizer: " + what +
                                   "; load it into the model that saved it");
  }

  parameters parameters_;
  double lr_ = 0;
  std::string kind_;
  std::uint64_t steps_ = 0;
  std::vector<std::size_t> offsets_;
  std::vector<std::shared_ptr<std::byte>> slots_;
};

}  // namespace train
CADRE_NAMESPACE_END

#endif
