#include "catch.hpp"
#include "store/processes.hpp"

#include <cadre/store.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace kept_objects_test {

using namespace test_store;
using cadre::object_ref;
using cadre::object_store;
using numbers_ref = object_ref<numbers>;
using cadre::detail::no_index;
using cadre::detail::object_state;
using cadre::detail::object_table;
constexpr std::size_t MiB = std::size_t{1} << 20;

object_store small_store() {
  return object_store::open({.capacity = 16 * MiB, .max_objects = 4096, .put_timeout = {}});
}

const void* place_of(object_store& store, const numbers_ref& ref) {
  const cadre::view<numbers> v = store.get(ref);
  return (*v).data();
}

/// The table of a store with the part of one process.
struct table {
  cadre::detail::arena memory = cadre::detail::arena::make(4 * MiB, 512);
  object_table objects{memory, 0};

  /// Sealed, with one ref.
  std::uint32_t put(std::uint64_t bytes, std::uint32_t flags = 0) {
    object_table::shortage missing{};
    const std::uint32_t i = objects.create({.bytes = bytes, .flags = flags, .name = {}}, missing);
    seal(i);
    return i;
  }
  void seal(std::uint32_t i) {
    const std::uint32_t generation = objects.word(i).generation();
    objects.entry(i).word.store(cadre::detail::object_word(generation, object_state::sealed).value());
    objects.mine(i).store(cadre::detail::hold_ref);
  }
  bool drop_and_keep(std::uint32_t i) {
    const cadre::detail::object_word before = objects.word(i);
    objects.mine(i).store(0);
    return objects.keep(i, before);
  }
};

TEST_CASE("What a process drops is kept for its next put of that size, and found again as another object") {
  table t;
  const std::uint32_t i = t.put(1000);
  const std::uint64_t offset = t.objects.entry(i).offset.load();
  REQUIRE(t.drop_and_keep(i));
  CHECK(t.objects.keeps(i));
  CHECK_FALSE(t.objects.reuse(i, {.bytes = 2000, .name = {}}));  // of another size
  REQUIRE(t.objects.reuse(i, {.bytes = 970, .type = 5, .site = 7, .flags = 1, .name = {}}));
  CHECK_FALSE(t.objects.reuse(i, {.bytes = 970, .name = {}}));
  CHECK_FALSE(t.objects.keeps(i));
  CHECK(t.objects.word(i).state() == object_state::creating);
  CHECK(t.objects.word(i).generation() == 1);
  CHECK(t.objects.entry(i).offset.load() == offset);
  CHECK(t.objects.entry(i).bytes == 970);
  CHECK(t.objects.entry(i).flags == 1);
  CHECK(t.objects.details(i).type == 5);
  CHECK(t.objects.details(i).site == 7);
  t.seal(i);
  t.objects.mine(i).store(0);
  t.objects.settle(i);
  CHECK(t.objects.word(i).state() == object_state::free);
  CHECK(t.memory.blocks().used() == 0);
}

TEST_CASE("An entry that has become another object's since its last ref was dropped is not kept") {
  table t;
  const std::uint32_t i = t.put(1000);
  const cadre::detail::object_word before = t.objects.word(i);
  t.objects.mine(i).store(0);
  t.objects.end(i, cadre::detail::object_end::evicted);
  REQUIRE(t.put(1000) == i);
  CHECK_FALSE(t.objects.keep(i, before));
  CHECK(t.objects.word(i).readable());
}

TEST_CASE("What is kept is freed for whoever is short of memory, and its owner learns of it") {
  table t;
  const std::uint32_t small = t.put(1000), large = t.put(MiB), other = t.put(64);
  REQUIRE(t.drop_and_keep(small));
  REQUIRE(t.drop_and_keep(large));
  object_table neighbour(t.memory, 1);
  CHECK_FALSE(neighbour.reuse(small, {.bytes = 1000, .name = {}}));  // it is not for all
  REQUIRE(neighbour.release_kept());
  CHECK_FALSE(neighbour.release_kept());
  CHECK_FALSE(t.objects.keeps(small));
  CHECK_FALSE(t.objects.reuse(large, {.bytes = MiB, .name = {}}));
  CHECK(t.memory.head().objects == 1);
  CHECK(t.memory.blocks().used() == 64);
  CHECK(t.objects.word(other).readable());
}

TEST_CASE("What others may know of is not kept: by a name, by a ref that was sent, as a holder, on disk") {
  table t;
  object_table other(t.memory, 1);
  const std::uint32_t named = t.put(100), sent = t.put(100), held = t.put(100), spilled = t.put(100), mine = t.put(100);
  t.objects.entry(named).flags |= cadre::detail::object_named;
  REQUIRE(cadre::detail::ticket_office(t.objects).send(sent, cadre::detail::any_receiver) != no_index);
  other.mark_holder(held);
  t.objects.details(spilled).spilled.store(1);
  for (const std::uint32_t i : {named, sent, held, spilled}) {
    CHECK_FALSE(t.objects.is_private(i));
    CHECK_FALSE(t.drop_and_keep(i));
    CHECK(t.objects.word(i).state() == object_state::sealed);
  }
  CHECK(t.drop_and_keep(mine));
}

TEST_CASE("What is kept for a process goes with it, also in the middle of being taken for a new object") {
  table t;
  const std::uint32_t kept = t.put(1000), taken = t.put(1000);
  REQUIRE(t.drop_and_keep(kept));
  REQUIRE(t.drop_and_keep(taken));
  t.objects.entry(taken).word.store(cadre::detail::object_word(1, object_state::preparing, 0).value());
  object_table survivor(t.memory, 1);
  SECTION("by a sweep") {}
  SECTION("by a sweep after all was made anew") {
    cadre::detail::rebuild(survivor);
    CHECK(t.memory.blocks().used() == 2 * cadre::detail::block_allocator::size_of(1000));
  }
  cadre::detail::sweep_slot(survivor, 0);
  CHECK(t.objects.word(kept).state() == object_state::free);
  CHECK(t.objects.word(taken).state() == object_state::free);
  CHECK(t.memory.blocks().used() == 0);
  CHECK(t.memory.head().objects == 0);
}

TEST_CASE("A put lies where an object of its size was dropped, and what is kept counts as free") {
  object_store store = small_store();
  for (const std::size_t n : {std::size_t{1}, std::size_t{100}, std::size_t{1000}, std::size_t{50'000}}) {
    numbers_ref ref = store.put(pattern(1, n));
    const void* const before = place_of(store, ref);
    ref = {};
    ref = store.put(pattern(2, n));
    CHECK(place_of(store, ref) == before);
    CHECK(is_whole(store.get(ref), 2));
    ref = {};
    CHECK(store.stats().objects == 0);
    CHECK(store.stats().used == 0);
  }
}

TEST_CASE("What has no bytes takes no memory that was dropped") {
  object_store store = small_store();
  { const object_ref<char> one = store.put('a'); }
  const numbers_ref none = store.put(numbers());
  CHECK(store.stats().used == 0);
}

TEST_CASE("However much was dropped, all of the memory and all of the objects can be had") {
  object_store store = small_store();
  for (int round = 0; round < 3; ++round) {
    {
      std::vector<numbers_ref> refs;
      for (std::size_t k = 0; k < 200; ++k) refs.push_back(store.put(pattern(k, 1 + k * 7)));
      for (std::size_t k = 0; k < 10; ++k) refs.push_back(store.put(pattern(k, 20'000 + k * 2000)));
    }
    const auto all = store.create<std::byte>(16 * MiB);
  }
  for (int round = 0; round < 3; ++round) {
    std::vector<object_ref<int>> all;
    for (int k = 0; k < 4096; ++k) all.push_back(store.put(k));
    CHECK_THROWS_AS(store.put(0), cadre::store_full);
  }
  CHECK(store.stats().used == 0);
}

TEST_CASE("What is kept for one process another one gets, also when that one has stopped or was killed",
          "[shared_store]") {
  const std::string name = store_name("kept");
  object_store store = object_store::open({.name = name, .capacity = 16 * MiB, .put_timeout = {}});
  for (const int signal : {0, SIGSTOP, SIGKILL}) {
    struct board {
      std::atomic<bool> ready, stop;
    };
    shared<board> b;
    process other([&] {
      object_store theirs = object_store::open({.name = name});
      for (std::size_t k = 0; k < 100; ++k) {
        const numbers_ref small = theirs.put(pattern(k, 100)), large = theirs.put(pattern(k, 100'000));
      }
      b->ready = true;
      while (!b->stop) nap();
    });
    REQUIRE(eventually([&] { return b->ready.load(); }));
    if (signal != 0) ::kill(other.id(), signal);
    if (signal == SIGKILL) static_cast<void>(other.end());
    { const auto all = store.create<std::byte>(16 * MiB); }
    b->stop = true;
    if (signal == SIGSTOP) ::kill(other.id(), SIGCONT);
    if (signal != SIGKILL) CHECK(other.end() == "");
    CHECK(store.stats().used == 0);
    CHECK(store.stats().objects == 0);
    CHECK(store.stats().processes == 1);
  }
}

TEST_CASE("Threads put and drop while what is kept for them is freed all the time, and read what they have put",
          "[store][store_races]") {
  object_store store = small_store();
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      for (std::uint64_t k = 0; !stop; ++k) {
        const numbers_ref ref = store.put(pattern(t * 1'000'000 + k, 1 + k % 3 * 1500));
        if (!is_whole(store.get(ref), t * 1'000'000 + k)) ++wrong;
      }
    });
  for (int k = 0; k < 2000; ++k) {
    static_cast<void>(store.stats());
    if (k % 50 == 0) const auto most = store.create<std::byte>(12 * MiB);
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  CHECK(wrong == 0);
  CHECK(store.stats().used == 0);
  CHECK(store.stats().objects == 0);
}

TEST_CASE("A shelf is one thread's at a time, of however many there are") {
  cadre::detail::put_shelves shelves;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 40; ++t)
    threads.emplace_back([&, t] {
      for (std::uint64_t k = 0; k < 1000; ++k) {
        const cadre::detail::put_shelves::hold mine(shelves);
        const std::uint64_t key = 1 + (t + k) % 7;
        if (mine->labels.of(key, [&] { return static_cast<std::uint32_t>(key); }) != key) std::abort();
      }
    });
  shelves.wait();
  for (std::thread& t : threads) t.join();
}

}  // namespace kept_objects_test
