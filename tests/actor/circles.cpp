#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/async.hpp>
#include <cadre/async/coroutine.hpp>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace actor_circles_test {

using namespace std::chrono_literals;

enum class how { argument, then, on_error, shared, some, two, coroutine, task_of_a_coroutine, object, method };
constexpr how all_ways[] = {
    how::then,   how::on_error, how::shared, how::some, how::two, how::coroutine, how::task_of_a_coroutine,
    how::object, how::method};

class caller;
using way = std::vector<cadre::actor<caller>>;

class caller {
 public:
  /// Calls the first of the others, which calls the next, and waits for what comes after that in one way or another.
  int ask(way others, how by);
  cadre::future<int> ask_later(way others, how by);
  int sleep(int microseconds) {
    std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
    return 1;
  }
};

cadre::actor<caller> next(way& all) {
  const auto first = all.front();
  all.erase(all.begin());
  return first;
}
cadre::future<int> ask_in_coroutine(way others, how by) {
  auto first = next(others);
  co_return 1 + co_await first.call<&caller::ask>(others, by);
}
int ask_in_task(way others, how by) {
  auto first = next(others);
  return 1 + first.call<&caller::ask>(others, by).get();
}
int add_one(int n) { return n + 1; }

int caller::ask(way others, how by) {
  if (others.empty()) return sleep(100);
  cadre::runtime& rt = cadre::this_task::runtime();
  switch (by) {
    case how::coroutine: return ask_in_coroutine(others, by).get();
    case how::task_of_a_coroutine: return rt.submit<&ask_in_coroutine>(others, by).get();
    case how::object: {
      const auto made = rt.submit_ref<&ask_in_task>(others, by);
      const auto seen = rt.get(made);
      return *seen;
    }
    default: break;
  }
  const auto first = next(others);
  if (by == how::method) return 1 + first.call<&caller::ask_later>(others, by).get();
  auto call = first.call<&caller::ask>(others, by);
  switch (by) {
    case how::on_error:
      return 1 + std::move(call).on_error([](std::exception_ptr e) -> int { std::rethrow_exception(e); }).get();
    case how::shared: return std::move(call).share().then(&add_one).get();
    case how::some: {
      std::vector<cadre::future<int>> calls;
      calls.push_back(std::move(call));
      return 1 + cadre::when_all(std::move(calls)).get()[0];
    }
    case how::two: return 1 + std::get<0>(cadre::when_all(std::move(call), rt.submit<&add_one>(1)).get());
    case how::argument: return rt.submit<&add_one>(std::move(call)).get();
    default: return std::move(call).then(&add_one).get();
  }
}
cadre::future<int> caller::ask_later(way others, how by) {
  if (others.empty()) co_return 1;
  auto first = next(others);
  auto all = cadre::when_all(first.call<&caller::ask>(others, by), cadre::this_task::runtime().submit<&add_one>(1));
  co_return 1 + std::get<0>(co_await std::move(all));
}

int value_of(cadre::future<int> f) {
  const bool over = f.wait_for(10s);
  CHECK(over);
  if (!over) std::quick_exit(1);  // a circle that nobody sees holds up the end of the runtime for ever
  return f.get();
}

TEST_CASE("A circle of calls is an error whatever they wait for each other through", "[actor][one process]") {
  job rt({.threads = 2});
  for (const how by : all_ways) {
    CAPTURE(static_cast<int>(by));
    const auto a = rt->actor<caller>(), b = rt->actor<caller>();
    CHECK_THROWS_AS(value_of(a.call<&caller::ask>(way{b, a}, by)), cadre::wait_cycle);
    CHECK(value_of(a.call<&caller::ask>(way{b}, by)) >= 1);  // they live on
    CHECK(value_of(b.call<&caller::ask>(way{a}, by)) >= 1);
  }
}

TEST_CASE("A circle through then() and when_all() is told with all that is part of it", "[actor][one process]") {
  job rt({.threads = 2});
  const auto a = rt->actor<caller>();
  std::string text;
  try {
    static_cast<void>(value_of(a.call<&caller::ask>(way{a}, how::two)));
  } catch (const cadre::wait_cycle& e) {
    text = e.what();
  }
  CAPTURE(text);
  std::size_t at = 0;
  for (const char* const part : {"[cadre.async.208] this wait would never end: 'actor_circles_test::caller::ask'",
                                 " waits for a task waits for 'actor_circles_test::caller::ask' submitted at ",
                                 "circles.cpp:", ", which its actor can begin only after "})
    if (at = text.find(part, at); at == std::string::npos) FAIL("without " << part);
}

TEST_CASE("Waits through then(), when_all() and coroutines that end are no circle, whoever looks", "[actor]") {
  job rt({.threads = 4});
  std::mt19937 random{11};
  std::vector<cadre::actor<caller>> all;
  for (int i = 0; i < 8; ++i) all.push_back(rt->actor<caller>());
  std::vector<cadre::future<int>> calls;
  for (int n = 0; n < 300; ++n) {
    way later;  // each calls only those behind it
    for (const auto& a : all)
      if (random() % 2 == 0) later.push_back(a);
    if (later.empty()) continue;
    const auto first = next(later);
    calls.push_back(first.call<&caller::ask>(later, all_ways[random() % std::size(all_ways)]));
  }
  for (auto& c : calls) CHECK(value_of(std::move(c)) >= 1);
}

}  // namespace actor_circles_test
