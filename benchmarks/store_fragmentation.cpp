// What is lost to fragmentation: a million random puts and erases in a store that is nearly full, then puts until the first
// one fails. Beside Boost.Interprocess with the same objects.
#include "store_peers.hpp"

#include <boost/interprocess/managed_external_buffer.hpp>

#include <cmath>
#include <optional>
#include <random>
#include <utility>

namespace {

using namespace store_peers;
namespace ipc = boost::interprocess;

constexpr std::size_t capacity = gib, operations = 1'000'000;

/// Sizes from 64 bytes to 4 MiB, as many in each doubling. Four fifths of the memory are asked for.
class objects {
 public:
  explicit objects(unsigned seed) : random_(seed) {}

  /// The share of the memory that is lost. `put(bytes)` gives what holds an object, or nothing; `used(asked)` the bytes
  /// that the live objects take.
  template <class Put, class Used>
  double lost(Put&& put, Used&& used) {
    using held = std::decay_t<decltype(*put(std::size_t{1}))>;
    std::vector<std::pair<held, std::size_t>> live;
    std::size_t asked = 0;
    const auto add = [&] {
      const std::size_t n = size();
      auto made = put(n);
      if (!made) return false;
      live.emplace_back(std::move(*made), n);
      asked += n;
      return true;
    };
    for (std::size_t i = 0; i < operations; ++i) {
      if (asked < capacity / 5 * 4 && add()) continue;
      std::swap(live[random_() % live.size()], live.back());
      asked -= live.back().second;
      live.pop_back();
    }
    while (add()) {}
    return 1 - static_cast<double>(used(asked)) / static_cast<double>(capacity);
  }

 private:
  std::size_t size() {
    return static_cast<std::size_t>(std::exp2(std::uniform_real_distribution<double>(6, 22)(random_)));
  }
  std::mt19937 random_;
};

std::optional<bytes_ref> put(cadre::object_store& store, std::size_t n) {
  try {
    return store.create<std::byte>(n).seal();
  } catch (const cadre::store_full&) {
    return std::nullopt;
  }
}
cadre::object_store fresh() { return cadre::object_store::open({.capacity = capacity, .put_timeout = 0ns}); }

/// By what the store has given out, or by what was asked for, which is less.
double lost_by_store(unsigned seed, bool rounded) {
  cadre::object_store store = fresh();
  return 100 * objects(seed).lost([&](std::size_t n) { return put(store, n); },
                                  [&](std::size_t asked) { return rounded ? store.stats().used : asked; });
}
double lost_by_boost(unsigned seed) {
  const cadre::mapping memory = cadre::mapping::anonymous(capacity);
  ipc::managed_external_buffer segment(ipc::create_only, memory.data(), capacity);
  struct block {
    ipc::managed_external_buffer* of;
    void* at;
    block(ipc::managed_external_buffer* o, void* a) : of(o), at(a) {}
    block(block&& other) noexcept : of(other.of), at(std::exchange(other.at, nullptr)) {}
    block& operator=(block&& other) noexcept {
      std::swap(at, other.at);
      return *this;
    }
    ~block() {
      if (at != nullptr) of->deallocate(at);
    }
  };
  return 100 * objects(seed).lost(
                   [&](std::size_t n) -> std::optional<block> {
                     void* const at = segment.allocate(n, std::nothrow);
                     if (at == nullptr) return std::nullopt;
                     return block(&segment, at);
                   },
                   [](std::size_t asked) { return asked; });
}

}  // namespace

int main() {
  benchmark::print_head();
  // Three rounds, each with other sizes.
  benchmark::measure("memory lost when the first put fails, after a million puts and erases", "%", 3,
                     {{"cadre", [seed = 0u]() mutable { return lost_by_store(seed++, true); }, benchmark::at_most(15)},
                      {"cadre, with what it rounds up", [seed = 0u]() mutable { return lost_by_store(seed++, false); }},
                      {"Boost.Interprocess", [seed = 0u]() mutable { return lost_by_boost(seed++); }}},
                     0);
}
