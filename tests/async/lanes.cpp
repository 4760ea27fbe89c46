#include "catch.hpp"
#include "queued_items.hpp"

#include <cadre/async/detail/run_queues.hpp>

#include <atomic>
#include <cstddef>
#include <list>
#include <thread>
#include <vector>

namespace lanes_test {

using cadre::detail::lanes;

// No pool has these numbers.
cadre::detail::pool_id next_pool() {
  static std::atomic<std::uint64_t> last{0};
  return ~std::uint64_t{0} - ++last;
}
struct open_lanes : lanes {
  open_lanes() { open(next_pool()); }
};

bool push(lanes& l, queued_items::item* t) {
  return l.push(t, [] { return true; });
}
std::vector<std::size_t> take(lanes& l, std::size_t most, std::uint32_t& turn) {
  std::vector<cadre::detail::task*> out(most);
  out.resize(l.take(out.data(), most, turn));
  std::vector<std::size_t> numbers;
  for (const cadre::detail::task* t : out) numbers.push_back(queued_items::number_of(t));
  return numbers;
}

}  // namespace lanes_test

TEST_CASE("what a thread pushes is taken in that order, many at once", "[lanes]") {
  lanes_test::open_lanes l;
  const auto all = queued_items::make(1000);
  std::uint32_t turn = 0;
  CHECK(l.empty());
  CHECK(l.used() == 0);
  for (std::size_t i = 0; i < 1000; ++i) REQUIRE(lanes_test::push(l, &all[i]));
  CHECK(l.used() == 1);
  std::size_t next = 0;
  while (!l.empty()) {
    const auto numbers = lanes_test::take(l, 32, turn);
    CHECK(numbers.size() == (next < 992 ? 32 : 8));
    for (const std::size_t n : numbers) CHECK(n == next++);
  }
  CHECK(next == 1000);
  CHECK(lanes_test::take(l, 32, turn).empty());
}

TEST_CASE("each thread has a lane, and they are taken from by turns", "[lanes]") {
  lanes_test::open_lanes l;
  const auto all = queued_items::make(4);
  REQUIRE(lanes_test::push(l, &all[0]));
  REQUIRE(lanes_test::push(l, &all[1]));
  std::thread([&] {
    CHECK(lanes_test::push(l, &all[2]));
    CHECK(lanes_test::push(l, &all[3]));
  }).join();
  CHECK(l.used() == 2);
  std::uint32_t turn = 1;
  CHECK(lanes_test::take(l, 1, turn) == std::vector<std::size_t>{0});
  CHECK(lanes_test::take(l, 1, turn) == std::vector<std::size_t>{2});
  CHECK(lanes_test::take(l, 1, turn) == std::vector<std::size_t>{1});
  CHECK(lanes_test::take(l, 1, turn) == std::vector<std::size_t>{3});
}

TEST_CASE("a thread that ends leaves its lane to the next, with what lies in it", "[lanes]") {
  lanes_test::open_lanes l;
  const auto all = queued_items::make(100);
  for (std::size_t i = 0; i < 100; ++i) std::thread([&] { CHECK(lanes_test::push(l, &all[i])); }).join();
  CHECK(l.used() == 1);
  std::uint32_t turn = 0;
  const auto numbers = lanes_test::take(l, 200, turn);
  REQUIRE(numbers.size() == 100);
  for (std::size_t i = 0; i < 100; ++i) CHECK(numbers[i] == i);
}

TEST_CASE("a lane goes on in the place of one whose pool has ended", "[lanes]") {
  const auto all = queued_items::make(1);
  std::uint32_t turn = 0;
  for (int i = 0; i < 10; ++i) {
    lanes_test::open_lanes l;
    REQUIRE(lanes_test::push(l, &all[0]));
    REQUIRE(lanes_test::take(l, 1, turn).size() == 1);
  }
}

TEST_CASE("a thread that has lanes of three pools gets none of a fourth until one of these has ended", "[lanes]") {
  const auto all = queued_items::make(100);
  std::thread([&] {
    std::list<lanes_test::open_lanes> three(3);
    for (auto& l : three) CHECK(lanes_test::push(l, &all[0]));
    lanes_test::open_lanes fourth;
    for (std::size_t i = 0; i < 100; ++i) CHECK_FALSE(lanes_test::push(fourth, &all[i]));
    three.pop_front();
    int refused = 0;
    while (!lanes_test::push(fourth, &all[0])) ++refused;
    CHECK(refused < 64);
  }).join();
}

TEST_CASE("a first lane waits until it may begin, and asks now and then", "[lanes]") {
  lanes_test::open_lanes l;
  const auto all = queued_items::make(1);
  std::thread([&] {
    int asked = 0;
    for (int i = 0; i < 640; ++i)
      CHECK_FALSE(l.push(&all[0], [&] {
        ++asked;
        return false;
      }));
    CHECK(asked == 10);
    CHECK(l.used() == 0);
  }).join();
}

TEST_CASE("there is an end to the lanes of a pool", "[lanes]") {
  lanes_test::open_lanes l;
  const auto all = queued_items::make(100);
  std::atomic<int> pushed{0}, tried{0};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 40; ++i)
    threads.emplace_back([&, i] {
      pushed += lanes_test::push(l, &all[i]);
      ++tried;
      while (tried != 40) std::this_thread::yield();  // none ends before
    });
  for (auto& t : threads) t.join();
  CHECK(pushed == 32);
  CHECK(l.used() == 32);
}

TEST_CASE("tasks of more threads than there are lanes all run", "[lanes]") {
  std::atomic<int> ran{0};
  {
    cadre::thread_pool pool{{.threads = 2}};
    std::vector<std::thread> threads;
    for (int i = 0; i < 40; ++i)
      threads.emplace_back([&] {
        for (int k = 0; k < 500; ++k) pool.post([&] { ++ran; });
        int sum = 0;
        for (int k = 0; k < 10; ++k) sum += pool.submit([k] { return k; }).get();
        ran += sum == 45;
      });
    for (auto& t : threads) t.join();
  }
  CHECK(ran == 40 * 501);
}

TEST_CASE("one thread may submit to many pools by turns", "[lanes]") {
  std::list<cadre::thread_pool> pools;
  for (int i = 0; i < 6; ++i) pools.emplace_back(cadre::thread_pool_options{.threads = 2});
  for (int round = 0; round < 200; ++round) {
    std::vector<cadre::future<int>> values;
    for (auto& pool : pools) values.push_back(pool.submit([round] { return round; }));
    for (auto& v : values) REQUIRE(v.get() == round);
    if (round % 50 == 49) {
      pools.pop_front();
      pools.emplace_back(cadre::thread_pool_options{.threads = 2});
    }
  }
}

TEST_CASE("a thread may still submit while its thread_local objects end", "[lanes]") {
  struct last_will {
    cadre::thread_pool* pool;
    std::atomic<int>* ran;
    ~last_will() {
      for (int i = 0; i < 100; ++i) pool->post([r = ran] { ++*r; });
    }
  };
  std::atomic<int> ran{0};
  {
    cadre::thread_pool pool{{.threads = 2}};
    std::thread([&] {
      static thread_local const last_will will{&pool, &ran};  // ends last
      static_cast<void>(will);
      pool.post([&] { ++ran; });
    }).join();
  }
  CHECK(ran == 101);
}

TEST_CASE("tasks in lanes and in the common queue do not keep each other waiting", "[lanes]") {
  alignas(cadre::detail::scheduler)
      std::byte nobody[sizeof(cadre::detail::scheduler)];  // the worker's home, never looked at
  cadre::detail::run_queues queues(1);
  queues.open_lanes(lanes_test::next_pool());
  auto& w = queues.add_worker(reinterpret_cast<cadre::detail::scheduler&>(nobody));
  const auto all = queued_items::make(400);
  const auto push = [&](std::size_t from, std::size_t to) {
    while (from < to) queues.push(nullptr, &all[from++]);
  };
  std::thread([&] {
    push(0, 200);
    std::thread([&] { push(200, 300); }).join();
  }).join();
  for (std::size_t i = 300; i < 400; ++i) queues.push(&all[i], cadre::priority::normal);
  std::vector<std::size_t> order;
  const auto run = [&](const cadre::detail::task* t) { order.push_back(queued_items::number_of(t)); };
  while (const cadre::detail::task* t = queues.take_from_outside(w)) {
    run(t);
    while (const cadre::detail::task* next = queues.pop(w)) run(next);
  }
  REQUIRE(order.size() == 400);
  for (const std::size_t source : {0u, 200u, 300u}) {
    const std::size_t end = source == 0 ? 200 : source + 100;
    std::size_t next = source;
    for (std::size_t i = 0; i < order.size(); ++i)
      if (order[i] >= source && order[i] < end) {
        CHECK(order[i] == next);
        if (next++ == source) CHECK(i < 100);
      }
  }
}
