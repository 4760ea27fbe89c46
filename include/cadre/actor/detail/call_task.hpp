#ifndef CADRE_ACTOR_DETAIL_CALL_TASK_HPP
#define CADRE_ACTOR_DETAIL_CALL_TASK_HPP

#include <cadre/actor/detail/actor_cell.hpp>
#include <cadre/async/detail/cancel.hpp>
#include <cadre/async/detail/needed_tasks.hpp>
#include <cadre/async/error.hpp>
#include <cadre/async/future.hpp>

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

/// What a call runs hears itself that it will not run.
template <class F>
concept can_refuse = requires(F& f, std::exception_ptr why) { f.refuse(why); };

/// A call in a mailbox. F is called with nothing and gives an R.
template <class R, class F>
class call_task final : public function_task<R, F>, public call_in_mailbox {
 public:
  static constexpr std::uint32_t begins_as = task::queued;

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
  [[nodiscard]] bool has_begun() const noexcept override { return this->is_running(); }
  [[nodiscard]] std::shared_ptr<strand> runs_in() noexcept override { return cell.as_strand(); }
  [[nodiscard]] bool waits_on_its_thread() noexcept override { return true; }
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  [[nodiscard]] task_extras* extras() noexcept override { return cell.extras(); }
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
  [[nodiscard]] bool listen(listener& l) noexcept override { return cell.listen(*this, l); }
  void stop_listening(listener& l, bool leaves) noexcept override { cell.stop_listening(l, leaves); }
  [[nodiscard]] task* held_up_by() noexcept override { return cell.current_before(*this); }

 private:
  std::string_view name_;
};

/// A call that is over when the future is that its method gives. F is called with nothing and gives a future<R>; f.pack(r)
/// makes of what that has what others will see of it.
///
/// F, and so the arguments, lives until that future is there, also if the call has been lost before. The object lives as long
/// as coroutines that began in the call: see strand.
template <class R, class F>
class long_call_task final : public state<R>, public long_call {
 public:
  static constexpr std::uint32_t begins_as = task::pending;

  long_call_task(F&& f, actor_cell& at, call_kind what, std::string_view name, pool_id home, std::uint8_t flags,
                 std::source_location where)
      : state<R>(home, static_cast<std::uint8_t>(flags | task::no_closure | task::hears_stop | task::not_for_help),
                 where),
        long_call(at, what),
        name_(name),
        step_(*this),
        f_(std::move(f)) {}
  ~long_call_task() override {}

  void run() noexcept override {
    if (now != stage::runs) return;  // it was cancelled in the mailbox
    this->retain();                  // until it is over
    std::exception_ptr error;        // leaves the catch first: see take_result()
    try {
      future<R> given = f_.get()();
      if (!given.valid()) throw empty_future("a call whose method gave that");
      task_ref<state<R>> inner = future_access::take(std::move(given));
      state<R>& awaited = *inner;
      {
        const std::lock_guard lock(cell.mutex());
        inner_ = std::move(inner);
        now = stage::open;
      }
      return awaited.add(step_) ? heed() : settle(true);
    } catch (...) {
      error = std::current_exception();
    }
    end_by([&](state<R>*) -> R { std::rethrow_exception(std::move(error)); });
  }
  void run_not() noexcept override {
    if (now != stage::runs) return;
    this->retain();
    end_by([&](state<R>*) -> R { throw task_cancelled(describe(name_, this->at())); });
  }
  void on_stop() noexcept override {
    if (is_taken_back())
      end_unbegun(std::make_exception_ptr(task_cancelled(describe(name_, this->at()))));
    else
      heed();
  }
  void fail(std::exception_ptr why) noexcept override {
    if (is_taken_back()) end_unbegun(std::move(why));
  }
  void run_anyway() noexcept {}  // a stop is none of these
  void heed() noexcept override {
    std::exception_ptr why;
    task_ref<task> unwinds;
    {
      const std::lock_guard lock(cell.mutex());
      if (now == stage::runs) return;  // run() comes here itself
      if (lost && now == stage::open) {
        now = stage::over;
        why = std::move(why_lost);
      }
      if (inner_ && (again || lost || this->stop_requested())) {
        inner_->retain();
        unwinds = task_ref<task>(inner_.get());
      }
    }
    if (why) {
      this->set_error(std::move(why));
      this->complete(task::completion::from_elsewhere);
    }
    if (unwinds) cancel(*unwinds);
  }
  void finish() noexcept override {
    end_by([this](state<R>* inner) -> R {
      if constexpr (std::is_void_v<R>) {
        take_result(*inner);
        cell.count_call();
      } else {
        R r = take_result(*inner);
        cell.count_call();
        f_.get().pack(r);
        return r;
      }
    });
  }

  [[nodiscard]] task& node() noexcept override { return *this; }
  [[nodiscard]] task_ref<task> take_future() noexcept override { return task_ref<task>(inner_.give()); }
  [[nodiscard]] bool has_begun() const noexcept override { return now != stage::waits; }
  [[nodiscard]] std::shared_ptr<strand> runs_in() noexcept override { return cell.as_strand(); }
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  [[nodiscard]] task_extras* extras() noexcept override { return cell.extras(); }
  bool bring_nearer(time_point deadline) noexcept override { return cell.bring_nearer(*this, deadline); }
  [[nodiscard]] bool listen(listener& l) noexcept override { return cell.listen(*this, l); }
  void stop_listening(listener& l, bool leaves) noexcept override { cell.stop_listening(l, leaves); }
  [[nodiscard]] task* held_up_by() noexcept override { return cell.current_before(*this); }

  void add_needed(needed_tasks& all) override {
    task_ref<task> begun;
    {
      const std::lock_guard lock(cell.mutex());
      if (now != stage::open || !inner_) return;
      inner_->retain();
      begun = task_ref<task>(inner_.get());
    }
    all.add(std::move(begun));
  }

 private:
  struct step : continuation {
    explicit step(long_call_task& c) noexcept : continuation(&told), call(&c) {}
    static task* told(continuation& c, wish w) noexcept {
      long_call_task* const self = static_cast<step&>(c).call;
      if (w == wish::name_owner) return self;
      self->settle(false);
      return nullptr;
    }
    long_call_task* call;
  };

  // The future is there.
  void settle(bool in_turn) noexcept {
    if (inner_->failed() && says_cancelled(inner_->error()) && cell.take_back(*this)) return;
    if (in_turn || !cell.saves_after_calls())
      finish();
    else
      cell.finish(*this);
  }
  template <class Result>
  void end_by(Result&& result) noexcept {
    task_ref<state<R>> inner;
    bool answers = false;
    {
      const std::lock_guard lock(cell.mutex());
      answers = now != stage::over;
      if (answers) now = stage::ends;
      inner = std::move(inner_);
    }
    if (answers) {
      const bool known = inner && inner->observed();
      set_from(*this, [&]() -> R { return result(inner.get()); });
      if (this->failed() && (known || (this->stop_requested() && says_cancelled(this->error())))) this->set_observed();
    }
    f_.~room_for<F>();
    cell.leave(*this);
    if (answers) this->complete(task::completion::from_elsewhere);
    this->release();
  }
  // No turn will begin it.
  [[nodiscard]] bool is_taken_back() noexcept {
    const std::lock_guard lock(cell.mutex());
    if (now != stage::waits) return false;
    now = stage::over;
    return true;
  }
  void end_unbegun(std::exception_ptr why) noexcept {
    const bool cancelled = says_cancelled(why);
    this->set_error(std::move(why));
    if (cancelled) this->set_observed();
    f_.~room_for<F>();
    this->complete(task::completion::from_elsewhere);
  }

  std::string_view name_;
  step step_;
  task_ref<state<R>> inner_;  // guarded by the actor's mutex
  union {
    room_for<F> f_;
  };
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
