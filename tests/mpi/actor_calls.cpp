// ranks: 1 2 4 8
// Many small calls of an actor of another rank, which come together and are read when their turn has come.
#include "over_ranks.hpp"

#include <cadre/actor.hpp>
#include <cadre/mpi.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

thread_local bool waits_here = false;
std::atomic<int> ran_in_a_wait{0}, left{0};

void leave_behind() {
  if (waits_here) ++ran_in_a_wait;
  --left;
}
int nothing() { return 0; }

class subject {
 public:
  void note(int k) { seen_.push_back(k); }
  std::size_t note_text(int k, const std::string& text) {
    seen_.push_back(k);
    return text.size();
  }
  std::size_t note_block(int k, const std::vector<float>& block) {
    seen_.push_back(k);
    return block.size();
  }
  int note_object(int k, const int& object) {
    seen_.push_back(k);
    return object;
  }
  int next() { return ++calls_; }
  int calls() { return calls_; }
  std::vector<int> seen() { return seen_; }

  int until_stopped() {
    while (!cadre::this_task::stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return -1;
  }
  /// Tasks of this rank that nobody waits for.
  void leave_tasks() {
    cadre::runtime& here = cadre::this_task::runtime();
    for (int i = 0; i < 3; ++i) {
      ++left;
      static_cast<void>(here.submit<&leave_behind>({.on = cadre::on_rank(here.rank())}));
    }
  }
  int wait_for_a_task() {
    cadre::runtime& here = cadre::this_task::runtime();
    waits_here = true;
    const int got = here.submit<&nothing>({.on = cadre::on_rank(here.rank())}).get();
    waits_here = false;
    return got;
  }
  std::vector<int> left_tasks() { return {left.load(), ran_in_a_wait.load()}; }

 private:
  int calls_ = 0;
  std::vector<int> seen_;
};
struct other {
  int next() { return -1000; }
};

cadre::actor_options on_last(cadre::runtime& rt) { return {.on = cadre::on_rank(rt.world_size() - 1)}; }

TEST_CASE("Calls of all kinds run in the order in which one caller made them", "[mpi]") {
  job rt;
  const auto a = rt->actor<subject>(on_last(*rt));
  const std::vector<float> block(20'000, 1);
  std::vector<cadre::future<std::size_t>> sizes;
  std::vector<cadre::future<int>> objects;
  constexpr int n = 4000;
  for (int k = 0; k < n; ++k) {
    if (k % 97 == 0)
      sizes.push_back(a.call<&subject::note_block>(k, block));
    else if (k % 41 == 0)
      sizes.push_back(a.call<&subject::note_text>(k, std::string(static_cast<std::size_t>(k), 'x')));
    else if (k % 59 == 0)
      objects.push_back(a.call<&subject::note_object>(k, rt->put(k)));
    else
      a.tell<&subject::note>(k);
  }
  for (auto& f : sizes) f.get();
  for (auto& f : objects) f.get();
  std::vector<int> all(n);
  std::iota(all.begin(), all.end(), 0);
  CHECK(a.call<&subject::seen>().get() == all);
  a.stop().get();
}

TEST_CASE("Of calls that are cancelled at any time each ends, and none runs that ended as cancelled", "[mpi]") {
  job rt;
  std::mt19937 random(1);
  const auto a = rt->actor<subject>(on_last(*rt));
  int ran = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<cadre::future<int>> all;
    for (int k = 0; k < 500; ++k) {
      all.push_back(a.call<&subject::next>());
      if (k % 3 == 0) all[random() % all.size()].cancel();
    }
    for (auto& f : all) {
      try {
        f.get();
        ++ran;
      } catch (const cadre::task_cancelled&) {}
    }
  }
  // One that has begun when it is cancelled, and does not ask, runs to its end.
  CHECK(a.call<&subject::calls>().get() == ran);
  a.stop().get();
}

TEST_CASE("Calls of several methods and actors, by turns and in a row, each reach their own in order", "[mpi]") {
  job rt;
  std::mt19937 random(1);
  const std::size_t n = GENERATE(2U, 150U);
  std::vector<cadre::actor<subject>> all;
  for (std::size_t i = 0; i < n; ++i) all.push_back(rt->actor<subject>(on_last(*rt)));
  const auto another = rt->actor<other>(on_last(*rt));
  std::vector<std::vector<int>> told(n);
  std::vector<std::vector<cadre::future<int>>> counted(n);
  std::vector<cadre::future<std::size_t>> texts;
  std::vector<cadre::future<int>> of_another;
  for (int k = 0; k < 5000; ++k) {
    const std::size_t who = random() % n;
    const auto what = random() % 8;
    for (auto times = random() % 5; times-- != 0;) {
      if (what == 7) {
        of_another.push_back(another.call<&other::next>());
      } else if (what == 6) {
        texts.push_back(all[who].call<&subject::note_text>(k, std::string(random() % 2000, 'x')));
        told[who].push_back(k);
      } else if (what > 3) {
        counted[who].push_back(all[who].call<&subject::next>());
      } else {
        all[who].tell<&subject::note>(k);
        told[who].push_back(k);
      }
    }
  }
  for (std::size_t who = 0; who < n; ++who) {
    int calls = 0;
    for (auto& f : counted[who]) CHECK(f.get() == ++calls);
    CHECK(all[who].call<&subject::seen>().get() == told[who]);
    all[who].stop().get();
  }
  for (auto& f : texts) CHECK(f.get() < 2000);
  for (auto& f : of_another) CHECK(f.get() == -1000);
  another.stop().get();
}

TEST_CASE("Answers do not wait for a long call behind them", "[mpi]") {
  job rt;
  const auto a = rt->actor<subject>(on_last(*rt));
  const int before_it = GENERATE(1, 2, 100);
  int calls = 0;
  for (int k = 1; k <= 20; ++k) {
    std::vector<cadre::future<int>> quick;
    for (int i = 0; i < before_it; ++i) quick.push_back(a.call<&subject::next>());
    auto lasting = a.call<&subject::until_stopped>();
    for (auto& f : quick) {
      CHECK(f.wait_for(std::chrono::seconds(10)));
      CHECK(f.get() == ++calls);
    }
    lasting.cancel();
    try {
      const int got = lasting.get();
      CHECK(got == -1);
    } catch (const cadre::task_cancelled&) {  // it had not begun
    }
  }
  a.stop().get();
}

TEST_CASE("A call that waits runs no task that an earlier call has left", "[mpi]") {
  job rt;
  const auto a = rt->actor<subject>(on_last(*rt));
  std::vector<cadre::future<int>> all;
  for (int k = 0; k < 200; ++k) {
    a.tell<&subject::leave_tasks>();
    all.push_back(a.call<&subject::wait_for_a_task>());
  }
  for (auto& f : all) f.get();
  std::vector<int> then;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  do {
    then = a.call<&subject::left_tasks>().get();
  } while (then[0] != 0 && std::chrono::steady_clock::now() < end);
  CHECK(then == std::vector<int>{0, 0});
  a.stop().get();
}

TEST_CASE("Calls under way when their actor is killed end, and none reaches the one that takes its place", "[mpi]") {
  job rt;
  for (int round = 0; round < 50; ++round) {
    const auto a = rt->actor<subject>(on_last(*rt));
    std::vector<cadre::future<int>> all;
    for (int k = 0; k < 100; ++k) all.push_back(a.call<&subject::next>());
    a.kill();
    for (int k = 0; k < 100; ++k) all.push_back(a.call<&subject::next>());
    const auto b = rt->actor<other>(on_last(*rt));
    for (int k = 0; k < 100; ++k) all.push_back(a.call<&subject::next>());
    int answered = 0, died = 0;
    for (auto& f : all) {
      try {
        const int got = f.get();
        CHECK(got == ++answered);
      } catch (const cadre::actor_died&) {
        ++died;
      }
    }
    CHECK(answered <= 100);
    CHECK(answered + died == 300);
    CHECK(b.call<&other::next>().get() == -1000);
    b.kill();
  }
}

TEST_CASE("Who waits with a deadline, or for the first of some, has the answer when it comes", "[mpi]") {
  job rt;
  const auto a = rt->actor<subject>(on_last(*rt)), b = rt->actor<subject>(on_last(*rt));
  for (int k = 1; k <= 1000; ++k) {
    auto call = a.call<&subject::next>();
    REQUIRE(call.wait_for(std::chrono::seconds(30)));
    REQUIRE(call.get() == k);
    std::vector<cadre::future<int>> two;
    two.push_back(a.call<&subject::calls>());
    two.push_back(b.call<&subject::calls>());
    REQUIRE(cadre::wait(two, 1).ready.size() >= 1);
  }
}

}  // namespace

int main(int argc, char** argv) { return run_tests_over_ranks(argc, argv); }
