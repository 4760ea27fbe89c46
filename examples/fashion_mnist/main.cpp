// Tunes, then trains a perceptron on Fashion-MNIST, data-parallel over threads or over the ranks of mpirun.
#include "options.hpp"
#include "run_directory.hpp"
#include "training.hpp"
#include "tuning.hpp"

#include <cadre/comm.hpp>
#include <cadre/os/processors.hpp>
#include <cadre/persist.hpp>
#include <cadre/zlib.hpp>
#ifdef CADRE_EXAMPLE_WITH_MPI
#include <cadre/mpi.hpp>
#endif

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <system_error>

namespace {

using namespace fashion;

/// Another rank failed and says why.
struct told_elsewhere {};

/// Runs `f` on every rank; if it throws on one, no rank goes on, and the first that failed keeps its error.
template <class F>
void together(cadre::any_communicator& world, F&& f) {
  std::exception_ptr error;
  try {
    f();
  } catch (...) {
    error = std::current_exception();
  }
  const int first = world.all_reduce(error ? world.rank() : INT_MAX, cadre::min);
  if (first == world.rank()) std::rethrow_exception(error);
  if (first != INT_MAX) throw told_elsewhere{};
}

int run(int argc, char** argv, cadre::any_communicator world) {
  const auto start = std::chrono::steady_clock::now();
  const bool leader = world.rank() == 0;
  options o;
  together(world, [&] {
    o = parse_options(argc, argv);
    if (o.workers == 0)
      o.workers = world.backend() == "mpi" ? world.world_size() : static_cast<int>(cadre::usable_processors());
    if (world.backend() == "mpi" && o.workers != world.world_size())
      throw input_error::bad_value("--workers", std::to_string(o.workers),
                                   std::to_string(world.world_size()) + ", the ranks of mpirun, or leave it out");
    if (o.deterministic && 4 % o.workers != 0)
      throw input_error::bad_value("--workers", std::to_string(o.workers), "1, 2 or 4 with --deterministic");
  });
  if (o.help) {
    if (leader) std::fputs(help_text.data(), stdout);
    return 0;
  }

  std::optional<images> train, test;
  together(world, [&] {
    train.emplace(o.data, "train");
    if (train->size() <= held_out)
      throw input_error::not_fashion_mnist(o.data, std::to_string(train->size()) + " training images, of which " +
                                                       std::to_string(held_out) + " are held out");
    test.emplace(o.data, "t10k");
  });

  config cfg;
  std::optional<cadre::journal> run_directory;  // the leader's, to the end
  together(world, [&] {
    if (leader) run_directory = take_run_directory(o);
  });
  // The others wait as long as the leader tunes: if it dies, mpirun ends them.
  world.set_timeout(std::chrono::nanoseconds::max());
  together(world, [&] {
    if (leader) cfg = tune_on(*train, o);
  });
  world.set_timeout(cadre::default_collective_timeout);
  cfg = world.broadcast(cfg, 0);

  cadre::train::trainer trainer{training{&*train, &*test, o.epochs, o.seed, o.deterministic ? 4 : 0}, cfg,
                                cadre::train::scaling{.workers = o.workers},
                                cadre::train::run_options{.name = "train",
                                                          .storage = o.run_dir,
                                                          .checkpoint = {.num_to_keep = 3},
                                                          .resume = o.resume,
                                                          .progress = true}};
  cadre::train::result result;
  together(world, [&] {
    result = world.backend() == "mpi" ? trainer.fit(world) : trainer.fit();
    if (result.error) std::rethrow_exception(result.error);
  });
  if (!leader) return 0;

  draw_curves(o.run_dir + "/curves.svg", result.history);
  double seconds_per_image = 0;  // an epoch has the same number of images every time
  for (const auto& epoch : result.history)
    seconds_per_image += 1 / epoch.at("images_per_second") / static_cast<double>(result.history.size());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::fflush(stderr);
  std::printf("test_accuracy=%.4f images_per_second=%.0f workers=%d backend=%s seconds=%.1f\n",
              result.metrics.at("test_accuracy"), 1 / seconds_per_image, o.workers,
              std::string(world.backend()).c_str(), seconds);
  if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "cannot write the result");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
#ifdef CADRE_EXAMPLE_WITH_MPI
    if (cadre::mpi::launched()) {
      cadre::mpi::communicator world;
      return run(argc, argv, world);
    }
#endif
    cadre::local_communicator alone;
    return run(argc, argv, alone);
  } catch (const told_elsewhere&) {
    return 2;
  } catch (const cadre::error& e) {
    std::fprintf(stderr, "fashion_mnist: %s\n", e.what());
    return 2;
  } catch (const std::exception& e) {  // no memory, no threads: nothing that other options would mend
    std::fprintf(stderr, "fashion_mnist: %s\n", e.what());
    return 1;
  }
}
