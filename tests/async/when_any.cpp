#include "catch.hpp"

#include <cadre/async.hpp>
#include <cadre/async/when_any.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace when_any_test {

bool stop_requested() { return cadre::detail::current_task()->stop_requested(); }

// Runs until somebody asks it to stop.
void run_until_stopped(std::atomic<int>& stopped) {
  while (!stop_requested()) std::this_thread::yield();
  ++stopped;
}

}  // namespace when_any_test

TEST_CASE("when_any gives the value of the first to be ready, and which it was", "[when_any]") {
  std::vector<cadre::promise<std::unique_ptr<int>>> promises(3);
  std::vector<cadre::future<std::unique_ptr<int>>> futures;
  for (auto& p : promises) futures.push_back(p.get_future());
  auto any = cadre::when_any(std::move(futures));
  CHECK_FALSE(any.ready());
  promises[1].set_value(std::make_unique<int>(5));
  CHECK(any.ready());
  promises[0].set_value(nullptr);
  auto [index, value] = any.get();
  CHECK(index == 1);
  CHECK(*value == 5);
}

TEST_CASE("when_any of void and of references, listed one by one", "[when_any]") {
  cadre::thread_pool pool{{.threads = 1}};
  cadre::promise<void> never;
  CHECK(cadre::when_any(never.get_future(), pool.submit([] {})).get().index == 1);
  int n = 0;
  cadre::promise<int&> no_reference;
  CHECK(&cadre::when_any(no_reference.get_future(), pool.submit([&n]() -> int& { return n; })).get().value == &n);
}

TEST_CASE("of those that are ready already when_any takes the lowest index", "[when_any]") {
  std::vector<cadre::promise<int>> promises(4);
  std::vector<cadre::future<int>> futures;
  for (auto& p : promises) futures.push_back(p.get_future());
  promises[3].set_value(3);
  promises[2].set_value(2);
  const auto any = cadre::when_any(std::move(futures)).get();
  CHECK(any.index == 2);
  CHECK(any.value == 2);
}

TEST_CASE("the first to be ready decides even if it failed, and its error keeps its type", "[when_any]") {
  std::atomic<int> unobserved{0};
  {
    cadre::thread_pool pool{
        {.threads = 1, .on_unobserved_error = [&](const cadre::unobserved_error&) { ++unobserved; }}};
    cadre::promise<int> other(pool);
    auto any = cadre::when_any(other.get_future(), pool.submit([]() -> int { throw std::out_of_range("first"); }));
    CHECK_THROWS_AS(any.get(), std::out_of_range);
    CHECK(other.stop_requested());
  }
  CHECK(unobserved == 0);
}

TEST_CASE("when_any asks the losers to stop before the result is ready, and they do", "[when_any]") {
  std::atomic<int> stopped{0};
  std::atomic<int> begun{0};
  cadre::thread_pool pool{{.threads = 3}};
  cadre::promise<void> winner;
  std::vector<cadre::future<void>> futures;
  for (int i = 0; i < 2; ++i)
    futures.push_back(pool.submit([&] {
      ++begun;
      when_any_test::run_until_stopped(stopped);
    }));
  while (begun < 2) std::this_thread::yield();
  futures.push_back(winner.get_future());
  auto any = cadre::when_any(std::move(futures));
  winner.set_value();
  CHECK(any.get().index == 2);
  const auto begin = std::chrono::steady_clock::now();
  while (stopped < 2 && std::chrono::steady_clock::now() - begin < std::chrono::seconds(2)) std::this_thread::yield();
  CHECK(stopped == 2);
}

TEST_CASE("losers that have not begun never begin, and what losers have submitted stops with them", "[when_any]") {
  std::atomic<int> stopped{0};
  std::atomic<int> begun{0};
  {
    cadre::thread_pool pool{{.threads = 2}};
    cadre::promise<void> child_runs;
    auto child_runs_now = child_runs.get_future();
    auto parent = pool.submit([&] {
      auto child = pool.submit([&] {
        child_runs.set_value();
        when_any_test::run_until_stopped(stopped);
      });
      child.get();
    });
    child_runs_now.get();
    cadre::promise<void> winner;
    auto blocked = pool.submit([&] { when_any_test::run_until_stopped(stopped); });  // so no thread is left
    auto queued = pool.submit([&begun] { ++begun; });
    // The queued one is asked first: when the others have stopped, a thread is free.
    auto any = cadre::when_any(std::move(queued), std::move(parent), std::move(blocked), winner.get_future());
    winner.set_value();
    CHECK(any.get().index == 3);
  }
  CHECK(stopped >= 1);
  CHECK(begun == 0);
}

TEST_CASE("a loser that never looks whether it should stop does not hold up the result", "[when_any]") {
  cadre::promise<void> go;
  std::atomic<bool> deaf_ended{false};
  cadre::thread_pool pool{{.threads = 2}};
  auto deaf = pool.submit([&deaf_ended, wait = go.get_future()]() mutable {
    wait.get();
    deaf_ended = true;
    return 1;
  });
  const auto any = cadre::when_any(std::move(deaf), pool.submit([] { return 2; })).get();
  CHECK(any.value == 2);
  CHECK_FALSE(deaf_ended);
  go.set_value();
}

TEST_CASE("a loser's own error reaches the handler, that it was cancelled does not", "[when_any]") {
  std::mutex mutex;
  std::vector<std::string> unobserved;
  {
    cadre::thread_pool pool{{.threads = 2, .on_unobserved_error = [&](const cadre::unobserved_error& e) {
                               const std::lock_guard lock(mutex);
                               try {
                                 std::rethrow_exception(e.error);
                               } catch (const std::exception& x) {
                                 unobserved.emplace_back(x.what());
                               }
                             }}};
    cadre::promise<int> first(pool);
    cadre::promise<int> fails(pool);
    cadre::promise<int> gives_in(pool);
    cadre::promise<int> broken(pool);
    std::vector<cadre::future<int>> futures;
    for (auto* p : {&first, &fails, &gives_in, &broken}) futures.push_back(p->get_future());
    auto any = cadre::when_any(std::move(futures));
    first.set_value(1);
    CHECK(any.get().index == 0);
    fails.set_error(std::out_of_range("a real error"));
    gives_in.set_error(cadre::task_cancelled("it"));
  }
  CHECK(unobserved == std::vector<std::string>{"a real error"});
}

TEST_CASE("who cancels when_any cancels all of its parts, and nobody need hear of it", "[when_any]") {
  std::atomic<int> unobserved{0};
  {
    std::atomic<bool> go{false};
    std::atomic<int> ran{0};
    cadre::thread_pool pool{
        {.threads = 1, .on_unobserved_error = [&](const cadre::unobserved_error&) { ++unobserved; }}};
    auto busy = pool.submit([&go] {
      while (!go) std::this_thread::yield();
    });
    cadre::promise<int> p;
    auto any =
        cadre::when_any(p.get_future(), pool.submit([&ran] { return ++ran; }), pool.submit([&ran] { return ++ran; }));
    CHECK(any.cancel());
    CHECK(p.stop_requested());
    CHECK(any.ready());  // since two of them had not begun
    SECTION("asked") { CHECK_THROWS_AS(any.get(), cadre::task_cancelled); }
    SECTION("dropped") { any = {}; }
    go = true;
    busy.get();
    CHECK(ran == 0);
    p.set_value(1);
  }
  CHECK(unobserved == 0);
}

TEST_CASE("when_any of nothing, or of an empty future, is refused", "[when_any]") {
  CHECK_THROWS_WITH(
      cadre::when_any(std::vector<cadre::future<int>>()),
      "[cadre.async.205] wait for 1 of 0 futures can never succeed; ask for at most as many as there are");
  CHECK_THROWS_AS(cadre::when_any(cadre::future<int>(), cadre::future<int>()), cadre::empty_future);
}

TEST_CASE("when_any goes on with then, inside the only thread of a pool too", "[when_any]") {
  cadre::thread_pool pool{{.threads = 1}};
  const int value = pool.submit([&pool] {
                          std::vector<cadre::future<int>> futures;
                          for (int i = 0; i < 10; ++i) futures.push_back(pool.submit([] { return 3; }));
                          return cadre::when_any(std::move(futures))
                              .then([](cadre::any_result<int> first) { return first.value + 1; })
                              .get();
                        })
                        .get();
  CHECK(value == 4);
}

TEST_CASE("a when_any that nobody waits for ends by itself", "[when_any]") {
  auto watched = std::make_shared<int>(0);
  {
    cadre::thread_pool pool{{.threads = 2}};
    for (int i = 0; i < 200; ++i)
      static_cast<void>(
          cadre::when_any(pool.submit([watched] { return watched; }), pool.submit([watched] { return watched; })));
  }
  CHECK(watched.use_count() == 1);
}

TEST_CASE("parts that finish at the same time give one result, whoever cancels meanwhile", "[when_any]") {
  std::atomic<int> unobserved{0};
  std::atomic<int> thrown{0};
  int seen = 0;
  {
    cadre::thread_pool pool{
        {.threads = 3, .on_unobserved_error = [&](const cadre::unobserved_error&) { ++unobserved; }}};
    for (int round = 0; round < 3000; ++round) {
      std::vector<cadre::future<int>> futures;
      for (int i = 0; i < 4; ++i)
        futures.push_back(pool.submit([&thrown, i, round]() -> int {
          if (i == 3 && round % 3 == 0) {
            ++thrown;
            throw std::out_of_range("last");
          }
          return i;
        }));
      auto any = cadre::when_any(std::move(futures));
      if (round % 2 == 0) any.cancel();
      try {
        const auto [index, value] = any.get();
        CHECK(static_cast<int>(index) == value);
      } catch (const std::out_of_range&) {
        ++seen;
      } catch (const cadre::task_cancelled&) {
        CHECK(round % 2 == 0);
      }
    }
  }
  CHECK(unobserved + seen == thrown);  // each error reached somebody, once
}
