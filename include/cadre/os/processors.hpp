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

CADRE_NAMESPACE_BEGIN

namespace detail {

// A file of /proc or /sys; empty if it cannot be read.
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
[[gnu::noinline]] inline std::string_view split_off(std::string_view& text, char separator) {
  const std::size_t at = text.find(separator);
  const std::string_view part = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return part;
}
inline bool has_entry(std::string_view list, std::string_view name) {
  while (!list.empty())
    if (split_off(list, ',') == name) return true;
  return false;
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
  bool unified = false;   // version 2
  std::string_view path;  // "/" or "/a/b"; empty if there is none
};
[[gnu::cold]] inline cgroup_place parse_cgroup(std::string_view text) {
  cgroup_place unified;
  while (!text.empty()) {
    std::string_view line = split_off(text, '\n');
    const std::string_view id = split_off(line, ':');
    const std::string_view controllers = split_off(line, ':');
    if (id == "0" && controllers.empty())
      unified = {true, line};
    else if (has_entry(controllers, "cpu"))
      return {false, line};
  }
  return unified;
}

/// Where a hierarchy is mounted, and which of its folders is seen there, out of a line of /proc/self/mountinfo.
struct cgroup_mount {
  std::string_view point;  // empty if the line is of another file system or controller
  std::string_view root;
};
[[gnu::cold]] inline cgroup_mount parse_mount(std::string_view line, bool unified) {
  // id parent device root point options [optional...] - type source super-options
  const std::size_t dash = line.find(" - ");
  if (dash == std::string_view::npos) return {};
  std::string_view tail = line.substr(dash + 3);
  const std::string_view type = split_off(tail, ' ');
  split_off(tail, ' ');
  if (unified ? type != "cgroup2" : type != "cgroup" || !has_entry(tail, "cpu")) return {};
  for (int skip = 0; skip < 3; ++skip) split_off(line, ' ');
  const std::string_view root = split_off(line, ' ');
  return {split_off(line, ' '), root};
}

/// What the group in `folder` grants itself; 0 if nothing is said. `folder` comes back as it was.
[[gnu::cold]] inline std::size_t cgroup_quota(std::string& folder, bool unified) {
  const auto read = [&folder, length = folder.size()](const char* name) {
    std::string text = read_small_file(folder.append(name));
    folder.resize(length);
    return text;
  };
  if (unified) return parse_cpu_max(read("/cpu.max"));
  std::int64_t quota = 0;
  std::int64_t period = 0;
  if (!parse_integer(read("/cpu.cfs_quota_us"), quota) || !parse_integer(read("/cpu.cfs_period_us"), period)) return 0;
  return processors_of_quota(quota, period);
}

}  // namespace detail

/// Processors that the cgroup quotas around this process grant, rounded up: the least of its own group and of all above,
/// for version 1 and 2. 0 if there is no limit. `root` stands before every path read, for tests.
[[nodiscard, gnu::cold]] inline std::size_t cgroup_processors(std::string_view root = {}) {
  std::string path(root);
  const std::string groups = detail::read_small_file(path.append("/proc/self/cgroup"));
  path.resize(root.size());
  const std::string mounts = detail::read_small_file(path.append("/proc/self/mountinfo"));
  const detail::cgroup_place place = detail::parse_cgroup(groups);
  std::size_t least = 0;
  for (std::string_view rest = mounts; !place.path.empty() && !rest.empty();) {
    const detail::cgroup_mount mount = detail::parse_mount(detail::split_off(rest, '\n'), place.unified);
    if (mount.point.empty()) continue;
    // In a container the mount often shows the group itself as its root.
    std::string_view group = place.path;
    if (mount.root != "/" && group.starts_with(mount.root) &&
        (group.size() == mount.root.size() || group[mount.root.size()] == '/'))
      group.remove_prefix(mount.root.size());
    if (group == "/") group = {};
    path.resize(root.size());
    path.append(mount.point);
    const std::size_t top = path.size();
    path.append(group);
    for (;;) {
      const std::size_t granted = detail::cgroup_quota(path, place.unified);
      if (granted != 0 && (least == 0 || granted < least)) least = granted;
      if (path.size() == top) break;
      const std::size_t slash = path.rfind('/');
      path.resize(slash == std::string::npos || slash < top ? top : slash);
    }
  }
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
