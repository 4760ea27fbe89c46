#ifndef CADRE_COMM_FWD_HPP
#define CADRE_COMM_FWD_HPP

#include <cadre/config/config.hpp>

#include <cstdint>

CADRE_NAMESPACE_BEGIN

namespace detail {
struct thread_peers;
template <class Peers>
class thread_group;
}  // namespace detail

enum class reduce_op : std::uint8_t;
template <class Derived>
class collectives;
class any_communicator;
template <class Group>
class basic_local_communicator;
using local_communicator = basic_local_communicator<detail::thread_group<detail::thread_peers>>;
class local_team;

CADRE_NAMESPACE_END

#endif
