#ifndef CADRE_COMM_DETAIL_THREAD_GROUP_HPP
#define CADRE_COMM_DETAIL_THREAD_GROUP_HPP

#include <cadre/comm/detail/control_block.hpp>
#include <cadre/comm/detail/node_collectives.hpp>
#include <cadre/comm/error.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/os/futex.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Threads of one process see all of each other's memory.
struct thread_peers {
  static constexpr auto scope = futex::scope::process;
  static constexpr bool share_address_space = true;
  static constexpr std::chrono::nanoseconds nap = std::chrono::nanoseconds::max();
  static constexpr std::size_t stage_bytes = 0;  // every buffer is reached

  static int processors() noexcept {
    static const int n = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    return n;
  }
  static int rank_of(int rank) noexcept { return rank; }
  static std::string_view whereabouts(int) noexcept { return {}; }
  static void poll(control_block&) noexcept {}
  static void announce(break_reason, std::uint64_t, std::string_view) noexcept {}
  static place locate(const void* data, std::size_t) noexcept { return {1, reinterpret_cast<std::uintptr_t>(data)}; }
  static std::byte* reach(int, place where) noexcept { return reinterpret_cast<std::byte*>(where.offset); }
};

/// What a team of threads shares. A template so that only those who make a team pay to compile it.
template <class Peers = thread_peers>
class thread_group {
 public:
  explicit thread_group(int ranks) : memory_(::operator new(control_block::bytes(ranks), alignment)), block_(nullptr) {
    block_ = control_block::create(memory_.get(), ranks);
  }

  [[nodiscard]] control_block& block() noexcept { return *block_; }
  [[nodiscard]] Peers& peers() noexcept { return peers_; }

  void abort(std::string_view why) noexcept {
    block_->break_with(break_reason::aborted, 0, why);
    futex::wake_all(block_->gate, Peers::scope);
  }

  /// The group that the split of this number made for `color`: made by the first of its members that asks.
  [[nodiscard]] std::shared_ptr<thread_group> child(std::uint64_t split, int color, int members) {
    if (color < 0) return std::make_shared<thread_group>(1);
    const std::lock_guard lock(mutex_);
    auto& [group, missing] = children_[{split, color}];
    if (!group) {
      group = std::make_shared<thread_group>(members);
      missing = members;
    }
    auto found = group;
    if (--missing == 0) children_.erase({split, color});
    return found;
  }

 private:
  static constexpr std::align_val_t alignment{64};
  struct release {
    void operator()(void* memory) const noexcept { ::operator delete(memory, alignment); }
  };

  std::unique_ptr<void, release> memory_;
  control_block* block_;
  Peers peers_;
  std::mutex mutex_;
  std::map<std::pair<std::uint64_t, int>, std::pair<std::shared_ptr<thread_group>, int>> children_;
};

struct split_place {
  int members = 0;  // ranks of this color
  int rank = 0;     // this rank's number among them
};

/// Where this rank comes to stand in a split, from everybody's color and key.
template <class Communicator>
split_place members_of_split(Communicator& comm, int color, int key) {
  struct wish {
    int color, key;
  };
  if (color < 0) {
    (void)comm.all_gather(wish{color, key});
    return {1, 0};
  }
  split_place found;
  const auto wishes = comm.all_gather(wish{color, key});
  for (int r = 0; r < comm.world_size(); ++r) {
    const wish& other = wishes[static_cast<std::size_t>(r)];
    if (other.color != color) continue;
    ++found.members;
    if (other.key < key || (other.key == key && r < comm.rank())) ++found.rank;
  }
  return found;
}

/// Of the errors of a team's ranks the one to show: the first that is not the consequence of another's.
class first_failure {
 public:
  void note(const std::exception_ptr& error) noexcept {
    bool consequence = false;
    try {
      std::rethrow_exception(error);
    } catch (const communicator_aborted&) {
      consequence = true;
    } catch (...) {}
    const std::lock_guard lock(mutex_);
    if (!error_ || (consequence_ && !consequence)) {
      error_ = error;
      consequence_ = consequence;
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
  bool consequence_ = false;
};

inline std::string describe_failure(int rank, const std::exception_ptr& error) noexcept try {
  const std::string who = "rank " + std::to_string(rank) + " threw";
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return who + ": " + e.what();
  } catch (...) {
    return who + " something that is no std::exception";
  }
} catch (...) {
  return {};
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif
