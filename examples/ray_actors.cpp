// The samples of Ray's tutorials on actors and objects, beside which docs/from-ray.md shows them.
#include <cadre/actor.hpp>
#include <cadre/async/wait.hpp>
#include <cadre/eigen.hpp>

#include <Eigen/Core>

#include <cstdio>
#include <vector>

struct Counter {
  int n;
  explicit Counter(int start) : n(start) {}
  int increment(int by) { return n += by; }
};

using weights = std::vector<double>;

struct ParameterServer {
  weights w{0, 0};
  weights get_weights() const { return w; }
  weights apply_gradients(const std::vector<weights>& all) {
    for (const weights& g : all)
      for (std::size_t i = 0; i < w.size(); ++i) w[i] -= g[i];
    return w;
  }
};
struct Worker {
  double target;
  explicit Worker(double t) : target(t) {}
  weights compute_gradients(const weights& w) { return {0.1 * (w[0] - target), 0.1 * (w[1] + target)}; }
};

double sum_matrix(Eigen::Map<const Eigen::MatrixXf> m) { return m.sum(); }

int main(int argc, char** argv) {
  return cadre::run(argc, argv, [](cadre::runtime& rt) {
    cadre::actor<Counter> counter = rt.actor<Counter>({.name = "counter"}, 10);
    std::printf("%d\n", counter.call<&Counter::increment>(3).get());
    auto same = rt.find_actor<Counter>("counter");
    std::printf("%s\n", same == counter ? "the same" : "another");

    auto ps = rt.actor<ParameterServer>();
    std::vector<cadre::actor<Worker>> workers{rt.actor<Worker>(1.0), rt.actor<Worker>(3.0)};
    weights current = ps.call<&ParameterServer::get_weights>().get();
    for (int i = 0; i < 100; ++i) {
      std::vector<cadre::future<weights>> gradients;
      for (auto& worker : workers) gradients.push_back(worker.call<&Worker::compute_gradients>(current));
      current = ps.call<&ParameterServer::apply_gradients>(cadre::get(gradients)).get();
    }
    std::printf("%.2f %.2f\n", current[0], current[1]);

    Eigen::MatrixXf matrix = Eigen::MatrixXf::Ones(30, 20);
    cadre::object_ref<Eigen::MatrixXf> ref = rt.put(matrix);
    cadre::view<Eigen::MatrixXf> v = rt.get(ref);  // no copy
    std::printf("%g %g\n", v->sum(), rt.submit<&sum_matrix>(ref).get());
  });
}
