#include "catch.hpp"
#include "overlaps.hpp"

#include <cadre/async.hpp>
#include <cadre/async/blocking.hpp>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace blocking_test {

using namespace std::chrono_literals;

struct pipe_ends {
  pipe_ends() {
    if (::pipe(ends) != 0) throw std::runtime_error("no pipe");
  }
  pipe_ends(const pipe_ends&) = delete;
  pipe_ends& operator=(const pipe_ends&) = delete;
  ~pipe_ends() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  char read() const {
    char c = 0;
    return ::read(ends[0], &c, 1) == 1 ? c : '?';
  }
  void write(char c) const {
    if (::write(ends[1], &c, 1) != 1) throw std::runtime_error("cannot write");
  }
  int ends[2] = {};
};

TEST_CASE("a task that blocks for what its own pool of one thread must do does not hang", "[blocking]") {
  cadre::thread_pool pool{{.threads = 1}};
  for (int round = 0; round < 50; ++round) {
    const pipe_ends pipe;
    auto reader = pool.submit([&] { return cadre::blocking([&] { return pipe.read(); }); });
    auto writer = pool.submit([&] { pipe.write('x'); });
    REQUIRE(reader.wait_for(30s));
    CHECK(reader.get() == 'x');
    writer.get();
  }
}

TEST_CASE("many tasks of a pool of one thread may block at once", "[blocking]") {
  cadre::thread_pool pool{{.threads = 1}};
  const pipe_ends pipe;
  std::vector<cadre::future<char>> readers;
  for (int i = 0; i < 20; ++i)
    readers.push_back(pool.submit([&] { return cadre::blocking([&] { return pipe.read(); }); }));
  auto writer = pool.submit([&] {
    for (int i = 0; i < 20; ++i) pipe.write('x');
  });
  for (auto& r : readers) {
    REQUIRE(r.wait_for(30s));
    CHECK(r.get() == 'x');
  }
  writer.get();
}

TEST_CASE("after a task has blocked, as many threads take tasks as before", "[blocking]") {
  cadre::thread_pool pool{{.threads = 1}};
  const pipe_ends pipe;
  auto reader = pool.submit([&] { return cadre::blocking([&] { return pipe.read(); }); });
  pool.submit([&] { pipe.write('x'); }).get();
  CHECK(reader.get() == 'x');
  CHECK(overlaps(pool, 1) == 0);
}

TEST_CASE("a task for one worker is run also if another stands in for that worker", "[blocking]") {
  cadre::thread_pool pool{{.threads = 2}};
  for (int round = 0; round < 100; ++round) {
    const pipe_ends pipe;
    auto reader = pool.submit([&] { return cadre::blocking([&] { return pipe.read(); }); });
    pool.submit([&] { pipe.write('x'); }).get();
    CHECK(reader.get() == 'x');
    for (std::size_t w = 0; w < 2; ++w) {
      auto pinned = pool.submit({.worker = w}, [] {});
      REQUIRE(pinned.wait_for(30s));
    }
  }
}

TEST_CASE("a pool ends while a task blocks for another of its tasks", "[blocking]") {
  for (int round = 0; round < 30; ++round) {
    const pipe_ends pipe;
    std::atomic<char> got = 0;
    auto pool = std::make_unique<cadre::thread_pool>(cadre::thread_pool_options{.threads = 1});
    pool->post([&] { got = cadre::blocking([&] { return pipe.read(); }); });
    pool->post([&] { pipe.write('x'); });
    pool.reset();
    REQUIRE(got == 'x');
  }
}

TEST_CASE("a pool is idle again when what blocked in it is over", "[blocking]") {
  const pipe_ends pipe;
  cadre::thread_pool pool{{.threads = 2}};
  for (int round = 0; round < 20; ++round) {
    auto blocked = pool.submit([&] { return cadre::blocking([&] { return pipe.read(); }); });
    auto further = pool.submit([] { return 1; });
    CHECK(further.get() == 1);
    pipe.write('x');
    CHECK(blocked.get() == 'x');
    const auto end = std::chrono::steady_clock::now() + 2s;
    while (!cadre::detail::scheduler_of(pool).is_idle()) {
      REQUIRE(std::chrono::steady_clock::now() < end);
      std::this_thread::yield();
    }
  }
}

TEST_CASE("blocking gives back what the function returns or throws, in a pool and elsewhere", "[blocking]") {
  int value = 1;
  static_assert(std::is_same_v<decltype(cadre::blocking([&]() -> int& { return value; })), int&>);
  const auto check = [&] {
    CHECK(&cadre::blocking([&]() -> int& { return value; }) == &value);
    CHECK(*cadre::blocking([] { return std::make_unique<int>(7); }) == 7);
    cadre::blocking([] {});
    CHECK_THROWS_AS(cadre::blocking([] { throw std::out_of_range("keeps its type"); }), std::out_of_range);
  };
  check();
  cadre::thread_pool pool{{.threads = 1}};
  pool.submit(check).get();
}

}  // namespace blocking_test
