#ifndef CADRE_ASYNC_WAIT_HPP
#define CADRE_ASYNC_WAIT_HPP

#include <cadre/async/detail/waiting.hpp>
#include <cadre/async/error.hpp>
#include <cadre/async/future.hpp>

#include <chrono>
#include <cstddef>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Positions in the futures that wait() was given, each in rising order.
struct wait_result {
  std::vector<std::size_t> ready;
  std::vector<std::size_t> pending;
};

namespace detail {

template <class T>
wait_result wait_some(const std::vector<future<T>>& futures, std::size_t wanted, time_point deadline) {
  if (wanted > futures.size()) throw impossible_wait(wanted, futures.size());
  std::vector<watch> watches(futures.size());
  for (std::size_t i = 0; i < futures.size(); ++i) {
    watches[i].target = future_access::get(futures[i]);
    if (watches[i].target == nullptr) throw empty_future("wait()");
  }
  static_cast<void>(wait_frame(watches, wanted).run(deadline));
  wait_result result;
  for (std::size_t i = 0; i < futures.size(); ++i)
    (watches[i].target->done() ? result.ready : result.pending).push_back(i);
  return result;
}

}  // namespace detail

/// Waits until at least `wanted` of the futures are ready; none is consumed. All that are ready at the end are named, which
/// may be more. Throws impossible_wait (205) if there are fewer futures, empty_future (201) if one is empty.
template <class T>
[[nodiscard]] wait_result wait(const std::vector<future<T>>& futures, std::size_t wanted) {
  return detail::wait_some(futures, wanted, detail::time_point::max());
}

/// The same, giving up after `timeout`: `ready` is then shorter than `wanted`.
template <class T, class Rep, class Period>
[[nodiscard]] wait_result wait(const std::vector<future<T>>& futures, std::size_t wanted,
                               const std::chrono::duration<Rep, Period>& timeout) {
  return detail::wait_some(futures, wanted, detail::deadline_after(timeout));
}

/// The values of all futures, in their order, once all are done: none of the tasks still runs when this returns or throws.
/// Throws the error of the first that failed; the futures behind that one keep their values. Throws empty_future (201),
/// before waiting, if one is empty.
template <class T>
  requires(!std::is_reference_v<T>)
auto get(std::vector<future<T>>& futures) {
  for (const future<T>& f : futures)
    if (!f.valid()) throw empty_future("get()");
  for (const future<T>& f : futures) f.wait();
  if constexpr (std::is_void_v<T>) {
    for (future<T>& f : futures) f.get();
  } else {
    std::vector<T> values;
    values.reserve(futures.size());
    for (future<T>& f : futures) values.push_back(f.get());
    return values;
  }
}
template <class T>
  requires(!std::is_reference_v<T>)
auto get(std::vector<future<T>>&& futures) {
  return get(futures);
}

CADRE_NAMESPACE_END

#endif
