#include "catch.hpp"

#include <cadre/async.hpp>
#include <cadre/async/detail/node_memory.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

namespace node_memory_test {

using memory = cadre::detail::node_memory;

std::size_t nodes() {
  std::size_t n = 0;
  memory::for_each_node([&n](void*) { ++n; });
  return n;
}
std::byte* lasting(void* node) { return static_cast<std::byte*>(node) + sizeof(void*); }

}  // namespace node_memory_test

TEST_CASE("a node is aligned, of one's own, and as large as was asked for", "[node_memory]") {
  using node_memory_test::memory;
  for (const std::size_t bytes : {1u, 128u, 129u, 192u, 193u, 256u, 257u, 512u}) {
    std::set<void*> all;
    for (int i = 0; i < 300; ++i) {
      void* const n = memory::allocate(bytes);
      CHECK(reinterpret_cast<std::uintptr_t>(n) % memory::alignment == 0);
      std::memset(n, i, bytes);  // a node that is too small, or somebody else's, is found by AddressSanitizer
      all.insert(n);
    }
    CHECK(all.size() == 300);
    for (void* n : all) {
      std::memset(node_memory_test::lasting(n), 0, memory::lasting);
      memory::release(n, bytes);
    }
  }
}

TEST_CASE("a freed node is used again, so that what comes and goes costs no memory", "[node_memory]") {
  using node_memory_test::memory;
  void* const first = memory::allocate(100);
  memory::release(first, 100);
  CHECK(memory::allocate(128) == first);  // the newest of its size, which is the warmest
  memory::release(first, 128);
  const std::size_t before = node_memory_test::nodes();
  for (int i = 0; i < 10'000; ++i) memory::release(memory::allocate(100), 100);
  CHECK(node_memory_test::nodes() == before);
}

TEST_CASE("nodes that one thread allocates and another frees find their way back", "[node_memory]") {
  using node_memory_test::memory;
  constexpr std::size_t batch = 500;
  std::size_t after_first = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<void*> all(batch);
    for (void*& n : all) n = memory::allocate(100);
    std::jthread([&] {
      for (void* n : all) memory::release(n, 100);
    }).join();
    if (round == 1) after_first = node_memory_test::nodes();
  }
  CHECK(node_memory_test::nodes() == after_first);
}

TEST_CASE("a thread that ends leaves its free nodes to the others", "[node_memory]") {
  using node_memory_test::memory;
  const auto use = [] {
    std::vector<void*> all(200);
    for (void*& n : all) n = memory::allocate(200);
    for (void* n : all) memory::release(n, 200);
  };
  std::jthread(use).join();
  const std::size_t before = node_memory_test::nodes();
  for (int i = 0; i < 20; ++i) std::jthread(use).join();
  CHECK(node_memory_test::nodes() == before);
}

TEST_CASE("the lasting bytes of a node outlive its use", "[node_memory]") {
  using node_memory_test::memory;
  void* const n = memory::allocate(512);
  std::memset(node_memory_test::lasting(n), 0x5a, memory::lasting);
  memory::release(n, 512);
  for (std::size_t i = 0; i < memory::lasting; ++i) CHECK(node_memory_test::lasting(n)[i] == std::byte{0x5a});
  REQUIRE(memory::allocate(512) == n);
  for (std::size_t i = 0; i < memory::lasting; ++i) CHECK(node_memory_test::lasting(n)[i] == std::byte{0x5a});
  std::memset(node_memory_test::lasting(n), 0, memory::lasting);
  memory::release(n, 512);
}

TEST_CASE("whoever looks at all nodes finds every task that lives, and none that does not", "[node_memory]") {
  const auto tasks = [] {
    std::size_t n = 0;
    cadre::detail::node_memory::for_each_node([&n](void* node) {
      cadre::detail::task* const t = cadre::detail::task::retain_at(node);
      if (t == nullptr) return;
      ++n;
      t->release();
    });
    return n;
  };
  const std::size_t before = tasks();
  {
    std::vector<cadre::promise<int>> promises(150);
    CHECK(tasks() == before + 150);
  }
  CHECK(tasks() == before);
}

TEST_CASE("looking at all nodes is safe while tasks come and go", "[node_memory]") {
  std::atomic<bool> end{false};
  cadre::thread_pool pool{{.threads = 2}};
  std::jthread looks([&] {
    while (!end.load())
      cadre::detail::node_memory::for_each_node([](void* node) {
        if (cadre::detail::task* const t = cadre::detail::task::retain_at(node)) {
          static_cast<void>(t->done());
          t->release();
        }
      });
  });
  int sum = 0;
  for (int i = 0; i < 5000; ++i) sum += pool.submit([i] { return i; }).get();
  end = true;
  CHECK(sum == 5000 * 4999 / 2);
}

#ifdef CADRE_POISON_NODES
extern "C" int __asan_address_is_poisoned(const volatile void*);
extern "C" void* __asan_region_is_poisoned(void*, std::size_t);

TEST_CASE("AddressSanitizer knows that a freed node is nobody's", "[node_memory]") {
  using node_memory_test::memory;
  for (const std::size_t bytes : memory::sizes) {
    auto* const n = static_cast<std::byte*>(memory::allocate(bytes));
    CHECK_FALSE(__asan_region_is_poisoned(n, bytes));
    memory::release(n, bytes);
    for (std::size_t i = 2 * sizeof(void*) + memory::lasting; i < bytes; ++i)
      REQUIRE(__asan_address_is_poisoned(n + i));
  }
}
#endif
