#ifndef CADRE_TESTS_ASYNC_OVERLAPS_HPP
#define CADRE_TESTS_ASYNC_OVERLAPS_HPP

#include <cadre/async.hpp>

#include <atomic>
#include <thread>
#include <vector>

/// How many of some tasks that never block find another one running: none if one thread takes tasks. A thread too many parks
/// only when it has been woken, so this is looked at again as often as there may be some.
inline int overlaps(cadre::thread_pool& pool, int threads_too_many) {
  std::atomic<int> running = 0, found = 1;
  for (int round = 0; round <= threads_too_many && found != 0; ++round) {
    found = 0;
    std::vector<cadre::future<void>> tasks;
    for (int i = 0; i < 2'000; ++i)
      tasks.push_back(pool.submit([&] {
        if (++running > 1) ++found;
        std::this_thread::yield();
        --running;
      }));
    for (auto& t : tasks) t.get();
  }
  return found;
}

#endif
