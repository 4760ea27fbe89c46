#ifndef CADRE_ACTOR_DETAIL_ASK_HPP
#define CADRE_ACTOR_DETAIL_ASK_HPP

#include <cadre/actor/detail/block.hpp>
#include <cadre/actor/detail/flat.hpp>
#include <cadre/actor/detail/job.hpp>
#include <cadre/actor/detail/travel.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/core/function.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A request to another rank, whatever it will give.
class remote_request : public waits_for_answer {
 public:
  /// How a call is made of an actor that may be elsewhere by then.
  struct movable {
    actor_place first;
    int tries_left;  ///< after the loss of its rank; -1: any number
    move_only_function<void(int to, job::head)> send;
  };

  /// Before it is asked for there; of an actor, if it is a call, in that cell. Returns the number of the request.
  std::uint64_t expect_from(int to, std::uint32_t cell) {
    to_.store(to, std::memory_order_relaxed);
    cell_.store(cell, std::memory_order_relaxed);
    const std::uint64_t n = job_.open().add(*this, to);
    number_.store(n, std::memory_order_release);
    return n;
  }
  /// It could not be sent: false if somebody else ends it, or has done so.
  [[nodiscard]] bool is_still_open(int to, std::uint64_t number) noexcept {
    return !job_.is_dying(to) && job_.open().take(number) != nullptr;
  }
  /// Of a movable call: to where its actor is.
  void go(const actor_place& where) noexcept {
    const std::uint64_t n = expect_from(where.rank, where.at.cell);
    try {
      moves_->send(where.rank, {.number = n, .cell = where.at.cell, .generation = where.at.generation});
    } catch (const std::exception& e) {
      if (!is_still_open(where.rank, n)) return;
      if (job_.is_alive(where.rank))
        fail(std::current_exception());
      else if (!goes_elsewhere())
        lost(e.what());
    }
  }
  bool goes_elsewhere() noexcept final {
    if (!moves_ || moves_->tries_left == 0) return false;
    if (moves_->tries_left > 0) --moves_->tries_left;
    return find_place(true);
  }
  bool find_place(bool later) noexcept {
    try {
      job_.with_place(
          moves_->first, later, [this](const actor_place& where) { go(where); },
          [this](std::exception_ptr why) { fail(std::move(why)); });
      return true;
    } catch (const std::exception&) {  // no thread, no memory
      return false;
    }
  }

  /// What this keeps others from at the rank that is asked.
  charge cost;

  [[nodiscard]] std::string_view what() const noexcept final { return name_; }
  [[nodiscard]] place asked_at() const noexcept final {
    const std::uint64_t n = number_.load(std::memory_order_acquire);
    return {to_.load(std::memory_order_relaxed), cell_.load(std::memory_order_relaxed), n};
  }
  void lost(std::string_view how) noexcept final {
    fail(moves_      ? std::make_exception_ptr(actor_died::made_anew(name_, how))
         : of_actor_ ? std::make_exception_ptr(actor_died(name_, how))
                     : std::make_exception_ptr(worker_died(name_, how)));
  }

 protected:
  remote_request(job& j, std::string_view name, bool of_actor, std::unique_ptr<movable> moves) noexcept
      : job_(j), name_(name), of_actor_(of_actor), moves_(std::move(moves)) {}
  ~remote_request() = default;

  job& job_;
  const std::string_view name_;
  std::atomic<int> to_{0};
  std::atomic<std::uint64_t> number_{0};

 private:
  const bool of_actor_;
  std::unique_ptr<movable> moves_;
  std::atomic<std::uint32_t> cell_{0};
};

/// What a request to another rank will give.
template <class R>
class remote_result final : public state<R>, public remote_request {
 public:
  /// With one reference of the future and one of the table of requests. `name` lives as long as the program.
  remote_result(job& j, std::string_view name, bool of_actor, std::source_location at,
                std::unique_ptr<movable> moves = nullptr)
      : state<R>(j.core().home(), task::no_closure | task::hears_stop | task::not_for_help, at),
        remote_request(j, name, of_actor, std::move(moves)) {
    this->set_parent();
    this->publish(task::pending, 2);
  }

  void run() noexcept override {}  // never claimable
  void run_not() noexcept override {}
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  [[nodiscard]] task* awaited() noexcept override {
    if (!this->waiters().has_some()) return nullptr;
    this->retain();
    return this;
  }
  bool bring_nearer(time_point) noexcept override { return job_.bring_nearer(*this); }
  [[nodiscard]] bool is_brought_briefly() const noexcept override { return true; }
  void on_stop() noexcept override {
    const auto at = asked_at();
    job_.cancel(at.rank, at.number);
  }

  void arrive(input_archive& answer, incoming&) noexcept override {
    if constexpr (travels_as_block<R>)
      arrive_later(answer);
    else
      set_from(*this, [&]() -> R { return read_whole<R>(answer); }), finish();
  }
  bool arrive_flat(std::span<const std::byte> answer) noexcept override {
    if constexpr (std::is_void_v<R>) {
      if (!answer.empty()) return false;
      this->set();
    } else if constexpr (flat<R>) {
      if (answer.size() != sizeof(R)) return false;
      set_from(*this, [&] {
        R value{};
        get_flat(answer.data(), value);
        return value;
      });
    } else {
      return false;
    }
    finish();
    return true;
  }
  void fail(std::exception_ptr why) noexcept override {
    const bool cancelled = says_cancelled(why);
    this->set_error(std::move(why));
    if (cancelled) this->set_observed();
    finish();
  }

 private:
  // The block of a large result comes behind the answer.
  void arrive_later(input_archive& answer) noexcept {
    try {
      const auto value = std::make_shared<R>();
      read_value(answer, *value);
      answer.expect_end();
      auto* const message = static_cast<incoming_parts*>(answer.extension());
      if (!message->has_blocks()) return set_from(*this, [&] { return std::move(*value); }), finish();
      message->receive(value, [this, value](bool all) {
        if (!all) return lost("it died while it sent the result");
        set_from(*this, [&] { return std::move(*value); });
        finish();
      });
    } catch (...) {
      fail(std::current_exception());
    }
  }
  void finish() noexcept {
    cost.settle();
    this->complete(task::completion::from_elsewhere);
    this->release();
  }
};

template <class R>
future<R> failed_future(job& j, std::exception_ptr why, std::source_location at) {
  promise<R> p(j.core().pool(), at);
  future<R> f = p.get_future();
  p.set_error(std::move(why));
  return f;
}

/// Asks for what the handler is; of a rank that has died the future says so. `keep`: see job::ask(). Throws what writing the
/// request throws.
template <class R, class Write>
future<R> ask_handler(job& j, int to, job::head h, bool refs, std::string_view name, bool of_actor,
                      std::source_location at, Write&& write, std::shared_ptr<const void> keep = {}, charge cost = {}) {
  auto* const result = new remote_result<R>(j, name, of_actor, at);
  result->cost = std::move(cost);
  auto answer = future_access::make<R>(task_ref<state<R>>(result));
  h.number = result->expect_from(to, h.cell);
  try {
    j.ask_handler(to, h, refs, write, std::move(keep));
  } catch (const std::exception& e) {
    if (!result->is_still_open(to, h.number)) return answer;
    if (!j.is_alive(to)) {
      result->lost(e.what());
    } else {
      result->fail(std::current_exception());
      answer = {};
      throw;
    }
  }
  return answer;
}
template <class Tag, class R, class Write>
future<R> ask(job& j, int to, job::head h, bool refs, std::string_view name, bool of_actor, std::source_location at,
              Write&& write, std::shared_ptr<const void> keep = {}, charge cost = {}) {
  h.handler = handler_of<Tag>::id();
  return ask_handler<R>(j, to, h, refs, name, of_actor, at, write, std::move(keep), std::move(cost));
}

/// A call of an actor that may be made anew elsewhere: to where it is when that is known. `all` has the arguments.
template <class Tag, class R, class Arguments>
future<R> ask_moving(job& j, const actor_place& first, std::string_view name, std::source_location at, Arguments all) {
  auto send = [&j, all = std::move(all)](int to, const job::head& h) {
    j.template ask<Tag>(to, h, Arguments::may_hold_refs, [&](output_archive& out) { all.save(out); });
  };
  using movable = remote_request::movable;
  auto* const result =
      new remote_result<R>(j, name, true, at, std::make_unique<movable>(first, first.task_retries, std::move(send)));
  auto answer = future_access::make<R>(task_ref<state<R>>(result));
  if (!result->find_place(false)) result->fail(std::current_exception());
  return answer;
}
/// The same without an answer.
template <class Tag, class Arguments>
void tell_moving(job& j, const actor_place& first, std::string_view name, Arguments all) {
  const auto fail = [&j, name](const std::exception_ptr& why) { j.tell_of(why, name); };
  j.with_place(
      first, false,
      [&j, fail, all = std::move(all)](const actor_place& where) noexcept {
        try {
          j.template ask<Tag>(where.rank, {.cell = where.at.cell, .generation = where.at.generation},
                              Arguments::may_hold_refs, [&](output_archive& out) { all.save(out); });
        } catch (...) {
          fail(std::current_exception());
        }
      },
      fail);
}
/// Arguments of the runtime's own requests.
template <class... A>
struct plain_arguments {
  static constexpr bool may_hold_refs = false;
  std::tuple<A...> all;
  void save(output_archive& out) const {
    std::apply([&](const A&... a) { (out(a), ...); }, all);
  }
};

/// Waits for the arguments of a call, for `send(settled call)`; what one of them has failed with is for `failed(error)`, which
/// gives the same.
template <class Call, class Send, class Failed>
auto send_settled(Call call, Send&& send, Failed&& failed) {
  std::optional<typename Call::settled> all;
  try {
    all.emplace(std::move(call).settle());
  } catch (...) {
    return failed(std::current_exception());
  }
  return send(*std::move(all));
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
