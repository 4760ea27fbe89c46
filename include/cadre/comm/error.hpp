#ifndef CADRE_COMM_ERROR_HPP
#define CADRE_COMM_ERROR_HPP

#include <cadre/core/error.hpp>

#include <string_view>

CADRE_NAMESPACE_BEGIN

/// The base of what goes wrong between ranks: after it the communicator is broken, and every later call on it throws
/// communicator_aborted.
class communicator_error : public error {
 protected:
  using error::error;
};

/// Thrown (401) when ranks did not arrive at a collective in time; the text names them.
class communicator_timeout : public communicator_error {
 public:
  explicit communicator_timeout(std::string_view message) : communicator_error("comm", 401, message) {}
};

/// Thrown (402) by calls on a communicator that a rank has aborted or left, or that an earlier error broke.
class communicator_aborted : public communicator_error {
 public:
  explicit communicator_aborted(std::string_view message) : communicator_error("comm", 402, message) {}
};

/// Thrown (403) on every rank when ranks call different operations, or one operation with other types or counts.
class collective_mismatch : public communicator_error {
 public:
  explicit collective_mismatch(std::string_view message) : communicator_error("comm", 403, message) {}
};

/// Thrown (404, 405) on the calling rank before anything is sent: the communicator stays usable.
class collective_argument_error : public error {
 public:
  /// 404: the operation has no meaning for the element type.
  static collective_argument_error unsupported_reduction(std::string_view message) { return {404, message}; }
  /// 405: sizes that do not fit together, a rank that does not exist, a count whose bytes overflow.
  static collective_argument_error bad_argument(std::string_view message) { return {405, message}; }

 private:
  collective_argument_error(int number, std::string_view message) : error("comm", number, message) {}
};

CADRE_NAMESPACE_END

#endif
