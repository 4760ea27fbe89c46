#ifndef CADRE_ASYNC_DETAIL_SCHEDULER_HPP
#define CADRE_ASYNC_DETAIL_SCHEDULER_HPP

#include <cadre/async/detail/deque.hpp>
#include <cadre/async/detail/task.hpp>
#include <cadre/core/function.hpp>
#include <cadre/observe/log.hpp>
#include <cadre/os/futex.hpp>
#include <cadre/os/thread.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// What a pool's handler is given: the error of a task that nobody asked for its result. Valid during the call.
struct unobserved_error {
  std::exception_ptr error;
  std::string_view task;  ///< its name, or empty
};

namespace detail {

using unobserved_handler = move_only_function<void(const unobserved_error&)>;
using time_point = std::chrono::steady_clock::time_point;

/// One thread's place to sleep. Word: bit 0 says that the scheduler woke it for work, the bits above count the events
/// that it waits for. Whoever counts an event up may find the sleeper gone right after, so nothing else of it is touched.
struct sleeper {
  explicit sleeper(std::uint32_t events) noexcept : needed(events) {}

  static constexpr std::uint32_t woken_for_work = 1;
  static constexpr std::uint32_t event = 2;

  [[nodiscard]] std::uint32_t events() const noexcept { return word.load(std::memory_order_acquire) / event; }
  [[nodiscard]] bool satisfied() const noexcept { return events() >= needed; }

  void count_event() noexcept {
    const std::uint32_t enough = needed;
    if (word.fetch_add(event, std::memory_order_acq_rel) / event + 1 == enough) futex::wake_one(word);
  }

  /// Until satisfied, or woken for work, or the deadline.
  void sleep(time_point deadline) noexcept {
    for (;;) {
      const std::uint32_t now = word.load(std::memory_order_acquire);
      if ((now & woken_for_work) || now / event >= needed) return;
      if (!futex::wait_until(word, now, deadline)) return;
    }
  }

  std::atomic<std::uint32_t> word{0};
  const std::uint32_t needed;
  // Guarded by the scheduler's mutex.
  sleeper* previous = nullptr;
  sleeper* next = nullptr;
  bool linked = false;
  bool between_tasks = false;  // a worker's main loop, as opposed to a wait inside a task
};

struct worker {
  scheduler* home = nullptr;
  std::uint32_t index = 0;
  std::uint32_t random = 0;     // xorshift state, for the order of victims
  std::uint32_t ticks = 0;      // tasks since work from outside was last given a turn
  std::uint32_t unrelated = 0;  // how many waits on this stack are running unrelated work
  std::int64_t frame = 0;       // queue position when the task on top of the stack began: what is above is its own
  std::int64_t outside = 0;     // queue position below which tasks came from outside
  work_deque<task> queue;
};

// The worker that this thread is, or null.
inline worker*& this_worker() noexcept {
  static constinit thread_local worker* w = nullptr;
  return w;
}

/// The pool behind thread_pool: shared by the pool object, its threads and the tasks whose continuations run on it.
///
/// Who wakes whom. `idle_` counts sleepers and searchers (threads that look for work and have none). A push wakes a
/// sleeper only if there is one and nobody searches. No wake-up is lost, all of these being sequentially consistent:
///  - a push writes the work, then reads idle_; a thread falling asleep writes idle_, then looks for work once more:
///    one of the two sees the other;
///  - a push that relied on a searcher came before that searcher left idle_; a searcher that leaves with work, as the last
///    one, looks whether more is visible and wakes the next.
/// There is no timed backstop, so a lost wake-up would hang a test instead of costing time in production.
class scheduler {
 public:
  scheduler(std::size_t threads, std::string name, unobserved_handler handler)
      : name_(std::move(name)), handler_(std::move(handler)), workers_(threads) {
    for (std::size_t i = 0; i < threads; ++i) {
      workers_[i] = std::make_unique<worker>();
      workers_[i]->home = this;
      workers_[i]->index = static_cast<std::uint32_t>(i);
      workers_[i]->random = static_cast<std::uint32_t>(i) * 2654435761u + 1;
    }
  }
  scheduler(const scheduler&) = delete;
  scheduler& operator=(const scheduler&) = delete;

  /// Throws thread_error (151), having ended the threads it had started.
  void start() {
    threads_.reserve(workers_.size());
    try {
      for (const auto& w : workers_) {
        retain();
        try {
          threads_.emplace_back(name_ + "/" + std::to_string(w->index), [this, w = w.get()] { main_loop(*w); });
        } catch (...) {
          release();
          throw;
        }
      }
    } catch (...) {
      {
        const std::lock_guard lock(mutex_);
        running_workers_ = threads_.size();
      }
      stop();
      throw;
    }
  }

  /// Runs what is queued and ends the threads. Called by one of the pool's own tasks it only makes that happen, since
  /// waiting would be for itself.
  void stop() noexcept {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      try_finish();
    }
    const worker* const w = this_worker();
    const bool from_inside = w != nullptr && w->home == this;
    for (native_thread& t : threads_) from_inside ? t.detach() : t.join();
  }

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  [[nodiscard]] std::size_t size() const noexcept { return workers_.size(); }

  /// Queues a claimable task, taking over one reference. When the pool has ended, runs it here.
  [[gnu::noinline]] void push(task* t) noexcept {
    worker* const w = this_worker();
    const bool queued_here = w != nullptr && w->home == this && w->queue.push(t);
    if (!queued_here && !push_outside(t)) return run_here(t);
    wake_one_if_needed();
  }

  /// Runs a task that this worker holds: claims it, unless somebody else has, and gives back the queue's reference.
  void run(worker& w, task* t) noexcept {
    if (t->try_claim()) run_claimed(w, *t);
    t->release();
  }

  static void run_claimed(worker& w, task& t) noexcept {
    const std::int64_t outer = std::exchange(w.frame, w.queue.position());
    if (t.home() == w.home) t.set_runner(w.index, w.frame);
    t.run();
    w.frame = outer < w.queue.position() ? outer : w.queue.position();
  }

  /// Work from anywhere, or null once `s` is satisfied or the deadline has passed; sleeps in between.
  task* acquire(worker& w, sleeper& s, time_point deadline) noexcept {
    if (task* t = pop(w)) return t;
    idle_.fetch_add(one_searcher, std::memory_order_seq_cst);
    for (;;) {
      const bool over =
          s.satisfied() || (deadline != time_point::max() && std::chrono::steady_clock::now() >= deadline);
      task* const t = over ? nullptr : search(w);
      if (over || t != nullptr) {
        stop_searching();
        return t;
      }
      fall_asleep(s);
      if (!work_visible()) s.sleep(deadline);
      wake_up(s);
    }
  }

  /// A task that worker `victim` queued after its queue stood at `position`.
  task* steal_from(std::uint32_t victim, std::int64_t position) noexcept {
    return workers_[victim]->queue.steal(position);
  }

  /// Never throws: a handler that does is itself reported to the log.
  void report(const std::exception_ptr& error, std::string_view task_name) noexcept {
    if (handler_) {
      try {
        handler_({error, task_name});
        return;
      } catch (...) {
        log_unobserved(std::current_exception(), "the handler of unobserved errors");
      }
    }
    log_unobserved(error, task_name);
  }

  [[gnu::cold]] static void log_unobserved(const std::exception_ptr& error, std::string_view task_name) noexcept {
    log(log_level::error, "async", [&] {
      std::string text = "nobody observed the error of ";
      text += task_name.empty() ? std::string_view("a task") : task_name;
      try {
        std::rethrow_exception(error);
      } catch (const std::exception& e) {
        text += std::string(": ") + e.what();
      } catch (...) {
        text += ": not a std::exception";
      }
      return text;
    });
  }

 private:
  static constexpr std::uint64_t one_searcher = 1;
  static constexpr std::uint64_t one_sleeper = std::uint64_t{1} << 32;
  static constexpr std::uint32_t turn = 61;  // tasks between two looks at what a worker's own tasks keep waiting

  ~scheduler() = default;

  void main_loop(worker& w) noexcept {
    this_worker() = &w;
    sleeper s(1);
    s.between_tasks = true;
    for (;;) {
      task* t = ++w.ticks >= turn ? take_turn(w) : nullptr;
      if (t == nullptr) t = acquire(w, s, time_point::max());
      if (t == nullptr) break;
      run(w, t);
    }
    this_worker() = nullptr;
    release();
  }

  // Tasks that beget tasks must not starve the rest: what came from outside, and what lies at the other end of the queue.
  task* take_turn(worker& w) noexcept {
    w.ticks = 0;
    if (w.queue.position() <= w.outside) return nullptr;  // what this worker runs is from outside anyway
    task* const oldest = w.queue.steal();
    drain_inbox(w);
    return oldest;
  }

  static task* pop(worker& w) noexcept {
    task* const t = w.queue.pop();
    if (w.queue.position() < w.outside) w.outside = w.queue.position();
    return t;
  }

  // Newest first into the queue, so that its owner runs them in the order of submission.
  bool drain_inbox(worker& w) noexcept {
    task* head = inbox_.load(std::memory_order_seq_cst);
    if (head == nullptr || head == closed_inbox()) return false;
    // Only try_finish() closes it, when no worker is here.
    head = inbox_.exchange(nullptr, std::memory_order_seq_cst);
    bool any = false;
    while (head != nullptr) {
      task* const t = std::exchange(head, head->link);
      if (w.queue.push(t)) {
        any = true;
      } else {
        run(w, t);  // no memory for the queue to grow
      }
    }
    w.outside = w.queue.position();
    return any;
  }

  task* search(worker& w) noexcept {
    if (drain_inbox(w))
      if (task* t = pop(w)) return t;
    const auto n = static_cast<std::uint32_t>(workers_.size());
    w.random ^= w.random << 13;
    w.random ^= w.random >> 17;
    w.random ^= w.random << 5;
    for (std::uint32_t i = 0, victim = w.random % n; i < n; ++i, victim = victim + 1 == n ? 0 : victim + 1)
      if (victim != w.index)
        if (task* t = workers_[victim]->queue.steal()) return t;
    return nullptr;
  }

  bool push_outside(task* t) noexcept {
    task* head = inbox_.load(std::memory_order_relaxed);
    do {
      if (head == closed_inbox()) return false;
      t->link = head;
    } while (!inbox_.compare_exchange_weak(head, t, std::memory_order_seq_cst, std::memory_order_relaxed));
    return true;
  }

  [[nodiscard]] bool work_visible() const noexcept {
    const task* const head = inbox_.load(std::memory_order_seq_cst);
    if (head != nullptr && head != closed_inbox()) return true;
    for (const auto& w : workers_)
      if (!w->queue.empty()) return true;
    return false;
  }

  void wake_one_if_needed() noexcept {
    const std::uint64_t idle = idle_.load(std::memory_order_seq_cst);
    if (idle >= one_sleeper && static_cast<std::uint32_t>(idle) == 0) [[unlikely]]
      wake_one();
  }

  [[gnu::noinline]] void wake_one() noexcept {
    std::atomic<std::uint32_t>* word = nullptr;
    {
      const std::lock_guard lock(mutex_);
      sleeper* const s = first_sleeper_;
      if (s == nullptr || static_cast<std::uint32_t>(idle_.load(std::memory_order_seq_cst)) != 0) return;
      unlink(*s);
      idle_.fetch_add(one_searcher - one_sleeper, std::memory_order_seq_cst);
      word = &s->word;
      s->word.fetch_or(sleeper::woken_for_work, std::memory_order_acq_rel);
    }
    futex::wake_one(*word);
  }

  void stop_searching() noexcept {
    const std::uint64_t idle = idle_.fetch_sub(one_searcher, std::memory_order_seq_cst) - one_searcher;
    if (idle >= one_sleeper && static_cast<std::uint32_t>(idle) == 0 && work_visible()) wake_one();
  }

  // From searcher to sleeper. The caller looks for work once more before it sleeps.
  void fall_asleep(sleeper& s) noexcept {
    const std::lock_guard lock(mutex_);
    link(s);
    idle_.fetch_add(one_sleeper - one_searcher, std::memory_order_seq_cst);
    try_finish();
  }

  // From sleeper to searcher, whoever ended the sleep.
  void wake_up(sleeper& s) noexcept {
    const std::lock_guard lock(mutex_);
    if (s.linked) {
      unlink(s);
      idle_.fetch_add(one_searcher - one_sleeper, std::memory_order_seq_cst);
    }
    s.word.fetch_and(~sleeper::woken_for_work, std::memory_order_acq_rel);
  }

  // In front, since the last to fall asleep has the warmest cache; but those who wait inside a task are woken last.
  void link(sleeper& s) noexcept {
    s.previous = s.between_tasks ? nullptr : last_sleeper_;
    s.next = s.between_tasks ? first_sleeper_ : nullptr;
    (s.previous ? s.previous->next : first_sleeper_) = &s;
    (s.next ? s.next->previous : last_sleeper_) = &s;
    s.linked = true;
    sleeping_between_tasks_ += s.between_tasks;
  }
  void unlink(sleeper& s) noexcept {
    (s.previous ? s.previous->next : first_sleeper_) = s.next;
    (s.next ? s.next->previous : last_sleeper_) = s.previous;
    s.linked = false;
    sleeping_between_tasks_ -= s.between_tasks;
  }

  // With the mutex held: ends the threads if the pool is to stop, all of them sleep between tasks, and nothing is queued.
  void try_finish() noexcept {
    if (!stopping_ || sleeping_between_tasks_ != running_workers_) return;
    for (const auto& w : workers_)
      if (!w->queue.empty()) return;
    task* empty = nullptr;
    if (!inbox_.compare_exchange_strong(empty, closed_inbox(), std::memory_order_seq_cst)) return;
    while (sleeper* const s = first_sleeper_) {
      unlink(*s);
      idle_.fetch_add(one_searcher - one_sleeper, std::memory_order_seq_cst);
      s->count_event();
    }
  }

  // An address that no task has.
  static task* closed_inbox() noexcept {
    alignas(task) static constinit std::byte mark[sizeof(task)] = {};
    return reinterpret_cast<task*>(&mark);
  }

  std::string name_;
  unobserved_handler handler_;
  std::vector<std::unique_ptr<worker>> workers_;
  std::vector<native_thread> threads_;
  std::atomic<std::uint32_t> references_{1};

  alignas(64) std::atomic<task*> inbox_{nullptr};
  alignas(64) std::atomic<std::uint64_t> idle_{0};
  alignas(64) std::mutex mutex_;  // of the sleepers; taken only on the way to sleep and back
  sleeper* first_sleeper_ = nullptr;
  sleeper* last_sleeper_ = nullptr;
  std::size_t sleeping_between_tasks_ = 0;
  std::size_t running_workers_ = workers_.size();
  bool stopping_ = false;
};

inline task::task(std::uint32_t claim, std::uint32_t references, scheduler* home, bool keep_home) noexcept
    : claim_(claim), references_(references), home_(home), keeps_home_(keep_home && home != nullptr) {
  if (keeps_home_) home_->retain();
}

inline task::~task() {
  if (keeps_home_) home_->release();
}

[[gnu::noinline]] inline void task::end() noexcept {
  if (error && !error_observed) {
    if (home_ != nullptr)
      home_->report(error, name());
    else
      scheduler::log_unobserved(error, name());
  }
  delete this;
}

/// To the pool, or here if there is none.
inline task* schedule(scheduler* home, task* t) noexcept {
  if (home == nullptr) return t;
  home->push(t);
  return nullptr;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
