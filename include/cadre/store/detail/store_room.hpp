#ifndef CADRE_STORE_DETAIL_STORE_ROOM_HPP
#define CADRE_STORE_DETAIL_STORE_ROOM_HPP

#include <cadre/core/chrono.hpp>
#include <cadre/os/futex.hpp>
#include <cadre/store/detail/object_moves.hpp>
#include <cadre/store/detail/object_table.hpp>
#include <cadre/store/detail/spiller.hpp>
#include <cadre/store/detail/store_counters.hpp>
#include <cadre/store/detail/store_lock.hpp>
#include <cadre/store/detail/store_report.hpp>
#include <cadre/store/error.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// How objects get memory: from what is free, and if that is not enough from the dead, from what may be dropped, from what
/// can go to disk, and from others in time. Thread-safety: all functions, from any thread, without the lock of the store.
class store_room {
 public:
  using clock = std::chrono::steady_clock;
  using time = clock::time_point;
  static constexpr auto slice = std::chrono::milliseconds(50);  // after which a waiter looks whether others are alive

  /// So long from now; nanoseconds::max() is for ever.
  static time in(std::chrono::nanoseconds timeout) noexcept {
    const time now = clock::now();
    return timeout > time::max() - now ? time::max() : now + timeout;
  }

  /// Throws spill_folder_unusable (312).
  store_room(object_table& table, std::chrono::nanoseconds timeout)
      : table_(table), head_(table.head()), timeout_(timeout) {
    if (head_.spill_dir[0] != 0) spiller_.emplace(table_);
  }

  /// Calls `take` under the lock until it has what it wants: at once, when those who died have been swept, when others have
  /// been dropped or moved to disk, and whenever something was freed. After .put_timeout, or at the deadline if that comes
  /// before, it throws store_full (302), or why nothing could be moved to disk: spill_failed (310).
  template <class Take>
  void find(std::uint64_t bytes, Take&& take, time latest = time::max()) {
    std::exception_ptr spill_error;
    for (time deadline{};;) {
      std::uint32_t seen = 0;
      object_table::shortage missing{};
      {
        store_lock lock(table_);
        if (take(missing) || find_more(bytes, [&] { return take(missing); })) {
          advance_clock(bytes);
          return;
        }
        seen = head_.room.load(std::memory_order_seq_cst);
        head_.room_waiters.store(1, std::memory_order_seq_cst);
      }
      if (missing == object_table::shortage::memory && bytes <= head_.capacity && spiller_) {
        try {
          if (spiller_->make_room(bytes)) continue;
        } catch (const cadre::spill_error&) {
          spill_error = std::current_exception();
        }
      }
      if (deadline == time{}) deadline = std::min(in(timeout_), latest);
      wait_for_room(seen, bytes, missing, deadline, spill_error);
    }
  }
  /// Reads an object that is on disk back, if nobody else does. Throws as find(), spill_corrupt (311), object_gone (301).
  void restore(std::uint32_t i, time deadline) {
    {
      store_lock lock(table_);
      if (!spiller_ || !object_moves(table_).begin_restore(i)) return;
    }
    const std::uint64_t bytes = table_.entry(i).bytes;
    bool damaged = false;
    try {
      find(
          bytes,
          [&](object_table::shortage& missing) {
            missing = object_table::shortage::memory;
            if (table_.word(i).state() != object_state::restoring)
              throw object_gone(describe_end(table_, i, table_.word(i)));
            return table_.attach(i, bytes);
          },
          deadline);
      CADRE_STORE_STEP(restore_allocated);
      const std::uint64_t offset = table_.entry(i).offset.load(std::memory_order_relaxed);
      table_.memory().make_present(offset, bytes);
      try {
        spiller_->read(i, {table_.memory().data() + offset, static_cast<std::size_t>(bytes)});
      } catch (const spill_corrupt&) {
        damaged = true;
        throw;
      }
    } catch (...) {
      store_lock lock(table_, store_lock::patiently{});
      if (damaged) table_.end(i, object_end::damaged);
      object_moves(table_).give_up_restore(i);
      throw;
    }
    CADRE_STORE_STEP(restore_read);
    store_lock lock(table_, store_lock::patiently{});
    object_moves(table_).commit_restore(i);
    counters_.restored_bytes.add(bytes);
  }

  /// Something of so many bytes was put: what is used hereafter is younger.
  void advance_clock(std::uint64_t bytes) noexcept {
    // Of two at once one may be lost: it is an age.
    const std::uint64_t since = put_since_tick_.load(std::memory_order_relaxed) + bytes;
    const bool tick = since >= head_.capacity / 64;
    put_since_tick_.store(tick ? 0 : since, std::memory_order_relaxed);
    if (tick) head_.clock.fetch_add(1, std::memory_order_relaxed);
  }

  /// Whether files on disk may have become needless.
  [[nodiscard]] bool is_untidy() const noexcept {
    return spiller_ && head_.dead_files.load(std::memory_order_relaxed) != 0;
  }
  void tidy() noexcept {
    if (is_untidy()) spiller_->remove_dead_files();
  }

 private:
  // Of what is kept, of the dead, of what may be dropped.
  template <class Take>
  [[gnu::noinline]] bool find_more(std::uint64_t bytes, Take&& take) {
    head_.scarce.store(1, std::memory_order_relaxed);
    return (table_.release_kept() && take()) || (sweep_dead(table_) != 0 && take()) ||
           (bytes <= head_.capacity && evict(take));
  }
  template <class Take>
  bool evict(Take&& take) {
    std::uint32_t dropped = 0;
    const bool enough = table_.evict(dropped, take);
    counters_.evicted.add(dropped);
    return enough;
  }
  [[gnu::cold]] void wait_for_room(std::uint32_t seen, std::uint64_t bytes, object_table::shortage missing,
                                   time deadline, const std::exception_ptr& spill_error) {
    const time now = clock::now();
    const bool never = missing == object_table::shortage::memory && bytes > head_.capacity;
    if (!never && now < deadline) {
      counters_.waits.add();
      futex::wait_until(head_.room, seen, std::min(deadline, now + slice), futex::scope::shared);
      return;
    }
    if (spill_error) std::rethrow_exception(spill_error);
    store_lock lock(table_);
    throw store_full(missing == object_table::shortage::entries ? describe_too_many(table_)
                                                                : describe_full(table_, bytes));
  }

  object_table& table_;
  store_header& head_;
  std::chrono::nanoseconds timeout_;
  const store_counters& counters_ = store_counters::get();
  std::optional<spiller> spiller_;
  std::atomic<std::uint64_t> put_since_tick_{0};
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
