// A parameter server and its workers, set aside together: all of them have their place, or none has begun. The program is
// the same in one process and under mpirun, where the bundles are spread over the ranks:
//   mpirun --bind-to none -n 3 placement_group
#include <cadre/mpi.hpp>

#include <cstdio>
#include <utility>
#include <vector>

class server {
 public:
  double add(double step) { return weight_ += step; }

 private:
  double weight_ = 0;
};

class worker {
 public:
  explicit worker(cadre::actor<server> s) : server_(s) {}
  int train(int steps) {
    for (int k = 0; k < steps; ++k) server_.call<&server::add>(0.125).get();
    return steps;
  }

 private:
  cadre::actor<server> server_;
};

int main(int argc, char** argv) {
  cadre::runtime_options what_each_rank_has{.threads = 2, .resources = {{"slot", 4}}};
  return cadre::mpi::run(
      argc, argv,
      [](cadre::runtime& rt) {
        const cadre::placement_group group = rt.placement_group(
            {.bundles = {{{"slot", 1}, {"cpu", 1}}, {{"slot", 3}}}, .strategy = cadre::spread, .name = "training"});
        group.ready().get();

        // The server is alone in its bundle; the workers share the other one.
        const auto s = rt.actor<server>({.on = group.bundle(0), .resources = {{"slot", 1}}});
        std::vector<cadre::actor<worker>> workers;
        std::vector<cadre::future<int>> steps;
        for (int w = 0; w < 3; ++w) {
          workers.push_back(rt.actor<worker>({.on = group.bundle(1), .resources = {{"slot", 1}}}, s));
          steps.push_back(workers.back().call<&worker::train>(100));
        }
        int all = 0;
        for (auto& n : steps) all += n.get();
        std::printf("%d steps, weight %.1f\n", all, s.call<&server::add>(0).get());

        // With the group end its actors, and what it had is free for others.
        rt.remove(group);
        try {
          s.call<&server::add>(1).get();
        } catch (const cadre::actor_died&) {
          std::printf("the server ended with its group\n");
        }
        try {
          static_cast<void>(rt.placement_group({{{"slot", 5}}}, cadre::pack));
        } catch (const cadre::impossible_request&) {
          std::printf("no rank has 5 slots\n");
        }
      },
      std::move(what_each_rank_has));
}
