#ifndef CADRE_ARCHIVE_TO_BYTES_HPP
#define CADRE_ARCHIVE_TO_BYTES_HPP

#include <cadre/archive/input_archive.hpp>
#include <cadre/archive/output_archive.hpp>

#include <cstddef>
#include <span>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// The bytes of `values`, one after another (output_archive has the rules).
template <class... Values>
[[nodiscard]] std::vector<std::byte> to_bytes(const Values&... values) {
  byte_buffer buffer;
  output_archive archive(buffer);
  archive(values...);
  return buffer.to_vector();
}

/// Reads `values` from bytes made by to_bytes of the same types. Throws archive_error (501-504), also if bytes are left.
template <class... Values>
void from_bytes(std::span<const std::byte> bytes, Values&... values) {
  input_archive archive(bytes);
  archive(values...);
  archive.expect_end();
}

/// The same for one value that is made here.
template <class T>
[[nodiscard]] T from_bytes(std::span<const std::byte> bytes) {
  T value{};
  from_bytes(bytes, value);
  return value;
}

CADRE_NAMESPACE_END

#endif
