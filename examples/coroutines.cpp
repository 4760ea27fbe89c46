// A coroutine that returns cadre::future is a task that gives its thread back while it waits.
#include <cadre/async.hpp>
#include <cadre/async/coroutine.hpp>

#include <cstdio>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// A parameter that is a thread_pool& says where it runs.
cadre::future<long> fib(cadre::thread_pool& pool, int n) {
  if (n < 2) co_return n;
  auto left = fib(pool, n - 1);  // under way while the next line begins the other
  auto right = fib(pool, n - 2);
  const long l = co_await left;
  co_return l + co_await right;
}

cadre::future<double> mean(cadre::thread_pool& pool, std::size_t n) {
  std::vector<double> x = co_await pool.submit([n] {
    std::vector<double> v(n);
    std::iota(v.begin(), v.end(), 1.0);
    return v;
  });
  if (x.empty()) throw std::invalid_argument("the mean of nothing");
  co_return pool.reduce(
      0, x.size(), 0.0, [&x](std::size_t i) { return x[i]; }, std::plus<>{}) /
      static_cast<double>(x.size());
}

cadre::future<std::string> hop(cadre::thread_pool&, cadre::thread_pool& other) {
  std::string path = "computed";
  co_await cadre::reschedule(other);  // from here on it runs on the other pool
  path += ", written";
  co_return path;
}

// Without a pool it begins at once, here. It ends as soon as it is cancelled, although what it waits for never comes.
cadre::future<void> server(cadre::future<int> request) {
  try {
    co_await request;
  } catch (const cadre::task_cancelled&) {
    std::puts("the server was told to stop");
    throw;
  }
}

}  // namespace

int main() {
  cadre::thread_pool pool;
  cadre::thread_pool disk{{.threads = 1, .name = "disk"}};
  std::printf("fib(18) = %ld\n", fib(pool, 18).get());
  std::printf("mean = %.1f\n", mean(pool, 1000).get());
  try {
    mean(pool, 0).get();
  } catch (const std::invalid_argument& e) {
    std::printf("an error keeps its type: %s\n", e.what());
  }
  std::puts(hop(pool, disk).get().c_str());
  std::puts(mean(pool, 9).then([](double x) { return "then " + std::to_string(static_cast<int>(x)); }).get().c_str());

  cadre::promise<int> never;
  auto served = server(never.get_future());
  served.cancel();
  try {
    served.get();
  } catch (const cadre::task_cancelled&) {
    std::puts("and did");
  }
}
