#ifndef CADRE_TESTS_ASYNC_ALL_THREADS_HPP
#define CADRE_TESTS_ASYNC_ALL_THREADS_HPP

#include <cadre/async/thread_pool.hpp>

#include <cstddef>
#include <latch>
#include <memory>

/// Returns once every thread of the pool runs tasks: one that the system has not begun yet allocates what belongs to it
/// only then. Posted, because who waits for a future may run the task himself.
inline void await_all_threads(cadre::thread_pool& pool) {
  const auto all = std::make_shared<std::latch>(static_cast<std::ptrdiff_t>(pool.size()) + 1);
  for (std::size_t i = 0; i < pool.size(); ++i) pool.post([all] { all->arrive_and_wait(); });
  all->arrive_and_wait();
}

#endif
