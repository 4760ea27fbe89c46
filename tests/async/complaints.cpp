// What users of other pools complain of; each a test of ours. The threads, affinity and idle tests look at the process.

#include "catch.hpp"

#include <cadre/async.hpp>
#include <cadre/async/coroutine.hpp>
#include <cadre/os/processors.hpp>

#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace complaints_test {

using namespace std::chrono_literals;

int fibonacci(cadre::thread_pool& pool, int n) {
  if (n < 2) return n;
  auto a = pool.submit([&pool, n] { return fibonacci(pool, n - 1); });
  const int b = fibonacci(pool, n - 2);
  return a.get() + b;
}

std::chrono::microseconds processor_time() {
  rusage u{};
  ::getrusage(RUSAGE_SELF, &u);
  return std::chrono::seconds(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         std::chrono::microseconds(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

// The exit status of `body` in a process of its own; -1 if it did not exit.
template <class Body>
int in_child(Body body) {
  std::fflush(nullptr);
  const ::pid_t child = ::fork();
  if (child == 0) std::exit(body());
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

std::string at(const std::source_location& here, unsigned below) {
  return "submitted at " + std::string(here.file_name()) + ":" + std::to_string(here.line() + below);
}
std::string cycle(const std::string& path) {
  return "[cadre.async.208] this wait would never end: " + path +
         ", which is under way here; use then() in place of one of the waits";
}
template <class F>
std::string error_of(F&& f) {
  try {
    f();
    return "";
  } catch (const std::exception& e) {
    return e.what();
  }
}

bool write_file(const std::string& path, const std::string& text) {
  std::FILE* const file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return false;
  const bool written = std::fputs(text.c_str(), file) >= 0;
  return std::fclose(file) == 0 && written;
}

// A group with a quota of `processors`, of whichever version of cgroup can be written to.
class quota {
 public:
  explicit quota(int processors) {
    const std::string name = "cadre_quota_" + std::to_string(::getpid());
    for (const std::string root : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup"}) {
      const std::string folder = root + "/" + name;
      if (::mkdir(folder.c_str(), 0755) != 0) continue;
      folder_ = folder;
      const std::string time = std::to_string(processors * 100'000);
      if (write_file(folder + "/cpu.max", time + " 100000") ||
          (write_file(folder + "/cpu.cfs_period_us", "100000") && write_file(folder + "/cpu.cfs_quota_us", time)))
        return;
      ::rmdir(folder_.c_str());
      folder_.clear();
    }
  }
  quota(const quota&) = delete;
  quota& operator=(const quota&) = delete;
  ~quota() {
    if (!folder_.empty()) ::rmdir(folder_.c_str());
  }
  explicit operator bool() const { return !folder_.empty(); }
  bool enter() const { return write_file(folder_ + "/cgroup.procs", std::to_string(::getpid())); }

 private:
  std::string folder_;
};

}  // namespace complaints_test

TEST_CASE("tasks that wait for tasks never run out of threads", "[complaints]") {
  for (const std::size_t threads : {1u, 2u}) {
    cadre::thread_pool pool{{.threads = threads}};
    CHECK(pool.submit([&] { return complaints_test::fibonacci(pool, 15); }).get() == 610);
    // All threads wait at once, each for a task that waits.
    std::vector<cadre::future<int>> outer;
    for (int i = 0; i < 50; ++i)
      outer.push_back(pool.submit([&pool, i] {
        return pool.submit([&pool, i] { return pool.submit([i] { return i; }).get() + 1; }).get() + 1;
      }));
    int sum = 0;
    for (auto& f : outer) sum += f.get();
    CHECK(sum == 50 * 49 / 2 + 100);
  }
}

TEST_CASE("whatever waits with a lock held never runs a stranger that wants that lock", "[complaints]") {
  for (const std::size_t threads : {1u, 2u, 3u}) {
    std::mutex mutex;  // not recursive: a stranger on this stack would hang, or be undefined
    std::atomic<int> done{0};
    cadre::thread_pool pool{{.threads = threads}};
    std::vector<cadre::future<void>> all;
    for (int i = 0; i < 200; ++i)
      all.push_back(pool.submit([&, i] {
        const std::lock_guard lock(mutex);
        switch (i % 5) {
          case 0: pool.submit([] {}).get(); break;
          case 1: pool.for_each(0, 300, [](std::size_t) {}); break;
          case 2:
            static_cast<void>(pool.reduce(
                0, 300, 0, [](std::size_t) { return 1; }, std::plus<>{}));
            break;
          case 3: {
            std::vector<cadre::future<int>> some;
            for (int k = 0; k < 5; ++k) some.push_back(pool.submit([k] { return k; }));
            static_cast<void>(cadre::get(some));
            break;
          }
          default: {
            auto f = pool.submit([] {});
            while (!f.wait_for(std::chrono::milliseconds(1))) {}
          }
        }
        ++done;
      }));
    for (auto& f : all) f.get();
    CHECK(done == 200);
  }
}

TEST_CASE("an idle pool burns no processor time, nor does a wait", "[complaints]") {
  using namespace complaints_test;
  cadre::thread_pool pool{{.threads = 4}};
  pool.for_each(0, 1000, [](std::size_t) {});
  cadre::promise<void> never;
  cadre::promise<void> also_never;
  auto f = never.get_future();
  auto waits = pool.submit([g = also_never.get_future()]() mutable { g.get(); });
  REQUIRE_FALSE(f.wait_for(20ms));  // for the last to fall asleep
  const auto before = processor_time();
  REQUIRE_FALSE(f.wait_for(200ms));
  CHECK(processor_time() - before < 20ms);
  never.set_value();
  also_never.set_value();
  waits.get();
}

TEST_CASE("a pool has as many threads as the affinity mask allows", "[complaints]") {
  std::size_t threads = 0;
  int sum = 0;
  cpu_set_t only_one;
  CPU_ZERO(&only_one);
  std::jthread([&] {
    CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &only_one);
    if (::sched_setaffinity(0, sizeof only_one, &only_one) != 0) return;
    cadre::thread_pool pool;
    threads = pool.size();
    std::vector<cadre::future<int>> all;
    for (int i = 0; i < 100; ++i) all.push_back(pool.submit([i] { return i; }));
    for (auto& f : all) sum += f.get();
  }).join();
  CHECK(threads == 1);
  CHECK(sum == 4950);
}

TEST_CASE("a pool under a cgroup quota of one processor has one thread and ends its work", "[complaints]") {
  const complaints_test::quota one(1);
  if (!one) {
    WARN("skipped: needs the right to make a cgroup with a processor quota");
    return;
  }
  const int status = complaints_test::in_child([&] {
    if (!one.enter()) return 100;
    cadre::thread_pool pool;
    int sum = 0;
    for (int i = 0; i < 100; ++i) sum += pool.submit([i] { return i; }).get();
    pool.for_each(0, 10'000, [](std::size_t) {});
    return sum == 4950 ? static_cast<int>(pool.size()) : 101;
  });
  CHECK(status == 1);
}

TEST_CASE("no exception is swallowed", "[complaints]") {
  std::mutex mutex;
  std::vector<std::string> seen;
  {
    cadre::thread_pool pool{{.threads = 2, .on_unobserved_error = [&](const cadre::unobserved_error& e) {
                               const std::lock_guard lock(mutex);
                               seen.push_back(complaints_test::error_of([&] { std::rethrow_exception(e.error); }));
                             }}};
    pool.post([] { throw std::runtime_error("posted"); });
    static_cast<void>(pool.submit([] { throw std::runtime_error("dropped"); }));
    static_cast<void>(pool.submit([] { throw std::runtime_error("before a chain"); }).then([] {}).then([] {}));
    static_cast<void>(
        pool.submit([]() -> int { throw std::runtime_error("when_all 1"); }).then([](int x) { return x; }));
    std::vector<cadre::future<void>> two;
    two.push_back(pool.submit([] { throw std::runtime_error("first"); }));
    two.push_back(pool.submit([] { throw std::runtime_error("second"); }));
    CHECK_THROWS_WITH(cadre::when_all(std::move(two)).get(), "first");
    CHECK_THROWS_WITH(pool.for_each(0, 100,
                                    [](std::size_t i) {
                                      if (i == 50) throw std::runtime_error("loop");
                                    }),
                      "loop");
    auto f = pool.submit([&pool] { pool.submit([] { throw std::runtime_error("inner"); }).get(); });
    CHECK_THROWS_WITH(f.get(), "inner");
    auto unasked = pool.submit([] { throw std::runtime_error("waited for, not asked"); });
    unasked.wait();
  }
  std::sort(seen.begin(), seen.end());
  CHECK(seen == std::vector<std::string>{"before a chain", "dropped", "posted", "second", "waited for, not asked",
                                         "when_all 1"});
}

TEST_CASE("less work than threads neither hangs nor is lost", "[complaints]") {
  cadre::thread_pool pool{{.threads = 8}};
  for (int round = 0; round < 200; ++round)
    for (std::size_t n = 0; n < 8; ++n) {
      std::atomic<std::size_t> calls{0};
      pool.for_each(0, n, [&](std::size_t) { ++calls; });
      REQUIRE(calls == n);
      REQUIRE(pool.reduce(
                  0, n, std::size_t{0}, [](std::size_t i) { return i; }, std::plus<>{}) == n * (n + 1) / 2 - n);
      std::vector<cadre::future<std::size_t>> some;
      for (std::size_t i = 0; i < n; ++i) some.push_back(pool.submit([i] { return i; }));
      REQUIRE(cadre::get(some).size() == n);
    }
}

TEST_CASE("a pool destroyed while all its threads are blocked drops no work", "[complaints]") {
  std::atomic<int> ran{0};
  std::vector<cadre::future<int>> futures;
  std::latch let_go{1};
  std::jthread lets_go;
  {
    std::latch started{2};
    cadre::thread_pool pool{{.threads = 2}};
    for (int i = 0; i < 2; ++i)
      pool.post([&] {
        started.count_down();
        let_go.wait();
        for (int k = 0; k < 10; ++k) pool.post([&] { ++ran; });
      });
    started.wait();
    for (int i = 0; i < 1000; ++i) {
      pool.post([&] { ++ran; });
      futures.push_back(pool.submit([i] { return i; }).then([](int x) { return x + 1; }));
    }
    lets_go = std::jthread([&] { let_go.count_down(); });
  }
  CHECK(ran == 1020);
  int sum = 0;
  for (auto& f : futures) {
    REQUIRE(f.ready());
    sum += f.get();
  }
  CHECK(sum == 1000 * 999 / 2 + 1000);
}

TEST_CASE("a forked process that uses the pool of the other is told so, and both go on", "[complaints]") {
  std::latch started{2};
  std::latch let_go{1};
  auto pool = std::make_unique<cadre::thread_pool>(cadre::thread_pool_options{.threads = 2});
  for (int i = 0; i < 2; ++i)
    pool->post([&] {
      started.count_down();
      let_go.wait();
    });
  started.wait();
  auto queued = pool->submit([] { return 4; });
  const std::string text =
      "[cadre.async.207] this process was made by fork(), and the threads of the pool stayed in the other; make a pool "
      "after the fork, or call exec()";
  const int status = complaints_test::in_child([&] {
    using complaints_test::error_of;
    if (error_of([&] { pool->submit([] {}); }) != text) return 1;
    if (error_of([&] { pool->post([] {}); }) != text) return 2;
    if (error_of([&] { queued.wait(); }) != text) return 3;
    if (error_of([&] { static_cast<void>(queued.get()); }) != text) return 4;
    if (error_of([&] { pool->for_each(0, 10, [](std::size_t) {}); }) != text) return 5;
    if (error_of([&] {
          static_cast<void>(pool->reduce(
              0, 10, 0, [](std::size_t) { return 1; }, std::plus<>{}));
        }) != text)
      return 6;
    pool.reset();
    return 42;
  });
  CHECK(status == 42);
  let_go.count_down();
  CHECK(queued.get() == 4);
  CHECK(pool->submit([] { return 5; }).get() == 5);
}

#ifndef CADRE_TSAN  // which lets no child of a process with threads start one
TEST_CASE("a forked process may have a pool of its own", "[complaints]") {
  std::latch started{2};
  std::latch let_go{1};
  cadre::thread_pool pool{{.threads = 2}};
  // Both hold still in a task: a thread that is about to start may be in AddressSanitizer's allocator, which a child of
  // that moment would find locked for ever.
  for (int i = 0; i < 2; ++i)
    pool.post([&] {
      started.count_down();
      let_go.wait();
    });
  started.wait();
  const int status = complaints_test::in_child([] {
    cadre::thread_pool own{{.threads = 2}};
    return own.submit([&own] { return complaints_test::fibonacci(own, 8); }).get();
  });
  CHECK(status == 21);
  let_go.count_down();
  CHECK(pool.submit([] { return 1; }).get() == 1);
}
#endif

TEST_CASE("a task that waits for itself is told so", "[complaints]") {
  for (const std::size_t threads : {1u, 2u}) {
    std::latch known{1};
    cadre::thread_pool pool{{.threads = threads}};
    cadre::future<std::string> own;
    const auto here = std::source_location::current();
    own = pool.submit([&] {
      known.wait();
      return complaints_test::error_of([&] { own.wait(); });
    });
    known.count_down();
    const std::string task = "a task " + complaints_test::at(here, 1);
    CHECK(own.get() == complaints_test::cycle(task + " waits for " + task));
  }
}

TEST_CASE("two tasks that wait for each other are told so, by name", "[complaints]") {
  cadre::thread_pool pool{{.threads = 2}};
  for (int round = 0; round < 100; ++round) {
    cadre::future<void> one, other;
    std::latch both{3};
    const auto here = std::source_location::current();
    one = pool.submit({.name = "one"}, [&] {
      both.arrive_and_wait();
      other.wait();
    });
    other = pool.submit({.name = "other"}, [&] {
      both.arrive_and_wait();
      one.wait();
    });
    both.arrive_and_wait();
    one.wait();  // get() while the other still waits would be for nobody to do
    other.wait();
    const std::string texts[] = {complaints_test::error_of([&] { one.get(); }),
                                 complaints_test::error_of([&] { other.get(); })};
    const std::string a = "'one' " + complaints_test::at(here, 1), b = "'other' " + complaints_test::at(here, 5);
    // The last to wait closes the circle and is told; the wait of the other then ends.
    CHECK(((texts[0] == complaints_test::cycle(a + " waits for " + b + " waits for " + a) && texts[1].empty()) ||
           (texts[1] == complaints_test::cycle(b + " waits for " + a + " waits for " + b) && texts[0].empty())));
  }
}

TEST_CASE("a circle of three tasks is found", "[complaints]") {
  cadre::thread_pool pool{{.threads = 3}};
  for (int round = 0; round < 100; ++round) {
    cadre::future<void> tasks[3];
    std::latch all{4};
    for (std::size_t i = 0; i < 3; ++i)
      tasks[i] = pool.submit([&, i] {
        all.arrive_and_wait();
        tasks[(i + 1) % 3].wait();
      });
    all.arrive_and_wait();
    for (auto& t : tasks) t.wait();
    int told = 0;
    for (auto& t : tasks) {
      try {
        t.get();
      } catch (const cadre::wait_cycle&) {
        ++told;
      }
    }
    CHECK(told == 1);
  }
}

TEST_CASE("a circle through continuations, joins and coroutines is found", "[complaints]") {
  using text_future = cadre::shared_future<std::string>;
  for (const std::size_t threads : {1u, 2u}) {
    cadre::thread_pool pool{{.threads = threads}};
    // What the task that waits for what `later` makes of its own future is told.
    const auto told = [&](auto later) {
      decltype(later(std::declval<text_future>())) after;
      std::latch known{1};
      const text_future own = pool.submit({.name = "own"},
                                          [&] {
                                            known.wait();
                                            return complaints_test::error_of([&] { after.wait(); });
                                          })
                                  .share();
      after = later(own);
      known.count_down();
      const std::string text = own.get();
      after.wait();
      return text;
    };
    const auto here = std::source_location::current();
    const std::string next = told([](text_future own) { return own.then([](const std::string&) {}); });
    const std::string step = "a task " + complaints_test::at(here, 1);
    CHECK(next.find(" waits for " + step + " waits for 'own' ") != std::string::npos);
    CHECK(next.rfind("[cadre.async.208] this wait would never end: 'own' ", 0) == 0);
    const std::string joined = told([&pool](text_future own) {
      std::vector<cadre::future<void>> parts;
      parts.push_back(pool.submit([] {}));
      parts.push_back(own.then([](const std::string&) {}).then([] {}));
      return cadre::when_all(std::move(parts));
    });
    CHECK(joined.rfind("[cadre.async.208] this wait would never end: 'own' ", 0) == 0);
    const std::string awaited = told([](text_future own) {
      return [](text_future f) -> cadre::future<std::size_t> { co_return (co_await f).size(); }(own);
    });
    CHECK(awaited.rfind("[cadre.async.208] this wait would never end: 'own' ", 0) == 0);
    // A wait for the first of several is over as soon as one of the others is.
    const std::string raced = told([&pool](text_future own) {
      std::vector<cadre::future<void>> parts;
      parts.push_back(own.then([](const std::string&) {}));
      parts.push_back(pool.submit([] {}));
      return cadre::when_any(std::move(parts));
    });
    CHECK(raced.empty());
  }
}

TEST_CASE("a task is told if it waits for one that waits for it, on the same stack", "[complaints]") {
  for (const std::size_t threads : {1u, 2u}) {
    std::latch known{1};
    cadre::thread_pool pool{{.threads = threads}};
    cadre::future<std::string> outer;
    const auto here = std::source_location::current();
    outer = pool.submit({.name = "outer"}, [&] {
      known.wait();
      auto inner = pool.submit({.name = "inner"}, [&] { return complaints_test::error_of([&] { outer.wait(); }); });
      std::string text;
      const std::string mine = complaints_test::error_of([&] { text = inner.get(); });
      return mine + text;
    });
    known.count_down();
    const std::string a = "'outer' " + complaints_test::at(here, 1), b = "'inner' " + complaints_test::at(here, 3);
    const std::string text = outer.get();
    // On one stack, or with one thread for each, of which the last to wait is told.
    if (threads == 1)
      CHECK(text == complaints_test::cycle(b + " waits for " + a));
    else
      CHECK((text == complaints_test::cycle(b + " waits for " + a) ||
             text == complaints_test::cycle(b + " waits for " + a + " waits for " + b) ||
             text == complaints_test::cycle(a + " waits for " + b + " waits for " + a)));
  }
}

TEST_CASE("a task may wait for another pool that waits for its own in turn", "[complaints]") {
  cadre::thread_pool a{{.threads = 1}}, b{{.threads = 1}};
  auto outer = b.submit([&] {
    auto there = a.submit([&] { return a.submit([] { return 20; }).then(b, [](int x) { return x + 1; }).get(); });
    // Not run here: the one thread of `a` has it.
    while (a.debug_dump().find("1 running") == std::string::npos && !there.ready()) std::this_thread::yield();
    return 2 * there.get();
  });
  REQUIRE(outer.wait_for(std::chrono::seconds(60)));
  CHECK(outer.get() == 42);
}
