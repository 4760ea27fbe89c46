#ifndef CADRE_ASYNC_WHEN_ALL_HPP
#define CADRE_ASYNC_WHEN_ALL_HPP

#include <cadre/async/detail/needed_tasks.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/async/error.hpp>
#include <cadre/async/future.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// What stands for void where a value is needed, as in the tuple of when_all().
struct unit {
  friend constexpr bool operator==(unit, unit) noexcept { return true; }
};

namespace detail {

/// A task done when some others are; the last of them to finish calls gather(), which collects their results.
template <class R>
class join_state : public state<R> {
 public:
  struct part : continuation {
    part() noexcept : continuation(&told) {}
    static task* told(continuation& c, wish w) noexcept {
      join_state& owner = *static_cast<part&>(c).owner;
      if (w == wish::name_owner) return &owner;
      owner.one_done();
      return nullptr;
    }
    join_state* owner = nullptr;
  };

  explicit join_state(pool_id home, std::source_location at) noexcept
      : state<R>(home, task::no_closure | task::hears_stop, at) {
    look_.owner = this;
  }
  void run() noexcept override {}  // never claimable
  void run_not() noexcept override {}

  /// Who cancels the whole cancels the parts, as long as they are there.
  void on_stop() noexcept override {
    if (!expect_one_more()) return;
    stop_parts();
    one_done();
  }
  void add_needed(needed_tasks& all) override {
    all.prepare_to_fire();
    if (!expect_one_more()) return;
    all.fire_at_end(look_);
    add_parts(all);
  }

 protected:
  /// One for each part and one for the end of the set-up.
  void expect(std::size_t parts) noexcept {
    remaining_.store(parts + 1, std::memory_order_relaxed);
    this->publish(task::pending, 2);
  }
  void watch(task& t, part& p) noexcept {
    p.owner = this;
    if (!t.add(p)) one_done();
  }
  void one_done() noexcept {
    if (remaining_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    gather();
    if (this->failed() && says_cancelled(this->error())) this->set_observed();
    this->complete(task::completion::from_elsewhere);
    this->release();
  }

 private:
  virtual void gather() noexcept = 0;
  virtual void stop_parts() noexcept = 0;
  virtual void add_parts(needed_tasks& all) const = 0;

  // False if the parts are there.
  [[nodiscard]] bool expect_one_more() noexcept {
    std::size_t n = remaining_.load(std::memory_order_relaxed);
    while (n != 0)
      if (remaining_.compare_exchange_weak(n, n + 1, std::memory_order_acquire, std::memory_order_relaxed)) return true;
    return false;
  }

  part look_;  // at what it needs: as if it were one of the parts
  std::atomic<std::size_t> remaining_{1};
};

template <class T>
using joined_vector_t =
    std::conditional_t<std::is_void_v<T>, std::type_identity<void>, std::type_identity<std::vector<T>>>;

template <class T, class R = typename joined_vector_t<T>::type>
class vector_join final : public join_state<R> {
 public:
  vector_join(std::vector<future<T>> futures, std::source_location at)
      : join_state<R>(futures.empty() ? no_pool : future_access::get(futures.front())->home(), at),
        futures_(std::move(futures)),
        parts_(futures_.size()) {}

  void begin() noexcept {
    this->expect(parts_.size());
    for (std::size_t i = 0; i < parts_.size(); ++i) this->watch(*future_access::get(futures_[i]), parts_[i]);
    this->one_done();
  }

 private:
  void gather() noexcept override {
    set_from(static_cast<state<R>&>(*this), [this]() -> R {
      if constexpr (std::is_void_v<T>) {
        for (future<T>& f : futures_) f.get();
      } else {
        R values;
        values.reserve(futures_.size());
        for (future<T>& f : futures_) values.push_back(f.get());
        return values;
      }
    });
    futures_.clear();  // errors behind the first go to the handler now
  }

  void stop_parts() noexcept override {
    for (const future<T>& f : futures_) detail::cancel(*future_access::get(f));
  }
  void add_parts(needed_tasks& all) const override {
    for (const future<T>& f : futures_) all.add_if_open(*future_access::get(f));
  }

  std::vector<future<T>> futures_;
  std::vector<typename join_state<R>::part> parts_;
};

template <class T>
using tuple_element_for = std::conditional_t<std::is_void_v<T>, unit, T>;

template <class T>
tuple_element_for<T> get_or_unit(future<T>& f) {
  if constexpr (std::is_void_v<T>) {
    f.get();
    return {};
  } else {
    return f.get();
  }
}

template <class... T>
class tuple_join final : public join_state<std::tuple<tuple_element_for<T>...>> {
  using result_type = std::tuple<tuple_element_for<T>...>;

 public:
  tuple_join(pool_id home, std::source_location at, future<T>&&... futures)
      : join_state<result_type>(home, at), futures_(std::move(futures)...) {}

  void begin() noexcept {
    this->expect(sizeof...(T));
    std::apply(
        [this](future<T>&... f) {
          std::size_t i = 0;
          (this->watch(*future_access::get(f), parts_[i++]), ...);
        },
        futures_);
    this->one_done();
  }

 private:
  void gather() noexcept override {
    set_from(static_cast<state<result_type>&>(*this), [this] {
      return std::apply([](future<T>&... f) { return result_type{get_or_unit(f)...}; }, futures_);  // braces: in order
    });
    futures_ = {};
  }

  void stop_parts() noexcept override {
    std::apply([](const future<T>&... f) { (detail::cancel(*future_access::get(f)), ...); }, futures_);
  }
  void add_parts(needed_tasks& all) const override {
    std::apply([&](const future<T>&... f) { (all.add_if_open(*future_access::get(f)), ...); }, futures_);
  }

  std::tuple<future<T>...> futures_;
  typename join_state<result_type>::part parts_[sizeof...(T)];
};

}  // namespace detail

/// A future of all values, in the order of the futures, ready when all of them are. If some fail it holds the error of the
/// first in order, and the handler of unobserved errors gets the others. Continuations run where those of the first future
/// would. For void: a future<void>. Throws empty_future (201).
template <class T>
  requires(!std::is_reference_v<T>)
auto when_all(std::vector<future<T>> futures, std::source_location at = std::source_location::current()) {
  for (const future<T>& f : futures)
    if (!f.valid()) throw empty_future("when_all()");
  using join_type = detail::vector_join<T>;
  auto* const join = new join_type(std::move(futures), at);
  auto result =
      detail::future_access::make(detail::task_ref<detail::state<typename detail::joined_vector_t<T>::type>>(join));
  join->begin();
  return result;
}

/// The same for futures of different types: a future of a std::tuple, with cadre::unit in the place of void.
template <class First, class... Rest>
[[nodiscard]] auto when_all(future<First> first, future<Rest>... rest) {
  if (!first.valid() || !(rest.valid() && ...)) throw empty_future("when_all()");
  using join_type = detail::tuple_join<First, Rest...>;
  const detail::pool_id home = detail::future_access::get(first)->home();
  auto* const join = new join_type(home, {}, std::move(first), std::move(rest)...);
  auto result = detail::future_access::make(
      detail::task_ref<detail::state<std::tuple<detail::tuple_element_for<First>, detail::tuple_element_for<Rest>...>>>(
          join));
  join->begin();
  return result;
}

CADRE_NAMESPACE_END

#endif
