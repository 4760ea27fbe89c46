#ifndef CADRE_ASYNC_CHANNEL_HPP
#define CADRE_ASYNC_CHANNEL_HPP

#include <cadre/async/detail/stand_in.hpp>
#include <cadre/async/detail/waiting.hpp>
#include <cadre/async/error.hpp>
#include <cadre/core/chrono.hpp>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <iterator>
#include <mutex>
#include <optional>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// A bounded queue between tasks or threads, to stream results: who sends faster than the other side receives waits.
///
///     cadre::channel<frame> frames{16};
///     auto reader = pool.submit([&] { while (...) frames.send(next_frame()); frames.close(); });
///     for (frame& f : frames) show(f);
///
/// Values arrive in the order in which they were sent; of several receivers each value goes to one. A wait in a task
/// blocks its thread, and another one stands in for it meanwhile: sender and receiver may be tasks of a pool of one thread.
///
/// Owns what is in it. Thread-safety: all functions, from any number of threads, but destruction. Cost: a lock, and no
/// allocation per value once the queue has grown to its size.
template <class T>
class channel {
 public:
  /// At most `capacity` values lie in it. Throws bad_channel (212) if that is 0.
  explicit channel(std::size_t capacity) : capacity_(capacity) {
    if (capacity == 0) throw bad_channel();
  }
  channel(const channel&) = delete;
  channel& operator=(const channel&) = delete;

  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  /// How many values lie in it, at this moment.
  [[nodiscard]] std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return values_.size();
  }

  /// Waits for room. Throws channel_closed (213) if the channel is closed, also while it waits.
  void send(T value) { static_cast<void>(send_by(std::move(value), detail::time_point::max())); }
  /// The same; false if there was no room in time, and `value` is then what it was.
  template <class Rep, class Period>
  [[nodiscard]] bool send_for(T& value, const std::chrono::duration<Rep, Period>& timeout) {
    return send_by(std::move(value), detail::deadline_after(timeout));
  }
  template <class Rep, class Period>
  [[nodiscard]] bool send_for(T&& value, const std::chrono::duration<Rep, Period>& timeout) {
    return send_by(std::move(value), detail::deadline_after(timeout));
  }
  /// Does not wait; false if there is no room, and `value` is then what it was. Throws channel_closed (213).
  [[nodiscard]] bool try_send(T& value) { return send_by(std::move(value), detail::time_point::min()); }
  [[nodiscard]] bool try_send(T&& value) { return send_by(std::move(value), detail::time_point::min()); }

  /// Waits for a value; nothing if the channel is closed and all values have been received. If it was closed with an error,
  /// throws that then.
  [[nodiscard]] std::optional<T> receive() { return receive_by(detail::time_point::max()); }
  /// The same; nothing also if no value came in time: ask is_over() which.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> receive_for(const std::chrono::duration<Rep, Period>& timeout) {
    return receive_by(detail::deadline_after(timeout));
  }
  [[nodiscard]] std::optional<T> try_receive() { return receive_by(detail::time_point::min()); }

  /// No more values: receivers get what lies in it and then nothing, or `error`; senders get channel_closed (213). A second
  /// call changes nothing.
  void close(std::exception_ptr error = nullptr) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return;
      closed_ = true;
      error_ = std::move(error);
    }
    has_value_.notify_all();
    has_room_.notify_all();
  }
  /// Closed, and all values have been received.
  [[nodiscard]] bool is_over() const {
    const std::lock_guard lock(mutex_);
    return closed_ && values_.empty();
  }

  /// Receives one value after the other until the channel is over. One pass.
  class iterator {
   public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    explicit iterator(channel& c) : channel_(&c), value_(c.receive()) {}
    T& operator*() noexcept { return *value_; }
    iterator& operator++() {
      value_ = channel_->receive();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& i, std::default_sentinel_t) noexcept { return !i.value_; }

   private:
    channel* channel_;
    std::optional<T> value_;
  };
  [[nodiscard]] iterator begin() { return iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  bool send_by(T&& value, detail::time_point deadline) {
    {
      std::unique_lock lock(mutex_);
      if (!wait(lock, has_room_, deadline, [this] { return closed_ || values_.size() < capacity_; })) return false;
      if (closed_) throw channel_closed();
      values_.push_back(std::move(value));
    }
    has_value_.notify_one();
    return true;
  }

  std::optional<T> receive_by(detail::time_point deadline) {
    std::optional<T> value;
    {
      std::unique_lock lock(mutex_);
      if (!wait(lock, has_value_, deadline, [this] { return closed_ || !values_.empty(); })) return value;
      if (values_.empty()) {
        if (error_) std::rethrow_exception(error_);
        return value;
      }
      value.emplace(std::move(values_.front()));
      values_.pop_front();
    }
    has_room_.notify_one();
    return value;
  }

  // False if the deadline has passed; time_point::min() does not wait at all.
  template <class Condition>
  static bool wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, detail::time_point deadline,
                   Condition condition) {
    if (condition()) return true;
    if (deadline == detail::time_point::min()) return false;
    lock.unlock();
    const detail::stand_in other;
    lock.lock();
    if (deadline != detail::time_point::max()) return changed.wait_until(lock, deadline, condition);
    changed.wait(lock, condition);
    return true;
  }

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable has_value_, has_room_;
  std::deque<T> values_;
  bool closed_ = false;
  std::exception_ptr error_;
};

CADRE_NAMESPACE_END

#endif
