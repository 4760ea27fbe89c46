// ranks: 1
// The ring by which a rank sends batches to another of its node: between threads, and from processes that are killed.
#include "catch.hpp"

#include <cadre/mpi.hpp>
#include <cadre/mpi/detail/message_ring.hpp>
#include <cadre/os/mapping.hpp>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <thread>
#include <vector>

namespace mpi_message_ring {

using namespace std::chrono_literals;
namespace mpi = cadre::mpi::detail;
using mpi::message_ring, mpi::ring_reader, mpi::ring_writer;

/// A ring, empty.
struct ring {
  explicit ring(std::size_t bytes)
      : size(bytes),
        memory(cadre::mapping::shared(cadre::make_memory_file("ring", message_ring::bytes(bytes)),
                                      message_ring::bytes(bytes))) {}
  [[nodiscard]] ring_writer writer() const { return {memory.data(), size}; }
  [[nodiscard]] ring_reader reader() const { return {memory.data(), size}; }
  [[nodiscard]] std::byte* frames() const { return memory.data() + message_ring::line; }

  std::size_t size;
  cadre::mapping memory;
};

/// Batch `number`: its size and all of its bytes follow from the number.
std::size_t size_of(std::uint64_t number, std::size_t most) {
  std::minstd_rand random(static_cast<std::uint32_t>(number * 2'654'435'761u % 2'147'483'647u) + 1);
  const std::size_t sizes[] = {1, 8, 55, 56, 57, 120, random() % 1000 + 1, random() % most + 1, most};
  return std::min(sizes[random() % std::size(sizes)], most);
}
std::vector<std::byte> batch(std::uint64_t number, std::size_t most) {
  std::vector<std::byte> all(size_of(number, most));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(number * 31 + i * 7 + i / 256);
  return all;
}

/// Writes batches from `number` on, for ever or so many.
void write(ring_writer to, std::uint64_t many) {
  for (std::uint64_t number = 0; number < many; ++number) {
    const auto next = batch(number, to.most());
    while (!to.has_room()) std::this_thread::yield();
    to.write(next);
  }
}
/// Reads one if it is there. False if it is not as it was written.
bool read_one(ring_reader& from, std::uint64_t number, std::size_t most) {
  const auto found = from.front();
  if (!found) return false;
  const auto wanted = batch(number, most);
  const bool is_whole = std::ranges::equal(*found, wanted);
  from.release();
  return is_whole;
}

TEST_CASE("What a thread writes into a ring another one reads, whole and in order, wherever the ring turns", "[ring]") {
  for (const std::size_t size : {std::size_t{4} << 10, std::size_t{64} << 10, std::size_t{256} << 10}) {
    const ring r(size);
    const std::size_t most = r.writer().most();
    constexpr std::uint64_t many = 3000;
    std::thread writer([&] { write(r.writer(), many); });
    ring_reader reader = r.reader();
    std::uint64_t whole = 0;
    for (std::uint64_t number = 0; number < many; ++number) {
      while (!reader.has_batch()) std::this_thread::yield();
      whole += read_one(reader, number, most) ? 1 : 0;
    }
    writer.join();
    CHECK(whole == many);
    CHECK_FALSE(reader.has_batch());
  }
}

TEST_CASE("A ring holds so many batches as have room, and has room again when they are read", "[ring]") {
  const ring r(4096);
  ring_writer writer = r.writer();
  ring_reader reader = r.reader();
  std::uint64_t written = 0, read = 0;
  for (int lap = 0; lap < 100; ++lap) {
    const std::vector<std::byte> one(static_cast<std::size_t>(lap) * 17 % writer.most() + 1, std::byte(lap));
    while (writer.has_room()) {
      writer.write(one);
      ++written;
    }
    CHECK(written > read);
    for (; reader.has_batch(); ++read) {
      const auto found = reader.front();
      REQUIRE(found);
      CHECK(std::ranges::equal(*found, one));
      reader.release();
    }
    CHECK(read == written);
  }
}

TEST_CASE("A writer that is killed at whatever instant leaves whole batches in its ring", "[ring]") {
  std::mt19937 random(7);
  for (int kills = 0; kills < 50; ++kills) {
    const ring r(std::size_t{16} << 10);
    const std::size_t most = r.writer().most();
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      write(r.writer(), ~std::uint64_t{0});
      ::_exit(1);
    }
    ring_reader reader = r.reader();
    std::uint64_t number = 0;
    bool whole = true;
    const auto read_all = [&] {
      for (; whole && reader.has_batch(); ++number) whole = read_one(reader, number, most);
    };
    const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(random() % 3000);
    while (std::chrono::steady_clock::now() < end) read_all();
    ::kill(child, SIGKILL);
    int how = 0;
    REQUIRE(::waitpid(child, &how, 0) == child);
    CHECK(WIFSIGNALED(how));
    read_all();
    CHECK(whole);
  }
}

TEST_CASE("What no writer writes into a ring is not taken for a batch", "[ring]") {
  for (const std::uint64_t word :
       {std::uint64_t{4089}, std::uint64_t{1} << 40, ~std::uint64_t{0} - 1, ~std::uint64_t{0}}) {
    const ring r(4096);
    std::memcpy(r.frames(), &word, sizeof word);
    ring_reader reader = r.reader();
    CHECK(reader.has_batch());
    CHECK_FALSE(reader.front());
  }
}

}  // namespace mpi_message_ring
