#ifndef CADRE_MPI_DETAIL_MPI_API_HPP
#define CADRE_MPI_DETAIL_MPI_API_HPP

// MPI without its C++ bindings: they left the standard with MPI 3 and warn under -Wextra.
#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>

#endif
