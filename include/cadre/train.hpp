#ifndef CADRE_TRAIN_HPP
#define CADRE_TRAIN_HPP

/// Data-parallel training: parameters, gradient averaging, optimizers, schedules, and the trainer around them.
#include <cadre/train/attempt.hpp>
#include <cadre/train/context.hpp>
#include <cadre/train/data_parallel.hpp>
#include <cadre/train/error.hpp>
#include <cadre/train/fwd.hpp>
#include <cadre/train/metrics.hpp>
#include <cadre/train/optimizer.hpp>
#include <cadre/train/parameters.hpp>
#include <cadre/train/report_handler.hpp>
#include <cadre/train/result.hpp>
#include <cadre/train/run_options.hpp>
#include <cadre/train/schedule.hpp>
#include <cadre/train/trainer.hpp>

#endif
