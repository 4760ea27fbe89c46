#include "catch.hpp"

#include <cadre/async.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace loops_test {

using namespace std::chrono_literals;

TEST_CASE("a loop with a grain makes each call once, whatever the grain", "[loops]") {
  cadre::thread_pool pool{{.threads = 3}};
  for (const std::size_t grain : {0u, 1u, 3u, 64u, 1'000u, 100'000u}) {
    std::vector<std::atomic<int>> calls(1'000);
    pool.for_each(10, 1'000, [&](std::size_t i) { ++calls[i]; }, {.grain = grain});
    pool.for_each(calls, [](std::atomic<int>& c) { ++c; }, {.grain = grain});
    for (std::size_t i = 0; i < calls.size(); ++i) REQUIRE(calls[i] == (i < 10 ? 1 : 2));
    pool.for_each(5, 5, [&](std::size_t) { FAIL("an empty range"); }, {.grain = grain});
  }
}

TEST_CASE("with a grain a loop of two iterations is shared by two threads", "[loops]") {
  std::atomic<int> here = 0;
  cadre::thread_pool pool{{.threads = 2}};
  pool.for_each(0, 2,
                [&](std::size_t) {  // returns only when the other one has come
                  ++here;
                  for (const auto deadline = std::chrono::steady_clock::now() + 30s; here < 2;
                       std::this_thread::yield())
                    if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("the other never came");
                },
                {.grain = 1});
  CHECK(here == 2);
}

TEST_CASE("no thread takes more than a grain after another part has thrown", "[loops]") {
  std::atomic<int> calls = 0;
  cadre::thread_pool pool{{.threads = 2}};
  CHECK_THROWS_AS(pool.for_each(0, 1'000'000,
                                [&](std::size_t i) {
                                  ++calls;
                                  if (i == 0) throw std::out_of_range("first");
                                  // The others end their part only when the first has thrown, which takes up no further one.
                                  while (calls < 2) std::this_thread::yield();
                                },
                                {.grain = 10}),
                  std::out_of_range);
  CHECK(calls < 1'000'000);
}

TEST_CASE("a sum is the same to the last bit for the same grain on any number of threads", "[loops]") {
  const auto sum = [](std::size_t threads, std::size_t grain) {
    cadre::thread_pool pool{{.threads = threads}};
    return pool.reduce(0, 10'001, 0.5, [](std::size_t i) { return 1.0 / static_cast<double>(i + 1); }, std::plus<>{},
                       {.grain = grain});
  };
  for (const std::size_t grain : {0u, 1u, 7u, 10'001u}) {
    const double one = sum(1, grain);
    CHECK(one == Approx(10.2877).margin(1e-3));
    CHECK(sum(2, grain) == one);
    CHECK(sum(4, grain) == one);
  }
}

TEST_CASE("submit_bulk gives a future for each index, in order", "[loops]") {
  for (const std::size_t threads : {1u, 3u}) {
    cadre::thread_pool pool{{.threads = threads}};
    const auto check = [&] {
      auto futures = pool.submit_bulk(500, [](std::size_t i) { return 2 * i; });
      REQUIRE(futures.size() == 500);
      for (std::size_t i = 0; i < 500; ++i) REQUIRE(futures[i].get() == 2 * i);
    };
    check();
    pool.submit(check).get();  // inside a task too
    CHECK(pool.submit_bulk(0, [](std::size_t) {}).empty());
  }
}

TEST_CASE("each task of submit_bulk fails, or is cancelled, by itself, and they share one function", "[loops]") {
  cadre::thread_pool pool{{.threads = 2}};
  struct function {
    std::unique_ptr<int> unit = std::make_unique<int>(1);  // cannot be copied
    int operator()(std::size_t i) const {
      if (i % 2 == 1) throw std::out_of_range("odd");
      return static_cast<int>(i) + *unit;
    }
  };
  auto futures = pool.submit_bulk(10, function());
  for (std::size_t i = 0; i < 10; ++i) {
    if (i % 2 == 1)
      CHECK_THROWS_AS(futures[i].get(), std::out_of_range);
    else
      CHECK(futures[i].get() == static_cast<int>(i) + 1);
  }
}

}  // namespace loops_test
