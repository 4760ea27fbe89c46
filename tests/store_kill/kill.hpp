#ifndef CADRE_TESTS_STORE_KILL_KILL_HPP
#define CADRE_TESTS_STORE_KILL_KILL_HPP

// The store with a trap behind each of its steps. Included first, by every file of this folder.

#include "catch.hpp"

#include <signal.h>
#include <unistd.h>

namespace store_kill {

/// What ends or stops this process: its `passage`-th time behind a step.
struct trap {
  int step = -1;
  int passage = 0;
  int signal = SIGKILL;
};
inline trap armed;

inline void passed(int step) noexcept {
  if (step == armed.step && --armed.passage == 0) ::kill(::getpid(), armed.signal);
}

}  // namespace store_kill

#define CADRE_STORE_STEP(step) ::store_kill::passed(static_cast<int>(store_step::step))

#include "store/processes.hpp"

#include <cadre/store.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace store_kill {

using namespace test_store;
using cadre::detail::store_step;
using numbers_ref = cadre::object_ref<numbers>;

inline void arm(store_step step, int passage, int signal = SIGKILL) {
  armed = {static_cast<int>(step), passage, signal};
}

constexpr std::uint64_t capacity = 32 << 20;
inline cadre::object_store open(const std::string& name, std::chrono::nanoseconds put_timeout = soon) {
  return cadre::object_store::open(
      {.name = name, .capacity = capacity, .max_objects = 4096, .put_timeout = put_timeout});
}

/// A process that works on the store all the time, looks at what it keeps and at what victims have put, and fails if
/// anything takes longer than it may. It can be asked to be quiet, and then holds the same always.
class survivor {
  struct board {
    std::atomic<bool> ready, stop, be_quiet, quiet;
    std::atomic<std::uint64_t> rounds;
  };

 public:
  explicit survivor(const std::string& name) : process_([this, name] { run(name); }, 600) {
    if (!eventually([this] { return board_->ready.load() || process_.has_ended(); }) || process_.has_ended())
      throw std::runtime_error("the survivor: " + process_.end());
  }
  [[nodiscard]] bool quiet() {
    board_->be_quiet = true;
    return eventually([this] { return board_->quiet.load() || process_.has_ended(); }, soon) && board_->quiet;
  }
  [[nodiscard]] bool go_on() {
    const std::uint64_t before = board_->rounds;
    board_->be_quiet = false;
    return eventually([&] { return board_->rounds != before || process_.has_ended(); }, soon) &&
           board_->rounds != before;
  }
  [[nodiscard]] ::pid_t id() const { return process_.id(); }
  /// Why it has failed, if it has.
  std::string end() {
    board_->stop = true;
    return process_.end();
  }

 private:
  void run(const std::string& name) {
    cadre::object_store store = open(name);
    std::vector<numbers_ref> kept;
    for (std::uint64_t k = 0; k < 20; ++k) kept.push_back(store.put(pattern(1000 + k, 1 + k * k * 60)));
    const cadre::view<numbers> pinned = store.get(kept[7]);
    board_->ready = true;
    for (std::uint64_t round = 0; !board_->stop; ++round) {
      if (board_->be_quiet) {
        board_->quiet = true;
        while (board_->be_quiet && !board_->stop) nap();
        board_->quiet = false;
      }
      const auto begin = steady::now();
      {
        const numbers_ref ref = store.put(pattern(round, 1 + round % 3000));
        check(is_whole(store.get(ref, soon), round), "what the survivor has just put is not whole");
        const std::uint64_t k = round % kept.size();
        const auto v = store.get(kept[k], soon);
        check((*v).size() == 1 + k * k * 60 && is_whole(v, 1000 + k), "what the survivor keeps is not whole");
        check(is_whole(pinned, 1007), "what the survivor looks at is not whole");
      }
      if (const auto found = store.find<numbers>("victim's")) {
        try {
          check(is_whole(store.get(*found, soon), 2), "what a victim has put under a name is not whole");
        } catch (const cadre::object_gone&) {  // its producer is dead, or somebody has erased it
        }
      }
      check(steady::now() - begin < soon, "the survivor was held up for longer than 2 s");
      ++board_->rounds;
    }
  }

  shared<board> board_;
  process process_;
};

/// The store as this process and a survivor have it, before and after somebody dies.
class scene {
 public:
  scene() : name_(store_name("kill")), store_(open(name_)), survivor_(name_) {
    for (std::uint64_t k = 0; k < 10; ++k) kept_.push_back(store_.put(pattern(k, 10 + 500 * k)));
    if (!survivor_.quiet()) throw std::runtime_error("the survivor: " + survivor_.end());
    before_ = store_.stats();
  }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] cadre::object_store& store() { return store_; }
  [[nodiscard]] survivor& other() { return survivor_; }

  /// The dead have left nothing, the living all that they held, and nobody waits. What names hold is erased first.
  void check_whole() {
    const auto begin = steady::now();
    const bool quiet = survivor_.quiet();
    INFO("the survivor: " << (quiet ? "" : survivor_.end()));
    REQUIRE(quiet);
    for (const char* name : {"victim's", "made"}) store_.erase(name);
    const cadre::store_stats now = store_.stats();
    CHECK(now.objects == before_.objects);
    CHECK(now.used == before_.used);
    CHECK(now.pinned == before_.pinned);
    CHECK(now.processes == 2);
    for (std::uint64_t k = 0; k < kept_.size(); ++k) CHECK(is_whole(store_.get(kept_[k], soon), k));
    CHECK(steady::now() - begin < 2 * soon);
  }
  /// Nearly all of the capacity can be had, and given back.
  void check_fill() {
    constexpr std::size_t piece = 512 << 10;
    REQUIRE(survivor_.quiet());
    const std::size_t n = (capacity - store_.stats().used) / piece - 2;
    {
      std::vector<cadre::object_writer<std::vector<std::byte>>> all;
      for (std::size_t k = 0; k < n; ++k) all.push_back(store_.create<std::byte>(piece));
      CHECK(store_.stats().used > capacity * 9 / 10);
    }
    CHECK(store_.stats().used == before_.used);
  }
  /// After all dropped what they hold nothing is left.
  void check_end() {
    const std::string failure = survivor_.end();
    CHECK(failure == "");
    kept_.clear();
    const cadre::store_stats now = store_.stats();
    CHECK(now.used == 0);
    CHECK(now.objects == 0);
    CHECK(now.processes == 1);
    CHECK(now.largest_free == capacity);
  }

 private:
  std::string name_;
  cadre::object_store store_;
  survivor survivor_;
  std::vector<numbers_ref> kept_;
  cadre::store_stats before_;
};

}  // namespace store_kill

#endif
