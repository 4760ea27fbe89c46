#ifndef CADRE_TRAIN_DETAIL_AGREEMENT_HPP
#define CADRE_TRAIN_DETAIL_AGREEMENT_HPP

#include <cadre/comm/any_communicator.hpp>
#include <cadre/comm/detail/on_behalf_of.hpp>
#include <cadre/train/error.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train::detail {

inline std::string text_of(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "an exception that is not a std::exception";
  }
}

/// Replaces `bytes` on every rank by those of `root`.
template <class Bytes>
void broadcast_sized(any_communicator& comm, Bytes& bytes, int root) {
  bytes.resize(comm.broadcast(bytes.size(), root));
  if (!bytes.empty()) comm.broadcast_bytes(bytes.data(), bytes.size(), root);
}

inline std::string broadcast_text(any_communicator& comm, std::string text, int root) {
  broadcast_sized(comm, text, root);
  return text;
}

/// Runs `f` on rank 0, for trainer::fit. If it throws, so does every rank: rank 0 the original, the others worker_failed
/// with its text.
template <class F>
void on_rank_0(any_communicator& comm, const char* doing, F&& f) {
  const cadre::detail::on_behalf_of fit("trainer::fit");
  std::exception_ptr failure;
  std::string what;
  if (comm.rank() == 0) {
    try {
      f();
    } catch (...) {
      failure = std::current_exception();
      what = text_of(failure);
      if (what.empty()) what = "an exception without a text";
    }
  }
  what = broadcast_text(comm, what, 0);
  if (failure) std::rethrow_exception(failure);
  if (!what.empty()) throw worker_failed("rank 0 failed when " + std::string(doing) + ": " + what);
}

/// What each rank says when it reports, and when it has returned: the same collective, so that a rank that does the one
/// while others do the other is noticed by all, at once.
struct meeting {
  enum purpose : std::uint32_t { report, end };
  std::uint64_t reports;
  purpose why;
  std::uint32_t stop;
};
static_assert(sizeof(meeting) == 16);

/// "rank 1", "ranks 0, 2"
inline std::string name_ranks(const std::vector<meeting>& all, meeting::purpose why) {
  std::string names;
  int count = 0;
  for (std::size_t rank = 0; rank < all.size(); ++rank)
    if (all[rank].why == why) names += (count++ ? ", " : "") + std::to_string(rank);
  return (count > 1 ? "ranks " : "rank ") + names;
}

inline void require_same_purpose(const std::vector<meeting>& all) {
  for (const meeting& m : all)
    if (m.why != all[0].why)
      throw reports_diverge(name_ranks(all, meeting::end) + " returned from the train function after " +
                            std::to_string(m.reports) + " reports, while " + name_ranks(all, meeting::report) +
                            " made another report; every rank must report equally often");
}

}  // namespace train::detail
CADRE_NAMESPACE_END

#endif
