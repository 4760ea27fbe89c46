// Results as they come: a task sends, another one works on what it sends, the main thread prints. Who is too fast waits.
#include <cadre/async.hpp>
#include <cadre/async/channel.hpp>

#include <cstdio>
#include <stdexcept>

int main() {
  cadre::thread_pool pool{{.threads = 1}};  // one thread will do: another stands in for one that waits
  cadre::channel<int> numbers{4};
  cadre::channel<double> roots{4};

  auto source = pool.submit([&] {
    for (int n = 1; n <= 5; ++n) numbers.send(n * n);
    numbers.close();
  });
  auto worker = pool.submit([&] {
    for (int& n : numbers) {
      double x = n;
      for (int i = 0; i < 30; ++i) x = (x + n / x) / 2;  // Newton
      roots.send(x);
    }
    roots.close(std::make_exception_ptr(std::runtime_error("no more numbers")));
  });

  try {
    for (double& root : roots) std::printf("%.3f\n", root);
  } catch (const std::runtime_error& e) {
    std::puts(e.what());
  }
  source.get();
  worker.get();
}
