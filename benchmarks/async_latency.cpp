// How long a thread outside the pool waits for one task: round trips to a pool that has just worked, to one that sleeps,
// and to one under load. Beside oneTBB, Boost.Asio and std::async; two threads each.
#include "async_peers.hpp"

#include <chrono>
#include <future>
#include <semaphore>
#include <vector>

namespace {

using namespace std::chrono_literals;
using async_peers::pools, async_peers::wait_for_count;
namespace asio = boost::asio;

/// Who is asked: `round_trip()` returns when a task has run on another thread, `post(f)` runs a task of the background.
template <class RoundTrip, class Post>
struct peer {
  const char* name;
  RoundTrip round_trip;
  Post post;
};
template <class RoundTrip, class Post>
peer(const char*, RoundTrip, Post) -> peer<RoundTrip, Post>;

template <class F>
double microseconds(F&& f) {
  const double start = benchmark::seconds();
  f();
  return (benchmark::seconds() - start) * 1e6;
}

/// Each takes 20 us and posts the next until told to stop.
template <class Post>
struct background {
  Post post;
  std::atomic<bool>* stop;
  std::atomic<int>* ended;
  void operator()() const {
    if (stop->load()) {
      ended->fetch_add(1);
      return;
    }
    for (const double start = benchmark::seconds(); benchmark::seconds() - start < 20e-6;) {}
    post(*this);
  }
};

template <class Peer>
double hot(const Peer& who) {
  constexpr int n = 3000;
  return microseconds([&] {
           for (int i = 0; i < n; ++i) who.round_trip();
         }) /
         n;
}

template <class Peer>
double idle(const Peer& who) {
  std::vector<double> waits;
  for (int i = 0; i < 40; ++i) {
    std::this_thread::sleep_for(2ms);
    waits.push_back(microseconds(who.round_trip));
  }
  return benchmark::summarise(std::move(waits)).median;
}

/// The given quantile of 200 round trips beside four tasks that are always there.
template <class Peer>
double loaded(const Peer& who, double quantile) {
  constexpr int tasks = 4;
  std::atomic<bool> stop{false};
  std::atomic<int> ended{0};
  for (int i = 0; i < tasks; ++i) who.post(background<decltype(who.post)>{who.post, &stop, &ended});
  std::vector<double> waits;
  for (int i = 0; i < 200; ++i) waits.push_back(microseconds(who.round_trip));
  stop = true;
  wait_for_count(ended, tasks);
  std::ranges::sort(waits);
  return waits[static_cast<std::size_t>(quantile * static_cast<double>(waits.size() - 1))];
}

}  // namespace

int main() {
  pools p;
  const peer ours{"cadre", [&] { p.ours.submit([] {}).get(); }, [&](auto f) { p.ours.post(f); }};
  const auto enqueue = [&](auto f) { p.tbb.workers_only.enqueue(f); };
  const peer tbb{"oneTBB enqueue, std::promise", [&] { async_peers::submit(p.tbb, [] {}).get(); }, enqueue};
  // A semaphore spins before it sleeps, and so does oneTBB.
  const peer spinning{"oneTBB enqueue, std::binary_semaphore",
                      [&] {
                        std::binary_semaphore done{0};
                        p.tbb.workers_only.enqueue([&done] { done.release(); });
                        done.acquire();
                      },
                      enqueue};
  const peer boost{"Boost.Asio thread_pool", [&] { asio::post(p.asio, asio::use_future([] {})).get(); },
                   [&](auto f) { asio::post(p.asio, f); }};
  const auto std_async = [] { std::async(std::launch::async, [] {}).get(); };

  benchmark::print_head();
  benchmark::measure("round trip, pool at work", "us", 15,
                     {{"cadre", [&] { return hot(ours); }},
                      {tbb.name, [&] { return hot(tbb); }, benchmark::at_most(0.1)},
                      {spinning.name, [&] { return hot(spinning); }},
                      {boost.name, [&] { return hot(boost); }},
                      {"std::async", [&] {
                         return hot(peer{"", std_async, 0});
                       }}});
  benchmark::measure("round trip, pool idle for 2 ms", "us", 15,
                     {{"cadre", [&] { return idle(ours); }},
                      {tbb.name, [&] { return idle(tbb); }, benchmark::at_most(1)},
                      {spinning.name, [&] { return idle(spinning); }},
                      {boost.name, [&] { return idle(boost); }},
                      {"std::async", [&] {
                         return idle(peer{"", std_async, 0});
                       }}});
  for (const auto& [name, quantile] :
       {std::pair{"round trip under load, p50", 0.5}, {"round trip under load, p99", 0.99}})
    benchmark::measure(name, "us", 11,
                       {{"cadre", [&, q = quantile] { return loaded(ours, q); }},
                        {tbb.name, [&, q = quantile] { return loaded(tbb, q); }},
                        {boost.name, [&, q = quantile] { return loaded(boost, q); }}});
}
