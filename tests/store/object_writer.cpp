#include "catch.hpp"
#include "text_of.hpp"

#include <cadre/store.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace object_writer_test {

using namespace std::chrono_literals;
using cadre::object_ref;
using cadre::object_store;
using cadre::object_writer;
using floats = std::vector<float>;

object_store small_store() { return object_store::open({.capacity = 8 << 20, .max_objects = 512, .put_timeout = 0ns}); }

static_assert(!std::is_copy_constructible_v<object_writer<floats>>);
static_assert(std::is_same_v<decltype(std::declval<const object_writer<floats>&>().span()), std::span<float>>);

/// A writer is used up by seal() and abort().
template <class W>
concept can_be_sealed_twice = requires(W& w) { w.seal(); };
static_assert(!can_be_sealed_twice<object_writer<floats>>);

template <class T>
std::size_t size_of(const cadre::view<T>& v) {
  return v->size();
}

}  // namespace object_writer_test

TEST_CASE("An object can be written where it will lie", "[store][object_writer]") {
  using namespace object_writer_test;
  object_store store = small_store();
  auto w = store.create<float>(1000);
  const std::span<float> to = w.span();
  REQUIRE(to.size() == 1000);
  CHECK(reinterpret_cast<std::uintptr_t>(to.data()) % 64 == 0);
  for (std::size_t k = 0; k < to.size(); ++k) to[k] = static_cast<float>(k);
  const object_ref<floats> ref = std::move(w).seal();
  const auto v = store.get(ref);
  CHECK(v->size() == 1000);
  CHECK((*v)[999] == 999);
  CHECK(static_cast<const void*>(v->data()) != to.data());  // of the mapping that is read only
  CHECK(store.stats().objects == 1);
}

TEST_CASE("An object of no elements can be created", "[store][object_writer]") {
  using namespace object_writer_test;
  object_store store = small_store();
  auto w = store.create<double>(0);
  CHECK(w.span().empty());
  const auto ref = std::move(w).seal();
  CHECK(size_of(store.get(ref)) == 0);
  CHECK(store.stats().used == 0);
  CHECK(store.stats().objects == 1);
}

TEST_CASE("An object of more elements than any store can have is refused, also where its size would overflow",
          "[store][object_writer]") {
  using namespace object_writer_test;
  object_store store = small_store();
  const auto asked = [&](std::size_t n) {
    return text_of<cadre::bad_store_option>([&] { static_cast<void>(store.create<double>(n)); });
  };
  CHECK_THAT(asked(~std::size_t{0}), ContainsSubstring("[cadre.store.308] an object of more than 2 TiB"));
  CHECK_THAT(asked((std::size_t{1} << 61) + 1), ContainsSubstring("[cadre.store.308]"));
}

TEST_CASE("Until it is sealed an object is not there, and who asks for it gets it when it is",
          "[store][object_writer]") {
  using namespace object_writer_test;
  object_store store = small_store();
  std::optional<object_writer<floats>> w(store.create<float>(3, {.name = "late"}));
  const object_ref<floats> ref = w->ref();
  CHECK_FALSE(store.contains(ref));
  CHECK_FALSE(store.contains("late"));
  CHECK_FALSE(store.try_get(ref).has_value());
  REQUIRE(store.find<floats>("late").has_value());
  CHECK(*store.find<floats>("late") == ref);

  float seen = 0;
  std::thread getter([&, mine = ref] {
    const auto v = store.get(mine);
    seen = (*v)[2];
  });
  w->span()[2] = 4;
  CHECK(std::move(*w).seal() == ref);
  getter.join();
  CHECK(seen == 4);
  CHECK(store.contains(ref));
  CHECK(store.contains("late"));
  CHECK(store.try_get(ref).has_value());
}

TEST_CASE("A ref that was taken from a writer holds the object when the writer's own is dropped",
          "[store][object_writer]") {
  using namespace object_writer_test;
  object_store store = small_store();
  auto w = store.create<float>(3);
  const object_ref<floats> ref = w.ref();
  static_cast<void>(std::move(w).seal());
  CHECK(size_of(store.get(ref)) == 3);
}

TEST_CASE("Who waits for an object that is given up is told so", "[store][object_writer]") {
  using namespace object_writer_test;
  object_store store = small_store();
  const bool by_abort = GENERATE(true, false);
  std::optional<object_writer<floats>> w(store.create<float>(3));
  object_ref<floats> ref = w->ref();
  std::string text;
  std::thread getter(
      [&, mine = ref] { text = text_of<cadre::object_gone>([&] { static_cast<void>(store.get(mine)); }); });
  if (by_abort)
    std::move(*w).abort();
  else
    w.reset();
  getter.join();
  CHECK_THAT(text, ContainsSubstring("[cadre.store.301] the object made at object_writer.cpp:"));
  CHECK_THAT(text, ContainsSubstring(" was given up by who wrote it"));
  CHECK_THROWS_AS(store.try_get(ref), cadre::object_gone);
  CHECK(store.stats().used == 0);
  CHECK(store.stats().objects == 1);  // the ref remembers why
  ref = {};
  CHECK(store.stats().objects == 0);
}

TEST_CASE("A writer that was moved from gives nothing up, and one that is assigned to gives up what it had",
          "[store][object_writer]") {
  using namespace object_writer_test;
  object_store store = small_store();
  std::optional<object_writer<floats>> a(store.create<float>(1));
  const auto first = a->ref();
  object_writer<floats> b(std::move(*a));
  a.reset();
  CHECK_FALSE(store.try_get(first).has_value());  // not sealed, not gone
  {
    object_writer<floats> c = store.create<float>(2);
    const auto second = c.ref();
    b = std::move(c);
    CHECK(b.span().size() == 2);
    CHECK(b.ref() == second);
  }
  CHECK_THROWS_AS(store.try_get(first), cadre::object_gone);
  const auto ref = std::move(b).seal();
  CHECK(size_of(store.get(ref)) == 2);
}

TEST_CASE("An object that is erased while it is written cannot be sealed", "[store][object_writer]") {
  using namespace object_writer_test;
  object_store store = small_store();
  {
    auto w = store.create<float>(3);
    store.erase(w.ref());
    const std::string text = text_of<cadre::object_gone>([&] { static_cast<void>(std::move(w).seal()); });
    CHECK_THAT(text, ContainsSubstring("[cadre.store.301] an object was erased while it was written"));
    CHECK(store.stats().objects == 1);
  }
  CHECK(store.stats().objects == 0);
  CHECK(store.stats().used == 0);
}

TEST_CASE("The memory of an object that is erased while it is written is nobody else's until its writer is done",
          "[store][object_writer]") {
  using namespace object_writer_test;
  object_store store = small_store();
  constexpr std::size_t n = 1 << 20;
  {
    auto w = store.create<unsigned char>(n);
    store.erase(w.ref());
    const auto other = store.put(std::vector<unsigned char>(n, 7));
    std::memset(w.span().data(), 9, n);  // its writer does not know yet
    const auto v = store.get(other);
    CHECK(std::all_of(v->begin(), v->end(), [](unsigned char c) { return c == 7; }));
    CHECK_THROWS_AS(std::move(w).seal(), cadre::object_gone);
  }
  CHECK(store.stats().used == 0);
  CHECK(store.stats().pinned == 0);
}

TEST_CASE("A writer may outlive the store's handle", "[store][object_writer]") {
  using namespace object_writer_test;
  std::optional<object_store> store(small_store());
  auto w = store->create<float>(3);
  auto given_up = store->create<float>(3);
  store.reset();
  w.span()[0] = 1;
  object_ref<floats> ref = std::move(w).seal();
  std::move(given_up).abort();
  CHECK(static_cast<bool>(ref));
}
