#include "catch.hpp"

#include <cadre/async.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace future_test {

using namespace std::chrono_literals;

int nested(cadre::thread_pool& pool, int depth) {
  if (depth == 0) return 0;
  return 1 + pool.submit([&pool, depth] { return nested(pool, depth - 1); }).get();
}

int nested_then(cadre::thread_pool& pool, int depth) {
  if (depth == 0) return 0;
  return pool.submit([&pool, depth] { return nested_then(pool, depth - 1); }).then([](int x) { return x + 1; }).get();
}

int fibonacci(cadre::thread_pool& pool, int n) {
  if (n < 2) return n;
  auto a = pool.submit([&pool, n] { return fibonacci(pool, n - 1); });
  const int b = fibonacci(pool, n - 2);
  return a.get() + b;
}

// Keeps one thread of a pool busy until it is let go.
class blocker {
 public:
  explicit blocker(cadre::thread_pool& pool)
      : done_(pool.submit([this] {
          entered_.store(true);
          entered_.notify_all();
          open_.wait(false);
        })) {
    entered_.wait(false);
  }
  ~blocker() { release(); }
  void release() {
    open_.store(true);
    open_.notify_all();
    if (done_.valid()) done_.get();
  }

 private:
  std::atomic<bool> entered_{false};
  std::atomic<bool> open_{false};
  cadre::future<void> done_;
};

struct special_error : std::runtime_error {
  explicit special_error(int c) : std::runtime_error("special"), code(c) {}
  int code;
};

}  // namespace future_test

TEST_CASE("a future gives the result of its task", "[future]") {
  cadre::thread_pool pool{{.threads = 2}};
  CHECK(pool.submit([] { return 42; }).get() == 42);
  CHECK(pool.submit([](int a, const std::string& b) { return b + std::to_string(a); }, 3, "n").get() == "n3");
  pool.submit([] {}).get();
}

TEST_CASE("a future of a reference refers to the object itself", "[future]") {
  cadre::thread_pool pool{{.threads = 1}};
  int n = 1;
  cadre::future<int&> f = pool.submit([&n]() -> int& { return n; });
  int& r = f.get();
  CHECK(&r == &n);
  cadre::future<int> g = pool.submit([&n]() -> int& { return n; }).then([](int& x) { return ++x; });
  CHECK(g.get() == 2);
  CHECK(n == 2);
}

TEST_CASE("functions, arguments and results need only be movable", "[future]") {
  cadre::thread_pool pool{{.threads = 1}};
  auto f =
      pool.submit([p = std::make_unique<int>(1)](std::unique_ptr<int> q) { return std::make_unique<int>(*p + *q); },
                  std::make_unique<int>(2));
  auto g = std::move(f).then([r = std::make_unique<int>(3)](std::unique_ptr<int> q) {
    *q += *r;
    return q;
  });
  CHECK(*g.get() == 6);
}

TEST_CASE("a result needs no default constructor", "[future]") {
  struct number {
    explicit number(int v) : value(v) {}
    int value;
  };
  cadre::thread_pool pool{{.threads = 1}};
  CHECK(pool.submit([] { return number(4); }).then([](number n) { return number(n.value + 1); }).get().value == 5);
}

TEST_CASE("an exception keeps its type", "[future]") {
  cadre::thread_pool pool{{.threads = 2}};
  try {
    pool.submit([]() -> int { throw future_test::special_error(7); }).get();
    FAIL("nothing was thrown");
  } catch (const future_test::special_error& e) {
    CHECK(e.code == 7);
  }
  CHECK_THROWS_AS(pool.submit([] { throw 5; }).get(), int);
}

TEST_CASE("a value is given once; a second get says so", "[future]") {
  cadre::thread_pool pool{{.threads = 1}};
  cadre::future<int> f = pool.submit([] { return 1; });
  CHECK(f.valid());
  CHECK(f.get() == 1);
  CHECK_FALSE(f.valid());
  const std::string rest =
      " on an empty future: it was never set, was moved from, or gave its value away by get(), then() or when_all(); "
      "keep what "
      "get() returned, or ask valid() first";
  CHECK_THROWS_WITH(f.get(), "[cadre.async.201] get()" + rest);
  CHECK_THROWS_WITH(f.wait(), "[cadre.async.201] wait()" + rest);
  CHECK_THROWS_WITH(f.ready(), "[cadre.async.201] ready()" + rest);
  CHECK_THROWS_WITH(f.wait_for(std::chrono::seconds(0)), "[cadre.async.201] wait_for()" + rest);
  CHECK_THROWS_WITH(std::move(f).then([](int) {}), "[cadre.async.201] then()" + rest);
}

TEST_CASE("a get that throws empties the future too", "[future]") {
  cadre::thread_pool pool{{.threads = 1}};
  cadre::future<void> f = pool.submit([] { throw std::runtime_error("once"); });
  CHECK_THROWS_AS(f.get(), std::runtime_error);
  CHECK_THROWS_AS(f.get(), cadre::empty_future);
}

TEST_CASE("a timed wait really times out", "[future]") {
  using namespace std::chrono_literals;
  cadre::thread_pool pool{{.threads = 1}};
  future_test::blocker busy(pool);
  cadre::future<int> f = pool.submit([] { return 1; });
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(f.wait_for(30ms));
  CHECK(std::chrono::steady_clock::now() - begin >= 30ms);
  CHECK_FALSE(f.wait_until(std::chrono::system_clock::now() + 10ms));
  CHECK_FALSE(f.wait_until(std::chrono::steady_clock::now() - 10s));
  CHECK_FALSE(f.wait_for(0ms));
  CHECK_FALSE(f.ready());
  busy.release();
  CHECK(f.wait_for(std::chrono::hours::max()));
  CHECK(f.ready());
  CHECK(f.get() == 1);
}

TEST_CASE("a timed wait inside a task times out when another thread runs what it waits for", "[future]") {
  using namespace std::chrono_literals;
  std::atomic<bool> started{false};
  std::atomic<bool> open{false};
  cadre::thread_pool pool{{.threads = 2}};
  auto slow = pool.submit([&] {
    started.store(true);
    started.notify_all();
    open.wait(false);
  });
  started.wait(false);
  const bool in_time = pool.submit([&slow] { return slow.wait_for(20ms); }).get();
  CHECK_FALSE(in_time);
  open.store(true);
  open.notify_all();
  slow.get();
}

TEST_CASE("a timed wait inside the only thread of a pool runs what it waits for", "[future]") {
  using namespace std::chrono_literals;
  cadre::thread_pool pool{{.threads = 1}};
  CHECK(pool.submit([&pool] {
              auto f = pool.submit([] { return 1; });
              return f.wait_for(10s) ? f.get() : -1;
            })
            .get() == 1);
}

TEST_CASE("many threads may wait for one future", "[future]") {
  cadre::promise<int> p;
  cadre::future<int> f = p.get_future();
  std::atomic<int> seen{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&f, &seen] {
        f.wait();
        ++seen;
      });
    p.set_value(3);
  }
  CHECK(seen == 4);
  CHECK(f.get() == 3);
}

TEST_CASE("waits nest a thousand deep on a pool of one thread", "[future]") {
  cadre::thread_pool pool{{.threads = 1}};
  CHECK(pool.submit([&pool] { return future_test::nested(pool, 1000); }).get() == 1000);
  CHECK(pool.submit([&pool] { return future_test::nested_then(pool, 1000); }).get() == 1000);
}

TEST_CASE("waits nest on pools of any size", "[future]") {
  for (const std::size_t threads : {1u, 2u, 3u, 8u}) {
    cadre::thread_pool pool{{.threads = threads}};
    CHECK(pool.submit([&pool] { return future_test::nested(pool, 200); }).get() == 200);
    CHECK(pool.submit([&pool] { return future_test::nested_then(pool, 200); }).get() == 200);
    CHECK(pool.submit([&pool] { return future_test::fibonacci(pool, 16); }).get() == 987);
    CHECK(future_test::fibonacci(pool, 14) == 377);
  }
}

TEST_CASE("a wait with a lock held never runs a stranger that wants the same lock", "[future]") {
  for (const std::size_t threads : {1u, 2u, 4u}) {
    std::mutex m;
    cadre::thread_pool pool{{.threads = threads}};
    std::vector<cadre::future<int>> tasks;
    for (int i = 0; i < 500; ++i)
      tasks.push_back(pool.submit([&pool, &m, i] {
        const std::lock_guard lock(m);
        auto a = pool.submit([i] { return i; });
        auto b = pool.submit([] { return 1; });
        return a.get() + b.get();
      }));
    int sum = 0;
    for (auto& t : tasks) sum += t.get();
    CHECK(sum == 500 * 499 / 2 + 500);
  }
}

TEST_CASE("tasks of two pools may wait for each other", "[future]") {
  cadre::thread_pool a{{.threads = 1}};
  cadre::thread_pool b{{.threads = 1}};
  struct there_and_back {
    static int go(cadre::thread_pool& x, cadre::thread_pool& y, int depth) {
      if (depth == 0) return 0;
      return 1 + x.submit([&x, &y, depth] { return go(y, x, depth - 1); }).get();
    }
  };
  CHECK(there_and_back::go(a, b, 200) == 200);
}

TEST_CASE("a continuation gets the value, and its own result goes on", "[future]") {
  cadre::thread_pool pool{{.threads = 2}};
  auto f = pool.submit([] { return 20; }).then([](int x) { return x + 1; }).then([](int x) {
    return std::to_string(2 * x);
  });
  CHECK(f.get() == "42");
  int n = 0;
  pool.submit([&n] { n = 1; }).then([&n] { ++n; }).get();
  CHECK(n == 2);
  cadre::future<int> done = pool.submit([] { return 5; });
  done.wait();
  CHECK(std::move(done).then([](int x) { return x * 2; }).get() == 10);
}

TEST_CASE("an error passes continuations by with its type", "[future]") {
  cadre::thread_pool pool{{.threads = 1}};
  bool called = false;
  auto f = pool.submit([]() -> int { throw future_test::special_error(3); })
               .then([&called](int x) {
                 called = true;
                 return x;
               })
               .then([&called](int) { called = true; });
  CHECK_THROWS_AS(f.get(), future_test::special_error);
  CHECK_FALSE(called);
  auto g = pool.submit([] { return 1; }).then([](int) -> int { throw std::out_of_range("later"); });
  CHECK_THROWS_WITH(g.get(), "later");
}

TEST_CASE("a chain of a hundred thousand continuations needs no deep stack", "[future]") {
  constexpr int links = 100'000;
  SECTION("on a pool") {
    cadre::thread_pool pool{{.threads = 2}};
    future_test::blocker busy(pool);
    future_test::blocker busy_too(pool);
    auto f = pool.submit([] { return 0; });
    for (int i = 0; i < links; ++i) f = std::move(f).then([](int x) { return x + 1; });
    busy.release();
    busy_too.release();
    CHECK(f.get() == links);
  }
  SECTION("on the thread that keeps a promise") {
    cadre::promise<int> p;
    auto f = p.get_future();
    for (int i = 0; i < links; ++i) f = std::move(f).then([](int x) { return x + 1; });
    p.set_value(0);
    CHECK(f.get() == links);
  }
  SECTION("when nobody wants the end of it") {
    cadre::promise<int> p;
    auto f = p.get_future();
    for (int i = 0; i < links; ++i) f = std::move(f).then([](int x) { return x + 1; });
  }
  SECTION("with an error that passes by") {
    cadre::promise<int> p;
    auto f = p.get_future();
    for (int i = 0; i < links; ++i) f = std::move(f).then([](int x) { return x + 1; });
    p.set_error(std::runtime_error("start"));
    CHECK_THROWS_WITH(f.get(), "start");
  }
}

TEST_CASE("a dropped future lets its task go on", "[future]") {
  std::atomic<int> ran{0};
  {
    cadre::thread_pool pool{{.threads = 1}};
    for (int i = 0; i < 100; ++i) pool.submit([&ran] { ++ran; });
  }
  CHECK(ran == 100);
}

TEST_CASE("what a task holds is gone before its future is ready", "[future]") {
  cadre::thread_pool pool{{.threads = 2}};
  for (int i = 0; i < 200; ++i) {
    auto shared = std::make_shared<int>(1);
    auto f = pool.submit([shared] { return *shared; });
    f.wait();
    CHECK(shared.use_count() == 1);
    auto g = std::move(f).then([shared](int) {});
    g.wait();
    CHECK(shared.use_count() == 1);
  }
}

TEST_CASE("a future outlives its pool", "[future]") {
  cadre::future<int> f;
  cadre::future<int> g;
  cadre::promise<int> p;
  {
    cadre::thread_pool pool{{.threads = 1}};
    f = pool.submit([] { return 1; });
    cadre::promise<int> q(pool);
    g = q.get_future().then([](int x) { return x + 1; });
    p = std::move(q);
  }
  CHECK(std::move(f).then([](int x) { return x + 1; }).get() == 2);  // here, as there is no pool any more
  p.set_value(5);
  CHECK(g.get() == 6);
  CHECK_THROWS_AS((cadre::thread_pool{{.threads = 1}}.submit([]() -> int { throw std::runtime_error("mine"); }).get()),
                  std::runtime_error);
}
