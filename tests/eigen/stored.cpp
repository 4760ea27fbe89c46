#include "catch.hpp"
#include "text_of.hpp"

#include <cadre/eigen.hpp>
#include <cadre/store.hpp>

#include <Eigen/Core>
#include <cereal/types/vector.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace eigen_stored_test {

using cadre::object_ref;
using cadre::object_store;
using cadre::view;
using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using at_most_4 = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, 0, 4, 4>;
using Eigen::MatrixXd;
using Eigen::MatrixXf;
using Eigen::VectorXd;

object_store small_store() {
  return object_store::open({.capacity = 8 << 20, .max_objects = 512, .put_timeout = std::chrono::nanoseconds(0)});
}

template <class M>
M numbered(Eigen::Index rows, Eigen::Index cols) {
  M m(rows, cols);
  for (Eigen::Index i = 0; i < rows; ++i)
    for (Eigen::Index j = 0; j < cols; ++j) m(i, j) = static_cast<typename M::Scalar>(10 * i + j);
  return m;
}

template <class M>
inline constexpr bool shows_a_map = std::is_same_v<typename view<M>::shown, Eigen::Map<const M>>;
static_assert(shows_a_map<MatrixXf>);
static_assert(shows_a_map<row_major>);
static_assert(shows_a_map<Eigen::Matrix3f>);
static_assert(shows_a_map<Eigen::ArrayXXf>);

template <class T>
using put_as = decltype(std::declval<object_store&>().put(std::declval<const T&>()));
template <class T, class M>
inline constexpr bool is_put_as = std::is_same_v<put_as<T>, object_ref<M>>;
static_assert(is_put_as<MatrixXf, MatrixXf>);
static_assert(is_put_as<row_major, row_major>);
static_assert(is_put_as<Eigen::Map<const MatrixXf>, MatrixXf>);
static_assert(is_put_as<Eigen::Map<MatrixXf, 0, Eigen::OuterStride<>>, MatrixXf>);
static_assert(is_put_as<Eigen::Ref<const MatrixXf>, MatrixXf>);
static_assert(is_put_as<Eigen::Block<MatrixXf>, MatrixXf>);
static_assert(is_put_as<decltype(std::declval<MatrixXf>() + std::declval<MatrixXf>()), MatrixXf>);
static_assert(is_put_as<decltype(std::declval<MatrixXf>() * std::declval<Eigen::VectorXf>()), Eigen::VectorXf>);
static_assert(is_put_as<decltype(std::declval<MatrixXf>().array().exp()), Eigen::ArrayXXf>);

/// A map could be dangling: only of a view with a name can it be had.
template <class V>
concept dereferences = requires(V&& v) { *std::forward<V>(v); };
static_assert(dereferences<const view<MatrixXf>&> && !dereferences<view<MatrixXf>>);

}  // namespace eigen_stored_test

TEST_CASE("Matrices of every kind are seen in place, in their storage order", "[store][eigen]") {
  using namespace eigen_stored_test;
  object_store store = small_store();
  const auto check = [&](const auto& m) {
    const auto ref = store.put(m);
    const auto v = store.get(ref);
    CHECK(v->rows() == m.rows());
    CHECK(v->cols() == m.cols());
    CHECK((v->array() == m.array()).all());
    CHECK(reinterpret_cast<std::uintptr_t>(v->data()) % 64 == 0);
    for (Eigen::Index k = 0; k < m.size(); ++k) CHECK(v->data()[k] == m.data()[k]);
    CHECK(v.bytes().size() == 64 + static_cast<std::size_t>(m.size()) * sizeof(*m.data()));
  };
  check(numbered<MatrixXf>(3, 4));
  check(numbered<row_major>(3, 4));
  check(numbered<MatrixXd>(100, 7));
  check(numbered<Eigen::MatrixXi>(1, 7));
  check(numbered<Eigen::Matrix3f>(3, 3));
  check(numbered<Eigen::Matrix<double, 3, Eigen::Dynamic>>(3, 5));
  check(numbered<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, 0, 4, 4>>(3, 2));
  check(numbered<Eigen::ArrayXXf>(4, 2));
  check(VectorXd(VectorXd::LinSpaced(50, 0, 1)));
  check(Eigen::RowVectorXf(Eigen::RowVectorXf::LinSpaced(50, 0, 1)));
  check(Eigen::VectorXcd(Eigen::VectorXcd::Random(9)));
  check(Eigen::Vector3d(1, 2, 3));
}

TEST_CASE("Matrices without elements keep their shape", "[store][eigen]") {
  using namespace eigen_stored_test;
  object_store store = small_store();
  const auto shape = [&](const auto& m) {
    const auto v = store.get(store.put(m));
    return std::pair(v->rows(), v->cols());
  };
  using extents = std::pair<Eigen::Index, Eigen::Index>;
  CHECK(shape(MatrixXf(0, 5)) == extents(0, 5));
  CHECK(shape(MatrixXf(7, 0)) == extents(7, 0));
  CHECK(shape(row_major(0, 0)) == extents(0, 0));
  CHECK(shape(VectorXd(0)) == extents(0, 1));
}

TEST_CASE("Maps and blocks are stored as the matrix that they show", "[store][eigen]") {
  using namespace eigen_stored_test;
  object_store store = small_store();
  const MatrixXd m = numbered<MatrixXd>(6, 5);
  const auto check = [&](const auto& part, const MatrixXd& expected) {
    const auto v = store.get(store.put(part));
    CHECK(*v == expected);
  };
  check(Eigen::Map<const MatrixXd>(m.data(), 6, 5), m);
  check(Eigen::Map<const MatrixXd, 0, Eigen::OuterStride<>>(m.data(), 3, 5, Eigen::OuterStride<>(6)), m.topRows(3));
  check(m.block(1, 2, 3, 2), MatrixXd(m.block(1, 2, 3, 2)));
  check(m.block<2, 2>(0, 0), MatrixXd(m.topLeftCorner(2, 2)));
  check(m.col(3), MatrixXd(m.col(3)));
  check(m.row(3), MatrixXd(m.row(3)));
  check(m.transpose(), MatrixXd(m.transpose()));
  check(Eigen::Ref<const MatrixXd>(m.middleRows(2, 3)), MatrixXd(m.middleRows(2, 3)));
  check(m.col(1).segment(1, 3), MatrixXd(m.col(1).segment(1, 3)));
}

TEST_CASE("Expressions are computed into the store", "[store][eigen]") {
  using namespace eigen_stored_test;
  object_store store = small_store();
  const MatrixXd a = numbered<MatrixXd>(4, 3), b = MatrixXd::Random(3, 5);
  const VectorXd x = VectorXd::Random(3);
  const auto sum = store.get(store.put(a + 2 * a));
  CHECK((*sum - 3 * a).cwiseAbs().maxCoeff() < 1e-12);
  const auto product = store.get(store.put(a * b));
  CHECK((*product - MatrixXd(a * b)).cwiseAbs().maxCoeff() < 1e-12);
  const auto applied = store.get(store.put(a * x));
  CHECK((*applied - VectorXd(a * x)).cwiseAbs().maxCoeff() < 1e-12);
  const auto nested = store.get(store.put((a * b).transpose() * a));
  CHECK((*nested - MatrixXd((a * b).transpose() * a)).cwiseAbs().maxCoeff() < 1e-9);
  const auto exponentials = store.get(store.put(a.array().min(1).exp()));
  CHECK((*exponentials - a.array().min(1).exp()).abs().maxCoeff() < 1e-12);
  const auto zeros = store.get(store.put(MatrixXd::Zero(2, 2)));
  CHECK(zeros->isZero());
  const auto cast = store.get(store.put(a.cast<float>()));
  static_assert(std::is_same_v<decltype(*cast), Eigen::Map<const MatrixXf>>);
  CHECK((*cast)(3, 2) == 32);
}

TEST_CASE("A matrix can be written where it will lie", "[store][eigen]") {
  using namespace eigen_stored_test;
  object_store store = small_store();
  auto w = store.create<MatrixXf>(30, 20);
  static_assert(std::is_same_v<decltype(w.map()), Eigen::Map<MatrixXf>>);
  CHECK(w.map().rows() == 30);
  CHECK(w.map().cols() == 20);
  CHECK(w.span().size() == 600);
  CHECK(static_cast<void*>(w.span().data()) == w.map().data());
  w.map() = numbered<MatrixXf>(30, 20);
  const object_ref<MatrixXf> ref = std::move(w).seal();
  const auto v = store.get(ref);
  CHECK(*v == numbered<MatrixXf>(30, 20));

  auto empty = store.create<row_major>(0, 3, {.name = "empty"});
  CHECK(empty.map().cols() == 3);
  CHECK(empty.span().empty());
  static_cast<void>(std::move(empty).seal());
  CHECK(store.find<row_major>("empty").has_value());
}

TEST_CASE("A matrix that is larger than any store is refused, also where its size would overflow", "[store][eigen]") {
  using namespace eigen_stored_test;
  object_store store = small_store();
  const auto asked = [&](std::size_t rows, std::size_t cols) {
    try {
      static_cast<void>(store.create<MatrixXf>(rows, cols));
    } catch (const cadre::bad_store_option& e) {
      return std::string(e.what());
    }
    return std::string("nothing was thrown");
  };
  constexpr std::size_t large = std::size_t{1} << 33;
  CHECK(asked(large, large) == "[cadre.store.308] an object of more than 2 TiB");
  CHECK(asked(large, large / 2) == "[cadre.store.308] an object of more than 2 TiB");
  CHECK(asked(~std::size_t{0}, 1) == "[cadre.store.308] an object of more than 2 TiB");
  CHECK(asked(1, ~std::size_t{0}) == "[cadre.store.308] an object of more than 2 TiB");
}

TEST_CASE("A matrix is created with the extents that its type can have", "[store][eigen]") {
  using namespace eigen_stored_test;
  object_store store = small_store();
  auto w = store.create<Eigen::Matrix3f>(3, 3);
  CHECK(w.span().size() == 9);
  w.map().setIdentity();
  const auto v = store.get(std::move(w).seal());
  CHECK(v->isIdentity());

  CHECK(store.create<VectorXd>(5, 1).map().size() == 5);
  CHECK(store.create<Eigen::RowVectorXf>(1, 5).map().size() == 5);
  CHECK(store.create<at_most_4>(4, 0).map().rows() == 4);
  CHECK(store.create<Eigen::Array<int, 2, Eigen::Dynamic>>(2, 7).map().cols() == 7);
}

TEST_CASE("A matrix of extents that its type cannot have is refused, and leaves nothing", "[store][eigen]") {
  using namespace eigen_stored_test;
  object_store store = small_store();
  const auto asked = [&]<class M>(std::type_identity<M>, std::size_t rows, std::size_t cols) {
    return text_of<cadre::bad_store_option>([&] { static_cast<void>(store.create<M>(rows, cols)); });
  };
  const std::type_identity<Eigen::Matrix3f> fixed;
  CHECK(asked(fixed, 4, 3) ==
        "[cadre.store.308] create() is asked for 4 x 3 elements, but its type is 3 x 3; give extents that it can have");
  CHECK(asked(fixed, 3, 2) ==
        "[cadre.store.308] create() is asked for 3 x 2 elements, but its type is 3 x 3; give extents that it can have");
  CHECK(asked(fixed, std::size_t{1} << 32 | 3, 3) ==
        "[cadre.store.308] create() is asked for 4294967299 x 3 elements, but its type is 3 x 3; give extents that it "
        "can have");
  CHECK(asked(std::type_identity<VectorXd>(), 5, 2) ==
        "[cadre.store.308] create() is asked for 5 x 2 elements, but its type is Dynamic x 1; give extents that it can "
        "have");
  CHECK(asked(std::type_identity<Eigen::RowVectorXf>(), 5, 1) ==
        "[cadre.store.308] create() is asked for 5 x 1 elements, but its type is 1 x Dynamic; give extents that it can "
        "have");
  CHECK(asked(std::type_identity<Eigen::Array<int, 2, Eigen::Dynamic>>(), 3, 7) ==
        "[cadre.store.308] create() is asked for 3 x 7 elements, but its type is 2 x Dynamic; give extents that it can "
        "have");
  CHECK(asked(std::type_identity<at_most_4>(), 2, 5) ==
        "[cadre.store.308] create() is asked for 2 x 5 elements, but its type is Dynamic (at most 4) x Dynamic (at "
        "most 4); give extents that it can have");
  CHECK(store.stats().objects == 0);
}

TEST_CASE("A matrix that is asked for in another storage order is refused", "[store][eigen]") {
  using namespace eigen_stored_test;
  object_store store = small_store();
  store.put(numbered<MatrixXf>(2, 2), {.name = "m"});
  try {
    static_cast<void>(store.find<row_major>("m"));
    FAIL("nothing was thrown");
  } catch (const cadre::wrong_object_type& e) {
    CHECK_THAT(e.what(), ContainsSubstring("[cadre.store.303] the object was put as 'Eigen::Matrix<float, -1, -1, 0, "
                                           "-1, -1>' and is asked for as 'Eigen::Matrix<float, -1, -1, 1, -1, -1>'"));
  }
}

TEST_CASE("Matrices in containers go through the archive", "[store][eigen]") {
  using namespace eigen_stored_test;
  object_store store = small_store();
  const std::vector<MatrixXf> layers{numbered<MatrixXf>(2, 3), MatrixXf(0, 2)};
  const auto v = store.get(store.put(layers));
  static_assert(std::is_same_v<decltype(*v), const std::vector<MatrixXf>&>);
  CHECK((*v)[0] == layers[0]);
  CHECK((*v)[1].cols() == 2);
}

TEST_CASE("A matrix is made once for all who ask for it, from an expression as well", "[store][eigen]") {
  using namespace eigen_stored_test;
  object_store store = small_store();
  const auto make = [] { return MatrixXd::Identity(3, 3); };
  const auto ref = store.get_or_create<MatrixXd>("identity", make);
  CHECK(store.get_or_create<MatrixXd>("identity", make) == ref);
  const auto v = store.get(ref);
  CHECK(v->isIdentity());
}
