#ifndef CADRE_ASYNC_DETAIL_GRAPH_RUN_HPP
#define CADRE_ASYNC_DETAIL_GRAPH_RUN_HPP

#include <cadre/async/detail/graph_core.hpp>
#include <cadre/async/detail/scheduler.hpp>
#include <cadre/async/detail/state.hpp>
#include <cadre/async/detail/unobserved.hpp>
#include <cadre/async/error.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <source_location>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

class graph_run;

/// A ready node in a worker's queue, as a part of the run. Whoever takes it out frees it.
class graph_step final : public task {
 public:
  graph_step(graph_run& r, std::uint32_t n, pool_id home) noexcept
      : task(home, bare | not_for_help | of_graph, {}), of(r), node(n) {}
  ~graph_step() override {}
  inline void run() noexcept override;
  void run_not() noexcept override {}
  [[nodiscard]] inline std::exception_ptr& error() noexcept override;

  graph_run& of;
  const std::uint32_t node;
};

/// One run of a graph: the task that the user's future is of. Its own run() begins the sources; it is done when the last
/// sink is. Who runs a node, or skips it, counts down the successors; the first that becomes ready is run next, in the same
/// loop, the others are queued and, unless stolen, taken back by that loop before it ends.
///
/// Orders: counting a successor down releases what the node wrote, and acquires what its other predecessors wrote. Who
/// finds that only he himself is left to be counted need not write: nobody else will look. So a chain costs no atomic
/// read-modify-write at all, and each node but one per successor.
class graph_run final : public state<void> {
 public:
  /// With references for queue, future and graph, and one until it is done.
  graph_run(graph_core& g, pool_id home, std::source_location at)
      : state<void>(home, 0, at), graph_(g), open_sinks_(g.sinks()) {
    set_parent();
    publish(queued, 4);
  }
  ~graph_run() override {}

  void run() noexcept override {
    if (graph_.sources().empty()) return finish();
    work(this_worker(), graph_.sources().front(), graph_.sources().size());
    // What this thread queues from now on is not the run's: whoever waits for that is not to steal it.
    set_position(std::numeric_limits<std::int64_t>::max());
  }
  void run_not() noexcept override {
    set_cancelled(static_cast<state<void>&>(*this));
    complete(completion::from_elsewhere);
    release();
  }
  void run_step(std::uint32_t n) noexcept {
    this_context().top->runs = this;  // run_bare() made this frame
    work(this_worker(), n, 1);
  }

 private:
  static constexpr std::uint32_t none = graph_node::none;

  /// Ready nodes that wait for this very thread, linked through their counters.
  struct ready_list {
    std::uint32_t first = none;
  };

  // From a step's node on; of a run's begin, from all sources on.
  void work(worker* w, std::uint32_t n, std::size_t begin) noexcept {
    const std::int64_t floor = w != nullptr ? w->queue.position() : 0;
    ready_list ready;
    for (std::size_t i = begin; i-- > 1;) put_off(w, graph_.sources()[i], ready);
    for (;;) {
      while (n != none) n = run_node(w, n, ready);
      // From here on the run, and the graph, may be gone, unless there is more of it to do.
      if (ready.first != none) {
        n = ready.first;
        std::atomic<std::uint32_t>& open = graph_.node(n).open;
        const std::uint32_t word = open.load(std::memory_order_relaxed);
        ready.first = word & graph_node::count;
        open.store(word & graph_node::skip, std::memory_order_relaxed);
        continue;
      }
      if (w == nullptr) return;
      const auto mine = [this](const task* t) {
        return t->has(of_graph) && &static_cast<const graph_step*>(t)->of == this;
      };
      auto* const step = static_cast<graph_step*>(w->home->take_back(*w, floor, mine));
      if (step == nullptr) return;
      n = step->node;
      delete step;
    }
  }

  void put_off(worker* w, std::uint32_t n, ready_list& ready) noexcept {
    if (w != nullptr && push_step(*w, n)) return;
    std::atomic<std::uint32_t>& open = graph_.node(n).open;
    open.store((open.load(std::memory_order_relaxed) & graph_node::skip) | ready.first, std::memory_order_relaxed);
    ready.first = n;
  }

  // False if there is no memory.
  bool push_step(worker& w, std::uint32_t n) noexcept {
    graph_step* step = nullptr;
    try {
      step = new graph_step(*this, n, home());
    } catch (const std::bad_alloc&) {
      return false;
    }
    if (w.home->push_part(w, *step)) [[likely]]
      return true;
    delete step;
    return false;
  }

  // Returns a successor that is to be run next, or none.
  std::uint32_t run_node(worker* w, std::uint32_t index, ready_list& ready) noexcept {
    graph_node& n = graph_.node(index);
    bool skip = n.open.load(std::memory_order_relaxed) & graph_node::skip;
    n.open.store(n.predecessors, std::memory_order_relaxed);  // for the next run: all of them are done
    if (!skip && this->stop_requested()) [[unlikely]] {
      skip = true;
      cancelled_.fetch_add(1, std::memory_order_relaxed);
    }
    if (!skip) [[likely]] {
      try {
        n.act(n, graph_node::action::call);
      } catch (...) {
        skip = true;
        note_error(index, std::current_exception());
      }
    }
    if (n.first_successor == none) {
      if (open_sinks_.load(std::memory_order_acquire) == 1 || open_sinks_.fetch_sub(1, std::memory_order_acq_rel) == 1)
        finish();
      return none;
    }
    std::uint32_t next = none;
    graph_.for_each_successor(n, [&](std::uint32_t to) {  // after the last, *this may be gone
      graph_node& successor = graph_.node(to);
      // Those that were added one after the other are mostly reached so. A guess that is wrong only costs time.
      __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(&successor) + 16 * 64), 1);
      std::atomic<std::uint32_t>& open = successor.open;
      if (skip) [[unlikely]]
        open.fetch_or(graph_node::skip, std::memory_order_relaxed);
      if ((open.load(std::memory_order_acquire) & graph_node::count) != 1 &&
          (open.fetch_sub(1, std::memory_order_acq_rel) & graph_node::count) != 1)
        return;
      if (next == none)
        next = to;
      else
        put_off(w, to, ready);
    });
    return next;
  }

  // The error of the node that was added first is thrown, the others go to the pool's handler.
  [[gnu::cold]] [[gnu::noinline]] void note_error(std::uint32_t index, std::exception_ptr e) noexcept {
    std::uint32_t other = index;
    {
      const std::lock_guard lock(mutex_);
      if (!error_ || index < failed_) {
        std::swap(error_, e);
        std::swap(failed_, other);
      }
    }
    if (!e) return;
    std::shared_ptr<unobserved_handler> handler;
    pool_registry::with(home(), [&](scheduler& s) { handler = s.unobserved(); });
    report_unobserved({std::move(e), graph_.describe(other), at()}, handler, false);
  }

  void finish() noexcept {
    if (error_) {
      set_error(std::move(error_));
    } else if (const std::uint32_t n = cancelled_.load(std::memory_order_relaxed)) {
      set_error(std::make_exception_ptr(graph_cancelled(detail::describe({}, at()), n, graph_.size())));
      set_observed();  // somebody wanted that
    }
    complete(completion::from_elsewhere);
    release();
  }

  graph_core& graph_;
  std::atomic<std::uint32_t> open_sinks_;
  std::atomic<std::uint32_t> cancelled_{0};  // nodes that were not run because somebody asked to stop
  std::mutex mutex_;                         // of the two below, while the run is under way
  std::exception_ptr error_;
  std::uint32_t failed_ = 0;
};

inline void graph_step::run() noexcept {
  graph_run& r = of;
  const std::uint32_t n = node;
  delete this;
  r.run_step(n);
}
inline std::exception_ptr& graph_step::error() noexcept { return of.error(); }

}  // namespace detail
CADRE_NAMESPACE_END

#endif
