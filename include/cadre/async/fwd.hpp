#ifndef CADRE_ASYNC_FWD_HPP
#define CADRE_ASYNC_FWD_HPP

#include <cadre/config/config.hpp>

CADRE_NAMESPACE_BEGIN

class thread_pool;
class task_group;
class task_graph;
class graph_node;
struct thread_pool_options;
struct loop_options;
struct task_options;
struct unobserved_error;
struct unit;

template <class T>
class future;

template <class T>
class shared_future;

template <class T>
class promise;

template <class T>
struct any_result;

CADRE_NAMESPACE_END

#endif
