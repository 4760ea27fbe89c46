#ifndef CADRE_ASYNC_DETAIL_WAITING_HPP
#define CADRE_ASYNC_DETAIL_WAITING_HPP

#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/stand_in.hpp>
#include <cadre/async/detail/wait_graph.hpp>
#include <cadre/async/error.hpp>
#include <cadre/core/chrono.hpp>

#include <sched.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A wait until `needed` of some tasks are done. A worker that waits helps, in this order:
///  1. it runs the task waited for, if nobody has begun it, or, of a call of an actor, the calls before it and then it;
///  2. it runs what the waiting task itself has submitted;
///  3. it steals what the running task that it waits for has queued (leapfrogging: D. B. Wagner, B. G. Calder, 1993);
///  4. it sleeps. If a target has no task yet (a promise, a continuation whose time has not come, a call to another rank) or is
///     of another pool, or if all other threads of this pool block or sleep in tasks, it looks for other work meanwhile like
///     any thread of the pool, but what it finds another thread does in its place: see stand_in.
/// So the stack of a thread is a chain in which each frame waits for the next or begot it: none that others wait for is held
/// up by a stranger above it, and a wait made with a lock held never runs one that wants the same lock. But two kinds of
/// work it begins there though unrelated, as nobody else can: tasks for this very worker, and, while half of the stack is
/// left, others when the system or the pool's limit refuses one more thread. Other threads look for a moment, then sleep.
class wait_frame {
 public:
  /// Each watch names its target; `watches` outlives the frame.
  wait_frame(std::span<watch> watches, std::size_t needed) noexcept
      : watches_(watches), sleeper_(static_cast<std::uint32_t>(needed)) {}
  wait_frame(const wait_frame&) = delete;
  wait_frame& operator=(const wait_frame&) = delete;
  ~wait_frame() {
    if (!watching_) return;
    std::uint32_t expected = already_done_;
    for (watch& w : watches_)
      if (w.added && !w.target->remove(w)) ++expected;
    // Those that could not be taken back are being told at this moment.
    while (sleeper_.events() != expected) ::sched_yield();
  }

  /// False if the deadline has passed. No work is begun after the deadline, but what was begun before is finished.
  /// Throws wait_cycle (208) if it would wait for itself, forked_process (207) if the threads are those of another process.
  bool run(time_point deadline) {
    thread_context& context = this_context();
    worker* const w = context.worker;
    if (w != nullptr) ++w->waits;
    const at_end leave{w};
    // A thread of no pool begins calls only if it has to wait for all of them, for as long as they take.
    helps_actors_ = w != nullptr || (deadline == time_point::max() && sleeper_.needed == watches_.size());
    if (watches_.size() != 1) watch_all();
    bring_nearer(deadline);
    if (w == nullptr && !watching_ && !look_for_a_moment()) watch_all();
    while (!enough()) {
      if (is_past(deadline)) return false;
      if (context.here != nullptr && context.here->run_first()) continue;
      if (w != nullptr && help(*w)) continue;
      watch_all();
      if (enough()) break;
      if (task* t = idle(w, deadline)) run_unrelated(*w, t);
      bring_nearer(deadline);
    }
    return true;
  }

 private:
  struct at_end {
    worker* w;
    ~at_end() {
      if (w != nullptr) --w->waits;
    }
  };

  [[nodiscard]] bool enough() const noexcept {
    return watching_ ? sleeper_.satisfied() : sleeper_.needed == 0 || watches_.front().target->done();
  }

  void watch_all() noexcept {
    if (std::exchange(watching_, true)) return;
    for (watch& w : watches_) {
      w.waits_in = &sleeper_;
      w.added = w.target->add(w);
      if (!w.added) {
        ++already_done_;
        sleeper_.count_event();
      }
    }
  }

  void bring_nearer(time_point deadline) noexcept {
    if (!helps_actors_) return bring_one_nearer(deadline);
    for (const watch& w : watches_)
      while (w.target->has(task::not_for_help) && !enough() && !is_past(deadline) && w.target->bring_nearer(deadline)) {
      }
  }
  // Which brings the others nearer too.
  void bring_one_nearer(time_point deadline) noexcept {
    for (const watch& w : watches_)
      if (w.target->is_brought_briefly() && !w.target->done()) {
        w.target->bring_nearer(deadline);
        return;
      }
  }
  // False if there is something to bring nearer.
  [[nodiscard]] bool listen() noexcept {
    for (watch& w : watches_) {
      w.nearer.who = &sleeper_;
      if (helps_actors_ && w.target->has(task::not_for_help) && !w.target->listen(w.nearer)) return false;
    }
    return true;
  }
  void stop_listening(bool leaves) noexcept {
    for (watch& w : watches_)
      if (helps_actors_ && w.target->has(task::not_for_help)) w.target->stop_listening(w.nearer, leaves);
    sleeper_.forget_wake();
  }

  // To fall asleep and be woken takes both sides some microseconds, which a task that is under way, or is taken up by a
  // thread that looks for work, may not need. If that thread is only being woken, looking would keep it from its processor.
  [[nodiscard]] bool look_for_a_moment() const noexcept {
    constexpr std::uint64_t moment = 12'000;  // ticks, 3 to 6 us
    const task& t = *watches_.front().target;
    bool soon = t.is_running();
    if (!soon) pool_registry::with(t.home(), [&](const scheduler& s) { soon = s.is_awake(); });
    if (!soon) return t.done();
    for (const std::uint64_t begun = ticks(); ticks() - begun < moment;)
      for (int i = 0; i < 8; ++i) {
        if (t.done()) return true;
        relax();
      }
    return t.done();
  }

  // Others look for the runner in the task's own pool.
  [[nodiscard]] static std::uint32_t runner_for(const task& t, const worker& w) noexcept {
    return t.home() == w.home->id() ? w.index + 1 : 0;
  }

  bool help(worker& w) noexcept {
    for (; next_ < watches_.size(); ++next_) {
      task& target = *watches_[next_].target;
      if (target.is_pending()) pending_ = true;
      if (!target.has(task::not_for_help) && target.try_claim(runner_for(target, w))) {
        scheduler::run_claimed(w, target);
        return true;
      }
    }
    if (watches_.size() == 1 && pending_ && !watches_.front().target->has(task::not_for_help) &&
        watches_.front().target->try_claim(runner_for(*watches_.front().target, w))) {
      scheduler::run_claimed(w, *watches_.front().target);
      return true;
    }
    if (w.queue.position() > w.frame && w.queue.position() > w.outside) {
      if (task* t = w.queue.pop()) {
        w.home->run(w, t);
        return true;
      }
    }
    return leapfrog(w);
  }

  // The runner may queue something soon; a few looks cost less than a sleep.
  bool leapfrog(worker& w) noexcept {
    task& target = *watches_.front().target;
    if (watches_.size() != 1 || target.home() != w.home->id()) return false;
    std::uint32_t victim = 0;
    std::int64_t position = 0;
    if (!target.runner(victim, position) || victim == w.index) return false;
    for (int look = 0; look < 32; ++look) {
      if (target.done()) return true;
      if (task* t = w.home->steal_from(victim, position)) {
        w.home->run(w, t);
        return true;
      }
      ::sched_yield();
    }
    return false;
  }

  // What lies in the queue before and after is not the waiting task's own.
  static void run_unrelated(worker& w, task* t) noexcept {
    w.frame = w.queue.position();
    w.home->run(w, t);
    w.frame = w.queue.position();
  }

  // Sleeps until enough is done, or the deadline, or there is something that has to be run here, which is returned.
  [[gnu::noinline]] task* idle(worker* w, time_point deadline) {
    const sleeping_wait entry(this_context().top, watches_, sleeper_.needed);
    const lending lend(this_context().top);
    const time_point end = until(deadline);
    task* found = nullptr;
    if (w == nullptr)
      listen_and_sleep([&] { sleeper_.sleep(end); }, deadline);
    else if (!(found = sleep_as(*w, deadline, end)) && !enough() && !is_past(deadline))
      found = scheduler::take_pinned(*w);
    report_if_long();
    return found;
  }
  task* sleep_as(worker& w, time_point deadline, time_point end) noexcept {
    // A thread of this pool is at what is waited for, most likely, and others are there too.
    bool slept = !pending_ && !waits_for_another_pool(w);
    if (slept) listen_and_sleep([&] { slept = w.home->sleep_in_task(w, sleeper_, end, false); }, deadline);
    if (slept) return nullptr;
    task* const found = w.home->acquire(w, sleeper_, end);
    if (found == nullptr) return nullptr;
    const stand_in other;
    if (!other && !w.has_deep_stack()) return found;
    w.frame = w.queue.position();
    w.home->push(found, priority::high);  // it was about to be run
    listen_and_sleep([&] { w.home->sleep_in_task(w, sleeper_, end, true); }, deadline);
    return nullptr;
  }
  template <class Sleep>
  void listen_and_sleep(const Sleep& sleep, time_point deadline) noexcept {
    if (listen()) sleep();
    stop_listening(enough() || is_past(deadline));
  }

  // The deadline, or before that the time at which somebody wants to hear of a wait that is not over.
  time_point until(time_point deadline) noexcept {
    if (report_at_ == time_point()) {
      report_at_ = time_point::max();
      pool_registry::with(pool(), [&](const scheduler& s) {
        if (s.long_waits().tell != nullptr) report_at_ = std::chrono::steady_clock::now() + s.long_waits().after;
      });
    }
    return deadline < report_at_ ? deadline : report_at_;
  }
  [[gnu::cold]] void report_if_long() {
    if (report_at_ == time_point::max() || enough() || std::chrono::steady_clock::now() < report_at_) return;
    report_at_ = time_point::max();
    scheduler* s = nullptr;
    pool_registry::with(pool(), [&](scheduler& found) { s = &found, found.retain(); });
    if (s == nullptr) return;
    s->long_waits().tell(*s, current_task(), *watches_.front().target);
    s->release();
  }
  [[nodiscard]] pool_id pool() const noexcept {
    const worker* const w = this_worker();
    return w != nullptr ? w->home->id() : watches_.front().target->home();
  }

  // What is waited for there may itself wait for what only this pool can do.
  [[nodiscard]] bool waits_for_another_pool(const worker& w) const noexcept {
    for (const watch& target : watches_)
      if (target.target->home() != w.home->id()) return true;
    return false;
  }

  // What the tasks of this thread hold, while they wait.
  class lending {
   public:
    explicit lending(running_frame* top) noexcept : top_(top) { tell(true); }
    lending(const lending&) = delete;
    lending& operator=(const lending&) = delete;
    ~lending() { tell(false); }

   private:
    [[gnu::noinline]] void tell(bool begins) const noexcept {
      for (running_frame* f = top_; f != nullptr; f = f->outer)
        if (f->whole && f->runs != nullptr && f->runs->has(task::holds)) f->runs->on_wait(begins);
    }
    running_frame* top_;
  };

  std::span<watch> watches_;
  sleeper sleeper_;
  std::size_t next_ = 0;
  std::uint32_t already_done_ = 0;
  bool watching_ = false;
  bool helps_actors_ = false;
  bool pending_ = false;
  time_point report_at_{};  // not yet known
};

/// False if the deadline has passed.
[[gnu::noinline]] inline bool wait_for_task(task& t, time_point deadline = time_point::max()) {
  if (t.done()) return true;
  watch w;
  w.target = &t;
  return wait_frame({&w, 1}, 1).run(deadline);
}

/// The point of steady_clock that lies `timeout` from now; "for ever" does not wrap around.
template <class Rep, class Period>
time_point deadline_after(const std::chrono::duration<Rep, Period>& timeout) {
  using namespace std::chrono;
  const time_point now = steady_clock::now();
  // In floating point, so that no count of hours overflows.
  if (duration<double>(timeout) >= duration<double>(time_point::max() - now)) return time_point::max();
  return now + ceil<steady_clock::duration>(timeout);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
