// ranks: 2 4
// Calls that wait for each other over several ranks.
#include "over_ranks.hpp"

#include <cadre/actor.hpp>
#include <cadre/async/coroutine.hpp>
#include <cadre/async/when_all.hpp>
#include <cadre/mpi.hpp>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace circles_test {

using namespace std::chrono_literals;
using Catch::Contains, Catch::StartsWith;

class tally {
 public:
  void add() { ++count_; }
  int count() const { return count_; }

 private:
  int count_ = 0;
};

enum class how { argument, then, two, coroutine, object, task_that_may_be_repeated };

/// Calls others in turn, each of which calls the next one.
class caller {
 public:
  using way = std::vector<cadre::actor<caller>>;

  /// Waits for what comes after the call of the next one. `rank`: of what is not a call, and then the other one.
  int ask_through(way others, how by, int rank, int other);
  int ask_and_tell(way others, cadre::actor<tally> errors) {
    if (others.empty()) return 0;
    try {
      return next(others).call<&caller::ask_and_tell>(others, errors).get();
    } catch (const cadre::wait_cycle&) {
      errors.call<&tally::add>().get();
      return 0;
    }
  }
  int ask(way others) { return others.empty() ? 1 : 1 + next(others).call<&caller::ask>(others).get(); }
  /// By a task on the other's rank.
  int ask_by_task(way others, int rank) {
    return 1 + cadre::this_task::runtime()
                   .submit<[](way all) { return next(all).call<&caller::ask>(all).get(); }>(
                       {.on = cadre::on_rank(rank)}, others)
                   .get();
  }
  cadre::future<int> ask_later(way others) {
    auto first = next(others);
    co_return 1 + co_await first.call<&caller::ask>(others);
  }
  int ask_one_that_asks_later(way others) {
    auto first = next(others);
    return 1 + first.call<&caller::ask_later>(others).get();
  }
  int sleep(int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    return milliseconds;
  }
  /// One further, which may be busy, and so on.
  int wander(way others, int milliseconds) {
    if (others.empty()) return sleep(milliseconds);
    auto first = next(others);
    auto answer = first.call<&caller::wander>(others, milliseconds);
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    return answer.get();
  }

  static cadre::actor<caller> next(way& all) {
    const auto first = all.front();
    all.erase(all.begin());
    return first;
  }
};

cadre::future<int> ask_in_coroutine(caller::way others, how by, int rank, int other) {
  auto first = caller::next(others);
  co_return 1 + co_await first.call<&caller::ask_through>(others, by, rank, other);
}
int ask_in_task(caller::way others, how by, int rank, int other) {
  return 1 + caller::next(others).call<&caller::ask_through>(others, by, rank, other).get();
}
int caller::ask_through(way others, how by, int rank, int other) {
  if (others.empty()) return 1;
  cadre::runtime& rt = cadre::this_task::runtime();
  switch (by) {
    case how::coroutine: return ask_in_coroutine(others, by, other, rank).get();
    case how::object: {
      const auto made = rt.submit_ref<&ask_in_task>({.on = cadre::on_rank(rank)}, others, by, other, rank);
      const auto seen = rt.get(made);
      return *seen;
    }
    case how::task_that_may_be_repeated:
      return rt.submit<&ask_in_task>({.on = cadre::on_rank(rank), .max_retries = 1}, others, by, other, rank).get();
    default: break;
  }
  auto call = next(others).call<&caller::ask_through>(others, by, other, rank);
  if (by == how::argument) return rt.submit<[](int n) { return n + 1; }>(std::move(call)).get();
  if (by == how::then) return std::move(call).then([](int n) { return n + 1; }).get();
  return 1 + std::get<0>(cadre::when_all(std::move(call), rt.submit<[] { return 1; }>()).get());
}

cadre::actor<caller> on(cadre::runtime& rt, int rank) {
  return rt.actor<caller>(cadre::actor_options{.on = cadre::on_rank(rank)});
}
template <class T>
T value_of(cadre::future<T> f) {
  const bool over = f.wait_for(30s);
  CHECK(over);
  if (!over) std::quick_exit(1);  // a circle that nobody sees holds up the end of the job for ever
  return f.get();
}

TEST_CASE("Calls that go round in a circle over ranks are an error that names them", "[mpi]") {
  job rt;
  const int last = rt->world_size() - 1;
  const auto a = on(*rt, 0), b = on(*rt, last);
  SECTION("of two") {
    // As told by one of the two.
    CHECK_THROWS_WITH(value_of(a.call<&caller::ask>(caller::way{b, a})),
                      StartsWith("[cadre.async.208] this wait would never end: 'circles_test::caller::ask'") &&
                          Contains(" waits for 'circles_test::caller::ask' submitted at ") && Contains(" on rank 0") &&
                          Contains(" on rank " + std::to_string(last)) &&
                          Catch::EndsWith(", which is under way here; use then() in place of one of the waits"));
    CHECK_THROWS_AS(value_of(b.call<&caller::ask>(caller::way{a, b})), cadre::wait_cycle);
  }
  SECTION("of calls on all ranks") {
    caller::way all;
    for (int r = 0; r <= last; ++r) all.push_back(on(*rt, r));
    all.push_back(all.front());
    CHECK_THROWS_AS(value_of(all.front().call<&caller::ask>(caller::way(all.begin() + 1, all.end()))),
                    cadre::wait_cycle);
  }
  SECTION("behind calls that are not part of it") {
    const auto c = on(*rt, 0), d = on(*rt, last);
    CHECK_THROWS_AS(value_of(d.call<&caller::ask>(caller::way{c, a, b, a})), cadre::wait_cycle);
    CHECK(value_of(d.call<&caller::ask>(caller::way{c})) == 2);
  }
  SECTION("of a call and a task") {
    CHECK_THROWS_AS(value_of(a.call<&caller::ask_by_task>(caller::way{a}, last)), cadre::wait_cycle);
    CHECK_THROWS_AS(value_of(b.call<&caller::ask_by_task>(caller::way{b}, 0)), cadre::wait_cycle);
  }
  SECTION("of a call and a coroutine") {
    CHECK(value_of(a.call<&caller::ask_later>(caller::way{b})) == 2);
    CHECK_THROWS_AS(value_of(a.call<&caller::ask_one_that_asks_later>(caller::way{b, a})), cadre::wait_cycle);
    CHECK_THROWS_AS(value_of(b.call<&caller::ask_one_that_asks_later>(caller::way{a, b})), cadre::wait_cycle);
  }
  SECTION("through what comes after calls, coroutines and objects") {
    for (const how by :
         {how::argument, how::then, how::two, how::coroutine, how::object, how::task_that_may_be_repeated}) {
      CAPTURE(static_cast<int>(by));
      CHECK(value_of(a.call<&caller::ask_through>(caller::way{b}, by, last, 0)) == 2);
      CHECK_THROWS_AS(value_of(a.call<&caller::ask_through>(caller::way{b, a}, by, last, 0)), cadre::wait_cycle);
    }
  }
  SECTION("of which one call alone fails") {
    const auto errors = rt->actor<tally>();
    for (int k = 1; k < 4; ++k) {
      CHECK(value_of(a.call<&caller::ask_and_tell>(caller::way{b, a}, errors)) == 0);
      CHECK(errors.call<&tally::count>().get() == k);
    }
  }
  CHECK(value_of(a.call<&caller::ask>(caller::way{b})) == 2);  // they live on
  CHECK(value_of(b.call<&caller::ask>(caller::way{a})) == 2);
}

TEST_CASE("Long waits that end are no circle, whoever waits for whom", "[mpi]") {
  job rt;
  const int world = rt->world_size();
  std::vector<cadre::actor<caller>> all;
  for (int i = 0; i < 8; ++i) all.push_back(on(*rt, i % world));
  std::mt19937 random{7};
  std::vector<cadre::future<int>> calls;
  for (int n = 0; n < 30; ++n) {
    // Each calls only those behind it.
    caller::way way;
    for (const auto& a : all)
      if (random() % 3 == 0) way.push_back(a);
    if (way.empty()) continue;
    const auto first = way.front();
    way.erase(way.begin());
    calls.push_back(first.call<&caller::wander>(way, static_cast<int>(random() % 100)));
  }
  for (auto& c : calls) CHECK(value_of(std::move(c)) >= 0);
}

}  // namespace circles_test

int main(int argc, char** argv) { return run_tests_over_ranks(argc, argv); }
