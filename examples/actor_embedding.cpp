// cadre inside a program that has a life of its own: it initialises MPI, handles its signals, and computes with OpenMP.
// mpirun -n 4 --bind-to none actor_embedding; without mpirun one rank does all.
#include <cadre/cadre.hpp>
#include <cadre/mpi.hpp>

#include <mpi.h>
#include <omp.h>

#include <csignal>
#include <cstdio>
#include <vector>

volatile std::sig_atomic_t stop_asked = 0;

/// Part of the host's model: one line of cells, diffused by the host's own OpenMP loop.
std::vector<double> diffuse(std::vector<double> cells, int steps) {
  for (int s = 0; s < steps && stop_asked == 0; ++s) {
    std::vector<double> next(cells);
    const int last = static_cast<int>(cells.size()) - 1;
#pragma omp parallel for  // as many threads as the task holds cpus
    for (int i = 1; i < last; ++i) {
      const auto k = static_cast<std::size_t>(i);
      next[k] = 0.25 * cells[k - 1] + 0.5 * cells[k] + 0.25 * cells[k + 1];
    }
    cells = std::move(next);
  }
  return cells;
}

int main(int argc, char** argv) {
  int provided = 0, rank = 0, ranks = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  std::signal(SIGTERM, [](int) { stop_asked = 1; });  // the host's, before and afterwards
  double total = 0;
  {
    // Collective, as its destruction. It duplicates the communicator, and calls neither MPI_Init nor MPI_Finalize.
    cadre::mpi::runtime rt(MPI_COMM_WORLD, {.threads = 2});
    if (rank == 0) {
      std::vector<double> line(1000);
      line[500] = 1000;
      std::vector<cadre::future<std::vector<double>>> parts;
      for (int k = 0; k < 8; ++k)
        parts.push_back(rt.submit<&diffuse>({.resources = {{"cpu", 2}}, .on = cadre::spread}, line, 100));
      for (auto& part : parts)
        for (const double x : part.get()) total += x;
    }
    // The other ranks do what is asked of them in the destructor, or in rt.serve(), until rank 0 ends.
  }
  MPI_Bcast(&total, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);  // the host goes on
  if (rank == 0) std::printf("%.0f\n", total);
  MPI_Finalize();
  return stop_asked;
}
