#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/store/object_promise.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace runtime_core_test {

using namespace std::chrono_literals;

int plus_one(const int& x) { return x + 1; }
std::atomic<int> open{0};
std::vector<float> made_when_open(int n) {
  while (open < n) std::this_thread::sleep_for(100us);
  return std::vector<float>(static_cast<std::size_t>(n));
}
int below_ninety(int n) {
  if (n == 0) std::this_thread::sleep_for(1ms);  // the last to end
  return n < 90 ? n : throw std::out_of_range("too much");
}

TEST_CASE("The only thread of a pool gets an object that another of its tasks makes by a promise",
          "[runtime][one process]") {
  job rt({.threads = 1});
  REQUIRE(rt->submit<[] {
              cadre::runtime& inner = cadre::this_task::runtime();
              auto p = inner.store().promise<int>();
              const auto ref = p.ref();
              inner.pool().post([q = std::move(p)]() mutable { std::move(q).set(5); });
              const auto view = inner.get(ref, 10s);
              return *view;
            }>()
              .get() == 5);
  auto p = rt->store().promise<int>();
  auto shown = rt->submit<&plus_one>(p.ref());
  rt->pool().post([q = std::move(p)]() mutable { std::move(q).set(6); });
  CHECK(shown.get() == 7);
}

TEST_CASE("wait() of objects that tasks and others make waits for as many as are asked for", "[runtime][one process]") {
  job rt;
  open = 0;
  auto p = rt->store().promise<std::vector<float>>();
  const std::vector refs{p.ref(), rt->submit_ref<&made_when_open>(1)};
  CHECK(rt->wait(refs, 1, 5ms).ready.empty());
  std::thread other([&] {
    std::this_thread::sleep_for(20ms);  // so that wait() has begun, where it can
    std::move(p).set(std::vector<float>(4));
  });
  CHECK(rt->wait(refs, 1).ready == std::vector<std::size_t>{0});
  other.join();
  open = 1;
  CHECK(rt->wait(refs, 2).ready.size() == 2);
}

TEST_CASE("wait() counts an object once, though its task ends while it looks", "[runtime][one process]") {
  job rt;
  for (int round = 0; round < 100; ++round) {
    std::vector<cadre::object_ref<int>> refs;
    for (int k = 0; k < 100; ++k) refs.push_back(rt->submit_ref<&below_ninety>(k));
    REQUIRE(rt->wait(refs, refs.size()).ready.size() == refs.size());
  }
}

}  // namespace runtime_core_test
