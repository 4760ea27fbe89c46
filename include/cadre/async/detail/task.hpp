#ifndef CADRE_ASYNC_DETAIL_TASK_HPP
#define CADRE_ASYNC_DETAIL_TASK_HPP

#include <cadre/async/detail/barrier.hpp>
#include <cadre/async/detail/node_memory.hpp>
#include <cadre/async/detail/sleeper.hpp>
#include <cadre/async/detail/task_ref.hpp>
#include <cadre/async/detail/waiter_list.hpp>
#include <cadre/config/config.hpp>

#include <sched.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <source_location>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

class scheduler;
class strand;
class task;
class needed_tasks;
struct task_extras;

/// Which pool, for the whole life of the process: a slot of the registry and how often that had been used before. A task
/// names its pool by this and holds no reference to it, which would be a counter that all threads write.
using pool_id = std::uint64_t;
inline constexpr pool_id no_pool = 0;

struct worker;
class lane;
struct here_queue;

/// A task that runs on this thread; those it waits on top of are the outer ones.
struct running_frame {
  task* runs;
  running_frame* outer;
  bool whole = true;  // false: only a part of that task, which goes on elsewhere
};

struct held_lane {
  pool_id pool = no_pool;
  lane* where = nullptr;
};

struct thread_context {
  struct worker* worker = nullptr;  // which one of a pool this thread is
  running_frame* top = nullptr;
  here_queue* here = nullptr;  // of the run_here() under way
  const task* got = nullptr;   // whose result was taken last; it may be gone
  held_lane lanes[3] = {};     // of pools that this thread submits to from outside
  std::uint32_t refusals = 0;  // times that it asked for a further one in vain
  bool is_ending = false;
};
CADRE_OUT_OF_COROUTINES inline thread_context& this_context() noexcept {
  CADRE_NOT_PURE();
  static constinit thread_local thread_context c;
  return c;
}
/// The task that runs on this thread, or null.
inline task* current_task() noexcept {
  const running_frame* const top = this_context().top;
  return top != nullptr ? top->runs : nullptr;
}

/// One node per task: references, claim, link of the queues, waiters, family; derived classes add result and closure.
///
/// claim:  pending (a promise, or a continuation whose time has not come) -> queued -> running. Whoever turns queued
///         into running runs the task, be it a worker that took it from a queue or a thread that waits for it, or ends it,
///         as cancel() does; the queue's entry is then stale and only gives back its reference.
/// waiters_: what is to happen when the task is done; completion closes it for good, which is also what says that.
/// parent_: the task that submitted this one, as long as that may still be cancelled together with what it submitted.
/// kin_: how many keep the node: its children, and one for all who hold references. These keep its result as well, which
///       children must not: it may hold their futures.
///
/// references_ and claim_ lie in the bytes of a node that node_memory keeps: they are only ever touched atomically, and
/// zero references mean that nobody lives here. So retain_at() may be called on any node, in use or not.
class task {
  mutable std::uint32_t references_;  // these two first, after the table pointer: see node_memory::lasting
  mutable std::uint32_t claim_;

 public:
  enum : std::uint32_t {
    pending = 0,
    queued = 1,
    running = 2,
    phase = 3,
    stop = 4,          ///< somebody has cancelled it
    has_children = 8,  ///< so cancelling looks for them
    looked_at = 16,    ///< stays pending for the moment
    runner_shift = 5   ///< above: worker + 1
  };
  enum : std::uint8_t {
    no_future = 1,     ///< nobody can wait for it
    bare = 2,          ///< part of the task that waits for it, on its stack or frame: neither claimed nor counted
    not_for_help = 4,  ///< a waiter must not run it itself: it belongs to a certain worker, or actor
    no_closure = 8,    ///< promises and joins: completed from elsewhere, never run
    hears_stop = 16,   ///< on_stop() is to be called
    holds = 32,        ///< resources: on_wait() is to be called
    beyond_cancel =
        64,         ///< nobody can name it to cancel it: no future, no options, nor a parent of which that is not so
    of_graph = 128  ///< a graph_step
  };

  explicit task(pool_id home, std::uint8_t flags, std::source_location at) noexcept
      : home_(home), at_(at), flags_(flags) {}
  task(const task&) = delete;
  task& operator=(const task&) = delete;

  // What runs functions fits into a node; the joins of many futures, which nobody looks for, may be larger.
  static void* operator new(std::size_t bytes) {
    return bytes <= node_memory::largest ? node_memory::allocate(bytes)
                                         : ::operator new(bytes, std::align_val_t{node_memory::alignment});
  }
  static void operator delete(void* memory, std::size_t bytes) noexcept {
    if (bytes <= node_memory::largest)
      node_memory::release(memory, bytes);
    else
      ::operator delete(memory, std::align_val_t{node_memory::alignment});
  }
  static void* operator new(std::size_t, void* where) noexcept { return where; }

  /// Makes this a child of the task that runs on this thread, if that may be cancelled. Before publish().
  void set_parent() noexcept {
    task* const p = current_task();
    if (p == nullptr || (p->has(beyond_cancel) && !p->stop_requested())) return;
    flags_ &= static_cast<std::uint8_t>(~beyond_cancel);
    std::uint32_t family = p->family_.load(std::memory_order_relaxed);
    if ((family & 0xffff) >= family >> 16) family = p->shorten_family();
    parent_ = p;
    family_.store((family & 0xffff) == 0xffff ? family : family + 1, std::memory_order_relaxed);
  }

  /// Called once, when all else is constructed: from now on other threads may find the task. It is cancelled at once if
  /// its parent has been.
  void publish(std::uint32_t phase_now, std::uint32_t references) noexcept {
    claim().store(phase_now, std::memory_order_relaxed);
    counter().store(references, std::memory_order_release);
    if (parent_ != nullptr) join_family();
  }

  /// Called once, by the thread that claimed the task. Ends with complete(), unless nobody can know.
  virtual void run() noexcept = 0;
  /// Instead of run(), by the thread that claimed the task: destroys the closure, and completes with task_cancelled.
  virtual void run_not() noexcept = 0;
  void run_or_end() noexcept {
    if (stop_requested() || (parent_ != nullptr && parent_->stop_requested())) [[unlikely]]
      run_not();
    else
      run();
  }
  /// Somebody has asked it to stop while it runs. Called at most once, by any thread.
  virtual void on_stop() noexcept {}
  /// The thread that runs it falls asleep in a wait, or is awake again.
  virtual void on_wait(bool /*begins*/) noexcept {}
  /// Of one that is not_for_help: does some of what comes before it on the thread that waits for it, and begins nothing
  /// after the deadline. False if there is nothing to do.
  virtual bool bring_nearer(time_point /*deadline*/) noexcept { return false; }
  /// The same thread, about to sleep: it will be woken if bring_nearer() has something to do again. False if it has already.
  [[nodiscard]] virtual bool listen(listener&) noexcept { return true; }
  /// Whether bring_nearer() begins nothing ever and takes no time: it may then be called by who waits for a while, or for others.
  [[nodiscard]] virtual bool is_brought_briefly() const noexcept { return false; }
  /// `leaves`: it will not call bring_nearer(), so that another one is to be woken in its place.
  virtual void stop_listening(listener&, bool /*leaves*/) noexcept {}
  /// The running task that must end before this one can begin, or null; with a reference.
  [[nodiscard]] virtual task* held_up_by() noexcept { return nullptr; }
  /// Adds those that have to be done before it can be, as far as it knows. With the list of sleeping_waits locked.
  virtual void add_needed(needed_tasks&) {}
  /// What the coroutines that it begins go on in, if that is not the pool: see strand. By the thread that runs it.
  [[nodiscard]] virtual std::shared_ptr<strand> runs_in() noexcept { return {}; }
  /// Whether it may wait for them on its thread, as no coroutine does: then they share in the strand, and go on elsewhere.
  [[nodiscard]] virtual bool waits_on_its_thread() noexcept { return false; }
  /// Whether its error, which nobody will ask for, ends the program if the pool has no handler: see report_unobserved().
  [[nodiscard]] virtual bool error_ends_program() noexcept { return has(no_future); }
  /// Destroys value or error, as only children keep the node from now on.
  virtual void drop_result() noexcept {}
  /// What it has if it was submitted with options, else null.
  [[nodiscard]] virtual task_extras* extras() noexcept { return nullptr; }
  /// What the user called it; may be empty.
  [[nodiscard]] virtual std::string_view name() const noexcept { return {}; }

  // ---- Claim --------------------------------------------------------------------------------------------------

  /// `runner`: worker + 1, or 0 for a thread that is no worker.
  [[nodiscard]] bool try_claim(std::uint32_t runner = 0) noexcept {
    std::uint32_t now = claim().load(std::memory_order_relaxed);
    while ((now & phase) == queued)
      if (claim().compare_exchange_weak(now, ((now & ~std::uint32_t{phase}) | running) + (runner << runner_shift),
                                        std::memory_order_acq_rel, std::memory_order_relaxed))
        return true;
    return false;
  }
  /// The same by a worker that has taken the task from a queue of its pool. A posted task is in no other hands, so that
  /// this costs it no exchange. Then an ask_to_stop() from another thread may have been overlooked: the caller looks
  /// afterwards whether the pool is being cancelled, and who cancels that makes the other side of the uneven_barrier.
  [[nodiscard]] bool try_claim_from_queue(std::uint32_t runner) noexcept {
    if (!is_in_queue_only()) return try_claim(runner);
    claim().store((claim().load(std::memory_order_relaxed) - queued + running) + (runner << runner_shift),
                  std::memory_order_relaxed);
    uneven_barrier::frequent();
    return true;
  }
  /// A pending task's time has come. False if it was cancelled before.
  [[nodiscard]] bool make_claimable() noexcept { return advance(pending, queued); }
  /// Takes a pending task so that it never becomes claimable.
  [[nodiscard]] bool try_withdraw() noexcept { return advance(pending, running); }

  /// `look()`, for a few instructions during which a pending task stays that; nothing if it is not pending. With the list of
  /// sleeping_waits locked.
  template <class Look>
  void while_pending(Look look) noexcept {
    std::uint32_t now = claim().load(std::memory_order_relaxed);
    do {
      if ((now & phase) != pending) return;
    } while (
        !claim().compare_exchange_weak(now, now | looked_at, std::memory_order_acquire, std::memory_order_relaxed));
    struct at_end {
      const task& t;
      ~at_end() { t.claim().fetch_and(~std::uint32_t{looked_at}, std::memory_order_release); }
    } const over{*this};
    look();
  }
  [[nodiscard]] bool is_pending() const noexcept {
    return (claim().load(std::memory_order_acquire) & phase) == pending;
  }
  [[nodiscard]] bool is_running() const noexcept {
    return (claim().load(std::memory_order_acquire) & phase) == running;
  }
  [[nodiscard]] bool stop_requested() const noexcept { return claim().load(std::memory_order_relaxed) & stop; }
  [[nodiscard]] std::uint32_t claim_word() const noexcept { return claim().load(std::memory_order_acquire); }

  /// False if somebody had asked already.
  bool ask_to_stop() noexcept {
    if (claim().fetch_or(stop, std::memory_order_acq_rel) & stop) return false;
    if (has(hears_stop)) on_stop();
    return true;
  }

  /// Notes where the runner's queue stood when it began, for those who wait and want to help.
  void set_position(std::int64_t p) noexcept {
    position_.store(static_cast<std::uint32_t>(p), std::memory_order_relaxed);
  }
  /// False while it is unknown. Of the position the low 32 bits.
  [[nodiscard]] bool runner(std::uint32_t& worker, std::int64_t& position) const noexcept {
    const std::uint32_t w = claim().load(std::memory_order_acquire) >> runner_shift;
    const std::uint32_t p = position_.load(std::memory_order_relaxed);
    if (w == 0 || p == no_position) return false;
    worker = w - 1;
    position = p;
    return true;
  }

  /// Asks this one to stop, and ends it if it has not begun, or has the worker that takes it do so. False if it had been
  /// asked before.
  bool cancel_alone() noexcept {
    const bool first = ask_to_stop();
    kin_.fetch_add(0, std::memory_order_acq_rel);  // see join_family()
    if (!has(no_closure) && !is_in_queue_only() && (try_claim() || try_withdraw())) run_not();
    return first;
  }
  [[nodiscard]] bool has_offspring() const noexcept { return claim_word() & has_children; }
  [[nodiscard]] bool descends_from(const task& t) const noexcept;

  // ---- References ---------------------------------------------------------------------------------------------

  void retain() noexcept { counter().fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (drop_reference()) end();
  }
  /// A reference to the task in a node of node_memory, or null if there is none.
  [[nodiscard]] static task* retain_at(void* node) noexcept {
    const std::atomic_ref counter(*reinterpret_cast<std::uint32_t*>(static_cast<std::byte*>(node) + sizeof(void*)));
    std::uint32_t n = counter.load(std::memory_order_relaxed);
    while (n != 0)
      if (counter.compare_exchange_weak(n, n + 1, std::memory_order_acq_rel, std::memory_order_relaxed))
        return static_cast<task*>(node);
    return nullptr;
  }
  /// True if the caller holds the only reference.
  [[nodiscard]] bool unshared() const noexcept { return counter().load(std::memory_order_acquire) == 1; }

  // ---- Waiters ------------------------------------------------------------------------------------------------

  [[nodiscard]] bool done() const noexcept { return waiters_.is_closed(); }

  /// False if the task is done already: `c` will not fire.
  [[nodiscard]] bool add(continuation& c) noexcept { return waiters_.add(c); }
  /// Takes back a continuation that was added. False if it has fired or is about to.
  [[nodiscard]] bool remove(continuation& c) noexcept { return waiters_.remove(c); }
  [[nodiscard]] waiter_list& waiters() noexcept { return waiters_; }

  // ---- What does not change, and what the owner of the moment changes ---------------------------------------------

  [[nodiscard]] pool_id home() const noexcept { return home_; }
  [[nodiscard]] std::source_location at() const noexcept { return at_; }
  [[nodiscard]] bool has(std::uint8_t flag) const noexcept { return flags_ & flag; }
  [[nodiscard]] task* parent() const noexcept { return parent_; }

  /// The error, if failed(): in the room that the result would have.
  [[nodiscard]] virtual std::exception_ptr& error() noexcept = 0;
  [[nodiscard]] bool failed() const noexcept { return failed_; }
  /// True if that had been said before. Those who share a future may say it at the same time.
  bool set_observed() noexcept { return observed_.exchange(true, std::memory_order_relaxed); }
  [[nodiscard]] bool observed() const noexcept { return observed_.load(std::memory_order_relaxed); }

  std::atomic<task*> link{nullptr};  ///< of whichever list the task is in: the scheduler's inbox, or run_here's

 protected:
  virtual ~task() {
    if (!has(bare)) leave_family();
  }

  enum class completion : std::uint8_t { of_its_run, from_elsewhere };
  /// Closes the list and tells everyone in it, the first to come first. The caller holds a reference.
  void complete(completion by) noexcept;
  void set_failed(bool failed = true) noexcept { failed_ = failed; }
  /// Of a posted task, before anyone can take it for done: its pool, which has the handler, may end right then, and the last
  /// reference may be that of a thread which looks through all tasks.
  void report_if_posted() noexcept {
    if (failed_ && has(no_future)) [[unlikely]]
      report_error();
  }
  void end() noexcept;  // reports an error that nobody observed, and lets go

 private:
  static constexpr std::uint32_t first_look = 32;
  static constexpr std::uint32_t no_position = std::numeric_limits<std::uint32_t>::max();

  [[nodiscard]] std::atomic_ref<std::uint32_t> counter() const noexcept { return std::atomic_ref(references_); }
  [[nodiscard]] std::atomic_ref<std::uint32_t> claim() const noexcept { return std::atomic_ref(claim_); }

  [[nodiscard]] bool advance(std::uint32_t from, std::uint32_t to) noexcept {
    std::uint32_t now = claim().load(std::memory_order_relaxed);
    while ((now & phase) == from) {
      if (now & looked_at) {
        ::sched_yield();
        now = claim().load(std::memory_order_relaxed);
      } else if (claim().compare_exchange_weak(now, (now & ~std::uint32_t{phase}) | to, std::memory_order_acq_rel,
                                               std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }
  // Whoever takes it out of there claims it, and nobody else.
  [[nodiscard]] bool is_in_queue_only() const noexcept {
    return (flags_ & (beyond_cancel | not_for_help)) == beyond_cancel;
  }
  [[nodiscard]] bool drop_reference() noexcept { return counter().fetch_sub(1, std::memory_order_acq_rel) == 1; }
  void report_error() noexcept;
  void join_family() noexcept;
  void leave_family() noexcept { release_kin(std::exchange(parent_, nullptr)); }
  void let_go() noexcept;
  static void release_kin(task* t) noexcept;
  std::uint32_t shorten_family() noexcept;

  waiter_list waiters_;
  pool_id home_;
  std::atomic<std::uint32_t> position_{no_position};
  std::atomic<std::uint32_t> kin_{1};
  std::source_location at_;
  task* parent_ = nullptr;                               // once published guarded by the_locks().family
  std::atomic<std::uint32_t> family_{first_look << 16};  // low: how many ancestors; high: when to look for dead ones
  std::uint8_t flags_;
  bool failed_ = false;
  std::atomic<bool> observed_{false};
};

/// What every run of a task goes through, once it is claimed.
inline void run_in_frame(task& t, thread_context& context) noexcept {
  running_frame frame{&t, context.top};
  context.top = &frame;
  t.run_or_end();
  context.top = frame.outer;
}

/// Tasks that this thread is to run itself, as there is no pool to run them.
struct here_queue {
  task* first = nullptr;
  task* last = nullptr;

  void push(task* t) noexcept {
    t->link.store(nullptr, std::memory_order_relaxed);
    if (first != nullptr)
      last->link.store(t, std::memory_order_relaxed);
    else
      first = t;
    last = t;
  }
  bool run_first() noexcept {
    task* const t = first;
    if (t == nullptr) return false;
    first = t->link.load(std::memory_order_relaxed);
    if (t->has(task::bare)) {
      t->run();
      return true;
    }
    if (t->try_claim()) run_in_frame(*t, this_context());
    t->release();
    return true;
  }
};

/// Runs `t` on this thread if nobody has claimed it, and gives back one reference. A call from within such a run is put
/// off until the run has ended or waits, so that chains of any length need no stack.
inline void run_here(task* t) noexcept {
  thread_context& context = this_context();
  if (context.here != nullptr) {
    context.here->push(t);
    return;
  }
  here_queue q;
  q.push(t);
  context.here = &q;
  while (q.run_first()) {}
  context.here = nullptr;
}

// A task keeps its parent, so that cancelling that, or what that came from, finds it. A relay in which each task submits
// the next would so keep all that ever were: now and then those that are done are left out.
[[gnu::cold]] inline std::uint32_t task::shorten_family() noexcept {
  task* left_out[64];
  std::size_t n = 0;
  std::uint32_t family = 0;
  {
    const std::lock_guard lock(the_locks().family);
    std::uint32_t ancestors = 0;
    for (task* t = this; t->parent_ != nullptr;) {
      task* const p = t->parent_;
      // One that was cancelled stays: who cancels may be looking for what descends from it.
      if (!p->done() || p->stop_requested() || n == sizeof left_out / sizeof left_out[0]) {
        ++ancestors;
        t = p;
        continue;
      }
      if (p->parent_ != nullptr) p->parent_->kin_.fetch_add(1, std::memory_order_relaxed);
      t->parent_ = p->parent_;
      left_out[n++] = p;
    }
    if (ancestors > 0x4000) ancestors = 0x4000;
    family = ancestors | (2 * ancestors + first_look) << 16;
    family_.store(family, std::memory_order_relaxed);
  }
  for (std::size_t i = 0; i < n; ++i) release_kin(left_out[i]);
  return family;
}

// Who cancels the parent sets its bit, counts its kin up by nothing, and then looks at all tasks. The two counts are in one
// order: either it finds this task, or this task finds the bit. With the first child it is the claim that is in
// order: either the one who cancels sees that there are children, or the child sees the bit.
inline void task::join_family() noexcept {
  task& p = *parent_;
  std::uint32_t state = p.claim().load(std::memory_order_relaxed);
  if (!(state & has_children)) state = p.claim().fetch_or(has_children, std::memory_order_acq_rel);
  p.kin_.fetch_add(1, std::memory_order_acq_rel);
  if ((state | p.claim().load(std::memory_order_relaxed)) & stop) cancel_alone();
}

inline void task::release_kin(task* t) noexcept {
  // Not by recursion: families can be long.
  while (t != nullptr && t->kin_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    task* const next = std::exchange(t->parent_, nullptr);
    delete t;
    t = next;
  }
}

// Children are born while somebody holds a reference to their parent, and are moved to one only from a child of it: if
// there is none now, there never will be.
inline void task::let_go() noexcept {
  if (kin_.load(std::memory_order_acquire) == 1) {
    delete this;
  } else {
    drop_result();
    release_kin(this);
  }
}

inline bool task::descends_from(const task& t) const noexcept {
  const std::lock_guard lock(the_locks().family);
  for (const task* p = parent_; p != nullptr; p = p->parent_)
    if (p == &t) return true;
  return false;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
