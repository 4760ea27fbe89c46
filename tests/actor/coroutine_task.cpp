#include "actor/coroutine.hpp"
#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/async/coroutine.hpp>
#include <cadre/async/this_task.hpp>

#include <chrono>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

namespace actor_coroutine_test {

cadre::future<std::size_t> length_later(std::string by_value, const std::string& by_reference) {
  ++begun;
  const counted local;
  co_await door->opened();
  co_return by_value.size() + by_reference.size();
}
cadre::future<int> fails_at_first() {
  co_await soon(0);
  if (++begun < 3) throw std::out_of_range("not yet");
  co_return begun;
}
cadre::future<bool> hears(std::stop_token token) {
  ++begun;
  try {
    co_await door->opened();
  } catch (const cadre::task_cancelled&) {}
  co_return token.stop_requested();
}
cadre::future<void> nothing() { co_await door->opened(); }
cadre::future<int> shared(std::span<const float> all) {
  co_await door->opened();
  co_return static_cast<int>(all.size());
}
cadre::future<int> no_future() { return {}; }

TEST_CASE("A task that is a coroutine gives a future of what it returns, and holds no thread while it waits",
          "[actor]") {
  job rt({.threads = 1});
  reset();
  one_future five_later = rt->submit<[](int x) -> one_future { co_return co_await soon(x); }>(5);
  CHECK(five_later.get() == 5);
  std::vector<cadre::future<std::size_t>> all;
  for (int k = 0; k < 10; ++k) all.push_back(rt->submit<&length_later>(std::string(100, 'a'), std::string(50, 'b')));
  auto named = rt->submit<&length_later>({.name = "named"}, "a", "b");
  auto dependent = rt->submit<&length_later>(rt->submit<[] { return std::string("abc"); }>(), "");
  auto shown = rt->submit<&shared>(rt->put(std::vector<float>(1000)));
  auto none = rt->submit<&nothing>();
  CHECK(eventually([] { return begun == 12; }));
  CHECK(rt->submit<&five>().get() == 5);
  door->open();
  for (auto& f : all) CHECK(f.get() == 150);
  CHECK(named.get() == 2);
  CHECK(dependent.get() == 3);
  CHECK(shown.get() == 1000);
  none.get();
  begun = 0;
  CHECK_THROWS_AS(rt->submit<&fails_at_first>().get(), std::out_of_range);
  CHECK_THROWS_AS(rt->submit<&no_future>().get(), cadre::empty_future);
}

TEST_CASE("A task that is a coroutine is cancelled, tried again and stopped like any other", "[actor]") {
  job rt({.threads = 2});
  reset();
  auto waits = rt->submit<&length_later>("", "");
  CHECK(eventually([] { return begun == 1; }));
  waits.cancel();
  CHECK_THROWS_AS(waits.get(), cadre::task_cancelled);
  CHECK(eventually([] { return alive == 0; }));

  std::stop_source source;
  auto stopped = rt->submit<&length_later>({.stop = source.get_token()}, "", "");
  CHECK(eventually([] { return begun == 2; }));
  source.request_stop();
  CHECK_THROWS_AS(stopped.get(), cadre::task_cancelled);

  reset();
  CHECK(rt->submit<&fails_at_first>({.max_retries = 2, .retry_on = cadre::errors<std::out_of_range>()}).get() == 3);
  reset();
  auto listens = rt->submit<&hears>();
  CHECK(eventually([] { return begun == 1; }));
  listens.cancel();
  CHECK(listens.get());
  reset();
  auto late = rt->submit<&length_later>({.deadline = std::chrono::steady_clock::now() - 1s}, "", "");
  CHECK_THROWS_AS(late.get(), cadre::deadline_passed);
  CHECK(begun == 0);
  const auto stored = rt->get(rt->submit_ref<[]() -> cadre::future<double> { co_return co_await soon(2) * 0.5; }>());
  CHECK(*stored == 1.0);
}

TEST_CASE("A task that is a coroutine may end when its runtime has", "[one process]") {
  reset();
  cadre::future<std::size_t> length;
  cadre::future<int> shown;
  {
    job rt({.threads = 1});
    length = rt->submit<&length_later>("abc", "d");
    shown = rt->submit<&shared>(rt->put(std::vector<float>(1000)));
    CHECK(eventually([] { return begun == 1; }));
  }
  door->open();
  CHECK(length.get() == 4);
  CHECK(shown.get() == 1000);
}

TEST_CASE("A coroutine that a task or an actor submits is none of that actor's", "[actor]") {
  struct waits_for_a_task {
    int get() {
      return cadre::this_task::runtime().submit<[](int x) -> one_future { co_return co_await soon(x); }>(3).get();
    }
  };
  job rt({.threads = 1});
  CHECK(rt->actor<waits_for_a_task>().call<&waits_for_a_task::get>().get() == 3);
}

}  // namespace actor_coroutine_test
