#ifndef CADRE_PERSIST_CHECKPOINT_WRITER_HPP
#define CADRE_PERSIST_CHECKPOINT_WRITER_HPP

#include <cadre/archive/byte_buffer.hpp>
#include <cadre/archive/output_archive.hpp>
#include <cadre/archive/type_label.hpp>
#include <cadre/core/hash.hpp>
#include <cadre/os/atomic_file.hpp>
#include <cadre/persist/detail/checkpoint_format.hpp>
#include <cadre/persist/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Collects named values and writes them to a file at once:
///
///     cadre::checkpoint_writer w;
///     w("epoch", epoch)("model", model);
///     w.save("runs/a/epoch-3.ckpt");
///
/// A value is anything that output_archive takes; it is copied once, when it is given, so it may change afterwards.
/// For one thread at a time.
class checkpoint_writer {
 public:
  /// Adds a value. Throws checkpoint_name_taken (517), serialization_failed (503), and whatever the value's own
  /// serialize throws; the value is then not added and the others are untouched.
  ///
  /// Literals, other arrays of const char, pointers to characters (not null) and string_views are written as the
  /// std::string that they are read back as; an array of char that is not const is an array.
  template <class T>
  checkpoint_writer& write(std::string_view name, const T& value) {
    if constexpr (std::is_same_v<T, const char*> || std::is_same_v<T, char*> || std::is_same_v<T, std::string_view>)
      return add(name, std::string(value));
    else
      return add(name, value);
  }
  template <std::size_t N>
  checkpoint_writer& write(std::string_view name, const char (&text)[N]) {
    return add(name, std::string(text, N - (text[N - 1] == '\0' ? 1 : 0)));
  }
  template <std::size_t N>
  checkpoint_writer& write(std::string_view name, char (&array)[N]) {
    return add(name, array);
  }

  template <class T>
  checkpoint_writer& operator()(std::string_view name, const T& value) {
    return write(name, value);
  }
  template <std::size_t N>
  checkpoint_writer& operator()(std::string_view name, const char (&text)[N]) {
    return write(name, text);
  }
  template <std::size_t N>
  checkpoint_writer& operator()(std::string_view name, char (&array)[N]) {
    return write(name, array);
  }

  [[nodiscard]] bool contains(std::string_view name) const noexcept {
    return std::any_of(values_.begin(), values_.end(), [name](const entry& v) { return v.name == name; });
  }
  /// Values added so far.
  [[nodiscard]] std::size_t size() const noexcept { return values_.size(); }

  /// Replaces the file atomically and durably, see write_file_atomically, whose errors it throws (155-158). The values
  /// go to the kernel from where they lie.
  void save(const std::string& path) const {
    const std::vector<std::byte> front = header_and_table();
    const std::vector<std::span<const std::byte>> all = pieces(front);
    write_file_atomically(path, {all.data(), all.size()});
  }

  /// What save() would write, in one piece.
  [[nodiscard]] std::vector<std::byte> bytes() const {
    std::vector<std::byte> result = header_and_table();
    result.reserve(result.size() + value_bytes());
    for (const entry& v : values_)
      for (std::span<const std::byte> piece : v.bytes.pieces())
        result.insert(result.end(), piece.data(), piece.data() + piece.size());
    return result;
  }

 private:
  template <class T>
  checkpoint_writer& add(std::string_view name, const T& value) {
    if (contains(name))
      throw checkpoint_name_taken("the checkpoint already has a value '" + std::string(name) +
                                  "'; names must be unique");
    byte_buffer bytes;
    output_archive archive(bytes);
    archive(value);
    xxh64 hash;
    for (std::span<const std::byte> piece : bytes.pieces()) hash.update(piece);
    values_.push_back({std::string(name), type_label<T>::get(), hash.digest(), std::move(bytes)});
    return *this;
  }

  struct entry {
    std::string name, type;
    std::uint64_t checksum;
    byte_buffer bytes;
  };

  [[nodiscard]] std::size_t value_bytes() const noexcept {
    std::size_t total = 0;
    for (const entry& v : values_) total += v.bytes.size();
    return total;
  }

  [[nodiscard]] std::vector<std::byte> header_and_table() const {
    namespace format = detail::checkpoint_format;
    std::vector<std::byte> out(sizeof(format::header));
    const auto append = [&out](const void* data, std::size_t size) {
      const auto* first = static_cast<const std::byte*>(data);
      out.insert(out.end(), first, first + size);
    };
    for (const entry& v : values_) {
      const format::entry e{v.bytes.size(), v.checksum, static_cast<std::uint32_t>(v.name.size()),
                            static_cast<std::uint32_t>(v.type.size())};
      append(&e, sizeof e);
      append(v.name.data(), v.name.size());
      append(v.type.data(), v.type.size());
    }
    format::header header{format::magic,
                          format::version,
                          archive_format_version,
                          out.size() + value_bytes(),
                          out.size() - sizeof(format::header),
                          values_.size(),
                          hash_bytes({out.data() + sizeof(format::header), out.size() - sizeof(format::header)}),
                          0};
    header.header_checksum = format::checksum_of(header);
    std::memcpy(out.data(), &header, sizeof header);
    return out;
  }

  [[nodiscard]] std::vector<std::span<const std::byte>> pieces(const std::vector<std::byte>& front) const {
    std::vector<std::span<const std::byte>> result{{front.data(), front.size()}};
    for (const entry& v : values_)
      for (std::span<const std::byte> piece : v.bytes.pieces()) result.push_back(piece);
    return result;
  }

  std::vector<entry> values_;
};

CADRE_NAMESPACE_END

#endif
