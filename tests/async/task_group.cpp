#include "catch.hpp"
#include "soon.hpp"

#include <cadre/async.hpp>
#include <cadre/async/task_group.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace task_group_test {

using namespace std::chrono_literals;

int fib(cadre::thread_pool& pool, int n) {
  if (n < 2) return n;
  int a = 0;
  cadre::task_group group{pool};
  group.run([&] { a = fib(pool, n - 1); });
  const int b = fib(pool, n - 2);
  group.wait();
  return a + b;
}

TEST_CASE("a group waits for all its tasks, those included that they add", "[task_group]") {
  for (const std::size_t threads : {1u, 2u, 4u}) {
    std::atomic<int> done = 0;
    cadre::thread_pool pool{{.threads = threads}};
    cadre::task_group group{pool};
    struct tree {
      cadre::task_group& group;
      std::atomic<int>& done;
      void operator()(int depth) const {
        if (depth > 0)
          for (int i = 0; i < 2; ++i) group.run([self = *this, depth] { self(depth - 1); });
        ++done;
      }
    };
    for (int round = 1; round <= 20; ++round) {  // reusable after wait()
      group.run([&] { tree{group, done}(6); });
      group.wait();
      REQUIRE(done == 127 * round);
    }
    pool.submit([&] {
          cadre::task_group inner{pool};
          inner.run([&] { tree{inner, done}(6); });
          inner.wait();
        })
        .get();
    CHECK(done == 127 * 21);
  }
}

TEST_CASE("groups nest to any depth on any number of threads", "[task_group]") {
  for (const std::size_t threads : {1u, 2u, 4u}) {
    cadre::thread_pool pool{{.threads = threads}};
    CHECK(fib(pool, 12) == 144);
    CHECK(pool.submit([&] { return fib(pool, 16); }).get() == 987);
  }
}

TEST_CASE("the first error of a group is thrown by wait() and stops the rest", "[task_group]") {
  std::mutex mutex;
  std::vector<std::string> reported;
  {
    std::atomic<bool> looks = false;
    std::atomic<int> runs = 0;
    cadre::thread_pool pool{{.threads = 2, .on_unobserved_error = [&](const cadre::unobserved_error& e) {
                               const std::lock_guard lock(mutex);
                               try {
                                 std::rethrow_exception(e.error);
                               } catch (const std::exception& x) {
                                 reported.push_back(x.what());
                               }
                             }}};
    cadre::task_group group{pool};
    group.run([&] {  // runs for as long as nobody asks it to stop
      looks = true;
      for (const auto deadline = std::chrono::steady_clock::now() + 30s; !cadre::this_task::stop_requested();)
        if (std::chrono::steady_clock::now() > deadline) throw std::logic_error("was never asked to stop");
      throw std::logic_error("second");
    });
    REQUIRE(soon([&] { return looks.load(); }));
    group.run([] { throw std::out_of_range("first"); });
    CHECK_THROWS_WITH(group.wait(), "first");
    group.run([&] { ++runs; });
    group.wait();
    CHECK(runs == 1);
  }
  // By the end of the pool: whichever thread lets go of the error last reports it.
  CHECK(reported == std::vector<std::string>{"second"});
}

TEST_CASE("after an error a group runs no further task until it has been waited for", "[task_group]") {
  std::atomic<int> runs = 0;
  std::atomic<bool> thrown = false;
  cadre::thread_pool pool{{.threads = 1}};
  cadre::task_group group{pool};
  group.run([&] {
    thrown = true;
    throw std::out_of_range("first");
  });
  REQUIRE(soon([&] { return thrown.load(); }));
  pool.submit([] {}).get();  // the task before has ended on this one thread
  for (int i = 0; i < 100; ++i) group.run([&] { ++runs; });
  CHECK_THROWS_AS(group.wait(), std::out_of_range);
  CHECK(runs == 0);
}

TEST_CASE("a group is cancelled from any thread, with all that its tasks have submitted", "[task_group]") {
  std::atomic<int> begun = 0;
  std::atomic<int> stopped = 0;
  std::atomic<int> never = 0;
  cadre::thread_pool pool{{.threads = 3}};
  cadre::task_group group{pool};
  const auto until_stopped = [&] {
    ++begun;
    if (soon([] { return cadre::this_task::stop_requested(); })) ++stopped;
  };
  group.run(until_stopped);
  group.run([&] {
    auto child = pool.submit(until_stopped);
    child.wait();
  });
  REQUIRE(soon([&] { return begun == 2; }));
  std::thread other([&] { group.cancel(); });
  group.wait();
  other.join();
  CHECK(stopped == 2);
  group.cancel();
  group.run([&] { ++never; });
  group.wait();
  CHECK(never == 0);
}

TEST_CASE("a group made inside a task is cancelled with that task", "[task_group]") {
  std::atomic<bool> begun = false;
  std::atomic<bool> stopped = false;
  cadre::thread_pool pool{{.threads = 2}};
  auto task = pool.submit([&] {
    cadre::task_group group{pool};
    group.run([&] {
      begun = true;
      stopped = soon([] { return cadre::this_task::stop_requested(); });
    });
    group.wait();
  });
  REQUIRE(soon([&] { return begun.load(); }));
  CHECK(task.cancel());
  task.get();
  CHECK(stopped);
}

TEST_CASE("a group that is destroyed waits, and reports the error that no wait() threw", "[task_group]") {
  std::atomic<int> reported = 0;
  std::atomic<int> done = 0;
  cadre::thread_pool pool{{.threads = 2, .on_unobserved_error = [&](const cadre::unobserved_error& e) {
                             if (e.task == "a task group") ++reported;
                           }}};
  {
    cadre::task_group group{pool};
    for (int i = 0; i < 100; ++i) group.run([&] { ++done; });
  }
  CHECK(done == 100);
  {
    cadre::task_group group{pool};
    group.run([] { throw std::runtime_error("lost?"); });
  }
  CHECK(reported == 1);
}

TEST_CASE("a task of a group that waits for its group is told so", "[task_group]") {
  cadre::thread_pool pool{{.threads = 1}};
  cadre::task_group group{pool};
  group.run([&] { group.wait(); });
  CHECK_THROWS_AS(group.wait(), cadre::wait_cycle);
  group.run([&] { pool.submit([&] { group.wait(); }).get(); });
  CHECK_THROWS_WITH(group.wait(),
                    ContainsSubstring("[cadre.async.208] this wait would never end: a task submitted at") &&
                        ContainsSubstring(" waits for the task group that it is in"));
  int runs = 0;
  group.run([&] { ++runs; });
  group.wait();
  CHECK(runs == 1);
}

TEST_CASE("a wait for a group runs its tasks also when they lie below those of another wait", "[task_group]") {
  cadre::thread_pool pool{{.threads = 1}};
  auto outer = pool.submit([&] {
    cadre::task_group group{pool};
    int runs = 0;
    group.run([&] { ++runs; });
    pool.submit([&] { group.wait(); }).get();
    return runs;
  });
  REQUIRE(outer.wait_for(30s));
  CHECK(outer.get() == 1);
}

TEST_CASE("a group that is never waited for keeps no tasks that are done", "[task_group]") {
  const auto nodes = [] {
    std::size_t n = 0;
    cadre::detail::node_memory::for_each_node([&](void* node) {
      if (cadre::detail::task* const t = cadre::detail::task::retain_at(node)) {
        ++n;
        t->release();
      }
    });
    return n;
  };
  cadre::thread_pool pool{{.threads = 1}};
  cadre::task_group group{pool};
  std::size_t most = 0;
  for (int i = 0; i < 2'000; ++i) {
    group.run([] {});
    pool.submit([] {}).get();
    if (i % 100 == 99) most = std::max(most, nodes());
  }
  CHECK(most < 400);
}

TEST_CASE("groups hold under stress: members that add, throw and are cancelled while others wait",
          "[task_group][stress]") {
  cadre::thread_pool pool{{.threads = 4, .on_unobserved_error = [](const cadre::unobserved_error&) {}}};
  for (int round = 0; round < 100; ++round) {
    std::atomic<int> begun = 0;
    std::atomic<int> ended = 0;
    {
      cadre::task_group group{pool};
      for (int i = 0; i < 50; ++i)
        group.run([&, i] {
          ++begun;
          for (int k = 0; k < 3; ++k)
            group.run([&] {
              ++begun;
              ++ended;
            });
          ++ended;
          if (round % 3 == 1 && i == 25) throw round;
        });
      std::thread other;
      if (round % 3 == 2) other = std::thread([&] { group.cancel(); });
      try {
        group.wait();
        CHECK(round % 3 != 1);
      } catch (int thrown) {
        CHECK(thrown == round);
      }
      if (other.joinable()) other.join();
    }
    REQUIRE(begun == ended);
    if (round % 3 == 0) REQUIRE(ended == 200);
  }
}

}  // namespace task_group_test
