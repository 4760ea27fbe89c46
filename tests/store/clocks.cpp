#include "catch.hpp"
#include "store/processes.hpp"
#include "text_of.hpp"

#include <cadre/store.hpp>

#include <sched.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace clocks_test {

/// While it is set, the clock of the day is six hours ahead and six hours behind, by turns.
inline std::atomic<bool> jumping{false};

inline ::timespec read(::clockid_t clock) noexcept {
  static std::atomic<unsigned> calls{0};
  ::timespec now{};
  ::syscall(SYS_clock_gettime, clock, &now);
  const bool of_the_day = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
  if (of_the_day && jumping) now.tv_sec += ++calls % 2 == 0 ? 6 * 3600 : -6 * 3600;
  return now;
}

}  // namespace clocks_test

// Stand before the C library's.
extern "C" int clock_gettime(::clockid_t clock, ::timespec* now) noexcept {
  *now = clocks_test::read(clock);
  return 0;
}
extern "C" int gettimeofday(::timeval* now, void*) noexcept {
  const ::timespec time = clocks_test::read(CLOCK_REALTIME);
  *now = {time.tv_sec, time.tv_nsec / 1000};
  return 0;
}
extern "C" ::time_t time(::time_t* now) noexcept {
  const ::time_t seconds = clocks_test::read(CLOCK_REALTIME).tv_sec;
  if (now != nullptr) *now = seconds;
  return seconds;
}

namespace clocks_test {

using namespace test_store;
using cadre::object_store;
using numbers_ref = cadre::object_ref<numbers>;
constexpr auto moment = 60ms;  // longer than the slices that waits are made of
constexpr std::size_t most = (4 << 20) / sizeof(std::uint64_t);

object_store open(const std::string& name) {
  return object_store::open({.name = name, .capacity = 4 << 20, .max_objects = 512, .put_timeout = moment});
}

/// Whether `wait` takes a moment, and not much more.
template <class Wait>
bool takes_a_moment(Wait wait) {
  const auto begin = steady::now();
  wait();
  const auto took = steady::now() - begin;
  return took >= moment && took < moment + soon;
}

/// Another process with the store, whose clocks are set as those of this one, or go a day ahead (as root). It makes an
/// object that it does not seal, and goes on to seal it when it is told.
class other {
  struct board {
    std::atomic<bool> ready, seal;
  };

 public:
  other(const std::string& name, const char* object) : process_([=, this] { run(name, object); }) {
    if (!eventually([this] { return board_->ready.load() || process_.has_ended(); }) || process_.has_ended())
      throw std::runtime_error("the other process: " + process_.end());
  }
  void seal() { board_->seal = true; }
  void kill() { process_.kill(); }
  std::string end() { return process_.end(); }

 private:
  void run(const std::string& name, const char* object) {
    object_store store = open(name);
    auto writer = store.create<std::uint64_t>(100, {.name = object});
    fill(writer.span(), 7);
    board_->ready = true;
    while (!board_->seal) nap();
    static_cast<void>(std::move(writer).seal());
  }
  shared<board> board_;
  process process_;
};

/// Runs `body` in a process whose monotonic clock is a day ahead of that of this one; "" if all went well.
template <class Body>
std::string a_day_ahead(Body body) {
  process outside([&] {
    check(::unshare(CLONE_NEWTIME) == 0, "unshare");
    std::ofstream("/proc/self/timens_offsets") << "monotonic 86400 0\n";
    const auto here = steady::now();
    process inside([&] {
      check(steady::now() - here > 23h, "the clock is not a day ahead");
      body();
    });
    const std::string end = inside.end();
    check(end.empty(), end);
  });
  return outside.end();
}
bool has_time_namespaces() {
  process tries([] { check(::unshare(CLONE_NEWTIME) == 0 && ::access("/proc/self/timens_offsets", W_OK) == 0, "no"); });
  return tries.end().empty();
}

}  // namespace clocks_test

TEST_CASE("What waits in a store does not look at the clock of the day, which may jump", "[store][clocks]") {
  using namespace clocks_test;
  for (const bool jumps : {false, true}) {
    INFO("the clock of the day " << (jumps ? "jumps" : "goes as it should"));
    const std::string name = store_name("clocks");
    object_store store = open(name);
    other writer(name, "later"), dying(name, "never");
    const numbers_ref later = store.find<numbers>("later").value(), never = store.find<numbers>("never").value();
    jumping = jumps;
    const auto one = std::chrono::system_clock::now(), next = std::chrono::system_clock::now();
    REQUIRE((one - next > 11h || next - one > 11h) == jumps);

    CHECK(takes_a_moment([&] { CHECK_THROWS_AS(store.get(later, moment), cadre::store_timeout); }));
    CHECK(takes_a_moment([&] { CHECK(store.wait(std::vector{later}, 1, moment).ready.empty()); }));
    {
      const numbers_ref first = store.put(pattern(1, most / 2));
      CHECK(takes_a_moment([&] { CHECK_THROWS_AS(store.put(pattern(2, most / 2)), cadre::store_full); }));
      CHECK(is_whole(store.get(first, moment), 1));
    }
    {  // who holds the lock too long, and who holds the list of the store's processes
      const cadre::detail::arena memory = memory_once_more();
      std::atomic<int> stage{0};
      std::thread holder([&] {
        static_cast<void>(memory.head().mutex.lock_until(steady::time_point::max()));
        stage = 1;
        while (stage != 2) nap();
        memory.head().mutex.unlock();
      });
      while (stage != 1) nap();
      const auto usual = std::exchange(cadre::detail::store_lock::patience, moment);
      CHECK(takes_a_moment([&] { CHECK_THROWS_AS(store.put(1), cadre::store_stalled); }));
      cadre::detail::store_lock::patience = usual;
      stage = 2;
      holder.join();
      const cadre::detail::rendezvous meeting(name, steady::now() + soon);
      CHECK(takes_a_moment(
          [&] { CHECK_THROWS_AS(cadre::detail::rendezvous(name, steady::now() + moment), cadre::store_unreachable); }));
    }
    writer.seal();
    CHECK(is_whole(store.get(later, soon), 7));
    CHECK(writer.end() == "");
    const auto killed = steady::now();
    dying.kill();
    CHECK_THROWS_AS(store.get(never), cadre::object_gone);
    CHECK(steady::now() - killed < soon);
    jumping = false;
  }
}

TEST_CASE("Processes whose monotonic clocks differ by a day share a store, and each looks for the dead", "[root]") {
  using namespace clocks_test;
  if (!has_time_namespaces()) {
    WARN("skipped: needs time namespaces and the right to make one");
    return;
  }
  const std::string name = store_name("clocks");
  object_store store = open(name);
  // Waits for what a third process was to write, which is killed: that is only seen by who looks for the dead.
  const auto waits_in_vain = [&](object_store mine) {
    other dying(name, "never");
    const numbers_ref never = mine.find<numbers>("never").value();
    std::string text;
    check(takes_a_moment([&] { text = text_of<cadre::store_timeout>([&] { mine.get(never, moment); }); }),
          "a timeout took another time");
    check(text.find("was not sealed in the time given") != text.npos, text);
    dying.kill();
    text = text_of<cadre::object_gone>([&] { mine.get(never, soon); });
    check(text.find("died before it had sealed it") != text.npos, text);
  };
  waits_in_vain(store);
  CHECK(a_day_ahead([&] {
          object_store mine = open(name);
          waits_in_vain(mine);
          other writer(name, "later");
          writer.seal();
          check(is_whole(mine.get(mine.find<numbers>("later").value(), soon), 7), "it is not what was written");
          mine.erase("later");
        }) == "");
  waits_in_vain(store);
  CHECK(a_day_ahead([&] { waits_in_vain(open(name)); }) == "");
  waits_in_vain(store);
  CHECK(store.stats().processes == 1);
  CHECK(store.stats().objects == 0);
}
