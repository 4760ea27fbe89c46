#ifndef CADRE_TUNE_ERROR_HPP
#define CADRE_TUNE_ERROR_HPP

#include <cadre/core/error.hpp>

#include <string_view>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// The base of what the tuner throws (9xx).
class tune_error : public error {
 protected:
  tune_error(int number, std::string_view message) : error("tune", number, message) {}
};

/// Thrown (901) when a distribution cannot be drawn from, or its values do not fit the member; names the parameter.
class bad_distribution : public tune_error {
 public:
  explicit bad_distribution(std::string_view message) : tune_error(901, message) {}
};

/// Thrown (902) when two parameters of a space have one name.
class duplicate_parameter : public tune_error {
 public:
  explicit duplicate_parameter(std::string_view message) : tune_error(902, message) {}
};

/// Thrown (903) when a configuration to be tried first lies outside of the space; names parameter and value.
class point_outside_space : public tune_error {
 public:
  explicit point_outside_space(std::string_view message) : tune_error(903, message) {}
};

/// Thrown (904) when grid_search is given a space with a continuous parameter; names it.
class infinite_grid : public tune_error {
 public:
  explicit infinite_grid(std::string_view message) : tune_error(904, message) {}
};

/// Thrown (905) when an option of a tuner, a study or a scheduler makes no sense.
class bad_option : public tune_error {
 public:
  explicit bad_option(std::string_view message) : tune_error(905, message) {}
};

/// Thrown (906) when a trial does not report the metric that is tuned; names those that it did report.
class metric_not_reported : public tune_error {
 public:
  explicit metric_not_reported(std::string_view message) : tune_error(906, message) {}
};

/// Thrown (907) when a study is called out of order: an unknown trial, a report of a trial that does not run.
class out_of_order : public tune_error {
 public:
  explicit out_of_order(std::string_view message) : tune_error(907, message) {}
};

/// Thrown (908) when a deterministic tuning cannot have as many threads at once as it needs.
class too_few_threads : public tune_error {
 public:
  explicit too_few_threads(std::string_view message) : tune_error(908, message) {}
};

/// Thrown (909) when the storage folder holds a study and `.resume` was not asked for.
class study_exists : public tune_error {
 public:
  explicit study_exists(std::string_view message) : tune_error(909, message) {}
};

/// Thrown (910) when the stored study was made with other settings; names each difference.
class study_differs : public tune_error {
 public:
  explicit study_differs(std::string_view message) : tune_error(910, message) {}
};

/// Thrown (911) when a stored study cannot be understood, though its records are intact.
class study_unreadable : public tune_error {
 public:
  explicit study_unreadable(std::string_view message) : tune_error(911, message) {}
};

/// Thrown (912) when the best trial is asked for and none has reported a number.
class no_best_trial : public tune_error {
 public:
  explicit no_best_trial(std::string_view message) : tune_error(912, message) {}
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif
