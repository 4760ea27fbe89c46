#ifndef CADRE_ASYNC_DETAIL_COROUTINE_HPP
#define CADRE_ASYNC_DETAIL_COROUTINE_HPP

#include <cadre/async/detail/needed_tasks.hpp>
#include <cadre/async/detail/node_memory.hpp>
#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/async/detail/strand.hpp>
#include <cadre/async/detail/wait_graph.hpp>
#include <cadre/async/error.hpp>
#include <cadre/async/future.hpp>
#include <cadre/async/thread_pool.hpp>

#include <sched.h>

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What a coroutine's task knows of its frame, and the race for it. Three say something: the coroutine that it is
/// suspended, the task waited for that it is done, the one who cancels that the coroutine is to stop. The second to come
/// ends the wait: as the coroutine, by going on at once; as one of the others, by scheduling it. Whoever comes later does
/// nothing. Having said so, nobody touches the coroutine any more, unless it is its turn to schedule.
class coroutine_core {
 public:
  /// False if the coroutine is to go on at once.
  [[nodiscard]] bool suspend() noexcept { return !(say(suspended) & (told | stopped)); }
  /// True if the caller is to schedule it. So below.
  [[nodiscard]] bool tell() noexcept { return (say(told) & (suspended | stopped)) == suspended; }
  [[nodiscard]] bool tell_to_stop() noexcept { return (say(stopped) & (suspended | told)) == suspended; }

  [[nodiscard]] bool was_told() const noexcept { return said_.load(std::memory_order_acquire) & told; }
  /// The wait is over, or will not be. That it is to stop remains.
  void begin_anew() noexcept {
    awaits_.store(nullptr, std::memory_order_relaxed);
    if (said_.fetch_and(stopped | looked_at, std::memory_order_acq_rel) & looked_at)
      while (said_.load(std::memory_order_acquire) & looked_at) ::sched_yield();
  }

  /// What it awaits, for whoever looks for circles; kept by the coroutine until begin_anew().
  void show(task& t) noexcept { awaits_.store(&t, std::memory_order_release); }
  [[nodiscard]] task* awaits() const noexcept { return awaits_.load(std::memory_order_acquire); }
  /// The same from another thread, one at a time.
  [[nodiscard]] task_ref<task> look() noexcept {
    say(looked_at);  // now begin_anew() waits
    task* const t = awaits();
    if (t != nullptr) t->retain();
    said_.fetch_and(~std::uint32_t{looked_at}, std::memory_order_acq_rel);
    return task_ref<task>(t);
  }

  /// Where it goes on: in its strand, or on its pool.
  void schedule_later(resumption& next) noexcept { in_ != nullptr ? in_->go_on(next) : schedule(&next); }
  void set_strand(std::shared_ptr<strand> in) noexcept { in_ = std::move(in); }
  [[nodiscard]] const std::shared_ptr<strand>& in() const noexcept { return in_; }

  /// The frame is gone: the future becomes ready. Gives back the coroutine's reference.
  virtual void end(bool of_its_run) noexcept = 0;
  /// The same for one that was cancelled before it began.
  virtual void end_not_begun() noexcept = 0;

 protected:
  ~coroutine_core() = default;
  void leave_strand() noexcept { in_.reset(); }

 private:
  enum : std::uint32_t { suspended = 1, told = 2, stopped = 4, looked_at = 8 };
  std::uint32_t say(std::uint32_t what) noexcept { return said_.fetch_or(what, std::memory_order_acq_rel); }

  std::atomic<std::uint32_t> said_{0};
  std::atomic<task*> awaits_{nullptr};
  std::shared_ptr<strand> in_;  // changes before anybody else knows of the coroutine, and when it is over
};

/// What future<T> of a coroutine refers to.
template <class T>
class coroutine_task final : public state<T>, public coroutine_core {
 public:
  coroutine_task(pool_id home, resumption& next, std::source_location at) noexcept
      : state<T>(home, task::no_closure | task::hears_stop, at), next_(next) {}
  void run() noexcept override {}  // never claimable: it is its resumption that is queued
  void run_not() noexcept override {}
  void on_stop() noexcept override {
    if (this->tell_to_stop()) this->schedule_later(next_);
  }
  [[nodiscard]] std::shared_ptr<strand> runs_in() noexcept override { return this->in(); }
  [[nodiscard]] task_extras* extras() noexcept override {
    return this->in() != nullptr ? this->in()->extras() : nullptr;
  }
  void add_needed(needed_tasks& all) override { all.add(this->look()); }
  void end(bool of_its_run) noexcept override {
    this->leave_strand();
    this->complete(of_its_run ? task::completion::of_its_run : task::completion::from_elsewhere);
    this->release();
  }
  void end_not_begun() noexcept override {
    set_cancelled(*this);
    end(false);
  }

 private:
  resumption& next_;  // in the frame
};

/// The part of a coroutine's promise that is the same for all.
///
/// All functions that the compiler calls at a suspension are out of line: clang before 17 may otherwise keep their
/// variables in the frame, which is not theirs any more when another thread goes on with it.
class coroutine_base {
 public:
  coroutine_base(const coroutine_base&) = delete;
  coroutine_base& operator=(const coroutine_base&) = delete;

  // Frames lie in recycled nodes too, behind the bytes by which tasks are found there. They begin with a pointer to the
  // code, or should: see beginning.
  // Neither is inlined: of only one, g++ 12 says that what it sees inside does not match the other.
  [[gnu::noinline]] static void* operator new(std::size_t bytes) {
    void* const frame = bytes <= largest_frame
                            ? static_cast<std::byte*>(node_memory::allocate(bytes + frame_offset)) + frame_offset
                            : ::operator new(bytes);
    *static_cast<void* volatile*>(frame) = nullptr;
    return frame;
  }
  [[gnu::noinline]] static void operator delete(void* frame, std::size_t bytes) noexcept {
    if (bytes > largest_frame) return ::operator delete(frame);
    node_memory::release(static_cast<std::byte*>(frame) - frame_offset, bytes + frame_offset);
  }

  struct beginning {
    coroutine_base& coroutine;
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    [[gnu::noinline]] void await_suspend(std::coroutine_handle<> frame) const {
      coroutine.frame_ = frame;
      // g++ 12 puts a variable in front of that pointer if the first statement of a coroutine is an `if` with a co_await.
      if (frame.done()) throw miscompiled_coroutine(describe(coroutine.task_->name(), coroutine.task_->at()));
      if (coroutine.begins_on_pool_)
        schedule(&coroutine.next_);
      else
        coroutine.go_on(false);
    }
    void await_resume() const noexcept {}
  };
  struct ending {
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <class Promise>
    [[gnu::noinline]] void await_suspend(std::coroutine_handle<Promise> frame) const noexcept {
      *frame.promise().over_ = true;
    }
    void await_resume() const noexcept {}
  };
  beginning initial_suspend() noexcept { return {*this}; }
  ending final_suspend() noexcept { return {}; }

  [[nodiscard]] bool stop_requested() const noexcept { return task_->stop_requested(); }
  void throw_if_stopped() const {
    if (stop_requested()) throw task_cancelled(describe(task_->name(), task_->at()), "before it could go on");
  }

  /// Suspends until `t` is done or the coroutine is to stop. False if it is to go on at once; else another thread may be
  /// running it by now. Throws wait_cycle (208) in an actor, if what it awaits can only be done after it.
  [[nodiscard]] bool suspend_until(task& t) {
    coroutine_core& core = *core_;
    core.show(t);
    if (t.has(task::not_for_help) || (core.in() != nullptr && t.is_pending())) check_for_circle(t);
    if (next_.home() == no_pool && t.home() != no_pool) move_to(t.home());
    if (t.add(step_)) return core.suspend();
    core.begin_anew();
    return false;
  }
  /// After a suspension: once this returns, nobody else knows of it.
  void end_wait() noexcept {
    task* const t = core_->awaits();
    if (t == nullptr) return;
    if (!core_->was_told() && !t->remove(step_))
      while (!core_->was_told()) ::sched_yield();  // at this moment
    core_->begin_anew();
  }

  void move_to(pool_id home) noexcept {
    if (next_.home() == home) return;
    std::destroy_at(&next_);
    std::construct_at(&next_, home, *this);
  }
  void suspend_and_move_to(pool_id home) noexcept {
    if (core_->in() == nullptr) move_to(home);
    core_->schedule_later(next_);
  }

 protected:
  explicit coroutine_base(const thread_pool* pool) noexcept
      : next_(pool != nullptr ? id_of(*pool) : pool_here(), *this), begins_on_pool_(pool != nullptr), step_(*this) {}
  ~coroutine_base() = default;

  template <class T>
  future<T> make_task(std::source_location at) {
    std::shared_ptr<strand> in = strand_here();
    if (in != nullptr && !begins_on_pool_) move_to(current_task()->home());
    if (begins_on_pool_ || (in != nullptr && current_task()->waits_on_its_thread()))
      in = {std::move(in), nullptr};  // shares in what is used there, but goes on elsewhere
    auto* const t = new coroutine_task<T>(next_.home(), next_, at);
    t->set_strand(std::move(in));
    task_ref<state<T>> result(t);
    task_ = t;
    core_ = t;
    t->set_parent();
    t->publish(task::pending, 2);
    return future_access::make<T>(std::move(result));
  }
  [[nodiscard]] task& own_task() const noexcept { return *task_; }

 private:
  static constexpr std::size_t frame_offset = sizeof(void*) + node_memory::lasting;
  static constexpr std::size_t largest_frame = node_memory::largest - frame_offset;
  static_assert(frame_offset % __STDCPP_DEFAULT_NEW_ALIGNMENT__ == 0);

  class next_part final : public resumption {
   public:
    next_part(pool_id home, coroutine_base& c) noexcept : resumption(home), coroutine_(c) {}
    void run() noexcept override { coroutine_.go_on(this_context().here == nullptr); }
    [[nodiscard]] task* whose() noexcept override { return coroutine_.task_; }

   private:
    coroutine_base& coroutine_;
  };
  struct step : continuation {
    explicit step(coroutine_base& c) noexcept : continuation(&told), coroutine(&c) {}
    static task* told(continuation& c, wish w) noexcept {
      coroutine_base& self = *static_cast<step&>(c).coroutine;
      if (w == wish::name_owner) return self.task_;
      coroutine_core& core = *self.core_;
      resumption& next = self.next_;
      if (!core.tell()) return nullptr;
      if (core.in() == nullptr) return &next;
      core.schedule_later(next);
      return nullptr;
    }
    coroutine_base* coroutine;
  };

  // Of a call, whose actor may be at one that waits for this coroutine, or, in an actor, of what may come after calls.
  [[gnu::noinline]] void check_for_circle(task& t) {
    if (!t.is_pending() && !task_ref<task>(t.held_up_by())) return;
    const running_frame* const outer = this_context().top->outer;
    const bool is_first_part = outer != nullptr && outer->runs != nullptr && outer->runs->runs_in() != nullptr &&
                               !outer->runs->waits_on_its_thread();
    try {
      sleeping_wait::check_await(*task_, is_first_part ? outer->runs : nullptr, t);
    } catch (...) {
      core_->begin_anew();
      throw;
    }
  }
  static pool_id pool_here() noexcept {
    const worker* const w = this_worker();
    return w != nullptr ? w->home->id() : no_pool;
  }

  // Runs it until it is suspended or over. Only in the second case is there still something of it to be touched.
  [[gnu::noinline]] void go_on(bool of_its_run) noexcept {
    const std::coroutine_handle<> frame = frame_;
    coroutine_core& core = *core_;
    if (!std::exchange(begun_, true) && stop_requested()) {
      frame.destroy();
      core.end_not_begun();
      return;
    }
    thread_context& context = this_context();
    running_frame here{task_, context.top};
    context.top = &here;
    bool over = false;
    over_ = &over;
    frame.resume();
    if (over) frame.destroy();  // what it holds is gone before anybody is told
    context.top = here.outer;
    if (over) core.end(of_its_run);
  }

  next_part next_;
  const bool begins_on_pool_;
  bool begun_ = false;
  step step_;
  std::coroutine_handle<> frame_;
  task* task_ = nullptr;
  coroutine_core* core_ = nullptr;
  bool* over_ = nullptr;  // of the go_on() under way
};

/// `co_await` of a future, or a shared one; F as of a forwarding reference.
template <class F>
class future_await {
 public:
  future_await(coroutine_base& coroutine, F&& f) : coroutine_(coroutine), future_(std::forward<F>(f)) {
    if (!future_.valid()) throw empty_future("co_await");
  }
  [[nodiscard]] bool await_ready() const noexcept {
    return coroutine_.stop_requested() || future_access::get(future_)->done();
  }
  [[gnu::noinline]] bool await_suspend(std::coroutine_handle<>) {
    return coroutine_.suspend_until(*future_access::get(future_));
  }
  decltype(auto) await_resume() {
    coroutine_.end_wait();
    coroutine_.throw_if_stopped();
    return std::forward<F>(future_).get();
  }

 private:
  coroutine_base& coroutine_;
  F&& future_;
};

struct reschedule {
  pool_id pool;
};
struct reschedule_await {
  coroutine_base& coroutine;
  pool_id pool;
  [[nodiscard]] bool await_ready() const noexcept { return coroutine.stop_requested(); }
  [[gnu::noinline]] void await_suspend(std::coroutine_handle<>) const noexcept { coroutine.suspend_and_move_to(pool); }
  void await_resume() const { coroutine.throw_if_stopped(); }
};

/// What `co_return` does, for each kind of result.
template <class T>
class coroutine_result : public coroutine_base {
 public:
  template <class U = T>
    requires std::is_constructible_v<T, U&&>
  void return_value(U&& value) {
    static_cast<state<T>&>(own_task()).set(std::forward<U>(value));
  }

 protected:
  using coroutine_base::coroutine_base;
};
template <class T>
class coroutine_result<T&> : public coroutine_base {
 public:
  void return_value(T& value) { static_cast<state<T&>&>(own_task()).set(value); }

 protected:
  using coroutine_base::coroutine_base;
};
template <>
class coroutine_result<void> : public coroutine_base {
 public:
  void return_void() noexcept {}

 protected:
  using coroutine_base::coroutine_base;
};

template <class T>
class coroutine_promise final : public coroutine_result<T> {
 public:
  /// Called with the coroutine's parameters.
  template <class... Parameters>
  explicit coroutine_promise(Parameters&... parameters) noexcept : coroutine_result<T>(pool_among(parameters...)) {}

  future<T> get_return_object(std::source_location at = std::source_location::current()) {
    return this->template make_task<T>(at);
  }
  void unhandled_exception() noexcept {
    auto& t = static_cast<state<T>&>(this->own_task());
    t.set_error(std::current_exception());
    if (t.stop_requested() && says_cancelled(t.error())) t.set_observed();
  }

  template <class U>
  future_await<future<U>&> await_transform(future<U>& f) {
    return {*this, f};
  }
  template <class U>
  future_await<future<U>> await_transform(future<U>&& f) {
    return {*this, std::move(f)};
  }
  template <class U>
  future_await<const shared_future<U>&> await_transform(const shared_future<U>& f) {
    return {*this, f};
  }
  template <class U>
  future_await<const shared_future<U>> await_transform(const shared_future<U>&& f) {
    return {*this, std::move(f)};
  }
  reschedule_await await_transform(reschedule to) noexcept { return {*this, to.pool}; }

 private:
  template <class... Parameters>
  static const thread_pool* pool_among(Parameters&... parameters) noexcept {
    const thread_pool* pool = nullptr;
    [[maybe_unused]] const auto look = [&pool]<class P>(P& p) {
      if constexpr (std::is_same_v<P, thread_pool>)
        if (pool == nullptr) pool = &p;
    };
    (look(parameters), ...);
    return pool;
  }
};

/// `co_await` of a future in a coroutine of another library, which goes on on the future's pool.
template <class F>
class foreign_await {
 public:
  explicit foreign_await(F&& f) : future_(std::forward<F>(f)), next_(checked(f)), step_(next_) {}

  [[nodiscard]] bool await_ready() const noexcept { return future_access::get(future_)->done(); }
  [[gnu::noinline]] bool await_suspend(std::coroutine_handle<> frame) noexcept {
    next_.frame = frame;
    return future_access::get(future_)->add(step_);
  }
  decltype(auto) await_resume() { return std::forward<F>(future_).get(); }

 private:
  struct next_part final : resumption {
    explicit next_part(pool_id home) noexcept : resumption(home) {}
    void run() noexcept override { frame.resume(); }
    std::coroutine_handle<> frame;
  };
  struct step : continuation {
    explicit step(task& t) noexcept : continuation(&told), next_part(&t) {}
    static task* told(continuation& c, wish w) noexcept {
      return w == wish::fire ? static_cast<step&>(c).next_part : nullptr;
    }
    task* next_part;
  };

  template <class Future>
  static pool_id checked(const Future& f) {
    if (!f.valid()) throw empty_future("co_await");
    return future_access::get(f)->home();
  }

  F&& future_;
  next_part next_;
  step step_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
