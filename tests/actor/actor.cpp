#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/async/wait.hpp>

#include <cereal/types/map.hpp>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace actor_test {

using namespace std::chrono_literals;
using Catch::Matchers::StartsWith;

struct counter {
  counter() = default;
  explicit counter(int first) : n(first) {}
  int add(int k) { return n += k; }
  double add(double k) { return n += static_cast<int>(2 * k); }
  int at() { return n; }
  int at() const { return -n; }
  int get() const noexcept { return n; }
  void reset() { n = 0; }
  void fail() { throw std::out_of_range("no such count"); }
  int sum(int a, int b, int c) const { return a + b + c; }
  int n = 0;
};

/// Notes in which order, and on how many threads at once, its methods run.
class recorder {
 public:
  void note(int caller, int number) {
    const int others = inside_++;
    if (others > most_) most_ = others;
    order_.push_back({caller, number});
    --inside_;
  }
  [[nodiscard]] bool is_in_order(int callers) const {
    std::vector<int> next(static_cast<std::size_t>(callers));
    for (const auto& [caller, number] : order_)
      if (next[static_cast<std::size_t>(caller)]++ != number) return false;
    return true;
  }
  [[nodiscard]] int size() const { return static_cast<int>(order_.size()); }
  [[nodiscard]] int others_inside() const { return most_; }

 private:
  std::atomic<int> inside_{0};
  int most_ = 0;
  std::vector<std::pair<int, int>> order_;
};

struct shape {
  virtual ~shape() = default;
  virtual double area() const { return 0; }
  double twice() const { return 2 * area(); }
};
struct square : shape {
  explicit square(double s) : side(s) {}
  double area() const override { return side * side; }
  double side;
};

struct waiter {
  static inline cadre::shared_future<int> kept;
  int wait() { return kept.get(); }
  int pass(int n) { return n; }
};

class broken {
 public:
  explicit broken(const std::string& why) { throw std::runtime_error(why); }
  int get() const { return 1; }
};

/// A member is another actor.
class forwarder {
 public:
  explicit forwarder(cadre::actor<counter> to) : to_(to) {}
  int add(int k) { return to_.call<static_cast<int (counter::*)(int)>(&counter::add)>(k).get(); }
  [[nodiscard]] cadre::actor<counter> target() const { return to_; }

 private:
  cadre::actor<counter> to_;
};

/// Calls the other, which calls it back.
class caller {
 public:
  void know(cadre::actor<caller> other) { other_ = other; }
  int ask(int depth) { return depth == 0 ? 0 : 1 + other_.call<&caller::ask>(depth - 1).get(); }

 private:
  cadre::actor<caller> other_;
};

struct gate {
  static inline std::atomic<int> waiting{0}, open{0};
  static void reset() { waiting = open = 0; }
  int pass() {
    ++waiting;
    while (open == 0) std::this_thread::sleep_for(1ms);
    return ++n;
  }
  std::atomic<int> n{0};
};
void until(const std::atomic<int>& value, int wanted) {
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (value < wanted && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(100us);
  REQUIRE(value >= wanted);
}

struct counted {
  static inline std::atomic<int> alive{0};
  counted() { ++alive; }
  ~counted() { --alive; }
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  void touch() {}
};

struct table {
  std::map<std::string, double> all;
  void put(const std::string& key, double value) { all[key] = value; }
  std::map<std::string, double> get() const { return all; }
  std::size_t length(const std::string& text) { return text.size(); }
  std::unique_ptr<int> none;  // need not be copyable
};

struct reader {
  std::size_t length(std::string_view text) const { return text.size(); }
};

int add_in_task(cadre::actor<counter> c, int k) { return c.call<cadre::method<int(int)>(&counter::add)>(k).get(); }

TEST_CASE("A call runs a method of the actor's object and gives what it returns", "[actor]") {
  job rt;
  const auto c = rt->actor<counter>(10);
  CHECK(c.call<cadre::method<int(int)>(&counter::add)>(3).get() == 13);
  CHECK(c.call<cadre::method<double(double)>(&counter::add)>(0.5).get() == 14);
  CHECK(c.call<static_cast<int (counter::*)()>(&counter::at)>().get() == 14);
  CHECK(c.call<cadre::method<int() const>(&counter::at)>().get() == -14);
  CHECK(c.call<&counter::get>().get() == 14);
  CHECK(c.call<&counter::sum>(1, 2, 3).get() == 6);
  c.call<&counter::reset>().get();
  CHECK(c.call<&counter::get>().get() == 0);
}

TEST_CASE("Virtual methods, and those of a base, are called on the actor's own class", "[actor]") {
  job rt;
  const auto s = rt->actor<square>(3.0);
  CHECK(s.call<&shape::area>().get() == 9);
  CHECK(s.call<&square::area>().get() == 9);
  CHECK(s.call<&shape::twice>().get() == 18);
}

TEST_CASE("What a method throws reaches the caller with its type, and the actor lives on", "[actor]") {
  job rt;
  const auto c = rt->actor<counter>();
  auto failing = c.call<&counter::fail>();
  CHECK_THROWS_AS(failing.get(), std::out_of_range);
  CHECK_THROWS_WITH(c.call<&counter::fail>().get(), "no such count");
  CHECK(c.call<&counter::get>().get() == 0);
}

TEST_CASE("Arguments are converted where the call is made: text, containers, numbers", "[actor]") {
  job rt;
  const auto t = rt->actor<table>();
  t.call<&table::put>("a", 1).get();
  t.call<&table::put>(std::string("b"), 2.5f).get();
  CHECK(t.call<&table::get>().get() == std::map<std::string, double>{{"a", 1}, {"b", 2.5}});
  CHECK(t.call<&table::length>("four").get() == 4);
}

TEST_CASE("Futures, and the refs of objects, are waited for as arguments", "[actor]") {
  job rt;
  const auto c = rt->actor<counter>();
  auto three = rt->submit<[] { return 3; }>();
  CHECK(c.call<cadre::method<int(int)>(&counter::add)>(std::move(three)).get() == 3);
  const cadre::shared_future<int> four = rt->submit<[] { return 4; }>();
  CHECK(c.call<&counter::sum>(four, four, 1).get() == 9);
  const cadre::object_ref<std::string> text = rt->put(std::string("seven77"));
  CHECK(rt->actor<reader>().call<&reader::length>(text).get() == 7);
  auto failing = rt->submit<[]() -> int { throw std::out_of_range("not made"); }>();
  CHECK_THROWS_AS(c.call<cadre::method<int(int)>(&counter::add)>(std::move(failing)).get(), std::out_of_range);
}

TEST_CASE("Calls of one caller run in their order and one at a time, from many callers at once", "[actor]") {
  job rt({.threads = 3});
  const auto r = rt->actor<recorder>();
  constexpr int callers = 4, calls = 2000;
  std::vector<std::thread> threads;
  for (int k = 0; k < callers; ++k)
    threads.emplace_back([&r, k] {
      for (int i = 0; i < calls; ++i) {
        if (i % 3 == 0)
          r.call<&recorder::note>(k, i).get();
        else if (i % 3 == 1)
          r.tell<&recorder::note>(k, i);
        else
          static_cast<void>(r.call<&recorder::note>(k, i));
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(r.call<&recorder::is_in_order>(callers).get());
  CHECK(r.call<&recorder::size>().get() == callers * calls);
  CHECK(r.call<&recorder::others_inside>().get() == 0);
}

TEST_CASE("With .max_concurrency so many calls run at once, after the constructor", "[actor][one process]") {
  job rt({.threads = 4});
  gate::reset();
  const auto g = rt->actor<gate>({.max_concurrency = 3});
  std::vector<cadre::future<int>> calls;
  for (int k = 0; k < 5; ++k) calls.push_back(g.call<&gate::pass>());
  until(gate::waiting, 3);
  std::this_thread::sleep_for(20ms);
  CHECK(gate::waiting == 3);
  gate::open = 1;
  for (auto& f : calls) static_cast<void>(f.get());
  CHECK(gate::waiting == 5);
}

TEST_CASE("With .max_concurrency a call may wait for the task that waits for a later call", "[actor][one process]") {
  job rt({.threads = 1});
  cadre::promise<int> promise;
  waiter::kept = promise.get_future().share();
  const auto g = rt->actor<waiter>({.max_concurrency = 2});
  auto task = rt->pool().submit([&] {
    auto first = g.call<&waiter::wait>();
    promise.set_value(g.call<&waiter::pass>(7).get());
    return first.get();
  });
  REQUIRE(task.wait_for(30s));
  CHECK(task.get() == 7);
}

TEST_CASE("A task that has told an actor something may be waited for by a call of that actor", "[actor][one process]") {
  std::atomic<bool> told = false, called = false;
  cadre::promise<int> promise;
  auto kept = promise.get_future();
  job rt({.threads = 1});
  const auto a = rt->actor<waiter>();
  a.call<&waiter::pass>(1).get();
  waiter::kept = rt->pool()
                     .submit([&] {
                       a.tell<&waiter::pass>(1);
                       told = true;
                       while (!called) std::this_thread::yield();
                       return kept.get();
                     })
                     .share();
  while (!told) std::this_thread::yield();
  auto waits = a.call<&waiter::wait>();
  called = true;
  auto keeper = rt->pool().submit([&] { promise.set_value(3); });
  REQUIRE(waits.wait_for(30s));
  CHECK(waits.get() == 3);
  keeper.get();
}

TEST_CASE("Handles travel as arguments, results and members, and call their actor from anywhere", "[actor]") {
  job rt;
  const auto c = rt->actor<counter>();
  const auto f = rt->actor<forwarder>(c);
  CHECK(f.call<&forwarder::add>(5).get() == 5);
  CHECK(f.call<&forwarder::target>().get() == c);
  CHECK(rt->submit<&add_in_task>(c, 6).get() == 11);
  static_assert(sizeof(c) == 20);
}

TEST_CASE("A pool of one thread is enough for actors that wait for each other", "[actor]") {
  job rt({.threads = 1});
  const auto c = rt->actor<counter>();
  auto last = rt->actor<forwarder>(c);
  CHECK(rt->submit<[](cadre::actor<forwarder> f) { return f.call<&forwarder::add>(1).get(); }>(last).get() == 1);
  std::vector<cadre::future<int>> calls;
  for (int k = 0; k < 100; ++k) calls.push_back(last.call<&forwarder::add>(1));
  CHECK(cadre::get(calls).back() == 101);
}

TEST_CASE("Calls that go round in a circle are an error that names them", "[actor][one process]") {
  job rt;
  const auto a = rt->actor<caller>(), b = rt->actor<caller>();
  SECTION("to itself") {
    a.call<&caller::know>(a).get();
    CHECK(a.call<&caller::ask>(0).get() == 0);
    CHECK_THROWS_WITH(
        a.call<&caller::ask>(1).get(),
        StartsWith("[cadre.async.208] this wait would never end: 'actor_test::caller::ask' submitted at ") &&
            Catch::Contains(", which its actor can begin only after 'actor_test::caller::ask'"));
  }
  SECTION("of two, and of three") {
    const auto c = rt->actor<caller>();
    a.call<&caller::know>(b).get();
    b.call<&caller::know>(a).get();
    CHECK(a.call<&caller::ask>(1).get() == 1);
    CHECK_THROWS_AS(a.call<&caller::ask>(2).get(), cadre::wait_cycle);
    b.call<&caller::know>(c).get();
    c.call<&caller::know>(a).get();
    CHECK(a.call<&caller::ask>(2).get() == 2);
    CHECK_THROWS_AS(a.call<&caller::ask>(3).get(), cadre::wait_cycle);
  }
  CHECK(a.call<&caller::ask>(0).get() == 0);  // it lives on
}

TEST_CASE("A call that is cancelled before its turn does not run, and those behind it do", "[actor][one process]") {
  job rt;
  gate::reset();
  const auto g = rt->actor<gate>();
  auto first = g.call<&gate::pass>();
  until(gate::waiting, 1);
  auto second = g.call<&gate::pass>(), third = g.call<&gate::pass>();
  second.cancel();
  CHECK_THROWS_AS(second.get(), cadre::task_cancelled);
  gate::open = 1;
  CHECK(first.get() == 1);
  CHECK(third.get() == 2);
}

TEST_CASE("A wait for a call ends at its time though the actor is busy", "[actor][one process]") {
  job rt;
  gate::reset();
  const auto g = rt->actor<gate>();
  auto first = g.call<&gate::pass>();
  until(gate::waiting, 1);
  auto second = g.call<&gate::pass>();
  CHECK_FALSE(second.wait_for(20ms));
  gate::open = 1;
  CHECK(second.get() == 2);
}

TEST_CASE("An actor whose constructor throws says so to all who call it", "[actor]") {
  job rt;
  const auto b = rt->actor<broken>("out of bricks");
  for (int again = 0; again < 2; ++again)
    CHECK_THROWS_WITH(
        b.call<&broken::get>().get(),
        "[cadre.actor.601] the actor 'actor_test::broken' cannot be called: its constructor threw: out of "
        "bricks; make another one, or ask find_actor() for its successor");
}

TEST_CASE("A stopped actor has run what was called before; a killed one only what it was at", "[actor][one process]") {
  job rt;
  gate::reset();
  SECTION("stopped") {
    const auto g = rt->actor<gate>();
    auto before = g.call<&gate::pass>();
    auto end = g.stop();
    auto after = g.call<&gate::pass>();
    gate::open = 1;
    end.get();
    CHECK(before.get() == 1);
    CHECK_THROWS_WITH(after.get(), Catch::Contains("it was stopped"));
    CHECK_THROWS_AS(g.call<&gate::pass>().get(), cadre::actor_died);
    CHECK_FALSE(g.kill());
  }
  SECTION("killed") {
    const auto g = rt->actor<gate>();
    auto running = g.call<&gate::pass>();
    until(gate::waiting, 1);
    auto waiting = g.call<&gate::pass>();
    CHECK(g.kill());
    gate::open = 1;
    CHECK(running.get() == 1);
    CHECK_THROWS_WITH(waiting.get(), Catch::Contains("it was killed"));
    CHECK_FALSE(g.kill());
  }
}

TEST_CASE("An actor's object ends with it, once its last call is over", "[actor][one process]") {
  counted::alive = 0;
  {
    job rt;
    const auto a = rt->actor<counted>(), b = rt->actor<counted>();
    a.call<&counted::touch>().get();
    b.call<&counted::touch>().get();
    CHECK(counted::alive == 2);
    a.stop().get();
    b.kill();
    until(counted::alive, 0);
    const auto c = rt->actor<counted>();
    c.call<&counted::touch>().get();
    if (job::spanning != nullptr) c.stop().get();
  }
  CHECK(counted::alive == 0);
}

TEST_CASE("A handle of an actor that has gone never reaches its successor", "[actor]") {
  job rt;
  std::vector<cadre::actor<counter>> gone;
  for (int k = 0; k < 200; ++k) {
    const auto c = rt->actor<counter>(k);
    CHECK(c.call<&counter::get>().get() == k);
    c.stop().get();
    gone.push_back(c);
  }
  const auto lives = rt->actor<counter>(-1);
  for (const auto& c : gone) {
    CHECK(c != lives);
    CHECK_THROWS_AS(c.call<&counter::get>().get(), cadre::actor_died);
    CHECK_FALSE(c.kill());
  }
  CHECK(lives.call<&counter::get>().get() == -1);
}

TEST_CASE("Actors are found by their names, in their namespaces, as what they are", "[actor]") {
  job rt;
  const auto c = rt->actor<counter>({.name = "the counter"}, 5);
  CHECK(rt->find_actor<counter>("the counter") == c);
  CHECK_THROWS_WITH(
      rt->find_actor<counter>("another"),
      "[cadre.actor.602] there is no actor 'another'; those with names are 'the counter'. Make it before it "
      "is looked for, or make it by .get_or_create = true wherever it is wanted");
  CHECK_THROWS_WITH(
      rt->find_actor<square>("the counter"),
      "[cadre.actor.604] the actor 'the counter' is a actor_test::counter, not a actor_test::square; ask for "
      "it as what it is");
  CHECK_THROWS_WITH(rt->actor<counter>({.name = "the counter"}),
                    "[cadre.actor.603] an actor 'the counter' lives already; look for it by find_actor(), say "
                    ".get_or_create = true, or stop it first");
  const auto mine = rt->actor<counter>({.name = "the counter", .name_space = "mine"}, 6);
  CHECK(rt->find_actor<counter>("the counter", "mine").call<&counter::get>().get() == 6);
  CHECK(rt->actor<counter>({.name = "the counter", .get_or_create = true}, 7) == c);
  CHECK_THROWS_AS(rt->actor<square>({.name = "the counter", .get_or_create = true}, 7.0), cadre::wrong_actor_type);
  c.stop().get();
  CHECK_THROWS_AS(rt->find_actor<counter>("the counter"), cadre::no_such_actor);
  CHECK(rt->actor<counter>({.name = "the counter"}, 8).call<&counter::get>().get() == 8);
  rt->find_actor<counter>("the counter").kill();
  mine.kill();
}

TEST_CASE("Of many who get or create an actor at once one makes it, and all have the same", "[actor]") {
  job rt;
  for (int round = 0; round < 50; ++round) {
    std::vector<cadre::actor<counter>> found(4);
    std::vector<std::thread> threads;
    for (std::size_t k = 0; k < 4; ++k)
      threads.emplace_back([&, k] {
        found[k] = rt->actor<counter>({.name = "shared", .get_or_create = true}, 100);
        found[k].call<cadre::method<int(int)>(&counter::add)>(1).get();
      });
    for (std::thread& t : threads) t.join();
    for (const auto& c : found) CHECK(c == found[0]);
    CHECK(found[0].call<&counter::get>().get() == 104);
    found[0].stop().get();
  }
}

TEST_CASE("An actor with .max_pending_calls refuses one more, and goes on", "[actor][one process]") {
  job rt;
  gate::reset();
  const auto g = rt->actor<gate>({.name = "narrow", .max_pending_calls = 2});
  auto running = g.call<&gate::pass>();
  until(gate::waiting, 1);
  auto a = g.call<&gate::pass>(), b = g.call<&gate::pass>();
  CHECK_THROWS_WITH(
      g.call<&gate::pass>(),
      "[cadre.actor.605] the actor 'narrow' has 2 calls waiting, as many as its .max_pending_calls; wait for "
      "some of their futures first");
  gate::open = 1;
  CHECK(b.get() == 3);
  CHECK(g.call<&gate::pass>().get() == 4);
  g.kill();
}

TEST_CASE("What a method throws that was told, not called, goes to the handler of the runtime", "[actor]") {
  std::atomic<int> seen{0};
  std::string task;
  cadre::runtime rt({.threads = 1, .on_unobserved_error = [&](const cadre::unobserved_error& e) {
                       task = e.task;
                       CHECK_THROWS_AS(std::rethrow_exception(e.error), std::out_of_range);
                       ++seen;
                     }});
  rt.actor<counter>().tell<&counter::fail>();
  until(seen, 1);
  CHECK(task == "actor_test::counter::fail");
}

TEST_CASE("Handles that refer to no actor, or to one of a runtime that has ended, say so", "[actor]") {
  cadre::actor<counter> c;
  CHECK_FALSE(c);
  CHECK_THROWS_WITH(
      c.call<&counter::get>(),
      "[cadre.actor.606] this handle refers to no actor; keep what runtime::actor() or find_actor() returned");
  {
    cadre::runtime rt({.threads = 1});
    c = rt.actor<counter>();
  }
  CHECK(c);
  CHECK_THROWS_WITH(c.call<&counter::get>(),
                    "[cadre.actor.606] the runtime of this actor has ended; call it while that lives");
  cadre::runtime another({.threads = 1});
  CHECK_THROWS_AS(c.tell<&counter::reset>(), cadre::empty_actor);
}

TEST_CASE("The end of a runtime runs what was called before", "[actor]") {
  std::vector<cadre::future<int>> calls;
  {
    cadre::runtime rt({.threads = 2});
    const auto c = rt.actor<counter>();
    for (int k = 0; k < 1000; ++k) calls.push_back(c.call<cadre::method<int(int)>(&counter::add)>(1));
  }
  for (int k = 0; k < 1000; ++k) CHECK(calls[static_cast<std::size_t>(k)].get() == k + 1);
}

TEST_CASE("Ten thousand actors live side by side", "[actor]") {
  job rt;
  std::vector<cadre::actor<counter>> all;
  std::vector<cadre::future<int>> calls;
  for (int k = 0; k < 10'000; ++k) all.push_back(rt->actor<counter>(k));
  for (const auto& c : all) calls.push_back(c.call<&counter::get>());
  for (int k = 0; k < 10'000; ++k) REQUIRE(calls[static_cast<std::size_t>(k)].get() == k);
  for (const auto& c : all) c.kill();
}

}  // namespace actor_test
