#ifndef CADRE_PERSIST_CHECKPOINT_READER_HPP
#define CADRE_PERSIST_CHECKPOINT_READER_HPP

#include <cadre/archive/input_archive.hpp>
#include <cadre/archive/type_label.hpp>
#include <cadre/core/hash.hpp>
#include <cadre/os/detail/file.hpp>
#include <cadre/persist/detail/checkpoint_format.hpp>
#include <cadre/persist/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// A checkpoint in memory, all of it verified, from which values are read by name, in any order and any number of
/// times:
///
///     auto c = cadre::checkpoint_reader::open("runs/a/epoch-3.ckpt");
///     c("epoch", epoch)("model", model);
///
/// A copy shares the bytes. Reading changes nothing in it, so any number of threads may read one; when a read throws,
/// the reader is as it was, and only the value that was being read may be partly assigned.
class checkpoint_reader {
 public:
  /// Reads and verifies a file. Throws checkpoint_foreign (513), checkpoint_truncated (514), checkpoint_corrupt (515),
  /// checkpoint_too_new (516), or file_error (155, 157, 158) when it cannot be read at all.
  [[nodiscard]] static checkpoint_reader open(const std::string& path) {
    const detail::file file(path, O_RDONLY | O_NONBLOCK);  // the flag is for pipes: opening would wait for a writer
    const struct stat status = file.status();
    if (S_ISDIR(status.st_mode)) file_error::raise("read", path, EISDIR);
    const auto size = static_cast<std::size_t>(status.st_size);
    auto fresh = std::make_shared<state>();
    fresh->origin = "checkpoint '" + path + "'";
    fresh->read.reset(new std::byte[size]);
    fresh->bytes = {fresh->read.get(), file.read_at(0, {fresh->read.get(), size})};
    return checkpoint_reader(std::move(fresh));
  }

  /// Takes what checkpoint_writer::bytes() made and verifies it; `origin` stands for the path in messages.
  [[nodiscard]] static checkpoint_reader from_bytes(std::vector<std::byte> bytes,
                                                    std::string_view origin = "in memory") {
    auto fresh = std::make_shared<state>();
    fresh->origin = "checkpoint " + std::string(origin);
    fresh->given = std::move(bytes);
    fresh->bytes = {fresh->given.data(), fresh->given.size()};
    return checkpoint_reader(std::move(fresh));
  }

  /// Reads the value of that name into `value`. Throws checkpoint_value_missing (511), checkpoint_type_mismatch (512),
  /// checkpoint_value_unreadable (518) for any cadre::error below it, which it carries (std::rethrow_if_nested), and
  /// whatever else the value's own serialize throws.
  template <class T>
  const checkpoint_reader& read(std::string_view name, T&& value) const {
    const entry& e = find(name, type_label<std::remove_cvref_t<T>>::get());
    try {
      input_archive archive(e.bytes);
      archive(value);
      archive.expect_end();
    } catch (const error& cause) {
      std::throw_with_nested(checkpoint_value_unreadable(state_->origin + ": value '" + std::string(name) +
                                                         "' of type " + e.type + " cannot be read: " + cause.what()));
    }
    return *this;
  }
  template <class T>
  const checkpoint_reader& operator()(std::string_view name, T&& value) const {
    return read(name, value);
  }
  /// The same for a value that is made here: `c.get<int>("epoch")`.
  template <class T>
  [[nodiscard]] T get(std::string_view name) const {
    T value{};
    read(name, value);
    return value;
  }

  [[nodiscard]] bool contains(std::string_view name) const noexcept { return look_up(name) != nullptr; }

  /// In the order in which they were written.
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const entry& e : state_->entries) result.push_back(e.name);
    return result;
  }

  /// The label of the type that was written. Throws checkpoint_value_missing (511).
  [[nodiscard]] const std::string& type_of(std::string_view name) const { return find(name).type; }

  /// The whole checkpoint as it lies in memory, for sending it elsewhere; lives as long as this reader or a copy.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return state_->bytes; }

 private:
  struct entry {
    std::string name, type;
    std::span<const std::byte> bytes;
  };
  struct state {
    std::string origin;
    std::unique_ptr<std::byte[]> read;  // of a file; not a vector, which would be zeroed first
    std::vector<std::byte> given;
    std::span<const std::byte> bytes;  // of one of them
    std::vector<entry> entries;
  };

  explicit checkpoint_reader(std::shared_ptr<state> fresh) : state_(std::move(fresh)) { parse(*state_); }

  static void parse(state& s) {
    namespace format = detail::checkpoint_format;
    format::header header{};
    const std::size_t there = s.bytes.size();
    const std::size_t comparable = std::min(there, format::magic.size());
    if (there == 0) throw checkpoint_truncated(s.origin + " is empty" + use_an_older);
    if (std::memcmp(s.bytes.data(), format::magic.data(), comparable) != 0)
      throw checkpoint_foreign(s.origin + " is not a checkpoint of cadre: it begins with other bytes; check the path");
    constexpr std::size_t fixed = offsetof(format::header, archive_version);
    std::memcpy(&header, s.bytes.data(), std::min(there, sizeof header));
    if (there >= fixed && header.version > format::version)
      throw checkpoint_too_new(s.origin + " has format version " + std::to_string(header.version) +
                               ", and this program knows versions up to " + std::to_string(format::version) +
                               "; read it with the release of cadre that wrote it, or a later one");
    if (there < sizeof header)
      throw checkpoint_truncated(s.origin + " has " + std::to_string(there) + " bytes, fewer than its header" +
                                 use_an_older);
    if (header.version == 0 || header.header_checksum != format::checksum_of(header))
      throw checkpoint_corrupt(s.origin + ": the header does not match its checksum" + use_an_older);
    if (header.archive_version > archive_format_version)
      throw checkpoint_too_new(s.origin + " has values of archive format " + std::to_string(header.archive_version) +
                               ", and this program knows formats up to " + std::to_string(archive_format_version) +
                               "; read it with the release of cadre that wrote it, or a later one");
    if (there < header.file_size)
      throw checkpoint_truncated(s.origin + " has " + std::to_string(there) + " of " +
                                 std::to_string(header.file_size) + " bytes" + use_an_older);
    if (there > header.file_size)
      throw checkpoint_corrupt(s.origin + " has " + std::to_string(there - header.file_size) + " bytes too many" +
                               use_an_older);
    if (header.table_size > there - sizeof header)
      throw checkpoint_corrupt(s.origin + ": the table is larger than the file" + use_an_older);
    const auto table = s.bytes.subspan(sizeof header, static_cast<std::size_t>(header.table_size));
    if (hash_bytes(table) != header.table_checksum)
      throw checkpoint_corrupt(s.origin + ": the table of values does not match its checksum" + use_an_older);
    parse_table(s, table, header.value_count);
  }

  static void parse_table(state& s, std::span<const std::byte> table, std::uint64_t count) {
    namespace format = detail::checkpoint_format;
    const auto contradiction = [&s] {
      return checkpoint_corrupt(s.origin + ": the table of values contradicts itself" + use_an_older);
    };
    auto values = s.bytes.subspan(sizeof(format::header) + table.size());
    for (; count != 0; --count) {
      format::entry e{};
      if (table.size() < sizeof e) throw contradiction();
      std::memcpy(&e, table.data(), sizeof e);
      table = table.subspan(sizeof e);
      if (table.size() < std::uint64_t{e.name_size} + e.type_size || values.size() < e.size) throw contradiction();
      const auto* text = reinterpret_cast<const char*>(table.data());
      entry result{std::string(text, e.name_size), std::string(text + e.name_size, e.type_size),
                   values.first(static_cast<std::size_t>(e.size))};
      table = table.subspan(std::size_t{e.name_size} + e.type_size);
      values = values.subspan(static_cast<std::size_t>(e.size));
      if (hash_bytes(result.bytes) != e.checksum)
        throw checkpoint_corrupt(s.origin + ": value '" + result.name + "' does not match its checksum" + use_an_older);
      s.entries.push_back(std::move(result));
    }
    if (!table.empty() || !values.empty()) throw contradiction();
  }

  [[nodiscard]] const entry* look_up(std::string_view name) const noexcept {
    for (const entry& e : state_->entries)
      if (e.name == name) return &e;
    return nullptr;
  }

  [[nodiscard]] const entry& find(std::string_view name) const {
    if (const entry* e = look_up(name)) return *e;
    std::string message = state_->origin + " has no value '" + std::string(name) + "'; there ";
    message += state_->entries.empty() ? "is none" : "are:";
    for (const entry& e : state_->entries) message += " '" + e.name + "'";
    throw checkpoint_value_missing(message);
  }

  [[nodiscard]] const entry& find(std::string_view name, const std::string& type) const {
    const entry& e = find(name);
    if (e.type != type)
      throw checkpoint_type_mismatch(state_->origin + ": value '" + std::string(name) + "' was written as " + e.type +
                                     " and is read as " + type + "; read it as the type that was written");
    return e;
  }

  static constexpr const char* use_an_older = "; it is damaged, use an older one";

  std::shared_ptr<state> state_;  // not changed once it is parsed
};

CADRE_NAMESPACE_END

#endif
