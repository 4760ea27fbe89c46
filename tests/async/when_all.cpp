#include "catch.hpp"

#include <cadre/async.hpp>

#include <atomic>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

TEST_CASE("when_all of a vector gives the values in order", "[when_all]") {
  cadre::thread_pool pool{{.threads = 2}};
  std::vector<cadre::future<int>> futures;
  for (int i = 0; i < 1000; ++i) futures.push_back(pool.submit([i] { return i; }));
  const std::vector<int> values = cadre::when_all(std::move(futures)).get();
  REQUIRE(values.size() == 1000);
  for (int i = 0; i < 1000; ++i) CHECK(values[static_cast<std::size_t>(i)] == i);
}

TEST_CASE("when_all of nothing is ready at once", "[when_all]") {
  auto f = cadre::when_all(std::vector<cadre::future<int>>());
  CHECK(f.ready());
  CHECK(f.get().empty());
  CHECK(cadre::when_all(std::vector<cadre::future<void>>()).ready());
}

TEST_CASE("when_all of void and of move-only results", "[when_all]") {
  std::atomic<int> ran{0};
  cadre::thread_pool pool{{.threads = 2}};
  std::vector<cadre::future<void>> futures;
  for (int i = 0; i < 100; ++i) futures.push_back(pool.submit([&ran] { ++ran; }));
  cadre::when_all(std::move(futures)).get();
  CHECK(ran == 100);
  std::vector<cadre::future<std::unique_ptr<int>>> pointers;
  pointers.push_back(pool.submit([] { return std::make_unique<int>(4); }));
  CHECK(*cadre::when_all(std::move(pointers)).get().front() == 4);
}

TEST_CASE("when_all of different types gives a tuple", "[when_all]") {
  cadre::thread_pool pool{{.threads = 2}};
  int n = 5;
  auto all = cadre::when_all(pool.submit([] { return 1; }), pool.submit([] { return std::string("two"); }),
                             pool.submit([] {}), pool.submit([&n]() -> int& { return n; }));
  auto [one, two, nothing, ref] = all.get();
  CHECK(one == 1);
  CHECK(two == "two");
  CHECK(nothing == cadre::unit{});
  CHECK(&ref == &n);
}

TEST_CASE("when_all goes on with then, and then into when_all", "[when_all]") {
  cadre::thread_pool pool{{.threads = 1}};
  auto sum = cadre::when_all(pool.submit([] { return 1; }).then([](int x) { return x + 1; }), pool.submit([] {
               return 3;
             })).then([](std::tuple<int, int> t) { return std::get<0>(t) + std::get<1>(t); });
  CHECK(sum.get() == 5);
}

TEST_CASE("when_all inside the only thread of a pool does not wait for itself", "[when_all]") {
  cadre::thread_pool pool{{.threads = 1}};
  const int sum = pool.submit([&pool] {
                        std::vector<cadre::future<int>> futures;
                        for (int i = 0; i < 50; ++i) futures.push_back(pool.submit([i] { return i; }));
                        int s = 0;
                        for (int v : cadre::when_all(std::move(futures)).get()) s += v;
                        return s;
                      })
                      .get();
  CHECK(sum == 1225);
}

TEST_CASE("when_all keeps the error of the first in order and hands the others to the handler", "[when_all]") {
  std::vector<std::exception_ptr> unobserved;  // one task's, so no lock
  {
    cadre::thread_pool pool{{.threads = 2, .on_unobserved_error = [&](const cadre::unobserved_error& e) {
                               unobserved.push_back(e.error);
                             }}};
    std::vector<cadre::future<int>> futures;
    futures.push_back(pool.submit([] { return 1; }));
    futures.push_back(pool.submit([]() -> int { throw std::out_of_range("second"); }));
    futures.push_back(pool.submit([]() -> int { throw std::runtime_error("third"); }));
    auto all = cadre::when_all(std::move(futures));
    CHECK_THROWS_AS(all.get(), std::out_of_range);
  }
  REQUIRE(unobserved.size() == 1);
  CHECK_THROWS_WITH(std::rethrow_exception(unobserved[0]), "third");
}

TEST_CASE("when_all refuses an empty future", "[when_all]") {
  CHECK_THROWS_AS(cadre::when_all(cadre::future<int>(), cadre::future<int>()), cadre::empty_future);
  std::vector<cadre::future<int>> futures(2);
  CHECK_THROWS_AS(cadre::when_all(std::move(futures)), cadre::empty_future);
}

TEST_CASE("a when_all that nobody waits for ends by itself", "[when_all]") {
  std::atomic<int> ran{0};
  {
    cadre::thread_pool pool{{.threads = 2}};
    for (int i = 0; i < 100; ++i)
      static_cast<void>(cadre::when_all(pool.submit([&ran] { ++ran; }), pool.submit([&ran] {
                          ++ran;
                        })).then([&ran](auto) { ++ran; }));
  }
  CHECK(ran == 300);
}

TEST_CASE("nobody need hear of a when_all that was cancelled", "[when_all]") {
  std::atomic<int> unobserved{0};
  {
    std::atomic<bool> go{false};
    cadre::thread_pool pool{
        {.threads = 1, .on_unobserved_error = [&](const cadre::unobserved_error&) { ++unobserved; }}};
    auto busy = pool.submit([&go] {
      while (!go) std::this_thread::yield();
    });
    auto all = cadre::when_all(pool.submit([] { return 1; }), pool.submit([] { return 2; }));
    CHECK(all.cancel());
    CHECK(all.ready());
    all = {};
    go = true;
    busy.get();
  }
  CHECK(unobserved == 0);
}
