#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/async/coroutine.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/async/this_task.hpp>

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace actor_coroutine_test {

using namespace std::chrono_literals;
using Catch::Matchers::Contains;
constexpr cadre::kill_options anew{.no_restart = false};

/// True, unless it takes ten seconds: so that what would hang for ever fails instead.
template <class Condition>
bool eventually(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (!condition() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(100us);
  return condition();
}

/// What coroutines wait for until the test lets them go on.
class gate {
 public:
  gate() : opened_(promise_.get_future().share()) {}
  void open() { promise_.set_value(); }
  [[nodiscard]] cadre::shared_future<void> opened() const { return opened_; }

 private:
  cadre::promise<void> promise_;
  cadre::shared_future<void> opened_;
};
std::optional<gate> door;
std::atomic<int> begun{0}, ended{0}, alive{0};
void reset() {
  door.emplace();
  begun = ended = 0;
}

/// A local variable of a coroutine, or an actor's member, that is counted.
struct counted {
  counted() { ++alive; }
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  ~counted() { --alive; }
};

int five() { return 5; }
cadre::future<int> soon(int x) {
  return cadre::this_task::runtime().pool().submit([x] { return x; });
}

class worker {
 public:
  // Ordinary methods.
  int add(int k) { return n_ += k; }
  int get() const { return n_; }
  void note(int k) { order_.push_back(k); }
  std::vector<int> order() const { return order_; }
  void block() {
    ++begun;
    static_cast<void>(eventually([] { return ended != 0; }));
  }

  // Coroutines.
  cadre::future<int> add_later(int k) {
    ++begun;
    const counted local;
    co_await door->opened();
    co_return n_ += k;
  }
  cadre::future<void> note_later(int k) {
    order_.push_back(k);
    co_await door->opened();
    order_.push_back(-k);
  }
  cadre::future<int> add_soon(int k) {
    const int more = co_await soon(k);
    co_return n_ += more;
  }
  cadre::future<int> fail_later() {
    co_await soon(0);
    throw std::out_of_range("no such thing");
  }
  cadre::future<int> fail_at_once() { throw std::out_of_range("not even a coroutine"); }
  cadre::future<int> at_once(int k) { co_return k; }
  cadre::future<std::size_t> length(std::string by_value, const std::string& by_reference) {
    co_await door->opened();
    co_return by_value.size() + by_reference.size();
  }
  cadre::future<float> sum(std::span<const float> all) {
    co_await door->opened();
    co_return std::accumulate(all.begin(), all.end(), 0.0f);
  }
  cadre::future<int> on_rank() {
    co_await door->opened();
    co_return cadre::this_task::runtime().rank() + cadre::this_actor::restarts();
  }
  cadre::future<int> wait_for_itself(cadre::actor<worker> self) { co_return co_await self.call<&worker::add>(1) + 1; }
  cadre::future<int> wait_for_its_next(cadre::actor<worker> self) {
    ++begun;
    co_await door->opened();
    co_return co_await self.call<&worker::add>(1);
  }
  cadre::future<int> get_from_itself(cadre::actor<worker> self) {
    co_await soon(0);
    co_return self.call<&worker::add>(1).get();
  }

  // Functions that are no coroutines.
  cadre::future<int> forward(cadre::actor<worker> to) { return to.call<&worker::add_soon>(1); }
  cadre::future<int> promised() {
    promise_.emplace();
    ++begun;
    return promise_->get_future();
  }
  bool is_promise_wanted() const { return !promise_->stop_requested(); }
  void keep_promise(int k) { promise_->set_value(k); }
  cadre::future<int> empty() { return {}; }

 private:
  int n_ = 0;
  std::vector<int> order_;
  std::optional<cadre::promise<int>> promise_;
  const counted itself_;
};

using one_future = cadre::future<int>;
static_assert(std::same_as<decltype(std::declval<cadre::actor<worker>>().call<&worker::add_later>(1)), one_future>);

TEST_CASE("A method that is a coroutine gives a future of what it returns, or throws", "[actor]") {
  job rt;
  const auto w = rt->actor<worker>();
  CHECK(w.call<&worker::add_soon>(3).get() == 3);
  CHECK(w.call<&worker::at_once>(7).get() == 7);
  CHECK_THROWS_AS(w.call<&worker::fail_later>().get(), std::out_of_range);
  CHECK_THROWS_WITH(w.call<&worker::fail_at_once>().get(), "not even a coroutine");
  reset();
  auto nothing = w.call<&worker::note_later>(1);
  door->open();
  nothing.get();
  CHECK(w.call<&worker::order>().get() == std::vector<int>{1, -1});
}

TEST_CASE("An actor runs other calls while a coroutine of it waits", "[actor]") {
  for (const std::size_t threads : {1u, 3u}) {
    job rt({.threads = threads});
    reset();
    const auto w = rt->actor<worker>();
    auto later = w.call<&worker::add_later>(100);
    CHECK(w.call<&worker::add>(1).get() == 1);
    CHECK(w.call<&worker::add>(1).get() == 2);
    CHECK_FALSE(later.ready());
    door->open();
    CHECK(later.get() == 102);
  }
}

TEST_CASE("Calls begin in their order, whichever of them are coroutines that wait", "[actor]") {
  for (const std::size_t threads : {1u, 3u}) {
    job rt({.threads = threads});
    reset();
    const auto w = rt->actor<worker>();
    std::vector<cadre::future<void>> all;
    std::vector<int> expected;
    for (int k = 1; k <= 50; ++k) {
      all.push_back(k % 2 == 0 ? w.call<&worker::note>(k) : w.call<&worker::note_later>(k));
      expected.push_back(k);
    }
    CHECK(w.call<&worker::order>().get() == expected);
    door->open();
    for (auto& f : all) f.get();
    CHECK(w.call<&worker::order>().get().size() == 75);
  }
}

/// Its members have no lock.
class unlocked {
 public:
  int touch() {
    if (inside_.exchange(true)) ++collisions;
    const int n = ++n_;
    inside_ = false;
    return n;
  }
  cadre::future<int> touch_often(int times) {
    for (int k = 0; k < times; ++k) {
      touch();
      static_cast<void>(co_await soon(k));
    }
    co_return touch();
  }
  cadre::future<int> part(int k) {
    touch();
    static_cast<void>(co_await soon(k));
    co_return touch();
  }
  cadre::future<int> by_parts() {
    auto one = part(1), two = part(2);  // both under way
    static_cast<void>(co_await one);
    static_cast<void>(co_await two);
    co_await cadre::reschedule(cadre::this_task::runtime().pool());
    co_return touch();
  }
  int get() const { return n_; }
  static inline std::atomic<int> collisions{0};

 private:
  int n_ = 0;
  std::atomic<bool> inside_{false};
};

TEST_CASE("The members of an actor are touched by one thread at a time, by coroutines too", "[actor]") {
  for (const std::size_t threads : {1u, 4u}) {
    job rt({.threads = threads});
    unlocked::collisions = 0;
    const auto u = rt->actor<unlocked>();
    std::vector<cadre::future<int>> all;
    int expected = 0;
    for (int k = 0; k < 40; ++k) {
      all.push_back(u.call<&unlocked::touch_often>(10));
      all.push_back(u.call<&unlocked::touch>());
      all.push_back(u.call<&unlocked::by_parts>());
      expected += 11 + 1 + 5;
    }
    for (auto& f : all) f.get();
    CHECK(u.call<&unlocked::get>().get() == expected);
    CHECK(unlocked::collisions == 0);
  }
}

TEST_CASE("A coroutine goes on when the call that runs is over, and not before", "[actor]") {
  job rt({.threads = 3});
  reset();
  const auto w = rt->actor<worker>();
  auto later = w.call<&worker::add_later>(1);
  CHECK(eventually([] { return begun == 1; }));
  auto runs = w.call<&worker::block>();
  CHECK(eventually([] { return begun == 2; }));
  door->open();
  CHECK_FALSE(later.wait_for(20ms));
  ++ended;
  runs.get();
  CHECK(later.get() == 1);
}

TEST_CASE("Calls and the parts of coroutines take turns, so that neither starves", "[actor]") {
  struct busy {
    cadre::future<int> until_told() {
      int rounds = 0;
      while (!told) {
        co_await cadre::reschedule(cadre::this_task::runtime().pool());
        ++rounds;
      }
      co_return rounds;
    }
    void tell() { told = true; }
    void nothing() {}
    bool told = false;
  };
  job rt({.threads = 1});
  const auto b = rt->actor<busy>();
  std::vector<cadre::future<int>> loops;
  for (int k = 0; k < 10; ++k) loops.push_back(b.call<&busy::until_told>());
  for (int k = 0; k < 1000; ++k) b.tell<&busy::nothing>();
  b.call<&busy::tell>().get();
  for (auto& f : loops) CHECK(f.get() > 0);
}

TEST_CASE("this_task and this_actor work in a coroutine that has gone on", "[actor]") {
  job rt;
  reset();
  const auto w = rt->actor<worker>({.max_restarts = 1});
  w.kill(anew);
  auto where = w.call<&worker::on_rank>();
  door->open();
  CHECK(where.get() == 1);
}

TEST_CASE("Arguments live until the coroutine is over", "[actor]") {
  job rt;
  reset();
  const auto w = rt->actor<worker>();
  auto length = w.call<&worker::length>(std::string(100, 'a'), std::string(50, 'b'));
  auto sum = w.call<&worker::sum>(rt->put(std::vector<float>(1000, 0.5f)));
  CHECK(w.call<&worker::get>().get() == 0);
  door->open();
  CHECK(length.get() == 150);
  CHECK(sum.get() == 500);
}

TEST_CASE("A method may return a future that it has from elsewhere", "[actor]") {
  job rt;
  reset();
  const auto w = rt->actor<worker>();
  const auto other = rt->actor<worker>();
  CHECK(w.call<&worker::forward>(other).get() == 1);
  CHECK(w.call<&worker::forward>(w).get() == 1);
  auto promised = w.call<&worker::promised>();
  w.call<&worker::keep_promise>(4).get();
  CHECK(promised.get() == 4);
  CHECK_THROWS_AS(w.call<&worker::empty>().get(), cadre::empty_future);
}

TEST_CASE("What nobody asked a coroutine for goes where the errors of other methods go", "[actor]") {
  std::mutex mutex;
  std::vector<std::string> errors;
  {
    job rt({.threads = 2, .on_unobserved_error = [&](const cadre::unobserved_error& e) {
              const std::lock_guard lock(mutex);
              errors.emplace_back(e.task);
            }});
    const auto w = rt->actor<worker>();
    w.tell<&worker::fail_later>();
    w.tell<&worker::add_soon>(1);
    w.tell<&worker::fail_at_once>();
    w.stop().get();
  }
  REQUIRE(errors.size() == 2);
  for (const std::string& e : errors) CHECK_THAT(e, Contains("worker::fail_"));
}

TEST_CASE("A stop waits for the coroutines that were called before", "[actor]") {
  job rt({.threads = 1});
  reset();
  const auto w = rt->actor<worker>();
  auto later = w.call<&worker::add_later>(1);
  auto stop = w.stop(), again = w.stop();
  auto after = w.call<&worker::add>(1);
  CHECK_THROWS_WITH(after.get(), Contains("it was stopped"));
  CHECK_FALSE(stop.wait_for(10ms));
  CHECK_FALSE(later.ready());
  door->open();
  CHECK(later.get() == 1);
  stop.get();
  again.get();
  CHECK_THROWS_AS(w.call<&worker::add>(1).get(), cadre::actor_died);
  CHECK(eventually([] { return alive == 0; }));
}

TEST_CASE("A coroutine whose actor is being stopped is told that it can call it no more, rather than to wait", "[actor]") {
  job rt({.threads = 1});
  reset();
  const auto w = rt->actor<worker>();
  auto next = w.call<&worker::wait_for_its_next>(w);
  auto stop = w.stop();
  CHECK(eventually([] { return begun == 1; }));
  door->open();
  CHECK_THROWS_AS(next.get(), cadre::actor_died);
  stop.get();
}

TEST_CASE("A kill ends the coroutines that wait: their calls fail, and nothing of them is left", "[actor]") {
  for (const std::size_t threads : {1u, 3u}) {
    job rt({.threads = threads});
    reset();
    CHECK(alive == 0);
    const auto w = rt->actor<worker>();
    std::vector<cadre::future<int>> all;
    for (int k = 0; k < 20; ++k) all.push_back(w.call<&worker::add_later>(k));
    auto promised = w.call<&worker::promised>();
    CHECK(eventually([] { return begun == 21; }));
    CHECK(alive == 21);
    CHECK(w.kill());
    for (auto& f : all) CHECK_THROWS_WITH(f.get(), Contains("[cadre.actor.601]") && Contains("it was killed"));
    CHECK_THROWS_AS(promised.get(), cadre::actor_died);
    CHECK(eventually([] { return alive == 0; }));
  }
}

}  // namespace actor_coroutine_test
