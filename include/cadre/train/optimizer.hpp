#ifndef CADRE_TRAIN_OPTIMIZER_HPP
#define CADRE_TRAIN_OPTIMIZER_HPP

/// The optimizers, and gradient clipping.
#include <cadre/train/optimizer/adamw.hpp>
#include <cadre/train/optimizer/clip.hpp>
#include <cadre/train/optimizer/optimizer.hpp>
#include <cadre/train/optimizer/sgd.hpp>

#endif
