#ifndef CADRE_STORE_DETAIL_RENDEZVOUS_HPP
#define CADRE_STORE_DETAIL_RENDEZVOUS_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/core/hash.hpp>
#include <cadre/os/file_lock.hpp>
#include <cadre/store/detail/own_file.hpp>
#include <cadre/store/error.hpp>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// A process that has the memory of a store open, as the file /proc/<pid>/fd/<descriptor>.
struct rendezvous_member {
  ::pid_t pid;
  int descriptor;
  friend bool operator==(const rendezvous_member&, const rendezvous_member&) = default;
};

/// How the processes of one user on one node find the memory of a named store, its arena, without a daemon: a file per
/// name lists the processes that have it open. While an object of this class lives, no other process sees or changes the
/// list of this name, so it should live briefly:
///
///     rendezvous r(name, deadline);
///     if (auto memory = r.open_existing([&](const file_descriptor& f) { return has_header(f, r.id()); })) ...
///     else r.start_new(rendezvous::random_id());   // and the memory is made, with that id in its header
///     r.join(::getpid(), number);
///
/// The files lie in `$XDG_RUNTIME_DIR/cadre` if that is in a folder of the user's own, else in `/tmp/cadre-<uid>`, which
/// must be the user's and closed to all others: who could write there could pass other memory off as the store's.
/// Processes in another pid namespace, and other versions of the list, have a file of their own, since the process
/// numbers of the one mean nothing to the other. Throws bad_store_option (308) and store_unreachable (309).
class rendezvous {
 public:
  static constexpr std::size_t max_name = 200, max_members = 4000;
  using clock = std::chrono::steady_clock;

  /// Waits for other processes that hold the list of `name`, until the deadline. `folder` is for tests.
  rendezvous(std::string_view name, clock::time_point deadline, std::string_view folder = {})
      : name_(checked(name)), path_(folder.empty() ? usual_folder() : std::string(folder)) {
    open_folder();
    file_name_ = record_name(name);
    lock_record(deadline);
    read();
  }
  rendezvous(const rendezvous&) = delete;
  rendezvous& operator=(const rendezvous&) = delete;
  /// A record that lists nobody is removed.
  ~rendezvous() {
    if (list_->count == 0 && is_record_in_place()) ::unlinkat(folder_.get(), file_name_.c_str(), 0);
    try {
      unlock_file(record_->get());  // a child that is forked at this moment may close it later
    } catch (const file_error&) {}  // closed by somebody else: not locked
  }

  /// The arena's random number; of use while there are members.
  [[nodiscard]] std::array<std::uint64_t, 2> id() const noexcept { return list_->id; }
  [[nodiscard]] std::span<const rendezvous_member> members() const noexcept {
    return {list_->members.data(), list_->count};
  }

  /// The memory, opened through the first member that lives and of which `accept(const file_descriptor&)` says that it
  /// is the arena with this id (a process number may be in use again by another process). Members that fail are struck
  /// out. Nothing if none is left. What `accept` throws passes through, and the list stays.
  template <class Accept>
  [[nodiscard]] std::optional<file_descriptor> open_existing(Accept accept) {
    while (list_->count != 0) {
      file_descriptor memory = open_memory(list_->members[0]);
      if (memory && accept(std::as_const(memory))) return memory;
      strike(0);
    }
    return std::nullopt;
  }

  /// Begins the list anew, for another arena. Others see it when somebody joins.
  void start_new(std::array<std::uint64_t, 2> id) noexcept {
    list_->count = 0;
    list_->id = id;
  }

  /// Others can open the memory through this descriptor from now on.
  void join(::pid_t pid, int descriptor) {
    if (list_->count == max_members)
      fail("it has " + std::to_string(max_members) + " processes, and no room for more", "end some of them");
    list_->members[list_->count++] = {pid, descriptor};
    write();
  }

  /// They no longer can; before the descriptor is closed. Members that have died meanwhile go as well.
  void leave(::pid_t pid, int descriptor) {
    const rendezvous_member gone{pid, descriptor};
    for (std::uint32_t i = list_->count; i-- != 0;)
      if (list_->members[i] == gone || !is_open(list_->members[i])) strike(i);
    write();
  }

  /// 128 random bits.
  [[nodiscard]] static std::array<std::uint64_t, 2> random_id() {
    std::array<std::uint64_t, 2> id{};
    while (::getrandom(id.data(), sizeof id, 0) != sizeof id)
      if (errno != EINTR) throw store_unreachable("the system gives no random numbers: " + reason(errno));
    return id;
  }

 private:
  /// What the file holds, twice. A write replaces the older of the two, so a process killed in it leaves the newer.
  struct list {
    std::uint64_t checksum;  // of what follows, up to the last member
    std::uint64_t serial;    // the list with the higher one counts
    std::array<std::uint64_t, 2> id;
    std::uint32_t name_length, count;
    std::array<char, max_name> name;
    std::array<rendezvous_member, max_members> members;

    [[nodiscard]] std::size_t bytes() const noexcept {
      return offsetof(list, members) + count * sizeof(rendezvous_member);
    }
    [[nodiscard]] std::uint64_t sum() const noexcept {
      return hash_bytes(std::as_bytes(std::span(this, 1)).subspan(sizeof checksum, bytes() - sizeof checksum));
    }
    [[nodiscard]] std::string_view store() const noexcept { return {name.data(), name_length}; }
  };
  static constexpr std::size_t place = std::size_t{64} << 10;  // of the second list
  static_assert(sizeof(list) <= place && std::is_trivially_copyable_v<list>);

  static std::string_view checked(std::string_view name) {
    const char* wrong = nullptr;
    if (name.empty()) wrong = "is empty";
    if (name.size() > max_name) wrong = "is too long";
    if (name.find('/') != name.npos) wrong = "has a slash in it";
    if (name.find('\0') != name.npos) wrong = "has a NUL in it";
    if (wrong == nullptr) return name;
    throw bad_store_option("the name '" + std::string(name.substr(0, std::min(name.find('\0'), max_name))) +
                           "' of a store " + wrong + "; give it 1 to 200 bytes without a slash or NUL");
  }

  static std::string reason(int code) { return std::generic_category().message(code); }

  [[noreturn, gnu::cold]] void fail(std::string_view why, std::string_view advice) const {
    std::string text = "cannot reach the other processes of store '";
    text.append(name_).append("' through '").append(path_);
    if (!file_name_.empty()) text.append("/").append(file_name_);
    throw store_unreachable(text.append("': ").append(why).append("; ").append(advice));
  }
  [[noreturn, gnu::cold]] void fail(const char* call, int code) const {
    fail(std::string(call) + " failed, " + reason(code), "check the folder, its file system, and what others do there");
  }

  static std::string usual_folder() {
    struct stat status {};
    const char* const runtime = std::getenv("XDG_RUNTIME_DIR");
    if (runtime != nullptr && runtime[0] == '/' && ::stat(runtime, &status) == 0 && S_ISDIR(status.st_mode) &&
        status.st_uid == ::geteuid() && (status.st_mode & 022) == 0)
      return std::string(runtime) + "/cadre";
    return "/tmp/cadre-" + std::to_string(::geteuid());
  }

  void open_folder() {
    constexpr const char* advice =
        "remove it, or have XDG_RUNTIME_DIR name a folder that belongs to you and that others cannot write to";
    if (::mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST) fail("mkdir", errno);
    folder_ = file_descriptor(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!folder_ && (errno == ENOTDIR || errno == ELOOP)) fail("it is a link or a file, not a folder", advice);
    if (!folder_) fail("open", errno);
    struct stat status {};
    if (::fstat(folder_.get(), &status) != 0) fail("fstat", errno);
    if (status.st_uid != ::geteuid())
      fail("the folder belongs to user " + std::to_string(status.st_uid) + ", not to " + std::to_string(::geteuid()),
           advice);
    if ((status.st_mode & 077) != 0) fail("the folder is open to other users", "close it (chmod 700)");
  }

  static std::string record_name(std::string_view name) {
    struct stat pids {};
    static_cast<void>(::stat("/proc/self/ns/pid", &pids));
    char digits[16];
    const std::uint64_t hash = hash_bytes(std::as_bytes(std::span(name)), pids.st_ino);
    const char* const end = std::to_chars(digits, digits + sizeof digits, hash, 16).ptr;
    return std::string(digits, static_cast<std::size_t>(end - digits)).append(".v1");
  }

  void lock_record(clock::time_point deadline) {
    do {
      record_.emplace([this] {
        file_descriptor record(
            ::openat(folder_.get(), file_name_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
        if (!record) fail("open", errno);
        return record;
      });
      try {
        if (!lock_file_until(record_->get(), deadline))
          fail("another process has held it until the deadline",
               "see which one has it open (fuser), and whether it is stopped");
      } catch (const file_error& e) {
        fail("locking", e.code());
      }
    } while (!is_record_in_place());  // its last member removed it while this process waited for it
  }

  [[nodiscard]] bool is_record_in_place() const noexcept {
    struct stat held {
    }, named{};
    return ::fstat(record_->get().get(), &held) == 0 &&
           ::fstatat(folder_.get(), file_name_.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           held.st_ino == named.st_ino && held.st_dev == named.st_dev;
  }

  /// Takes the newer list of the file. If both are damaged it is empty, and a new arena is begun: writes leave one whole,
  /// so this is the work of another program, or of a power failure, which no member survives.
  void read() {
    std::memset(static_cast<void*>(list_.get()), 0, sizeof(list));
    const auto found = std::make_unique<list>();
    for (const std::size_t at : {std::size_t{0}, place}) {
      const ::ssize_t n = ::pread(record_->get().get(), found.get(), sizeof(list), static_cast<off_t>(at));
      if (n < 0) fail("reading", errno);
      if (static_cast<std::size_t>(n) < offsetof(list, members) || found->count > max_members ||
          static_cast<std::size_t>(n) < found->bytes() || found->name_length > max_name ||
          found->checksum != found->sum() || found->serial <= list_->serial)
        continue;
      std::memcpy(static_cast<void*>(list_.get()), found.get(), sizeof(list));
    }
    if (list_->count != 0 && list_->store() != name_)
      fail("it belongs to store '" + std::string(list_->store()) + "', whose name has the same hash",
           "choose another name");
  }

  void write() {
    ++list_->serial;
    list_->name_length = static_cast<std::uint32_t>(name_.copy(list_->name.data(), max_name));
    list_->checksum = list_->sum();
    const std::size_t bytes = list_->bytes(), at = list_->serial % 2 == 0 ? 0 : place;
    const ::ssize_t n = ::pwrite(record_->get().get(), list_.get(), bytes, static_cast<off_t>(at));
    if (n == static_cast<::ssize_t>(bytes)) return;
    --list_->serial;  // the next write must not go to the place of the list that counts
    fail("writing", n < 0 ? errno : ENOSPC);
  }

  void strike(std::uint32_t i) noexcept { list_->members[i] = list_->members[--list_->count]; }

  static std::string memory_path(const rendezvous_member& m) {
    return "/proc/" + std::to_string(m.pid) + "/fd/" + std::to_string(m.descriptor);
  }

  /// Whether it may be a file of this user in memory. Never opens a device or pipe of a process that has its number now.
  static bool is_open(const rendezvous_member& m) {
    struct stat status {};
    return ::stat(memory_path(m).c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == ::geteuid();
  }

  [[nodiscard]] file_descriptor open_memory(const rendezvous_member& m) const {
    if (!is_open(m)) return {};
    file_descriptor memory(::open(memory_path(m).c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
    // A shortage of this process says nothing about the member, which must not be struck out for it.
    if (!memory && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) fail("opening its memory", errno);
    return memory;
  }

  std::string name_, path_, file_name_;
  file_descriptor folder_;
  std::optional<own_file> record_;
  std::unique_ptr<list> list_ = std::make_unique<list>();
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif
