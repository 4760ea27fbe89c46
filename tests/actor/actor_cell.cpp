#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/async/detail/wait_graph.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/async/this_task.hpp>
#include <cadre/async/wait.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <thread>
#include <vector>

namespace actor_cell_test {

using namespace std::chrono_literals;

/// True, unless it takes ten seconds: so that what would hang for ever fails instead.
template <class Condition>
bool eventually(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (!condition() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(100us);
  return condition();
}
/// Of tasks: the test's own thread may sleep at any time.
std::size_t sleeping_waits() {
  std::size_t n = 0;
  cadre::detail::sleeping_wait::for_each([&n](const cadre::detail::sleeping_wait& w) { n += w.top() != nullptr; });
  return n;
}

std::atomic<int> entered{0}, open{0};
void reset() { entered = open = 0; }
void pass() {
  ++entered;
  static_cast<void>(eventually([] { return open != 0 || cadre::this_task::stop_requested(); }));
}

struct cell {
  int n = 0;
  int count() { return ++n; }
  void block() { pass(); }
  void wait_for_a_task(cadre::actor<cell> self) {
    auto other =
        cadre::this_task::runtime().submit<[](cadre::actor<cell> a) { return a.call<&cell::count>().get(); }>(self);
    CHECK(eventually([] { return sleeping_waits() == 1; }));
    other.get();
  }
};

struct farewell {
  cadre::actor<cell> to;
  std::atomic<int>* heard = nullptr;
  static inline std::atomic<int> said{0};
  void greet(cadre::actor<cell> a) { to = a; }
  ~farewell() {
    if (!to) return;
    try {
      to.call<&cell::count>().get();
    } catch (const cadre::actor_died&) {}  // it has ended before this one
    ++said;
  }
};

TEST_CASE("An actor lives though the task that made it is cancelled before the constructor has run", "[actor]") {
  job rt({.threads = 1});
  reset();
  static cadre::actor<cell> made;
  auto maker = rt->submit<[] {
    made = cadre::this_task::runtime().actor<cell>();
    pass();
  }>();
  CHECK(eventually([] { return entered == 1; }));
  maker.cancel();
  maker.wait();
  CHECK(made.call<&cell::count>().get() == 1);
}

TEST_CASE("A wait with a time limit, on a thread of no pool, runs no calls that could outlast it", "[actor]") {
  job rt({.threads = 1});
  reset();
  auto blocks = rt->submit<&pass>();
  CHECK(eventually([] { return entered == 1; }));
  const auto c = rt->actor<cell>();
  auto call = c.call<&cell::block>();
  CHECK_FALSE(call.wait_for(10ms));
  CHECK(entered == 1);
  open = 1;
  call.get();
}

TEST_CASE("A wait for one of several, on a thread of no pool, runs no call that the others need not wait for",
          "[actor]") {
  job rt({.threads = 1});
  reset();
  auto blocks = rt->submit<&pass>();
  CHECK(eventually([] { return entered == 1; }));
  std::vector<cadre::future<void>> either;
  either.push_back(rt->actor<cell>().call<&cell::block>());
  cadre::promise<void> other;
  either.push_back(other.get_future());
  std::thread keeps([&] {
    std::this_thread::sleep_for(20ms);
    other.set_value();
  });
  CHECK(cadre::wait(either, 1).ready == std::vector<std::size_t>{1});
  CHECK(entered == 1);
  keeps.join();
  open = 1;
  either[0].get();
}

TEST_CASE("A wait with a time limit begins none of the calls before its own once the time is over", "[actor]") {
  job rt({.threads = 1});
  static std::atomic<int> slow{0};
  slow = 0;
  struct sleepy {
    void nap() {
      std::this_thread::sleep_for(10ms);
      ++slow;
    }
  };
  rt->submit<[] {
      const auto s = cadre::this_task::runtime().actor<sleepy>();
      std::vector<cadre::future<void>> calls;
      for (int i = 0; i < 100; ++i) calls.push_back(s.call<&sleepy::nap>());
      CHECK_FALSE(calls.back().wait_for(20ms));
      CHECK(slow < 50);
      s.kill();
    }>()
      .get();
}

TEST_CASE("The only thread of a pool waits for calls of several actors at once", "[actor]") {
  job rt({.threads = 1});
  reset();
  auto blocks = rt->submit<&pass>();
  CHECK(eventually([] { return entered == 1; }));
  static std::vector<cadre::future<int>> calls;
  calls.clear();
  auto waits = rt->submit<[] { return cadre::wait(calls, calls.size(), 5s).ready.size(); }>();
  for (int k = 0; k < 3; ++k) calls.push_back(rt->actor<cell>().call<&cell::count>());
  open = 1;
  CHECK(waits.get() == 3);
}

TEST_CASE("A thread that sleeps until an actor comes to its call goes on with what another has left", "[actor]") {
  job rt({.threads = 1});
  reset();
  static std::atomic<bool> released{false};
  released = false;
  auto blocks = rt->submit<[] { static_cast<void>(eventually([] { return released.load(); })); }>();
  const auto c = rt->actor<cell>();
  auto first = c.call<&cell::block>();
  std::thread runs_first([&] { first.get(); });
  CHECK(eventually([] { return entered == 1; }));
  static cadre::future<int> second;
  second = c.call<&cell::count>();
  auto waits = rt->submit<[] { return second.get(); }>();
  released = true;
  CHECK(eventually([] { return sleeping_waits() == 1; }));
  open = 1;
  CHECK(waits.wait_for(5s));
  runs_first.join();
  if (!waits.ready()) std::quick_exit(1);  // it never will be
}

TEST_CASE("The only thread of a pool waits for a call of an actor that runs several at once", "[actor]") {
  job rt({.threads = 1});
  reset();
  const auto c = rt->actor<cell>({.max_concurrency = 2});
  c.call<&cell::count>().get();
  auto blocks = rt->submit<&pass>();
  CHECK(eventually([] { return entered == 1; }));
  auto waits = rt->submit<[](cadre::actor<cell> a) { return a.call<&cell::count>().wait_for(5s); }>(c);
  auto one = c.call<&cell::count>(), two = c.call<&cell::count>();
  open = 1;
  CHECK(waits.get());
}

TEST_CASE("A circle of a call and a task is an error, whichever sleeps first", "[actor]") {
  job rt({.threads = 2});
  const auto c = rt->actor<cell>();
  auto call = c.call<&cell::wait_for_a_task>(c);
  const bool over = call.wait_for(5s);
  CHECK(over);
  if (!over) std::quick_exit(1);
  CHECK_THROWS_AS(call.get(), cadre::wait_cycle);
}

TEST_CASE("The destructor of an actor's object may call others, even when the runtime ends", "[actor]") {
  farewell::said = 0;
  for (const bool killed : {true, false}) {
    job rt({.threads = 1});
    const auto f = rt->actor<farewell>();
    f.call<&farewell::greet>(rt->actor<cell>()).get();
    if (killed) f.kill();
  }
  CHECK(farewell::said == 2);
}

TEST_CASE(".max_pending_calls counts calls: not the constructor, and a stop is not refused", "[actor]") {
  job rt({.threads = 1});
  reset();
  auto blocks = rt->submit<&pass>();
  CHECK(eventually([] { return entered == 1; }));
  const auto c = rt->actor<cell>({.max_pending_calls = 1});
  auto first = c.call<&cell::count>();
  CHECK_THROWS_AS(c.call<&cell::count>(), cadre::too_many_calls);
  auto end = c.stop();
  open = 1;
  CHECK(first.get() == 1);
  end.get();
}

TEST_CASE("An actor that has ended can be stopped once more, whoever has its place", "[actor]") {
  job rt({.threads = 1});
  const auto c = rt->actor<cell>();
  c.stop().get();
  c.stop().get();
  std::vector<cadre::actor<cell>> others;
  for (int k = 0; k < 100; ++k) others.push_back(rt->actor<cell>());
  c.stop().get();
  CHECK(others[0].call<&cell::count>().get() == 1);
}

TEST_CASE("A runtime that ends waits for the calls that another thread runs", "[actor]") {
  for (int round = 0; round < 200; ++round) {
    cadre::future<int> call;
    std::thread waits;
    {
      cadre::runtime rt({.threads = 1});
      const auto c = rt.actor<cell>();
      for (int k = 0; k < 20; ++k) c.tell<&cell::count>();
      call = c.call<&cell::count>();
      waits = std::thread([&] { CHECK(call.get() == 21); });
    }
    waits.join();
  }
}

}  // namespace actor_cell_test
