#ifndef CADRE_ASYNC_TASK_GROUP_HPP
#define CADRE_ASYNC_TASK_GROUP_HPP

#include <cadre/async/detail/state.hpp>
#include <cadre/async/detail/waiting.hpp>
#include <cadre/async/thread_pool.hpp>

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

class group_root;

/// A task of a group; in the group's list until a wait is done with it.
class group_member : public state<void> {
 public:
  group_member(pool_id home, group_root& root, std::source_location at) : state<void>(home, 0, at), group(root) {}
  group_root& group;
  group_member* next = nullptr;
};

/// What the tasks of a group share, and the parent of them all: cancelling it cancels them, and what they submit.
class group_root final : public state<void> {
 public:
  group_root(pool_id home, std::source_location at) : state<void>(home, no_closure | no_future, at) {
    set_parent();
    publish(pending, 1);
  }
  ~group_root() override {}
  void run() noexcept override {}
  void run_not() noexcept override {}
  [[nodiscard]] std::string_view name() const noexcept override { return "a task group"; }

  /// Adds one, which brings a reference. The list only grows at its head, by one exchange, so a member that adds another
  /// one has done so before it is done itself: whoever finds the list empty, all members found before being done, has seen
  /// them all.
  void add(group_member& m) noexcept {
    m.next = first_.load(std::memory_order_relaxed);
    while (!first_.compare_exchange_weak(m.next, &m, std::memory_order_release, std::memory_order_relaxed)) {}
    // Not exact when several add at once, and need not be.
    const std::uint32_t n = added_.load(std::memory_order_relaxed) + 1;
    added_.store(n, std::memory_order_relaxed);
    if (n >= sweep_at_.load(std::memory_order_relaxed)) sweep();
  }
  [[nodiscard]] group_member* take_all() noexcept {
    while (inner_.exchange(true, std::memory_order_acquire)) ::sched_yield();
    group_member* const all = first_.exchange(nullptr, std::memory_order_acquire);
    inner_.store(false, std::memory_order_release);
    return all;
  }

  void note_error(group_member& m) noexcept {
    if (failed_.exchange(true, std::memory_order_relaxed)) return;
    error_ = std::move(m.error());
    m.set_observed();
    cancel(*this);
  }
  /// When all are done.
  [[nodiscard]] std::exception_ptr take_error() noexcept {
    failed_.store(false, std::memory_order_relaxed);
    return std::exchange(error_, nullptr);
  }

 private:
  // A group that runs for long before anyone waits must not keep all its tasks: those that are done leave the list, at a
  // cost that is constant for each task added. All but the first, which others may be linking to.
  [[gnu::noinline]] void sweep() noexcept {
    if (inner_.exchange(true, std::memory_order_acquire)) return;
    std::uint32_t left = 0;
    if (group_member* before = first_.load(std::memory_order_acquire))
      while (group_member* const m = before->next) {
        if (m->done()) {
          before->next = m->next;
          m->release();
        } else {
          before = m;
          ++left;
        }
      }
    added_.store(left, std::memory_order_relaxed);
    sweep_at_.store(2 * left + 64, std::memory_order_relaxed);
    inner_.store(false, std::memory_order_release);
  }

  std::atomic<group_member*> first_{nullptr};
  std::atomic<std::uint32_t> added_{0};
  std::atomic<std::uint32_t> sweep_at_{64};
  std::atomic<bool> inner_{false};  // somebody looks at more than the head
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
};

template <class F>
class group_task final : public group_member {
 public:
  template <class G>
  group_task(G&& f, group_root& root, std::source_location at)
      : group_member(root.home(), root, at), f_(std::forward<G>(f)) {}
  ~group_task() override {}

  void run() noexcept override {
    set_from(static_cast<state<void>&>(*this), [this] { static_cast<void>(std::move(f_.get())()); });
    if (this->failed()) [[unlikely]]
      this->group.note_error(*this);
    f_.~room_for<F>();
    this->complete(completion::of_its_run);
  }
  void run_not() noexcept override {
    set_cancelled(static_cast<state<void>&>(*this));
    f_.~room_for<F>();
    this->complete(completion::from_elsewhere);
  }

  /// Makes it a child of the group, whatever task runs here, and visible.
  void begin() noexcept {
    thread_context& context = this_context();
    running_frame frame{&this->group, context.top};
    context.top = &frame;
    this->set_parent();
    context.top = frame.outer;
    this->publish(queued, 2);
    this->group.add(*this);
  }

 private:
  union {
    room_for<F> f_;
  };
};

}  // namespace detail

/// Tasks that end together: none outlives the group.
///
///     cadre::task_group group{pool};
///     for (const node& n : nodes) group.run([&] { visit(n); });
///     group.wait();
///
/// The first error that a task throws asks the others to stop and is thrown by wait(); further ones go to the pool's
/// handler of unobserved errors. A group made inside a task is cancelled with it. Destruction waits too, and hands an
/// error that no wait() threw to that handler.
///
/// Thread-safety: run() from the thread that made the group and from tasks of the group, at once; wait() from one thread at
/// a time, in none of the group's own tasks; cancel() from any thread. The pool outlives the group.
class task_group {
 public:
  explicit task_group(thread_pool& pool, std::source_location at = std::source_location::current())
      : pool_(detail::scheduler_of(pool)), root_(new detail::group_root(pool_.id(), at)) {}
  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;
  ~task_group() {
    try {
      wait_for_all();
    } catch (...) {  // destroyed by one of its own tasks, or in a child of fork(): there is no waiting
      for (detail::group_member* m = root_->take_all(); m != nullptr;) std::exchange(m, m->next)->release();
    }
    if (std::exception_ptr error = root_->take_error())
      detail::report_unobserved({std::move(error), root_->name(), root_->at()}, pool_.unobserved(), false);
  }

  /// Has the pool run `f()`; what it returns is dropped. After an error or cancel() it is not run. Cost: as submit(), and
  /// two atomic operations on the group. Throws std::bad_alloc.
  template <class F>
    requires std::is_invocable_v<std::decay_t<F>>
  void run(F&& f, std::source_location at = std::source_location::current()) {
    auto* const t = new detail::group_task<std::decay_t<F>>(std::forward<F>(f), *root_, at);
    t->begin();
    pool_.push(t);
  }

  /// Until all tasks of the group are done, those included that they add. Then the group may be used again. Inside a task
  /// it helps: it runs those that nobody has begun, the newest first, and what those that others run have submitted; no
  /// strangers. Throws the first error; wait_cycle (208) in a task of the group; forked_process (207).
  void wait() {
    wait_for_all();
    const std::exception_ptr error = root_->take_error();
    if (root_->stop_requested()) {
      detail::task_ref<detail::group_root> fresh(new detail::group_root(pool_.id(), root_->at()));
      const std::lock_guard lock(mutex_);
      std::swap(root_, fresh);
    }
    if (error) std::rethrow_exception(error);
  }

  /// The tasks that have not begun will not; those that run, and what they have submitted, see it in
  /// this_task::stop_requested(). Until the next wait() has returned none is run. Costs a look at every task of the process.
  void cancel() noexcept {
    detail::task_ref<detail::group_root> root;
    {
      const std::lock_guard lock(mutex_);
      root_->retain();
      root = detail::task_ref(root_.get());
    }
    detail::cancel(*root);
  }

 private:
  void wait_for_all() {
    for (const detail::running_frame* f = detail::this_context().top; f != nullptr; f = f->outer)
      if (auto* const m = dynamic_cast<detail::group_member*>(f->runs); m != nullptr && &m->group == root_.get())
        throw wait_cycle(detail::describe(m->name(), m->at()) + " waits for the task group that it is in");
    while (detail::group_member* m = root_->take_all())
      while (m != nullptr) {
        try {
          static_cast<void>(detail::wait_for_task(*m));
        } catch (...) {
          while (m != nullptr) root_->add(*std::exchange(m, m->next));
          throw;
        }
        std::exchange(m, m->next)->release();
      }
  }

  detail::scheduler& pool_;
  std::mutex mutex_;  // between cancel() and the change of root_
  detail::task_ref<detail::group_root> root_;
};

CADRE_NAMESPACE_END

#endif
