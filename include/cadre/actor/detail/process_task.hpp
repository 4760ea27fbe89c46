#ifndef CADRE_ACTOR_DETAIL_PROCESS_TASK_HPP
#define CADRE_ACTOR_DETAIL_PROCESS_TASK_HPP

#include <cadre/actor/detail/worker_process.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/async/future.hpp>

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

  process_task* next = nullptr;  ///< in the queue
  int tries = 0;                 ///< workers that died of it
  int misses = 0;                ///< workers that died before they had it
  bool begun = false;

 protected:
  ~process_task() = default;
  void forget_arguments() noexcept { arguments_ = byte_buffer(); }

 private:
  worker_function::action function_;
  byte_buffer arguments_;
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
      if constexpr (!std::is_void_v<R>) {
        R value{};
        in(value);
        in.expect_end();
        return value;
      }
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
