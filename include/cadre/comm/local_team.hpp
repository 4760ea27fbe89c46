#ifndef CADRE_COMM_LOCAL_TEAM_HPP
#define CADRE_COMM_LOCAL_TEAM_HPP

#include <cadre/comm/collectives.hpp>
#include <cadre/comm/communicator.hpp>
#include <cadre/comm/detail/offspring.hpp>
#include <cadre/comm/detail/thread_group.hpp>
#include <cadre/comm/detail/zeroed_memory.hpp>
#include <cadre/comm/fwd.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/os/thread.hpp>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// A rank of a team of threads: a communicator whose collectives read and write the ranks' buffers where they lie.
/// Made by local_team::run and by split; move-only; each rank's object is used by one thread at a time. A rank that
/// destroys its communicator has left: peers that wait for it get communicator_aborted.
///
/// A template so that only those who make one pay to compile it; its name is local_communicator.
template <class Group>
class basic_local_communicator : public collectives<basic_local_communicator<Group>> {
 public:
  /// Rank 0 of 1: for code that wants a communicator and has no team.
  basic_local_communicator() : basic_local_communicator(std::make_shared<Group>(1), 0) {}
  basic_local_communicator(basic_local_communicator&&) noexcept = default;
  basic_local_communicator& operator=(basic_local_communicator&&) noexcept = default;

  [[nodiscard]] int rank() const { return end_->calls.member().rank(); }
  [[nodiscard]] int world_size() const { return end_->calls.member().ranks(); }
  void barrier() { meet(detail::operation::barrier); }
  void barrier(std::chrono::nanoseconds timeout) { end_->calls.meet({.what = detail::operation::barrier}, timeout); }

  void all_reduce_bytes(void* data, std::size_t count, data_type type, reduce_op op) {
    end_->calls.all_reduce(data, detail::reduction(detail::operation::all_reduce, count, type, op, world_size()));
  }
  void broadcast_bytes(void* data, std::size_t bytes, int root) {
    end_->calls.broadcast(data, detail::broadcasting(bytes, root, world_size()));
  }
  void reduce_scatter_bytes(const void* in, void* out, std::size_t out_count, data_type type, reduce_op op) {
    end_->calls.reduce_scatter(in, out,
                               detail::reduction(detail::operation::reduce_scatter, out_count, type, op, world_size()));
  }
  void all_gather_bytes(const void* in, void* out, std::size_t in_bytes) {
    end_->calls.all_gather(in, out, detail::gathering(in_bytes, world_size()));
  }

  /// Every rank calls it; the memory is the rank's own, and ordinary memory is reduced as fast. Throws std::bad_alloc.
  [[nodiscard]] std::shared_ptr<std::byte> allocate_bytes(std::size_t bytes) {
    meet(detail::operation::allocate);
    return detail::zeroed_memory(bytes);
  }

  /// Ranks with the same color form a communicator of their own, ordered by key, then by rank here. A rank with a
  /// negative color gets one of which it is the only member.
  [[nodiscard]] basic_local_communicator split(int color, int key) {
    meet(detail::operation::split);
    const auto [members, child_rank] = detail::members_of_split(*this, color, key);
    const auto number = end_->calls.member().call().sequence;
    basic_local_communicator child(end_->group->child(number, color, members), child_rank);
    child.set_timeout(end_->calls.member().timeout());
    end_->children.add(child.end_);
    return child;
  }

  /// Any thread may call it, as long as the communicator lives. It reaches the communicators that this rank has split
  /// from this one too.
  void abort(std::string_view why) noexcept { end_->abort(why); }
  void set_timeout(std::chrono::nanoseconds timeout) { end_->calls.member().set_timeout(timeout); }
  [[nodiscard]] std::string_view backend() const { return "threads"; }

 private:
  friend class local_team;

  struct end {
    end(std::shared_ptr<Group> shared, int rank)
        : group(std::move(shared)), calls(group->block(), group->peers(), rank) {}
    end(const end&) = delete;
    end& operator=(const end&) = delete;
    ~end() { calls.member().leave(); }
    void abort(std::string_view why) noexcept {
      calls.member().abort(why);
      children.abort(why);
    }
    std::shared_ptr<Group> group;
    detail::node_collectives<detail::thread_peers> calls;
    detail::offspring<end> children;
  };

  void meet(detail::operation what) { end_->calls.meet({.what = what}, end_->calls.member().timeout()); }

  basic_local_communicator(std::shared_ptr<Group> group, int rank)
      : end_(std::make_shared<end>(std::move(group), rank)) {}

  std::shared_ptr<end> end_;  // an abort of the parent may hold it for a moment
};

/// Threads as ranks:
///
///     cadre::local_team team{4};
///     team.run([&](cadre::local_communicator& comm) { comm.all_reduce(gradient, cadre::sum); });
///
/// A team holds no threads between runs; one team may run several functions at once.
class local_team {
 public:
  /// Throws collective_argument_error (405) unless there is at least one rank.
  explicit local_team(int world_size) : world_size_(world_size) {
    if (world_size < 1)
      throw collective_argument_error::bad_argument("a team needs at least one rank, not " +
                                                    std::to_string(world_size));
  }

  [[nodiscard]] int world_size() const noexcept { return world_size_; }

  /// Calls `f(comm)` once per rank, rank 0 on the calling thread and each other on a thread of its own, and waits for
  /// all. Returns what the ranks returned, in rank order, or nothing if f returns nothing. When a rank throws, the
  /// others' collectives throw communicator_aborted (402) with the rank and its error, and run throws what that rank
  /// threw. `f` is shared by the ranks. Throws thread_error (151) when a rank gets no thread: ranks that run already are
  /// told as above, and rank 0 does not begin.
  template <class F>
  auto run(F&& f) const {
    using result = std::invoke_result_t<F&, local_communicator&>;
    if constexpr (std::is_void_v<result>) {
      run_ranks([&](local_communicator& comm) { f(comm); });
    } else {
      static_assert(!std::is_reference_v<result>, "local_team::run: return a value, not a reference");
      std::vector<std::optional<result>> slots(static_cast<std::size_t>(world_size_));
      run_ranks([&](local_communicator& comm) { slots[static_cast<std::size_t>(comm.rank())].emplace(f(comm)); });
      std::vector<result> results;
      results.reserve(slots.size());
      for (auto& slot : slots) results.push_back(*std::move(slot));
      return results;
    }
  }

 private:
  template <class Body>
  void run_ranks(Body&& body) const {
    if (world_size_ == 1) {
      local_communicator alone;
      body(alone);
      return;
    }
    const auto group = std::make_shared<detail::thread_group<>>(world_size_);
    detail::first_failure failure;
    const auto run_rank = [&](int rank) {
      try {
        local_communicator comm(group, rank);
        try {
          body(comm);
        } catch (...) {
          // Noted before the peers are told, so that what they throw in consequence comes later.
          failure.note(std::current_exception());
          comm.abort(detail::describe_failure(rank, std::current_exception()));
        }
      } catch (...) {
        failure.note(std::current_exception());
        group->abort("rank " + std::to_string(rank) + " could not start");
      }
    };
    {
      std::vector<native_thread> threads;  // joined at the end of this block
      try {
        threads.reserve(static_cast<std::size_t>(world_size_ - 1));
        for (int rank = 1; rank < world_size_; ++rank)
          threads.emplace_back("rank " + std::to_string(rank) + " of " + std::to_string(world_size_),
                               [&run_rank, rank] { run_rank(rank); });
        run_rank(0);
      } catch (...) {
        failure.note(std::current_exception());
        group->abort(detail::describe_failure(static_cast<int>(threads.size()) + 1, std::current_exception()));
      }
    }
    failure.rethrow();
  }

  int world_size_;
};

CADRE_NAMESPACE_END

#endif
