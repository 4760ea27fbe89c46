#ifndef CADRE_ACTOR_DETAIL_LETTERS_HPP
#define CADRE_ACTOR_DETAIL_LETTERS_HPP

#include <cadre/actor/detail/call_in_mailbox.hpp>
#include <cadre/actor/detail/cancelled_letters.hpp>
#include <cadre/actor/detail/handlers.hpp>
#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/spin.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/async/detail/strand.hpp>
#include <cadre/async/error.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What letters have done in a turn of their actor.
struct letters_of_turn {
  std::uint32_t calls = 0;
  receives_letters* owes = nullptr;  ///< the answers to some
  std::uint64_t since = 0;           ///< ticks

  void pay() noexcept {
    if (owes != nullptr) std::exchange(owes, nullptr)->answers_end();
  }
};

/// Some calls of an actor that have come from another rank together, as bytes: one entry in its mailbox. Each is read when its
/// turn has come, and made a task if its caller can cancel it; so one that is only told costs no task of its own.
class letters final : public state_with_error, public call_in_mailbox {
 public:
  /// Bytes of arguments that one may have.
  static constexpr std::size_t largest = 512;

  letters(actor_cell& at, receives_letters& to, pool_id home)
      : state_with_error(home, task::no_future | task::beyond_cancel | task::not_for_help, {}),
        call_in_mailbox(at, call_kind::of_user),
        to_(to),
        bytes_(new std::byte[room]) {
    to_.cancelled().add_letters();
    this->publish(task::queued, 1);
  }
  ~letters() override { to_.cancelled().drop_letters(); }

  /// Before they are in the mailbox. False if there is no room.
  [[nodiscard]] bool add(const letter& l) noexcept {
    const head h{l.opened_by, l.number, l.from, static_cast<std::uint32_t>(l.arguments.size())};
    if (room - used_ < sizeof h + h.size) return false;
    std::memcpy(bytes_.get() + used_, &h, sizeof h);
    if (h.size != 0) std::memcpy(bytes_.get() + used_ + sizeof h, l.arguments.data(), h.size);
    used_ += sizeof h + h.size;
    ++count_;
    return true;
  }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }
  /// Whether that is some, in a mailbox, of which a call is one that waits or is the last that has begun.
  [[nodiscard]] static bool still_have(const task* t, int from, std::uint64_t number) noexcept {
    const auto* const some = dynamic_cast<const letters*>(t);
    if (some == nullptr) return false;
    for (std::size_t at = 0; at != some->used_;) {
      head h;
      std::memcpy(&h, some->bytes_.get() + at, sizeof h);
      at += sizeof h + h.size;
      if (h.from == from && h.number == number) return some->read_.load(std::memory_order_acquire) <= at;
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
    turn().calls += count_;
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
  [[nodiscard]] std::shared_ptr<strand> runs_in() noexcept override;
  [[nodiscard]] task_extras* extras() noexcept override;
  [[nodiscard]] bool waits_on_its_thread() noexcept override { return true; }
  [[nodiscard]] task* held_up_by() noexcept override;
  [[nodiscard]] std::string_view name() const noexcept override {
    const handler* const h = opened_by_.load(std::memory_order_relaxed);
    return h != nullptr ? h->called() : "calls from another rank";
  }

 private:
  // So few that they hold up others no longer than some calls do.
  static constexpr std::size_t room = 1024;
  struct head {
    const handler* opened_by;
    std::uint64_t number;
    std::int32_t from;
    std::uint32_t size;
  };

  bool next(letter& l) noexcept {
    const std::size_t read = read_.load(std::memory_order_relaxed);
    if (read == used_) return false;
    head h;
    std::memcpy(&h, bytes_.get() + read, sizeof h);
    l = {&to_, &cell, this, h.opened_by, h.number, h.from, {bytes_.get() + read + sizeof h, h.size}};
    read_.store(read + sizeof h + h.size, std::memory_order_release);
    opened_by_.store(h.opened_by, std::memory_order_relaxed);
    return true;
  }
  // Answers wait for those that follow at once, if they do.
  void owe() noexcept {
    constexpr std::uint64_t long_enough = 50'000;
    const std::uint64_t now = ticks();
    letters_of_turn& all = turn();
    if (all.owes == nullptr) {
      all.owes = &to_;
      all.since = now;
    } else if (now - all.since > long_enough) {
      all.pay();
    }
  }
  [[nodiscard]] letters_of_turn& turn() noexcept;

  receives_letters& to_;
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t used_ = 0;
  std::atomic<std::size_t> read_{0};
  std::uint32_t count_ = 0;
  std::atomic<const handler*> opened_by_{nullptr};
  cancelled_letters::call_under_way now_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
