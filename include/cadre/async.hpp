#ifndef CADRE_ASYNC_HPP
#define CADRE_ASYNC_HPP

/// Tasks and futures on a work-stealing pool: docs/async.md.

#include <cadre/async/error.hpp>
#include <cadre/async/future.hpp>
#include <cadre/async/fwd.hpp>
#include <cadre/async/promise.hpp>
#include <cadre/async/resources.hpp>
#include <cadre/async/shared_future.hpp>
#include <cadre/async/task_options.hpp>
#include <cadre/async/this_task.hpp>
#include <cadre/async/thread_pool.hpp>
#include <cadre/async/wait.hpp>
#include <cadre/async/when_all.hpp>
#include <cadre/async/when_any.hpp>

#endif
