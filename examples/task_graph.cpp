// A graph of tasks, built once and run twice: what is ready runs at the same time, an error skips what follows it.
#include <cadre/async.hpp>
#include <cadre/async/task_graph.hpp>

#include <cstdio>
#include <numeric>
#include <stdexcept>
#include <vector>

int main() {
  cadre::thread_pool pool;
  std::vector<double> values;
  double sum = 0;
  double largest = 0;
  int n = 4;

  cadre::task_graph graph;
  auto load = graph.add(
      [&] {
        if (n == 0) throw std::invalid_argument("nothing to load");
        values.resize(static_cast<std::size_t>(n));
        std::iota(values.begin(), values.end(), 1.0);
      },
      "load");
  auto add = graph.add([&] { sum = std::accumulate(values.begin(), values.end(), 0.0); }, "add");
  auto find = graph.add([&] { largest = values.back(); }, "find");
  auto print = graph.add([&] { std::printf("sum %g, largest %g\n", sum, largest); }, "print");
  load >> add >> print;
  load >> find >> print;

  graph.run(pool).get();
  n = 100;
  graph.run(pool).get();
  n = 0;
  try {
    graph.run(pool).get();
  } catch (const std::invalid_argument& e) {
    std::printf("the run failed: %s\n", e.what());
  }
  std::fputs(graph.dot().c_str(), stdout);
}
