#ifndef CADRE_MPI_DETAIL_RESPAWNS_HPP
#define CADRE_MPI_DETAIL_RESPAWNS_HPP

#include <cadre/actor/detail/ask.hpp>
#include <cadre/actor/detail/own_requests.hpp>
#include <cadre/actor/detail/serving_job.hpp>
#include <cadre/actor/detail/way_back.hpp>
#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/introduction.hpp>
#include <cadre/mpi/detail/message_link.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/detail/place_taken.hpp>
#include <cadre/mpi/detail/process_watch.hpp>
#include <cadre/mpi/detail/spawned_process.hpp>
#include <cadre/mpi/environment.hpp>
#include <cadre/observe/log.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

/// Throws std::bad_cast if the job has no ranks.
inline message_link& link_of(cadre::detail::job& j) { return dynamic_cast<message_link&>(j.way()); }

/// A rank is to connect to a process that takes the place of one that has died.
struct connect_request : cadre::detail::own_request {
  static void serve(cadre::detail::request& r) {
    acquaintance who;
    port_name port{};
    read_all(r, who.member, who.rank, who.is_near, who.card.process, who.card.host, port);
    if (r.from != 0 || who.member < r.at.world_size() || who.member >= r.at.way().most_members() || who.rank < 0 ||
        who.rank >= r.at.world_size())
      throw archive_corrupt("a new process of rank " + std::to_string(who.rank), 0);
    cadre::detail::serving(r).later_to_respawn([&j = r.at, who, port, back = cadre::detail::way_back(r)]() mutable {
      back.with([&] { connect(j, who, port); });
    });
  }

 private:
  static void connect(cadre::detail::job& j, acquaintance who, const port_name& port) {
    if (who.is_near && process_watch(who.card.process).ended()) throw peer_died(who.rank, "it has died meanwhile");
    who.comm = connection_with(port, who.rank, false);
    if (!link_of(j).admit(who)) throw peer_died(who.rank, "it has died meanwhile");
  }
};
/// It has the rank from now on.
struct seat_request : cadre::detail::own_request {
  static void serve(cadre::detail::request& r) {
    int member = 0;
    read_all(r, member);
    cadre::detail::way_back(r).with([&] {
      r.at.check_rank(member);
      r.at.members().seat(member);
    });
  }
};

/// Before this process introduces itself to the others. Thread-safe.
inline void list_requests() noexcept {
  static const bool are_listed = [] {
    cadre::detail::list_own_requests<cadre::detail::serving_job>();
    cadre::detail::list_requests<connect_request, seat_request>();
    return true;
  }();
  static_cast<void>(are_listed);
}

/// On rank 0: starts processes that take the place of ranks that have died. One thread.
class respawns {
 public:
  respawns(cadre::detail::serving_job& j, const introduction& me, std::uint32_t job_number,
           std::chrono::nanoseconds silence)
      : job_(j), link_(link_of(j)), me_(me), job_number_(job_number), silence_(silence), next_(j.world_size()) {}

  /// The job ends: none from now on.
  void end() noexcept { over_.store(true); }

  void take_place_of(int lost) noexcept {
    const int rank = link_.rank_of(lost);
    if (over_.load() || rank == 0) return;
    bool is_member = false;
    try {
      // Now and then a death at a bad instant leaves mpirun (4.1.4) so that what it starts never begins.
      constexpr int most_tries = 8, most_stuck = 3;
      std::optional<spawned_process> process;
      std::optional<introduction> it;
      for (int tries = 1; !it; ++tries) {
        if (stuck_ == most_stuck) throw mpi_error::unusable("mpirun starts no process any more");
        if (next_ == link_.most_members())
          throw mpi_error::unusable("that has been done as often as .max_respawns allows");
        member_ = next_++;
        process.emplace("cadre-" + std::to_string(me_.job[0]) + "-" + std::to_string(member_), rank,
                        job_.has_several_nodes() ? job_.facts_of(rank).host : "");
        try {
          way_ = process->connect(std::chrono::seconds(std::min(1 << tries, 16)));
          it = *receive<introduction>([&] { process->throw_if_ended(); });
          stuck_ = 0;
        } catch (const mpi_error& e) {  // it has died before it was a rank
          stuck_ = process->has_ended() ? 0 : stuck_ + 1;
          if (tries == most_tries) throw;
          log(log_level::warning, "mpi",
              [&] { return "rank " + std::to_string(rank) + " of the job is started once more: " + e.what(); });
        }
      }
      if (!it->is_same_program(me_)) throw different_programs("the process that has been started for a rank");
      if (it->node != job_.facts_of(rank).node)
        throw mpi_error::unusable(std::string("its new process is on ") + it->host.data());
      is_member = true;
      join(rank, *it);
      process->release();
      log(log_level::warning, "mpi", [&] {
        return "rank " + std::to_string(rank) + " of the job is from now on process " + std::to_string(it->process) +
               " on " + it->host.data();
      });
    } catch (const std::exception& e) {
      log(log_level::warning, "mpi",
          [&] { return "rank " + std::to_string(rank) + " of the job is not started again: " + e.what(); });
    }
    if (is_member && !job_.is_alive(member_)) return;  // its turn comes
    job_.members().set_to_return(rank, false);
    job_.core().place_groups_again();
  }

 private:
  void join(int rank, const introduction& it) {
    const int member = member_;
    acquaintance who{.member = member, .rank = rank, .comm = way_, .card = {.process = it.process}};
    std::string(it.host.data()).copy(who.card.host, sizeof who.card.host - 1);
    who.is_near = it.node == me_.node;
    link_.admit(who);  // before who lives is written down: it is told of deaths from now on
    try {
      tell(rank, it);
      for (int m = 1; m < member; ++m) {
        if (!is_known_[static_cast<std::size_t>(m)]) continue;
        const auto port = receive<port_name>([this] { throw_if_lost(); });
        const bool is_near = job_.facts_of(m).node == it.node;
        cadre::detail::ask<connect_request, void>(
            job_, m, {}, false, "a connection", false, {},
            [&](output_archive& out) { out(member, rank, is_near, who.card.process, who.card.host, *port); })
            .get();
      }
      cadre::detail::ask<cadre::detail::activity_request, cadre::detail::serving_job::activity>(
          job_, member, {.counts = false}, false, "a new process", false, {}, [](output_archive&) {})
          .get();
      for (int m = 1; m < member; ++m) seat(m, member);
      job_.members().seat(member);
    } catch (const std::exception& e) {
      link_.declare_dead(member, std::string("it could not be connected with all others: ") + e.what());
      throw;
    }
  }
  void tell(int rank, const introduction& it) {
    const int member = member_;
    place_to_take place{.member = member,
                        .rank = rank,
                        .members = member + 1,
                        .most_members = link_.most_members(),
                        .job_number = job_number_,
                        .silence = silence_.count(),
                        .store = me_.store_on(it.node),
                        .by_rank = job_.members().all(),
                        .others = {}};
    is_known_.assign(static_cast<std::size_t>(member), false);
    for (int m = 0; m < member; ++m) {
      if (!job_.is_alive(m)) continue;
      is_known_[static_cast<std::size_t>(m)] = true;
      place.others.push_back({m, link_.rank_of(m), job_.facts_of(m).node == it.node, link_.card_of(m)});
    }
    const auto bytes = std::make_shared<std::vector<std::byte>>(to_bytes(place));
    const auto size = std::make_shared<std::uint64_t>(bytes->size());
    send(size, size.get(), sizeof *size);
    send(bytes, bytes->data(), bytes->size());
  }
  void seat(int at, int member) {
    if (!is_known_[static_cast<std::size_t>(at)]) return;
    try {
      cadre::detail::ask<seat_request, void>(job_, at, {}, false, "a rank's new process", false, {},
                                             [&](output_archive& out) { out(member); })
          .get();
    } catch (const error&) {  // it has died just now
    }
  }

  // Throws mpi_error (1102).
  void throw_if_lost() const {
    if (!link_.is_alive(member_)) throw mpi_error::unusable("its new process has ended");
  }
  void send(std::shared_ptr<const void> keep, const void* bytes, std::size_t n) {
    finish(
        std::move(keep),
        [&](MPI_Request& request) {
          check(::MPI_Isend(bytes, static_cast<int>(n), MPI_BYTE, 0, handshake_tag, way_, &request), "MPI_Isend");
        },
        [this] { throw_if_lost(); });
  }
  template <class T, class Alive>
  std::shared_ptr<T> receive(Alive&& alive) {
    const auto value = std::make_shared<T>();
    finish(
        value,
        [&](MPI_Request& request) {
          check(::MPI_Irecv(value.get(), static_cast<int>(sizeof(T)), MPI_BYTE, 0, handshake_tag, way_, &request),
                "MPI_Irecv");
        },
        alive);
    return value;
  }
  template <class Begin, class Alive>
  void finish(std::shared_ptr<const void> memory, Begin&& begin, Alive&& alive) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    MPI_Request request = MPI_REQUEST_NULL;
    const auto is_done = [&] {
      int done = 0;
      const std::lock_guard lock(environment::get().mutex());
      if (request == MPI_REQUEST_NULL) begin(request);
      check(::MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      return done != 0;
    };
    try {
      while (!is_done()) {
        alive();
        if (std::chrono::steady_clock::now() > deadline) throw mpi_error::unusable("its new process does not answer");
        std::this_thread::sleep_for(std::chrono::microseconds(100));  // others want the lock
      }
    } catch (...) {
      const std::lock_guard lock(environment::get().mutex());
      environment::get().keep(std::move(memory));
      throw;
    }
  }

  cadre::detail::serving_job& job_;
  message_link& link_;
  const introduction me_;
  const std::uint32_t job_number_;
  const std::chrono::nanoseconds silence_;
  int next_, member_ = 0;  // the one that is to join
  int stuck_ = 0;          // how many, one after the other, did not begin
  MPI_Comm way_ = MPI_COMM_NULL;
  std::vector<bool> is_known_;  // to the process that is being started
  std::atomic<bool> over_{false};
};

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
