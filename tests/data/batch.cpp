#include "catch.hpp"

#include <cadre/data/batch.hpp>

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

namespace batch_test {

using cadre::data::affine;
using cadre::data::batch_error;
using cadre::data::batch_loader;
using indices = std::vector<std::size_t>;

/// rows x width, the element at (r, c) being f(r, c).
template <class T>
std::vector<T> table(std::size_t rows, std::size_t width) {
  std::vector<T> v(rows * width);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>((i * 37 + i / width) % 251);
  return v;
}

template <class T>
void check_gather(std::size_t width) {
  CAPTURE(width, sizeof(T));
  const std::vector<T> samples = table<T>(20, width);
  const indices picked = {3, 19, 0, 3};
  std::vector<float> out(picked.size() * width, -1.f);
  cadre::data::gather_rows<T>(samples, width, picked, out, {.scale = 0.5f, .shift = -1.f});
  bool same = true;
  for (std::size_t i = 0; i < picked.size(); ++i)
    for (std::size_t j = 0; j < width; ++j)
      same &= out[i * width + j] == static_cast<float>(samples[picked[i] * width + j]) * 0.5f - 1.f;
  CHECK(same);
}

}  // namespace batch_test

TEST_CASE("rows of any width and type are gathered as floats, scaled and shifted", "[data]") {
  using namespace batch_test;
  for (std::size_t width : {1u, 2u, 31u, 32u, 33u, 784u}) {
    check_gather<std::uint8_t>(width);
    check_gather<std::int32_t>(width);
    check_gather<float>(width);
    check_gather<double>(width);
  }
}

TEST_CASE("a loader gives inputs and labels of the samples asked for", "[data]") {
  using namespace batch_test;
  const std::vector<std::uint8_t> pixels = {0, 255, 51, 102, 0, 0};
  const std::vector<std::uint8_t> labels = {7, 8, 9};
  batch_loader loader{std::span(pixels), std::span(labels), {.scale = 1 / 255.f}};
  CHECK(loader.size() == 3);
  CHECK(loader.width() == 2);
  const auto b = loader.load(indices{1, 0});
  CHECK(b.size() == 2);
  CHECK(b.width == 2);
  CHECK(b.inputs[0] == Approx(0.2));
  CHECK(b.inputs[1] == Approx(0.4));
  CHECK(b.inputs[3] == Approx(1.0));
  CHECK(std::vector<std::uint8_t>(b.labels.begin(), b.labels.end()) == std::vector<std::uint8_t>{8, 7});
  const auto in_order = loader.load(1, 2);
  CHECK(in_order.inputs[0] == Approx(0.2));
  CHECK(in_order.inputs.size() == 4);
  CHECK(in_order.labels[1] == 9);
  CHECK(loader.load(indices{}).size() == 0);
  CHECK(loader.load(3, 0).size() == 0);
}

TEST_CASE("rows, indices and room that do not fit together are refused", "[data]") {
  using namespace batch_test;
  const std::vector<float> samples(6), two(2);
  const std::vector<int> labels(3), four_labels(4);
  std::vector<float> out(2);
  CHECK_THROWS_WITH(cadre::data::gather_rows<float>(samples, 2, indices{3}, out),
                    "[cadre.data.731] row 3 was asked for, there are 3");
  CHECK_THROWS_WITH(cadre::data::gather_rows<float>(samples, 4, indices{0}, out),
                    "[cadre.data.732] 6 elements do not make 1 rows of one width");
  CHECK_THROWS_WITH(cadre::data::gather_rows<float>(samples, 2, indices{0, 1}, out),
                    "[cadre.data.733] the batch needs room for 4 elements, there is room for 2");
  CHECK_THROWS_AS((batch_loader{std::span(samples), std::span(four_labels)}), batch_error);
  batch_loader loader{std::span(samples), std::span(labels)};
  CHECK_THROWS_WITH(loader.load(indices{5}), "[cadre.data.731] row 5 was asked for, there are 3");
  CHECK_THROWS_WITH(loader.load(2, 2), "[cadre.data.731] row 3 was asked for, there are 3");
  std::vector<int> one(1);
  CHECK_THROWS_AS(cadre::data::gather<int>(labels, indices{3}, one), batch_error);
}
