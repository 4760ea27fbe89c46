// ranks: 1
// What ranks of other nodes wake a rank by, over the loopback interface and whatever else there is.
#include "catch.hpp"

#include <cadre/mpi.hpp>
#include <cadre/mpi/detail/far_bell.hpp>
#include <cadre/mpi/detail/waker.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

namespace mpi_far_bell {

using namespace std::chrono_literals;
using cadre::mpi::detail::far_bell, cadre::mpi::detail::far_bell_address, cadre::mpi::detail::waker;

bool await(const std::atomic<int>& rings, int enough) {
  for (const auto deadline = std::chrono::steady_clock::now() + 10s; rings.load() < enough;) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

/// A datagram to a bell, from somebody who is not of the job.
void send(const far_bell_address& to, const std::string& bytes) {
  const cadre::file_descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = static_cast<in_port_t>(to.port);
  address.sin_addr.s_addr = to.hosts[0];
  REQUIRE(::sendto(socket.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&address),
                   sizeof address) == static_cast<ssize_t>(bytes.size()));
}

/// What a rank of several nodes has: a bell, and a thread that waits for it to be rung.
struct ringable {
  explicit ringable() {
    REQUIRE(awake.works());
    REQUIRE(awake.watch(bell.file()));
    awake.start([this](int file) {
      if (file == bell.file() && bell.has_rung()) rings.fetch_add(1);
    });
  }
  /// Its address on one of its networks alone.
  [[nodiscard]] far_bell_address one_address() const {
    far_bell_address one = bell.address();
    for (std::size_t i = 1; i < one.hosts.size(); ++i) one.hosts[i] = 0;
    return one;
  }

  std::atomic<int> rings{0};
  far_bell bell;
  waker awake;
};

TEST_CASE("A rank is rung by whoever has its address, again and again", "[mpi][far_bell]") {
  ringable mine;
  const far_bell other;
  REQUIRE(mine.bell.address().word != 0);
  REQUIRE(mine.bell.address().hosts[0] != 0);
  CHECK_FALSE(mine.bell.was_rung());
  for (int i = 0; i < 100; ++i) {
    const int before = mine.rings.load();
    other.ring(mine.bell.address());
    REQUIRE(await(mine.rings, before + 1));
  }
  CHECK(mine.bell.was_rung());
}

TEST_CASE("A datagram without the word of the job does not ring, and stops no ring after it", "[mpi][far_bell]") {
  ringable mine;
  const far_bell_address address = mine.one_address();
  const std::string word(reinterpret_cast<const char*>(&address.word), sizeof address.word);
  for (const std::string& foreign :
       {std::string(), std::string("x"), word + "x", std::string(60'000, 'x'), std::string(sizeof address.word, '\0')})
    send(address, foreign);
  // Datagrams from one host to one of its own addresses come in order.
  far_bell().ring(address);
  REQUIRE(await(mine.rings, 1));
  far_bell().ring(address);
  REQUIRE(await(mine.rings, 2));
  CHECK(mine.rings.load() == 2);
}

TEST_CASE("The last ring of several ranks at once is heard", "[mpi][far_bell]") {
  ringable mine;
  const far_bell_address address = mine.one_address();
  std::vector<std::thread> ringers;
  for (int r = 0; r < 4; ++r)
    ringers.emplace_back([&] {
      const far_bell other;
      for (int i = 0; i < 200; ++i) other.ring(address);
    });
  for (auto& one : ringers) one.join();
  const int before = mine.rings.load();
  far_bell().ring(address);
  CHECK(await(mine.rings, before + 1));
}

TEST_CASE("A waker ends while somebody rings, and without having begun", "[mpi][far_bell]") {
  const far_bell other;
  for (int i = 0; i < 50; ++i) {
    ringable mine;
    for (int r = 0; r < i % 8; ++r) other.ring(mine.bell.address());
  }
  const waker never_started;
  CHECK(never_started.works());
}

TEST_CASE("To ring a rank that does not listen does nothing", "[mpi][far_bell]") {
  const far_bell mine;
  mine.ring({});
  mine.ring({.word = 1, .port = 1, .hosts = {htonl(INADDR_LOOPBACK)}});
}

}  // namespace mpi_far_bell
