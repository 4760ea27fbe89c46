#include "actor/coroutine.hpp"

#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/async/coroutine.hpp>
#include <cadre/async/this_task.hpp>

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace actor_coroutine_test {

static_assert(std::same_as<decltype(std::declval<cadre::actor<worker>>().call<&worker::add_later>(1)), one_future>);

TEST_CASE("A method that is a coroutine gives a future of what it returns, or throws", "[actor]") {
  job rt;
  const auto w = rt->actor<worker>();
  CHECK(w.call<&worker::add_soon>(3).get() == 3);
  CHECK(w.call<&worker::at_once>(7).get() == 7);
  CHECK_THROWS_AS(w.call<&worker::fail_later>().get(), std::out_of_range);
  CHECK_THROWS_WITH(w.call<&worker::fail_at_once>().get(), "not even a coroutine");
  reset();
  auto nothing = w.call<&worker::note_later>(1);
  door->open();
  nothing.get();
  CHECK(w.call<&worker::order>().get() == std::vector<int>{1, -1});
}

TEST_CASE("An actor runs other calls while a coroutine of it waits", "[actor]") {
  for (const std::size_t threads : {1u, 3u}) {
    job rt({.threads = threads});
    reset();
    const auto w = rt->actor<worker>();
    auto later = w.call<&worker::add_later>(100);
    CHECK(w.call<&worker::add>(1).get() == 1);
    CHECK(w.call<&worker::add>(1).get() == 2);
    CHECK_FALSE(later.ready());
    door->open();
    CHECK(later.get() == 102);
  }
}

TEST_CASE("Calls begin in their order, whichever of them are coroutines that wait", "[actor]") {
  for (const std::size_t threads : {1u, 3u}) {
    job rt({.threads = threads});
    reset();
    const auto w = rt->actor<worker>();
    std::vector<cadre::future<void>> all;
    std::vector<int> expected;
    for (int k = 1; k <= 50; ++k) {
      all.push_back(k % 2 == 0 ? w.call<&worker::note>(k) : w.call<&worker::note_later>(k));
      expected.push_back(k);
    }
    CHECK(w.call<&worker::order>().get() == expected);
    door->open();
    for (auto& f : all) f.get();
    CHECK(w.call<&worker::order>().get().size() == 75);
  }
}

/// Its members have no lock.
class unlocked {
 public:
  int touch() {
    if (inside_.exchange(true)) ++collisions;
    const int n = ++n_;
    inside_ = false;
    return n;
  }
  cadre::future<int> touch_often(int times) {
    for (int k = 0; k < times; ++k) {
      touch();
      static_cast<void>(co_await soon(k));
    }
    co_return touch();
  }
  cadre::future<int> part(int k) {
    touch();
    static_cast<void>(co_await soon(k));
    co_return touch();
  }
  cadre::future<int> by_parts() {
    auto one = part(1), two = part(2);  // both under way
    static_cast<void>(co_await one);
    static_cast<void>(co_await two);
    co_await cadre::reschedule(cadre::this_task::runtime().pool());
    co_return touch();
  }
  int get() const { return n_; }
  static inline std::atomic<int> collisions{0};

 private:
  int n_ = 0;
  std::atomic<bool> inside_{false};
};

TEST_CASE("The members of an actor are touched by one thread at a time, by coroutines too", "[actor]") {
  for (const std::size_t threads : {1u, 4u}) {
    job rt({.threads = threads});
    unlocked::collisions = 0;
    const auto u = rt->actor<unlocked>();
    std::vector<cadre::future<int>> all;
    int expected = 0;
    for (int k = 0; k < 40; ++k) {
      all.push_back(u.call<&unlocked::touch_often>(10));
      all.push_back(u.call<&unlocked::touch>());
      all.push_back(u.call<&unlocked::by_parts>());
      expected += 11 + 1 + 5;
    }
    for (auto& f : all) f.get();
    CHECK(u.call<&unlocked::get>().get() == expected);
    CHECK(unlocked::collisions == 0);
  }
}

TEST_CASE("A coroutine goes on when the call that runs is over, and not before", "[actor]") {
  job rt({.threads = 3});
  reset();
  const auto w = rt->actor<worker>();
  auto later = w.call<&worker::add_later>(1);
  CHECK(eventually([] { return begun == 1; }));
  auto runs = w.call<&worker::block>();
  CHECK(eventually([] { return begun == 2; }));
  door->open();
  CHECK_FALSE(later.wait_for(20ms));
  ++ended;
  runs.get();
  CHECK(later.get() == 1);
}

TEST_CASE("Calls and the parts of coroutines take turns, so that neither starves", "[actor]") {
  struct busy {
    cadre::future<int> until_told() {
      int rounds = 0;
      while (!told) {
        co_await cadre::reschedule(cadre::this_task::runtime().pool());
        ++rounds;
      }
      co_return rounds;
    }
    void tell() { told = true; }
    void nothing() {}
    bool told = false;
  };
  job rt({.threads = 1});
  const auto b = rt->actor<busy>();
  std::vector<cadre::future<int>> loops;
  for (int k = 0; k < 10; ++k) loops.push_back(b.call<&busy::until_told>());
  for (int k = 0; k < 1000; ++k) b.tell<&busy::nothing>();
  b.call<&busy::tell>().get();
  for (auto& f : loops) CHECK(f.get() > 0);
}

TEST_CASE("this_task and this_actor work in a coroutine that has gone on", "[actor]") {
  job rt;
  reset();
  const auto w = rt->actor<worker>({.max_restarts = 1});
  w.kill(anew);
  auto where = w.call<&worker::on_rank>();
  door->open();
  CHECK(where.get() == 1);
}

TEST_CASE("Arguments live until the coroutine is over", "[actor]") {
  job rt;
  reset();
  const auto w = rt->actor<worker>();
  auto length = w.call<&worker::length>(std::string(100, 'a'), std::string(50, 'b'));
  auto sum = w.call<&worker::sum>(rt->put(std::vector<float>(1000, 0.5f)));
  CHECK(w.call<&worker::get>().get() == 0);
  door->open();
  CHECK(length.get() == 150);
  CHECK(sum.get() == 500);
}

TEST_CASE("A method may return a future that it has from elsewhere", "[actor]") {
  job rt;
  reset();
  const auto w = rt->actor<worker>();
  const auto other = rt->actor<worker>();
  CHECK(w.call<&worker::forward>(other).get() == 1);
  CHECK(w.call<&worker::forward>(w).get() == 1);
  auto promised = w.call<&worker::promised>();
  w.call<&worker::keep_promise>(4).get();
  CHECK(promised.get() == 4);
  CHECK_THROWS_AS(w.call<&worker::empty>().get(), cadre::empty_future);
}

TEST_CASE("What nobody asked a coroutine for goes where the errors of other methods go", "[actor]") {
  std::mutex mutex;
  std::vector<std::string> errors;
  {
    job rt({.threads = 2, .on_unobserved_error = [&](const cadre::unobserved_error& e) {
              const std::lock_guard lock(mutex);
              errors.emplace_back(e.task);
            }});
    const auto w = rt->actor<worker>();
    w.tell<&worker::fail_later>();
    w.tell<&worker::add_soon>(1);
    w.tell<&worker::fail_at_once>();
    w.stop().get();
  }
  REQUIRE(errors.size() == 2);
  for (const std::string& e : errors) CHECK_THAT(e, Contains("worker::fail_"));
}

TEST_CASE(".max_pending_calls counts coroutines until they are over", "[actor]") {
  job rt;
  reset();
  const auto w = rt->actor<worker>({.max_pending_calls = 2});
  auto one = w.call<&worker::add_later>(1), two = w.call<&worker::add_later>(1);
  CHECK(eventually([] { return begun == 2; }));
  CHECK_THROWS_AS(w.call<&worker::get>(), cadre::too_many_calls);
  door->open();
  one.get();
  two.get();
  CHECK(w.call<&worker::get>().get() == 2);
}

struct pong;
struct ping {
  cadre::future<int> play(cadre::actor<ping> self, cadre::actor<pong> other, int depth);
  int last() { return 1; }
};
struct pong {
  cadre::future<int> play(cadre::actor<ping> other, cadre::actor<pong> self, int depth) {
    if (depth == 0) co_return co_await other.call<&ping::last>();
    co_return 1 + co_await other.call<&ping::play>(other, self, depth - 1);
  }
};
cadre::future<int> ping::play(cadre::actor<ping> self, cadre::actor<pong> other, int depth) {
  co_return 1 + co_await other.call<&pong::play>(self, other, depth);
}

TEST_CASE("Actors whose coroutines await each other go on, on a pool of one thread as well", "[actor]") {
  for (const std::size_t threads : {1u, 2u}) {
    job rt({.threads = threads});
    const auto a = rt->actor<ping>();
    const auto b = rt->actor<pong>();
    for (const int depth : {0, 1, 100}) CHECK(a.call<&ping::play>(a, b, depth).get() == 2 * depth + 2);
    const auto w = rt->actor<worker>();
    CHECK(w.call<&worker::wait_for_itself>(w).get() == 2);
    CHECK(
        rt->submit<[](cadre::actor<ping> p, cadre::actor<pong> q) { return p.call<&ping::play>(p, q, 10).get(); }>(a, b)
            .get() == 22);
  }
}

TEST_CASE("A get() in a coroutine of what its actor can only come to later is a circle", "[actor]") {
  job rt({.threads = 2});
  const auto w = rt->actor<worker>();
  auto call = w.call<&worker::get_from_itself>(w);
  const bool over = call.wait_for(5s);
  CHECK(over);
  if (!over) std::quick_exit(1);
  CHECK_THROWS_AS(call.get(), cadre::wait_cycle);
}

/// One blocks until the coroutine of the other is over, which awaits a call of the first.
struct answers_later;
struct blocks {
  int answer() { return 1; }
  int ask(cadre::actor<blocks> self, cadre::actor<answers_later> other);
  int ask_slowly(cadre::actor<blocks> self, cadre::actor<answers_later> other);
};
struct answers_later {
  cadre::future<int> ask_back(cadre::actor<blocks> who) { co_return 1 + co_await who.call<&blocks::answer>(); }
  cadre::future<int> ask_further(cadre::actor<answers_later> other, cadre::actor<blocks> who) {
    co_return 1 + co_await other.call<&answers_later::ask_back>(who);
  }
};
int blocks::ask(cadre::actor<blocks> self, cadre::actor<answers_later> other) {
  return other.call<&answers_later::ask_back>(self).get();
}
int blocks::ask_slowly(cadre::actor<blocks> self, cadre::actor<answers_later> other) {
  auto answer = other.call<&answers_later::ask_further>(other, self);
  std::this_thread::sleep_for(20ms);  // it awaits before this one sleeps, or after
  return answer.get();
}

TEST_CASE("A circle of calls that a co_await is part of is an error, whoever closes it", "[actor]") {
  for (const std::size_t threads : {1u, 2u, 3u}) {
    job rt({.threads = threads});
    const auto a = rt->actor<blocks>();
    const auto b = rt->actor<answers_later>();
    CHECK(b.call<&answers_later::ask_back>(a).get() == 2);
    for (int round = 0; round < 20; ++round) {
      for (const bool slowly : {false, true}) {
        auto call = slowly ? a.call<&blocks::ask_slowly>(a, b) : a.call<&blocks::ask>(a, b);
        const bool over = call.wait_for(5s);
        CHECK(over);
        if (!over) std::quick_exit(1);
        CHECK_THROWS_WITH(call.get(), Catch::StartsWith("[cadre.async.208] this wait would never end: ") &&
                                          Catch::Contains("answers_later::ask_"));
      }
    }
    CHECK(b.call<&answers_later::ask_further>(b, a).get() == 3);  // both live on
  }
}

TEST_CASE("Who waits for a coroutine of an actor holds up no thread that it needs", "[actor]") {
  job rt({.threads = 1});
  for (int round = 0; round < 20; ++round) {
    const auto w = rt->actor<worker>();
    // The only thread of the pool waits, while this one may be what begins the coroutine.
    auto task = rt->submit<[](cadre::actor<worker> a) { return a.call<&worker::add_soon>(1).get(); }>(w);
    CHECK(w.call<&worker::add>(1).get() > 0);
    CHECK(task.wait_for(10s));
    if (!task.ready()) std::quick_exit(1);
    CHECK(task.get() > 0);
    CHECK(w.call<&worker::add_soon>(1).get() == 3);
    w.kill();
  }
}

TEST_CASE("An actor that runs several calls at once goes on with several coroutines at once", "[actor]") {
  struct meeting {
    cadre::future<bool> meet() {
      co_await door->opened();
      ++begun;
      co_return eventually([] { return begun == 2; });  // there is another one
    }
  };
  job rt({.threads = 3});
  reset();
  const auto m = rt->actor<meeting>({.max_concurrency = 2});
  auto one = m.call<&meeting::meet>(), two = m.call<&meeting::meet>();
  door->open();
  CHECK(one.get());
  CHECK(two.get());
  m.stop().get();
}

cadre::future<int> sum_of(std::vector<int> all) {
  int sum = 0;
  for (const int x : all) sum += co_await cadre::this_task::runtime().submit<[](int y) { return y; }>(x);
  co_return sum;
}

TEST_CASE("A method that is no coroutine may begin one and wait for it", "[actor]") {
  struct waits {
    int sum(std::vector<int> all) { return sum_of(std::move(all)).get(); }
  };
  job rt({.threads = 1});
  const auto w = rt->actor<waits>();
  CHECK(w.call<&waits::sum>(std::vector<int>{1, 2, 3}).get() == 6);
  auto inside = rt->pool().submit([&] { return w.call<&waits::sum>(std::vector<int>{4, 5}).get(); });
  CHECK(inside.get() == 9);
}

}  // namespace actor_coroutine_test
