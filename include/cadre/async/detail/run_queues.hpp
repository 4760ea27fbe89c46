#ifndef CADRE_ASYNC_DETAIL_RUN_QUEUES_HPP
#define CADRE_ASYNC_DETAIL_RUN_QUEUES_HPP

#include <cadre/async/detail/barrier.hpp>
#include <cadre/async/detail/inbox.hpp>
#include <cadre/async/detail/lanes.hpp>
#include <cadre/async/detail/spin.hpp>
#include <cadre/async/detail/task.hpp>
#include <cadre/async/detail/worker.hpp>
#include <cadre/async/task_options.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Where the tasks of a pool wait for a thread: in the queue of the worker that submitted them, or, from outside, in that of
/// the thread, or one of three by priority. Says what a worker is to run next; who sleeps and wakes is the scheduler's.
class run_queues {
 public:
  explicit run_queues(std::size_t most_workers) : workers_(new std::unique_ptr<worker>[most_workers]) {}

  /// Threads outside are to have queues of their own in this pool. Else what comes from any of them is run in the order in
  /// which it came.
  void open_lanes(pool_id pool) noexcept { lanes_.open(pool); }
  /// By a thread that is about to fall asleep; see lane::stop_flow().
  [[nodiscard]] bool stop_flow() noexcept { return lanes_.stop_flow(); }

  /// One after the other.
  worker& add_worker(scheduler& home) {
    const std::uint32_t i = size();
    workers_[i] = std::make_unique<worker>(home, i);
    size_.store(i + 1, std::memory_order_seq_cst);
    return *workers_[i];
  }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_.load(std::memory_order_seq_cst); }
  [[nodiscard]] worker& at(std::size_t i) const noexcept { return *workers_[i]; }

  /// A read of who sleeps may follow: it comes after the push. `own`: the worker of this pool that pushes, or null.
  void push(worker* own, task* t) noexcept {
    // What a thread has put into the common queue comes before the rest of its own.
    if (own != nullptr ? push_own(*own, t) : lanes_.push(t, [this] { return from_outside(priority::normal).empty(); }))
      return;
    push(t, priority::normal);
  }
  /// Into that worker's own queue. False if there is no memory for it to grow.
  [[nodiscard]] static bool push_own(worker& own, task* t) noexcept {
    if (!own.queue.push(t)) return false;
    uneven_barrier::frequent();
    return true;
  }
  /// tasks[0] will be the first to run.
  void push(worker* own, task* const* tasks, std::size_t n) noexcept {
    if (own != nullptr && own->queue.push(tasks, n))
      uneven_barrier::frequent();
    else
      for (std::size_t i = 0; i < n; ++i) push(own, tasks[i]);
  }
  void push(task* t, priority p) noexcept { from_outside(p).push(t); }

  /// Of what is in this worker's queue, or of high priority.
  [[nodiscard]] task* pop(worker& w) noexcept {
    if (!from_outside(priority::high).empty()) [[unlikely]]
      if (task* t = take_one(from_outside(priority::high))) return t;
    task* const t = w.queue.pop();
    if (w.queue.position() < w.outside) w.outside = w.queue.position();
    return t;
  }

  /// One of the oldest from outside. Others come into this worker's queue, so that it runs them in the order of their
  /// submission and others can steal them; not above a task that waits, where those who wait for that take them for its own.
  [[nodiscard]] task* take_from_outside(worker& w) noexcept {
    task* taken[most_at_once];
    const std::size_t n = take_normal(w, taken, w.waits == 0 ? most_at_once : 1);
    if (n > 1) {
      if (w.queue.push(taken + 1, n - 1))
        w.outside = w.queue.position();
      else  // no memory for the queue to grow
        for (std::size_t i = 1; i < n; ++i) push(taken[i], priority::normal);
    }
    return n != 0 ? taken[0] : pop(w);
  }

  /// From another worker, or of low priority.
  [[nodiscard]] task* steal(worker& w) noexcept {
    const std::uint32_t n = size();
    w.random ^= w.random << 13;
    w.random ^= w.random >> 17;
    w.random ^= w.random << 5;
    for (std::uint32_t i = 0, victim = w.random % n; i < n; ++i, victim = victim + 1 == n ? 0 : victim + 1)
      if (victim != w.index)
        if (task* t = steal_from(workers_[victim]->queue)) return t;
    return take_one(from_outside(priority::low));
  }

  static task* take_one(inbox& from) noexcept {
    task* t = nullptr;
    return from.take(&t, 1) != 0 ? t : nullptr;
  }

  /// Now and then between two tasks; null if nothing has waited for too long. Tasks that beget tasks must not starve the
  /// rest: what has a lower priority, what came from outside, and what lies at the other end of the queue.
  [[nodiscard]] task* take_turn(worker& w) noexcept {
    return ++w.count >= turn || is_overdue(w) ? take_what_waits(w) : nullptr;
  }

  [[nodiscard]] bool has_any(const worker& w) const noexcept { return !w.pinned.empty() || has_any(); }
  [[nodiscard]] bool has_any() const noexcept {
    if (has_any_from_outside()) return true;
    const std::uint32_t n = size();
    for (std::uint32_t i = 0; i < n; ++i)
      if (!workers_[i]->queue.empty()) return true;
    return false;
  }
  [[nodiscard]] bool has_any_from_outside() const noexcept {
    for (const inbox& i : from_outside_)
      if (!i.empty()) return true;
    return !lanes_.empty();
  }

 private:
  static constexpr std::uint32_t turn = 61;        // tasks between two looks at what a worker's own tasks keep waiting
  static constexpr std::size_t most_at_once = 16;  // tasks taken from outside

  // What is alone in a queue its owner is mostly about to run: to move it to another thread would cost both more than it
  // takes, and a chain of small tasks would change its thread with each link.
  static task* steal_from(work_deque<task>& q) noexcept {
    const std::int64_t oldest = q.oldest();
    if (q.size() == 1)
      for (int k = 0; k < 12; ++k) relax();
    return q.oldest() == oldest ? q.steal() : nullptr;
  }

  std::size_t take_normal(worker& w, task** out, std::size_t most) noexcept {
    w.lanes_first = !w.lanes_first;
    if (w.lanes_first)
      if (const std::size_t n = lanes_.take(out, most, w.lane)) return n;
    const std::size_t n = from_outside(priority::normal).take(out, most);
    return n != 0 || w.lanes_first ? n : lanes_.take(out, most, w.lane);
  }

  [[nodiscard]] inbox& from_outside(priority p) noexcept { return from_outside_[static_cast<std::size_t>(p)]; }

  // Whether something from outside has waited for some time while this worker ran what its own tasks had begotten: a turn
  // by count alone would be long in coming if they are long.
  bool is_overdue(worker& w) noexcept {
    if (w.queue.position() <= w.outside ||
        (from_outside(priority::normal).empty() && lanes_.empty() && w.queue.oldest() >= w.outside)) {
      w.overdue_at = 0;
      return false;
    }
    const std::uint64_t now = ticks();
    if (w.overdue_at == 0) w.overdue_at = now + 30'000;  // 10 to 15 us
    return now >= w.overdue_at;
  }

  task* take_what_waits(worker& w) noexcept {
    w.count = 0;
    w.overdue_at = 0;
    if ((++w.turns & 7) == 0)
      if (task* t = take_one(from_outside(priority::low))) return t;
    // If what this worker runs came from outside, only high priority starves others.
    const bool own = w.queue.position() > w.outside;
    if (!own && from_outside(priority::high).empty()) return nullptr;
    if (!own)
      if (task* t = w.queue.pop()) return t;
    // What came from outside and was taken into the queue has waited longer than what is still there.
    if (w.queue.oldest() >= w.outside && (!own || w.turns & 1))
      if (task* t = nullptr; take_normal(w, &t, 1) != 0) return t;
    return w.queue.steal();
  }

  const std::unique_ptr<std::unique_ptr<worker>[]> workers_;
  std::atomic<std::uint32_t> size_{0};
  inbox from_outside_[3];  // by priority
  lanes lanes_;            // of normal priority, each from one thread
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
