#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/store/object_promise.hpp>

#include <chrono>
#include <utility>

namespace runtime_core_test {

using namespace std::chrono_literals;

int plus_one(const int& x) { return x + 1; }

TEST_CASE("The only thread of a pool gets an object that another of its tasks makes by a promise",
          "[runtime][one process]") {
  job rt({.threads = 1});
  REQUIRE(rt->submit<[] {
              cadre::runtime& inner = cadre::this_task::runtime();
              auto p = inner.store().promise<int>();
              const auto ref = p.ref();
              inner.pool().post([q = std::move(p)]() mutable { std::move(q).set(5); });
              const auto view = inner.get(ref, 10s);
              return *view;
            }>()
              .get() == 5);
  auto p = rt->store().promise<int>();
  auto shown = rt->submit<&plus_one>(p.ref());
  rt->pool().post([q = std::move(p)]() mutable { std::move(q).set(6); });
  CHECK(shown.get() == 7);
}

}  // namespace runtime_core_test
