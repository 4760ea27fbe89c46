// A matrix is put once; three other processes read it where it lies, and find their way by the store's name alone.
#include <cadre/eigen.hpp>
#include <cadre/store.hpp>

#include <Eigen/Core>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

int main() {
  using namespace cadre::literals;
  const std::string name = "example-share-" + std::to_string(::getpid());

  auto store = cadre::object_store::open({.name = name, .capacity = 64_MiB});  // lives as long as a process has it open
  std::vector<::pid_t> workers;
  for (int part = 0; part < 3; ++part) {
    const ::pid_t worker = ::fork();
    if (worker == 0) {
      auto mine = cadre::object_store::open({.name = name, .rank = part});  // a child opens it itself
      // Whoever asks first has it made; the others wait for that.
      const auto ref = mine.get_or_create<Eigen::MatrixXd>(
          "ramp", [] { return Eigen::VectorXd::LinSpaced(900, 0, 899).replicate(1, 100); });
      const auto ramp = mine.get(ref);  // *ramp is an Eigen::Map<const Eigen::MatrixXd>
      mine.put(ramp->middleRows(300 * part, 300).sum(), {.name = "sum " + std::to_string(part)});
      ::_exit(0);
    }
    workers.push_back(worker);
  }

  for (const ::pid_t worker : workers) ::waitpid(worker, nullptr, 0);
  double total = 0;
  for (int part = 0; part < 3; ++part) {
    const auto ref = store.find<double>("sum " + std::to_string(part));
    const auto sum = store.get(ref.value());
    total += *sum;
  }
  std::printf("%.0f\n", total);
  std::printf("processes left: %u\n", store.stats().processes);
}
