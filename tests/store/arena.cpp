#include "catch.hpp"
#include "text_of.hpp"

#include <cadre/store/detail/arena.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

namespace arena_test {

using cadre::detail::arena;
using cadre::detail::extent_bytes;
constexpr std::uint64_t mib = std::uint64_t{1} << 20;

/// Another opening of the same memory, as another process has it.
cadre::file_descriptor again(const arena& a) {
  return cadre::file_descriptor(
      ::open(("/proc/self/fd/" + std::to_string(a.file().get())).c_str(), O_RDWR | O_CLOEXEC));
}
#ifdef CADRE_TSAN  // whose shadow leaves no addresses for two mappings of 1 TiB; 128 GiB are more than a machine here has
constexpr std::uint64_t most = std::uint64_t{1} << 37;
#else
constexpr std::uint64_t most = std::uint64_t{1} << 40;
#endif

/// Memory that the system has given.
std::uint64_t taken(const arena& a) {
  struct stat status {};
  ::fstat(a.file().get(), &status);
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

}  // namespace arena_test

TEST_CASE("A store's memory is seen alike through all mappings of it", "[store][arena]") {
  using namespace arena_test;
  arena a = arena::make(8 * mib, 512);
  arena b = arena::open(again(a));
  CHECK(&a.head() != &b.head());
  CHECK(b.head().capacity == 8 * mib);
  CHECK(b.head().most_objects == 512);
  CHECK(b.head().id[0] == a.head().id[0]);
  a.make_present(0, 100);
  std::memcpy(a.data(), "text", 5);
  CHECK(std::memcmp(a.data_to_read(), "text", 5) == 0);
  CHECK(std::memcmp(b.data_to_read(), "text", 5) == 0);
  CHECK(arena::is(b.file(), a.head().id));
}

TEST_CASE("Two stores have different numbers", "[store][arena]") {
  using namespace arena_test;
  const arena a = arena::make(2 * mib, 512), b = arena::make(2 * mib, 512);
  CHECK_FALSE(arena::is(a.file(), b.head().id));
  CHECK_FALSE(arena::is(cadre::file_descriptor(), b.head().id));
}

TEST_CASE("The parts of a store's memory do not overlap, and its data begin at a huge page", "[store][arena]") {
  using namespace arena_test;
  for (const std::uint64_t capacity : {2 * mib, 64 * mib, most}) {
    const arena a = arena::make(capacity, 1024);
    const cadre::detail::store_parts& p = a.head().parts;
    CHECK(p.slots >= sizeof(cadre::detail::store_header));
    CHECK(p.entries - p.slots >= 512 * sizeof(cadre::detail::process_slot));
    CHECK(p.holders_above - p.entries >= 1024 * sizeof(cadre::detail::object_entry));
    CHECK(p.counts - p.holders_above >= 1024 * 8 * sizeof(std::uint64_t));
    CHECK(p.tickets - p.counts >= 512 * 1024 * sizeof(cadre::detail::hold_count));
    CHECK(p.labels - p.tickets >= 1024 * sizeof(cadre::detail::transfer_ticket));
    CHECK(p.buckets - p.labels >= cadre::detail::most_labels * sizeof(cadre::detail::store_label));
    CHECK(p.allocator - p.buckets >= 1024 * sizeof(std::uint32_t));
    CHECK(p.present - p.allocator >= cadre::detail::block_allocator::state_bytes(capacity));
    CHECK(p.data - p.present >= capacity / extent_bytes / 8);
    CHECK(p.all - p.data == capacity);
    CHECK(reinterpret_cast<std::uintptr_t>(a.data()) % extent_bytes == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(a.data_to_read()) % extent_bytes == 0);
    CHECK(taken(a) < 4 * mib);  // what is never touched costs nothing
  }
}

TEST_CASE("Nobody can cut off or lengthen the memory that others have mapped", "[store][arena]") {
  using namespace arena_test;
  const arena a = arena::make(2 * mib, 512);
  CHECK(::ftruncate(a.file().get(), 4096) == -1);
  CHECK(errno == EPERM);
  CHECK(::ftruncate(a.file().get(), static_cast<off_t>(a.head().parts.all + 4096)) == -1);
  CHECK(::fcntl(a.file().get(), F_ADD_SEALS, F_SEAL_WRITE) == -1);
  CHECK((::fcntl(a.file().get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("Memory is present before it is touched, by whole huge pages", "[store][arena]") {
  using namespace arena_test;
  arena a = arena::make(16 * mib, 512);
  const std::uint64_t before = taken(a);
  const auto present = [&] { return a.head().present_extents.load(); };
  a.make_present(0, 0);
  CHECK(present() == 0);
  a.make_present(2 * mib - 1, 1);
  CHECK(present() == 1);
  a.make_present(2 * mib - 1, 2);
  CHECK(present() == 2);
  a.make_present(0, 4 * mib);  // is there already
  CHECK(present() == 2);
  a.make_present(6 * mib, 2 * mib);
  a.make_present(3 * mib, 13 * mib);  // with a hole that is present
  CHECK(present() == 8);
  CHECK(taken(a) - before >= 16 * mib);
  CHECK(taken(a) - before <= 18 * mib);
  a.head().present_extents = 0;
  a.count_present();
  CHECK(present() == 8);
}

TEST_CASE("Only whole huge pages of what is free go back to the system, and read as zero afterwards",
          "[store][arena]") {
  using namespace arena_test;
  arena a = arena::make(16 * mib, 512);
  a.make_present(0, 16 * mib);
  std::memset(a.data(), 7, 16 * mib);
  const std::uint64_t full = taken(a);
  a.give_back(1, 2 * mib);  // holds no whole one
  CHECK(a.head().present_extents == 8);
  CHECK(taken(a) == full);
  a.give_back(1, 6 * mib - 1);
  CHECK(a.head().present_extents == 6);
  CHECK(full - taken(a) == 4 * mib);
  CHECK(a.data_to_read()[2 * mib - 1] == std::byte{7});
  CHECK(a.data_to_read()[2 * mib] == std::byte{0});
  CHECK(a.data_to_read()[6 * mib] == std::byte{7});
  a.give_back(2 * mib, 4 * mib);  // nothing is counted twice
  CHECK(a.head().present_extents == 6);
  a.make_present(0, 16 * mib);
  CHECK(a.head().present_extents == 8);
}

TEST_CASE("The counts of a slot are zeroed, and nobody else's", "[store][arena]") {
  using namespace arena_test;
  arena a = arena::make(2 * mib, 512);
  for (std::uint32_t s = 0; s < 3; ++s)
    for (const std::uint32_t i : {0u, 511u}) a.counts(s)[i] = s + 1;
  a.clear_counts(1);
  for (const std::uint32_t i : {0u, 511u}) {
    CHECK(a.counts(0)[i] == 1);
    CHECK(a.counts(1)[i] == 0);
    CHECK(a.counts(2)[i] == 3);
  }
}

TEST_CASE("Memory that is no store's, or another version's, is refused with the reason", "[store][arena]") {
  using namespace arena_test;
  const auto opening = [](cadre::file_descriptor file) {
    return text_of<cadre::store_unreachable>([&] { static_cast<void>(arena::open(std::move(file))); });
  };
  const std::string none = "[cadre.store.309] what should be a store's memory is none";
  CHECK(opening(cadre::file_descriptor()) == none);
  CHECK(opening(cadre::make_memory_file("cadre-test", 100)) == none);
  CHECK(opening(cadre::make_memory_file("cadre-test", 1 << 20)) == none);
  {
    const arena a = arena::make(2 * mib, 512);
    a.head().version = 99;
    CHECK(opening(again(a)) == "[cadre.store.309] the store was made by a cadre of layout version 99, this one has " +
                                   std::to_string(cadre::detail::store_layout_version) +
                                   ": compile all programs of the job with the same cadre");
  }
  const arena a = arena::make(2 * mib, 512);
  a.head().parts.all += 4096;
  CHECK(opening(again(a)) == "[cadre.store.309] the store's memory has another size than it says");
}

TEST_CASE("Where files may not be as large as a store needs, that is an error and no signal", "[store][arena]") {
  using namespace arena_test;
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit limit{1 << 20, RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string text = text_of<cadre::mapping_error>([] { static_cast<void>(arena::make(2 * mib, 512)); });
    ::_exit(text.starts_with("[cadre.os.159] a store needs a file in memory of ") &&
                    text.find("(most of it never touched); raise ulimit -f") != std::string::npos
                ? 0
                : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("More memory than the machine has left is an error before it is touched", "[store][arena]") {
  using namespace arena_test;
  arena a = arena::make(most, 512);
  const std::string text = text_of<cadre::mapping_error>([&] { a.make_present(0, most); });
  CHECK_THAT(text, ContainsSubstring("[cadre.os.159] asked for " + std::to_string(most / mib) + " MiB, "));
  CHECK_THAT(text, ContainsSubstring(" MiB are left to this machine or cgroup: Cannot allocate memory"));
  CHECK(a.head().present_extents == 0);
  a.make_present(0, 1);  // and what there is can be had still
  CHECK(a.head().present_extents == 1);
}
