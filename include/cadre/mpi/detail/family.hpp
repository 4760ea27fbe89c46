#ifndef CADRE_MPI_DETAIL_FAMILY_HPP
#define CADRE_MPI_DETAIL_FAMILY_HPP

#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/environment.hpp>

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
