// The samples of Ray's tutorial on tasks, beside which docs/from-ray.md shows them.
#include <cadre/async.hpp>

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

int slow_square(int x) { return x * x; }

int sum_of_squares(cadre::thread_pool& pool, int n) {
  std::vector<cadre::future<int>> parts;
  for (int i = 0; i < n; ++i) parts.push_back(pool.submit(slow_square, i));
  int sum = 0;
  for (int part : cadre::get(parts)) sum += part;
  return sum;
}

int main() {
  using namespace std::chrono_literals;
  cadre::thread_pool pool;

  std::vector<cadre::future<int>> squares;
  for (int i = 0; i < 4; ++i) squares.push_back(pool.submit(slow_square, i));
  auto [ready, pending] = cadre::wait(squares, 1, 5s);  // positions in `squares`; nothing is consumed
  std::printf("at least one of %zu is ready: %s\n", ready.size() + pending.size(), ready.empty() ? "no" : "yes");
  for (int y : cadre::get(squares)) std::printf("%d\n", y);

  auto a = pool.submit(slow_square, 3), b = pool.submit(slow_square, 4);
  auto sum =
      cadre::when_all(std::move(a), std::move(b)).then([](auto both) { return std::get<0>(both) + std::get<1>(both); });
  std::printf("%d\n", sum.get());

  auto nested = pool.submit([&] { return sum_of_squares(pool, 10); });
  std::printf("%d\n", nested.get());

  auto failing = pool.submit([]() -> int { throw std::out_of_range("no such block"); });
  try {
    failing.get();
  } catch (const std::out_of_range& e) {
    std::printf("%s\n", e.what());
  }
}
