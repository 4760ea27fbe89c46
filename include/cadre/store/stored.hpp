#ifndef CADRE_STORE_STORED_HPP
#define CADRE_STORE_STORED_HPP

#include <cadre/archive/to_bytes.hpp>
#include <cadre/archive/type_label.hpp>
#include <cadre/core/contiguous.hpp>
#include <cadre/core/hash.hpp>
#include <cadre/core/portable.hpp>
#include <cadre/store/fwd.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <vector>

CADRE_NAMESPACE_BEGIN

/// As what a T is stored: itself, a span as a std::vector, text as a std::string. Specialise it for other types that look
/// at memory or compute their elements:
///
///     type                       what is stored
///     shape(const T&)            its extents, outermost first
///     write(const T&, element*)  writes the elements into memory of the store
///     fits(rows, cols)           whether it can have these extents, and
///     extents()                  those it can have, as text; only for types that cannot have all
template <class T>
struct stored_type {
  using type = T;
};
template <class E, std::size_t Extent>
struct stored_type<std::span<E, Extent>> {
  using type = std::vector<std::remove_cv_t<E>>;
};
template <>
struct stored_type<std::string_view> {
  using type = std::string;
};
template <>
struct stored_type<const char*> {
  using type = std::string;
};
template <>
struct stored_type<char*> {
  using type = std::string;
};
template <class T>
using stored_type_t = typename stored_type<std::decay_t<T>>::type;
/// A value that is stored as a T, or of which a T can be made.
template <class Value, class T>
concept stored_as = std::is_same_v<stored_type_t<Value>, T> || std::is_convertible_v<Value, T>;

namespace detail {

template <class T>
concept stored_text = std::is_same_v<T, std::string>;
/// What memory of the store can hold as it is: it is aligned to 64 bytes.
template <class E>
concept stored_element = trivially_portable<E> && alignof(E) <= 64;
/// Elements that lie in a row, seen as a std::span.
template <class T>
concept stored_range = !stored_text<T> && std::ranges::contiguous_range<T> &&
                       requires { requires stored_element<typename contiguous_traits<T>::element>; };
/// Elements with a shape, behind 64 bytes that hold it, seen by contiguous_traits<T>::map.
template <class T>
concept stored_array = !stored_text<T> && !stored_range<T> && contiguous<T> &&
                       requires { requires stored_element<typename contiguous_traits<T>::element>; };
/// A value of which the bytes are stored.
template <class T>
concept stored_value =
    !stored_text<T> && !stored_range<T> && !stored_array<T> && archived_by_bytes<T> && alignof(T) <= 64;

/// A value that the archive can write, as far as that can be seen without writing it.
template <class T>
concept can_be_archived =
    archived_by_bytes<T> || custom_portable<T> || cereal::traits::is_output_serializable<T, output_archive>::value;

inline constexpr std::size_t shape_bytes = 64;

/// How a T lies in the store, and what a view of it shows. The last of these takes what the archive can write: its bytes
/// are stored, and a view has a T that was read from them.
template <class T>
struct storage {
  using shown = const T&;
  static constexpr bool in_place = false;
  static constexpr std::size_t unit = 0;
};
template <stored_text T>
struct storage<T> {
  using shown = std::string_view;
  static constexpr bool in_place = true;
  static constexpr std::size_t unit = 1;
  static std::size_t bytes(std::string_view text) noexcept { return text.size(); }
  static void write(std::string_view text, std::byte* to) noexcept {
    if (!text.empty()) std::memcpy(to, text.data(), text.size());
  }
  static shown show(const std::byte* data, std::size_t bytes) noexcept {
    return {reinterpret_cast<const char*>(data), bytes};
  }
};
template <stored_range T>
struct storage<T> {
  using element = typename contiguous_traits<T>::element;
  using shown = std::span<const element>;
  static constexpr bool in_place = true;
  static constexpr std::size_t unit = sizeof(element);
  template <class R>
  static std::size_t bytes(const R& range) noexcept {
    return elements(range).size_bytes();
  }
  template <class R>
  static void write(const R& range, std::byte* to) noexcept {
    const auto all = std::as_bytes(elements(range));
    if (!all.empty()) std::memcpy(to, all.data(), all.size());
  }
  static shown show(const std::byte* data, std::size_t bytes) noexcept {
    return {reinterpret_cast<const element*>(data), bytes / sizeof(element)};
  }
};
template <stored_array T>
struct storage<T> {
  using traits = contiguous_traits<T>;
  using element = typename traits::element;
  using shown = typename traits::const_view;
  static constexpr bool in_place = true;
  static constexpr std::size_t unit = sizeof(element);
  using shape_header = std::array<std::uint64_t, shape_bytes / sizeof(std::uint64_t)>;

  static std::size_t bytes_of(std::span<const std::size_t> shape) noexcept {
    std::size_t n = sizeof(element);
    for (const std::size_t extent : shape) n *= extent;
    return shape_bytes + n;
  }
  static void write_shape(std::span<const std::size_t> shape, std::byte* to) noexcept {
    shape_header header{};
    for (std::size_t k = 0; k < shape.size() && k < header.size(); ++k) header[k] = shape[k];
    std::memcpy(to, header.data(), sizeof header);
  }
  template <class M>
  static std::size_t bytes(const M& matrix) {
    return bytes_of(shape_of(matrix));
  }
  template <class M>
  static void write(const M& matrix, std::byte* to) {
    write_shape(shape_of(matrix), to);
    if constexpr (requires { stored_type<M>::write(matrix, static_cast<element*>(nullptr)); }) {
      stored_type<M>::write(matrix, reinterpret_cast<element*>(to + shape_bytes));
    } else {
      const auto all = std::as_bytes(elements(matrix));
      if (!all.empty()) std::memcpy(to + shape_bytes, all.data(), all.size());
    }
  }
  static shown show(const std::byte* data, std::size_t) noexcept {
    shape_header shape;
    std::memcpy(shape.data(), data, sizeof shape);
    return map(reinterpret_cast<const element*>(data + shape_bytes), shape);
  }
  template <class E>
  static auto map(E* data, const shape_header& shape) noexcept {
    return traits::map(data, static_cast<std::size_t>(shape[0]), static_cast<std::size_t>(shape[1]));
  }

 private:
  template <class M>
  static auto shape_of(const M& matrix) {
    if constexpr (requires { stored_type<M>::shape(matrix); })
      return stored_type<M>::shape(matrix);
    else
      return contiguous_traits<M>::shape(matrix);
  }
};
template <stored_value T>
struct storage<T> {
  using shown = const T&;
  static constexpr bool in_place = true;
  static constexpr std::size_t unit = sizeof(T);
  static std::size_t bytes(const T&) noexcept { return sizeof(T); }
  static void write(const T& value, std::byte* to) noexcept { std::memcpy(to, &value, sizeof value); }
  static shown show(const std::byte* data, std::size_t) noexcept { return *reinterpret_cast<const T*>(data); }
};

/// Under which name, and with which layout, a T is stored; programs of one job may have been compiled apart.
struct stored_label {
  std::string text;
  std::uint64_t key;
};
template <class T>
const stored_label& label_of() {
  static const stored_label label = [] {
    // Matrices of all storage orders share a format of the archive, and a label, but do not lie in one way.
    stored_label made{stored_array<T> ? type_name(typeid(T)) : type_label<T>::get(), 0};
    constexpr std::size_t unit = storage<T>::unit;
    if (stored_value<T>) made.text += " of " + std::to_string(unit) + " bytes";
    made.key = hash_combine(hash_text(made.text), unit) | 1;
    return made;
  }();
  return label;
}

}  // namespace detail
CADRE_NAMESPACE_END

#endif
