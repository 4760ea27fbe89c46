#ifndef CADRE_OBSERVE_RANK_HPP
#define CADRE_OBSERVE_RANK_HPP

#include <cadre/config/config.hpp>

#include <unistd.h>

#include <atomic>
#include <cstdint>

CADRE_NAMESPACE_BEGIN

namespace detail {

inline constinit std::atomic<int> process_rank_{0};

inline int& thread_rank() noexcept {
  static constinit thread_local int rank = -1;
  return rank;
}

/// The kernel's thread id, as top and gdb show it.
inline std::uint32_t thread_id() noexcept {
  static constinit thread_local std::uint32_t id = 0;
  if (id == 0) id = static_cast<std::uint32_t>(::gettid());
  return id;
}

}  // namespace detail

/// Says which rank of the job this process is, for log records and events. 0 unless set; an MPI runtime sets it.
inline void set_process_rank(int rank) noexcept { detail::process_rank_.store(rank, std::memory_order_relaxed); }

/// The rank that log records and events of the calling thread carry: that of its innermost rank_scope, else the
/// process's.
[[nodiscard]] inline int current_rank() noexcept {
  const int own = detail::thread_rank();
  return own >= 0 ? own : detail::process_rank_.load(std::memory_order_relaxed);
}

/// While it lives, the calling thread speaks for `rank`: threads that are ranks of a local team have one each. Ends on
/// the thread on which it began.
class [[nodiscard]] rank_scope {
 public:
  explicit rank_scope(int rank) noexcept : before_(detail::thread_rank()) { detail::thread_rank() = rank; }
  ~rank_scope() { detail::thread_rank() = before_; }
  rank_scope(const rank_scope&) = delete;
  rank_scope& operator=(const rank_scope&) = delete;

 private:
  int before_;
};

CADRE_NAMESPACE_END

#endif
