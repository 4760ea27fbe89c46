#ifndef CADRE_ACTOR_DETAIL_START_CALL_HPP
#define CADRE_ACTOR_DETAIL_START_CALL_HPP

#include <cadre/actor/detail/actor_cell.hpp>
#include <cadre/actor/detail/admission.hpp>
#include <cadre/actor/detail/bound_call.hpp>
#include <cadre/actor/detail/call_task.hpp>
#include <cadre/actor/detail/long_task.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/detail/where.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/async/detail/configured_task.hpp>
#include <cadre/async/future.hpp>
#include <cadre/core/chrono.hpp>

#include <exception>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

using task_refs = std::vector<task_ref<task>>;

/// A task of a function with a name, without options.
template <class R, class F>
class named_task final : public function_task<R, F> {
 public:
  named_task(F&& f, std::string_view name, pool_id home, std::source_location at)
      : function_task<R, F>(std::move(f), home, 0, at), name_(name) {}
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }

 private:
  std::string_view name_;
};

/// A bound call of a function that gives a future.
template <class Call>
concept gives_future_when_called = requires { requires Call::gives_future; };

/// Waits for that in the task, as far as need be.
template <class R, class Call, class... Front>
R call_to_end(Call& call, bool again, Front&&... front) {
  if constexpr (!gives_future_when_called<Call>) {
    return call(again, std::forward<Front>(front)...);
  } else if constexpr (std::is_void_v<R>) {
    call(again, std::forward<Front>(front)...).get();
  } else {
    R r = call(again, std::forward<Front>(front)...).get();
    call.pack(r);
    return r;
  }
}

/// Runs a bound call, or what wraps one, on this process's pool, when the tasks before it are done. One that gives a future
/// holds no thread while it waits, unless its options say what only a task has that is under way.
template <auto F, class R, class Call>
future<R> start_call(runtime_core& core, remote_options o, Call call, const task_refs& sources) {
  if (o.name.empty()) o.name = function_name<F>();
  if (o.retry_on == nullptr) o.max_retries = 0;  // a worker that is lost is the caller's matter
  std::shared_ptr<resource_ledger<>> bundle;
  if (o.on.is_in_group()) {
    if (o.resources.empty()) o.resources = one_cpu();
    bundle = core.bundles().find(o.on, o.resources);
  }
  auto extras = std::make_unique<task_extras>(task_options{.name = std::move(o.name),
                                                           .resources = std::move(o.resources),
                                                           .stop = std::move(o.stop),
                                                           .max_retries = o.max_retries,
                                                           .retry_on = o.retry_on,
                                                           .priority = o.priority,
                                                           .deadline = o.deadline,
                                                           .at = o.at});
  extras->ledger = std::move(bundle);
  std::vector<task*> before;
  for (const auto& t : sources) before.push_back(t.get());
  // What comes before may come when the runtime has ended.
  std::shared_ptr<runtime_core> keep = before.empty() ? nullptr : core.shared_from_this();
  const auto submit = [&](auto&& run) {
    return future_access::make<R>(
        submit_configured<R>(scheduler_of(core.pool()), std::move(run), std::move(extras), 0, before));
  };
  if constexpr (gives_future_when_called<Call> && !signature_of<F>::takes_stop) {
    const task_options& how = extras->options;
    if (how.resources.is_ordinary() && how.max_retries == 0 && !how.stop.stop_possible() &&
        how.deadline == time_point::max()) {
      using whole = long_task<R, Call>;
      auto* const t = new whole(std::move(call), core.shared_from_this(), function_name<F>(), core.home(), how.at);
      auto result = future_access::make<R>(task_ref<state<R>>(t));
      auto begin = typename whole::starter(task_ref<whole>(t));
      task_ref<state<void>> begins =
          submit_configured<void>(scheduler_of(core.pool()), std::move(begin), std::move(extras), 0, before);
      t->is_begun_by(task_ref<task>(begins.give()));
      return result;
    }
  }
  if constexpr (signature_of<F>::takes_stop) {
    extras->source.emplace();
    return submit([keep = std::move(keep), call = std::move(call), token = extras->source->get_token()](
                      bool again) mutable -> R { return call_to_end<R>(call, again, token); });
  } else {
    return submit([keep = std::move(keep), call = std::move(call)](bool again) mutable -> R {
      return call_to_end<R>(call, again);
    });
  }
}
/// The same without options, for which a smaller task will do if nothing comes before it.
template <auto F, class R, class Call>
future<R> start_plain_call(runtime_core& core, std::source_location at, Call call, const task_refs& sources) {
  if constexpr (!signature_of<F>::takes_stop && !gives_future_when_called<Call>) {
    if (sources.empty()) {
      auto run = [call = std::move(call)]() mutable -> R { return call(false); };
      auto* const t = new named_task<R, decltype(run)>(std::move(run), function_name<F>(), core.home(), at);
      t->set_parent();
      t->publish(task::queued, 2);
      task_ref<state<R>> made(t);
      scheduler_of(core.pool()).push(t);
      return future_access::make<R>(std::move(made));
    }
  }
  return start_call<F, R>(core, {.at = at}, std::move(call), sources);
}

/// Puts a call into the mailbox of an actor of this process. What cannot be put there fails: see actor::call(). An F with a
/// refuse(error) gets all errors, in place of the caller. `before(task&)` is called when there is a task that could be
/// cancelled, and has not begun.
template <class T, class R, class F, class Before = decltype([](task&) {})>
future<R> push_call(runtime_core& core, actor_address to, std::source_location at, std::uint8_t flags,
                    std::string_view name, F&& f, call_kind kind = call_kind::of_user, const Before& before = {}) {
  using function = std::decay_t<F>;
  using node = std::conditional_t<std::is_same_v<std::invoke_result_t<function&>, future<R>>,
                                  long_call_task<R, function>, call_task<R, function>>;
  actor_cell& cell = core.actors()[to.cell];
  auto* const t = new node(std::forward<F>(f), cell, kind, name, core.home(), flags, at);
  if (kind != call_kind::constructor) t->set_parent();
  const bool has_future = (flags & task::no_future) == 0;
  t->publish(node::begins_as, has_future ? 2 : 1);
  task_ref<state<R>> result(has_future ? t : nullptr);
  try {
    before(*t);
    if (!cell.push(to.generation, *t, kind == call_kind::of_user)) {
      kind == call_kind::stop ? t->run_anyway()
                              : t->fail(std::make_exception_ptr(actor_died(type_name(typeid(T)), "it has ended")));
      t->release();
    }
  } catch (...) {
    if constexpr (can_refuse<function>)
      t->fail(std::current_exception());
    else
      t->cancel_alone();
    t->release();
    if constexpr (!can_refuse<function>) throw;
  }
  return future_access::make<R>(std::move(result));
}

/// What an actor is to hold as long as it lives. Its cell has it before calls are pushed, and it is asked for when the
/// constructor is in the mailbox.
class resources_of_actor {
 public:
  /// Throws impossible_request (209), placement_group_gone (617).
  resources_of_actor(runtime_core& core, const placement& on, const resource_set& wanted, std::string_view name,
                     std::source_location at)
      : core_(core) {
    if (!wanted.empty() || on.is_in_group())
      held_ = admission::of(core.home(), on.is_in_group() ? core.bundles().find(on, wanted) : core.ledger(), wanted,
                            name, at);
  }
  /// `ends()` is called when the actor ends, before anybody hears of that.
  void give_to(actor_address actor, move_only_function<void()> ends = {}) {
    if (held_ == nullptr) return;
    held_->retain();
    asked_ = task_ref<admission>(held_.get());
    held_->tell(
        [&core = core_, actor](const std::exception_ptr& why) {
          if (why == nullptr) return core.actors()[actor.cell].admit(actor.generation);
          try {
            std::rethrow_exception(why);
          } catch (const std::exception& e) {
            core.actors().end(actor, e.what());
          }
        },
        std::move(ends));
    core_.actors()[actor.cell].hold(std::move(held_));
  }
  void ask() noexcept {
    if (asked_) asked_->ask();
  }

 private:
  runtime_core& core_;
  admission::held held_;
  task_ref<admission> asked_;
};

/// Gives the actor the object that `make()` makes, by a call.
template <class Make>
void construct(runtime_core& core, actor_address where, Make&& make) {
  actor_cell& cell = core.actors()[where.cell];
  if (cell.has_ended()) return;
  try {
    cell.set_object(make());
  } catch (const std::exception& e) {
    core.actors().end(where, std::string("its constructor threw: ") + e.what());
  } catch (...) {
    core.actors().end(where, "its constructor threw what is not a std::exception");
  }
}
template <class T, class Arguments>
void push_constructor(runtime_core& core, actor_address where, std::source_location at, Arguments arguments) {
  push_call<T, void>(
      core, where, at, task::no_future, constructor_name<T>(),
      [&core, where, arguments = std::move(arguments)]() mutable {
        construct(core, where, [&] {
          return std::apply([](auto&... a) { return std::make_shared<T>(std::move(a)...); }, arguments);
        });
      },
      call_kind::constructor);
}
/// By its first call too: as it was on another rank, or the first time.
template <class T>
void push_maker(runtime_core& core, actor_address where, std::source_location at) {
  push_call<T, void>(
      core, where, at, task::no_future, constructor_name<T>(),
      [&core, where] { construct(core, where, [&] { return core.actors()[where.cell].anew()->make(); }); },
      call_kind::constructor);
}

/// Null for an actor that is never made anew. Throws impossible_request (209).
template <class T, class Kept>
std::unique_ptr<revival> revival_for(const revival::limits& most, const Kept& kept) {
  if (most.restarts == 0) return nullptr;
  if (most.checkpoint_every != 0 && !has_state<T>)
    throw impossible_request(".checkpoint_every for an actor of " + type_name(typeid(T)) +
                             ", which has no serialize()");
  return std::make_unique<revival_of<T, Kept>>(most, kept);
}

/// Ends an actor of this process; or makes it anew, if it may be. False if it had ended already.
template <class T>
bool kill_actor(runtime_core& core, actor_address where, bool restart) {
  actor_cell& cell = core.actors()[where.cell];
  if (!restart) return core.actors().end(where, "it was killed");
  const auto make = [&core, where, &cell] { construct(core, where, [&] { return cell.anew()->make(); }); };
  auto* const t = new call_task<void, decltype(make)>(decltype(make)(make), cell, call_kind::constructor,
                                                      constructor_name<T>(), core.home(), task::no_future, {});
  t->publish(task::queued, 1);
  if (cell.restart(where.generation, *t, "it was killed")) return true;
  t->cancel_alone();
  t->release();
  return core.actors().end(where, "it was killed; it may not be made anew, or not again: see .max_restarts");
}

/// A call, where the actor is.
template <class T, class Call>
typename Call::given run_method(actor_cell& cell, Call& call) {
  T& object = *static_cast<T*>(cell.object(typeid(T)));
  if constexpr (Call::gives_future) {
    return call(cell.may_repeat(), object);
  } else if constexpr (std::is_void_v<typename Call::result>) {
    call(false, object);
    cell.count_call();
  } else {
    typename Call::result r = call(false, object);
    cell.count_call();
    return r;
  }
}
/// What a call_task or a long_call_task runs.
template <class T, class Call>
struct method_call {
  actor_cell& cell;
  Call call;

  typename Call::given operator()() { return run_method<T>(cell, call); }
  void pack(auto& result) { call.pack(result); }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
