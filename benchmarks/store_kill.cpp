// How long the store blocks a survivor when a process is killed while it holds the store's lock, with a million live
// objects. A program of its own, since its store is compiled with steps to die at.
#include <csignal>

namespace store_kill {
inline int deadly_step = -1;
inline void step(int reached) {
  if (reached == deadly_step) std::raise(SIGKILL);
}
}  // namespace store_kill
#define CADRE_STORE_STEP(name) store_kill::step(static_cast<int>(store_step::name))

#include "store_peers.hpp"

#include <array>

namespace {

using namespace store_peers;
using step = cadre::detail::store_step;

constexpr std::array<std::byte, kib> value{};
constexpr std::size_t million = 1'000'000;

/// Steps of a put and of a drop, in the order of the code, at which the lock is held.
constexpr step steps[] = {step::entry_taken,        step::block_allocated, step::entry_written, step::creator_holds,
                          step::creation_committed, step::ref_dropped,     step::entry_freed,   step::entry_listed};

cadre::object_store open(const std::string& name) {
  return cadre::object_store::open({.name = name, .capacity = 2 * gib});
}

int play_victim(cadre::object_store store, step last) {
  return play("victim", [&] {
    store_kill::deadly_step = static_cast<int>(last);
    bytes_ref ref = store.put(std::span(value));
    const cadre::view<bytes> v = store.get(ref);
    ref = {};  // under the lock, since there is a view
    return 0.;
  });
}

/// With a name, since a put without one may need no lock and then is not held up at all.
double milliseconds_of_put(cadre::object_store& store) {
  bytes_ref ref;
  const double ms = ns_each(1, [&] { ref = store.put(std::span(value), {.name = "survivor's"}); }) * 1e-6;
  store.erase(ref);
  return ms;
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 2) return play_victim(open(arguments[1]), static_cast<step>(std::stoi(arguments[2])));
  const std::string name = store_name();
  cadre::object_store store = open(name);
  std::vector<bytes_ref> live(million);
  for (bytes_ref& ref : live) ref = store.put(std::span(value));
  const auto killed_at = [&](step last) {
    const auto victim = start({name, std::to_string(static_cast<int>(last))});
    try {
      victim->round();
    } catch (const std::runtime_error&) {  // it has been killed
      const double ms = milliseconds_of_put(store);
      require(store.stats().objects == million, "the number of live objects after a kill");
      return ms;
    }
    throw std::runtime_error("a process outlived the step at which it should die");
  };
  struct alignas(64) entry {
    std::atomic<std::uint64_t> word;
  };
  std::vector<entry> entries(million);
  for (entry& e : entries) e.word = 1;
  benchmark::print_head();
  benchmark::measure(
      "put 1 KiB after a process was killed that held the lock, 1 million live objects", "ms", 16,
      {{"cadre, at each of 8 steps",
        [&, k = std::size_t{0}]() mutable { return killed_at(steps[k++ % std::size(steps)]); }, benchmark::at_most(50)},
       {"cadre, without a kill", [&] { return milliseconds_of_put(store); }},
       {"a look at 1 million entries of 64 bytes", [&] {
          return ns_each(1,
                         [&] {
                           for (const entry& e : entries) use(e.word.load());
                         }) *
                 1e-6;
        }}});
}
