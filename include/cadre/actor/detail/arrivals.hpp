#ifndef CADRE_ACTOR_DETAIL_ARRIVALS_HPP
#define CADRE_ACTOR_DETAIL_ARRIVALS_HPP

#include <cadre/async/detail/fetch_ahead.hpp>
#include <cadre/async/detail/task.hpp>

#include <atomic>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Calls on their way into the mailbox of an actor, first in, first out, so that who calls does not need the lock that each
/// call of the actor takes. Open while a turn of it runs or waits for a thread, which takes what has come before it ends and
/// closes them; else who calls has to make a turn.
///
/// An inbox (async) whose word says also which actor of the cell they are for, in the 16 bits that addresses leave free (but
/// for those above 48 bits, which a program has to ask the system for): one who was held up on the way to an actor that has
/// gone since brings its call to no other.
class arrivals {
 public:
  /// So many actors of a cell can be told apart. None is 0.
  static constexpr std::uint32_t most_actors = 0xffff;

  /// By any thread. False if they are not open for this actor.
  [[nodiscard]] bool push(std::uint32_t actor, task& call) noexcept {
    call.link.store(nullptr, std::memory_order_relaxed);
    std::uint64_t old = word_.load(std::memory_order_relaxed);
    do {
      if (old == 0 || old >> tag_shift != actor) return false;
    } while (
        !word_.compare_exchange_weak(old, word(actor, &call), std::memory_order_acq_rel, std::memory_order_relaxed));
    task* const before = last(old);
    (before != nullptr ? before->link : first_).store(&call, std::memory_order_release);
    return true;
  }

  // ---- By one thread at a time

  void open(std::uint32_t actor) noexcept { word_.store(word(actor, nullptr), std::memory_order_release); }
  /// False if some have come.
  [[nodiscard]] bool close() noexcept {
    std::uint64_t old = word_.load(std::memory_order_relaxed);
    return last(old) == nullptr && (old == 0 || word_.compare_exchange_strong(old, 0, std::memory_order_acq_rel));
  }
  /// The oldest; or null, also if the push of the next one is not over.
  [[nodiscard]] task* pop() noexcept {
    task* const t = first_.load(std::memory_order_acquire);
    if (t == nullptr) return nullptr;
    task* next = t->link.load(std::memory_order_acquire);
    if (next == nullptr) {
      first_.store(nullptr, std::memory_order_relaxed);
      std::uint64_t expected = word_.load(std::memory_order_relaxed);
      const std::uint64_t empty = expected & ~address;
      if (last(expected) == t && word_.compare_exchange_strong(expected, empty, std::memory_order_acq_rel)) return t;
      next = t->link.load(std::memory_order_acquire);
      if (next == nullptr) {
        first_.store(t, std::memory_order_relaxed);
        return nullptr;
      }
    }
    fetch_ahead(t, next, 3);
    first_.store(next, std::memory_order_relaxed);
    return t;
  }

 private:
  static constexpr int tag_shift = 48;
  static constexpr std::uint64_t address = (std::uint64_t{1} << tag_shift) - 1;
  [[nodiscard]] static std::uint64_t word(std::uint32_t actor, task* last) noexcept {
    return std::uint64_t{actor} << tag_shift | reinterpret_cast<std::uintptr_t>(last);
  }
  [[nodiscard]] static task* last(std::uint64_t word) noexcept { return reinterpret_cast<task*>(word & address); }

  alignas(64) std::atomic<std::uint64_t> word_{0};  // 0: closed
  alignas(64) std::atomic<task*> first_{nullptr};
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
