#ifndef CADRE_ACTOR_STREAM_HPP
#define CADRE_ACTOR_STREAM_HPP

#include <cadre/actor/runtime.hpp>
#include <cadre/async/channel.hpp>
#include <cadre/async/coroutine.hpp>
#include <cadre/async/shared_future.hpp>
#include <cadre/core/chrono.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// The channels of this process that actors write to, by number. Thread-safety: all functions, from any thread.
template <class T>
class open_streams {
 public:
  static std::uint64_t add(std::shared_ptr<channel<T>> c) {
    const std::lock_guard lock(all().mutex);
    all().channels.emplace(++all().made, std::move(c));
    return all().made;
  }
  /// Once.
  static std::shared_ptr<channel<T>> take(std::uint64_t number) {
    const std::lock_guard lock(all().mutex);
    auto found = all().channels.extract(number);
    return found ? std::move(found.mapped()) : nullptr;
  }

 private:
  struct registry {
    std::mutex mutex;
    std::map<std::uint64_t, std::shared_ptr<channel<T>>> channels;
    std::uint64_t made = 0;
  };
  static registry& all() {
    static registry only;
    return only;
  }
};

/// The actor, on the rank of the receiver, that puts into a channel what is sent to it. While the channel is full it waits.
template <class T>
class stream_end {
 public:
  explicit stream_end(std::uint64_t number) : to_(open_streams<T>::take(number)) {
    if (to_ == nullptr) throw channel_closed();
  }
  void put(T value) { to_->send(std::move(value)); }

 private:
  std::shared_ptr<channel<T>> to_;
};

}  // namespace detail

/// Where the function of a stream sends its values: its first parameter. See runtime::submit_stream().
///
/// Values go to the receiver without waiting for each: as many are on their way, or lie there, as the stream's capacity says,
/// then send() waits. Thread-safety: as an int; moved, not copied.
template <class T>
class stream_writer {
 public:
  stream_writer() = default;
  stream_writer(stream_writer&& other) noexcept = default;
  stream_writer& operator=(stream_writer&& other) noexcept {
    stream_writer old(std::move(*this));
    to_ = other.to_;
    window_ = other.window_;
    under_way_ = std::move(other.under_way_);
    return *this;
  }
  /// When all that was sent has come, or nobody takes it any more.
  ~stream_writer() {
    for (future<void>& f : under_way_) try {
        std::move(f).get();
      } catch (const std::exception&) {  // nobody wants it: whoever sends more hears of that
      }
  }

  /// Throws channel_closed (213) or actor_died (601) if nobody wants more: the stream was destroyed, or its rank has died.
  void send(T value) {
    while (under_way_.size() >= window_) {
      future<void> first = std::move(under_way_.front());
      under_way_.pop_front();
      std::move(first).get();
    }
    under_way_.push_back(to_.template call<&detail::stream_end<T>::put>(std::move(value)));
  }

  template <class Archive>
  void serialize(Archive& archive) {
    archive(to_, window_);
  }

 private:
  friend class runtime;
  stream_writer(actor<detail::stream_end<T>> to, std::uint64_t window) : to_(to), window_(window) {}

  actor<detail::stream_end<T>> to_;
  std::uint64_t window_ = 1;
  std::deque<future<void>> under_way_;
};

/// The values that a task sends, wherever in the job it runs, as they come:
///
///     for (frame& f : rt.submit_stream<&render>({.on = cadre::on_rank(1)}, scene)) show(f);
///
/// They come in order. Behind the last one the task's error is thrown, if it has failed or its rank has died. Destroying it
/// asks the task to stop. Thread-safety: as a channel, but destruction and moves.
template <class T>
class stream {
 public:
  stream(stream&&) noexcept = default;
  stream& operator=(stream&& other) noexcept {
    stream old(std::move(*this));
    all_ = std::move(other.all_);
    return *this;
  }
  ~stream() {
    if (all_ == nullptr) return;
    all_->values->close();
    detail::cancel(*all_->task);
    try {
      all_->end.kill();
    } catch (const error&) {  // with its runtime
    }
  }

  /// Waits for a value; nothing after the last one. Throws what the task threw, then.
  [[nodiscard]] std::optional<T> receive() { return all_->values->receive(); }
  /// The same; nothing also if no value came in time: ask is_over() which.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> receive_for(const std::chrono::duration<Rep, Period>& timeout) {
    return all_->values->receive_for(timeout);
  }
  [[nodiscard]] bool is_over() const { return all_->values->is_over(); }

  [[nodiscard]] auto begin() { return all_->values->begin(); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  friend class runtime;
  struct parts {
    std::shared_ptr<channel<T>> values;
    actor<detail::stream_end<T>> end;
    detail::task_ref<detail::task> task;
  };
  template <class R>
  stream(std::shared_ptr<channel<T>> values, actor<detail::stream_end<T>> end, const shared_future<R>& task) {
    all_ = std::make_unique<parts>(parts{std::move(values), end, detail::future_access::task_of(task)});
  }

  std::unique_ptr<parts> all_;
};

namespace detail {

/// Closes the channel when the task is over, with its error; all that the task sent is there by then.
template <class R, class T>
future<void> close_behind(thread_pool&, shared_future<R> task, std::shared_ptr<channel<T>> values) {
  try {
    static_cast<void>(co_await task);
    values->close();
  } catch (...) {
    values->close(std::current_exception());
  }
}

template <class List>
struct streamed;
template <class T, class... P>
struct streamed<parameter_list<stream_writer<T>, P...>> {
  using value = T;
};

}  // namespace detail

template <auto F, class... A>
auto runtime::submit_stream(remote_options options, A&&... arguments) {
  static_assert(
      detail::signature_of<F>::is_known && requires {
        typename detail::streamed<typename detail::signature_of<F>::parameters>::value;
      }, "cadre: submit_stream() is of a function whose first parameter is a cadre::stream_writer<T>, by value");
  using value = typename detail::streamed<typename detail::signature_of<F>::parameters>::value;
  const std::size_t capacity = options.stream_capacity;
  auto values = std::make_shared<channel<value>>(capacity);
  const auto end = actor<detail::stream_end<value>>({.on = on_rank(rank()), .at = options.at},
                                                    detail::open_streams<value>::add(values));
  auto task = submit<F>(std::move(options), stream_writer<value>(end, capacity), std::forward<A>(arguments)...).share();
  stream<value> made(values, end, task);
  detail::close_behind(pool(), std::move(task), std::move(values));
  return made;
}

CADRE_NAMESPACE_END

#endif
