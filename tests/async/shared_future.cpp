#include "catch.hpp"

#include <cadre/async.hpp>
#include <cadre/async/shared_future.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <list>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

TEST_CASE("a shared future gives its value to all who ask, as often as they ask, and copies nothing",
          "[shared_future]") {
  cadre::thread_pool pool{{.threads = 2}};
  const cadre::shared_future<std::unique_ptr<int>> f = pool.submit([] { return std::make_unique<int>(7); }).share();
  const auto g = f;
  static_assert(std::is_same_v<decltype(f.get()), const std::unique_ptr<int>&>);
  CHECK(*f.get() == 7);
  CHECK(*f.get() == 7);
  CHECK(&g.get() == &f.get());
  CHECK(f.ready());
  CHECK(f.valid());
}

TEST_CASE("a shared future may be of a reference or of nothing", "[shared_future]") {
  cadre::thread_pool pool{{.threads = 1}};
  int n = 1;
  const auto f = pool.submit([&n]() -> int& { return n; }).share();
  static_assert(std::is_same_v<decltype(f.get()), int&>);
  f.get() = 2;
  CHECK(n == 2);
  CHECK(&f.then([](int& x) -> int& { return x; }).get() == &n);
  const auto g = pool.submit([&n] { ++n; }).share();
  g.get();
  g.get();
  CHECK(g.then([&n] { return n; }).get() == 3);
}

TEST_CASE("the last shared future may be a temporary: its value is copied out", "[shared_future]") {
  cadre::thread_pool pool{{.threads = 1}};
  const auto text = [&pool] { return pool.submit([] { return std::string(100, 'x'); }).share(); };
  static_assert(std::is_same_v<decltype(text().get()), std::string>);
  const std::string& kept = text().get();
  CHECK(kept == std::string(100, 'x'));
}

TEST_CASE("waits for a shared future time out and end", "[shared_future]") {
  using namespace std::chrono_literals;
  cadre::promise<int> p;
  const auto f = p.get_future().share();
  CHECK_FALSE(f.ready());
  CHECK_FALSE(f.wait_for(1ms));
  CHECK_FALSE(f.wait_until(std::chrono::system_clock::now() + 1ms));
  p.set_value(1);
  f.wait();
  CHECK(f.wait_for(0s));
  CHECK(f.wait_until(std::chrono::steady_clock::now() + 2s));
}

TEST_CASE("an empty shared future says so", "[shared_future]") {
  const cadre::shared_future<int> f;
  CHECK_FALSE(f.valid());
  CHECK_THROWS_WITH(
      f.get(),
      "[cadre.async.201] get() on an empty future: it was never set, was moved from, or gave its value away "
      "by get(), then() or when_all(); keep what get() returned, or ask valid() first");
  CHECK_THROWS_AS(f.wait(), cadre::empty_future);
  CHECK_THROWS_AS(f.then([](int) {}), cadre::empty_future);
  CHECK_THROWS_AS(f.cancel(), cadre::empty_future);
  CHECK_THROWS_AS(cadre::future<int>().share(), cadre::empty_future);
  cadre::promise<int> p;
  auto one_shot = p.get_future();
  cadre::shared_future<int> g = std::move(one_shot).share();
  CHECK_FALSE(one_shot.valid());
  const auto h = std::move(g);
  CHECK_FALSE(g.valid());
  g = h;
  CHECK(g.valid());
  p.set_value(1);
}

TEST_CASE("every holder of a shared future gets the error with its type, and the handler none", "[shared_future]") {
  std::atomic<int> unobserved{0};
  {
    cadre::thread_pool pool{
        {.threads = 2, .on_unobserved_error = [&](const cadre::unobserved_error&) { ++unobserved; }}};
    const auto f = pool.submit([]() -> int { throw std::out_of_range("shared"); }).share();
    const auto g = f;
    CHECK_THROWS_AS(f.get(), std::out_of_range);
    CHECK_THROWS_AS(f.get(), std::out_of_range);
    CHECK_THROWS_WITH(g.get(), "shared");
    CHECK_THROWS_WITH(g.then([](int) {}).get(), "shared");
  }
  CHECK(unobserved == 0);
}

TEST_CASE("an error that no holder of a shared future asked for goes to the handler once", "[shared_future]") {
  std::atomic<int> unobserved{0};
  {
    cadre::thread_pool pool{
        {.threads = 2, .on_unobserved_error = [&](const cadre::unobserved_error&) { ++unobserved; }}};
    const auto f = pool.submit([]() -> int { throw std::out_of_range("shared"); }).share();
    const auto g = f;
    f.wait();
    static_cast<void>(g.then([](int) {}));
    static_cast<void>(f.then([](int) {}));
  }
  CHECK(unobserved == 1);
}

TEST_CASE("many tasks follow one shared future, on its pool or another", "[shared_future]") {
  cadre::thread_pool pool{{.threads = 2}};
  cadre::thread_pool other{{.threads = 1}};
  const auto other_thread = other.submit([] { return std::this_thread::get_id(); }).get();
  cadre::promise<std::string> p(pool);
  const auto f = p.get_future().share();
  std::vector<cadre::future<std::size_t>> sizes;
  for (int i = 0; i < 100; ++i) sizes.push_back(f.then([](const std::string& s) { return s.size(); }));
  auto where = f.then(other, [](const std::string&) { return std::this_thread::get_id(); });
  p.set_value("five!");
  for (std::size_t n : cadre::get(sizes)) CHECK(n == 5);
  CHECK(where.get() == other_thread);
  CHECK(f.get() == "five!");
}

TEST_CASE("a value lives as long as somebody shares it", "[shared_future]") {
  auto watched = std::make_shared<int>(1);
  cadre::thread_pool pool{{.threads = 1}};
  auto f = pool.submit([watched] { return watched; }).share();
  cadre::promise<void> go;
  auto last = f.then([wait = go.get_future()](const std::shared_ptr<int>& s) mutable {
    wait.get();
    return *s;
  });
  f.wait();
  CHECK(watched.use_count() == 2);
  f = {};
  CHECK(watched.use_count() == 2);  // the task that follows holds it
  go.set_value();
  CHECK(last.get() == 1);
  CHECK(watched.use_count() == 1);
}

TEST_CASE("any holder may cancel what is shared, and all are told", "[shared_future]") {
  std::atomic<int> unobserved{0};
  std::atomic<bool> go{false};
  cadre::thread_pool pool{{.threads = 1, .on_unobserved_error = [&](const cadre::unobserved_error&) { ++unobserved; }}};
  auto busy = pool.submit([&go] {
    while (!go) std::this_thread::yield();
  });
  const auto f = pool.submit([] { return 1; }).share();
  const auto g = f;
  CHECK(f.cancel());
  CHECK(g.ready());
  CHECK_THROWS_AS(g.get(), cadre::task_cancelled);
  CHECK_THROWS_AS(f.get(), cadre::task_cancelled);
  CHECK_FALSE(g.cancel());
  go = true;
  busy.get();
  CHECK(unobserved == 0);
}

TEST_CASE("wait takes shared futures and any range with a size", "[shared_future]") {
  using namespace std::chrono_literals;
  cadre::promise<int> a;
  cadre::promise<int> b;
  const auto f = a.get_future().share();
  const auto g = b.get_future().share();
  const std::array futures{g, f, g, f};
  a.set_value(1);
  CHECK(cadre::wait(futures, 2).ready == std::vector<std::size_t>{1, 3});
  CHECK(cadre::wait(futures, 3, 1ms).pending == std::vector<std::size_t>{0, 2});
  CHECK_THROWS_AS(cadre::wait(futures, 5), cadre::impossible_wait);
  b.set_value(2);
  std::list<cadre::shared_future<int>> list(futures.begin(), futures.end());
  CHECK(cadre::wait(list, 4, 2s).pending.empty());
  list.emplace_back();
  CHECK_THROWS_AS(cadre::wait(list, 1), cadre::empty_future);
}

TEST_CASE("several threads share, get and let go of one result at the same time", "[shared_future]") {
  std::atomic<long> sum{0};
  std::atomic<int> errors{0};
  cadre::thread_pool pool{{.threads = 2}};
  for (int round = 0; round < 2000; ++round) {
    const bool fails = round % 4 == 0;
    auto f = pool.submit([fails, round]() -> int {
                   if (fails) throw std::out_of_range("x");
                   return round;
                 })
                 .share();
    const auto ask = [&, f] {
      const auto mine = f;
      try {
        sum += mine.get();
      } catch (const std::out_of_range&) {
        ++errors;
      }
    };
    auto a = pool.submit(ask);
    auto b = f.then([&sum](const int& x) { sum += x; });
    f.cancel();
    try {
      sum += f.get();
    } catch (const cadre::task_cancelled&) {
      CHECK_THROWS_AS(a.get(), cadre::task_cancelled);
      CHECK_THROWS_AS(b.get(), cadre::task_cancelled);
      continue;
    } catch (const std::out_of_range&) {
      ++errors;
    }
    a.get();
    if (fails)
      CHECK_THROWS_AS(b.get(), std::out_of_range);
    else
      b.get();
  }
}
