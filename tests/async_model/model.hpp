#ifndef CADRE_TESTS_ASYNC_MODEL_MODEL_HPP
#define CADRE_TESTS_ASYNC_MODEL_MODEL_HPP

// The async room's own headers, as they are, on the explorer in the place of std::atomic, std::mutex, the kernel's futex,
// barrier and threads, and the clock. Included first, by every file of this folder.

#include "catch.hpp"

// All that these headers include of others comes before the names are replaced.
#include "explore.hpp"

#include <cadre/core/error.hpp>
#include <cadre/core/function.hpp>
#include <cadre/observe/log.hpp>

#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <source_location>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace std {
using explore::model_atomic;
using explore::model_atomic_ref;
using explore::model_mutex;
}  // namespace std

// ---- The headers that speak to the system: their guards, and what they define --------------------------------------------

#define CADRE_OS_FUTEX_HPP
#define CADRE_OS_MEMORY_LIMIT_HPP
#define CADRE_OS_PROCESSORS_HPP
#define CADRE_OS_THREAD_HPP
#define CADRE_OS_DETAIL_MOVE_OFF_HPP
#define CADRE_ASYNC_DETAIL_BARRIER_HPP
#define CADRE_ASYNC_DETAIL_SPIN_HPP

CADRE_NAMESPACE_BEGIN
namespace futex {
inline void wait(const explore::model_atomic<std::uint32_t>& word, std::uint32_t expected) {
  explore::explorer::current()->sleep(word.address(), expected);
}
/// A deadline is past as soon as all others have gone on. None of those that never come: a thread that nobody wakes is to be
/// found.
inline bool wait_until(const explore::model_atomic<std::uint32_t>& word, std::uint32_t expected,
                       std::chrono::steady_clock::time_point deadline) {
  if (deadline != std::chrono::steady_clock::time_point::max()) {
    explore::explorer::current()->yield();
    return false;
  }
  wait(word, expected);
  return true;
}
inline void wake_one(const explore::model_atomic<std::uint32_t>& word) {
  explore::explorer::current()->wake_one(word.address());
}
}  // namespace futex

class native_thread {
 public:
  native_thread() noexcept = default;
  native_thread(const std::string&, move_only_function<void()> body)
      : number_(explore::spawn([b = std::make_shared<move_only_function<void()>>(std::move(body))] { (*b)(); })) {}
  void join() { explore::join(number_); }
  void detach() {}
  void forget() {}

 private:
  std::size_t number_ = 0;
};
inline std::uintptr_t middle_of_stack() noexcept { return 0; }
inline std::size_t usable_processors() { return 2; }
inline std::size_t usable_memory() { return 1 << 30; }

namespace detail {
class uneven_barrier {
 public:
  static void prepare() {}
  static void frequent() {}
  static void seldom() { explore::explorer::current()->seldom_barrier(); }
  static void full() { explore::explorer::current()->own_barrier(); }
};

/// Time passes with every look at it, so that looking for a moment is one look.
inline std::uint64_t ticks() {
  static std::uint64_t now = 0;
  return now += 1'000'000;
}
inline void relax() {}
inline int this_thread_number() { return 1; }
inline void move_off_this_processor(int) {}
}  // namespace detail
CADRE_NAMESPACE_END

inline int model_yield() {
  if (explore::explorer* const e = explore::explorer::current()) e->yield();
  return 0;
}

#define atomic model_atomic
#define atomic_ref model_atomic_ref
#define mutex model_mutex
#define sched_yield model_yield

#include <cadre/actor/detail/arrivals.hpp>
#include <cadre/async.hpp>

#undef atomic
#undef atomic_ref
#undef mutex
#undef sched_yield

namespace model {

/// Runs `program` in every order; it makes its threads by spawn(), and its end is the end of a run. Each thread has its own
/// of what cadre keeps for a thread.
inline explore::report every_order(explore::settings s, const std::function<void()>& program) {
  explore::explorer e(std::as_writable_bytes(std::span(&cadre::detail::this_context(), 1)));
  explore::report r = e.run(s, [&] {
    program();
    cadre::detail::lanes::leave_all();
  });
  UNSCOPED_INFO("after " << r.runs << " runs: " << r.failure);
  return r;
}

/// A task that counts what becomes of it.
class item final : public cadre::detail::state<void> {
 public:
  explicit item(std::uint32_t references = 1) noexcept : state<void>(cadre::detail::no_pool, 0, {}) {
    set_parent();
    publish(queued, references);
  }
  ~item() override {
    if (ended != nullptr) ++*ended;
  }
  void run() noexcept override {
    ++runs;
    complete(completion::of_its_run);
  }
  void run_not() noexcept override {
    ++runs_not;
    complete(completion::from_elsewhere);
  }
  int runs = 0;
  int runs_not = 0;
  int* ended = nullptr;
};

}  // namespace model

#endif
