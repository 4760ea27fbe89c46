#include <cadre/mpi.hpp>

int ranks() { return cadre::mpi::communicator{}.world_size(); }
