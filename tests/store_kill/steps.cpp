#include "kill.hpp"

namespace steps_test {

using namespace store_kill;

/// Where a step is passed. A switch, so that a new step without a place here does not compile.
enum class place {
  work,         // by who works on the store, without the lock
  locked_work,  // the same with the lock
  repair,       // by who repairs what another one has left
  not_reached_yet,
};
constexpr place place_of(store_step step) {
  switch (step) {
    case store_step::ref_put_away:
    case store_step::kept:
    case store_step::reuse_begun:
    case store_step::reuse_written:
    case store_step::reuse_committed:
    case store_step::sealed:
    case store_step::seal_told: return place::work;

    case store_step::entry_taken:
    case store_step::block_allocated:
    case store_step::entry_written:
    case store_step::creator_holds:
    case store_step::creation_committed:
    case store_step::name_written:
    case store_step::name_entered:
    case store_step::ref_dropped:
    case store_step::end_committed:
    case store_step::name_removed:
    case store_step::block_given_up:
    case store_step::block_freed:
    case store_step::entry_freed:
    case store_step::entry_listed:
    case store_step::slot_locked:
    case store_step::slot_taken:
    case store_step::slot_void:
    case store_step::slot_swept:
    case store_step::slot_free: return place::locked_work;

    case store_step::rebuild_begun:
    case store_step::rebuild_blocks:
    case store_step::rebuild_done: return place::repair;

    // Refs that travel, and files to which objects are moved out.
    case store_step::ticket_written:
    case store_step::ticket_committed:
    case store_step::ticket_counted:
    case store_step::receiver_holds:
    case store_step::ticket_taken:
    case store_step::ticket_uncounted:
    case store_step::spill_begun:
    case store_step::spill_written:
    case store_step::spill_committed:
    case store_step::spill_freed:
    case store_step::restore_begun:
    case store_step::restore_allocated:
    case store_step::restore_read:
    case store_step::restore_committed: return place::not_reached_yet;

    case store_step::count: break;
  }
  return place::not_reached_yet;
}
template <class Visit>
void for_each_step(Visit visit) {
  for (int s = 0; s < static_cast<int>(store_step::count); ++s) visit(static_cast<store_step>(s));
}

/// Passes every step of work in each round, many times over.
void work(const std::string& name) {
  for (std::uint64_t round = 0; round < 6; ++round) {
    cadre::object_store store = open(name);
    for (const std::size_t n : {std::size_t{1}, std::size_t{100}, std::size_t{20000}}) {
      numbers_ref ref = store.put(pattern(round, n));
      const numbers_ref copy = ref;
      std::optional<cadre::view<numbers>> held(store.get(ref));
      if (n == 100) store.erase(ref);  // with a view
      ref = {};
      check(is_whole(*held, round), "what a victim has put is not whole");
    }
    store.erase("victim's");
    {
      const numbers_ref named = store.put(pattern(2, 700), {.name = "victim's"});
      const cadre::view<numbers> seen = store.get(named);
    }
    const auto made = store.get_or_create<numbers>("made", [] { return pattern(3, 300); });
    check(is_whole(store.get(made), 3), "what get_or_create gave is not whole");
    store.erase("made");
    auto writer = store.create<std::uint64_t>(5000);
    fill(writer.span(), 4);
    if (round % 2 == 0) {
      std::move(writer).abort();
    } else {
      const cadre::view<numbers> last = [&] { return store.get(std::move(writer).seal()); }();
      check(is_whole(last, 4), "what a victim has built is not whole");  // its last ref has ended
    }
  }
}

/// A process that is killed where it holds, beside the lock, refs, views, names and objects that it was building.
process rich_victim(const std::string& name, store_step step) {
  return process([=] {
    cadre::object_store store = open(name);
    std::vector<numbers_ref> refs;
    std::vector<cadre::view<numbers>> views;
    std::vector<cadre::object_writer<numbers>> writers;
    for (std::uint64_t k = 0; k < 10; ++k) {
      refs.push_back(store.put(pattern(k, 1 + k * 300)));
      views.push_back(store.get(refs.back()));
      writers.push_back(store.create<std::uint64_t>(1 + k * 200, {.name = "victim's " + std::to_string(k)}));
    }
    arm(step, 1);
    work(name);
  });
}

}  // namespace steps_test

TEST_CASE("A process killed behind any step leaves nothing behind and takes nothing from others", "[store_kill]") {
  using namespace steps_test;
  scene s;
  for_each_step([&](store_step step) {
    if (place_of(step) != place::work && place_of(step) != place::locked_work) return;
    for (const int passage : {1, 2, 5}) {
      INFO("step " << static_cast<int>(step) << ", passage " << passage);
      REQUIRE(s.other().go_on());
      process victim([&] {
        arm(step, passage);
        work(s.name());
      });
      const std::string end = victim.end();
      CAPTURE(end);
      REQUIRE(victim.was_killed());
      REQUIRE(s.other().go_on());
      s.check_whole();
    }
    s.check_fill();
  });
  s.check_end();
}

TEST_CASE("A process killed in the middle of a repair leaves it to the next, and that one to the next",
          "[store_kill]") {
  using namespace steps_test;
  scene s;
  struct board {
    std::atomic<bool> ready, go;
  };
  int chains = 0;
  for_each_step([&](store_step first) {
    if (place_of(first) != place::locked_work) return;
    for (const bool opened_before : {false, true}) {
      REQUIRE(s.other().quiet());  // else it would repair
      // Those who will come to repair, in this order, and the step behind which each is killed.
      constexpr std::array deaths = {store_step::rebuild_begun,  store_step::rebuild_blocks, store_step::rebuild_done,
                                     store_step::slot_void,      store_step::end_committed,  store_step::name_removed,
                                     store_step::block_given_up, store_step::block_freed,    store_step::entry_freed,
                                     store_step::entry_listed,   store_step::slot_swept,     store_step::slot_free};
      std::vector<std::unique_ptr<shared<board>>> boards;
      std::vector<std::unique_ptr<process>> repairers;
      for (const store_step step : deaths) {
        boards.push_back(std::make_unique<shared<board>>());
        board& b = **boards.back();
        repairers.push_back(std::make_unique<process>([&, step] {
          std::optional<cadre::object_store> store;
          if (opened_before) store.emplace(open(s.name()));
          b.ready = true;
          while (!b.go) nap();
          arm(step, 1);
          if (!store) store.emplace(open(s.name()));
          static_cast<void>(store->put(pattern(1, 1)));
        }));
        REQUIRE(eventually([&] { return b.ready.load(); }));
      }
      INFO("step " << static_cast<int>(first) << ", repaired by those who " << (opened_before ? "had" : "had not")
                   << " opened the store before");
      process victim = rich_victim(s.name(), first);
      REQUIRE(victim.was_killed());
      for (std::size_t k = 0; k < deaths.size(); ++k) {
        (**boards[k]).go = true;
        INFO("repair cut off at step " << static_cast<int>(deaths[k]) << ": " << repairers[k]->end());
        REQUIRE(repairers[k]->was_killed());
      }
      s.check_whole();
      REQUIRE(s.other().go_on());
      ++chains;
    }
    s.check_fill();
  });
  CHECK(chains >= 3);  // each step of a repair was cut off so often
  s.check_end();
}
