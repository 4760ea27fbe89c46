#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace restart_test {

using namespace std::chrono_literals;
using Catch::Matchers::Contains;
constexpr cadre::kill_options anew{.no_restart = false};

/// Counts; what it has counted can be saved.
class tally {
 public:
  tally() = default;
  explicit tally(int first) : n_(first), first_(first) {}
  int add(int k) { return n_ += k; }
  int add_and_save(int k) {
    n_ += k;
    cadre::this_actor::checkpoint();
    return n_;
  }
  int get() const { return n_; }
  int restarts() const { return cadre::this_actor::restarts(); }
  /// Until it is let through. Of one process.
  void pass() {
    ++passing;
    while (!open) std::this_thread::yield();
  }
  static inline std::atomic<int> passing{0};
  static inline std::atomic<bool> open{false};

  template <class Archive>
  void serialize(Archive& archive) {
    archive(n_);
  }

 private:
  int n_ = 0, first_ = 0;
};

/// Has a state that nothing can write.
struct sealed {
  sealed() = default;
  explicit sealed(std::string t) : text(std::move(t)) {}
  sealed(const sealed&) = delete;
  sealed& operator=(const sealed&) = delete;
  void set(const std::string& t) { text = t; }
  std::string get() const { return text; }
  void save() { cadre::this_actor::checkpoint(); }
  std::string text;
  std::thread::id unwritable;
};

/// Can be made once.
struct once {
  explicit once(int) {
    if (cadre::this_actor::restarts() != 0) throw std::runtime_error("the device is taken");
  }
  int get() const { return 1; }
};

/// A call that has begun, and holds up the actor until tally::open.
cadre::future<void> begun_call(const cadre::actor<tally>& c) {
  tally::open = false;
  tally::passing = 0;
  auto f = c.call<&tally::pass>();
  while (tally::passing == 0) std::this_thread::yield();
  return f;
}

TEST_CASE("An actor that is killed for a restart is made anew by its constructor's arguments", "[actor]") {
  job rt;
  const auto c = rt->actor<tally>({.max_restarts = 2}, 10);
  CHECK(c.call<&tally::add>(5).get() == 15);
  CHECK(c.call<&tally::restarts>().get() == 0);
  CHECK(c.kill(anew));
  CHECK(c.call<&tally::get>().get() == 10);
  CHECK(c.call<&tally::restarts>().get() == 1);
}

TEST_CASE("An actor that is made anew has the state that it saved last", "[actor]") {
  job rt;
  const auto c = rt->actor<tally>({.max_restarts = -1}, 1);
  for (int round = 1; round <= 5; ++round) {
    CHECK(c.call<&tally::add_and_save>(1).get() == 1 + round);
    c.call<&tally::add>(100).get();  // not saved
    CHECK(c.kill(anew));
    CHECK(c.call<&tally::get>().get() == 1 + round);
    CHECK(c.call<&tally::restarts>().get() == round);
  }
}

TEST_CASE("With .checkpoint_every = 1 an actor that is made anew has all that it has answered", "[actor]") {
  job rt;
  const auto c = rt->actor<tally>({.max_restarts = -1, .checkpoint_every = 1});
  int n = 0;
  for (int round = 0; round < 20; ++round) {
    for (int k = 0; k < round; ++k) CHECK(c.call<&tally::add>(k).get() == (n += k));
    CHECK(c.kill(anew));
    CHECK(c.call<&tally::get>().get() == n);
  }
}

TEST_CASE("An actor is made anew as often as .max_restarts says, and then has died", "[actor]") {
  job rt;
  const auto c = rt->actor<tally>({.name = "twice", .max_restarts = 2});
  for (int k = 0; k < 2; ++k) {
    CHECK(c.kill(anew));
    CHECK(c.call<&tally::get>().get() == 0);
  }
  CHECK(c.kill(anew));
  CHECK_THROWS_WITH(c.call<&tally::get>().get(), Contains("it may not be made anew, or not again: see .max_restarts"));
  CHECK_THROWS_AS(rt->find_actor<tally>("twice"), cadre::no_such_actor);
  CHECK_FALSE(c.kill(anew));
}

TEST_CASE("An actor that may not be made anew ends, however it is killed", "[actor]") {
  job rt;
  const auto c = rt->actor<tally>();
  CHECK(c.kill(anew));
  CHECK_THROWS_AS(c.call<&tally::get>().get(), cadre::actor_died);
  const auto d = rt->actor<tally>({.max_restarts = 5});
  CHECK(d.kill());
  CHECK_THROWS_AS(d.call<&tally::get>().get(), cadre::actor_died);
}

TEST_CASE("Calls that wait when an actor is made anew fail, or run on the new one if they may be tried again",
          "[one process]") {
  job rt;
  for (const int retries : {0, 1}) {
    const auto c = rt->actor<tally>({.max_restarts = 1, .max_task_retries = retries});
    auto runs = begun_call(c);
    std::vector<cadre::future<int>> wait;
    for (int k = 0; k < 10; ++k) wait.push_back(c.call<&tally::add>(1));
    CHECK(c.kill(anew));
    tally::open = true;
    runs.get();
    for (int k = 0; k < 10; ++k) {
      auto& f = wait[static_cast<std::size_t>(k)];
      if (retries != 0)
        CHECK(f.get() == k + 1);
      else
        CHECK_THROWS_WITH(
            f.get(), Contains("a call is lost, as the actor 'restart_test::tally' is made anew: it was killed; call it "
                              "again, or say .max_task_retries where it is made"));
    }
    CHECK(c.call<&tally::get>().get() == 10 * retries);
  }
}

TEST_CASE("An actor that runs several calls at once is made anew when all of them are over", "[one process]") {
  job rt({.threads = 4});
  const auto c = rt->actor<tally>({.max_concurrency = 3, .max_restarts = -1, .max_task_retries = -1}, 7);
  for (int round = 0; round < 10; ++round) {
    tally::open = false;
    tally::passing = 0;
    std::vector<cadre::future<void>> all;
    for (int k = 0; k < 6; ++k) all.push_back(c.call<&tally::pass>());
    while (tally::passing != 3) std::this_thread::yield();
    CHECK(c.kill(anew));
    auto after = c.call<&tally::restarts>();
    tally::open = true;
    for (auto& f : all) f.get();
    CHECK(after.get() == round + 1);
    CHECK(c.call<&tally::get>().get() == 7);
  }
}

TEST_CASE("An actor whose constructor fails the second time has died of that", "[actor]") {
  job rt;
  const auto c = rt->actor<once>({.max_restarts = 3}, 1);
  CHECK(c.call<&once::get>().get() == 1);
  CHECK(c.kill(anew));
  CHECK_THROWS_WITH(c.call<&once::get>().get(), Contains("its constructor threw: the device is taken"));
}

TEST_CASE("The stop of an actor holds though it is made anew before", "[one process]") {
  job rt;
  const auto c = rt->actor<tally>({.max_restarts = 1});
  auto runs = begun_call(c);
  auto end = c.stop();
  c.kill(anew);
  tally::open = true;
  runs.get();
  end.get();
  CHECK_THROWS_WITH(c.call<&tally::get>().get(), Contains("it was stopped"));
}

TEST_CASE("A state that cannot be written is told", "[actor]") {
  job rt;
  const auto s = rt->actor<sealed>({.max_restarts = 1}, "as made");
  s.call<&sealed::set>("changed").get();
  CHECK_THROWS_WITH(
      s.call<&sealed::save>().get(),
      "[cadre.actor.613] the state of a restart_test::sealed cannot be saved; give it a serialize(), or make it "
      "so that its constructor's arguments say all");
  CHECK(s.kill(anew));
  CHECK(s.call<&sealed::get>().get() == "as made");
  CHECK_THROWS_WITH(rt->actor<sealed>({.max_restarts = 1, .checkpoint_every = 1}),
                    Contains(".checkpoint_every for an actor of restart_test::sealed, which has no serialize()"));
  rt->actor<sealed>().call<&sealed::save>().get();  // is never made anew, so has nothing to save
}

TEST_CASE("this_actor is of calls of actors alone", "[actor]") {
  CHECK_THROWS_WITH(
      cadre::this_actor::restarts(),
      "[cadre.actor.612] this thread runs no call of an actor; use this_actor in the methods of its class "
      "alone");
  CHECK_THROWS_AS(cadre::this_actor::checkpoint(), cadre::no_actor);
}

}  // namespace restart_test
