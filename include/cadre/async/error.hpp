#ifndef CADRE_ASYNC_ERROR_HPP
#define CADRE_ASYNC_ERROR_HPP

#include <cadre/core/error.hpp>

#include <cstddef>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// Thrown (201) when a future is used that refers to no task.
class empty_future : public error {
 public:
  [[gnu::cold]] explicit empty_future(std::string_view call)
      : error("async", 201,
              std::string(call) +
                  " on an empty future: it was never set, was moved from, or gave its value away by get(), then() or "
                  "when_all(); keep what get() returned, or ask valid() first") {}
};

/// Thrown (202) by the future of a promise that was destroyed without a value or an error.
class broken_promise : public error {
 public:
  [[gnu::cold]] broken_promise()
      : error("async", 202,
              "the promise of this future was destroyed without a value; call set_value() or set_error() on every way "
              "out") {}
};

/// Thrown (203) when a promise is given a second value or error, or a value after it was moved from.
class promise_already_satisfied : public error {
 public:
  [[gnu::cold]] promise_already_satisfied()
      : error("async", 203, "this promise has been kept already, or was moved from; set a value or an error once") {}
};

/// Thrown (204) when a promise is asked for its future a second time.
class future_already_taken : public error {
 public:
  [[gnu::cold]] future_already_taken()
      : error("async", 204,
              "this promise has given its future away already, or was moved from; ask for it once and move it") {}
};

/// Thrown (205) by wait() when more futures are to become ready than it was given.
class impossible_wait : public error {
 public:
  impossible_wait(std::size_t wanted, std::size_t given)
      : error("async", 205,
              "wait for " + std::to_string(wanted) + " of " + std::to_string(given) +
                  " futures can never succeed; ask for at most as many as there are") {}
};

/// Thrown (206) by the future of a task that was cancelled before it began, and in a coroutine by each co_await once it
/// has been cancelled.
class task_cancelled : public error {
 public:
  using error::error;
  [[gnu::cold]] explicit task_cancelled(const std::string& task, std::string_view when = "before it began")
      : error("async", 206,
              task + " was cancelled " + std::string(when) +
                  ": by cancel(), its stop token, its parent's or its pool's end") {}
};

/// Thrown (207) when a process made by fork() uses a pool, or waits for a task, of the process that it came from.
class forked_process : public error {
 public:
  [[gnu::cold]] forked_process()
      : error("async", 207,
              "this process was made by fork(), and the threads of the pool stayed in the other; make a pool after the "
              "fork, or call exec()") {}
};

/// Thrown (208) by a wait that could never end, because what it waits for waits for it.
class wait_cycle : public error {
 public:
  using error::error;
  [[gnu::cold]] explicit wait_cycle(const std::string& path)
      : error("async", 208,
              "this wait would never end: " + path +
                  ", which is under way here; use then() in place of one of the waits") {}
};

/// Thrown (209) when a task asks for resources that its pool can never give, or that make no sense.
class impossible_request : public error {
 public:
  using error::error;
  [[gnu::cold]] explicit impossible_request(const std::string& what)
      : error("async", 209, "this request of resources can never be met: " + what) {}
};

/// Thrown (210) by the future of a task that had not begun by its deadline.
class deadline_passed : public error {
 public:
  using error::error;
  [[gnu::cold]] explicit deadline_passed(const std::string& task)
      : error("async", 210, task + " had not begun by its deadline; give it more time, or the pool less to do") {}
};

/// Thrown (211) when options of a task do not go together with it or its pool.
class bad_task_option : public error {
 public:
  using error::error;
  [[gnu::cold]] explicit bad_task_option(const std::string& what) : error("async", 211, what) {}
};

/// Thrown (212) when a channel is made that could hold nothing.
class bad_channel : public error {
 public:
  [[gnu::cold]] bad_channel() : error("async", 212, "a channel of capacity 0 could hold nothing; give it 1 or more") {}
};

/// Thrown (213) by a send into a closed channel.
class channel_closed : public error {
 public:
  using error::error;
  [[gnu::cold]] channel_closed()
      : error("async", 213,
              "this channel is closed, so nobody will receive what is sent; close it when all have sent") {}
};

/// Thrown (215) by the call of a coroutine that g++ 12 has compiled wrongly: one that begins with `if (co_await f ...)` and
/// has no variable of its own.
class miscompiled_coroutine : public error {
 public:
  explicit miscompiled_coroutine(const std::string& coroutine)
      : error("async", 215,
              coroutine +
                  " is a coroutine that this compiler has laid out wrongly, as g++ 12 does if one begins with `if "
                  "(co_await "
                  "f ...)`; write `const auto x = co_await f; if (x ...)`") {}
};

/// Thrown (220) by task_graph::run() when nodes come before themselves.
class graph_cycle : public error {
 public:
  graph_cycle(const std::string& path, std::size_t nodes)
      : error("async", 220,
              "the task graph has a cycle of " + std::to_string(nodes) + " node" + (nodes == 1 ? "" : "s") + ": " +
                  path + "; none of them could ever run, so remove one of these edges") {}
};

/// Thrown (221) when a task graph is changed, or run once more, while it runs.
class graph_is_running : public error {
 public:
  explicit graph_is_running(std::string_view call)
      : error("async", 221,
              std::string(call) +
                  " on a task graph that runs; wait for the future of that run first, or use a second "
                  "graph") {}
};

/// Thrown (222) by the future of a graph's run that was cancelled after it had begun.
class graph_cancelled : public error {
 public:
  graph_cancelled(const std::string& run, std::size_t skipped, std::size_t nodes)
      : error("async", 222,
              "the run of a task graph, " + run + ", was cancelled: " + std::to_string(skipped) + " of its " +
                  std::to_string(nodes) + " nodes were skipped") {}
};

/// Thrown (223) when an edge is to lead from or to a node of another task graph, or of none.
class foreign_node : public error {
 public:
  foreign_node()
      : error(
            "async", 223,
            "both ends of an edge must be nodes of the same task graph: use what its add() returned, and not after the "
            "graph was assigned to") {}
};

CADRE_NAMESPACE_END

#endif
