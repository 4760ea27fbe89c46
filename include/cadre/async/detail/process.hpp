#ifndef CADRE_ASYNC_DETAIL_PROCESS_HPP
#define CADRE_ASYNC_DETAIL_PROCESS_HPP

#include <cadre/config/config.hpp>

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <mutex>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The locks that all pools of a process share; in the order in which more than one may be taken. Never destroyed: tasks
/// may be freed while the statics of the program are being destroyed.
struct process_locks {
  std::mutex pools;   // which pools there are
  std::mutex waits;   // who sleeps until which task is done
  std::mutex family;  // whose child a task is
  std::mutex nodes;   // the depot of node memory
  std::mutex pages;   // huge pages that are kept for the next who wants one
};
inline process_locks& the_locks() noexcept {
  static constinit process_locks locks;
  return locks;
}

/// How often this process is the child of a fork(): a pool that has another number has no threads here.
inline constinit std::atomic<std::uint32_t> fork_count{0};

/// Counts forks, and keeps a child from finding a lock held by a thread that it does not have.
inline void watch_forks() noexcept {
  static const int registered = ::pthread_atfork(
      [] {
        process_locks& l = the_locks();
        l.pools.lock();
        l.waits.lock();
        l.family.lock();
        l.nodes.lock();
        l.pages.lock();
      },
      [] {
        process_locks& l = the_locks();
        l.pages.unlock();
        l.nodes.unlock();
        l.family.unlock();
        l.waits.unlock();
        l.pools.unlock();
      },
      [] {
        process_locks& l = the_locks();
        l.pages.unlock();
        l.nodes.unlock();
        l.family.unlock();
        l.waits.unlock();
        l.pools.unlock();
        fork_count.fetch_add(1, std::memory_order_relaxed);
      });
  static_cast<void>(registered);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
