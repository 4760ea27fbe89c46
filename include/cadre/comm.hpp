#ifndef CADRE_COMM_HPP
#define CADRE_COMM_HPP

#include <cadre/comm/any_communicator.hpp>
#include <cadre/comm/buffer.hpp>
#include <cadre/comm/collectives.hpp>
#include <cadre/comm/communicator.hpp>
#include <cadre/comm/error.hpp>
#include <cadre/comm/fwd.hpp>
#include <cadre/comm/local_team.hpp>
#include <cadre/comm/reduce_op.hpp>

#endif
