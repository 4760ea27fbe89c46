#include "catch.hpp"
#include "text_of.hpp"

#include <cadre/async.hpp>
#include <cadre/core/units.hpp>
#include <cadre/observe/log.hpp>

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace task_options_test {

using namespace std::chrono_literals;
using namespace cadre::literals;

// Closed until opened; those who pass through count themselves.
class gate {
 public:
  void open() { open_ = true, open_.notify_all(); }
  void pass() {
    ++arrived_, arrived_.notify_all();
    open_.wait(false);
  }
  void wait_for_arrivals(int n) {
    for (int now = arrived_; now < n; now = arrived_) arrived_.wait(now);
  }

 private:
  std::atomic<bool> open_{false};
  std::atomic<int> arrived_{0};
};

// Tasks note in which order they ran.
class journal {
 public:
  void note(std::string what) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(std::move(what));
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

}  // namespace task_options_test

using namespace task_options_test;

TEST_CASE("high priority goes first, low last, and tasks of one priority in their order", "[task_options]") {
  journal ran;
  {
    gate g;
    cadre::thread_pool pool{{.threads = 1}};
    pool.post([&] { g.pass(); });
    g.wait_for_arrivals(1);
    for (const char* name : {"low 1", "low 2"})
      pool.post({.priority = cadre::priority::low}, [&, name] { ran.note(name); });
    for (const char* name : {"normal 1", "normal 2"}) pool.post([&, name] { ran.note(name); });
    for (const char* name : {"high 1", "high 2"})
      pool.post({.priority = cadre::priority::high}, [&, name] { ran.note(name); });
    g.open();
  }
  CHECK(ran.lines() == std::vector<std::string>{"high 1", "high 2", "normal 1", "normal 2", "low 1", "low 2"});
}

TEST_CASE("a flood of higher priority does not starve the lower ones", "[task_options]") {
  std::atomic<bool> normal_ran{false}, low_ran{false};
  gate g;
  cadre::thread_pool pool{{.threads = 1}};
  std::function<void()> flood = [&] {
    if (!normal_ran || !low_ran) pool.post({.priority = cadre::priority::high}, flood);
  };
  pool.post([&] { g.pass(); });
  g.wait_for_arrivals(1);
  for (int i = 0; i < 3; ++i) pool.post({.priority = cadre::priority::high}, flood);
  auto normal = pool.submit([&] { normal_ran = true; });
  auto low = pool.submit({.priority = cadre::priority::low}, [&] { low_ran = true; });
  g.open();
  CHECK(normal.wait_for(30s));
  CHECK(low.wait_for(30s));
  normal_ran = low_ran = true;
}

TEST_CASE("a task that is tied to a worker runs there, whoever waits for it", "[task_options]") {
  cadre::thread_pool pool{{.threads = 3, .name = "tied"}};
  const auto where = [] {
    char name[16] = {};
    ::pthread_getname_np(::pthread_self(), name, sizeof name);
    return std::string(name);
  };
  for (int round = 0; round < 200; ++round)
    for (std::size_t w = 0; w < 3; ++w) {
      CHECK(pool.submit({.worker = w}, where).get() == "tied/" + std::to_string(w));
      const auto inside =
          pool.submit([&] {
                std::string me = where();
                return std::pair(me, me == "tied/" + std::to_string(w) ? me : pool.submit({.worker = w}, where).get());
              })
              .get();
      CHECK(inside.second == "tied/" + std::to_string(w));
    }
  CHECK(text_of<cadre::bad_task_option>([&] { pool.submit({.worker = 3}, [] {}); }) ==
        "[cadre.async.211] .worker = 3 in a pool of 3 threads; they are counted from 0");
}

TEST_CASE("a stop token cancels the task that was given it", "[task_options]") {
  gate g;
  cadre::thread_pool pool{{.threads = 1}};
  std::stop_source source;
  auto runs = pool.submit({.stop = source.get_token()}, [&] {
    g.pass();
    return cadre::this_task::stop_requested();
  });
  g.wait_for_arrivals(1);
  auto queued = pool.submit({.name = "late", .stop = source.get_token()}, [] { FAIL("it ran"); });
  source.request_stop();
  CHECK(queued.ready());
  CHECK(text_of<cadre::task_cancelled>([&] { queued.get(); }).find("'late' submitted at ") != std::string::npos);
  g.open();
  CHECK(runs.get());
  CHECK_THROWS_AS(pool.submit({.stop = source.get_token()}, [] {}).get(), cadre::task_cancelled);
}

TEST_CASE("a function may take a std::stop_token, which its cancellation stops", "[task_options]") {
  std::atomic<bool> called{false};
  gate g;
  cadre::thread_pool pool{{.threads = 1}};
  g.open();
  auto f = pool.submit(
      [&](std::stop_token token, int x) {
        g.pass();
        const std::stop_callback notice(token, [&] { called = true; });
        while (!token.stop_requested()) std::this_thread::yield();
        return x;
      },
      7);
  g.wait_for_arrivals(1);
  CHECK(f.cancel());
  CHECK(f.get() == 7);
  CHECK(called);
  CHECK_FALSE(pool.submit([](std::stop_token t) { return t.stop_requested(); }).get());
}

TEST_CASE("a failed task is tried again as often as allowed, with fresh arguments", "[task_options]") {
  cadre::thread_pool pool{{.threads = 1}};
  int tries = 0;
  const auto fail_twice = [&](std::string text) {
    CHECK(text == "a text that is too long to lie inside of the string");
    text.clear();
    if (++tries < 3) throw std::runtime_error("try " + std::to_string(tries));
    return tries;
  };
  const std::string text = "a text that is too long to lie inside of the string";
  CHECK(pool.submit({.max_retries = 2}, fail_twice, text).get() == 3);
  tries = 0;
  CHECK(text_of<std::runtime_error>([&] { pool.submit({.max_retries = 1}, fail_twice, text).get(); }) == "try 2");
  tries = 0;
  CHECK(pool.submit({.max_retries = 5, .retry_on = cadre::errors<std::logic_error, std::runtime_error>()}, fail_twice,
                    text)
            .get() == 3);
  tries = 0;
  CHECK_THROWS_AS(
      pool.submit({.max_retries = 5, .retry_on = cadre::errors<std::system_error>()}, fail_twice, text).get(),
      std::runtime_error);
  CHECK(tries == 1);
  CHECK(text_of<cadre::bad_task_option>([&] {
          pool.submit(
              {.max_retries = 1}, [](std::unique_ptr<int>) {}, std::make_unique<int>(1));
        }) ==
        "[cadre.async.211] .max_retries = 1 for a function, or arguments, that cannot be copied: each try would need "
        "its own");
  CHECK(text_of<cadre::bad_task_option>([&] { pool.submit({.max_retries = -1}, [] {}); }) ==
        "[cadre.async.211] .max_retries = -1; give 0 or more");
  pool.submit(
          {.name = "move-only"}, [](std::unique_ptr<int> p) { CHECK(*p == 1); }, std::make_unique<int>(1))
      .get();
}

TEST_CASE("a task that has not begun by its deadline fails then, though every thread is busy", "[task_options]") {
  gate g;
  cadre::thread_pool pool{{.threads = 1}};
  pool.post([&] { g.pass(); });
  g.wait_for_arrivals(1);
  auto late = pool.submit({.name = "late", .deadline = std::chrono::steady_clock::now() + 20ms}, [] {});
  auto later = pool.submit({.deadline = std::chrono::steady_clock::now() + 24h}, [] { return 1; });
  REQUIRE(late.wait_for(30s));
  const std::string text = text_of<cadre::deadline_passed>([&] { late.get(); });
  CHECK(text.starts_with("[cadre.async.210] 'late' submitted at "));
  CHECK(text.ends_with(" had not begun by its deadline; give it more time, or the pool less to do"));
  g.open();
  CHECK(later.get() == 1);
  CHECK_THROWS_AS(pool.submit({.deadline = std::chrono::steady_clock::now() - 1s}, [&] { g.pass(); }).get(),
                  cadre::deadline_passed);
  auto runs = pool.submit({.deadline = std::chrono::steady_clock::now() + 200ms}, [] {
    while (!cadre::this_task::stop_requested()) std::this_thread::yield();
    return 5;
  });
  try {
    CHECK(runs.get() == 5);                  // asked to stop, and it did
  } catch (const cadre::deadline_passed&) {  // on a machine so slow that it had not begun
  }
}

TEST_CASE("thousands of deadlines that are met leave nothing behind", "[task_options]") {
  cadre::thread_pool pool{{.threads = 2}};
  for (int i = 0; i < 3000; ++i)
    CHECK(pool.submit({.deadline = std::chrono::steady_clock::now() + 24h}, [i] { return i; }).get() == i);
}

TEST_CASE("a request that the pool can never meet is refused at once, with what there is", "[resources]") {
  cadre::thread_pool pool{{.threads = 2, .resources = {{"gpu", 2}, {"TPU", 8}, {"memory", 1_GiB}}}};
  const auto refused = [&](cadre::resource_set r) {
    return text_of<cadre::impossible_request>([&] { pool.submit({.resources = std::move(r)}, [] {}); });
  };
  CHECK(refused({{"gpu", 3}}) ==
        "[cadre.async.209] this request of resources can never be met: gpu 3; this pool has gpu 2, TPU 8, memory "
        "1073741824, cpu 2. Ask for less, or declare more in the pool's .resources");
  CHECK(refused({{"cpu", 2.5}}).find("cpu 2.5; this pool has") != std::string::npos);
  CHECK(refused({{"memory", 2_GiB}}).find("memory 2147483648; this pool has") != std::string::npos);
  CHECK(refused({{"unicorn", 1}}).find("unicorn 1; this pool has") != std::string::npos);
  CHECK(refused({{"gpu", 1.5}}).find("gpu 1.5; ask for a part of one gpu, or for whole ones") != std::string::npos);
  CHECK(text_of<cadre::impossible_request>([] {
          cadre::resource_set{{"gpu", -1}};
        }).find("'gpu' of -1") != std::string::npos);
  CHECK(text_of<cadre::impossible_request>([] {
          cadre::resource_set{{"a", 1}, {"a", 1}};
        }).find("'a' is given twice") != std::string::npos);
  pool.submit({.resources = {{"unicorn", 0}}}, [] {}).get();
}

TEST_CASE("never more of a resource is held than there is, in any mixture", "[resources]") {
  std::atomic<int> slots{0}, most{0};
  std::atomic<int> wrong{0};
  cadre::thread_pool pool{{.threads = 4, .resources = {{"gpu", 2}, {"slot", 3}}}};
  std::atomic<int> device[2] = {0, 0};  // in hundredths
  std::vector<cadre::future<void>> all;
  for (int i = 0; i < 400; ++i) {
    const int n = 1 + i % 3;
    all.push_back(pool.submit({.resources = {{"slot", n}}}, [&, n] {
      const int now = slots += n;
      if (now > 3) ++wrong;
      for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {}
      slots -= n;
    }));
    const int part = i % 7 == 0 ? 200 : i % 3 == 0 ? 100 : 25;
    all.push_back(pool.submit({.resources = {{"gpu", part / 100.0}}}, [&, part] {
      const std::vector<int> ids = cadre::this_task::gpus();
      if (ids.size() != (part == 200 ? 2u : 1u)) ++wrong;
      for (int id : ids)
        if ((device[id] += std::min(part, 100)) > 100) ++wrong;
      for (int id : ids) device[id] -= std::min(part, 100);
    }));
  }
  for (auto& f : all) f.get();
  CHECK(wrong == 0);
  CHECK(most >= 1);
}

TEST_CASE("a large request does not starve behind small ones", "[resources]") {
  std::atomic<bool> large_ran{false};
  cadre::thread_pool pool{{.threads = 4, .resources = {{"slot", 2}}}};
  std::function<void()> small = [&] {
    if (!large_ran) pool.post({.resources = {{"slot", 1}}}, small);
  };
  for (int i = 0; i < 4; ++i) pool.post({.resources = {{"slot", 1}}}, small);
  auto large = pool.submit({.resources = {{"slot", 2}}}, [&] { large_ran = true; });
  CHECK(large.wait_for(30s));
  large_ran = true;
}

TEST_CASE("a task that waits for a child may leave it what it holds itself", "[resources]") {
  for (std::size_t threads : {1u, 2u}) {
    cadre::thread_pool pool{{.threads = threads, .resources = {{"gpu", 1}}}};
    auto parent = pool.submit({.resources = {{"gpu", 1}}}, [&] {
      auto child = pool.submit({.resources = {{"gpu", 0.5}}}, [&] {
        auto grandchild = pool.submit({.resources = {{"gpu", 0.5}}}, [] { return cadre::this_task::gpus(); });
        return grandchild.get();
      });
      return child.get();
    });
    REQUIRE(parent.wait_for(30s));
    CHECK(parent.get() == std::vector<int>{0});
    // It has all come back.
    CHECK(pool.submit({.resources = {{"gpu", 1}}}, [] { return cadre::this_task::gpus(); }).get() ==
          std::vector<int>{0});
  }
}

TEST_CASE("a child that outlives its parent keeps what it borrowed, and no longer", "[resources]") {
  gate g;
  cadre::thread_pool pool{{.threads = 2, .resources = {{"gpu", 1}}}};
  cadre::future<int> child;
  pool.submit({.resources = {{"gpu", 1}}, .worker = 0},
              [&] {
                child = pool.submit({.resources = {{"gpu", 1}}, .worker = 1}, [&] {
                  g.pass();
                  return 1;
                });
                static_cast<void>(child.wait_for(100ms));
              })
      .get();
  g.wait_for_arrivals(1);
  auto stranger = pool.submit({.resources = {{"gpu", 0.1}}}, [] {});
  CHECK_FALSE(stranger.wait_for(50ms));
  g.open();
  CHECK(stranger.wait_for(30s));
  CHECK(child.get() == 1);
}

TEST_CASE("a cancelled request makes room for those behind it", "[resources]") {
  gate g;
  cadre::thread_pool pool{{.threads = 2, .resources = {{"slot", 2}}}};
  auto holder = pool.submit({.resources = {{"slot", 1}}}, [&] { g.pass(); });
  g.wait_for_arrivals(1);
  auto large = pool.submit({.resources = {{"slot", 2}}}, [] {});
  auto small = pool.submit({.resources = {{"slot", 1}}}, [] {});
  CHECK_FALSE(small.wait_for(50ms));  // in order
  CHECK(large.cancel());
  CHECK(small.wait_for(30s));
  CHECK_THROWS_AS(large.get(), cadre::task_cancelled);
  g.open();
}

TEST_CASE("a task that asks for all processors has the pool to itself, and says so to OpenMP", "[resources]") {
  std::atomic<int> others{0};
  gate g;
  cadre::thread_pool pool{{.threads = 4}};
  CHECK(pool.submit({.resources = {{"cpu", 4}}}, [] { return cadre::this_task::cpus(); }).get() == 4);
  CHECK(pool.submit([] { return cadre::this_task::cpus(); }).get() == 1);
  auto large = pool.submit({.resources = {{"cpu", 4}}}, [&] { g.pass(); });
  g.wait_for_arrivals(1);
  for (int i = 0; i < 100; ++i) pool.post([&] { ++others; });
  // Threads that had just begun to look for work may take one task more.
  const auto deadline = std::chrono::steady_clock::now() + 100ms;
  while (std::chrono::steady_clock::now() < deadline && others < 100) std::this_thread::yield();
  CHECK(others <= 3);
  g.open();
  large.get();
  while (others < 100) std::this_thread::yield();
}

TEST_CASE("debug_dump names every task that runs, waits or is queued, with its place", "[debug_dump]") {
  gate g;
  cadre::thread_pool pool{{.threads = 2, .name = "dumped", .resources = {{"slot", 1}}}};
  auto inner = pool.submit({.name = "inner", .resources = {{"slot", 1}}}, [&] { g.pass(); });
  g.wait_for_arrivals(1);
  auto outer = pool.submit({.name = "outer"}, [&] { inner.wait(); });
  auto needy = pool.submit({.name = "needy", .resources = {{"slot", 1}}}, [] {});
  std::string dump;
  for (const auto deadline = std::chrono::steady_clock::now() + 30s; std::chrono::steady_clock::now() < deadline;) {
    dump = pool.debug_dump();
    if (dump.find("waiting 'outer'") != std::string::npos) break;
    std::this_thread::yield();
  }
  INFO(dump);
  CHECK(dump.find("pool 'dumped': 1 running, 1 waiting, 0 queued, 1 pending") == 0);
  CHECK(dump.find("running 'inner' submitted at ") != std::string::npos);
  CHECK(dump.find("task_options.cpp:") != std::string::npos);
  CHECK(dump.find(" for 'inner' submitted at ") != std::string::npos);
  CHECK(dump.find("pending 'needy' submitted at ") != std::string::npos);
  g.open();
  outer.get();
  needy.get();
}

TEST_CASE("a wait longer than the pool was told is reported once, with the dump", "[debug_dump]") {
  std::mutex mutex;
  std::vector<std::string> lines;
  cadre::set_log_sink(
      [&](const cadre::log_record& r) {
        const std::lock_guard lock(mutex);
        lines.emplace_back(r.message);
      },
      cadre::log_level::warning);
  {
    gate g;
    cadre::thread_pool pool{{.threads = 1, .report_waits_after = 20ms}};
    auto slow = pool.submit({.name = "slow"}, [&] { g.pass(); });
    g.wait_for_arrivals(1);
    CHECK_FALSE(slow.wait_for(100ms));
    g.open();
    while (!slow.ready()) std::this_thread::yield();  // no wait, which might be long on a busy machine
    cadre::thread_pool patient{{.threads = 1, .report_waits_after = 1h}};
    patient.submit({.name = "fast"}, [] {}).get();
  }
  cadre::set_log_sink(nullptr);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].find("a thread has waited for 'slow' submitted at ") == 0);
  CHECK(lines[0].find("longer than 0.02") != std::string::npos);
  CHECK(lines[0].find("running 'slow'") != std::string::npos);
}
