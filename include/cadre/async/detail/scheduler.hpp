#ifndef CADRE_ASYNC_DETAIL_SCHEDULER_HPP
#define CADRE_ASYNC_DETAIL_SCHEDULER_HPP

#include <cadre/async/detail/barrier.hpp>
#include <cadre/async/detail/cancel.hpp>
#include <cadre/async/detail/idle_list.hpp>
#include <cadre/async/detail/long_wait.hpp>
#include <cadre/async/detail/parking_lot.hpp>
#include <cadre/async/detail/pool_registry.hpp>
#include <cadre/async/detail/run_queues.hpp>
#include <cadre/async/detail/sleeper.hpp>
#include <cadre/async/detail/source_of_work.hpp>
#include <cadre/async/detail/spin.hpp>
#include <cadre/async/detail/task.hpp>
#include <cadre/async/detail/thread_limit.hpp>
#include <cadre/async/detail/unobserved.hpp>
#include <cadre/async/detail/worker.hpp>
#include <cadre/async/task_options.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/os/detail/move_off.hpp>
#include <cadre/os/thread.hpp>

#include <sched.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The pool behind thread_pool: shared by the pool object and its threads. A lone searcher looks for some microseconds before
/// it sleeps, so that tasks that come one after the other find it awake; a second one sleeps at once.
class scheduler {
 public:
  [[gnu::cold]] scheduler(std::size_t threads, std::size_t processors, std::string name, unobserved_handler handler,
                          resource_set resources, long_wait_report report)
      : name_(std::move(name)),
        unobserved_(std::make_shared<unobserved_handler>(std::move(handler))),
        resources_(std::move(resources)),
        size_(threads),
        long_waits_(report),
        patience_(processors > 1 ? 40'000 : 0),
        queues_(threads + most_extra),
        lot_(threads) {
    watch_forks();
    uneven_barrier::prepare();
    born_after_ = fork_count.load(std::memory_order_relaxed);
    id_ = pool_registry::enter(*this);
    if (threads > 1) queues_.open_lanes(id_);
  }
  scheduler(const scheduler&) = delete;
  scheduler& operator=(const scheduler&) = delete;

  /// Throws thread_error (151), having ended the threads it had started.
  [[gnu::cold]] void start() {
    try {
      const std::lock_guard lock(idle_.mutex());
      while (threads_ < size_) start_worker();
    } catch (...) {
      stop(false);
      throw;
    }
  }

  /// Runs what is queued, or with `cancel` ends it, and ends the threads. Called by one of the pool's own tasks it only
  /// makes that happen, since waiting would be for itself. In a child of fork() there is nothing to end.
  [[gnu::cold]] void stop(bool cancel) noexcept {
    pool_registry::with(id_, [](scheduler& s) { s.closed_ = true; });
    if (left_behind()) {
      for (std::size_t i = 0; i < threads_; ++i) queues_.at(i).thread.forget();
      return;
    }
    if (cancel) {
      // First, as the next one is run once one that runs has ended; the barrier is of task::try_claim_from_queue().
      cancelling_.store(true, std::memory_order_relaxed);
      uneven_barrier::seldom();
      cancel_all([this](const task& t) { return t.home() == id_; });
    }
    {
      const std::lock_guard lock(idle_.mutex());
      stopping_ = true;
      lot_.close();
      try_finish();
    }
    idle_.end_nap();
    const bool from_inside = own_worker() != nullptr;
    for (std::size_t i = 0;; ++i) {  // a task that blocks may start further threads until the last has ended
      {
        const std::lock_guard lock(idle_.mutex());
        detached_ = from_inside;
        if (i == threads_) break;
      }
      from_inside ? queues_.at(i).thread.detach() : queues_.at(i).thread.join();
    }
  }

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  /// Threads, without those that stand in for blocked ones.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] pool_id id() const noexcept { return id_; }
  /// False when the pool object is being destroyed or gone: nothing comes from outside any more. Under the registry's lock.
  [[nodiscard]] bool is_open() const noexcept { return !closed_ && !left_behind(); }
  /// True in a process that fork() made: this pool has no threads there.
  [[nodiscard]] bool left_behind() const noexcept { return fork_count.load(std::memory_order_relaxed) != born_after_; }
  [[nodiscard]] const std::shared_ptr<unobserved_handler>& unobserved() const noexcept { return unobserved_; }

  [[nodiscard]] const resource_set& resources() const noexcept { return resources_; }
  [[nodiscard]] const long_wait_report& long_waits() const noexcept { return long_waits_; }

  /// What only some pools need, each made by the first who does: `Part(scheduler&)`. Ends with the scheduler.
  template <class Part>
  std::shared_ptr<Part> part(std::shared_ptr<void> scheduler::*which) {
    const std::lock_guard lock(idle_.mutex());
    if (this->*which == nullptr) this->*which = std::make_shared<Part>(*this);
    return std::static_pointer_cast<Part>(this->*which);
  }
  std::shared_ptr<void> ledger;     ///< a resource_ledger
  std::shared_ptr<void> deadlines;  ///< a class deadlines

  /// Threads that find nothing to do look there before they sleep.
  void look_also_at(source_of_work& source) noexcept { source_.store(&source, std::memory_order_release); }

  /// Queues a claimable task, taking over one reference.
  [[gnu::noinline]] void push(task* t) noexcept {
    worker* const own = own_worker();
    queues_.push(own, t);
    idle_.wake_one_if_needed(own != nullptr, own != nullptr && own->queue.size() == 1);
  }
  /// The same by a thread that goes on with other work, whoever it is.
  void push_and_go_on(task* t) noexcept {
    queues_.push(own_worker(), t);
    idle_.wake_one_if_needed(true);
  }
  /// The same for several at once; tasks[0] will be the first to run.
  void push(task* const* tasks, std::size_t n) noexcept {
    queues_.push(own_worker(), tasks, n);
    idle_.wake_one_if_needed(own_worker() != nullptr);
  }
  void push(task* t, priority p) noexcept {
    if (p == priority::normal) return push(t);
    queues_.push(t, p);
    idle_.wake_one_if_needed(own_worker() != nullptr);
  }
  /// What no task here has submitted, but one may have let go: to where nobody takes it for that one's own.
  void push_apart(task* t) noexcept {
    queues_.push(t, priority::normal);
    idle_.wake_one_if_needed(false);  // the caller mostly ends, and runs it next
  }
  /// For one worker alone.
  void push_pinned(task* t, std::size_t worker_index) noexcept {
    worker& w = queues_.at(worker_index);
    w.pinned.push(t);
    {
      const std::lock_guard lock(idle_.mutex());
      lot_.unpark_one(w);
    }
    idle_.wake_at(w.asleep);
  }

  /// A bare part of the task that runs on `w`, to be taken back: into that worker's own queue. False if there is no memory
  /// for the queue to grow.
  [[nodiscard]] bool push_part(worker& w, task& part) noexcept {
    if (!run_queues::push_own(w, &part)) [[unlikely]]
      return false;
    idle_.wake_one_if_needed(true);
    return true;
  }
  /// The newest of the parts, all of them `mine(task*)`, that `w` has pushed since its queue stood at `floor`; null if
  /// others have taken them. What lies above it, submitted by parts or come from outside during a wait, goes to whoever
  /// looks for work: those who take back parts run nothing else.
  template <class Mine>
  [[nodiscard]] task* take_back(worker& w, std::int64_t floor, Mine mine) noexcept {
    while (w.queue.position() > floor) {
      task* const t = w.queue.pop();
      if (w.queue.position() < w.outside) w.outside = w.queue.position();
      if (t == nullptr || mine(static_cast<const task*>(t))) return t;
      queues_.push(t, priority::normal);
      idle_.wake_one_if_needed(true);
    }
    return nullptr;
  }

  /// Runs a task that this worker holds: claims it, unless somebody else has, and gives back the queue's reference.
  void run(worker& w, task* t) noexcept {
    if (t->has(task::bare)) return run_bare(w, *t);
    if (t->try_claim_from_queue(w.index + 1)) run_claimed(w, *t);
    t->release();
  }
  static void run_claimed(worker& w, task& t) noexcept {
    if (w.home->cancelling_.load(std::memory_order_relaxed) && t.home() == w.home->id_) [[unlikely]]
      t.ask_to_stop();
    const std::int64_t outer = std::exchange(w.frame, w.queue.position());
    t.set_position(w.frame);
    run_in_frame(t, this_context());
    w.frame = outer < w.queue.position() ? outer : w.queue.position();
  }

  /// Work from anywhere that any worker may do, or null once `s` is satisfied, or the deadline has passed, or there is some
  /// that only this one may do; sleeps in between.
  task* acquire(worker& w, sleeper& s, time_point deadline) noexcept {
    if (task* t = queues_.pop(w)) return t;
    idle_.begin_search();
    bool has_slept = false;
    for (int misses = 0;;) {
      task* t = nullptr;
      bool over = s.satisfied() || !w.pinned.empty() || is_past(deadline);
      if (!over && (t = search(w)) == nullptr && idle_.searchers() == 1) {
        t = look_again(w, s);
        if (t == nullptr && s.between_tasks && w.vain >= most_vain) t = look_now_and_then(w, s);
        over = s.satisfied() || !w.pinned.empty();
      }
      if (over || t != nullptr) {
        w.vain = 0;
        if (idle_.end_search() && queues_.has_any()) idle_.wake_one(false);
        return t;
      }
      // Another one is just taking it: to fall asleep and not to sleep costs all threads more than a few looks.
      if (queues_.has_any_from_outside() && ++misses < most_misses) {
        for (int i = 0; i < 8; ++i) relax();
        continue;
      }
      misses = 0;
      w.vain += has_slept;
      if (fall_asleep(w, s)) uneven_barrier::seldom();
      if (!queues_.has_any(w)) s.sleep(deadline);
      wake_up(w, s);
      has_slept = true;
    }
  }

  /// The same when others see to what any worker may do: sleeps until one of the other three. `has_stand_in`: else false, at
  /// once, if nobody were left then who could do what it waits for.
  bool sleep_in_task(worker& w, sleeper& s, time_point deadline, bool has_stand_in) noexcept {
    {
      const std::lock_guard lock(idle_.mutex());
      if (!has_stand_in && !lot_.can_spare_one()) return false;
      if (!has_stand_in) lot_.change(0, +1);
      w.asleep = &s;
    }
    if (w.pinned.empty()) s.sleep(deadline);
    const std::lock_guard lock(idle_.mutex());
    w.asleep = nullptr;
    if (!has_stand_in) lot_.change(0, -1);
    return true;
  }
  /// What only this worker may do.
  [[nodiscard]] static task* take_pinned(worker& w) noexcept {
    return w.pinned.empty() ? nullptr : run_queues::take_one(w.pinned);
  }

  /// A task that worker `victim` queued after its queue stood at `position`.
  task* steal_from(std::uint32_t victim, std::int64_t position) noexcept {
    return queues_.at(victim).queue.steal(position);
  }

  /// Whether a thread runs tasks or looks for some right now, so that what is pushed will soon be begun.
  [[nodiscard]] bool is_awake() const noexcept {
    return looking_.load(std::memory_order_relaxed) || idle_.idle() < queues_.size();
  }

  /// Whether all threads sleep between tasks and nothing is queued.
  [[nodiscard]] bool is_idle() noexcept {
    const std::lock_guard lock(idle_.mutex());
    return has_nothing_to_do();
  }

  /// So many workers more, or fewer, may take tasks.
  void allow(std::ptrdiff_t change) noexcept {
    const std::lock_guard lock(idle_.mutex());
    lot_.change(change, 0);
    call_workers();
  }
  /// A worker blocks: one more may take tasks until end_block(). False if that cannot be had.
  bool begin_block() noexcept {
    const std::lock_guard lock(idle_.mutex());
    lot_.change(+1, +1);
    call_workers();
    if (!lot_.has_too_few()) return true;
    lot_.change(-1, 0);
    return false;
  }
  void end_block(bool had) noexcept {
    const std::lock_guard lock(idle_.mutex());
    lot_.change(had ? -1 : 0, -1);
  }

 private:
  static constexpr std::size_t most_extra = 256;  // threads that stand in for blocked ones
  static constexpr std::uint32_t most_vain = 2;   // wake-ups for nothing until a thread naps
  static constexpr int most_misses = 64;          // looks of a thread that sees work and gets none; 10 to 30 us

  [[gnu::cold]] ~scheduler() { pool_registry::leave(id_); }

  [[nodiscard]] worker* own_worker() const noexcept {
    worker* const w = this_worker();
    return w != nullptr && w->home == this ? w : nullptr;
  }

  // With the mutex held: as many as are wanted, if the system gives them.
  void call_workers() noexcept {
    while (lot_.has_too_few() && lot_.unpark_one()) {}
    while (lot_.has_too_few() && threads_ < size_ + most_extra) {
      try {
        start_worker();
      } catch (...) {
        return;
      }
    }
  }
  // With the mutex held.
  [[gnu::cold]] void start_worker() {
    const std::size_t i = threads_;
    worker& w = i < queues_.size() ? queues_.at(i)  // a thread for it could not be had before
                                   : queues_.add_worker(*this);
    retain();
    try {
      std::string name = name_;
      w.thread = native_thread(name.append("/").append(std::to_string(i)), [this, &w] { main_loop(w); });
    } catch (...) {
      release();
      throw;
    }
    ++threads_;
    if (detached_) w.thread.detach();
    lot_.enter();
  }

  void main_loop(worker& w) noexcept {
    this_context().worker = &w;
    w.stack_middle = middle_of_stack();
    const thread_limit one(1);  // of what a task without options calls: it holds one processor
    sleeper s(1);
    s.between_tasks = true;
    for (;;) {
      task* t = std::exchange(w.next, nullptr);
      if (t == nullptr && lot_.is_crowded()) [[unlikely]]
        park(w);
      if (t == nullptr) t = queues_.take_turn(w);
      if (t == nullptr) t = take_pinned(w);
      if (t == nullptr) t = acquire(w, s, time_point::max());
      if (t != nullptr)
        run(w, t);
      else if (s.satisfied() && w.pinned.empty())
        break;
    }
    this_context().worker = nullptr;
    release();
  }

  task* search(worker& w) noexcept {
    task* const t = queues_.take_from_outside(w);
    return t != nullptr ? t : queues_.steal(w);
  }

  // The only searcher, for a while.
  task* look_again(worker& w, const sleeper& s) noexcept {
    task* t = nullptr;
    looking_.store(true, std::memory_order_relaxed);
    source_of_work* const source = source_.load(std::memory_order_acquire);
    const std::uint64_t patience = source != nullptr ? source->patience() : patience_;
    std::uint32_t looks = 0, rounds = 0;
    for (std::uint64_t begun = ticks(); t == nullptr && ticks() - begun < patience;) {
      bool came = false;
      for (int i = 0; i < 4 && !came; ++i) source != nullptr ? static_cast<void>(came = source->bring()) : relax();
      if (came) begun = ticks();
      // Who is to send it, or to submit the next, may be about to run on this very processor.
      if (!came && (++rounds == 16 || (source != nullptr && rounds % 4 == 0))) ::sched_yield();
      if (s.satisfied() || !w.pinned.empty() || idle_.searchers() != 1) break;
      // Seldom at the queues, as each look takes their cache lines from those who work with them.
      if (came || queues_.has_any_from_outside() || (++looks & 7) == 0)
        if ((t = queues_.pop(w)) == nullptr) t = search(w);
    }
    looking_.store(false, std::memory_order_relaxed);
    if (t == nullptr && source != nullptr && source->bring_last() && (t = queues_.pop(w)) == nullptr) t = search(w);
    return t;
  }
  [[gnu::noinline]] task* look_now_and_then(worker& w, const sleeper& s) noexcept {
    task* t = nullptr;
    idle_.take_naps([&] { return (t = search(w)) != nullptr || s.satisfied() || !w.pinned.empty() || !is_awake(); });
    return t;
  }
  // The caller looks for work once more before it sleeps. False if no barrier has to come before: nobody pushes without one.
  [[nodiscard]] bool fall_asleep(worker& w, sleeper& s) noexcept {
    const std::lock_guard lock(idle_.mutex());
    const bool some_push = idle_.fall_asleep(s) != lot_.driving() || queues_.stop_flow();
    w.asleep = &s;
    s.thread = this_thread_number();
    try_finish();
    return some_push;
  }
  void wake_up(worker& w, sleeper& s) noexcept {
    const std::lock_guard lock(idle_.mutex());
    idle_.wake_up(s);
    w.asleep = nullptr;
  }

  [[gnu::cold]] void park(worker& w) noexcept {
    std::unique_lock lock(idle_.mutex());
    // It may have been woken for work that it now leaves to others.
    lot_.park(w, lock, [this] {
      if (queues_.has_any()) idle_.wake_one(false);
    });
  }

  // With the mutex held: all threads are parked or sleep between tasks, and nothing is queued.
  [[nodiscard]] bool has_nothing_to_do() noexcept {
    if (idle_.sleeping_between_tasks() != lot_.driving() || queues_.has_any()) return false;
    for (std::size_t i = 0; i < threads_; ++i)
      if (!queues_.at(i).pinned.empty()) return false;
    return true;
  }
  // With the mutex held: ends the threads if the pool is to stop and has nothing to do.
  void try_finish() noexcept {
    if (stopping_ && has_nothing_to_do()) idle_.end_all();
  }

  const std::string name_;
  const std::shared_ptr<unobserved_handler> unobserved_;
  const resource_set resources_;
  const std::size_t size_;
  const long_wait_report long_waits_;
  const std::uint64_t patience_;  // ticks that a lone searcher looks for; 10 to 20 us
  std::uint32_t born_after_ = 0;
  pool_id id_ = no_pool;
  bool closed_ = false;
  std::atomic<std::uint32_t> references_{1};
  std::atomic<bool> cancelling_{false};  // what is queued is not to run

  run_queues queues_;
  idle_list idle_;
  std::atomic<bool> looking_{false};  // somebody is in look_again()
  std::atomic<source_of_work*> source_{nullptr};
  // Guarded by the mutex of the idle list.
  parking_lot lot_;
  std::size_t threads_ = 0;  // that have been started
  bool stopping_ = false;
  bool detached_ = false;  // nobody will join the threads
};

/// To its pool, or here if that has ended: a task whose time has come.
inline void schedule(task* t) noexcept {
  const thread_context& context = this_context();
  worker* const w = context.worker;
  if (w != nullptr && w->home->id() == t->home())
    return context.top != nullptr ? w->home->push_apart(t) : w->home->push(t);
  bool pushed = false;
  pool_registry::with(t->home(), [&](scheduler& s) {
    if (!s.is_open()) return;
    s.push(t);
    pushed = true;
  });
  if (!pushed) run_here(t);
}

[[gnu::noinline]] inline void task::complete(completion by) noexcept {
  continuation* first = waiters_.close();
  while (first != nullptr) {
    continuation* const c = std::exchange(first, first->next);  // firing may end the life of c
    task* const t = c->act(*c, continuation::wish::fire);
    if (t == nullptr) continue;
    // The worker whose task ends here runs the first of its continuations next; but not on top of a wait.
    worker* const w = by == completion::of_its_run ? this_worker() : nullptr;
    if (w == nullptr || w->waits != 0 || w->home->id() != t->home())
      schedule(t);
    else if (w->next == nullptr)
      w->next = t;
    else
      w->home->push(t);
  }
}

[[gnu::cold]] inline void task::report_error() noexcept {
  if (set_observed()) return;
  std::shared_ptr<unobserved_handler> handler;
  pool_registry::with(home_, [&](scheduler& s) { handler = s.unobserved(); });
  const bool posted = error_ends_program();
  // Moved out, so that the exception ends on this thread: see take_result().
  report_unobserved({std::move(error()), name(), at_}, handler, posted);
}

[[gnu::noinline]] inline void task::end() noexcept {
  if (failed_) report_error();
  let_go();
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
