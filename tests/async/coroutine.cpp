#include "catch.hpp"

#include <cadre/async.hpp>
#include <cadre/async/coroutine.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace coroutine_test {

cadre::future<int> immediate(int x) { co_return x; }
cadre::future<std::unique_ptr<int>> move_only(cadre::future<int> f) {
  co_return std::make_unique<int>(co_await std::move(f));
}
cadre::future<int&> reference(int& x) { co_return x; }
cadre::future<void> nothing(cadre::future<void> f) { co_await f; }
cadre::future<int> fails(cadre::future<int> f) {
  const int x = co_await f;
  if (x == 0) throw std::out_of_range("from a coroutine");
  co_return 1;
}
cadre::future<int> link(cadre::future<int> before) { co_return co_await before + 1; }
cadre::future<int> link_on(cadre::thread_pool&, cadre::future<int> before) { co_return co_await before + 1; }

cadre::future<int> fib(cadre::thread_pool& pool, int n) {
  if (n < 2) co_return n;
  auto left = fib(pool, n - 1);
  auto right = fib(pool, n - 2);
  const int l = co_await left;
  co_return l + co_await right;
}

cadre::future<std::thread::id> thread_after(cadre::future<void> f) {
  co_await f;
  co_return std::this_thread::get_id();
}
cadre::future<std::thread::id> thread_after_on(cadre::thread_pool&, cadre::future<void> f) {
  co_await f;
  co_return std::this_thread::get_id();
}
std::thread::id thread_of(cadre::thread_pool& pool) {
  return pool.submit([] { return std::this_thread::get_id(); }).get();
}

cadre::future<int> holds(std::shared_ptr<int> held, cadre::future<int> f) {
  const auto copy = held;
  const int x = co_await f;
  co_return x + *copy;
}

cadre::future<int> begins_with_if(cadre::future<int> f) {
  if (co_await f == 0) co_return 1;
  co_return 2;
}

// The smallest coroutine type of another library: begins at once, and nobody waits for it.
struct foreign {
  struct promise_type {
    foreign get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};

}  // namespace coroutine_test

namespace ct = coroutine_test;

TEST_CASE("a coroutine gives its future a value, a reference, nothing, or an error of any type", "[coroutine]") {
  cadre::thread_pool pool{{.threads = 2}};
  CHECK(ct::immediate(4).ready());
  CHECK(ct::immediate(4).get() == 4);
  CHECK(*ct::move_only(pool.submit([] { return 5; })).get() == 5);
  int n = 0;
  CHECK(&ct::reference(n).get() == &n);
  ct::nothing(pool.submit([&n] { n = 6; })).get();
  CHECK(n == 6);
  CHECK(ct::fails(pool.submit([] { return 1; })).get() == 1);
  CHECK_THROWS_WITH(ct::fails(pool.submit([] { return 0; })).get(), "from a coroutine");
  CHECK_THROWS_AS(ct::fails(pool.submit([]() -> int { throw std::underflow_error("its task's"); })).get(),
                  std::underflow_error);
  CHECK(ct::link(pool.submit([] { return 1; })).then([](int x) { return 10 * x; }).get() == 20);
}

TEST_CASE("a coroutine with a pool among its parameters begins there, another one at once and here", "[coroutine]") {
  cadre::thread_pool pool{{.threads = 1}};
  const auto here = []() -> cadre::future<std::thread::id> { co_return std::this_thread::get_id(); };
  const auto there = [](int, cadre::thread_pool&) -> cadre::future<std::thread::id> {
    co_return std::this_thread::get_id();
  };
  CHECK(here().get() == std::this_thread::get_id());
  CHECK(there(1, pool).get() == ct::thread_of(pool));
}

TEST_CASE("a coroutine goes on on its own pool, whatever it waited for", "[coroutine]") {
  cadre::thread_pool mine{{.threads = 1}};
  cadre::thread_pool other{{.threads = 1}};
  const auto my_thread = ct::thread_of(mine);
  cadre::promise<void> p;
  cadre::promise<void> q;
  cadre::promise<void> r(other);
  auto of_parameter = ct::thread_after_on(mine, p.get_future());
  auto of_caller = mine.submit([&] { return ct::thread_after(q.get_future()); }).get();
  auto of_first_wait = ct::thread_after(r.get_future());
  other
      .submit([&] {
        p.set_value();
        q.set_value();
      })
      .get();
  r.set_value();
  CHECK(of_parameter.get() == my_thread);
  CHECK(of_caller.get() == my_thread);
  CHECK(of_first_wait.get() == ct::thread_of(other));
  cadre::promise<void> no_pool;
  auto of_keeper = ct::thread_after(no_pool.get_future());
  no_pool.set_value();
  CHECK(of_keeper.get() == std::this_thread::get_id());
}

TEST_CASE("reschedule moves a coroutine to another pool, where it stays", "[coroutine]") {
  cadre::thread_pool a{{.threads = 1}};
  cadre::thread_pool b{{.threads = 1}};
  const auto hop = [](cadre::thread_pool& to,
                      cadre::thread_pool& from) -> cadre::future<std::array<std::thread::id, 3>> {
    std::array<std::thread::id, 3> seen;
    seen[0] = std::this_thread::get_id();
    co_await cadre::reschedule(from);
    seen[1] = std::this_thread::get_id();
    co_await to.submit([] {});
    seen[2] = std::this_thread::get_id();
    co_return seen;
  };
  const auto seen = hop(a, b).get();
  CHECK(seen == std::array{ct::thread_of(a), ct::thread_of(b), ct::thread_of(b)});
}

TEST_CASE("co_await takes the value out of a future and leaves that of a shared one", "[coroutine]") {
  cadre::thread_pool pool{{.threads = 1}};
  const auto body = [](cadre::thread_pool& p) -> cadre::future<std::string> {
    auto once = p.submit([] { return std::string("once"); });
    std::string text = co_await once;
    if (once.valid()) text += " more than";
    const auto often = p.submit([] { return std::string(" often"); }).share();
    const std::string& first = co_await often;
    const std::string& second = co_await often;
    if (&first == &second) text += second;
    const std::string& kept = co_await p.submit([] { return std::string(" copied"); }).share();
    co_return text + kept;
  };
  CHECK(body(pool).get() == "once often copied");
  const auto empty = []() -> cadre::future<int> { co_return co_await cadre::future<int>(); };
  CHECK_THROWS_WITH(
      empty().get(),
      "[cadre.async.201] co_await on an empty future: it was never set, was moved from, or gave its value "
      "away by get(), then() or when_all(); keep what get() returned, or ask valid() first");
}

TEST_CASE("coroutines that wait hold no thread", "[coroutine]") {
  cadre::thread_pool pool{{.threads = 1}};
  std::vector<cadre::promise<int>> promises(1000);
  std::vector<cadre::future<int>> links;
  for (auto& p : promises) links.push_back(ct::link_on(pool, p.get_future()));
  pool.submit([&promises] {
        for (auto& p : promises) p.set_value(1);
      })
      .get();
  for (int x : cadre::get(links)) CHECK(x == 2);
  CHECK(ct::fib(pool, 15).get() == 610);
  CHECK(pool.submit([&pool] { return ct::fib(pool, 10).get(); }).get() == 55);  // a task that waits for coroutines
}

TEST_CASE("chains of 100,000 coroutines need no stack", "[coroutine]") {
  constexpr int links = 100'000;
  cadre::thread_pool pool{{.threads = 2}};
  cadre::promise<int> p;
  auto f = p.get_future();
  SECTION("on a pool") {
    for (int i = 0; i < links; ++i) f = ct::link_on(pool, std::move(f));
    p.set_value(0);
    CHECK(f.get() == links);
  }
  SECTION("on the thread that keeps a promise") {
    for (int i = 0; i < links; ++i) f = ct::link(std::move(f));
    p.set_value(0);
    CHECK(f.get() == links);
  }
  SECTION("with an error that passes by") {
    for (int i = 0; i < links / 20; ++i) f = ct::link_on(pool, std::move(f));
    p.set_error(std::runtime_error("start"));
    CHECK_THROWS_WITH(f.get(), "start");
  }
  SECTION("when nobody wants the end of it and the promise is broken") {
    for (int i = 0; i < links / 20; ++i) f = ct::link(std::move(f));
    f.cancel();
    f = {};
    p.set_value(0);
  }
  SECTION("when one coroutine waits that often") {
    const auto loop = [](cadre::thread_pool& on, int n) -> cadre::future<int> {
      int sum = 0;
      for (int i = 0; i < n; ++i) sum += co_await on.submit([] { return 1; });
      for (int i = 0; i < n; ++i) sum += co_await ct::immediate(1);
      co_return sum;
    };
    CHECK(loop(pool, links).get() == 2 * links);
  }
}

TEST_CASE("what a coroutine holds is gone before its future is ready", "[coroutine]") {
  cadre::thread_pool pool{{.threads = 2}};
  for (int i = 0; i < 500; ++i) {
    auto held = std::make_shared<int>(1);
    auto f = ct::holds(held, pool.submit([] { return 2; }));
    f.wait();
    CHECK(held.use_count() == 1);
    CHECK(f.get() == 3);
  }
}

TEST_CASE("a coroutine that nobody waits for goes on by itself and leaves nothing behind", "[coroutine]") {
  auto held = std::make_shared<int>(1);
  std::atomic<int> unobserved{0};
  {
    cadre::thread_pool pool{
        {.threads = 2, .on_unobserved_error = [&](const cadre::unobserved_error&) { ++unobserved; }}};
    for (int i = 0; i < 500; ++i) static_cast<void>(ct::holds(held, pool.submit([] { return 2; })));
    cadre::promise<int> never(pool);
    static_cast<void>(pool.submit([&] { static_cast<void>(ct::holds(held, never.get_future())); }).get());
  }  // the promise is broken: that is the coroutine's error, which nobody asks for
  CHECK(held.use_count() == 1);
  CHECK(unobserved == 1);
}

TEST_CASE("a coroutine outlives its pool", "[coroutine]") {
  cadre::promise<int> p;
  cadre::future<int> f;
  {
    cadre::thread_pool pool{{.threads = 1}};
    f = ct::link_on(pool, p.get_future());
  }
  p.set_value(1);
  CHECK(f.get() == 2);
}

TEST_CASE("a large frame and many parameters are no different", "[coroutine]") {
  cadre::thread_pool pool{{.threads = 1}};
  const auto big = [](std::array<int, 1000> a, cadre::thread_pool& on, std::string s) -> cadre::future<std::size_t> {
    std::array<int, 1000> b = a;
    co_await on.submit([] {});
    co_return static_cast<std::size_t>(b[999]) + s.size();
  };
  std::array<int, 1000> a{};
  a[999] = 5;
  CHECK(big(a, pool, "abc").get() == 8);
}

TEST_CASE("a cancelled coroutine that waits ends at once, with its variables", "[coroutine]") {
  std::atomic<int> unobserved{0};
  auto held = std::make_shared<int>(1);
  cadre::promise<int> never;
  {
    cadre::thread_pool pool{
        {.threads = 1, .on_unobserved_error = [&](const cadre::unobserved_error&) { ++unobserved; }}};
    auto f = pool.submit([&] { return ct::holds(held, never.get_future()); }).get();
    CHECK(f.cancel());
    CHECK(f.wait_for(std::chrono::seconds(2)));
    CHECK(held.use_count() == 1);
    CHECK_THROWS_WITH(
        f.get(), ContainsSubstring("[cadre.async.206] a task submitted at ") && ContainsSubstring("coroutine.cpp:") &&
                     ContainsSubstring(" was cancelled before it could go on: by cancel(), its stop token, "
                                       "its parent's or its pool's end"));
    static_cast<void>(ct::link_on(pool, cadre::promise<int>().get_future()));
  }
  CHECK(unobserved == 1);  // the broken promise; nobody need hear of the other
}

TEST_CASE("a coroutine that is cancelled before its turn never begins", "[coroutine]") {
  std::atomic<bool> go{false};
  std::atomic<int> begun{0};
  cadre::thread_pool pool{{.threads = 1}};
  auto busy = pool.submit([&go] {
    while (!go) std::this_thread::yield();
  });
  const auto body = [](cadre::thread_pool&, std::atomic<int>& n, std::shared_ptr<int>) -> cadre::future<void> {
    ++n;
    co_return;
  };
  auto held = std::make_shared<int>(1);
  auto f = body(pool, begun, held);
  CHECK(f.cancel());
  go = true;
  CHECK_THROWS_WITH(f.get(), ContainsSubstring(" was cancelled before it began: by cancel()"));
  CHECK(begun == 0);
  CHECK(held.use_count() == 1);
  busy.get();
}

TEST_CASE("cancelling a coroutine stops the tasks that it has submitted, and every later co_await of it",
          "[coroutine]") {
  std::atomic<bool> child_stopped{false};
  cadre::thread_pool pool{{.threads = 2}};
  cadre::promise<void> child_runs;
  auto child_runs_now = child_runs.get_future();
  const auto body = [&](cadre::thread_pool& on) -> cadre::future<int> {
    int times = 0;
    auto child = on.submit([&] {
      child_runs.set_value();
      while (!cadre::detail::current_task()->stop_requested()) std::this_thread::yield();
      child_stopped = true;
    });
    for (int i = 0; i < 3; ++i) {
      try {
        if (i == 0)
          co_await child;
        else if (i == 1)
          co_await cadre::reschedule(on);
        else
          co_await on.submit([] {});
      } catch (const cadre::task_cancelled&) {
        ++times;
      }
    }
    if (child.valid()) child.wait();
    co_return times;  // it may still give a value
  };
  auto f = body(pool);
  child_runs_now.get();
  CHECK(f.cancel());
  CHECK(f.get() == 3);
  CHECK(child_stopped);
}

TEST_CASE("cancelling the task that called a coroutine cancels that too", "[coroutine]") {
  cadre::thread_pool pool{{.threads = 2}};
  cadre::promise<int> never;
  cadre::promise<cadre::future<int>> called;
  auto inner = called.get_future();
  auto outer = pool.submit([&] {
    called.set_value(ct::link(never.get_future()));
    while (!cadre::detail::current_task()->stop_requested()) std::this_thread::yield();
    return ct::immediate(1);  // a child of a cancelled task does not begin
  });
  auto waiting = inner.get();
  CHECK(outer.cancel());
  CHECK_THROWS_AS(waiting.get(), cadre::task_cancelled);
  CHECK_THROWS_AS(outer.get().get(), cadre::task_cancelled);
}

TEST_CASE("a pool that ends by cancelling ends its coroutines", "[coroutine]") {
  auto held = std::make_shared<int>(1);
  cadre::promise<int> never;
  cadre::future<int> waits;
  {
    cadre::thread_pool pool{{.threads = 1, .at_end = cadre::at_end::cancel}};
    waits = pool.submit([&] { return ct::holds(held, never.get_future()); }).get();
  }
  CHECK(waits.ready());
  CHECK_THROWS_AS(waits.get(), cadre::task_cancelled);
  CHECK(held.use_count() == 1);
}

TEST_CASE("coroutines that lose a when_any stop, though what they wait for never comes", "[coroutine]") {
  cadre::thread_pool pool{{.threads = 1}};
  auto held = std::make_shared<int>(1);
  std::vector<cadre::promise<int>> never(10);
  std::vector<cadre::future<int>> futures;
  for (auto& p : never) futures.push_back(ct::holds(held, p.get_future()));
  futures.push_back(ct::link_on(pool, pool.submit([] { return 1; })));
  const auto first = cadre::when_any(std::move(futures)).get();
  CHECK(first.index == 10);
  CHECK(first.value == 2);
  CHECK(held.use_count() == 1);
}

TEST_CASE("a coroutine may be cancelled at the instant at which what it waits for is done", "[coroutine]") {
  std::atomic<int> unobserved{0};
  auto held = std::make_shared<int>(1);
  int cancelled = 0;
  {
    cadre::thread_pool pool{
        {.threads = 2, .on_unobserved_error = [&](const cadre::unobserved_error&) { ++unobserved; }}};
    for (int round = 0; round < 5000; ++round) {
      cadre::promise<int> p(pool);
      auto f = round % 2 == 0 ? ct::holds(held, p.get_future()) : ct::link_on(pool, ct::holds(held, p.get_future()));
      auto keeper = pool.submit([&p] { p.set_value(1); });
      for (int i = 0; i < round % 64; ++i) cadre::detail::relax();
      f.cancel();
      try {
        const int x = f.get();
        CHECK(x == (round % 2 == 0 ? 2 : 3));
      } catch (const cadre::task_cancelled&) {
        ++cancelled;
      }
      keeper.get();
    }
  }
  CHECK(held.use_count() == 1);
  CHECK(unobserved == 0);
  CHECK(cancelled > 0);
}

TEST_CASE("several coroutines share a result while it comes", "[coroutine]") {
  cadre::thread_pool pool{{.threads = 3}};
  const auto reads = [](cadre::thread_pool&, cadre::shared_future<std::string> f) -> cadre::future<std::size_t> {
    const std::string& first = co_await f;
    co_return first.size();
  };
  for (int round = 0; round < 1000; ++round) {
    const auto shared = pool.submit([] { return std::string("text"); }).share();
    std::vector<cadre::future<std::size_t>> sizes;
    for (int i = 0; i < 4; ++i) sizes.push_back(reads(pool, shared));
    for (std::size_t n : cadre::get(sizes)) CHECK(n == 4);
  }
}

TEST_CASE("a coroutine of another library awaits our futures, on their pool", "[coroutine]") {
  cadre::thread_pool pool{{.threads = 1}};
  const auto pool_thread = ct::thread_of(pool);
  cadre::promise<std::pair<int, std::thread::id>> result;
  auto f = result.get_future();
  cadre::promise<int> p(pool);
  const auto body = [](cadre::future<int> one, cadre::shared_future<int> two,
                       cadre::promise<std::pair<int, std::thread::id>>& to) -> ct::foreign {
    int sum = co_await one;
    sum += co_await two;
    sum += co_await ct::immediate(4);
    try {
      co_await cadre::future<void>();
    } catch (const cadre::empty_future&) {
      to.set_value(sum, std::this_thread::get_id());
    }
  };
  body(p.get_future(), pool.submit([] { return 2; }).share(), result);
  p.set_value(1);
  const auto [sum, where] = f.get();
  CHECK(sum == 7);
  CHECK(where == pool_thread);
}

TEST_CASE("a coroutine that the compiler gets wrong says so instead of crashing", "[coroutine]") {
  cadre::promise<int> p;
  p.set_value(0);
  try {
    const int x = ct::begins_with_if(p.get_future()).get();
    CHECK(x == 1);
  } catch (const cadre::miscompiled_coroutine& e) {
    CHECK_THAT(e.what(),
               ContainsSubstring("[cadre.async.215] a task submitted at ") &&
                   ContainsSubstring("is a coroutine that this compiler has laid out wrongly, as g++ 12 does if "
                                     "one begins with `if (co_await f ...)`; write `const auto x = co_await f; "
                                     "if (x ...)`"));
  }
}
