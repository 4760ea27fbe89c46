#ifndef CADRE_PERSIST_CHECKPOINT_HPP
#define CADRE_PERSIST_CHECKPOINT_HPP

/// Named values in one file, replaced atomically and verified when read.
#include <cadre/persist/checkpoint_reader.hpp>
#include <cadre/persist/checkpoint_writer.hpp>

#endif
