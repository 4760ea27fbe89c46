#include "catch.hpp"

#include <cadre/async.hpp>
#include <cadre/observe/log.hpp>

#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace thread_pool_test {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

constexpr auto far = 30s;  // a deadline that only a hang meets

std::chrono::nanoseconds cpu_time() {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}

template <class Condition>
bool soon(Condition condition) {
  for (const auto deadline = clock::now() + far; !condition();) {
    if (clock::now() > deadline) return false;
    for (int spin = 0; spin < 100 && !condition(); ++spin) std::atomic_signal_fence(std::memory_order_seq_cst);
    std::this_thread::yield();
  }
  return true;
}

// Collects unobserved errors from any thread.
class collector {
 public:
  auto handler() {
    return [this](const cadre::unobserved_error& e) {
      const std::lock_guard lock(mutex_);
      try {
        std::rethrow_exception(e.error);
      } catch (const std::exception& x) {
        texts_.push_back(std::string(e.task) + ": " + x.what());
      }
    };
  }
  std::vector<std::string> texts() {
    const std::lock_guard lock(mutex_);
    return texts_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> texts_;
};

void spawn_tree(cadre::thread_pool& pool, int depth, std::atomic<int>& count) {
  ++count;
  if (depth == 0) return;
  for (int i = 0; i < 2; ++i) pool.post([&pool, depth, &count] { spawn_tree(pool, depth - 1, count); });
}

}  // namespace thread_pool_test

TEST_CASE("a pool has the threads asked for, or one for each usable processor", "[thread_pool]") {
  CHECK(cadre::thread_pool({.threads = 3}).size() == 3);
  CHECK(cadre::thread_pool().size() == cadre::usable_processors());
  cadre::thread_pool pool{{.threads = 1, .name = "trainer"}};
  char name[16] = {};
  pool.submit([&name] { ::pthread_getname_np(::pthread_self(), name, sizeof name); }).get();
  CHECK(std::string(name) == "trainer/0");
}

TEST_CASE("tasks take options in braces", "[thread_pool]") {
  std::atomic<int> n{0};
  cadre::thread_pool pool{{.threads = 1}};
  CHECK(pool.submit(
                {.name = "x"}, [](int v) { return v; }, 3)
            .get() == 3);
  cadre::task_options options{.name = "y"};
  CHECK(pool.submit(options, [] { return 4; }).get() == 4);
  pool.post(
      {.name = "z"}, [&n](int v) { n = v; }, 5);
  CHECK(thread_pool_test::soon([&] { return n == 5; }));
}

TEST_CASE("functions, members and references can be submitted", "[thread_pool]") {
  struct account {
    int balance = 1;
    int add(int x) { return balance += x; }
  };
  cadre::thread_pool pool{{.threads = 1}};
  account a;
  CHECK(pool.submit(&account::add, &a, 4).get() == 5);
  CHECK(pool.submit(&account::balance, std::ref(a)).get() == 5);
  int n = 0;
  pool.submit([](int& x) { x = 9; }, std::ref(n)).get();
  CHECK(n == 9);
  const auto lvalue = [](int x) { return x; };
  CHECK(pool.submit(lvalue, 2).get() == 2);
}

TEST_CASE("the only thread of a pool runs tasks from outside in their order", "[thread_pool]") {
  std::vector<int> order;
  {
    cadre::thread_pool pool{{.threads = 1}};
    for (int i = 0; i < 1000; ++i) pool.post([&order, i] { order.push_back(i); });
  }
  REQUIRE(order.size() == 1000);
  int out_of_order = 0;
  for (std::size_t i = 1; i < order.size(); ++i) out_of_order += order[i] < order[i - 1];
  CHECK(out_of_order == 0);
}

TEST_CASE("a task that posts itself again and again does not starve the others", "[thread_pool]") {
  std::atomic<int> others{0};
  cadre::thread_pool pool{{.threads = 1}};
  struct again {
    cadre::thread_pool* pool;
    std::atomic<int>* stop;
    void operator()() const {
      if (stop->load() < 3) pool->post(*this);
    }
  };
  pool.submit([&] {
        pool.post(again{&pool, &others});
        pool.post([&] { ++others; });  // older than what `again` posts
        pool.post(again{&pool, &others});
      })
      .get();
  pool.post([&] { ++others; });
  pool.post([&] { ++others; });
  CHECK(thread_pool_test::soon([&] { return others == 3; }));
}

TEST_CASE("a pool destroyed runs what is queued, and what that submits", "[thread_pool]") {
  for (const std::size_t threads : {1u, 2u, 4u}) {
    std::atomic<int> count{0};
    {
      cadre::thread_pool pool{{.threads = threads}};
      for (int i = 0; i < 10; ++i) pool.post([&] { thread_pool_test::spawn_tree(pool, 6, count); });
    }
    CHECK(count == 10 * 127);
  }
}

TEST_CASE("pools come and go at once", "[thread_pool]") {
  for (int i = 0; i < 300; ++i) {
    cadre::thread_pool pool{{.threads = 1 + static_cast<std::size_t>(i) % 3}};
    if (i % 2) pool.post([] {});
  }
}

TEST_CASE("a pool may be destroyed by one of its own tasks", "[thread_pool]") {
  cadre::promise<void> ended;
  auto f = ended.get_future();
  auto owned = std::make_unique<cadre::thread_pool>(cadre::thread_pool_options{.threads = 2});
  cadre::thread_pool& pool = *owned;
  pool.post([p = std::move(owned), e = std::move(ended)]() mutable {
    p.reset();
    e.set_value();
  });
  f.get();
}

TEST_CASE("every task of four threads runs exactly once", "[thread_pool]") {
  constexpr std::size_t each = 25'000;
  const auto runs = std::make_unique<std::atomic<int>[]>(4 * each);
  {
    cadre::thread_pool pool{{.threads = 3}};
    std::vector<std::jthread> submitters;
    for (std::size_t s = 0; s < 4; ++s)
      submitters.emplace_back([&, s] {
        for (std::size_t i = 0; i < each; ++i) {
          auto task = [&, at = s * each + i] { runs[at].fetch_add(1, std::memory_order_relaxed); };
          if (i % 3 == 0)
            pool.submit(task).get();
          else if (i % 3 == 1)
            pool.submit([&pool, task] { pool.submit(task).get(); });
          else
            pool.post(task);
        }
      });
  }
  int wrong = 0;
  for (std::size_t i = 0; i < 4 * each; ++i) wrong += runs[i] != 1;
  CHECK(wrong == 0);
}

TEST_CASE("an idle pool uses no processor time", "[thread_pool]") {
  using namespace std::chrono_literals;
  cadre::thread_pool pool{{.threads = 4}};
  pool.for_each(0, 100, [](std::size_t) {});
  cadre::promise<void> never;
  auto f = never.get_future();
  REQUIRE_FALSE(f.wait_for(20ms));  // for the last to fall asleep
  const auto before = thread_pool_test::cpu_time();
  REQUIRE_FALSE(f.wait_for(300ms));
  CHECK(thread_pool_test::cpu_time() - before < 30ms);
  never.set_value();
}

TEST_CASE("no wake-up from outside is lost", "[thread_pool]") {
  for (const std::size_t threads : {1u, 2u, 3u}) {
    cadre::thread_pool pool{{.threads = threads}};
    std::uint32_t random = 1;
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::seconds(10);  // of a machine that is busy with other things
    for (int i = 0; i < 20'000 && std::chrono::steady_clock::now() < end; ++i) {
      // Without sleep on this side, and a little later each time, so that submits meet threads on their way to sleep.
      random = random * 1664525u + 1013904223u;
      for (std::uint32_t spin = random >> 21; spin > 0; --spin) std::atomic_signal_fence(std::memory_order_seq_cst);
      auto f = pool.submit([] { return 1; });
      if (i % 8 == 0)
        REQUIRE(f.wait_for(thread_pool_test::far));
      else
        REQUIRE(thread_pool_test::soon([&f] { return f.ready(); }));
    }
  }
}

TEST_CASE("a sleeper is woken for what a busy thread queues", "[thread_pool]") {
  cadre::thread_pool pool{{.threads = 2}};
  for (int i = 0; i < 2000; ++i) {
    const bool met = pool.submit([&pool] {
                           // Not a wait that helps: only the other thread can run it in time.
                           auto flag = std::make_shared<std::atomic<bool>>(false);
                           pool.post([flag] { flag->store(true); });
                           return thread_pool_test::soon([&] { return flag->load(); });
                         })
                         .get();
    REQUIRE(met);
  }
}

TEST_CASE("tasks that meet all get a thread", "[thread_pool]") {
  constexpr int threads = 4;
  cadre::thread_pool pool{{.threads = threads}};
  for (int i = 0; i < 1000; ++i) {
    std::atomic<int> arrived{0};
    std::vector<cadre::future<bool>> tasks;
    for (int t = 0; t < threads; ++t)
      tasks.push_back(pool.submit([&arrived] {
        ++arrived;
        return thread_pool_test::soon([&] { return arrived == threads; });
      }));
    int met = 0;
    for (auto& t : tasks) met += t.get();
    REQUIRE(met == threads);
  }
}

TEST_CASE("an error that nobody observes reaches the pool's handler with its type", "[thread_pool]") {
  thread_pool_test::collector errors;
  {
    cadre::thread_pool pool{{.threads = 2, .on_unobserved_error = errors.handler()}};
    pool.post([] { throw std::runtime_error("posted"); });
    static_cast<void>(pool.submit({.name = "load"}, [] { throw std::runtime_error("dropped"); }));
    auto observed = pool.submit([] { throw std::runtime_error("observed"); });
    CHECK_THROWS(observed.get());
    auto passed_on = pool.submit([]() -> int { throw std::runtime_error("chained"); }).then([](int x) { return x; });
    CHECK_THROWS(passed_on.get());
    static_cast<void>(pool.submit([] { throw std::runtime_error("end of a chain"); }).then([] {}));
    cadre::promise<int> nobody(pool);
  }
  auto texts = errors.texts();
  std::sort(texts.begin(), texts.end());
  CHECK(texts == std::vector<std::string>{": end of a chain", ": posted", "load: dropped"});
}

TEST_CASE("without a handler the error of a dropped future goes to the log, with the place of the submit",
          "[thread_pool]") {
  std::vector<std::string> lines;
  cadre::set_log_sink([&lines](const cadre::log_record& r) {
    lines.push_back(std::string(r.category) + " " + std::string(r.message));
  });
  const auto here = std::source_location::current();
  {
    cadre::thread_pool pool{{.threads = 1}};
    static_cast<void>(pool.submit({.name = "load"}, [] { throw std::runtime_error("gone"); }));
    static_cast<void>(pool.submit([] { throw 5; }));
  }
  {
    cadre::thread_pool pool{{.threads = 1, .on_unobserved_error = [](const cadre::unobserved_error&) {
                               throw std::logic_error("bad handler");
                             }}};
    pool.post([] { throw std::runtime_error("also"); });
  }
  cadre::set_log_sink(nullptr);
  const auto line = [&](unsigned below) {
    return " submitted at " + std::string(here.file_name()) + ":" + std::to_string(here.line() + below);
  };
  CHECK(lines ==
        std::vector<std::string>{"async nobody observed the error of 'load'" + line(3) + ": gone",
                                 "async nobody observed the error of a task" + line(4) + ": not a std::exception",
                                 "async nobody observed the error of 'the handler of unobserved errors': bad handler",
                                 "async nobody observed the error of a task" + line(10) + ": also"});
}

TEST_CASE("what a posted task throws ends the program if the pool has no handler", "[thread_pool]") {
  const ::pid_t child = ::fork();
  if (child == 0) {
    std::set_terminate([] {
      try {
        std::rethrow_exception(std::current_exception());
      } catch (const std::out_of_range& e) {
        ::_exit(std::string(e.what()) == "mine" ? 42 : 1);
      } catch (...) {
        ::_exit(2);
      }
    });
    cadre::thread_pool pool{{.threads = 1}};
    pool.post([] { throw std::out_of_range("mine"); });
    ::pause();
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 42);
}

TEST_CASE("the pool that a task was posted to hears of its error although somebody else still looks at the task",
          "[thread_pool]") {
  cadre::detail::task* looked_at = nullptr;
  const auto throwing = [&] {
    looked_at = cadre::detail::current_task();
    looked_at->retain();  // as cancel() and debug_dump() do
    throw std::runtime_error("mine");
  };
  for (const bool with_options : {false, true}) {
    std::atomic<int> told{0};
    {
      cadre::thread_pool pool{{.threads = 1, .on_unobserved_error = [&](const cadre::unobserved_error&) { ++told; }}};
      if (with_options)
        pool.post({.name = "thrower"}, throwing);
      else
        pool.post(throwing);
    }
    CHECK(told == 1);
    looked_at->release();
    CHECK(told == 1);
  }
}

TEST_CASE("for_each calls every index exactly once", "[thread_pool]") {
  for (const std::size_t threads : {1u, 2u, 5u}) {
    cadre::thread_pool pool{{.threads = threads}};
    for (const std::size_t n : {0u, 1u, 2u, 7u, 63u, 64u, 1000u, 100'003u}) {
      const auto calls = std::make_unique<std::atomic<int>[]>(n + 20);
      pool.for_each(10, 10 + n, [&](std::size_t i) { calls[i].fetch_add(1, std::memory_order_relaxed); });
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < n + 20; ++i) wrong += calls[i] != (i >= 10 && i < 10 + n);
      CHECK(wrong == 0);
    }
    pool.for_each(5, 3, [](std::size_t) { throw std::logic_error("an empty range was entered"); });
  }
}

TEST_CASE("for_each takes a range", "[thread_pool]") {
  cadre::thread_pool pool{{.threads = 2}};
  std::vector<int> v(1000);
  std::iota(v.begin(), v.end(), 0);
  pool.for_each(v, [](int& x) { x *= 2; });
  CHECK(std::accumulate(v.begin(), v.end(), 0) == 999'000);
  int array[3] = {1, 2, 3};
  pool.for_each(array, [](int& x) { ++x; });
  CHECK(array[2] == 4);
  struct item {
    int n = 0;
    void touch() { ++n; }
  };
  std::vector<item> items(10);
  pool.for_each(items, &item::touch);
  CHECK(items[9].n == 1);
}

TEST_CASE("for_each works on the last indices that there are", "[thread_pool]") {
  std::atomic<int> n{0};
  cadre::thread_pool pool{{.threads = 2}};
  constexpr std::size_t last = std::numeric_limits<std::size_t>::max();
  pool.for_each(last - 1001, last, [&n](std::size_t i) { n += i >= last - 1001; });
  CHECK(n == 1001);
}

TEST_CASE("for_each over a huge range stops soon after an error", "[thread_pool]") {
  cadre::thread_pool pool{{.threads = 2}};
  CHECK_THROWS_WITH(pool.for_each(0, std::numeric_limits<std::size_t>::max(),
                                  [](std::size_t i) {
                                    // The chunks are huge too, so every one of them has an end nearby.
                                    if (i % 1000 == 999) throw std::out_of_range("enough");
                                  }),
                    "enough");
}

TEST_CASE("for_each throws the error of an iteration once all threads have left the loop", "[thread_pool]") {
  cadre::thread_pool pool{{.threads = 3}};
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> inside{0};
    try {
      pool.for_each(0, 500, [&inside](std::size_t i) {
        ++inside;
        struct leave {
          std::atomic<int>& n;
          ~leave() { --n; }
        } l{inside};
        if (i == 250) throw std::out_of_range("250");
      });
      FAIL("nothing was thrown");
    } catch (const std::out_of_range& e) {
      CHECK(std::string(e.what()) == "250");
    }
    CHECK(inside == 0);
  }
}

TEST_CASE("for_each nests, inside tasks, on a pool of one thread and of more", "[thread_pool]") {
  for (const std::size_t threads : {1u, 2u, 4u}) {
    std::atomic<int> n{0};
    cadre::thread_pool pool{{.threads = threads}};
    pool.submit([&] {
          pool.for_each(0, 20, [&](std::size_t) {
            pool.for_each(0, 20, [&](std::size_t) { pool.submit([&n] { ++n; }).get(); });
          });
        })
        .get();
    CHECK(n == 400);
  }
}

TEST_CASE("a task from outside has its turn soon among tasks that beget tasks", "[thread_pool]") {
  std::atomic<bool> over{false};
  std::atomic<int> steps{0};
  struct relay {
    cadre::thread_pool& pool;
    std::atomic<bool>& over;
    std::atomic<int>& steps;
    void operator()() const {
      if (over) return;
      const auto begun = std::chrono::steady_clock::now();
      while (std::chrono::steady_clock::now() - begun < std::chrono::microseconds(50)) {}
      ++steps;
      pool.post(*this);
    }
  };
  for (const std::size_t threads : {1u, 2u}) {
    cadre::thread_pool pool{{.threads = threads}};
    over = false;
    for (int i = 0; i < 4; ++i) pool.post(relay{pool, over, steps});
    std::vector<int> waits;
    for (int round = 0; round < 50; ++round) {
      auto turn = pool.submit([&] { return steps.load(); });
      const int before = steps;
      waits.push_back(turn.get() - before);
    }
    over = true;
    // A thread that the system stops between taking the task and running it lets the other one run ahead: not all count.
    std::sort(waits.begin(), waits.end());
    CHECK(waits[44] <= 50);
  }
}

TEST_CASE("the threads of a pool share a loop whose iterations wait for each other", "[thread_pool]") {
  cadre::thread_pool pool{{.threads = 3}};
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> arrived{0};
    std::atomic<int> met{0};
    pool.for_each(0, 4, [&](std::size_t) {  // three threads and the caller
      ++arrived;
      met += thread_pool_test::soon([&] { return arrived == 4; });
    });
    REQUIRE(met == 4);
  }
}

TEST_CASE("reduce gives the same bits on any number of threads", "[thread_pool]") {
  const auto body = [](std::size_t i) { return 1.0 / (1.0 + static_cast<double>(i * i % 1009)); };
  for (const std::size_t n : {0u, 1u, 2u, 255u, 256u, 257u, 100'000u}) {
    std::optional<double> expected;
    for (const std::size_t threads : {1u, 2u, 3u, 7u}) {
      cadre::thread_pool pool{{.threads = threads}};
      const double sum = pool.reduce(0, n, 0.0, body, std::plus<>{});
      if (!expected) expected = sum;
      CHECK(sum == *expected);
      CHECK(pool.submit([&] { return pool.reduce(0, n, 0.0, body, std::plus<>{}); }).get() == *expected);
    }
  }
}

TEST_CASE("reduce combines in the order of the indices", "[thread_pool]") {
  cadre::thread_pool pool{{.threads = 3}};
  std::string expected = "<";
  for (std::size_t i = 0; i < 3000; ++i) expected += static_cast<char>('a' + i % 26);
  const std::string joined = pool.reduce(
      0, 3000, std::string("<"), [](std::size_t i) { return std::string(1, static_cast<char>('a' + i % 26)); },
      [](std::string a, const std::string& b) { return std::move(a) + b; });
  CHECK(joined == expected);
}

TEST_CASE("reduce passes errors on and needs only movable values", "[thread_pool]") {
  cadre::thread_pool pool{{.threads = 2}};
  CHECK_THROWS_AS(
      pool.reduce(
          0, 1000, 0, [](std::size_t i) { return i == 700 ? throw std::out_of_range("700") : 1; }, std::plus<>{}),
      std::out_of_range);
  const auto sum = pool.reduce(
      0, 100, std::make_unique<int>(0), [](std::size_t i) { return std::make_unique<int>(static_cast<int>(i)); },
      [](std::unique_ptr<int> a, std::unique_ptr<int> b) {
        *a += *b;
        return a;
      });
  CHECK(*sum == 4950);
}
