#ifndef CADRE_ACTOR_RUNTIME_HPP
#define CADRE_ACTOR_RUNTIME_HPP

#include <cadre/actor/actor.hpp>
#include <cadre/actor/detail/bound_call.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/actor/fwd.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/async/blocking.hpp>
#include <cadre/async/shared_future.hpp>
#include <cadre/async/wait.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/store/object_promise.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

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

template <class Options, class... A>
inline constexpr bool begins_with = false;
template <class Options, class First, class... A>
inline constexpr bool begins_with<Options, First, A...> = std::same_as<Options, std::decay_t<First>>;

/// A constructor's argument, to be kept: text for a pointer to characters.
template <class A>
struct kept_argument {
  using type = std::decay_t<A>;
};
template <class A>
  requires std::same_as<std::decay_t<A>, const char*> || std::same_as<std::decay_t<A>, char*>
struct kept_argument<A> {
  using type = std::string;
};

}  // namespace detail

/// The job: tasks, actors and objects, wherever in it they are. This one is of one process; cadre::mpi::runtime spans ranks,
/// and is one of these. Made by cadre::run(), or by a host that owns main.
///
/// Destruction runs what has been submitted and called, then ends the actors. Thread-safety: all functions, from any thread.
class runtime {
 public:
  /// Throws thread_error (151), impossible_request (209).
  explicit runtime(runtime_options options = {}) : core_(std::move(options), *this) {}
  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;
  virtual ~runtime() = default;

  /// The threads of this process, for any callable.
  [[nodiscard]] thread_pool& pool() noexcept { return core_.pool(); }
  /// Of this process among all of the job, and how many they are.
  [[nodiscard]] int rank() const noexcept { return 0; }
  [[nodiscard]] int world_size() const noexcept { return 1; }

  // ---- Tasks

  /// Runs a function somewhere in the job: `rt.submit<&f>(arguments...)`. Arguments are converted to the types of its
  /// parameters; futures among them are waited for before it begins, and object_refs are shown to parameters that look at
  /// memory (std::span, Eigen::Map, std::string_view, const T&) where they lie. The future has what it returns, or throws.
  template <auto F, class... A>
    requires(sizeof...(A) > 2 && !detail::begins_with<remote_options, A...>)
  auto submit(A&&... arguments) {
    return submit_plainly<F>({}, std::forward<A>(arguments)...);
  }
  /// The same with options. Throws impossible_request (209) if no rank of the job has the resources, or the place is not
  /// there; bad_task_option (211).
  template <auto F, class... A>
  auto submit(remote_options options, A&&... arguments) {
    return submit_with<F>(std::move(options), std::forward<A>(arguments)...);
  }
  // With few arguments the place of the call comes along: see thread_pool::submit.
  template <auto F>
  auto submit(std::source_location at = std::source_location::current()) {
    return submit_plainly<F>(at);
  }
  template <auto F, class A>
    requires(!detail::begins_with<remote_options, A>)
  auto submit(A&& a, std::source_location at = std::source_location::current()) {
    return submit_plainly<F>(at, std::forward<A>(a));
  }
  template <auto F, class A, class B>
    requires(!detail::begins_with<remote_options, A>)
  auto submit(A&& a, B&& b, std::source_location at = std::source_location::current()) {
    return submit_plainly<F>(at, std::forward<A>(a), std::forward<B>(b));
  }

  /// The same with a ref at once: the result goes into the store of the node where it is made, and never travels unless it
  /// is asked for elsewhere. Whoever gets it waits for it, or gets the task's error. Throws as submit() and put().
  template <auto F, class... A>
  auto submit_ref(remote_options options, A&&... arguments) {
    return submit_to_store<F>(std::move(options), std::forward<A>(arguments)...);
  }
  template <auto F, class... A>
    requires(!detail::begins_with<remote_options, A...>)
  auto submit_ref(A&&... arguments) {
    return submit_to_store<F>({.at = {}}, std::forward<A>(arguments)...);
  }

  // ---- Actors

  /// Makes an object that is called by messages: `rt.actor<T>({.name = "counter"}, arguments of its constructor...)`. Its
  /// constructor runs later; if it throws, calls fail with actor_died (601), which says what. Throws actor_name_taken (603),
  /// wrong_actor_type (604), impossible_request (209).
  template <class T, class... A>
  cadre::actor<T> actor(actor_options options, A&&... arguments) {
    return make_actor<T>(std::move(options), std::forward<A>(arguments)...);
  }
  template <class T, class... A>
    requires(!detail::begins_with<actor_options, A...>)
  cadre::actor<T> actor(A&&... arguments) {
    return make_actor<T>({.at = {}}, std::forward<A>(arguments)...);
  }
  /// The actor of that name. Throws no_such_actor (602), wrong_actor_type (604).
  template <class T>
  [[nodiscard]] cadre::actor<T> find_actor(std::string_view name, std::string_view name_space = {}) {
    return checked<T>(core_.actors().find(full_name(name, name_space)), name);
  }

  // ---- Objects

  /// The store of this node: see object_store.
  [[nodiscard]] object_store& store() { return core_.store(); }
  /// Puts a value into it: see object_store::put().
  template <class T>
  object_ref<stored_type_t<T>> put(const T& value, const put_options& how = {},
                                   const std::source_location& at = std::source_location::current()) {
    return store().put(value, how, at);
  }
  /// The object, in place; waits for it. Throws what the task threw that was to make it, and as object_store::get().
  template <class T>
  [[nodiscard]] view<T> get(const object_ref<T>& ref) {
    return core_.get(ref);
  }
  /// Waits so long at most. Throws store_timeout (305) too.
  template <class T>
  [[nodiscard]] view<T> get(const object_ref<T>& ref, std::chrono::nanoseconds timeout) {
    if (const auto producer = core_.results().find(ref)) {
      const auto begun = std::chrono::steady_clock::now();
      if (producer->wait_for(timeout)) producer->get();
      timeout -= std::chrono::steady_clock::now() - begun;
    }
    return store().get(ref, timeout < timeout.zero() ? timeout.zero() : timeout);
  }
  /// Waits until `n` of the objects are there or have ended (a get of which throws), at most for `timeout`.
  template <class T>
  waited_objects wait(const std::vector<object_ref<T>>& refs, std::size_t n,
                      std::chrono::nanoseconds timeout = std::chrono::nanoseconds::max()) {
    std::vector<shared_future<void>> made_here;
    for (const object_ref<T>& ref : refs)
      if (auto producer = core_.results().find(ref); producer && !producer->ready())
        made_here.push_back(*std::move(producer));
    if (n <= refs.size() && !made_here.empty()) {
      const std::size_t others = refs.size() - made_here.size();
      static_cast<void>(cadre::wait(made_here, n > others ? n - others : 0, timeout));
      return store().wait(refs, 0);
    }
    return blocking([&] { return store().wait(refs, n, timeout); });
  }
  /// Ends an object for all: see object_store::erase().
  template <class T>
  void erase(const object_ref<T>& ref) {
    store().erase(ref);
  }

 private:
  template <auto F, class... A>
  auto submit_plainly(std::source_location at, A&&... arguments) {
    using result = typename detail::signature_of<F>::result;
    auto call = detail::bind_call<F>(core_, std::forward<A>(arguments)...);
    std::vector<detail::task_ref<detail::task>> sources;
    call.add_sources(sources);
    if constexpr (!detail::signature_of<F>::takes_stop) {
      if (sources.empty()) {
        auto run = [call = std::move(call)]() mutable -> result { return call(false); };
        auto* const t =
            new detail::named_task<result, decltype(run)>(std::move(run), detail::function_name<F>(), core_.home(), at);
        t->set_parent();
        t->publish(detail::task::queued, 2);
        detail::task_ref<detail::state<result>> task(t);
        detail::scheduler_of(pool()).push(t);
        return detail::future_access::make<result>(std::move(task));
      }
    }
    return submit_call<result, F>({.at = at}, std::move(call), std::move(sources));
  }
  template <auto F, class... A>
  auto submit_with(remote_options options, A&&... arguments) {
    core_.check(options.on);
    auto call = detail::bind_call<F>(core_, std::forward<A>(arguments)...);
    std::vector<detail::task_ref<detail::task>> sources;
    call.add_sources(sources);
    return submit_call<typename detail::signature_of<F>::result, F>(std::move(options), std::move(call),
                                                                    std::move(sources));
  }
  template <class R, auto F, class Call>
  future<R> submit_call(remote_options o, Call call, std::vector<detail::task_ref<detail::task>> sources) {
    if (o.name.empty()) o.name = detail::function_name<F>();
    if (o.retry_on == nullptr) o.max_retries = 0;  // nothing else can be lost in one process
    auto extras = std::make_unique<detail::task_extras>(task_options{.name = std::move(o.name),
                                                                     .resources = std::move(o.resources),
                                                                     .stop = std::move(o.stop),
                                                                     .max_retries = o.max_retries,
                                                                     .retry_on = o.retry_on,
                                                                     .priority = o.priority,
                                                                     .deadline = o.deadline,
                                                                     .at = o.at});
    std::vector<detail::task*> before;
    for (const auto& t : sources) before.push_back(t.get());
    const auto submit = [&](auto&& run) {
      return detail::future_access::make<R>(
          detail::submit_configured<R>(detail::scheduler_of(pool()), std::move(run), std::move(extras), 0, before));
    };
    if constexpr (detail::signature_of<F>::takes_stop) {
      extras->source.emplace();
      return submit([call = std::move(call), token = extras->source->get_token()](bool again) mutable -> R {
        return call(again, token);
      });
    } else {
      return submit([call = std::move(call)](bool again) mutable -> R { return call(again); });
    }
  }

  template <auto F, class... A>
  auto submit_to_store(remote_options options, A&&... arguments) {
    using made = typename detail::signature_of<F>::result;
    static_assert(!std::is_void_v<made>, "cadre: submit_ref() is of a function that returns something");
    using stored = stored_type_t<made>;
    core_.check(options.on);
    auto call = detail::bind_call<F>(core_, std::forward<A>(arguments)...);
    std::vector<detail::task_ref<detail::task>> sources;
    call.add_sources(sources);
    object_promise<stored> promise = store().template promise<stored>({}, options.at);
    object_ref<stored> ref = promise.ref();
    to_store<stored, decltype(call)> all{&core_, std::move(call), std::move(promise)};
    core_.results().add(ref, submit_call<void, F>(std::move(options), std::move(all), std::move(sources)));
    return ref;
  }
  // Runs a call and keeps what it gives.
  template <class Stored, class Call>
  struct to_store {
    detail::runtime_core* core;
    Call call;
    std::optional<object_promise<Stored>> promise;

    template <class... Front>
    void operator()(bool again, Front&&... front) {
      const object_ref<Stored> ref = promise->ref();
      std::move(*promise).set(call(again, std::forward<Front>(front)...));
      core->results().finish(ref);
    }
  };

  static std::string full_name(std::string_view name, std::string_view name_space) {
    return name_space.empty() ? std::string(name) : std::string(name_space).append("/").append(name);
  }
  template <class T>
  cadre::actor<T> checked(const detail::actor_table::named& found, std::string_view name) const {
    if (*found.type != typeid(T))
      throw wrong_actor_type(name, detail::type_name(*found.type), detail::type_name(typeid(T)));
    return cadre::actor<T>(found.where, core_.number());
  }
  template <class T, class... A>
  cadre::actor<T> make_actor(actor_options o, A&&... arguments) {
    static_assert(std::is_object_v<T> && !std::is_const_v<T>, "cadre: an actor is of a class");
    static_assert(
        (detail::travels<typename detail::kept_argument<A>::type> && ...),
        "cadre: an argument of this constructor cannot travel to another process: it is, or holds, a pointer, a "
        "view or a capture, or the archive cannot write and read it");
    static_assert(std::is_constructible_v<T, typename detail::kept_argument<A>::type...>,
                  "cadre: the actor's class has no constructor for these arguments");
    core_.check(o.on);
    const std::string name = o.name.empty() ? std::string() : full_name(o.name, o.name_space);
    std::string label = "'" + (name.empty() ? detail::type_name(typeid(T)) : name) + "'";
    const detail::actor_address where =
        core_.actors().add(core_.home(), label, o.max_concurrency == 0 ? 1 : o.max_concurrency, o.max_pending_calls);
    const cadre::actor<T> made(where, core_.number());
    std::tuple<typename detail::kept_argument<A>::type...> kept(std::forward<A>(arguments)...);
    if (core_.packs()) std::apply([&](auto&... a) { (detail::round_trip(core_.store(), a), ...); }, kept);
    const auto begin = [&] {
      made.template push<void>(
          core_, o.at, detail::task::no_future, detail::constructor_name<T>(),
          [&core = core_, where, kept = std::move(kept)]() mutable { construct<T>(core, where, std::move(kept)); });
    };
    if (name.empty()) {
      begin();
    } else if (const auto taken = core_.actors().enter(name, {where, &typeid(T)}, begin)) {
      made.kill();
      if (!o.get_or_create) throw actor_name_taken(name);
      return checked<T>(*taken, name);
    }
    return made;
  }
  template <class T, class Arguments>
  static void construct(detail::runtime_core& core, detail::actor_address where, Arguments arguments) {
    try {
      core.actors()[where.cell].set_object(
          std::apply([](auto&... a) { return std::make_shared<T>(std::move(a)...); }, arguments));
    } catch (const std::exception& e) {
      core.actors().end(where, std::string("its constructor threw: ") + e.what());
    } catch (...) {
      core.actors().end(where, "its constructor threw what is not a std::exception");
    }
  }

  detail::runtime_core core_;
};

namespace this_task {

/// The runtime that runs this task or actor. Throws no_runtime (607) elsewhere.
[[nodiscard]] inline cadre::runtime& runtime() {
  const detail::task* const t = detail::current_task();
  detail::runtime_core* const core = t == nullptr ? nullptr : detail::runtime_core::of_pool(t->home());
  if (core == nullptr) throw no_runtime();
  return core->face();
}

}  // namespace this_task

CADRE_NAMESPACE_END

#endif
