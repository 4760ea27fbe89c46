#include "catch.hpp"

#include <cadre/store.hpp>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <fstream>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace view_test {

using cadre::object_ref;
using cadre::object_store;
using cadre::view;
using ints = std::vector<int>;

object_store small_store() {
  return object_store::open({.capacity = 8 << 20, .max_objects = 512, .put_timeout = std::chrono::nanoseconds(0)});
}
ints numbers(std::size_t n) {
  ints made(n);
  std::iota(made.begin(), made.end(), 0);
  return made;
}

template <class V>
concept dereferences = requires(V&& v) { *std::forward<V>(v); };
template <class V>
concept points = requires(V&& v) { std::forward<V>(v).operator->(); };
template <class V>
concept gives_bytes = requires(V&& v) { std::forward<V>(v).bytes(); };

template <class T>
inline constexpr bool only_of_a_named_view =
    dereferences<const view<T>&> && points<const view<T>&> && gives_bytes<const view<T>&> && !dereferences<view<T>> &&
    !points<view<T>> && !gives_bytes<view<T>>;
static_assert(only_of_a_named_view<ints>);
static_assert(only_of_a_named_view<std::string>);
static_assert(only_of_a_named_view<double>);
static_assert(only_of_a_named_view<std::vector<std::string>>);
static_assert(!std::is_copy_constructible_v<view<ints>>);
static_assert(std::is_nothrow_move_constructible_v<view<ints>>);

/// Mappings that this process has of stores.
std::size_t mapped_stores() {
  std::ifstream maps("/proc/self/maps");
  std::size_t n = 0;
  for (std::string line; std::getline(maps, line);) n += line.find("memfd:cadre-store") != std::string::npos;
  return n;
}

/// The signal that ends a child which does that, or 0.
template <class F>
int ending_signal(F f) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGSEGV, SIG_DFL);  // sanitizers have a handler
    f();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace view_test

TEST_CASE("A write through a view is a SIGSEGV", "[store][view]") {
  using namespace view_test;
  object_store store = small_store();
  const auto ref = store.put(numbers(5000));
  const auto v = store.get(ref);
  volatile int* const first = const_cast<int*>(v->data());
  volatile int* const last = const_cast<int*>(v->data() + 4999);
  CHECK(ending_signal([&] { static_cast<void>(*first + *last); }) == 0);
  CHECK(ending_signal([&] { *first = 1; }) == SIGSEGV);
  CHECK(ending_signal([&] { *last = 1; }) == SIGSEGV);
  const auto text = store.get(store.put("text"));
  CHECK(ending_signal([&] { *const_cast<volatile char*>(text->data()) = 'T'; }) == SIGSEGV);
}

TEST_CASE("A view outlives the last ref", "[store][view]") {
  using namespace view_test;
  object_store store = small_store();
  {
    const auto v = store.get(store.put(numbers(1000)));
    const auto other = store.put(ints(1000, -1));  // would take the memory if it were free
    CHECK((*v)[999] == 999);
    CHECK(store.stats().pinned == 4000);
    CHECK(store.stats().objects == 2);
  }
  CHECK(store.stats().objects == 0);
  CHECK(store.stats().used == 0);
  CHECK(store.stats().pinned == 0);
}

TEST_CASE("A view outlives erase, of which only later gets hear", "[store][view]") {
  using namespace view_test;
  object_store store = small_store();
  object_ref<ints> ref = store.put(numbers(1000), {.name = "numbers"});
  std::optional<view<ints>> v(store.get(ref)), more(store.get(ref));
  store.erase(ref);
  CHECK_THROWS_AS(store.get(ref), cadre::object_gone);
  const auto other = store.put(ints(1000, -1));
  CHECK((**v)[999] == 999);
  v.reset();
  CHECK(store.stats().pinned == 4000);
  CHECK((**more)[999] == 999);
  more.reset();
  CHECK(store.stats().pinned == 0);
  CHECK(store.stats().objects == 2);  // the ref is there still
  ref = {};
  CHECK(store.stats().objects == 1);
}

TEST_CASE("Views move, and what they pin moves with them", "[store][view]") {
  using namespace view_test;
  object_store store = small_store();
  const auto check = [&](const auto& a, const auto& b) {
    auto ref_a = store.put(a), ref_b = store.put(b);
    {
      auto v = store.get(ref_a);
      auto w = std::move(v);
      CHECK(w->size() == a.size());
      {
        auto u = store.get(ref_b);
        w = std::move(u);
      }
      CHECK(w->size() == b.size());
      auto& same = w;
      w = std::move(same);
      CHECK(w->size() == b.size());
      CHECK(store.stats().pinned > 0);
      std::vector<std::remove_cvref_t<decltype(w)>> many;
      for (int k = 0; k < 20; ++k) many.push_back(store.get(ref_a));
      many.erase(many.begin(), many.begin() + 7);
      CHECK(many.back()->size() == a.size());
    }
    CHECK(store.stats().pinned == 0);
  };
  check(numbers(10), numbers(20));
  check(std::string("short"), std::string("a longer text"));
  check(std::vector<std::string>{"a"}, std::vector<std::string>{"a", "b"});
  CHECK(store.stats().used == 0);
}

TEST_CASE("Views and refs outlive the store's handle, and its memory goes with the last of them", "[store][view]") {
  using namespace view_test;
  const std::size_t before = mapped_stores();
  std::optional<object_store> store(small_store());
  CHECK(mapped_stores() > before);
  object_ref<ints> ref = store->put(numbers(1000));
  std::optional<view<ints>> v(store->get(ref)), without_ref(store->get(store->put(ints(3, 4), {.name = "four"})));
  std::optional<object_store> copy(*store);
  store.reset();
  CHECK(copy->contains(ref));
  copy.reset();
  CHECK((**v)[999] == 999);
  CHECK((**without_ref)[2] == 4);
  object_ref<ints> another = ref;
  CHECK(mapped_stores() > before);
  std::thread([&] {
    ref = {};
    v.reset();
    another = {};
  }).join();
  CHECK((**without_ref)[2] == 4);
  CHECK(mapped_stores() > before);
  std::thread([&] { without_ref.reset(); }).join();
  CHECK(mapped_stores() == before);
}

TEST_CASE("A store that is closed with nothing held gives its memory back at once", "[store][view]") {
  using namespace view_test;
  const std::size_t before = mapped_stores();
  {
    object_store store = small_store();
    static_cast<void>(store.get(store.put(numbers(1000))));
    store.put("held by its name", {.name = "name"});
    object_store copy = store;
    copy = object_store::open({.capacity = 2 << 20, .max_objects = 512});
    store = copy;  // the first one ends here
    CHECK(store.stats().objects == 0);
  }
  CHECK(mapped_stores() == before);
}
