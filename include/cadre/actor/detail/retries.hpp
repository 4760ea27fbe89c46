#ifndef CADRE_ACTOR_DETAIL_RETRIES_HPP
#define CADRE_ACTOR_DETAIL_RETRIES_HPP

#include <cadre/actor/detail/group_requests.hpp>
#include <cadre/actor/detail/job.hpp>
#include <cadre/actor/detail/where.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/actor/placement.hpp>

#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

inline const resource_set& wanted_by(const remote_options& o) noexcept {
  return o.resources.empty() ? one_cpu() : o.resources;
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

/// Asks the rank `to`, or one that is found now, by `ask(rank)`; when it dies another one, as often as the options say.
/// `asked`: where, as the options said first.
template <class Ask>
auto with_retries(job& j, int to, const placement& asked, remote_options& o, Ask&& ask) {
  for (int left = o.max_retries;; --left) {
    try {
      if (to == places::none) to = find_place(j, o.on, wanted_by(o));
      return ask(to);
    } catch (const worker_died&) {
      if (left <= 0) throw;
      o.on = asked.is_soft() ? placement{} : asked;
      to = places::none;
    }
  }
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
