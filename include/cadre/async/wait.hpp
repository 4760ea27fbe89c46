#ifndef CADRE_ASYNC_WAIT_HPP
#define CADRE_ASYNC_WAIT_HPP

#include <cadre/async/detail/waiting.hpp>
#include <cadre/async/error.hpp>
#include <cadre/async/future.hpp>
#include <cadre/core/chrono.hpp>

#include <cstddef>
#include <iterator>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Positions in the futures that wait() was given, each in rising order.
struct wait_result {
  std::vector<std::size_t> ready;
  std::vector<std::size_t> pending;
};

namespace detail {

template <class Range>
concept range_of_futures = requires(const Range& r) {
  std::size(r);
  static_cast<task*>(future_access::get(*std::begin(r)));
};

template <range_of_futures Range>
wait_result wait_some(const Range& futures, std::size_t wanted, time_point deadline) {
  const std::size_t n = std::size(futures);
  if (wanted > n) throw impossible_wait(wanted, n);
  std::vector<watch> watches(n);
  std::size_t next = 0;
  for (const auto& f : futures) {
    task* const target = future_access::get(f);
    if (target == nullptr) throw empty_future("wait()");
    watches[next++].target = target;
  }
  static_cast<void>(wait_frame(watches, wanted).run(deadline));
  wait_result result;
  for (std::size_t i = 0; i < n; ++i) (watches[i].target->done() ? result.ready : result.pending).push_back(i);
  return result;
}

}  // namespace detail

/// Waits until at least `wanted` of the futures, or shared futures, of a range with a size are ready; none is consumed. All
/// that are ready at the end are named, which may be more. Throws impossible_wait (205) if there are fewer futures,
/// empty_future (201) if one is empty.
template <detail::range_of_futures Range>
[[nodiscard]] wait_result wait(const Range& futures, std::size_t wanted) {
  return detail::wait_some(futures, wanted, detail::time_point::max());
}

/// The same, giving up after `timeout`: `ready` is then shorter than `wanted`.
template <detail::range_of_futures Range, class Rep, class Period>
[[nodiscard]] wait_result wait(const Range& futures, std::size_t wanted,
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
