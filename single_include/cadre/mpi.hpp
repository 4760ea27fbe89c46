// cadre 0.1.0: the adapter mpi.hpp in one header
// Licensed under the Apache License, Version 2.0. Written by single_include/generate.py from include/cadre; change it there.
#ifndef CADRE_SINGLE_INCLUDE_MPI_HPP
#define CADRE_SINGLE_INCLUDE_MPI_HPP

#include "cadre.hpp"

// ---- cadre/mpi/detail/process_watch.hpp ----
#ifndef CADRE_MPI_DETAIL_PROCESS_WATCH_HPP
#define CADRE_MPI_DETAIL_PROCESS_WATCH_HPP

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <thread>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Sees that another process, not a child, has ended. Where the kernel has no pidfd (before 5.3) it never does.
class process_watch {
 public:
  explicit process_watch(int process) noexcept
      : process_(process),
        file_(static_cast<int>(::syscall(SYS_pidfd_open, process, 0))),
        gone_(!file_ && errno == ESRCH) {}

  [[nodiscard]] bool ended() const noexcept {
    if (!file_) return gone_;
    pollfd about{.fd = file_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&about, 1, 0) == 1;
  }

  /// From which there is something to read when it has ended; -1 where there is none.
  [[nodiscard]] int file() const noexcept { return file_.get(); }

  /// Ends it, by SIGKILL.
  void end() const noexcept {
    if (file_) ::syscall(SYS_pidfd_send_signal, file_.get(), SIGKILL, nullptr, 0);
  }

  /// After it has ended: " by signal 9", " with exit code 1", or nothing where the kernel does not tell, which it does until
  /// the parent has taken the exit code, and from 6.15 on afterwards. What says nothing is waited for, 50 ms at most.
  [[nodiscard]] std::string how() const {
    // struct pidfd_info of <linux/pidfd.h>, which is younger than the system's headers.
    struct {
      std::uint64_t mask, cgroup;
      std::uint32_t ids[11];
      std::int32_t exit_code;
    } about{};
    static_assert(sizeof about == 64);
    constexpr std::uint64_t exit_bit = 1u << 3;
    for (int i = 0; file_ && i < 50; ++i) {
      if (const int status = status_of_zombie(); status != 0) return text_of(status);
      about.mask = exit_bit;
      if (::ioctl(file_.get(), _IOWR(0xFF, 11, decltype(about)), &about) != 0) break;
      if (about.mask & exit_bit) return text_of(about.exit_code);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return {};
  }

 private:
  static std::string text_of(int status) {
    if (WIFSIGNALED(status)) return " by signal " + std::to_string(WTERMSIG(status));
    return " with exit code " + std::to_string(WEXITSTATUS(status));
  }
  // As for wait(); 0 also where there is none any more, or it may not be read.
  [[nodiscard]] int status_of_zombie() const {
    const std::string text = cadre::detail::read_small_file("/proc/" + std::to_string(process_) + "/stat");
    const std::size_t state = text.rfind(") Z ");
    const std::size_t last = text.rfind(' ');  // field 52
    if (state == std::string::npos) return 0;
    return static_cast<int>(std::strtol(text.c_str() + last, nullptr, 10));
  }

  int process_;
  file_descriptor file_;
  bool gone_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/shared_segment.hpp ----
#ifndef CADRE_MPI_DETAIL_SHARED_SEGMENT_HPP
#define CADRE_MPI_DETAIL_SHARED_SEGMENT_HPP

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

// How a leader's memory is found by its node: as a descriptor of its process or, where /proc of that process cannot be
// seen (ranks in containers of their own), by a random name that is removed as soon as all have opened it.
enum class sharing : std::int32_t { descriptor, name };

struct segment_card {
  std::int32_t error = 0;
  std::int32_t process = 0;
  std::int32_t descriptor = -1;
  std::uint64_t device = 0, inode = 0;  // so that a peer knows that it has opened the right file
  std::uint64_t id = 0;
  char path[48] = "";
};

inline file_descriptor make_named_file(std::size_t bytes, char (&path)[48]) {
  std::uint64_t random[2] = {};
  if (::getrandom(random, sizeof random, 0) != static_cast<ssize_t>(sizeof random))
    throw mapping_error("no random name", EAGAIN);
  std::snprintf(path, sizeof path, "/dev/shm/cadre-%016llx%016llx", static_cast<unsigned long long>(random[0]),
                static_cast<unsigned long long>(random[1]));
  path[sizeof path - 1] = '\0';
  file_descriptor file(::open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file || ::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0)
    throw mapping_error("cannot make " + std::string(path), errno);
  // /dev/shm is small in many containers: found out here, on kernels too where a mapping cannot be reserved.
  int code = 0;
  do code = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes));
  while (code == EINTR);
  if (code != 0) throw mapping_error("cannot reserve " + std::to_string(bytes) + " bytes in /dev/shm", code);
  return file;
}

/// Removes the name of a file at the end of the scope, where it has one and the file is still there.
class name_remover {
 public:
  explicit name_remover(const char* path) noexcept : path_(path) {}
  name_remover(const name_remover&) = delete;
  name_remover& operator=(const name_remover&) = delete;
  ~name_remover() {
    if (*path_ != '\0') ::unlink(path_);
  }

 private:
  const char* path_;
};

inline void describe_file(const file_descriptor& file, segment_card& card) {
  struct stat about {};
  if (::fstat(file.get(), &about) != 0) throw mapping_error("cannot look at shared memory", errno);
  card.device = about.st_dev;
  card.inode = about.st_ino;
}

inline file_descriptor open_card(const segment_card& card, sharing how) {
  const std::string path = how == sharing::name
                               ? std::string(card.path)
                               : "/proc/" + std::to_string(card.process) + "/fd/" + std::to_string(card.descriptor);
  file_descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC | (how == sharing::name ? O_NOFOLLOW : 0)));
  if (!file) throw mapping_error("cannot open " + path, errno);
  segment_card found;
  describe_file(file, found);
  if (found.device != card.device || found.inode != card.inode)
    throw mapping_error(path + " is another process's file", ENOENT);
  return file;
}

struct shared_memory {
  mapping memory;
  std::uint64_t id = 0;  // the same in all processes
};

/// Memory of `bytes` that all callers map; `gather(x)` returns everybody's x in rank order, `leader` makes the memory and
/// this caller reserves [own_offset, own_offset + own_bytes) of it, the leader the first page too. Throws mapping_error (159) on all callers if it fails
/// on one. Zeroed; freed by the kernel with the last process, however that ends.
template <class Gather>
shared_memory share_memory(std::size_t bytes, std::size_t rank, std::size_t leader, std::size_t own_offset,
                           std::size_t own_bytes, Gather&& gather, std::span<const sharing> ways) {
  struct outcome {
    std::int32_t error = 0;
    char text[160] = "";
  };
  static std::atomic<std::uint32_t> counter{0};
  for (std::size_t way = 0; way < ways.size(); ++way) {
    const sharing how = ways[way];
    segment_card card;
    const name_remover made_here(card.path);
    outcome mine;
    const auto note = [&](const mapping_error& error) {
      mine.error = error.code();
      std::snprintf(mine.text, sizeof mine.text, "%s", error.what());
    };
    file_descriptor file;
    if (rank == leader) {
      try {
        file = how == sharing::name ? make_named_file(bytes, card.path) : make_memory_file("cadre", bytes);
        describe_file(file, card);
        card.process = static_cast<std::int32_t>(::getpid());
        card.descriptor = file.get();
        card.id = static_cast<std::uint64_t>(card.process) << 32 | ++counter;
      } catch (const mapping_error& error) {
        note(error);
        card.error = error.code();
      }
    }
    const segment_card theirs = gather(card)[leader];
    const name_remover made_there(theirs.path);  // also where the leader is killed before it can
    shared_memory made;
    if (theirs.error == 0) {
      try {
        if (rank != leader) file = open_card(theirs, how);
        made.memory = mapping::shared(file, bytes);
        made.id = theirs.id;
        if (rank == leader) made.memory.reserve(0, 1);
        made.memory.reserve(own_offset, own_bytes);
      } catch (const mapping_error& error) {
        note(error);
      }
    }
    const std::vector<outcome> outcomes = gather(mine);
    const auto failed = std::ranges::find_if(outcomes, [](const outcome& o) { return o.error != 0; });
    if (failed == outcomes.end()) return made;
    if (way + 1 == ways.size())
      throw mapping_error("rank " + std::to_string(failed - outcomes.begin()) + " could not share " +
                              std::to_string(bytes) + " bytes with its node: " + failed->text,
                          failed->error);
  }
  throw mapping_error("no way to share memory was given", EINVAL);
}

inline constexpr sharing all_ways[] = {sharing::descriptor, sharing::name};

/// Memory that the ranks of a node allocated together. It begins with the number of ranks that still hold their part.
struct shared_allocation {
  mapping memory;
  std::uint64_t id = 0;
  std::atomic<std::uint32_t>& holders() const noexcept {
    return *reinterpret_cast<std::atomic<std::uint32_t>*>(memory.data());
  }
};

/// The allocations by which ranks of a communicator know each other's buffers: its own and those of its ancestors, whose
/// members include its own. A rank keeps its mapping until every rank has let go of its part, as a peer's buffer may
/// still take part in collectives when its own is gone.
class segment_table {
 public:
  explicit segment_table(std::shared_ptr<segment_table> parent) : parent_(std::move(parent)) {}

  void add(std::shared_ptr<shared_allocation> made) {
    const std::lock_guard lock(mutex_);
    std::erase_if(allocations_, [](const auto& a) { return a->holders().load() == 0; });
    allocations_.push_back(std::move(made));
  }

  /// The id and offset of [data, data + bytes); id 0 if it lies in no shared allocation.
  [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> locate(const std::byte* data, std::size_t bytes) const {
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    for (const segment_table* table = this; table != nullptr; table = table->parent_.get()) {
      const std::lock_guard lock(table->mutex_);
      for (const auto& a : table->allocations_) {
        const auto begin = reinterpret_cast<std::uintptr_t>(a->memory.data());
        if (address >= begin && address - begin <= a->memory.size() && bytes <= a->memory.size() - (address - begin))
          return {a->id, address - begin};
      }
    }
    return {0, 0};
  }

  /// Where an allocation lies in this process; null if it is not known.
  [[nodiscard]] std::byte* find(std::uint64_t id) const {
    for (const segment_table* table = this; table != nullptr; table = table->parent_.get()) {
      const std::lock_guard lock(table->mutex_);
      for (const auto& a : table->allocations_)
        if (a->id == id) return a->memory.data();
    }
    return nullptr;
  }

 private:
  std::shared_ptr<segment_table> parent_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<shared_allocation>> allocations_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/topology.hpp ----
#ifndef CADRE_MPI_DETAIL_TOPOLOGY_HPP
#define CADRE_MPI_DETAIL_TOPOLOGY_HPP

#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Who is who in a communicator. A rank's position counts the ranks node by node, so that what belongs to a node is one
/// run; on one node, or where ranks are placed node by node, it is the rank itself.
struct topology {
  /// By rank: the rank in the family, and a number that ranks of one node share.
  topology(std::vector<int> ranks_in_family, const std::vector<std::uint64_t>& nodes)
      : family_rank(std::move(ranks_in_family)) {
    std::map<std::uint64_t, int> known;
    for (std::size_t r = 0; r < nodes.size(); ++r) {
      const int node = known.try_emplace(nodes[r], static_cast<int>(known.size())).first->second;
      if (node == static_cast<int>(ranks_of.size())) ranks_of.emplace_back();
      auto& members = ranks_of[static_cast<std::size_t>(node)];
      node_of.push_back(node);
      local_of.push_back(static_cast<int>(members.size()));
      members.push_back(static_cast<int>(r));
    }
    first.push_back(0);
    for (const auto& members : ranks_of) first.push_back(first.back() + members.size());
    for (std::size_t r = 0; r < nodes.size(); ++r)
      position.push_back(first[static_cast<std::size_t>(node_of[r])] + static_cast<std::size_t>(local_of[r]));
  }

  [[nodiscard]] int size() const noexcept { return static_cast<int>(family_rank.size()); }
  [[nodiscard]] int nodes() const noexcept { return static_cast<int>(ranks_of.size()); }
  [[nodiscard]] const std::vector<int>& members(int node) const { return ranks_of[static_cast<std::size_t>(node)]; }

  std::vector<int> family_rank;
  std::vector<int> node_of, local_of;      // by rank
  std::vector<std::vector<int>> ranks_of;  // by node
  std::vector<std::size_t> first;          // by node: the position of its first rank; one more at the end
  std::vector<std::size_t> position;       // by rank
};

inline std::string host_name() {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  return host;
}

/// Equal for processes that can share memory: one machine (by its boot), one host name, one space of process numbers.
inline std::uint64_t node_identity() {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  const auto mix = [&](const std::string& text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
    hash = (hash ^ 0xffu) * 1099511628211u;
  };
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id") >> std::ws, boot);
  mix(boot);
  mix(host_name());
  struct stat space {};
  if (::stat("/proc/self/ns/pid", &space) == 0) mix(std::to_string(space.st_ino));
  return hash;
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/mpi_api.hpp ----
#ifndef CADRE_MPI_DETAIL_MPI_API_HPP
#define CADRE_MPI_DETAIL_MPI_API_HPP

// MPI without its C++ bindings: they left the standard with MPI 3 and warn under -Wextra.
#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>

#endif

// ---- cadre/mpi/detail/launcher_guard.hpp ----
#ifndef CADRE_MPI_DETAIL_LAUNCHER_GUARD_HPP
#define CADRE_MPI_DETAIL_LAUNCHER_GUARD_HPP

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Has the parent of this process ended where it should and does not, by SIGTERM, then by SIGKILL: by a child, which sleeps
/// until this process has ended. Where the kernel has no pidfd (before 5.3) nothing is done.
class launcher_guard {
 public:
  /// Throws mapping_error (159).
  launcher_guard() : shared_(mapping::shared(make_memory_file("cadre", sizeof(word)), sizeof(word))) {
    const file_descriptor self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
    const file_descriptor parent(static_cast<int>(::syscall(SYS_pidfd_open, ::getppid(), 0)));
    if (!self || !parent || ::fork() != 0) return;
    watch(self.get(), parent.get());
    ::_exit(0);  // the child's end: what it has of this process is not its to destroy
  }
  /// The parent may live on.
  void dismiss() noexcept { expected().store(none); }
  /// This process has the parent end, which may take a while. Without this and dismiss() it has died.
  void expect_end() noexcept { expected().store(soon); }

 private:
  using word = std::atomic<int>;
  enum : int { now, soon, none };  // zeroed memory is `now`
  [[nodiscard]] word& expected() const noexcept { return *reinterpret_cast<word*>(shared_.data()); }

  // The child of a process with threads: calls of the system alone.
  void watch(int self, int parent) const noexcept {
    ::setsid();
    // Whoever reads what this process writes, or is connected with it, is to see its end.
    const int low = self < parent ? self : parent, high = self < parent ? parent : self;
    close_all(0, low - 1);
    close_all(low + 1, high - 1);
    close_all(high + 1, -1);
    constexpr int for_last_words = 1000, for_its_end = 10'000, for_the_rest = 3000;  // ms
    if (!has_ended(self, -1) || expected().load() == none) return;
    if (!has_ended(parent, expected().load() == now ? for_last_words : for_its_end))
      ::syscall(SYS_pidfd_send_signal, parent, SIGTERM, nullptr, 0);
    if (!has_ended(parent, for_the_rest)) ::syscall(SYS_pidfd_send_signal, parent, SIGKILL, nullptr, 0);
  }
  static void close_all(int first, int last) noexcept {
    if (last < 0 || first <= last)
      ::syscall(SYS_close_range, static_cast<unsigned>(first), static_cast<unsigned>(last), 0u);
  }
  // Within so many ms; -1: whenever that is.
  static bool has_ended(int process, int within) noexcept {
    pollfd about{.fd = process, .events = POLLIN, .revents = 0};
    return ::poll(&about, 1, within) == 1;
  }

  mapping shared_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/error.hpp ----
#ifndef CADRE_MPI_ERROR_HPP
#define CADRE_MPI_ERROR_HPP

#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace mpi {

/// Thrown (1101, 1102, 1109, 1110) when MPI reports an error, or the ranks cannot do together what was asked.
class mpi_error : public error {
 public:
  /// 1101: an MPI function failed.
  static mpi_error call_failed(std::string_view function, int code) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    ::MPI_Error_string(code, text, &length);
    return {1101, std::string(function) + " failed: " + std::string(text, static_cast<std::size_t>(length))};
  }
  /// 1102: the host finalised MPI, or initialised it without the threads that cadre needs.
  static mpi_error unusable(std::string_view message) { return {1102, message}; }
  /// 1109: the launcher's processes are not one job.
  static mpi_error started_apart(std::string_view message) { return {1109, message}; }
  /// 1110: more ranks of a node want the same GPU than the options allow.
  static mpi_error shared_gpu(std::string_view message) { return {1110, message}; }

 private:
  mpi_error(int number, std::string_view message) : error("mpi", number, message) {}
};

/// Thrown (1103) by what needs a rank that has ended.
class peer_died : public error {
 public:
  [[gnu::cold]] peer_died(int rank, std::string_view how)
      : error("mpi", 1103, "rank " + std::to_string(rank) + " is dead: " + std::string(how)), rank_(rank) {}
  [[nodiscard]] int rank() const noexcept { return rank_; }

 private:
  int rank_;
};

/// Thrown (1104 to 1108) by the messages between ranks.
class message_error : public error {
 public:
  /// 1104: sent after close().
  [[gnu::cold]] static message_error closed(int to) {
    return {1104, "a message to rank " + std::to_string(to) + " after this rank has closed: send before"};
  }
  /// 1105: a rank takes nothing for a long time.
  [[gnu::cold]] static message_error stalled(int to, std::string_view message) {
    return {1105, "rank " + std::to_string(to) + " takes no messages: " + std::string(message)};
  }
  /// 1106: not all was received in time.
  [[gnu::cold]] static message_error unfinished(std::string_view message) { return {1106, message}; }
  /// 1107: bytes that no rank of this build sends.
  [[gnu::cold]] static message_error malformed(int from, std::string_view message) {
    return {1107, "rank " + std::to_string(from) + " sent a malformed message: " + std::string(message) +
                      "; all ranks must run the same build"};
  }
  /// 1108: a rank that is not there, or a wait where none may be.
  [[gnu::cold]] static message_error misuse(std::string_view message) { return {1108, message}; }

 private:
  message_error(int number, std::string_view message) : error("mpi", number, message) {}
};

namespace detail {
inline void check(int code, std::string_view function) {
  if (code != MPI_SUCCESS) throw mpi_error::call_failed(function, code);
}
}  // namespace detail

}  // namespace mpi

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/start_checks.hpp ----
#ifndef CADRE_MPI_DETAIL_START_CHECKS_HPP
#define CADRE_MPI_DETAIL_START_CHECKS_HPP

#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <string>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// What an environment variable says; 0 if it is not there, or no number.
inline int number_in_environment(const char* name) noexcept {
  const char* const text = std::getenv(name);
  return text == nullptr ? 0 : std::atoi(text);
}

/// Of a process whose MPI knows of no other: whether its launcher has started several, each of which would be a job of its
/// own. Throws mpi_error (1109).
inline void check_launcher(int world_size) {
  if (world_size != 1 || number_in_environment("OMPI_COMM_WORLD_SIZE") == 1) return;
  if (const int n = number_in_environment("SLURM_NTASKS");
      n > 1 && std::getenv("SLURM_PROCID") != nullptr && std::getenv("SLURM_STEP_ID") != nullptr)
    throw mpi_error::started_apart(
        "srun has started " + std::to_string(n) +
        " processes that do not know each other, as this Open MPI has no support for its PMI: use "
        "mpirun inside of the allocation, or srun --mpi=pmix with one that has it");
  if (const int n = number_in_environment("PMI_SIZE"); n > 1)
    throw mpi_error::started_apart(
        "the launcher of another MPI has started " + std::to_string(n) +
        " processes that do not know each other: use the mpirun of the Open MPI that this program "
        "is linked with");
}

/// Threads that share fewer processors than the node has, as mpirun -n 2 binds each rank to one: a warning.
inline void warn_of_binding(std::size_t threads) {
  const std::size_t mine = affinity_processors();
  const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
  const int ranks = number_in_environment("OMPI_COMM_WORLD_LOCAL_SIZE");
  if (ranks == 0 || number_in_environment("OMPI_COMM_WORLD_LOCAL_RANK") != 0 || online < 1) return;
  const auto there = static_cast<std::size_t>(online);
  const bool share = threads > mine && mine < there;
  const bool idle = mine * static_cast<std::size_t>(ranks) < there;
  if (!share && !idle) return;
  log(log_level::warning, "mpi", [&] {
    return "mpirun has bound each rank of this node to " + std::to_string(mine) + " of " + std::to_string(there) +
           " processors, where it has " + std::to_string(threads) + (threads == 1 ? " thread" : " threads") +
           "; start it with --bind-to none";
  });
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/environment.hpp ----
#ifndef CADRE_MPI_ENVIRONMENT_HPP
#define CADRE_MPI_ENVIRONMENT_HPP

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi {

/// Whether this process was started by mpirun (or srun with PMI): a program can choose between threads and ranks by it
/// before MPI is touched.
[[nodiscard]] inline bool launched() noexcept {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"})
    if (std::getenv(name) != nullptr) return true;
  return false;
}

namespace detail {

/// Destroyed behind all of the program's that is defined behind an include of cadre: the end of the process, by a signal where
/// that is asked for.
struct last_act {
  bool by_signal = false;
  ~last_act() {
    if (!by_signal) return;
    std::fflush(nullptr);
    ::raise(SIGKILL);
  }
};
inline constinit last_act end_of_process;

/// MPI in this process: initialised here if the host did not, and then finalised at exit, provided that every
/// communicator was destroyed before. If one is alive, exit was called in the middle of the job: MPI is left as it is, so
/// that mpirun notices and ends the job, in place of a finalisation that would wait for ranks that never come. Where a rank
/// has died and the others go on (mpirun --enable-recovery) nothing is finalised: rank 0 waits for the others to end and then
/// has mpirun end the job, with 0 if it ends with 0 itself, else 1; where rank 0 has died the others of its node do.
class environment {
 public:
  static environment& get() {
    static environment only;
    return only;
  }
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;

  /// Held around every call of MPI: cadre asks for MPI_THREAD_SERIALIZED only.
  std::mutex& mutex() noexcept { return mutex_; }

  void enter() noexcept { alive_.fetch_add(1); }
  void leave() noexcept { alive_.fetch_sub(1); }

  /// Keeps what MPI may still touch until the process ends; under the mutex.
  void keep(std::shared_ptr<const void> memory) { kept_.push_back(std::move(memory)); }

  /// By rank 0 of a job over several nodes. mpirun waits for ever for a host that is lost, or where rank 0 dies alone.
  /// Throws mapping_error (159).
  void guard_launcher() {
    if (ours_ && goes_on_after_deaths() && !guard_) guard_.emplace();
  }

  /// `far`: this rank is not on the node of rank 0.
  void note_death(bool of_rank_0, bool far) noexcept {
    far_.store(far);
    if (of_rank_0) rank_0_died_.store(true);
    // Called before the destructor, as it is registered after the constructor has run.
    if (!somebody_died_.exchange(true)) ::on_exit([](int status, void*) { exit_status() = status; }, nullptr);
  }

  /// This process is in the place of a rank that has died; `far`: not on the node of rank 0.
  void take_place(bool far) noexcept {
    takes_place_ = true;
    note_death(false, far);
  }
  /// Whether a job goes on after the death of a rank: mpirun --enable-recovery.
  static bool goes_on_after_deaths() noexcept {
    const char* const goes_on = std::getenv("OMPI_MCA_orte_enable_recovery");
    return goes_on != nullptr && std::strcmp(goes_on, "0") != 0;
  }

  static bool finalized() noexcept {
    int done = 0;
    ::MPI_Finalized(&done);
    return done != 0;
  }

 private:
  environment() {
    if (finalized()) throw mpi_error::unusable("MPI has been finalised: make communicators before MPI_Finalize");
    int initialized = 0, level = MPI_THREAD_SINGLE;
    check(::MPI_Initialized(&initialized), "MPI_Initialized");
    if (initialized == 0) {
      check(::MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level), "MPI_Init_thread");
      ours_ = true;
      int size = 0;
      check(::MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
      try {
        check_launcher(size);
      } catch (const mpi_error&) {
        ::MPI_Finalize();
        throw;
      }
    } else {
      check(::MPI_Query_thread(&level), "MPI_Query_thread");
    }
    if (level < MPI_THREAD_SERIALIZED)
      throw mpi_error::unusable(
          "MPI was initialised for one thread only: call MPI_Init_thread with MPI_THREAD_SERIALIZED, or let cadre "
          "initialise MPI");
  }
  ~environment() {
    if (!ours_) return;
    const bool in_order = finalized() || (alive_.load() == 0 && !somebody_died_.load());
    if (in_order && guard_) guard_->dismiss();
    if (finalized()) return;
    if (in_order)
      ::MPI_Finalize();
    else if (somebody_died_.load())
      end_without_the_dead();
  }
  static int& exit_status() noexcept {
    static constinit int status = 0;
    return status;
  }
  // mpirun gives 0 after MPI_Abort(0), also where others ended otherwise, and 1 after a SIGTERM; no other codes. It is where
  // rank 0 is, as a rule: the parent of that node's ranks.
  void end_without_the_dead() noexcept {
    if (!goes_on_after_deaths()) return;  // mpirun ends the job at this moment
    int rank = 0;
    ::MPI_Comm_rank(MPI_COMM_WORLD, &rank);       // of one that came later, among those that were started with it
    constexpr unsigned for_the_others = 500'000;  // us; they know that the job is over
    if (rank != 0 || takes_place_) {
      // A rank that exits on another node than mpirun's is not counted by that as one that has ended, one that is killed is:
      // without this mpirun never ended in a third of the cases (Open MPI 4.1.4).
      end_of_process.by_signal = far_.load();
      if (!rank_0_died_.load() || far_.load()) return;
      ::usleep(for_the_others);
      std::fflush(nullptr);
      ::kill(::getppid(), SIGTERM);
      return;
    }
    ::usleep(for_the_others);
    std::fflush(nullptr);
    if (guard_) guard_->expect_end();
    if (exit_status() == 0) ::MPI_Abort(MPI_COMM_WORLD, 0);
    ::kill(::getppid(), SIGTERM);
  }

  std::mutex mutex_;
  std::atomic<int> alive_{0};
  std::atomic<bool> somebody_died_{false}, rank_0_died_{false}, far_{false};
  bool ours_ = false, takes_place_ = false;
  std::optional<launcher_guard> guard_;
  std::vector<std::shared_ptr<const void>> kept_;
};

inline MPI_Comm world() {
  (void)environment::get();
  return MPI_COMM_WORLD;
}

}  // namespace detail
}  // namespace mpi

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/family.hpp ----
#ifndef CADRE_MPI_DETAIL_FAMILY_HPP
#define CADRE_MPI_DETAIL_FAMILY_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

struct host_card {
  char name[64] = "";
};

/// The MPI communicator that a family of communicators, made from each other by split, sends its messages on. Members
/// of the family tell their messages apart by tags.
class family {
 public:
  /// Takes over `comm`, which nobody else uses.
  explicit family(MPI_Comm comm) : comm_(comm) {
    check(::MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    int* bound = nullptr;
    int found = 0;
    check(::MPI_Comm_get_attr(comm_, MPI_TAG_UB, static_cast<void*>(&bound), &found), "MPI_Comm_get_attr");
    tags_ = static_cast<std::uint32_t>(found != 0 ? *bound : 32767) / 2;
    environment::get().enter();
  }
  family(const family&) = delete;
  family& operator=(const family&) = delete;
  ~family() {
    // Where notices may be under way that nobody receives, the communicator stays: its number must not be given to a new
    // one, which would take them for its own.
    if (!spans_nodes_.load() && !environment::finalized()) {
      const std::lock_guard lock(environment::get().mutex());
      ::MPI_Comm_free(&comm_);
    }
    environment::get().leave();
  }

  [[nodiscard]] MPI_Comm comm() const noexcept { return comm_; }
  /// By rank, for the texts of errors.
  void name_hosts(std::vector<host_card> hosts) noexcept { hosts_ = std::move(hosts); }
  [[nodiscard]] std::string host_of(int rank) const { return hosts_[static_cast<std::size_t>(rank)].name; }
  [[nodiscard]] int data_tag(std::uint32_t id) const noexcept { return static_cast<int>(id) * 2; }
  [[nodiscard]] int notice_tag(std::uint32_t id) const noexcept { return data_tag(id) + 1; }

  /// The number that communicator `parent` offers, at the given attempt, to what comes out of its call number
  /// `sequence`: all ranks of it know it, whatever their other threads split at this moment.
  [[nodiscard]] std::uint32_t offer(std::uint32_t parent, std::uint64_t sequence,
                                    std::uint32_t attempt) const noexcept {
    std::uint64_t x = (std::uint64_t{parent} << 32 | attempt) * 0x9e3779b97f4a7c15u + sequence;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return static_cast<std::uint32_t>((x ^ (x >> 31)) % tags_);
  }
  /// False if a communicator of this process has this number or had it: what was sent to that may still be under way.
  [[nodiscard]] bool take(std::uint32_t id) {
    const std::lock_guard lock(ids_mutex_);
    return ids_.insert(id).second;
  }
  void give_back(std::uint32_t id) {
    const std::lock_guard lock(ids_mutex_);
    ids_.erase(id);
  }
  void spans_nodes() noexcept { spans_nodes_.store(true); }

 private:
  MPI_Comm comm_;
  std::vector<host_card> hosts_;
  std::uint32_t tags_;
  std::mutex ids_mutex_;
  std::set<std::uint32_t> ids_{0};  // 0 is the first one's
  std::atomic<bool> spans_nodes_{false};
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/wire.hpp ----
#ifndef CADRE_MPI_DETAIL_WIRE_HPP
#define CADRE_MPI_DETAIL_WIRE_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// What a rank tells the leaders of the other nodes outside of any collective.
struct notice {
  std::uint32_t id = 0;
  std::int32_t node = 0;
  std::int32_t left = 0;  // the node's leader has destroyed its communicator; else: the communicator is broken
  cadre::detail::break_reason reason{};
  std::uint64_t sequence = 0;
  char why[1000] = "";
};

/// The way between the nodes of a communicator: messages between their leaders (rank 0 of each node), posted as
/// nonblocking operations and tested under the deadline of the call, and notices that a rank of any node has broken the
/// communicator.
class wire {
  using control_block = cadre::detail::control_block;
  using break_reason = cadre::detail::break_reason;

 public:
  struct part {
    int node;
    std::byte* data;
    std::size_t bytes;
  };

  /// `leaders` are family ranks by node, `names` are for the texts of errors; `memory` is what messages are sent from, kept while MPI may still read it.
  wire(std::shared_ptr<family> shared, std::uint32_t id, std::vector<int> leaders, std::vector<std::string> names,
       int node, bool is_leader, std::shared_ptr<void> memory)
      : family_(std::move(shared)),
        id_(id),
        leaders_(std::move(leaders)),
        names_(std::move(names)),
        node_(node),
        left_(leaders_.size(), false),
        memory_(std::move(memory)),
        scratch_(std::make_shared<std::vector<std::byte>>()) {
    family_->spans_nodes();
    if (is_leader) listen();
  }
  wire(const wire&) = delete;
  wire& operator=(const wire&) = delete;
  ~wire() {
    if (inbox_ == nullptr || environment::finalized()) return;
    const std::lock_guard lock(environment::get().mutex());
    ::MPI_Cancel(&listening_);
    ::MPI_Wait(&listening_, MPI_STATUS_IGNORE);
  }

  [[nodiscard]] int nodes() const noexcept { return static_cast<int>(leaders_.size()); }
  [[nodiscard]] int node() const noexcept { return node_; }
  /// Room for received messages, of at least `bytes`.
  [[nodiscard]] std::byte* scratch(std::size_t bytes) {
    if (scratch_->size() < bytes) scratch_->resize(bytes);
    return scratch_->data();
  }

  /// Tells the other nodes why this rank has broken the communicator. Any thread may call it.
  void announce(break_reason reason, std::uint64_t sequence, std::string_view why) noexcept {
    send_notice({.id = id_, .node = node_, .reason = reason, .sequence = sequence}, why);
  }
  /// Tells the other nodes that this leader makes no further calls.
  void announce_departure() noexcept { send_notice({.id = id_, .node = node_, .left = 1}, {}); }

  /// Leaders: takes in what other nodes have told.
  void poll(control_block& block) noexcept {
    if (inbox_ == nullptr || environment::finalized()) return;
    for (;;) {
      int done = 0;
      {
        const std::lock_guard lock(environment::get().mutex());
        if (::MPI_Test(&listening_, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
      }
      if (done == 0) return;
      if (inbox_->id == id_ && inbox_->node >= 0 && inbox_->node < nodes()) {
        if (inbox_->left != 0) {
          left_[static_cast<std::size_t>(inbox_->node)] = true;
        } else {
          inbox_->why[sizeof inbox_->why - 1] = '\0';
          block.break_with(inbox_->reason, inbox_->sequence, inbox_->why);
          futex::wake_all(block.gate, futex::scope::shared);
        }
      }
      listen();
    }
  }

  /// Leaders: sends and receives all parts. `member` gives the deadline and learns of failures; throws what broke the
  /// communicator.
  template <class Member>
  void exchange(Member& member, std::span<const part> sends, std::span<const part> receives) {
    if (environment::finalized()) {
      member.give_up(break_reason::aborted, "MPI has been finalised, and " + describe(member.call()) + " spans nodes");
      member.block().throw_broken(member.call());
    }
    std::vector<MPI_Request> requests(sends.size() + receives.size(), MPI_REQUEST_NULL);
    {
      const std::lock_guard lock(environment::get().mutex());
      std::size_t i = 0;
      for (const part& p : receives)
        check(::MPI_Irecv(p.data, static_cast<int>(p.bytes), MPI_BYTE, leader(p.node), family_->data_tag(id_),
                          family_->comm(), &requests[i++]),
              "MPI_Irecv");
      for (const part& p : sends)
        check(::MPI_Isend(p.data, static_cast<int>(p.bytes), MPI_BYTE, leader(p.node), family_->data_tag(id_),
                          family_->comm(), &requests[i++]),
              "MPI_Isend");
    }
    for (unsigned round = 0; !test(requests, member); ++round) {
      poll(member.block());
      bool give_up = (member.block().gate.load() & control_block::broken_flag) != 0;
      if (!give_up && round % 64 == 63) give_up = overdue(member, requests, receives);
      if (give_up) {
        retire(requests, receives.size());
        member.block().throw_broken(member.call());
      }
      if (round > 20000)
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      else if (round > 200)
        std::this_thread::yield();
    }
  }

 private:
  [[nodiscard]] const std::string& name(int node) const { return names_[static_cast<std::size_t>(node)]; }
  [[nodiscard]] int leader(int node) const { return leaders_[static_cast<std::size_t>(node)]; }

  void listen() noexcept {
    if (inbox_ == nullptr) inbox_ = std::make_unique<notice>();
    const std::lock_guard lock(environment::get().mutex());
    ::MPI_Irecv(inbox_.get(), static_cast<int>(sizeof(notice)), MPI_BYTE, MPI_ANY_SOURCE, family_->notice_tag(id_),
                family_->comm(), &listening_);
  }

  void send_notice(notice about, std::string_view why) noexcept {
    try {
      if (environment::finalized()) return;
      const std::size_t n = std::min(why.size(), sizeof about.why - 1);
      why.copy(about.why, n);
      about.why[n] = '\0';
      const auto message = std::make_shared<notice>(about);
      const int bytes = static_cast<int>(offsetof(notice, why) + n + 1);
      const std::lock_guard lock(environment::get().mutex());
      for (int other = 0; other < nodes(); ++other) {
        if (other == node_) continue;
        MPI_Request request = MPI_REQUEST_NULL;
        ::MPI_Isend(message.get(), bytes, MPI_BYTE, leader(other), family_->notice_tag(id_), family_->comm(), &request);
        int sent = 0;  // at once for so small a message, whether or not anybody receives it
        ::MPI_Test(&request, &sent, MPI_STATUS_IGNORE);
        if (sent != 0) continue;
        ::MPI_Request_free(&request);
        environment::get().keep(message);
      }
    } catch (...) {
      // Without memory the other nodes learn of it by their timeouts.
    }
  }

  template <class Member>
  bool test(std::vector<MPI_Request>& requests, Member& member) {
    int done = 0, code = MPI_SUCCESS;
    {
      const std::lock_guard lock(environment::get().mutex());
      code = ::MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE);
    }
    if (code == MPI_SUCCESS) return done != 0;
    const auto error = mpi_error::call_failed("a message between nodes", code);
    member.give_up(break_reason::aborted, error.what());
    throw error;
  }

  // Breaks the communicator if a node that is still waited for has left, or if the time is over.
  template <class Member>
  bool overdue(Member& member, std::vector<MPI_Request>& requests, std::span<const part> receives) {
    std::string late;
    int gone = -1;
    {
      const std::lock_guard lock(environment::get().mutex());
      for (std::size_t i = 0; i < receives.size(); ++i) {
        int arrived = 1;
        if (requests[i] != MPI_REQUEST_NULL) ::MPI_Request_get_status(requests[i], &arrived, MPI_STATUS_IGNORE);
        if (arrived != 0) continue;
        late += (late.empty() ? "" : ", ") + name(receives[i].node);
        if (left_[static_cast<std::size_t>(receives[i].node)]) gone = receives[i].node;
      }
    }
    const auto now = std::chrono::steady_clock::now();
    if (gone >= 0) {
      // What the node sent before it left may still be on its way.
      if (departure_seen_ == std::chrono::steady_clock::time_point{}) departure_seen_ = now;
      if (now - departure_seen_ < std::chrono::milliseconds(500)) return false;
      member.give_up(break_reason::aborted, name(gone) + " has left the communicator while " + name(node_) +
                                                " waits in " + describe(member.call()));
      return true;
    }
    if (now < member.deadline()) return false;
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(member.limit()).count();
    member.give_up(break_reason::timeout,
                   name(node_) + " waited " + std::to_string(ms) + " ms in " + describe(member.call()) + "; " +
                       (late.empty() ? "its messages were not taken" : "not arrived: " + late) +
                       ". A rank that fails must abort the communicator; a slow one needs a longer set_timeout");
    return true;
  }

  // MPI may still read and write the buffers of requests that were given up: they are kept until the process ends.
  void retire(std::vector<MPI_Request>& requests, std::size_t receives) {
    const std::lock_guard lock(environment::get().mutex());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (requests[i] == MPI_REQUEST_NULL) continue;
      if (i < receives) ::MPI_Cancel(&requests[i]);
      ::MPI_Request_free(&requests[i]);
    }
    environment::get().keep(memory_);
    environment::get().keep(scratch_);
    scratch_ = std::make_shared<std::vector<std::byte>>();
  }

  std::shared_ptr<family> family_;
  std::uint32_t id_;
  std::vector<int> leaders_;
  std::vector<std::string> names_;
  int node_;
  std::vector<bool> left_;
  std::shared_ptr<void> memory_;
  std::shared_ptr<std::vector<std::byte>> scratch_;
  std::chrono::steady_clock::time_point departure_seen_{};
  std::unique_ptr<notice> inbox_;
  MPI_Request listening_ = MPI_REQUEST_NULL;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/shared_peers.hpp ----
#ifndef CADRE_MPI_DETAIL_SHARED_PEERS_HPP
#define CADRE_MPI_DETAIL_SHARED_PEERS_HPP

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Processes of one node: they reach each other's buffers in shared allocations, and pass the others through stages.
/// The control memory that they share holds the control block, then stage_slots stages for each rank, each of stage_bytes
/// or, where the communicator has so many ranks, of a cache line for each of them.
class shared_peers {
  using control_block = cadre::detail::control_block;

 public:
  static constexpr auto scope = futex::scope::shared;
  static constexpr bool share_address_space = false;
  static constexpr std::chrono::nanoseconds nap = std::chrono::milliseconds(20);
  static constexpr std::size_t stage_bytes = std::size_t{128} << 10;
  static constexpr std::size_t stage_slots = 4;

  static std::size_t control_bytes(int ranks) noexcept {
    constexpr std::size_t page = 4096;
    return (control_block::bytes(ranks) + page - 1) / page * page;
  }

  static std::size_t room_of_stage(int world) noexcept {
    return std::max(stage_bytes, static_cast<std::size_t>(world) * 64);
  }

  /// `world`: how many ranks the communicator has, on all its nodes.
  shared_peers(std::vector<int> ranks, std::vector<int> processes, std::shared_ptr<mapping> control,
               std::shared_ptr<segment_table> segments, int world)
      : room_of_stage_(room_of_stage(world)),
        ranks_(std::move(ranks)),
        control_(std::move(control)),
        segments_(std::move(segments)),
        stages_(control_->data() + control_bytes(static_cast<int>(ranks_.size()))),
        processes_(std::move(processes)) {
    for (const int process : processes_) watches_.emplace_back(process);
  }
  void connect(wire* way) noexcept { wire_ = way; }

  static int processors() noexcept {
    // Of the machine: mpirun may have bound each rank to a processor of its own.
    static const int n = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
    return n;
  }
  [[nodiscard]] int rank_of(int local) const { return ranks_[static_cast<std::size_t>(local)]; }

  [[nodiscard]] std::string whereabouts(int local) const {
    return "process " + std::to_string(processes_[static_cast<std::size_t>(local)]) + " on " + host_name() + "; ";
  }

  [[nodiscard]] cadre::detail::place locate(const void* data, std::size_t bytes) const {
    const auto [segment, offset] = segments_->locate(static_cast<const std::byte*>(data), bytes);
    return {segment, offset};
  }
  [[nodiscard]] std::byte* reach(int, cadre::detail::place where) const {
    return segments_->find(where.segment) + where.offset;
  }
  [[nodiscard]] std::byte* staging(int rank, int slot) const noexcept {
    return stages_ + (static_cast<std::size_t>(rank) * stage_slots + static_cast<std::size_t>(slot)) * room_of_stage_;
  }

  /// Breaks the block if a process of the node has ended, and takes in what other nodes tell.
  void poll(control_block& block) noexcept {
    if (wire_ != nullptr) wire_->poll(block);
    for (std::size_t i = 0; i < watches_.size(); ++i) {
      if (!watches_[i].ended()) continue;
      try {
        const std::string why = "rank " + std::to_string(ranks_[i]) + " (" + whereabouts(static_cast<int>(i)) +
                                last_call(block.slots()[i]) + ") has ended" + watches_[i].how();
        if (block.break_with(cadre::detail::break_reason::aborted, 0, why))
          announce(cadre::detail::break_reason::aborted, 0, why);
        futex::wake_all(block.gate, scope);
      } catch (...) {}
      return;
    }
  }
  void announce(cadre::detail::break_reason reason, std::uint64_t sequence, std::string_view why) noexcept {
    if (wire_ != nullptr) wire_->announce(reason, sequence, why);
  }

 private:
  std::size_t room_of_stage_;
  std::vector<int> ranks_;  // of the communicator, by rank of the node
  std::shared_ptr<mapping> control_;
  std::shared_ptr<segment_table> segments_;
  std::byte* stages_;
  std::vector<int> processes_;
  std::vector<process_watch> watches_;
  wire* wire_ = nullptr;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/bridged_collectives.hpp ----
#ifndef CADRE_MPI_DETAIL_BRIDGED_COLLECTIVES_HPP
#define CADRE_MPI_DETAIL_BRIDGED_COLLECTIVES_HPP

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

using cadre::detail::copy_bytes;

/// The collectives of ranks on several nodes: reduced on the node, carried between the nodes by their leaders (rank 0 of
/// each node), taken by all from the leader's stage. Reductions fold the tree over each node's ranks, then the tree over
/// the nodes.
///
/// Every collective begins with an agreement of all ranks on the call, which carries small messages along. Large ones
/// follow in a pipeline of stages: before meeting k a rank fills slot k and reduces its share of slot k-1 while the
/// leader carries slot k-2; after it, it takes slot k-2. Slot k is filled again at k+4, when all have taken it.
class bridged_collectives {
  using call_record = cadre::detail::call_record;
  using operation = cadre::detail::operation;
  using combine_function = cadre::detail::combine_function;
  using member_type = cadre::detail::member<shared_peers>;
  static constexpr std::size_t inline_bytes = cadre::detail::inline_bytes;

 public:
  bridged_collectives(const topology& who, int rank, member_type& member, shared_peers& peers, wire& way)
      : who_(&who),
        rank_(rank),
        member_(&member),
        peers_(&peers),
        wire_(&way),
        sources_(static_cast<std::size_t>(member.ranks())) {
    std::size_t most = 0;
    for (int node = 0; node < way.nodes(); ++node) most = std::max(most, who.members(node).size());
    message_bytes_ = sizeof(call_record) + std::max(most, std::size_t{1}) * inline_bytes;
  }

  void meet(const call_record& call, std::chrono::nanoseconds timeout) {
    begin(call, timeout);
    agree_only();
  }

  void all_reduce(void* data, const call_record& call) {
    auto* const bytes = static_cast<std::byte*>(data);
    const std::size_t size = call.count * size_of(call.type);
    const combine_function combine = cadre::detail::combiner(call.type, call.op);
    begin(call, member_->timeout());
    if (size <= inline_bytes) {
      reduce_inline(bytes, size, combine);
      copy_bytes(bytes, stage(0, 0), size);
      return;
    }
    agree_only();
    pipeline(
        size, stage_bytes(),
        [&](std::size_t at, std::size_t n, int slot) { copy_bytes(stage(local(), slot), bytes + at, n); },
        [&](std::size_t n, int slot) { reduce_on_node(n, slot, combine); },
        [&](std::size_t n, int slot) {
          const auto share = [&](int node) { return cadre::detail::share_of(n, node, wire_->nodes()); };
          reduce_scatter_nodes(stage(0, slot), share, combine);
          gather_nodes(stage(0, slot), share);
        },
        [&](std::size_t at, std::size_t n, int slot) { copy_bytes(bytes + at, stage(0, slot), n); });
  }

  void broadcast(void* data, const call_record& call) {
    auto* const bytes = static_cast<std::byte*>(data);
    const std::size_t size = call.count;
    const auto root = static_cast<std::size_t>(call.root);
    const int root_node = who_->node_of[root];
    const bool is_root = rank_ == call.root, on_root_node = wire_->node() == root_node;
    // On the root's node the message lies in the root's stage, on others in the leader's.
    const int holder = on_root_node ? who_->local_of[root] : 0;
    begin(call, member_->timeout());
    if (size <= inline_bytes) {
      if (is_root) copy_bytes(member_->outbox(), bytes, size);
      agree(
          [&](std::byte* message) {
            if (on_root_node) copy_bytes(message, member_->inbox(holder), size);
          },
          on_root_node ? size : 0,
          [&](std::byte* result, std::span<const std::byte* const> messages) {
            copy_bytes(result, messages[static_cast<std::size_t>(root_node)], size);
          });
      if (!is_root) copy_bytes(bytes, stage(0, 0), size);
      return;
    }
    agree_only();
    pipeline(
        size, stage_bytes(),
        [&](std::size_t at, std::size_t n, int slot) {
          if (is_root) copy_bytes(stage(holder, slot), bytes + at, n);
        },
        [](std::size_t, int) {},
        [&](std::size_t n, int slot) {
          parts_.clear();
          if (on_root_node) {
            for (int node = 0; node < wire_->nodes(); ++node)
              if (node != root_node) parts_.push_back({node, stage(holder, slot), n});
            wire_->exchange(*member_, parts_, {});
          } else {
            parts_.push_back({root_node, stage(0, slot), n});
            wire_->exchange(*member_, {}, parts_);
          }
        },
        [&](std::size_t at, std::size_t n, int slot) {
          if (!is_root) copy_bytes(bytes + at, stage(holder, slot), n);
        });
  }

  void reduce_scatter(const void* in, void* out, const call_record& call) {
    const auto* const from = static_cast<const std::byte*>(in);
    auto* const to = static_cast<std::byte*>(out);
    const std::size_t part = call.count * size_of(call.type), size = part * world();
    const combine_function combine = cadre::detail::combiner(call.type, call.op);
    begin(call, member_->timeout());
    if (size <= inline_bytes) {
      reduce_inline(from, size, combine);
      copy_bytes(to, stage(0, 0) + static_cast<std::size_t>(rank_) * part, part);
      return;
    }
    agree_only();
    pipeline(
        part, piece_bytes(),
        [&](std::size_t at, std::size_t n, int slot) {
          for (std::size_t r = 0; r < world(); ++r)
            copy_bytes(stage(local(), slot) + who_->position[r] * n, from + r * part + at, n);
        },
        [&](std::size_t n, int slot) { reduce_on_node(n * world(), slot, combine); },
        [&](std::size_t n, int slot) {
          reduce_scatter_nodes(
              stage(0, slot), [&](int node) { return run_of(node, n); }, combine);
        },
        [&](std::size_t at, std::size_t n, int slot) { copy_bytes(to + at, stage(0, slot) + position() * n, n); });
  }

  void all_gather(const void* in, void* out, const call_record& call) {
    const auto* const from = static_cast<const std::byte*>(in);
    auto* const to = static_cast<std::byte*>(out);
    const std::size_t part = call.count;
    begin(call, member_->timeout());
    const auto take = [&](std::size_t at, std::size_t n, int slot) {
      for (std::size_t r = 0; r < world(); ++r)
        copy_bytes(to + r * part + at, stage(0, slot) + who_->position[r] * n, n);
    };
    if (part <= inline_bytes && part <= piece_bytes()) {
      copy_bytes(member_->outbox(), from, part);
      const std::size_t locals = static_cast<std::size_t>(member_->ranks());
      agree(
          [&](std::byte* message) {
            for (std::size_t r = 0; r < locals; ++r)
              copy_bytes(message + r * part, member_->inbox(static_cast<int>(r)), part);
          },
          part * locals,
          [&](std::byte* result, std::span<const std::byte* const> messages) {
            for (int node = 0; node < wire_->nodes(); ++node) {
              const auto [begin_at, end_at] = run_of(node, part);
              copy_bytes(result + begin_at, messages[static_cast<std::size_t>(node)], end_at - begin_at);
            }
          });
      take(0, part, 0);
      return;
    }
    agree_only();
    pipeline(
        part, piece_bytes(),
        [&](std::size_t at, std::size_t n, int slot) { copy_bytes(stage(0, slot) + position() * n, from + at, n); },
        [](std::size_t, int) {},
        [&](std::size_t n, int slot) { gather_nodes(stage(0, slot), [&](int node) { return run_of(node, n); }); },
        take);
  }

 private:
  [[nodiscard]] int local() const noexcept { return member_->rank(); }
  [[nodiscard]] bool is_leader() const noexcept { return local() == 0; }
  [[nodiscard]] std::size_t world() const noexcept { return static_cast<std::size_t>(who_->size()); }
  [[nodiscard]] std::size_t position() const { return who_->position[static_cast<std::size_t>(rank_)]; }
  [[nodiscard]] std::byte* stage(int local_rank, int slot) const { return peers_->staging(local_rank, slot); }
  [[nodiscard]] static constexpr std::size_t stage_bytes() noexcept { return shared_peers::stage_bytes; }
  [[nodiscard]] std::size_t piece_bytes() const noexcept { return cadre::detail::piece_of(stage_bytes(), world()); }
  // The pieces of n bytes that belong to a node's ranks.
  [[nodiscard]] std::pair<std::size_t, std::size_t> run_of(int node, std::size_t n) const {
    const auto i = static_cast<std::size_t>(node);
    return {who_->first[i] * n, who_->first[i + 1] * n};
  }

  void begin(const call_record& call, std::chrono::nanoseconds timeout) {
    if (is_leader()) wire_->poll(member_->block());
    member_->begin(call, timeout);
  }

  // All ranks of all nodes agree on the call. `pack` writes this node's message of `bytes` bytes, and `unpack` makes the
  // result, which all ranks then find in slot 0 of the leader's stage, from the messages of all nodes; both run on the
  // leader.
  template <class Pack, class Unpack>
  void agree(Pack pack, std::size_t bytes, Unpack unpack) {
    member_->agree();
    if (is_leader()) {
      const auto nodes = static_cast<std::size_t>(wire_->nodes()), own = static_cast<std::size_t>(wire_->node());
      std::byte* const room = wire_->scratch(message_bytes_ * nodes);
      const auto message = [&](std::size_t node) { return room + node * message_bytes_; };
      std::memcpy(message(own), &member_->call(), sizeof(call_record));
      pack(message(own) + sizeof(call_record));
      std::vector<wire::part> sends;
      parts_.clear();
      for (std::size_t node = 0; node < nodes; ++node) {
        if (node == own) continue;
        sends.push_back({static_cast<int>(node), message(own), sizeof(call_record) + bytes});
        parts_.push_back({static_cast<int>(node), message(node), message_bytes_});
      }
      wire_->exchange(*member_, sends, parts_);
      check_calls(room);
      payloads_.clear();
      for (std::size_t node = 0; node < nodes; ++node) payloads_.push_back(message(node) + sizeof(call_record));
      unpack(stage(0, 0), payloads_);
    }
    member_->meet();
  }
  void agree_only() {
    agree([](std::byte*) {}, 0, [](std::byte*, std::span<const std::byte* const>) {});
  }

  void check_calls(const std::byte* room) {
    const auto call_of = [&](int node) {
      call_record call;
      std::memcpy(&call, room + static_cast<std::size_t>(node) * message_bytes_, sizeof call);
      return call;
    };
    const call_record expected = call_of(0);
    for (int node = 1; node < wire_->nodes(); ++node) {
      const call_record other = call_of(node);
      if (other.agrees_with(expected)) continue;
      const auto name = [&](int n) { return "rank " + std::to_string(who_->members(n)[0]); };
      member_->give_up(cadre::detail::break_reason::mismatch,
                       name(0) + " calls " + describe(expected) + ", but " + name(node) + " calls " + describe(other) +
                           "; all ranks must make the same calls in the same order");
      member_->block().throw_broken(member_->call());
    }
  }

  // A small message, reduced over all ranks on the way.
  void reduce_inline(const std::byte* bytes, std::size_t size, combine_function combine) {
    copy_bytes(member_->outbox(), bytes, size);
    agree(
        [&](std::byte* message) {
          for (int r = 0; r < member_->ranks(); ++r) sources_[static_cast<std::size_t>(r)] = member_->inbox(r);
          cadre::detail::reduce_tree(sources_, {&message, 1}, 0, size, combine);
        },
        size,
        [&](std::byte* result, std::span<const std::byte* const> messages) {
          cadre::detail::reduce_tree(messages, {&result, 1}, 0, size, combine);
        });
  }

  // This rank's share of n bytes of the slot, over the node's ranks, into the leader's stage.
  void reduce_on_node(std::size_t n, int slot, combine_function combine) {
    for (int r = 0; r < member_->ranks(); ++r) sources_[static_cast<std::size_t>(r)] = stage(r, slot);
    std::byte* const result = stage(0, slot);
    const auto [first, last] = cadre::detail::share_of(n, local(), member_->ranks());
    cadre::detail::reduce_tree(sources_, {&result, 1}, first, last, combine);
  }

  // Leaders: each node's range of the nodes' data, as range_of(node) gives it, is reduced on that node, in place.
  template <class Range>
  void reduce_scatter_nodes(std::byte* data, Range range_of, combine_function combine) {
    const int nodes = wire_->nodes(), own = wire_->node();
    const auto [first, last] = range_of(own);
    const std::size_t bytes = last - first;
    std::byte* const room = wire_->scratch(bytes * static_cast<std::size_t>(nodes));
    std::vector<wire::part> sends;
    parts_.clear();
    payloads_.clear();
    for (int node = 0; node < nodes; ++node) {
      std::byte* const received = room + static_cast<std::size_t>(node) * bytes;
      payloads_.push_back(node == own ? data + first : received);
      if (node == own) continue;
      const auto [begin_at, end_at] = range_of(node);
      if (begin_at != end_at) sends.push_back({node, data + begin_at, end_at - begin_at});
      if (bytes != 0) parts_.push_back({node, received, bytes});
    }
    wire_->exchange(*member_, sends, parts_);
    std::byte* const result = data + first;
    cadre::detail::reduce_tree(payloads_, {&result, 1}, 0, bytes, combine);
  }

  // Leaders: each node's range goes to all other nodes.
  template <class Range>
  void gather_nodes(std::byte* data, Range range_of) {
    const int nodes = wire_->nodes(), own = wire_->node();
    const auto [first, last] = range_of(own);
    std::vector<wire::part> sends;
    parts_.clear();
    for (int node = 0; node < nodes; ++node) {
      if (node == own) continue;
      const auto [begin_at, end_at] = range_of(node);
      if (first != last) sends.push_back({node, data + first, last - first});
      if (begin_at != end_at) parts_.push_back({node, data + begin_at, end_at - begin_at});
    }
    wire_->exchange(*member_, sends, parts_);
  }

  template <class Fill, class Reduce, class Carry, class Take>
  void pipeline(std::size_t size, std::size_t step, Fill fill, Reduce reduce, Carry carry, Take take) {
    const std::size_t stages = (size + step - 1) / step;
    const auto bytes = [&](std::size_t k) { return std::min(step, size - k * step); };
    const auto slot = [](std::size_t k) { return static_cast<int>(k % shared_peers::stage_slots); };
    for (std::size_t k = 0; k < stages + 2; ++k) {
      if (k < stages) fill(k * step, bytes(k), slot(k));
      if (k >= 1 && k <= stages) reduce(bytes(k - 1), slot(k - 1));
      if (k >= 2 && is_leader()) carry(bytes(k - 2), slot(k - 2));
      member_->meet();
      if (k >= 2) take((k - 2) * step, bytes(k - 2), slot(k - 2));
    }
  }

  const topology* who_;
  int rank_;
  member_type* member_;
  shared_peers* peers_;
  wire* wire_;
  std::size_t message_bytes_ = 0;
  std::vector<const std::byte*> sources_;   // of the node's ranks
  std::vector<const std::byte*> payloads_;  // of the nodes
  std::vector<wire::part> parts_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/endpoint.hpp ----
#ifndef CADRE_MPI_DETAIL_ENDPOINT_HPP
#define CADRE_MPI_DETAIL_ENDPOINT_HPP

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// This rank's end: what it shares with its node, and the way to other nodes if there are any.
struct endpoint {
  /// `gather(x)` returns everybody's x among those that make communicators at this moment; rank r of this one is number
  /// index_of[r] among them.
  template <class Gather>
  endpoint(std::shared_ptr<family> shared, std::uint32_t number_in_family, topology everybody, int my_rank,
           const std::vector<int>& index_of, std::shared_ptr<segment_table> parent, Gather&& gather)
      : in_family(std::move(shared)),
        id(number_in_family),
        who(std::move(everybody)),
        rank(my_rank),
        segments(std::make_shared<segment_table>(std::move(parent))) {
    const auto index = static_cast<std::size_t>(my_rank);
    const int local = who.local_of[index], locals = static_cast<int>(who.members(node()).size());
    const std::size_t control = shared_peers::control_bytes(locals);
    const std::size_t stages =
        who.size() == 1 ? 0 : shared_peers::room_of_stage(who.size()) * shared_peers::stage_slots;
    const std::size_t begin = local == 0 ? 0 : control + static_cast<std::size_t>(local) * stages;
    const auto number = [&](int r) { return static_cast<std::size_t>(index_of[static_cast<std::size_t>(r)]); };
    auto made =
        share_memory(control + static_cast<std::size_t>(locals) * stages, number(rank), number(who.members(node())[0]),
                     begin, control + static_cast<std::size_t>(local + 1) * stages - begin, gather, all_ways);
    memory = std::make_shared<mapping>(std::move(made.memory));
    if (local == 0) cadre::detail::control_block::create(memory->data(), locals);
    const std::vector<int> all_processes = gather(static_cast<int>(::getpid()));  // and the control block is there
    std::vector<int> processes;
    for (const int r : who.members(node())) processes.push_back(all_processes[number(r)]);
    peers.emplace(who.members(node()), std::move(processes), memory, segments, who.size());
    calls.emplace(*reinterpret_cast<cadre::detail::control_block*>(memory->data()), *peers, local);
    if (who.nodes() > 1) {
      std::vector<int> leaders;
      for (const auto& members : who.ranks_of) leaders.push_back(who.family_rank[static_cast<std::size_t>(members[0])]);
      way.emplace(in_family, id, std::move(leaders), names_of_nodes(), node(), local == 0, memory);
      peers->connect(&*way);
      bridge.emplace(who, rank, calls->member(), *peers, *way);
    }
  }
  endpoint(const endpoint&) = delete;
  endpoint& operator=(const endpoint&) = delete;
  ~endpoint() {
    if (!calls) return;
    calls->member().leave();
    if (way && calls->member().rank() == 0) way->announce_departure();
  }

  /// As `node 1 (ranks 2, 3 on host)`.
  [[nodiscard]] std::vector<std::string> names_of_nodes() const {
    std::vector<std::string> names;
    for (const auto& members : who.ranks_of) {
      std::string name = "node " + std::to_string(names.size()) + (members.size() == 1 ? " (rank " : " (ranks ");
      for (std::size_t i = 0; i < members.size() && i < 8; ++i) name += (i ? ", " : "") + std::to_string(members[i]);
      if (members.size() > 8) name += ", ...";
      const int leader = who.family_rank[static_cast<std::size_t>(members[0])];
      names.push_back(name + " on " + in_family->host_of(leader) + ')');
    }
    return names;
  }

  void abort(std::string_view why) noexcept {
    member().abort(why);
    children.abort(why);
  }

  [[nodiscard]] cadre::detail::member<shared_peers>& member() { return calls->member(); }
  [[nodiscard]] int node() const { return who.node_of[static_cast<std::size_t>(rank)]; }
  template <class F>
  void with_model(F&& f) {
    if (bridge)
      f(*bridge);
    else
      f(*calls);
  }

  std::shared_ptr<family> in_family;
  std::uint32_t id;
  topology who;
  int rank;
  std::shared_ptr<segment_table> segments;
  std::shared_ptr<mapping> memory;
  std::optional<shared_peers> peers;
  std::optional<cadre::detail::node_collectives<shared_peers>> calls;
  std::optional<wire> way;
  std::optional<bridged_collectives> bridge;
  cadre::detail::offspring<endpoint> children;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/root_gather.hpp ----
#ifndef CADRE_MPI_DETAIL_ROOT_GATHER_HPP
#define CADRE_MPI_DETAIL_ROOT_GATHER_HPP

#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Waits for a nonblocking operation of all ranks that makes a communicator.
inline void wait_to_join(MPI_Request request, std::chrono::steady_clock::time_point deadline) {
  for (;;) {
    int done = 0;
    {
      const std::lock_guard lock(environment::get().mutex());
      check(::MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    }
    if (done != 0) return;
    if (std::chrono::steady_clock::now() >= deadline)
      throw communicator_timeout("not all ranks came to make the communicator in time: making one is collective");
    std::this_thread::yield();
  }
}

/// gather(x) over the ranks of an MPI communicator.
class root_gather {
 public:
  root_gather(MPI_Comm comm, int size, std::chrono::steady_clock::time_point deadline)
      : comm_(comm), size_(size), deadline_(deadline) {}

  template <class T>
  std::vector<T> operator()(const T& mine) const {
    // Kept where a rank gives up: MPI may still write it.
    const auto all =
        std::make_shared<std::pair<T, std::vector<T>>>(mine, std::vector<T>(static_cast<std::size_t>(size_)));
    MPI_Request request = MPI_REQUEST_NULL;
    {
      const std::lock_guard lock(environment::get().mutex());
      check(::MPI_Iallgather(&all->first, static_cast<int>(sizeof(T)), MPI_BYTE, all->second.data(),
                             static_cast<int>(sizeof(T)), MPI_BYTE, comm_, &request),
            "MPI_Iallgather");
    }
    try {
      wait_to_join(request, deadline_);
    } catch (...) {
      const std::lock_guard lock(environment::get().mutex());
      environment::get().keep(all);
      throw;
    }
    return all->second;
  }

 private:
  MPI_Comm comm_;
  int size_;
  std::chrono::steady_clock::time_point deadline_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/communicator.hpp ----
#ifndef CADRE_MPI_COMMUNICATOR_HPP
#define CADRE_MPI_COMMUNICATOR_HPP

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi {

struct communicator_options {
  /// Per collective, and for making the communicator.
  std::chrono::nanoseconds timeout = default_collective_timeout;
  /// Treats this many consecutive ranks as a node of their own, to try on one machine what happens on several; 0: nodes
  /// are what they are.
  int ranks_per_node = 0;
};

/// The ranks that mpirun started, or those of an MPI communicator, as cadre's communicator. Ranks of one node work in
/// memory that they share and do not enter MPI; between nodes one rank per node sends, with nonblocking operations that
/// are tested under the deadline. The shared memory has no name and goes with its processes, however they end.
///
/// Move-only. One thread at a time uses an object; abort may come from any thread. Making one is collective. The thread
/// that makes MPI progress holds a lock of cadre's: a host that calls MPI itself from other threads needs
/// MPI_THREAD_MULTIPLE. Initialises MPI if the host did not (and then finalises it at exit), else leaves that to the host.
/// Throws communicator_timeout (401), mapping_error (159), mpi_error (1101, 1102).
class communicator : public collectives<communicator> {
 public:
  /// All ranks of the job.
  communicator() : communicator(communicator_options{}) {}
  explicit communicator(const communicator_options& options) : communicator(detail::world(), options) {}
  /// The ranks of `comm`, which is duplicated: the host's messages and ours do not meet.
  explicit communicator(MPI_Comm comm, const communicator_options& options = {});

  communicator(communicator&&) noexcept = default;
  communicator& operator=(communicator&&) noexcept = default;

  [[nodiscard]] int rank() const { return end_->rank; }
  [[nodiscard]] int world_size() const { return end_->who.size(); }
  /// This rank among those of its node, how many those are, the node's number, and how many nodes there are.
  [[nodiscard]] int local_rank() const { return end_->member().rank(); }
  [[nodiscard]] int local_size() const { return end_->member().ranks(); }
  [[nodiscard]] int node() const { return end_->node(); }
  [[nodiscard]] int node_count() const { return end_->who.nodes(); }

  void barrier() { barrier(end_->member().timeout()); }
  void barrier(std::chrono::nanoseconds timeout) { meet(cadre::detail::operation::barrier, timeout); }

  void all_reduce_bytes(void* data, std::size_t count, data_type type, reduce_op op) {
    const auto call = cadre::detail::reduction(cadre::detail::operation::all_reduce, count, type, op, world_size());
    end_->with_model([&](auto& model) { model.all_reduce(data, call); });
  }
  void broadcast_bytes(void* data, std::size_t bytes, int root) {
    const auto call = cadre::detail::broadcasting(bytes, root, world_size());
    end_->with_model([&](auto& model) { model.broadcast(data, call); });
  }
  void reduce_scatter_bytes(const void* in, void* out, std::size_t out_count, data_type type, reduce_op op) {
    const auto call =
        cadre::detail::reduction(cadre::detail::operation::reduce_scatter, out_count, type, op, world_size());
    end_->with_model([&](auto& model) { model.reduce_scatter(in, out, call); });
  }
  void all_gather_bytes(const void* in, void* out, std::size_t in_bytes) {
    const auto call = cadre::detail::gathering(in_bytes, world_size());
    end_->with_model([&](auto& model) { model.all_gather(in, out, call); });
  }

  /// Every rank calls it; sizes may differ. On one node the memory is shared by the node's ranks, present at once (so that
  /// it cannot fail later) and reduced where it lies. It may outlive the communicator; it is given back when every rank of
  /// the node has let go of its part and one of them allocates again or the communicator ends.
  [[nodiscard]] std::shared_ptr<std::byte> allocate_bytes(std::size_t bytes);

  /// Ranks with the same color form a communicator of their own, ordered by key, then by rank here. A rank with a
  /// negative color gets one of which it is the only member. No MPI communicator is made: children cost shared memory only.
  [[nodiscard]] communicator split(int color, int key);

  /// Reaches the ranks of this node at once, those of other nodes when their leaders next wait or call; and those of the
  /// communicators that this rank has split from this one.
  void abort(std::string_view why) noexcept { end_->abort(why); }
  void set_timeout(std::chrono::nanoseconds timeout) { end_->member().set_timeout(timeout); }
  [[nodiscard]] std::string_view backend() const { return "mpi"; }

 private:
  explicit communicator(std::shared_ptr<detail::endpoint> made) : end_(std::move(made)) {}

  void meet(cadre::detail::operation what, std::chrono::nanoseconds timeout) {
    end_->with_model([&](auto& model) { model.meet({.what = what}, timeout); });
  }

  std::shared_ptr<detail::endpoint> end_;  // an abort of the parent may hold it for a moment
};

inline communicator::communicator(MPI_Comm comm, const communicator_options& options) {
  auto& environment = detail::environment::get();
  const auto now = std::chrono::steady_clock::now();
  const auto deadline = options.timeout < std::chrono::hours(24 * 365) ? now + options.timeout
                                                                       : std::chrono::steady_clock::time_point::max();
  int size = 0, my_rank = 0;
  const auto duplicate = std::make_shared<MPI_Comm>(MPI_COMM_NULL);  // MPI writes it when all ranks have come
  MPI_Request request = MPI_REQUEST_NULL;
  {
    const std::lock_guard lock(environment.mutex());
    detail::check(::MPI_Comm_size(comm, &size), "MPI_Comm_size");
    detail::check(::MPI_Comm_rank(comm, &my_rank), "MPI_Comm_rank");
    detail::check(::MPI_Comm_idup(comm, duplicate.get(), &request), "MPI_Comm_idup");
  }
  try {
    detail::wait_to_join(request, deadline);
  } catch (...) {
    const std::lock_guard lock(environment.mutex());
    environment.keep(duplicate);
    throw;
  }
  const auto shared = std::make_shared<detail::family>(*duplicate);
  const detail::root_gather gather(shared->comm(), size, deadline);

  detail::host_card here;
  detail::host_name().copy(here.name, sizeof here.name - 1);
  shared->name_hosts(gather(here));
  std::vector<std::uint64_t> nodes = gather(detail::node_identity());
  std::vector<int> ranks(nodes.size());
  for (std::size_t r = 0; r < nodes.size(); ++r) {
    ranks[r] = static_cast<int>(r);
    if (options.ranks_per_node > 0)
      nodes[r] += 0x9e3779b97f4a7c15u * (1 + r / static_cast<std::size_t>(options.ranks_per_node));
  }
  const std::vector<int> index_of = ranks;
  end_ = std::make_shared<detail::endpoint>(shared, 0, detail::topology(std::move(ranks), nodes), my_rank, index_of,
                                            nullptr, gather);
  set_timeout(options.timeout);
}

inline std::shared_ptr<std::byte> communicator::allocate_bytes(std::size_t bytes) {
  meet(cadre::detail::operation::allocate, end_->member().timeout());
  if (node_count() > 1 || local_size() == 1) return cadre::detail::zeroed_memory(bytes);
  const auto gather = [&]<class T>(const T& mine) {
    std::vector<T> all(static_cast<std::size_t>(local_size()));
    all_gather_bytes(&mine, all.data(), sizeof(T));
    return all;
  };
  // The holders' count on a page of its own, then a part for each rank: from a huge page on where parts are large.
  const std::vector<std::size_t> sizes = gather(bytes);
  const auto index = static_cast<std::size_t>(local_rank());
  std::size_t total = 4096, own_offset = 0;
  for (std::size_t r = 0; r < sizes.size(); ++r) {
    // More than any address space, and so little that the sum does not wrap around; on all ranks alike.
    if (sizes[r] > std::size_t{1} << 48)
      throw mapping_error(
          "rank " + std::to_string(end_->who.members(node())[r]) + " cannot map " + std::to_string(sizes[r]) + " bytes",
          ENOMEM);
    const std::size_t grain = sizes[r] >= mapping::huge_page ? mapping::huge_page : 4096;
    total = (total + grain - 1) / grain * grain;
    if (r == index) own_offset = total;
    total += std::max<std::size_t>(sizes[r], 64);
  }
  auto made =
      detail::share_memory(total, index, 0, own_offset, std::max<std::size_t>(bytes, 64), gather, detail::all_ways);
  const auto allocation =
      std::make_shared<detail::shared_allocation>(detail::shared_allocation{std::move(made.memory), made.id});
  allocation->holders().fetch_add(1);
  meet(cadre::detail::operation::allocate, end_->member().timeout());  // all hold it before anybody counts
  end_->segments->add(allocation);
  return {allocation->memory.data() + own_offset, [allocation](std::byte*) { allocation->holders().fetch_sub(1); }};
}

inline communicator communicator::split(int color, int key) {
  meet(cadre::detail::operation::split, end_->member().timeout());
  // A number that no rank has in use. Offers of two communicators, split by two threads, differ but by accident.
  const std::uint64_t sequence = end_->member().call().sequence;
  std::uint32_t id = 0;
  for (std::uint32_t attempt = 0;; ++attempt) {
    id = end_->in_family->offer(end_->id, sequence, attempt);
    const bool is_free = end_->in_family->take(id);
    if (all_reduce(is_free ? 1 : 0, cadre::min) == 1) break;
    if (is_free) end_->in_family->give_back(id);
  }
  struct wish {
    int color, key;
  };
  const std::vector<wish> wishes = all_gather(wish{color, key});
  std::vector<int> members;  // ranks here
  for (int r = 0; r < world_size(); ++r) {
    const wish& other = wishes[static_cast<std::size_t>(r)];
    if (color < 0 ? r == rank() : other.color == color) members.push_back(r);
  }
  std::ranges::stable_sort(members, {}, [&](int r) { return wishes[static_cast<std::size_t>(r)].key; });
  std::vector<int> family_ranks;
  std::vector<std::uint64_t> nodes;
  for (const int r : members) {
    family_ranks.push_back(end_->who.family_rank[static_cast<std::size_t>(r)]);
    nodes.push_back(static_cast<std::uint64_t>(end_->who.node_of[static_cast<std::size_t>(r)]));
  }
  const int child_rank = static_cast<int>(std::ranges::find(members, rank()) - members.begin());
  const auto gather = [&]<class T>(const T& mine) {
    std::vector<T> all(static_cast<std::size_t>(world_size()));
    all_gather_bytes(&mine, all.data(), sizeof(T));
    return all;
  };
  communicator child(std::make_shared<detail::endpoint>(end_->in_family, id,
                                                        detail::topology(std::move(family_ranks), nodes), child_rank,
                                                        members, end_->segments, gather));
  child.set_timeout(end_->member().timeout());
  end_->children.add(child.end_);
  return child;
}

static_assert(cadre::communicator<communicator>);

}  // namespace mpi

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/node_share.hpp ----
#ifndef CADRE_MPI_DETAIL_NODE_SHARE_HPP
#define CADRE_MPI_DETAIL_NODE_SHARE_HPP

#include <sched.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Processors by number, as many as Linux knows on x86. Of more, some fall together: ranks then share more than they need.
using processor_set = std::bitset<8192>;

/// What a rank sees of its node, and which of it its options leave to be dealt.
struct node_view {
  std::array<char, 72> host{};
  std::uint64_t node = 0;
  processor_set processors = {};
  std::uint64_t quota = 0;  // of processors, by cgroups; 0: none
  std::uint64_t memory = 0;
  std::array<std::uint64_t, 64> gpus{};  // hashes of their names
  std::uint32_t gpu_count = 0;
  std::uint32_t most_ranks_per_gpu = 0;
  bool wants_processors = false, wants_gpus = false, wants_memory = false;
};

inline processor_set allowed_processors() {
  cpu_set_t mask[64];  // as affinity_processors()
  processor_set all;
  if (::sched_getaffinity(0, sizeof mask, mask) != 0) return all.set(0);
  for (std::size_t p = 0; p < sizeof mask * 8; ++p)
    if (CPU_ISSET_S(p, sizeof mask, mask)) all.set(p % all.size());
  return all;
}

inline node_view view_of_node(const runtime_options& options) {
  node_view mine{.node = node_identity(),
                 .processors = allowed_processors(),
                 .quota = cgroup_processors(),
                 .memory = usable_memory(),
                 .most_ranks_per_gpu = static_cast<std::uint32_t>(options.most_ranks_per_gpu),
                 .wants_processors = options.threads == 0,
                 .wants_gpus = options.gpus.empty() && options.resources.find("gpu") == nullptr,
                 .wants_memory = options.resources.find("memory") == nullptr};
  const std::string host = host_name();
  std::memcpy(mine.host.data(), host.data(), std::min(host.size(), mine.host.size() - 1));
  for (const std::string& name : visible_gpus())
    if (mine.gpu_count < mine.gpus.size()) mine.gpus[mine.gpu_count++] = hash_text(name);
  return mine;
}

/// The ranks of a node, in their order, which share what each of them sees.
using node_views = std::vector<const node_view*>;

/// Of what is dealt in equal runs, from `first` up to `last`, to whom stands at `place` of so many.
struct run_of {
  run_of(std::size_t what, std::size_t place, std::size_t many)
      : first(what * place / many), last(what * (place + 1) / many) {}
  [[nodiscard]] std::size_t size() const noexcept { return last - first; }
  std::size_t first, last;
};

/// Those of whom `wanted` is true, and the place of `mine` among them.
template <class Wanted>
std::pair<std::size_t, std::size_t> place_among(const node_views& node, const node_view& mine, Wanted&& wanted) {
  std::size_t place = 0, many = 0;
  for (const node_view* const other : node) {
    if (!wanted(*other)) continue;
    if (other == &mine) place = many;
    ++many;
  }
  return {place, many};
}

/// A rank shares with those whose processors overlap with its own, and theirs with others', and so on.
inline std::size_t processors_of(const node_views& node, const node_view& mine) {
  processor_set shared = mine.processors, before;
  while (shared != before) {
    before = shared;
    for (const node_view* const other : node)
      if (other->wants_processors && (other->processors & shared).any()) shared |= other->processors;
  }
  const auto [place, many] = place_among(
      node, mine, [&](const node_view& other) { return other.wants_processors && (other.processors & shared).any(); });
  std::size_t share = std::min(run_of(shared.count(), place, many).size(), mine.processors.count());
  if (mine.quota != 0) {
    const auto [at, all] = place_among(node, mine, [](const node_view& other) { return other.wants_processors; });
    share = std::min(share, run_of(mine.quota, at, all).size());
  }
  return std::max<std::size_t>(share, 1);
}

/// CUDA's numbers of those that a rank is dealt among the ranks that see the same. Where there are more ranks several share
/// one, or the last have none.
inline std::vector<int> gpus_of(const node_views& node, const node_view& mine) {
  if (!mine.wants_gpus || mine.gpu_count == 0) return {};
  const auto [place, many] =
      place_among(node, mine, [&](const node_view& other) { return other.wants_gpus && other.gpus == mine.gpus; });
  if (mine.most_ranks_per_gpu == 0 && many > mine.gpu_count)
    return place < mine.gpu_count ? std::vector<int>{static_cast<int>(place)} : std::vector<int>{};
  const run_of dealt(mine.gpu_count, place, many);
  std::vector<int> numbers;
  for (std::size_t d = dealt.first; d < std::max(dealt.last, dealt.first + 1); ++d)
    numbers.push_back(static_cast<int>(d));
  return numbers;
}

inline std::size_t memory_of(const node_views& node, const node_view& mine) {
  const auto [place, many] = place_among(node, mine, [](const node_view& other) { return other.wants_memory; });
  return run_of(mine.memory, place, many).size();
}

/// Throws mpi_error (1110).
inline void check_gpus(const node_views& node) {
  std::map<std::uint64_t, std::size_t> ranks_of;  // by GPU, of those that a rank sees
  std::size_t ranks = 0, most = 0, allowed = node.size();
  for (const node_view* const one : node) {
    if (!one->wants_gpus || one->gpu_count == 0) continue;
    ++ranks;
    if (one->most_ranks_per_gpu != 0) allowed = std::min<std::size_t>(allowed, one->most_ranks_per_gpu);
    for (std::size_t d = 0; d < one->gpu_count; ++d) ranks_of.try_emplace(one->gpus[d], 0);
    for (const int d : gpus_of(node, *one)) most = std::max(most, ++ranks_of[one->gpus[static_cast<std::size_t>(d)]]);
  }
  if (most <= allowed) return;
  const auto counted = [](std::size_t n, const char* what) {
    return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
  };
  throw mpi_error::shared_gpu(
      std::string(node.front()->host.data()) + " has " + counted(ranks_of.size(), "GPU") + " for " +
      counted(ranks, "rank") + ": " + std::to_string(most) + " would have the same one, where " +
      std::to_string(allowed) +
      " may; start fewer ranks there, allow it by .most_ranks_per_gpu = " + std::to_string(most) +
      " in runtime_options, or, if the job needs none, hide them by an empty CUDA_VISIBLE_DEVICES");
}

/// The options of a rank, with its share of what they do not name. Throws mpi_error (1110), alike on all ranks.
inline runtime_options with_share(const std::vector<node_view>& all, std::size_t rank, runtime_options options) {
  std::map<std::uint64_t, node_views> nodes;
  for (const node_view& one : all) nodes[one.node].push_back(&one);
  for (const node_view& one : all)  // the first node of which there is something to say
    if (nodes[one.node].front() == &one) check_gpus(nodes[one.node]);
  const node_view& mine = all[rank];
  const node_views& node = nodes[mine.node];
  if (mine.wants_processors) options.threads = processors_of(node, mine);
  if (mine.wants_gpus) options.gpus = gpus_of(node, mine);
  if (mine.wants_memory) options.resources.set("memory", static_cast<std::int64_t>(memory_of(node, mine)));
  return options;
}

/// Of a rank of `comm`; collective. Throws as with_share(), and communicator_timeout (401), mpi_error (1101).
inline runtime_options share_of_node(MPI_Comm comm, runtime_options options) {
  int rank = 0, size = 0;
  {
    const std::lock_guard lock(environment::get().mutex());
    check(::MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
    check(::MPI_Comm_size(comm, &size), "MPI_Comm_size");
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  const std::vector<node_view> all = root_gather(comm, size, deadline)(view_of_node(options));
  return with_share(all, static_cast<std::size_t>(rank), std::move(options));
}

/// Of the only process.
inline runtime_options share_of_one(runtime_options options) {
  const std::vector<node_view> all{view_of_node(options)};
  return with_share(all, 0, std::move(options));
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/introduction.hpp ----
#ifndef CADRE_MPI_DETAIL_INTRODUCTION_HPP
#define CADRE_MPI_DETAIL_INTRODUCTION_HPP

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// The bytes of the program that runs, as a hash. Cost: a read of its file.
inline std::uint64_t build_of_this_program() {
  const file_descriptor file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  std::vector<std::byte> piece(std::size_t{1} << 20);
  xxh64 hash;
  for (ssize_t n = 0; file && (n = ::read(file.get(), piece.data(), piece.size())) > 0;)
    hash.update(std::span(piece).first(static_cast<std::size_t>(n)));
  return hash.digest();
}

/// What a rank tells the others when a job begins, or when it takes the place of one that has died.
struct introduction {
  std::array<char, 256> host{};
  std::uint64_t node = 0;  // the same on ranks that share memory
  std::uint64_t build = 0, handlers = 0;
  std::array<std::uint64_t, 2> job{};  // of rank 0: a name for what the job has on each node
  std::int32_t process = 0;
  std::uint32_t jobs_made = 0;
  std::uint32_t bytes = 0;
  std::array<std::byte, 4096> resources{};  // and GPUs, and how many threads

  static introduction of_process() {
    introduction me{.node = node_identity(),
                    .build = build_of_this_program(),
                    .handlers = cadre::detail::handler::fingerprint(),
                    .process = static_cast<std::int32_t>(::getpid()),
                    .jobs_made = cadre::detail::runtime_core::jobs_made()};
    const auto now = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
    me.job = {hash_combine(now, static_cast<std::uint64_t>(::getpid())), now};
    const std::string host = cadre::detail::runtime_core::host();
    std::memcpy(me.host.data(), host.data(), std::min(host.size(), me.host.size() - 1));
    return me;
  }
  /// Throws impossible_request (209).
  static introduction of_rank(cadre::detail::runtime_core& core) {
    introduction me = of_process();
    const std::vector<std::byte> has =
        to_bytes(core.resources(), core.gpus(), static_cast<std::uint64_t>(core.pool().size()));
    if (has.size() > me.resources.size()) throw impossible_request("resources with names of more than 4 KiB");
    std::copy(has.begin(), has.end(), me.resources.begin());
    me.bytes = static_cast<std::uint32_t>(has.size());
    return me;
  }

  [[nodiscard]] cadre::detail::peer_facts facts() const {
    cadre::detail::peer_facts f{host.data(), node, {}, {}, 0};
    from_bytes(std::span(resources).first(bytes), f.resources, f.gpus, f.threads);
    return f;
  }
  [[nodiscard]] bool is_same_program(const introduction& other) const noexcept {
    return build == other.build && handlers == other.handlers;
  }
  /// What the ranks of that node find their store by. With the node in it: hosts that are containers, or namespaces, of one
  /// machine may share what stores are found by.
  [[nodiscard]] std::string store_on(std::uint64_t a_node) const {
    return "cadre-job-" + std::to_string(job[0]) + "-" + std::to_string(job[1]) + "-" + std::to_string(a_node);
  }
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/batch.hpp ----
#ifndef CADRE_MPI_DETAIL_BATCH_HPP
#define CADRE_MPI_DETAIL_BATCH_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

// What travels in one MPI message, a batch: its header, then records one after another. A record begins with the number
// 4 * size + kind; numbers are little-endian base 128. Then
//   message                `size` bytes
//   message_with_blocks    how many blocks, the number of the first piece, the size of each block; `size` bytes
//   fragment               `size` bytes that begin a message, which the next record goes on with
//   farewell               how many messages there were, after the last one; once more to say that the receiver's has come
//   death                  written as a farewell that has a size: a rank that has died; `size` bytes that say how

enum class record_kind : std::uint8_t { message, message_with_blocks, fragment, farewell, death };

struct batch_header {
  std::uint32_t sequence;  // of this batch among those of its sender to its receiver
  std::uint32_t taken;     // bytes of records that the sender has taken from the receiver, modulo 2^32
};
inline constexpr std::size_t header_bytes = sizeof(batch_header);

/// Of a batch at most.
inline constexpr std::size_t batch_bytes = std::size_t{64} << 10;
/// Of the bytes in a record; more goes as fragments.
inline constexpr std::size_t record_bytes = std::size_t{16} << 10;
/// Where no ring brings them blocks travel in pieces of that size, each a message of its own: what TCP brings of a few at once
/// lies in the processor's second cache.
inline constexpr std::uint64_t piece_bytes = std::uint64_t{512} << 10;

/// Of the blocks of one message, all in all, at most: more is not believed.
inline constexpr std::uint64_t block_bytes = std::uint64_t{1} << 42;

inline std::uint64_t pieces_of(std::uint64_t block) noexcept {
  return block / piece_bytes + (block % piece_bytes != 0 ? 1 : 0);
}

/// Of a number at most.
inline constexpr std::size_t number_bytes = 10;

/// Writes a number; returns its end.
inline std::byte* put_number(std::byte* at, std::uint64_t number) noexcept {
  for (; number >= 128; number >>= 7) *at++ = static_cast<std::byte>(number | 128);
  *at++ = static_cast<std::byte>(number);
  return at;
}

struct record {
  record_kind kind;
  std::span<const std::byte> bytes;
  std::uint64_t number;  // of the first piece, or of messages, or of the dead
};

/// The records of a batch, read from bytes that may hold anything: never beyond them, and nothing is believed that does
/// not fit them.
class batch_reader {
 public:
  /// What a batch has behind its header.
  explicit batch_reader(std::span<const std::byte> records) noexcept
      : begin_(records.data()), at_(begin_), end_(begin_ + records.size()) {}

  enum class outcome { record, end, malformed };

  outcome next(record& found) {
    if (at_ == end_) return outcome::end;
    std::uint64_t head = 0;
    if (!number(head)) return fail("its length is cut off or too long");
    found.kind = static_cast<record_kind>(head & 3);
    const std::uint64_t size = head >> 2;
    if (found.kind != record_kind::message && found.kind != record_kind::fragment) [[unlikely]] {
      if (found.kind == record_kind::message_with_blocks && !blocks(found)) return outcome::malformed;
      if (found.kind == record_kind::farewell && !number(found.number)) return fail("a farewell that has no count");
      if (found.kind == record_kind::farewell && size != 0) found.kind = record_kind::death;
    }
    if (size > left()) return fail("it says more bytes than there are");
    found.bytes = {at_, static_cast<std::size_t>(size)};
    at_ += size;
    return outcome::record;
  }

  /// Of the last record, valid until the next one.
  [[nodiscard]] std::span<const std::uint64_t> block_sizes() const noexcept { return sizes_; }

  /// What is wrong, after `malformed`.
  [[nodiscard]] std::string why() const {
    return std::string(why_) + ", at byte " + std::to_string(at_ - begin_) + " of " + std::to_string(end_ - begin_);
  }

 private:
  [[nodiscard]] std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - at_); }

  [[gnu::cold]] outcome fail(std::string_view why) noexcept {
    why_ = why;
    return outcome::malformed;
  }

  bool number(std::uint64_t& value) noexcept {
    value = 0;
    for (unsigned shift = 0; shift < 64 && at_ != end_; shift += 7) {
      const auto byte = std::to_integer<std::uint64_t>(*at_++);
      if (shift == 63 && byte > 1) return false;
      value |= (byte & 127) << shift;
      if (byte < 128) return true;
    }
    return false;
  }

  bool blocks(record& found) {
    std::uint64_t count = 0;
    // A size takes a byte at least: no count of more than there are is believed.
    if (!number(count) || count == 0 || !number(found.number) || count > left())
      return fail("a count of blocks that cannot be"), false;
    sizes_.clear();
    for (std::uint64_t room = block_bytes; count != 0; --count) {
      std::uint64_t& size = sizes_.emplace_back();
      if (!number(size)) return fail("the size of a block is cut off or too long"), false;
      if (size > room) return fail("blocks of more than 4 TiB"), false;
      room -= size;
    }
    return true;
  }

  const std::byte *begin_, *at_, *end_;
  std::vector<std::uint64_t> sizes_;
  std::string_view why_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/doorbell.hpp ----
#ifndef CADRE_MPI_DETAIL_DOORBELL_HPP
#define CADRE_MPI_DETAIL_DOORBELL_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// A word in the memory of the node by which ranks wake each other. Threads of the rank sleep on it; a rank that has sent
/// something rings only if the receiver has said that it sleeps.
class doorbell {
 public:
  /// What rests() and sleep() need; read before looking for the last time whether there is anything to do.
  [[nodiscard]] std::uint32_t rings() const noexcept { return rings_.load(std::memory_order_acquire); }

  /// From now on others ring. What they sent before is seen by a poll afterwards: both sides exchange the same word.
  void announce_sleep() noexcept { asleep_.exchange(1, std::memory_order_acq_rel); }
  void sleep(std::uint32_t rings, std::chrono::steady_clock::time_point until) const noexcept {
    futex::wait_until(rings_, rings, until, futex::scope::shared);
  }

  /// By another rank, after it has sent.
  void knock() noexcept {
    if (asleep_.exchange(0, std::memory_order_acq_rel) != 0) [[unlikely]]
      ring();
  }
  void ring() noexcept {
    rings_.fetch_add(1, std::memory_order_acq_rel);
    futex::wake_all(rings_, futex::scope::shared);
  }

 private:
  alignas(64) std::atomic<std::uint32_t> rings_{0};
  std::atomic<std::uint32_t> asleep_{0};
};

/// Those of the ranks of a node.
class doorbells {
 public:
  /// All ranks of the job together: `gather(x)` returns everybody's x.
  template <class Gather>
  doorbells(const topology& who, int rank, Gather&& gather) : bells_(static_cast<std::size_t>(who.size()), nullptr) {
    const int node = who.node_of[static_cast<std::size_t>(rank)];
    const auto& members = who.members(node);
    const std::size_t bytes = members.size() * sizeof(doorbell);
    const bool leads = who.local_of[static_cast<std::size_t>(rank)] == 0;
    memory_ = share_memory(bytes, static_cast<std::size_t>(rank), static_cast<std::size_t>(members[0]), 0,
                           leads ? bytes : 0, gather, all_ways)
                  .memory;
    // Zeroed memory is a doorbell that nobody has rung.
    auto* const first = reinterpret_cast<doorbell*>(memory_.data());
    for (std::size_t i = 0; i < members.size(); ++i) bells_[static_cast<std::size_t>(members[i])] = first + i;
  }

  /// Null for ranks of other nodes.
  [[nodiscard]] doorbell* of(int rank) const noexcept { return bells_[static_cast<std::size_t>(rank)]; }

 private:
  mapping memory_;
  std::vector<doorbell*> bells_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/far_bell.hpp ----
#ifndef CADRE_MPI_DETAIL_FAR_BELL_HPP
#define CADRE_MPI_DETAIL_FAR_BELL_HPP

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Where a rank listens for those of other nodes. Numbers of the network in its byte order.
struct far_bell_address {
  std::uint64_t word = 0;                // that is to come; 0: it does not listen
  std::uint32_t port = 0;                // of UDP
  std::array<std::uint32_t, 5> hosts{};  // some of its IPv4 addresses; 0: none
};

/// What ranks of other nodes wake this one by: a socket to which they send a datagram with a word that only the job knows.
/// It carries nothing and may be lost, or stopped by a firewall: then what was sent is found at the end of a nap.
class far_bell {
 public:
  /// Without a network nobody can ring, which is no error.
  far_bell() : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_in any{};
    any.sin_family = AF_INET;
    socklen_t size = sizeof any;
    std::uint64_t word = 0;
    if (!socket_ || ::bind(socket_.get(), as_any(any), size) != 0 ||
        ::getsockname(socket_.get(), as_any(any), &size) != 0 ||
        ::getrandom(&word, sizeof word, 0) != static_cast<ssize_t>(sizeof word))
      return;
    address_ = {.word = word | 1, .port = any.sin_port, .hosts = hosts_of_this_process()};
  }

  [[nodiscard]] const far_bell_address& address() const noexcept { return address_; }
  /// Of the socket, for who waits for rings.
  [[nodiscard]] int file() const noexcept { return socket_.get(); }

  /// Whether somebody has rung since it was asked for the last time. One thread.
  [[nodiscard]] bool has_rung() noexcept {
    bool rung = false;
    for (;;) {
      std::uint64_t word = 0;
      const ssize_t n = ::recv(socket_.get(), &word, sizeof word, MSG_TRUNC);
      if (n < 0 && errno != EINTR) break;
      rung |= n == static_cast<ssize_t>(sizeof word) && word == address_.word;
    }
    if (rung) was_rung_.store(true, std::memory_order_relaxed);
    return rung;
  }
  /// Whether that has ever been so: rings come through.
  [[nodiscard]] bool was_rung() const noexcept { return was_rung_.load(std::memory_order_relaxed); }

  /// Never waits. From any thread.
  void ring(const far_bell_address& other) const noexcept {
    if (other.word == 0) return;
    for (const std::uint32_t host : other.hosts) {
      if (host == 0) break;
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = static_cast<in_port_t>(other.port);
      to.sin_addr.s_addr = host;
      ::sendto(socket_.get(), &other.word, sizeof other.word, MSG_DONTWAIT | MSG_NOSIGNAL, as_any(to), sizeof to);
    }
  }

 private:
  static sockaddr* as_any(sockaddr_in& address) noexcept { return reinterpret_cast<sockaddr*>(&address); }

  // That of the loopback interface only if there is no other.
  static std::array<std::uint32_t, 5> hosts_of_this_process() noexcept {
    std::array<std::uint32_t, 5> found{};
    std::size_t n = 0;
    ifaddrs* all = nullptr;
    if (::getifaddrs(&all) != 0) return found;
    for (const bool loopback : {false, true}) {
      for (const ifaddrs* i = all; i != nullptr && n < found.size(); i = i->ifa_next) {
        if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != AF_INET || (i->ifa_flags & IFF_UP) == 0) continue;
        if (((i->ifa_flags & IFF_LOOPBACK) != 0) != loopback) continue;
        found[n++] = reinterpret_cast<const sockaddr_in*>(i->ifa_addr)->sin_addr.s_addr;
      }
      if (n != 0) break;
    }
    ::freeifaddrs(all);
    return found;
  }

  file_descriptor socket_;
  far_bell_address address_;
  std::atomic<bool> was_rung_{false};
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/heartbeats.hpp ----
#ifndef CADRE_MPI_DETAIL_HEARTBEATS_HPP
#define CADRE_MPI_DETAIL_HEARTBEATS_HPP

#include <cstddef>
#include <optional>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Finds the ranks of other nodes that are silent, and those that would find this one silent. A rank that has something to
/// say says it anyway; one that has not is sent a beat. They go between rank 0 and everybody, and between ranks that have
/// sent each other something: no connection is made for them. One thread.
class heartbeats {
 public:
  /// What has come from a rank, and left for it, since it was asked for the last time.
  struct signs {
    bool heard, spoken;
  };

  /// Without a limit (0) nobody is silent.
  heartbeats(const topology& who, int rank, std::chrono::nanoseconds limit) : interval_(limit / beats) {
    const int here = who.node_of[static_cast<std::size_t>(rank)];
    for (int r = 0; r < who.size() && limit > limit.zero(); ++r)
      if (who.node_of[static_cast<std::size_t>(r)] != here) add(r, rank);
  }
  /// One that has come later.
  void add(int other_rank, int rank) {
    if (interval_ > interval_.zero()) others_.push_back({other_rank, 0, other_rank == 0 || rank == 0});
  }

  /// It wants to look so often; 0: never.
  [[nodiscard]] std::chrono::nanoseconds interval() const noexcept { return interval_; }

  /// Looks at all of them, at most 20 times per limit; where this process was stopped for a while that counts as one look.
  /// `signs_of(rank)` gives optional signs: none, if nothing more is to be heard of it; `beat(rank)`; `silent(rank)`, once.
  template <class SignsOf, class Beat, class Silent>
  void look(SignsOf&& signs_of, Beat&& beat, Silent&& silent) {
    if (others_.empty()) return;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_look_) return;
    next_look_ = now + interval_;
    std::erase_if(others_, [&](other& o) {
      const std::optional<signs> now_of_it = signs_of(o.rank);
      if (!now_of_it) return true;
      o.known |= now_of_it->heard || now_of_it->spoken;
      if (!o.known) return false;
      o.looks_in_silence = now_of_it->heard ? 0 : o.looks_in_silence + 1;
      if (o.looks_in_silence > beats) {
        silent(o.rank);
        return true;
      }
      if (!now_of_it->spoken) beat(o.rank);
      return false;
    });
  }

 private:
  static constexpr int beats = 20;  // in the time of the limit
  struct other {
    int rank;
    int looks_in_silence;
    bool known;
  };
  std::vector<other> others_;
  std::chrono::nanoseconds interval_;
  std::chrono::steady_clock::time_point next_look_{};
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/inbound.hpp ----
#ifndef CADRE_MPI_DETAIL_INBOUND_HPP
#define CADRE_MPI_DETAIL_INBOUND_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// What comes from one rank: puts batches in order, long messages together, and tells a handler, which has
///   acknowledged(from, taken)   false if that cannot be
///   message(from, bytes, block_sizes, first_piece)
///   told(from, rank, how)       of a death; false if there is no such rank
///   malformed(from, why)        after which nothing more of this rank is read
/// One thread at a time.
class inbound {
 public:
  explicit inbound(int from) noexcept : from_(from) {}

  /// Takes a batch, which may hold anything.
  template <class Handler>
  void take(std::span<const std::byte> batch, Handler& handler) {
    if (broken_) return;
    if (batch.size() < header_bytes) return fail(handler, "a batch without a header");
    batch_header header;
    std::memcpy(&header, batch.data(), header_bytes);
    const std::uint32_t ahead = header.sequence - next_;
    if (ahead != 0) {
      // Of receives that are posted one after another a later one can be complete before an earlier one is.
      constexpr std::uint32_t too_far = 4096;
      if (ahead > too_far || !early_.try_emplace(header.sequence, batch.begin(), batch.end()).second)
        fail(handler, "a batch that is not the next one");
      return;
    }
    read(header, batch.subspan(header_bytes), handler);
    while (!broken_ && !early_.empty()) {
      const auto following = early_.find(next_);
      if (following == early_.end()) break;
      const std::vector<std::byte> held = std::move(following->second);
      early_.erase(following);
      std::memcpy(&header, held.data(), header_bytes);
      read(header, std::span<const std::byte>(held).subspan(header_bytes), handler);
    }
  }

  /// Bytes of records that were taken, modulo 2^32.
  [[nodiscard]] std::uint32_t taken() const noexcept { return taken_; }
  /// Whether all messages have come; and whether nothing at all comes any more.
  [[nodiscard]] bool has_farewell() const noexcept { return farewells_ != 0; }
  [[nodiscard]] bool is_complete() const noexcept { return farewells_ == 2; }
  /// Nothing more is read.
  void close() noexcept { broken_ = true; }

 private:
  template <class Handler>
  void read(const batch_header& header, std::span<const std::byte> records, Handler& handler) {
    ++next_;
    if (!handler.acknowledged(from_, header.taken)) return fail(handler, "it has taken more than was sent");
    batch_reader reader(records);
    record found{};
    for (;;) {
      const auto outcome = reader.next(found);
      if (outcome == batch_reader::outcome::end) break;
      if (outcome == batch_reader::outcome::malformed) return fail(handler, reader.why());
      if (farewells_ != 0 && (found.kind < record_kind::farewell || is_complete()))
        return fail(handler, "more than it had to say");
      if (found.kind == record_kind::message && partial_.empty()) [[likely]] {
        ++messages_;
        handler.message(from_, found.bytes, {}, 0);
      } else if (const char* const why = read_special(found, reader, handler)) {
        return fail(handler, why);
      }
    }
    taken_ += static_cast<std::uint32_t>(records.size());
  }

  template <class Handler>
  const char* read_special(const record& found, const batch_reader& reader, Handler& handler) {
    if (found.kind == record_kind::farewell) {
      if (found.number != messages_ || !partial_.empty()) return "it counts other messages than came";
      ++farewells_;
      return nullptr;
    }
    if (found.kind == record_kind::death)
      return handler.told(from_, found.number, found.bytes) ? nullptr : "the death of a rank that is not there";
    if (found.kind == record_kind::fragment && found.bytes.empty()) return "a fragment of nothing";
    std::span<const std::byte> whole = found.bytes;
    if (found.kind == record_kind::fragment || !partial_.empty()) {
      partial_.insert(partial_.end(), found.bytes.begin(), found.bytes.end());
      whole = partial_;
    }
    if (found.kind == record_kind::fragment) return nullptr;
    ++messages_;
    const bool has_blocks = found.kind == record_kind::message_with_blocks;
    handler.message(from_, whole, has_blocks ? reader.block_sizes() : std::span<const std::uint64_t>(),
                    has_blocks ? found.number : 0);
    partial_ = {};
    return nullptr;
  }

  template <class Handler>
  [[gnu::cold]] void fail(Handler& handler, const std::string& why) {
    broken_ = true;
    handler.malformed(from_, why);
  }

  int from_;
  std::uint32_t next_ = 0;
  std::uint32_t taken_ = 0;
  std::uint64_t messages_ = 0;
  int farewells_ = 0;
  bool broken_ = false;
  std::vector<std::byte> partial_;                         // the beginning of a long message
  std::map<std::uint32_t, std::vector<std::byte>> early_;  // by sequence
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/inbox.hpp ----
#ifndef CADRE_MPI_DETAIL_INBOX_HPP
#define CADRE_MPI_DETAIL_INBOX_HPP

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Where batches come from: any rank of a communicator, or one member that has come later, over a communicator of its own.
struct source {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = MPI_ANY_SOURCE;
  int member = any;  ///< or the rank that MPI says
  static constexpr int any = -1;
};

/// The receives of batches that are posted. One thread at a time; where it says so under the lock of MPI.
class inbox {
 public:
  struct arrival {
    std::size_t slot;
    int from;
    int code;  // of MPI
    std::span<const std::byte> bytes;
  };

  explicit inbox(int tag) : tag_(tag) {}

  /// Under the lock. For another source, or in place of those that a dead rank may have left half received.
  void add(const source& from, std::size_t slots) {
    for (; slots != 0; --slots) {
      slots_.push_back({std::make_shared<memory>(), MPI_REQUEST_NULL, from});
      post(slots_.size() - 1);
    }
  }

  /// Under the lock: a batch that has come. Its bytes are valid until release().
  std::optional<arrival> test() {
    while (!released_.empty()) {
      post(released_.back());
      released_.pop_back();
    }
    // Batches go to the receives in the order in which those were posted. They also end in that order, unless one is large
    // and the next ones are small.
    // Small ones may go on coming for ever: what they have passed is looked at now and then.
    constexpr unsigned at_times = 8;
    if (next_ != 0 && !order_.empty() && ++passed_ % at_times == 0)
      if (auto found = test(0)) return found;
    if (next_ < order_.size())
      if (auto found = test(next_)) return found;
    constexpr unsigned often = 32;
    if (++misses_ % often != 0) return {};
    for (std::size_t i = 0; i < order_.size(); ++i)
      if (i != next_)
        if (auto found = test(i)) return found;
    return {};
  }
  /// The slot can be received into again.
  void release(std::size_t slot) { released_.push_back(slot); }

  /// Under the lock. Receives that MPI does not let go of are kept until the process ends.
  void stop() {
    for (const std::size_t i : order_) {
      int done = 0;
      ::MPI_Cancel(&slots_[i].request);
      ::MPI_Test(&slots_[i].request, &done, MPI_STATUS_IGNORE);
      if (done != 0) continue;
      ::MPI_Request_free(&slots_[i].request);
      environment::get().keep(slots_[i].bytes);
    }
    order_.clear();
    released_.clear();
  }

 private:
  struct memory {
    std::byte bytes[batch_bytes];
  };
  struct posted {
    std::shared_ptr<memory> bytes;
    MPI_Request request;
    source from;
  };

  void post(std::size_t i) {
    posted& s = slots_[i];
    ::MPI_Irecv(s.bytes->bytes, static_cast<int>(batch_bytes), MPI_BYTE, s.from.rank, tag_, s.from.comm, &s.request);
    order_.push_back(i);
  }
  std::optional<arrival> test(std::size_t place) {
    posted& s = slots_[order_[place]];
    int done = 0, bytes = 0;
    MPI_Status status;
    const int code = ::MPI_Test(&s.request, &done, &status);
    if (done == 0 && code == MPI_SUCCESS) return {};
    ::MPI_Get_count(&status, MPI_BYTE, &bytes);
    const std::size_t i = order_[place];
    order_.erase(order_.begin() + static_cast<std::ptrdiff_t>(place));
    next_ = place < next_ ? next_ - 1 : place;
    const int from = s.from.member != source::any ? s.from.member : status.MPI_SOURCE;
    return arrival{i, from, code, std::span(s.bytes->bytes).first(static_cast<std::size_t>(bytes))};
  }

  int tag_;
  std::vector<posted> slots_;
  std::vector<std::size_t> order_;  // in which they were posted
  std::size_t next_ = 0;            // place of the receive behind the last one that is known to have got a batch
  std::vector<std::size_t> released_;
  unsigned misses_ = 0, passed_ = 0;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/message_ring.hpp ----
#ifndef CADRE_MPI_DETAIL_MESSAGE_RING_HPP
#define CADRE_MPI_DETAIL_MESSAGE_RING_HPP

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// What one rank sends to another of its node, in memory that they share: frames one behind another, in a ring. A frame is a
/// word, its size or `turn` (the next frame is at the beginning), and a batch or a part of a block; it begins a cache line. Its
/// word is written last, when the word behind it is zero: so the reader looks at one cache line, and a writer that is killed
/// leaves whole frames. Zeroed memory is a ring that is empty.
class message_ring {
 public:
  static constexpr std::size_t line = 64, word_bytes = 8;

  /// `size`: of the frames, a power of 2.
  message_ring(std::byte* memory, std::size_t size) noexcept
      : taken_(reinterpret_cast<std::atomic<std::uint64_t>*>(memory)),
        wanted_(taken_ + 1),
        frames_(memory + line),
        size_(size) {}
  static constexpr std::size_t bytes(std::size_t size) noexcept { return line + size; }

  /// Of what is in a frame, at most.
  [[nodiscard]] std::size_t most() const noexcept { return std::min(batch_bytes, size_ / 2 - 2 * line); }
  /// Whether all batches have room, and what follows them comes behind them: then blocks go by it too.
  [[nodiscard]] bool takes_all() const noexcept { return most() == batch_bytes; }

 protected:
  static constexpr std::uint64_t turn = ~std::uint64_t{0};
  static constexpr std::uint64_t of_block = std::uint64_t{1} << 63;  // in the word, beside the size

  [[nodiscard]] std::atomic<std::uint64_t>& word(std::uint64_t position) const noexcept {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(frames_ + (position & (size_ - 1)));
  }
  [[nodiscard]] std::byte* content(std::uint64_t position) const noexcept {
    return frames_ + (position & (size_ - 1)) + word_bytes;
  }
  [[nodiscard]] std::size_t to_end(std::uint64_t position) const noexcept { return size_ - (position & (size_ - 1)); }
  static constexpr std::size_t frame_of(std::size_t content) noexcept {
    return (word_bytes + content + line - 1) / line * line;
  }
  std::atomic<std::uint64_t>* taken_;   // up to where the reader has read, for the writer
  std::atomic<std::uint64_t>* wanted_;  // when it has read up to there the writer is to be told; 0: never
  std::byte* frames_;
  std::size_t size_;
};

/// One thread at a time.
class ring_writer : message_ring {
 public:
  using message_ring::message_ring, message_ring::most, message_ring::takes_all;

  /// For a frame of so much.
  [[nodiscard]] bool has_room(std::size_t content) noexcept {
    const std::size_t frame = frame_of(content);
    const std::size_t needed = (to_end(next_) < frame ? to_end(next_) : 0) + frame + line;
    if (size_ - (next_ - known_taken_) >= needed) return true;
    known_taken_ = taken_->load(std::memory_order_seq_cst);
    return size_ - (next_ - known_taken_) >= needed;
  }
  /// Where there is none: asks the reader to tell when half of the ring is free, or what any frame needs. True if it is now.
  [[nodiscard]] bool ask_for_room() noexcept {
    const std::size_t any = 2 * frame_of(most()) + line;  // wherever the ring turns
    const std::size_t unread = std::min(size_ / 2, size_ - any);
    wanted_->store(next_ > unread ? next_ - unread : 1, std::memory_order_seq_cst);
    return has_room(most());
  }
  /// For which there is room.
  void write_batch(std::span<const std::byte> batch) noexcept { write(batch, 0); }
  void write_of_block(std::span<const std::byte> part) noexcept { write(part, of_block); }

 private:
  void write(std::span<const std::byte> content, std::uint64_t kind) noexcept {
    const std::size_t frame = frame_of(content.size());
    std::uint64_t at = next_;
    if (to_end(at) < frame) at += to_end(at);
    std::memcpy(this->content(at), content.data(), content.size());
    word(at + frame).store(0, std::memory_order_relaxed);
    const std::uint64_t size = content.size() | kind;
    if (at == next_) {
      word(at).store(size, std::memory_order_release);
    } else {
      word(at).store(size, std::memory_order_relaxed);
      word(next_).store(turn, std::memory_order_release);
    }
    next_ = at + frame;
  }

  std::uint64_t next_ = 0, known_taken_ = 0;
};

/// One thread at a time.
class ring_reader : message_ring {
 public:
  using message_ring::message_ring;

  struct frame {
    std::span<const std::byte> content;
    bool is_of_block;
  };

  [[nodiscard]] bool has_frame() const noexcept { return word(next_).load(std::memory_order_relaxed) != 0; }
  /// The next one, valid until release(); null if the ring holds something else than frames.
  [[nodiscard]] std::optional<frame> front() noexcept {
    std::uint64_t size = word(next_).load(std::memory_order_acquire);
    if (size == turn) {
      next_ += to_end(next_);
      size = word(next_).load(std::memory_order_acquire);
    }
    const bool is_of_block = (size & of_block) != 0;
    size &= ~of_block;
    if (size == 0 || size > to_end(next_) - word_bytes) return std::nullopt;
    size_of_front_ = frame_of(size);
    return frame{{content(next_), static_cast<std::size_t>(size)}, is_of_block};
  }
  /// True if the writer waits for the room that it has now, and is to be told.
  [[nodiscard]] bool release() noexcept {
    next_ += size_of_front_;
    // Stored, then looked, as the writer asks, then looks: one of the two sees the other.
    taken_->store(next_, std::memory_order_seq_cst);
    std::uint64_t wanted = wanted_->load(std::memory_order_seq_cst);
    if (wanted == 0 || next_ < wanted) [[likely]]
      return false;
    return wanted_->compare_exchange_strong(wanted, 0, std::memory_order_relaxed);
  }

 private:
  std::uint64_t next_ = 0;
  std::size_t size_of_front_ = 0;
};

/// The rings between the ranks of a node: one for each two, each way.
class message_rings {
 public:
  /// Of the frames of all rings of a node together, at most; and of one, at least: where there are so many ranks that one
  /// would hold less there are none.
  static constexpr std::size_t most_bytes = std::size_t{32} << 20, least_of_one = std::size_t{4} << 10;

  /// All ranks of the job together: `gather(x)` returns everybody's x. `most`: of one, a power of 2. Throws mapping_error
  /// (159).
  template <class Gather>
  message_rings(const topology& who, int rank, std::size_t most, Gather&& gather) : who_(who), rank_(rank) {
    const auto& members = who.members(who.node_of[static_cast<std::size_t>(rank)]);
    const std::size_t n = members.size();
    const std::size_t each = n == 1 ? 0 : std::min(most, std::bit_floor(most_bytes / (n * n)));
    size_ = each < least_of_one ? 0 : each;
    const std::size_t own = n * message_ring::bytes(size_);  // a rank's own: those to it
    memory_ = share_memory(n * own, static_cast<std::size_t>(rank), static_cast<std::size_t>(members[0]),
                           local(rank) * own, own, gather, all_ways)
                  .memory;
  }

  [[nodiscard]] bool connects(int other) const noexcept {
    return size_ != 0 && other != rank_ &&
           who_.node_of[static_cast<std::size_t>(other)] == who_.node_of[static_cast<std::size_t>(rank_)];
  }
  /// Whether all batches between all ranks of the job can go by them.
  [[nodiscard]] bool hold_all_batches() const noexcept {
    return who_.nodes() == 1 && size_ != 0 && to(rank_).takes_all();
  }
  [[nodiscard]] ring_writer to(int other) const noexcept { return {at(rank_, other), size_}; }
  [[nodiscard]] ring_reader from(int other) const noexcept { return {at(other, rank_), size_}; }

 private:
  [[nodiscard]] std::size_t local(int rank) const noexcept {
    return static_cast<std::size_t>(who_.local_of[static_cast<std::size_t>(rank)]);
  }
  [[nodiscard]] std::byte* at(int from, int to) const noexcept {
    const std::size_t n = who_.members(who_.node_of[static_cast<std::size_t>(rank_)]).size();
    return memory_.data() + (local(to) * n + local(from)) * message_ring::bytes(size_);
  }

  topology who_;
  int rank_;
  std::size_t size_;  // of each
  mapping memory_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/node_watch.hpp ----
#ifndef CADRE_MPI_DETAIL_NODE_WATCH_HPP
#define CADRE_MPI_DETAIL_NODE_WATCH_HPP

#include <sys/epoll.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Sees which ranks of this node end. One thread.
class node_watch {
 public:
  /// `process_of(r)` is that of rank r.
  template <class ProcessOf>
  node_watch(const topology& who, int rank, ProcessOf&& process_of) : ends_(::epoll_create1(EPOLL_CLOEXEC)) {
    for (const int r : who.members(who.node_of[static_cast<std::size_t>(rank)]))
      if (r != rank) add(r, process_of(r));
  }
  void add(int rank, int process) {
    const one& added = watched_.try_emplace(rank, process).first->second;
    epoll_event about{.events = EPOLLIN, .data = {.fd = rank}};
    if (::epoll_ctl(ends_.get(), EPOLL_CTL_ADD, added.watch.file(), &about) != 0 && added.watch.ended())
      gone_.push_back(rank);
  }

  /// There is something to read from it when one of them has ended.
  [[nodiscard]] int file() const noexcept { return ends_.get(); }

  /// Tells of those that have ended: `ended(rank, how)`.
  template <class Ended>
  void look(Ended&& ended) {
    epoll_event about{};
    while (!gone_.empty() || (!watched_.empty() && ::epoll_wait(ends_.get(), &about, 1, 0) == 1)) {
      int rank = about.data.fd;
      if (!gone_.empty()) {
        rank = gone_.back();
        gone_.pop_back();
      }
      const auto node = watched_.extract(rank);
      const one& w = node.mapped();
      ::epoll_ctl(ends_.get(), EPOLL_CTL_DEL, w.watch.file(), nullptr);
      ended(rank, "its process " + std::to_string(w.process) + " on " + host_name() + " has ended" + w.watch.how());
    }
  }

 private:
  struct one {
    explicit one(int p) : process(p), watch(p) {}
    int process;
    process_watch watch;
  };
  file_descriptor ends_;
  std::map<int, one> watched_;  // by rank
  std::vector<int> gone_;       // that had ended before they were watched
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/outbox.hpp ----
#ifndef CADRE_MPI_DETAIL_OUTBOX_HPP
#define CADRE_MPI_DETAIL_OUTBOX_HPP

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// A large argument that leaves from where it lies, behind the batch that announces it.
struct block_out {
  std::span<const std::byte> bytes;
  std::uint64_t first_piece;
  std::shared_ptr<const void> keep;
};

struct batch_out {
  std::unique_ptr<std::byte[]> bytes{new std::byte[batch_bytes]};
  std::size_t used = header_bytes;
  std::vector<block_out> blocks;
};

/// What is to go to one rank. Any thread appends; who holds the lock of MPI takes batches out, in order, and sends them.
class outbox {
 public:
  /// A batch of that size is worth a message of its own.
  static constexpr std::size_t enough = std::size_t{56} << 10;
  /// Of a message at most: the record that tells their sizes fits into a batch.
  static constexpr std::size_t most_blocks = 4000;

  /// What an append did. One number, as three bools would be put together in memory, and waited for, by every message.
  class appended {
   public:
    appended() = default;
    appended(bool first, bool filled) noexcept : bits_(1U | unsigned{first} << 1 | unsigned{filled} << 2) {}
    /// Else the box is closed, and nothing was appended.
    [[nodiscard]] bool allowed() const noexcept { return bits_ & 1; }
    /// Nothing was open before.
    [[nodiscard]] bool first() const noexcept { return bits_ & 2; }
    /// A batch is complete.
    [[nodiscard]] bool filled() const noexcept { return bits_ & 4; }

   private:
    unsigned bits_ = 0;
  };

  appended append(std::span<const std::byte> bytes) {
    const std::lock_guard lock(lock_);
    if (!fits(bytes.size())) [[unlikely]]
      return append_slow(bytes);
    return append_here(bytes.size(), [bytes](std::byte* at) { std::copy(bytes.begin(), bytes.end(), at); });
  }
  appended append(const cadre::detail::written_in_place& message) {
    const std::lock_guard lock(lock_);
    if (!fits(message.bytes)) [[unlikely]]
      return append_slow(message);
    return append_here(message.bytes, [&](std::byte* at) { message.write(message.what, at); });
  }

  appended append(std::span<const std::byte> bytes, std::span<const std::span<const std::byte>> blocks,
                  const std::shared_ptr<const void>& keep) {
    std::vector<std::byte> about((blocks.size() + 2) * number_bytes);
    const std::lock_guard lock(lock_);
    if (closed_) return {};
    const bool first = is_open_empty();
    bool filled = put_fragments(bytes);
    std::byte* at = put_number(put_number(about.data(), blocks.size()), pieces_);
    for (const auto block : blocks) at = put_number(at, block.size());
    about.resize(static_cast<std::size_t>(at - about.data()));
    filled |= make_room(about.size() + bytes.size());
    put(record_kind::message_with_blocks, bytes, about);
    count_message();
    for (const auto block : blocks) {
      open_->blocks.push_back({block, pieces_, keep});
      pieces_ += pieces_of(block.size());
      blocks_under_way_.fetch_add(block.size(), std::memory_order_relaxed);
    }
    return {first, seal_if_enough() || filled};
  }

  /// That a rank has died: also after close(), until confirm(). Not allowed where nobody would read it.
  appended tell_death(int rank, std::string_view how) {
    how = how.substr(0, 1000);
    std::byte who[number_bytes];
    const std::lock_guard lock(lock_);
    if (confirmed_ || how.empty()) return {};
    const bool first = is_open_empty();
    const bool filled = make_room(number_bytes + how.size());
    put(record_kind::farewell, std::as_bytes(std::span(how)),
        std::span(who, static_cast<std::size_t>(put_number(who, static_cast<std::uint64_t>(rank)) - who)));
    return {first, seal_if_enough() || filled};
  }

  /// Nothing is appended from now on but the farewell, and a second one by confirm(). False if that was done before.
  bool close() {
    const std::lock_guard lock(lock_);
    if (closed_) return false;
    put_farewell();
    return closed_ = true;
  }
  bool confirm() {
    const std::lock_guard lock(lock_);
    if (confirmed_) return false;
    put_farewell();
    return confirmed_ = true;
  }
  [[nodiscard]] bool is_confirmed() {
    const std::lock_guard lock(lock_);
    return confirmed_;
  }
  /// The receiver is gone: nothing is appended any more. Gives back what had not gone.
  std::vector<std::unique_ptr<batch_out>> abandon() {
    const std::lock_guard lock(lock_);
    closed_ = confirmed_ = true;
    std::vector<std::unique_ptr<batch_out>> all;
    for (auto& batch : ready_) all.push_back(std::move(batch));
    ready_.clear();
    if (open_) all.push_back(std::move(open_));
    return all;
  }

  /// The next batch to send, null if there is none. With `all` also the one that is not full.
  std::unique_ptr<batch_out> take(bool all) {
    const std::lock_guard lock(lock_);
    if (!ready_.empty()) {
      auto batch = std::move(ready_.front());
      ready_.pop_front();
      return batch;
    }
    if (!all || is_open_empty()) return nullptr;
    return std::move(open_);
  }
  /// Takes back the memory of a batch that has gone.
  void recycle(std::unique_ptr<batch_out> batch) noexcept {
    batch->used = header_bytes;
    batch->blocks.clear();
    const std::lock_guard lock(lock_);
    if (open_ == nullptr && !closed_)
      open_ = std::move(batch);
    else if (spare_ == nullptr)
      spare_ = std::move(batch);
  }
  /// Messages that were appended.
  [[nodiscard]] std::uint64_t messages() const noexcept { return messages_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool is_empty() {
    const std::lock_guard lock(lock_);
    return ready_.empty() && is_open_empty();
  }

  /// Bytes that were appended and that the receiver has not taken yet.
  [[nodiscard]] std::uint64_t under_way() const noexcept {
    return appended_.load(std::memory_order_relaxed) - acknowledged_.load(std::memory_order_relaxed) +
           blocks_under_way_.load(std::memory_order_relaxed);
  }
  /// The receiver has taken so many bytes, modulo 2^32. False if it cannot have. By one thread at a time.
  bool acknowledge(std::uint32_t taken) noexcept {
    const std::uint64_t before = acknowledged_.load(std::memory_order_relaxed);
    const std::uint32_t more = taken - static_cast<std::uint32_t>(before);
    if (more > appended_.load(std::memory_order_relaxed) - before) return false;
    if (more != 0) acknowledged_.store(before + more, std::memory_order_relaxed);
    return true;
  }
  void block_left(std::uint64_t bytes) noexcept { blocks_under_way_.fetch_sub(bytes, std::memory_order_relaxed); }

 private:
  [[nodiscard]] bool is_open_empty() const noexcept { return open_ == nullptr || open_->used == header_bytes; }
  [[nodiscard]] bool fits(std::size_t bytes) const noexcept {
    return open_ != nullptr && !closed_ && bytes <= record_bytes && has_room(bytes);
  }
  template <class Write>
  appended append_here(std::size_t bytes, const Write& write) {
    const bool first = open_->used == header_bytes;
    put(record_kind::message, bytes, {}, write);
    count_message();
    return {first, seal_if_enough()};
  }
  [[gnu::noinline]] appended append_slow(const cadre::detail::written_in_place& message) {
    std::array<std::byte, cadre::detail::written_in_place::most> all;
    message.write(message.what, all.data());
    return append_slow(std::span<const std::byte>(all).first(message.bytes));
  }

  [[gnu::noinline]] appended append_slow(std::span<const std::byte> bytes) {
    if (closed_) return {};
    const bool first = is_open_empty();
    bool filled = put_fragments(bytes);
    filled |= make_room(bytes.size());
    put(record_kind::message, bytes);
    count_message();
    return {first, seal_if_enough() || filled};
  }

  // All but what a last record holds, which is left in `bytes`.
  bool put_fragments(std::span<const std::byte>& bytes) {
    bool filled = false;
    for (; bytes.size() > record_bytes; bytes = bytes.subspan(record_bytes)) {
      filled |= make_room(record_bytes);
      put(record_kind::fragment, bytes.first(record_bytes));
    }
    return filled;
  }

  [[nodiscard]] bool has_room(std::size_t bytes) const noexcept {
    return batch_bytes - open_->used >= number_bytes + bytes;
  }
  // In the open batch; true if that has completed the one before.
  bool make_room(std::size_t bytes) {
    const bool filled = open_ != nullptr && !has_room(bytes);
    if (filled) seal();
    if (open_ == nullptr) open();
    return filled;
  }

  // Appends a record, for which there is room. `extra` does not count as its size.
  void put(record_kind kind, std::span<const std::byte> bytes, std::span<const std::byte> extra = {}) {
    put(kind, bytes.size(), extra, [bytes](std::byte* at) { std::copy(bytes.begin(), bytes.end(), at); });
  }
  template <class Write>
  void put(record_kind kind, std::size_t bytes, std::span<const std::byte> extra, const Write& write) {
    std::byte* const begin = open_->bytes.get() + open_->used;
    std::byte* at = put_number(begin, bytes << 2 | static_cast<unsigned>(kind));
    if (!extra.empty()) [[unlikely]]
      at = std::copy(extra.begin(), extra.end(), at);
    write(at);
    const auto size = static_cast<std::size_t>(at - begin) + bytes;
    open_->used += size;
    appended_.store(appended_.load(std::memory_order_relaxed) + size, std::memory_order_relaxed);
  }
  bool seal_if_enough() {
    if (open_->used < enough) return false;
    seal();
    return true;
  }
  void put_farewell() {
    std::byte count[number_bytes];
    make_room(number_bytes);
    put(record_kind::farewell, {}, std::span(count, static_cast<std::size_t>(put_number(count, messages()) - count)));
  }
  // Under the lock, so no other one adds.
  void count_message() noexcept { messages_.store(messages() + 1, std::memory_order_relaxed); }
  void open() { open_ = spare_ != nullptr ? std::move(spare_) : std::make_unique<batch_out>(); }
  void seal() { ready_.push_back(std::move(open_)); }

  cadre::detail::brief_lock lock_;
  std::unique_ptr<batch_out> open_, spare_;
  std::deque<std::unique_ptr<batch_out>> ready_;
  std::uint64_t pieces_ = 0;  // that blocks before have taken
  bool closed_ = false, confirmed_ = false;
  std::atomic<std::uint64_t> messages_{0}, appended_{0}, acknowledged_{0}, blocks_under_way_{0};
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/transfers.hpp ----
#ifndef CADRE_MPI_DETAIL_TRANSFERS_HPP
#define CADRE_MPI_DETAIL_TRANSFERS_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// A message whose blocks are being received.
struct blocks_in {
  int from = 0;
  cadre::detail::landing where;
  std::uint64_t pieces_left = 0;
  bool failed = false;
  bool over = false;  // the sink has been told
};

/// What a request of MPI is about: one of a batch that leaves, a piece of a block that leaves, one that comes.
struct transfer {
  int peer = 0;
  std::unique_ptr<batch_out> batch;
  std::shared_ptr<const void> keep;
  std::uint64_t bytes = 0;  // of the piece that leaves
  std::shared_ptr<blocks_in> into;
};

/// The requests of MPI that are not complete. All under the lock of MPI.
class transfers {
 public:
  [[nodiscard]] bool empty() const noexcept { return requests_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return requests_.size(); }
  [[nodiscard]] bool has_blocks() const noexcept {
    return std::any_of(about_.begin(), about_.end(), [](const transfer& t) { return t.batch == nullptr; });
  }

  void add(MPI_Request request, transfer about) {
    requests_.push_back(request);
    about_.push_back(std::move(about));
  }

  /// Tests a few of them, the next ones at the next call, and hands over those that are complete: `done(transfer, code)`.
  template <class Done>
  void test(Done&& done) {
    constexpr std::size_t few = 16;
    if (next_ >= requests_.size()) next_ = 0;
    const std::size_t n = std::min(few, requests_.size() - next_);
    std::array<int, few> which;
    std::array<MPI_Status, few> statuses;
    for (MPI_Status& s : statuses) s.MPI_ERROR = MPI_SUCCESS;
    int count = 0;
    ::MPI_Testsome(static_cast<int>(n), requests_.data() + next_, &count, which.data(), statuses.data());
    std::array<std::pair<transfer, int>, few> complete;
    if (count == MPI_UNDEFINED) count = 0;
    const auto found = static_cast<std::size_t>(count);
    std::array<std::size_t, few> places;
    for (std::size_t i = 0; i < found; ++i) {
      places[i] = next_ + static_cast<std::size_t>(which[i]);
      complete[i] = {std::move(about_[places[i]]), statuses[i].MPI_ERROR};
    }
    next_ += n;
    std::sort(places.begin(), places.begin() + found);
    for (std::size_t i = found; i-- > 0;) remove(places[i]);
    for (std::size_t i = 0; i < found; ++i) done(std::move(complete[i].first), complete[i].second);
  }

  /// Gives up those with a rank: `undone(transfer, may_be_touched)`, where MPI may still read or write the memory of some.
  template <class Undone>
  void drop(int peer, Undone&& undone) {
    for (std::size_t i = requests_.size(); i-- > 0;) {
      if (peer != everyone && about_[i].peer != peer) continue;
      int done = 0;
      if (about_[i].into) ::MPI_Cancel(&requests_[i]);
      if (::MPI_Test(&requests_[i], &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) done = 1;
      if (done == 0) ::MPI_Request_free(&requests_[i]);
      transfer about = std::move(about_[i]);
      remove(i);
      undone(std::move(about), done == 0);
    }
  }
  static constexpr int everyone = -1;

 private:
  void remove(std::size_t i) {
    if (i + 1 != requests_.size()) {
      requests_[i] = requests_.back();
      about_[i] = std::move(about_.back());
    }
    requests_.pop_back();
    about_.pop_back();
  }

  std::vector<MPI_Request> requests_;
  std::vector<transfer> about_;
  std::size_t next_ = 0;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/ring_blocks.hpp ----
#ifndef CADRE_MPI_DETAIL_RING_BLOCKS_HPP
#define CADRE_MPI_DETAIL_RING_BLOCKS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

// Blocks between ranks of a node go by their ring in parts, in the order in which batches before them have announced them:
// what is copied twice, by both ranks at a time and through caches, is there sooner than what the system copies once.

/// Those that are to go to a rank. One thread at a time.
class blocks_to_ring {
 public:
  /// Of a part, at most: some of them are in the ring, while both sides copy.
  static constexpr std::size_t part_bytes = std::size_t{32} << 10;

  [[nodiscard]] bool empty() const noexcept { return all_.empty(); }
  void add(block_out&& block) {
    if (!block.bytes.empty()) all_.push_back(std::move(block));
  }
  struct part {
    std::size_t bytes;
    std::shared_ptr<const void> keep;  ///< of a block that has gone as a whole
  };
  /// The next part, of a ring that has room.
  part write_next(ring_writer& ring) {
    block_out& block = all_.front();
    const std::size_t n = std::min(block.bytes.size(), part_bytes);
    ring.write_of_block(block.bytes.first(n));
    block.bytes = block.bytes.subspan(n);
    part written{n, {}};
    if (block.bytes.empty()) {
      written.keep = std::move(block.keep);
      all_.pop_front();
    }
    return written;
  }
  /// Gives them up.
  std::deque<block_out> abandon() noexcept { return std::exchange(all_, {}); }

 private:
  std::deque<block_out> all_;  // of the first what has not gone yet
};

/// Those that a rank has announced. One thread at a time.
class blocks_from_ring {
 public:
  [[nodiscard]] bool empty() const noexcept { return all_.empty(); }
  /// `into` is null where nobody wants it.
  void expect(std::byte* into, std::uint64_t bytes, std::shared_ptr<blocks_in> whole) {
    if (bytes == 0) return;
    ++whole->pieces_left;
    all_.push_back({into, bytes, std::move(whole)});
  }
  struct outcome {
    bool is_expected;                     ///< else nothing was done
    std::shared_ptr<blocks_in> complete;  ///< the last of its blocks has come
  };
  /// The next part, which may be anything.
  outcome take(std::span<const std::byte> part) {
    if (all_.empty() || part.size() > all_.front().bytes) return {false, {}};
    coming& block = all_.front();
    if (block.into != nullptr) {
      std::memcpy(block.into, part.data(), part.size());
      block.into += part.size();
    }
    block.bytes -= part.size();
    if (block.bytes != 0) return {true, {}};
    std::shared_ptr<blocks_in> whole = std::move(block.whole);
    all_.pop_front();
    if (--whole->pieces_left != 0) whole.reset();
    return {true, std::move(whole)};
  }
  /// Nothing more comes: `lost(blocks_in)`, of each block.
  template <class Lost>
  void abandon(Lost&& lost) {
    for (coming& block : std::exchange(all_, {})) lost(std::move(block.whole));
  }

 private:
  struct coming {
    std::byte* into;
    std::uint64_t bytes;  // that are missing
    std::shared_ptr<blocks_in> whole;
  };
  std::deque<coming> all_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/waker.hpp ----
#ifndef CADRE_MPI_DETAIL_WAKER_HPP
#define CADRE_MPI_DETAIL_WAKER_HPP

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>

#include <utility>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// A thread that sleeps until something happens that rings no doorbell by itself: at a socket, to a process, or that time
/// has passed.
class waker {
 public:
  waker() noexcept
      : files_(::epoll_create1(EPOLL_CLOEXEC)),
        end_(::eventfd(0, EFD_CLOEXEC)),
        timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)) {
    works_ = watch(end_.get()) && watch(timer_.get());
  }
  waker(const waker&) = delete;
  waker& operator=(const waker&) = delete;
  ~waker() { end(); }

  /// False if the system has no more files for it: then it never wakes.
  [[nodiscard]] bool works() const noexcept { return works_; }

  /// Whenever something more is to be read from that file. False if it cannot be watched.
  bool watch(int file) noexcept {
    epoll_event about{.events = EPOLLIN | EPOLLET, .data = {.fd = file}};
    return ::epoll_ctl(files_.get(), EPOLL_CTL_ADD, file, &about) == 0;
  }

  /// Calls `happened(file)`, which must not throw, from now on and for what has happened before. Throws thread_error (151).
  void start(move_only_function<void(int file)> happened) {
    if (!works_) return;
    thread_ = native_thread("cadre-waker", [this, happened = std::move(happened)]() mutable {
      for (epoll_event about{};;) {
        if (::epoll_wait(files_.get(), &about, 1, -1) != 1) continue;
        if (about.data.fd == end_.get()) return;
        happened(about.data.fd);
      }
    });
  }
  /// `happened` is called in about a millisecond; of two such calls the second counts. Cheap: nobody wakes up at once.
  void wake_soon() noexcept {
    constexpr itimerspec soon{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = 1'000'000}};
    ::timerfd_settime(timer_.get(), 0, &soon, nullptr);
  }
  /// Returns when `happened` is not called any more.
  void end() noexcept {
    if (works_) ::eventfd_write(end_.get(), 1);
    thread_.join();
  }

 private:
  file_descriptor files_, end_, timer_;
  bool works_ = false;
  native_thread thread_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/message_link_class.hpp ----
#ifndef CADRE_MPI_DETAIL_MESSAGE_LINK_CLASS_HPP
#define CADRE_MPI_DETAIL_MESSAGE_LINK_CLASS_HPP

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// What the ranks tell each other when a link is made.
struct process_card {
  std::int32_t process = 0;
  std::int32_t most_later = 0;  // see link_options, as the next one
  std::int64_t silence = 0;     // ns
  char host[64] = "";
  far_bell_address bell = {};  // for ranks of other nodes
};

/// One that this process has a communicator of two with: a member that has come after the others, or any other as such a one
/// sees it.
struct acquaintance {
  int member = 0;  ///< the number that it is known by in the job
  int rank = 0;    ///< which it has there
  MPI_Comm comm = MPI_COMM_NULL;
  bool is_near = false;  ///< of this node
  process_card card;
};

struct link_options {
  /// Bytes under way to a rank above which senders make progress first.
  std::uint64_t credit = std::uint64_t{16} << 20;
  /// For making the link, and for how long a rank may take nothing from a sender that has used up its credit.
  std::chrono::nanoseconds timeout = std::chrono::seconds(60);
  /// A rank of another node of which nothing is heard for so long is dead; 0: never. That of rank 0 counts.
  std::chrono::nanoseconds silence = std::chrono::seconds(10);
  /// So many processes may come later, in place of others. That of rank 0 counts.
  int most_later = 0;
  /// Of the ring in memory from one rank to another of its node, a power of 2, at most; 0: none. Small ones take no blocks.
  /// The same on all ranks.
  std::size_t ring_bytes = std::size_t{256} << 10;
};

/// Messages between ranks. Small ones are put together in batches, which go through rings in memory on the node, else by MPI
/// into posted buffers; blocks follow through the ring, or are messages of MPI of their own between the users' memory. All
/// calls of MPI are nonblocking, under the lock of the environment.
/// A rank has one thread of its own for when nobody else makes progress: it sleeps on the rank's doorbell and looks by
/// itself every 50 us after something has come, up to every 50 ms when nothing does. A second one rings that bell when a
/// rank of the node has ended, or one of another node, silent before, says by the network that it has sent something; until
/// that has been seen to work, the first one looks every 5 ms.
/// Rank 0 is told, and tells all others; that it has died itself is told by the ranks of its node. Where nobody is left to
/// tell, a rank of another node is dead when nothing is heard of it for link_options::silence. A process that is to outlive
/// others ignores SIGPIPE, which comes of writing to their sockets. To be closed or destroyed before MPI_Finalize.
///
/// Two threads of a rank may race for the progress; whoever has it delivers, with no lock but that right held.
class message_link final : public cadre::detail::link {
  using time_point = std::chrono::steady_clock::time_point;
  using urgency = cadre::detail::urgency;

 public:
  /// Every rank of `comm`, which is duplicated. Throws communicator_timeout (401), mapping_error (159), mpi_error
  /// (1101, 1102).
  explicit message_link(MPI_Comm comm, const link_options& options = {});
  /// Of a process that has come later, as `me`, which needs no communicator; the members that live are `others`.
  message_link(const acquaintance& me, const std::vector<acquaintance>& others, int world_size, int members,
               const link_options& options);
  message_link(const message_link&) = delete;
  message_link& operator=(const message_link&) = delete;
  /// Without a close() before, or after a death, what MPI may still touch is kept until the process ends, and MPI is not
  /// finalised.
  ~message_link() override { stop(); }

  [[nodiscard]] int rank() const noexcept override { return rank_; }
  [[nodiscard]] int world_size() const noexcept override { return world_size_; }
  [[nodiscard]] int members() const noexcept override { return members_.load(std::memory_order_acquire); }
  [[nodiscard]] int most_members() const noexcept override { return static_cast<int>(peers_.size()); }
  [[nodiscard]] int rank_of(int member) const noexcept override { return at(member).rank; }
  /// Messages to and from one that has come later, which is in the job from now on, unless its death is known already: false
  /// then.
  bool admit(const acquaintance& newcomer);
  [[nodiscard]] const process_card& card_of(int member) const noexcept {
    return processes_[static_cast<std::size_t>(member)];
  }

  // As of class job: virtual functions are defined in the class, here by those that other headers define.
  void start(cadre::detail::message_sink& sink) override { start_thread(sink); }

  /// Throws peer_died (1103), message_error (1104, 1105, 1108).
  void send(int to, std::span<const std::byte> bytes, urgency how) override { send_small(to, bytes, how); }
  void send(int to, const cadre::detail::written_in_place& message, urgency how) override {
    send_small(to, message, how);
  }
  void send(int to, cadre::detail::outgoing&& message, urgency how) override {
    send_large(to, std::move(message), how);
  }
  [[nodiscard]] std::uint64_t sent() const noexcept override {
    std::uint64_t n = 0;
    for (const auto& p : peers_) n += p->out.messages();
    return n;
  }
  void flush() override {
    for (std::size_t word = 0; word < unsent_.size(); ++word)
      if (unsent_[word].load(std::memory_order_relaxed) != 0) flush(word);
  }

  bool poll() noexcept override {
    // Whoever has something to send would hardly get the lock from one who looks again and again.
    if (senders_.load(std::memory_order_relaxed) != 0) return false;
    if (busy_.load(std::memory_order_relaxed) || busy_.exchange(true, std::memory_order_acquire)) {
      if (!others_came_.load(std::memory_order_relaxed)) others_came_.store(true, std::memory_order_relaxed);
      return false;
    }
    const bool moved = sink_ != nullptr && progress();
    busy_.store(false, std::memory_order_release);
    if (moved) wake();
    return moved;
  }
  // The thread, which sleeps while others look, is rung from now on.
  bool poll_last() noexcept override {
    bell().announce_sleep();
    return poll();
  }
  [[nodiscard]] std::uint64_t patience() const noexcept override {
    if (!is_transferring()) return spin_ticks_;
    // Of a large argument more comes while both sides look; batches need the system's TCP, from which who looks takes the
    // processor.
    const bool only_batches =
        has_requests_.load(std::memory_order_relaxed) && !has_blocks_.load(std::memory_order_relaxed);
    return only_batches ? std::min(spin_ticks_, near_ticks) : transfer_ticks_;
  }
  /// Throws message_error (1108) when called by the sink.
  bool wait_while(const std::atomic<std::uint32_t>& word, std::uint32_t value, time_point deadline) override {
    return wait_for_change(word, value, deadline);
  }
  void wake() noexcept override {
    // An exchange of the same word on both sides: a waiter that is not seen here sees what was done before.
    if (sleepers_.fetch_add(0, std::memory_order_acq_rel) != 0) bell().ring();
  }

  [[nodiscard]] bool is_alive(int rank) const noexcept override {
    return peers_[static_cast<std::size_t>(rank)]->alive.load(std::memory_order_acquire);
  }
  void declare_dead(int rank, std::string how) override { declare_dead(rank, std::move(how), knowledge::guess); }
  /// Throws message_error (1106).
  void close(time_point deadline) override { end(deadline); }

 private:
  friend class inbound;

  /// How this rank knows of a death: it has seen it, or was told, or nothing works any more with that rank.
  enum class knowledge : std::uint8_t { seen, told, guess };
  // What is still to come of a block.
  struct block_in {
    std::byte* into;
    std::uint64_t bytes;
    std::uint64_t next_piece;
    std::shared_ptr<blocks_in> whole;
  };
  struct peer {
    explicit peer(int number) : rank(number), in(number) {}
    // To it and from it; both ranks see it alike.
    [[nodiscard]] bool has_blocks_by_ring() const noexcept { return ring && ring->takes_all(); }

    int rank;  // this and the next four change before it is alive
    MPI_Comm comm = MPI_COMM_NULL;
    int address = 0;  // its rank there
    bool is_near = false;
    doorbell* bell = nullptr;         // of a rank that began on this node
    std::optional<ring_writer> ring;  // to such a one; under the lock of MPI
    bool is_to_come = true;           // under deaths_mutex_
    outbox out;
    std::atomic<bool> alive{false};
    std::atomic<std::uint32_t> taken{0};            // bytes of its records, modulo 2^32
    std::atomic<std::uint32_t> told{0};             // of these it knows
    std::atomic<bool> heard{false}, spoken{false};  // since the last beat
    std::atomic<bool> is_complete{false};           // nothing comes any more, as it has closed
    std::string how_it_died;                        // under deaths_mutex_, as the next one
    knowledge known_by{};
    // Under the lock of MPI:
    std::uint32_t sequence = 0;
    int leaving = 0;        // batches that MPI has not done with
    bool flushing = false;  // what is in the open batch is to go when one of these has, or the ring has room
    blocks_to_ring blocks_to_go;
    bool waits_for_ring = false;  // is in to_full_rings_
    std::uint64_t sent_at = 0;    // ticks, of one of another node
    std::deque<block_out> to_leave;
    std::deque<block_in> to_come;
    int pieces_leaving = 0, pieces_coming = 0;
    // Of whoever makes progress:
    inbound in;
    blocks_from_ring blocks_to_come;
    bool buried = false;
  };
  // A large batch needs the receiver: no more of them than receives that a rank can lose when another one dies.
  static constexpr int most_leaving = 4;
  static constexpr std::size_t receives = 8;
  static constexpr int most_pieces_leaving = 8;
  static constexpr int most_pieces_coming = 3;
  static constexpr int batch_tag = 0;
  static constexpr std::uint64_t near_ticks = 150'000;  // for which a rank looks whom others ring for: some 50 us

  std::mutex& mpi() const noexcept { return environment_.mutex(); }
  // The lock of MPI, for a sender.
  class sending {
   public:
    explicit sending(message_link& link) : link_(link) {
      link.senders_.fetch_add(1, std::memory_order_relaxed);
      link.mpi().lock();
    }
    sending(const sending&) = delete;
    sending& operator=(const sending&) = delete;
    ~sending() {
      link_.mpi().unlock();
      link_.senders_.fetch_sub(1, std::memory_order_relaxed);
    }

   private:
    message_link& link_;
  };
  [[nodiscard]] peer& at(int rank) const noexcept { return *peers_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] doorbell& bell() const noexcept { return *at(rank_).bell; }
  [[nodiscard]] int tag_of(std::uint64_t piece_number) const noexcept {
    return 1 + static_cast<int>(piece_number % static_cast<std::uint64_t>(last_tag_));
  }
  // Whoever sends no more need not know what was taken.
  [[nodiscard]] bool owes_acknowledgement(const peer& p) const noexcept {
    const std::uint32_t untold = p.taken.load(std::memory_order_relaxed) - p.told.load(std::memory_order_relaxed);
    return untold > options_.credit / 4 && !p.in.has_farewell();
  }
  [[nodiscard]] bool is_delivering() const noexcept { return delivering_ == this; }

  peer& target(int to) {
    if (to < 0 || to >= members() || to == rank_) [[unlikely]]
      refuse(to);
    peer& p = at(to);
    if (!p.alive.load(std::memory_order_acquire)) [[unlikely]]
      refuse(p);
    return p;
  }
  [[noreturn]] [[gnu::cold]] void refuse(int to) const {
    throw message_error::misuse("no message goes from rank " + std::to_string(rank_) + " to rank " +
                                std::to_string(to) + " of " + std::to_string(world_size()));
  }
  [[noreturn]] [[gnu::cold]] void refuse(peer& p);
  void make_peers(int world_size, int members);
  void begin(std::size_t near);
  void start_thread(cadre::detail::message_sink& sink);
  void send_large(int to, cadre::detail::outgoing&& message, urgency how);
  void end(time_point deadline);
  template <class Message>
  void send_small(int to, const Message& message, urgency how) {
    peer& p = target(to);
    if (how == urgency::normal && p.out.under_way() > options_.credit) [[unlikely]]
      wait_for_room(p);
    note(to, p, p.out.append(message));
  }
  void note(int to, peer& p, outbox::appended done) {
    if (!done.allowed()) [[unlikely]]
      refuse(p);
    if (done.first()) note_unsent(to);
    if (done.filled()) [[unlikely]]
      push_full(to, p);
  }
  [[gnu::noinline]] void note_unsent(int to) {
    unsent_[static_cast<std::size_t>(to) / 64].fetch_or(std::uint64_t{1} << (to % 64), std::memory_order_seq_cst);
    call_thread();
  }
  void push_full(int to, peer& p);
  [[gnu::cold]] void wait_for_room(peer& p);
  void flush(std::size_t word);
  bool push(int to, peer& p, bool all, bool acknowledge = false);
  void push_batch(int to, peer& p, std::unique_ptr<batch_out> batch);
  void push_pieces(int to, peer& p);
  void push_part(peer& p);
  void ring_afar(int to, peer& p);

  bool progress() noexcept;
  bool look_into_rings(bool& of_dead);
  const char* read_frame(int from, ring_reader& ring);
  void note_awaited() noexcept;
  bool look_at_mpi(int looks, bool& moved, bool& of_dead);
  void deliver(int from, std::span<const std::byte> batch);
  void begin_transfer(MPI_Request request, transfer about) {
    if (about.batch == nullptr) has_blocks_.store(true, std::memory_order_relaxed);
    transfers_.add(request, std::move(about));
    has_requests_.store(true, std::memory_order_relaxed);
    set_transferring();
  }
  void set_transferring() {
    if (!transferring_.exchange(true, std::memory_order_seq_cst)) call_thread();
  }
  // Both sides are needed.
  [[nodiscard]] bool is_transferring() const noexcept {
    return transferring_.load(std::memory_order_relaxed) || awaits_blocks_.load(std::memory_order_relaxed);
  }
  // After something that the thread may not have seen before its nap: it tells of the nap, then looks once more.
  void call_thread() noexcept {
    if (!naps_long_.load(std::memory_order_seq_cst)) [[likely]]
      return;
    if (naps_long_.exchange(false, std::memory_order_seq_cst)) waker_.wake_soon();
  }
  [[nodiscard]] std::chrono::nanoseconds longest_nap() const noexcept {
    constexpr std::chrono::nanoseconds alone = std::chrono::milliseconds(5), woken = std::chrono::milliseconds(50);
    if (!waker_.works()) return alone;
    if (is_one_node_.load(std::memory_order_relaxed)) return woken;
    if (!far_bell_ || !far_bell_->was_rung()) return alone;
    return beats_->interval() == beats_->interval().zero() ? woken : std::min(beats_->interval(), woken);
  }
  [[nodiscard]] bool has_unsent() const noexcept {
    return std::any_of(unsent_.begin(), unsent_.end(),
                       [](const auto& word) { return word.load(std::memory_order_seq_cst) != 0; });
  }
  void settle(transfer&& done, int code);
  void finish();
  void receive_blocks(int from, cadre::detail::incoming& message, std::uint64_t first_piece);
  void post_pieces(int from, peer& p);
  void bury() noexcept;
  void declare_dead(int rank, std::string how, knowledge by);
  void pass_on(int dead, const std::string& how, knowledge by);
  void beat();
  void watch_newcomers();

  // What `inbound` tells.
  bool acknowledged(int from, std::uint32_t taken) noexcept { return at(from).out.acknowledge(taken); }
  void message(int from, std::span<const std::byte> bytes, std::span<const std::uint64_t> block_sizes,
               std::uint64_t first_piece) {
    cadre::detail::incoming one(bytes, block_sizes);
    sink_->receive(from, one);
    if (!block_sizes.empty()) [[unlikely]]
      receive_blocks(from, one, first_piece);
  }
  [[gnu::cold]] bool told(int, std::uint64_t rank, std::span<const std::byte> how) {
    if (rank >= peers_.size()) return false;
    declare_dead(static_cast<int>(rank), std::string(reinterpret_cast<const char*>(how.data()), how.size()),
                 knowledge::told);
    return true;
  }
  [[gnu::cold]] void malformed(int from, const std::string& why) {
    at(from).in.close();
    const auto error = message_error::malformed(at(from).rank, why);
    sink_->fault(from, error);
    declare_dead(from, error.what());
  }

  template <class Ready>
  bool wait(Ready&& ready, time_point deadline);
  bool wait_for_change(const std::atomic<std::uint32_t>& word, std::uint32_t value, time_point deadline);
  void tend() noexcept;
  void stop() noexcept;

  static inline constinit thread_local const message_link* delivering_ = nullptr;

  environment& environment_;
  link_options options_;
  MPI_Comm comm_ = MPI_COMM_NULL;  // null for one that has come later
  int rank_ = 0, world_size_ = 0;
  int last_tag_ = 0;
  std::atomic<int> members_{0};
  std::atomic<bool> is_one_node_{true};
  std::uint64_t spin_ticks_ = 0, transfer_ticks_ = 0;
  cadre::detail::message_sink* sink_ = nullptr;
  std::vector<std::unique_ptr<peer>> peers_;
  std::optional<doorbells> bells_;
  doorbell own_bell_;  // of one that has come later
  std::optional<far_bell> far_bell_;
  std::optional<node_watch> watch_;
  waker waker_;
  std::optional<heartbeats> beats_;
  std::vector<process_card> processes_;  // by number
  std::optional<message_rings> rings_;
  std::vector<std::pair<int, ring_reader>> from_rings_;  // of whoever makes progress, as the next two
  unsigned looks_past_mpi_ = 0;
  bool only_rings_ = false;  // nothing comes by MPI from those that began on this node
  inbox inbox_{batch_tag};
  transfers transfers_;                              // under the lock of MPI
  std::vector<std::shared_ptr<const void>> left_;    // of blocks that have gone; under the lock of MPI
  std::vector<std::shared_ptr<const void>> let_go_;  // of whoever makes progress, as the next ones
  std::vector<std::shared_ptr<blocks_in>> came_;     // all pieces are there
  std::vector<int> with_blocks_;                     // ranks whose blocks are to be received
  unsigned quiet_ = 0;  // looks since a batch of a dead rank came, while its death is to be told
  std::vector<std::atomic<std::uint64_t>> unsent_;  // a bit per rank: its outbox has an open batch
  std::vector<int> to_full_rings_;                  // ranks for which there is more; under the lock of MPI
  alignas(64) std::atomic<bool> busy_{false};       // somebody makes progress
  std::atomic<std::uint64_t> looks_{0};             // how often, for the thread: others do
  std::atomic<bool> others_came_{false};            // and would have, while it did
  std::atomic<bool> naps_long_{false};              // the thread
  std::atomic<bool> transferring_{false};           // requests of MPI are not complete, or a ring is full
  std::atomic<bool> has_requests_{false};           // whether the former
  std::atomic<bool> has_blocks_{false};             // and some of these are no batches
  std::atomic<bool> awaits_blocks_{false};          // by rings; of whoever makes progress
  alignas(64) std::atomic<std::uint32_t> sleepers_{0};
  std::atomic<std::uint32_t> senders_{0};  // who have the lock of MPI, or wait for it
  std::mutex deaths_mutex_;
  std::vector<int> deaths_;     // to be told
  std::vector<int> newcomers_;  // to be watched
  std::atomic<bool> has_deaths_{false}, has_newcomers_{false};
  std::atomic<bool> somebody_died_{false};
  std::atomic<bool> stopping_{false};
  bool closed_ = false, stopped_ = false;
  native_thread thread_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/message_deaths.hpp ----
#ifndef CADRE_MPI_DETAIL_MESSAGE_DEATHS_HPP
#define CADRE_MPI_DETAIL_MESSAGE_DEATHS_HPP

// How a message_link learns of deaths, and what it does then.

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

inline void message_link::declare_dead(int rank, std::string how, knowledge by) {
  {
    const std::lock_guard lock(deaths_mutex_);
    peer& p = at(rank);
    if (p.is_to_come) p.is_to_come = false;  // it never will
    if (rank == rank_ || !p.alive.load(std::memory_order_relaxed)) return;
    p.how_it_died = std::move(how);
    p.known_by = by;
    deaths_.push_back(rank);
    p.alive.store(false, std::memory_order_release);
    somebody_died_.store(true);
    environment_.note_death(rank == 0, rank_ != 0 && !at(0).is_near);
    has_deaths_.store(true, std::memory_order_release);
  }
  bell().ring();
}

inline void message_link::bury() noexcept {
  std::vector<int> dead;
  {
    const std::lock_guard lock(deaths_mutex_);
    dead.swap(deaths_);
    has_deaths_.store(false, std::memory_order_release);
  }
  for (const int rank : dead) {
    peer& p = at(rank);
    p.in.close();
    p.buried = true;
    std::erase_if(from_rings_, [&](const auto& r) { return r.first == rank; });
    note_awaited();
    std::vector<std::shared_ptr<blocks_in>> lost;
    std::vector<std::shared_ptr<const void>> keeps;  // let go without a lock
    p.blocks_to_come.abandon([&](std::shared_ptr<blocks_in>&& whole) { lost.push_back(std::move(whole)); });
    {
      const std::lock_guard lock(mpi());
      transfers_.drop(rank, [&](transfer&& undone, bool may_be_touched) {
        if (undone.into) lost.push_back(undone.into);
        std::shared_ptr<const void> memory = undone.batch  ? std::shared_ptr<const void>(std::move(undone.batch))
                                             : undone.into ? std::shared_ptr<const void>(undone.into)
                                                           : std::move(undone.keep);
        if (may_be_touched) environment_.keep(memory);
        keeps.push_back(std::move(memory));
      });
      for (block_in& one : p.to_come) lost.push_back(std::move(one.whole));
      p.to_come.clear();
      for (block_out& one : p.to_leave) keeps.push_back(std::move(one.keep));
      p.to_leave.clear();
      for (block_out& block : p.blocks_to_go.abandon()) keeps.push_back(std::move(block.keep));
      if (p.comm == comm_) inbox_.add({.comm = comm_}, most_leaving);
    }
    const auto unsent = p.out.abandon();
    delivering_ = this;
    for (const auto& one : lost)
      if (!std::exchange(one->over, true) && one->where.done) one->where.done(false);
    sink_->died(rank, p.how_it_died);
    delivering_ = nullptr;
    pass_on(rank, p.how_it_died, p.known_by);
  }
}

// All ranks learn it from rank 0; of its own death those of other nodes learn from those of its node. That it does not
// answer here does not mean that it does not answer elsewhere.
inline void message_link::pass_on(int dead, const std::string& how, knowledge by) {
  if (is_one_node_) return;
  for (int r = 0; r < members(); ++r) {
    peer& p = at(r);
    if (r == rank_ || !is_alive(r)) continue;
    const bool is_to_know = rank_ == 0  ? true
                            : dead == 0 ? by == knowledge::seen && !p.is_near
                                        : by != knowledge::told && r == 0;
    if (!is_to_know) continue;
    const auto done = p.out.tell_death(dead, how);
    if (done.allowed()) note(r, p, done);
  }
  flush();
}

inline bool message_link::admit(const acquaintance& newcomer) {
  peer& p = at(newcomer.member);
  const std::lock_guard mpi_lock(mpi());
  const std::lock_guard lock(deaths_mutex_);
  if (!std::exchange(p.is_to_come, false)) return false;
  p.rank = newcomer.rank;
  p.comm = newcomer.comm;
  p.is_near = newcomer.is_near;
  processes_[static_cast<std::size_t>(newcomer.member)] = newcomer.card;
  check(::MPI_Comm_set_errhandler(p.comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  inbox_.add({p.comm, 0, newcomer.member}, most_leaving);
  newcomers_.push_back(newcomer.member);
  is_one_node_.store(false);
  int known = members_.load();
  while (known <= newcomer.member && !members_.compare_exchange_weak(known, newcomer.member + 1)) {}
  p.alive.store(true, std::memory_order_release);
  has_newcomers_.store(true, std::memory_order_release);
  return true;
}

// By the thread that looks at the others too.
inline void message_link::watch_newcomers() {
  if (!has_newcomers_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(deaths_mutex_);
  has_newcomers_.store(false, std::memory_order_relaxed);
  for (const int member : std::exchange(newcomers_, {}))
    at(member).is_near ? watch_->add(member, card_of(member).process) : beats_->add(member, rank_);
}

inline void message_link::beat() {
  beats_->look(
      [&](int r) -> std::optional<heartbeats::signs> {
        peer& p = at(r);
        if (!is_alive(r) || p.is_complete.load(std::memory_order_relaxed)) return {};
        return heartbeats::signs{p.heard.exchange(false, std::memory_order_relaxed),
                                 p.spoken.exchange(false, std::memory_order_relaxed)};
      },
      [&](int r) {
        peer& p = at(r);
        const std::lock_guard lock(mpi());
        if (!p.out.is_confirmed()) push(r, p, false, true);  // a batch of nothing; none behind the last one
      },
      [&](int r) {
        const process_card& it = processes_[static_cast<std::size_t>(r)];
        char seconds[32];
        std::snprintf(seconds, sizeof seconds, "%.1f", std::chrono::duration<double>(options_.silence).count());
        declare_dead(r, "no sign of life of its process " + std::to_string(it.process) + " on " + it.host + " for " +
                            seconds + " s");
      });
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/message_progress.hpp ----
#ifndef CADRE_MPI_DETAIL_MESSAGE_PROGRESS_HPP
#define CADRE_MPI_DETAIL_MESSAGE_PROGRESS_HPP

// How a message_link receives, and waits.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

inline bool message_link::progress() noexcept {
  bool moved = false, of_dead = false;
  try {
    looks_.store(looks_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    // To have the turn costs as much as a look, and who waits for an answer looks again and again.
    constexpr int looks = 4;
    for (int i = 0; i < looks && !moved && !from_rings_.empty(); ++i) moved = look_into_rings(of_dead);
    constexpr unsigned seldom = 1024;
    const bool has_deaths = has_deaths_.load(std::memory_order_acquire);
    const bool by_mpi = !only_rings_ || !is_one_node_.load(std::memory_order_relaxed) || has_deaths ||
                        has_requests_.load(std::memory_order_relaxed) || ++looks_past_mpi_ % seldom == 0;
    const int looks_there = !by_mpi ? 0 : moved ? 1 : looks;
    const bool looked =
        (by_mpi || transferring_.load(std::memory_order_relaxed)) && look_at_mpi(looks_there, moved, of_dead);
    if (!came_.empty() || !let_go_.empty()) {
      finish();
      moved = true;
    }
    if (has_deaths && looked) [[unlikely]] {
      // What a rank has sent before it died comes first.
      constexpr unsigned enough = 20;
      quiet_ = of_dead ? 0 : quiet_ + 1;
      if (quiet_ >= enough) {
        quiet_ = 0;
        bury();
        moved = true;
      }
    }
  } catch (const std::exception&) {
    // Without memory for its own tables it can only try again.
  }
  return moved;
}

// One frame of each rank of this node; whether there was any.
inline bool message_link::look_into_rings(bool& of_dead) {
  bool found = false;
  for (std::size_t i = 0; i < from_rings_.size(); ++i) {
    auto& [from, ring] = from_rings_[i];
    if (!ring.has_frame()) continue;
    found = true;
    of_dead |= !is_alive(from);
    if (const char* const why = read_frame(from, ring)) {
      malformed(from, why);
      from_rings_.erase(from_rings_.begin() + static_cast<std::ptrdiff_t>(i--));
    }
  }
  return found;
}

// As those change.
inline void message_link::note_awaited() noexcept {
  const bool any = std::any_of(from_rings_.begin(), from_rings_.end(),
                               [&](const auto& ring) { return !at(ring.first).blocks_to_come.empty(); });
  awaits_blocks_.store(any, std::memory_order_relaxed);
}

inline const char* message_link::read_frame(int from, ring_reader& ring) {
  const auto frame = ring.front();
  if (!frame) return "its ring holds something else than frames";
  if (frame->is_of_block) {
    auto [is_expected, complete] = at(from).blocks_to_come.take(frame->content);
    if (!is_expected) return "more of a block than it has announced";
    if (complete) {
      came_.push_back(std::move(complete));
      note_awaited();
    }
  } else {
    deliver(from, frame->content);
  }
  if (ring.release()) at(from).bell->knock();
  return nullptr;
}

// False if others are in MPI. `looks`: for batches; none where all come by rings.
inline bool message_link::look_at_mpi(int looks, bool& moved, bool& of_dead) {
  std::optional<inbox::arrival> batch;
  {
    const std::unique_lock lock(mpi(), std::try_to_lock);
    if (!lock) return false;
    if (!transfers_.empty()) looks = std::min(looks, 1);  // over TCP each costs calls of the system
    for (int i = 0; i < looks && !batch; ++i) batch = inbox_.test();
    if (!transfers_.empty()) transfers_.test([&](transfer&& done, int code) { settle(std::move(done), code); });
    for (const int to : std::exchange(to_full_rings_, {})) {
      at(to).waits_for_ring = false;
      moved |= push(to, at(to), false, owes_acknowledgement(at(to)));
    }
    let_go_.insert(let_go_.end(), std::move_iterator(left_.begin()), std::move_iterator(left_.end()));
    left_.clear();
    has_requests_.store(!transfers_.empty(), std::memory_order_relaxed);
    has_blocks_.store(transfers_.has_blocks(), std::memory_order_relaxed);
    transferring_.store(!transfers_.empty() || !to_full_rings_.empty(), std::memory_order_relaxed);
  }
  if (!batch) return true;
  moved = true;
  if (batch->from >= 0 && batch->from < members()) {  // else of a receive that failed
    of_dead |= !is_alive(batch->from);
    if (batch->code == MPI_SUCCESS)
      deliver(batch->from, batch->bytes);
    else
      malformed(batch->from, mpi_error::call_failed("a receive", batch->code).what());
  }
  inbox_.release(batch->slot);
  return true;
}

inline void message_link::deliver(int from, std::span<const std::byte> batch) {
  peer& p = at(from);
  delivering_ = this;
  p.in.take(batch, *this);
  sink_->batch_ends();
  delivering_ = nullptr;
  p.heard.store(true, std::memory_order_relaxed);
  if (p.in.is_complete()) [[unlikely]]
    p.is_complete.store(true, std::memory_order_relaxed);
  p.taken.store(p.in.taken(), std::memory_order_relaxed);
  const bool acknowledge = owes_acknowledgement(p);
  if (!acknowledge && with_blocks_.empty()) return;
  const std::lock_guard lock(mpi());
  if (acknowledge) push(from, p, false, true);
  for (const int sender : with_blocks_) post_pieces(sender, at(sender));
  with_blocks_.clear();
}

// Under the lock of MPI.
inline void message_link::settle(transfer&& done, int code) {
  peer& p = at(done.peer);
  if (code != MPI_SUCCESS) declare_dead(done.peer, mpi_error::call_failed("a message", code).what());
  if (done.batch) {
    --p.leaving;
    p.out.recycle(std::move(done.batch));
    push(done.peer, p, false, owes_acknowledgement(p));
  } else if (done.into) {
    --p.pieces_coming;
    p.heard.store(true, std::memory_order_relaxed);
    done.into->failed |= code != MPI_SUCCESS;
    if (--done.into->pieces_left == 0) came_.push_back(std::move(done.into));
    post_pieces(done.peer, p);
  } else {
    --p.pieces_leaving;
    p.out.block_left(done.bytes);
    if (done.keep) left_.push_back(std::move(done.keep));
    push_pieces(done.peer, p);
  }
}

inline void message_link::finish() {
  delivering_ = this;
  for (const auto& one : std::exchange(came_, {}))
    if (!std::exchange(one->over, true) && one->where.done) one->where.done(!one->failed);
  let_go_.clear();
  delivering_ = nullptr;
}

inline void message_link::receive_blocks(int from, cadre::detail::incoming& message, std::uint64_t first_piece) {
  const auto sizes = message.block_sizes();
  const auto whole = std::make_shared<blocks_in>();
  whole->from = from;
  bool fits = message.where().has_value();
  if (fits) {
    whole->where = std::move(*message.where());
    fits = whole->where.into.size() == sizes.size();
    for (std::size_t i = 0; fits && i < sizes.size(); ++i) fits = whole->where.into[i].size() == sizes[i];
    if (!fits && whole->where.done) whole->where.done(false);
  }
  peer& p = at(from);
  if (p.has_blocks_by_ring()) {
    for (std::size_t i = 0; i < sizes.size(); ++i)
      p.blocks_to_come.expect(fits ? whole->where.into[i].data() : nullptr, sizes[i], whole);
    if (!fits) whole->where = {};
    if (whole->pieces_left == 0) came_.push_back(whole);
    return note_awaited();
  }
  std::shared_ptr<std::vector<std::byte>> thrown_away;
  if (!fits) {
    std::uint64_t largest = 0;
    for (const std::uint64_t size : sizes) largest = std::max(largest, size);
    thrown_away = std::make_shared<std::vector<std::byte>>(std::min(largest, piece_bytes));
    whole->where = {{}, thrown_away, {}};
  }
  const std::lock_guard lock(mpi());
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] != 0)
      p.to_come.push_back({fits ? whole->where.into[i].data() : thrown_away->data(), sizes[i], first_piece, whole});
    first_piece += pieces_of(sizes[i]);
    whole->pieces_left += pieces_of(sizes[i]);
  }
  if (whole->pieces_left == 0)
    came_.push_back(whole);
  else
    with_blocks_.push_back(from);
}

// Under the lock of MPI.
inline void message_link::post_pieces(int from, peer& p) {
  if (!p.alive.load(std::memory_order_acquire)) return;
  while (p.pieces_coming < most_pieces_coming && !p.to_come.empty()) {
    block_in& block = p.to_come.front();
    const std::uint64_t n = std::min(block.bytes, piece_bytes);
    MPI_Request request = MPI_REQUEST_NULL;
    const int code =
        ::MPI_Irecv(block.into, static_cast<int>(n), MPI_BYTE, p.address, tag_of(block.next_piece++), p.comm, &request);
    if (code != MPI_SUCCESS) return declare_dead(from, mpi_error::call_failed("a receive", code).what());
    ++p.pieces_coming;
    begin_transfer(request, {.peer = from, .batch = {}, .keep = {}, .bytes = 0, .into = block.whole});
    block.bytes -= n;
    if (!block.whole->where.into.empty()) block.into += n;  // else all of them are thrown away
    if (block.bytes == 0) p.to_come.pop_front();
  }
}

// ---- Waiting

template <class Ready>
bool message_link::wait(Ready&& ready, time_point deadline) {
  if (is_delivering())
    throw message_error::misuse("a sink of messages waits for messages: none comes before it returns");
  flush();
  time_point asleep_since = time_point::max();  // of one that has slept
  bool quiet = false;  // it has slept, and nobody has rung: one look, as each costs calls of the system over TCP
  for (;;) {
    std::uint64_t begin = 0;
    for (unsigned looks = 1;; ++looks) {
      if (ready()) return true;
      if (poll()) {
        looks = 0;
        asleep_since = time_point::max();
        quiet = false;
      }
      if (quiet && !is_transferring()) break;
      constexpr unsigned some = 16;  // the time is looked at now and then
      if (looks == some) {
        begin = cadre::detail::ticks();
      } else if (looks % some == 0 && looks != 0) {
        const bool transferring = is_transferring();
        if (cadre::detail::ticks() - begin > (transferring ? transfer_ticks_ : spin_ticks_)) break;
      }
    }
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) return ready();
    // Where MPI needs both sides nobody rings, nor from another node for what soon follows: what takes long may take a
    // little longer.
    constexpr std::chrono::nanoseconds shortest = std::chrono::microseconds(200);
    const std::chrono::nanoseconds longest = longest_nap();
    asleep_since = std::min(asleep_since, now);
    const auto nap = is_transferring() ? shortest
                     : is_one_node_    ? longest
                                    : std::clamp<std::chrono::nanoseconds>((now - asleep_since) / 8, shortest, longest);
    sleepers_.fetch_add(1, std::memory_order_acq_rel);
    const std::uint32_t rings = bell().rings();
    bell().announce_sleep();
    if (!poll() && !ready()) bell().sleep(rings, std::min(deadline, now + nap));
    sleepers_.fetch_sub(1, std::memory_order_acq_rel);
    quiet = bell().rings() == rings;
  }
}

inline bool message_link::wait_for_change(const std::atomic<std::uint32_t>& word, std::uint32_t value,
                                          time_point deadline) {
  return wait([&] { return word.load(std::memory_order_acquire) != value; }, deadline);
}

// What the thread does: looks again soon after something has come, and ever later when nothing does.
inline void message_link::tend() noexcept {
  constexpr auto shortest = std::chrono::microseconds(50), while_others_look = std::chrono::microseconds(1000),
                 while_transferring = std::chrono::microseconds(200);
  std::chrono::nanoseconds nap = shortest;
  std::uint64_t looks = 0;
  bool rung = false;  // for who looked before, and has said that it stops
  while (!stopping_.load(std::memory_order_acquire)) {
    const auto longest = longest_nap();
    // More than one that sleeps and looks now and then; and fewer than one that is busy with what has come, and looks between.
    const bool others_look =
        others_came_.exchange(false, std::memory_order_relaxed) ||
        looks_.load(std::memory_order_relaxed) - looks > static_cast<std::uint64_t>(16 * nap / longest);
    const std::uint32_t rings = bell().rings();
    // Others who look need not be rung for; when they stop this one takes over at the end of its nap.
    if (!others_look) bell().announce_sleep();
    try {
      flush();
    } catch (const std::bad_alloc&) {
      // At the next look, perhaps.
    }
    bool moved = false;
    std::uint64_t since = cadre::detail::ticks();  // of a block that a ring brings more comes in a moment
    for (int i = 0; i < 64 && !others_came_.load(std::memory_order_relaxed);) {
      const bool dead = has_deaths_.load(std::memory_order_acquire);
      if (others_look && !rung && !dead) break;
      if (poll() || dead) {
        moved = true;
        since = cadre::detail::ticks();
        ++i;
      } else if (!is_transferring() || cadre::detail::ticks() - since > std::min<std::uint64_t>(spin_ticks_, 20'000)) {
        break;
      }
    }
    watch_newcomers();
    watch_->look([&](int rank, std::string how) { declare_dead(rank, std::move(how), knowledge::seen); });
    beat();
    sink_->tick();
    const std::chrono::nanoseconds most = others_look         ? while_others_look
                                          : is_transferring() ? while_transferring
                                                              : longest;
    nap = moved || rung ? shortest : std::min(2 * nap, most);
    looks = looks_.load(std::memory_order_relaxed);
    if (nap > while_others_look) {
      naps_long_.store(true, std::memory_order_seq_cst);
      if (has_unsent() || transferring_.load(std::memory_order_seq_cst)) nap = shortest;
    }
    if (!stopping_.load(std::memory_order_acquire)) bell().sleep(rings, std::chrono::steady_clock::now() + nap);
    naps_long_.store(false, std::memory_order_relaxed);
    rung = bell().rings() != rings;
  }
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/message_sending.hpp ----
#ifndef CADRE_MPI_DETAIL_MESSAGE_SENDING_HPP
#define CADRE_MPI_DETAIL_MESSAGE_SENDING_HPP

// How a message_link begins, sends and ends.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

inline message_link::message_link(MPI_Comm comm, const link_options& options)
    : environment_(environment::get()), options_(options) {
  const auto deadline = std::chrono::steady_clock::now() + options_.timeout;
  int size = 0;
  const auto duplicate = std::make_shared<MPI_Comm>(MPI_COMM_NULL);  // MPI writes it when all ranks have come
  MPI_Request request = MPI_REQUEST_NULL;
  {
    const std::lock_guard lock(mpi());
    check(::MPI_Comm_size(comm, &size), "MPI_Comm_size");
    check(::MPI_Comm_rank(comm, &rank_), "MPI_Comm_rank");
    check(::MPI_Comm_idup(comm, duplicate.get(), &request), "MPI_Comm_idup");
  }
  try {
    wait_to_join(request, deadline);
  } catch (...) {
    const std::lock_guard lock(mpi());
    environment_.keep(duplicate);
    throw;
  }
  comm_ = *duplicate;
  {
    const std::lock_guard lock(mpi());
    check(::MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }
  const root_gather gather(comm_, size, deadline);
  std::vector<int> ranks;
  for (int r = 0; r < size; ++r) ranks.push_back(r);
  const topology who(std::move(ranks), gather(node_identity()));
  is_one_node_ = who.nodes() == 1;
  bells_.emplace(who, rank_, gather);
  if (options_.ring_bytes != 0) rings_.emplace(who, rank_, options_.ring_bytes, gather);
  process_card me{.process = static_cast<std::int32_t>(::getpid()),
                  .most_later = options_.most_later,
                  .silence = options_.silence.count()};
  host_name().copy(me.host, sizeof me.host - 1);
  if (!is_one_node_) me.bell = far_bell_.emplace().address();
  processes_ = gather(me);
  options_.most_later = processes_[0].most_later;
  options_.silence = std::chrono::nanoseconds(processes_[0].silence);
  watch_.emplace(who, rank_, [&](int r) { return processes_[static_cast<std::size_t>(r)].process; });
  beats_.emplace(who, rank_, options_.silence);
  make_peers(size, size);
  processes_.resize(peers_.size());
  for (int r = 0; r < size; ++r) {
    peer& p = at(r);
    p.comm = comm_;
    p.address = r;
    p.bell = bells_->of(r);
    p.is_near = p.bell != nullptr;
    p.is_to_come = false;
    p.alive.store(true);
    if (!rings_ || !rings_->connects(r)) continue;
    p.ring = rings_->to(r);
    from_rings_.emplace_back(r, rings_->from(r));
  }
  only_rings_ = rings_ && rings_->hold_all_batches();
  begin(who.members(who.node_of[static_cast<std::size_t>(rank_)]).size());
  if (rank_ == 0 && !is_one_node_) environment_.guard_launcher();
}

inline message_link::message_link(const acquaintance& me, const std::vector<acquaintance>& others, int world_size,
                                  int members, const link_options& options)
    : environment_(environment::get()), options_(options), rank_(me.member), is_one_node_(false) {
  make_peers(world_size, members);
  processes_.resize(peers_.size());
  processes_[static_cast<std::size_t>(rank_)] = me.card;
  at(rank_).rank = me.rank;
  at(rank_).bell = &own_bell_;
  const topology alone({0}, {0});
  watch_.emplace(alone, 0, [](int) { return 0; });
  beats_.emplace(alone, 0, options_.silence);
  std::size_t near = 1;
  for (const acquaintance& a : others) {
    admit(a);
    near += a.is_near ? 1 : 0;
  }
  for (int m = 0; m < members; ++m) at(m).is_to_come = false;  // those have died before
  begin(near);
}

inline void message_link::make_peers(int world_size, int members) {
  world_size_ = world_size;
  members_.store(members);
  const auto most = static_cast<std::size_t>(world_size + options_.most_later);
  for (std::size_t m = 0; m < most; ++m) peers_.push_back(std::make_unique<peer>(static_cast<int>(m)));
  unsent_ = std::vector<std::atomic<std::uint64_t>>((most + 63) / 64);
}

// `near`: the ranks of this node.
inline void message_link::begin(std::size_t near) {
  {
    const std::lock_guard lock(mpi());
    int* bound = nullptr;
    int found = 0;
    check(::MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, static_cast<void*>(&bound), &found), "MPI_Comm_get_attr");
    last_tag_ = found != 0 ? *bound : 32767;
  }
  // Where there are more ranks than processors, the one that is waited for needs this one.
  const bool crowded = near > static_cast<std::size_t>(::sysconf(_SC_NPROCESSORS_ONLN));
  // No rank of another node rings: longer than one there naps that has just heard something, or both would nap by turns.
  const bool far = !is_one_node_.load();
  spin_ticks_ = crowded ? 2'000 : far ? 600'000 : near_ticks;
  transfer_ticks_ = crowded ? spin_ticks_ : 4'000'000;
  environment_.enter();
}

inline void message_link::start_thread(cadre::detail::message_sink& sink) {
  {
    const std::lock_guard lock(mpi());
    if (comm_ != MPI_COMM_NULL) inbox_.add({.comm = comm_}, receives);
  }
  while (busy_.exchange(true, std::memory_order_acquire)) cadre::detail::relax();
  sink_ = &sink;
  busy_.store(false, std::memory_order_release);
  waker_.watch(watch_->file());
  if (far_bell_) waker_.watch(far_bell_->file());
  waker_.start([this](int file) {
    if (far_bell_ && file == far_bell_->file()) {
      if (!far_bell_->has_rung()) return;
      // What has come is the sooner there as no other thread has to wake up first.
      constexpr int looks = 16;
      for (int i = 0; i < looks && !poll();) ++i;
    }
    bell().ring();
  });
  thread_ = native_thread("cadre-link", [this] { tend(); });
}

// ---- Sending

inline void message_link::send_large(int to, cadre::detail::outgoing&& message, urgency how) {
  peer& p = target(to);
  if (message.blocks.size() > outbox::most_blocks)
    throw message_error::misuse("a message of " + std::to_string(message.blocks.size()) + " blocks to rank " +
                                std::to_string(to) + ": at most " + std::to_string(outbox::most_blocks));
  if (how == urgency::normal && p.out.under_way() > options_.credit) wait_for_room(p);
  const auto pieces = message.bytes.pieces();
  std::vector<std::byte> copy;
  std::span<const std::byte> bytes;
  if (pieces.size() == 1) {
    bytes = pieces[0];
  } else {
    copy = message.bytes.to_vector();
    bytes = copy;
  }
  note(to, p, message.blocks.empty() ? p.out.append(bytes) : p.out.append(bytes, message.blocks, message.keep));
}

inline void message_link::refuse(peer& p) {
  if (p.alive.load(std::memory_order_acquire)) throw message_error::closed(p.rank);
  const std::lock_guard lock(deaths_mutex_);
  throw peer_died(p.rank, p.how_it_died);
}

inline void message_link::wait_for_room(peer& p) {
  if (is_delivering()) return;  // nobody makes progress until it returns
  for (;;) {
    const std::uint64_t before = p.out.under_way();
    const bool moved = wait([&] { return !p.alive.load() || p.out.under_way() <= options_.credit; },
                            std::chrono::steady_clock::now() + options_.timeout);
    if (!p.alive.load()) refuse(p);
    if (moved) return;
    if (p.out.under_way() >= before)
      throw message_error::stalled(
          p.rank, std::to_string(before) + " bytes are under way to it, and in " +
                      std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(options_.timeout).count()) +
                      " ms it has taken none: it is stopped, or its host cannot be reached");
  }
}

inline void message_link::flush(std::size_t word) {
  std::uint64_t bits = unsent_[word].exchange(0, std::memory_order_acq_rel);
  if (bits == 0) return;
  const sending lock(*this);
  for (; bits != 0; bits &= bits - 1) {
    const int to = static_cast<int>(word) * 64 + __builtin_ctzll(bits);
    push(to, at(to), true);
  }
}

inline void message_link::push_full(int to, peer& p) {
  {
    const sending lock(*this);
    push(to, p, false);
  }
  poll();  // large batches leave only while somebody makes progress
}

// Under the lock of MPI: sends what is full, or all; or an empty batch that says what was taken. Whether there was any.
inline bool message_link::push(int to, peer& p, bool all, bool acknowledge) {
  if (!p.alive.load(std::memory_order_acquire)) return false;
  all |= p.flushing;
  bool sent = false, says_something = false, full = false;
  // Others may wait for the lock, while the receiver makes room again and again.
  constexpr int most_parts = 8;
  for (int parts = 0; p.leaving < most_leaving && p.alive.load(std::memory_order_relaxed);) {
    const bool has_room = !p.ring || p.ring->has_room(p.ring->most());
    auto batch = has_room ? p.out.take(all) : nullptr;
    says_something |= batch != nullptr;
    if (batch == nullptr && acknowledge && has_room) batch = std::make_unique<batch_out>();
    const bool has_batch = batch != nullptr;
    if (has_batch) push_batch(to, p, std::move(batch));
    acknowledge &= !has_batch;
    // Between batches too, or many of them would keep it back.
    const bool has_part = !p.blocks_to_go.empty() && parts < most_parts && p.ring->has_room(blocks_to_ring::part_bytes);
    if (has_part) push_part(p);
    parts += has_part ? 1 : 0;
    sent |= has_batch || has_part;
    if (has_batch || has_part) continue;
    full = !has_room || !p.blocks_to_go.empty();
    if (!full || !p.ring->ask_for_room() || parts == most_parts) break;
  }
  p.flushing = all && (full || p.leaving == most_leaving);
  if (full && !std::exchange(p.waits_for_ring, true)) {
    to_full_rings_.push_back(to);
    set_transferring();
  }
  if (sent && p.bell == nullptr) p.spoken.store(true, std::memory_order_relaxed);
  if (sent && p.bell != nullptr) p.bell->knock();
  if (says_something && p.bell == nullptr) ring_afar(to, p);
  return sent;
}

inline void message_link::push_batch(int to, peer& p, std::unique_ptr<batch_out> batch) {
  const batch_header header{p.sequence++, p.taken.load(std::memory_order_relaxed)};
  p.told.store(header.taken, std::memory_order_relaxed);
  std::memcpy(batch->bytes.get(), &header, header_bytes);
  MPI_Request request = MPI_REQUEST_NULL;
  int done = 0;
  if (p.ring && batch->used <= p.ring->most()) {
    p.ring->write_batch({batch->bytes.get(), batch->used});
    done = 1;
  } else {
    int code = ::MPI_Isend(batch->bytes.get(), static_cast<int>(batch->used), MPI_BYTE, p.address, batch_tag, p.comm,
                           &request);
    if (code == MPI_SUCCESS) code = ::MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (code != MPI_SUCCESS) return declare_dead(to, mpi_error::call_failed("a message to it", code).what());
  }
  for (block_out& block : batch->blocks) {
    if (p.has_blocks_by_ring())
      p.blocks_to_go.add(std::move(block));
    else if (!block.bytes.empty())
      p.to_leave.push_back(std::move(block));
  }
  push_pieces(to, p);
  if (done != 0) {
    p.out.recycle(std::move(batch));
  } else {
    ++p.leaving;
    begin_transfer(request, {.peer = to, .batch = std::move(batch), .keep = {}, .bytes = 0, .into = {}});
  }
}

inline void message_link::push_part(peer& p) {
  auto [bytes, keep] = p.blocks_to_go.write_next(*p.ring);
  p.out.block_left(bytes);
  if (!keep) return;
  left_.push_back(std::move(keep));
  set_transferring();
}

// Under the lock of MPI, after something was sent. Who was sent something a moment ago still looks often.
inline void message_link::ring_afar(int to, peer& p) {
  constexpr std::uint64_t moment = 1'500'000;  // ticks; 0.5 ms or so, after which its naps get long
  const std::uint64_t now = cadre::detail::ticks();
  if (now - std::exchange(p.sent_at, now) > moment && far_bell_) far_bell_->ring(card_of(to).bell);
}

// Under the lock of MPI. More than the receiver takes at once, so that it need not wait for them.
inline void message_link::push_pieces(int to, peer& p) {
  if (!p.alive.load(std::memory_order_acquire)) return;
  while (p.pieces_leaving < most_pieces_leaving && !p.to_leave.empty()) {
    block_out& block = p.to_leave.front();
    const std::size_t n = std::min<std::size_t>(block.bytes.size(), piece_bytes);
    MPI_Request request = MPI_REQUEST_NULL;
    const int code = ::MPI_Isend(block.bytes.data(), static_cast<int>(n), MPI_BYTE, p.address,
                                 tag_of(block.first_piece++), p.comm, &request);
    if (code != MPI_SUCCESS) return declare_dead(to, mpi_error::call_failed("a block to it", code).what());
    ++p.pieces_leaving;
    begin_transfer(request, {.peer = to, .batch = {}, .keep = block.keep, .bytes = n, .into = {}});
    block.bytes = block.bytes.subspan(n);
    if (block.bytes.empty()) p.to_leave.pop_front();
  }
}

// ---- The end

inline void message_link::end(time_point deadline) {
  for (int r = 0; r < members(); ++r) {
    peer& p = at(r);
    if (r == rank_ || !p.alive.load(std::memory_order_acquire) || !p.out.close()) continue;
    const std::lock_guard lock(mpi());
    push(r, p, true);
  }
  std::string missing;
  const auto finished = [&] {
    // No two threads at what makes progress guards.
    if (busy_.exchange(true, std::memory_order_acquire)) return false;
    missing.clear();
    for (int r = 0; r < members(); ++r) {
      peer& p = at(r);
      if (r == rank_ || p.buried || p.comm == MPI_COMM_NULL) continue;
      // What it has told of its end comes before all of ours has been taken; what confirms that is the last.
      if (p.in.has_farewell() && p.out.confirm()) {
        const std::lock_guard lock(mpi());
        push(r, p, true);
      }
      if (!p.in.is_complete() || !p.out.is_empty() || !p.blocks_to_come.empty())
        missing += (missing.empty() ? "" : ", ") + std::to_string(r);
    }
    bool done = missing.empty() && came_.empty() && !has_deaths_.load(std::memory_order_acquire);
    {
      const std::lock_guard lock(mpi());
      done = done && transfers_.empty() && to_full_rings_.empty() && left_.empty();
    }
    busy_.store(false, std::memory_order_release);
    return done;
  };
  if (!wait(finished, deadline))
    throw message_error::unfinished(
        "rank " + std::to_string(rank_) + " closes, and not all messages were received in time" +
        (missing.empty() ? std::string("; blocks are under way") : "; not closed, or not taking: ranks " + missing) +
        ". Every rank has to close");
  closed_ = true;
  stop();
}

inline void message_link::stop() noexcept {
  if (std::exchange(stopped_, true)) return;
  stopping_.store(true, std::memory_order_release);
  bell().ring();
  waker_.end();
  thread_.join();
  if (environment::finalized()) return;
  const bool clean = closed_ && !somebody_died_.load();
  {
    const std::lock_guard lock(mpi());
    inbox_.stop();
    transfers_.drop(transfers::everyone, [&](transfer&& undone, bool may_be_touched) {
      if (!may_be_touched) return;
      if (undone.batch) environment_.keep(std::shared_ptr<batch_out>(std::move(undone.batch)));
      if (undone.into) environment_.keep(std::move(undone.into));
      if (undone.keep) environment_.keep(std::move(undone.keep));
    });
    if (clean && comm_ != MPI_COMM_NULL) ::MPI_Comm_free(&comm_);
  }
  if (clean) environment_.leave();
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/message_link.hpp ----
#ifndef CADRE_MPI_DETAIL_MESSAGE_LINK_HPP
#define CADRE_MPI_DETAIL_MESSAGE_LINK_HPP

#endif

// ---- cadre/mpi/detail/watchdog.hpp ----
#ifndef CADRE_MPI_DETAIL_WATCHDOG_HPP
#define CADRE_MPI_DETAIL_WATCHDOG_HPP

#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Ends this process by SIGKILL unless it is destroyed in time: for calls of MPI that never return where another process has
/// died meanwhile. The others see a death, and go on or end as after any; that of rank 0 has mpirun end first, as nobody may
/// be left to do so, and mpirun to give 0.
class watchdog {
 public:
  /// `what` begins a sentence that ends with "takes too long". Throws thread_error (151).
  watchdog(std::string what, std::chrono::nanoseconds limit, bool of_rank_0)
      : what_(std::move(what)),
        of_rank_0_(of_rank_0),
        until_(std::chrono::steady_clock::now() + limit),
        thread_("cadre-watchdog", [this] {
          std::unique_lock lock(mutex_);
          if (end_.wait_until(lock, until_, [this] { return over_; })) return;
          // What this process may still do is uncertain: the log's sink is not for this.
          std::fprintf(stderr, "cadre: %s takes too long: process %d ends\n", what_.c_str(),
                       static_cast<int>(::getpid()));  // as a last word
          if (of_rank_0_ && ::kill(::getppid(), SIGTERM) == 0) ::sleep(2);
          ::kill(::getpid(), SIGKILL);
        }) {}
  watchdog(const watchdog&) = delete;
  watchdog& operator=(const watchdog&) = delete;
  ~watchdog() {
    const std::lock_guard lock(mutex_);
    over_ = true;
    end_.notify_one();
  }

 private:
  const std::string what_;
  const bool of_rank_0_;
  const std::chrono::steady_clock::time_point until_;
  std::mutex mutex_;
  std::condition_variable end_;
  bool over_ = false;
  native_thread thread_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/place_taken.hpp ----
#ifndef CADRE_MPI_DETAIL_PLACE_TAKEN_HPP
#define CADRE_MPI_DETAIL_PLACE_TAKEN_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// In the environment of a process that rank 0 has started in place of one that has died: the name under which it can be
/// found.
inline constexpr const char* takes_place = "CADRE_TAKES_PLACE";

/// That name, once: what this process starts is not in that place. Empty, if it is not there for that.
inline std::string take_place_name() {
  const char* const name = std::getenv(takes_place);
  std::string mine = name == nullptr ? "" : name;
  ::unsetenv(takes_place);
  return mine;
}

/// Of what is said before there is a link, none of whose tags may be on its way yet.
inline constexpr int handshake_tag = 1;
using port_name = std::array<char, MPI_MAX_PORT_NAME>;

/// What such a process is told.
struct place_to_take {
  struct other {
    int member = 0, rank = 0;
    bool is_near = false;
    process_card card;
    template <class Archive>
    void serialize(Archive& archive) {
      archive(member, rank, is_near, card.process, card.host);
    }
  };
  int member = 0, rank = 0, members = 0, most_members = 0;
  std::uint32_t job_number = 0;
  std::int64_t silence = 0;  // ns
  std::string store;
  std::vector<cadre::detail::peer_facts> by_rank;
  std::vector<other> others;  // that live; the first is rank 0
  template <class Archive>
  void serialize(Archive& archive) {
    archive(member, rank, members, most_members, job_number, silence, store, by_rank, others);
  }
};

/// The side of the process that takes the place: waits for the others, each of which connects to a port of its own, as Open
/// MPI 4.1.4 hangs where two use one at the same time.
class place_taken {
 public:
  /// `name`: see take_place_name(). Throws mpi_error (1101).
  explicit place_taken(const std::string& name) {
    const watchdog limit("taking the place of a rank that has died", std::chrono::seconds(20), false);
    const std::lock_guard lock(environment::get().mutex());  // which nobody else wants yet
    const MPI_Comm rank_0 = accept([&](port_name& port) {
      check(::MPI_Publish_name(name.c_str(), MPI_INFO_NULL, port.data()), "MPI_Publish_name");
    });
    const introduction me = introduction::of_process();
    check(::MPI_Send(&me, sizeof me, MPI_BYTE, 0, handshake_tag, rank_0), "MPI_Send");
    std::uint64_t size = 0;
    check(::MPI_Recv(&size, sizeof size, MPI_BYTE, 0, handshake_tag, rank_0, MPI_STATUS_IGNORE), "MPI_Recv");
    std::vector<std::byte> told(size);
    check(::MPI_Recv(told.data(), static_cast<int>(size), MPI_BYTE, 0, handshake_tag, rank_0, MPI_STATUS_IGNORE),
          "MPI_Recv");
    place_ = from_bytes<place_to_take>(told);
    for (const place_to_take::other& o : place_.others) {
      const MPI_Comm comm = o.member == 0 ? rank_0 : accept([&](port_name& port) {
        check(::MPI_Send(port.data(), static_cast<int>(port.size()), MPI_CHAR, 0, handshake_tag, rank_0), "MPI_Send");
      });
      others_.push_back({.member = o.member, .rank = o.rank, .comm = comm, .is_near = o.is_near, .card = o.card});
    }
  }

  [[nodiscard]] const place_to_take& place() const noexcept { return place_; }
  [[nodiscard]] const std::vector<acquaintance>& others() const noexcept { return others_; }
  [[nodiscard]] const cadre::detail::peer_facts& facts() const {
    return place_.by_rank[static_cast<std::size_t>(place_.rank)];
  }
  [[nodiscard]] std::unique_ptr<message_link> link() const {
    process_card card{.process = static_cast<std::int32_t>(::getpid())};
    host_name().copy(card.host, sizeof card.host - 1);
    const int size = static_cast<int>(place_.by_rank.size());
    environment::get().take_place(!others_.at(0).is_near);
    return std::make_unique<message_link>(
        acquaintance{.member = place_.member, .rank = place_.rank, .is_near = true, .card = card}, others_, size,
        place_.members,
        link_options{.silence = std::chrono::nanoseconds(place_.silence), .most_later = place_.most_members - size});
  }

 private:
  template <class Tell>
  static MPI_Comm accept(Tell&& tell) {
    port_name port{};
    MPI_Comm comm = MPI_COMM_NULL;
    check(::MPI_Open_port(MPI_INFO_NULL, port.data()), "MPI_Open_port");
    tell(port);
    check(::MPI_Comm_accept(port.data(), MPI_INFO_NULL, 0, MPI_COMM_SELF, &comm), "MPI_Comm_accept");
    check(::MPI_Close_port(port.data()), "MPI_Close_port");
    return comm;
  }

  place_to_take place_;
  std::vector<acquaintance> others_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/arriving_letters.hpp ----
#ifndef CADRE_ACTOR_DETAIL_ARRIVING_LETTERS_HPP
#define CADRE_ACTOR_DETAIL_ARRIVING_LETTERS_HPP

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Puts the calls of an actor together that come in one batch, so that its mailbox is opened once for all of them, also where
/// a caller has several actors and calls one after another. By whoever receives, one thread at a time.
class arriving_letters {
 public:
  arriving_letters(actor_table& actors, receives_letters& to, pool_id home) noexcept
      : actors_(actors), to_(to), home_(home) {}

  /// Whether the message begins like the last letter to its actor, but for its number, and is with it now; else take() has
  /// to look.
  [[nodiscard]] bool take_alike(int from, const incoming& message) noexcept {
    constexpr std::size_t head = message_head::bytes;
    const std::span<const std::byte> all = message.bytes();
    if (all.size() < head || all.size() - head > packed_letters::largest || !message.block_sizes().empty())
      return false;
    const std::span<const std::byte, head> begins = all.first<head>();
    pile& p = pile_of(message_head::cell_of(begins));
    return p.some && p.some->from() == from && message_head::alike(begins, p.last) &&
           p.some->add(*p.opened_by, message_head::number_of(begins), all.subspan(head));
  }
  /// False for what is not to be a letter, before which those that came go into the mailboxes.
  bool take(int from, const message_head& h, std::span<const std::byte> arguments, bool is_plain) {
    if (is_plain && add(from, h, arguments)) return true;
    deliver();
    return false;
  }
  /// What was taken goes into the mailboxes. Before anything else is served.
  void deliver() noexcept {
    while (begun_ != 0) deliver(piles_[static_cast<std::size_t>(std::countr_zero(begun_))]);
  }

 private:
  /// The letters of one actor that have come, of several that share it by turns.
  struct pile {
    task_ref<letters> some;
    actor_address whose;
    std::array<std::byte, message_head::bytes> last{};  // the head of the one that was added last
    const handler* opened_by = nullptr;                 // that one
  };
  [[nodiscard]] pile& pile_of(std::uint32_t cell) noexcept { return piles_[cell % piles_.size()]; }
  [[nodiscard]] std::uint64_t bit_of(const pile& p) const noexcept { return std::uint64_t{1} << (&p - piles_.data()); }

  bool add(int from, const message_head& h, std::span<const std::byte> arguments) {
    if (h.what != message_kind::ask || h.handler >= handlers_.size() || !h.counts ||
        arguments.size() > packed_letters::largest)
      return false;
    const handler* const opened_by = handlers_[h.handler];
    if (opened_by->open() == nullptr) return false;
    pile& p = pile_of(h.cell);
    const actor_address whose{h.cell, h.generation};
    h.write(p.last.data());
    p.opened_by = opened_by;
    if (p.some && p.whose == whose && p.some->from() == from && p.some->add(*opened_by, h.number, arguments))
      return true;
    deliver(p);
    if (!actors_.has(h.cell) || !actors_[h.cell].takes_letters(h.generation)) return false;
    p.whose = whose;
    p.some = task_ref<letters>(new letters(actors_[h.cell], to_, home_, from));
    begun_ |= bit_of(p);
    return p.some->add(*opened_by, h.number, arguments);
  }
  void deliver(pile& p) noexcept {
    if (!p.some) return;
    begun_ &= ~bit_of(p);
    const task_ref<letters> all = std::exchange(p.some, {});
    const std::uint32_t n = all->count();
    all->retain();  // that of the mailbox
    bool taken = false;
    try {
      taken = actors_[p.whose.cell].push(p.whose.generation, *all, false);
      if (!taken) all->fail_for_ever();
    } catch (...) {  // no memory for a turn
      all->fail(std::current_exception());
    }
    if (!taken) all->release();
    to_.letters_came(n);
  }

  actor_table& actors_;
  receives_letters& to_;
  pool_id home_;
  const std::vector<const handler*>& handlers_ = handler::all();
  std::array<pile, 64> piles_;
  std::uint64_t begun_ = 0;  // a bit for each that has some
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/circle_looks.hpp ----
#ifndef CADRE_ACTOR_DETAIL_CIRCLE_LOOKS_HPP
#define CADRE_ACTOR_DETAIL_CIRCLE_LOOKS_HPP

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// When a rank looks for circles of waits, and which questions have come by: see circle_request.
class circle_looks {
 public:
  struct question {
    int asker;
    std::uint64_t first;
    std::uint32_t round;
    int from;
    std::uint64_t number;
    friend auto operator<=>(const question&, const question&) = default;
  };

  /// By one thread; true four times a second.
  [[nodiscard]] bool is_time() noexcept {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return false;
    next_ = now + std::chrono::milliseconds(250);
    ++round_;
    return true;
  }
  [[nodiscard]] std::uint32_t round() const noexcept { return round_; }

  /// False if it has been here, by the same way or another. Thread-safe.
  [[nodiscard]] bool is_new(const question& q) {
    constexpr std::size_t enough = 10'000;
    const std::lock_guard lock(mutex_);
    if (seen_.size() > enough) seen_.clear();
    return seen_.insert(q).second;
  }

 private:
  std::chrono::steady_clock::time_point next_{};
  std::uint32_t round_ = 0;
  std::mutex mutex_;
  std::set<question> seen_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/errands.hpp ----
#ifndef CADRE_ACTOR_DETAIL_ERRANDS_HPP
#define CADRE_ACTOR_DETAIL_ERRANDS_HPP

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What has to wait for other ranks and must not hold up who asks for it: done one after another, by a thread that is made
/// for the first of them. Thread-safety: all functions, from any thread.
class errands {
 public:
  using errand = move_only_function<void()>;

  errands() = default;
  errands(const errands&) = delete;
  errands& operator=(const errands&) = delete;
  /// When all are done.
  ~errands() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    more_.notify_one();
    thread_.join();
  }

  /// It throws nothing. Throws thread_error (151).
  void add(errand e) {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(begun_, true)) thread_ = native_thread("cadre errands", [this] { run(); });
    waiting_.push_back(std::move(e));
    more_.notify_one();
  }
  [[nodiscard]] bool idle() const noexcept {
    const std::lock_guard lock(mutex_);
    return waiting_.empty();
  }

 private:
  void run() noexcept {
    std::unique_lock lock(mutex_);
    for (;;) {
      more_.wait(lock, [this] { return ends_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      errand& first = waiting_.front();  // it stays where it is when others are added, not so the deque's own pointers
      lock.unlock();
      first();
      lock.lock();
      waiting_.pop_front();
    }
  }

  mutable std::mutex mutex_;
  std::condition_variable more_;
  std::deque<errand> waiting_;  // the first is being done
  bool ends_ = false, begun_ = false;
  native_thread thread_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/far_objects.hpp ----
#ifndef CADRE_ACTOR_DETAIL_FAR_OBJECTS_HPP
#define CADRE_ACTOR_DETAIL_FAR_OBJECTS_HPP

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <source_location>
#include <unordered_map>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Gives loans back to ranks of other nodes.
class gives_back {
 public:
  virtual void give_back(int lender, std::uint64_t key, std::uint32_t times) noexcept = 0;

 protected:
  ~gives_back() = default;
};

/// The objects of other nodes that this process has refs to, and those that it has lent to ranks of others. A ref that comes
/// from another node becomes an entry of this node's store, without memory, whose bytes are fetched when somebody wants
/// them; the lender holds the object until they have come, or until nobody here refers to it any more. A loan that is lent on
/// is held by all on the way, so that the bytes can come from where they are. Thread-safety: all functions, from any thread.
class far_objects final : public loans {
 public:
  far_objects(int rank, gives_back& ranks) noexcept : rank_(rank), ranks_(ranks) {}
  far_objects(const far_objects&) = delete;
  far_objects& operator=(const far_objects&) = delete;
  ~far_objects() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    more_.notify_one();
    looks_.join();
  }

  // ---- Lent

  object_loan lend(int to, store_core& core, std::uint32_t i) override {
    const std::uint64_t key = far_entries(core).key(i);
    const std::uint64_t bytes = core.is_pending(i) ? 0 : std::uint64_t{core.entry(i).bytes};
    object_loan l{key, {core.id(), i, core.word(i).generation(), bytes, core.table().details(i).type}, rank_};
    const std::lock_guard lock(mutex_);
    if (const auto b = borrowed_.find(key); b != borrowed_.end() && b->second.rank >= 0) {
      l.origin = b->second.origin;
      l.rank = b->second.rank;
    }
    lent& one = lent_[{to, key}];
    if (one.times++ == 0) {
      core.add_ref(i);
      one.object = held_object(core, i);
    }
    return l;
  }
  /// It has given it back, or it was not sent.
  void take_back(int from, std::uint64_t key, std::uint32_t times) noexcept {
    held_object last;  // ends without the lock
    const std::lock_guard lock(mutex_);
    const auto found = lent_.find({from, key});
    if (found == lent_.end()) return;
    found->second.times -= times < found->second.times ? times : found->second.times;
    if (found->second.times != 0) return;
    last = std::move(found->second.object);
    lent_.erase(found);
  }

  // ---- Borrowed

  /// The entry of this node for what was lent, with a ref for the caller. Throws object_gone (301), wrong_object_type (303),
  /// and as put().
  std::uint32_t borrow(int from, const object_loan& l, store_core& core, const stored_label& label) {
    far_entries entries(core);
    if (l.origin.store == core.id()) {  // it comes home
      held_object it = entries.hold(far_entries::key(l.origin.index, l.origin.generation));
      ranks_.give_back(from, l.key, 1);
      if (!it) throw object_gone("an object has gone while a ref to it came back from rank " + std::to_string(from));
      return it.release();
    }
    if (l.origin.type != label.key) {
      ranks_.give_back(from, l.key, 1);
      throw wrong_object_type(label.text, core.type_text(l.origin.type));
    }
    const far_entries::entered there = entries.enter(l.origin, label, 0, false, {});
    if (there.memory != nullptr) core.add_ref(there.index);  // beside that of the writer
    held_object ref(core, there.index);
    if (!add(from, l, core, there.index, there.memory != nullptr)) ranks_.give_back(from, l.key, 1);
    return ref.release();
  }
  void expect(std::uint64_t key) override {
    const std::lock_guard lock(mutex_);
    borrowed_[key].comes = false;
  }
  void expect_no_more(std::uint64_t key) noexcept override {
    const std::lock_guard lock(mutex_);
    borrowed_.erase(key);
  }
  [[nodiscard]] bool assign(int from, const object_loan& l, store_core& core, std::uint32_t i) override {
    const std::uint64_t key = far_entries(core).key(i);
    const std::lock_guard lock(mutex_);
    borrowed& b = borrowed_[key];
    const bool wanted = std::exchange(b.comes, false);
    b.origin = l.origin;
    b.rank = static_cast<int>(l.rank);
    b.core = &core;
    ++b.lenders[{from, l.key}];
    begin_to_look();
    return wanted;
  }

  /// Where to fetch an object from, once, by who is to do it. The lender may have a copy by now, and have given back its own
  /// loan: then the object may have gone where it was.
  struct source {
    int rank = 0;
    std::uint64_t key = 0;
    friend bool operator==(const source&, const source&) = default;
  };
  struct sources {
    source origin, lender;
  };
  [[nodiscard]] std::optional<sources> begin_fetch(std::uint64_t key) noexcept {
    const std::lock_guard lock(mutex_);
    const auto b = borrowed_.find(key);
    if (b == borrowed_.end() || std::exchange(b->second.comes, true) || b->second.rank < 0) return std::nullopt;
    const auto& [lender, times] = *b->second.lenders.begin();
    return sources{{b->second.rank, far_entries::key(b->second.origin.index, b->second.origin.generation)},
                   {lender.first, lender.second}};
  }
  /// It is here, or will not come. The writer's part is the caller's.
  void end_fetch(std::uint64_t key) noexcept {
    std::unordered_map<std::uint64_t, borrowed>::node_type last;
    {
      const std::lock_guard lock(mutex_);
      last = borrowed_.extract(key);
    }
    if (last) give_back(last.mapped());
  }

  /// Of a rank that has died: nothing is lent to it, and nothing that is there can come any more. Returns the keys of that;
  /// the writer's part is the caller's.
  std::vector<std::uint64_t> lose(int rank) {
    std::vector<held_object> last;  // ends without the lock
    std::vector<std::uint64_t> lost;
    std::vector<borrowed> given;
    {
      const std::lock_guard lock(mutex_);
      for (auto at = lent_.lower_bound({rank, 0}); at != lent_.end() && at->first.first == rank;) {
        last.push_back(std::move(at->second.object));
        at = lent_.erase(at);
      }
      for (auto at = borrowed_.begin(); at != borrowed_.end();) {
        if (at->second.rank != rank || at->second.comes) {
          ++at;
          continue;
        }
        lost.push_back(at->first);
        given.push_back(std::move(at->second));
        at = borrowed_.erase(at);
      }
    }
    for (const borrowed& b : given) give_back(b);
    return lost;
  }
  [[nodiscard]] std::optional<whereabouts> find(std::uint64_t key) const noexcept override {
    const std::lock_guard lock(mutex_);
    const auto b = borrowed_.find(key);
    return b == borrowed_.end() || b->second.rank < 0
               ? std::nullopt
               : std::optional(whereabouts{b->second.rank, b->second.origin.bytes});
  }

 private:
  struct lent {
    held_object object;
    std::uint32_t times = 0;
  };
  struct borrowed {
    object_origin origin;
    int rank = -1;  // not known yet
    store_core* core = nullptr;
    std::map<std::pair<int, std::uint64_t>, std::uint32_t> lenders;  // by rank and key: how often
    bool comes = false;                                              // or is to, once it is known from where
  };
  static constexpr auto between_looks = std::chrono::milliseconds(20);

  // False if nothing is to be kept: the bytes are on this node, or another process sees to it that they come.
  bool add(int from, const object_loan& l, store_core& core, std::uint32_t i, bool is_writer) {
    const std::uint64_t key = far_entries(core).key(i);
    const std::lock_guard lock(mutex_);
    auto b = borrowed_.find(key);
    if (b == borrowed_.end() && !is_writer) return false;
    if (b == borrowed_.end()) {
      b = borrowed_.try_emplace(key, borrowed{l.origin, static_cast<int>(l.rank), &core, {}}).first;
      begin_to_look();
    }
    ++b->second.lenders[{from, l.key}];
    return true;
  }
  void begin_to_look() {
    if (!std::exchange(begun_, true)) looks_ = native_thread("cadre objects", [this] { look(); });
    more_.notify_one();
  }
  void give_back(const borrowed& b) noexcept {
    for (const auto& [lender, times] : b.lenders) ranks_.give_back(lender.first, lender.second, times);
  }
  // Nobody tells when the last ref to an entry goes, in whichever process that is.
  void look() noexcept {
    std::unique_lock lock(mutex_);
    for (;;) {
      more_.wait(lock, [this] { return ends_ || !borrowed_.empty(); });
      if (more_.wait_for(lock, between_looks, [this] { return ends_; })) return;
      std::vector<borrowed> unwanted;
      for (auto at = borrowed_.begin(); at != borrowed_.end();) {
        const borrowed& b = at->second;
        const bool gone = b.rank >= 0 && !b.comes && give_up(*b.core, far_entries::index(at->first));
        if (gone) unwanted.push_back(std::move(at->second));
        at = gone ? borrowed_.erase(at) : std::next(at);
      }
      lock.unlock();
      for (const borrowed& b : unwanted) give_back(b);
      lock.lock();
    }
  }
  static bool give_up(store_core& core, std::uint32_t i) noexcept {
    try {
      return far_entries(core).give_up_if_unwanted(i);
    } catch (const error&) {  // the store is stalled: later
      return false;
    }
  }

  const int rank_;
  gives_back& ranks_;
  mutable std::mutex mutex_;
  std::condition_variable more_;
  std::map<std::pair<int, std::uint64_t>, lent> lent_;  // by whom to, and key
  std::unordered_map<std::uint64_t, borrowed> borrowed_;
  bool ends_ = false, begun_ = false;
  native_thread looks_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/kept_actors.hpp ----
#ifndef CADRE_ACTOR_DETAIL_KEPT_ACTORS_HPP
#define CADRE_ACTOR_DETAIL_KEPT_ACTORS_HPP

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Where an actor is by now; why not, if it has died.
struct whereabouts {
  actor_place now;
  std::string why_dead;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(now, why_dead);
  }
};

/// The actors of a job that are made anew when their rank is lost, on rank 0. Thread-safety: all functions, from any thread.
class kept_actors {
 public:
  using waiter = move_only_function<void(const whereabouts&)>;

  /// One that has been made there.
  void add(const actor_place& first, kept_actor how) {
    const std::lock_guard lock(mutex_);
    all_[first] = entry{std::move(how), first};
  }
  void keep_state(const actor_place& first, revival::saved_state state) {
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(first);
    if (found != all_.end() && state.version > found->second.how.how.state.version)
      found->second.how.how.state = std::move(state);
  }
  /// It has ended, as its own rank says.
  void drop(const actor_place& first) {
    settle(first, {{}, "it has ended"});
    const std::lock_guard lock(mutex_);
    all_.erase(first);
  }
  /// It was lost, and is not made anew. Returns its name.
  std::string give_up(const actor_place& first, const std::string& why) {
    settle(first, {{}, why});
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(first);
    return found == all_.end() ? std::string() : std::exchange(found->second.how, {}).how.name;
  }

  /// Calls `tell` when it is known where it is, if not at that rank.
  void ask(const actor_place& first, int not_at, waiter tell) {
    whereabouts answer;
    {
      const std::lock_guard lock(mutex_);
      const auto found = all_.find(first);
      if (found == all_.end()) {
        answer.why_dead = "it has ended";
      } else if (!found->second.why_dead.empty()) {
        answer.why_dead = found->second.why_dead;
      } else if (found->second.is_lost || found->second.now.rank == not_at) {
        found->second.waiters.push_back(std::move(tell));
        return;
      } else {
        answer.now = found->second.now;
      }
    }
    tell(answer);
  }
  /// A rank has died: those that were there.
  [[nodiscard]] std::vector<actor_place> lose(int rank) {
    const std::lock_guard lock(mutex_);
    std::vector<actor_place> lost;
    for (auto& [first, e] : all_)
      if (e.now.rank == rank && !e.is_lost && e.why_dead.empty()) {
        e.is_lost = true;
        lost.push_back(first);
      }
    return lost;
  }
  /// How to make it once more; nothing, if it has been made as often as it may be, or has ended.
  [[nodiscard]] std::optional<kept_actor> again(const actor_place& first) {
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(first);
    if (found == all_.end()) return std::nullopt;
    sent_actor& how = found->second.how.how;
    if (how.most.restarts >= 0 && how.restarts >= how.most.restarts) return std::nullopt;
    ++how.restarts;
    return found->second.how;
  }
  void made(const actor_place& first, const actor_place& now) { settle(first, {now, {}}); }

 private:
  struct entry {
    kept_actor how;
    actor_place now;
    bool is_lost = false;
    std::string why_dead = {};  // those stay, for who asks later
    std::vector<waiter> waiters = {};
  };
  void settle(const actor_place& first, const whereabouts& w) {
    std::vector<waiter> waiters;
    {
      const std::lock_guard lock(mutex_);
      const auto found = all_.find(first);
      if (found == all_.end()) return;
      waiters.swap(found->second.waiters);
      found->second.now = w.now;
      found->second.is_lost = false;
      found->second.why_dead = w.why_dead;
    }
    for (waiter& tell : waiters) tell(w);
  }

  std::mutex mutex_;
  std::map<actor_place, entry> all_;  // by where each was first
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/message_refs.hpp ----
#ifndef CADRE_ACTOR_DETAIL_MESSAGE_REFS_HPP
#define CADRE_ACTOR_DETAIL_MESSAGE_REFS_HPP

#include <cstdint>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Writes refs into a message for a rank of this node: see ref_sender.
class near_writer final : public sent_refs {
 public:
  explicit near_writer(const object_store& store) : mail_(store) {}
  void sent() noexcept override { mail_.sent(); }

 private:
  void write(output_archive& to, store_core* core, std::uint32_t index) override {
    static_cast<ref_writer&>(mail_).write(to, core, index);
  }

  ref_sender mail_;
};

/// Writes refs into a message for a rank of another node, which it lends the objects.
class far_writer final : public sent_refs {
 public:
  far_writer(far_objects& far, const object_store& store, int to) : far_(far), store_(store), to_(to) {}
  /// A message that was not sent takes them back.
  ~far_writer() override {
    for (const std::uint64_t key : lent_) far_.take_back(to_, key, 1);
  }
  void sent() noexcept override { lent_.clear(); }

 private:
  void write(output_archive& to, store_core* core, std::uint32_t index) override {
    object_loan l;
    if (core != nullptr) {
      if (core != &object_ref_access::core(store_)) throw bad_store_option("a ref of another store is used");
      lent_.reserve(lent_.size() + 1);
      l = far_.lend(to_, *core, index);
      lent_.push_back(l.key);
    }
    to(l);
  }

  far_objects& far_;
  const object_store& store_;
  int to_;
  std::vector<std::uint64_t> lent_;
};

/// Reads refs from a message of a rank of another node.
class far_reader final : public ref_reader {
 public:
  far_reader(far_objects& far, const object_store& store, int from) : far_(far), store_(store), from_(from) {}

 private:
  found read(input_archive& from, const stored_label& label) override {
    object_loan l;
    from(l);
    if (l.rank < 0) return {};
    store_core& core = object_ref_access::core(store_);
    return {&core, far_.borrow(from_, l, core, label)};
  }

  far_objects& far_;
  const object_store& store_;
  int from_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/moved_actors.hpp ----
#ifndef CADRE_ACTOR_DETAIL_MOVED_ACTORS_HPP
#define CADRE_ACTOR_DETAIL_MOVED_ACTORS_HPP

#include <cstddef>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What this rank knows of the others, for moved_actors.
class knows_ranks {
 public:
  /// It has died, and all that was asked of it has been told so. With `for_sure`, after waiting for that to be over.
  [[nodiscard]] virtual bool is_gone(int rank, bool for_sure) noexcept = 0;
  /// Where an actor is, if not at that rank; waits for it to be made anew. Throws actor_died (601).
  [[nodiscard]] virtual actor_place ask_where(const actor_place& first, int not_at) = 0;

 protected:
  ~knows_ranks() = default;
};

/// Where the actors are by now whose rank was lost, as far as this rank has asked. Calls of one that is not known to be
/// anywhere wait, and go in their order. Thread-safety: all functions, from any thread.
class moved_actors {
 public:
  explicit moved_actors(knows_ranks& ranks) noexcept : ranks_(ranks) {}

  /// Where an actor is, if that is known and no call waits to go there; else find() is to be called.
  [[nodiscard]] std::optional<actor_place> known(const actor_place& first) noexcept {
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(first);
    const actor_place& now = found != all_.end() ? found->second.now : first;
    if (ranks_.is_gone(now.rank, false) || (found != all_.end() && found->second.waiting != 0)) return std::nullopt;
    return now;
  }
  /// Calls `go(place)` on another thread, or, if the actor has died, `fail(why)`. Neither throws. Throws thread_error (151).
  void find(const actor_place& first, move_only_function<void(const actor_place&)> go,
            move_only_function<void(std::exception_ptr)> fail) {
    const std::lock_guard lock(mutex_);
    entry& e = all_.try_emplace(first, entry{first, 0}).first->second;
    errands_.add([this, first, &e, go = std::move(go), fail = std::move(fail)]() mutable {
      try {
        look_for(first, e);
        go(e.now);
      } catch (...) {
        fail(std::current_exception());
      }
      const std::lock_guard end(mutex_);
      --e.waiting;
    });
    ++e.waiting;
  }
  [[nodiscard]] bool idle() const noexcept { return errands_.idle(); }

 private:
  struct entry {
    actor_place now;  // changed by the errands alone
    std::size_t waiting = 0;
  };

  void look_for(const actor_place& first, entry& e) {
    while (ranks_.is_gone(e.now.rank, true)) {
      const actor_place there = ranks_.ask_where(first, e.now.rank);
      const std::lock_guard lock(mutex_);
      e.now = there;
    }
  }

  knows_ranks& ranks_;
  std::mutex mutex_;
  std::map<actor_place, entry> all_;  // by where each was first
  errands errands_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/names.hpp ----
#ifndef CADRE_ACTOR_DETAIL_NAMES_HPP
#define CADRE_ACTOR_DETAIL_NAMES_HPP

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The names of a job's actors, on rank 0. Who makes an actor has the name reserved first. Thread-safety: all functions, from
/// any thread.
class job_names {
 public:
  name_answer reserve(const std::string& name, const std::string& type, int by) {
    const std::lock_guard lock(mutex_);
    const auto [at, is_new] = all_.try_emplace(name, entry{type, by, {}, false});
    return is_new ? name_answer{name_answer::kind::yours, {}, {}, {}} : answer(at->second);
  }
  void bind(const std::string& name, actor_place where) {
    const std::lock_guard lock(mutex_);
    if (const auto found = all_.find(name); found != all_.end()) {
      found->second.where = where;
      found->second.is_bound = true;
    }
  }
  name_answer find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    if (const auto found = all_.find(name); found != all_.end()) return answer(found->second);
    return {name_answer::kind::none, {}, {}, list_of_names(all_)};
  }
  /// The actor has ended, or was not made.
  void drop(const std::string& name, actor_place where) {
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(name);
    if (found == all_.end()) return;
    const entry& e = found->second;
    if (!e.is_bound || e.where == where) all_.erase(found);
  }
  /// A rank has died. Actors that are made anew keep their names.
  void drop_all_of(int rank) {
    const std::lock_guard lock(mutex_);
    std::erase_if(all_, [rank](const auto& e) {
      return e.second.is_bound ? e.second.where.rank == rank && !e.second.where.may_move() : e.second.by == rank;
    });
  }

 private:
  struct entry {
    std::string type;
    int by;
    actor_place where;
    bool is_bound;
  };
  static name_answer answer(const entry& e) {
    return {e.is_bound ? name_answer::kind::taken : name_answer::kind::being_made, e.where, e.type, {}};
  }

  mutable std::mutex mutex_;
  std::map<std::string, entry> all_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/serving_job.hpp ----
#ifndef CADRE_ACTOR_DETAIL_SERVING_JOB_HPP
#define CADRE_ACTOR_DETAIL_SERVING_JOB_HPP

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

class serving_job;

// What it asks rank 0, and does on rank 0, beside the requests for that: see group_requests.hpp, name_request.hpp,
// restarts.hpp and make_actor.hpp.
int find_place(serving_job& j, placement& on, const resource_set& wanted, bool rank_0_last, int near);
std::optional<shared_future<std::vector<int>>> place_to_come(serving_job& j, const placement& on,
                                                             const resource_set& wanted);
std::uint64_t make_group(serving_job& j, placement_group_options o);
void remove_group(serving_job& j, std::uint64_t group);
future<std::vector<int>> when_placed(serving_job& j, std::uint64_t group, const std::vector<int>& dead);
void tell_given_back(serving_job& j, int placed_by, const placement& on, const resource_set& what) noexcept;
name_answer ask_about_name(serving_job& j, name_question q, const std::string& name, const std::string& type,
                           actor_place where);
name_answer make_actor(serving_job& j, const actor_options& o, const std::string& name, const makes_actor& maker);
void keep_state(serving_job& j, const actor_place& first, const revival::saved_state& state);

/// This rank's part of a job of several, whole: hears the other ranks, and keeps what they ask it for. Thread-safety: all
/// functions, from any thread, but for serve() and finish().
class serving_job final : public job,
                          public message_sink,
                          public fetches_objects,
                          private knows_ranks,
                          private gives_back,
                          private source_of_work {
 public:
  serving_job(runtime_core& core, std::unique_ptr<link> way, std::vector<peer_facts> all)
      : job(core, std::move(way), std::move(all)),
        letters_(core_.actors(), *this, core_.home()),
        far_(rank(), *this),
        moved_(*this) {}
  /// Messages are received from now on. Once, when all else is there.
  void start() {
    way_->start(*this);
    scheduler_of(core_.pool()).look_also_at(*this);
  }
  ~serving_job() = default;

  /// On rank 0.
  [[nodiscard]] job_names& names() noexcept { return names_; }
  [[nodiscard]] kept_actors& kept() noexcept { return kept_; }

  [[nodiscard]] circle_looks& circles() noexcept { return circles_; }
  /// The object of that key comes from another node, or would if somebody wanted it: whoever waits for this may get it.
  std::optional<shared_future<void>> want(std::uint64_t key) override { return begin_fetch(key); }
  /// On rank 0: makes those anew that were there, on another thread.
  void revive_all_of(int r, std::string_view how) {
    for (const actor_place& first : kept_.lose(r))
      revivals_.add([this, first, why = std::string(how)] { revive(first, why); });
  }
  /// What may have to wait for other ranks: on another thread.
  void later(errands::errand f) { errands_.add(std::move(f)); }

  // ---- Where

  /// Throws impossible_request (209).
  int choose(const placement& on, const resource_set& wanted, bool rank_0_last = false, int near = places::none) {
    const auto may = [&](int r) { return who_.is_at(on, r) && is_alive(who_.holder_of(r)); };
    int to = places::none;
    if (rank_0_last) to = ranks_->choose(wanted, on.what(), [&](int r) { return r != 0 && may(r); });
    if (on.what() != placement::kind::anywhere) near = places::none;
    if (to == places::none) to = ranks_->choose(wanted, on.what(), may, near);
    if (to == places::none && on.is_soft()) return choose({}, wanted, rank_0_last);
    if (to == places::none) throw impossible_request(who_.none_for(on, wanted));
    return who_.holder_of(to);
  }

  // ---- job

  [[nodiscard]] int find_place(placement& on, const resource_set& wanted, int near) override {
    return detail::find_place(*this, on, wanted, false, near);
  }
  [[nodiscard]] std::optional<shared_future<std::vector<int>>> place_to_come(const placement& on,
                                                                             const resource_set& wanted) override {
    return detail::place_to_come(*this, on, wanted);
  }
  void fail(int to, std::uint64_t number, const std::exception_ptr& why) noexcept override {
    if (number == 0) return tell_of(why);
    try {
      const sent_error e = send_error(why, where());
      send(
          to, {.number = number, .what = kind::failure}, false, [&](output_archive& a) { a(e.type, e.text, e.where); },
          urgency::urgent);
      way_->flush();
    } catch (const std::exception& e) {
      log(log_level::debug, "actor", [&] { return std::string("an answer was not sent: ") + e.what(); });
    }
  }
  name_answer ask_about_name(name_question q, const std::string& name, const std::string& type,
                             actor_place where) override {
    return detail::ask_about_name(*this, q, name, type, where);
  }
  [[nodiscard]] name_answer make_actor(const actor_options& o, const std::string& name,
                                       const makes_actor& maker) override {
    return detail::make_actor(*this, o, name, maker);
  }
  void keep_state(const actor_place& first, const revival::saved_state& state) override {
    detail::keep_state(*this, first, state);
  }
  void tell_given_back(int placed_by, const placement& on, const resource_set& what) noexcept override {
    detail::tell_given_back(*this, placed_by, on, what);
  }
  [[nodiscard]] std::uint64_t make_group(placement_group_options o) override {
    return detail::make_group(*this, std::move(o));
  }
  void remove_group(std::uint64_t group) override { detail::remove_group(*this, group); }
  [[nodiscard]] future<std::vector<int>> when_placed(std::uint64_t group, const std::vector<int>& dead) override {
    return detail::when_placed(*this, group, dead);
  }
  [[nodiscard]] std::optional<actor_place> known_place(const actor_place& first) noexcept override {
    return moved_.known(first);
  }
  void find_actor(const actor_place& first, move_only_function<void(const actor_place&)> go,
                  move_only_function<void(std::exception_ptr)> fail) override {
    moved_.find(first, std::move(go), std::move(fail));
  }
  [[nodiscard]] far_objects& far() noexcept override { return far_; }

  // ---- The life of the job

  /// Every rank but 0: until that says that the job is over. Throws worker_died (609) if it dies.
  void serve() {
    over_.wait(0, std::memory_order_acquire);  // the pool's threads make progress, and the link's own where they do not
    if (!is_alive(0)) throw worker_died("the program of the job", "rank 0 has died");
  }
  void close() { way_->close(std::chrono::steady_clock::now() + std::chrono::seconds(30)); }
  /// What a rank has sent and received, and whether anything goes on there.
  struct activity {
    std::uint64_t sent = 0, received = 0;
    bool idle = false;
    bool still = false;         // nothing but requests is open
    bool holds = false;         // actors hold resources
    std::uint64_t waiting = 0;  // for resources: tasks, actors, groups
    friend bool operator==(const activity&, const activity&) = default;
  };
  [[nodiscard]] activity look() {
    activity a;
    a.received = received_.load();  // before sent(): see finish()
    a.idle = requests_.open() == 0;
    a.still = moved_.idle() && revivals_.idle() && respawns_.idle() && errands_.idle() &&
              scheduler_of(core_.pool()).is_idle();
    a.idle = a.idle && a.still;
    a.waiting = core_.waiting_for_resources();
    a.holds = a.waiting != 0 && !core_.actors().all_of(nullptr).empty();
    a.sent = sent();
    return a;
  }
  /// By rank 0.
  void end_others() {
    for (int r = 0; r < way_->members(); ++r) {
      if (r == rank() || !is_alive(r)) continue;
      try {
        send(
            r, {.what = kind::shutdown, .counts = false}, false, [](output_archive&) {}, urgency::urgent);
      } catch (const error&) {  // it has died just now
      }
    }
    way_->flush();
  }

  // ---- message_sink

  void receive(int from, incoming& message) noexcept override {
    if (letters_.take_alike(from, message)) return;
    receive_any(from, message);
  }
  void batch_ends() noexcept override { letters_.deliver(); }
  // Virtual functions are defined in the class: a vtable that lies with one that is not is compiled in every unit.
  void tick() noexcept override { look_for_circles(); }
  void fault(int from, const error& what) noexcept override {
    log(log_level::error, "actor", [&] {
      return "rank " + std::to_string(rank_of(from)) + " of the job sends what no rank sends: " + what.what();
    });
  }
  void died(int rank, std::string_view how) noexcept override {
    const outside_of_tasks here;
    names_.drop_all_of(rank);
    std::vector<waits_for_answer*> lost;
    {
      const std::lock_guard lock(dying_);
      if (this->rank() == 0) revive_all_of(rank, how);
      const auto asked = requests_.take_all_of(rank);
      log(log_level::error, "actor", [&] { return obituary(rank_of(rank), how, asked); });
      for (waits_for_answer* const w : asked)
        if (!w->goes_elsewhere()) lost.push_back(w);
      who_.set_gone(rank);
    }
    for (waits_for_answer* const w : lost) w->lost(how);
    lose_objects_of(rank, how);
    if (when_lost) who_.set_to_return(rank_of(rank), true);
    core_.lose_bundles_on(rank);
    if (rank == 0) end();
    if (when_lost) respawns_.add([this, rank] { when_lost(rank); });
  }
  /// Called for each member that has died, on a thread for that. To be set before start().
  move_only_function<void(int member)> when_lost;
  /// On that thread too.
  void later_to_respawn(errands::errand f) { respawns_.add(std::move(f)); }

 private:
  [[nodiscard]] std::uint64_t patience() const noexcept override { return way_->patience(); }
  bool bring() noexcept override { return way_->poll(); }
  bool bring_last() noexcept override { return way_->poll_last(); }
  [[nodiscard]] bool is_gone(int r, bool for_sure) noexcept override {
    if (for_sure) const std::lock_guard lock(dying_);
    return who_.is_gone(r);
  }
  [[nodiscard]] actor_place ask_where(const actor_place& first, int not_at) override {
    return ask_where_it_is(first, not_at);
  }
  void revive(const actor_place& first, std::string how) noexcept;
  void lose_objects_of(int rank, std::string_view how) noexcept;

  void give_back(int lender, std::uint64_t key, std::uint32_t times) noexcept override { end_loan(lender, key, times); }
  std::optional<shared_future<void>> begin_fetch(std::uint64_t key);
  void look_for_circles() noexcept;
  actor_place ask_where_it_is(const actor_place& first, int not_at);
  void end_loan(int lender, std::uint64_t key, std::uint32_t times) noexcept;
  [[nodiscard]] std::unique_ptr<ref_reader> reader_of_refs(int from) {
    if (is_here(from)) return std::make_unique<ref_receiver>(core_.store());
    return std::make_unique<far_reader>(far_, core_.store(), from);
  }
  [[nodiscard]] std::unique_ptr<sent_refs> writer_of_refs(int to) {
    if (is_here(to)) return std::make_unique<near_writer>(core_.store());
    return std::make_unique<far_writer>(far_, core_.store(), to);
  }
  void send_archive(int to, head h, bool refs, archive_writer write, urgency how, enclosed with) override {
    byte_buffer bytes = std::move(spare_buffer());
    outgoing_parts parts(with.keep != nullptr && to != rank());
    h.with_refs = refs;
    if (refs) parts.write_refs_by(writer_of_refs(to));
    bytes.append(&h, head::bytes);
    output_archive archive(bytes, &parts);
    write.write(write.what, archive);
    std::vector<std::span<const std::byte>> blocks = parts.take_blocks();
    if (!with.block.empty()) blocks.push_back(with.block);
    if (to == rank()) {
      deliver_here(h, bytes.to_vector());
    } else {
      if (const auto all = bytes.in_one_piece(); !all.empty() && blocks.empty())
        way_->send(to, all, how);
      else
        way_->send(
            to,
            {.bytes = std::exchange(bytes, byte_buffer()), .blocks = std::move(blocks), .keep = std::move(with.keep)},
            how);
      set_apart(h);
    }
    parts.sent();
    bytes.clear();
    spare_buffer() = std::move(bytes);
  }
  // For the next message of this thread. Not inlined into coroutines, which may go on on another one.
  [[gnu::noinline]] static byte_buffer& spare_buffer() noexcept {
    static thread_local byte_buffer spare;
    return spare;
  }
  [[gnu::noinline]] void receive_any(int from, incoming& message) noexcept {
    const outside_of_tasks here;  // which task of this rank happens to poll is not the sender's matter
    head h;
    waits_for_answer* asker = nullptr;
    try {
      h = head::read(message.bytes());
      const auto content = message.bytes().subspan(head::bytes);
      const bool is_plain = !h.with_refs && message.block_sizes().empty();
      if (from != rank() && letters_.take(from, h, content, is_plain)) return;
      if (is_plain && is_flat_answer(h, content, asker)) {
        if (h.counts) received_.fetch_add(1);
        return;
      }
      incoming_parts parts(message);
      if (h.with_refs) parts.read_refs_by(reader_of_refs(from));
      input_archive in(message.bytes().subspan(head::bytes), &parts);
      take(from, h, in, message, asker);
    } catch (...) {
      asker != nullptr ? asker->fail(std::current_exception()) : refuse(from, h, std::current_exception());
    }
    if (h.counts) received_.fetch_add(1);  // behind what it made
  }
  void take_here(std::span<const std::byte> all) override {
    incoming message(all, {});
    receive(rank(), message);
  }
  void take(int from, const head& h, input_archive& in, incoming& message, waits_for_answer*& asker) {
    switch (h.what) {
      case kind::ask: {
        if (h.handler >= handler::all().size())
          throw archive_corrupt("a request of number " + std::to_string(h.handler), 0);
        request r{*this, from, h.number, h.cell, h.generation, in};
        handler::all()[h.handler]->run()(r);
        break;
      }
      case kind::answer:
        if (asker == nullptr) asker = requests_.take(h.number);
        if (asker != nullptr) std::exchange(asker, nullptr)->arrive(in, message);
        break;
      case kind::failure: {
        sent_error e;
        in(e.type, e.text, e.where);
        in.expect_end();
        if (waits_for_answer* const w = requests_.take(h.number)) w->fail(receive_error(e));
        break;
      }
      case kind::cancel:
        if (!served_.cancel(from, h.number) && cancelled_.cancel(from, h.number))
          fail(from, h.number, std::make_exception_ptr(task_cancelled("a call from another rank")));
        break;
      case kind::shutdown:
        if (from != 0) throw archive_corrupt("the end of the job, which rank 0 alone can say,", 0);
        end();
        break;
      default: throw archive_corrupt("a message of kind " + std::to_string(static_cast<int>(h.what)), 0);
    }
  }
  // Who waits for it is still to be told if that is not so.
  bool is_flat_answer(const head& h, std::span<const std::byte> content, waits_for_answer*& asker) noexcept {
    if (h.what != kind::answer) return false;
    asker = requests_.take(h.number);
    if (asker == nullptr) return true;
    if (!asker->arrive_flat(content)) return false;
    asker = nullptr;
    return true;
  }
  // What cannot be read is an error where the answer is waited for.
  void refuse(int from, const head& h, const std::exception_ptr& why) noexcept {
    const bool answers = h.what == kind::answer || h.what == kind::failure;
    if (h.what == kind::ask && h.number != 0)
      fail(from, h.number, why);
    else if (waits_for_answer* const w = answers ? requests_.take(h.number) : nullptr)
      w->fail(why);
    else
      tell_of(why);
  }
  void end() noexcept {
    over_.store(1, std::memory_order_release);
    over_.notify_all();
  }

  arriving_letters letters_;
  job_names names_;
  kept_actors kept_;
  far_objects far_;
  moved_actors moved_;
  circle_looks circles_;
  errands revivals_, respawns_, errands_;
  std::atomic<std::uint32_t> over_{0};
};

/// Who serves the runtime's own requests.
inline serving_job& serving(const request& r) noexcept { return static_cast<serving_job&>(r.at); }

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/circles.hpp ----
#ifndef CADRE_ACTOR_DETAIL_CIRCLES_HPP
#define CADRE_ACTOR_DETAIL_CIRCLES_HPP

#include <cstdint>
#include <exception>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A request that is waited for goes from rank to rank with the question what has to be done before it: from each to the
/// requests that those of its tasks wait for which have to go on first. One that comes back to where it began has found a
/// circle, and the request fails with wait_cycle (208). Nobody answers.
///
/// Of all requests of a circle the youngest alone finds it, as its question only passes older ones: so one fails. Which are
/// younger is by the clocks of their ranks; were these wrong, it would only be found later, as old ones ask seldom.
///
/// K. M. Chandy, J. Misra, L. M. Haas, "Distributed deadlock detection", ACM Transactions on Computer Systems 1(2), 1983, for
/// waits that need all of what they wait for. What it says is true: a wait that was there when the question came by is there
/// as long as the request at its end is not answered, and so all of them are when it comes back to a request that is open.
struct circle_request : own_request {
  struct question {
    int asker = 0;            // the rank of the request that it began with
    std::uint64_t first = 0;  // that one's number
    std::int64_t since = 0;   // that somebody waits for it
    std::uint32_t round = 0;
    std::uint32_t hops = 0;
    std::uint64_t number = 0;  // of the request that it is about now, of the rank that it comes from
    std::string path;          // from the first to this one
  };

  static void ask(job& j, question q, const waits_for_answer& about) noexcept {
    const waits_for_answer::place to = about.asked_at();
    q.number = to.number;
    ++q.hops;
    j.mention<circle_request>(to.rank, to.cell, [&](output_archive& out) {
      out(q.asker, q.first, q.since, q.round, q.hops, q.number,
          q.path + " on rank " + std::to_string(j.rank_of(to.rank)));
    });
  }

  static void serve(request& r) {
    question q;
    read_all(r, q.asker, q.first, q.since, q.round, q.hops, q.number, q.path);
    serving_job& j = serving(r);
    j.check_rank(q.asker);
    if (r.number != 0) throw archive_corrupt("a question about a circle that wants an answer", 0);
    constexpr std::uint32_t most_hops = 64;
    const task_ref<task> asked = find(r, q.number);
    if (!asked || q.hops > most_hops || !j.circles().is_new({q.asker, q.first, q.round, r.from, q.number})) return;

    std::vector<task_ref<task>> further;
    std::vector<std::string> paths;
    std::string circle;
    sleeping_wait::for_each_needed(*asked, [&](const sleeping_wait::held_up& h) {
      auto* const far = dynamic_cast<waits_for_answer*>(&h.which);
      if (far == nullptr || h.by == nullptr) return;
      const std::uint64_t number = far->asked_at().number;
      if (j.rank() == q.asker && number == q.first) {
        circle = describe(h.by->at->name(), h.by->at->at()) + q.path + h.by->path(false) + h.by->behind();
      } else if (const auto since = j.open().awaited_since(number);
                 since && std::tuple(*since, j.rank(), number) < std::tuple(q.since, q.asker, q.first)) {
        paths.push_back(q.path + h.path(false));
        h.which.retain();
        further.emplace_back(&h.which);
      }
    });
    if (!find(r, q.number)) return;  // it may have been over before those began that were found
    if (!circle.empty()) {
      if (waits_for_answer* const w = j.open().take(q.first)) w->fail(std::make_exception_ptr(wait_cycle(circle)));
      return;
    }
    for (std::size_t i = 0; i < further.size(); ++i) {
      q.path = std::move(paths[i]);
      ask(j, q, dynamic_cast<const waits_for_answer&>(*further[i]));
    }
  }

 private:
  // What another rank has asked for, if it is not over.
  static task_ref<task> find(const request& r, std::uint64_t number) {
    task_ref<task> t = r.at.served().find(r.from, number);
    if (t && t->done()) return {};
    actor_table& actors = r.at.core().actors();
    return t || !actors.has(r.cell) ? std::move(t) : actors[r.cell].find_letter(r.from, number);
  }
};

inline void serving_job::look_for_circles() noexcept {
  if (!circles_.is_time()) return;
  try {
    for (const auto& [t, since] : requests_.look_at_awaited()) {
      const auto& asked = dynamic_cast<const waits_for_answer&>(*t);
      circle_request::ask(*this,
                          {.asker = rank(),
                           .first = asked.asked_at().number,
                           .since = since,
                           .round = circles_.round(),
                           .path = " waits for " + describe(t->name(), t->at())},
                          asked);
    }
  } catch (const std::exception& e) {
    log(log_level::debug, "actor", [&] { return std::string("no look for circles: ") + e.what(); });
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/end_requests.hpp ----
#ifndef CADRE_ACTOR_DETAIL_END_REQUESTS_HPP
#define CADRE_ACTOR_DETAIL_END_REQUESTS_HPP

CADRE_NAMESPACE_BEGIN
namespace detail {

/// At the end of the job, when all that goes on waits for resources: actors that hold some end.
struct end_holders_request : own_request {
  static void serve(request& r) {
    r.in.expect_end();
    way_back(r).with([&] { r.at.core().end_actors_that_hold(); });
  }
};

/// What a rank has to do before the job may end: see mpi::runtime.
struct activity_request : own_request {
  static void serve(request& r) {
    r.in.expect_end();
    r.at.answer(r.from, r.number, false, [&](output_archive& out) { out(serving(r).look()); }, {.counts = false});
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/fetch.hpp ----
#ifndef CADRE_ACTOR_DETAIL_FETCH_HPP
#define CADRE_ACTOR_DETAIL_FETCH_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A rank of another node asks for bytes of an object: none to hear how many it has, when it is there.
struct object_request : own_request {
  static void serve(request& r) {
    std::uint64_t key = 0, offset = 0, bytes = 0;
    read_all(r, key, offset, bytes);
    job& j = r.at;
    j.core().pool().post([&j, key, offset, bytes, to = r.from, number = r.number] {
      try {
        const auto pinned = std::make_shared<pinned_object>(find(j.core(), key));
        const std::span<const std::byte> all = pinned->bytes();
        if (offset > all.size() || bytes > all.size() - offset)
          throw archive_corrupt(std::to_string(bytes) + " bytes from " + std::to_string(offset) + " of an object of " +
                                    std::to_string(all.size()),
                                0);
        enclosed with;
        if (bytes != 0) with = {pinned, all.subspan(offset, bytes)};
        j.answer(
            to, number, false, [&](output_archive& out) { out(std::uint64_t{all.size()}); }, {}, std::move(with));
      } catch (...) {
        j.fail(to, number, std::current_exception());
      }
    });
  }

 private:
  // When it is there. Throws what the task threw that was to make it.
  static pinned_object find(runtime_core& core, std::uint64_t key) {
    held_object it = far_entries(object_ref_access::core(core.store())).hold(key);
    if (!it) throw object_gone("an object was asked for by a rank of another node when it had gone");
    if (const auto maker = core.results().find(key)) maker->get();
    if (const auto comes = core.want(key)) comes->get();
    return blocking([&] { return pinned_object(std::move(it)); });
  }
};

/// Loans come back from a rank of another node.
struct return_request : own_request {
  static void serve(request& r) {
    std::uint64_t key = 0;
    std::uint32_t times = 0;
    read_all(r, key, times);
    way_back(r).with([&] { serving(r).far().take_back(r.from, key, times); });
  }
};

/// Another rank of this node waits for an object that this one is to bring.
struct want_request : own_request {
  static void serve(request& r) {
    std::uint64_t key = 0;
    read_all(r, key);
    way_back(r).with([&] { static_cast<void>(serving(r).want(key)); });
  }
};

/// A piece of an object that comes. Ends itself.
class piece_of_object final : public waits_for_answer {
 public:
  /// `keep` is let go when nothing writes to the memory any more.
  static future<void> ask(job& j, const far_objects::source& from, std::uint64_t offset, std::span<std::byte> memory,
                          std::shared_ptr<void> keep) {
    auto* const self = new piece_of_object(j, memory, std::move(keep));
    future<void> done = self->done_.get_future();
    j.ask_for<object_request>(*self, from.rank,
                              [&](output_archive& out) { out(from.key, offset, std::uint64_t{memory.size()}); });
    return done;
  }

  void arrive(input_archive&, incoming& message) noexcept override {
    const auto sizes = message.block_sizes();
    if (sizes.size() != 1 || sizes[0] != memory_.size())
      return fail(std::make_exception_ptr(archive_corrupt("a piece of an object that is of another size", 0)));
    message.receive_blocks({.into = {memory_}, .keep = std::move(keep_), .done = [this](bool all) {
                              if (!all) return lost("it died while it sent");
                              done_.set_value();
                              delete this;
                            }});
  }
  void fail(std::exception_ptr why) noexcept override {
    done_.set_error(std::move(why));
    delete this;
  }
  void lost(std::string_view how) noexcept override { fail(std::make_exception_ptr(worker_died(what(), how))); }
  [[nodiscard]] std::string_view what() const noexcept override { return "an object of another node"; }

 private:
  piece_of_object(job& j, std::span<std::byte> memory, std::shared_ptr<void> keep)
      : done_(j.core().pool()), memory_(memory), keep_(std::move(keep)) {}
  ~piece_of_object() = default;

  promise<void> done_;
  std::span<std::byte> memory_;
  std::shared_ptr<void> keep_;
};

/// The writer's part of an entry: ends what was not sealed.
class unsealed_object {
 public:
  unsealed_object(store_core& core, std::uint32_t i) noexcept : core_(core), index_(i) {}
  unsealed_object(const unsealed_object&) = delete;
  unsealed_object& operator=(const unsealed_object&) = delete;
  ~unsealed_object() {
    if (!sealed_) core_.abort(index_);
  }
  /// Throws object_gone (301) if it was erased meanwhile.
  void seal() {
    core_.seal(index_);
    sealed_ = true;
    core_.drop_ref(index_);
  }

 private:
  store_core& core_;
  std::uint32_t index_;
  bool sealed_ = false;
};

/// How many bytes an object has, when it is there.
inline future<std::uint64_t> ask_for_size(job& j, const far_objects::source& from) {
  return ask<object_request, std::uint64_t>(
      j, from.rank, {}, false, "an object of another node", false, {},
      [&](output_archive& out) { out(from.key, std::uint64_t{0}, std::uint64_t{0}); });
}

struct fetch_end {
  serving_job& j;
  std::uint64_t key;
  ~fetch_end() { j.far().end_fetch(key); }
};

/// Brings the bytes of an object, which this process alone does. Pieces are asked for before others have come, and are
/// received where they are to lie. `Job` is class serving_job: g++ at -O0 emits every coroutine that is instantiated, and this one
/// only where a job may begin.
template <class Job>
future<void> fetch_object(thread_pool&, Job& j, std::uint64_t key, far_objects::sources all) {
  constexpr std::uint64_t piece = std::uint64_t{4} << 20;
  constexpr std::size_t window = 4;
  store_core& core = object_ref_access::core(j.core().store());
  const std::uint32_t i = far_entries::index(key);
  const auto entry = std::make_shared<unsealed_object>(core, i);
  const fetch_end at_end{j, key};
  far_objects::source from = all.origin;
  try {
    std::optional<std::uint64_t> known;
    try {
      known = co_await ask_for_size(j, from);
    } catch (const object_gone&) {
      if (all.lender == from) throw;
    }
    if (!known) {
      from = all.lender;
      known = co_await ask_for_size(j, from);
    }
    const std::uint64_t bytes = *known;
    std::byte* const memory = blocking([&] { return core.attach(i, bytes); });
    std::deque<future<void>> open;
    for (std::uint64_t asked = 0; asked < bytes || !open.empty();) {
      if (asked < bytes && open.size() < window) {
        const std::span<std::byte> next(memory + asked, static_cast<std::size_t>(std::min(piece, bytes - asked)));
        open.push_back(piece_of_object::ask(j, from, asked, next, entry));
        asked += next.size();
      } else {
        co_await std::move(open.front());
        open.pop_front();
      }
    }
    entry->seal();
    j.core().results().finish(key);
  } catch (const worker_died& e) {
    throw owner_died(j.rank_of(from.rank), e.what());
  }
}

/// fetch_object<serving_job>, where a job may begin: see own_requests.hpp.
using object_fetcher = future<void>(thread_pool&, serving_job&, std::uint64_t, far_objects::sources);
inline constinit object_fetcher* job_fetcher = nullptr;

inline std::optional<shared_future<void>> serving_job::begin_fetch(std::uint64_t key) {
  if (const auto from = far_.begin_fetch(key)) {
    shared_future<void> comes = job_fetcher(core_.pool(), *this, key, *from).share();
    core_.results().add(key, comes);
    return comes;
  }
  if (auto comes = core_.results().find(key)) return comes;  // somebody has just begun
  store_core& store = object_ref_access::core(core_.store());
  if (const auto who = far_entries(store).rank_of_writer(key); who && is_alive(*who)) {
    try {
      ask<want_request>(*who, {}, false, [&](output_archive& out) { out(key); });
      way_->flush();
    } catch (const error&) {  // it has died just now, which whoever waits for the object hears from the store
    }
  }
  return std::nullopt;
}

inline void serving_job::end_loan(int lender, std::uint64_t key, std::uint32_t times) noexcept {
  try {
    if (is_alive(lender)) ask<return_request>(lender, {}, false, [&](output_archive& out) { out(key, times); });
  } catch (const std::exception&) {  // it has died: nothing is lent by it any more
  }
}

inline void serving_job::lose_objects_of(int rank, std::string_view how) noexcept {
  try {
    for (const std::uint64_t key : far_.lose(rank)) {
      promise<void> never(core_.pool());
      core_.results().add(key, never.get_future().share());
      never.set_error(owner_died(rank_of(rank), how));
      object_ref_access::core(core_.store()).abort(far_entries::index(key));
    }
  } catch (const std::exception& e) {
    log(log_level::error, "actor", [&] { return std::string("objects of a lost rank are not ended: ") + e.what(); });
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/group_requests.hpp ----
#ifndef CADRE_ACTOR_DETAIL_GROUP_REQUESTS_HPP
#define CADRE_ACTOR_DETAIL_GROUP_REQUESTS_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

placement_groups& groups_of(serving_job& j);

// What rank 0 asks the ranks for.

/// What is free; and to be told once when it may be more.
struct room_request : own_request {
  static void serve(request& r) {
    r.in.expect_end();
    way_back(r).with([&] { return look(serving(r)); });
  }
  static room look(serving_job& j);
};
struct more_request : own_request {
  static void serve(request& r) {
    r.in.expect_end();
    way_back(r).with([&] { groups_of(serving(r)).try_again(); });
  }
};
struct set_aside_request : own_request {
  static void serve(request& r) {
    std::uint64_t group = 0;
    std::string name;
    bundle_ranks::parts parts;
    read_all(r, group, name, parts);
    way_back(r).with([&] { return r.at.core().bundles().set_aside(group, name, parts); });
  }
};
struct drop_group_request : own_request {
  static void serve(request& r) {
    std::uint64_t group = 0;
    std::string why;
    std::vector<std::uint32_t> only;
    read_all(r, group, why, only);
    way_back(r).with([&] { drop(r.at.core(), group, why, only); });
  }
  /// `only`: bundles that were set aside a moment ago, of which nobody is to be told; all, if there are none.
  static void drop(runtime_core& core, std::uint64_t group, const std::string& why,
                   const std::vector<std::uint32_t>& only) {
    if (only.empty()) core.groups_used().drop(group);
    core.bundles().drop(group, why, only, !only.empty());
  }
};
inline room room_request::look(serving_job& j) {
  return j.core().bundles().look([&j] {
    if (j.rank() == 0) return groups_of(j).try_again();
    try {
      j.ask<more_request>(0, {}, false, [](output_archive&) {});
    } catch (const error&) {  // the job is over
    }
  });
}

// What all ask rank 0.

struct make_group_request : own_request {
  static void serve(request& r) {
    placement_group_options o;
    placement_strategy::kind how{};
    read_all(r, o.bundles, how, o.name);
    o.strategy = how;
    way_back(r).with([&] { return make(serving(r), std::move(o)); });
  }
  static std::uint64_t make(serving_job& j, placement_group_options o) {
    return groups_of(j).add(std::move(o), first_group(j.core()));
  }
};
struct find_group_request : own_request {
  static void serve(request& r) {
    std::uint64_t group = 0;
    read_all(r, group);
    way_back(r).with([&] { return groups_of(serving(r)).find(group); });
  }
};
/// Answered when it is placed, by the rank of each bundle, which is none of those that the asker knows to be dead.
struct placed_request : own_request {
  static void serve(request& r) {
    std::uint64_t group = 0;
    std::vector<int> dead;
    read_all(r, group, dead);
    groups_of(serving(r))
        .when_placed(group, std::move(dead), [back = way_back(r)](const placement_groups::outcome& o) mutable {
          back.with([&] { return ranks_of(o); });
        });
  }
  static std::vector<int> ranks_of(const placement_groups::outcome& o) {
    if (o.why != nullptr) std::rethrow_exception(o.why);
    return o.ranks;
  }
};
struct remove_group_request : own_request {
  static void serve(request& r) {
    std::uint64_t group = 0;
    read_all(r, group);
    way_back(r).with([&] { groups_of(serving(r)).remove(group); });
  }
};

/// In a job of several ranks.
class bundles_of_job final : public bundle_ranks {
 public:
  explicit bundles_of_job(serving_job& j) noexcept : job_(j) {}

  std::vector<group_layout::rank> all() override {
    std::vector<group_layout::rank> ranks;
    for (int r = 0; r < job_.world_size(); ++r) {
      const int now = job_.members().holder_of(r);
      if (job_.is_alive(now) || job_.members().is_to_return(r))
        ranks.push_back({now, r, job_.facts_of(now).host, room::of(job_.facts_of(now).resources)});
    }
    return ranks;
  }
  std::vector<group_layout::rank> free() override {
    std::vector<group_layout::rank> ranks = all();
    std::vector<future<room>> answers(ranks.size());
    for (std::size_t i = 0; i < ranks.size(); ++i)
      if (ranks[i].number != job_.rank())
        answers[i] = asked<room_request, room>(ranks[i].number, [](output_archive&) {});
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      ranks[i].has = {};
      try {
        ranks[i].has = ranks[i].number == job_.rank() ? room_request::look(job_) : answers[i].get();
      } catch (const std::exception&) {  // it has died
      }
    }
    return ranks;
  }
  bool set_aside(int rank, std::uint64_t group, const std::string& name, const parts& which) override {
    bool done = false;
    try {
      done = rank == job_.rank()
                 ? job_.core().bundles().set_aside(group, name, which)
                 : asked<set_aside_request, bool>(rank, [&](output_archive& out) { out(group, name, which); }).get();
    } catch (const std::exception&) {  // likewise
    }
    if (done)
      for (const bundle_table::part& p : which) job_.ranks()->take(job_.rank_of(rank), p.resources);
    return done;
  }
  void take_back(int rank, std::uint64_t group, const parts& which) noexcept override {
    lost(rank, which);
    std::vector<std::uint32_t> only;
    for (const bundle_table::part& p : which) only.push_back(p.index);
    tell(rank, group, "it could not be set aside as a whole", only);
  }
  void lost(int rank, const parts& which) noexcept override {
    for (const bundle_table::part& p : which) job_.ranks()->give_back(job_.rank_of(rank), p.resources);
  }
  [[nodiscard]] bool lives(int rank) const noexcept override { return job_.is_alive(rank); }
  void drop(std::uint64_t group, const std::vector<int>& at, const std::vector<resource_set>& bundles,
            const std::string& why) noexcept override {
    for (std::size_t b = 0; b < at.size(); ++b)
      if (at[b] != group_layout::nowhere) job_.ranks()->give_back(job_.rank_of(at[b]), bundles[b]);
    for (int r = 0; r < job_.world_size(); ++r)  // all that know it
      tell(job_.members().holder_of(r), group, why, {});
  }
  void run(move_only_function<void()> f) override { job_.later(std::move(f)); }

 private:
  template <class Tag, class R, class Write>
  future<R> asked(int rank, Write&& write) {
    return ask<Tag, R>(job_, rank, {}, false, "a placement group", false, {}, write);
  }
  void tell(int rank, std::uint64_t group, const std::string& why, const std::vector<std::uint32_t>& only) noexcept {
    try {
      if (rank == job_.rank())
        drop_group_request::drop(job_.core(), group, why, only);
      else if (job_.is_alive(rank))
        job_.ask<drop_group_request>(rank, {}, false, [&](output_archive& out) { out(group, why, only); });
    } catch (const std::exception& e) {  // it has died just now
      log(log_level::debug, "actor", [&] { return std::string("a rank was not told of a group's end: ") + e.what(); });
    }
  }

  serving_job& job_;
};

inline placement_groups& groups_of(serving_job& j) {
  return j.core().groups<placement_groups>(
      [&] { return std::make_unique<placement_groups>(std::make_unique<bundles_of_job>(j)); });
}

inline std::uint64_t make_group(serving_job& j, placement_group_options o) {
  if (j.rank() == 0) return make_group_request::make(j, std::move(o));
  return ask<make_group_request, std::uint64_t>(j, 0, {}, false, "the making of a placement group", false, {},
                                                [&](output_archive& out) { out(o.bundles, o.strategy.what(), o.name); })
      .get();
}
inline void remove_group(serving_job& j, std::uint64_t group) {
  if (j.rank() == 0) return groups_of(j).remove(group);
  ask<remove_group_request, void>(j, 0, {}, false, "the removal of a placement group", false, {},
                                  [&](output_archive& out) { out(group); })
      .get();
}
inline future<std::vector<int>> when_placed(serving_job& j, std::uint64_t group, const std::vector<int>& dead) {
  if (j.rank() == 0) return when_placed_by(groups_of(j), j.core(), group, dead);
  return ask<placed_request, std::vector<int>>(j, 0, {}, false, "a placement group", false, {},
                                               [&](output_archive& out) { out(group, dead); });
}
/// For all who use the group, each of whom says it if there is an error.
inline shared_future<std::vector<int>> shared_when_placed(serving_job& j, std::uint64_t group,
                                                          const std::vector<int>& dead = {}) {
  shared_future<std::vector<int>> ranks = when_placed(j, group, dead).share();
  future_access::get(ranks)->set_observed();
  return ranks;
}

/// What this rank knows of a group, of a job of several. Waits for an answer of rank 0 when it is first used here. Throws
/// placement_group_gone (617), empty_placement_group (618).
inline std::shared_ptr<const group_used> known_group(serving_job& j, std::uint64_t group) {
  runtime_core& core = j.core();
  if (group >> 32 != core.number()) throw empty_placement_group("this placement group is of another runtime");
  if (auto known = core.groups_used().find(group)) return known;
  const placement_groups::facts f =
      j.rank() == 0 ? groups_of(j).find(group)
                    : ask<find_group_request, placement_groups::facts>(j, 0, {}, false, "a placement group", false, {},
                                                                       [&](output_archive& out) { out(group); })
                          .get();
  std::vector<places::place> bundles;
  for (const resource_set& b : f.bundles) bundles.push_back({"", b});
  return core.groups_used().add(group, {f.name, std::make_shared<places>(bundles), shared_when_placed(j, group)});
}
/// At once: whether that can be there at all. Throws impossible_request (209), empty_placement_group (618).
inline void check_fits(const group_used& g, const placement& on, const resource_set& wanted) {
  if (on.bundle() != placement::any_bundle && (on.bundle() < 0 || on.bundle() >= g.bundles->size()))
    throw empty_placement_group("bundle " + std::to_string(on.bundle()) + " of " + group_label(on.group(), g.name) +
                                ", which has " + std::to_string(g.bundles->size()));
  for (int b = 0; b < g.bundles->size(); ++b)
    if ((on.bundle() == placement::any_bundle || on.bundle() == b) && g.bundles->has(b, wanted)) return;
  throw impossible_request(bundle_table::too_much(wanted, g.name, on.group()));
}

/// Which bundle, on a rank that lives; places::none if there is none. Waits for the group to be placed, and throws why it is
/// not.
inline int choose_bundle(serving_job& j, const group_used& g, const placement& on, const resource_set& wanted) {
  const std::vector<int>& ranks = g.ranks.get();
  return g.bundles->choose(wanted, placement::kind::anywhere, [&](int i) {
    return (on.bundle() == placement::any_bundle || on.bundle() == i) && j.is_alive(ranks[static_cast<std::size_t>(i)]);
  });
}
/// What is known of a group, of which no bundle that would do is on a rank that lives: where they are placed once more.
inline std::shared_ptr<const group_used> known_anew(serving_job& j, std::uint64_t group, const group_used& old) {
  std::vector<int> dead;
  for (const int r : old.ranks.get())
    if (!j.is_alive(r)) dead.push_back(r);
  return j.core().groups_used().replace(group, old, {old.name, old.bundles, shared_when_placed(j, group, dead)});
}
/// In a job of several ranks, what will say where that is; nothing, if it is known. Throws as known_group(), check_fits() and
/// choose_bundle().
inline std::optional<shared_future<std::vector<int>>> place_to_come(serving_job& j, const placement& on,
                                                                    const resource_set& wanted) {
  if (!on.is_in_group()) return std::nullopt;
  auto g = known_group(j, on.group());
  check_fits(*g, on, wanted);
  while (g->ranks.ready()) {
    if (choose_bundle(j, *g, on, wanted) != places::none) return std::nullopt;
    g = known_anew(j, on.group(), *g);
  }
  return g->ranks;
}
/// Which rank; `on` becomes one bundle, if it is a group. Waits for a group to be placed. Throws impossible_request (209),
/// placement_group_gone (617), empty_placement_group (618).
inline int find_place(serving_job& j, placement& on, const resource_set& wanted, bool rank_0_last, int near) {
  if (!on.is_in_group()) return j.choose(on, wanted, rank_0_last, near);
  auto g = known_group(j, on.group());
  check_fits(*g, on, wanted);
  int b = places::none;
  while ((b = choose_bundle(j, *g, on, wanted)) == places::none) g = known_anew(j, on.group(), *g);
  on = in_group(on.group(), b);
  return g->ranks.get()[static_cast<std::size_t>(b)];
}
struct given_back_request : own_request {
  static void serve(request& r) {
    placement on;
    resource_set what;
    read_all(r, on, what);
    way_back(r).with([&] { give_back(serving(r), on, r.from, what); });
  }
  static void give_back(serving_job& j, const placement& on, int at, const resource_set& what) {
    if (!on.is_in_group()) return j.ranks()->give_back(j.rank_of(at), what);
    const auto g = j.core().groups_used().find(on.group());
    if (g && on.bundle() >= 0 && on.bundle() < g->bundles->size()) g->bundles->give_back(on.bundle(), what);
  }
};
inline void tell_given_back(serving_job& j, int placed_by, const placement& on, const resource_set& what) noexcept {
  try {
    if (placed_by == j.rank()) return given_back_request::give_back(j, on, j.rank(), what);
    j.ask<given_back_request>(placed_by, {}, false, [&](output_archive& out) { out(on, what); });
  } catch (const std::exception&) {  // it has died, or the job is over
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/restarts.hpp ----
#ifndef CADRE_ACTOR_DETAIL_RESTARTS_HPP
#define CADRE_ACTOR_DETAIL_RESTARTS_HPP

#include <exception>
#include <optional>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

// What ranks ask rank 0 about actors that are made anew when their rank is lost.

/// Rank 0 is told of the last state of an actor that may be made anew.
struct keep_state_request : own_request {
  static void serve(request& r) {
    actor_place first;
    revival::saved_state state;
    read_all(r, first, state.version, state.bytes);
    way_back(r).with([&] { serving(r).kept().keep_state(first, std::move(state)); });
  }
};
/// Rank 0 is to make an actor anew when its rank is lost.
struct keep_actor_request : own_request {
  static void serve(request& r) {
    actor_place first;
    kept_actor k;
    read_all(r, first, k.maker, k.how, k.on);
    r.at.check_rank(first.rank);
    way_back(r).with([&] { keep(serving(r), first, std::move(k)); });
  }
  static void keep(serving_job& j, const actor_place& first, kept_actor k) {
    j.kept().add(first, std::move(k));
    if (j.members().is_gone(first.rank)) j.revive_all_of(first.rank, "its rank has died");
  }
};
inline void keep_actor(serving_job& j, const actor_place& first, kept_actor k) {
  if (j.rank() == 0) return keep_actor_request::keep(j, first, std::move(k));
  ask<keep_actor_request, void>(j, 0, {}, false, "the making of an actor", false, {}, [&](output_archive& out) {
    out(first, k.maker, k.how, k.on);
  }).get();
}
inline void keep_state(serving_job& j, const actor_place& first, const revival::saved_state& s) {
  ask<keep_state_request, void>(j, 0, {}, false, "this_actor::checkpoint", false, {}, [&](output_archive& out) {
    out(first, s.version, s.bytes);
  }).get();
}
/// Such an actor has ended.
struct forget_actor_request : own_request {
  static void serve(request& r) {
    actor_place first;
    std::string name;
    read_all(r, first, name);
    way_back(r).with([&] { forget(serving(r), first, name); });
  }
  static void forget(serving_job& j, const actor_place& first, const std::string& name) {
    j.kept().drop(first);
    if (!name.empty()) j.names().drop(name, first);
  }
};
/// Rank 0 is asked where an actor is.
struct where_request : own_request {
  static void serve(request& r) {
    actor_place first;
    int not_at = 0;
    read_all(r, first, not_at);
    serving(r).kept().ask(first, not_at,
                          [back = way_back(r)](const whereabouts& w) mutable { back.with([&] { return w; }); });
  }
};

inline actor_place serving_job::ask_where_it_is(const actor_place& first, int not_at) {
  whereabouts w;
  if (rank() == 0) {
    promise<whereabouts> told;
    auto answer = told.get_future();
    kept_.ask(first, not_at, [&](const whereabouts& there) { std::move(told).set_value(there); });
    w = answer.get();
  } else {
    w = detail::ask<where_request, whereabouts>(*this, 0, {}, false, "where an actor is", true, {},
                                                [&](output_archive& out) { out(first, not_at); })
            .get();
    check_rank(w.now.rank);
  }
  if (!w.why_dead.empty()) throw actor_died("that was made on rank " + std::to_string(rank_of(first.rank)), w.why_dead);
  return w.now;
}
inline void serving_job::revive(const actor_place& first, std::string how) noexcept {
  try {
    for (;;) {
      const std::optional<kept_actor> k = kept_.again(first);
      if (!k) {
        how += "; it may not be made anew again: see .max_restarts";
        break;
      }
      // A rank that comes back does so later, if at all. Rank 0 is not to be lost by what killed another.
      const bool on_the_lost = k->on.what() == placement::kind::on_rank && !is_alive(who_.holder_of(k->on.rank()));
      sent_actor again = k->how;
      placement on = on_the_lost ? placement{} : k->on;
      const int to = detail::find_place(*this, on, again.resources, true, places::none);
      if (on.is_in_group()) again.on = on;
      try {
        const auto at = detail::ask_handler<actor_address>(*this, to, {.handler = k->maker}, false, "a restart", true,
                                                           {}, [&](output_archive& out) { out(again); })
                            .get();
        take_for(on, to, again.resources);
        return kept_.made(first, {to, at, first.task_retries});
      } catch (const actor_died& e) {  // that rank has died too
        how = e.what();
      }
    }
  } catch (const std::exception& e) {
    how.append("; it cannot be made anew: ").append(e.what());
  }
  names_.drop(kept_.give_up(first, how), first);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/make_actor.hpp ----
#ifndef CADRE_ACTOR_DETAIL_MAKE_ACTOR_HPP
#define CADRE_ACTOR_DETAIL_MAKE_ACTOR_HPP

#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

inline name_answer make_actor(serving_job& j, const actor_options& o, const std::string& name,
                              const makes_actor& maker) {
  placement on = o.on;
  const int to = j.find_place(on, o.resources, places::none);
  const std::string type = type_name(maker.type());
  if (!name.empty()) {
    name_answer has_it = j.ask_about_name(name_question::reserve, name, type, {});
    if (has_it.what == name_answer::kind::taken) {
      if (!o.get_or_create) throw actor_name_taken(name);
      return has_it;
    }
  }
  try {
    sent_actor how{.label = actor_label(maker.type(), name),
                   .name = name,
                   .most_at_once = o.max_concurrency,
                   .most_pending = o.max_pending_calls,
                   .most = limits_of(o),
                   .resources = o.resources,
                   .on = on.is_in_group() ? on : placement()};
    actor_place where{to, {}, o.max_restarts != 0 ? o.max_task_retries : actor_place::never_anew};
    where.at = to == j.rank() ? maker.make_here(how, o.at)
                              : ask_handler<actor_address>(j, to, {.handler = maker.handler()}, true,
                                                           maker.constructor_name(), true, o.at,
                                                           [&](output_archive& out) {
                                                             out(how);
                                                             maker.write(out);
                                                           })
                                    .get();
    j.take_for(on, to, o.resources);
    if (o.max_restarts != 0 && to != 0) {
      how.arguments = maker.bytes();
      how.first = where;
      keep_actor(j, where, {maker.handler(), std::move(how), o.on});
    }
    if (!name.empty()) j.ask_about_name(name_question::bind, name, {}, where);
    return {name_answer::kind::yours, where, type, {}};
  } catch (...) {
    if (!name.empty()) j.ask_about_name(name_question::drop, name, {}, {});
    throw;
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/name_request.hpp ----
#ifndef CADRE_ACTOR_DETAIL_NAME_REQUEST_HPP
#define CADRE_ACTOR_DETAIL_NAME_REQUEST_HPP

#include <string>
#include <thread>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Rank 0 is asked about a name.
struct name_request : own_request {
  static void serve(request& r) {
    name_question q{};
    std::string name, type;
    actor_place where;
    read_all(r, q, name, type, where);
    way_back(r).with([&] { return answer(serving(r).names(), q, name, type, where, r.from); });
  }
  static name_answer answer(job_names& names, name_question q, const std::string& name, const std::string& type,
                            actor_place where, int from) {
    switch (q) {
      case name_question::reserve: return names.reserve(name, type, from);
      case name_question::find: return names.find(name);
      case name_question::bind: names.bind(name, where); return {};
      case name_question::drop: names.drop(name, where); return {};
    }
    throw archive_corrupt("a question about a name of kind " + std::to_string(static_cast<int>(q)), 0);
  }
};
inline name_answer ask_about_name(serving_job& j, name_question q, const std::string& name, const std::string& type,
                                  actor_place where) {
  for (;;) {
    name_answer a = j.rank() == 0
                        ? name_request::answer(j.names(), q, name, type, where, 0)
                        : ask<name_request, name_answer>(j, 0, {}, false, "a question about a name", false, {},
                                                         [&](output_archive& out) { out(q, name, type, where); })
                              .get();
    if (a.what != name_answer::kind::being_made) return a;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/actor/detail/own_requests.hpp ----
#ifndef CADRE_ACTOR_DETAIL_OWN_REQUESTS_HPP
#define CADRE_ACTOR_DETAIL_OWN_REQUESTS_HPP

#include <concepts>

CADRE_NAMESPACE_BEGIN
namespace detail {

template <std::derived_from<own_request>... Tags>
void list_requests() noexcept {
  (handler_of<Tags>::list(), ...);
}

/// Has handler::all() know every own_request, and has jobs fetch objects: before the first is called, by who begins a job.
/// `Job` is class serving_job: what is no template is compiled, in part, in every unit that includes it. Thread-safe.
template <class Job>
void list_own_requests() noexcept {
  static const bool are_listed = [] {
    list_requests<activity_request, circle_request, drop_group_request, end_holders_request, find_group_request,
                  forget_actor_request, given_back_request, keep_actor_request, keep_state_request, make_group_request,
                  more_request, name_request, object_request, placed_request, remove_group_request, return_request,
                  room_request, set_aside_request, want_request, where_request>();
    job_fetcher = &fetch_object<Job>;
    return true;
  }();
  static_cast<void>(are_listed);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/spawned_process.hpp ----
#ifndef CADRE_MPI_DETAIL_SPAWNED_PROCESS_HPP
#define CADRE_MPI_DETAIL_SPAWNED_PROCESS_HPP

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// While it lives errors of MPI that concern a communicator are returned. Under the lock of MPI.
class errors_returned {
 public:
  explicit errors_returned(MPI_Comm comm) : comm_(comm) {
    ::MPI_Comm_get_errhandler(comm_, &before_);
    ::MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  }
  errors_returned(const errors_returned&) = delete;
  errors_returned& operator=(const errors_returned&) = delete;
  ~errors_returned() {
    ::MPI_Comm_set_errhandler(comm_, before_);
    ::MPI_Errhandler_free(&before_);
  }

 private:
  MPI_Comm comm_;
  MPI_Errhandler before_ = MPI_ERRHANDLER_NULL;
};

/// With the process that waits at that port, for which it must not have died: it takes some milliseconds, or never ends if
/// the process dies meanwhile. Throws mpi_error (1101), thread_error (151).
inline MPI_Comm connection_with(const port_name& port, int rank, bool by_rank_0) {
  const watchdog limit("a connection with the new process of rank " + std::to_string(rank), std::chrono::seconds(10),
                       by_rank_0);
  const std::lock_guard lock(environment::get().mutex());
  const errors_returned of_self(MPI_COMM_SELF);
  MPI_Comm comm = MPI_COMM_NULL;
  check(::MPI_Comm_connect(port.data(), MPI_INFO_NULL, 0, MPI_COMM_SELF, &comm), "MPI_Comm_connect");
  return comm;
}

/// By rank 0: this program once more, with the same arguments, started by mpirun to take the place of a rank.
///
/// mpirun starts it as if it did not use MPI, as MPI_Comm_spawn would else hold up this rank for the quarter of a second
/// that the start takes, and for ever if the process died meanwhile. It is found by a name that it publishes.
class spawned_process {
 public:
  /// `host`: where; anywhere, if empty. Throws mpi_error (1101) where mpirun has no room, thread_error (151).
  spawned_process(std::string name, int rank, const std::string& host)
      : name_(std::move(name)), rank_(rank), siblings_(children_of_launcher()) {
    // By `env`, without what says that it was spawned.
    std::vector<std::string> words{"-u", "OMPI_PARENT_PORT", takes_place + ("=" + name_),
                                   std::filesystem::read_symlink("/proc/self/exe").string()};
    std::ifstream file("/proc/self/cmdline", std::ios::binary);
    const std::string all{std::istreambuf_iterator<char>(file), {}};
    for (std::size_t at = all.find('\0') + 1; at != 0 && at < all.size(); at = all.find('\0', at) + 1)
      words.push_back(all.c_str() + at);
    std::vector<char*> arguments;
    for (std::string& w : words) arguments.push_back(w.data());
    arguments.push_back(nullptr);
    const watchdog limit("the start of a process for rank " + std::to_string(rank), std::chrono::seconds(20), true);
    const std::lock_guard lock(environment::get().mutex());
    MPI_Info how = MPI_INFO_NULL;
    check(::MPI_Info_create(&how), "MPI_Info_create");
    ::MPI_Info_set(how, "ompi_non_mpi", "true");
    ::MPI_Info_set(how, "wdir", std::filesystem::current_path().c_str());
    ::MPI_Info_set(how, "bind_to", "none");
    if (!host.empty()) ::MPI_Info_set(how, "host", host.c_str());
    const errors_returned of_self(MPI_COMM_SELF);
    MPI_Comm none = MPI_COMM_NULL;
    const int code =
        ::MPI_Comm_spawn("/usr/bin/env", arguments.data(), 1, how, 0, MPI_COMM_SELF, &none, MPI_ERRCODES_IGNORE);
    ::MPI_Info_free(&how);
    check(code, "MPI_Comm_spawn");
  }

  spawned_process(const spawned_process&) = delete;
  spawned_process& operator=(const spawned_process&) = delete;
  /// Ends it, if it is known and has not been released.
  ~spawned_process() {
    if (watch_) watch_->end();
  }
  void release() noexcept { watch_.reset(); }

  /// Waits until it has begun. A start takes a quarter of a second; Open MPI 4.1.4 now and then never ends one that another
  /// process died beside. Throws mpi_error (1101, 1102), thread_error (151).
  MPI_Comm connect(std::chrono::seconds enough) {
    const auto deadline = std::chrono::steady_clock::now() + enough;
    port_name port{};
    for (bool there = false; !there;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      throw_if_ended();
      if (std::chrono::steady_clock::now() > deadline)
        throw mpi_error::unusable("its new process has not begun in " + std::to_string(enough.count()) + " s");
      const std::lock_guard lock(environment::get().mutex());
      const errors_returned of_world(MPI_COMM_WORLD);
      there = ::MPI_Lookup_name(name_.c_str(), MPI_INFO_NULL, port.data()) == MPI_SUCCESS;
    }
    throw_if_ended();
    return connection_with(port, rank_, true);
  }

  /// If that can be known: where mpirun is the parent of both, and the kernel has pidfd (5.3).
  [[nodiscard]] bool has_ended() {
    if (!watch_) look_for_it();
    return watch_ && watch_->ended();
  }
  /// Throws mpi_error (1102).
  void throw_if_ended() {
    if (has_ended()) throw mpi_error::unusable("its new process has ended" + watch_->how());
  }

 private:
  // The only child that has been added.
  void look_for_it() {
    std::vector<int> all = children_of_launcher();
    std::erase_if(all, [&](int p) { return std::find(siblings_.begin(), siblings_.end(), p) != siblings_.end(); });
    if (all.size() == 1) watch_.emplace(all[0]);
  }
  static std::vector<int> children_of_launcher() {
    std::vector<int> all;
    std::error_code none;
    const std::string threads = "/proc/" + std::to_string(::getppid()) + "/task";
    for (const auto& thread : std::filesystem::directory_iterator(threads, none)) {
      std::ifstream file(thread.path() / "children");
      for (int child = 0; file >> child;) all.push_back(child);
    }
    return all;
  }

  const std::string name_;
  const int rank_;
  const std::vector<int> siblings_;
  std::optional<process_watch> watch_;
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/detail/respawns.hpp ----
#ifndef CADRE_MPI_DETAIL_RESPAWNS_HPP
#define CADRE_MPI_DETAIL_RESPAWNS_HPP

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Throws std::bad_cast if the job has no ranks.
inline message_link& link_of(cadre::detail::job& j) { return dynamic_cast<message_link&>(j.way()); }

/// A rank is to connect to a process that takes the place of one that has died.
struct connect_request : cadre::detail::own_request {
  static void serve(cadre::detail::request& r) {
    acquaintance who;
    port_name port{};
    read_all(r, who.member, who.rank, who.is_near, who.card.process, who.card.host, port);
    if (r.from != 0 || who.member < r.at.world_size() || who.member >= r.at.way().most_members() || who.rank < 0 ||
        who.rank >= r.at.world_size())
      throw archive_corrupt("a new process of rank " + std::to_string(who.rank), 0);
    cadre::detail::serving(r).later_to_respawn([&j = r.at, who, port, back = cadre::detail::way_back(r)]() mutable {
      back.with([&] { connect(j, who, port); });
    });
  }

 private:
  static void connect(cadre::detail::job& j, acquaintance who, const port_name& port) {
    if (who.is_near && process_watch(who.card.process).ended()) throw peer_died(who.rank, "it has died meanwhile");
    who.comm = connection_with(port, who.rank, false);
    if (!link_of(j).admit(who)) throw peer_died(who.rank, "it has died meanwhile");
  }
};
/// It has the rank from now on.
struct seat_request : cadre::detail::own_request {
  static void serve(cadre::detail::request& r) {
    int member = 0;
    read_all(r, member);
    cadre::detail::way_back(r).with([&] {
      r.at.check_rank(member);
      r.at.members().seat(member);
    });
  }
};

/// Before this process introduces itself to the others. Thread-safe.
inline void list_requests() noexcept {
  static const bool are_listed = [] {
    cadre::detail::list_own_requests<cadre::detail::serving_job>();
    cadre::detail::list_requests<connect_request, seat_request>();
    return true;
  }();
  static_cast<void>(are_listed);
}

/// On rank 0: starts processes that take the place of ranks that have died. One thread.
class respawns {
 public:
  respawns(cadre::detail::serving_job& j, const introduction& me, std::uint32_t job_number,
           std::chrono::nanoseconds silence)
      : job_(j), link_(link_of(j)), me_(me), job_number_(job_number), silence_(silence), next_(j.world_size()) {}

  /// The job ends: none from now on.
  void end() noexcept { over_.store(true); }

  void take_place_of(int lost) noexcept {
    const int rank = link_.rank_of(lost);
    if (over_.load() || rank == 0) return;
    bool is_member = false;
    try {
      // Now and then a death at a bad instant leaves mpirun (4.1.4) so that what it starts never begins.
      constexpr int most_tries = 8, most_stuck = 3;
      std::optional<spawned_process> process;
      std::optional<introduction> it;
      for (int tries = 1; !it; ++tries) {
        if (stuck_ == most_stuck) throw mpi_error::unusable("mpirun starts no process any more");
        if (next_ == link_.most_members())
          throw mpi_error::unusable("that has been done as often as .max_respawns allows");
        member_ = next_++;
        process.emplace("cadre-" + std::to_string(me_.job[0]) + "-" + std::to_string(member_), rank,
                        job_.has_several_nodes() ? job_.facts_of(rank).host : "");
        try {
          way_ = process->connect(std::chrono::seconds(std::min(1 << tries, 16)));
          it = *receive<introduction>([&] { process->throw_if_ended(); });
          stuck_ = 0;
        } catch (const mpi_error& e) {  // it has died before it was a rank
          stuck_ = process->has_ended() ? 0 : stuck_ + 1;
          if (tries == most_tries) throw;
          log(log_level::warning, "mpi",
              [&] { return "rank " + std::to_string(rank) + " of the job is started once more: " + e.what(); });
        }
      }
      if (!it->is_same_program(me_)) throw different_programs("the process that has been started for a rank");
      if (it->node != job_.facts_of(rank).node)
        throw mpi_error::unusable(std::string("its new process is on ") + it->host.data());
      is_member = true;
      join(rank, *it);
      process->release();
      log(log_level::warning, "mpi", [&] {
        return "rank " + std::to_string(rank) + " of the job is from now on process " + std::to_string(it->process) +
               " on " + it->host.data();
      });
    } catch (const std::exception& e) {
      log(log_level::warning, "mpi",
          [&] { return "rank " + std::to_string(rank) + " of the job is not started again: " + e.what(); });
    }
    if (is_member && !job_.is_alive(member_)) return;  // its turn comes
    job_.members().set_to_return(rank, false);
    job_.core().place_groups_again();
  }

 private:
  void join(int rank, const introduction& it) {
    const int member = member_;
    acquaintance who{.member = member, .rank = rank, .comm = way_, .card = {.process = it.process}};
    std::string(it.host.data()).copy(who.card.host, sizeof who.card.host - 1);
    who.is_near = it.node == me_.node;
    link_.admit(who);  // before who lives is written down: it is told of deaths from now on
    try {
      tell(rank, it);
      for (int m = 1; m < member; ++m) {
        if (!is_known_[static_cast<std::size_t>(m)]) continue;
        const auto port = receive<port_name>([this] { throw_if_lost(); });
        const bool is_near = job_.facts_of(m).node == it.node;
        cadre::detail::ask<connect_request, void>(
            job_, m, {}, false, "a connection", false, {},
            [&](output_archive& out) { out(member, rank, is_near, who.card.process, who.card.host, *port); })
            .get();
      }
      cadre::detail::ask<cadre::detail::activity_request, cadre::detail::serving_job::activity>(
          job_, member, {.counts = false}, false, "a new process", false, {}, [](output_archive&) {})
          .get();
      for (int m = 1; m < member; ++m) seat(m, member);
      job_.members().seat(member);
    } catch (const std::exception& e) {
      link_.declare_dead(member, std::string("it could not be connected with all others: ") + e.what());
      throw;
    }
  }
  void tell(int rank, const introduction& it) {
    const int member = member_;
    place_to_take place{.member = member,
                        .rank = rank,
                        .members = member + 1,
                        .most_members = link_.most_members(),
                        .job_number = job_number_,
                        .silence = silence_.count(),
                        .store = me_.store_on(it.node),
                        .by_rank = job_.members().all(),
                        .others = {}};
    is_known_.assign(static_cast<std::size_t>(member), false);
    for (int m = 0; m < member; ++m) {
      if (!job_.is_alive(m)) continue;
      is_known_[static_cast<std::size_t>(m)] = true;
      place.others.push_back({m, link_.rank_of(m), job_.facts_of(m).node == it.node, link_.card_of(m)});
    }
    const auto bytes = std::make_shared<std::vector<std::byte>>(to_bytes(place));
    const auto size = std::make_shared<std::uint64_t>(bytes->size());
    send(size, size.get(), sizeof *size);
    send(bytes, bytes->data(), bytes->size());
  }
  void seat(int at, int member) {
    if (!is_known_[static_cast<std::size_t>(at)]) return;
    try {
      cadre::detail::ask<seat_request, void>(job_, at, {}, false, "a rank's new process", false, {},
                                             [&](output_archive& out) { out(member); })
          .get();
    } catch (const error&) {  // it has died just now
    }
  }

  // Throws mpi_error (1102).
  void throw_if_lost() const {
    if (!link_.is_alive(member_)) throw mpi_error::unusable("its new process has ended");
  }
  void send(std::shared_ptr<const void> keep, const void* bytes, std::size_t n) {
    finish(
        std::move(keep),
        [&](MPI_Request& request) {
          check(::MPI_Isend(bytes, static_cast<int>(n), MPI_BYTE, 0, handshake_tag, way_, &request), "MPI_Isend");
        },
        [this] { throw_if_lost(); });
  }
  template <class T, class Alive>
  std::shared_ptr<T> receive(Alive&& alive) {
    const auto value = std::make_shared<T>();
    finish(
        value,
        [&](MPI_Request& request) {
          check(::MPI_Irecv(value.get(), static_cast<int>(sizeof(T)), MPI_BYTE, 0, handshake_tag, way_, &request),
                "MPI_Irecv");
        },
        alive);
    return value;
  }
  template <class Begin, class Alive>
  void finish(std::shared_ptr<const void> memory, Begin&& begin, Alive&& alive) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    MPI_Request request = MPI_REQUEST_NULL;
    const auto is_done = [&] {
      int done = 0;
      const std::lock_guard lock(environment::get().mutex());
      if (request == MPI_REQUEST_NULL) begin(request);
      check(::MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      return done != 0;
    };
    try {
      while (!is_done()) {
        alive();
        if (std::chrono::steady_clock::now() > deadline) throw mpi_error::unusable("its new process does not answer");
        std::this_thread::sleep_for(std::chrono::microseconds(100));  // others want the lock
      }
    } catch (...) {
      const std::lock_guard lock(environment::get().mutex());
      environment::get().keep(std::move(memory));
      throw;
    }
  }

  cadre::detail::serving_job& job_;
  message_link& link_;
  const introduction me_;
  const std::uint32_t job_number_;
  const std::chrono::nanoseconds silence_;
  int next_, member_ = 0;  // the one that is to join
  int stuck_ = 0;          // how many, one after the other, did not begin
  MPI_Comm way_ = MPI_COMM_NULL;
  std::vector<bool> is_known_;  // to the process that is being started
  std::atomic<bool> over_{false};
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/runtime.hpp ----
#ifndef CADRE_MPI_RUNTIME_HPP
#define CADRE_MPI_RUNTIME_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi {

namespace detail {

/// The main of this program is run(), which can take the place of any rank but 0.
inline bool runs_main = false;

/// CADRE_HEARTBEAT_LIMIT, in seconds; see runtime. Throws mpi_error (1102).
inline std::chrono::nanoseconds heartbeat_limit() {
  const char* const text = std::getenv("CADRE_HEARTBEAT_LIMIT");
  if (text == nullptr) return link_options().silence;
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (end == text || *end != '\0' || !(seconds >= 0 && seconds <= 1e6))
    throw mpi_error::unusable("CADRE_HEARTBEAT_LIMIT is '" + std::string(text) +
                              "': say seconds, up to 1000000, or 0 for no limit");
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(seconds));
}

}  // namespace detail

/// The runtime of a job of several ranks: tasks and actors may be on any of them, and the ranks of a node share one store.
/// The program, and all that it names, must be the same build on all ranks.
///
/// mpi::run() makes one on each rank; a program of which every rank has a main of its own makes one by itself. Making and
/// destroying it is collective: rank 0 waits in the destructor until nothing goes on in the whole job, whoever began it; the
/// others work for the job until then, in serve() or in the destructor.
///
/// What the options do not name is found: processors, GPUs and memory of a node are dealt among its ranks (see
/// runtime_options). Ranks that mpirun has bound to processors of their own have those.
///
/// A rank of another node of which nothing is heard for 10 s counts as dead; the environment of rank 0 may say another time,
/// in seconds, by CADRE_HEARTBEAT_LIMIT (0: none).
class runtime : public cadre::runtime {
 public:
  /// Every rank of `comm`, which is duplicated. Throws as cadre::runtime; different_programs (610), communicator_timeout
  /// (401), mapping_error (159), mpi_error (1101, 1102, 1110).
  explicit runtime(MPI_Comm comm, runtime_options options = {})
      : runtime(comm, options.max_respawns, std::move(options)) {}
  explicit runtime(runtime_options options = {}) : runtime(detail::world(), std::move(options)) {}
  /// Of a process that is in the place of one that has died: see run().
  runtime(const detail::place_taken& where, runtime_options options)
      : cadre::runtime(as_before(where.facts(), std::move(options))) {
    core().set_rank(where.place().member);
    core().begin_job(where.place().job_number, where.place().store);
    make_job(where.link(), where.place().by_rank);
    job_->start();
  }
  ~runtime() override {
    try {
      rank() == 0 ? finish() : serve();
      job_->close();
    } catch (const std::exception& e) {
      log(log_level::error, "actor", [&] { return std::string("the job did not end in order: ") + e.what(); });
    }
  }

  /// Ranks other than 0: works for the job until rank 0 ends it.
  void serve() { job_->serve(); }

 private:
  runtime(MPI_Comm comm, int max_respawns, runtime_options options)
      : cadre::runtime(detail::share_of_node(comm, std::move(options))) {
    int rank = 0, size = 0;
    {
      const std::lock_guard lock(detail::environment::get().mutex());
      detail::check(::MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
      detail::check(::MPI_Comm_size(comm, &size), "MPI_Comm_size");
    }
    core().set_rank(rank);
    detail::warn_of_binding(pool().size());
    detail::list_requests();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    const std::vector<detail::introduction> all =
        detail::root_gather(comm, size, deadline)(detail::introduction::of_rank(core()));
    check_that_all_are_one(all);
    std::uint32_t number = 0;
    std::vector<cadre::detail::peer_facts> peers;
    for (const detail::introduction& i : all) {
      number = std::max(number, i.jobs_made + 1);
      peers.push_back(i.facts());
    }
    const detail::introduction& me = all[static_cast<std::size_t>(rank)];
    core().begin_job(number, all[0].store_on(me.node));
    const bool can_respawn = detail::runs_main && detail::environment::goes_on_after_deaths();
    const detail::link_options how{.silence = detail::heartbeat_limit(),
                                   .most_later = can_respawn ? std::max(0, max_respawns) : 0};
    make_job(std::make_unique<detail::message_link>(comm, how), std::move(peers));
    if (rank == 0 && how.most_later != 0) {
      respawns_ = std::make_shared<detail::respawns>(*job_, me, number, how.silence);
      job_->when_lost = [respawns = respawns_](int member) { respawns->take_place_of(member); };
    }
    job_->start();
  }
  void make_job(std::unique_ptr<detail::message_link> link, std::vector<cadre::detail::peer_facts> ranks) {
    job_ = std::make_shared<cadre::detail::serving_job>(core(), std::move(link), std::move(ranks));
    core().join(job_, job_->has_several_nodes() ? job_.get() : nullptr);
    core().actors().when_known_ends = [this](const std::string& name, const cadre::detail::actor_place& first) {
      forget(name, first);
    };
  }
  static runtime_options as_before(const cadre::detail::peer_facts& facts, runtime_options options) {
    options.threads = facts.threads;
    options.resources = facts.resources;
    options.gpus = facts.gpus;
    return options;
  }
  static void check_that_all_are_one(const std::vector<detail::introduction>& all) {
    std::string others;
    for (std::size_t r = 0; r < all.size(); ++r)
      if (!all[r].is_same_program(all[0]))
        others += (others.empty() ? "rank " : ", ") + std::to_string(r) + " on " + all[r].host.data();
    if (!others.empty()) throw different_programs(others + " from rank 0 on " + all[0].host.data());
  }

  void forget(const std::string& name, const cadre::detail::actor_place& where) {
    if (rank() == 0 && where.may_move())
      cadre::detail::forget_actor_request::forget(*job_, where, name);
    else if (rank() == 0)
      job_->names().drop(name, where);
    else if (where.may_move())
      job_->ask<cadre::detail::forget_actor_request>(0, {}, false, [&](output_archive& out) { out(where, name); });
    else
      job_->ask<cadre::detail::name_request>(0, {}, false, [&](output_archive& out) {
        out(cadre::detail::name_question::drop, name, std::string(), where);
      });
  }

  // Until nothing goes on anywhere and nothing is on its way: two looks at all ranks, one after the other, that see the same
  // and as much received as sent (F. Mattern, Algorithms for distributed termination detection, 1987). What was on its way to
  // or from a rank that has died nobody can count: without it. Where what goes on waits for resources, the actors end that
  // hold some, then placement groups.
  void finish() {
    using activity = cadre::detail::serving_job::activity;
    std::vector<activity> before;
    for (;;) {
      std::vector<activity> now;
      activity sum{.idle = true, .still = true};
      bool all_live = true;
      for (int r = 0; r < job_->way().members(); ++r) {
        if (!job_->is_alive(r)) {
          all_live = false;
          continue;
        }
        try {
          now.push_back(r == 0 ? job_->look() : ask_for_activity(r));
        } catch (const error&) {  // it has died just now
          all_live = false;
          continue;
        }
        sum.sent += now.back().sent;
        sum.received += now.back().received;
        sum.idle = sum.idle && now.back().idle;
        sum.still = sum.still && now.back().still;
        sum.waiting += now.back().waiting;
      }
      const bool steady = (sum.sent == sum.received || !all_live) && now == before;
      const bool freed = steady && sum.still && sum.waiting != 0 && free_resources(now);
      if (steady && sum.idle && !freed) break;
      before = std::move(now);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    if (respawns_) respawns_->end();
    job_->end_others();
  }
  // False if nothing holds any.
  bool free_resources(const std::vector<cadre::detail::serving_job::activity>& now) {
    bool any = false;
    for (const cadre::detail::serving_job::activity& a : now) any = any || a.holds;
    if (!any) return core().remove_some_groups();
    core().end_actors_that_hold();
    for (int r = 1; r < job_->way().members(); ++r) {
      try {
        if (job_->is_alive(r)) job_->ask<cadre::detail::end_holders_request>(r, {}, false, [](output_archive&) {});
      } catch (const error&) {  // it has died just now
      }
    }
    return true;
  }
  cadre::detail::serving_job::activity ask_for_activity(int r) {
    return cadre::detail::ask<cadre::detail::activity_request, cadre::detail::serving_job::activity>(
               *job_, r, {.counts = false}, false, "the end of the job", false, {}, [](output_archive&) {})
        .get();
  }

  std::shared_ptr<cadre::detail::serving_job> job_;
  std::shared_ptr<detail::respawns> respawns_;  // on rank 0
};

}  // namespace mpi

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/run.hpp ----
#ifndef CADRE_MPI_RUN_HPP
#define CADRE_MPI_RUN_HPP

#include <signal.h>

#include <concepts>
#include <cstddef>
#include <cstdio>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace mpi {

/// cadre::run() for a job of several ranks: under mpirun rank 0 calls the program, and the others run what it, and the tasks
/// and actors of the job, give them to do. Without mpirun it is cadre::run(), with the GPUs that are found. Under mpirun
/// --enable-recovery a process that takes the place of a rank that has died begins with the same main, and comes here.
/// SIGPIPE is ignored, unless it is handled already: it would come of a rank that dies. Warnings and errors that are logged,
/// as the death of a rank, go to stderr if there is no log sink. The heap keeps up to 64 MiB that are free, for large arguments
/// that follow one another: see keep_free_memory().
template <class Program>
  requires std::invocable<Program&, cadre::runtime&>
int run(int argc, char** argv, Program&& program, runtime_options options = {}) {
  if (!launched()) return cadre::run(argc, argv, program, detail::share_of_one(std::move(options)));
  struct sigaction pipes {};
  if (::sigaction(SIGPIPE, nullptr, &pipes) == 0 && pipes.sa_handler == SIG_DFL) ::signal(SIGPIPE, SIG_IGN);
  keep_free_memory(std::size_t{64} << 20);
  if (!log_enabled(log_level::error))  // nobody listens
    set_log_sink(
        [](const log_record& r) {
          std::fprintf(stderr, "%.*s\n", static_cast<int>(r.message.size()), r.message.data());  // the program's own
        },
        log_level::warning);
  const std::string name = detail::take_place_name();  // before others are started
  return cadre::detail::run_main(argc, argv, [&]() -> int {
    detail::runs_main = true;
    if (!name.empty()) {
      detail::list_requests();
      runtime rt(detail::place_taken(name), std::move(options));
      rt.serve();
      return 0;
    }
    runtime rt(std::move(options));
    if (rt.rank() == 0) return cadre::detail::run_program(program, rt);
    rt.serve();
    return 0;
  });
}

}  // namespace mpi

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi.hpp ----
#ifndef CADRE_MPI_HPP
#define CADRE_MPI_HPP

#endif

#endif
