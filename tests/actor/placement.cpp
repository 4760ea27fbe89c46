#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/actor/detail/where.hpp>
#include <cadre/async/this_task.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace placement_test {

using namespace std::chrono_literals;
using Catch::Contains;
namespace detail = cadre::detail;
using kind = cadre::placement::kind;

const auto all = [](int) { return true; };
/// Two ranks on each of two nodes, as mpirun may number them.
std::shared_ptr<detail::places> two_by_two() {
  const cadre::resource_set two{{"cpu", 2}}, gpu{{"cpu", 2}, {"gpu", 1}};
  return std::make_shared<detail::places>(
      std::vector<detail::places::place>{{"a", two}, {"b", two}, {"a", two}, {"b", gpu}});
}
std::string chosen(detail::places& places, kind how, int n, const cadre::resource_set& wanted = detail::one_cpu()) {
  std::string text;
  for (int k = 0; k < n; ++k) {
    const int p = places.choose(wanted, how, all);
    text += p == detail::places::none ? "-" : std::to_string(p);
    if (p != detail::places::none) places.take(p, wanted);
  }
  return text;
}

TEST_CASE("Work goes where the least of what it wants is spoken for, and in turn where that is equal", "[placement]") {
  const auto places = two_by_two();
  std::string each = chosen(*places, kind::anywhere, 4);
  std::sort(each.begin(), each.end());
  CHECK(each == "0123");
  places->give_back(2, detail::one_cpu());
  CHECK(chosen(*places, kind::anywhere, 1) == "2");
  CHECK(chosen(*places, kind::anywhere, 2, {{"gpu", 0.5}}) == "33");
  CHECK(chosen(*places, kind::anywhere, 1, {{"gpu", 2}}) == "-");
  CHECK(chosen(*places, kind::anywhere, 1, {{"TPU", 1}}) == "-");
  CHECK(chosen(*places, kind::anywhere, 1, {{"TPU", 0}}) != "-");
  CHECK(places->choose(detail::one_cpu(), kind::anywhere, [](int p) { return p == 1; }) == 1);
}

TEST_CASE("Sums of the largest amounts that can be asked for have room", "[placement]") {
  const cadre::resource_set most{{"x", 8e14}};
  detail::places places({{"a", most}, {"b", most}});
  places.take(0, most);
  CHECK(places.choose(most, kind::anywhere, all) == 1);
  places.take(1, most);
  CHECK(places.choose({{"x", 4e14}}, kind::anywhere, all) != detail::places::none);
  cadre::runtime rt({.threads = 1});
  CHECK_THROWS_AS(rt.placement_group({{{"a", 8e14}, {"b", 8e14}}, {{"a", 1}}}, cadre::pack), cadre::impossible_request);
}

TEST_CASE("Work that is spread goes over the nodes first; packed, it fills one node after the other", "[placement]") {
  CHECK(chosen(*two_by_two(), kind::spread, 8) == "01230123");
  CHECK(chosen(*two_by_two(), kind::pack, 9) == "002211330");  // with no room left, where the share is least
  const auto places = two_by_two();
  CHECK(chosen(*places, kind::spread, 2, {{"gpu", 1}}) == "33");
  CHECK(places->choose(detail::one_cpu(), kind::anywhere, all, 1) == 1);  // near: of node b, the one with more room
  places->take(1, {{"cpu", 2}});
  places->take(3, {{"cpu", 2}});
  CHECK(places->choose(detail::one_cpu(), kind::anywhere, all, 1) != 1);
}

TEST_CASE("What a request has spoken for is free again when it is over", "[placement]") {
  const auto places = two_by_two();
  {
    detail::charge first(places, 0, {{"cpu", 2}}), second;
    second = std::move(first);
    CHECK(chosen(*places, kind::pack, 1) == "2");
    places->give_back(2, detail::one_cpu());
    first = detail::charge(places, 2, {});
    second.settle();
    CHECK(places->choose({{"cpu", 2}}, kind::pack, all) == 0);
    CHECK(places->choose({{"cpu", 2}}, kind::pack, [](int p) { return p != 0; }) == 1);  // 2 is half spoken for
  }
  CHECK(places->choose({{"cpu", 2}}, kind::pack, [](int p) { return p != 0; }) == 2);
}

/// Set to 1 to let go what waits in an actor or task.
std::atomic<int> open{0}, constructed{0}, ended{0}, blocked{0};
void until(const std::atomic<int>& what, int value) {
  const auto end = std::chrono::steady_clock::now() + 20s;
  while (what < value) {
    REQUIRE(std::chrono::steady_clock::now() < end);
    std::this_thread::yield();
  }
}
void wait_until_open() {
  ++blocked;
  while (open == 0) std::this_thread::yield();
}
struct fixture {
  fixture() { open = constructed = ended = blocked = 0; }
};
int seven() { return 7; }
struct on_gpu {
  on_gpu() : seen(cadre::this_task::gpus()) { ++constructed; }
  explicit on_gpu(int fail) : on_gpu() {
    if (fail != 0) throw std::runtime_error("no such device");
  }
  on_gpu(const on_gpu&) = delete;
  ~on_gpu() { ++ended; }
  std::vector<int> at_first() { return seen; }
  std::vector<int> gpus() { return cadre::this_task::gpus(); }
  int cpus() { return cadre::this_task::cpus(); }
  cadre::future<std::vector<int>> gpus_behind_await() {
    std::vector<int> said = cadre::this_task::gpus();
    for (int k = 0; k < 2; ++k) {
      co_await cadre::this_task::runtime().submit<&seven>();
      for (const int d : cadre::this_task::gpus()) said.push_back(d + 10 * cadre::this_task::cpus());
    }
    co_return said;
  }
  void block() { wait_until_open(); }
  std::vector<int> seen;
};
std::vector<int> gpus_of_task() { return cadre::this_task::gpus(); }
std::vector<int> gpus_when_open() {
  wait_until_open();
  return cadre::this_task::gpus();
}
const cadre::resource_set gpu{{"gpu", 1}};
cadre::runtime_options two_gpus(std::size_t threads = 2) { return {.threads = threads, .resources = {{"gpu", 2}}}; }

TEST_CASE_METHOD(fixture, "An actor holds its resources from its constructor to its end", "[placement]") {
  const bool round_trip = GENERATE(false, true);
  auto options = two_gpus();
  options.round_trip = round_trip;
  cadre::runtime rt(std::move(options));
  const auto a = rt.actor<on_gpu>({.resources = gpu}), b = rt.actor<on_gpu>({.resources = gpu});
  CHECK(a.call<&on_gpu::at_first>().get() == std::vector<int>{0});
  CHECK(a.call<&on_gpu::gpus>().get() == std::vector<int>{0});
  CHECK(b.call<&on_gpu::gpus>().get() == std::vector<int>{1});
  CHECK(b.call<&on_gpu::gpus_behind_await>().get() == std::vector<int>{1, 11, 11});
  auto task = rt.submit<&gpus_of_task>({.resources = gpu});
  CHECK_FALSE(task.wait_for(20ms));
  SECTION("stopped") { b.stop().get(); }
  SECTION("killed") { b.kill(); }
  CHECK(task.get() == std::vector<int>{1});
  CHECK(rt.actor<on_gpu>({.resources = {{"cpu", 2}}}).call<&on_gpu::cpus>().get() == 2);
  CHECK(rt.actor<on_gpu>({.at = {}}).call<&on_gpu::cpus>().get() == 1);
  CHECK(rt.actor<on_gpu>({.at = {}}).call<&on_gpu::gpus>().get().empty());
}

TEST_CASE_METHOD(fixture, "A constructor waits for its resources in turn, and calls wait for it", "[placement]") {
  cadre::runtime rt({.threads = GENERATE(1u, 2u), .resources = {{"gpu", 1}}});
  const auto first = rt.actor<on_gpu>({.resources = gpu});
  const auto second = rt.actor<on_gpu>({.name = "second", .resources = gpu});
  auto task = rt.submit<&gpus_of_task>({.resources = gpu});
  auto call = second.call<&on_gpu::gpus>();
  first.call<&on_gpu::gpus>().get();
  CHECK(rt.submit<&seven>().get() == 7);  // no thread is held
  CHECK_FALSE(call.wait_for(20ms));
  CHECK(constructed == 1);
  CHECK(rt.find_actor<on_gpu>("second") == second);
  first.stop();
  CHECK(call.get() == std::vector<int>{0});
  CHECK_FALSE(task.ready());
  second.stop();
  CHECK(task.get() == std::vector<int>{0});
}

TEST_CASE_METHOD(fixture, "An actor that waits for resources in vain is like any other", "[placement]") {
  std::optional<cadre::runtime> rt;
  rt.emplace(cadre::runtime_options{.threads = 1, .resources = {{"gpu", 1}}});
  const auto holder = rt->actor<on_gpu>({.resources = gpu});
  holder.call<&on_gpu::gpus>().get();
  const auto waits = rt->actor<on_gpu>({.max_restarts = 1, .resources = gpu});
  auto call = waits.call<&on_gpu::gpus>();
  SECTION("killed, its calls fail and the next in line is served") {
    auto task = rt->submit<&gpus_of_task>({.resources = gpu});
    CHECK(waits.kill());
    CHECK_THROWS_WITH(call.get(), Contains("it was killed"));
    holder.kill();
    CHECK(task.get() == std::vector<int>{0});
    CHECK(constructed == 1);
  }
  SECTION("cancelled calls never run") {
    call.cancel();
    CHECK_THROWS_AS(call.get(), cadre::task_cancelled);
    holder.kill();
    CHECK(waits.call<&on_gpu::gpus>().get() == std::vector<int>{0});
  }
  SECTION("killed to be made anew, it goes on waiting") {
    CHECK(waits.kill({.no_restart = false}));
    CHECK_THROWS_WITH(call.get(), Contains("a call is lost"));
    auto again = waits.call<&on_gpu::gpus>();
    CHECK_FALSE(again.wait_for(20ms));
    holder.kill();
    CHECK(again.get() == std::vector<int>{0});
  }
  SECTION("waited for in a task of the only thread, which does what must come before") {
    CHECK(rt->submit<[](cadre::actor<on_gpu> h, cadre::actor<on_gpu> w) {
              auto asked = w.call<&on_gpu::gpus>();
              h.stop();
              return asked.get();
            }>(holder, waits)
              .get() == std::vector<int>{0});
  }
  SECTION("at the end of the runtime it has what others held, and so have tasks") {
    auto task = rt->submit<&seven>({.resources = gpu});
    rt.reset();
    CHECK(call.get() == std::vector<int>{0});
    CHECK(task.get() == 7);
    CHECK(constructed == ended);
  }
}

TEST_CASE_METHOD(fixture, "What an actor holds is given back when it has ended, not before", "[placement]") {
  cadre::runtime rt({.threads = 2, .resources = {{"gpu", 1}}});
  SECTION("a call that runs when it is killed goes on with it") {
    const auto a = rt.actor<on_gpu>({.resources = gpu});
    auto blocks = a.call<&on_gpu::block>();
    until(blocked, 1);
    a.kill();
    auto task = rt.submit<&gpus_of_task>({.resources = gpu});
    const bool too_early = task.wait_for(20ms) && ended == 0;
    open = 1;
    CHECK_FALSE(too_early);
    CHECK(task.get() == std::vector<int>{0});
    CHECK(ended == 1);
  }
  SECTION("a constructor that throws holds nothing") {
    const auto a = rt.actor<on_gpu>({.resources = gpu}, 1);
    CHECK_THROWS_WITH(a.call<&on_gpu::gpus>().get(), Contains("no such device"));
    CHECK(rt.submit<&gpus_of_task>({.resources = gpu}).get() == std::vector<int>{0});
  }
  SECTION("one that is made anew in place keeps it") {
    const auto a = rt.actor<on_gpu>({.max_restarts = 1, .resources = gpu});
    a.call<&on_gpu::gpus>().get();
    auto task = rt.submit<&gpus_of_task>({.resources = gpu});
    a.kill({.no_restart = false});
    CHECK(a.call<&on_gpu::at_first>().get() == std::vector<int>{0});
    CHECK(constructed == 2);
    CHECK_FALSE(task.ready());
    a.kill();
    CHECK(task.get() == std::vector<int>{0});
  }
  SECTION("a name that is taken costs nothing") {
    const auto a = rt.actor<on_gpu>({.name = "one", .resources = gpu});
    CHECK_THROWS_AS(rt.actor<on_gpu>({.name = "one", .resources = gpu}), cadre::actor_name_taken);
    CHECK(rt.actor<on_gpu>({.name = "one", .get_or_create = true, .resources = gpu}) == a);
    a.kill();
    CHECK(rt.submit<&gpus_of_task>({.resources = gpu}).get() == std::vector<int>{0});
  }
}

TEST_CASE_METHOD(fixture, "Tasks and actors are told the devices that the options name", "[placement]") {
  cadre::runtime rt({.threads = 2, .gpus = {7, 3}});
  CHECK(rt.submit<&gpus_of_task>({.resources = {{"gpu", 2}}}).get() == std::vector<int>{3, 7});
  const auto a = rt.actor<on_gpu>({.resources = gpu});
  CHECK(a.call<&on_gpu::gpus>().get() == std::vector<int>{3});
  CHECK(rt.submit<&gpus_of_task>({.resources = gpu}).get() == std::vector<int>{7});
  const cadre::placement_group g = rt.placement_group({gpu}, cadre::pack);
  CHECK(rt.submit<&gpus_of_task>({.resources = gpu, .on = g}).get() == std::vector<int>{7});
  a.kill();
  CHECK(rt.submit<&gpus_of_task>({.resources = gpu}).get() == std::vector<int>{3});

  const auto text_of = [](cadre::runtime_options options) {
    try {
      const cadre::runtime other(std::move(options));
    } catch (const cadre::impossible_request& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(text_of({.threads = 1, .gpus = {2, 1, 2}}) ==
        "[cadre.async.209] this request of resources can never be met: the same device twice; name each once in .gpus");
  CHECK(
      text_of({.threads = 1, .resources = {{"gpu", 1}}, .gpus = {1, 2}}) ==
      "[cadre.async.209] this request of resources can never be met: 2 devices in .gpus, and a runtime that has gpu 1; "
      "leave \"gpu\" to .gpus");
  CHECK(text_of({.threads = 1, .resources = {{"gpu", 2}}, .gpus = {1, 2}}).empty());
}

TEST_CASE_METHOD(fixture, "An actor that no rank has the resources for is refused at once", "[placement]") {
  cadre::runtime rt(two_gpus());
  CHECK_THROWS_WITH(rt.actor<on_gpu>({.resources = {{"gpu", 3}}}), Contains("[cadre.async.209]") && Contains("gpu 2"));
  CHECK_THROWS_AS(rt.actor<on_gpu>({.resources = {{"TPU", 1}}}), cadre::impossible_request);
  CHECK(constructed == 0);
}

// ---- Placement groups

TEST_CASE_METHOD(fixture, "Tasks and actors of a placement group take their resources out of its bundles",
                 "[placement]") {
  auto options = two_gpus();
  options.round_trip = GENERATE(false, true);
  cadre::runtime rt(std::move(options));
  const cadre::placement_group g = rt.placement_group({{{"gpu", 1}}, {{"cpu", 1}, {"gpu", 0.5}}}, cadre::pack);
  CHECK(g.size() == 2);
  g.ready().get();
  CHECK(g.wait(0ns));
  CHECK(rt.submit<&gpus_of_task>({.resources = {{"gpu", 0.5}}}).get() == std::vector<int>{1});
  // What is set aside is for the group alone.
  auto outside = rt.submit<&gpus_of_task>({.resources = gpu});
  CHECK_FALSE(outside.wait_for(20ms));
  CHECK(rt.submit<&gpus_of_task>({.resources = gpu, .on = g.bundle(0)}).get() == std::vector<int>{0});
  CHECK(rt.submit<&gpus_of_task>({.resources = {{"gpu", 0.25}}, .on = g.bundle(1)}).get() == std::vector<int>{1});
  CHECK(rt.submit<&seven>({.on = g}).get() == 7);  // one cpu, of the only bundle that has one
  const auto a = rt.actor<on_gpu>({.on = g, .resources = gpu});
  CHECK(a.call<&on_gpu::gpus>().get() == std::vector<int>{0});
  auto waits = rt.submit<&gpus_of_task>({.resources = {{"gpu", 0.75}}, .on = g});
  CHECK_FALSE(waits.wait_for(20ms));
  a.stop();
  CHECK(waits.get() == std::vector<int>{0});
  rt.remove(g);
  CHECK(outside.get().size() == 1);
}

TEST_CASE_METHOD(fixture, "A placement group waits without holding a part, and what is in it waits for it",
                 "[placement]") {
  cadre::runtime rt(two_gpus());
  const auto holder = rt.actor<on_gpu>({.resources = gpu});
  holder.call<&on_gpu::gpus>().get();
  const auto g = rt.placement_group({.bundles = {gpu, gpu}, .name = "both"});
  const auto second = rt.placement_group({gpu, gpu}, cadre::spread);
  const auto of_cpus = rt.placement_group({{{"cpu", 1}}}, cadre::pack);
  CHECK_FALSE(g.wait(20ms));
  CHECK(of_cpus.wait(10s));  // passes by, as it wants none of the same
  auto ready = g.ready();
  auto in_first = rt.submit<&gpus_of_task>({.resources = gpu, .on = g.bundle(1)});
  const auto actor = rt.actor<on_gpu>({.on = g.bundle(0)});
  auto call = actor.call<&on_gpu::at_first>();
  CHECK(rt.submit<&gpus_of_task>({.resources = gpu}).get() == std::vector<int>{1});  // nothing of it is held
  CHECK_FALSE(in_first.ready());
  CHECK_FALSE(call.ready());
  holder.stop();
  ready.get();
  CHECK(in_first.get().size() == 1);
  CHECK(call.get().empty());
  CHECK_FALSE(second.wait(20ms));
  rt.remove(g);
  CHECK(second.wait(10s));
}

TEST_CASE_METHOD(fixture, "What is in a placement group ends with it", "[placement]") {
  cadre::runtime rt(two_gpus());
  const auto g = rt.placement_group({.bundles = {gpu}, .name = "g"});
  const auto other = rt.placement_group({.bundles = {gpu}, .name = "other"});
  SECTION("while it is there") {
    auto runs = rt.submit<&gpus_when_open>({.resources = gpu, .on = g});
    until(blocked, 1);
    auto waits = rt.submit<&gpus_of_task>({.resources = gpu, .on = g});
    const auto actor = rt.actor<on_gpu>({.on = other, .resources = gpu}),
               waiting = rt.actor<on_gpu>({.on = g, .resources = gpu});
    actor.call<&on_gpu::gpus>().get();
    auto call = waiting.call<&on_gpu::gpus>();
    auto outside = rt.submit<&gpus_of_task>({.resources = {{"gpu", 2}}});
    rt.remove(other);
    CHECK_THROWS_WITH(actor.call<&on_gpu::gpus>().get(),
                      Contains("the placement group 'other' is gone: it was removed"));
    rt.remove(g);
    rt.remove(g);
    CHECK_THROWS_WITH(waits.get(), Contains("[cadre.actor.617] the placement group 'g' is gone: it was removed"));
    CHECK_THROWS_AS(call.get(), cadre::actor_died);
    CHECK_THROWS_AS(rt.submit<&gpus_of_task>({.resources = gpu, .on = g}), cadre::placement_group_gone);
    CHECK_THROWS_AS(rt.actor<on_gpu>({.on = g}), cadre::placement_group_gone);
    CHECK_THROWS_AS(g.ready().get(), cadre::placement_group_gone);
    const bool too_early = outside.wait_for(20ms);
    open = 1;
    CHECK_FALSE(too_early);  // one of its tasks still runs
    CHECK(runs.get() == std::vector<int>{0});
    CHECK(outside.get() == std::vector<int>{0, 1});
  }
  SECTION("before it is there") {
    const auto waits = rt.placement_group({.bundles = {gpu}, .name = "waits"});
    auto task = rt.submit<&gpus_of_task>({.resources = gpu, .on = waits});
    auto gated = rt.submit<&gpus_when_open>({.resources = gpu, .on = g});
    auto ready = waits.ready();
    rt.remove(waits);
    CHECK_THROWS_AS(ready.get(), cadre::placement_group_gone);
    CHECK_THROWS_AS(task.get(), cadre::placement_group_gone);
    CHECK_THROWS_AS(waits.wait(1s), cadre::placement_group_gone);
    open = 1;
    CHECK(gated.get() == std::vector<int>{0});
  }
  SECTION("though it was to begin after something else") {
    auto first = rt.submit<&gpus_when_open>({.resources = gpu, .on = g});
    auto then = rt.submit<[](const std::vector<int>& ids) { return ids.size(); }>({.resources = gpu, .on = other},
                                                                                  std::move(first));
    rt.remove(other);
    open = 1;
    CHECK_THROWS_AS(then.get(), cadre::placement_group_gone);
  }
  SECTION("or with its runtime") {
    std::optional<cadre::runtime> ends;
    ends.emplace(two_gpus());
    const auto has = ends->placement_group({gpu, gpu}, cadre::pack), waits = ends->placement_group({gpu}, cadre::pack);
    auto ready = waits.ready();
    auto task = ends->submit<&gpus_of_task>({.resources = gpu, .on = waits});
    ends.reset();
    ready.get();  // when the first has ended
    CHECK(task.get().size() == 1);
    CHECK_THROWS_WITH(has.ready(), Contains("[cadre.actor.618] the runtime of this placement group has ended"));
  }
}

TEST_CASE_METHOD(fixture, "A bundle that is set aside twice holds what it has once", "[placement]") {
  struct : cadre::runtime {
    using runtime::core, runtime::runtime;
  } rt(two_gpus());
  detail::bundle_table& bundles = rt.core().bundles();
  bundles.expect(1, "g", {{0, gpu}});
  CHECK(bundles.set_aside(1, "g", {{0, gpu}}));
  CHECK(bundles.set_aside(1, "g", {{0, gpu}}));
  bundles.drop(1, "the test is over");
  auto both = rt.submit<&gpus_of_task>({.resources = {{"gpu", 2}}});
  REQUIRE(both.wait_for(10s));
  CHECK(both.get().size() == 2);
}

TEST_CASE_METHOD(fixture, "What a placement group can never give is refused at once", "[placement]") {
  cadre::runtime rt(two_gpus());
  CHECK_THROWS_WITH(
      rt.placement_group({gpu, {{"gpu", 2}}}, cadre::pack),
      Contains("[cadre.async.209]") && Contains("{gpu 1}, {gpu 2}; this job has rank 0 on '") && Contains("gpu 2"));
  CHECK_THROWS_WITH(rt.placement_group({gpu, gpu}, cadre::strict_spread), Contains("strict_spread"));
  CHECK_THROWS_AS(rt.placement_group({}), cadre::impossible_request);
  CHECK_THROWS_WITH(rt.placement_group({gpu}, cadre::on_rank(0)), Contains("strict_pack or strict_spread"));
  CHECK_THROWS_AS(rt.placement_group({{{"gpu", 0.6}}, {{"gpu", 0.6}}, {{"gpu", 0.6}}}, cadre::pack),
                  cadre::impossible_request);  // which fit into two devices as numbers alone
  const auto g = rt.placement_group({.bundles = {gpu, {{"cpu", 1}}}, .strategy = cadre::strict_pack, .name = "g"});
  CHECK_THROWS_WITH(rt.submit<&gpus_of_task>({.resources = {{"gpu", 2}}, .on = g}),
                    Contains("[cadre.async.209]") && Contains("gpu 2; no bundle of the placement group 'g' has that"));
  CHECK_THROWS_WITH(rt.submit<&gpus_of_task>({.resources = gpu, .on = g.bundle(1)}),
                    Contains("this bundle of the placement group 'g' has cpu 1. Ask for less"));
  CHECK_THROWS_AS(rt.actor<on_gpu>({.on = g, .resources = {{"cpu", 2}}}), cadre::impossible_request);
  CHECK_THROWS_WITH(g.bundle(2), Contains("[cadre.actor.618] there is no bundle 2 in a placement group of 2"));
  const cadre::placement_group none;
  CHECK_FALSE(none);
  CHECK_THROWS_WITH(rt.submit<&seven>({.on = none}), Contains("this handle refers to no placement group"));
  CHECK_THROWS_AS(rt.remove(none), cadre::empty_placement_group);
  CHECK_THROWS_AS(none.wait(1s), cadre::empty_placement_group);
}

TEST_CASE_METHOD(fixture, "The handle of a placement group goes with tasks to others", "[placement]") {
  cadre::runtime rt(two_gpus(1));
  const auto g = rt.placement_group({gpu, gpu}, cadre::pack);
  CHECK(rt.submit<[](cadre::placement_group in) {
            return cadre::this_task::runtime().submit<&gpus_of_task>({.resources = gpu, .on = in.bundle(1)}).get();
          }>(g)
            .get() == std::vector<int>{1});
  CHECK(rt.submit<[](cadre::placement_group in) { return in; }>(g).get() == g);
}

/// Two nodes of two ranks of 2 cpus, in which nothing runs.
class fake_ranks final : public detail::bundle_ranks {
 public:
  struct state {
    std::vector<detail::group_layout::rank> all, free;
    std::vector<int> refuse;           // the next time
    std::vector<std::string> dropped;  // "group at ranks"
    std::vector<std::string> lost;     // "bundle on rank"
    std::function<void()> when_set_aside;
    state() {
      for (int r = 0; r < 4; ++r) all.push_back({r, r, r % 2 == 0 ? "a" : "b", detail::room::of({{"cpu", 2}})});
      free = all;
    }
    void kill(int rank) {
      for (auto* ranks : {&all, &free}) std::erase_if(*ranks, [rank](const auto& one) { return one.number == rank; });
    }
  };
  explicit fake_ranks(state& s) : s_(s) {}
  std::vector<detail::group_layout::rank> all() override { return s_.all; }
  std::vector<detail::group_layout::rank> free() override { return s_.free; }
  bool set_aside(int r, std::uint64_t, const std::string&, const parts& which) override {
    if (s_.when_set_aside) std::exchange(s_.when_set_aside, {})();
    if (std::erase(s_.refuse, r) != 0) return false;
    if (!lives(r)) return true;  // it has answered before
    for (const auto& p : which) REQUIRE(free_of(r).take(p.resources));
    return true;
  }
  void take_back(int r, std::uint64_t, const parts& which) noexcept override {
    for (const auto& p : which) give_back(r, p.resources);
  }
  void lost(int r, const parts& which) noexcept override {
    for (const auto& p : which) s_.lost.push_back(std::to_string(p.index) + " on " + std::to_string(r));
  }
  [[nodiscard]] bool lives(int r) const noexcept override {
    return std::any_of(s_.all.begin(), s_.all.end(), [r](const auto& one) { return one.number == r; });
  }
  void drop(std::uint64_t group, const std::vector<int>& at, const std::vector<cadre::resource_set>& bundles,
            const std::string&) noexcept override {
    std::string text = std::to_string(group) + " at";
    for (std::size_t b = 0; b < at.size(); ++b) {
      if (at[b] == detail::group_layout::nowhere) continue;
      text += " " + std::to_string(at[b]);
      give_back(at[b], bundles[b]);
    }
    s_.dropped.push_back(text);
  }
  void run(cadre::move_only_function<void()> f) override { f(); }

 private:
  detail::room& free_of(int r) {
    for (auto& f : s_.free)
      if (f.number == r) return f.has;
    FAIL("no rank " << r);
    throw 0;
  }
  void give_back(int r, const cadre::resource_set& what) {
    for (const auto& e : what.entries()) free_of(r).free.set(e.name, free_of(r).free.find(e.name)->units + e.units);
  }
  state& s_;
};
struct faked {
  fake_ranks::state ranks;
  detail::placement_groups groups{std::make_unique<fake_ranks>(ranks)};

  std::uint64_t add(std::vector<cadre::resource_set> bundles, cadre::placement_strategy how) {
    return groups.add({std::move(bundles), how, {}}, 1);
  }
  /// "0 1": the ranks of its bundles; or why it is nowhere. Of one that does not wait.
  std::string at(std::uint64_t group) {
    std::string text;
    groups.when_placed(group, {}, [&](const detail::placement_groups::outcome& o) {
      for (const int r : o.ranks) text += (text.empty() ? "" : " ") + std::to_string(r);
      if (o.why == nullptr) return;
      try {
        std::rethrow_exception(o.why);
      } catch (const std::exception& e) {
        text = e.what();
      }
    });
    return text;
  }
};
const cadre::resource_set cpu{{"cpu", 1}}, two_cpus{{"cpu", 2}};

TEST_CASE("The strategy of a placement group says on which nodes and ranks its bundles are", "[placement]") {
  faked f;
  SECTION("pack") { CHECK(f.at(f.add({cpu, cpu, cpu, cpu, cpu}, cadre::pack)) == "0 0 2 2 1"); }
  SECTION("spread") { CHECK(f.at(f.add({cpu, cpu, cpu, cpu, cpu}, cadre::spread)) == "0 1 2 3 0"); }
  SECTION("strict_pack") {
    CHECK(f.at(f.add({cpu, two_cpus}, cadre::strict_pack)) == "2 0");
    CHECK(f.at(f.add({two_cpus, cpu}, cadre::strict_pack)) == "1 3");  // the other node, as the first has no room
    CHECK_THROWS_WITH(f.add({two_cpus, two_cpus, cpu}, cadre::strict_pack),
                      Contains("strict_pack; this job has rank 0"));
  }
  SECTION("strict_spread") {
    CHECK(f.at(f.add({two_cpus, two_cpus}, cadre::strict_spread)) == "0 1");
    CHECK(f.at(f.add({cpu, cpu}, cadre::strict_spread)) == "2 3");
    CHECK_THROWS_WITH(f.add({cpu, cpu, cpu}, cadre::strict_spread), Contains("strict_spread; this job has rank 0"));
  }
  SECTION("what goes in only where the large ones are placed first") {
    CHECK(f.at(f.add({cpu, cpu, two_cpus, two_cpus, two_cpus}, cadre::spread)).size() == 9);
  }
}

TEST_CASE("A placement group that cannot be set aside as a whole holds nothing", "[placement]") {
  faked f;
  f.ranks.refuse = {1};  // taken by somebody since it was looked at
  const auto g = f.add({two_cpus, two_cpus}, cadre::strict_spread);
  for (const auto& r : f.ranks.free) CHECK(r.has.free.amount("cpu") == 2);
  f.groups.try_again();
  CHECK(f.at(g) == "0 1");
  f.groups.remove(g);
  f.groups.remove(g);
  CHECK(f.ranks.dropped.back() == std::to_string(g) + " at 0 1");
  CHECK_THAT(f.at(g), Contains("[cadre.actor.617]"));
  CHECK_THROWS_AS(f.groups.find(g), cadre::placement_group_gone);
}

TEST_CASE("Placement groups are served in their order", "[placement]") {
  faked f;
  const auto first = f.add({two_cpus, two_cpus, two_cpus}, cadre::pack);
  const auto large = f.add({two_cpus, two_cpus}, cadre::pack), small = f.add({cpu}, cadre::pack);
  std::vector<std::uint64_t> placed;
  for (const auto g : {large, small}) f.groups.when_placed(g, {}, [&placed, g](const auto&) { placed.push_back(g); });
  f.groups.try_again();
  CHECK(placed.empty());  // though there is room for the small one
  f.groups.remove(first);
  f.groups.try_again();
  CHECK(placed == std::vector<std::uint64_t>{large, small});
}

TEST_CASE("A placement group that is removed while it is set aside is taken back", "[placement]") {
  faked f;
  f.ranks.when_set_aside = [&] { f.groups.remove(1); };
  CHECK(f.add({cpu, cpu}, cadre::spread) == 1);
  CHECK(f.ranks.dropped == std::vector<std::string>{"1 at", "1 at 0 1"});
  for (const auto& r : f.ranks.free) CHECK(r.has.free.amount("cpu") == 2);
}

TEST_CASE("A placement group that waits for what was lost with a rank is told so", "[placement]") {
  faked f;
  static_cast<void>(f.add({cpu}, cadre::pack));
  const auto g = f.add({two_cpus, two_cpus, two_cpus, two_cpus}, cadre::spread);
  std::string told;
  f.groups.when_placed(g, {}, [&](const detail::placement_groups::outcome& o) {
    CHECK_THROWS_AS(std::rethrow_exception(o.why), cadre::impossible_request);
    told = "told";
  });
  f.ranks.all.pop_back();
  f.ranks.free.pop_back();
  f.groups.try_again();
  CHECK(told == "told");
  CHECK_THROWS_AS(f.groups.find(g), cadre::impossible_request);
  CHECK_THAT(f.at(g), Contains("this job has rank 0"));
}

TEST_CASE("Bundles that are lost with a rank are placed once more, and the others stay", "[placement]") {
  faked f;
  const auto lose = [&f](int rank) {
    f.ranks.kill(rank);
    f.groups.lose(rank);
  };
  SECTION("on another rank, as the strategy says") {
    const auto spread = f.add({cpu, cpu, cpu}, cadre::spread), other = f.add({two_cpus}, cadre::pack);
    CHECK(f.at(spread) == "0 1 2");
    CHECK(f.at(other) == "3");
    std::string told;
    f.groups.when_placed(spread, {1}, [&](const detail::placement_groups::outcome& o) {
      for (const int r : o.ranks) told += std::to_string(r);
    });
    CHECK(told.empty());  // who asks knows it before
    lose(1);
    CHECK(f.at(spread) == "0 0 2");  // the other rank of its node is full
    CHECK(told == "002");
    CHECK(f.ranks.lost == std::vector<std::string>{"1 on 1"});
    CHECK(f.at(other) == "3");
    f.groups.remove(spread);
    CHECK(f.ranks.dropped.back() == std::to_string(spread) + " at 0 0 2");
  }
  SECTION("when there is room") {
    const auto g = f.add({two_cpus, two_cpus}, cadre::strict_spread), other = f.add({two_cpus}, cadre::pack),
               last = f.add({two_cpus}, cadre::pack);
    CHECK(f.at(g) == "0 1");
    CHECK(f.at(other) + f.at(last) == "23");
    lose(1);
    CHECK(f.groups.waiting() == 1);
    f.groups.remove(last);
    f.groups.try_again();
    CHECK(f.at(g) == "0 3");
    CHECK(f.groups.waiting() == 0);
  }
  SECTION("or never, which ends the group") {
    const auto g = f.add({two_cpus, two_cpus}, cadre::strict_spread);
    lose(3);
    CHECK(f.at(g) == "0 1");
    lose(1);
    CHECK_THAT(f.at(g), Contains("strict_spread; this job has rank 0"));
    CHECK(f.ranks.dropped.back() == std::to_string(g) + " at 0");
  }
  SECTION("also if the next rank dies while they are set aside there") {
    const auto g = f.add({cpu, cpu}, cadre::spread);
    CHECK(f.at(g) == "0 1");
    f.ranks.when_set_aside = [&] { f.ranks.kill(3); };
    lose(1);
    CHECK(f.at(g) == "0 2");
    CHECK(f.ranks.lost == std::vector<std::string>{"1 on 1", "1 on 3"});
  }
}

TEST_CASE("Groups are made, used and removed by many threads at once", "[placement]") {
  cadre::runtime rt(two_gpus());
  std::atomic<int> done{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int k = 0; k < 50; ++k) {
        const auto g = rt.placement_group({gpu, {{"gpu", 0.5}}}, cadre::pack);
        auto task = rt.submit<&gpus_of_task>({.resources = gpu, .on = g});
        const auto actor = rt.actor<on_gpu>({.on = g.bundle(1), .resources = {{"gpu", 0.5}}});
        auto call = actor.call<&on_gpu::gpus>();
        if (k % 3 != 0) done += task.get().size() == 1 && call.get().size() == 1 ? 1 : 0;
        rt.remove(g);
        if (k % 3 == 0) ++done;
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(done == 200);
  CHECK(rt.submit<&gpus_of_task>({.resources = {{"gpu", 2}}}).get().size() == 2);
}

}  // namespace placement_test
