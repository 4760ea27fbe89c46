#ifndef CADRE_COMM_FWD_HPP
#define CADRE_COMM_FWD_HPP

#include <cadre/config/config.hpp>

#include <cstdint>

CADRE_NAMESPACE_BEGIN

enum class reduce_op : std::uint8_t;
template <class Derived>
class collectives;
class any_communicator;
class local_communicator;
class local_team;

CADRE_NAMESPACE_END

#endif
