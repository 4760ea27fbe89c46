#include "catch.hpp"
#include "text_of.hpp"

#include <cadre/store.hpp>

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace object_ref_test {

using cadre::object_ref;
using cadre::object_store;
using ref = object_ref<std::vector<int>>;

object_store small_store() {
  return object_store::open({.capacity = 8 << 20, .max_objects = 512, .put_timeout = std::chrono::nanoseconds(0)});
}

static_assert(std::is_nothrow_default_constructible_v<ref>);
static_assert(std::is_nothrow_copy_constructible_v<ref>);
static_assert(std::is_nothrow_move_constructible_v<ref>);
static_assert(std::is_nothrow_swappable_v<ref>);
static_assert(!std::is_convertible_v<ref, bool>);
static_assert(!std::is_constructible_v<object_ref<std::string>, ref>);

}  // namespace object_ref_test

TEST_CASE("An object lives as long as its last ref", "[store][object_ref]") {
  using namespace object_ref_test;
  object_store store = small_store();
  ref a = store.put(std::vector<int>(100, 1));
  {
    const ref b = a;
    const ref c = std::move(a);
    CHECK(b == c);
    CHECK_FALSE(static_cast<bool>(a));
    CHECK(store.stats().objects == 1);
  }
  CHECK(store.stats().objects == 0);
  CHECK(store.stats().used == 0);
}

TEST_CASE("Refs are copied, moved, swapped and assigned like values", "[store][object_ref]") {
  using namespace object_ref_test;
  object_store store = small_store();
  ref a = store.put(std::vector<int>{1}), b = store.put(std::vector<int>{2});
  const ref was_a = a, was_b = b;
  CHECK(a != b);
  std::swap(a, b);
  CHECK(a == was_b);
  CHECK(b == was_a);

  ref& same = a;
  a = same;
  CHECK(a == was_b);
  a = std::move(same);
  CHECK(a == was_b);
  CHECK(static_cast<bool>(a));

  a = b;
  CHECK(a == was_a);
  a = ref();
  CHECK_FALSE(static_cast<bool>(a));
  CHECK(a == ref());
  CHECK(a != b);
  CHECK(store.stats().objects == 2);

  std::vector<ref> many(100, was_b);
  many.resize(1000, was_a);
  many.erase(many.begin(), many.begin() + 500);
  CHECK(many.back() == was_a);
  many.clear();
  CHECK(store.stats().objects == 2);
}

TEST_CASE("A ref is of one object: one with the same value is another one", "[store][object_ref]") {
  using namespace object_ref_test;
  object_store store = small_store();
  const ref a = store.put(std::vector<int>{1}), b = store.put(std::vector<int>{1});
  CHECK(a != b);
}

TEST_CASE("A ref that refers to nothing says so wherever it is used", "[store][object_ref]") {
  using namespace object_ref_test;
  object_store store = small_store();
  ref moved_from = store.put(std::vector<int>{1});
  const ref to = std::move(moved_from);
  const ref default_made;
  for (const ref* const empty : std::initializer_list<const ref*>{&moved_from, &default_made}) {
    const std::string expected =
        "[cadre.store.313] an object_ref that refers to nothing is used: it was default-made or moved from";
    CHECK(text_of<cadre::empty_object_ref>([&] { static_cast<void>(store.get(*empty)); }) == expected);
    CHECK(text_of<cadre::empty_object_ref>([&] { static_cast<void>(store.try_get(*empty)); }) == expected);
    CHECK(text_of<cadre::empty_object_ref>([&] { static_cast<void>(store.contains(*empty)); }) == expected);
    CHECK(text_of<cadre::empty_object_ref>([&] { store.erase(*empty); }) == expected);
    CHECK(text_of<cadre::empty_object_ref>([&] { store.wait(std::vector<ref>{to, *empty}, 1); }) == expected);
  }
}

TEST_CASE("A ref of another store is refused", "[store][object_ref]") {
  using namespace object_ref_test;
  object_store store = small_store(), other = small_store();
  const ref mine = store.put(std::vector<int>{1}), its = other.put(std::vector<int>{2});
  CHECK(mine != its);
  const std::string expected = "[cadre.store.308] a ref of another store is used";
  CHECK(text_of<cadre::bad_store_option>([&] { static_cast<void>(store.get(its)); }) == expected);
  CHECK(text_of<cadre::bad_store_option>([&] { static_cast<void>(store.try_get(its)); }) == expected);
  CHECK(text_of<cadre::bad_store_option>([&] { static_cast<void>(store.contains(its)); }) == expected);
  CHECK(text_of<cadre::bad_store_option>([&] { store.erase(its); }) == expected);
  CHECK(text_of<cadre::bad_store_option>([&] { store.wait(std::vector<ref>{its}, 0); }) == expected);

  object_store same = store;  // a handle of the same store
  const auto v = same.get(mine);
  CHECK((*v)[0] == 1);
}

TEST_CASE("Refs may outlive the store's handle and be dropped in other threads", "[store][object_ref]") {
  using namespace object_ref_test;
  std::vector<ref> refs;
  {
    object_store store = small_store();
    for (int k = 0; k < 100; ++k) refs.push_back(store.put(std::vector<int>(100, k)));
  }
  const std::vector<ref> copies = refs;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (std::size_t k = t; k < refs.size(); k += 4) refs[k] = ref();
    });
  for (std::thread& t : threads) t.join();
  CHECK(copies[0] != copies[1]);
}

TEST_CASE("Copies of a ref that threads make and drop at once are counted right", "[store][object_ref]") {
  using namespace object_ref_test;
  object_store store = small_store();
  std::optional<ref> a(store.put(std::vector<int>{5}));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([mine = *a, &store] {
      for (int round = 0; round < 1000; ++round) {
        const ref copy = mine;
        const auto v = store.get(copy);
        if ((*v)[0] != 5) throw std::logic_error("another object");
      }
    });
  a.reset();
  for (std::thread& t : threads) t.join();
  threads.clear();  // with what they captured
  CHECK(store.stats().objects == 0);
}
