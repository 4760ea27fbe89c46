#ifndef CADRE_ASYNC_DETAIL_PARALLEL_FOR_HPP
#define CADRE_ASYNC_DETAIL_PARALLEL_FOR_HPP

#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/async/detail/waiting.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The part of a loop that all its threads share; on the caller's stack. Chunks are handed out by a counter, so an uneven
/// body does not hold up the rest.
template <class F>
class loop {
 public:
  loop(std::size_t first, std::size_t last, std::size_t chunk, F& f) noexcept
      : first_(first),
        last_(last),
        chunk_(chunk),
        chunks_((last - first) / chunk + ((last - first) % chunk != 0)),
        f_(f) {}

  [[nodiscard]] std::size_t chunks() const noexcept { return chunks_; }

  void work() noexcept {
    for (;;) {
      const std::size_t c =
          next_.load(std::memory_order_relaxed) < chunks_ ? next_.fetch_add(1, std::memory_order_relaxed) : chunks_;
      if (c >= chunks_) return;
      const std::size_t begin = first_ + c * chunk_;
      const std::size_t end = last_ - begin > chunk_ ? begin + chunk_ : last_;
      std::size_t i = begin;
      try {
        for (; i != end; ++i) static_cast<void>(f_(i));
      } catch (...) {
        fail(i, std::current_exception());
      }
    }
  }

  void rethrow() {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  [[gnu::cold]] void fail(std::size_t i, std::exception_ptr error) noexcept {
    next_.store(chunks_, std::memory_order_relaxed);
    const std::lock_guard lock(mutex_);
    if (error_ && failed_at_ < i) return;
    error_ = std::move(error);
    failed_at_ = i;
  }

  const std::size_t first_;
  const std::size_t last_;
  const std::size_t chunk_;
  const std::size_t chunks_;
  F& f_;
  alignas(64) std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
  std::size_t failed_at_ = 0;
};

template <class Loop>
class loop_task final : public state<void> {
 public:
  loop_task(Loop& l, pool_id home) noexcept : state<void>(home, 0, {}), loop_(l) {
    this->set_parent();
    this->publish(task::queued, 2);
  }
  void run() noexcept override {
    loop_.work();
    complete(completion::of_its_run);
  }
  void run_not() noexcept override { complete(completion::from_elsewhere); }  // the others do its part

 private:
  Loop& loop_;
};

template <class F>
void run_loop(scheduler& pool, std::size_t first, std::size_t last, std::size_t chunk, F& f) {
  loop<F> shared(first, last, chunk, f);
  using helper_type = loop_task<loop<F>>;
  const worker* const w = this_worker();
  const std::size_t others = pool.size() - (w != nullptr && w->home == &pool ? 1 : 0);
  std::vector<task_ref<helper_type>> helpers;
  try {
    helpers.reserve(others < shared.chunks() ? others : shared.chunks() - 1);
    while (helpers.size() < helpers.capacity()) {
      helpers.emplace_back(new helper_type(shared, pool.id()));
      pool.push_and_go_on(helpers.back().get());
    }
  } catch (const std::bad_alloc&) {  // then with fewer
  }
  shared.work();
  // The loop is used up, so those who have not begun need not: claimed here, they never touch it.
  for (const auto& h : helpers)
    if (!h->try_claim()) static_cast<void>(wait_for_task(*h));
  shared.rethrow();
}

/// With a grain, parts of that many iterations are what threads take; without one, 16 parts for each thread.
///
/// Of loops with enough iterations to tell, the first few are timed, and what remains of a short one stays here: to wake
/// another thread costs some microseconds.
template <class F>
void parallel_for(scheduler& pool, std::size_t first, std::size_t last, F& f, std::size_t grain = 0) {
  constexpr std::uint64_t enough_to_tell = 6'000;  // ticks, 2 to 3 us
  constexpr double worth_sharing = 15'000;         // ticks, 5 to 8 us
  constexpr std::size_t chunks_per_thread = 16;
  if (first >= last) return;
  if (grain != 0) return run_loop(pool, first, last, grain, f);
  const std::size_t threads = pool.size() + 1;
  if ((last - first) / chunks_per_thread >= threads) {
    const std::size_t start = first;
    const std::uint64_t begun = ticks();
    for (std::size_t batch = 16;;) {
      const std::size_t end = last - first > batch ? first + batch : last;
      for (; first != end; ++first) static_cast<void>(f(first));
      if (first == last) return;
      const std::uint64_t spent = ticks() - begun;
      if (spent < enough_to_tell) {
        batch *= spent < enough_to_tell / 8 ? 8 : 2;  // each look at the time costs some 10 ns
        continue;
      }
      const double each = static_cast<double>(spent) / static_cast<double>(first - start);
      if (each * static_cast<double>(last - first) >= worth_sharing) break;
      batch = last - first;
    }
  }
  const std::size_t chunk = (last - first) / (threads * chunks_per_thread);
  run_loop(pool, first, last, chunk != 0 ? chunk : 1, f);
}

template <class T, class Body, class Op>
T parallel_reduce(scheduler& pool, std::size_t first, std::size_t last, T init, Body& body, Op& op,
                  std::size_t grain = 0) {
  if (first >= last) return init;
  // Fixed by the length alone, so that no result depends on the threads.
  constexpr std::size_t most_parts = 256;
  const std::size_t n = last - first;
  const std::size_t length = grain != 0 ? grain : n / most_parts + (n % most_parts != 0);
  const std::size_t parts = n / length + (n % length != 0);
  struct part {
    T* value = nullptr;
    alignas(T) std::byte storage[sizeof(T)];
    part() noexcept {}
    part(const part&) = delete;
    part& operator=(const part&) = delete;
    ~part() {
      if (value) value->~T();
    }
  };
  const auto results = std::make_unique<part[]>(parts);
  const auto one = [&](std::size_t p) {
    const std::size_t begin = first + p * length;
    const std::size_t end = last - begin > length ? begin + length : last;
    T value = body(begin);
    for (std::size_t i = begin + 1; i != end; ++i) value = op(std::move(value), static_cast<T>(body(i)));
    results[p].value = ::new (static_cast<void*>(results[p].storage)) T(std::move(value));
  };
  parallel_for(pool, 0, parts, one, grain != 0 ? 1 : 0);
  T total = std::move(init);
  for (std::size_t p = 0; p != parts; ++p) total = op(std::move(total), std::move(*results[p].value));
  return total;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
