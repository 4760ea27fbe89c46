// Objects of 100 MiB that move to disk and back, beside direct writes and reads of as much. The disk is the one on which
// this program lies.
#include "store_peers.hpp"

#include <algorithm>
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
}
