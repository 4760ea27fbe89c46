#include "catch.hpp"
#include "in_child.hpp"
#include "talking_child.hpp"

#include <cadre/os/mapping.hpp>
#include <cadre/store/detail/rendezvous.hpp>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace rendezvous_test {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using cadre::file_descriptor;
using cadre::detail::rendezvous;
using clock = std::chrono::steady_clock;
using arena_id = std::array<std::uint64_t, 2>;
constexpr auto for_ever = clock::time_point::max();

/// A folder in which the folder of the rendezvous is made; others can pass through it.
class place {
 public:
  place() {
    std::string pattern = (fs::temp_directory_path() / "cadre-rendezvous-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
    fs::permissions(path_, fs::perms(0755));
  }
  place(const place&) = delete;
  place& operator=(const place&) = delete;
  ~place() { fs::remove_all(path_); }
  [[nodiscard]] std::string folder() const { return path_ / "run"; }
  [[nodiscard]] std::string operator/(const char* name) const { return path_ / name; }
  [[nodiscard]] std::vector<fs::path> records() const {
    return {fs::directory_iterator(folder()), fs::directory_iterator()};
  }

 private:
  fs::path path_;
};

/// Stands for an arena: a file in memory that begins with its id.
file_descriptor make_arena(arena_id id) {
  file_descriptor memory = cadre::make_memory_file("cadre-test", 4096);
  REQUIRE(::pwrite(memory.get(), id.data(), sizeof id, 0) == sizeof id);
  return memory;
}
arena_id id_of(const file_descriptor& memory) {
  arena_id id{};
  return ::pread(memory.get(), id.data(), sizeof id, 0) == sizeof id ? id : arena_id{};
}

/// What a store does: the arena of that name, found or made. This process has joined it.
struct opened {
  file_descriptor memory;
  bool made = false;
};
opened open_store(const std::string& name, const std::string& folder) {
  rendezvous r(name, for_ever, folder);
  auto found = r.open_existing([&](const file_descriptor& f) { return id_of(f) == r.id(); });
  opened result{found ? std::move(*found) : file_descriptor{}, !found};
  if (result.made) {
    r.start_new(rendezvous::random_id());
    result.memory = make_arena(r.id());
  }
  r.join(::getpid(), result.memory.get());
  return result;
}
void close_store(const std::string& name, const std::string& folder, const opened& store) {
  rendezvous(name, for_ever, folder).leave(::getpid(), store.memory.get());
}

using child = talking_child<arena_id>;

/// A process that opens the store and keeps it until it is told to leave or is killed.
auto user_of(const std::string& name, const std::string& folder) {
  return [=](auto tell, auto wait_for_word) {
    const opened store = open_store(name, folder);
    tell(id_of(store.memory));
    wait_for_word();
    close_store(name, folder, store);
    tell({});
    for (;;) ::pause();
  };
}

/// From now on this process gets no descriptor of a file. (A limit of 0 would also confuse UBSan, which opens pipes.)
bool refuse_to_open() {
  ::sock_filter rules[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(::seccomp_data, nr)),
                           BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
                           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EMFILE),
                           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const ::sock_fprog program{4, rules};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

}  // namespace rendezvous_test

TEST_CASE("A second process finds the memory of the first, a third that of the second when the first was killed",
          "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  child first(user_of("job", p.folder()));
  const arena_id id = first.heard().value();
  CHECK(id != arena_id{});
  child second(user_of("job", p.folder()));
  CHECK(second.heard() == id);
  child elsewhere(user_of("another job", p.folder()));
  CHECK(elsewhere.heard() != id);
  first.kill();
  const opened third = open_store("job", p.folder());
  CHECK_FALSE(third.made);
  CHECK(id_of(third.memory) == id);
  CHECK(rendezvous("job", for_ever, p.folder()).members().size() == 2);
  close_store("job", p.folder(), third);
}

TEST_CASE("When all processes of a store were killed, the next one begins a new arena", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  arena_id before{};
  {
    child first(user_of("job", p.folder())), second(user_of("job", p.folder()));
    before = first.heard().value();
    CHECK(second.heard() == before);
  }
  const opened next = open_store("job", p.folder());
  CHECK(next.made);
  CHECK(id_of(next.memory) != before);
  child other(user_of("job", p.folder()));
  CHECK(other.heard() == id_of(next.memory));
}

TEST_CASE("The record goes with the last process that leaves, also after others were killed", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  child killed(user_of("job", p.folder())), last(user_of("job", p.folder()));
  REQUIRE(killed.heard());
  REQUIRE(last.heard());
  CHECK(p.records().size() == 1);
  killed.kill();
  REQUIRE(last.tell());
  REQUIRE(last.heard());
  CHECK(p.records().empty());
  { const rendezvous nobody_joins("job", for_ever, p.folder()); }
  CHECK(p.records().empty());
}

TEST_CASE("A member whose number now belongs to another process or file is struck out", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  const file_descriptor foreign = make_arena(rendezvous::random_id());
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  const child other([](auto, auto) {});
  {
    rendezvous r("job", for_ever, p.folder());
    r.start_new(rendezvous::random_id());
    r.join(other.id(), foreign.get());  // inherited: a file in memory, but of another arena
    r.join(other.id(), pipe[0]);        // never opened, so accept is not asked
    r.join(other.id(), 1000);
    r.join(::getpid(), foreign.get());
  }
  {
    rendezvous r("job", for_ever, p.folder());
    CHECK(r.members().size() == 4);
    int asked = 0;
    CHECK_FALSE(r.open_existing([&](const file_descriptor& f) {
      ++asked;
      return id_of(f) == r.id();
    }));
    CHECK(asked == 2);
    CHECK(r.members().empty());
  }
  CHECK(p.records().empty());
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST_CASE("What says no by an exception, or a process without descriptors, strikes nobody out", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  child user(user_of("job", p.folder()));
  const arena_id id = user.heard().value();
  {
    rendezvous r("job", for_ever, p.folder());
    CHECK_THROWS_AS(r.open_existing([](const file_descriptor&) -> bool { throw std::logic_error("no"); }),
                    std::logic_error);
  }
  CHECK(in_child([&] {
          rendezvous r("job", for_ever, p.folder());
          if (!refuse_to_open()) return 3;
          try {
            static_cast<void>(r.open_existing([](const file_descriptor&) { return true; }));
          } catch (const cadre::store_unreachable& e) {
            return r.members().size() == 1 && std::string(e.what()).find("Too many open files") != std::string::npos
                       ? 0
                       : 1;
          }
          return 2;
        }) == 0);
  const opened store = open_store("job", p.folder());
  CHECK(id_of(store.memory) == id);
}

TEST_CASE("A torn record leaves the list before it, and one torn twice is an empty one", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  child user(user_of("job", p.folder()));  // the first write
  const arena_id id = user.heard().value();
  const opened own = open_store("job", p.folder());  // the second
  REQUIRE(p.records().size() == 1);
  const auto damage = [&](std::streamoff at) {
    std::fstream file(p.records()[0], std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at);
    file.put('!');
    REQUIRE(file);
  };
  damage(20);
  {
    rendezvous r("job", for_ever, p.folder());
    REQUIRE(r.members().size() == 1);
    CHECK(r.members()[0].pid == user.id());
    CHECK(r.id() == id);
    r.join(::getpid(), own.memory.get());  // over the torn one
  }
  CHECK(rendezvous("job", for_ever, p.folder()).members().size() == 2);
  damage(20);
  damage((64 << 10) + 20);
  const opened next = open_store("job", p.folder());
  CHECK(next.made);
  fs::resize_file(p.records()[0], 10);
  CHECK(rendezvous("job", for_ever, p.folder()).members().empty());
}

TEST_CASE("Processes killed while they change the record leave a list in which the others are found", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  child user(user_of("job", p.folder()));
  const arena_id id = user.heard().value();
  for (int round = 0; round < 60; ++round) {
    child coming_and_going([&](auto tell, auto) {
      for (int i = 0;; ++i) {
        const opened store = open_store("job", p.folder());
        if (store.made) ::_exit(1);
        close_store("job", p.folder(), store);
        if (i == round % 7) tell({1, 1});
      }
    });
    REQUIRE(coming_and_going.heard() == arena_id{1, 1});
    coming_and_going.kill();
    rendezvous r("job", for_ever, p.folder());
    const auto found = r.open_existing([&](const file_descriptor& f) { return id_of(f) == r.id(); });
    REQUIRE(found);
    REQUIRE(id_of(*found) == id);
  }
  REQUIRE(user.tell());
  REQUIRE(user.heard());
  CHECK(p.records().empty());
}

TEST_CASE("Of two processes that open a store at the same time one makes the arena, 200 times", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  struct meeting {
    std::atomic<int> arrived;
    std::array<arena_id, 2> ids;
    std::array<bool, 2> made;
  };
  void* const memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto& shared = *new (memory) meeting{};
  const auto meet = [&](int count) {
    ++shared.arrived;
    while (shared.arrived < count) ::sched_yield();
  };
  const auto racer = [&](std::size_t who) {
    return [&, who](auto tell, auto) {
      bool agreed = true;
      for (int round = 0; round < 200; ++round) {
        meet(6 * round + 2);
        const opened store = open_store("job", p.folder());
        shared.ids[who] = id_of(store.memory);
        shared.made[who] = store.made;
        meet(6 * round + 4);
        agreed = agreed && shared.ids[0] == shared.ids[1] && shared.made[0] != shared.made[1];
        meet(6 * round + 6);
        close_store("job", p.folder(), store);  // both at once, and then open it both at once
      }
      tell({agreed, 0});
    };
  };
  {
    child one(racer(0)), other(racer(1));
    CHECK(one.heard().value()[0] == 1);
    CHECK(other.heard().value()[0] == 1);
  }
  CHECK(p.records().empty());
  ::munmap(memory, 4096);
}

TEST_CASE("While a process holds the record no other does, also when each removes it at the end", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  void* const memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto& inside = *new (memory) std::atomic<int>(0);
  const auto body = [&](auto tell, auto) {
    bool alone = true;
    for (int round = 0; round < 1000; ++round) {
      const rendezvous r("job", for_ever, p.folder());
      alone = ++inside == 1 && alone;
      ::sched_yield();
      --inside;
    }
    tell({alone, 0});
  };
  {
    child one(body), two(body), three(body);
    CHECK(one.heard().value()[0] == 1);
    CHECK(two.heard().value()[0] == 1);
    CHECK(three.heard().value()[0] == 1);
  }
  CHECK(p.records().empty());
  ::munmap(memory, 4096);
}

TEST_CASE("A record that another process holds is waited for until the deadline", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  child holder([&](auto tell, auto) {
    const rendezvous r("job", for_ever, p.folder());
    tell({});
    for (;;) ::pause();
  });
  REQUIRE(holder.heard());
  CHECK_THROWS_WITH(
      rendezvous("job", clock::now() + 20ms, p.folder()),
      ContainsSubstring("[cadre.store.309] cannot reach the other processes of store 'job' through '" + p.folder()) &&
          ContainsSubstring("another process has held it until the deadline"));
  { const rendezvous another("job 2", clock::now(), p.folder()); }
  holder.kill();
  { const rendezvous now("job", clock::now(), p.folder()); }
}

TEST_CASE("A process forked while the record is held does not hold it", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  auto r = std::make_unique<rendezvous>("job", for_ever, p.folder());
  r->start_new(rendezvous::random_id());
  r->join(::getpid(), 0);
  const child fork([](auto, auto) {});
  r.reset();
  { const rendezvous again("job", clock::now(), p.folder()); }
}

TEST_CASE("The name of a store has 1 to 200 bytes without slash and NUL", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  const auto refused = [&](std::string_view name, const std::string& why) {
    CHECK_THROWS_WITH(rendezvous(name, for_ever, p.folder()), ContainsSubstring("[cadre.store.308] the name '") &&
                                                                  ContainsSubstring(why + "; give it 1 to 200 bytes"));
    CHECK_THROWS_AS(rendezvous(name, for_ever, p.folder()), cadre::bad_store_option);
  };
  refused("", "is empty");
  refused(std::string(201, 'x'), "is too long");
  refused("a/b", "has a slash in it");
  refused(std::string_view("a\0b", 3), "has a NUL in it");
  CHECK_FALSE(fs::exists(p.folder()));
  for (const std::string& name : {std::string(200, 'x'), std::string(".."), std::string("\xff \n")}) {
    const opened store = open_store(name, p.folder());
    CHECK(store.made);
    CHECK_FALSE(open_store(name, p.folder()).made);
    close_store(name, p.folder(), store);
  }
}

TEST_CASE("A folder that is a link, a file or open to others is refused", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  const auto refused = [&](const std::string& folder, const std::string& why) {
    CHECK_THROWS_WITH(rendezvous("job", for_ever, folder),
                      ContainsSubstring("[cadre.store.309] cannot reach the other processes of store 'job' through '" +
                                        folder + "': " + why));
  };
  fs::create_directory(p / "real");
  fs::permissions(p / "real", fs::perms(0700));
  fs::create_symlink(p / "real", p / "link");
  refused(p / "link", "it is a link or a file, not a folder; remove it");
  std::ofstream(p / "file") << "x";
  refused(p / "file", "it is a link or a file, not a folder; remove it");
  for (const unsigned mode : {0777u, 0710u, 0701u}) {
    fs::permissions(p / "real", fs::perms(mode));
    refused(p / "real", "the folder is open to other users; close it (chmod 700)");
  }
  refused(p / "no/such", "mkdir failed, No such file or directory");
  CHECK(fs::is_empty(p / "real"));
}

TEST_CASE("A record that is a link is not followed", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  const opened store = open_store("job", p.folder());
  const fs::path record = p.records().at(0);
  fs::rename(record, p / "elsewhere");
  fs::create_symlink(p / "elsewhere", record);
  CHECK_THROWS_WITH(rendezvous("job", for_ever, p.folder()),
                    ContainsSubstring("[cadre.store.309]") && ContainsSubstring("Too many levels of symbolic links"));
}

TEST_CASE("The folder lies in XDG_RUNTIME_DIR where that is the user's own", "[rendezvous]") {
  using namespace rendezvous_test;
  place p;
  fs::create_directory(p / "runtime");
  fs::permissions(p / "runtime", fs::perms(0700));
  const auto found_in_runtime = [&] {
    return in_child([&] {
      ::setenv("XDG_RUNTIME_DIR", (p / "runtime").c_str(), 1);
      const std::string name = "cadre-test-" + std::to_string(::getpid());
      const rendezvous r(name, clock::now() + 10s);
      const fs::path folder = p / "runtime/cadre";
      return fs::exists(folder) && !fs::is_empty(folder) ? 0 : 1;
    });
  };
  CHECK(found_in_runtime() == 0);
  CHECK(fs::status(p / "runtime/cadre").permissions() == fs::perms(0700));
  fs::permissions(p / "runtime", fs::perms(0777));  // anybody could have put a folder there
  CHECK(found_in_runtime() == 1);
}

TEST_CASE("Another user reaches neither the memory nor the folder", "[root]") {
  using namespace rendezvous_test;
  if (::geteuid() != 0) {
    WARN("skipped: needs the right to become another user");
    return;
  }
  place p;
  const opened store = open_store("job", p.folder());
  const std::string path = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(store.memory.get());
  CHECK(in_child([&] {
          if (::setgid(65534) != 0 || ::setuid(65534) != 0) return 3;
          if (::open(path.c_str(), O_RDONLY) >= 0 || errno != EACCES) return 1;
          if (::open(p.folder().c_str(), O_RDONLY) >= 0 || errno != EACCES) return 2;
          try {
            const rendezvous r("job", for_ever, p.folder());
          } catch (const cadre::store_unreachable& e) {
            return std::string(e.what()).find("Permission denied") != std::string::npos ? 0 : 4;
          }
          return 5;
        }) == 0);
  // A folder that somebody else has put where that of this user would be.
  REQUIRE(::chown(p.folder().c_str(), 65534, 65534) == 0);
  CHECK_THROWS_WITH(rendezvous("job", for_ever, p.folder()),
                    ContainsSubstring("the folder belongs to user 65534, not to 0; remove it"));
}
