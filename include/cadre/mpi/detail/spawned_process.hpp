#ifndef CADRE_MPI_DETAIL_SPAWNED_PROCESS_HPP
#define CADRE_MPI_DETAIL_SPAWNED_PROCESS_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/detail/place_taken.hpp>
#include <cadre/mpi/detail/process_watch.hpp>
#include <cadre/mpi/detail/watchdog.hpp>
#include <cadre/mpi/environment.hpp>
#include <cadre/mpi/error.hpp>

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
