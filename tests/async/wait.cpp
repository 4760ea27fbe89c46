#include "catch.hpp"

#include <cadre/async.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <vector>

TEST_CASE("wait names the ready and the pending futures and consumes none", "[wait]") {
  using namespace std::chrono_literals;
  cadre::thread_pool pool{{.threads = 1}};
  std::vector<cadre::promise<int>> promises(4);
  std::vector<cadre::future<int>> futures;
  for (auto& p : promises) futures.push_back(p.get_future());
  promises[2].set_value(2);
  {
    auto [ready, pending] = cadre::wait(futures, 1, 5s);
    CHECK(ready == std::vector<std::size_t>{2});
    CHECK(pending == std::vector<std::size_t>{0, 1, 3});
  }
  auto keeper = pool.submit([&] { promises[0].set_value(0); });
  CHECK(cadre::wait(futures, 2).ready == std::vector<std::size_t>{0, 2});
  promises[1].set_value(1);
  promises[3].set_value(3);
  CHECK(cadre::wait(futures, 4).pending.empty());
  CHECK(cadre::get(futures) == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("a wait for some futures really times out, as often as one asks", "[wait]") {
  using namespace std::chrono_literals;
  std::vector<cadre::promise<int>> promises(3);
  std::vector<cadre::future<int>> futures;
  for (auto& p : promises) futures.push_back(p.get_future());
  promises[1].set_value(1);
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) {
    const auto result = cadre::wait(futures, 2, 2ms);
    CHECK(result.ready.size() == 1);
    CHECK(result.pending == std::vector<std::size_t>{0, 2});
  }
  CHECK(std::chrono::steady_clock::now() - begin >= 40ms);
  CHECK(cadre::wait(futures, 0).ready.size() == 1);
  CHECK(cadre::wait(std::vector<cadre::future<int>>(), 0).ready.empty());
  promises[0].set_value(0);
  promises[2].set_value(2);
}

TEST_CASE("a wait that can never end is refused", "[wait]") {
  std::vector<cadre::promise<int>> promises(3);
  std::vector<cadre::future<int>> futures;
  for (auto& p : promises) futures.push_back(p.get_future());
  CHECK_THROWS_WITH(
      cadre::wait(futures, 5),
      "[cadre.async.205] wait for 5 of 3 futures can never succeed; ask for at most as many as there are");
  futures[1] = {};
  CHECK_THROWS_AS(cadre::wait(futures, 1), cadre::empty_future);
  CHECK_THROWS_AS(cadre::get(futures), cadre::empty_future);
}

TEST_CASE("a wait for some futures inside the only thread of a pool runs them", "[wait]") {
  cadre::thread_pool pool{{.threads = 1}};
  const std::size_t ready = pool.submit([&pool] {
                                  std::vector<cadre::future<int>> futures;
                                  for (int i = 0; i < 10; ++i)
                                    futures.push_back(pool.submit([] { return 1; }).then([](int x) { return x; }));
                                  return cadre::wait(futures, 7).ready.size();
                                })
                                .get();
  CHECK(ready >= 7);
}

TEST_CASE("waits that time out race safely with tasks that end", "[wait]") {
  using namespace std::chrono_literals;
  cadre::thread_pool pool{{.threads = 2}};
  for (int round = 0; round < 300; ++round) {
    std::vector<cadre::future<int>> futures;
    for (int i = 0; i < 8; ++i) futures.push_back(pool.submit([i] { return i; }));
    while (cadre::wait(futures, 8, 1us).ready.size() < 8) {}
    CHECK(cadre::get(futures).size() == 8);
  }
}

TEST_CASE("get of many gives their values in order and the error of the first that failed", "[wait]") {
  std::atomic<bool> last_ran{false};
  cadre::thread_pool pool{{.threads = 2}};
  std::vector<cadre::future<std::unique_ptr<int>>> futures;
  for (int i = 0; i < 3; ++i) futures.push_back(pool.submit([i] { return std::make_unique<int>(i); }));
  const auto values = cadre::get(futures);
  CHECK(*values[2] == 2);

  std::vector<cadre::future<void>> tasks;
  tasks.push_back(pool.submit([] { throw std::out_of_range("first"); }));
  tasks.push_back(pool.submit([&last_ran] { last_ran = true; }));
  CHECK_THROWS_WITH(cadre::get(tasks), "first");
  CHECK(last_ran);
  CHECK(tasks[1].valid());
  cadre::get(std::vector<cadre::future<void>>());
}
