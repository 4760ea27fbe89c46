#include "catch.hpp"
#include "talking_child.hpp"

#include <cadre/os/file_lock.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <thread>

namespace file_lock_test {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using cadre::file_descriptor;
using cadre::is_byte_locked_by_other;
using cadre::try_lock_byte;

/// The file that a process, this one unless named, has open as `number`, opened once more.
file_descriptor open_again(int number, pid_t process = ::getpid(), int flags = O_RDWR) {
  const std::string path = "/proc/" + std::to_string(process) + "/fd/" + std::to_string(number);
  file_descriptor file(::open(path.c_str(), flags | O_CLOEXEC));
  REQUIRE(file);
  return file;
}

using child = talking_child<char>;

}  // namespace file_lock_test

TEST_CASE("The lock of a byte belongs to one opening of a file, and no other byte does", "[file_lock]") {
  using namespace file_lock_test;
  const file_descriptor memory = cadre::make_memory_file("cadre-test", 4096);
  const file_descriptor one = open_again(memory.get()), other = open_again(memory.get());
  const std::uint64_t far = std::uint64_t{1} << 62;  // beyond the end
  for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{7}, far}) {
    CHECK_FALSE(is_byte_locked_by_other(other, at));
    REQUIRE(try_lock_byte(one, at));
    CHECK(try_lock_byte(one, at));
    CHECK_FALSE(try_lock_byte(other, at));
    CHECK(is_byte_locked_by_other(other, at));
    CHECK(is_byte_locked_by_other(memory, at));
    CHECK_FALSE(is_byte_locked_by_other(one, at));
    CHECK_FALSE(is_byte_locked_by_other(other, at + 1));
    CHECK(try_lock_byte(other, at + 1));
  }
  cadre::unlock_byte(one, 7);
  CHECK(try_lock_byte(other, 7));
  CHECK(is_byte_locked_by_other(other, far));
}

TEST_CASE("A lock goes with the last copy of the descriptor that took it, not with a second opening", "[file_lock]") {
  using namespace file_lock_test;
  const file_descriptor memory = cadre::make_memory_file("cadre-test", 4096);
  file_descriptor one = open_again(memory.get()), copy(::dup(one.get()));
  REQUIRE(try_lock_byte(one, 3));
  CHECK(try_lock_byte(copy, 3));
  { const file_descriptor passing = open_again(memory.get()); }
  CHECK(is_byte_locked_by_other(memory, 3));
  file_descriptor(std::move(one));
  CHECK(is_byte_locked_by_other(memory, 3));
  file_descriptor(std::move(copy));
  CHECK_FALSE(is_byte_locked_by_other(memory, 3));
}

TEST_CASE("A process that is killed drops its lock on memory of another process before it is reaped", "[file_lock]") {
  using namespace file_lock_test;
  const file_descriptor memory = cadre::make_memory_file("cadre-test", 4096);
  const pid_t parent = ::getpid();
  const child holder([&](auto tell, auto) {
    const int number = memory.get();
    const file_descriptor own = open_again(number, parent);
    if (try_lock_byte(own, 5)) tell();
    for (;;) ::pause();
  });
  REQUIRE(holder.heard());
  CHECK(is_byte_locked_by_other(memory, 5));
  CHECK_FALSE(try_lock_byte(memory, 5));
  holder.kill_only();
  CHECK_FALSE(is_byte_locked_by_other(memory, 5));
  CHECK(try_lock_byte(memory, 5));
}

TEST_CASE("The memory of a process outlives it for those who opened it, with their locks", "[file_lock]") {
  using namespace file_lock_test;
  int numbers[2];
  REQUIRE(::pipe(numbers) == 0);
  const child owner([&](auto, auto) {
    const file_descriptor memory = cadre::make_memory_file("cadre-test", 4096);
    const int told[2] = {memory.get(), ::getpid()};
    static_cast<void>(!::write(numbers[1], told, sizeof told));
    for (;;) ::pause();
  });
  int told[2] = {};
  REQUIRE(::read(numbers[0], told, sizeof told) == sizeof told);
  const file_descriptor one = open_again(told[0], told[1]), other = open_again(told[0], told[1]);
  REQUIRE(try_lock_byte(one, 1));
  owner.kill_only();
  CHECK(is_byte_locked_by_other(other, 1));
  CHECK_FALSE(is_byte_locked_by_other(open_again(one.get()), 2));
  CHECK(is_byte_locked_by_other(open_again(one.get()), 1));
  ::close(numbers[0]);
  ::close(numbers[1]);
}

TEST_CASE("A forked child keeps the lock of its parent until it closes the descriptor", "[file_lock]") {
  using namespace file_lock_test;
  const file_descriptor memory = cadre::make_memory_file("cadre-test", 4096);
  file_descriptor own = open_again(memory.get());
  REQUIRE(try_lock_byte(own, 9));
  const child fork([&](auto tell, auto wait_for_word) {
    wait_for_word();
    ::close(own.get());
    tell();
  });
  file_descriptor(std::move(own));
  CHECK(is_byte_locked_by_other(memory, 9));
  REQUIRE(fork.tell());
  REQUIRE(fork.heard());
  CHECK_FALSE(is_byte_locked_by_other(memory, 9));
}

TEST_CASE("The lock of a whole file excludes the others, also from what is written later", "[file_lock]") {
  using namespace file_lock_test;
  const file_descriptor memory = cadre::make_memory_file("cadre-test", 1);
  const file_descriptor one = open_again(memory.get()), other = open_again(memory.get());
  REQUIRE(cadre::try_lock_file(one));
  CHECK_FALSE(cadre::try_lock_file(other));
  CHECK_FALSE(try_lock_byte(other, 1 << 20));
  CHECK_FALSE(cadre::lock_file_until(other, clock::time_point::min()));
  const auto deadline = clock::now() + 30ms;
  CHECK_FALSE(cadre::lock_file_until(other, deadline));
  CHECK(clock::now() >= deadline);
  cadre::unlock_file(one);
  CHECK(cadre::lock_file_until(other, clock::time_point::min()));
  CHECK_FALSE(cadre::try_lock_file(one));
}

TEST_CASE("One who waits for a file gets it when its holder unlocks it or is killed", "[file_lock]") {
  using namespace file_lock_test;
  const auto deadline = GENERATE(true, false) ? clock::time_point::max() : clock::now() + 60s;
  const file_descriptor memory = cadre::make_memory_file("cadre-test", 1);
  const pid_t parent = ::getpid();
  const child holder([&](auto tell, auto wait_for_word) {
    const file_descriptor own = open_again(memory.get(), parent);
    if (!cadre::try_lock_file(own)) return;
    tell();
    wait_for_word();
    cadre::unlock_file(own);
    wait_for_word();
    if (cadre::lock_file_until(own, clock::time_point::max())) tell();
    for (;;) ::pause();
  });
  REQUIRE(holder.heard());
  CHECK_FALSE(cadre::try_lock_file(memory));
  std::thread teller([&] { holder.tell(); });
  CHECK(cadre::lock_file_until(memory, deadline));
  teller.join();
  REQUIRE(holder.tell());
  cadre::unlock_file(memory);
  REQUIRE(holder.heard());
  CHECK_FALSE(cadre::try_lock_file(memory));
  std::thread killer([&] { holder.kill_only(); });
  CHECK(cadre::lock_file_until(memory, deadline));
  killer.join();
}

TEST_CASE("What cannot be locked is an error that names the file", "[file_lock]") {
  using namespace file_lock_test;
  const file_descriptor memory = cadre::make_memory_file("cadre-test", 4096);
  const file_descriptor reader = open_again(memory.get(), ::getpid(), O_RDONLY);
  CHECK_THROWS_WITH(try_lock_byte(reader, 0), ContainsSubstring("[cadre.os.158] cannot lock '/memfd:cadre-test") &&
                                                  ContainsSubstring("Bad file descriptor"));
  CHECK_FALSE(is_byte_locked_by_other(reader, 0));  // to look needs no right to write
  CHECK_THROWS_WITH(try_lock_byte(memory, ~std::uint64_t{0}), ContainsSubstring("[cadre.os.158] cannot lock"));
  const file_descriptor none;
  CHECK_THROWS_AS(is_byte_locked_by_other(none, 0), cadre::file_error);
  CHECK_THROWS_AS(cadre::unlock_file(none), cadre::file_error);
  CHECK_THROWS_AS(cadre::lock_file_until(none, clock::time_point::max()), cadre::file_error);
}
