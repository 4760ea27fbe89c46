#include "kill.hpp"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <optional>
#include <thread>

namespace fork_test {

using namespace store_kill;

/// Children that were forked at some instant, which live on and do nothing.
class children {
  static constexpr std::size_t most = 100;
  struct board {
    std::atomic<std::uint32_t> places, n;
    std::array<std::atomic<::pid_t>, most> ids;
  };

 public:
  ~children() {
    for (const std::atomic<::pid_t>& id : board_->ids)
      if (id > 0) ::kill(id, SIGKILL);
  }
  [[nodiscard]] std::uint32_t count() const { return board_->n; }
  [[nodiscard]] bool all_live() const {
    return std::all_of(board_->ids.begin(), board_->ids.end(),
                       [](const std::atomic<::pid_t>& id) { return id == 0 || ::kill(id, 0) == 0; });
  }
  /// A child counts from when fork() has returned in it.
  void fork_one() const {
    if (::fork() != 0) return;
    board_->ids[board_->places++] = ::getpid();
    ++board_->n;
    ::alarm(60);
    for (;;) ::pause();
  }

 private:
  shared<board> board_;
};

// For a handler of signals: what forks, and whether the process then stays where it is until it is killed.
inline const children* forks = nullptr;
inline bool stays = false;

inline void fork_here(int) {
  forks->fork_one();
  while (stays) ::pause();
}

/// Slots that a process has locked, though no store is left but one of this process.
int locked_slots() {
  const cadre::detail::arena memory = memory_once_more();
  int n = 0;
  for (std::uint32_t s = 0; s < cadre::detail::most_processes; ++s)
    n += cadre::is_byte_locked_by_other(memory.file(), memory.lock_byte(s));
  return n;
}

}  // namespace fork_test

TEST_CASE("A child that is forked while its parent opens, uses or closes a store is not taken for its parent",
          "[store_kill]") {
  using namespace fork_test;
  for (const store_step step : {store_step::slot_locked, store_step::slot_taken, store_step::entry_taken,
                                store_step::sealed, store_step::slot_void, store_step::slot_free})
    for (const bool dies_there : {true, false}) {
      INFO("step " << static_cast<int>(step) << (dies_there ? ", where the parent dies" : ", after which it goes on"));
      const std::string name = store_name("fork");
      cadre::object_store store = open(name);
      const std::uint64_t used = store.stats().used;
      const children all;
      const shared<std::atomic<bool>> done;
      process parent([&] {
        forks = &all, stays = dies_there;
        std::signal(SIGUSR1, fork_here);
        arm(step, 1, SIGUSR1);
        std::optional<cadre::object_store> mine(open(name));
        std::optional<numbers_ref> ref(mine->put(pattern(1, 1000)));
        if (step == store_step::slot_void || step == store_step::slot_free) {
          ref.reset();
          mine.reset();
        }
        *done = true;
        for (;;) ::pause();
      });
      REQUIRE(eventually([&] { return all.count() == 1 && (dies_there || *done); }));
      parent.kill();
      CHECK(store.stats().processes == 1);
      CHECK(store.stats().used == used);
      CHECK(locked_slots() == 1);
      const auto begin = steady::now();
      CHECK_NOTHROW(open(name));
      CHECK(steady::now() - begin < soon);
      CHECK(all.all_live());
    }
}

TEST_CASE("Children that one thread forks all the time while another opens and closes stores keep nothing of them",
          "[store_kill]") {
  using namespace fork_test;
  const std::string name = store_name("fork");
  cadre::object_store store = open(name);
  const std::uint64_t used = store.stats().used;
  const children all;
  const shared<std::atomic<bool>> ready;
  process parent([&] {
    std::atomic<bool> enough = false;
    std::thread forker([&] {
      for (int k = 0; k < 100; ++k) all.fork_one();
      enough = true;
    });
    while (!enough) {
      cadre::object_store mine = open(name);
      const numbers_ref ref = mine.put(pattern(1, 1000));
    }
    forker.join();
    const cadre::object_store mine = open(name);
    *ready = true;
    for (;;) ::pause();
  });
  REQUIRE(eventually([&] { return ready->load() || parent.has_ended(); }));
  REQUIRE(eventually([&] { return all.count() == 100; }));
  CHECK(store.stats().processes == 2);
  CHECK(locked_slots() == 2);
  parent.kill();
  CHECK(store.stats().processes == 1);
  CHECK(store.stats().used == used);
  CHECK(locked_slots() == 1);
  CHECK(all.all_live());
}
