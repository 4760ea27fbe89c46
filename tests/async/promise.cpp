#include "catch.hpp"

#include <cadre/async/promise.hpp>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

TEST_CASE("a promise gives its future a value from any thread", "[promise]") {
  cadre::promise<std::unique_ptr<int>> p;
  auto f = p.get_future();
  std::jthread t([p = std::move(p)]() mutable { p.set_value(std::make_unique<int>(9)); });
  CHECK(*f.get() == 9);
}

TEST_CASE("a promise may be kept before its future is asked for", "[promise]") {
  cadre::promise<int> p;
  p.set_value(3);
  CHECK(p.get_future().get() == 3);
  cadre::promise<void> v;
  v.set_value();
  v.get_future().get();
  int n = 0;
  cadre::promise<int&> r;
  r.set_value(n);
  CHECK(&r.get_future().get() == &n);
}

TEST_CASE("a promise passes errors on", "[promise]") {
  cadre::promise<int> p;
  auto f = p.get_future();
  p.set_error(std::out_of_range("no"));
  CHECK_THROWS_AS(f.get(), std::out_of_range);
}

TEST_CASE("a promise that is destroyed unkept says so", "[promise]") {
  cadre::future<int> f;
  {
    cadre::promise<int> p;
    f = p.get_future();
  }
  CHECK_THROWS_WITH(
      f.get(),
      "[cadre.async.202] the promise of this future was destroyed without a value; call set_value() or set_error() on "
      "every way out");
  {
    cadre::promise<int> p;
    f = p.get_future();
    p = cadre::promise<int>();
    CHECK_THROWS_AS(f.get(), cadre::broken_promise);
  }
}

TEST_CASE("a promise is kept once and gives one future", "[promise]") {
  cadre::promise<int> p;
  auto f = p.get_future();
  CHECK_THROWS_WITH(p.get_future(),
                    "[cadre.async.204] this promise has given its future away already, or was moved from; ask for it "
                    "once and move it");
  p.set_value(1);
  CHECK_THROWS_WITH(
      p.set_value(2),
      "[cadre.async.203] this promise has been kept already, or was moved from; set a value or an error once");
  CHECK_THROWS_AS(p.set_error(std::runtime_error("late")), cadre::promise_already_satisfied);
  CHECK(f.get() == 1);
  cadre::promise<int> q = std::move(p);
  CHECK_THROWS_AS(p.set_value(1), cadre::promise_already_satisfied);  // NOLINT: what is left is said to throw
  CHECK_THROWS_AS(p.get_future(), cadre::future_already_taken);
}

TEST_CASE("a value whose making throws leaves the promise open", "[promise]") {
  struct picky {
    explicit picky(int v) : value(v) {
      if (v < 0) throw std::invalid_argument("negative");
    }
    int value;
  };
  cadre::promise<picky> p;
  auto f = p.get_future();
  CHECK_THROWS_AS(p.set_value(-1), std::invalid_argument);
  p.set_value(1);
  CHECK(f.get().value == 1);
}

TEST_CASE("continuations of a promise run on the pool that it was given", "[promise]") {
  cadre::thread_pool pool{{.threads = 1}};
  const auto there = pool.submit([] { return std::this_thread::get_id(); }).get();
  cadre::promise<int> p(pool);
  auto f = p.get_future().then([](int) { return std::this_thread::get_id(); });
  p.set_value(1);
  CHECK(f.get() == there);
  cadre::promise<int> q;
  auto g = q.get_future().then([](int) { return std::this_thread::get_id(); });
  q.set_value(1);
  CHECK(g.get() == std::this_thread::get_id());
}

TEST_CASE("a task that waits for a promise in a pool of one thread lets the task run that keeps it", "[promise]") {
  std::atomic<bool> waiting{false};
  cadre::thread_pool pool{{.threads = 1}};
  cadre::promise<int> p;
  auto f = p.get_future();
  auto waiter = pool.submit([&] {
    waiting.store(true);
    return f.get();
  });
  while (!waiting.load()) std::this_thread::yield();
  pool.post([&] { p.set_value(8); });  // comes when the thread waits, or is about to
  CHECK(waiter.get() == 8);
}

TEST_CASE("a continuation that waits for one put off behind it runs that one itself", "[promise]") {
  cadre::promise<void> a;
  cadre::promise<int> b;
  auto later = b.get_future().then([](int x) { return x + 1; });
  auto first = a.get_future().then([&] {
    b.set_value(1);
    return later.get();
  });
  a.set_value();
  CHECK(first.get() == 2);
}

TEST_CASE("a promise may end as soon as the one who waits has its value", "[promise]") {
  for (int i = 0; i < 2000; ++i) {
    auto p = std::make_unique<cadre::promise<int>>();
    auto f = p->get_future();
    std::jthread t([q = p.get()] { q->set_value(1); });
    f.get();
    t.join();
    p.reset();
  }
}
