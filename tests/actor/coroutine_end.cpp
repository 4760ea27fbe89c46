#include "actor/coroutine.hpp"
#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/async/coroutine.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/async/this_task.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace actor_coroutine_test {

TEST_CASE("A stop waits for the coroutines that were called before", "[actor]") {
  job rt({.threads = 1});
  reset();
  const auto w = rt->actor<worker>();
  auto later = w.call<&worker::add_later>(1);
  auto stop = w.stop(), again = w.stop();
  auto after = w.call<&worker::add>(1);
  CHECK_THROWS_WITH(after.get(), Contains("it was stopped"));
  CHECK_FALSE(stop.wait_for(10ms));
  CHECK_FALSE(later.ready());
  door->open();
  CHECK(later.get() == 1);
  stop.get();
  again.get();
  CHECK_THROWS_AS(w.call<&worker::add>(1).get(), cadre::actor_died);
  CHECK(eventually([] { return alive == 0; }));
}

TEST_CASE("A coroutine whose actor is being stopped is told that it can call it no more, rather than to wait",
          "[actor]") {
  job rt({.threads = 1});
  reset();
  const auto w = rt->actor<worker>();
  auto next = w.call<&worker::wait_for_its_next>(w);
  auto stop = w.stop();
  CHECK(eventually([] { return begun == 1; }));
  door->open();
  CHECK_THROWS_AS(next.get(), cadre::actor_died);
  stop.get();
}

TEST_CASE("A kill ends the coroutines that wait: their calls fail, and nothing of them is left", "[actor]") {
  for (const std::size_t threads : {1u, 3u}) {
    job rt({.threads = threads});
    reset();
    CHECK(alive == 0);
    const auto w = rt->actor<worker>();
    std::vector<cadre::future<int>> all;
    for (int k = 0; k < 20; ++k) all.push_back(w.call<&worker::add_later>(k));
    auto promised = w.call<&worker::promised>();
    CHECK(eventually([] { return begun == 21; }));
    CHECK(alive == 21);
    CHECK(w.kill());
    for (auto& f : all) CHECK_THROWS_WITH(f.get(), Contains("[cadre.actor.601]") && Contains("it was killed"));
    CHECK_THROWS_AS(promised.get(), cadre::actor_died);
    CHECK(eventually([] { return alive == 0; }));
  }
}

TEST_CASE("A coroutine that is killed while it runs is at its end at its next co_await", "[actor]") {
  struct stubborn {
    cadre::future<int> go_on() {
      ++begun;
      static_cast<void>(eventually([] { return ended != 0; }));
      const counted local;
      try {
        co_await door->opened();
      } catch (const cadre::task_cancelled&) {
        ++begun;
      }
      co_return 1;
    }
    cadre::future<int> give() {
      ++begun;
      static_cast<void>(eventually([] { return ended != 0; }));
      co_return 1;
    }
  };
  job rt({.threads = 2});
  for (const bool waits : {true, false}) {
    reset();
    const auto s = rt->actor<stubborn>();
    auto call = waits ? s.call<&stubborn::go_on>() : s.call<&stubborn::give>();
    CHECK(eventually([] { return begun == 1; }));
    CHECK(s.kill());
    ++ended;
    if (waits)
      CHECK_THROWS_AS(call.get(), cadre::actor_died);
    else
      CHECK(call.get() == 1);  // as of any call that ran
    CHECK(eventually([&] { return alive == 0 && begun == (waits ? 2 : 1); }));
  }
}

TEST_CASE("The object lives until the last coroutine that uses it is over", "[actor]") {
  struct holder {
    holder() : cell(std::make_unique<int>(0)) {}
    ~holder() { ++ended; }
    cadre::future<void> use() {
      ++begun;
      try {
        co_await door->opened();
      } catch (...) {
        ++*cell;  // the object is there
        CHECK(ended == 0);
        throw;
      }
    }
    void detach() { static_cast<void>(use()); }
    std::unique_ptr<int> cell;
  };
  job rt;
  for (const bool detached : {false, true}) {
    reset();
    const auto h = rt->actor<holder>();
    cadre::future<void> call;
    if (detached)
      h.tell<&holder::detach>();
    else
      call = h.call<&holder::use>();
    CHECK(eventually([] { return begun == 1; }));
    h.kill();
    if (detached) {
      CHECK(ended == 0);
      door->open();
    }
    CHECK(eventually([] { return ended == 1; }));
  }
}

/// Its state can be saved.
class ledger {
 public:
  int add(int k) { return n_ += k; }
  int get() const { return n_; }
  cadre::future<int> add_later(int k) {
    ++begun;
    const int restarts = cadre::this_actor::restarts();
    co_await door->opened();
    order_.push_back(k);
    n_ += k;
    co_return restarts;
  }
  cadre::future<int> save_later(int k) {
    co_await soon(0);
    n_ += k;
    cadre::this_actor::checkpoint();
    co_return n_;
  }
  std::vector<int> order() const { return order_; }

  template <class Archive>
  void serialize(Archive& archive) {
    archive(n_);
  }

 private:
  int n_ = 0;
  std::vector<int> order_;
};

TEST_CASE("Coroutines that wait when their actor is made anew are lost, or made again in their order", "[actor]") {
  for (const std::size_t threads : {1u, 3u}) {
    job rt({.threads = threads});
    for (const int retries : {0, 1, -1}) {
      reset();
      const auto l = rt->actor<ledger>({.max_restarts = -1, .max_task_retries = retries});
      std::vector<cadre::future<int>> all;
      std::vector<int> expected;
      for (int k = 0; k < 20; ++k) {
        all.push_back(l.call<&ledger::add_later>(k));
        expected.push_back(k);
      }
      CHECK(eventually([] { return begun == 20; }));
      CHECK(l.kill(anew));
      auto after = l.call<&ledger::add>(1000);
      if (retries == 0) {
        for (auto& f : all) CHECK_THROWS_WITH(f.get(), Contains("a call is lost, as the actor"));
        CHECK(after.get() == 1000);
        continue;
      }
      CHECK(after.get() == 1000);
      CHECK(begun == 40);
      door->open();
      for (auto& f : all) CHECK(f.get() == 1);
      CHECK(l.call<&ledger::order>().get() == expected);
    }
  }
}

TEST_CASE("A coroutine is made again as often as .max_task_retries says", "[actor]") {
  job rt;
  reset();
  const auto l = rt->actor<ledger>({.max_restarts = -1, .max_task_retries = 2});
  auto call = l.call<&ledger::add_later>(1);
  for (int k = 1; k <= 3; ++k) {
    CHECK(eventually([k] { return begun == k; }));
    CHECK(l.kill(anew));
  }
  CHECK_THROWS_WITH(call.get(), Contains("a call is lost"));
  CHECK(l.call<&ledger::get>().get() == 0);
}

TEST_CASE("A coroutine that is to be made again can be cancelled, or its actor killed, before", "[actor]") {
  job rt({.threads = 2});
  for (const bool killed : {false, true}) {
    reset();
    const auto w = rt->actor<worker>({.max_restarts = -1, .max_task_retries = -1});
    auto call = w.call<&worker::add_later>(1);
    CHECK(eventually([] { return begun == 1; }));
    auto runs = w.call<&worker::block>();
    CHECK(eventually([] { return begun == 2; }));
    CHECK(w.kill(anew));
    CHECK_FALSE(call.ready());
    killed ? void(w.kill()) : void(call.cancel());
    ++ended;
    if (killed)
      CHECK_THROWS_AS(call.get(), cadre::actor_died);
    else
      CHECK_THROWS_AS(call.get(), cadre::task_cancelled);
    runs.get();
    w.kill();
    CHECK(eventually([] { return alive == 0; }));
  }
}

TEST_CASE("The stop of an actor waits for coroutines that are made again", "[actor]") {
  job rt({.threads = 2});
  reset();
  const auto l = rt->actor<ledger>({.max_restarts = 1, .max_task_retries = 1});
  auto call = l.call<&ledger::add_later>(1);
  CHECK(eventually([] { return begun == 1; }));
  auto stop = l.stop();
  CHECK(l.kill(anew));
  CHECK(eventually([] { return begun == 2; }));
  CHECK_FALSE(stop.ready());
  door->open();
  CHECK(call.get() == 1);
  stop.get();
}

TEST_CASE(".checkpoint_every counts a coroutine when it is over, and checkpoint() can be called in one", "[actor]") {
  job rt;
  reset();
  const auto l = rt->actor<ledger>({.max_restarts = -1, .checkpoint_every = 2});
  auto later = l.call<&ledger::add_later>(10);
  CHECK(l.call<&ledger::add>(1).get() == 1);
  door->open();
  later.get();  // the second: saved
  CHECK(l.kill(anew));
  CHECK(l.call<&ledger::get>().get() == 11);
  const auto m = rt->actor<ledger>({.max_restarts = -1});
  CHECK(m.call<&ledger::save_later>(5).get() == 5);
  m.call<&ledger::add>(100).get();
  CHECK(m.kill(anew));
  CHECK(m.call<&ledger::get>().get() == 5);
}

struct keeper {
  int n = 0;
  cadre::future<int> by_coroutine() {
    co_await soon(0);
    co_return ++n;
  }
  cadre::future<int> by_future() {
    ++n;
    return soon(n);
  }
  int get() const { return n; }
  void serialize(auto& archive) { archive(n); }
};

TEST_CASE("With .checkpoint_every = 1 nothing is lost that a coroutine, or another's future, has answered", "[actor]") {
  job rt;
  const auto k = rt->actor<keeper>({.max_restarts = -1, .checkpoint_every = 1});
  for (int n = 1; n <= 40; ++n) {
    CHECK((n % 2 == 0 ? k.call<&keeper::by_coroutine>() : k.call<&keeper::by_future>()).get() == n);
    CHECK(k.kill(anew));
    CHECK(k.call<&keeper::get>().get() == n);
  }
}

TEST_CASE("Cancelling the call of a coroutine cancels it, before it has begun and while it waits", "[actor]") {
  job rt({.threads = 2});
  reset();
  const auto w = rt->actor<worker>();
  auto later = w.call<&worker::add_later>(1);
  auto runs = w.call<&worker::block>();
  auto unbegun = w.call<&worker::add_later>(1);
  CHECK(eventually([] { return begun == 2; }));
  unbegun.cancel();
  CHECK_THROWS_AS(unbegun.get(), cadre::task_cancelled);
  later.cancel();
  ++ended;
  CHECK_THROWS_AS(later.get(), cadre::task_cancelled);
  runs.get();
  CHECK(begun == 2);
  CHECK(alive == 1);  // the actor
  auto promised = w.call<&worker::promised>();
  CHECK(w.call<&worker::is_promise_wanted>().get());
  promised.cancel();
  CHECK_FALSE(w.call<&worker::is_promise_wanted>().get());
  w.call<&worker::keep_promise>(1).get();
  CHECK(promised.get() == 1);
}

TEST_CASE("Who is cancelled cancels the coroutines that it has called", "[actor]") {
  job rt({.threads = 2});
  reset();
  const auto w = rt->actor<worker>();
  auto task = rt->submit<[](cadre::actor<worker> a) {
    static_cast<void>(a.call<&worker::add_later>(1));
    ++begun;
    static_cast<void>(eventually([] { return cadre::this_task::stop_requested(); }));
  }>(w);
  CHECK(eventually([] { return begun == 2; }));
  task.cancel();
  task.get();
  CHECK(eventually([] { return alive == 1; }));
}

/// What its method gives comes from outside, some time.
std::optional<cadre::promise<int>> outside;
struct asks_outside {
  cadre::future<int> ask(std::span<const float>, std::string) {
    ++begun;
    return outside->get_future();
  }
};

TEST_CASE("The arguments of a call that is lost live until what it waited for comes", "[actor]") {
  reset();
  outside.emplace();
  {
    job rt({.threads = 1});
    const auto a = rt->actor<asks_outside>();
    auto call = a.call<&asks_outside::ask>(rt->put(std::vector<float>(1000)), std::string(100, 'a'));
    CHECK(eventually([] { return begun == 1; }));
    a.kill();
    CHECK_THROWS_AS(call.get(), cadre::actor_died);
  }
  outside->set_value(1);
}

TEST_CASE("A coroutine that waits for what never comes ends with its runtime", "[actor]") {
  reset();
  cadre::future<int> call, unheard;
  {
    job rt({.threads = 1});
    const auto w = rt->actor<worker>();
    call = w.call<&worker::add_later>(1);
    w.tell<&worker::add_later>(1);
    unheard = w.call<&worker::promised>();
  }
  CHECK_THROWS_WITH(call.get(), Contains("its runtime has ended"));
  CHECK_THROWS_AS(unheard.get(), cadre::actor_died);
  CHECK(alive == 0);
}

}  // namespace actor_coroutine_test
