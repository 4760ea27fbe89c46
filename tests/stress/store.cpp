// Random mixes of all that a store can do, by several processes with several threads each, of which some are killed or
// stopped at random instants, for some seconds: ten, or as many as CADRE_STRESS_SECONDS says. CADRE_STRESS_SEED repeats
// the choices of a run, though not its schedule. Every object says whether it is whole; after each round all that is
// left is counted. What is wrong is said on stderr, with the seed, and the program ends with 1.

#include "../store/processes.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace test_store;
using cadre::object_store;
using numbers_ref = cadre::object_ref<numbers>;
using random_bits = std::mt19937_64;

std::size_t below(random_bits& r, std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(r); }

constexpr std::size_t names = 12;
std::string name_of(std::size_t k) { return "name " + std::to_string(k); }
std::string some_name(random_bits& r) { return name_of(below(r, names)); }
std::size_t some_size(random_bits& r) { return 1 + below(r, std::size_t{1} << (1 + below(r, 16))); }

object_store open(const std::string& name) {
  return object_store::open({.name = name, .capacity = 12 << 20, .max_objects = 2048, .put_timeout = 20ms});
}

/// Refs that the threads of a process hand to each other.
class bag {
 public:
  void put(std::uint64_t seed, numbers_ref ref, random_bits& r) {
    const std::lock_guard lock(mutex_);
    if (all_.size() < 20)
      all_.emplace_back(seed, std::move(ref));
    else
      all_[below(r, all_.size())] = {seed, std::move(ref)};
  }
  std::optional<std::pair<std::uint64_t, numbers_ref>> look(random_bits& r) {
    const std::lock_guard lock(mutex_);
    if (all_.empty()) return std::nullopt;
    return all_[below(r, all_.size())];
  }
  void drop(random_bits& r) {
    const std::lock_guard lock(mutex_);
    if (!all_.empty()) all_.erase(all_.begin() + static_cast<std::ptrdiff_t>(below(r, all_.size())));
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<std::uint64_t, numbers_ref>> all_;
};

void look_at(object_store& store, const numbers_ref& ref, std::uint64_t seed, random_bits& r) {
  const auto view = store.get(ref, 10s);
  if (below(r, 8) == 0) nap();  // while it is erased, say
  check(is_whole(view, seed), "an object is not whole");
}

void put(object_store& store, bag& refs, random_bits& r) {
  const std::uint64_t seed = r();
  refs.put(seed, store.put(pattern(seed, some_size(r)), {.evictable = below(r, 3) == 0}), r);
}
void build(object_store& store, bag& refs, random_bits& r) {
  const std::uint64_t seed = r();
  auto writer = store.create<std::uint64_t>(some_size(r));
  if (below(r, 4) == 0) refs.put(seed, writer.ref(), r);  // others wait for it
  fill(writer.span(), seed);
  if (below(r, 4) == 0) nap();
  if (below(r, 3) != 0) refs.put(seed, std::move(writer).seal(), r);
}
void find(object_store& store, random_bits& r) {
  if (const auto found = store.find<numbers>(some_name(r))) {
    const auto view = store.get(*found, 10s);
    if (below(r, 8) == 0) nap();
    check(is_whole(view), "an object that has a name is not whole");
  }
}
void wait(object_store& store, bag& refs, random_bits& r) {
  std::vector<numbers_ref> some;
  for (std::size_t n = below(r, 4); n > 0; --n)
    if (auto one = refs.look(r)) some.push_back(std::move(one->second));
  const std::size_t n = below(r, some.size() + 1);
  check(store.wait(some, n, 10s).ready.size() >= n, "a wait ended too early");
}

void anything(object_store& store, bag& refs, random_bits& r) {
  try {
    switch (below(r, 12)) {
      case 0:
      case 1: return put(store, refs, r);
      case 2: return build(store, refs, r);
      case 3:
      case 4:
        if (const auto one = refs.look(r)) look_at(store, one->second, one->first, r);
        return;
      case 5: return refs.drop(r);
      case 6:
        if (const auto one = refs.look(r); one && below(r, 4) == 0) store.erase(one->second);
        return;
      case 7: return static_cast<void>(store.put(pattern(r(), some_size(r)), {.name = some_name(r)}));
      case 8: return find(store, r);
      case 9: return static_cast<void>(store.erase(some_name(r)));
      case 10:
        return static_cast<void>(
            store.get_or_create<numbers>(some_name(r), [&] { return pattern(r(), some_size(r)); }));
      default:
        if (below(r, 50) == 0) static_cast<void>(below(r, 2) == 0 ? store.report().size() : store.sweep());
        return wait(store, refs, r);
    }
  } catch (const cadre::object_gone&) {
  } catch (const cadre::object_name_taken&) {
  } catch (const cadre::store_full&) {}
}

/// Until it is killed.
void worker(const std::string& name, std::uint64_t seed, std::atomic<std::uint64_t>& operations) {
  random_bits r(seed);
  for (;;) {
    object_store store = open(name);
    bag refs;
    std::mutex mutex;
    std::exception_ptr failure;
    std::vector<std::jthread> threads;
    for (std::size_t t = 1 + below(r, 3); t > 0; --t)
      threads.emplace_back([&, s = r()] {
        random_bits mine(s);
        try {
          for (std::size_t i = 500 + below(mine, 1000); i > 0; --i) anything(store, refs, mine), ++operations;
        } catch (...) {
          const std::lock_guard lock(mutex);
          failure = std::current_exception();
        }
      });
    threads.clear();
    if (failure) std::rethrow_exception(failure);
  }
}

struct counts {
  std::atomic<std::uint64_t> operations;
};

std::uint64_t number(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// A second or so of it. Returns how many it has killed.
std::size_t play(object_store& store, const std::string& name, random_bits& r, std::atomic<std::uint64_t>& operations) {
  std::vector<std::unique_ptr<process>> workers(4);
  const auto start = [&](std::size_t k) {
    workers[k] = std::make_unique<process>([&name, &operations, s = r()] { worker(name, s, operations); });
  };
  const auto end = [&](std::size_t k) {
    workers[k]->kill();
    const std::string how = workers[k]->end();
    check(workers[k]->was_killed(), "a worker: " + how);
  };
  for (std::size_t k = 0; k < workers.size(); ++k) start(k);
  const std::size_t kills = 10 + below(r, 20);
  for (std::size_t i = 0; i < kills; ++i) {
    const ::timespec moment{0, static_cast<long>(below(r, 60'000'000))};
    const std::size_t k = below(r, workers.size());
    if (below(r, 4) == 0) {
      workers[k]->signal(SIGSTOP);
      ::nanosleep(&moment, nullptr);
      if (below(r, 2) == 0) workers[k]->signal(SIGCONT);  // else it is killed while it is stopped
    } else {
      ::nanosleep(&moment, nullptr);
    }
    end(k);
    start(k);
    const auto begin = steady::now();
    const std::uint64_t seed = r();
    try {
      check(is_whole(store.get(store.put(pattern(seed, 100))), seed), "what was put after a kill is not whole");
    } catch (const cadre::store_full&) {}
    check(steady::now() - begin < soon, "a put after a kill took more than 2 s");
  }
  for (std::size_t k = 0; k < workers.size(); ++k) end(k);
  return kills + workers.size();
}

}  // namespace

int main() {
  const auto seconds = std::chrono::seconds(number("CADRE_STRESS_SECONDS", 10));
  const std::uint64_t seed = number("CADRE_STRESS_SEED", std::random_device{}());
  std::printf("seed %llu, %lld s\n", static_cast<unsigned long long>(seed), static_cast<long long>(seconds.count()));
  std::fflush(stdout);
  const auto end = steady::now() + seconds;
  std::size_t rounds = 0, kills = 0;
  const shared<counts> counted;
  try {
    const std::string name = store_name("stress");
    object_store store = open(name);
    std::vector<numbers_ref> kept;
    for (std::uint64_t k = 0; k < 10; ++k) kept.push_back(store.put(pattern(k, 1 + k * 1000)));
    const cadre::store_stats before = store.stats();
    for (; steady::now() < end; ++rounds) {
      ::alarm(120);  // ends a round that hangs
      random_bits r(seed + rounds);
      kills += play(store, name, r, counted->operations);
      for (std::size_t k = 0; k < names; ++k) store.erase(name_of(k));
      const cadre::store_stats now = store.stats();
      const std::string left = "\n" + store.report();
      check(now.objects == before.objects, "objects were left or lost" + left);
      check(now.used == before.used, "memory was left or lost" + left);
      check(now.pinned == 0, "views were left" + left);
      check(now.processes == 1, "processes were left" + left);
      for (std::uint64_t k = 0; k < kept.size(); ++k)
        check(is_whole(store.get(kept[k]), k), "what was kept is not whole");
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "wrong: %s (seed %llu, round %zu)\n", e.what(), static_cast<unsigned long long>(seed), rounds);
    return 1;
  }
  std::printf("%zu rounds, %llu operations, %zu kills\n", rounds,
              static_cast<unsigned long long>(counted->operations.load()), kills);
  return 0;
}
