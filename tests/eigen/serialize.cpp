#include "catch.hpp"

#include <cadre/archive.hpp>
#include <cadre/core/random.hpp>
#include <cadre/eigen.hpp>
#include <cadre/persist/checkpoint.hpp>

#include <cereal/archives/binary.hpp>
#include <cereal/archives/json.hpp>

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace eigen_serialize_test {

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class M>
M numbered(Eigen::Index rows, Eigen::Index cols) {
  M m(rows, cols);
  for (Eigen::Index i = 0; i < rows; ++i)
    for (Eigen::Index j = 0; j < cols; ++j) m(i, j) = static_cast<typename M::Scalar>(10 * i + j);
  return m;
}

struct line {
  Eigen::VectorXf w = Eigen::VectorXf::Zero(2);
  std::vector<Eigen::MatrixXd> more;
  template <class Archive>
  void serialize(Archive& ar) {
    ar(w, more);
  }
};

TEST_CASE("Matrices of every kind come back from their bytes") {
  const auto check = [](const auto& m) {
    using M = std::remove_cvref_t<decltype(m)>;
    const M back = cadre::from_bytes<M>(cadre::to_bytes(m));
    CHECK(back.rows() == m.rows());
    CHECK((back == m));
  };
  check(numbered<Eigen::MatrixXf>(3, 4));
  check(numbered<row_major>(3, 4));
  check(numbered<Eigen::MatrixXi>(1, 7));
  check(Eigen::MatrixXd(0, 5));
  check(Eigen::Matrix3f(numbered<Eigen::Matrix3f>(3, 3)));
  check(Eigen::VectorXd(Eigen::VectorXd::LinSpaced(5, 0, 1)));
  check(Eigen::RowVectorXf(Eigen::RowVectorXf::LinSpaced(5, 0, 1)));
  check(Eigen::VectorXcd(Eigen::VectorXcd::Random(4)));
  const Eigen::ArrayXXf a = numbered<Eigen::ArrayXXf>(2, 2);
  CHECK((cadre::from_bytes<Eigen::ArrayXXf>(cadre::to_bytes(a)) == a).all());
  CHECK(cadre::to_bytes(numbered<Eigen::MatrixXf>(3, 4)).size() == 8 + 8 + 1 + 48);
}

TEST_CASE("A matrix may be read in the other storage order, as another dense type of its shape, and into a map") {
  const auto m = numbered<Eigen::MatrixXf>(3, 4);
  const auto bytes = cadre::to_bytes(m);
  CHECK(cadre::from_bytes<row_major>(bytes) == m);
  CHECK(cadre::from_bytes<Eigen::MatrixXf>(cadre::to_bytes(row_major(m))) == m);
  CHECK(cadre::from_bytes<Eigen::Matrix<float, 3, 4>>(bytes) == m);
  CHECK((cadre::from_bytes<Eigen::ArrayXXf>(bytes).matrix() == m));
  std::vector<float> memory(12);
  Eigen::Map<Eigen::MatrixXf> map(memory.data(), 3, 4);
  cadre::from_bytes(bytes, map);
  CHECK(map == m);
  CHECK(map.data() == memory.data());
  Eigen::Map<row_major> other(memory.data(), 3, 4);
  cadre::from_bytes(bytes, other);
  CHECK(other == m);
  CHECK(memory[1] == m(0, 1));
  CHECK(cadre::to_bytes(Eigen::Map<const Eigen::MatrixXf>(m.data(), 3, 4)) == bytes);
}

TEST_CASE("A matrix of another shape is an error where the target cannot take it") {
  const auto bytes = cadre::to_bytes(numbered<Eigen::MatrixXf>(3, 4));
  CHECK_THROWS_WITH(cadre::from_bytes<Eigen::Matrix3f>(bytes),
                    "[cadre.eigen.1501] a matrix of 3 x 4 was stored and is loaded into one of 3 x 3; load it into an "
                    "object of the stored "
                    "shape");
  CHECK_THROWS_WITH(cadre::from_bytes<Eigen::VectorXf>(bytes), ContainsSubstring("is loaded into one of any x 1"));
  std::vector<float> memory(12);
  Eigen::Map<Eigen::MatrixXf> map(memory.data(), 4, 3);
  CHECK_THROWS_AS(cadre::from_bytes(bytes, map), cadre::matrix_shape_mismatch);
  CHECK(memory == std::vector<float>(12));
  using small = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, 0, 2, 8>;
  CHECK_THROWS_AS(cadre::from_bytes<small>(bytes), cadre::matrix_shape_mismatch);
}

TEST_CASE("Sizes that cannot be true are errors before anything is allocated") {
  const auto stored = [](std::int64_t rows, std::int64_t cols) { return cadre::to_bytes(rows, cols, false); };
  CHECK_THROWS_WITH(
      cadre::from_bytes<Eigen::MatrixXf>(stored(-1, 4)),
      "[cadre.eigen.1502] stored matrix: a shape of -1 x 4; the data are damaged, or were written as another type");
  CHECK_THROWS_AS(cadre::from_bytes<Eigen::MatrixXf>(stored(std::int64_t{1} << 40, std::int64_t{1} << 40)),
                  cadre::matrix_corrupt);
  CHECK_THROWS_AS(cadre::from_bytes<Eigen::MatrixXf>(stored(1 << 20, 1 << 20)), cadre::archive_truncated);
  const auto good = cadre::to_bytes(numbered<Eigen::MatrixXf>(5, 5));
  for (std::size_t n = 0; n < good.size(); ++n) {
    const std::vector<std::byte> cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n));
    CHECK_THROWS_AS(cadre::from_bytes<Eigen::MatrixXf>(cut), cadre::archive_truncated);
  }
  cadre::random_stream random{1, "eigen fuzz"};
  for (int i = 0; i < 2000; ++i) {
    auto bad = good;
    bad[random.below(17)] = static_cast<std::byte>(random());
    try {
      static_cast<void>(cadre::from_bytes<row_major>(bad));
    } catch (const cadre::error&) {}
  }
}

TEST_CASE("The archives that come with cereal save and load matrices too") {
  const auto m = numbered<Eigen::MatrixXf>(3, 4);
  std::stringstream binary, json;
  cereal::BinaryOutputArchive{binary}(m);
  row_major back;
  cereal::BinaryInputArchive{binary}(back);
  CHECK(back == m);
  cereal::JSONOutputArchive{json}(cereal::make_nvp("m", m));
  Eigen::MatrixXf again;
  cereal::JSONInputArchive{json}(cereal::make_nvp("m", again));
  CHECK(again == m);
}

TEST_CASE("A model that holds matrices is checkpointed by its serialize") {
  line a{Eigen::VectorXf::LinSpaced(3, 1, 3), {numbered<Eigen::MatrixXd>(2, 2), Eigen::MatrixXd()}}, b;
  cadre::checkpoint_writer w;
  w("model", a)("w", a.w);
  const auto c = cadre::checkpoint_reader::from_bytes(w.bytes());
  c("model", b);
  CHECK(b.w == a.w);
  CHECK(b.more.at(0) == a.more.at(0));
  CHECK(c.type_of("w") == "dense Eigen object of float");
  std::vector<float> memory(3);
  c("w", Eigen::Map<Eigen::VectorXf>(memory.data(), 3));
  CHECK(memory[2] == 3);
  Eigen::Vector2f two;
  CHECK_THROWS_WITH(
      c("w", two),
      ContainsSubstring("[cadre.persist.518] checkpoint in memory: value 'w' of type dense Eigen object of float "
                        "cannot be read: [cadre.eigen.1501] a matrix of 3 x 1 was stored"));
  CHECK_THROWS_WITH(c.get<Eigen::VectorXd>("w"), ContainsSubstring("is read as dense Eigen object of double"));
}

}  // namespace eigen_serialize_test
