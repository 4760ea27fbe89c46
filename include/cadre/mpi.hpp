#ifndef CADRE_MPI_HPP
#define CADRE_MPI_HPP

#include <cadre/mpi/communicator.hpp>
#include <cadre/mpi/environment.hpp>
#include <cadre/mpi/error.hpp>
#include <cadre/mpi/run.hpp>
#include <cadre/mpi/runtime.hpp>

#endif
