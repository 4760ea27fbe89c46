// ranks: 1 2 4 8
// Resources across ranks: actors that hold them, where work goes, placement groups.
#include "actor/job.hpp"
#include "catch_main.hpp"

#include <cadre/async/this_task.hpp>
#include <cadre/mpi.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace actor_placement_test {

using namespace std::chrono_literals;
using Catch::Contains;

const cadre::resource_set unit{{"unit", 1}};  // each rank has 2

// On whichever rank they run: what is set there is asked for there.
std::atomic<bool> open{false};
std::atomic<int> begun{0};
int where() { return cadre::this_task::runtime().rank(); }
int where_when_open() {
  ++begun;
  while (!open) std::this_thread::sleep_for(1ms);
  --begun;
  return where();
}
int count_begun() { return begun; }
void let_go(bool on) { open = on; }
void let_go_all(cadre::runtime& rt, bool on) {
  for (int r = 0; r < rt.world_size(); ++r) rt.submit<&let_go>({.on = cadre::on_rank(r)}, on).get();
}
int begun_on_all(cadre::runtime& rt) {
  int sum = 0;
  for (int r = 0; r < rt.world_size(); ++r) sum += rt.submit<&count_begun>({.on = cadre::on_rank(r)}).get();
  return sum;
}
void until_begun(cadre::runtime& rt, int n) {
  const auto end = std::chrono::steady_clock::now() + 20s;
  while (begun_on_all(rt) != n) REQUIRE(std::chrono::steady_clock::now() < end);
}
struct resident {
  int rank() { return where(); }
  int restarts() { return cadre::this_actor::restarts(); }
};
TEST_CASE("Tasks go where the fewest of their resources are spoken for", "[mpi]") {
  job rt;
  const auto n = static_cast<std::size_t>(rt->world_size());
  let_go_all(*rt, false);
  std::vector<cadre::future<int>> all;
  for (std::size_t k = 0; k < 2 * n; ++k) all.push_back(rt->submit<&where_when_open>({.resources = unit}));
  until_begun(*rt, static_cast<int>(2 * n));  // all of them run at once, two on each rank
  let_go_all(*rt, true);
  std::vector<int> on(n);
  for (auto& f : all) ++on[static_cast<std::size_t>(f.get())];
  CHECK(on == std::vector<int>(n, 2));
  // One rank is full: others are chosen.
  let_go_all(*rt, false);
  std::vector<cadre::future<int>> full;
  for (int k = 0; k < 2; ++k)
    full.push_back(rt->submit<&where_when_open>({.resources = unit, .on = cadre::on_rank(0)}));
  for (std::size_t k = 0; n > 1 && k < 4; ++k) CHECK(rt->submit<&where>({.resources = unit}).get() != 0);
  let_go_all(*rt, true);
  for (auto& f : full) CHECK(f.get() == 0);
  for (int k = 0; k < 4; ++k) CHECK(rt->submit<&where>({.resources = unit, .on = cadre::pack}).get() == 0);
}

TEST_CASE("Actors are made where their resources are, and give them back when they end", "[mpi]") {
  job rt;
  const int n = rt->world_size();
  for (int round = 0; round < 3; ++round) {
    std::vector<cadre::actor<resident>> all;
    std::vector<int> on(static_cast<std::size_t>(n));
    for (int k = 0; k < 2 * n; ++k) all.push_back(rt->actor<resident>({.resources = unit}));
    for (const auto& a : all) ++on[static_cast<std::size_t>(a.call<&resident::rank>().get())];
    CHECK(on == std::vector<int>(static_cast<std::size_t>(n), 2));
    const int last = n - 1;
    auto waits = rt->submit<&where>({.resources = unit, .on = cadre::on_rank(last)});
    CHECK_FALSE(waits.wait_for(20ms));
    for (const auto& a : all) {
      const bool killed = a.call<&resident::rank>().get() % 2 == 0 && a.kill();
      if (!killed) a.stop().get();
    }
    CHECK(waits.get() == last);
  }
  CHECK_THROWS_WITH(rt->actor<resident>({.resources = {{"unit", 3}}}), Contains("[cadre.async.209]"));
  const auto again = rt->actor<resident>({.on = cadre::on_rank(n - 1), .max_restarts = 1, .resources = {{"unit", 2}}});
  again.kill({.no_restart = false});
  CHECK(again.call<&resident::restarts>().get() == 1);
  again.stop().get();
}

TEST_CASE("A placement group is set aside on all its ranks or on none", "[mpi]") {
  job rt;
  const int n = rt->world_size();
  const std::vector<cadre::resource_set> all(static_cast<std::size_t>(2 * n), unit);
  const auto g = rt->placement_group(all, cadre::spread);
  CHECK(g.wait(20s));
  std::vector<int> on(static_cast<std::size_t>(n));
  for (std::size_t b = 0; b < g.size(); ++b)
    ++on[static_cast<std::size_t>(rt->submit<&where>({.resources = unit, .on = g.bundle(b)}).get())];
  CHECK(on == std::vector<int>(static_cast<std::size_t>(n), 2));
  const auto a = rt->actor<resident>({.on = g.bundle(0), .resources = unit});
  const auto b = rt->actor<resident>({.on = g, .resources = unit});
  CHECK(b.call<&resident::rank>().get() < n);
  // Two that want the same wait side by side, and what is in one waits with it.
  const auto second = rt->placement_group({.bundles = all, .strategy = cadre::spread, .name = "second"});
  const auto third = rt->placement_group({.bundles = all, .strategy = cadre::pack, .name = "third"});
  auto in_second = rt->submit<&where>({.resources = unit, .on = second.bundle(g.size() - 1)});
  CHECK_FALSE(second.wait(20ms));
  CHECK_FALSE(in_second.ready());
  rt->remove(g);
  CHECK_THROWS_AS(a.call<&resident::rank>().get(), cadre::actor_died);
  CHECK(second.wait(20s));
  CHECK(in_second.get() < n);
  CHECK_FALSE(third.wait(20ms));
  rt->remove(second);
  CHECK(third.wait(20s));
  rt->remove(third);
  rt->remove(third);
  CHECK_THROWS_AS(third.ready().get(), cadre::placement_group_gone);
  CHECK_THROWS_AS(rt->submit<&where>({.resources = unit, .on = third}).get(), cadre::placement_group_gone);
  for (int r = 0; r < n; ++r)
    CHECK(rt->submit<&where>({.resources = {{"unit", 2}}, .on = cadre::on_rank(r)}).get() == r);
}

TEST_CASE("A placement group goes with its handle, and any rank makes and removes one", "[mpi]") {
  job rt;
  const int last = rt->world_size() - 1;
  const auto g = rt->submit<[] {
                     return cadre::this_task::runtime().placement_group({unit, unit}, cadre::strict_pack);
                   }>({.on = cadre::on_rank(last)})
                     .get();
  CHECK(g.size() == 2);
  for (int r = 0; r <= last; ++r)
    CHECK(rt->submit<[](cadre::placement_group in) {
              cadre::runtime& here = cadre::this_task::runtime();
              in.ready().get();
              const auto a = here.actor<resident>({.on = in, .resources = unit});
              const int there = a.call<&resident::rank>().get();
              const bool same = here.submit<&where>({.resources = unit, .on = in}).get() >= 0 && there >= 0;
              a.stop().get();
              return same;
            }>({.on = cadre::on_rank(r)}, g)
              .get());
  CHECK_THROWS_WITH(rt->submit<&where>({.resources = {{"unit", 2}}, .on = g}), Contains("[cadre.async.209]"));
  rt->submit<[](cadre::placement_group in) { cadre::this_task::runtime().remove(in); }>({.on = cadre::on_rank(last)}, g)
      .get();
  CHECK_THROWS_AS(g.ready().get(), cadre::placement_group_gone);
  CHECK_THROWS_AS(rt->placement_group({unit, unit}, cadre::strict_spread), cadre::impossible_request);  // of one host
  CHECK_THROWS_WITH(rt->submit<[] {
                        static_cast<void>(cadre::this_task::runtime().placement_group({{{"unit", 3}}}, cadre::pack));
                      }>({.on = cadre::on_rank(last)})
                        .get(),
                    Contains("{unit 3}; this job has rank 0 on '"));
}

TEST_CASE("What runs in a placement group when it is removed is asked to stop, and then its place is free", "[mpi]") {
  job rt;
  const int last = rt->world_size() - 1;
  let_go_all(*rt, false);
  std::vector<cadre::resource_set> all(static_cast<std::size_t>(2 * (last + 1)), unit);
  const auto g = rt->placement_group({.bundles = all, .strategy = cadre::pack, .name = "busy"});
  std::size_t there = 0;  // a bundle of the last rank
  while (rt->submit<&where>({.resources = unit, .on = g.bundle(there)}).get() != last) ++there;
  auto runs = rt->submit<&where_when_open>({.resources = unit, .on = g.bundle(there)});
  until_begun(*rt, 1);
  auto waits = rt->submit<&where>({.resources = unit, .on = g.bundle(there)});
  rt->remove(g);
  CHECK_THROWS_WITH(waits.get(), Contains("the placement group 'busy' is gone: it was removed"));
  auto outside = rt->submit<&where>({.resources = {{"unit", 2}}, .on = cadre::on_rank(last)});
  CHECK_FALSE(outside.wait_for(20ms));
  let_go_all(*rt, true);
  CHECK(runs.get() == last);
  CHECK(outside.get() == last);
}

// Leaves to the end of the job: actors that hold all there is, tasks and calls that wait for it, a group that waits.
void leave_much_behind(cadre::runtime& rt) {
  for (int k = 0; k < 2 * rt.world_size(); ++k) static_cast<void>(rt.actor<resident>({.resources = unit}));
  for (int r = 0; r < rt.world_size(); ++r) {
    const cadre::placement there = cadre::on_rank(r);
    static_cast<void>(rt.submit<&where>({.resources = unit, .on = there}));
    rt.actor<resident>({.on = there, .resources = unit}).tell<&resident::rank>();
    static_cast<void>(rt.actor<resident>({.on = there, .resources = unit}).call<&resident::rank>());
  }
  const auto g = rt.placement_group({unit}, cadre::pack);
  static_cast<void>(rt.submit<&where>({.resources = unit, .on = g}));
  static_cast<void>(rt.submit<[](cadre::placement_group in) { return in.wait(1ms); }>(
      {.on = cadre::on_rank(rt.world_size() - 1)}, g));
}

}  // namespace actor_placement_test

int main(int argc, char** argv) {
  return cadre::mpi::run(argc, argv,
                         [&](cadre::runtime& rt) {
                           job::spanning = &rt;
                           const int failed = run_tests(argc, argv, "~[one process]");
                           actor_placement_test::leave_much_behind(rt);
                           return failed;
                         },
                         {.threads = 3, .resources = {{"unit", 2}}});
}
