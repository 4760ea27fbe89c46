#ifndef CADRE_STORE_DETAIL_SPILL_FILE_HPP
#define CADRE_STORE_DETAIL_SPILL_FILE_HPP

#include <cadre/core/hash.hpp>
#include <cadre/os/mapping.hpp>
#include <cadre/store/detail/direct_file.hpp>
#include <cadre/store/detail/hash_beside.hpp>
#include <cadre/store/detail/spill_folder.hpp>
#include <cadre/store/detail/spill_record.hpp>
#include <cadre/store/spill_error.hpp>

#include <fcntl.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {

[[nodiscard]] inline std::string spill_file_path(const spill_folder& folder, std::uint32_t file) {
  return folder.path() + "/" + spill_file_name(file);
}
/// Removes the file, in which no object is wanted any more and to which no writer appends. False if it is not there.
inline bool remove_spill_file(const spill_folder& folder, std::uint32_t file) {
  return ::unlinkat(folder.descriptor().get(), spill_file_name(file).c_str(), 0) == 0;
}

/// Writes objects of one process to files of the job's folder, many to a file. For one thread at a time.
class spill_writer {
 public:
  /// `first_file` is the number of the process's first file: its slot in the job << 20. Files that an earlier process
  /// of the slot left are passed over. A file ends before it would exceed `file_limit` bytes; a larger object gets one
  /// of its own. The folder must outlive the writer. Throws mapping_error (159).
  spill_writer(const spill_folder& folder, std::uint32_t first_file, std::uint64_t file_limit = spill_file_limit)
      : folder_(folder),
        first_file_(first_file),
        file_limit_(file_limit),
        staging_(mapping::anonymous(spill_block + staged_piece)) {}

  struct record {
    std::uint64_t key;
    std::span<const std::byte> object;
    spilled_place place{};  // where it is, afterwards
  };
  /// Several objects go to disk by one call to the kernel; their records take at most so many bytes together.
  static constexpr std::size_t most_together = std::size_t{4} << 20;

  /// Writes one object, or several; when the call returns, every process of the job can read them. One that begins at a
  /// multiple of 4096 bytes is not copied in memory; several are. `announce(file)` is asked before a file of that number is
  /// made: false if there is one. Throws spill_failed (310); nothing of them is left then, and the next may succeed. A file
  /// beyond RLIMIT_FSIZE is such an error where the host ignores SIGXFSZ.
  template <class Announce>
  void append(std::span<record> records, Announce&& announce) {
    const std::uint64_t bytes = bytes_of(records);
    output own;
    const bool is_own = bytes > file_limit_;
    if (is_own || needs_file(bytes)) (is_own ? own : current_) = make_output(records[0].object.size(), announce);
    write(is_own ? own : current_, bytes, records);
  }
  /// What the records of these take in a file.
  static std::uint64_t bytes_of(std::span<const record> records) noexcept {
    std::uint64_t bytes = 0;
    for (const record& r : records) bytes += spill_header::record(r.object.size());
    return bytes;
  }

  /// Whether the file that many objects share has no room for so many bytes of records, which would go there.
  [[nodiscard]] bool needs_file(std::uint64_t bytes) const noexcept {
    return bytes <= file_limit_ && (!current_.file || current_.end + bytes > file_limit_);
  }
  /// The next objects go to this process's file `dead`, in which no object is wanted any more, from its begin and under a
  /// new number: nobody finds what it held, and who has it open to read from a place there sees by the record's key and
  /// checksums that he comes too late. It has its blocks on the disk; to free them and get others takes as long as
  /// writing. A file with which that cannot be done is removed.
  template <class Announce>
  void write_over(std::uint32_t dead, Announce&& announce) {
    current_ = output();
    const file_descriptor& folder = folder_.descriptor();
    for (std::uint32_t tries = 0; tries < numbers; ++tries, ++counter_) {
      output made{.number = next_number()};
      const std::string name = spill_file_name(made.number);
      if (!announce(made.number)) continue;
      if (::renameat2(folder.get(), spill_file_name(dead).c_str(), folder.get(), name.c_str(), RENAME_NOREPLACE) == 0) {
        made.file = direct_file(folder, name, O_WRONLY, true);
        if (made.file) {
          ++counter_;
          current_ = std::move(made);
        } else {
          remove_spill_file(folder_, made.number);
        }
        return;
      }
      if (errno != EEXIST) break;
    }
    remove_spill_file(folder_, dead);
  }

  /// The file to which the next object is appended, if it fits; ~0: none.
  [[nodiscard]] std::uint32_t current_file() const noexcept {
    return current_.file ? current_.number : ~std::uint32_t{0};
  }

  /// The next object goes to a new file, so that the present one may be removed.
  void finish_file() noexcept { current_ = output(); }

 private:
  static constexpr std::uint32_t numbers = 1 << 20;  // of files
  // Of a large object, written by one call, from where it lies: between calls the disk idles until this thread has a
  // processor, which the hash may have.
  static constexpr std::size_t straight_piece = std::size_t{64} << 20;
  static constexpr std::size_t staged_piece = most_together;

  struct output {
    direct_file file = {};
    std::uint32_t number = 0;
    std::uint64_t end = 0;  // in bytes; the next record begins there
  };

  std::uint32_t next_number() const noexcept { return first_file_ + counter_ % numbers; }
  // The number of a file that could not be made, or could not be kept, is that of the next.
  template <class Announce>
  output make_output(std::uint64_t bytes, Announce&& announce) {
    for (std::uint32_t tries = 0;; ++tries, ++counter_) {
      output made{.number = next_number()};
      int code = EEXIST;
      if (announce(made.number)) {
        made.file = direct_file(folder_.descriptor(), spill_file_name(made.number), O_WRONLY | O_CREAT | O_EXCL, true);
        code = errno;
      }
      if (made.file) {
        ++counter_;
        return made;
      }
      if (code != EEXIST || tries == numbers)
        throw spill_failed("make the file of", spill_file_path(folder_, made.number), code, bytes);
    }
  }

  void write(output& out, std::uint64_t bytes, std::span<record> records) {
    std::uint64_t at = out.end;
    for (record& r : records) {
      r.place = {out.number, at, r.object.size(), 0};
      at += spill_header::record(r.object.size());
    }
    int code = records.size() > 1                                    ? write_several(out, bytes, records)
               : records[0].object.size() < hash_beside::worth_while ? write_small(out, records[0])
                                                                     : write_large(out, records[0]);
    if (code == 0) code = out.file.drain(out.end, bytes);
    if (code == 0) {
      out.end += bytes;
      return;
    }
    // An empty file goes, since nobody would remove it; one that cannot be cut gets no further object.
    const std::uint64_t end = out.end;
    const std::uint32_t file = out.number;
    if (end == 0 || out.file.truncate(end) != 0) out = output();
    if (end == 0) {
      remove_spill_file(folder_, file);
      counter_ = file - first_file_;
    }
    throw spill_failed("write", spill_file_path(folder_, file), code, records[0].object.size());
  }

  /// All in one call to the kernel, from the staging memory.
  int write_several(output& out, std::uint64_t bytes, std::span<record> records) noexcept {
    std::byte* at = staging_.data();
    for (record& r : records) {
      r.place.checksum = hash_bytes(r.object);
      const spill_header header = spill_header::of(r.key, r.object.size(), r.place.checksum);
      std::byte* const end = at + spill_header::record(r.object.size());
      std::memcpy(at, &header, sizeof header);
      std::memset(at + sizeof header, 0, header.begin - sizeof header);
      std::byte* const object = at + header.begin;
      if (!r.object.empty()) std::memcpy(object, r.object.data(), r.object.size());
      std::memset(object + r.object.size(), 0, static_cast<std::size_t>(end - object) - r.object.size());
      at = end;
    }
    iovec piece{staging_.data(), bytes};
    return out.file.write(std::span(&piece, 1), out.end);
  }
  /// In one call to the kernel.
  int write_small(output& out, record& r) noexcept {
    const std::span<const std::byte> object = r.object;
    r.place.checksum = hash_bytes(object);
    std::array<iovec, 3> pieces{put_header(spill_header::of(r.key, object.size(), r.place.checksum))};
    if (const std::size_t begin = spill_header::begin_of(object.size()); begin == spill_block) {
      put(object, pieces[1], pieces[2]);
    } else if (!object.empty()) {
      std::memcpy(staging_.data() + begin, object.data(), object.size());
    }
    return out.file.write(pieces, out.end);
  }

  /// The header goes last, when the checksum is known; an empty one holds its place in the file.
  int write_large(output& out, record& r) {
    const std::span<const std::byte> object = r.object;
    hash_beside hash(object);
    hash.available(object.size());
    std::array<iovec, 3> pieces{put_header({.magic = 0})};
    std::uint64_t at = out.end;
    const std::size_t step = is_spill_aligned(object.data()) ? straight_piece : staged_piece;
    for (std::size_t done = 0; done < object.size(); done += step) {
      put(object.subspan(done, std::min(step, object.size() - done)), pieces[1], pieces[2]);
      if (const int code = out.file.write(pieces, at); code != 0) return code;
      at = out.end + spill_block + done + step;
    }
    r.place.checksum = hash.digest();
    pieces[0] = put_header(spill_header::of(r.key, object.size(), r.place.checksum));
    return out.file.write(std::span(pieces).first(1), out.end);
  }

  iovec put_header(const spill_header& header) noexcept {
    std::memset(staging_.data(), 0, spill_block);
    std::memcpy(staging_.data(), &header, sizeof header);
    return {staging_.data(), spill_block};
  }
  /// Whole blocks from where they lie if they are aligned; what is not by way of the staging memory, filled up to a
  /// block.
  void put(std::span<const std::byte> bytes, iovec& straight, iovec& staged) noexcept {
    const std::size_t whole = is_spill_aligned(bytes.data()) ? bytes.size() / spill_block * spill_block : 0;
    straight = {const_cast<std::byte*>(bytes.data()), whole};  // only read
    bytes = bytes.subspan(whole);
    std::byte* const room = staging_.data() + spill_block;
    const std::size_t blocks = (bytes.size() + spill_block - 1) / spill_block * spill_block;
    staged = {room, blocks};
    if (bytes.empty()) return;
    std::memcpy(room, bytes.data(), bytes.size());
    std::memset(room + bytes.size(), 0, blocks - bytes.size());
  }

  const spill_folder& folder_;
  std::uint32_t first_file_;
  std::uint64_t file_limit_;
  std::uint32_t counter_ = 0;
  mapping staging_;  // a block for the header, then a piece of the object
  output current_;
};

/// Reads the object at `place` into memory of its size, by any process and thread of the job. Memory that begins at a
/// multiple of 4096 bytes is filled by the disk itself. Throws spill_corrupt (311) if what was written is not there any
/// more, whole and under this key, and spill_failed (310) if it cannot be read; `into` holds anything then.
inline void read_spilled(const spill_folder& folder, const spilled_place& place, std::uint64_t key,
                         std::span<std::byte> into) {
  const std::size_t begin = spill_header::begin_of(into.size());
  const bool in_header_block = begin != spill_block, direct = in_header_block || is_spill_aligned(into.data());
  const auto check = [&](int code, const char* action) {
    if (code == ENOENT) throw spill_corrupt(spill_file_path(folder, place.file), place.offset, "its file is gone");
    if (code == ENODATA)
      throw spill_corrupt(spill_file_path(folder, place.file), place.offset, "its file ends before it does");
    if (code != 0) throw spill_failed(action, spill_file_path(folder, place.file), code, place.bytes);
  };
  direct_file file(folder.descriptor(), spill_file_name(place.file), O_RDONLY, direct);
  if (!file) check(errno, "open the file of");

  alignas(spill_block) std::byte header_block[spill_block], last_block[spill_block];
  std::optional<hash_beside> hash;
  // Small enough for the hash to keep up closely, large enough for the disk.
  const std::size_t step = into.size() < (std::size_t{4} << 20) ? std::size_t{384} << 10 : std::size_t{1} << 20;
  for (std::size_t done = 0; done < into.size() || done == 0; done += step) {
    const std::span<std::byte> piece = into.subspan(done, in_header_block ? 0 : std::min(step, into.size() - done));
    const std::size_t whole = direct ? piece.size() / spill_block * spill_block : piece.size();
    std::array<iovec, 3> pieces{iovec{header_block, done == 0 ? spill_block : 0}, iovec{piece.data(), whole},
                                iovec{last_block, whole < piece.size() ? spill_block : 0}};
    check(file.read(pieces, place.offset + (done == 0 ? 0 : spill_block + done)), "read");
    if (done == 0) {
      spill_header header;
      std::memcpy(&header, header_block, sizeof header);
      if (const char* fault = header.fault(place, key))
        throw spill_corrupt(spill_file_path(folder, place.file), place.offset, fault);
      if (into.size() >= hash_beside::worth_while) hash.emplace(into);
    }
    if (whole < piece.size()) std::memcpy(piece.data() + whole, last_block, piece.size() - whole);
    if (hash) hash->available(done + piece.size());
  }
  if (in_header_block && !into.empty()) std::memcpy(into.data(), header_block + begin, into.size());
  file.forget(place.offset, spill_header::record(into.size()));
  if ((hash ? hash->digest() : hash_bytes(into)) != place.checksum)
    throw spill_corrupt(spill_file_path(folder, place.file), place.offset, "the checksum does not match");
}

/// Reads objects of one file, in the order in which they lie there, by one call to the kernel. Their records lie within the
/// size of `into`, which begins at a multiple of 4096. Returns how many are right, counted from the first to one that is
/// not; their `object` is in `into`.
inline std::size_t read_spilled_together(const spill_folder& folder, std::span<spill_writer::record> records,
                                         std::span<std::byte> into) noexcept {
  if (records.empty()) return 0;
  const std::uint64_t begin = records.front().place.offset;
  const spilled_place& last = records.back().place;
  const std::uint64_t bytes = last.offset + spill_header::record(last.bytes) - begin;
  iovec piece{into.data(), bytes};
  direct_file file(folder.descriptor(), spill_file_name(last.file), O_RDONLY, true);
  if (!file || file.read(std::span(&piece, 1), begin) != 0) return 0;
  file.forget(begin, bytes);
  std::size_t right = 0;
  for (spill_writer::record& r : records) {
    const std::byte* const at = into.data() + (r.place.offset - begin);
    spill_header header;
    std::memcpy(&header, at, sizeof header);
    if (header.fault(r.place, r.key)) break;
    r.object = {at + header.begin, r.place.bytes};
    if (hash_bytes(r.object) != r.place.checksum) break;
    ++right;
  }
  return right;
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif
