#include "catch.hpp"

#include <cadre/store/detail/labels.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace store_labels_test {

using cadre::detail::most_labels;
using cadre::detail::store_label;
using cadre::detail::store_labels;

/// As the memory of a store begins: all zero.
struct table {
  std::unique_ptr<store_label[]> memory = std::make_unique<store_label[]>(most_labels);
  store_labels labels{memory.get()};
};

/// Keys that all want to lie in the same place.
std::vector<std::uint64_t> colliding(std::size_t n) {
  std::vector<std::uint64_t> keys;
  const auto place = [](std::uint64_t key) { return std::uint32_t(cadre::hash_mix(key)) % most_labels; };
  for (std::uint64_t key = 1; keys.size() < n; key += 2)
    if (place(key) == most_labels - 3) keys.push_back(key);  // and at the end, so that the probes go round
  return keys;
}

}  // namespace store_labels_test

TEST_CASE("A text is found again by its key, and entered once", "[store][labels]") {
  using namespace store_labels_test;
  table t;
  CHECK(t.labels.find(5) == store_labels::full);
  const std::uint32_t label = t.labels.add(5, "train.cpp:88");
  CHECK(t.labels.find(5) == label);
  CHECK(t.labels.add(5, "another") == label);
  CHECK(t.labels.text(label) == "train.cpp:88");
  const std::uint32_t other = t.labels.add(7, "");
  CHECK(other != label);
  CHECK(t.labels.text(other).empty());
}

TEST_CASE("A key of 0 does not make its label look free", "[store][labels]") {
  using namespace store_labels_test;
  table t;
  const std::uint32_t label = t.labels.add(0, "text");
  CHECK(t.labels.find(0) == label);
  CHECK(t.labels.text(label) == "text");
}

TEST_CASE("A label that is not there reads as a question mark", "[store][labels]") {
  using namespace store_labels_test;
  table t;
  CHECK(t.labels.text(0) == "?");
  CHECK(t.labels.text(most_labels) == "?");
  CHECK(t.labels.text(store_labels::full) == "?");
  CHECK(t.labels.text(~std::uint32_t{0}) == "?");
}

TEST_CASE("A text that is too long is cut", "[store][labels]") {
  using namespace store_labels_test;
  table t;
  const std::string text(1000, 'x');
  CHECK(t.labels.text(t.labels.add(1, text)) == text.substr(0, sizeof(store_label::text) - 1));
  CHECK(t.labels.text(t.labels.add(3, text.substr(0, 247))) == text.substr(0, 247));
}

TEST_CASE("Keys that collide have labels of their own, and one too many is told so at once", "[store][labels]") {
  using namespace store_labels_test;
  table t;
  const std::vector<std::uint64_t> keys = colliding(70);
  std::size_t entered = 0;
  for (const std::uint64_t key : keys) entered += t.labels.add(key, std::to_string(key)) != store_labels::full;
  CHECK(entered == 64);
  for (std::size_t k = 0; k < keys.size(); ++k) {
    const std::uint32_t label = t.labels.find(keys[k]);
    CHECK(t.labels.text(label) == (k < 64 ? std::to_string(keys[k]) : "?"));
  }
}

TEST_CASE("More labels than there is room for end in question marks, not in a loop", "[store][labels]") {
  using namespace store_labels_test;
  table t;
  std::size_t entered = 0;
  for (std::uint64_t key = 1; key <= 3 * most_labels; ++key) {
    const std::uint32_t label = t.labels.add(2 * key, std::to_string(key));
    entered += label != store_labels::full;
    if (label != store_labels::full && t.labels.text(label) != std::to_string(key)) FAIL("another text");
  }
  CHECK(entered == most_labels);
  CHECK(t.labels.add(~std::uint64_t{0}, "one more") == store_labels::full);
  CHECK(t.labels.find(~std::uint64_t{0}) == store_labels::full);
}
