#ifndef CADRE_STORE_DETAIL_SPILL_FOLDER_HPP
#define CADRE_STORE_DETAIL_SPILL_FOLDER_HPP

#include <cadre/os/mapping.hpp>
#include <cadre/store/detail/own_file.hpp>
#include <cadre/store/spill_error.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// The folder of one job's spilled objects, `<spill_dir>/cadre-<32 hex digits>` of mode 0700, which the job's first
/// process makes, later ones join and the last one to leave removes. Each holds a shared lock of an open file
/// description on its file `lock`, which the kernel drops when the process ends in whatever way: a folder whose lock is
/// free was left by a crash, and whoever next opens a folder beside it removes it.
///
/// Folders are found from descriptors and links are never followed; only folders of that name, owned by this user, and
/// in them only spill files and the lock, are removed. `lock` names the machine, since locks of network file systems
/// may not reach beyond it: leftovers of other machines stay.
///
/// A child made by fork() shares its parent's lock. It destroys its copy without effect on the folder; should the
/// parent be killed, the folder is a leftover once the child has ended or executed another program.
class spill_folder {
 public:
  using job_id = std::array<std::uint64_t, 2>;

  /// Throws spill_folder_unusable (312). Costs some system calls for each leftover and each file in it.
  spill_folder(const std::string& spill_dir, job_id id)
      : name_(name_of(id)), path_(spill_dir + "/" + name_), process_(::getpid()) {
    parent_ = file_descriptor(::open(spill_dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!parent_) throw spill_folder_unusable("open", spill_dir, errno);
    for_each_name(parent_, [this](const char* name) {
      if (name != name_ && is_folder_name(name)) remove_leftover(name);
    });
    // It fails to enter while another process makes or removes the folder, which takes as long as unlinking its files.
    constexpr timespec millisecond{0, 1'000'000};
    for (int tries = 0; !enter(); ++tries) {
      if (tries == 10'000) throw spill_folder_unusable("enter", path_, EBUSY);
      ::nanosleep(&millisecond, nullptr);
    }
  }
  spill_folder(const spill_folder&) = delete;
  spill_folder& operator=(const spill_folder&) = delete;
  ~spill_folder() {
    if (::getpid() != process_) return;
    // Unlocked first: of two that leave at once, each with its shared lock, neither would get the exclusive one.
    try_lock(lock_->get(), F_UNLCK);
    if (try_lock(lock_->get(), F_WRLCK) && status_of(lock_->get()).st_nlink != 0) dismantle(folder_, name_.c_str());
  }

  [[nodiscard]] const file_descriptor& descriptor() const noexcept { return folder_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  static std::string name_of(job_id id) {
    constexpr char digits[] = "0123456789abcdef";
    std::string name = "cadre-";
    for (const std::uint64_t half : id)
      for (int shift = 60; shift >= 0; shift -= 4) name += digits[half >> shift & 15];
    return name;
  }
  static bool is_folder_name(std::string_view name) noexcept {
    return name.size() == 38 && name.starts_with("cadre-") &&
           name.find_first_not_of("0123456789abcdef", 6) == std::string_view::npos;
  }
  static bool is_file_name(std::string_view name) noexcept {
    return name.ends_with(".spill") &&
           name.substr(0, name.size() - 6).find_first_not_of("0123456789-") == std::string_view::npos;
  }

  static file_descriptor open_at(const file_descriptor& folder, const char* name, int flags) noexcept {
    return file_descriptor(::openat(folder.get(), name, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  }
  static struct stat status_of(const file_descriptor& file) noexcept {
    struct stat status {};  // of a file that has no name any more, should the call fail
    ::fstat(file.get(), &status);
    return status;
  }
  /// False if another open file description has a lock in the way, or the file system has none (ENOLCK, EINVAL, ...).
  static bool try_lock(const file_descriptor& file, short kind) noexcept {
    struct flock whole {};
    whole.l_type = kind;
    whole.l_whence = SEEK_SET;
    return ::fcntl(file.get(), F_OFD_SETLK, &whole) == 0;
  }
  template <class Body>
  static void for_each_name(const file_descriptor& folder, Body body) noexcept {
    DIR* const list = ::fdopendir(::openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (list == nullptr) return;
    while (const dirent* entry = ::readdir(list)) body(entry->d_name);
    ::closedir(list);
  }

  /// The running kernel and the host's name: containers have the one in common, and a machine keeps the other when it
  /// boots.
  struct machine {
    std::array<char, 36> boot{};
    std::array<char, 65> host{};  // ends in a zero

    static machine here() noexcept {
      machine here;
      const file_descriptor file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
      [[maybe_unused]] const ssize_t got = ::read(file.get(), here.boot.data(), here.boot.size());
      ::gethostname(here.host.data(), here.host.size() - 1);
      return here;
    }
    /// Whether `lock` was signed here, or its maker was killed before it signed.
    static bool signed_here(const file_descriptor& lock) noexcept {
      machine there;
      const ssize_t got = ::pread(lock.get(), &there, sizeof there, 0);
      if (got != sizeof there) return got == 0;
      const machine here = machine::here();
      return there.boot == here.boot || there.host == here.host;
    }
  };

  /// Removes what spilling left in the folder.
  static void clear(const file_descriptor& folder) noexcept {
    for_each_name(folder, [&folder](const char* name) {
      if (is_file_name(name)) ::unlinkat(folder.get(), name, 0);
    });
  }
  /// Removes the folder, whose lock the caller holds exclusively. The lock goes last: one without is empty.
  void dismantle(const file_descriptor& folder, const char* name) noexcept {
    clear(folder);
    ::unlinkat(folder.get(), "lock", 0);
    ::unlinkat(parent_.get(), name, AT_REMOVEDIR);
  }
  void remove_leftover(const char* name) noexcept {
    const file_descriptor folder = open_at(parent_, name, O_RDONLY | O_DIRECTORY);
    if (!folder || status_of(folder).st_uid != ::geteuid()) return;
    const file_descriptor lock = open_at(folder, "lock", O_RDWR);
    if (!lock) {  // succeeds if empty: its maker has died, or begins anew
      if (errno == ENOENT) ::unlinkat(parent_.get(), name, AT_REMOVEDIR);
    } else if (try_lock(lock, F_WRLCK) && status_of(lock).st_nlink != 0 && machine::signed_here(lock)) {
      dismantle(folder, name);
    }
  }

  /// False if it has to be tried again: another process makes or removes the folder.
  bool enter() {
    if (::mkdirat(parent_.get(), name_.c_str(), 0700) != 0 && errno != EEXIST)
      throw spill_folder_unusable("make", path_, errno);
    folder_ = open_at(parent_, name_.c_str(), O_RDONLY | O_DIRECTORY);
    if (!folder_ && errno == ENOENT) return false;
    if (!folder_) throw spill_folder_unusable("open", path_, errno);
    const struct stat status = status_of(folder_);
    if (status.st_uid != ::geteuid() || (status.st_mode & 077) != 0) throw spill_folder_unusable::open_to_others(path_);
    lock_.emplace([this] { return open_at(folder_, "lock", O_RDWR | O_CREAT); });
    const file_descriptor& lock = lock_->get();
    if (!lock && errno == ENOENT) return false;
    if (!lock) give_up("make a file in", errno);
    if (try_lock(lock, F_WRLCK)) {
      clear(folder_);  // of an earlier job of this id
      const machine here = machine::here();
      if (::pwrite(lock.get(), &here, sizeof here, 0) != sizeof here) give_up("write to", errno);
    } else if (errno != EAGAIN && errno != EACCES) {
      give_up("lock", errno);
    }
    // Between opening and locking it, another process may have taken the folder for a leftover.
    return try_lock(lock, F_RDLCK) && status_of(lock).st_nlink != 0;
  }
  /// Removes the folder if nothing is in it yet.
  [[noreturn]] void give_up(const char* action, int code) {
    if (lock_ && lock_->get() && status_of(lock_->get()).st_size == 0) ::unlinkat(folder_.get(), "lock", 0);
    ::unlinkat(parent_.get(), name_.c_str(), AT_REMOVEDIR);
    throw spill_folder_unusable(action, path_, code);
  }

  std::string name_, path_;
  pid_t process_;
  file_descriptor parent_, folder_;
  std::optional<own_file> lock_;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
