#ifndef CADRE_OBSERVE_ERROR_HPP
#define CADRE_OBSERVE_ERROR_HPP

#include <cadre/core/error.hpp>

#include <string_view>

CADRE_NAMESPACE_BEGIN

/// The base of this room's errors, 1050 to 1099.
class observe_error : public error {
 protected:
  observe_error(int number, std::string_view message) : error("observe", number, message) {}
};

/// Thrown (1050) when a metric is registered again as another kind or with other buckets.
class metric_mismatch : public observe_error {
 public:
  explicit metric_mismatch(std::string_view message) : observe_error(1050, message) {}
};

/// Thrown (1051) when a metric's or label's name or a bucket option is not one that Prometheus accepts.
class invalid_metric : public observe_error {
 public:
  explicit invalid_metric(std::string_view message) : observe_error(1051, message) {}
};

CADRE_NAMESPACE_END

#endif
