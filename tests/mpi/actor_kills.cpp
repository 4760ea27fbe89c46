// ranks: 1
// Ranks that are killed at random instants, each of several in one job, which goes on with those that are left: 50 of them, or
// as many as CADRE_KILLS says. CADRE_SEED repeats a run's choices, if not its instants.
#include "catch.hpp"
#include "own_process.hpp"

#include <cadre/actor/stream.hpp>
#include <cadre/core/random.hpp>
#include <cadre/mpi.hpp>

#include <cereal/types/set.hpp>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace mpi_actor_kills {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;
using Catch::Matchers::Contains;

constexpr int kills_per_job = 3, calls_per_actor = 400;

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}
std::string run_job(std::uint64_t seed) {
  return own_process::text_of(own_process::run(
      "CADRE_SEED=" + std::to_string(seed) +
      " timeout -k 2 60 mpirun --oversubscribe --bind-to none --enable-recovery -n " +
      std::to_string(kills_per_job + 1) + " '" + own_process::this_program() + "' 'job: random kills'"));
}

/// Remembers what it was told, so that a call that is made twice does no harm.
class memory {
 public:
  int put(int k) {
    all_.insert(k);
    return k;
  }
  bool has_all(std::vector<int> some) const {
    return std::all_of(some.begin(), some.end(), [this](int k) { return all_.contains(k); });
  }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(all_);
  }

 private:
  std::set<int> all_;
};
int pid_here() { return ::getpid(); }
double sum(std::vector<double> all) {
  double s = 0;
  for (const double x : all) s += x;
  return s;
}
std::vector<double> ones(int n) { return std::vector<double>(static_cast<std::size_t>(n), 1.0); }
double look(std::span<const double> all) { return sum({all.begin(), all.end()}); }
void count_to(cadre::stream_writer<int> out, int n) {
  for (int i = 0; i < n; ++i) out.send(i);
}

/// How futures and objects have ended.
struct outcome {
  int values = 0, errors = 0, others = 0;
  template <class F>
  void of(F&& f) {
    try {
      f();
      ++values;
    } catch (const cadre::error&) {
      ++errors;
    } catch (...) {
      ++others;
    }
  }
};

}  // namespace mpi_actor_kills

TEST_CASE("whenever ranks are killed, all that waits ends, and nothing that an actor has answered is lost", "[mpi]") {
  using namespace mpi_actor_kills;
  const std::uint64_t kills = number_from("CADRE_KILLS", 50);
  const std::uint64_t seed = number_from("CADRE_SEED", static_cast<std::uint64_t>(::getpid()));
  for (std::uint64_t done = 0; done < kills; done += kills_per_job) {
    const std::string output = run_job(seed + done);
    INFO("CADRE_SEED=" << seed + done << "\n" << output);
    REQUIRE_THAT(output, Contains("all that was answered is kept"));
    REQUIRE_THAT(output, Contains(" 0 of an unknown kind"));
    REQUIRE_THAT(output, Contains("exit code 0\n"));
  }
}

TEST_CASE("job: random kills", "[.job]") {
  using namespace mpi_actor_kills;
  cadre::mpi::runtime rt({.threads = 2});
  if (rt.rank() != 0) return rt.serve();
  cadre::random_stream random(number_from("CADRE_SEED", 1), 0);
  const auto below = [&](std::uint64_t n) { return random() % n; };
  std::vector<int> victims;
  for (int r = 1; r <= kills_per_job; ++r) victims.push_back(rt.submit<&pid_here>({.on = cadre::on_rank(r)}).get());
  std::shuffle(victims.begin(), victims.end(), random);
  std::vector<std::chrono::microseconds> when;
  for (int k = 0; k < kills_per_job; ++k) when.emplace_back(below(k == 0 ? 60'000 : below(2) == 0 ? 3'000 : 60'000));
  constexpr int actors = 3;
  std::vector<cadre::actor<memory>> memories;
  for (int a = 0; a < actors; ++a)
    memories.push_back(rt.actor<memory>({.max_restarts = -1, .max_task_retries = -1, .checkpoint_every = 1}));
  // The second and the third may come while what the one before had is being made anew.
  std::jthread killer([&] {
    for (std::size_t k = 0; k < victims.size(); ++k) {
      std::this_thread::sleep_for(when[k]);
      ::kill(victims[k], SIGKILL);
    }
  });
  std::vector<std::vector<int>> kept(actors);
  std::vector<std::vector<cadre::future<int>>> calls(actors);
  std::vector<cadre::future<double>> tasks;
  std::vector<cadre::object_ref<std::vector<double>>> objects;
  const cadre::object_ref<std::vector<double>> here = rt.put(ones(10'000));
  std::vector<cadre::stream<int>> streams;
  outcome all;
  for (int k = 0; k < calls_per_actor; ++k) {
    for (std::size_t a = 0; a < actors; ++a) calls[a].push_back(memories[a].call<&memory::put>(k));
    if (k % 8 == 0)
      all.of([&] { tasks.push_back(rt.submit<&sum>({.on = cadre::spread, .max_retries = 5}, ones(100'000))); });
    if (k % 8 == 2) all.of([&] { tasks.push_back(rt.submit<&sum>(ones(10))); });
    if (k % 8 == 4) all.of([&] { objects.push_back(rt.submit_ref<&ones>({.max_retries = 5}, 10'000)); });
    if (k % 8 == 5) all.of([&] { tasks.push_back(rt.submit<&look>({.max_retries = 5}, here)); });
    if (k % 100 == 6) all.of([&] { streams.push_back(rt.submit_stream<&count_to>(1'000)); });
    if (k % 16 == 7) std::this_thread::sleep_for(std::chrono::microseconds(below(3'000)));
  }
  for (std::size_t a = 0; a < actors; ++a)
    for (auto& c : calls[a]) all.of([&] { kept[a].push_back(c.get()); });
  for (auto& t : tasks) all.of([&] { static_cast<void>(t.get()); });
  for (const auto& o : objects) all.of([&] { static_cast<void>(rt.get(o)); });
  for (auto& s : streams)
    all.of([&] {
      while (s.receive()) {}
    });
  killer.join();
  bool nothing_lost = true;
  for (std::size_t a = 0; a < actors; ++a) {
    nothing_lost = nothing_lost && kept[a].size() == calls_per_actor;  // there is always a rank to go on
    nothing_lost = nothing_lost && memories[a].call<&memory::has_all>(kept[a]).get();
  }
  std::printf("%s: %d values, %d errors, %d of an unknown kind\n",
              nothing_lost ? "all that was answered is kept" : "something is lost", all.values, all.errors, all.others);
}
