#ifndef CADRE_PERSIST_FWD_HPP
#define CADRE_PERSIST_FWD_HPP

#include <cadre/config/config.hpp>

CADRE_NAMESPACE_BEGIN

class checkpoint_reader;
class checkpoint_writer;
class journal;
struct journal_options;

CADRE_NAMESPACE_END

#endif
