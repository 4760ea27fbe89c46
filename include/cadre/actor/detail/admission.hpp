#ifndef CADRE_ACTOR_DETAIL_ADMISSION_HPP
#define CADRE_ACTOR_DETAIL_ADMISSION_HPP

#include <cadre/async/detail/configured_task.hpp>
#include <cadre/core/function.hpp>

#include <exception>
#include <memory>
#include <source_location>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What an actor holds for its whole life: a task that runs when the resources are there, and what it was granted is given
/// back later, when the actor has gone.
class admission final : public state_with_error {
 public:
  using ledger = std::shared_ptr<resource_ledger<>>;

  struct gives_back {
    void operator()(admission* a) const noexcept {
      a->leave();
      a->release();
    }
  };
  using held = std::unique_ptr<admission, gives_back>;

  /// To be asked for later. Throws impossible_request (209).
  static held of(pool_id home, ledger from, resource_set wanted, std::string_view name, std::source_location at) {
    auto extras = std::make_unique<task_extras>(task_options{.resources = std::move(wanted), .at = at});
    if (const int n = static_cast<int>(extras->options.resources.amount("cpu")); n > 1) extras->processors = n;
    extras->ledger = std::move(from);
    extras->share = extras->ledger->ask(extras->options.resources, nullptr);
    return held(new admission(home, std::move(extras), name, at));
  }

  /// Before ask(). `admitted(null)` is called, as a task of the pool, when it is granted; with an error if that will never be.
  /// `ends()` is for who ends the actor.
  void tell(move_only_function<void(const std::exception_ptr&)> admitted, move_only_function<void()> ends) noexcept {
    admitted_ = std::move(admitted);
    ends_ = std::move(ends);
  }
  /// To be called when the actor has ended, though it may have a call to finish. Once; may be empty.
  [[nodiscard]] move_only_function<void()> take_ends() noexcept { return std::move(ends_); }
  void ask() noexcept {
    this->retain();
    if (!extras_->ledger->enqueue(extras_->share, start_granted)) this->release();
  }

  void run() noexcept override {
    if (extras_->share->refused.load(std::memory_order_relaxed)) return run_not();
    admitted_(nullptr);
  }
  void run_not() noexcept override { admitted_(extras_->ledger->why_closed()); }
  [[nodiscard]] task_extras* extras() noexcept override { return extras_.get(); }
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }

 private:
  admission(pool_id home, std::unique_ptr<task_extras> extras, std::string_view name, std::source_location at)
      : state_with_error(home, task::no_future, at), extras_(std::move(extras)), name_(name) {
    extras_->share->who = this;
    this->publish(task::pending, 1);
  }
  void leave() noexcept {
    if (extras_->ledger->leave(extras_->share, start_granted)) this->release();
  }

  std::unique_ptr<task_extras> extras_;
  std::string_view name_;
  move_only_function<void(const std::exception_ptr&)> admitted_;
  move_only_function<void()> ends_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
