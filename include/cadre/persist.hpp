#ifndef CADRE_PERSIST_HPP
#define CADRE_PERSIST_HPP

/// What survives the process: checkpoints and journals.
#include <cadre/persist/checkpoint.hpp>
#include <cadre/persist/error.hpp>
#include <cadre/persist/fwd.hpp>
#include <cadre/persist/journal.hpp>

#endif
