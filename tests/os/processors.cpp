#include "catch.hpp"
#include "os/made_up_root.hpp"

#include <cadre/os/processors.hpp>

#include <sched.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace processors_test {

class tree : public made_up_root {
 public:
  tree& file(const std::string& path, const std::string& text) {
    made_up_root::file(path, text);
    return *this;
  }
  [[nodiscard]] std::size_t processors() const { return cadre::cgroup_processors(path()); }
};

const std::string v2_mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

}  // namespace processors_test

TEST_CASE("a cgroup quota is rounded up to whole processors", "[processors]") {
  using cadre::detail::parse_cpu_max;
  CHECK(parse_cpu_max("max 100000\n") == 0);
  CHECK(parse_cpu_max("100000 100000\n") == 1);
  CHECK(parse_cpu_max("150000 100000\n") == 2);
  CHECK(parse_cpu_max("1000 100000\n") == 1);
  CHECK(parse_cpu_max("400000\n") == 4);
  CHECK(parse_cpu_max("") == 0);
  CHECK(parse_cpu_max("nonsense") == 0);
  CHECK(parse_cpu_max("-1 100000") == 0);
  CHECK(parse_cpu_max("5 0") == 0);
  CHECK(parse_cpu_max("9223372036854775807 1") == 9223372036854775807u);
}

TEST_CASE("the quota of cgroup version 2 counts, and so do those of the groups above", "[processors]") {
  processors_test::tree t;
  t.file("/proc/self/cgroup", "0::/job/task\n").file("/proc/self/mountinfo", processors_test::v2_mount);
  CHECK(t.processors() == 0);
  t.file("/sys/fs/cgroup/job/task/cpu.max", "max 100000\n");
  CHECK(t.processors() == 0);
  t.file("/sys/fs/cgroup/job/cpu.max", "250000 100000\n");
  CHECK(t.processors() == 3);
  t.file("/sys/fs/cgroup/job/task/cpu.max", "50000 100000\n");
  CHECK(t.processors() == 1);
}

TEST_CASE("in a container the mount shows the group as its root", "[processors]") {
  processors_test::tree t;
  t.file("/proc/self/cgroup", "0::/docker/abc\n")
      .file("/proc/self/mountinfo", "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n")
      .file("/sys/fs/cgroup/cpu.max", "200000 100000\n");
  CHECK(t.processors() == 2);
  // A group whose name only begins like that of the mount's is not inside of it.
  t.file("/proc/self/cgroup", "0::/docker/abc2\n").file("/sys/fs/cgroup2/cpu.max", "100000 100000\n");
  CHECK(t.processors() == 2);
}

TEST_CASE("the quota of cgroup version 1 counts", "[processors]") {
  processors_test::tree t;
  t.file("/proc/self/cgroup", "5:memory:/m\n4:cpuacct,cpu:/docker/abc\n0::/\n")
      .file("/proc/self/mountinfo",
            "40 30 0:36 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            "41 30 0:37 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
                processors_test::v2_mount)
      .file("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n")
      .file("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
  CHECK(t.processors() == 0);
  t.file("/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "110000\n")
      .file("/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "50000\n");
  CHECK(t.processors() == 3);
}

TEST_CASE("without cgroups, or with files that make no sense, there is no limit", "[processors]") {
  processors_test::tree t;
  CHECK(t.processors() == 0);
  t.file("/proc/self/cgroup", "rubbish\n\n::\n").file("/proc/self/mountinfo", "1 2 3\n - \n - cgroup2\n");
  CHECK(t.processors() == 0);
  t.file("/proc/self/cgroup", "0::/a/../..//x\n")
      .file("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 c rw\n");
  CHECK(t.processors() == 0);
}

TEST_CASE("a thread bound to one processor counts one", "[processors]") {
  cpu_set_t before;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  CHECK(cadre::affinity_processors() == static_cast<std::size_t>(CPU_COUNT(&before)));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &before)) {
      CPU_SET(i, &one);
      break;
    }
  REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(cadre::affinity_processors() == 1);
  CHECK(cadre::usable_processors() == 1);
  REQUIRE(::sched_setaffinity(0, sizeof before, &before) == 0);
}

TEST_CASE("there is always at least one processor", "[processors]") { CHECK(cadre::usable_processors() >= 1); }
