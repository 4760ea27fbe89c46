#ifndef CADRE_OS_MEMORY_LIMIT_HPP
#define CADRE_OS_MEMORY_LIMIT_HPP

#include <cadre/os/detail/cgroup.hpp>

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// The number behind `key` at the beginning of a line, as in "MemAvailable:   1024 kB"; -1 if there is none.
[[gnu::cold]] inline std::int64_t number_behind(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    std::string_view line = split_off(text, '\n');
    if (!line.starts_with(key)) continue;
    line.remove_prefix(key.size());
    while (line.starts_with(' ')) line.remove_prefix(1);
    std::int64_t value = -1;
    return parse_integer(line, value) ? value : -1;
  }
  return -1;
}

/// What the group in `folder` limits itself to, in bytes; -1 if to nothing.
[[gnu::cold]] inline std::int64_t cgroup_memory_max(std::string& folder, bool unified) {
  const std::string text = read_cgroup_file(folder, unified ? "/memory.max" : "/memory.limit_in_bytes");
  const std::int64_t limit = number_behind(text, "");
  return limit > std::numeric_limits<std::int64_t>::max() / 2 ? -1 : limit;  // version 1 says "none" by a huge number
}

/// What the group in `folder` holds, less the file pages that the kernel drops before it kills; -1 if nothing is said.
[[gnu::cold]] inline std::int64_t cgroup_memory_held(std::string& folder, bool unified) {
  const std::string text = read_cgroup_file(folder, unified ? "/memory.current" : "/memory.usage_in_bytes");
  const std::int64_t held = number_behind(text, "");
  if (held < 0) return -1;
  // The pages of a file in memory (memfd, tmpfs) are not among them.
  const std::int64_t dropped =
      number_behind(read_cgroup_file(folder, "/memory.stat"), unified ? "inactive_file " : "total_inactive_file ");
  return dropped <= 0 ? held : dropped < held ? held - dropped : 0;
}

}  // namespace detail

/// Bytes of memory that the machine has.
[[nodiscard, gnu::cold]] inline std::size_t physical_memory() {
  return static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// Bytes that the cgroups around this process allow it and its neighbours in them: the least of its own group and of all
/// above, for version 1 and 2. 0 if there is no limit. `root` stands before every path read, for tests.
[[nodiscard, gnu::cold]] inline std::size_t cgroup_memory_limit(std::string_view root = {}) {
  std::int64_t least = 0;
  detail::for_each_cgroup(root, "memory", [&least](std::string& folder, bool unified) {
    const std::int64_t limit = detail::cgroup_memory_max(folder, unified);
    if (limit > 0 && (least == 0 || limit < least)) least = limit;
  });
  return static_cast<std::size_t>(least);
}

/// Bytes of memory that this process and its neighbours may take: all of the machine's, or what the cgroups allow, whichever
/// is less. `root` stands before every path read, for tests.
[[nodiscard, gnu::cold]] inline std::size_t usable_memory(std::string_view root = {}) {
  const std::size_t all = physical_memory(), limit = cgroup_memory_limit(root);
  return limit != 0 && limit < all ? limit : all;
}

/// Bytes that can still be taken before the kernel would kill a process for them: what the machine has available, and
/// what is left below the limit of each cgroup around this process, whichever is less. Others take memory too, so it
/// holds for a moment only. Where nothing is known it is physical_memory(). Reads some ten small files, in 50 us and
/// more: for when memory is taken from the system, not for each object that is put there. `root` stands before
/// every path read, for tests.
[[nodiscard, gnu::cold]] inline std::size_t memory_headroom(std::string_view root = {}) {
  std::string path(root);
  const std::string machine = detail::read_cgroup_file(path, "/proc/meminfo");
  const std::int64_t available = detail::number_behind(machine, "MemAvailable:");
  std::int64_t least = available < 0 ? static_cast<std::int64_t>(physical_memory()) : available * 1024;
  detail::for_each_cgroup(root, "memory", [&least](std::string& folder, bool unified) {
    const std::int64_t limit = detail::cgroup_memory_max(folder, unified);
    if (limit < 0) return;
    const std::int64_t held = detail::cgroup_memory_held(folder, unified);
    const std::int64_t left = held < 0 ? limit : held < limit ? limit - held : 0;
    if (left < least) least = left;
  });
  return static_cast<std::size_t>(least);
}

CADRE_NAMESPACE_END

#endif
