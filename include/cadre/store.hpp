#ifndef CADRE_STORE_HPP
#define CADRE_STORE_HPP

/// Objects in memory that the processes of a job share: put once, read in place.
#include <cadre/store/error.hpp>
#include <cadre/store/fwd.hpp>
#include <cadre/store/object_promise.hpp>
#include <cadre/store/object_ref.hpp>
#include <cadre/store/object_store.hpp>
#include <cadre/store/object_writer.hpp>
#include <cadre/store/options.hpp>
#include <cadre/store/spill_error.hpp>
#include <cadre/store/stored.hpp>
#include <cadre/store/transfer.hpp>
#include <cadre/store/travel.hpp>
#include <cadre/store/view.hpp>

#endif
