// ranks: 1 2 4 8
// The suite of one process, with tasks and actors on all ranks.
#include "actor/actor.cpp"

#include "actor/restart.cpp"
#include "actor/runtime.cpp"
#include "actor/runtime_core.cpp"
#include "over_ranks.hpp"

#include <cadre/mpi.hpp>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace mpi_actor {

struct own_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
[[noreturn]] int fail(int how) {
  if (how == 0) throw std::out_of_range("how");
  if (how == 1) throw own_error("mine");
  throw 3;
}
int where() { return cadre::this_task::runtime().rank(); }
struct resident {
  int where() const { return cadre::this_task::runtime().rank(); }
  void throw_it() { throw own_error("told"); }
};

TEST_CASE("Tasks and actors run on the rank that they are given", "[mpi]") {
  job rt;
  for (int r = 0; r < rt->world_size(); ++r) {
    CHECK(rt->submit<&where>({.on = cadre::on_rank(r)}).get() == r);
    const auto a = rt->actor<resident>({.on = cadre::on_rank(r)});
    CHECK(a.call<&resident::where>().get() == r);
    a.stop().get();
  }
  std::vector<int> seen(static_cast<std::size_t>(rt->world_size()));
  std::vector<cadre::future<int>> all;
  for (int k = 0; k < 100; ++k) all.push_back(rt->submit<&where>({.on = cadre::spread}));
  for (auto& f : all) ++seen[static_cast<std::size_t>(f.get())];
  for (const int n : seen) CHECK(n >= 100 / rt->world_size() - 1);
  CHECK_THROWS_WITH(rt->submit<&where>({.on = cadre::on_rank(99)}),
                    Catch::Contains("on rank 99; this job has rank 0 on '"));
}

TEST_CASE("An error of another rank keeps its type if that travels, else says what and where it was", "[mpi]") {
  job rt;
  const cadre::remote_options last{.on = cadre::on_rank(rt->world_size() - 1)};
  CHECK_THROWS_WITH(rt->submit<&fail>(last, 0).get(), "how");
  CHECK_THROWS_AS(rt->submit<&fail>(last, 0).get(), std::out_of_range);
  if (rt->world_size() == 1) return;
  CHECK_THROWS_WITH(
      rt->submit<&fail>(last, 1).get(),
      Catch::Matchers::StartsWith("[cadre.actor.608] rank " + std::to_string(rt->world_size() - 1) + " on ") &&
          Catch::Contains("own_error") &&
          Catch::Contains(": mine; catch it there, or throw one of the "
                          "standard library's types"));
  CHECK_THROWS_AS(rt->submit<&fail>(last, 2).get(), cadre::remote_error);
}

// On whichever rank they run: what is set there is asked for there.
std::atomic<int> tries{0}, running{0};
int fails_twice() {
  if (++tries < 3) throw std::runtime_error("again");
  return tries.exchange(0);
}
int until_stopped() {
  ++running;
  while (!cadre::this_task::stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return running.exchange(0);
}
int count_running() { return running; }
struct slow {
  int n = 0;
  int until_stopped() { return mpi_actor::until_stopped(); }
  int count() { return ++n; }
};
void until_running(cadre::runtime& rt, int rank) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (rt.submit<&count_running>({.on = cadre::on_rank(rank)}).get() == 0)
    REQUIRE(std::chrono::steady_clock::now() < end);
}

TEST_CASE("Cancelling reaches what runs or waits on another rank", "[mpi]") {
  job rt;
  const int last = rt->world_size() - 1;
  auto task = rt->submit<&until_stopped>({.on = cadre::on_rank(last)});
  until_running(*rt, last);
  task.cancel();
  CHECK(task.get() == 1);
  const auto a = rt->actor<slow>({.on = cadre::on_rank(last)});
  auto call = a.call<&slow::until_stopped>();
  until_running(*rt, last);
  auto waiting = a.call<&slow::count>(), further = a.call<&slow::count>();
  waiting.cancel();
  CHECK_THROWS_AS(waiting.get(), cadre::task_cancelled);
  call.cancel();
  CHECK(call.get() == 1);
  CHECK(further.get() == 1);
  a.kill();
}

TEST_CASE("Retries and deadlines go with a task to another rank", "[mpi]") {
  job rt;
  const int last = rt->world_size() - 1;
  CHECK(rt->submit<&fails_twice>(
              {.on = cadre::on_rank(last), .max_retries = 2, .retry_on = cadre::errors<std::runtime_error>()})
            .get() == 3);
  CHECK_THROWS_WITH(rt->submit<&fails_twice>({.on = cadre::on_rank(last), .retry_on = cadre::errors<int>()}).get(),
                    "again");
  static_cast<void>(rt->submit<[] { return tries.exchange(0); }>({.on = cadre::on_rank(last)}).get());
  CHECK_THROWS_AS(rt->submit<&where>({.on = cadre::on_rank(last),
                                      .deadline = std::chrono::steady_clock::now() - std::chrono::seconds(1)})
                      .get(),
                  cadre::deadline_passed);
}

TEST_CASE("Work of other ranks for further ranks is done before the job ends", "[mpi]") {
  job rt;
  for (int k = 0; k < 20; ++k)
    static_cast<void>(rt->submit<[](int depth) {
      cadre::runtime& here = cadre::this_task::runtime();
      for (int d = 0; d < depth; ++d) static_cast<void>(here.submit<&where>({.on = cadre::spread}));
    }>(k));
}

}  // namespace mpi_actor

int main(int argc, char** argv) { return run_tests_over_ranks(argc, argv); }
