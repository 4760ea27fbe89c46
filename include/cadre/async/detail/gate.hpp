#ifndef CADRE_ASYNC_DETAIL_GATE_HPP
#define CADRE_ASYNC_DETAIL_GATE_HPP

#include <cadre/async/detail/task.hpp>
#include <cadre/async/detail/waiter_list.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Lets a task begin when some others are done, whatever with. It ends itself then.
class gate {
 public:
  /// Called once, by whichever thread opens the gate.
  using action = void (*)(task&) noexcept;

  explicit gate(std::size_t others) : steps_(new step[others]), left_(others + 1) {}
  gate(const gate&) = delete;
  gate& operator=(const gate&) = delete;

  /// Once. `open` gets a reference of `t`; it may be called before this returns. Each of the others must be kept by somebody
  /// until this returns.
  void close(std::span<task* const> others, task& t, action open) noexcept {
    task_ = &t;
    open_ = open;
    for (std::size_t i = 0; i < others.size(); ++i) {
      steps_[i].belongs_to = this;
      if (!others[i]->add(steps_[i])) arrive();
    }
    arrive();
  }

 private:
  struct step : continuation {
    step() noexcept : continuation(&done) {}
    gate* belongs_to = nullptr;
  };
  static task* done(continuation& c, continuation::wish w) noexcept {
    gate& self = *static_cast<step&>(c).belongs_to;
    if (w == continuation::wish::name_owner) return self.task_;
    self.arrive();
    return nullptr;
  }
  void arrive() noexcept {
    if (left_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    open_(*task_);
    delete this;
  }

  std::unique_ptr<step[]> steps_;
  std::atomic<std::size_t> left_;  // of the others, and close() itself
  task* task_ = nullptr;
  action open_ = nullptr;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
