#ifndef CADRE_STORE_FWD_HPP
#define CADRE_STORE_FWD_HPP

#include <cadre/config/config.hpp>

#include <cstdint>

CADRE_NAMESPACE_BEGIN

class object_store;
template <class T>
class object_ref;
template <class T>
class view;
template <class T>
class object_writer;
template <class T>
class object_promise;
struct store_options;
struct put_options;
struct store_stats;

/// Customisation point: as what a T is stored, if not as itself. Expressions of Eigen are stored as their plain object.
template <class T>
struct stored_type;

CADRE_NAMESPACE_END

#endif
