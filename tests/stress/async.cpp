// Random mixes of all that tasks can do, each checked by what it must add up to, for some seconds: ten, or as many as
// CADRE_STRESS_SECONDS says. CADRE_STRESS_SEED repeats the choices of a run, though not its schedule. A hang is ended by
// the test's timeout; what is wrong is said on stderr, with the seed, and the program ends with 1.

#include <cadre/async.hpp>
#include <cadre/async/blocking.hpp>
#include <cadre/async/invoke.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <random>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using random_bits = std::mt19937_64;

std::atomic<std::uint64_t> failures{0};
std::atomic<std::uint64_t> tasks_run{0};
std::uint64_t seed = 0;

void check(bool condition, const char* what) {
  if (condition) return;
  if (failures.fetch_add(1) < 20)
    std::fprintf(stderr, "wrong: %s (seed %llu)\n", what, static_cast<unsigned long long>(seed));
}

std::size_t below(random_bits& r, std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(r); }

bool stop_requested() { return cadre::detail::current_task()->stop_requested(); }

// Counts objects, so that no closure, value or error is lost or destroyed twice.
class counted {
 public:
  explicit counted(std::size_t v = 0) : value(v) { ++live; }
  counted(counted&& o) noexcept : value(o.value) { ++live; }
  counted(const counted& o) : value(o.value) { ++live; }
  counted& operator=(counted&&) = default;
  counted& operator=(const counted&) = default;
  ~counted() { --live; }
  std::size_t value;
  static inline std::atomic<std::int64_t> live{0};
};

struct thrown : std::runtime_error {
  explicit thrown(std::size_t n) : std::runtime_error(std::to_string(n)) {}
};

// ---- The kinds of work: each returns when all that it began has ended, and checks it. From any thread -----------------

void values(cadre::thread_pool& pool, random_bits& r) {
  std::vector<cadre::future<counted>> futures;
  const std::size_t n = 1 + below(r, 200);
  for (std::size_t i = 0; i < n; ++i) futures.push_back(pool.submit([c = counted(i)] { return counted(c.value * 2); }));
  std::size_t sum = 0;
  for (auto& f : futures) sum += f.get().value;
  check(sum == n * (n - 1), "the values of submitted tasks");
  tasks_run += n;
}

std::size_t tree(cadre::thread_pool& pool, std::size_t depth) {
  if (depth == 0) return 1;
  auto left = pool.submit([&pool, depth] { return tree(pool, depth - 1); });
  auto right = pool.submit([&pool, depth] { return tree(pool, depth - 1); });
  return left.get() + right.get();
}
void nested_waits(cadre::thread_pool& pool, random_bits& r) {
  const std::size_t depth = 1 + below(r, 8);
  check(tree(pool, depth) == std::size_t{1} << depth, "a tree of waits");
  tasks_run += std::size_t{2} << depth;
}

void chains(cadre::thread_pool& pool, cadre::thread_pool& other, random_bits& r) {
  const std::size_t n = 1 + below(r, 100);
  const std::size_t fails = below(r, 2 * n);
  auto f = pool.submit([] { return counted(0); });
  for (std::size_t i = 0; i < n; ++i) {
    const auto step = [i, fails](counted c) {
      if (i == fails) throw thrown(i);
      return counted(c.value + 1);
    };
    f = i % 7 == 3 ? std::move(f).then(other, step) : std::move(f).then(step);
  }
  auto end = std::move(f).on_error([](std::exception_ptr e) {
    try {
      std::rethrow_exception(e);
    } catch (const thrown& t) {
      return counted(1'000'000 + std::stoul(t.what()));
    }
  });
  check(end.get().value == (fails < n ? 1'000'000 + fails : n), "a chain of continuations");
  tasks_run += n;
}

void joins(cadre::thread_pool& pool, random_bits& r) {
  const std::size_t n = below(r, 60);
  std::vector<cadre::future<counted>> parts;
  for (std::size_t i = 0; i < n; ++i) parts.push_back(pool.submit([i] { return counted(i); }));
  auto all = cadre::when_all(std::move(parts)).then([](std::vector<counted> v) {
    std::size_t s = 0;
    for (const counted& c : v) s += c.value;
    return s;
  });
  auto pair = cadre::when_all(pool.submit([] { return counted(3); }), std::move(all));
  const auto [three, sum] = pair.get();
  check(three.value == 3 && sum == n * (n - 1) / 2, "when_all");
  tasks_run += n;
}

void cancelled(cadre::thread_pool& pool, random_bits& r) {
  const std::size_t n = 1 + below(r, 50);
  std::atomic<std::size_t> ran{0};
  std::vector<cadre::future<counted>> futures;
  for (std::size_t i = 0; i < n; ++i)
    futures.push_back(pool.submit([&ran, c = counted(i)] {
      ++ran;
      return c;
    }));
  for (std::size_t i = below(r, n); i < n; i += 1 + below(r, 3)) futures[i].cancel();
  std::size_t values = 0, ended = 0;
  for (std::size_t i = 0; i < n; ++i) {
    try {
      check(futures[i].get().value == i, "the value of a task that may have been cancelled");
      ++values;
    } catch (const cadre::task_cancelled&) {
      ++ended;
    }
  }
  check(values == ran && values + ended == n, "each task ran or was cancelled");
  tasks_run += n;
}

// `may_block`: on a thread that the pool does not need to begin the parent.
void cancelled_family(cadre::thread_pool& pool, random_bits& r, bool may_block) {
  std::atomic<std::size_t> begun{0}, ended{0};
  std::atomic<bool> started{false};
  const std::size_t n = 1 + below(r, 30);
  auto parent = pool.submit([&] {
    started = true;
    std::vector<cadre::future<void>> children;
    for (std::size_t i = 0; i < n; ++i) {
      auto child = pool.submit([&] {
        ++begun;
        std::vector<cadre::future<void>> grandchildren;
        for (int k = 0; k < 3; ++k) grandchildren.push_back(pool.submit([] {}).then([c = counted()] {}));
        for (auto& g : grandchildren) g.wait();
        ++ended;
      });
      children.push_back(std::move(child));
    }
    for (auto& c : children) c.wait();
    return counted(stop_requested());
  });
  if (may_block && below(r, 2) != 0)
    while (!started.load() && !parent.ready()) std::this_thread::yield();
  parent.cancel();
  try {
    parent.get();
  } catch (const cadre::task_cancelled&) {
    check(begun == 0, "a task that never began has no children");
  }
  check(begun == ended, "children that began have ended before the parent that waits for them");
}

void timed_waits(cadre::thread_pool& pool, random_bits& r) {
  std::vector<cadre::future<counted>> futures;
  const std::size_t n = 1 + below(r, 20);
  for (std::size_t i = 0; i < n; ++i) {
    const auto pause = std::chrono::microseconds(below(r, 100));
    futures.push_back(pool.submit([i, pause] {
      std::this_thread::sleep_for(pause);
      return counted(i);
    }));
  }
  std::size_t ready = 0;
  while (ready < n) {
    const auto result = cadre::wait(futures, n, std::chrono::microseconds(below(r, 300)));
    check(result.ready.size() + result.pending.size() == n, "wait names each future once");
    check(result.ready.size() >= ready, "what is ready stays so");
    ready = result.ready.size();
  }
  std::size_t sum = 0;
  for (auto& f : futures) {
    check(f.wait_for(0s), "a future that was named ready");
    sum += f.get().value;
  }
  check(sum == n * (n - 1) / 2, "the values of timed waits");
  tasks_run += n;
}

void promises(cadre::thread_pool& pool, random_bits& r) {
  const std::size_t n = 1 + below(r, 30);
  std::vector<cadre::future<counted>> futures;
  std::size_t expected = 0;
  for (std::size_t i = 0; i < n; ++i) {
    cadre::promise<counted> p(pool);
    futures.push_back(p.get_future().then([](counted c) { return counted(c.value + 1); }));
    const std::size_t way = below(r, 3);
    if (way != 0) expected += i + 1;
    if (way == 0) {
      pool.post([q = std::move(p)] {});  // broken
    } else if (way == 1) {
      pool.post([q = std::move(p), i]() mutable { q.set_value(i); });
    } else {
      p.set_value(i);
    }
  }
  std::size_t sum = 0;
  for (auto& f : futures) try {
      sum += f.get().value;
    } catch (const cadre::broken_promise&) {}
  check(sum == expected, "promises kept and broken");
  tasks_run += n;
}

// Tasks that wait in all ways for older ones, which wait for what younger ones do.
void waits_for_older(cadre::thread_pool& pool, random_bits& r) {
  using value = cadre::shared_future<std::size_t>;
  std::vector<value> all;
  std::vector<std::size_t> expected;
  std::vector<cadre::move_only_function<void()>> to_do;
  const auto do_one = [&] {
    pool.post([f = std::move(to_do.back())]() mutable { f(); });
    to_do.pop_back();
  };
  const std::size_t n = 2 + below(r, 40);
  for (std::size_t i = 0; i < n; ++i) {
    if (!to_do.empty() && below(r, 3) == 0) do_one();
    const std::size_t way = below(r, all.empty() ? 2 : 7);
    const std::size_t a = all.empty() ? 0 : below(r, i), b = all.empty() ? 0 : below(r, i);
    const value first = all.empty() ? value() : all[a], second = all.empty() ? value() : all[b];
    const std::size_t sum = all.empty() ? 0 : expected[a] + expected[b];
    expected.push_back(way < 2 ? 1 : way == 2 ? sum / 2 : sum);
    const auto add = [&](auto f) { all.push_back(pool.submit(std::move(f)).share()); };
    if (way == 0) {
      cadre::promise<std::size_t> promise;
      add([f = promise.get_future()]() mutable { return f.get(); });
      to_do.emplace_back([p = std::move(promise)]() mutable { p.set_value(std::size_t{1}); });
    } else if (way == 1) {
      const auto come = std::make_shared<std::binary_semaphore>(0);
      add([come] {
        cadre::blocking([&] { come->acquire(); });
        return std::size_t{1};
      });
      to_do.emplace_back([come] { come->release(); });
    } else if (way == 2) {
      add([=, &pool] {
        auto inner = pool.submit([=] { return first.get(); });
        return std::move(inner).then([=](std::size_t v) { return (v + second.get()) / 2; }).get();
      });
    } else if (way == 3) {
      add([=] {
        std::size_t x = 0, y = 0;
        cadre::invoke([&] { x = first.get(); }, [&] { y = second.get(); });
        return x + y;
      });
    } else if (way == 4) {
      add([=, &pool] {
        pool.post([=] { second.wait(); });  // a child that waits for others
        return first.get() + second.get();
      });
    } else if (way == 5) {
      add([=, &pool] {
        const auto value_of = [&](std::size_t k) { return (k == 0 ? first : second).get(); };
        return pool.reduce(0, 2, std::size_t{0}, value_of, std::plus<>{});
      });
    } else {
      add([=] {
        static_cast<void>(cadre::wait(std::vector{first, second}, 1));
        while (!first.wait_for(1ms)) {}
        return first.get() + second.get();
      });
    }
  }
  while (!to_do.empty()) do_one();
  for (std::size_t i = 0; i < n; ++i) check(all[i].get() == expected[i], "the value of a task that waits for others");
  tasks_run += n;
}

void loops(cadre::thread_pool& pool, random_bits& r) {
  const std::size_t n = below(r, 20'000);
  std::atomic<std::size_t> sum{0};
  pool.for_each(0, n, [&](std::size_t i) { sum.fetch_add(i, std::memory_order_relaxed); });
  check(n == 0 || sum == n * (n - 1) / 2, "for_each");
  check(pool.reduce(
            0, n, std::size_t{0}, [](std::size_t i) { return i; }, std::plus<>{}) == sum,
        "reduce");
  const std::size_t fails = below(r, n + 1);
  bool threw = false;
  try {
    pool.for_each(0, n, [&](std::size_t i) {
      if (i == fails) throw thrown(i);
    });
  } catch (const thrown& t) {
    threw = std::stoul(t.what()) == fails;
  }
  check(threw == (fails < n), "the error of a loop");
  tasks_run += 1;
}

void posts(cadre::thread_pool& pool, random_bits& r) {
  const std::size_t n = 1 + below(r, 300);
  std::atomic<std::size_t> left{n};
  cadre::promise<void> all;
  auto done = all.get_future();
  // The last may still be in set_value() when this goes on: the promise is its own.
  const auto shared = std::make_shared<cadre::promise<void>>(std::move(all));
  for (std::size_t i = 0; i < n; ++i)
    pool.post([&left, shared, c = counted(i)] {
      if (left.fetch_sub(1) == 1) shared->set_value();
    });
  done.get();
  tasks_run += n;
}

void short_lived_pool(random_bits& r) {
  std::atomic<std::size_t> ran{0}, reported{0};
  const bool finishes = below(r, 2) != 0;
  const std::size_t n = below(r, 100);
  std::vector<cadre::future<counted>> futures;
  {
    cadre::thread_pool pool{{.threads = 1 + below(r, 3),
                             .on_unobserved_error = [&](const cadre::unobserved_error&) { ++reported; },
                             .at_end = finishes ? cadre::at_end::finish : cadre::at_end::cancel}};
    for (std::size_t i = 0; i < n; ++i) {
      futures.push_back(pool.submit([i] { return counted(i); }).then([](counted c) { return c; }));
      pool.post([&] { ++ran; });
      if (i % 10 == 0) pool.post([i] { throw thrown(i); });
    }
  }
  check(!finishes || ran == n, "what a pool runs before it ends");
  check(!finishes || reported == (n + 9) / 10, "errors of posted tasks");
  std::size_t sum = 0, ended = 0;
  for (auto& f : futures) try {
      sum += f.get().value;
    } catch (const cadre::task_cancelled&) {
      ++ended;
    }
  check(finishes ? ended == 0 && (n == 0 || sum == n * (n - 1) / 2) : ended <= n, "futures outlive their pool");
  tasks_run += 3 * n;
}

void threads_that_come_and_go(cadre::thread_pool& pool, random_bits& r) {
  std::vector<std::jthread> threads;
  for (std::size_t t = 1 + below(r, 3); t > 0; --t)
    threads.emplace_back([&pool, s = r()] {
      random_bits mine(s);
      values(pool, mine);
      static_cast<void>(pool.submit([c = counted()] { return counted(c); }));  // dropped
    });
}

// `depth`: how often tasks may do the same; `whole` on a thread that is no pool's, which alone may wait for threads.
constexpr int whole = 2;
void anything(cadre::thread_pool& pool, cadre::thread_pool& other, random_bits& r, int depth) {
  switch (below(r, 14)) {
    case 0: return values(pool, r);
    case 1: return nested_waits(pool, r);
    case 2: return chains(pool, other, r);
    case 3: return joins(pool, r);
    case 4: return cancelled(pool, r);
    case 5: return cancelled_family(pool, r, depth == whole);
    case 6: return timed_waits(pool, r);
    case 7: return promises(pool, r);
    case 8: return loops(pool, r);
    case 9: return posts(pool, r);
    case 10: return short_lived_pool(r);
    case 11: return waits_for_older(pool, r);
    case 12: return depth == whole ? threads_that_come_and_go(pool, r) : values(pool, r);
    default:  // the same inside tasks, of this pool or of the other, all at once
      if (depth == 0) return values(pool, r);
      std::vector<cadre::future<void>> inside;
      for (std::size_t i = 1 + below(r, 4); i > 0; --i) {
        cadre::thread_pool& home = below(r, 2) != 0 ? pool : other;
        // In a task all is of its own pool: a wait helps that one alone, and two pools may then wait for each other.
        inside.push_back(home.submit([&home, s = r(), depth] {
          random_bits mine(s);
          anything(home, home, mine, depth - 1);
        }));
      }
      for (auto& f : inside) f.get();
  }
}

std::uint64_t number(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace

int main() {
  const auto seconds = std::chrono::seconds(number("CADRE_STRESS_SECONDS", 10));
  seed = number("CADRE_STRESS_SEED", std::random_device{}());
  std::printf("seed %llu, %lld s\n", static_cast<unsigned long long>(seed), static_cast<long long>(seconds.count()));
  std::fflush(stdout);
  const auto end = std::chrono::steady_clock::now() + seconds;
  std::size_t rounds = 0;
  for (; std::chrono::steady_clock::now() < end; ++rounds) {
    random_bits r(seed + rounds);
    {
      cadre::thread_pool pool{{.threads = 1 + below(r, 4)}};
      cadre::thread_pool other{{.threads = 1 + below(r, 2)}};
      std::vector<std::jthread> drivers;
      for (std::size_t t = 0; t < 3; ++t)
        drivers.emplace_back([&, s = r()] {
          random_bits mine(s);
          for (int i = 0; i < 20 && std::chrono::steady_clock::now() < end; ++i) anything(pool, other, mine, whole);
        });
    }
    check(counted::live == 0, "every closure, value and error has been destroyed once");
  }
  std::printf("%zu rounds, %llu tasks, %llu failures\n", rounds, static_cast<unsigned long long>(tasks_run.load()),
              static_cast<unsigned long long>(failures.load()));
  return failures.load() == 0 ? 0 : 1;
}
