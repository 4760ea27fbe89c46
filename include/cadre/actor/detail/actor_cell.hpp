#ifndef CADRE_ACTOR_DETAIL_ACTOR_CELL_HPP
#define CADRE_ACTOR_DETAIL_ACTOR_CELL_HPP

#include <cadre/actor/detail/revival.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/sleeper.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/os/futex.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <source_location>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

class actor_cell;

/// What a call is to its actor. Those of the user are limited in number; the constructor is nobody's child, as the actor
/// does not end with the task that made it.
enum class call_kind : std::uint8_t { of_user, stop, constructor };

/// What all calls of actors are, beside tasks.
class call_in_mailbox {
 public:
  call_in_mailbox(actor_cell& at, call_kind what) noexcept : cell(at), kind(what) {}
  /// In place of its run. By who holds a reference.
  virtual void fail(std::exception_ptr why) noexcept = 0;
  static call_in_mailbox& of(task& t) { return dynamic_cast<call_in_mailbox&>(t); }

  actor_cell& cell;
  const call_kind kind;

 protected:
  ~call_in_mailbox() = default;
};

/// Runs calls of an actor: on a thread of the pool, or on one that waits for a call.
class turn final : public state_with_error {
 public:
  turn(actor_cell& cell, pool_id home) noexcept
      : state_with_error(home, task::no_future | task::beyond_cancel, {}), cell_(cell) {
    this->publish(task::queued, 1);  // a child of nobody: whoever makes the call may be cancelled, the actor goes on
  }
  void run() noexcept override;
  // The calls have been cancelled one by one.
  void run_not() noexcept override { run(); }

 private:
  friend actor_cell;
  actor_cell& cell_;
  const task* last_ = nullptr;  // of whoever waits for that: it is to end when that has begun, or the time is over
  time_point deadline_ = time_point::max();
  turn* next_ = nullptr;  // of those that wait for a thread
  bool waits_ = false;    // is one of those
};

/// An actor's object and its mailbox. Calls run in the order in which they came, one at a time, or up to `most` at once. The
/// cell outlives the actor, and all threads that wait for calls, and is used again for another one: whoever calls says which
/// of them is meant.
///
/// Thread-safety: all functions, from any thread.
class actor_cell {
 public:
  static constexpr std::uint32_t any = ~std::uint32_t{0};

  actor_cell() = default;
  actor_cell(const actor_cell&) = delete;
  actor_cell& operator=(const actor_cell&) = delete;

  /// Another actor moves in, if the last one has gone. Returns which one of this cell it is, or 0. `anew` is null for one
  /// that is never made anew, and taken only if this begins.
  std::uint32_t begin(const std::type_info& type, pool_id pool, std::string label, std::uint32_t most_at_once,
                      std::size_t most_pending, std::unique_ptr<revival>& anew) {
    const std::lock_guard lock(mutex_);
    if (turns_ != 0 || (generation_ != 0 && !has_ended())) return 0;
    ended_.store(false, std::memory_order_relaxed);
    begun_ = false;
    type_ = &type;
    pool_ = pool;
    label_ = std::move(label);
    most_ = 1;
    wanted_ = most_at_once;
    most_pending_ = most_pending;
    revival_ = std::move(anew);
    return ++generation_;
  }

  /// Takes over one reference of the call. False if the actor is another one by now. With `counts` throws too_many_calls
  /// (605).
  bool push(std::uint32_t generation, task& call, bool counts) {
    turn* more = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (generation != generation_) return false;
      if (counts && most_pending_ != 0 && pending_ >= most_pending_ + (begun_ ? 0 : 1))
        throw too_many_calls(label_, most_pending_);
      if (turns_ < most_) more = add_turn();  // first, as there may be no memory for it
      call.link.store(nullptr, std::memory_order_relaxed);
      (last_ != nullptr ? last_->link : first_).store(&call, std::memory_order_relaxed);
      last_ = &call;
      ++pending_;
    }
    if (more != nullptr) schedule(more);
    return true;
  }

  [[nodiscard]] bool has_ended() const noexcept { return ended_.load(std::memory_order_acquire); }

  /// By its first call, with which the others begin.
  void set_object(std::shared_ptr<void> object) {
    task* more = nullptr;
    {
      const std::lock_guard lock(mutex_);
      object_ = std::move(object);
      if (wanted_ == 1) return;
      most_ = wanted_;
      for (std::size_t n = pending_; n != 0 && turns_ < most_; --n) {
        turn* const t = try_add_turn();
        if (t == nullptr) break;  // this turn goes on, and the next call asks for another one
        t->link.store(std::exchange(more, t), std::memory_order_relaxed);
      }
    }
    while (more != nullptr) schedule(std::exchange(more, more->link.load(std::memory_order_relaxed)));
  }
  /// The calls that it has not come to will fail with actor_died (601), for this reason. False if it has ended already.
  bool end(std::uint32_t generation, std::string why) {
    std::shared_ptr<void> object;  // its destructor may call others
    const std::lock_guard lock(mutex_);
    if ((generation != generation_ && generation != any) || has_ended()) return false;
    why_ = std::move(why);
    ended_.store(true, std::memory_order_release);
    if (turns_ == 0) object = std::move(object_);
    return true;
  }
  /// The object is made anew by `maker`, a call that is taken over, when those that run are over; false if that may not be, and
  /// then `maker` is left alone. Those that wait fail with actor_died (601) for this reason, unless they may be tried again.
  bool restart(std::uint32_t generation, task& maker, std::string_view why) {
    turn* more = nullptr;
    task* lost = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (generation != generation_ || has_ended() || maker_ != nullptr || revival_ == nullptr) return false;
      if (turns_ == 0) more = add_turn();  // first, as there may be no memory for it
      if (!revival_->count_restart()) {
        if (more != nullptr) --turns_, no_longer_waits(*more), more->release();
        return false;
      }
      maker_ = &maker;
      most_ = 1;
      if (revival_->most().task_retries == 0) lost = take_calls_of_users();
    }
    if (more != nullptr) schedule(more);
    while (lost != nullptr) {
      task* const t = std::exchange(lost, lost->link.load(std::memory_order_relaxed));
      call_in_mailbox::of(*t).fail(std::make_exception_ptr(actor_died::made_anew(label_, why)));
      t->release();
    }
    return true;
  }
  /// How often it has been made anew before; and for an actor that can be, its state is kept now. By a call that runs.
  [[nodiscard]] int restarts() const noexcept { return revival_ != nullptr ? revival_->restarts() : 0; }
  void save_state() {
    if (revival_ != nullptr) revival_->save(object());
  }
  void count_call() {
    if (revival_ != nullptr) [[unlikely]]
      revival_->count_call(object());
  }
  [[nodiscard]] revival* anew() noexcept { return revival_.get(); }
  /// Of which class it is, where a message or a handle that has come says so. Throws wrong_actor_type (604).
  void check_type(std::uint32_t generation, const std::type_info& said) {
    const std::lock_guard lock(mutex_);
    if (generation == generation_) check_type(said);
  }
  /// For a call that runs, of a class that is said to be the actor's. Throws actor_died (601), wrong_actor_type (604).
  [[nodiscard]] void* object(const std::type_info& said) {
    check_type(said);  // the same while a call runs
    return object();
  }
  /// The same for who knows. Throws actor_died (601).
  [[nodiscard]] void* object() {
    if (has_ended()) [[unlikely]] {
      const std::lock_guard lock(mutex_);
      throw actor_died(label_, why_);
    }
    return object_.get();
  }

  /// The call that it is at, with a reference; null if there is none, or if several can run at once.
  [[nodiscard]] task* current() noexcept {
    const std::lock_guard lock(mutex_);
    if (current_ != nullptr) current_->retain();
    return current_;
  }

  /// Runs calls up to this one on the thread that waits for it. False if that is under way elsewhere.
  bool bring_nearer(task& call, time_point deadline) noexcept {
    worker* const w = this_worker();
    task_ref<turn> mine;
    {
      const std::lock_guard lock(mutex_);
      if (call.is_running()) {
        pass_on();
        return false;
      }
      while (waiting_ != nullptr && !mine) {
        turn& t = *waiting_;  // lives as long as it is in the list
        t.retain();           // before the claim, which lets the pool drop its own reference
        task_ref<turn> one(&t);
        no_longer_waits(t);
        if (!t.try_claim(runner(w))) continue;
        t.last_ = &call;
        t.deadline_ = deadline;
        mine = std::move(one);
      }
    }
    if (!mine) return false;
    w != nullptr ? scheduler::run_claimed(*w, *mine) : run_in_frame(*mine, this_context());
    return true;
  }
  [[nodiscard]] bool listen(listener& l) noexcept {
    const std::lock_guard lock(mutex_);
    if (waiting_ != nullptr) return false;
    l.previous = last_listener_;
    l.next = nullptr;
    (last_listener_ != nullptr ? last_listener_->next : first_listener_) = &l;
    last_listener_ = &l;
    l.listed = true;
    return true;
  }
  void stop_listening(listener& l, bool leaves) noexcept {
    const std::lock_guard lock(mutex_);
    if (l.listed) unlist(l);
    if (leaves) pass_on();
  }

  /// By a turn.
  void run_calls(turn& self) noexcept {
    constexpr int most_at_once = 256;  // then others of the pool have a go
    std::shared_ptr<void> object;      // as in end()
    turn* successor = nullptr;
    task* t = nullptr;
    for (int n = 0;; ++n) {
      task* const before = t;
      {
        const std::lock_guard lock(mutex_);
        if (self.waits_) no_longer_waits(self);
        if (before != nullptr && current_ == before) current_ = nullptr;
        const bool waits_for_others = maker_ != nullptr && turns_ > 1;
        t = waits_for_others ? nullptr : maker_ != nullptr ? maker_ : first_.load(std::memory_order_relaxed);
        if (t == nullptr) {
          if (--turns_ == 0) {
            if (has_ended()) object = std::move(object_);
            tell_if_awaited();
          }
        } else if (t == maker_) {
          current_ = maker_;
          maker_ = nullptr;
        } else if ((n < most_at_once && !is_over(self)) || (successor = try_add_turn()) == nullptr) {
          first_.store(t->link.load(std::memory_order_relaxed), std::memory_order_relaxed);
          if (last_ == t) last_ = nullptr;
          --pending_;
          begun_ = true;
          if (most_ == 1) current_ = t;
        } else {
          --turns_;
        }
      }
      if (before != nullptr) before->release();
      if (t == nullptr) return;
      if (successor != nullptr) break;
      if (before != nullptr) hand_on();
      run_call(*t);
    }
    schedule(successor);
  }

  /// Until all that has been called has run. False if it had.
  bool wait_until_idle() noexcept {
    for (bool waited = false;; waited = true) {
      {
        const std::lock_guard lock(mutex_);
        idle_.store(turns_ == 0 ? is_idle : awaited, std::memory_order_relaxed);
        if (turns_ == 0) return waited;
      }
      futex::wait(idle_, awaited);
    }
  }

 private:
  static constexpr std::uint32_t is_idle = 0, awaited = 1;

  void check_type(const std::type_info& said) const {
    if (*type_ != said) [[unlikely]]
      throw wrong_actor_type(label_, type_name(*type_), type_name(said));
  }

  // Others look for the runner in the task's own pool.
  [[nodiscard]] std::uint32_t runner(const worker* w) const noexcept {
    return w != nullptr && w->home->id() == pool_ ? w->index + 1 : 0;
  }
  void run_call(task& t) noexcept {
    worker* const w = this_worker();
    if (!t.try_claim(runner(w))) return;  // it has been cancelled
    w != nullptr ? scheduler::run_claimed(*w, t) : run_in_frame(t, this_context());
  }

  // What this worker was to run next, a continuation of the call before, which the call that follows may wait for.
  static void hand_on() noexcept {
    if (worker* const w = this_worker(); w != nullptr && w->next != nullptr)
      w->home->push(std::exchange(w->next, nullptr));
  }

  // All that follow with the mutex held.

  // Those that the actor has not come to, but for its end.
  task* take_calls_of_users() noexcept {
    task* taken = nullptr;
    task* last_taken = nullptr;
    task* t = first_.exchange(nullptr, std::memory_order_relaxed);
    last_ = nullptr;
    while (t != nullptr) {
      task* const next = t->link.exchange(nullptr, std::memory_order_relaxed);
      if (call_in_mailbox::of(*t).kind == call_kind::of_user) {
        (last_taken != nullptr ? last_taken->link.store(t) : void(taken = t));
        last_taken = t;
        --pending_;
      } else {
        (last_ != nullptr ? last_->link : first_).store(t, std::memory_order_relaxed);
        last_ = t;
      }
      t = next;
    }
    return taken;
  }
  // For the caller to schedule. Throws std::bad_alloc.
  turn* add_turn() {
    turn* const t = new turn(*this, pool_);
    ++turns_;
    t->waits_ = true;
    t->next_ = std::exchange(waiting_, t);
    pass_on();
    return t;
  }
  turn* try_add_turn() noexcept {
    try {
      return add_turn();
    } catch (...) {
      return nullptr;
    }
  }
  void no_longer_waits(turn& t) noexcept {
    turn** at = &waiting_;
    while (*at != &t) at = &(*at)->next_;
    *at = t.next_;
    t.waits_ = false;
  }
  [[nodiscard]] static bool is_over(const turn& t) noexcept {
    return t.last_ != nullptr && (t.last_->is_running() || (t.deadline_ != time_point::max() &&
                                                            std::chrono::steady_clock::now() >= t.deadline_));
  }
  // To one who sleeps until a turn waits for a thread, as the pool may have none.
  void pass_on() noexcept {
    if (waiting_ == nullptr || first_listener_ == nullptr) return;
    sleeper* const who = first_listener_->who;
    unlist(*first_listener_);
    who->wake();
  }
  void unlist(listener& l) noexcept {
    (l.previous != nullptr ? l.previous->next : first_listener_) = l.next;
    (l.next != nullptr ? l.next->previous : last_listener_) = l.previous;
    l.listed = false;
  }
  void tell_if_awaited() noexcept {
    if (idle_.load(std::memory_order_relaxed) != awaited) return;
    idle_.store(is_idle, std::memory_order_relaxed);
    futex::wake_one(idle_);
  }

  std::mutex mutex_;
  std::atomic<task*> first_{nullptr};  // of the calls that wait; under the mutex
  task* last_ = nullptr;
  std::size_t pending_ = 0, most_pending_ = 0;
  bool begun_ = false;  // the constructor is not among those that wait
  std::uint32_t generation_ = 0;
  const std::type_info* type_ = nullptr;
  std::uint32_t turns_ = 0, most_ = 1, wanted_ = 1;  // that run or wait for a thread, and how many there may be
  pool_id pool_ = no_pool;
  std::string label_, why_;
  std::atomic<bool> ended_{false};
  std::shared_ptr<void> object_;  // changes while no call runs, but for the first
  std::unique_ptr<revival> revival_;
  task* maker_ = nullptr;    // is to make the object anew, once no other call runs
  task* current_ = nullptr;  // the call that runs, if only one can
  turn* waiting_ = nullptr;  // the turns that wait for a thread
  listener* first_listener_ = nullptr;
  listener* last_listener_ = nullptr;
  std::atomic<std::uint32_t> idle_{is_idle};
};

inline void turn::run() noexcept {
  cell_.run_calls(*this);
  // Nobody waits for it: see function_task.
}

/// What a call runs hears itself that it will not run.
template <class F>
concept can_refuse = requires(F& f, std::exception_ptr why) { f.refuse(why); };

/// A call in a mailbox. F is called with nothing and gives an R.
template <class R, class F>
class call_task final : public function_task<R, F>, public call_in_mailbox {
 public:
  call_task(F&& f, actor_cell& at, call_kind what, std::string_view name, pool_id home, std::uint8_t flags,
            std::source_location where)
      : function_task<R, F>(std::move(f), home, static_cast<std::uint8_t>(flags | task::not_for_help), where),
        call_in_mailbox(at, what),
        name_(name) {}
  void fail(std::exception_ptr why) noexcept override {
    if (!this->try_claim()) return;
    if constexpr (can_refuse<F>)
      this->function().refuse(why);
    else
      this->set_error(std::move(why));
    this->finish(task::completion::from_elsewhere);
  }
  /// Likewise: on this thread, without the actor.
  void run_anyway() noexcept {
    if (this->try_claim()) run_in_frame(*this, this_context());
  }
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  /// That an actor was gone when it was told something is for the log at most: nobody can know in time.
  [[nodiscard]] bool error_ends_program() noexcept override {
    try {
      std::rethrow_exception(this->error());
    } catch (const actor_died&) {
      return false;
    } catch (...) {
      return this->has(task::no_future);
    }
  }
  bool bring_nearer(time_point deadline) noexcept override { return cell.bring_nearer(*this, deadline); }
  [[nodiscard]] bool listen(listener& l) noexcept override { return cell.listen(l); }
  void stop_listening(listener& l, bool leaves) noexcept override { cell.stop_listening(l, leaves); }
  [[nodiscard]] task* held_up_by() noexcept override {
    task* const t = cell.current();
    if (t != this) return t;
    t->release();
    return nullptr;
  }

 private:
  std::string_view name_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
