#include "catch.hpp"
#include "os/made_up_root.hpp"

#include <cadre/os/memory_limit.hpp>

#include <stdlib.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>

namespace memory_limit_test {

class tree : public made_up_root {
 public:
  tree& file(const std::string& path, const std::string& text) {
    made_up_root::file(path, text);
    return *this;
  }
  [[nodiscard]] std::size_t limit() const { return cadre::cgroup_memory_limit(path()); }
  [[nodiscard]] std::size_t usable() const { return cadre::usable_memory(path()); }
  [[nodiscard]] std::size_t headroom() const { return cadre::memory_headroom(path()); }
};

const std::string meminfo =
    "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\nSwapTotal: 0 kB\n";
constexpr std::size_t available = 8000 * 1024;

/// Version 2, with this process in the group /job/task.
void unify(tree& t) {
  t.file("/proc/self/cgroup", "0::/job/task\n")
      .file("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n")
      .file("/proc/meminfo", meminfo);
}

}  // namespace memory_limit_test

TEST_CASE("The memory limit of cgroup version 2 counts, and so do those of the groups above", "[memory_limit]") {
  memory_limit_test::tree t;
  memory_limit_test::unify(t);
  CHECK(t.limit() == 0);
  CHECK(t.usable() == cadre::physical_memory());
  t.file("/sys/fs/cgroup/job/task/memory.max", "max\n");
  CHECK(t.limit() == 0);
  t.file("/sys/fs/cgroup/job/memory.max", "1073741824\n");
  CHECK(t.limit() == 1073741824);
  t.file("/sys/fs/cgroup/job/task/memory.max", "2147483648\n");
  CHECK(t.limit() == 1073741824);
  t.file("/sys/fs/cgroup/job/task/memory.max", "536870912\n");
  CHECK(t.limit() == 536870912);
  CHECK(t.usable() == 536870912);
  t.file("/sys/fs/cgroup/job/memory.max", "1125899906842624\n").file("/sys/fs/cgroup/job/task/memory.max", "max\n");
  CHECK(t.usable() == cadre::physical_memory());  // a limit above what there is
}

TEST_CASE("The memory limit of cgroup version 1 counts, and its huge number is no limit", "[memory_limit]") {
  memory_limit_test::tree t;
  t.file("/proc/self/cgroup", "5:memory:/job\n4:cpu:/elsewhere\n0::/\n")
      .file("/proc/self/mountinfo",
            "40 30 0:36 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
            "41 30 0:37 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            "42 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n")
      .file("/proc/meminfo", memory_limit_test::meminfo)
      .file("/sys/fs/cgroup/cpu/elsewhere/memory.limit_in_bytes", "1\n")
      .file("/sys/fs/cgroup/unified/memory.max", "1\n")
      .file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
      .file("/sys/fs/cgroup/memory/memory.usage_in_bytes", "123456789\n")
      .file("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n")
      .file("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "3000000\n");
  CHECK(t.limit() == 0);
  CHECK(t.headroom() == memory_limit_test::available);
  t.file("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "5000000\n");
  CHECK(t.limit() == 5000000);
  CHECK(t.headroom() == 2000000);
  // What the group itself holds, and what it holds together with those below it.
  t.file("/sys/fs/cgroup/memory/job/memory.stat", "cache 7\ninactive_file 10\ntotal_inactive_file 500000\n");
  CHECK(t.headroom() == 2500000);
}

TEST_CASE("The headroom is what the machine or the tightest group has left", "[memory_limit]") {
  memory_limit_test::tree t;
  memory_limit_test::unify(t);
  CHECK(t.headroom() == memory_limit_test::available);
  t.file("/sys/fs/cgroup/job/memory.max", "6000000\n").file("/sys/fs/cgroup/job/memory.current", "2000000\n");
  CHECK(t.headroom() == 4000000);
  t.file("/sys/fs/cgroup/job/memory.stat", "anon 100\nfile 9\nactive_file 300000\ninactive_file 500000\nslab 1\n");
  CHECK(t.headroom() == 4500000);
  t.file("/sys/fs/cgroup/job/task/memory.max", "1000000\n").file("/sys/fs/cgroup/job/task/memory.current", "400000\n");
  CHECK(t.headroom() == 600000);
  // The group above is full although the own one is not.
  t.file("/sys/fs/cgroup/job/memory.current", "6499000\n");
  CHECK(t.headroom() == 1000);
  t.file("/sys/fs/cgroup/job/memory.current", "7000000\n");
  CHECK(t.headroom() == 0);
  // The files are read one after another, so they need not fit one another.
  t.file("/sys/fs/cgroup/job/memory.current", "100\n");
  CHECK(t.headroom() == 600000);
  t.file("/sys/fs/cgroup/job/task/memory.max", "0\n");
  CHECK(t.headroom() == 0);
}

TEST_CASE("Without cgroups, or with files that make no sense, the machine is the only limit", "[memory_limit]") {
  memory_limit_test::tree t;
  CHECK(t.limit() == 0);
  CHECK(t.headroom() == cadre::physical_memory());
  t.file("/proc/meminfo", "MemAvailable: much\n");
  CHECK(t.headroom() == cadre::physical_memory());
  memory_limit_test::unify(t);
  t.file("/sys/fs/cgroup/job/memory.max", "rubbish\n").file("/sys/fs/cgroup/job/memory.current", "more\n");
  CHECK(t.limit() == 0);
  CHECK(t.headroom() == memory_limit_test::available);
  // A limit of which nothing more is known.
  t.file("/sys/fs/cgroup/job/memory.max", "1000\n");
  CHECK(t.headroom() == 1000);
}

TEST_CASE("This machine has memory, and not more of it is free than there is", "[memory_limit]") {
  const std::size_t all = cadre::physical_memory(), free = cadre::memory_headroom();
  CHECK(all >= std::size_t{64} << 20);
  CHECK(all < std::size_t{1} << 50);
  CHECK(free > 0);
  CHECK(free <= all);
  const std::size_t limit = cadre::cgroup_memory_limit();
  CHECK((limit == 0 || free <= limit));
}
