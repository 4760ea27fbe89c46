#ifndef CADRE_ARCHIVE_DETAIL_PADDING_HPP
#define CADRE_ARCHIVE_DETAIL_PADDING_HPP

#include <cadre/config/config.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
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

/// Copies the bytes of a value, those that belong to no member as zero.
template <class T>
void copy_cleared(std::byte* to, const T& value) noexcept {
  if constexpr (!std::is_scalar_v<T>) {
    if (has_padding<T>()) {
      alignas(T) std::byte copy[sizeof(T)];
      std::memcpy(copy, std::addressof(value), sizeof(T));
      clear_padding<T>(copy);
      std::memcpy(to, copy, sizeof(T));
      return;
    }
  }
  std::memcpy(to, std::addressof(value), sizeof(T));
}

}  // namespace detail

CADRE_NAMESPACE_END

#endif
