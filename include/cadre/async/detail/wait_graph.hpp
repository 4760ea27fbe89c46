#ifndef CADRE_ASYNC_DETAIL_WAIT_GRAPH_HPP
#define CADRE_ASYNC_DETAIL_WAIT_GRAPH_HPP

#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/sleeper.hpp>
#include <cadre/async/detail/task.hpp>
#include <cadre/async/error.hpp>

#include <cstddef>
#include <mutex>
#include <span>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// One target of a wait.
struct watch : continuation {
  watch() noexcept : continuation(&told) {}
  static task* told(continuation& c) noexcept {
    static_cast<watch&>(c).waits_in->count_event();
    return nullptr;
  }
  sleeper* waits_in = nullptr;
  task* target = nullptr;
  bool added = false;
};

/// A thread that is about to sleep, or sleeps, until tasks are done: in the list of all such while this lives. Making it
/// throws wait_cycle (208) if the wait would be for a task that itself can only go on when this thread does, and
/// forked_process (207) if the tasks are those of the process that this one was forked from.
///
/// A thread's stack is a chain of tasks of which only the top one can go on, so who waits for one of them waits for what
/// the top one waits for.
class sleeping_wait {
 public:
  sleeping_wait(running_frame* stack, std::span<const watch> targets, std::size_t needed)
      : stack_(stack), targets_(targets), needed_(needed) {
    if (fork_count.load(std::memory_order_relaxed) != 0) check_process();
    const std::lock_guard lock(the_locks().waits);
    if (stack_ != nullptr && needed_ == targets_.size()) check_cycle();
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

  // From wait to wait, as long as each waits for all of its targets: any of them may close the circle. The text is put
  // together only if there is one, as every sleep in a task comes here.
  void check_cycle() const {
    for (const watch& w : targets_)
      if (leads_here(*w.target, nullptr, 64)) [[unlikely]]
        tell_cycle(*w.target);
  }
  [[noreturn, gnu::cold]] void tell_cycle(const task& target) const {
    std::string path = top() != nullptr ? describe(top()->name(), top()->at()) : "a task";
    static_cast<void>(leads_here(target, &path, 64));
    throw wait_cycle(path);
  }
  [[nodiscard]] bool leads_here(const task& t, std::string* path, int depth) const {
    if (t.done() || depth == 0) return false;
    const std::size_t length = path != nullptr ? path->size() : 0;
    if (path != nullptr) path->append(" waits for ").append(describe(t.name(), t.at()));
    if (runs(t)) return true;
    for (const sleeping_wait* s = first(); s != nullptr; s = s->next_) {
      if (!s->runs(t) || s->needed_ != s->targets_.size()) continue;
      for (const watch& w : s->targets_)
        if (leads_here(*w.target, path, depth - 1)) return true;
    }
    if (path != nullptr) path->resize(length);
    return false;
  }

  running_frame* stack_;
  std::span<const watch> targets_;
  std::size_t needed_;
  sleeping_wait* previous_ = nullptr;
  sleeping_wait* next_ = nullptr;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
