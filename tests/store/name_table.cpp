#include "catch.hpp"

#include <cadre/store.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace name_table_test {

using cadre::object_ref;
using cadre::object_store;

TEST_CASE("Names of every length are found, those that lie in their entry and those that have a block") {
  object_store store = object_store::open({.capacity = 8 << 20});
  std::vector<std::string> names;
  for (std::size_t n = 1; n < 70; ++n) names.push_back(std::string(n, 'a'));
  names.push_back(std::string(4096, 'a'));
  for (std::size_t k = 0; k < names.size(); ++k) store.put(k, {.name = names[k]});
  for (std::size_t k = 0; k < names.size(); ++k) {
    const auto found = store.find<std::size_t>(names[k]);
    REQUIRE(found);
    const cadre::view<std::size_t> v = store.get(*found);
    CHECK(*v == k);
    CHECK_FALSE(store.contains(names[k] + "b"));
  }
  for (const std::string& name : names) CHECK(store.erase(name));
  CHECK(store.stats().used == 0);
}

TEST_CASE("Names are found however many there are, while others come and go") {
  object_store store = object_store::open({.capacity = 16 << 20, .max_objects = 1 << 14});
  const auto name = [](std::size_t k) {
    return (k % 2 == 0 ? "object " : "an object with a longer name: ") + std::to_string(k);
  };
  constexpr std::size_t n = 10'000;
  for (std::size_t k = 0; k < n; ++k) {
    store.put(k, {.name = name(k)});
    if (k % 3 == 0) REQUIRE(store.erase(name(k / 3 * 2)));
  }
  std::size_t there = 0;
  for (std::size_t k = 0; k < n; ++k) {
    const auto found = store.find<std::size_t>(name(k));
    const bool erased = k % 2 == 0 && k / 2 * 3 < n;
    REQUIRE(found.has_value() != erased);
    if (!found) continue;
    const cadre::view<std::size_t> v = store.get(*found);
    REQUIRE(*v == k);
    ++there;
  }
  CHECK(store.stats().objects == there);
}

TEST_CASE("Names are found after all was made anew, in as many buckets as before") {
  cadre::detail::arena memory = cadre::detail::arena::make(4 << 20, 4096);
  cadre::detail::object_table table(memory, 0);
  const auto name = [](std::size_t k) { return std::string(1 + k % 40, 'x') + std::to_string(k); };
  constexpr std::size_t n = 3000;
  memory.make_present(0, 4 << 20);
  std::vector<std::uint32_t> made;
  for (std::size_t k = 0; k < n; ++k) {
    const std::string text = name(k);
    cadre::detail::object_table::shortage missing{};
    made.push_back(table.create({.bytes = 64, .name = text}, missing));
    table.enter_name(made.back(), text);
  }
  const std::uint32_t buckets = memory.head().name_buckets;
  CHECK(buckets > 512);
  cadre::detail::rebuild(table);
  CHECK(memory.head().name_buckets == buckets);
  CHECK(memory.head().names == n);
  for (std::size_t k = 0; k < n; ++k) REQUIRE(table.names().find(name(k)) == made[k]);
}

}  // namespace name_table_test
