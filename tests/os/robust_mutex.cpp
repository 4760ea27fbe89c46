#include "catch.hpp"
#include "talking_child.hpp"

#include <cadre/os/robust_mutex.hpp>

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

namespace robust_mutex_test {

using namespace std::chrono_literals;
using cadre::lock_result;
using clock = std::chrono::steady_clock;
constexpr auto for_ever = clock::time_point::max();

static_assert(std::is_trivially_default_constructible_v<cadre::robust_mutex>);
static_assert(std::is_trivially_destructible_v<cadre::robust_mutex>);
static_assert(std::is_standard_layout_v<cadre::robust_mutex>);

struct page {
  cadre::robust_mutex mutex;
  std::uint64_t counter;
  std::uint64_t copy;  // equals the counter whenever the mutex is free
};

/// A page that processes made by fork() share.
class shared_page {
 public:
  shared_page()
      : file_(cadre::make_memory_file("cadre-test", 4096)),
        mapping_(cadre::mapping::shared(file_, 4096)),
        page_(new(mapping_.data()) page) {
    page_->mutex.init();
  }
  page* operator->() const { return page_; }

 private:
  cadre::file_descriptor file_;
  cadre::mapping mapping_;
  page* page_;
};

using child = talking_child<char>;

}  // namespace robust_mutex_test

TEST_CASE("A free mutex is locked whatever the deadline, and one that is held is not", "[robust_mutex]") {
  using namespace robust_mutex_test;
  shared_page p;
  for (const auto deadline : {clock::time_point::min(), clock::time_point{}, clock::now(), for_ever}) {
    CHECK(p->mutex.lock_until(deadline) == lock_result::locked);
    p->mutex.unlock();
  }
  CHECK(p->mutex.lock_until(for_ever) == lock_result::locked);
  std::thread([&] {
    const auto deadline = clock::now() + 20ms;
    CHECK(p->mutex.lock_until(clock::time_point::min()) == lock_result::timed_out);
    CHECK(p->mutex.lock_until(clock::time_point{} + 1ns) == lock_result::timed_out);
    CHECK(p->mutex.lock_until(deadline) == lock_result::timed_out);
    CHECK(clock::now() >= deadline);
  }).join();
  p->mutex.unlock();
}

TEST_CASE("Threads that contend for a mutex lose no update", "[robust_mutex]") {
  using namespace robust_mutex_test;
  shared_page p;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, deadline = i % 2 == 0 ? for_ever : clock::now() + 60s] {
      for (int round = 0; round < 5000; ++round) {
        if (p->mutex.lock_until(deadline) != lock_result::locked) return;
        p->copy = ++p->counter;
        p->mutex.unlock();
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(p->counter == 20000);
  CHECK(p->copy == 20000);
}

TEST_CASE("A mutex whose holder was killed is had at once, with word that there is something to repair",
          "[robust_mutex]") {
  using namespace robust_mutex_test;
  shared_page p;
  child holder([&](auto tell, auto) {
    static_cast<void>(p->mutex.lock_until(for_ever));
    p->counter = 1;  // and not the copy
    tell();
  });
  REQUIRE(holder.heard());
  CHECK(p->mutex.lock_until(clock::now()) == lock_result::timed_out);
  holder.kill();
  REQUIRE(p->mutex.lock_until(clock::time_point::min()) == lock_result::owner_died);
  p->copy = p->counter;
  p->mutex.made_consistent();
  p->mutex.unlock();
  CHECK(p->mutex.lock_until(clock::time_point::min()) == lock_result::locked);
  p->mutex.unlock();
}

TEST_CASE("One who sleeps for a mutex wakes up when its holder is killed", "[robust_mutex]") {
  using namespace robust_mutex_test;
  const auto deadline = GENERATE(true, false) ? for_ever : clock::now() + 60s;
  shared_page p;
  child holder([&](auto tell, auto) {
    static_cast<void>(p->mutex.lock_until(for_ever));
    tell();
  });
  REQUIRE(holder.heard());
  child waiter([&](auto tell, auto) {
    tell();
    if (p->mutex.lock_until(deadline) == lock_result::owner_died) tell();
  });
  REQUIRE(waiter.heard());
  holder.kill();
  CHECK(waiter.heard());
}

TEST_CASE("Until someone has repaired it, every holder is told, after unlocking and after dying", "[robust_mutex]") {
  using namespace robust_mutex_test;
  shared_page p;
  child holder([&](auto tell, auto) {
    static_cast<void>(p->mutex.lock_until(for_ever));
    tell();
  });
  REQUIRE(holder.heard());
  holder.kill();
  for (int round = 0; round < 3; ++round) {  // those who repair die as well
    child repairer([&](auto tell, auto) {
      if (p->mutex.lock_until(for_ever) == lock_result::owner_died) tell();
    });
    REQUIRE(repairer.heard());
    repairer.kill();
  }
  for (int round = 0; round < 3; ++round) {  // a repair that threw
    REQUIRE(p->mutex.lock_until(for_ever) == lock_result::owner_died);
    p->mutex.unlock();
  }
  REQUIRE(p->mutex.lock_until(for_ever) == lock_result::owner_died);
  p->mutex.made_consistent();
  p->mutex.unlock();
  CHECK(p->mutex.lock_until(for_ever) == lock_result::locked);
  p->mutex.unlock();
}

TEST_CASE("A holder that is stopped is waited for until the deadline, and no longer", "[robust_mutex]") {
  using namespace robust_mutex_test;
  shared_page p;
  child holder([&](auto tell, auto wait_for_word) {
    static_cast<void>(p->mutex.lock_until(for_ever));
    tell();
    wait_for_word();
    p->mutex.unlock();
  });
  REQUIRE(holder.heard());
  ::kill(holder.id(), SIGSTOP);
  int status = 0;
  REQUIRE(::waitpid(holder.id(), &status, WUNTRACED) == holder.id());
  REQUIRE(WIFSTOPPED(status));
  REQUIRE(holder.tell());
  const auto deadline = clock::now() + 20ms;
  CHECK(p->mutex.lock_until(deadline) == lock_result::timed_out);
  CHECK(clock::now() >= deadline);
  ::kill(holder.id(), SIGCONT);
  CHECK(p->mutex.lock_until(for_ever) == lock_result::locked);
  p->mutex.unlock();
}

TEST_CASE("A mutex whose thread ended without unlocking is told like one of a dead process", "[robust_mutex]") {
  using namespace robust_mutex_test;
  shared_page p;
  std::thread([&] { static_cast<void>(p->mutex.lock_until(for_ever)); }).join();
  CHECK(p->mutex.lock_until(clock::now() + 10s) == lock_result::owner_died);
  p->mutex.made_consistent();
  p->mutex.unlock();
}

TEST_CASE("Of processes killed at any instant none takes the mutex along", "[robust_mutex]") {
  using namespace robust_mutex_test;
  shared_page p;
  std::uint64_t found_dead = 0;
  for (int round = 0; round < 40; ++round) {
    const auto body = [&](auto tell, auto) {
      tell();
      for (;;) {
        if (p->mutex.lock_until(for_ever) == lock_result::owner_died) {
          p->copy = p->counter;
          p->mutex.made_consistent();
        }
        for (int i = 0; i < 20; ++i) p->copy = ++p->counter;
        p->mutex.unlock();
      }
    };
    child one(body), other(body);
    REQUIRE(one.heard());
    REQUIRE(other.heard());
    for (const std::uint64_t until = p->counter + 2000; *static_cast<volatile std::uint64_t*>(&p->counter) < until;) {}
    one.kill();
    other.kill();
    const lock_result result = p->mutex.lock_until(clock::now() + 10s);
    REQUIRE(result != lock_result::timed_out);
    if (result == lock_result::owner_died) {
      ++found_dead;
      p->copy = p->counter;
      p->mutex.made_consistent();
    }
    REQUIRE(p->copy == p->counter);
    p->mutex.unlock();
  }
  CHECK(found_dead > 0);
}
