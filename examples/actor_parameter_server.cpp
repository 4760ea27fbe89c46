// A parameter server: an actor holds the weights, workers read them from the store and send it their gradients.
#include <cadre/actor.hpp>

#include <cmath>
#include <cstdio>
#include <span>
#include <vector>

using weights = std::vector<double>;

/// Learns y = 2 x0 - 3 x1 by gradient descent. Readers do not wait for each other: a version of the weights never changes.
class parameter_server {
 public:
  explicit parameter_server(double rate) : rate_(rate) { publish(); }
  [[nodiscard]] cadre::object_ref<weights> current() const { return published_; }
  void apply(const weights& gradient) {
    for (std::size_t i = 0; i < w_.size(); ++i) w_[i] -= rate_ * gradient[i];
    publish();
  }

 private:
  void publish() { published_ = cadre::this_task::runtime().put(w_); }

  double rate_;
  weights w_{0, 0};
  cadre::object_ref<weights> published_;
};

weights gradient(std::span<const double> w, int worker) {  // looks at the store's memory
  weights g(2);
  for (int k = 0; k < 50; ++k) {
    const double x0 = std::sin(worker + k), x1 = std::cos(3.0 * worker - k);
    const double error = w[0] * x0 + w[1] * x1 - (2 * x0 - 3 * x1);
    g[0] += 2 * error * x0 / 50;
    g[1] += 2 * error * x1 / 50;
  }
  return g;
}

int train(cadre::actor<parameter_server> server, int worker) {
  cadre::runtime& rt = cadre::this_task::runtime();
  for (int step = 0; step < 100; ++step) {
    auto g = rt.submit<&gradient>(server.call<&parameter_server::current>().get(), worker);
    server.call<&parameter_server::apply>(std::move(g)).get();  // the future is waited for in the call's place
  }
  return worker;
}

int main(int argc, char** argv) {
  return cadre::run(argc, argv, [](cadre::runtime& rt) {
    const auto server = rt.actor<parameter_server>(0.1);
    std::vector<cadre::future<int>> workers;
    for (int k = 0; k < 4; ++k) workers.push_back(rt.submit<&train>(server, k));
    for (auto& worker : workers) std::printf("worker %d has finished\n", worker.get());
    const auto w = rt.get(server.call<&parameter_server::current>().get());
    std::printf("%.2f %.2f\n", (*w)[0], (*w)[1]);
  });
}
