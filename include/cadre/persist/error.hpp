#ifndef CADRE_PERSIST_ERROR_HPP
#define CADRE_PERSIST_ERROR_HPP

#include <cadre/core/error.hpp>

#include <string_view>

CADRE_NAMESPACE_BEGIN

/// Anything that is wrong with a checkpoint; caught as one to go back to an older file.
class checkpoint_error : public error {
 protected:
  checkpoint_error(int number, std::string_view message) : error("persist", number, message) {}
};

/// Thrown (511) when a name is read that was not written; lists the names that were.
class checkpoint_value_missing : public checkpoint_error {
 public:
  explicit checkpoint_value_missing(std::string_view message) : checkpoint_error(511, message) {}
};

/// Thrown (512) when a value is read as another type than it was written as; names both.
class checkpoint_type_mismatch : public checkpoint_error {
 public:
  explicit checkpoint_type_mismatch(std::string_view message) : checkpoint_error(512, message) {}
};

/// Thrown (513) when a file is no checkpoint at all.
class checkpoint_foreign : public checkpoint_error {
 public:
  explicit checkpoint_foreign(std::string_view message) : checkpoint_error(513, message) {}
};

/// Thrown (514) when a checkpoint ends before its stated size.
class checkpoint_truncated : public checkpoint_error {
 public:
  explicit checkpoint_truncated(std::string_view message) : checkpoint_error(514, message) {}
};

/// Thrown (515) when a checksum does not match, or parts of the file contradict one another.
class checkpoint_corrupt : public checkpoint_error {
 public:
  explicit checkpoint_corrupt(std::string_view message) : checkpoint_error(515, message) {}
};

/// Thrown (516) when a checkpoint was written by a later format than this program knows.
class checkpoint_too_new : public checkpoint_error {
 public:
  explicit checkpoint_too_new(std::string_view message) : checkpoint_error(516, message) {}
};

/// Thrown (517) when a name is written twice.
class checkpoint_name_taken : public checkpoint_error {
 public:
  explicit checkpoint_name_taken(std::string_view message) : checkpoint_error(517, message) {}
};

/// Thrown (518) when a value of the right type cannot be read from its intact bytes: another shape, or a serialize
/// function that has changed.
class checkpoint_value_unreadable : public checkpoint_error {
 public:
  explicit checkpoint_value_unreadable(std::string_view message) : checkpoint_error(518, message) {}
};

/// Anything that is wrong with a journal.
class journal_error : public error {
 protected:
  journal_error(int number, std::string_view message) : error("persist", number, message) {}
};

/// Thrown (521) when a file is no journal.
class journal_foreign : public journal_error {
 public:
  explicit journal_foreign(std::string_view message) : journal_error(521, message) {}
};

/// Thrown (522) when a record that is not the last one is damaged; names its offset.
class journal_corrupt : public journal_error {
 public:
  explicit journal_corrupt(std::string_view message) : journal_error(522, message) {}
};

/// Thrown (523) when the journal is open for writing elsewhere.
class journal_locked : public journal_error {
 public:
  explicit journal_locked(std::string_view message) : journal_error(523, message) {}
};

/// Thrown (524) when a record is longer than 4 GiB - 1.
class journal_record_too_large : public journal_error {
 public:
  explicit journal_record_too_large(std::string_view message) : journal_error(524, message) {}
};

/// Thrown (525) when a journal was written by a later format than this program knows.
class journal_too_new : public journal_error {
 public:
  explicit journal_too_new(std::string_view message) : journal_error(525, message) {}
};

/// Thrown (526) on use of a journal after a failure that could not be undone.
class journal_broken : public journal_error {
 public:
  explicit journal_broken(std::string_view message) : journal_error(526, message) {}
};

CADRE_NAMESPACE_END

#endif
