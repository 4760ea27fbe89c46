#ifndef CADRE_ACTOR_ERROR_HPP
#define CADRE_ACTOR_ERROR_HPP

#include <cadre/core/error.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>

CADRE_NAMESPACE_BEGIN

/// Thrown (601) by the future of a call whose actor has ended, was never made, or ends before it comes to the call.
class actor_died : public error {
 public:
  using error::error;
  [[gnu::cold]] actor_died(std::string_view actor, std::string_view why)
      : error("actor", 601,
              "the actor " + std::string(actor) + " cannot be called: " + std::string(why) +
                  "; make another one, or ask find_actor() for its successor") {}
  /// Of a call that is lost though the actor goes on: it is made anew.
  [[nodiscard, gnu::cold]] static actor_died made_anew(std::string_view actor, std::string_view why) {
    return actor_died("actor", 601,
                      "a call is lost, as the actor " + std::string(actor) + " is made anew: " + std::string(why) +
                          "; call it again, or say .max_task_retries where it is made");
  }
};

/// Thrown (602) when no actor of that name lives.
class no_such_actor : public error {
 public:
  using error::error;
  [[gnu::cold]] no_such_actor(std::string_view name, const std::string& others)
      : error("actor", 602,
              "there is no actor '" + std::string(name) + "'; " +
                  (others.empty() ? "none has a name" : "those with names are " + others) +
                  ". Make it before it is looked for, or make it by .get_or_create = true wherever it is wanted") {}
};

/// Thrown (603) when an actor is made under a name that another one has.
class actor_name_taken : public error {
 public:
  using error::error;
  [[gnu::cold]] explicit actor_name_taken(std::string_view name)
      : error("actor", 603,
              "an actor '" + std::string(name) +
                  "' lives already; look for it by find_actor(), say .get_or_create = true, or stop it first") {}
};

/// Thrown (604) when an actor of that name is of another class.
class wrong_actor_type : public error {
 public:
  using error::error;
  [[gnu::cold]] wrong_actor_type(std::string_view name, std::string_view is, std::string_view wanted)
      : error("actor", 604,
              "the actor '" + std::string(name) + "' is a " + std::string(is) + ", not a " + std::string(wanted) +
                  "; ask for it as what it is") {}
};

/// Thrown (605) by a call to an actor that has as many waiting as .max_pending_calls allows.
class too_many_calls : public error {
 public:
  using error::error;
  [[gnu::cold]] too_many_calls(std::string_view actor, std::size_t most)
      : error("actor", 605,
              "the actor " + std::string(actor) + " has " + std::to_string(most) +
                  " calls waiting, as many as its .max_pending_calls; wait for some of their futures first") {}
};

/// Thrown (606) when an actor's handle is used that refers to none, or to one of a runtime that has ended.
class empty_actor : public error {
 public:
  using error::error;
  [[gnu::cold]] explicit empty_actor(bool had_one)
      : error("actor", 606,
              had_one ? "the runtime of this actor has ended; call it while that lives"
                      : "this handle refers to no actor; keep what runtime::actor() or find_actor() returned") {}
};

/// Thrown (607) by this_task::runtime() outside of the tasks and actors of a runtime.
class no_runtime : public error {
 public:
  using error::error;
  [[gnu::cold]] no_runtime()
      : error("actor", 607,
              "this thread runs no task of a runtime; call this_task::runtime() in one, or hand the runtime on") {}
};

/// What a task or an actor of another rank threw (608), if that is of a type that does not travel: of a type that is neither
/// the standard library's nor cadre's.
class remote_error : public error {
 public:
  [[gnu::cold]] remote_error(const std::string& type, const std::string& text, const std::string& where)
      : error("actor", 608,
              where + " threw a " + (type.empty() ? std::string("value") : type) + ": " + text +
                  "; catch it there, or throw one of the standard library's types"),
        type_(type),
        text_(text),
        where_(where) {}
  /// As the compiler calls it.
  [[nodiscard]] std::string_view type() const noexcept { return type_; }
  /// Its what().
  [[nodiscard]] std::string_view text() const noexcept { return text_; }
  /// The rank and its host.
  [[nodiscard]] std::string_view where() const noexcept { return where_; }

 private:
  std::string type_, text_, where_;
};

/// Thrown (609) by the future of a task whose rank, or worker process, has died.
class worker_died : public error {
 public:
  using error::error;
  [[gnu::cold]] worker_died(std::string_view task, std::string_view how)
      : error("actor", 609,
              std::string(task) + " is lost: " + std::string(how) +
                  "; say .max_retries to have it run again elsewhere") {}
};

/// Thrown (610) at the start of a job by ranks that run different programs, or builds of one.
class different_programs : public error {
 public:
  [[gnu::cold]] explicit different_programs(const std::string& ranks)
      : error("actor", 610,
              "the ranks of this job do not run the same build: " + ranks + "; start all of them from one executable") {
  }
};

/// Thrown (612) by this_actor outside of the calls of actors.
class no_actor : public error {
 public:
  using error::error;
  [[gnu::cold]] no_actor()
      : error("actor", 612, "this thread runs no call of an actor; use this_actor in the methods of its class alone") {}
};

/// Thrown (613) when an actor is to save its state and an archive cannot write its class.
class unsaved_state : public error {
 public:
  using error::error;
  [[gnu::cold]] explicit unsaved_state(std::string_view type)
      : error("actor", 613,
              "the state of a " + std::string(type) +
                  " cannot be saved; give it a serialize(), or make it so that its constructor's arguments say all") {}
};

/// Thrown (617) by the futures of what is in a placement group that was removed, or can never be placed any more, and by who
/// uses it then.
class placement_group_gone : public error {
 public:
  using error::error;
  [[gnu::cold]] placement_group_gone(const std::string& group, std::string_view why)
      : error("actor", 617, group + " is gone: " + std::string(why) + "; make another one") {}
};

/// Thrown (618) when the handle of a placement group is used that refers to none, or to a bundle that it does not have.
class empty_placement_group : public error {
 public:
  using error::error;
  [[gnu::cold]] explicit empty_placement_group(std::string_view what)
      : error("actor", 618, std::string(what) + "; keep what runtime::placement_group() returned") {}
};

/// Thrown (611) when a process_pool is made in a process that has no zygote, or one can no longer be forked.
class no_zygote : public error {
 public:
  enum class kind { never, late, of_parent };
  [[gnu::cold]] no_zygote(kind why, const std::string& threads)
      : error("actor", 611,
              why == kind::late ? "the zygote of process pools cannot be forked now, as this process has " + threads +
                                      " threads; call cadre::process_pool::prepare() first in main"
              : why == kind::of_parent
                  ? "a process made by fork() cannot have workers of the zygote that it was forked beside; call "
                    "cadre::process_pool::prepare() in it first"
                  : "there is no zygote to make worker processes: cadre::run() forks it if it is called while the "
                    "process has one thread; in a main of your own call cadre::process_pool::prepare() first") {}
};

/// Thrown (614) by a process_pool, and by the futures of its tasks, when the zygote has died.
class zygote_died : public error {
 public:
  [[gnu::cold]] explicit zygote_died(int process)
      : error("actor", 614,
              "the zygote, process " + std::to_string(process) +
                  ", has died, and all worker processes with it; the pools of this program are of no use any more: "
                  "find out who killed it, and start the program again") {}
};

/// Thrown (615) when the system gives no further process, or no socket to it. `code()` is the errno.
class no_worker_process : public error {
 public:
  [[gnu::cold]] explicit no_worker_process(int code)
      : error("actor", 615,
              "cannot make a worker process: " + std::generic_category().message(code) +
                  "; raise the limit that is met (ulimit -u, ulimit -n, the cgroup's pids.max) or use fewer"),
        code_(code) {}
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  int code_;
};

/// Thrown (616) when a process_pool is to run a function that its workers do not have.
class unknown_function : public error {
 public:
  [[gnu::cold]] explicit unknown_function(const std::string& function)
      : error("actor", 616,
              "worker processes do not have '" + function +
                  "': it is of a library that was loaded after their zygote was forked; load it before cadre::run() or "
                  "process_pool::prepare()") {}
};

/// Thrown (620) for an object of another node whose rank has died before its bytes had come.
class owner_died : public error {
 public:
  using error::error;
  [[gnu::cold]] owner_died(int rank, std::string_view how)
      : error("actor", 620,
              "an object is lost with rank " + std::to_string(rank) + " of another node, which had it: " +
                  std::string(how) + "; make it anew, or get objects that are to outlive their rank before") {}
};

CADRE_NAMESPACE_END

#endif
