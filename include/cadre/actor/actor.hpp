#ifndef CADRE_ACTOR_ACTOR_HPP
#define CADRE_ACTOR_ACTOR_HPP

#include <cadre/actor/detail/bound_call.hpp>
#include <cadre/actor/detail/remote.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/actor/fwd.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/actor/this_actor.hpp>
#include <cadre/async/future.hpp>

#include <concepts>
#include <cstdint>
#include <exception>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// An object that lives somewhere in the job and is called by messages. This is its handle: 20 bytes that may be copied,
/// sent as arguments and results, and kept in other objects. Made by runtime::actor(); the actor lives until it is stopped
/// or its runtime ends, whatever becomes of handles.
///
///     cadre::actor<counter> c = rt.actor<counter>({.name = "counter"}, 10);
///     cadre::future<int> n = c.call<&counter::increment>(3);
///     c.tell<&counter::reset>();
///
/// Calls of one caller run in the order in which they were made, one at a time unless the actor's .max_concurrency says
/// otherwise. Arguments are converted to the types of the method's parameters; futures and object_refs among them are waited
/// for in the method's place. A call that waits for one which the actor can only come to later throws wait_cycle (208),
/// which names all on the way; if other ranks are part of the circle, within a second or so, as the result of a call.
///
/// A method that returns a future<R> gives a future<R> too, not one of a future. If it is a coroutine (with
/// <cadre/async/coroutine.hpp>), `co_await` in it frees the actor: other calls run meanwhile, and it goes on in a turn of the
/// actor, so nothing that only its methods use needs a lock, but may have changed at each co_await. Other coroutines that it
/// begins do so too, but for those that name a thread_pool. Its arguments and the object live until the future is there. The
/// future is there when the coroutine is over; cancelling it cancels the coroutine.
///
/// Thread-safety: as an int; any number of threads may call through copies of one handle.
template <class T>
class actor {
 public:
  /// Refers to none.
  constexpr actor() noexcept = default;

  explicit operator bool() const noexcept { return generation_ != 0; }
  friend bool operator==(const actor&, const actor&) = default;

  /// Calls a method: `c.call<&T::m>(arguments...)`. The future has what it returns, or throws, with its type; or actor_died
  /// (601). Throws empty_actor (606), too_many_calls (605). The cost, where the actor is of this process: a node from memory
  /// that is recycled, and three locks of a mutex.
  template <auto Method, class... A>
    requires(sizeof...(A) > 2)
  auto call(A&&... arguments) const {
    return call_at<Method>({}, std::forward<A>(arguments)...);
  }
  // With few arguments the place of the call comes along: see thread_pool::submit.
  template <auto Method>
  auto call(std::source_location at = std::source_location::current()) const {
    return call_at<Method>(at);
  }
  template <auto Method, class A>
  auto call(A&& a, std::source_location at = std::source_location::current()) const {
    return call_at<Method>(at, std::forward<A>(a));
  }
  template <auto Method, class A, class B>
  auto call(A&& a, B&& b, std::source_location at = std::source_location::current()) const {
    return call_at<Method>(at, std::forward<A>(a), std::forward<B>(b));
  }

  /// The same without an answer: what the method returns is dropped, what it throws goes to the handler of errors that nobody
  /// observed of the runtime that the actor is in, or to its log.
  template <auto Method, class... A>
    requires(sizeof...(A) > 2)
  void tell(A&&... arguments) const {
    tell_at<Method>({}, std::forward<A>(arguments)...);
  }
  template <auto Method>
  void tell(std::source_location at = std::source_location::current()) const {
    tell_at<Method>(at);
  }
  template <auto Method, class A>
  void tell(A&& a, std::source_location at = std::source_location::current()) const {
    tell_at<Method>(at, std::forward<A>(a));
  }
  template <auto Method, class A, class B>
  void tell(A&& a, B&& b, std::source_location at = std::source_location::current()) const {
    tell_at<Method>(at, std::forward<A>(a), std::forward<B>(b));
  }

  /// Ends it when the calls made before have run, coroutines to their ends; those made later fail with actor_died (601).
  /// Nothing, if it has ended. Throws empty_actor (606).
  future<void> stop(std::source_location at = std::source_location::current()) const {
    detail::runtime_core& core = checked();
    const detail::actor_address here = address();
    if (rank_ != core.rank() && first().may_move())
      return detail::ask_moving<detail::stop_request<T>, void>(*core.jobs(), first(), "stop", at,
                                                               detail::plain_arguments<>{});
    if (rank_ != core.rank())
      return detail::ask<detail::stop_request<T>, void>(*core.jobs(), rank_, head(), false, "stop", true, at,
                                                        [](output_archive&) {});
    return detail::push_call<T, void>(
        core, here, at, 0, "stop", [&core, here] { core.actors().end(here, "it was stopped"); },
        detail::call_kind::stop);
  }
  /// Ends it at once: a call that runs is finished, those that wait fail with actor_died (601), and so do coroutines that are
  /// not over, which are asked to stop: at their next co_await, in which they end. False if it had ended. With
  /// .no_restart = false it is made anew if its .max_restarts allows that, as after the loss of its rank.
  bool kill(kill_options how = {}) const {
    detail::runtime_core& core = checked();
    if (rank_ == core.rank()) return detail::kill_actor<T>(core, address(), !how.no_restart);
    if (first().may_move())
      return detail::ask_moving<detail::kill_request<T>, bool>(*core.jobs(), first(), "kill", {},
                                                               detail::plain_arguments<bool>{{how.no_restart}})
          .get();
    return detail::ask<detail::kill_request<T>, bool>(*core.jobs(), rank_, head(), false, "kill", true, {},
                                                      [&](output_archive& out) { out(how.no_restart); })
        .get();
  }

 private:
  friend class runtime;
  actor(detail::actor_place where, std::uint32_t runtime) noexcept
      : cell_(where.at.cell),
        generation_(where.at.generation),
        runtime_(runtime),
        rank_(where.rank),
        task_retries_(where.task_retries) {}

  template <auto Method>
  static consteval void check() {
    using known = detail::signature_of<Method>;
    static_assert(known::is_known, "cadre: name a method: call<&T::m>(...)");
    static_assert(std::is_base_of_v<typename known::object, T>, "cadre: this is not a method of the actor's class");
    static_assert(!known::takes_stop, "cadre: a method asks this_task::stop_requested()");
  }
  [[nodiscard]] detail::actor_address address() const noexcept { return {cell_, generation_}; }
  [[nodiscard]] detail::actor_place first() const noexcept { return {rank_, address(), task_retries_}; }
  [[nodiscard]] detail::job::head head() const noexcept { return {.cell = cell_, .generation = generation_}; }

  template <auto Method, class... A>
  auto call_at(std::source_location at, A&&... arguments) const {
    check<Method>();
    using result = typename detail::signature_of<Method>::result;
    detail::runtime_core& core = checked();
    auto call = detail::bind_call<Method>(core, std::forward<A>(arguments)...);
    if (rank_ == core.rank())
      return detail::push_call<T, result>(core, address(), at, 0, detail::function_name<Method>(),
                                          here(core, std::move(call)));
    return detail::send_settled(
        std::move(call),
        [&]<class Settled>(Settled all) {
          using request = detail::call_request<T, Method, Settled>;
          if (first().may_move())
            return detail::ask_moving<request, result>(*core.jobs(), first(), detail::function_name<Method>(), at,
                                                       std::move(all));
          return detail::send_kept(std::move(all), [&](const Settled& c, auto keep) {
            return detail::ask<request, result>(*core.jobs(), rank_, head(), Settled::may_hold_refs,
                                                detail::function_name<Method>(), true, at, detail::writer_of(c),
                                                std::move(keep));
          });
        },
        [&](std::exception_ptr why) { return detail::failed_future<result>(*core.jobs(), std::move(why), at); });
  }
  template <auto Method, class... A>
  void tell_at(std::source_location at, A&&... arguments) const {
    check<Method>();
    detail::runtime_core& core = checked();
    auto call = detail::bind_call<Method>(core, std::forward<A>(arguments)...);
    if (rank_ == core.rank()) {
      if constexpr (detail::signature_of<Method>::gives_future) {
        // The error of a future that is dropped goes to the same place.
        using result = typename detail::signature_of<Method>::result;
        static_cast<void>(detail::push_call<T, result>(core, address(), at, 0, detail::function_name<Method>(),
                                                       here(core, std::move(call))));
      } else {
        auto f = [&core, call = here(core, std::move(call))]() mutable {
          try {
            static_cast<void>(call());
          } catch (...) {
            core.report(std::current_exception(), detail::function_name<Method>());
          }
        };
        detail::push_call<T, void>(core, address(), at, detail::task::no_future | detail::task::beyond_cancel,
                                   detail::function_name<Method>(), std::move(f));
      }
    } else {
      const auto failed = [&](const std::exception_ptr& why) {
        core.jobs()->tell_of(why, detail::function_name<Method>());
      };
      const auto send = [&]<class Settled>(Settled all) {
        using request = detail::call_request<T, Method, Settled>;
        try {
          if (first().may_move())
            return detail::tell_moving<request>(*core.jobs(), first(), detail::function_name<Method>(), std::move(all));
          detail::send_kept(std::move(all), [&](const Settled& c, auto keep) {
            core.jobs()->template ask<request>(rank_, head(), Settled::may_hold_refs, detail::writer_of(c),
                                               std::move(keep));
          });
        } catch (...) {
          failed(std::current_exception());
        }
      };
      detail::send_settled(std::move(call), send, failed);
    }
  }
  template <class Call>
  auto here(detail::runtime_core& core, Call call) const {
    return detail::method_call<T, Call>{core.actors()[cell_], std::move(call)};
  }
  detail::runtime_core& checked() const {
    detail::runtime_core* const core = generation_ == 0 ? nullptr : detail::runtime_core::find(runtime_);
    if (core == nullptr) [[unlikely]]
      throw empty_actor(generation_ != 0);
    // It may have come in a message, from where it was damaged.
    const bool is_somewhere =
        generation_ != detail::actor_cell::any &&
        (rank_ == core->rank() ? core->actors().has(cell_) : core->jobs() != nullptr && core->jobs()->has_rank(rank_));
    if (!is_somewhere) [[unlikely]]
      throw empty_actor(false);
    return *core;
  }

  std::uint32_t cell_ = 0;
  std::uint32_t generation_ = 0;  // 0: none
  std::uint32_t runtime_ = 0;
  std::int32_t rank_ = 0;
  std::int32_t task_retries_ = detail::actor_place::never_anew;
};

CADRE_NAMESPACE_END

#endif
