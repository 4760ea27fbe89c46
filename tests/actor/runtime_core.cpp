#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/store/object_promise.hpp>

#include <cereal/types/memory.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace runtime_core_test {

using namespace std::chrono_literals;

std::size_t size_and(std::span<const float> v, int more) { return v.size() + static_cast<std::size_t>(more); }
int twice(int x) { return 2 * x; }
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

struct answers {
  int six() { return 6; }
};
struct calls_at_its_end {
  calls_at_its_end() = default;
  calls_at_its_end(const calls_at_its_end&) = delete;
  calls_at_its_end& operator=(const calls_at_its_end&) = delete;
  ~calls_at_its_end() {
    try {
      other.call<&calls_at_its_end::ask_for_runtime>().get();
    } catch (const cadre::actor_died&) {  // that has gone before: of two that call each other one is the first
    }
  }
  void take(cadre::actor<calls_at_its_end> a) { other = a; }
  void ask_for_runtime() {
    try {
      static_cast<void>(cadre::this_task::runtime());
    } catch (const cadre::no_runtime&) {
      ++open;
    }
  }
  cadre::actor<calls_at_its_end> other;
};

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

TEST_CASE("A task that is tried again has the error of what it depends on each time", "[runtime]") {
  job rt;
  cadre::promise<int> p;
  auto depends = rt->submit<&twice>({.max_retries = 2, .retry_on = cadre::errors<std::out_of_range, cadre::error>()},
                                    p.get_future());
  p.set_error(std::make_exception_ptr(std::out_of_range("not made")));
  CHECK_THROWS_AS(depends.get(), std::out_of_range);
}

TEST_CASE("A task that is tried again has its arguments as they were", "[runtime][one process]") {
  job rt;
  open = 0;
  const cadre::remote_options twice_more{.max_retries = 2, .retry_on = cadre::errors<std::runtime_error>()};
  auto text = rt->submit<[](std::string s) {
    if (++open < 3) throw std::runtime_error("again");
    return s;
  }>(twice_more, rt->submit<[] { return std::string("a text that is not kept in place"); }>());
  CHECK(text.get() == "a text that is not kept in place");
  open = 0;
  auto owned = rt->submit<[](std::unique_ptr<int> n) {
    const std::unique_ptr<int> taken = std::move(n);
    if (++open < 3) throw std::runtime_error("again");
    return taken == nullptr ? 0 : *taken;
  }>(twice_more, std::make_unique<int>(7));
  CHECK(owned.get() == 7);
}

TEST_CASE("A result that the store had no room for is tried again", "[runtime]") {
  cadre::runtime rt({.threads = 1, .store = {.capacity = 4 << 20}});
  open = 0;
  const auto large = rt.submit_ref<[](std::string s) {
    s.resize(++open < 3 ? 64 << 20 : s.size(), 'x');
    return s;
  }>({.max_retries = 2, .retry_on = cadre::errors<cadre::store_full>()}, std::string("small"));
  const auto view = rt.get(large, 10s);
  CHECK(*view == "small");
  CHECK(open == 3);
}

TEST_CASE("A result that the store never has room for says so", "[runtime]") {
  cadre::runtime rt({.threads = 1, .store = {.capacity = 4 << 20}});
  open = 0;
  const auto large =
      rt.submit_ref<&made_when_open>({.max_retries = 1, .retry_on = cadre::errors<cadre::store_full>()}, 16 << 20);
  open = 16 << 20;
  CHECK_THROWS_AS(rt.get(large, 10s), cadre::store_full);
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

TEST_CASE("A task that depends on what comes after its runtime runs then", "[runtime]") {
  cadre::promise<int> late, later;
  cadre::future<std::size_t> sum;
  cadre::object_ref<int> made;
  std::optional<cadre::object_store> store;
  {
    cadre::runtime rt({.threads = 1});
    sum = rt.submit<&size_and>(rt.put(std::vector<float>(7)), late.get_future());
    store = rt.store();
    made = rt.submit_ref<&twice>(later.get_future());
  }
  late.set_value(1);
  later.set_value(2);
  CHECK(sum.get() == 8);
  const auto view = store->get(made, 10s);
  CHECK(*view == 4);
}

TEST_CASE("A task finds its runtime, and a handle the end of its own, while others begin and end", "[runtime]") {
  cadre::runtime rt({.threads = 1});
  cadre::actor<answers> gone;
  {
    cadre::runtime ended({.threads = 1});
    gone = ended.actor<answers>();
  }
  std::atomic<bool> over{false};
  std::thread others([&] {
    for (int k = 0; k < 100; ++k) cadre::runtime another({.threads = 1});
    over = true;
  });
  while (!over) {
    CHECK(rt.submit<[] { return cadre::this_task::runtime().rank(); }>().get() == 0);
    CHECK_THROWS_AS(gone.call<&answers::six>(), cadre::empty_actor);
  }
  others.join();
}

TEST_CASE("What runs behind the end of its runtime's threads has no runtime to ask", "[runtime]") {
  open = 0;
  {
    cadre::runtime rt({.threads = 1});
    const auto one = rt.actor<calls_at_its_end>(), other = rt.actor<calls_at_its_end>();
    one.call<&calls_at_its_end::take>(other).get();
    other.call<&calls_at_its_end::take>(one).get();
  }
  CHECK(open == 1);
}

}  // namespace runtime_core_test
