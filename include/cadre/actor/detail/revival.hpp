#ifndef CADRE_ACTOR_DETAIL_REVIVAL_HPP
#define CADRE_ACTOR_DETAIL_REVIVAL_HPP

#include <cadre/actor/detail/signature.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/archive/to_bytes.hpp>
#include <cadre/core/function.hpp>
#include <cadre/core/portable.hpp>
#include <cadre/store/stored.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <tuple>
#include <typeinfo>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// An object whose state can be written, and read into another object of its class.
template <class T>
concept has_state = can_be_archived<T> && (archived_by_bytes<T> || custom_portable<T> ||
                                           cereal::traits::is_input_serializable<T, input_archive>::value);

/// What an actor is made anew from: its constructor's arguments as they were, and the state that it saved last.
///
/// Thread-safety: save() and the counts, from any thread; make() alone.
class revival {
 public:
  struct limits {
    int restarts = 0;  ///< -1: any number
    int task_retries = 0;
    std::uint32_t checkpoint_every = 0;
  };
  struct saved_state {
    std::uint64_t version = 0;  ///< 0: none
    std::vector<std::byte> bytes;
  };

  explicit revival(const limits& most) noexcept : most_(most) {}
  revival(const revival&) = delete;
  revival& operator=(const revival&) = delete;
  virtual ~revival() = default;

  /// The object, with the state that was saved last. Throws what its constructor and reading it throw.
  [[nodiscard]] virtual std::shared_ptr<void> make() = 0;

  /// Throws unsaved_state (613), what writing it throws, and what .keep throws.
  void save(const void* object) {
    saved_state now{0, state_of(object)};
    {
      const std::lock_guard lock(mutex_);
      now.version = ++versions_;
    }
    if (keep) keep(now);
    const std::lock_guard lock(mutex_);
    if (now.version > state_.version) state_ = std::move(now);
  }
  /// After a call has run.
  void count_call(const void* object) {
    if (most_.checkpoint_every != 0 &&
        calls_.fetch_add(1, std::memory_order_relaxed) % most_.checkpoint_every == most_.checkpoint_every - 1)
      save(object);
  }

  /// False if it has been made anew as often as it may be.
  [[nodiscard]] bool count_restart() noexcept {
    const int before = restarts_.load(std::memory_order_relaxed);
    if (most_.restarts >= 0 && before >= most_.restarts) return false;
    restarts_.store(before + 1, std::memory_order_relaxed);
    return true;
  }
  [[nodiscard]] int restarts() const noexcept { return restarts_.load(std::memory_order_relaxed); }
  [[nodiscard]] const limits& most() const noexcept { return most_; }

  /// On another rank: so often before, and with that state.
  void go_on_from(int restarts, saved_state state) {
    restarts_.store(restarts, std::memory_order_relaxed);
    versions_ = state.version;
    state_ = std::move(state);
  }
  /// Where else a state is kept before it counts as saved; may throw. To be set before there are calls.
  move_only_function<void(const saved_state&)> keep;

 protected:
  [[nodiscard]] virtual std::vector<std::byte> state_of(const void* object) const = 0;
  [[nodiscard]] saved_state last_state() {
    const std::lock_guard lock(mutex_);
    return state_;
  }

 private:
  const limits most_;
  std::mutex mutex_;
  saved_state state_;
  std::uint64_t versions_ = 0;
  std::atomic<std::uint32_t> calls_{0};
  std::atomic<int> restarts_{0};
};

template <class T, class Kept>
class revival_of final : public revival {
 public:
  /// Throws what writing the arguments throws.
  revival_of(const limits& most, const Kept& kept)
      : revival(most), arguments_(std::apply([](const auto&... a) { return to_bytes(a...); }, kept)) {}

  [[nodiscard]] std::shared_ptr<void> make() override {
    Kept kept{};
    std::apply([&](auto&... a) { from_bytes(arguments_, a...); }, kept);
    auto object = std::apply([](auto&... a) { return std::make_shared<T>(std::move(a)...); }, kept);
    if constexpr (has_state<T>)
      if (const saved_state last = last_state(); last.version != 0) from_bytes(last.bytes, *object);
    return object;
  }

 private:
  [[nodiscard]] std::vector<std::byte> state_of([[maybe_unused]] const void* object) const override {
    if constexpr (has_state<T>)
      return to_bytes(*static_cast<const T*>(object));
    else
      throw unsaved_state(type_name(typeid(T)));
  }

  const std::vector<std::byte> arguments_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
