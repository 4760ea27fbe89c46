// cadre 0.1.0: the adapter zlib.hpp in one header
// Licensed under the Apache License, Version 2.0. Written by single_include/generate.py from include/cadre; change it there.
#ifndef CADRE_SINGLE_INCLUDE_ZLIB_HPP
#define CADRE_SINGLE_INCLUDE_ZLIB_HPP

#include "cadre.hpp"

// ---- cadre/zlib.hpp ----
#ifndef CADRE_ZLIB_HPP
#define CADRE_ZLIB_HPP

#include <zlib.h>  // link with -lz

#include <algorithm>
#include <cstddef>
#include <limits>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// A gzip file that cannot be read (1401) or whose content cannot be trusted (1402 to 1405).
class gzip_error : public error {
 public:
  static gzip_error unreadable(std::string_view path, std::string_view reason) {
    return {1401, "cannot read " + std::string(path) + ": " + std::string(reason)};
  }
  static gzip_error not_gzip(std::string_view source) {
    return {1402, std::string(source) + " is not gzip: it must begin with 1f 8b 08"};
  }
  static gzip_error truncated(std::string_view source, std::size_t bytes) {
    return {1403,
            std::string(source) + " is truncated: the gzip data go on after its " + std::to_string(bytes) + " bytes"};
  }
  static gzip_error corrupt(std::string_view source, std::size_t offset, std::string_view reason) {
    return {1404, std::string(source) + " is corrupt at byte " + std::to_string(offset) + ": " + std::string(reason)};
  }
  static gzip_error too_large(std::string_view source, std::size_t limit) {
    return {1405, std::string(source) + " unpacks to more than the " + std::to_string(limit) +
                      " bytes allowed: raise gzip_options::max_bytes if it is to be trusted"};
  }

 private:
  gzip_error(int number, const std::string& message) : error("zlib", number, message) {}
};

/// Limits of unpacking.
struct gzip_options {
  std::size_t max_bytes = std::size_t{16} << 30;  ///< refuse to unpack more than this
};

namespace detail {

/// Unpacks gzip members one after the other into a growing vector.
class gzip_reader {
 public:
  gzip_reader(std::span<const std::byte> in, std::string_view source, gzip_options options)
      : in_(in), source_(source), limit_(options.max_bytes) {
    constexpr int window_and_gzip = 15 + 16;
    if (::inflateInit2(&stream_, window_and_gzip) != Z_OK) throw std::bad_alloc{};
  }
  gzip_reader(const gzip_reader&) = delete;
  gzip_reader& operator=(const gzip_reader&) = delete;
  ~gzip_reader() { ::inflateEnd(&stream_); }

  std::vector<std::byte> run() {
    if (in_.size() < 3) {
      if (!begins_member(0)) throw gzip_error::not_gzip(source_);
      throw gzip_error::truncated(source_, in_.size());
    }
    if (!begins_member(0)) throw gzip_error::not_gzip(source_);
    out_.resize(std::min(guess(), limit_));
    while (begins_member(position_) && position_ < in_.size()) {
      member();
      ::inflateReset(&stream_);
    }
    if (std::any_of(in_.begin() + static_cast<std::ptrdiff_t>(position_), in_.end(),
                    [](std::byte b) { return b != std::byte{0}; }))
      throw gzip_error::corrupt(source_, position_, "bytes after the end that are no gzip member");
    out_.resize(used_);
    return std::move(out_);
  }

 private:
  /// Whether the bytes from `at` on are, as far as there are any, the beginning of a member.
  [[nodiscard]] bool begins_member(std::size_t at) const {
    constexpr std::byte magic[] = {std::byte{0x1f}, std::byte{0x8b}, std::byte{8}};
    const std::span<const std::byte> rest = in_.subspan(at).first(std::min<std::size_t>(3, in_.size() - at));
    return std::equal(rest.begin(), rest.end(), magic);
  }

  /// The size that the last member says it has, or what deflate could make at most of so many bytes.
  [[nodiscard]] std::size_t guess() const {
    std::size_t size = 0;
    for (std::size_t i = 1; i <= std::min<std::size_t>(4, in_.size()); ++i)
      size = size << 8 | std::to_integer<std::size_t>(in_[in_.size() - i]);
    return std::min(size, in_.size() * 1032);
  }

  void member() {
    int result = Z_OK;
    do {
      const bool last_look = used_ == limit_;  // output is full: only the member's end may follow
      if (used_ == out_.size() && !last_look) out_.resize(std::min(limit_, used_ + used_ / 2 + 65536));
      unsigned char spare;
      const std::size_t give = clamp(in_.size() - position_), room = last_look ? 1 : clamp(out_.size() - used_);
      stream_.next_in = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(in_.data() + position_));
      stream_.avail_in = static_cast<uInt>(give);
      stream_.next_out = last_look ? &spare : reinterpret_cast<unsigned char*>(out_.data() + used_);
      stream_.avail_out = static_cast<uInt>(room);
      result = ::inflate(&stream_, Z_NO_FLUSH);
      position_ += give - stream_.avail_in;
      const std::size_t made = room - stream_.avail_out;
      if (last_look && made > 0) throw gzip_error::too_large(source_, limit_);
      if (!last_look) used_ += made;
      if (result == Z_MEM_ERROR) throw std::bad_alloc{};
      if (result == Z_DATA_ERROR || result == Z_NEED_DICT)
        throw gzip_error::corrupt(source_, position_, stream_.msg != nullptr ? stream_.msg : "not a deflate stream");
      if (result != Z_STREAM_END && position_ == in_.size() && stream_.avail_out > 0)
        throw gzip_error::truncated(source_, in_.size());
    } while (result != Z_STREAM_END);
  }

  /// zlib counts one call's bytes in 32 bits.
  static std::size_t clamp(std::size_t n) { return std::min<std::size_t>(n, std::numeric_limits<uInt>::max()); }

  std::span<const std::byte> in_;
  std::string_view source_;
  std::size_t limit_;
  std::size_t position_ = 0;  // bytes of in_ that were taken
  std::vector<std::byte> out_;
  std::size_t used_ = 0;  // bytes of out_ that were made
  ::z_stream stream_{};
};

}  // namespace detail

/// Unpacks gzip data (RFC 1952), members one after the other into one result, as `gzip -d` does; zero bytes after the
/// end are padding. `source` names the data in messages. Throws gzip_error 1402 (not gzip), 1403 (truncated), 1404
/// (corrupt: bad code, checksum or length) or 1405 (more than options.max_bytes); there are no partial results.
[[nodiscard]] inline std::vector<std::byte> gunzip(std::span<const std::byte> packed,
                                                   std::string_view source = "gzip data", gzip_options options = {}) {
  return detail::gzip_reader{packed, source, options}.run();
}

/// Reads a whole gzip file. Throws gzip_error 1401 if it cannot be read, and what gunzip throws, naming the path.
[[nodiscard]] inline std::vector<std::byte> read_gzip(const std::string& path, gzip_options options = {}) {
  std::vector<std::byte> packed;
  data::detail::read_file(path, packed, [&](const char* reason) { return gzip_error::unreadable(path, reason); });
  return gunzip(packed, path, options);
}

namespace data {

/// Reads an IDX file, compressed or not, by its first bytes. Throws what read_gzip and parse_idx throw, naming the
/// path.
[[nodiscard]] inline idx_array read_idx_gz(const std::string& path, gzip_options options = {}) {
  std::vector<std::byte> bytes;
  detail::read_file(path, bytes, [&](const char* reason) { return gzip_error::unreadable(path, reason); });
  const bool gzip = bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
  return parse_idx(gzip ? gunzip(bytes, path, options) : std::move(bytes), path);
}

}  // namespace data

CADRE_NAMESPACE_END

#endif

#endif
