#include "catch.hpp"
#include "sanitizers.hpp"

#include <cadre/core/random.hpp>
#include <cadre/store.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// Each object holds numbers that follow from its first one, so that memory which was freed too early is seen to be
// another object's. Small stores, so that it is used again at once.
namespace store_races_test {

using namespace std::chrono_literals;
using cadre::object_ref;
using cadre::object_store;
using cadre::view;
using numbers = std::vector<std::uint64_t>;

constexpr int rounds = with_sanitizer ? 300 : 3000;

object_store small_store(std::uint64_t capacity = 8 << 20) {
  return object_store::open({.capacity = capacity, .max_objects = 512, .put_timeout = 60s});
}

void fill(std::span<std::uint64_t> to, std::uint64_t seed) {
  for (std::size_t k = 0; k < to.size(); ++k) to[k] = seed + k * 0x9e3779b97f4a7c15;
}
numbers made(std::uint64_t seed, std::size_t n) {
  numbers all(n);
  fill(all, seed);
  return all;
}
bool is_whole(std::span<const std::uint64_t> seen) {
  for (std::size_t k = 0; k < seen.size(); ++k)
    if (seen[k] != seen[0] + k * 0x9e3779b97f4a7c15) return false;
  return true;
}

/// Runs the functions in threads of their own until all have returned.
template <class... F>
void at_once(F... f) {
  std::array<std::thread, sizeof...(F)> threads{std::thread(f)...};
  for (std::thread& t : threads) t.join();
}

void check_empty(object_store& store) {
  const cadre::store_stats s = store.stats();
  CHECK(s.used == 0);
  CHECK(s.pinned == 0);
  CHECK(s.objects == 0);
  CHECK(s.largest_free == s.capacity);
}

}  // namespace store_races_test

TEST_CASE("A get either has the object, whole and until its view ends, or hears that it was erased",
          "[store][store_races]") {
  using namespace store_races_test;
  object_store store = small_store();
  std::atomic<int> torn{0}, seen{0}, gone{0};
  for (int round = 0; round < rounds; ++round) {
    const auto ref = store.put(made(static_cast<std::uint64_t>(round), 2000));
    const auto get = [&] {
      for (int k = 0; k < 3; ++k) {
        try {
          const auto v = store.get(ref);
          torn += !is_whole(*v) || (*v)[0] != static_cast<std::uint64_t>(round);
          ++seen;
        } catch (const cadre::object_gone&) {
          ++gone;
        }
      }
    };
    at_once(get, get, [&] {
      store.erase(ref);
      static_cast<void>(store.put(made(~std::uint64_t{0}, 2000)));  // takes the memory if it is free
    });
  }
  CHECK(torn == 0);
  CHECK(seen + gone == 6 * rounds);
  check_empty(store);
}

TEST_CASE("A get either has the object or hears that it was dropped for lack of memory", "[store][store_races]") {
  using namespace store_races_test;
  object_store store = small_store(2 << 20);
  std::atomic<int> torn{0}, seen{0}, dropped{0};
  std::vector<object_ref<numbers>> refs;
  constexpr std::size_t n = (256 << 10) / 8;
  for (std::uint64_t k = 0; k < 8; ++k) refs.push_back(store.put(made(k, n), {.evictable = true}));
  std::atomic<bool> done{false};
  const auto get = [&](std::uint64_t seed) {
    cadre::random_stream random(seed);
    while (!done) {
      const std::size_t k = random() % 8;
      try {
        const auto v = store.get(refs[k]);
        torn += !is_whole(*v) || (*v)[0] != k;
        ++seen;
      } catch (const cadre::object_gone&) {
        ++dropped;
      }
    }
  };
  at_once([&] { get(1); }, [&] { get(2); },
          [&] {
            for (int round = 0; round < rounds / 10; ++round) {
              const auto v = store.get(store.put(made(100, n), {.evictable = true}));
              torn += !is_whole(*v);
            }
            done = true;
          });
  CHECK(torn == 0);
  CHECK(seen + dropped > 0);
  refs.clear();
  check_empty(store);
}

TEST_CASE("The last unpin of an erased object frees it once, though others try to pin it", "[store][store_races]") {
  using namespace store_races_test;
  object_store store = small_store();
  std::atomic<int> torn{0};
  for (int round = 0; round < rounds; ++round) {
    auto ref = store.put(made(static_cast<std::uint64_t>(round), 1000));
    std::optional<view<numbers>> a(store.get(ref)), b(store.get(ref));
    at_once(
        [&] {
          torn += !is_whole(**a);
          a.reset();
        },
        [&] {
          torn += !is_whole(**b);
          b.reset();
        },
        [&] {
          try {
            const auto v = store.get(ref);
            torn += !is_whole(*v);
          } catch (const cadre::object_gone&) {}
        },
        [&] { store.erase(ref); });
    const auto other = store.put(made(77, 1000));
    CHECK(store.stats().objects == 2);
  }
  CHECK(torn == 0);
  check_empty(store);
}

TEST_CASE("Refs and views that many threads drop at once free the object once", "[store][store_races]") {
  using namespace store_races_test;
  object_store store = small_store();
  std::atomic<int> torn{0};
  for (int round = 0; round < rounds; ++round) {
    object_ref<numbers> a = store.put(made(static_cast<std::uint64_t>(round), 1000)), b = a, c = a;
    std::optional<view<numbers>> v(store.get(a));
    at_once([&] { a = {}; }, [&] { b = {}; },
            [&] {
              const auto w = store.get(c);
              c = {};
              torn += !is_whole(*w);
            },
            [&] {
              torn += !is_whole(**v);
              v.reset();
            });
    CHECK(store.stats().objects == 0);
  }
  CHECK(torn == 0);
  check_empty(store);
}

TEST_CASE("Who finds an object by its name has it, though its name and its last ref end at that moment",
          "[store][store_races]") {
  using namespace store_races_test;
  object_store store = small_store();
  std::atomic<int> torn{0};
  for (int round = 0; round < rounds; ++round) {
    object_ref<numbers> ref = store.put(made(static_cast<std::uint64_t>(round), 1000), {.name = "n"});
    const auto find = [&] {
      for (int k = 0; k < 3; ++k) {
        const auto found = store.find<numbers>("n");
        static_cast<void>(store.contains("n"));
        if (!found.has_value()) continue;
        try {
          const auto v = store.get(*found);
          torn += !is_whole(*v);
        } catch (const cadre::object_gone&) {}
      }
    };
    at_once(
        find, find, [&] { ref = {}; }, [&] { store.erase("n"); });
    CHECK_FALSE(store.contains("n"));
  }
  CHECK(torn == 0);
  check_empty(store);
}

TEST_CASE("Threads that create, read and erase under few names never see a torn object", "[store][store_races]") {
  using namespace store_races_test;
  object_store store = small_store();
  std::atomic<int> torn{0}, made_here{0};
  const auto work = [&](std::uint64_t seed) {
    cadre::random_stream random(seed);
    for (int round = 0; round < rounds; ++round) {
      const std::string name(1, static_cast<char>('a' + random() % 3));
      try {
        if (random() % 4 == 0) {
          store.erase(name);
          continue;
        }
        const auto ref = store.get_or_create<numbers>(name, [&] {
          ++made_here;
          return made(random(), 1 + random() % 3000);
        });
        const auto v = store.get(ref);
        torn += !is_whole(*v);
      } catch (const cadre::object_gone&) {  // erased between, or while it was made
      }
    }
  };
  at_once([&] { work(1); }, [&] { work(2); }, [&] { work(3); }, [&] { work(4); });
  CHECK(torn == 0);
  CHECK(made_here > 0);
  for (const char* name : {"a", "b", "c"}) store.erase(name);
  check_empty(store);
}

TEST_CASE("Threads that put and drop objects of all sizes in a store that is nearly full lose nothing",
          "[store][store_races]") {
  using namespace store_races_test;
  object_store store = small_store(4 << 20);
  std::atomic<int> torn{0};
  const auto work = [&](std::uint64_t seed) {
    cadre::random_stream random(seed);
    std::vector<object_ref<numbers>> mine;
    std::vector<view<numbers>> views;
    for (int round = 0; round < rounds; ++round) {
      // A thread holds less than a quarter of the store, so that there is room in the end, whatever the pieces.
      const std::size_t most = std::size_t{1} << random() % 13;
      mine.push_back(store.put(made(random(), 1 + random() % most)));
      if (random() % 2 == 0) views.push_back(store.get(mine[random() % mine.size()]));
      for (const auto& v : views) torn += !is_whole(*v);
      if (mine.size() > 8) mine.erase(mine.begin() + static_cast<std::ptrdiff_t>(random() % mine.size()));
      if (views.size() > 2) views.erase(views.begin());
    }
  };
  at_once([&] { work(1); }, [&] { work(2); }, [&] { work(3); }, [&] { work(4); });
  CHECK(torn == 0);
  check_empty(store);
}

TEST_CASE("Puts that wait for room all get it when others let go", "[store][store_races]") {
  using namespace store_races_test;
  object_store store = small_store(2 << 20);
  std::atomic<int> torn{0};
  const auto work = [&](std::uint64_t seed) {
    for (int round = 0; round < rounds / 20; ++round) {
      const auto v = store.get(store.put(made(seed, (1536 << 10) / 8)));  // one at a time fits
      torn += !is_whole(*v) || (*v)[0] != seed;
    }
  };
  at_once([&] { work(1); }, [&] { work(2); }, [&] { work(3); });
  CHECK(torn == 0);
  check_empty(store);
}

TEST_CASE("Who waits for an object misses neither its seal nor its end", "[store][store_races]") {
  using namespace store_races_test;
  object_store store = small_store();
  std::atomic<int> torn{0}, ended{0};
  for (int round = 0; round < rounds; ++round) {
    std::optional<cadre::object_writer<numbers>> w(store.create<std::uint64_t>(100));
    const std::vector<object_ref<numbers>> refs{w->ref()};
    at_once(
        [&] {
          if (store.wait(refs, 1).ready.size() != 1) ++torn;
        },
        [&] {
          try {
            const auto v = store.get(refs[0]);
            torn += !is_whole(*v);
          } catch (const cadre::object_gone&) {
            ++ended;
          }
        },
        [&] {
          fill(w->span(), static_cast<std::uint64_t>(round));
          if (round % 3 == 0)
            w.reset();
          else
            static_cast<void>(std::move(*w).seal());
        });
  }
  CHECK(torn == 0);
  CHECK(ended == (rounds + 2) / 3);
  check_empty(store);
}

TEST_CASE("An object that is erased while it is sealed is either sealed first or not at all", "[store][store_races]") {
  using namespace store_races_test;
  object_store store = small_store();
  std::atomic<int> torn{0};
  for (int round = 0; round < rounds; ++round) {
    std::optional<cadre::object_writer<numbers>> w(store.create<std::uint64_t>(1000));
    const auto ref = w->ref();
    at_once(
        [&] {
          fill(w->span(), static_cast<std::uint64_t>(round));
          try {
            static_cast<void>(std::move(*w).seal());
          } catch (const cadre::object_gone&) {}
          w.reset();
        },
        [&] { store.erase(ref); },
        [&] {
          const auto other = store.put(made(55, 1000));
          const auto v = store.get(other);
          torn += !is_whole(*v) || (*v)[0] != 55;
        });
    CHECK_FALSE(store.contains(ref));
  }
  CHECK(torn == 0);
  check_empty(store);
}

TEST_CASE("A store whose handle is closed while threads drop its refs and views ends once", "[store][store_races]") {
  using namespace store_races_test;
  std::atomic<int> torn{0};
  for (int round = 0; round < rounds / 10; ++round) {
    std::optional<object_store> store(small_store(2 << 20));
    object_ref<numbers> a = store->put(made(1, 100)), b = a, c = store->put(made(2, 100));
    std::optional<view<numbers>> v(store->get(a)), w(store->get(c));
    c = {};
    at_once([&] { store.reset(); }, [&] { a = {}; }, [&] { b = {}; },
            [&] {
              torn += !is_whole(**v) || !is_whole(**w);
              v.reset();
              w.reset();
            });
  }
  CHECK(torn == 0);
}
