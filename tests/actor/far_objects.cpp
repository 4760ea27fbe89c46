#include "catch.hpp"

#include <cadre/actor/detail/far_objects.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/store.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace far_objects_test {

using namespace std::chrono_literals;
using access = cadre::detail::object_ref_access;
using cadre::detail::far_entries;
using cadre::detail::far_objects;
using cadre::detail::held_object;
using cadre::detail::object_loan;
using ints = std::vector<int>;

/// Ranks, each with a node and a store of its own; what is given back arrives at once.
struct nodes {
  struct node final : cadre::detail::gives_back {
    node(nodes& all, int r) : everybody(all), rank(r), far(r, *this) {}
    void give_back(int lender, std::uint64_t key, std::uint32_t times) noexcept override {
      everybody.all[static_cast<std::size_t>(lender)]->far.take_back(rank, key, times);
    }
    [[nodiscard]] cadre::detail::store_core& core() { return access::core(store); }
    [[nodiscard]] std::uint64_t objects() { return store.stats().objects; }

    nodes& everybody;
    int rank;
    cadre::object_store store = cadre::object_store::open({.capacity = 16u << 20, .max_objects = 64});
    far_objects far;
  };
  explicit nodes(int n) {
    for (int r = 0; r < n; ++r) all.push_back(std::make_unique<node>(*this, r));
  }
  node& operator[](int r) { return *all[static_cast<std::size_t>(r)]; }

  /// A ref goes from one to another.
  held_object send(int from, int to, std::uint32_t index) {
    const object_loan l = (*this)[from].far.lend(to, (*this)[from].core(), index);
    return held_object((*this)[to].core(),
                       (*this)[to].far.borrow(from, l, (*this)[to].core(), cadre::detail::label_of<ints>()));
  }
  std::vector<std::unique_ptr<node>> all;
};

template <class Done>
void soon(Done&& done) {
  const auto end = std::chrono::steady_clock::now() + 2s;
  while (!done()) {
    REQUIRE(std::chrono::steady_clock::now() < end);
    std::this_thread::sleep_for(1ms);
  }
}

TEST_CASE("A lender holds an object until the borrower's last ref has gone", "[objects]") {
  nodes n(2);
  auto ref = n[0].store.put(ints{1, 2, 3});
  held_object there = n.send(0, 1, access::index(ref)), twice = n.send(0, 1, access::index(ref));
  CHECK(there.index() == twice.index());
  ref = {};
  CHECK(n[0].objects() == 1);
  there = {};
  std::this_thread::sleep_for(50ms);  // some looks
  CHECK(n[0].objects() == 1);
  twice = {};
  soon([&] { return n[0].objects() == 0 && n[1].objects() == 0; });
}

TEST_CASE("A ref that comes home is the one that it was, and nothing stays lent", "[objects]") {
  nodes n(2);
  auto ref = n[0].store.put(ints{1});
  {
    const held_object there = n.send(0, 1, access::index(ref));
    const held_object back = n.send(1, 0, there.index());
    CHECK(back.index() == access::index(ref));
  }
  ref = {};
  soon([&] { return n[0].objects() == 0 && n[1].objects() == 0; });
}

TEST_CASE("What is lent on is held by all on the way, and fetched from where it is", "[objects]") {
  nodes n(3);
  auto ref = n[0].store.put(ints{1, 2});
  const std::uint64_t key = far_entries(n[0].core()).key(access::index(ref));
  held_object second = n.send(0, 1, access::index(ref));
  const std::uint32_t second_index = second.index();
  held_object third = n.send(1, 2, second_index);
  ref = {};
  second = {};
  std::this_thread::sleep_for(50ms);
  REQUIRE(n[0].objects() == 1);
  CHECK(n[1].objects() == 1);
  const auto from = n[2].far.begin_fetch(far_entries(n[2].core()).key(third.index()));
  REQUIRE(from);
  CHECK(from->origin == far_objects::source{0, key});
  CHECK(from->lender == far_objects::source{1, far_entries(n[1].core()).key(second_index)});
  n[2].far.end_fetch(far_entries(n[2].core()).key(third.index()));
  soon([&] { return n[0].objects() == 0 && n[1].objects() == 0; });
  n[2].core().abort(third.index());
}

TEST_CASE("One of those who want an object fetches it, and while it comes it is not given up", "[objects]") {
  nodes n(2);
  const auto ref = n[0].store.put(ints{1, 2});
  held_object there = n.send(0, 1, access::index(ref));
  const std::uint64_t key = far_entries(n[1].core()).key(there.index());
  REQUIRE(n[1].far.begin_fetch(key));
  CHECK_FALSE(n[1].far.begin_fetch(key));
  there = {};
  std::this_thread::sleep_for(50ms);
  CHECK(n[1].objects() == 1);
  n[1].far.end_fetch(key);
  n[1].core().abort(far_entries::index(key));
  CHECK(n[1].objects() == 0);
}

TEST_CASE("With a rank that dies goes what it has borrowed, and what it had is known to be lost", "[objects]") {
  nodes n(3);
  auto lent = n[0].store.put(ints{1});
  const held_object there = n.send(0, 1, access::index(lent));
  lent = {};
  const auto ref = n[1].store.put(ints{2});
  const held_object borrowed = n.send(1, 2, access::index(ref));
  CHECK(n[0].far.lose(1).empty());
  CHECK(n[0].objects() == 0);
  const std::vector<std::uint64_t> lost = n[2].far.lose(1);
  REQUIRE(lost.size() == 1);
  CHECK(far_entries::index(lost[0]) == borrowed.index());
  n[2].core().abort(borrowed.index());
  CHECK(cadre::owner_died(1, "it was killed").what() ==
        std::string(
            "[cadre.actor.620] an object is lost with rank 1 of another node, which had it: it was killed; make it "
            "anew, or get objects that are to outlive their rank before"));
}

TEST_CASE("A ref of another type than it is read as takes nothing", "[objects]") {
  nodes n(2);
  auto ref = n[0].store.put(ints{1});
  const object_loan l = n[0].far.lend(1, n[0].core(), access::index(ref));
  CHECK_THROWS_AS(n[1].far.borrow(0, l, n[1].core(), cadre::detail::label_of<std::string>()), cadre::wrong_object_type);
  ref = {};
  CHECK(n[0].objects() == 0);
  CHECK(n[1].objects() == 0);
}

TEST_CASE("A ref comes home too late for an object that was erased and has gone", "[objects]") {
  nodes n(2);
  auto ref = n[0].store.put(ints{1});
  object_loan l = n[0].far.lend(1, n[0].core(), access::index(ref));
  ++l.origin.generation;
  CHECK_THROWS_WITH(n[0].far.borrow(1, l, n[0].core(), cadre::detail::label_of<ints>()),
                    Catch::Contains("an object has gone while a ref to it came back from rank 1"));
}

TEST_CASE("An object that is to be made on another node is fetched once it is known where, if somebody wants it",
          "[objects]") {
  nodes n(2);
  const auto made = n[1].store.put(ints{5});
  const auto from_one = [&] { return n[1].far.lend(0, n[1].core(), access::index(made)); };
  for (const bool wanted : {false, true}) {
    auto promise = n[0].store.promise<ints>();
    auto ref = promise.ref();
    const std::uint64_t key = access::key(ref);
    n[0].far.expect(key);
    if (wanted) CHECK_FALSE(n[0].far.begin_fetch(key));
    CHECK(n[0].far.assign(1, from_one(), n[0].core(), cadre::detail::promise_access::release(std::move(promise))) ==
          wanted);
    REQUIRE(n[0].far.find(key));
    CHECK(n[0].far.find(key)->rank == 1);
    CHECK(n[0].far.find(key)->bytes == sizeof(int));
    ref = {};
    soon([&] { return n[0].objects() == 0; });
  }
  auto promise = n[0].store.promise<ints>();
  n[0].far.expect(access::key(promise.ref()));
  n[0].far.expect_no_more(access::key(promise.ref()));
  CHECK_FALSE(n[0].far.find(access::key(promise.ref())));
}

}  // namespace far_objects_test
