// ranks: 1 2 4 8
// Coroutine methods, called from other ranks.
#include "over_ranks.hpp"

#include <cadre/async/coroutine.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/mpi.hpp>

#include <atomic>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace mpi_actor_coroutine {

std::atomic<int> alive{0}, begun{0}, over{0};
struct counted {
  counted() { ++alive; }
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  ~counted() { --alive; }
};
int count_alive() { return alive; }

/// Its coroutines wait for calls of other actors, which may be anywhere.
class relay {
 public:
  int rank() const { return cadre::this_task::runtime().rank(); }
  int add(int k) { return n_ += k; }
  cadre::future<std::string> tell(std::string text, const std::string& more) {
    co_await opened();
    co_return text + more;
  }
  cadre::future<int> wait() {
    const counted local;
    co_await opened();
    co_return n_;
  }
  cadre::future<void> fail() {
    co_await cadre::this_task::runtime().pool().submit([] {});
    throw std::out_of_range("on the way");
  }
  void open() { door_.set_value(); }
  /// There and back, hop by hop.
  cadre::future<int> hop(std::vector<cadre::actor<relay>> others, int left) {
    ++begun;
    int sum = rank();
    if (left != 0) {
      const auto next = others[static_cast<std::size_t>(left) % others.size()];
      sum = 100 + co_await next.call<&relay::hop>(others, left - 1);
    }
    ++over;
    co_return sum;
  }
  cadre::future<int> forward(cadre::actor<relay> to) { return to.call<&relay::add>(1); }

 private:
  cadre::shared_future<void> opened() {
    if (!opened_) opened_ = door_.get_future().share();
    return *opened_;
  }
  cadre::promise<void> door_;
  std::optional<cadre::shared_future<void>> opened_;
  int n_ = 0;
};

void until_alive(cadre::runtime& rt, int rank, int n) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (rt.submit<&count_alive>({.on = cadre::on_rank(rank)}).get() != n)
    REQUIRE(std::chrono::steady_clock::now() < end);
}

TEST_CASE("A coroutine of an actor of another rank gives a future of what it returns, and frees the actor", "[mpi]") {
  job rt;
  for (int r = 0; r < rt->world_size(); ++r) {
    const auto a = rt->actor<relay>({.on = cadre::on_rank(r)});
    cadre::future<std::string> told = a.call<&relay::tell>("there ", "and back");
    CHECK(a.call<&relay::add>(1).get() == 1);
    CHECK_FALSE(told.ready());
    a.call<&relay::open>().get();
    CHECK(told.get() == "there and back");
    CHECK_THROWS_WITH(a.call<&relay::fail>().get(), "on the way");
    CHECK_THROWS_AS(a.call<&relay::fail>().get(), std::out_of_range);
    a.stop().get();
  }
}

TEST_CASE("Coroutines of actors on several ranks await each other, round and round", "[mpi]") {
  job rt;
  std::vector<cadre::actor<relay>> all;
  for (int k = 0; k < 3; ++k) all.push_back(rt->actor<relay>({.on = cadre::on_rank(k % rt->world_size())}));
  for (const int hops : {0, 1, 2, 30}) {
    const int last = hops == 0 ? 0 : 1 % rt->world_size();
    CHECK(all[0].call<&relay::hop>(all, hops).get() == 100 * hops + last);
  }
  CHECK(all[0].call<&relay::forward>(all[2]).get() == 1);
  for (auto& a : all) a.stop().get();
}

TEST_CASE("Cancelling reaches a coroutine on another rank; killing its actor fails its calls", "[mpi]") {
  job rt;
  const int last = rt->world_size() - 1;
  const auto a = rt->actor<relay>({.on = cadre::on_rank(last)});
  auto cancelled = a.call<&relay::wait>();
  until_alive(*rt, last, 1);
  cancelled.cancel();
  CHECK_THROWS_AS(cancelled.get(), cadre::task_cancelled);
  until_alive(*rt, last, 0);
  auto lost = a.call<&relay::wait>();
  until_alive(*rt, last, 1);
  auto stop = a.stop();
  CHECK_FALSE(stop.ready());
  CHECK(a.kill());
  CHECK_THROWS_WITH(lost.get(), Catch::Contains("[cadre.actor.601]") && Catch::Contains("it was killed"));
  stop.get();
  until_alive(*rt, last, 0);
}

TEST_CASE("A coroutine runs as a task of any rank", "[mpi]") {
  job rt;
  for (int r = 0; r < rt->world_size(); ++r) {
    cadre::future<int> where = rt->submit<[](int k) -> cadre::future<int> {
      const int more = co_await cadre::this_task::runtime().pool().submit([k] { return k; });
      co_return more + cadre::this_task::runtime().rank();
    }>({.on = cadre::on_rank(r)}, 10);
    CHECK(where.get() == 10 + r);
  }
}

TEST_CASE("The job ends when the coroutines are over that nobody waits for", "[mpi]") {
  job rt;
  const auto a = rt->actor<relay>({.on = cadre::on_rank(rt->world_size() - 1)});
  const std::vector<cadre::actor<relay>> all{a, rt->actor<relay>({.on = cadre::on_rank(0)})};
  for (int k = 0; k < 10; ++k) a.tell<&relay::hop>(all, 10);
}

}  // namespace mpi_actor_coroutine

int main(int argc, char** argv) {
  const int failed = run_tests_over_ranks(argc, argv);
  // Of the last test, on each rank.
  return failed != 0 ? failed : mpi_actor_coroutine::begun != mpi_actor_coroutine::over;
}
