// An actor that outlives what it runs on: it is made anew with all that it has answered, and its callers see nothing of it but
// a pause. In one process it is killed; under mpirun its whole rank is:
//   mpirun --enable-recovery --bind-to none -n 3 actor_restart
#include <cadre/mpi.hpp>

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <vector>

class ledger {
 public:
  int add(int amount) { return sum_ += amount; }
  int process() const { return ::getpid(); }
  int restarts() const { return cadre::this_actor::restarts(); }

  template <class Archive>
  void serialize(Archive& archive) {
    archive(sum_);
  }

 private:
  int sum_ = 0;
};

int main(int argc, char** argv) {
  return cadre::mpi::run(argc, argv, [](cadre::runtime& rt) {
    // Its state is kept after each call, before the call is answered; calls that are lost on the way are made again.
    const auto book = rt.actor<ledger>({.name = "book",
                                        .on = cadre::on_rank(rt.world_size() - 1),
                                        .max_restarts = -1,
                                        .max_task_retries = -1,
                                        .checkpoint_every = 1});
    for (int round = 0; round < 3; ++round) {
      int sum = 0;
      for (int k = 0; k < 100; ++k) sum = book.call<&ledger::add>(1).get();
      std::printf("%d after %d restarts\n", sum, book.call<&ledger::restarts>().get());

      const int process = book.call<&ledger::process>().get();
      if (process != ::getpid())
        ::kill(process, SIGKILL);
      else
        book.kill({.no_restart = false});
    }
    std::printf("%d in the end\n", book.call<&ledger::add>(0).get());
  });
}
