#ifndef CADRE_ASYNC_DETAIL_CONFIGURED_TASK_HPP
#define CADRE_ASYNC_DETAIL_CONFIGURED_TASK_HPP

#include <cadre/async/detail/cancel.hpp>
#include <cadre/async/detail/deadlines.hpp>
#include <cadre/async/detail/gate.hpp>
#include <cadre/async/detail/needed_tasks.hpp>
#include <cadre/async/detail/resource_ledger.hpp>
#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/async/detail/thread_limit.hpp>
#include <cadre/async/task_options.hpp>
#include <cadre/core/chrono.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What a task with options has beside one without.
struct task_extras {
  explicit task_extras(task_options&& o) : options(std::move(o)) {}

  struct canceller {
    task* which;
    void operator()() const noexcept { cancel(*which); }
  };

  task_options options;
  int processors = 1;
  std::shared_ptr<resource_ledger<>> ledger;     // null before the submit: the pool's
  std::shared_ptr<holding<resource_set>> share;  // of the ledger, or null
  std::vector<task_ref<task>> before;            // what has to be done before it begins, for whoever looks for circles
  std::optional<std::stop_source> source;        // of a function that takes a std::stop_token
  std::optional<std::stop_callback<canceller>> when_stopped;
};

/// To where its options say, as schedule() does.
inline void schedule_configured(task& t) noexcept {
  const task_options& o = t.extras()->options;
  bool pushed = false;
  pool_registry::with(t.home(), [&](scheduler& s) {
    if (!s.is_open() && (this_worker() == nullptr || this_worker()->home != &s)) return;
    if (o.worker != any_worker)
      s.push_pinned(&t, o.worker);
    else
      s.push(&t, o.priority);
    pushed = true;
  });
  if (!pushed) run_here(&t);
}

/// Its resources are there. The reference of the queue is with the ledger until now.
inline void start_granted(task& t) noexcept {
  if (t.make_claimable())
    schedule_configured(t);
  else
    t.release();  // cancelled meanwhile
}

/// What it was to come after is done. Until now the reference of the queue was with the gate.
inline void start_ungated(task& t) noexcept {
  task_extras& e = *t.extras();
  if (e.share == nullptr)
    start_granted(t);
  else if (!e.ledger->enqueue(e.share, start_granted))
    t.release();  // cancelled meanwhile
}

/// Calls a function and its arguments, kept by value: as rvalues, or with copies of them if it is to be called again.
template <class F, class... Args>
auto bind_arguments(F&& f, Args&&... args) {
  return [f = std::decay_t<F>(std::forward<F>(f)),
          ... args = std::decay_t<Args>(std::forward<Args>(args))](bool again) mutable -> decltype(auto) {
    if constexpr (std::is_copy_constructible_v<std::decay_t<F>> &&
                  (std::is_copy_constructible_v<std::decay_t<Args>> && ...)) {
      if (again) return detail::invoke(std::decay_t<F>(f), std::decay_t<Args>(args)...);
    }
    return detail::invoke(std::move(f), std::move(args)...);
  };
}

/// A task with options. F is made by bind_arguments().
template <class R, class F>
class configured_task final : public state<R> {
 public:
  configured_task(F&& f, std::unique_ptr<task_extras> extras, pool_id home, std::uint8_t flags)
      : state<R>(home, flags, extras->options.at), extras_(std::move(extras)), f_(std::move(f)) {}
  ~configured_task() override { extras_->when_stopped.reset(); }  // waits, if it is under way

  [[nodiscard]] std::string_view name() const noexcept override { return extras_->options.name; }
  [[nodiscard]] task_extras* extras() noexcept override { return extras_.get(); }
  void on_stop() noexcept override { extras_->source->request_stop(); }

  void on_wait(bool begins) noexcept override {
    allow(begins ? extras_->processors - 1 : 1 - extras_->processors);
    extras_->ledger->lend(*extras_->share, begins, start_granted);
  }

  void add_needed(needed_tasks& all) override {
    this->while_pending([&] {
      for (const task_ref<task>& t : extras_->before) all.add_if_open(*t);
    });
  }

  void run() noexcept override {
    if (is_refused()) return run_not();
    if (is_late()) return run_not();  // the thread that watches the time may be late itself
    {
      std::optional<thread_limit> limit;
      if (extras_->processors > 1) limit.emplace(extras_->processors);
      allow(1 - extras_->processors);
      for (int left = extras_->options.max_retries;; --left) {
        set_from(*this, [&]() -> R { return f_.get()(left > 0); });
        if (left <= 0 || !this->failed() || this->stop_requested() || !worth_a_retry()) break;
        this->forget_error();
      }
      allow(extras_->processors - 1);
    }
    finish(task::completion::of_its_run);
  }
  void run_not() noexcept override {
    if (is_refused())
      this->set_error(extras_->ledger->why_closed());
    else if (is_late())
      this->set_error(std::make_exception_ptr(deadline_passed(describe(name(), this->at()))));
    else
      set_cancelled(*this);
    finish(task::completion::from_elsewhere);
  }

 private:
  [[nodiscard]] bool is_refused() const noexcept {
    return extras_->share != nullptr && extras_->share->refused.load(std::memory_order_relaxed);
  }
  [[nodiscard]] bool is_late() const noexcept { return is_past(extras_->options.deadline); }
  void allow(int change) const noexcept {
    if (change != 0) pool_registry::with(this->home(), [&](scheduler& s) { s.allow(change); });
  }
  [[nodiscard]] bool worth_a_retry() noexcept {
    const retry_filter filter = extras_->options.retry_on;
    return filter == nullptr || filter(this->error());
  }
  void finish(task::completion by) noexcept {
    f_.~room_for<F>();
    extras_->before.clear();
    const bool waited = extras_->share != nullptr && extras_->ledger->leave(extras_->share, start_granted);
    this->report_if_posted();
    if (!this->has(task::no_future) || this->has_offspring()) this->complete(by);
    if (waited) this->release();  // the queue's reference, which the ledger had
  }

  std::unique_ptr<task_extras> extras_;
  union {
    room_for<F> f_;
  };
};

/// Makes the task and hands it to its pool, to be begun when those before it are done. Throws impossible_request (209),
/// bad_task_option (211), thread_error (151).
template <class R, class F>
task_ref<state<R>> submit_configured(scheduler& pool, F&& f, std::unique_ptr<task_extras> extras, std::uint8_t flags,
                                     std::span<task* const> before = {}) {
  task_extras& e = *extras;
  const task_options& o = e.options;
  if (o.worker != any_worker && o.worker >= pool.size())
    throw bad_task_option(".worker = " + std::to_string(o.worker) + " in a pool of " + std::to_string(pool.size()) +
                          " threads; they are counted from 0");
  if (o.max_retries < 0) throw bad_task_option(".max_retries = " + std::to_string(o.max_retries) + "; give 0 or more");
  const bool holds = !o.resources.is_ordinary() || e.ledger != nullptr;
  if (holds) {
    if (e.ledger == nullptr) e.ledger = pool.template part<resource_ledger<>>(&scheduler::ledger);
    e.share = e.ledger->ask(o.resources, nullptr);
    if (const int n = static_cast<int>(o.resources.amount("cpu")); n > 1) e.processors = n;
  }
  if (o.worker != any_worker) flags |= task::not_for_help;
  if (holds) flags |= task::holds;
  if (e.source) flags |= task::hears_stop;
  const bool has_future = !(flags & task::no_future);
  auto way_in = before.empty() ? nullptr : std::make_unique<gate>(before.size());
  e.before.reserve(before.size());
  for (task* const b : before) {
    b->retain();
    e.before.emplace_back(b);
  }
  auto* const t = new configured_task<R, std::decay_t<F>>(std::forward<F>(f), std::move(extras), pool.id(), flags);
  if (holds) e.share->who = t;
  t->set_parent();
  t->publish(holds || way_in ? task::pending : task::queued, 2);  // this function's own, for now, and the queue's
  task_ref<state<R>> result(t);
  // From here on it may be done at any time.
  try {
    if (o.stop.stop_possible()) e.when_stopped.emplace(o.stop, task_extras::canceller{t});
    if (o.deadline != time_point::max()) pool.template part<deadlines<>>(&scheduler::deadlines)->add(o.deadline, *t);
  } catch (...) {
    cancel(*t);
    t->release();  // the queue's, where it will never be
    throw;
  }
  if (way_in)
    way_in.release()->close(before, *t, start_ungated);
  else if (holds)
    start_ungated(*t);
  else
    schedule_configured(*t);
  return has_future ? std::move(result) : task_ref<state<R>>();
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
