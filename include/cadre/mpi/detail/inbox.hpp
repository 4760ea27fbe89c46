#ifndef CADRE_MPI_DETAIL_INBOX_HPP
#define CADRE_MPI_DETAIL_INBOX_HPP

#include <cadre/mpi/detail/batch.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/environment.hpp>

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
