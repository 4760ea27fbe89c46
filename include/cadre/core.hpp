#ifndef CADRE_CORE_HPP
#define CADRE_CORE_HPP

/// What every room stands on; the standard library alone.
#include <cadre/core/contiguous.hpp>
#include <cadre/core/data_type.hpp>
#include <cadre/core/direction.hpp>
#include <cadre/core/error.hpp>
#include <cadre/core/function.hpp>
#include <cadre/core/fwd.hpp>
#include <cadre/core/hash.hpp>
#include <cadre/core/metric_map.hpp>
#include <cadre/core/permutation.hpp>
#include <cadre/core/portable.hpp>
#include <cadre/core/random.hpp>
#include <cadre/core/units.hpp>

#endif
