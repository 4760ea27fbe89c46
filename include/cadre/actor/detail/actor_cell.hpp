#ifndef CADRE_ACTOR_DETAIL_ACTOR_CELL_HPP
#define CADRE_ACTOR_DETAIL_ACTOR_CELL_HPP

#include <cadre/actor/error.hpp>
#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/state.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

class actor_cell;

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
  /// It is to end behind this call. By who has claimed the turn.
  void end_behind(const task& call) noexcept { last_ = &call; }

 private:
  actor_cell& cell_;
  const task* last_ = nullptr;
};

/// An actor's object and its mailbox. Calls run in the order in which they came, one at a time, or up to `most` at once. The
/// cell outlives the actor, and is used again for another one: whoever calls says which of them is meant.
///
/// Thread-safety: all functions, from any thread.
class actor_cell {
 public:
  static constexpr std::uint32_t any = ~std::uint32_t{0};

  actor_cell() = default;
  actor_cell(const actor_cell&) = delete;
  actor_cell& operator=(const actor_cell&) = delete;

  /// Another actor moves in, if the last one has gone. Returns which one of this cell it is, or 0.
  std::uint32_t begin(pool_id pool, std::string label, std::uint32_t most_at_once, std::size_t most_pending) {
    const std::lock_guard lock(mutex_);
    if (turns_ != 0 || (generation_ != 0 && !has_ended())) return 0;
    ended_.store(false, std::memory_order_relaxed);
    pool_ = pool;
    label_ = std::move(label);
    most_ = 1;
    wanted_ = most_at_once;
    most_pending_ = most_pending;
    return ++generation_;
  }

  /// Takes over one reference of the call. False if the actor is another one by now. Throws too_many_calls (605).
  bool push(std::uint32_t generation, task& call) {
    {
      const std::lock_guard lock(mutex_);
      if (generation != generation_) return false;
      if (most_pending_ != 0 && pending_ >= most_pending_) throw too_many_calls(label_, most_pending_);
      call.link.store(nullptr, std::memory_order_relaxed);
      (last_ != nullptr ? last_->link : first_).store(&call, std::memory_order_relaxed);
      last_ = &call;
      ++pending_;
      if (turns_ == most_) return true;
      ++turns_;
    }
    schedule_turn();
    return true;
  }

  /// By its first call, with which the others begin.
  void set_object(std::shared_ptr<void> object) {
    std::uint32_t more = 0;
    {
      const std::lock_guard lock(mutex_);
      object_ = std::move(object);
      if (wanted_ == 1) return;
      most_ = wanted_;
      while (turns_ < most_ && more < pending_) ++turns_, ++more;
    }
    for (; more != 0; --more) schedule_turn();
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
  /// For a call that runs. Throws actor_died (601).
  [[nodiscard]] void* object() {
    if (has_ended()) [[unlikely]] {
      const std::lock_guard lock(mutex_);
      throw actor_died(label_, why_);
    }
    return object_.get();
  }
  [[nodiscard]] bool lives(std::uint32_t generation) {
    const std::lock_guard lock(mutex_);
    return generation == generation_ && !has_ended();
  }

  /// The call that it is at, with a reference; null if there is none, or if several can run at once.
  [[nodiscard]] task* current() noexcept {
    task* const t = current_.load(std::memory_order_acquire);
    return t == nullptr ? nullptr : retain_if_still(current_, t);
  }

  /// Runs calls up to this one on the thread that waits for it. False if that is under way elsewhere.
  bool bring_nearer(task& call) noexcept {
    task* const t = turn_.load(std::memory_order_acquire);
    if (t == nullptr || retain_if_still(turn_, t) == nullptr) return false;
    const task_ref<task> reference(t);
    worker* const w = this_worker();
    if (!t->try_claim(w != nullptr && w->home->id() == pool_ ? w->index + 1 : 0)) return false;
    static_cast<turn*>(t)->end_behind(call);
    w != nullptr ? scheduler::run_claimed(*w, *t) : run_in_frame(*t, this_context());
    return true;
  }

  /// By a turn: up to the call `until`, if that is not null.
  void run_calls(const task* until) noexcept {
    constexpr int most_at_once = 256;  // then others of the pool have a go
    turn_.store(nullptr, std::memory_order_relaxed);
    std::shared_ptr<void> object;  // as in end()
    for (int n = 0;; ++n) {
      task* t = nullptr;
      {
        const std::lock_guard lock(mutex_);
        t = first_.load(std::memory_order_relaxed);
        if (t == nullptr) {
          if (--turns_ == 0 && has_ended()) object = std::move(object_);
          return;
        }
        if (n == most_at_once || (until != nullptr && until->done())) break;
        first_.store(t->link.load(std::memory_order_relaxed), std::memory_order_relaxed);
        if (last_ == t) last_ = nullptr;
        --pending_;
      }
      run_call(*t);
      t->release();
    }
    schedule_turn();
  }

 private:
  [[nodiscard]] bool has_ended() const noexcept { return ended_.load(std::memory_order_acquire); }

  void schedule_turn() {
    turn* const t = new turn(*this, pool_);
    if (most_ == 1) turn_.store(t, std::memory_order_release);
    schedule(t);
  }
  void run_call(task& t) noexcept {
    worker* const w = this_worker();
    if (!t.try_claim(w != nullptr && w->home->id() == pool_ ? w->index + 1 : 0)) return;  // it has been cancelled
    if (most_ == 1) current_.store(&t, std::memory_order_release);
    w != nullptr ? scheduler::run_claimed(*w, t) : run_in_frame(t, this_context());
    current_.store(nullptr, std::memory_order_relaxed);
  }
  // What `where` points to lies in the memory of nodes, and may have ended: then `where` says so.
  static task* retain_if_still(const std::atomic<task*>& where, task* t) noexcept {
    if (task::retain_at(t) == nullptr) return nullptr;
    if (where.load(std::memory_order_acquire) == t) return t;
    t->release();
    return nullptr;
  }

  std::mutex mutex_;
  std::atomic<task*> first_{nullptr};  // of the calls that wait; under the mutex
  task* last_ = nullptr;
  std::size_t pending_ = 0, most_pending_ = 0;
  std::uint32_t generation_ = 0;
  std::uint32_t turns_ = 0, most_ = 1, wanted_ = 1;  // that run or wait for a thread, and how many there may be
  pool_id pool_ = no_pool;
  std::string label_, why_;
  std::atomic<bool> ended_{false};
  std::shared_ptr<void> object_;         // changes while no call runs, but for the first
  std::atomic<task*> turn_{nullptr};     // that waits for a thread, if only one can run
  std::atomic<task*> current_{nullptr};  // likewise, the call that runs
};

inline void turn::run() noexcept {
  cell_.run_calls(last_);
  // Nobody waits for it: see function_task.
}

/// A call in a mailbox. F is called with nothing and gives an R.
template <class R, class F>
class call_task final : public function_task<R, F> {
 public:
  call_task(F&& f, actor_cell& cell, std::string_view name, pool_id home, std::uint8_t flags, std::source_location at)
      : function_task<R, F>(std::move(f), home, static_cast<std::uint8_t>(flags | task::not_for_help), at),
        cell_(cell),
        name_(name) {}
  /// In place of its run. By who holds a reference.
  void fail(std::exception_ptr why) noexcept {
    if (!this->try_claim()) return;
    if constexpr (requires(F& f) { f.refuse(why); })
      this->function().refuse(why);
    else
      this->set_error(std::move(why));
    this->finish(task::completion::from_elsewhere);
  }
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  bool bring_nearer() noexcept override { return cell_.bring_nearer(*this); }
  [[nodiscard]] task* held_up_by() noexcept override {
    task* const t = cell_.current();
    if (t != this) return t;
    t->release();
    return nullptr;
  }

 private:
  actor_cell& cell_;
  std::string_view name_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
