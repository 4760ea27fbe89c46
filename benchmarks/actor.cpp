// Calls, tasks and objects anywhere in a job, beside the rows of Ray's own microbenchmark (ray_perf.py) and of its
// published scalability runs. Alone this measures within one process; under mpirun -n 2 between two processes, beside
// raw MPI between the same two, which take turns; with these on two hosts (tests/mpi/hosts.sh makes some) over TCP. Ray
// is measured between the two processes' turns if build/ray is a virtual environment that has it (run.sh makes one),
// but for what would take it minutes.
#include "child.hpp"
#include "harness.hpp"

#include <cadre/actor.hpp>
#include <cadre/mpi.hpp>

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>

namespace {

using benchmark::at_least, benchmark::at_most, benchmark::contender, benchmark::seconds;
using block = std::vector<float>;

struct packet {
  std::array<std::byte, 64> bytes{};
};

class subject {
 public:
  packet same(packet p) { return p; }
  int small() { return ++calls_; }
  void add(int k) { calls_ += k; }
  std::size_t take(const block& b) { return b.size(); }

 private:
  int calls_ = 0;
};
using handle = cadre::actor<subject>;

int small() { return 1; }
std::string host() { return cadre::mpi::detail::host_name(); }

// ---- Raw MPI between the two processes

constexpr int tag = 1;

/// The other rank has begun its side of a raw round. MPI is locked by whoever waits in it: nobody does before that.
void await_other_side() {
  for (int come = 0; come == 0;) {
    const std::lock_guard lock(cadre::mpi::detail::environment::get().mutex());
    MPI_Iprobe(1, tag, MPI_COMM_WORLD, &come, MPI_STATUS_IGNORE);
  }
}
int raw_echo(int n) {
  std::array<std::byte, 64> message{};
  const std::lock_guard lock(cadre::mpi::detail::environment::get().mutex());
  MPI_Send(message.data(), 64, MPI_BYTE, 0, tag, MPI_COMM_WORLD);
  for (int i = 0; i < n; ++i) {
    MPI_Recv(message.data(), 64, MPI_BYTE, 0, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Send(message.data(), 64, MPI_BYTE, 0, tag, MPI_COMM_WORLD);
  }
  return n;
}
double raw_round_trip(cadre::runtime& rt, int n) {
  auto other = rt.submit<&raw_echo>({.on = cadre::on_rank(1)}, n);
  await_other_side();
  double took = 0;
  {
    std::array<std::byte, 64> message{};
    const std::lock_guard lock(cadre::mpi::detail::environment::get().mutex());
    MPI_Recv(message.data(), 64, MPI_BYTE, 1, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    const double start = seconds();
    for (int i = 0; i < n; ++i) {
      MPI_Send(message.data(), 64, MPI_BYTE, 1, tag, MPI_COMM_WORLD);
      MPI_Recv(message.data(), 64, MPI_BYTE, 1, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    took = seconds() - start;
  }
  other.get();
  return took / n * 1e6;
}
int raw_take(int n, int bytes) {
  static block memory;
  memory.resize(static_cast<std::size_t>(bytes) / sizeof(float));
  const std::lock_guard lock(cadre::mpi::detail::environment::get().mutex());
  MPI_Send(memory.data(), 1, MPI_BYTE, 0, tag, MPI_COMM_WORLD);
  for (int i = 0; i < n; ++i) MPI_Recv(memory.data(), bytes, MPI_BYTE, 0, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  MPI_Send(memory.data(), 1, MPI_BYTE, 0, tag, MPI_COMM_WORLD);
  return n;
}
double raw_blocks(cadre::runtime& rt, int n, const block& b) {
  const int bytes = static_cast<int>(b.size() * sizeof(float));
  const std::vector<block> all(static_cast<std::size_t>(n), b);  // as many as ours, that they are no nearer
  auto other = rt.submit<&raw_take>({.on = cadre::on_rank(1)}, n, bytes);
  await_other_side();
  double took = 0;
  {
    char there = 0;
    const std::lock_guard lock(cadre::mpi::detail::environment::get().mutex());
    MPI_Recv(&there, 1, MPI_BYTE, 1, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    const double start = seconds();
    for (const block& one : all) MPI_Send(one.data(), bytes, MPI_BYTE, 1, tag, MPI_COMM_WORLD);
    MPI_Recv(&there, 1, MPI_BYTE, 1, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    took = seconds() - start;
  }
  other.get();
  return n * static_cast<double>(bytes) / took * 1e-9;
}

// ---- Ours

/// How often f(), which does n things, does one of them in a second.
template <class F>
double per_second(int n, F&& f) {
  const double start = seconds();
  f();
  return n / (seconds() - start);
}
/// The same of f(), as many times as a round is worth.
template <class F>
double per_second_one_by_one(F&& f) {
  constexpr double enough = 0.03;
  for (int n = 1;; n *= 2) {
    const double start = seconds();
    for (int i = 0; i < n; ++i) f();
    if (const double took = seconds() - start; took > enough) return n / took;
  }
}
/// us, the mean of some, when all threads have gone to sleep before.
double after_rest(const handle& a) {
  constexpr int n = 20;
  double took = 0;
  for (int i = 0; i < n; ++i) {
    ::usleep(20'000);
    const double start = seconds();
    a.call<&subject::small>().get();
    took += seconds() - start;
  }
  return took / n * 1e6;
}
/// begin() begins one thing and gives its future; many are begun, then waited for.
template <class Begin>
void all_at_once(int n, Begin&& begin) {
  std::vector<decltype(begin())> all;
  all.reserve(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) all.push_back(begin());
  for (auto& f : all) f.get();
}
/// GB/s of arguments of `b`'s size, which are moved into the calls.
double blocks_to(const handle& a, int n, const block& b) {
  std::vector<block> arguments(static_cast<std::size_t>(n), b);
  const double start = seconds();
  std::vector<cadre::future<std::size_t>> all;
  for (block& one : arguments) all.push_back(a.call<&subject::take>(std::move(one)));
  for (auto& f : all) f.get();
  return n * static_cast<double>(b.size() * sizeof(float)) / (seconds() - start) * 1e-9;
}

/// A client of several actors, as a task: n calls in all.
int calls_to(std::vector<handle> actors, int n) {
  std::size_t next = 0;
  all_at_once(n, [&] { return actors[next++ % actors.size()].call<&subject::small>(); });
  return n;
}
std::int64_t sum_of(std::vector<cadre::object_ref<int>> refs) {
  std::int64_t sum = 0;
  for (const auto& r : refs) {
    const cadre::view<int> v = cadre::this_task::runtime().get(r);
    sum += *v;
  }
  return sum;
}

std::atomic<bool> go{false};
constexpr int let_go_tag = 2;
/// Holds a thread of its rank's pool, so that tasks are queued behind it, until rank 0 lets it go.
bool hold(int rank) {
  if (rank == 0) {
    go.wait(false);
    return true;
  }
  for (int come = 0; come == 0; ::usleep(100)) {
    const std::lock_guard lock(cadre::mpi::detail::environment::get().mutex());
    MPI_Iprobe(0, let_go_tag, MPI_COMM_WORLD, &come, MPI_STATUS_IGNORE);
    if (come != 0) MPI_Recv(nullptr, 0, MPI_BYTE, 0, let_go_tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  return true;
}
void let_go(int rank) {
  if (rank == 0) {
    go.store(true);
    go.notify_all();
  } else {
    const std::lock_guard lock(cadre::mpi::detail::environment::get().mutex());
    MPI_Send(nullptr, 0, MPI_BYTE, rank, let_go_tag, MPI_COMM_WORLD);
  }
}

struct job {
  cadre::runtime& rt;
  cadre::placement there;  // where what is called is
  std::vector<handle> actors;
  std::shared_ptr<benchmark::child> ray;

  explicit job(cadre::runtime& r) : rt(r), there(cadre::on_rank(r.world_size() - 1)) {
    const long processors = ::sysconf(_SC_NPROCESSORS_ONLN);
    for (long i = 0; i < std::max(2L, processors / 2); ++i) actors.push_back(rt.actor<subject>({.on = there}));
  }
  [[nodiscard]] const handle& one() const { return actors.front(); }

  auto task() {
    return [this] { return rt.submit<&small>({.on = there}); };
  }
  double clients(int n) {
    const int each = n / static_cast<int>(actors.size());
    return per_second(each * static_cast<int>(actors.size()), [&] {
      std::vector<cadre::future<int>> all;
      for (std::size_t i = 0; i < actors.size(); ++i)
        all.push_back(rt.submit<&calls_to>({.on = cadre::on_rank(0)}, actors, each));
      for (auto& f : all) f.get();
    });
  }
  double wait_for_each_of(int n) {
    return per_second(1, [&] {
      std::vector<cadre::object_ref<int>> waiting;
      for (int i = 0; i < n; ++i) waiting.push_back(rt.submit_ref<&small>({.on = there}));
      while (!waiting.empty()) {
        const std::size_t ready = rt.wait(waiting, 1).ready.front();
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(ready));
      }
    });
  }
  double make_actors(int n) {
    std::vector<handle> made;
    const double figure = per_second(n, [&] {
      for (int i = 0; i < n; ++i) made.push_back(rt.actor<subject>({.on = there}));
      std::vector<cadre::future<int>> live;
      for (const handle& a : made) live.push_back(a.call<&subject::small>());
      for (auto& f : live) f.get();
    });
    for (const handle& a : made) a.stop().get();
    return figure;
  }
  double arguments(int n) {
    const double start = seconds();
    std::vector<cadre::object_ref<int>> all;
    for (int i = 0; i < n; ++i) all.push_back(rt.put(i));
    if (rt.submit<&sum_of>({.on = there}, std::move(all)).get() != std::int64_t{n} * (n - 1) / 2)
      throw std::runtime_error("a wrong sum");
    return seconds() - start;
  }
  double queued(int n) {
    const double start = seconds();
    const int where = rt.world_size() - 1;
    std::vector<cadre::future<bool>> holders;
    go.store(false);
    for (std::size_t i = 0; i < rt.pool().size(); ++i) holders.push_back(rt.submit<&hold>({.on = there}, where));
    std::vector<cadre::future<int>> all;
    all.reserve(static_cast<std::size_t>(n));
    for (int i = 0; i < n; ++i) all.push_back(rt.submit<&small>({.on = there}));
    for (std::size_t i = 0; i < holders.size(); ++i) let_go(where);
    for (auto& f : holders) f.get();
    for (auto& f : all) f.get();
    return seconds() - start;
  }
};

/// A row of Ray's: ours, what Ray publishes, and Ray on this machine where it is there and is asked.
struct ray_row {
  const char* name;
  const char* unit;
  double published;
  int rounds;
  bool measured;
  std::function<double(job&)> ours;
};

std::vector<ray_row> ray_rows() {
  const std::vector<std::int64_t> numbers(std::size_t{100} << 17);  // 100 MiB
  return {
      {"1:1 actor calls sync", "calls/s", 1763, 5, true,
       [](job& j) { return per_second_one_by_one([&] { j.one().call<&subject::small>().get(); }); }},
      {"1:1 actor calls async", "calls/s", 7528, 5, true,
       [](job& j) {
         return per_second(100'000, [&] { all_at_once(100'000, [&] { return j.one().call<&subject::small>(); }); });
       }},
      {"1:n actor calls async", "calls/s", 6838, 5, true,
       [](job& j) { return per_second(100'000, [&] { calls_to(j.actors, 100'000); }); }},
      {"n:n actor calls async", "calls/s", 23168, 5, true, [](job& j) { return j.clients(100'000); }},
      {"single client tasks sync", "tasks/s", 805, 5, true,
       [](job& j) { return per_second_one_by_one([&, f = j.task()] { f().get(); }); }},
      {"single client tasks async", "tasks/s", 7175, 5, true,
       [](job& j) { return per_second(100'000, [&] { all_at_once(100'000, j.task()); }); }},
      {"single client get calls", "calls/s", 4031, 5, true,
       [ref = std::optional<cadre::object_ref<int>>()](job& j) mutable {
         if (!ref) ref = j.rt.put(0);
         return per_second_one_by_one([&] { static_cast<void>(j.rt.get(*ref)); });
       }},
      {"single client put calls", "calls/s", 3836, 5, true,
       [](job& j) { return per_second_one_by_one([&] { j.rt.put(0); }); }},
      {"single client put gigabytes", "GB/s", 15.2, 5, true,
       [numbers](job& j) {
         const double bytes = static_cast<double>(numbers.size() * sizeof numbers[0]);
         return bytes * 1e-9 * per_second_one_by_one([&] { j.rt.put(numbers); });
       }},
      {"single client wait 1k refs", "times/s", 4.9, 5, true, [](job& j) { return j.wait_for_each_of(1'000); }},
      {"10,000 actors", "actors/s", 551, 3, false, [](job& j) { return j.make_actors(10'000); }},
      {"10,000 arguments to one task", "s", 17.2, 3, false, [](job& j) { return j.arguments(10'000); }},
      {"1,000,000 queued tasks", "s", 184, 3, false, [](job& j) { return j.queued(1'000'000); }},
  };
}

}  // namespace

int main(int argc, char** argv) {
  const auto program = [](cadre::runtime& rt) {
    const bool alone = rt.world_size() == 1;
    const bool tcp = !alone && rt.submit<&host>({.on = cadre::on_rank(1)}).get() != host();
    const std::string how = alone ? ", in one process" : tcp ? ", 2 processes, TCP" : ", 2 processes";
    job j(rt);
    benchmark::print_head();
    const auto measure = [&](const std::string& name, const std::string& unit, int rounds, std::vector<contender> all) {
      benchmark::measure(name + how, unit, rounds, std::move(all));
    };

    const int trips = tcp ? 2'000 : 20'000;
    std::vector<contender> trip{
        {"cadre", [&] { return 1e6 / per_second_one_by_one([&] { j.one().call<&subject::same>(packet{}).get(); }); }}};
    if (!alone) trip.push_back({"raw MPI", [&] { return raw_round_trip(rt, trips); }, at_most(tcp ? 1.2 : 1.5)});
    measure("call().get() of 64 B", "us", 15, std::move(trip));
    measure("call().get() after 20 ms of rest", "us", 5, {{"cadre", [&] { return after_rest(j.one()); }}});
    measure("calls one behind another", "M/s", 15,
            {{"cadre",
              [&] {
                return 1e-6 * per_second(300'000, [&] {
                         all_at_once(300'000, [&] { return j.one().call<&subject::small>(); });
                       });
              },
              alone ? benchmark::target{} : at_least(5)}});
    measure("tell", "M/s", 15,
            {{"cadre",
              [&] {
                return 1e-6 * per_second(1'000'000, [&] {
                         for (int i = 0; i < 1'000'000; ++i) j.one().tell<&subject::add>(1);
                         j.one().call<&subject::small>().get();
                       });
              },
              alone ? benchmark::target{} : at_least(tcp ? 20 : 30)}});
    for (const std::size_t mib : {std::size_t{1}, std::size_t{4}}) {
      const block b((mib << 20) / sizeof(float), 1);
      const int n = static_cast<int>(64 / mib);
      std::vector<contender> all{{"cadre", [&] { return blocks_to(j.one(), n, b); }}};
      if (!alone) all.push_back({"raw MPI", [&] { return raw_blocks(rt, n, b); }, at_least(0.9)});
      measure("arguments of " + std::to_string(mib) + " MiB", "GB/s", 15, std::move(all));
    }
    if (tcp) return;

    std::shared_ptr<benchmark::child> ray;
    if (const char* const python = CADRE_BENCHMARKS "/../build/ray/bin/python3"; !alone && ::access(python, X_OK) == 0)
      ray = std::make_shared<benchmark::child>(std::vector<std::string>{python, CADRE_BENCHMARKS "/actor_ray.py"},
                                               std::chrono::seconds(60));
    for (const ray_row& row : ray_rows()) {
      std::vector<contender> all{{"cadre", [&] { return row.ours(j); }},
                                 {"Ray, published", [&] { return row.published; }}};
      if (ray && row.measured) all.push_back({ray->name(), [&] { return ray->round(row.name); }});
      measure(row.name, row.unit, row.rounds, std::move(all));
    }
  };
  return cadre::mpi::run(argc, argv, program, {.threads = 2});
}
