// Objects that move to disk and back, large and small, beside direct writes and reads of as much. The disk is the one on
// which this program lies.
#include "store_peers.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>

namespace {

using namespace store_peers;

constexpr std::size_t large = 100 * mib, piece = 64 * mib;

/// Removed with all that is in it.
class folder {
 public:
  folder() : path_(std::filesystem::read_symlink("/proc/self/exe").parent_path() / "store_spill.XXXXXX") {
    require(::mkdtemp(path_.data()) != nullptr, "a folder beside the program");
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  ~folder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

double mib_per_second(double seconds) { return static_cast<double>(large / mib) / seconds; }
ssize_t signed_of(std::size_t bytes) { return static_cast<ssize_t>(bytes); }
template <class F>
double rate(F&& f) {
  return mib_per_second(ns_each(1, f) * 1e-9);
}

/// In pieces of 64 MiB, as the store's are.
void raw_write(const std::string& path, const warm_memory& from) {
  const cadre::file_descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_DIRECT | O_CLOEXEC, 0600));
  for (std::size_t at = 0; at < large; at += piece) {
    const std::size_t bytes = std::min(piece, large - at);
    require(::pwrite(file.get(), from.data() + at, bytes, static_cast<off_t>(at)) == signed_of(bytes),
            "a direct write");
  }
}
double raw_write_new(const std::string& path, const warm_memory& from) {
  ::unlink(path.c_str());
  return rate([&] { raw_write(path, from); });
}
double raw_write_instead(const std::string& path, const warm_memory& from) {
  return rate([&] {
    ::unlink(path.c_str());
    raw_write(path, from);
  });
}
double raw_write_over(const std::string& path, const warm_memory& from) {
  return rate([&] { raw_write(path, from); });
}
double raw_read(const std::string& path, const warm_memory& to) {
  return rate([&] {
    const cadre::file_descriptor file(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    for (std::size_t at = 0; at < large; at += piece) {
      const std::size_t bytes = std::min(piece, large - at);
      require(::pread(file.get(), to.data() + at, bytes, static_cast<off_t>(at)) == signed_of(bytes), "a direct read");
    }
  });
}

bytes_ref filled(cadre::object_store& store) {
  auto w = store.create<std::byte>(large);
  std::memset(w.span().data(), 1, large);
  return std::move(w).seal();
}

/// There is room for three: the fourth, of which nothing is written here, moves the oldest to disk.
double spill(cadre::object_store& store) {
  const std::vector<bytes_ref> full{filled(store), filled(store), filled(store)};
  return rate([&] { store.create<std::byte>(large).abort(); });
}
/// One that is on disk, when there is room for it again.
double restore(cadre::object_store& store) {
  const bytes_ref oldest = filled(store);
  std::vector<bytes_ref> newer;
  for (int i = 0; i < 3; ++i) newer.push_back(filled(store));
  require(!store.try_get(oldest), "the object that was put first");
  newer.pop_back();
  return rate([&] {
    const cadre::view<bytes> v = store.get(oldest);
    read_byte(v.bytes()[0]);
  });
}

/// A store that is full of objects of 1 KiB, of which the oldest go when more are put: to disk, or (evictable) for good.
class full_store {
 public:
  static constexpr std::size_t puts = 50'000;

  explicit full_store(const std::string& spill_dir)
      : is_evictable_(spill_dir.empty()),
        store_(cadre::object_store::open({.capacity = 64 * mib, .spill_dir = spill_dir, .max_objects = 1 << 18})),
        refs_(2 * puts) {
    static_cast<void>(microseconds_of_put());
    static_cast<void>(microseconds_of_put());
  }
  double microseconds_of_put() {
    return 1e-3 * ns_per_call(puts, [&](std::size_t) {
             refs_[next_++ % refs_.size()] = store_.put(std::span(value_), {.evictable = is_evictable_});
           });
  }

 private:
  const std::array<std::byte, kib> value_{};
  bool is_evictable_;
  cadre::object_store store_;
  std::vector<bytes_ref> refs_;
  std::size_t next_ = 0;
};
/// As many blocks of 4 KiB, which is what an object of 1 KiB takes there.
double microseconds_of_block(const std::string& path, const warm_memory& from) {
  return 1e6 / (raw_write_over(path, from) * mib / 4096);
}

}  // namespace

int main() {
  const folder place;
  const warm_memory memory(large);
  cadre::object_store store =
      cadre::object_store::open({.capacity = 3 * large + 8 * mib, .spill_dir = place.path(), .max_objects = 512});
  const std::string file = place.path() + "/raw";
  benchmark::print_head();
  benchmark::measure(
      "spill of 100 MiB", "MiB/s", 9,
      {{"cadre", [&] { return spill(store); }},
       {"direct writes of a new file", [&] { return raw_write_new(file, memory); }, benchmark::at_least(0.8)},
       {"the same, and the one before is removed", [&] { return raw_write_instead(file, memory); }},
       {"direct writes over the file before", [&] { return raw_write_over(file, memory); }}});
  benchmark::measure("restore of 100 MiB", "MiB/s", 9,
                     {{"cadre", [&] { return restore(store); }},
                      {"direct reads", [&] { return raw_read(file, memory); }, benchmark::at_least(0.8)}});
  full_store drops(""), spills(place.path());
  benchmark::measure("put 1 KiB into a store that is full of such", "us", 5,
                     {{"cadre, the oldest are dropped", [&] { return drops.microseconds_of_put(); }},
                      {"cadre, the oldest go to disk", [&] { return spills.microseconds_of_put(); }},
                      {"direct writes, 4 KiB of 64 MiB", [&] { return microseconds_of_block(file, memory); }}});
}
