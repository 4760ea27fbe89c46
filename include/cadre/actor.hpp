#ifndef CADRE_ACTOR_HPP
#define CADRE_ACTOR_HPP

/// Tasks, actors and objects anywhere in a job.
#include <cadre/actor/actor.hpp>
#include <cadre/actor/error.hpp>
#include <cadre/actor/fwd.hpp>
#include <cadre/actor/method.hpp>
#include <cadre/actor/options.hpp>
#include <cadre/actor/placement.hpp>
#include <cadre/actor/process_pool.hpp>
#include <cadre/actor/run.hpp>
#include <cadre/actor/runtime.hpp>
#include <cadre/actor/stream.hpp>
#include <cadre/actor/this_actor.hpp>

#endif
