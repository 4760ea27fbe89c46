#include "catch.hpp"
#include "in_child.hpp"
#include "text_of.hpp"

#include <cadre/observe/metrics.hpp>
#include <cadre/store.hpp>

#include <cereal/types/map.hpp>
#include <cereal/types/string.hpp>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace object_store_test {

using namespace std::chrono_literals;
using cadre::object_ref;
using cadre::object_store;
using bytes = std::vector<unsigned char>;
constexpr std::size_t mib = std::size_t{1} << 20;

object_store small_store(std::chrono::nanoseconds put_timeout = 0ns) {
  return object_store::open({.capacity = 8 * mib, .max_objects = 512, .put_timeout = put_timeout, .rank = 3});
}

/// "object_store.cpp:LINE".
std::string at(int line) { return "object_store.cpp:" + std::to_string(line); }

/// A thread that can be waited for until it sleeps.
class thread {
 public:
  template <class F>
  explicit thread(F f)
      : thread_([this, f] {
          id_ = static_cast<int>(::syscall(SYS_gettid));
          f();
        }) {}
  ~thread() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  void wait_until_asleep() const {
    for (;;) {
      const int id = id_;
      std::string state;
      if (id != 0) {
        std::ifstream stat("/proc/self/task/" + std::to_string(id) + "/stat");
        std::getline(stat, state);
        state.erase(0, state.rfind(')') + 1);
      }
      if (state.starts_with(" S")) return;
      std::this_thread::yield();
    }
  }

 private:
  std::atomic<int> id_{0};
  std::thread thread_;
};

/// What would be read as something else than it is does not compile.
template <class T, class Value>
concept makes = requires(object_store s, Value (*make)()) { s.get_or_create<T>("name", make); };
static_assert(makes<std::vector<float>, std::vector<float>> && makes<std::vector<float>, std::span<const float>>);
static_assert(makes<double, int> && makes<std::string, const char*>);
static_assert(!makes<std::vector<double>, std::vector<float>> && !makes<std::string, int>);

}  // namespace object_store_test

// ---- options

TEST_CASE("A store's options are checked", "[store][object_store]") {
  using namespace object_store_test;
  const auto opening = [](cadre::store_options o) {
    return text_of<cadre::bad_store_option>([&] { static_cast<void>(object_store::open(o)); });
  };
  CHECK_THAT(opening({.capacity = (std::uint64_t{1} << 40) + 1}),
             ContainsSubstring("[cadre.store.308] a store of more than 1 TiB: 1099511627777 bytes"));
  CHECK_THAT(opening({.capacity = 1, .max_objects = 0}),
             ContainsSubstring("[cadre.store.308] .max_objects is to be from 1 to 268,435,456, not 0"));
  CHECK_THAT(opening({.capacity = 1, .max_objects = (1u << 28) + 1}), ContainsSubstring("not 268435457"));
  object_store store = object_store::open({.capacity = 1, .max_objects = 1});
  CHECK(store.stats().capacity == 2 * mib);
  CHECK(store.stats().processes == 1);
  CHECK(store.stats().used == 0);
  CHECK(store.stats().largest_free == 2 * mib);
  CHECK(store.stats().fragmentation() == 0);
}

TEST_CASE("A store that nobody asked for anything has a part of the machine's memory", "[store][object_store]") {
  using namespace object_store_test;
  object_store store;
  CHECK(store.stats().capacity >= 2 * mib);
  CHECK(store.stats().capacity <= cadre::physical_memory() / 10 * 3 + 2 * mib);
  CHECK(store.stats().resident == 0);
  const auto v = store.get(store.put("text"));
  CHECK(*v == "text");
}

// ---- names

TEST_CASE("A named object is found by its name and lives without refs until it is erased", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  CHECK_FALSE(store.find<bytes>("weights").has_value());
  CHECK_FALSE(store.contains("weights"));
  CHECK_FALSE(store.erase("weights"));
  store.put(bytes{1, 2, 3}, {.name = "weights"});
  store.put("text", {.name = "text"});
  store.put(4, {.name = ""});  // no name
  CHECK(store.stats().objects == 2);
  CHECK(store.contains("weights"));
  CHECK_FALSE(store.contains("weight"));
  CHECK_FALSE(store.contains(""));
  {
    const auto ref = store.find<bytes>("weights");
    REQUIRE(ref.has_value());
    const auto v = store.get(*ref);
    CHECK((*v)[2] == 3);
  }
  CHECK(store.stats().objects == 2);
  CHECK(store.erase("weights"));
  CHECK_FALSE(store.erase("weights"));
  CHECK_FALSE(store.contains("weights"));
  CHECK(store.stats().objects == 1);
  store.put(bytes{9}, {.name = "weights"});  // the name is free again
  CHECK(store.contains("weights"));
  CHECK(store.erase("text"));
  CHECK(store.erase("weights"));
  CHECK(store.stats().used == 0);
  CHECK(store.stats().objects == 0);
}

TEST_CASE("An object with a name can be erased through a ref, and a get says that it was", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  const int line = __LINE__ + 1;
  const auto ref = store.put(bytes{1}, {.name = "n"});
  store.erase(ref);
  store.erase(ref);  // once more is nothing
  CHECK_FALSE(store.contains(ref));
  CHECK_FALSE(store.contains("n"));
  const std::string expected =
      "[cadre.store.301] the object made at " + at(line) + " by process " + std::to_string(::getpid()) + " was erased";
  CHECK(text_of<cadre::object_gone>([&] { static_cast<void>(store.get(ref)); }) == expected);
  CHECK(text_of<cadre::object_gone>([&] { static_cast<void>(store.get(ref, 1s)); }) == expected);
  CHECK(text_of<cadre::object_gone>([&] { static_cast<void>(store.try_get(ref)); }) == expected);
}

TEST_CASE("Names may be long and many, and hold any bytes", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  const std::string longest(4096, 'n'), with_zero("a\0b", 3);
  store.put(1, {.name = longest});
  store.put(2, {.name = with_zero});
  store.put(3, {.name = "a"});
  for (int k = 0; k < 400; ++k) store.put(k, {.name = "object " + std::to_string(k)});
  for (int k = 0; k < 400; k += 2) CHECK(store.erase("object " + std::to_string(k)));
  const auto value = [&](std::string_view name) {
    const auto v = store.get(store.find<int>(name).value());
    return *v;
  };
  for (int k = 1; k < 400; k += 2) CHECK(value("object " + std::to_string(k)) == k);
  CHECK(value(longest) == 1);
  CHECK(value(with_zero) == 2);
  CHECK(value("a") == 3);
  CHECK(text_of<cadre::bad_store_option>([&] { store.put(1, {.name = longest + "n"}); }) ==
        "[cadre.store.308] the name of an object has more than 4096 bytes");
  CHECK_FALSE(store.contains(longest + "n"));
}

TEST_CASE("An object that is asked for as another type says what both are", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  store.put(std::vector<float>{1}, {.name = "floats"});
  CHECK(text_of<cadre::wrong_object_type>([&] { static_cast<void>(store.find<std::vector<int>>("floats")); }) ==
        "[cadre.store.303] the object was put as 'std::vector<float, std::allocator<float> >' and is asked for as "
        "'std::vector<int, std::allocator<int> >'; ask for it as what it is");
  CHECK_THAT(text_of<cadre::wrong_object_type>([&] { store.get_or_create<int>("floats", [] { return 1; }); }),
             ContainsSubstring("is asked for as 'int of 4 bytes'"));
  CHECK(store.erase("floats"));
  CHECK(store.stats().objects == 0);  // the failed ones hold nothing
}

TEST_CASE("A name that is taken is refused, and the object that has it stays", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  store.put(1, {.name = "n"});
  const cadre::store_stats before = store.stats();
  const std::string expected =
      "[cadre.store.304] an object named 'n' is there already; erase it first, or use get_or_create";
  CHECK(text_of<cadre::object_name_taken>([&] { store.put(2, {.name = "n"}); }) == expected);
  CHECK(text_of<cadre::object_name_taken>([&] { static_cast<void>(store.create<int>(5, {.name = "n"})); }) == expected);
  CHECK(store.stats().used == before.used);
  CHECK(store.stats().objects == 1);
  const auto v = store.get(store.find<int>("n").value());
  CHECK(*v == 1);
}

TEST_CASE("A name that is taken is refused also when there is no room for another object", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store(60s);
  store.put(bytes(5 * mib), {.name = "n"});
  CHECK_THROWS_AS(store.put(bytes(5 * mib), {.name = "n"}), cadre::object_name_taken);
}

TEST_CASE("Of many who ask for an object at once one makes it", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  std::atomic<int> made{0};
  std::array<std::optional<object_ref<bytes>>, 8> refs;
  {
    std::vector<std::thread> threads;
    for (auto& ref : refs)
      threads.emplace_back([&] {
        ref = store.get_or_create<bytes>("shared", [&] {
          ++made;
          return bytes(100'000, 7);
        });
      });
    for (std::thread& t : threads) t.join();
  }
  CHECK(made == 1);
  for (const auto& ref : refs) CHECK(ref == refs[0]);
  const auto v = store.get(*refs[0]);
  CHECK((*v)[99'999] == 7);
  CHECK(store.stats().objects == 1);
}

TEST_CASE("When one who makes an object throws, another one makes it", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  std::atomic<int> tries{0}, failed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      try {
        const auto v = store.get(store.get_or_create<bytes>("shared", [&] {
          if (++tries <= 3) throw std::runtime_error("no");
          return bytes(10, 7);
        }));
        if (v->size() != 10) failed = 100;
      } catch (const std::runtime_error& e) {
        failed += std::string(e.what()) == "no" ? 1 : 100;
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(failed == 3);
  CHECK(tries == 4);
  CHECK(store.stats().objects == 1);
}

TEST_CASE("An object that is made of itself is an error, and can be made of something else then",
          "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  const auto of_itself = [&] {
    store.get_or_create<int>("a", [&] {
      const auto b = store.get_or_create<int>("b", [&] {
        const auto a = store.get_or_create<int>("a", [] { return 1; });
        const auto v = store.get(a);
        return *v + 1;
      });
      return 3;
    });
  };
  CHECK(
      text_of<cadre::object_makes_itself>(of_itself) ==
      "[cadre.store.315] get_or_create of 'a' is called by the function that is to make it; make it of something else");
  CHECK_FALSE(store.contains("a"));
  CHECK_FALSE(store.contains("b"));
  const auto a = store.get_or_create<int>("a", [] { return 1; });
  const auto v = store.get(a);
  CHECK(*v == 1);
}

TEST_CASE("What get_or_create is given is stored as what was asked for", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  const auto number = store.get(store.get_or_create<double>("number", [] { return 3; }));
  CHECK(*number == 3.0);
  const auto text = store.get(store.get_or_create<std::string>("text", [] { return "literal"; }));
  CHECK(*text == "literal");
  const auto range = store.get(store.get_or_create<std::vector<int>>("range", [] { return std::vector{1, 2}; }));
  CHECK((*range)[1] == 2);
  using map = std::map<std::string, double>;
  const auto empty = store.get(store.get_or_create<map>("map", [] { return std::pair<map, int>().first; }));
  CHECK(empty->empty());
}

// ---- waiting

TEST_CASE("A get waits so long as it is told, and says for what", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  const int line = __LINE__ + 1;
  auto w = store.create<int>(1);
  const auto ref = w.ref();
  const auto from = std::chrono::steady_clock::now();
  const std::string expected = "[cadre.store.305] the object made at " + at(line) + " by process " +
                               std::to_string(::getpid()) + " was not sealed in the time given";
  CHECK(text_of<cadre::store_timeout>([&] { static_cast<void>(store.get(ref, 30ms)); }) == expected);
  CHECK(std::chrono::steady_clock::now() - from >= 30ms);
  CHECK(text_of<cadre::store_timeout>([&] { static_cast<void>(store.get(ref, 0ns)); }) == expected);
  CHECK(text_of<cadre::store_timeout>([&] { static_cast<void>(store.get(ref, -1h)); }) == expected);
  std::atomic<int> seen{0};
  thread patient([&] {
    const auto v = store.get(ref, std::chrono::nanoseconds::max());
    seen = (*v)[0];
  });
  patient.wait_until_asleep();
  w.span()[0] = 5;
  static_cast<void>(std::move(w).seal());
  patient.join();
  CHECK(seen == 5);
  const auto v = store.get(ref, 0ns);  // what is there needs no time
  CHECK((*v)[0] == 5);
}

TEST_CASE("Wait returns what is ready and what is not, in the order of what it was given", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  std::vector<cadre::object_writer<std::vector<int>>> writers;
  std::vector<object_ref<std::vector<int>>> refs;
  for (int k = 0; k < 6; ++k) {
    writers.push_back(store.create<int>(1));
    refs.push_back(writers.back().ref());
  }
  const auto sealed = [&](std::size_t k) { static_cast<void>(std::move(writers[k]).seal()); };
  using positions = std::vector<std::size_t>;
  auto found = store.wait(refs, 0);
  CHECK(found.ready.empty());
  CHECK(found.pending == positions{0, 1, 2, 3, 4, 5});
  sealed(4);
  sealed(1);
  found = store.wait(refs, 2);
  CHECK(found.ready == positions{1, 4});
  CHECK(found.pending == positions{0, 2, 3, 5});
  const auto from = std::chrono::steady_clock::now();
  found = store.wait(refs, 3, 20ms);
  CHECK(std::chrono::steady_clock::now() - from >= 20ms);
  CHECK(found.ready == positions{1, 4});
  CHECK(store.wait(refs, 6, -1s).ready.size() == 2);

  thread waiter([&] { found = store.wait(refs, 5); });
  waiter.wait_until_asleep();
  sealed(0);
  std::move(writers[2]).abort();  // one that has ended needs no more waiting
  store.erase(refs[3]);
  waiter.join();
  CHECK(found.ready == positions{0, 1, 2, 3, 4});
  CHECK(found.pending == positions{5});
  CHECK_THROWS_AS(store.get(refs[2]), cadre::object_gone);

  CHECK(text_of<cadre::bad_store_option>([&] { store.wait(refs, 7); }) ==
        "[cadre.store.308] wait() for 7 of 6 objects");
  CHECK(store.wait(std::vector<object_ref<int>>{}, 0).ready.empty());
}

// ---- when it is full

TEST_CASE("A full store names who holds what, and where that was put", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  const int line = __LINE__ + 1;
  const auto large = store.put(bytes(5 * mib));
  const auto small = store.put(bytes(mib));
  const auto v = store.get(small);
  const std::string me = "process " + std::to_string(::getpid()) + " (rank 3)";
  CHECK(text_of<cadre::store_full>([&] { store.put(bytes(3 * mib)); }) ==
        "[cadre.store.302] store full: asked 3.0 MiB, 2.0 MiB free of 8.0 MiB; held by " + me +
            ": 6.0 MiB in 2 objects, 1.0 MiB of it pinned, the largest made at " + at(line) +
            "; drop refs and views, or open the store with a larger .capacity or a .spill_dir");
  CHECK(store.stats().objects == 2);
  const auto rest = store.put(bytes(2 * mib));  // what there is can be had
  CHECK(store.stats().used == 8 * mib);
  CHECK(store.stats().largest_free == 0);
}

TEST_CASE("What holds an object by its name alone is named too", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  const int line = __LINE__ + 1;
  store.put(bytes(7 * mib), {.name = "large"});
  CHECK_THAT(text_of<cadre::store_full>([&] { store.put(bytes(3 * mib)); }),
             ContainsSubstring("held by names alone: 7.0 MiB in 1 object, made at " + at(line) + ";"));
}

TEST_CASE("What is larger than the store fails at once, and moves nobody out", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store(1h);
  const auto ref = store.put(bytes(mib), {.evictable = true});
  CHECK(text_of<cadre::store_full>([&] { static_cast<void>(store.create<char>(9 * mib)); }) ==
        "[cadre.store.302] store full: asked 9.0 MiB, 7.0 MiB free of 8.0 MiB; open it with a larger .capacity");
  CHECK(store.contains(ref));
}

TEST_CASE("Memory that lies in too small pieces is said to", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  std::vector<object_ref<bytes>> refs;
  for (int k = 0; k < 8; ++k) refs.push_back(store.put(bytes(mib)));
  for (std::size_t k = 0; k < 8; k += 2) refs[k] = {};
  CHECK_THAT(text_of<cadre::store_full>([&] { store.put(bytes(2 * mib)); }),
             ContainsSubstring("asked 2.0 MiB, 4.0 MiB free of 8.0 MiB (the largest piece of it 1.0 MiB); held by"));
  CHECK(store.stats().largest_free == mib);
  CHECK(store.stats().fragmentation() == 0.75);
}

TEST_CASE("A put waits for room, and goes on when another thread makes some", "[store][object_store]") {
  using namespace object_store_test;
  const auto limit = GENERATE(as<std::chrono::nanoseconds>(), 1h, std::chrono::nanoseconds::max());
  object_store store = small_store(limit);
  std::optional<object_ref<bytes>> first(store.put(bytes(5 * mib, 1)));
  std::optional<cadre::view<bytes>> pin(store.get(*first));
  std::optional<object_ref<bytes>> second;
  thread putter([&] { second = store.put(bytes(5 * mib, 2)); });
  putter.wait_until_asleep();
  first.reset();
  CHECK(pin->operator*()[5 * mib - 1] == 1);
  pin.reset();
  putter.join();
  REQUIRE(second.has_value());
  const auto v = store.get(*second);
  CHECK((*v)[5 * mib - 1] == 2);
}

TEST_CASE("A put that waits in vain takes as long as it was allowed", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store(60ms);
  const auto first = store.put(bytes(5 * mib, 1));
  const auto from = std::chrono::steady_clock::now();
  CHECK_THROWS_AS(store.put(bytes(5 * mib, 2)), cadre::store_full);
  CHECK(std::chrono::steady_clock::now() - from >= 60ms);
}

TEST_CASE("A store holds as many objects as it was opened for", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  std::vector<object_ref<int>> refs;
  for (int k = 0; k < 512; ++k) refs.push_back(store.put(k));
  const std::string text = text_of<cadre::store_full>([&] { store.put(512); });
  CHECK_THAT(text, ContainsSubstring("[cadre.store.302] store full: it holds 512 objects, as many as it was opened "
                                     "for; held by process " +
                                     std::to_string(::getpid()) + " (rank 3)"));
  CHECK_THAT(text, ContainsSubstring("; drop refs, or open the store with larger .max_objects"));
  refs.erase(refs.begin() + 100);
  refs.push_back(store.put(1000));
  {
    const auto v = store.get(refs.back());
    CHECK(*v == 1000);
  }
  refs.clear();
  CHECK(store.stats().objects == 0);
}

TEST_CASE("Evictable objects make room, those not used for longest first, and never those that are looked at",
          "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  std::vector<object_ref<bytes>> refs;
  std::vector<int> lines;
  const auto kept = store.put(bytes(mib));
  for (int k = 0; k < 7; ++k) {
    lines.push_back(__LINE__ + 1);
    refs.push_back(store.put(bytes(mib), {.evictable = true}));
  }
  const auto pinned = store.get(refs[1]);
  static_cast<void>(store.get(refs[0]));  // used last
  const auto there = [&] {
    std::string text;
    for (const auto& ref : refs) text += store.contains(ref) ? 'x' : '-';
    return text;
  };
  const auto a = store.put(bytes(mib));
  CHECK(there() == "xx-xxxx");
  const auto b = store.put(bytes(mib));
  CHECK(there() == "xx--xxx");
  const auto c = store.put(bytes(2 * mib));
  CHECK(there() == "xx----x");
  CHECK(text_of<cadre::object_gone>([&] { static_cast<void>(store.get(refs[2])); }) ==
        "[cadre.store.301] the object made at " + at(lines[2]) + " by process " + std::to_string(::getpid()) +
            " was dropped for lack of memory (it was put as evictable); make it again");
  const auto d = store.put(bytes(mib));
  const auto e = store.put(bytes(mib));
  CHECK(there() == "-x-----");
  CHECK_THROWS_AS(store.put(bytes(mib)), cadre::store_full);
  CHECK((*pinned)[mib - 1] == 0);
  CHECK(store.contains(kept));
}

TEST_CASE("A store full of small evictable objects takes an object of another size at once", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = object_store::open({.capacity = 2 * mib, .max_objects = 1 << 16, .put_timeout = 0ns});
  std::vector<object_ref<std::array<char, 64>>> refs;
  for (std::size_t k = 0; k < 2 * mib / 64; ++k) refs.push_back(store.put(std::array<char, 64>{}, {.evictable = true}));
  CHECK(store.stats().used == 2 * mib);
  const auto page = store.put(bytes(8192));
  const auto more = store.put(bytes(100), {.name = "more"});
  const auto large = store.put(bytes(mib));
  CHECK(store.contains(page));
  CHECK(store.contains("more"));
  CHECK(store.contains(large));
}

TEST_CASE("When small evictable objects have to go, many go at once", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = object_store::open({.capacity = 16 * mib, .max_objects = 1 << 15, .put_timeout = 0ns});
  const cadre::counter& evicted = cadre::metrics().counter("cadre_store_evicted_total");
  std::vector<object_ref<std::array<char, 1024>>> refs;
  int times = 0;
  for (std::size_t k = 0; k < 40'000; ++k) {
    const std::uint64_t before = evicted.value();
    refs.push_back(store.put(std::array<char, 1024>{}, {.evictable = true}));
    times += evicted.value() != before;
    if (k >= 20'000) refs[k - 20'000] = {};
  }
  CHECK(times > 10);
  CHECK(times <= 40'000 / 200);  // each time is a look at all objects
  CHECK(store.contains(refs.back()));
}

// ---- figures

TEST_CASE("What a store says of itself is exact", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  object_store other_handle = store;
  CHECK(store.stats().resident == 0);
  {
    const auto text = store.put("text");
    const auto large = store.put(bytes(10'000));
    CHECK(store.stats().used == 64 + 12'288);
    CHECK(store.stats().objects == 2);
    CHECK(store.stats().pinned == 0);
    const auto v = store.get(large);
    const auto w = store.get(large);
    CHECK(store.stats().pinned == 10'000);
    CHECK(store.stats().spilled == 0);
    CHECK(store.stats().capacity == 8 * mib);
    CHECK(store.stats().resident == 2 * mib);
    const auto building = store.create<char>(1000);
    CHECK(store.stats().pinned == 11'000);
  }
  CHECK(store.stats().used == 0);
  CHECK(store.stats().pinned == 0);
  CHECK(store.stats().objects == 0);
  CHECK(store.stats().largest_free == 8 * mib);
  CHECK(store.stats().processes == 1);
}

TEST_CASE("A report says in words who holds most", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = small_store();
  const std::string me = "process " + std::to_string(::getpid()) + " (rank 3): ";
  CHECK(store.report() ==
        "0 bytes used of 8.0 MiB in 0 objects of 1 processes; 0 bytes pinned, 0 bytes on disk, largest free piece 8.0 "
        "MiB, 0 bytes resident\n");
  const int line = __LINE__ + 1;
  const auto large = store.put(bytes(3 * mib));
  store.put(1.5, {.name = "number"});
  CHECK(store.report() ==
        "3.0 MiB used of 8.0 MiB in 2 objects of 1 processes; 0 bytes pinned, 0 bytes on disk, largest free piece 4.9 "
        "MiB, 4.0 MiB resident\n  " +
            me + "3.0 MiB in 1 object, made at " + at(line) + "\n  names alone: 8 bytes in 1 object, made at " +
            at(line + 1) + "\n");
}

TEST_CASE("Memory above what is kept warm goes back to the system", "[store][object_store]") {
  using namespace object_store_test;
  object_store store = object_store::open({.capacity = 512 * mib, .max_objects = 512, .put_timeout = 0ns});
  const auto fill = [&](std::size_t n) {
    auto w = store.create<char>(n);
    w.span().front() = w.span().back() = 1;
    return std::move(w).seal();
  };
  auto a = fill(100 * mib), b = fill(200 * mib), c = fill(20 * mib);
  CHECK(store.stats().resident == 320 * mib);
  a = {};
  CHECK(store.stats().resident == 320 * mib);  // 256 MiB stay warm
  b = {};
  CHECK(store.stats().resident == 20 * mib);
  c = {};
  a = fill(300 * mib);  // what was given back can be had anew
  CHECK(store.stats().resident >= 300 * mib);
  const auto v = store.get(a);
  CHECK((*v)[300 * mib - 1] == 1);
}

// ---- fork

TEST_CASE("A child made by fork cannot use the store, and takes nothing with it when it ends",
          "[store][object_store]") {
  using namespace object_store_test;
  std::optional<object_store> store(small_store());
  // Sixteen objects and more, so that what is held of one is not taken for the state of another.
  std::vector<object_ref<bytes>> refs;
  for (unsigned char k = 0; k < 40; ++k) refs.push_back(store->put(bytes(100, k)));
  std::optional<cadre::view<bytes>> v(store->get(refs[0]));
  std::vector<cadre::view<bytes>> views;
  for (int k = 0; k < 40; ++k) views.push_back(store->get(refs[static_cast<std::size_t>(k)]));
  store->put(1, {.name = "named"});
  std::optional<cadre::object_writer<std::vector<int>>> w(store->create<int>(4));
  const auto being_written = w->ref();

  const auto child = [&] {
    int failed = 0, step = 0;
    const auto forbidden = [&](auto f) {
      ++step;
      const std::string text = text_of<cadre::forked_store>([&] {
        try {
          f();
        } catch (const cadre::forked_store&) {
          throw;
        } catch (const std::exception&) {}
      });
      if (!text.starts_with("[cadre.store.307] a process made by fork() uses a store that its parent opened; open the "
                            "store in the child, or call exec()") &&
          failed == 0)
        failed = step;
    };
    const auto all = [&] {
      forbidden([&] { store->put(1); });
      forbidden([&] { static_cast<void>(store->create<int>(1)); });
      forbidden([&] { static_cast<void>(store->get(refs[0])); });
      forbidden([&] { static_cast<void>(store->get(refs[1], 1s)); });
      forbidden([&] { static_cast<void>(store->try_get(refs[0])); });
      forbidden([&] { static_cast<void>(store->get(being_written, 1s)); });
      forbidden([&] { static_cast<void>(store->contains(refs[0])); });
      forbidden([&] { static_cast<void>(store->contains("named")); });
      forbidden([&] { static_cast<void>(store->wait(refs, 1)); });
      forbidden([&] { static_cast<void>(store->wait(std::vector{being_written}, 1, 1s)); });
      forbidden([&] { static_cast<void>(store->find<int>("named")); });
      forbidden([&] { store->get_or_create<int>("named", [] { return 1; }); });
      forbidden([&] { store->erase(refs[0]); });
      forbidden([&] { store->erase("named"); });
      forbidden([&] { store->sweep(); });
      forbidden([&] { static_cast<void>(store->stats()); });
      forbidden([&] { static_cast<void>(store->report()); });
    };
    all();
    if ((**v)[99] != 0 || (*views[7])[99] != 7) return 100;  // views stay readable
    const auto copy = refs;
    views.clear();  // holds nothing of the parent's
    all();
    forbidden([&] { static_cast<void>(std::move(*w).seal()); });
    w.reset();
    v.reset();
    refs.clear();
    store.reset();
    object_store own = small_store();
    own.put(1, {.name = "named"});
    const auto ref = own.put(bytes(3, 9));
    const auto mine = own.get(ref);
    if ((*mine)[2] != 9 || own.stats().objects != 2) return 101;
    if (own.report().find("process " + std::to_string(::getpid())) == std::string::npos) return 102;
    return failed;
  };
  CHECK(in_child(child) == 0);

  views.clear();
  for (unsigned char k = 0; k < 40; ++k) {
    const auto u = store->get(refs[k]);
    CHECK((*u)[99] == k);
  }
  w->span()[3] = 4;
  static_cast<void>(std::move(*w).seal());
  w.reset();
  CHECK(store->stats().objects == 42);
  CHECK(store->contains(being_written));
  v.reset();
  refs.clear();
  CHECK(store->stats().objects == 2);
  CHECK(store->stats().pinned == 0);
}

TEST_CASE("A child that opens a store of its own is named as the holder of its lock", "[store][object_store]") {
  using namespace object_store_test;
  const object_store store = small_store();  // so that this process has locked one already
  CHECK(in_child([] {
          cadre::detail::store_core* const core =
              cadre::detail::open_private_store({.capacity = 2 * mib, .max_objects = 512});
          return core->memory().head().lock_holder.load() == static_cast<std::uint32_t>(::getpid()) ? 0 : 1;
        }) == 0);
}

TEST_CASE("A parent that is killed is seen to have died though a child of it lives on", "[store][object_store]") {
  using namespace object_store_test;
  int words[2];
  REQUIRE(::pipe(words) == 0);
  const pid_t parent = ::fork();
  if (parent == 0) {
    cadre::detail::store_core* const core =
        cadre::detail::open_private_store({.capacity = 2 * mib, .max_objects = 512});
    int told[] = {core->memory().file().get(), static_cast<int>(core->memory().lock_byte(0) >> 20),
                  static_cast<int>(core->memory().lock_byte(0) & 0xfffff), 0};
    if (::fork() == 0) {  // which tells when fork() has done all that it does in a child
      told[3] = ::getpid();
      static_cast<void>(!::write(words[1], told, sizeof told));
    }
    for (;;) ::pause();
  }
  int told[4];
  REQUIRE(::read(words[0], told, sizeof told) == sizeof told);
  const std::string path = "/proc/" + std::to_string(parent) + "/fd/" + std::to_string(told[0]);
  const cadre::file_descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(static_cast<bool>(file));
  const std::uint64_t byte = (static_cast<std::uint64_t>(told[1]) << 20) + static_cast<std::uint64_t>(told[2]);
  CHECK(cadre::is_byte_locked_by_other(file, byte));
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  CHECK(::kill(told[3], 0) == 0);
  CHECK_FALSE(cadre::is_byte_locked_by_other(file, byte));
  ::kill(told[3], SIGKILL);
  ::close(words[0]);
  ::close(words[1]);
}
