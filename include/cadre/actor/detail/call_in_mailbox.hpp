#ifndef CADRE_ACTOR_DETAIL_CALL_IN_MAILBOX_HPP
#define CADRE_ACTOR_DETAIL_CALL_IN_MAILBOX_HPP

#include <cadre/async/detail/task.hpp>

#include <cstdint>
#include <exception>

CADRE_NAMESPACE_BEGIN
namespace detail {

class actor_cell;

/// What a call is to its actor. Those of the user are limited in number; the constructor is nobody's child, as the actor
/// does not end with the task that made it.
enum class call_kind : std::uint8_t { of_user, stop, constructor };

/// What all calls of actors are, beside tasks.
class call_in_mailbox {
 public:
  call_in_mailbox(actor_cell& at, call_kind what) noexcept : cell(at), kind(what) {}
  /// In place of its run. By who holds a reference.
  virtual void fail(std::exception_ptr why) noexcept = 0;
  /// With the actor's mutex held: that no turn has to come to it any more.
  [[nodiscard]] virtual bool has_begun() const noexcept = 0;
  static call_in_mailbox& of(task& t) { return dynamic_cast<call_in_mailbox&>(t); }

  actor_cell& cell;
  const call_kind kind;

 protected:
  ~call_in_mailbox() = default;
};

/// A call that is over when a future is, which its method gives: a coroutine, say. As a task it is pending until then, so
/// who waits for it in a task does other work. All that changes is guarded by the actor's mutex.
class long_call : public call_in_mailbox {
 public:
  using call_in_mailbox::call_in_mailbox;
  static long_call& of(task& t) { return dynamic_cast<long_call&>(t); }
  [[nodiscard]] virtual task& node() noexcept = 0;
  /// Without the mutex, by who has said that it is lost, or to be made again.
  virtual void heed() noexcept = 0;
  /// Of one that is to be made again, with the mutex.
  [[nodiscard]] virtual task_ref<task> take_future() noexcept = 0;
  /// Its future is there. In the actor's turn, if that saves its state.
  virtual void finish() noexcept = 0;

  enum class stage : std::uint8_t {
    waits,  // for a turn
    runs,   // its method is being called
    open,   // its method has given the future
    ends,   // that is there
    over    // nobody waits for it: it was cancelled before it began, or lost
  };
  stage now = stage::waits;
  bool again = false;   // it is to be made again when its coroutine is over
  int times_again = 0;  // so often before
  bool lost = false;    // and with this error, until somebody takes it
  std::exception_ptr why_lost;
  // The list that it is in.
  class long_call_list* in = nullptr;
  long_call* previous = nullptr;
  long_call* next = nullptr;

 protected:
  ~long_call() = default;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
