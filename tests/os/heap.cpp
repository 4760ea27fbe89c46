#include "catch.hpp"
#include "in_child.hpp"
#include "sanitizers.hpp"

#include <cadre/os/heap.hpp>

#include <sys/resource.h>

#include <cstddef>
#include <cstdlib>
#include <vector>

namespace heap_test {

/// Pages that the system gave while forty blocks of a mebibyte were written and freed, ten times over.
long new_pages() {
  const auto all = [] {
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    return used.ru_minflt;
  };
  const auto round = [] {
    std::vector<std::vector<std::byte>> blocks;
    for (int i = 0; i < 40; ++i) blocks.emplace_back(std::size_t{1} << 20);
  };
  round();
  const long before = all();
  for (int i = 0; i < 10; ++i) round();
  return all() - before;
}

TEST_CASE("a heap that keeps what is free needs no new pages for the same once more", "[heap]") {
  if (with_sanitizer) return;  // which has a heap of its own
  for (const char* const name : {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"})
    ::unsetenv(name);
  const auto saved_most = [] {
    const long before = new_pages();
    cadre::keep_free_memory(std::size_t{64} << 20);
    return new_pages() < before / 4;
  };
  CHECK(in_child([&] { return saved_most() ? 0 : 1; }) == 0);
  // Whoever sets it decides.
  CHECK(in_child([&] {
          ::setenv("MALLOC_TRIM_THRESHOLD_", "131072", 1);
          return saved_most() ? 1 : 0;
        }) == 0);
}

}  // namespace heap_test
