#ifndef CADRE_ACTOR_DETAIL_REMOTE_HPP
#define CADRE_ACTOR_DETAIL_REMOTE_HPP

#include <cadre/actor/detail/job.hpp>
#include <cadre/actor/detail/start_call.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/core/function.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

template <>
struct portable<resource_set> {
  static void save(auto& archive, const resource_set& all) {
    archive(all.entries().size());
    for (const resource_set::entry& e : all.entries()) archive(e.name, e.units);
  }
  static void load(auto& archive, resource_set& all) {
    all = {};
    for (std::size_t left = archive.read_count(); left != 0; --left) {
      resource_set::entry e{};
      archive(e.name, e.units);
      all.set(e.name, e.units);
    }
  }
};

template <>
struct portable<placement> {
  static void save(auto& archive, const placement& p) { archive(p.what(), p.rank(), p.node(), p.is_soft()); }
  static void load(auto& archive, placement& p) {
    placement::kind what{};
    int rank = 0;
    std::string node;
    bool soft = false;
    archive(what, rank, node, soft);
    switch (what) {
      case placement::kind::on_rank: p = on_rank(rank); break;
      case placement::kind::on_node: p = on_node(std::move(node), soft); break;
      case placement::kind::spread: p = spread; break;
      case placement::kind::pack: p = pack; break;
      default: p = {};
    }
  }
};

namespace detail {

// ---- At the caller's

/// What a request to another rank will give.
template <class R>
class remote_result final : public state<R>, public waits_for_answer {
 public:
  /// How a call is made of an actor that may be elsewhere by then.
  struct movable {
    actor_place first;
    int tries_left;  ///< after the loss of its rank; -1: any number
    move_only_function<void(int to, job::head)> send;
  };

  /// With one reference of the future and one of the table of requests. `name` lives as long as the program.
  remote_result(job& j, std::string_view name, bool of_actor, std::source_location at,
                std::unique_ptr<movable> moves = nullptr)
      : state<R>(j.core().home(), task::no_closure | task::hears_stop | task::not_for_help, at),
        job_(j),
        name_(name),
        of_actor_(of_actor),
        moves_(std::move(moves)) {
    this->set_parent();
    this->publish(task::pending, 2);
  }
  /// Before it is asked for there. Returns the number of the request.
  std::uint64_t expect_from(int to) {
    to_ = to;
    const std::uint64_t n = job_.open().add(*this, to);
    number_ = n;
    return n;
  }
  /// Of a movable call: to where its actor is.
  void go(const actor_place& where) noexcept {
    const std::uint64_t n = expect_from(where.rank);
    try {
      moves_->send(where.rank, {.number = n, .cell = where.at.cell, .generation = where.at.generation});
    } catch (const std::exception& e) {
      if (job_.is_dying(where.rank) || job_.open().take(n) == nullptr) return;
      if (job_.is_alive(where.rank))
        fail(std::current_exception());
      else if (!goes_elsewhere())
        lost(e.what());
    }
  }
  bool goes_elsewhere() noexcept override {
    if (!moves_ || moves_->tries_left == 0) return false;
    if (moves_->tries_left > 0) --moves_->tries_left;
    return find_place(true);
  }
  bool find_place(bool later) noexcept {
    try {
      job_.moved().with_place(
          moves_->first, later, [this](const actor_place& where) { go(where); },
          [this](std::exception_ptr why) { fail(std::move(why)); });
      return true;
    } catch (const std::exception&) {  // no thread, no memory
      return false;
    }
  }

  void run() noexcept override {}  // never claimable
  void run_not() noexcept override {}
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  bool bring_nearer(time_point) noexcept override { return job_.bring_nearer(*this); }
  void on_stop() noexcept override { job_.cancel(to_, number_); }

  void arrive(input_archive& answer) noexcept override {
    set_from(*this, [&]() -> R {
      if constexpr (!std::is_void_v<R>) {
        R value{};
        answer(value);
        return value;
      }
    });
    finish();
  }
  void fail(std::exception_ptr why) noexcept override {
    const bool cancelled = says_cancelled(why);
    this->set_error(std::move(why));
    if (cancelled) this->set_observed();
    finish();
  }
  void lost(std::string_view how) noexcept override {
    fail(moves_      ? std::make_exception_ptr(actor_died::made_anew(name_, how))
         : of_actor_ ? std::make_exception_ptr(actor_died(name_, how))
                     : std::make_exception_ptr(worker_died(name_, how)));
  }

 private:
  void finish() noexcept {
    this->complete(task::completion::from_elsewhere);
    this->release();
  }

  job& job_;
  std::string_view name_;
  bool of_actor_;
  std::unique_ptr<movable> moves_;
  std::atomic<int> to_{0};
  std::atomic<std::uint64_t> number_{0};
};

template <class R>
future<R> failed_future(job& j, std::exception_ptr why, std::source_location at) {
  promise<R> p(j.core().pool(), at);
  future<R> f = p.get_future();
  p.set_error(std::move(why));
  return f;
}

/// Asks for what the handler is; of a rank that has died the future says so. Throws what writing the request throws.
template <class R, class Write>
future<R> ask_handler(job& j, int to, job::head h, bool refs, std::string_view name, bool of_actor,
                      std::source_location at, Write&& write) {
  auto* const result = new remote_result<R>(j, name, of_actor, at);
  auto answer = future_access::make<R>(task_ref<state<R>>(result));
  h.number = result->expect_from(to);
  try {
    j.ask_handler(to, h, refs, write);
  } catch (const std::exception& e) {
    if (j.is_dying(to) || j.open().take(h.number) == nullptr) return answer;
    if (!j.is_alive(to)) {
      result->lost(e.what());
    } else {
      result->fail(std::current_exception());
      answer = {};
      throw;
    }
  }
  return answer;
}
template <class Tag, class R, class Write>
future<R> ask(job& j, int to, job::head h, bool refs, std::string_view name, bool of_actor, std::source_location at,
              Write&& write) {
  h.handler = handler_of<Tag>::entry.id();
  return ask_handler<R>(j, to, h, refs, name, of_actor, at, write);
}

/// A call of an actor that may be made anew elsewhere: to where it is when that is known. `all` has the arguments.
template <class Tag, class R, class Arguments>
future<R> ask_moving(job& j, const actor_place& first, std::string_view name, std::source_location at, Arguments all) {
  auto send = [&j, all = std::move(all)](int to, const job::head& h) {
    j.template ask<Tag>(to, h, Arguments::may_hold_refs, [&](output_archive& out) { all.save(out); });
  };
  using movable = typename remote_result<R>::movable;
  auto* const result =
      new remote_result<R>(j, name, true, at, std::make_unique<movable>(first, first.task_retries, std::move(send)));
  auto answer = future_access::make<R>(task_ref<state<R>>(result));
  if (!result->find_place(false)) result->fail(std::current_exception());
  return answer;
}
/// The same without an answer.
template <class Tag, class Arguments>
void tell_moving(job& j, const actor_place& first, std::string_view name, Arguments all) {
  const auto fail = [&j, name](const std::exception_ptr& why) { j.tell_of(why, name); };
  j.moved().with_place(
      first, false,
      [&j, fail, all = std::move(all)](const actor_place& where) noexcept {
        try {
          j.template ask<Tag>(where.rank, {.cell = where.at.cell, .generation = where.at.generation},
                              Arguments::may_hold_refs, [&](output_archive& out) { all.save(out); });
        } catch (...) {
          fail(std::current_exception());
        }
      },
      fail);
}
/// Arguments of the runtime's own requests.
template <class... A>
struct plain_arguments {
  static constexpr bool may_hold_refs = false;
  std::tuple<A...> all;
  void save(output_archive& out) const {
    std::apply([&](const A&... a) { (out(a), ...); }, all);
  }
};

/// Waits for the arguments of a call, for `send(settled call)`; what one of them has failed with is for `failed(error)`, which
/// gives the same.
template <class Call, class Send, class Failed>
auto send_settled(Call call, Send&& send, Failed&& failed) {
  std::optional<typename Call::settled> all;
  try {
    all.emplace(std::move(call).settle());
  } catch (...) {
    return failed(std::current_exception());
  }
  return send(*std::move(all));
}

// ---- At the rank that is asked

/// The way back of a request, which is answered once: by with(), or as cancelled when this ends.
class way_back {
 public:
  /// `name`, of what was asked for, lives as long as the program.
  explicit way_back(const request& r, std::string_view name = {}) noexcept
      : job_(&r.at), from_(r.from), number_(r.number), name_(name) {}
  way_back(way_back&& other) noexcept
      : job_(std::exchange(other.job_, nullptr)), from_(other.from_), number_(other.number_), name_(other.name_) {}
  way_back& operator=(way_back&&) = delete;
  ~way_back() {
    if (job_ != nullptr && number_ != 0)
      job_->fail(from_, number_, std::make_exception_ptr(task_cancelled("a call from another rank")));
  }

  template <class F>
  void with(F&& f) noexcept {
    job* const j = std::exchange(job_, nullptr);
    try {
      using value = std::invoke_result_t<F&>;
      if constexpr (std::is_void_v<value>) {
        f();
        j->answer(from_, number_, false, [](output_archive&) {});
      } else {
        const value v = f();
        j->answer(from_, number_, !holds_no_refs<value>, [&](output_archive& out) { out(v); });
      }
    } catch (...) {
      if (number_ != 0)
        j->fail(from_, number_, std::current_exception());
      else
        j->tell_of(std::current_exception(), name_);
    }
  }

 private:
  job* job_;
  int from_;
  std::uint64_t number_;
  std::string_view name_;
};

/// Answers when a task is done; ends itself then.
template <class R>
class answer_when_done final : public continuation {
 public:
  static void of(const request& r, future<R> f) {
    auto* const self = new answer_when_done(r, future_access::take(std::move(f)));
    r.at.served().add(r.from, r.number, *self->done_);
    if (!self->done_->add(*self)) fire(*self, wish::fire);
  }

 private:
  answer_when_done(const request& r, task_ref<state<R>> t) noexcept
      : continuation(&fire), back_(r), done_(std::move(t)) {}
  static task* fire(continuation& c, wish w) noexcept {
    if (w == wish::name_owner) return nullptr;
    auto& self = static_cast<answer_when_done&>(c);
    self.back_.with([&]() -> R { return take_result(*self.done_); });
    delete &self;
    return nullptr;
  }

  way_back back_;
  task_ref<state<R>> done_;
};

/// Options of a task as they travel.
struct sent_options {
  std::string name;
  resource_set resources;
  int max_retries = 0;
  std::int64_t retry_on = 0;  ///< where the filter lies in the program, from a place that all ranks know; 0: none
  enum priority priority = priority::normal;
  std::int64_t deadline = -1;  ///< nanoseconds from now; -1: none

  template <class Archive>
  void serialize(Archive& archive) {
    archive(name, resources, max_retries, retry_on, priority, deadline);
  }

  static sent_options of(const remote_options& o) {
    sent_options s{o.name, o.resources, o.max_retries, 0, o.priority, -1};
    if (o.retry_on != nullptr) s.retry_on = reinterpret_cast<std::intptr_t>(o.retry_on) - place_known();
    if (o.deadline != std::chrono::steady_clock::time_point::max())
      s.deadline =
          std::max<std::int64_t>(0, std::chrono::nanoseconds(o.deadline - std::chrono::steady_clock::now()).count());
    return s;
  }
  [[nodiscard]] remote_options here() && {
    remote_options o{.name = std::move(name), .resources = std::move(resources), .max_retries = max_retries};
    if (retry_on != 0) o.retry_on = reinterpret_cast<retry_filter>(retry_on + place_known());
    o.priority = priority;
    if (deadline >= 0) o.deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(deadline);
    return o;
  }

 private:
  // All ranks run the same build.
  static std::int64_t place_known() noexcept {
    return static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(&is_one_of<sent_options>));
  }
};

/// A task: `Call` is a settled bound_call of F.
template <auto F, class Call>
struct task_request {
  static void serve(request& r) {
    sent_options o;
    r.in(o);
    Call call = Call::read(r.at.core(), r.in);
    task_refs sources;
    call.add_sources(sources);
    answer_when_done<typename Call::result>::of(
        r, start_call<F, typename Call::result>(r.at.core(), std::move(o).here(), std::move(call), sources));
  }
};

/// A call of an actor's method.
template <class T, auto Method, class Call>
struct call_request {
  static void serve(request& r) {
    runtime_core& core = r.at.core();
    Call call = Call::read(core, r.in);
    actor_cell* const cell = core.actors().find(r.cell);
    if (cell == nullptr) throw actor_died(type_name(typeid(T)), "it has ended");
    served run{std::move(call), way_back(r, function_name<Method>()), cell};
    push_call<T, void>(core, {r.cell, r.generation}, {}, task::no_future | task::beyond_cancel, function_name<Method>(),
                       std::move(run), call_kind::of_user, [&](task& t) { r.at.served().add(r.from, r.number, t); });
  }

 private:
  struct served {
    Call call;
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

/// Rank 0 is told of the last state of an actor that may be made anew, and how often it was by now.
struct keep_state_request {
  static void serve(request& r) {
    actor_place first;
    revival::saved_state state;
    r.in(first, state.version, state.bytes);
    way_back(r).with([&] { r.at.kept().keep_state(first, std::move(state)); });
  }
};

/// Makes an actor of a job of several ranks, where rank 0 knows it, on this one.
template <class T, class Kept>
actor_address make_here(runtime_core& core, sent_actor o, std::source_location at, Kept kept) {
  std::unique_ptr<revival> anew = revival_for<T>(o.most, kept);
  revival* const r = anew.get();
  if (o.restarts != 0) r->go_on_from(o.restarts, std::move(o.state));
  const actor_address where = core.actors().add(core.home(), o.label, o.most_at_once, o.most_pending, std::move(anew));
  const actor_place first =
      o.restarts != 0 ? o.first
                      : actor_place{core.rank(), where, r != nullptr ? o.most.task_retries : actor_place::never_anew};
  if (!o.name.empty() || r != nullptr) core.actors().set_known(where, o.name, first);
  if (r == nullptr) {
    push_constructor<T>(core, where, at, std::move(kept));
  } else {
    if (core.rank() != 0)
      r->keep = [&core, first](const revival::saved_state& s) {
        ask<keep_state_request, void>(*core.jobs(), 0, {}, false, "this_actor::checkpoint", false, {},
                                      [&](output_archive& out) { out(first, s.version, s.bytes); })
            .get();
      };
    push_maker<T>(core, where, at);
  }
  return where;
}
/// An actor is to be made.
template <class T, class Kept>
struct make_request {
  static void serve(request& r) {
    sent_actor o;
    Kept kept{};
    r.in(o);
    if (o.restarts != 0)
      std::apply([&](auto&... a) { from_bytes(o.arguments, a...); }, kept);
    else
      std::apply([&](auto&... a) { r.in(a...); }, kept);
    r.in.expect_end();
    const actor_address where = make_here<T>(r.at.core(), std::move(o), {}, std::move(kept));
    way_back(r).with([&] { return where; });
  }
};
/// Rank 0 is to make an actor anew when its rank is lost.
struct keep_actor_request {
  static void serve(request& r) {
    actor_place first;
    kept_actor k;
    r.in(first, k.maker, k.how, k.on);
    way_back(r).with([&] { keep(r.at, first, std::move(k)); });
  }
  static void keep(job& j, const actor_place& first, kept_actor k) {
    j.kept().add(first, std::move(k));
    if (j.is_gone(first.rank)) j.revive_all_of(first.rank, "its rank has died");
  }
};
inline void keep_actor(job& j, const actor_place& first, kept_actor k) {
  if (j.rank() == 0) return keep_actor_request::keep(j, first, std::move(k));
  ask<keep_actor_request, void>(j, 0, {}, false, "the making of an actor", false, {}, [&](output_archive& out) {
    out(first, k.maker, k.how, k.on);
  }).get();
}
/// Such an actor has ended.
struct forget_actor_request {
  static void serve(request& r) {
    actor_place first;
    std::string name;
    r.in(first, name);
    forget(r.at, first, name, "it has ended");
  }
  static void forget(job& j, const actor_place& first, const std::string& name, const std::string& why) {
    j.kept().drop(first, why);
    if (!name.empty()) j.names().drop(name, first);
  }
};
/// Rank 0 is asked where an actor is.
struct where_request {
  static void serve(request& r) {
    actor_place first;
    int not_at = 0;
    r.in(first, not_at);
    r.at.kept().ask(first, not_at,
                    [back = way_back(r)](const whereabouts& w) mutable { back.with([&] { return w; }); });
  }
};

inline actor_place job::ask_where(const actor_place& first, int not_at) {
  whereabouts w;
  if (rank() == 0) {
    promise<whereabouts> told;
    auto answer = told.get_future();
    kept_.ask(first, not_at, [&](const whereabouts& there) { std::move(told).set_value(there); });
    w = answer.get();
  } else {
    w = detail::ask<where_request, whereabouts>(*this, 0, {}, false, "where an actor is", true, {},
                                                [&](output_archive& out) { out(first, not_at); })
            .get();
  }
  if (!w.why_dead.empty()) throw actor_died("that was made on rank " + std::to_string(first.rank), w.why_dead);
  return w.now;
}
inline void job::revive(const actor_place& first, std::string how) noexcept {
  std::string name;
  try {
    for (;;) {
      const std::optional<kept_actor> k = kept_.again(first);
      if (!k) {
        how += "; it may not be made anew again: see .max_restarts";
        break;
      }
      name = k->how.name;
      const int to = choose(k->on, {});
      try {
        const auto at = detail::ask_handler<actor_address>(*this, to, {.handler = k->maker}, false, "a restart", true,
                                                           {}, [&](output_archive& out) { out(k->how); })
                            .get();
        return kept_.made(first, {to, at, first.task_retries});
      } catch (const actor_died& e) {  // that rank has died too
        how = e.what();
      }
    }
  } catch (const std::exception& e) {
    how.append("; it cannot be made anew: ").append(e.what());
  }
  forget_actor_request::forget(*this, first, name, how);
}
template <class T>
struct kill_request {
  static void serve(request& r) {
    bool no_restart = true;
    r.in(no_restart);
    runtime_core& core = r.at.core();
    const bool is_there = core.actors().find(r.cell) != nullptr;
    way_back(r).with([&] { return is_there && kill_actor<T>(core, {r.cell, r.generation}, !no_restart); });
  }
};
template <class T>
struct stop_request {
  static void serve(request& r) {
    runtime_core& core = r.at.core();
    const actor_address where{r.cell, r.generation};
    if (core.actors().find(r.cell) == nullptr) throw actor_died(type_name(typeid(T)), "it has ended");
    push_call<T, void>(
        core, where, {}, task::no_future, "stop",
        [&core, where, back = way_back(r)]() mutable {
          back.with([&] { core.actors().end(where, "it was stopped"); });
        },
        call_kind::stop);
  }
};

/// Rank 0 is asked about a name.
enum class name_question : std::uint8_t { reserve, bind, find, drop };
struct name_request {
  static void serve(request& r) {
    name_question q{};
    std::string name, type;
    actor_place where;
    r.in(q, name, type, where);
    way_back(r).with([&] { return answer(r.at.names(), q, name, type, where, r.from); });
  }
  static name_answer answer(job_names& names, name_question q, const std::string& name, const std::string& type,
                            actor_place where, int from) {
    switch (q) {
      case name_question::reserve: return names.reserve(name, type, from);
      case name_question::find: return names.find(name);
      case name_question::bind: names.bind(name, where); break;
      case name_question::drop: names.drop(name, where); break;
    }
    return {};
  }
};
inline name_answer ask_about_name(job& j, name_question q, const std::string& name, const std::string& type = {},
                                  actor_place where = {}) {
  if (j.rank() == 0) return name_request::answer(j.names(), q, name, type, where, 0);
  return ask<name_request, name_answer>(j, 0, {}, false, "a question about a name", false, {},
                                        [&](output_archive& out) { out(q, name, type, where); })
      .get();
}

/// What a rank has to do before the job may end: see mpi::runtime.
struct activity_request {
  static void serve(request& r) {
    r.at.answer(
        r.from, r.number, false, [&](output_archive& out) { out(r.at.look()); }, false);
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif
