#ifndef CADRE_ASYNC_WHEN_ANY_HPP
#define CADRE_ASYNC_WHEN_ANY_HPP

#include <cadre/async/detail/state.hpp>
#include <cadre/async/error.hpp>
#include <cadre/async/future.hpp>

#include <atomic>
#include <cstddef>
#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// What when_any() gives: which future was the first, and its value. Without `value` for void.
template <class T>
struct any_result {
  std::size_t index;
  T value;
};
template <>
struct any_result<void> {
  std::size_t index;
};

namespace detail {

/// Done when the first of some tasks is. Lives until all of them are, since it stands in their lists.
template <class T>
class any_state final : public state<any_result<T>> {
 public:
  any_state(std::vector<future<T>> futures, std::source_location at)
      : state<any_result<T>>(future_access::get(futures.front())->home(), task::no_closure | task::hears_stop, at),
        parts_(futures.size()),
        remaining_(futures.size() + 1) {
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      parts_[i].owner = this;
      parts_[i].watched = future_access::take(std::move(futures[i]));
    }
  }
  void run() noexcept override {}  // never claimable
  void run_not() noexcept override {}

  void begin() noexcept {
    this->publish(task::pending, 2);
    for (part& p : parts_)
      if (!p.watched->add(p)) over(p);
    one_less();
  }

  /// Who cancels the whole cancels the parts, as long as they are there.
  void on_stop() noexcept override {
    std::size_t n = remaining_.load(std::memory_order_relaxed);
    while (n != 0)
      if (remaining_.compare_exchange_weak(n, n + 1, std::memory_order_acquire, std::memory_order_relaxed)) {
        stop_all_but(nullptr);
        one_less();
        return;
      }
  }

 private:
  struct part : continuation {
    part() noexcept : continuation(&told) {}
    static task* told(continuation& c, wish w) noexcept {
      if (w == wish::name_owner) return nullptr;  // another part may come first
      part& p = static_cast<part&>(c);
      p.owner->over(p);
      return nullptr;
    }
    any_state* owner = nullptr;
    task_ref<state<T>> watched;
  };

  // First those that have not begun, lest they take the threads of the others.
  void stop_all_but(const part* one) noexcept {
    for (part& p : parts_)
      if (&p != one && !p.watched->is_running()) detail::cancel(*p.watched);
    for (part& p : parts_)
      if (&p != one) detail::cancel(*p.watched);
  }

  void over(part& p) noexcept {
    if (!decided_.exchange(true, std::memory_order_relaxed))
      win(p);
    else
      lose(*p.watched);
    one_less();
  }

  void win(part& p) noexcept {
    stop_all_but(&p);
    state<T>& first = *p.watched;
    if (first.failed()) {
      this->set_error(std::move(first.error()));
      if (first.set_observed()) this->set_observed();
    } else {
      const auto index = static_cast<std::size_t>(&p - parts_.data());
      set_from(static_cast<state<any_result<T>>&>(*this), [&]() -> any_result<T> {
        if constexpr (std::is_void_v<T>)
          return {index};
        else
          return {index, first.take()};
      });
    }
    this->complete(task::completion::from_elsewhere);
  }

  // It was asked to stop. That it did so, a task says by task_cancelled, a promise by its end.
  static void lose(state<T>& other) noexcept {
    if (!other.failed() || other.observed()) return;
    try {
      std::rethrow_exception(other.error());
    } catch (const task_cancelled&) {
      other.set_observed();
    } catch (const broken_promise&) {
      other.set_observed();
    } catch (...) {  // for the handler of unobserved errors
    }
  }

  void one_less() noexcept {
    if (remaining_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    for (part& p : parts_) p.watched = {};
    this->release();
  }

  std::vector<part> parts_;
  std::atomic<std::size_t> remaining_;  // parts that are not done, and one for the end of begin()
  std::atomic<bool> decided_{false};
};

template <class T>
future<any_result<T>> first_of(std::vector<future<T>> futures, std::source_location at) {
  if (futures.empty()) throw impossible_wait(1, 0);
  for (const future<T>& f : futures)
    if (!f.valid()) throw empty_future("when_any()");
  auto* const any = new any_state<T>(std::move(futures), at);
  auto result = future_access::make(task_ref<state<any_result<T>>>(any));
  any->begin();
  return result;
}

}  // namespace detail

/// A future of the first of the futures to become ready, be it with a value or an error (which get() then throws). Of
/// several that are ready at the call it is the one of the lowest index; later, whichever is done first.
///
/// The others are asked to stop before the result is ready, as by future::cancel(): those that have not begun by then never
/// will, and the result waits for none that goes on. What they give is dropped; an error of theirs other than task_cancelled
/// (206) and broken_promise (202) goes to the handler of unobserved errors. To use the others' results too, see wait().
///
/// Cancelling the result cancels all. Continuations run where those of the first in order would. Throws impossible_wait
/// (205) if there is no future, empty_future (201) if one is empty. Cost: an allocation, and what future::cancel() costs
/// for each.
template <class T>
[[nodiscard]] future<any_result<T>> when_any(std::vector<future<T>> futures,
                                             std::source_location at = std::source_location::current()) {
  return detail::first_of(std::move(futures), at);
}

/// The same for some futures of one type. Of different types, make it one by then().
template <class T, class... Rest>
[[nodiscard]] future<any_result<T>> when_any(future<T> first, future<Rest>... rest) {
  static_assert((std::is_same_v<T, Rest> && ...), "when_any() is of futures of one type: make it one by then()");
  std::vector<future<T>> futures;
  futures.reserve(1 + sizeof...(Rest));
  futures.push_back(std::move(first));
  (futures.push_back(std::move(rest)), ...);
  return detail::first_of(std::move(futures), {});
}

CADRE_NAMESPACE_END

#endif
