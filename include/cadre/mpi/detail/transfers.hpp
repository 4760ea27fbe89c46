#ifndef CADRE_MPI_DETAIL_TRANSFERS_HPP
#define CADRE_MPI_DETAIL_TRANSFERS_HPP

#include <cadre/actor/detail/link.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/detail/outbox.hpp>

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
