#ifndef CADRE_CADRE_HPP
#define CADRE_CADRE_HPP

/// All that needs no third party beyond Eigen and cereal. The adapters (eigen.hpp, zlib.hpp, mpi.hpp, cuda.hpp,
/// nccl.hpp) are included beside it by who uses them.

#include <cadre/actor.hpp>
#include <cadre/archive.hpp>
#include <cadre/async.hpp>
#include <cadre/async/blocking.hpp>
#include <cadre/async/channel.hpp>
#include <cadre/async/coroutine.hpp>
#include <cadre/async/invoke.hpp>
#include <cadre/async/task_graph.hpp>
#include <cadre/async/task_group.hpp>
#include <cadre/comm.hpp>
#include <cadre/core.hpp>
#include <cadre/data.hpp>
#include <cadre/observe.hpp>
#include <cadre/os.hpp>
#include <cadre/persist.hpp>
#include <cadre/report.hpp>
#include <cadre/store.hpp>
#include <cadre/train.hpp>
#include <cadre/tune.hpp>

#endif
