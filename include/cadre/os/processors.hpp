#ifndef CADRE_OS_PROCESSORS_HPP
#define CADRE_OS_PROCESSORS_HPP

#include <cadre/config/config.hpp>

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

// The start of a small file of /proc or /sys; empty if it cannot be read.
[[gnu::cold]] inline std::string read_small_file(const std::string& path) {
  std::string text;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char buffer[4096];
  for (;;) {
    const ::ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(fd);
  return text;
}

// Up to the separator; `text` keeps what is behind it.
inline std::string_view split_off(std::string_view& text, char separator) {
  const std::size_t at = text.find(separator);
  const std::string_view part = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return part;
}

inline bool parse_integer(std::string_view text, std::int64_t& value) {
  return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc();
}

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

/// Where this process stands in the hierarchy of the cpu controller, out of /proc/self/cgroup.
struct cgroup_place {
  bool found = false;
  bool unified = false;  // version 2
  std::string path;      // "/" or "/a/b"
};
[[gnu::cold]] inline cgroup_place parse_cgroup(std::string_view text) {
  cgroup_place unified;
  while (!text.empty()) {
    std::string_view line = split_off(text, '\n');
    const std::string_view id = split_off(line, ':');
    std::string_view controllers = split_off(line, ':');
    if (id == "0" && controllers.empty()) {
      unified = {true, true, std::string(line)};
      continue;
    }
    while (!controllers.empty())
      if (split_off(controllers, ',') == "cpu") return {true, false, std::string(line)};
  }
  return unified;
}

/// Where a hierarchy is mounted, and which of its folders is seen there, out of /proc/self/mountinfo.
struct cgroup_mount {
  std::string point;
  std::string root;
};
[[gnu::cold]] inline std::vector<cgroup_mount> parse_mounts(std::string_view text, bool unified) {
  std::vector<cgroup_mount> mounts;
  while (!text.empty()) {
    // id parent device root point options [optional...] - type source super-options
    std::string_view line = split_off(text, '\n');
    const std::size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    std::string_view tail = line.substr(dash + 3);
    const std::string_view type = split_off(tail, ' ');
    split_off(tail, ' ');
    if (unified ? type != "cgroup2" : type != "cgroup") continue;
    bool has_cpu = unified;
    while (!has_cpu && !tail.empty()) has_cpu = split_off(tail, ',') == "cpu";
    if (!has_cpu) continue;
    for (int skip = 0; skip < 3; ++skip) split_off(line, ' ');
    const std::string_view root = split_off(line, ' ');
    mounts.push_back({std::string(split_off(line, ' ')), std::string(root)});
  }
  return mounts;
}

}  // namespace detail

/// Processors that the cgroup quotas around this process grant, rounded up: the least of its own group and of all above,
/// for version 1 and 2. 0 if there is no limit. `root` stands before every path read, for tests.
[[nodiscard, gnu::cold]] inline std::size_t cgroup_processors(const std::string& root = "") {
  const detail::cgroup_place place = detail::parse_cgroup(detail::read_small_file(root + "/proc/self/cgroup"));
  if (!place.found) return 0;
  std::size_t least = 0;
  for (const detail::cgroup_mount& mount :
       detail::parse_mounts(detail::read_small_file(root + "/proc/self/mountinfo"), place.unified)) {
    // In a container the mount often shows the group itself as its root.
    std::string path = place.path;
    if (mount.root != "/" && (path + '/').starts_with(mount.root + '/')) path.erase(0, mount.root.size());
    if (path == "/") path.clear();
    for (;;) {
      const std::string folder = root + mount.point + path;
      std::size_t granted = 0;
      if (place.unified) {
        granted = detail::parse_cpu_max(detail::read_small_file(folder + "/cpu.max"));
      } else {
        std::int64_t quota = 0;
        std::int64_t period = 0;
        if (detail::parse_integer(detail::read_small_file(folder + "/cpu.cfs_quota_us"), quota) &&
            detail::parse_integer(detail::read_small_file(folder + "/cpu.cfs_period_us"), period))
          granted = detail::processors_of_quota(quota, period);
      }
      if (granted != 0 && (least == 0 || granted < least)) least = granted;
      if (path.empty()) break;
      path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return least;
}

/// Processors that the calling thread's affinity mask allows (`taskset`, cpusets); at least 1.
[[nodiscard, gnu::cold]] inline std::size_t affinity_processors() {
  // The mask may be wider than cpu_set_t on large machines: EINVAL asks for more room.
  for (std::size_t sets = 1; sets <= 64; sets *= 2) {
    std::vector<cpu_set_t> mask(sets);
    const std::size_t bytes = sets * sizeof(cpu_set_t);
    if (::sched_getaffinity(0, bytes, mask.data()) == 0) {
      const int count = CPU_COUNT_S(bytes, mask.data());
      return count > 1 ? static_cast<std::size_t>(count) : 1;
    }
    if (errno != EINVAL) break;
  }
  return 1;
}

/// How many threads can run at once: affinity mask and cgroup quota, at least 1.
[[nodiscard]] inline std::size_t usable_processors() {
  const std::size_t by_mask = affinity_processors();
  const std::size_t by_quota = cgroup_processors();
  return by_quota != 0 && by_quota < by_mask ? by_quota : by_mask;
}

CADRE_NAMESPACE_END

#endif
