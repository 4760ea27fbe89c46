#include "catch.hpp"

#include <cadre/store.hpp>

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace transfer_test {

using namespace std::chrono_literals;
using ints = std::vector<std::uint32_t>;

cadre::object_store node(std::uint64_t mib = 64) {
  return cadre::object_store::open({.capacity = mib << 20, .max_objects = 1024, .put_timeout = 2s});
}
ints numbers(std::size_t n) {
  ints all(n);
  std::iota(all.begin(), all.end(), 7u);
  return all;
}
bool are_numbers(std::span<const std::uint32_t> all, std::size_t n) {
  if (all.size() != n) return false;
  for (std::size_t i = 0; i < n; ++i)
    if (all[i] != i + 7) return false;
  return true;
}

/// Moves all that is asked for, the pieces of a window in reverse order.
template <class T>
void pump(cadre::object_fetch<T>& fetch, const cadre::object_source& source) {
  while (!fetch.is_complete()) {
    std::vector<typename cadre::object_fetch<T>::piece> window;
    while (auto p = fetch.next()) window.push_back(*p);
    REQUIRE(!window.empty());
    for (; !window.empty(); window.pop_back()) {
      const auto bytes = source.chunk(window.back().offset, window.back().memory.size());
      REQUIRE(bytes.size() == window.back().memory.size());
      std::memcpy(window.back().memory.data(), bytes.data(), bytes.size());
      fetch.arrived(window.back());
    }
  }
}

bool read_all(int from, void* to, std::size_t n) {
  for (auto* at = static_cast<char*>(to); n != 0;) {
    const ssize_t got = ::read(from, at, n);
    if (got <= 0) return false;
    at += got;
    n -= static_cast<std::size_t>(got);
  }
  return true;
}
bool write_all(int to, const void* from, std::size_t n) {
  for (const auto* at = static_cast<const char*>(from); n != 0;) {
    const ssize_t put = ::write(to, at, n);
    if (put <= 0) return false;
    at += put;
    n -= static_cast<std::size_t>(put);
  }
  return true;
}

}  // namespace transfer_test

TEST_CASE("an object is fetched from another node in chunks, straight into its place", "[transfer]") {
  using namespace transfer_test;
  auto here = node(), there = node();
  for (const std::size_t n : {0u, 1u, 1000u, 1'000'003u}) {
    auto ref = there.put(numbers(n));
    const cadre::object_source source(there, ref);
    CHECK(source.origin().bytes == 4 * n);
    CHECK(source.chunk(4 * n, 10).empty());
    cadre::object_fetch<ints> fetch(here, source.origin(), {.chunk = 4096, .window = 3});
    REQUIRE(fetch.is_mine());
    pump(fetch, source);
    const cadre::object_ref<ints> copy = std::move(fetch).ref();
    const auto v = here.get(copy);
    CHECK(are_numbers(*v, n));
  }
  CHECK(here.stats().used == 0);
}

TEST_CASE("no more chunks are on their way than the window allows", "[transfer]") {
  using namespace transfer_test;
  auto here = node(), there = node();
  auto ref = there.put(numbers(10'000));
  const cadre::object_source source(there, ref);
  cadre::object_fetch<ints> fetch(here, source.origin(), {.chunk = 1000, .window = 2});
  const auto first = fetch.next(), second = fetch.next();
  REQUIRE((first && second));
  CHECK(second->offset == 1000);
  CHECK(!fetch.next());
  fetch.arrived(*second);
  const auto third = fetch.next();
  REQUIRE(third);
  CHECK(third->offset == 2000);
  CHECK(!fetch.is_complete());
}

TEST_CASE("of all who ask for an object of another node one fetches it, and all read the same copy", "[transfer]") {
  using namespace transfer_test;
  auto here = node(), there = node();
  auto ref = there.put(numbers(100'000));
  const cadre::object_source source(there, ref);
  std::atomic<int> fetched{0}, right{0};
  std::vector<std::thread> threads;
  std::vector<cadre::object_ref<ints>> copies(4);
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      cadre::object_fetch<ints> fetch(here, source.origin());
      if (fetch.is_mine()) {
        ++fetched;
        pump(fetch, source);
      }
      copies[t] = std::move(fetch).ref();
      const auto v = here.get(copies[t], 10s);
      right += are_numbers(*v, 100'000);
    });
  for (std::thread& t : threads) t.join();
  CHECK(fetched == 1);
  CHECK(right == 4);
  for (const auto& c : copies) CHECK(c == copies[0]);
  copies.clear();
  CHECK(here.stats().objects == 0);
  cadre::object_fetch<ints> again(here, source.origin());
  CHECK(again.is_mine());
}

TEST_CASE("a fetch that is given up is an error for those who wait, and the next one fetches anew", "[transfer]") {
  using namespace transfer_test;
  auto here = node(), there = node();
  auto ref = there.put(numbers(1000));
  const cadre::object_source source(there, ref);
  std::optional<cadre::object_fetch<ints>> first(std::in_place, here, source.origin());
  cadre::object_fetch<ints> other(here, source.origin());
  REQUIRE(first->is_mine());
  REQUIRE(!other.is_mine());
  const cadre::object_ref<ints> copy = std::move(other).ref();
  CHECK_THROWS_AS(here.get(copy, 1ms), cadre::store_timeout);
  static_cast<void>(first->next());
  CHECK_THROWS_WITH(std::move(*first).ref(),
                    "[cadre.store.301] an object of another node has not arrived: 0 of 4000 bytes");
  first.reset();
  CHECK_THROWS_AS(here.get(copy), cadre::object_gone);
  cadre::object_fetch<ints> anew(here, source.origin());
  REQUIRE(anew.is_mine());
  pump(anew, source);
  const auto fresh = std::move(anew).ref();
  const auto v = here.get(fresh);
  CHECK(are_numbers(*v, 1000));
}

TEST_CASE("what makes no sense to fetch is refused", "[transfer]") {
  using namespace transfer_test;
  auto here = node(), there = node();
  auto ref = there.put(numbers(10));
  const cadre::object_source source(there, ref);
  CHECK_THROWS_AS((cadre::object_fetch<ints>(there, source.origin())), cadre::bad_store_option);
  CHECK_THROWS_AS((cadre::object_fetch<ints>(here, source.origin(), {.chunk = 0})), cadre::bad_store_option);
  CHECK_THROWS_AS((cadre::object_fetch<ints>(here, source.origin(), {.window = 0})), cadre::bad_store_option);
  CHECK_THROWS_AS((cadre::object_fetch<std::string>(here, source.origin())), cadre::wrong_object_type);
  CHECK_THROWS_AS((cadre::object_source(there, cadre::object_ref<ints>())), cadre::empty_object_ref);
  CHECK(here.stats().objects == 0);
}

TEST_CASE("the sender's object stays as long as it is being sent", "[transfer]") {
  using namespace transfer_test;
  auto here = node(), there = node();
  auto ref = there.put(numbers(1000));
  std::optional<cadre::object_source> source(std::in_place, there, ref);
  ref = {};
  cadre::object_fetch<ints> fetch(here, source->origin());
  pump(fetch, *source);
  const auto copy = std::move(fetch).ref();
  CHECK(there.stats().objects == 1);
  source.reset();
  CHECK(there.stats().objects == 0);
  const auto v = here.get(copy);
  CHECK(are_numbers(*v, 1000));
}

#ifndef CADRE_TSAN  // a child made by fork() may not start threads under it
TEST_CASE("when the process that fetches is killed, another one of its node fetches", "[transfer]") {
  using namespace transfer_test;
  const std::string name = "transfer_test_" + std::to_string(::getpid());
  auto there = node();
  auto ref = there.put(numbers(3'000'000));
  const cadre::object_source source(there, ref);
  auto here = cadre::object_store::open({.name = name, .capacity = 64u << 20, .max_objects = 1024});

  // The chunks come through a socket, as from another node: request (offset, bytes), answer.
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::alarm(20);
    auto mine = cadre::object_store::open({.name = name});
    cadre::object_fetch<ints> fetch(mine, source.origin(), {.chunk = 1 << 20, .window = 2});
    while (auto p = fetch.next()) {
      const std::uint64_t wanted[2] = {p->offset, p->memory.size()};
      if (!write_all(ends[1], wanted, sizeof wanted) || !read_all(ends[1], p->memory.data(), p->memory.size())) break;
      fetch.arrived(*p);
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  for (int served = 0; served < 3; ++served) {
    std::uint64_t wanted[2];
    REQUIRE(read_all(ends[0], wanted, sizeof wanted));
    const auto bytes = source.chunk(wanted[0], wanted[1]);
    REQUIRE(write_all(ends[0], bytes.data(), bytes.size()));
  }
  cadre::object_fetch<ints> waiting(here, source.origin());
  CHECK(!waiting.is_mine());
  const auto lost = std::move(waiting).ref();
  REQUIRE(::kill(child, SIGKILL) == 0);
  CHECK_THROWS_AS(here.get(lost, 10s), cadre::object_gone);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  ::close(ends[0]);

  cadre::object_fetch<ints> fetch(here, source.origin());
  REQUIRE(fetch.is_mine());
  pump(fetch, source);
  const auto copy = std::move(fetch).ref();
  const auto v = here.get(copy);
  CHECK(are_numbers(*v, 3'000'000));
  CHECK(here.stats().processes == 1);
}
#endif
