#include "kill.hpp"

#include <cstdlib>
#include <random>

namespace random_test {

using namespace store_kill;
using random_bits = std::mt19937_64;

inline std::size_t below(random_bits& r, std::size_t n) {
  return std::uniform_int_distribution<std::size_t>(0, n - 1)(r);
}
std::string some_name(random_bits& r) { return "name " + std::to_string(below(r, 12)); }
std::size_t some_size(random_bits& r) { return 1 + below(r, std::size_t{1} << (1 + below(r, 15))); }

// ---- What workers do, each for a while

void writer(cadre::object_store& store, random_bits& r) {
  std::vector<std::pair<std::uint64_t, numbers_ref>> kept;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t seed = r();
    kept.emplace_back(seed, store.put(pattern(seed, some_size(r))));
    const auto& [of, ref] = kept[below(r, kept.size())];
    check(is_whole(store.get(ref, soon), of), "what a writer keeps is not whole");
    if (kept.size() > 10) kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(below(r, kept.size())));
  }
}
void name_user(cadre::object_store& store, random_bits& r) {
  for (int i = 0; i < 100; ++i) {
    const std::string name = some_name(r);
    try {
      store.put(pattern(r(), some_size(r)), {.name = name});
    } catch (const cadre::object_name_taken&) {
    } catch (const cadre::object_gone&) {  // erased before it was sealed
    }
    if (below(r, 3) == 0) store.erase(some_name(r));
  }
}
/// Looks at what is found by name, for long enough that it is erased meanwhile.
void reader(cadre::object_store& store, random_bits& r) {
  std::vector<cadre::view<numbers>> views;
  for (int i = 0; i < 200; ++i) {
    if (const auto found = store.find<numbers>(some_name(r))) {
      try {
        views.push_back(store.get(*found, soon));
      } catch (const cadre::object_gone&) {}
    }
    if (!views.empty()) check(is_whole(views[below(r, views.size())]), "what a reader looks at is not whole");
    if (views.size() > 5) views.erase(views.begin());
  }
}
void builder(cadre::object_store& store, random_bits& r) {
  for (int i = 0; i < 50; ++i) {
    auto writer = store.create<std::uint64_t>(some_size(r));
    const std::uint64_t seed = r();
    fill(writer.span(), seed);
    if (below(r, 2) == 0) nap();
    if (below(r, 2) == 0)
      std::move(writer).abort();
    else
      check(is_whole(store.get(std::move(writer).seal(), soon), seed), "what a builder has built is not whole");
  }
}
void maker(cadre::object_store& store, random_bits& r) {
  for (int i = 0; i < 30; ++i) {
    try {
      const auto made = store.get_or_create<numbers>(some_name(r), [&] {
        if (below(r, 4) == 0) nap();
        return pattern(r(), some_size(r));
      });
      check(is_whole(store.get(made, soon)), "what get_or_create gave is not whole");
    } catch (const cadre::object_gone&) {}
  }
}

/// Keeps more than there is memory for, so that its objects, and those of others, go to disk and come back.
void spiller(cadre::object_store& store, random_bits& r) {
  parcel kept;
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t seed = r();
    kept.add(seed, store.put(pattern(seed, 10'000 + below(r, 50'000))));
    const std::size_t k = below(r, kept.refs.size());
    check(is_whole(store.get(kept.refs[k], soon), kept.seeds[k]), "what a spiller keeps is not whole");
    if (kept.refs.size() > 12) kept.drop(below(r, kept.refs.size()));
  }
}

constexpr std::size_t workers_at_once = 6;
/// What workers tell each other, each in the place of those before it.
struct exchange {
  std::array<std::atomic<std::uint32_t>, workers_at_once> slots;            // perhaps of one that is dead
  std::array<std::array<mailbox, workers_at_once>, workers_at_once> boxes;  // from, to
};
/// Sends what it makes and what it was sent to others.
void traveller(cadre::object_store& store, random_bits& r, exchange& all, std::size_t me) {
  all.slots[me] = store.process();
  parcel kept;
  for (int i = 0; i < 60; ++i) {
    const std::uint64_t seed = r();
    kept.add(seed, store.put(pattern(seed, some_size(r))));
    const std::size_t other = below(r, workers_at_once);
    if (mailbox& box = all.boxes[me][other]; box.is_empty()) {
      parcel sent;
      for (std::size_t n = 1 + below(r, 3); n > 0; --n) {
        const std::size_t k = below(r, kept.refs.size());
        sent.add(kept.seeds[k], kept.refs[k]);
      }
      cadre::ref_sender sender(store, below(r, 2) == 0 ? all.slots[other].load() : cadre::ref_sender::any_process);
      const message m = written(sender, sent);
      if (below(r, 5) != 0) {
        box.put(m);
        sender.sent();
      }
    }
    for (auto& from : all.boxes) {
      mailbox& box = from[me];
      if (box.is_empty()) continue;
      try {
        kept.add(read(store, box.look()));
      } catch (const cadre::object_gone&) {  // its sender has died, or who read it before this one
      }
      box.clear();
    }
    while (kept.refs.size() > 10) kept.drop(below(r, kept.refs.size()));
    check(kept.is_whole(store), "what a traveller keeps is not whole");
  }
}

/// Never ends by itself.
void worker(const std::string& name, std::uint64_t seed, exchange& all, std::size_t me) {
  random_bits r(seed);
  for (;;) {
    cadre::object_store store = open(name);
    for (std::size_t rounds = 1 + below(r, 4); rounds > 0; --rounds) {
      const auto begin = steady::now();
      switch (below(r, 7)) {
        case 0: writer(store, r); break;
        case 1: name_user(store, r); break;
        case 2: reader(store, r); break;
        case 3: builder(store, r); break;
        case 4: spiller(store, r); break;
        case 5: traveller(store, r, all, me); break;
        default: maker(store, r); break;
      }
      check(steady::now() - begin < 20 * soon, "a worker has hung");
    }
  }
}

int kills_asked_for() {
  const char* const text = std::getenv("CADRE_STORE_KILLS");
  return text != nullptr ? std::atoi(text) : 200;
}

}  // namespace random_test

TEST_CASE("Processes killed at random instants leave nothing behind and take nothing from others", "[store_kill]") {
  using namespace random_test;
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  random_bits r(seed);
  scene s(room::scarce);
  shared<exchange> all;
  const int asked_for = kills_asked_for();
  int kills = 0;
  std::chrono::nanoseconds slowest{};
  while (kills < asked_for) {
    REQUIRE(s.other().go_on());
    std::vector<std::unique_ptr<process>> workers(workers_at_once);
    const auto start = [&](std::size_t k) {
      workers[k] = std::make_unique<process>([&, k, mine = r()] { worker(s.name(), mine, *all, k); }, 600);
    };
    for (std::size_t k = 0; k < workers.size(); ++k) start(k);
    for (int i = 0; i < 19; ++i) {
      const ::timespec moment{0, static_cast<long>(below(r, 60'000'000))};
      ::nanosleep(&moment, nullptr);
      const std::size_t k = below(r, workers.size());
      workers[k]->kill();
      INFO("a worker: " << workers[k]->end());
      REQUIRE(workers[k]->was_killed());
      ++kills;
      start(k);
      const auto begin = steady::now();
      CHECK(is_whole(s.store().get(s.store().put(pattern(seed, 1000)), soon), seed));
      slowest = std::max(slowest, std::chrono::nanoseconds(steady::now() - begin));
    }
    for (auto& w : workers) w->signal(SIGKILL);
    for (auto& w : workers) {
      INFO("a worker: " << w->end());
      REQUIRE(w->was_killed());
      ++kills;
    }
    for (int k = 0; k < 12; ++k) s.store().erase("name " + std::to_string(k));
    s.check_whole();
    s.check_fill();
  }
  CHECK(kills >= asked_for);
  CHECK(slowest < soon);
  s.check_end();
}

TEST_CASE("Who waits for an object is told when its producer has been killed", "[store_kill]") {
  using namespace random_test;
  scene s;
  REQUIRE(s.other().go_on());
  for (const bool with_lock : {false, true}) {
    for (int round = 0; round < 5; ++round) {
      shared<std::atomic<bool>> begun, die;
      process producer([&] {
        cadre::object_store store = open(s.name());
        const auto writer = store.create<std::uint64_t>(1000, {.name = "never sealed"});
        *begun = true;
        while (!*die || !with_lock) nap();
        arm(store_step::entry_written, 1);
        static_cast<void>(store.put(pattern(1, 1)));
      });
      REQUIRE(eventually([&] { return begun->load() || producer.has_ended(); }));
      shared<std::atomic<int>> waiting;
      std::vector<std::unique_ptr<process>> waiters;
      const auto wait = [&](auto look) {
        waiters.push_back(std::make_unique<process>([&, look] {
          cadre::object_store mine = open(s.name());
          const auto ref = mine.find<numbers>("never sealed");
          check(ref.has_value(), "the object is not there");
          ++*waiting;
          std::string why;
          try {
            look(mine, *ref);
          } catch (const cadre::object_gone& e) {
            why = e.what();
          }
          check(why.find("that process died before it had sealed it") != why.npos, "a waiter was told: " + why);
        }));
      };
      wait([](auto& mine, const auto& ref) { static_cast<void>(mine.get(ref)); });
      wait([](auto& mine, const auto& ref) { static_cast<void>(mine.get(ref, 60s)); });
      wait([](auto& mine, const auto& ref) {
        check(mine.wait(std::vector{ref}, 1).ready.size() == 1, "wait() found nothing");
        static_cast<void>(mine.try_get(ref));
      });
      REQUIRE(eventually([&] { return *waiting == 3; }));
      const auto dies_at = steady::now();
      *die = true;
      if (!with_lock) producer.kill();
      for (auto& w : waiters) CHECK(w->end() == "");
      CHECK(steady::now() - dies_at < soon);
      REQUIRE(producer.was_killed());
      s.check_whole();
      REQUIRE(s.other().go_on());
    }
  }
  s.check_end();
}

TEST_CASE("A process that is killed while it waits costs others nothing afterwards", "[store_kill]") {
  using namespace random_test;
  const std::string name = store_name("waits");
  cadre::object_store store = open(name);
  const cadre::detail::arena memory = memory_once_more();
  const auto writer = store.create<std::uint64_t>(10, {.name = "never sealed"});
  process waits_for_a_seal([&] {
    cadre::object_store mine = open(name);
    static_cast<void>(mine.wait(std::vector{mine.find<numbers>("never sealed").value()}, 1));
  });
  REQUIRE(eventually([&] { return memory.head().seal_waiters != 0; }));
  waits_for_a_seal.kill();
  static_cast<void>(store.create<int>(1).seal());
  CHECK(memory.head().seal_waiters == 0);  // else each seal would call the system

  std::optional<numbers_ref> large(store.put(numbers(capacity / 8 / 4 * 3)));
  process waits_for_room([&] {
    cadre::object_store mine = open(name, 60s);
    mine.put(numbers(capacity / 8 / 2));
  });
  REQUIRE(eventually([&] { return memory.head().room_waiters != 0; }));
  waits_for_room.kill();
  large.reset();
  store.put(1);
  CHECK(memory.head().room_waiters == 0);
  CHECK(store.stats().objects == 1);
}
