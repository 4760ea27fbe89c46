// Random mixes of all that the runtime of one process can do: tasks, actors, objects, kills, stops, names, cancels, waits with
// time limits, circles, and ends of runtimes; each checked by what it must add up to, for some seconds: ten, or as many as
// CADRE_STRESS_SECONDS says. CADRE_STRESS_SEED repeats the choices of a run, though not its schedule. A hang is ended by
// the test's timeout; what is wrong is said on stderr, with the seed, and the program ends with 1.

#include <cadre/actor.hpp>
#include <cadre/async.hpp>
#include <cadre/async/coroutine.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using random_bits = std::mt19937_64;

std::atomic<std::uint64_t> failures{0};
std::atomic<std::uint64_t> calls_made{0};
std::uint64_t seed = 0;

void check(bool condition, const char* what) {
  if (condition) return;
  if (failures.fetch_add(1) < 20)
    std::fprintf(stderr, "wrong: %s (seed %llu)\n", what, static_cast<unsigned long long>(seed));
}

std::size_t below(random_bits& r, std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(r); }

// Counts objects, so that no argument, result, actor or error is lost or destroyed twice.
class counted {
 public:
  explicit counted(std::size_t v = 0) : value(v) { ++live; }
  counted(counted&& o) noexcept : value(o.value) { ++live; }
  counted(const counted& o) : value(o.value) { ++live; }
  counted& operator=(counted&&) = default;
  counted& operator=(const counted&) = default;
  ~counted() { --live; }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(value);
  }
  std::size_t value;
  static inline std::atomic<std::int64_t> live{0};
};

struct large : counted {
  using counted::counted;
  std::byte more[400] = {};
};

// ---- Actors and tasks ------------------------------------------------------------------------------------------------

/// Checks that its calls run one at a time, each caller's in order.
class ordered {
 public:
  ordered() = default;
  explicit ordered(std::size_t pause) : pause_(pause) {}
  counted step(std::size_t caller, std::size_t number, counted weight) {
    check(!inside_.exchange(true), "one call at a time");
    if (next_.size() <= caller) next_.resize(caller + 1);
    check(number >= next_[caller], "the calls of a caller in their order");
    next_[caller] = number + 1;
    total_ += weight.value;
    if (pause_ != 0) std::this_thread::sleep_for(std::chrono::microseconds(pause_));
    inside_ = false;
    return counted(number);
  }
  [[nodiscard]] counted total() const { return counted(total_); }
  large echo(const large& l) { return l; }
  void fail() { throw std::out_of_range("as it is to"); }

 private:
  std::size_t pause_ = 0;
  std::atomic<bool> inside_{false};
  std::vector<std::size_t> next_;
  counted self_;
  std::size_t total_ = 0;
};
using ordered_actor = cadre::actor<ordered>;

/// Several calls at once.
class crowded {
 public:
  explicit crowded(int most) : most_(most) {}
  counted step(std::size_t number) {
    check(++inside_ <= most_, "no more calls at once than .max_concurrency");
    if (number % 4 == 0) std::this_thread::yield();
    --inside_;
    return counted(number);
  }

 private:
  const int most_;
  std::atomic<int> inside_{0};
};

/// One of a chain or a ring. Its destructor calls the next.
cadre::future<std::size_t> one_more(cadre::future<std::size_t> n) { co_return 1 + co_await std::move(n); }

class link {
 public:
  void know(cadre::actor<link> next) { next_ = next; }
  std::size_t ask(std::size_t depth) {
    ++asked_;
    if (depth == 0) return 0;
    auto next = next_.call<&link::ask>(depth - 1);
    switch (depth % 4) {
      case 0: return 1 + next.get();
      case 1: return 1 + std::move(next).then([](std::size_t n) { return n; }).get();
      case 2: return 1 + std::get<0>(cadre::when_all(std::move(next), next_.call<&link::ask>(0)).get());
      default: return one_more(std::move(next)).get();
    }
  }
  ~link() {
    if (next_) next_.tell<&link::nothing>();
  }
  void nothing() {}

 private:
  cadre::actor<link> next_;
  counted self_;
  std::size_t asked_ = 0;
};

class stillborn {
 public:
  explicit stillborn(counted) { throw std::runtime_error("never"); }
  void nothing() {}

 private:
  counted self_;
};

std::size_t doubled(const counted& c) { return 2 * c.value; }
counted passed_on(counted c) { return c; }
std::vector<float> ones(std::size_t n) { return std::vector<float>(n, 1.0f); }
std::size_t size_of(std::span<const float> v) { return v.size(); }
std::vector<float> never() { throw std::out_of_range("as it is to"); }
std::size_t calls_inside(ordered_actor a, std::size_t caller, std::size_t n) {
  std::size_t sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += a.call<&ordered::step>(caller, i, counted(1)).get().value;
  return sum;
}

// ---- The kinds of work: each returns when all that it began has ended, and checks it. From any thread -----------------

void calls_in_order(cadre::runtime& rt, random_bits& r) {
  const auto a = rt.actor<ordered>();
  const std::size_t n = 1 + below(r, 600), tasks = below(r, 4);
  std::vector<cadre::future<std::size_t>> inside;
  for (std::size_t k = 0; k < tasks; ++k) inside.push_back(rt.submit<&calls_inside>(a, k + 1, n / 8));
  std::vector<cadre::future<counted>> calls;
  for (std::size_t i = 0; i < n; ++i) {
    if (below(r, 3) == 0)
      a.tell<&ordered::step>(0u, i, counted(1));
    else
      calls.push_back(a.call<&ordered::step>(0u, i, counted(1)));
    if (!calls.empty() && below(r, 50) == 0) calls.back().wait();
  }
  for (auto& f : calls) f.get();
  for (auto& f : inside) check(f.get() == (n / 8) * (n / 8 + (n / 8 == 0) - 1) / 2, "the calls of a task");
  check(a.call<&ordered::total>().get().value == n + tasks * (n / 8), "every call ran once");
  check(a.call<&ordered::echo>(large(7)).get().value == 7, "large arguments and results");
  a.stop().get();
  calls_made += n * 2;
}

void ended(cadre::runtime& rt, random_bits& r) {
  const auto a = rt.actor<ordered>(below(r, 2));
  const std::size_t n = 1 + below(r, 100), end = below(r, n);
  const bool kills = below(r, 2) != 0;
  std::vector<cadre::future<counted>> calls;
  cadre::future<void> stop;
  for (std::size_t i = 0; i < n; ++i) {
    if (i == end && kills) a.kill();
    if (i == end && !kills) stop = a.stop();
    calls.push_back(a.call<&ordered::step>(0u, i, counted(1)));
  }
  std::size_t ran = 0, died = 0;
  for (auto& f : calls) try {
      check(f.get().value == ran && died == 0, "no call runs after one that the end has caught");
      ++ran;
    } catch (const cadre::actor_died&) {
      ++died;
    }
  check(kills ? ran <= end : ran == end, "calls before the end run");
  if (!kills) stop.get();
  check(!a.kill(), "an actor ends once");
  calls_made += n;
}

void cancelled(cadre::runtime& rt, random_bits& r) {
  const auto a = rt.actor<ordered>(below(r, 2));
  const std::size_t n = 1 + below(r, 60);
  std::vector<cadre::future<counted>> calls;
  for (std::size_t i = 0; i < n; ++i) calls.push_back(a.call<&ordered::step>(0u, i, counted(1)));
  for (std::size_t i = below(r, n); i < n; i += 1 + below(r, 3)) calls[i].cancel();
  std::size_t ran = 0, ended_early = 0;
  for (auto& f : calls) try {
      f.get();
      ++ran;
    } catch (const cadre::task_cancelled&) {
      ++ended_early;
    }
  check(ran + ended_early == n && a.call<&ordered::total>().get().value == ran, "each call ran or was cancelled");
  a.kill();
  calls_made += n;
}

void cancelled_family(cadre::runtime& rt, random_bits& r) {
  static std::atomic<std::size_t> names{0};
  const std::string name = "child" + std::to_string(names++);
  auto parent = rt.submit<[](const std::string& its_name, std::size_t n) {
    const auto a = cadre::this_task::runtime().actor<ordered>({.name = its_name}, std::size_t{1});
    std::vector<cadre::future<counted>> calls;
    for (std::size_t i = 0; i < n; ++i) calls.push_back(a.call<&ordered::step>(0u, i, counted(1)));
    for (auto& f : calls) f.wait();
  }>(name, below(r, 40));
  if (below(r, 2) != 0) std::this_thread::sleep_for(std::chrono::microseconds(below(r, 200)));
  parent.cancel();
  parent.wait();
  try {
    const auto a = rt.find_actor<ordered>(name);
    a.call<&ordered::total>().get();  // it lives, whatever became of the task
    a.stop().get();
  } catch (const cadre::no_such_actor&) {}
}

void timed_waits(cadre::runtime& rt, random_bits& r) {
  std::vector<ordered_actor> actors;
  for (std::size_t k = 1 + below(r, 4); k > 0; --k) actors.push_back(rt.actor<ordered>(below(r, 50)));
  std::vector<cadre::future<counted>> calls;
  const std::size_t n = 1 + below(r, 40);
  for (std::size_t i = 0; i < n; ++i)
    calls.push_back(actors[below(r, actors.size())].call<&ordered::step>(0u, i, counted(1)));
  std::size_t ready = 0;
  while (ready < n) {
    const std::size_t wanted = 1 + below(r, n);
    const auto result = below(r, 4) != 0 ? cadre::wait(calls, wanted, std::chrono::microseconds(below(r, 300)))
                                         : cadre::wait(calls, wanted);
    check(result.ready.size() + result.pending.size() == n && result.ready.size() >= ready,
          "wait names each call once");
    ready = result.ready.size();
    static_cast<void>(calls[below(r, n)].wait_for(std::chrono::microseconds(below(r, 100))));
  }
  for (const auto& a : actors) a.kill();
  calls_made += n;
}

void names(cadre::runtime& rt, random_bits& r) {
  const std::string name = "shared" + std::to_string(below(r, 3));
  for (int i = 0; i < 20; ++i) try {
      switch (below(r, 4)) {
        case 0: rt.actor<ordered>({.name = name, .get_or_create = true}).call<&ordered::total>().get(); break;
        case 1: rt.find_actor<ordered>(name).call<&ordered::total>().get(); break;
        case 2: rt.actor<ordered>({.name = name}).call<&ordered::total>().get(); break;
        default: rt.find_actor<ordered>(name).stop().get();
      }
    } catch (const cadre::actor_died&) {
    } catch (const cadre::no_such_actor&) {
    } catch (const cadre::actor_name_taken&) {}
}

void rings(cadre::runtime& rt, random_bits& r) {
  std::vector<cadre::actor<link>> all(1 + below(r, 6));
  for (auto& a : all) a = rt.actor<link>();
  for (std::size_t i = 0; i < all.size(); ++i) all[i].call<&link::know>(all[(i + 1) % all.size()]).get();
  std::vector<cadre::future<std::size_t>> asked;
  for (std::size_t k = 1 + below(r, 3); k > 0; --k)
    asked.push_back(all[below(r, all.size())].call<&link::ask>(below(r, 2 * all.size())));
  for (auto& f : asked) try {
      check(f.get() < all.size(), "no call goes round");
    } catch (const cadre::wait_cycle&) {
      // Two that are on their way at once may wait for each other, too.
    }
  for (const auto& a : all) below(r, 2) != 0 ? static_cast<void>(a.kill()) : static_cast<void>(a.stop());
  calls_made += 2 * all.size();
}

void crowds(cadre::runtime& rt, random_bits& r) {
  const std::uint32_t most = 1 + static_cast<std::uint32_t>(below(r, 4));
  const auto a = rt.actor<crowded>({.max_concurrency = most}, static_cast<int>(most));
  std::vector<cadre::future<counted>> calls;
  const std::size_t n = 1 + below(r, 300);
  for (std::size_t i = 0; i < n; ++i) calls.push_back(a.call<&crowded::step>(i));
  auto inside = rt.submit<[](cadre::actor<crowded> c) {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < 10; ++i) sum += c.call<&crowded::step>(i).get().value;
    return sum;
  }>(a);
  check(inside.get() == 45, "calls of a task to an actor that runs several at once");
  std::size_t sum = 0;
  for (auto& f : calls) sum += f.get().value;
  check(sum == n * (n - 1) / 2, "the values of calls that run at once");
  a.stop().get();
  calls_made += n;
}

void narrow(cadre::runtime& rt, random_bits& r) {
  const std::size_t most = 1 + below(r, 10);
  const auto a = rt.actor<ordered>({.max_pending_calls = most});
  std::vector<cadre::future<counted>> calls;
  for (std::size_t i = 0; i < 200; ++i) try {
      calls.push_back(a.call<&ordered::step>(0u, i, counted(1)));
    } catch (const cadre::too_many_calls&) {
      check(!calls.empty(), "the first call is not refused");
      calls.back().wait();
    }
  for (auto& f : calls) f.get();
  check(a.call<&ordered::total>().get().value == calls.size(), "what was refused did not run");
  a.stop().get();
}

void continued(cadre::runtime& rt, random_bits& r) {
  const auto a = rt.actor<ordered>();
  const std::size_t n = 1 + below(r, 40);
  std::vector<cadre::future<std::size_t>> parts;
  for (std::size_t i = 0; i < n; ++i)
    parts.push_back(a.call<&ordered::step>(0u, i, counted(1)).then([](counted c) { return c.value; }));
  auto sum = cadre::when_all(std::move(parts)).then([](std::vector<std::size_t> v) {
    std::size_t s = 0;
    for (const std::size_t x : v) s += x;
    return counted(s);
  });
  auto depends = rt.submit<&doubled>(rt.submit<&passed_on>(std::move(sum)));
  auto as_argument = a.call<&ordered::step>(1u, std::move(depends), counted(1));
  check(as_argument.get().value == n * (n - 1), "continuations, joins and arguments that depend");
  auto failing = rt.submit<&doubled>(a.call<&ordered::fail>().then([] { return counted(1); }));
  try {
    failing.get();
    check(false, "an error passes on");
  } catch (const std::out_of_range&) {}
  try {
    rt.actor<stillborn>(counted(1)).call<&stillborn::nothing>().get();
    check(false, "an actor that was never made");
  } catch (const cadre::actor_died&) {}
  a.kill();
  calls_made += n;
}

cadre::future<std::size_t> awaits(ordered_actor a, std::size_t n) {
  std::size_t sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += (co_await a.call<&ordered::step>(2u, i, counted(1))).value;
  co_return sum;
}
void coroutines(cadre::runtime& rt, random_bits& r) {
  const auto a = rt.actor<ordered>();
  const std::size_t n = 1 + below(r, 30);
  check(awaits(a, n).get() == n * (n - 1) / 2, "a coroutine that awaits calls");
  a.stop().get();
  calls_made += n;
}

void objects(cadre::runtime& rt, random_bits& r) {
  std::vector<cadre::object_ref<std::vector<float>>> refs;
  std::vector<cadre::future<std::size_t>> sizes;
  const std::size_t n = 1 + below(r, 20);
  for (std::size_t i = 0; i < n; ++i) {
    refs.push_back(below(r, 2) != 0 ? rt.put(ones(i)) : rt.submit_ref<&ones>(i));
    sizes.push_back(rt.submit<&size_of>(refs.back()));
  }
  check(rt.wait(refs, n).ready.size() == n, "wait for objects");
  for (std::size_t i = 0; i < n; ++i) {
    const auto view = rt.get(refs[i]);
    check((*view).size() == i && sizes[i].get() == i, "objects as results and arguments");
  }
  const auto failing = rt.submit_ref<&never>();
  try {
    rt.submit<&size_of>(failing).get();
    check(false, "the error of an object");
  } catch (const std::out_of_range&) {}
  calls_made += 2 * n;
}

void short_lived(random_bits& r) {
  std::vector<cadre::future<counted>> calls;
  cadre::future<std::size_t> late;
  cadre::promise<counted> brings;
  ordered_actor handle;
  std::vector<std::jthread> waiters;
  const std::size_t n = 1 + below(r, 60);
  {
    cadre::runtime rt{{.threads = 1 + below(r, 3)}};
    handle = rt.actor<ordered>(below(r, 2));
    const auto a = rt.actor<link>(), b = rt.actor<link>();
    a.call<&link::know>(b).wait();
    b.tell<&link::know>(a);
    for (std::size_t i = 0; i < n; ++i) calls.push_back(handle.call<&ordered::step>(0u, i, counted(1)));
    for (std::size_t k = below(r, 3); k > 0; --k)
      waiters.emplace_back(
          [f = cadre::shared_future<counted>(handle.call<&ordered::step>(0u, n + 2 - k, counted(1)))] { f.wait(); });
    late = rt.submit<&doubled>(brings.get_future());
  }
  std::size_t sum = 0;
  for (auto& f : calls) sum += f.get().value;
  check(sum == n * (n - 1) / 2, "the end of a runtime runs what was called");
  brings.set_value(21u);
  check(late.get() == 42, "a task that depends on what comes after the end");
  try {
    handle.call<&ordered::total>();
    check(false, "a handle of a runtime that has ended");
  } catch (const cadre::empty_actor&) {}
  calls_made += n;
}

void anything(cadre::runtime& rt, random_bits& r, bool in_task);
void anything_inside(std::uint64_t its_seed) {
  random_bits mine(its_seed);
  anything(cadre::this_task::runtime(), mine, true);
}
class worker {
 public:
  void work(std::uint64_t its_seed) { anything_inside(its_seed); }

 private:
  counted self_;
};

void anything(cadre::runtime& rt, random_bits& r, bool in_task) {
  switch (below(r, 15)) {
    case 0: return calls_in_order(rt, r);
    case 1: return ended(rt, r);
    case 2: return cancelled(rt, r);
    case 3: return cancelled_family(rt, r);
    case 4: return timed_waits(rt, r);
    case 5: return names(rt, r);
    case 6: return rings(rt, r);
    case 7: return crowds(rt, r);
    case 8: return narrow(rt, r);
    case 9: return continued(rt, r);
    case 10: return coroutines(rt, r);
    case 11: return objects(rt, r);
    case 12: return short_lived(r);
    default:  // the same inside tasks and actors, all at once
      if (in_task) return calls_in_order(rt, r);
      std::vector<cadre::future<void>> inside;
      const auto w = rt.actor<worker>();
      for (std::size_t i = 1 + below(r, 4); i > 0; --i)
        inside.push_back(below(r, 2) != 0 ? rt.submit<&anything_inside>(r()) : w.call<&worker::work>(r()));
      for (auto& f : inside) f.get();
      w.kill();
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
      cadre::runtime rt{{.threads = 1 + below(r, 4),
                         .store = {.capacity = 16 << 20},
                         .on_unobserved_error = [](const cadre::unobserved_error&) {}}};  // of those who told the dead
      std::vector<std::jthread> drivers;
      for (std::size_t t = 0; t < 3; ++t)
        drivers.emplace_back([&, s = r()] {
          random_bits mine(s);
          for (int i = 0; i < 20 && std::chrono::steady_clock::now() < end; ++i) try {
              anything(rt, mine, false);
            } catch (const std::exception& e) {
              check(false, e.what());
            }
        });
    }
    check(counted::live == 0, "every argument, result, actor and error has been destroyed once");
  }
  std::printf("%zu rounds, %llu calls, %llu failures\n", rounds, static_cast<unsigned long long>(calls_made.load()),
              static_cast<unsigned long long>(failures.load()));
  return failures.load() == 0 ? 0 : 1;
}
