#include "catch.hpp"
#include "store/processes.hpp"

#include <cadre/eigen.hpp>
#include <cadre/store.hpp>
#include <cadre/store/object_promise.hpp>

#include <cereal/types/map.hpp>
#include <cereal/types/string.hpp>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace object_promise_test {

using namespace test_store;
using floats = std::vector<float>;

cadre::object_store small_store() { return cadre::object_store::open({.capacity = 8 << 20}); }

TEST_CASE("Refs to an object can be given away before its value, and its size, are known", "[store]") {
  auto store = small_store();
  auto p = store.promise<floats>();
  const auto ref = p.ref(), same = p.ref();
  CHECK(ref == same);
  CHECK_FALSE(store.contains(ref));
  CHECK_THROWS_AS(store.get(ref, 1ms), cadre::store_timeout);
  CHECK(store.wait(std::vector{ref}, 1, 1ms).pending.size() == 1);
  CHECK(std::move(p).set(floats{1, 2, 3}) == ref);
  const auto view = store.get(same);
  CHECK(floats((*view).begin(), (*view).end()) == floats{1, 2, 3});
}

TEST_CASE("A promise takes matrices, and what the archive writes", "[store]") {
  auto store = small_store();
  auto matrix = store.promise<Eigen::MatrixXd>();
  const auto m = std::move(matrix).set(Eigen::MatrixXd::Constant(3, 4, 2.0));
  const auto shown = store.get(m);
  CHECK((*shown).sum() == 24);
  auto map = store.promise<std::map<std::string, int>>();
  const auto n = std::move(map).set(std::map<std::string, int>{{"a", 1}, {"b", 2}});
  const auto numbers = store.get(n);
  CHECK((*numbers).at("b") == 2);
  auto nothing = store.promise<floats>();
  const auto e = std::move(nothing).set(floats());
  const auto empty = store.get(e);
  CHECK((*empty).empty());
}

TEST_CASE("A thread that waits for a promise has its value as soon as it is set", "[store]") {
  auto store = small_store();
  auto p = store.promise<floats>();
  std::thread waits([&store, ref = p.ref()] {
    const auto view = store.get(ref);
    CHECK((*view).size() == 5);
  });
  std::move(p).set(floats(5));
  waits.join();
}

TEST_CASE("A promise that is destroyed without a value is given up", "[store]") {
  auto store = small_store();
  auto p = std::make_unique<cadre::object_promise<floats>>(store.promise<floats>());
  const auto ref = p->ref();
  std::thread waits([&] { CHECK_THROWS_AS(store.get(ref), cadre::object_gone); });
  p.reset();
  waits.join();
  CHECK_THROWS_AS(store.get(ref), cadre::object_gone);
}

TEST_CASE("A promise that nobody has a ref to leaves nothing behind", "[store]") {
  auto store = small_store();
  const auto before = store.stats().objects;
  static_cast<void>(store.promise<floats>());
  static_cast<void>(store.promise<floats>().set(floats(100)));
  CHECK(store.stats().objects == before);
}

TEST_CASE("A promise with a name is found by it before it has a value", "[store]") {
  auto store = small_store();
  auto p = store.promise<floats>({.name = "to come"});
  const auto found = store.find<floats>("to come");
  REQUIRE(found);
  CHECK_FALSE(store.contains(*found));
  CHECK_THROWS_AS(store.promise<floats>({.name = "to come"}), cadre::object_name_taken);
  CHECK_THROWS_AS(store.find<std::string>("to come"), cadre::wrong_object_type);
  std::move(p).set(floats(2));
  const auto view = store.get(*found);
  CHECK((*view).size() == 2);
}

TEST_CASE("A value for which there is no room can be replaced by a smaller one", "[store]") {
  auto store = small_store();
  auto p = store.promise<floats>();
  const auto ref = p.ref();
  CHECK_THROWS_AS(std::move(p).set(floats(64 << 20)), cadre::store_full);
  std::move(p).set(floats(1));
  const auto view = store.get(ref);
  CHECK((*view).size() == 1);
}

TEST_CASE("A promise whose object was erased says so, each time it is set", "[store]") {
  auto store = small_store();
  auto p = store.promise<floats>();
  store.erase(p.ref());
  for (int again = 0; again < 2; ++again) CHECK_THROWS_AS(std::move(p).set(floats(10)), cadre::object_gone);
}

TEST_CASE("Another process has the value of a promise, or hears that it was given up or its process killed",
          "[store]") {
  enum { sets, gives_up, is_killed };
  for (const int fate : {sets, gives_up, is_killed}) {
    const std::string name = "promises" + std::to_string(::getpid()) + "_" + std::to_string(fate);
    shared<std::atomic<bool>> made, go;
    process maker([&] {
      auto theirs = cadre::object_store::open({.name = name, .capacity = 8 << 20});
      auto p = std::make_unique<cadre::object_promise<floats>>(theirs.promise<floats>({.name = "to come"}));
      *made = true;
      check(eventually([&] { return go->load(); }), "nobody told it to go on");
      std::optional<cadre::object_ref<floats>> kept;
      if (fate == sets) kept = std::move(*p).set(floats(3));
      p.reset();
      check(eventually([&] { return !go->load(); }), "nobody told it to end");
    });
    REQUIRE(eventually([&] { return made->load(); }));
    auto store = cadre::object_store::open({.name = name, .capacity = 8 << 20});
    const auto ref = store.find<floats>("to come");
    REQUIRE(ref);
    std::thread waits([&] {
      if (fate != sets) {
        CHECK_THROWS_AS(store.get(*ref, 10s), cadre::object_gone);
        return;
      }
      const auto view = store.get(*ref, 10s);
      CHECK((*view).size() == 3);
    });
    if (fate == is_killed)
      maker.kill();
    else
      *go = true;
    waits.join();
    *go = false;
    CHECK((fate == is_killed ? maker.was_killed() : maker.end().empty()));
  }
}

}  // namespace object_promise_test
