#ifndef CADRE_TESTS_ACTOR_COROUTINE_HPP
#define CADRE_TESTS_ACTOR_COROUTINE_HPP

#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/async/coroutine.hpp>
#include <cadre/async/promise.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace actor_coroutine_test {

using namespace std::chrono_literals;
using Catch::Matchers::Contains;
inline constexpr cadre::kill_options anew{.no_restart = false};

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
inline std::optional<gate> door;
inline std::atomic<int> begun{0}, ended{0}, alive{0};
inline void reset() {
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

inline int five() { return 5; }
inline cadre::future<int> soon(int x) {
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

}  // namespace actor_coroutine_test

#endif
