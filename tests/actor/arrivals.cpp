#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/actor/detail/arrivals.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace arrivals_test {

// A task that is never run: only its link is used here.
class item final : public cadre::detail::state<void> {
 public:
  item() noexcept : state<void>(cadre::detail::no_pool, 0, {}) { publish(pending, 1); }
  void run() noexcept override {}
  void run_not() noexcept override {}
  std::size_t from = 0, number = 0;
};

struct last {
  int value = 0;
  int get() const { return value; }
  void set(int v) { value = v; }
};

}  // namespace arrivals_test

TEST_CASE("what arrives comes out in its order, while somebody takes it", "[arrivals]") {
  using arrivals_test::item;
  cadre::detail::arrivals in;
  const std::unique_ptr<item[]> all(::new item[3]);
  CHECK_FALSE(in.push(1, all[0]));
  CHECK_FALSE(in.push(0, all[0]));  // which is no actor
  CHECK(in.close());
  in.open(1);
  CHECK(in.pop() == nullptr);
  for (std::size_t i = 0; i < 3; ++i) CHECK(in.push(1, all[i]));
  CHECK_FALSE(in.close());
  for (std::size_t i = 0; i < 3; ++i) CHECK(in.pop() == &all[i]);
  CHECK(in.pop() == nullptr);
  CHECK(in.push(1, all[1]));
  CHECK(in.pop() == &all[1]);
  CHECK(in.close());
  CHECK_FALSE(in.push(1, all[0]));
}

TEST_CASE("what is for an actor that has gone does not come to the next one", "[arrivals]") {
  cadre::detail::arrivals in;
  arrivals_test::item call;
  in.open(cadre::detail::arrivals::most_actors - 1);
  CHECK(in.close());
  in.open(cadre::detail::arrivals::most_actors);
  CHECK_FALSE(in.push(cadre::detail::arrivals::most_actors - 1, call));
  CHECK_FALSE(in.push(cadre::detail::arrivals::most_actors + 1, call));
  CHECK(in.push(cadre::detail::arrivals::most_actors, call));
}

TEST_CASE("several threads push while one opens, takes and closes, and nothing is lost or overtaken", "[arrivals]") {
  using arrivals_test::item;
  constexpr std::size_t threads = 3, each = 20'000;
  const std::unique_ptr<item[]> all(::new item[threads * each]);
  cadre::detail::arrivals in;
  std::mutex mutex;  // of who takes
  std::size_t next[threads] = {}, wrong = 0;
  const auto take = [&](cadre::detail::task* t) {
    const auto* const i = static_cast<const item*>(t);
    wrong += i->number != next[i->from]++;
  };
  std::vector<std::thread> all_threads;
  for (std::size_t from = 0; from < threads; ++from)
    all_threads.emplace_back([&, from] {
      for (std::size_t n = 0; n < each; ++n) {
        item& mine = all[from * each + n];
        mine.from = from;
        mine.number = n;
        if (in.push(1, mine)) continue;
        const std::lock_guard lock(mutex);  // as who makes a turn
        in.open(1);
        take(&mine);
        for (int looks = 0; looks < 100 || !in.close(); ++looks)
          if (cadre::detail::task* const t = in.pop()) take(t);
      }
    });
  for (auto& t : all_threads) t.join();
  CHECK(wrong == 0);
  for (const std::size_t n : next) CHECK(n == each);
}

TEST_CASE("actors by the tens of thousands, one after the other, have calls of their own", "[arrivals]") {
  cadre::runtime rt;
  int wrong = 0;
  for (int i = 0; i < 70'000; ++i) {  // more than a cell can tell apart
    auto a = rt.actor<arrivals_test::last>();
    a.tell<&arrivals_test::last::set>(i);
    wrong += a.call<&arrivals_test::last::get>().get() != i;
    a.kill();
  }
  CHECK(wrong == 0);
}
