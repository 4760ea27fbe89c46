#ifndef CADRE_ACTOR_DETAIL_REMOTE_HPP
#define CADRE_ACTOR_DETAIL_REMOTE_HPP

#include <cadre/actor/detail/arriving_call.hpp>
#include <cadre/actor/detail/ask.hpp>
#include <cadre/actor/detail/job.hpp>
#include <cadre/actor/detail/revival.hpp>
#include <cadre/actor/detail/sent_actor.hpp>
#include <cadre/actor/detail/sent_options.hpp>
#include <cadre/actor/detail/start_call.hpp>
#include <cadre/actor/detail/way_back.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <tuple>
#include <typeinfo>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

// What a rank can be asked for.

/// A task: `Call` is a settled bound_call of F.
template <auto F, class Call>
struct task_request {
  static void serve(request& r) {
    sent_options o;
    r.in(o);
    auto call = read_call<Call>(r.at.core(), r.in, function_name<F>());
    task_refs sources;
    call.add_sources(sources, true);
    answer_when_done<typename Call::result>::of(
        r, start_call<F, typename Call::result>(r.at.core(), std::move(o).here(), std::move(call), sources));
  }
};

/// The cell of an actor that a request says is a T. Throws actor_died (601), wrong_actor_type (604).
template <class T>
actor_cell& cell_of(const request& r) {
  actor_cell* const cell = r.generation != actor_cell::any ? r.at.core().actors().find(r.cell) : nullptr;
  if (cell == nullptr) throw actor_died(type_name(typeid(T)), "it has ended");
  cell->check_type(r.generation, typeid(T));
  return *cell;
}

/// A call of an actor's method.
template <class T, auto Method, class Call>
struct call_request {
  static void serve(request& r) {
    runtime_core& core = r.at.core();
    auto call = read_call<Call>(core, r.in, function_name<Method>());
    actor_cell& cell = cell_of<T>(r);
    if constexpr (Call::gives_future) {
      using result = typename Call::result;
      answer_when_done<result>::of(r,
                                   push_call<T, result>(core, {r.cell, r.generation}, {}, 0, function_name<Method>(),
                                                        method_call<T, decltype(call)>{cell, std::move(call)}),
                                   function_name<Method>());
    } else {
      served<decltype(call)> run{std::move(call), way_back(r, function_name<Method>()), &cell};
      push_call<T, void>(core, {r.cell, r.generation}, {}, task::no_future | task::beyond_cancel,
                         function_name<Method>(), std::move(run), call_kind::of_user,
                         [&](task& t) { r.at.served().add(r.from, r.number, t); });
    }
  }

  // What may be read later: it brings nothing that has to be taken in when it comes.
  static constexpr bool can_be_letter = !Call::gives_future && !Call::may_hold_refs;
  static std::string_view called() { return function_name<Method>(); }
  static void open(const letter& l, const std::exception_ptr& refused) noexcept
    requires can_be_letter
  {
    job& at = static_cast<job&>(*l.at);
    const auto read_now = [&] {
      if (refused) std::rethrow_exception(refused);
      if (l.cell == nullptr) throw actor_died(type_name(typeid(T)), "it has ended");
      return read(at.core(), l.arguments);
    };
    if (l.number == 0) {
      try {
        Call call = read_now();
        static_cast<void>(run_method<T>(*l.cell, call));
      } catch (...) {
        at.tell_of(std::current_exception(), called());
      }
    } else {
      way_back back(at, l);
      try {
        Call call = read_now();
        using run = served<Call>;
        auto* const t = new call_task<void, run>({std::move(call), std::move(back), l.cell}, *l.cell,
                                                 call_kind::of_user, called(), at.core().home(), task::no_future, {});
        t->publish(task::queued, 1);
        l.among->run(*t, l);
      } catch (...) {
        back.fail(std::current_exception());
      }
    }
  }

 private:
  static Call read(runtime_core& core, std::span<const std::byte> bytes) {
    if constexpr (Call::is_flat)
      if (bytes.size() == Call::bytes) return Call::read_flat(core, bytes.data());
    input_archive in(bytes);
    return Call::read(core, in);
  }
  template <class Read>
  struct served {
    Read call;
    way_back back;
    actor_cell* cell;
    void operator()() {
      back.with([&]() -> typename Call::result { return run_method<T>(*cell, call); });
    }
    void refuse(const std::exception_ptr& why) noexcept {
      back.with([&] { std::rethrow_exception(why); });
    }
  };
};

/// Makes an actor of a job of several ranks, where rank 0 knows it, on this one.
template <class T, class Kept>
actor_address make_here(runtime_core& core, sent_actor o, std::source_location at, Kept kept, int placed_by) {
  resources_of_actor held(core, o.on, o.resources, constructor_name<T>(), at);
  std::unique_ptr<revival> anew = revival_for<T>(o.most, kept);
  revival* const r = anew.get();
  if (o.restarts != 0) r->go_on_from(o.restarts, std::move(o.state));
  const actor_address where =
      core.actors().add(typeid(T), core.home(), o.label, o.most_at_once, o.most_pending, std::move(anew));
  held.give_to(
      where, [&core, placed_by, on = o.on, what = o.resources] { core.jobs()->tell_given_back(placed_by, on, what); });
  const actor_place first =
      o.restarts != 0 ? o.first
                      : actor_place{core.rank(), where, r != nullptr ? o.most.task_retries : actor_place::never_anew};
  if (!o.name.empty() || r != nullptr) core.actors().set_known(where, o.name, first);
  if (r == nullptr) {
    push_constructor<T>(core, where, at, std::move(kept));
  } else {
    if (core.rank() != 0)
      r->keep = [&core, first](const revival::saved_state& s) { core.jobs()->keep_state(first, s); };
    push_maker<T>(core, where, at);
  }
  held.ask();
  return where;
}
/// An actor is to be made.
template <class T, class Kept>
struct make_request {
  static void serve(request& r) {
    sent_actor o;
    Kept kept{};
    r.in(o);
    check(o, r.in.offset());
    if (o.restarts != 0)
      std::apply([&](auto&... a) { from_bytes(o.arguments, a...); }, kept);
    else
      std::apply([&](auto&... a) { r.in(a...); }, kept);
    r.in.expect_end();
    const actor_address where = make_here<T>(r.at.core(), std::move(o), {}, std::move(kept), r.from);
    way_back(r).with([&] { return where; });
  }

 private:
  // Nothing that no rank sends is made.
  static void check(const sent_actor& o, std::size_t at) {
    const int most = o.most.restarts < 0 ? std::numeric_limits<int>::max() - 1 : o.most.restarts;
    if (o.restarts < 0 || o.restarts > most)
      throw archive_corrupt("an actor that was made anew " + std::to_string(o.restarts) + " times", at);
    if (o.most_at_once == 0) throw archive_corrupt("an actor that can run no call", at);
  }
};
/// Of a class T with those arguments.
template <class T, class Kept>
class maker_of final : public makes_actor {
 public:
  maker_of(runtime_core& core, Kept kept) : core_(core), kept_(std::move(kept)) {}

 private:
  [[nodiscard]] const std::type_info& type() const noexcept override { return typeid(T); }
  [[nodiscard]] std::string_view constructor_name() const noexcept override { return detail::constructor_name<T>(); }
  [[nodiscard]] std::uint32_t handler() const noexcept override { return handler_of<make_request<T, Kept>>::id(); }
  void write(output_archive& to) const override {
    std::apply([&](const auto&... a) { to(a...); }, kept_);
  }
  [[nodiscard]] std::vector<std::byte> bytes() const override {
    return std::apply([](const auto&... a) { return to_bytes(a...); }, kept_);
  }
  [[nodiscard]] actor_address make_here(const sent_actor& how, std::source_location at) const override {
    return detail::make_here<T>(core_, how, at, kept_, core_.rank());
  }

  runtime_core& core_;
  Kept kept_;
};
template <class T>
struct kill_request {
  static void serve(request& r) {
    bool no_restart = true;
    read_all(r, no_restart);
    runtime_core& core = r.at.core();
    static_cast<void>(cell_of<T>(r));
    way_back(r).with([&] { return kill_actor<T>(core, {r.cell, r.generation}, !no_restart); });
  }
};
template <class T>
struct stop_request {
  static void serve(request& r) {
    runtime_core& core = r.at.core();
    const actor_address where{r.cell, r.generation};
    r.in.expect_end();
    static_cast<void>(cell_of<T>(r));
    push_call<T, void>(
        core, where, {}, task::no_future, "stop",
        [&core, where, back = way_back(r)]() mutable {
          back.with([&] { core.actors().end(where, "it was stopped"); });
        },
        call_kind::stop);
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
