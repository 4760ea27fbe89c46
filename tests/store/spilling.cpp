#include "catch.hpp"
#include "in_child.hpp"
#include "sanitizers.hpp"
#include "store/flip.hpp"
#include "store/same_bytes.hpp"

#include <cadre/observe/metrics.hpp>
#include <cadre/store.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace spilling_test {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using bytes = std::vector<std::uint8_t>;
using ref = cadre::object_ref<bytes>;

constexpr std::size_t KiB = 1024, MiB = 1024 * KiB;

class folder {
 public:
  folder() {
    std::string name = (fs::temp_directory_path() / "cadre-spilling-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~folder() { fs::remove_all(path_); }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  [[nodiscard]] std::string path() const { return path_.string(); }
  /// The files of spilled objects, in whatever folder of a job.
  [[nodiscard]] std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(path_))
      if (entry.path().extension() == ".spill") found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found;
  }
  [[nodiscard]] std::uint64_t size() const {
    std::uint64_t n = 0;
    for (const fs::path& file : files()) n += fs::file_size(file);
    return n;
  }
  [[nodiscard]] bool empty() const { return fs::is_empty(path_); }

 private:
  fs::path path_;
};

/// Other bytes for each number.
bytes content(std::size_t size, std::uint64_t number) {
  bytes b(size);
  unsigned char* const out = b.data();
  std::uint64_t x = number * 0x9E3779B97F4A7C15 + 1;
  const auto next = [&] { return x ^= x << 13, x ^= x >> 7, x ^= x << 17; };
  std::size_t k = 0;
  for (; k + 8 <= size; k += 8) next(), std::memcpy(out + k, &x, 8);
  if (k < size) next(), std::memcpy(out + k, &x, size - k);
  return b;
}
bool has(cadre::object_store& store, const ref& r, std::size_t size, std::uint64_t number) {
  const cadre::view<bytes> v = store.get(r);
  return same_bytes(*v, content(size, number));
}
/// All files that were seen in a folder. They are held open, so that no later one gets the inode of one of them.
class seen_files {
 public:
  void look(const folder& dir) {
    for (const fs::path& path : dir.files()) {
      cadre::file_descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      REQUIRE(file);
      const std::uint64_t inode = status_of(file).st_ino;
      files_.try_emplace(inode, std::move(file));
    }
  }
  [[nodiscard]] std::size_t count() const { return files_.size(); }

 private:
  static struct stat status_of(const cadre::file_descriptor& file) {
    struct stat status {};
    REQUIRE(::fstat(file.get(), &status) == 0);
    return status;
  }
  std::map<std::uint64_t, cadre::file_descriptor> files_;
};
bool on_disk(cadre::object_store& store, const ref& r) { return !store.try_get(r); }

cadre::object_store open(const folder& dir, std::size_t capacity = 8 * MiB, std::chrono::nanoseconds timeout = 10s,
                         const std::string& name = "") {
  return cadre::object_store::open(
      {.name = name, .capacity = capacity, .spill_dir = dir.path(), .max_objects = 4096, .put_timeout = timeout});
}
std::vector<ref> put_many(cadre::object_store& store, std::size_t n, std::size_t size, std::uint64_t first = 0) {
  std::vector<ref> refs;
  for (std::size_t k = 0; k < n; ++k) refs.push_back(store.put(content(size, first + k)));
  return refs;
}
std::string unique_name(const char* what) { return "cadre-test-" + std::to_string(::getpid()) + what; }

TEST_CASE("Objects that find no room go to disk and come back with the same bytes") {
  folder dir;
  {
    auto store = open(dir);
    const std::vector<ref> refs = put_many(store, 40, MiB - 5);
    CHECK(store.stats().spilled >= 32 * (MiB - 5));
    CHECK(store.stats().used <= 8 * MiB);
    CHECK(dir.size() >= 32 * MiB);
    for (int round = 0; round < 2; ++round)
      for (std::size_t k = 0; k < refs.size(); ++k) CHECK(has(store, refs[k], MiB - 5, k));
    CHECK(store.stats().objects == 40);
  }
  CHECK(dir.empty());
}

TEST_CASE("Small objects go to disk many at once, and each comes back") {
  folder dir;
  auto store = cadre::object_store::open({.capacity = 4 * MiB, .spill_dir = dir.path(), .max_objects = 1 << 15});
  const cadre::counter& spilled = cadre::metrics().counter("cadre_store_spilled_bytes_total");
  constexpr std::size_t n = 16'000, size = 1000;
  std::vector<ref> refs;
  int times = 0;
  for (std::size_t k = 0; k < n; ++k) {
    const std::uint64_t before = spilled.value();
    refs.push_back(store.put(content(size, k)));
    times += spilled.value() != before;
  }
  CHECK(times > 10);
  CHECK(times <= 400);  // each time is a look at all objects
  CHECK(store.stats().spilled >= (n - 4096) * size);
  for (std::size_t k = 0; k < n; k += 7) REQUIRE(has(store, refs[k], size, k));
}

TEST_CASE("Objects of all sizes and kinds go to disk and come back") {
  folder dir;
  auto store = open(dir);
  const std::vector<std::size_t> sizes{0, 1, 64, 4047, 4048, 4049, 8192, 8193, 70'001, 500'000, 2 * MiB + 3};
  std::vector<ref> refs;
  for (const std::size_t size : sizes) refs.push_back(store.put(content(size, size)));
  const auto text = store.put(std::string(5000, 'x'));
  const auto words = store.put(std::vector<std::string>{"a", std::string(3000, 'b'), ""});
  const auto number = store.put(42.5);
  store.put(content(8 * MiB, 1));
  CHECK(store.stats().spilled > 2 * MiB);
  CHECK_FALSE(store.try_get(text));
  for (std::size_t k = 0; k < sizes.size(); ++k) CHECK(has(store, refs[k], sizes[k], sizes[k]));
  const auto v = store.get(words);
  CHECK((*v)[1] == std::string(3000, 'b'));
  const auto t = store.get(text);
  CHECK(*t == std::string(5000, 'x'));
  const auto n = store.get(number);
  CHECK(*n == 42.5);
}

TEST_CASE("What was not used for longest goes to disk first") {
  folder dir;
  auto store = open(dir);
  const std::vector<ref> refs = put_many(store, 8, MiB);
  static_cast<void>(store.get(refs[0]));
  static_cast<void>(store.get(refs[2]));
  const std::vector<ref> more = put_many(store, 2, MiB, 8);
  CHECK(on_disk(store, refs[1]));
  CHECK(on_disk(store, refs[3]));
  for (const std::size_t k : {0u, 2u, 4u, 5u, 6u, 7u}) CHECK_FALSE(on_disk(store, refs[k]));
}

TEST_CASE("What is looked at never goes to disk, and keeps its place") {
  folder dir;
  auto store = open(dir);
  const std::vector<ref> refs = put_many(store, 8, MiB);
  std::optional<cadre::view<bytes>> seen = store.get(refs[0]);
  const std::uint8_t* const place = (**seen).data();
  const std::vector<ref> more = put_many(store, 20, MiB, 8);
  CHECK_FALSE(on_disk(store, refs[0]));
  CHECK((**seen).data() == place);
  std::optional<cadre::view<bytes>> again = store.try_get(refs[0]);
  REQUIRE(again);
  CHECK((**again).data() == place);
  const bytes expected = content(MiB, 0);
  CHECK(std::equal(expected.begin(), expected.end(), place));
  seen.reset();
  again.reset();
  const std::vector<ref> yet_more = put_many(store, 8, MiB, 28);
  CHECK(on_disk(store, refs[0]));
  CHECK(has(store, refs[0], MiB, 0));
}

TEST_CASE("Evictable objects are dropped before others go to disk, and are not written") {
  folder dir;
  auto store = open(dir);
  std::vector<ref> kept = put_many(store, 4, MiB), evictable;
  for (std::size_t k = 0; k < 4; ++k) evictable.push_back(store.put(content(MiB, 100 + k), {.evictable = true}));
  const std::vector<ref> more = put_many(store, 4, MiB, 4);
  CHECK(dir.files().empty());
  CHECK(store.stats().spilled == 0);
  for (const ref& r : evictable) {
    CHECK_FALSE(store.contains(r));
    CHECK_THROWS_WITH(store.get(r), ContainsSubstring("[cadre.store.301] the object made at spilling.cpp:") &&
                                        ContainsSubstring(" was dropped for lack of memory (it was put as evictable); "
                                                          "make it again"));
  }
  for (std::size_t k = 0; k < 4; ++k) CHECK_FALSE(on_disk(store, kept[k]));
}

TEST_CASE("An object that has been on disk once is not written again") {
  folder dir;
  auto store = open(dir);
  const std::vector<ref> refs = put_many(store, 16, MiB);
  for (std::size_t k = 0; k < refs.size(); ++k) CHECK(has(store, refs[k], MiB, k));
  const std::uint64_t all = dir.size();
  CHECK(all >= 16 * MiB);
  for (int round = 0; round < 3; ++round)
    for (std::size_t k = 0; k < refs.size(); ++k) CHECK(has(store, refs[k], MiB, k));
  CHECK(dir.size() == all);
}

TEST_CASE("A put that needs more than can go to disk says who holds it, when its time is over") {
  folder dir;
  auto store = open(dir, 8 * MiB, 20ms);
  const std::vector<ref> refs = put_many(store, 8, MiB);
  std::vector<cadre::view<bytes>> views;
  for (std::size_t k = 0; k < 6; ++k) views.push_back(store.get(refs[k]));
  const auto began = std::chrono::steady_clock::now();
  CHECK_THROWS_WITH(store.put(content(3 * MiB, 99)),
                    ContainsSubstring("[cadre.store.302] store full: asked 3.0 MiB, ") &&
                        ContainsSubstring("; held by process " + std::to_string(::getpid()) + ": ") &&
                        ContainsSubstring("pinned, the largest made at spilling.cpp:"));
  CHECK(std::chrono::steady_clock::now() - began >= 20ms);
  CHECK_THROWS_WITH(store.put(content(9 * MiB, 99)), "[cadre.store.302] store full: asked 9.0 MiB, " +
                                                         std::string(store.stats().used == 6 * MiB ? "2.0" : "0") +
                                                         (store.stats().used == 6 * MiB ? " MiB" : " bytes") +
                                                         " free of 8.0 MiB; open it with a larger .capacity");
  views.clear();
  CHECK(has(store, store.put(content(3 * MiB, 99)), 3 * MiB, 99));
  for (std::size_t k = 0; k < refs.size(); ++k) CHECK(has(store, refs[k], MiB, k));
}

TEST_CASE("A spilled object whose restore finds no room stays on disk") {
  folder dir;
  auto store = open(dir, 8 * MiB, 1ms);
  const std::vector<ref> refs = put_many(store, 9, MiB);
  REQUIRE(on_disk(store, refs[0]));
  std::vector<cadre::view<bytes>> views;
  for (std::size_t k = 1; k < refs.size(); ++k) views.push_back(store.get(refs[k]));
  CHECK_THROWS_AS(store.get(refs[0]), cadre::store_full);
  CHECK(store.contains(refs[0]));
  views.clear();
  CHECK(has(store, refs[0], MiB, 0));
}

TEST_CASE("An erased object leaves the disk, and one that is dropped too") {
  folder dir;
  auto store = open(dir);
  std::vector<ref> refs = put_many(store, 16, MiB);
  REQUIRE(on_disk(store, refs[0]));
  store.erase(refs[0]);
  CHECK_THROWS_WITH(store.get(refs[0]), ContainsSubstring("[cadre.store.301] the object made at spilling.cpp:") &&
                                            ContainsSubstring(" was erased"));
  const std::uint64_t spilled = store.stats().spilled;
  CHECK(spilled >= 7 * MiB);
  refs.erase(refs.begin() + 1);
  CHECK(store.stats().spilled == spilled - MiB);
  refs.clear();
  CHECK(store.stats().spilled == 0);
  CHECK(store.stats().objects == 0);
  CHECK(store.stats().used == 0);
}

TEST_CASE("A process that spills all the time writes over its own files") {
  folder dir;
  auto store = open(dir);
  constexpr std::size_t size = 2 * MiB - 4 * KiB;  // 64 to a file of 128 MiB
  seen_files files;
  std::deque<ref> window;
  for (std::uint64_t n = 0; n < 400; ++n) {
    window.push_back(store.put(content(size, n)));
    if (window.size() > 10) window.pop_front();
    files.look(dir);
    if (n % 16 == 0) CHECK(has(store, window.front(), size, n < 9 ? 0 : n - 9));
  }
  CHECK(files.count() == 2);
  CHECK(dir.size() <= 256 * MiB);
  for (std::uint64_t k = 0; k < window.size(); ++k) CHECK(has(store, window[k], size, 390 + k));
}

TEST_CASE("Files of which nothing is wanted are removed but for one, and those that are half dead are written anew") {
  folder dir;
  auto store = open(dir, 8 * MiB);
  std::vector<ref> refs = put_many(store, 200, 2 * MiB - 4 * KiB);  // 64 to a file of 128 MiB
  REQUIRE(dir.files().size() == 4);
  SECTION("nothing is wanted") {
    for (std::size_t k = 0; k < 64; ++k) refs[k] = ref();
    CHECK(dir.files().size() == 4);  // it may be written over
    for (std::size_t k = 64; k < 128; ++k) store.erase(refs[k]);
    CHECK(dir.files().size() == 3);
  }
  SECTION("a third is wanted") {
    for (std::size_t k = 0; k < 128; ++k)
      if (k % 3 != 0) refs[k] = ref();
    for (std::uint64_t n = 0; n < 6; ++n) refs.push_back(store.put(content(2 * MiB - 4 * KiB, refs.size())));
    CHECK(dir.size() < 384 * MiB);  // of which one file is kept
  }
  for (std::size_t k = 128; k < refs.size(); ++k) CHECK(has(store, refs[k], 2 * MiB - 4 * KiB, k));
  for (std::size_t k = 0; k < 128; ++k)
    if (refs[k] && store.contains(refs[k])) CHECK(has(store, refs[k], 2 * MiB - 4 * KiB, k));
  refs.clear();
  CHECK(store.stats().spilled == 0);
  CHECK(dir.files().size() == 2);  // the one that is appended to, and the one that is kept
}

TEST_CASE("An object larger than a file of spilled objects goes to disk, and its file goes with it") {
  folder dir;
  constexpr std::size_t huge = 130 * MiB;
  auto store = open(dir, 160 * MiB);
  ref big = store.put(content(huge, 1)), other = store.put(content(60 * MiB, 2));
  CHECK(on_disk(store, big));
  CHECK(dir.size() >= huge);
  CHECK(has(store, big, huge, 1));
  big = ref();
  CHECK(dir.size() < huge);
  CHECK(has(store, other, 60 * MiB, 2));
}

TEST_CASE("Small objects of a file that is half dead are written anew, but for those behind a damaged one") {
  folder dir;
  auto store = open(dir, 8 * MiB);
  constexpr std::size_t size = 64 * KiB - 4096;  // 2048 to a file of 128 MiB, and 64 are read by one call
  std::vector<ref> refs = put_many(store, 2300, size);
  REQUIRE(dir.files().size() == 2);
  const fs::path first = dir.files()[0];
  const auto is_wanted = [](std::size_t k) { return k % 3 == 0; };
  const auto room_is_made = [&] {
    const std::vector<ref> more = put_many(store, 200, size, 5000);
    for (std::size_t k = 0; k < more.size(); ++k) CHECK(has(store, more[k], size, 5000 + k));
  };
  SECTION("all are well") {
    for (std::size_t k = 0; k < 2048; ++k)
      if (!is_wanted(k)) refs[k] = ref();
    room_is_made();
    fs::resize_file(first, 0);  // nothing is wanted of it any more
    for (std::size_t k = 0; k < refs.size(); ++k)
      if (refs[k]) CHECK(has(store, refs[k], size, k));
  }
  SECTION("one is damaged") {
    constexpr std::size_t damaged = 999;
    flip(first.string(), damaged * 64 * KiB + 5000);
    for (std::size_t k = 0; k < 2048; ++k)
      if (!is_wanted(k)) refs[k] = ref();
    room_is_made();
    CHECK(fs::exists(first));
    for (std::size_t k = 0; k < refs.size(); ++k)
      if (k == damaged)
        CHECK_THROWS_AS(store.get(refs[k]), cadre::spill_corrupt);
      else if (refs[k])
        CHECK(has(store, refs[k], size, k));
  }
}

TEST_CASE("Several threads that get a spilled object at once all get it, and it is read once") {
  folder dir;
  auto store = open(dir);
  const std::vector<ref> refs = put_many(store, 12, MiB);
  for (std::size_t round = 0; round < 40; ++round) {
    const std::size_t k = round % refs.size();
    std::atomic<int> ready{0}, right{0};
    std::array<const std::uint8_t*, 4> place{};
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        ++ready;
        while (ready < 4) std::this_thread::yield();
        const cadre::view<bytes> v = store.get(refs[k]);
        place[t] = (*v).data();
        const bytes expected = content(MiB, k);
        right += same_bytes(*v, expected);
        ++ready;
        while (ready != 8) std::this_thread::yield();  // all have a view at once
      });
    for (std::thread& t : threads) t.join();
    CHECK(right == 4);
    CHECK(std::count(place.begin(), place.end(), place[0]) == 4);
  }
}

TEST_CASE("A damaged object on disk is an error once, then gone; all others live") {
  folder dir;
  auto store = open(dir);
  const std::vector<ref> refs = put_many(store, 16, MiB - 8 * KiB);
  REQUIRE(on_disk(store, refs[0]));
  REQUIRE(dir.files().size() == 1);
  flip(dir.files()[0], 4096 + 1000);  // the first went first
  CHECK_THROWS_WITH(store.get(refs[0]),
                    "[cadre.store.311] the spilled object at offset 0 of '" + dir.files()[0].string() +
                        "' is damaged: the checksum does not match; make the object anew, and check "
                        "the disk and whether other programs write to the folder");
  CHECK_FALSE(store.contains(refs[0]));
  for (int again = 0; again < 2; ++again)
    CHECK_THROWS_WITH(store.get(refs[0]), ContainsSubstring("[cadre.store.301] the object made at spilling.cpp:") &&
                                              ContainsSubstring(" is lost: its file on disk is damaged"));
  for (std::size_t k = 1; k < refs.size(); ++k) CHECK(has(store, refs[k], MiB - 8 * KiB, k));
}

TEST_CASE("Objects whose file has been removed by others are an error each, those in memory live") {
  folder dir;
  auto store = open(dir);
  const std::vector<ref> refs = put_many(store, 10, MiB);
  REQUIRE(on_disk(store, refs[0]));
  REQUIRE(on_disk(store, refs[1]));
  fs::remove(dir.files()[0]);
  for (const std::size_t k : {0u, 1u}) {
    CHECK_THROWS_WITH(store.get(refs[k]),
                      ContainsSubstring("[cadre.store.311] ") && ContainsSubstring("its file is gone"));
    CHECK_THROWS_AS(store.get(refs[k]), cadre::object_gone);
  }
  for (std::size_t k = 4; k < 10; ++k) CHECK(has(store, refs[k], MiB, k));
}

TEST_CASE("A spill folder that cannot be used is said when the store is opened, and the name stays free") {
  const std::string name = unique_name("unusable");
  CHECK_THROWS_WITH(
      cadre::object_store::open({.name = name, .capacity = 2 * MiB, .spill_dir = "/nowhere/at/all"}),
      "[cadre.store.312] cannot open the spill folder '/nowhere/at/all': No such file or directory (errno "
      "2); name a folder as spill_dir that exists, that this user may write to, and whose file system has "
      "locks and space, such as one of a local disk");
  CHECK_THROWS_AS(cadre::object_store::open({.capacity = 2 * MiB, .spill_dir = "/proc"}), cadre::spill_folder_unusable);
  auto store = cadre::object_store::open({.name = name, .capacity = 2 * MiB});
  CHECK(store.stats().processes == 1);
  for (const std::size_t length : {1024u, 5000u})
    CHECK_THROWS_WITH(cadre::object_store::open({.capacity = 2 * MiB, .spill_dir = std::string(length, 'x')}),
                      "[cadre.store.308] .spill_dir has more than 1,023 bytes");
  CHECK_THROWS_AS(cadre::object_store::open({.capacity = 2 * MiB, .spill_dir = std::string(1023, 'x')}),
                  cadre::spill_folder_unusable);
}

// ---- Races. The two threads of each meet in the middle of what the other does, thousands of times.

TEST_CASE("Gets, spills, erasures, last drops and compaction race without a loss") {
  folder dir;
  {
    auto store = open(dir, 4 * MiB, 10s);
    constexpr std::size_t size = 200 * KiB;
    constexpr std::uint64_t rounds = 150;
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        std::uint64_t x = t + 1;
        std::vector<std::pair<ref, std::uint64_t>> mine;
        for (std::uint64_t n = 0; n < rounds; ++n) {
          x ^= x << 13, x ^= x >> 7, x ^= x << 17;
          mine.emplace_back(store.put(content(size, t * rounds + n)), t * rounds + n);
          const auto& [r, number] = mine[x % mine.size()];
          if (!has(store, r, size, number)) ++wrong;
          if (mine.size() > 12) {
            const auto victim = mine.begin() + static_cast<std::ptrdiff_t>(x / 64 % mine.size());
            if (x % 3 == 0) store.erase(victim->first);
            mine.erase(victim);
          }
        }
        for (const auto& [r, number] : mine)
          if (!has(store, r, size, number)) ++wrong;
      });
    for (std::thread& t : threads) t.join();
    CHECK(wrong == 0);
    const cadre::store_stats s = store.stats();
    CHECK(s.objects == 0);
    CHECK(s.used == 0);
    CHECK(s.spilled == 0);
  }
  CHECK(dir.empty());
}

TEST_CASE("Objects that several threads share are restored, spilled and erased at once, and nobody sees other bytes") {
  folder dir;
  auto store = open(dir, 4 * MiB, 10s);
  constexpr std::size_t size = 300 * KiB;
  std::vector<ref> refs = put_many(store, 30, size);
  std::atomic<std::uint64_t> wrong{0}, gone{0};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      std::uint64_t x = t + 1;
      for (int n = 0; n < 150; ++n) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        const std::size_t k = x % refs.size();
        try {
          if (!has(store, refs[k], size, k)) ++wrong;
        } catch (const cadre::object_gone&) {
          if (k >= 10) ++wrong;
          ++gone;
        }
      }
    });
  for (std::size_t k = 0; k < 10; ++k) {
    std::this_thread::sleep_for(2ms);
    store.erase(refs[k]);
  }
  for (std::thread& t : threads) t.join();
  CHECK(wrong == 0);
  for (std::size_t k = 10; k < refs.size(); ++k) CHECK(has(store, refs[k], size, k));
  refs.clear();
  CHECK(store.stats().used == 0);
  CHECK(store.stats().objects == 0);
}

TEST_CASE("The last refs go in several threads while the store is closed, also when files go with them") {
  folder dir;
  const std::string name = unique_name("last");
  for (int round = 0; round < 60; ++round) {
    std::vector<std::thread> threads;
    std::atomic<int> ready{0};
    {
      auto store = open(dir, 2 * MiB, 10s, name);
      std::vector<ref> refs = put_many(store, 4, 64);
      {  // as another process, which leaves a file of which nothing is wanted: the first that lets go removes it
        auto other = open(dir, 2 * MiB, 10s, name);
        put_many(other, 4, MiB);
      }
      REQUIRE(dir.files().size() == 1);
      for (std::size_t t = 0; t < 4; ++t)
        threads.emplace_back([&ready, r = std::move(refs[t])]() mutable {
          ++ready;
          while (ready != 5) {}
          r = ref();
        });
      ++ready;
      while (ready != 5) {}
    }
    for (std::thread& t : threads) t.join();
    REQUIRE(dir.empty());
  }
}

#if !CADRE_TESTS_WITH_TSAN  // TSan's runtime does not support threads in a child that was forked by a program with threads

// ---- With other processes

/// A child that does `body` and may be killed. What it writes to `tell` is read by hear(), what say() writes by it.
class child {
 public:
  template <class Body>
  explicit child(Body body) {
    std::array<int, 2> up{}, down{};
    REQUIRE(::pipe(up.data()) == 0);
    REQUIRE(::pipe(down.data()) == 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(up[0]);
      ::close(down[1]);
      int code = 99;
      try {
        code = body([&](char c) { return ::write(up[1], &c, 1) == 1; },
                    [&] {
                      char c = 0;
                      return ::read(down[0], &c, 1) == 1 ? c : '\0';
                    });
      } catch (const std::exception& e) {
        std::fprintf(stderr, "%s\n", e.what());
      }
      ::_exit(code);
    }
    ::close(up[1]);
    ::close(down[0]);
    hear_ = up[0];
    say_ = down[1];
  }
  char hear() {
    char c = 0;
    return ::read(hear_, &c, 1) == 1 ? c : '\0';
  }
  void say(char c) { REQUIRE(::write(say_, &c, 1) == 1); }
  void kill() { ::kill(pid_, SIGKILL); }
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  ~child() {
    ::close(hear_);
    ::close(say_);
    if (pid_ > 0) {
      kill();
      wait();
    }
  }

 private:
  pid_t pid_ = -1;
  int hear_ = -1, say_ = -1;
};

TEST_CASE("Two processes spill and restore each other's objects") {
  folder dir;
  const std::string name = unique_name("both");
  constexpr std::size_t size = 500 * KiB;
  const auto put_named = [&](cadre::object_store& store, const char* prefix, std::uint64_t first) {
    for (std::uint64_t k = 0; k < 20; ++k) store.put(content(size, first + k), {.name = prefix + std::to_string(k)});
  };
  const auto all_right = [&](cadre::object_store& store, const char* prefix, std::uint64_t first) {
    for (std::uint64_t k = 0; k < 20; ++k)
      if (!has(store, store.find<bytes>(prefix + std::to_string(k)).value(), size, first + k)) return false;
    return true;
  };
  {
    child other([&](auto tell, auto heard) {
      auto store = open(dir, 4 * MiB, 10s, name);
      put_named(store, "theirs", 100);
      tell('1');
      if (heard() != '1') return 1;
      if (!all_right(store, "mine", 0) || !all_right(store, "theirs", 100)) return 2;
      tell('2');
      return heard() == '2' ? 0 : 3;
    });
    REQUIRE(other.hear() == '1');
    auto store = open(dir, 4 * MiB, 10s, name);
    put_named(store, "mine", 0);
    other.say('1');
    CHECK(all_right(store, "theirs", 100));
    CHECK(other.hear() == '2');
    CHECK(dir.files().size() == 2);  // each has written some
    other.say('2');
    CHECK(other.wait() == 0);
    CHECK(all_right(store, "theirs", 100));  // whoever wrote them has gone
    CHECK(all_right(store, "mine", 0));
  }
  CHECK(dir.empty());
}

TEST_CASE("A file whose objects another process drops is left to who wrote it, and goes with that one") {
  folder dir;
  const std::string name = unique_name("left");
  constexpr std::size_t size = 4 * MiB - 4 * KiB;  // 32 to a file of 128 MiB
  auto store = open(dir, 12 * MiB, 10s, name);
  child writer([&](auto tell, auto heard) {
    auto theirs = open(dir, 12 * MiB, 10s, name);
    for (std::uint64_t round = 0; round < 3; ++round) {
      for (std::uint64_t k = 0; k < 40; ++k)
        theirs.put(content(size, 100 * round + k), {.name = std::to_string(100 * round + k)});
      tell('1');
      if (heard() != '1') return 1;
    }
    tell('2');
    heard();
    return 0;
  });
  seen_files files;
  for (std::uint64_t round = 0; round < 3; ++round) {
    REQUIRE(writer.hear() == '1');
    files.look(dir);
    for (std::uint64_t k = 40; k-- > 0;) {
      const std::string number = std::to_string(100 * round + k);
      if (k == 0) CHECK(has(store, store.find<bytes>(number).value(), size, 100 * round));
      CHECK(store.erase(number));
    }
    CHECK(dir.files().size() == 2);
    writer.say('1');
  }
  CHECK(files.count() == 2);
  REQUIRE(writer.hear() == '2');
  writer.kill();
  writer.wait();
  CHECK(store.stats().processes == 1);
  store.put(content(size, 1));
  put_many(store, 4, size);
  CHECK(dir.files().size() == 1);  // ours
}

TEST_CASE("What is spilled survives the SIGKILL of who wrote it, and after that of all the next start removes it") {
  folder dir;
  const std::string name = unique_name("killed");
  const auto spiller = [&](auto tell, auto heard) {
    auto store = open(dir, 4 * MiB, 10s, name);
    for (std::uint64_t k = 0; k < 10; ++k) store.put(content(MiB, k), {.name = std::to_string(k)});
    tell('1');
    heard();
    return 0;
  };
  child first(spiller);
  REQUIRE(first.hear() == '1');
  child second([&](auto tell, auto heard) {
    auto store = open(dir, 4 * MiB, 10s, name);
    tell('1');
    if (heard() != '1') return 1;
    for (std::uint64_t k = 0; k < 10; ++k)
      if (!has(store, store.find<bytes>(std::to_string(k)).value(), MiB, k)) return 2;
    tell('2');
    heard();
    return 0;
  });
  REQUIRE(second.hear() == '1');
  first.kill();
  first.wait();
  second.say('1');
  CHECK(second.hear() == '2');
  second.kill();
  second.wait();
  CHECK(dir.size() >= 6 * MiB);
  auto store = open(dir, 4 * MiB, 10s, name);
  CHECK(dir.files().empty());
  CHECK_FALSE(store.find<bytes>("0"));
}

TEST_CASE("A full disk is an error of the put, nothing is lost, and it goes on once there is space") {
  folder dir;
  child full([&](auto, auto) {
    if (!own_mounts() || ::mount("cadre", dir.path().c_str(), "tmpfs", 0, "size=6m") != 0) return 77;
    auto store = open(dir, 4 * MiB, 1ms);
    std::vector<ref> refs;
    bool refused = false;
    while (!refused && refs.size() < 20) {
      try {
        refs.push_back(store.put(content(MiB - 8 * KiB, refs.size())));
      } catch (const cadre::spill_failed& e) {
        const std::string text = e.what();
        if (e.number() != 310 || e.code() != ENOSPC || e.bytes() != MiB - 8 * KiB ||
            !text.starts_with("[cadre.store.310] cannot write a spilled object of 1040384 bytes, file '" +
                              dir.path()) ||
            text.find("No space left on device (errno 28); free space there") == text.npos)
          return 2;
        refused = true;
      }
    }
    if (!refused || refs.size() < 8 || refs.size() > 11) return 3;
    // Those in memory are readable; those on disk once something in memory has been dropped.
    std::size_t in_memory = refs.size();
    for (std::size_t k = 0; k < refs.size(); ++k)
      if (!on_disk(store, refs[k])) {
        if (!has(store, refs[k], MiB - 8 * KiB, k)) return 4;
        in_memory = k;
      }
    if (in_memory == refs.size()) return 5;
    refs[in_memory] = ref();
    for (std::size_t k = 0; k < refs.size(); ++k)
      if (refs[k] && !has(store, refs[k], MiB - 8 * KiB, k)) return 6;
    // More space.
    if (::mount("cadre", dir.path().c_str(), "tmpfs", MS_REMOUNT, "size=30m") != 0) return 77;
    for (std::size_t n = 0; n < 8; ++n) refs.push_back(store.put(content(MiB - 8 * KiB, refs.size())));
    for (std::size_t k = 0; k < refs.size(); ++k)
      if (refs[k] && !has(store, refs[k], MiB - 8 * KiB, k)) return 7;
    refs.clear();
    return store.stats().used == 0 && store.stats().spilled == 0 ? 0 : 8;
  });
  if (const int code = full.wait(); code == 77)
    WARN("skipped: needs the right to mount a file system");
  else
    CHECK(code == 0);
}

TEST_CASE("A dead file that is kept to be written over goes before the disk is called full") {
  folder dir;
  child full([&](auto, auto) {
    if (!own_mounts() || ::mount("cadre", dir.path().c_str(), "tmpfs", 0, "size=200m") != 0) return 77;
    auto store = open(dir, 140 * MiB, 1ms);
    std::vector<ref> refs = put_many(store, 14, 20 * MiB - 4 * KiB);  // 6 to a file of 128 MiB
    if (dir.files().size() != 2) return 1;
    refs.clear();
    if (dir.files().size() != 2) return 2;
    const std::uint64_t kept = dir.size();
    if (kept < 139 * MiB) return 3;
    const ref huge = store.put(content(130 * MiB, 1)), other = store.put(content(20 * MiB, 2));
    if (!on_disk(store, huge) || dir.files().size() != 2 || dir.size() > 155 * MiB) return 4;
    return has(store, huge, 130 * MiB, 1) ? 0 : 5;
  });
  if (const int code = full.wait(); code == 77)
    WARN("skipped: needs the right to mount a file system");
  else
    CHECK(code == 0);
}
#endif

}  // namespace spilling_test
