#include "catch.hpp"

#include <cadre/store.hpp>

#include <cereal/types/map.hpp>
#include <cereal/types/string.hpp>
#include <cereal/types/vector.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace stored_test {
/// Trivially copyable, but with a format of its own.
struct counted {
  int n = 0;
};
}  // namespace stored_test

template <>
struct cadre::portable<stored_test::counted> {
  static void save(auto& archive, const stored_test::counted& c) { archive(c.n + 1); }
  static void load(auto& archive, stored_test::counted& c) { archive(c.n); }
};

namespace stored_test {

using cadre::object_ref;
using cadre::object_store;
using cadre::view;

object_store small_store() {
  return object_store::open({.capacity = 8 << 20, .max_objects = 512, .put_timeout = std::chrono::nanoseconds(0)});
}

struct pose {
  double x, y, z;
  std::int32_t id;
  bool operator==(const pose&) const = default;
};

/// A value that says no when it is read.
struct picky {
  std::string text;
  template <class Archive>
  void save(Archive& ar) const {
    ar(text);
  }
  template <class Archive>
  void load(Archive& ar) {
    ar(text);
    if (text == "bad") throw std::invalid_argument("picky");
  }
};

struct alignas(64) line {
  float values[16];
};
struct alignas(128) two_lines {
  float values[32];
};

bool is_aligned(const void* at) { return reinterpret_cast<std::uintptr_t>(at) % 64 == 0; }

template <class T>
concept can_be_put = requires(object_store s, const T& value) { s.put(value); };

template <class T, class Shown>
inline constexpr bool shows =
    std::is_same_v<typename view<T>::shown, Shown> && std::is_same_v<decltype(*std::declval<const view<T>&>()), Shown>;

static_assert(shows<std::vector<float>, std::span<const float>>);
static_assert(shows<std::array<int, 3>, std::span<const int>>);
static_assert(shows<std::string, std::string_view>);
static_assert(shows<pose, const pose&>);
static_assert(shows<double, const double&>);
static_assert(shows<std::vector<std::string>, const std::vector<std::string>&>);
static_assert(shows<std::map<std::string, int>, const std::map<std::string, int>&>);
static_assert(shows<counted, const counted&>);

template <class T>
using put_as = decltype(std::declval<object_store&>().put(std::declval<T>()));
static_assert(std::is_same_v<put_as<std::vector<float>>, object_ref<std::vector<float>>>);
static_assert(std::is_same_v<put_as<std::span<float>>, object_ref<std::vector<float>>>);
static_assert(std::is_same_v<put_as<std::span<const float, 4>>, object_ref<std::vector<float>>>);
static_assert(std::is_same_v<put_as<const std::array<int, 3>&>, object_ref<std::array<int, 3>>>);
static_assert(std::is_same_v<put_as<const char (&)[6]>, object_ref<std::string>>);
static_assert(std::is_same_v<put_as<const char*>, object_ref<std::string>>);
static_assert(std::is_same_v<put_as<std::string_view>, object_ref<std::string>>);
static_assert(std::is_same_v<put_as<std::string>, object_ref<std::string>>);
static_assert(std::is_same_v<put_as<pose>, object_ref<pose>>);

}  // namespace stored_test

TEST_CASE("Ranges of plain elements are seen in place as a span, whatever they were put as", "[store][stored]") {
  using namespace stored_test;
  object_store store = small_store();
  std::vector<int> numbers(1000);
  std::iota(numbers.begin(), numbers.end(), -500);
  const auto check = [&](const auto& range) {
    const auto ref = store.put(range);
    const auto v = store.get(ref);
    const std::span<const int> seen = *v;
    CHECK(std::vector<int>(seen.begin(), seen.end()) == std::vector<int>(std::begin(range), std::end(range)));
    CHECK(is_aligned(seen.data()));
    CHECK(v.bytes().size() == seen.size_bytes());
    CHECK(static_cast<const void*>(v.bytes().data()) == seen.data());
  };
  check(numbers);
  check(std::span<int>(numbers));
  check(std::span<const int>(numbers).subspan(1, 17));
  check(std::span<const int, 4>(numbers.data() + 3, 4));
  check(std::array<int, 3>{7, 8, 9});
  check(std::vector<int>{});
  check(std::span<const int>{});
  check(std::array<int, 0>{});
}

TEST_CASE("Elements may be structs, and arrays of arrays stay nested", "[store][stored]") {
  using namespace stored_test;
  object_store store = small_store();
  const auto poses = store.put(std::vector<pose>{{1, 2, 3, 4}, {5, 6, 7, 8}});
  const auto v = store.get(poses);
  CHECK(v->size() == 2);
  CHECK((*v)[1] == pose{5, 6, 7, 8});
  const auto points = store.put(std::vector<std::array<float, 3>>(5, {1, 2, 3}));
  const auto p = store.get(points);
  CHECK((*p)[4][2] == 3);
  const auto lines = store.put(std::vector<line>(3));
  const auto l = store.get(lines);
  CHECK(is_aligned(l->data()));
}

TEST_CASE("Elements that ask for more alignment than the store gives come back aligned all the same",
          "[store][stored]") {
  using namespace stored_test;
  static_assert(shows<std::vector<two_lines>, const std::vector<two_lines>&>);
  object_store store = small_store();
  std::vector<two_lines> lines(3);
  lines[2].values[31] = 4;
  const auto ref = store.put(lines);
  const auto v = store.get(ref);
  CHECK(reinterpret_cast<std::uintptr_t>(v->data()) % 128 == 0);
  CHECK((*v)[2].values[31] == 4);
}

TEST_CASE("Text is seen as a string_view, whatever it was put as", "[store][stored]") {
  using namespace stored_test;
  object_store store = small_store();
  const auto check = [&](const auto& text, std::string_view expected) {
    const object_ref<std::string> ref = store.put(text);
    const auto v = store.get(ref);
    CHECK(*v == expected);
    CHECK(v->size() == expected.size());
    CHECK(is_aligned(v->data()));
  };
  check("literal", "literal");
  check("", "");
  check(std::string_view("a view of a text").substr(2, 4), "view");
  check(std::string_view(), "");
  check(std::string(100'000, 'x'), std::string(100'000, 'x'));
  check(std::string(), "");
  check(std::string("with\0zero", 9), std::string_view("with\0zero", 9));
  const char* pointer = "pointer";
  check(pointer, "pointer");
}

TEST_CASE("Plain values are seen in place", "[store][stored]") {
  using namespace stored_test;
  object_store store = small_store();
  const auto number = store.put(2.5);
  const auto n = store.get(number);
  CHECK(*n == 2.5);
  CHECK(n.bytes().size() == sizeof(double));
  const pose p{1, 2, 3, 4};
  const auto ref = store.put(p);
  const auto v = store.get(ref);
  CHECK(*v == p);
  CHECK(v->id == 4);
  CHECK(static_cast<const void*>(&*v) == v.bytes().data());
  CHECK(is_aligned(&*v));
}

TEST_CASE("What is not contiguous is read from its bytes by get, once per view", "[store][stored]") {
  using namespace stored_test;
  object_store store = small_store();
  const std::vector<std::vector<float>> nested{{1, 2}, {}, {3}};
  const auto ref = store.put(nested);
  const auto a = store.get(ref);
  const auto b = store.get(ref);
  CHECK(*a == nested);
  CHECK(&*a == &*a);
  CHECK(&*a != &*b);
  CHECK(a.bytes().data() == b.bytes().data());

  const std::map<std::string, std::vector<int>> map{{"a", {1, 2}}, {"b", {}}};
  const auto m = store.get(store.put(map));
  CHECK(*m == map);
  CHECK(m->at("a").size() == 2);
  const auto empty = store.get(store.put(std::map<std::string, int>{}));
  CHECK(empty->empty());
  const auto flags = store.get(store.put(std::vector<bool>{true, false, true}));
  CHECK(*flags == std::vector<bool>{true, false, true});
}

TEST_CASE("A type with a format of its own is stored in that, though its bytes could be copied", "[store][stored]") {
  using namespace stored_test;
  object_store store = small_store();
  const auto ref = store.put(counted{7});
  const auto v = store.get(ref);
  CHECK(v->n == 8);  // save() adds one
}

TEST_CASE("A value that cannot be read leaves nothing pinned", "[store][stored]") {
  using namespace stored_test;
  object_store store = small_store();
  auto ref = store.put(picky{"bad"});
  CHECK_THROWS_AS(store.get(ref), std::invalid_argument);
  CHECK(store.stats().pinned == 0);
  ref = {};
  CHECK(store.stats().used == 0);
  const auto good = store.get(store.put(picky{"good"}));
  CHECK(good->text == "good");
}

TEST_CASE("What refers to memory elsewhere cannot be put", "[store][stored]") {
  using namespace stored_test;
  static_assert(can_be_put<std::vector<int>>);
  static_assert(!cadre::detail::stored_value<int*>);
  static_assert(!cadre::detail::stored_range<std::vector<int*>>);
  static_assert(!cadre::detail::stored_range<std::vector<std::string_view>>);
  static_assert(!cadre::detail::stored_value<std::pair<int, int*>>);
  SUCCEED();
}

TEST_CASE("Types of one name and different size, and ranges of different elements, are told apart", "[store][stored]") {
  using namespace stored_test;
  using cadre::detail::label_of;
  CHECK(label_of<pose>().text == "stored_test::pose of 32 bytes");
  CHECK(label_of<std::vector<float>>().key != label_of<std::vector<int>>().key);
  CHECK(label_of<std::vector<float>>().key != label_of<std::array<float, 4>>().key);
  CHECK(label_of<std::string>().key != label_of<std::vector<char>>().key);
  CHECK(label_of<pose>().key == label_of<pose>().key);
}
