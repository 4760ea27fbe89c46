#ifndef CONSUMER_HPP
#define CONSUMER_HPP

#include <cadre/cadre.hpp>

double mean_over_ranks(int ranks);

#endif
