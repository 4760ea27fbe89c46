#ifndef CADRE_TESTS_ASYNC_SOON_HPP
#define CADRE_TESTS_ASYNC_SOON_HPP

#include <chrono>
#include <thread>

/// Waits until the condition holds; false if it does not within half a minute.
template <class Condition>
bool soon(Condition condition) {
  for (const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30); !condition();
       std::this_thread::yield())
    if (std::chrono::steady_clock::now() > deadline) return false;
  return true;
}

#endif
