#ifndef CADRE_ASYNC_DETAIL_STRAND_HPP
#define CADRE_ASYNC_DETAIL_STRAND_HPP

#include <cadre/async/detail/task.hpp>

#include <exception>
#include <memory>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A piece of work that lies in a coroutine's frame and lets it go on.
class resumption : public task {
 public:
  explicit resumption(pool_id home) noexcept : task(home, task::bare, {}) {}
  ~resumption() override = default;
  void run_not() noexcept override {}  // bare tasks always run
  [[nodiscard]] std::exception_ptr& error() noexcept override { return none_; }
  /// The coroutine's task; null for a coroutine of another library.
  [[nodiscard]] virtual task* whose() noexcept { return nullptr; }

 private:
  std::exception_ptr none_;
};

/// In place of the pool, for the coroutines that begin in it: where they go on, one at a time with all else that it runs. Who
/// is handed a strand by task::runs_in() shares in what the coroutine uses there, which lives as long.
class strand {
 public:
  strand(const strand&) = delete;
  strand& operator=(const strand&) = delete;

  /// Runs it some day. From any thread.
  virtual void go_on(resumption& next) noexcept = 0;
  /// Of the coroutine that goes on there now: see task::extras().
  [[nodiscard]] virtual task_extras* extras() noexcept { return nullptr; }

 protected:
  strand() = default;
  ~strand() = default;
};

/// That of the task that runs on this thread, or null. A part of a task, as of a loop, may run beside others.
inline std::shared_ptr<strand> strand_here() noexcept {
  const running_frame* const top = this_context().top;
  return top != nullptr && top->whole && top->runs != nullptr ? top->runs->runs_in() : nullptr;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
