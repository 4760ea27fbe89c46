// Messages between two ranks through the link that actors are built on, beside raw MPI between the same two processes:
// 64-byte round trips, small messages one way, large blocks, and what an idle rank costs. mpirun -n 2; with these on two
// hosts (tests/mpi/hosts.sh 2 1 -n 2) the same over TCP. With 4 ranks, round trips of two pairs at once.
#include "harness.hpp"

#include <cadre/mpi.hpp>
#include <cadre/mpi/detail/message_link.hpp>

#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>

namespace {

using cadre::detail::urgency;
using clock_type = std::chrono::steady_clock;

/// Counts what comes; answers nothing.
struct counter final : cadre::detail::message_sink {
  void receive(int, cadre::detail::incoming& message) noexcept override {
    sum += static_cast<std::uint64_t>(message.bytes()[0]);
    for (const std::uint64_t size : message.block_sizes()) {
      message.receive_blocks({.into = {std::span(memory).first(size)}, .keep = {}, .done = [this](bool) { count(); }});
      return;
    }
    count();
  }
  void fault(int, const cadre::error& what) noexcept override { std::fprintf(stderr, "%s\n", what.what()); }
  void died(int, std::string_view how) noexcept override {
    std::fprintf(stderr, "%.*s\n", int(how.size()), how.data());
  }
  void count() noexcept { received.store(received.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

  std::atomic<std::uint32_t> received{0};
  std::uint64_t sum = 0;
  std::vector<std::byte> memory = std::vector<std::byte>(std::size_t{4} << 20);
};

double cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct pair_of_ranks {
  explicit pair_of_ranks(cadre::mpi::communicator& everybody)
      : comm(everybody), link(MPI_COMM_WORLD), other(comm.rank() ^ 1), first(comm.rank() % 2 == 0) {
    link.start(sink);
  }

  /// Until so many messages more have come.
  void await(std::uint32_t more) {
    expected += more;
    for (;;) {
      const std::uint32_t now = sink.received.load(std::memory_order_acquire);
      if (static_cast<std::int32_t>(now - expected) >= 0) return;
      link.wait_while(sink.received, now, clock_type::time_point::max());
    }
  }
  void await_by_polling(std::uint32_t more) {
    expected += more;
    while (static_cast<std::int32_t>(sink.received.load(std::memory_order_acquire) - expected) < 0) link.poll();
  }
  void tell(std::span<const std::byte> bytes) {
    link.send(other, bytes, urgency::normal);
    link.flush();
  }
  /// The slower rank's figure.
  double slowest(double mine) { return comm.all_reduce(mine, cadre::max); }

  template <class Wait>
  double round_trip(int n, Wait&& wait) {
    std::array<std::byte, 64> message{};
    comm.barrier();
    const double start = benchmark::seconds();
    for (int i = 0; i < n; ++i) {
      if (first) tell(message);
      wait();
      if (!first) tell(message);
    }
    return slowest((benchmark::seconds() - start) / n * 1e6);
  }
  double raw_round_trip(int n) {
    std::array<std::byte, 64> message{};
    comm.barrier();
    std::unique_lock lock(cadre::mpi::detail::environment::get().mutex());
    const double start = benchmark::seconds();
    for (int i = 0; i < n; ++i) {
      if (first) MPI_Send(message.data(), 64, MPI_BYTE, other, 1, MPI_COMM_WORLD);
      MPI_Recv(message.data(), 64, MPI_BYTE, other, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      if (!first) MPI_Send(message.data(), 64, MPI_BYTE, other, 1, MPI_COMM_WORLD);
    }
    const double took = benchmark::seconds() - start;
    lock.unlock();  // between nodes a reduction is by MPI
    return slowest(took / n * 1e6);
  }
  /// Million messages per second from the first rank to the second.
  double one_way(std::uint32_t n, std::size_t bytes) {
    std::array<std::byte, 256> message{};
    comm.barrier();
    const double start = benchmark::seconds();
    if (first) {
      for (std::uint32_t i = 0; i < n; ++i) link.send(other, std::span(message).first(bytes), urgency::normal);
      link.flush();
      await(1);
    } else {
      await(n);
      tell(std::span(message).first(1));
    }
    return n / slowest(benchmark::seconds() - start) * 1e-6;
  }
  /// GB/s of blocks from the first rank to the second.
  double blocks(int n, const std::shared_ptr<std::vector<std::byte>>& block, std::size_t bytes) {
    const std::array<std::byte, 16> head{};
    comm.barrier();
    const double start = benchmark::seconds();
    if (first) {
      for (int i = 0; i < n; ++i) {
        cadre::detail::outgoing message{.bytes = {}, .blocks = {std::span(*block).first(bytes)}, .keep = block};
        message.bytes.append(head.data(), head.size());
        link.send(other, std::move(message), urgency::normal);
        link.flush();
      }
      await(1);
    } else {
      await(static_cast<std::uint32_t>(n));
      tell(head);
    }
    return n * static_cast<double>(bytes) / slowest(benchmark::seconds() - start) * 1e-9;
  }
  double raw_blocks(int n, std::vector<std::byte>& block, std::size_t bytes) {
    comm.barrier();
    std::unique_lock lock(cadre::mpi::detail::environment::get().mutex());
    const double start = benchmark::seconds();
    for (int i = 0; i < n; ++i) {
      if (first)
        MPI_Send(block.data(), static_cast<int>(bytes), MPI_BYTE, other, 2, MPI_COMM_WORLD);
      else
        MPI_Recv(sink.memory.data(), static_cast<int>(bytes), MPI_BYTE, other, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    const double took = benchmark::seconds() - start;
    lock.unlock();
    return n * static_cast<double>(bytes) / slowest(took) * 1e-9;
  }

  cadre::mpi::communicator& comm;
  counter sink;
  cadre::mpi::detail::message_link link;
  int other;
  bool first;
  std::uint32_t expected = 0;
};

}  // namespace

int main() {
  using benchmark::at_least, benchmark::at_most, benchmark::contender;
  cadre::mpi::communicator comm;
  if (comm.world_size() % 2 != 0) return 2;
  const bool tcp = comm.node_count() > 1;
  const bool crowded = comm.world_size() > 2;
  const std::string how = std::string(tcp ? ", TCP" : ", node") + ", " + std::to_string(comm.world_size()) + " ranks";
  pair_of_ranks pair(comm);
  const bool prints = comm.rank() == 0;
  if (prints) benchmark::print_head();
  const auto measure = [&](const std::string& name, const std::string& unit, std::vector<contender> all) {
    benchmark::interleave(all, 15);
    if (prints) benchmark::print(name + how, unit, all);
  };

  const int trips = crowded ? 300 : tcp ? 2'000 : 20'000;
  measure("link: round trip of 64 B", "us",
          {{"cadre, wait_while", [&] { return pair.round_trip(trips, [&] { pair.await(1); }); },
            crowded ? at_most(10) : benchmark::target{}},
           {"raw MPI", [&] { return pair.raw_round_trip(trips); },
            crowded ? benchmark::target{} : at_most(tcp ? 1.1 : 1.3)}});
  measure("link: round trip of 64 B, polling", "us",
          {{"cadre, flush and poll", [&] { return pair.round_trip(trips, [&] { pair.await_by_polling(1); }); }},
           {"raw MPI", [&] { return pair.raw_round_trip(trips); },
            crowded ? benchmark::target{} : at_most(tcp ? 1.1 : 1.3)}});
  if (!crowded) {
    for (const std::size_t bytes : {std::size_t{8}, std::size_t{64}})
      measure("link: messages of " + std::to_string(bytes) + " B one way", "M/s",
              {{"cadre", [&] { return pair.one_way(2'000'000, bytes); },
                bytes == 8 ? at_least(tcp ? 25 : 40) : benchmark::target{}}});
    const auto block = std::make_shared<std::vector<std::byte>>(std::size_t{4} << 20);
    for (const std::size_t bytes : {std::size_t{1} << 20, std::size_t{4} << 20})
      measure("link: blocks of " + std::to_string(bytes >> 20) + " MiB", "GB/s",
              {{"cadre", [&] { return pair.blocks(40, block, bytes); }},
               {"raw MPI", [&] { return pair.raw_blocks(40, *block, bytes); }, at_least(0.9)}});
  }
  std::vector<contender> idle{{"cadre",
                               [&] {
                                 comm.barrier();
                                 const double start = cpu_seconds();
                                 ::usleep(500'000);
                                 return pair.slowest((cpu_seconds() - start) / 0.5 * 100);
                               },
                               at_most(1)}};
  benchmark::interleave(idle, 5);
  if (prints) benchmark::print("link: an idle rank" + how, "% of a CPU", idle);
  pair.link.close(clock_type::now() + std::chrono::seconds(20));
}
