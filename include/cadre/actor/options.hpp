#ifndef CADRE_ACTOR_OPTIONS_HPP
#define CADRE_ACTOR_OPTIONS_HPP

#include <cadre/actor/placement.hpp>
#include <cadre/async/resources.hpp>
#include <cadre/async/task_options.hpp>
#include <cadre/async/thread_pool.hpp>
#include <cadre/store/options.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <stop_token>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// How a runtime is made: `cadre::runtime rt{{.threads = 4, .resources = {{"TPU", 8}}}};`
struct runtime_options {
  /// Of this process's pool. 0: one for each processor that it may use; in a job of several ranks one for each of its share of
  /// the node's, and one at least.
  std::size_t threads = 0;
  /// What this process has for tasks and actors, beside "cpu" and "memory": see thread_pool_options. In a job of several ranks
  /// "memory" and "gpu" of a node are dealt among its ranks that do not name them here.
  resource_set resources = {};
  /// Where objects lie. It is opened when the first object is put.
  store_options store = {};
  /// Gets each error that nobody asked for: see thread_pool_options.
  move_only_function<void(const unobserved_error&)> on_unobserved_error = {};
  /// A wait that takes longer is told to the log.
  long_wait report_waits_after = {};
  /// Writes and reads back all arguments and results, as between ranks, though they stay in this process: a test of what
  /// programs send, without mpirun.
  bool round_trip = false;
  /// Which devices its "gpu" are, as CUDA numbers them: this_task::gpus() says these. Empty: 0, 1, ..., as many as .resources
  /// say, and under cadre::mpi those of this rank's share of the node.
  std::vector<int> gpus = {};
  /// Under cadre::mpi: how many ranks of a node may share a GPU, each of which has it as a whole one; more are error 1110 at
  /// the start, on all ranks. 0: none share any, and where there are more ranks than GPUs the last have none.
  std::size_t most_ranks_per_gpu = 0;
  /// In a job of mpirun --enable-recovery, of cadre::mpi::run: how often ranks that have died are started again, all
  /// together.
  int max_respawns = 64;
};

/// How one task is to be run anywhere in the job: `rt.submit<&f>({.resources = {{"gpu", 1}}, .max_retries = 2}, x)`.
struct remote_options {
  /// Said where the task's error is reported; the function's name, if empty.
  std::string name = {};
  /// What it holds while it runs, all of it on one rank; without a word one "cpu".
  resource_set resources = {};
  /// Where.
  placement on = {};
  /// How often it is tried again: when its worker is lost, and after an error of those in .retry_on.
  int max_retries = 0;
  /// Which errors are worth another try: cadre::errors<E...>(). Null: none.
  retry_filter retry_on = nullptr;
  /// Cancels the task: see future::cancel().
  std::stop_token stop = {};
  enum priority priority = priority::normal;
  /// If it has not begun by then, its future holds deadline_passed (210); if it runs, it is asked to stop.
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  /// Where it is submitted; says so by itself.
  std::source_location at = std::source_location::current();
  /// Of runtime::submit_stream(): how many values may wait for their receiver.
  std::size_t stream_capacity = 64;
};

/// How an actor is ended: see actor::kill().
struct kill_options {
  bool no_restart = true;
};

/// How an actor is made: `rt.actor<T>({.name = "counter"}, arguments of its constructor...)`.
struct actor_options {
  /// Others find it by this name. Empty: none.
  std::string name = {};
  /// Names are of a namespace.
  std::string name_space = {};
  /// The actor of that name, if it lives, in place of actor_name_taken (603).
  bool get_or_create = false;
  /// Where.
  placement on = {};
  /// Calls that may run at the same time. More than 1: the class sees to its own locks, and only the order in which calls
  /// begin is kept.
  std::uint32_t max_concurrency = 1;
  /// Calls that may wait; one more throws too_many_calls (605). A coroutine counts until it is over. 0: any number.
  std::size_t max_pending_calls = 0;
  /// How often it is made anew when its rank is lost, or it is killed so: by its constructor with the same arguments, which it
  /// has copies of, and then, if an archive can write and read its class, with the state that it saved last. -1: any number.
  int max_restarts = 0;
  /// How often a call that is lost with its rank is made again of the actor that is made anew; else such calls, and those that
  /// wait then, fail with actor_died (601). A call may have run, and be run again: for methods that allow that.
  int max_task_retries = 0;
  /// It saves its state after so many calls, before the last of them is answered: with 1, all that is answered is kept. 0:
  /// only by this_actor::checkpoint().
  std::uint32_t checkpoint_every = 0;
  /// Where it is made; says so by itself.
  std::source_location at = std::source_location::current();
  /// What it holds as long as it lives, all of it on one rank: its constructor waits until that is there, in the order of all
  /// that wait for the same, and calls wait for the constructor. By default nothing. this_task::gpus() and cpus() say it in
  /// the constructor and in methods.
  resource_set resources = {};
};

/// What a placement group has: `rt.placement_group({.bundles = {{{"cpu", 1}}, {{"cpu", 1}, {"gpu", 1}}}, .strategy =
/// cadre::spread})`.
struct placement_group_options {
  /// Each is all of one rank.
  std::vector<resource_set> bundles = {};
  placement_strategy strategy = {};
  /// Said in errors.
  std::string name = {};
};

CADRE_NAMESPACE_END

#endif
