// The second translation unit: every definition in a header must be inline, or the two do not link.
#include "consumer.hpp"

double mean_over_ranks(int ranks) {
  double mean = -1;
  cadre::local_team team{ranks};
  team.run([&](cadre::local_communicator& comm) {
    const double sum = comm.all_reduce(static_cast<double>(comm.rank()), cadre::sum);
    if (comm.rank() == 0) mean = sum / comm.world_size();
  });
  return mean;
}
