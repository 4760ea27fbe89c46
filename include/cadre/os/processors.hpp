#ifndef CADRE_OS_PROCESSORS_HPP
#define CADRE_OS_PROCESSORS_HPP

#include <cadre/os/detail/cgroup.hpp>

#include <sched.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace detail {

inline std::size_t processors_of_quota(std::int64_t quota, std::int64_t period) {
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<std::size_t>((quota - 1) / period + 1);
}

/// Processors that a cgroup v2 "cpu.max" grants ("150000 100000" is 1.5, so 2); 0 for "max", no limit, or anything else.
[[gnu::cold]] inline std::size_t parse_cpu_max(std::string_view text) {
  std::int64_t quota = 0;
  std::int64_t period = 100000;
  const std::string_view first = split_off(text, ' ');
  if (!parse_integer(first, quota)) return 0;
  static_cast<void>(parse_integer(text, period));  // the kernel's default if it is not there
  return processors_of_quota(quota, period);
}

/// What the group in `folder` grants itself; 0 if nothing is said. `folder` comes back as it was.
[[gnu::cold]] inline std::size_t cgroup_quota(std::string& folder, bool unified) {
  if (unified) return parse_cpu_max(read_cgroup_file(folder, "/cpu.max"));
  std::int64_t quota = 0;
  std::int64_t period = 0;
  if (!parse_integer(read_cgroup_file(folder, "/cpu.cfs_quota_us"), quota) ||
      !parse_integer(read_cgroup_file(folder, "/cpu.cfs_period_us"), period))
    return 0;
  return processors_of_quota(quota, period);
}

}  // namespace detail

/// Processors that the cgroup quotas around this process grant, rounded up: the least of its own group and of all above,
/// for version 1 and 2. 0 if there is no limit. `root` stands before every path read, for tests.
[[nodiscard, gnu::cold]] inline std::size_t cgroup_processors(std::string_view root = {}) {
  std::size_t least = 0;
  detail::for_each_cgroup(root, "cpu", [&least](std::string& folder, bool unified) {
    const std::size_t granted = detail::cgroup_quota(folder, unified);
    if (granted != 0 && (least == 0 || granted < least)) least = granted;
  });
  return least;
}

/// Processors that the calling thread's affinity mask allows (`taskset`, cpusets); at least 1.
[[nodiscard, gnu::cold]] inline std::size_t affinity_processors() {
  cpu_set_t mask[64];  // room for 65,536: the kernel refuses a mask that is too narrow for it
  if (::sched_getaffinity(0, sizeof mask, mask) != 0) return 1;
  const int count = CPU_COUNT_S(sizeof mask, mask);
  return count > 1 ? static_cast<std::size_t>(count) : 1;
}

/// How many threads can run at once: affinity mask and cgroup quota, at least 1.
[[nodiscard]] inline std::size_t usable_processors() {
  const std::size_t by_mask = affinity_processors();
  const std::size_t by_quota = cgroup_processors();
  return by_quota != 0 && by_quota < by_mask ? by_quota : by_mask;
}

CADRE_NAMESPACE_END

#endif
