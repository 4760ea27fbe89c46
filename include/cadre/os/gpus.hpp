#ifndef CADRE_OS_GPUS_HPP
#define CADRE_OS_GPUS_HPP

#include <cadre/os/detail/cgroup.hpp>

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// How many entries of a folder `counts` takes.
template <class Counts>
[[gnu::cold]] std::size_t count_entries(const std::string& folder, Counts&& counts) {
  std::size_t n = 0;
  ::DIR* const all = ::opendir(folder.c_str());
  if (all == nullptr) return 0;
  while (const ::dirent* const e = ::readdir(all))
    if (counts(std::string_view(e->d_name))) ++n;
  ::closedir(all);
  return n;
}

inline bool is_number(std::string_view text) noexcept {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// NVIDIA's GPUs that this process may open. The files are looked at, not opened: that would wake the GPU.
[[gnu::cold]] inline std::size_t count_gpus(const std::string& root) {
  const std::string devices = root + "/dev";
  std::size_t known = 0;
  const std::size_t n = count_entries(devices, [&](std::string_view name) {
    if (!name.starts_with("nvidia") || !is_number(name.substr(6))) return false;
    ++known;
    return ::access((devices + "/" + std::string(name)).c_str(), R_OK | W_OK) == 0;
  });
  if (known != 0) return n;
  // The driver may be there before the files, which are made when CUDA first asks for them.
  return count_entries(root + "/proc/driver/nvidia/gpus", [](std::string_view name) { return name.front() != '.'; });
}

/// What CUDA makes of CUDA_VISIBLE_DEVICES where there are `count` GPUs: what follows an invalid name is not seen.
[[gnu::cold]] inline std::vector<std::string> chosen_gpus(std::string_view list, std::size_t count) {
  std::vector<std::string> names;
  while (!list.empty()) {
    std::string_view name = split_off(list, ',');
    while (name.starts_with(' ')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    std::int64_t number = 0;
    const bool is_there = is_number(name) ? parse_integer(name, number) && static_cast<std::size_t>(number) < count
                                          : name.starts_with("GPU-") || name.starts_with("MIG-");
    if (!is_there) break;
    std::string text = is_number(name) ? std::to_string(number) : std::string(name);
    if (std::find(names.begin(), names.end(), text) != names.end()) break;
    names.push_back(std::move(text));
  }
  return names;
}

}  // namespace detail

/// The GPUs that CUDA shows to this process, in CUDA's order, by names that are the same in all processes of a machine that
/// see the same one: a number, or what CUDA_VISIBLE_DEVICES says. Found by the files of NVIDIA's driver, without CUDA; where
/// these show none there is none, whatever the variable says. `root` stands before every path read, for tests.
[[nodiscard, gnu::cold]] inline std::vector<std::string> visible_gpus(const std::string& root = {}) {
  const std::size_t count = detail::count_gpus(root);
  if (count == 0) return {};
  if (const char* const list = std::getenv("CUDA_VISIBLE_DEVICES")) return detail::chosen_gpus(list, count);
  std::vector<std::string> names;
  for (std::size_t d = 0; d < count; ++d) names.push_back(std::to_string(d));
  return names;
}

CADRE_NAMESPACE_END

#endif
