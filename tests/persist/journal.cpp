#include "catch.hpp"
#include "os/failing_fsync.hpp"

#include <cadre/core/random.hpp>
#include <cadre/os/atomic_file.hpp>
#include <cadre/persist/journal.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace journal_test {

namespace fs = std::filesystem;

class folder {
 public:
  folder() {
    std::string name = (fs::temp_directory_path() / "cadre-journal-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~folder() { fs::remove_all(path_); }
  std::string operator/(std::string_view name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

using texts = std::vector<std::string>;

std::string text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

auto into(texts& out) {
  return [&out](std::span<const std::byte> record) { out.push_back(text(record)); };
}

texts recover(const std::string& path) {
  texts found;
  static_cast<void>(cadre::journal::open(path, {}, into(found)));
  return found;
}

texts look(const std::string& path) {
  texts found;
  cadre::journal::read(path, into(found));
  return found;
}

void write_records(const std::string& path, const texts& records) {
  auto j = cadre::journal::open(path, {.sync = cadre::journal_sync::never});
  for (const std::string& r : records) j.append(r);
}

const texts three = {"first", "", "the third, longer one"};

TEST_CASE("Records come back in order when a journal is opened again") {
  folder dir;
  const std::string path = dir / "j";
  {
    texts found;
    auto j = cadre::journal::open(path, {}, into(found));
    CHECK(found.empty());
    for (const std::string& r : three) j.append(r);
    CHECK(j.size() == 3);
    CHECK(j.bytes() == fs::file_size(path));
    CHECK(j.path() == path);
  }
  CHECK(recover(path) == three);
  {
    auto j = cadre::journal::open(path);
    CHECK(j.size() == 3);
    j.append("fourth");
  }
  CHECK(recover(path).size() == 4);
  CHECK(recover(path).back() == "fourth");
}

TEST_CASE("Each way of syncing writes the same file") {
  folder dir;
  for (const auto& [name, sync] :
       {std::pair{"every", cadre::journal_sync::every_record}, std::pair{"request", cadre::journal_sync::on_request},
        std::pair{"never", cadre::journal_sync::never}}) {
    auto j = cadre::journal::open(dir / name, {.sync = sync});
    for (const std::string& r : three) j.append(r);
    j.sync();
  }
  CHECK(cadre::read_file(dir / "every") == cadre::read_file(dir / "request"));
  CHECK(cadre::read_file(dir / "every") == cadre::read_file(dir / "never"));
}

TEST_CASE("Large records come back, larger than the window in which they are read") {
  folder dir;
  const texts large = {std::string(3'000'000, 'a'), "b", std::string(262'144, 'c'), std::string(262'128, 'd'), "e"};
  write_records(dir / "j", large);
  CHECK(recover(dir / "j") == large);
}

TEST_CASE("A tail torn at any byte is cut off, and the journal goes on behind the last whole record") {
  folder dir;
  const std::string path = dir / "j";
  write_records(path, three);
  const auto whole = cadre::read_file(path);
  const std::size_t ends[] = {16, 16 + 21, 16 + 21 + 16, whole.size()};
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    cadre::write_file_atomically(path, std::span(whole).first(size));
    std::size_t expected = 0;
    while (expected < 3 && ends[expected + 1] <= size) ++expected;
    REQUIRE(look(path).size() == expected);
    REQUIRE(fs::file_size(path) == size);  // looking changes nothing
    REQUIRE(recover(path) == texts(three.begin(), three.begin() + static_cast<std::ptrdiff_t>(expected)));
    REQUIRE(fs::file_size(path) == ends[expected]);
    write_records(path, {"after"});
    REQUIRE(recover(path).back() == "after");
    REQUIRE(recover(path).size() == expected + 1);
  }
}

TEST_CASE("What a power failure leaves at the end is cut off: zeros, and a last record that is not whole") {
  folder dir;
  const std::string path = dir / "j";
  write_records(path, three);
  const auto whole = cadre::read_file(path);
  auto zeros = whole;
  zeros.resize(whole.size() + 1'000'000);
  cadre::write_file_atomically(path, zeros);
  CHECK(recover(path) == three);
  CHECK(fs::file_size(path) == whole.size());
  auto half = whole;
  std::memset(half.data() + half.size() - 10, 0, 10);
  cadre::write_file_atomically(path, half);
  CHECK(recover(path).size() == 2);
  cadre::write_file_atomically(path, std::vector<std::byte>(4096));
  CHECK(recover(path).empty());
}

TEST_CASE("Each wrong bit before the last record is an error that names the offset, and changes nothing") {
  folder dir;
  const std::string path = dir / "j";
  write_records(path, three);
  const auto good = cadre::read_file(path);
  for (std::size_t at = 0; at < 16 + 21 + 16; ++at) {
    auto bad = good;
    bad[at] ^= std::byte{0x10};
    cadre::write_file_atomically(path, bad);
    REQUIRE_THROWS_AS(recover(path), cadre::journal_error);
    REQUIRE(cadre::read_file(path) == bad);
  }
  auto bad = good;
  bad[16 + 16 + 2] ^= std::byte{1};
  cadre::write_file_atomically(path, bad);
  CHECK_THROWS_WITH(
      recover(path),
      "[cadre.persist.522] journal '" + path +
          "': the content of record 0, at offset 16, is damaged, and more follows it; restore the file from a "
          "copy, or give up this record and all after it with: truncate -s 16 FILE");
  bad = good;
  bad[16 + 21] ^= std::byte{1};  // a length that points beyond the end must not pass for a torn tail
  cadre::write_file_atomically(path, bad);
  CHECK_THROWS_WITH(look(path), ContainsSubstring("the header of record 1, at offset 37, is damaged"));
  bad = good;
  bad[9] ^= std::byte{1};
  cadre::write_file_atomically(path, bad);
  CHECK_THROWS_WITH(recover(path), ContainsSubstring("its header, at offset 0, is damaged"));
}

TEST_CASE("A file of another kind is not touched, and one of a later version says so") {
  folder dir;
  const std::string path = dir / "notes.txt", notes = "do not overwrite me, I am precious";
  cadre::write_file_atomically(path, std::as_bytes(std::span(notes)));
  CHECK_THROWS_WITH(recover(path), "[cadre.persist.521] '" + path +
                                       "' is not a journal of cadre: it begins with other bytes; check the path");
  CHECK(text(cadre::read_file(path)) == notes);
  cadre::write_file_atomically(path, std::as_bytes(std::span(notes)).first(5));
  CHECK_THROWS_AS(recover(path), cadre::journal_foreign);
  namespace format = cadre::detail::journal_format;
  const format::file_header later{format::magic, 7, format::short_check(7, 0)};
  cadre::write_file_atomically(dir / "later", std::as_bytes(std::span(&later, 1)));
  CHECK_THROWS_WITH(recover(dir / "later"),
                    ContainsSubstring("[cadre.persist.525] journal '" + (dir / "later") + "' has format version 7"));
  CHECK_THROWS_AS(recover(dir / "no/such"), cadre::file_not_found);
  CHECK_THROWS_AS(look(dir / "nothing"), cadre::file_not_found);
}

TEST_CASE("A second writer is refused while the first holds the journal, and a reader is not") {
  folder dir;
  const std::string path = dir / "j";
  {
    auto j = cadre::journal::open(path);
    j.append("one");
    CHECK_THROWS_WITH(
        recover(path),
        "[cadre.persist.523] journal '" + path +
            "' is open for writing elsewhere, in this process or another; one writer at a time, wait for it "
            "or end it");
    CHECK(look(path) == texts{"one"});
    auto moved = std::move(j);
    moved.append("two");
    CHECK_THROWS_AS(recover(path), cadre::journal_locked);
  }
  CHECK(recover(path) == texts{"one", "two"});
}

TEST_CASE("A callback that throws leaves the file unchanged and unlocked") {
  folder dir;
  const std::string path = dir / "j";
  write_records(path, three);
  fs::resize_file(path, fs::file_size(path) - 1);
  const auto before = cadre::read_file(path);
  CHECK_THROWS_AS(cadre::journal::open(path, {}, [](std::span<const std::byte>) { throw std::logic_error("no"); }),
                  std::logic_error);
  CHECK(cadre::read_file(path) == before);
  CHECK(recover(path).size() == 2);
}

TEST_CASE("A record that does not fit on the disk is an error, and the journal goes on without it") {
  folder dir;
  const std::string path = dir / "j";
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    auto j = cadre::journal::open(path, {.sync = cadre::journal_sync::never});
    j.append("before");
    const std::uint64_t size = j.bytes();
    const rlimit limit{10'000, RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int code = 1;
    try {
      j.append(std::string(100'000, 'x'));
    } catch (const cadre::disk_full&) {
      code = j.bytes() == size && fs::file_size(path) == size ? 0 : 2;
      j.append("after");
    } catch (...) {}
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(recover(path) == texts{"before", "after"});
}

TEST_CASE("A disk that is full from the start is an error") { CHECK_THROWS_AS(recover("/dev/full"), cadre::disk_full); }

TEST_CASE("A record of 4 GiB is refused before anything is written") {
  folder dir;
  auto j = cadre::journal::open(dir / "j");
  const std::size_t size = std::size_t{1} << 32;
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  CHECK_THROWS_WITH(j.append(std::span(static_cast<const std::byte*>(memory), size)),
                    "[cadre.persist.524] a record of 4294967296 bytes for journal '" + j.path() +
                        "'; at most 4294967295 are possible, split it");
  ::munmap(memory, size);
  CHECK(fs::file_size(dir / "j") == j.bytes());
}

TEST_CASE("A record that cannot be forced to the disk is taken back, and the journal closed until it is opened again") {
  folder dir;
  const std::string path = dir / "j";
  auto j = cadre::journal::open(path);
  j.append("kept");
  const auto size = fs::file_size(path);
  failing_fsync::countdown = 1;
  CHECK_THROWS_WITH(j.append("lost"), ContainsSubstring("[cadre.os.158] cannot write to disk '" + path + "'"));
  CHECK(fs::file_size(path) == size);
  CHECK(j.size() == 1);
  CHECK_THROWS_AS(j.append("refused"), cadre::journal_broken);
  CHECK_THROWS_AS(j.sync(), cadre::journal_broken);
  CHECK(look(path) == texts{"kept"});
}

TEST_CASE("A failure that cannot be undone closes the journal to further records, and opening it again recovers") {
  folder dir;
  const std::string path = dir / "j";
  {
    auto j = cadre::journal::open(path);
    j.append("kept");
    int descriptor = -1;
    for (const auto& entry : fs::directory_iterator("/proc/self/fd"))
      if (std::error_code none; fs::read_symlink(entry.path(), none) == fs::canonical(path))
        descriptor = std::stoi(entry.path().filename());
    const int full = ::open("/dev/full", O_RDWR | O_CLOEXEC);
    REQUIRE((descriptor > 2 && full > 2));
    ::dup2(full, descriptor);  // the disk goes away: writes fail, and so does taking them back
    ::close(full);
    CHECK_THROWS_AS(j.append("lost"), cadre::disk_full);
    CHECK_THROWS_WITH(j.append("refused"), "[cadre.persist.526] journal '" + path +
                                               "' had a failure that could not be undone; open it again, which "
                                               "recovers what is whole");
    CHECK_THROWS_AS(j.sync(), cadre::journal_broken);
    CHECK(j.size() == 1);
  }
  CHECK(recover(path) == texts{"kept"});
}

/// The record that a writer of the test below appends as number `i`.
std::string record_number(std::uint64_t i) {
  cadre::random_stream random{1, "record", i};
  return std::to_string(i) + ":" +
         std::string(random.below(i % 10 == 0 ? 400'000 : 300), static_cast<char>('a' + i % 26));
}

TEST_CASE("Every record that append returned for survives SIGKILL, whole and in order") {
  folder dir;
  const std::string path = dir / "j";
  void* shared = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(shared != MAP_FAILED);
  auto& returned = *new (shared) std::atomic<std::uint64_t>(0);
  cadre::random_stream random{1, "kill"};
  for (int round = 0; round < 25; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto j = cadre::journal::open(
          path, {.sync = round % 5 == 0 ? cadre::journal_sync::every_record : cadre::journal_sync::never});
      for (;;) {
        j.append(record_number(j.size()));
        returned.store(j.size());
      }
    }
    const std::uint64_t goal = returned.load() + 1 + random.below(12);
    while (returned.load() < goal) REQUIRE(::waitpid(child, nullptr, WNOHANG) == 0);
    for (std::uint64_t spin = random.below(200'000); spin != 0; --spin) static_cast<void>(returned.load());
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const std::uint64_t promised = returned.load();
    const texts found = look(path);
    REQUIRE(found.size() >= promised);
    REQUIRE(found.size() <= promised + 1);  // the last append may have been whole without having returned
    for (std::size_t i = 0; i < found.size(); ++i)
      if (found[i] != record_number(i)) FAIL("record " << i << " of " << found.size() << " differs in round " << round);
  }
  ::munmap(shared, 4096);
}

}  // namespace journal_test
