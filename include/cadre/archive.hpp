#ifndef CADRE_ARCHIVE_HPP
#define CADRE_ARCHIVE_HPP

/// The one archive over byte buffers that checkpoints, stores and messages share.
#include <cadre/archive/byte_buffer.hpp>
#include <cadre/archive/error.hpp>
#include <cadre/archive/fwd.hpp>
#include <cadre/archive/input_archive.hpp>
#include <cadre/archive/output_archive.hpp>
#include <cadre/archive/to_bytes.hpp>
#include <cadre/archive/type_label.hpp>

#endif
