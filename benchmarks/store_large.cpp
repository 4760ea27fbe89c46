// Large objects of the store: put beside memcpy, into memory that is recycled and into such as was never touched; building
// in place and get, which must not depend on the size. One process.
#include "store_peers.hpp"

namespace {

using namespace store_peers;

constexpr std::size_t large = 100 * mib;

/// GiB per second of what f does with a large object.
template <class F>
double rate(F&& f) {
  return static_cast<double>(large) / gib / (ns_each(1, f) * 1e-9);
}

void put_recycled(cadre::object_store& store, const warm_memory& from) {
  const warm_memory to(large);
  benchmark::measure("put 100 MiB into recycled memory", "GiB/s", 15,
                     {{"cadre",
                       [&] {
                         bytes_ref ref;
                         return rate([&] { ref = store.put(from.all()); });
                       }},
                      {"memcpy, warm to warm",
                       [&] {
                         return rate([&] {
                           std::memcpy(to.data(), from.data(), large);
                           use(to.data());
                         });
                       },
                       benchmark::at_least(0.8)}});
}

void put_never_touched(const warm_memory& from) {
  const warm_memory to(large);
  benchmark::measure("put 100 MiB into never-touched memory", "GiB/s", 9,
                     {{"cadre",
                       [&] {
                         cadre::object_store fresh = cadre::object_store::open({.capacity = 2 * large});
                         bytes_ref ref;
                         return rate([&] { ref = fresh.put(from.all()); });
                       }},
                      {"memcpy, warm to warm",
                       [&] {
                         return rate([&] {
                           std::memcpy(to.data(), from.data(), large);
                           use(to.data());
                         });
                       },
                       benchmark::at_least(0.55)},
                      {"memcpy into never-touched shared memory",
                       [&] {
                         const shared_memory never(large);
                         return rate([&] { std::memcpy(&never.as<std::byte>(), from.data(), large); });
                       }},
                      {"memset of never-touched memory", [&] {
                         const cadre::mapping never = cadre::mapping::anonymous(large);
                         return rate([&] {
                           std::memset(never.data(), 1, large);
                           use(never.data());
                         });
                       }}});
}

struct sized {
  const char* name;
  std::size_t bytes;
};
constexpr sized sizes[] = {{"1 KiB", kib}, {"1 MiB", mib}, {"100 MiB", large}, {"1 GiB", gib}};

void create_and_seal(cadre::object_store& store) {
  std::vector<benchmark::contender> all;
  for (const sized& s : sizes)
    all.push_back({std::string("create, seal and drop ") + s.name + ", warm",
                   [&store, n = s.bytes] {
                     return ns_per_call(50'000, [&](std::size_t) {
                       auto w = store.create<std::byte>(n);
                       use(w.span().data());
                       std::move(w).seal();
                     });
                   },
                   benchmark::at_most(200)});
  measure_ours("ns", 11, all);
}

void get_hot(cadre::object_store& store) {
  std::vector<bytes_ref> refs;
  for (const sized& s : sizes) refs.push_back(store.create<std::byte>(s.bytes).seal());
  std::vector<benchmark::contender> all;
  for (std::size_t k = 0; k < refs.size(); ++k)
    all.push_back({std::string("get and release ") + sizes[k].name + ", hot",
                   [&store, &ref = refs[k]] {
                     return ns_per_call(500'000, [&](std::size_t) {
                       const cadre::view<bytes> v = store.get(ref);
                       use(v.bytes().data());
                     });
                   },
                   benchmark::at_most(15)});
  measure_ours("ns", 11, all);
  // The same again, beside the largest.
  std::vector<benchmark::contender> beside{{"cadre, 1 GiB", all.back().round}};
  for (std::size_t k = 0; k + 1 < all.size(); ++k)
    beside.push_back({std::string("cadre, ") + sizes[k].name, all[k].round, benchmark::at_most(1.2)});
  std::atomic<std::uint64_t> count{0};
  beside.push_back({"two fetch_add", [&] {
                      return ns_per_call(500'000, [&](std::size_t) {
                        count.fetch_add(1);
                        count.fetch_sub(1);
                      });
                    }});
  benchmark::measure("get and release of every size, hot", "ns", 11, std::move(beside));
}

}  // namespace

int main() {
  const warm_memory from(large);
  benchmark::print_head();
  put_never_touched(from);
  // A quarter of the memory is kept when it is free again.
  cadre::object_store store = cadre::object_store::open({.capacity = 6 * gib});
  warm(store, gib + 256 * mib);
  put_recycled(store, from);
  create_and_seal(store);
  get_hot(store);
}
