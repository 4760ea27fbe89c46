#ifndef CADRE_REPORT_ERROR_HPP
#define CADRE_REPORT_ERROR_HPP

#include <cadre/core/error.hpp>

#include <string_view>

CADRE_NAMESPACE_BEGIN

/// The base of this room's errors, 1001 to 1049. What the file system refuses is a file_error (155 to 158).
class report_error : public error {
 protected:
  report_error(int number, std::string_view message) : error("report", number, message) {}
};

/// Thrown (1001) when a record is asked for a field that it does not have.
class no_such_field : public report_error {
 public:
  explicit no_such_field(std::string_view message) : report_error(1001, message) {}
};

/// Thrown (1002) when a row has a field that the table has no column for.
class unknown_column : public report_error {
 public:
  explicit unknown_column(std::string_view message) : report_error(1002, message) {}
};

/// Thrown (1003) when rows are to be appended to a CSV file that has other columns.
class columns_differ : public report_error {
 public:
  explicit columns_differ(std::string_view message) : report_error(1003, message) {}
};

/// Thrown (1004) when the columns given for a CSV file have a name twice.
class duplicate_column : public report_error {
 public:
  explicit duplicate_column(std::string_view message) : report_error(1004, message) {}
};

CADRE_NAMESPACE_END

#endif
