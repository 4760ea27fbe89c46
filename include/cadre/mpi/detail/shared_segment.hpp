#ifndef CADRE_MPI_DETAIL_SHARED_SEGMENT_HPP
#define CADRE_MPI_DETAIL_SHARED_SEGMENT_HPP

#include <cadre/os/mapping.hpp>

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
