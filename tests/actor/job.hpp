#ifndef CADRE_TESTS_ACTOR_JOB_HPP
#define CADRE_TESTS_ACTOR_JOB_HPP

#include "catch.hpp"

#include <cadre/actor/runtime.hpp>

#include <optional>
#include <utility>

/// The runtime that a test uses: one of this process, or the one that spans ranks, where the program has one.
class job {
 public:
  explicit job(cadre::runtime_options options = {.threads = 2}) {
    options.round_trip = GENERATE(false, true);  // each test case runs twice
    if (spanning == nullptr) own_.emplace(std::move(options));
  }
  cadre::runtime& operator*() { return spanning != nullptr ? *spanning : *own_; }
  cadre::runtime* operator->() { return &**this; }

  static inline cadre::runtime* spanning = nullptr;

 private:
  std::optional<cadre::runtime> own_;
};

#endif
