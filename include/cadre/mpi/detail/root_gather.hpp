#ifndef CADRE_MPI_DETAIL_ROOT_GATHER_HPP
#define CADRE_MPI_DETAIL_ROOT_GATHER_HPP

#include <cadre/comm/error.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/environment.hpp>

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
