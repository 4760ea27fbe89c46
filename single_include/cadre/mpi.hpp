// cadre 0.1.0: the adapter mpi.hpp in one header
// Licensed under the Apache License, Version 2.0. Written by single_include/generate.py from include/cadre; change it there.
#ifndef CADRE_SINGLE_INCLUDE_MPI_HPP
#define CADRE_SINGLE_INCLUDE_MPI_HPP

#include "cadre.hpp"

// ---- cadre/mpi/detail/process_watch.hpp ----
#ifndef CADRE_MPI_DETAIL_PROCESS_WATCH_HPP
#define CADRE_MPI_DETAIL_PROCESS_WATCH_HPP

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <thread>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Sees that another process, not a child, has ended. Where the kernel has no pidfd (before 5.3) it never does.
class process_watch {
 public:
  explicit process_watch(int process) noexcept
      : file_(static_cast<int>(::syscall(SYS_pidfd_open, process, 0))), gone_(!file_ && errno == ESRCH) {}

  [[nodiscard]] bool ended() const noexcept {
    if (!file_) return gone_;
    pollfd about{.fd = file_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&about, 1, 0) == 1;
  }

  /// After it has ended: " by signal 9", " with exit code 1", or nothing where the kernel does not tell (before 6.15).
  /// The kernel knows when the parent has taken the exit code, which is waited for, 50 ms at most.
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
      about.mask = exit_bit;
      if (::ioctl(file_.get(), _IOWR(0xFF, 11, decltype(about)), &about) != 0) break;
      if (about.mask & exit_bit) {
        if (WIFSIGNALED(about.exit_code)) return " by signal " + std::to_string(WTERMSIG(about.exit_code));
        return " with exit code " + std::to_string(WEXITSTATUS(about.exit_code));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return {};
  }

 private:
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

// ---- cadre/mpi/error.hpp ----
#ifndef CADRE_MPI_ERROR_HPP
#define CADRE_MPI_ERROR_HPP

#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace mpi {

/// Thrown (1101, 1102) when MPI reports an error or is not in a state that allows what was asked.
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

 private:
  mpi_error(int number, std::string_view message) : error("mpi", number, message) {}
};

namespace detail {
inline void check(int code, std::string_view function) {
  if (code != MPI_SUCCESS) throw mpi_error::call_failed(function, code);
}
}  // namespace detail

}  // namespace mpi

CADRE_NAMESPACE_END

#endif

// ---- cadre/mpi/environment.hpp ----
#ifndef CADRE_MPI_ENVIRONMENT_HPP
#define CADRE_MPI_ENVIRONMENT_HPP

#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
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

/// MPI in this process: initialised here if the host did not, and then finalised at exit, provided that every
/// communicator was destroyed before. If one is alive, exit was called in the middle of the job: MPI is left as it is, so
/// that mpirun notices and ends the job, in place of a finalisation that would wait for ranks that never come.
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
  void keep(std::shared_ptr<void> memory) { kept_.push_back(std::move(memory)); }

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
    } else {
      check(::MPI_Query_thread(&level), "MPI_Query_thread");
    }
    if (level < MPI_THREAD_SERIALIZED)
      throw mpi_error::unusable(
          "MPI was initialised for one thread only: call MPI_Init_thread with MPI_THREAD_SERIALIZED, or let cadre "
          "initialise MPI");
  }
  ~environment() {
    if (ours_ && alive_.load() == 0 && !finalized()) ::MPI_Finalize();
  }

  std::mutex mutex_;
  std::atomic<int> alive_{0};
  bool ours_ = false;
  std::vector<std::shared_ptr<void>> kept_;
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

// ---- cadre/mpi.hpp ----
#ifndef CADRE_MPI_HPP
#define CADRE_MPI_HPP

#endif

#endif
