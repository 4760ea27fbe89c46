#ifndef CADRE_ARCHIVE_OUTPUT_ARCHIVE_HPP
#define CADRE_ARCHIVE_OUTPUT_ARCHIVE_HPP

#include <cadre/archive/byte_buffer.hpp>
#include <cadre/archive/detail/padding.hpp>
#include <cadre/archive/error.hpp>
#include <cadre/core/portable.hpp>

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

/// What a message carries beside its bytes: given to an archive by who sends or receives, asked for by the types that need
/// it (an object_ref is held for its receiver while it travels).
class archive_extension {
 public:
  archive_extension() = default;
  archive_extension(const archive_extension&) = delete;
  archive_extension& operator=(const archive_extension&) = delete;
  virtual ~archive_extension() = default;
};

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
  explicit output_archive(byte_buffer& out, archive_extension* extension = nullptr)
      : base(this), out_(&out), extension_(extension) {}
  /// Null if there is none.
  [[nodiscard]] archive_extension* extension() const noexcept { return extension_; }

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
        std::byte copy[sizeof(T)];
        detail::copy_cleared(copy, value);
        return write(copy, sizeof(T));
      }
    }
    write(std::addressof(value), sizeof(T));
  }

  byte_buffer* out_;
  archive_extension* extension_;
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
