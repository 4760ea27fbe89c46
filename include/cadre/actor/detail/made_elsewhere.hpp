#ifndef CADRE_ACTOR_DETAIL_MADE_ELSEWHERE_HPP
#define CADRE_ACTOR_DETAIL_MADE_ELSEWHERE_HPP

#include <cadre/actor/detail/arriving_call.hpp>
#include <cadre/actor/detail/ask.hpp>
#include <cadre/actor/detail/retries.hpp>
#include <cadre/actor/detail/sent_options.hpp>
#include <cadre/actor/detail/start_call.hpp>
#include <cadre/actor/detail/way_back.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/async/coroutine.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/store/object_promise.hpp>
#include <cadre/store/stored.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <source_location>
#include <stop_token>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

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

/// A call that no other rank is left for.
template <auto F, class Call>
auto call_here(Call& call) {
  if constexpr (signature_of<F>::takes_stop)
    return call_to_end<typename Call::result>(call, true, std::stop_token());
  else
    return call_to_end<typename Call::result>(call, true);
}
/// Whom it was asked of, and what that has lent.
struct made_there {
  int rank = 0;
  object_loan loan;
};
/// Asks a rank for an object that this process has begun; this one, for nothing.
template <auto F, class Call, class Stored>
future<made_there> ask_for_object(job& j, int rank, const remote_options& o, const std::shared_ptr<Call>& call,
                                  const object_ref<Stored>& ref) {
  if (rank == j.rank()) {
    promise<made_there> nothing(j.core().pool());
    nothing.set_value(made_there{rank, {}});
    return nothing.get_future();
  }
  return ask<object_task_request<F, Call>, object_loan>(
             j, rank, {}, true, function_name<F>(), false, o.at,
             [&](output_archive& out) {
               out(sent_options::of(o), j.is_here(rank) ? ref : object_ref<Stored>());
               call->save(out);
             },
             call, j.charge_for(o.on, rank, wanted_by(o)))
      .then(
          [rank](const object_loan& l) {
            return made_there{rank, l};
          },
          o.at);
}
/// The promise of an object that may be made on another node: who wants it from now on, which may be long before it is known
/// where that is, has it brought.
template <class Stored>
class object_to_come {
 public:
  object_to_come(job& j, object_promise<Stored> promise)
      : job_(&j), promise_(std::move(promise)), key_(object_ref_access::key(promise_->ref())) {
    if (j.core().brings_objects()) j.far().expect(key_);
  }
  object_to_come(object_to_come&& other) noexcept
      : job_(std::exchange(other.job_, nullptr)), promise_(std::move(other.promise_)), key_(other.key_) {}
  object_to_come& operator=(object_to_come&&) = delete;
  ~object_to_come() {
    if (job_ != nullptr) job_->far().expect_no_more(key_);
  }
  [[nodiscard]] object_ref<Stored> ref() const { return promise_->ref(); }

  /// It is made there; here, by the call.
  template <auto F, class Call>
  void arrive(const made_there& there, Call& call) {
    job& j = *job_;
    bool wanted = false;
    if (there.rank == j.rank()) {
      std::move(*promise_).set(call_here<F>(call));
    } else if (there.loan.rank < 0) {
      promise_access::leave(std::move(*promise_));
    } else {
      job_ = nullptr;
      wanted = j.far().assign(there.rank, there.loan, object_ref_access::core(j.core().store()),
                              promise_access::release(std::move(*promise_)));
    }
    j.core().results().finish(key_);
    if (wanted) static_cast<void>(j.core().want(key_));
  }

 private:
  job* job_;
  std::optional<object_promise<Stored>> promise_;
  std::uint64_t key_;
};

/// Has an object made that this process has begun, by the rank `to` or one that is found now. The future has what the task
/// throws.
template <auto F, class Call, class Stored>
future<void> make_elsewhere(job& j, int to, const placement& asked, remote_options o, const std::shared_ptr<Call>& call,
                            object_to_come<Stored> object) {
  const std::source_location at = o.at;
  auto ask = [&j, call, ref = object.ref()](int rank, const remote_options& how) {
    return ask_for_object<F>(j, rank, how, call, ref);
  };
  return with_retries<made_there>(j, to, asked, std::move(o), std::move(ask))
      .then([call,
             object = std::move(object)](const made_there& there) mutable { object.template arrive<F>(there, *call); },
            at);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
