// What tasks cost of the system's memory. Every call of malloc in the process is counted, also those of operator new.

#include "all_threads.hpp"
#include "catch.hpp"

#include <cadre/async.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <latch>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace steady_state_test {

std::atomic<std::size_t> calls{0};
std::atomic<std::size_t> bytes{0};

void count(std::size_t size) noexcept {
  calls.fetch_add(1, std::memory_order_relaxed);
  bytes.fetch_add(size, std::memory_order_relaxed);
}

}  // namespace steady_state_test

// A sanitizer tells of each allocation; without one, the program's own malloc goes before that of the C library.
#if defined(CADRE_POISON_NODES) || defined(CADRE_TSAN)
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*, std::size_t),
                                                         void (*)(const volatile void*));
namespace steady_state_test {
const int installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t size) { count(size); }, [](const volatile void*) {});
}
#else
extern "C" void* __libc_malloc(std::size_t);
extern "C" void* __libc_memalign(std::size_t, std::size_t);
extern "C" void* malloc(std::size_t size) {
  steady_state_test::count(size);
  return __libc_malloc(size);
}
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) {
  steady_state_test::count(size);
  return __libc_memalign(alignment, size);
}
#endif

namespace steady_state_test {

constexpr std::size_t in_flight = 500;

// Far more tasks of each size at once than any test below has: then there are nodes for all threads to keep some, and room
// in the queues.
void warm_up(cadre::thread_pool& pool) {
  await_all_threads(pool);
  std::latch let_go{1};
  std::vector<cadre::future<void>> all;
  for (std::size_t i = 0; i < pool.size(); ++i) all.push_back(pool.submit([&] { let_go.wait(); }));
  for (std::size_t i = 0; i < 8 * in_flight; ++i) {
    all.push_back(pool.submit([] {}));
    all.push_back(pool.submit([space = std::array<char, 100>{}] { static_cast<void>(space); }));
    all.push_back(pool.submit([] {}).then([] {}));
  }
  let_go.count_down();
  all.push_back(pool.submit([&pool] {
    for (std::size_t i = 0; i < 8 * in_flight; ++i) pool.post([] {});
  }));
  for (auto& f : all) f.get();
}

// Calls of malloc while `work` runs for the third and the fourth time.
template <class Work>
std::size_t allocations(Work work) {
  work();
  work();
  const std::size_t before = calls.load();
  work();
  work();
  return calls.load() - before;
}

template <class T>
void get_all(std::vector<cadre::future<T>>& futures) {
  for (auto& f : futures) static_cast<void>(f.get());
  futures.clear();
}

}  // namespace steady_state_test

TEST_CASE("the count of allocations counts", "[steady_state]") {
  using namespace steady_state_test;
  std::unique_ptr<int> kept;
  CHECK(allocations([&] { kept = std::make_unique<int>(1); }) == 2);
}

TEST_CASE("in steady state no task costs an allocation", "[steady_state]") {
  using namespace steady_state_test;
  for (const std::size_t threads : {1u, 2u}) {
    cadre::thread_pool pool{{.threads = threads}};
    warm_up(pool);
    std::vector<cadre::future<std::size_t>> futures;
    futures.reserve(in_flight);
    std::atomic<std::size_t> sum{0};

    INFO(threads << " threads");
    SECTION("submit and get") {
      CHECK(allocations([&] {
              for (std::size_t i = 0; i < in_flight; ++i) futures.push_back(pool.submit([i] { return i; }));
              get_all(futures);
            }) == 0);
      CHECK(allocations([&] {
              for (std::size_t i = 0; i < in_flight; ++i) sum += pool.submit([i] { return i; }).get();
            }) == 0);
    }
    SECTION("post") {
      CHECK(allocations([&] {
              std::latch all{in_flight};
              for (std::size_t i = 0; i < in_flight; ++i) pool.post([&all] { all.count_down(); });
              all.wait();
            }) == 0);
    }
    SECTION("then") {
      CHECK(allocations([&] {
              for (std::size_t i = 0; i < in_flight; ++i)
                futures.push_back(pool.submit([i] { return i; }).then([](std::size_t x) { return x + 1; }));
              get_all(futures);
            }) == 0);
    }
    SECTION("wait") {
      CHECK(allocations([&] {
              for (std::size_t i = 0; i < in_flight; ++i) {
                auto f = pool.submit([i] { return i; });
                while (!f.wait_for(std::chrono::milliseconds(1))) {}
                f.wait();
              }
            }) == 0);
    }
    SECTION("promise") {
      CHECK(allocations([&] {
              for (std::size_t i = 0; i < in_flight; ++i) {
                cadre::promise<std::size_t> p;
                auto f = p.get_future();
                pool.post([q = std::move(p), i]() mutable { q.set_value(i); });
                sum += f.get();
              }
            }) == 0);
    }
    SECTION("tasks inside tasks") {
      CHECK(allocations([&] {
              for (std::size_t i = 0; i < in_flight; ++i)
                futures.push_back(pool.submit([&pool, i] {
                  auto a = pool.submit([i] { return i; });
                  auto b = pool.submit([i] { return i + 1; });
                  return a.get() + b.get();
                }));
              get_all(futures);
            }) == 0);
    }
    SECTION("to ask running tasks to stop") {
      CHECK(allocations([&] {
              for (std::size_t i = 0; i < in_flight / 10; ++i) {
                std::atomic<bool> begun{false};
                auto f = pool.submit([&begun] {
                  begun = true;
                  while (!cadre::detail::current_task()->stop_requested()) std::this_thread::yield();
                });
                while (!begun.load()) std::this_thread::yield();
                f.cancel();
                f.get();
              }
            }) == 0);
    }
  }
}

TEST_CASE("a loop costs no more allocations than threads, however many iterations", "[steady_state]") {
  using namespace steady_state_test;
  cadre::thread_pool pool{{.threads = 2}};
  warm_up(pool);
  std::atomic<std::size_t> sum{0};
  for (const std::size_t n : {10u, 100'000u})
    CHECK(allocations([&] { pool.for_each(0, n, [&](std::size_t i) { sum.fetch_add(i); }); }) <= 2 * pool.size());
}

#ifndef CADRE_TSAN  // which does not tell of memory that is asked for with an alignment
TEST_CASE("a task that waits for its turn takes 128 bytes, and its future a pointer", "[steady_state]") {
  using namespace steady_state_test;
  static_assert(sizeof(cadre::future<double>) == sizeof(void*));
  std::latch let_go{1};
  cadre::thread_pool pool{{.threads = 1}};
  pool.post([&] { let_go.wait(); });
  {
    std::vector<cadre::future<double>> futures;
    futures.reserve(1'000'000);
    const auto submit = [&] {
      futures.push_back(pool.submit([i = futures.size()] { return static_cast<double>(i); }));
    };
    // Memory is asked for in pieces of 2 MiB as a rule.
    const auto use_up = [&] {
      const std::size_t before = bytes.load();
      while (bytes.load() - before < 1 << 20 && futures.size() < futures.capacity()) submit();
    };
    use_up();  // what other tests have left free
    const std::size_t first = futures.size();
    const std::size_t before = bytes.load();
    for (int i = 0; i < 16; ++i) use_up();
    const double each = static_cast<double>(bytes.load() - before) / static_cast<double>(futures.size() - first);
    CHECK(each > 100);
    CHECK(each <= 129);  // half a byte for the list of the nodes, and as much for what is left of each piece
    let_go.count_down();
    double total = 0;
    for (auto& f : futures) total += f.get();
    const auto all = static_cast<double>(futures.size());
    CHECK(total == all * (all - 1) / 2);
  }
}
#endif
