#include "../catch_main.hpp"
#include "../in_child.hpp"
#include "../talking_child.hpp"
#include "../text_of.hpp"
#include "catch.hpp"

#include <cadre/actor/process_pool.hpp>
#include <cadre/actor/run.hpp>
#include <cadre/archive/error.hpp>

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

namespace process_pool_test {

using namespace std::chrono_literals;
using zygote = cadre::detail::zygote<cadre::process_pool_options>;

int twice(int x) { return 2 * x; }
std::string joined(const std::vector<std::string>& all, const std::string& by, int times, bool twice_over) {
  std::string text;
  for (int i = 0; i < (twice_over ? 2 * times : times); ++i)
    for (const std::string& s : all) text += s + by;
  return text;
}
int process() { return ::getpid(); }
void nothing() {}
int raises(int number) {
  ::signal(number, SIG_DFL);  // a sanitizer may have its own
  ::raise(number);
  return number;
}
void aborts() { raises(SIGABRT); }
void exits() { ::_exit(3); }
void calls_exit() { std::exit(0); }
void sleeps_for_ever() {
  for (;;) ::pause();
}
void closes_its_files() {
  for (int i = 3; i < 256; ++i) ::close(i);
  sleeps_for_ever();
}
/// Makes the file when it has begun.
void sleeps_for_ever_from(const std::string& path) {
  std::ofstream file(path);
  sleeps_for_ever();
}
int sleeps_a_millisecond(int x) {
  ::poll(nullptr, 0, 1);
  return x;
}
bool has_input() {
  char c = 0;
  return ::read(STDIN_FILENO, &c, 1) != 0;
}
struct own_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
void throws(int what) {
  switch (what) {
    case 0: throw std::out_of_range("no such row");
    case 1: throw cadre::no_such_actor("bob", "");
    case 2: throw own_error("mine");
    default: throw 3;
  }
}
std::string with_an_end(std::string text) { return std::move(text += "end"); }

/// Cannot be written, or read, when it says so.
struct stubborn {
  int says = 0;
  template <class Archive>
  void save(Archive& archive) const {
    if (says == 1) throw std::runtime_error("this is not written");
    archive(says);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(says);
    if (says == 2) throw std::runtime_error("this is not read");
    if (says == 3) archive(says);
  }
};
stubborn makes_stubborn(int says) { return {says}; }
int takes_stubborn(stubborn s) { return s.says; }

/// Crashes until so many tries have been made.
int crashes_before(const std::string& path, int tries) {
  std::ofstream(path, std::ios::app) << "x";
  if (std::filesystem::file_size(path) < static_cast<std::uintmax_t>(tries)) raises(SIGSEGV);
  return tries;
}

std::vector<int> workers_of(int zygote_process) {
  std::vector<int> all;
  const std::string id = std::to_string(zygote_process);
  std::ifstream children("/proc/" + id + "/task/" + id + "/children");
  for (int child = 0; children >> child;) all.push_back(child);
  return all;
}
bool is_alive(int process) {
  std::string text;
  std::getline(std::ifstream("/proc/" + std::to_string(process) + "/stat"), text);
  const std::size_t after_name = text.rfind(')');
  return after_name != std::string::npos && text.at(after_name + 2) != 'Z';
}
/// Whether it comes true in two seconds.
template <class Condition>
bool soon(Condition condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    ::poll(nullptr, 0, 1);
  }
  return false;
}
/// Kills the one worker when its task has made the file, which it removes.
void kill_at_work(const std::string& path) {
  REQUIRE(soon([&] { return std::filesystem::exists(path); }));
  std::filesystem::remove(path);
  ::kill(workers_of(zygote::process()).front(), SIGKILL);
}
/// A name for a file of a test case.
std::string file_of(const char* test) { return std::string("process_pool_") + test + "." + std::to_string(::getpid()); }
std::size_t open_files(const std::string& of = "self") {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/" + of + "/fd")) ++n;
  return n;
}
std::size_t files_of_zygote() { return open_files(std::to_string(zygote::process())); }
std::string host() { return cadre::detail::runtime_core::host(); }

/// This program anew, with one argument: its exit code.
int run_self(const char* what) {
  return in_child([what] {
    ::execl("/proc/self/exe", "test_actor", what, static_cast<char*>(nullptr));
    return 98;
  });
}
int says_that_there_is_no_zygote() {
  try {
    cadre::process_pool pool({.processes = 1});
  } catch (const cadre::no_zygote& e) {
    const std::string text = e.what();
    return text.find("[cadre.actor.611] there is no zygote") == 0 &&
                   text.find("in a main of your own call cadre::process_pool::prepare() first") != std::string::npos
               ? 0
               : 2;
  }
  return 1;
}

TEST_CASE("A process_pool runs functions in other processes and brings their results") {
  cadre::process_pool pool({.processes = 2});
  REQUIRE(pool.size() == 2);
  std::vector<cadre::future<int>> all;
  for (int i = 0; i < 100; ++i) all.push_back(pool.submit<&twice>(i));
  for (int i = 0; i < 100; ++i) REQUIRE(all[static_cast<std::size_t>(i)].get() == 2 * i);
  REQUIRE(pool.submit<&joined>(std::vector<std::string>{"a", "b"}, "-", 1, true).get() == "a-b-a-b-");
  REQUIRE(pool.submit<[](double x, short k) { return x + k; }>(1, 2).get() == 3.0);
  pool.submit<&nothing>().get();
  const int there = pool.submit<&process>().get();
  REQUIRE(there != ::getpid());
  const std::vector<int> workers = workers_of(zygote::process());
  REQUIRE(std::count(workers.begin(), workers.end(), there) == 1);
  REQUIRE_FALSE(pool.submit<&has_input>().get());
}

TEST_CASE("A process_pool without a number has a worker for each processor") {
  REQUIRE(cadre::process_pool().size() == cadre::usable_processors());
}

TEST_CASE("What a function throws in a worker process arrives with its type") {
  cadre::process_pool pool({.processes = 1});
  const int worker = pool.submit<&process>().get();
  REQUIRE_THROWS_AS(pool.submit<&throws>(0).get(), std::out_of_range);
  REQUIRE_THROWS_AS(pool.submit<&throws>(1).get(), cadre::no_such_actor);
  try {
    pool.submit<&throws>(2).get();
    FAIL("nothing was thrown");
  } catch (const cadre::remote_error& e) {
    REQUIRE(e.type().find("own_error") != std::string_view::npos);
    REQUIRE(e.text() == "mine");
    REQUIRE(e.where() == "the worker process " + std::to_string(worker) + " on host '" + host() + "'");
  }
  REQUIRE_THROWS_AS(pool.submit<&throws>(3).get(), cadre::remote_error);
  REQUIRE(pool.submit<&process>().get() == worker);
}

TEST_CASE("What cannot be written or read is an error, and the pool goes on") {
  cadre::process_pool pool({.processes = 1});
  const int worker = pool.submit<&process>().get();
  REQUIRE(pool.submit<&makes_stubborn>(0).get().says == 0);
  REQUIRE_THROWS_WITH(pool.submit<&makes_stubborn>(1).get(), "this is not written");
  REQUIRE_THROWS_WITH(pool.submit<&makes_stubborn>(2).get(), "this is not read");
  REQUIRE_THROWS_AS(pool.submit<&makes_stubborn>(3).get(), cadre::archive_truncated);
  REQUIRE_THROWS_WITH(pool.submit<&takes_stubborn>(stubborn{1}), "this is not written");
  REQUIRE_THROWS_WITH(pool.submit<&takes_stubborn>(stubborn{2}).get(), "this is not read");
  REQUIRE(pool.submit<&process>().get() == worker);
}

TEST_CASE("A hundred megabytes go to a worker process and back") {
  cadre::process_pool pool({.processes = 2});
  const std::string large(100'000'000, 'x');
  auto one = pool.submit<&with_an_end>(large);
  auto other = pool.submit<&twice>(4);
  REQUIRE(other.get() == 8);
  const bool same = one.get() == large + "end";
  REQUIRE(same);
}

TEST_CASE("A crash is worker_died, which says what died of what, and the pool goes on") {
  cadre::process_pool pool({.processes = 1});
  const auto died = [&](auto submit, const std::string& how) {
    const int worker = pool.submit<&process>().get();
    const std::string text = text_of<cadre::worker_died>([&] { submit().get(); });
    REQUIRE_THAT(text, ContainsSubstring("[cadre.actor.609] '"));
    REQUIRE_THAT(text, ContainsSubstring("' submitted at "));
    REQUIRE_THAT(text, ContainsSubstring("process_pool.cpp:"));
    REQUIRE_THAT(text, ContainsSubstring(" is lost: a worker, process " + std::to_string(worker) + " on host '" +
                                         host() + "', " + how));
    REQUIRE_THAT(text, ContainsSubstring("; say .max_retries to have it run again elsewhere"));
    REQUIRE(pool.submit<&process>().get() != worker);
  };
  died([&] { return pool.submit<&raises>(SIGSEGV); }, "was killed by SIGSEGV");
  died([&] { return pool.submit<&aborts>(); }, "was killed by SIGABRT");
  died([&] { return pool.submit<&raises>(SIGINT); }, "was killed by SIGINT");
  died([&] { return pool.submit<&raises>(SIGRTMIN); }, "was killed by signal " + std::to_string(SIGRTMIN));
  died([&] { return pool.submit<&exits>(); }, "ended with exit code 3");
  died([&] { return pool.submit<&calls_exit>(); }, "ended with exit code 0");
  died([&] { return pool.submit<&closes_its_files>(); }, "was killed by SIGKILL (where memory runs out");
  died(
      [&] {
        auto f = pool.submit<&sleeps_for_ever_from>(file_of("killed"));
        kill_at_work(file_of("killed"));
        return f;
      },
      "was killed by SIGKILL");
}

TEST_CASE("Worker processes that are killed at random lose nothing but what they were at") {
  cadre::process_pool pool({.processes = 3});
  std::atomic<bool> enough{false};
  std::atomic<int> kills{0};
  std::thread killer([&] {
    std::mt19937 random(7);
    while (!enough) {
      const std::vector<int> all = workers_of(zygote::process());
      if (!all.empty() && ::kill(all[random() % all.size()], SIGKILL) == 0) ++kills;
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    }
  });
  int values = 0, deaths = 0;
  while (kills < 300) {
    std::vector<cadre::future<int>> some;
    for (int i = 0; i < 30; ++i) some.push_back(pool.submit<&sleeps_a_millisecond>(i));
    for (int i = 0; i < 30; ++i) {
      try {
        if (some[static_cast<std::size_t>(i)].get() != i) std::abort();
        ++values;
      } catch (const cadre::worker_died&) {
        ++deaths;
      }
    }
  }
  enough = true;
  killer.join();
  REQUIRE(values > 0);
  REQUIRE(deaths > 0);
  REQUIRE(deaths <= kills);
  for (int i = 0; i < 100; ++i) REQUIRE(pool.submit<&twice>(i).get() == 2 * i);
  REQUIRE(soon([] { return workers_of(zygote::process()).size() == 3; }));
}

TEST_CASE("A task is not lost with a worker process that was killed before it came") {
  cadre::process_pool pool({.processes = 1});
  for (int i = 0; i < 50; ++i) {
    ::kill(pool.submit<&process>().get(), SIGKILL);
    REQUIRE(pool.submit<&twice>(i).get() == 2 * i);
  }
}

TEST_CASE("A task that runs for too long has its worker process killed") {
  cadre::process_pool pool({.processes = 2, .timeout = 50ms});
  auto one = pool.submit<&sleeps_for_ever>(), two = pool.submit<&sleeps_for_ever>(),
       three = pool.submit<&sleeps_for_ever>();
  REQUIRE_THROWS_WITH(one.get(),
                      ContainsSubstring("was killed, as it ran for longer than the pool's .timeout of 50 ms"));
  REQUIRE_THROWS_AS(two.get(), cadre::worker_died);
  REQUIRE_THROWS_AS(three.get(), cadre::worker_died);
  REQUIRE(pool.submit<&twice>(1).get() == 2);
}

TEST_CASE("A task whose worker process has died is tried again as often as the pool says") {
  const std::string path = file_of("tries");
  cadre::process_pool pool({.processes = 2, .max_retries = 2});
  REQUIRE(pool.submit<&crashes_before>(path, 3).get() == 3);
  std::filesystem::remove(path);
  REQUIRE_THROWS_WITH(pool.submit<&crashes_before>(path, 4).get(),
                      ContainsSubstring("was killed by SIGSEGV, after 2 others that died of it"));
  REQUIRE(std::filesystem::file_size(path) == 3);
  std::filesystem::remove(path);
}

TEST_CASE("A worker process ends after as many tasks as the pool says") {
  cadre::process_pool pool({.processes = 1, .max_tasks_per_worker = 3});
  std::vector<cadre::future<int>> all;
  for (int i = 0; i < 30; ++i) all.push_back(pool.submit<&process>());
  std::map<int, int> tasks_of;
  for (auto& f : all) ++tasks_of[f.get()];
  REQUIRE(tasks_of.size() == 10);
  for (const auto& [worker, tasks] : tasks_of) REQUIRE(tasks == 3);
}

TEST_CASE("A task that waits for a worker process can be cancelled") {
  const std::string path = file_of("cancelled");
  cadre::process_pool pool({.processes = 1});
  auto busy = pool.submit<&sleeps_for_ever_from>(file_of("busy"));
  auto waits = pool.submit<&crashes_before>(path, 0);
  REQUIRE(waits.cancel());
  REQUIRE(waits.ready());
  REQUIRE_THROWS_AS(waits.get(), cadre::task_cancelled);
  REQUIRE(busy.cancel());  // goes on
  kill_at_work(file_of("busy"));
  REQUIRE_THROWS_AS(busy.get(), cadre::worker_died);
  REQUIRE(pool.submit<&twice>(1).get() == 2);
  REQUIRE_FALSE(std::filesystem::exists(path));
}

TEST_CASE("The end of a process_pool runs what has been submitted and ends the worker processes") {
  std::vector<cadre::future<int>> all;
  {
    cadre::process_pool pool({.processes = 2});
    for (int i = 0; i < 40; ++i) all.push_back(pool.submit<&sleeps_a_millisecond>(i));
    auto dropped = pool.submit<&twice>(1);
  }
  for (int i = 0; i < 40; ++i) {
    REQUIRE(all[static_cast<std::size_t>(i)].ready());
    REQUIRE(all[static_cast<std::size_t>(i)].get() == i);
  }
  REQUIRE(workers_of(zygote::process()).empty());
}

TEST_CASE("A process_pool leaves no files open, here or with the zygote") {
  const auto use = [] {
    cadre::process_pool pool({.processes = 2, .max_tasks_per_worker = 2});
    for (int i = 0; i < 5; ++i) pool.submit<&twice>(i).get();
    REQUIRE_THROWS_AS(pool.submit<&exits>().get(), cadre::worker_died);
  };
  use();
  const std::size_t before = open_files();
  const std::size_t before_there = files_of_zygote();
  for (int i = 0; i < 10; ++i) use();
  REQUIRE(open_files() == before);
  REQUIRE(soon([&] { return files_of_zygote() == before_there; }));
}

TEST_CASE("Several process_pools are used at once, from many threads") {
  std::atomic<int> right{0};
  {
    cadre::process_pool one({.processes = 2}), other({.processes = 1});
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        cadre::process_pool own({.processes = 1});
        for (int i = 0; i < 50; ++i) {
          right += one.submit<&twice>(i).get() == 2 * i;
          right += other.submit<&twice>(t).get() == 2 * t;
          right += own.submit<&twice>(i).get() == 2 * i;
        }
      });
    for (std::thread& t : threads) t.join();
  }
  REQUIRE(right == 4 * 3 * 50);
}

int sum_by_workers(int n) {
  cadre::process_pool pool({.processes = 2});
  std::vector<cadre::future<int>> all;
  for (int i = 0; i < n; ++i) all.push_back(pool.submit<&twice>(i));
  int sum = 0;
  for (auto& f : all) sum += std::move(f).then([](int x) { return x + 1; }).get();
  return sum;
}
TEST_CASE("Tasks of a runtime have process_pools of their own") {
  cadre::runtime rt({.threads = 2});
  auto one = rt.submit<&sum_by_workers>(10), other = rt.submit<&sum_by_workers>(20);
  REQUIRE(one.get() == 100);
  REQUIRE(other.get() == 400);
}

TEST_CASE("A continuation may submit more to the process_pool") {
  cadre::process_pool pool({.processes = 1});
  auto f = pool.submit<&twice>(1).then([&](int x) { return pool.submit<&twice>(x); });
  REQUIRE(f.get().get() == 4);
}

TEST_CASE("Without its zygote a process_pool says so, and nothing waits for ever") {
  REQUIRE(in_child([] {
            cadre::process_pool::prepare();
            cadre::process_pool pool({.processes = 2});
            auto at = pool.submit<&sleeps_for_ever>(), also_at = pool.submit<&sleeps_for_ever>();
            auto queued = pool.submit<&twice>(1);
            const std::vector<int> workers = workers_of(zygote::process());
            ::kill(zygote::process(), SIGKILL);
            const std::string text = "[cadre.actor.614] the zygote, process " + std::to_string(zygote::process()) +
                                     ", has died, and all worker processes with it";
            const auto says_so = [&](auto use) { return text_of<cadre::zygote_died>(use).find(text) == 0; };
            if (!says_so([&] { at.get(); }) || !says_so([&] { also_at.get(); }) || !says_so([&] { queued.get(); }))
              return 1;
            if (!says_so([&] { pool.submit<&twice>(1).get(); })) return 2;
            if (!says_so([] { cadre::process_pool({.processes = 1}); })) return 3;
            for (const int w : workers)
              if (!soon([w] { return !is_alive(w); })) return 4;
            return 0;
          }) == 0);
}

TEST_CASE("Zygote and worker processes end with a program that is killed") {
  const bool has_copies = GENERATE(false, true);  // another child of it, which has all of its sockets
  std::vector<int> all;
  {
    talking_child<int> program([&](auto tell, auto) {
      cadre::process_pool::prepare();
      cadre::process_pool pool({.processes = 3});
      auto f = pool.submit<&sleeps_for_ever>();
      const int copy = has_copies ? ::fork() : 0;
      if (has_copies && copy == 0)
        for (;;) ::pause();
      tell(copy);
      tell(zygote::process());
      for (const int w : workers_of(zygote::process())) tell(w);
      tell(0);
      for (;;) ::pause();
    });
    const int copy = program.heard().value();
    for (int next = 0; (next = program.heard().value()) != 0;) all.push_back(next);
    REQUIRE(all.size() == 4);
    for (const int p : all) REQUIRE(is_alive(p));
    program.kill_only();
    for (const int p : all) REQUIRE(soon([p] { return !is_alive(p); }));
    if (copy != 0) ::kill(copy, SIGKILL);
  }
}

TEST_CASE("A program that waits for all of its children does not wait for the zygote") {
  REQUIRE(in_child([] {
            cadre::process_pool::prepare();
            return ::waitpid(-1, nullptr, 0) == -1 && errno == ECHILD ? 0 : 1;
          }) == 0);
}

TEST_CASE("A process without a zygote says how to have one, and cadre::run() has one") {
  REQUIRE(run_self("--without-zygote") == 0);
  REQUIRE(run_self("--by-run") == 42);
}

TEST_CASE("A process that was forked has no zygote, and cannot use a process_pool from before") {
  cadre::process_pool pool({.processes = 1});
  REQUIRE(in_child([&] {
            const std::string text = text_of<cadre::no_zygote>([] { cadre::process_pool({.processes = 1}); });
            if (text.find("[cadre.actor.611] a process made by fork() cannot have workers") != 0) return 1;
            if (text_of<cadre::forked_process>([&] { pool.submit<&twice>(1); }).find("207") == std::string::npos)
              return 2;
            std::destroy_at(&pool);  // does nothing
            return 0;
          }) == 0);
  REQUIRE(pool.submit<&twice>(1).get() == 2);
}

TEST_CASE("A zygote is not forked beside threads") {
  REQUIRE(in_child([] {
            std::atomic<bool> enough{false};
            std::thread one([&] { enough.wait(false); }), two([&] { enough.wait(false); });
            const std::string text = text_of<cadre::no_zygote>([] { cadre::process_pool::prepare(); });
            enough = true;
            enough.notify_all();
            one.join();
            two.join();
            const std::string expected =
                "[cadre.actor.611] the zygote of process pools cannot be forked now, as this process has ";
            return text.find(expected) == 0 && text.find(" threads; call cadre::process_pool::prepare() first") > 0 ? 0
                                                                                                                    : 1;
          }) == 0);
}

TEST_CASE("Worker processes that the system does not give are an error, until it does") {
  REQUIRE(in_child([] {
            for (int i = 0; i < 16; ++i) static_cast<void>(::dup(STDERR_FILENO));  // more than the zygote waits for
            cadre::process_pool::prepare();
            const std::size_t before_pool = files_of_zygote();
            cadre::process_pool pool({.processes = 1});
            if (!soon([&] { return files_of_zygote() == before_pool + 1; })) return 5;
            const std::string files = "/proc/" + std::to_string(zygote::process()) + "/fd/";
            ::rlim_t first_free = 0;
            while (std::filesystem::is_symlink(files + std::to_string(first_free))) ++first_free;
            ::rlimit before{};
            ::prlimit(zygote::process(), RLIMIT_NOFILE, nullptr, &before);
            const ::rlimit few{first_free, before.rlim_max};
            ::prlimit(zygote::process(), RLIMIT_NOFILE, &few, nullptr);
            const std::string text = "[cadre.actor.615] cannot make a worker process: Too many open files; raise";
            const auto says_so = [&](auto use) { return text_of<cadre::no_worker_process>(use).find(text) == 0; };
            if (!says_so([] { cadre::process_pool({.processes = 1}); })) return 1;
            if (text_of<cadre::worker_died>([&] { pool.submit<&exits>().get(); }).find("609") == std::string::npos)
              return 2;
            if (!says_so([&] { pool.submit<&twice>(1).get(); })) return 3;
            ::prlimit(zygote::process(), RLIMIT_NOFILE, &before, nullptr);
            return pool.submit<&twice>(1).get() == 2 ? 0 : 4;
          }) == 0);
}

TEST_CASE("A function of a library that was loaded later is not given to worker processes") {
  const cadre::detail::worker_function late(nullptr);
  REQUIRE_FALSE(zygote::knows(late));
  REQUIRE_THAT(cadre::unknown_function("f").what(),
               ContainsSubstring("[cadre.actor.616] worker processes do not have 'f': it is of a library"));
}

}  // namespace process_pool_test

int main(int argc, char** argv) {
  using namespace process_pool_test;
  if (argc == 2 && std::strcmp(argv[1], "--without-zygote") == 0) return says_that_there_is_no_zygote();
  if (argc == 2 && std::strcmp(argv[1], "--by-run") == 0)
    return cadre::run(argc, argv,
                      [](cadre::runtime&) { return cadre::process_pool({.processes = 1}).submit<&twice>(21).get(); });
  cadre::process_pool::prepare();  // before a test has threads
  return run_tests(argc, argv, "*");
}
