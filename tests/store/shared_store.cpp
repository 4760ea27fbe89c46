#include "catch.hpp"
#include "store/processes.hpp"

#include <cadre/store.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace shared_store_test {

using namespace test_store;
using cadre::object_store;
using cadre::store_options;
using numbers_ref = cadre::object_ref<numbers>;

object_store open(const std::string& name) {
  return object_store::open({.name = name, .capacity = 32 << 20, .max_objects = 1024, .put_timeout = soon});
}

/// What `use` throws, as text, or "nothing".
template <class Use>
std::string error_of(Use use) {
  try {
    use();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "nothing";
}
template <class Use>
void check_throws(Use use, const std::string& what) {
  const std::string error = error_of(use);
  check(error.find(what) != error.npos, "expected " + what + ", got " + error);
}

/// The processes of a test that have come so far, and where they may go.
struct stage {
  std::atomic<int> arrived, go;
};
void await(const std::atomic<int>& count, int n) {
  check(eventually([&] { return count >= n; }), "others have not come");
}

/// Links to memory of stores among the descriptors of a process.
std::size_t open_memories(const std::string& process = "self") {
  std::size_t n = 0;
  std::error_code ignored;
  for (const auto& fd : std::filesystem::directory_iterator("/proc/" + process + "/fd", ignored))
    n += std::filesystem::read_symlink(fd, ignored).string().find("memfd:cadre-store") != std::string::npos;
  return n;
}

}  // namespace shared_store_test

TEST_CASE("What one process puts another gets by its name, the same bytes in the same place", "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  object_store store = open(name);
  const numbers_ref ref = store.put(pattern(7, 5000), {.name = "numbers"});
  store.put(std::string("text"), {.name = "text"});
  process other([&] {
    object_store mine = open(name);
    const auto found = mine.find<numbers>("numbers");
    check(found.has_value(), "it is not found");
    const auto view = mine.get(*found);
    check((*view).size() == 5000 && is_whole(view, 7), "it is not what was put");
    const auto text = mine.get(*mine.find<std::string>("text"));
    check(*text == "text", "the text is not what was put");
    check_throws([&] { static_cast<void>(mine.find<std::string>("numbers")); }, "[cadre.store.303]");
    check(!mine.find<numbers>("another"), "what nobody has put is found");
    mine.put(pattern(8, 300), {.name = "answer"});
    check_throws([&] { mine.put(1, {.name = "answer"}); }, "[cadre.store.304]");
  });
  CHECK(other.end() == "");
  const auto answer = store.find<numbers>("answer");
  REQUIRE(answer);
  const auto view = store.get(*answer);
  CHECK(is_whole(view, 8));
  CHECK((*view).size() == 300);
  CHECK(store.stats().objects == 3);
}

TEST_CASE("What a process views stays while another erases it, and ends with the last that holds it, wherever",
          "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  object_store store = open(name);
  shared<stage> s;
  numbers_ref ref = store.put(pattern(1, 100000), {.name = "erased"});
  process other([&] {
    object_store mine = open(name);
    const std::optional<numbers_ref> found = mine.find<numbers>("erased");
    {
      const auto view = mine.get(*found);
      ++s->arrived;
      await(s->go, 1);
      check(is_whole(view, 1), "what is viewed has gone");
      check_throws([&] { static_cast<void>(mine.get(*found)); }, "was erased");
    }
    ++s->arrived;
    await(s->go, 2);
  });
  REQUIRE(eventually([&] { return s->arrived == 1; }));
  store.erase(ref);
  CHECK_FALSE(store.find<numbers>("erased"));
  ref = {};
  CHECK(store.stats().pinned == 800000);
  for (std::uint64_t k = 0; k < 30; ++k) static_cast<void>(store.put(pattern(k, 100000)));  // would lie there
  s->go = 1;
  REQUIRE(eventually([&] { return s->arrived == 2; }));
  CHECK(store.stats().used == 0);
  CHECK(store.stats().objects == 1);  // the ref of the other
  s->go = 2;
  CHECK(other.end() == "");
  CHECK(store.stats().objects == 0);
}

TEST_CASE("An object erased while it is written keeps its memory until its writer has let go", "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  object_store store = open(name);
  shared<stage> s;
  process writer([&] {
    object_store mine = open(name);
    auto w = mine.create<std::uint64_t>(1000, {.name = "erased"});
    ++s->arrived;
    await(s->go, 1);
    fill(w.span(), 99);
    check_throws([&] { static_cast<void>(std::move(w).seal()); }, "an object was erased while it was written");
  });
  REQUIRE(eventually([&] { return s->arrived == 1; }));
  REQUIRE(store.erase("erased"));
  std::vector<numbers_ref> others;
  for (std::uint64_t k = 0; k < 20; ++k) others.push_back(store.put(pattern(k, 1000)));
  s->go = 1;
  CHECK(writer.end() == "");
  for (std::uint64_t k = 0; k < others.size(); ++k) CHECK(is_whole(store.get(others[k]), k));
  others.clear();
  CHECK(store.stats().used == 0);
}

TEST_CASE("The first process to open a store decides how large it is", "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  const object_store first = object_store::open({.name = name, .capacity = 5 << 20, .max_objects = 600});
  process second([&] {
    object_store store = object_store::open({.name = name, .capacity = 64 << 20, .put_timeout = 0s});
    check(store.stats().capacity == 6 << 20, "the capacity is another");
    check_throws([&] { store.put(numbers(1 << 20)); }, "open it with a larger .capacity");
  });
  CHECK(second.end() == "");
}

TEST_CASE("An object whose producer dies before it seals it is gone, and its name is free", "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  object_store store = open(name);
  shared<stage> s;
  process producer([&] {
    object_store mine = open(name);
    const auto w = mine.create<std::uint64_t>(1000, {.name = "numbers"});
    ++s->arrived;
    await(s->go, 1);
  });
  REQUIRE(eventually([&] { return s->arrived == 1; }));
  const numbers_ref ref = store.find<numbers>("numbers").value();
  CHECK_FALSE(store.contains(ref));
  CHECK(error_of([&] { static_cast<void>(store.get(ref, 20ms)); }).find("[cadre.store.305]") != std::string::npos);
  CHECK(error_of([&] { store.put(1, {.name = "numbers"}); }).find("[cadre.store.304]") != std::string::npos);
  producer.kill();
  const numbers_ref again = store.put(pattern(5, 10), {.name = "numbers"});
  CHECK(is_whole(store.get(again), 5));
  CHECK(error_of([&] {
          static_cast<void>(store.get(ref));
        }).find("by process " + std::to_string(producer.id()) + " is lost: that process died") != std::string::npos);
}

TEST_CASE("Of 8 processes that ask at once for an object one makes it, also when the maker is killed",
          "[shared_store]") {
  using namespace shared_store_test;
  for (const bool maker_dies : {false, true}) {
    const std::string name = store_name("shared");
    object_store store = open(name);
    shared<stage> s;
    shared<std::atomic<int>> made;
    std::vector<std::unique_ptr<process>> all;
    for (int k = 0; k < 8; ++k)
      all.push_back(std::make_unique<process>([&] {
        object_store mine = open(name);
        ++s->arrived;
        await(s->arrived, 8);
        const auto ref = mine.get_or_create<numbers>("made", [&] {
          if (made->fetch_add(1) == 0 && maker_dies) {
            nap();  // others wait for it
            ::raise(SIGKILL);
          }
          return pattern(11, 4000);
        });
        check(is_whole(mine.get(ref), 11), "it is not what was made");
      }));
    int killed = 0;
    for (auto& p : all) {
      const std::string end = p->end();
      if (p->was_killed())
        ++killed;
      else
        CHECK(end == "");
    }
    CHECK(killed == (maker_dies ? 1 : 0));
    CHECK(*made == (maker_dies ? 2 : 1));
    CHECK(store.stats().objects == 1);
    CHECK(store.erase("made"));
    CHECK(store.stats().used == 0);
  }
}

TEST_CASE("A process waits for any n of many objects that others make", "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  object_store store = open(name);
  shared<stage> s;
  std::vector<std::unique_ptr<process>> producers;
  for (int k = 0; k < 4; ++k)
    producers.push_back(std::make_unique<process>([&, k] {
      object_store mine = open(name);
      auto w = mine.create<std::uint64_t>(10, {.name = "object " + std::to_string(k)});
      fill(w.span(), 1);
      ++s->arrived;
      await(s->go, k == 0 ? 1 : 2);
      static_cast<void>(std::move(w).seal());
    }));
  REQUIRE(eventually([&] { return s->arrived == 4; }));
  std::vector<numbers_ref> refs;
  for (int k = 0; k < 4; ++k) refs.push_back(store.find<numbers>("object " + std::to_string(k)).value());
  CHECK(store.wait(refs, 1, 10ms).ready.empty());
  s->go = 1;
  CHECK(store.wait(refs, 1).ready == std::vector<std::size_t>{0});
  CHECK(store.wait(refs, 2, 10ms).pending == std::vector<std::size_t>{1, 2, 3});
  producers[3]->kill();  // one that has ended counts
  CHECK(store.wait(refs, 2, soon).ready == std::vector<std::size_t>{0, 3});
  s->go = 2;
  CHECK(store.wait(refs, 4).ready.size() == 4);
  for (int k = 0; k < 3; ++k) CHECK(producers[static_cast<std::size_t>(k)]->end() == "");
}

TEST_CASE("A child made by fork() cannot use its parent's store, and its end takes nothing from the parent",
          "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  object_store store = open(name);
  const numbers_ref ref = store.put(pattern(1, 1000), {.name = "numbers"});
  std::optional<cadre::view<numbers>> view(store.get(ref));
  std::optional<cadre::object_writer<numbers>> writer(store.create<std::uint64_t>(10));
  const cadre::store_stats before = store.stats();
  process child([&] {
    const std::string forked = "[cadre.store.307] a process made by fork() uses a store that its parent opened";
    check_throws([&] { store.put(1); }, forked);
    check_throws([&] { store.create<int>(1); }, forked);
    check_throws([&] { static_cast<void>(store.get(ref)); }, forked);
    check_throws([&] { static_cast<void>(store.try_get(ref)); }, forked);
    check_throws([&] { static_cast<void>(store.contains(ref)); }, forked);
    check_throws([&] { static_cast<void>(store.contains("numbers")); }, forked);
    check_throws([&] { static_cast<void>(store.find<numbers>("numbers")); }, forked);
    check_throws([&] { store.get_or_create<int>("x", [] { return 1; }); }, forked);
    check_throws([&] { static_cast<void>(store.wait(std::vector{ref}, 1)); }, forked);
    check_throws([&] { store.erase(ref); }, forked);
    check_throws([&] { store.erase("numbers"); }, forked);
    check_throws([&] { static_cast<void>(store.stats()); }, forked);
    check_throws([&] { static_cast<void>(store.report()); }, forked);
    check_throws([&] { static_cast<void>(store.sweep()); }, forked);
    check_throws([&] { static_cast<void>(std::move(*writer).seal()); }, forked);
    check(is_whole(*view, 1), "the child cannot read a view of its parent");
    view.reset();
    writer.reset();
    { const numbers_ref copy = ref; }
    {
      const object_store copy = store;
      std::optional<object_store> its_own(open(name));
      check(is_whole(its_own->get(its_own->find<numbers>("numbers").value()), 1), "it is not what was put");
      check(its_own->stats().processes == 2, "the child does not count");
    }
  });
  CHECK(child.end() == "");
  process ends_by_exit([&] { std::exit(0); });
  CHECK(ends_by_exit.end() == "");
  const cadre::store_stats now = store.stats();
  CHECK(now.used == before.used);
  CHECK(now.pinned == before.pinned);
  CHECK(now.objects == before.objects);
  CHECK(now.processes == 1);
  fill(writer->span(), 2);
  CHECK(is_whole(store.get(std::move(*writer).seal()), 2));
}

TEST_CASE("A child of a killed process, forked or executed, keeps nothing of what that one held", "[shared_store]") {
  using namespace shared_store_test;
  for (const bool executes : {false, true}) {
    const std::string name = store_name("shared");
    object_store store = open(name);
    shared<std::atomic<::pid_t>> grandchild;
    process parent([&] {
      object_store mine = open(name);
      const numbers_ref ref = mine.put(pattern(1, 1000));
      const auto view = mine.get(ref);
      const ::pid_t id = ::fork();
      if (id == 0) {
        ::prctl(PR_SET_PDEATHSIG, 0);
        ::alarm(60);
        *grandchild = ::getpid();
        if (executes) ::execlp("sleep", "sleep", "60", nullptr);
        while (is_whole(view, 1)) nap();
        ::_exit(1);
      }
      for (;;) nap();
    });
    REQUIRE(eventually([&] { return *grandchild != 0; }));
    const std::string id = std::to_string(*grandchild);
    if (executes) CHECK(eventually([&] { return open_memories(id) == 0; }));
    CHECK(store.stats().processes == 2);
    CHECK(store.stats().used == 8192);
    parent.kill();
    CHECK(store.stats().processes == 1);
    CHECK(store.stats().used == 0);
    CHECK(::kill(*grandchild, 0) == 0);  // it lives all the time
    ::kill(*grandchild, SIGKILL);
  }
}

TEST_CASE("A process that closes all its descriptors still counts as alive", "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  object_store store = open(name);
  shared<stage> s;
  process other([&] {
    object_store mine = open(name);
    const numbers_ref ref = mine.put(pattern(1, 1000));
    for (int fd = 3; fd < 1024; ++fd) ::close(fd);
    ++s->arrived;
    await(s->go, 1);
    check(is_whole(mine.get(ref), 1), "what it holds has gone");
    ::_exit(0);
  });
  REQUIRE(eventually([&] { return s->arrived == 1; }));
  CHECK(store.sweep() == 0);
  CHECK(store.stats().objects == 1);
  s->go = 1;
  CHECK(other.end() == "");
  CHECK(store.stats().objects == 0);
}

TEST_CASE("A thousand short-lived processes leave nothing", "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  object_store store = open(name);
  const numbers_ref kept = store.put(pattern(1, 1000), {.name = "kept"});
  const std::uint64_t before = store.stats().used;
  for (int k = 0; k < 1000; ++k) {
    process one([&] {
      object_store mine = open(name);
      const numbers_ref ref = mine.put(pattern(2, 500));
      check(is_whole(mine.get(*mine.find<numbers>("kept")), 1), "it is not what was put");
      if (k % 2 == 0) ::_exit(0);  // without closing it
    });
    REQUIRE(one.end() == "");
  }
  const cadre::store_stats now = store.stats();
  CHECK(now.processes == 1);
  CHECK(now.objects == 1);
  CHECK(now.used == before);
  CHECK(is_whole(store.get(kept), 1));
}

TEST_CASE("Eighty processes hold one object, and it ends with the last of them", "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  object_store store = open(name);
  shared<stage> s;
  numbers_ref ref = store.put(pattern(1, 1000), {.name = "numbers"});
  std::vector<std::unique_ptr<process>> all;
  for (int k = 0; k < 80; ++k) {
    all.push_back(std::make_unique<process>([&, k] {
      object_store mine = open(name);
      const numbers_ref own = mine.put(pattern(2, 10));
      std::optional<cadre::view<numbers>> view(mine.get(*mine.find<numbers>("numbers")));
      ++s->arrived;
      await(s->go, k < 79 ? 1 : 2);
      check(is_whole(*view, 1), "what is viewed has gone");
      check(is_whole(mine.get(own), 2), "what a process has put has gone");
    }));
    REQUIRE(eventually([&] { return s->arrived == k + 1; }));  // so that the last has a slot above the first 64
  }
  CHECK(store.stats().processes == 81);
  store.erase("numbers");
  ref = {};
  CHECK(store.stats().pinned == 8000);
  for (std::size_t k = 0; k < 79; k += 2) all[k]->kill();
  CHECK(store.stats().processes == 41);
  s->go = 1;
  for (std::size_t k = 1; k < 79; k += 2) CHECK(all[k]->end() == "");
  CHECK(store.stats().pinned == 8000);
  CHECK(store.stats().processes == 2);
  s->go = 2;
  CHECK(all[79]->end() == "");
  CHECK(store.stats().used == 0);
  CHECK(store.stats().objects == 0);
}

TEST_CASE("A store is refused to the 513th process, until one of the others has died", "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  // Each opening takes a slot, so that one process will do for many.
  ::rlimit files{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &files) == 0);
  files.rlim_cur = files.rlim_max;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &files) == 0);
  std::vector<object_store> stores;
  for (int k = 0; k < 511; ++k) stores.push_back(open(name));
  shared<stage> s;
  process last([&] {
    const object_store mine = open(name);
    ++s->arrived;
    await(s->go, 1);
  });
  REQUIRE(eventually([&] { return s->arrived == 1; }));
  CHECK(stores[0].stats().processes == 512);
  CHECK(error_of([&] { open(name); }) ==
        "[cadre.store.302] store full: 512 processes have it open, as many as there can be");
  last.kill();
  stores.push_back(open(name));
  CHECK(stores[0].stats().processes == 512);
  stores.resize(1, stores[0]);
  CHECK(stores[0].stats().processes == 1);
}

TEST_CASE("A dead process's slot is swept though its number is that of a living one", "[shared_store]") {
  using namespace shared_store_test;
  // Only root can have a number given out again (process_numbers.cpp); but numbers are in messages only, and who is alive
  // is said by the lock of the slot, which no stranger with that number has.
  const std::string name = store_name("shared");
  object_store store = open(name);
  shared<stage> s;
  process other([&] {
    object_store mine = open(name);
    const numbers_ref ref = mine.put(pattern(1, 1000));
    ++s->arrived;
    await(s->go, 1);
  });
  REQUIRE(eventually([&] { return s->arrived == 1; }));
  other.kill();
  const cadre::detail::arena memory = memory_once_more();
  int found = 0;
  for (std::uint32_t k = 0; k < cadre::detail::most_processes; ++k)
    if (cadre::detail::process_slot& slot = memory.slots()[k];
        slot.used != 0 && slot.pid == static_cast<std::uint32_t>(other.id())) {
      slot.pid = static_cast<std::uint32_t>(::getppid());
      ++found;
    }
  CHECK(found == 1);
  CHECK(store.sweep() == 1);
  CHECK(store.stats().used == 0);
}

TEST_CASE("Nothing is left of a store when its last process has ended, however", "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  shared<std::atomic<::ino_t>> memory;
  shared<stage> s;
  std::vector<std::unique_ptr<process>> all;
  for (int k = 0; k < 3; ++k)
    all.push_back(std::make_unique<process>([&, k] {
      object_store store = open(name);
      store.put(pattern(1, 1000), {.name = "object " + std::to_string(k)});
      for (const auto& fd : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code ignored;
        struct stat status {};
        if (std::filesystem::read_symlink(fd, ignored).string().find("memfd:cadre-store") != std::string::npos &&
            ::stat(fd.path().c_str(), &status) == 0)
          *memory = status.st_ino;
      }
      ++s->arrived;
      await(s->go, 1);
      if (k == 1) ::_exit(0);
    }));
  REQUIRE(eventually([&] { return s->arrived == 3; }));
  const auto holders = [&] {
    std::size_t n = 0;
    std::error_code ignored;
    for (const auto& one : std::filesystem::directory_iterator("/proc", ignored))
      for (const auto& fd : std::filesystem::directory_iterator(one.path() / "fd", ignored)) {
        struct stat status {};
        n += std::filesystem::read_symlink(fd, ignored).string().find("memfd:cadre-store") != std::string::npos &&
             ::stat(fd.path().c_str(), &status) == 0 && status.st_ino == *memory;
      }
    return n;
  };
  CHECK(holders() >= 3);
  all[0]->kill();
  s->go = 1;
  CHECK(all[1]->end() == "");
  CHECK(all[2]->end() == "");
  CHECK(holders() == 0);
  object_store next = open(name);
  CHECK_FALSE(next.find<numbers>("object 0"));
}

TEST_CASE("A limit on the size of files is an error, not a signal", "[shared_store]") {
  using namespace shared_store_test;
  const std::string name = store_name("shared");
  process limited([&] {
    const ::rlimit limit{1 << 20, 1 << 20};
    check(::setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit");
    check_throws([&] { open(name); }, "[cadre.os.159] a store needs a file in memory of ");
    check_throws([&] { object_store private_one; }, "raise ulimit -f");
  });
  CHECK(limited.end() == "");
}

TEST_CASE("A full or small /dev/shm is no obstacle", "[shared_store]") {
  using namespace shared_store_test;
  process inside([&] {
    if (::unshare(CLONE_NEWNS) != 0) {
      const std::string user = std::to_string(::geteuid()), group = std::to_string(::getegid());
      if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ::_exit(77);
      std::ofstream("/proc/self/uid_map") << user + " " + user + " 1";
      std::ofstream("/proc/self/setgroups") << "deny";
      std::ofstream("/proc/self/gid_map") << group + " " + group + " 1";
    }
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m,mode=1777") != 0)
      ::_exit(77);
    std::ofstream("/dev/shm/full") << std::string(2 << 20, 'x');
    struct ::statvfs left {};
    check(::statvfs("/dev/shm", &left) == 0 && left.f_bavail == 0, "/dev/shm is not full");
    object_store store = object_store::open({.name = store_name("full"), .capacity = 128 << 20});
    const numbers_ref ref = store.put(pattern(1, 10 << 20));
    check(is_whole(store.get(ref), 1), "it is not what was put");
  });
  const std::string end = inside.end();
  if (end == "ended with 77")
    WARN("skipped: needs the right to mount");
  else
    CHECK(end == "");
}

TEST_CASE("Another user does not get at a store", "[root]") {
  using namespace shared_store_test;
  if (::geteuid() != 0) {
    WARN("skipped: needs the right to become another user");
    return;
  }
  const std::string name = store_name("shared");
  object_store store = open(name);
  store.put(pattern(1, 10), {.name = "secret"});
  const std::string memories = "/proc/" + std::to_string(::getpid()) + "/fd";
  process other([&] {
    check(::setgid(65534) == 0 && ::setuid(65534) == 0, "setuid");
    std::error_code denied;
    check(std::filesystem::directory_iterator(memories, denied) == std::filesystem::directory_iterator() && denied,
          "another user can list what the process has open");
    const auto own = error_of([&] {  // of the same name, but his own
      object_store mine = open(name);
      check(!mine.find<numbers>("secret"), "another user finds an object");
    });
    check(own == "nothing" || own.find("[cadre.store.309]") != own.npos, own);
  });
  CHECK(other.end() == "");
  CHECK(store.stats().processes == 1);
}
