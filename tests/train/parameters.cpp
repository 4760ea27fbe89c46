#include "catch.hpp"

#include <cadre/archive/to_bytes.hpp>
#include <cadre/comm/local_team.hpp>
#include <cadre/eigen.hpp>
#include <cadre/train/parameters.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

namespace train_parameters {

using cadre::train::parameter_changed;
using cadre::train::parameter_invalid;
using cadre::train::parameters;

bool zeroed(std::span<const float> all) {
  for (float x : all)
    if (x != 0) return false;
  return true;
}

TEST_CASE("a list of parameters holds arrays of the model in the order in which they were added") {
  Eigen::MatrixXf w(3, 2), dw(3, 2);
  std::vector<double> b(4), db(4);
  std::array<float, 2> s{}, ds{};
  parameters p;
  p.add("w", w, dw).add("b", b, db).add("s", std::span(s), std::span(ds));
  REQUIRE(p.size() == 3);
  CHECK(p[0].name == "w");
  CHECK(p[0].type == cadre::data_type::float32);
  CHECK(p[0].shape == std::vector<std::size_t>{3, 2});
  CHECK(p[0].values<float>().data() == w.data());
  CHECK(p[0].gradients<float>().data() == dw.data());
  CHECK(p[1].type == cadre::data_type::float64);
  CHECK(p[1].bytes() == 32);
  CHECK(p[2].values<float>().data() == s.data());
  CHECK(p.count() == 12);
  CHECK(p.find("b") == &p[1]);
  CHECK(p.find("c") == nullptr);
  CHECK(cadre::train::shape_text(p[0].shape) == "[3, 2]");
  p.check();
}

TEST_CASE("made parameters lie side by side, aligned and zeroed, and are seen as matrices") {
  parameters p;
  auto [w1, dw1] = p.make<Eigen::MatrixXf>("w1", 5, 3);
  (void)p.make<Eigen::VectorXf>("b1", 5);
  auto [v, dv] = p.make<std::vector<float>>("v", 7);
  CHECK(w1.rows() == 5);
  CHECK(w1.cols() == 3);
  CHECK(dv.size() == 7);
  for (const auto& one : p) {
    CHECK(reinterpret_cast<std::uintptr_t>(one.value) % 64 == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(one.gradient) % 64 == 0);
    CHECK(zeroed(one.values<float>()));
    CHECK(zeroed(one.gradients<float>()));
    CHECK(one.arena == p[0].arena);
  }
  CHECK(p[1].gradient == p[0].gradient + 64);
  CHECK(p[2].gradient == p[1].gradient + 64);
  w1.setConstant(2);
  CHECK(p[0].values<float>()[14] == 2.f);
  CHECK(v.data() == p[2].values<float>().data());
}

TEST_CASE("made parameters larger than a piece of memory get one of their own, and views outlive the first handle") {
  auto p = std::make_unique<parameters>();
  (void)p->make<std::vector<float>>("a", 10);
  auto [b, db] = p->make<std::vector<float>>("b", 1'000'000);
  CHECK((*p)[0].arena != (*p)[1].arena);
  b.back() = 3;
  const parameters copy = *p;
  p.reset();
  CHECK(b.back() == 3);
  CHECK(zeroed(db));
  CHECK(copy.size() == 2);
}

TEST_CASE("zero_gradients clears gradients and leaves values") {
  std::vector<float> w{1, 2}, dw{3, 4};
  parameters p;
  p.add("w", w, dw);
  p.zero_gradients();
  CHECK(dw == std::vector<float>{0, 0});
  CHECK(w == std::vector<float>{1, 2});
}

TEST_CASE("a parameter that was resized or moved is named, not touched") {
  std::vector<float> w(4), dw(4);
  parameters p;
  p.add("w", w, dw);
  SECTION("resized") {
    dw.resize(3);
    CHECK_THROWS_MATCHES(
        p.check(), parameter_changed,
        Catch::Matchers::Message("[cadre.train.802] the gradient of parameter 'w' was resized from 4 to 3 "
                                 "elements since it was added; keep the object where it is, and assign to "
                                 "it without resizing"));
  }
  SECTION("moved") {
    std::vector<float> other(4);
    w.swap(other);
    CHECK_THROWS_WITH(p.check(), ContainsSubstring("parameter 'w' was moved since it was added"));
  }
}

TEST_CASE("what cannot be a parameter is refused by name") {
  std::vector<float> w(4), dw(3), fine(4);
  parameters p;
  CHECK_THROWS_MATCHES(
      p.add("w", w, dw), parameter_invalid,
      Catch::Matchers::Message(
          "[cadre.train.801] parameter 'w' has 4 elements, but its gradient has 3; they must be equal"));
  CHECK_THROWS_WITH(p.add("w", w, w), ContainsSubstring("share memory"));
  CHECK_THROWS_WITH(p.add("", w, fine), ContainsSubstring("needs a name"));
  CHECK_THROWS_WITH(p.add("w", std::array<float, 4>{}, fine),
                    ContainsSubstring("temporary array that holds its elements"));
  p.add("w", w, fine);
  CHECK_THROWS_WITH(p.add("w", fine, w), ContainsSubstring("already a parameter 'w'"));
  std::vector<float> other(4);
  CHECK_THROWS_MATCHES(p.add("tied", other, fine), parameter_invalid,
                       Catch::Matchers::Message("[cadre.train.801] parameter 'tied' shares memory with parameter 'w', "
                                                "and would be reduced and updated twice; "
                                                "add shared weights once"));
  CHECK_THROWS_WITH(p.add("part", std::span<float>(w).subspan(3), std::span<float>(other).first(1)),
                    ContainsSubstring("'part' shares memory with parameter 'w'"));
  CHECK(p.size() == 1);
  p.freeze();
  CHECK_THROWS_WITH(p.add("late", fine, w), ContainsSubstring("'late' comes too late"));
  CHECK_THROWS_WITH((void)p.make<std::vector<float>>("late", 3), ContainsSubstring("'late' comes too late"));
}

TEST_CASE("an empty parameter is allowed") {
  std::vector<float> w, dw;
  parameters p;
  p.add("w", w, dw);
  auto [v, dv] = p.make<std::vector<double>>("v", 0);
  p.zero_gradients();
  p.check();
  CHECK(v.empty());
}

TEST_CASE("saved values come back into a list of the same layout, and into no other") {
  parameters saved;
  auto [w, dw] = saved.make<Eigen::MatrixXf>("w", 2, 3);
  w.setRandom();
  dw.setOnes();
  const auto bytes = cadre::to_bytes(saved);
  {
    Eigen::MatrixXf v(2, 3), dv = Eigen::MatrixXf::Zero(2, 3);
    parameters same;
    same.add("w", v, dv);
    cadre::from_bytes(bytes, same);
    CHECK(v == w);
    CHECK(dv(1, 1) == 0);
  }
  {
    Eigen::MatrixXf v = Eigen::MatrixXf::Zero(3, 2), dv(3, 2);
    parameters other;
    other.add("w", v, dv);
    CHECK_THROWS_MATCHES(
        cadre::from_bytes(bytes, other), cadre::train::parameters_mismatch,
        Catch::Matchers::Message("[cadre.train.814] these values are not of this model: it has 'w' float32 [2, 3] "
                                 "where here is 'w' float32 [3, 2]; load them into the model that saved them"));
    CHECK(v(0, 0) == 0);
  }
}

TEST_CASE("made parameters lie in the communicator's memory on every rank") {
  cadre::local_team team{3};
  team.run([](cadre::local_communicator& comm) {
    parameters p{comm};
    auto [w, dw] = p.make<Eigen::MatrixXf>("w", 4, 4);
    dw.setConstant(1);
    comm.all_reduce(dw, cadre::sum);
    if (dw(3, 3) != 3.f) throw std::runtime_error("not reduced");
  });
}

}  // namespace train_parameters
