// The program that is built five ways: what a user's first program looks like, over two translation units.
#include "consumer.hpp"

#include <cstdio>

int main() {
  cadre::thread_pool pool{{.threads = 2}};
  auto answer = pool.submit([] { return 41; }).then([](int x) { return x + 1; });
  const double mean = mean_over_ranks(2);
  std::printf("%d %.1f\n", answer.get(), mean);
  return mean == 0.5 ? 0 : 1;
}
