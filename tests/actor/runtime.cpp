#include "actor/job.hpp"
#include "catch.hpp"

#include <cadre/actor.hpp>
#include <cadre/async/this_task.hpp>
#include <cadre/async/wait.hpp>
#include <cadre/eigen.hpp>

#include <Eigen/Dense>
#include <cereal/types/map.hpp>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <numeric>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace runtime_test {

using namespace std::chrono_literals;
using Catch::Matchers::Contains;

int twice(int x) { return 2 * x; }
double sum_of(double a, double b, double c, double d) { return a + b + c + d; }
std::string joined(const std::string& a, std::string b) { return a + b; }
void nothing() {}
void fails() { throw std::out_of_range("not today"); }
std::vector<float> ramp(int n) {
  std::vector<float> v(static_cast<std::size_t>(n));
  std::iota(v.begin(), v.end(), 0.0f);
  return v;
}
float last(std::span<const float> v) { return v.back(); }
std::uintptr_t where(std::span<const float> v) { return reinterpret_cast<std::uintptr_t>(v.data()); }
double sum_map(Eigen::Map<const Eigen::MatrixXd> m) { return m.sum(); }
double sum_reference(const Eigen::Ref<const Eigen::MatrixXd>& m) { return m.sum(); }
std::size_t length(std::string_view text) { return text.size(); }
int value_at(const std::map<std::string, int>& m, const std::string& key) { return m.at(key); }
int plus_one(const int& x) { return x + 1; }
std::size_t size_of_ref(cadre::object_ref<std::vector<float>> ref) {
  const auto view = cadre::this_task::runtime().get(ref);
  return (*view).size();
}

std::atomic<int> tries{0}, waiting{0}, open{0};
int third_time(int x) {
  if (++tries < 3) throw std::runtime_error("again");
  return x;
}
int when_open(int x) {
  ++waiting;
  while (open == 0 && !cadre::this_task::stop_requested()) std::this_thread::sleep_for(1ms);
  return x;
}
bool until_stopped(std::stop_token token, int) {
  ++waiting;
  while (!token.stop_requested()) std::this_thread::sleep_for(1ms);
  return true;
}
std::vector<float> made_when_open(int n) {
  static_cast<void>(when_open(0));
  return ramp(n);
}
std::vector<float> never_made() { throw std::out_of_range("no vector"); }
void reset() { tries = waiting = open = 0; }
void until(const std::atomic<int>& value, int wanted) {
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (value < wanted && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(100us);
  REQUIRE(value >= wanted);
}

TEST_CASE("A function named at compile time runs with its arguments converted, and its result comes back",
          "[runtime]") {
  job rt;
  CHECK(rt->submit<&twice>(21).get() == 42);
  CHECK(rt->submit<&twice>('a').get() == 194);
  CHECK(rt->submit<&sum_of>(1, 2.5f, 3L, 4u).get() == 10.5);
  CHECK(rt->submit<&joined>("text and ", std::string("text")).get() == "text and text");
  rt->submit<&nothing>().get();
  CHECK(rt->submit<[](int x) { return x + 1; }>(1).get() == 2);
  CHECK(rt->submit<&twice>({.name = "doubling"}, 4).get() == 8);
  CHECK_THROWS_AS(rt->submit<&fails>().get(), std::out_of_range);
}

TEST_CASE("Futures as arguments are waited for without holding a thread", "[runtime][one process]") {
  job rt({.threads = 1});
  reset();
  auto slow = rt->submit<&when_open>(5);
  until(waiting, 1);
  auto depends = rt->submit<&twice>(std::move(slow));
  auto further = rt->submit<&twice>({.resources = {{"cpu", 1}, {"memory", 1000}}}, std::move(depends));
  const cadre::shared_future<int> shared = std::move(further);
  auto one = rt->submit<&twice>(shared), two = rt->submit<&twice>(shared);
  CHECK_FALSE(one.ready());
  open = 1;
  CHECK(one.get() == 40);
  CHECK(two.get() == 40);
  CHECK_THROWS_WITH(rt->submit<&twice>(cadre::future<int>()), Contains("[cadre.async.201]"));
}

TEST_CASE("The error of a task on which another depends passes on with its type", "[runtime]") {
  job rt;
  auto failing = rt->submit<[]() -> int { throw std::out_of_range("early"); }>();
  auto depends = rt->submit<&twice>(std::move(failing));
  CHECK_THROWS_WITH(rt->submit<&twice>(std::move(depends)).get(), "early");
}

TEST_CASE("A task that is cancelled while it waits for another never runs", "[runtime][one process]") {
  job rt;
  for (const bool holds : {false, true}) {
    reset();
    auto slow = rt->submit<&when_open>(5);
    until(waiting, 1);
    cadre::remote_options options;
    if (holds) options.resources = {{"memory", 1000}};
    auto depends = rt->submit<[](int) { ++tries; }>(options, std::move(slow));
    depends.cancel();
    CHECK_THROWS_AS(depends.get(), cadre::task_cancelled);
    open = 1;
    CHECK(rt->submit<&twice>(1).get() == 2);
    CHECK(tries == 0);
  }
}

TEST_CASE("Stored objects are shown to tasks where they lie", "[runtime][one process]") {
  job rt;
  const auto floats = rt->put(ramp(1000));
  CHECK(rt->submit<&last>(floats).get() == 999);
  const auto view = rt->get(floats);
  CHECK(rt->submit<&where>(floats).get() == reinterpret_cast<std::uintptr_t>((*view).data()));
  const auto matrix = rt->put(Eigen::MatrixXd(Eigen::MatrixXd::Constant(30, 20, 0.5)));
  CHECK(rt->submit<&sum_map>(matrix).get() == 300);
  CHECK(rt->submit<&sum_reference>(matrix).get() == 300);
  CHECK(rt->submit<&length>(rt->put(std::string("twelve chars"))).get() == 12);
  CHECK(rt->submit<&value_at>(rt->put(std::map<std::string, int>{{"a", 7}}), "a").get() == 7);
  CHECK(rt->submit<&plus_one>(rt->put(41)).get() == 42);
  CHECK(rt->submit<&size_of_ref>(floats).get() == 1000);
}

TEST_CASE("A result can stay in the store: a ref at once, waited for by tasks and gets", "[runtime][one process]") {
  job rt;
  reset();
  const auto ref = rt->submit_ref<&made_when_open>(500);
  auto depends = rt->submit<&last>(ref);
  CHECK_THROWS_AS(rt->get(ref, 10ms), cadre::store_timeout);
  CHECK_FALSE(depends.ready());
  open = 1;
  CHECK(depends.get() == 499);
  const auto view = rt->get(ref);
  CHECK((*view).size() == 500);
  const auto kept = rt->get(rt->submit_ref<&twice>({.name = "kept"}, 4));
  CHECK(*kept == 8);
}

TEST_CASE("The error of a task that was to make an object reaches all who ask for it", "[runtime]") {
  job rt;
  const auto ref = rt->submit_ref<&never_made>();
  for (int again = 0; again < 2; ++again) CHECK_THROWS_WITH(rt->get(ref), "no vector");
  CHECK_THROWS_AS(rt->submit<&last>(ref).get(), std::out_of_range);
  CHECK(rt->wait(std::vector{ref}, 1).ready.size() == 1);
  CHECK_FALSE(rt->store().contains(ref));
}

TEST_CASE("A pool of one thread makes objects that its tasks wait for", "[runtime][one process]") {
  job rt({.threads = 1});
  CHECK(rt->submit<[] {
            cadre::runtime& inner = cadre::this_task::runtime();
            const auto ref = inner.submit_ref<&ramp>(7);
            const auto view = inner.get(ref);
            return (*view).size();
          }>()
            .get() == 7);
  CHECK(rt->submit<[] {
            cadre::runtime& inner = cadre::this_task::runtime();
            std::vector<cadre::object_ref<std::vector<float>>> refs;
            for (int k = 0; k < 5; ++k) refs.push_back(inner.submit_ref<&ramp>(7));
            return inner.wait(refs, 5, 10s).ready.size();
          }>()
            .get() == 5);
}

TEST_CASE("wait() tells which objects are there", "[runtime][one process]") {
  job rt;
  reset();
  std::vector<cadre::object_ref<std::vector<float>>> refs{rt->put(ramp(3)), rt->submit_ref<&made_when_open>(4),
                                                          rt->put(ramp(5))};
  auto found = rt->wait(refs, 2, 10s);
  CHECK(found.ready == std::vector<std::size_t>{0, 2});
  CHECK(found.pending == std::vector<std::size_t>{1});
  CHECK(rt->wait(refs, 3, 10ms).pending.size() == 1);
  open = 1;
  CHECK(rt->wait(refs, 3).ready.size() == 3);
  rt->erase(refs[0]);
  CHECK_THROWS_AS(rt->get(refs[0]), cadre::object_gone);
  CHECK_THROWS_AS(rt->wait(refs, 4), cadre::bad_store_option);
}

TEST_CASE("A task is tried again after the errors that it names, and no others", "[runtime][one process]") {
  job rt;
  reset();
  CHECK(rt->submit<&third_time>({.max_retries = 2, .retry_on = cadre::errors<std::runtime_error>()}, 9).get() == 9);
  reset();
  CHECK_THROWS_WITH(
      rt->submit<&third_time>({.max_retries = 1, .retry_on = cadre::errors<std::runtime_error>()}, 9).get(), "again");
  reset();
  CHECK_THROWS_AS(rt->submit<&third_time>({.max_retries = 5, .retry_on = cadre::errors<std::logic_error>()}, 9).get(),
                  std::runtime_error);
  reset();
  CHECK_THROWS_AS(rt->submit<&third_time>({.max_retries = 5}, 9).get(), std::runtime_error);  // its worker lives
  CHECK(tries == 1);
}

TEST_CASE("Running tasks hear that they are cancelled, as a token or by asking", "[runtime][one process]") {
  job rt;
  reset();
  auto takes_token = rt->submit<&until_stopped>(1);
  auto asks = rt->submit<&when_open>({.name = "asks"}, 3);
  until(waiting, 2);
  takes_token.cancel();
  asks.cancel();
  CHECK(takes_token.get());
  CHECK(asks.get() == 3);
  std::stop_source source;
  auto by_source = rt->submit<&until_stopped>({.stop = source.get_token()}, 1);
  until(waiting, 3);
  source.request_stop();
  CHECK(by_source.get());
}

TEST_CASE("A task that has not begun by its deadline does not", "[runtime][one process]") {
  job rt({.threads = 1});
  reset();
  auto blocks = rt->submit<&when_open>(1);
  until(waiting, 1);
  auto late = rt->submit<&twice>({.deadline = std::chrono::steady_clock::now() + 5ms}, 1);
  CHECK_THROWS_AS(late.get(), cadre::deadline_passed);
  open = 1;
  CHECK(blocks.get() == 1);
}

TEST_CASE("What no rank can give is refused at once, with what there is", "[runtime]") {
  cadre::runtime rt({.threads = 2, .resources = {{"TPU", 8}}});
  CHECK_THROWS_WITH(
      rt.submit<&twice>({.resources = {{"gpu", 1}}}, 1),
      Contains("[cadre.async.209] this request of resources can never be met: gpu 1; this pool has TPU 8, cpu "
               "2, memory "));
  CHECK(rt.submit<&twice>({.resources = {{"TPU", 8}}}, 1).get() == 2);
  CHECK_THROWS_WITH(rt.submit<&twice>({.on = cadre::on_rank(1)}, 1),
                    "[cadre.async.209] this request of resources can never be met: rank 1; this job has rank 0 alone");
  CHECK_THROWS_WITH(rt.submit<&twice>({.on = cadre::on_node("nowhere.example")}, 1),
                    Contains("node 'nowhere.example'"));
  CHECK_THROWS_AS(rt.submit_ref<&twice>({.on = cadre::on_rank(7)}, 1), cadre::impossible_request);
  CHECK_THROWS_AS(rt.actor<int>({.on = cadre::on_rank(7)}, 1), cadre::impossible_request);
  for (const cadre::placement& on :
       {cadre::on_rank(0), cadre::on_node("nowhere.example", /*soft*/ true), cadre::spread, cadre::pack})
    CHECK(rt.submit<&twice>({.on = on}, 2).get() == 4);
}

TEST_CASE("A task knows its runtime, and nobody else does", "[runtime]") {
  job rt;
  CHECK(rt->submit<[] { return cadre::this_task::runtime().submit<&twice>(4).get(); }>().get() == 8);
  CHECK_THROWS_WITH(
      cadre::this_task::runtime(),
      "[cadre.actor.607] this thread runs no task of a runtime; call this_task::runtime() in one, or hand the "
      "runtime on");
  cadre::thread_pool other{{.threads = 1}};
  CHECK_THROWS_AS(other.submit([] { static_cast<void>(cadre::this_task::runtime()); }).get(), cadre::no_runtime);
}

TEST_CASE("Several runtimes live side by side, and one after another", "[runtime]") {
  for (int round = 0; round < 300; ++round) {
    cadre::runtime a({.threads = 1}), b({.threads = 1});
    CHECK(a.submit<&twice>(round).get() == b.submit<&twice>(round).get());
  }
}

TEST_CASE("The end of a runtime runs what was submitted", "[runtime][one process]") {
  reset();
  {
    cadre::runtime rt({.threads = 1});
    for (int k = 0; k < 100; ++k) static_cast<void>(rt.submit<[] { ++tries; }>());
  }
  CHECK(tries == 100);
}

/// Loses its second half on the way.
struct forgetful {
  int kept = 0, lost = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(kept);
  }
};
forgetful through(forgetful f) {
  f.lost += 100;
  return f;
}
struct unreadable {
  int n = 0;
  template <class Archive>
  void save(Archive& archive) const {
    archive(n);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(n, n);
  }
};

TEST_CASE("With .round_trip a program of one process sees what its types would lose between ranks", "[runtime]") {
  for (const bool round_trip : {false, true}) {
    cadre::runtime rt({.threads = 1, .round_trip = round_trip});
    const forgetful back = rt.submit<&through>(forgetful{1, 2}).get();
    CHECK(back.kept == 1);
    CHECK(back.lost == (round_trip ? 0 : 102));
    if (round_trip)
      CHECK_THROWS_AS(rt.submit<[](unreadable u) { return u.n; }>(unreadable{3}), cadre::archive_truncated);
    else
      CHECK(rt.submit<[](unreadable u) { return u.n; }>(unreadable{3}).get() == 3);
  }
}

TEST_CASE("run() gives the program a runtime and returns its exit code", "[runtime]") {
  char name[] = "program";
  char* arguments[] = {name, nullptr};
  CHECK(cadre::run(1, arguments, [](cadre::runtime& rt) { CHECK(rt.submit<&twice>(1).get() == 2); }) == 0);
  CHECK(cadre::run(1, arguments, [](cadre::runtime&) { return 7; }) == 7);
  CHECK(cadre::run(1, arguments, [](cadre::runtime& rt) { rt.submit<&fails>().get(); }, {.threads = 1}) == 1);
  CHECK(cadre::run(1, arguments, [](cadre::runtime&) { throw 3; }, {.threads = 1}) == 1);
}

}  // namespace runtime_test
