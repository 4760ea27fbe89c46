#ifndef CADRE_ACTOR_DETAIL_LONG_TASK_HPP
#define CADRE_ACTOR_DETAIL_LONG_TASK_HPP

#include <cadre/async/detail/cancel.hpp>
#include <cadre/async/detail/needed_tasks.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/async/detail/wait_graph.hpp>
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

/// A task that is over when the future is that its function gives, and holds no thread until then. Call is a bound call of
/// that, which lives as long, as `keep` does: what it waits for may come when the runtime has ended.
template <class R, class Call>
class long_task final : public state<R> {
 public:
  /// With one reference of the future and one of what begins it.
  long_task(Call&& call, std::shared_ptr<void> keep, std::string_view name, pool_id home, std::source_location at)
      : state<R>(home, task::no_closure | task::hears_stop, at),
        step_(*this),
        name_(name),
        keep_(std::move(keep)),
        call_(std::move(call)) {
    this->set_parent();
    this->publish(task::pending, 2);
  }
  ~long_task() override {}

  /// What a task of the pool runs: begins it, or ends it if that task is cancelled.
  class starter {
   public:
    explicit starter(task_ref<long_task> t) noexcept : task_(std::move(t)) {}
    starter(starter&&) noexcept = default;
    starter& operator=(starter&&) = delete;
    ~starter() {
      if (task_) task_->on_stop();
    }
    void operator()(bool) { std::exchange(task_, {})->begin(); }

   private:
    task_ref<long_task> task_;
  };

  void run() noexcept override {}  // never claimable
  void run_not() noexcept override {}
  void on_stop() noexcept override {
    task_ref<task> begun;
    {
      const std::lock_guard lock(mutex_);
      if (inner_) {
        inner_->retain();
        begun = task_ref<task>(inner_.get());
      } else if (stage_ != stage::waits) {
        return;  // begin() will look
      } else {
        stage_ = stage::over;
      }
    }
    if (begun)
      cancel(*begun);
    else
      end(std::make_exception_ptr(task_cancelled(describe(name_, this->at()))));
  }
  void add_needed(needed_tasks& all) override {
    task_ref<task> next;
    {
      const std::lock_guard lock(mutex_);
      task* const t = inner_ ? static_cast<task*>(inner_.get()) : beginner_.get();
      if (t != nullptr) t->retain();
      next = task_ref<task>(t);
    }
    all.add(std::move(next));
  }
  /// What runs the starter, for who looks what this waits for.
  void is_begun_by(task_ref<task> t) noexcept {
    const std::lock_guard lock(mutex_);
    if (!inner_) beginner_ = std::move(t);
  }
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }

 private:
  enum class stage : std::uint8_t { waits, runs, over };
  struct step : continuation {
    explicit step(long_task& t) noexcept : continuation(&told), owner(&t) {}
    static task* told(continuation& c, wish w) noexcept {
      long_task* const self = static_cast<step&>(c).owner;
      if (w == wish::name_owner) return self;
      self->finish();
      return nullptr;
    }
    long_task* owner;
  };

  void begin() noexcept {
    {
      const std::lock_guard lock(mutex_);
      if (stage_ != stage::waits) return;
      stage_ = stage::runs;
    }
    std::exception_ptr error;  // leaves the catch first: see take_result()
    try {
      future<R> given = call_.get()(false);
      if (!given.valid()) throw empty_future("a task whose function gave that");
      task_ref<state<R>> inner = future_access::take(std::move(given));
      this->retain();  // until it is over
      state<R>& awaited = *inner;
      awaited.retain();
      const task_ref<task> kept(&awaited);
      task_ref<task> beginner;
      {
        const std::lock_guard lock(mutex_);
        inner_ = std::move(inner);
        beginner = std::move(beginner_);
      }
      if (!awaited.add(step_)) return finish();
      if (this->stop_requested()) on_stop();
      return check_for_circle(awaited);
    } catch (...) {
      error = std::current_exception();
    }
    end(std::move(error));
  }
  // When it began, nobody could know yet that it waits for this future.
  void check_for_circle(task& inner) noexcept {
    try {
      sleeping_wait::check_await(*this, nullptr, inner);
    } catch (...) {
      {
        const std::lock_guard lock(mutex_);
        circle_ = std::current_exception();
      }
      on_stop();
    }
  }
  void finish() noexcept {
    task_ref<state<R>> inner;
    std::exception_ptr circle;
    {
      const std::lock_guard lock(mutex_);
      stage_ = stage::over;
      inner = std::move(inner_);
      circle = std::move(circle_);
    }
    const bool known = inner->observed();
    set_from(*this, [&]() -> R {
      if (circle) std::rethrow_exception(std::move(circle));
      if constexpr (std::is_void_v<R>) {
        take_result(*inner);
      } else {
        R r = take_result(*inner);
        call_.get().pack(r);
        return r;
      }
    });
    if (this->failed() && (known || (this->stop_requested() && says_cancelled(this->error())))) this->set_observed();
    complete_without_call();
    this->release();
  }
  void end(std::exception_ptr why) noexcept {
    const bool cancelled = says_cancelled(why);
    this->set_error(std::move(why));
    if (cancelled) this->set_observed();
    complete_without_call();
  }
  void complete_without_call() noexcept {
    call_.~room_for<Call>();
    keep_.reset();
    this->complete(task::completion::from_elsewhere);
  }

  step step_;
  std::string_view name_;
  std::mutex mutex_;
  stage stage_ = stage::waits;
  task_ref<task> beginner_;  // until that has given the next one
  task_ref<state<R>> inner_;
  std::exception_ptr circle_;
  std::shared_ptr<void> keep_;
  union {
    room_for<Call> call_;
  };
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
