// all_reduce of floats by ranks on one node, beside MPI_Allreduce and beside a copy by all ranks at once, which is what
// the memory can do. mpirun -n 2. The operation is max, since repeated sums would run to infinity.
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
    std::vector<float> plain(n, 1.f), copy(n), theirs(n, 1.f);
    std::ranges::fill(shared, 1.f);
    const int calls = bytes > (std::size_t{4} << 20) ? 3 : bytes > (std::size_t{1} << 18) ? 40 : 300;
    // Every rank makes the same rounds; the figure is the slowest rank's, in microseconds per call.
    const auto timed = [&](auto&& call) {
      return [&comm, calls, call] {
        comm.barrier();
        const double start = benchmark::seconds();
        for (int i = 0; i < calls; ++i) call();
        return comm.all_reduce((benchmark::seconds() - start) / calls * 1e6, cadre::max);
      };
    };
    // A sum cannot cost less than a copy that all ranks make at once; below 1 MiB the calls themselves count.
    const bool large = bytes >= std::size_t{1} << 20, huge = bytes >= std::size_t{25} << 20;
    std::vector<benchmark::contender> all{
        {"cadre, memory of the communicator", timed([&] { comm.all_reduce(shared, cadre::max); })},
        {"memcpy by all ranks at once", timed([&] {
           std::memcpy(copy.data(), plain.data(), bytes);
           asm volatile("" ::"r"(copy.data()) : "memory");
         }),
         large ? benchmark::at_most(1.5) : benchmark::target{}},
        {"cadre, plain memory", timed([&] { comm.all_reduce(plain, cadre::max); })},
        {"MPI_Allreduce in place", timed([&] {
           MPI_Allreduce(MPI_IN_PLACE, theirs.data(), static_cast<int>(n), MPI_FLOAT, MPI_MAX, MPI_COMM_WORLD);
         }),
         huge ? benchmark::at_most(0.2) : benchmark::target{}}};
    benchmark::interleave(all, 15);
    if (comm.rank() == 0)
      benchmark::print(
          "all_reduce " + std::to_string(bytes >> 10) + " KiB, " + std::to_string(comm.world_size()) + " ranks", "us",
          all);
  }
}
