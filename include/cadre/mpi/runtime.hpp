#ifndef CADRE_MPI_RUNTIME_HPP
#define CADRE_MPI_RUNTIME_HPP

#include <cadre/actor/detail/ask.hpp>
#include <cadre/actor/detail/own_requests.hpp>
#include <cadre/actor/detail/serving_job.hpp>
#include <cadre/actor/runtime.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/introduction.hpp>
#include <cadre/mpi/detail/message_link.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/detail/node_share.hpp>
#include <cadre/mpi/detail/place_taken.hpp>
#include <cadre/mpi/detail/respawns.hpp>
#include <cadre/mpi/detail/root_gather.hpp>
#include <cadre/mpi/detail/start_checks.hpp>
#include <cadre/mpi/environment.hpp>
#include <cadre/observe/log.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi {

namespace detail {

/// The main of this program is run(), which can take the place of any rank but 0.
inline bool runs_main = false;

/// CADRE_HEARTBEAT_LIMIT, in seconds; see runtime. Throws mpi_error (1102).
inline std::chrono::nanoseconds heartbeat_limit() {
  const char* const text = std::getenv("CADRE_HEARTBEAT_LIMIT");
  if (text == nullptr) return link_options().silence;
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (end == text || *end != '\0' || !(seconds >= 0 && seconds <= 1e6))
    throw mpi_error::unusable("CADRE_HEARTBEAT_LIMIT is '" + std::string(text) +
                              "': say seconds, up to 1000000, or 0 for no limit");
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(seconds));
}

}  // namespace detail

/// The runtime of a job of several ranks: tasks and actors may be on any of them, and the ranks of a node share one store.
/// The program, and all that it names, must be the same build on all ranks.
///
/// mpi::run() makes one on each rank; a program of which every rank has a main of its own makes one by itself. Making and
/// destroying it is collective: rank 0 waits in the destructor until nothing goes on in the whole job, whoever began it; the
/// others work for the job until then, in serve() or in the destructor.
///
/// What the options do not name is found: processors, GPUs and memory of a node are dealt among its ranks (see
/// runtime_options). Ranks that mpirun has bound to processors of their own have those.
///
/// A rank of another node of which nothing is heard for 10 s counts as dead; the environment of rank 0 may say another time,
/// in seconds, by CADRE_HEARTBEAT_LIMIT (0: none).
class runtime : public cadre::runtime {
 public:
  /// Every rank of `comm`, which is duplicated. Throws as cadre::runtime; different_programs (610), communicator_timeout
  /// (401), mapping_error (159), mpi_error (1101, 1102, 1110).
  explicit runtime(MPI_Comm comm, runtime_options options = {})
      : runtime(comm, options.max_respawns, std::move(options)) {}
  explicit runtime(runtime_options options = {}) : runtime(detail::world(), std::move(options)) {}
  /// Of a process that is in the place of one that has died: see run().
  runtime(const detail::place_taken& where, runtime_options options)
      : cadre::runtime(as_before(where.facts(), std::move(options))) {
    core().set_rank(where.place().member);
    core().begin_job(where.place().job_number, where.place().store);
    make_job(where.link(), where.place().by_rank);
    job_->start();
  }
  ~runtime() override {
    try {
      rank() == 0 ? finish() : serve();
      job_->close();
    } catch (const std::exception& e) {
      log(log_level::error, "actor", [&] { return std::string("the job did not end in order: ") + e.what(); });
    }
  }

  /// Ranks other than 0: works for the job until rank 0 ends it.
  void serve() { job_->serve(); }

 private:
  runtime(MPI_Comm comm, int max_respawns, runtime_options options)
      : cadre::runtime(detail::share_of_node(comm, std::move(options))) {
    int rank = 0, size = 0;
    {
      const std::lock_guard lock(detail::environment::get().mutex());
      detail::check(::MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
      detail::check(::MPI_Comm_size(comm, &size), "MPI_Comm_size");
    }
    core().set_rank(rank);
    detail::warn_of_binding(pool().size());
    detail::list_requests();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    const std::vector<detail::introduction> all =
        detail::root_gather(comm, size, deadline)(detail::introduction::of_rank(core()));
    check_that_all_are_one(all);
    std::uint32_t number = 0;
    std::vector<cadre::detail::peer_facts> peers;
    for (const detail::introduction& i : all) {
      number = std::max(number, i.jobs_made + 1);
      peers.push_back(i.facts());
    }
    const detail::introduction& me = all[static_cast<std::size_t>(rank)];
    core().begin_job(number, all[0].store_on(me.node));
    const bool can_respawn = detail::runs_main && detail::environment::goes_on_after_deaths();
    const detail::link_options how{.silence = detail::heartbeat_limit(),
                                   .most_later = can_respawn ? std::max(0, max_respawns) : 0};
    make_job(std::make_unique<detail::message_link>(comm, how), std::move(peers));
    if (rank == 0 && how.most_later != 0) {
      respawns_ = std::make_shared<detail::respawns>(*job_, me, number, how.silence);
      job_->when_lost = [respawns = respawns_](int member) { respawns->take_place_of(member); };
    }
    job_->start();
  }
  void make_job(std::unique_ptr<detail::message_link> link, std::vector<cadre::detail::peer_facts> ranks) {
    job_ = std::make_shared<cadre::detail::serving_job>(core(), std::move(link), std::move(ranks));
    core().join(job_, job_->has_several_nodes() ? job_.get() : nullptr);
    core().actors().when_known_ends = [this](const std::string& name, const cadre::detail::actor_place& first) {
      forget(name, first);
    };
  }
  static runtime_options as_before(const cadre::detail::peer_facts& facts, runtime_options options) {
    options.threads = facts.threads;
    options.resources = facts.resources;
    options.gpus = facts.gpus;
    return options;
  }
  static void check_that_all_are_one(const std::vector<detail::introduction>& all) {
    std::string others;
    for (std::size_t r = 0; r < all.size(); ++r)
      if (!all[r].is_same_program(all[0]))
        others += (others.empty() ? "rank " : ", ") + std::to_string(r) + " on " + all[r].host.data();
    if (!others.empty()) throw different_programs(others + " from rank 0 on " + all[0].host.data());
  }

  void forget(const std::string& name, const cadre::detail::actor_place& where) {
    if (rank() == 0 && where.may_move())
      cadre::detail::forget_actor_request::forget(*job_, where, name);
    else if (rank() == 0)
      job_->names().drop(name, where);
    else if (where.may_move())
      job_->ask<cadre::detail::forget_actor_request>(0, {}, false, [&](output_archive& out) { out(where, name); });
    else
      job_->ask<cadre::detail::name_request>(0, {}, false, [&](output_archive& out) {
        out(cadre::detail::name_question::drop, name, std::string(), where);
      });
  }

  // Until nothing goes on anywhere and nothing is on its way: two looks at all ranks, one after the other, that see the same
  // and as much received as sent (F. Mattern, Algorithms for distributed termination detection, 1987). What was on its way to
  // or from a rank that has died nobody can count: without it. Where what goes on waits for resources, the actors end that
  // hold some, then placement groups.
  void finish() {
    using activity = cadre::detail::serving_job::activity;
    std::vector<activity> before;
    for (;;) {
      std::vector<activity> now;
      activity sum{.idle = true, .still = true};
      bool all_live = true;
      for (int r = 0; r < job_->way().members(); ++r) {
        if (!job_->is_alive(r)) {
          all_live = false;
          continue;
        }
        try {
          now.push_back(r == 0 ? job_->look() : ask_for_activity(r));
        } catch (const error&) {  // it has died just now
          all_live = false;
          continue;
        }
        sum.sent += now.back().sent;
        sum.received += now.back().received;
        sum.idle = sum.idle && now.back().idle;
        sum.still = sum.still && now.back().still;
        sum.waiting += now.back().waiting;
      }
      const bool steady = (sum.sent == sum.received || !all_live) && now == before;
      const bool freed = steady && sum.still && sum.waiting != 0 && free_resources(now);
      if (steady && sum.idle && !freed) break;
      before = std::move(now);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    if (respawns_) respawns_->end();
    job_->end_others();
  }
  // False if nothing holds any.
  bool free_resources(const std::vector<cadre::detail::serving_job::activity>& now) {
    bool any = false;
    for (const cadre::detail::serving_job::activity& a : now) any = any || a.holds;
    if (!any) return core().remove_some_groups();
    core().end_actors_that_hold();
    for (int r = 1; r < job_->way().members(); ++r) {
      try {
        if (job_->is_alive(r)) job_->ask<cadre::detail::end_holders_request>(r, {}, false, [](output_archive&) {});
      } catch (const error&) {  // it has died just now
      }
    }
    return true;
  }
  cadre::detail::serving_job::activity ask_for_activity(int r) {
    return cadre::detail::ask<cadre::detail::activity_request, cadre::detail::serving_job::activity>(
               *job_, r, {.counts = false}, false, "the end of the job", false, {}, [](output_archive&) {})
        .get();
  }

  std::shared_ptr<cadre::detail::serving_job> job_;
  std::shared_ptr<detail::respawns> respawns_;  // on rank 0
};

}  // namespace mpi

CADRE_NAMESPACE_END

#endif
