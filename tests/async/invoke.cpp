#include "all_threads.hpp"
#include "catch.hpp"
#include "counted_new.hpp"
#include "soon.hpp"

#include <cadre/async.hpp>
#include <cadre/async/invoke.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace invoke_test {

using namespace std::chrono_literals;

int fib(int n) {
  if (n < 2) return n;
  int a = 0;
  int b = 0;
  cadre::invoke([&] { a = fib(n - 1); }, [&] { b = fib(n - 2); });
  return a + b;
}

TEST_CASE("invoke calls each function once and returns when all have returned", "[invoke]") {
  for (const std::size_t threads : {1u, 2u, 4u}) {
    cadre::thread_pool pool{{.threads = threads}};
    for (int round = 0; round < 200; ++round) {
      std::atomic<int> calls[5] = {};
      pool.invoke([&] { ++calls[0]; }, [&] { ++calls[1]; }, [&] { ++calls[2]; }, [&] { ++calls[3]; },
                  [&] { return ++calls[4]; });
      for (const auto& c : calls) REQUIRE(c == 1);
    }
  }
}

TEST_CASE("divide and conquer by invoke gives the right result on any number of threads", "[invoke]") {
  for (const std::size_t threads : {1u, 2u, 3u, 8u}) {
    cadre::thread_pool pool{{.threads = threads}};
    CHECK(pool.submit(fib, 21).get() == 10946);
    int from_outside = 0;
    pool.invoke([&] { from_outside = fib(15); });
    CHECK(from_outside == 610);
  }
}

TEST_CASE("invoke outside of a pool calls the functions in their order", "[invoke]") {
  std::string order;
  cadre::invoke([&] { order += 'a'; }, [&] { order += 'b'; }, [&] { order += 'c'; });
  CHECK(order == "abc");
  CHECK_THROWS_WITH(cadre::invoke([&] { throw std::runtime_error("no"); }, [&] { order += 'd'; }), "no");
  CHECK(order == "abcd");
}

TEST_CASE("the functions of invoke run on several threads at once", "[invoke]") {
  std::atomic<int> here = 0;
  cadre::thread_pool pool{{.threads = 2}};
  const auto meet = [&] {  // returns only when the other one has come
    ++here;
    for (const auto deadline = std::chrono::steady_clock::now() + 30s; here < 2;) {
      if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("the other never came");
      std::this_thread::yield();
    }
  };
  pool.invoke(meet, meet);
  CHECK(here == 2);
}

TEST_CASE("invoke runs move-only functions where they are, without a copy", "[invoke]") {
  cadre::thread_pool pool{{.threads = 2}};
  struct function {
    std::unique_ptr<int> value = std::make_unique<int>(1);
    void operator()() { ++*value; }
  };
  function f;
  function g;
  pool.invoke(f, g);
  CHECK(*f.value == 2);
  CHECK(*g.value == 2);
}

TEST_CASE("invoke throws the error of the first in the order of the arguments, and reports the others", "[invoke]") {
  std::mutex mutex;
  std::vector<std::string> reported;
  for (const std::size_t threads : {1u, 4u}) {
    reported.clear();
    std::atomic<int> calls = 0;
    cadre::thread_pool pool{{.threads = threads, .on_unobserved_error = [&](const cadre::unobserved_error& e) {
                               const std::lock_guard lock(mutex);
                               try {
                                 std::rethrow_exception(e.error);
                               } catch (const std::exception& x) {
                                 reported.push_back(x.what());
                               }
                             }}};
    CHECK_THROWS_WITH(pool.invoke([&] { ++calls; },
                                  [&] {
                                    ++calls;
                                    throw std::out_of_range("second");
                                  },
                                  [&] {
                                    ++calls;
                                    throw std::runtime_error("third");
                                  },
                                  [&] {
                                    ++calls;
                                    throw std::logic_error("fourth");
                                  }),
                      "second");
    CHECK(calls == 4);
    std::sort(reported.begin(), reported.end());
    CHECK(reported == std::vector<std::string>{"fourth", "third"});
    CHECK_THROWS_AS(pool.invoke([] {}, [] { throw std::out_of_range("keeps its type"); }), std::out_of_range);
  }
}

TEST_CASE("what a function of invoke submits, and waits for, is no part of it", "[invoke]") {
  for (const std::size_t threads : {1u, 2u, 4u}) {
    std::atomic<int> posted = 0;
    cadre::thread_pool pool{{.threads = threads}};
    for (int round = 0; round < 300; ++round) {
      std::atomic<int> sum = 0;
      pool.invoke(
          [&] {
            pool.post([&] { ++posted; });
            sum += pool.submit([] { return 1; }).get();
          },
          [&] {
            auto f = pool.submit([] { return 10; });
            pool.post([&] { ++posted; });
            sum += f.get();
          },
          [&] { sum += fib(6); });
      REQUIRE(sum == 19);
    }
    pool.submit([] {}).get();
    for (const auto deadline = std::chrono::steady_clock::now() + 30s;
         posted < 600 && std::chrono::steady_clock::now() < deadline;)
      std::this_thread::yield();
    CHECK(posted == 600);
  }
}

TEST_CASE("a wait for a promise inside one function of invoke lets the others run, and what comes from outside",
          "[invoke]") {
  std::atomic<int> others = 0;
  std::atomic<int> strangers = 0;
  cadre::thread_pool pool{{.threads = 1}};
  cadre::promise<int> promise;
  auto kept = promise.get_future();
  auto task = pool.submit([&] {
    cadre::invoke([&] { ++others; }, [&] { pool.submit([&] { ++others; }).get(); }, [&] { kept.get(); });
    return others.load();
  });
  for (const auto deadline = std::chrono::steady_clock::now() + 30s; others < 2;) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    std::this_thread::yield();
  }
  for (int i = 0; i < 40; ++i)
    pool.post([&, i] {
      ++strangers;
      if (i == 3) promise.set_value(1);
    });
  REQUIRE(task.wait_for(30s));
  CHECK(task.get() == 2);
  CHECK(soon([&] { return strangers == 40; }));
}

TEST_CASE("a function of invoke on another thread is part of the task that called invoke", "[invoke]") {
  std::atomic<int> saw_the_stop = 0;
  std::atomic<int> begun = 0;
  cadre::thread_pool pool{{.threads = 2}};
  auto task = pool.submit([&] {
    const auto until_stopped = [&] {
      ++begun;
      for (const auto deadline = std::chrono::steady_clock::now() + 30s; std::chrono::steady_clock::now() < deadline;)
        if (cadre::this_task::stop_requested()) {
          ++saw_the_stop;
          return;
        }
    };
    cadre::invoke(until_stopped, until_stopped);
  });
  while (begun < 2) std::this_thread::yield();
  CHECK(task.cancel());
  task.get();
  CHECK(saw_the_stop == 2);
}

TEST_CASE("invoke allocates nothing", "[invoke]") {
  cadre::thread_pool pool{{.threads = 2}};
  await_all_threads(pool);
  CHECK(pool.submit(fib, 18).get() == 2584);  // by now the queues have grown
  const std::size_t before = counted_new::calls;
  std::size_t allocated = 1;
  pool.submit([&] {
        fib(18);
        allocated = counted_new::calls - before;
      })
      .get();
  CHECK(allocated == 0);
}

TEST_CASE("invoke holds under stress: forks that are stolen while they wait, throw and submit", "[invoke][stress]") {
  cadre::thread_pool pool{{.threads = 4}};
  struct tree {
    cadre::thread_pool& pool;
    std::atomic<int>& leaves;
    void operator()(int depth) const {
      if (depth == 0) {
        ++leaves;
        return;
      }
      try {
        cadre::invoke([&] { (*this)(depth - 1); },
                      [&] {
                        pool.submit([this, depth] { (*this)(depth - 1); }).get();
                        throw depth;
                      });
      } catch (int thrown) {
        if (thrown != depth) throw std::logic_error("an error of another invoke");
      }
    }
  };
  for (int round = 0; round < 30; ++round) {
    std::atomic<int> leaves = 0;
    std::vector<cadre::future<void>> roots;
    for (int i = 0; i < 4; ++i) roots.push_back(pool.submit([&] { tree{pool, leaves}(6); }));
    for (auto& r : roots) r.get();
    REQUIRE(leaves == 4 * 64);
  }
}

}  // namespace invoke_test
