// cadre 0.1.0: all of the library but its adapters, in one header
// Licensed under the Apache License, Version 2.0. Written by single_include/generate.py from include/cadre; change it there.
#ifndef CADRE_SINGLE_INCLUDE_CADRE_HPP
#define CADRE_SINGLE_INCLUDE_CADRE_HPP

// ---- cadre/config/version.hpp ----
#ifndef CADRE_CONFIG_VERSION_HPP
#define CADRE_CONFIG_VERSION_HPP

/// The one place where the version stands; CMakeLists.txt reads it from here.
#define CADRE_VERSION_MAJOR 0
#define CADRE_VERSION_MINOR 1
#define CADRE_VERSION_PATCH 0

#endif

// ---- cadre/config/config.hpp ----
#ifndef CADRE_CONFIG_CONFIG_HPP
#define CADRE_CONFIG_CONFIG_HPP

#if !defined(__cplusplus) || __cplusplus < 202002L
#error "cadre needs C++20: compile with -std=c++20 or later"
#endif
#if !defined(__linux__) || !defined(__LP64__)
#error "cadre needs 64-bit Linux: it uses futex, memfd and pidfd"
#endif
#if !defined(__cpp_exceptions)
#error "cadre reports errors by exceptions: compile without -fno-exceptions"
#endif
#if !defined(__cpp_rtti)
#error "cadre needs run-time type information: compile without -fno-rtti"
#endif

/// Every public name lives in cadre:: and, by an inline namespace, in the version of its binary layout: two
/// libraries built against layouts that differ may be linked into one program. The visibility is said here so that
/// exceptions and registries are one and the same in a host program and its plug-ins, however those are compiled.
#define CADRE_NAMESPACE_BEGIN \
  namespace cadre {           \
  inline namespace v0 __attribute__((visibility("default"))) {
#define CADRE_NAMESPACE_END \
  }                         \
  }

#endif

// ---- cadre/archive/byte_buffer.hpp ----
#ifndef CADRE_ARCHIVE_BYTE_BUFFER_HPP
#define CADRE_ARCHIVE_BYTE_BUFFER_HPP

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Bytes appended one after another and never moved again: a list of chunks, so that a gigabyte is copied into it once
/// and can be written to a file or a socket from where it lies.
class byte_buffer {
 public:
  byte_buffer() = default;
  byte_buffer(byte_buffer&& other) noexcept
      : chunks_(std::move(other.chunks_)),
        cursor_(std::exchange(other.cursor_, nullptr)),
        left_(std::exchange(other.left_, 0)),
        closed_(std::exchange(other.closed_, 0)) {
    other.chunks_.clear();
  }
  byte_buffer& operator=(byte_buffer&& other) noexcept {
    byte_buffer moved(std::move(other));
    chunks_.swap(moved.chunks_);
    std::swap(cursor_, moved.cursor_);
    std::swap(left_, moved.left_);
    std::swap(closed_, moved.closed_);
    return *this;
  }

  /// Copies `size` bytes to the end. Throws std::bad_alloc; the buffer is then as before.
  void append(const void* data, std::size_t size) {
    if (size > left_) [[unlikely]] {
      append_slow(static_cast<const std::byte*>(data), size);
      return;
    }
    if (size == 0) return;
    std::memcpy(cursor_, data, size);
    cursor_ += size;
    left_ -= size;
  }

  [[nodiscard]] std::size_t size() const noexcept { return closed_ + (chunks_.empty() ? 0 : used_in_last()); }

  /// The bytes where they lie, in order; valid until the next append.
  [[nodiscard]] std::vector<std::span<const std::byte>> pieces() const {
    std::vector<std::span<const std::byte>> result;
    for (const chunk& c : chunks_) {
      const std::span<const std::byte> piece(c.bytes.get(), &c == &chunks_.back() ? used_in_last() : c.size);
      result.push_back(piece);
    }
    return result;
  }

  /// One contiguous copy.
  [[nodiscard]] std::vector<std::byte> to_vector() const {
    std::vector<std::byte> result;
    result.reserve(size());
    for (std::span<const std::byte> piece : pieces())
      result.insert(result.end(), piece.data(), piece.data() + piece.size());
    return result;
  }

 private:
  struct chunk {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t size;
  };

  [[nodiscard]] std::size_t used_in_last() const noexcept { return chunks_.back().size - left_; }

  void append_slow(const std::byte* data, std::size_t size) {
    constexpr std::size_t smallest = 256, largest = 64 << 10;
    const std::size_t fits = left_;
    const std::size_t rest = size - fits;
    const std::size_t capacity = std::max(rest, std::clamp(this->size(), smallest, largest));
    chunk next{std::unique_ptr<std::byte[]>(new std::byte[capacity]), capacity};
    std::byte* const begin = next.bytes.get();
    const std::size_t closed = chunks_.empty() ? 0 : chunks_.back().size;
    chunks_.push_back(std::move(next));  // nothing below throws
    if (fits != 0) std::memcpy(cursor_, data, fits);
    closed_ += closed;
    std::memcpy(begin, data + fits, rest);
    cursor_ = begin + rest;
    left_ = capacity - rest;
  }

  std::vector<chunk> chunks_;
  std::byte* cursor_ = nullptr;
  std::size_t left_ = 0;    // free bytes at the cursor
  std::size_t closed_ = 0;  // bytes in all chunks but the last
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/core/error.hpp ----
#ifndef CADRE_CORE_ERROR_HPP
#define CADRE_CORE_ERROR_HPP

#include <stdexcept>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// The base of every exception that cadre itself throws. Its text begins with the room and a number that stays the
/// same over versions, and says what happened, where, and what to do: `[cadre.persist.502] ...`. Each number has an
/// entry in docs/errors.md; each kind of mistake has a subclass, defined in the room that throws it.
class error : public std::runtime_error {
 public:
  /// The number that docs/errors.md lists.
  [[nodiscard]] int number() const noexcept { return number_; }

 protected:
  [[gnu::cold]] error(std::string_view room, int number, std::string_view message)
      : std::runtime_error(text(room, number, message)), number_(number) {}

 private:
  // By append(): operator+ has an overload for each way, of which a user's compiler would make several.
  [[gnu::cold]] static std::string text(std::string_view room, int number, std::string_view message) {
    std::string all = "[cadre.";
    return all.append(room).append(".").append(std::to_string(number)).append("] ").append(message);
  }

  int number_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/archive/error.hpp ----
#ifndef CADRE_ARCHIVE_ERROR_HPP
#define CADRE_ARCHIVE_ERROR_HPP

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

// ---- cadre/archive/fwd.hpp ----
#ifndef CADRE_ARCHIVE_FWD_HPP
#define CADRE_ARCHIVE_FWD_HPP

CADRE_NAMESPACE_BEGIN

class byte_buffer;
class input_archive;
class output_archive;
template <class T>
struct type_label;

CADRE_NAMESPACE_END

#endif

// ---- cadre/archive/detail/padding.hpp ----
#ifndef CADRE_ARCHIVE_DETAIL_PADDING_HPP
#define CADRE_ARCHIVE_DETAIL_PADDING_HPP

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Sets the bytes of `object`, which holds a T, that belong to no member to zero.
template <class T>
void clear_padding([[maybe_unused]] std::byte* object) noexcept {
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
  __builtin_clear_padding(reinterpret_cast<T*>(object));
#endif
#endif
}

/// Whether a T has bytes that clear_padding clears. No trait tells: has_unique_object_representations is false for
/// every type with a float. So it is tried once per type.
template <class T>
bool has_padding() noexcept {
  if constexpr (std::has_unique_object_representations_v<T> || std::is_floating_point_v<T>) {
    return false;
  } else {
    static const bool result = [] {
      alignas(T) std::byte object[sizeof(T)];
      std::memset(object, 0xFF, sizeof object);
      clear_padding<T>(object);
      return std::any_of(object, object + sizeof object, [](std::byte b) { return b != std::byte{0xFF}; });
    }();
    return result;
  }
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/core/portable.hpp ----
#ifndef CADRE_CORE_PORTABLE_HPP
#define CADRE_CORE_PORTABLE_HPP

#include <concepts>
#include <initializer_list>
#include <iterator>
#include <span>  // brings std::ranges::enable_view
#include <type_traits>

CADRE_NAMESPACE_BEGIN

/// Customisation point: how a T is written to bytes and read back, for types that cannot have a `serialize` of their
/// own. `archive(a, b, ...)` writes or reads any other portable values.
///
///     template <> struct cadre::portable<quaternion> {
///       static void save(auto& archive, const quaternion& q) { archive(q.w(), q.x(), q.y(), q.z()); }
///       static void load(auto& archive, quaternion& q) { ... }
///     };
template <class T>
struct portable;

/// A type for which the above is specialised.
template <class T>
concept custom_portable = requires { sizeof(portable<T>); };

namespace detail {

template <class T>
inline constexpr bool is_reference_like =
    std::is_pointer_v<T> || std::is_member_pointer_v<T> || std::is_null_pointer_v<T>;
template <class T>
inline constexpr bool is_reference_like<std::initializer_list<T>> = true;
// std::reference_wrapper and its like, known by their shape: <functional> takes too long to parse for its name.
template <class T>
  requires requires(const T& t) {
    typename T::type;
    { t.get() } noexcept -> std::same_as<typename T::type&>;
  }
inline constexpr bool is_reference_like<T> = true;

}  // namespace detail

/// A type whose bytes are its value, so that they may be copied to another process: trivially copyable, and no
/// pointer, reference wrapper, iterator, span, string_view or other view. Types that cannot be assigned are not:
/// lambdas with captures and structs with reference members are among them. A pointer inside a struct is invisible to
/// the compiler: such a type needs a `serialize`, which then takes precedence.
template <class T>
concept trivially_portable =
    std::is_object_v<T> && std::is_trivially_copyable_v<T> && std::is_copy_assignable_v<T> && !std::is_array_v<T> &&
    !detail::is_reference_like<T> && !std::ranges::enable_view<T> && !std::input_or_output_iterator<T>;

CADRE_NAMESPACE_END

#endif

// ---- cadre/archive/output_archive.hpp ----
#ifndef CADRE_ARCHIVE_OUTPUT_ARCHIVE_HPP
#define CADRE_ARCHIVE_OUTPUT_ARCHIVE_HPP

#include <cereal/cereal.hpp>
#include <cereal/types/array.hpp>
#include <cereal/types/optional.hpp>
#include <cereal/types/string.hpp>
#include <cereal/types/utility.hpp>
#include <cereal/types/variant.hpp>
#include <cereal/types/vector.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// The version of the byte format that output_archive writes and input_archive reads. An archive itself has no header:
/// what holds one (a checkpoint, a message) states this number.
inline constexpr std::uint32_t archive_format_version = 1;

static_assert(std::endian::native == std::endian::little && sizeof(std::size_t) == 8,
              "the archive's format is that of little-endian 64-bit machines");

class output_archive;

namespace detail {

template <class T>
inline constexpr bool is_vector = false;
template <class T, class Allocator>
inline constexpr bool is_vector<std::vector<T, Allocator>> = !std::is_same_v<T, bool>;

// Wrappers that cereal's archives know by themselves and that hold pointers.
template <class T>
inline constexpr bool is_cereal_wrapper = std::is_base_of_v<cereal::traits::detail::BaseCastBase, T> ||
                                          std::is_base_of_v<cereal::detail::DeferredDataCore, T>;

template <class T>
consteval bool is_archived_by_bytes() {
  if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>)
    return true;
  else if constexpr (!trivially_portable<T> || custom_portable<T> || is_cereal_wrapper<T>)
    return false;
  else
    return !cereal::traits::is_output_serializable<T, output_archive>::value;
}

/// Whether the archive copies a T byte by byte: a trivially portable type for which neither cereal nor portable<T> has
/// another way.
template <class T>
concept archived_by_bytes = is_archived_by_bytes<T>();

}  // namespace detail

/// Writes values to a byte_buffer by cereal's rules: numbers, enumerations and trivially portable types as their
/// bytes, a vector of them as one block, everything else by its `serialize`, `save` or cadre::portable. Vectors,
/// strings, arrays, pairs, optionals and variants need no further include; other types of the standard library that of
/// cereal (`<cereal/types/map.hpp>`).
///
/// The format is that of the machine: little-endian, 64 bit. Padding is written as zero where the compiler can do it
/// (g++), so equal values give equal bytes. Speed is that of memcpy for contiguous data.
class output_archive : public cereal::OutputArchive<output_archive> {
  using base = cereal::OutputArchive<output_archive>;

 public:
  explicit output_archive(byte_buffer& out) : base(this), out_(&out) {}

  /// Throws serialization_failed (503) in place of cereal's exceptions; those of the values pass through.
  template <class... Values>
  output_archive& operator()(const Values&... values) {
    (put(values), ...);
    return *this;
  }
  template <class Value>
  output_archive& operator&(const Value& value) {
    return (*this)(value);
  }
  template <class Value>
  output_archive& operator<<(const Value& value) {
    return (*this)(value);
  }

  void write(const void* data, std::size_t size) { out_->append(data, size); }

 private:
  template <class T>
  void put(const T& value) {
    if constexpr (detail::archived_by_bytes<T>) {
      put_bytes(value);
    } else if constexpr (custom_portable<T>) {
      portable<T>::save(*this, value);
    } else if constexpr (detail::is_vector<T>) {
      put_bytes(static_cast<std::uint64_t>(value.size()));
      using element = typename T::value_type;
      if constexpr (detail::archived_by_bytes<element>) {
        if (!detail::has_padding<element>())
          write(value.data(), value.size() * sizeof(element));
        else
          for (const element& e : value) put_bytes(e);
      } else {
        for (const element& e : value) put(e);
      }
    } else {
      try {
        base::operator()(value);
      } catch (const cereal::Exception& e) {
        throw serialization_failed(e.what());
      }
    }
  }

  template <class T>
  void put_bytes(const T& value) {
    if constexpr (!std::is_scalar_v<T>) {
      if (detail::has_padding<T>()) {
        alignas(T) std::byte copy[sizeof(T)];
        std::memcpy(copy, std::addressof(value), sizeof(T));
        detail::clear_padding<T>(copy);
        write(copy, sizeof(T));
        return;
      }
    }
    write(std::addressof(value), sizeof(T));
  }

  byte_buffer* out_;
};

template <class T>
  requires std::is_arithmetic_v<T>
void CEREAL_SAVE_FUNCTION_NAME(output_archive& archive, const T& value) {
  archive.write(std::addressof(value), sizeof value);
}
template <class T>
void CEREAL_SAVE_FUNCTION_NAME(output_archive& archive, const cereal::NameValuePair<T>& pair) {
  archive(pair.value);
}
template <class T>
void CEREAL_SAVE_FUNCTION_NAME(output_archive& archive, const cereal::SizeTag<T>& tag) {
  archive(static_cast<std::uint64_t>(tag.size));
}
template <class T>
void CEREAL_SAVE_FUNCTION_NAME(output_archive& archive, const cereal::BinaryData<T>& block) {
  archive.write(block.data, static_cast<std::size_t>(block.size));
}

CADRE_NAMESPACE_END

CEREAL_REGISTER_ARCHIVE(cadre::output_archive)

#endif

// ---- cadre/archive/input_archive.hpp ----
#ifndef CADRE_ARCHIVE_INPUT_ARCHIVE_HPP
#define CADRE_ARCHIVE_INPUT_ARCHIVE_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>

CADRE_NAMESPACE_BEGIN

/// Reads what output_archive wrote, from bytes that must outlive it. Nothing is trusted: each size is compared with
/// the bytes that are left before anything is allocated or read, so truncated or damaged data end in archive_truncated
/// (501), archive_corrupt (502) or serialization_failed (503). A value that was being read is then partly assigned.
/// Data forged on purpose can still confuse the types behind std::shared_ptr (a weakness of cereal): do not read those
/// from strangers.
class input_archive : public cereal::InputArchive<input_archive> {
  using base = cereal::InputArchive<input_archive>;

 public:
  explicit input_archive(std::span<const std::byte> bytes) : base(this), bytes_(bytes) {}

  template <class... Values>
  input_archive& operator()(Values&&... values) {
    (get(values), ...);
    return *this;
  }
  template <class Value>
  input_archive& operator&(Value&& value) {
    return (*this)(value);
  }
  template <class Value>
  input_archive& operator>>(Value&& value) {
    return (*this)(value);
  }

  /// The next `size` bytes. Throws archive_truncated (501).
  void read(void* data, std::size_t size) {
    if (size > left()) throw archive_truncated(size, left(), offset_);
    if (size == 0) return;
    std::memcpy(data, bytes_.data() + offset_, size);
    offset_ += size;
  }

  /// Bytes not read yet.
  [[nodiscard]] std::size_t left() const noexcept { return bytes_.size() - offset_; }
  [[nodiscard]] std::size_t offset() const noexcept { return offset_; }

  /// Throws archive_not_exhausted (504) if bytes are left.
  void expect_end() const {
    if (left() != 0) throw archive_not_exhausted(left(), bytes_.size());
  }

  /// A number of elements to come, of at least `element_size` bytes each. Throws archive_corrupt (502) if they cannot
  /// be in the bytes that are left.
  std::size_t read_count(std::size_t element_size = 1) {
    const std::size_t at = offset_;
    std::uint64_t count = 0;
    read(&count, sizeof count);
    check_count(count, element_size, at);
    return static_cast<std::size_t>(count);
  }

 private:
  void check_count(std::uint64_t count, std::size_t element_size, std::size_t at) const {
    if (count > left() / element_size)
      throw archive_corrupt(
          "a container of " + std::to_string(count) + " elements with " + std::to_string(left()) + " bytes left", at);
  }

  template <class T>
  void get(T& value) {
    using type = std::remove_const_t<T>;
    if constexpr (std::is_same_v<T, bool>) {
      std::uint8_t byte = 0;  // a bool of another value is undefined behaviour
      read(&byte, 1);
      if (byte > 1) throw archive_corrupt("a bool of value " + std::to_string(byte), offset_ - 1);
      value = byte == 1;
    } else if constexpr (detail::archived_by_bytes<type>) {
      static_assert(!std::is_const_v<T>, "cadre: a const value cannot be read into");
      read(static_cast<void*>(std::addressof(value)), sizeof(T));
    } else if constexpr (custom_portable<type>) {
      portable<type>::load(*this, value);
    } else if constexpr (detail::is_vector<type>) {
      get_vector(value);
    } else {
      try {
        base::operator()(value);
      } catch (const cereal::Exception& e) {
        throw serialization_failed(e.what());
      }
    }
  }

  /// Elements that are there are read in place. Memory grows with what has been read, not with what was promised.
  template <class T, class Allocator>
  void get_vector(std::vector<T, Allocator>& values) {
    if constexpr (detail::archived_by_bytes<T>) {
      values.resize(read_count(sizeof(T)));
      read(values.data(), values.size() * sizeof(T));
    } else {
      const std::size_t count = read_container_size();
      if (count < values.size()) values.resize(count);
      values.reserve(std::min(count, std::max(values.size(), left() / sizeof(T))));
      for (std::size_t i = 0; i < count; ++i) {
        if (i == values.size()) values.emplace_back();
        get(values[i]);
      }
    }
  }

  // Elements may write no bytes at all, if they are stateless; few of them are let pass.
  std::size_t read_container_size() {
    constexpr std::uint64_t harmless = 65536;
    const std::size_t at = offset_;
    std::uint64_t count = 0;
    read(&count, sizeof count);
    if (count > harmless) check_count(count, 1, at);
    return static_cast<std::size_t>(count);
  }

  template <class T>
  friend void CEREAL_LOAD_FUNCTION_NAME(input_archive& archive, cereal::SizeTag<T>& tag) {
    tag.size = archive.read_container_size();
  }

  std::span<const std::byte> bytes_;
  std::size_t offset_ = 0;
};

template <class T>
  requires std::is_arithmetic_v<T>
void CEREAL_LOAD_FUNCTION_NAME(input_archive& archive, T& value) {
  archive(value);
}
template <class T>
void CEREAL_LOAD_FUNCTION_NAME(input_archive& archive, cereal::NameValuePair<T>& pair) {
  archive(pair.value);
}
template <class T>
void CEREAL_LOAD_FUNCTION_NAME(input_archive& archive, cereal::BinaryData<T>& block) {
  archive.read(block.data, static_cast<std::size_t>(block.size));
}

CADRE_NAMESPACE_END

CEREAL_REGISTER_ARCHIVE(cadre::input_archive)
CEREAL_SETUP_ARCHIVE_TRAITS(cadre::input_archive, cadre::output_archive)

#endif

// ---- cadre/archive/to_bytes.hpp ----
#ifndef CADRE_ARCHIVE_TO_BYTES_HPP
#define CADRE_ARCHIVE_TO_BYTES_HPP

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

// ---- cadre/archive/type_label.hpp ----
#ifndef CADRE_ARCHIVE_TYPE_LABEL_HPP
#define CADRE_ARCHIVE_TYPE_LABEL_HPP

#include <cxxabi.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <typeinfo>

CADRE_NAMESPACE_BEGIN

namespace detail {

inline void erase_all(std::string& text, std::string_view part) {
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at)) text.erase(at, part.size());
}

/// A type's name as in source code, without the inline namespaces that carry versions of the standard library and of
/// cadre, so that files outlive these.
inline std::string type_name(const std::type_info& type) {
  int status = 0;
  char* demangled = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string name = demangled != nullptr ? demangled : type.name();
  std::free(demangled);
  erase_all(name, "__cxx11::");
  erase_all(name, "__1::");
  for (std::size_t at = name.find("cadre::v"); at != std::string::npos; at = name.find("cadre::v", at + 1)) {
    const std::size_t digits = at + 8, end = name.find_first_not_of("0123456789", digits);
    if (end != std::string::npos && end != digits && name.compare(end, 2, "::") == 0)
      name.erase(at + 7, end + 2 - at - 7);
  }
  return name;
}

}  // namespace detail

/// The name under which a T is filed: a value is read back only as a type of the same label. Specialise it for types
/// that share one format, or to keep files readable after a type was renamed.
template <class T>
struct type_label {
  static std::string get() { return detail::type_name(typeid(T)); }
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/archive.hpp ----
#ifndef CADRE_ARCHIVE_HPP
#define CADRE_ARCHIVE_HPP

/// The one archive over byte buffers that checkpoints, stores and messages share.

#endif

// ---- cadre/async/error.hpp ----
#ifndef CADRE_ASYNC_ERROR_HPP
#define CADRE_ASYNC_ERROR_HPP

#include <cstddef>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// Thrown (201) when a future is used that refers to no task.
class empty_future : public error {
 public:
  [[gnu::cold]] explicit empty_future(std::string_view call)
      : error("async", 201,
              std::string(call) +
                  " on an empty future: it was never set, was moved from, or gave its value away by get(), then() or "
                  "when_all(); keep what get() returned, or ask valid() first") {}
};

/// Thrown (202) by the future of a promise that was destroyed without a value or an error.
class broken_promise : public error {
 public:
  [[gnu::cold]] broken_promise()
      : error("async", 202,
              "the promise of this future was destroyed without a value; call set_value() or set_error() on every way "
              "out") {}
};

/// Thrown (203) when a promise is given a second value or error, or a value after it was moved from.
class promise_already_satisfied : public error {
 public:
  [[gnu::cold]] promise_already_satisfied()
      : error("async", 203, "this promise has been kept already, or was moved from; set a value or an error once") {}
};

/// Thrown (204) when a promise is asked for its future a second time.
class future_already_taken : public error {
 public:
  [[gnu::cold]] future_already_taken()
      : error("async", 204,
              "this promise has given its future away already, or was moved from; ask for it once and move it") {}
};

/// Thrown (205) by wait() when more futures are to become ready than it was given.
class impossible_wait : public error {
 public:
  impossible_wait(std::size_t wanted, std::size_t given)
      : error("async", 205,
              "wait for " + std::to_string(wanted) + " of " + std::to_string(given) +
                  " futures can never succeed; ask for at most as many as there are") {}
};

/// Thrown (206) by the future of a task that was cancelled before it began, and in a coroutine by each co_await once it
/// has been cancelled.
class task_cancelled : public error {
 public:
  [[gnu::cold]] explicit task_cancelled(const std::string& task, std::string_view when = "before it began")
      : error("async", 206,
              task + " was cancelled " + std::string(when) +
                  ": by cancel(), its stop token, its parent's or its pool's end") {}
};

/// Thrown (207) when a process made by fork() uses a pool, or waits for a task, of the process that it came from.
class forked_process : public error {
 public:
  [[gnu::cold]] forked_process()
      : error("async", 207,
              "this process was made by fork(), and the threads of the pool stayed in the other; make a pool after the "
              "fork, or call exec()") {}
};

/// Thrown (208) by a wait that could never end, because what it waits for waits for it.
class wait_cycle : public error {
 public:
  [[gnu::cold]] explicit wait_cycle(const std::string& path)
      : error("async", 208,
              "this wait would never end: " + path + ", which is under way here; use then() in one place") {}
};

/// Thrown (209) when a task asks for resources that its pool can never give, or that make no sense.
class impossible_request : public error {
 public:
  [[gnu::cold]] explicit impossible_request(const std::string& what)
      : error("async", 209, "this request of resources can never be met: " + what) {}
};

/// Thrown (210) by the future of a task that had not begun by its deadline.
class deadline_passed : public error {
 public:
  [[gnu::cold]] explicit deadline_passed(const std::string& task)
      : error("async", 210, task + " had not begun by its deadline; give it more time, or the pool less to do") {}
};

/// Thrown (211) when options of a task do not go together with it or its pool.
class bad_task_option : public error {
 public:
  [[gnu::cold]] explicit bad_task_option(const std::string& what) : error("async", 211, what) {}
};

/// Thrown (212) when a channel is made that could hold nothing.
class bad_channel : public error {
 public:
  [[gnu::cold]] bad_channel() : error("async", 212, "a channel of capacity 0 could hold nothing; give it 1 or more") {}
};

/// Thrown (213) by a send into a closed channel.
class channel_closed : public error {
 public:
  [[gnu::cold]] channel_closed()
      : error("async", 213,
              "this channel is closed, so nobody will receive what is sent; close it when all have sent") {}
};

/// Thrown (215) by the call of a coroutine that g++ 12 has compiled wrongly: one that begins with `if (co_await f ...)` and
/// has no variable of its own.
class miscompiled_coroutine : public error {
 public:
  explicit miscompiled_coroutine(const std::string& coroutine)
      : error("async", 215,
              coroutine +
                  " is a coroutine that this compiler has laid out wrongly, as g++ 12 does if one begins with `if "
                  "(co_await "
                  "f ...)`; write `const auto x = co_await f; if (x ...)`") {}
};

/// Thrown (220) by task_graph::run() when nodes come before themselves.
class graph_cycle : public error {
 public:
  graph_cycle(const std::string& path, std::size_t nodes)
      : error("async", 220,
              "the task graph has a cycle of " + std::to_string(nodes) + " node" + (nodes == 1 ? "" : "s") + ": " +
                  path + "; none of them could ever run, so remove one of these edges") {}
};

/// Thrown (221) when a task graph is changed, or run once more, while it runs.
class graph_is_running : public error {
 public:
  explicit graph_is_running(std::string_view call)
      : error("async", 221,
              std::string(call) +
                  " on a task graph that runs; wait for the future of that run first, or use a second "
                  "graph") {}
};

/// Thrown (222) by the future of a graph's run that was cancelled after it had begun.
class graph_cancelled : public error {
 public:
  graph_cancelled(const std::string& run, std::size_t skipped, std::size_t nodes)
      : error("async", 222,
              "the run of a task graph, " + run + ", was cancelled: " + std::to_string(skipped) + " of its " +
                  std::to_string(nodes) + " nodes were skipped") {}
};

/// Thrown (223) when an edge is to lead from or to a node of another task graph, or of none.
class foreign_node : public error {
 public:
  foreign_node()
      : error(
            "async", 223,
            "both ends of an edge must be nodes of the same task graph: use what its add() returned, and not after the "
            "graph was assigned to") {}
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/barrier.hpp ----
#ifndef CADRE_ASYNC_DETAIL_BARRIER_HPP
#define CADRE_ASYNC_DETAIL_BARRIER_HPP

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#if defined(__SANITIZE_THREAD__)
#define CADRE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CADRE_TSAN 1
#endif
#endif

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A barrier between a store and a later load whose price only one side pays. frequent() stands between store and load
/// of the many, seldom() between those of the few; of two such pairs at least one load then sees the other's store.
/// seldom() has the kernel interrupt every running thread of the process, which makes the hardware's barrier for the many
/// (membarrier(2)); frequent() only keeps the compiler from moving anything. Where the kernel has no such call, and under
/// ThreadSanitizer, which cannot know of it, both are a sequentially consistent exchange.
class uneven_barrier {
 public:
  static void frequent() noexcept {
    if (by_kernel()) [[likely]] {
      asm volatile("" ::: "memory");
    } else {
      exchange();
    }
  }
  static void seldom() noexcept {
    if (by_kernel()) [[likely]]
      ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    else
      exchange();
  }
  /// Once, before any of the two.
  static void prepare() noexcept {
#ifndef CADRE_TSAN
    if (::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0)
      registered().store(true, std::memory_order_relaxed);
#endif
  }

 private:
  static std::atomic<bool>& registered() noexcept {
    static constinit std::atomic<bool> r{false};
    return r;
  }
  static bool by_kernel() noexcept {
#ifdef CADRE_TSAN
    return false;
#else
    return registered().load(std::memory_order_relaxed);
#endif
  }
  static void exchange() noexcept {
    static constinit std::atomic<std::uint32_t> word{0};
    word.fetch_add(1, std::memory_order_seq_cst);
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/process.hpp ----
#ifndef CADRE_ASYNC_DETAIL_PROCESS_HPP
#define CADRE_ASYNC_DETAIL_PROCESS_HPP

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <mutex>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The locks that all pools of a process share; in the order in which more than one may be taken. Never destroyed: tasks
/// may be freed while the statics of the program are being destroyed.
struct process_locks {
  std::mutex pools;   // which pools there are
  std::mutex waits;   // who sleeps until which task is done
  std::mutex family;  // whose child a task is
  std::mutex nodes;   // the depot of node memory
  std::mutex pages;   // huge pages that are kept for the next who wants one
};
inline process_locks& the_locks() noexcept {
  static constinit process_locks locks;
  return locks;
}

/// How often this process is the child of a fork(): a pool that has another number has no threads here.
inline constinit std::atomic<std::uint32_t> fork_count{0};

/// Counts forks, and keeps a child from finding a lock held by a thread that it does not have.
inline void watch_forks() noexcept {
  static const int registered = ::pthread_atfork(
      [] {
        process_locks& l = the_locks();
        l.pools.lock();
        l.waits.lock();
        l.family.lock();
        l.nodes.lock();
        l.pages.lock();
      },
      [] {
        process_locks& l = the_locks();
        l.pages.unlock();
        l.nodes.unlock();
        l.family.unlock();
        l.waits.unlock();
        l.pools.unlock();
      },
      [] {
        process_locks& l = the_locks();
        l.pages.unlock();
        l.nodes.unlock();
        l.family.unlock();
        l.waits.unlock();
        l.pools.unlock();
        fork_count.fetch_add(1, std::memory_order_relaxed);
      });
  static_cast<void>(registered);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/huge_pages.hpp ----
#ifndef CADRE_ASYNC_DETAIL_HUGE_PAGES_HPP
#define CADRE_ASYNC_DETAIL_HUGE_PAGES_HPP

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Memory in pieces of 2 MiB that are one huge page each where the system has one to give. A first touch of each of their
/// 512 ordinary pages would cost more than most of what is done with them. A few pieces that are given back are kept.
/// Thread-safety: all functions, from any thread.
class huge_pages {
 public:
  static constexpr std::size_t size = std::size_t{2} << 20;

  /// Throws std::bad_alloc.
  static void* take() {
    {
      const std::lock_guard lock(the_locks().pages);
      store& s = kept();
      if (s.count != 0) return s.pieces[--s.count];
    }
    void* const piece = ::operator new(size, std::align_val_t{size});
    ::madvise(piece, size, MADV_HUGEPAGE);  // where it fails the pages are ordinary ones
    return piece;
  }
  static void give(void* piece) noexcept {
    {
      const std::lock_guard lock(the_locks().pages);
      store& s = kept();
      if (s.count != most) {
        s.pieces[s.count++] = piece;
        return;
      }
    }
    ::operator delete(piece, std::align_val_t{size});
  }

 private:
  static constexpr std::size_t most = 8;
  struct store {
    void* pieces[most] = {};
    std::size_t count = 0;
  };
  static store& kept() noexcept {
    static constinit store s;
    return s;
  }
};

/// Memory that only grows: small pieces at first, then huge pages. Freed as a whole.
class growing_memory {
 public:
  growing_memory() = default;
  growing_memory(const growing_memory&) = delete;
  growing_memory& operator=(const growing_memory&) = delete;
  ~growing_memory() {
    while (piece* const p = newest_) {
      newest_ = p->older;
      p->huge ? huge_pages::give(p) : ::operator delete(p, std::align_val_t{64});
    }
  }

  static constexpr std::size_t most_at_once = std::size_t{32} << 10;
  /// 64-byte aligned. `bytes` <= most_at_once. Throws std::bad_alloc.
  void* take(std::size_t bytes) {
    if (bytes > left_) grow();
    std::byte* const at = next_;
    const std::size_t rounded = (bytes + 63) & ~std::size_t{63};
    next_ += rounded;
    left_ -= rounded;
    return at;
  }

 private:
  static constexpr std::size_t small = most_at_once + 64;
  static constexpr std::size_t few = 8;
  struct alignas(64) piece {
    piece* older;
    bool huge;
  };

  void grow() {
    const bool huge = pieces_ >= few;
    void* const memory = huge ? huge_pages::take() : ::operator new(small, std::align_val_t{64});
    newest_ = ::new (memory) piece{newest_, huge};
    next_ = static_cast<std::byte*>(memory) + sizeof(piece);
    left_ = (huge ? huge_pages::size : small) - sizeof(piece);
    ++pieces_;
  }

  piece* newest_ = nullptr;
  std::byte* next_ = nullptr;
  std::size_t left_ = 0;
  std::size_t pieces_ = 0;
};

/// A list in blocks that never move, of memory that somebody else frees; nor does it destroy what lies in it.
template <class T, std::uint32_t per_block>
class block_list {
 public:
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] T& operator[](std::uint32_t i) const noexcept { return blocks_[i / per_block][i % per_block]; }
  template <class... Args>
  T& emplace_back(growing_memory& memory, Args&&... args) {
    if (size_ == blocks_.size() * per_block) blocks_.push_back(static_cast<T*>(memory.take(per_block * sizeof(T))));
    T* const added = ::new (static_cast<void*>(blocks_.back() + size_ % per_block)) T(std::forward<Args>(args)...);
    ++size_;
    return *added;
  }

 private:
  std::vector<T*> blocks_;
  std::uint32_t size_ = 0;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/node_memory.hpp ----
#ifndef CADRE_ASYNC_DETAIL_NODE_MEMORY_HPP
#define CADRE_ASYNC_DETAIL_NODE_MEMORY_HPP

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define CADRE_POISON_NODES 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CADRE_POISON_NODES 1
#endif
#endif
#ifdef CADRE_POISON_NODES
// Of <sanitizer/asan_interface.h>, which not every system has beside its compiler.
extern "C" void __asan_poison_memory_region(void const volatile*, std::size_t);
extern "C" void __asan_unpoison_memory_region(void const volatile*, std::size_t);
#endif

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Memory for tasks: 64-byte aligned nodes of a few sizes. Each thread keeps up to two batches of free nodes per size and
/// exchanges whole batches with a common depot, so a task allocated here and freed there costs no lock and, in steady
/// state, no call of the system's allocator.
///
/// Nodes are never given back to the system and keep their size for ever, so for_each_node() can look at any of them at
/// any time: the first `lasting` bytes after the first 8 of a node stay what they were when it was freed, and are zero
/// before its first use.
class node_memory {
 public:
  static constexpr std::size_t sizes[] = {128, 192, 256, 512};
  static constexpr std::size_t largest = 512;
  static constexpr std::size_t alignment = 64;
  static constexpr std::size_t lasting = 8;

  /// `bytes` <= largest. Throws std::bad_alloc.
  static void* allocate(std::size_t bytes) {
    const std::size_t c = class_of(bytes);
    magazine& m = mine().magazines[c];
    if (m.current.first == nullptr) [[unlikely]]
      refill(c, m);
    node* const n = m.current.first;
    m.current.first = n->next;
    --m.current.count;
    unpoison(n, sizes[c]);
    return n;
  }

  static void release(void* memory, std::size_t bytes) noexcept {
    const std::size_t c = class_of(bytes);
    magazine& m = mine().magazines[c];
    if (m.current.count == batch_size) [[unlikely]]
      make_room(c, m);
    node* const n = static_cast<node*>(memory);
    n->next = m.current.first;
    m.current.first = n;
    ++m.current.count;
    poison(n, sizes[c]);
    if (mine().ended) [[unlikely]]
      give_all_back(mine());
  }

  /// Calls `visit(void*)` for every node that there is, in use or not.
  template <class Visit>
  static void for_each_node(Visit&& visit) {
    slab* newest = nullptr;
    {
      const std::lock_guard lock(the_locks().nodes);
      newest = the_depot().slabs;
    }
    for (slab* s = newest; s != nullptr; s = s->older)  // slabs are only ever added, in front
      for (std::size_t i = 0; i < batch_size; ++i) visit(static_cast<void*>(s->first + i * s->node_size));
  }

 private:
  static constexpr std::size_t classes = sizeof sizes / sizeof sizes[0];
  static constexpr std::size_t batch_size = 64;

  struct node {
    node* next;
    std::byte lasts[lasting];
    node* next_batch;  // of the first node of a batch in the depot
  };
  struct batch {
    node* first = nullptr;
    std::size_t count = 0;
  };
  struct magazine {
    batch current{nullptr, batch_size};  // at first with neither a node nor room for one, so that first uses are seen
    batch spare;                         // full or empty
  };
  struct cache {
    magazine magazines[classes];
    bool registered = false;
    bool ended = false;  // the thread is past the destruction of its thread_local objects
  };
  struct slab {
    slab* older;
    std::byte* first;
    std::size_t node_size;
  };
  // Guarded by the_locks().nodes.
  struct depot {
    node* full[classes] = {};     // batches of batch_size nodes
    node* partial[classes] = {};  // single nodes of threads that have ended
    slab* slabs = nullptr;
    growing_memory memory;
  };

  static std::size_t class_of(std::size_t bytes) noexcept {
    return bytes <= sizes[0] ? 0 : bytes <= sizes[1] ? 1 : bytes <= sizes[2] ? 2 : 3;
  }

  static cache& mine() noexcept {
    static constinit thread_local cache c;
    return c;
  }
  static depot& the_depot() noexcept {
    static depot& d = *new depot;  // never destroyed: see process_locks
    return d;
  }

  // What a thread keeps goes to the depot when it ends. Not a destructor of `cache` itself: every use would check it.
  struct at_thread_end {
    ~at_thread_end() {
      give_all_back(mine());
      mine().ended = true;
    }
  };

  // A thread that only frees must leave what it keeps to the others, too.
  static void begin_use() noexcept {
    if (mine().registered) return;
    mine().registered = true;
    static thread_local at_thread_end flush;
    static_cast<void>(flush);
    watch_forks();
  }

  [[gnu::noinline]] static void refill(std::size_t c, magazine& m) {
    begin_use();
    if (m.spare.first != nullptr) {
      m.current = m.spare;
      m.spare = {};
      return;
    }
    {
      depot& d = the_depot();
      const std::lock_guard lock(the_locks().nodes);
      if (node* const first = d.full[c]) {
        reveal_link(first);
        d.full[c] = first->next_batch;
        m.current = {first, batch_size};
        return;
      }
      if (node* const first = d.partial[c]) {
        d.partial[c] = first->next;
        first->next = nullptr;
        m.current = {first, 1};
        return;
      }
    }
    m.current = carve(c);
  }

  [[gnu::noinline]] static batch carve(std::size_t c) {
    const std::size_t size = sizes[c];
    slab* const s = new slab{nullptr, nullptr, size};
    try {
      const std::lock_guard lock(the_locks().nodes);
      s->first = static_cast<std::byte*>(the_depot().memory.take(size * batch_size));
    } catch (...) {
      delete s;
      throw;
    }
    node* first = nullptr;
    for (std::size_t i = batch_size; i-- > 0;) {
      first = ::new (static_cast<void*>(s->first + i * size)) node{first, {}, nullptr};
      poison(first, size);
    }
    const std::lock_guard lock(the_locks().nodes);
    s->older = the_depot().slabs;
    the_depot().slabs = s;
    return {first, batch_size};
  }

  [[gnu::noinline]] static void make_room(std::size_t c, magazine& m) noexcept {
    begin_use();
    if (m.current.first == nullptr) {
      m.current.count = 0;
      return;
    }
    if (m.spare.first != nullptr) {
      const std::lock_guard lock(the_locks().nodes);
      reveal_link(m.spare.first);
      m.spare.first->next_batch = the_depot().full[c];
      the_depot().full[c] = m.spare.first;
    }
    m.spare = m.current;
    m.current = {};
  }

  [[gnu::noinline]] static void give_all_back(cache& mine) noexcept {
    const std::lock_guard lock(the_locks().nodes);
    for (std::size_t c = 0; c < classes; ++c)
      for (batch* b : {&mine.magazines[c].current, &mine.magazines[c].spare}) {
        while (node* const n = b->first) {
          b->first = n->next;
          n->next = the_depot().partial[c];
          the_depot().partial[c] = n;
        }
        b->count = 0;
      }
  }

#ifdef CADRE_POISON_NODES
  // All but the link and what lasts.
  static void poison(node* n, std::size_t size) noexcept {
    __asan_poison_memory_region(n->lasts + lasting, size - sizeof(node*) - lasting);
  }
  static void unpoison(node* n, std::size_t size) noexcept { __asan_unpoison_memory_region(n, size); }
  static void reveal_link(node* n) noexcept { __asan_unpoison_memory_region(&n->next_batch, sizeof n->next_batch); }
#else
  static void poison(node*, std::size_t) noexcept {}
  static void unpoison(node*, std::size_t) noexcept {}
  static void reveal_link(node*) noexcept {}
#endif
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/waiter_list.hpp ----
#ifndef CADRE_ASYNC_DETAIL_WAITER_LIST_HPP
#define CADRE_ASYNC_DETAIL_WAITER_LIST_HPP

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

class task;

/// What is to happen when a task completes. Lives with whoever waits: on a waiter's stack or inside a later task.
struct continuation {
  enum class wish : std::uint8_t {
    fire,       // returns a task that is to run on this thread once all others have been told, or null
    name_owner  // does nothing, and returns the task that cannot be done before this has fired, or null
  };
  using action = task* (*)(continuation&, wish) noexcept;
  explicit continuation(action f) noexcept : act(f) {}

  continuation* next = nullptr;
  action act;
};

/// The continuations of a task: a stack by compare-and-swap that completion closes for good. Results are written before
/// the closing exchange (release) and read after a load that sees it (acquire). Only removal, by a wait that timed out, and
/// a look for cycles of waits lock the list for a moment.
class waiter_list {
 public:
  [[nodiscard]] bool is_closed() const noexcept { return head_.load(std::memory_order_acquire) == closed; }

  /// False if the list is closed.
  [[nodiscard]] bool add(continuation& c) noexcept {
    return replace_head([&c](std::uintptr_t head) {
      c.next = reinterpret_cast<continuation*>(head);
      return reinterpret_cast<std::uintptr_t>(&c);
    });
  }

  /// Takes back one that was added. False if the list has been closed.
  [[nodiscard]] bool remove(continuation& c) noexcept {
    lock list(*this);
    if (!list) return false;
    continuation** at = &list.first();
    while (*at != &c) at = &(*at)->next;
    *at = c.next;
    return true;
  }

  /// Once. All that there are, the first to come first.
  [[nodiscard]] continuation* close() noexcept {
    continuation* newest = nullptr;
    static_cast<void>(replace_head([&newest](std::uintptr_t head) {
      newest = reinterpret_cast<continuation*>(head);
      return closed;
    }));
    continuation* first = nullptr;
    while (newest != nullptr) {
      continuation* const c = std::exchange(newest, newest->next);
      c->next = std::exchange(first, c);
    }
    return first;
  }

  /// While it lives nothing is added, nothing removed, and the list not closed; if it is not closed already.
  class lock {
   public:
    explicit lock(waiter_list& list) noexcept
        : list_(list), held_(list.replace_head([this](std::uintptr_t head) {
            first_ = reinterpret_cast<continuation*>(head);
            return head | locked;
          })) {}
    lock(const lock&) = delete;
    lock& operator=(const lock&) = delete;
    ~lock() {
      if (held_) list_.head_.store(reinterpret_cast<std::uintptr_t>(first_), std::memory_order_release);
    }
    explicit operator bool() const noexcept { return held_; }
    [[nodiscard]] continuation*& first() noexcept { return first_; }

   private:
    continuation* first_ = nullptr;
    waiter_list& list_;
    const bool held_;
  };

 private:
  static constexpr std::uintptr_t closed = 2;
  static constexpr std::uintptr_t locked = 1;

  // False if the list is closed. Waits while it is locked.
  template <class Next>
  [[nodiscard]] bool replace_head(Next next) noexcept {
    std::uintptr_t head = head_.load(std::memory_order_acquire);
    while (head != closed) {
      if (head & locked) {
        ::sched_yield();
        head = head_.load(std::memory_order_acquire);
      } else if (head_.compare_exchange_weak(head, next(head), std::memory_order_acq_rel, std::memory_order_acquire)) {
        return true;
      }
    }
    return false;
  }

  std::atomic<std::uintptr_t> head_{0};
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/task.hpp ----
#ifndef CADRE_ASYNC_DETAIL_TASK_HPP
#define CADRE_ASYNC_DETAIL_TASK_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>
#include <new>
#include <source_location>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

class scheduler;
class task;
struct task_extras;

/// Which pool, for the whole life of the process: a slot of the registry and how often that had been used before. A task
/// names its pool by this and holds no reference to it, which would be a counter that all threads write.
using pool_id = std::uint64_t;
inline constexpr pool_id no_pool = 0;

struct worker;
struct here_queue;

/// A task that runs on this thread; those it waits on top of are the outer ones.
struct running_frame {
  task* runs;
  running_frame* outer;
  bool whole = true;  // false: only a part of that task, which goes on elsewhere
};

struct thread_context {
  struct worker* worker = nullptr;  // which one of a pool this thread is
  running_frame* top = nullptr;
  here_queue* here = nullptr;  // of the run_here() under way
};
inline thread_context& this_context() noexcept {
  static constinit thread_local thread_context c;
  return c;
}
/// The task that runs on this thread, or null.
inline task* current_task() noexcept {
  const running_frame* const top = this_context().top;
  return top != nullptr ? top->runs : nullptr;
}

/// One node per task: references, claim, link of the queues, waiters, family; derived classes add result and closure.
///
/// claim:  pending (a promise, or a continuation whose time has not come) -> queued -> running. Whoever turns queued
///         into running runs the task, be it a worker that took it from a queue or a thread that waits for it, or ends it,
///         as cancel() does; the queue's entry is then stale and only gives back its reference.
/// waiters_: what is to happen when the task is done; completion closes it for good, which is also what says that.
/// parent_: the task that submitted this one, as long as that may still be cancelled together with what it submitted.
/// kin_: how many keep the node: its children, and one for all who hold references. These keep its result as well, which
///       children must not: it may hold their futures.
///
/// references_ and claim_ lie in the bytes of a node that node_memory keeps: they are only ever touched atomically, and
/// zero references mean that nobody lives here. So retain_at() may be called on any node, in use or not.
class task {
  mutable std::uint32_t references_;  // these two first, after the table pointer: see node_memory::lasting
  mutable std::uint32_t claim_;

 public:
  enum : std::uint32_t {
    pending = 0,
    queued = 1,
    running = 2,
    phase = 3,
    stop = 4,          ///< somebody has cancelled it
    has_children = 8,  ///< so cancelling looks for them
    runner_shift = 4   ///< above: worker + 1
  };
  enum : std::uint8_t {
    no_future = 1,     ///< nobody can wait for it
    bare = 2,          ///< part of the task that waits for it, on its stack or frame: neither claimed nor counted
    not_for_help = 4,  ///< a waiter must not run it itself: it belongs to a certain worker
    no_closure = 8,    ///< promises and joins: completed from elsewhere, never run
    hears_stop = 16,   ///< on_stop() is to be called
    holds = 32,        ///< resources: on_wait() is to be called
    beyond_cancel =
        64,         ///< nobody can name it to cancel it: no future, no options, nor a parent of which that is not so
    of_graph = 128  ///< a graph_step
  };

  explicit task(pool_id home, std::uint8_t flags, std::source_location at) noexcept
      : home_(home), at_(at), flags_(flags) {}
  task(const task&) = delete;
  task& operator=(const task&) = delete;

  // What runs functions fits into a node; the joins of many futures, which nobody looks for, may be larger.
  static void* operator new(std::size_t bytes) {
    return bytes <= node_memory::largest ? node_memory::allocate(bytes)
                                         : ::operator new(bytes, std::align_val_t{node_memory::alignment});
  }
  static void operator delete(void* memory, std::size_t bytes) noexcept {
    if (bytes <= node_memory::largest)
      node_memory::release(memory, bytes);
    else
      ::operator delete(memory, std::align_val_t{node_memory::alignment});
  }
  static void* operator new(std::size_t, void* where) noexcept { return where; }

  /// Makes this a child of the task that runs on this thread, if that may be cancelled. Before publish().
  void set_parent() noexcept {
    task* const p = current_task();
    if (p == nullptr || (p->has(beyond_cancel) && !p->stop_requested())) return;
    flags_ &= static_cast<std::uint8_t>(~beyond_cancel);
    std::uint32_t family = p->family_.load(std::memory_order_relaxed);
    if ((family & 0xffff) >= family >> 16) family = p->shorten_family();
    parent_ = p;
    family_.store((family & 0xffff) == 0xffff ? family : family + 1, std::memory_order_relaxed);
  }

  /// Called once, when all else is constructed: from now on other threads may find the task. It is cancelled at once if
  /// its parent has been.
  void publish(std::uint32_t phase_now, std::uint32_t references) noexcept {
    claim().store(phase_now, std::memory_order_relaxed);
    counter().store(references, std::memory_order_release);
    if (parent_ != nullptr) join_family();
  }

  /// Called once, by the thread that claimed the task. Ends with complete(), unless nobody can know.
  virtual void run() noexcept = 0;
  /// Instead of run(), by the thread that claimed the task: destroys the closure, and completes with task_cancelled.
  virtual void run_not() noexcept = 0;
  void run_or_end() noexcept {
    if (stop_requested() || (parent_ != nullptr && parent_->stop_requested())) [[unlikely]]
      run_not();
    else
      run();
  }
  /// Somebody has asked it to stop while it runs. Called at most once, by any thread.
  virtual void on_stop() noexcept {}
  /// The thread that runs it falls asleep in a wait, or is awake again.
  virtual void on_wait(bool /*begins*/) noexcept {}
  /// Destroys value or error, as only children keep the node from now on.
  virtual void drop_result() noexcept {}
  /// What it has if it was submitted with options, else null.
  [[nodiscard]] virtual task_extras* extras() noexcept { return nullptr; }
  /// What the user called it; may be empty.
  [[nodiscard]] virtual std::string_view name() const noexcept { return {}; }

  // ---- Claim --------------------------------------------------------------------------------------------------

  /// `runner`: worker + 1, or 0 for a thread that is no worker.
  [[nodiscard]] bool try_claim(std::uint32_t runner = 0) noexcept {
    std::uint32_t now = claim().load(std::memory_order_relaxed);
    while ((now & phase) == queued)
      if (claim().compare_exchange_weak(now, ((now & ~std::uint32_t{phase}) | running) + (runner << runner_shift),
                                        std::memory_order_acq_rel, std::memory_order_relaxed))
        return true;
    return false;
  }
  /// A pending task's time has come. False if it was cancelled before.
  [[nodiscard]] bool make_claimable() noexcept { return advance(pending, queued); }
  /// Takes a pending task so that it never becomes claimable.
  [[nodiscard]] bool try_withdraw() noexcept { return advance(pending, running); }

  [[nodiscard]] bool is_pending() const noexcept {
    return (claim().load(std::memory_order_acquire) & phase) == pending;
  }
  [[nodiscard]] bool is_running() const noexcept {
    return (claim().load(std::memory_order_acquire) & phase) == running;
  }
  [[nodiscard]] bool stop_requested() const noexcept { return claim().load(std::memory_order_relaxed) & stop; }
  [[nodiscard]] std::uint32_t claim_word() const noexcept { return claim().load(std::memory_order_acquire); }

  /// False if somebody had asked already.
  bool ask_to_stop() noexcept {
    if (claim().fetch_or(stop, std::memory_order_acq_rel) & stop) return false;
    if (has(hears_stop)) on_stop();
    return true;
  }

  /// Notes where the runner's queue stood when it began, for those who wait and want to help.
  void set_position(std::int64_t p) noexcept {
    position_.store(static_cast<std::uint32_t>(p), std::memory_order_relaxed);
  }
  /// False while it is unknown. Of the position the low 32 bits.
  [[nodiscard]] bool runner(std::uint32_t& worker, std::int64_t& position) const noexcept {
    const std::uint32_t w = claim().load(std::memory_order_acquire) >> runner_shift;
    const std::uint32_t p = position_.load(std::memory_order_relaxed);
    if (w == 0 || p == no_position) return false;
    worker = w - 1;
    position = p;
    return true;
  }

  /// Asks this one to stop, and ends it if it has not begun. False if it had been asked before.
  bool cancel_alone() noexcept {
    const bool first = ask_to_stop();
    kin_.fetch_add(0, std::memory_order_acq_rel);  // see join_family()
    if (!has(no_closure) && (try_claim() || try_withdraw())) run_not();
    return first;
  }
  [[nodiscard]] bool has_offspring() const noexcept { return claim_word() & has_children; }
  [[nodiscard]] bool descends_from(const task& t) const noexcept;

  // ---- References ---------------------------------------------------------------------------------------------

  void retain() noexcept { counter().fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (drop_reference()) end();
  }
  /// A reference to the task in a node of node_memory, or null if there is none.
  [[nodiscard]] static task* retain_at(void* node) noexcept {
    const std::atomic_ref counter(*reinterpret_cast<std::uint32_t*>(static_cast<std::byte*>(node) + sizeof(void*)));
    std::uint32_t n = counter.load(std::memory_order_relaxed);
    while (n != 0)
      if (counter.compare_exchange_weak(n, n + 1, std::memory_order_acq_rel, std::memory_order_relaxed))
        return static_cast<task*>(node);
    return nullptr;
  }
  /// True if the caller holds the only reference.
  [[nodiscard]] bool unshared() const noexcept { return counter().load(std::memory_order_acquire) == 1; }

  // ---- Waiters ------------------------------------------------------------------------------------------------

  [[nodiscard]] bool done() const noexcept { return waiters_.is_closed(); }

  /// False if the task is done already: `c` will not fire.
  [[nodiscard]] bool add(continuation& c) noexcept { return waiters_.add(c); }
  /// Takes back a continuation that was added. False if it has fired or is about to.
  [[nodiscard]] bool remove(continuation& c) noexcept { return waiters_.remove(c); }
  [[nodiscard]] waiter_list& waiters() noexcept { return waiters_; }

  // ---- What does not change, and what the owner of the moment changes ---------------------------------------------

  [[nodiscard]] pool_id home() const noexcept { return home_; }
  [[nodiscard]] std::source_location at() const noexcept { return at_; }
  [[nodiscard]] bool has(std::uint8_t flag) const noexcept { return flags_ & flag; }
  [[nodiscard]] task* parent() const noexcept { return parent_; }

  /// The error, if failed(): in the room that the result would have.
  [[nodiscard]] virtual std::exception_ptr& error() noexcept = 0;
  [[nodiscard]] bool failed() const noexcept { return failed_; }
  /// True if that had been said before. Those who share a future may say it at the same time.
  bool set_observed() noexcept { return observed_.exchange(true, std::memory_order_relaxed); }
  [[nodiscard]] bool observed() const noexcept { return observed_.load(std::memory_order_relaxed); }

  std::atomic<task*> link{nullptr};  ///< of whichever list the task is in: the scheduler's inbox, or run_here's

 protected:
  virtual ~task() {
    if (!has(bare)) leave_family();
  }

  enum class completion : std::uint8_t { of_its_run, from_elsewhere };
  /// Closes the list and tells everyone in it, the first to come first. The caller holds a reference.
  void complete(completion by) noexcept;
  void set_failed(bool failed = true) noexcept { failed_ = failed; }
  /// Of a posted task, before anyone can take it for done: its pool, which has the handler, may end right then, and the last
  /// reference may be that of a thread which looks through all tasks.
  void report_if_posted() noexcept {
    if (failed_ && has(no_future)) [[unlikely]]
      report_error();
  }
  void end() noexcept;  // reports an error that nobody observed, and lets go

 private:
  static constexpr std::uint32_t first_look = 32;
  static constexpr std::uint32_t no_position = std::numeric_limits<std::uint32_t>::max();

  [[nodiscard]] std::atomic_ref<std::uint32_t> counter() const noexcept { return std::atomic_ref(references_); }
  [[nodiscard]] std::atomic_ref<std::uint32_t> claim() const noexcept { return std::atomic_ref(claim_); }

  [[nodiscard]] bool advance(std::uint32_t from, std::uint32_t to) noexcept {
    std::uint32_t now = claim().load(std::memory_order_relaxed);
    while ((now & phase) == from)
      if (claim().compare_exchange_weak(now, (now & ~std::uint32_t{phase}) | to, std::memory_order_acq_rel,
                                        std::memory_order_relaxed))
        return true;
    return false;
  }
  [[nodiscard]] bool drop_reference() noexcept { return counter().fetch_sub(1, std::memory_order_acq_rel) == 1; }
  void report_error() noexcept;
  void join_family() noexcept;
  void leave_family() noexcept { release_kin(std::exchange(parent_, nullptr)); }
  void let_go() noexcept;
  static void release_kin(task* t) noexcept;
  std::uint32_t shorten_family() noexcept;

  waiter_list waiters_;
  pool_id home_;
  std::atomic<std::uint32_t> position_{no_position};
  std::atomic<std::uint32_t> kin_{1};
  std::source_location at_;
  task* parent_ = nullptr;                               // once published guarded by the_locks().family
  std::atomic<std::uint32_t> family_{first_look << 16};  // low: how many ancestors; high: when to look for dead ones
  std::uint8_t flags_;
  bool failed_ = false;
  std::atomic<bool> observed_{false};
};

/// What every run of a task goes through, once it is claimed.
inline void run_in_frame(task& t, thread_context& context) noexcept {
  running_frame frame{&t, context.top};
  context.top = &frame;
  t.run_or_end();
  context.top = frame.outer;
}

/// Tasks that this thread is to run itself, as there is no pool to run them.
struct here_queue {
  task* first = nullptr;
  task* last = nullptr;

  void push(task* t) noexcept {
    t->link.store(nullptr, std::memory_order_relaxed);
    if (first != nullptr)
      last->link.store(t, std::memory_order_relaxed);
    else
      first = t;
    last = t;
  }
  bool run_first() noexcept {
    task* const t = first;
    if (t == nullptr) return false;
    first = t->link.load(std::memory_order_relaxed);
    if (t->has(task::bare)) {
      t->run();
      return true;
    }
    if (t->try_claim()) run_in_frame(*t, this_context());
    t->release();
    return true;
  }
};

/// Runs `t` on this thread if nobody has claimed it, and gives back one reference. A call from within such a run is put
/// off until the run has ended or waits, so that chains of any length need no stack.
inline void run_here(task* t) noexcept {
  thread_context& context = this_context();
  if (context.here != nullptr) {
    context.here->push(t);
    return;
  }
  here_queue q;
  q.push(t);
  context.here = &q;
  while (q.run_first()) {}
  context.here = nullptr;
}

/// A reference to a task, or nothing.
template <class Task>
class task_ref {
 public:
  task_ref() noexcept = default;
  /// Takes over one reference.
  explicit task_ref(Task* t) noexcept : task_(t) {}
  task_ref(task_ref&& other) noexcept : task_(std::exchange(other.task_, nullptr)) {}
  task_ref& operator=(task_ref&& other) noexcept {
    task_ref old(std::exchange(task_, std::exchange(other.task_, nullptr)));
    return *this;
  }
  ~task_ref() {
    if (task_) task_->release();
  }

  Task* get() const noexcept { return task_; }
  Task* operator->() const noexcept { return task_; }
  Task& operator*() const noexcept { return *task_; }
  explicit operator bool() const noexcept { return task_ != nullptr; }
  Task* give() noexcept { return std::exchange(task_, nullptr); }

 private:
  Task* task_ = nullptr;
};

// A task keeps its parent, so that cancelling that, or what that came from, finds it. A relay in which each task submits
// the next would so keep all that ever were: now and then those that are done are left out.
[[gnu::cold]] inline std::uint32_t task::shorten_family() noexcept {
  task* left_out[64];
  std::size_t n = 0;
  std::uint32_t family = 0;
  {
    const std::lock_guard lock(the_locks().family);
    std::uint32_t ancestors = 0;
    for (task* t = this; t->parent_ != nullptr;) {
      task* const p = t->parent_;
      // One that was cancelled stays: who cancels may be looking for what descends from it.
      if (!p->done() || p->stop_requested() || n == sizeof left_out / sizeof left_out[0]) {
        ++ancestors;
        t = p;
        continue;
      }
      if (p->parent_ != nullptr) p->parent_->kin_.fetch_add(1, std::memory_order_relaxed);
      t->parent_ = p->parent_;
      left_out[n++] = p;
    }
    if (ancestors > 0x4000) ancestors = 0x4000;
    family = ancestors | (2 * ancestors + first_look) << 16;
    family_.store(family, std::memory_order_relaxed);
  }
  for (std::size_t i = 0; i < n; ++i) release_kin(left_out[i]);
  return family;
}

// Who cancels the parent sets its bit, counts its kin up by nothing, and then looks at all tasks. The two counts are in one
// order: either it finds this task, or this task finds the bit. With the first child it is the claim that is in
// order: either the one who cancels sees that there are children, or the child sees the bit.
inline void task::join_family() noexcept {
  task& p = *parent_;
  std::uint32_t state = p.claim().load(std::memory_order_relaxed);
  if (!(state & has_children)) state = p.claim().fetch_or(has_children, std::memory_order_acq_rel);
  p.kin_.fetch_add(1, std::memory_order_acq_rel);
  if ((state | p.claim().load(std::memory_order_relaxed)) & stop) cancel_alone();
}

inline void task::release_kin(task* t) noexcept {
  // Not by recursion: families can be long.
  while (t != nullptr && t->kin_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    task* const next = std::exchange(t->parent_, nullptr);
    delete t;
    t = next;
  }
}

// Children are born while somebody holds a reference to their parent, and are moved to one only from a child of it: if
// there is none now, there never will be.
inline void task::let_go() noexcept {
  if (kin_.load(std::memory_order_acquire) == 1) {
    delete this;
  } else {
    drop_result();
    release_kin(this);
  }
}

inline bool task::descends_from(const task& t) const noexcept {
  const std::lock_guard lock(the_locks().family);
  for (const task* p = parent_; p != nullptr; p = p->parent_)
    if (p == &t) return true;
  return false;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/cancel.hpp ----
#ifndef CADRE_ASYNC_DETAIL_CANCEL_HPP
#define CADRE_ASYNC_DETAIL_CANCEL_HPP

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Calls `visit(task&)` for every task that lives.
template <class Visit>
void for_each_task(Visit&& visit) {
  node_memory::for_each_node([&](void* node) {
    if (task* const t = task::retain_at(node)) {
      visit(*t);
      t->release();
    }
  });
}

/// Cancels all live tasks that `chosen` says, and what they beget meanwhile.
template <class Chosen>
void cancel_all(Chosen chosen) noexcept {
  for (bool again = true; again;) {
    again = false;
    for_each_task([&](task& t) {
      if (!t.done() && chosen(static_cast<const task&>(t)) && t.cancel_alone() && t.has_offspring()) again = true;
    });
  }
}

/// Asks a task, and all that it has submitted, to stop; what has not begun will not. False if the task was done.
inline bool cancel(task& t) noexcept {
  if (t.done()) return false;
  t.cancel_alone();
  if (t.has_offspring()) cancel_all([&t](const task& other) { return other.descends_from(t); });
  return true;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/core/chrono.hpp ----
#ifndef CADRE_CORE_CHRONO_HPP
#define CADRE_CORE_CHRONO_HPP

// Durations, clocks and their literals. libstdc++ keeps them apart from the calendar, which brings <sstream> along and
// would cost every user a tenth of a second.
#if __has_include(<bits/chrono.h>)
#include <bits/chrono.h>
#else
#include <chrono>
#endif

#endif

// ---- cadre/os/futex.hpp ----
#ifndef CADRE_OS_FUTEX_HPP
#define CADRE_OS_FUTEX_HPP

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>

CADRE_NAMESPACE_BEGIN

/// The kernel's wait queue on a 32-bit word. `scope::process` is for words that only threads of one process touch,
/// `scope::shared` for words in memory that several processes map. Waits end for no reason now and then: call in a loop
/// that rereads the word.
namespace futex {

enum class scope { process, shared };

namespace detail {
inline long call(const std::atomic<std::uint32_t>& word, int operation, scope where, std::uint32_t value,
                 const timespec* until) noexcept {
  const int flag = where == scope::process ? FUTEX_PRIVATE_FLAG : 0;
  return ::syscall(SYS_futex, &word, operation | flag, value, until, nullptr, FUTEX_BITSET_MATCH_ANY);
}
}  // namespace detail

/// Sleeps while the word holds `expected`.
inline void wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                 scope where = scope::process) noexcept {
  detail::call(word, FUTEX_WAIT_BITSET, where, expected, nullptr);
}

/// Sleeps while the word holds `expected`, at most until `deadline`. False if the deadline has passed.
inline bool wait_until(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                       std::chrono::steady_clock::time_point deadline, scope where = scope::process) noexcept {
  if (deadline == std::chrono::steady_clock::time_point::max()) {
    wait(word, expected, where);
    return true;
  }
  // The bitset form takes an absolute time of CLOCK_MONOTONIC, which is what steady_clock reads here.
  const auto since = deadline.time_since_epoch();
  if (since.count() <= 0) return false;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
  timespec until{};
  until.tv_sec = seconds.count();
  until.tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(since - seconds).count();
  return !(detail::call(word, FUTEX_WAIT_BITSET, where, expected, &until) == -1 && errno == ETIMEDOUT);
}

inline void wake_one(const std::atomic<std::uint32_t>& word, scope where = scope::process) noexcept {
  detail::call(word, FUTEX_WAKE, where, 1, nullptr);
}

inline void wake_all(const std::atomic<std::uint32_t>& word, scope where = scope::process) noexcept {
  detail::call(word, FUTEX_WAKE, where, INT_MAX, nullptr);
}

}  // namespace futex

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/sleeper.hpp ----
#ifndef CADRE_ASYNC_DETAIL_SLEEPER_HPP
#define CADRE_ASYNC_DETAIL_SLEEPER_HPP

#include <atomic>
#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

using time_point = std::chrono::steady_clock::time_point;

/// One thread's place to sleep. Word: bit 0 says that the scheduler woke it for work, the bits above count the events
/// that it waits for. Whoever counts an event up may find the sleeper gone right after, so nothing else of it is touched.
struct sleeper {
  explicit sleeper(std::uint32_t events) noexcept : needed(events) {}

  static constexpr std::uint32_t woken_for_work = 1;
  static constexpr std::uint32_t event = 2;

  [[nodiscard]] std::uint32_t events() const noexcept { return word.load(std::memory_order_acquire) / event; }
  [[nodiscard]] bool satisfied() const noexcept { return events() >= needed; }

  void count_event() noexcept {
    const std::uint32_t enough = needed;
    if (word.fetch_add(event, std::memory_order_acq_rel) / event + 1 == enough) futex::wake_one(word);
  }

  /// Until satisfied, or woken for work, or the deadline.
  void sleep(time_point deadline) noexcept {
    for (;;) {
      const std::uint32_t now = word.load(std::memory_order_acquire);
      if ((now & woken_for_work) || now / event >= needed) return;
      if (!futex::wait_until(word, now, deadline)) return;
    }
  }

  std::atomic<std::uint32_t> word{0};
  const std::uint32_t needed;
  // Guarded by the scheduler's mutex.
  sleeper* previous = nullptr;
  sleeper* next = nullptr;
  bool linked = false;
  bool between_tasks = false;  // a worker's main loop, as opposed to a wait inside a task
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/idle_list.hpp ----
#ifndef CADRE_ASYNC_DETAIL_IDLE_LIST_HPP
#define CADRE_ASYNC_DETAIL_IDLE_LIST_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The threads of a pool that have no work: searchers look for some, sleepers sleep. A push wakes a sleeper only if there
/// is one and nobody searches. No wake-up is lost:
///  - a push writes the work, then reads the counts; a thread falling asleep writes the counts, then looks for work once
///    more: one of the two sees the other. Between write and read stands an uneven_barrier, whose price the sleeper pays; a
///    push from outside needs none, as its write is itself a sequentially consistent exchange;
///  - a push that relied on a searcher came before that searcher left the counts; a searcher that leaves with work, as the
///    last one, looks whether more is visible and wakes the next.
/// There is no timed backstop, so a lost wake-up would hang a test instead of costing time in production.
class idle_list {
 public:
  /// Guards the list, and what the scheduler decides with it; taken only on the way to sleep and back.
  [[nodiscard]] std::mutex& mutex() noexcept { return mutex_; }

  [[nodiscard]] std::uint32_t searchers() const noexcept {
    return static_cast<std::uint32_t>(counts_.load(std::memory_order_relaxed));
  }
  [[nodiscard]] std::size_t idle() const noexcept {
    const std::uint64_t counts = counts_.load(std::memory_order_relaxed);
    return static_cast<std::uint32_t>(counts) + (counts >> 32);
  }

  void begin_search() noexcept { counts_.fetch_add(one_searcher, std::memory_order_seq_cst); }
  /// True if the caller has to wake another one should it see more work: it was the last searcher and some sleep.
  [[nodiscard]] bool end_search() noexcept {
    return nobody_searches_but_some_sleep(counts_.fetch_sub(one_searcher, std::memory_order_seq_cst) - one_searcher);
  }

  /// After a push.
  void wake_one_if_needed() noexcept {
    if (nobody_searches_but_some_sleep(counts_.load(std::memory_order_seq_cst))) [[unlikely]]
      wake_one();
  }
  [[gnu::noinline]] void wake_one() noexcept {
    std::atomic<std::uint32_t>* word = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (first_ == nullptr || static_cast<std::uint32_t>(counts_.load(std::memory_order_seq_cst)) != 0) return;
      word = wake(*first_);
    }
    futex::wake_one(*word);
  }
  /// A certain one, if it sleeps in this list. `where` is guarded by the mutex.
  void wake_at(sleeper* const& where) noexcept {
    std::atomic<std::uint32_t>* word = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (where != nullptr && where->linked) word = wake(*where);
    }
    if (word != nullptr) futex::wake_one(*word);
  }

  /// From searcher to sleeper, with the mutex held. The caller looks for work once more before it sleeps.
  void fall_asleep(sleeper& s) noexcept {
    link(s);
    counts_.fetch_add(one_sleeper - one_searcher, std::memory_order_seq_cst);
  }
  /// From sleeper to searcher, whoever ended the sleep, with the mutex held.
  void wake_up(sleeper& s) noexcept {
    if (s.linked) {
      unlink(s);
      counts_.fetch_add(one_searcher - one_sleeper, std::memory_order_seq_cst);
    }
    s.word.fetch_and(~sleeper::woken_for_work, std::memory_order_acq_rel);
  }

  /// With the mutex held: how many sleep in their main loop.
  [[nodiscard]] std::size_t sleeping_between_tasks() const noexcept { return sleeping_between_tasks_; }
  /// With the mutex held: satisfies all sleepers.
  void end_all() noexcept {
    while (sleeper* const s = first_) {
      unlink(*s);
      counts_.fetch_add(one_searcher - one_sleeper, std::memory_order_seq_cst);
      s->count_event();
    }
  }

 private:
  static constexpr std::uint64_t one_searcher = 1;
  static constexpr std::uint64_t one_sleeper = std::uint64_t{1} << 32;

  static bool nobody_searches_but_some_sleep(std::uint64_t counts) noexcept {
    return counts >= one_sleeper && static_cast<std::uint32_t>(counts) == 0;
  }

  // With the mutex held. The caller calls futex::wake_one.
  std::atomic<std::uint32_t>* wake(sleeper& s) noexcept {
    unlink(s);
    counts_.fetch_add(one_searcher - one_sleeper, std::memory_order_seq_cst);
    s.word.fetch_or(sleeper::woken_for_work, std::memory_order_acq_rel);
    return &s.word;
  }

  // In front, since the last to fall asleep has the warmest cache; but those who wait inside a task are woken last.
  void link(sleeper& s) noexcept {
    s.previous = s.between_tasks ? nullptr : last_;
    s.next = s.between_tasks ? first_ : nullptr;
    (s.previous ? s.previous->next : first_) = &s;
    (s.next ? s.next->previous : last_) = &s;
    s.linked = true;
    sleeping_between_tasks_ += s.between_tasks;
  }
  void unlink(sleeper& s) noexcept {
    (s.previous ? s.previous->next : first_) = s.next;
    (s.next ? s.next->previous : last_) = s.previous;
    s.linked = false;
    sleeping_between_tasks_ -= s.between_tasks;
  }

  alignas(64) std::atomic<std::uint64_t> counts_{0};
  alignas(64) std::mutex mutex_;
  sleeper* first_ = nullptr;
  sleeper* last_ = nullptr;
  std::size_t sleeping_between_tasks_ = 0;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/long_wait.hpp ----
#ifndef CADRE_ASYNC_DETAIL_LONG_WAIT_HPP
#define CADRE_ASYNC_DETAIL_LONG_WAIT_HPP

CADRE_NAMESPACE_BEGIN
namespace detail {

class scheduler;
class task;

/// When a wait is to be told to the log, and who does that: set together, so that only those who ask for it compile it.
struct long_wait_report {
  std::chrono::nanoseconds after = std::chrono::nanoseconds::max();
  void (*tell)(scheduler& pool, const task* waiter, const task& target) noexcept = nullptr;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/deque.hpp ----
#ifndef CADRE_ASYNC_DETAIL_DEQUE_HPP
#define CADRE_ASYNC_DETAIL_DEQUE_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A growable work-stealing deque of pointers. The owner pushes and pops at the bottom, anyone steals from the top.
/// D. Chase, Y. Lev, "Dynamic circular work-stealing deque", SPAA 2005, with the orders that N. M. Le et al., "Correct
/// and efficient work-stealing for weak memory models", PPoPP 2013, give by fences here carried by sequentially
/// consistent operations, which ThreadSanitizer understands:
///  - pop stores bottom, then loads top; steal loads top, then bottom: in the one order of all of these, either the
///    thief sees the lowered bottom or the owner sees the raised top, and on the last element the exchange on top decides.
///  - push's store of bottom publishes the slot. That it comes before the scheduler's look at who sleeps is the scheduler's
///    to see to (scheduler.hpp).
template <class T>
class work_deque {
 public:
  work_deque() : ring_(new ring(6, nullptr)) {}
  work_deque(const work_deque&) = delete;
  work_deque& operator=(const work_deque&) = delete;
  ~work_deque() {
    for (ring* r = ring_.load(std::memory_order_relaxed); r != nullptr;) {
      ring* const smaller = r->smaller;
      delete r;
      r = smaller;
    }
  }

  /// Owner only. False if there is no memory to grow.
  [[nodiscard]] bool push(T* item) noexcept { return push(&item, 1); }

  /// Owner only: all of them or, if there is no memory to grow, none. items[0] will be the first to be popped.
  [[nodiscard]] bool push(T* const* items, std::size_t n) noexcept {
    const std::int64_t b = bottom_.load(std::memory_order_relaxed);
    const auto count = static_cast<std::int64_t>(n);
    ring* r = ring_.load(std::memory_order_relaxed);
    if (b + count - seen_top_ > r->size) {
      seen_top_ = top_.load(std::memory_order_acquire);
      while (b + count - seen_top_ > r->size) {
        r = grow(*r, seen_top_, b);
        if (r == nullptr) return false;
      }
    }
    for (std::int64_t i = 0; i < count; ++i) r->slot(b + i).store(items[count - 1 - i], std::memory_order_relaxed);
    bottom_.store(b + count, std::memory_order_release);
    return true;
  }

  /// Owner only: the newest item, or null.
  [[nodiscard]] T* pop() noexcept {
    const std::int64_t b = bottom_.load(std::memory_order_relaxed) - 1;
    if (top_.load(std::memory_order_relaxed) > b) return nullptr;  // top only rises: certainly empty
    ring* const r = ring_.load(std::memory_order_relaxed);
    bottom_.store(b, std::memory_order_seq_cst);
    std::int64_t t = top_.load(std::memory_order_seq_cst);
    if (t < b) return r->slot(b).load(std::memory_order_relaxed);
    T* item = nullptr;
    if (t == b && top_.compare_exchange_strong(t, t + 1, std::memory_order_seq_cst, std::memory_order_relaxed))
      item = r->slot(b).load(std::memory_order_relaxed);
    bottom_.store(b + 1, std::memory_order_relaxed);
    return item;
  }

  /// Anyone: the oldest item, or null if there is none or another thief was faster.
  [[nodiscard]] T* steal() noexcept {
    std::int64_t t = top_.load(std::memory_order_seq_cst);
    const std::int64_t b = bottom_.load(std::memory_order_seq_cst);
    if (t >= b) return nullptr;
    T* const item = ring_.load(std::memory_order_acquire)->slot(t).load(std::memory_order_relaxed);
    // The slot may have been overwritten since; then top has moved and the exchange fails.
    return top_.compare_exchange_strong(t, t + 1, std::memory_order_seq_cst, std::memory_order_relaxed) ? item
                                                                                                        : nullptr;
  }
  /// The same if it lies at or above position `from`, of which only the low 32 bits are looked at.
  [[nodiscard]] T* steal(std::int64_t from) noexcept {
    const auto below = static_cast<std::uint32_t>(from) - static_cast<std::uint32_t>(oldest());
    return static_cast<std::int32_t>(below) > 0 ? nullptr : steal();  // top only rises
  }

  [[nodiscard]] bool empty() const noexcept {
    const std::int64_t t = top_.load(std::memory_order_seq_cst);
    return t >= bottom_.load(std::memory_order_seq_cst);
  }

  /// Owner only: where the next push will go. Positions only grow, so an item at or above one was pushed after it was read.
  [[nodiscard]] std::int64_t position() const noexcept { return bottom_.load(std::memory_order_relaxed); }
  /// Anyone: the position of the oldest item, or of the next push if there is none.
  [[nodiscard]] std::int64_t oldest() const noexcept { return top_.load(std::memory_order_relaxed); }

 private:
  struct ring {
    ring(int log_size, ring* replaced)
        : size(std::int64_t{1} << log_size),
          log(log_size),
          smaller(replaced),
          slots(new std::atomic<T*>[std::size_t(1) << log_size]) {}
    std::atomic<T*>& slot(std::int64_t i) noexcept { return slots[static_cast<std::size_t>(i & (size - 1))]; }

    std::int64_t size;
    int log;
    ring* smaller;  // kept until the end, for thieves that still read it
    std::unique_ptr<std::atomic<T*>[]> slots;
  };

  [[gnu::noinline]] ring* grow(ring& full, std::int64_t t, std::int64_t b) noexcept {
    try {
      auto larger = std::make_unique<ring>(full.log + 1, &full);
      for (std::int64_t i = t; i != b; ++i)
        larger->slot(i).store(full.slot(i).load(std::memory_order_relaxed), std::memory_order_relaxed);
      ring_.store(larger.get(), std::memory_order_release);
      return larger.release();
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }

  alignas(64) std::atomic<std::int64_t> top_{0};
  alignas(64) std::atomic<std::int64_t> bottom_{0};
  std::atomic<ring*> ring_;
  std::int64_t seen_top_ = 0;  // the owner's; the real one is no lower
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/inbox.hpp ----
#ifndef CADRE_ASYNC_DETAIL_INBOX_HPP
#define CADRE_ASYNC_DETAIL_INBOX_HPP

#include <atomic>
#include <cstddef>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A queue of tasks that come from any thread, first in, first out, linked through the tasks. A push is one exchange
/// (D. Vyukov's queue of many producers, with the address of the last link in the place of a last node, so that it needs no
/// dummy). Those who take do so one at a time; one who finds another at it goes on without.
class inbox {
 public:
  /// Sequentially consistent, as the scheduler's way to sleep needs it.
  void push(task* t) noexcept {
    t->link.store(nullptr, std::memory_order_relaxed);
    tail_.exchange(&t->link, std::memory_order_seq_cst)->store(t, std::memory_order_release);
  }

  /// False as soon as a push has begun. Also after a take() found nothing, if that push is not over yet.
  [[nodiscard]] bool empty() const noexcept { return tail_.load(std::memory_order_seq_cst) == &first_; }

  /// Takes up to `most` of the oldest; returns how many. 0 also if another thread is taking.
  std::size_t take(task** out, std::size_t most) noexcept {
    if (empty() || taking_.exchange(true, std::memory_order_acquire)) return 0;
    std::size_t n = 0;
    task* t = first_.load(std::memory_order_acquire);
    while (n < most && t != nullptr) {
      task* next = t->link.load(std::memory_order_acquire);
      if (next == nullptr) {
        // The last: a push that finds it so writes to first_, else to the link of `t`.
        first_.store(nullptr, std::memory_order_relaxed);
        std::atomic<task*>* expected = &t->link;
        if (tail_.compare_exchange_strong(expected, &first_, std::memory_order_seq_cst)) {
          out[n++] = t;
          t = nullptr;
          taking_.store(false, std::memory_order_release);
          return n;
        }
        next = t->link.load(std::memory_order_acquire);
        if (next == nullptr) break;  // the push is not over; the next take() will see
      }
      out[n++] = t;
      t = next;
    }
    if (t != nullptr) first_.store(t, std::memory_order_relaxed);
    taking_.store(false, std::memory_order_release);
    return n;
  }

 private:
  alignas(64) std::atomic<std::atomic<task*>*> tail_{&first_};
  alignas(64) std::atomic<task*> first_{nullptr};
  std::atomic<bool> taking_{false};
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/core/function.hpp ----
#ifndef CADRE_CORE_FUNCTION_HPP
#define CADRE_CORE_FUNCTION_HPP

#include <concepts>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {

// std::invoke without <functional>, whose parse time every user would pay.
template <class F, class... Args>
constexpr decltype(auto) invoke(F&& f, Args&&... args) noexcept(std::is_nothrow_invocable_v<F, Args...>) {
  return std::forward<F>(f)(std::forward<Args>(args)...);
}

template <class Object>
constexpr decltype(auto) object_of(Object&& object) {
  if constexpr (std::is_pointer_v<std::remove_cvref_t<Object>>)
    return *object;
  else
    return std::forward<Object>(object);
}

template <class Member, class Class, class Object, class... Args>
constexpr decltype(auto) invoke(Member Class::*member, Object&& object, Args&&... args) {
  const auto call = [&]<class Target>(Target&& target) -> decltype(auto) {
    if constexpr (std::is_function_v<Member>)
      return (std::forward<Target>(target).*member)(std::forward<Args>(args)...);
    else
      return (std::forward<Target>(target).*member);
  };
  if constexpr (std::is_base_of_v<Class, std::remove_cvref_t<Object>> || std::is_pointer_v<std::remove_cvref_t<Object>>)
    return call(object_of(std::forward<Object>(object)));
  else if constexpr (requires { *object; })  // a smart pointer
    return call(*std::forward<Object>(object));
  else
    return call(object.get());  // a reference_wrapper
}

}  // namespace detail

template <class Signature>
class move_only_function;

namespace detail {

template <class T>
inline constexpr bool is_move_only_function = false;
template <class Signature>
inline constexpr bool is_move_only_function<move_only_function<Signature>> = true;

}  // namespace detail

/// A callable of any type that need not be copyable, as std::move_only_function of C++23. Callables of up to 48 bytes
/// whose move does not throw lie inside the object; larger ones cost one allocation. Calling an empty one is undefined.
///
/// Thread-safety: as that of the callable; calls of one object from two threads are the user's to order.
template <class R, class... Args>
class move_only_function<R(Args...)> {
 public:
  /// Bytes that a callable may have to need no allocation.
  static constexpr std::size_t capacity = 48;

  move_only_function() noexcept = default;
  move_only_function(std::nullptr_t) noexcept {}

  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, move_only_function> &&
             std::is_invocable_r_v<R, std::decay_t<F>&, Args...> && std::constructible_from<std::decay_t<F>, F>)
  move_only_function(F&& f) {
    using callable_type = std::decay_t<F>;
    if constexpr (std::is_pointer_v<std::remove_cvref_t<F>> ||
                  std::is_member_pointer_v<callable_type>)  // not of functions by name
      if (f == nullptr) return;
    if constexpr (detail::is_move_only_function<callable_type>)  // of another signature
      if (!f) return;
    if constexpr (fits<callable_type>) {
      ::new (static_cast<void*>(storage_)) callable_type(std::forward<F>(f));
      operations_ = &inside<callable_type>;
    } else {
      ::new (static_cast<void*>(storage_)) callable_type*(new callable_type(std::forward<F>(f)));
      operations_ = &outside<callable_type>;
    }
  }

  move_only_function(move_only_function&& other) noexcept { take(other); }
  move_only_function& operator=(move_only_function&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  move_only_function& operator=(std::nullptr_t) noexcept {
    reset();
    return *this;
  }
  ~move_only_function() { reset(); }

  R operator()(Args... args) { return operations_->call(storage_, std::forward<Args>(args)...); }

  [[nodiscard]] explicit operator bool() const noexcept { return operations_ != nullptr; }
  friend bool operator==(const move_only_function& f, std::nullptr_t) noexcept { return !f; }
  friend void swap(move_only_function& a, move_only_function& b) noexcept {
    move_only_function c(std::move(a));
    a = std::move(b);
    b = std::move(c);
  }

 private:
  struct operations {
    R (*call)(std::byte*, Args&&...);
    void (*move)(std::byte* from, std::byte* to) noexcept;  // leaves nothing behind
    void (*destroy)(std::byte*) noexcept;
  };

  template <class F>
  static constexpr bool fits =
      sizeof(F) <= capacity && alignof(F) <= alignof(std::max_align_t) && std::is_nothrow_move_constructible_v<F>;

  template <class F>
  static F& at(std::byte* storage) noexcept {
    return *std::launder(reinterpret_cast<F*>(storage));
  }

  template <class F>
  static R call(F& f, Args&&... args) {
    if constexpr (std::is_void_v<R>)
      detail::invoke(f, std::forward<Args>(args)...);
    else
      return detail::invoke(f, std::forward<Args>(args)...);
  }

  template <class F>
  static constexpr operations inside = {
      [](std::byte* storage, Args&&... args) -> R { return call(at<F>(storage), std::forward<Args>(args)...); },
      [](std::byte* from, std::byte* to) noexcept {
        ::new (static_cast<void*>(to)) F(std::move(at<F>(from)));
        at<F>(from).~F();
      },
      [](std::byte* storage) noexcept { at<F>(storage).~F(); }};

  template <class F>
  static constexpr operations outside = {
      [](std::byte* storage, Args&&... args) -> R { return call(*at<F*>(storage), std::forward<Args>(args)...); },
      [](std::byte* from, std::byte* to) noexcept { ::new (static_cast<void*>(to)) F*(at<F*>(from)); },
      [](std::byte* storage) noexcept { delete at<F*>(storage); }};

  void take(move_only_function& other) noexcept {
    if (!other.operations_) return;
    other.operations_->move(other.storage_, storage_);
    operations_ = std::exchange(other.operations_, nullptr);
  }
  void reset() noexcept {
    if (operations_) std::exchange(operations_, nullptr)->destroy(storage_);
  }

  alignas(std::max_align_t) std::byte storage_[capacity];
  const operations* operations_ = nullptr;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/os/thread.hpp ----
#ifndef CADRE_OS_THREAD_HPP
#define CADRE_OS_THREAD_HPP

#include <pthread.h>

#include <string>
#include <system_error>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Thrown (151) when the system gives no further thread. `code()` is the errno.
class thread_error : public error {
 public:
  [[gnu::cold]] thread_error(const std::string& name, int code)
      : error("os", 151,
              "cannot start thread '" + name + "': " + std::generic_category().message(code) +
                  "; raise the limit on threads (ulimit -u, the cgroup's pids.max) or start fewer"),
        code_(code) {}
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  int code_;
};

/// A thread with a name that debuggers and `top -H` show (its first 15 characters). Destroying one that runs joins it.
/// Not `std::thread`, which would triple the parse time of the pool.
class native_thread {
 public:
  native_thread() noexcept = default;

  /// Runs `body`, which must not throw. Throws thread_error (151).
  [[gnu::cold]] native_thread(const std::string& name, move_only_function<void()> body) {
    auto* const start = new start_block{name.substr(0, 15), std::move(body)};  // the thread's own once there is one
    if (const int code = ::pthread_create(&id_, nullptr, &run, start)) {
      delete start;
      throw thread_error(name, code);
    }
    running_ = true;
  }

  native_thread(native_thread&& other) noexcept : id_(other.id_), running_(std::exchange(other.running_, false)) {}
  native_thread& operator=(native_thread&& other) noexcept {
    join();
    id_ = other.id_;
    running_ = std::exchange(other.running_, false);
    return *this;
  }
  ~native_thread() { join(); }

  void join() noexcept {
    if (std::exchange(running_, false)) ::pthread_join(id_, nullptr);
  }
  /// In a process made by fork(), where the thread is not.
  void forget() noexcept { running_ = false; }
  void detach() noexcept {
    if (std::exchange(running_, false)) ::pthread_detach(id_);
  }

 private:
  struct start_block {
    std::string name;
    move_only_function<void()> body;
  };

  static void* run(void* argument) noexcept {
    auto* const start = static_cast<start_block*>(argument);
    ::pthread_setname_np(::pthread_self(), start->name.c_str());
    start->body();
    delete start;
    return nullptr;
  }

  pthread_t id_{};
  bool running_ = false;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/worker.hpp ----
#ifndef CADRE_ASYNC_DETAIL_WORKER_HPP
#define CADRE_ASYNC_DETAIL_WORKER_HPP

#include <cstdint>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// One thread of a pool. All but the queues, `asleep` and `thread` is its own.
struct worker {
  worker(scheduler& s, std::uint32_t i) : home(&s), index(i), random(i * 2654435761u + 1) {}

  scheduler* const home;
  const std::uint32_t index;
  std::uint32_t random;          // xorshift state, for the order of victims
  std::uint32_t count = 0;       // tasks since what its own tasks keep waiting was last given a turn
  std::uint64_t overdue_at = 0;  // ticks() from which that has waited too long; 0: nothing waits
  std::uint32_t turns = 0;       // such turns
  std::uint32_t waits = 0;       // on this stack
  std::uint32_t unrelated = 0;   // how many of those are running unrelated work
  std::int64_t frame = 0;        // queue position when the task on top of the stack began: what is above is its own
  std::int64_t outside = 0;      // queue position below which tasks came from outside
  task* next = nullptr;          // a continuation of the task that has just ended
  sleeper* asleep = nullptr;     // guarded by the mutex of the idle list
  work_deque<task> queue;
  inbox pinned;  // tasks that no other worker may run
  native_thread thread;
};

/// The worker that this thread is, or null.
inline worker* this_worker() noexcept { return this_context().worker; }

/// Runs a part of a task, which is neither claimed nor counted.
inline void run_bare(worker& w, task& t) noexcept {
  const std::int64_t outer = std::exchange(w.frame, w.queue.position());
  thread_context& context = this_context();
  running_frame frame{t.parent(), context.top, false};  // it is a part of that task
  context.top = &frame;
  t.run();
  context.top = frame.outer;
  w.frame = outer < w.queue.position() ? outer : w.queue.position();
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/parking_lot.hpp ----
#ifndef CADRE_ASYNC_DETAIL_PARKING_LOT_HPP
#define CADRE_ASYNC_DETAIL_PARKING_LOT_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// How many workers may take tasks; the others park. A task that blocks in the system allows one more meanwhile, one that
/// holds several processors allows fewer. All but is_crowded() with the mutex of the scheduler held.
class parking_lot {
 public:
  explicit parking_lot(std::size_t allowed) noexcept : allowed_(allowed) {}

  /// One relaxed load: whether a worker that has nothing in hand should park().
  [[nodiscard]] bool is_crowded() const noexcept { return crowded_.load(std::memory_order_relaxed); }

  [[nodiscard]] std::size_t allowed() const noexcept { return allowed_; }
  [[nodiscard]] bool has_too_few(std::size_t wanted) const noexcept { return driving_ < wanted; }
  void allow(std::size_t workers) noexcept {
    allowed_ = workers;
    update();
  }
  /// A worker has been started.
  void enter() noexcept { ++driving_; }

  /// Sleeps until unparked, if there are too many. `lock` is held before, and afterwards; `leave()` is called when it has
  /// been let go, and before the sleep.
  template <class Leave>
  void park(worker& w, std::unique_lock<std::mutex>& lock, Leave&& leave) noexcept {
    if (!is_crowded() || !w.pinned.empty()) return;
    place here{&w};
    --driving_;
    here.next = std::exchange(first_, &here);
    update();
    lock.unlock();
    leave();
    while (here.free.load(std::memory_order_acquire) == 0) futex::wait(here.free, 0);
    lock.lock();  // the one who unparked it is done with `here`
  }

  /// False if none is parked.
  bool unpark_one() noexcept { return unpark(first_); }
  void unpark_one(const worker& w) noexcept {
    place** at = &first_;
    while (*at != nullptr && (*at)->who != &w) at = &(*at)->next;
    unpark(*at);
    update();
  }
  /// From now on nobody parks.
  void close() noexcept {
    closed_ = true;
    while (unpark_one()) {}
    update();
  }

 private:
  struct place {
    const worker* who;
    std::atomic<std::uint32_t> free{0};
    place* next = nullptr;
  };

  bool unpark(place*& at) noexcept {
    place* const p = at;
    if (p == nullptr) return false;
    at = p->next;
    ++driving_;
    p->free.store(1, std::memory_order_release);
    futex::wake_one(p->free);
    return true;
  }
  void update() noexcept { crowded_.store(driving_ > allowed_ && !closed_, std::memory_order_relaxed); }

  std::atomic<bool> crowded_{false};
  place* first_ = nullptr;
  std::size_t driving_ = 0;
  std::size_t allowed_;
  bool closed_ = false;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/pool_registry.hpp ----
#ifndef CADRE_ASYNC_DETAIL_POOL_REGISTRY_HPP
#define CADRE_ASYNC_DETAIL_POOL_REGISTRY_HPP

#include <cstdint>
#include <mutex>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Which pools live. Thread-safety: all functions, from any thread; none is called by a task's ordinary way through a pool.
class pool_registry {
 public:
  [[gnu::cold]] static pool_id enter(scheduler& s) {
    const std::lock_guard lock(the_locks().pools);
    std::vector<slot>& all = slots();
    std::size_t i = 0;
    while (i < all.size() && all[i].pool != nullptr) ++i;
    if (i == all.size()) all.push_back({});
    all[i].pool = &s;
    ++all[i].uses;
    return std::uint64_t{all[i].uses} << 32 | (i + 1);
  }

  [[gnu::cold]] static void leave(pool_id id) noexcept {
    const std::lock_guard lock(the_locks().pools);
    slots()[(id & 0xffffffff) - 1].pool = nullptr;
  }

  /// Calls `use(scheduler&)` while the pool cannot end. False if it has ended.
  template <class Use>
  static bool with(pool_id id, Use&& use) noexcept {
    const std::lock_guard lock(the_locks().pools);
    const std::size_t i = (id & 0xffffffff) - 1;
    if (id == no_pool || slots()[i].pool == nullptr || slots()[i].uses != id >> 32) return false;
    use(*slots()[i].pool);
    return true;
  }

 private:
  struct slot {
    scheduler* pool = nullptr;
    std::uint32_t uses = 0;
  };
  // Never destroyed: see process_locks.
  static std::vector<slot>& slots() noexcept {
    static std::vector<slot>& all = *new std::vector<slot>;
    return all;
  }
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/spin.hpp ----
#ifndef CADRE_ASYNC_DETAIL_SPIN_HPP
#define CADRE_ASYNC_DETAIL_SPIN_HPP

#include <time.h>

#include <cstdint>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A processor's own count of time, where it has one that costs little: about 1 to 4 ticks per nanosecond. For thresholds.
[[nodiscard]] inline std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  std::uint64_t count = 0, frequency = 1;
  asm volatile("mrs %0, cntvct_el0" : "=r"(count));
  asm volatile("mrs %0, cntfrq_el0" : "=r"(frequency));
  return count * (2'000'000'000 / (frequency != 0 ? frequency : 1));
#else
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return 2 * (static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec));
#endif
}

/// Tells the processor that this is a loop that waits.
inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/resources.hpp ----
#ifndef CADRE_ASYNC_RESOURCES_HPP
#define CADRE_ASYNC_RESOURCES_HPP

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// A name and how much of it: `{"gpu", 0.25}`. Precision 1/10,000; "memory" is in bytes.
struct resource {
  template <class Number>
    requires std::is_arithmetic_v<Number>
  resource(std::string n, Number a) : name(std::move(n)), amount(static_cast<double>(a)) {}
  std::string name;
  double amount;
};

/// What a task asks for, or what there is: `{{"cpu", 2}, {"gpu", 0.25}, {"memory", 1_GiB}, {"TPU", 1}}`. Logical, as in Ray:
/// cadre counts them and does not look whether a task really uses them.
class resource_set {
 public:
  resource_set() noexcept = default;
  /// Throws impossible_request (209) for a negative amount, one that is no number, or a name given twice.
  [[gnu::cold]] resource_set(std::initializer_list<resource> all) {
    for (const resource& r : all) {
      if (!(r.amount >= 0 && r.amount < 9e14))
        throw impossible_request("'" + r.name + "' of " + std::to_string(r.amount) + "; give an amount of 0 or more");
      if (find(r.name) != nullptr) throw impossible_request("'" + r.name + "' is given twice");
      entries_.push_back({r.name, static_cast<std::int64_t>(r.amount * scale(r.name) + 0.5)});
    }
  }

  struct entry {
    std::string name;
    std::int64_t units;  ///< ten-thousandths, or bytes of memory
  };

  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
  /// What every task holds without a word: one processor, and nothing else.
  [[nodiscard]] bool is_ordinary() const noexcept {
    return entries_.empty() || (entries_.size() == 1 && entries_[0].name == "cpu" && entries_[0].units == one);
  }
  [[nodiscard]] const std::vector<entry>& entries() const noexcept { return entries_; }
  /// Null if the name is not there.
  [[nodiscard]] const entry* find(std::string_view name) const noexcept {
    for (const entry& e : entries_)
      if (e.name == name) return &e;
    return nullptr;
  }
  /// 0 if the name is not there.
  [[nodiscard]] double amount(std::string_view name) const noexcept {
    const entry* const e = find(name);
    return e == nullptr ? 0 : static_cast<double>(e->units) / scale(name);
  }
  [[gnu::cold]] void set(std::string_view name, std::int64_t units) {
    for (entry& e : entries_)
      if (e.name == name) {
        e.units = units;
        return;
      }
    entries_.push_back({std::string(name), units});
  }

  static constexpr std::int64_t one = 10'000;
  [[nodiscard]] static double scale(std::string_view name) noexcept { return name == "memory" ? 1.0 : double(one); }

  /// "cpu 2, gpu 0.25"
  [[nodiscard, gnu::cold]] std::string text() const {
    std::string all;
    for (const entry& e : entries_) {
      if (!all.empty()) all += ", ";
      std::string number = std::to_string(static_cast<double>(e.units) / scale(e.name));
      number.erase(number.find_last_not_of('0') + 1);
      if (number.back() == '.') number.pop_back();
      all += e.name + " " + number;
    }
    return all.empty() ? "nothing" : all;
  }

 private:
  std::vector<entry> entries_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/task_options.hpp ----
#ifndef CADRE_ASYNC_TASK_OPTIONS_HPP
#define CADRE_ASYNC_TASK_OPTIONS_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <source_location>
#include <stop_token>
#include <string>

CADRE_NAMESPACE_BEGIN

/// Which of the tasks that wait for a thread goes first. Lower ones are not starved: of the tasks that a thread runs, each
/// 61st at the latest is one that a higher priority, or its own tasks, kept waiting.
enum class priority : std::uint8_t { high, normal, low };

/// Says which errors are worth another try: errors<E...>().
using retry_filter = bool (*)(const std::exception_ptr&);

namespace detail {

template <class... E>
bool is_one_of(const std::exception_ptr& error) {
  bool found = false;
  const auto look = [&]<class One>(const One*) {
    if (found) return;
    try {
      std::rethrow_exception(error);
    } catch (const One&) {
      found = true;
    } catch (...) {}
  };
  (look(static_cast<const E*>(nullptr)), ...);
  return found;
}

}  // namespace detail

/// Those of the types E, and derived ones: `.max_retries = 3, .retry_on = cadre::errors<std::system_error>()`.
template <class... E>
[[nodiscard]] constexpr retry_filter errors() noexcept {
  return &detail::is_one_of<E...>;
}

inline constexpr std::size_t any_worker = std::numeric_limits<std::size_t>::max();

/// How one task is to be run: `pool.submit({.name = "load", .resources = {{"gpu", 0.25}}, .max_retries = 2}, f)`.
struct task_options {
  /// Said where the task's error is reported, and in debug_dump().
  std::string name = {};
  /// What it holds while it runs; without a word one thread of the pool. It begins when they are free: requests that wait are
  /// served in their order, so that large ones do not starve. What a task holds, its children may use while it waits for
  /// them. A task that asks for k > 1 "cpu" keeps k - 1 further threads of the pool from new tasks and runs with Eigen and
  /// OpenMP limited to k threads. A part of a "gpu" lies on one device, and more than one are whole devices:
  /// this_task::gpus() says which.
  resource_set resources = {};
  /// Cancels the task: see future::cancel().
  std::stop_token stop = {};
  /// How often it is tried again after an error. The function and its arguments must be copyable: each try but the last
  /// gets copies.
  int max_retries = 0;
  /// After which errors; null: after all.
  retry_filter retry_on = nullptr;
  enum priority priority = priority::normal;
  /// If it has not begun by then, its future holds deadline_passed (210); if it runs, it is asked to stop.
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  /// The only thread that may run it, 0 <= worker < pool.size().
  std::size_t worker = any_worker;
  /// Where it is submitted; says so by itself.
  std::source_location at = std::source_location::current();
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/run_queues.hpp ----
#ifndef CADRE_ASYNC_DETAIL_RUN_QUEUES_HPP
#define CADRE_ASYNC_DETAIL_RUN_QUEUES_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Where the tasks of a pool wait for a thread: in the queue of the worker that submitted them, or, from outside, in one of
/// three by priority. Says what a worker is to run next; who sleeps and wakes is the scheduler's.
class run_queues {
 public:
  explicit run_queues(std::size_t most_workers) : workers_(new std::unique_ptr<worker>[most_workers]) {}

  /// One after the other.
  worker& add_worker(scheduler& home) {
    const std::uint32_t i = size();
    workers_[i] = std::make_unique<worker>(home, i);
    size_.store(i + 1, std::memory_order_seq_cst);
    return *workers_[i];
  }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_.load(std::memory_order_seq_cst); }
  [[nodiscard]] worker& at(std::size_t i) const noexcept { return *workers_[i]; }

  /// A read of who sleeps may follow: it comes after the push. `own`: the worker of this pool that pushes, or null.
  void push(worker* own, task* t) noexcept {
    if (own != nullptr && own->queue.push(t))
      uneven_barrier::frequent();
    else
      push(t, priority::normal);
  }
  /// tasks[0] will be the first to run.
  void push(worker* own, task* const* tasks, std::size_t n) noexcept {
    if (own != nullptr && own->queue.push(tasks, n))
      uneven_barrier::frequent();
    else
      for (std::size_t i = 0; i < n; ++i) push(tasks[i], priority::normal);
  }
  void push(task* t, priority p) noexcept { from_outside(p).push(t); }

  /// Of what is this worker's, or of high priority.
  [[nodiscard]] task* pop(worker& w) noexcept {
    if (!w.pinned.empty()) [[unlikely]]
      if (task* t = take_one(w.pinned)) return t;
    if (!from_outside(priority::high).empty()) [[unlikely]]
      if (task* t = take_one(from_outside(priority::high))) return t;
    task* const t = w.queue.pop();
    if (w.queue.position() < w.outside) w.outside = w.queue.position();
    return t;
  }

  /// The oldest from outside. Others come into this worker's queue, so that it runs them in the order of their submission
  /// and others can steal them.
  [[nodiscard]] task* take_from_outside(worker& w) noexcept {
    task* taken[most_at_once];
    const std::size_t n = from_outside(priority::normal).take(taken, most_at_once);
    if (n > 1) {
      if (w.queue.push(taken + 1, n - 1))
        w.outside = w.queue.position();
      else  // no memory for the queue to grow
        for (std::size_t i = 1; i < n; ++i) push(taken[i], priority::normal);
    }
    return n != 0 ? taken[0] : pop(w);
  }

  /// From another worker, or of low priority.
  [[nodiscard]] task* steal(worker& w) noexcept {
    const std::uint32_t n = size();
    w.random ^= w.random << 13;
    w.random ^= w.random >> 17;
    w.random ^= w.random << 5;
    for (std::uint32_t i = 0, victim = w.random % n; i < n; ++i, victim = victim + 1 == n ? 0 : victim + 1)
      if (victim != w.index)
        if (task* t = workers_[victim]->queue.steal()) return t;
    return take_one(from_outside(priority::low));
  }

  /// Now and then between two tasks; null if nothing has waited for too long. Tasks that beget tasks must not starve the
  /// rest: what has a lower priority, what came from outside, and what lies at the other end of the queue.
  [[nodiscard]] task* take_turn(worker& w) noexcept {
    return ++w.count >= turn || is_overdue(w) ? take_what_waits(w) : nullptr;
  }

  [[nodiscard]] bool has_any(const worker& w) const noexcept { return !w.pinned.empty() || has_any(); }
  [[nodiscard]] bool has_any() const noexcept {
    if (has_any_from_outside()) return true;
    const std::uint32_t n = size();
    for (std::uint32_t i = 0; i < n; ++i)
      if (!workers_[i]->queue.empty()) return true;
    return false;
  }
  [[nodiscard]] bool has_any_from_outside() const noexcept {
    for (const inbox& i : from_outside_)
      if (!i.empty()) return true;
    return false;
  }
  /// Something in a worker's queue that stays there for a moment: what its owner is about to run would only lose time on
  /// the way to another.
  [[nodiscard]] bool has_lasting() const noexcept {
    const std::uint32_t n = size();
    for (std::uint32_t i = 0; i < n; ++i) {
      const work_deque<task>& q = workers_[i]->queue;
      const std::int64_t oldest = q.oldest();
      if (q.empty()) continue;
      for (int k = 0; k < 12; ++k) relax();
      if (q.oldest() == oldest && !q.empty()) return true;
    }
    return false;
  }

 private:
  static constexpr std::uint32_t turn = 61;        // tasks between two looks at what a worker's own tasks keep waiting
  static constexpr std::size_t most_at_once = 32;  // tasks taken from outside

  [[nodiscard]] inbox& from_outside(priority p) noexcept { return from_outside_[static_cast<std::size_t>(p)]; }

  static task* take_one(inbox& from) noexcept {
    task* t = nullptr;
    return from.take(&t, 1) != 0 ? t : nullptr;
  }

  // Whether something from outside has waited for some time while this worker ran what its own tasks had begotten: a turn
  // by count alone would be long in coming if they are long.
  bool is_overdue(worker& w) noexcept {
    if (w.queue.position() <= w.outside || (from_outside(priority::normal).empty() && w.queue.oldest() >= w.outside)) {
      w.overdue_at = 0;
      return false;
    }
    const std::uint64_t now = ticks();
    if (w.overdue_at == 0) w.overdue_at = now + 30'000;  // 10 to 15 us
    return now >= w.overdue_at;
  }

  task* take_what_waits(worker& w) noexcept {
    w.count = 0;
    w.overdue_at = 0;
    if ((++w.turns & 7) == 0)
      if (task* t = take_one(from_outside(priority::low))) return t;
    // If what this worker runs came from outside, only high priority starves others.
    const bool own = w.queue.position() > w.outside;
    if (!own && from_outside(priority::high).empty()) return nullptr;
    if (!own)
      if (task* t = w.queue.pop()) return t;
    // What came from outside and was taken into the queue has waited longer than what is still there.
    if (w.queue.oldest() >= w.outside && (!own || w.turns & 1))
      if (task* t = take_one(from_outside(priority::normal))) return t;
    return w.queue.steal();
  }

  const std::unique_ptr<std::unique_ptr<worker>[]> workers_;
  std::atomic<std::uint32_t> size_{0};
  inbox from_outside_[3];  // by priority
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/thread_limit.hpp ----
#ifndef CADRE_ASYNC_DETAIL_THREAD_LIMIT_HPP
#define CADRE_ASYNC_DETAIL_THREAD_LIMIT_HPP

// OpenMP's own functions, if the program is linked with its runtime. By other names, so that <omp.h> may be included too.
extern "C" {
[[gnu::weak]] void cadre_omp_set_num_threads(int) __asm__("omp_set_num_threads");
[[gnu::weak]] int cadre_omp_get_max_threads() __asm__("omp_get_max_threads");
}

CADRE_NAMESPACE_BEGIN
namespace detail {

/// How many threads OpenMP, and Eigen with it, may use for what this thread calls. Nothing without OpenMP.
class thread_limit {
 public:
  explicit thread_limit(int threads) noexcept {
    if (!cadre_omp_set_num_threads || !cadre_omp_get_max_threads) return;
    before_ = cadre_omp_get_max_threads();
    cadre_omp_set_num_threads(threads);
  }
  thread_limit(const thread_limit&) = delete;
  thread_limit& operator=(const thread_limit&) = delete;
  ~thread_limit() {
    if (before_ != 0) cadre_omp_set_num_threads(before_);
  }

 private:
  int before_ = 0;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/observe/rank.hpp ----
#ifndef CADRE_OBSERVE_RANK_HPP
#define CADRE_OBSERVE_RANK_HPP

#include <unistd.h>

#include <atomic>
#include <cstdint>

CADRE_NAMESPACE_BEGIN

namespace detail {

inline constinit std::atomic<int> process_rank_{0};

inline int& thread_rank() noexcept {
  static constinit thread_local int rank = -1;
  return rank;
}

/// The kernel's thread id, as top and gdb show it.
inline std::uint32_t thread_id() noexcept {
  static constinit thread_local std::uint32_t id = 0;
  if (id == 0) id = static_cast<std::uint32_t>(::gettid());
  return id;
}

}  // namespace detail

/// Says which rank of the job this process is, for log records and events. 0 unless set; an MPI runtime sets it.
inline void set_process_rank(int rank) noexcept { detail::process_rank_.store(rank, std::memory_order_relaxed); }

/// The rank that log records and events of the calling thread carry: that of its innermost rank_scope, else the
/// process's.
[[nodiscard]] inline int current_rank() noexcept {
  const int own = detail::thread_rank();
  return own >= 0 ? own : detail::process_rank_.load(std::memory_order_relaxed);
}

/// While it lives, the calling thread speaks for `rank`: threads that are ranks of a local team have one each. Ends on
/// the thread on which it began.
class [[nodiscard]] rank_scope {
 public:
  explicit rank_scope(int rank) noexcept : before_(detail::thread_rank()) { detail::thread_rank() = rank; }
  ~rank_scope() { detail::thread_rank() = before_; }
  rank_scope(const rank_scope&) = delete;
  rank_scope& operator=(const rank_scope&) = delete;

 private:
  int before_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/observe/log.hpp ----
#ifndef CADRE_OBSERVE_LOG_HPP
#define CADRE_OBSERVE_LOG_HPP

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <mutex>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

enum class log_level : std::uint8_t { trace, debug, info, warning, error };

[[nodiscard]] constexpr std::string_view to_string(log_level level) noexcept {
  constexpr std::string_view names[] = {"trace", "debug", "info", "warning", "error"};
  return static_cast<std::size_t>(level) < std::size(names) ? names[static_cast<std::size_t>(level)] : "unknown";
}

/// What a sink is given. The texts live as long as the call of the sink; copy what is to be kept.
struct log_record {
  log_level level;
  int rank;                   ///< current_rank() of the thread that logged
  std::string_view category;  ///< the room or module that speaks: "train", "pool"
  std::string_view message;   ///< one line without a line feed, as a rule
  std::chrono::system_clock::time_point time;
  std::uint32_t thread;  ///< the kernel's thread id
};

namespace detail {

struct log_sink {
  virtual ~log_sink() = default;
  virtual void write(const log_record& record) = 0;
};

template <class Sink>
struct log_sink_of final : log_sink {
  explicit log_sink_of(Sink s) : sink(std::move(s)) {}
  void write(const log_record& record) override { sink(record); }
  Sink sink;
};

struct log_state {
  std::mutex mutex;  // held while the sink runs
  std::shared_ptr<log_sink> sink;
};

// Never destroyed: a thread may log while the statics of the program are already being destroyed.
inline log_state& the_log() {
  static log_state& state = *new log_state;
  return state;
}

inline constexpr std::uint8_t log_silent = 255;
inline constinit std::atomic<std::uint8_t> log_threshold{log_silent};

inline bool& thread_is_in_sink() noexcept {
  static constinit thread_local bool inside = false;
  return inside;
}

// Returns the sink replaced, so that its destructor, which may log, runs when no lock is held.
inline std::shared_ptr<log_sink> exchange_log_sink(std::shared_ptr<log_sink> sink, std::uint8_t threshold) {
  log_state& state = the_log();
  std::unique_lock<std::mutex> lock(state.mutex, std::defer_lock);
  if (!thread_is_in_sink()) lock.lock();  // a sink that replaces itself holds the lock already
  log_threshold.store(threshold, std::memory_order_relaxed);
  state.sink.swap(sink);
  return sink;
}

[[gnu::cold]] inline void write_log(log_level level, std::string_view category, std::string_view message) noexcept {
  // Gives the sink back while the lock is held, so that whoever replaces it next destroys it; one that replaced itself
  // is this call's to destroy, after the lock.
  struct in_sink {
    explicit in_sink(std::shared_ptr<log_sink>& used) : sink(used) { thread_is_in_sink() = true; }
    ~in_sink() {
      thread_is_in_sink() = false;
      if (the_log().sink == sink) sink.reset();
    }
    in_sink(const in_sink&) = delete;
    in_sink& operator=(const in_sink&) = delete;
    std::shared_ptr<log_sink>& sink;
  };
  if (thread_is_in_sink()) return;
  try {
    std::shared_ptr<log_sink> sink;
    const std::lock_guard<std::mutex> lock(the_log().mutex);
    sink = the_log().sink;
    if (!sink) return;
    const in_sink inside(sink);
    sink->write({level, current_rank(), category, message, std::chrono::system_clock::now(), thread_id()});
  } catch (...) {  // what happens in a sink is no reason for the work that is being logged to fail
  }
}

}  // namespace detail

/// True if somebody listens to records of this level: the one relaxed load that a silent log costs. Ask before a
/// message is put together that takes work.
[[nodiscard]] inline bool log_enabled(log_level level) noexcept {
  return static_cast<std::uint8_t>(level) >= detail::log_threshold.load(std::memory_order_relaxed);
}

/// Makes `sink`, a callable that takes `const log_record&`, hear every record of at least the level `least`; it
/// replaces the sink before it. cadre itself prints nothing: without a sink, the default, records go nowhere.
///
/// Calls of the sink come from any thread, one at a time. When this function returns the sink before it is not running
/// and has been destroyed, so what it referred to may end (unless a sink replaces itself: it then ends when its call
/// does). What a sink throws is dropped, and so is what it logs itself.
template <class Sink>
  requires std::invocable<std::decay_t<Sink>&, const log_record&>
void set_log_sink(Sink&& sink, log_level least = log_level::info) {
  (void)detail::exchange_log_sink(std::make_shared<detail::log_sink_of<std::decay_t<Sink>>>(std::forward<Sink>(sink)),
                                  static_cast<std::uint8_t>(least));
}

/// Back to silence.
inline void set_log_sink(std::nullptr_t) { (void)detail::exchange_log_sink(nullptr, detail::log_silent); }

/// Hands one record to the sink, on this thread, before it returns. Never throws.
inline void log(log_level level, std::string_view category, std::string_view message) noexcept {
  if (log_enabled(level)) [[unlikely]]
    detail::write_log(level, category, message);
}

/// The same with a message that is only made if somebody listens: `log(log_level::debug, "pool", [&] { return ...; })`.
/// What `make` throws is dropped.
template <std::invocable Make>
  requires std::convertible_to<std::invoke_result_t<Make>, std::string_view>
void log(log_level level, std::string_view category, Make&& make) noexcept {
  if (!log_enabled(level)) [[likely]]
    return;
  try {
    auto&& message = std::forward<Make>(make)();
    detail::write_log(level, category, message);
  } catch (...) {}
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/unobserved.hpp ----
#ifndef CADRE_ASYNC_DETAIL_UNOBSERVED_HPP
#define CADRE_ASYNC_DETAIL_UNOBSERVED_HPP

#include <exception>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// What a pool's handler is given: the error of a task that nobody asked for its result. Valid during the call.
struct unobserved_error {
  std::exception_ptr error;
  std::string_view task;    ///< its name, or empty
  std::source_location at;  ///< where it was submitted
};

namespace detail {

using unobserved_handler = move_only_function<void(const unobserved_error&)>;

/// "'load' submitted at train.cpp:88"
[[gnu::cold]] inline std::string describe(std::string_view name, const std::source_location& at) {
  std::string text = "a task";
  if (!name.empty()) text.assign("'").append(name).append("'");
  if (at.line() != 0)
    text.append(" submitted at ").append(at.file_name()).append(":").append(std::to_string(at.line()));
  return text;
}

[[gnu::cold]] inline void log_unobserved(const unobserved_error& e) noexcept {
  log(log_level::error, "async", [&] {
    std::string text = "nobody observed the error of ";
    text += describe(e.task, e.at);
    try {
      std::rethrow_exception(e.error);
    } catch (const std::exception& x) {
      text.append(": ").append(x.what());
    } catch (...) {
      text += ": not a std::exception";
    }
    return text;
  });
}

/// To the handler, which may be null or empty, or to the log. Never throws: a handler that does is itself reported to the
/// log. What a posted task throws has no other way out, so without a handler it ends the program, as what leaves a thread
/// does.
[[gnu::cold]] inline void report_unobserved(const unobserved_error& e,
                                            const std::shared_ptr<unobserved_handler>& handler, bool posted) noexcept {
  if (handler && *handler) {
    try {
      (*handler)(e);
      return;
    } catch (...) {
      log_unobserved({std::current_exception(), "the handler of unobserved errors", {}});
      log_unobserved(e);
      return;
    }
  }
  log_unobserved(e);
  if (posted) std::rethrow_exception(e.error);  // out of a noexcept function: std::terminate, with the error current
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/scheduler.hpp ----
#ifndef CADRE_ASYNC_DETAIL_SCHEDULER_HPP
#define CADRE_ASYNC_DETAIL_SCHEDULER_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The pool behind thread_pool: shared by the pool object and its threads. A searcher that is alone looks again and again
/// for some microseconds before it sleeps, so that tasks that come one after the other find it awake; a second one sleeps
/// at once.
class scheduler {
 public:
  [[gnu::cold]] scheduler(std::size_t threads, std::size_t processors, std::string name, unobserved_handler handler,
                          resource_set resources, long_wait_report report)
      : name_(std::move(name)),
        unobserved_(std::make_shared<unobserved_handler>(std::move(handler))),
        resources_(std::move(resources)),
        size_(threads),
        long_waits_(report),
        patience_(processors > 1 ? 40'000 : 0),
        queues_(threads + most_extra),
        lot_(threads) {
    watch_forks();
    uneven_barrier::prepare();
    born_after_ = fork_count.load(std::memory_order_relaxed);
    id_ = pool_registry::enter(*this);
  }
  scheduler(const scheduler&) = delete;
  scheduler& operator=(const scheduler&) = delete;

  /// Throws thread_error (151), having ended the threads it had started.
  [[gnu::cold]] void start() {
    try {
      const std::lock_guard lock(idle_.mutex());
      while (threads_ < size_) start_worker();
    } catch (...) {
      stop(false);
      throw;
    }
  }

  /// Runs what is queued, or with `cancel` ends it, and ends the threads. Called by one of the pool's own tasks it only
  /// makes that happen, since waiting would be for itself. In a child of fork() there is nothing to end.
  [[gnu::cold]] void stop(bool cancel) noexcept {
    pool_registry::with(id_, [](scheduler& s) { s.closed_ = true; });
    if (left_behind()) {
      for (std::size_t i = 0; i < threads_; ++i) queues_.at(i).thread.forget();
      return;
    }
    if (cancel) {
      // First: as soon as one that runs has ended, its thread would run the next before that is found.
      cancelling_.store(true, std::memory_order_relaxed);
      cancel_all([this](const task& t) { return t.home() == id_; });
    }
    {
      const std::lock_guard lock(idle_.mutex());
      stopping_ = true;
      lot_.close();
      try_finish();
    }
    const bool from_inside = own_worker() != nullptr;
    for (std::size_t i = 0;; ++i) {  // a task that blocks may start further threads until the last has ended
      {
        const std::lock_guard lock(idle_.mutex());
        detached_ = from_inside;
        if (i == threads_) break;
      }
      from_inside ? queues_.at(i).thread.detach() : queues_.at(i).thread.join();
    }
  }

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  /// Threads, without those that stand in for blocked ones.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] pool_id id() const noexcept { return id_; }
  /// False when the pool object is being destroyed or gone: nothing comes from outside any more. Under the registry's lock.
  [[nodiscard]] bool is_open() const noexcept { return !closed_ && !left_behind(); }
  /// True in a process that fork() made: this pool has no threads there.
  [[nodiscard]] bool left_behind() const noexcept { return fork_count.load(std::memory_order_relaxed) != born_after_; }
  [[nodiscard]] const std::shared_ptr<unobserved_handler>& unobserved() const noexcept { return unobserved_; }

  [[nodiscard]] const resource_set& resources() const noexcept { return resources_; }
  [[nodiscard]] const long_wait_report& long_waits() const noexcept { return long_waits_; }

  /// What only some pools need, each made by the first who does: `Part(scheduler&)`. Ends with the scheduler.
  template <class Part>
  std::shared_ptr<Part> part(std::shared_ptr<void> scheduler::*which) {
    const std::lock_guard lock(idle_.mutex());
    if (this->*which == nullptr) this->*which = std::make_shared<Part>(*this);
    return std::static_pointer_cast<Part>(this->*which);
  }
  std::shared_ptr<void> ledger;     ///< a resource_ledger
  std::shared_ptr<void> deadlines;  ///< a class deadlines

  /// Queues a claimable task, taking over one reference.
  [[gnu::noinline]] void push(task* t) noexcept {
    queues_.push(own_worker(), t);
    idle_.wake_one_if_needed();
  }
  /// The same for several at once; tasks[0] will be the first to run.
  void push(task* const* tasks, std::size_t n) noexcept {
    queues_.push(own_worker(), tasks, n);
    idle_.wake_one_if_needed();
  }
  void push(task* t, priority p) noexcept {
    if (p == priority::normal) return push(t);
    queues_.push(t, p);
    idle_.wake_one_if_needed();
  }
  /// For one worker alone.
  void push_pinned(task* t, std::size_t worker_index) noexcept {
    worker& w = queues_.at(worker_index);
    w.pinned.push(t);
    {
      const std::lock_guard lock(idle_.mutex());
      lot_.unpark_one(w);
    }
    idle_.wake_at(w.asleep);
  }

  /// A bare part of the task that runs on `w`, to be taken back: into that worker's own queue. False if there is no memory
  /// for the queue to grow.
  [[nodiscard]] bool push_part(worker& w, task& part) noexcept {
    if (!w.queue.push(&part)) [[unlikely]]
      return false;
    uneven_barrier::frequent();
    idle_.wake_one_if_needed();
    return true;
  }
  /// The newest of the parts, all of them `mine(task*)`, that `w` has pushed since its queue stood at `floor`; null if
  /// others have taken them. What lies above it, submitted by parts or come from outside during a wait, goes to whoever
  /// looks for work: those who take back parts run nothing else.
  template <class Mine>
  [[nodiscard]] task* take_back(worker& w, std::int64_t floor, Mine mine) noexcept {
    while (w.queue.position() > floor) {
      task* const t = w.queue.pop();
      if (w.queue.position() < w.outside) w.outside = w.queue.position();
      if (t == nullptr || mine(static_cast<const task*>(t))) return t;
      queues_.push(t, priority::normal);
      idle_.wake_one_if_needed();
    }
    return nullptr;
  }

  /// Runs a task that this worker holds: claims it, unless somebody else has, and gives back the queue's reference.
  void run(worker& w, task* t) noexcept {
    if (t->has(task::bare)) return run_bare(w, *t);
    if (t->try_claim(w.index + 1)) run_claimed(w, *t);
    t->release();
  }
  static void run_claimed(worker& w, task& t) noexcept {
    if (w.home->cancelling_.load(std::memory_order_relaxed) && t.home() == w.home->id_) [[unlikely]]
      t.ask_to_stop();
    const std::int64_t outer = std::exchange(w.frame, w.queue.position());
    t.set_position(w.frame);
    run_in_frame(t, this_context());
    w.frame = outer < w.queue.position() ? outer : w.queue.position();
  }

  /// Work from anywhere, or null once `s` is satisfied or the deadline has passed; sleeps in between.
  task* acquire(worker& w, sleeper& s, time_point deadline) noexcept {
    if (task* t = queues_.pop(w)) return t;
    idle_.begin_search();
    for (;;) {
      task* t = nullptr;
      bool over = s.satisfied() || (deadline != time_point::max() && std::chrono::steady_clock::now() >= deadline);
      if (!over && (t = search(w)) == nullptr && idle_.searchers() == 1) {
        t = look_again(w, s);
        over = s.satisfied();
      }
      if (over || t != nullptr) {
        if (idle_.end_search() && queues_.has_any()) idle_.wake_one();
        return t;
      }
      fall_asleep(w, s);
      uneven_barrier::seldom();
      if (!queues_.has_any(w)) s.sleep(deadline);
      wake_up(w, s);
    }
  }

  /// A task that worker `victim` queued after its queue stood at `position`.
  task* steal_from(std::uint32_t victim, std::int64_t position) noexcept {
    return queues_.at(victim).queue.steal(position);
  }

  /// Whether a thread runs tasks or looks for some right now, so that what is pushed will soon be begun.
  [[nodiscard]] bool is_awake() const noexcept {
    if (looking_.load(std::memory_order_relaxed)) return true;
    return idle_.idle() < queues_.size();
  }

  /// One worker more, or fewer, may take tasks. False if one more was asked for and cannot be had.
  bool allow(std::ptrdiff_t change) noexcept {
    const std::lock_guard lock(idle_.mutex());
    const std::size_t target = lot_.allowed() + static_cast<std::size_t>(change);
    if (change > 0) {
      while (lot_.has_too_few(target) && lot_.unpark_one()) {}
      while (lot_.has_too_few(target) && threads_ < size_ + most_extra) {
        try {
          start_worker();
        } catch (...) {
          return false;
        }
      }
    }
    lot_.allow(target);
    return true;
  }

 private:
  static constexpr std::size_t most_extra = 256;  // threads that stand in for blocked ones

  [[gnu::cold]] ~scheduler() { pool_registry::leave(id_); }

  [[nodiscard]] worker* own_worker() const noexcept {
    worker* const w = this_worker();
    return w != nullptr && w->home == this ? w : nullptr;
  }

  // With the mutex held.
  [[gnu::cold]] void start_worker() {
    const std::size_t i = threads_;
    worker& w = i < queues_.size() ? queues_.at(i)  // a thread for it could not be had before
                                   : queues_.add_worker(*this);
    retain();
    try {
      std::string name = name_;
      w.thread = native_thread(name.append("/").append(std::to_string(i)), [this, &w] { main_loop(w); });
    } catch (...) {
      release();
      throw;
    }
    ++threads_;
    if (detached_) w.thread.detach();
    lot_.enter();
  }

  void main_loop(worker& w) noexcept {
    this_context().worker = &w;
    const thread_limit one(1);  // of what a task without options calls: it holds one processor
    sleeper s(1);
    s.between_tasks = true;
    for (;;) {
      task* t = std::exchange(w.next, nullptr);
      if (t == nullptr && lot_.is_crowded()) [[unlikely]]
        park(w);
      if (t == nullptr) t = queues_.take_turn(w);
      if (t == nullptr) t = acquire(w, s, time_point::max());
      if (t == nullptr) break;
      run(w, t);
    }
    this_context().worker = nullptr;
    release();
  }

  task* search(worker& w) noexcept {
    task* const t = queues_.take_from_outside(w);
    return t != nullptr ? t : queues_.steal(w);
  }

  // The only searcher, for a while.
  task* look_again(worker& w, const sleeper& s) noexcept {
    task* t = nullptr;
    looking_.store(true, std::memory_order_relaxed);
    std::uint32_t looks = 0;
    for (const std::uint64_t begun = ticks(); t == nullptr && ticks() - begun < patience_;) {
      for (int i = 0; i < 4; ++i) relax();
      if (s.satisfied() || idle_.searchers() != 1) break;
      // Seldom at the queues, as each look takes their cache lines from those who work with them.
      if (!w.pinned.empty() || queues_.has_any_from_outside() || ((++looks & 7) == 0 && queues_.has_lasting()))
        if ((t = queues_.pop(w)) == nullptr) t = search(w);
    }
    looking_.store(false, std::memory_order_relaxed);
    return t;
  }
  // The caller looks for work once more before it sleeps.
  void fall_asleep(worker& w, sleeper& s) noexcept {
    const std::lock_guard lock(idle_.mutex());
    idle_.fall_asleep(s);
    w.asleep = &s;
    try_finish();
  }
  void wake_up(worker& w, sleeper& s) noexcept {
    const std::lock_guard lock(idle_.mutex());
    idle_.wake_up(s);
    w.asleep = nullptr;
  }

  [[gnu::cold]] void park(worker& w) noexcept {
    std::unique_lock lock(idle_.mutex());
    // It may have been woken for work that it now leaves to others.
    lot_.park(w, lock, [this] {
      if (queues_.has_any()) idle_.wake_one();
    });
  }

  // With the mutex held: ends the threads if the pool is to stop, all of them sleep between tasks, and nothing is queued.
  void try_finish() noexcept {
    if (!stopping_ || idle_.sleeping_between_tasks() != threads_ || queues_.has_any()) return;
    for (std::size_t i = 0; i < threads_; ++i)
      if (!queues_.at(i).pinned.empty()) return;
    idle_.end_all();
  }

  const std::string name_;
  const std::shared_ptr<unobserved_handler> unobserved_;
  const resource_set resources_;
  const std::size_t size_;
  const long_wait_report long_waits_;
  const std::uint64_t patience_;  // ticks that a lone searcher looks for; 10 to 20 us
  std::uint32_t born_after_ = 0;
  pool_id id_ = no_pool;
  bool closed_ = false;
  std::atomic<std::uint32_t> references_{1};
  std::atomic<bool> cancelling_{false};  // what is queued is not to run

  run_queues queues_;
  idle_list idle_;
  std::atomic<bool> looking_{false};  // somebody is in look_again()
  // Guarded by the mutex of the idle list.
  parking_lot lot_;
  std::size_t threads_ = 0;  // that have been started
  bool stopping_ = false;
  bool detached_ = false;  // nobody will join the threads
};

/// To its pool, or here if that has ended.
inline void schedule(task* t) noexcept {
  worker* const w = this_worker();
  if (w != nullptr && w->home->id() == t->home()) return w->home->push(t);
  bool pushed = false;
  pool_registry::with(t->home(), [&](scheduler& s) {
    if (!s.is_open()) return;
    s.push(t);
    pushed = true;
  });
  if (!pushed) run_here(t);
}

[[gnu::noinline]] inline void task::complete(completion by) noexcept {
  continuation* first = waiters_.close();
  while (first != nullptr) {
    continuation* const c = std::exchange(first, first->next);  // firing may end the life of c
    task* const t = c->act(*c, continuation::wish::fire);
    if (t == nullptr) continue;
    // The worker whose task ends here runs the first of its continuations next; but not on top of a wait.
    worker* const w = by == completion::of_its_run ? this_worker() : nullptr;
    if (w != nullptr && w->waits == 0 && w->next == nullptr && w->home->id() == t->home())
      w->next = t;
    else
      schedule(t);
  }
}

[[gnu::cold]] inline void task::report_error() noexcept {
  if (set_observed()) return;
  std::shared_ptr<unobserved_handler> handler;
  pool_registry::with(home_, [&](scheduler& s) { handler = s.unobserved(); });
  // Moved out, so that the exception ends on this thread: see take_result().
  report_unobserved({std::move(error()), name(), at_}, handler, has(no_future));
}

[[gnu::noinline]] inline void task::end() noexcept {
  if (failed_) report_error();
  let_go();
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/state.hpp ----
#ifndef CADRE_ASYNC_DETAIL_STATE_HPP
#define CADRE_ASYNC_DETAIL_STATE_HPP

#include <cstddef>
#include <exception>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A value that is kept outside of the node because it is too large for one.
template <class T>
class boxed {
 public:
  template <class... Args>
    requires std::is_constructible_v<T, Args...>
  explicit boxed(Args&&... args) : value_(new T(std::forward<Args>(args)...)) {}
  T& get() noexcept { return *value_; }

 private:
  std::unique_ptr<T> value_;
};
template <class T>
class unboxed {
 public:
  template <class... Args>
    requires std::is_constructible_v<T, Args...>
  explicit unboxed(Args&&... args) : value_(std::forward<Args>(args)...) {}
  T& get() noexcept { return value_; }

 private:
  T value_;
};
template <class T>
using room_for = std::conditional_t<(sizeof(T) > 192 || alignof(T) > alignof(std::max_align_t)), boxed<T>, unboxed<T>>;

/// A task with room for its result, or its error.
template <class T>
class state : public task {
 public:
  state(pool_id home, std::uint8_t flags, std::source_location at) noexcept : task(home, flags, at) {}
  ~state() override { state::drop_result(); }
  void set_error(std::exception_ptr e) noexcept {
    std::construct_at(&error_, std::move(e));
    this->set_failed();
  }
  void drop_result() noexcept override {
    if (std::exchange(has_value_, false))
      value_.~room_for<T>();
    else if (this->failed())
      forget_error();
  }
  /// As if it had not run.
  void forget_error() noexcept {
    error_.~exception_ptr();
    this->set_failed(false);
  }
  template <class... Args>
    requires std::is_constructible_v<T, Args...>
  void set(Args&&... args) {
    std::construct_at(std::addressof(value_), std::forward<Args>(args)...);
    has_value_ = true;
  }
  T& value() noexcept { return value_.get(); }
  T take() { return std::move(value()); }
  [[nodiscard]] std::exception_ptr& error() noexcept override { return error_; }

 private:
  bool has_value_ = false;
  union {
    room_for<T> value_;
    std::exception_ptr error_;
  };
};

/// The error of a task whose result takes no room that it could share.
class state_with_error : public task {
 public:
  using task::task;
  void set_error(std::exception_ptr e) noexcept {
    error_ = std::move(e);
    this->set_failed();
  }
  void drop_result() noexcept override { forget_error(); }
  void forget_error() noexcept {
    error_ = nullptr;
    this->set_failed(false);
  }
  [[nodiscard]] std::exception_ptr& error() noexcept override { return error_; }

 private:
  std::exception_ptr error_;
};

template <class T>
class state<T&> : public state_with_error {
 public:
  using state_with_error::state_with_error;
  void set(T& value) noexcept { value_ = std::addressof(value); }
  T& value() noexcept { return *value_; }
  T& take() noexcept { return *value_; }

 private:
  T* value_ = nullptr;
};

template <>
class state<void> : public state_with_error {
 public:
  using state_with_error::state_with_error;
  void set() noexcept {}
  void value() noexcept {}
  void take() noexcept {}
};

/// What future<T> a call gives: references stay what they are, values lose const.
template <class F, class... Args>
struct task_result {
  using plain = std::invoke_result_t<F, Args...>;
  using type = std::conditional_t<std::is_lvalue_reference_v<plain>, plain, std::remove_cvref_t<plain>>;
};
template <class F, class... Args>
using task_result_t = typename task_result<F, Args...>::type;

/// Keeps what `f()` returns, or throws.
template <class T, class F>
void set_from(state<T>& result, F&& f) noexcept {
  try {
    if constexpr (std::is_void_v<T>) {
      std::forward<F>(f)();
      result.set();
    } else {
      result.set(std::forward<F>(f)());
    }
  } catch (...) {
    result.set_error(std::current_exception());
  }
}

/// The value of a task that is done, or its error thrown. Moved out, so that the exception ends on the thread that caught
/// it: its count is in a library that ThreadSanitizer does not see into.
template <class T>
T take_result(state<T>& done) {
  if (done.failed()) {
    done.set_observed();
    std::rethrow_exception(std::move(done.error()));
  }
  return done.take();
}

/// Ends a task that has not begun. Somebody wanted that, so nobody need hear of it.
template <class T>
void set_cancelled(state<T>& t) noexcept {
  t.set_error(std::make_exception_ptr(task_cancelled(describe(t.name(), t.at()))));
  t.set_observed();
}

/// A task that runs a closure, which is destroyed before anyone is told that the task is done. R is what F returns.
template <class R, class F>
class function_task : public state<R> {
 public:
  template <class G>
  function_task(G&& f, pool_id home, std::uint8_t flags, std::source_location at)
      : state<R>(home, flags, at), f_(std::forward<G>(f)) {}
  ~function_task() override {}

  void run() noexcept override {
    set_from(*this, [this]() -> R { return std::move(f_.get())(); });
    finish(task::completion::of_its_run);
  }
  void run_not() noexcept override {
    set_cancelled(*this);
    finish(task::completion::from_elsewhere);
  }

 private:
  void finish(task::completion by) noexcept {
    f_.~room_for<F>();
    this->report_if_posted();
    if (!this->has(task::no_future) || this->has_offspring()) this->complete(by);
  }

  union {
    room_for<F> f_;
  };
};

/// Ready to be pushed: with one reference for the queue and one for the future, if there is to be one.
template <class R, class F>
function_task<R, F>* make_task(F&& f, pool_id home, std::uint8_t flags, std::source_location at) {
  auto* const t = new function_task<R, F>(std::move(f), home, flags, at);
  t->set_parent();
  t->publish(task::queued, (flags & task::no_future) ? 1 : 2);
  return t;
}
}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/stand_in.hpp ----
#ifndef CADRE_ASYNC_DETAIL_STAND_IN_HPP
#define CADRE_ASYNC_DETAIL_STAND_IN_HPP

CADRE_NAMESPACE_BEGIN
namespace detail {

/// While it lives one more worker of this thread's pool may take tasks, in the place of this one, which is about to block
/// in the system. Nothing on a thread of no pool, or when no further thread can be had.
class stand_in {
 public:
  stand_in() noexcept {
    if (worker* const w = this_worker(); w != nullptr && w->home->allow(+1)) pool_ = w->home;
  }
  stand_in(const stand_in&) = delete;
  stand_in& operator=(const stand_in&) = delete;
  ~stand_in() {
    if (pool_ != nullptr) pool_->allow(-1);
  }

 private:
  scheduler* pool_ = nullptr;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/wait_graph.hpp ----
#ifndef CADRE_ASYNC_DETAIL_WAIT_GRAPH_HPP
#define CADRE_ASYNC_DETAIL_WAIT_GRAPH_HPP

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// One target of a wait.
struct watch : continuation {
  watch() noexcept : continuation(&told) {}
  static task* told(continuation& c, wish w) noexcept {
    if (w == wish::fire) static_cast<watch&>(c).waits_in->count_event();
    return nullptr;  // its owners are the tasks of a stack: sleeping_wait knows
  }
  sleeper* waits_in = nullptr;
  task* target = nullptr;
  bool added = false;
};

/// A thread that is about to sleep, or sleeps, until tasks are done: in the list of all such while this lives. Making it
/// throws wait_cycle (208) if the wait would be for a task that itself can only go on when this thread does, and
/// forked_process (207) if the tasks are those of the process that this one was forked from.
///
/// A thread's stack is a chain of tasks of which only the top one can go on, so who waits for one of them waits for what
/// the top one waits for. Not seen: a circle through a promise, or one that is closed by a co_await, where no thread sleeps.
class sleeping_wait {
 public:
  sleeping_wait(running_frame* stack, std::span<const watch> targets, std::size_t needed)
      : stack_(stack), targets_(targets), needed_(needed) {
    if (fork_count.load(std::memory_order_relaxed) != 0) check_process();
    const std::lock_guard lock(the_locks().waits);
    if (stack_ != nullptr && needed_ == targets_.size()) check_cycle();
    next_ = first();
    if (next_ != nullptr) next_->previous_ = this;
    first() = this;
  }
  sleeping_wait(const sleeping_wait&) = delete;
  sleeping_wait& operator=(const sleeping_wait&) = delete;
  ~sleeping_wait() {
    const std::lock_guard lock(the_locks().waits);
    (previous_ != nullptr ? previous_->next_ : first()) = next_;
    if (next_ != nullptr) next_->previous_ = previous_;
  }

  /// Calls `visit(const sleeping_wait&)` for each, with the list locked.
  template <class Visit>
  static void for_each(Visit visit) {
    const std::lock_guard lock(the_locks().waits);
    for (const sleeping_wait* w = first(); w != nullptr; w = w->next_) visit(*w);
  }

  [[nodiscard]] bool runs(const task& t) const noexcept {
    for (const running_frame* f = stack_; f != nullptr; f = f->outer)
      if (f->runs == &t) return true;
    return false;
  }
  [[nodiscard]] const task* top() const noexcept { return stack_ != nullptr ? stack_->runs : nullptr; }
  [[nodiscard]] std::span<const watch> targets() const noexcept { return targets_; }

 private:
  static sleeping_wait*& first() noexcept {
    static constinit sleeping_wait* f = nullptr;
    return f;
  }

  [[gnu::cold]] void check_process() const {
    for (const watch& w : targets_) {
      bool elsewhere = false;
      pool_registry::with(w.target->home(), [&](scheduler& s) { elsewhere = s.left_behind(); });
      if (elsewhere) throw forked_process();
    }
  }

  // A task that cannot be done before this thread goes on, and the one before it on the way there.
  struct held_up {
    task& which;
    const held_up* by;
  };

  // From the tasks of this stack to all that wait for them, and so on: continuations, joins, coroutines, and the stacks of
  // threads that wait for all of their targets. If what this thread is about to wait for is among them, nobody will ever go
  // on. Each list is locked until all that hangs on it has been looked at, so that nothing of that ends meanwhile. The text
  // is put together only if there is a circle, as every sleep in a task comes here.
  void check_cycle() const {
    int looks = most_looks;
    for (const running_frame* f = stack_; f != nullptr; f = f->outer)
      if (f->runs != nullptr) follow({*f->runs, nullptr}, looks);
  }
  void follow(const held_up& task_held_up, int& looks) const {
    for (const held_up* h = task_held_up.by; h != nullptr; h = h->by)
      if (&h->which == &task_held_up.which) return;  // its list is locked by this very thread
    waiter_list::lock list(task_held_up.which.waiters());
    if (!list) return;
    for (continuation* c = list.first(); c != nullptr && looks > 0; c = c->next) {
      --looks;
      if (owns(*c)) tell_cycle(task_held_up);
      if (task* const owner = c->act(*c, continuation::wish::name_owner)) follow({*owner, &task_held_up}, looks);
      for (const sleeping_wait* s = first(); s != nullptr; s = s->next_) {
        if (!s->owns(*c) || s->needed_ != s->targets_.size()) continue;
        for (const running_frame* f = s->stack_; f != nullptr; f = f->outer)
          if (f->runs != nullptr) follow({*f->runs, &task_held_up}, looks);
      }
    }
  }
  [[nodiscard]] bool owns(const continuation& c) const noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(&c);
    return at >= reinterpret_cast<std::uintptr_t>(targets_.data()) &&
           at < reinterpret_cast<std::uintptr_t>(targets_.data() + targets_.size());
  }
  [[noreturn, gnu::cold]] void tell_cycle(const held_up& last) const {
    std::string path = top() != nullptr ? describe(top()->name(), top()->at()) : "a task";
    for (const held_up* h = &last; h != nullptr; h = h->by)
      path.append(" waits for ").append(describe(h->which.name(), h->which.at()));
    throw wait_cycle(path);
  }

  static constexpr int most_looks = 256;

  running_frame* stack_;
  std::span<const watch> targets_;
  std::size_t needed_;
  sleeping_wait* previous_ = nullptr;
  sleeping_wait* next_ = nullptr;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/waiting.hpp ----
#ifndef CADRE_ASYNC_DETAIL_WAITING_HPP
#define CADRE_ASYNC_DETAIL_WAITING_HPP

#include <sched.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// How many waits on one thread's stack may run unrelated work. Each such frame can hold what others wait for.
inline constexpr std::uint32_t unrelated_limit = 64;

/// A wait until `needed` of some tasks are done. A worker that waits helps, in this order:
///  1. it runs the task waited for, if nobody has begun it;
///  2. it runs what the waiting task itself has queued;
///  3. it steals what the running task that it waits for has queued (leapfrogging: D. B. Wagner, B. G. Calder, 1993);
///  4. only if a target has no task yet (a promise, or a continuation whose time has not come) it runs anything;
///  5. it sleeps.
/// In 1 to 3 the stack of a thread is a chain in which each frame waits for the next or begot it, so a wait made with a
/// lock held never runs a stranger that wants the same lock. Other threads look for a moment, then sleep.
class wait_frame {
 public:
  /// Each watch names its target; `watches` outlives the frame.
  wait_frame(std::span<watch> watches, std::size_t needed) noexcept
      : watches_(watches), sleeper_(static_cast<std::uint32_t>(needed)) {}
  wait_frame(const wait_frame&) = delete;
  wait_frame& operator=(const wait_frame&) = delete;
  ~wait_frame() {
    if (!watching_) return;
    std::uint32_t expected = already_done_;
    for (watch& w : watches_)
      if (w.added && !w.target->remove(w)) ++expected;
    // Those that could not be taken back are being told at this moment.
    while (sleeper_.events() != expected) ::sched_yield();
  }

  /// False if the deadline has passed. No work is begun after the deadline, but what was begun before is finished.
  /// Throws wait_cycle (208) if it would wait for itself, forked_process (207) if the threads are those of another process.
  bool run(time_point deadline) {
    thread_context& context = this_context();
    worker* const w = context.worker;
    if (w != nullptr) ++w->waits;
    const at_end leave{w};
    if (watches_.size() != 1 || (w == nullptr && !look_for_a_moment())) watch_all();
    while (!enough()) {
      if (deadline != time_point::max() && std::chrono::steady_clock::now() >= deadline) return false;
      if (context.here != nullptr && context.here->run_first()) continue;
      if (w != nullptr && help(*w)) continue;
      watch_all();
      if (enough()) break;
      if (task* t = idle(w, deadline)) run_unrelated(*w, t);
    }
    return true;
  }

 private:
  struct at_end {
    worker* w;
    ~at_end() {
      if (w != nullptr) --w->waits;
    }
  };

  [[nodiscard]] bool enough() const noexcept {
    return watching_ ? sleeper_.satisfied() : sleeper_.needed == 0 || watches_.front().target->done();
  }

  void watch_all() noexcept {
    if (std::exchange(watching_, true)) return;
    for (watch& w : watches_) {
      w.waits_in = &sleeper_;
      w.added = w.target->add(w);
      if (!w.added) {
        ++already_done_;
        sleeper_.count_event();
      }
    }
  }

  // To fall asleep and be woken takes both sides some microseconds, which a task that is under way, or is taken up by a
  // thread that looks for work, may not need. If that thread is only being woken, looking would keep it from its processor.
  [[nodiscard]] bool look_for_a_moment() const noexcept {
    constexpr std::uint64_t moment = 12'000;  // ticks, 3 to 6 us
    const task& t = *watches_.front().target;
    bool soon = t.is_running();
    if (!soon) pool_registry::with(t.home(), [&](const scheduler& s) { soon = s.is_awake(); });
    if (!soon) return t.done();
    for (const std::uint64_t begun = ticks(); ticks() - begun < moment;)
      for (int i = 0; i < 8; ++i) {
        if (t.done()) return true;
        relax();
      }
    return t.done();
  }

  // Others look for the runner in the task's own pool.
  [[nodiscard]] static std::uint32_t runner_for(const task& t, const worker& w) noexcept {
    return t.home() == w.home->id() ? w.index + 1 : 0;
  }

  bool help(worker& w) noexcept {
    for (; next_ < watches_.size(); ++next_) {
      task& target = *watches_[next_].target;
      if (target.is_pending()) pending_ = true;
      if (!target.has(task::not_for_help) && target.try_claim(runner_for(target, w))) {
        scheduler::run_claimed(w, target);
        return true;
      }
    }
    if (watches_.size() == 1 && pending_ && !watches_.front().target->has(task::not_for_help) &&
        watches_.front().target->try_claim(runner_for(*watches_.front().target, w))) {
      scheduler::run_claimed(w, *watches_.front().target);
      return true;
    }
    if (w.queue.position() > w.frame && w.queue.position() > w.outside) {
      if (task* t = w.queue.pop()) {
        w.home->run(w, t);
        return true;
      }
    }
    return leapfrog(w);
  }

  // The runner may queue something soon; a few looks cost less than a sleep.
  bool leapfrog(worker& w) noexcept {
    task& target = *watches_.front().target;
    if (watches_.size() != 1 || target.home() != w.home->id()) return false;
    std::uint32_t victim = 0;
    std::int64_t position = 0;
    if (!target.runner(victim, position) || victim == w.index) return false;
    for (int look = 0; look < 32; ++look) {
      if (target.done()) return true;
      if (task* t = w.home->steal_from(victim, position)) {
        w.home->run(w, t);
        return true;
      }
      ::sched_yield();
    }
    return false;
  }

  [[nodiscard]] bool may_run_anything(const worker& w) const noexcept {
    return pending_ && w.unrelated < unrelated_limit;
  }

  // What lies in the queue before and after is not the waiting task's own.
  static void run_unrelated(worker& w, task* t) noexcept {
    ++w.unrelated;
    w.frame = w.queue.position();
    w.home->run(w, t);
    w.frame = w.queue.position();
    --w.unrelated;
  }

  // Sleeps until enough is done, or the deadline, or something is found that may be run, which is returned.
  [[gnu::noinline]] task* idle(worker* w, time_point deadline) {
    const sleeping_wait entry(this_context().top, watches_, sleeper_.needed);
    const lending lend(this_context().top);
    task* found = nullptr;
    if (w != nullptr && may_run_anything(*w)) {
      found = w->home->acquire(*w, sleeper_, until(deadline));
    } else {
      std::optional<stand_in> other;
      if (waits_for_another_pool()) other.emplace();
      sleeper_.sleep(until(deadline));
    }
    report_if_long();
    return found;
  }

  // The deadline, or before that the time at which somebody wants to hear of a wait that is not over.
  time_point until(time_point deadline) noexcept {
    if (report_at_ == time_point()) {
      report_at_ = time_point::max();
      pool_registry::with(pool(), [&](const scheduler& s) {
        if (s.long_waits().tell != nullptr) report_at_ = std::chrono::steady_clock::now() + s.long_waits().after;
      });
    }
    return deadline < report_at_ ? deadline : report_at_;
  }
  [[gnu::cold]] void report_if_long() {
    if (report_at_ == time_point::max() || enough() || std::chrono::steady_clock::now() < report_at_) return;
    report_at_ = time_point::max();
    scheduler* s = nullptr;
    pool_registry::with(pool(), [&](scheduler& found) { s = &found, found.retain(); });
    if (s == nullptr) return;
    s->long_waits().tell(*s, current_task(), *watches_.front().target);
    s->release();
  }
  [[nodiscard]] pool_id pool() const noexcept {
    const worker* const w = this_worker();
    return w != nullptr ? w->home->id() : watches_.front().target->home();
  }

  // What is waited for there may itself wait for what only this pool can do, of which this worker will do nothing.
  [[nodiscard]] bool waits_for_another_pool() const noexcept {
    const worker* const w = this_worker();
    if (w == nullptr) return false;
    for (const watch& target : watches_)
      if (target.target->home() != w->home->id()) return true;
    return false;
  }

  // What the tasks of this thread hold, while they wait.
  class lending {
   public:
    explicit lending(running_frame* top) noexcept : top_(top) { tell(true); }
    lending(const lending&) = delete;
    lending& operator=(const lending&) = delete;
    ~lending() { tell(false); }

   private:
    [[gnu::noinline]] void tell(bool begins) const noexcept {
      for (running_frame* f = top_; f != nullptr; f = f->outer)
        if (f->whole && f->runs != nullptr && f->runs->has(task::holds)) f->runs->on_wait(begins);
    }
    running_frame* top_;
  };

  std::span<watch> watches_;
  sleeper sleeper_;
  std::size_t next_ = 0;
  std::uint32_t already_done_ = 0;
  bool watching_ = false;
  bool pending_ = false;
  time_point report_at_{};  // not yet known
};

/// False if the deadline has passed.
[[gnu::noinline]] inline bool wait_for_task(task& t, time_point deadline = time_point::max()) {
  if (t.done()) return true;
  watch w;
  w.target = &t;
  return wait_frame({&w, 1}, 1).run(deadline);
}

/// The point of steady_clock that lies `timeout` from now; "for ever" does not wrap around.
template <class Rep, class Period>
time_point deadline_after(const std::chrono::duration<Rep, Period>& timeout) {
  using namespace std::chrono;
  const time_point now = steady_clock::now();
  // In floating point, so that no count of hours overflows.
  if (duration<double>(timeout) >= duration<double>(time_point::max() - now)) return time_point::max();
  return now + ceil<steady_clock::duration>(timeout);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/future.hpp ----
#ifndef CADRE_ASYNC_FUTURE_HPP
#define CADRE_ASYNC_FUTURE_HPP

#include <cstdint>
#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

template <class T>
class future;
template <class T>
class shared_future;
class thread_pool;

namespace detail {

pool_id id_of(const thread_pool& pool) noexcept;

struct future_access {
  template <class T>
  static future<T> make(task_ref<state<T>> s) noexcept {
    return future<T>(std::move(s));
  }
  template <class T>
  static task_ref<state<T>> take(future<T>&& f) noexcept {
    return std::move(f.state_);
  }
  template <class T>
  static state<T>* get(const future<T>& f) noexcept {
    return f.state_.get();
  }
  template <class T>
  static state<T>* get(const shared_future<T>& f) noexcept {
    return f.state_.get();
  }
};

/// Whether an error only says that somebody wanted the task to end, so that nobody need hear of it.
inline bool says_cancelled(const std::exception_ptr& error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const task_cancelled&) {
    return true;
  } catch (...) {
    return false;
  }
}

template <class F, class T>
struct then_result : task_result<F, T> {};
template <class F>
struct then_result<F, void> : task_result<F> {};

enum class follows : std::uint8_t { value, shared_value, error };

/// What then() and on_error() make: waits in the list of the task before it, then runs as a task of its own.
template <follows What, class T, class R, class F>
class then_task final : public state<R> {
 public:
  template <class G>
  then_task(G&& f, task_ref<state<T>> before, pool_id home, std::source_location at)
      : state<R>(home, 0, at), step_(*this), before_(std::move(before)), f_(std::forward<G>(f)) {}
  ~then_task() override {}

  void run() noexcept override {
    state<T>& before = *before_;
    if constexpr (What != follows::error) {
      if (before.failed()) {
        pass_on(before);
      } else {
        set_from(*this, [&]() -> R {
          if constexpr (std::is_void_v<T>)
            return detail::invoke(std::move(f_.get()));
          else if constexpr (What == follows::shared_value)
            return detail::invoke(std::move(f_.get()), static_cast<const T&>(before.value()));
          else
            return detail::invoke(std::move(f_.get()), before.take());
        });
      }
    } else {
      set_from(*this, [&]() -> R {
        if (!before.failed()) return before.take();
        before.set_observed();
        return detail::invoke(std::move(f_.get()), std::exception_ptr(std::move(before.error())));
      });
    }
    f_.~room_for<F>();
    before_ = {};
    this->complete(task::completion::of_its_run);
  }
  // Keeps before_, which begin() may be about to use: publish() lets others cancel.
  void run_not() noexcept override {
    set_cancelled(*this);
    f_.~room_for<F>();
    this->complete(task::completion::from_elsewhere);
  }

  /// Once, when all else is set up.
  void begin() noexcept {
    this->set_parent();
    this->publish(task::pending, 2);
    if (before_->add(step_)) return;
    if (task* t = ready(step_, continuation::wish::fire)) schedule(t);
  }

 private:
  struct step : continuation {
    explicit step(then_task& t) noexcept : continuation(&ready), owner(&t) {}
    then_task* owner;
  };
  static task* ready(continuation& c, continuation::wish w) noexcept {
    then_task* const self = static_cast<step&>(c).owner;
    if (w == continuation::wish::name_owner) return self;
    if (self->make_claimable()) return self;
    self->release();  // cancelled
    return nullptr;
  }

  void pass_on(state<T>& before) noexcept {
    if constexpr (What == follows::shared_value)
      this->set_error(before.error());
    else
      this->set_error(std::move(before.error()));
    if (before.set_observed()) this->set_observed();
  }

  step step_;
  task_ref<state<T>> before_;
  union {
    room_for<F> f_;
  };
};

template <follows What, class R, class F, class T>
future<R> make_then(F&& f, task_ref<state<T>> before, pool_id home, std::source_location at) {
  auto* const next = new then_task<What, T, R, std::decay_t<F>>(std::forward<F>(f), std::move(before), home, at);
  task_ref<state<R>> result(next);
  next->begin();
  return future_access::make<R>(std::move(result));
}

}  // namespace detail

/// The result, some day, of a task. T may be an object type, a reference or void. Move-only; dropping it lets the task
/// go on by itself. It may outlive the pool.
///
/// Waiting: a thread that is no pool's only sleeps. Inside a task a wait helps, see docs/async.md: it runs the task waited
/// for if nobody has begun it, so nested waits need no free thread, on a pool of one thread as on any other.
///
/// An error that leaves the task is kept with its type and thrown by get(). If nobody asks for it, the pool's handler of
/// unobserved errors gets it.
///
/// Thread-safety: one thread at a time, but ready() and the waits may run in several at once.
template <class T>
class future {
 public:
  using value_type = T;

  future() noexcept = default;

  /// False for a future that was never set, was moved from, or gave its value away.
  [[nodiscard]] bool valid() const noexcept { return static_cast<bool>(state_); }

  /// True if get() would not wait. Throws empty_future (201).
  [[nodiscard]] bool ready() const { return checked("ready()").done(); }

  /// Throws empty_future (201).
  void wait() const { static_cast<void>(detail::wait_for_task(checked("wait()"))); }

  /// False if the time passed first. Inside a task it finishes what it has begun to help with, and may so end later.
  /// Throws empty_future (201).
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& timeout) const {
    return detail::wait_for_task(checked("wait_for()"), detail::deadline_after(timeout));
  }

  /// As wait_for(); on another clock than steady_clock, the time left is looked at once.
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(const std::chrono::time_point<Clock, Duration>& deadline) const {
    return wait_for(deadline - Clock::now());
  }

  /// Waits, then gives the value away, or throws what the task threw; the future is empty afterwards. Throws
  /// empty_future (201).
  T get() {
    static_cast<void>(detail::wait_for_task(checked("get()")));
    const detail::task_ref<detail::state<T>> done = std::move(state_);
    return detail::take_result(*done);
  }

  /// A new task `f(value)`, or `f()` after void, that the same pool runs once this one is done: the future of its result.
  /// If this task fails, `f` is not called and its error passes on. A promise without a pool has `f` run by the thread
  /// that keeps it, or by this one if it has been kept; so does a pool that has ended. Throws empty_future (201).
  template <class F>
  auto then(F&& f, std::source_location at = std::source_location::current()) && {
    using result_type = typename detail::then_result<std::decay_t<F>, T>::type;
    const detail::pool_id home = checked("then()").home();
    return detail::make_then<detail::follows::value, result_type>(std::forward<F>(f), std::move(state_), home, at);
  }

  /// The same, run by another pool.
  template <class F>
  auto then(thread_pool& pool, F&& f, std::source_location at = std::source_location::current()) && {
    using result_type = typename detail::then_result<std::decay_t<F>, T>::type;
    static_cast<void>(checked("then()"));
    return detail::make_then<detail::follows::value, result_type>(std::forward<F>(f), std::move(state_),
                                                                  detail::id_of(pool), at);
  }

  /// A future of the same value; if this task fails, of what `f(std::exception_ptr)` makes of its error, or throws.
  /// Throws empty_future (201).
  template <class F>
    requires std::is_invocable_r_v<T, std::decay_t<F>, std::exception_ptr>
  future<T> on_error(F&& f, std::source_location at = std::source_location::current()) && {
    const detail::pool_id home = checked("on_error()").home();
    return detail::make_then<detail::follows::error, T>(std::forward<F>(f), std::move(state_), home, at);
  }

  /// Asks the task, and all tasks that it has submitted, to stop. One that has not begun will not: its future holds
  /// task_cancelled (206) at once. One that runs sees it in this_task::stop_requested(), or the std::stop_token that it takes, and
  /// ends as it likes. False if the task was done. Cost: a few atomic operations for one that has not begun; one that runs
  /// and has submitted others costs a look at every task of the process. Throws empty_future (201).
  bool cancel() const { return detail::cancel(checked("cancel()")); }

  /// The same result for any number of readers; this future is empty afterwards. In <cadre/async/shared_future.hpp>. Throws
  /// empty_future (201).
  [[nodiscard]] shared_future<T> share() &&;

 private:
  friend struct detail::future_access;
  explicit future(detail::task_ref<detail::state<T>> s) noexcept : state_(std::move(s)) {}

  detail::state<T>& checked(const char* call) const {
    if (!state_) [[unlikely]]
      throw empty_future(call);
    return *state_;
  }

  detail::task_ref<detail::state<T>> state_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/fwd.hpp ----
#ifndef CADRE_ASYNC_FWD_HPP
#define CADRE_ASYNC_FWD_HPP

CADRE_NAMESPACE_BEGIN

class thread_pool;
class task_group;
class task_graph;
class graph_node;
struct thread_pool_options;
struct loop_options;
struct task_options;
struct unobserved_error;
struct unit;

template <class T>
class future;

template <class T>
class shared_future;

template <class T>
class promise;

template <class T>
struct any_result;

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/deadlines.hpp ----
#ifndef CADRE_ASYNC_DETAIL_DEADLINES_HPP
#define CADRE_ASYNC_DETAIL_DEADLINES_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A thread that cancels tasks when their time is up. A pool makes one when a first task has a deadline. A template so that
/// only those who set deadlines pay to compile it.
template <class Task = task>
class deadlines {
 public:
  /// Throws thread_error (151).
  template <class Pool>
  explicit deadlines(const Pool& pool) : thread_(pool.name() + "/time", [this] { watch(); }) {}
  deadlines(const deadlines&) = delete;
  deadlines& operator=(const deadlines&) = delete;
  ~deadlines() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    ring();
    thread_.join();
    for (const auto& [when, which] : entries_) which->release();
  }

  /// Keeps a reference to the task until its time, or until it is noticed that it is done.
  void add(time_point when, Task& which) {
    bool earliest = false;
    std::vector<Task*> done;
    {
      const std::lock_guard lock(mutex_);
      if (entries_.size() >= sweep_at_) done = sweep();
      which.retain();
      const auto added = entries_.emplace(when, &which);
      earliest = added == entries_.begin();
    }
    if (earliest) ring();
    for (Task* t : done) t->release();
  }

 private:
  void ring() noexcept {
    word_.fetch_add(1, std::memory_order_release);
    futex::wake_one(word_);
  }

  // With the mutex held.
  std::vector<Task*> sweep() {
    std::vector<Task*> done;
    for (auto at = entries_.begin(); at != entries_.end();) {
      if (at->second->done()) {
        done.push_back(at->second);
        at = entries_.erase(at);
      } else {
        ++at;
      }
    }
    sweep_at_ = 2 * entries_.size() + 64;
    return done;
  }

  void watch() noexcept {
    for (;;) {
      const std::uint32_t seen = word_.load(std::memory_order_acquire);
      Task* due = nullptr;
      time_point next = time_point::max();
      {
        const std::lock_guard lock(mutex_);
        if (ending_) return;
        if (!entries_.empty()) {
          next = entries_.begin()->first;
          if (next <= std::chrono::steady_clock::now()) {
            due = entries_.begin()->second;
            entries_.erase(entries_.begin());
          }
        }
      }
      if (due != nullptr) {
        cancel(*due);
        due->release();
      } else {
        futex::wait_until(word_, seen, next);
      }
    }
  }

  std::mutex mutex_;
  std::multimap<time_point, Task*> entries_;
  std::size_t sweep_at_ = 64;
  bool ending_ = false;
  std::atomic<std::uint32_t> word_{0};
  native_thread thread_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/resource_ledger.hpp ----
#ifndef CADRE_ASYNC_DETAIL_RESOURCE_LEDGER_HPP
#define CADRE_ASYNC_DETAIL_RESOURCE_LEDGER_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What one task asked for. Guarded by the mutex of the ledger, but `devices` does not change its ids once granted. A
/// template as the ledger is.
template <class Request>
struct holding {
  /// A device, or a part of one, and how much of that nobody has.
  struct device {
    int id;
    std::int64_t free;
  };
  task* who = nullptr;                         // null when the task has ended
  std::vector<std::int64_t> wants;             // by kind
  std::vector<std::int64_t> free;              // by kind: what children that borrow have left of it
  std::vector<std::shared_ptr<holding>> from;  // by kind: whose it is a part of, or null for the pool's
  std::vector<device> devices;                 // of kind gpu
  bool granted = false;
  bool lending = false;  // the task waits, so its children may use what it has
};

/// What a pool has and who holds it. A request is granted as a whole. It is served before later ones that want any of the
/// same kinds; those of other kinds pass it by. What a task holds its descendants may use while it waits: else a task that
/// waits for a child that wants the same would wait for ever. A share goes back when its task and all who borrow from it
/// have ended.
///
/// A template so that only those who submit with resources pay to compile it.
template <class Request = resource_set>
class resource_ledger {
  using holding = detail::holding<Request>;
  using device = typename holding::device;

 public:
  /// Of the pool, whose `resources()` are what there is. Throws impossible_request (209).
  template <class Pool>
  explicit resource_ledger(const Pool& pool) {
    const Request& total = pool.resources();
    for (const resource_set::entry& e : total.entries()) {
      if (e.name == "gpu") {
        if (e.units % resource_set::one != 0)
          throw impossible_request("a pool that has " + total.text() + "; give it a whole number of gpu");
        gpu_ = kinds_.size();
        for (int d = 0; d < e.units / resource_set::one; ++d) devices_.push_back({d, resource_set::one});
      }
      kinds_.push_back({e.name, e.units, false});
      free_.push_back(e.units);
    }
  }

  /// Throws impossible_request (209).
  [[nodiscard]] std::shared_ptr<holding> ask(const Request& request, task* who) const {
    auto h = std::make_shared<holding>();
    h->who = who;
    h->wants.assign(kinds_.size(), 0);
    h->from.resize(kinds_.size());
    for (const resource_set::entry& e : request.entries()) {
      if (e.units == 0) continue;
      std::size_t k = 0;
      while (k < kinds_.size() && kinds_[k].name != e.name) ++k;
      if (k == kinds_.size() || e.units > kinds_[k].units) throw impossible_request(too_much(request));
      if (k == gpu_ && e.units > resource_set::one && e.units % resource_set::one != 0)
        throw impossible_request(request.text() + "; ask for a part of one gpu, or for whole ones");
      h->wants[k] = e.units;
    }
    h->free = h->wants;
    return h;
  }

  /// Calls `start(task&)`, outside of the lock, for those that can begin now: this one, if it can.
  template <class Start>
  void enqueue(std::shared_ptr<holding> h, Start&& start) {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(std::move(h));
    }
    serve(start);
  }
  /// The task has ended, whether it was granted anything or not. Calls `start` for those that can begin now. True if it
  /// was still waiting.
  template <class Start>
  bool leave(const std::shared_ptr<holding>& h, Start&& start) {
    bool waited = false;
    {
      const std::lock_guard lock(mutex_);
      waited = std::erase(waiting_, h) != 0;
      h->who = nullptr;
      h->lending = false;
      give_back_if_over(h);
    }
    serve(start);
    return waited;
  }
  /// The task begins, or ends, a wait.
  template <class Start>
  void lend(holding& h, bool on, Start&& start) {
    {
      const std::lock_guard lock(mutex_);
      h.lending = on && h.granted;
      if (!h.lending || waiting_.empty()) return;
    }
    serve(start);
  }

 private:
  [[nodiscard]] std::string too_much(const Request& request) const {
    Request total;
    for (const kind& k : kinds_) total.set(k.name, k.units);
    return request.text() + "; this pool has " + total.text() +
           ". Ask for less, or declare more in the pool's .resources";
  }

  template <class Start>
  void serve(Start&& start) {
    std::vector<task*> ready;
    {
      const std::lock_guard lock(mutex_);
      for (kind& k : kinds_) k.reserved = false;
      for (std::size_t i = 0; i < waiting_.size();) {
        const std::shared_ptr<holding> h = waiting_[i];
        if (grant(h)) {
          h->who->retain();
          ready.push_back(h->who);
          waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
          continue;
        }
        for (std::size_t k = 0; k < kinds_.size(); ++k) kinds_[k].reserved |= h->wants[k] != 0;
        ++i;
      }
    }
    for (task* t : ready) {
      start(*t);
      t->release();
    }
  }

  bool grant(const std::shared_ptr<holding>& h) {
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
      h->from[k] = nullptr;
      if (h->wants[k] == 0) continue;
      for (const auto& lender : granted_)
        if (lender->lending && has_free(lender->free, lender->devices, k, h->wants[k]) &&
            h->who->descends_from(*lender->who))
          h->from[k] = lender;
      if (h->from[k] == nullptr && (kinds_[k].reserved || !has_free(free_, devices_, k, h->wants[k]))) return false;
    }
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
      if (h->wants[k] == 0) continue;
      holding* const lender = h->from[k].get();
      (lender != nullptr ? lender->free : free_)[k] -= h->wants[k];
      if (k == gpu_) take_devices(lender != nullptr ? lender->devices : devices_, h->wants[k], h->devices);
    }
    h->granted = true;
    granted_.push_back(h);
    return true;
  }

  [[nodiscard]] bool has_free(const std::vector<std::int64_t>& free, std::vector<device>& devices, std::size_t k,
                              std::int64_t wanted) const {
    return free[k] >= wanted && (k != gpu_ || !choose(devices, wanted).empty());
  }

  // Of those with room the fullest for a part, or as many empty ones as are wanted; none if there are too few.
  static std::vector<device*> choose(std::vector<device>& devices, std::int64_t wanted) {
    std::vector<device*> found;
    if (wanted < resource_set::one) {
      device* best = nullptr;
      for (device& d : devices)
        if (d.free >= wanted && (best == nullptr || d.free < best->free)) best = &d;
      if (best != nullptr) found.push_back(best);
    } else {
      const auto needed = static_cast<std::size_t>(wanted / resource_set::one);
      for (device& d : devices)
        if (d.free == resource_set::one && found.size() < needed) found.push_back(&d);
      if (found.size() < needed) found.clear();
    }
    return found;
  }
  static void take_devices(std::vector<device>& devices, std::int64_t wanted, std::vector<device>& out) {
    const std::int64_t of_each = (wanted < resource_set::one ? wanted : resource_set::one);
    for (device* d : choose(devices, wanted)) {
      d->free -= of_each;
      out.push_back({d->id, of_each});
    }
  }

  void give_back_if_over(const std::shared_ptr<holding>& h) {
    if (!h->granted || h->who != nullptr || h->free != h->wants) return;
    h->granted = false;
    std::erase(granted_, h);
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
      if (h->wants[k] == 0) continue;
      holding* const lender = h->from[k].get();
      (lender != nullptr ? lender->free : free_)[k] += h->wants[k];
      if (k != gpu_) continue;
      for (const device& mine : h->devices)
        for (device& d : lender != nullptr ? lender->devices : devices_)
          if (d.id == mine.id) d.free += mine.free;
    }
    const std::vector<std::shared_ptr<holding>> lenders = std::move(h->from);
    for (const auto& lender : lenders)
      if (lender != nullptr) give_back_if_over(lender);
  }

  struct kind {
    std::string name;
    std::int64_t units;
    bool reserved;  // in serve(): an earlier request waits for it
  };
  std::vector<kind> kinds_;
  std::size_t gpu_ = static_cast<std::size_t>(-1);  // its kind
  std::mutex mutex_;
  std::vector<std::int64_t> free_;  // by kind
  std::vector<device> devices_;     // of kind gpu
  std::vector<std::shared_ptr<holding>> granted_;
  std::vector<std::shared_ptr<holding>> waiting_;  // in the order of their asking
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/configured_task.hpp ----
#ifndef CADRE_ASYNC_DETAIL_CONFIGURED_TASK_HPP
#define CADRE_ASYNC_DETAIL_CONFIGURED_TASK_HPP

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// What a task with options has beside one without.
struct task_extras {
  explicit task_extras(task_options&& o) : options(std::move(o)) {}

  struct canceller {
    task* which;
    void operator()() const noexcept { cancel(*which); }
  };

  task_options options;
  int processors = 1;
  std::shared_ptr<resource_ledger<>> ledger;
  std::shared_ptr<holding<resource_set>> share;  // of the ledger, or null
  std::optional<std::stop_source> source;        // of a function that takes a std::stop_token
  std::optional<std::stop_callback<canceller>> when_stopped;
};

/// To where its options say, as schedule() does.
inline void schedule_configured(task& t) noexcept {
  const task_options& o = t.extras()->options;
  bool pushed = false;
  pool_registry::with(t.home(), [&](scheduler& s) {
    if (!s.is_open() && (this_worker() == nullptr || this_worker()->home != &s)) return;
    if (o.worker != any_worker)
      s.push_pinned(&t, o.worker);
    else
      s.push(&t, o.priority);
    pushed = true;
  });
  if (!pushed) run_here(&t);
}

/// Its resources are there. The reference of the queue is with the ledger until now.
inline void start_granted(task& t) noexcept {
  if (t.make_claimable())
    schedule_configured(t);
  else
    t.release();  // cancelled meanwhile
}

/// Calls a function and its arguments, kept by value: as rvalues, or with copies of them if it is to be called again.
template <class F, class... Args>
auto bind_arguments(F&& f, Args&&... args) {
  return [f = std::decay_t<F>(std::forward<F>(f)),
          ... args = std::decay_t<Args>(std::forward<Args>(args))](bool again) mutable -> decltype(auto) {
    if constexpr (std::is_copy_constructible_v<std::decay_t<F>> &&
                  (std::is_copy_constructible_v<std::decay_t<Args>> && ...)) {
      if (again) return detail::invoke(std::decay_t<F>(f), std::decay_t<Args>(args)...);
    }
    return detail::invoke(std::move(f), std::move(args)...);
  };
}

/// A task with options. F is made by bind_arguments().
template <class R, class F>
class configured_task final : public state<R> {
 public:
  configured_task(F&& f, std::unique_ptr<task_extras> extras, pool_id home, std::uint8_t flags)
      : state<R>(home, flags, extras->options.at), extras_(std::move(extras)), f_(std::move(f)) {}
  ~configured_task() override { extras_->when_stopped.reset(); }  // waits, if it is under way

  [[nodiscard]] std::string_view name() const noexcept override { return extras_->options.name; }
  [[nodiscard]] task_extras* extras() noexcept override { return extras_.get(); }
  void on_stop() noexcept override { extras_->source->request_stop(); }

  void on_wait(bool begins) noexcept override {
    allow(begins ? extras_->processors - 1 : 1 - extras_->processors);
    extras_->ledger->lend(*extras_->share, begins, start_granted);
  }

  void run() noexcept override {
    if (is_late()) return run_not();  // the thread that watches the time may be late itself
    {
      std::optional<thread_limit> limit;
      if (extras_->processors > 1) limit.emplace(extras_->processors);
      allow(1 - extras_->processors);
      for (int left = extras_->options.max_retries;; --left) {
        set_from(*this, [&]() -> R { return f_.get()(left > 0); });
        if (left <= 0 || !this->failed() || this->stop_requested() || !worth_a_retry()) break;
        this->forget_error();
      }
      allow(extras_->processors - 1);
    }
    finish(task::completion::of_its_run);
  }
  void run_not() noexcept override {
    if (is_late())
      this->set_error(std::make_exception_ptr(deadline_passed(describe(name(), this->at()))));
    else
      set_cancelled(*this);
    finish(task::completion::from_elsewhere);
  }

 private:
  [[nodiscard]] bool is_late() const noexcept {
    const time_point deadline = extras_->options.deadline;
    return deadline != time_point::max() && std::chrono::steady_clock::now() >= deadline;
  }
  void allow(int change) const noexcept {
    if (change != 0) pool_registry::with(this->home(), [&](scheduler& s) { s.allow(change); });
  }
  [[nodiscard]] bool worth_a_retry() noexcept {
    const retry_filter filter = extras_->options.retry_on;
    return filter == nullptr || filter(this->error());
  }
  void finish(task::completion by) noexcept {
    f_.~room_for<F>();
    const bool waited = extras_->share != nullptr && extras_->ledger->leave(extras_->share, start_granted);
    this->report_if_posted();
    if (!this->has(task::no_future) || this->has_offspring()) this->complete(by);
    if (waited) this->release();  // the queue's reference, which the ledger had
  }

  std::unique_ptr<task_extras> extras_;
  union {
    room_for<F> f_;
  };
};

/// Makes the task and hands it to its pool. Throws impossible_request (209), bad_task_option (211), thread_error (151).
template <class R, class F>
task_ref<state<R>> submit_configured(scheduler& pool, F&& f, std::unique_ptr<task_extras> extras, std::uint8_t flags) {
  task_extras& e = *extras;
  const task_options& o = e.options;
  if (o.worker != any_worker && o.worker >= pool.size())
    throw bad_task_option(".worker = " + std::to_string(o.worker) + " in a pool of " + std::to_string(pool.size()) +
                          " threads; they are counted from 0");
  if (o.max_retries < 0) throw bad_task_option(".max_retries = " + std::to_string(o.max_retries) + "; give 0 or more");
  const bool holds = !o.resources.is_ordinary();
  if (holds) {
    e.ledger = pool.template part<resource_ledger<>>(&scheduler::ledger);
    e.share = e.ledger->ask(o.resources, nullptr);
    if (const int n = static_cast<int>(o.resources.amount("cpu")); n > 1) e.processors = n;
  }
  if (o.worker != any_worker) flags |= task::not_for_help;
  if (holds) flags |= task::holds;
  if (e.source) flags |= task::hears_stop;
  const bool has_future = !(flags & task::no_future);
  auto* const t = new configured_task<R, std::decay_t<F>>(std::forward<F>(f), std::move(extras), pool.id(), flags);
  if (holds) e.share->who = t;
  t->set_parent();
  t->publish(holds ? task::pending : task::queued, 2);  // this function's own, for now, and the queue's
  task_ref<state<R>> result(t);
  // From here on it may be done at any time.
  try {
    if (o.stop.stop_possible()) e.when_stopped.emplace(o.stop, task_extras::canceller{t});
    if (o.deadline != time_point::max()) pool.template part<deadlines<>>(&scheduler::deadlines)->add(o.deadline, *t);
  } catch (...) {
    cancel(*t);
    t->release();  // the queue's, where it will never be
    throw;
  }
  if (holds)
    e.ledger->enqueue(e.share, start_granted);
  else
    schedule_configured(*t);
  return has_future ? std::move(result) : task_ref<state<R>>();
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/dump.hpp ----
#ifndef CADRE_ASYNC_DETAIL_DUMP_HPP
#define CADRE_ASYNC_DETAIL_DUMP_HPP

#include <cstddef>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// Every task of a pool that is not done: a line each, with where it was submitted. A look at a moving picture: each line
/// was true at its moment. Costs a look at every task of the process. A template so that only those who call it compile it.
template <class Task = task>
[[gnu::cold]] std::string dump(const std::string& pool_name, pool_id pool) {
  enum { running, waiting, queued, pending };
  constexpr const char* names[] = {"running", "waiting", "queued", "pending"};
  std::string lines[4];
  std::size_t counts[4] = {};
  for_each_task([&](Task& t) {
    if (t.home() != pool || t.done()) return;
    std::string text = describe(t.name(), t.at());
    std::size_t what = t.is_running() ? running : t.is_pending() ? pending : queued;
    if (what == running)
      sleeping_wait::for_each([&](const sleeping_wait& w) {
        if (!w.runs(t)) return;
        what = waiting;
        if (w.top() != &t)
          text += ", below " + describe(w.top()->name(), w.top()->at());
        else
          for (const watch& target : w.targets())
            text +=
                (&target == w.targets().data() ? " for " : ", ") + describe(target.target->name(), target.target->at());
      });
    ++counts[what];
    lines[what] += std::string("\n  ") + names[what] + " " + text;
  });
  std::string all = "pool '" + pool_name + "':";
  for (std::size_t what = 0; what < 4; ++what)
    all += (what == 0 ? " " : ", ") + std::to_string(counts[what]) + " " + names[what];
  for (const std::string& l : lines) all += l;
  return all;
}

/// What long_wait_report::tell is.
template <class Task = task>
[[gnu::cold]] void tell_long_wait(scheduler& pool, const Task* waiter, const Task& target) noexcept {
  log(log_level::warning, "async", [&] {
    return (waiter != nullptr ? describe(waiter->name(), waiter->at()) : "a thread") + " has waited for " +
           describe(target.name(), target.at()) + " longer than " +
           std::to_string(std::chrono::duration<double>(pool.long_waits().after).count()) + " s; " +
           dump<Task>(pool.name(), pool.id());
  });
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/parallel_for.hpp ----
#ifndef CADRE_ASYNC_DETAIL_PARALLEL_FOR_HPP
#define CADRE_ASYNC_DETAIL_PARALLEL_FOR_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// The part of a loop that all its threads share; on the caller's stack. Chunks are handed out by a counter, so an uneven
/// body does not hold up the rest.
template <class F>
class loop {
 public:
  loop(std::size_t first, std::size_t last, std::size_t chunk, F& f) noexcept
      : first_(first),
        last_(last),
        chunk_(chunk),
        chunks_((last - first) / chunk + ((last - first) % chunk != 0)),
        f_(f) {}

  [[nodiscard]] std::size_t chunks() const noexcept { return chunks_; }

  void work() noexcept {
    for (;;) {
      const std::size_t c =
          next_.load(std::memory_order_relaxed) < chunks_ ? next_.fetch_add(1, std::memory_order_relaxed) : chunks_;
      if (c >= chunks_) return;
      const std::size_t begin = first_ + c * chunk_;
      const std::size_t end = last_ - begin > chunk_ ? begin + chunk_ : last_;
      std::size_t i = begin;
      try {
        for (; i != end; ++i) static_cast<void>(f_(i));
      } catch (...) {
        fail(i, std::current_exception());
      }
    }
  }

  void rethrow() {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  [[gnu::cold]] void fail(std::size_t i, std::exception_ptr error) noexcept {
    next_.store(chunks_, std::memory_order_relaxed);
    const std::lock_guard lock(mutex_);
    if (error_ && failed_at_ < i) return;
    error_ = std::move(error);
    failed_at_ = i;
  }

  const std::size_t first_;
  const std::size_t last_;
  const std::size_t chunk_;
  const std::size_t chunks_;
  F& f_;
  alignas(64) std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
  std::size_t failed_at_ = 0;
};

template <class Loop>
class loop_task final : public state<void> {
 public:
  loop_task(Loop& l, pool_id home) noexcept : state<void>(home, 0, {}), loop_(l) {
    this->set_parent();
    this->publish(task::queued, 2);
  }
  void run() noexcept override {
    loop_.work();
    complete(completion::of_its_run);
  }
  void run_not() noexcept override { complete(completion::from_elsewhere); }  // the others do its part

 private:
  Loop& loop_;
};

template <class F>
void run_loop(scheduler& pool, std::size_t first, std::size_t last, std::size_t chunk, F& f) {
  loop<F> shared(first, last, chunk, f);
  using helper_type = loop_task<loop<F>>;
  const worker* const w = this_worker();
  const std::size_t others = pool.size() - (w != nullptr && w->home == &pool ? 1 : 0);
  std::vector<task_ref<helper_type>> helpers;
  try {
    helpers.reserve(others < shared.chunks() ? others : shared.chunks() - 1);
    while (helpers.size() < helpers.capacity()) {
      helpers.emplace_back(new helper_type(shared, pool.id()));
      pool.push(helpers.back().get());
    }
  } catch (const std::bad_alloc&) {  // then with fewer
  }
  shared.work();
  // The loop is used up, so those who have not begun need not: claimed here, they never touch it.
  for (const auto& h : helpers)
    if (!h->try_claim()) static_cast<void>(wait_for_task(*h));
  shared.rethrow();
}

/// With a grain, parts of that many iterations are what threads take; without one, 16 parts for each thread.
///
/// Of loops with enough iterations to tell, the first few are timed, and what remains of a short one stays here: to wake
/// another thread costs some microseconds.
template <class F>
void parallel_for(scheduler& pool, std::size_t first, std::size_t last, F& f, std::size_t grain = 0) {
  constexpr std::uint64_t enough_to_tell = 6'000;  // ticks, 2 to 3 us
  constexpr double worth_sharing = 15'000;         // ticks, 5 to 8 us
  constexpr std::size_t chunks_per_thread = 16;
  if (first >= last) return;
  if (grain != 0) return run_loop(pool, first, last, grain, f);
  const std::size_t threads = pool.size() + 1;
  if ((last - first) / chunks_per_thread >= threads) {
    const std::size_t start = first;
    const std::uint64_t begun = ticks();
    for (std::size_t batch = 16; first != last; batch *= 2) {
      const std::size_t end = last - first > batch ? first + batch : last;
      for (; first != end; ++first) static_cast<void>(f(first));
      const std::uint64_t spent = ticks() - begun;
      if (spent < enough_to_tell) continue;
      const double each = static_cast<double>(spent) / static_cast<double>(first - start);
      if (each * static_cast<double>(last - first) >= worth_sharing) break;
      for (; first != last; ++first) static_cast<void>(f(first));
    }
    if (first == last) return;
  }
  const std::size_t chunk = (last - first) / (threads * chunks_per_thread);
  run_loop(pool, first, last, chunk != 0 ? chunk : 1, f);
}

template <class T, class Body, class Op>
T parallel_reduce(scheduler& pool, std::size_t first, std::size_t last, T init, Body& body, Op& op,
                  std::size_t grain = 0) {
  if (first >= last) return init;
  // Fixed by the length alone, so that no result depends on the threads.
  constexpr std::size_t most_parts = 256;
  const std::size_t n = last - first;
  const std::size_t length = grain != 0 ? grain : n / most_parts + (n % most_parts != 0);
  const std::size_t parts = n / length + (n % length != 0);
  struct part {
    T* value = nullptr;
    alignas(T) std::byte storage[sizeof(T)];
    part() noexcept {}
    part(const part&) = delete;
    part& operator=(const part&) = delete;
    ~part() {
      if (value) value->~T();
    }
  };
  const auto results = std::make_unique<part[]>(parts);
  const auto one = [&](std::size_t p) {
    const std::size_t begin = first + p * length;
    const std::size_t end = last - begin > length ? begin + length : last;
    T value = body(begin);
    for (std::size_t i = begin + 1; i != end; ++i) value = op(std::move(value), static_cast<T>(body(i)));
    results[p].value = ::new (static_cast<void*>(results[p].storage)) T(std::move(value));
  };
  parallel_for(pool, 0, parts, one, grain != 0 ? 1 : 0);
  T total = std::move(init);
  for (std::size_t p = 0; p != parts; ++p) total = op(std::move(total), std::move(*results[p].value));
  return total;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/fork.hpp ----
#ifndef CADRE_ASYNC_DETAIL_FORK_HPP
#define CADRE_ASYNC_DETAIL_FORK_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// One of the functions of an invoke(), on the stack of the task that called it. No reference is counted and nothing is
/// claimed: whoever takes it out of the queue runs it. Only a thief tells that it is done, by closing the list of waiters,
/// after which it touches the fork no more; the caller looks at nothing else.
///
/// A waiter could not know whether a thief that has taken the fork has begun, so it never runs it (not_for_help); but it
/// learns who the thief is, and helps that one.
class fork : public task {
 public:
  explicit fork(pool_id home) noexcept : task(home, bare | not_for_help, {}) {}
  ~fork() override {}

  virtual void call() noexcept = 0;

  void run() noexcept final {
    const thread_context& context = this_context();
    static_cast<void>(try_claim(context.worker->index + 1));
    set_position(context.worker->frame);
    context.top->runs = owner_;  // run_bare() made this frame
    call();
    complete(completion::of_its_run);
  }
  void run_not() noexcept final {}
  [[nodiscard]] std::exception_ptr& error() noexcept final { return error_; }

  /// False if it could not be queued.
  [[nodiscard]] bool begin(worker& w) noexcept {
    publish(queued, 1);
    return w.home->push_part(w, *this);
  }

 protected:
  std::exception_ptr error_;

 private:
  task* const owner_ = current_task();  // not parent_: it lives no longer than the owner's call, so need not be counted
};

template <class F>
class fork_of final : public fork {
 public:
  fork_of(F& f, pool_id home) noexcept : fork(home), f_(f) {}
  ~fork_of() override {}
  void call() noexcept override {
    try {
      static_cast<void>(std::forward<F>(f_)());
    } catch (...) {
      error_ = std::current_exception();
    }
  }

 private:
  std::remove_reference_t<F>& f_;
};

/// Of several errors one is thrown; the pool's handler gets the others.
[[gnu::cold]] inline void report_other(std::exception_ptr error, pool_id home) noexcept {
  std::shared_ptr<unobserved_handler> handler;
  pool_registry::with(home, [&](scheduler& s) { handler = s.unobserved(); });
  report_unobserved({std::move(error), "a function of invoke()", {}}, handler, false);
}
/// `error` comes before the one that `first` may be.
[[gnu::cold]] [[gnu::noinline]] inline void put_first(std::exception_ptr& first, std::exception_ptr error,
                                                      pool_id home) noexcept {
  std::swap(first, error);
  if (error) report_other(std::move(error), home);
}

[[gnu::noinline]] inline void wait_for_thief(fork& f) { static_cast<void>(wait_for_task(f)); }

// Forks all but the last, which runs here at once; then takes back those that nobody has taken, the newest first.
template <class F>
void invoke_on(worker& w, std::exception_ptr& first_error, F&& last) {
  try {
    static_cast<void>(std::forward<F>(last)());
  } catch (...) {
    put_first(first_error, std::current_exception(), w.home->id());
  }
}
template <class F, class G, class... Rest>
void invoke_on(worker& w, std::exception_ptr& first_error, F&& f, G&& g, Rest&&... rest) {
  fork_of<F> mine(f, w.home->id());
  const std::int64_t floor = w.queue.position();
  const bool queued = mine.begin(w);
  invoke_on(w, first_error, std::forward<G>(g), std::forward<Rest>(rest)...);
  if (!queued)
    mine.call();
  else if (!mine.done())  // a wait inside the others may have run it
    w.home->take_back(w, floor, [&](const task* t) { return t == &mine; }) ? mine.call() : wait_for_thief(mine);
  if (mine.error()) [[unlikely]]
    put_first(first_error, std::move(mine.error()), w.home->id());
}

/// Throws forked_process (207) where fork() has left a thief behind.
template <class... F>
void invoke_here(worker& w, F&&... f) {
  std::exception_ptr first_error;
  invoke_on(w, first_error, std::forward<F>(f)...);
  if (first_error) [[unlikely]]
    std::rethrow_exception(first_error);
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/invoke.hpp ----
#ifndef CADRE_ASYNC_INVOKE_HPP
#define CADRE_ASYNC_INVOKE_HPP

#include <exception>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Calls all the functions, in parallel, and returns when all have returned; what they return is dropped. Inside a task of
/// a pool the last one runs here at once, and the others wherever a thread is free: those that none has taken by then run
/// here as well, the last of them first. They are parts of the task that calls this: they see its stop_requested(), and
/// are all run even if it has been cancelled. Elsewhere they run here, one after the other.
///
/// All are called, whatever the others throw; then the error of the first in the order of the arguments is thrown, and the
/// pool's handler of unobserved errors gets the rest (the log, outside of a pool).
///
/// Cost: about ten nanoseconds for each that nobody takes; no allocation. The functions are not moved or copied.
/// Thread-safety: from any thread. This is the tool for divide and conquer:
///
///     cadre::invoke([&] { sort(left); }, [&] { sort(right); });
template <class... F>
  requires(sizeof...(F) > 0 && (std::is_invocable_v<F> && ...))
void invoke(F&&... f) {
  if (detail::worker* const w = detail::this_worker()) return detail::invoke_here(*w, std::forward<F>(f)...);
  std::exception_ptr first_error;
  const auto call = [&](auto&& one) {
    try {
      static_cast<void>(std::forward<decltype(one)>(one)());
    } catch (...) {
      if (first_error)
        detail::report_other(std::current_exception(), detail::no_pool);
      else
        first_error = std::current_exception();
    }
  };
  (call(std::forward<F>(f)), ...);
  if (first_error) std::rethrow_exception(first_error);
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/os/processors.hpp ----
#ifndef CADRE_OS_PROCESSORS_HPP
#define CADRE_OS_PROCESSORS_HPP

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

CADRE_NAMESPACE_BEGIN

namespace detail {

// A file of /proc or /sys; empty if it cannot be read.
[[gnu::cold]] inline std::string read_small_file(const std::string& path) {
  std::string text;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char buffer[4096];
  for (;;) {
    const ::ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(fd);
  return text;
}

// Up to the separator; `text` keeps what is behind it.
[[gnu::noinline]] inline std::string_view split_off(std::string_view& text, char separator) {
  const std::size_t at = text.find(separator);
  const std::string_view part = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return part;
}
inline bool has_entry(std::string_view list, std::string_view name) {
  while (!list.empty())
    if (split_off(list, ',') == name) return true;
  return false;
}

inline bool parse_integer(std::string_view text, std::int64_t& value) {
  return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc();
}

inline std::size_t processors_of_quota(std::int64_t quota, std::int64_t period) {
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<std::size_t>((quota - 1) / period + 1);
}

/// Processors that a cgroup v2 "cpu.max" grants ("150000 100000" is 1.5, so 2); 0 for "max", no limit, or anything else.
[[gnu::cold]] inline std::size_t parse_cpu_max(std::string_view text) {
  std::int64_t quota = 0;
  std::int64_t period = 100000;
  const std::string_view first = split_off(text, ' ');
  if (!parse_integer(first, quota)) return 0;
  static_cast<void>(parse_integer(text, period));  // the kernel's default if it is not there
  return processors_of_quota(quota, period);
}

/// Where this process stands in the hierarchy of the cpu controller, out of /proc/self/cgroup.
struct cgroup_place {
  bool unified = false;   // version 2
  std::string_view path;  // "/" or "/a/b"; empty if there is none
};
[[gnu::cold]] inline cgroup_place parse_cgroup(std::string_view text) {
  cgroup_place unified;
  while (!text.empty()) {
    std::string_view line = split_off(text, '\n');
    const std::string_view id = split_off(line, ':');
    const std::string_view controllers = split_off(line, ':');
    if (id == "0" && controllers.empty())
      unified = {true, line};
    else if (has_entry(controllers, "cpu"))
      return {false, line};
  }
  return unified;
}

/// Where a hierarchy is mounted, and which of its folders is seen there, out of a line of /proc/self/mountinfo.
struct cgroup_mount {
  std::string_view point;  // empty if the line is of another file system or controller
  std::string_view root;
};
[[gnu::cold]] inline cgroup_mount parse_mount(std::string_view line, bool unified) {
  // id parent device root point options [optional...] - type source super-options
  const std::size_t dash = line.find(" - ");
  if (dash == std::string_view::npos) return {};
  std::string_view tail = line.substr(dash + 3);
  const std::string_view type = split_off(tail, ' ');
  split_off(tail, ' ');
  if (unified ? type != "cgroup2" : type != "cgroup" || !has_entry(tail, "cpu")) return {};
  for (int skip = 0; skip < 3; ++skip) split_off(line, ' ');
  const std::string_view root = split_off(line, ' ');
  return {split_off(line, ' '), root};
}

/// What the group in `folder` grants itself; 0 if nothing is said. `folder` comes back as it was.
[[gnu::cold]] inline std::size_t cgroup_quota(std::string& folder, bool unified) {
  const auto read = [&folder, length = folder.size()](const char* name) {
    std::string text = read_small_file(folder.append(name));
    folder.resize(length);
    return text;
  };
  if (unified) return parse_cpu_max(read("/cpu.max"));
  std::int64_t quota = 0;
  std::int64_t period = 0;
  if (!parse_integer(read("/cpu.cfs_quota_us"), quota) || !parse_integer(read("/cpu.cfs_period_us"), period)) return 0;
  return processors_of_quota(quota, period);
}

}  // namespace detail

/// Processors that the cgroup quotas around this process grant, rounded up: the least of its own group and of all above,
/// for version 1 and 2. 0 if there is no limit. `root` stands before every path read, for tests.
[[nodiscard, gnu::cold]] inline std::size_t cgroup_processors(std::string_view root = {}) {
  std::string path(root);
  const std::string groups = detail::read_small_file(path.append("/proc/self/cgroup"));
  path.resize(root.size());
  const std::string mounts = detail::read_small_file(path.append("/proc/self/mountinfo"));
  const detail::cgroup_place place = detail::parse_cgroup(groups);
  std::size_t least = 0;
  for (std::string_view rest = mounts; !place.path.empty() && !rest.empty();) {
    const detail::cgroup_mount mount = detail::parse_mount(detail::split_off(rest, '\n'), place.unified);
    if (mount.point.empty()) continue;
    // In a container the mount often shows the group itself as its root.
    std::string_view group = place.path;
    if (mount.root != "/" && group.starts_with(mount.root) &&
        (group.size() == mount.root.size() || group[mount.root.size()] == '/'))
      group.remove_prefix(mount.root.size());
    if (group == "/") group = {};
    path.resize(root.size());
    path.append(mount.point);
    const std::size_t top = path.size();
    path.append(group);
    for (;;) {
      const std::size_t granted = detail::cgroup_quota(path, place.unified);
      if (granted != 0 && (least == 0 || granted < least)) least = granted;
      if (path.size() == top) break;
      const std::size_t slash = path.rfind('/');
      path.resize(slash == std::string::npos || slash < top ? top : slash);
    }
  }
  return least;
}

/// Processors that the calling thread's affinity mask allows (`taskset`, cpusets); at least 1.
[[nodiscard, gnu::cold]] inline std::size_t affinity_processors() {
  cpu_set_t mask[64];  // room for 65,536: the kernel refuses a mask that is too narrow for it
  if (::sched_getaffinity(0, sizeof mask, mask) != 0) return 1;
  const int count = CPU_COUNT_S(sizeof mask, mask);
  return count > 1 ? static_cast<std::size_t>(count) : 1;
}

/// How many threads can run at once: affinity mask and cgroup quota, at least 1.
[[nodiscard]] inline std::size_t usable_processors() {
  const std::size_t by_mask = affinity_processors();
  const std::size_t by_quota = cgroup_processors();
  return by_quota != 0 && by_quota < by_mask ? by_quota : by_mask;
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/thread_pool.hpp ----
#ifndef CADRE_ASYNC_THREAD_POOL_HPP
#define CADRE_ASYNC_THREAD_POOL_HPP

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <source_location>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Throws forked_process (207).
scheduler& scheduler_of(const thread_pool& pool);

template <class F, class... Args>
concept can_be_task = std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...> ||
                      std::is_invocable_v<std::decay_t<F>, std::stop_token, std::decay_t<Args>...>;

template <class F, class... Args>
struct result_of : task_result<F, Args...> {};
template <class F, class... Args>
  requires(!std::is_invocable_v<F, Args...>)
struct result_of<F, Args...> : task_result<F, std::stop_token, Args...> {};
template <class F, class... Args>
using result_of_task = typename result_of<std::decay_t<F>, std::decay_t<Args>...>::type;

}  // namespace detail

/// A time, after which a wait is told to the log: `.report_waits_after = 10s`.
class long_wait {
 public:
  long_wait() noexcept = default;
  template <class Rep, class Period>
  long_wait(std::chrono::duration<Rep, Period> after) noexcept
      : report_{std::chrono::ceil<std::chrono::nanoseconds>(after), &detail::tell_long_wait<detail::task>} {}

 private:
  friend class thread_pool;
  detail::long_wait_report report_;
};

/// What the end of a pool does with the tasks that have not begun.
enum class at_end : std::uint8_t { finish, cancel };

/// How a pool is made: `cadre::thread_pool pool{{.threads = 4}};`
struct thread_pool_options {
  /// 0: one for each processor that this process may use, by affinity mask and cgroup quota.
  std::size_t threads = 0;
  /// The threads are called name/0, name/1, ...
  std::string name = "cadre";
  /// Gets each error that nobody asked for: of post(), of a dropped future, of those that when_all() did not pass on. It is
  /// called on whichever thread lets the error go, on several at once. Without one, the error goes to the log (level
  /// error, category "async"), and that of post() then ends the program by std::terminate().
  move_only_function<void(const unobserved_error&)> on_unobserved_error = {};
  /// Destruction runs what is queued, or cancels it and asks what runs to stop.
  enum at_end at_end = at_end::finish;
  /// What there is for tasks that ask for resources, beside "cpu", of which there are as many as threads, and "memory", all
  /// of the machine's, unless they are given here: `.resources = {{"gpu", 2}, {"TPU", 8}}`.
  resource_set resources = {};
  /// A wait in one of the tasks, or for one, that takes longer is told to the log, once, with debug_dump() (level warning,
  /// category "async").
  long_wait report_waits_after = {};
};

/// How a loop is shared: `pool.for_each(0, n, f, {.grain = 64})`.
struct loop_options {
  /// Iterations that a thread takes at a time. 0: found out, by timing the first ones and from the number of threads. With
  /// a grain even a short loop is shared, which costs some microseconds: for bodies that take long.
  std::size_t grain = 0;
};

/// Threads that run tasks. Each has a queue of its own, takes its newest task first and steals the oldest of others when it
/// has none; an idle pool costs no processor time. Tasks submitted from outside run in about the order of their submission.
///
/// Destruction runs what is queued, with all that it submits, or cancels it (`.at_end`), and ends the threads; futures stay
/// good afterwards. A pool that is destroyed by one of its own tasks does the same without waiting for it. In a process
/// made by fork() the pool has no threads: using it throws forked_process (207), destroying it does nothing.
///
/// Thread-safety: all functions may be called from any thread, tasks included. Cost: a task takes a node of 128 bytes or
/// more from memory that is recycled; one whose closure or result is larger than 192 bytes costs an allocation.
class thread_pool {
 public:
  /// Throws thread_error (151) if the system gives too few threads.
  [[gnu::cold]] explicit thread_pool(thread_pool_options options = {}) : at_end_(options.at_end) {
    const std::size_t processors = usable_processors();
    const std::size_t threads = options.threads != 0 ? options.threads : processors;
    resource_set& all = options.resources;
    if (all.find("cpu") == nullptr) all.set("cpu", static_cast<std::int64_t>(threads) * resource_set::one);
    if (all.find("memory") == nullptr) all.set("memory", ::sysconf(_SC_PHYS_PAGES) * ::sysconf(_SC_PAGESIZE));
    scheduler_ =
        new detail::scheduler(threads, processors, std::move(options.name), std::move(options.on_unobserved_error),
                              std::move(all), options.report_waits_after.report_);
    try {
      scheduler_->start();
    } catch (...) {
      scheduler_->release();
      throw;
    }
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;
  ~thread_pool() {
    scheduler_->stop(at_end_ == at_end::cancel);
    scheduler_->release();
  }

  /// Every task that runs, waits, is queued or pending, with the place of its submission, a line each: what to look at when
  /// nothing seems to go on. Each line was true at its moment. Costs a look at every task of the process.
  [[nodiscard]] std::string debug_dump() const {
    return detail::dump<detail::task>(scheduler_->name(), scheduler_->id());
  }

  /// Threads.
  [[nodiscard]] std::size_t size() const noexcept { return scheduler_->size(); }

  /// Runs `f(args...)`, or `f(std::stop_token, args...)`, on one of the threads. Function and arguments are moved or copied
  /// into the task (wrap in std::ref what is to be referred to) and handed on as rvalues. Throws forked_process (207).
  template <class F, class... Args>
    requires(sizeof...(Args) > 2 && detail::can_be_task<F, Args...>)
  auto submit(F&& f, Args&&... args) {
    return submit_at({}, std::forward<F>(f), std::forward<Args>(args)...);
  }
  /// The same with options. Throws impossible_request (209), bad_task_option (211), thread_error (151) too.
  template <class F, class... Args>
    requires detail::can_be_task<F, Args...>
  auto submit(task_options options, F&& f, Args&&... args) {
    using result_type = detail::result_of_task<F, Args...>;
    return detail::future_access::make<result_type>(
        submit_with<result_type>(std::move(options), 0, std::forward<F>(f), std::forward<Args>(args)...));
  }
  // With up to two arguments the place of the call comes along: a parameter that has a default value cannot stand behind a
  // pack.
  template <class F>
    requires detail::can_be_task<F>
  auto submit(F&& f, std::source_location at = std::source_location::current()) {
    return submit_at(at, std::forward<F>(f));
  }
  template <class F, class A>
    requires detail::can_be_task<F, A>
  auto submit(F&& f, A&& a, std::source_location at = std::source_location::current()) {
    return submit_at(at, std::forward<F>(f), std::forward<A>(a));
  }
  template <class F, class A, class B>
    requires detail::can_be_task<F, A, B>
  auto submit(F&& f, A&& a, B&& b, std::source_location at = std::source_location::current()) {
    return submit_at(at, std::forward<F>(f), std::forward<A>(a), std::forward<B>(b));
  }

  /// The same without a future: what `f` returns is dropped, what it throws goes to the handler of unobserved errors, or
  /// ends the program if there is none.
  template <class F, class... Args>
    requires(sizeof...(Args) > 0 && detail::can_be_task<F, Args...>)
  void post(F&& f, Args&&... args) {
    post_at({}, std::forward<F>(f), std::forward<Args>(args)...);
  }
  template <class F, class... Args>
    requires detail::can_be_task<F, Args...>
  void post(task_options options, F&& f, Args&&... args) {
    submit_with<void>(std::move(options), detail::task::no_future, std::forward<F>(f), std::forward<Args>(args)...);
  }
  template <class F>
    requires detail::can_be_task<F>
  void post(F&& f, std::source_location at = std::source_location::current()) {
    post_at(at, std::forward<F>(f));
  }

  /// The tasks `f(i)` for each i in [0, n), queued at once, and their futures in that order. There is one copy of `f`, which
  /// several threads call at once, as const. Cost: as n calls of submit(), but one wake-up. Throws forked_process (207),
  /// std::bad_alloc; then none of them is run.
  template <class F>
    requires std::is_invocable_v<const std::decay_t<F>&, std::size_t>
  auto submit_bulk(std::size_t n, F&& f, std::source_location at = std::source_location::current()) {
    using result_type = detail::task_result_t<const std::decay_t<F>&, std::size_t>;
    detail::scheduler& s = usable();
    const auto shared = std::make_shared<const std::decay_t<F>>(std::forward<F>(f));
    std::vector<future<result_type>> futures;
    std::vector<detail::task*> tasks;
    futures.reserve(n);
    tasks.reserve(n);
    try {
      for (std::size_t i = 0; i != n; ++i) {
        detail::state<result_type>* const t = detail::make_task<result_type>(
            [shared, i]() -> result_type { return detail::invoke(*shared, i); }, s.id(), 0, at);
        tasks.push_back(t);
        futures.push_back(detail::future_access::make<result_type>(detail::task_ref<detail::state<result_type>>(t)));
      }
    } catch (...) {
      for (detail::task* t : tasks) {
        t->cancel_alone();
        t->release();
      }
      throw;
    }
    s.push(tasks.data(), n);
    return futures;
  }

  /// cadre::invoke() on this pool: by a thread that is not one of its own all functions run in a task of it, which this
  /// thread waits for. Throws forked_process (207).
  template <class... F>
    requires(sizeof...(F) > 0 && (std::is_invocable_v<F> && ...))
  void invoke(F&&... f) {
    if (const detail::worker* const w = detail::this_worker(); w != nullptr && w->home == scheduler_)
      return cadre::invoke(std::forward<F>(f)...);
    submit([&] { cadre::invoke(std::forward<F>(f)...); }).get();
  }

  /// Calls `f(i)` for each i in [first, last), in any order, on the threads and on this one; returns when all calls have
  /// returned. After a call throws no further ones are begun, and its error (of several, that of the lowest i caught) is
  /// thrown here. A loop that would be over in a few microseconds stays on this thread. Throws forked_process (207).
  template <class F>
    requires std::is_invocable_v<F&, std::size_t>
  void for_each(std::size_t first, std::size_t last, F&& f, loop_options options = {}) {
    detail::parallel_for(usable(), first, last, f, options.grain);
  }

  /// Calls `f(element)` for each element of a random-access range, in the same way.
  template <class Range, class F>
    requires requires(Range& r) {
      { std::begin(r) } -> std::random_access_iterator;
      { std::end(r) - std::begin(r) };
    }
  void for_each(Range&& range, F&& f, loop_options options = {}) {
    const auto begin = std::begin(range);
    using offset_type = std::iter_difference_t<decltype(begin)>;
    const auto at = [&](std::size_t i) { static_cast<void>(detail::invoke(f, begin[static_cast<offset_type>(i)])); };
    detail::parallel_for(usable(), 0, static_cast<std::size_t>(std::end(range) - begin), at, options.grain);
  }

  /// `init` and all `body(i)` for i in [first, last) combined by `op`, an associative function. The range is cut into parts
  /// that depend on its length and the grain alone (without a grain at most 256 of them), and the parts are combined in order: floating-point sums are the same to the last bit
  /// on any number of threads. Errors as in for_each().
  template <class T, class Body, class Op>
    requires std::is_invocable_r_v<T, Body&, std::size_t> && std::is_invocable_r_v<T, Op&, T, T>
  [[nodiscard]] T reduce(std::size_t first, std::size_t last, T init, Body&& body, Op&& op, loop_options options = {}) {
    return detail::parallel_reduce(usable(), first, last, std::move(init), body, op, options.grain);
  }

 private:
  template <class F, class... Args>
  static auto bind(F&& f, Args&&... args) {
    if constexpr (sizeof...(Args) == 0 && std::is_class_v<std::decay_t<F>>)
      return std::decay_t<F>(std::forward<F>(f));
    else
      return [f = std::decay_t<F>(std::forward<F>(f)),
              ... args = std::decay_t<Args>(std::forward<Args>(args))]() mutable -> decltype(auto) {
        return detail::invoke(std::move(f), std::move(args)...);
      };
  }

  template <class F>
  static auto drop_result(F f) {
    if constexpr (std::is_void_v<std::invoke_result_t<F>>)
      return f;
    else
      return [f = std::move(f)]() mutable { static_cast<void>(std::move(f)()); };
  }

  detail::scheduler& usable() const {
    if (scheduler_->left_behind()) [[unlikely]]
      throw forked_process();
    return *scheduler_;
  }

  template <class F, class... Args>
  auto submit_at(std::source_location at, F&& f, Args&&... args) {
    using result_type = detail::result_of_task<F, Args...>;
    if constexpr (std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>)
      return submit_task<result_type>(
          detail::make_task<result_type>(bind(std::forward<F>(f), std::forward<Args>(args)...), usable().id(), 0, at));
    else
      return submit({.at = at}, std::forward<F>(f), std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  void post_at(std::source_location at, F&& f, Args&&... args) {
    if constexpr (std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>)
      scheduler_->push(detail::make_task<void>(drop_result(bind(std::forward<F>(f), std::forward<Args>(args)...)),
                                               usable().id(), detail::task::no_future | detail::task::beyond_cancel,
                                               at));
    else
      post({.at = at}, std::forward<F>(f), std::forward<Args>(args)...);
  }
  template <class R, class F, class... Args>
  detail::task_ref<detail::state<R>> submit_with(task_options&& options, std::uint8_t flags, F&& f, Args&&... args) {
    constexpr bool can_repeat =
        std::is_copy_constructible_v<std::decay_t<F>> && (std::is_copy_constructible_v<std::decay_t<Args>> && ...);
    if (!can_repeat && options.max_retries > 0)
      throw bad_task_option(".max_retries = " + std::to_string(options.max_retries) +
                            " for a function, or arguments, that cannot be copied: each try would need its own");
    auto extras = std::make_unique<detail::task_extras>(std::move(options));
    const auto go = [&](auto bound) {
      auto call = [bound = std::move(bound)](bool again) mutable -> R {
        if constexpr (std::is_void_v<R>)
          static_cast<void>(bound(again));
        else
          return bound(again);
      };
      return detail::submit_configured<R>(usable(), std::move(call), std::move(extras), flags);
    };
    if constexpr (std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>) {
      return go(detail::bind_arguments(std::forward<F>(f), std::forward<Args>(args)...));
    } else {
      extras->source.emplace();
      std::stop_token token = extras->source->get_token();
      return go(detail::bind_arguments(std::forward<F>(f), std::move(token), std::forward<Args>(args)...));
    }
  }

  template <class R>
  future<R> submit_task(detail::state<R>* task) noexcept {
    detail::task_ref<detail::state<R>> result(task);
    scheduler_->push(task);
    return detail::future_access::make<R>(std::move(result));
  }

  friend detail::pool_id detail::id_of(const thread_pool& pool) noexcept;
  friend detail::scheduler& detail::scheduler_of(const thread_pool& pool);

  detail::scheduler* scheduler_ = nullptr;
  enum at_end at_end_;
};

inline detail::scheduler& detail::scheduler_of(const thread_pool& pool) { return pool.usable(); }
inline detail::pool_id detail::id_of(const thread_pool& pool) noexcept { return pool.scheduler_->id(); }

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/promise.hpp ----
#ifndef CADRE_ASYNC_PROMISE_HPP
#define CADRE_ASYNC_PROMISE_HPP

#include <concepts>
#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {

template <class T>
class promise_state final : public state<T> {
 public:
  promise_state(pool_id home, std::source_location at) noexcept : state<T>(home, task::no_closure, at) {
    this->publish(task::pending, 1);
  }
  void run() noexcept override {}  // never claimable
  void run_not() noexcept override {}
  void finish() noexcept { this->complete(task::completion::from_elsewhere); }
};

}  // namespace detail

/// The other end of a future that no task stands behind: set it once, from any thread. Destroyed unset, it leaves
/// broken_promise (202) in the future.
///
/// A task that waits for a promise holds a thread of its pool, which meanwhile runs other tasks.
///
/// Thread-safety: one thread at a time.
template <class T>
class promise {
 public:
  explicit promise(std::source_location at = std::source_location::current()) : promise(detail::no_pool, at) {}
  /// Continuations of the future run on `pool`.
  explicit promise(thread_pool& pool, std::source_location at = std::source_location::current())
      : promise(detail::id_of(pool), at) {}

  promise(promise&& other) noexcept = default;
  promise& operator=(promise&& other) noexcept {
    promise old(std::move(*this));
    state_ = std::move(other.state_);
    future_taken_ = other.future_taken_;
    satisfied_ = other.satisfied_;
    return *this;
  }
  ~promise() {
    if (!state_ || satisfied_) return;
    if (future_taken_ && state_->unshared()) return;  // the future is gone
    try {
      throw broken_promise();
    } catch (...) {
      state_->set_error(std::current_exception());
    }
    if (!future_taken_) state_->set_observed();  // then there is nobody to whom anything was promised
    state_->finish();
  }

  /// True if somebody has cancelled the future: nobody wants the value any more.
  [[nodiscard]] bool stop_requested() const noexcept { return state_ && state_->stop_requested(); }

  /// Once. Throws future_already_taken (204).
  [[nodiscard]] future<T> get_future() {
    if (!state_ || future_taken_) throw future_already_taken();
    future_taken_ = true;
    state_->retain();
    return detail::future_access::make<T>(detail::task_ref<detail::state<T>>(state_.get()));
  }

  /// Makes the value of the arguments. Throws promise_already_satisfied (203), or what making the value throws; the promise
  /// is then still open.
  template <class... Args>
    requires requires(detail::state<T>& s, Args&&... args) { s.set(std::forward<Args>(args)...); }
  void set_value(Args&&... args) {
    open().set(std::forward<Args>(args)...);
    close();
  }

  /// Throws promise_already_satisfied (203).
  void set_error(std::exception_ptr error) {
    open().set_error(std::move(error));
    close();
  }
  template <class E>
    requires std::derived_from<std::decay_t<E>, std::exception>
  void set_error(E&& error) {
    set_error(std::make_exception_ptr(std::forward<E>(error)));
  }

 private:
  promise(detail::pool_id home, std::source_location at) : state_(new detail::promise_state<T>(home, at)) {}

  detail::promise_state<T>& open() {
    if (!state_ || satisfied_) throw promise_already_satisfied();
    return *state_;
  }
  void close() noexcept {
    satisfied_ = true;
    // The one who gets the value may destroy this promise while finish() is still telling others.
    state_->retain();
    const detail::task_ref<detail::promise_state<T>> kept(state_.get());
    kept->finish();
  }

  detail::task_ref<detail::promise_state<T>> state_;
  bool future_taken_ = false;
  bool satisfied_ = false;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/shared_future.hpp ----
#ifndef CADRE_ASYNC_SHARED_FUTURE_HPP
#define CADRE_ASYNC_SHARED_FUTURE_HPP

#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {

template <class T>
using shared_reference_t = std::conditional_t<std::is_void_v<T>, void, std::add_lvalue_reference_t<const T>>;

template <class F, class T>
struct shared_then_result : task_result<F, const T&> {};
template <class F>
struct shared_then_result<F, void> : task_result<F> {};

}  // namespace detail

/// A result that any number of holders read: a copyable future, made by `std::move(f).share()`. The value lies where the
/// task has put it, is never moved, and lives as long as a shared_future of it.
///
/// An error is thrown to each who calls get(), as the same object, so who catches it by reference must not change it. The
/// handler of unobserved errors gets it only if nobody asked.
///
/// Thread-safety: all const members may run in several threads at once, on one object or on copies. What they do with a
/// value that is not const (T is a reference) is theirs to order.
template <class T>
class shared_future {
 public:
  using value_type = T;

  shared_future() noexcept = default;
  /// `f` is empty afterwards.
  shared_future(future<T>&& f) noexcept : state_(detail::future_access::take(std::move(f))) {}
  shared_future(const shared_future& other) noexcept : state_(other.state_.get()) {
    if (state_) state_->retain();
  }
  shared_future(shared_future&&) noexcept = default;
  shared_future& operator=(shared_future other) noexcept {
    state_ = std::move(other.state_);
    return *this;
  }
  ~shared_future() = default;

  /// False for one that was never set or was moved from.
  [[nodiscard]] bool valid() const noexcept { return static_cast<bool>(state_); }

  /// True if get() would not wait. Throws empty_future (201).
  [[nodiscard]] bool ready() const { return checked("ready()").done(); }

  /// Throws empty_future (201). This and the waits below: as those of future.
  void wait() const { static_cast<void>(detail::wait_for_task(checked("wait()"))); }

  /// False if the time passed first. Throws empty_future (201).
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& timeout) const {
    return detail::wait_for_task(checked("wait_for()"), detail::deadline_after(timeout));
  }

  /// As wait_for(); on another clock than steady_clock, the time left is looked at once.
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(const std::chrono::time_point<Clock, Duration>& deadline) const {
    return wait_for(deadline - Clock::now());
  }

  /// Waits, then gives `const T&` (T& for a reference, nothing for void), valid as long as a shared_future of this result
  /// lives; or throws what the task threw. As often as one likes. Throws empty_future (201).
  detail::shared_reference_t<T> get() const& {
    detail::state<T>& s = checked("get()");
    static_cast<void>(detail::wait_for_task(s));
    if (s.failed()) {
      s.set_observed();
      std::rethrow_exception(s.error());
    }
    return s.value();
  }
  /// Of a temporary, which may be the last holder: a copy.
  T get() const&& { return get_of_this(); }

  /// A new task `f(const T&)` (`f(T&)`, `f()`) that the same pool runs once this one is done: the future of its result. Any
  /// number of them may follow; each keeps the value alive. If this task fails, `f` is not called and its error passes on.
  /// Without a pool as future::then(). Throws empty_future (201).
  template <class F>
  auto then(F&& f, std::source_location at = std::source_location::current()) const {
    return follow(checked("then()").home(), std::forward<F>(f), at);
  }

  /// The same, run by another pool.
  template <class F>
  auto then(thread_pool& pool, F&& f, std::source_location at = std::source_location::current()) const {
    return follow(detail::id_of(pool), std::forward<F>(f), at);
  }

  /// Asks the task to stop, for all who share it: as future::cancel(). Throws empty_future (201).
  bool cancel() const { return detail::cancel(checked("cancel()")); }

 private:
  friend struct detail::future_access;

  detail::state<T>& checked(const char* call) const {
    if (!state_) [[unlikely]]
      throw empty_future(call);
    return *state_;
  }

  detail::shared_reference_t<T> get_of_this() const { return get(); }

  template <class F>
  auto follow(detail::pool_id home, F&& f, std::source_location at) const {
    using result_type = typename detail::shared_then_result<std::decay_t<F>, T>::type;
    detail::state<T>& s = checked("then()");
    s.retain();
    return detail::make_then<detail::follows::shared_value, result_type>(
        std::forward<F>(f), detail::task_ref<detail::state<T>>(&s), home, at);
  }

  detail::task_ref<detail::state<T>> state_;
};

template <class T>
shared_future<T> future<T>::share() && {
  static_cast<void>(checked("share()"));
  return shared_future<T>(std::move(*this));
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/this_task.hpp ----
#ifndef CADRE_ASYNC_THIS_TASK_HPP
#define CADRE_ASYNC_THIS_TASK_HPP

#include <string_view>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// What a task can ask about itself. Outside of tasks the answers are those of one without options.
namespace this_task {

/// True if the task, or one that it descends from, has been cancelled: it should end soon. One relaxed load.
[[nodiscard]] inline bool stop_requested() noexcept {
  const detail::task* const t = detail::current_task();
  return t != nullptr && t->stop_requested();
}

/// What it was called; empty if it was not.
[[nodiscard]] inline std::string_view name() noexcept {
  const detail::task* const t = detail::current_task();
  return t != nullptr ? t->name() : std::string_view();
}

/// How many processors it may use: what it asked for, rounded down, and 1 at least.
[[nodiscard]] inline int cpus() noexcept {
  detail::task* const t = detail::current_task();
  const detail::task_extras* const e = t != nullptr ? t->extras() : nullptr;
  return e != nullptr ? e->processors : 1;
}

/// The devices that it holds, or a part of one of, in rising order: 0 <= id < the pool's "gpu".
[[nodiscard]] inline std::vector<int> gpus() {
  std::vector<int> ids;
  detail::task* const t = detail::current_task();
  if (const detail::task_extras* const e = t != nullptr ? t->extras() : nullptr; e != nullptr && e->share != nullptr)
    for (const auto& d : e->share->devices) ids.push_back(d.id);
  return ids;
}

}  // namespace this_task

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/wait.hpp ----
#ifndef CADRE_ASYNC_WAIT_HPP
#define CADRE_ASYNC_WAIT_HPP

#include <cstddef>
#include <iterator>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Positions in the futures that wait() was given, each in rising order.
struct wait_result {
  std::vector<std::size_t> ready;
  std::vector<std::size_t> pending;
};

namespace detail {

template <class Range>
concept range_of_futures = requires(const Range& r) {
  std::size(r);
  static_cast<task*>(future_access::get(*std::begin(r)));
};

template <range_of_futures Range>
wait_result wait_some(const Range& futures, std::size_t wanted, time_point deadline) {
  const std::size_t n = std::size(futures);
  if (wanted > n) throw impossible_wait(wanted, n);
  std::vector<watch> watches(n);
  std::size_t next = 0;
  for (const auto& f : futures) {
    task* const target = future_access::get(f);
    if (target == nullptr) throw empty_future("wait()");
    watches[next++].target = target;
  }
  static_cast<void>(wait_frame(watches, wanted).run(deadline));
  wait_result result;
  for (std::size_t i = 0; i < n; ++i) (watches[i].target->done() ? result.ready : result.pending).push_back(i);
  return result;
}

}  // namespace detail

/// Waits until at least `wanted` of the futures, or shared futures, of a range with a size are ready; none is consumed. All
/// that are ready at the end are named, which may be more. Throws impossible_wait (205) if there are fewer futures,
/// empty_future (201) if one is empty.
template <detail::range_of_futures Range>
[[nodiscard]] wait_result wait(const Range& futures, std::size_t wanted) {
  return detail::wait_some(futures, wanted, detail::time_point::max());
}

/// The same, giving up after `timeout`: `ready` is then shorter than `wanted`.
template <detail::range_of_futures Range, class Rep, class Period>
[[nodiscard]] wait_result wait(const Range& futures, std::size_t wanted,
                               const std::chrono::duration<Rep, Period>& timeout) {
  return detail::wait_some(futures, wanted, detail::deadline_after(timeout));
}

/// The values of all futures, in their order, once all are done: none of the tasks still runs when this returns or throws.
/// Throws the error of the first that failed; the futures behind that one keep their values. Throws empty_future (201),
/// before waiting, if one is empty.
template <class T>
  requires(!std::is_reference_v<T>)
auto get(std::vector<future<T>>& futures) {
  for (const future<T>& f : futures)
    if (!f.valid()) throw empty_future("get()");
  for (const future<T>& f : futures) f.wait();
  if constexpr (std::is_void_v<T>) {
    for (future<T>& f : futures) f.get();
  } else {
    std::vector<T> values;
    values.reserve(futures.size());
    for (future<T>& f : futures) values.push_back(f.get());
    return values;
  }
}
template <class T>
  requires(!std::is_reference_v<T>)
auto get(std::vector<future<T>>&& futures) {
  return get(futures);
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/when_all.hpp ----
#ifndef CADRE_ASYNC_WHEN_ALL_HPP
#define CADRE_ASYNC_WHEN_ALL_HPP

#include <atomic>
#include <cstddef>
#include <memory>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// What stands for void where a value is needed, as in the tuple of when_all().
struct unit {
  friend constexpr bool operator==(unit, unit) noexcept { return true; }
};

namespace detail {

/// A task done when some others are; the last of them to finish calls gather(), which collects their results.
template <class R>
class join_state : public state<R> {
 public:
  struct part : continuation {
    part() noexcept : continuation(&told) {}
    static task* told(continuation& c, wish w) noexcept {
      join_state& owner = *static_cast<part&>(c).owner;
      if (w == wish::name_owner) return &owner;
      owner.one_done();
      return nullptr;
    }
    join_state* owner = nullptr;
  };

  explicit join_state(pool_id home, std::source_location at) noexcept
      : state<R>(home, task::no_closure | task::hears_stop, at) {}
  void run() noexcept override {}  // never claimable
  void run_not() noexcept override {}

  /// Who cancels the whole cancels the parts, as long as they are there.
  void on_stop() noexcept override {
    std::size_t n = remaining_.load(std::memory_order_relaxed);
    while (n != 0)
      if (remaining_.compare_exchange_weak(n, n + 1, std::memory_order_acquire, std::memory_order_relaxed)) {
        stop_parts();
        one_done();
        return;
      }
  }

 protected:
  /// One for each part and one for the end of the set-up.
  void expect(std::size_t parts) noexcept {
    remaining_.store(parts + 1, std::memory_order_relaxed);
    this->publish(task::pending, 2);
  }
  void watch(task& t, part& p) noexcept {
    p.owner = this;
    if (!t.add(p)) one_done();
  }
  void one_done() noexcept {
    if (remaining_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    gather();
    if (this->failed() && says_cancelled(this->error())) this->set_observed();
    this->complete(task::completion::from_elsewhere);
    this->release();
  }

 private:
  virtual void gather() noexcept = 0;
  virtual void stop_parts() noexcept = 0;

  std::atomic<std::size_t> remaining_{1};
};

template <class T>
using joined_vector_t =
    std::conditional_t<std::is_void_v<T>, std::type_identity<void>, std::type_identity<std::vector<T>>>;

template <class T, class R = typename joined_vector_t<T>::type>
class vector_join final : public join_state<R> {
 public:
  vector_join(std::vector<future<T>> futures, std::source_location at)
      : join_state<R>(futures.empty() ? no_pool : future_access::get(futures.front())->home(), at),
        futures_(std::move(futures)),
        parts_(futures_.size()) {}

  void begin() noexcept {
    this->expect(parts_.size());
    for (std::size_t i = 0; i < parts_.size(); ++i) this->watch(*future_access::get(futures_[i]), parts_[i]);
    this->one_done();
  }

 private:
  void gather() noexcept override {
    set_from(static_cast<state<R>&>(*this), [this]() -> R {
      if constexpr (std::is_void_v<T>) {
        for (future<T>& f : futures_) f.get();
      } else {
        R values;
        values.reserve(futures_.size());
        for (future<T>& f : futures_) values.push_back(f.get());
        return values;
      }
    });
    futures_.clear();  // errors behind the first go to the handler now
  }

  void stop_parts() noexcept override {
    for (const future<T>& f : futures_) detail::cancel(*future_access::get(f));
  }

  std::vector<future<T>> futures_;
  std::vector<typename join_state<R>::part> parts_;
};

template <class T>
using tuple_element_for = std::conditional_t<std::is_void_v<T>, unit, T>;

template <class T>
tuple_element_for<T> get_or_unit(future<T>& f) {
  if constexpr (std::is_void_v<T>) {
    f.get();
    return {};
  } else {
    return f.get();
  }
}

template <class... T>
class tuple_join final : public join_state<std::tuple<tuple_element_for<T>...>> {
  using result_type = std::tuple<tuple_element_for<T>...>;

 public:
  tuple_join(pool_id home, std::source_location at, future<T>&&... futures)
      : join_state<result_type>(home, at), futures_(std::move(futures)...) {}

  void begin() noexcept {
    this->expect(sizeof...(T));
    std::apply(
        [this](future<T>&... f) {
          std::size_t i = 0;
          (this->watch(*future_access::get(f), parts_[i++]), ...);
        },
        futures_);
    this->one_done();
  }

 private:
  void gather() noexcept override {
    set_from(static_cast<state<result_type>&>(*this), [this] {
      return std::apply([](future<T>&... f) { return result_type{get_or_unit(f)...}; }, futures_);  // braces: in order
    });
    futures_ = {};
  }

  void stop_parts() noexcept override {
    std::apply([](const future<T>&... f) { (detail::cancel(*future_access::get(f)), ...); }, futures_);
  }

  std::tuple<future<T>...> futures_;
  typename join_state<result_type>::part parts_[sizeof...(T)];
};

}  // namespace detail

/// A future of all values, in the order of the futures, ready when all of them are. If some fail it holds the error of the
/// first in order, and the handler of unobserved errors gets the others. Continuations run where those of the first future
/// would. For void: a future<void>. Throws empty_future (201).
template <class T>
  requires(!std::is_reference_v<T>)
auto when_all(std::vector<future<T>> futures, std::source_location at = std::source_location::current()) {
  for (const future<T>& f : futures)
    if (!f.valid()) throw empty_future("when_all()");
  using join_type = detail::vector_join<T>;
  auto* const join = new join_type(std::move(futures), at);
  auto result =
      detail::future_access::make(detail::task_ref<detail::state<typename detail::joined_vector_t<T>::type>>(join));
  join->begin();
  return result;
}

/// The same for futures of different types: a future of a std::tuple, with cadre::unit in the place of void.
template <class First, class... Rest>
[[nodiscard]] auto when_all(future<First> first, future<Rest>... rest) {
  if (!first.valid() || !(rest.valid() && ...)) throw empty_future("when_all()");
  using join_type = detail::tuple_join<First, Rest...>;
  const detail::pool_id home = detail::future_access::get(first)->home();
  auto* const join = new join_type(home, {}, std::move(first), std::move(rest)...);
  auto result = detail::future_access::make(
      detail::task_ref<detail::state<std::tuple<detail::tuple_element_for<First>, detail::tuple_element_for<Rest>...>>>(
          join));
  join->begin();
  return result;
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/when_any.hpp ----
#ifndef CADRE_ASYNC_WHEN_ANY_HPP
#define CADRE_ASYNC_WHEN_ANY_HPP

#include <atomic>
#include <cstddef>
#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// What when_any() gives: which future was the first, and its value. Without `value` for void.
template <class T>
struct any_result {
  std::size_t index;
  T value;
};
template <>
struct any_result<void> {
  std::size_t index;
};

namespace detail {

/// Done when the first of some tasks is. Lives until all of them are, since it stands in their lists.
template <class T>
class any_state final : public state<any_result<T>> {
 public:
  any_state(std::vector<future<T>> futures, std::source_location at)
      : state<any_result<T>>(future_access::get(futures.front())->home(), task::no_closure | task::hears_stop, at),
        parts_(futures.size()),
        remaining_(futures.size() + 1) {
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      parts_[i].owner = this;
      parts_[i].watched = future_access::take(std::move(futures[i]));
    }
  }
  void run() noexcept override {}  // never claimable
  void run_not() noexcept override {}

  void begin() noexcept {
    this->publish(task::pending, 2);
    for (part& p : parts_)
      if (!p.watched->add(p)) over(p);
    one_less();
  }

  /// Who cancels the whole cancels the parts, as long as they are there.
  void on_stop() noexcept override {
    std::size_t n = remaining_.load(std::memory_order_relaxed);
    while (n != 0)
      if (remaining_.compare_exchange_weak(n, n + 1, std::memory_order_acquire, std::memory_order_relaxed)) {
        stop_all_but(nullptr);
        one_less();
        return;
      }
  }

 private:
  struct part : continuation {
    part() noexcept : continuation(&told) {}
    static task* told(continuation& c, wish w) noexcept {
      if (w == wish::name_owner) return nullptr;  // another part may come first
      part& p = static_cast<part&>(c);
      p.owner->over(p);
      return nullptr;
    }
    any_state* owner = nullptr;
    task_ref<state<T>> watched;
  };

  // First those that have not begun, lest they take the threads of the others.
  void stop_all_but(const part* one) noexcept {
    for (part& p : parts_)
      if (&p != one && !p.watched->is_running()) detail::cancel(*p.watched);
    for (part& p : parts_)
      if (&p != one) detail::cancel(*p.watched);
  }

  void over(part& p) noexcept {
    if (!decided_.exchange(true, std::memory_order_relaxed))
      win(p);
    else
      lose(*p.watched);
    one_less();
  }

  void win(part& p) noexcept {
    stop_all_but(&p);
    state<T>& first = *p.watched;
    if (first.failed()) {
      this->set_error(std::move(first.error()));
      if (first.set_observed()) this->set_observed();
    } else {
      const auto index = static_cast<std::size_t>(&p - parts_.data());
      set_from(static_cast<state<any_result<T>>&>(*this), [&]() -> any_result<T> {
        if constexpr (std::is_void_v<T>)
          return {index};
        else
          return {index, first.take()};
      });
    }
    this->complete(task::completion::from_elsewhere);
  }

  // It was asked to stop. That it did so, a task says by task_cancelled, a promise by its end.
  static void lose(state<T>& other) noexcept {
    if (!other.failed() || other.observed()) return;
    try {
      std::rethrow_exception(other.error());
    } catch (const task_cancelled&) {
      other.set_observed();
    } catch (const broken_promise&) {
      other.set_observed();
    } catch (...) {  // for the handler of unobserved errors
    }
  }

  void one_less() noexcept {
    if (remaining_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    for (part& p : parts_) p.watched = {};
    this->release();
  }

  std::vector<part> parts_;
  std::atomic<std::size_t> remaining_;  // parts that are not done, and one for the end of begin()
  std::atomic<bool> decided_{false};
};

template <class T>
future<any_result<T>> first_of(std::vector<future<T>> futures, std::source_location at) {
  if (futures.empty()) throw impossible_wait(1, 0);
  for (const future<T>& f : futures)
    if (!f.valid()) throw empty_future("when_any()");
  auto* const any = new any_state<T>(std::move(futures), at);
  auto result = future_access::make(task_ref<state<any_result<T>>>(any));
  any->begin();
  return result;
}

}  // namespace detail

/// A future of the first of the futures to become ready, be it with a value or an error (which get() then throws). Of
/// several that are ready at the call it is the one of the lowest index; later, whichever is done first.
///
/// The others are asked to stop before the result is ready, as by future::cancel(): those that have not begun by then never
/// will, and the result waits for none that goes on. What they give is dropped; an error of theirs other than task_cancelled
/// (206) and broken_promise (202) goes to the handler of unobserved errors. To use the others' results too, see wait().
///
/// Cancelling the result cancels all. Continuations run where those of the first in order would. Throws impossible_wait
/// (205) if there is no future, empty_future (201) if one is empty. Cost: an allocation, and what future::cancel() costs
/// for each.
template <class T>
[[nodiscard]] future<any_result<T>> when_any(std::vector<future<T>> futures,
                                             std::source_location at = std::source_location::current()) {
  return detail::first_of(std::move(futures), at);
}

/// The same for some futures of one type. Of different types, make it one by then().
template <class T, class... Rest>
[[nodiscard]] future<any_result<T>> when_any(future<T> first, future<Rest>... rest) {
  static_assert((std::is_same_v<T, Rest> && ...), "when_any() is of futures of one type: make it one by then()");
  std::vector<future<T>> futures;
  futures.reserve(1 + sizeof...(Rest));
  futures.push_back(std::move(first));
  (futures.push_back(std::move(rest)), ...);
  return detail::first_of(std::move(futures), {});
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/async.hpp ----
#ifndef CADRE_ASYNC_HPP
#define CADRE_ASYNC_HPP

/// Tasks and futures on a work-stealing pool: docs/async.md.

#endif

// ---- cadre/async/blocking.hpp ----
#ifndef CADRE_ASYNC_BLOCKING_HPP
#define CADRE_ASYNC_BLOCKING_HPP

#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Returns `f()`, which blocks in the system: reads a socket, waits for a lock of another library. Inside a task one more
/// thread of the pool takes tasks meanwhile, so that the pool neither loses a processor nor hangs when what the task
/// blocks for is to be done by the pool itself. Elsewhere it only calls.
///
/// What `f` throws passes. Cost: under a microsecond, and the start of a thread when more block at once than ever before; up
/// to 256 such threads are kept for the next time. When no further thread can be had, the call is made all the same.
template <class F>
  requires std::is_invocable_v<F>
decltype(auto) blocking(F&& f) {
  const detail::stand_in other;
  return std::forward<F>(f)();
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/channel.hpp ----
#ifndef CADRE_ASYNC_CHANNEL_HPP
#define CADRE_ASYNC_CHANNEL_HPP

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <iterator>
#include <mutex>
#include <optional>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// A bounded queue between tasks or threads, to stream results: who sends faster than the other side receives waits.
///
///     cadre::channel<frame> frames{16};
///     auto reader = pool.submit([&] { while (...) frames.send(next_frame()); frames.close(); });
///     for (frame& f : frames) show(f);
///
/// Values arrive in the order in which they were sent; of several receivers each value goes to one. A wait in a task
/// blocks its thread, and another one stands in for it meanwhile: sender and receiver may be tasks of a pool of one thread.
///
/// Owns what is in it. Thread-safety: all functions, from any number of threads, but destruction. Cost: a lock, and no
/// allocation per value once the queue has grown to its size.
template <class T>
class channel {
 public:
  /// At most `capacity` values lie in it. Throws bad_channel (212) if that is 0.
  explicit channel(std::size_t capacity) : capacity_(capacity) {
    if (capacity == 0) throw bad_channel();
  }
  channel(const channel&) = delete;
  channel& operator=(const channel&) = delete;

  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  /// How many values lie in it, at this moment.
  [[nodiscard]] std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return values_.size();
  }

  /// Waits for room. Throws channel_closed (213) if the channel is closed, also while it waits.
  void send(T value) { static_cast<void>(send_by(std::move(value), detail::time_point::max())); }
  /// The same; false if there was no room in time, and `value` is then what it was.
  template <class Rep, class Period>
  [[nodiscard]] bool send_for(T& value, const std::chrono::duration<Rep, Period>& timeout) {
    return send_by(std::move(value), detail::deadline_after(timeout));
  }
  template <class Rep, class Period>
  [[nodiscard]] bool send_for(T&& value, const std::chrono::duration<Rep, Period>& timeout) {
    return send_by(std::move(value), detail::deadline_after(timeout));
  }
  /// Does not wait; false if there is no room, and `value` is then what it was. Throws channel_closed (213).
  [[nodiscard]] bool try_send(T& value) { return send_by(std::move(value), detail::time_point::min()); }
  [[nodiscard]] bool try_send(T&& value) { return send_by(std::move(value), detail::time_point::min()); }

  /// Waits for a value; nothing if the channel is closed and all values have been received. If it was closed with an error,
  /// throws that then.
  [[nodiscard]] std::optional<T> receive() { return receive_by(detail::time_point::max()); }
  /// The same; nothing also if no value came in time: ask is_over() which.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> receive_for(const std::chrono::duration<Rep, Period>& timeout) {
    return receive_by(detail::deadline_after(timeout));
  }
  [[nodiscard]] std::optional<T> try_receive() { return receive_by(detail::time_point::min()); }

  /// No more values: receivers get what lies in it and then nothing, or `error`; senders get channel_closed (213). A second
  /// call changes nothing.
  void close(std::exception_ptr error = nullptr) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return;
      closed_ = true;
      error_ = std::move(error);
    }
    has_value_.notify_all();
    has_room_.notify_all();
  }
  /// Closed, and all values have been received.
  [[nodiscard]] bool is_over() const {
    const std::lock_guard lock(mutex_);
    return closed_ && values_.empty();
  }

  /// Receives one value after the other until the channel is over. One pass.
  class iterator {
   public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    explicit iterator(channel& c) : channel_(&c), value_(c.receive()) {}
    T& operator*() noexcept { return *value_; }
    iterator& operator++() {
      value_ = channel_->receive();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& i, std::default_sentinel_t) noexcept { return !i.value_; }

   private:
    channel* channel_;
    std::optional<T> value_;
  };
  [[nodiscard]] iterator begin() { return iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  bool send_by(T&& value, detail::time_point deadline) {
    {
      std::unique_lock lock(mutex_);
      if (!wait(lock, has_room_, deadline, [this] { return closed_ || values_.size() < capacity_; })) return false;
      if (closed_) throw channel_closed();
      values_.push_back(std::move(value));
    }
    has_value_.notify_one();
    return true;
  }

  std::optional<T> receive_by(detail::time_point deadline) {
    std::optional<T> value;
    {
      std::unique_lock lock(mutex_);
      if (!wait(lock, has_value_, deadline, [this] { return closed_ || !values_.empty(); })) return value;
      if (values_.empty()) {
        if (error_) std::rethrow_exception(error_);
        return value;
      }
      value.emplace(std::move(values_.front()));
      values_.pop_front();
    }
    has_room_.notify_one();
    return value;
  }

  // False if the deadline has passed; time_point::min() does not wait at all.
  template <class Condition>
  static bool wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, detail::time_point deadline,
                   Condition condition) {
    if (condition()) return true;
    if (deadline == detail::time_point::min()) return false;
    lock.unlock();
    const detail::stand_in other;
    lock.lock();
    if (deadline != detail::time_point::max()) return changed.wait_until(lock, deadline, condition);
    changed.wait(lock, condition);
    return true;
  }

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable has_value_, has_room_;
  std::deque<T> values_;
  bool closed_ = false;
  std::exception_ptr error_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/coroutine.hpp ----
#ifndef CADRE_ASYNC_DETAIL_COROUTINE_HPP
#define CADRE_ASYNC_DETAIL_COROUTINE_HPP

#include <sched.h>

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// A piece of work that lies in a coroutine's frame and lets it go on.
class resumption : public task {
 public:
  explicit resumption(pool_id home) noexcept : task(home, task::bare, {}) {}
  ~resumption() override = default;
  void run_not() noexcept override {}  // bare tasks always run
  [[nodiscard]] std::exception_ptr& error() noexcept override { return none_; }

 private:
  std::exception_ptr none_;
};

/// What a coroutine's task knows of its frame, and the race for it. Three say something: the coroutine that it is
/// suspended, the task waited for that it is done, the one who cancels that the coroutine is to stop. The second to come
/// ends the wait: as the coroutine, by going on at once; as one of the others, by scheduling it. Whoever comes later does
/// nothing. Having said so, nobody touches the coroutine any more, unless it is its turn to schedule.
class coroutine_core {
 public:
  /// False if the coroutine is to go on at once.
  [[nodiscard]] bool suspend() noexcept { return !(say(suspended) & (told | stopped)); }
  /// True if the caller is to schedule it. So below.
  [[nodiscard]] bool tell() noexcept { return (say(told) & (suspended | stopped)) == suspended; }
  [[nodiscard]] bool tell_to_stop() noexcept { return (say(stopped) & (suspended | told)) == suspended; }

  [[nodiscard]] bool was_told() const noexcept { return said_.load(std::memory_order_acquire) & told; }
  /// The wait is over. That it is to stop remains.
  void begin_anew() noexcept { said_.fetch_and(stopped, std::memory_order_acq_rel); }

  /// The frame is gone: the future becomes ready. Gives back the coroutine's reference.
  virtual void end(bool of_its_run) noexcept = 0;
  /// The same for one that was cancelled before it began.
  virtual void end_not_begun() noexcept = 0;

 protected:
  ~coroutine_core() = default;

 private:
  enum : std::uint32_t { suspended = 1, told = 2, stopped = 4 };
  std::uint32_t say(std::uint32_t what) noexcept { return said_.fetch_or(what, std::memory_order_acq_rel); }

  std::atomic<std::uint32_t> said_{0};
};

/// What future<T> of a coroutine refers to.
template <class T>
class coroutine_task final : public state<T>, public coroutine_core {
 public:
  coroutine_task(pool_id home, resumption& next, std::source_location at) noexcept
      : state<T>(home, task::no_closure | task::hears_stop, at), next_(next) {}
  void run() noexcept override {}  // never claimable: it is its resumption that is queued
  void run_not() noexcept override {}
  void on_stop() noexcept override {
    if (this->tell_to_stop()) schedule(&next_);
  }
  void end(bool of_its_run) noexcept override {
    this->complete(of_its_run ? task::completion::of_its_run : task::completion::from_elsewhere);
    this->release();
  }
  void end_not_begun() noexcept override {
    set_cancelled(*this);
    end(false);
  }

 private:
  resumption& next_;  // in the frame
};

/// The part of a coroutine's promise that is the same for all.
///
/// All functions that the compiler calls at a suspension are out of line: clang before 17 may otherwise keep their
/// variables in the frame, which is not theirs any more when another thread goes on with it.
class coroutine_base {
 public:
  coroutine_base(const coroutine_base&) = delete;
  coroutine_base& operator=(const coroutine_base&) = delete;

  // Frames lie in recycled nodes too, behind the bytes by which tasks are found there. They begin with a pointer to the
  // code, or should: see beginning.
  // Neither is inlined: of only one, g++ 12 says that what it sees inside does not match the other.
  [[gnu::noinline]] static void* operator new(std::size_t bytes) {
    void* const frame = bytes <= largest_frame
                            ? static_cast<std::byte*>(node_memory::allocate(bytes + frame_offset)) + frame_offset
                            : ::operator new(bytes);
    *static_cast<void* volatile*>(frame) = nullptr;
    return frame;
  }
  [[gnu::noinline]] static void operator delete(void* frame, std::size_t bytes) noexcept {
    if (bytes > largest_frame) return ::operator delete(frame);
    node_memory::release(static_cast<std::byte*>(frame) - frame_offset, bytes + frame_offset);
  }

  struct beginning {
    coroutine_base& coroutine;
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    [[gnu::noinline]] void await_suspend(std::coroutine_handle<> frame) const {
      coroutine.frame_ = frame;
      // g++ 12 puts a variable in front of that pointer if the first statement of a coroutine is an `if` with a co_await.
      if (frame.done()) throw miscompiled_coroutine(describe(coroutine.task_->name(), coroutine.task_->at()));
      if (coroutine.begins_on_pool_)
        schedule(&coroutine.next_);
      else
        coroutine.go_on(false);
    }
    void await_resume() const noexcept {}
  };
  struct ending {
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <class Promise>
    [[gnu::noinline]] void await_suspend(std::coroutine_handle<Promise> frame) const noexcept {
      *frame.promise().over_ = true;
    }
    void await_resume() const noexcept {}
  };
  beginning initial_suspend() noexcept { return {*this}; }
  ending final_suspend() noexcept { return {}; }

  [[nodiscard]] bool stop_requested() const noexcept { return task_->stop_requested(); }
  void throw_if_stopped() const {
    if (stop_requested()) throw task_cancelled(describe(task_->name(), task_->at()), "before it could go on");
  }

  /// Suspends until `t` is done or the coroutine is to stop. False if it is to go on at once; else another thread may be
  /// running it by now.
  [[nodiscard]] bool suspend_until(task& t) noexcept {
    if (next_.home() == no_pool && t.home() != no_pool) move_to(t.home());
    coroutine_core& core = *core_;
    awaited_ = &t;
    if (t.add(step_)) return core.suspend();
    awaited_ = nullptr;
    return false;
  }
  /// After a suspension: once this returns, nobody else knows of it.
  void end_wait() noexcept {
    task* const t = std::exchange(awaited_, nullptr);
    if (t == nullptr) return;
    if (!core_->was_told() && !t->remove(step_))
      while (!core_->was_told()) ::sched_yield();  // at this moment
    core_->begin_anew();
  }

  void move_to(pool_id home) noexcept {
    if (next_.home() == home) return;
    std::destroy_at(&next_);
    std::construct_at(&next_, home, *this);
  }
  void suspend_and_move_to(pool_id home) noexcept {
    move_to(home);
    schedule(&next_);
  }

 protected:
  explicit coroutine_base(const thread_pool* pool) noexcept
      : next_(pool != nullptr ? id_of(*pool) : pool_here(), *this), begins_on_pool_(pool != nullptr), step_(*this) {}
  ~coroutine_base() = default;

  template <class T>
  future<T> make_task(std::source_location at) {
    auto* const t = new coroutine_task<T>(next_.home(), next_, at);
    task_ref<state<T>> result(t);
    task_ = t;
    core_ = t;
    t->set_parent();
    t->publish(task::pending, 2);
    return future_access::make<T>(std::move(result));
  }
  [[nodiscard]] task& own_task() const noexcept { return *task_; }

 private:
  static constexpr std::size_t frame_offset = sizeof(void*) + node_memory::lasting;
  static constexpr std::size_t largest_frame = node_memory::largest - frame_offset;
  static_assert(frame_offset % __STDCPP_DEFAULT_NEW_ALIGNMENT__ == 0);

  class next_part final : public resumption {
   public:
    next_part(pool_id home, coroutine_base& c) noexcept : resumption(home), coroutine_(c) {}
    void run() noexcept override { coroutine_.go_on(this_context().here == nullptr); }

   private:
    coroutine_base& coroutine_;
  };
  struct step : continuation {
    explicit step(coroutine_base& c) noexcept : continuation(&told), coroutine(&c) {}
    static task* told(continuation& c, wish w) noexcept {
      coroutine_base& self = *static_cast<step&>(c).coroutine;
      if (w == wish::name_owner) return self.task_;
      task* const next = &self.next_;
      return self.core_->tell() ? next : nullptr;
    }
    coroutine_base* coroutine;
  };

  static pool_id pool_here() noexcept {
    const worker* const w = this_worker();
    return w != nullptr ? w->home->id() : no_pool;
  }

  // Runs it until it is suspended or over. Only in the second case is there still something of it to be touched.
  [[gnu::noinline]] void go_on(bool of_its_run) noexcept {
    const std::coroutine_handle<> frame = frame_;
    coroutine_core& core = *core_;
    if (!std::exchange(begun_, true) && stop_requested()) {
      frame.destroy();
      core.end_not_begun();
      return;
    }
    thread_context& context = this_context();
    running_frame here{task_, context.top};
    context.top = &here;
    bool over = false;
    over_ = &over;
    frame.resume();
    if (over) frame.destroy();  // what it holds is gone before anybody is told
    context.top = here.outer;
    if (over) core.end(of_its_run);
  }

  next_part next_;
  const bool begins_on_pool_;
  bool begun_ = false;
  step step_;
  std::coroutine_handle<> frame_;
  task* task_ = nullptr;
  coroutine_core* core_ = nullptr;
  task* awaited_ = nullptr;
  bool* over_ = nullptr;  // of the go_on() under way
};

/// `co_await` of a future, or a shared one; F as of a forwarding reference.
template <class F>
class future_await {
 public:
  future_await(coroutine_base& coroutine, F&& f) : coroutine_(coroutine), future_(std::forward<F>(f)) {
    if (!future_.valid()) throw empty_future("co_await");
  }
  [[nodiscard]] bool await_ready() const noexcept {
    return coroutine_.stop_requested() || future_access::get(future_)->done();
  }
  [[gnu::noinline]] bool await_suspend(std::coroutine_handle<>) noexcept {
    return coroutine_.suspend_until(*future_access::get(future_));
  }
  decltype(auto) await_resume() {
    coroutine_.end_wait();
    coroutine_.throw_if_stopped();
    return std::forward<F>(future_).get();
  }

 private:
  coroutine_base& coroutine_;
  F&& future_;
};

struct reschedule {
  pool_id pool;
};
struct reschedule_await {
  coroutine_base& coroutine;
  pool_id pool;
  [[nodiscard]] bool await_ready() const noexcept { return coroutine.stop_requested(); }
  [[gnu::noinline]] void await_suspend(std::coroutine_handle<>) const noexcept { coroutine.suspend_and_move_to(pool); }
  void await_resume() const { coroutine.throw_if_stopped(); }
};

/// What `co_return` does, for each kind of result.
template <class T>
class coroutine_result : public coroutine_base {
 public:
  template <class U = T>
    requires std::is_constructible_v<T, U&&>
  void return_value(U&& value) {
    static_cast<state<T>&>(own_task()).set(std::forward<U>(value));
  }

 protected:
  using coroutine_base::coroutine_base;
};
template <class T>
class coroutine_result<T&> : public coroutine_base {
 public:
  void return_value(T& value) { static_cast<state<T&>&>(own_task()).set(value); }

 protected:
  using coroutine_base::coroutine_base;
};
template <>
class coroutine_result<void> : public coroutine_base {
 public:
  void return_void() noexcept {}

 protected:
  using coroutine_base::coroutine_base;
};

template <class T>
class coroutine_promise final : public coroutine_result<T> {
 public:
  /// Called with the coroutine's parameters.
  template <class... Parameters>
  explicit coroutine_promise(Parameters&... parameters) noexcept : coroutine_result<T>(pool_among(parameters...)) {}

  future<T> get_return_object(std::source_location at = std::source_location::current()) {
    return this->template make_task<T>(at);
  }
  void unhandled_exception() noexcept {
    auto& t = static_cast<state<T>&>(this->own_task());
    t.set_error(std::current_exception());
    if (t.stop_requested() && says_cancelled(t.error())) t.set_observed();
  }

  template <class U>
  future_await<future<U>&> await_transform(future<U>& f) {
    return {*this, f};
  }
  template <class U>
  future_await<future<U>> await_transform(future<U>&& f) {
    return {*this, std::move(f)};
  }
  template <class U>
  future_await<const shared_future<U>&> await_transform(const shared_future<U>& f) {
    return {*this, f};
  }
  template <class U>
  future_await<const shared_future<U>> await_transform(const shared_future<U>&& f) {
    return {*this, std::move(f)};
  }
  reschedule_await await_transform(reschedule to) noexcept { return {*this, to.pool}; }

 private:
  template <class... Parameters>
  static const thread_pool* pool_among(Parameters&... parameters) noexcept {
    const thread_pool* pool = nullptr;
    [[maybe_unused]] const auto look = [&pool]<class P>(P& p) {
      if constexpr (std::is_same_v<P, thread_pool>)
        if (pool == nullptr) pool = &p;
    };
    (look(parameters), ...);
    return pool;
  }
};

/// `co_await` of a future in a coroutine of another library, which goes on on the future's pool.
template <class F>
class foreign_await {
 public:
  explicit foreign_await(F&& f) : future_(std::forward<F>(f)), next_(checked(f)), step_(next_) {}

  [[nodiscard]] bool await_ready() const noexcept { return future_access::get(future_)->done(); }
  [[gnu::noinline]] bool await_suspend(std::coroutine_handle<> frame) noexcept {
    next_.frame = frame;
    return future_access::get(future_)->add(step_);
  }
  decltype(auto) await_resume() { return std::forward<F>(future_).get(); }

 private:
  struct next_part final : resumption {
    explicit next_part(pool_id home) noexcept : resumption(home) {}
    void run() noexcept override { frame.resume(); }
    std::coroutine_handle<> frame;
  };
  struct step : continuation {
    explicit step(task& t) noexcept : continuation(&told), next_part(&t) {}
    static task* told(continuation& c, wish w) noexcept {
      return w == wish::fire ? static_cast<step&>(c).next_part : nullptr;
    }
    task* next_part;
  };

  template <class Future>
  static pool_id checked(const Future& f) {
    if (!f.valid()) throw empty_future("co_await");
    return future_access::get(f)->home();
  }

  F&& future_;
  next_part next_;
  step step_;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/coroutine.hpp ----
#ifndef CADRE_ASYNC_COROUTINE_HPP
#define CADRE_ASYNC_COROUTINE_HPP

#include <coroutine>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// `co_await cadre::reschedule(pool)` in a coroutine of this library: it goes on as a new entry of that pool's queue, which
/// is its pool from now on. Throws task_cancelled (206) if it has been cancelled.
[[nodiscard]] inline detail::reschedule reschedule(const thread_pool& pool) noexcept { return {detail::id_of(pool)}; }

/// For coroutines of other libraries.
template <class T>
auto operator co_await(future<T>& f) {
  return detail::foreign_await<future<T>&>(f);
}
template <class T>
auto operator co_await(future<T>&& f) {
  return detail::foreign_await<future<T>>(std::move(f));
}
template <class T>
auto operator co_await(const shared_future<T>& f) {
  return detail::foreign_await<const shared_future<T>&>(f);
}
template <class T>
auto operator co_await(const shared_future<T>&& f) {
  return detail::foreign_await<const shared_future<T>>(std::move(f));
}

CADRE_NAMESPACE_END

/// A function that returns cadre::future<T> and uses co_await or co_return is a coroutine, whose future is that of any task:
/// get(), then(), cancel() and the others work on it, an error that leaves it keeps its type.
///
///   cadre::future<double> total(cadre::thread_pool& pool, std::string path) {
///     const std::string text = co_await pool.submit(read, path);     // frees the thread meanwhile
///     co_return sum(co_await pool.submit(parse, text));
///   }
///
/// Where it runs. If one of its parameters is a thread_pool&, it begins as a task of that pool. Else it begins at once, on
/// the thread that calls it, until it has to wait. It goes on on its pool, whatever it waited for: that of the parameter,
/// else of the worker that called it, else of the first future that it has to wait for. If there is none or it has ended,
/// the thread that completes what it waited for goes on with it, as with then().
///
/// `co_await f`, of a future (a variable or a temporary), is f.get() that frees the thread instead of holding it: the future
/// gives its value away and is empty. `co_await s`, of a shared_future, is s.get(). Throws what they throw.
///
/// Cancelling. cancel() of its future, its parent's or its pool's end ask it and the tasks that it has submitted to stop. One
/// that has not begun never will; in one that waits, or comes to wait, co_await throws task_cancelled (206) at once and every
/// time. A future that it awaited is dropped with the coroutine's variables; its task goes on unless the coroutine itself
/// had submitted it.
///
/// Parameters are kept as they are declared: what a reference refers to must outlive the coroutine, and so must a lambda
/// with captures that is one. Use co_await inside and not get(), which would hold the thread.
///
/// Cost: a node as of a task, and the frame, of which up to 496 bytes come from recycled memory; a co_await that has to wait
/// allocates nothing. Completion goes on through a pool's queue, not by recursion: chains of any length need no stack.
///
/// Coroutines of other libraries may co_await a future too: they go on on the future's pool.
template <class T, class... Parameters>
struct std::coroutine_traits<cadre::future<T>, Parameters...> {
  using promise_type = cadre::detail::coroutine_promise<T>;
};

#endif

// ---- cadre/async/detail/graph_core.hpp ----
#ifndef CADRE_ASYNC_DETAIL_GRAPH_CORE_HPP
#define CADRE_ASYNC_DETAIL_GRAPH_CORE_HPP

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace detail {

/// One node of a task graph, a cache line. Small functions lie inside.
struct alignas(64) graph_node {
  enum class action : std::uint8_t { call, destroy };
  static constexpr std::size_t room = 40;
  static constexpr std::uint32_t skip = std::uint32_t{1} << 31;  // in `open`: a predecessor has failed or was skipped
  static constexpr std::uint32_t count = skip - 1;
  static constexpr std::uint32_t none = count;

  template <class Function>
  static constexpr bool fits = sizeof(Function) <= room && alignof(Function) <= alignof(void*);
  template <class Function>
  static constexpr bool needs_destruction = !fits<Function> || !std::is_trivially_destructible_v<Function>;

  template <class F>
  explicit graph_node(F&& f) {
    using function = std::decay_t<F>;
    if constexpr (fits<function>) {
      ::new (static_cast<void*>(storage)) function(std::forward<F>(f));
      act = [](graph_node& n, action a) {
        function& g = *std::launder(reinterpret_cast<function*>(n.storage));
        a == action::call ? static_cast<void>(g()) : g.~function();
      };
    } else {
      ::new (static_cast<void*>(storage)) function*(new function(std::forward<F>(f)));
      act = [](graph_node& n, action a) {
        function* const g = *std::launder(reinterpret_cast<function**>(n.storage));
        a == action::call ? static_cast<void>((*g)()) : delete g;
      };
    }
  }
  graph_node(const graph_node&) = delete;
  graph_node& operator=(const graph_node&) = delete;
  ~graph_node() { act(*this, action::destroy); }

  void (*act)(graph_node&, action);
  std::byte storage[room];
  /// Predecessors that are not done, in a run. Of a node that is ready, until it is run, the link of a list.
  std::atomic<std::uint32_t> open{0};
  std::uint32_t predecessors = 0;
  // Of the edges that begin here.
  std::uint32_t first_edge = none;
  std::uint32_t last_edge = none;
};
static_assert(sizeof(graph_node) == 64);

/// One of the edges that begin at the same node, linked in the order in which they were added.
struct graph_edge {
  std::uint32_t to;
  std::uint32_t next = graph_node::none;
};

/// Nodes and edges, in blocks that never move.
class graph_core {
 public:
  graph_core() = default;
  graph_core(const graph_core&) = delete;
  graph_core& operator=(const graph_core&) = delete;
  ~graph_core() {
    if (needs_destruction_)
      for (std::uint32_t i = 0; i < size(); ++i) node(i).~graph_node();
  }

  /// Throws graph_is_running (221).
  void check_idle(const char* call) const {
    if (last_run && !last_run->done()) throw graph_is_running(call);
  }

  template <class F>
  std::uint32_t add(F&& f, std::string_view name) {
    check_idle("add()");
    if (!name.empty()) names_.emplace_back(size(), name);
    nodes_.emplace_back(memory_, std::forward<F>(f));
    if constexpr (graph_node::needs_destruction<std::decay_t<F>>) needs_destruction_ = true;
    if (size() > 64 * has_predecessor_.size()) {
      has_predecessor_.push_back(0);
      has_successor_.push_back(0);
    }
    sealed_ = false;
    return size() - 1;
  }
  void add_edge(std::uint32_t from, std::uint32_t to) {
    check_idle("precede()");
    const std::uint32_t added = edges_.size();
    edges_.emplace_back(memory_, to);
    graph_node& n = node(from);
    (n.first_edge == graph_node::none ? n.first_edge : edges_[n.last_edge].next) = added;
    n.last_edge = added;
    node(to).open.store(++node(to).predecessors, std::memory_order_relaxed);
    has_successor_[from / 64] |= std::uint64_t{1} << from % 64;
    has_predecessor_[to / 64] |= std::uint64_t{1} << to % 64;
    if (from >= to) forward_only_ = false;
    sealed_ = false;
  }

  task_ref<task> last_run;

  [[nodiscard]] std::uint32_t size() const noexcept { return nodes_.size(); }
  [[nodiscard]] graph_node& node(std::uint32_t i) const noexcept { return nodes_[i]; }
  [[nodiscard]] const graph_edge& edge(std::uint32_t i) const noexcept { return edges_[i]; }
  [[nodiscard]] const std::vector<std::uint32_t>& sources() const noexcept { return sources_; }
  [[nodiscard]] std::uint32_t sinks() const noexcept { return sinks_; }

  /// Finds sources and sinks. Throws graph_cycle (220).
  void seal() {
    if (sealed_) return;
    sources_.clear();
    sinks_ = 0;
    for (std::size_t i = 0; i < has_predecessor_.size(); ++i) {
      const std::size_t left = size() - 64 * i;
      const std::uint64_t all = left < 64 ? (std::uint64_t{1} << left) - 1 : ~std::uint64_t{0};
      for (std::uint64_t without = all & ~has_predecessor_[i]; without != 0; without &= without - 1)
        sources_.push_back(static_cast<std::uint32_t>(64 * i) + static_cast<std::uint32_t>(std::countr_zero(without)));
      sinks_ += static_cast<std::uint32_t>(std::popcount(all & ~has_successor_[i]));
    }
    if (!forward_only_) check_for_cycle();  // edges that all lead to later nodes close no circle
    sealed_ = true;
  }

  [[nodiscard]] std::string describe(std::uint32_t i) const {
    const std::string* const n = name(i);
    return n != nullptr ? "'" + *n + "'" : "node " + std::to_string(i);
  }

  [[nodiscard]] std::string dot() const {
    std::string text = "digraph {\n";
    for (std::uint32_t i = 0; i < size(); ++i) {
      text += "  n" + std::to_string(i) + " [label=\"";
      const std::string* const n = name(i);
      for (const char c : n != nullptr ? *n : std::to_string(i)) {
        if (c == '"' || c == '\\') text += '\\';
        text += c;
      }
      text += "\"];\n";
    }
    for (std::uint32_t i = 0; i < size(); ++i)
      for (std::uint32_t e = node(i).first_edge; e != graph_node::none; e = edge(e).next)
        text += "  n" + std::to_string(i) + " -> n" + std::to_string(edge(e).to) + ";\n";
    return text + "}\n";
  }

 private:
  [[nodiscard]] const std::string* name(std::uint32_t i) const noexcept {
    std::size_t low = 0;
    std::size_t high = names_.size();
    while (low < high) {
      const std::size_t middle = (low + high) / 2;
      names_[middle].first < i ? low = middle + 1 : high = middle;
    }
    return low < names_.size() && names_[low].first == i ? &names_[low].second : nullptr;
  }

  // A. B. Kahn, "Topological sorting of large networks", 1962: what is never free of predecessors is in a cycle or behind
  // one.
  void check_for_cycle() {
    std::vector<std::uint32_t> open(size());
    for (std::uint32_t i = 0; i < size(); ++i) open[i] = node(i).predecessors;
    std::vector<std::uint32_t> free = sources_;
    while (!free.empty()) {
      const graph_node& n = node(free.back());
      free.pop_back();
      for (std::uint32_t e = n.first_edge; e != graph_node::none; e = edge(e).next)
        if (const std::uint32_t s = edge(e).to; --open[s] == 0) free.push_back(s);
    }
    std::vector<std::uint32_t> before(size(), size());  // of each that was left a predecessor that was left too
    std::uint32_t at = size();
    for (std::uint32_t i = 0; i < size(); ++i)
      for (std::uint32_t e = node(i).first_edge; open[i] != 0 && e != graph_node::none; e = edge(e).next)
        if (open[edge(e).to] != 0) before[at = edge(e).to] = i;
    if (at == size()) return;
    for (std::uint32_t i = 0; i < size(); ++i) at = before[at];  // by now certainly in a cycle
    std::string path = describe(at);
    std::size_t shown = 1;
    for (std::uint32_t i = before[at]; i != at; i = before[i])
      if (++shown <= 16) path = describe(i) + " -> " + path;
    throw graph_cycle((shown > 16 ? "... -> " : describe(at) + " -> ") + path, shown);
  }

  growing_memory memory_;
  block_list<graph_node, 256> nodes_;
  block_list<graph_edge, 2048> edges_;
  std::vector<std::uint64_t> has_predecessor_;  // a bit each
  std::vector<std::uint64_t> has_successor_;
  std::vector<std::pair<std::uint32_t, std::string>> names_;  // by rising index
  std::vector<std::uint32_t> sources_;
  std::uint32_t sinks_ = 0;
  bool needs_destruction_ = false;
  bool forward_only_ = true;
  bool sealed_ = false;
};

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/detail/graph_run.hpp ----
#ifndef CADRE_ASYNC_DETAIL_GRAPH_RUN_HPP
#define CADRE_ASYNC_DETAIL_GRAPH_RUN_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <source_location>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

class graph_run;

/// A ready node in a worker's queue, as a part of the run. Whoever takes it out frees it.
class graph_step final : public task {
 public:
  graph_step(graph_run& r, std::uint32_t n, pool_id home) noexcept
      : task(home, bare | not_for_help | of_graph, {}), of(r), node(n) {}
  ~graph_step() override {}
  void run() noexcept override;
  void run_not() noexcept override {}
  [[nodiscard]] std::exception_ptr& error() noexcept override;

  graph_run& of;
  const std::uint32_t node;
};

/// One run of a graph: the task that the user's future is of. Its own run() begins the sources; it is done when the last
/// sink is. Who runs a node, or skips it, counts down the successors; the first that becomes ready is run next, in the same
/// loop, the others are queued and, unless stolen, taken back by that loop before it ends.
///
/// Orders: counting a successor down releases what the node wrote, and acquires what its other predecessors wrote. Who
/// finds that only he himself is left to be counted need not write: nobody else will look. So a chain costs no atomic
/// read-modify-write at all, and each node but one per successor.
class graph_run final : public state<void> {
 public:
  /// With references for queue, future and graph, and one until it is done.
  graph_run(graph_core& g, pool_id home, std::source_location at)
      : state<void>(home, 0, at), graph_(g), open_sinks_(g.sinks()) {
    set_parent();
    publish(queued, 4);
  }
  ~graph_run() override {}

  void run() noexcept override {
    if (graph_.sources().empty()) return finish();
    work(this_worker(), graph_.sources().front(), graph_.sources().size());
    // What this thread queues from now on is not the run's: whoever waits for that is not to steal it.
    set_position(std::numeric_limits<std::int64_t>::max());
  }
  void run_not() noexcept override {
    set_cancelled(static_cast<state<void>&>(*this));
    complete(completion::from_elsewhere);
    release();
  }
  void run_step(std::uint32_t n) noexcept {
    this_context().top->runs = this;  // run_bare() made this frame
    work(this_worker(), n, 1);
  }

 private:
  static constexpr std::uint32_t none = graph_node::none;

  /// Ready nodes that wait for this very thread, linked through their counters.
  struct ready_list {
    std::uint32_t first = none;
  };

  // From a step's node on; of a run's begin, from all sources on.
  void work(worker* w, std::uint32_t n, std::size_t begin) noexcept {
    const std::int64_t floor = w != nullptr ? w->queue.position() : 0;
    ready_list ready;
    for (std::size_t i = begin; i-- > 1;) put_off(w, graph_.sources()[i], ready);
    for (;;) {
      while (n != none) n = run_node(w, n, ready);
      // From here on the run, and the graph, may be gone, unless there is more of it to do.
      if (ready.first != none) {
        n = ready.first;
        std::atomic<std::uint32_t>& open = graph_.node(n).open;
        const std::uint32_t word = open.load(std::memory_order_relaxed);
        ready.first = word & graph_node::count;
        open.store(word & graph_node::skip, std::memory_order_relaxed);
        continue;
      }
      if (w == nullptr) return;
      const auto mine = [this](const task* t) {
        return t->has(of_graph) && &static_cast<const graph_step*>(t)->of == this;
      };
      auto* const step = static_cast<graph_step*>(w->home->take_back(*w, floor, mine));
      if (step == nullptr) return;
      n = step->node;
      delete step;
    }
  }

  void put_off(worker* w, std::uint32_t n, ready_list& ready) noexcept {
    if (w != nullptr && push_step(*w, n)) return;
    std::atomic<std::uint32_t>& open = graph_.node(n).open;
    open.store((open.load(std::memory_order_relaxed) & graph_node::skip) | ready.first, std::memory_order_relaxed);
    ready.first = n;
  }

  // False if there is no memory.
  bool push_step(worker& w, std::uint32_t n) noexcept {
    graph_step* step = nullptr;
    try {
      step = new graph_step(*this, n, home());
    } catch (const std::bad_alloc&) {
      return false;
    }
    if (w.home->push_part(w, *step)) [[likely]]
      return true;
    delete step;
    return false;
  }

  // Returns a successor that is to be run next, or none.
  std::uint32_t run_node(worker* w, std::uint32_t index, ready_list& ready) noexcept {
    graph_node& n = graph_.node(index);
    bool skip = n.open.load(std::memory_order_relaxed) & graph_node::skip;
    n.open.store(n.predecessors, std::memory_order_relaxed);  // for the next run: all of them are done
    if (!skip && this->stop_requested()) [[unlikely]] {
      skip = true;
      cancelled_.fetch_add(1, std::memory_order_relaxed);
    }
    if (!skip) [[likely]] {
      try {
        n.act(n, graph_node::action::call);
      } catch (...) {
        skip = true;
        note_error(index, std::current_exception());
      }
    }
    std::uint32_t e = n.first_edge;
    if (e == graph_node::none) {
      if (open_sinks_.load(std::memory_order_acquire) == 1 || open_sinks_.fetch_sub(1, std::memory_order_acq_rel) == 1)
        finish();
      return none;
    }
    std::uint32_t next = none;
    do {  // after the last, *this may be gone
      const graph_edge& edge = graph_.edge(e);
      const std::uint32_t to = edge.to;
      e = edge.next;
      std::atomic<std::uint32_t>& open = graph_.node(to).open;
      if (skip) [[unlikely]]
        open.fetch_or(graph_node::skip, std::memory_order_relaxed);
      if ((open.load(std::memory_order_acquire) & graph_node::count) != 1 &&
          (open.fetch_sub(1, std::memory_order_acq_rel) & graph_node::count) != 1)
        continue;
      if (next == none)
        next = to;
      else
        put_off(w, to, ready);
    } while (e != graph_node::none);
    return next;
  }

  // The error of the node that was added first is thrown, the others go to the pool's handler.
  [[gnu::cold]] [[gnu::noinline]] void note_error(std::uint32_t index, std::exception_ptr e) noexcept {
    std::uint32_t other = index;
    {
      const std::lock_guard lock(mutex_);
      if (!error_ || index < failed_) {
        std::swap(error_, e);
        std::swap(failed_, other);
      }
    }
    if (!e) return;
    std::shared_ptr<unobserved_handler> handler;
    pool_registry::with(home(), [&](scheduler& s) { handler = s.unobserved(); });
    report_unobserved({std::move(e), graph_.describe(other), at()}, handler, false);
  }

  void finish() noexcept {
    if (error_) {
      set_error(std::move(error_));
    } else if (const std::uint32_t n = cancelled_.load(std::memory_order_relaxed)) {
      set_error(std::make_exception_ptr(graph_cancelled(detail::describe({}, at()), n, graph_.size())));
      set_observed();  // somebody wanted that
    }
    complete(completion::from_elsewhere);
    release();
  }

  graph_core& graph_;
  std::atomic<std::uint32_t> open_sinks_;
  std::atomic<std::uint32_t> cancelled_{0};  // nodes that were not run because somebody asked to stop
  std::mutex mutex_;                         // of the two below, while the run is under way
  std::exception_ptr error_;
  std::uint32_t failed_ = 0;
};

inline void graph_step::run() noexcept {
  graph_run& r = of;
  const std::uint32_t n = node;
  delete this;
  r.run_step(n);
}
inline std::exception_ptr& graph_step::error() noexcept { return of.error(); }

}  // namespace detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/async/task_graph.hpp ----
#ifndef CADRE_ASYNC_TASK_GRAPH_HPP
#define CADRE_ASYNC_TASK_GRAPH_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

class task_graph;

/// A node of a task_graph, for naming the ends of edges. Valid as long as the graph is, moved or not.
class graph_node {
 public:
  graph_node() noexcept = default;

 private:
  friend class task_graph;
  /// Has `before` run before `after`, which is returned: `a >> b >> c`. Throws as task_graph::precede().
  friend graph_node operator>>(graph_node before, graph_node after) {
    if (before.graph_ == nullptr || before.graph_ != after.graph_) throw foreign_node();
    before.graph_->add_edge(before.index_, after.index_);
    return after;
  }
  graph_node(detail::graph_core* g, std::uint32_t i) noexcept : graph_(g), index_(i) {}

  detail::graph_core* graph_ = nullptr;
  std::uint32_t index_ = 0;
};

/// Functions and which of them come before which: built once, run as often as one likes.
///
///     cadre::task_graph graph;
///     auto load = graph.add([&] { ... }, "load");
///     auto left = graph.add([&] { ... });
///     auto right = graph.add([&] { ... });
///     load >> left, load >> right;
///     graph.run(pool).get();
///
/// A node is run once all nodes before it have been. One that throws has the nodes behind it skipped, the others are run;
/// the error is thrown by the future of the run (of several, that of the node that was added first; the pool's handler of
/// unobserved errors gets the rest). Cancelling that future skips what has not begun. What nodes submit are children of the
/// run: cancelled with it, not waited for.
///
/// Cost: a node takes 64 bytes, and an allocation if its function is larger than 40 bytes; an edge takes 8. A run allocates
/// nothing else than its future. Thread-safety: one thread at a time; a graph that runs cannot be changed, nor run a second
/// time. Destruction waits for the run. A graph that was moved from can only be assigned to or destroyed.
class task_graph {
 public:
  task_graph() : core_(std::make_unique<detail::graph_core>()) {}
  task_graph(task_graph&&) noexcept = default;
  task_graph& operator=(task_graph&& other) noexcept {
    const task_graph old(std::move(*this));
    core_ = std::move(other.core_);
    return *this;
  }
  ~task_graph() {
    if (core_ == nullptr || !core_->last_run) return;
    try {
      static_cast<void>(detail::wait_for_task(*core_->last_run));
    } catch (...) {
      // In one of its own nodes, or in a child of fork(): no waiting, but nodes that run keep what they use.
      static_cast<void>(core_.release());
    }
  }

  /// `f()` is called once in each run; what it returns is dropped. The name, if any, is said in errors and in dot(). Throws
  /// graph_is_running (221).
  template <class F>
    requires std::is_invocable_v<std::decay_t<F>&>
  graph_node add(F&& f, std::string_view name = {}) {
    return {core_.get(), core_->add(std::forward<F>(f), name)};
  }

  /// Has `before` run before `after`; the same as `before >> after`. Throws graph_is_running (221), foreign_node (223).
  void precede(graph_node before, graph_node after) {
    if (before.graph_ != core_.get() || after.graph_ != core_.get()) throw foreign_node();
    core_->add_edge(before.index_, after.index_);
  }

  /// Nodes.
  [[nodiscard]] std::size_t size() const noexcept { return core_->size(); }

  /// Runs all nodes on the pool. Throws graph_cycle (220), graph_is_running (221), forked_process (207).
  future<void> run(thread_pool& pool, std::source_location at = std::source_location::current()) {
    detail::scheduler& s = detail::scheduler_of(pool);
    core_->check_idle("run()");
    core_->seal();
    auto* const t = new detail::graph_run(*core_, s.id(), at);
    core_->last_run = detail::task_ref<detail::task>(t);
    detail::task_ref<detail::state<void>> result(t);
    s.push(t);
    return detail::future_access::make<void>(std::move(result));
  }
  /// The same, and waits; inside a task of the pool by taking part.
  void run_and_wait(thread_pool& pool, std::source_location at = std::source_location::current()) {
    run(pool, at).get();
  }

  /// The graph in the language of Graphviz: `dot -Tsvg`.
  [[nodiscard]] std::string dot() const { return core_->dot(); }

 private:
  std::unique_ptr<detail::graph_core> core_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/async/task_group.hpp ----
#ifndef CADRE_ASYNC_TASK_GROUP_HPP
#define CADRE_ASYNC_TASK_GROUP_HPP

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace detail {

class group_root;

/// A task of a group; in the group's list until a wait is done with it.
class group_member : public state<void> {
 public:
  group_member(pool_id home, group_root& root, std::source_location at) : state<void>(home, 0, at), group(root) {}
  group_root& group;
  group_member* next = nullptr;
};

/// What the tasks of a group share, and the parent of them all: cancelling it cancels them, and what they submit.
class group_root final : public state<void> {
 public:
  group_root(pool_id home, std::source_location at) : state<void>(home, no_closure | no_future, at) {
    set_parent();
    publish(pending, 1);
  }
  ~group_root() override {}
  void run() noexcept override {}
  void run_not() noexcept override {}
  [[nodiscard]] std::string_view name() const noexcept override { return "a task group"; }

  /// Adds one, which brings a reference. The list only grows at its head, by one exchange, so a member that adds another
  /// one has done so before it is done itself: whoever finds the list empty, all members found before being done, has seen
  /// them all.
  void add(group_member& m) noexcept {
    m.next = first_.load(std::memory_order_relaxed);
    while (!first_.compare_exchange_weak(m.next, &m, std::memory_order_release, std::memory_order_relaxed)) {}
    // Not exact when several add at once, and need not be.
    const std::uint32_t n = added_.load(std::memory_order_relaxed) + 1;
    added_.store(n, std::memory_order_relaxed);
    if (n >= sweep_at_.load(std::memory_order_relaxed)) sweep();
  }
  [[nodiscard]] group_member* take_all() noexcept {
    while (inner_.exchange(true, std::memory_order_acquire)) ::sched_yield();
    group_member* const all = first_.exchange(nullptr, std::memory_order_acquire);
    inner_.store(false, std::memory_order_release);
    return all;
  }

  void note_error(group_member& m) noexcept {
    if (failed_.exchange(true, std::memory_order_relaxed)) return;
    error_ = std::move(m.error());
    m.set_observed();
    cancel(*this);
  }
  /// When all are done.
  [[nodiscard]] std::exception_ptr take_error() noexcept {
    failed_.store(false, std::memory_order_relaxed);
    return std::exchange(error_, nullptr);
  }

 private:
  // A group that runs for long before anyone waits must not keep all its tasks: those that are done leave the list, at a
  // cost that is constant for each task added. All but the first, which others may be linking to.
  [[gnu::noinline]] void sweep() noexcept {
    if (inner_.exchange(true, std::memory_order_acquire)) return;
    std::uint32_t left = 0;
    if (group_member* before = first_.load(std::memory_order_acquire))
      while (group_member* const m = before->next) {
        if (m->done()) {
          before->next = m->next;
          m->release();
        } else {
          before = m;
          ++left;
        }
      }
    added_.store(left, std::memory_order_relaxed);
    sweep_at_.store(2 * left + 64, std::memory_order_relaxed);
    inner_.store(false, std::memory_order_release);
  }

  std::atomic<group_member*> first_{nullptr};
  std::atomic<std::uint32_t> added_{0};
  std::atomic<std::uint32_t> sweep_at_{64};
  std::atomic<bool> inner_{false};  // somebody looks at more than the head
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
};

template <class F>
class group_task final : public group_member {
 public:
  template <class G>
  group_task(G&& f, group_root& root, std::source_location at)
      : group_member(root.home(), root, at), f_(std::forward<G>(f)) {}
  ~group_task() override {}

  void run() noexcept override {
    set_from(static_cast<state<void>&>(*this), [this] { static_cast<void>(std::move(f_.get())()); });
    if (this->failed()) [[unlikely]]
      this->group.note_error(*this);
    f_.~room_for<F>();
    this->complete(completion::of_its_run);
  }
  void run_not() noexcept override {
    set_cancelled(static_cast<state<void>&>(*this));
    f_.~room_for<F>();
    this->complete(completion::from_elsewhere);
  }

  /// Makes it a child of the group, whatever task runs here, and visible.
  void begin() noexcept {
    thread_context& context = this_context();
    running_frame frame{&this->group, context.top};
    context.top = &frame;
    this->set_parent();
    context.top = frame.outer;
    this->publish(queued, 2);
    this->group.add(*this);
  }

 private:
  union {
    room_for<F> f_;
  };
};

}  // namespace detail

/// Tasks that end together: none outlives the group.
///
///     cadre::task_group group{pool};
///     for (const node& n : nodes) group.run([&] { visit(n); });
///     group.wait();
///
/// The first error that a task throws asks the others to stop and is thrown by wait(); further ones go to the pool's
/// handler of unobserved errors. A group made inside a task is cancelled with it. Destruction waits too, and hands an
/// error that no wait() threw to that handler.
///
/// Thread-safety: run() from the thread that made the group and from tasks of the group, at once; wait() from one thread at
/// a time, in none of the group's own tasks; cancel() from any thread. The pool outlives the group.
class task_group {
 public:
  explicit task_group(thread_pool& pool, std::source_location at = std::source_location::current())
      : pool_(detail::scheduler_of(pool)), root_(new detail::group_root(pool_.id(), at)) {}
  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;
  ~task_group() {
    try {
      wait_for_all();
    } catch (...) {  // destroyed by one of its own tasks, or in a child of fork(): there is no waiting
      for (detail::group_member* m = root_->take_all(); m != nullptr;) std::exchange(m, m->next)->release();
    }
    if (std::exception_ptr error = root_->take_error())
      detail::report_unobserved({std::move(error), root_->name(), root_->at()}, pool_.unobserved(), false);
  }

  /// Has the pool run `f()`; what it returns is dropped. After an error or cancel() it is not run. Cost: as submit(), and
  /// two atomic operations on the group. Throws std::bad_alloc.
  template <class F>
    requires std::is_invocable_v<std::decay_t<F>>
  void run(F&& f, std::source_location at = std::source_location::current()) {
    auto* const t = new detail::group_task<std::decay_t<F>>(std::forward<F>(f), *root_, at);
    t->begin();
    pool_.push(t);
  }

  /// Until all tasks of the group are done, those included that they add. Then the group may be used again. Inside a task
  /// it helps: it runs those that nobody has begun, the newest first, and what those that others run have submitted; no
  /// strangers. Throws the first error; wait_cycle (208) in a task of the group; forked_process (207).
  void wait() {
    wait_for_all();
    const std::exception_ptr error = root_->take_error();
    if (root_->stop_requested()) {
      detail::task_ref<detail::group_root> fresh(new detail::group_root(pool_.id(), root_->at()));
      const std::lock_guard lock(mutex_);
      std::swap(root_, fresh);
    }
    if (error) std::rethrow_exception(error);
  }

  /// The tasks that have not begun will not; those that run, and what they have submitted, see it in
  /// this_task::stop_requested(). Until the next wait() has returned none is run. Costs a look at every task of the process.
  void cancel() noexcept {
    detail::task_ref<detail::group_root> root;
    {
      const std::lock_guard lock(mutex_);
      root_->retain();
      root = detail::task_ref(root_.get());
    }
    detail::cancel(*root);
  }

 private:
  void wait_for_all() {
    for (const detail::running_frame* f = detail::this_context().top; f != nullptr; f = f->outer)
      if (auto* const m = dynamic_cast<detail::group_member*>(f->runs); m != nullptr && &m->group == root_.get())
        throw wait_cycle(detail::describe(m->name(), m->at()) + " waits for the task group that it is in");
    while (detail::group_member* m = root_->take_all())
      while (m != nullptr) {
        try {
          static_cast<void>(detail::wait_for_task(*m));
        } catch (...) {
          while (m != nullptr) root_->add(*std::exchange(m, m->next));
          throw;
        }
        std::exchange(m, m->next)->release();
      }
  }

  detail::scheduler& pool_;
  std::mutex mutex_;  // between cancel() and the change of root_
  detail::task_ref<detail::group_root> root_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/buffer.hpp ----
#ifndef CADRE_COMM_BUFFER_HPP
#define CADRE_COMM_BUFFER_HPP

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Elements in memory that a communicator reduces where they lie: `comm.allocate<float>(n)` makes one. A contiguous
/// range, zeroed and 64-byte aligned at first, that owns its memory (move-only; the memory may outlive the
/// communicator). Under MPI on one node every rank of the node maps it; `share()` keeps the memory alive beside views.
template <class T>
  requires std::is_trivially_copyable_v<T>
class buffer {
 public:
  using value_type = T;

  buffer() = default;
  /// Takes memory of at least `size` elements, as allocate_bytes returns it.
  buffer(std::shared_ptr<std::byte> memory, std::size_t size) noexcept : memory_(std::move(memory)), size_(size) {}
  buffer(buffer&& other) noexcept : memory_(std::move(other.memory_)), size_(std::exchange(other.size_, 0)) {}
  buffer& operator=(buffer&& other) noexcept {
    memory_ = std::move(other.memory_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  [[nodiscard]] T* data() noexcept { return reinterpret_cast<T*>(memory_.get()); }
  [[nodiscard]] const T* data() const noexcept { return reinterpret_cast<const T*>(memory_.get()); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

  [[nodiscard]] T* begin() noexcept { return data(); }
  [[nodiscard]] T* end() noexcept { return data() + size_; }
  [[nodiscard]] const T* begin() const noexcept { return data(); }
  [[nodiscard]] const T* end() const noexcept { return data() + size_; }
  [[nodiscard]] T& operator[](std::size_t i) noexcept { return data()[i]; }
  [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return data()[i]; }

  [[nodiscard]] std::span<T> span() noexcept { return {data(), size_}; }
  [[nodiscard]] std::span<const T> span() const noexcept { return {data(), size_}; }

  /// The memory itself, for owners that outlive this object.
  [[nodiscard]] std::shared_ptr<std::byte> share() const noexcept { return memory_; }

 private:
  std::shared_ptr<std::byte> memory_;
  std::size_t size_ = 0;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/error.hpp ----
#ifndef CADRE_COMM_ERROR_HPP
#define CADRE_COMM_ERROR_HPP

#include <string_view>

CADRE_NAMESPACE_BEGIN

/// The base of what goes wrong between ranks: after it the communicator is broken, and every later call on it throws
/// communicator_aborted.
class communicator_error : public error {
 protected:
  using error::error;
};

/// Thrown (401) when ranks did not arrive at a collective in time; the text names them.
class communicator_timeout : public communicator_error {
 public:
  explicit communicator_timeout(std::string_view message) : communicator_error("comm", 401, message) {}
};

/// Thrown (402) by calls on a communicator that a rank has aborted or left, or that an earlier error broke.
class communicator_aborted : public communicator_error {
 public:
  explicit communicator_aborted(std::string_view message) : communicator_error("comm", 402, message) {}
};

/// Thrown (403) on every rank when ranks call different operations, or one operation with other types or counts.
class collective_mismatch : public communicator_error {
 public:
  explicit collective_mismatch(std::string_view message) : communicator_error("comm", 403, message) {}
};

/// Thrown (404, 405) on the calling rank before anything is sent: the communicator stays usable.
class collective_argument_error : public error {
 public:
  /// 404: the operation has no meaning for the element type.
  static collective_argument_error unsupported_reduction(std::string_view message) { return {404, message}; }
  /// 405: sizes that do not fit together, a rank that does not exist, a count whose bytes overflow.
  static collective_argument_error bad_argument(std::string_view message) { return {405, message}; }

 private:
  collective_argument_error(int number, std::string_view message) : error("comm", number, message) {}
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/core/data_type.hpp ----
#ifndef CADRE_CORE_DATA_TYPE_HPP
#define CADRE_CORE_DATA_TYPE_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// The element types that collectives reduce and that parameters may have.
enum class data_type : std::uint8_t { int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64 };

namespace detail {

template <class T>
consteval int data_type_index() {
  if constexpr (std::is_same_v<T, float>) return static_cast<int>(data_type::float32);
  if constexpr (std::is_same_v<T, double>) return static_cast<int>(data_type::float64);
  // By size and sign, so that long and long long are both 64 bits; bool and the character types of text are not numbers.
  if constexpr (std::is_same_v<T, signed char> || std::is_same_v<T, unsigned char> || std::is_same_v<T, char> ||
                std::is_same_v<T, short> || std::is_same_v<T, unsigned short> || std::is_same_v<T, int> ||
                std::is_same_v<T, unsigned> || std::is_same_v<T, long> || std::is_same_v<T, unsigned long> ||
                std::is_same_v<T, long long> || std::is_same_v<T, unsigned long long>) {
    constexpr int base = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 2 : sizeof(T) == 4 ? 4 : 6;
    return base + (std::is_signed_v<T> ? 0 : 1);
  }
  return -1;
}

}  // namespace detail

/// A type that collectives can reduce.
template <class T>
concept reducible = detail::data_type_index<std::remove_cv_t<T>>() >= 0;

template <reducible T>
inline constexpr data_type data_type_of = static_cast<data_type>(detail::data_type_index<std::remove_cv_t<T>>());

/// Bytes per element.
[[nodiscard]] constexpr std::size_t size_of(data_type type) noexcept {
  switch (type) {
    case data_type::int8:
    case data_type::uint8: return 1;
    case data_type::int16:
    case data_type::uint16: return 2;
    case data_type::int32:
    case data_type::uint32:
    case data_type::float32: return 4;
    case data_type::int64:
    case data_type::uint64:
    case data_type::float64: return 8;
  }
  return 0;
}

[[nodiscard]] constexpr std::string_view to_string(data_type type) noexcept {
  constexpr std::string_view names[] = {"int8",   "uint8", "int16",  "uint16",  "int32",
                                        "uint32", "int64", "uint64", "float32", "float64"};
  return static_cast<std::size_t>(type) < std::size(names) ? names[static_cast<std::size_t>(type)] : "unknown";
}

/// Calls `visitor` with a value-initialised element of the C++ type behind `type`: the one switch from run-time to
/// compile-time types.
template <class Visitor>
constexpr decltype(auto) visit(data_type type, Visitor&& visitor) {
  switch (type) {
    case data_type::int8: return std::forward<Visitor>(visitor)(std::int8_t{});
    case data_type::uint8: return std::forward<Visitor>(visitor)(std::uint8_t{});
    case data_type::int16: return std::forward<Visitor>(visitor)(std::int16_t{});
    case data_type::uint16: return std::forward<Visitor>(visitor)(std::uint16_t{});
    case data_type::int32: return std::forward<Visitor>(visitor)(std::int32_t{});
    case data_type::uint32: return std::forward<Visitor>(visitor)(std::uint32_t{});
    case data_type::int64: return std::forward<Visitor>(visitor)(std::int64_t{});
    case data_type::uint64: return std::forward<Visitor>(visitor)(std::uint64_t{});
    case data_type::float32: return std::forward<Visitor>(visitor)(float{});
    case data_type::float64: break;
  }
  return std::forward<Visitor>(visitor)(double{});
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/reduce_op.hpp ----
#ifndef CADRE_COMM_REDUCE_OP_HPP
#define CADRE_COMM_REDUCE_OP_HPP

#include <cstdint>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// What a reduction does with two elements. Sums and products of integers wrap around; min and max give NaN if either
/// element is NaN, so that a diverged rank is seen by all.
enum class reduce_op : std::uint8_t { sum, product, min, max, bit_and, bit_or };

inline constexpr reduce_op sum = reduce_op::sum;
inline constexpr reduce_op product = reduce_op::product;
inline constexpr reduce_op min = reduce_op::min;
inline constexpr reduce_op max = reduce_op::max;
inline constexpr reduce_op bit_and = reduce_op::bit_and;
inline constexpr reduce_op bit_or = reduce_op::bit_or;

[[nodiscard]] constexpr std::string_view to_string(reduce_op op) noexcept {
  constexpr std::string_view names[] = {"sum", "product", "min", "max", "bit_and", "bit_or"};
  return static_cast<std::size_t>(op) < std::size(names) ? names[static_cast<std::size_t>(op)] : "unknown";
}

/// Whether `op` has a meaning for elements of `type`: bits of floating-point numbers do not.
[[nodiscard]] constexpr bool supports(reduce_op op, data_type type) noexcept {
  return op < reduce_op::bit_and || (type != data_type::float32 && type != data_type::float64);
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/core/contiguous.hpp ----
#ifndef CADRE_CORE_CONTIGUOUS_HPP
#define CADRE_CORE_CONTIGUOUS_HPP

#include <cstddef>
#include <span>  // brings the concepts of ranges; <ranges>, with its views, would cost as much again as <string>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Customisation point: how a T is seen as one run of elements without a copy. Given for contiguous sized ranges
/// (vector, span, array); cadre/eigen.hpp gives it for Eigen's dense matrices; specialise it for a type of your own:
///
///     element                         the element type
///     elements(T&)                    std::span over all elements, in memory order
///     shape(const T&)                 extents, outermost first, for messages and agreement between ranks
///     view                            what looks at memory that somebody else owns
///     map(element*, extents...)       makes such a view
///     count(extents...)               elements that a T of these extents has
template <class T>
struct contiguous_traits;

template <class T>
  requires std::ranges::contiguous_range<T> && std::ranges::sized_range<T>
struct contiguous_traits<T> {
  using element = std::remove_cv_t<std::ranges::range_value_t<T>>;
  using view = std::span<element>;
  template <class R>
  static auto elements(R& range) noexcept {
    return std::span(std::ranges::data(range), static_cast<std::size_t>(std::ranges::size(range)));
  }
  static std::vector<std::size_t> shape(const T& range) { return {static_cast<std::size_t>(std::ranges::size(range))}; }
  static view map(element* data, std::size_t n) noexcept { return {data, n}; }
  static std::size_t count(std::size_t n) noexcept { return n; }
};

/// A type whose elements can be seen in place.
template <class T>
concept contiguous = requires(std::remove_reference_t<T>& t) {
  typename contiguous_traits<std::remove_cvref_t<T>>::element;
  { contiguous_traits<std::remove_cvref_t<T>>::elements(t).data() };
};

/// All elements of `t`, in memory order; nothing is copied.
template <contiguous T>
[[nodiscard]] auto elements(T&& t) noexcept(noexcept(contiguous_traits<std::remove_cvref_t<T>>::elements(t))) {
  return contiguous_traits<std::remove_cvref_t<T>>::elements(t);
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/collectives.hpp ----
#ifndef CADRE_COMM_COLLECTIVES_HPP
#define CADRE_COMM_COLLECTIVES_HPP

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

template <class R>
using element_of = typename contiguous_traits<std::remove_cvref_t<R>>::element;

// A vector that dies at the end of the statement would take the result with it; a span or a map does not.
template <class R>
inline constexpr bool dies_with_result =
    !std::is_lvalue_reference_v<R> && requires { typename std::remove_cvref_t<R>::allocator_type; };

template <class R>
inline constexpr bool writable =
    !std::is_const_v<std::remove_reference_t<decltype(*elements(std::declval<R&>()).data())>>;

template <class T>
inline constexpr bool copies_as_bytes =
    std::is_trivially_copyable_v<T> && !std::is_pointer_v<T> && !std::is_member_pointer_v<T>;

template <class R>
constexpr void check_result() {
  static_assert(writable<R>, "the elements of this range are const: the result has nowhere to go");
  static_assert(!dies_with_result<R>,
                "this container is a temporary: the result would be lost; pass a named one or a span");
}

template <class T>
constexpr void check_reducible() {
  static_assert(reducible<T>, "only the integer types, float and double can be reduced (bool: reduce an int)");
}

template <class T>
constexpr void check_bytes() {
  static_assert(copies_as_bytes<T>, "only trivially copyable elements that are not pointers travel between ranks");
}

}  // namespace detail

/// The typed face that every communicator offers: derive from it and implement the operations on bytes of the
/// `communicator` concept. Ranges are anything `cadre::contiguous` (vector, span, array, Eigen matrices and maps with
/// cadre/eigen.hpp); views may be temporaries. Every rank calls with the same types, counts and arguments.
/// Throws what the concept lists: 401 to 403, 404 and 405.
template <class Derived>
class collectives {
 public:
  /// Replaces each element, on every rank, by its reduction over all ranks.
  template <contiguous R>
  void all_reduce(R&& range, reduce_op op) {
    using element = detail::element_of<R>;
    detail::check_result<R>();
    detail::check_reducible<element>();
    if constexpr (reducible<element> && detail::writable<R>) {
      const auto all = elements(range);
      self().all_reduce_bytes(all.data(), all.size(), data_type_of<element>, op);
    }
  }

  /// The reduction of one value per rank, returned on every rank.
  template <class T>
    requires(!contiguous<T>)
  [[nodiscard]] T all_reduce(T value, reduce_op op) {
    detail::check_reducible<T>();
    if constexpr (reducible<T>) self().all_reduce_bytes(&value, 1, data_type_of<T>, op);
    return value;
  }

  /// Replaces the elements on every rank by those of `root`.
  template <contiguous R>
  void broadcast(R&& range, int root) {
    detail::check_result<R>();
    detail::check_bytes<detail::element_of<R>>();
    if constexpr (detail::writable<R> && detail::copies_as_bytes<detail::element_of<R>>) {
      const auto all = elements(range);
      self().broadcast_bytes(all.data(), all.size_bytes(), root);
    }
  }

  /// The value that `root` passed, returned on every rank.
  template <class T>
    requires(!contiguous<T>)
  [[nodiscard]] T broadcast(T value, int root) {
    detail::check_bytes<T>();
    if constexpr (detail::copies_as_bytes<T>) self().broadcast_bytes(&value, sizeof(T), root);
    return value;
  }

  /// Rank r gets the reduction of part r of every rank's `in`, where in.size() == world_size() * out.size(). `out` may
  /// be part rank() of `in`, and otherwise does not overlap it. Other parts of `in` stay as they were.
  template <contiguous In, contiguous Out>
  void reduce_scatter(const In& in, Out&& out, reduce_op op) {
    using element = detail::element_of<Out>;
    static_assert(std::is_same_v<detail::element_of<In>, element>, "reduce_scatter: in and out differ in element type");
    detail::check_result<Out>();
    detail::check_reducible<element>();
    if constexpr (reducible<element> && detail::writable<Out>) {
      const auto from = elements(in);
      const auto to = elements(out);
      check_sizes("reduce_scatter", "in", from.size(), "out", to.size());
      check_overlap("reduce_scatter", "in", from.data(), "out", to.data(), to.size_bytes());
      self().reduce_scatter_bytes(from.data(), to.data(), to.size(), data_type_of<element>, op);
    }
  }

  /// Every rank gets every rank's `in`, in rank order, where out.size() == world_size() * in.size(). `in` may be part
  /// rank() of `out`, and otherwise does not overlap it.
  template <contiguous In, contiguous Out>
  void all_gather(const In& in, Out&& out) {
    using element = detail::element_of<Out>;
    static_assert(std::is_same_v<detail::element_of<In>, element>, "all_gather: in and out differ in element type");
    detail::check_result<Out>();
    detail::check_bytes<element>();
    if constexpr (detail::writable<Out> && detail::copies_as_bytes<element>) {
      const auto from = elements(in);
      const auto to = elements(out);
      check_sizes("all_gather", "out", to.size(), "in", from.size());
      check_overlap("all_gather", "out", to.data(), "in", from.data(), from.size_bytes());
      self().all_gather_bytes(from.data(), to.data(), from.size_bytes());
    }
  }

  /// One value of every rank, in rank order.
  template <class T>
    requires(!contiguous<T>)
  [[nodiscard]] std::vector<T> all_gather(const T& value) {
    detail::check_bytes<T>();
    static_assert(!std::is_same_v<T, bool>, "vector<bool> has no elements to gather into: gather a char");
    std::vector<T> all(static_cast<std::size_t>(self().world_size()));
    if constexpr (detail::copies_as_bytes<T> && !std::is_same_v<T, bool>)
      self().all_gather_bytes(&value, all.data(), sizeof(T));
    return all;
  }

  /// Zeroed memory for `n` elements that this communicator reduces fastest. Every rank calls it; `n` may differ.
  template <class T>
  [[nodiscard]] buffer<T> allocate(std::size_t n) {
    static_assert(alignof(T) <= 64, "allocate: memory of communicators is aligned to 64 bytes, this type needs more");
    if (n > std::numeric_limits<std::size_t>::max() / sizeof(T))
      throw collective_argument_error::bad_argument("allocate: " + std::to_string(n) + " elements of " +
                                                    std::to_string(sizeof(T)) +
                                                    " bytes are more than can be addressed");
    return buffer<T>(self().allocate_bytes(n * sizeof(T)), n);
  }

 protected:
  collectives() = default;
  ~collectives() = default;
  collectives(const collectives&) = default;
  collectives& operator=(const collectives&) = default;

 private:
  Derived& self() noexcept { return static_cast<Derived&>(*this); }

  void check_sizes(std::string_view operation, std::string_view whole_name, std::size_t whole,
                   std::string_view part_name, std::size_t part) {
    const auto ranks = static_cast<std::size_t>(self().world_size());
    if (whole / ranks == part && whole % ranks == 0) return;
    throw collective_argument_error::bad_argument(std::string(operation) + ": " + std::string(whole_name) + " has " +
                                                  std::to_string(whole) + " elements, but " + std::to_string(ranks) +
                                                  " ranks and " + std::to_string(part) + " elements of " +
                                                  std::string(part_name) + " need " + std::to_string(part * ranks));
  }

  // One rank would write what another still reads.
  void check_overlap(std::string_view operation, std::string_view whole_name, const void* whole,
                     std::string_view part_name, const void* part, std::size_t part_bytes) {
    const auto begin = reinterpret_cast<std::uintptr_t>(whole), at = reinterpret_cast<std::uintptr_t>(part);
    const std::size_t bytes = part_bytes * static_cast<std::size_t>(self().world_size());
    if (at + part_bytes <= begin || begin + bytes <= at) return;
    if (at == begin + part_bytes * static_cast<std::size_t>(self().rank())) return;
    throw collective_argument_error::bad_argument(
        std::string(operation) + ": " + std::string(part_name) + " overlaps " + std::string(whole_name) +
        ", and is not part " + std::to_string(self().rank()) + " of it: pass memory apart, or this rank's part");
  }
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/communicator.hpp ----
#ifndef CADRE_COMM_COMMUNICATOR_HPP
#define CADRE_COMM_COMMUNICATOR_HPP

#include <concepts>
#include <cstddef>
#include <memory>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// What a model of ranks offers; `collectives` makes the typed face of it. Every rank calls the same operations in the
/// same order. One thread at a time may use a communicator object; abort may be called from any thread.
///
/// A model's rules:
///  - reductions combine the ranks' elements in a fixed binary tree (docs/architecture.md), so results are the same bits
///    on every rank and in every run;
///  - a wait ends, with communicator_timeout (401), when a rank has not arrived within the timeout, and the
///    communicator is then broken;
///  - a rank that calls something else than its peers makes collective_mismatch (403) on every rank;
///  - after abort, waiting and later calls of every rank throw communicator_aborted (402);
///  - children made by split are independent: a broken child leaves its parent working.
template <class C>
concept communicator = std::move_constructible<C> &&
                       requires(C& comm, const C& same, void* data, const void* in, std::size_t n, data_type type,
                                reduce_op op, int i, std::chrono::nanoseconds time, std::string_view why) {
                         { same.rank() } -> std::same_as<int>;
                         { same.world_size() } -> std::same_as<int>;
                         comm.barrier();
                         comm.barrier(time);
                         comm.all_reduce_bytes(data, n, type, op);
                         comm.broadcast_bytes(data, n, i);
                         comm.reduce_scatter_bytes(in, data, n, type, op);
                         comm.all_gather_bytes(in, data, n);
                         { comm.allocate_bytes(n) } -> std::same_as<std::shared_ptr<std::byte>>;
                         { comm.split(i, i) } -> std::same_as<C>;
                         { comm.abort(why) } noexcept;
                         comm.set_timeout(time);
                         { same.backend() } -> std::convertible_to<std::string_view>;
                       };

/// How long a collective waits for its peers unless set_timeout says otherwise.
inline constexpr std::chrono::nanoseconds default_collective_timeout = std::chrono::minutes(10);

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/any_communicator.hpp ----
#ifndef CADRE_COMM_ANY_COMMUNICATOR_HPP
#define CADRE_COMM_ANY_COMMUNICATOR_HPP

#include <concepts>
#include <cstddef>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Any communicator behind one type, at one virtual call per collective: code that takes it is no template over the
/// model. A copyable handle, itself a communicator. Made from an lvalue it refers to that communicator, which must
/// outlive it; made from an rvalue, or by split, it owns it together with its copies.
class any_communicator : public collectives<any_communicator> {
 public:
  template <class C>
    requires(!std::same_as<std::remove_cvref_t<C>, any_communicator> && !std::is_const_v<std::remove_reference_t<C>> &&
             communicator<std::remove_cvref_t<C>>)
  any_communicator(C&& comm)  // NOLINT(google-explicit-constructor): every model is an any_communicator
      : model_(std::make_shared<model<std::conditional_t<std::is_lvalue_reference_v<C>, C, std::remove_cvref_t<C>>>>(
            std::forward<C>(comm))) {}

  [[nodiscard]] int rank() const { return model_->rank(); }
  [[nodiscard]] int world_size() const { return model_->world_size(); }
  void barrier() { model_->barrier(); }
  void barrier(std::chrono::nanoseconds timeout) { model_->barrier(timeout); }
  void all_reduce_bytes(void* data, std::size_t count, data_type type, reduce_op op) {
    model_->all_reduce(data, count, type, op);
  }
  void broadcast_bytes(void* data, std::size_t bytes, int root) { model_->broadcast(data, bytes, root); }
  void reduce_scatter_bytes(const void* in, void* out, std::size_t out_count, data_type type, reduce_op op) {
    model_->reduce_scatter(in, out, out_count, type, op);
  }
  void all_gather_bytes(const void* in, void* out, std::size_t in_bytes) { model_->all_gather(in, out, in_bytes); }
  [[nodiscard]] std::shared_ptr<std::byte> allocate_bytes(std::size_t bytes) { return model_->allocate(bytes); }
  [[nodiscard]] any_communicator split(int color, int key) { return any_communicator(model_->split(color, key)); }
  void abort(std::string_view why) noexcept { model_->abort(why); }
  void set_timeout(std::chrono::nanoseconds timeout) { model_->set_timeout(timeout); }
  [[nodiscard]] std::string_view backend() const { return model_->backend(); }

 private:
  struct interface {
    virtual ~interface() = default;
    virtual int rank() const = 0;
    virtual int world_size() const = 0;
    virtual void barrier() = 0;
    virtual void barrier(std::chrono::nanoseconds timeout) = 0;
    virtual void all_reduce(void* data, std::size_t count, data_type type, reduce_op op) = 0;
    virtual void broadcast(void* data, std::size_t bytes, int root) = 0;
    virtual void reduce_scatter(const void* in, void* out, std::size_t out_count, data_type type, reduce_op op) = 0;
    virtual void all_gather(const void* in, void* out, std::size_t in_bytes) = 0;
    virtual std::shared_ptr<std::byte> allocate(std::size_t bytes) = 0;
    virtual std::shared_ptr<interface> split(int color, int key) = 0;
    virtual void abort(std::string_view why) noexcept = 0;
    virtual void set_timeout(std::chrono::nanoseconds timeout) = 0;
    virtual std::string_view backend() const = 0;
  };

  template <class C>  // C& refers, C owns
  struct model final : interface {
    using owned = std::remove_reference_t<C>;
    explicit model(C&& comm) : comm_(std::forward<C>(comm)) {}
    int rank() const override { return std::as_const(comm_).rank(); }
    int world_size() const override { return std::as_const(comm_).world_size(); }
    void barrier() override { comm_.barrier(); }
    void barrier(std::chrono::nanoseconds timeout) override { comm_.barrier(timeout); }
    void all_reduce(void* data, std::size_t count, data_type type, reduce_op op) override {
      comm_.all_reduce_bytes(data, count, type, op);
    }
    void broadcast(void* data, std::size_t bytes, int root) override { comm_.broadcast_bytes(data, bytes, root); }
    void reduce_scatter(const void* in, void* out, std::size_t out_count, data_type type, reduce_op op) override {
      comm_.reduce_scatter_bytes(in, out, out_count, type, op);
    }
    void all_gather(const void* in, void* out, std::size_t in_bytes) override {
      comm_.all_gather_bytes(in, out, in_bytes);
    }
    std::shared_ptr<std::byte> allocate(std::size_t bytes) override { return comm_.allocate_bytes(bytes); }
    std::shared_ptr<interface> split(int color, int key) override {
      return std::make_shared<model<owned>>(comm_.split(color, key));
    }
    void abort(std::string_view why) noexcept override { comm_.abort(why); }
    void set_timeout(std::chrono::nanoseconds timeout) override { comm_.set_timeout(timeout); }
    std::string_view backend() const override { return std::as_const(comm_).backend(); }
    C comm_;
  };

  explicit any_communicator(std::shared_ptr<interface> made) noexcept : model_(std::move(made)) {}

  std::shared_ptr<interface> model_;
};

static_assert(communicator<any_communicator>);

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/fwd.hpp ----
#ifndef CADRE_COMM_FWD_HPP
#define CADRE_COMM_FWD_HPP

#include <cstdint>

CADRE_NAMESPACE_BEGIN

namespace detail {
struct thread_peers;
template <class Peers>
class thread_group;
}  // namespace detail

enum class reduce_op : std::uint8_t;
template <class Derived>
class collectives;
class any_communicator;
template <class Group>
class basic_local_communicator;
using local_communicator = basic_local_communicator<detail::thread_group<detail::thread_peers>>;
class local_team;

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/detail/offspring.hpp ----
#ifndef CADRE_COMM_DETAIL_OFFSPRING_HPP
#define CADRE_COMM_DETAIL_OFFSPRING_HPP

#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// The ends that a rank has split from its end of a communicator, as long as they live: an abort of that one reaches
/// them, so that peers who wait in one of them are told too. Any thread may call it.
template <class End>
class offspring {
 public:
  void add(const std::shared_ptr<End>& child) {
    const std::lock_guard lock(mutex_);
    std::erase_if(children_, [](const std::weak_ptr<End>& c) { return c.expired(); });
    children_.push_back(child);
    if (aborted_) child->abort("the communicator that it was split from has been aborted");
  }

  void abort(std::string_view why) noexcept {
    const std::lock_guard lock(mutex_);
    aborted_ = true;  // one that is being split meanwhile
    for (const std::weak_ptr<End>& c : children_)
      if (const auto child = c.lock()) child->abort(why);
  }

 private:
  std::mutex mutex_;
  std::vector<std::weak_ptr<End>> children_;
  bool aborted_ = false;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/detail/call_record.hpp ----
#ifndef CADRE_COMM_DETAIL_CALL_RECORD_HPP
#define CADRE_COMM_DETAIL_CALL_RECORD_HPP

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace detail {

enum class operation : std::uint8_t { barrier, all_reduce, broadcast, reduce_scatter, all_gather, allocate, split };

// Where a rank's buffer lies: segment 0 is the rank's own memory, which only threads of its process reach.
struct place {
  std::uint64_t segment = 0;
  std::uint64_t offset = 0;
};

/// What a rank calls, as its peers see it. All but `where` and `by` must be equal on all ranks.
struct call_record {
  operation what = operation::barrier;
  data_type type = data_type::uint8;  // where `reduces`
  reduce_op op = reduce_op::sum;      // where `reduces`
  bool reduces = false;
  std::int32_t root = -1;
  std::uint64_t count = 0;  // elements where `reduces`, else bytes
  std::uint64_t sequence = 0;
  place where = {};
  char by[16] = "";  // the user's call that makes it, where that is another

  [[nodiscard]] bool agrees_with(const call_record& other) const noexcept {
    return what == other.what && type == other.type && op == other.op && root == other.root && count == other.count &&
           sequence == other.sequence;
  }
};

inline std::string describe(operation what, std::uint64_t sequence) {
  constexpr std::string_view names[] = {"barrier",    "all_reduce", "broadcast", "reduce_scatter",
                                        "all_gather", "allocate",   "split"};
  return std::string(names[static_cast<std::size_t>(what)]) + " #" + std::to_string(sequence);
}

inline std::string describe(const call_record& call) {
  std::string text = describe(call.what, call.sequence);
  if (call.reduces) {
    text += " of " + std::to_string(call.count) + ' ' + std::string(to_string(call.type)) + " with " +
            std::string(to_string(call.op));
  } else if (call.what == operation::broadcast || call.what == operation::all_gather) {
    text += " of " + std::to_string(call.count) + " bytes";
    if (call.root >= 0) text += " from root " + std::to_string(call.root);
  }
  if (call.by[0] != '\0') text += std::string(" for ") + call.by;
  return text;
}

// The calls of every model, checked before anything is sent.

inline std::size_t checked_bytes(std::string_view name, std::size_t count, std::size_t size, int ranks) {
  if (count <= std::numeric_limits<std::size_t>::max() / size / static_cast<std::size_t>(ranks)) return count * size;
  throw collective_argument_error::bad_argument(std::string(name) + ": " + std::to_string(count) + " elements of " +
                                                std::to_string(size) + " bytes on each of " + std::to_string(ranks) +
                                                " ranks are more than can be addressed");
}

inline call_record reduction(operation what, std::size_t count, data_type type, reduce_op op, int ranks) {
  const std::string_view name = what == operation::all_reduce ? "all_reduce" : "reduce_scatter";
  if (!supports(op, type))
    throw collective_argument_error::unsupported_reduction(std::string(name) + ": " + std::string(to_string(op)) +
                                                           " has no meaning for " + std::string(to_string(type)) +
                                                           " elements");
  (void)checked_bytes(name, count, size_of(type), ranks);
  return {.what = what, .type = type, .op = op, .reduces = true, .count = count};
}

inline call_record broadcasting(std::size_t bytes, int root, int ranks) {
  if (root < 0 || root >= ranks)
    throw collective_argument_error::bad_argument("broadcast: root " + std::to_string(root) + " is not one of the " +
                                                  std::to_string(ranks) + " ranks");
  return {.what = operation::broadcast, .root = root, .count = bytes};
}

inline call_record gathering(std::size_t bytes, int ranks) {
  (void)checked_bytes("all_gather", bytes, 1, ranks);
  return {.what = operation::all_gather, .count = bytes};
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/detail/control_block.hpp ----
#ifndef CADRE_COMM_DETAIL_CONTROL_BLOCK_HPP
#define CADRE_COMM_DETAIL_CONTROL_BLOCK_HPP

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <thread>

CADRE_NAMESPACE_BEGIN

namespace detail {

// Messages up to this size travel inside the slots, at one meeting of the ranks instead of two.
inline constexpr std::size_t inline_bytes = 2048;

/// One rank's part of a control block, written by that rank alone. What belongs to meeting p lies at index p % 2: it is
/// overwritten for meeting p + 2, which a rank prepares only after all have arrived at p + 1 and so are done with p.
struct alignas(64) rank_slot {
  std::atomic<std::uint32_t> arrived{0};  // the last meeting that the rank has come to
  std::atomic<std::uint32_t> left{0};     // the rank has destroyed its communicator
  std::atomic<std::uint64_t> doing{0};    // its last call, for the texts of errors: number * 256 + operation; 0: none
  call_record calls[2];
  alignas(64) std::byte small[2][inline_bytes];
};

/// What the rank last called, as texts of errors say it.
inline std::string last_call(const rank_slot& slot) {
  const std::uint64_t doing = slot.doing.load(std::memory_order_relaxed);
  return "last call: " + (doing == 0 ? "none" : describe(static_cast<operation>(doing % 256), doing / 256));
}

enum class break_reason : std::uint32_t { aborted, timeout, mismatch };

/// What the ranks of one node share: who has arrived where, and why the communicator broke if it did. Free of
/// pointers, so that processes may map it at different addresses; `slots()` follow in memory.
///
/// Ranks meet at numbered meetings. The gate holds the number of the last meeting that is complete, and two flags. Only
/// an unbroken gate advances, so either every rank sees a meeting complete or none does: a rank that gives up can free
/// its buffers without a peer still starting to read them.
class alignas(64) control_block {
 public:
  static constexpr std::uint32_t broken_flag = 1u << 31;
  static constexpr std::uint32_t left_flag = 1u << 30;
  static constexpr std::uint32_t meeting_mask = left_flag - 1;

  static std::size_t bytes(int ranks) noexcept {
    return sizeof(control_block) + static_cast<std::size_t>(ranks) * sizeof(rank_slot);
  }
  /// Builds a control block and its slots in zeroed memory of bytes(ranks) bytes, aligned to 64.
  static control_block* create(void* memory, int ranks) noexcept {
    auto* block = ::new (memory) control_block(ranks);
    for (int r = 0; r < ranks; ++r) ::new (static_cast<void*>(block->first_slot() + r)) rank_slot;
    return block;
  }

  [[nodiscard]] std::span<rank_slot> slots() noexcept { return {first_slot(), static_cast<std::size_t>(ranks_)}; }

  // Meeting a is at or after meeting b, in numbers that wrap around.
  static bool reached(std::uint32_t a, std::uint32_t b) noexcept { return ((a - b) & meeting_mask) < meeting_mask / 2; }

  [[nodiscard]] bool all_arrived(std::uint32_t meeting) noexcept {
    for (std::int32_t r = 0; r < ranks_; ++r)
      if (!reached(first_slot()[r].arrived.load(), meeting)) return false;
    return true;
  }

  /// Breaks the communicator; the first reason stays. True if this is the first.
  bool break_with(break_reason reason, std::uint64_t sequence, std::string_view why) noexcept {
    std::uint32_t untouched = 0;
    const bool first = record_.compare_exchange_strong(untouched, 1);
    if (first) {
      reason_ = reason;
      sequence_ = sequence;
      const std::size_t n = std::min(why.size(), sizeof(why_) - 1);
      why.copy(why_, n);
      why_[n] = '\0';
      record_.store(2);
    }
    gate.fetch_or(broken_flag);
    return first;
  }

  /// Throws what breaking means for a call with this number: the reason's own error for the call that it happened in,
  /// communicator_aborted for others.
  [[noreturn]] void throw_broken(const call_record& call) const {
    // The writer may be stopped between two instructions for as long as the processors are busy, or killed there.
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    while (record_.load() != 2 && std::chrono::steady_clock::now() < patience)
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    if (record_.load() != 2) throw communicator_aborted(describe(call) + ": the communicator is broken");
    const std::string why = why_;
    if (reason_ == break_reason::timeout && sequence_ == call.sequence) throw communicator_timeout(why);
    if (reason_ == break_reason::mismatch && sequence_ == call.sequence) throw collective_mismatch(why);
    throw communicator_aborted(describe(call) + ": the communicator is broken: " + why);
  }

  std::atomic<std::uint32_t> gate{0};
  std::atomic<std::uint32_t> sleepers{0};

 private:
  explicit control_block(int ranks) noexcept : ranks_(ranks) {}
  rank_slot* first_slot() noexcept { return reinterpret_cast<rank_slot*>(this + 1); }

  std::int32_t ranks_;
  alignas(64) std::atomic<std::uint32_t> record_{0};  // 0 none, 1 being written, 2 written
  break_reason reason_{};
  std::uint64_t sequence_ = 0;
  char why_[1000] = {};
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/detail/copy_bytes.hpp ----
#ifndef CADRE_COMM_DETAIL_COPY_BYTES_HPP
#define CADRE_COMM_DETAIL_COPY_BYTES_HPP

#include <cstddef>
#include <cstring>

CADRE_NAMESPACE_BEGIN

namespace detail {

#if defined(__AVX__)
inline constexpr std::size_t register_bytes = 32;
#else
inline constexpr std::size_t register_bytes = 16;
#endif

/// memcpy at one speed for every alignment. The C library's uses `rep movsb` from 2 KiB on where the processor offers it,
/// and on AMD Zen 3 that is 15 times slower (3 GB/s against 50, measured) for destinations that are not on a cache line.
inline void copy_bytes(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  typedef char vector __attribute__((vector_size(register_bytes)));
  std::size_t at = 0;
  for (; at + 4 * sizeof(vector) <= bytes; at += 4 * sizeof(vector)) {
    vector line[4];
    std::memcpy(line, from + at, sizeof line);
    std::memcpy(to + at, line, sizeof line);
    asm volatile("" ::: "memory");  // else compilers turn the loop back into a call of memcpy
  }
  if (at != bytes) std::memcpy(to + at, from + at, bytes - at);
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/detail/on_behalf_of.hpp ----
#ifndef CADRE_COMM_DETAIL_ON_BEHALF_OF_HPP
#define CADRE_COMM_DETAIL_ON_BEHALF_OF_HPP

CADRE_NAMESPACE_BEGIN

namespace detail {

/// While it lives, the collectives of this thread are those of a call that the user knows by `name`, a literal of at
/// most 15 characters: errors name it beside a collective that the user never wrote. The outermost counts.
class on_behalf_of {
 public:
  explicit on_behalf_of(const char* name) noexcept : outermost_(current() == nullptr) {
    if (outermost_) current() = name;
  }
  on_behalf_of(const on_behalf_of&) = delete;
  on_behalf_of& operator=(const on_behalf_of&) = delete;
  ~on_behalf_of() {
    if (outermost_) current() = nullptr;
  }

  /// Null outside of such a call.
  static const char*& current() noexcept {
    static constinit thread_local const char* name = nullptr;
    return name;
  }

 private:
  bool outermost_;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/detail/member.hpp ----
#ifndef CADRE_COMM_DETAIL_MEMBER_HPP
#define CADRE_COMM_DETAIL_MEMBER_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>

CADRE_NAMESPACE_BEGIN

namespace detail {

inline void spin_pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// One rank's end of a control block: comes to meetings, waits for the others, agrees with them on what is called.
///
/// `Peers` says what the ranks of a node are to each other:
///     scope               of the futex: threads of one process, or processes
///     share_address_space a rank that gives up must not free a buffer while a peer still works on it
///     processors()        how many ranks can run at once
///     rank_of(r)          the number by which the user knows this rank
///     whereabouts(r)      what else identifies it: empty, or text that ends in "; "
///     nap                 the longest sleep between two calls of poll
///     poll(block)         what must be looked at while waiting; may break the block
///     announce(reason, sequence, why)   this rank has broken the block: tells whoever does not see the block
template <class Peers>
class member {
  using clock = std::chrono::steady_clock;

 public:
  member(control_block& block, Peers& peers, int rank) noexcept
      : block_(&block), peers_(&peers), rank_(rank), ranks_(static_cast<int>(block.slots().size())) {}

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int ranks() const noexcept { return ranks_; }
  [[nodiscard]] control_block& block() const noexcept { return *block_; }
  void set_timeout(std::chrono::nanoseconds timeout) noexcept { timeout_ = timeout; }
  [[nodiscard]] std::chrono::nanoseconds timeout() const noexcept { return timeout_; }

  /// Starts a collective: its number, its deadline, and that the communicator is whole. The call is published at the
  /// next meeting.
  void begin(const call_record& call, std::chrono::nanoseconds timeout) {
    call_ = call;
    call_.sequence = ++sequence_;
    if (const char* by = on_behalf_of::current()) std::string_view(by).copy(call_.by, sizeof call_.by - 1);
    limit_ = timeout;
    deadline_ = {};
    own().doing.store(sequence_ * 256 + static_cast<std::uint64_t>(call.what), std::memory_order_relaxed);
    if (block_->gate.load() & control_block::broken_flag) block_->throw_broken(call_);
    // The time starts here where it may run out before a first look at the clock would be taken.
    if (timeout < std::chrono::milliseconds(1)) start_clock();
  }

  /// Room for inline_bytes that the others see from the next meeting on.
  [[nodiscard]] std::byte* outbox() noexcept { return own().small[(meeting_ + 1) % 2]; }
  /// What rank r had in its outbox at the last meeting.
  [[nodiscard]] const std::byte* inbox(int r) noexcept { return slot(r).small[meeting_ % 2]; }
  /// What rank r called at the last `agree`.
  [[nodiscard]] const call_record& call_of(int r) noexcept { return slot(r).calls[meeting_ % 2]; }
  [[nodiscard]] const call_record& call() const noexcept { return call_; }

  /// The first meeting of a collective: throws collective_mismatch on every rank if the calls differ.
  void agree(place where = {}) {
    call_.where = where;
    own().calls[(meeting_ + 1) % 2] = call_;
    meet();
    for (int r = 1; r < ranks_; ++r) {
      if (call_of(r).agrees_with(call_of(0))) continue;
      const std::string why = name_of(0) + " calls " + describe(call_of(0)) + ", but " + name_of(r) + " calls " +
                              describe(call_of(r)) + "; all ranks must make the same calls in the same order";
      give_up(break_reason::mismatch, why);
      block_->throw_broken(call_);
    }
  }

  /// Comes to the next meeting and waits for the others; what they wrote before theirs is then visible.
  void meet() {
    meeting_ = (meeting_ + 1) & control_block::meeting_mask;
    own().arrived.store(meeting_);
    if (block_->all_arrived(meeting_) && open()) return;
    wait();
  }

  /// As meet, after direct access to each other's buffers: among threads it does not return, and so does not let the
  /// caller free its buffer, before the others have come out of theirs. That time is bounded by their computation.
  void meet_done() {
    if constexpr (!Peers::share_address_space) return meet();
    try {
      meet();
    } catch (...) {
      while (!block_->all_arrived(meeting_)) std::this_thread::yield();
      throw;
    }
  }

  /// Breaks the communicator. Any thread may call it.
  void abort(std::string_view why) noexcept { break_block(break_reason::aborted, 0, why); }

  /// Breaks the communicator because of the call that this rank is in.
  void give_up(break_reason reason, std::string_view why) noexcept { break_block(reason, call_.sequence, why); }

  /// When the call that this rank is in runs out of time.
  [[nodiscard]] clock::time_point deadline() noexcept {
    start_clock();
    return deadline_;
  }
  [[nodiscard]] std::chrono::nanoseconds limit() const noexcept { return limit_; }

  /// The rank makes no further calls: peers that wait for it are told.
  void leave() noexcept {
    own().left.store(1);
    block_->gate.fetch_or(control_block::left_flag);
    futex::wake_all(block_->gate, Peers::scope);
  }

 private:
  void break_block(break_reason reason, std::uint64_t sequence, std::string_view why) noexcept {
    const bool first = block_->break_with(reason, sequence, why);
    futex::wake_all(block_->gate, Peers::scope);
    if (first) peers_->announce(reason, sequence, why);
  }

  static constexpr std::chrono::microseconds awake{100};

  rank_slot& slot(int r) noexcept { return block_->slots()[static_cast<std::size_t>(r)]; }
  rank_slot& own() noexcept { return slot(rank_); }

  bool complete(std::uint32_t gate) const noexcept {
    return control_block::reached(gate & control_block::meeting_mask, meeting_);
  }

  // True if the meeting is complete, whoever opened the gate; false if the gate broke first.
  bool open() noexcept {
    std::uint32_t gate = block_->gate.load();
    while (!complete(gate)) {
      if (gate & control_block::broken_flag) return false;
      if (block_->gate.compare_exchange_weak(gate, (gate & control_block::left_flag) | meeting_)) {
        if (block_->sleepers.load() != 0) futex::wake_all(block_->gate, Peers::scope);
        return true;
      }
    }
    return true;
  }

  void wait() {
    // Three steps: spin for a peer that is about to come, then let others have the processor but stay awake (waking a
    // sleeper takes as long as a short collective), then sleep.
    const int spins = ranks_ <= peers_->processors() ? 400 : 4;
    for (int i = 0; i < spins; ++i) {
      if (settled(block_->gate.load())) return;
      spin_pause();
    }
    for (const auto awake_until = clock::now() + awake; clock::now() < awake_until;) {
      std::this_thread::yield();
      if (settled(block_->gate.load())) return;
    }
    start_clock();
    for (;;) {
      std::uint32_t gate = block_->gate.load();
      if (settled(gate)) return;
      // The last to arrive may have been stopped before it opened the gate.
      if (block_->all_arrived(meeting_) && open()) return;
      peers_->poll(*block_);
      if (gate & control_block::left_flag) look_for_leavers();
      const auto now = clock::now();
      if (now >= deadline_) {
        give_up(break_reason::timeout, timeout_text());
        if (settled(block_->gate.load())) return;
      }
      block_->sleepers.fetch_add(1);
      futex::wait_until(block_->gate, gate, Peers::nap < deadline_ - now ? now + Peers::nap : deadline_, Peers::scope);
      block_->sleepers.fetch_sub(1);
    }
  }

  // A complete meeting counts even where the gate has broken since: the others have seen it complete too.
  bool settled(std::uint32_t gate) {
    if (complete(gate)) return true;
    if (gate & control_block::broken_flag) block_->throw_broken(call_);
    return false;
  }

  void look_for_leavers() {
    for (int r = 0; r < ranks_; ++r)
      if (slot(r).left.load() != 0 && !control_block::reached(slot(r).arrived.load(), meeting_)) {
        abort(identity_of(r) + " has left the communicator while " + name_of(rank_) + " waits in " + describe(call_));
        return;
      }
  }

  std::string name_of(int r) const { return "rank " + std::to_string(peers_->rank_of(r)); }
  std::string identity_of(int r) {
    return name_of(r) + " (" + std::string(peers_->whereabouts(r)) + last_call(slot(r)) + ')';
  }

  void start_clock() noexcept {
    if (deadline_ != clock::time_point{}) return;
    const auto now = clock::now();
    deadline_ = limit_ < clock::time_point::max() - now ? now + limit_ : clock::time_point::max();
  }

  std::string timeout_text() {
    std::string late;
    int named = 0, more = 0;
    for (int r = 0; r < ranks_; ++r) {
      if (control_block::reached(slot(r).arrived.load(), meeting_)) continue;
      if (named == 6) {
        ++more;
        continue;
      }
      late += (named++ == 0 ? "" : ", ") + identity_of(r);
    }
    if (more > 0) late += " and " + std::to_string(more) + " more";
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(limit_).count();
    return name_of(rank_) + " waited " + std::to_string(ms) + " ms in " + describe(call_) + "; not arrived: " + late +
           ". A rank that fails must abort the communicator; a slow one needs a longer set_timeout";
  }

  control_block* block_;
  Peers* peers_;
  int rank_;
  int ranks_;
  std::uint32_t meeting_ = 0;
  std::uint64_t sequence_ = 0;
  std::chrono::nanoseconds timeout_ = default_collective_timeout;
  std::chrono::nanoseconds limit_{};
  clock::time_point deadline_{};
  call_record call_;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/detail/reduce_tree.hpp ----
#ifndef CADRE_COMM_DETAIL_REDUCE_TREE_HPP
#define CADRE_COMM_DETAIL_REDUCE_TREE_HPP

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

CADRE_NAMESPACE_BEGIN

namespace detail {

// Blocks that stay in the first-level cache while the tree over the ranks is folded.
inline constexpr std::size_t reduce_block_bytes = 4096;

// a = a op b, for numbers and for vectors of them (the compilers' vector extension), both unsigned where the integer
// result may wrap around. By reference, as passing vectors by value depends on the target's ABI.
template <reduce_op Op, class V>
inline void combine_into(V& a, const V& b) noexcept {
  if constexpr (Op == reduce_op::sum) a = static_cast<V>(a + b);
  if constexpr (Op == reduce_op::product && std::is_integral_v<V>) a = static_cast<V>(1u * a * b);  // not in int
  if constexpr (Op == reduce_op::product && !std::is_integral_v<V>) a = a * b;
  // Written so that a NaN on either side stays.
  if constexpr (Op == reduce_op::min) a = ((b < a) | (b != b)) ? b : a;
  if constexpr (Op == reduce_op::max) a = ((a < b) | (b != b)) ? b : a;
  if constexpr (Op == reduce_op::bit_and) a = static_cast<V>(a & b);
  if constexpr (Op == reduce_op::bit_or) a = static_cast<V>(a | b);
}

// out[i] = a[i] op b[i] for `bytes` bytes; `out` may be `a`, and is otherwise apart from both.
using combine_function = void (*)(std::byte* out, const std::byte* a, const std::byte* b, std::size_t bytes) noexcept;

template <reduce_op Op, class T>
void combine_bytes(std::byte* out, const std::byte* a, const std::byte* b, std::size_t bytes) noexcept {
  constexpr bool compares = Op == reduce_op::min || Op == reduce_op::max;
  using number = typename std::conditional_t<std::is_floating_point_v<T> || compares, std::type_identity<T>,
                                             std::make_unsigned<T>>::type;
  // Vector types by hand: the same code at -O2 and -O3, whatever the compiler can prove about aliasing.
  typedef number vector __attribute__((vector_size(register_bytes)));
  std::size_t at = 0;
  for (; at + sizeof(vector) <= bytes; at += sizeof(vector)) {
    vector x, y;
    std::memcpy(&x, a + at, sizeof x);
    std::memcpy(&y, b + at, sizeof y);
    combine_into<Op>(x, y);
    std::memcpy(out + at, &x, sizeof x);
  }
  for (; at < bytes; at += sizeof(number)) {
    number x, y;
    std::memcpy(&x, a + at, sizeof x);
    std::memcpy(&y, b + at, sizeof y);
    combine_into<Op>(x, y);
    std::memcpy(out + at, &x, sizeof x);
  }
}

/// The loop for one type and operation; null where the operation has no meaning for the type. A template so that only
/// those who reduce pay to compile all the loops.
template <class Type>
combine_function combiner(Type type, reduce_op op) {
  return visit(type, []<class T>(T) -> const combine_function* {
    if constexpr (std::is_floating_point_v<T>) {
      static constexpr combine_function all[] = {combine_bytes<reduce_op::sum, T>,
                                                 combine_bytes<reduce_op::product, T>,
                                                 combine_bytes<reduce_op::min, T>,
                                                 combine_bytes<reduce_op::max, T>,
                                                 nullptr,
                                                 nullptr};
      return all;
    } else {
      static constexpr combine_function all[] = {
          combine_bytes<reduce_op::sum, T>, combine_bytes<reduce_op::product, T>, combine_bytes<reduce_op::min, T>,
          combine_bytes<reduce_op::max, T>, combine_bytes<reduce_op::bit_and, T>, combine_bytes<reduce_op::bit_or, T>};
      return all;
    }
  })[static_cast<std::size_t>(op)];
}

// The tree over sources[0..n), split at the largest power of two below n, for one block at `offset` of each source.
inline void reduce_block(std::byte* out, const std::byte* const* sources, std::size_t n, std::size_t offset,
                         std::size_t bytes, combine_function combine) noexcept {
  if (n == 1) {
    copy_bytes(out, sources[0] + offset, bytes);
  } else if (n == 2) {
    combine(out, sources[0] + offset, sources[1] + offset, bytes);
  } else {
    const std::size_t left = std::bit_floor(n - 1);
    reduce_block(out, sources, left, offset, bytes, combine);
    if (n - left == 1) {
      combine(out, out, sources[left] + offset, bytes);
    } else {
      alignas(64) std::byte right[reduce_block_bytes];
      reduce_block(right, sources + left, n - left, offset, bytes, combine);
      combine(out, out, right, bytes);
    }
  }
}

/// Reduces bytes [begin, end) of the sources and writes them at the same offset of every target. A target may be a
/// source; otherwise they are apart.
inline void reduce_tree(std::span<const std::byte* const> sources, std::span<std::byte* const> targets,
                        std::size_t begin, std::size_t end, combine_function combine) noexcept {
  alignas(64) std::byte block[reduce_block_bytes];
  for (std::size_t offset = begin; offset < end; offset += reduce_block_bytes) {
    const std::size_t bytes = std::min(reduce_block_bytes, end - offset);
    reduce_block(block, sources.data(), sources.size(), offset, bytes, combine);
    for (std::byte* target : targets) copy_bytes(target + offset, block, bytes);
  }
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/detail/node_collectives.hpp ----
#ifndef CADRE_COMM_DETAIL_NODE_COLLECTIVES_HPP
#define CADRE_COMM_DETAIL_NODE_COLLECTIVES_HPP

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Bytes [first, second) of `bytes` that part `part` of `parts` works on; boundaries on whole cache lines.
inline std::pair<std::size_t, std::size_t> share_of(std::size_t bytes, int part, int parts) noexcept {
  const std::size_t lines = (bytes + 63) / 64, n = static_cast<std::size_t>(parts), p = static_cast<std::size_t>(part);
  const auto boundary = [&](std::size_t i) { return std::min(bytes, (lines / n * i + std::min(lines % n, i)) * 64); };
  return {boundary(p), boundary(p + 1)};
}

/// What a stage of `stage` bytes holds for each of the ranks: whole cache lines, of which there is room for one.
inline std::size_t piece_of(std::size_t stage, std::size_t ranks) noexcept {
  return std::max<std::size_t>(64, stage / ranks / 64 * 64);
}

/// The collectives of ranks that reach each other's memory. Besides what `member` asks, `Peers` says how:
///     locate(pointer, bytes)   the place that peers know this buffer by
///     reach(rank, place)       where this rank sees that place of a peer; for places of a segment other than 0
///     staging(rank, slot)      memory that all ranks see, stage_bytes or a cache line per rank, whichever is more; three
///                              slots per rank
/// A rank whose buffer no peer reaches makes all of them pass the data through the stages, in a pipeline that takes one
/// meeting per stage: before meeting k a rank fills slot k and reduces its share of slot k-1, after it it takes the
/// result k-1 out. Slot k is filled again at k+3, when all have taken it out.
template <class Peers>
class node_collectives {
 public:
  node_collectives(control_block& block, Peers& peers, int rank)
      : peers_(&peers), member_(block, peers, rank), sources_(count()), targets_(count()) {}

  [[nodiscard]] detail::member<Peers>& member() noexcept { return member_; }
  [[nodiscard]] const detail::member<Peers>& member() const noexcept { return member_; }

  /// Only makes sure that all ranks make this call.
  void meet(const call_record& call, std::chrono::nanoseconds timeout) {
    member_.begin(call, timeout);
    member_.agree();
  }

  void all_reduce(void* data, const call_record& call) {
    auto* const bytes = static_cast<std::byte*>(data);
    const std::size_t size = call.count * size_of(call.type);
    const combine_function combine = combiner(call.type, call.op);
    member_.begin(call, member_.timeout());
    if (ranks() == 1) return;
    if (size <= inline_bytes) {
      exchange_inline(bytes, size);
      reduce_tree({sources_.data(), count()}, {&bytes, 1}, 0, size, combine);
      return;
    }
    member_.agree(peers_->locate(data, size));
    if (gather_places()) {
      const auto [begin, end] = share_of(size, rank(), ranks());
      reduce_tree({sources_.data(), count()}, {targets_.data(), count()}, begin, end, combine);
      member_.meet_done();
      return;
    }
    if constexpr (Peers::stage_bytes != 0)
      pipeline(
          size, [&](std::size_t at, std::size_t n, int slot) { copy_bytes(stage(rank(), slot), bytes + at, n); },
          [&](std::size_t, std::size_t n, int slot) {
            const auto [begin, end] = share_of(n, rank(), ranks());
            look_at_stages(slot);
            std::byte* const own = stage(rank(), slot);  // nobody else reads this share of it before the next meeting
            reduce_tree({sources_.data(), count()}, {&own, 1}, begin, end, combine);
          },
          [&](std::size_t at, std::size_t n, int slot) {
            for (int r = 0; r < ranks(); ++r) {
              const auto [begin, end] = share_of(n, r, ranks());
              if (begin != end) copy_bytes(bytes + at + begin, stage(r, slot) + begin, end - begin);
            }
          });
  }

  void broadcast(void* data, const call_record& call) {
    const bool is_root = rank() == call.root;
    const std::size_t size = call.count;
    auto* const bytes = static_cast<std::byte*>(data);
    member_.begin(call, member_.timeout());
    if (ranks() == 1) return;
    if (size <= inline_bytes) {
      if (is_root) copy_bytes(member_.outbox(), bytes, size);
      member_.agree();
      if (!is_root) copy_bytes(bytes, member_.inbox(call.root), size);
      return;
    }
    member_.agree(peers_->locate(data, size));
    if (const place from = member_.call_of(call.root).where; from.segment != 0) {
      if (!is_root) copy_bytes(bytes, peers_->reach(call.root, from), size);
      member_.meet_done();
      return;
    }
    if constexpr (Peers::stage_bytes != 0)
      pipeline(
          size,
          [&](std::size_t at, std::size_t n, int slot) {
            if (is_root) copy_bytes(stage(call.root, slot), bytes + at, n);
          },
          [](std::size_t, std::size_t, int) {},
          [&](std::size_t at, std::size_t n, int slot) {
            if (!is_root) copy_bytes(bytes + at, stage(call.root, slot), n);
          });
  }

  void reduce_scatter(const void* in, void* out, const call_record& call) {
    const std::size_t part = call.count * size_of(call.type), size = part * count();
    const std::size_t first = part * static_cast<std::size_t>(rank());
    const auto* const from = static_cast<const std::byte*>(in);
    auto* const to = static_cast<std::byte*>(out);
    const combine_function combine = combiner(call.type, call.op);
    member_.begin(call, member_.timeout());
    if (ranks() == 1) return copy_alone(from, to, part);
    if (size <= inline_bytes) {
      exchange_inline(from, size);
      reduce_from(first, to, part, combine);
      return;
    }
    member_.agree(peers_->locate(in, size));
    if (gather_places()) {
      reduce_from(first, to, part, combine);
      member_.meet_done();
      return;
    }
    [[maybe_unused]] const std::size_t piece = piece_of(Peers::stage_bytes, count());
    if constexpr (Peers::stage_bytes != 0)
      pipeline(
          part,
          [&](std::size_t at, std::size_t n, int slot) {
            for (std::size_t r = 0; r < count(); ++r)
              copy_bytes(stage(rank(), slot) + r * piece, from + r * part + at, n);
          },
          [&](std::size_t at, std::size_t n, int slot) {
            look_at_stages(slot);
            reduce_from(static_cast<std::size_t>(rank()) * piece, to + at, n, combine);
          },
          [](std::size_t, std::size_t, int) {}, piece);
  }

  void all_gather(const void* in, void* out, const call_record& call) {
    const std::size_t part = call.count;
    const auto* const from = static_cast<const std::byte*>(in);
    auto* const to = static_cast<std::byte*>(out);
    member_.begin(call, member_.timeout());
    if (ranks() == 1) return copy_alone(from, to, part);
    if (part <= inline_bytes) {
      exchange_inline(from, part);
      for (std::size_t r = 0; r < count(); ++r) copy_bytes(to + r * part, sources_[r], part);
      return;
    }
    member_.agree(peers_->locate(in, part));
    if (gather_places()) {
      for (std::size_t r = 0; r < count(); ++r)
        if (to + r * part != sources_[r]) copy_bytes(to + r * part, sources_[r], part);
      member_.meet_done();
      return;
    }
    if constexpr (Peers::stage_bytes != 0)
      pipeline(
          part, [&](std::size_t at, std::size_t n, int slot) { copy_bytes(stage(rank(), slot), from + at, n); },
          [](std::size_t, std::size_t, int) {},
          [&](std::size_t at, std::size_t n, int slot) {
            for (int r = 0; r < ranks(); ++r)
              copy_bytes(to + static_cast<std::size_t>(r) * part + at, stage(r, slot), n);
          });
  }

 private:
  [[nodiscard]] int rank() const noexcept { return member_.rank(); }
  [[nodiscard]] int ranks() const noexcept { return member_.ranks(); }
  [[nodiscard]] std::size_t count() const noexcept { return static_cast<std::size_t>(ranks()); }
  [[nodiscard]] std::byte* stage(int r, int slot) { return peers_->staging(r, slot); }

  static void copy_alone(const std::byte* from, std::byte* to, std::size_t bytes) noexcept {
    if (from != to) copy_bytes(to, from, bytes);
  }

  // One meeting: every rank's bytes are then in the inboxes, which sources_ names.
  void exchange_inline(const std::byte* bytes, std::size_t size) {
    copy_bytes(member_.outbox(), bytes, size);
    member_.agree();
    for (int r = 0; r < ranks(); ++r) sources_[static_cast<std::size_t>(r)] = member_.inbox(r);
  }

  // After agree: names every rank's buffer in sources_ and targets_. False if some cannot be reached.
  bool gather_places() {
    for (int r = 0; r < ranks(); ++r)
      if (member_.call_of(r).where.segment == 0) return false;
    for (int r = 0; r < ranks(); ++r)
      sources_[static_cast<std::size_t>(r)] = targets_[static_cast<std::size_t>(r)] =
          peers_->reach(r, member_.call_of(r).where);
    return true;
  }

  void look_at_stages(int slot) {
    for (int r = 0; r < ranks(); ++r) sources_[static_cast<std::size_t>(r)] = stage(r, slot);
  }

  // The sources from byte `first` on, reduced into `to`.
  void reduce_from(std::size_t first, std::byte* to, std::size_t bytes, combine_function combine) {
    for (const std::byte*& source : sources_) source += first;
    reduce_tree({sources_.data(), count()}, {&to, 1}, 0, bytes, combine);
  }

  template <class Fill, class Reduce, class Take>
  void pipeline(std::size_t size, Fill fill, Reduce reduce, Take take, std::size_t step = Peers::stage_bytes) {
    const std::size_t stages = (size + step - 1) / step;
    const auto bytes = [&](std::size_t k) { return std::min(step, size - k * step); };
    const auto slot = [](std::size_t k) { return static_cast<int>(k % 3); };
    for (std::size_t k = 0; k <= stages; ++k) {
      if (k < stages) fill(k * step, bytes(k), slot(k));
      if (k > 0) reduce((k - 1) * step, bytes(k - 1), slot(k - 1));
      member_.meet();
      if (k > 0) take((k - 1) * step, bytes(k - 1), slot(k - 1));
    }
  }

  Peers* peers_;
  detail::member<Peers> member_;
  std::vector<const std::byte*> sources_;
  std::vector<std::byte*> targets_;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/detail/thread_group.hpp ----
#ifndef CADRE_COMM_DETAIL_THREAD_GROUP_HPP
#define CADRE_COMM_DETAIL_THREAD_GROUP_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Threads of one process see all of each other's memory.
struct thread_peers {
  static constexpr auto scope = futex::scope::process;
  static constexpr bool share_address_space = true;
  static constexpr std::chrono::nanoseconds nap = std::chrono::nanoseconds::max();
  static constexpr std::size_t stage_bytes = 0;  // every buffer is reached

  static int processors() noexcept {
    static const int n = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    return n;
  }
  static int rank_of(int rank) noexcept { return rank; }
  static std::string_view whereabouts(int) noexcept { return {}; }
  static void poll(control_block&) noexcept {}
  static void announce(break_reason, std::uint64_t, std::string_view) noexcept {}
  static place locate(const void* data, std::size_t) noexcept { return {1, reinterpret_cast<std::uintptr_t>(data)}; }
  static std::byte* reach(int, place where) noexcept { return reinterpret_cast<std::byte*>(where.offset); }
};

/// What a team of threads shares. A template so that only those who make a team pay to compile it.
template <class Peers = thread_peers>
class thread_group {
 public:
  explicit thread_group(int ranks) : memory_(::operator new(control_block::bytes(ranks), alignment)), block_(nullptr) {
    block_ = control_block::create(memory_.get(), ranks);
  }

  [[nodiscard]] control_block& block() noexcept { return *block_; }
  [[nodiscard]] Peers& peers() noexcept { return peers_; }

  void abort(std::string_view why) noexcept {
    block_->break_with(break_reason::aborted, 0, why);
    futex::wake_all(block_->gate, Peers::scope);
  }

  /// The group that the split of this number made for `color`: made by the first of its members that asks.
  [[nodiscard]] std::shared_ptr<thread_group> child(std::uint64_t split, int color, int members) {
    if (color < 0) return std::make_shared<thread_group>(1);
    const std::lock_guard lock(mutex_);
    auto& [group, missing] = children_[{split, color}];
    if (!group) {
      group = std::make_shared<thread_group>(members);
      missing = members;
    }
    auto found = group;
    if (--missing == 0) children_.erase({split, color});
    return found;
  }

 private:
  static constexpr std::align_val_t alignment{64};
  struct release {
    void operator()(void* memory) const noexcept { ::operator delete(memory, alignment); }
  };

  std::unique_ptr<void, release> memory_;
  control_block* block_;
  Peers peers_;
  std::mutex mutex_;
  std::map<std::pair<std::uint64_t, int>, std::pair<std::shared_ptr<thread_group>, int>> children_;
};

struct split_place {
  int members = 0;  // ranks of this color
  int rank = 0;     // this rank's number among them
};

/// Where this rank comes to stand in a split, from everybody's color and key.
template <class Communicator>
split_place members_of_split(Communicator& comm, int color, int key) {
  struct wish {
    int color, key;
  };
  if (color < 0) {
    (void)comm.all_gather(wish{color, key});
    return {1, 0};
  }
  split_place found;
  const auto wishes = comm.all_gather(wish{color, key});
  for (int r = 0; r < comm.world_size(); ++r) {
    const wish& other = wishes[static_cast<std::size_t>(r)];
    if (other.color != color) continue;
    ++found.members;
    if (other.key < key || (other.key == key && r < comm.rank())) ++found.rank;
  }
  return found;
}

/// Of the errors of a team's ranks the one to show: the first that is not the consequence of another's.
class first_failure {
 public:
  void note(const std::exception_ptr& error) noexcept {
    bool consequence = false;
    try {
      std::rethrow_exception(error);
    } catch (const communicator_aborted&) {
      consequence = true;
    } catch (...) {}
    const std::lock_guard lock(mutex_);
    if (!error_ || (consequence_ && !consequence)) {
      error_ = error;
      consequence_ = consequence;
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
  bool consequence_ = false;
};

inline std::string describe_failure(int rank, const std::exception_ptr& error) noexcept try {
  const std::string who = "rank " + std::to_string(rank) + " threw";
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return who + ": " + e.what();
  } catch (...) {
    return who + " something that is no std::exception";
  }
} catch (...) {
  return {};
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/os/mapping.hpp ----
#ifndef CADRE_OS_MAPPING_HPP
#define CADRE_OS_MAPPING_HPP

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#ifndef MADV_POPULATE_WRITE  // Linux 5.14
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE  // Linux 6.1
#define MADV_COLLAPSE 25
#endif

CADRE_NAMESPACE_BEGIN

/// Thrown (159) when memory cannot be made, mapped or reserved. `code()` is the system's error.
class mapping_error : public error {
 public:
  mapping_error(std::string_view message, int code)
      : error("os", 159, std::string(message) + ": " + std::generic_category().message(code)), code_(code) {}
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  int code_;
};

/// A file descriptor that is closed at the end. Move-only.
class file_descriptor {
 public:
  file_descriptor() = default;
  explicit file_descriptor(int number) noexcept : number_(number) {}
  file_descriptor(file_descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  file_descriptor& operator=(file_descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~file_descriptor() {
    if (number_ >= 0) ::close(number_);
  }

  [[nodiscard]] int get() const noexcept { return number_; }
  explicit operator bool() const noexcept { return number_ >= 0; }

 private:
  int number_ = -1;
};

namespace detail {
// Linux 5.14. Where it is missing, the memory of files is reserved when they are made.
inline bool can_populate() noexcept {
  static const bool can = ::madvise(nullptr, 0, MADV_POPULATE_WRITE) == 0;
  return can;
}
}  // namespace detail

/// An anonymous file in memory, zeroed, that the kernel frees with its last mapping and descriptor, however the
/// processes end. Not bound by the size of /dev/shm. Other processes of the user open it as /proc/PID/fd/NUMBER.
/// Throws mapping_error (159).
[[nodiscard]] inline file_descriptor make_memory_file(const char* name, std::size_t bytes) {
  file_descriptor file(::memfd_create(name, MFD_CLOEXEC));
  if (!file) throw mapping_error("cannot make a file in memory", errno);
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0)
    throw mapping_error("cannot make a file of " + std::to_string(bytes) + " bytes in memory", errno);
  if (!detail::can_populate())
    if (const int code = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes)); code != 0)
      throw mapping_error("cannot reserve a file of " + std::to_string(bytes) + " bytes in memory", code);
  return file;
}

/// Memory mapped into this process, unmapped at the end. Move-only.
class mapping {
 public:
  static constexpr std::size_t huge_page = std::size_t{2} << 20;

  mapping() = default;
  /// The first `bytes` of a file, shared with all who map it. Mappings of 2 MiB and more begin at a multiple of 2 MiB.
  /// Reserves nothing: call `reserve` before touching memory that may not be there. Throws mapping_error (159).
  static mapping shared(const file_descriptor& file, std::size_t bytes) {
    mapping made;
    made.map(bytes, MAP_SHARED, file.get());
    return made;
  }
  /// Zeroed memory of this process alone, in huge pages where the system has them. Throws mapping_error (159).
  static mapping anonymous(std::size_t bytes) {
    mapping made;
    made.map(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (bytes >= huge_page) ::madvise(made.data_, bytes, MADV_HUGEPAGE);
    return made;
  }
  mapping(mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  mapping& operator=(mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~mapping() {
    if (data_ != nullptr) ::munmap(data_, size_);
  }

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  /// Makes bytes [offset, offset + bytes) present, so that touching them cannot fail: where memory is short this throws
  /// mapping_error (159) in place of a later SIGBUS. Huge pages are used where the kernel gives them (shared memory:
  /// Linux 6.1), which makes the first touch several times cheaper.
  void reserve(std::size_t offset, std::size_t bytes) {
    if (bytes == 0) return;
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t begin = offset / page * page, end = (offset + bytes + page - 1) / page * page;
    // A huge page is collapsed from a range that has one page present; where that does not work, all are made present.
    const std::size_t huge_begin = (begin + huge_page - 1) / huge_page * huge_page,
                      huge_end = end / huge_page * huge_page;
    if (huge_begin < huge_end) {
      for (std::size_t at = huge_begin; at < huge_end; at += huge_page) populate(at, page);
      ::madvise(data_ + huge_begin, huge_end - huge_begin, MADV_COLLAPSE);
    }
    populate(begin, end - begin);
  }

 private:
  void map(std::size_t bytes, int flags, int file) {
    if (bytes == 0) throw mapping_error("cannot map 0 bytes", EINVAL);
    // Address space for the alignment first, then the mapping over the aligned part of it.
    const std::size_t slack = bytes >= huge_page ? huge_page : 0;
    if (bytes > std::numeric_limits<std::size_t>::max() / 2)
      throw mapping_error("cannot map " + std::to_string(bytes) + " bytes", ENOMEM);
    void* const space = ::mmap(nullptr, bytes + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED) throw mapping_error("cannot map " + std::to_string(bytes) + " bytes", errno);
    auto* const begin = static_cast<std::byte*>(space);
    const std::size_t shift =
        slack == 0 ? 0 : (huge_page - reinterpret_cast<std::uintptr_t>(begin) % huge_page) % huge_page;
    void* const made = ::mmap(begin + shift, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, file, 0);
    if (made == MAP_FAILED) {
      const int code = errno;
      ::munmap(space, bytes + slack);
      throw mapping_error("cannot map " + std::to_string(bytes) + " bytes", code);
    }
    data_ = begin + shift;
    size_ = bytes;
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t tail = shift + (bytes + page - 1) / page * page;
    if (shift != 0) ::munmap(begin, shift);
    if (tail < bytes + slack) ::munmap(begin + tail, bytes + slack - tail);
  }

  void populate(std::size_t offset, std::size_t bytes) {
    if (!detail::can_populate() || ::madvise(data_ + offset, bytes, MADV_POPULATE_WRITE) == 0) return;
    throw mapping_error("cannot reserve " + std::to_string(bytes) + " bytes of memory",
                        errno == EFAULT ? ENOMEM : errno);
  }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/detail/zeroed_memory.hpp ----
#ifndef CADRE_COMM_DETAIL_ZEROED_MEMORY_HPP
#define CADRE_COMM_DETAIL_ZEROED_MEMORY_HPP

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Zeroed memory of this process, aligned to 64 bytes; large blocks in huge pages where the system has them.
inline std::shared_ptr<std::byte> zeroed_memory(std::size_t bytes) {
  if (bytes >= mapping::huge_page) {
    const auto memory = std::make_shared<mapping>(mapping::anonymous(bytes));
    return {memory, memory->data()};
  }
  auto* const memory = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{64}));
  std::memset(memory, 0, bytes);
  return {memory, [](std::byte* p) { ::operator delete(p, std::align_val_t{64}); }};
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm/local_team.hpp ----
#ifndef CADRE_COMM_LOCAL_TEAM_HPP
#define CADRE_COMM_LOCAL_TEAM_HPP

#include <algorithm>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// A rank of a team of threads: a communicator whose collectives read and write the ranks' buffers where they lie.
/// Made by local_team::run and by split; move-only; each rank's object is used by one thread at a time. A rank that
/// destroys its communicator has left: peers that wait for it get communicator_aborted.
///
/// A template so that only those who make one pay to compile it; its name is local_communicator.
template <class Group>
class basic_local_communicator : public collectives<basic_local_communicator<Group>> {
 public:
  /// Rank 0 of 1: for code that wants a communicator and has no team.
  basic_local_communicator() : basic_local_communicator(std::make_shared<Group>(1), 0) {}
  basic_local_communicator(basic_local_communicator&&) noexcept = default;
  basic_local_communicator& operator=(basic_local_communicator&&) noexcept = default;

  [[nodiscard]] int rank() const { return end_->calls.member().rank(); }
  [[nodiscard]] int world_size() const { return end_->calls.member().ranks(); }
  void barrier() { meet(detail::operation::barrier); }
  void barrier(std::chrono::nanoseconds timeout) { end_->calls.meet({.what = detail::operation::barrier}, timeout); }

  void all_reduce_bytes(void* data, std::size_t count, data_type type, reduce_op op) {
    end_->calls.all_reduce(data, detail::reduction(detail::operation::all_reduce, count, type, op, world_size()));
  }
  void broadcast_bytes(void* data, std::size_t bytes, int root) {
    end_->calls.broadcast(data, detail::broadcasting(bytes, root, world_size()));
  }
  void reduce_scatter_bytes(const void* in, void* out, std::size_t out_count, data_type type, reduce_op op) {
    end_->calls.reduce_scatter(in, out,
                               detail::reduction(detail::operation::reduce_scatter, out_count, type, op, world_size()));
  }
  void all_gather_bytes(const void* in, void* out, std::size_t in_bytes) {
    end_->calls.all_gather(in, out, detail::gathering(in_bytes, world_size()));
  }

  /// Every rank calls it; the memory is the rank's own, and ordinary memory is reduced as fast. Throws std::bad_alloc.
  [[nodiscard]] std::shared_ptr<std::byte> allocate_bytes(std::size_t bytes) {
    meet(detail::operation::allocate);
    return detail::zeroed_memory(bytes);
  }

  /// Ranks with the same color form a communicator of their own, ordered by key, then by rank here. A rank with a
  /// negative color gets one of which it is the only member.
  [[nodiscard]] basic_local_communicator split(int color, int key) {
    meet(detail::operation::split);
    const auto [members, child_rank] = detail::members_of_split(*this, color, key);
    const auto number = end_->calls.member().call().sequence;
    basic_local_communicator child(end_->group->child(number, color, members), child_rank);
    child.set_timeout(end_->calls.member().timeout());
    end_->children.add(child.end_);
    return child;
  }

  /// Any thread may call it, as long as the communicator lives. It reaches the communicators that this rank has split
  /// from this one too.
  void abort(std::string_view why) noexcept { end_->abort(why); }
  void set_timeout(std::chrono::nanoseconds timeout) { end_->calls.member().set_timeout(timeout); }
  [[nodiscard]] std::string_view backend() const { return "threads"; }

 private:
  friend class local_team;

  struct end {
    end(std::shared_ptr<Group> shared, int rank)
        : group(std::move(shared)), calls(group->block(), group->peers(), rank) {}
    end(const end&) = delete;
    end& operator=(const end&) = delete;
    ~end() { calls.member().leave(); }
    void abort(std::string_view why) noexcept {
      calls.member().abort(why);
      children.abort(why);
    }
    std::shared_ptr<Group> group;
    detail::node_collectives<detail::thread_peers> calls;
    detail::offspring<end> children;
  };

  void meet(detail::operation what) { end_->calls.meet({.what = what}, end_->calls.member().timeout()); }

  basic_local_communicator(std::shared_ptr<Group> group, int rank)
      : end_(std::make_shared<end>(std::move(group), rank)) {}

  std::shared_ptr<end> end_;  // an abort of the parent may hold it for a moment
};

/// Threads as ranks:
///
///     cadre::local_team team{4};
///     team.run([&](cadre::local_communicator& comm) { comm.all_reduce(gradient, cadre::sum); });
///
/// A team holds no threads between runs; one team may run several functions at once.
class local_team {
 public:
  /// Throws collective_argument_error (405) unless there is at least one rank.
  explicit local_team(int world_size) : world_size_(world_size) {
    if (world_size < 1)
      throw collective_argument_error::bad_argument("a team needs at least one rank, not " +
                                                    std::to_string(world_size));
  }

  [[nodiscard]] int world_size() const noexcept { return world_size_; }

  /// Calls `f(comm)` once per rank, rank 0 on the calling thread and each other on a thread of its own, and waits for
  /// all. Returns what the ranks returned, in rank order, or nothing if f returns nothing. When a rank throws, the
  /// others' collectives throw communicator_aborted (402) with the rank and its error, and run throws what that rank
  /// threw. `f` is shared by the ranks. Throws thread_error (151) when a rank gets no thread: ranks that run already are
  /// told as above, and rank 0 does not begin.
  template <class F>
  auto run(F&& f) const {
    using result = std::invoke_result_t<F&, local_communicator&>;
    if constexpr (std::is_void_v<result>) {
      run_ranks([&](local_communicator& comm) { f(comm); });
    } else {
      static_assert(!std::is_reference_v<result>, "local_team::run: return a value, not a reference");
      std::vector<std::optional<result>> slots(static_cast<std::size_t>(world_size_));
      run_ranks([&](local_communicator& comm) { slots[static_cast<std::size_t>(comm.rank())].emplace(f(comm)); });
      std::vector<result> results;
      results.reserve(slots.size());
      for (auto& slot : slots) results.push_back(*std::move(slot));
      return results;
    }
  }

 private:
  template <class Body>
  void run_ranks(Body&& body) const {
    if (world_size_ == 1) {
      local_communicator alone;
      body(alone);
      return;
    }
    const auto group = std::make_shared<detail::thread_group<>>(world_size_);
    detail::first_failure failure;
    const auto run_rank = [&](int rank) {
      try {
        local_communicator comm(group, rank);
        try {
          body(comm);
        } catch (...) {
          // Noted before the peers are told, so that what they throw in consequence comes later.
          failure.note(std::current_exception());
          comm.abort(detail::describe_failure(rank, std::current_exception()));
        }
      } catch (...) {
        failure.note(std::current_exception());
        group->abort("rank " + std::to_string(rank) + " could not start");
      }
    };
    {
      std::vector<native_thread> threads;  // joined at the end of this block
      try {
        threads.reserve(static_cast<std::size_t>(world_size_ - 1));
        for (int rank = 1; rank < world_size_; ++rank)
          threads.emplace_back("rank " + std::to_string(rank) + " of " + std::to_string(world_size_),
                               [&run_rank, rank] { run_rank(rank); });
        run_rank(0);
      } catch (...) {
        failure.note(std::current_exception());
        group->abort(detail::describe_failure(static_cast<int>(threads.size()) + 1, std::current_exception()));
      }
    }
    failure.rethrow();
  }

  int world_size_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/comm.hpp ----
#ifndef CADRE_COMM_HPP
#define CADRE_COMM_HPP

#endif

// ---- cadre/core/direction.hpp ----
#ifndef CADRE_CORE_DIRECTION_HPP
#define CADRE_CORE_DIRECTION_HPP

CADRE_NAMESPACE_BEGIN

/// Whether a smaller or a larger score is the better one.
enum class direction { minimize, maximize };

inline constexpr direction minimize = direction::minimize;
inline constexpr direction maximize = direction::maximize;

/// True if `a` is strictly better than `b`. A NaN is never better, and every number is better than a NaN.
[[nodiscard]] constexpr bool better(direction order, double a, double b) noexcept {
  if (a != a) return false;
  if (b != b) return true;
  return order == direction::minimize ? a < b : a > b;
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/core/fwd.hpp ----
#ifndef CADRE_CORE_FWD_HPP
#define CADRE_CORE_FWD_HPP

CADRE_NAMESPACE_BEGIN

class error;
class metric_map;
class permutation;
class random_stream;
class xxh64;
struct metric;
template <class T>
struct contiguous_traits;
template <class T>
struct portable;

CADRE_NAMESPACE_END

#endif

// ---- cadre/core/hash.hpp ----
#ifndef CADRE_CORE_HASH_HPP
#define CADRE_CORE_HASH_HPP

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

CADRE_NAMESPACE_BEGIN

/// XXH64 of bytes that arrive in pieces: the checksum of every file and message of cadre. Written from the public
/// specification (xxHash, doc/xxhash_spec.md); not for cryptography. However the bytes are cut, the result is the same.
class xxh64 {
 public:
  explicit xxh64(std::uint64_t seed = 0) noexcept
      : lanes_{seed + prime1 + prime2, seed + prime2, seed, seed - prime1}, seed_(seed) {}

  xxh64& update(std::span<const std::byte> bytes) noexcept {
    if (bytes.empty()) return *this;
    const std::size_t held = total_ % stripe;
    total_ += bytes.size();
    if (held != 0) {
      const std::size_t wanted = bytes.size() < stripe - held ? bytes.size() : stripe - held;
      std::memcpy(rest_.data() + held, bytes.data(), wanted);
      bytes = bytes.subspan(wanted);
      if (held + wanted < stripe) return *this;
      consume(rest_.data(), 1);
    }
    const std::size_t stripes = bytes.size() / stripe;
    consume(bytes.data(), stripes);
    bytes = bytes.subspan(stripes * stripe);
    if (!bytes.empty()) std::memcpy(rest_.data(), bytes.data(), bytes.size());
    return *this;
  }

  /// The hash of what came so far; more may follow.
  [[nodiscard]] std::uint64_t digest() const noexcept {
    std::uint64_t h = seed_ + prime5;
    if (total_ >= stripe) {
      h = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) + std::rotl(lanes_[3], 18);
      for (std::uint64_t lane : lanes_) h = (h ^ round(0, lane)) * prime1 + prime4;
    }
    h += total_;
    const std::byte* p = rest_.data();
    std::size_t left = total_ % stripe;
    for (; left >= 8; left -= 8, p += 8) h = std::rotl(h ^ round(0, load<std::uint64_t>(p)), 27) * prime1 + prime4;
    for (; left >= 4; left -= 4, p += 4) h = std::rotl(h ^ (load<std::uint32_t>(p) * prime1), 23) * prime2 + prime3;
    for (; left != 0; --left, ++p) h = std::rotl(h ^ (std::to_integer<std::uint64_t>(*p) * prime5), 11) * prime1;
    h = (h ^ (h >> 33)) * prime2;
    h = (h ^ (h >> 29)) * prime3;
    return h ^ (h >> 32);
  }

 private:
  static constexpr std::uint64_t prime1 = 0x9E3779B185EBCA87, prime2 = 0xC2B2AE3D27D4EB4F, prime3 = 0x165667B19E3779F9,
                                 prime4 = 0x85EBCA77C2B2AE63, prime5 = 0x27D4EB2F165667C5;
  static constexpr std::size_t stripe = 32;

  template <class Word>
  static std::uint64_t load(const std::byte* p) noexcept {
    static_assert(std::endian::native == std::endian::little);
    Word word;
    std::memcpy(&word, p, sizeof word);
    return word;
  }
  static constexpr std::uint64_t round(std::uint64_t lane, std::uint64_t input) noexcept {
    return std::rotl(lane + input * prime2, 31) * prime1;
  }
  void consume(const std::byte* p, std::size_t stripes) noexcept {
    auto [a, b, c, d] = lanes_;
    for (; stripes != 0; --stripes, p += stripe) {
      a = round(a, load<std::uint64_t>(p));
      b = round(b, load<std::uint64_t>(p + 8));
      c = round(c, load<std::uint64_t>(p + 16));
      d = round(d, load<std::uint64_t>(p + 24));
    }
    lanes_ = {a, b, c, d};
  }

  std::array<std::uint64_t, 4> lanes_;
  std::array<std::byte, stripe> rest_{};
  std::uint64_t seed_;
  std::uint64_t total_ = 0;
};

/// XXH64 of `bytes`.
[[nodiscard]] inline std::uint64_t hash_bytes(std::span<const std::byte> bytes, std::uint64_t seed = 0) noexcept {
  return xxh64(seed).update(bytes).digest();
}

/// A bijection of 64-bit words in which every input bit changes every output bit with a probability near one half
/// (variant 13 of Stafford's mixers, as in SplitMix64).
[[nodiscard]] constexpr std::uint64_t hash_mix(std::uint64_t x) noexcept {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

/// Adds `value` to the hash of an ordered list. For a given hash this is a bijection of values.
[[nodiscard]] constexpr std::uint64_t hash_combine(std::uint64_t hash, std::uint64_t value) noexcept {
  return hash_mix(hash_mix(hash + 0x9E3779B97F4A7C15) ^ value);
}

/// A hash of text that is the same in every process and can be had at compile time (FNV-1a, mixed): for short names.
[[nodiscard]] constexpr std::uint64_t hash_text(std::string_view text) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return hash_mix(hash);
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/core/metric_map.hpp ----
#ifndef CADRE_CORE_METRIC_MAP_HPP
#define CADRE_CORE_METRIC_MAP_HPP

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Thrown (101) when a metric is asked for that was not reported.
class no_such_metric : public error {
 public:
  explicit no_such_metric(std::string_view message) : error("core", 101, message) {}
};

/// One name and value of a report, as written in braces: `{"val_loss", 0.3}`, `{"epoch", 7}`.
struct metric {
  template <class Number>
    requires std::integral<Number> || std::floating_point<Number>
  metric(std::string_view metric_name, Number metric_value)
      : name(metric_name), value(static_cast<double>(metric_value)) {}

  std::string name;
  double value;

  friend bool operator==(const metric&, const metric&) = default;
};

/// The numbers of one report, in the order in which they were given. Small by nature, so a search is a short walk.
class metric_map {
 public:
  metric_map() = default;
  /// A name given twice keeps its last value.
  metric_map(std::initializer_list<metric> metrics) {
    for (const metric& m : metrics) set(m.name, m.value);
  }

  void set(std::string_view name, double value) {
    if (double* known = find(name))
      *known = value;
    else
      metrics_.emplace_back(name, value);
  }

  /// Null if the metric is absent.
  [[nodiscard]] const double* find(std::string_view name) const noexcept {
    for (const metric& m : metrics_)
      if (m.name == name) return &m.value;
    return nullptr;
  }
  [[nodiscard]] double* find(std::string_view name) noexcept {
    return const_cast<double*>(std::as_const(*this).find(name));
  }

  [[nodiscard]] bool contains(std::string_view name) const noexcept { return find(name) != nullptr; }

  /// Throws no_such_metric (101), naming the metrics that there are.
  [[nodiscard]] double at(std::string_view name) const {
    if (const double* value = find(name)) return *value;
    std::string message = "no metric '" + std::string(name) + "' was reported; there ";
    message += metrics_.empty() ? "is none" : "are:";
    for (const metric& m : metrics_) message += " '" + m.name + "'";
    throw no_such_metric(message);
  }

  [[nodiscard]] std::size_t size() const noexcept { return metrics_.size(); }
  [[nodiscard]] bool empty() const noexcept { return metrics_.empty(); }
  [[nodiscard]] auto begin() const noexcept { return metrics_.begin(); }
  [[nodiscard]] auto end() const noexcept { return metrics_.end(); }

  friend bool operator==(const metric_map&, const metric_map&) = default;

 private:
  std::vector<metric> metrics_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/core/detail/normal_quantile.hpp ----
#ifndef CADRE_CORE_DETAIL_NORMAL_QUANTILE_HPP
#define CADRE_CORE_DETAIL_NORMAL_QUANTILE_HPP

#include <cmath>

CADRE_NAMESPACE_BEGIN

namespace detail {

template <class... Coefficients>
constexpr double polynomial(double x, double first, Coefficients... rest) noexcept {
  double power = x, sum = first;
  ((sum += rest * power, power *= x), ...);
  return sum;
}

/// The x at which the standard normal distribution function is p, 0 < p < 1, to about 1e-16: algorithm AS 241, PPND16
/// (Wichura, Applied Statistics 37, 1988). 85% of all p need no call to libm.
inline double normal_quantile(double p) noexcept {
  const double q = p - 0.5;
  if (std::abs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q *
           polynomial(r, 3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
                      1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
                      3.3430575583588128105e4, 2.5090809287301226727e3) /
           polynomial(r, 1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
                      2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
                      5.2264952788528545610e3);
  }
  double r = std::sqrt(-std::log(q < 0 ? p : 1 - p));
  double x;
  if (r <= 5) {
    r -= 1.6;
    x = polynomial(r, 1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
                   3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
                   2.27238449892691845833e-2, 7.74545014278341407640e-4) /
        polynomial(r, 1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
                   1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
                   1.05075007164441684324e-9);
  } else {
    r -= 5;
    x = polynomial(r, 6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
                   2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                   2.71155556874348757815e-5, 2.01033439929228813265e-7) /
        polynomial(r, 1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
                   7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
                   2.04426310338993978564e-15);
  }
  return q < 0 ? -x : x;
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/core/random.hpp ----
#ifndef CADRE_CORE_RANDOM_HPP
#define CADRE_CORE_RANDOM_HPP

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>

CADRE_NAMESPACE_BEGIN

/// Thrown (102) when a random integer is asked for from a range that holds none.
class empty_random_range : public error {
 public:
  explicit empty_random_range(std::string_view message) : error("core", 102, message) {}
};

/// Philox 4x32 with 10 rounds: a pure function from a 128-bit counter and a 64-bit key to 128 random bits, so that any
/// number of a sequence is had without those before it (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
/// SC'11). Not for cryptography.
[[nodiscard]] constexpr std::array<std::uint32_t, 4> philox4x32(const std::array<std::uint32_t, 4>& counter,
                                                                const std::array<std::uint32_t, 2>& key) noexcept {
  auto [c0, c1, c2, c3] = counter;
  auto [k0, k1] = key;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * c0;
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<std::uint32_t>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(b);
    c2 = static_cast<std::uint32_t>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(a);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {c0, c1, c2, c3};
}

/// What may name a stream: an integer (of any type: 3 and 3u are one name), an enumerator, or text.
template <class T>
concept stream_identifier = std::integral<T> || std::is_enum_v<T> || std::convertible_to<const T&, std::string_view>;

/// Random numbers keyed by what they are for, never by who asks first: `random_stream{seed, "dropout", layer, step}`
/// gives the same numbers in every thread, rank and run. Streams of different seeds or identifiers are independent; the
/// identifiers are an ordered list.
///
/// A stream is a position in a sequence of 2^64 draws of 64 bits. It models std::uniform_random_bit_generator. Copies
/// are cheap (48 bytes) and go their own way; one object is not for several threads at once. Integers and uniform
/// numbers are the same bits on every machine; normal ones are as far as the compiler's multiply-add contraction and
/// libm's log agree (see docs/core.md).
class random_stream {
 public:
  using result_type = std::uint64_t;

  template <stream_identifier... Identifiers>
  explicit constexpr random_stream(std::uint64_t seed, const Identifiers&... identifiers) noexcept
      : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)} {
    ((stream_ = hash_combine(stream_, name(identifiers))), ...);
  }

  static constexpr result_type min() noexcept { return 0; }
  static constexpr result_type max() noexcept { return std::numeric_limits<result_type>::max(); }

  /// The next 64 random bits.
  constexpr result_type operator()() noexcept {
    const std::uint64_t at = position_++;
    if (at % 2 == 1 && cached_ == at / 2) return join(block_[2], block_[3]);
    block_ = block(cached_ = at / 2);
    return at % 2 == 0 ? join(block_[0], block_[1]) : join(block_[2], block_[3]);
  }

  /// Uniform in [0, 1), a multiple of 2^-53.
  constexpr double uniform() noexcept { return static_cast<double>((*this)() >> 11) * 0x1p-53; }

  /// Uniform in [low, high), both finite and low <= high; `low` if the two are equal.
  constexpr double uniform(double low, double high) noexcept { return between_bounds(low, high, uniform()); }

  /// Normally distributed with mean 0 and deviation 1: the inverse of the distribution function, one draw each.
  double normal() noexcept { return detail::normal_quantile(open_unit((*this)())); }
  double normal(double mean, double deviation) noexcept { return mean + deviation * normal(); }

  /// True with the given probability.
  constexpr bool bernoulli(double probability) noexcept { return uniform() < probability; }

  /// Uniform among 0 .. n-1 without bias (Lemire, "Fast random integer generation in an interval", 2019): one draw,
  /// seldom more. Throws empty_random_range (102) if n is 0.
  constexpr std::uint64_t below(std::uint64_t n) {
    if (n == 0) throw empty_random_range("asked for a random integer below 0; the upper bound must be at least 1");
    __extension__ using wide = unsigned __int128;
    wide scaled = static_cast<wide>((*this)()) * n;
    if (static_cast<std::uint64_t>(scaled) < n) {
      const std::uint64_t threshold = (0 - n) % n;
      while (static_cast<std::uint64_t>(scaled) < threshold) scaled = static_cast<wide>((*this)()) * n;
    }
    return static_cast<std::uint64_t>(scaled >> 64);
  }

  /// Uniform among first .. last, both included, without bias. Throws empty_random_range (102) if last < first.
  template <std::integral Integer>
  constexpr Integer between(Integer first, Integer last) {
    if (last < first)
      throw empty_random_range("asked for a random integer between two bounds of which the first is the larger");
    const std::uint64_t span = static_cast<std::uint64_t>(last) - static_cast<std::uint64_t>(first);
    const std::uint64_t offset = span == max() ? (*this)() : below(span + 1);
    return static_cast<Integer>(static_cast<std::uint64_t>(first) + offset);
  }

  /// Fills with uniform numbers in [low, high), bounds as for `uniform`. Floats take 32 bits each, doubles one draw; element i depends on the
  /// position and i alone, so threads may fill the parts of one array from copies that have skipped to their places.
  void fill_uniform(std::span<float> out, float low = 0, float high = 1) noexcept {
    fill_words(out, [low, high](std::uint32_t word) {
      return between_bounds(low, high, static_cast<float>(word >> 8) * 0x1p-24f);
    });
  }
  void fill_uniform(std::span<double> out, double low = 0, double high = 1) noexcept {
    for (double& x : out) x = uniform(low, high);
  }

  /// Fills with normal numbers; floats reach 6.3 deviations, doubles 8.2.
  void fill_normal(std::span<float> out, float mean = 0, float deviation = 1) noexcept {
    fill_words(out, [mean, deviation](std::uint32_t word) {
      return mean +
             deviation * static_cast<float>(detail::normal_quantile((static_cast<double>(word) + 0.5) * 0x1p-32));
    });
  }
  void fill_normal(std::span<double> out, double mean = 0, double deviation = 1) noexcept {
    for (double& x : out) x = normal(mean, deviation);
  }

  /// How many draws of 64 bits were taken or skipped. A float of fill_uniform and fill_normal counts as half a draw, an
  /// odd one as a whole.
  [[nodiscard]] constexpr std::uint64_t position() const noexcept { return position_; }
  /// Goes anywhere in the sequence, at no cost.
  constexpr void seek(std::uint64_t position) noexcept { position_ = position; }
  constexpr void skip(std::uint64_t draws) noexcept { position_ += draws; }

  /// True if both give the same numbers from here on.
  friend constexpr bool operator==(const random_stream& a, const random_stream& b) noexcept {
    return a.key_ == b.key_ && a.stream_ == b.stream_ && a.position_ == b.position_;
  }

 private:
  template <class T>
  static constexpr std::uint64_t name(const T& identifier) noexcept {
    if constexpr (std::is_enum_v<T>)
      return static_cast<std::uint64_t>(static_cast<std::underlying_type_t<T>>(identifier));
    else if constexpr (std::integral<T>)
      return static_cast<std::uint64_t>(identifier);
    else
      return hash_text(std::string_view(identifier));
  }

  static constexpr std::uint64_t join(std::uint32_t low, std::uint32_t high) noexcept {
    return low | (static_cast<std::uint64_t>(high) << 32);
  }

  template <class Real>
  static constexpr Real between_bounds(Real low, Real high, Real unit) noexcept {
    const Real width = high - low;  // may be more than a Real holds
    const Real x = width <= std::numeric_limits<Real>::max() ? low + width * unit : low * (1 - unit) + high * unit;
    return x < high ? x : low;  // the sum may round up to `high`
  }

  /// In (0, 1), exact and symmetric about 1/2.
  static constexpr double open_unit(std::uint64_t bits) noexcept {
    return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
  }

  [[nodiscard]] constexpr std::array<std::uint32_t, 4> block(std::uint64_t index) const noexcept {
    return philox4x32({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                       static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)},
                      key_);
  }

  template <class Transform>
  void fill_words(std::span<float> out, Transform transform) noexcept {
    std::size_t i = 0;
    std::uint64_t word = position_ % 2 * 2;  // the first one to use of the first block
    for (std::uint64_t index = position_ / 2; i < out.size(); ++index, word = 0) {
      const std::array<std::uint32_t, 4> words = block(index);
      for (; word < 4 && i < out.size(); ++word, ++i) out[i] = transform(words[word]);
    }
    position_ += (out.size() + 1) / 2;
  }

  std::array<std::uint32_t, 2> key_;
  std::uint64_t stream_ = 0;
  std::uint64_t position_ = 0;
  std::uint64_t cached_ = max();  // the index of the block held in block_; 2^64-1 is none
  std::array<std::uint32_t, 4> block_{};
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/core/permutation.hpp ----
#ifndef CADRE_CORE_PERMUTATION_HPP
#define CADRE_CORE_PERMUTATION_HPP

#include <array>
#include <bit>
#include <cstdint>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// A shuffle of 0 .. n-1 without a buffer: `permutation{n, seed, round}[i]` is where position i goes, for any n and in
/// any order of asking. The same n, seed and round (an epoch, say) give the same shuffle everywhere.
///
/// A Feistel network on the smallest power of two that holds n, walked along its cycle until it falls below n (Black
/// and Rogaway, "Ciphers with arbitrary finite domains", 2002): fewer than two steps on average. Up to 64 elements
/// are shuffled exactly (Fisher and Yates) into the object itself. Not for cryptography. Immutable, so any number of
/// threads may read one.
class permutation {
 public:
  permutation(std::uint64_t n, std::uint64_t seed, std::uint64_t round = 0) : size_(n) {
    random_stream random{seed, "permutation", n, round};
    if (n <= small) {
      for (std::uint8_t i = 0; i < n; ++i) table_[i] = i;
      for (std::uint64_t i = n; i > 1; --i) std::swap(table_[i - 1], table_[random.below(i)]);
      return;
    }
    for (std::uint64_t& key : keys_) key = random();
    const int bits = static_cast<int>(std::bit_width(n - 1));
    low_bits_ = bits / 2;
    high_bits_ = bits - low_bits_;
  }

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

  /// The index at position `i`, i < size().
  [[nodiscard]] std::uint64_t operator[](std::uint64_t i) const noexcept {
    if (size_ <= small) return table_[i];
    do i = network(i);
    while (i >= size_);
    return i;
  }

 private:
  static constexpr std::uint64_t small = 64;
  static constexpr int rounds = 8;

  /// A bijection of words of low_bits_ + high_bits_ bits. The halves change roles from round to round, so an odd
  /// number of bits is no special case.
  [[nodiscard]] std::uint64_t network(std::uint64_t x) const noexcept {
    const std::uint64_t low_mask = (std::uint64_t{1} << low_bits_) - 1;
    const std::uint64_t high_mask = (std::uint64_t{1} << high_bits_) - 1;
    std::uint64_t low = x & low_mask, high = x >> low_bits_;
    for (int i = 0; i < rounds; i += 2) {
      high ^= scramble(low, keys_[static_cast<std::size_t>(i)]) & high_mask;
      low ^= scramble(high, keys_[static_cast<std::size_t>(i) + 1]) & low_mask;
    }
    return low | (high << low_bits_);
  }

  static std::uint64_t scramble(std::uint64_t half, std::uint64_t key) noexcept {
    std::uint64_t x = (half + key) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 32)) * 0x94D049BB133111EB;
    return x >> 32;
  }

  std::uint64_t size_;
  int low_bits_ = 0, high_bits_ = 0;
  std::array<std::uint64_t, rounds> keys_{};  // of the network
  std::array<std::uint8_t, small> table_{};   // of a small shuffle
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/core/units.hpp ----
#ifndef CADRE_CORE_UNITS_HPP
#define CADRE_CORE_UNITS_HPP

#include <cstdint>

CADRE_NAMESPACE_BEGIN

/// `using namespace cadre::literals;` gives sizes in bytes (64_KiB, 25_MiB, 8_GiB) and the standard library's times
/// (200ms, 5s).
namespace literals {

using namespace std::chrono_literals;

constexpr std::uint64_t operator""_KiB(unsigned long long n) noexcept { return n << 10; }
constexpr std::uint64_t operator""_MiB(unsigned long long n) noexcept { return n << 20; }
constexpr std::uint64_t operator""_GiB(unsigned long long n) noexcept { return n << 30; }
constexpr std::uint64_t operator""_TiB(unsigned long long n) noexcept { return n << 40; }

}  // namespace literals

CADRE_NAMESPACE_END

#endif

// ---- cadre/core.hpp ----
#ifndef CADRE_CORE_HPP
#define CADRE_CORE_HPP

/// What every room stands on; the standard library alone.

#endif

// ---- cadre/data/error.hpp ----
#ifndef CADRE_DATA_ERROR_HPP
#define CADRE_DATA_ERROR_HPP

#include <cstddef>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace data {

/// A file that cannot be read (701), or a pattern that no file matches (702).
class file_error : public error {
 public:
  static file_error unreadable(std::string_view path, std::string_view reason) {
    return {701, "cannot read " + std::string(path) + ": " + std::string(reason)};
  }
  static file_error no_match(std::string_view pattern) { return {702, "no file matches " + std::string(pattern)}; }

 private:
  file_error(int number, const std::string& message) : error("data", number, message) {}
};

/// A sampler that cannot be made, or cannot go where it is told (706 to 710).
class sampler_error : public error {
 public:
  static sampler_error bad_shard(int rank, int world_size) {
    return {706, "rank " + std::to_string(rank) + " of " + std::to_string(world_size) +
                     " cannot be a shard: 0 <= rank < world_size must hold"};
  }
  static sampler_error negative_size() { return {707, "a sampler was asked for a negative number of samples"}; }
  static sampler_error empty_batch() { return {708, "batches of 0 samples were asked for: give at least 1"}; }
  static sampler_error bad_position(std::size_t position, std::size_t size) {
    return {709,
            "position " + std::to_string(position) + " lies beyond the epoch's " + std::to_string(size) + " samples"};
  }
  /// `difference` names the property that differs and both of its values.
  static sampler_error other_order(std::string_view difference) {
    return {710,
            "the saved sampler walked another order, so its position means nothing here: " + std::string(difference)};
  }

 private:
  sampler_error(int number, const std::string& message) : error("data", number, message) {}
};

/// Bytes that are no valid IDX array (711 to 715), a wrong element type (716), or arrays that do not belong together
/// (717, 718).
class idx_error : public error {
 public:
  static idx_error wrong_magic(std::string_view source, std::string_view found, std::string_view hint) {
    return {711, std::string(source) + " is not IDX: it must begin with 00 00 <type> <dimensions>, found " +
                     std::string(found) + std::string(hint)};
  }
  static idx_error unknown_type(std::string_view source, std::string_view found) {
    return {712, std::string(source) + ": unknown IDX element type " + std::string(found) +
                     ": expected 08, 09, 0b, 0c, 0d or 0e"};
  }
  static idx_error truncated(std::string_view source, std::size_t expected, std::size_t found) {
    return {713, std::string(source) + " is truncated: expected " + std::to_string(expected) + " bytes, found " +
                     std::to_string(found)};
  }
  static idx_error trailing_bytes(std::string_view source, std::size_t expected, std::size_t found) {
    return {714, std::string(source) + " has trailing bytes: expected " + std::to_string(expected) + " bytes, found " +
                     std::to_string(found)};
  }
  /// `shape` as in `4294967295 x 4294967295`.
  static idx_error absurd_size(std::string_view source, std::string_view shape) {
    return {715, std::string(source) + " claims " + std::string(shape) + " elements, more than can be addressed"};
  }
  static idx_error wrong_type(std::string_view source, std::string_view asked, std::string_view held) {
    return {716, std::string(source) + " was asked for elements of type " + std::string(asked) + " but holds " +
                     std::string(held)};
  }
  static idx_error counts_disagree(std::string_view samples, std::size_t sample_count, std::string_view labels,
                                   std::size_t label_count) {
    return {717, std::string(samples) + " has " + std::to_string(sample_count) + " samples but " + std::string(labels) +
                     " has " + std::to_string(label_count) + " labels"};
  }
  /// `problem` says what is not a label.
  static idx_error bad_labels(std::string_view source, std::string_view problem) {
    return {718, std::string(source) + " holds no labels: " + std::string(problem)};
  }

 private:
  idx_error(int number, const std::string& message) : error("data", number, message) {}
};

/// Where in a file something stands; lines and columns count from 1, columns in bytes.
struct file_position {
  std::string file;
  std::size_t line = 0;
  std::size_t column = 0;
};

/// A CSV file or cell that cannot be taken as asked (721 to 728). Its text begins with file:line:column.
class csv_error : public error {
 public:
  static csv_error unterminated_quote(const file_position& at, std::string_view text) {
    return {721, at, "this quoted field never ends: " + quoted(text)};
  }
  static csv_error stray_quote(const file_position& at, std::string_view text) {
    return {722, at, "a quote must enclose a whole field and be doubled inside one: " + quoted(text)};
  }
  static csv_error ragged_row(const file_position& at, std::size_t expected, std::size_t found, std::string_view text) {
    return {723, at,
            "expected " + std::to_string(expected) + " fields, found " + std::to_string(found) + ": " + quoted(text)};
  }
  static csv_error bad_number(const file_position& at, std::string_view type, std::string_view text) {
    return {724, at, "not a value of type " + std::string(type) + ": " + quoted(text)};
  }
  static csv_error missing_value(const file_position& at, std::string_view type, std::string_view column) {
    return {725, at,
            "a value of column " + quoted(column) + " is missing, and type " + std::string(type) +
                " has none for that: pass one to put in its place"};
  }
  static csv_error no_such_column(const file_position& at, std::string_view column, std::string_view there_are) {
    return {726, at, "no column " + quoted(column) + "; " + std::string(there_are)};
  }
  static csv_error bad_header(const file_position& at, std::string_view problem) { return {727, at, problem}; }
  static csv_error bad_options(std::string_view problem) { return {728, {}, problem}; }

  /// The place in the file; its name is empty if the mistake lies in the call.
  [[nodiscard]] const file_position& where() const noexcept { return where_; }

 private:
  csv_error(int number, file_position at, std::string_view message)
      : error("data", number, prefix(at) + std::string(message)), where_(std::move(at)) {}

  static std::string prefix(const file_position& at) {
    if (at.file.empty()) return {};
    return at.file + ":" + std::to_string(at.line) + ":" + std::to_string(at.column) + ": ";
  }
  static std::string quoted(std::string_view text) {
    constexpr std::size_t longest = 60;
    std::string shown = "'";
    for (char c : text.substr(0, longest)) shown += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    return shown + (text.size() > longest ? "...'" : "'");
  }

  file_position where_;
};

/// Rows, labels and indices that do not fit together (731 to 733).
class batch_error : public error {
 public:
  static batch_error index_out_of_range(std::size_t index, std::size_t rows) {
    return {731, "row " + std::to_string(index) + " was asked for, there are " + std::to_string(rows)};
  }
  static batch_error no_whole_rows(std::size_t elements, std::size_t rows) {
    return {732, std::to_string(elements) + " elements do not make " + std::to_string(rows) + " rows of one width"};
  }
  static batch_error wrong_output_size(std::size_t expected, std::size_t found) {
    return {733, "the batch needs room for " + std::to_string(expected) + " elements, there is room for " +
                     std::to_string(found)};
  }

 private:
  batch_error(int number, const std::string& message) : error("data", number, message) {}
};

}  // namespace data

CADRE_NAMESPACE_END

#endif

// ---- cadre/data/batch.hpp ----
#ifndef CADRE_DATA_BATCH_HPP
#define CADRE_DATA_BATCH_HPP

#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace data {

/// Numbers as they lie in a sample array.
template <class T>
concept number = std::is_arithmetic_v<T>;

/// What happens to each element on its way into a batch: `scale * x + shift`. Pixels to 0 .. 1: `{.scale = 1 / 255.f}`.
struct affine {
  float scale = 1;
  float shift = 0;
};

namespace detail {

/// Blocks of a size known to the compiler, so that g++ makes vector code of them at -O2 as well.
template <number T>
void convert(const T* in, std::size_t n, float* out, affine map) noexcept {
  constexpr std::size_t block = 32;
  std::size_t i = 0;
  for (; i + block <= n; i += block) {
    float values[block];
    for (std::size_t j = 0; j < block; ++j) values[j] = static_cast<float>(in[i + j]) * map.scale + map.shift;
    for (std::size_t j = 0; j < block; ++j) out[i + j] = values[j];
  }
  for (; i < n; ++i) out[i] = static_cast<float>(in[i]) * map.scale + map.shift;
}

inline void require_room(std::size_t expected, std::size_t found) {
  if (expected != found) throw batch_error::wrong_output_size(expected, found);
}

}  // namespace detail

/// Copies the rows that `indices` names, one after the other, into `out` as floats. `samples` is row-major with rows of
/// `width` elements; the result is row-major too, which is the memory of a column-major Eigen matrix of width x batch.
/// Throws batch_error 731 (an index beyond the rows), 732 (samples are no whole rows) or 733 (out is not of
/// indices.size() * width elements); `out` may then be partly written. Any number of threads may read one `samples`.
template <number T>
void gather_rows(std::span<const T> samples, std::size_t width, std::span<const std::size_t> indices,
                 std::span<float> out, affine map = {}) {
  const std::size_t rows = width == 0 ? 0 : samples.size() / width;
  if (rows * width != samples.size()) throw batch_error::no_whole_rows(samples.size(), rows);
  detail::require_room(indices.size() * width, out.size());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] >= rows) throw batch_error::index_out_of_range(indices[i], rows);
    detail::convert(samples.data() + indices[i] * width, width, out.data() + i * width, map);
  }
}

/// Copies the values that `indices` names (labels, say). Throws batch_error 731 or 733.
template <class T>
void gather(std::span<const T> values, std::span<const std::size_t> indices, std::span<T> out) {
  detail::require_room(indices.size(), out.size());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] >= values.size()) throw batch_error::index_out_of_range(indices[i], values.size());
    out[i] = values[indices[i]];
  }
}

/// What one step of training takes.
template <class Label>
struct batch {
  std::span<const float> inputs;  ///< size() rows of `width` elements each
  std::span<const Label> labels;  ///< one per row
  std::size_t width = 0;

  [[nodiscard]] std::size_t size() const noexcept { return labels.size(); }
};

/// Makes batches of labelled samples that lie in memory:
///
///     batch_loader loader{images.as<std::uint8_t>(), labels.as<std::uint8_t>(), {.scale = 1 / 255.f}};
///     for (std::span<const std::size_t> indices : sampler.batches(128)) {
///       const auto batch = loader.load(indices);
///       Eigen::Map<const Eigen::MatrixXf> x{batch.inputs.data(), 784, 128};   // a column per sample
///
/// The arrays are looked at, not owned, and must outlive the loader. It owns one batch of memory, which the next load
/// reuses. One thread at a time; any number of loaders may share the arrays.
template <number Sample, class Label>
class batch_loader {
 public:
  /// One row of samples per label. Throws batch_error 732 if the samples do not make that many rows of one width.
  batch_loader(std::span<const Sample> samples, std::span<const Label> labels, affine map = {})
      : samples_(samples), labels_(labels), width_(labels.empty() ? 0 : samples.size() / labels.size()), map_(map) {
    if (width_ * labels.size() != samples.size()) throw batch_error::no_whole_rows(samples.size(), labels.size());
  }

  /// The samples that `indices` names, in that order; valid until the next load. Throws batch_error 731.
  [[nodiscard]] batch<Label> load(std::span<const std::size_t> indices) {
    reserve(indices.size());
    gather_rows<Sample>(samples_, width_, indices, inputs_, map_);
    gather<Label>(labels_, indices, batch_labels_);
    return {inputs_, batch_labels_, width_};
  }

  /// The `count` samples from `first` on, for evaluation in order; valid until the next load. Throws batch_error 731.
  [[nodiscard]] batch<Label> load(std::size_t first, std::size_t count) {
    if (first > size() || count > size() - first) throw batch_error::index_out_of_range(first + count - 1, size());
    reserve(count);
    detail::convert(samples_.data() + first * width_, count * width_, inputs_.data(), map_);
    return {inputs_, labels_.subspan(first, count), width_};
  }

  [[nodiscard]] std::size_t size() const noexcept { return labels_.size(); }
  /// Elements of one sample.
  [[nodiscard]] std::size_t width() const noexcept { return width_; }

 private:
  void reserve(std::size_t rows) {
    inputs_.resize(rows * width_);
    batch_labels_.resize(rows);
  }

  std::span<const Sample> samples_;
  std::span<const Label> labels_;
  std::size_t width_;
  affine map_;
  std::vector<float> inputs_;
  std::vector<Label> batch_labels_;
};

}  // namespace data

CADRE_NAMESPACE_END

#endif

// ---- cadre/data/detail/csv_index.hpp ----
#ifndef CADRE_DATA_DETAIL_CSV_INDEX_HPP
#define CADRE_DATA_DETAIL_CSV_INDEX_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace data::detail {

/// The text of one or more CSV files, one after the other, and where each field begins.
///
/// A row of C columns has C + 1 entries: where each field begins, and one past where the last one ends. A field ends
/// one byte (the separator) before the next entry. The text is kept as it was read, quotes and all, so that a message
/// can name line and column; the top bit of an entry says that the field is quoted.
class csv_index {
 public:
  struct view {
    std::string_view text;  ///< without the enclosing quotes
    bool quoted;            ///< then doubled quotes inside are still doubled
  };

  csv_index(char separator, char quote) : separator_(separator), quote_(quote) {
    for (char c : {separator, '\n', '\r'}) ends_field_[static_cast<unsigned char>(c)] = true;
    if (quote != '\0') ends_field_[static_cast<unsigned char>(quote)] = true;
  }

  /// What `fill(std::string&)` appends to the text is a file named `source`; its rows follow.
  template <class Fill>
  void begin_file(const std::string& source, const Fill& fill) {
    files_.push_back({source, text_.size()});
    fill(text_);
    cursor_ = files_.back().begin;
    if (std::string_view(text_).substr(cursor_).starts_with("\xEF\xBB\xBF")) cursor_ += 3;
  }

  /// Takes one row off, as strings. False if there is none left.
  bool next_row(std::vector<std::string>& fields) {
    std::vector<entry> row;
    if (!scan_row(row)) return false;
    for (std::size_t i = 0; i + 1 < row.size(); ++i) fields.push_back(unquoted(between(row[i], row[i + 1])));
    return true;
  }

  /// The number of fields in the row that comes next; 0 if there is none.
  [[nodiscard]] std::size_t peek_columns() {
    const std::size_t before = cursor_;
    std::vector<entry> row;
    const bool any = scan_row(row);
    cursor_ = before;
    return any ? row.size() - 1 : 0;
  }

  /// Indexes all rows that are left in this file.
  void index_rows(std::size_t columns) {
    columns_ = columns;
    const std::size_t first = entries_.size();
    for (;;) {
      const std::size_t before = entries_.size();
      if (!scan_row(entries_)) return;
      const std::size_t found = entries_.size() - before - 1;
      if (found != columns) {
        const std::size_t begin = entries_[before] & offset_mask;
        const std::string_view line(text_.data() + begin, (entries_.back() & offset_mask) - 1 - begin);
        throw csv_error::ragged_row(position(begin), columns, found, line);
      }
      if (before == first) reserve_like_first_row(columns + 1);
    }
  }

  [[nodiscard]] std::size_t rows() const noexcept { return entries_.size() / (columns_ + 1); }

  [[nodiscard]] view field(std::size_t row, std::size_t column) const noexcept {
    const entry* e = entries_.data() + row * (columns_ + 1) + column;
    return between(e[0], e[1]);
  }
  [[nodiscard]] std::string text(std::size_t row, std::size_t column) const { return unquoted(field(row, column)); }

  /// Where a field begins. Counts lines from the start of its file: for messages.
  [[nodiscard]] file_position position(std::size_t row, std::size_t column) const {
    return position(entries_[row * (columns_ + 1) + column] & offset_mask);
  }

 private:
  using entry = std::uint64_t;
  static constexpr entry quoted_bit = entry{1} << 63;
  static constexpr entry offset_mask = quoted_bit - 1;

  struct file {
    std::string source;
    std::size_t begin;
  };

  /// Appends the entries of the next row that is not empty. False at the end of the file.
  bool scan_row(std::vector<entry>& row) {
    const char* const text = text_.data();
    const std::size_t size = text_.size();
    std::size_t i = cursor_;
    while (i < size && (text[i] == '\n' || line_end(i))) ++i;
    cursor_ = i;
    if (i == size) return false;
    for (;;) {  // one field each time
      const std::size_t begin = i;
      const bool is_quoted = quote_ != '\0' && i < size && text[i] == quote_;
      row.push_back(begin | (is_quoted ? quoted_bit : 0));
      if (is_quoted) i = after_quotes(i);
      for (;; ++i) {
        while (i < size && !ends_field_[static_cast<unsigned char>(text[i])]) ++i;
        if (i == size || text[i] == separator_ || text[i] == '\n' || line_end(i)) break;
        if (text[i] != '\r') throw csv_error::stray_quote(position(i), line_at(begin));
      }
      if (is_quoted && i != quotes_end_) throw csv_error::stray_quote(position(quotes_end_), line_at(begin));
      if (i < size && text[i] == separator_) {
        ++i;
        continue;
      }
      row.push_back(i + 1);
      cursor_ = std::min(size, i + 1);  // after CR, LF is skipped as an empty line is
      return true;
    }
  }

  /// Room for the rest of the file, if its rows are about as long as the first.
  void reserve_like_first_row(std::size_t entries_per_row) {
    const std::size_t begin = entries_[entries_.size() - entries_per_row] & offset_mask;
    const std::size_t rows = (text_.size() - begin) / (cursor_ - begin) + 1;
    entries_.reserve(entries_.size() + (rows + rows / 8) * entries_per_row);
  }

  [[nodiscard]] bool line_end(std::size_t i) const noexcept {
    return text_[i] == '\r' && (i + 1 == text_.size() || text_[i + 1] == '\n');
  }

  /// One past the quote that closes the field which the quote at `open` begins.
  std::size_t after_quotes(std::size_t open) {
    std::size_t i = open + 1;
    for (;;) {
      i = text_.find(quote_, i);
      if (i == std::string::npos) throw csv_error::unterminated_quote(position(open), line_at(open));
      if (i + 1 == text_.size() || text_[i + 1] != quote_) return quotes_end_ = i + 1;
      i += 2;
    }
  }

  [[nodiscard]] view between(entry from, entry to) const noexcept {
    const std::size_t begin = from & offset_mask, end = (to & offset_mask) - 1;
    if ((from & quoted_bit) == 0) return {{text_.data() + begin, end - begin}, false};
    return {{text_.data() + begin + 1, end - begin - 2}, true};
  }

  [[nodiscard]] std::string unquoted(view field) const {
    std::string text(field.text);
    if (!field.quoted) return text;
    std::size_t out = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == quote_) ++i;  // the first of two
      text[out++] = text[i];
    }
    text.resize(out);
    return text;
  }

  /// The rest of the line from `begin` on, for messages.
  [[nodiscard]] std::string_view line_at(std::size_t begin) const noexcept {
    const std::string_view rest = std::string_view(text_).substr(begin);
    return rest.substr(0, rest.find('\n'));
  }

  [[nodiscard]] file_position position(std::size_t offset) const {
    const auto after = std::upper_bound(files_.begin(), files_.end(), offset,
                                        [](std::size_t at, const file& f) { return at < f.begin; });
    const file& in = *std::prev(after);
    const std::string_view before = std::string_view(text_).substr(in.begin, offset - in.begin);
    const std::size_t line = static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n')) + 1;
    const std::size_t last = before.rfind('\n');
    return {in.source, line, last == std::string_view::npos ? before.size() + 1 : before.size() - last};
  }

  char separator_;
  char quote_;
  std::array<bool, 256> ends_field_{};
  std::string text_;
  std::vector<file> files_;
  std::size_t cursor_ = 0;
  std::size_t quotes_end_ = 0;  // where the field quoted last ended
  std::size_t columns_ = 0;
  std::vector<entry> entries_;
};

}  // namespace data::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/data/detail/csv_number.hpp ----
#ifndef CADRE_DATA_DETAIL_CSV_NUMBER_HPP
#define CADRE_DATA_DETAIL_CSV_NUMBER_HPP

#include <charconv>
#include <string_view>
#include <system_error>
#include <type_traits>

CADRE_NAMESPACE_BEGIN

namespace data::detail {

/// The whole of `text` as a number, blanks around it and a plus before it aside. False if it is none, or if T cannot
/// hold it; `number` is then unspecified.
template <class T>
bool parse_number(std::string_view text, T& number) noexcept {
  const char* begin = text.data();
  const char* end = begin + text.size();
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (begin != end && blank(*begin)) ++begin;
  while (begin != end && blank(end[-1])) --end;
  if constexpr (std::is_floating_point_v<T>) {  // few digits and nothing else: exact, and twice as fast
    if (end - begin <= 7 && begin != end) {
      unsigned value = 0, worst = 0;
      for (const char* c = begin; c != end; ++c) {
        const unsigned digit = static_cast<unsigned char>(*c) - unsigned{'0'};
        worst = digit > worst ? digit : worst;
        value = value * 10 + digit;
      }
      if (worst <= 9) {
        number = static_cast<T>(value);
        return true;
      }
    }
  }
  if (end - begin > 1 && *begin == '+' && begin[1] != '-') ++begin;
  const auto [stop, problem] = std::from_chars(begin, end, number);
  return problem == std::errc{} && stop == end;
}

/// "float32", "int64", ... for messages.
template <class T>
std::string_view number_name() noexcept {
  if constexpr (reducible<T>)
    return to_string(data_type_of<T>);
  else
    return "number";
}

}  // namespace data::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/data/detail/glob.hpp ----
#ifndef CADRE_DATA_DETAIL_GLOB_HPP
#define CADRE_DATA_DETAIL_GLOB_HPP

#include <glob.h>    // glob
#include <unistd.h>  // access

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace data::detail {

/// The files that a pattern matches, sorted by their bytes (glob itself sorts by locale). A path without pattern
/// characters, and one that exists as it is written, stands for itself. Throws file_error 702 if there is none.
inline std::vector<std::string> matching_files(const std::string& pattern) {
  if (pattern.find_first_of("*?[") == std::string::npos || ::access(pattern.c_str(), F_OK) == 0) return {pattern};
  struct matches {
    ::glob_t list{};
    ~matches() { ::globfree(&list); }
  } found;
  if (::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found.list) != 0) throw file_error::no_match(pattern);
  std::qsort(found.list.gl_pathv, found.list.gl_pathc, sizeof(char*), [](const void* a, const void* b) {
    return std::strcmp(*static_cast<const char* const*>(a), *static_cast<const char* const*>(b));
  });
  return {found.list.gl_pathv, found.list.gl_pathv + found.list.gl_pathc};
}

}  // namespace data::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/data/detail/read_file.hpp ----
#ifndef CADRE_DATA_DETAIL_READ_FILE_HPP
#define CADRE_DATA_DETAIL_READ_FILE_HPP

#include <fcntl.h>     // open
#include <sys/stat.h>  // fstat, for the size
#include <unistd.h>    // read, close

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

CADRE_NAMESPACE_BEGIN

namespace data::detail {

/// Appends the whole file to `out`, a vector of bytes or a string. Works for pipes too, whose size is not known before.
/// `fail(reason)` makes the exception to throw.
template <class Bytes, class Fail>
void read_file(const std::string& path, Bytes& out, const Fail& fail) {
  struct file {
    int descriptor;
    ~file() {
      if (descriptor >= 0) ::close(descriptor);
    }
  } in{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct ::stat info;
  if (in.descriptor < 0 || ::fstat(in.descriptor, &info) != 0) throw fail(std::strerror(errno));
  std::size_t used = out.size();
  out.resize(used + (info.st_size > 0 ? static_cast<std::size_t>(info.st_size) : 0) + 1);  // 1 more, to see the end
  for (;;) {
    const ::ssize_t n = ::read(in.descriptor, out.data() + used, out.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw fail(std::strerror(errno));
    if (n == 0) break;
    used += static_cast<std::size_t>(n);
    if (used == out.size()) out.resize(used + used / 2 + 4096);
  }
  out.resize(used);
}

/// The same, throwing file_error 701.
template <class Bytes>
void read_file(const std::string& path, Bytes& out) {
  read_file(path, out, [&](const char* reason) { return file_error::unreadable(path, reason); });
}

}  // namespace data::detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/data/csv.hpp ----
#ifndef CADRE_DATA_CSV_HPP
#define CADRE_DATA_CSV_HPP

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace data {

struct csv_options {
  char separator = ',';
  bool header = true;                         ///< the first row of each file holds the names
  char quote = '"';                           ///< '\0': quotes are ordinary characters
  std::vector<std::string> missing = {"NA"};  ///< what stands for a missing value, beside nothing at all
  std::vector<std::string> names = {};        ///< names of the columns where there is no header; else c0, c1, ...
};

/// A type that a column can be read as.
template <class T>
concept csv_value =
    std::same_as<T, std::string> || (std::is_arithmetic_v<T> && !std::same_as<T, bool> && !std::same_as<T, char>);

/// A table of text, as CSV files hold it (RFC 4180), in memory: the text itself and eight bytes per field. Fields
/// become numbers or strings when a column is asked for.
///
///     auto table = cadre::data::read_csv_table("letters-*.csv");
///     std::vector<float> x = table.matrix<float>({"width", "height"});   // row-major
///     std::vector<std::string> y = table.column<std::string>("letter");
///
/// Immutable: any number of threads may read one.
class csv_table {
 public:
  [[nodiscard]] std::size_t rows() const noexcept { return index_.rows(); }
  [[nodiscard]] std::size_t columns() const noexcept { return names_.size(); }
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }

  /// The number of a column. Throws csv_error 726, naming the columns that there are.
  [[nodiscard]] std::size_t index(std::string_view name) const {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found != names_.end()) return static_cast<std::size_t>(found - names_.begin());
    std::string there_are = names_.empty() ? "there is none" : "there are:";
    for (const std::string& n : names_) there_are += " '" + n + "'";
    throw csv_error::no_such_column(first_line(), name, there_are);
  }

  /// One field as text, without its quotes. row < rows(); throws csv_error 726 beyond the columns.
  [[nodiscard]] std::string text(std::size_t row, std::size_t column) const {
    require(column);
    return index_.text(row, column);
  }
  /// Whether the field is empty or one of csv_options::missing.
  [[nodiscard]] bool is_missing(std::size_t row, std::size_t column) const {
    require(column);
    return is_missing(index_.field(row, column).text);
  }

  /// A column as integers, reals or strings. Blanks around a number and a plus before it are allowed. A missing value
  /// becomes `instead`, if given, else NaN; strings are taken as they are. Throws csv_error 724 (not such a number, or
  /// one out of T's range), 725 (missing and T is an integer), 726 (no such column).
  template <csv_value T>
  [[nodiscard]] std::vector<T> column(std::size_t column, std::optional<T> instead = std::nullopt) const {
    require(column);
    std::vector<T> values(rows());
    for (std::size_t row = 0; row < rows(); ++row) values[row] = value<T>(row, column, instead);
    return values;
  }
  template <csv_value T>
  [[nodiscard]] std::vector<T> column(std::string_view name, std::optional<T> instead = std::nullopt) const {
    return column<T>(index(name), instead);
  }

  /// Several columns side by side, row-major: rows() x columns.size() values. Throws what column throws.
  template <csv_value T>
  [[nodiscard]] std::vector<T> matrix(std::span<const std::size_t> columns,
                                      std::optional<T> instead = std::nullopt) const {
    for (std::size_t column : columns) require(column);
    std::vector<T> values(rows() * columns.size());
    auto out = values.begin();
    for (std::size_t row = 0; row < rows(); ++row)
      for (std::size_t column : columns) *out++ = value<T>(row, column, instead);
    return values;
  }
  template <csv_value T>
  [[nodiscard]] std::vector<T> matrix(const std::vector<std::string_view>& columns,
                                      std::optional<T> instead = std::nullopt) const {
    std::vector<std::size_t> indices;
    for (std::string_view name : columns) indices.push_back(index(name));
    return matrix<T>(indices, instead);
  }
  /// All columns.
  template <csv_value T>
  [[nodiscard]] std::vector<T> matrix(std::optional<T> instead = std::nullopt) const {
    std::vector<std::size_t> indices(columns());
    for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = i;
    return matrix<T>(indices, instead);
  }

 private:
  friend csv_table parse_csv_table(std::string text, csv_options options, std::string source);
  friend csv_table read_csv_table(const std::string& pattern, csv_options options);

  explicit csv_table(csv_options options) : options_(std::move(options)), index_(options_.separator, options_.quote) {
    const char s = options_.separator, q = options_.quote;
    if (s == '\n' || s == '\r' || q == '\n' || q == '\r' || s == q)
      throw csv_error::bad_options("a CSV separator and quote must differ from each other and from line ends");
    double number;
    for (const std::string& m : options_.missing) missing_is_number_ |= detail::parse_number(m, number);
  }

  /// Parses what `fill(std::string&)` appends to the text, as a file of its own.
  template <class Fill>
  void add(const std::string& source, const Fill& fill) {
    index_.begin_file(source, fill);
    std::vector<std::string> head;
    if (options_.header) {
      if (!index_.next_row(head)) throw csv_error::bad_header({source, 1, 1}, "there is no header line");
    } else {
      head = options_.names;
      if (head.empty())
        for (std::size_t i = 0, n = index_.peek_columns(); i < n; ++i) head.push_back("c" + std::to_string(i));
    }
    if (first_source_.empty()) {
      require_distinct(head, source);
      names_ = std::move(head);
      first_source_ = source;
    } else if (options_.header && head != names_) {
      throw csv_error::bad_header({source, 1, 1}, "the header differs from that of " + first_source_);
    }
    index_.index_rows(names_.size());
  }

  static void require_distinct(const std::vector<std::string>& names, const std::string& source) {
    for (std::size_t i = 0; i < names.size(); ++i)
      if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
          names.begin() + static_cast<std::ptrdiff_t>(i))
        throw csv_error::bad_header({source, 1, 1}, "two columns are named '" + names[i] + "'");
  }

  void require(std::size_t column) const {
    if (column >= columns())
      throw csv_error::no_such_column(first_line(), std::to_string(column), "there are " + std::to_string(columns()));
  }
  [[nodiscard]] file_position first_line() const { return {first_source_, 1, 1}; }

  [[nodiscard]] bool is_missing(std::string_view text) const {
    return text.empty() || std::find(options_.missing.begin(), options_.missing.end(), text) != options_.missing.end();
  }

  template <class T>
  [[nodiscard]] T value(std::size_t row, std::size_t column, const std::optional<T>& instead) const {
    if constexpr (std::same_as<T, std::string>) {
      std::string text = index_.text(row, column);
      return instead && is_missing(text) ? *instead : text;
    } else {
      T number;
      const std::string_view text = index_.field(row, column).text;
      const bool parsed = detail::parse_number(text, number);
      if (parsed && !(missing_is_number_ && is_missing(text))) [[likely]]
        return number;
      if (!parsed && !is_missing(text))
        throw csv_error::bad_number(index_.position(row, column), detail::number_name<T>(), text);
      if (instead) return *instead;
      if constexpr (std::floating_point<T>)
        return std::numeric_limits<T>::quiet_NaN();
      else
        throw csv_error::missing_value(index_.position(row, column), detail::number_name<T>(), names_[column]);
    }
  }

  csv_options options_;
  bool missing_is_number_ = false;  // as in -999: then a field that parses may still be missing
  detail::csv_index index_;
  std::vector<std::string> names_;
  std::string first_source_;
};

/// Parses CSV text: fields may be quoted, and then hold separators, line ends and doubled quotes; lines end in LF or
/// CRLF; empty lines and a byte-order mark are skipped. `source` names the text in messages. Throws csv_error 721 to
/// 723, 727 or 728, with file:line:column; there are no partial results.
[[nodiscard]] inline csv_table parse_csv_table(std::string text, csv_options options = {},
                                               std::string source = "CSV text") {
  csv_table table{std::move(options)};
  table.add(source, [&](std::string& out) { out = std::move(text); });
  return table;
}

/// Reads a CSV file, or all files that a pattern matches (`*`, `?`, `[...]` in any part of the path), one after the
/// other in the order of their names; all must have the same header. Throws file_error 701 or 702 (nothing matches),
/// and what parse_csv_table throws.
[[nodiscard]] inline csv_table read_csv_table(const std::string& pattern, csv_options options = {}) {
  csv_table table{std::move(options)};
  for (const std::string& path : detail::matching_files(pattern))
    table.add(path, [&](std::string& out) { detail::read_file(path, out); });
  return table;
}

}  // namespace data

CADRE_NAMESPACE_END

#endif

// ---- cadre/data/distributed_sampler.hpp ----
#ifndef CADRE_DATA_DISTRIBUTED_SAMPLER_HPP
#define CADRE_DATA_DISTRIBUTED_SAMPLER_HPP

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace data {

/// Which part of the samples: that of `rank` among `world_size`.
struct shard {
  int rank = 0;
  int world_size = 1;
};

struct sampler_options {
  bool shuffle = true;     ///< false: samples come in their own order, the same in every epoch
  bool drop_last = false;  ///< true: drop the tail that does not fill all ranks; false: pad it from the epoch's start
};

/// Anything that knows its rank among its peers: a communicator, a train::context.
template <class T>
concept ranked = requires(const T& t) {
  { t.rank() } -> std::convertible_to<int>;
  { t.world_size() } -> std::convertible_to<int>;
};

class sampler_batches;

/// Deals the indices 0 .. samples-1 of a data set to the ranks, in a new order every epoch, so that all ranks have
/// equally many and together cover every sample once.
///
///     for (int epoch = 0; epoch < epochs; ++epoch) {
///       sampler.set_epoch(epoch);
///       for (std::span<const std::size_t> batch : sampler.batches(64)) ...
///     }
///
/// The order of an epoch is a permutation keyed by (seed, epoch) alone; rank r of N takes its positions r, r + N,
/// r + 2N, ... So batch k of all ranks together holds the same samples for every N that divides the global batch.
/// To give the same micro-batches, in the same order within each, to 1, 2 or 4 workers, sample 4 shards and let worker
/// w of N handle shards w * 4 / N to (w + 1) * 4 / N.
///
/// The order is computed as it is walked: memory is one batch, whatever the number of samples. One thread at a time.
/// Every rank must be given the same size, seed and options, and the same calls.
class distributed_sampler {
 public:
  /// Throws sampler_error 706 (rank not in 0 .. world_size-1) or 707 (negative size).
  template <std::integral Size, std::integral Seed = std::uint64_t>
  distributed_sampler(Size samples, shard part, Seed seed = 0, sampler_options options = {})
      : seed_(static_cast<std::uint64_t>(seed)), options_(options), order_(0, 0) {
    if constexpr (std::signed_integral<Size>)
      if (samples < 0) throw sampler_error::negative_size();
    if (part.rank < 0 || part.rank >= part.world_size) throw sampler_error::bad_shard(part.rank, part.world_size);
    samples_ = static_cast<std::size_t>(samples);
    rank_ = static_cast<std::size_t>(part.rank);
    world_size_ = static_cast<std::size_t>(part.world_size);
    enter(0, 0);
  }
  /// Rank and world size are read once, here.
  template <std::integral Size, ranked Context, std::integral Seed = std::uint64_t>
  distributed_sampler(Size samples, const Context& context, Seed seed = 0, sampler_options options = {})
      : distributed_sampler(samples, shard{context.rank(), context.world_size()}, seed, options) {}

  /// Enters an epoch. Another epoch than the present one begins at its first sample; entering the present one again
  /// changes nothing, so that a restored position survives the loop's own call.
  void set_epoch(std::integral auto epoch) {
    const auto e = static_cast<std::uint64_t>(epoch);
    if (e == epoch_) return;
    enter(e, 0);
  }

  /// One pass over this rank's samples of this epoch, `batch_size` indices at a time (fewer in the last): a range of
  /// `std::span<const std::size_t>`, each valid until the next is taken. The pass begins at the position that was set
  /// or restored, else at the first sample. Throws sampler_error 708 if batch_size is 0.
  [[nodiscard]] sampler_batches batches(std::size_t batch_size);

  /// Samples of this rank in a whole epoch: the same on every rank.
  [[nodiscard]] std::size_t size() const noexcept { return share(0); }
  [[nodiscard]] std::size_t samples() const noexcept { return samples_; }
  [[nodiscard]] std::uint64_t epoch() const noexcept { return epoch_; }
  [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }

  /// Samples of this epoch that all ranks together have been given, equal on every rank after equally many batches. A
  /// batch counts as soon as it is handed out, so a checkpoint taken after its step resumes with the next one.
  [[nodiscard]] std::size_t position() const noexcept { return position_; }
  /// The next pass begins after the first `position` samples of the epoch; each of the others is dealt exactly once,
  /// also when this world has another size than the one that stopped there. Throws sampler_error 709 beyond the end.
  void set_position(std::size_t position) {
    if (position > samples_) throw sampler_error::bad_position(position, samples_);
    start_ = position_ = position;
  }

  /// Saves and restores epoch and position through any archive of cereal's form: `w("sampler", sampler)`. Throws
  /// sampler_error 710 if the saved sampler had another size, seed or order: its position would mean nothing here.
  template <class Archive>
  void serialize(Archive& archive) {
    std::uint64_t saved_samples = samples_, saved_seed = seed_, epoch = epoch_, position = position_;
    bool saved_shuffle = options_.shuffle;
    archive(saved_samples, saved_seed, saved_shuffle, epoch, position);
    if constexpr (Archive::is_loading::value) {
      require_equal("samples", saved_samples, samples_);
      require_equal("seed", saved_seed, seed_);
      require_equal("shuffle", saved_shuffle, options_.shuffle);
      if (position > samples_) throw sampler_error::bad_position(position, samples_);
      enter(epoch, position);
    }
  }

 private:
  friend class sampler_batches;

  static void require_equal(const char* what, std::uint64_t saved, std::uint64_t ours) {
    if (saved == ours) return;
    throw sampler_error::other_order(std::string(what) + " was " + std::to_string(saved) + ", is " +
                                     std::to_string(ours));
  }

  void enter(std::uint64_t epoch, std::size_t position) {
    order_ = permutation{samples_, seed_, epoch};
    epoch_ = epoch;
    start_ = position_ = position;
  }

  /// Samples of each rank in a pass that begins at `start`.
  [[nodiscard]] std::size_t share(std::size_t start) const noexcept {
    const std::size_t left = samples_ - start;
    return left / world_size_ + (!options_.drop_last && left % world_size_ != 0 ? 1 : 0);
  }

  /// The sample at a place of the global order; places beyond its end repeat it from the start.
  [[nodiscard]] std::size_t at(std::size_t place) const {
    if (place >= samples_) place %= samples_;
    return options_.shuffle ? static_cast<std::size_t>(order_[place]) : place;
  }

  std::size_t samples_ = 0;
  std::size_t rank_ = 0;
  std::size_t world_size_ = 1;
  std::uint64_t seed_;
  sampler_options options_;
  permutation order_;
  std::uint64_t epoch_ = 0;
  std::size_t start_ = 0;     // where the next pass begins
  std::size_t position_ = 0;  // what the present pass has handed out, over all ranks
};

/// What distributed_sampler::batches returns: an input range to be walked once, which moves the sampler's position and
/// must not outlive it.
class sampler_batches {
 public:
  class iterator {
   public:
    using value_type = std::span<const std::size_t>;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;

    iterator() = default;
    value_type operator*() const noexcept { return {batches_->indices_.data(), batches_->indices_.size()}; }
    iterator& operator++() {
      batches_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& it, std::default_sentinel_t) noexcept { return it.done(); }

   private:
    friend class sampler_batches;
    explicit iterator(sampler_batches* batches) noexcept : batches_(batches) {}
    [[nodiscard]] bool done() const noexcept { return batches_->indices_.empty(); }
    sampler_batches* batches_ = nullptr;
  };

  /// Begins the pass.
  [[nodiscard]] iterator begin() {
    sampler_->start_ = 0;
    next();
    return iterator{this};
  }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

  /// Batches in the whole pass: the same on every rank.
  [[nodiscard]] std::size_t size() const noexcept { return share_ / batch_size_ + (share_ % batch_size_ != 0 ? 1 : 0); }

 private:
  friend class distributed_sampler;
  sampler_batches(distributed_sampler& sampler, std::size_t batch_size)
      : sampler_(&sampler), batch_size_(batch_size), start_(sampler.start_), share_(sampler.share(start_)) {}

  void next() {
    const std::size_t n = std::min(batch_size_, share_ - taken_);
    indices_.resize(n);
    for (std::size_t& index : indices_)
      index = sampler_->at(start_ + sampler_->rank_ + taken_++ * sampler_->world_size_);
    sampler_->position_ = std::min(start_ + taken_ * sampler_->world_size_, sampler_->samples_);
  }

  distributed_sampler* sampler_;
  std::size_t batch_size_;
  std::size_t start_;
  std::size_t share_;
  std::size_t taken_ = 0;
  std::vector<std::size_t> indices_;
};

inline sampler_batches distributed_sampler::batches(std::size_t batch_size) {
  if (batch_size == 0) throw sampler_error::empty_batch();
  return sampler_batches{*this, batch_size};
}

}  // namespace data

CADRE_NAMESPACE_END

#endif

// ---- cadre/data/idx.hpp ----
#ifndef CADRE_DATA_IDX_HPP
#define CADRE_DATA_IDX_HPP

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace data {

/// An array as an IDX file holds it (the format of MNIST and its successors: a magic number with element type and
/// number of dimensions, big-endian extents, the elements row by row), in memory in this machine's byte order.
class idx_array {
 public:
  [[nodiscard]] data_type type() const noexcept { return type_; }
  /// Extents, outermost first: {60000, 28, 28}. Never empty.
  [[nodiscard]] std::span<const std::size_t> shape() const noexcept { return {shape_.data(), shape_.size()}; }
  /// The outermost extent: how many samples there are.
  [[nodiscard]] std::size_t rows() const noexcept { return shape_.front(); }
  /// Elements of one sample: the product of the other extents, 784 for images of 28 x 28.
  [[nodiscard]] std::size_t row_size() const noexcept {
    std::size_t n = 1;
    for (std::size_t i = 1; i < shape_.size(); ++i) n *= shape_[i];
    return n;
  }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {bytes_.data(), bytes_.size()}; }
  /// Where it was read from, for messages.
  [[nodiscard]] const std::string& source() const noexcept { return source_; }

  /// All elements, row by row, in place. Throws idx_error 716 if they are of another type.
  template <reducible T>
  [[nodiscard]] std::span<const T> as() const {
    if (data_type_of<T> != type_) throw idx_error::wrong_type(source_, to_string(data_type_of<T>), to_string(type_));
    return {reinterpret_cast<const T*>(bytes_.data()), bytes_.size() / sizeof(T)};
  }

 private:
  friend idx_array parse_idx(std::vector<std::byte> bytes, std::string source);
  idx_array(data_type type, std::vector<std::size_t> shape, std::vector<std::byte> bytes, std::string source)
      : type_(type), shape_(std::move(shape)), bytes_(std::move(bytes)), source_(std::move(source)) {}

  data_type type_;
  std::vector<std::size_t> shape_;
  std::vector<std::byte> bytes_;
  std::string source_;
};

namespace detail {

inline std::string hex_bytes(std::span<const std::byte> bytes) {
  std::string text;
  for (std::byte b : bytes) {
    if (!text.empty()) text += ' ';
    text += "0123456789abcdef"[std::to_integer<int>(b >> 4)];
    text += "0123456789abcdef"[std::to_integer<int>(b & std::byte{15})];
  }
  return text.empty() ? "nothing" : text;
}

inline void check_idx_magic(std::span<const std::byte> bytes, const std::string& source) {
  constexpr std::byte zero{0};
  if (bytes.size() >= 4 && bytes[0] == zero && bytes[1] == zero && bytes[3] != zero) return;
  const bool gzip = bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
  throw idx_error::wrong_magic(source, hex_bytes(bytes.first(std::min<std::size_t>(bytes.size(), 4))),
                               gzip ? ", which is gzip: read it with read_idx_gz of <cadre/zlib.hpp>" : "");
}

inline data_type idx_type(std::byte code, const std::string& source) {
  switch (std::to_integer<int>(code)) {
    case 0x08: return data_type::uint8;
    case 0x09: return data_type::int8;
    case 0x0b: return data_type::int16;
    case 0x0c: return data_type::int32;
    case 0x0d: return data_type::float32;
    case 0x0e: return data_type::float64;
    default: throw idx_error::unknown_type(source, hex_bytes({&code, 1}));
  }
}

inline std::vector<std::size_t> idx_shape(std::span<const std::byte> extents) {
  std::vector<std::size_t> shape;
  for (std::size_t i = 0; i < extents.size(); i += 4) {
    std::size_t extent = 0;
    for (std::byte b : extents.subspan(i, 4)) extent = extent << 8 | std::to_integer<std::size_t>(b);
    shape.push_back(extent);
  }
  return shape;
}

/// header + product of the shape * width, or idx_error 715.
inline std::size_t idx_size(std::size_t header, const std::vector<std::size_t>& shape, std::size_t width,
                            const std::string& source) {
  std::size_t bytes = width;
  bool overflow = false;
  for (std::size_t extent : shape) overflow |= __builtin_mul_overflow(bytes, extent, &bytes);
  const bool empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
  if (empty) return header;
  if (!overflow && bytes <= PTRDIFF_MAX - header) return header + bytes;
  std::string text;
  for (std::size_t extent : shape) text += (text.empty() ? "" : " x ") + std::to_string(extent);
  throw idx_error::absurd_size(source, text);
}

inline void from_big_endian(std::vector<std::byte>& bytes, std::size_t width) {
  if (width == 1 || std::endian::native == std::endian::big) return;
  for (std::byte* p = bytes.data(); p != bytes.data() + bytes.size(); p += width) std::reverse(p, p + width);
}

}  // namespace detail

/// Takes the bytes of a whole IDX file; `source` names them in messages. The elements stay in the same memory, so a
/// caller who moves its bytes in never holds them twice. Throws idx_error 711 (not IDX), 712 (unknown element type),
/// 713 (truncated), 714 (trailing bytes) or 715 (a size that no memory can have); there are no partial results.
[[nodiscard]] inline idx_array parse_idx(std::vector<std::byte> bytes, std::string source = "IDX data") {
  detail::check_idx_magic({bytes.data(), bytes.size()}, source);
  const data_type type = detail::idx_type(bytes[2], source);
  const std::size_t header = 4 + 4 * std::to_integer<std::size_t>(bytes[3]);
  if (bytes.size() < header) throw idx_error::truncated(source, header, bytes.size());
  std::vector<std::size_t> shape = detail::idx_shape({bytes.data() + 4, header - 4});
  const std::size_t expected = detail::idx_size(header, shape, size_of(type), source);
  if (bytes.size() < expected) throw idx_error::truncated(source, expected, bytes.size());
  if (bytes.size() > expected) throw idx_error::trailing_bytes(source, expected, bytes.size());
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(header));  // so that elements are aligned
  detail::from_big_endian(bytes, size_of(type));
  return {type, std::move(shape), std::move(bytes), std::move(source)};
}
/// The same from bytes that stay where they are.
[[nodiscard]] inline idx_array parse_idx(std::span<const std::byte> bytes, std::string source = "IDX data") {
  return parse_idx(std::vector<std::byte>(bytes.begin(), bytes.end()), std::move(source));
}

/// Reads an IDX file that is not compressed (read_idx_gz of <cadre/zlib.hpp> takes both). Throws file_error 701 if it
/// cannot be read, and what parse_idx throws, naming the path.
[[nodiscard]] inline idx_array read_idx(const std::string& path) {
  std::vector<std::byte> bytes;
  detail::read_file(path, bytes);
  return parse_idx(std::move(bytes), path);
}

/// Samples and their labels, known to belong together.
class labelled {
 public:
  /// Throws idx_error 717, naming both sources and counts, if there are not as many labels as samples, and 718 if the
  /// labels are no row of integers or, with `classes` given, one of them is not in 0 .. classes-1.
  ///
  /// A template so that only those who call it pay to compile it.
  template <std::same_as<idx_array> Array>
  labelled(Array samples, Array labels, std::size_t classes = 0)
      : samples_(std::move(samples)), labels_(std::move(labels)) {
    if (labels_.shape().size() != 1)
      throw idx_error::bad_labels(labels_.source(), "it has " + std::to_string(labels_.shape().size()) + " dimensions");
    if (samples_.rows() != labels_.rows())
      throw idx_error::counts_disagree(samples_.source(), samples_.rows(), labels_.source(), labels_.rows());
    visit(labels_.type(), [&]<class T>(T) {
      if constexpr (std::is_integral_v<T>)
        check_classes(labels_.as<T>(), classes);
      else
        throw idx_error::bad_labels(labels_.source(),
                                    "its elements are of type " + std::string(to_string(labels_.type())));
    });
  }

  [[nodiscard]] std::size_t size() const noexcept { return samples_.rows(); }
  [[nodiscard]] const idx_array& samples() const noexcept { return samples_; }
  [[nodiscard]] const idx_array& labels() const noexcept { return labels_; }

 private:
  template <class T>
  void check_classes(std::span<const T> labels, std::size_t classes) const {
    if (classes == 0) return;
    for (std::size_t i = 0; i < labels.size(); ++i)
      if (std::cmp_less(labels[i], 0) || std::cmp_greater_equal(labels[i], classes))
        throw idx_error::bad_labels(labels_.source(), "label " + std::to_string(labels[i]) + " of sample " +
                                                          std::to_string(i) + " is not one of " +
                                                          std::to_string(classes) + " classes");
  }

  idx_array samples_;
  idx_array labels_;
};

}  // namespace data

CADRE_NAMESPACE_END

#endif

// ---- cadre/data.hpp ----
#ifndef CADRE_DATA_HPP
#define CADRE_DATA_HPP

#endif

// ---- cadre/observe/error.hpp ----
#ifndef CADRE_OBSERVE_ERROR_HPP
#define CADRE_OBSERVE_ERROR_HPP

#include <string_view>

CADRE_NAMESPACE_BEGIN

/// The base of this room's errors, 1050 to 1099.
class observe_error : public error {
 protected:
  observe_error(int number, std::string_view message) : error("observe", number, message) {}
};

/// Thrown (1050) when a metric is registered again as another kind or with other buckets.
class metric_mismatch : public observe_error {
 public:
  explicit metric_mismatch(std::string_view message) : observe_error(1050, message) {}
};

/// Thrown (1051) when a metric's or label's name or a bucket option is not one that Prometheus accepts.
class invalid_metric : public observe_error {
 public:
  explicit invalid_metric(std::string_view message) : observe_error(1051, message) {}
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/observe/events.hpp ----
#ifndef CADRE_OBSERVE_EVENTS_HPP
#define CADRE_OBSERVE_EVENTS_HPP

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Something that happened, on which thread and for how long.
struct event {
  std::chrono::nanoseconds begin{};     ///< of steady_clock, which all processes of a machine share
  std::chrono::nanoseconds duration{};  ///< zero for an instant
  bool instant = false;                 ///< a point in time, made by mark_event
  std::uint32_t thread = 0;             ///< the kernel's thread id
  int rank = 0;                         ///< current_rank() of the thread that recorded
  std::string category{};               ///< at most 16 bytes
  std::string name{};                   ///< at most 56 bytes; longer names are cut

  friend bool operator==(const event&, const event&) = default;
};

/// The newest events, `capacity` (rounded up to a power of two) of 128 bytes each; older ones are overwritten. Any
/// number of threads may record while others take snapshots; nobody waits for anybody.
class event_ring {
 public:
  explicit event_ring(std::size_t capacity)
      : mask_(std::bit_ceil(std::max<std::size_t>(capacity, 2)) - 1), slots_(std::make_unique<slot[]>(mask_ + 1)) {}

  [[nodiscard]] std::size_t capacity() const noexcept { return mask_ + 1; }

  /// Records for the calling thread. A negative duration marks an instant.
  void record(std::string_view category, std::string_view name, std::chrono::nanoseconds begin,
              std::chrono::nanoseconds duration) noexcept {
    slot& s = slots_[next_.fetch_add(1, std::memory_order_relaxed) & mask_];
    // A slot is owned while its version is odd. If another writer, a whole round behind or ahead, has it, this event
    // is dropped rather than waited for.
    std::uint64_t version = s.version.load(std::memory_order_relaxed);
    if ((version & 1) != 0 ||
        !s.version.compare_exchange_strong(version, version + 1, std::memory_order_acquire, std::memory_order_relaxed))
      return;
    words w{};
    w[0] = static_cast<std::uint64_t>(begin.count());
    w[1] = static_cast<std::uint64_t>(duration.count());
    w[2] = std::uint64_t{detail::thread_id()} << 32 | static_cast<std::uint32_t>(current_rank());
    std::memcpy(&w[3], category.data(), std::min(category.size(), category_bytes));
    std::memcpy(&w[5], name.data(), std::min(name.size(), name_bytes));
    w[12] = epoch_.load(std::memory_order_relaxed);
    // Release, and acquire in the reader, so that whoever sees a new word also sees the odd version before it: a
    // sequence lock without a fence, which thread sanitizers do not know.
    for (std::size_t i = 0; i < w.size(); ++i) s.data[i].store(w[i], std::memory_order_release);
    s.version.store(version + 2, std::memory_order_release);
  }

  /// The events that there are, by their beginning. What is recorded meanwhile may or may not be among them. A template,
  /// as are its callers, so that only those who look pay to compile it.
  template <class Event = event>
  [[nodiscard]] std::vector<Event> snapshot() const {
    std::vector<Event> events;
    const std::uint64_t epoch = epoch_.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i <= mask_; ++i) {
      const slot& s = slots_[i];
      const std::uint64_t version = s.version.load(std::memory_order_acquire);
      if (version == 0 || (version & 1) != 0) continue;
      words w;
      for (std::size_t k = 0; k < w.size(); ++k) w[k] = s.data[k].load(std::memory_order_acquire);
      if (s.version.load(std::memory_order_relaxed) != version || w[12] != epoch) continue;
      Event e;
      e.begin = std::chrono::nanoseconds(static_cast<std::int64_t>(w[0]));
      const auto duration = static_cast<std::int64_t>(w[1]);
      e.instant = duration < 0;
      e.duration = std::chrono::nanoseconds(std::max<std::int64_t>(duration, 0));
      e.thread = static_cast<std::uint32_t>(w[2] >> 32);
      e.rank = static_cast<int>(static_cast<std::uint32_t>(w[2]));
      e.category = text(&w[3], category_bytes);
      e.name = text(&w[5], name_bytes);
      events.push_back(std::move(e));
    }
    std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.begin < b.begin; });
    return events;
  }

  /// Forgets what was recorded so far.
  void clear() noexcept { epoch_.fetch_add(1, std::memory_order_relaxed); }

 private:
  static constexpr std::size_t category_bytes = 16, name_bytes = 56;
  using words = std::array<std::uint64_t, 13>;
  struct alignas(64) slot {
    std::atomic<std::uint64_t> version{0};
    std::array<std::atomic<std::uint64_t>, std::tuple_size_v<words>> data{};
  };

  static std::string text(const std::uint64_t* from, std::size_t most) {
    const auto* bytes = reinterpret_cast<const char*>(from);
    return std::string(bytes, std::find(bytes, bytes + most, '\0'));
  }

  std::size_t mask_;
  std::unique_ptr<slot[]> slots_;
  std::atomic<std::uint64_t> epoch_{0};
  alignas(64) std::atomic<std::uint64_t> next_{0};
};

namespace detail {

inline constinit std::atomic<event_ring*> current_events{nullptr};

/// Rings are never destroyed, since a thread may be about to write to one; one per capacity is enough.
inline event_ring& event_ring_of(std::size_t capacity) {
  struct known_ring {
    event_ring ring;
    known_ring* next;
  };
  static std::mutex& mutex = *new std::mutex;
  static known_ring* newest = nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  for (known_ring* known = newest; known; known = known->next)
    if (known->ring.capacity() == std::bit_ceil(std::max<std::size_t>(capacity, 2))) return known->ring;
  newest = new known_ring{event_ring(capacity), newest};
  return newest->ring;
}

[[nodiscard]] inline std::chrono::nanoseconds event_time() noexcept {
  return std::chrono::steady_clock::now().time_since_epoch();
}

}  // namespace detail

/// Begins to record events of this process, with none of an earlier recording. 16,384 of them take 2 MiB.
inline void enable_events(std::size_t capacity = 16384) {
  event_ring& ring = detail::event_ring_of(capacity);
  ring.clear();
  detail::current_events.store(&ring, std::memory_order_release);
}

/// The default: events cost one load. Returns what was recorded, the newest `capacity` events.
template <class Event = event>
std::vector<Event> disable_events() {
  const event_ring* ring = detail::current_events.exchange(nullptr, std::memory_order_acq_rel);
  return ring ? ring->snapshot<Event>() : std::vector<Event>();
}

[[nodiscard]] inline bool events_enabled() noexcept {
  return detail::current_events.load(std::memory_order_relaxed) != nullptr;
}

/// The newest events while recording goes on; empty when disabled.
template <class Event = event>
[[nodiscard]] std::vector<Event> recent_events() {
  const event_ring* ring = detail::current_events.load(std::memory_order_acquire);
  return ring ? ring->snapshot<Event>() : std::vector<Event>();
}

/// An instant on the calling thread.
inline void mark_event(std::string_view category, std::string_view name) noexcept {
  if (event_ring* ring = detail::current_events.load(std::memory_order_acquire)) [[unlikely]]
    ring->record(category, name, detail::event_time(), std::chrono::nanoseconds(-1));
}

/// Records the time from its construction to its end on the calling thread. The texts must live as long as it does.
///
///     const cadre::event_span span("train", "backward");
class [[nodiscard]] event_span {
 public:
  event_span(std::string_view category, std::string_view name) noexcept
      : ring_(detail::current_events.load(std::memory_order_acquire)) {
    if (ring_) [[unlikely]] {
      category_ = category;
      name_ = name;
      begin_ = detail::event_time();
    }
  }
  ~event_span() {
    if (ring_) [[unlikely]]
      ring_->record(category_, name_, begin_, detail::event_time() - begin_);
  }
  event_span(const event_span&) = delete;
  event_span& operator=(const event_span&) = delete;

 private:
  event_ring* ring_;
  std::string_view category_, name_;
  std::chrono::nanoseconds begin_{};
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/observe/detail/shards.hpp ----
#ifndef CADRE_OBSERVE_DETAIL_SHARDS_HPP
#define CADRE_OBSERVE_DETAIL_SHARDS_HPP

#include <atomic>
#include <cstddef>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Metrics are kept in this many copies, each on cache lines of its own, and summed when read; threads take turns in
/// choosing one, so that up to as many count without disturbing one another.
inline constexpr std::size_t metric_shards = 8;

inline constinit std::atomic<std::size_t> next_metric_shard{0};

inline std::size_t metric_shard() noexcept {
  static constinit thread_local std::size_t mine = metric_shards;
  if (mine == metric_shards) [[unlikely]]
    mine = next_metric_shard.fetch_add(1, std::memory_order_relaxed) % metric_shards;
  return mine;
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/observe/metrics.hpp ----
#ifndef CADRE_OBSERVE_METRICS_HPP
#define CADRE_OBSERVE_METRICS_HPP

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// A number that only grows: tasks done, bytes sent. Any thread; one relaxed addition.
class counter {
 public:
  counter() = default;
  counter(const counter&) = delete;
  counter& operator=(const counter&) = delete;

  void add(std::uint64_t n = 1) noexcept {
    shards_[detail::metric_shard()].value.fetch_add(n, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t value() const noexcept {
    std::uint64_t total = 0;
    for (const shard& s : shards_) total += s.value.load(std::memory_order_relaxed);
    return total;
  }

 private:
  struct alignas(64) shard {
    std::atomic<std::uint64_t> value{0};
  };
  std::array<shard, detail::metric_shards> shards_;
};

/// A number that goes up and down: queue length, bytes in use. Any thread.
class gauge {
 public:
  gauge() = default;
  gauge(const gauge&) = delete;
  gauge& operator=(const gauge&) = delete;

  void set(double value) noexcept { value_.store(value, std::memory_order_relaxed); }
  void add(double amount) noexcept { value_.fetch_add(amount, std::memory_order_relaxed); }
  [[nodiscard]] double value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  alignas(64) std::atomic<double> value_{0};
};

/// The upper bounds of a histogram's buckets: first, first * factor, first * factor^2, ...; a last bucket takes the
/// rest. The default spans 10 us to 84 s when what is observed are seconds.
struct histogram_buckets {
  double first = 1e-5;
  double factor = 2;
  std::size_t count = 24;

  friend bool operator==(const histogram_buckets&, const histogram_buckets&) = default;
};

/// How observations are distributed: seconds per task, bytes per message. Any thread; two relaxed additions and a
/// search among the bounds.
class histogram {
 public:
  /// Throws invalid_metric (1051) unless first > 0, factor > 1, 1 <= count <= 64, and all bounds are finite.
  explicit histogram(histogram_buckets buckets = {}) {
    if (!(buckets.first > 0) || !(buckets.factor > 1) || buckets.count < 1 || buckets.count > most)
      throw invalid_metric("a histogram's buckets need first > 0, factor > 1 and a count from 1 to 64");
    double bound = buckets.first;
    for (std::size_t i = 0; i < buckets.count; ++i, bound *= buckets.factor) bounds_.push_back(bound);
    if (!std::isfinite(bounds_.back()))
      throw invalid_metric("a histogram's buckets grow beyond what a double holds; choose a smaller factor or count");
  }
  histogram(const histogram&) = delete;
  histogram& operator=(const histogram&) = delete;

  /// A NaN counts in the last bucket and makes the sum NaN, as it does in Prometheus' own clients.
  void observe(double value) noexcept {
    std::size_t bucket = bounds_.size();
    if (value <= bounds_.back())
      bucket = static_cast<std::size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin());
    shard& mine = shards_[detail::metric_shard()];
    mine.counts[bucket].fetch_add(1, std::memory_order_relaxed);
    mine.sum.fetch_add(value, std::memory_order_relaxed);
  }

  /// Upper bounds, inclusive, without that of the last bucket, which is infinite.
  [[nodiscard]] const std::vector<double>& bounds() const noexcept { return bounds_; }
  /// One count per bound and one for the rest.
  [[nodiscard]] std::vector<std::uint64_t> counts() const {
    std::vector<std::uint64_t> total(bounds_.size() + 1);
    for (const shard& s : shards_)
      for (std::size_t i = 0; i < total.size(); ++i) total[i] += s.counts[i].load(std::memory_order_relaxed);
    return total;
  }
  [[nodiscard]] double sum() const noexcept {
    double total = 0;
    for (const shard& s : shards_) total += s.sum.load(std::memory_order_relaxed);
    return total;
  }

 private:
  static constexpr std::size_t most = 64;
  struct alignas(64) shard {
    std::array<std::atomic<std::uint64_t>, most + 1> counts{};
    std::atomic<double> sum{0};
  };
  std::vector<double> bounds_;
  std::array<shard, detail::metric_shards> shards_;
};

/// What tells apart the metrics of one name: {{"room", "pool"}, {"kind", "steal"}}. The order does not matter.
using metric_labels = std::vector<std::pair<std::string, std::string>>;

enum class metric_kind : std::uint8_t { counter, gauge, histogram };

[[nodiscard]] constexpr std::string_view to_string(metric_kind kind) noexcept {
  return kind == metric_kind::counter ? "counter" : kind == metric_kind::gauge ? "gauge" : "histogram";
}

/// One metric as it stood when a snapshot was taken.
struct metric_sample {
  std::string name, help;
  metric_kind kind;
  metric_labels labels;                 ///< sorted by name
  double value = 0;                     ///< of a counter or gauge; the number of observations of a histogram
  double sum = 0;                       ///< of a histogram's observations
  std::vector<double> bounds{};         ///< of a histogram's buckets
  std::vector<std::uint64_t> counts{};  ///< per bucket, not cumulative; one more than bounds
};

/// Metrics by name and labels. Registering takes a lock and happens once; keep the reference, which stays good as long
/// as the registry, and count through it without a lock:
///
///     static cadre::counter& stolen = cadre::metrics().counter("cadre_pool_stolen_total", "tasks taken from others");
///     stolen.add();
///
/// Names are Prometheus': [a-zA-Z_:][a-zA-Z0-9_:]*, for labels without the colon and not beginning with two
/// underscores; else invalid_metric (1051). The same name and labels give the same metric; the same name as another
/// kind, or a histogram with other buckets, is metric_mismatch (1050). A help text given later fills an empty one.
///
/// A template so that only those who count pay to compile it; its name is metrics_registry.
template <class Labels = metric_labels>
class basic_metrics_registry {
 public:
  basic_metrics_registry() = default;
  basic_metrics_registry(const basic_metrics_registry&) = delete;
  basic_metrics_registry& operator=(const basic_metrics_registry&) = delete;

  cadre::counter& counter(std::string_view name, std::string_view help = {}, Labels labels = {}) {
    return find_or_add(&family::counters, name, help, metric_kind::counter, std::move(labels), {});
  }

  cadre::gauge& gauge(std::string_view name, std::string_view help = {}, Labels labels = {}) {
    return find_or_add(&family::gauges, name, help, metric_kind::gauge, std::move(labels), {});
  }

  cadre::histogram& histogram(std::string_view name, std::string_view help = {}, Labels labels = {},
                              histogram_buckets buckets = {}) {
    return find_or_add(&family::histograms, name, help, metric_kind::histogram, std::move(labels), buckets, buckets);
  }

  /// All metrics, ordered by name and labels. Counting goes on meanwhile; each number was right at some instant.
  [[nodiscard]] std::vector<metric_sample> snapshot() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<metric_sample> samples;
    for (const auto& [name, f] : families_) {
      for (const auto& [labels, c] : f.counters)
        samples.push_back({name, f.help, f.kind, labels, static_cast<double>(c->value())});
      for (const auto& [labels, g] : f.gauges) samples.push_back({name, f.help, f.kind, labels, g->value()});
      for (const auto& [labels, h] : f.histograms) {
        std::vector<std::uint64_t> counts = h->counts();
        std::uint64_t all = 0;
        for (std::uint64_t n : counts) all += n;
        samples.push_back(
            {name, f.help, f.kind, labels, static_cast<double>(all), h->sum(), h->bounds(), std::move(counts)});
      }
    }
    return samples;
  }

 private:
  template <class Metric>
  using by_labels = std::map<Labels, std::unique_ptr<Metric>>;

  struct family {
    metric_kind kind;
    std::string help;
    histogram_buckets buckets;
    by_labels<cadre::counter> counters{};
    by_labels<cadre::gauge> gauges{};
    by_labels<cadre::histogram> histograms{};
  };

  static bool valid_name(std::string_view name, bool colon) noexcept {
    const auto letter = [&](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colon && c == ':');
    };
    return !name.empty() && letter(name.front()) &&
           std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
  }

  family& family_of(std::string_view name, std::string_view help, metric_kind kind, histogram_buckets buckets) {
    if (!valid_name(name, true))
      throw invalid_metric("'" + std::string(name) +
                           "' is no name for a metric; it must match [a-zA-Z_:][a-zA-Z0-9_:]*");
    family& f = families_.try_emplace(std::string(name), kind, std::string(), buckets).first->second;
    if (f.kind != kind)
      throw metric_mismatch("metric '" + std::string(name) + "' is a " + std::string(to_string(f.kind)) +
                            " and was asked for as a " + std::string(to_string(kind)) + "; choose another name");
    if (f.buckets != buckets)
      throw metric_mismatch("histogram '" + std::string(name) +
                            "' was registered with other buckets; all of one name share them");
    if (f.help.empty()) f.help = help;
    return f;
  }

  static void check_and_sort(Labels& labels, metric_kind kind) {
    std::sort(labels.begin(), labels.end());
    for (std::size_t i = 0; i < labels.size(); ++i) {
      const std::string& label = labels[i].first;
      if (!valid_name(label, false) || label.starts_with("__") || (kind == metric_kind::histogram && label == "le"))
        throw invalid_metric("'" + label +
                             "' is no name for a label; it must match [a-zA-Z_][a-zA-Z0-9_]*, not begin with '__', and "
                             "not be 'le' on a histogram");
      if (i > 0 && labels[i - 1].first == label) throw invalid_metric("label '" + label + "' is given twice");
    }
  }

  template <class Metric, class... Arguments>
  Metric& find_or_add(by_labels<Metric> family::*metrics, std::string_view name, std::string_view help,
                      metric_kind kind, Labels labels, histogram_buckets buckets, const Arguments&... arguments) {
    check_and_sort(labels, kind);
    auto made = std::make_unique<Metric>(arguments...);  // refuses bad buckets before the name is taken
    const std::lock_guard<std::mutex> lock(mutex_);
    return *(family_of(name, help, kind, buckets).*metrics)
                .try_emplace(std::move(labels), std::move(made))
                .first->second;
  }

  mutable std::mutex mutex_;
  std::map<std::string, family> families_;
};

using metrics_registry = basic_metrics_registry<>;

/// The registry of the process, which cadre's own rooms count in. Never destroyed, so that threads may count until the
/// very end.
template <class Registry = metrics_registry>
[[nodiscard]] Registry& metrics() {
  static Registry& registry = *new Registry;
  return registry;
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/observe/prometheus.hpp ----
#ifndef CADRE_OBSERVE_PROMETHEUS_HPP
#define CADRE_OBSERVE_PROMETHEUS_HPP

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace detail {

inline std::string prometheus_number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char buffer[32];
  // Counts below 2^53 as integers: std::to_chars alone would write 100000 as 1e+05.
  const bool whole = std::abs(value) < 9007199254740992.0 && value == std::floor(value);
  const auto end = whole ? std::to_chars(buffer, buffer + sizeof buffer, static_cast<std::int64_t>(value)).ptr
                         : std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

inline std::string prometheus_escaped(std::string_view text, bool quote) {
  std::string out;
  for (char c : text) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\\' || (quote && c == '"'))
      (out += '\\') += c;
    else
      out += c;
  }
  return out;
}

inline std::string prometheus_labels(const metric_labels& labels, std::string_view le = {}) {
  std::string out;
  for (const auto& [name, value] : labels)
    out += (out.empty() ? "" : ",") + name + "=\"" + prometheus_escaped(value, true) + '"';
  if (!le.empty()) ((out += out.empty() ? "le=\"" : ",le=\"") += le) += '"';
  return out.empty() ? out : '{' + out + '}';
}

}  // namespace detail

/// A snapshot in the Prometheus text exposition format, version 0.0.4 (serve it as "text/plain; version=0.0.4").
[[nodiscard]] inline std::string prometheus_text(std::span<const metric_sample> samples) {
  std::string out;
  const std::string* family = nullptr;
  for (const metric_sample& m : samples) {
    if (!family || *family != m.name) {
      if (!m.help.empty()) out += "# HELP " + m.name + ' ' + detail::prometheus_escaped(m.help, false) + '\n';
      ((out += "# TYPE " + m.name + ' ') += to_string(m.kind)) += '\n';
      family = &m.name;
    }
    const std::string labels = detail::prometheus_labels(m.labels);
    if (m.kind != metric_kind::histogram) {
      out += m.name + labels + ' ' + detail::prometheus_number(m.value) + '\n';
      continue;
    }
    std::uint64_t up_to = 0;
    for (std::size_t i = 0; i < m.counts.size(); ++i) {
      up_to += m.counts[i];
      const std::string le = i < m.bounds.size() ? detail::prometheus_number(m.bounds[i]) : "+Inf";
      out += m.name + "_bucket" + detail::prometheus_labels(m.labels, le) + ' ' + std::to_string(up_to) + '\n';
    }
    out += m.name + "_sum" + labels + ' ' + detail::prometheus_number(m.sum) + '\n';
    out += m.name + "_count" + labels + ' ' + std::to_string(up_to) + '\n';
  }
  return out;
}

/// All metrics of a registry, by default of the process's.
template <class Labels = metric_labels>
[[nodiscard]] std::string prometheus_text(const basic_metrics_registry<Labels>& registry = metrics()) {
  return prometheus_text(std::span<const metric_sample>(registry.snapshot()));
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/observe.hpp ----
#ifndef CADRE_OBSERVE_HPP
#define CADRE_OBSERVE_HPP

#endif

// ---- cadre/os/file_error.hpp ----
#ifndef CADRE_OS_FILE_ERROR_HPP
#define CADRE_OS_FILE_ERROR_HPP

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

// ---- cadre/os/detail/file.hpp ----
#ifndef CADRE_OS_DETAIL_FILE_HPP
#define CADRE_OS_DETAIL_FILE_HPP

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// An open file descriptor; every call throws file_error with the file's path.
class file {
 public:
  file() = default;
  file(std::string path, int flags, mode_t mode = 0666) : path_(std::move(path)) {
    do fd_ = ::open(path_.c_str(), flags | O_CLOEXEC, mode);
    while (fd_ == -1 && errno == EINTR);
    if (fd_ == -1) file_error::raise("open", path_, errno);
  }
  file(file&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  file& operator=(file&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~file() {
    if (fd_ != -1) ::close(fd_);
  }

  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  [[nodiscard]] struct stat status() const {
    struct stat result {};
    if (::fstat(fd_, &result) == -1) file_error::raise("examine", path_, errno);
    return result;
  }

  /// Writes all pieces, one after another, from `offset`: one call to the kernel unless it writes less than asked.
  void write_at(std::uint64_t offset, std::span<const std::span<const std::byte>> pieces) {
    std::vector<iovec> rest;
    rest.reserve(pieces.size());
    for (std::span<const std::byte> piece : pieces)
      if (!piece.empty()) rest.push_back({const_cast<std::byte*>(piece.data()), piece.size()});
    for (std::size_t first = 0; first < rest.size();) {
      const std::size_t count = rest.size() - first < 1024 ? rest.size() - first : 1024;  // IOV_MAX
      const ssize_t written = ::pwritev(fd_, rest.data() + first, static_cast<int>(count), static_cast<off_t>(offset));
      if (written == -1) {
        if (errno == EINTR) continue;
        file_error::raise("write", path_, errno);
      }
      offset += static_cast<std::uint64_t>(written);
      for (auto left = static_cast<std::size_t>(written); left != 0;) {
        const std::size_t step = left < rest[first].iov_len ? left : rest[first].iov_len;
        rest[first].iov_base = static_cast<std::byte*>(rest[first].iov_base) + step;
        rest[first].iov_len -= step;
        left -= step;
        if (rest[first].iov_len == 0) ++first;
      }
    }
  }

  /// Reads up to bytes.size() bytes from `offset`; fewer only at the end of the file.
  [[nodiscard]] std::size_t read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
    std::size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t got = ::pread(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
      if (got == 0) break;
      if (got == -1) {
        if (errno == EINTR) continue;
        file_error::raise("read", path_, errno);
      }
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  void truncate(std::uint64_t size) {
    if (::ftruncate(fd_, static_cast<off_t>(size)) == -1) file_error::raise("shorten", path_, errno);
  }

  void sync() {
    if (::fsync(fd_) == -1) file_error::raise("write to disk", path_, errno);
  }

  /// Makes the names in this folder durable. File systems that cannot do this for a folder say EINVAL.
  void sync_names() {
    if (::fsync(fd_) == -1 && errno != EINVAL) file_error::raise("write to disk", path_, errno);
  }

 private:
  std::string path_;
  int fd_ = -1;
};

/// The folder that holds `path`, which need not exist.
[[nodiscard]] inline file open_folder_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  return file(slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash), O_RDONLY | O_DIRECTORY);
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/os/detail/temporary_file.hpp ----
#ifndef CADRE_OS_DETAIL_TEMPORARY_FILE_HPP
#define CADRE_OS_DETAIL_TEMPORARY_FILE_HPP

#include <dirent.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Removes from `folder` the temporary files that killed processes left: those for the file `name`, or for any if empty.
/// A file whose writer lives is locked and stays.
inline void remove_leftovers(const std::string& folder, std::string_view name = {}) noexcept {
  constexpr std::string_view suffix = ".tmp";
  DIR* const list = ::opendir(folder.c_str());
  if (list == nullptr) return;
  while (const dirent* entry = ::readdir(list)) {
    std::string_view stem = entry->d_name;  // .<name>.<pid>-<n>.tmp
    if (!stem.starts_with('.') || !stem.ends_with(suffix)) continue;
    stem.remove_suffix(suffix.size());
    const std::size_t dot = stem.rfind('.');
    if (dot == 0 || dot == stem.npos || stem.find_first_not_of("0123456789-", dot + 1) != stem.npos) continue;
    if (!name.empty() && stem.substr(1, dot - 1) != name) continue;
    const int fd = ::openat(::dirfd(list), entry->d_name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd == -1) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlinkat(::dirfd(list), entry->d_name, 0);
    ::close(fd);
  }
  ::closedir(list);
}

/// A file beside the one that it is to replace, `.<name>.<pid>-<n>.tmp`, removed unless it did. Its writer holds a lock
/// on it, which the kernel frees when the writer dies: what is there without a lock was left by a process that was
/// killed, and the next temporary file for the same name removes it.
class temporary_file {
 public:
  temporary_file(const std::string& folder, const std::string& name) {
    static std::atomic<std::uint64_t> serial{0};
    const std::string stem = name.substr(0, 200);
    remove_leftovers(folder, stem);
    for (;;) {
      const std::string candidate = folder + "/." + stem + "." + std::to_string(::getpid()) + "-" +
                                    std::to_string(serial.fetch_add(1, std::memory_order_relaxed)) + ".tmp";
      try {
        file_ = file(candidate, O_WRONLY | O_CREAT | O_EXCL);
      } catch (const file_error& e) {
        if (e.code() != EEXIST) throw;
        continue;
      }
      // Another process may have taken it for a leftover before it was locked.
      if (::flock(file_.fd(), LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK) continue;
      if (file_.status().st_nlink != 0) return;
    }
  }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  ~temporary_file() {
    if (!file_.path().empty() && !replaced_) ::unlink(file_.path().c_str());
  }

  [[nodiscard]] file& get() noexcept { return file_; }

  void replace(const std::string& target) {
    if (::rename(file_.path().c_str(), target.c_str()) == -1) file_error::raise("replace", target, errno);
    replaced_ = true;
  }

 private:
  file file_;
  bool replaced_ = false;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/os/atomic_file.hpp ----
#ifndef CADRE_OS_ATOMIC_FILE_HPP
#define CADRE_OS_ATOMIC_FILE_HPP

#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Replaces the file at `path` by the pieces, one after another, or leaves it as it was: whoever opens the path at any
/// instant, also after SIGKILL or a power failure, finds the old content or the new, whole. When the call returns, the
/// content and its name are on the disk (a temporary file in the same folder, fsync, rename, fsync of the folder). A
/// symbolic link is followed, so the file it names is replaced. Permissions of an existing file are kept; owner,
/// extended attributes and further hard links are not.
///
/// Throws file_error and its kinds (155 path missing, 156 disk full, 157 access denied, 158 other) with path and cause;
/// the temporary file is then removed. Only if the very last step fails (158, "the folder of"), the path has the new
/// content already, and a power failure may bring back the old. The folder must be readable, as well as writable. A
/// process killed in the call leaves a `.<name>.<pid>-<n>.tmp` behind, which the next call for the same path removes.
/// Several writers of one path are safe, the last rename wins. Nothing is copied in user space.
inline void write_file_atomically(const std::string& path, std::span<const std::span<const std::byte>> pieces) {
  std::string target = path;
  struct stat old {};
  bool exists = ::lstat(path.c_str(), &old) == 0;
  if (exists && S_ISLNK(old.st_mode)) {
    if (char* resolved = ::realpath(path.c_str(), nullptr)) {
      target = resolved;
      std::free(resolved);
    } else {
      file_error::raise("follow the link", path, errno);
    }
    exists = ::lstat(target.c_str(), &old) == 0;
  }
  if (exists && S_ISDIR(old.st_mode)) file_error::raise("write", path, EISDIR);
  if (exists && !S_ISREG(old.st_mode)) file_error::raise("replace", path, ENOTSUP);  // a device, a pipe, a socket

  detail::file folder;
  try {
    folder = detail::open_folder_of(target);  // first, so that a folder that cannot be synced is known before a change
    detail::temporary_file temporary(folder.path(), target.substr(target.find_last_of('/') + 1));
    if (exists && ::fchmod(temporary.get().fd(), old.st_mode & 07777) == -1)
      file_error::raise("set permissions of", path, errno);
    temporary.get().write_at(0, pieces);
    temporary.get().sync();
    temporary.replace(target);
  } catch (const file_error& e) {
    file_error::raise("write", path, e.code());
  }
  try {
    folder.sync_names();
  } catch (const file_error& e) {
    file_error::raise("write to disk the folder of", path, e.code());
  }
}

inline void write_file_atomically(const std::string& path, std::initializer_list<std::span<const std::byte>> pieces) {
  write_file_atomically(path, std::span<const std::span<const std::byte>>(pieces.begin(), pieces.size()));
}
inline void write_file_atomically(const std::string& path, std::span<const std::byte> bytes) {
  write_file_atomically(path, std::span<const std::span<const std::byte>>(&bytes, 1));
}

/// The whole file, also one that does not state its size, as those of /proc. Throws file_error and its kinds (155, 157,
/// 158); a pipe is 158 at once.
[[nodiscard]] inline std::vector<std::byte> read_file(const std::string& path) {
  const detail::file file(path, O_RDONLY | O_NONBLOCK);  // the flag is for pipes: opening would wait for a writer
  const struct stat status = file.status();
  if (S_ISDIR(status.st_mode)) file_error::raise("read", path, EISDIR);
  std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size) + 1);  // the last one finds the end
  std::size_t held = file.read_at(0, {bytes.data(), bytes.size()});
  while (held == bytes.size()) {  // there may be more than was stated
    bytes.resize(held + 4096);
    held += file.read_at(held, {bytes.data() + held, bytes.size() - held});
  }
  bytes.resize(held);
  return bytes;
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/os.hpp ----
#ifndef CADRE_OS_HPP
#define CADRE_OS_HPP

/// What the operating system gives, behind typed errors.

#endif

// ---- cadre/persist/detail/checkpoint_format.hpp ----
#ifndef CADRE_PERSIST_DETAIL_CHECKPOINT_FORMAT_HPP
#define CADRE_PERSIST_DETAIL_CHECKPOINT_FORMAT_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

CADRE_NAMESPACE_BEGIN

/// The file: a header, a table of values (entries, each followed by its name and type label), the values one after
/// another. Little-endian. Every byte is covered by one of the checksums.
namespace detail::checkpoint_format {

// The first byte is no text, and the line ends betray a transfer that changed them.
inline constexpr std::array<char, 8> magic = {'\x89', 'C', 'A', 'D', 'C', 'K', '\r', '\n'};
inline constexpr std::uint32_t version = 1;

struct header {
  std::array<char, 8> magic;  // this and the version stay where they are in every version to come
  std::uint32_t version;
  std::uint32_t archive_version;
  std::uint64_t file_size;
  std::uint64_t table_size;
  std::uint64_t value_count;
  std::uint64_t table_checksum;
  std::uint64_t header_checksum;  // of all the above
};
static_assert(sizeof(header) == 56);

struct entry {
  std::uint64_t size;
  std::uint64_t checksum;
  std::uint32_t name_size;
  std::uint32_t type_size;
};
static_assert(sizeof(entry) == 24);

inline std::uint64_t checksum_of(const header& h) noexcept {
  return hash_bytes({reinterpret_cast<const std::byte*>(&h), offsetof(header, header_checksum)});
}

}  // namespace detail::checkpoint_format

CADRE_NAMESPACE_END

#endif

// ---- cadre/persist/error.hpp ----
#ifndef CADRE_PERSIST_ERROR_HPP
#define CADRE_PERSIST_ERROR_HPP

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

// ---- cadre/persist/checkpoint_reader.hpp ----
#ifndef CADRE_PERSIST_CHECKPOINT_READER_HPP
#define CADRE_PERSIST_CHECKPOINT_READER_HPP

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

// ---- cadre/persist/checkpoint_writer.hpp ----
#ifndef CADRE_PERSIST_CHECKPOINT_WRITER_HPP
#define CADRE_PERSIST_CHECKPOINT_WRITER_HPP

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

// ---- cadre/persist/checkpoint.hpp ----
#ifndef CADRE_PERSIST_CHECKPOINT_HPP
#define CADRE_PERSIST_CHECKPOINT_HPP

/// Named values in one file, replaced atomically and verified when read.

#endif

// ---- cadre/persist/fwd.hpp ----
#ifndef CADRE_PERSIST_FWD_HPP
#define CADRE_PERSIST_FWD_HPP

CADRE_NAMESPACE_BEGIN

class checkpoint_reader;
class checkpoint_writer;
class journal;
struct journal_options;

CADRE_NAMESPACE_END

#endif

// ---- cadre/persist/detail/journal_format.hpp ----
#ifndef CADRE_PERSIST_DETAIL_JOURNAL_FORMAT_HPP
#define CADRE_PERSIST_DETAIL_JOURNAL_FORMAT_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// The file: a header, then records, each a header and its bytes. Little-endian. A record's header has a check of its
/// own, keyed by its offset: without it, a damaged length in the middle would look like a torn tail and take all that
/// follows with it.
namespace detail::journal_format {

inline constexpr std::array<char, 8> magic = {'\x89', 'C', 'A', 'D', 'J', 'L', '\r', '\n'};
inline constexpr std::uint32_t version = 1;

struct file_header {
  std::array<char, 8> magic;  // this and the version stay where they are in every version to come
  std::uint32_t version;
  std::uint32_t check;
};
static_assert(sizeof(file_header) == 16);

struct record_header {
  std::uint32_t size;
  std::uint32_t check;  // of the size and the offset
  std::uint64_t checksum;
};
static_assert(sizeof(record_header) == 16);

/// A header as it lies in memory, and in the file.
template <class Header>
std::span<const std::byte> bytes_of(const Header& header) noexcept {
  return {reinterpret_cast<const std::byte*>(&header), sizeof header};
}

constexpr std::uint32_t short_check(std::uint64_t a, std::uint64_t b) noexcept {
  return static_cast<std::uint32_t>(hash_combine(hash_combine(0, a), b) >> 32);
}

inline file_header make_file_header() noexcept { return {magic, version, short_check(version, 0)}; }

inline record_header header_of(std::span<const std::byte> record, std::uint64_t offset) noexcept {
  const auto size = static_cast<std::uint32_t>(record.size());
  return {size, short_check(size, offset), hash_bytes(record, offset)};
}

struct scan_result {
  std::uint64_t end = 0;        // of the last whole record; 0 if not even the file's header is whole
  std::uint64_t file_size = 0;  // larger than end if there is a torn tail
  std::uint64_t records = 0;
};

/// Reads a file front to back through a window, so that a long journal needs no more memory than its longest record.
class window {
 public:
  explicit window(const file& from) : file_(from), size_(static_cast<std::uint64_t>(from.status().st_size)) {}

  [[nodiscard]] std::uint64_t file_size() const noexcept { return size_; }

  /// The bytes [offset, offset + count), fewer at the end of the file.
  [[nodiscard]] std::span<const std::byte> at(std::uint64_t offset, std::size_t count) {
    if (offset >= size_) return {};
    count = static_cast<std::size_t>(std::min<std::uint64_t>(count, size_ - offset));
    if (offset < begin_ || offset + count > begin_ + held_) {
      const std::uint64_t wanted = std::min<std::uint64_t>(std::max(count, least), size_ - offset);
      if (bytes_.size() < wanted) bytes_.resize(static_cast<std::size_t>(wanted));
      begin_ = offset;
      held_ = file_.read_at(offset, {bytes_.data(), static_cast<std::size_t>(wanted)});
      if (held_ < count) size_ = begin_ + held_;  // the file was shortened meanwhile
      count = std::min(count, held_);
    }
    return {bytes_.data() + (offset - begin_), count};
  }

  /// Whether the file holds nothing but zero from `offset` on, as it may after a power failure.
  [[nodiscard]] bool zero_from(std::uint64_t offset) {
    while (offset < size_) {
      const std::span<const std::byte> part = at(offset, least);
      if (std::any_of(part.begin(), part.end(), [](std::byte b) { return b != std::byte{}; })) return false;
      offset += part.size();
    }
    return true;
  }

 private:
  static constexpr std::size_t least = 256 << 10;

  const file& file_;
  std::uint64_t size_;
  std::uint64_t begin_ = 0;
  std::size_t held_ = 0;
  std::vector<std::byte> bytes_;
};

/// False if the file has no whole header yet.
inline bool check_file_header(window& in, const std::string& path) {
  const std::span<const std::byte> bytes = in.at(0, sizeof(file_header));
  const file_header expected = make_file_header();
  if (bytes.size() < sizeof expected) {
    if (bytes.empty() || std::memcmp(bytes.data(), &expected, bytes.size()) == 0) return false;
  } else {
    file_header found;
    std::memcpy(&found, bytes.data(), sizeof found);
    if (found.magic == magic) {
      if (found.check != short_check(found.version, 0))
        throw journal_corrupt("journal '" + path + "': its header, at offset 0, is damaged; restore it from a copy");
      if (found.version > version)
        throw journal_too_new("journal '" + path + "' has format version " + std::to_string(found.version) +
                              ", and this program knows versions up to " + std::to_string(version) +
                              "; open it with the release of cadre that wrote it, or a later one");
      return true;
    }
    if (in.zero_from(0)) return false;
  }
  throw journal_foreign("'" + path + "' is not a journal of cadre: it begins with other bytes; check the path");
}

template <class Each>
scan_result scan(const file& from, Each& each) {
  window in(from);
  scan_result result;
  if (check_file_header(in, from.path())) {
    result.end = sizeof(file_header);
    const auto corrupt = [&](const char* what) {
      return journal_corrupt(
          "journal '" + from.path() + "': the " + what + " of record " + std::to_string(result.records) +
          ", at offset " + std::to_string(result.end) +
          ", is damaged, and more follows it; restore the file from a copy, or give up this record and all after it "
          "with: truncate -s " +
          std::to_string(result.end) + " FILE");
    };
    while (result.end < in.file_size()) {
      record_header header{};
      const std::span<const std::byte> front = in.at(result.end, sizeof header);
      if (front.size() < sizeof header) break;
      std::memcpy(&header, front.data(), sizeof header);
      if (header.check != short_check(header.size, result.end)) {
        if (in.zero_from(result.end)) break;
        throw corrupt("header");
      }
      const std::span<const std::byte> record = in.at(result.end + sizeof header, header.size);
      if (record.size() < header.size) break;
      const std::uint64_t next = result.end + sizeof header + header.size;
      if (hash_bytes(record, result.end) != header.checksum) {
        if (next == in.file_size() || in.zero_from(next)) break;
        throw corrupt("content");
      }
      each(record);
      result.end = next;
      ++result.records;
    }
  }
  result.file_size = in.file_size();
  return result;
}

}  // namespace detail::journal_format

CADRE_NAMESPACE_END

#endif

// ---- cadre/persist/journal.hpp ----
#ifndef CADRE_PERSIST_JOURNAL_HPP
#define CADRE_PERSIST_JOURNAL_HPP

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

// ---- cadre/persist.hpp ----
#ifndef CADRE_PERSIST_HPP
#define CADRE_PERSIST_HPP

/// What survives the process: checkpoints and journals.

#endif

// ---- cadre/report/detail/number.hpp ----
#ifndef CADRE_REPORT_DETAIL_NUMBER_HPP
#define CADRE_REPORT_DETAIL_NUMBER_HPP

#include <charconv>
#include <cmath>
#include <concepts>
#include <string>

CADRE_NAMESPACE_BEGIN

namespace detail {

// All of std::to_chars: the same bytes in every locale.

/// "nan", "inf", "-inf"; false for a finite number, which is left to the caller.
inline bool append_not_finite(std::string& out, double value) {
  if (std::isfinite(value)) return false;
  out += std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  return true;
}

/// The shortest text that reads back as the same number.
template <class Number>
  requires std::integral<Number> || std::same_as<Number, double>
void append_number(std::string& out, Number value) {
  if constexpr (std::same_as<Number, double>)
    if (append_not_finite(out, value)) return;
  char buffer[32];
  out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}

/// `decimals` digits after the point; |value| below 1e15.
inline void append_fixed(std::string& out, double value, int decimals) {
  char buffer[48];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed, decimals).ptr;
  std::string text(buffer, end);
  if (text.find_first_not_of("-0.") == text.npos && text.front() == '-') text.erase(0, 1);  // no negative zero
  out += text;
}

/// At most `digits` significant digits, integer digits never rounded away: 0.3125, 1.25e-05, 123456.
inline void append_significant(std::string& out, double value, int digits) {
  if (append_not_finite(out, value)) return;
  const double size = std::abs(value);
  if (size < 1e15 && (size >= std::pow(10.0, digits) || value == std::floor(value))) return append_fixed(out, value, 0);
  char buffer[48];
  out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::general, digits).ptr);
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/detail/text.hpp ----
#ifndef CADRE_REPORT_DETAIL_TEXT_HPP
#define CADRE_REPORT_DETAIL_TEXT_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace detail {

/// Columns that UTF-8 text takes on a terminal, one per code point.
inline std::size_t display_width(std::string_view text) noexcept {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u; }));
}

/// The first `width` columns; text that is longer ends in "...". No code point is cut.
inline std::string clip(std::string_view text, std::size_t width) {
  if (display_width(text) <= width) return std::string(text);
  const std::size_t keep = width > 3 ? width - 3 : 0;
  std::size_t end = 0, columns = 0;
  for (; end < text.size(); ++end)
    if ((static_cast<unsigned char>(text[end]) & 0xc0u) != 0x80u && columns++ == keep) break;
  return std::string(text.substr(0, end)) + std::string(std::min<std::size_t>(3, width), '.');
}

/// Text with a space for every control character, those of Latin-1 in UTF-8 (C2 80 to C2 9F) included: what a task
/// or an exception says must not steer somebody's terminal.
inline std::string without_controls(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool pair = c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) >= 0x80 &&
                      static_cast<unsigned char>(text[i + 1]) < 0xa0;
    out += c < 0x20 || c == 0x7f || pair ? ' ' : text[i];
    if (pair) ++i;
  }
  return out;
}

/// Bytes of the UTF-8 sequence that `text` begins with; 0 if it is not a valid one of a character that JSON and XML
/// allow.
inline std::size_t utf8_length(std::string_view text) noexcept {
  const auto at = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const std::uint32_t lead = at(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (length == 0 || length > text.size()) return 0;
  std::uint32_t code = lead & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xc0u) != 0x80u) return 0;
    code = code << 6 | (at(i) & 0x3fu);
  }
  const bool too_long = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool not_a_character = (code >= 0xd800 && code < 0xe000) || code == 0xfffe || code == 0xffff || code > 0x10ffff;
  return too_long || not_a_character ? 0 : length;
}

/// The text with U+FFFD for every byte that is not UTF-8.
inline std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    out += length == 0 ? std::string_view("\xef\xbf\xbd") : text.substr(0, length);
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out;
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/detail/json.hpp ----
#ifndef CADRE_REPORT_DETAIL_JSON_HPP
#define CADRE_REPORT_DETAIL_JSON_HPP

#include <cmath>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN

namespace detail {

inline void append_json(std::string& out, std::string_view text) {
  out += '"';
  for (char c : valid_utf8(text)) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          constexpr char digits[] = "0123456789abcdef";
          (out += "\\u00") += digits[c >> 4];
          out += digits[c & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

/// JSON has no NaN and no infinity; they become null.
inline void append_json(std::string& out, double value) {
  if (std::isfinite(value))
    append_number(out, value);
  else
    out += "null";
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/chrome_trace.hpp ----
#ifndef CADRE_REPORT_CHROME_TRACE_HPP
#define CADRE_REPORT_CHROME_TRACE_HPP

#include <set>
#include <span>
#include <string>

CADRE_NAMESPACE_BEGIN

/// Events as a timeline in Chrome's trace event format: open it at ui.perfetto.dev or chrome://tracing. Ranks are
/// shown as processes. Events of several processes of one machine share a clock and may go into one timeline.
///
/// A template so that only those who call it pay to compile it.
template <class Ranks = std::set<int>>
[[nodiscard]] std::string chrome_trace(std::span<const event> events) {
  std::string out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  const auto begin = [&] { out += out.back() == '[' ? "\n" : ",\n"; };
  const auto microseconds = [&](std::chrono::nanoseconds t) {
    const std::string thousandths = std::to_string(1000 + t.count() % 1000);
    out += std::to_string(t.count() / 1000) + '.' + thousandths.substr(1);
  };
  Ranks ranks;
  for (const event& e : events) ranks.insert(e.rank);
  for (int rank : ranks) {
    begin();
    out += "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":" + std::to_string(rank) + ",\"args\":{\"name\":\"rank " +
           std::to_string(rank) + "\"}}";
  }
  for (const event& e : events) {
    begin();
    out += "{\"ph\":\"" + std::string(e.instant ? "i\",\"s\":\"t" : "X") + "\",\"pid\":" + std::to_string(e.rank) +
           ",\"tid\":" + std::to_string(e.thread) + ",\"ts\":";
    microseconds(e.begin);
    if (!e.instant) {
      out += ",\"dur\":";
      microseconds(e.duration);
    }
    out += ",\"cat\":";
    detail::append_json(out, e.category);
    out += ",\"name\":";
    detail::append_json(out, e.name);
    out += '}';
  }
  return out += "\n]}\n";
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/detail/row_file.hpp ----
#ifndef CADRE_REPORT_DETAIL_ROW_FILE_HPP
#define CADRE_REPORT_DETAIL_ROW_FILE_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

CADRE_NAMESPACE_BEGIN

/// Whether a writer begins a new file or goes on with the one that is there.
enum class open_mode : std::uint8_t { truncate, append };

namespace detail {

/// Follows CSV text character by character: a quotation mark opens a cell only as its first character, closes it, and
/// counts as text when it stands twice.
class csv_quotes {
 public:
  /// True if the character is text, not one of the marks around a cell.
  bool next(char c) noexcept {
    const bool mark = c == '"' && (quoted_ || begins_ || closed_);
    const bool text = !mark || closed_;  // the second of two
    if (mark) quoted_ = !quoted_;
    closed_ = mark && !quoted_;
    begins_ = !quoted_ && (c == ',' || c == '\n');
    return text;
  }
  [[nodiscard]] bool quoted() const noexcept { return quoted_; }

 private:
  bool quoted_ = false;
  bool begins_ = true;   // the next character is the first of a cell
  bool closed_ = false;  // the last character closed a cell, unless the same follows
};

/// A file of rows that end in a line feed. Each row is one write to the kernel, and the file holds whole rows only: a
/// row that could not be written is taken back, one that a killed process left half-written is dropped.
class row_file {
 public:
  /// `quotes`: a line feed within a quoted cell does not end a row. To append, the rows that are there are counted, and
  /// nothing is changed.
  row_file(std::string path, open_mode mode, bool quotes)
      : file_(std::move(path), O_RDWR | O_CREAT | (mode == open_mode::truncate ? O_TRUNC : 0)) {
    if (mode == open_mode::append) find_whole_rows(quotes);
  }

  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  /// The first row that was there when the file was opened, its line feed included.
  [[nodiscard]] const std::string& first_row() const noexcept { return first_row_; }

  /// Drops what follows the last whole row, and says so in the log.
  void drop_torn_row() {
    if (torn_ == 0) return;
    file_.truncate(size_);
    log(log_level::warning, "report", [&] {
      return "dropped the last " + std::to_string(torn_) + " bytes of '" + path() +
             "': they are no whole row, as a process leaves it that is killed while it writes";
    });
    torn_ = 0;
  }

  void append(std::string_view row) {
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(row.data()), row.size());
    try {
      file_.write_at(size_, {&bytes, 1});
    } catch (const file_error& e) {
      [[maybe_unused]] const int best_effort = ::ftruncate(file_.fd(), static_cast<off_t>(size_));
      file_error::raise("append a row to", path(), e.code());
    }
    size_ += row.size();
  }

 private:
  void find_whole_rows(bool quotes) {
    std::array<char, 65536> chunk;
    std::uint64_t offset = 0;
    bool first = true;
    csv_quotes within;
    for (;;) {
      const std::size_t got = file_.read_at(offset, {reinterpret_cast<std::byte*>(chunk.data()), chunk.size()});
      for (std::size_t i = 0; i < got; ++i) {
        if (first) first_row_ += chunk[i];
        if (quotes) within.next(chunk[i]);
        if (chunk[i] == '\n' && !within.quoted()) {
          size_ = offset + i + 1;
          first = false;
        }
      }
      offset += got;
      if (got < chunk.size()) break;
    }
    if (size_ == 0) first_row_.clear();
    torn_ = offset - size_;
  }

  file file_;
  std::uint64_t size_ = 0;
  std::uint64_t torn_ = 0;  // bytes behind the last whole row
  std::string first_row_;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/error.hpp ----
#ifndef CADRE_REPORT_ERROR_HPP
#define CADRE_REPORT_ERROR_HPP

#include <string_view>

CADRE_NAMESPACE_BEGIN

/// The base of this room's errors, 1001 to 1049. What the file system refuses is a file_error (155 to 158).
class report_error : public error {
 protected:
  report_error(int number, std::string_view message) : error("report", number, message) {}
};

/// Thrown (1001) when a record is asked for a field that it does not have.
class no_such_field : public report_error {
 public:
  explicit no_such_field(std::string_view message) : report_error(1001, message) {}
};

/// Thrown (1002) when a row has a field that the table has no column for.
class unknown_column : public report_error {
 public:
  explicit unknown_column(std::string_view message) : report_error(1002, message) {}
};

/// Thrown (1003) when rows are to be appended to a CSV file that has other columns.
class columns_differ : public report_error {
 public:
  explicit columns_differ(std::string_view message) : report_error(1003, message) {}
};

/// Thrown (1004) when the columns given for a CSV file have a name twice.
class duplicate_column : public report_error {
 public:
  explicit duplicate_column(std::string_view message) : report_error(1004, message) {}
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/record.hpp ----
#ifndef CADRE_REPORT_RECORD_HPP
#define CADRE_REPORT_RECORD_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// What a cell of a table can hold.
using record_value = std::variant<bool, std::int64_t, double, std::string>;

namespace detail {

template <class T>
concept character = std::same_as<T, char> || std::same_as<T, wchar_t> || std::same_as<T, char8_t> ||
                    std::same_as<T, char16_t> || std::same_as<T, char32_t>;

}  // namespace detail

/// What make_record_value accepts: bool, integers, floating-point numbers, text; not single characters.
template <class T>
concept record_cell = std::convertible_to<const T&, std::string_view> || std::same_as<T, record_value> ||
                      (std::is_arithmetic_v<T> && !detail::character<T>);

/// Integers become 64-bit ones, and those beyond (an unsigned seed of 2^63 or more) their decimal digits as text, so
/// that no digit is lost; every real becomes a double.
template <record_cell T>
[[nodiscard]] record_value make_record_value(const T& value) {
  if constexpr (std::is_same_v<T, record_value> || std::is_same_v<T, bool>)
    return value;
  else if constexpr (std::floating_point<T>)
    return static_cast<double>(value);
  else if constexpr (std::integral<T>)
    return std::in_range<std::int64_t>(value) ? record_value(static_cast<std::int64_t>(value))
                                              : record_value(std::to_string(value));
  else
    return std::string(std::string_view(value));
}

/// One row of a table or a log: names and values in the order in which they were first set. A search is a short walk.
class record {
 public:
  /// One name and its value, as written in braces: `{"lr", 1e-3}`.
  struct field {
    template <class T>
      requires record_cell<T>
    field(std::string_view field_name, const T& field_value)
        : name(field_name), value(make_record_value(field_value)) {}

    std::string name;
    record_value value;

    friend bool operator==(const field&, const field&) = default;
  };

  record() = default;
  /// `record{{"trial", 3}, {"lr", 1e-3}, {"state", "finished"}}`; a name given twice keeps its last value.
  record(std::initializer_list<field> fields) {
    for (const field& f : fields) put(f.name, f.value);
  }
  explicit record(const metric_map& metrics) { merge(metrics); }

  template <class T>
    requires record_cell<T>
  record& set(std::string_view name, const T& value) {
    put(name, make_record_value(value));
    return *this;
  }

  /// Sets every field of `other`.
  record& merge(const record& other) {
    if (&other != this)
      for (const field& f : other.fields_) put(f.name, f.value);
    return *this;
  }
  record& merge(const metric_map& metrics) {
    for (const metric& m : metrics) put(m.name, m.value);
    return *this;
  }

  /// Null if there is no such field.
  [[nodiscard]] const record_value* find(std::string_view name) const noexcept {
    for (const field& f : fields_)
      if (f.name == name) return &f.value;
    return nullptr;
  }
  [[nodiscard]] record_value* find(std::string_view name) noexcept {
    return const_cast<record_value*>(std::as_const(*this).find(name));
  }
  [[nodiscard]] bool contains(std::string_view name) const noexcept { return find(name) != nullptr; }

  /// Throws no_such_field (1001), naming the fields that there are.
  [[nodiscard]] const record_value& at(std::string_view name) const {
    if (const record_value* value = find(name)) return *value;
    std::string message = "no field '" + std::string(name) + "' in the record; there ";
    message += fields_.empty() ? "is none" : "are:";
    for (const field& f : fields_) message += " '" + f.name + "'";
    throw no_such_field(message);
  }

  [[nodiscard]] std::size_t size() const noexcept { return fields_.size(); }
  [[nodiscard]] bool empty() const noexcept { return fields_.empty(); }
  [[nodiscard]] auto begin() const noexcept { return fields_.begin(); }
  [[nodiscard]] auto end() const noexcept { return fields_.end(); }

  friend bool operator==(const record&, const record&) = default;

 private:
  void put(std::string_view name, const record_value& value) {
    if (record_value* known = find(name))
      *known = value;
    else
      fields_.emplace_back(name, value);
  }

  std::vector<field> fields_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/csv_writer.hpp ----
#ifndef CADRE_REPORT_CSV_WRITER_HPP
#define CADRE_REPORT_CSV_WRITER_HPP

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// What a csv_writer does with the file, and which columns it has.
struct csv_writer_options {
  std::vector<std::string> columns{};  ///< empty: those of the first row
  open_mode mode = open_mode::truncate;
};

/// Writes records as comma-separated values with a header line, quoted by RFC 4180, rows ended by a line feed.
///
/// Numbers are the shortest text that reads back as the same number, in every locale; "nan", "inf", "-inf"; "true",
/// "false". A column that a record lacks is an empty cell, an empty string is "". Columns are fixed at construction, by
/// the first row, or by the file appended to.
///
/// Each row has reached the kernel when `write` returns, so it survives the death of the process (not a power
/// failure). A row that was half-written when a process died is dropped when the file is opened to append, and the log says so. One thread
/// at a time, one writer per file.
class csv_writer {
 public:
  /// Opens or creates the file; its folder must exist. Throws duplicate_column (1004) before that, file_error (155 to
  /// 158), and columns_differ (1003) if the file to append to has other columns than `options.columns`; that file is
  /// then unchanged.
  explicit csv_writer(std::string path, csv_writer_options options = {})
      : file_(checked(std::move(path), options.columns), options.mode, true), columns_(std::move(options.columns)) {
    if (!file_.empty()) {
      std::vector<std::string> found = parse_row(file_.first_row());
      if (!columns_.empty() && columns_ != found)
        throw columns_differ("'" + file_.path() + "' has the columns " + listed(found) + ", and rows of " +
                             listed(columns_) + " were to be appended; use another file or the same columns");
      columns_ = std::move(found);
      file_.drop_torn_row();
    } else {
      file_.drop_torn_row();
      if (!columns_.empty()) write_header();
    }
  }

  /// Throws unknown_column (1002) if the record has a field that is no column, file_error if the row cannot be written;
  /// either way the file is as before.
  template <class Record = record>
  void write(const Record& row) {
    if (columns_.empty()) {
      if (row.empty()) return;
      for (const auto& f : row) columns_.push_back(f.name);
      try {
        write_header();
      } catch (...) {
        columns_.clear();
        throw;
      }
    }
    for (const auto& f : row)
      if (std::find(columns_.begin(), columns_.end(), f.name) == columns_.end())
        throw unknown_column("'" + file_.path() + "' has no column '" + f.name + "'; its columns are " +
                             listed(columns_) + ", fixed by its first row or when it was opened");
    std::string line;
    for (const std::string& column : columns_) {
      if (&column != &columns_.front()) line += ',';
      if (const auto* value = row.find(column)) append_cell(line, *value);
    }
    if (line.empty()) line = "\"\"";  // an empty line would be no row
    file_.append(line += '\n');
  }

  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }
  /// Empty until the first row, unless given.
  [[nodiscard]] const std::vector<std::string>& columns() const noexcept { return columns_; }

 private:
  static std::string checked(std::string path, const std::vector<std::string>& columns) {
    for (std::size_t i = 1; i < columns.size(); ++i)
      if (std::find(columns.begin(), columns.begin() + static_cast<std::ptrdiff_t>(i), columns[i]) !=
          columns.begin() + static_cast<std::ptrdiff_t>(i))
        throw duplicate_column("'" + path + "' was to have two columns '" + columns[i] +
                               "'; a row has one value for each name");
    return path;
  }

  static void append_text(std::string& line, std::string_view text) {
    if (!text.empty() && text.find_first_of(",\"\r\n") == text.npos) {
      line += text;
      return;
    }
    line += '"';
    for (char c : text) line.append(c == '"' ? 2 : 1, c);
    line += '"';
  }

  static void append_cell(std::string& line, const auto& value) {
    std::visit(
        [&]<class T>(const T& v) {
          if constexpr (std::is_same_v<T, bool>)
            line += v ? "true" : "false";
          else if constexpr (std::is_same_v<T, std::string>)
            append_text(line, v);
          else
            detail::append_number(line, v);
        },
        value);
  }

  void write_header() {
    std::string line;
    for (const std::string& column : columns_) {
      if (&column != &columns_.front()) line += ',';
      append_text(line, column);
    }
    file_.append(line += '\n');
  }

  static std::vector<std::string> parse_row(std::string_view row) {
    while (row.ends_with('\n') || row.ends_with('\r')) row.remove_suffix(1);
    std::vector<std::string> cells(1);
    detail::csv_quotes within;
    for (char c : row) {
      const bool text = within.next(c);
      if (c == ',' && !within.quoted())
        cells.emplace_back();
      else if (text)
        cells.back() += c;
    }
    return cells;
  }

  static std::string listed(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) (text += text.empty() ? "'" : ", '") += name + "'";
    return text;
  }

  detail::row_file file_;
  std::vector<std::string> columns_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/json_lines_writer.hpp ----
#ifndef CADRE_REPORT_JSON_LINES_WRITER_HPP
#define CADRE_REPORT_JSON_LINES_WRITER_HPP

#include <string>
#include <type_traits>
#include <utility>
#include <variant>

CADRE_NAMESPACE_BEGIN

/// The record as one JSON object (RFC 8259) on one line, fields in their order. Numbers are the shortest text that
/// reads back as the same number; NaN and infinities are null; bytes that are not UTF-8 become U+FFFD.
///
/// A template so that only those who call it pay to compile it.
template <class Record = record>
[[nodiscard]] std::string to_json(const Record& row) {
  std::string out = "{";
  for (const auto& f : row) {
    if (out.size() > 1) out += ',';
    detail::append_json(out, f.name);
    out += ':';
    std::visit(
        [&]<class T>(const T& value) {
          if constexpr (std::is_same_v<T, bool>)
            out += value ? "true" : "false";
          else if constexpr (std::is_integral_v<T>)
            detail::append_number(out, value);
          else
            detail::append_json(out, value);
        },
        f.value);
  }
  return out += '}';
}

/// Writes records as JSON lines: one object per line, each with the fields it has.
///
/// Each row has reached the kernel when `write` returns, so it survives the death of the process (not a power
/// failure). A row that was half-written when a process died is dropped when the file is opened to append, and the log says so. One thread
/// at a time, one writer per file.
class json_lines_writer {
 public:
  /// Opens or creates the file; its folder must exist. Throws file_error (155 to 158).
  explicit json_lines_writer(std::string path, open_mode mode = open_mode::truncate)
      : file_(std::move(path), mode, false) {
    file_.drop_torn_row();
  }

  /// Throws file_error if the row cannot be written; the file is then as before.
  template <class Record = record>
  void write(const Record& row) {
    file_.append(to_json(row) + '\n');
  }

  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }

 private:
  detail::row_file file_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/progress.hpp ----
#ifndef CADRE_REPORT_PROGRESS_HPP
#define CADRE_REPORT_PROGRESS_HPP

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// Whether lines are rewritten in place (`live`) or printed one below the other without a control character (`plain`).
/// `automatic` is live on a terminal that can (TERM is set and not "dumb").
enum class progress_style : std::uint8_t { automatic, live, plain };

/// An `important` update is never skipped: a live line shows it at once, and a plain stream prints it.
enum class importance : std::uint8_t { routine, important };

/// Where and how often progress is shown.
struct progress_options {
  std::FILE* stream = stderr;  ///< not owned; must outlive the progress
  progress_style style = progress_style::automatic;
  std::chrono::milliseconds interval{100};  ///< the shortest time between two routine redraws
};

/// What a person sees while work goes on: one line per key, "key: text", rewritten in place on a terminal; elsewhere
/// only what matters, line by line.
///
///     cadre::progress bar;
///     bar.update("trial 3", "epoch 4  val_loss 0.312");
///     bar.finish("trial 3", "stopped at epoch 4");          // its last line; it stays above the live ones
///     bar.print("best so far: trial 3");                    // so does this one
///
/// Any thread may call any function. Colours are not used. Nothing of the terminal or the stream is changed for good,
/// and write errors are ignored. What others print to the same terminal between two calls disturbs the picture; let
/// it go through `print`, a log sink's records above all. Never call it from a signal handler.
class progress {
 public:
  explicit progress(progress_options options = {})
      : options_(options),
        live_(options.style == progress_style::live ||
              (options.style == progress_style::automatic && can_rewrite(options.stream))) {}
  ~progress() {
    try {
      finish();
    } catch (...) {  // out of memory; the lines drawn so far stay
    }
  }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  /// True if lines are rewritten in place.
  [[nodiscard]] bool live() const noexcept { return live_; }

  /// Sets the line of `key`, new keys below the others. A routine update that comes within `interval` of the last
  /// redraw is shown with the next one. An empty key shows the text alone.
  void update(std::string_view key, std::string_view text, importance how = importance::routine) {
    const std::lock_guard<std::mutex> lock(mutex_);
    line& l = find_or_add(key);
    l.text = detail::without_controls(text);
    l.pending = true;
    if (live_) {
      const auto now = std::chrono::steady_clock::now();
      if (how == importance::important || !last_draw_ || now - *last_draw_ >= options_.interval) draw({}, now);
    } else if (how == importance::important) {
      print_plain(l);
    }
  }

  /// The last text of `key`: printed for good above the live lines, from which the key goes.
  void finish(std::string_view key, std::string_view text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const line last{detail::without_controls(key), detail::without_controls(text), false};
    std::erase_if(lines_, [&](const line& l) { return l.key == last.key; });
    put(joined(last, 0) + '\n');
  }

  /// Prints text for good, above the live lines; line feeds in it begin new lines.
  void print(std::string_view text) {
    std::string out;
    for (;;) {
      const std::size_t end = text.find('\n');
      out += detail::without_controls(text.substr(0, end)) + '\n';
      if (end == text.npos || end + 1 == text.size()) break;
      text.remove_prefix(end + 1);
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    put(out);
  }

  /// Leaves the last text of every key on the screen, now whole, and forgets the keys. The destructor does the same.
  void finish() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (live_ && !lines_.empty()) {
      std::string whole;
      const std::size_t width = key_width(lines_.size());
      for (const line& l : lines_) whole += joined(l, width) + '\n';
      lines_.clear();
      draw(whole, std::chrono::steady_clock::now());
    }
    for (line& l : lines_)
      if (l.pending) print_plain(l);
    lines_.clear();
  }

 private:
  struct line {
    std::string key, text;
    bool pending;  // the text has not been shown yet
  };

  static bool can_rewrite(std::FILE* stream) noexcept {
    const char* terminal = std::getenv("TERM");
    return ::isatty(::fileno(stream)) == 1 && terminal && *terminal && std::string_view(terminal) != "dumb";
  }

  line& find_or_add(std::string_view key) {
    std::string clean = detail::without_controls(key);
    for (line& l : lines_)
      if (l.key == clean) return l;
    lines_.push_back({std::move(clean), {}, false});
    return lines_.back();
  }

  // Of the first `shown` lines.
  std::size_t key_width(std::size_t shown) const noexcept {
    std::size_t width = 0;
    for (std::size_t i = 0; i < shown; ++i) width = std::max(width, detail::display_width(lines_[i].key));
    return width;
  }

  static std::string joined(const line& l, std::size_t key_width) {
    if (l.key.empty()) return l.text;
    const std::size_t own = detail::display_width(l.key);
    return l.key + ':' + std::string(1 + (key_width > own ? key_width - own : 0), ' ') + l.text;
  }

  void print_plain(line& l) {
    write(joined(l, 0) + '\n');
    l.pending = false;
  }

  void put(const std::string& lines) {
    if (live_)
      draw(lines, std::chrono::steady_clock::now());
    else
      write(lines);
  }

  // One write: up to the first live line, the permanent lines over it, then the live lines again. Lines do not wrap
  // while it lasts, so that one of wide characters cannot make the block taller than was counted.
  void draw(std::string_view permanent, std::chrono::steady_clock::time_point now) {
    winsize size{};
    const bool known = ::ioctl(::fileno(options_.stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;
    const std::size_t columns = known ? size.ws_col : 80, rows = known ? size.ws_row : 24;

    std::string out = drawn_ ? "\r\x1b[" + std::to_string(drawn_) + "A" : "\r";
    while (!permanent.empty()) {
      const std::size_t end = permanent.find('\n');
      (out += permanent.substr(0, end)) += "\x1b[K\n";
      permanent.remove_prefix(end + 1);
    }
    // The cursor's own line needs a row, and so does the note on the lines left out.
    const std::size_t room = rows > 3 ? rows - 2 : 1;
    const std::size_t shown = lines_.size() <= room ? lines_.size() : room - (room > 1 ? 1 : 0);
    const std::size_t width = key_width(shown);
    out += "\x1b[?7l";
    for (line& l : lines_) l.pending = false;
    for (std::size_t i = 0; i < shown; ++i) out += detail::clip(joined(lines_[i], width), columns - 1) + "\x1b[K\n";
    if (shown < lines_.size() && room > 1)
      out += detail::clip("... and " + std::to_string(lines_.size() - shown) + " more", columns - 1) + "\x1b[K\n";
    out += "\x1b[?7h\x1b[J";
    drawn_ = shown + (shown < lines_.size() && room > 1 ? 1 : 0);
    last_draw_ = now;
    write(out);
  }

  void write(const std::string& text) noexcept {
    (void)std::fwrite(text.data(), 1, text.size(), options_.stream);
    (void)std::fflush(options_.stream);
  }

  progress_options options_;
  bool live_;
  std::mutex mutex_;
  std::vector<line> lines_;
  std::size_t drawn_ = 0;  // lines of the live block on the screen
  std::optional<std::chrono::steady_clock::time_point> last_draw_;
};

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/detail/chart_axis.hpp ----
#ifndef CADRE_REPORT_DETAIL_CHART_AXIS_HPP
#define CADRE_REPORT_DETAIL_CHART_AXIS_HPP

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

namespace detail {

struct chart_tick {
  double value;
  std::string label;
};

/// Maps values to 0..1 along one axis and finds round ticks for it. A template so that only those who draw pay to
/// compile it.
template <class Tick = chart_tick>
class chart_axis {
 public:
  /// Beyond this, differences of doubles would overflow.
  static constexpr double most = 1e150;

  explicit chart_axis(bool logarithmic) : log_(logarithmic) {}

  /// Whether a value has a place on this axis.
  [[nodiscard]] bool shows(double value) const noexcept { return std::abs(value) <= most && (!log_ || value > 0); }

  void include(double value) noexcept {
    low_ = std::min(low_, scaled(value));
    high_ = std::max(high_, scaled(value));
    whole_ = whole_ && value == std::floor(value);
  }
  [[nodiscard]] bool empty() const noexcept { return !(low_ <= high_); }

  /// Call once all values are included: a range without extent is widened, then `margin` of it added at both ends.
  void settle(double margin) noexcept {
    if (empty()) {
      low_ = 0;
      high_ = 1;
    }
    if (high_ - low_ <= 1e-9 * std::max(std::abs(low_), std::abs(high_))) {
      const double room = log_ ? 0.5 : whole_ ? std::max(1.0, 0.1 * std::abs(low_)) : 0.1 * std::abs(low_);
      low_ -= room == 0 ? 1 : room;
      high_ += room == 0 ? 1 : room;
    }
    const double extent = high_ - low_;
    low_ -= margin * extent;
    high_ += margin * extent;
  }

  [[nodiscard]] double position(double value) const noexcept { return (scaled(value) - low_) / (high_ - low_); }

  /// At steps of 1, 2 or 5 times a power of ten; whole numbers get whole ticks if `keep_whole`.
  [[nodiscard]] std::vector<Tick> ticks(int about, bool keep_whole) const {
    if (!log_) return linear(low_, high_, about, keep_whole && whole_);
    std::vector<Tick> result;
    const int first = static_cast<int>(std::floor(low_)), last = static_cast<int>(std::ceil(high_));
    const int every = std::max(1, (last - first + about - 1) / about);
    const bool between = high_ - low_ < 2.5;
    for (int k = first; k <= last; ++k)
      for (int digit : {1, 2, 5}) {
        if (digit != 1 && !between) continue;
        if (digit == 1 && (k % every + every) % every != 0) continue;
        const double value = digit * std::pow(10.0, k), at = std::log10(value);
        if (at >= low_ - 1e-9 && at <= high_ + 1e-9) result.push_back({value, label(value, value)});
      }
    return result.size() >= 2 ? result : linear(std::pow(10.0, low_), std::pow(10.0, high_), about, false);
  }

 private:
  [[nodiscard]] double scaled(double value) const noexcept { return log_ ? std::log10(value) : value; }

  static std::vector<Tick> linear(double low, double high, int about, bool whole) {
    const double raw = (high - low) / about, power = std::pow(10.0, std::floor(std::log10(raw)));
    double step = power * (raw / power <= 1 ? 1 : raw / power <= 2 ? 2 : raw / power <= 5 ? 5 : 10);
    if (whole) step = std::max(step, 1.0);
    std::vector<Tick> result;
    const double first = std::ceil(low / step - 1e-9);
    for (int i = 0; (first + i) * step <= high + 1e-9 * step && i < 100; ++i)
      result.push_back({(first + i) * step, label((first + i) * step, step)});
    return result;
  }

  static std::string label(double value, double step) {
    std::string text;
    const int decimals = std::max(0, -static_cast<int>(std::floor(std::log10(std::abs(step)) + 1e-9)));
    if (std::abs(value) < 1e6 && decimals <= 4) {
      append_fixed(text, value, decimals);
      return text;
    }
    // 1.5e-06 as 1.5e-6, 2e+06 as 2e6
    append_significant_exponent(text, std::abs(value) < 1e-9 * std::abs(step) ? 0 : value);
    return text;
  }

  static void append_significant_exponent(std::string& out, double value) {
    if (value == 0) {
      out += '0';
      return;
    }
    char buffer[48];
    std::string text(buffer,
                     std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific, 6).ptr);
    const std::size_t e = text.find('e');
    std::string digits = text.substr(0, e), exponent = text.substr(e + 1);
    while (digits.ends_with('0')) digits.pop_back();
    if (digits.ends_with('.')) digits.pop_back();
    const bool negative = exponent.front() == '-';
    exponent.erase(0, exponent.find_first_not_of("+-0"));
    out += digits;
    if (!exponent.empty()) out += (negative ? "e-" : "e") + exponent;
  }

  bool log_;
  bool whole_ = true;
  double low_ = std::numeric_limits<double>::infinity(), high_ = -std::numeric_limits<double>::infinity();
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/detail/svg_panel.hpp ----
#ifndef CADRE_REPORT_DETAIL_SVG_PANEL_HPP
#define CADRE_REPORT_DETAIL_SVG_PANEL_HPP

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// One curve. Points whose x or y is not finite (or not positive on a logarithmic axis) are gaps in it.
struct chart_series {
  std::string name{};       ///< in the legend; a series without a name is a thin grey line behind the others
  std::vector<double> y{};  ///< in the order in which the curve is drawn
  std::vector<double> x{};  ///< as many; empty: 1, 2, 3, ...
};

/// One pair of axes with its curves.
struct chart_panel {
  std::string title{}, x_label{}, y_label{};
  std::vector<chart_series> series{};
  bool log_y = false;
};

namespace detail {

inline std::string xml_escaped(std::string_view text) {
  std::string out;
  for (char c : without_controls(valid_utf8(text))) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

inline std::string svg_number(double value) {
  std::string out;
  append_fixed(out, value, 2);
  while (out.ends_with('0')) out.pop_back();
  if (out.ends_with('.')) out.pop_back();
  return out;
}

inline std::string svg_text(double x, double y, std::string_view text, const std::string& attributes) {
  return "<text x=\"" + svg_number(x) + "\" y=\"" + svg_number(y) + "\" " + attributes + '>' + xml_escaped(text) +
         "</text>\n";
}

/// Draws one panel: title, legend, grid, axes, curves. A template so that only those who draw pay to compile it.
template <class Panel>
class svg_panel {
 public:
  svg_panel(const Panel& panel, int width, int height) : panel_(panel), y_(panel.log_y) {
    for (const chart_series& s : panel_.series)
      for (std::size_t i = 0; i < length(s); ++i)
        if (shown(s, i)) {
          x_.include(x_of(s, i));
          y_.include(s.y[i]);
        }
    no_data_ = y_.empty();
    x_.settle(0);
    y_.settle(0.05);
    y_ticks_ = y_.ticks(6, false);
    std::size_t widest = 1;
    for (const chart_tick& t : y_ticks_) widest = std::max(widest, t.label.size());
    left_ = 22 + 6.5 * static_cast<double>(widest) + (panel_.y_label.empty() ? 0 : 18);
    // The last label of the x axis is centred on a tick that may stand at the very end.
    x_ticks_ = x_.ticks(width < 400 ? 5 : 8, true);
    const std::size_t last = x_ticks_.empty() ? 0 : x_ticks_.back().label.size();
    right_ = width - std::max(18.0, 6 + 3.4 * static_cast<double>(last));
    lay_out_legend();
    top_ = (panel_.title.empty() ? 8.0 : 28.0) + 17 * static_cast<double>(legend_rows_) + (legend_rows_ ? 5 : 0);
    bottom_ = height - (panel_.x_label.empty() ? 30.0 : 46.0);
    if (top_ > bottom_ - 60) top_ = bottom_ - 60;
  }

  void draw(std::string& out) const {
    if (!panel_.title.empty())
      out += svg_text((left_ + right_) / 2, 18, panel_.title,
                      "text-anchor=\"middle\" font-size=\"13\" font-weight=\"bold\" fill=\"#1f2933\"");
    draw_axes(out);
    if (no_data_)
      out += svg_text((left_ + right_) / 2, (top_ + bottom_) / 2, "no data",
                      "text-anchor=\"middle\" font-size=\"13\" fill=\"#9aa5b1\"");
    for (const chart_series& s : panel_.series)
      if (s.name.empty()) draw_curve(out, s, "stroke=\"#c3cad3\" stroke-width=\"1\"", "#c3cad3", 1.5);
    std::size_t index = 0;
    for (const chart_series& s : panel_.series)
      if (!s.name.empty()) {
        draw_curve(out, s, "stroke=\"" + std::string(colour(index)) + "\" stroke-width=\"1.8\"" + dashes(index),
                   colour(index), 2.2);
        ++index;
      }
    draw_legend(out);
  }

 private:
  struct legend_entry {
    std::string text;
    double x;
    std::size_t row;
  };

  static constexpr std::array<std::string_view, 8> palette = {"#2b6cb0", "#dd6b20", "#2f855a", "#805ad5",
                                                              "#b7791f", "#0d98a6", "#c53074", "#4a5568"};
  static constexpr std::size_t most_legend_rows = 3;

  static std::string_view colour(std::size_t index) noexcept { return palette[index % palette.size()]; }
  /// Curves beyond the palette are told apart by their dashes.
  static std::string dashes(std::size_t index) {
    constexpr std::array<std::string_view, 3> patterns = {"", " stroke-dasharray=\"6 3\"", " stroke-dasharray=\"2 3\""};
    return std::string(patterns[index / palette.size() % patterns.size()]);
  }

  static std::size_t length(const chart_series& s) noexcept {
    return s.x.empty() ? s.y.size() : std::min(s.x.size(), s.y.size());
  }
  static double x_of(const chart_series& s, std::size_t i) noexcept {
    return s.x.empty() ? static_cast<double>(i + 1) : s.x[i];
  }
  bool shown(const chart_series& s, std::size_t i) const noexcept { return x_.shows(x_of(s, i)) && y_.shows(s.y[i]); }

  double across(double x) const noexcept { return left_ + (right_ - left_) * x_.position(x); }
  double up(double y) const noexcept { return bottom_ - (bottom_ - top_) * y_.position(y); }

  void draw_axes(std::string& out) const {
    const std::string l = svg_number(left_), r = svg_number(right_), t = svg_number(top_), b = svg_number(bottom_);
    out += "<g stroke=\"#e4e7eb\" stroke-width=\"1\">\n";
    for (const chart_tick& tick : y_ticks_) {
      const std::string y = svg_number(up(tick.value));
      out += "<path d=\"M" + l + ' ' + y + 'H' + r + "\"/>\n";
    }
    for (const chart_tick& tick : x_ticks_) {
      const std::string x = svg_number(across(tick.value));
      out += "<path d=\"M" + x + ' ' + t + 'V' + b + "\"/>\n";
    }
    out += "</g>\n<path d=\"M" + l + ' ' + t + 'V' + b + 'H' + r + "\" fill=\"none\" stroke=\"#7b8794\"/>\n";
    out += "<g fill=\"#52606d\">\n";
    for (const chart_tick& tick : y_ticks_)
      out += svg_text(left_ - 7, up(tick.value) + 4, tick.label, "text-anchor=\"end\"");
    for (const chart_tick& tick : x_ticks_)
      out += svg_text(across(tick.value), bottom_ + 17, tick.label, "text-anchor=\"middle\"");
    if (!panel_.x_label.empty())
      out += svg_text((left_ + right_) / 2, bottom_ + 36, panel_.x_label, "text-anchor=\"middle\" font-size=\"12\"");
    if (!panel_.y_label.empty()) {
      const std::string y = svg_number((top_ + bottom_) / 2);
      out += svg_text(17, (top_ + bottom_) / 2, panel_.y_label,
                      "text-anchor=\"middle\" font-size=\"12\" transform=\"rotate(-90 17 " + y + ")\"");
    }
    out += "</g>\n";
  }

  /// Each unbroken run of points is a path, a lonely point a dot; the points of a few short curves are
  /// dotted too.
  void draw_curve(std::string& out, const chart_series& s, const std::string& stroke, std::string_view fill,
                  double radius) const {
    const std::size_t n = length(s);
    const auto dot = [&](std::size_t i) {
      out += "<circle cx=\"" + svg_number(across(x_of(s, i))) + "\" cy=\"" + svg_number(up(s.y[i])) + "\" r=\"" +
             svg_number(radius) + "\" fill=\"" + std::string(fill) + "\"/>\n";
    };
    for (std::size_t begin = 0; begin < n; ++begin) {
      if (!shown(s, begin)) continue;
      std::size_t end = begin;
      while (end < n && shown(s, end)) ++end;
      if (end - begin > 1) {
        out += "<path fill=\"none\" stroke-linejoin=\"round\" stroke-linecap=\"round\" " + stroke + " d=\"";
        char command = 'M';
        for (std::size_t i : thinned(s, begin, end)) {
          out += command + svg_number(across(x_of(s, i))) + ' ' + svg_number(up(s.y[i]));
          command = 'L';
        }
        out += "\"/>\n";
      }
      if (end - begin == 1 || (n <= 24 && !s.name.empty() && legend_.size() <= 4))
        for (std::size_t i = begin; i < end; ++i) dot(i);
      begin = end;
    }
  }

  /// The indices in [begin, end) that the pixels can tell apart: of each run of points within one pixel column the
  /// first, the least, the greatest and the last.
  std::vector<std::size_t> thinned(const chart_series& s, std::size_t begin, std::size_t end) const {
    std::vector<std::size_t> kept;
    for (std::size_t i = begin; i < end;) {
      const double column = std::floor(across(x_of(s, i)));
      std::size_t least = i, greatest = i, next = i;
      for (; next < end && std::floor(across(x_of(s, next))) == column; ++next) {
        if (s.y[next] < s.y[least]) least = next;
        if (s.y[next] > s.y[greatest]) greatest = next;
      }
      for (std::size_t k : {i, std::min(least, greatest), std::max(least, greatest), next - 1})
        if (kept.empty() || kept.back() < k) kept.push_back(k);
      i = next;
    }
    return kept;
  }

  void lay_out_legend() {
    std::size_t named = 0;
    for (const chart_series& s : panel_.series) named += s.name.empty() ? 0 : 1;
    double x = left_;
    std::size_t row = 0;
    for (const chart_series& s : panel_.series) {
      if (s.name.empty()) continue;
      std::string text = clip(without_controls(valid_utf8(s.name)), 32);
      const double width = 30 + 6.4 * static_cast<double>(display_width(text));
      if (x > left_ && x + width > right_) {
        x = left_;
        ++row;
      }
      if (row == most_legend_rows) {
        legend_left_out_ = named - legend_.size();
        break;
      }
      legend_.push_back({std::move(text), x, row});
      x += width + 12;
    }
    legend_rows_ = legend_.empty() ? 0 : legend_.back().row + 1 + (legend_left_out_ ? 1 : 0);
  }

  void draw_legend(std::string& out) const {
    const double first = panel_.title.empty() ? 16.0 : 36.0;
    for (std::size_t i = 0; i < legend_.size(); ++i) {
      const legend_entry& e = legend_[i];
      const double y = first + 17 * static_cast<double>(e.row);
      out += "<path d=\"M" + svg_number(e.x) + ' ' + svg_number(y - 4) + "h20\" stroke-width=\"2.4\" stroke=\"" +
             std::string(colour(i)) + '"' + dashes(i) + "/>\n";
      out += svg_text(e.x + 26, y, e.text, "fill=\"#323f4b\"");
    }
    if (legend_left_out_)
      out += svg_text(left_, first + 17 * static_cast<double>(legend_rows_ - 1),
                      "and " + std::to_string(legend_left_out_) + " more", "fill=\"#7b8794\"");
  }

  const Panel& panel_;
  chart_axis<> x_{false}, y_;
  std::vector<chart_tick> x_ticks_, y_ticks_;
  double left_ = 0, right_ = 0, top_ = 0, bottom_ = 0;
  std::vector<legend_entry> legend_;
  std::size_t legend_rows_ = 0, legend_left_out_ = 0;
  bool no_data_ = false;
};

}  // namespace detail

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/svg_chart.hpp ----
#ifndef CADRE_REPORT_SVG_CHART_HPP
#define CADRE_REPORT_SVG_CHART_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// How the panels of a chart stand to one another.
enum class chart_layout : std::uint8_t { row, column };

/// Panels side by side (`row`) or one below the other (`column`).
///
///     cadre::save_svg("curves.svg", {.title = "fashion", .panels = {
///         {.title = "loss", .x_label = "epoch", .series = {{.name = "train", .y = a}, {.name = "validation", .y = b}}},
///         {.title = "accuracy", .x_label = "epoch", .series = {{.name = "validation", .y = c}}}}});
struct chart {
  std::string title{};
  std::vector<chart_panel> panels{};
  chart_layout layout = chart_layout::row;
  int panel_width = 520;   ///< pixels; at least 240
  int panel_height = 340;  ///< pixels; at least 180
};

/// The chart as one self-contained SVG document: no script, no font, no reference. The same chart gives the same bytes,
/// in every locale. Curves of many points are thinned to what the pixels can show: the first, least, greatest and last
/// of each pixel column.
///
/// A template so that only those who call it pay to compile it.
template <class Chart = chart>
[[nodiscard]] std::string to_svg(const Chart& c) {
  const int panel_width = std::max(c.panel_width, 240), panel_height = std::max(c.panel_height, 180);
  const int count = std::max(1, static_cast<int>(c.panels.size()));
  const int columns = c.layout == chart_layout::row ? count : 1, rows = count / columns;
  const int head = c.title.empty() ? 8 : 38;
  const int width = columns * panel_width, height = head + rows * panel_height;

  const std::string w = std::to_string(width), h = std::to_string(height);
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + w + "\" height=\"" + h +
                    "\" viewBox=\"0 0 " + w + ' ' + h +
                    "\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"11\">\n";
  out += "<title>" + detail::xml_escaped(c.title.empty() ? "chart" : c.title) + "</title>\n";
  out += "<rect width=\"" + w + "\" height=\"" + h + "\" fill=\"#ffffff\"/>\n";
  if (!c.title.empty())
    out += detail::svg_text(width / 2.0, 25, c.title,
                            "text-anchor=\"middle\" font-size=\"16\" font-weight=\"bold\" fill=\"#1f2933\"");
  const chart_panel empty;
  for (int i = 0; i < count; ++i) {
    const int x = i % columns * panel_width, y = head + i / columns * panel_height;
    out += "<g transform=\"translate(" + std::to_string(x) + ' ' + std::to_string(y) + ")\">\n";
    detail::svg_panel(c.panels.empty() ? empty : c.panels[static_cast<std::size_t>(i)], panel_width, panel_height)
        .draw(out);
    out += "</g>\n";
  }
  return out += "</svg>\n";
}

/// Replaces the file at `path` by the chart, atomically. Throws file_error (155 to 158).
template <class Chart = chart>
void save_svg(const std::string& path, const Chart& c) {
  const auto svg = to_svg(c);
  write_file_atomically(path, std::as_bytes(std::span(svg)));
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/report/table.hpp ----
#ifndef CADRE_REPORT_TABLE_HPP
#define CADRE_REPORT_TABLE_HPP

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// How format_table lays out its columns.
struct table_options {
  int digits = 4;               ///< significant digits of reals
  std::size_t max_width = 120;  ///< columns of the screen; 0: no limit
};

namespace detail {

std::string table_cell(const auto& value, int digits) {
  std::string text;
  std::visit(
      [&]<class T>(const T& v) {
        if constexpr (std::is_same_v<T, bool>)
          text = v ? "yes" : "no";
        else if constexpr (std::is_same_v<T, double>)
          append_significant(text, v, digits);
        else if constexpr (std::is_same_v<T, std::string>)
          text = without_controls(v);
        else
          append_number(text, v);
      },
      value);
  return text;
}

inline void append_padded(std::string& out, const std::string& text, std::size_t width, bool right) {
  const std::string shown = clip(text, width);
  const std::string blanks(width - display_width(shown), ' ');
  out += right ? blanks + shown : shown + blanks;
}

}  // namespace detail

/// The records as a text table for a person: a header, a rule, one line per record, columns in the order in which they
/// first occur. Numbers stand to the right, reals with `digits` significant digits; a missing field is "-". A table
/// wider than `max_width` has its widest texts shortened ("..."), then its last columns left out ("..." in the header).
///
/// A template so that only those who call it pay to compile it.
template <class Text = std::string>
[[nodiscard]] Text format_table(std::span<const record> rows, table_options options = {}) {
  struct table_column {
    Text name;
    std::vector<Text> cells;
    bool numeric;
    std::size_t width;
  };
  std::vector<table_column> columns;
  for (const record& row : rows)
    for (const record::field& f : row)
      if (std::none_of(columns.begin(), columns.end(), [&](const table_column& c) { return c.name == f.name; }))
        columns.push_back({f.name, {}, true, 0});
  if (columns.empty()) return {};

  std::size_t total = 0;
  for (table_column& column : columns) {
    for (const record& row : rows) {
      const record_value* value = row.find(column.name);
      column.cells.push_back(value ? detail::table_cell(*value, options.digits) : "-");
      if (value && (std::holds_alternative<std::string>(*value) || std::holds_alternative<bool>(*value)))
        column.numeric = false;
    }
    column.name = detail::without_controls(column.name);
    column.width = detail::display_width(column.name);
    for (const Text& cell : column.cells) column.width = std::max(column.width, detail::display_width(cell));
    total += column.width + 2;
  }

  constexpr std::size_t narrowest = 8;
  bool left_out = false;
  if (options.max_width != 0) {
    const std::size_t limit = options.max_width + 2;  // the last column needs no gap
    while (total > limit) {
      table_column* widest = nullptr;
      for (table_column& column : columns)
        if (!column.numeric && column.width > narrowest && (!widest || column.width > widest->width)) widest = &column;
      if (!widest) break;
      --widest->width;
      --total;
    }
    while (total + (left_out ? 5 : 0) > limit && columns.size() > 1) {
      total -= columns.back().width + 2;
      columns.pop_back();
      left_out = true;
    }
  }

  Text out;
  const auto line = [&](auto&& text_of, std::string_view mark) {
    const std::size_t begin = out.size();
    for (const table_column& column : columns) {
      if (&column != &columns.front()) out += "  ";
      detail::append_padded(out, text_of(column), column.width, column.numeric);
    }
    if (left_out) (out += "  ") += mark;
    while (out.size() > begin && out.back() == ' ') out.pop_back();
    out += '\n';
  };
  line([](const table_column& c) { return c.name; }, "...");
  line([](const table_column& c) { return Text(c.width, '-'); }, "---");
  for (std::size_t i = 0; i < rows.size(); ++i) line([i](const table_column& c) { return c.cells[i]; }, "");
  return out;
}

CADRE_NAMESPACE_END

#endif

// ---- cadre/report.hpp ----
#ifndef CADRE_REPORT_HPP
#define CADRE_REPORT_HPP

#endif

// ---- cadre/train/error.hpp ----
#ifndef CADRE_TRAIN_ERROR_HPP
#define CADRE_TRAIN_ERROR_HPP

#include <string_view>

CADRE_NAMESPACE_BEGIN
namespace train {

/// Thrown (801) by parameters::add and make for what cannot be a parameter: a name that is empty or taken, a value and
/// a gradient that differ in size or overlap, a temporary that owns its elements, a list that is already in use.
class parameter_invalid : public error {
 public:
  explicit parameter_invalid(std::string_view message) : error("train", 801, message) {}
};

/// Thrown (802) when a parameter's value or gradient was moved or resized after it was added.
class parameter_changed : public error {
 public:
  explicit parameter_changed(std::string_view message) : error("train", 802, message) {}
};

/// Thrown (803) on every rank when ranks were given different lists of parameters; names the first difference.
class parameters_disagree : public error {
 public:
  explicit parameters_disagree(std::string_view message) : error("train", 803, message) {}
};

/// Thrown (804) when a step is used against its order: an unknown parameter, one that is ready twice, a second finish,
/// a second step while one is open.
class step_misused : public error {
 public:
  explicit step_misused(std::string_view message) : error("train", 804, message) {}
};

/// Thrown (805) by finish when parameters were not ready; names them.
class parameters_not_ready : public error {
 public:
  explicit parameters_not_ready(std::string_view message) : error("train", 805, message) {}
};

/// Thrown (806) when an optimizer's saved state does not belong to these parameters.
class optimizer_state_mismatch : public error {
 public:
  explicit optimizer_state_mismatch(std::string_view message) : error("train", 806, message) {}
};

/// Thrown (807) for an option whose value has no meaning.
class option_invalid : public error {
 public:
  explicit option_invalid(std::string_view message) : error("train", 807, message) {}
};

/// Thrown (808), or held by result::error, on the ranks where the failure of another one ended the attempt; names that
/// rank and its error. The rank itself, and trainer::fit() with threads, give the original exception.
class worker_failed : public error {
 public:
  explicit worker_failed(std::string_view message) : error("train", 808, message) {}
};

/// Thrown (809) on every rank when some ranks report while others have returned; names them.
class reports_diverge : public error {
 public:
  explicit reports_diverge(std::string_view message) : error("train", 809, message) {}
};

/// Thrown (810) by report on the other ranks when rank 0 could not keep the report: its saver threw, the disk is full.
class report_failed : public error {
 public:
  explicit report_failed(std::string_view message) : error("train", 810, message) {}
};

/// Thrown (811) when the run's folder already holds a run and run_options::resume is false.
class run_exists : public error {
 public:
  explicit run_exists(std::string_view message) : error("train", 811, message) {}
};

/// Thrown (812) when the run's folder cannot be made or read.
class run_folder_error : public error {
 public:
  explicit run_folder_error(std::string_view message) : error("train", 812, message) {}
};

/// Thrown (813) on every rank by aggregate when ranks gave other names.
class metrics_disagree : public error {
 public:
  explicit metrics_disagree(std::string_view message) : error("train", 813, message) {}
};

/// Thrown (814) when saved values are loaded into parameters of other names, types or shapes.
class parameters_mismatch : public error {
 public:
  explicit parameters_mismatch(std::string_view message) : error("train", 814, message) {}
};

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/detail/agreement.hpp ----
#ifndef CADRE_TRAIN_DETAIL_AGREEMENT_HPP
#define CADRE_TRAIN_DETAIL_AGREEMENT_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train::detail {

inline std::string text_of(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "an exception that is not a std::exception";
  }
}

/// Replaces `bytes` on every rank by those of `root`.
template <class Bytes>
void broadcast_sized(any_communicator& comm, Bytes& bytes, int root) {
  bytes.resize(comm.broadcast(bytes.size(), root));
  if (!bytes.empty()) comm.broadcast_bytes(bytes.data(), bytes.size(), root);
}

inline std::string broadcast_text(any_communicator& comm, std::string text, int root) {
  broadcast_sized(comm, text, root);
  return text;
}

/// Runs `f` on rank 0, for trainer::fit. If it throws, so does every rank: rank 0 the original, the others worker_failed
/// with its text.
template <class F>
void on_rank_0(any_communicator& comm, const char* doing, F&& f) {
  const cadre::detail::on_behalf_of fit("trainer::fit");
  std::exception_ptr failure;
  std::string what;
  if (comm.rank() == 0) {
    try {
      f();
    } catch (...) {
      failure = std::current_exception();
      what = text_of(failure);
      if (what.empty()) what = "an exception without a text";
    }
  }
  what = broadcast_text(comm, what, 0);
  if (failure) std::rethrow_exception(failure);
  if (!what.empty()) throw worker_failed("rank 0 failed when " + std::string(doing) + ": " + what);
}

/// What each rank says when it reports, and when it has returned: the same collective, so that a rank that does the one
/// while others do the other is noticed by all, at once.
struct meeting {
  enum purpose : std::uint32_t { report, end };
  std::uint64_t reports;
  purpose why;
  std::uint32_t stop;
};
static_assert(sizeof(meeting) == 16);

/// "rank 1", "ranks 0, 2"
inline std::string name_ranks(const std::vector<meeting>& all, meeting::purpose why) {
  std::string names;
  int count = 0;
  for (std::size_t rank = 0; rank < all.size(); ++rank)
    if (all[rank].why == why) names += (count++ ? ", " : "") + std::to_string(rank);
  return (count > 1 ? "ranks " : "rank ") + names;
}

inline void require_same_purpose(const std::vector<meeting>& all) {
  for (const meeting& m : all)
    if (m.why != all[0].why)
      throw reports_diverge(name_ranks(all, meeting::end) + " returned from the train function after " +
                            std::to_string(m.reports) + " reports, while " + name_ranks(all, meeting::report) +
                            " made another report; every rank must report equally often");
}

}  // namespace train::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/report_handler.hpp ----
#ifndef CADRE_TRAIN_REPORT_HANDLER_HPP
#define CADRE_TRAIN_REPORT_HANDLER_HPP

CADRE_NAMESPACE_BEGIN
namespace train {

using cadre::checkpoint_writer;

/// Adds the values of a checkpoint to a writer.
using saver = move_only_function<void(checkpoint_writer&)>;

/// What stands behind a context on rank 0: the trainer's run, or a trial of the tuner.
class report_handler {
 public:
  virtual ~report_handler() = default;

  /// Keeps a report, and the checkpoint that `save` makes unless it is null. Called on rank 0, by the thread that
  /// trains. Returns whether training goes on; what it throws becomes an error of the attempt on every rank.
  virtual bool report(const metric_map& metrics, saver* save) = 0;
};

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/context.hpp ----
#ifndef CADRE_TRAIN_CONTEXT_HPP
#define CADRE_TRAIN_CONTEXT_HPP

#include <concepts>
#include <cstdint>
#include <exception>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

using cadre::checkpoint_reader;

enum class device_kind : std::uint8_t { cpu, cuda };

/// Where a worker computes.
struct device {
  device_kind kind = device_kind::cpu;
  int index = 0;
  friend bool operator==(const device&, const device&) = default;
};

/// What a context is made of; the trainer and the tuner fill it in.
struct context_options {
  report_handler* handler = nullptr;                              ///< on rank 0: keeps the reports; null keeps none
  std::shared_ptr<const checkpoint_reader> checkpoint = nullptr;  ///< where to continue; null at a fresh start
  int attempt = 1;
  std::stop_token stop = {};
  train::device device = {};
};

/// A worker's window onto its training: who it is, its peers, where to continue, and how to report. One per rank and
/// attempt, for the thread that trains.
class context {
 public:
  context(any_communicator comm, context_options options) : comm_(std::move(comm)), options_(std::move(options)) {}
  context(const context&) = delete;
  context& operator=(const context&) = delete;

  [[nodiscard]] int rank() const { return comm_.rank(); }
  [[nodiscard]] int world_size() const { return comm_.world_size(); }

  /// The communicator of this attempt's workers. When one of them throws, calls on it throw communicator_aborted (402).
  [[nodiscard]] any_communicator& comm() noexcept { return comm_; }

  [[nodiscard]] train::device device() const noexcept { return options_.device; }

  /// The checkpoint to continue from, the same on every rank; null at a fresh start:
  ///
  ///     if (auto c = ctx.checkpoint()) (*c)("epoch", first)("model", model);
  [[nodiscard]] std::shared_ptr<const checkpoint_reader> checkpoint() const noexcept { return options_.checkpoint; }

  /// 1 for the first attempt, one more after each failure.
  [[nodiscard]] int attempt() const noexcept { return options_.attempt; }

  /// Whether a stop was requested, as seen by this rank now. Ranks may see it at different times, so leave a loop by
  /// what report() returns, which all agree on.
  [[nodiscard]] bool stop_requested() const noexcept { return options_.stop.stop_requested(); }

  /// Hands in one report: a collective, to be called equally often by every rank. Rank 0's metrics are kept (average
  /// over the ranks first: mean(), or aggregate of train/metrics.hpp). Returns whether to go on, the same on every rank;
  /// false says that the caller asked to stop, or the tuner has seen enough.
  ///
  /// Throws reports_diverge (809) on every rank when one has already returned from the train function; on rank 0 what
  /// keeping the report threw, and then report_failed (810) on the others. Costs one all_gather of 16 bytes and one
  /// broadcast, and the ranks wait until rank 0 has kept the report.
  bool report(const metric_map& metrics) { return report(metrics, static_cast<saver*>(nullptr)); }

  /// The same with a checkpoint: `save(checkpoint_writer&)` adds its values, and is called on rank 0 alone.
  template <std::invocable<checkpoint_writer&> Save>
  bool report(const metric_map& metrics, Save&& save) {
    saver erased([&save](checkpoint_writer& w) { save(w); });
    return report(metrics, &erased);
  }

  /// The mean of `value` over the ranks, each counting `weight` times (samples it has seen, say). A collective. NaN if
  /// the weights sum to 0.
  [[nodiscard]] double mean(double value, double weight = 1) {
    const cadre::detail::on_behalf_of mean("context::mean");
    double sums[2] = {value * weight, weight};
    comm_.all_reduce_bytes(sums, 2, data_type::float64, sum);
    return sums[0] / sums[1];
  }

  /// Reports handed in during this attempt.
  [[nodiscard]] std::uint64_t reports() const noexcept { return reports_; }

  /// Says that this rank reports no more: called by whoever called the train function, after it returned, on every
  /// rank. Throws reports_diverge (809) on every rank if another rank is in report().
  void finish() {
    const cadre::detail::on_behalf_of end("training's end");
    (void)meet(detail::meeting::end);
  }

 private:
  bool report(const metric_map& metrics, saver* save) {
    const cadre::detail::on_behalf_of report("context::report");
    const bool stop = meet(detail::meeting::report);
    ++reports_;
    bool go_on = true;
    std::exception_ptr failure;
    std::string what;
    if (rank() == 0 && options_.handler != nullptr) {
      try {
        go_on = options_.handler->report(metrics, save);
      } catch (...) {
        failure = std::current_exception();
        what = detail::text_of(failure);
      }
    }
    enum : std::uint8_t { ends, goes_on, failed };
    const std::uint8_t verdict = comm_.broadcast(static_cast<std::uint8_t>(failure          ? failed
                                                                           : go_on && !stop ? goes_on
                                                                                            : ends),
                                                 0);
    if (verdict == failed) {
      what = detail::broadcast_text(comm_, what, 0);
      if (failure) std::rethrow_exception(failure);
      throw report_failed("report " + std::to_string(reports_) +
                          " of this attempt could not be kept by rank 0: " + what);
    }
    return verdict == goes_on;
  }

  /// Makes sure that all ranks do the same, and tells whether one of them was asked to stop.
  bool meet(detail::meeting::purpose why) {
    const auto all = comm_.all_gather(detail::meeting{reports_, why, stop_requested() ? 1u : 0u});
    detail::require_same_purpose(all);
    bool stop = false;
    for (const detail::meeting& m : all) stop = stop || m.stop != 0;
    return stop;
  }

  any_communicator comm_;
  context_options options_;
  std::uint64_t reports_ = 0;
};

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/attempt.hpp ----
#ifndef CADRE_TRAIN_ATTEMPT_HPP
#define CADRE_TRAIN_ATTEMPT_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

/// How an attempt ended. Rank and text are the same on every rank; `error` is the original exception on the rank that
/// failed and worker_failed (808) elsewhere; null when all is well.
struct attempt_outcome {
  std::exception_ptr error = nullptr;
  int failed_rank = -1;
  std::string message = {};
  [[nodiscard]] explicit operator bool() const noexcept { return failed_rank < 0; }
};

/// Runs `body(context&)` once on every rank of `world`, on a communicator of its own: what the trainer does per attempt
/// and the tuner per gang. Every rank calls it. A body that throws aborts that communicator, so that its peers'
/// collectives end; then all meet on `world`, which stays usable, and agree on whose error it is: that of the lowest
/// rank that failed by itself. What other ranks threw besides goes to the log.
///
/// `options.handler` and `options.checkpoint` of rank 0 count; the checkpoint's bytes are broadcast, so that no rank
/// needs rank 0's file system. A timeout above 0 holds for the attempt's collectives instead of world's.
template <class Body>
[[nodiscard]] attempt_outcome run_attempt(any_communicator& world, context_options options,
                                          std::chrono::nanoseconds timeout, Body&& body) {
  enum state : std::uint8_t { done, followed, failed };  // followed: ended because of somebody else's failure
  constexpr const char* fit = "trainer::fit";
  any_communicator comm = [&] {
    const cadre::detail::on_behalf_of by(fit);
    return world.split(0, world.rank());
  }();
  if (timeout > std::chrono::nanoseconds::zero()) comm.set_timeout(timeout);
  const rank_scope speaks_for(comm.rank());

  state mine = done;
  std::exception_ptr error;
  const auto fail = [&](state how) {
    mine = how;
    error = std::current_exception();
    comm.abort("rank " + std::to_string(world.rank()) + " failed: " + detail::text_of(error));
  };
  try {
    std::vector<std::byte> bytes;
    if (comm.rank() == 0 && options.checkpoint) {
      const auto whole = options.checkpoint->bytes();
      bytes.assign(whole.begin(), whole.end());
    }
    {
      const cadre::detail::on_behalf_of by(fit);
      detail::broadcast_sized(comm, bytes, 0);
    }
    if (comm.rank() != 0) {
      options.handler = nullptr;
      options.checkpoint = bytes.empty() ? nullptr
                                         : std::make_shared<const checkpoint_reader>(
                                               checkpoint_reader::from_bytes(std::move(bytes), "received from rank 0"));
    }
    context ctx(comm, std::move(options));
    body(ctx);
    ctx.finish();
  } catch (const communicator_aborted&) {
    fail(followed);
  } catch (const report_failed&) {
    fail(followed);
  } catch (...) {
    fail(failed);
  }

  const cadre::detail::on_behalf_of by(fit);
  const auto states = world.all_gather(mine);
  attempt_outcome outcome;
  for (const state worst : {failed, followed})
    for (std::size_t rank = 0; rank < states.size() && outcome.failed_rank < 0; ++rank)
      if (states[rank] == worst) outcome.failed_rank = static_cast<int>(rank);
  if (outcome.failed_rank < 0) return outcome;
  const bool own = outcome.failed_rank == world.rank();
  if (mine == failed && !own)  // one error can be the attempt's: the others are heard of here
    log(log_level::error, "train",
        "rank " + std::to_string(world.rank()) + " failed besides rank " + std::to_string(outcome.failed_rank) + ": " +
            detail::text_of(error));
  outcome.message = detail::broadcast_text(world, own ? detail::text_of(error) : std::string(), outcome.failed_rank);
  outcome.error = own ? error
                      : std::make_exception_ptr(worker_failed("rank " + std::to_string(outcome.failed_rank) +
                                                              " failed: " + outcome.message));
  return outcome;
}

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/parameters.hpp ----
#ifndef CADRE_TRAIN_PARAMETERS_HPP
#define CADRE_TRAIN_PARAMETERS_HPP

#include <cereal/cereal.hpp>
#include <cereal/types/string.hpp>
#include <cereal/types/vector.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

/// One entry of `parameters`: where a value and its gradient lie.
struct parameter {
  std::string name;
  data_type type;  ///< float32 or float64
  std::size_t count;
  std::vector<std::size_t> shape;  ///< of the value, outermost extent first
  std::byte* value;
  std::byte* gradient;
  int arena = -1;  ///< of made parameters: those of one number lie in one piece of memory, in order; -1: added ones

  [[nodiscard]] std::size_t bytes() const noexcept { return count * size_of(type); }
  /// The elements; T is float or double, as `type` says.
  template <class T>
  [[nodiscard]] std::span<T> values() const noexcept {
    return {reinterpret_cast<T*>(value), count};
  }
  template <class T>
  [[nodiscard]] std::span<T> gradients() const noexcept {
    return {reinterpret_cast<T*>(gradient), count};
  }
  /// The first element.
  template <class T>
  [[nodiscard]] T* value_as() const noexcept {
    return reinterpret_cast<T*>(value);
  }
  template <class T>
  [[nodiscard]] T* gradient_as() const noexcept {
    return reinterpret_cast<T*>(gradient);
  }
};

/// "[784, 256]"
[[nodiscard]] inline std::string shape_text(const std::vector<std::size_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// Calls `f` with a float or a double: every parameter is one of them.
template <class F>
decltype(auto) visit_real(data_type type, F&& f) {
  return type == data_type::float32 ? f(float{}) : f(double{});
}

/// The values that are trained and their gradients, by name, in the order in which the model uses them (gradients are
/// reduced from the last to the first). `add` takes arrays that the model owns, `make` creates them in memory that the
/// communicator reduces where it lies:
///
///     cadre::train::parameters p{comm};
///     p.add("w1", w1, dw1);                                         // anything contiguous of float or double
///     auto [w2, dw2] = p.make<Eigen::MatrixXf>("w2", rows, cols);   // two Eigen::Map<MatrixXf>, zeroed
///
/// A handle: copies share one list. The list must not grow once an optimizer or data_parallel was made from it. For one
/// thread at a time.
class parameters {
 public:
  /// A list whose made parameters lie in ordinary memory of this process.
  template <class Communicator = local_communicator>
  parameters() : parameters(Communicator{}) {}
  /// Made parameters lie in memory of `comm`, any communicator: then every rank calls each make, in the same order.
  template <class Communicator>
    requires(!std::same_as<std::remove_cvref_t<Communicator>, parameters> &&
             std::convertible_to<Communicator, any_communicator>)
  explicit parameters(Communicator&& comm)
      : state_(std::make_shared<state>(any_communicator(std::forward<Communicator>(comm)))) {}

  /// Adds arrays that must outlive this list, and must not be moved or resized. Objects that own memory elsewhere
  /// (vectors, dynamic matrices) are looked at again before each use, so that a violation is an error (802) while the
  /// object lives; of views and arrays of fixed size the address is remembered. Views may be temporaries.
  /// No two arrays of a list may share memory. Throws parameter_invalid (801).
  template <contiguous Value, contiguous Gradient>
  parameters& add(std::string_view name, Value&& value, Gradient&& gradient) {
    using element = typename contiguous_traits<std::remove_cvref_t<Value>>::element;
    using gradient_element = typename contiguous_traits<std::remove_cvref_t<Gradient>>::element;
    static_assert(std::is_same_v<element, float> || std::is_same_v<element, double>,
                  "a parameter's elements are float or double");
    static_assert(std::is_same_v<element, gradient_element>, "a value and its gradient have the same element type");
    check_argument<Value>();
    check_argument<Gradient>();
    check_name(name);
    const auto v = elements(value);
    const auto g = elements(gradient);
    if (v.size() != g.size())
      throw parameter_invalid("parameter '" + std::string(name) + "' has " + std::to_string(v.size()) +
                              " elements, but its gradient has " + std::to_string(g.size()) + "; they must be equal");
    check_temporary<Value>(name, value, v.data());
    check_temporary<Gradient>(name, gradient, g.data());
    const auto* value_bytes = reinterpret_cast<const std::byte*>(v.data());
    const auto* gradient_bytes = reinterpret_cast<const std::byte*>(g.data());
    if (overlap(value_bytes, v.size_bytes(), gradient_bytes, g.size_bytes()))
      throw parameter_invalid("parameter '" + std::string(name) + "' and its gradient share memory");
    for (const parameter& p : state_->list)
      for (const std::byte* const theirs : {p.value, p.gradient})
        if (overlap(theirs, p.bytes(), value_bytes, v.size_bytes()) ||
            overlap(theirs, p.bytes(), gradient_bytes, g.size_bytes()))
          throw parameter_invalid("parameter '" + std::string(name) + "' shares memory with parameter '" + p.name +
                                  "', and would be reduced and updated twice; add shared weights once");
    state_->list.push_back({std::string(name), data_type_of<element>, v.size(),
                            contiguous_traits<std::remove_cvref_t<Value>>::shape(value),
                            reinterpret_cast<std::byte*>(v.data()), reinterpret_cast<std::byte*>(g.data())});
    watch(value, state_->list.size() - 1, false);
    watch(gradient, state_->list.size() - 1, true);
    return *this;
  }

  /// Makes a value and a gradient of these extents, zeroed, and returns views of both (std::span<float> for
  /// std::vector<float>), which live as long as any copy of this list. Parameters made one after another lie side by
  /// side, each aligned to 64 bytes, so that a bucket of them is one run. Throws parameter_invalid (801),
  /// std::bad_alloc, and what the communicator's allocate throws.
  template <class T, class... Extents>
  [[nodiscard]] auto make(std::string_view name, Extents... extents) {
    using traits = contiguous_traits<T>;
    using element = typename traits::element;
    static_assert(std::is_same_v<element, float> || std::is_same_v<element, double>,
                  "a parameter's elements are float or double");
    check_name(name);
    const std::size_t count = traits::count(static_cast<std::size_t>(extents)...);
    const auto [value, gradient, arena] = state_->take(count * sizeof(element));
    auto values = traits::map(reinterpret_cast<element*>(value), static_cast<std::size_t>(extents)...);
    auto gradients = traits::map(reinterpret_cast<element*>(gradient), static_cast<std::size_t>(extents)...);
    state_->list.push_back({std::string(name),
                            data_type_of<element>,
                            count,
                            {static_cast<std::size_t>(extents)...},
                            value,
                            gradient,
                            arena});
    return std::pair(std::move(values), std::move(gradients));
  }

  [[nodiscard]] std::size_t size() const noexcept { return state_->list.size(); }
  [[nodiscard]] bool empty() const noexcept { return state_->list.empty(); }
  [[nodiscard]] const parameter& operator[](std::size_t i) const noexcept { return state_->list[i]; }
  [[nodiscard]] auto begin() const noexcept { return state_->list.cbegin(); }
  [[nodiscard]] auto end() const noexcept { return state_->list.cend(); }

  /// Null if there is none of that name.
  [[nodiscard]] const parameter* find(std::string_view name) const noexcept {
    for (const parameter& p : state_->list)
      if (p.name == name) return &p;
    return nullptr;
  }

  /// Elements of all values.
  [[nodiscard]] std::size_t count() const noexcept {
    std::size_t n = 0;
    for (const parameter& p : state_->list) n += p.count;
    return n;
  }

  /// Sets every gradient to zero.
  void zero_gradients() const noexcept {
    for (const parameter& p : state_->list)
      if (p.count != 0) std::memset(p.gradient, 0, p.bytes());
  }

  /// Looks again at each added object that owns its memory. Throws parameter_changed (802) if one was moved or resized.
  void check() const {
    for (const watched& w : state_->watched_objects) {
      const parameter& p = state_->list[w.index];
      const auto [data, count] = w.look(w.object);
      if (data == (w.gradient ? p.gradient : p.value) && count == p.count) continue;
      throw parameter_changed(
          std::string(w.gradient ? "the gradient of parameter '" : "parameter '") + p.name + "' was " +
          (count == p.count
               ? "moved"
               : "resized from " + std::to_string(p.count) + " to " + std::to_string(count) + " elements") +
          " since it was added; keep the object where it is, and assign to it without resizing");
    }
  }

  /// Saves and restores the values (not the gradients) through any archive of cereal's form: `w("parameters", p)`.
  /// Loading those of another list throws parameters_mismatch (814), naming the first difference, and changes nothing.
  template <class Archive>
  void save(Archive& archive) const {
    save_layout(archive);
    for (const parameter& p : state_->list)
      archive(cereal::binary_data(static_cast<const std::byte*>(p.value), p.bytes()));
  }
  template <class Archive>
  void load(Archive& archive) {
    if (const std::string difference = layout_difference(archive); !difference.empty())
      throw parameters_mismatch("these values are not of this model: " + difference +
                                "; load them into the model that saved them");
    for (const parameter& p : state_->list) archive(cereal::binary_data(p.value, p.bytes()));
  }

  /// Names, types and shapes, which say what belongs to this list: the head of whatever is saved of it.
  template <class Archive>
  void save_layout(Archive& archive) const {
    archive(static_cast<std::uint64_t>(size()));
    for (const parameter& p : state_->list)
      archive(p.name, static_cast<std::uint8_t>(p.type), std::vector<std::uint64_t>(p.shape.begin(), p.shape.end()));
  }
  /// Reads what save_layout wrote and says in what it first differs from this list; empty if in nothing.
  template <class Archive>
  [[nodiscard]] std::string layout_difference(Archive& archive) const {
    const auto describe = [](const std::string& name, data_type type, const std::vector<std::size_t>& shape) {
      return "'" + name + "' " + std::string(to_string(type)) + " " + shape_text(shape);
    };
    std::uint64_t saved_count = 0;
    archive(saved_count);
    for (std::size_t i = 0; i < saved_count; ++i) {
      std::string name;
      std::uint8_t type = 0;
      std::vector<std::uint64_t> shape;
      archive(name, type, shape);
      const std::string saved = describe(name, static_cast<data_type>(type), {shape.begin(), shape.end()});
      if (i >= size())
        return "it has " + saved + " as parameter " + std::to_string(i + 1) + ", here there are only " +
               std::to_string(i);
      const parameter& p = state_->list[i];
      if (const std::string here = describe(p.name, p.type, p.shape); saved != here)
        return "it has " + saved + " where here is " + here;
    }
    if (saved_count < size())
      return "it has " + std::to_string(saved_count) + " parameters, here '" +
             state_->list[static_cast<std::size_t>(saved_count)].name + "' comes besides";
    return {};
  }

  /// Says that the list is in use and must not grow any more. Optimizers and data_parallel call it.
  void freeze() const noexcept { state_->frozen = true; }

 private:
  struct watched {
    const void* object;
    std::pair<const std::byte*, std::size_t> (*look)(const void*);
    std::size_t index;
    bool gradient;
  };

  struct state {
    explicit state(any_communicator c) : comm(std::move(c)) {}

    struct place {
      std::byte* value;
      std::byte* gradient;
      int arena;
    };
    place take(std::size_t bytes) {
      constexpr std::size_t alignment = 64, first = std::size_t{1} << 20, most = std::size_t{1} << 26;
      const std::size_t padded = (bytes + alignment - 1) / alignment * alignment;
      if (memory.empty() || left < padded) {
        // Each piece is as large as all before it, so that few parameters are cut off from their neighbours.
        const std::size_t size = std::max(padded, std::clamp(allocated, first, most));
        const cadre::detail::on_behalf_of by("parameters");
        memory.push_back(comm.allocate_bytes(size));
        memory.push_back(comm.allocate_bytes(size));
        allocated += size;
        left = size;
        used = 0;
      }
      const place p{memory[memory.size() - 2].get() + used, memory.back().get() + used,
                    static_cast<int>(memory.size() / 2) - 1};
      used += padded;
      left -= padded;
      return p;
    }

    any_communicator comm;
    std::vector<parameter> list;
    std::vector<watched> watched_objects;
    std::vector<std::shared_ptr<std::byte>> memory;  // pairs: of values, of gradients
    std::size_t allocated = 0, used = 0, left = 0;
    bool frozen = false;
  };

  // An object with nothing to destroy owns no memory elsewhere: a view, or an array inside itself.
  template <class T>
  static constexpr bool owns_elsewhere = !std::is_trivially_destructible_v<std::remove_cvref_t<T>>;

  template <class T>
  static constexpr void check_argument() {
    static_assert(!std::is_const_v<std::remove_pointer_t<decltype(elements(std::declval<T&>()).data())>>,
                  "a parameter is changed by training: pass one that is not const");
    static_assert(std::is_lvalue_reference_v<T> || !owns_elsewhere<T>,
                  "this array is a temporary that owns its elements: pass a named one, or a view of it");
  }
  template <class T>
  static void check_temporary(std::string_view name, const std::remove_reference_t<T>& object, const void* data) {
    if constexpr (!std::is_lvalue_reference_v<T>) {
      const auto* self = reinterpret_cast<const std::byte*>(std::addressof(object));
      const auto* first = static_cast<const std::byte*>(data);
      if (first >= self && first < self + sizeof object)
        throw parameter_invalid("parameter '" + std::string(name) +
                                "' is a temporary array that holds its elements; pass a named one, or a view of it");
    }
  }
  static bool overlap(const std::byte* a, std::size_t a_bytes, const std::byte* b, std::size_t b_bytes) noexcept {
    return a_bytes != 0 && b_bytes != 0 && a < b + b_bytes && b < a + a_bytes;
  }

  void check_name(std::string_view name) const {
    if (state_->frozen)
      throw parameter_invalid("parameter '" + std::string(name) +
                              "' comes too late: an optimizer or data_parallel uses the list already; add all before");
    if (name.empty()) throw parameter_invalid("a parameter needs a name");
    if (find(name))
      throw parameter_invalid("there is already a parameter '" + std::string(name) + "'; names must be unique");
  }

  template <class T>
  void watch(T& object, std::size_t index, bool gradient) {
    if constexpr (owns_elsewhere<T>)
      state_->watched_objects.push_back({std::addressof(object),
                                         [](const void* o) {
                                           const auto all = elements(*static_cast<const std::remove_cv_t<T>*>(o));
                                           return std::pair(reinterpret_cast<const std::byte*>(all.data()), all.size());
                                         },
                                         index, gradient});
  }

  std::shared_ptr<state> state_;
};

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/detail/bucket.hpp ----
#ifndef CADRE_TRAIN_DETAIL_BUCKET_HPP
#define CADRE_TRAIN_DETAIL_BUCKET_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train::detail {

/// Gradients that are reduced together: parameters first .. last of one type, which become ready from last to first.
struct bucket {
  std::size_t first, last;
  data_type type;
  std::byte* in_place;  // where they lie side by side, with the gaps of alignment between them; null: they are staged
  std::size_t count;    // elements of the run or of the staging memory
};

/// Whether the gradient of `next` begins where that of `p`, padded to 64 bytes, ends.
inline bool adjacent(const parameter& p, const parameter& next) noexcept {
  return p.arena >= 0 && p.arena == next.arena && p.gradient + (p.bytes() + 63) / 64 * 64 == next.gradient;
}

/// Cuts the list into buckets from its end. A bucket ends when it would exceed its size, where the element type changes
/// and where gradients that lie side by side meet others.
inline std::vector<bucket> make_buckets(const parameters& list, std::uint64_t first_size, std::uint64_t size) {
  std::vector<bucket> buckets;
  for (std::size_t i = list.size(); i-- > 0;) {
    const parameter& p = list[i];
    const bool made = p.arena >= 0;
    if (!buckets.empty()) {
      bucket& b = buckets.back();
      const std::uint64_t limit = buckets.size() == 1 ? first_size : size;
      if (b.type == p.type && made == (b.in_place != nullptr) && (!made || adjacent(p, list[i + 1]))) {
        const std::size_t gained = made ? static_cast<std::size_t>(b.in_place - p.gradient) : p.bytes();
        if (b.count * size_of(b.type) + gained <= limit) {
          b.count += gained / size_of(b.type);
          b.first = i;
          if (made) b.in_place = p.gradient;
          continue;
        }
      }
    }
    buckets.push_back({i, i, p.type, made ? p.gradient : nullptr, p.count});
  }
  return buckets;
}

/// Calls f(piece of staging memory, array) for the arrays of a staged bucket, in the order of the list.
template <class F>
void each_staged(const bucket& b, const parameters& list, std::byte* staging, F&& f) {
  for (std::size_t i = b.first; i <= b.last; ++i) {
    f(staging, list[i]);
    staging += list[i].bytes();
  }
}

}  // namespace train::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/detail/initial_sync.hpp ----
#ifndef CADRE_TRAIN_DETAIL_INITIAL_SYNC_HPP
#define CADRE_TRAIN_DETAIL_INITIAL_SYNC_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train::detail {

/// One line per parameter.
inline std::string describe(const parameters& list) {
  std::string text;
  for (const parameter& p : list) {
    std::string name = p.name;
    std::replace(name.begin(), name.end(), '\n', ' ');
    text += "'" + name + "' " + std::string(to_string(p.type)) + " " + shape_text(p.shape) +
            (p.arena >= 0 ? " made" : " added") + "\n";
  }
  return text;
}

/// Makes sure that all ranks have the same list. Throws parameters_disagree (803) on every rank, with the same text.
inline void require_same_parameters(any_communicator& comm, const parameters& list) {
  const std::string mine = describe(list);
  const auto hashes = comm.all_gather(hash_bytes({reinterpret_cast<const std::byte*>(mine.data()), mine.size()}));
  int odd = 0;  // the first rank that differs from rank 0
  while (odd < comm.world_size() && hashes[static_cast<std::size_t>(odd)] == hashes[0]) ++odd;
  if (odd == comm.world_size()) return;
  const std::string texts[2] = {broadcast_text(comm, mine, 0), broadcast_text(comm, mine, odd)};
  std::string_view rest[2] = {texts[0], texts[1]};
  for (std::size_t number = 1;; ++number) {
    std::string line[2];
    for (int i = 0; i < 2; ++i) {
      const std::size_t end = rest[i].find('\n');
      line[i] = rest[i].empty() ? "nothing" : std::string(rest[i].substr(0, end));
      if (!rest[i].empty()) rest[i].remove_prefix(end + 1);
    }
    if (line[0] != line[1] || (rest[0].empty() && rest[1].empty()))
      throw parameters_disagree("ranks have different parameters: parameter " + std::to_string(number) + " is " +
                                line[0] + " on rank 0, but " + line[1] + " on rank " + std::to_string(odd) +
                                "; add the same ones in the same order on every rank");
  }
}

/// Gives every rank the values of rank 0, many per broadcast: runs of made parameters where they lie, others through
/// memory of at most `piece` bytes, or one parameter.
inline void broadcast_values(any_communicator& comm, const parameters& list, std::uint64_t piece) {
  std::vector<std::byte> staging;
  for (std::size_t first = 0; first < list.size();) {
    std::size_t end = first + 1;
    if (list[first].arena >= 0) {
      while (end < list.size() && list[end].arena == list[first].arena) ++end;
      const parameter& last = list[end - 1];
      comm.broadcast_bytes(list[first].value, static_cast<std::size_t>(last.value - list[first].value) + last.bytes(),
                           0);
    } else {
      std::size_t bytes = list[first].bytes();
      while (end < list.size() && list[end].arena < 0 && bytes + list[end].bytes() <= piece)
        bytes += list[end++].bytes();
      staging.resize(bytes);
      const auto each = [&](auto&& copy) {
        std::size_t at = 0;
        for (std::size_t i = first; i < end; at += list[i++].bytes())
          if (list[i].count != 0) copy(staging.data() + at, list[i]);
      };
      if (comm.rank() == 0) each([](std::byte* to, const parameter& p) { std::memcpy(to, p.value, p.bytes()); });
      comm.broadcast_bytes(staging.data(), bytes, 0);
      if (comm.rank() != 0)
        each([](const std::byte* from, const parameter& p) { std::memcpy(p.value, from, p.bytes()); });
    }
    first = end;
  }
}

}  // namespace train::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/detail/kernels.hpp ----
#ifndef CADRE_TRAIN_DETAIL_KERNELS_HPP
#define CADRE_TRAIN_DETAIL_KERNELS_HPP

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <cmath>
#include <cstddef>
#include <cstring>
#include <type_traits>

CADRE_NAMESPACE_BEGIN
namespace train::detail {

/// x *= factor
template <class T>
void scale(T* x, std::size_t n, T factor) noexcept {
  for (std::size_t i = 0; i < n; ++i) x[i] *= factor;
}

/// to = from * factor
template <class T>
void copy_scaled(const T* __restrict from, T* __restrict to, std::size_t n, T factor) noexcept {
  for (std::size_t i = 0; i < n; ++i) to[i] = from[i] * factor;
}

/// The sum of squares in double, in 16 lanes that are added at the end: an order that does not depend on the compiler's
/// vectors, and rounding errors that do not matter.
template <class T>
double sum_of_squares(const T* x, std::size_t n) noexcept {
  constexpr std::size_t lanes = 16;
  double partial[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      const double v = static_cast<double>(x[i + lane]);
      partial[lane] += v * v;
    }
  for (std::size_t lane = 0; i < n; ++i, ++lane) {
    const double v = static_cast<double>(x[i]);
    partial[lane] += v * v;
  }
  for (std::size_t width = lanes / 2; width != 0; width /= 2)
    for (std::size_t lane = 0; lane < width; ++lane) partial[lane] += partial[lane + width];
  return partial[0];
}

template <class T>
struct sgd_factors {
  T lr, momentum, weight_decay, gradient_scale;
};

/// One pass: gradient' = scale * gradient + decay * value; buffer = momentum * buffer + gradient'; value -= lr * step.
template <bool Momentum, bool Nesterov, class T>
void sgd_update(T* __restrict value, const T* __restrict gradient, T* __restrict buffer, std::size_t n,
                sgd_factors<T> f) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    T g = f.gradient_scale * gradient[i] + f.weight_decay * value[i];
    if constexpr (Momentum) {
      const T b = f.momentum * buffer[i] + g;
      buffer[i] = b;
      g = Nesterov ? g + f.momentum * b : b;
    }
    value[i] -= f.lr * g;
  }
}

template <class T>
struct adam_factors {
  T step_size;  // lr / (1 - beta1^t)
  T one_minus_beta1, beta2, one_minus_beta2;
  T inverse_root;  // 1 / sqrt(1 - beta2^t)
  T epsilon;
  T keep;           // 1 - lr * weight_decay, where decay is decoupled; else 1
  T coupled_decay;  // weight_decay, where it is part of the gradient; else 0
  T gradient_scale;
};

inline constexpr std::size_t adam_lanes = 16;

// Written for the compiler's vectors by hand where it will not: a call of std::sqrt may set errno, so g++ keeps it scalar.
template <class T>
void square_roots(T* x) noexcept {
#if defined(__SSE2__)
  if constexpr (std::is_same_v<T, float>)
    for (std::size_t i = 0; i < adam_lanes; i += 4) _mm_storeu_ps(x + i, _mm_sqrt_ps(_mm_loadu_ps(x + i)));
  else
    for (std::size_t i = 0; i < adam_lanes; i += 2) _mm_storeu_pd(x + i, _mm_sqrt_pd(_mm_loadu_pd(x + i)));
#else
  for (std::size_t i = 0; i < adam_lanes; ++i) x[i] = std::sqrt(x[i]);
#endif
}

template <class T>
void adam_block(T* __restrict value, const T* __restrict gradient, T* __restrict mean, T* __restrict square,
                const adam_factors<T>& f) noexcept {
  T root[adam_lanes];
  for (std::size_t i = 0; i < adam_lanes; ++i) {
    const T g = f.gradient_scale * gradient[i] + f.coupled_decay * value[i];
    mean[i] += f.one_minus_beta1 * (g - mean[i]);
    root[i] = square[i] = f.beta2 * square[i] + f.one_minus_beta2 * (g * g);
  }
  square_roots(root);
  for (std::size_t i = 0; i < adam_lanes; ++i)
    value[i] = f.keep * value[i] - f.step_size * mean[i] / (root[i] * f.inverse_root + f.epsilon);
}

/// One pass; the formula stands at the classes adam and adamw.
template <class T>
void adam_update(T* value, const T* gradient, T* mean, T* square, std::size_t n, const adam_factors<T>& f) noexcept {
  std::size_t i = 0;
  for (; i + adam_lanes <= n; i += adam_lanes) adam_block(value + i, gradient + i, mean + i, square + i, f);
  if (i == n) return;
  // The rest by the same instructions, so that an element's bits do not depend on its place.
  const std::size_t rest = (n - i) * sizeof(T);
  T last[4][adam_lanes] = {};
  T* const from[3] = {value + i, mean + i, square + i};
  for (int k = 0; k < 3; ++k) std::memcpy(last[k], from[k], rest);
  std::memcpy(last[3], gradient + i, rest);
  adam_block(last[0], last[3], last[1], last[2], f);
  for (int k = 0; k < 3; ++k) std::memcpy(from[k], last[k], rest);
}

}  // namespace train::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/data_parallel.hpp ----
#ifndef CADRE_TRAIN_DATA_PARALLEL_HPP
#define CADRE_TRAIN_DATA_PARALLEL_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

struct data_parallel_options {
  std::uint64_t bucket = std::uint64_t{25} << 20;  ///< bytes of gradients that are reduced together
  std::uint64_t first_bucket = std::uint64_t{1}
                               << 20;  ///< the same for those ready first: small, so that reducing begins early
  bool average = true;                 ///< divide the sum by the number of ranks; false: leave it, see gradient_scale()
  bool broadcast_parameters = true;    ///< give every rank the values of rank 0 at construction
};

struct step_options {
  bool synchronize = true;  ///< false: gradients stay this rank's own, to be added to by the next step
};

class gradient_step;
class no_sync_scope;

/// Averages the gradients of a model's replicas, one per rank, in buckets, from the last parameter to the first:
///
///     train::data_parallel ddp{comm, p};
///     for (...) {
///       auto step = ddp.begin();
///       ... backward: as soon as a gradient is complete, step.ready("w2"); step.ready("w1");
///       step.finish();               // gradients are now the mean over all ranks
///       optimizer.step();
///     }
///
/// Every rank makes it, and makes the same steps. A bucket is reduced when all its gradients are ready and all buckets
/// before it are done: in the same order on every rank, whatever the order of the calls of ready. It is reduced by the
/// thread that calls ready or finish.
///
/// Gradients of made parameters are reduced where they lie; those of added ones are copied to memory of the communicator
/// and back, as large as the largest bucket. With one rank nothing is copied or reduced. Sums are the communicator's:
/// the same bits in every run. Neither copyable nor movable, since steps refer to it; for one thread.
class data_parallel {
 public:
  /// A collective: compares the ranks' parameters, then broadcasts rank 0's values. Throws parameters_disagree (803) on
  /// every rank, option_invalid (807), and what collectives throw.
  data_parallel(any_communicator comm, parameters list, data_parallel_options options = {})
      : comm_(std::move(comm)), parameters_(std::move(list)), options_(options) {
    if (options.bucket == 0 || options.first_bucket == 0)
      throw option_invalid("data_parallel's bucket and first_bucket must be above 0");
    parameters_.check();
    parameters_.freeze();
    const cadre::detail::on_behalf_of by("data_parallel");
    if (comm_.world_size() > 1) detail::require_same_parameters(comm_, parameters_);
    buckets_ = detail::make_buckets(parameters_, options.first_bucket, options.bucket);
    bucket_of_.resize(parameters_.size());
    for (std::size_t b = 0; b < buckets_.size(); ++b)
      for (std::size_t i = buckets_[b].first; i <= buckets_[b].last; ++i) bucket_of_[i] = b;
    pending_.resize(buckets_.size());
    ready_.resize(parameters_.size());
    if (comm_.world_size() == 1) return;
    std::size_t staging = 0;
    for (const detail::bucket& b : buckets_)
      if (!b.in_place) staging = std::max(staging, b.count * size_of(b.type));
    if (staging != 0) staging_ = comm_.allocate_bytes(staging);
    if (options.broadcast_parameters) detail::broadcast_values(comm_, parameters_, options.bucket);
  }
  data_parallel(const data_parallel&) = delete;
  data_parallel& operator=(const data_parallel&) = delete;

  /// Begins a step: gradients may be written from now on. Throws parameter_changed (802), and step_misused (804) while
  /// another step is open.
  [[nodiscard]] gradient_step begin(step_options options = {});

  /// While it lives, steps leave gradients as this rank made them: accumulate several micro-batches, and let the last
  /// step, outside, reduce the sum.
  [[nodiscard]] no_sync_scope no_sync();

  /// What an optimizer multiplies gradients by to average them if options.average is false: 1 / world_size. It costs
  /// nothing there, while averaging here costs a pass over the gradients of made parameters.
  [[nodiscard]] double gradient_scale() const { return options_.average ? 1.0 : 1.0 / comm_.world_size(); }

  /// Buckets per step.
  [[nodiscard]] std::size_t buckets() const noexcept { return buckets_.size(); }
  /// Steps that were finished with a reduction.
  [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }

 private:
  friend class gradient_step;
  friend class no_sync_scope;

  std::size_t index_of(std::string_view name) const {
    // Gradients mostly become ready from the last parameter to the first.
    if (guess_ < parameters_.size() && parameters_[guess_].name == name) return guess_;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      if (parameters_[i].name == name) return i;
    std::string message = "there is no parameter '" + std::string(name) + "'; there are:";
    for (const parameter& p : parameters_) message += " '" + p.name + "'";
    throw step_misused(message);
  }

  void mark_ready(std::size_t i) {
    if (ready_[i])
      throw step_misused("parameter '" + parameters_[i].name + "' is ready for the second time in this step");
    ready_[i] = 1;
    guess_ = i - 1;  // beyond the last one after the first
    --pending_[bucket_of_[i]];
    launch();
  }

  void launch() {
    while (next_ < buckets_.size() && pending_[next_] == 0) {
      if (reduces_) reduce(buckets_[next_]);
      ++next_;
    }
  }

  void reduce(const detail::bucket& b) {
    const bool staged = b.in_place == nullptr;
    std::byte* const memory = staged ? staging_.get() : b.in_place;
    if (staged)
      detail::each_staged(b, parameters_, memory, [](std::byte* to, const parameter& p) {
        if (p.count != 0) std::memcpy(to, p.gradient, p.bytes());
      });
    try {
      const cadre::detail::on_behalf_of by("data_parallel");
      comm_.all_reduce_bytes(memory, b.count, b.type, sum);
    } catch (...) {
      lost_ = true;  // the peers know: no need to tell them when the step is left
      throw;
    }
    visit_real(b.type, [&]<class T>(T) {
      const T factor = options_.average ? static_cast<T>(1.0 / comm_.world_size()) : T{1};
      if (staged)
        detail::each_staged(b, parameters_, memory, [&](const std::byte* from, const parameter& p) {
          detail::copy_scaled(reinterpret_cast<const T*>(from), p.gradient_as<T>(), p.count, factor);
        });
      else if (options_.average)
        detail::scale(reinterpret_cast<T*>(memory), b.count, factor);
    });
  }

  void open(bool synchronize) {
    if (open_) throw step_misused("a step is open; finish it before the next begins");
    parameters_.check();
    open_ = true;
    lost_ = false;
    reduces_ = synchronize && comm_.world_size() > 1;
    synchronizes_ = synchronize;
    next_ = 0;
    guess_ = parameters_.size() - 1;
    std::fill(ready_.begin(), ready_.end(), char{0});
    for (std::size_t b = 0; b < buckets_.size(); ++b) pending_[b] = buckets_[b].last - buckets_[b].first + 1;
  }

  void close() {
    std::string missing;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      if (!ready_[i]) missing += " '" + parameters_[i].name + "'";
    if (!missing.empty())
      throw parameters_not_ready("finish() with parameters whose gradients were not ready:" + missing +
                                 "; call ready for each in every step, also where a gradient is zero");
    open_ = false;
    if (synchronizes_) ++steps_;
  }

  // Peers would wait for ever in the reductions of a step that this rank has left.
  void leave(bool unwinding) noexcept {
    open_ = false;
    if (!reduces_ || lost_) return;
    try {
      comm_.abort("rank " + std::to_string(comm_.rank()) + " left gradient step " + std::to_string(steps_ + 1) +
                  (unwinding ? " by an exception" : " without finish()"));
    } catch (...) {  // no memory for the text
      comm_.abort("a rank left a gradient step");
    }
  }

  any_communicator comm_;
  parameters parameters_;
  data_parallel_options options_;
  std::vector<detail::bucket> buckets_;
  std::vector<std::size_t> bucket_of_;  // of each parameter
  std::vector<std::size_t> pending_;    // parameters of each bucket that are not ready
  std::vector<char> ready_;             // per parameter
  std::shared_ptr<std::byte> staging_;
  std::size_t next_ = 0;   // the bucket to be reduced next
  std::size_t guess_ = 0;  // the parameter that is probably ready next
  std::uint64_t steps_ = 0;
  int no_sync_ = 0;
  bool open_ = false, reduces_ = false, synchronizes_ = false, lost_ = false;
};

/// One backward pass; made by data_parallel::begin. A step that is destroyed without finish(), by an exception above
/// all, aborts the communicator, so that the peers get communicator_aborted (402) and do not hang.
class [[nodiscard]] gradient_step {
 public:
  gradient_step(gradient_step&& other) noexcept
      : ddp_(std::exchange(other.ddp_, nullptr)), exceptions_(other.exceptions_) {}
  gradient_step& operator=(gradient_step&&) = delete;
  ~gradient_step() {
    if (ddp_) ddp_->leave(std::uncaught_exceptions() > exceptions_);
  }

  /// The gradient of this parameter is complete, and must not be touched until finish(). May reduce buckets on the way.
  /// Throws step_misused (804), and what collectives throw.
  void ready(std::string_view name) { self().mark_ready(self().index_of(name)); }
  /// The same by its place in the list.
  void ready(std::size_t index) {
    if (index >= self().parameters_.size())
      throw step_misused("there is no parameter " + std::to_string(index) + "; there are " +
                         std::to_string(self().parameters_.size()));
    self().mark_ready(index);
  }
  /// All that are not yet ready are.
  void ready_all() {
    for (std::size_t i = self().parameters_.size(); i-- > 0;)
      if (!ddp_->ready_[i]) ddp_->mark_ready(i);
  }

  /// Returns when every gradient is reduced. Throws parameters_not_ready (805), naming them, and what collectives throw.
  void finish() {
    self().close();
    ddp_ = nullptr;
  }

 private:
  friend class data_parallel;
  explicit gradient_step(data_parallel* ddp) noexcept : ddp_(ddp), exceptions_(std::uncaught_exceptions()) {}

  data_parallel& self() const {
    if (!ddp_) throw step_misused("this step is finished; begin another");
    return *ddp_;
  }

  data_parallel* ddp_;
  int exceptions_;
};

/// See data_parallel::no_sync.
class [[nodiscard]] no_sync_scope {
 public:
  no_sync_scope(const no_sync_scope&) = delete;
  no_sync_scope& operator=(const no_sync_scope&) = delete;
  ~no_sync_scope() { --ddp_->no_sync_; }

 private:
  friend class data_parallel;
  explicit no_sync_scope(data_parallel* ddp) noexcept : ddp_(ddp) { ++ddp_->no_sync_; }
  data_parallel* ddp_;
};

inline gradient_step data_parallel::begin(step_options options) {
  open(options.synchronize && no_sync_ == 0);
  return gradient_step(this);
}

inline no_sync_scope data_parallel::no_sync() { return no_sync_scope(this); }

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/fwd.hpp ----
#ifndef CADRE_TRAIN_FWD_HPP
#define CADRE_TRAIN_FWD_HPP

CADRE_NAMESPACE_BEGIN
namespace train {

struct parameter;
class parameters;
class data_parallel;
class gradient_step;
class optimizer;
class sgd;
class adam;
class adamw;
class schedule;
class context;
class report_handler;
struct run_options;
struct result;
template <class Function, class Config>
class trainer;

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/metrics.hpp ----
#ifndef CADRE_TRAIN_METRICS_HPP
#define CADRE_TRAIN_METRICS_HPP

#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

/// A rank's share in a mean: what it added up, and how much that counts (samples, say).
struct weighted_sum {
  std::string_view name;
  double sum;
  double weight;
};

/// The means over all ranks, sum of sums by sum of weights, in one all-reduce; NaN where the weights are all 0. Every
/// rank calls it with the same names in the same order; sums are taken in the communicator's tree, so threads and ranks
/// give the same bits. Throws metrics_disagree (813) on every rank if the names differ, and collective_mismatch (403)
/// if their numbers do.
[[nodiscard]] inline metric_map aggregate(any_communicator comm, std::span<const weighted_sum> metrics) {
  // With 16 bits of a hash of the names, h, the sum of h^2 times the number of ranks equals the square of the sum of h
  // only if all ranks have the same (Cauchy and Schwarz), and both are exact in a double up to 1,448 ranks.
  std::uint64_t hash = 0;
  for (const weighted_sum& m : metrics) hash = hash_combine(hash, hash_text(m.name));
  const double h = static_cast<double>(hash % 65536);
  std::vector<double> packed{h, h * h};
  for (const weighted_sum& m : metrics) {
    packed.push_back(m.sum);
    packed.push_back(m.weight);
  }
  const cadre::detail::on_behalf_of aggregated("aggregate");
  comm.all_reduce_bytes(packed.data(), packed.size(), data_type::float64, sum);
  if (packed[1] * comm.world_size() != packed[0] * packed[0]) {
    std::string names;
    for (const weighted_sum& m : metrics) names += " '" + std::string(m.name) + "'";
    throw metrics_disagree("ranks aggregate metrics of other names, or in another order; rank " +
                           std::to_string(comm.rank()) + " has" + names);
  }
  metric_map means;
  for (std::size_t i = 0; i < metrics.size(); ++i) means.set(metrics[i].name, packed[2 + 2 * i] / packed[3 + 2 * i]);
  return means;
}

/// `aggregate(ctx.comm(), {{"loss", loss, samples}, {"accuracy", correct, samples}})`
[[nodiscard]] inline metric_map aggregate(any_communicator comm, std::initializer_list<weighted_sum> metrics) {
  return aggregate(std::move(comm), std::span<const weighted_sum>(metrics.begin(), metrics.size()));
}

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/optimizer/optimizer.hpp ----
#ifndef CADRE_TRAIN_OPTIMIZER_OPTIMIZER_HPP
#define CADRE_TRAIN_OPTIMIZER_OPTIMIZER_HPP

#include <cereal/cereal.hpp>
#include <cereal/types/string.hpp>
#include <cereal/types/vector.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

struct step_scale {
  double gradient_scale = 1;  ///< what gradients are multiplied by as they are read: 1/N of an average, clip_scale
};

/// What the optimizers have in common: parameters, learning rate, and state arrays of the parameters' sizes. Each step
/// is one pass over contiguous arrays. Every rank steps for itself: with equal values, gradients and options the values
/// stay equal to the bit.
///
/// Serialisable by any archive of cereal's form: the state, not the options and not the learning rate, which are the
/// program's. Loading state of other parameters throws optimizer_state_mismatch (806) and changes nothing.
class optimizer {
 public:
  [[nodiscard]] double lr() const noexcept { return lr_; }
  /// Throws option_invalid (807) unless it is a finite number of at least 0.
  void set_lr(double lr) {
    require(std::isfinite(lr) && lr >= 0, "lr", lr, "a finite number of at least 0");
    lr_ = lr;
  }

  /// Steps taken, those before a checkpoint included.
  [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }

  template <class Archive>
  void save(Archive& archive) const {
    archive(kind_, steps_);
    parameters_.save_layout(archive);
    archive(static_cast<std::uint64_t>(slots_.size()));
    for (const std::shared_ptr<std::byte>& slot : slots_)
      for (std::size_t i = 0; i < parameters_.size(); ++i)
        archive(cereal::binary_data(static_cast<const std::byte*>(slot.get() + offsets_[i]), parameters_[i].bytes()));
  }
  template <class Archive>
  void load(Archive& archive) {
    std::string kind;
    std::uint64_t steps = 0, slots = 0;
    archive(kind, steps);
    if (kind != kind_) mismatch("it is that of " + kind + ", this is " + kind_);
    if (const std::string difference = parameters_.layout_difference(archive); !difference.empty())
      mismatch(difference);
    archive(slots);
    if (slots != slots_.size())
      mismatch("it has " + std::to_string(slots) + " arrays per parameter, these options need " +
               std::to_string(slots_.size()));
    for (const std::shared_ptr<std::byte>& slot : slots_)
      for (std::size_t i = 0; i < parameters_.size(); ++i)
        archive(cereal::binary_data(slot.get() + offsets_[i], parameters_[i].bytes()));
    steps_ = steps;
  }

 protected:
  optimizer(parameters list, double lr, std::string kind, int slots)
      : parameters_(std::move(list)), kind_(std::move(kind)) {
    set_lr(lr);
    std::size_t bytes = 0;
    for (const parameter& p : parameters_) {
      offsets_.push_back(bytes);
      bytes += (p.bytes() + 63) / 64 * 64;
    }
    for (int i = 0; i < slots; ++i) slots_.push_back(cadre::detail::zeroed_memory(bytes));
    parameters_.freeze();
  }
  ~optimizer() = default;
  optimizer(optimizer&&) = default;
  optimizer& operator=(optimizer&&) = default;

  static void require(bool good, std::string_view option, double value, std::string_view wanted) {
    if (!good)
      throw option_invalid("the optimizer's " + std::string(option) + " is " + std::to_string(value) + "; it must be " +
                           std::string(wanted));
  }

  /// Counts a step and calls `update(T{}, parameter, slots...)` per parameter, with the state arrays as T*.
  template <class Update>
  void each(Update&& update) {
    parameters_.check();
    ++steps_;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      visit_real(parameters_[i].type, [&]<class T>(T) { update(T{}, parameters_[i], i); });
  }
  template <class T>
  [[nodiscard]] T* slot(std::size_t which, std::size_t parameter_index) const noexcept {
    return reinterpret_cast<T*>(slots_[which].get() + offsets_[parameter_index]);
  }

 private:
  [[noreturn]] void mismatch(const std::string& what) const {
    throw optimizer_state_mismatch("this state is not of this optimizer: " + what +
                                   "; load it into the model that saved it");
  }

  parameters parameters_;
  double lr_ = 0;
  std::string kind_;
  std::uint64_t steps_ = 0;
  std::vector<std::size_t> offsets_;
  std::vector<std::shared_ptr<std::byte>> slots_;
};

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/optimizer/adamw.hpp ----
#ifndef CADRE_TRAIN_OPTIMIZER_ADAMW_HPP
#define CADRE_TRAIN_OPTIMIZER_ADAMW_HPP

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace train {

struct adamw_options {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 1e-2;
};

struct adam_options {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
};

namespace detail {

class adam_base : public optimizer {
 public:
  /// Moves every value by its gradient. Throws parameter_changed (802).
  void step(step_scale s = {}) {
    const double t = static_cast<double>(steps() + 1);
    const double correction1 = 1 - std::pow(options_.beta1, t), correction2 = 1 - std::pow(options_.beta2, t);
    each([&]<class T>(T, const parameter& p, std::size_t i) {
      const auto to = [](double x) { return static_cast<T>(x); };
      const adam_factors<T> f{.step_size = to(lr() / correction1),
                              .one_minus_beta1 = to(1 - options_.beta1),
                              .beta2 = to(options_.beta2),
                              .one_minus_beta2 = to(1 - options_.beta2),
                              .inverse_root = to(1 / std::sqrt(correction2)),
                              .epsilon = to(options_.epsilon),
                              .keep = to(decoupled_ ? 1 - lr() * options_.weight_decay : 1),
                              .coupled_decay = to(decoupled_ ? 0 : options_.weight_decay),
                              .gradient_scale = to(s.gradient_scale)};
      adam_update(p.value_as<T>(), p.gradient_as<T>(), slot<T>(0, i), slot<T>(1, i), p.count, f);
    });
  }

 protected:
  adam_base(parameters list, adam_options options, bool decoupled, std::string kind)
      : optimizer(std::move(list), options.lr, std::move(kind), 2), options_(options), decoupled_(decoupled) {
    require(options.beta1 >= 0 && options.beta1 < 1, "beta1", options.beta1, "at least 0 and below 1");
    require(options.beta2 >= 0 && options.beta2 < 1, "beta2", options.beta2, "at least 0 and below 1");
    require(options.epsilon >= 0 && std::isfinite(options.epsilon), "epsilon", options.epsilon,
            "a finite number of at least 0");
    require(std::isfinite(options.weight_decay) && options.weight_decay >= 0, "weight_decay", options.weight_decay,
            "a finite number of at least 0");
  }
  ~adam_base() = default;
  adam_base(adam_base&&) = default;
  adam_base& operator=(adam_base&&) = default;

 private:
  adam_options options_;
  bool decoupled_;
};

}  // namespace detail

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), as torch.optim.AdamW: w *= 1 - lr * weight_decay;
/// m and v are running means of the gradient and its square, corrected for their start at zero;
/// w -= lr * m^ / (sqrt(v^) + epsilon). Memory: two arrays.
class adamw : public detail::adam_base {
 public:
  /// Throws option_invalid (807).
  explicit adamw(parameters list, adamw_options o = {})
      : adam_base(std::move(list), {o.lr, o.beta1, o.beta2, o.epsilon, o.weight_decay}, true, "adamw") {}
};

/// Adam (Kingma and Ba, 2015), as torch.optim.Adam: weight decay is added to the gradient.
class adam : public detail::adam_base {
 public:
  /// Throws option_invalid (807).
  explicit adam(parameters list, adam_options o = {}) : adam_base(std::move(list), o, false, "adam") {}
};

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/optimizer/clip.hpp ----
#ifndef CADRE_TRAIN_OPTIMIZER_CLIP_HPP
#define CADRE_TRAIN_OPTIMIZER_CLIP_HPP

#include <cmath>

CADRE_NAMESPACE_BEGIN
namespace train {

/// The Euclidean norm of all gradients together. Reads them once; after finish() all ranks have the same.
[[nodiscard]] inline double gradient_norm(const parameters& list) {
  list.check();
  double sum_of_squares = 0;
  for (const parameter& p : list)
    sum_of_squares +=
        visit_real(p.type, [&]<class T>(T) { return detail::sum_of_squares(p.gradient_as<T>(), p.count); });
  return std::sqrt(sum_of_squares);
}

/// What gradients of this norm are to be multiplied by so that it becomes at most `max_norm`, by the formula of
/// torch.nn.utils.clip_grad_norm_; 1 if they are short enough or the norm is not finite. Given to an optimizer's
/// step({.gradient_scale = ...}) it costs no pass over memory.
[[nodiscard]] inline double clip_scale(double norm, double max_norm) noexcept {
  const double factor = max_norm / (norm + 1e-6);
  return std::isfinite(norm) && factor < 1 ? factor : 1;
}

/// Scales the gradients to a norm of at most `max_norm`, and returns the norm that they had. Gradients that are not
/// finite are left as they are: look at the result.
inline double clip_gradient_norm(const parameters& list, double max_norm) {
  const double norm = gradient_norm(list);
  if (const double factor = clip_scale(norm, max_norm); factor != 1)
    for (const parameter& p : list)
      visit_real(p.type, [&]<class T>(T) { detail::scale(p.gradient_as<T>(), p.count, static_cast<T>(factor)); });
  return norm;
}

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/optimizer/sgd.hpp ----
#ifndef CADRE_TRAIN_OPTIMIZER_SGD_HPP
#define CADRE_TRAIN_OPTIMIZER_SGD_HPP

#include <cstddef>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace train {

struct sgd_options {
  double lr = 1e-2;
  double momentum = 0;
  double weight_decay = 0;  ///< added to the gradient: an L2 penalty of weight_decay / 2
  bool nesterov = false;
};

/// Stochastic gradient descent as torch.optim.SGD (no dampening): g += weight_decay * w; b = momentum * b + g;
/// w -= lr * b, or with Nesterov's look-ahead w -= lr * (g + momentum * b). Memory: one array with momentum, else none.
class sgd : public optimizer {
 public:
  /// Throws option_invalid (807).
  explicit sgd(parameters list, sgd_options options = {})
      : optimizer(std::move(list), options.lr, "sgd", options.momentum != 0 ? 1 : 0), options_(options) {
    require(options.momentum >= 0 && options.momentum < 1, "momentum", options.momentum, "at least 0 and below 1");
    require(std::isfinite(options.weight_decay) && options.weight_decay >= 0, "weight_decay", options.weight_decay,
            "a finite number of at least 0");
    require(!options.nesterov || options.momentum > 0, "momentum", options.momentum, "above 0 with nesterov");
  }

  /// Moves every value by its gradient. Throws parameter_changed (802).
  void step(step_scale s = {}) {
    each([&]<class T>(T, const parameter& p, std::size_t i) {
      const detail::sgd_factors<T> f{static_cast<T>(lr()), static_cast<T>(options_.momentum),
                                     static_cast<T>(options_.weight_decay), static_cast<T>(s.gradient_scale)};
      T* const value = p.value_as<T>();
      const T* const gradient = p.gradient_as<T>();
      if (options_.momentum == 0)
        detail::sgd_update<false, false, T>(value, gradient, nullptr, p.count, f);
      else if (options_.nesterov)
        detail::sgd_update<true, true, T>(value, gradient, slot<T>(0, i), p.count, f);
      else
        detail::sgd_update<true, false, T>(value, gradient, slot<T>(0, i), p.count, f);
    });
  }

  [[nodiscard]] const sgd_options& options() const noexcept { return options_; }

 private:
  sgd_options options_;
};

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/optimizer.hpp ----
#ifndef CADRE_TRAIN_OPTIMIZER_HPP
#define CADRE_TRAIN_OPTIMIZER_HPP

/// The optimizers, and gradient clipping.

#endif

// ---- cadre/train/result.hpp ----
#ifndef CADRE_TRAIN_RESULT_HPP
#define CADRE_TRAIN_RESULT_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

/// A checkpoint that was kept.
struct kept_checkpoint {
  std::uint64_t number = 0;  ///< that of the report it came with
  std::string path = {};     ///< empty if the run keeps its checkpoints in memory
  metric_map metrics = {};
  std::optional<checkpoint_reader> memory = {};  ///< without a path: the checkpoint itself

  /// Reads and verifies it; throws what checkpoint_reader::open does (513-516, 155-158).
  [[nodiscard]] checkpoint_reader open() const { return memory ? *memory : checkpoint_reader::open(path); }
};

/// What a training came to: the same on every rank, but for the type of the error.
struct result {
  metric_map metrics;                        ///< of the last report; empty if there was none
  std::vector<metric_map> history;           ///< of every report, in order, each once, those before a resume included
  std::vector<kept_checkpoint> checkpoints;  ///< by number
  std::exception_ptr error;                  ///< of the last attempt; null if it ended well
  std::string path;                          ///< the run's folder; empty if it keeps nothing on disk
  int attempts = 0;
  std::optional<std::size_t> best;  ///< index of the best checkpoint by the run's score, else of the newest

  /// The best kept checkpoint by the run's score, the newest without one; nothing if none was made. Throws what
  /// checkpoint_reader::open does.
  [[nodiscard]] std::optional<checkpoint_reader> checkpoint() const {
    if (!best) return std::nullopt;
    return checkpoints[*best].open();
  }
};

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/run_options.hpp ----
#ifndef CADRE_TRAIN_RUN_OPTIONS_HPP
#define CADRE_TRAIN_RUN_OPTIONS_HPP

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace train {

struct scaling {
  int workers = 1;  ///< threads of trainer::fit(); fit(world) has as many workers as world has ranks
};

/// Which checkpoints stay. The newest always stays, since a failure continues from it; with a score, the num_to_keep
/// best stay besides.
struct checkpoint_options {
  std::size_t num_to_keep = 0;            ///< 0: all
  std::string score = {};                 ///< the metric that ranks them; empty: the newest are the best
  direction order = direction::minimize;  ///< whether a smaller or a larger score is better
};

struct failure_options {
  int max_failures = 0;  ///< failed attempts after which training continues from the newest checkpoint; -1: any number
};

/// What run_options::on_report is called with, on rank 0, after a report was kept.
struct report_event {
  std::uint64_t number;  ///< from 1; a report that is repeated after a failure has the same number again
  int attempt;
  const metric_map& metrics;
  bool checkpoint;  ///< whether it came with one
};

/// Any callable that takes a `const report_event&`; copies share it.
class report_observer {
 public:
  report_observer() = default;
  template <std::invocable<const report_event&> F>
    requires(!std::same_as<std::remove_cvref_t<F>, report_observer>)
  report_observer(F&& f)  // NOLINT(google-explicit-constructor): a lambda is an observer
      : call_(std::make_shared<move_only_function<void(const report_event&)>>(std::forward<F>(f))) {}
  void operator()(const report_event& event) const {
    if (call_) (*call_)(event);
  }

 private:
  std::shared_ptr<move_only_function<void(const report_event&)>> call_;
};

struct run_options {
  std::string name = "run";  ///< the run's folder in `storage`
  std::string storage = {};  ///< where runs lie; empty: nothing is written, checkpoints are kept in memory
  checkpoint_options checkpoint = {};
  failure_options failure = {};
  bool resume = false;                  ///< continue a run that lies in the folder; without one, begin
  bool progress = false;                ///< print a line per report to stderr
  std::chrono::nanoseconds timeout{0};  ///< of each collective of the workers; 0: the communicator's own
  std::stop_token stop = {};            ///< ask for an end: the next report returns false on every rank
  report_observer on_report = {};  ///< called on rank 0 after each report; what it throws is an error of the attempt
};

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/schedule.hpp ----
#ifndef CADRE_TRAIN_SCHEDULE_HPP
#define CADRE_TRAIN_SCHEDULE_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace train {

/// A number for each step: a factor that begins at 1, or, after multiplication, the learning rate itself:
///
///     const auto lr = 1e-3 * train::warm_up(500, train::cosine(10'000));
///     optimizer.set_lr(lr(optimizer.steps()));
///
/// A small value; made by the functions below. Pure: the same step gives the same number.
class schedule {
 public:
  [[nodiscard]] double operator()(std::size_t step) const noexcept {
    if (step < warm_up_) return scale_ * after(0) * (static_cast<double>(step) + 1) / static_cast<double>(warm_up_);
    return scale_ * after(step - warm_up_);
  }

  friend schedule operator*(double factor, schedule s) noexcept {
    s.scale_ *= factor;
    return s;
  }
  friend schedule operator*(schedule s, double factor) noexcept { return factor * s; }

  friend schedule constant() noexcept;
  friend schedule step(std::size_t every, double factor);
  friend schedule linear(std::size_t total, double last);
  friend schedule cosine(std::size_t total, double last);
  friend schedule warm_up(std::size_t steps, schedule then);

 private:
  enum class shape : std::uint8_t { constant, step, linear, cosine };

  schedule(shape s, std::size_t length, double number) noexcept : shape_(s), length_(length), number_(number) {}

  [[nodiscard]] double after(std::size_t step) const noexcept {
    const double part = static_cast<double>(std::min(step, length_)) / static_cast<double>(length_);
    switch (shape_) {
      case shape::step: return std::pow(number_, static_cast<double>(step / length_));
      case shape::linear: return 1 + (number_ - 1) * part;
      case shape::cosine: return number_ + (1 - number_) * 0.5 * (1 + std::cos(std::numbers::pi * part));
      case shape::constant: break;
    }
    return 1;
  }
  static void require(bool good, const char* what) {
    if (!good) throw option_invalid(std::string("a learning-rate schedule ") + what);
  }

  shape shape_;
  std::size_t length_;
  double number_;
  std::size_t warm_up_ = 0;
  double scale_ = 1;
};

/// 1 at every step.
[[nodiscard]] inline schedule constant() noexcept { return {schedule::shape::constant, 1, 1}; }

/// factor^(step / every), rounded down: a staircase. Throws option_invalid (807) if `every` is 0.
[[nodiscard]] inline schedule step(std::size_t every, double factor) {
  schedule::require(every > 0, "by steps needs steps of a length above 0");
  return {schedule::shape::step, every, factor};
}

/// From 1 straight to `last` at step `total`, where it stays. Throws option_invalid (807) if `total` is 0.
[[nodiscard]] inline schedule linear(std::size_t total, double last = 0) {
  schedule::require(total > 0, "of linear shape needs a length above 0");
  return {schedule::shape::linear, total, last};
}

/// From 1 along half a cosine to `last` at step `total`, where it stays (SGDR without restarts, Loshchilov and Hutter,
/// 2017). Throws option_invalid (807) if `total` is 0.
[[nodiscard]] inline schedule cosine(std::size_t total, double last = 0) {
  schedule::require(total > 0, "of cosine shape needs a length above 0");
  return {schedule::shape::cosine, total, last};
}

/// Rises from 1/steps of the first value of `then` to the whole of it in `steps` steps, and goes on with `then` from its
/// start. Throws option_invalid (807) if `then` has a warm-up already.
[[nodiscard]] inline schedule warm_up(std::size_t steps, schedule then = constant()) {
  schedule::require(then.warm_up_ == 0, "has one warm-up at most");
  then.warm_up_ = steps;
  return then;
}

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/detail/run_folder.hpp ----
#ifndef CADRE_TRAIN_DETAIL_RUN_FOLDER_HPP
#define CADRE_TRAIN_DETAIL_RUN_FOLDER_HPP

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train::detail {

/// One report, as the journal and the checkpoints hold it.
struct kept_report {
  std::uint64_t number = 0;
  metric_map metrics;
  bool checkpoint = false;

  template <class Archive>
  void save(Archive& archive) const {
    std::vector<std::string> names;
    std::vector<double> values;
    for (const metric& m : metrics) {
      names.push_back(m.name);
      values.push_back(m.value);
    }
    archive(number, checkpoint, names, values);
  }
  template <class Archive>
  void load(Archive& archive) {
    std::vector<std::string> names;
    std::vector<double> values;
    archive(number, checkpoint, names, values);
    metrics = {};
    for (std::size_t i = 0; i < std::min(names.size(), values.size()); ++i) metrics.set(names[i], values[i]);
  }
};

/// The run's reports and checkpoints; rank 0 has one. With a storage they lie in
///
///     <storage>/<name>/reports.journal            one record per report
///     <storage>/<name>/checkpoints/000001.cadre   the checkpoint of report 1, with the report itself in it
///
/// A report with a checkpoint counts from the moment at which the checkpoint's file is there: a process killed between
/// that and the journal's record finds the report in the file. Continuing from checkpoint n forgets the reports after
/// n, since they are made again; a record of a number that the journal has already replaces that one and those after.
///
/// A template so that only those who train pay to compile it.
template <class Options = run_options, class Report = kept_report, class Checkpoint = kept_checkpoint>
class run_folder final : public report_handler {
 public:
  static constexpr std::string_view report_name = "cadre.report";

  explicit run_folder(const Options& options) : options_(options) {
    check_name(options.name);
    if (!options.storage.empty()) open();
    if (options.progress) bar_.emplace();
  }

  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// The newest intact checkpoint, null if there is none. Damaged ones after it are named in a warning and put aside,
  /// and the reports after it are forgotten. Throws where an older one would be the wrong answer: a file that is there
  /// and cannot be opened, or that a later version wrote.
  [[nodiscard]] std::shared_ptr<const checkpoint_reader> newest() {
    while (!checkpoints_.empty()) {
      try {
        auto reader = std::make_shared<const checkpoint_reader>(checkpoints_.back().open());
        continue_after(checkpoints_.back().number, *reader);
        drop_surplus();
        return reader;
      } catch (const checkpoint_too_new&) {
        throw;
      } catch (const checkpoint_error& e) {
        put_newest_aside(e.what());
      } catch (const file_not_found& e) {
        put_newest_aside(e.what());
      }
    }
    reports_.clear();
    last_ = 0;
    return nullptr;
  }

  void begin_attempt(int attempt) noexcept { attempt_ = attempt; }

  bool report(const metric_map& metrics, saver* save) override {
    Report entry{last_ + 1, metrics, save != nullptr};
    if (save) keep_checkpoint(entry, *save);
    if (journal_) {
      journal_->append(std::span<const std::byte>(to_bytes(entry)));
      if (save) journal_->sync();
    }
    last_ = entry.number;
    reports_.push_back(std::move(entry));
    if (save) drop_surplus();
    if (bar_) bar_->update(options_.name, line(), importance::important);
    options_.on_report({last_, attempt_, reports_.back().metrics, save != nullptr});
    return true;
  }

  /// Forces the reports of a training that went well to the disk, and prints the last progress line.
  void finish(bool well) {
    if (journal_ && well) journal_->sync();
    if (!bar_) return;
    std::string text = (well ? "finished after " : "failed after ") + std::to_string(last_) + " reports";
    if (bar_->live()) text += last_metrics();  // elsewhere they stand in the line above
    bar_->finish(options_.name, text);
  }
  void note(std::string_view what) {
    if (bar_) bar_->print(options_.name + ": " + std::string(what));
  }

  /// Fills in what is known of the run.
  void describe(result& r) const {
    r.path = path_;
    r.history.clear();
    for (const Report& entry : reports_) r.history.push_back(entry.metrics);
    if (!r.history.empty()) r.metrics = r.history.back();
    r.checkpoints = checkpoints_;
    const std::vector<std::size_t> ranked = by_score();
    if (!ranked.empty()) r.best = ranked.front();
  }

 private:
  static void check_name(const std::string& name) {
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos)
      throw option_invalid("run_options::name is '" + name +
                           "'; it names a folder, so it must be neither empty, '.' nor '..', and without '/'");
  }

  void open() {
    namespace fs = std::filesystem;
    const fs::path folder = fs::path(options_.storage) / options_.name;
    path_ = folder.string();
    const fs::path journal_path = folder / "reports.journal";
    std::error_code failure;
    fs::create_directories(folder / "checkpoints", failure);
    if (failure)
      throw run_folder_error("cannot make the run's folder '" + path_ + "': " + failure.message() +
                             "; check run_options::storage and its permissions");
    find_checkpoints(folder / "checkpoints");
    // The journal is opened first of all that could change something: its lock keeps a second process out.
    journal_ = journal::open(journal_path.string(), {.sync = journal_sync::on_request},
                             [&](std::span<const std::byte> record) { replay(from_bytes<Report>(record)); });
    if (!options_.resume && (!reports_.empty() || !checkpoints_.empty()))
      throw run_exists("'" + path_ + "' already holds a run of " + std::to_string(reports_.size()) + " reports and " +
                       std::to_string(checkpoints_.size()) +
                       " checkpoints; set run_options::resume to continue it, take another name, or remove the folder");
    cadre::detail::remove_leftovers((folder / "checkpoints").string());
    for (Checkpoint& c : checkpoints_)
      for (const Report& entry : reports_)
        if (entry.number == c.number) c.metrics = entry.metrics;
  }

  void find_checkpoints(const std::filesystem::path& folder) {
    std::error_code failure;
    for (std::filesystem::directory_iterator it(folder, failure), end; !failure && it != end; it.increment(failure)) {
      const std::string name = it->path().filename().string();
      std::uint64_t number = 0;
      const auto [rest, bad] = std::from_chars(name.data(), name.data() + name.size(), number);
      if (bad == std::errc() && std::string_view(rest) == suffix && number > 0)
        checkpoints_.push_back({number, it->path().string(), {}, {}});
    }
    if (failure) throw run_folder_error("cannot read the folder '" + folder.string() + "': " + failure.message());
    std::ranges::sort(checkpoints_, {}, &Checkpoint::number);
  }

  void forget_from(std::uint64_t number) {
    std::erase_if(reports_, [&](const Report& r) { return r.number >= number; });
  }
  void replay(Report entry) {
    forget_from(entry.number);
    last_ = entry.number;
    reports_.push_back(std::move(entry));
  }

  // Under another name, so that no later resume takes it for a checkpoint of the reports that are made again.
  void put_newest_aside(const std::string& why) {
    const Checkpoint& damaged = checkpoints_.back();
    std::string where;
    if (std::error_code failure; !damaged.path.empty()) {
      std::filesystem::rename(damaged.path, damaged.path + ".damaged", failure);
      if (!failure) where = " (it is now '" + damaged.path + ".damaged')";
    }
    log(log_level::warning, "train",
        "checkpoint " + std::to_string(damaged.number) + " of run '" + options_.name +
            "' cannot be read, so an older one is used" + where + ": " + why);
    checkpoints_.pop_back();
  }

  void continue_after(std::uint64_t number, const checkpoint_reader& reader) {
    forget_from(number + 1);
    last_ = number;
    if (reports_.empty() || reports_.back().number != number) {
      auto entry = reader.get<Report>(report_name);
      if (journal_) journal_->append(std::span<const std::byte>(to_bytes(entry)));
      checkpoints_.back().metrics = entry.metrics;
      reports_.push_back(std::move(entry));
    }
  }

  void keep_checkpoint(const Report& entry, saver& save) {
    if (!options_.checkpoint.score.empty()) (void)entry.metrics.at(options_.checkpoint.score);
    checkpoint_writer writer;
    writer(report_name, entry);
    save(writer);
    Checkpoint fresh{entry.number, {}, entry.metrics, {}};
    if (path_.empty()) {
      fresh.memory = checkpoint_reader::from_bytes(writer.bytes(), "of report " + std::to_string(entry.number));
    } else {
      std::string digits = std::to_string(entry.number);
      if (digits.size() < 6) digits.insert(0, 6 - digits.size(), '0');
      fresh.path = (std::filesystem::path(path_) / "checkpoints" / (digits + std::string(suffix))).string();
      writer.save(fresh.path);
    }
    checkpoints_.push_back(std::move(fresh));
  }

  /// Indices into checkpoints_, the best first; of equals the newer first.
  [[nodiscard]] std::vector<std::size_t> by_score() const {
    std::vector<std::size_t> ranked(checkpoints_.size());
    for (std::size_t i = 0; i < ranked.size(); ++i) ranked[i] = ranked.size() - 1 - i;
    if (const std::string& score = options_.checkpoint.score; !score.empty())
      std::ranges::stable_sort(ranked, [&](std::size_t a, std::size_t b) {
        const double* left = checkpoints_[a].metrics.find(score);
        const double* right = checkpoints_[b].metrics.find(score);
        return left && (!right || better(options_.checkpoint.order, *left, *right));
      });
    return ranked;
  }

  void drop_surplus() {
    const std::size_t keep = options_.checkpoint.num_to_keep;
    if (keep == 0 || checkpoints_.size() <= keep) return;
    const std::vector<std::size_t> ranked = by_score();
    std::vector<bool> drop(checkpoints_.size(), true);
    for (std::size_t i = 0; i < keep; ++i) drop[ranked[i]] = false;
    drop.back() = false;
    std::vector<Checkpoint> kept;
    for (std::size_t i = 0; i < checkpoints_.size(); ++i) {
      if (drop[i]) {
        std::error_code failure;
        if (!checkpoints_[i].path.empty()) std::filesystem::remove(checkpoints_[i].path, failure);
        if (failure)
          log(log_level::warning, "train",
              [&] { return "cannot remove '" + checkpoints_[i].path + "': " + failure.message(); });
      } else {
        kept.push_back(std::move(checkpoints_[i]));
      }
    }
    checkpoints_ = std::move(kept);
  }

  // The number is left out where the report itself begins with it: "epoch 3", as a rule.
  [[nodiscard]] std::string line() const {
    const metric_map& metrics = reports_.back().metrics;
    std::string text = last_metrics();
    if (metrics.begin() == metrics.end() || metrics.begin()->value != static_cast<double>(last_))
      text.insert(0, "report " + std::to_string(last_));
    else
      text.erase(0, 2);
    if (attempt_ > 1) text += "  (attempt " + std::to_string(attempt_) + ")";
    return text;
  }
  [[nodiscard]] std::string last_metrics() const {
    std::string text;
    if (reports_.empty()) return text;
    for (const metric& m : reports_.back().metrics) {
      text += "  " + m.name + " ";
      cadre::detail::append_significant(text, m.value, 6);
    }
    return text;
  }

  static constexpr std::string_view suffix = ".cadre";

  Options options_;
  std::string path_;
  std::optional<journal> journal_;
  std::vector<Report> reports_;
  std::vector<Checkpoint> checkpoints_;  // by number
  std::uint64_t last_ = 0;               // the number of the last report
  int attempt_ = 1;
  std::optional<progress> bar_;
};

}  // namespace train::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/detail/run.hpp ----
#ifndef CADRE_TRAIN_DETAIL_RUN_HPP
#define CADRE_TRAIN_DETAIL_RUN_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train::detail {

struct run_outcome {
  result training;  // complete on rank 0; elsewhere error and attempts
  int failed_rank = -1;
};

/// Attempts until one ends well or the permitted failures are used up. Every rank of `world` calls it.
template <class Options, class Body>
run_outcome run_training(any_communicator& world, const Options& options, Body&& body) {
  if (options.failure.max_failures < -1)
    throw option_invalid("failure_options::max_failures is " + std::to_string(options.failure.max_failures) +
                         "; give the number of failures to survive, or -1 for any number");
  run_outcome outcome;
  std::optional<run_folder<Options>> folder;
  on_rank_0(world, "opening the run's folder", [&] { folder.emplace(options); });
  for (;;) {
    const int attempt = ++outcome.training.attempts;
    std::shared_ptr<const checkpoint_reader> from;
    on_rank_0(world, "looking for the newest checkpoint", [&] {
      folder->begin_attempt(attempt);
      from = folder->newest();
    });
    const attempt_outcome ended = run_attempt(world,
                                              {.handler = folder ? &*folder : nullptr,
                                               .checkpoint = std::move(from),
                                               .attempt = attempt,
                                               .stop = options.stop},
                                              options.timeout, body);
    outcome.training.error = ended.error;
    outcome.failed_rank = ended.failed_rank;
    const bool again = !ended && (options.failure.max_failures < 0 || attempt <= options.failure.max_failures);
    if (folder && !ended) {
      const std::string what = "attempt " + std::to_string(attempt) + " failed on rank " +
                               std::to_string(ended.failed_rank) + (again ? ", trying again: " : ": ") + ended.message;
      log(again ? log_level::warning : log_level::error, "train", "run '" + options.name + "': " + what);
      folder->note(what);
    }
    if (!again) break;
  }
  on_rank_0(world, "ending the run", [&] {
    folder->finish(outcome.failed_rank < 0);
    folder->describe(outcome.training);
  });
  return outcome;
}

/// Gives every rank what rank 0 knows of the run. Checkpoints on disk travel as their paths.
/// A template so that only those who train with ranks pay to compile it.
void share_result(auto& world, auto& r) {
  const auto report_of = [](const metric_map& metrics) { return kept_report{0, metrics, false}; };
  std::vector<std::byte> bytes;
  if (world.rank() == 0) {
    std::vector<kept_report> history, metrics;
    std::vector<std::uint64_t> numbers;
    std::vector<std::string> paths;
    std::vector<std::vector<std::byte>> memory;
    for (const metric_map& m : r.history) history.push_back(report_of(m));
    for (const kept_checkpoint& c : r.checkpoints) {
      numbers.push_back(c.number);
      paths.push_back(c.path);
      metrics.push_back(report_of(c.metrics));
      memory.emplace_back();
      if (c.memory) memory.back().assign(c.memory->bytes().begin(), c.memory->bytes().end());
    }
    bytes = to_bytes(history, numbers, paths, metrics, memory, r.best, r.path);
  }
  const cadre::detail::on_behalf_of fit("trainer::fit");
  broadcast_sized(world, bytes, 0);
  if (world.rank() == 0) return;
  std::vector<kept_report> history, metrics;
  std::vector<std::uint64_t> numbers;
  std::vector<std::string> paths;
  std::vector<std::vector<std::byte>> memory;
  from_bytes(bytes, history, numbers, paths, metrics, memory, r.best, r.path);
  for (kept_report& entry : history) r.history.push_back(std::move(entry.metrics));
  if (!r.history.empty()) r.metrics = r.history.back();
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    r.checkpoints.push_back({numbers[i], std::move(paths[i]), std::move(metrics[i].metrics), {}});
    if (!memory[i].empty())
      r.checkpoints.back().memory =
          checkpoint_reader::from_bytes(std::move(memory[i]), "of report " + std::to_string(numbers[i]));
  }
}

}  // namespace train::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/train/trainer.hpp ----
#ifndef CADRE_TRAIN_TRAINER_HPP
#define CADRE_TRAIN_TRAINER_HPP

#include <concepts>
#include <cstddef>
#include <exception>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace train {

/// Trains with several workers, keeps checkpoints and reports, and continues after failures:
///
///     auto result = train::trainer{train_fn, config, train::scaling{.workers = 4},
///                                  train::run_options{.name = "fashion", .storage = "runs",
///                                                     .checkpoint = {.num_to_keep = 3, .score = "val_loss"},
///                                                     .failure = {.max_failures = 3}}}.fit();
///
/// `train_fn(train::context&, const Config&)` runs once per worker. When it throws on one, the others' collectives end,
/// and all begin again at the newest readable checkpoint, up to max_failures times; then the result holds the error.
/// Errors of the options or the run's folder are thrown, on every rank: 807, 811, 812, 521-526, 155-158.
///
/// A worker that neither returns nor takes part in a collective cannot be stopped from outside: the others give up
/// after the timeout, but fit() with threads waits for it.
template <class Function, class Config>
class trainer {
  static_assert(std::invocable<Function&, context&, const Config&>,
                "a train function is called as f(cadre::train::context&, const Config&)");

 public:
  trainer(Function train_function, Config config, scaling workers = {}, run_options options = {})
      : function_(std::move(train_function)),
        config_(std::move(config)),
        scaling_(workers),
        options_(std::move(options)) {}

  /// Workers are threads of this process, rank 0 the calling one. The function object and the configuration are shared
  /// by them. Throws option_invalid (807) unless there is at least one worker.
  [[nodiscard]] result fit() {
    if (scaling_.workers < 1)
      throw option_invalid("scaling::workers is " + std::to_string(scaling_.workers) + "; at least one is needed");
    std::vector<detail::run_outcome> outcomes(static_cast<std::size_t>(scaling_.workers));
    std::vector<std::exception_ptr> thrown(outcomes.size());
    local_team(scaling_.workers).run([&](local_communicator& comm) {
      const auto rank = static_cast<std::size_t>(comm.rank());
      try {
        if (options_.timeout > std::chrono::nanoseconds::zero()) comm.set_timeout(options_.timeout);
        any_communicator world(comm);
        outcomes[rank] = detail::run_training(world, options_, body());
      } catch (...) {
        thrown[rank] = std::current_exception();
        comm.abort("rank " + std::to_string(rank) + " failed: " + detail::text_of(thrown[rank]));
      }
    });
    // What concerns all is thrown by all; rank 0 has it with its own type.
    for (const std::exception_ptr& e : thrown)
      if (e) std::rethrow_exception(e);
    detail::run_outcome& outcome = outcomes[0];
    if (outcome.failed_rank > 0)
      outcome.training.error = outcomes[static_cast<std::size_t>(outcome.failed_rank)].training.error;
    return std::move(outcome.training);
  }

  /// Workers are the ranks of `world`, every one of which calls fit with the same arguments; all get the same result.
  /// Rank 0 alone reads and writes the run's folder.
  [[nodiscard]] result fit(any_communicator world) {
    detail::run_outcome outcome = detail::run_training(world, options_, body());
    detail::share_result(world, outcome.training);
    return std::move(outcome.training);
  }

 private:
  auto body() {
    return [this](context& ctx) { (void)function_(ctx, std::as_const(config_)); };
  }

  Function function_;
  Config config_;
  scaling scaling_;
  run_options options_;
};

}  // namespace train
CADRE_NAMESPACE_END

#endif

// ---- cadre/train.hpp ----
#ifndef CADRE_TRAIN_HPP
#define CADRE_TRAIN_HPP

/// Data-parallel training: parameters, gradient averaging, optimizers, schedules, and the trainer around them.

#endif

// ---- cadre/tune/fwd.hpp ----
#ifndef CADRE_TUNE_FWD_HPP
#define CADRE_TUNE_FWD_HPP

#include <cstddef>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// Trials are numbered from 0 in the order in which they were first asked for.
using trial_id = std::size_t;

/// A configuration as searchers see it: one number per parameter, in the order of the space. A numeric parameter's own
/// value; the index of the value for choices.
using point = std::vector<double>;

struct domain;
template <class Config>
class space;
template <class Config>
class trial;
template <class Config>
class results;
template <class Config, class Searcher, class Scheduler>
class study;
template <class Config, class Searcher, class Scheduler>
class tuner;

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/detail/rung.hpp ----
#ifndef CADRE_TUNE_DETAIL_RUNG_HPP
#define CADRE_TUNE_DETAIL_RUNG_HPP

#include <algorithm>
#include <compare>
#include <cstddef>
#include <iterator>
#include <limits>
#include <optional>
#include <set>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// The entries of one rung, ordered, with a mark after the best of them. Entries only come, so the share of the best
/// grows by at most one at a time and the mark moves by a step: O(log n) per entry.
template <class Id = trial_id>
class rung {
 public:
  /// The score of what is worse than every number.
  static constexpr double worst = std::numeric_limits<double>::infinity();

  /// `least`: how many are the best at least; 1 where the first to arrive must not be turned away.
  rung(std::size_t reduction_factor, std::size_t least) : reduction_factor_(reduction_factor), least_(least) {}

  /// Lower scores are better, ties go to the lower trial.
  void insert(double score, Id id) {
    const entry e{score, id};
    const auto at = all_.insert(e).first;
    if (best_count_ != 0 && e < *last_best_) {
      promotable_insert(*at);
      promotable_.erase(*last_best_);
      --last_best_;
    }
    const std::size_t target = std::max(least_, all_.size() / reduction_factor_);
    if (best_count_ < target) {
      last_best_ = best_count_ == 0 ? all_.begin() : std::next(last_best_);
      ++best_count_;
      promotable_insert(*last_best_);
    }
  }

  /// The best of those among the best that were not taken before; takes it.
  std::optional<Id> take() {
    if (promotable_.empty()) return std::nullopt;
    const Id id = promotable_.begin()->id;
    taken_.insert(*promotable_.begin());
    promotable_.erase(promotable_.begin());
    return id;
  }

  /// The score of the last among the best; there must be one.
  [[nodiscard]] double cutoff() const { return last_best_->score; }
  [[nodiscard]] std::size_t size() const noexcept { return all_.size(); }

 private:
  struct entry {
    double score;
    Id id;
    friend auto operator<=>(const entry&, const entry&) = default;
  };

  void promotable_insert(const entry& e) {
    if (e.score < worst && !taken_.contains(e)) promotable_.insert(e);
  }

  std::size_t reduction_factor_;
  std::size_t least_;
  std::set<entry> all_;
  typename std::set<entry>::iterator last_best_{};
  std::size_t best_count_ = 0;
  std::set<entry> promotable_;  // among the best, not taken
  std::set<entry> taken_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/error.hpp ----
#ifndef CADRE_TUNE_ERROR_HPP
#define CADRE_TUNE_ERROR_HPP

#include <string_view>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// The base of what the tuner throws (9xx).
class tune_error : public error {
 protected:
  tune_error(int number, std::string_view message) : error("tune", number, message) {}
};

/// Thrown (901) when a distribution cannot be drawn from, or its values do not fit the member; names the parameter.
class bad_distribution : public tune_error {
 public:
  explicit bad_distribution(std::string_view message) : tune_error(901, message) {}
};

/// Thrown (902) when two parameters of a space have one name.
class duplicate_parameter : public tune_error {
 public:
  explicit duplicate_parameter(std::string_view message) : tune_error(902, message) {}
};

/// Thrown (903) when a configuration to be tried first lies outside of the space; names parameter and value.
class point_outside_space : public tune_error {
 public:
  explicit point_outside_space(std::string_view message) : tune_error(903, message) {}
};

/// Thrown (904) when grid_search is given a space with a continuous parameter; names it.
class infinite_grid : public tune_error {
 public:
  explicit infinite_grid(std::string_view message) : tune_error(904, message) {}
};

/// Thrown (905) when an option of a tuner, a study or a scheduler makes no sense.
class bad_option : public tune_error {
 public:
  explicit bad_option(std::string_view message) : tune_error(905, message) {}
};

/// Thrown (906) when a trial does not report the metric that is tuned; names those that it did report.
class metric_not_reported : public tune_error {
 public:
  explicit metric_not_reported(std::string_view message) : tune_error(906, message) {}
};

/// Thrown (907) when a study is called out of order: an unknown trial, a report of a trial that does not run.
class out_of_order : public tune_error {
 public:
  explicit out_of_order(std::string_view message) : tune_error(907, message) {}
};

/// Thrown (908) when a deterministic tuning cannot have as many threads at once as it needs.
class too_few_threads : public tune_error {
 public:
  explicit too_few_threads(std::string_view message) : tune_error(908, message) {}
};

/// Thrown (909) when the storage folder holds a study and `.resume` was not asked for.
class study_exists : public tune_error {
 public:
  explicit study_exists(std::string_view message) : tune_error(909, message) {}
};

/// Thrown (910) when the stored study was made with other settings; names each difference.
class study_differs : public tune_error {
 public:
  explicit study_differs(std::string_view message) : tune_error(910, message) {}
};

/// Thrown (911) when a stored study cannot be understood, though its records are intact.
class study_unreadable : public tune_error {
 public:
  explicit study_unreadable(std::string_view message) : tune_error(911, message) {}
};

/// Thrown (912) when the best trial is asked for and none has reported a number.
class no_best_trial : public tune_error {
 public:
  explicit no_best_trial(std::string_view message) : tune_error(912, message) {}
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/domain.hpp ----
#ifndef CADRE_TUNE_DOMAIN_HPP
#define CADRE_TUNE_DOMAIN_HPP

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace tune {

namespace detail {
/// The shortest text that reads back as the same number, in every locale.
inline std::string number_text(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}
}  // namespace detail

enum class domain_kind : std::uint8_t { real, integer, normal, categorical };

/// What values a parameter takes and how they are drawn: what searchers know of it. Values are doubles; a categorical
/// one is an index 0 .. high.
struct domain {
  domain_kind kind = domain_kind::real;
  double low = 0;            ///< the least value; the mean of a normal one
  double high = 0;           ///< the largest value, itself drawn; the standard deviation of a normal one
  double step = 0;           ///< values are low, low + step, ..., at most high; 0 if every real number between is one
  bool logarithmic = false;  ///< drawn uniformly in the logarithm

  /// How many values there are; 0 for more than can be counted.
  [[nodiscard]] std::uint64_t count() const noexcept {
    if (kind == domain_kind::normal) return 0;
    if (low == high) return 1;
    if (step == 0) return 0;
    const double steps = (high - low) / step;
    return steps < 0x1p53 ? static_cast<std::uint64_t>(steps + 1e-9 * std::max(1.0, steps)) + 1 : 0;
  }

  /// The value of that index, 0 .. count() - 1.
  [[nodiscard]] double at(std::uint64_t index) const noexcept {
    return std::min(low + static_cast<double>(index) * step, high);
  }

  /// The index of the value nearest to `value`, which must lie between the bounds.
  [[nodiscard]] std::uint64_t index_of(double value) const noexcept {
    if (step == 0) return 0;
    const double index = std::round((value - low) / step);
    return std::min(static_cast<std::uint64_t>(std::max(index, 0.0)), count() - 1);
  }

  /// True if `value` can be drawn. A grid forgives rounding errors.
  [[nodiscard]] bool contains(double value) const noexcept {
    if (kind == domain_kind::normal) return std::isfinite(value);
    if (!(value >= low && value <= high)) return false;
    return step == 0 || std::abs(value - at(index_of(value))) <= 1e-9 * std::max(step, std::abs(value));
  }

  [[nodiscard]] double draw(random_stream& random) const {
    if (kind == domain_kind::normal) return random.normal(low, high);
    if (low == high) return low;
    if (step == 0) {
      const double u = random.uniform();
      const double value =
          logarithmic ? std::exp(std::lerp(std::log(low), std::log(high), u)) : std::lerp(low, high, u);
      return std::clamp(value, low, high);
    }
    const std::uint64_t n = count();
    if (!logarithmic) return at(random.below(n));
    // Each value stands for the cell of half a step around it, so the ends are as likely as their logarithms say.
    const double from = std::log(low - step / 2), to = std::log(at(n - 1) + step / 2);
    return at(index_of(std::clamp(std::exp(std::lerp(from, to, random.uniform())), low, high)));
  }

  [[nodiscard]] std::string text() const {
    using detail::number_text;
    if (kind == domain_kind::categorical) return "choice of " + std::to_string(count());
    if (kind == domain_kind::normal) return "randn(" + number_text(low) + ", " + number_text(high) + ")";
    std::string name = kind == domain_kind::integer ? (logarithmic ? "lograndint"
                                                       : step == 1 ? "randint"
                                                                   : "qrandint")
                       : step == 0                  ? (logarithmic ? "loguniform" : "uniform")
                                                    : (logarithmic ? "qloguniform" : "quniform");
    name += "(" + number_text(low) + ", " + number_text(high);
    if (step != 0 && !(kind == domain_kind::integer && step == 1)) name += ", " + number_text(step);
    return name + ")";
  }

  friend bool operator==(const domain&, const domain&) = default;
};

/// How many configurations there are when each parameter is of one of `domains`; nothing if that cannot be counted in
/// 64 bits.
template <class Domains>
[[nodiscard]] std::optional<std::uint64_t> count_points(const Domains& domains) {
  std::uint64_t product = 1;
  for (const domain& d : domains) {
    const std::uint64_t n = d.count();
    if (n == 0 || product > std::numeric_limits<std::uint64_t>::max() / n) return std::nullopt;
    product *= n;
  }
  return product;
}

/// The place of a point when all points of a finite space are numbered, the last parameter changing fastest.
template <class Domains>
[[nodiscard]] std::uint64_t index_of_point(const Domains& domains, const point& where) {
  std::uint64_t index = 0;
  std::size_t i = 0;
  for (const domain& d : domains) index = index * d.count() + d.index_of(where[i++]);
  return index;
}

/// The point at that place.
template <class Domains>
[[nodiscard]] point point_of_index(const Domains& domains, std::uint64_t index) {
  point where(domains.size());
  for (std::size_t i = domains.size(); i-- > 0;) {
    const std::uint64_t n = domains[i].count();
    where[i] = domains[i].at(index % n);
    index /= n;
  }
  return where;
}

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/searcher.hpp ----
#ifndef CADRE_TUNE_SEARCHER_HPP
#define CADRE_TUNE_SEARCHER_HPP

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// What a study tells searcher and scheduler before the first trial.
struct study_settings {
  std::vector<domain> domains;
  std::vector<std::string> names;  ///< of the parameters
  direction mode = minimize;
  std::uint64_t seed = 0;
};

/// Suggests points. One thread at a time calls it; the same calls in the same order give the same points.
///
///     std::optional<point> suggest(trial_id id);           the point of a new trial; nothing when there is none left
///     void tried(trial_id id, const point& where);         optional: trial `id` runs at `where`, suggested or not
///
/// Both are called with ids 0, 1, 2, ... once each; suggest is left out where the user or a stored study gave the point.
template <class S>
concept searcher_state = requires(S& s, trial_id id) {
  { s.suggest(id) } -> std::same_as<std::optional<point>>;
};

/// What a user names: options, from which each study makes a state of its own.
template <class S>
concept searcher = requires(const S& s, const study_settings& settings) {
  { s.start(settings) } -> searcher_state;
  { s.describe() } -> std::convertible_to<std::string>;  // for the comparison of a stored study with this one
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/scheduler.hpp ----
#ifndef CADRE_TUNE_SCHEDULER_HPP
#define CADRE_TUNE_SCHEDULER_HPP

#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// What becomes of a trial after a report.
enum class decision : std::uint8_t {
  go_on,  ///< train on
  pause,  ///< save a checkpoint and return; may be promoted later
  stop,   ///< return, for good: others are better
  finish  ///< return: there is nothing more to do
};

[[nodiscard]] constexpr std::string_view to_string(decision d) noexcept {
  constexpr std::string_view names[] = {"go_on", "pause", "stop", "finish"};
  return names[static_cast<std::size_t>(d)];
}

/// Time without an end.
inline constexpr double unlimited = std::numeric_limits<double>::infinity();

/// Decides which trials go on. One thread at a time calls it; the same calls in the same order give the same answers.
///
///     void admit(trial_id id);                                    a new trial; ids come as 0, 1, 2, ...
///     decision report(trial_id id, double t, double value);       a trial has reached t, any value
///     std::optional<trial_id> promote();                          a paused trial to go on with, which then runs again
///     void crashed(trial_id id);                                  a running trial has failed
///     double run_until(trial_id id) const;                        the t at which a decision other than go_on is due
///     double max_t() const;                                       the t beyond which no trial runs
template <class S>
concept scheduler_state = requires(S& s, const S& c, trial_id id, double x) {
  s.admit(id);
  { s.report(id, x, x) } -> std::same_as<decision>;
  { s.promote() } -> std::same_as<std::optional<trial_id>>;
  s.crashed(id);
  { c.run_until(id) } -> std::same_as<double>;
  { c.max_t() } -> std::same_as<double>;
};

/// What a user names: options, from which each study makes a state of its own.
template <class S>
concept scheduler = requires(const S& s, const study_settings& settings) {
  { s.start(settings) } -> scheduler_state;
  { s.describe() } -> std::convertible_to<std::string>;
};

namespace detail {
struct fifo_state {
  void admit(trial_id) {}
  [[nodiscard]] decision report(trial_id, double, double) { return decision::go_on; }
  [[nodiscard]] std::optional<trial_id> promote() { return std::nullopt; }
  void crashed(trial_id) {}
  [[nodiscard]] double run_until(trial_id) const { return unlimited; }
  [[nodiscard]] double max_t() const { return unlimited; }
};
}  // namespace detail

/// Every trial runs until its function returns or a stop condition holds.
struct fifo {
  [[nodiscard]] detail::fifo_state start(const study_settings&) const { return {}; }
  [[nodiscard]] std::string describe() const { return "fifo"; }
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/asha.hpp ----
#ifndef CADRE_TUNE_ASHA_HPP
#define CADRE_TUNE_ASHA_HPP

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

enum class asha_type : std::uint8_t {
  promotion,  ///< a trial pauses at each rung and goes on when it is among the best there: the paper's Algorithm 2
  stopping    ///< a trial goes on at each rung unless others are better there: nothing is paused, no checkpoint needed
};
inline constexpr asha_type promotion = asha_type::promotion;
inline constexpr asha_type stopping = asha_type::stopping;

namespace detail {
template <class Settings, class Id = trial_id>
class asha_state;
}

/// Asynchronous successive halving (Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020).
///
/// Rungs stand at grace_period * reduction_factor^k below max_t, and at max_t. A trial's first report at or beyond a
/// milestone is its entry in that rung, and in that one only: rungs that it jumped over do not know it. NaN, infinities
/// and crashes are entries worse than every number; they count and never go on. Equal values: the lower trial is better.
///
/// Promotion: a free worker goes on with the best trial that is among the floor(n / reduction_factor) best of the n
/// entries of a rung (promoted ones included) and was not promoted yet, from the highest rung down; if there is none, a
/// new trial begins. Stopping: at a rung a trial goes on if its value is as good as that of number
/// max(1, floor(n / reduction_factor)) of the n entries, its own included.
///
/// Bracket s leaves the lowest s rungs out. With several, each trial is put into one by a draw from the seed, in which
/// a bracket weighs e^(number of its rungs).
struct asha {
  std::int64_t max_t = 100;
  std::int64_t grace_period = 1;
  std::int64_t reduction_factor = 4;
  std::int64_t brackets = 1;
  asha_type type = promotion;

  /// Throws bad_option (905).
  template <class Settings>
  [[nodiscard]] detail::asha_state<Settings> start(const Settings& settings) const {
    return {*this, settings};
  }
  [[nodiscard]] std::string describe() const {
    return "asha(max_t " + std::to_string(max_t) + ", grace_period " + std::to_string(grace_period) +
           ", reduction_factor " + std::to_string(reduction_factor) + ", brackets " + std::to_string(brackets) +
           (type == promotion ? ", promotion)" : ", stopping)");
  }
  /// Where the rungs of bracket 0 stand.
  [[nodiscard]] std::vector<std::int64_t> milestones() const {
    std::vector<std::int64_t> result;
    for (std::int64_t r = grace_period; r < max_t; r *= reduction_factor) {
      result.push_back(r);
      if (r < 1 || reduction_factor < 2 || r > max_t / reduction_factor)
        break;  // the next one would lie beyond, or overflow
    }
    result.push_back(max_t);
    return result;
  }
};

namespace detail {

/// The rungs of every bracket and where each trial stands. O(log n) per report and promotion. A template so that only
/// those who tune pay to compile it.
template <class Settings, class Id>
class asha_state {
 public:
  asha_state(const asha& options, const Settings& settings)
      : type_(options.type), mode_(settings.mode), seed_(settings.seed) {
    const auto check = [](bool fine, const char* what, std::int64_t given, const std::string& must) {
      if (!fine)
        throw bad_option("asha: ." + std::string(what) + " = " + std::to_string(given) + "; it must be " + must);
    };
    check(options.grace_period >= 1, "grace_period", options.grace_period, "at least 1");
    check(options.max_t >= options.grace_period, "max_t", options.max_t,
          "at least .grace_period, " + std::to_string(options.grace_period));
    check(options.reduction_factor >= 2, "reduction_factor", options.reduction_factor, "at least 2");
    milestones_ = options.milestones();
    check(options.brackets >= 1 && options.brackets <= static_cast<std::int64_t>(milestones_.size()), "brackets",
          options.brackets, "between 1 and the number of rungs, " + std::to_string(milestones_.size()));
    const std::size_t least = type_ == stopping ? 1 : 0;
    for (std::int64_t s = 0; s < options.brackets; ++s)
      brackets_.emplace_back(milestones_.size(), rung(static_cast<std::size_t>(options.reduction_factor), least));
  }

  void admit(Id id) {
    if (trials_.size() <= id) trials_.resize(id + 1);
    trials_[id].bracket = draw_bracket(id);
    trials_[id].next = trials_[id].bracket;
  }

  [[nodiscard]] decision report(Id id, double t, double value) {
    place& p = trials_[id];
    std::size_t reached = 0;  // rungs at or below t
    while (reached < milestones_.size() && static_cast<double>(milestones_[reached]) <= t) ++reached;
    const bool at_the_top = reached == milestones_.size();
    if (reached <= p.next) return at_the_top && p.next == reached ? decision::finish : decision::go_on;
    const double score = score_of(value);
    rung& r = brackets_[p.bracket][reached - 1];
    r.insert(score, id);
    p.next = reached;
    if (at_the_top) return decision::finish;
    if (score == rung::worst) return decision::stop;
    if (type_ == promotion) return decision::pause;
    return score <= r.cutoff() ? decision::go_on : decision::stop;
  }

  [[nodiscard]] std::optional<Id> promote() {
    if (type_ == stopping) return std::nullopt;
    for (std::size_t k = milestones_.size() - 1; k-- > 0;)
      for (std::vector<rung>& bracket : brackets_)
        if (const std::optional<Id> id = bracket[k].take()) return id;
    return std::nullopt;
  }

  void crashed(Id id) {
    place& p = trials_[id];
    if (p.next < milestones_.size()) brackets_[p.bracket][p.next++].insert(rung::worst, id);
  }

  [[nodiscard]] double run_until(Id id) const {
    return static_cast<double>(milestones_[std::min(trials_[id].next, milestones_.size() - 1)]);
  }
  [[nodiscard]] double max_t() const { return static_cast<double>(milestones_.back()); }

 private:
  using rung = detail::rung<Id>;

  struct place {
    std::size_t bracket = 0;
    std::size_t next = 0;  // the lowest rung in which the trial may still get an entry
  };

  [[nodiscard]] double score_of(double value) const {
    if (!std::isfinite(value)) return rung::worst;
    return mode_ == minimize ? value : -value;
  }

  [[nodiscard]] std::size_t draw_bracket(Id id) const {
    if (brackets_.size() == 1) return 0;
    double sum = 0;
    for (std::size_t s = 0; s < brackets_.size(); ++s) sum += std::exp(-static_cast<double>(s));
    double left = random_stream(seed_, "asha bracket", id).uniform() * sum;
    for (std::size_t s = 0; s + 1 < brackets_.size(); ++s)
      if ((left -= std::exp(-static_cast<double>(s))) < 0) return s;
    return brackets_.size() - 1;
  }

  asha_type type_;
  direction mode_;
  std::uint64_t seed_;
  std::vector<std::int64_t> milestones_;
  std::vector<std::vector<rung>> brackets_;  // [bracket][milestone]; the lowest `bracket` rungs stay empty
  std::vector<place> trials_;
};

}  // namespace detail

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/distribution.hpp ----
#ifndef CADRE_TUNE_DISTRIBUTION_HPP
#define CADRE_TUNE_DISTRIBUTION_HPP

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// Real numbers, for members of type double or float.
struct real_distribution {
  domain values;
  bool quantized = false;
};

/// Integers, for members of an integer type. Bounds are exact up to 2^53.
struct integer_distribution {
  domain values;
};

/// One of some values, with names to show if they were given.
template <class T>
struct choice_distribution {
  std::vector<T> values;
  std::vector<std::string> names;
};

// What makes no sense (bounds in the wrong order, a logarithm of 0, ...) is reported by space::add(), which knows the
// parameter's name.

/// Uniform between `low` and `high`.
[[nodiscard]] inline real_distribution uniform(double low, double high) {
  return {{domain_kind::real, low, high, 0, false}};
}
/// One of low, low + q, low + 2q, ... up to `high`, each as likely; drawn as an index, so that no rounding error adds up.
[[nodiscard]] inline real_distribution quniform(double low, double high, double q) {
  return {{domain_kind::real, low, high, q, false}, true};
}
/// Uniform in the logarithm; 0 < low.
[[nodiscard]] inline real_distribution loguniform(double low, double high) {
  return {{domain_kind::real, low, high, 0, true}};
}
/// One of low, low + q, ... up to `high`; the logarithm of a cell of width q around each says how likely it is. q < 2 low.
[[nodiscard]] inline real_distribution qloguniform(double low, double high, double q) {
  return {{domain_kind::real, low, high, q, true}, true};
}
/// Normally distributed.
[[nodiscard]] inline real_distribution randn(double mean = 0, double deviation = 1) {
  return {{domain_kind::normal, mean, deviation, 0, false}};
}
/// An integer between `low` and `high`, both included.
template <std::integral A, std::integral B>
[[nodiscard]] integer_distribution randint(A low, B high) {
  return {{domain_kind::integer, static_cast<double>(low), static_cast<double>(high), 1, false}};
}
/// One of low, low + q, low + 2q, ... up to `high`, itself included if it is one of them.
template <std::integral A, std::integral B, std::integral Q>
[[nodiscard]] integer_distribution qrandint(A low, B high, Q q) {
  return {{domain_kind::integer, static_cast<double>(low), static_cast<double>(high), static_cast<double>(q), false}};
}
/// An integer between `low` and `high`, both included, small ones as likely as their logarithms say; 0 < low.
template <std::integral A, std::integral B>
[[nodiscard]] integer_distribution lograndint(A low, B high) {
  return {{domain_kind::integer, static_cast<double>(low), static_cast<double>(high), 1, true}};
}
/// One of the values, each as likely.
template <class T>
[[nodiscard]] choice_distribution<T> choice(std::initializer_list<T> values) {
  return {values, {}};
}
template <class T>
[[nodiscard]] choice_distribution<T> choice(std::vector<T> values) {
  return {std::move(values), {}};
}
/// The same with the names to show, one for each: `choice({opt::sgd, opt::adam}, {"sgd", "adam"})`.
template <class T>
[[nodiscard]] choice_distribution<T> choice(std::initializer_list<T> values,
                                            std::initializer_list<std::string_view> names) {
  return {values, std::vector<std::string>(names.begin(), names.end())};
}

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/grid_search.hpp ----
#ifndef CADRE_TUNE_GRID_SEARCH_HPP
#define CADRE_TUNE_GRID_SEARCH_HPP

#include <string>
#include <unordered_set>

CADRE_NAMESPACE_BEGIN
namespace tune {

namespace detail {

template <class Settings>
class grid_search_state {
 public:
  explicit grid_search_state(const Settings& settings) : domains_(settings.domains) {
    for (std::size_t i = 0; i < domains_.size(); ++i)
      if (domains_[i].count() == 0)
        throw infinite_grid("grid_search needs finitely many values of each parameter; '" + settings.names[i] +
                            "' is " + domains_[i].text() + ": use choice or a q distribution, or random_search");
    const auto points = count_points(domains_);
    if (!points) throw infinite_grid("grid_search: the space has 2^64 points or more; use random_search");
    points_ = *points;
  }

  [[nodiscard]] std::optional<point> suggest(trial_id) {
    while (next_ < points_ && taken_.contains(next_)) ++next_;
    if (next_ == points_) return std::nullopt;
    return point_of_index(domains_, next_);
  }

  void tried(trial_id, const point& where) { taken_.insert(index_of_point(domains_, where)); }

 private:
  std::vector<domain> domains_;
  std::uint64_t points_ = 0;
  std::uint64_t next_ = 0;
  std::unordered_set<std::uint64_t> taken_;
};

}  // namespace detail

/// All points of a finite space, each once, the last parameter changing fastest; ends when there are no more.
struct grid_search {
  /// Throws infinite_grid (904).
  template <class Settings>
  [[nodiscard]] detail::grid_search_state<Settings> start(const Settings& settings) const {
    return detail::grid_search_state<Settings>(settings);
  }
  [[nodiscard]] std::string describe() const { return "grid_search"; }
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/random_search.hpp ----
#ifndef CADRE_TUNE_RANDOM_SEARCH_HPP
#define CADRE_TUNE_RANDOM_SEARCH_HPP

#include <string>
#include <unordered_set>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace tune {

namespace detail {

template <class Settings>
class random_search_state {
 public:
  explicit random_search_state(const Settings& settings)
      : domains_(settings.domains), names_(settings.names), seed_(settings.seed), points_(count_points(domains_)) {}

  [[nodiscard]] std::optional<point> suggest(trial_id id) const {
    if (!points_) return draw(id, 0);
    if (taken_.size() >= *points_) return std::nullopt;
    for (std::uint64_t attempt = 0; attempt < 64; ++attempt) {
      point where = draw(id, attempt);
      if (!taken_.contains(index_of_point(domains_, where))) return where;
    }
    // Few are left: the next free one after a random place.
    std::uint64_t index = random_stream(seed_, "random_search", id).below(*points_);
    while (taken_.contains(index)) index = index + 1 == *points_ ? 0 : index + 1;
    return point_of_index(domains_, index);
  }

  void tried(trial_id, const point& where) {
    if (points_) taken_.insert(index_of_point(domains_, where));
  }

 private:
  [[nodiscard]] point draw(trial_id id, std::uint64_t attempt) const {
    point where(domains_.size());
    for (std::size_t i = 0; i < where.size(); ++i) {
      random_stream random(seed_, id, names_[i], attempt);
      where[i] = domains_[i].draw(random);
    }
    return where;
  }

  std::vector<domain> domains_;
  std::vector<std::string> names_;
  std::uint64_t seed_;
  std::optional<std::uint64_t> points_;
  std::unordered_set<std::uint64_t> taken_;  // of a finite space only
};

}  // namespace detail

/// Draws each parameter by itself, keyed by seed, trial and the parameter's name: a trial has the same configuration
/// whoever asks when, and a parameter that is added leaves the others as they were. A finite space gives no point
/// twice and is exhausted after all of them (there a point also depends on those of the trials before).
struct random_search {
  template <class Settings>
  [[nodiscard]] detail::random_search_state<Settings> start(const Settings& settings) const {
    return detail::random_search_state<Settings>(settings);
  }
  [[nodiscard]] std::string describe() const { return "random_search"; }
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/trial_state.hpp ----
#ifndef CADRE_TUNE_TRIAL_STATE_HPP
#define CADRE_TUNE_TRIAL_STATE_HPP

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

CADRE_NAMESPACE_BEGIN
namespace tune {

enum class trial_state : std::uint8_t {
  running,
  paused,       ///< at a rung, may be promoted
  interrupted,  ///< cancelled, out of time, or its process died: goes on when the study is resumed
  finished,     ///< its function returned by itself, or max_t or a stop condition was reached
  stopped,      ///< others were better
  failed        ///< its function threw, or never reported the metric
};

[[nodiscard]] constexpr std::string_view to_string(trial_state s) noexcept {
  constexpr std::string_view names[] = {"running", "paused", "interrupted", "finished", "stopped", "failed"};
  return names[static_cast<std::size_t>(s)];
}

/// What a study knows of a trial.
struct trial_history {
  point where = {};
  trial_state state = trial_state::running;
  metric_map metrics = {};                                 ///< of the last report
  metric_map best_metrics = {};                            ///< of the report with the best value of the tuned metric
  double last = std::numeric_limits<double>::quiet_NaN();  ///< the tuned metric when last reported
  double best = std::numeric_limits<double>::quiet_NaN();  ///< its best number; NaN if there was none
  double t = 0;                                            ///< of the last report
  std::size_t reports = 0;
  bool metric_seen = false;
  double seconds = 0;      ///< of running time
  std::string error = {};  ///< why it failed
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/stop_condition.hpp ----
#ifndef CADRE_TUNE_STOP_CONDITION_HPP
#define CADRE_TUNE_STOP_CONDITION_HPP

#include <algorithm>
#include <cstdint>
#include <limits>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// When to stop beside what the scheduler decides: whichever part of `a || b` comes first.
struct stop_condition {
  /// A trial is finished at its first report at or beyond this t.
  std::int64_t iterations = std::numeric_limits<std::int64_t>::max();
  /// After this time since the start of run() no trial begins, and each running one is interrupted at its next report.
  /// A stored study can then be resumed.
  std::chrono::nanoseconds time = std::chrono::nanoseconds::max();

  friend stop_condition operator||(const stop_condition& a, const stop_condition& b) {
    return {std::min(a.iterations, b.iterations), std::min(a.time, b.time)};
  }
};

/// Every trial is finished after n reports (at t >= n, where another time attribute is named).
[[nodiscard]] inline stop_condition max_iterations(std::int64_t n) { return {.iterations = n}; }

/// The tuning ends after this time. What it then has done depends on the machine's speed.
[[nodiscard]] inline stop_condition time_budget(std::chrono::nanoseconds time) { return {.time = time}; }

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/tuner_options.hpp ----
#ifndef CADRE_TUNE_TUNER_OPTIONS_HPP
#define CADRE_TUNE_TUNER_OPTIONS_HPP

#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// By which value of a trial it is ranked in the results.
enum class result_scope : std::uint8_t {
  best_report,  ///< the best that it ever reported
  last_report   ///< the last, NaN and infinities being worst
};

struct tuner_options {
  std::string metric = {};  ///< the name of what is tuned; needed
  direction mode = minimize;
  std::size_t trials = 0;          ///< how many are started at most; at least 1 is needed
  std::size_t max_concurrent = 0;  ///< how many run at once at most; 0: as many as the pool has threads
  std::uint64_t seed = 0;
  std::string storage = {};  ///< a folder for journal, checkpoints, tables; empty: nothing is written
  stop_condition stop = {};
  bool resume = false;    ///< go on with the study in .storage, if there is one
  bool progress = false;  ///< show a line per running trial on stderr
  /// Decisions depend on seed and max_concurrent alone, not on how fast trials are. A report may then wait for other
  /// trials, and the pool must have max_concurrent threads free at once.
  bool deterministic = false;
  std::string time_attribute = {};  ///< the metric that says how far a trial is; empty: the number of its reports
  result_scope scope = result_scope::best_report;
  /// With storage, a trial that goes on saves a checkpoint at most this often; 0s: at every report that has a saver.
  std::chrono::nanoseconds checkpoint_period = std::chrono::seconds(10);
  std::stop_token cancel = {};  ///< when it is requested, trials are interrupted at their next report
  /// How long a deterministic tuning waits for its threads before it throws too_few_threads (908).
  std::chrono::nanoseconds thread_timeout = std::chrono::seconds(30);
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/results.hpp ----
#ifndef CADRE_TUNE_RESULTS_HPP
#define CADRE_TUNE_RESULTS_HPP

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// What became of one trial.
template <class Config>
struct trial_result {
  trial_id id = 0;
  Config config;
  record parameters = {};  ///< names and values, to be shown
  trial_state state = trial_state::running;
  metric_map metrics = {};                                 ///< of the last report
  metric_map best_metrics = {};                            ///< of the report with the best value of the tuned metric
  double last = std::numeric_limits<double>::quiet_NaN();  ///< the tuned metric, last reported
  double best = std::numeric_limits<double>::quiet_NaN();  ///< its best number; NaN if there was none
  double t = 0;                                            ///< how far it came
  std::size_t reports = 0;
  double seconds = 0;                 ///< of running time
  std::string error = {};             ///< why it failed
  std::exception_ptr exception = {};  ///< what it threw; null if that was in a process before this one
};

/// A trial that failed.
struct trial_error {
  trial_id id;
  std::string text;
  std::exception_ptr exception;  ///< null if it was thrown in a process before this one
};

/// The trials of a tuning, by number.
template <class Config>
class results {
 public:
  results(std::vector<trial_result<Config>> trials, std::string metric, direction mode, result_scope scope)
      : trials_(std::move(trials)), metric_(std::move(metric)), mode_(mode), scope_(scope) {
    for (const trial_result<Config>& t : trials_)
      if (t.state == trial_state::failed) errors_.push_back({t.id, t.error, t.exception});
  }

  [[nodiscard]] std::size_t size() const noexcept { return trials_.size(); }
  [[nodiscard]] bool empty() const noexcept { return trials_.empty(); }
  [[nodiscard]] auto begin() const noexcept { return trials_.begin(); }
  [[nodiscard]] auto end() const noexcept { return trials_.end(); }
  [[nodiscard]] const trial_result<Config>& operator[](trial_id id) const noexcept { return trials_[id]; }

  /// The best trial that did not fail, by the scope of the tuner's options; the lowest of equals. Its `metrics` are
  /// those of its last report, its `best_metrics` those of its best. Throws no_best_trial (912).
  [[nodiscard]] const trial_result<Config>& best() const { return best(scope_); }
  [[nodiscard]] const trial_result<Config>& best(result_scope scope) const {
    const trial_result<Config>* found = nullptr;
    for (const trial_result<Config>& t : trials_) {
      const double value = value_of(t, scope);
      if (t.state != trial_state::failed && std::isfinite(value) &&
          (!found || better(mode_, value, value_of(*found, scope))))
        found = &t;
    }
    if (!found)
      throw no_best_trial("none of " + std::to_string(trials_.size()) + " trials has a number for '" + metric_ + "'; " +
                          std::to_string(errors_.size()) + " failed" +
                          (errors_.empty()
                               ? std::string()
                               : ", trial " + std::to_string(errors_.front().id) + " with: " + errors_.front().text));
    return *found;
  }

  /// What failed trials threw, by trial.
  [[nodiscard]] const std::vector<trial_error>& errors() const noexcept { return errors_; }

  /// A row per trial, by number: trial, state, t, reports, seconds, the parameters, the metrics last reported, the best
  /// value, the error. All rows have the same fields, metrics that a trial did not report being NaN.
  [[nodiscard]] std::vector<record> rows() const {
    metric_map names;
    for (const trial_result<Config>& t : trials_)
      for (const metric& m : t.metrics) names.set(m.name, std::numeric_limits<double>::quiet_NaN());
    std::vector<record> result;
    for (const trial_result<Config>& t : trials_) {
      record row{
          {"trial", t.id}, {"state", to_string(t.state)}, {"t", t.t}, {"reports", t.reports}, {"seconds", t.seconds}};
      // A parameter or metric may bear the name of another column.
      const auto add = [&row](const std::string& prefix, const std::string& name, const record_value& value) {
        row.set(row.contains(name) ? prefix + name : name, value);
      };
      for (const auto& field : t.parameters) add("parameter_", field.name, field.value);
      for (const metric& m : names) {
        const double* value = t.metrics.find(m.name);
        add("metric_", m.name, value ? *value : m.value);
      }
      add("tuner_", "best_" + metric_, t.best);
      add("tuner_", "error", t.error);
      result.push_back(std::move(row));
    }
    return result;
  }

  /// The same as text for a person, the best first and the failed last.
  [[nodiscard]] std::string table(table_options options = {}) const {
    std::vector<record> all = rows();
    std::vector<const trial_result<Config>*> order;
    for (const trial_result<Config>& t : trials_) order.push_back(&t);
    const auto rank = [this](const trial_result<Config>& t) {
      const double value = value_of(t, scope_);
      return t.state == trial_state::failed || !std::isfinite(value) ? std::numeric_limits<double>::quiet_NaN() : value;
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](const auto* a, const auto* b) { return better(mode_, rank(*a), rank(*b)); });
    std::vector<record> sorted;
    for (const trial_result<Config>* t : order) sorted.push_back(std::move(all[t->id]));
    return format_table({sorted.data(), sorted.size()}, options);
  }

 private:
  [[nodiscard]] static double value_of(const trial_result<Config>& t, result_scope scope) noexcept {
    return scope == result_scope::best_report ? t.best : t.last;
  }

  std::vector<trial_result<Config>> trials_;
  std::vector<trial_error> errors_;
  std::string metric_;
  direction mode_;
  result_scope scope_;
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/detail/space_core.hpp ----
#ifndef CADRE_TUNE_DETAIL_SPACE_CORE_HPP
#define CADRE_TUNE_DETAIL_SPACE_CORE_HPP

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

inline std::string text_of(const record_value& value) {
  if (const auto* s = std::get_if<std::string>(&value)) return *s;
  if (const auto* n = std::get_if<std::int64_t>(&value)) return std::to_string(*n);
  if (const auto* b = std::get_if<bool>(&value)) return *b ? "true" : "false";
  return number_text(std::get<double>(value));
}

/// How a parameter's values are shown.
class parameter_text {
 public:
  virtual ~parameter_text() = default;
  [[nodiscard]] virtual record_value show(double value) const = 0;
};

/// What a space is without the struct that it fills. Apart, so that it is compiled once however many structs there are.
class space_core {
 public:
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }
  [[nodiscard]] const std::vector<domain>& domains() const noexcept { return domains_; }

  [[nodiscard]] record show(const point& where) const {
    record shown;
    for (std::size_t i = 0; i < texts_.size(); ++i) shown.set(names_[i], texts_[i]->show(where[i]));
    return shown;
  }

  [[nodiscard]] std::string describe(std::size_t i) const {
    const domain& d = domains_[i];
    if (d.kind != domain_kind::categorical) return d.text();
    std::string text = "choice(";
    for (std::uint64_t index = 0; index < d.count(); ++index)
      text += (index == 0 ? "" : ", ") + text_of(texts_[i]->show(d.at(index)));
    return text + ")";
  }

  /// The value of parameter i nearest to what a member holds (nothing: no value of a choice). Throws point_outside_space (903).
  [[nodiscard]] double encode(std::size_t i, std::optional<double> held) const {
    if (!held) throw point_outside_space("parameter '" + names_[i] + "': the value is none of " + describe(i));
    const domain& d = domains_[i];
    double value = *held;
    const double slack =
        1e-6 * std::abs(value);  // a float that was rounded past a bound or off a step is meant to be there
    if (d.kind == domain_kind::real && value > d.low - slack && value < d.high + slack)
      value = std::clamp(value, d.low, d.high);
    if (d.step != 0 && value >= d.low && value <= d.high) {
      const double near = d.at(d.index_of(value));
      if (std::abs(near - value) <= slack) value = near;
    }
    if (!d.contains(value))
      throw point_outside_space("parameter '" + names_[i] + "': " + number_text(*held) + " is not in " + d.text());
    return value;
  }

  // What follows throws bad_distribution (901), and add() duplicate_parameter (902).

  static void check_real(std::string_view name, const domain& d, bool quantized, double largest) {
    check(name, d, quantized);
    if (d.low < -largest || d.low > largest || d.high > largest)
      bad(name, d.text() + " does not fit the member, a float");
  }

  static void check_integer(std::string_view name, const domain& d, std::int64_t least, std::uint64_t largest) {
    check(name, d, true);
    if (std::abs(d.low) > 0x1p53 || std::abs(d.high) > 0x1p53)
      bad(name, d.text() + " has a bound beyond 2^53, up to which integers are exact");
    const auto fits = [&](double bound) {
      const auto n = static_cast<std::int64_t>(bound);
      return n >= least && (n < 0 || static_cast<std::uint64_t>(n) <= largest);
    };
    if (!fits(d.low) || !fits(d.high))
      bad(name, d.text() + " does not fit the member, whose type holds " + std::to_string(least) + " to " +
                    std::to_string(largest));
  }

  static void check_choice(std::string_view name, std::size_t values, std::size_t names) {
    if (values == 0) bad(name, "choice has no values; give at least one");
    if (names != 0 && names != values)
      bad(name, "choice has " + std::to_string(values) + " values and " + std::to_string(names) +
                    " names; give each value one name");
  }

  [[noreturn]] static void bad(std::string_view name, const std::string& why) {
    throw bad_distribution("parameter '" + std::string(name) + "': " + why);
  }

  template <class Text>
  void add(std::string_view name, const auto& domain, std::shared_ptr<const Text> text) {
    if (std::find(names_.begin(), names_.end(), name) != names_.end())
      throw duplicate_parameter("the space already has a parameter '" + std::string(name) + "'; names must be unique");
    names_.emplace_back(name);
    domains_.push_back(domain);
    texts_.push_back(std::move(text));
  }

 private:
  static void check(std::string_view name, const domain& d, bool quantized) {
    const auto require = [&](bool fine, const char* otherwise) {
      if (!fine) bad(name, d.text() + otherwise);
    };
    require(std::isfinite(d.low) && std::isfinite(d.high) && std::isfinite(d.step),
            " has a bound that is no finite number");
    if (d.kind == domain_kind::normal) {
      require(d.high > 0, " needs a deviation above 0");
      return;
    }
    require(d.low <= d.high, " has its lower bound above the upper one; swap them");
    require(!quantized || d.step > 0, " needs a step above 0");
    require(!d.logarithmic || d.low > 0, " has a lower bound that is not above 0, where there is no logarithm");
    require(!d.logarithmic || d.step < 2 * d.low || d.low == d.high, " needs a step below twice its lower bound");
    require(d.step == 0 || d.count() != 0, " has more values than can be counted; use a larger step");
  }

  std::vector<std::string> names_;
  std::vector<domain> domains_;
  std::vector<std::shared_ptr<const parameter_text>> texts_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/space.hpp ----
#ifndef CADRE_TUNE_SPACE_HPP
#define CADRE_TUNE_SPACE_HPP

#include <concepts>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

namespace detail {

/// One parameter of a space, bound to a member of Config.
template <class Config>
class parameter : public parameter_text {
 public:
  virtual void assign(Config& config, double value) const = 0;
  /// Nothing if the member holds no value of a choice.
  [[nodiscard]] virtual std::optional<double> read(const Config& config) const = 0;
};

template <class Config, class Owner, class Member>
class numeric_parameter final : public parameter<Config> {
 public:
  explicit numeric_parameter(Member Owner::*member) : member_(member) {}
  void assign(Config& config, double value) const override { config.*member_ = static_cast<Member>(value); }
  [[nodiscard]] std::optional<double> read(const Config& config) const override {
    return static_cast<double>(config.*member_);
  }
  [[nodiscard]] record_value show(double value) const override {
    if constexpr (std::integral<Member>)
      return static_cast<std::int64_t>(value);
    else
      return static_cast<double>(static_cast<Member>(value));
  }

 private:
  Member Owner::*member_;
};

template <class Config, class Owner, class Member>
class choice_parameter final : public parameter<Config> {
 public:
  choice_parameter(Member Owner::*member, std::vector<Member> values, std::vector<std::string> names)
      : member_(member), values_(std::move(values)), names_(std::move(names)) {}
  void assign(Config& config, double value) const override {
    config.*member_ = values_[static_cast<std::size_t>(value)];
  }
  [[nodiscard]] std::optional<double> read(const Config& config) const override {
    for (std::size_t i = 0; i < values_.size(); ++i)
      if (static_cast<const Member&>(values_[i]) == config.*member_) return static_cast<double>(i);
    return std::nullopt;
  }
  [[nodiscard]] record_value show(double value) const override {
    const auto index = static_cast<std::size_t>(value);
    if (!names_.empty()) return names_[index];
    if constexpr (record_cell<Member>)
      return make_record_value<Member>(values_[index]);
    else if constexpr (std::is_enum_v<Member>)
      return make_record_value(static_cast<std::underlying_type_t<Member>>(values_[index]));
    else
      return static_cast<std::int64_t>(index);
  }

 private:
  Member Owner::*member_;
  std::vector<Member> values_;
  std::vector<std::string> names_;
};

/// A value that a choice may put into a member: its own type, a number that cannot lose anything but range (which is
/// checked), or what converts to it by itself (a string literal to std::string).
template <class T, class Member>
concept choosable =
    std::same_as<T, Member> ||
    (std::is_arithmetic_v<T> && std::is_arithmetic_v<Member> && !std::same_as<T, bool> && !std::same_as<Member, bool> &&
     (std::integral<T> || std::floating_point<Member>)) ||
    (!std::is_arithmetic_v<T> && !std::is_arithmetic_v<Member> && std::convertible_to<const T&, Member>);

}  // namespace detail

/// The parameters to be tuned, each a member of the user's plain struct:
///
///     auto s = tune::space<config>()
///         .add("lr", &config::lr, tune::loguniform(1e-5, 1e-1))
///         .add("width", &config::width, tune::lograndint(16, 1024))
///         .add("opt", &config::o, tune::choice({opt::sgd, opt::adam}, {"sgd", "adam"}));
///
/// Members that no parameter names keep the values of the base configuration: `space<config>(base)`. Copies share the
/// parameters. Immutable once built, so any number of threads may use it.
template <class Config>
class space {
 public:
  space() : base_{} {}
  explicit space(Config base) : base_(std::move(base)) {}

  /// Adds a parameter of real numbers. Throws duplicate_parameter (902), bad_distribution (901).
  template <class Owner, class Member>
  space& add(std::string_view name, Member Owner::*member, const real_distribution& distribution) {
    static_assert(
        std::floating_point<Member>,
        "cadre::tune: uniform, quniform, loguniform, qloguniform and randn draw real numbers, so the member must be "
        "double or float; for an integer use randint, qrandint or lograndint, for anything else choice");
    if constexpr (std::floating_point<Member>) {
      detail::space_core::check_real(name, distribution.values, distribution.quantized,
                                     static_cast<double>(std::numeric_limits<Member>::max()));
      insert<Owner>(name, distribution.values,
                    std::make_shared<detail::numeric_parameter<Config, Owner, Member>>(member));
    }
    return *this;
  }

  /// Adds a parameter of integers. Throws duplicate_parameter (902), bad_distribution (901).
  template <class Owner, class Member>
  space& add(std::string_view name, Member Owner::*member, const integer_distribution& distribution) {
    constexpr bool fits = std::integral<Member> && !std::same_as<Member, bool>;
    static_assert(
        fits,
        "cadre::tune: randint, qrandint and lograndint draw integers, so the member must be of an integer type; for "
        "double or float use uniform or quniform, for bool or an enum choice");
    if constexpr (fits) {
      using limits = std::numeric_limits<Member>;
      detail::space_core::check_integer(name, distribution.values, static_cast<std::int64_t>(limits::min()),
                                        static_cast<std::uint64_t>(limits::max()));
      insert<Owner>(name, distribution.values,
                    std::make_shared<detail::numeric_parameter<Config, Owner, Member>>(member));
    }
    return *this;
  }

  /// Adds a parameter that is one of some values. Throws duplicate_parameter (902), bad_distribution (901).
  template <class Owner, class Member, class T>
  space& add(std::string_view name, Member Owner::*member, const choice_distribution<T>& distribution) {
    static_assert(detail::choosable<T, Member>,
                  "cadre::tune: the values of this choice do not fit the member's type: give values of that very type");
    if constexpr (detail::choosable<T, Member>) {
      const std::size_t n = distribution.values.size();
      detail::space_core::check_choice(name, n, distribution.names.size());
      std::vector<Member> values;
      for (const auto& value : distribution.values) {
        if constexpr (std::integral<T> && std::integral<Member> && !std::same_as<T, Member>)
          if (!std::in_range<Member>(value))
            detail::space_core::bad(name, "the choice " + std::to_string(value) + " does not fit the member's type");
        values.push_back(static_cast<Member>(value));
      }
      insert<Owner>(name, {domain_kind::categorical, 0, static_cast<double>(n - 1), 1, false},
                    std::make_shared<detail::choice_parameter<Config, Owner, Member>>(member, std::move(values),
                                                                                      distribution.names));
    }
    return *this;
  }

  /// Parameters.
  [[nodiscard]] std::size_t size() const noexcept { return parameters_.size(); }
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return core_.names(); }
  [[nodiscard]] const std::vector<domain>& domains() const noexcept { return core_.domains(); }
  /// How many configurations there are, if that is a number below 2^64.
  [[nodiscard]] std::optional<std::uint64_t> points() const { return count_points(core_.domains()); }
  [[nodiscard]] const Config& base() const noexcept { return base_; }

  /// The configuration that a point stands for.
  [[nodiscard]] Config decode(const point& where) const {
    Config config = base_;
    for (std::size_t i = 0; i < parameters_.size(); ++i) parameters_[i]->assign(config, where[i]);
    return config;
  }

  /// The point that a configuration is; members that are no parameters do not count. Throws point_outside_space (903).
  [[nodiscard]] point encode(const Config& config) const {
    point where(parameters_.size());
    for (std::size_t i = 0; i < parameters_.size(); ++i) where[i] = core_.encode(i, parameters_[i]->read(config));
    return where;
  }

  /// Names and values, to be shown. A choice shows the name it was given, else the value, an enumerator its number.
  [[nodiscard]] record show(const point& where) const { return core_.show(where); }

  /// The distribution of parameter i as text.
  [[nodiscard]] std::string describe(std::size_t i) const { return core_.describe(i); }

  /// For studies.
  [[nodiscard]] const detail::space_core& core() const noexcept { return core_; }

 private:
  template <class Owner>
  void insert(std::string_view name, const domain& d, std::shared_ptr<const detail::parameter<Config>> p) {
    static_assert(std::derived_from<Config, Owner>, "cadre::tune: the member belongs to another struct than the space");
    core_.add(name, d, p);
    parameters_.push_back(std::move(p));
  }

  Config base_;
  detail::space_core core_;
  std::vector<std::shared_ptr<const detail::parameter<Config>>> parameters_;
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/detail/study_log.hpp ----
#ifndef CADRE_TUNE_DETAIL_STUDY_LOG_HPP
#define CADRE_TUNE_DETAIL_STUDY_LOG_HPP

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// What identifies a study, as names and texts: two studies with equal lists make equal decisions.
using study_identity = std::vector<std::pair<std::string, std::string>>;

/// Throws study_differs (910), naming each difference.
inline void check_identity(const study_identity& stored, const study_identity& given, const std::string& path) {
  std::string differences;
  const auto text_of = [](const study_identity& list, const std::string& name) -> const std::string* {
    for (const auto& [key, text] : list)
      if (key == name) return &text;
    return nullptr;
  };
  const auto note = [&differences](const std::string& name, const std::string* was, const std::string* is) {
    differences += "; " + name + " was " + (was ? *was : "absent") + ", is " + (is ? *is : "absent");
  };
  for (const auto& [name, text] : stored)
    if (const std::string* now = text_of(given, name); !now || *now != text) note(name, &text, now);
  for (const auto& [name, text] : given)
    if (!text_of(stored, name)) note(name, nullptr, &text);
  if (differences.empty() && stored != given) differences = "; the order of the parameters has changed";
  if (!differences.empty())
    throw study_differs("the study in '" + path + "' was made with other settings" + differences +
                        "; use the old settings, or another .storage");
}

/// The journal of a study: what was asked, reported and ended, in order. Kinds and fields never change their meaning;
/// new kinds get new numbers. A template so that only those who tune pay to compile it.
template <class Journal = journal>
class study_log {
 public:
  enum class kind : std::uint8_t { identity = 0, start = 1, resume = 2, report = 3, end = 4 };

  void open(const std::string& path, auto&& each) {
    journal_.emplace(Journal::open(path, {.sync = journal_sync::on_request}, each));
  }
  [[nodiscard]] bool is_open() const noexcept { return journal_.has_value(); }
  [[nodiscard]] bool empty() const noexcept { return !journal_ || journal_->size() == 0; }
  void sync() {
    if (journal_) journal_->sync();
  }

  void identity(const study_identity& settings) { append(kind::identity, settings); }
  void start(trial_id id, const point& where) { append(kind::start, std::uint64_t{id}, where); }
  void resume(trial_id id) { append(kind::resume, std::uint64_t{id}); }
  void report(trial_id id, double t, const metric_map& metrics, decision d) {
    if (!journal_) return;
    std::vector<std::string> names;
    std::vector<double> values;
    for (const metric& m : metrics) {
      names.push_back(m.name);
      values.push_back(m.value);
    }
    append(kind::report, std::uint64_t{id}, t, names, values, static_cast<std::uint8_t>(d));
  }
  void end(trial_id id, trial_state state, double seconds, const std::string& error) {
    append(kind::end, std::uint64_t{id}, static_cast<std::uint8_t>(state), seconds, error);
  }

 private:
  template <class... Fields>
  void append(kind what, const Fields&... fields) {
    if (journal_) journal_->append(to_bytes(static_cast<std::uint8_t>(what), fields...));
  }

  std::optional<Journal> journal_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/study_options.hpp ----
#ifndef CADRE_TUNE_STUDY_OPTIONS_HPP
#define CADRE_TUNE_STUDY_OPTIONS_HPP

#include <cstddef>
#include <cstdint>
#include <string>

CADRE_NAMESPACE_BEGIN
namespace tune {

struct study_options {
  std::string metric = {};  ///< the name of what is tuned
  direction mode = minimize;
  std::size_t trials = 0;  ///< how many are started at most; at least 1
  std::uint64_t seed = 0;
  stop_condition stop = {};  ///< its time is for who runs the trials
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/detail/study_core.hpp ----
#ifndef CADRE_TUNE_DETAIL_STUDY_CORE_HPP
#define CADRE_TUNE_DETAIL_STUDY_CORE_HPP

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// Searcher and scheduler behind virtual functions, so that a study is compiled once for all of them.
class any_searcher {
 public:
  virtual ~any_searcher() = default;
  virtual std::optional<point> suggest(trial_id id) = 0;
  virtual void tried(trial_id id, const point& where) = 0;
};

template <searcher_state S>
class searcher_model final : public any_searcher {
 public:
  explicit searcher_model(S state) : state_(std::move(state)) {}
  std::optional<point> suggest(trial_id id) override { return state_.suggest(id); }
  void tried([[maybe_unused]] trial_id id, [[maybe_unused]] const point& where) override {
    if constexpr (requires { state_.tried(id, where); }) state_.tried(id, where);
  }

 private:
  S state_;
};

class any_scheduler {
 public:
  virtual ~any_scheduler() = default;
  virtual void admit(trial_id id) = 0;
  virtual decision report(trial_id id, double t, double value) = 0;
  virtual std::optional<trial_id> promote() = 0;
  virtual void crashed(trial_id id) = 0;
  [[nodiscard]] virtual double run_until(trial_id id) const = 0;
  [[nodiscard]] virtual double max_t() const = 0;
};

template <scheduler_state S>
class scheduler_model final : public any_scheduler {
 public:
  explicit scheduler_model(S state) : state_(std::move(state)) {}
  void admit(trial_id id) override { state_.admit(id); }
  decision report(trial_id id, double t, double value) override { return state_.report(id, t, value); }
  std::optional<trial_id> promote() override { return state_.promote(); }
  void crashed(trial_id id) override { state_.crashed(id); }
  [[nodiscard]] double run_until(trial_id id) const override { return state_.run_until(id); }
  [[nodiscard]] double max_t() const override { return state_.max_t(); }

 private:
  S state_;
};

/// An assignment without its configuration.
struct next_run {
  trial_id id = 0;
  bool again = false;
  double reached = 0;
  double run_until = 0;
};

/// A study without the struct that it tunes: see tune::study, whose functions these are. A template so that only those
/// who tune pay to compile it.
template <class Options = study_options, class History = trial_history>
class study_core {
 public:
  using report_visitor = move_only_function<void(trial_id, double, const metric_map&)>;

  template <searcher Searcher, scheduler Scheduler>
  study_core(space_core space, Options options, const Searcher& searcher, const Scheduler& scheduler)
      : study_core(std::move(space), std::move(options)) {
    const study_settings given = settings();
    searcher_ = std::make_unique<searcher_model<decltype(searcher.start(given))>>(searcher.start(given));
    scheduler_ = std::make_unique<scheduler_model<decltype(scheduler.start(given))>>(scheduler.start(given));
    set_identity(searcher.describe(), scheduler.describe());
  }

  void try_first(point where) {
    std::string text;
    for (double x : where) text += (text.empty() ? "" : ", ") + number_text(x);
    identify("point_to_evaluate " + std::to_string(first_.size()), std::move(text));
    first_.push_back(std::move(where));
  }

  void identify(std::string name, std::string text) { identity_.emplace_back(std::move(name), std::move(text)); }

  void store_in(const std::string& path, report_visitor on_report) {
    log_path_ = path;
    log_.open(path, [&](std::span<const std::byte> record) { replay(record, on_report); });
    if (log_.empty()) log_.identity(identity_);
    for (trial_id id = 0; id < trials_.size(); ++id)
      if (trials_[id].state == trial_state::running) set_state(id, trial_state::interrupted);
  }
  void sync() { log_.sync(); }

  [[nodiscard]] std::optional<next_run> ask() {
    if (!interrupted_.empty()) return go_on(*interrupted_.begin());
    while (const std::optional<trial_id> id = scheduler_->promote())
      if (trials_[*id].state == trial_state::paused) return go_on(*id);
    if (trials_.size() >= options_.trials) return std::nullopt;
    const trial_id id = trials_.size();
    std::optional<point> where = id < first_.size() ? std::optional(first_[id]) : searcher_->suggest(id);
    if (!where) return std::nullopt;
    log_.start(id, *where);
    start(id, std::move(*where));
    return next_run{id, false, 0, scheduler_->run_until(id)};
  }

  decision report(trial_id id, double t, const metric_map& metrics) {
    check_running(id, "report");
    if (!(t >= 0))
      throw out_of_order("trial " + std::to_string(id) + " reported t = " + detail::number_text(t) +
                         "; it must be 0 or more");
    const decision d = decide(id, t, metrics);
    log_.report(id, t, metrics, d);
    note(id, t, metrics, d);
    return d;
  }

  void end(trial_id id, trial_state state, double seconds, std::string error) {
    check_known(id, "end");
    History& h = trials_[id];
    if (state != trial_state::finished && state != trial_state::failed && state != trial_state::interrupted)
      throw out_of_order("end of trial " + std::to_string(id) + " as " + std::string(to_string(state)) +
                         "; it must be finished, failed or interrupted");
    if (h.state == trial_state::failed)
      throw out_of_order("end of trial " + std::to_string(id) + ", which has failed already");
    if (h.state == trial_state::running && state == trial_state::finished && !h.metric_seen) {
      state = trial_state::failed;
      error = metric_not_reported(missing_metric(id, h.metrics)).what();
    }
    // What a report has decided stands, unless the function threw on its way out.
    if (h.state != trial_state::running && state != trial_state::failed) state = h.state;
    if (state == trial_state::interrupted) {
      set_state(id, state);
    } else {
      log_.end(id, state, seconds, error);
      finish(id, state, std::move(error));
    }
    h.seconds += seconds;
  }

  [[nodiscard]] std::size_t running() const noexcept { return running_; }
  [[nodiscard]] const std::vector<History>& trials() const noexcept { return trials_; }
  [[nodiscard]] const space_core& space() const noexcept { return space_; }

 private:
  study_core(space_core space, Options options) : space_(std::move(space)), options_(check(std::move(options))) {}

  [[nodiscard]] study_settings settings() const {
    return {space_.domains(), space_.names(), options_.mode, options_.seed};
  }

  static Options check(Options options) {
    if (options.metric.empty())
      throw bad_option(".metric is empty; name the metric that trials report and that is tuned");
    if (options.trials == 0) throw bad_option(".trials = 0; say how many trials to run at most");
    if (options.stop.iterations <= 0)
      throw bad_option("max_iterations(" + std::to_string(options.stop.iterations) + "); it must be at least 1");
    return options;
  }

  void set_identity(std::string searcher, std::string scheduler) {
    limit_ = scheduler_->max_t();
    if (options_.stop.iterations != std::numeric_limits<std::int64_t>::max())
      limit_ = std::min(limit_, static_cast<double>(options_.stop.iterations));
    identify("metric", options_.metric);
    identify("mode", options_.mode == minimize ? "minimize" : "maximize");
    identify("seed", std::to_string(options_.seed));
    identify("searcher", std::move(searcher));
    identify("scheduler", std::move(scheduler));
    identify("max_iterations", number_text(limit_));
    for (std::size_t i = 0; i < space_.names().size(); ++i)
      identify("parameter '" + space_.names()[i] + "'", space_.describe(i));
  }

  void check_known(trial_id id, const char* call) const {
    if (id >= trials_.size())
      throw out_of_order(std::string(call) + " of trial " + std::to_string(id) +
                         ", which was never asked for; there are " + std::to_string(trials_.size()));
  }
  void check_running(trial_id id, const char* call) const {
    check_known(id, call);
    if (trials_[id].state != trial_state::running)
      throw out_of_order(std::string(call) + " of trial " + std::to_string(id) + ", which is " +
                         std::string(to_string(trials_[id].state)));
  }

  [[nodiscard]] std::string missing_metric(trial_id id, const metric_map& reported) const {
    std::string message =
        "trial " + std::to_string(id) + " did not report the metric '" + options_.metric + "'; it reported ";
    message += reported.empty() ? "nothing" : "only:";
    for (const metric& m : reported) message += " '" + m.name + "'";
    return message + "; report it, or set .metric to one of those that are reported";
  }

  next_run go_on(trial_id id) {
    log_.resume(id);
    set_state(id, trial_state::running);
    return {id, true, trials_[id].t, scheduler_->run_until(id)};
  }

  void start(trial_id id, point where) {
    searcher_->tried(id, where);
    scheduler_->admit(id);
    trials_.push_back({.where = std::move(where)});
    ++running_;
  }

  decision decide(trial_id id, double t, const metric_map& metrics) {
    const History& h = trials_[id];
    const double* value = metrics.find(options_.metric);
    if (!value && t < limit_) return decision::go_on;
    if (!value && !h.metric_seen) throw metric_not_reported(missing_metric(id, metrics));
    const decision d = scheduler_->report(id, t, value ? *value : h.last);
    return t >= limit_ && d != decision::stop ? decision::finish : d;
  }

  void note(trial_id id, double t, const metric_map& metrics, decision d) {
    History& h = trials_[id];
    h.metrics = metrics;
    h.t = t;
    ++h.reports;
    if (const double* value = metrics.find(options_.metric)) {
      h.metric_seen = true;
      h.last = *value;
      if (std::isfinite(*value) && better(options_.mode, *value, h.best)) {
        h.best = *value;
        h.best_metrics = metrics;
      }
    }
    if (d == decision::pause) set_state(id, trial_state::paused);
    if (d == decision::stop) set_state(id, trial_state::stopped);
    if (d == decision::finish) set_state(id, trial_state::finished);
  }

  void finish(trial_id id, trial_state state, std::string error) {
    if (state == trial_state::failed) {
      // One that was told to pause or stop is judged already, and on its way to no other rung.
      if (trials_[id].state == trial_state::running) scheduler_->crashed(id);
      trials_[id].error = std::move(error);
    }
    set_state(id, state);
  }

  void set_state(trial_id id, trial_state state) {
    trial_state& current = trials_[id].state;
    running_ -= current == trial_state::running ? 1u : 0u;
    running_ += state == trial_state::running ? 1u : 0u;
    if (current == trial_state::interrupted) interrupted_.erase(id);
    if (state == trial_state::interrupted) interrupted_.insert(id);
    current = state;
  }

  void replay(std::span<const std::byte> record, report_visitor& on_report) {
    using kind = study_log<>::kind;
    input_archive in(record);
    std::uint8_t what = 0;
    in(what);
    if (kind{what} == kind::identity) {
      study_identity stored;
      in(stored);
      check_identity(stored, identity_, log_path_);
      return;
    }
    std::uint64_t stored_id = 0;
    in(stored_id);
    const auto id = static_cast<trial_id>(stored_id);
    const auto expect = [&](bool fine) {
      if (!fine)
        throw study_unreadable(
            "the study in '" + log_path_ + "' does not fit together at trial " + std::to_string(id) +
            ": it was written by another version of the scheduler; use that version, or another .storage");
    };
    if (kind{what} == kind::start) {
      point where;
      in(where);
      expect(id == trials_.size() && where.size() == space_.domains().size());
      for (std::size_t i = 0; i < where.size(); ++i) expect(space_.domains()[i].contains(where[i]));
      start(id, std::move(where));
      return;
    }
    expect(id < trials_.size());
    if (kind{what} == kind::resume) {
      if (trials_[id].state == trial_state::paused) {
        std::optional<trial_id> promoted;
        while ((promoted = scheduler_->promote()) && trials_[*promoted].state != trial_state::paused) {}
        expect(promoted == id);
      }
      set_state(id, trial_state::running);
    } else if (kind{what} == kind::report) {
      double t = 0;
      std::vector<std::string> names;
      std::vector<double> values;
      std::uint8_t decided = 0;
      in(t, names, values, decided);
      expect(names.size() == values.size() && trials_[id].state == trial_state::running);
      metric_map metrics;
      for (std::size_t i = 0; i < names.size(); ++i) metrics.set(names[i], values[i]);
      expect(decide(id, t, metrics) == decision{decided});
      note(id, t, metrics, decision{decided});
      on_report(id, t, metrics);
    } else {
      expect(kind{what} == kind::end);
      std::uint8_t state = 0;
      double seconds = 0;
      std::string error;
      in(state, seconds, error);
      expect(state <= static_cast<std::uint8_t>(trial_state::failed));
      finish(id, trial_state{state}, std::move(error));
      trials_[id].seconds += seconds;
    }
  }

  space_core space_;
  Options options_;
  std::unique_ptr<any_searcher> searcher_;
  std::unique_ptr<any_scheduler> scheduler_;
  double limit_ = unlimited;
  study_identity identity_;
  std::vector<point> first_;
  std::vector<History> trials_;
  std::set<trial_id> interrupted_;
  std::size_t running_ = 0;
  std::string log_path_;
  study_log<> log_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/study.hpp ----
#ifndef CADRE_TUNE_STUDY_HPP
#define CADRE_TUNE_STUDY_HPP

#include <optional>
#include <string>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// What to run next.
template <class Config>
struct assignment {
  trial_id id = 0;
  Config config;
  bool again = false;    ///< it ran before: go on from its checkpoint
  double reached = 0;    ///< its t when last reported, 0 for a new one
  double run_until = 0;  ///< the t at which the scheduler will decide
};

/// The decisions of a tuning, without a thread, a clock or a trial in it: who runs the trials asks what to run, reports
/// what comes out, and says when a run has ended. The same calls in the same order give the same answers. One thread at
/// a time. A report costs O(log trials).
///
///     tune::study s{space, {.metric = "loss", .trials = 50}, tune::random_search{}, tune::asha{.max_t = 81}};
///     while (auto next = s.ask()) { ... s.report(next->id, t, {{"loss", x}}) ... s.end(next->id, trial_state::finished); }
///
/// With store_in() each answer is appended to a journal, and a study that opens the same journal is in the same state.
template <class Config, class Searcher = random_search, class Scheduler = fifo>
class study {
 public:
  /// Throws bad_option (905), and what searcher and scheduler find wrong (904, 905).
  study(tune::space<Config> space, study_options options, const Searcher& searcher = {},
        const Scheduler& scheduler = {})
      : core_(space.core(), std::move(options), searcher, scheduler), space_(std::move(space)) {}

  /// The first trials have these configurations, whatever the searcher says. Before the first ask() and store_in().
  /// Throws point_outside_space (903).
  void points_to_evaluate(const std::vector<Config>& configs) {
    for (const Config& config : configs) core_.try_first(space_.encode(config));
  }

  /// Adds a line to what a stored study is compared by.
  void identify(std::string name, std::string text) { core_.identify(std::move(name), std::move(text)); }

  /// Opens or creates the journal, does again what it holds, and appends from then on. Trials that were running are
  /// interrupted, and are the first to be asked for. For a study without a trial. `on_report(id, t, metrics)` sees each
  /// stored report. Throws study_differs (910), study_unreadable (911), and what journal::open throws (521-525, 155-158).
  template <class OnReport>
  void store_in(const std::string& path, OnReport&& on_report) {
    core_.store_in(path, std::forward<OnReport>(on_report));
  }
  void store_in(const std::string& path) {
    core_.store_in(path, [](trial_id, double, const metric_map&) {});
  }
  /// Forces the journal to the disk, against power failures; the death of the process it survives anyway.
  void sync() { core_.sync(); }

  /// What to run next: an interrupted trial, else a promoted one, else a new one. Nothing if there is none now: if
  /// running() is 0 too, the study is done; else ask again after the next end().
  [[nodiscard]] std::optional<assignment<Config>> ask() {
    const std::optional<detail::next_run> next = core_.ask();
    if (!next) return std::nullopt;
    return assignment<Config>{next->id, space_.decode(core_.trials()[next->id].where), next->again, next->reached,
                              next->run_until};
  }

  /// A running trial has reached t with these metrics. A report without the tuned metric is noted and goes on; at the
  /// end of its time the trial is judged by the value it reported last. Throws metric_not_reported (906) if there is
  /// none, out_of_order (907).
  decision report(trial_id id, double t, const metric_map& metrics) { return core_.report(id, t, metrics); }

  /// The run of a trial has ended, `seconds` after it began: `finished` if its function returned, whatever it was told;
  /// `failed` with the error; `interrupted` if it is to go on later. A function that returned while it should go on has
  /// finished, or failed if it never reported the metric. Throws out_of_order (907).
  void end(trial_id id, trial_state state, double seconds = 0, std::string error = {}) {
    core_.end(id, state, seconds, std::move(error));
  }

  /// Trials that were asked for and have neither ended nor been told to pause, stop or finish.
  [[nodiscard]] std::size_t running() const noexcept { return core_.running(); }
  /// All trials begun so far, by number.
  [[nodiscard]] const std::vector<trial_history>& trials() const noexcept { return core_.trials(); }
  [[nodiscard]] const tune::space<Config>& space() const noexcept { return space_; }

  /// For the tuner.
  [[nodiscard]] detail::study_core<>& core() noexcept { return core_; }

 private:
  detail::study_core<> core_;
  tune::space<Config> space_;
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/trial.hpp ----
#ifndef CADRE_TUNE_TRIAL_HPP
#define CADRE_TUNE_TRIAL_HPP

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// Why report() has returned false.
enum class trial_outcome : std::uint8_t {
  running,     ///< it has not
  finished,    ///< nothing more to do: max_t or a stop condition was reached
  stopped,     ///< others are better
  paused,      ///< may run again later, from its checkpoint
  exploited,   ///< goes on as a copy of a better one
  interrupted  ///< the tuning was cancelled or ran out of time
};

[[nodiscard]] constexpr std::string_view to_string(trial_outcome o) noexcept {
  constexpr std::string_view names[] = {"running", "finished", "stopped", "paused", "exploited", "interrupted"};
  return names[static_cast<std::size_t>(o)];
}

namespace detail {

/// A reference to the user's function that saves a trial.
class saver_ref {
 public:
  saver_ref() = default;
  template <class Saver>
    requires(!std::same_as<std::remove_cvref_t<Saver>, saver_ref>)
  explicit saver_ref(Saver& saver)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(saver)))),
        call_([](void* object, checkpoint_writer& w) { (*static_cast<Saver*>(object))(w); }) {}
  explicit operator bool() const noexcept { return call_ != nullptr; }
  void operator()(checkpoint_writer& w) const { call_(object_, w); }

 private:
  void* object_ = nullptr;
  void (*call_)(void*, checkpoint_writer&) = nullptr;
};

/// One run of a trial's function.
struct trial_run {
  trial_id id = 0;
  std::size_t slot = 0;  // where turns are taken; 0 without them
  double t = 0;          // reports so far, those before the checkpoint included
  std::optional<checkpoint_reader> checkpoint = {};
  trial_outcome outcome = trial_outcome::running;
};

/// Who runs trials, as a trial sees it.
class trial_host {
 public:
  virtual ~trial_host() = default;
  /// True to go on; else run.outcome says why not.
  virtual bool report(trial_run& run, const metric_map& metrics, saver_ref save) = 0;
};

}  // namespace detail

/// What a trial's function is given. For the thread that runs the function; dead when the function returns.
///
///     [](tune::trial<config>& tr) {
///       model m{tr.config()};
///       if (auto c = tr.checkpoint()) (*c)("model", m);
///       while (tr.report({{"val_loss", m.epoch()}}, [&](auto& w) { w("model", m); })) {}
///     }
template <class Config>
class trial {
 public:
  trial(detail::trial_host& host, detail::trial_run& run, Config config)
      : host_(host), run_(run), config_(std::move(config)) {}
  trial(const trial&) = delete;
  trial& operator=(const trial&) = delete;

  [[nodiscard]] const Config& config() const noexcept { return config_; }
  [[nodiscard]] trial_id id() const noexcept { return run_.id; }

  /// What the saver wrote when the trial was last paused or interrupted; nothing in a first run. A trial that is run
  /// again without one begins anew, and what it reports up to where it was counts for nothing.
  [[nodiscard]] std::optional<checkpoint_reader> checkpoint() const { return run_.checkpoint; }

  /// Says how far the trial has come; false: return now, outcome() says why. May wait for other trials when the tuning
  /// is deterministic. After false it does nothing more. Throws metric_not_reported (906) when the tuned metric was
  /// never reported up to the end of the trial's time.
  bool report(const metric_map& metrics) { return host_.report(run_, metrics, {}); }

  /// The same with a function that saves what is needed to go on from here. It is called only when the trial is paused
  /// or interrupted, and now and then for a stored tuning. Throws what it throws; a checkpoint that cannot be stored
  /// ends the tuning, and run() throws why.
  template <std::invocable<checkpoint_writer&> Saver>
  bool report(const metric_map& metrics, Saver&& save) {
    return host_.report(run_, metrics, detail::saver_ref(save));
  }

  [[nodiscard]] trial_outcome outcome() const noexcept { return run_.outcome; }
  /// Reports so far, those before the checkpoint included.
  [[nodiscard]] double t() const noexcept { return run_.t; }

 private:
  detail::trial_host& host_;
  detail::trial_run& run_;
  Config config_;
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/detail/checkpoint_shelf.hpp ----
#ifndef CADRE_TUNE_DETAIL_CHECKPOINT_SHELF_HPP
#define CADRE_TUNE_DETAIL_CHECKPOINT_SHELF_HPP

#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// The newest checkpoint of each trial that may run again: in memory, or as files of a folder. Any thread may call it;
/// one trial's checkpoint is for one thread at a time. A template so that only those who tune pay to compile it.
template <class Reader = checkpoint_reader>
class checkpoint_shelf {
 public:
  /// The trial's t, written among the user's values.
  static constexpr const char* t_name = "cadre.tune.t";

  /// `folder` is there already, or empty: in memory.
  explicit checkpoint_shelf(std::string folder) : folder_(std::move(folder)) {}

  void save(trial_id id, const checkpoint_writer& writer) {
    if (folder_.empty()) {
      auto reader = Reader::from_bytes(writer.bytes(), "of trial " + std::to_string(id));
      const std::lock_guard lock(mutex_);
      in_memory_.insert_or_assign(id, std::move(reader));
    } else {
      writer.save(path_of(id));
    }
  }

  /// Nothing if there is none.
  [[nodiscard]] std::optional<Reader> load(trial_id id) {
    if (!folder_.empty())
      return std::filesystem::exists(path_of(id)) ? std::optional(Reader::open(path_of(id))) : std::nullopt;
    const std::lock_guard lock(mutex_);
    const auto found = in_memory_.find(id);
    return found == in_memory_.end() ? std::nullopt : std::optional(found->second);
  }

  /// The trial has ended for good.
  void remove(trial_id id) noexcept {
    if (!folder_.empty()) {
      std::error_code ignored;  // a file that stays is in nobody's way
      std::filesystem::remove(path_of(id), ignored);
    } else {
      const std::lock_guard lock(mutex_);
      in_memory_.erase(id);
    }
  }

 private:
  [[nodiscard]] std::string path_of(trial_id id) const { return folder_ + "/trial-" + std::to_string(id) + ".ckpt"; }

  std::string folder_;
  std::mutex mutex_;
  std::map<trial_id, Reader> in_memory_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/detail/tuning_log.hpp ----
#ifndef CADRE_TUNE_DETAIL_TUNING_LOG_HPP
#define CADRE_TUNE_DETAIL_TUNING_LOG_HPP

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// What a tuning leaves for people and programs: reports.jsonl line by line while it runs, trials.csv and trials.jsonl
/// at its end, and lines on the screen if asked for. A template so that only those who tune pay to compile it.
template <class Study = study_core<>>
class tuning_log {
 public:
  /// `folder` empty: no files.
  tuning_log(const Study& study, std::string folder, bool show) : study_(study), folder_(std::move(folder)) {
    if (show) screen_.emplace();
  }

  /// A report of the journal or a new one; the file is written anew by each run, so that the journal alone counts.
  void write(trial_id id, double t, const metric_map& metrics) {
    if (folder_.empty()) return;
    open();
    record line{{"trial", id}, {"t", t}};
    for (const metric& m : metrics) line.set(line.contains(m.name) ? "metric_" + m.name : m.name, m.value);
    reports_->write(line);
  }

  /// The journal has been read: the file takes the place of the one before.
  void begin() {
    if (folder_.empty()) return;
    open();
    take_place("reports.jsonl");
  }

  void reported(trial_id id, const metric_map& metrics) {
    const trial_history& h = study_.trials()[id];
    write(id, h.t, metrics);
    if (screen_ && h.state == trial_state::running) screen_->update(key(id), text(h));
  }

  /// A run has ended, as `how` says; a paused trial may run again by now.
  void ended(trial_id id, std::string_view how) {
    if (!screen_) return;
    const trial_history& h = study_.trials()[id];
    screen_->finish(key(id), std::string(how) + "  " + (h.state == trial_state::failed ? h.error : text(h)));
  }

  void end(std::span<const record> rows) {
    if (screen_) screen_->finish();
    if (folder_.empty()) return;
    replace<csv_writer>("trials.csv", rows);
    replace<json_lines_writer>("trials.jsonl", rows);
  }

 private:
  void open() {
    if (!reports_) reports_.emplace(fresh("reports.jsonl"));
  }

  template <class Writer>
  void replace(const std::string& name, std::span<const record> rows) {
    try {
      Writer writer(fresh(name));
      for (const record& row : rows) writer.write(row);
      take_place(name);
    } catch (...) {
      std::error_code ignored;
      std::filesystem::remove(fresh(name), ignored);
      throw;
    }
  }

  [[nodiscard]] std::string fresh(const std::string& name) const { return folder_ + "/." + name + ".new"; }
  void take_place(const std::string& name) const {
    std::error_code failure;
    std::filesystem::rename(fresh(name), folder_ + "/" + name, failure);
    if (failure) file_error::raise("write", folder_ + "/" + name, failure.value());
  }

  static std::string key(trial_id id) { return "trial " + std::to_string(id); }

  std::string text(const trial_history& h) const {
    std::string line = "t " + number_text(h.t);
    for (const metric& m : h.metrics) {
      line += "  " + m.name + " ";
      cadre::detail::append_significant(line, m.value, 4);
    }
    for (const auto& field : study_.space().show(h.where)) {
      line += "  " + field.name + "=";
      if (const auto* s = std::get_if<std::string>(&field.value)) line += *s;
      if (const auto* n = std::get_if<std::int64_t>(&field.value)) line += std::to_string(*n);
      if (const auto* b = std::get_if<bool>(&field.value)) line += *b ? "true" : "false";
      if (const auto* x = std::get_if<double>(&field.value)) cadre::detail::append_significant(line, *x, 3);
    }
    return line;
  }

  const Study& study_;
  std::string folder_;
  std::optional<json_lines_writer> reports_;
  std::optional<progress> screen_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/detail/turns.hpp ----
#ifndef CADRE_TUNE_DETAIL_TURNS_HPP
#define CADRE_TUNE_DETAIL_TURNS_HPP

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// Logical time. Each slot stands at the time of its next event, and an event happens only when its (time, slot) is the
/// least of all: the order of events is then the same however the threads are scheduled. To train up to a report takes
/// one unit, everything else none.
class turns {
 public:
  explicit turns(std::size_t slots) : time_(slots, 0) {}

  /// Says that a slot has a thread and waits until all have one. False, in all of them, if that has not happened in
  /// time: slots that wait for one another's threads could otherwise do so for ever.
  bool begin(std::chrono::nanoseconds timeout) {
    std::unique_lock lock(mutex_);
    ++begun_;
    changed_.notify_all();
    const bool in_time = changed_.wait_for(lock, timeout, [this] { return begun_ == time_.size() || too_late_; });
    if (!in_time) {
      too_late_ = true;
      changed_.notify_all();
    }
    return !too_late_;
  }
  [[nodiscard]] std::size_t begun() {
    const std::lock_guard lock(mutex_);
    return begun_;
  }

  /// Waits until it is this slot's turn; it then is until advance() or leave().
  void wait(std::size_t slot) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return first() == slot; });
  }
  void advance(std::size_t slot) {
    move(slot, [](std::uint64_t& time) { ++time; });
  }
  void leave(std::size_t slot) {
    move(slot, [](std::uint64_t& time) { time = gone; });
  }

 private:
  static constexpr std::uint64_t gone = std::numeric_limits<std::uint64_t>::max();

  [[nodiscard]] std::size_t first() const {
    std::size_t least = 0;
    for (std::size_t slot = 1; slot < time_.size(); ++slot)
      if (time_[slot] < time_[least]) least = slot;
    return least;
  }

  template <class Change>
  void move(std::size_t slot, Change change) {
    const std::lock_guard lock(mutex_);
    change(time_[slot]);
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint64_t> time_;
  std::size_t begun_ = 0;
  bool too_late_ = false;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/detail/tuning.hpp ----
#ifndef CADRE_TUNE_DETAIL_TUNING_HPP
#define CADRE_TUNE_DETAIL_TUNING_HPP

#include <algorithm>
#include <cstddef>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

CADRE_NAMESPACE_BEGIN
namespace tune::detail {

/// Calls the user's function with a trial of this host and run at a place in the space; on several threads at once.
using trial_function = move_only_function<void(trial_host&, trial_run&, const point&)>;

/// Runs the trials of a study on a pool. The study decides. A template so that only those who tune pay to compile it.
///
/// Without turns each run of a trial is a task of its own; the end of one starts the next, and nothing in the pool
/// waits, so any pool will do. With turns each slot is a task that takes the whole tuning and waits in report().
template <class Options = tuner_options>
class tuning final : public trial_host {
  using clock = std::chrono::steady_clock;

 public:
  tuning(study_core<>& study, thread_pool& pool, trial_function function, tuning_log<>& log, checkpoint_shelf<>& shelf,
         const Options& options)
      : study_(study),
        pool_(pool),
        function_(std::move(function)),
        log_(log),
        shelf_(shelf),
        options_(options),
        slots_(options.max_concurrent == 0 ? pool.size() : options.max_concurrent),
        begin_(clock::now()) {
    if (options.deterministic) {
      if (slots_ > pool.size())
        throw too_few_threads("a deterministic tuning runs " + std::to_string(slots_) +
                              " trials at once (.max_concurrent), each on a thread of its own, and the pool has " +
                              std::to_string(pool.size()) + "; use a larger pool or fewer at once");
      turns_.emplace(slots_);
    } else {
      slots_ = std::min(slots_, std::max<std::size_t>(pool.size(), 1));
    }
  }

  /// Returns when no trial is left to run or the tuning is cut short. Throws what the study or its files threw; never
  /// what a trial threw.
  void run() {
    if (turns_) {
      for (std::size_t slot = 0; slot < slots_; ++slot)
        tasks_.push_back(pool_.submit([this, slot] { take_turns(slot); }));
    } else {
      const std::lock_guard lock(mutex_);
      guarded([this] { start_runs(); });
    }
    for (;;) {
      std::optional<future<void>> next;
      {
        const std::lock_guard lock(mutex_);
        if (tasks_.empty()) break;
        next.emplace(std::move(tasks_.front()));
        tasks_.pop_front();
      }
      std::move(*next).get();
    }
    if (broken_) std::rethrow_exception(broken_);
    study_.sync();
  }

  /// What a failed trial threw, if it was in this process.
  [[nodiscard]] std::exception_ptr thrown(trial_id id) const {
    const auto found = thrown_.find(id);
    return found == thrown_.end() ? nullptr : found->second;
  }

  bool report(trial_run& run, const metric_map& metrics, saver_ref save) override {
    if (run.outcome != trial_outcome::running) return false;
    if (turns_) turns_->wait(run.slot);
    const double t = time_of(run, metrics);
    bool save_now = false;
    {
      const std::lock_guard lock(mutex_);
      run.t += 1;
      live& l = live_.at(run.id);
      guarded([&] {
        if (over()) {
          study_.end(run.id, trial_state::interrupted, l.take_seconds(), {});
          run.outcome = trial_outcome::interrupted;
          save_now = stored();
          return;
        }
        const decision d = study_.report(run.id, t, metrics);
        log_.reported(run.id, metrics);
        run.outcome = outcome_of(d);
        if (d != decision::go_on) study_.end(run.id, trial_state::finished, l.take_seconds(), {});
        save_now = d == decision::pause ||
                   (d == decision::go_on && stored() && clock::now() - l.saved >= options_.checkpoint_period);
        if (save_now) l.saved = clock::now();
      });
      if (broken_) run.outcome = trial_outcome::interrupted;
    }
    if (save_now && save) keep_checkpoint(run, save);
    if (run.outcome != trial_outcome::running) return false;
    if (turns_) turns_->advance(run.slot);
    return true;
  }

 private:
  /// A trial that was handed out: its function waits for a thread, runs, or returns.
  struct live {
    clock::time_point since = clock::now();
    clock::time_point saved = since;
    std::optional<next_run> again = {};  // it was told to pause and is promoted already: runs anew once it has returned
    double take_seconds() {
      const auto now = clock::now();
      return std::chrono::duration<double>(now - std::exchange(since, now)).count();
    }
  };

  /// What the user's function throws is the trial's own; what the shelf throws (its disk is full) ends the tuning, so
  /// that the trial can go on when it is resumed.
  void keep_checkpoint(trial_run& run, const saver_ref& save) {
    checkpoint_writer writer;
    writer(checkpoint_shelf<>::t_name, run.t);
    save(writer);
    try {
      shelf_.save(run.id, writer);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!broken_) broken_ = std::current_exception();
      run.outcome = trial_outcome::interrupted;
    }
  }

  /// How the function of a trial came to an end.
  struct ended_run {
    trial_id id;
    trial_outcome outcome;
    std::exception_ptr thrown;
    std::string error;
  };

  [[nodiscard]] bool stored() const noexcept { return !options_.storage.empty(); }

  [[nodiscard]] bool over() const {
    return broken_ || options_.cancel.stop_requested() ||
           (options_.stop.time != std::chrono::nanoseconds::max() && clock::now() - begin_ >= options_.stop.time);
  }

  /// What the study or a file of it throws ends the tuning; a report's fault is the trial's own.
  template <class Step>
  void guarded(Step step) {
    try {
      step();
    } catch (const metric_not_reported&) {
      throw;
    } catch (...) {
      if (!broken_) broken_ = std::current_exception();
    }
  }

  static trial_outcome outcome_of(decision d) noexcept {
    switch (d) {
      case decision::go_on: return trial_outcome::running;
      case decision::pause: return trial_outcome::paused;
      case decision::stop: return trial_outcome::stopped;
      case decision::finish: break;
    }
    return trial_outcome::finished;
  }

  double time_of(const trial_run& run, const metric_map& metrics) const {
    if (options_.time_attribute.empty()) return run.t + 1;
    if (const double* t = metrics.find(options_.time_attribute)) return *t;
    throw metric_not_reported("trial " + std::to_string(run.id) + " did not report '" + options_.time_attribute +
                              "', which .time_attribute names; every report must have it");
  }

  // ---- Without turns; mutex_ is held ----------------------------------------------------------------------------

  void start_runs() {
    while (busy_ < slots_ && !over()) {
      const std::optional<next_run> next = study_.ask();
      if (!next) return;
      ++busy_;
      if (const auto returning = live_.find(next->id); returning != live_.end())
        returning->second.again = next;
      else
        submit(*next);
    }
  }

  void submit(const next_run& next) {
    live_[next.id] = {};
    tasks_.push_back(pool_.submit([this, next] {
      const ended_run run = call(next, 0);
      // One section: between the end of this run and what follows from it, no other slot may hand out the same trial.
      const std::lock_guard lock(mutex_);
      --busy_;
      const std::optional<next_run> again = live_.at(run.id).again;
      end(run);
      guarded([&] {
        if (again) go_on(*again);
        start_runs();
      });
    }));
  }

  /// What was promoted while it returned: begins, unless it then threw or the tuning is over.
  void go_on(const next_run& again) {
    if (broken_) return;
    if (study_.trials()[again.id].state == trial_state::failed) {
      --busy_;
    } else if (over()) {
      --busy_;
      study_.end(again.id, trial_state::interrupted, 0, {});
    } else {
      submit(again);
    }
  }

  // ---- With turns -----------------------------------------------------------------------------------------------

  void take_turns(std::size_t slot) {
    if (!turns_->begin(options_.thread_timeout)) {
      const std::lock_guard lock(mutex_);
      guarded([&] {
        throw too_few_threads("a deterministic tuning needs " + std::to_string(slots_) +
                              " threads at once, and of the pool's " + std::to_string(pool_.size()) + " only " +
                              std::to_string(turns_->begun()) +
                              " were free within .thread_timeout; other tasks hold the rest");
      });
      return;
    }
    for (;;) {
      turns_->wait(slot);
      std::optional<next_run> next;
      bool done = false;
      {
        const std::lock_guard lock(mutex_);
        guarded([&] {
          if (!over()) next = study_.ask();
          if (next) live_[next->id] = {};
          done = !next && (over() || study_.running() == 0);
        });
        done = done || broken_;
      }
      if (done) break;
      turns_->advance(slot);
      if (!next) continue;
      const ended_run run = call(*next, slot);
      turns_->wait(slot);
      const std::lock_guard lock(mutex_);
      end(run);
    }
    turns_->leave(slot);
  }

  // ---- One run --------------------------------------------------------------------------------------------------

  ended_run call(const next_run& what, std::size_t slot) {
    trial_run run{.id = what.id, .slot = slot};
    std::exception_ptr thrown;
    std::string error;
    point where;  // a copy: the list of trials grows meanwhile
    {
      const std::lock_guard lock(mutex_);
      live_[what.id] = {};
      where = study_.trials()[what.id].where;
    }
    try {
      if (what.again && (run.checkpoint = shelf_.load(what.id)))
        run.checkpoint->read(checkpoint_shelf<>::t_name, run.t);
      function_(*this, run, where);
    } catch (const std::exception& e) {
      thrown = std::current_exception();
      error = e.what();
    } catch (...) {
      thrown = std::current_exception();
      error = "something that is no std::exception";
    }
    return {run.id, run.outcome, thrown, error};
  }

  /// mutex_ is held.
  void end(const ended_run& run) {
    const double seconds = live_.at(run.id).take_seconds();
    live_.erase(run.id);
    guarded([&] {
      if (broken_) return;
      if (run.thrown) {
        study_.end(run.id, trial_state::failed, seconds, run.error);
        thrown_.emplace(run.id, run.thrown);
      } else if (run.outcome == trial_outcome::running) {
        study_.end(run.id, trial_state::finished, seconds, {});
      }
      const trial_state state = study_.trials()[run.id].state;
      if (state == trial_state::finished || state == trial_state::stopped || state == trial_state::failed)
        shelf_.remove(run.id);
      log_.ended(run.id, run.thrown || state == trial_state::failed ? to_string(trial_state::failed)
                         : run.outcome == trial_outcome::running    ? to_string(trial_outcome::finished)
                                                                    : to_string(run.outcome));
    });
  }

  study_core<>& study_;
  thread_pool& pool_;
  trial_function function_;
  tuning_log<>& log_;
  checkpoint_shelf<>& shelf_;
  const Options& options_;
  std::size_t slots_;
  clock::time_point begin_;
  std::optional<turns> turns_;

  std::mutex mutex_;  // of all below, and of the study
  std::deque<future<void>> tasks_;
  std::unordered_map<trial_id, live> live_;
  std::size_t busy_ = 0;  // slots taken, also by trials that run anew once they have returned
  std::exception_ptr broken_;
  std::map<trial_id, std::exception_ptr> thrown_;
};

}  // namespace tune::detail
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune/tuner.hpp ----
#ifndef CADRE_TUNE_TUNER_HPP
#define CADRE_TUNE_TUNER_HPP

#include <concepts>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

CADRE_NAMESPACE_BEGIN
namespace tune {

/// Runs the trials of a study on a thread pool:
///
///     tune::tuner t{space, {.metric = "val_loss", .trials = 50, .seed = 7}, tune::random_search{}, tune::asha{.max_t = 81}};
///     auto results = t.run(pool, [](tune::trial<config>& tr) { ... while (tr.report({{"val_loss", x}})) ... });
///
/// Each run of a trial is a task of the pool; a trial that was paused and is promoted has its function called anew, with
/// a checkpoint. An exception fails its trial and no other. With .storage the study is journalled: a process that died
/// is resumed by the same program with .resume = true.
///
/// A tuner may run any number of times, also at once on several threads if .storage is empty; each run is a study of its
/// own. run() may be called by any thread, inside the pool too.
template <class Config, class Searcher = random_search, class Scheduler = fifo>
class tuner {
 public:
  explicit tuner(tune::space<Config> space, tuner_options options = {}, Searcher searcher = {},
                 Scheduler scheduler = {})
      : space_(std::move(space)),
        options_(std::move(options)),
        searcher_(std::move(searcher)),
        scheduler_(std::move(scheduler)) {}

  /// The first trials have these configurations. Throws point_outside_space (903).
  tuner& points_to_evaluate(std::vector<Config> configs) {
    for (const Config& config : configs) (void)space_.encode(config);
    first_ = std::move(configs);
    return *this;
  }

  /// Returns when every trial has ended, the time is up, or the tuning was cancelled. Throws bad_option (905),
  /// infinite_grid (904), too_few_threads (908), study_exists (909), study_differs (910), study_unreadable (911), and
  /// what journal and files throw (521-526, 155-158); what trials throw is in the results.
  template <class Function>
    requires std::invocable<Function&, trial<Config>&>
  results<Config> run(thread_pool& pool, Function&& function) const {
    return run_trials(pool, [this, &function](detail::trial_host& host, detail::trial_run& run, const point& where) {
      trial<Config> handle(host, run, space_.decode(where));
      function(handle);
    });
  }

  [[nodiscard]] const tuner_options& options() const noexcept { return options_; }

 private:
  results<Config> run_trials(thread_pool& pool, detail::trial_function run_trial) const {
    study<Config, Searcher, Scheduler> s(space_,
                                         {.metric = options_.metric,
                                          .mode = options_.mode,
                                          .trials = options_.trials,
                                          .seed = options_.seed,
                                          .stop = options_.stop},
                                         searcher_, scheduler_);
    s.points_to_evaluate(first_);
    s.identify("time_attribute", options_.time_attribute.empty() ? "number of reports" : options_.time_attribute);
    s.identify("deterministic",
               options_.deterministic
                   ? "with " + std::to_string(options_.max_concurrent == 0 ? pool.size() : options_.max_concurrent) +
                         " at once"
                   : "no");

    detail::tuning_log log(s.core(), options_.storage, options_.progress);
    if (!options_.storage.empty()) open(s.core(), log);
    detail::checkpoint_shelf<> shelf(options_.storage.empty() ? std::string() : options_.storage + "/checkpoints");
    detail::tuning running(s.core(), pool, std::move(run_trial), log, shelf, options_);
    running.run();

    std::vector<trial_result<Config>> trials;
    trials.reserve(s.trials().size());
    for (trial_id id = 0; id < s.trials().size(); ++id) {
      const trial_history& h = s.trials()[id];
      trials.push_back({id, s.space().decode(h.where), s.space().show(h.where), h.state, h.metrics, h.best_metrics,
                        h.last, h.best, h.t, h.reports, h.seconds, h.error, running.thrown(id)});
    }
    results<Config> found(std::move(trials), options_.metric, options_.mode, options_.scope);
    log.end(found.rows());
    return found;
  }

  void open(auto& s, auto& log) const {
    std::error_code failure;
    std::filesystem::create_directories(options_.storage + "/checkpoints", failure);
    if (failure) file_error::raise("make the folder", options_.storage + "/checkpoints", failure.value());
    const std::string path = options_.storage + "/study.journal";
    if (!options_.resume && std::filesystem::exists(path, failure))
      throw study_exists("'" + options_.storage +
                         "' holds a study already; set .resume = true to go on with it, or use another .storage");
    s.store_in(path, [&log](trial_id id, double t, const metric_map& metrics) { log.write(id, t, metrics); });
    cadre::detail::remove_leftovers(options_.storage + "/checkpoints");
    log.begin();
  }

  tune::space<Config> space_;
  tuner_options options_;
  Searcher searcher_;
  Scheduler scheduler_;
  std::vector<Config> first_;
};

}  // namespace tune
CADRE_NAMESPACE_END

#endif

// ---- cadre/tune.hpp ----
#ifndef CADRE_TUNE_HPP
#define CADRE_TUNE_HPP

/// Hyperparameter tuning: typed spaces, random and grid search, ASHA, a study without threads, a tuner on a pool.

#endif

// ---- cadre/cadre.hpp ----
#ifndef CADRE_CADRE_HPP
#define CADRE_CADRE_HPP

/// All that needs no third party beyond Eigen and cereal. The adapters (eigen.hpp, zlib.hpp, mpi.hpp, cuda.hpp,
/// nccl.hpp) are included beside it by who uses them.

#endif

#endif
