#include "catch.hpp"

#include <cadre/os/detail/move_off.hpp>
#include <cadre/os/thread.hpp>

#include <sched.h>

#include <atomic>
#include <fstream>
#include <sstream>
#include <string>

namespace {

/// The processors that a thread may use, if they are fewer than 1025.
struct mask {
  cpu_set_t set;

  static mask of(int thread) {
    mask m{};
    REQUIRE(::sched_getaffinity(thread, sizeof m.set, &m.set) == 0);
    return m;
  }
  static mask only(int processor) {
    mask m{};
    CPU_SET(static_cast<std::size_t>(processor), &m.set);
    return m;
  }
  void give_to(int thread) const { REQUIRE(::sched_setaffinity(thread, sizeof set, &set) == 0); }
  friend bool operator==(const mask& a, const mask& b) { return CPU_EQUAL(&a.set, &b.set); }
};

/// This thread's own mask, given back at the end.
struct keeps_mask {
  const mask whole = mask::of(0);
  ~keeps_mask() { ::sched_setaffinity(0, sizeof whole.set, &whole.set); }
};

/// A thread that is always ready to run.
class busy_thread {
 public:
  busy_thread() : thread_("busy", [this] { spin(); }) {
    while (number() == 0) ::sched_yield();
  }
  ~busy_thread() { over_ = true; }
  [[nodiscard]] int number() const { return number_; }
  /// On whose list it is.
  [[nodiscard]] int processor() const {
    std::ifstream file("/proc/self/task/" + std::to_string(number()) + "/stat");
    std::string text;
    std::getline(file, text);
    std::istringstream fields(text.substr(text.rfind(')') + 1));
    for (int i = 3; i <= 39; ++i) fields >> text;  // proc(5): the 39th
    return std::stoi(text);
  }

 private:
  void spin() {
    number_ = cadre::detail::this_thread_number();
    while (!over_) {}
  }
  std::atomic<int> number_{0};
  std::atomic<bool> over_{false};
  cadre::native_thread thread_;
};

}  // namespace

TEST_CASE("a thread that waits for its waker's processor waits for another one, and may use what it might",
          "[move_off]") {
  const keeps_mask own;
  if (CPU_COUNT(&own.whole.set) < 2) return;
  const busy_thread other;
  const mask here = mask::only(::sched_getcpu());
  here.give_to(0);
  here.give_to(other.number());
  own.whole.give_to(other.number());  // it stays where it is
  cadre::detail::move_off_this_processor(other.number());
  CHECK(other.processor() != ::sched_getcpu());
  CHECK(mask::of(other.number()) == own.whole);
}

TEST_CASE("a thread that may use no other processor than its waker's stays there", "[move_off]") {
  const keeps_mask own;
  const busy_thread other;
  const mask here = mask::only(::sched_getcpu());
  here.give_to(0);
  here.give_to(other.number());
  cadre::detail::move_off_this_processor(other.number());
  CHECK(other.processor() == ::sched_getcpu());
  CHECK(mask::of(other.number()) == here);
}

TEST_CASE("to move a thread that has ended does nothing", "[move_off]") {
  int number = 0;
  cadre::native_thread("short", [&] { number = cadre::detail::this_thread_number(); }).join();
  cadre::detail::move_off_this_processor(number);
  CHECK(number != 0);
}
