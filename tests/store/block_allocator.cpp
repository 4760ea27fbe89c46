#include "catch.hpp"

#include <cadre/core/random.hpp>
#include <cadre/core/units.hpp>
#include <cadre/store/detail/block_allocator.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <new>
#include <utility>
#include <vector>

namespace block_allocator_test {

using namespace cadre::literals;
using cadre::detail::block_allocator;
constexpr std::uint64_t none = block_allocator::none;

// A state of zeros, of which only what is touched takes memory; with a file, one that others map too.
struct state {
  explicit state(std::uint64_t arena, int file = -1)
      : bytes(block_allocator::state_bytes(arena)),
        at(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                  file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED, file, 0)) {
    if (at == MAP_FAILED) throw std::bad_alloc();
    ::madvise(at, bytes, MADV_NOHUGEPAGE);
  }
  state(const state&) = delete;
  state& operator=(const state&) = delete;
  ~state() { ::munmap(at, bytes); }

  std::byte* data() const { return static_cast<std::byte*>(at); }
  void fill_with_noise(std::uint64_t seed) const {
    cadre::random_stream random{seed, "noise"};
    for (std::size_t i = 0; i + sizeof(std::uint64_t) <= bytes; i += sizeof(std::uint64_t)) {
      const std::uint64_t word = random();
      std::memcpy(data() + i, &word, sizeof word);
    }
  }
  std::size_t resident() const {
    std::vector<unsigned char> pages((bytes + 4095) / 4096);
    if (::mincore(at, bytes, pages.data()) != 0) throw std::bad_alloc();
    return 4096 * static_cast<std::size_t>(std::count_if(pages.begin(), pages.end(), [](auto p) { return p & 1; }));
  }

  std::size_t bytes;
  void* at;
};

// As many of each order of magnitude.
std::uint64_t log_uniform(cadre::random_stream& random, double low, double high) {
  return static_cast<std::uint64_t>(std::exp(random.uniform(std::log(low), std::log(high))));
}

struct block {
  std::uint64_t offset;
  std::uint64_t bytes;
};

// The live blocks beside the allocator; each call checks what must be true of any.
class checked {
 public:
  explicit checked(block_allocator a) : a_(a) {}

  bool allocate(std::uint64_t bytes) {
    const std::uint64_t offset = a_.allocate(bytes);
    if (offset == none) return false;
    const std::uint64_t size = block_allocator::size_of(bytes);
    REQUIRE(size >= bytes);
    REQUIRE(offset % (bytes > 8192 ? 4096 : 64) == 0);
    REQUIRE(size <= a_.capacity());
    REQUIRE(offset <= a_.capacity() - size);
    const auto right = ends_.lower_bound(offset);
    if (right != ends_.end()) REQUIRE(offset + size <= right->first);
    if (right != ends_.begin()) REQUIRE(std::prev(right)->second <= offset);
    ends_.emplace_hint(right, offset, offset + size);
    live_.push_back({offset, bytes});
    used_ += size;
    REQUIRE(a_.used() == used_);
    return true;
  }

  void free(std::size_t i) {
    std::swap(live_[i], live_.back());
    const block b = live_.back();
    live_.pop_back();
    ends_.erase(b.offset);
    used_ -= block_allocator::size_of(b.bytes);
    const std::uint64_t free_before = a_.free_in_runs();
    const block_allocator::extent e = a_.free(b.offset, b.bytes);
    REQUIRE(a_.used() == used_);
    REQUIRE((e.bytes != 0) == (a_.free_in_runs() != free_before));
    if (e.bytes == 0) return;
    REQUIRE(e.offset <= b.offset);
    REQUIRE(b.offset + block_allocator::size_of(b.bytes) <= e.offset + e.bytes);
    const auto right = ends_.lower_bound(e.offset);
    if (right != ends_.end()) REQUIRE(e.offset + e.bytes <= right->first);
    if (right != ends_.begin()) REQUIRE(std::prev(right)->second <= e.offset);
  }

  void rebuild(cadre::random_stream& random) {
    for (std::size_t i = live_.size(); i > 1; --i) std::swap(live_[i - 1], live_[random.below(i)]);
    a_.begin_rebuild();
    for (const block& b : live_) a_.keep(b.offset, b.bytes);
    a_.end_rebuild();
    REQUIRE(a_.used() == used_);
  }

  void free_all() {
    while (!live_.empty()) free(live_.size() - 1);
    REQUIRE(a_.used() == 0);
    REQUIRE(a_.largest_free() == a_.capacity());
    REQUIRE(a_.free_in_runs() == a_.capacity());
    REQUIRE(a_.allocate(a_.capacity()) == 0);
    static_cast<void>(a_.free(0, a_.capacity()));
  }

  // Comes and goes, fuller and emptier by turns.
  void live_on(cadre::random_stream& random, int steps, double largest) {
    for (int step = 0; step < steps; ++step) {
      if (live_.empty() || random.bernoulli(step / 1000 % 2 == 0 ? 0.7 : 0.35))
        allocate(random.bernoulli(0.01) ? 0 : log_uniform(random, 1, largest));
      else
        free(random.below(live_.size()));
    }
  }

  block_allocator& allocator() { return a_; }
  const std::vector<block>& live() const { return live_; }

 private:
  block_allocator a_;
  std::map<std::uint64_t, std::uint64_t> ends_;  // by offset
  std::vector<block> live_;
  std::uint64_t used_ = 0;
};

}  // namespace block_allocator_test

TEST_CASE("sizes of blocks have four steps per doubling and waste little", "[block_allocator]") {
  using block_allocator_test::block_allocator;
  std::vector<std::uint64_t> sizes;
  for (std::uint64_t bytes = 0; bytes <= 8192; ++bytes) {
    const std::uint64_t size = block_allocator::size_of(bytes);
    REQUIRE(size >= bytes);
    REQUIRE(size < bytes + std::max<std::uint64_t>(bytes / 4, 64) + (bytes == 0 ? 1 : 0));
    if (sizes.empty() || sizes.back() != size) sizes.push_back(size);
  }
  CHECK(sizes == std::vector<std::uint64_t>{64,   128,  192,  256,  320,  384,  448,  512,  640,  768,  896,  1024,
                                            1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192});
  CHECK(block_allocator::size_of(8193) == 12288);
  CHECK(block_allocator::size_of(12288) == 12288);
  CHECK(block_allocator::size_of((1 << 20) + 1) == (1 << 20) + 4096);
}

TEST_CASE("blocks do not overlap, are aligned, and what is used is known exactly", "[block_allocator]") {
  using namespace block_allocator_test;
  for (const std::uint64_t arena : {2_MiB, 6_MiB, 64_MiB}) {
    const state s{arena};
    checked c{{s.data(), arena}};
    c.allocator().format();
    REQUIRE(c.allocator().capacity() == arena);
    cadre::random_stream random{1, arena};
    for (const double largest : {200.0, 10e3, 2e6}) {
      c.live_on(random, 10'000, largest);
      c.free_all();
    }
  }
}

TEST_CASE("a slab holds as many blocks as go into 64 KiB, of every size", "[block_allocator]") {
  using namespace block_allocator_test;
  const state s{2_MiB};
  checked c{{s.data(), 2_MiB}};
  block_allocator& a = c.allocator();
  a.format();
  std::uint64_t size = 0;
  for (std::uint64_t bytes = 1; bytes <= 8192; bytes = size + 1) {
    size = block_allocator::size_of(bytes);
    for (std::uint64_t i = 0; i < 65536 / size; ++i) REQUIRE(c.allocate(bytes));
    CHECK(a.free_in_runs() == 2_MiB - 64_KiB);
    REQUIRE(c.allocate(bytes));
    CHECK(a.free_in_runs() == 2_MiB - 128_KiB);
    c.free_all();
  }
}

TEST_CASE("what is freed in a full slab is given out again, though the arena is full", "[block_allocator]") {
  using namespace block_allocator_test;
  const state s{2_MiB};
  for (const std::uint64_t bytes : {64u, 1024u, 1280u, 8192u}) {
    block_allocator a{s.data(), 2_MiB};
    a.format();
    std::vector<std::uint64_t> offsets;
    for (std::uint64_t o = a.allocate(bytes); o != none; o = a.allocate(bytes)) offsets.push_back(o);
    REQUIRE(offsets.size() == 32 * (64_KiB / bytes));
    cadre::random_stream random{8, bytes};
    for (int i = 0; i < 1000; ++i) {
      const std::uint64_t freed = offsets[random.below(offsets.size())];
      static_cast<void>(a.free(freed, bytes));
      CHECK(a.largest_free() == bytes);
      REQUIRE(a.allocate(bytes) == freed);
    }
  }
}

TEST_CASE("one empty slab of a size is kept, a second one goes back", "[block_allocator]") {
  using namespace block_allocator_test;
  const state s{2_MiB};
  block_allocator a{s.data(), 2_MiB};
  a.format();
  std::vector<std::uint64_t> offsets;
  for (int i = 0; i < 16; ++i) offsets.push_back(a.allocate(8192));
  std::sort(offsets.begin(), offsets.end());
  for (std::size_t i = 0; i < 15; ++i) REQUIRE(a.free(offsets[i], 8192).bytes == 0);
  const block_allocator::extent e = a.free(offsets[15], 8192);
  CHECK(e.offset == 64_KiB);
  CHECK(e.bytes == 2_MiB - 64_KiB);
  for (int i = 0; i < 10; ++i) {
    const std::uint64_t offset = a.allocate(8000);
    CHECK(offset < 64_KiB);
    CHECK(a.free(offset, 8000).bytes == 0);
    CHECK(a.free_in_runs() == 2_MiB - 64_KiB);
  }
}

TEST_CASE("empty slabs are in nobody's way", "[block_allocator]") {
  using namespace block_allocator_test;
  const state s{2_MiB};
  block_allocator a{s.data(), 2_MiB};
  a.format();
  const auto leave_spares = [&a] {
    for (std::uint64_t bytes = 64; bytes <= 8192; bytes += 64) static_cast<void>(a.free(a.allocate(bytes), bytes));
    REQUIRE(a.free_in_runs() == 2_MiB - 24 * 64_KiB);
  };
  leave_spares();
  CHECK(a.allocate(2_MiB) == 0);
  static_cast<void>(a.free(0, 2_MiB));
  leave_spares();
  CHECK(a.largest_free() == 2_MiB);
  leave_spares();
  for (std::uint64_t i = 0; i < 2_MiB / 64; ++i) REQUIRE(a.allocate(64) != none);
  CHECK(a.used() == 2_MiB);
  CHECK(a.allocate(64) == none);
}

TEST_CASE("a block that finds no room is refused and costs nothing", "[block_allocator]") {
  using namespace block_allocator_test;
  const state s{4_MiB};
  block_allocator a{s.data(), 4_MiB};
  a.format();
  CHECK(a.allocate(4_MiB + 1) == none);
  CHECK(a.allocate(~std::uint64_t{0}) == none);
  CHECK(a.allocate(std::uint64_t{1} << 44) == none);  // its granules are 0 in 32 bits
  CHECK(a.used() == 0);
  CHECK(a.allocate(4_MiB) == 0);
  CHECK(a.allocate(0) == none);
  CHECK(a.allocate(8192) == none);
  CHECK(a.allocate(8193) == none);
  CHECK(a.largest_free() == 0);
  CHECK(a.used() == 4_MiB);
}

TEST_CASE("the largest block that is said to fit does, and one more byte does not", "[block_allocator]") {
  using namespace block_allocator_test;
  for (const double largest : {300.0, 9e3, 100e3}) {
    const state s{2_MiB};
    checked c{{s.data(), 2_MiB}};
    block_allocator& a = c.allocator();
    a.format();
    cadre::random_stream random{3, static_cast<int>(largest)};
    for (int round = 0; round < 60; ++round) {
      for (int failed = 0; failed < 3;)  // full
        if (!c.allocate(log_uniform(random, 1, largest))) ++failed;
      for (std::uint64_t n = random.below(random.bernoulli(0.5) ? 4 : c.live().size()); n > 0 && !c.live().empty(); --n)
        c.free(random.below(c.live().size()));
      const std::uint64_t fits = a.largest_free();
      REQUIRE(a.allocate(fits + 1) == none);
      if (fits != 0) REQUIRE(c.allocate(fits));
    }
    c.free_all();
  }
}

TEST_CASE("an arena is rebuilt from its live blocks in any order, at any moment", "[block_allocator]") {
  using namespace block_allocator_test;
  for (const std::uint64_t arena : {2_MiB, 64_MiB}) {
    const state s{arena};
    checked c{{s.data(), arena}};
    c.allocator().format();
    cadre::random_stream random{4, arena};
    for (int round = 0; round < 60; ++round) {
      c.live_on(random, 1 + static_cast<int>(random.below(1500)), round % 3 == 0 ? 500 : 200e3);
      if (round % 4 == 3) s.fill_with_noise(static_cast<std::uint64_t>(round));
      c.rebuild(random);
      // Only slabs that hold something have been kept.
      const std::uint64_t largest = c.allocator().largest_free();
      c.rebuild(random);
      REQUIRE(c.allocator().largest_free() == largest);
      if (round % 10 == 9) c.free_all();
    }
    c.free_all();
    c.rebuild(random);
    REQUIRE(c.allocator().largest_free() == arena);
  }
}

TEST_CASE("a rebuilt arena has the room of the one before, but for empty slabs", "[block_allocator]") {
  using namespace block_allocator_test;
  const state s{64_MiB};
  checked c{{s.data(), 64_MiB}};
  c.allocator().format();
  cadre::random_stream random{5};
  c.live_on(random, 5'500, 100e3);
  const std::uint64_t largest = c.allocator().largest_free();
  const std::uint64_t free = c.allocator().free_in_runs();
  c.rebuild(random);
  CHECK(c.allocator().free_in_runs() == free);
  CHECK(c.allocator().largest_free() == largest);
}

TEST_CASE("format does not care what the state held before", "[block_allocator]") {
  using namespace block_allocator_test;
  const state s{16_MiB};
  checked c{{s.data(), 16_MiB}};
  for (const std::uint64_t seed : {1u, 2u, 3u, 4u}) {
    s.fill_with_noise(seed);
    c.allocator().format();
    CHECK(c.allocator().used() == 0);
    CHECK(c.allocator().largest_free() == 16_MiB);
    cadre::random_stream random{seed};
    c.live_on(random, 3000, 50e3);
    c.free_all();
  }
}

TEST_CASE("a state that is mapped at two addresses is one allocator", "[block_allocator]") {
  using namespace block_allocator_test;
  const int file = ::memfd_create("cadre-test", MFD_CLOEXEC);
  REQUIRE(file >= 0);
  REQUIRE(::ftruncate(file, static_cast<off_t>(block_allocator::state_bytes(8_MiB))) == 0);
  const state one{8_MiB, file};
  const state two{8_MiB, file};
  ::close(file);
  REQUIRE(one.data() != two.data());
  block_allocator views[] = {{one.data(), 8_MiB}, {two.data(), 8_MiB}};
  views[0].format();
  cadre::random_stream random{6};
  std::map<std::uint64_t, std::uint64_t> live;
  std::uint64_t used = 0;
  for (int step = 0; step < 20'000; ++step) {
    block_allocator& a = views[step % 2];
    if (live.empty() || random.bernoulli(0.55)) {
      const std::uint64_t bytes = log_uniform(random, 1, 50e3);
      const std::uint64_t offset = a.allocate(bytes);
      if (offset == none) continue;
      REQUIRE(live.emplace(offset, bytes).second);
      used += block_allocator::size_of(bytes);
    } else {
      auto it = live.lower_bound(random.below(8_MiB));
      if (it == live.end()) it = live.begin();
      static_cast<void>(a.free(it->first, it->second));
      used -= block_allocator::size_of(it->second);
      live.erase(it);
    }
    REQUIRE(views[0].used() == used);
    REQUIRE(views[1].used() == used);
  }
  for (const auto& [offset, bytes] : live) static_cast<void>(views[0].free(offset, bytes));
  CHECK(views[1].allocate(8_MiB) == 0);
}

TEST_CASE("the state for a TiB takes memory as it is used", "[block_allocator]") {
  using namespace block_allocator_test;
  const state s{1_TiB};
  block_allocator a{s.data(), 1_TiB};
  a.format();
  CHECK(s.bytes < 1_TiB / 150);
  CHECK(a.largest_free() == 1_TiB);
  std::vector<block> live;
  for (const std::uint64_t bytes : {64_GiB, 1_MiB, 64_KiB, 1_KiB})
    for (int i = 0; i < 10; ++i) live.push_back({a.allocate(bytes), bytes});
  CHECK(s.resident() < 1_MiB);
  a.begin_rebuild();
  for (const block& b : live) a.keep(b.offset, b.bytes);
  a.end_rebuild();
  CHECK(a.used() == 10 * (64_GiB + 1_MiB + 64_KiB + 1_KiB));
  for (const block& b : live) static_cast<void>(a.free(b.offset, b.bytes));
  CHECK(a.allocate(1_TiB) == 0);
  CHECK(s.resident() < 1_MiB);
}

TEST_CASE("after a million blocks of all sizes little of the arena is lost", "[block_allocator]") {
  using namespace block_allocator_test;
  const auto arena = 1_GiB;
  const state s{arena};
  block_allocator a{s.data(), arena};
  a.format();
  cadre::random_stream random{7};
  const auto draw = [&random] { return log_uniform(random, 64, 4 << 20); };
  std::vector<block> live;
  int refused = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const std::uint64_t bytes = draw();
    while (a.used() + bytes > arena / 5 * 4) {
      std::swap(live[random.below(live.size())], live.back());
      static_cast<void>(a.free(live.back().offset, live.back().bytes));
      live.pop_back();
    }
    const std::uint64_t offset = a.allocate(bytes);
    if (offset == none)
      ++refused;
    else
      live.push_back({offset, bytes});
  }
  CHECK(refused == 0);
  std::uint64_t bytes = draw();
  while (a.allocate(bytes) != none) bytes = draw();
  const double lost = 1 - static_cast<double>(a.used()) / static_cast<double>(arena);
  INFO("when " << bytes << " bytes did not fit, " << 100 * lost << " % was free");
  CHECK(lost < 0.15);
}
