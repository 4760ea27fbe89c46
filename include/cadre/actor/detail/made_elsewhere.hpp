#ifndef CADRE_ACTOR_DETAIL_MADE_ELSEWHERE_HPP
#define CADRE_ACTOR_DETAIL_MADE_ELSEWHERE_HPP

#include <cadre/actor/detail/arriving_call.hpp>
#include <cadre/actor/detail/ask.hpp>
#include <cadre/actor/detail/sent_options.hpp>
#include <cadre/actor/detail/start_call.hpp>
#include <cadre/actor/detail/way_back.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/store/object_promise.hpp>
#include <cadre/store/stored.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Asks a rank for something, `ask(rank)`, and after its death others, as often as the options say.
template <class Ask>
auto with_retries(job& j, int to, const remote_options& o, Ask&& ask) {
  for (int left = o.max_retries;; --left) {
    try {
      return ask(to);
    } catch (const worker_died&) {
      if (left <= 0) throw;
      to = j.choose(o.on.is_soft() ? placement{} : o.on, o.resources);
    }
  }
}

/// A task whose result is to be an object of the store of the node that it runs on: `Call` is a settled bound_call of F. A
/// rank of this node has begun the object, and this one keeps the promise; one of another node gets a loan.
template <auto F, class Call>
struct object_task_request {
  using stored = stored_type_t<typename Call::result>;

  static void serve(request& r) {
    sent_options o;
    object_ref<stored> begun;
    r.in(o, begun);
    auto call = read_call<Call>(r.at.core(), r.in, function_name<F>());
    made<decltype(call)> run{&r.at, r.from, {}, std::move(call)};
    if (begun) run.begun = std::move(begun);
    task_refs sources;
    run.call.add_sources(sources, true);
    answer_when_done<object_loan>::of(
        r, start_call<F, object_loan>(r.at.core(), std::move(o).here(), std::move(run), sources));
  }

 private:
  template <class Read>
  struct made {
    job* at;
    int from;
    std::optional<object_ref<stored>> begun;
    Read call;

    template <class... Front>
    object_loan operator()(bool again, Front&&... front) {
      const auto value = call_to_end<typename Call::result>(call, again, std::forward<Front>(front)...);
      object_store& store = at->core().store();
      if (begun) {
        if (auto promise = promise_access::adopt(store, *begun)) std::move(*promise).set(value);
        return {};
      }
      const object_ref<stored> ref = store.put(value);
      return at->far().lend(from, object_ref_access::core(store), object_ref_access::index(ref));
    }
  };
};

/// Has an object made that this process has begun. Throws what the task throws.
template <auto F, class Call, class Stored>
void make_elsewhere(job& j, int to, const remote_options& o, const std::shared_ptr<const Call>& call,
                    object_promise<Stored> promise) {
  const object_ref<Stored> ref = promise.ref();
  const std::uint64_t key = object_ref_access::key(ref);
  const auto ask_of = [&](int rank) {
    if (!j.is_here(rank)) j.far().expect(key);
    const object_loan l = ask<object_task_request<F, Call>, object_loan>(
                              j, rank, {}, true, function_name<F>(), false, o.at,
                              [&](output_archive& out) {
                                out(sent_options::of(o), j.is_here(rank) ? ref : object_ref<Stored>());
                                call->save(out);
                              },
                              call)
                              .get();
    return std::pair(rank, l);
  };
  struct ends {
    job& j;
    std::uint64_t key;
    bool is_known = false;
    ~ends() {
      if (!is_known) j.far().expect_no_more(key);
    }
  } at_end{j, key};
  const auto [from, l] = with_retries(j, to, o, ask_of);
  if (l.rank < 0) {
    promise_access::leave(std::move(promise));
    j.core().results().finish(ref);
    return;
  }
  at_end.is_known = true;
  const bool wanted =
      j.far().assign(from, l, object_ref_access::core(j.core().store()), promise_access::release(std::move(promise)));
  j.core().results().finish(ref);
  if (wanted) static_cast<void>(j.want(key));
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
