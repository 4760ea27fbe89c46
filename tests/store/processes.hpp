#ifndef CADRE_TESTS_STORE_PROCESSES_HPP
#define CADRE_TESTS_STORE_PROCESSES_HPP

// What tests with several processes need: forked children that say what failed, memory shared with them, and objects
// whose bytes say themselves whether they are whole.

#include <cadre/core/hash.hpp>
#include <cadre/store.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <filesystem>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace test_store {

using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;
constexpr auto soon = 2s;  // within which everything ends, whoever was killed

inline void check(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error(what);
}

inline void nap(std::chrono::nanoseconds time = 200us) {
  const ::timespec moment{0, time.count()};
  ::nanosleep(&moment, nullptr);
}
/// Whether it becomes true soon; for what another process does. Looks ever more seldom, lest eighty who wait leave nothing to
/// those they wait for.
template <class Condition>
bool eventually(Condition condition, steady::duration limit = 10s) {
  const auto end = steady::now() + limit;
  for (std::chrono::nanoseconds time = 200us; !condition(); time = std::min(2 * time, std::chrono::nanoseconds(5ms))) {
    if (steady::now() >= end) return condition();
    nap(time);
  }
  return true;
}

/// A T that the processes forked from here on see as well.
template <class T>
class shared {
 public:
  shared() {
    void* const memory = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    value_ = ::new (memory) T{};
  }
  shared(const shared&) = delete;
  shared& operator=(const shared&) = delete;
  ~shared() { ::munmap(value_, sizeof(T)); }
  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

 private:
  T* value_;
};

/// A forked child that runs `body` and ends. It is killed if it takes too long, and with its parent.
class process {
  struct text {
    char what[1000];
  };

 public:
  template <class Body>
  explicit process(Body body, unsigned seconds = 60) {
    id_ = ::fork();
    if (id_ < 0) throw std::runtime_error("fork failed");
    if (id_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::alarm(seconds);
    try {
      body();
      ::_exit(0);
    } catch (const std::exception& e) {
      std::strncpy(failure_->what, e.what(), sizeof failure_->what - 1);
    }
    ::_exit(1);
  }
  process(const process&) = delete;
  process& operator=(const process&) = delete;
  ~process() {
    if (id_ > 0 && !ended_) kill();
  }

  [[nodiscard]] ::pid_t id() const { return id_; }
  void signal(int number) const {
    if (!ended_) ::kill(id_, number);
  }
  /// SIGKILL; afterwards it is gone.
  void kill() {
    signal(SIGKILL);
    wait();
  }
  [[nodiscard]] bool has_ended() {
    if (!ended_ && ::waitpid(id_, &status_, WNOHANG) == id_) ended_ = true;
    return ended_;
  }
  /// Waits for its end. Empty if the body returned, else what it threw or what ended it.
  std::string end() {
    wait();
    if (WIFSIGNALED(status_)) return "ended by signal " + std::to_string(WTERMSIG(status_));
    if (WEXITSTATUS(status_) == 0) return "";
    return failure_->what[0] != 0 ? failure_->what : "ended with " + std::to_string(WEXITSTATUS(status_));
  }
  /// Whether a signal ended it, which was SIGKILL.
  [[nodiscard]] bool was_killed() {
    wait();
    return WIFSIGNALED(status_) && WTERMSIG(status_) == SIGKILL;
  }

 private:
  void wait() {
    if (!ended_) ::waitpid(id_, &status_, 0);
    ended_ = true;
  }

  shared<text> failure_;
  ::pid_t id_ = -1;
  int status_ = 0;
  bool ended_ = false;
};

// ---- Objects that know what they should hold

using numbers = std::vector<std::uint64_t>;
inline numbers pattern(std::uint64_t seed, std::size_t n) {
  numbers all(n);
  for (std::size_t i = 0; i < n; ++i) all[i] = i == 0 ? seed : cadre::hash_mix(seed + i);
  return all;
}
inline void fill(std::span<std::uint64_t> all, std::uint64_t seed) {
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i == 0 ? seed : cadre::hash_mix(seed + i);
}
inline bool is_whole(std::span<const std::uint64_t> all) {
  for (std::size_t i = 1; i < all.size(); ++i)
    if (all[i] != cadre::hash_mix(all[0] + i)) return false;
  return true;
}
inline bool is_whole(std::span<const std::uint64_t> all, std::uint64_t seed) {
  return !all.empty() && all[0] == seed && is_whole(all);
}
inline bool is_whole(const cadre::view<numbers>& v) { return is_whole(*v); }
inline bool is_whole(const cadre::view<numbers>& v, std::uint64_t seed) { return is_whole(*v, seed); }

/// The memory of the only store that this process has open, once more.
inline cadre::detail::arena memory_once_more() {
  for (const auto& fd : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;
    if (std::filesystem::read_symlink(fd, ignored).string().find("memfd:cadre-store") != std::string::npos)
      return cadre::detail::arena::open(cadre::file_descriptor(::open(fd.path().c_str(), O_RDWR | O_CLOEXEC)));
  }
  throw std::runtime_error("no store is open");
}

/// A name that no other test uses.
inline std::string store_name(const char* what) {
  static int count = 0;
  return "cadre-test-" + std::string(what) + "-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
}

}  // namespace test_store

#endif
