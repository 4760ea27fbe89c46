// ranks: 1
// The ring by which a rank sends batches and blocks to another of its node: between threads, and from processes that are
// killed.
#include "catch.hpp"

#include <cadre/mpi.hpp>
#include <cadre/mpi/detail/message_ring.hpp>
#include <cadre/mpi/detail/ring_blocks.hpp>
#include <cadre/os/mapping.hpp>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <random>
#include <span>
#include <thread>
#include <utility>
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
    while (!to.has_room(next.size())) std::this_thread::yield();
    to.write_batch(next);
  }
}
/// Reads one if it is there. False if it is not as it was written.
bool read_one(ring_reader& from, std::uint64_t number, std::size_t most) {
  const auto found = from.front();
  if (!found) return false;
  const auto wanted = batch(number, most);
  const bool is_whole = !found->is_of_block && std::ranges::equal(found->content, wanted);
  static_cast<void>(from.release());
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
      while (!reader.has_frame()) std::this_thread::yield();
      whole += read_one(reader, number, most) ? 1 : 0;
    }
    writer.join();
    CHECK(whole == many);
    CHECK_FALSE(reader.has_frame());
  }
}

TEST_CASE("A ring holds so many batches as have room, and has room again when they are read", "[ring]") {
  const ring r(4096);
  ring_writer writer = r.writer();
  ring_reader reader = r.reader();
  std::uint64_t written = 0, read = 0;
  for (int lap = 0; lap < 100; ++lap) {
    const std::vector<std::byte> one(static_cast<std::size_t>(lap) * 17 % writer.most() + 1, std::byte(lap));
    while (writer.has_room(one.size())) {
      writer.write_batch(one);
      ++written;
    }
    CHECK(written > read);
    for (; reader.has_frame(); ++read) {
      const auto found = reader.front();
      REQUIRE(found);
      CHECK(std::ranges::equal(found->content, one));
      CHECK_FALSE(reader.release());  // nobody has asked
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
      for (; whole && reader.has_frame(); ++number) whole = read_one(reader, number, most);
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

TEST_CASE("A writer that asks for room is told once, when half of the ring has been read", "[ring]") {
  const ring r(std::size_t{256} << 10);
  ring_writer writer = r.writer();
  ring_reader reader = r.reader();
  const std::vector<std::byte> one(4000, std::byte(1));
  for (int lap = 0; lap < 20; ++lap) {
    std::size_t frames = 0, told = 0, told_after = 0;
    for (; writer.has_room(writer.most()); ++frames) writer.write_batch(one);
    CHECK_FALSE(writer.ask_for_room());
    for (std::size_t read = 1; reader.has_frame(); ++read) {
      REQUIRE(reader.front());
      if (!reader.release()) continue;
      ++told;
      told_after = read;
      CHECK(writer.has_room(writer.most()));
    }
    CHECK(told == 1);
    CHECK(told_after <= frames);
    CHECK(writer.ask_for_room());  // which the next frame that is read answers
    writer.write_batch(one);
    REQUIRE(reader.front());
    CHECK(reader.release());
  }
}

TEST_CASE("A writer that sleeps until it is told of room always is", "[ring]") {
  const ring r(std::size_t{16} << 10);
  std::atomic<std::uint32_t> bell{0};
  constexpr std::uint64_t many = 20'000;
  std::thread writing([&] {
    ring_writer writer = r.writer();
    for (std::uint64_t number = 0; number < many; ++number) {
      const auto next = batch(number, writer.most());
      for (;;) {
        const std::uint32_t rings = bell.load();
        if (writer.has_room(writer.most()) || writer.ask_for_room()) break;
        bell.wait(rings);
      }
      writer.write_batch(next);
    }
  });
  ring_reader reader = r.reader();
  bool whole = true;
  for (std::uint64_t number = 0; number < many; ++number) {
    while (!reader.has_frame()) std::this_thread::yield();
    const auto found = reader.front();
    whole = whole && found && found->content.size() == size_of(number, r.writer().most());
    if (!reader.release()) continue;
    ++bell;
    bell.notify_one();
  }
  writing.join();
  CHECK(whole);
}

TEST_CASE("What no writer writes into a ring is not taken for a frame", "[ring]") {
  constexpr std::uint64_t of_block = std::uint64_t{1} << 63;
  for (const std::uint64_t word : {std::uint64_t{4089}, std::uint64_t{1} << 40, ~std::uint64_t{0} - 1,
                                   ~std::uint64_t{0}, of_block, of_block | 4089}) {
    const ring r(4096);
    std::memcpy(r.frames(), &word, sizeof word);
    ring_reader reader = r.reader();
    CHECK(reader.has_frame());
    CHECK_FALSE(reader.front());
  }
}

/// Bytes that follow from the number of a block and where they are in it.
std::vector<std::byte> block(std::size_t number, std::size_t bytes) {
  std::vector<std::byte> all(bytes);
  for (std::size_t i = 0; i < bytes; ++i) all[i] = static_cast<std::byte>(number + i * 13 + i / 4096);
  return all;
}

TEST_CASE("Blocks go through a ring in parts, and each is let go when its last part is in there", "[ring]") {
  const ring r(std::size_t{256} << 10);
  ring_reader reader = r.reader();
  const std::size_t part = mpi::blocks_to_ring::part_bytes;
  const std::size_t sizes[] = {1, part - 1, part, part + 1, 0, 1'000'000, 16'384, 5 * part};
  std::vector<std::vector<std::byte>> sent, got;
  mpi::blocks_from_ring from;
  const auto whole = std::make_shared<mpi::blocks_in>();
  for (std::size_t i = 0; i < std::size(sizes); ++i) {
    sent.push_back(block(i, sizes[i]));
    got.emplace_back(sizes[i]);
  }
  for (std::size_t i = 0; i < std::size(sizes); ++i)
    from.expect(i == 3 ? nullptr : got[i].data(), sizes[i], whole);  // nobody wants that one
  CHECK(whole->pieces_left == 7);                                    // of nothing nothing comes
  std::thread writer([&] {
    mpi::blocks_to_ring to;
    ring_writer into = r.writer();
    std::vector<std::weak_ptr<const void>> kept;
    for (const auto& one : sent) {
      const auto keep = std::make_shared<int>(1);
      kept.emplace_back(keep);
      to.add({one, 0, keep});
    }
    std::size_t bytes = 0, let_go = 0;
    while (!to.empty()) {
      if (!into.has_room(part)) {
        std::this_thread::yield();
        continue;
      }
      const auto written = to.write_next(into);
      bytes += written.bytes;
      let_go += written.keep ? 1 : 0;
    }
    std::size_t left = 0;
    for (const auto& one : kept) left += one.expired() ? 0 : 1;
    std::size_t all = 0;
    for (const std::size_t size : sizes) all += size;
    if (bytes != all || let_go != 7 || left != 0) std::abort();
  });
  std::shared_ptr<mpi::blocks_in> complete;
  while (!complete) {
    if (!reader.has_frame()) {
      std::this_thread::yield();
      continue;
    }
    const auto frame = reader.front();
    REQUIRE(frame);
    REQUIRE(frame->is_of_block);
    auto taken = from.take(frame->content);
    REQUIRE(taken.is_expected);
    complete = std::move(taken.complete);
    static_cast<void>(reader.release());
  }
  writer.join();
  CHECK(complete == whole);
  CHECK(from.empty());
  CHECK_FALSE(reader.has_frame());
  for (std::size_t i = 0; i < std::size(sizes); ++i)
    if (i != 3) CHECK(got[i] == sent[i]);
}

TEST_CASE("More of a block than was announced is not taken, and blocks that never come are given up", "[ring]") {
  std::vector<std::byte> into(100), part(101);
  mpi::blocks_from_ring from;
  CHECK_FALSE(from.take(std::span(part).first(1)).is_expected);
  const auto whole = std::make_shared<mpi::blocks_in>();
  from.expect(into.data(), into.size(), whole);
  from.expect(into.data(), into.size(), whole);
  CHECK_FALSE(from.take(part).is_expected);
  CHECK(from.take(std::span(part).first(60)).is_expected);
  CHECK_FALSE(from.take(std::span(part).first(41)).is_expected);
  const auto first = from.take(std::span(part).first(40));
  CHECK(first.is_expected);
  CHECK_FALSE(first.complete);
  int lost = 0;
  from.abandon([&](const auto& one) { lost += one == whole ? 1 : 0; });
  CHECK(lost == 1);
  CHECK(from.empty());
}

}  // namespace mpi_message_ring
