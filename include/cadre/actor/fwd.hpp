#ifndef CADRE_ACTOR_FWD_HPP
#define CADRE_ACTOR_FWD_HPP

#include <cadre/config/config.hpp>

CADRE_NAMESPACE_BEGIN

class runtime;
template <class T>
class actor;
template <class T>
class stream;
template <class T>
class stream_writer;
struct runtime_options;
struct remote_options;
struct actor_options;
class placement;

CADRE_NAMESPACE_END

#endif
