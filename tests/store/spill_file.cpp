#include "catch.hpp"
#include "in_child.hpp"
#include "sanitizers.hpp"
#include "store/flip.hpp"
#include "store/same_bytes.hpp"

#include <cadre/store/detail/spill_file.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace failing_io {

/// The next so many calls of pwritev or preadv in this program fail with `code`.
inline int count = 0, code = EIO;
/// Is called once, before this many further calls of preadv have been made.
inline void (*meanwhile)() = nullptr;
inline int reads_before = 0;

inline ssize_t call(long number, int fd, const iovec* pieces, int n, off_t offset) {
  if (count > 0) {
    --count;
    errno = code;
    return -1;
  }
  return ::syscall(number, fd, pieces, static_cast<long>(n), offset, 0L);
}

}  // namespace failing_io

// Stand before the C library's.
extern "C" ssize_t pwritev(int fd, const iovec* pieces, int n, off_t offset) {
  return failing_io::call(SYS_pwritev, fd, pieces, n, offset);
}
extern "C" ssize_t preadv(int fd, const iovec* pieces, int n, off_t offset) {
  if (failing_io::meanwhile != nullptr && failing_io::reads_before-- == 0)
    std::exchange(failing_io::meanwhile, nullptr)();
  return failing_io::call(SYS_preadv, fd, pieces, n, offset);
}

namespace spill_file_test {

constexpr auto every_number = [](std::uint32_t) { return true; };  // is free

namespace fs = std::filesystem;
using cadre::detail::read_spilled;
using cadre::detail::spill_folder;
using cadre::detail::spill_writer;
using cadre::detail::spilled_place;

constexpr std::size_t KiB = 1024, MiB = 1024 * KiB;
constexpr spill_folder::job_id job{1, 2};
constexpr std::uint32_t slot_3 = 3u << 20;

constexpr std::size_t huge = (with_sanitizer ? 20 : 200) * MiB + 12345;

class folder {
 public:
  folder() {
    std::string name = (fs::temp_directory_path() / "cadre-spill-file-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~folder() { fs::remove_all(path_); }
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

/// Memory at a chosen distance from a multiple of 4096, filled with bytes that differ from one seed to another.
class memory {
 public:
  memory(std::size_t bytes, std::size_t shift, std::uint64_t seed = 0)
      : mapping_(cadre::mapping::anonymous(bytes + shift + 1)), span_(mapping_.data() + shift, bytes) {
    if (seed == 0) return;
    std::byte* const out = span_.data();
    std::uint64_t x = seed * 0x94D049BB133111EB;
    std::size_t i = 0;
    for (; i + 8 <= bytes; i += 8) x = x * 0x9E3779B97F4A7C15 + seed, std::memcpy(out + i, &x, 8);
    for (; i < bytes; ++i) out[i] = static_cast<std::byte>((i * 0x9E3779B97F4A7C15 + x) >> 56);
  }
  std::span<std::byte> span() const { return span_; }
  bool operator==(const memory& other) const { return same_bytes(span_, other.span_); }

 private:
  cadre::mapping mapping_;
  std::span<std::byte> span_;
};

/// Whether an object of `bytes` bytes made from `key` is read back from `place`.
bool reads_back(const spill_folder& spill, const spilled_place& place, std::uint64_t key, std::size_t shift = 0) {
  const memory expected(place.bytes, 0, key), got(place.bytes, shift);
  read_spilled(spill, place, key, got.span());
  return got == expected;
}
spilled_place append(spill_writer& writer, std::uint64_t key, std::size_t bytes, std::size_t shift = 0) {
  const memory object(bytes, shift, key);
  spill_writer::record record{key, object.span()};
  writer.append({&record, 1}, every_number);
  return record.place;
}
bool needs_file(const spill_writer& writer, std::size_t bytes) {
  return writer.needs_file(cadre::detail::spill_header::record(bytes));
}
std::string path_of(const spill_folder& spill, const spilled_place& place) {
  return cadre::detail::spill_file_path(spill, place.file);
}
std::size_t files(const spill_folder& spill) {  // without the lock
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(spill.path()), fs::directory_iterator())) - 1;
}
TEST_CASE("Spilled objects of all sizes are read back, wherever they lie in memory") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3);
  const std::vector<std::size_t> sizes{0,           1,       4047,        4048,           4049,          4095,
                                       4096,        4097,    8192,        64 * KiB,       512 * KiB - 1, 512 * KiB,
                                       3 * MiB + 1, 4 * MiB, 4 * MiB + 1, 8 * MiB + 4096, 9 * MiB - 5};
  std::uint64_t key = 1;
  std::vector<spilled_place> places;
  for (const std::size_t bytes : sizes)
    for (const std::size_t shift : {0u, 8u, 512u}) {
      places.push_back(append(writer, key++, bytes, shift));
      CHECK(places.back().bytes == bytes);
      CHECK(places.back().offset % 4096 == 0);
      CHECK(places.back().file == slot_3);
    }
  CHECK(files(spill) == 1);
  key = 1;
  for (const spilled_place& place : places) {
    INFO(place.bytes << " bytes at " << place.offset);
    CHECK(reads_back(spill, place, key));
    CHECK(reads_back(spill, place, key, 64));
    ++key;
  }
}

TEST_CASE("Many objects share a file up to its limit, a larger one gets a file of its own") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3, MiB);
  const spilled_place a = append(writer, 1, 500 * KiB), big = append(writer, 2, 2 * MiB),
                      b = append(writer, 3, 500 * KiB), c = append(writer, 4, 500 * KiB);
  CHECK(a.file == slot_3);
  CHECK(big.file == slot_3 + 1);
  CHECK(b.file == a.file);
  CHECK(b.offset == 504 * KiB);
  CHECK(c.file == slot_3 + 2);
  CHECK(path_of(spill, c) == spill.path() + "/3-2.spill");
  CHECK(cadre::detail::remove_spill_file(spill, big.file));
  CHECK_FALSE(cadre::detail::remove_spill_file(spill, big.file));
  writer.finish_file();
  CHECK(append(writer, 5, 1).file == slot_3 + 3);
  CHECK(reads_back(spill, b, 3));
  CHECK(reads_back(spill, c, 4));

  spill_writer successor(spill, slot_3);  // of a process that died, in the same slot
  CHECK(append(successor, 6, 1).file == slot_3 + 1);
  successor.finish_file();
  CHECK(append(successor, 7, 1).file == slot_3 + 4);
}

TEST_CASE("An object larger than a file's limit is spilled and read back") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3);
  const spilled_place place = append(writer, 9, huge);
  CHECK(reads_back(spill, place, 9));
}

TEST_CASE("What one process of a job has spilled, another reads") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3);
  const spilled_place mine = append(writer, 1, 700 * KiB);
  std::array<int, 2> theirs{}, leave{};
  REQUIRE(::pipe(theirs.data()) == 0);
  REQUIRE(::pipe(leave.data()) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(leave[1]);
    int code = 1;
    try {
      const spill_folder joined(dir.path(), job);
      spill_writer other(joined, 4u << 20);
      const spilled_place place = append(other, 2, 900 * KiB);
      code = reads_back(joined, mine, 1) && ::write(theirs[1], &place, sizeof place) == sizeof place ? 0 : 2;
      char c = 0;
      if (::read(leave[0], &c, 1) != 0) code = 3;
    } catch (...) {}
    ::_exit(code);
  }
  ::close(theirs[1]);
  ::close(leave[0]);
  spilled_place place;
  const bool told = ::read(theirs[0], &place, sizeof place) == sizeof place;
  CHECK(told);
  if (told) CHECK(reads_back(spill, place, 2));
  ::close(leave[1]);
  ::close(theirs[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
  if (told) CHECK(reads_back(spill, place, 2));  // whoever wrote it has gone
}

TEST_CASE("A spilled object that was changed on the disk is not taken for what was written") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3);
  const std::uint64_t bytes = GENERATE(std::uint64_t{100}, std::uint64_t{10'000}, 5 * MiB + 3);
  const spilled_place first = append(writer, 1, 5000), place = append(writer, 2, bytes), last = append(writer, 3, 5000);
  const std::uint64_t begin = cadre::detail::spill_header::begin_of(bytes);
  for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{9}, std::uint64_t{17}, std::uint64_t{25},
                                 std::uint64_t{33}, std::uint64_t{41}, begin, begin + bytes / 2, begin + bytes - 1}) {
    INFO("byte " << at);
    flip(path_of(spill, place), place.offset + at);
    CHECK_THROWS_AS(reads_back(spill, place, 2), cadre::spill_corrupt);
    CHECK_THROWS_AS(reads_back(spill, place, 2, 8), cadre::spill_corrupt);
    flip(path_of(spill, place), place.offset + at);
    CHECK(reads_back(spill, place, 2));
  }
  CHECK(reads_back(spill, first, 1));
  CHECK(reads_back(spill, last, 3));
  flip(path_of(spill, place), place.offset + begin);
  CHECK_THROWS_WITH(reads_back(spill, place, 2),
                    "[cadre.store.311] the spilled object at offset 12288 of '" + path_of(spill, place) +
                        "' is damaged: the checksum does not match; make the object anew, and check the disk and "
                        "whether other programs write to the folder");
}

TEST_CASE("Another object's place, a file cut short and a missing file are errors that name the file") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3);
  const spilled_place place = append(writer, 1, 9000), other = append(writer, 2, 9000);
  CHECK_THROWS_WITH(reads_back(spill, place, 2), ContainsSubstring("it is another object's"));
  spilled_place wrong = place;
  wrong.bytes = 9001;
  CHECK_THROWS_WITH(reads_back(spill, wrong, 1), ContainsSubstring("it is not of the size and checksum noted"));
  wrong = place;
  wrong.offset += 4096;
  CHECK_THROWS_WITH(reads_back(spill, wrong, 1), ContainsSubstring("there is no header"));
  for (const std::size_t shift : {0u, 8u})
    for (const std::uint64_t size : {other.offset + 11'000, other.offset + 4096, other.offset + 10, other.offset}) {
      fs::resize_file(path_of(spill, other), size);
      CHECK_THROWS_WITH(reads_back(spill, other, 2, shift), ContainsSubstring("its file ends before it does"));
    }
  CHECK(reads_back(spill, place, 1));
  cadre::detail::remove_spill_file(spill, place.file);
  try {
    reads_back(spill, other, 2);
    FAIL("read from a file that is not there");
  } catch (const cadre::spill_corrupt& e) {
    CHECK(e.number() == 311);
    CHECK(e.offset() == other.offset);
    CHECK(e.path() == path_of(spill, other));
    CHECK_THAT(e.what(), ContainsSubstring("its file is gone"));
  }
}

TEST_CASE("A symbolic link in place of a spill file is not followed") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3);
  const spilled_place place = append(writer, 1, 9000);
  fs::rename(path_of(spill, place), dir.path() + "/elsewhere");
  fs::create_symlink(dir.path() + "/elsewhere", path_of(spill, place));
  CHECK_THROWS_WITH(reads_back(spill, place, 1), ContainsSubstring("Too many levels of symbolic links"));
}

TEST_CASE("A failing disk is an error for the object at hand only, and passing failures are none") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3);
  const spilled_place place = append(writer, 1, 9000);
  const std::size_t bytes = GENERATE(std::size_t{5000}, 6 * MiB);
  failing_io::code = EIO;
  failing_io::count = 1;
  CHECK_THROWS_WITH(append(writer, 2, bytes),
                    "[cadre.store.310] cannot write a spilled object of " + std::to_string(bytes) + " bytes, file '" +
                        path_of(spill, place) +
                        "': Input/output error (errno 5); check the disk and its file system (the kernel's log says "
                        "more), or name another as spill_dir");
  CHECK(fs::file_size(path_of(spill, place)) == 4 * 4096);
  failing_io::count = 1;
  CHECK_THROWS_WITH(reads_back(spill, place, 1),
                    ContainsSubstring("[cadre.store.310] cannot read a spilled object of 9000 bytes"));

  failing_io::code = EINTR;
  failing_io::count = 99;
  const spilled_place next = append(writer, 3, bytes);
  CHECK(next.offset == 4 * 4096);
  failing_io::code = EAGAIN;
  failing_io::count = 99;
  CHECK(reads_back(spill, next, 3));
  failing_io::count = 100;
  CHECK_THROWS_AS(append(writer, 4, bytes), cadre::spill_failed);
  failing_io::code = EINVAL;  // a file system with larger blocks: goes through the page cache
  failing_io::count = 1;
  const spilled_place cached = append(writer, 5, bytes);
  failing_io::count = 1;
  CHECK(reads_back(spill, cached, 5));
  CHECK(reads_back(spill, next, 3));
}

TEST_CASE("Several objects go to disk by one call, one behind the other, and are read back each") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3, 2 * MiB);
  for (int round = 0; round < 3; ++round) {  // into the staging memory that was used before
    std::vector<memory> objects;
    std::vector<spill_writer::record> records;
    std::uint64_t key = 1;
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{4048}, std::size_t{4049},
                                    std::size_t{4096}, 100 * KiB + 1, 200 * KiB, std::size_t{1000}})
      objects.emplace_back(bytes, bytes % 64, key++);
    for (std::uint64_t k = 0; k < objects.size(); ++k) records.push_back({k + 1, objects[k].span()});
    writer.append(records, every_number);
    std::uint64_t end = records[0].place.offset;
    for (std::uint64_t k = 0; k < records.size(); ++k) {
      CHECK(records[k].place.file == records[0].place.file);
      CHECK(records[k].place.offset == end);
      CHECK(reads_back(spill, records[k].place, k + 1));
      end += cadre::detail::spill_header::record(records[k].object.size());
    }
    CHECK(end - records[0].place.offset == spill_writer::bytes_of(records));
  }
  CHECK(files(spill) == 1);
}

TEST_CASE("Several objects of a file are read together, up to the first that is not right") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3);
  std::vector<spill_writer::record> records;
  std::uint64_t key = 1;
  for (const std::size_t bytes : {5000u, 0u, 1u, 4048u, 4049u, 100'000u, 1000u}) {
    append(writer, 100, bytes + 1);  // wanted no more
    records.push_back({key, {}, append(writer, key, bytes)});
    ++key;
  }
  const cadre::mapping buffer = cadre::mapping::anonymous(MiB);
  const auto read = [&](std::span<spill_writer::record> wanted) {
    const std::size_t n = read_spilled_together(spill, wanted, {buffer.data(), MiB});
    for (const spill_writer::record& r : wanted.first(n)) {
      const memory expected(r.place.bytes, 0, r.key);
      CHECK(same_bytes(r.object, expected.span()));
    }
    return n;
  };
  const std::span<spill_writer::record> all(records);
  CHECK(read(all) == 7);
  CHECK(read(all.subspan(2, 3)) == 3);
  CHECK(read(all.first(0)) == 0);
  const std::string path = path_of(spill, records[0].place);
  SECTION("a changed bit of an object") {
    flip(path, records[4].place.offset + cadre::detail::spill_block + 4000);
    CHECK(read(all) == 4);
    CHECK(read(all.subspan(4)) == 0);
    CHECK(read(all.subspan(5)) == 2);
  }
  SECTION("a changed bit of a header") {
    flip(path, records[0].place.offset + 20);
    CHECK(read(all) == 0);
  }
  SECTION("another object") {
    records[3].key = 100;
    CHECK(read(all) == 3);
  }
  SECTION("a file that ends before") {
    fs::resize_file(path, records[6].place.offset);
    CHECK(read(all) == 0);
    CHECK(read(all.first(6)) == 6);
  }
  SECTION("a failing disk, and a file that is gone") {
    failing_io::count = 1;
    failing_io::code = EIO;
    CHECK(read(all) == 0);
    CHECK(read(all) == 7);
    fs::remove(path);
    CHECK(read(all) == 0);
  }
}

TEST_CASE("Of several objects that cannot be written none is, and the file is as it was") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3);
  const spilled_place first = append(writer, 1, 9000);
  const memory a(20'000, 0, 2), b(1000, 0, 3);
  spill_writer::record records[] = {{2, a.span()}, {3, b.span()}};
  failing_io::count = 1;
  failing_io::code = ENOSPC;
  CHECK_THROWS_WITH(writer.append(records, every_number),
                    ContainsSubstring("cannot write a spilled object of 20000 bytes"));
  failing_io::count = 0;
  CHECK(fs::file_size(path_of(spill, first)) == cadre::detail::spill_header::record(9000));
  writer.append(records, every_number);
  CHECK(reads_back(spill, first, 1));
  CHECK(reads_back(spill, records[0].place, 2));
  CHECK(reads_back(spill, records[1].place, 3));
}

TEST_CASE("A dead file is written over under another number, and what it held is found no more") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3, MiB);
  CHECK(needs_file(writer, 1));
  CHECK_FALSE(needs_file(writer, MiB));  // gets one of its own
  const spilled_place a = append(writer, 1, 300 * KiB), b = append(writer, 2, 600 * KiB);
  CHECK_FALSE(needs_file(writer, 100 * KiB));
  CHECK(needs_file(writer, 300 * KiB));
  const cadre::file_descriptor file(::open(path_of(spill, a).c_str(), O_RDONLY | O_CLOEXEC));
  writer.write_over(a.file, every_number);
  CHECK_FALSE(needs_file(writer, 300 * KiB));
  const spilled_place c = append(writer, 3, 300 * KiB);
  CHECK(c.file == a.file + 1);
  CHECK(c.offset == 0);
  // What lies behind is of before, and whole, but under the name of none that is looked for.
  spilled_place left = b;
  left.file = c.file;
  CHECK(reads_back(spill, left, 2));
  CHECK_THROWS_WITH(reads_back(spill, left, 5), ContainsSubstring("it is another object's"));
  const spilled_place d = append(writer, 4, 9000);
  CHECK(d.file == c.file);
  CHECK_THROWS_WITH(reads_back(spill, left, 2), ContainsSubstring("it is another object's"));
  struct stat before {
  }, now{};
  REQUIRE(::fstat(file.get(), &before) == 0);
  REQUIRE(::stat(path_of(spill, c).c_str(), &now) == 0);
  CHECK(now.st_ino == before.st_ino);
  CHECK(files(spill) == 1);
  CHECK(reads_back(spill, c, 3));
  CHECK(reads_back(spill, d, 4));
  for (const spilled_place& place : {a, b})
    CHECK_THROWS_WITH(reads_back(spill, place, place.offset == 0 ? 1 : 2), ContainsSubstring("its file is gone"));
}

TEST_CASE("Where a dead file cannot be written over there is a new one, and numbers that are taken are passed over") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3, MiB);
  const spilled_place a = append(writer, 1, 9000);
  cadre::detail::remove_spill_file(spill, a.file);  // by another program
  writer.write_over(a.file, every_number);
  CHECK(files(spill) == 0);
  const spilled_place b = append(writer, 2, 9000);
  CHECK(reads_back(spill, b, 2));
  spill_writer earlier(spill, b.file + 1);  // of a process that died, in the same slot
  const spilled_place theirs = append(earlier, 3, 9000);
  writer.write_over(b.file, every_number);
  const spilled_place c = append(writer, 4, 9000);
  CHECK(c.file == theirs.file + 1);
  CHECK(reads_back(spill, theirs, 3));
  CHECK(reads_back(spill, c, 4));
  // One that cannot be opened goes.
  fs::remove(path_of(spill, c));
  fs::create_symlink(path_of(spill, theirs), path_of(spill, c));
  writer.write_over(c.file, every_number);
  CHECK(files(spill) == 1);
  CHECK(reads_back(spill, append(writer, 5, 9000), 5));
  CHECK(reads_back(spill, theirs, 3));
}

TEST_CASE("Who reads an object of a file that is written over at this moment is told so, and gets no other's bytes") {
  static spill_writer* writer = nullptr;
  static std::uint32_t dead = 0;
  static std::size_t size = 0;
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer mine(spill, slot_3);
  writer = &mine;
  size = GENERATE(std::size_t{100}, std::size_t{20'000}, 6 * MiB);
  const std::size_t shift = GENERATE(std::size_t{0}, std::size_t{8});
  const spilled_place place = append(mine, 1, size);
  dead = place.file;
  failing_io::meanwhile = [] {
    writer->write_over(dead, every_number);
    append(*writer, 2, size);
  };
  SECTION("before it begins to read") {
    failing_io::reads_before = 0;
    CHECK_THROWS_WITH(reads_back(spill, place, 1, shift), ContainsSubstring("it is another object's"));
  }
  SECTION("before it begins to read, and with what bears the same key") {
    failing_io::reads_before = 0;
    failing_io::meanwhile = [] {
      writer->write_over(dead, every_number);
      const memory other(size, 0, 2);
      spill_writer::record record{1, other.span()};
      writer->append({&record, 1}, every_number);
    };
    CHECK_THROWS_WITH(reads_back(spill, place, 1, shift),
                      ContainsSubstring("it is not of the size and checksum noted"));
  }
  if (size == 6 * MiB) {
    SECTION("when it has read a part") {
      failing_io::reads_before = 3;
      CHECK_THROWS_WITH(reads_back(spill, place, 1, shift), ContainsSubstring("the checksum does not match"));
    }
  }
  CHECK((failing_io::meanwhile == nullptr || failing_io::reads_before == 3));
  failing_io::meanwhile = nullptr;
}

TEST_CASE("Readers get whole objects while the files before are written over again and again") {
  folder dir;
  const spill_folder spill(dir.path(), job);
  spill_writer writer(spill, slot_3, 400 * KiB);
  constexpr std::size_t size = 100 * KiB;
  std::mutex mutex;  // stands for the lock of the store
  spilled_place published = append(writer, 1, size);
  std::uint64_t key = 1;
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0}, right{0};
  std::thread reader([&] {
    while (!done) {
      spilled_place place;
      std::uint64_t wanted = 0;
      {
        const std::lock_guard lock(mutex);
        place = published;
        wanted = key;
      }
      try {
        reads_back(spill, place, wanted) ? ++right : ++wrong;
      } catch (const cadre::spill_corrupt&) {
        const std::lock_guard lock(mutex);
        if (published.file == place.file) ++wrong;  // else it comes too late
      }
    }
  });
  constexpr std::uint32_t none = ~std::uint32_t{0};
  std::uint32_t before = none;
  for (std::uint64_t k = 2; k < 400; ++k) {
    if (needs_file(writer, size)) {
      const std::uint32_t full = writer.current_file();
      if (before != none) writer.write_over(before, every_number);
      before = full;
    }
    const spilled_place place = append(writer, k, size);
    const std::lock_guard lock(mutex);
    published = place;
    key = k;
  }
  while (right == 0) std::this_thread::yield();
  done = true;
  reader.join();
  CHECK(wrong == 0);
  CHECK(files(spill) == 2);
}

/// 0 if `code` is the cause for which an object of `bytes` bytes cannot be written.
int refused(spill_writer& writer, std::size_t bytes, int code) {
  try {
    append(writer, 99, bytes);
    return 1;
  } catch (const cadre::spill_failed& e) {
    return e.number() == 310 && e.code() == code && e.bytes() == bytes && !e.path().empty() ? 0 : 2;
  }
}

TEST_CASE("A full disk is an error, what was spilled before stays, and spilling goes on once there is space") {
  folder dir;
  const int code = in_child([&] {
    if (!own_mounts() || ::mount("cadre", dir.path().c_str(), "tmpfs", 0, "size=8m") != 0) return 77;
    const spill_folder spill(dir.path(), job);
    spill_writer writer(spill, slot_3, 6 * MiB);
    const spilled_place first = append(writer, 1, 3 * MiB), second = append(writer, 2, 10'000);
    writer.finish_file();
    const spilled_place third = append(writer, 3, 3 * MiB);
    if (const int result = refused(writer, 2 * MiB, ENOSPC)) return result;
    if (fs::file_size(path_of(spill, third)) != 3 * MiB + 4 * KiB) return 7;
    const spilled_place behind = append(writer, 6, 64 * KiB);  // where the refused one was cut off
    if (behind.file != third.file || behind.offset != 3 * MiB + 4 * KiB || !reads_back(spill, behind, 6)) return 6;
    const auto used = [&] { return fs::space(dir.path()).available; };
    const auto before = used();
    // Small and large, in a shared file and in one of its own, from aligned memory and not.
    for (const std::size_t bytes : {2 * MiB, 5 * MiB, 7 * MiB})
      if (const int result = refused(writer, bytes, ENOSPC)) return result;
    if (used() != before || files(spill) != 2) return 3;
    if (!reads_back(spill, first, 1) || !reads_back(spill, second, 2) || !reads_back(spill, third, 3)) return 4;
    cadre::detail::remove_spill_file(spill, first.file);
    const spilled_place fourth = append(writer, 4, 2 * MiB);
    return reads_back(spill, fourth, 4) && reads_back(spill, third, 3) ? 0 : 5;
  });
  if (code == 77)
    WARN("skipped: needs the right to mount a file system");
  else
    CHECK(code == 0);
}

TEST_CASE("A file system that has no direct access holds spilled objects as well") {
  folder dir;
  const int code = in_child([&] {
    if (!own_mounts() || ::mount("cadre", dir.path().c_str(), "ramfs", 0, nullptr) != 0) return 77;
    ::chmod(dir.path().c_str(), 0700);
    const spill_folder spill(dir.path(), job);
    if (::open((spill.path() + "/lock").c_str(), O_RDWR | O_DIRECT) != -1) return 1;
    spill_writer writer(spill, slot_3);
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{5000}, MiB, 6 * MiB})
      if (!reads_back(spill, append(writer, bytes + 1, bytes), bytes + 1)) return 2;
    return files(spill) == 1 ? 0 : 3;
  });
  if (code == 77)
    WARN("skipped: needs the right to mount a file system");
  else
    CHECK(code == 0);
}

TEST_CASE("A file beyond the limit on file sizes is an error, and a smaller object still finds room") {
  folder dir;
  const int code = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1'000'100, 1'000'100};  // within a block
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const spill_folder spill(dir.path(), job);
    spill_writer writer(spill, slot_3);
    const spilled_place first = append(writer, 1, 400 * KiB);
    for (const std::size_t bytes : {MiB, 600 * KiB, 6 * MiB})
      if (const int result = refused(writer, bytes, EFBIG)) return result;
    const spilled_place second = append(writer, 2, 400 * KiB);
    return second.file == first.file && reads_back(spill, first, 1) && reads_back(spill, second, 2) ? 0 : 3;
  });
  CHECK(code == 0);
}

}  // namespace spill_file_test
