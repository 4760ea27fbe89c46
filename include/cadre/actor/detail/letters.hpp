#ifndef CADRE_ACTOR_DETAIL_LETTERS_HPP
#define CADRE_ACTOR_DETAIL_LETTERS_HPP

#include <cadre/actor/detail/call_in_mailbox.hpp>
#include <cadre/actor/detail/cancelled_letters.hpp>
#include <cadre/actor/detail/handlers.hpp>
#include <cadre/actor/detail/packed_letters.hpp>
#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/spin.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/async/detail/strand.hpp>
#include <cadre/async/error.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What letters have done in a turn of their actor.
struct letters_of_turn {
  std::uint32_t calls = 0;
  receives_letters* owes = nullptr;  ///< the answers to some
  std::uint64_t since = 0;           ///< ticks
  std::uint64_t looked = 0;          ///< at the clock, ticks
  std::uint32_t before_look = 0;     ///< calls that need not look at it

  void pay() noexcept {
    if (owes != nullptr) std::exchange(owes, nullptr)->answers_end();
  }
};

/// Some calls of an actor that have come from another rank together, as bytes: one entry in its mailbox. Each is read when its
/// turn has come, and made a task if its caller can cancel it; so one that is only told costs no task of its own.
class letters final : public state_with_error, public call_in_mailbox {
 public:
  letters(actor_cell& at, receives_letters& to, pool_id home, int from)
      : state_with_error(home, task::no_future | task::beyond_cancel | task::not_for_help, {}),
        call_in_mailbox(at, call_kind::of_user),
        to_(to),
        from_(from) {
    to_.cancelled().add_letters();
    this->publish(task::queued, 1);
  }
  ~letters() override { to_.cancelled().drop_letters(); }

  /// Before they are in the mailbox. False if there is no room.
  [[nodiscard]] bool add(const handler& opened_by, std::uint64_t number,
                         std::span<const std::byte> arguments) noexcept {
    return all_.add(opened_by, number, arguments);
  }
  [[nodiscard]] int from() const noexcept { return from_; }
  [[nodiscard]] std::uint32_t count() const noexcept { return all_.count(); }
  /// Whether that is some, in a mailbox, of which a call is one that waits or is the last that has begun.
  [[nodiscard]] static bool still_have(const task* t, int from, std::uint64_t number) noexcept {
    const auto* const some = dynamic_cast<const letters*>(t);
    if (some == nullptr || some->from_ != from) return false;
    for (std::size_t at = 0; at != some->all_.size();) {
      const packed_letters::entry e = some->all_.at(at);
      if (e.number == number) return some->read_.load(std::memory_order_acquire) <= e.end;
      at = e.end;
    }
    return false;
  }

  void run() noexcept override {
    const cancelled_letters::reader reader(to_.cancelled(), now_);
    worker* const w = this_worker();
    for (letter l{}; next(l);) {
      if (w != nullptr) {
        // What the call before has left in the worker's queue is no part of this one, which may wait for it.
        if (w->next != nullptr) w->home->push(std::exchange(w->next, nullptr));
        w->frame = w->queue.position();
      }
      l.opened_by->open()(l, nullptr);
      if (l.number != 0) owe();
    }
    turn().calls += all_.count();
  }
  void run_not() noexcept override {
    const auto why = std::make_exception_ptr(task_cancelled("a call from another rank"));
    for (letter l{}; next(l);)
      if (l.number != 0) l.opened_by->open()(l, why);
    to_.answers_end();
  }
  void fail(std::exception_ptr why) noexcept override {
    if (!this->try_claim()) return;
    for (letter l{}; next(l);) l.opened_by->open()(l, why);
    to_.answers_end();
  }
  /// In place of going into the mailbox: the actor is another one by now.
  void fail_for_ever() noexcept {
    for (letter l{}; next(l);) {
      l.cell = nullptr;
      l.opened_by->open()(l, nullptr);
    }
    to_.answers_end();
  }
  /// Runs a call that can be cancelled, and gives it back.
  void run(task& call, const letter& l) noexcept {
    now_.begin(l.from, l.number, call);
    if (to_.cancelled().forget(l.from, l.number)) call.cancel_alone();
    if (call.try_claim()) {
      worker* const w = this_worker();
      w != nullptr ? scheduler::run_claimed(*w, call) : run_in_frame(call, this_context());
    }
    now_.end(call);
    call.release();
  }

  [[nodiscard]] bool has_begun() const noexcept override { return this->is_running(); }
  [[nodiscard]] std::shared_ptr<strand> runs_in() noexcept override { return cell_strand(); }
  [[nodiscard]] task_extras* extras() noexcept override { return cell_extras(); }
  [[nodiscard]] bool waits_on_its_thread() noexcept override { return true; }
  [[nodiscard]] task* held_up_by() noexcept override { return call_before(); }
  [[nodiscard]] std::string_view name() const noexcept override {
    const handler* const h = opened_by_.load(std::memory_order_relaxed);
    return h != nullptr ? h->called() : "calls from another rank";
  }

 private:
  std::shared_ptr<strand> cell_strand() noexcept;
  task_extras* cell_extras() noexcept;
  task* call_before() noexcept;

  bool next(letter& l) noexcept {
    const std::size_t read = read_.load(std::memory_order_relaxed);
    if (read == all_.size()) return false;
    const packed_letters::entry e = all_.at(read);
    l = {&to_, &cell, this, e.opened_by, e.number, from_, e.arguments};
    read_.store(e.end, std::memory_order_release);
    opened_by_.store(e.opened_by, std::memory_order_relaxed);
    return true;
  }
  // Answers wait for those that follow at once, if they do.
  void owe() noexcept {
    constexpr std::uint64_t long_enough = 50'000;
    constexpr std::uint32_t few = 8;
    letters_of_turn& all = turn();
    if (all.owes != nullptr && all.before_look != 0) {
      --all.before_look;
      return;
    }
    const std::uint64_t now = ticks();  // takes as long as much of a short call
    all.before_look = now - std::exchange(all.looked, now) < long_enough / few ? few - 1 : 0;
    if (all.owes == nullptr) {
      all.owes = &to_;
      all.since = now;
    } else if (now - all.since > long_enough) {
      all.pay();
    }
  }
  [[nodiscard]] letters_of_turn& turn() noexcept;

  receives_letters& to_;
  const int from_;
  packed_letters all_;
  std::atomic<std::size_t> read_{0};
  std::atomic<const handler*> opened_by_{nullptr};
  cancelled_letters::call_under_way now_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
