#ifndef CADRE_ARCHIVE_ERROR_HPP
#define CADRE_ARCHIVE_ERROR_HPP

#include <cadre/core/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// What went wrong between a value and its bytes.
class archive_error : public error {
 protected:
  archive_error(int number, std::string_view message) : error("archive", number, message) {}
};

/// Thrown (501) when a value needs more bytes than there are.
class archive_truncated : public archive_error {
 public:
  archive_truncated(std::uint64_t wanted, std::uint64_t there, std::uint64_t offset)
      : archive_error(501, "the data end too early: " + std::to_string(wanted) + " bytes wanted at offset " +
                               std::to_string(offset) + ", " + std::to_string(there) +
                               " left; they were cut off, or written as another type") {}
};

/// Thrown (502) when the bytes cannot be those of the type that is read.
class archive_corrupt : public archive_error {
 public:
  archive_corrupt(std::string_view what, std::uint64_t offset)
      : archive_error(502, std::string(what) + " at offset " + std::to_string(offset) +
                               "; the data are damaged, or were written as another type") {}
};

/// Thrown (503) in place of cereal's own exception, whose text it carries.
class serialization_failed : public archive_error {
 public:
  explicit serialization_failed(std::string_view cause) : archive_error(503, "cereal: " + std::string(cause)) {}
};

/// Thrown (504) when bytes are left after the value was read.
class archive_not_exhausted : public archive_error {
 public:
  archive_not_exhausted(std::uint64_t left, std::uint64_t size)
      : archive_error(504, std::to_string(left) + " of " + std::to_string(size) +
                               " bytes are left after the value was read; it was written as another type, or by "
                               "another version of its serialize function") {}
};

CADRE_NAMESPACE_END

#endif
