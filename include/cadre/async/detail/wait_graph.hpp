#ifndef CADRE_ASYNC_DETAIL_WAIT_GRAPH_HPP
#define CADRE_ASYNC_DETAIL_WAIT_GRAPH_HPP

#include <cadre/async/detail/needed_tasks.hpp>
#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/sleeper.hpp>
#include <cadre/async/detail/task.hpp>
#include <cadre/async/error.hpp>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// One target of a wait.
struct watch : continuation {
  watch() noexcept : continuation(&told) {}
  static task* told(continuation& c, wish w) noexcept {
    if (w == wish::fire) static_cast<watch&>(c).waits_in->count_event();
    return nullptr;  // its owners are the tasks of a stack: sleeping_wait knows
  }
  sleeper* waits_in = nullptr;
  task* target = nullptr;
  listener nearer;
  bool added = false;
};

/// A thread that is about to sleep, or sleeps, until tasks are done: in the list of all such while this lives. Making it
/// throws wait_cycle (208) if the wait would be for a task that itself can only go on when this thread does, and
/// forked_process (207) if the tasks are those of the process that this one was forked from.
///
/// A thread's stack is a chain of tasks of which only the top one can go on, so who waits for one of them waits for what
/// the top one waits for. Not seen: a circle through a promise or when_any(), or one of coroutines outside of actors that is
/// closed by a co_await of something else than a call, where no thread sleeps.
class sleeping_wait {
 public:
  sleeping_wait(running_frame* stack, std::span<const watch> targets, std::size_t needed)
      : stack_(stack), targets_(targets), needed_(needed) {
    if (fork_count.load(std::memory_order_relaxed) != 0) check_process();
    needed_tasks seen;  // let go without the lock
    const std::lock_guard lock(the_locks().waits);
    if (stack_ != nullptr && needed_ == targets_.size()) {
      check_cycle();
      check_actors(seen);
    }
    next_ = first();
    if (next_ != nullptr) next_->previous_ = this;
    first() = this;
  }
  sleeping_wait(const sleeping_wait&) = delete;
  sleeping_wait& operator=(const sleeping_wait&) = delete;
  ~sleeping_wait() {
    const std::lock_guard lock(the_locks().waits);
    (previous_ != nullptr ? previous_->next_ : first()) = next_;
    if (next_ != nullptr) next_->previous_ = previous_;
  }

  /// Throws wait_cycle (208) if the coroutine, which is about to be suspended until a task is done, has to go on before that
  /// can be. `begun_in`: a call that runs on this thread, and is over with the coroutine; or null.
  static void check_await(const task& coroutine, const task* begun_in, task& awaited) {
    needed_tasks seen;
    const std::lock_guard lock(the_locks().waits);
    int looks = most_looks;
    // What only its actor's turn is missing for can begin when the coroutine is suspended.
    follow_actors({awaited, nullptr}, looks, seen, [&](const held_up& last) {
      if (last.at == &last.which && (last.at == &coroutine || last.at == begun_in))
        tell_cycle_of_calls(coroutine, last);
    });
  }

  /// A task that cannot be done before another one goes on, and the one before it on the way there.
  struct held_up {
    task& which;
    const held_up* by;
    const task* at = nullptr;  // what has to go on: the call that its actor is at, or itself

    /// " waits for " each, the first first; or without that one, which has been named.
    [[nodiscard]] std::string path(bool with_first = true) const {
      std::string text;
      for (const held_up* h = this; h != nullptr && (with_first || h->by != nullptr); h = h->by)
        text.insert(0, " waits for " + describe(h->which.name(), h->which.at()));
      return text;
    }
    [[nodiscard]] std::string behind() const {
      return at == &which ? "" : ", which its actor can begin only after " + describe(at->name(), at->at());
    }
  };
  /// From a task to all that has to be done before it can be, as far as that is known: `visit(held_up)` for each, with the list
  /// locked.
  template <class Visit>
  static void for_each_needed(task& by, const Visit& visit) {
    needed_tasks seen;
    const std::lock_guard lock(the_locks().waits);
    int looks = most_looks;
    follow_actors({by, nullptr}, looks, seen, visit);
  }

  /// Calls `visit(const sleeping_wait&)` for each, with the list locked.
  template <class Visit>
  static void for_each(Visit visit) {
    const std::lock_guard lock(the_locks().waits);
    for (const sleeping_wait* w = first(); w != nullptr; w = w->next_) visit(*w);
  }

  [[nodiscard]] bool runs(const task& t) const noexcept {
    for (const running_frame* f = stack_; f != nullptr; f = f->outer)
      if (f->runs == &t) return true;
    return false;
  }
  [[nodiscard]] const task* top() const noexcept { return stack_ != nullptr ? stack_->runs : nullptr; }
  [[nodiscard]] std::span<const watch> targets() const noexcept { return targets_; }

 private:
  static sleeping_wait*& first() noexcept {
    static constinit sleeping_wait* f = nullptr;
    return f;
  }

  [[gnu::cold]] void check_process() const {
    for (const watch& w : targets_) {
      bool elsewhere = false;
      pool_registry::with(w.target->home(), [&](scheduler& s) { elsewhere = s.left_behind(); });
      if (elsewhere) throw forked_process();
    }
  }

  // From the tasks of this stack to all that wait for them, and so on: continuations, joins, coroutines, and the stacks of
  // threads that wait for all of their targets. If what this thread is about to wait for is among them, nobody will ever go
  // on. Each list is locked until all that hangs on it has been looked at, so that nothing of that ends meanwhile. The text
  // is put together only if there is a circle, as every sleep in a task comes here.
  void check_cycle() const {
    int looks = most_looks;
    for (const running_frame* f = stack_; f != nullptr; f = f->outer)
      if (f->runs != nullptr) follow({*f->runs, nullptr}, looks);
  }
  void follow(const held_up& task_held_up, int& looks) const {
    for (const held_up* h = task_held_up.by; h != nullptr; h = h->by)
      if (&h->which == &task_held_up.which) return;  // its list is locked by this very thread
    waiter_list::lock list(task_held_up.which.waiters());
    if (!list) return;
    for (continuation* c = list.first(); c != nullptr && looks > 0; c = c->next) {
      --looks;
      if (owns(*c)) tell_cycle(task_held_up);
      if (task* const owner = c->act(*c, continuation::wish::name_owner)) follow({*owner, &task_held_up}, looks);
      for (const sleeping_wait* s = first(); s != nullptr; s = s->next_) {
        if (!s->owns(*c) || s->needed_ != s->targets_.size()) continue;
        for (const running_frame* f = s->stack_; f != nullptr; f = f->outer)
          if (f->runs != nullptr) follow({*f->runs, &task_held_up}, looks);
      }
    }
  }
  [[nodiscard]] bool owns(const continuation& c) const noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(&c);
    return at >= reinterpret_cast<std::uintptr_t>(targets_.data()) &&
           at < reinterpret_cast<std::uintptr_t>(targets_.data() + targets_.size());
  }
  // The other way round for calls of actors, which nothing hangs on: from what is waited for to what its actor is at, if it
  // is a call, to what that waits for, and so on; from each to what it says that it needs.
  void check_actors(needed_tasks& seen) const {
    int looks = most_looks;
    for (const watch& w : targets_)
      follow_actors({*w.target, nullptr}, looks, seen, [this](const held_up& last) {
        if (runs(*last.at)) tell_cycle_of_calls(*stack_->runs, last);
      });
  }
  template <class Visit>
  static void follow_actors(held_up target, int& looks, needed_tasks& seen, const Visit& visit) {
    for (const held_up* h = target.by; h != nullptr; h = h->by)
      if (&h->which == &target.which) return;  // a circle of others
    task* const at = target.which.held_up_by();
    target.at = at != nullptr ? at : &target.which;
    seen.add(task_ref<task>(at));
    if (target.which.done()) return;  // who waited may still sleep, and the actor be at a later call
    visit(target);
    std::size_t i = seen.size();
    target.which.add_needed(seen);
    for (const std::size_t end = seen.size(); i != end; ++i)
      if (--looks > 0) follow_actors({seen[i], &target}, looks, seen, visit);
    for (const sleeping_wait* s = first(); s != nullptr; s = s->next_) {
      if (!s->runs(*target.at) || s->needed_ != s->targets_.size()) continue;
      for (const watch& w : s->targets_)
        if (--looks > 0) follow_actors({*w.target, &target}, looks, seen, visit);
    }
  }
  [[noreturn, gnu::cold]] static void tell_cycle_of_calls(const task& who, const held_up& last) {
    throw wait_cycle(describe(who.name(), who.at()) + last.path() + last.behind());
  }
  [[noreturn, gnu::cold]] void tell_cycle(const held_up& last) const {
    std::string path = top() != nullptr ? describe(top()->name(), top()->at()) : "a task";
    for (const held_up* h = &last; h != nullptr; h = h->by)
      path.append(" waits for ").append(describe(h->which.name(), h->which.at()));
    throw wait_cycle(path);
  }

  static constexpr int most_looks = 256;

  running_frame* stack_;
  std::span<const watch> targets_;
  std::size_t needed_;
  sleeping_wait* previous_ = nullptr;
  sleeping_wait* next_ = nullptr;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
