#ifndef CADRE_ACTOR_DETAIL_MAILBOX_HPP
#define CADRE_ACTOR_DETAIL_MAILBOX_HPP

#include <cadre/actor/detail/arrivals.hpp>
#include <cadre/actor/detail/call_in_mailbox.hpp>
#include <cadre/async/detail/strand.hpp>
#include <cadre/async/detail/task.hpp>

#include <sched.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Some long calls.
class long_call_list {
 public:
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] long_call* first() const noexcept { return first_; }
  void push(long_call& c) noexcept {
    c.in = this;
    c.previous = last_;
    c.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &c;
    last_ = &c;
    ++size_;
  }
  void remove(long_call& c) noexcept {
    (c.previous != nullptr ? c.previous->next : first_) = c.next;
    (c.next != nullptr ? c.next->previous : last_) = c.previous;
    c.in = nullptr;
    --size_;
  }

 private:
  long_call* first_ = nullptr;
  long_call* last_ = nullptr;
  std::size_t size_ = 0;
};

/// Tasks that wait, by their links.
class task_list {
 public:
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] task* first() const noexcept { return first_.load(std::memory_order_relaxed); }
  void push(task& t) noexcept {
    t.link.store(nullptr, std::memory_order_relaxed);
    (last_ != nullptr ? last_->link : first_).store(&t, std::memory_order_relaxed);
    last_ = &t;
    ++size_;
  }
  /// Of one that is not empty.
  task& pop() noexcept {
    task& t = *first();
    first_.store(t.link.load(std::memory_order_relaxed), std::memory_order_relaxed);
    if (last_ == &t) last_ = nullptr;
    --size_;
    return t;
  }
  /// Those of the other list come before these.
  void prepend(task_list& other) noexcept {
    if (other.last_ == nullptr) return;
    other.last_->link.store(first(), std::memory_order_relaxed);
    first_.store(other.first_.exchange(nullptr, std::memory_order_relaxed), std::memory_order_relaxed);
    last_ = last_ == nullptr ? other.last_ : last_;
    other.last_ = nullptr;
    size_ += std::exchange(other.size_, 0);
  }

 private:
  std::atomic<task*> first_{nullptr};  // as a link is
  task* last_ = nullptr;
  std::size_t size_ = 0;
};

/// What an actor has to do: the calls that wait, in their order, the coroutines that are to go on, and the long calls that have
/// begun and are not over.
///
/// An actor ends when no long call is left, so a stop is put aside until then, and calls that come up meanwhile are refused; all
/// others can be told, as they may be what a long call waits for. An object that is made anew waits for those long calls
/// that are to be made again: their coroutines are asked to stop, and still use the arguments until they are over.
///
/// Thread-safety: none but for arrive(); guarded by the actor's mutex.
class mailbox {
 public:
  static constexpr std::uint32_t most_actors = arrivals::most_actors;  ///< of a cell

  /// Of another actor.
  void begin() noexcept { is_constructed_ = false; }

  /// Without the constructor.
  [[nodiscard]] std::size_t size() const noexcept {
    return calls_.size() + long_calls() - (is_constructed_ || calls_.size() == 0 ? 0 : 1);
  }
  void push(task& call) noexcept { calls_.push(call); }
  /// The same by any thread, without the mutex. False if it is not open for that actor of the cell.
  [[nodiscard]] bool arrive(std::uint32_t actor, task& call) noexcept { return arrivals_.push(actor, call); }
  /// From now on a turn of an actor that runs one call at a time, however many wait, takes what arrives.
  void open(std::uint32_t actor) noexcept { arrivals_.open(actor); }
  /// A part of a coroutine, or a long call that is to finish.
  void resume(task& part) noexcept { resumed_.push(part); }

  /// The call that runs, or the first that waits, of which `is_it(const task*)` is true, with a reference; or null.
  template <class IsIt>
  [[nodiscard]] task* find(const IsIt& is_it, task* running) noexcept {
    take_arrivals();
    task* t = is_it(running) ? running : calls_.first();
    while (t != nullptr && !is_it(t)) t = t->link.load(std::memory_order_relaxed);
    if (t != nullptr) t->retain();
    return t;
  }

  /// What is to run next; null if nothing may now. Calls and parts of coroutines take turns.
  [[nodiscard]] task* next(std::uint32_t turns) noexcept {
    task* const call = next_call(turns);
    return call != nullptr && (call_is_next_ || resumed_.size() == 0) ? call : resumed_.first();
  }
  /// The same for a turn. If it is null and this is the only turn nothing arrives any more: who calls has to make another.
  [[nodiscard]] task* next_or_close(std::uint32_t turns) noexcept {
    for (;;) {
      if (calls_.size() == 0)
        if (task* const call = arrivals_.pop()) calls_.push(*call);
      if (task* const t = next(turns)) return t;
      if (turns > 1 || arrivals_.close()) return nullptr;
      if (task* const call = arrivals_.pop())
        calls_.push(*call);
      else
        ::sched_yield();  // one is about to be there
    }
  }
  struct taken {
    task* whose = nullptr;  // with a reference
    task* part = nullptr;   // what goes on of it, if it has begun
    bool refused = false;   // it came after the actor's end
  };
  /// That.
  [[nodiscard]] taken take(task& t) noexcept {
    if (&t == resumed_.first()) {
      call_is_next_ = true;
      resumed_.pop();
      task* const whose = t.has(task::bare) ? static_cast<resumption&>(t).whose() : &t;
      whose->retain();
      return {.whose = whose, .part = &t};
    }
    call_is_next_ = false;
    if (&t == maker_) {
      maker_ = nullptr;
      bring_back();
      return {.whose = &t};
    }
    calls_.pop();
    is_constructed_ = true;
    if (t.is_pending() && !is_stopping_) [[unlikely]]
      if (long_call& c = long_call::of(t); c.now == long_call::stage::waits) {
        c.now = long_call::stage::runs;
        begun_.push(c);
      }
    return {.whose = &t, .refused = is_stopping_};
  }
  /// Those that wait, but for the actor's end: by their links.
  [[nodiscard]] task* take_calls_of_users() noexcept {
    take_arrivals();
    task_list others, users;
    while (calls_.size() != 0) {
      task& t = calls_.pop();
      (call_in_mailbox::of(t).kind == call_kind::of_user ? users : others).push(t);
    }
    calls_.prepend(others);
    return users.first();
  }

  // ---- Long calls

  /// That have begun and are not over.
  [[nodiscard]] std::size_t long_calls() const noexcept { return begun_.size() + unwinding_.size(); }
  void leave(long_call& c) noexcept {
    if (c.in == &unwinding_) --unwinding_left_;
    if (c.in != nullptr) c.in->remove(c);
    if (long_calls() == 0) bring_back();
  }
  /// Their futures fail with what `why()` gives, one for each. Returns whom to tell, with a reference of each.
  template <class Why>
  [[nodiscard]] std::vector<long_call*> lose(const Why& why) {
    std::vector<long_call*> told;
    told.reserve(long_calls());
    for (long_call_list* const all : {&begun_, &unwinding_})
      for (long_call *c = all->first(), *after = nullptr; c != nullptr; c = after) {
        after = c->next;
        if (c->now != long_call::stage::runs && c->now != long_call::stage::open) continue;
        if (all == &unwinding_) --unwinding_left_;
        lose(*c, why(), told);
      }
    bring_back();
    return told;
  }

  // ---- The object is made anew

  [[nodiscard]] bool has_maker() const noexcept { return maker_ != nullptr; }
  [[nodiscard]] bool is_maker(const task& t) const noexcept { return maker_ == &t; }
  /// Comes before all calls, once no other call runs.
  void set_maker(task& maker) noexcept { maker_ = &maker; }
  /// The long calls are to be made again, but for those that have been so often before. Returns whom to tell, as above.
  template <class Why>
  [[nodiscard]] std::vector<long_call*> make_again(int retries, const Why& why) {
    std::vector<long_call*> told;
    told.reserve(begun_.size());
    for (long_call *c = begun_.first(), *after = nullptr; c != nullptr; c = after) {
      after = c->next;
      if (retries >= 0 && c->times_again >= retries) {
        lose(*c, why(), told);
        continue;
      }
      ++c->times_again;
      c->again = true;
      begun_.remove(*c);
      unwinding_.push(*c);
      ++unwinding_left_;
      c->node().retain();
      told.push_back(c);
    }
    if (long_calls() == 0) bring_back();
    return told;
  }
  /// The coroutine of such a call is over. Takes over a reference of the call, and gives that of its future.
  [[nodiscard]] task_ref<task> take_back(long_call& c) noexcept {
    c.again = false;
    c.now = long_call::stage::waits;
    --unwinding_left_;
    return c.take_future();
  }

 private:
  void take_arrivals() noexcept {
    while (task* const call = arrivals_.pop()) calls_.push(*call);
  }
  [[nodiscard]] task* next_call(std::uint32_t turns) noexcept {
    if (maker_ != nullptr) return turns > 1 || unwinding_left_ != 0 ? nullptr : maker_;
    while (long_calls() != 0 && calls_.size() != 0 && call_in_mailbox::of(*calls_.first()).kind == call_kind::stop) {
      stops_.push(calls_.pop());
      is_stopping_ = true;
    }
    return calls_.first();
  }
  static void lose(long_call& c, std::exception_ptr why, std::vector<long_call*>& told) {
    c.in->remove(c);
    c.lost = true;
    c.why_lost = std::move(why);
    c.again = false;
    c.node().retain();
    told.push_back(&c);
  }
  // What was put aside comes before the calls that wait: those that are made again, then the actor's end.
  void bring_back() noexcept {
    is_stopping_ = false;
    calls_.prepend(stops_);
    task_list again;
    for (long_call *c = unwinding_.first(), *after = nullptr; c != nullptr; c = after) {
      after = c->next;
      if (c->now != long_call::stage::waits && c->now != long_call::stage::over) continue;
      unwinding_.remove(*c);
      again.push(c->node());
    }
    calls_.prepend(again);
  }

  arrivals arrivals_;
  task_list calls_;
  bool is_constructed_ = false;
  task_list resumed_;
  bool call_is_next_ = false;
  long_call_list begun_;
  long_call_list unwinding_;        // those that are to be made again when their coroutines are over
  std::size_t unwinding_left_ = 0;  // of which that is not so yet
  task_list stops_;                 // put aside
  bool is_stopping_ = false;
  task* maker_ = nullptr;  // is to make the object anew
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
