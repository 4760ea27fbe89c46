#ifndef CADRE_MPI_DETAIL_MESSAGE_LINK_HPP
#define CADRE_MPI_DETAIL_MESSAGE_LINK_HPP

#include <cadre/mpi/detail/message_link_class.hpp>
#include <cadre/mpi/detail/message_progress.hpp>
#include <cadre/mpi/detail/message_sending.hpp>

#endif
