#include <cadre/async.hpp>

#include <cstdio>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

int fib(cadre::thread_pool& pool, int n) {
  if (n < 2) return n;
  auto left = pool.submit(fib, std::ref(pool), n - 1);
  return fib(pool, n - 2) + left.get();  // waiting inside a task runs other tasks: no nesting deadlocks
}

int main() {
  cadre::thread_pool pool;
  auto text = pool.submit(fib, std::ref(pool), 20).then([](int n) { return "fib(20) = " + std::to_string(n); });
  std::puts(text.get().c_str());
  std::vector<double> x(1000);
  pool.for_each(0, x.size(), [&](std::size_t i) { x[i] = static_cast<double>(i); });
  try {
    pool.submit([]() -> int { throw std::out_of_range("an error keeps its type"); }).get();
  } catch (const std::out_of_range& e) {
    std::puts(e.what());
  }
}
