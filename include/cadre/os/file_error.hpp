#ifndef CADRE_OS_FILE_ERROR_HPP
#define CADRE_OS_FILE_ERROR_HPP

#include <cadre/core/error.hpp>

#include <cerrno>
#include <string>
#include <system_error>

CADRE_NAMESPACE_BEGIN

/// What the operating system refused to do with a file. Thrown as one of the kinds below, or as itself (158) for other
/// failures of input and output.
class file_error : public error {
 public:
  /// The errno of the failed call.
  [[nodiscard]] int code() const noexcept { return code_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// Throws the kind that belongs to `code`, an errno. `action` completes "cannot ...", as in "write" or "open".
  [[noreturn]] static void raise(const std::string& action, const std::string& path, int code);
  /// Of any other cause (158).
  static file_error failed(const std::string& action, const std::string& path, int code) {
    return {158, action, path, code, "the file system or the device below it failed"};
  }

 protected:
  file_error(int number, const std::string& action, const std::string& path, int code, const std::string& advice)
      : error("os", number,
              "cannot " + action + " '" + path + "': " + std::generic_category().message(code) + " (errno " +
                  std::to_string(code) + "); " + advice),
        code_(code),
        path_(path) {}

 private:
  int code_;
  std::string path_;
};

/// Thrown (155) when the file, or a folder on the way to it, does not exist.
class file_not_found : public file_error {
 public:
  file_not_found(const std::string& action, const std::string& path, int code)
      : file_error(155, action, path, code, "check the path, and create its folder first") {}
};

/// Thrown (156) when the disk, the quota or the largest permitted file is full.
class disk_full : public file_error {
 public:
  disk_full(const std::string& action, const std::string& path, int code)
      : file_error(156, action, path, code,
                   "free some space or choose another folder; what was there before is unchanged") {}
};

/// Thrown (157) when permissions or a read-only file system forbid the access.
class file_access_denied : public file_error {
 public:
  file_access_denied(const std::string& action, const std::string& path, int code)
      : file_error(157, action, path, code, "check the owner and permissions of the file and of its folder") {}
};

inline void file_error::raise(const std::string& action, const std::string& path, int code) {
  switch (code) {
    case ENOENT:
    case ENOTDIR: throw file_not_found(action, path, code);
    case ENOSPC:
    case EDQUOT:
    case EFBIG: throw disk_full(action, path, code);
    case EACCES:
    case EPERM:
    case EROFS: throw file_access_denied(action, path, code);
    default: throw failed(action, path, code);
  }
}

CADRE_NAMESPACE_END

#endif
