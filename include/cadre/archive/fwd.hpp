#ifndef CADRE_ARCHIVE_FWD_HPP
#define CADRE_ARCHIVE_FWD_HPP

#include <cadre/config/config.hpp>

CADRE_NAMESPACE_BEGIN

class archive_extension;
class byte_buffer;
class input_archive;
class output_archive;
template <class T>
struct type_label;

CADRE_NAMESPACE_END

#endif
