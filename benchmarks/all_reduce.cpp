// all_reduce of floats by ranks on one node, beside MPI_Allreduce and beside a copy by all ranks at once, which is what
// the memory can do. mpirun -n 2. Before each call every rank writes its own data anew, as a backward pass does: else
// parts of it would stay in the cache of the rank that reduces them, and nothing would have to travel.
#include "harness.hpp"

#include <cadre/comm.hpp>
#include <cadre/mpi.hpp>

#include <cstring>

int main() {
  cadre::mpi::communicator comm;
  if (comm.rank() == 0) benchmark::print_head();
  for (const std::size_t bytes : {std::size_t{64} << 10, std::size_t{1} << 20, std::size_t{25} << 20}) {
    const std::size_t n = bytes / sizeof(float);
    auto shared = comm.allocate<float>(n);
    std::vector<float> plain(n), copy(n);
    const int calls = bytes > (std::size_t{4} << 20) ? 3 : bytes > (std::size_t{1} << 18) ? 40 : 300;
    // Every rank makes the same rounds; the figure is the slowest rank's, in microseconds per call.
    const auto timed = [&](std::span<float> data, auto&& call) {
      return [&comm, calls, data, call] {
        double spent = 0;
        for (int i = 0; i < calls; ++i) {
          std::ranges::fill(data, static_cast<float>(comm.rank() + i));
          comm.barrier();
          const double start = benchmark::seconds();
          call();
          spent += benchmark::seconds() - start;
        }
        return comm.all_reduce(spent / calls * 1e6, cadre::max);
      };
    };
    // Nobody can expect a sum to cost less than a copy that all ranks make at once.
    const bool large = bytes >= std::size_t{1} << 20, huge = bytes >= std::size_t{25} << 20;
    std::vector<benchmark::contender> all{
        {"cadre, memory of the communicator", timed(shared, [&] { comm.all_reduce(shared, cadre::sum); })},
        {"memcpy by all ranks at once",
         timed(plain,
               [&] {
                 std::memcpy(copy.data(), plain.data(), bytes);
                 asm volatile("" ::"r"(copy.data()) : "memory");
               }),
         large ? benchmark::at_most(1.5) : benchmark::target{}},
        {"cadre, plain memory", timed(plain, [&] { comm.all_reduce(plain, cadre::sum); })},
        {"MPI_Allreduce in place",
         timed(plain,
               [&] {
                 MPI_Allreduce(MPI_IN_PLACE, plain.data(), static_cast<int>(n), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
               }),
         huge ? benchmark::at_most(0.2) : benchmark::target{}}};
    benchmark::interleave(all, 15);
    if (comm.rank() == 0)
      benchmark::print(
          "all_reduce " + std::to_string(bytes >> 10) + " KiB, " + std::to_string(comm.world_size()) + " ranks", "us",
          all);
  }
}
