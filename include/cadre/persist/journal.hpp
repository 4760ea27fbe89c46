#ifndef CADRE_PERSIST_JOURNAL_HPP
#define CADRE_PERSIST_JOURNAL_HPP

#include <cadre/os/detail/file.hpp>
#include <cadre/persist/detail/journal_format.hpp>
#include <cadre/persist/error.hpp>

#include <fcntl.h>

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// When a journal's records are forced to the disk. In every mode an appended record survives the death of the
/// process; the modes differ in what a power failure may take.
enum class journal_sync {
  every_record,  ///< append() returns when the record is on the disk: nothing is lost
  on_request,    ///< sync() does it: records since then may be lost
  never          ///< sync() does nothing: for logs that may be lost
};

/// How a journal is kept.
struct journal_options {
  journal_sync sync = journal_sync::every_record;
};

/// A log of records, each a run of bytes, that only grows. A record that append() returned for is there, whole and in
/// order, after SIGKILL at any instant.
///
///     auto log = cadre::journal::open("study.journal", {}, [&](std::span<const std::byte> record) { replay(record); });
///     log.append(record);
///
/// One writer at a time holds the file (an open-file-description lock, freed by the kernel when the process dies); the
/// object is for one thread at a time.
class journal {
 public:
  /// Opens or creates the file, hands each record to `each` in order, and cuts off what a writer that died left of its
  /// last record. Throws journal_foreign (521), journal_corrupt (522), journal_locked (523), journal_too_new (525), file_error
  /// (155-158), and what `each` throws; the file is then unchanged.
  template <std::invocable<std::span<const std::byte>> Each>
  [[nodiscard]] static journal open(const std::string& path, const journal_options& options, Each&& each) {
    journal j(path, options);
    detail::journal_format::scan_result found = detail::journal_format::scan(j.file_, each);
    if (found.end == 0) {
      j.write_header();
    } else {
      if (found.end != found.file_size) j.file_.truncate(found.end);
      j.end_ = found.end;
      j.records_ = found.records;
    }
    return j;
  }
  [[nodiscard]] static journal open(const std::string& path, const journal_options& options = {}) {
    return open(path, options, [](std::span<const std::byte>) {});
  }

  /// Hands each record of a file to `each` without a lock or a change, also while another process appends. Throws like
  /// open(), but for journal_locked.
  template <std::invocable<std::span<const std::byte>> Each>
  static void read(const std::string& path, Each&& each) {
    detail::journal_format::scan(detail::file(path, O_RDONLY), each);
  }

  /// Adds a record by one write to the kernel. Throws disk_full (156) and other file_errors; the record is then taken
  /// back and the journal can go on, unless it was the fsync that failed. journal_record_too_large (524) for more than 4
  /// GiB - 1; journal_broken (526) after a failed fsync, or one that could not be undone.
  void append(std::span<const std::byte> record) {
    namespace format = detail::journal_format;
    check_usable();
    if (record.size() > std::numeric_limits<std::uint32_t>::max())
      throw journal_record_too_large("a record of " + std::to_string(record.size()) + " bytes for journal '" +
                                     file_.path() + "'; at most 4294967295 are possible, split it");
    const format::record_header header = format::header_of(record, end_);
    const std::span<const std::byte> pieces[] = {format::bytes_of(header), record};
    try {
      file_.write_at(end_, pieces);
      if (options_.sync == journal_sync::every_record) sync_or_break();
    } catch (...) {
      undo();
      throw;
    }
    end_ += sizeof header + record.size();
    ++records_;
  }
  void append(std::string_view record) { append({reinterpret_cast<const std::byte*>(record.data()), record.size()}); }

  /// Returns when all records are on the disk. Throws file_error (156, 158); the journal is then broken (526), because
  /// the kernel does not say which records it lost: open it again.
  void sync() {
    check_usable();
    if (options_.sync != journal_sync::never) sync_or_break();
  }

  /// Records in the file.
  [[nodiscard]] std::uint64_t size() const noexcept { return records_; }
  /// Bytes of the file.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return end_; }
  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }

 private:
  journal(const std::string& path, const journal_options& options) : file_(path, O_RDWR | O_CREAT), options_(options) {
    struct flock whole {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    if (::fcntl(file_.fd(), F_OFD_SETLK, &whole) == -1) {
      if (errno != EAGAIN && errno != EACCES) file_error::raise("lock", path, errno);
      throw journal_locked(
          "journal '" + path +
          "' is open for writing elsewhere, in this process or another; one writer at a time, wait for it or end it");
    }
  }

  void write_header() {
    const detail::journal_format::file_header header = detail::journal_format::make_file_header();
    const std::span<const std::byte> bytes = detail::journal_format::bytes_of(header);
    file_.write_at(0, {&bytes, 1});
    end_ = sizeof header;
    if (options_.sync == journal_sync::never) return;
    file_.sync();
    detail::open_folder_of(file_.path()).sync_names();
  }

  void check_usable() const {
    if (broken_)
      throw journal_broken("journal '" + file_.path() +
                           "' had a failure that could not be undone; open it again, which recovers what is whole");
  }

  void undo() noexcept {
    try {
      file_.truncate(end_);
    } catch (...) {
      broken_ = true;
    }
  }

  void sync_or_break() {
    try {
      file_.sync();
    } catch (...) {
      broken_ = true;
      throw;
    }
  }

  detail::file file_;
  journal_options options_;
  std::uint64_t end_ = 0;
  std::uint64_t records_ = 0;
  bool broken_ = false;
};

CADRE_NAMESPACE_END

#endif
