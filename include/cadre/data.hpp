#ifndef CADRE_DATA_HPP
#define CADRE_DATA_HPP

#include <cadre/data/batch.hpp>
#include <cadre/data/csv.hpp>
#include <cadre/data/distributed_sampler.hpp>
#include <cadre/data/error.hpp>
#include <cadre/data/idx.hpp>

#endif
