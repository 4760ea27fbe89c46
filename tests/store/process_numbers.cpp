#include "catch.hpp"
#include "in_child.hpp"
#include "store/processes.hpp"
#include "text_of.hpp"

#include <cadre/store.hpp>

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>

// Numbers of processes are given out again. Here by order: in a namespace of their own, whose next number can be chosen.

namespace process_numbers_test {

using namespace test_store;
using cadre::object_store;
using numbers_ref = cadre::object_ref<numbers>;
constexpr ::pid_t number = 1000;

object_store open(const std::string& name) {
  return object_store::open({.name = name, .capacity = 16 << 20, .max_objects = 512, .put_timeout = soon});
}

/// Runs `body` as the first process of a namespace; how it ended, or "ended with 77" if there can be none.
template <class Body>
std::string in_own_namespace(Body body) {
  process outside([&] {
    if (::geteuid() != 0 || !own_mounts() || ::unshare(CLONE_NEWPID) != 0) ::_exit(77);
    process first([&] {
      if (::mount("proc", "/proc", "proc", 0, nullptr) != 0) ::_exit(77);
      if (::access("/proc/sys/kernel/ns_last_pid", W_OK) != 0) ::_exit(77);
      body();
    });
    const std::string end = first.end();
    if (end == "ended with 77") ::_exit(77);
    check(end.empty(), end);
  });
  return outside.end();
}

/// A process with that number, which runs `body(board)`, waits to be told, and then runs what that returned.
class numbered {
 public:
  struct board {
    std::atomic<bool> ready, go;
    std::atomic<int> descriptor;
    void wait() {
      ready = true;
      while (!go) nap();
    }
  };
  template <class Body>
  explicit numbered(Body body) : process_((choose(), [this, body] { body(*board_); })) {
    check(process_.id() == number, "the number was not given out again");
    if (!eventually([this] { return board_->ready.load() || process_.has_ended(); }) || process_.has_ended())
      throw std::runtime_error("the process with the number: " + process_.end());
  }
  [[nodiscard]] int descriptor() const { return board_->descriptor; }
  void kill() { process_.kill(); }
  std::string end() {
    board_->go = true;
    return process_.end();
  }

 private:
  static void choose() { std::ofstream("/proc/sys/kernel/ns_last_pid") << number - 1; }
  shared<board> board_;
  process process_;
};

bool is_memory(int descriptor) {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(descriptor), ignored)
             .string()
             .find("memfd:cadre-store") != std::string::npos;
}
/// Of the only store that this process has open.
int memory_descriptor() {
  for (int fd = 0; fd < 1000; ++fd)
    if (is_memory(fd)) return fd;
  throw std::runtime_error("no store is open");
}

void check_end(const std::string& end) {
  if (end == "ended with 77")
    WARN("skipped: needs the right to choose the numbers of processes");
  else
    CHECK(end == "");
}

}  // namespace process_numbers_test

TEST_CASE("What a process held is taken when it has died, and nothing of a living one that has its number", "[root]") {
  using namespace process_numbers_test;
  const std::string name = store_name("numbers");
  check_end(in_own_namespace([&] {
    object_store store = open(name);
    const numbers_ref kept = store.put(pattern(1, 1000));
    const std::uint64_t used = store.stats().used;
    numbered dead([&](auto& board) {
      object_store mine = open(name);
      const numbers_ref ref = mine.put(pattern(2, 1000));
      const auto view = mine.get(ref);
      mine.put(pattern(3, 1000), {.name = "by name"});
      auto writer = mine.create<std::uint64_t>(1000, {.name = "never"});
      board.wait();
    });
    numbers_ref never = store.find<numbers>("never").value();
    dead.kill();
    // Nobody has looked for the dead yet.
    numbered living([&](auto& board) {
      object_store mine = open(name);
      numbers_ref ref = mine.put(pattern(4, 1000));
      const auto view = mine.get(ref);
      auto writer = mine.create<std::uint64_t>(1000, {.name = "later"});
      fill(writer.span(), 5);
      board.wait();
      check(is_whole(view, 4) && is_whole(mine.get(ref), 4), "what the living one held is not whole");
      check(mine.stats().processes == 2, "the living one does not count");
      static_cast<void>(std::move(writer).seal());
      std::_Exit(0);  // without giving anything back
    });
    check(store.sweep() == 1, "not one process was found dead");
    check(store.stats().processes == 2, "there are other processes than the living one and this one");
    const std::string text = text_of<cadre::object_gone>([&] { store.get(never, soon); });
    check(text.find("by process " + std::to_string(number) + " is lost: that process died") != text.npos, text);
    never = {};
    check(is_whole(store.get(store.find<numbers>("by name").value()), 3), "what the dead one had named is not whole");
    check(store.erase("by name"), "what the dead one had named is gone");
    check(store.stats().objects == 3, "the dead one left something, or the living one lost something");
    check(!store.wait(std::vector{store.find<numbers>("later").value()}, 0).pending.empty(),
          "what the living one writes has ended");
    check(living.end().empty(), living.end());
    check(is_whole(store.get(store.find<numbers>("later").value()), 5), "what the living one wrote is not whole");
    check(store.erase("later"), "what the living one wrote is gone");
    check(store.stats().used == used && store.stats().processes == 1, "the second one left something");
    check(is_whole(store.get(kept), 1), "what was kept is not whole");
  }));
}

TEST_CASE("A store is found by its name though its list names a dead process whose number another one has", "[root]") {
  using namespace process_numbers_test;
  const std::string name = store_name("numbers"), another_name = store_name("numbers");
  check_end(in_own_namespace([&] {
    for (const bool somebody_lives : {false, true}) {
      numbered dead([&](auto& board) {  // the first of the list
        object_store mine = open(name);
        mine.put(1, {.name = "of the dead one"});
        board.descriptor = memory_descriptor();
        board.wait();
      });
      std::optional<object_store> store;
      if (somebody_lives) {
        store.emplace(open(name));
        check(store->find<int>("of the dead one").has_value(), "a second store of the name was made");
        store->put(2, {.name = "of a living one"});
      }
      dead.kill();
      // What has the dead one's number and descriptor now is the memory of another store.
      numbered other([&](auto& board) {
        const object_store another = open(another_name);
        check(is_memory(dead.descriptor()), "the descriptor was not given out again");
        board.wait();
        object_store mine = open(name);  // whose list names this very process, if nobody else has struck that out
        check(mine.contains("of a living one") == somebody_lives, "another store was found");
        check(mine.contains("of the dead one") == somebody_lives, "of a store that has ended something was found");
        mine.put(3, {.name = "of its own"});
        process next([&] {
          object_store its = open(name);
          check(its.contains("of its own"), "it is not found by its name");
          check(its.contains("of a living one") == somebody_lives, "it is in another store");
        });
        const std::string end = next.end();
        check(end.empty(), end);
        check(mine.erase("of its own"), "it is gone");
      });
      if (somebody_lives) {
        process next([&] {
          object_store its = open(name);
          check(its.contains("of a living one") && its.contains("of the dead one"), "it is in another store");
        });
        const std::string end = next.end();
        check(end.empty(), end);
      }
      const std::string end = other.end();
      check(end.empty(), end);
      if (store) check(store->stats().processes == 1, "processes are left");
    }
  }));
}
