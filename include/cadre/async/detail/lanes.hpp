#ifndef CADRE_ASYNC_DETAIL_LANES_HPP
#define CADRE_ASYNC_DETAIL_LANES_HPP

#include <cadre/async/detail/barrier.hpp>
#include <cadre/async/detail/deque.hpp>
#include <cadre/async/detail/fetch_ahead.hpp>
#include <cadre/async/detail/task.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A queue of tasks that one thread pushes and any may take. Thread and pool both keep it; the thread may leave it to the
/// next one, with what it has pushed.
class lane {
 public:
  static constexpr std::uint32_t by_pool = 1, by_thread = 2;

  work_deque<task> queue;

  /// By its thread. A read of who sleeps may follow: it comes after the push, or else who falls asleep is told by stop_flow()
  /// to make the barrier. False if there is no memory for the queue to grow.
  [[nodiscard]] bool push(task* t) noexcept {
    if (!queue.push(t)) return false;
    uneven_barrier::frequent();
    if (flows_.load(std::memory_order_acquire)) return true;
    if (++pushes_ % burst == 0)
      flows_.exchange(true, std::memory_order_seq_cst);
    else
      uneven_barrier::full();
    return true;
  }
  /// By others, after a barrier. True if the thread has made none at its last pushes: uneven_barrier::seldom() is to come
  /// before a look at what it has pushed.
  [[nodiscard]] bool stop_flow() noexcept {
    if (!flows_.load(std::memory_order_seq_cst)) return false;
    flows_.store(false, std::memory_order_seq_cst);
    return true;
  }

  [[nodiscard]] bool take_over() noexcept {
    return (kept_.load(std::memory_order_relaxed) & by_thread) == 0 &&
           (kept_.fetch_or(by_thread, std::memory_order_acq_rel) & by_thread) == 0;
  }
  [[nodiscard]] bool has_lost_its_pool() const noexcept { return kept_.load(std::memory_order_acquire) == by_thread; }
  void leave(std::uint32_t who) noexcept {
    if (kept_.fetch_and(~who, std::memory_order_acq_rel) == who) delete this;
  }

 private:
  static constexpr std::uint32_t burst = 8;

  std::atomic<std::uint32_t> kept_{by_pool | by_thread};
  // Many tasks have come since the workers last all fell asleep: their thread makes no barrier for each. Who submits one
  // at a time makes it, as a worker that falls asleep after each would otherwise have the kernel interrupt all threads.
  std::atomic<bool> flows_{false};
  std::uint32_t pushes_ = 0;  // the thread's own
};

/// The tasks that come into a pool from outside: each thread that submits some has a lane, so that a push of many is two stores
/// and those who take disturb it once for many tasks. In each of them first in, first out; among them there is no order.
class lanes {
 public:
  lanes() = default;
  lanes(const lanes&) = delete;
  lanes& operator=(const lanes&) = delete;
  ~lanes() {
    for (std::uint32_t i = 0; i < used(); ++i) at(i).leave(lane::by_pool);
  }

  /// Once, before the first push: whose these are.
  void open(pool_id pool) noexcept { pool_ = pool; }

  /// As lane::push(). False also if this thread gets no lane: there are enough, or it has some of so many pools, or
  /// `may_begin()` is false, asked before its first push and now and then after a refusal.
  template <class MayBegin>
  [[nodiscard]] bool push(task* t, MayBegin may_begin) noexcept {
    thread_context& context = this_context();
    for (const held_lane& h : context.lanes)
      if (h.pool == pool_ && h.where != nullptr) return h.where->push(t);
    if (pool_ == no_pool || context.refusals++ % 64 != 0 || !may_begin()) return false;
    lane* const mine = begin(context);
    return mine != nullptr && mine->push(t);
  }

  /// Up to `most`, the oldest of some lanes; `turn`, a worker's own, goes through these.
  std::size_t take(task** out, std::size_t most, std::uint32_t& turn) noexcept {
    const std::uint32_t n = used();
    std::size_t taken = 0;
    for (std::uint32_t i = 0; i < n && taken < most; ++i) {
      if (++turn >= n) turn = 0;
      taken += at(turn).queue.steal(out + taken, most - taken);
    }
    for (std::size_t i = 0; i < taken; ++i) fetch(out[i]);
    return taken;
  }

  [[nodiscard]] bool empty() const noexcept {
    const std::uint32_t n = used();
    for (std::uint32_t i = 0; i < n; ++i)
      if (!at(i).queue.empty()) return false;
    return true;
  }

  /// As lane::stop_flow(), of any.
  [[nodiscard]] bool stop_flow() noexcept {
    bool any = false;
    for (std::uint32_t i = 0; i < used(); ++i) any |= at(i).stop_flow();
    return any;
  }

  /// How many have been made. Sequentially consistent, as is the store by who makes one: who sees it missing has looked before
  /// the first push.
  [[nodiscard]] std::uint32_t used() const noexcept { return used_.load(std::memory_order_seq_cst); }

  /// By a thread that ends: it gets no further ones.
  static void leave_all() noexcept {
    thread_context& context = this_context();
    context.is_ending = true;
    for (held_lane& h : context.lanes)
      if (lane* const left = std::exchange(h, {}).where) left->leave(lane::by_thread);
  }

 private:
  static constexpr std::uint32_t most_lanes = 32;

  [[nodiscard]] lane& at(std::uint32_t i) const noexcept { return *all_[i].load(std::memory_order_acquire); }

  // A lane for this thread; null if there is none to be had.
  [[gnu::noinline]] lane* begin(thread_context& context) noexcept {
    held_lane* const place = free_place(context);
    if (place == nullptr) return nullptr;
    lane* const mine = take_over_or_make_one();
    if (mine == nullptr) return nullptr;
    *place = {pool_, mine};
    context.refusals = 0;
    static thread_local const at_thread_end leave;
    static_cast<void>(leave);
    return mine;
  }

  static held_lane* free_place(thread_context& context) noexcept {
    if (context.is_ending) return nullptr;
    for (held_lane& h : context.lanes)
      if (h.where == nullptr) return &h;
    for (held_lane& h : context.lanes)
      if (h.where->has_lost_its_pool()) {
        std::exchange(h, {}).where->leave(lane::by_thread);
        return &h;
      }
    return nullptr;
  }

  lane* take_over_or_make_one() noexcept {
    for (std::uint32_t i = 0; i < used(); ++i)
      if (at(i).take_over()) return &at(i);
    try {
      auto made = std::make_unique<lane>();
      const std::lock_guard lock(growing_);
      const std::uint32_t n = used();
      if (n == most_lanes) return nullptr;
      all_[n].store(made.get(), std::memory_order_release);
      used_.store(n + 1, std::memory_order_seq_cst);
      return made.release();
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }

  struct at_thread_end {
    ~at_thread_end() { leave_all(); }
  };

  pool_id pool_ = no_pool;
  std::atomic<std::uint32_t> used_{0};
  std::mutex growing_;
  std::atomic<lane*> all_[most_lanes] = {};
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
