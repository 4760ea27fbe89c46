#ifndef CADRE_STORE_SPILL_ERROR_HPP
#define CADRE_STORE_SPILL_ERROR_HPP

#include <cadre/core/error.hpp>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

CADRE_NAMESPACE_BEGIN

/// Anything that goes wrong between the object store and the files to which it spills objects.
class spill_error : public error {
 public:
  /// The file or folder concerned.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 protected:
  [[gnu::cold]] spill_error(int number, std::string_view message, const std::string& path)
      : error("store", number, message), path_(path) {}

  [[gnu::cold]] static std::string cause(int code) {
    return std::generic_category().message(code).append(" (errno ").append(std::to_string(code)).append("); ");
  }

 private:
  std::string path_;
};

/// Thrown (310) when the system refuses to write or read an object: a full disk or quota, a limit, a failing device.
/// What was spilled before can still be read, and the next object may be spilled.
class spill_failed : public spill_error {
 public:
  /// `action` completes "cannot ...", as in "write"; `bytes` is the size of the object.
  [[gnu::cold]] spill_failed(const std::string& action, const std::string& path, int code, std::uint64_t bytes)
      : spill_error(310,
                    "cannot " + action + " a spilled object of " + std::to_string(bytes) + " bytes, file '" + path +
                        "': " + cause(code) + advice(code),
                    path),
        code_(code),
        bytes_(bytes) {}

  /// The errno of the failed call.
  [[nodiscard]] int code() const noexcept { return code_; }
  /// The size of the object in bytes.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  [[gnu::cold]] static const char* advice(int code) noexcept {
    switch (code) {
      case ENOSPC:
      case EDQUOT: return "free space there, raise the quota, or name a larger file system as spill_dir";
      case EFBIG: return "raise the limit on the size of files (ulimit -f)";
      case EMFILE:
      case ENFILE: return "raise the limit on open files (ulimit -n)";
      default: return "check the disk and its file system (the kernel's log says more), or name another as spill_dir";
    }
  }

  int code_;
  std::uint64_t bytes_;
};

/// Thrown (311) when a spilled object is not what was written: its file is gone or too short, or a checksum, key or
/// size differs. The object is lost.
class spill_corrupt : public spill_error {
 public:
  [[gnu::cold]] spill_corrupt(const std::string& path, std::uint64_t offset, std::string_view what)
      : spill_error(311,
                    "the spilled object at offset " + std::to_string(offset) + " of '" + path +
                        "' is damaged: " + std::string(what) +
                        "; make the object anew, and check the disk and whether other programs write to the folder",
                    path),
        offset_(offset) {}

  /// Where the object begins in its file, in bytes.
  [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }

 private:
  std::uint64_t offset_;
};

/// Thrown (312) when the folder for spilled objects cannot be made or entered, or is open to other users.
class spill_folder_unusable : public spill_error {
 public:
  [[gnu::cold]] spill_folder_unusable(const std::string& action, const std::string& path, int code)
      : spill_error(312,
                    "cannot " + action + " the spill folder '" + path + "': " + cause(code) +
                        "name a folder as spill_dir that exists, that this user may write to, and whose file system "
                        "has locks and space, such as one of a local disk",
                    path),
        code_(code) {}
  /// The folder belongs to another user, or others may enter it.
  [[gnu::cold]] static spill_folder_unusable open_to_others(const std::string& path) {
    return {
        "the spill folder '" + path +
            "' belongs to another user, or others may enter it: objects could be read or replaced there; remove it, "
            "or name another spill_dir",
        EPERM, path};
  }

  /// The errno of the failed call; EPERM where the folder is open to others.
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  spill_folder_unusable(const std::string& message, int code, const std::string& path)
      : spill_error(312, message, path), code_(code) {}

  int code_;
};

CADRE_NAMESPACE_END

#endif
