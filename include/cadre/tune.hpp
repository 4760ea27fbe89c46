#ifndef CADRE_TUNE_HPP
#define CADRE_TUNE_HPP

/// Hyperparameter tuning: typed spaces, random and grid search, ASHA, a study without threads, a tuner on a pool.
#include <cadre/tune/asha.hpp>
#include <cadre/tune/distribution.hpp>
#include <cadre/tune/domain.hpp>
#include <cadre/tune/error.hpp>
#include <cadre/tune/fwd.hpp>
#include <cadre/tune/grid_search.hpp>
#include <cadre/tune/random_search.hpp>
#include <cadre/tune/results.hpp>
#include <cadre/tune/scheduler.hpp>
#include <cadre/tune/searcher.hpp>
#include <cadre/tune/space.hpp>
#include <cadre/tune/stop_condition.hpp>
#include <cadre/tune/study.hpp>
#include <cadre/tune/study_options.hpp>
#include <cadre/tune/trial.hpp>
#include <cadre/tune/trial_state.hpp>
#include <cadre/tune/tuner.hpp>
#include <cadre/tune/tuner_options.hpp>

#endif
