#ifndef CADRE_OS_DETAIL_CGROUP_HPP
#define CADRE_OS_DETAIL_CGROUP_HPP

#include <cadre/config/config.hpp>

#include <fcntl.h>
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

/// Where this process stands in the hierarchy of a controller, out of /proc/self/cgroup.
struct cgroup_place {
  bool unified = false;   // version 2
  std::string_view path;  // "/" or "/a/b"; empty if there is none
};
[[gnu::cold]] inline cgroup_place parse_cgroup(std::string_view text, std::string_view controller) {
  cgroup_place unified;
  while (!text.empty()) {
    std::string_view line = split_off(text, '\n');
    const std::string_view id = split_off(line, ':');
    const std::string_view controllers = split_off(line, ':');
    if (id == "0" && controllers.empty())
      unified = {true, line};
    else if (has_entry(controllers, controller))
      return {false, line};
  }
  return unified;
}

/// Where a hierarchy is mounted, and which of its folders is seen there, out of a line of /proc/self/mountinfo.
struct cgroup_mount {
  std::string_view point;  // empty if the line is of another file system or controller
  std::string_view root;
};
[[gnu::cold]] inline cgroup_mount parse_mount(std::string_view line, bool unified, std::string_view controller) {
  // id parent device root point options [optional...] - type source super-options
  const std::size_t dash = line.find(" - ");
  if (dash == std::string_view::npos) return {};
  std::string_view tail = line.substr(dash + 3);
  const std::string_view type = split_off(tail, ' ');
  split_off(tail, ' ');
  if (unified ? type != "cgroup2" : type != "cgroup" || !has_entry(tail, controller)) return {};
  for (int skip = 0; skip < 3; ++skip) split_off(line, ' ');
  const std::string_view root = split_off(line, ' ');
  return {split_off(line, ' '), root};
}

/// The file `name` of the group in `folder`, which comes back as it was.
[[gnu::cold]] inline std::string read_cgroup_file(std::string& folder, const char* name) {
  const std::size_t length = folder.size();
  std::string text = read_small_file(folder.append(name));
  folder.resize(length);
  return text;
}

/// Calls visit(folder, unified) for the group of this process in the hierarchy of `controller`, and for all above.
/// `root` stands before every path read, for tests; `folder` is a std::string that must come back as it was.
template <class Visit>
[[gnu::cold]] void for_each_cgroup(std::string_view root, std::string_view controller, Visit visit) {
  std::string path(root);
  const std::string groups = read_cgroup_file(path, "/proc/self/cgroup");
  const std::string mounts = read_cgroup_file(path, "/proc/self/mountinfo");
  const cgroup_place place = parse_cgroup(groups, controller);
  for (std::string_view rest = mounts; !place.path.empty() && !rest.empty();) {
    const cgroup_mount mount = parse_mount(split_off(rest, '\n'), place.unified, controller);
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
      visit(path, place.unified);
      if (path.size() == top) break;
      const std::size_t slash = path.rfind('/');
      path.resize(slash == std::string::npos || slash < top ? top : slash);
    }
  }
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif
