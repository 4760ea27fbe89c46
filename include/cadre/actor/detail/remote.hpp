#ifndef CADRE_ACTOR_DETAIL_REMOTE_HPP
#define CADRE_ACTOR_DETAIL_REMOTE_HPP

#include <cadre/actor/detail/job.hpp>
#include <cadre/actor/detail/start_call.hpp>
#include <cadre/async/promise.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
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

namespace detail {

// ---- At the caller's

/// What a request to another rank will give.
template <class R>
class remote_result final : public state<R>, public waits_for_answer {
 public:
  /// With one reference of the future and one of the table of requests. `name` lives as long as the program.
  remote_result(job& j, int to, std::string_view name, bool of_actor, std::source_location at)
      : state<R>(j.core().home(), task::no_closure | task::hears_stop | task::not_for_help, at),
        job_(j),
        to_(to),
        name_(name),
        of_actor_(of_actor) {
    number_ = j.open().add(*this, to);
    this->set_parent();
    this->publish(task::pending, 2);
  }
  [[nodiscard]] std::uint64_t number() const noexcept { return number_; }

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
    fail(of_actor_ ? std::make_exception_ptr(actor_died(name_, how))
                   : std::make_exception_ptr(worker_died(name_, how)));
  }
  /// It could not be sent. By who made it.
  void give_up() noexcept {
    if (job_.open().take(number_) != nullptr) fail(std::current_exception());
  }

 private:
  void finish() noexcept {
    this->complete(task::completion::from_elsewhere);
    this->release();
  }

  job& job_;
  int to_;
  std::string_view name_;
  bool of_actor_;
  std::uint64_t number_;
};

template <class R>
future<R> failed_future(job& j, std::exception_ptr why, std::source_location at) {
  promise<R> p(j.core().pool(), at);
  future<R> f = p.get_future();
  p.set_error(std::move(why));
  return f;
}

/// Asks for what Tag is; of a rank that has died the future says so. Throws what writing the request throws.
template <class Tag, class R, class Write>
future<R> ask(job& j, int to, job::head h, bool refs, std::string_view name, bool of_actor, std::source_location at,
              Write&& write) {
  auto* const result = new remote_result<R>(j, to, name, of_actor, at);
  auto answer = future_access::make<R>(task_ref<state<R>>(result));
  h.number = result->number();
  try {
    j.ask<Tag>(to, h, refs, write);
  } catch (const std::exception& e) {
    if (!j.is_alive(to) && j.open().take(h.number) != nullptr) {
      result->lost(e.what());
    } else if (j.is_alive(to)) {
      result->give_up();
      answer = {};
      throw;
    }
  }
  return answer;
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
    auto* const t = new call_task<void, served>(std::move(run), *cell, call_kind::of_user, function_name<Method>(),
                                                core.home(), task::no_future | task::beyond_cancel, {});
    t->publish(task::queued, 2);
    const task_ref<task> queued(t);
    r.at.served().add(r.from, r.number, *t);
    try {
      if (cell->push(r.generation, *t, true)) return;
      t->fail(std::make_exception_ptr(actor_died(type_name(typeid(T)), "it has ended")));
    } catch (...) {  // too many wait
      t->fail(std::current_exception());
    }
    t->release();
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

/// Makes an actor of a job of several ranks, where rank 0 has its name, on this one.
template <class T, class Kept>
actor_address make_here(runtime_core& core, const std::string& label, const std::string& name,
                        std::uint32_t most_at_once, std::size_t most_pending, std::source_location at, Kept kept) {
  const actor_address where = core.actors().add(core.home(), label, most_at_once, most_pending);
  core.actors().set_name(where, name);
  push_constructor<T>(core, where, at, std::move(kept));
  return where;
}
/// An actor is to be made.
template <class T, class Kept>
struct make_request {
  static void serve(request& r) {
    runtime_core& core = r.at.core();
    std::string label, name;
    std::uint32_t most_at_once = 1;
    std::uint64_t most_pending = 0;
    Kept kept{};
    r.in(label, name, most_at_once, most_pending);
    std::apply([&](auto&... a) { r.in(a...); }, kept);
    r.in.expect_end();
    const actor_address where = make_here<T>(core, label, name, most_at_once, most_pending, {}, std::move(kept));
    way_back(r).with([&] { return where; });
  }
};
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
