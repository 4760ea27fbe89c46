#include "catch.hpp"
#include "queued_items.hpp"

#include <cadre/async/detail/inbox.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

TEST_CASE("an inbox gives its tasks in the order in which they came", "[inbox]") {
  cadre::detail::inbox in;
  const auto all = queued_items::make(10);
  CHECK(in.empty());
  for (std::size_t i = 0; i < 10; ++i) {
    in.push(&all[i]);
    CHECK_FALSE(in.empty());
  }
  cadre::detail::task* out[16] = {};
  REQUIRE(in.take(out, 3) == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(queued_items::number_of(out[i]) == i);
  CHECK_FALSE(in.empty());
  REQUIRE(in.take(out, 16) == 7);
  for (std::size_t i = 0; i < 7; ++i) CHECK(queued_items::number_of(out[i]) == 3 + i);
  CHECK(in.empty());
  CHECK(in.take(out, 16) == 0);
}

TEST_CASE("an inbox that has been emptied goes on", "[inbox]") {
  cadre::detail::inbox in;
  const auto all = queued_items::make(2);
  cadre::detail::task* out[2] = {};
  for (int round = 0; round < 3; ++round) {
    in.push(&all[0]);
    REQUIRE(in.take(out, 1) == 1);
    CHECK(in.empty());
    in.push(&all[1]);
    in.push(&all[0]);
    REQUIRE(in.take(out, 2) == 2);
    CHECK(out[0] == &all[1]);
    CHECK(out[1] == &all[0]);
    CHECK(in.empty());
  }
}

TEST_CASE("every task of an inbox is taken once, those of one producer in their order", "[inbox]") {
  constexpr std::size_t producers = 3, takers = 2, each = 20'000;
  cadre::detail::inbox in;
  const auto all = queued_items::make(producers * each);
  std::atomic<std::size_t> taken{0};
  std::vector<std::size_t> order[takers];
  {
    std::vector<std::jthread> threads;
    for (std::size_t p = 0; p < producers; ++p)
      threads.emplace_back([&, p] {
        for (std::size_t i = 0; i < each; ++i) in.push(&all[p * each + i]);
      });
    for (auto& mine : order)
      threads.emplace_back([&] {
        cadre::detail::task* out[5];
        while (taken.load() < producers * each) {
          const std::size_t n = in.take(out, 1 + mine.size() % 5);
          for (std::size_t i = 0; i < n; ++i) mine.push_back(queued_items::number_of(out[i]));
          taken += n;
          if (n == 0) std::this_thread::yield();
        }
      });
  }
  CHECK(in.empty());
  std::vector<int> seen(producers * each);
  std::size_t out_of_order = 0;
  for (const auto& mine : order) {
    std::size_t next[producers] = {};
    for (const std::size_t n : mine) {
      ++seen[n];
      out_of_order += n < next[n / each];
      next[n / each] = n;
    }
  }
  CHECK(out_of_order == 0);
  std::size_t wrong = 0;
  for (const int s : seen) wrong += s != 1;
  CHECK(wrong == 0);
}
