#include "catch.hpp"

#include <cadre/os/futex.hpp>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <new>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

TEST_CASE("a futex wait returns at once if the word has another value", "[futex]") {
  std::atomic<std::uint32_t> word{1};
  cadre::futex::wait(word, 0);
  CHECK(cadre::futex::wait_until(word, 0, std::chrono::steady_clock::now() + 60s));
}

TEST_CASE("a timed futex wait ends at its deadline, not before", "[futex]") {
  std::atomic<std::uint32_t> word{0};
  const auto deadline = std::chrono::steady_clock::now() + 20ms;
  while (cadre::futex::wait_until(word, 0, deadline)) {}
  CHECK(std::chrono::steady_clock::now() >= deadline);
  CHECK_FALSE(cadre::futex::wait_until(word, 0, deadline));
  CHECK_FALSE(cadre::futex::wait_until(word, 0, std::chrono::steady_clock::time_point::min()));
}

TEST_CASE("waking all releases every thread that waits", "[futex]") {
  std::atomic<std::uint32_t> word{0};
  std::atomic<int> released{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      while (word.load() == 0) cadre::futex::wait(word, 0);
      ++released;
    });
  word.store(1);
  cadre::futex::wake_all(word);
  for (std::thread& t : threads) t.join();
  CHECK(released == 4);
}

TEST_CASE("two threads hand a token back and forth by waking one", "[futex]") {
  std::atomic<std::uint32_t> turn{0};
  constexpr std::uint32_t rounds = 2000;
  const auto play = [&](std::uint32_t parity) {
    for (std::uint32_t i = parity; i < rounds; i += 2) {
      for (std::uint32_t now = turn.load(); now != i; now = turn.load()) cadre::futex::wait(turn, now);
      turn.store(i + 1);
      cadre::futex::wake_one(turn);
    }
  };
  std::thread other(play, 1u);
  play(0);
  other.join();
  CHECK(turn == rounds);
}

TEST_CASE("a futex of shared scope works between processes", "[futex]") {
  void* const memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto& word = *new (memory) std::atomic<std::uint32_t>(0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    word.store(1);
    cadre::futex::wake_all(word, cadre::futex::scope::shared);
    ::_exit(0);
  }
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  while (word.load() == 0 && cadre::futex::wait_until(word, 0, deadline, cadre::futex::scope::shared)) {}
  CHECK(word == 1);
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  ::munmap(memory, 4096);
}
