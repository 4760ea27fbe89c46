#include "catch.hpp"

#include <cadre/eigen.hpp>

#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

namespace eigen_contiguous_test {

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST_CASE("Matrices, vectors, arrays and plain maps are seen in place, const where they are") {
  Eigen::MatrixXf m = Eigen::MatrixXf::Zero(2, 3);
  CHECK(cadre::elements(m).data() == m.data());
  CHECK(cadre::elements(m).size() == 6);
  const auto& c = m;
  STATIC_REQUIRE(std::is_same_v<decltype(cadre::elements(m)), std::span<float>>);
  STATIC_REQUIRE(std::is_same_v<decltype(cadre::elements(c)), std::span<const float>>);
  Eigen::Map<Eigen::MatrixXf> map(m.data(), 2, 3);
  Eigen::Map<const Eigen::MatrixXf> reading(m.data(), 2, 3);
  STATIC_REQUIRE(std::is_same_v<decltype(cadre::elements(map)), std::span<float>>);
  STATIC_REQUIRE(std::is_same_v<decltype(cadre::elements(reading)), std::span<const float>>);
  STATIC_REQUIRE(std::is_same_v<cadre::contiguous_traits<Eigen::Map<const Eigen::MatrixXf>>::element, float>);
  cadre::elements(map)[1] = 99;
  CHECK(m(1, 0) == 99);
  Eigen::Matrix3d fixed;
  CHECK(cadre::elements(fixed).size() == 9);
  Eigen::ArrayXXi array(4, 5);
  CHECK(cadre::elements(array).size() == 20);
  CHECK(cadre::elements(Eigen::VectorXf(0)).empty());
}

TEST_CASE("A shape makes a view of memory that somebody else owns") {
  using traits = cadre::contiguous_traits<Eigen::MatrixXf>;
  std::vector<float> memory(6);
  auto view = traits::map(memory.data(), 2, 3);
  STATIC_REQUIRE(std::is_same_v<decltype(view), Eigen::Map<Eigen::MatrixXf>>);
  view(1, 2) = 5;
  CHECK(memory[5] == 5);
  CHECK(traits::count(2, 3) == 6);
  CHECK(traits::shape(Eigen::MatrixXf(2, 3)) == std::vector<std::size_t>{2, 3});
  auto vector = cadre::contiguous_traits<Eigen::VectorXf>::map(memory.data(), 6);
  CHECK(vector.rows() == 6);
  CHECK(cadre::contiguous_traits<Eigen::RowVectorXf>::count(6) == 6);
  auto rows = cadre::contiguous_traits<row_major>::map(memory.data(), 3, 2);
  CHECK(rows(2, 1) == 5);
}

TEST_CASE("Maps with strides, blocks and expressions are not contiguous") {
  using outer = Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>>;
  using inner = Eigen::Map<Eigen::VectorXf, 0, Eigen::InnerStride<>>;
  STATIC_REQUIRE_FALSE(cadre::contiguous<outer>);
  STATIC_REQUIRE_FALSE(cadre::contiguous<inner>);
  STATIC_REQUIRE_FALSE(cadre::contiguous<Eigen::Block<Eigen::MatrixXf>>);
  STATIC_REQUIRE_FALSE(cadre::contiguous<Eigen::Ref<Eigen::MatrixXf>>);
  STATIC_REQUIRE_FALSE(cadre::contiguous<decltype(Eigen::MatrixXf() * 2.f)>);
  STATIC_REQUIRE(cadre::contiguous<Eigen::Map<Eigen::MatrixXf, Eigen::Aligned64>>);
}

}  // namespace eigen_contiguous_test
