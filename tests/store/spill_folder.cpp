#include "catch.hpp"
#include "in_child.hpp"

#include <cadre/store/detail/spill_folder.hpp>

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace spill_folder_test {

namespace fs = std::filesystem;
using cadre::detail::spill_folder;

class folder {
 public:
  folder() {
    std::string name = (fs::temp_directory_path() / "cadre-spill-folder-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~folder() { fs::remove_all(path_); }
  std::string operator/(std::string_view name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

const std::string first_name = "cadre-00000000000000010000000000000002";
const std::string second_name = "cadre-fedcba987654321000000000000000ff";
constexpr spill_folder::job_id first_id{1, 2}, second_id{0xFEDCBA9876543210, 255};

void write_file(const std::string& path) { std::ofstream(path) << "x"; }

/// A process that has done `body` and then waits for its end.
class other_process {
 public:
  template <class Body>
  explicit other_process(Body body) {
    std::array<int, 2> ready{}, leave{};
    REQUIRE(::pipe(ready.data()) == 0);
    REQUIRE(::pipe(leave.data()) == 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(leave[1]);
      int code = 1;
      try {
        const auto held = body();
        char c = 'x';
        [[maybe_unused]] const ssize_t told = ::write(ready[1], &c, 1);
        code = ::read(leave[0], &c, 1) == 0 ? 0 : 2;
      } catch (...) {}
      ::_exit(code);
    }
    ::close(ready[1]);
    ::close(leave[0]);
    char c = 0;
    started_ = ::read(ready[0], &c, 1) == 1;
    ::close(ready[0]);
    leave_ = leave[1];
  }
  bool started() const { return started_; }
  void kill() {
    ::kill(pid_, SIGKILL);
    wait();
  }
  int leave() {
    ::close(leave_);
    leave_ = -1;
    return wait();
  }
  ~other_process() {
    if (leave_ != -1) ::close(leave_);
    if (pid_ > 0) wait();
  }

 private:
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  pid_t pid_ = -1;
  int leave_ = -1;
  bool started_ = false;
};

other_process opener(const folder& dir, spill_folder::job_id id) {
  return other_process([&dir, id] {
    auto made = std::make_unique<spill_folder>(dir.path(), id);
    write_file(made->path() + "/3-0.spill");
    return made;
  });
}

TEST_CASE("The spill folder carries the job's number, is closed to others, and goes with the last who uses it") {
  folder dir;
  {
    const spill_folder made(dir.path(), second_id);
    CHECK(made.path() == dir / second_name);
    struct stat status {};
    REQUIRE(::stat(made.path().c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0700);
    {
      const spill_folder joined(dir.path(), second_id);
      write_file(joined.path() + "/0-0.spill");
    }
    CHECK(fs::exists(made.path() + "/0-0.spill"));
  }
  CHECK(dir.entries() == 0);
}

TEST_CASE("Several processes share one spill folder, whichever leaves last removes it") {
  folder dir;
  auto mine = std::make_unique<spill_folder>(dir.path(), first_id);
  other_process other = opener(dir, first_id);
  REQUIRE(other.started());
  mine.reset();
  CHECK(fs::exists(dir / first_name + "/3-0.spill"));
  CHECK(other.leave() == 0);
  CHECK(dir.entries() == 0);
}

TEST_CASE("What a killed job spilled is removed by the next job, what a living job spilled is not") {
  folder dir;
  other_process killed = opener(dir, first_id), living = opener(dir, second_id);
  REQUIRE(killed.started());
  REQUIRE(living.started());
  killed.kill();
  CHECK(fs::exists(dir / first_name + "/3-0.spill"));
  {
    const spill_folder next(dir.path(), {7, 7});
    CHECK_FALSE(fs::exists(dir / first_name));
    CHECK(fs::exists(dir / second_name + "/3-0.spill"));
    CHECK(dir.entries() == 2);
  }
  living.kill();
  const spill_folder again(dir.path(), second_id);  // of the same number: begins empty
  CHECK_FALSE(fs::exists(dir / second_name + "/3-0.spill"));
}

TEST_CASE("A folder that a process was about to make when it was killed is removed") {
  folder dir;
  fs::create_directory(dir / first_name);
  fs::create_directory(dir / second_name);
  std::ofstream(dir / second_name + "/lock").flush();
  const spill_folder next(dir.path(), {7, 7});
  CHECK(dir.entries() == 1);
}

TEST_CASE("Only folders and files that spilling has made are removed") {
  folder dir, elsewhere;
  write_file(elsewhere / "0-0.spill");
  write_file(elsewhere / "lock");
  fs::create_directory_symlink(elsewhere.path(), dir / first_name);
  fs::create_directory(dir / "cadre-1");
  write_file(dir / "cadre-1/lock");
  fs::create_directory(dir / second_name);
  std::ofstream(dir / second_name + "/lock").flush();
  write_file(dir / second_name + "/thesis.txt");
  fs::create_symlink(elsewhere / "0-0.spill", dir / second_name + "/0-0.spill");
  {
    const spill_folder next(dir.path(), {7, 7});
    CHECK(fs::is_symlink(dir / first_name));
    CHECK(fs::exists(dir / "cadre-1/lock"));
    CHECK(fs::exists(dir / second_name + "/thesis.txt"));
    CHECK_FALSE(fs::is_symlink(dir / second_name + "/0-0.spill"));
  }
  CHECK(elsewhere.entries() == 2);
  CHECK(dir.entries() == 3);
}

TEST_CASE("What another machine left in a shared folder stays, as its locks may not be seen here") {
  folder dir;
  fs::create_directory(dir / first_name);
  write_file(dir / first_name + "/0-0.spill");
  std::ofstream(dir / first_name + "/lock") << std::string(101, '?');
  const spill_folder next(dir.path(), {7, 7});
  CHECK(fs::exists(dir / first_name + "/0-0.spill"));
}

TEST_CASE("A forked child that ends does not take its parent's spill folder with it") {
  folder dir;
  spill_folder mine(dir.path(), first_id);
  const pid_t child = ::fork();
  if (child == 0) {
    mine.~spill_folder();
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  CHECK(fs::exists(dir / first_name + "/lock"));
  const spill_folder next(dir.path(), second_id);  // finds it locked
  CHECK(fs::exists(dir / first_name));
}

TEST_CASE("What a killed job spilled is removed by the next job though a forked child of it lives on") {
  folder dir;
  std::array<int, 2> words{};
  REQUIRE(::pipe(words.data()) == 0);
  other_process killed([&] {
    auto made = std::make_unique<spill_folder>(dir.path(), first_id);
    write_file(made->path() + "/3-0.spill");
    if (::fork() == 0) {
      const pid_t me = ::getpid();
      static_cast<void>(!::write(words[1], &me, sizeof me));
      ::alarm(60);
      for (;;) ::pause();
    }
    return made;
  });
  REQUIRE(killed.started());
  pid_t child = -1;
  REQUIRE(::read(words[0], &child, sizeof child) == sizeof child);
  killed.kill();
  const spill_folder next(dir.path(), second_id);
  CHECK(::kill(child, 0) == 0);
  CHECK_FALSE(fs::exists(dir / first_name));
  ::kill(child, SIGKILL);
  ::close(words[0]);
  ::close(words[1]);
}

TEST_CASE("Processes that come and go all the time always find a folder that stays while they use it") {
  folder dir;
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      int code = 0;
      try {
        for (int round = 0; round < 200 && code == 0; ++round) {
          // Two jobs of two processes each, so that each is also the other's leftover at times.
          const spill_folder made(dir.path(), {0, static_cast<std::uint64_t>(i % 2)});
          const std::string file = made.path() + "/" + std::to_string(i) + "-0.spill";
          write_file(file);
          if (!fs::exists(file)) code = 1;
          fs::remove(file);
        }
      } catch (...) {
        code = 2;
      }
      ::_exit(code);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  CHECK(dir.entries() == 0);
}

TEST_CASE("A spill folder that cannot be made is an error that says what to do") {
  folder dir;
  const std::string missing = dir / "no/such";
  CHECK_THROWS_WITH(spill_folder(missing, first_id),
                    "[cadre.store.312] cannot open the spill folder '" + missing +
                        "': No such file or directory (errno 2); name a folder as spill_dir that exists, that this "
                        "user may write to, and whose file system has locks and space, such as one of a local disk");
  write_file(dir / "file");
  try {
    spill_folder(dir / "file", first_id);
    FAIL("a file was taken for a folder");
  } catch (const cadre::spill_folder_unusable& e) {
    CHECK(e.number() == 312);
    CHECK(e.code() == ENOTDIR);
    CHECK(e.path() == dir / "file");
  }
  fs::create_directory_symlink(dir.path(), dir / first_name);
  CHECK_THROWS_WITH(spill_folder(dir.path(), first_id), ContainsSubstring("cannot open the spill folder"));
}

TEST_CASE("A spill folder that others may enter is refused") {
  folder dir;
  fs::create_directory(dir / first_name);
  fs::permissions(dir / first_name, fs::perms(0755));
  CHECK_THROWS_WITH(spill_folder(dir.path(), first_id),
                    ContainsSubstring("[cadre.store.312] the spill folder '" + dir / first_name +
                                      "' belongs to another user, or others may enter it"));
}

TEST_CASE("A folder that may not be written to cannot hold spilled objects") {
  folder dir;
  fs::permissions(dir.path(), fs::perms(0555));
  const int code = in_child([&] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) return 3;  // root may write anywhere
    try {
      spill_folder(dir.path(), first_id);
    } catch (const cadre::spill_folder_unusable& e) {
      return e.code() == EACCES ? 0 : 1;
    }
    return 2;
  });
  CHECK(code == 0);
  fs::permissions(dir.path(), fs::perms(0755));
}

TEST_CASE("A read-only file system cannot hold spilled objects") {
  folder dir;
  const int code = in_child([&] {
    if (!own_mounts() || ::mount("cadre", dir.path().c_str(), "tmpfs", MS_RDONLY, "size=64k") != 0) return 77;
    try {
      spill_folder(dir.path(), first_id);
    } catch (const cadre::spill_folder_unusable& e) {
      return e.code() == EROFS ? 0 : 1;
    }
    return 2;
  });
  if (code == 77)
    WARN("skipped: needs the right to mount a file system");
  else
    CHECK(code == 0);
}

}  // namespace spill_folder_test
