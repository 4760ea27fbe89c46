#ifndef CADRE_EXAMPLES_FASHION_MNIST_DATASET_HPP
#define CADRE_EXAMPLES_FASHION_MNIST_DATASET_HPP

#include "error.hpp"
#include "model.hpp"

#include <cadre/data.hpp>
#include <cadre/zlib.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

namespace fashion {

using loader = cadre::data::batch_loader<std::uint8_t, std::uint8_t>;

/// Images as bytes, one after the other, with their labels. Immutable, shared by all threads.
class images {
 public:
  images(const std::filesystem::path& folder, const std::string& name) : pair_(read(folder, name)) {}

  [[nodiscard]] std::size_t size() const noexcept { return pair_.size(); }

  /// Batches of the images first .. first + count - 1 as floats from 0 to 1; one loader per thread.
  [[nodiscard]] loader batches(std::size_t first, std::size_t count) const {
    const auto all = pair_.samples().as<std::uint8_t>();
    const auto labels = pair_.labels().as<std::uint8_t>();
    return {all.subspan(first * pixels, count * pixels), labels.subspan(first, count), {.scale = 1 / 255.f}};
  }

 private:
  static cadre::data::labelled read(const std::filesystem::path& folder, const std::string& name) {
    const auto open = [&](const std::string& kind) {
      const std::string file = folder / (name + kind + "-ubyte.gz");
      std::error_code error;
      if (!std::filesystem::exists(file, error) && !error) throw input_error::no_data(file);
      return cadre::data::read_idx_gz(file);
    };
    auto samples = open("-images-idx3");
    if (samples.row_size() != pixels)
      throw input_error::not_fashion_mnist(
          samples.source(), "its images have " + std::to_string(samples.row_size()) + " pixels, not 784");
    if (samples.rows() == 0) throw input_error::not_fashion_mnist(samples.source(), "it has no images");
    auto labels = open("-labels-idx1");
    // Other elements than bytes are refused now, not when the first batch is loaded.
    (void)samples.as<std::uint8_t>();
    (void)labels.as<std::uint8_t>();
    return {std::move(samples), std::move(labels), classes};
  }

  cadre::data::labelled pair_;
};

}  // namespace fashion

#endif
