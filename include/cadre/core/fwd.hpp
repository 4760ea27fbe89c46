#ifndef CADRE_CORE_FWD_HPP
#define CADRE_CORE_FWD_HPP

#include <cadre/config/config.hpp>

CADRE_NAMESPACE_BEGIN

class error;
class metric_map;
class permutation;
class random_stream;
class xxh64;
struct metric;
template <class T>
struct contiguous_traits;
template <class T>
struct portable;

CADRE_NAMESPACE_END

#endif
