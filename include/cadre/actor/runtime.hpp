#ifndef CADRE_ACTOR_RUNTIME_HPP
#define CADRE_ACTOR_RUNTIME_HPP

#include <cadre/actor/actor.hpp>
#include <cadre/actor/detail/bound_call.hpp>
#include <cadre/actor/detail/groups_here.hpp>
#include <cadre/actor/detail/job.hpp>
#include <cadre/actor/detail/made_elsewhere.hpp>
#include <cadre/actor/detail/remote.hpp>
#include <cadre/actor/detail/retries.hpp>
#include <cadre/actor/detail/runtime_core.hpp>
#include <cadre/actor/detail/start_call.hpp>
#include <cadre/actor/detail/to_store.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/actor/fwd.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/actor/placement_group.hpp>
#include <cadre/async/blocking.hpp>
#include <cadre/async/shared_future.hpp>
#include <cadre/async/this_task.hpp>
#include <cadre/async/wait.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/store/object_promise.hpp>

#include <algorithm>
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
#include <thread>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

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
  explicit runtime(runtime_options options = {})
      : owned_(std::make_shared<detail::runtime_core>(std::move(options), *this)), core_(*owned_) {}
  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;
  virtual ~runtime() { core_.end(); }

  /// The threads of this process, for any callable.
  [[nodiscard]] thread_pool& pool() noexcept { return core_.pool(); }
  /// Of this process among all of the job, and how many they are.
  [[nodiscard]] int rank() const noexcept {
    return core_.jobs() == nullptr ? core_.rank() : core_.jobs()->rank_of(core_.rank());
  }
  [[nodiscard]] int world_size() const noexcept { return core_.jobs() == nullptr ? 1 : core_.jobs()->world_size(); }

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

  /// Runs a function somewhere in the job whose first parameter is a stream_writer<T>, by value, and gives the receiving end of
  /// what it sends there: see stream. Throws as submit(), and bad_channel (212). Defined in <cadre/actor/stream.hpp>.
  template <auto F, class... A>
  auto submit_stream(remote_options options, A&&... arguments);
  template <auto F, class... A>
    requires(!detail::begins_with<remote_options, A...>)
  auto submit_stream(A&&... arguments) {
    return submit_stream<F>(remote_options{.at = {}}, std::forward<A>(arguments)...);
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
    const std::string full = full_name(name, name_space);
    if (core_.jobs() == nullptr) return checked<T>(core_.actors().find(full), name);
    const detail::name_answer found = core_.jobs()->ask_about_name(detail::name_question::find, full, {}, {});
    if (found.what == detail::name_answer::kind::none) throw no_such_actor(full, found.others);
    return checked<T>(found, name);
  }

  // ---- Placement groups

  /// Sets resources aside for tasks and actors that say .on = it: all bundles together, on one rank or on several as the
  /// strategy says, or none. What is not free now is waited for, in the order of the groups, and meanwhile nothing is held
  /// (tasks may pass by): see placement_group::ready(). Throws impossible_request (209) if the job can never have that.
  [[nodiscard]] cadre::placement_group placement_group(placement_group_options options) {
    const std::size_t n = options.bundles.size();
    if (core_.jobs() != nullptr) return {core_.jobs()->make_group(std::move(options)), n};
    return {detail::make_group_here(core_, std::move(options)), n};
  }
  [[nodiscard]] cadre::placement_group placement_group(std::vector<resource_set> bundles, placement_strategy strategy) {
    return placement_group(placement_group_options{std::move(bundles), strategy, {}});
  }
  /// Ends a group: what waits in it, or comes later, fails with placement_group_gone (617), tasks that run are asked to stop,
  /// its actors are killed, and its resources go back as these end. Nothing, if it was removed before. Throws
  /// empty_placement_group (618).
  void remove(const cadre::placement_group& group) {
    static_cast<void>(group.core());
    core_.groups_used().drop(group.group());
    if (core_.jobs() != nullptr) return core_.jobs()->remove_group(group.group());
    detail::groups_here(core_).remove(group.group());
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
    if (const auto producer = core_.find_producer(ref)) {
      const auto begun = std::chrono::steady_clock::now();
      if (producer->wait_for(timeout)) producer->get();
      timeout -= std::chrono::steady_clock::now() - begun;
    }
    return core_.get_from_store(ref, timeout < timeout.zero() ? timeout.zero() : timeout);
  }
  /// Waits until `n` of the objects are there or have ended (a get of which throws), at most for `timeout`.
  template <class T>
  waited_objects wait(const std::vector<object_ref<T>>& refs, std::size_t n,
                      std::chrono::nanoseconds timeout = std::chrono::nanoseconds::max()) {
    const detail::time_point end = detail::deadline_after(timeout);
    const auto left = [end] {
      const auto now = std::chrono::steady_clock::now();
      return end == detail::time_point::max() ? std::chrono::nanoseconds::max()
                                              : std::max(end - now, std::chrono::nanoseconds(0));
    };
    for (;;) {
      waited_objects found = store().wait(refs, 0);
      if (n <= found.ready.size()) return found;
      std::vector<shared_future<void>> made_here;  // of those that were not there a moment ago
      for (const std::size_t k : found.pending)
        if (auto producer = core_.find_producer(refs[k]); producer && !producer->ready())
          made_here.push_back(*std::move(producer));
      // Some are made elsewhere, which only the store hears of.
      if (n > refs.size() || made_here.size() != found.pending.size())
        return blocking([&] { return store().wait(refs, n, left()); });
      static_cast<void>(cadre::wait(made_here, n - found.ready.size(), left()));
      if (left() == left().zero()) return store().wait(refs, 0);
    }
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
    if (core_.jobs() != nullptr) return submit_somewhere<F>({.at = at}, std::move(call));
    detail::task_refs sources;
    call.add_sources(sources, true);
    return detail::start_plain_call<F, result>(core_, at, std::move(call), sources);
  }
  template <auto F, class... A>
  auto submit_with(remote_options options, A&&... arguments) {
    using result = typename detail::signature_of<F>::result;
    auto call = detail::bind_call<F>(core_, std::forward<A>(arguments)...);
    if (core_.jobs() != nullptr) return submit_somewhere<F>(std::move(options), std::move(call));
    core_.check(options.on);
    detail::task_refs sources;
    call.add_sources(sources, true);
    return detail::start_call<F, result>(core_, std::move(options), std::move(call), sources);
  }
  // In a job of several ranks.
  template <auto F, class Call>
  auto submit_somewhere(remote_options o, Call call) {
    using result = typename Call::result;
    detail::job& j = *core_.jobs();
    const placement asked = o.on;
    detail::task_refs makers;
    call.add_sources(makers, false);
    const bool placed = j.is_placed(o.on, detail::wanted_by(o), makers);
    const int to =
        placed ? j.find_place(o.on, detail::wanted_by(o), detail::node_of_objects(j, call)) : detail::places::none;
    if (placed && to == core_.rank()) {
      detail::task_refs sources;
      call.add_sources(sources, true);
      detail::charge cost = j.charge_for(o.on, to, detail::wanted_by(o));
      return detail::start_call<F, result>(core_, std::move(o), detail::charged_call(std::move(call), std::move(cost)),
                                           sources);
    }
    if (placed && makers.empty() && o.max_retries == 0 && !o.stop.stop_possible())
      return detail::send_settled(
          std::move(call),
          [&](auto all) {
            return detail::send_kept(std::move(all),
                                     [&](const auto& c, auto keep) { return send_task<F>(to, o, c, keep); });
          },
          [&](std::exception_ptr why) { return detail::failed_future<result>(j, std::move(why), o.at); });
    // A task of this rank waits for the arguments, sends, and waits for the answer.
    remote_options here{.stop = o.stop, .at = o.at};
    o.stop = {};
    auto begin = [this, &j, to, asked, o = std::move(o), call = std::move(call)]() mutable {
      const auto settled = std::make_shared<const typename Call::settled>(std::move(call).settle());
      return detail::with_retries<result>(
          j, to, asked, std::move(o),
          [this, settled](int at, const remote_options& how) { return send_task<F>(at, how, *settled, settled); });
    };
    using waits = detail::begins_elsewhere<result, decltype(begin)>;
    return detail::start_call<F, result>(core_, std::move(here), waits{std::move(begin)}, makers);
  }
  template <auto F, class Call>
  auto send_task(int to, const remote_options& o, const Call& call, std::shared_ptr<const Call> keep) {
    return detail::ask<detail::task_request<F, Call>, typename Call::result>(
        *core_.jobs(), to, {}, Call::may_hold_refs, detail::function_name<F>(), false, o.at,
        [&](output_archive& out) {
          out(detail::sent_options::of(o));
          call.save(out);
        },
        std::move(keep), core_.jobs()->charge_for(o.on, to, detail::wanted_by(o)));
  }

  template <auto F, class... A>
  auto submit_to_store(remote_options options, A&&... arguments) {
    using made = typename detail::signature_of<F>::result;
    static_assert(!std::is_void_v<made>, "cadre: submit_ref() is of a function that returns something");
    using stored = stored_type_t<made>;
    detail::job* const j = core_.jobs();
    if (j == nullptr) core_.check(options.on);
    auto call = detail::bind_call<F>(core_, std::forward<A>(arguments)...);
    const placement asked = options.on;
    detail::task_refs makers;
    call.add_sources(makers, false);
    const bool placed = j == nullptr || j->is_placed(options.on, detail::wanted_by(options), makers);
    const int to = j == nullptr ? core_.rank()
                   : placed ? j->find_place(options.on, detail::wanted_by(options), detail::node_of_objects(*j, call))
                            : detail::places::none;
    object_promise<stored> promise = store().template promise<stored>({}, options.at);
    object_ref<stored> ref = promise.ref();
    if (to == core_.rank()) {
      detail::task_refs sources;
      call.add_sources(sources, true);
      detail::to_store<stored, decltype(call)> all{&core_, std::move(call), std::move(promise)};
      core_.results().add(ref, detail::start_call<F, void>(core_, std::move(options), std::move(all), sources));
      return ref;
    }
    // A task of this rank waits for the arguments, sends, and waits until it is made.
    remote_options here{.stop = std::exchange(options.stop, {}), .at = options.at};
    auto begin = [j, to, asked, o = std::move(options), call = std::move(call),
                  object = detail::object_to_come<stored>(*j, std::move(promise))]() mutable {
      auto settled = std::make_shared<typename decltype(call)::settled>(std::move(call).settle());
      return detail::make_elsewhere<F>(*j, to, asked, std::move(o), std::move(settled), std::move(object));
    };
    using waits = detail::begins_elsewhere<void, decltype(begin)>;
    core_.results().add(ref, detail::start_call<F, void>(core_, std::move(here), waits{std::move(begin)}, makers));
    return ref;
  }
  static std::string full_name(std::string_view name, std::string_view name_space) {
    return name_space.empty() ? std::string(name) : std::string(name_space).append("/").append(name);
  }
  template <class T>
  cadre::actor<T> checked(const detail::actor_table::named& found, std::string_view name) const {
    if (*found.type != typeid(T))
      throw wrong_actor_type(name, detail::type_name(*found.type), detail::type_name(typeid(T)));
    return cadre::actor<T>({rank(), found.where}, core_.number());
  }
  template <class T>
  cadre::actor<T> checked(const detail::name_answer& found, std::string_view name) const {
    const std::string wanted = detail::type_name(typeid(T));
    if (found.type != wanted) throw wrong_actor_type(name, found.type, wanted);
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
    const std::string name = o.name.empty() ? std::string() : full_name(o.name, o.name_space);
    std::tuple<typename detail::kept_argument<A>::type...> kept(std::forward<A>(arguments)...);
    if (o.max_concurrency == 0) o.max_concurrency = 1;
    if (core_.jobs() != nullptr)
      return checked<T>(core_.jobs()->make_actor(o, name, detail::maker_of<T, decltype(kept)>(core_, std::move(kept))),
                        name);
    core_.check(o.on);
    if (core_.packs()) std::apply([&](auto&... a) { (detail::round_trip(core_, a), ...); }, kept);
    detail::resources_of_actor held(core_, o.on, o.resources, detail::constructor_name<T>(), o.at);
    const detail::actor_address where =
        core_.actors().add(typeid(T), core_.home(), detail::actor_label(typeid(T), name), o.max_concurrency,
                           o.max_pending_calls, detail::revival_for<T>(detail::limits_of(o), kept));
    held.give_to(where);
    const cadre::actor<T> made({rank(), where}, core_.number());
    const auto begin = [&] {
      if (o.max_restarts != 0)
        detail::push_maker<T>(core_, where, o.at);
      else
        detail::push_constructor<T>(core_, where, o.at, std::move(kept));
    };
    if (name.empty()) {
      begin();
    } else if (const auto taken = core_.actors().enter(name, {where, &typeid(T)}, begin)) {
      detail::kill_actor<T>(core_, where, false);
      if (!o.get_or_create) throw actor_name_taken(name);
      return checked<T>(*taken, name);
    }
    held.ask();
    return made;
  }

 protected:
  [[nodiscard]] detail::runtime_core& core() noexcept { return core_; }

 private:
  std::shared_ptr<detail::runtime_core> owned_;
  detail::runtime_core& core_;
};

namespace this_task {

/// The runtime that runs this task or actor. Throws no_runtime (607) elsewhere, and in what runs when its threads have ended.
[[nodiscard]] inline cadre::runtime& runtime() {
  const detail::task* const t = detail::current_task();
  detail::runtime_core* const core = t == nullptr ? nullptr : detail::runtime_core::of_pool(t->home());
  if (core == nullptr) throw no_runtime();
  return core->face();
}

}  // namespace this_task

CADRE_NAMESPACE_END

#endif
