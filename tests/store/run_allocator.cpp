#include "catch.hpp"

#include <cadre/core/random.hpp>
#include <cadre/store/detail/run_allocator.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <new>
#include <utility>
#include <vector>

namespace run_allocator_test {

using cadre::detail::run_allocator;
constexpr std::uint32_t none = run_allocator::none;

// A state of zeros, of which only what is touched takes memory.
struct state {
  explicit state(std::uint32_t granules)
      : bytes(run_allocator::state_bytes(granules)),
        at(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (at == MAP_FAILED) throw std::bad_alloc();
    ::madvise(at, bytes, MADV_NOHUGEPAGE);
  }
  state(const state&) = delete;
  state& operator=(const state&) = delete;
  ~state() { ::munmap(at, bytes); }

  std::byte* data() const { return static_cast<std::byte*>(at); }
  std::size_t resident() const {
    std::vector<unsigned char> pages((bytes + 4095) / 4096);
    if (::mincore(at, bytes, pages.data()) != 0) throw std::bad_alloc();
    return 4096 * static_cast<std::size_t>(std::count_if(pages.begin(), pages.end(), [](auto p) { return p & 1; }));
  }

  std::size_t bytes;
  void* at;
};

// What an allocator must agree with: the allocated runs, by their first granule.
struct model {
  explicit model(std::uint32_t granules) : size(granules) {}

  // False if it is not all free, or outside.
  bool add(std::uint32_t first, std::uint32_t n) {
    if (first >= size || n > size - first) return false;
    const auto right = allocated.lower_bound(first);
    if (right != allocated.end() && right->first < first + n) return false;
    if (right != allocated.begin() && std::prev(right)->first + std::prev(right)->second > first) return false;
    allocated.emplace_hint(right, first, n);
    used += n;
    return true;
  }
  // Returns the free run that it becomes a part of.
  std::pair<std::uint32_t, std::uint32_t> remove(std::uint32_t first) {
    const auto it = allocated.find(first);
    used -= it->second;
    const auto right = allocated.erase(it);
    const std::uint32_t end = right == allocated.end() ? size : right->first;
    const std::uint32_t begin = right == allocated.begin() ? 0 : std::prev(right)->first + std::prev(right)->second;
    return {begin, end - begin};
  }
  // Of the free runs with `n` granules at a multiple of `alignment`.
  bool has(std::uint32_t n, std::uint32_t alignment) const {
    return any_free([&](std::uint32_t first, std::uint32_t end) {
      first = (first + alignment - 1) / alignment * alignment;
      return first + std::uint64_t{n} <= end;
    });
  }
  std::uint32_t largest_free() const {
    std::uint32_t largest = 0;
    static_cast<void>(any_free([&](std::uint32_t first, std::uint32_t end) {
      largest = std::max(largest, end - first);
      return false;
    }));
    return largest;
  }
  template <class Test>
  bool any_free(Test test) const {
    std::uint32_t first = 0;
    for (const auto& [next, n] : allocated) {
      if (first != next && test(first, next)) return true;
      first = next + n;
    }
    return first != size && test(first, size);
  }

  std::uint32_t size;
  std::uint32_t used = 0;
  std::map<std::uint32_t, std::uint32_t> allocated;
};

// Lets `a`, in which everything is free, and a model live through the same.
void compare(run_allocator& a, cadre::random_stream random, int steps, bool rebuild = false) {
  model m{a.granules()};
  std::vector<std::uint32_t> firsts;
  for (int step = 0; step < steps; ++step) {
    // Fuller and emptier by turns, so that both ends are reached.
    if (firsts.empty() || random.bernoulli(step / 500 % 2 == 0 ? 0.7 : 0.35)) {
      const auto n = static_cast<std::uint32_t>(1 + random.below(std::uint64_t{1} << random.below(9)));
      const auto alignment = random.bernoulli(0.3) ? 1u << random.below(6) : 1u;
      const std::uint32_t first = a.allocate(n, alignment);
      if (first == none) {
        REQUIRE_FALSE(m.has(n, alignment));
        continue;
      }
      REQUIRE(first % alignment == 0);
      REQUIRE(m.add(first, n));
      firsts.push_back(first);
    } else {
      std::swap(firsts[random.below(firsts.size())], firsts.back());
      const run_allocator::run free = a.free(firsts.back());
      REQUIRE(std::pair{free.first, free.count} == m.remove(firsts.back()));
      firsts.pop_back();
    }
    REQUIRE(a.free_granules() == m.size - m.used);
    REQUIRE(a.largest_free() == m.largest_free());
    if (rebuild && step % 100 == 99) {
      for (std::size_t i = firsts.size(); i > 1; --i) std::swap(firsts[i - 1], firsts[random.below(i)]);
      a.begin_rebuild();
      for (const std::uint32_t first : firsts) a.keep(first, m.allocated.at(first));
      a.end_rebuild();
      REQUIRE(a.free_granules() == m.size - m.used);
      REQUIRE(a.largest_free() == m.largest_free());
    }
  }
  for (const std::uint32_t first : firsts) static_cast<void>(a.free(first));
  REQUIRE(a.free_granules() == a.granules());
  REQUIRE(a.allocate(a.granules()) == 0);
}

void fill_with_noise(const state& s, std::uint64_t seed) {
  cadre::random_stream random{seed, "noise"};
  for (std::size_t i = 0; i + sizeof(std::uint64_t) <= s.bytes; i += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(s.data() + i, &word, sizeof word);
  }
}

}  // namespace run_allocator_test

TEST_CASE("runs do not overlap, lie where alignment wants them, and are found if there is room", "[run_allocator]") {
  using namespace run_allocator_test;
  for (const std::uint32_t granules : {1u, 2u, 15u, 64u, 1000u, 4096u}) {
    const state s{granules};
    run_allocator a{s.data(), granules};
    a.format();
    compare(a, cadre::random_stream{1, granules}, 20'000);
  }
}

TEST_CASE("freed neighbours become one run, which is told to who frees", "[run_allocator]") {
  using namespace run_allocator_test;
  const state s{100};
  run_allocator a{s.data(), 100};
  a.format();
  std::vector<std::uint32_t> firsts;
  for (int i = 0; i < 5; ++i) firsts.push_back(a.allocate(20));
  std::sort(firsts.begin(), firsts.end());
  REQUIRE(firsts == std::vector<std::uint32_t>{0, 20, 40, 60, 80});
  const auto freed = [&](std::uint32_t first) {
    const run_allocator::run r = a.free(first);
    return std::pair{r.first, r.count};
  };
  CHECK(freed(20) == std::pair{20u, 20u});
  CHECK(freed(60) == std::pair{60u, 20u});
  CHECK(freed(40) == std::pair{20u, 60u});
  CHECK(a.largest_free() == 60);
  CHECK(freed(0) == std::pair{0u, 80u});
  CHECK(freed(80) == std::pair{0u, 100u});
}

TEST_CASE("an allocation that nothing can hold fails and changes nothing", "[run_allocator]") {
  using namespace run_allocator_test;
  const state s{64};
  run_allocator a{s.data(), 64};
  a.format();
  CHECK(a.allocate(65) == none);
  CHECK(a.allocate(1, 128) == 0);
  CHECK(a.allocate(1, 128) == none);
  CHECK(a.allocate(64) == none);
  CHECK(a.free_granules() == 63);
  CHECK(a.allocate(63) == 1);
  CHECK(a.allocate(1) == none);
  CHECK(a.largest_free() == 0);
}

TEST_CASE("what lies before and behind an aligned run stays free", "[run_allocator]") {
  using namespace run_allocator_test;
  const state s{256};
  run_allocator a{s.data(), 256};
  a.format();
  const std::uint32_t one = a.allocate(1);
  const std::uint32_t aligned = a.allocate(16, 16);
  CHECK(one == 0);
  CHECK(aligned == 16);
  CHECK(a.free_granules() == 256 - 17);
  CHECK(a.allocate(15) == 1);
  CHECK(a.allocate(256 - 32) == 32);
}

TEST_CASE("a run is found among many a little too small, at the end of their list too", "[run_allocator]") {
  using namespace run_allocator_test;
  const state s{8192};
  run_allocator a{s.data(), 8192};
  a.format();
  // 512 .. 543 granules share a bin; one in the middle has 543, the rest 512, each behind a run that stays.
  std::vector<std::uint32_t> firsts;
  for (int i = 0; i < 15; ++i) {
    firsts.push_back(a.allocate(i == 0 ? 543 : 512));
    REQUIRE(a.allocate(1) != none);
  }
  REQUIRE(a.allocate(a.largest_free()) != none);
  for (const std::uint32_t first : firsts) static_cast<void>(a.free(first));
  CHECK(a.largest_free() == 543);
  CHECK(a.allocate(544) == none);
  CHECK(a.allocate(543) == firsts[0]);
  CHECK(a.largest_free() == 512);
}

TEST_CASE("an allocator is rebuilt from its runs in any order, and is as good as before", "[run_allocator]") {
  using namespace run_allocator_test;
  for (const std::uint32_t granules : {64u, 4096u, 100'000u}) {  // the last one is more than a page of bits
    const state s{granules};
    run_allocator a{s.data(), granules};
    a.format();
    compare(a, cadre::random_stream{2, granules}, 20'000, true);
  }
}

TEST_CASE("a run is known to be kept only in the rebuild in which it is", "[run_allocator]") {
  using namespace run_allocator_test;
  const state s{100'000};
  run_allocator a{s.data(), 100'000};
  a.begin_rebuild();
  CHECK_FALSE(a.kept(70'000));
  a.keep(70'000, 16);
  CHECK(a.kept(70'000));
  CHECK_FALSE(a.kept(70'001));
  CHECK_FALSE(a.kept(10));
  a.end_rebuild();
  CHECK(a.free_granules() == 100'000 - 16);
  CHECK(a.largest_free() == 70'000);
  a.begin_rebuild();
  CHECK_FALSE(a.kept(70'000));
  a.end_rebuild();
  CHECK(a.largest_free() == 100'000);
}

TEST_CASE("neither format nor a rebuild cares what the state held before", "[run_allocator]") {
  using namespace run_allocator_test;
  constexpr std::uint32_t granules = 40'000;
  const state s{granules};
  run_allocator a{s.data(), granules};
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    fill_with_noise(s, seed);
    a.format();
    CHECK(a.free_granules() == granules);
    compare(a, cadre::random_stream{seed, "formatted"}, 1000, true);
    fill_with_noise(s, seed + 10);
    a.begin_rebuild();
    a.keep(39'999, 1);
    a.keep(100, 30'000);
    a.end_rebuild();
    CHECK(a.largest_free() == 39'999 - 30'100);
    CHECK(a.free(100).count == 39'999);
    CHECK(a.free(39'999).count == granules);
    compare(a, cadre::random_stream{seed, "rebuilt"}, 1000);
  }
}

TEST_CASE("of the state for a TiB only what is used takes memory", "[run_allocator]") {
  using namespace run_allocator_test;
  const state s{run_allocator::most_granules};
  run_allocator a{s.data(), run_allocator::most_granules};
  a.format();
  CHECK(a.largest_free() == run_allocator::most_granules);
  std::vector<std::uint32_t> firsts;
  for (int i = 0; i < 1000; ++i) firsts.push_back(a.allocate(256));  // of 1 MiB
  for (const std::uint32_t first : firsts) REQUIRE(first != none);
  a.begin_rebuild();
  for (const std::uint32_t first : firsts) a.keep(first, 256);
  a.end_rebuild();
  CHECK(a.free_granules() == run_allocator::most_granules - 256'000);
  for (const std::uint32_t first : firsts) static_cast<void>(a.free(first));
  CHECK(a.allocate(run_allocator::most_granules) == 0);
  CHECK(s.resident() < 4 << 20);
}
