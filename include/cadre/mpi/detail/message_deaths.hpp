#ifndef CADRE_MPI_DETAIL_MESSAGE_DEATHS_HPP
#define CADRE_MPI_DETAIL_MESSAGE_DEATHS_HPP

// How a message_link learns of deaths, and what it does then.
#include <cadre/core/chrono.hpp>
#include <cadre/mpi/detail/heartbeats.hpp>
#include <cadre/mpi/detail/message_link_class.hpp>
#include <cadre/mpi/detail/mpi_api.hpp>
#include <cadre/mpi/detail/transfers.hpp>
#include <cadre/mpi/environment.hpp>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace mpi::detail {

inline void message_link::declare_dead(int rank, std::string how, knowledge by) {
  {
    const std::lock_guard lock(deaths_mutex_);
    peer& p = at(rank);
    if (p.is_to_come) p.is_to_come = false;  // it never will
    if (rank == rank_ || !p.alive.load(std::memory_order_relaxed)) return;
    p.how_it_died = std::move(how);
    p.known_by = by;
    deaths_.push_back(rank);
    p.alive.store(false, std::memory_order_release);
    somebody_died_.store(true);
    environment_.note_death(rank == 0, rank_ != 0 && !at(0).is_near);
    has_deaths_.store(true, std::memory_order_release);
  }
  bell().ring();
}

inline void message_link::bury() noexcept {
  std::vector<int> dead;
  {
    const std::lock_guard lock(deaths_mutex_);
    dead.swap(deaths_);
    has_deaths_.store(false, std::memory_order_release);
  }
  for (const int rank : dead) {
    peer& p = at(rank);
    p.in.close();
    p.buried = true;
    std::erase_if(from_rings_, [&](const auto& r) { return r.first == rank; });
    note_awaited();
    std::vector<std::shared_ptr<blocks_in>> lost;
    std::vector<std::shared_ptr<const void>> keeps;  // let go without a lock
    p.blocks_to_come.abandon([&](std::shared_ptr<blocks_in>&& whole) { lost.push_back(std::move(whole)); });
    {
      const std::lock_guard lock(mpi());
      transfers_.drop(rank, [&](transfer&& undone, bool may_be_touched) {
        if (undone.into) lost.push_back(undone.into);
        std::shared_ptr<const void> memory = undone.batch  ? std::shared_ptr<const void>(std::move(undone.batch))
                                             : undone.into ? std::shared_ptr<const void>(undone.into)
                                                           : std::move(undone.keep);
        if (may_be_touched) environment_.keep(memory);
        keeps.push_back(std::move(memory));
      });
      for (block_in& one : p.to_come) lost.push_back(std::move(one.whole));
      p.to_come.clear();
      for (block_out& one : p.to_leave) keeps.push_back(std::move(one.keep));
      p.to_leave.clear();
      for (block_out& block : p.blocks_to_go.abandon()) keeps.push_back(std::move(block.keep));
      if (p.comm == comm_) inbox_.add({.comm = comm_}, most_leaving);
    }
    const auto unsent = p.out.abandon();
    delivering_ = this;
    for (const auto& one : lost)
      if (!std::exchange(one->over, true) && one->where.done) one->where.done(false);
    sink_->died(rank, p.how_it_died);
    delivering_ = nullptr;
    pass_on(rank, p.how_it_died, p.known_by);
  }
}

// All ranks learn it from rank 0; of its own death those of other nodes learn from those of its node. That it does not
// answer here does not mean that it does not answer elsewhere.
inline void message_link::pass_on(int dead, const std::string& how, knowledge by) {
  if (is_one_node_) return;
  for (int r = 0; r < members(); ++r) {
    peer& p = at(r);
    if (r == rank_ || !is_alive(r)) continue;
    const bool is_to_know = rank_ == 0  ? true
                            : dead == 0 ? by == knowledge::seen && !p.is_near
                                        : by != knowledge::told && r == 0;
    if (!is_to_know) continue;
    const auto done = p.out.tell_death(dead, how);
    if (done.allowed()) note(r, p, done);
  }
  flush();
}

inline bool message_link::admit(const acquaintance& newcomer) {
  peer& p = at(newcomer.member);
  const std::lock_guard mpi_lock(mpi());
  const std::lock_guard lock(deaths_mutex_);
  if (!std::exchange(p.is_to_come, false)) return false;
  p.rank = newcomer.rank;
  p.comm = newcomer.comm;
  p.is_near = newcomer.is_near;
  processes_[static_cast<std::size_t>(newcomer.member)] = newcomer.card;
  check(::MPI_Comm_set_errhandler(p.comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  inbox_.add({p.comm, 0, newcomer.member}, most_leaving);
  newcomers_.push_back(newcomer.member);
  is_one_node_.store(false);
  int known = members_.load();
  while (known <= newcomer.member && !members_.compare_exchange_weak(known, newcomer.member + 1)) {}
  p.alive.store(true, std::memory_order_release);
  has_newcomers_.store(true, std::memory_order_release);
  return true;
}

// By the thread that looks at the others too.
inline void message_link::watch_newcomers() {
  if (!has_newcomers_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(deaths_mutex_);
  has_newcomers_.store(false, std::memory_order_relaxed);
  for (const int member : std::exchange(newcomers_, {}))
    at(member).is_near ? watch_->add(member, card_of(member).process) : beats_->add(member, rank_);
}

inline void message_link::beat() {
  beats_->look(
      [&](int r) -> std::optional<heartbeats::signs> {
        peer& p = at(r);
        if (!is_alive(r) || p.is_complete.load(std::memory_order_relaxed)) return {};
        return heartbeats::signs{p.heard.exchange(false, std::memory_order_relaxed),
                                 p.spoken.exchange(false, std::memory_order_relaxed)};
      },
      [&](int r) {
        peer& p = at(r);
        const std::lock_guard lock(mpi());
        if (!p.out.is_confirmed()) push(r, p, false, true);  // a batch of nothing; none behind the last one
      },
      [&](int r) {
        const process_card& it = processes_[static_cast<std::size_t>(r)];
        char seconds[32];
        std::snprintf(seconds, sizeof seconds, "%.1f", std::chrono::duration<double>(options_.silence).count());
        declare_dead(r, "no sign of life of its process " + std::to_string(it.process) + " on " + it.host + " for " +
                            seconds + " s");
      });
}

}  // namespace mpi::detail

CADRE_NAMESPACE_END

#endif
