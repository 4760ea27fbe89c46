#include "catch.hpp"

#include <cadre/store.hpp>
#include <cadre/store/detail/far_entries.hpp>
#include <cadre/store/detail/held_object.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace far_entries_test {

using namespace std::chrono_literals;
using access = cadre::detail::object_ref_access;
using cadre::detail::far_entries;
using cadre::detail::promise_access;
using ints = std::vector<int>;

std::string fresh_name() {
  static int made = 0;
  return "cadre-test-" + std::to_string(::getpid()) + "-" + std::to_string(++made);
}
cadre::object_store open(const std::string& name) {
  return cadre::object_store::open({.name = name, .capacity = 16u << 20, .max_objects = 64, .put_timeout = 2s});
}

TEST_CASE("An object that somebody holds is found by its key, and one that has ended is not", "[store]") {
  auto store = open(fresh_name());
  far_entries entries(access::core(store));
  auto ref = store.put(ints{1, 2, 3});
  const std::uint64_t key = entries.key(access::index(ref));
  {
    const auto held = entries.hold(key);
    REQUIRE(held);
    ref = {};
    const cadre::detail::pinned_object pinned(held);
    CHECK(pinned.bytes().size() == 3 * sizeof(int));
  }
  CHECK_FALSE(entries.hold(key));
  CHECK_FALSE(entries.hold(key + (std::uint64_t{1} << 32)));
  CHECK_FALSE(entries.hold(far_entries::key(1'000'000, 0)));
  CHECK_FALSE(entries.rank_of_writer(key));
  CHECK_FALSE(entries.rank_of_writer(far_entries::key(1'000'000, 0)));
  CHECK_FALSE(entries.rank_of_writer(~std::uint64_t{0}));
  const auto next = store.put(ints{4});
  CHECK(entries.key(access::index(next)) != key);
}

TEST_CASE("A process does not adopt what it writes itself", "[store]") {
  auto store = open(fresh_name());
  auto promise = store.promise<ints>();
  const auto ref = promise.ref();
  CHECK_FALSE(promise_access::adopt(store, ref));
  std::move(promise).set(ints{1});
  CHECK(store.contains(ref));
}

/// In a child, which has the store open by its name; true if it ended with 0.
template <class Run>
bool in_child(Run&& run) {
  const ::pid_t child = ::fork();
  if (child == 0) ::_exit(run() ? 0 : 1);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST_CASE("A promise is adopted by another process, and left by its first writer", "[store]") {
  const std::string name = fresh_name();
  auto store = open(name);
  auto promise = store.promise<ints>({.name = "promised"});
  const auto ref = promise.ref();
  CHECK(in_child([&] {
    auto there = open(name);
    const auto seen = there.find<ints>("promised");
    auto taken = promise_access::adopt(there, *seen);
    if (!taken) return false;
    std::move(*taken).set(ints{7, 8});
    return true;
  }));
  promise_access::leave(std::move(promise));
  const auto v = store.get(ref);
  CHECK((*v)[1] == 8);
  CHECK_FALSE(promise_access::adopt(store, ref));
}

TEST_CASE("A process that dies with a promise that it has adopted ends the object", "[store]") {
  const std::string name = fresh_name();
  auto store = open(name);
  auto promise = store.promise<ints>({.name = "promised"});
  const auto ref = promise.ref();
  CHECK_FALSE(in_child([&] {
    auto there = open(name);
    auto taken = promise_access::adopt(there, *there.find<ints>("promised"));
    return ::raise(SIGKILL) == 0;
  }));
  CHECK_THROWS_AS(store.get(ref, 10s), cadre::object_gone);
  promise_access::leave(std::move(promise));
}

TEST_CASE("An entry that nobody refers to but its writer is given up", "[store]") {
  auto store = open(fresh_name());
  cadre::detail::store_core& core = access::core(store);
  far_entries entries(core);
  auto promise = store.promise<ints>();
  auto ref = promise.ref();
  const std::uint32_t i = access::index(ref);
  CHECK_FALSE(entries.give_up_if_unwanted(i));
  ref = {};
  CHECK(entries.give_up_if_unwanted(i));
  CHECK(promise_access::release(std::move(promise)) == i);
  CHECK(store.stats().objects == 0);
}

TEST_CASE("An entry of another node's object is one, whoever enters it, until its last ref has gone", "[store]") {
  auto home = cadre::object_store::open({.capacity = 16u << 20, .max_objects = 64});
  auto here = open(fresh_name());
  const auto ref = home.put(ints{1, 2, 3});
  const cadre::object_source source(home, ref);
  cadre::detail::store_core& core = access::core(here);
  far_entries entries(core);
  const auto& label = cadre::detail::label_of<ints>();
  const auto first = entries.enter(source.origin(), label, 0, false, {});
  REQUIRE(first.memory != nullptr);
  const auto second = entries.enter(source.origin(), label, 0, false, {});
  CHECK(second.memory == nullptr);
  CHECK(second.index == first.index);
  CHECK_FALSE(entries.give_up_if_unwanted(first.index));
  core.drop_ref(second.index);
  CHECK(entries.give_up_if_unwanted(first.index));
  const auto third = entries.enter(source.origin(), label, 0, false, {});
  CHECK(third.memory != nullptr);
  core.abort(third.index);
}

}  // namespace far_entries_test
