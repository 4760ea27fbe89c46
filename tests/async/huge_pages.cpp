#include "catch.hpp"

#include <cadre/async/detail/huge_pages.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

TEST_CASE("a huge page is aligned to its size, and writable to its end", "[huge_pages]") {
  using cadre::detail::huge_pages;
  std::vector<void*> all;
  for (int i = 0; i < 12; ++i) {  // more than are kept
    all.push_back(huge_pages::take());
    CHECK(reinterpret_cast<std::uintptr_t>(all.back()) % huge_pages::size == 0);
    std::memset(all.back(), i, huge_pages::size);
  }
  for (int i = 0; i < 12; ++i) CHECK(static_cast<unsigned char*>(all[std::size_t(i)])[huge_pages::size - 1] == i);
  for (void* p : all) huge_pages::give(p);
}

TEST_CASE("growing memory gives pieces that are aligned and do not overlap", "[huge_pages]") {
  cadre::detail::growing_memory memory;
  std::vector<std::pair<unsigned char*, std::size_t>> all;
  for (std::size_t i = 0; i < 1000; ++i) {
    const std::size_t bytes = i % 3 == 0 ? cadre::detail::growing_memory::most_at_once : 1 + i * 29 % 5000;
    auto* const at = static_cast<unsigned char*>(memory.take(bytes));
    CHECK(reinterpret_cast<std::uintptr_t>(at) % 64 == 0);
    std::memset(at, static_cast<int>(i % 251), bytes);
    all.emplace_back(at, bytes);
  }
  std::size_t changed = 0;
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t k = 0; k < all[i].second; ++k) changed += all[i].first[k] != i % 251;
  CHECK(changed == 0);
}

TEST_CASE("what is in a block list stays where it is when the list grows", "[huge_pages]") {
  cadre::detail::growing_memory memory;
  cadre::detail::block_list<std::string*, 64> list;
  CHECK(list.size() == 0);
  std::vector<std::unique_ptr<std::string>> strings;
  std::vector<std::string**> places;
  for (std::uint32_t i = 0; i < 10'000; ++i) {
    strings.push_back(std::make_unique<std::string>(std::to_string(i)));
    places.push_back(&list.emplace_back(memory, strings.back().get()));
  }
  CHECK(list.size() == 10'000);
  bool same = true;
  for (std::uint32_t i = 0; i < list.size(); ++i) same &= &list[i] == places[i] && list[i] == strings[i].get();
  CHECK(same);
}
