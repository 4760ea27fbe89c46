#ifndef CADRE_ACTOR_DETAIL_ACTOR_CELL_HPP
#define CADRE_ACTOR_DETAIL_ACTOR_CELL_HPP

#include <cadre/actor/detail/admission.hpp>
#include <cadre/actor/detail/letters.hpp>
#include <cadre/actor/detail/listener_list.hpp>
#include <cadre/actor/detail/mailbox.hpp>
#include <cadre/actor/detail/revival.hpp>
#include <cadre/actor/detail/turn.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/sleeper.hpp>
#include <cadre/async/detail/strand.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/core/function.hpp>
#include <cadre/os/futex.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// An actor's object and its mailbox. Calls run in the order in which they came, one at a time, or up to `most` at once. The
/// cell outlives the actor, and all threads that wait for calls, and is used again for another one: whoever calls says which
/// of them is meant.
///
/// Long calls, that is coroutines, hold no turn while they are suspended; they go on in one. The object lives until the last of
/// them is over.
///
/// Thread-safety: all functions, from any thread.
class actor_cell final : public strand {
 public:
  static constexpr std::uint32_t any = ~std::uint32_t{0};

  actor_cell() = default;

  /// Another actor moves in, if the last one has gone. Returns which one of this cell it is, or 0. `anew` is null for one
  /// that is never made anew, and taken only if this begins.
  std::uint32_t begin(const std::type_info& type, pool_id pool, std::string label, std::uint32_t most_at_once,
                      std::size_t most_pending, std::unique_ptr<revival>& anew) {
    const std::lock_guard lock(mutex_);
    if (turns_ != 0 || (generation_ != 0 && !has_ended()) || generation_ == mailbox::most_actors) return 0;
    ended_.store(false, std::memory_order_relaxed);
    mail_.begin();
    type_ = &type;
    pool_ = pool;
    label_ = std::move(label);
    most_ = 1;
    wanted_ = most_at_once;
    most_pending_ = most_pending;
    revival_ = std::move(anew);
    takes_letters_.store(wanted_ == 1 && most_pending_ == 0 && revival_ == nullptr ? generation_ + 1 : 0);
    return ++generation_;
  }

  /// Takes over one reference of the call. False if the actor is another one by now. With `counts` throws too_many_calls
  /// (605).
  bool push(std::uint32_t generation, task& call, bool counts) {
    if (mail_.arrive(generation, call)) return true;
    turn* more = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (generation != generation_) return false;
      if (counts && most_pending_ != 0 && mail_.size() >= most_pending_) throw too_many_calls(label_, most_pending_);
      if (turns_ < most_) more = add_turn();  // first, as there may be no memory for it
      mail_.push(call);
    }
    if (more != nullptr) schedule(more);
    return true;
  }
  /// Whether calls of it may come as letters: it runs one at a time, limits none that wait, and is never made anew.
  [[nodiscard]] bool takes_letters(std::uint32_t generation) const noexcept {
    return generation != 0 && generation == takes_letters_.load(std::memory_order_relaxed);
  }
  /// Of the turn: letters are for actors that have one at a time.
  [[nodiscard]] letters_of_turn& letters_run() noexcept { return letters_run_; }

  /// Before its first call is pushed: none begins before admit(), and what it holds is given back when it has gone.
  void hold(admission::held what) {
    const std::lock_guard lock(mutex_);
    held_ = std::move(what);
    most_ = 0;
  }
  void admit(std::uint32_t generation) {
    change_mail([&] {
      if (generation == generation_ && !has_ended() && most_ == 0) most_ = 1;
    });
  }
  /// 0, or which actor of this cell it is, if it was admitted and holds some of that; null: of anything.
  [[nodiscard]] std::uint32_t holds_of(const resource_ledger<>* from) noexcept {
    const std::lock_guard lock(mutex_);
    if (held_ == nullptr || most_ == 0 || has_ended()) return 0;
    return from == nullptr || held_->extras()->ledger.get() == from ? generation_ : 0;
  }
  /// For a call that runs, or its coroutine; null if the actor holds nothing.
  [[nodiscard]] task_extras* extras() noexcept override { return held_ != nullptr ? held_->extras() : nullptr; }

  [[nodiscard]] bool has_ended() const noexcept { return ended_.load(std::memory_order_acquire); }

  /// By its first call, with which the others begin.
  void set_object(std::shared_ptr<void> object) {
    task* more = nullptr;
    {
      const std::lock_guard lock(mutex_);
      object_ = std::move(object);
      if (wanted_ == 1) return;
      most_ = wanted_;
      for (std::size_t n = mail_.size(); n != 0 && turns_ < most_; --n) {
        turn* const t = try_add_turn();
        if (t == nullptr) break;  // this turn goes on, and the next call asks for another one
        t->link.store(std::exchange(more, t), std::memory_order_relaxed);
      }
    }
    while (more != nullptr) schedule(std::exchange(more, more->link.load(std::memory_order_relaxed)));
  }
  /// The calls that are not over will fail with actor_died (601), for this reason, but for one that a turn is at. False if it
  /// has ended already.
  bool end(std::uint32_t generation, std::string why) {
    admission::held held;          // given back after the object's end
    std::shared_ptr<void> object;  // its destructor may call others
    turn* more = nullptr;
    std::vector<long_call*> lost;
    move_only_function<void()> ends;
    {
      const std::lock_guard lock(mutex_);
      if ((generation != generation_ && generation != any) || has_ended()) return false;
      if (mail_.long_calls() != 0) lost = mail_.lose([&] { return std::make_exception_ptr(actor_died(label_, why)); });
      if (held_ != nullptr) ends = held_->take_ends();
      why_ = std::move(why);
      if (most_ == 0) most_ = 1;  // for the calls to fail
      ended_.store(true, std::memory_order_release);
      more = turn_if_needed();
      if (turns_ == 0) {
        object = std::move(object_);
        held = std::move(held_);
      }
    }
    if (ends) ends();
    tell(lost, more);
    return true;
  }
  /// The object is made anew by `maker`, a call that is taken over, when those that run are over; false if that may not be, and
  /// then `maker` is left alone. Those that wait, and long ones that are not over, fail with actor_died (601) for this reason,
  /// unless they may be tried again.
  bool restart(std::uint32_t generation, task& maker, std::string_view why) {
    turn* more = nullptr;
    task* lost = nullptr;
    std::vector<long_call*> told;
    bool may = false;
    {
      const std::lock_guard lock(mutex_);
      if (generation != generation_ || has_ended() || mail_.has_maker() || revival_ == nullptr) return false;
      if (turns_ == 0 && most_ != 0) more = add_turn();  // first, as there may be no memory for it
      may = revival_->count_restart();  // if not, a turn that was made finds nothing, or what has arrived since
      if (may) {
        mail_.set_maker(maker);
        if (most_ != 0) most_ = 1;
        const int retries = revival_->most().task_retries;
        if (retries == 0) lost = mail_.take_calls_of_users();
        if (mail_.long_calls() != 0)
          told = mail_.make_again(retries, [&] { return std::make_exception_ptr(actor_died::made_anew(label_, why)); });
      }
    }
    tell(told, more);
    while (lost != nullptr) {
      task* const t = std::exchange(lost, lost->link.load(std::memory_order_relaxed));
      call_in_mailbox::of(*t).fail(std::make_exception_ptr(actor_died::made_anew(label_, why)));
      t->release();
    }
    return may;
  }
  /// How often it has been made anew before; and for an actor that can be, its state is kept now. By a call that runs.
  [[nodiscard]] int restarts() const noexcept { return revival_ != nullptr ? revival_->restarts() : 0; }
  void save_state() {
    if (revival_ != nullptr) revival_->save(object());
  }
  void count_call() {
    if (saves_after_calls() && !has_ended()) [[unlikely]]
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

  // ---- Long calls

  /// What the tasks that it runs, and the coroutines that they begin, go on in. By one of those.
  [[nodiscard]] std::shared_ptr<strand> as_strand() noexcept { return {object_, this}; }
  void go_on(resumption& next) noexcept override { resume(next); }
  /// In a turn.
  void finish(long_call& c) noexcept { resume(c.node()); }
  [[nodiscard]] bool saves_after_calls() const noexcept {
    return revival_ != nullptr && revival_->most().checkpoint_every != 0;
  }
  /// Whether a call may be made again, so that it must not give its arguments away.
  [[nodiscard]] bool may_repeat() const noexcept { return revival_ != nullptr && revival_->most().task_retries != 0; }
  /// It is over.
  void leave(long_call& c) noexcept {
    change_mail([&] { mail_.leave(c); });
  }
  /// Its coroutine is over, as it was cancelled so that the call can be made again of the next object. Takes a reference over
  /// then; false if it is not to be made again.
  [[nodiscard]] bool take_back(long_call& c) noexcept {
    task_ref<task> old;
    turn* more = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (!c.again || c.node().stop_requested()) return false;
      old = mail_.take_back(c);
      more = turn_if_needed();
    }
    if (more != nullptr) schedule(more);
    return true;
  }
  [[nodiscard]] std::mutex& mutex() noexcept { return mutex_; }

  /// What has to end before a call has its turn, with a reference; null if there is nothing, or if several can run at once.
  [[nodiscard]] task* current_before(const task& call) noexcept {
    const std::lock_guard lock(mutex_);
    if (current_ == nullptr || current_ == &call) return nullptr;
    current_->retain();
    return current_;
  }
  /// The letters that still have a call from another rank; or null.
  [[nodiscard]] task_ref<task> find_letter(int from, std::uint64_t number) noexcept {
    const auto has_it = [&](const task* t) { return letters::still_have(t, from, number); };
    const std::lock_guard lock(mutex_);
    return task_ref<task>(mail_.find(has_it, current_));
  }

  /// Runs calls up to this one on the thread that waits for it. False if that is under way elsewhere.
  bool bring_nearer(call_in_mailbox& call, time_point deadline) noexcept {
    worker* const w = this_worker();
    task_ref<turn> mine;
    {
      const std::lock_guard lock(mutex_);
      if (call.has_begun() || !may_bring(call)) {
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
  [[nodiscard]] bool listen(const call_in_mailbox& call, listener& l) noexcept {
    const std::lock_guard lock(mutex_);
    if (call.has_begun() || !may_bring(call)) return true;  // there is nothing to do for it
    if (waiting_ != nullptr) return false;
    listeners_.push(l);
    return true;
  }
  void stop_listening(listener& l, bool leaves) noexcept {
    const std::lock_guard lock(mutex_);
    if (l.listed) listeners_.remove(l);
    if (leaves) pass_on();
  }

  /// By a turn.
  void run_calls(turn& self) noexcept {
    constexpr int most_at_once = 256;  // then others of the pool have a go
    admission::held held;              // as in end()
    std::shared_ptr<void> object;
    turn* successor = nullptr;
    task* t = nullptr;
    for (int n = 0;; ++n) {
      task* const before = t;
      mailbox::taken what;
      receives_letters* owed = nullptr;
      {
        const std::lock_guard lock(mutex_);
        if (self.waits_) no_longer_waits(self);
        if (before != nullptr && current_ == before) current_ = nullptr;
        t = mail_.next_or_close(turns_);
        if (t == nullptr) {
          if (--turns_ == 0) {
            if (has_ended()) {
              object = std::move(object_);
              held = std::move(held_);
            }
            tell_if_awaited();
          }
        } else if (mail_.is_maker(*t) || (n < most_at_once && !is_over(self)) ||
                   (successor = try_add_turn()) == nullptr) {
          what = mail_.take(*t);
          t = what.whose;
          if (most_ == 1) current_ = t;
        } else {
          --turns_;
        }
        if (letters_run_.calls != 0) n += static_cast<int>(std::exchange(letters_run_.calls, 0));
        // Before another turn can begin.
        if (letters_run_.owes != nullptr &&
            (t == nullptr || successor != nullptr || dynamic_cast<letters*>(t) == nullptr))
          owed = std::exchange(letters_run_.owes, nullptr);
      }
      if (before != nullptr) before->release();
      if (owed != nullptr) owed->answers_end();
      if (t == nullptr) return;
      if (successor != nullptr) break;
      if (before != nullptr) hand_on();
      if (what.part != nullptr)
        run_part(*what.part);
      else if (what.refused)
        call_in_mailbox::of(*t).fail(std::make_exception_ptr(actor_died(label_, "it was stopped")));
      else
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
      refuse(said);
  }
  [[noreturn]] [[gnu::cold]] void refuse(const std::type_info& said) const {
    throw wrong_actor_type(label_, type_name(*type_), type_name(said));
  }

  // Others look for the runner in the task's own pool.
  [[nodiscard]] std::uint32_t runner(const worker* w) const noexcept {
    return w != nullptr && w->home->id() == pool_ ? w->index + 1 : 0;
  }
  void run_call(task& t) noexcept {
    worker* const w = this_worker();
    if (!t.try_claim(runner(w)) && !t.is_pending()) return;  // it has been cancelled; a long call is never claimed
    std::optional<thread_limit> limit;
    if (held_ != nullptr && held_->extras()->processors > 1) limit.emplace(held_->extras()->processors);
    w != nullptr ? scheduler::run_claimed(*w, t) : run_in_frame(t, this_context());
  }

  // Of a coroutine, or the end of a long call.
  static void run_part(task& part) noexcept {
    if (!part.has(task::bare))
      long_call::of(part).finish();
    else if (worker* const w = this_worker(); w != nullptr)
      run_bare(*w, part);
    else
      part.run();
  }
  void resume(task& part) noexcept {
    change_mail([&] { mail_.resume(part); });
  }
  template <class Change>
  void change_mail(const Change& change) noexcept {
    turn* more = nullptr;
    {
      const std::lock_guard lock(mutex_);
      change();
      more = turn_if_needed();
    }
    if (more != nullptr) schedule(more);
  }
  static void tell(const std::vector<long_call*>& about, turn* more) noexcept {
    if (more != nullptr) schedule(more);
    for (long_call* const c : about) {
      c->heed();
      c->node().release();
    }
  }

  // What this worker was to run next, a continuation of the call before, which the call that follows may wait for.
  static void hand_on() noexcept {
    if (worker* const w = this_worker(); w != nullptr && w->next != nullptr)
      w->home->push(std::exchange(w->next, nullptr));
  }

  // All that follow with the mutex held.

  // Where no turn looks at what has just changed. Without memory for one that has to wait for the next call.
  [[nodiscard]] turn* turn_if_needed() noexcept {
    return turns_ < most_ && mail_.next(turns_) != nullptr ? try_add_turn() : nullptr;
  }
  // For the caller to schedule. Throws std::bad_alloc.
  turn* add_turn() {
    turn* const t = new turn(*this, pool_);
    if (turns_++ == 0 && wanted_ == 1 && most_pending_ == 0) mail_.open(generation_);
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
  [[nodiscard]] bool is_over(const turn& t) noexcept {
    return t.last_ != nullptr && (t.last_->has_begun() || !may_bring(*t.last_) || is_past(t.deadline_));
  }
  // Whether who waits for that call may run those before it: of several that run at once one may wait for just that thread.
  [[nodiscard]] bool may_bring(const call_in_mailbox& call) noexcept {
    return most_ == 1 || dynamic_cast<const call_in_mailbox*>(mail_.next(turns_)) == &call;
  }
  // To one who sleeps until a turn waits for a thread, as the pool may have none.
  void pass_on() noexcept {
    if (waiting_ == nullptr || listeners_.empty()) return;
    sleeper* const who = listeners_.pop().who;
    who->wake();
  }
  void tell_if_awaited() noexcept {
    if (idle_.load(std::memory_order_relaxed) != awaited) return;
    idle_.store(is_idle, std::memory_order_relaxed);
    futex::wake_one(idle_);
  }

  std::mutex mutex_;
  mailbox mail_;
  std::size_t most_pending_ = 0;
  std::uint32_t generation_ = 0;
  std::atomic<std::uint32_t> takes_letters_{0};  // the generation that does
  const std::type_info* type_ = nullptr;
  std::uint32_t turns_ = 0, most_ = 1, wanted_ = 1;  // that run or wait for a thread, and how many there may be
  pool_id pool_ = no_pool;
  std::string label_, why_;
  std::atomic<bool> ended_{false};
  admission::held held_;          // null: nothing; changes while no call runs
  std::shared_ptr<void> object_;  // changes while no call runs, but for the first
  std::unique_ptr<revival> revival_;
  task* current_ = nullptr;  // the call that runs, if only one can
  turn* waiting_ = nullptr;  // the turns that wait for a thread
  listener_list listeners_;
  std::atomic<std::uint32_t> idle_{is_idle};
  letters_of_turn letters_run_;
};

inline std::shared_ptr<strand> letters::cell_strand() noexcept { return cell.as_strand(); }
inline task_extras* letters::cell_extras() noexcept { return cell.extras(); }
inline task* letters::call_before() noexcept { return cell.current_before(*this); }
inline letters_of_turn& letters::turn() noexcept { return cell.letters_run(); }

inline void turn::run_calls() noexcept {
  cell_.run_calls(*this);
  // Nobody waits for it: see function_task.
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
