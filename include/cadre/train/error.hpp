#ifndef CADRE_TRAIN_ERROR_HPP
#define CADRE_TRAIN_ERROR_HPP

#include <cadre/core/error.hpp>

#include <string_view>

CADRE_NAMESPACE_BEGIN
namespace train {

/// Thrown (801) by parameters::add and make for what cannot be a parameter: a name that is empty or taken, a value and
/// a gradient that differ in size or overlap, a temporary that owns its elements, a list that is already in use.
class parameter_invalid : public error {
 public:
  explicit parameter_invalid(std::string_view message) : error("train", 801, message) {}
};

/// Thrown (802) when a parameter's value or gradient was moved or resized after it was added.
class parameter_changed : public error {
 public:
  explicit parameter_changed(std::string_view message) : error("train", 802, message) {}
};

/// Thrown (803) on every rank when ranks were given different lists of parameters; names the first difference.
class parameters_disagree : public error {
 public:
  explicit parameters_disagree(std::string_view message) : error("train", 803, message) {}
};

/// Thrown (804) when a step is used against its order: an unknown parameter, one that is ready twice, a second finish,
/// a second step while one is open.
class step_misused : public error {
 public:
  explicit step_misused(std::string_view message) : error("train", 804, message) {}
};

/// Thrown (805) by finish when parameters were not ready; names them.
class parameters_not_ready : public error {
 public:
  explicit parameters_not_ready(std::string_view message) : error("train", 805, message) {}
};

/// Thrown (806) when an optimizer's saved state does not belong to these parameters.
class optimizer_state_mismatch : public error {
 public:
  explicit optimizer_state_mismatch(std::string_view message) : error("train", 806, message) {}
};

/// Thrown (807) for an option whose value has no meaning.
class option_invalid : public error {
 public:
  explicit option_invalid(std::string_view message) : error("train", 807, message) {}
};

/// Thrown (808), or held by result::error, on the ranks where the failure of another one ended the attempt; names that
/// rank and its error. The rank itself, and trainer::fit() with threads, give the original exception.
class worker_failed : public error {
 public:
  explicit worker_failed(std::string_view message) : error("train", 808, message) {}
};

/// Thrown (809) on every rank when some ranks report while others have returned; names them.
class reports_diverge : public error {
 public:
  explicit reports_diverge(std::string_view message) : error("train", 809, message) {}
};

/// Thrown (810) by report on the other ranks when rank 0 could not keep the report: its saver threw, the disk is full.
class report_failed : public error {
 public:
  explicit report_failed(std::string_view message) : error("train", 810, message) {}
};

/// Thrown (811) when the run's folder already holds a run and run_options::resume is false.
class run_exists : public error {
 public:
  explicit run_exists(std::string_view message) : error("train", 811, message) {}
};

/// Thrown (812) when the run's folder cannot be made or read.
class run_folder_error : public error {
 public:
  explicit run_folder_error(std::string_view message) : error("train", 812, message) {}
};

/// Thrown (813) on every rank by aggregate when ranks gave other names.
class metrics_disagree : public error {
 public:
  explicit metrics_disagree(std::string_view message) : error("train", 813, message) {}
};

/// Thrown (814) when saved values are loaded into parameters of other names, types or shapes.
class parameters_mismatch : public error {
 public:
  explicit parameters_mismatch(std::string_view message) : error("train", 814, message) {}
};

}  // namespace train
CADRE_NAMESPACE_END

#endif
