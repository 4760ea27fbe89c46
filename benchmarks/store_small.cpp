// Small objects of the store: put, get, by name. Nanoseconds, beside what nobody can do without (a copy, two atomic
// additions, a robust mutex), Boost.Interprocess and LMDB. One process; store_processes.cpp has several.
#include "store_peers.hpp"

#include <cadre/os/robust_mutex.hpp>

#include <boost/interprocess/managed_shared_memory.hpp>
#include <lmdb.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <random>

namespace {

using namespace store_peers;
namespace ipc = boost::interprocess;

constexpr std::size_t size = kib, million = 1'000'000, in_lmdb = 300'000;
using block = std::array<std::byte, size>;

/// Nobody else opens it, so its file goes at once.
class boost_segment {
 public:
  explicit boost_segment(std::size_t n) : segment_(ipc::create_only, store_name().c_str(), n) {
    ipc::shared_memory_object::remove(store_name().c_str());
  }
  ipc::managed_shared_memory* operator->() { return &segment_; }

 private:
  ipc::managed_shared_memory segment_;
};

/// An environment in memory that is never synced: as fast as LMDB goes. Its files go at once too.
class lmdb_environment {
 public:
  lmdb_environment() {
    const std::string folder = "/dev/shm/" + store_name() + "-lmdb";
    std::filesystem::create_directory(folder);
    check(mdb_env_create(&env_));
    check(mdb_env_set_mapsize(env_, 4 * gib));
    const int opened = mdb_env_open(env_, folder.c_str(), MDB_NOSYNC | MDB_NOMETASYNC | MDB_NOTLS, 0600);
    std::filesystem::remove_all(folder);
    check(opened);
    in_transaction([&](MDB_txn* t) { check(mdb_dbi_open(t, nullptr, 0, &table_)); });
    check(mdb_txn_begin(env_, nullptr, MDB_RDONLY, &reader_));
    mdb_txn_reset(reader_);
  }
  lmdb_environment(const lmdb_environment&) = delete;
  lmdb_environment& operator=(const lmdb_environment&) = delete;
  ~lmdb_environment() {
    mdb_txn_abort(reader_);
    mdb_env_close(env_);
  }

  template <class F>
  void in_transaction(F&& f) {
    MDB_txn* t = nullptr;
    check(mdb_txn_begin(env_, nullptr, 0, &t));
    f(t);
    check(mdb_txn_commit(t));
  }
  void put(MDB_txn* t, std::string_view key, const block& value) {
    MDB_val k = as_value(key), v{value.size(), const_cast<std::byte*>(value.data())};
    check(mdb_put(t, table_, &k, &v, 0));
  }
  /// Reads the first byte.
  void get(std::string_view key) {
    check(mdb_txn_renew(reader_));
    MDB_val k = as_value(key), v{};
    check(mdb_get(reader_, table_, &k, &v));
    read_byte(*static_cast<const std::byte*>(v.mv_data));
    mdb_txn_reset(reader_);
  }

 private:
  static MDB_val as_value(std::string_view key) { return {key.size(), const_cast<char*>(key.data())}; }
  static void check(int code) {
    if (code != 0) throw std::runtime_error(std::string("LMDB: ") + mdb_strerror(code));
  }
  MDB_env* env_ = nullptr;
  MDB_dbi table_ = 0;
  MDB_txn* reader_ = nullptr;
};

struct peers {
  boost_segment boost{3 * gib};
  lmdb_environment lmdb;
};

const block value{};

std::string key_of(std::size_t i) {
  char text[16];
  std::snprintf(text, sizeof text, "object-%07zu", i);
  return text;
}
std::vector<std::string> keys(std::size_t n) {
  std::vector<std::string> all(n);
  for (std::size_t i = 0; i < n; ++i) all[i] = key_of(i);
  return all;
}

void put_hot(cadre::object_store& store, peers& with) {
  constexpr std::size_t n = 200'000;
  cadre::robust_mutex mutex;
  mutex.init();
  block copy;
  benchmark::measure("put 1 KiB, hot: put and drop in turn", "ns", 15,
                     {{"cadre", [&] { return ns_per_call(n, [&](std::size_t) { store.put(std::span(value)); }); },
                       benchmark::at_most(150)},
                      {"memcpy of 1 KiB, hot",
                       [&] {
                         return ns_per_call(n, [&](std::size_t) {
                           use(value.data());
                           std::memcpy(copy.data(), value.data(), size);
                           use(copy.data());
                         });
                       }},
                      {"robust mutex, locked and unlocked twice",
                       [&] {
                         return ns_per_call(
                                    2 * n,
                                    [&](std::size_t) {
                                      static_cast<void>(mutex.lock_until(std::chrono::steady_clock::time_point::max()));
                                      mutex.unlock();
                                    }) *
                                2;
                       }},
                      {"Boost.Interprocess: allocate, copy, deallocate",
                       [&] {
                         return ns_per_call(n, [&](std::size_t) {
                           void* const at = with.boost->allocate(size);
                           std::memcpy(at, value.data(), size);
                           use(at);
                           with.boost->deallocate(at);
                         });
                       },
                       benchmark::at_most(1)},
                      {"LMDB, a transaction each", [&] {
                         return ns_per_call(n / 10, [&](std::size_t) {
                           with.lmdb.in_transaction([&](MDB_txn* t) { with.lmdb.put(t, "hot", value); });
                         });
                       }}});
}

/// Afterwards the million is there, and LMDB has its share.
void put_cold(cadre::object_store& store, peers& with, std::vector<bytes_ref>& kept) {
  const std::vector<std::string> names = keys(in_lmdb);
  const warm_memory copies(million * size);
  std::vector<void*> blocks(million);
  benchmark::measure("put 1 KiB, cold: a million that are kept, in memory touched before", "ns", 5,
                     {{"cadre",
                       [&] {
                         kept.clear();
                         kept.reserve(million);
                         return ns_per_call(million, [&](std::size_t) { kept.push_back(store.put(std::span(value))); });
                       },
                       benchmark::at_most(250)},
                      {"memcpy of 1 KiB, to a million places",
                       [&] {
                         return ns_per_call(million, [&](std::size_t i) {
                           std::memcpy(copies.data() + i * size, value.data(), size);
                           use(copies.data());
                         });
                       }},
                      {"Boost.Interprocess: allocate, copy",
                       [&] {
                         const double ns = ns_per_call(million, [&](std::size_t i) {
                           blocks[i] = with.boost->allocate(size);
                           std::memcpy(blocks[i], value.data(), size);
                         });
                         for (void* const b : blocks) with.boost->deallocate(b);
                         return ns;
                       },
                       benchmark::at_most(1)},
                      {"LMDB, 300,000 in one transaction", [&] {
                         return ns_each(in_lmdb, [&] {
                           with.lmdb.in_transaction([&](MDB_txn* t) {
                             for (const std::string& name : names) with.lmdb.put(t, name, value);
                           });
                         });
                       }}});
}

void get_random(cadre::object_store& store, peers& with, std::vector<bytes_ref>& kept) {
  std::mt19937 random(1);
  std::ranges::shuffle(kept, random);  // so that a walk through the refs meets the objects in no order
  struct alignas(64) entry {
    std::atomic<std::uint64_t> word;
  };
  struct places {
    std::vector<entry> entries = std::vector<entry>(million);
    std::vector<std::atomic<std::uint64_t>> counts = std::vector<std::atomic<std::uint64_t>>(million);
    std::vector<std::uint32_t> order;
  };
  const auto floor = std::make_unique<places>();
  for (std::uint32_t i = 0; i < million; ++i) floor->order.push_back(i);
  std::ranges::shuffle(floor->order, random);
  std::vector<std::string> names = keys(in_lmdb);
  std::ranges::shuffle(names, random);
  std::size_t next = 0;
  benchmark::measure("get and release, random among a million of 1 KiB", "ns", 11,
                     {{"cadre",
                       [&] {
                         return ns_per_call(million, [&](std::size_t i) {
                           const cadre::view<bytes> v = store.get(kept[i]);
                           use(v.bytes().data());
                         });
                       },
                       benchmark::at_most(60)},
                      {"two fetch_add to one of a million counts, a read of one of a million entries",
                       [&] {
                         return ns_per_call(million, [&](std::size_t i) {
                           const std::uint32_t k = floor->order[i];
                           floor->counts[k].fetch_add(1);
                           use(floor->entries[k].word.load());
                           floor->counts[k].fetch_sub(1);
                         });
                       }},
                      {"LMDB get, among 300,000", [&] {
                         return ns_per_call(100'000, [&](std::size_t) { with.lmdb.get(names[next++ % in_lmdb]); });
                       }}});
}

void get_by_name(peers& with) {
  constexpr std::size_t n = 10'000, calls = 100'000;
  cadre::object_store store = cadre::object_store::open({.capacity = 64 * mib});
  std::vector<std::string> names = keys(n);
  for (const std::string& name : names) {
    store.put(std::span(value), {.name = name});
    with.boost->construct<block>(name.c_str())(value);
  }
  std::ranges::shuffle(names, std::mt19937(2));
  benchmark::measure(
      "find by name among 10,000, get and release", "ns", 11,
      {{"cadre",
        [&] {
          return ns_per_call(calls, [&](std::size_t i) {
            const bytes_ref ref = *store.find<bytes>(names[i % n]);
            const cadre::view<bytes> v = store.get(ref);
            use(v.bytes().data());
          });
        },
        benchmark::at_most(200)},
       {"Boost.Interprocess: find",
        [&] {
          return ns_per_call(calls, [&](std::size_t i) { use(with.boost->find<block>(names[i % n].c_str()).first); });
        },
        benchmark::at_most(1)},
       {"LMDB get", [&] { return ns_per_call(calls, [&](std::size_t i) { with.lmdb.get(names[i % n]); }); }}});
}

}  // namespace

int main() {
  // Four times what is put: a quarter of the memory is kept when it is free again.
  cadre::object_store store = cadre::object_store::open({.capacity = 6 * gib});
  peers with;
  std::vector<bytes_ref> kept;
  benchmark::print_head();
  put_hot(store, with);
  put_cold(store, with, kept);
  get_random(store, with, kept);
  get_by_name(with);
}
