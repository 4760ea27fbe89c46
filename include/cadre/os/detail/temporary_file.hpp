#ifndef CADRE_OS_DETAIL_TEMPORARY_FILE_HPP
#define CADRE_OS_DETAIL_TEMPORARY_FILE_HPP

#include <cadre/os/detail/file.hpp>

#include <dirent.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Removes from `folder` the temporary files that killed processes left: those for the file `name`, or for any if empty.
/// A file whose writer lives is locked and stays.
inline void remove_leftovers(const std::string& folder, std::string_view name = {}) noexcept {
  constexpr std::string_view suffix = ".tmp";
  DIR* const list = ::opendir(folder.c_str());
  if (list == nullptr) return;
  while (const dirent* entry = ::readdir(list)) {
    std::string_view stem = entry->d_name;  // .<name>.<pid>-<n>.tmp
    if (!stem.starts_with('.') || !stem.ends_with(suffix)) continue;
    stem.remove_suffix(suffix.size());
    const std::size_t dot = stem.rfind('.');
    if (dot == 0 || dot == stem.npos || stem.find_first_not_of("0123456789-", dot + 1) != stem.npos) continue;
    if (!name.empty() && stem.substr(1, dot - 1) != name) continue;
    const int fd = ::openat(::dirfd(list), entry->d_name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd == -1) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlinkat(::dirfd(list), entry->d_name, 0);
    ::close(fd);
  }
  ::closedir(list);
}

/// A file beside the one that it is to replace, `.<name>.<pid>-<n>.tmp`, removed unless it did. Its writer holds a lock
/// on it, which the kernel frees when the writer dies: what is there without a lock was left by a process that was
/// killed, and the next temporary file for the same name removes it.
class temporary_file {
 public:
  temporary_file(const std::string& folder, const std::string& name) {
    static std::atomic<std::uint64_t> serial{0};
    const std::string stem = name.substr(0, 200);
    remove_leftovers(folder, stem);
    for (;;) {
      const std::string candidate = folder + "/." + stem + "." + std::to_string(::getpid()) + "-" +
                                    std::to_string(serial.fetch_add(1, std::memory_order_relaxed)) + ".tmp";
      try {
        file_ = file(candidate, O_WRONLY | O_CREAT | O_EXCL);
      } catch (const file_error& e) {
        if (e.code() != EEXIST) throw;
        continue;
      }
      // Another process may have taken it for a leftover before it was locked.
      if (::flock(file_.fd(), LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK) continue;
      if (file_.status().st_nlink != 0) return;
    }
  }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  ~temporary_file() {
    if (!file_.path().empty() && !replaced_) ::unlink(file_.path().c_str());
  }

  [[nodiscard]] file& get() noexcept { return file_; }

  void replace(const std::string& target) {
    if (::rename(file_.path().c_str(), target.c_str()) == -1) file_error::raise("replace", target, errno);
    replaced_ = true;
  }

 private:
  file file_;
  bool replaced_ = false;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
