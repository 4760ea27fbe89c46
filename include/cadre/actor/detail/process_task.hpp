#ifndef CADRE_ACTOR_DETAIL_PROCESS_TASK_HPP
#define CADRE_ACTOR_DETAIL_PROCESS_TASK_HPP

#include <cadre/actor/detail/travel.hpp>
#include <cadre/actor/detail/worker_process.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/async/future.hpp>

#include <cstddef>
#include <exception>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A task of a process_pool, as that sees it.
class process_task {
 public:
  process_task(worker_function::action f, byte_buffer arguments) noexcept
      : function_(f), arguments_(std::move(arguments)) {}
  process_task(const process_task&) = delete;
  process_task& operator=(const process_task&) = delete;

  [[nodiscard]] worker_function::action function() const noexcept { return function_; }
  [[nodiscard]] const byte_buffer& arguments() const noexcept { return arguments_; }
  [[nodiscard]] virtual task& node() noexcept = 0;
  /// How it ends, once: by what the worker has answered, or an error. Gives back the pool's reference.
  virtual void arrive(bool failed, std::span<const std::byte> answer) noexcept = 0;
  virtual void fail(std::exception_ptr why) noexcept = 0;

  /// Its worker has died; `missed`: before it had the task, which says nothing of that, unless it happens too often.
  bool may_try_again(bool missed, int max_retries) noexcept {
    if (missed && misses_ < 8) return ++misses_ != 0;
    return deaths_ < max_retries && !node().stop_requested() && ++deaths_ != 0;
  }
  /// After how many workers that died of it it was tried again.
  [[nodiscard]] int deaths() const noexcept { return deaths_; }

  process_task* next = nullptr;  ///< in the queue
  bool begun = false;

 protected:
  ~process_task() = default;
  void forget_arguments() noexcept { arguments_ = byte_buffer(); }

 private:
  worker_function::action function_;
  byte_buffer arguments_;
  int deaths_ = 0, misses_ = 0;
};

/// What a process_pool needs of its core, whose code is compiled only where one is made.
class process_pool_face {
 public:
  process_pool_face() = default;
  process_pool_face(const process_pool_face&) = delete;
  process_pool_face& operator=(const process_pool_face&) = delete;
  virtual ~process_pool_face() = default;
  [[nodiscard]] virtual std::size_t size() const noexcept = 0;
  /// Throws forked_process (207), unknown_function (616).
  virtual void check(const worker_function& f, const std::string& name) const = 0;
  /// Takes over one reference.
  virtual void push(process_task& t) noexcept = 0;
};

/// Tasks that wait for a worker.
class process_queue {
 public:
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  void push_back(process_task& t) noexcept {
    t.next = nullptr;
    (first_ != nullptr ? last_->next : first_) = &t;
    last_ = &t;
  }
  void push_front(process_task& t) noexcept {
    t.next = first_;
    if (first_ == nullptr) last_ = &t;
    first_ = &t;
  }
  /// One that is to run now, or null. Lets go of those that were cancelled.
  process_task* pop() noexcept {
    while (first_ != nullptr) {
      process_task& t = *std::exchange(first_, first_->next);
      if (std::exchange(t.begun, true) || t.node().try_withdraw()) return &t;
      t.node().release();
    }
    return nullptr;
  }

 private:
  process_task* first_ = nullptr;
  process_task* last_ = nullptr;
};

/// With what it gives. Pending until a worker is free for it, so that cancelling drops it; no thread can help.
template <class R>
class process_result final : public state<R>, public process_task {
 public:
  /// With one reference of the future and one of the pool. `name` lives as long as the program.
  process_result(worker_function::action f, byte_buffer arguments, std::string_view name, std::source_location at)
      : state<R>(home_of_caller(), task::not_for_help, at), process_task(f, std::move(arguments)), name_(name) {
    this->set_parent();
    this->publish(task::pending, 2);
  }

  void run() noexcept override {}  // never claimable
  void run_not() noexcept override {
    forget_arguments();
    set_cancelled(*this);
    this->complete(task::completion::from_elsewhere);
  }
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }

  [[nodiscard]] task& node() noexcept override { return *this; }
  void arrive(bool failed, std::span<const std::byte> answer) noexcept override {
    forget_arguments();
    set_from(*this, [&]() -> R {
      input_archive in(answer);
      if (failed) {
        sent_error e;
        in(e.type, e.text, e.where);
        std::rethrow_exception(receive_error(e));
      }
      return read_whole<R>(in);
    });
    finish();
  }
  void fail(std::exception_ptr why) noexcept override {
    forget_arguments();
    this->set_error(std::move(why));
    finish();
  }

 private:
  // Continuations run there; without one, on the thread of the process_pool.
  static pool_id home_of_caller() noexcept {
    const task* const t = current_task();
    return t != nullptr ? t->home() : no_pool;
  }
  void finish() noexcept {
    this->complete(task::completion::from_elsewhere);
    this->release();
  }

  std::string_view name_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
