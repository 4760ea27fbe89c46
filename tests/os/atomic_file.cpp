#include "catch.hpp"
#include "in_child.hpp"
#include "os/failing_fsync.hpp"

#include <cadre/os/atomic_file.hpp>

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace atomic_file_test {

namespace fs = std::filesystem;

class folder {
 public:
  folder() {
    std::string name = (fs::temp_directory_path() / "cadre-atomic-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~folder() { fs::remove_all(path_); }
  std::string operator/(std::string_view name) const { return (path_ / name).string(); }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
std::string content(const std::string& path) {
  const auto read = cadre::read_file(path);
  return {reinterpret_cast<const char*>(read.data()), read.size()};
}

TEST_CASE("A file is created, replaced and read back whole, and no temporary file is left") {
  folder dir;
  const std::string path = dir / "file";
  cadre::write_file_atomically(path, bytes("first"));
  CHECK(content(path) == "first");
  cadre::write_file_atomically(path, bytes("second, longer"));
  CHECK(content(path) == "second, longer");
  cadre::write_file_atomically(path, {});
  CHECK(content(path).empty());
  CHECK(dir.files() == 1);
}

TEST_CASE("Several pieces are written one after another, more than one call to the kernel takes") {
  folder dir;
  cadre::write_file_atomically(dir / "three", {bytes("ab"), bytes(""), bytes("cde")});
  CHECK(content(dir / "three") == "abcde");
  std::vector<std::span<const std::byte>> pieces(3000, bytes("xyz"));
  cadre::write_file_atomically(dir / "many", pieces);
  CHECK(content(dir / "many").size() == 9000);
  const std::string large(5'000'000, 'q');
  cadre::write_file_atomically(dir / "large", {bytes("head"), bytes(large)});
  CHECK(content(dir / "large") == "head" + large);
}

TEST_CASE("Permissions of a replaced file stay, and a link goes on pointing to it") {
  folder dir;
  const std::string path = dir / "file", link = dir / "link";
  cadre::write_file_atomically(path, bytes("old"));
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write | fs::perms::group_read);
  fs::create_symlink("file", link);
  cadre::write_file_atomically(link, bytes("new"));
  CHECK(fs::is_symlink(link));
  CHECK(content(path) == "new");
  CHECK(fs::status(path).permissions() == (fs::perms::owner_read | fs::perms::owner_write | fs::perms::group_read));
  fs::create_symlink("nowhere/at/all", dir / "dangling");
  CHECK_THROWS_AS(cadre::write_file_atomically(dir / "dangling", bytes("x")), cadre::file_not_found);
}

TEST_CASE("A path without a folder is a file of the working directory") {
  folder dir;
  const fs::path before = fs::current_path();
  fs::current_path(dir / "");
  cadre::write_file_atomically("plain", bytes("x"));
  fs::current_path(before);
  CHECK(content(dir / "plain") == "x");
}

TEST_CASE("A missing folder is an error that names the path and the cause") {
  folder dir;
  const std::string path = dir / "no/such/file";
  CHECK_THROWS_WITH(cadre::write_file_atomically(path, bytes("x")),
                    "[cadre.os.155] cannot write '" + path +
                        "': No such file or directory (errno 2); check the path, and create its folder first");
  CHECK_THROWS_WITH(cadre::read_file(path), ContainsSubstring("[cadre.os.155] cannot open '" + path + "'"));
  try {
    static_cast<void>(cadre::read_file(path));
  } catch (const cadre::file_error& e) {
    CHECK(e.code() == ENOENT);
    CHECK(e.path() == path);
    CHECK(e.number() == 155);
  }
}

TEST_CASE("Folders and devices are not replaced by files") {
  folder dir;
  fs::create_directory(dir / "folder");
  CHECK_THROWS_WITH(cadre::write_file_atomically(dir / "folder", bytes("x")),
                    ContainsSubstring("Is a directory (errno 21)"));
  CHECK_THROWS_AS(cadre::read_file(dir / "folder"), cadre::file_error);
  REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
  CHECK_THROWS_WITH(cadre::write_file_atomically(dir / "pipe", bytes("x")),
                    ContainsSubstring("[cadre.os.158] cannot replace"));
  CHECK(dir.files() == 2);
}

/// 0 if writing fails as a full disk does, and leaves the folder as it was.
int write_too_much(const std::string& folder_path, const std::string& path, std::size_t size) {
  try {
    cadre::write_file_atomically(path, bytes(std::string(size, 'x')));
    return 1;
  } catch (const cadre::disk_full& e) {
    if (e.number() != 156 || std::string(e.what()).find("what was there before is unchanged") == std::string::npos)
      return 2;
  }
  if (content(path) != "old") return 3;
  return std::distance(fs::directory_iterator(folder_path), fs::directory_iterator()) == 1 ? 0 : 4;
}

TEST_CASE("A file that grows beyond the limit is an error, the old file stays and the temporary goes") {
  folder dir;
  cadre::write_file_atomically(dir / "file", bytes("old"));
  const int code = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{10'000, 10'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    return write_too_much(dir / "", dir / "file", 100'000);
  });
  CHECK(code == 0);
}

TEST_CASE("A full disk is an error, the old file stays and the temporary goes", "[root]") {
  folder dir;
  const int code = in_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("cadre", (dir / "").c_str(), "tmpfs", 0, "size=64k") != 0)
      return 77;
    cadre::write_file_atomically(dir / "file", bytes("old"));
    return write_too_much(dir / "", dir / "file", 1 << 20);
  });
  if (code == 77)
    WARN("skipped: needs the right to mount a file system");
  else
    CHECK(code == 0);
}

TEST_CASE("A read-only file system is an error that says so", "[root]") {
  folder dir;
  const int code = in_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("cadre", (dir / "").c_str(), "tmpfs", MS_RDONLY, "size=64k") != 0)
      return 77;
    try {
      cadre::write_file_atomically(dir / "file", bytes("x"));
    } catch (const cadre::file_access_denied& e) {
      return e.code() == EROFS && e.number() == 157 ? 0 : 1;
    }
    return 2;
  });
  if (code == 77)
    WARN("skipped: needs the right to mount a file system");
  else
    CHECK(code == 0);
}

TEST_CASE("A folder that may not be written to is an error that says so") {
  folder dir;
  fs::create_directory(dir / "closed");
  fs::permissions(dir / "closed",
                  fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec);
  fs::permissions(dir / "", fs::perms::all);
  const int code = in_child([&] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) return 3;  // root may write anywhere
    try {
      cadre::write_file_atomically(dir / "closed/file", bytes("x"));
    } catch (const cadre::file_access_denied& e) {
      return std::string(e.what()).find("check the owner and permissions") != std::string::npos ? 0 : 1;
    }
    return 2;
  });
  CHECK(code == 0);
}

TEST_CASE("A folder whose names cannot be forced to the disk is an error before anything is changed") {
  folder dir;
  fs::create_directory(dir / "blind");
  cadre::write_file_atomically(dir / "blind/file", bytes("old"));
  fs::permissions(dir / "blind/file", fs::perms::all);
  fs::permissions(dir / "blind", fs::perms(0333));  // may be written, not read
  fs::permissions(dir / "", fs::perms::all);
  const int code = in_child([&] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) return 3;
    try {
      cadre::write_file_atomically(dir / "blind/file", bytes("new"));
    } catch (const cadre::file_access_denied& e) {
      return content(dir / "blind/file") == "old" ? 0 : 1;
    }
    return 2;
  });
  CHECK(code == 0);
  fs::permissions(dir / "blind", fs::perms::all);
}

TEST_CASE("A disk that fails is an error, and its text says whether the new content is in place") {
  folder dir;
  const std::string path = dir / "file";
  cadre::write_file_atomically(path, bytes("old"));
  failing_fsync::countdown = 1;
  CHECK_THROWS_WITH(cadre::write_file_atomically(path, bytes("new")),
                    "[cadre.os.158] cannot write '" + path +
                        "': Input/output error (errno 5); the file system or the device below it failed");
  CHECK(content(path) == "old");
  failing_fsync::countdown = 2;
  CHECK_THROWS_WITH(cadre::write_file_atomically(path, bytes("new")),
                    "[cadre.os.158] cannot write to disk the folder of '" + path +
                        "': Input/output error (errno 5); the file system or the device below it failed");
  CHECK(content(path) == "new");
  CHECK(dir.files() == 1);
}

TEST_CASE("What a killed writer left is removed by the next writer of the same file, what others write is not") {
  folder dir;
  int started[2];
  REQUIRE(::pipe(started) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const cadre::detail::temporary_file left(dir / "", "file");
    [[maybe_unused]] const ssize_t told = ::write(started[1], "x", 1);
    for (;;) ::pause();
  }
  char signal = 0;
  REQUIRE(::read(started[0], &signal, 1) == 1);
  cadre::write_file_atomically(dir / "file", bytes("1"));
  CHECK(dir.files() == 2);  // its writer lives
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(started[0]);
  ::close(started[1]);
  for (const char* other : {".file.backup.tmp", ".file.12-3.txt", ".other.12-3.tmp", "file.12-3.tmp"})
    cadre::write_file_atomically(dir / other, bytes("keep"));
  CHECK(dir.files() == 6);
  cadre::write_file_atomically(dir / "file", bytes("2"));
  CHECK(dir.files() == 5);
  CHECK(content(dir / "file") == "2");
}

TEST_CASE("A file that does not state its size is read whole, and a pipe is an error instead of a wait") {
  CHECK(content("/proc/self/status").find("VmRSS:") != std::string::npos);
  folder dir;
  REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
  CHECK_THROWS_WITH(cadre::read_file(dir / "pipe"), ContainsSubstring("[cadre.os.158] cannot read"));
}

TEST_CASE("A reader always finds one whole content while writers replace the file") {
  folder dir;
  const std::string path = dir / "file";
  cadre::write_file_atomically(path, bytes(std::string(5000, 'a')));
  std::vector<std::thread> writers;
  for (char letter : {'b', 'c'})
    writers.emplace_back([&path, letter] {
      for (int i = 1; i <= 20; ++i)
        cadre::write_file_atomically(path, bytes(std::string(static_cast<std::size_t>(5000 * i), letter)));
    });
  bool whole = true;
  for (int i = 0; i < 200; ++i) {
    const std::string now = content(path);
    whole = whole && !now.empty() && now.size() % 5000 == 0 && now.find_first_not_of(now[0]) == std::string::npos;
  }
  for (std::thread& t : writers) t.join();
  CHECK(whole);
  CHECK(dir.files() == 1);
}

TEST_CASE("A process killed while it writes leaves the old file or the new") {
  folder dir;
  const std::string path = dir / "file";
  cadre::write_file_atomically(path, bytes("0"));
  for (int round = 0; round < 10; ++round) {
    int started[2];
    REQUIRE(::pipe(started) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      for (char c = 'a';; c = c == 'z' ? 'a' : static_cast<char>(c + 1)) {
        cadre::write_file_atomically(path, bytes(std::string(300'000, c)));
        [[maybe_unused]] const ssize_t told = ::write(started[1], "x", 1);
      }
    }
    char signal = 0;
    for (int i = 0; i <= round % 4; ++i) REQUIRE(::read(started[0], &signal, 1) == 1);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(started[0]);
    ::close(started[1]);
    const std::string now = content(path);
    REQUIRE(now.size() == 300'000);
    REQUIRE(now.find_first_not_of(now[0]) == std::string::npos);
  }
}

}  // namespace atomic_file_test
