// Waits in tasks for what no thread of the pool is at: another thread takes their place.
#include "catch.hpp"
#include "overlaps.hpp"

#include <cadre/async.hpp>
#include <cadre/async/blocking.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace stand_in_test {

using namespace std::chrono_literals;
using numbers = std::vector<cadre::shared_future<int>>;

/// Fails if it is not there in time, instead of waiting for ever.
template <class Future>
auto value_of(Future&& f) {
  REQUIRE(f.wait_for(30s));
  return f.get();
}
void until(const std::atomic<bool>& what) {
  while (!what) std::this_thread::yield();
}

TEST_CASE("a task that waits for a continuation holds up nobody that waits for the task", "[stand_in]") {
  std::atomic<bool> begun = false, go_on = false;
  cadre::thread_pool pool{{.threads = 2}};
  const auto first = pool.submit([&] {
                           auto a = pool.submit([&] {
                             begun = true;
                             until(go_on);
                             return 1;
                           });
                           until(begun);
                           return std::move(a).then([](int x) { return x + 1; }).get();
                         })
                         .share();
  until(begun);
  auto second = pool.submit([&] {
    go_on = true;
    return first.get() + 1;
  });
  CHECK(value_of(second) == 3);
}

TEST_CASE("tasks that wait for one another, and the first for a promise, go on when that is kept", "[stand_in]") {
  cadre::promise<int> promise;
  auto kept = promise.get_future();
  numbers all(30);
  for (const std::size_t threads : {1u, 2u, 3u}) {
    DYNAMIC_SECTION("with " << threads << " threads") {
      cadre::thread_pool pool{{.threads = threads}};
      all[0] = pool.submit([&] { return kept.get(); }).share();
      for (std::size_t i = 1; i < all.size(); ++i)
        all[i] = pool.submit([before = all[i - 1]] { return before.get() + 1; }).share();
      auto keeper = pool.submit([&] { promise.set_value(1); });
      CHECK(value_of(all.back()) == 30);
      keeper.get();
    }
  }
}

TEST_CASE("a task that waits twice for a promise is waited for by one that stood in for it", "[stand_in]") {
  for (int round = 0; round < 50; ++round) {
    cadre::promise<int> one, two;
    auto first = one.get_future(), second = two.get_future();
    std::atomic<bool> waits = false;
    cadre::thread_pool pool{{.threads = 1}};
    const auto twice = pool.submit([&] {
                             const int a = first.get();
                             until(waits);
                             std::this_thread::sleep_for(round % 3 * 1ms);  // so that the other one sleeps, or not
                             return a + second.get();
                           })
                           .share();
    auto other = pool.submit([&] {
      one.set_value(1);
      waits = true;
      return twice.get() + 1;
    });
    // Only this one has the other waits end.
    pool.post([&] { two.set_value(2); });
    CHECK(value_of(other) == 4);
  }
}

TEST_CASE("what a task lets go is not begun on top of it, where it could not wait for that task", "[stand_in]") {
  cadre::shared_future<int> task;
  std::atomic<bool> there = false;
  cadre::thread_pool pool{{.threads = 1}};
  cadre::promise<int> one(pool), two;
  auto kept = two.get_future();
  auto after = one.get_future().then([&](int k) { return k + task.get(); });
  task = pool.submit([&] {
               until(there);
               one.set_value(1);
               return kept.get();
             })
             .share();
  there = true;
  auto keeper = pool.submit([&] { two.set_value(2); });
  CHECK(value_of(after) == 3);
  keeper.get();
}

TEST_CASE("a wait for a promise with a lock held never runs a stranger that wants the lock", "[stand_in]") {
  std::mutex mutex;
  int entered = 0;
  cadre::promise<int> promise;
  auto kept = promise.get_future();
  cadre::thread_pool pool{{.threads = 1}};
  auto holder = pool.submit([&] {
    const std::lock_guard lock(mutex);
    ++entered;
    return kept.get();
  });
  std::vector<cadre::future<void>> strangers;
  for (int i = 0; i < 10; ++i)
    strangers.push_back(pool.submit([&] {
      cadre::blocking([&] { mutex.lock(); });
      ++entered;
      mutex.unlock();
    }));
  auto keeper = pool.submit([&] { promise.set_value(7); });
  CHECK(value_of(holder) == 7);
  for (auto& s : strangers) value_of(s);
  CHECK(entered == 11);
  keeper.get();
}

TEST_CASE("a thousand tasks of a pool of one thread may wait for promises at once", "[stand_in]") {
  constexpr std::size_t many = 1000;
  std::vector<cadre::promise<std::size_t>> promises(many);
  std::vector<cadre::future<std::size_t>> kept, all;
  for (auto& p : promises) kept.push_back(p.get_future());
  cadre::thread_pool pool{{.threads = 1}};
  for (std::size_t i = 0; i < many; ++i) all.push_back(pool.submit([&f = kept[i]] { return f.get(); }));
  auto keeper = pool.submit([&] {
    for (std::size_t i = 0; i < many; ++i) promises[i].set_value(i);
  });
  for (std::size_t i = 0; i < many; ++i) CHECK(value_of(all[i]) == i);
  keeper.get();
}

TEST_CASE("tasks for a worker are run by it while it waits", "[stand_in]") {
  cadre::thread_pool pool{{.threads = 2}};
  const auto me = [] { return std::this_thread::get_id(); };
  SECTION("for a task that waits for them") {
    auto outer = pool.submit({.worker = 0}, [&] {
      std::atomic<bool> begun = false;
      auto inner = pool.submit({.worker = 1}, [&] {
        begun = true;
        return pool.submit({.worker = 0}, me).get();
      });
      until(begun);
      return inner.get() == me();
    });
    CHECK(value_of(outer));
  }
  SECTION("for what they promise") {
    cadre::promise<std::thread::id> promise;
    auto kept = promise.get_future();
    auto outer = pool.submit({.worker = 0}, [&] {
      auto stranger = pool.submit([] {});
      pool.post({.worker = 0}, [&] { promise.set_value(me()); });
      return kept.get() == me();
    });
    CHECK(value_of(outer));
  }
}

TEST_CASE("after tasks have waited for promises, as many threads take tasks as before", "[stand_in]") {
  cadre::thread_pool pool{{.threads = 1}};
  std::vector<cadre::promise<void>> promises(5);
  std::vector<cadre::future<void>> waits;
  for (auto& p : promises) waits.push_back(pool.submit([f = p.get_future()]() mutable { f.get(); }));
  pool.submit([&] {
        for (auto& p : promises) p.set_value();
      })
      .get();
  for (auto& w : waits) value_of(w);
  CHECK(overlaps(pool, 5) == 0);
}

TEST_CASE("a pool ends after all that waits in it, whoever stands in", "[stand_in]") {
  for (int round = 0; round < 100; ++round) {
    cadre::promise<int> promise;
    auto kept = promise.get_future();
    std::atomic<int> done = 0;
    {
      cadre::thread_pool pool{{.threads = 1}};
      const auto first = pool.submit([&] { return kept.get() + ++done; }).share();
      for (int i = 0; i < 5; ++i)
        pool.post([&, first] {
          first.wait();
          ++done;
        });
      pool.post([&] { promise.set_value(1); });
    }
    REQUIRE(done == 6);
  }
}

}  // namespace stand_in_test
