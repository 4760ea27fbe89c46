#include "catch.hpp"

#include <cadre/async/detail/deque.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace deque_test {
using deque = cadre::detail::work_deque<int>;
}

TEST_CASE("a deque gives its owner the newest item and a thief the oldest", "[deque]") {
  deque_test::deque d;
  int items[3] = {};
  CHECK(d.empty());
  CHECK(d.pop() == nullptr);
  CHECK(d.steal() == nullptr);
  for (int& i : items) CHECK(d.push(&i));
  CHECK(d.steal() == &items[0]);
  CHECK(d.pop() == &items[2]);
  CHECK(d.pop() == &items[1]);
  CHECK(d.pop() == nullptr);
  CHECK(d.empty());
}

TEST_CASE("a deque grows and keeps its order", "[deque]") {
  deque_test::deque d;
  std::vector<int> items(10'000);
  for (std::size_t i = 0; i < 40; ++i) CHECK(d.push(&items[i]));
  for (std::size_t i = 0; i < 40; ++i) CHECK(d.steal() == &items[i]);  // so that the ring wraps when it grows
  for (int& i : items) REQUIRE(d.push(&i));
  for (std::size_t i = 0; i < 5000; ++i) REQUIRE(d.steal() == &items[i]);
  for (std::size_t i = items.size(); i-- > 5000;) REQUIRE(d.pop() == &items[i]);
  CHECK(d.empty());
}

TEST_CASE("a thief may ask only for what was pushed after a position", "[deque]") {
  deque_test::deque d;
  int items[2] = {};
  CHECK(d.push(&items[0]));
  const std::int64_t after_first = d.position();
  CHECK(d.push(&items[1]));
  CHECK(d.steal(after_first) == nullptr);
  CHECK(d.steal(after_first + (std::int64_t{1} << 32)) == nullptr);  // a task notes the low 32 bits only
  CHECK(d.steal(after_first - 1) == &items[0]);
  CHECK(d.steal(after_first) == &items[1]);
}

TEST_CASE("every item of a deque goes to exactly one of its owner and its thieves", "[deque]") {
  constexpr int n = 50'000;
  deque_test::deque d;
  std::vector<int> items(n);
  const auto taken = std::make_unique<std::atomic<int>[]>(n);
  std::atomic<bool> end{false};
  const auto take = [&](int* item) {
    if (item) taken[static_cast<std::size_t>(item - items.data())].fetch_add(1);
  };
  {
    std::vector<std::jthread> thieves;
    for (int t = 0; t < 3; ++t)
      thieves.emplace_back([&] {
        while (!end.load() || !d.empty()) take(d.steal());
      });
    std::uint32_t random = 1;
    for (int i = 0; i < n; ++i) {
      REQUIRE(d.push(&items[static_cast<std::size_t>(i)]));
      random = random * 1664525u + 1013904223u;
      if (random >> 30 != 0) take(d.pop());  // short most of the time, where owner and thieves meet
    }
    while (!d.empty()) take(d.pop());
    end = true;
  }
  int wrong = 0;
  for (int i = 0; i < n; ++i) wrong += taken[static_cast<std::size_t>(i)].load() != 1;
  CHECK(wrong == 0);
}
