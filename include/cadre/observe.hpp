#ifndef CADRE_OBSERVE_HPP
#define CADRE_OBSERVE_HPP

#include <cadre/observe/error.hpp>
#include <cadre/observe/events.hpp>
#include <cadre/observe/log.hpp>
#include <cadre/observe/metrics.hpp>
#include <cadre/observe/prometheus.hpp>
#include <cadre/observe/rank.hpp>

#endif
