#ifndef CADRE_TRAIN_FWD_HPP
#define CADRE_TRAIN_FWD_HPP

#include <cadre/config/config.hpp>

CADRE_NAMESPACE_BEGIN
namespace train {

struct parameter;
class parameters;
class data_parallel;
class gradient_step;
class optimizer;
class sgd;
class adam;
class adamw;
class schedule;
class context;
class report_handler;
struct run_options;
struct result;
template <class Function, class Config>
class trainer;

}  // namespace train
CADRE_NAMESPACE_END

#endif
