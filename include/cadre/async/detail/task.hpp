#ifndef CADRE_ASYNC_DETAIL_TASK_HPP
#define CADRE_ASYNC_DETAIL_TASK_HPP

#include <cadre/config/config.hpp>

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

class scheduler;
class task;

/// What is to happen when a task completes. Lives with whoever waits: on a waiter's stack or inside a later task.
struct continuation {
  using action = task* (*)(continuation&) noexcept;
  explicit continuation(action f) noexcept : fire(f) {}

  continuation* next = nullptr;
  action fire;  // returns a task that is to run on this thread once all others have been told, or null
};

/// One node per task: link of the queues, claim, references, waiters, error; derived classes add result and closure.
///
/// claim:  pending (a promise, or a continuation whose time has not come) -> queued -> running. Whoever turns queued
///         into running runs the task, be it a worker that took it from a queue or a thread that waits for it; the queue's
///         entry is then stale and only gives back its reference.
/// waiters_: a lock-free list that completion closes for good, which is also what says that the task is done. Results
///         are written before the closing exchange (release) and read after a load that sees it (acquire). Only removal,
///         by a wait that timed out, locks the list for a few instructions.
class task {
 public:
  enum : std::uint32_t { pending = 0, queued = 1, running = 2 };

  /// `home` is where continuations run; null for a promise without a pool. A reference to it is held if `keep_home`.
  task(std::uint32_t claim, std::uint32_t references, scheduler* home, bool keep_home) noexcept;
  task(const task&) = delete;
  task& operator=(const task&) = delete;

  /// Called once, by the thread that claimed the task. Ends with complete().
  virtual void run() noexcept = 0;
  /// What the user called it; may be empty.
  [[nodiscard]] virtual std::string_view name() const noexcept { return {}; }

  [[nodiscard]] bool try_claim() noexcept {
    std::uint32_t expected = queued;
    return claim_.load(std::memory_order_relaxed) == queued &&
           claim_.compare_exchange_strong(expected, running, std::memory_order_acq_rel, std::memory_order_relaxed);
  }
  void make_claimable() noexcept { claim_.store(queued, std::memory_order_release); }
  [[nodiscard]] bool is_pending() const noexcept { return claim_.load(std::memory_order_acquire) == pending; }

  /// Notes which worker runs the task, and where its queue stood, for those who wait and want to help.
  void set_runner(std::uint32_t worker, std::int64_t position) noexcept {
    position_.store(position, std::memory_order_relaxed);
    claim_.store(running + ((worker + 1) << 2), std::memory_order_release);
  }
  /// False while it is unknown.
  [[nodiscard]] bool runner(std::uint32_t& worker, std::int64_t& position) const noexcept {
    const std::uint32_t claim = claim_.load(std::memory_order_acquire) >> 2;
    if (claim == 0) return false;
    worker = claim - 1;
    position = position_.load(std::memory_order_relaxed);
    return true;
  }

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) end();
  }
  /// True if the caller holds the only reference.
  [[nodiscard]] bool unshared() const noexcept { return references_.load(std::memory_order_acquire) == 1; }

  [[nodiscard]] bool done() const noexcept { return waiters_.load(std::memory_order_acquire) == closed; }

  /// False if the task is done already: `c` will not fire.
  [[nodiscard]] bool add(continuation& c) noexcept {
    std::uintptr_t head = waiters_.load(std::memory_order_acquire);
    for (;;) {
      if (head == closed) return false;
      if (head & locked) {
        ::sched_yield();
        head = waiters_.load(std::memory_order_acquire);
        continue;
      }
      c.next = reinterpret_cast<continuation*>(head);
      if (waiters_.compare_exchange_weak(head, reinterpret_cast<std::uintptr_t>(&c), std::memory_order_acq_rel,
                                         std::memory_order_acquire))
        return true;
    }
  }

  /// Takes back a continuation that was added. False if it has fired or is about to.
  [[nodiscard]] bool remove(continuation& c) noexcept {
    std::uintptr_t head = waiters_.load(std::memory_order_acquire);
    for (;;) {
      if (head == closed) return false;
      if (head & locked) {
        ::sched_yield();
        head = waiters_.load(std::memory_order_acquire);
        continue;
      }
      if (waiters_.compare_exchange_weak(head, head | locked, std::memory_order_acq_rel, std::memory_order_acquire))
        break;
    }
    auto* first = reinterpret_cast<continuation*>(head);
    continuation** at = &first;
    while (*at != &c) at = &(*at)->next;
    *at = c.next;
    waiters_.store(reinterpret_cast<std::uintptr_t>(first), std::memory_order_release);
    return true;
  }

  scheduler* home() const noexcept { return home_; }

  task* link = nullptr;      ///< of whichever list the task is in: the scheduler's inbox, or run_here's
  std::exception_ptr error;  ///< read when done
  bool error_observed = false;

 protected:
  virtual ~task();

  /// Closes the list and tells everyone in it, the first to come first. The caller holds a reference.
  void complete() noexcept;

 private:
  void end() noexcept;  // reports an error that nobody observed, and deletes

  static constexpr std::uintptr_t closed = 2;
  static constexpr std::uintptr_t locked = 1;

  std::atomic<std::uint32_t> claim_;
  std::atomic<std::uint32_t> references_;
  std::atomic<std::uintptr_t> waiters_{0};
  std::atomic<std::int64_t> position_{0};
  scheduler* home_;
  bool keeps_home_;
};

/// Tasks that this thread is to run itself, as there is no pool to run them.
struct here_queue {
  task* first = nullptr;
  task** end = &first;

  /// The queue of the run_here() under way on this thread, or null.
  static here_queue*& under_way() noexcept {
    static constinit thread_local here_queue* q = nullptr;
    return q;
  }
  void push(task* t) noexcept {
    t->link = nullptr;
    *end = t;
    end = &t->link;
  }
  bool run_first() noexcept {
    task* const t = first;
    if (t == nullptr) return false;
    first = t->link;
    if (first == nullptr) end = &first;
    if (t->try_claim()) t->run();
    t->release();
    return true;
  }
};

/// Runs `t` on this thread if nobody has claimed it, and gives back one reference. A call from within such a run is put
/// off until the run has ended or waits, so that chains of any length need no stack.
inline void run_here(task* t) noexcept {
  if (here_queue* const outer = here_queue::under_way()) {
    outer->push(t);
    return;
  }
  here_queue q;
  q.push(t);
  here_queue::under_way() = &q;
  while (q.run_first()) {}
  here_queue::under_way() = nullptr;
}

/// A reference to a task, or nothing.
template <class Task>
class task_ref {
 public:
  task_ref() noexcept = default;
  /// Takes over one reference.
  explicit task_ref(Task* t) noexcept : task_(t) {}
  task_ref(task_ref&& other) noexcept : task_(std::exchange(other.task_, nullptr)) {}
  task_ref& operator=(task_ref&& other) noexcept {
    task_ref old(std::exchange(task_, std::exchange(other.task_, nullptr)));
    return *this;
  }
  ~task_ref() {
    if (task_) task_->release();
  }

  Task* get() const noexcept { return task_; }
  Task* operator->() const noexcept { return task_; }
  Task& operator*() const noexcept { return *task_; }
  explicit operator bool() const noexcept { return task_ != nullptr; }
  Task* give() noexcept { return std::exchange(task_, nullptr); }

 private:
  Task* task_ = nullptr;
};

[[gnu::noinline]] inline void task::complete() noexcept {
  std::uintptr_t head = waiters_.load(std::memory_order_acquire);
  while ((head & locked) ||
         !waiters_.compare_exchange_weak(head, closed, std::memory_order_acq_rel, std::memory_order_acquire)) {
    if (head & locked) {
      ::sched_yield();
      head = waiters_.load(std::memory_order_acquire);
    }
  }
  continuation* first = nullptr;
  for (auto* c = reinterpret_cast<continuation*>(head); c != nullptr;) {
    continuation* const next = std::exchange(c->next, first);
    first = std::exchange(c, next);
  }
  task* to_run = nullptr;
  while (first != nullptr) {
    continuation* const c = first;
    first = c->next;  // firing may end the life of c
    if (task* t = c->fire(*c)) t->link = std::exchange(to_run, t);
  }
  while (to_run != nullptr) run_here(std::exchange(to_run, to_run->link));
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
