#ifndef CADRE_BENCHMARKS_STORE_PEERS_HPP
#define CADRE_BENCHMARKS_STORE_PEERS_HPP

#include "child.hpp"
#include "harness.hpp"

#include <cadre/os/mapping.hpp>
#include <cadre/store.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <future>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

/// What the programs store_*.cpp have in common. Those that measure several processes start themselves anew with a part
/// to play, as benchmark::child asks.
namespace store_peers {

using namespace std::chrono_literals;
using bytes = std::vector<std::byte>;
using bytes_ref = cadre::object_ref<bytes>;

inline constexpr std::size_t kib = 1024, mib = 1024 * kib, gib = 1024 * mib, page = 4096;

/// The value must be computed.
template <class T>
void use(const T& value) {
  asm volatile("" ::"r,m"(value) : "memory");
}
/// The byte must be read.
inline void read_byte(const std::byte& b) {
  [[maybe_unused]] const std::byte read = static_cast<const volatile std::byte&>(b);
}

/// Nanoseconds for each of n things that f does.
template <class F>
double ns_each(std::size_t n, F&& f) {
  const double start = benchmark::seconds();
  f();
  return (benchmark::seconds() - start) * 1e9 / static_cast<double>(n);
}
/// n calls of f(i).
template <class F>
double ns_per_call(std::size_t n, F&& f) {
  return ns_each(n, [&] {
    for (std::size_t i = 0; i < n; ++i) f(i);
  });
}

inline void require(bool right, const std::string& what) {
  if (!right) throw std::runtime_error(what + " is not what it should be");
}

/// Plain memory that has been touched, in huge pages where there are any: the best that a copy can be made to and from.
class warm_memory {
 public:
  explicit warm_memory(std::size_t n) : map_(cadre::mapping::anonymous(n)) {
    ::madvise(map_.data(), n, MADV_HUGEPAGE);
    std::memset(map_.data(), 1, n);
  }
  [[nodiscard]] std::span<std::byte> all() const { return {map_.data(), map_.size()}; }
  [[nodiscard]] std::byte* data() const { return map_.data(); }

 private:
  cadre::mapping map_;
};

/// Memory that processes share beside any store: others open it by path().
class shared_memory {
 public:
  explicit shared_memory(std::size_t n)
      : file_(::memfd_create("benchmark", MFD_CLOEXEC)),
        map_((require(::ftruncate(file_.get(), static_cast<off_t>(n)) == 0, "a file in memory"),
              cadre::mapping::shared(file_, n))) {}
  shared_memory(const std::string& path, std::size_t n)
      : file_(::open(path.c_str(), O_RDWR | O_CLOEXEC)), map_(cadre::mapping::shared(file_, n)) {}

  [[nodiscard]] std::string path() const {
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(file_.get());
  }
  template <class T>
  [[nodiscard]] T& as() const {
    return *reinterpret_cast<T*>(map_.data());
  }

 private:
  cadre::file_descriptor file_;
  cadre::mapping map_;
};

/// A store that the processes of this benchmark share.
inline std::string store_name() { return "benchmark-" + std::to_string(::getpid()); }

/// So much of an empty store's memory has been touched afterwards.
inline void warm(cadre::object_store& store, std::size_t n) {
  auto all = store.create<std::byte>(n);
  std::memset(all.span().data(), 1, n);
  std::move(all).abort();
}

/// This program in a process of its own, which plays the part that is named.
inline std::shared_ptr<benchmark::child> start(std::vector<std::string> part) {
  part.insert(part.begin(), "/proc/self/exe");
  return std::make_shared<benchmark::child>(std::move(part), 60s);
}

/// What a part does: it says that it is ready, then answers each line by the figure of a round.
template <class Round>
int play(const char* part, Round&& round) {
  std::puts(part);
  std::fflush(stdout);
  for (int c = 0; (c = std::getchar()) != EOF;)
    if (c == '\n') {
      std::printf("%.9g\n", round());
      std::fflush(stdout);
    }
  return 0;
}

/// A round of several processes at once: their figures.
inline std::vector<double> round_of(const std::vector<std::shared_ptr<benchmark::child>>& all) {
  std::vector<std::future<double>> asked;
  for (const auto& one : all) asked.push_back(std::async(std::launch::async, [one] { return one->round(); }));
  std::vector<double> figures;
  for (auto& answer : asked) figures.push_back(answer.get());
  return figures;
}

/// Adds a peer in a process of its own; where its Debian package is not installed, a line says so.
inline void add_if_there(std::vector<benchmark::contender>& all, const std::string& package,
                         std::vector<std::string> command, benchmark::target goal = {}) {
  try {
    all.push_back(benchmark::in_child(std::move(command), 60s, goal));
  } catch (const std::exception& missing) {
    std::fprintf(stderr, "skipped, is %s installed? %s\n", package.c_str(), missing.what());
  }
}

/// Contenders that are all ours take turns; each gets a row of its own, with its own target.
inline void measure_ours(const std::string& unit, int rounds, std::vector<benchmark::contender>& all) {
  benchmark::interleave(all, rounds);
  for (const benchmark::contender& c : all) benchmark::print(c.name, unit, {{"cadre", c.round, c.target, c.figures}});
}

}  // namespace store_peers

#endif
