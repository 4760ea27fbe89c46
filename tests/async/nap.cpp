#include "catch.hpp"
#include "soon.hpp"

#include <cadre/async/detail/nap.hpp>
#include <cadre/async/thread_pool.hpp>

#include <atomic>

TEST_CASE("who naps looks before each sleep, until that was enough", "[nap]") {
  cadre::detail::nap n;
  int looks = 0;
  n.take([&] { return ++looks == 3; });
  CHECK(looks == 3);
  looks = 0;
  n.take([&] { return ++looks > 1000; });
  CHECK(looks > 1);
  CHECK(looks < 100);  // a nap is not a sleep: it ends by itself
}

TEST_CASE("who is called looks no further", "[nap]") {
  cadre::detail::nap n;
  n.call();  // nobody naps
  int looks = 0;
  n.take([&] {
    ++looks;
    n.call();
    return false;
  });
  CHECK(looks == 1);
}

TEST_CASE("one thread naps at a time", "[nap]") {
  cadre::detail::nap n;
  int looks = 0;
  n.take([&] {
    n.take([&] { return ++looks > 0; });
    return true;
  });
  CHECK(looks == 0);
}

TEST_CASE("what ends a long chain of tasks is run by another thread if its own does not come to it", "[nap]") {
  cadre::thread_pool pool{{.threads = 2}};
  struct link {
    cadre::thread_pool* pool;
    int left;
    std::atomic<int>* state;
    void operator()() const {
      if (left > 0) return pool->post(link{pool, left - 1, state});
      pool->post([s = state] { *s = 1; });
      *state = soon([&] { return *state == 1; }) ? 2 : 3;  // not a wait that helps
    }
  };
  for (const int length : {10, 1000, 100'000}) {
    for (int i = 0; i < 10; ++i) {
      std::atomic<int> state{0};
      pool.post(link{&pool, length, &state});
      REQUIRE(soon([&] { return state >= 2; }));
      REQUIRE(state == 2);
    }
  }
}
