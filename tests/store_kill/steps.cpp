#include "kill.hpp"

#include <stdexcept>

namespace steps_test {

using namespace store_kill;

/// In what a step is passed. A switch, so that a new step without a place here does not compile.
enum class part {
  objects,  // making, finding and ending them, opening the store
  travel,   // of refs from process to process
  disk,     // moves there, from there, and from one file to another
  repair,   // of what another one has left
};
constexpr part part_of(store_step step) {
  switch (step) {
    case store_step::entry_taken:
    case store_step::block_allocated:
    case store_step::entry_written:
    case store_step::creator_holds:
    case store_step::creation_committed:
    case store_step::name_written:
    case store_step::name_entered:
    case store_step::ref_put_away:
    case store_step::kept:
    case store_step::reuse_begun:
    case store_step::reuse_written:
    case store_step::reuse_committed:
    case store_step::release_begun:
    case store_step::sealed:
    case store_step::seal_told:
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
    case store_step::slot_free: return part::objects;

    case store_step::ticket_written:
    case store_step::ticket_committed:
    case store_step::ticket_counted:
    case store_step::receiver_holds:
    case store_step::ticket_taken:
    case store_step::ticket_uncounted: return part::travel;

    case store_step::rebuild_begun:
    case store_step::rebuild_blocks:
    case store_step::rebuild_done: return part::repair;

    case store_step::spill_begun:
    case store_step::file_announced:
    case store_step::record_written:
    case store_step::record_counted:
    case store_step::spill_written:
    case store_step::spill_committed:
    case store_step::spill_freed:
    case store_step::restore_begun:
    case store_step::restore_allocated:
    case store_step::restore_read:
    case store_step::restore_committed:
    case store_step::move_begun:
    case store_step::move_committed:
    case store_step::dead_file_removed:
    case store_step::dead_file_reused: return part::disk;

    case store_step::count: break;
  }
  throw std::logic_error("no step");
}
constexpr bool is_under_lock(store_step step) {
  switch (step) {
    case store_step::ref_put_away:
    case store_step::kept:
    case store_step::reuse_begun:
    case store_step::reuse_written:
    case store_step::reuse_committed:
    case store_step::sealed:
    case store_step::seal_told:
    case store_step::restore_allocated:
    case store_step::restore_read:
    case store_step::record_written:
    case store_step::dead_file_reused: return false;
    default: return true;
  }
}
std::vector<store_step> steps_of(part p) {
  std::vector<store_step> steps;
  for (int k = 0; k < static_cast<int>(store_step::count); ++k)
    if (const auto step = static_cast<store_step>(k); part_of(step) == p) steps.push_back(step);
  return steps;
}

/// Passes every step of part::objects in each round, many times over.
void work_with_objects(const std::string& name) {
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
    for (std::uint64_t k = 0; k < 2; ++k) {  // one after the other, in the same memory
      const numbers_ref alone = store.put(pattern(k, 50));
      check(is_whole(store.get(alone), k), "what a victim has put again is not whole");
    }
    static_cast<void>(store.stats());  // for which what is kept for the next put is freed
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

/// The same for part::travel: refs go to another slot of this process, or are taken back.
void work_with_refs(const std::string& name) {
  for (std::uint64_t round = 0; round < 6; ++round) {
    cadre::object_store store = open(name), other = open(name);
    for (const std::uint32_t to : {other.process(), cadre::ref_sender::any_process}) {
      parcel sent;
      for (std::uint64_t k = 0; k < 3; ++k) sent.add(k, store.put(pattern(k, 1 + 300 * k)));
      cadre::ref_sender sender(store, to);
      const message m = written(sender, sent);
      sent = {};
      if (round % 2 == 0) continue;
      sender.sent();
      check(read(other, m).is_whole(other), "what a victim has sent to itself is not whole");
    }
  }
}

/// The same for part::disk, in a store of which the memory is scarce.
void work_with_disk(const std::string& name) {
  constexpr std::size_t large = 64 << 10;  // 512 KiB
  for (std::uint64_t round = 0; round < 6; ++round) {
    cadre::object_store store = open(name);
    parcel kept;
    const auto push_out = [](cadre::object_store& by) {
      std::vector<numbers_ref> all;
      for (std::uint64_t k = 0; k < 16; ++k) all.push_back(by.put(pattern(k, large)));
    };
    {  // as another process, which leaves files: one of which little is wanted, and its large objects
      cadre::object_store other = open(name);
      for (std::uint64_t k = 0; k < 6; ++k) kept.add(k, store.put(pattern(k, large / 8)));
      push_out(other);
    }
    push_out(store);
    for (std::uint64_t k = 0; k < 10; ++k)
      check(is_whole(store.get(store.find<numbers>(scene::kept_name(k)).value(), soon), k),
            "another's object is not whole");
    check(kept.is_whole(store), "what a victim got back from disk is not whole");
    for (std::size_t k = 0; k < 3; ++k) kept.drop(0);
    push_out(store);
    check(kept.is_whole(store), "what a victim got back from another file is not whole");
  }
  // A file is written over when another one is full.
  cadre::object_store store = open(name);
  for (std::uint64_t written = 0; written < 7 * cadre::detail::spill_file_limit; written += scarce_capacity) {
    std::vector<numbers_ref> all;
    for (std::uint64_t k = 0; k < 2 * scarce_capacity / (8 * large); ++k) all.push_back(store.put(numbers(large)));
  }
}

constexpr auto work_of(part p) {
  return p == part::objects ? work_with_objects : p == part::travel ? work_with_refs : work_with_disk;
}

/// A process that is killed where it holds, beside the lock, refs, views, names, objects that it was building, and refs
/// that it has sent.
process rich_victim(const std::string& name, store_step step) {
  return process([=] {
    cadre::object_store store = open(name);
    std::vector<numbers_ref> refs;
    std::vector<cadre::view<numbers>> views;
    std::vector<cadre::object_writer<numbers>> writers;
    cadre::ref_sender sender(store);
    for (std::uint64_t k = 0; k < 10; ++k) {
      refs.push_back(store.put(pattern(k, 1 + k * 300)));
      views.push_back(store.get(refs.back()));
      writers.push_back(store.create<std::uint64_t>(1 + k * 200, {.name = "victim's " + std::to_string(k)}));
      parcel sent;
      sent.add(k, store.put(pattern(k, 1 + k * 100)));
      static_cast<void>(written(sender, sent));
    }
    arm(step, 1);
    work_of(part_of(step))(name);
  });
}

/// Processes that do `work` are killed behind each of the steps, at passages 1, 2 and 5. `meanwhile` is what this process
/// does until one has ended.
template <class Work, class Meanwhile>
void kill_behind(const std::vector<store_step>& steps, scene& s, Work work, Meanwhile meanwhile) {
  for (const store_step step : steps) {
    for (const int passage : {1, 2, 5}) {
      INFO("step " << static_cast<int>(step) << ", passage " << passage);
      // The survivor would remove most dead files before the victim does.
      REQUIRE((step == store_step::dead_file_removed ? s.other().quiet() : s.other().go_on()));
      process victim([&] {
        arm(step, passage);
        work();
      });
      meanwhile(victim);
      const std::string end = victim.end();
      CAPTURE(end);
      REQUIRE(victim.was_killed());
      REQUIRE(s.other().go_on());
      s.check_whole();
    }
    s.check_fill();
  }
}

/// What the `n`-th message takes along.
parcel two_objects(cadre::object_store& store, std::uint64_t n) {
  parcel two;
  for (const std::uint64_t seed : {n, 1000 + n}) two.add(seed, store.put(pattern(seed, 1 + seed * 10)));
  return two;
}

}  // namespace steps_test

TEST_CASE("A process killed behind any step leaves nothing behind and takes nothing from others", "[store_kill]") {
  using namespace steps_test;
  for (const part p : {part::objects, part::travel, part::disk}) {
    scene s(p == part::disk ? room::scarce : room::ample);
    kill_behind(
        steps_of(p), s, [&] { work_of(p)(s.name()); }, [](process&) {});
    s.check_end();
  }
}

TEST_CASE("What a process keeps for its next puts is freed although another one was killed as it began to free it",
          "[store_kill]") {
  using namespace steps_test;
  const std::string name = store_name("kept");
  cadre::object_store store = open(name);
  const auto before = store.stats();
  for (const std::size_t n : {std::size_t{100}, std::size_t{1000}}) store.put(pattern(1, n));
  process victim([&] {
    cadre::object_store mine = open(name);
    arm(store_step::release_begun, 1);
    static_cast<void>(mine.stats());
  });
  victim.end();
  REQUIRE(victim.was_killed());
  const auto after = store.stats();
  CHECK(after.objects == before.objects);
  CHECK(after.used == before.used);
}

TEST_CASE("What a process sends is received whole or not at all, behind whatever step it is killed", "[store_kill]") {
  using namespace steps_test;
  scene s;
  shared<mailbox> box;
  kill_behind(
      steps_of(part::travel), s,
      [&, to = s.store().process()] {
        cadre::object_store store = open(s.name());
        for (std::uint64_t n = 0; n < 50; ++n) {
          parcel sent = two_objects(store, n);
          cadre::ref_sender sender(store, n % 2 == 0 ? to : cadre::ref_sender::any_process);
          const message m = written(sender, sent);
          sent = {};
          if (n % 3 == 2) continue;  // it is taken back
          while (!box->is_empty()) nap();
          box->put(m);
          sender.sent();
        }
      },
      [&](process& victim) {
        parcel received;
        for (bool ended = false; !ended;) {
          ended = victim.has_ended();
          if (box->is_empty()) {
            nap();
            continue;
          }
          try {
            received.add(read(s.store(), box->look()));
          } catch (const cadre::object_gone&) {
            CHECK(eventually([&] { return victim.has_ended(); }));
          }
          box->clear();
        }
        REQUIRE(s.other().go_on());
        CHECK(received.is_whole(s.store()));
      });
  s.check_end();
}

TEST_CASE("What a sender holds is whole, and what it has sent goes, behind whatever step the receiver is killed",
          "[store_kill]") {
  using namespace steps_test;
  scene s;
  shared<mailbox> box;
  shared<std::atomic<std::uint32_t>> slot;  // of the receiver; 0: not known yet
  kill_behind(
      {store_step::receiver_holds, store_step::ticket_taken, store_step::ticket_uncounted}, s,
      [&] {
        cadre::object_store store = open(s.name());
        *slot = store.process();
        parcel mine;
        for (int n = 0; n < 50; ++n) {
          while (box->is_empty()) nap();
          mine.add(read(store, box->look()));
          box->clear();
          check(mine.is_whole(store), "what a victim has received is not whole");
          if (mine.refs.size() > 4) mine.drop(0);
        }
      },
      [&](process& victim) {
        REQUIRE(eventually([&] { return *slot != 0 || victim.has_ended(); }));
        parcel kept;
        for (std::uint64_t n = 0; !victim.has_ended(); ++n) {
          parcel sent = two_objects(s.store(), n);
          const bool is_named = n % 2 == 0;
          cadre::ref_sender sender(s.store(), is_named ? slot->load() : cadre::ref_sender::any_process);
          box->put(written(sender, sent));
          if (is_named) sender.sent();
          sent.drop(1);
          kept.add(std::move(sent));
          while (!box->is_empty() && !victim.has_ended()) nap();
          if (box->is_empty()) sender.sent();  // it has been read; else it is taken back
        }
        box->clear();
        *slot = 0;
        REQUIRE(s.other().go_on());
        CHECK(kept.is_whole(s.store()));
      });
  s.check_end();
}

TEST_CASE("What is sent to a process that has been killed is nobody's, also when others have swept after it",
          "[store_kill]") {
  using namespace steps_test;
  const std::string name = store_name("kill");
  cadre::object_store store = open(name);
  shared<std::atomic<std::uint32_t>> slot;
  process receiver([&] {
    const cadre::object_store its = open(name);
    *slot = its.process();
    for (;;) nap();
  });
  REQUIRE(eventually([&] { return *slot != 0; }));
  receiver.kill();
  std::optional<cadre::object_store> successor;  // in its slot
  for (const int then : {0, 1, 2}) {
    if (then == 1) store.sweep();
    if (then == 2) successor.emplace(open(name));
    cadre::ref_sender sender(store, *slot);
    parcel sent;
    sent.add(1, store.put(pattern(1, 100)));
    const message m = written(sender, sent);
    sender.sent();
    sent = {};
    CHECK(store.stats().objects == 0);
    CHECK_THROWS_AS(read(store, m), cadre::object_gone);
  }
}

TEST_CASE("A view that is got while its object goes to disk stays whole when who moves it is killed", "[store_kill]") {
  using namespace steps_test;
  const folder disk;
  const std::string name = store_name("kill");
  cadre::object_store store = open(name, soon, scarce_capacity, disk.path());
  constexpr std::size_t n = 120'000;  // nearly 1 MiB
  parcel mine;
  for (std::uint64_t k = 0; k < 4; ++k) mine.add(k, store.put(pattern(k, n)));
  process victim([&] {
    cadre::object_store its = open(name);
    armed = {static_cast<int>(store_step::spill_written), 1, SIGSTOP};
    armed_too = {static_cast<int>(store_step::spill_committed), 1, SIGKILL};
    parcel all;
    for (std::uint64_t k = 0; k < 10; ++k) all.add(k, its.put(pattern(k, n)));
  });
  REQUIRE(eventually([&] { return is_stopped(victim); }));
  std::vector<cadre::view<numbers>> views;
  for (const numbers_ref& ref : mine.refs) views.push_back(store.try_get(ref).value());
  victim.signal(SIGCONT);
  REQUIRE(victim.was_killed());
  parcel others;
  for (std::uint64_t k = 0; k < 10; ++k) others.add(100 + k, store.put(pattern(100 + k, n)));
  for (std::uint64_t k = 0; k < 4; ++k) CHECK(is_whole(views[k], k));
  CHECK(others.is_whole(store));
  views.clear();
  mine = {};
  others = {};
  CHECK(store.stats().used == 0);
  CHECK(store.stats().objects == 0);
}

TEST_CASE("A process killed in the middle of a repair leaves it to the next, and that one to the next",
          "[store_kill]") {
  using namespace steps_test;
  struct board {
    std::atomic<bool> ready, go;
  };
  for (const part p : {part::objects, part::travel, part::disk}) {
    scene s(p == part::disk ? room::scarce : room::ample);
    int chains = 0;
    for (const store_step first : steps_of(p)) {
      if (!is_under_lock(first)) continue;
      for (const bool opened_before : {false, true}) {
        REQUIRE(s.other().quiet());  // else it would repair
        // Those who will come to repair, in this order, and the step behind which each is killed.
        constexpr std::array deaths = {
            store_step::rebuild_begun,    store_step::rebuild_blocks, store_step::rebuild_done,
            store_step::slot_void,        store_step::receiver_holds, store_step::ticket_taken,
            store_step::ticket_uncounted, store_step::end_committed,  store_step::name_removed,
            store_step::block_given_up,   store_step::block_freed,    store_step::entry_freed,
            store_step::entry_listed,     store_step::slot_swept,     store_step::slot_free};
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
    }
    CHECK(chains >= 3);  // each step of a repair was cut off so often
    s.check_end();
  }
}
