#ifndef CADRE_CORE_CHRONO_HPP
#define CADRE_CORE_CHRONO_HPP

#include <cadre/config/config.hpp>

// Durations, clocks and their literals. libstdc++ keeps them apart from the calendar, which brings <sstream> along and
// would cost every user a tenth of a second.
#if __has_include(<bits/chrono.h>)
#include <bits/chrono.h>
#else
#include <chrono>
#endif

#endif
