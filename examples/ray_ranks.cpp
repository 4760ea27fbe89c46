// Ray's tasks and actors on the ranks of a job: mpirun -n 4 ray_ranks. Without mpirun, in one process.
#include <cadre/cadre.hpp>
#include <cadre/mpi.hpp>

#include <cstdio>
#include <vector>

int slow_square(int x) { return x * x; }

class Accumulator {
 public:
  void add(int x) { sum_ += x; }
  [[nodiscard]] int sum() const { return sum_; }

 private:
  int sum_ = 0;
};

void contribute(cadre::actor<Accumulator> to, int x) { to.call<&Accumulator::add>(x).get(); }

int main(int argc, char** argv) {
  return cadre::mpi::run(argc, argv, [](cadre::runtime& rt) {  // rank 0 runs this, the others serve
    auto square = rt.submit<&slow_square>({.resources = {{"cpu", 1}}, .on = cadre::spread, .max_retries = 3}, 7);
    std::printf("%d\n", square.get());

    const auto sum = rt.actor<Accumulator>({.on = cadre::on_rank(rt.world_size() - 1)});
    std::vector<cadre::future<void>> tasks;
    for (int x = 1; x <= 10; ++x) tasks.push_back(rt.submit<&contribute>(sum, x));
    cadre::get(tasks);
    std::printf("%d\n", sum.call<&Accumulator::sum>().get());
  });
}
