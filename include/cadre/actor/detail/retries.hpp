#ifndef CADRE_ACTOR_DETAIL_RETRIES_HPP
#define CADRE_ACTOR_DETAIL_RETRIES_HPP

#include <cadre/actor/detail/job.hpp>
#include <cadre/actor/detail/where.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/actor/placement.hpp>
#include <cadre/async/coroutine.hpp>
#include <cadre/async/future.hpp>
#include <cadre/core/function.hpp>
#include <cadre/store/detail/far_entries.hpp>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

inline const resource_set& wanted_by(const remote_options& o) noexcept {
  return o.resources.empty() ? one_cpu() : o.resources;
}

/// The node that has most of the objects which a call is to be shown; places::none if there are none, or there is one node.
template <class Call>
int node_of_objects(job& j, const Call& call) {
  if (!j.core().brings_objects()) return places::none;
  std::vector<std::pair<int, std::uint64_t>> bytes;  // by node
  call.each_object([&](const auto& ref) {
    if (!ref) return;
    store_core& store = *object_ref_access::core(ref);
    const std::uint64_t key = object_ref_access::key(ref);
    const auto far = j.far().find(key);
    const int node = j.ranks()->node_of(j.rank_of(far ? far->rank : j.rank()));
    const std::uint64_t n = far ? far->bytes : std::uint64_t{store.entry(far_entries::index(key)).bytes};
    auto at = std::find_if(bytes.begin(), bytes.end(), [&](const auto& b) { return b.first == node; });
    if (at == bytes.end()) at = bytes.insert(at, {node, 0});
    at->second += std::max(n, std::uint64_t{1});  // of one that is not known
  });
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? places::none : most->first;
}

/// A bound call that is spoken for until it has run.
template <class Call>
class charged_call {
 public:
  using result = typename Call::result;
  static constexpr bool gives_future = Call::gives_future;
  using given = typename Call::given;

  charged_call(Call call, charge cost) : call_(std::move(call)), cost_(std::move(cost)) {}
  template <class... Front>
  given operator()(bool again, Front&&... front) {
    return call_(again, std::forward<Front>(front)...);
  }
  void pack(auto& r) { call_.pack(r); }

 private:
  Call call_;
  charge cost_;
};

/// Asks the rank `to`, or one that is found now, by `ask(rank, options)`; when it dies another one, as often as the options
/// say. `asked`: where, as the options said first. Holds no thread: of one that helped meanwhile this wait could be buried
/// under what waits for it. No template of a function that may be a lambda: g++ 12 makes no coroutine of one.
template <class R>
future<R> with_retries(job& j, int to, placement asked, remote_options o,
                       move_only_function<future<R>(int, const remote_options&)> ask) {
  for (int left = o.max_retries;; --left) {
    try {
      if (to == places::none) {
        while (auto comes = j.place_to_come(o.on, wanted_by(o))) static_cast<void>(co_await *comes);
        to = j.find_place(o.on, wanted_by(o), places::none);
      }
      if constexpr (std::is_void_v<R>) {
        co_await ask(to, o);
        co_return;
      } else {
        co_return co_await ask(to, o);
      }
    } catch (const worker_died&) {
      if (left <= 0) throw;
      o.on = asked.is_soft() ? placement{} : asked;
      to = places::none;
    }
  }
}

/// What a task of this rank does for one that is to run elsewhere: `begin()` gives the future of that.
template <class R, class Begin>
struct begins_elsewhere {
  using result = R;
  static constexpr bool gives_future = true;
  using given = future<R>;

  Begin begin;
  template <class... Front>
  given operator()(bool, Front&&...) {
    return begin();
  }
  void pack(auto&) noexcept {}
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
