#include "kill.hpp"

namespace stopped_test {

using namespace store_kill;

/// Makes the time after which the store's lock counts as stalled short, here and in children.
class short_patience {
 public:
  explicit short_patience(std::chrono::nanoseconds time) { cadre::detail::store_lock::patience = time; }
  short_patience(const short_patience&) = delete;
  short_patience& operator=(const short_patience&) = delete;
  ~short_patience() { cadre::detail::store_lock::patience = before_; }

 private:
  std::chrono::nanoseconds before_ = cadre::detail::store_lock::patience;
};

/// A process that stops while it holds the lock, and makes an object when it goes on.
process stopped_in_lock(const std::string& name) {
  return process([name] {
    cadre::object_store store = open(name);
    arm(store_step::entry_written, 1, SIGSTOP);
    const numbers_ref ref = store.put(pattern(9, 900), {.name = "victim's"});
    check(is_whole(store.get(ref), 9), "what was put around a stop is not whole");
  });
}

}  // namespace stopped_test

TEST_CASE("A process stopped while it holds the lock is named to others, and all go on when it is continued",
          "[store_kill]") {
  using namespace stopped_test;
  const short_patience patience(100ms);
  const std::string name = store_name("stopped");
  cadre::object_store store = open(name);
  const numbers_ref kept = store.put(pattern(1, 100));
  process holder = stopped_in_lock(name);
  REQUIRE(eventually([&] { return is_stopped(holder); }));

  const std::string message = "[cadre.store.306] process " + std::to_string(holder.id()) +
                              ", which has been stopped, has kept the store's lock for 0.1 s; continue or end";
  CHECK_THROWS_WITH(store.put(1), ContainsSubstring(message));
  CHECK_THROWS_WITH(store.find<numbers>("x"), ContainsSubstring(message));
  CHECK_THROWS_AS(open(name), cadre::store_stalled);
  process other([&] {
    try {
      static_cast<void>(open(name));
    } catch (const cadre::store_stalled& e) {
      check(std::string(e.what()).find(message) != std::string::npos, e.what());
      return;
    }
    throw std::runtime_error("a store was opened without its lock");
  });
  CHECK(other.end() == "");
  CHECK(is_whole(store.get(kept), 1));  // needs no lock

  holder.signal(SIGCONT);
  CHECK(holder.end() == "");
  CHECK(is_whole(store.get(store.find<numbers>("victim's").value(), soon), 9));
  store.erase("victim's");
  const cadre::store_stats now = store.stats();
  CHECK(now.objects == 1);
  CHECK(now.processes == 1);
}

TEST_CASE("A process killed while it is stopped with the lock is repaired after", "[store_kill]") {
  using namespace stopped_test;
  const short_patience patience(100ms);
  const std::string name = store_name("stopped");
  cadre::object_store store = open(name);
  process holder = stopped_in_lock(name);
  REQUIRE(eventually([&] { return is_stopped(holder); }));
  CHECK_THROWS_AS(store.put(1), cadre::store_stalled);
  holder.kill();
  static_cast<void>(store.put(1));
  const cadre::store_stats now = store.stats();
  CHECK(now.used == 0);
  CHECK(now.processes == 1);
}

TEST_CASE("A drop of the last ref waits for a stopped holder of the lock, and is not lost", "[store_kill]") {
  using namespace stopped_test;
  const short_patience patience(50ms);
  const std::string name = store_name("stopped");
  cadre::object_store store = open(name);
  numbers_ref ref = store.put(pattern(1, 100));
  process holder = stopped_in_lock(name);
  REQUIRE(eventually([&] { return is_stopped(holder); }));
  process waker([&] {
    const ::timespec while_others_wait{0, 200'000'000};
    ::nanosleep(&while_others_wait, nullptr);
    holder.signal(SIGCONT);
  });
  ref = {};
  CHECK(holder.end() == "");
  CHECK(waker.end() == "");
  store.erase("victim's");
  CHECK(store.stats().used == 0);
}

TEST_CASE("Nothing is taken from a stopped process that holds refs and views, and it goes on well", "[store_kill]") {
  using namespace stopped_test;
  const std::string name = store_name("stopped");
  cadre::object_store store = open(name, 0ms);
  store.put(pattern(3, 3000), {.name = "viewed"});
  shared<std::atomic<bool>> holds;
  process holder([&] {
    cadre::object_store mine = open(name);
    const numbers_ref ref = mine.put(pattern(1, 1000));
    const auto view = mine.get(mine.find<numbers>("viewed").value());
    auto writer = mine.create<std::uint64_t>(2000);
    *holds = true;
    ::raise(SIGSTOP);
    check(is_whole(view, 3), "what a stopped process looked at is not whole");
    fill(writer.span(), 2);
    check(is_whole(mine.get(std::move(writer).seal()), 2), "what a stopped process built is not whole");
    check(is_whole(mine.get(ref), 1), "what a stopped process kept is not whole");
  });
  REQUIRE(eventually([&] { return *holds && is_stopped(holder); }));
  CHECK(store.sweep() == 0);
  store.erase("viewed");
  cadre::store_stats now = store.stats();
  CHECK(now.objects == 3);
  CHECK(now.processes == 2);
  {  // all that is left is used, so that what was taken from it would be written over
    std::vector<cadre::object_ref<std::vector<std::byte>>> all;
    for (std::size_t n = 1 << 20; n >= 1024; n /= 4) try {
        for (;;) all.push_back(store.put(std::vector<std::byte>(n, std::byte{0xee})));
      } catch (const cadre::store_full& e) {
        CHECK_THAT(e.what(), ContainsSubstring("store full"));
      }
  }
  CHECK(store.stats().used == now.used);
  holder.signal(SIGCONT);
  CHECK(holder.end() == "");
  now = store.stats();
  CHECK(now.used == 0);
  CHECK(now.processes == 1);
}
