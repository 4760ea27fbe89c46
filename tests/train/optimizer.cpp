#include "catch.hpp"

#include <cadre/archive/to_bytes.hpp>
#include <cadre/core/random.hpp>
#include <cadre/eigen.hpp>
#include <cadre/persist/checkpoint_reader.hpp>
#include <cadre/persist/checkpoint_writer.hpp>
#include <cadre/train/optimizer.hpp>

#include <cereal/archives/portable_binary.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

namespace train_optimizer {

namespace train = cadre::train;

template <class T>
struct one {
  std::vector<T> w{T(1), T(-2), T(0.5)}, g{T(0.1), T(-0.2), T(0.3)};
  train::parameters p;
  one() { p.add("w", w, g); }
};

TEST_CASE("plain sgd subtracts the gradient times the learning rate") {
  one<double> m;
  train::sgd opt{m.p, {.lr = 0.5}};
  opt.step();
  CHECK(m.w[0] == Approx(0.95).epsilon(1e-14));
  CHECK(m.w[1] == Approx(-1.9).epsilon(1e-14));
  opt.set_lr(0.1);
  opt.step();
  CHECK(m.w[0] == Approx(0.94).epsilon(1e-14));
  CHECK(opt.steps() == 2);
  CHECK(opt.lr() == 0.1);
}

TEST_CASE("momentum sums geometrically decaying gradients") {
  // With a constant gradient g, b_t = g (1 - mu^t) / (1 - mu), so w_t = w_0 - lr g sum_t b_t / g.
  one<double> m;
  train::sgd opt{m.p, {.lr = 0.1, .momentum = 0.9}};
  double want = 1;
  for (int t = 1; t <= 5; ++t) {
    opt.step();
    want -= 0.1 * 0.1 * (1 - std::pow(0.9, t)) / 0.1;
    CHECK(m.w[0] == Approx(want).epsilon(1e-13));
  }
}

TEST_CASE("nesterov looks ahead by one momentum step") {
  one<double> m;
  train::sgd opt{m.p, {.lr = 0.1, .momentum = 0.9, .nesterov = true}};
  double want = 1;
  for (int t = 1; t <= 5; ++t) {
    opt.step();
    const double b = 0.1 * (1 - std::pow(0.9, t)) / 0.1;
    want -= 0.1 * (0.1 + 0.9 * b);
    CHECK(m.w[0] == Approx(want).epsilon(1e-13));
  }
}

TEST_CASE("weight decay of sgd joins the gradient, and so the momentum") {
  // By hand, torch.optim.SGD(lr=0.1, momentum=0.5, weight_decay=0.2), w = 1, g = 0.1:
  // step 1: d = 0.3, b = 0.3, w = 0.97; step 2: d = 0.1 + 0.194 = 0.294, b = 0.444, w = 0.9256.
  one<double> m;
  train::sgd opt{m.p, {.lr = 0.1, .momentum = 0.5, .weight_decay = 0.2}};
  opt.step();
  CHECK(m.w[0] == Approx(0.97).epsilon(1e-14));
  opt.step();
  CHECK(m.w[0] == Approx(0.9256).epsilon(1e-14));
}

TEST_CASE("adam's first steps have the size of the learning rate, whatever the gradient") {
  // With a constant gradient m^ = g and v^ = g^2 at every step, so each step is lr * g / (|g| + epsilon).
  one<double> m;
  train::adam opt{m.p, {.lr = 0.01}};
  for (int t = 1; t <= 6; ++t) {
    opt.step();
    CHECK(m.w[0] == Approx(1 - t * 0.01 * 0.1 / (0.1 + 1e-8)).epsilon(1e-12));
    CHECK(m.w[1] == Approx(-2 + t * 0.01 * 0.2 / (0.2 + 1e-8)).epsilon(1e-12));
  }
}

TEST_CASE("adam with changing gradients follows its published recurrence") {
  // g = 1, then -1: m = 0.1, -0.01; v = 0.001, 0.001999; m^ = 1, -0.01/0.19; v^ = 1, 0.001999/0.001999 = 1.
  one<double> m;
  m.g.assign(3, 1.0);
  train::adam opt{m.p, {.lr = 0.1, .epsilon = 0}};
  opt.step();
  CHECK(m.w[0] == Approx(0.9).epsilon(1e-12));
  m.g.assign(3, -1.0);
  opt.step();
  CHECK(m.w[0] == Approx(0.9 + 0.1 * 0.01 / 0.19).epsilon(1e-12));
}

TEST_CASE("adamw decays values beside the gradient, adam within it") {
  one<double> a, b;
  train::adamw decoupled{a.p, {.lr = 0.1, .weight_decay = 0.5}};
  train::adam coupled{b.p, {.lr = 0.1, .weight_decay = 0.5}};
  decoupled.step();
  coupled.step();
  CHECK(a.w[0] == Approx(1 * (1 - 0.05) - 0.1 * 0.1 / (0.1 + 1e-8)).epsilon(1e-12));
  CHECK(b.w[0] == Approx(1 - 0.1 * 0.6 / (0.6 + 1e-8)).epsilon(1e-12));
  decoupled.step();
  CHECK(a.w[0] == Approx((0.95 - 0.1 * 0.1 / (0.1 + 1e-8)) * 0.95 - 0.1 * 0.1 / (0.1 + 1e-8)).epsilon(1e-12));
}

TEST_CASE("floats step as doubles do, to the precision of a float") {
  one<float> f;
  one<double> d;
  train::adamw of{f.p, {.lr = 0.01, .weight_decay = 0.1}}, od{d.p, {.lr = 0.01, .weight_decay = 0.1}};
  train::sgd sf{f.p, {.lr = 0.01, .momentum = 0.9}}, sd{d.p, {.lr = 0.01, .momentum = 0.9}};
  for (int t = 0; t < 20; ++t) {
    for (std::size_t i = 0; i < 3; ++i)
      f.g[i] = static_cast<float>(d.g[i] = 0.1 * std::sin(t + static_cast<double>(i)));
    of.step(), od.step(), sf.step(), sd.step();
  }
  for (std::size_t i = 0; i < 3; ++i) CHECK(f.w[i] == Approx(d.w[i]).epsilon(1e-4));
}

TEST_CASE("a gradient scale is as good as scaled gradients") {
  one<double> a, b;
  train::sgd oa{a.p, {.lr = 0.1, .momentum = 0.9}}, ob{b.p, {.lr = 0.1, .momentum = 0.9}};
  train::adam aa{a.p}, ab{b.p};
  for (double& x : a.g) x *= 4;
  oa.step({.gradient_scale = 0.25}), ob.step();
  aa.step({.gradient_scale = 0.25}), ab.step();
  CHECK(a.w == b.w);
}

TEST_CASE("the gradient norm is that of all parameters together") {
  std::vector<float> w(40), g(40);
  std::vector<double> v(3), h(3);
  for (std::size_t i = 0; i < g.size(); ++i) g[i] = static_cast<float>(i);
  h = {3, 4, 12};
  train::parameters p;
  p.add("w", w, g).add("v", v, h);
  const double norm = std::sqrt(39.0 * 40 * 79 / 6 + 169);
  CHECK(train::gradient_norm(p) == Approx(norm).epsilon(1e-14));
  CHECK(train::clip_gradient_norm(p, 2 * norm) == Approx(norm));
  CHECK(h[2] == 12);
  CHECK(train::clip_gradient_norm(p, norm / 4) == Approx(norm));
  CHECK(train::gradient_norm(p) == Approx(norm / 4).epsilon(1e-6));
  CHECK(h[2] == Approx(3).epsilon(1e-6));
  CHECK(train::clip_scale(10, 1) == Approx(0.1).epsilon(1e-6));
  h[0] = std::numeric_limits<double>::infinity();
  CHECK(std::isinf(train::clip_gradient_norm(p, 1)));
  CHECK(h[2] == Approx(3).epsilon(1e-6));
}

TEST_CASE("options without meaning are refused") {
  one<float> m;
  const auto text = [&](auto options) -> std::string {
    try {
      if constexpr (std::is_same_v<decltype(options), train::sgd_options>)
        train::sgd{m.p, options};
      else
        train::adamw{m.p, options};
    } catch (const train::option_invalid& e) {
      return e.what();
    }
    return "";
  };
  CHECK(text(train::sgd_options{.lr = -1}) ==
        "[cadre.train.807] the optimizer's lr is -1.000000; it must be a finite number of at least 0");
  CHECK_THAT(text(train::sgd_options{.momentum = 1}),
             ContainsSubstring("momentum is 1.000000; it must be at least 0 and below 1"));
  CHECK_THAT(text(train::sgd_options{.nesterov = true}), ContainsSubstring("above 0 with nesterov"));
  CHECK_THAT(text(train::adamw_options{.beta2 = 1}), ContainsSubstring("beta2"));
  CHECK_THAT(text(train::adamw_options{.weight_decay = NAN}), ContainsSubstring("weight_decay"));
  CHECK(text(train::adamw_options{}).empty());
  train::sgd opt{m.p};
  CHECK_THROWS_AS(opt.set_lr(NAN), train::option_invalid);
  CHECK(opt.lr() == 1e-2);
}

TEST_CASE("a resized parameter is an error of step, not a crash") {
  one<float> m;
  train::sgd opt{m.p};
  m.w.resize(100);
  CHECK_THROWS_AS(opt.step(), train::parameter_changed);
}

struct net {
  Eigen::MatrixXf w = Eigen::MatrixXf::Random(4, 3), dw = Eigen::MatrixXf::Random(4, 3);
  Eigen::VectorXd b = Eigen::VectorXd::Random(5), db = Eigen::VectorXd::Random(5);
  train::parameters p;
  net() { p.add("w", w, dw).add("b", b, db); }
  void wiggle(int t) {
    dw.array() += static_cast<float>(t) * 0.1f;
    db.array() -= t * 0.2;
  }
};

template <class Optimizer, class Options>
void continues(const Options& options) {
  net a, b;
  b.w = a.w, b.dw = a.dw, b.b = a.b, b.db = a.db;
  Optimizer oa{a.p, options}, ob{b.p, options};
  for (int t = 0; t < 3; ++t) a.wiggle(t), oa.step();
  cadre::checkpoint_writer w;
  w("optimizer", oa);
  const auto c = cadre::checkpoint_reader::from_bytes(w.bytes());
  c("optimizer", ob);
  std::stringstream stream;
  {
    cereal::PortableBinaryOutputArchive out(stream);
    out(oa);
  }
  Optimizer oc{b.p, options};
  {
    cereal::PortableBinaryInputArchive in(stream);
    in(oc);
  }
  CHECK(oc.steps() == 3);
  CHECK(ob.steps() == 3);
  b.w = a.w, b.dw = a.dw, b.b = a.b, b.db = a.db;
  for (int t = 0; t < 3; ++t) a.wiggle(t), oa.step(), b.wiggle(t), ob.step();
  CHECK(a.w == b.w);
  CHECK(a.b == b.b);
}

TEST_CASE("an optimizer goes on from a checkpoint as if it had never stopped") {
  continues<train::sgd>(train::sgd_options{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true});
  continues<train::sgd>(train::sgd_options{.lr = 0.1});
  continues<train::adamw>(train::adamw_options{.lr = 0.1});
  continues<train::adam>(train::adam_options{.lr = 0.1, .weight_decay = 0.1});
}

TEST_CASE("the learning rate is the program's, not the checkpoint's") {
  one<float> m;
  train::sgd a{m.p, {.lr = 0.5}}, b{m.p, {.lr = 0.25}};
  cadre::from_bytes(cadre::to_bytes(a), b);
  CHECK(b.lr() == 0.25);
}

TEST_CASE("state of other parameters is refused, naming the parameter and both shapes, and changes nothing") {
  net saved;
  train::sgd from{saved.p, {.momentum = 0.9}};
  from.step();
  const auto bytes = cadre::to_bytes(from);
  const auto refusal = [&](auto& into) -> std::string {
    try {
      cadre::from_bytes(bytes, into);
    } catch (const train::optimizer_state_mismatch& e) {
      CHECK(into.steps() == 0);
      return e.what();
    }
    return "";
  };
  {
    Eigen::MatrixXf w(4, 2), dw(4, 2);
    Eigen::VectorXd b(5), db(5);
    train::parameters p;
    p.add("w", w, dw).add("b", b, db);
    train::sgd into{p, {.momentum = 0.9}};
    CHECK(refusal(into) ==
          "[cadre.train.806] this state is not of this optimizer: it has 'w' float32 [4, 3] where here is 'w' "
          "float32 [4, 2]; load it into the model that saved it");
  }
  {
    net other;
    train::adam into{other.p};
    CHECK_THAT(refusal(into), ContainsSubstring("it is that of sgd, this is adam"));
    train::sgd plain{other.p};
    CHECK_THAT(refusal(plain), ContainsSubstring("it has 1 arrays per parameter, these options need 0"));
  }
  {
    Eigen::MatrixXf w(4, 3), dw(4, 3);
    train::parameters fewer;
    fewer.add("w", w, dw);
    train::sgd into{fewer, {.momentum = 0.9}};
    CHECK_THAT(refusal(into), ContainsSubstring("it has 'b' float64 [5, 1] as parameter 2, here there are only 1"));
  }
  {
    net base;
    std::vector<float> x(1), dx(1);
    base.p.add("x", x, dx);
    train::sgd into{base.p, {.momentum = 0.9}};
    CHECK_THAT(refusal(into), ContainsSubstring("it has 2 parameters, here 'x' comes besides"));
  }
}

}  // namespace train_optimizer
